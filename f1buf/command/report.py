"""`f1buf report`: one page, or one JSON object, on a session that was recorded."""

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from f1buf.command.feed import Feed
from f1buf.command.parser import path_name
from f1buf.command.recorded import add_recorded_options, opened
from f1buf.command.runner import check_channels, new_system
from f1buf.command.status import ALERTED, BAD_USAGE, FAILED, INTERRUPTED, OK, UsageError, stopping_at_signals
from f1buf.command.streams import say_error, stdout_knows_unicode, write_stdout
from f1buf.telemetry import PROFILES, F1TelemetrySystem, TelemetryError
from f1buf.telemetry.errors import ExportError
from f1buf.telemetry.report import Gatherer, KeptAlerts, report_data
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.unseen import new_file
from f1buf.web.report import page

HELP = "a page on a recorded session, to look at and to hand on"
EXAMPLES = """\
examples:
  f1buf report race.sqlite3 -o race.html         open race.html in a browser; it needs nothing else
  f1buf report recorded/ -o race.html            what --record recorded, against the same thresholds
  f1buf report drive.log --dbc car.dbc --thresholds car.toml -o drive.html
  f1buf report race.sqlite3 --cars player -o player.html --json > player.json
"""
BUFFER_SIZE = 8192  # readings, as of `replay`
ANALYZERS = 3
SAY_SECONDS = 5.0  # between two lines that say how far it has come


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    option = parser.add_argument
    add_recorded_options(parser, "FILE|DIR")
    option("-o", "--output", type=path_name, metavar="PAGE", help="the page to write: a new file, such as report.html")
    option("--json", action="store_true", help="print what the page says as one JSON object on standard output")
    said = "f1game; of a CAN log none; of a folder those that it was recorded with"
    profiles = f"a profile ({', '.join(PROFILES)}) or a TOML file (default: {said})"
    option("--thresholds", type=path_name, metavar="NAME|FILE", help=profiles)
    samples = "mark each reading over its threshold, not only rises"
    option("--alert-samples", action="store_true", help=samples)
    option("--fail-on-alert", action="store_true", help="exit with status 3 if there was an alert")
    parser.set_defaults(default_thresholds="f1game")


def execute(args: argparse.Namespace) -> int:
    """Read the file or folder to its end, and write the page; return the exit status."""
    if args.output is None and not args.json:
        raise UsageError("nothing to write: expected -o PAGE, such as -o report.html, or --json")
    try:
        with stopping_at_signals():
            text, status, failures = make(args)
    except KeyboardInterrupt:
        say_error(f"{args.prog}: stopped; {args.output or 'the report'} was not made")
        return INTERRUPTED
    if args.json:
        if not stdout_knows_unicode():
            text = json.dumps(json.loads(text), separators=(",", ":"))
        if failure := write_stdout(text + "\n"):
            failures.append(failure)
    for failure in failures:
        say_error(f"{args.prog}: error: {failure}")
    return FAILED if failures and status != BAD_USAGE else status


def make(args: argparse.Namespace) -> tuple[str, int, list[str]]:
    """Read all and write the page, if there is to be one; return the JSON, the status, and what failed."""
    if args.output is not None:
        check_output(args)
    with opened(args, None) as feed:
        data, status = read_all(args, feed)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.encode(errors="replace").decode()  # a file's name may hold what UTF-8 cannot
    for problem in data["problems"]:
        say_error(f"f1buf: {problem}")
    if args.output is not None:
        try:
            size = write_new(Path(args.output), page(text))
        except ExportError as error:
            return text, status, [f"-o {error}"]
        say_error(f"{args.output}: {found(data)}, {size / 1e6:.1f} MB")
    return text, status, []


def found(data: dict[str, Any]) -> str:
    """Return what is in a report, in a line for people."""
    alerts = data["alert_count"]
    series = f"{data['readings']:,} readings of {len(data['series']):,} series"
    return f"{series}, {alerts:,} alert{'' if alerts == 1 else 's'}"


# -- reading ----------------------------------------------------------------------------------------------------------


def read_all(args: argparse.Namespace, feed: Feed) -> tuple[dict[str, Any], int]:
    """Run the system on the feed to its end; return the report's data and the exit status."""
    alerts, gatherer = KeptAlerts(), Gatherer(feed.describe)
    system = new_system(args, BUFFER_SIZE, on_alert=alerts.add, alert_samples=args.alert_samples)
    check_channels(args, system)
    problems, input_failed = run(system, feed, gatherer)
    for notice in feed.notices():
        say_error(notice)
    summary = system.summary
    if not summary.readings and not problems and (why := feed.unusable()):
        problems, input_failed = [f"{args.file}: {why}"], True
    if summary.dropped and not problems:
        problems.append(f"{summary.dropped:,} readings were lost")
    lost = {**feed.lost_elsewhere(), **feed.lost_here()}
    further = {
        "file": file_details(Path(args.file)),
        "rejected": feed.rejected(),
        "lost": {where: count for where, count in lost.items() if count},
        "notes": [*feed.notes(), *(" ".join(line.split()) for line in feed.lines())],
        "problems": problems,
        "capacity": BUFFER_SIZE,
        **feed.details(),
    }
    data = report_data(gatherer, alerts, summary, **further)
    if problems:
        return data, BAD_USAGE if input_failed else FAILED
    alerted = any(each["samples"] for each in summary.thresholds)
    return data, ALERTED if args.fail_on_alert and alerted else OK


def run(system: F1TelemetrySystem, feed: Feed, gatherer: Gatherer) -> tuple[list[str], bool]:
    """Run the system until the sources end; return what went wrong, and whether it was the input."""
    try:
        with system:  # Ctrl-C ends it in order, too
            system.start(feed.sources, ANALYZERS, describe=feed.describe, analyzer=feed.analyzer, consumers=[gatherer])
            while not system.wait(SAY_SECONDS):
                say_error(f"{system.analysed:,} readings so far; Ctrl-C stops")
    except TelemetryError as error:
        return [str(error)], any(isinstance(each, RecordingError) for _, each in error.failures)
    return [], False


def file_details(path: Path) -> dict[str, Any]:
    """Return the name, the size and the last change of a file, or of what is in a folder."""
    said: dict[str, Any] = {"name": path.resolve().name}
    with suppress(OSError):  # it may have been removed meanwhile
        files = [each.stat() for each in (path.iterdir() if path.is_dir() else [path])]
        said |= {"bytes": sum(each.st_size for each in files), "changed": max(each.st_mtime for each in files)}
    return said


# -- writing ----------------------------------------------------------------------------------------------------------


def check_output(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, a page that would replace something, or that cannot be written."""
    path, source = Path(args.output), Path(args.file)
    if source.is_dir() and path.resolve().parent == source.resolve():
        raise UsageError(f"-o {path}: is in a folder of recorded parts; choose another one")
    try:
        with new_file(path):
            pass  # it is not written yet
    except ExportError as error:
        raise UsageError(f"-o {error}") from None


def write_new(path: Path, text: str) -> int:
    """Write the page to a new file, which appears when it is whole; return its size."""
    with new_file(path) as (file, show):
        file.write(text.encode())
        return show()
