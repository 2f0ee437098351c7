"""The command `f1buf`: its arguments, and what each of its commands feeds the telemetry system with.

Standard output carries only data (``--json``, ``--alerts -``, ``thresholds``); all that is for people goes to standard
error. Exit status: 130 after a second Ctrl-C, else 2 for bad usage and unreadable input, else 1 where something failed
(a sensor, an analyzer, the recorder, what tells people how it does) or was lost on this machine, else 3 with
``--fail-on-alert`` if there was an alert, else 0.
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import re
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import f1buf
from f1buf.command.runner import (
    ALERTED,
    BAD_USAGE,
    FAILED,
    INTERRUPTED,
    OK,
    Feed,
    Runner,
    UsageError,
    flush_stderr,
    write_stdout,
)
from f1buf.telemetry import PROFILES, Sensor, classic, make_sensors
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.bus import CanBus
from f1buf.telemetry.sources.can.decoder import CanDecoder, CanError, Selection
from f1buf.telemetry.sources.can.log import CanLog, CanReplay, can_log_format, open_can_log
from f1buf.telemetry.sources.can.options import add_bus_arguments, open_bus
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.listen import DEFAULT_PORT, Listener, ListenError
from f1buf.telemetry.sources.game.recording import Recording, open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.paced import paced_sensors
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet
from f1buf.telemetry.system import SENSOR_TYPES
from f1buf.telemetry.text import clean, one_line
from f1buf.telemetry.thresholds import dumps

RUN_EXAMPLES = """\
examples:
  f1buf run                                      five sensors at 100 Hz, until Ctrl-C
  f1buf run --rate max --buffer-size 65536 --duration 5 --json
  f1buf run --count 6000 --seed 7 --alerts alerts.jsonl
  f1buf run --sensors mymodule:OilPressureSensor --thresholds mine.toml
  f1buf run --classic --duration 20              the textbook's producers and consumers, line by line
"""
REPLAY_EXAMPLES = """\
examples:
  f1buf replay race.sqlite3                      as fast as it was recorded
  f1buf replay race.sqlite3 --speed max --json
  f1buf replay race.sqlite3 --speed 20 --cars player --alerts -
  f1buf replay league.sqlite3 --session 0282     of several games the one whose number ends so
  f1buf replay drive.log --dbc car.dbc           a CAN log: candump, .asc, .blf, .mf4 and so on
  f1buf replay drive.log --dbc can0=engine.dbc --dbc can1=body.dbc --ids 100-1FF,18FEF100
  f1buf replay recorded/                         what --record recorded, against the same thresholds
"""
LISTEN_EXAMPLES = """\
examples:
  f1buf listen                                   the game runs on this machine
  f1buf listen --host 0.0.0.0 --cars player      ... or on another one, or on a console
  f1buf listen --forward 127.0.0.1:20778         another program wants the datagrams, too
  f1buf listen --session 0282                    of several games in the network the one whose number ends so
  f1buf listen --record race/ --alerts race.jsonl
"""
CAN_EXAMPLES = """\
examples:
  f1buf can --dbc car.dbc -i socketcan -c can0
  f1buf can --dbc truck.dbc --j1939 --channels can1 -i socketcan -c can1
  f1buf can --dbc car.dbc --dbc body.dbc -i pcan -c PCAN_USBBUS1 -b 500000 --record drive/
  f1buf can --dbc car.dbc -i virtual -c test --thresholds car.toml --fail-on-alert --duration 60
"""
THRESHOLDS_EXAMPLES = """\
examples:
  f1buf thresholds > mine.toml                   edit it, then: f1buf run --thresholds mine.toml
  f1buf thresholds f1game                        what `listen` and `replay` use unless told otherwise
"""


# -- arguments --------------------------------------------------------------------------------------------------------


CAN_LOGS = (".asc", ".blf", ".log", ".mf4", ".trc")  # not .csv and .db, which may be anything
BEGINNINGS = {
    b"PAR1": "recorded",
    b"SQLite": "game",
    b"LOGG": "CAN log",  # a .blf
    b"MDF ": "CAN log",  # an .mf4, and one that was not finished
    b"UnFinMF": "CAN log",
}
"""What a file is by its first bytes, whatever its name."""
NO_CAN_LOGS = {"recorded": "a part that --record has made", "game": "an SQLite database, such as the game's recordings"}
OTHERS = {b"PK\3\4": "a zip archive, unpack it", b"\x1f\x8b": "compressed, unpack it"}
REPLAYED = (
    "expected an SQLite recording of the game, a folder that --record has made or a part of it, or a CAN log with "
    "--dbc FILE"
)


class Parser(argparse.ArgumentParser):
    """Ends with one line where the usage is bad, or where nobody takes the help, which argparse would not say."""

    def print_help(self, file: Any = None) -> None:
        if file is not None:
            super().print_help(file)
        elif status := print_data(self.prog, self.format_help()):
            self.exit(status)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            say_error(message.rstrip("\n"))
        sys.exit(at_end(status))

    def error(self, message: str) -> NoReturn:
        self.exit(
            BAD_USAGE, clean(f"{self.prog}: error: {one_line(Exception(message))} (see {self.prog} --help)") + "\n"
        )


class Version(argparse.Action):
    """Prints the version, and says where nobody takes it, which argparse's own would not."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.exit(print_data(parser.prog, f"f1buf {f1buf.__version__}\n"))


def number(
    least: float, most: float = 1e9, *, exclusive: bool = False, whole: bool = False, word: str | None = None
) -> Callable[[str], Any]:
    """Return a converter for argparse: a number from `least` to `most`; None for `word`, where one is allowed."""
    kind = "a whole number" if whole else "a number"
    expected = f"expected {kind} {'above' if exclusive else 'of at least'} {least:g}"
    if most < math.inf:
        expected += f" and at most {most:g}"
    if word:
        expected += f", or {word!r}"

    def convert(text: str) -> float | int | None:
        if word is not None and text == word:
            return None
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None
        if not least <= value <= most or (exclusive and value == least):
            raise argparse.ArgumentTypeError(f"{text}: {expected}")
        return value

    return convert


def cars(text: str) -> str | list[int]:
    """Convert ``all``, ``player`` or a list such as ``0,5,21``."""
    if text in ("all", "player"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected all, player or car numbers such as 0,5,21") from None


def path_name(text: str) -> str:
    """Refuse ``-``, which stands for a stream everywhere else and is none here."""
    if text == "-":
        raise argparse.ArgumentTypeError("'-': expected a name, no stream; ./- for what is called so")
    return text


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
    if match := CAN_IDS.fullmatch(text):
        ends = match[1], match[2] or match[1]
        low, high = (int(end, 16) for end in ends)
        extended, also = (len(end) > 3 for end in ends)
        if extended == also and low <= high < (1 << 29 if extended else 1 << 11):
            return low, high, extended
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected hexadecimal ids such as 123, 700-7FF or 18FEF100, extended ones of more than 3 digits"
    )


def destination(text: str) -> tuple[str, int]:
    """Convert ``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if in_brackets else host
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or in_brackets != (":" in host):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT, such as 127.0.0.1:20778 or [::1]:20778")
    return host, int(port)


def sensor_class(text: str) -> type[Sensor]:
    """Import ``module:Class``, from the working directory, too."""
    module_name, _, class_name = text.partition(":")
    if not module_name or not class_name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, class_name, None)
    except (Exception, SystemExit) as error:
        raise argparse.ArgumentTypeError(
            f"{text}: cannot import {module_name}: {type(error).__name__}: {one_line(error)}"
        ) from None
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: the module {module_name} has no {class_name}")
    if not (isinstance(found, type) and issubclass(found, Sensor)):
        raise argparse.ArgumentTypeError(f"{text}: expected a subclass of f1buf.telemetry.Sensor")
    return found


def add_common_options(parser: argparse.ArgumentParser, buffer_size: int, thresholds: Any, said: str = "") -> None:
    """Add what `run`, `replay`, `listen` and `can` have in common; `said`: what the default thresholds are."""
    parser.add_argument(
        "--duration", type=number(0, exclusive=True), metavar="S", help="stop the sensors after S seconds"
    )
    parser.add_argument(
        "--analyzers", type=number(1, 10_000, whole=True), default=3, metavar="N", help="analyzer threads (default: 3)"
    )
    parser.add_argument(
        "--analyzer-delay",
        type=number(0, 3600),
        default=0.0,
        metavar="S",
        help="seconds of further work for each reading, to stand for a slow analysis",
    )
    parser.add_argument(
        "--buffer-size",
        type=number(1, math.inf, whole=True),
        metavar="N",
        help=f"readings (default: {buffer_size})",
    )
    parser.add_argument(
        "--overflow",
        choices=("block", "drop_oldest", "drop_newest"),
        default="block",
        help="what happens when the buffer is full (default: block, which loses nothing)",
    )
    parser.add_argument(
        "--thresholds",
        type=path_name,
        metavar="NAME|FILE",
        help=f"a profile ({', '.join(PROFILES)}) or a TOML file (default: {said or thresholds})",
    )
    parser.add_argument(
        "--alerts", metavar="FILE", help="write alerts as JSON lines to a new file; - for standard output"
    )
    parser.add_argument(
        "--alert-samples", action="store_true", help="an alert for each reading over its threshold, not only rises"
    )
    parser.add_argument("--fail-on-alert", action="store_true", help="exit with status 3 if there was an alert")
    parser.add_argument(
        "--record",
        type=path_name,
        metavar="DIR",
        help="keep all readings in a new folder, as Parquet files, which `f1buf replay DIR` plays back "
        "(needs f1buf[record])",
    )
    parser.add_argument(
        "--record-overflow",
        choices=("block", "drop_oldest", "drop_newest"),
        help="what happens when the recorder falls behind (default: block, which loses nothing)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="no live view: lines, as where standard error is no terminal"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object on standard output")
    parser.set_defaults(default_buffer_size=buffer_size, default_thresholds=thresholds)


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; `command` is the one that will be parsed: what it alone needs is imported for it alone."""
    parser = Parser(prog="f1buf", description="Telemetry through a ring buffer that loses nothing.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str, examples: str) -> Parser:
        added = commands.add_parser(
            name, help=text, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        added.set_defaults(command=function, parser=added)
        return added

    add_run_options(add("run", run_command, "simulated sensors, or your own", RUN_EXAMPLES))
    add_replay_options(add("replay", replay_command, "a recording, at its own speed or another one", REPLAY_EXAMPLES))
    add_listen_options(add("listen", listen_command, "the F1 game's telemetry, live over UDP", LISTEN_EXAMPLES))
    add_can_options(add("can", can_command, "a car's CAN bus, live", CAN_EXAMPLES), bus=command == "can")
    thresholds = add(
        "thresholds", thresholds_command, "print a profile of thresholds to start from", THRESHOLDS_EXAMPLES
    )
    thresholds.add_argument("name", nargs="?", default="default", metavar="NAME", help=f"{', '.join(PROFILES)}")
    return parser


def add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--count", type=number(1, math.inf, whole=True), metavar="N", help="readings a sensor; then it ends"
    )
    run.add_argument(
        "--sensors-per-type", type=number(1, 10_000, whole=True), default=1, metavar="N", help="default: 1"
    )
    run.add_argument(
        "--sensors",
        type=sensor_class,
        action="append",
        metavar="MODULE:CLASS",
        help="a sensor class of your own, instead of the five simulated ones; repeatable",
    )
    run.add_argument(
        "--rate",
        type=number(0.001, word="max"),
        default=100.0,
        metavar="HZ",
        help="readings a second of each sensor, or max (default: 100)",
    )
    run.add_argument("--seed", type=number(0, math.inf, whole=True), metavar="N", help="of the simulated sensors")
    run.add_argument(
        "--classic",
        action="store_true",
        help="the textbook demonstration, line by line, at its own pace; the buffer holds 20 unless told otherwise",
    )
    add_common_options(run, 100, "default")


def add_replay_options(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "file",
        type=path_name,
        metavar="FILE|DIR",
        help="an SQLite recording of the F1 game in the schema of f1-2020-telemetry; a CAN log, with --dbc; "
        "a folder that --record has made, or a part of it",
    )
    replay.add_argument(
        "--speed",
        type=number(0, exclusive=True, word="max"),
        default=1.0,
        metavar="X",
        help="times as fast as recorded, or max (default: 1)",
    )
    add_game_options(replay)
    add_dbc_options(replay)
    add_common_options(replay, 8192, "f1game", "f1game; of a CAN log none; of a folder those that it was recorded with")


def add_listen_options(listen: argparse.ArgumentParser) -> None:
    listen.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen: 127.0.0.1 (default) or ::1 for this machine alone, 0.0.0.0 or :: for every network",
    )
    listen.add_argument(
        "--port",
        type=number(0, 65535, whole=True),
        default=DEFAULT_PORT,
        metavar="N",
        help=f"UDP port (default: {DEFAULT_PORT}, the game's); 0 for any that is free",
    )
    listen.add_argument(
        "--forward",
        type=destination,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="pass each datagram on unchanged, for only one program can own the port; repeatable",
    )
    add_game_options(listen)
    add_common_options(listen, 8192, "f1game")


def add_can_options(can: argparse.ArgumentParser, *, bus: bool) -> None:
    add_dbc_options(can, required=True)
    if bus:
        add_bus_arguments(can)
    add_common_options(can, 8192, (), "none")


def add_game_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cars", type=cars, metavar="WHICH", help="player, all (default), or 0,5,21")
    parser.add_argument(
        "--session",
        metavar="N",
        help="of several of the game's sessions this one alone: its number, or the last digits of it, four at least",
    )


def add_dbc_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument(
        "--dbc",
        type=database,
        action="append",
        required=required,
        metavar="[BUS=]FILE",
        help="a CAN database that names the signals: DBC, KCD, SYM, ARXML; with BUS= for that bus alone, else for all; "
        "repeatable (needs f1buf[can])",
    )
    parser.add_argument(
        "--j1939",
        action="store_true",
        help="match ids by J1939's parameter groups, each sender by itself, also where the database does not say so",
    )
    parser.add_argument(
        "--channels",
        type=bus_names,
        action="extend",
        default=[],
        metavar="BUS,...",
        help="only frames of these buses, named as in the log: can0,can1, or 1,2",
    )
    parser.add_argument(
        "--ids",
        type=can_ids,
        action="extend",
        default=[],
        metavar="ID,...",
        help="only frames with these ids, hexadecimal, more than 3 digits for extended ones: 123,700-7FF,18FEF100",
    )


# -- the commands -----------------------------------------------------------------------------------------------------


def added_up(*counters: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of counters that other threads may be adding to: each is copied in one step before it is read."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return dict(total)


def run_command(args: argparse.Namespace) -> int:
    if args.classic and args.overflow != "block":
        raise UsageError(f"--classic shows how sensors wait for room; leave --overflow {args.overflow} out")
    if args.classic:
        args.default_buffer_size = classic.BUFFER_SIZE
    runner = Runner(args)
    rate = 100.0 if args.rate is None else args.rate
    noise = "uniform" if args.classic else "walk"
    try:
        sensors = make_sensors(
            args.sensors_per_type, types=args.sensors or SENSOR_TYPES, rate=rate, seed=args.seed, noise=noise
        )
    except Exception as error:  # a user's own class may raise anything
        raise UsageError(f"--sensors: cannot be made: {type(error).__name__}: {one_line(error)}") from None
    name = f"{len(sensors)} sensors"
    if args.classic:
        return runner.run(classic_feed(name, runner, args, sensors))
    return runner.run(Feed(name, paced_sensors(sensors, args.rate, args.count)))


def classic_feed(name: str, runner: Runner, args: argparse.Namespace, sensors: Sequence[Sensor]) -> Feed:
    """Return the textbook demonstration."""
    ring, say, rng = runner.system.ring, runner.console.line, random.Random(args.seed)
    sources = [classic.ClassicSensor(sensor, ring, say, args.count, random.Random(rng.random())) for sensor in sensors]
    return Feed(name, sources, analyzer=classic.classic_analyzer(ring, say, rng))


def replay_command(args: argparse.Namespace) -> int:
    path = Path(args.file)
    try:
        if args.dbc:
            check_can_log(path)
            kind = "CAN log"
        elif (kind := kind_of(path)) == "CAN log":
            raise UsageError(f"{path}: a CAN log needs a database that names its signals: --dbc FILE")
        refuse_what_is_of_no_use(args, kind)
        return REPLAYS[kind](args)
    except (RecordingError, CanError) as error:
        raise UsageError(str(error)) from None


def check_can_log(path: Path) -> None:
    """Refuse a recording that a database is given for; whatever else is wrong with it, the log's reader tells.

    Raises
    ------
    UsageError
        It is none of a CAN bus.
    """
    with suppress(OSError):
        kind = kind_by_content(first_bytes(path)) if path.is_file() else None
        if kind in NO_CAN_LOGS and not (kind == "game" and path.suffix.lower() == ".db"):  # python-can's database
            raise UsageError(f"{path}: {NO_CAN_LOGS[kind]}; expected a CAN log (without --dbc recordings are played)")


def first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def kind_by_content(begin: bytes) -> str | None:
    return next((kind for known, kind in BEGINNINGS.items() if begin.startswith(known)), None)


def kind_of(path: Path) -> str:
    """Tell what a file is that no database is given for: "recorded" readings, a "CAN log" or the "game"'s datagrams.

    What it begins with says so; where that may be anything, its name does.

    Raises
    ------
    UsageError
        It is none of these, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "recorded"
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
            raise UsageError(f"{path}: not a regular file; {REPLAYED}")
        begin = first_bytes(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {REPLAYED}") from None
    if not begin:
        raise UsageError(f"{path}: empty; {REPLAYED}")
    if (kind := kind_by_content(begin)) is not None:
        return kind
    if can_log_format(path) in CAN_LOGS:
        return "CAN log"
    if path.suffix == ".parquet":
        return "recorded"
    what = next((what for known, what in OTHERS.items() if begin.startswith(known)), "nothing that f1buf knows")
    raise UsageError(f"{path}: {what}; {REPLAYED}")


def replay_game(args: argparse.Namespace) -> int:
    decoder = game_decoder(args)
    with open_recording(args.file) as recording:
        source = Replay(recording, decoder, args.speed)
        feed = Feed(
            source.name,
            [source],
            decoder.describe,
            rejected=lambda: added_up(recording.rejected, decoder.rejected),
            lost_elsewhere=lambda: {"on the network": decoder.lost},
            details=lambda: {
                "network": {"lost": decoder.lost},
                "gaps": recording.gaps,
                **said_sessions(decoder.sessions),
            },
            lines=lambda: [*gap_lines(recording), *session_lines(decoder)],
            notices=SessionNotices(decoder).notices,
            unusable=lambda: why_unusable("datagram", added_up(recording.unusable(), decoder.rejected)),
        )
        return Runner(args).run(feed)


def gap_lines(recording: Recording) -> Iterable[str]:
    """Which rows are missing from a recording."""
    if recording.gaps:
        gaps = [f"{first:,}" + (f" to {last:,}" if last > first else "") for first, last in recording.gaps]
        known = sum(last - first + 1 for first, last in recording.gaps)
        more = "" if known == recording.rejected["missing row"] else " and more"
        yield f"missing    pkt_id {', '.join(gaps)}{more}"


def replay_can_log(args: argparse.Namespace) -> int:
    args.default_thresholds = ()
    decoder = can_decoder(args)
    log = open_can_log(args.file)
    return Runner(args).run(can_feed(CanReplay(log, decoder, args.speed), decoder, log))


def can_decoder(args: argparse.Namespace) -> CanDecoder:
    select = Selection(frozenset(args.channels), tuple(args.ids))
    return CanDecoder(args.dbc, j1939=args.j1939, select=select)


def can_feed(source: CanReplay | CanBus, decoder: CanDecoder, log: CanLog | None = None) -> Feed:
    def rejected() -> dict[str, int]:
        return added_up(log.rejected if log else {}, decoder.rejected)

    def notes() -> list[str]:
        heard = ", ".join(sorted(decoder.heard)) or "none"
        silent = (f"nothing came from bus {bus}; heard: {heard}" for bus in sorted(decoder.unheard))
        return [*(log.notes if log else ()), *silent]

    return Feed(
        source.name,
        [source],
        decoder.describe,
        rejected=rejected,
        notes=notes,
        unusable=lambda: why_unusable("frame", rejected()),
    )


ADVICE = {
    "no database entry": "is the database another car's, or of J1939 (--j1939)?",
    "not asked for": "see --channels and --ids",
    "car not there": "no car that --cars names is there; without --cars every car is read",
    "no cars": "the game says that there is no car in its session",
    "nobody plays": "the session is watched; without --cars player every car is read",
    "other session": "another session is heard, not the one chosen; without --session every one is read, and named",
}
"""What would help where nothing could be used, by the commonest reason."""


def mostly(rejected: Mapping[str, int]) -> str:
    """Return the commonest reason; empty where there is none."""
    return max(rejected, key=rejected.__getitem__, default="")


def why_unusable(item: str, rejected: Mapping[str, int]) -> str:
    """Say why no reading came of a file's datagrams or frames."""
    reason = mostly(rejected)
    if not reason:
        return f"there is no reading in it: it holds no {item} that means something"
    said = f"no {item} in it could be used: {rejected[reason]:,} x {reason}"
    return f"{said}; {ADVICE[reason]}" if reason in ADVICE else said


def replay_recorded(args: argparse.Namespace) -> int:
    recording = open_parquet(args.file)
    args.default_thresholds = recording.thresholds
    try:
        source = ParquetReplay(recording, args.speed, args.session)
    except ValueError as error:
        raise UsageError(f"--{one_line(error)}") from None
    feed = Feed(
        source.name,
        [source],
        source.describe,
        rejected=lambda: added_up(source.rejected),
        details=lambda: said_sessions(source.sessions),
        lines=lambda: session_lines(source),
        notices=SessionNotices(source).notices,
        notes=lambda: recording.notes,
        unusable=lambda: None if args.session is None else why_unusable("reading", source.rejected),
    )
    return Runner(args).run(feed)


OPTIONS = {
    "cars": ("game",),
    "session": ("game", "recorded"),
    "j1939": ("CAN log",),
    "channels": ("CAN log",),
    "ids": ("CAN log",),
}
"""What each is for, of the options that are not for everything that is replayed."""

KINDS = {"game": "a recording of the game", "CAN log": "a CAN log", "recorded": "what --record has made"}
REPLAYS = {"game": replay_game, "CAN log": replay_can_log, "recorded": replay_recorded}


def refuse_what_is_of_no_use(args: argparse.Namespace, kind: str) -> None:
    for option, kinds in OPTIONS.items():
        if getattr(args, option) not in (None, False, []) and kind not in kinds:
            meant = " or ".join(KINDS[each] for each in kinds)
            raise UsageError(f"--{option} is for {meant}; {args.file} is {KINDS[kind]}")


def game_decoder(args: argparse.Namespace) -> Decoder:
    try:
        return Decoder("all" if args.cars is None else args.cars, args.session)
    except ValueError as error:
        raise UsageError(f"--{one_line(error)}") from None


def said_sessions(sessions: Sequence[int]) -> dict[str, list[str]]:
    """Return the sessions that readings came of, for JSON, where they are several."""
    return {"sessions": list(map(str, sessions))} if len(sessions) > 1 else {}


def session_lines(source: Decoder | ParquetReplay) -> Iterator[str]:
    """What the summary says of several sessions, and of others where there is none that was wanted."""
    if len(source.sessions) > 1:
        yield f"sessions   {', '.join(map(str, source.sessions))}"
    elif source.others and not source.sessions:
        yield f"sessions   heard, but not read: {', '.join(map(str, source.others))}"


class SessionNotices:
    """Tells people of the sessions that are read, from the second one on, and by how many digits they differ.

    Parameters
    ----------
    source : Decoder or ParquetReplay
        What reads them.
    """

    MOST = 16  # forged ones may come without end

    def __init__(self, source: Decoder | ParquetReplay) -> None:
        self._source = source
        self._said: set[tuple[int, str]] = set()  # sessions and the digits that name them
        self._is_one_wanted = source.session is not None

    def notices(self) -> Iterator[str]:
        """Yield the lines that are to be said now."""
        sessions = self._source.sessions
        if len(sessions) < 2:
            return
        if self._is_one_wanted:
            self._is_one_wanted = False
            yield f"--session {self._source.session} fits more than one session that is heard"
        for uid in sessions:
            said = uid, short_session(uid, sessions)
            if said not in self._said and len(self._said) < self.MOST:
                self._said.add(said)
                yield f"session {uid} is read; --session {said[1]} reads it alone"


def listen_command(args: argparse.Namespace) -> int:
    decoder = game_decoder(args)
    runner = Runner(args)
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(Listener(decoder, args.host, args.port, forward=args.forward))
        except ListenError as error:
            raise UsageError(str(error)) from None
        return runner.run(listen_feed(listener, decoder, lambda: runner.system.readings))


def listen_feed(listener: Listener, decoder: Decoder, readings: Callable[[], int]) -> Feed:
    def network() -> dict[str, Any]:
        return {
            "datagrams": listener.datagrams,
            "lost": listener.lost,
            "dropped": listener.dropped,
            "forwarded": by_destination(listener.forwarded),
            "not_forwarded": by_destination(listener.not_forwarded),
        }

    def missing() -> dict[str, int]:
        # What the kernel has dropped is missing, too, as far as it was numbered; nobody can tell the two apart.
        return {"on the network" if not listener.dropped else "on the network or by the kernel": listener.lost}

    def lines() -> Iterator[str]:
        failed = by_destination(listener.not_forwarded)
        for where, count in by_destination(listener.forwarded).items():
            yield f"forwarded  {count:,} to {where}, {failed[where]:,} not"
        yield from session_lines(decoder)
        if not decoder.sessions and (why := mostly(decoder.rejected)) in ADVICE:
            yield f"nothing    {why}: {ADVICE[why]}"

    silence, sessions = Silence(listener, readings), SessionNotices(decoder)
    return Feed(
        listener.name,
        [listener],
        decoder.describe,
        rejected=lambda: added_up(listener.rejected),
        lost_elsewhere=missing,
        lost_here=lambda: {"by the kernel": listener.dropped or 0},
        details=lambda: {"network": network(), **said_sessions(decoder.sessions)},
        lines=lines,
        notices=lambda: [*silence.notices(), *sessions.notices()],
    )


def by_destination(counts: dict[tuple[str, int], int]) -> dict[str, int]:
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}": count for (host, port), count in counts.items()}


class Silence:
    """Tells people that nothing is heard, or nothing that can be used: first with what to enter in the game's settings.

    Parameters
    ----------
    listener : Listener
        What should be hearing something.
    used : callable
        How many readings have come of it.
    """

    SECONDS = 5.0

    def __init__(self, listener: Listener, used: Callable[[], int]) -> None:
        self._listener = listener
        self._used = used
        self._seen = 0, 0  # readings and datagrams, the last time that there were new readings
        self._since = time.monotonic()  # and when that was
        self._silent = False  # whether that has been said since
        self._hinted = self._advised = False

    def notices(self) -> Iterator[str]:
        """Yield the lines that are to be said now."""
        if not self._advised:
            self._advised = True
            yield from filter(None, [self._listener.buffer_advice()])
        readings, datagrams = self._used(), self._listener.datagrams
        if readings != self._seen[0]:
            self._seen, self._since, self._silent = (readings, datagrams), time.monotonic(), False
        elif not self._silent and time.monotonic() - self._since > self.SECONDS:
            self._silent = True
            why = mostly(added_up(self._listener.rejected)) if datagrams > self._seen[1] else ""
            yield self._what(datagrams - self._seen[1], why)
            if why in ADVICE:
                yield ADVICE[why]
            elif not self._hinted:
                self._hinted = True
                yield from self._listener.hint()

    def _what(self, datagrams: int, why: str) -> str:
        if not datagrams:
            return f"nothing has been heard for {self.SECONDS:g} s"
        return f"{datagrams:,} datagrams in {self.SECONDS:g} s, but no reading" + (f", mostly: {why}" if why else "")


def can_command(args: argparse.Namespace) -> int:
    try:
        decoder = can_decoder(args)
        runner = Runner(args)
        with open_bus(args) as bus:
            return runner.run(can_feed(CanBus(bus, decoder), decoder))
    except CanError as error:
        raise UsageError(str(error)) from None


def thresholds_command(args: argparse.Namespace) -> int:
    if args.name not in PROFILES:
        raise UsageError(f"{args.name!r}: no such profile; expected {' or '.join(PROFILES)}")
    return print_data(args.parser.prog, dumps(PROFILES[args.name]))


# -- what is said, and the end ----------------------------------------------------------------------------------------


def print_data(prog: str, text: str) -> int:
    """Print it on standard output; returns the exit status."""
    problem = write_stdout(text)
    if problem is not None:
        say_error(f"{prog}: error: {problem}")
        return FAILED
    return OK


def say_error(text: str) -> None:
    if sys.stderr is None:
        return  # closed; print would turn to standard output
    with suppress(OSError):  # nobody listens; the status tells
        print(clean(text), file=sys.stderr)


def at_end(status: int) -> int:
    """Flush the standard streams, for the interpreter ends with status 120 where it cannot; returns the exit status."""
    if sys.stdout is not None and not sys.stdout.closed:
        failed = print_data("f1buf", "")  # what is still to be written is a sensor's of the user's own
        status = failed if failed and status in (OK, ALERTED) else status
    flush_stderr()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return at_end(run_arguments(sys.argv[1:] if argv is None else list(argv)))


def run_arguments(arguments: list[str]) -> int:
    try:
        args = build_parser(arguments[0] if arguments else None).parse_args(arguments)
    except CanError as error:  # what it needs is missing
        say_error(f"f1buf can: error: {error}")
        return BAD_USAGE
    except KeyboardInterrupt:  # while sensors were imported
        return INTERRUPTED
    try:
        status: int = args.command(args)
    except UsageError as error:
        say_error(f"{args.parser.prog}: error: {error}")
        return BAD_USAGE
    except KeyboardInterrupt:  # before the system ran
        return INTERRUPTED
    return status
