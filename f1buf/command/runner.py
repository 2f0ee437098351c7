"""What every command does once it knows its input: run the telemetry system, show it, stop it, and report.

Who says what where: the alerts' file and ``--json`` are data; lines, the view and the summary are for people. Losses on
this machine make the exit status 1, gaps on the network do not: they are none of its doing.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from f1buf.command.console import Console
from f1buf.telemetry import Alert, Analyzer, F1TelemetrySystem, Summary, TelemetryError, ThresholdError
from f1buf.telemetry.recorder import Recorder, RecorderError
from f1buf.telemetry.sources import RecordingError, Source
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import ThresholdTable

OK, FAILED, BAD_USAGE, ALERTED, INTERRUPTED = 0, 1, 2, 3, 130
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UsageError(Exception):
    """Bad usage or unreadable input: one line, status 2."""


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
            self._file: TextIO = sys.stdout if path == "-" else opened_new(path)
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
            silence(sys.stdout)
        return None if self.error is None else f"alerts were lost: {self._name}: {self.error.strerror}"

    def _attempt(self, act: Callable[[], Any]) -> None:
        with self._lock:
            if self.error is None:
                try:
                    act()
                except OSError as error:
                    self.error = error


def opened_new(path: str) -> TextIO:
    """Open a file to write to: a new one, or one where there is nothing to lose (empty, a device, a pipe)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        refuse_what_holds_something(path, os.fstat(descriptor))
    except UsageError:
        os.close(descriptor)
        raise
    return open(descriptor, "w", encoding="utf-8")


def refuse_what_holds_something(path: str, there: os.stat_result) -> None:
    if stat.S_ISREG(there.st_mode) and there.st_size > 0:
        raise UsageError(f"--alerts {path}: holds something already; choose another file, or remove that one")


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
        silence(sys.stdout)
        return f"standard output: {error.strerror}"
    return None


def flush_stderr() -> None:
    """Hand on what is left for standard error; whether anybody reads that changes nothing."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Nobody takes what it still holds: keep the interpreter from writing that at exit, to end with status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


# -- running a system -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Feed:
    """What a command feeds the system with, and what it knows of it while that runs and afterwards."""

    name: str
    """For people."""
    sources: Sequence[Source]
    describe: Callable[[int, int], dict[str, Any]] | None = None
    """For `F1TelemetrySystem.start`."""
    analyzer: type[Analyzer] = Analyzer
    rejected: Callable[[], dict[str, int]] = dict
    """What was unfit, by reason."""
    lost_elsewhere: Callable[[], dict[str, int]] = dict
    """What never came here, by where it was lost; none of this machine's doing."""
    lost_here: Callable[[], dict[str, int]] = dict
    """What came here and was lost before a source had it, by where."""
    details: Callable[[], dict[str, Any]] = dict
    """What else belongs into the JSON summary."""
    lines: Callable[[], Iterable[str]] = tuple
    """What else belongs into the summary for people."""
    notices: Callable[[], Iterable[str]] = tuple
    """Lines that people should see now."""
    notes: Callable[[], list[str]] = list
    """What people should know of the input, and programs: a sentence each."""
    unusable: Callable[[], str | None] = lambda: None
    """Why not one reading came of input that was read to its end, where that makes it unreadable."""


class Runner:
    """Runs a system until it ends or is told to stop, and reports."""

    def __init__(self, args: argparse.Namespace) -> None:
        if args.json and args.alerts == "-":
            raise UsageError("--json and --alerts - both want standard output; write the alerts to a file")
        if args.record == "":
            raise UsageError("--record: the name is empty; expected a folder")
        if args.record is None and args.record_overflow is not None:
            raise UsageError("--record-overflow is of no use without --record DIR")
        self.args = args
        # Lines are what the demonstration is about, and data on the same terminal would be drawn over.
        data_there = args.alerts == "-" and sys.stdout is not None and sys.stdout.isatty()
        self.console = Console(plain=args.plain or getattr(args, "classic", False) or data_there)
        self._feed = Feed("nothing", [])
        self._read_to_the_end = False
        self._input_failed = False
        self._alert_file: AlertFile | None = None
        self._recorder: Recorder | None = None
        self._recorder_failed = False
        self._not_told: dict[str, str] = {}  # what people could not be told meanwhile, and why
        self._interrupts = 0
        try:
            self.system = F1TelemetrySystem(
                args.buffer_size or args.default_buffer_size,
                overflow=args.overflow,
                thresholds=args.default_thresholds if args.thresholds is None else args.thresholds,
                on_alert=self._on_alert,
                alert_samples=args.alert_samples,
                analyzer_delay=args.analyzer_delay,
                on_step=self._on_step,
                on_failure=self._on_failure,
                display=self.console.display,
            )
        except (ThresholdError, MemoryError) as error:
            option = "--thresholds" if isinstance(error, ThresholdError) else "--buffer-size"
            raise UsageError(f"{option}: {one_line(error)}") from None
        except OSError as error:
            raise UsageError(f"--thresholds {args.thresholds}: {error.strerror}") from None

    def run(self, feed: Feed) -> int:
        """Run the system with this; returns the exit status."""
        self._feed = feed
        self._check_thresholds()
        if self.args.alerts not in (None, "-"):
            self._keep_input_files()
        if self.args.record is not None:
            self._recorder = self._make_recorder(feed)
        if self.args.alerts is not None:
            self._alert_file = AlertFile(self.args.alerts)
        # SIGHUP: the terminal was closed. Whoever has started the program with it ignored (nohup) wants it to go on.
        signals = [each for each in STOPPING if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        previous = [(each, signal.signal(each, self._on_signal)) for each in signals]
        try:
            capacity = self.system.ring.capacity
            self.console.line(f"{feed.name}, {self.args.analyzers} analyzers, a buffer of {capacity:,}; Ctrl-C stops")
            with self.console.watching(
                self.system, feed.name, losses=self._losses, rejected=feed.rejected, recorder=self._recording
            ):
                self._start()
                try:
                    self._watch()
                finally:  # whatever happened, what was accepted is drained, and the recording completed
                    problems = self._shut_down()
            return self._report(problems)
        finally:
            for each, handler in previous:
                signal.signal(each, handler)

    def _start(self) -> None:
        feed = self._feed
        try:
            self.system.start(
                feed.sources,
                self.args.analyzers,
                describe=feed.describe,
                analyzer=feed.analyzer,
                consumers=[] if self._recorder is None else [self._recorder],
            )
        except RuntimeError as error:
            raise UsageError(f"cannot start all threads: {error}; ask for fewer sensors or analyzers") from None

    def _make_recorder(self, feed: Feed) -> Recorder:
        try:
            return Recorder(
                self.args.record,
                feed.describe,
                overflow=self.args.record_overflow or "block",
                source=feed.name,
                thresholds=self.system.thresholds,
            )
        except RecorderError as error:
            raise UsageError(f"--record {one_line(error)}") from None

    def _check_thresholds(self) -> None:
        """Before anything is written: do their channels exist?"""
        try:
            ThresholdTable(self.system.thresholds)
        except ThresholdError as error:
            where = getattr(self.args, "file", "") if self.args.thresholds is None else self.args.thresholds
            raise UsageError(f"--thresholds {where}: {one_line(error)}") from None

    def _keep_input_files(self) -> None:
        """Writing alerts must not destroy what is read, nor older ones; before anything is made."""
        read = getattr(self.args, "file", None)
        databases = [each if isinstance(each, str) else each[1] for each in getattr(self.args, "dbc", None) or ()]
        for name in (self.args.thresholds, read, *databases):
            if name is not None and same_file(name, self.args.alerts):
                raise UsageError(f"--alerts {self.args.alerts}: is the file that is read; choose another one")
        for folder in (read, self.args.record):
            if folder is not None and Path(self.args.alerts).resolve().parent == Path(folder).resolve():
                raise UsageError(f"--alerts {self.args.alerts}: is in a folder of recorded parts; choose another one")
        with suppress(OSError):  # what cannot be looked at is for `opened_new` to tell
            refuse_what_holds_something(self.args.alerts, os.stat(self.args.alerts))

    def _watch(self) -> None:
        """Until the sources end, the time is over, or a signal says stop."""
        until = math.inf if self.args.duration is None else time.monotonic() + self.args.duration
        while (left := until - time.monotonic()) > 0 and not self._interrupts:
            if self.system.wait(min(left, 0.1)):
                self._read_to_the_end = True
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
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: then without progress
            shut_down()
            return problems
        while thread.is_alive():
            thread.join(0.1)
            if thread.is_alive():
                self._tick(draining=True)
        return problems

    def _tick(self, draining: bool) -> None:
        """Tell people how it does. Where that fails the run goes on; it is told, and fails the run at its end."""
        self._attempt("what people should see now", self._say_notices)
        self._attempt("the progress", lambda: self.console.progress(self.system, draining))
        if self._alert_file is not None:
            self._attempt("the alerts so far", self._alert_file.flush)

    def _attempt(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if what not in self._not_told:
                self._not_told[what] = f"{what} could not be told: {type(error).__name__}: {one_line(error)}"
                with suppress(Exception):
                    self.console.line(f"f1buf: {self._not_told[what]}; the run goes on", "bold red")

    def _say_notices(self) -> None:
        for text in self._feed.notices():
            self.console.line(text)

    def _losses(self) -> dict[str, int]:
        """What was lost outside the analyzers' buffer so far, by where."""
        losses = {**self._feed.lost_elsewhere(), **self._feed.lost_here()}
        if self._recorder is not None:
            losses["in the recorder"] = self._recorder.ring.stats().dropped
        return losses

    def _recording(self) -> tuple[str, str]:
        """How the recorder does, and in which style to say it."""
        if self._recorder is None:
            return "", ""
        if self._recorder_failed:
            return "recording failed", "bold red"
        return f"recorded {self._recorder.written:,}", ""

    def _report(self, problems: list[str]) -> int:
        summary, feed = self.system.summary, self._feed
        if self._alert_file is not None and (problem := self._alert_file.close()):
            problems.append(problem)
        rejected = feed.rejected()
        self.console.summary(summary, self.system.ring.capacity, self._further_lines(rejected))
        if self.args.json:
            result = {**summary.as_dict(), "rejected": rejected, "notes": feed.notes(), **feed.details()}
            if self._recorder is not None:
                result["recording"] = {**self._recorder.as_dict(), "lost": self._not_recorded(summary)}
            problem = write_stdout(as_json(result))
            problems += [f"the summary was not written: {problem}"] if problem else []
        lost = summary.readings - summary.analysed
        if lost and not problems:
            problems.append(f"{lost:,} readings were lost")
        if self._read_to_the_end and not summary.readings and not problems and (why := feed.unusable()):
            problems.append(f"{self.args.file}: {why}")
            self._input_failed = True
        problems += self._not_told.values()
        problems += [f"{count:,} datagrams were lost {where}" for where, count in feed.lost_here().items() if count]
        if missing := self._not_recorded(summary):
            problems.append(f"{missing:,} readings were not recorded")
        for problem in problems:
            self.console.line(f"f1buf: {problem}", "bold red")
        if problems:
            return BAD_USAGE if self._input_failed else FAILED
        return ALERTED if self.args.fail_on_alert and alerted(summary) else OK

    def _not_recorded(self, summary: Summary) -> int:
        """How many readings are in no part: dropped, or made after the recorder had failed."""
        return 0 if self._recorder is None else max(0, summary.readings - self._recorder.written)

    def _further_lines(self, rejected: dict[str, int]) -> list[str]:
        """What the summary says of the input and the recording."""
        lines = []
        losses = {**self._feed.lost_elsewhere(), **self._feed.lost_here()}
        if losses:
            lines.append("lost       " + ", ".join(f"{count:,} {where}" for where, count in losses.items()))
        if rejected:
            lines.append("rejected   " + ", ".join(f"{count:,} x {reason}" for reason, count in rejected.items()))
        lines += [f"note       {note}" for note in self._feed.notes()]
        if self._recorder is not None:
            lines.append(f"recorded   {self._recorder}")
        return [*lines, *self._feed.lines()]

    def _on_alert(self, alert: Alert) -> None:
        if self.args.alerts != "-":  # there they are on standard output already
            self.console.alert(alert)
        if self._alert_file is not None:
            self._alert_file.write(alert)

    def _on_step(self, text: str) -> None:
        if getattr(self.args, "classic", False):
            self.console.line(f"* {text}")

    def _on_failure(self, name: str, error: BaseException) -> None:
        if self._recorder is not None and name == self._recorder.name:  # what ends the run is reported at its end
            self._recorder_failed = True
            self.console.line(f"f1buf: the recorder failed, the analysis goes on: {one_line(error)}", "bold red")

    def _on_signal(self, signum: int, frame: Any) -> None:
        # Nothing here that takes a lock: whoever is interrupted may hold it. `_watch` looks ten times a second.
        self._interrupts += 1
        if signum == signal.SIGINT and self._interrupts > 1:
            try:
                self.console.restore_terminal()
            finally:
                os._exit(INTERRUPTED)  # at once: no thread, buffer or file is waited for


def alerted(summary: Summary) -> bool:
    return any(each["samples"] for each in summary.thresholds)


def as_json(result: dict[str, Any]) -> str:
    """One line of JSON that standard output can say, whatever characters it knows."""
    return json.dumps(result, ensure_ascii=not stdout_knows_unicode()) + "\n"


def stdout_knows_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
