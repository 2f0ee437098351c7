"""`f1buf can`: a car's CAN bus, live; and the options for CAN that `replay` has for logs, too."""

import argparse
import re
from pathlib import Path

from f1buf.command.can_bus import add_bus_arguments, open_bus
from f1buf.command.feed import Feed, added_up, why_unusable
from f1buf.command.parser import add_common_options, path_name
from f1buf.command.runner import Runner
from f1buf.telemetry.sources.can.bus import CanBus
from f1buf.telemetry.sources.can.decoder import CanDecoder, Selection
from f1buf.telemetry.sources.can.log import CanLog, CanReplay

HELP = "a car's CAN bus, live"
EXAMPLES = """\
examples:
  f1buf can --dbc car.dbc -i socketcan -c can0
  f1buf can --dbc truck.dbc --j1939 --channels can1 -i socketcan -c can1
  f1buf can --dbc car.dbc --dbc body.dbc -i pcan -c PCAN_USBBUS1 -b 500000 --record drive/
  f1buf can --dbc car.dbc -i virtual -c test --thresholds car.toml --fail-on-alert --duration 60
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `can`; those of the bus are python-can's, and a CanError says where that is missing."""
    add_can_options(parser, required=True)
    add_bus_arguments(parser)
    add_common_options(parser, 8192, (), "none")


def add_can_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the options for CAN that a live bus and a log share; `required`: without a database there is no run."""
    option = parser.add_argument
    files = (
        "a CAN database that names the signals: DBC, KCD, SYM, ARXML; with BUS= for that bus alone, else for all; "
        "repeatable (needs f1buf[can])"
    )
    option("--dbc", type=database, action="append", required=required, metavar="[BUS=]FILE", help=files)
    groups = "match ids by J1939's parameter groups, each sender by itself, also where the database does not say so"
    option("--j1939", action="store_true", help=groups)
    buses = "only frames of these buses, named as in the log: can0,can1, or 1,2"
    option("--channels", type=bus_names, action="extend", default=[], metavar="BUS,...", help=buses)
    ids = "only frames with these ids, hexadecimal, more than 3 digits for extended ones: 123,700-7FF,18FEF100"
    option("--ids", type=can_ids, action="extend", default=[], metavar="ID,...", help=ids)


def database(text: str) -> str | tuple[str, str]:
    """Convert ``FILE`` or ``BUS=FILE``."""
    bus, separator, path = text.partition("=")
    if not separator or "/" in bus or Path(text).exists():
        return path_name(text)
    if not bus or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FILE or BUS=FILE, such as can1=body.dbc")
    return bus, path_name(path)


def bus_names(text: str) -> list[str]:
    """Convert a list such as ``can0,can1``."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names of buses such as can0,can1")
    return names


CAN_IDS = re.compile(r"(?:0x)?([0-9a-f]+)(?:-(?:0x)?([0-9a-f]+))?", re.IGNORECASE)


def can_ids(text: str) -> list[tuple[int, int, bool]]:
    """Convert a list such as ``123,700-7FF,18FEF100`` to first id, last id and whether they are extended.

    They are as candump writes them: a standard id has up to 3 digits, an extended one more.
    """
    return [can_id_range(part) for part in text.split(",")]


def can_id_range(text: str) -> tuple[int, int, bool]:
    """Convert an id, or a range of ids."""
    if match := CAN_IDS.fullmatch(text):
        ends = match[1], match[2] or match[1]
        low, high = (int(end, 16) for end in ends)
        extended, also = (len(end) > 3 for end in ends)
        if extended == also and low <= high < (1 << 29 if extended else 1 << 11):
            return low, high, extended
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected hexadecimal ids such as 123, 700-7FF or 18FEF100, extended ones of more than 3 digits"
    )


def execute(args: argparse.Namespace) -> int:
    """Analyse the bus until the run is stopped; return the exit status."""
    decoder = can_decoder(args)
    runner = Runner(args)
    with open_bus(args) as bus:
        return runner.run(can_feed(CanBus(bus, decoder), decoder))


def can_decoder(args: argparse.Namespace) -> CanDecoder:
    """Return a decoder with the databases and the choice of frames that the options give."""
    select = Selection(frozenset(args.channels), tuple(args.ids))
    return CanDecoder(args.dbc, j1939=args.j1939, select=select)


def can_feed(source: CanReplay | CanBus, decoder: CanDecoder, log: CanLog | None = None) -> Feed:
    """Return what a bus or a log gives."""

    def rejected() -> dict[str, int]:
        return added_up(log.rejected if log else {}, decoder.rejected)

    def notes() -> list[str]:
        heard = ", ".join(sorted(decoder.heard)) or "none"
        silent = (f"nothing came from bus {bus}; heard: {heard}" for bus in sorted(decoder.unheard))
        return [*(log.notes if log else ()), *silent]

    def unusable() -> str:
        return why_unusable("frame", rejected())

    return Feed(source.name, [source], decoder.describe, rejected=rejected, notes=notes, unusable=unusable)
