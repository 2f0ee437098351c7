"""`f1buf replay`: a recording of the game, a CAN log, or a folder that ``--record`` has made."""

import argparse
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from f1buf.command.can import add_can_options, can_decoder, can_feed
from f1buf.command.feed import Feed, added_up, why_unusable
from f1buf.command.game import SessionNotices, add_game_options, game_decoder, session_details, session_lines
from f1buf.command.parser import add_common_options, number, path_name
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.log import CanReplay, can_log_format, open_can_log
from f1buf.telemetry.sources.game.recording import Recording, open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet
from f1buf.telemetry.text import one_line

HELP = "a recording, at its own speed or another one"
EXAMPLES = """\
examples:
  f1buf replay race.sqlite3                      as fast as it was recorded
  f1buf replay race.sqlite3 --speed max --json
  f1buf replay race.sqlite3 --speed 20 --cars player --alerts -
  f1buf replay league.sqlite3 --session 0282     of several games the one whose number ends so
  f1buf replay drive.log --dbc car.dbc           a CAN log: candump, .asc, .blf, .mf4 and so on
  f1buf replay drive.log --dbc can0=engine.dbc --dbc can1=body.dbc --ids 100-1FF,18FEF100
  f1buf replay recorded/                         what --record recorded, against the same thresholds
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `replay`."""
    played = (
        "an SQLite recording of the F1 game in the schema of f1-2020-telemetry; a CAN log, with --dbc; "
        "a folder that --record has made, or a part of it"
    )
    parser.add_argument("file", type=path_name, metavar="FILE|DIR", help=played)
    speed, factor = number(0, exclusive=True, word="max"), "times as fast as recorded, or max (default: 1)"
    parser.add_argument("--speed", type=speed, default=1.0, metavar="X", help=factor)
    add_game_options(parser)
    add_can_options(parser)
    said = "f1game; of a CAN log none; of a folder those that it was recorded with"
    add_common_options(parser, 8192, "f1game", said)


def execute(args: argparse.Namespace) -> int:
    """Play the file or folder; return the exit status."""
    path = Path(args.file)
    try:
        if args.dbc:
            check_can_log(path)
            kind = "CAN log"
        elif (kind := kind_of(path)) == "CAN log":
            raise UsageError(f"{path}: a CAN log needs a database that names its signals: --dbc FILE")
        check_options(args, kind)
        return {"game": replay_game, "CAN log": replay_can_log, "recorded": replay_recorded}[kind](args)
    except RecordingError as error:
        raise UsageError(str(error)) from None


# -- the three kinds --------------------------------------------------------------------------------------------------

KINDS = {"game": "a recording of the game", "CAN log": "a CAN log", "recorded": "what --record has made"}
OPTIONS = {"game": ("cars", "session"), "recorded": ("session",), "CAN log": ("j1939", "channels", "ids")}  # of a kind
# The first bytes of a file tell its kind: of a Parquet file, an SQLite database, a .blf, an .mf4, an unfinished .mf4.
FILES = {b"PAR1": "recorded", b"SQLite": "game", **dict.fromkeys((b"LOGG", b"MDF ", b"UnFinMF"), "CAN log")}
CAN_LOGS = (".asc", ".blf", ".log", ".mf4", ".trc")  # not .csv and .db, which may be anything
NO_CAN_LOGS = {"recorded": "a part that --record has made", "game": "an SQLite database, such as the game's recordings"}
OTHER_FILES = {b"PK\3\4": "a zip archive, unpack it", b"\x1f\x8b": "compressed, unpack it"}
EXPECTED = (
    "expected an SQLite recording of the game, a folder that --record has made or a part of it, or a CAN log with "
    "--dbc FILE"
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


# -- how each is replayed ---------------------------------------------------------------------------------------------


def replay_game(args: argparse.Namespace) -> int:
    """Play a recording of the game."""
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
                **session_details(decoder.sessions),
            },
            lines=lambda: [*gap_lines(recording), *session_lines(decoder)],
            notices=SessionNotices(decoder).notices,
            unusable=lambda: why_unusable("datagram", added_up(recording.unusable(), decoder.rejected)),
        )
        return Runner(args).run(feed)


def gap_lines(recording: Recording) -> Iterable[str]:
    """Yield which rows are missing from a recording."""
    if recording.gaps:
        gaps = [f"{first:,}" + (f" to {last:,}" if last > first else "") for first, last in recording.gaps]
        known = sum(last - first + 1 for first, last in recording.gaps)
        more = "" if known == recording.rejected["missing row"] else " and more"
        yield f"missing    pkt_id {', '.join(gaps)}{more}"


def replay_can_log(args: argparse.Namespace) -> int:
    """Play a CAN log."""
    args.default_thresholds = ()
    decoder = can_decoder(args)
    log = open_can_log(args.file)
    return Runner(args).run(can_feed(CanReplay(log, decoder, args.speed), decoder, log))


def replay_recorded(args: argparse.Namespace) -> int:
    """Play what ``--record`` has made."""
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
        details=lambda: session_details(source.sessions),
        lines=lambda: session_lines(source),
        notices=SessionNotices(source).notices,
        notes=lambda: recording.notes,
        unusable=lambda: None if args.session is None else why_unusable("reading", source.rejected),
    )
    return Runner(args).run(feed)
