"""What `replay` and `export` read: recordings of the game, CAN logs, what ``--record`` has made, MCAP and MDF files."""

import argparse
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from f1buf.command.can import add_can_options, can_decoder, can_feed
from f1buf.command.feed import Feed, added_up, why_unusable
from f1buf.command.game import SessionNotices, add_game_options, game_decoder, session_details, session_lines
from f1buf.command.parser import path_name
from f1buf.command.status import UsageError
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.log import CanReplay, can_log_format, open_can_log
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.mcap import McapRecording, open_mcap
from f1buf.telemetry.sources.mf4 import Mf4Recording, open_mf4
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet
from f1buf.telemetry.sources.played import FileReplay
from f1buf.telemetry.text import one_line

if TYPE_CHECKING:
    from f1buf.telemetry.sources.game.recording import Recording

# -- opening ----------------------------------------------------------------------------------------------------------


def add_recorded_options(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add the file or folder, and the options for each kind."""
    played = (
        "an SQLite recording of the F1 game in the schema of f1-2020-telemetry; a CAN log, with --dbc; "
        "a folder that --record has made, or a part of it; an .mcap; an .mf4 with ordinary signals"
    )
    parser.add_argument("file", type=path_name, metavar=metavar, help=played)
    add_game_options(parser)
    add_can_options(parser)


@contextmanager
def opened(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open the file or folder, to be read at so many times the recorded speed, None for as fast as it goes.

    The default thresholds become those that it was recorded with, where these are known.
    """
    path = Path(args.file)
    try:
        if args.dbc:
            check_can_log(path)
            kind = "CAN log"
        elif (kind := kind_of(path)) == "CAN log":
            raise UsageError(f"{path}: a CAN log needs a database that names its signals: --dbc FILE")
        check_options(args, kind)
        with OPENED[kind](args, speed) as feed:
            yield feed
    except RecordingError as error:
        raise UsageError(str(error)) from None


# -- the kinds --------------------------------------------------------------------------------------------------------

KINDS = {
    "game": "a recording of the game",
    "CAN log": "a CAN log",
    "recorded": "what --record has made",
    "mcap": "an MCAP file",
    "signals": "a measurement file without --dbc",
}
OPTIONS: dict[str, tuple[str, ...]] = {  # of a kind
    "game": ("cars", "session"),
    "recorded": ("session",),
    "CAN log": ("j1939", "channels", "ids"),
    "mcap": (),
    "signals": (),
}
# The first bytes of a file tell its kind: of a Parquet file, an SQLite database, a .blf, an .mf4, an unfinished .mf4.
FILES = {
    b"PAR1": "recorded",
    b"SQLite": "game",
    b"LOGG": "CAN log",
    b"\x89MCAP0\r\n": "mcap",
    **dict.fromkeys((b"MDF ", b"UnFinMF"), "signals"),  # with --dbc it is a log, or has one in it
}
CAN_LOGS = (".asc", ".blf", ".log", ".mf4", ".trc")  # not .csv and .db, which may be anything
NO_CAN_LOGS = {
    "recorded": "a part that --record has made",
    "game": "an SQLite database, such as the game's recordings",
    "mcap": "an MCAP file",
}
OTHER_FILES = {b"PK\3\4": "a zip archive, unpack it", b"\x1f\x8b": "compressed, unpack it"}
EXPECTED = (
    "expected an SQLite recording of the game, a folder that --record has made or a part of it, an .mcap, an .mf4, or "
    "a CAN log with --dbc FILE"
)


def kind_of(path: Path) -> str:
    """Return the kind of a file or folder by its first bytes; where these may be anything, by its name."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "recorded"
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
            raise UsageError(f"{path}: not a regular file; {EXPECTED}")
        begin = first_bytes(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {EXPECTED}") from None
    if not begin:
        raise UsageError(f"{path}: empty; {EXPECTED}")
    if kind := named_by(begin, FILES):
        return kind
    if can_log_format(path) in CAN_LOGS:
        return "CAN log"
    if path.suffix == ".parquet":
        return "recorded"
    raise UsageError(f"{path}: {named_by(begin, OTHER_FILES) or 'nothing that f1buf knows'}; {EXPECTED}")


def check_can_log(path: Path) -> None:
    """Refuse a recording that a database is given for; the log's reader tells what else is wrong with a file."""
    with suppress(OSError):
        kind = named_by(first_bytes(path), FILES) if path.is_file() else None
        if kind in NO_CAN_LOGS and not (kind == "game" and path.suffix.lower() == ".db"):  # python-can's database
            raise UsageError(f"{path}: {NO_CAN_LOGS[kind]}; expected a CAN log (without --dbc recordings are played)")


def first_bytes(path: Path) -> bytes:
    """Return enough of a file to tell its kind."""
    with path.open("rb") as file:
        return file.read(16)


def named_by(begin: bytes, names: dict[bytes, str]) -> str | None:
    """Return the name of the bytes that a file begins with."""
    return next((name for known, name in names.items() if begin.startswith(known)), None)


def check_options(args: argparse.Namespace, kind: str) -> None:
    """Refuse options that do nothing for this kind."""
    for option in [option for options in OPTIONS.values() for option in options]:
        if getattr(args, option) not in (None, False, []) and option not in OPTIONS[kind]:
            meant = " or ".join(KINDS[each] for each, options in OPTIONS.items() if option in options)
            raise UsageError(f"--{option} is for {meant}; {args.file} is {KINDS[kind]}")


# -- how each is read -------------------------------------------------------------------------------------------------


@contextmanager
def opened_game(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open a recording of the game."""
    try:
        from f1buf.telemetry.sources.game.recording import open_recording
    except ImportError as error:
        raise UsageError(
            f"{args.file}: this Python was compiled without SQLite ({one_line(error)}); use one that has it"
        ) from None
    decoder = game_decoder(args)
    with open_recording(args.file) as recording:
        source = Replay(recording, decoder, speed)
        yield Feed(
            source.name,
            [source],
            decoder.describe,
            rejected=lambda: added_up(recording.rejected, decoder.rejected),
            lost_elsewhere=lambda: {"on the network": decoder.lost},
            details=lambda: {
                "network": {"lost": decoder.lost},
                "gaps": recording.gaps,
                **session_details(decoder.sessions),
            },
            lines=lambda: [*gap_lines(recording), *session_lines(decoder)],
            notices=SessionNotices(decoder).notices,
            unusable=lambda: why_unusable("datagram", added_up(recording.unusable(), decoder.rejected)),
        )


def gap_lines(recording: "Recording") -> Iterable[str]:
    """Yield which rows are missing from a recording."""
    if recording.gaps:
        gaps = [f"{first:,}" + (f" to {last:,}" if last > first else "") for first, last in recording.gaps]
        known = sum(last - first + 1 for first, last in recording.gaps)
        more = "" if known == recording.rejected["missing row"] else " and more"
        yield f"missing    pkt_id {', '.join(gaps)}{more}"


@contextmanager
def opened_can_log(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open a CAN log."""
    args.default_thresholds = ()
    decoder = can_decoder(args)
    log = open_can_log(args.file)
    yield can_feed(CanReplay(log, decoder, speed), decoder, log)


@contextmanager
def opened_parquet(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open what ``--record`` has made."""
    recording = open_parquet(args.file)
    args.default_thresholds = recording.thresholds
    try:
        source = ParquetReplay(recording, speed, args.session)
    except ValueError as error:
        raise UsageError(f"--{one_line(error)}") from None
    yield Feed(
        source.name,
        [source],
        source.describe,
        rejected=lambda: added_up(source.rejected),
        details=lambda: session_details(source.sessions),
        lines=lambda: session_lines(source),
        notices=SessionNotices(source).notices,
        notes=lambda: recording.notes,
        unusable=lambda: None if args.session is None else why_unusable("reading", source.rejected),
    )


@contextmanager
def opened_mcap(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open an MCAP file."""
    recording = open_mcap(args.file)
    args.default_thresholds = recording.thresholds or ()
    yield measurement_feed(recording, speed, "message")


@contextmanager
def opened_mf4(args: argparse.Namespace, speed: float | None) -> Iterator[Feed]:
    """Open a measurement file with ordinary signals."""
    args.default_thresholds = ()
    yield measurement_feed(open_mf4(args.file), speed, "signal")


def measurement_feed(recording: Mf4Recording | McapRecording, speed: float | None, item: str) -> Feed:
    """Return what such a file gives."""
    source = FileReplay(recording, speed)
    return Feed(
        source.name,
        [source],
        source.describe,
        rejected=lambda: added_up(recording.rejected),
        details=lambda: session_details(recording.sensors.sessions),
        notes=lambda: list(recording.notes),
        unusable=lambda: why_unusable(item, recording.rejected),
    )


OPENED = {
    "game": opened_game,
    "CAN log": opened_can_log,
    "recorded": opened_parquet,
    "mcap": opened_mcap,
    "signals": opened_mf4,
}
