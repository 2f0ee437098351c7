"""`f1buf export`: what can be replayed, as a file for other programs."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any, cast

from numpy.typing import NDArray

from f1buf.command.feed import Feed, added_up
from f1buf.command.parser import path_name
from f1buf.command.recorded import add_recorded_options, opened
from f1buf.command.status import BAD_USAGE, FAILED, INTERRUPTED, OK, UsageError, stopping_at_signals
from f1buf.command.streams import say_error, stdout_knows_unicode, write_stdout
from f1buf.telemetry.errors import ExportError
from f1buf.telemetry.exports import FORMATS, format_of
from f1buf.telemetry.exports.write import Exported, export
from f1buf.telemetry.thresholds import PROFILES

HELP = "what can be replayed, as a file for other programs: MDF 4, MCAP, CSV, Arrow"
EXAMPLES = """\
examples:
  f1buf export recorded/ race.mf4                what --record recorded, for asammdf and other programs of engineers
  f1buf export race.sqlite3 race.mcap            a recording of the game, for Foxglove or PlotJuggler
  f1buf export drive.log drive.csv --dbc car.dbc
  f1buf export recorded/ laps.data --format arrow --json
"""

SUFFIXES = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    add_recorded_options(parser, "FILE|DIR")
    new = f"a new file; its name says the format: {SUFFIXES}"
    parser.add_argument("out", type=path_name, metavar="OUT", help=new)
    parser.add_argument("--format", choices=tuple(FORMATS), help="the format, whatever the name (needs f1buf[export])")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object on standard output")
    parser.set_defaults(default_thresholds=PROFILES["f1game"])


def execute(args: argparse.Namespace) -> int:
    """Export the file or folder; return the exit status."""
    format = args.format or format_of(Path(args.out))
    if format is None:
        raise UsageError(f"{args.out}: names no format; expected {SUFFIXES}, or --format {' or '.join(FORMATS)}")
    if Path(args.out).resolve().parent == Path(args.file).resolve():
        raise UsageError(f"{args.out}: is in a folder of recorded parts; choose another one")
    try:
        with stopping_at_signals(), opened(args, None) as feed:
            exported = export(
                cast("Iterator[NDArray[Any]]", feed.sources[0].batches(Event())),
                args.out,
                format,
                feed.describe,
                source=feed.name,
                thresholds=args.default_thresholds,
                is_wanted=lambda exported: bool(exported.readings) or not (exported.failure or feed.unusable()),
            )
    except ExportError as error:
        say_error(f"{args.prog}: error: {error}")
        return FAILED if error.while_writing else BAD_USAGE
    except KeyboardInterrupt:
        say_error(f"{args.prog}: stopped; {args.out} was not made")
        return INTERRUPTED
    return report(args, feed, exported)


def report(args: argparse.Namespace, feed: Feed, exported: Exported) -> int:
    """Print the summaries and the problems; return the exit status."""
    rejected = added_up(feed.rejected(), exported.rejected)
    notes = [*feed.notes(), *exported.notes]
    problems = list(problems_of(args, feed, exported))
    for text in (*feed.notices(), *summary_lines(args, feed, exported, rejected, notes)):
        say_error(text)
    status = FAILED if exported.rejected else OK
    if args.json:
        result = {"file": args.out, **exported.as_dict(), "rejected": rejected, "notes": notes, **feed.details()}
        if problem := write_stdout(json.dumps(result, ensure_ascii=not stdout_knows_unicode()) + "\n"):
            problems.append(f"the summary was not written: {problem}")
            status = FAILED
    for problem in problems:
        say_error(f"{args.prog}: {problem}")
    return BAD_USAGE if exported.failure or not exported.bytes else status


def problems_of(args: argparse.Namespace, feed: Feed, exported: Exported) -> Iterator[str]:
    """Yield what is missing from the file, or why there is none."""
    if not exported.bytes:
        yield f"{exported.failure or f'{args.file}: {feed.unusable()}'}; {args.out} was not made"
    elif exported.failure:
        yield exported.failure
    if exported.rejected:
        yield f"{exported.rejected.total():,} readings are not in {args.out}, which cannot hold them"


def summary_lines(
    args: argparse.Namespace, feed: Feed, exported: Exported, rejected: dict[str, int], notes: list[str]
) -> Iterator[str]:
    """Yield the summary for people."""
    if exported.bytes:
        size, seconds = f"{exported.bytes:,} bytes", f"{exported.seconds:.3g} s"
        yield f"exported   {exported.readings:,} readings of {exported.series:,} series, {size}, {seconds}: {args.out}"
    if losses := {where: count for where, count in feed.lost_elsewhere().items() if count}:
        yield "lost       " + ", ".join(f"{count:,} {where}" for where, count in losses.items())
    if rejected:
        yield "rejected   " + ", ".join(f"{count:,} x {reason}" for reason, count in rejected.items())
    yield from (f"note       {note}" for note in notes)
    yield from feed.lines()
