"""The command `f1buf`.

Standard output carries only data (``--json``, ``--alerts -``, ``thresholds``); all that is for people goes to standard
error. Exit status: 130 after a second Ctrl-C, else 2 for bad usage and unreadable input, else 1 where a sensor or an
analyzer failed or something was lost on this machine, else 3 with ``--fail-on-alert`` if there was one, else 0.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, TextIO

import f1buf
from f1buf._console import Console
from f1buf.telemetry import (
    PROFILES,
    Alert,
    F1TelemetrySystem,
    Sensor,
    Summary,
    TelemetryError,
    ThresholdError,
    classic,
    make_sensors,
)
from f1buf.telemetry.sources.f1game import Decoder
from f1buf.telemetry.sources.recording import RecordingError, open_recording
from f1buf.telemetry.sources.replay import Replay
from f1buf.telemetry.system import SENSOR_TYPES
from f1buf.telemetry.thresholds import ThresholdTable, dumps

OK, FAILED, BAD_USAGE, ALERTED, INTERRUPTED = 0, 1, 2, 3, 130

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
"""
THRESHOLDS_EXAMPLES = """\
examples:
  f1buf thresholds > mine.toml                   edit it, then: f1buf run --thresholds mine.toml
  f1buf thresholds f1game                        what `replay` uses unless told otherwise
"""


class UsageError(Exception):
    """Bad usage or unreadable input: one line, status 2."""


# -- arguments --------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Ends with one line where the usage is bad."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


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


def one_line(error: BaseException) -> str:
    """What an error says, in one line whatever it says."""
    return " ".join(str(error).split())


def cars(text: str) -> str | list[int]:
    """Convert ``all``, ``player`` or a list such as ``0,5,21``."""
    if text in ("all", "player"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected all, player or car numbers such as 0,5,21") from None


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


def add_common_options(parser: argparse.ArgumentParser, buffer_size: int, profile: str) -> None:
    parser.add_argument(
        "--duration", type=number(0, exclusive=True), metavar="S", help="stop the sensors after S seconds"
    )
    parser.add_argument(
        "--analyzers", type=number(1, 10_000, whole=True), default=3, metavar="N", help="threads (default: 3)"
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
        default=profile,
        metavar="NAME|FILE",
        help=f"a profile ({', '.join(PROFILES)}) or a TOML file (default: {profile})",
    )
    parser.add_argument("--alerts", metavar="FILE", help="write alerts as JSON lines; - for standard output")
    parser.add_argument(
        "--alert-samples", action="store_true", help="an alert for each reading over its threshold, not only rises"
    )
    parser.add_argument("--fail-on-alert", action="store_true", help="exit with status 3 if there was an alert")
    parser.set_defaults(default_buffer_size=buffer_size)
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object on standard output")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="f1buf", description="Telemetry through a ring buffer that loses nothing.")
    parser.add_argument("--version", action="version", version=f"f1buf {f1buf.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    raw = argparse.RawDescriptionHelpFormatter

    run = commands.add_parser("run", help="simulated sensors", epilog=RUN_EXAMPLES, formatter_class=raw)
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
    run.set_defaults(command=run_command, parser=run)

    replay = commands.add_parser(
        "replay", help="a recording of the F1 game's telemetry", epilog=REPLAY_EXAMPLES, formatter_class=raw
    )
    replay.add_argument("file", help="an SQLite recording in the schema of f1-2020-telemetry")
    replay.add_argument(
        "--speed",
        type=number(0, exclusive=True, word="max"),
        default=1.0,
        metavar="X",
        help="times as fast as recorded, or max (default: 1)",
    )
    replay.add_argument("--cars", type=cars, default="all", metavar="WHICH", help="player, all (default), or 0,5,21")
    add_common_options(replay, 8192, "f1game")
    replay.set_defaults(command=replay_command, parser=replay)

    thresholds = commands.add_parser(
        "thresholds",
        help="print a profile of thresholds to start from",
        epilog=THRESHOLDS_EXAMPLES,
        formatter_class=raw,
    )
    thresholds.add_argument("name", nargs="?", default="default", metavar="NAME", help=f"{', '.join(PROFILES)}")
    thresholds.set_defaults(command=thresholds_command, parser=thresholds)
    return parser


# -- alerts as JSON lines ---------------------------------------------------------------------------------------------


class AlertFile:
    """Writes alerts as JSON lines; a write that fails is remembered, and the analysis goes on."""

    def __init__(self, path: str) -> None:
        self.error: OSError | None = None
        self._name = "standard output" if path == "-" else path
        self._ascii = path == "-" and not stdout_knows_unicode()
        if path == "-" and sys.stdout is None:
            self.error = OSError(errno.EBADF, "closed")
        self._lock = threading.Lock()
        try:
            self._file: TextIO = sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--alerts {path}: cannot be written: {error.strerror}") from None

    def write(self, alert: Alert) -> None:
        """Write one alert; `flush` makes it visible."""
        self._attempt(lambda: self._file.write(alert.as_json(ensure_ascii=self._ascii) + "\n"))

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._attempt(lambda: self._file.flush())

    def close(self) -> str | None:
        """Close it; returns what went wrong, if something did."""
        self.flush()
        if self._file is not sys.stdout:
            try:
                self._file.close()
            except OSError as error:
                self.error = self.error or error
        elif self.error is not None and sys.stdout is not None:
            silence_stdout()
        return None if self.error is None else f"alerts were lost: {self._name}: {self.error.strerror}"

    def _attempt(self, act: Callable[[], Any]) -> None:
        with self._lock:
            if self.error is None:
                try:
                    act()
                except OSError as error:
                    self.error = error


def same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def write_stdout(text: str) -> str | None:
    """Print it on standard output; returns what went wrong, if something did."""
    if sys.stdout is None:
        return "standard output: closed"
    try:
        print(text, end="", flush=True)
    except OSError as error:
        silence_stdout()
        return f"standard output: {error.strerror}"
    return None


def silence_stdout() -> None:
    """Nobody reads standard output any more: keep the interpreter from flushing into it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- running a system -------------------------------------------------------------------------------------------------


class Runner:
    """Runs a system until it ends or is told to stop, and reports."""

    def __init__(self, args: argparse.Namespace, rejected: Callable[[], dict[str, int]] = dict) -> None:
        if args.json and args.alerts == "-":
            raise UsageError("--json and --alerts - both want standard output; write the alerts to a file")
        self.args = args
        self.console = Console()
        self._rejected = rejected
        self._input_failed = False
        self._alert_file: AlertFile | None = None
        self._interrupts = 0
        try:
            self.system = F1TelemetrySystem(
                args.buffer_size or args.default_buffer_size,
                overflow=args.overflow,
                thresholds=args.thresholds,
                on_alert=self._on_alert,
                alert_samples=args.alert_samples,
                analyzer_delay=args.analyzer_delay,
                on_step=self._on_step,
            )
        except (ThresholdError, MemoryError) as error:
            option = "--thresholds" if isinstance(error, ThresholdError) else "--buffer-size"
            raise UsageError(f"{option}: {one_line(error)}") from None
        except OSError as error:
            raise UsageError(f"--thresholds {args.thresholds}: {error.strerror}") from None

    def run(self, what: str, start: Callable[[], None]) -> int:
        """Run the system that `start` starts, fed by `what`; returns the exit status."""
        self._check_thresholds()
        if self.args.alerts is not None:
            self._keep_input_files()
            self._alert_file = AlertFile(self.args.alerts)
        previous = [(each, signal.signal(each, self._on_signal)) for each in (signal.SIGINT, signal.SIGTERM)]
        try:
            with self.console:
                capacity = self.system.ring.capacity
                self.console.line(f"{what}, {self.args.analyzers} analyzers, a buffer of {capacity:,}; Ctrl-C stops")
                try:
                    start()
                except RuntimeError as error:
                    raise UsageError(f"cannot start all threads: {error}; ask for fewer sensors or analyzers") from None
                self._watch()
                problems = self._shut_down()
            return self._report(problems)
        finally:
            for each, handler in previous:
                signal.signal(each, handler)

    def _check_thresholds(self) -> None:
        """Before anything is written: do their channels exist?"""
        try:
            ThresholdTable(self.system.thresholds)
        except ThresholdError as error:
            raise UsageError(f"--thresholds {self.args.thresholds}: {one_line(error)}") from None

    def _keep_input_files(self) -> None:
        """Writing alerts must not destroy what is read."""
        for name in (self.args.thresholds, getattr(self.args, "file", None)):
            if name is not None and same_file(name, self.args.alerts):
                raise UsageError(f"--alerts {self.args.alerts}: is the file that is read; choose another one")

    def _watch(self) -> None:
        """Until the sources end, the time is over, or a signal says stop."""
        until = math.inf if self.args.duration is None else time.monotonic() + self.args.duration
        while (left := until - time.monotonic()) > 0 and not self._interrupts:
            if self.system.wait(min(left, 0.1)):
                break
            self._tick(draining=False)

    def _shut_down(self) -> list[str]:
        """Stop and drain, in a thread of its own, so that progress and a second Ctrl-C get through."""
        problems: list[str] = []

        def shut_down() -> None:
            try:
                self.system.shutdown()
            except TelemetryError as error:
                problems.append(str(error))
                self._input_failed = any(isinstance(each, RecordingError) for _, each in error.failures)

        self.system.stop_sources()
        thread = threading.Thread(target=shut_down, name="shutdown")
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if thread.is_alive():
                self._tick(draining=True)
        return problems

    def _tick(self, draining: bool) -> None:
        self.console.progress(self.system, draining)
        if self._alert_file is not None:
            self._alert_file.flush()

    def _report(self, problems: list[str]) -> int:
        summary = self.system.summary
        if self._alert_file is not None and (problem := self._alert_file.close()):
            problems.append(problem)
        rejected = self._rejected()
        self.console.summary(summary, rejected, self.system.ring.capacity)
        if self.args.json:
            problem = write_stdout(as_json({**summary.as_dict(), "rejected": rejected}))
            problems += [f"the summary was not written: {problem}"] if problem else []
        lost = summary.readings - summary.analysed
        if lost and not problems:
            problems.append(f"{lost:,} readings were lost")
        for problem in problems:
            self.console.line(f"f1buf: {problem}", "bold red")
        if problems:
            return BAD_USAGE if self._input_failed else FAILED
        return ALERTED if self.args.fail_on_alert and alerted(summary) else OK

    def _on_alert(self, alert: Alert) -> None:
        if self.args.alerts != "-":  # there they are on standard output already
            self.console.alert(alert)
        if self._alert_file is not None:
            self._alert_file.write(alert)

    def _on_step(self, text: str) -> None:
        if getattr(self.args, "classic", False):
            self.console.line(f"* {text}")

    def _on_signal(self, signum: int, frame: Any) -> None:
        # Nothing here that takes a lock: whoever is interrupted may hold it. `_watch` looks ten times a second.
        self._interrupts += 1
        if signum == signal.SIGINT and self._interrupts > 1:
            self.console.restore_terminal()
            os._exit(INTERRUPTED)  # at once: no thread, buffer or file is waited for


def alerted(summary: Summary) -> bool:
    return any(each["samples"] for each in summary.thresholds)


def as_json(result: dict[str, Any]) -> str:
    """One line of JSON that standard output can say, whatever characters it knows."""
    return json.dumps(result, ensure_ascii=not stdout_knows_unicode()) + "\n"


def stdout_knows_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


# -- the commands -----------------------------------------------------------------------------------------------------


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
    if args.classic:
        return runner.run(f"{len(sensors)} sensors", lambda: start_classic(runner, args, sensors))
    return runner.run(
        f"{len(sensors)} sensors",
        lambda: runner.system.start_telemetry(
            num_analyzers=args.analyzers, sensors=sensors, rate=args.rate, count=args.count
        ),
    )


def start_classic(runner: Runner, args: argparse.Namespace, sensors: Sequence[Sensor]) -> None:
    """Start the textbook demonstration."""
    system, say, rng = runner.system, runner.console.line, random.Random(args.seed)
    system.start(
        [
            classic.ClassicSensor(sensor, system.ring, say, args.count, random.Random(rng.random()))
            for sensor in sensors
        ],
        args.analyzers,
        analyzer=classic.classic_analyzer(system.ring, say, rng),
    )


def replay_command(args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        try:
            recording = stack.enter_context(open_recording(args.file))
            decoder = Decoder(args.cars)
        except RecordingError as error:
            raise UsageError(str(error)) from None
        except ValueError as error:
            raise UsageError(f"--cars: {error}") from None
        runner = Runner(args, lambda: {**recording.rejected, **decoder.rejected})
        source = Replay(recording, decoder, args.speed)
        return runner.run(source.name, lambda: runner.system.start([source], args.analyzers, describe=decoder.describe))


def thresholds_command(args: argparse.Namespace) -> int:
    if args.name not in PROFILES:
        raise UsageError(f"{args.name!r}: no such profile; expected {' or '.join(PROFILES)}")
    problem = write_stdout(dumps(PROFILES[args.name]))
    if problem is not None:
        say_error(f"{args.parser.prog}: error: {problem}")
        return FAILED
    return OK


def say_error(text: str) -> None:
    if sys.stderr is not None:  # otherwise print would turn to standard output
        print(text, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    try:
        args = build_parser().parse_args(argv)
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
