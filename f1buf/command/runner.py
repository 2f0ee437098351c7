"""How a run goes: the telemetry system is started on a feed, watched, stopped, drained and reported on.

Alerts in a file and the JSON summary are data; lines, the view and the summary are for people. A loss on this machine
makes the exit status 1; a gap on the network does not, for this machine did not lose it.
"""

import argparse
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f1buf.command.alert_file import AlertFile, refuse_what_holds_something
from f1buf.command.console import Console
from f1buf.command.feed import Feed
from f1buf.command.progress import Said, Watched
from f1buf.command.status import ALERTED, BAD_USAGE, FAILED, INTERRUPTED, OK, UsageError
from f1buf.command.streams import stdout_knows_unicode, write_stdout
from f1buf.command.summary import summary_lines
from f1buf.telemetry import Alert, F1TelemetrySystem, Summary, TelemetryError, ThresholdError
from f1buf.telemetry.consumers import Consumer
from f1buf.telemetry.errors import PageError, StreamError
from f1buf.telemetry.recorder import Recorder, RecorderError
from f1buf.telemetry.sharing import Sharer, SharingError
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import ThresholdTable

if TYPE_CHECKING:
    from f1buf.telemetry.nats.publisher import Publisher
    from f1buf.web.server import WebPage


def new_system(args: argparse.Namespace, buffer_size: int, **options: Any) -> F1TelemetrySystem:
    """Make a system with the thresholds that the arguments ask for, and these options."""
    thresholds = args.default_thresholds if args.thresholds is None else args.thresholds
    try:
        return F1TelemetrySystem(buffer_size, thresholds=thresholds, **options)
    except (ThresholdError, MemoryError) as error:
        option = "--thresholds" if isinstance(error, ThresholdError) else "--buffer-size"
        raise UsageError(f"{option}: {one_line(error)}") from None
    except OSError as error:
        raise UsageError(f"--thresholds {args.thresholds}: {error.strerror}") from None


def check_channels(args: argparse.Namespace, system: F1TelemetrySystem) -> None:
    """Refuse thresholds of channels that do not exist."""
    try:
        ThresholdTable(system.thresholds)
    except ThresholdError as error:
        where = getattr(args, "file", "") if args.thresholds is None else args.thresholds
        raise UsageError(f"--thresholds {where}: {one_line(error)}") from None


class Runner:
    """Runs a system until it ends or is told to stop, and reports; `args` has the options that all sub-commands share.

    A UsageError says where no system can be made with them.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self._is_classic = getattr(args, "classic", False)
        # The demonstration is about its lines, and a view would draw over data on the same terminal.
        data_there = args.alerts == "-" and sys.stdout is not None and sys.stdout.isatty()
        self.console = Console(plain=args.plain or self._is_classic or data_there)
        self._feed = Feed("nothing", [])
        self._read_to_the_end = False
        self._input_failed = False
        self._alert_file: AlertFile | None = None
        self._recorder: Recorder | None = None
        self._sharer: Sharer | None = None
        self._publisher: Publisher | None = None
        self._page: WebPage | None = None
        self._troubles = {"publisher": "", "sharer": ""}  # what these wait for, as people were told
        self._failed: set[str] = set()  # consumers
        self._not_told: dict[str, str] = {}  # what people could not be told meanwhile, and why
        self._interrupts = 0
        self._is_draining = False
        self.system = new_system(
            args,
            args.buffer_size or args.default_buffer_size,
            overflow=args.overflow,
            on_alert=self._on_alert,
            alert_samples=args.alert_samples,
            analyzer_delay=args.analyzer_delay,
            on_step=self._on_step,
            on_failure=self._on_failure,
            display=self.console.display,
        )

    def run(self, feed: Feed) -> int:
        """Run the system with this feed, for the main thread; return the exit status."""
        self._feed = feed
        self._prepare()
        with self._minding_signals(), self._page or nullcontext():
            name, capacity = feed.name, self.system.ring.capacity
            self.console.line(f"{name}, {self.args.analyzers} analyzers, a buffer of {capacity:,}; Ctrl-C stops")
            if self._sharer is not None:
                shared = self._sharer.shared.name
                self.console.line(f"shared as {shared}: f1buf attach {shlex.quote(shared)}")
            if self._publisher is not None:
                stream = self._publisher.address
                self.console.line(f"published at {stream}: f1buf subscribe {shlex.quote(stream)}")
            if self._page is not None:
                self.console.line(f"the page is at {self._page.address}")
            watched = self._watched()
            with self.console.watching(watched):
                self._start()
                try:
                    self.watch()
                finally:  # after any failure, too, accepted readings are drained, and the recording is completed
                    problems = self._shut_down()
            return self._report(problems)

    def _watched(self) -> Watched:
        return Watched(self.system, self._feed.name, self._losses, self._feed.rejected, self._recording)

    def _prepare(self) -> None:
        """Check what can be checked before the run, then make the files to write to."""
        args = self.args
        check_channels(args, self.system)
        if args.alerts not in (None, "-"):
            self._keep_other_files()
        if args.record is not None:
            try:
                self._recorder = Recorder(
                    args.record,
                    self._feed.describe,
                    overflow=args.record_overflow or "block",
                    source=self._feed.name,
                    thresholds=self.system.thresholds,
                    goes_on=self._feed.durable is not None,
                )
            except RecorderError as error:
                raise UsageError(f"--record {one_line(error)}") from None
        alerts_size = self._go_on()
        if args.publish is not None:
            self._publisher = self._new_publisher()
        if args.alerts is not None:
            self._alert_file = AlertFile(args.alerts, alerts_size)
        if args.share is not None:  # at last: others may come at once
            try:
                self._sharer = Sharer(
                    args.share,
                    self._feed.describe,
                    capacity=args.share_size or 65_536,
                    overflow=args.share_overflow or "drop_oldest",
                    source=self._feed.name,
                    thresholds=self.system.thresholds,
                )
            except (SharingError, ValueError) as error:
                raise UsageError(f"--share {one_line(error)}") from None
        if args.web is not None:
            self._page = self._new_page()

    def _go_on(self) -> int | None:
        """Have a durable source go on behind what was done; return how much of the file of alerts counts."""
        source = self._feed.durable
        if source is None:
            return None
        from f1buf.telemetry.nats.keeper import Keeper

        alerts = None if self.args.alerts == "-" else self.args.alerts
        try:
            keeper = Keeper(self.system, source.files, self._recorder, alerts, self._bring_alerts_to_disk)
        except RecorderError as error:
            raise UsageError(f"--record {one_line(error)}") from None
        source.keeper = keeper
        return keeper.alerts_size

    def _bring_alerts_to_disk(self) -> int:
        return 0 if self._alert_file is None else self._alert_file.bring_to_disk()

    def _new_publisher(self) -> "Publisher":
        args = self.args
        try:
            from f1buf.telemetry.nats.publisher import Publisher
        except ImportError:
            raise UsageError("--publish needs nats-py and pyarrow: pip install 'f1buf[nats]'") from None
        try:
            return Publisher(
                args.publish,
                self._feed.describe,
                overflow=args.publish_overflow or "block",
                source=self._feed.name,
                thresholds=self.system.thresholds,
                shards=args.publish_shards or 1,
                replicas=args.replicas or 1,
                spool=args.publish_spool,
            )
        except StreamError as error:
            raise UsageError(f"--publish {one_line(error)}") from None

    def _new_page(self) -> "WebPage":
        try:
            from f1buf.web.server import WebPage
        except ImportError:
            raise UsageError("--web needs starlette and uvicorn: pip install 'f1buf[web]'") from None
        watched = self._watched()

        def status() -> dict[str, Any]:
            progress = watched.progress(time.monotonic(), Said(), self._is_draining).as_dict()
            waits = {name: f"waiting: {why}" if why else "" for name, why in self._troubles.items()}
            return progress | waits

        host, port = self.args.web
        try:
            return WebPage(
                host,
                port,
                self.system.describe,
                source=self._feed.name,
                thresholds=self.system.thresholds,
                status=status,
            )
        except PageError as error:
            raise UsageError(f"--web {one_line(error)}") from None

    def _keep_other_files(self) -> None:
        """Refuse to write alerts where that would destroy what is read, or older alerts."""
        args, alerts = self.args, self.args.alerts
        read = getattr(args, "file", None)
        databases = [each if isinstance(each, str) else each[1] for each in getattr(args, "dbc", None) or ()]
        for name in filter(None, (args.thresholds, read, *databases)):
            with suppress(OSError):  # one of them does not exist
                if os.path.samefile(name, alerts):
                    raise UsageError(f"--alerts {alerts}: is the file that is read; choose another one")
        for folder in (read, args.record, args.publish_spool):
            if folder is not None and Path(alerts).resolve().parent == Path(folder).resolve():
                raise UsageError(f"--alerts {alerts}: is in a folder of recorded parts; choose another one")
        if self._feed.durable is not None:
            return  # it may be an earlier run's
        with suppress(OSError):  # `AlertFile` says why the file cannot be looked at
            refuse_what_holds_something(alerts, os.stat(alerts))

    def _start(self) -> None:
        try:
            self.system.start(
                self._feed.sources,
                self.args.analyzers,
                describe=self._feed.describe,
                analyzer=self._feed.analyzer,
                consumers=self._consumers(),
                resume=None if self._feed.durable is None else self._feed.durable.analysis,
            )
        except RuntimeError as error:
            raise UsageError(f"cannot start all threads: {error}; ask for fewer sensors or analyzers") from None

    def _consumers(self) -> list[Consumer]:
        known = self._recorder, self._sharer, self._publisher, self._page
        return [each for each in known if each is not None]

    # -- at work --------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Tell people how it does until the sources end, the time is over, or a signal says stop."""
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

        self._is_draining = True
        self.system.stop_sources()
        thread = threading.Thread(target=shut_down, name="shutdown")
        try:
            thread.start()
        except RuntimeError:  # no other thread can start: drain without progress
            shut_down()
            return problems
        while thread.is_alive():
            thread.join(0.1)
            if thread.is_alive():
                self._tick(draining=True)
        return problems

    def _tick(self, draining: bool) -> None:
        """Tell people how it does. Where that fails the run goes on, says so, and fails at its end."""
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
        self._say_trouble(self._publisher, "waiting to publish", "publishing again")
        self._say_trouble(self._sharer, "waiting to share", "sharing again")

    def _say_trouble(self, consumer: "Publisher | Sharer | None", waiting: str, again: str) -> None:
        """Say why a consumer waits, and holds up the run, once that is another reason; and when it goes on."""
        if consumer is not None and consumer.trouble != self._troubles[consumer.name]:
            self._troubles[consumer.name] = trouble = consumer.trouble
            self.console.line(f"f1buf: {waiting}: {trouble}" if trouble else f"f1buf: {again}")

    def _on_alert(self, alert: Alert) -> None:
        if self.args.alerts != "-":  # otherwise they are on standard output already
            self.console.alert(alert)
        if self._page is not None:
            self._page.alert(alert)
        if self._alert_file is not None:
            self._alert_file.write(alert)

    def _on_step(self, text: str) -> None:
        if self._is_classic:
            self.console.line(f"* {text}")

    def _on_failure(self, name: str, error: BaseException) -> None:
        if name in (each.name for each in self._consumers()):  # a failure that ends the run is in its report
            self._failed.add(name)
            self.console.line(f"f1buf: the {name} failed, the analysis goes on: {one_line(error)}", "bold red")

    @contextmanager
    def _minding_signals(self) -> Iterator[None]:
        stopping = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup has it ignored: the run outlives its terminal
            stopping.append(signal.SIGHUP)
        with ExitStack() as previous:
            for each in stopping:
                previous.callback(signal.signal, each, signal.signal(each, self.on_signal))
            yield

    def on_signal(self, signum: int, frame: Any) -> None:
        """Have the run stop; end the process at a second Ctrl-C.

        It takes no lock, which the interrupted code may hold; `watch` looks ten times a second.
        """
        self._interrupts += 1
        if signum == signal.SIGINT and self._interrupts > 1:
            try:
                self.console.restore_terminal()
            finally:
                os._exit(INTERRUPTED)  # at once: no thread, buffer or file is waited for

    # -- what became of it ----------------------------------------------------------------------------------------

    def _feed_losses(self) -> dict[str, int]:
        return {**self._feed.lost_elsewhere(), **self._feed.lost_here()}

    def _losses(self) -> dict[str, int]:
        """How many were lost outside the analyzers' buffer so far, by where."""
        mine = (("in the recorder", self._recorder), ("in the publisher", self._publisher))
        return self._feed_losses() | {where: each.ring.stats().dropped for where, each in mine if each is not None}

    def _recording(self) -> tuple[str, str]:
        """How the recorder does, and rich's style to say it in."""
        if self._recorder is None:
            return "", ""
        if self._recorder.name in self._failed:
            return "recording failed", "bold red"
        return f"recorded {self._recorder.written:,}", ""

    def _report(self, problems: list[str]) -> int:
        """Print the summaries and the problems; return the exit status."""
        summary, feed = self.system.summary, self._feed
        if self._alert_file is not None and (problem := self._alert_file.close()):
            problems.append(problem)
        rejected, not_recorded, not_published = feed.rejected(), *self._not_kept(summary)
        self.console.summary(summary_lines(summary, self.system.ring.capacity, self._further_lines(rejected)))
        if self.args.json:
            result = {**summary.as_dict(), "rejected": rejected, "notes": feed.notes(), **feed.details()}
            if self._recorder is not None:
                result["recording"] = {**self._recorder.as_dict(), "lost": not_recorded}
            if self._sharer is not None:
                result["sharing"] = self._sharer.as_dict()
            if self._publisher is not None:
                result["publishing"] = {**self._publisher.as_dict(), "lost": not_published}
            if self._page is not None:
                result["page"] = self._page.as_dict()
            problem = write_stdout(json.dumps(result, ensure_ascii=not stdout_knows_unicode()) + "\n")
            problems += [f"the summary was not written: {problem}"] if problem else []
        if summary.dropped and not problems:
            problems.append(f"{summary.dropped:,} readings were lost")
        if self._read_to_the_end and not summary.readings and not problems and (why := feed.unusable()):
            problems.append(f"{self.args.file}: {why}")
            self._input_failed = True
        problems += self._not_told.values()
        problems += [f"{count:,} {feed.item}s were lost {where}" for where, count in feed.lost_here().items() if count]
        problems += [f"{not_recorded:,} readings were not recorded"] if not_recorded else []
        problems += [f"{not_published:,} readings were not published"] if not_published else []
        for problem in problems:
            self.console.line(f"f1buf: {problem}", "bold red")
        if problems:
            return BAD_USAGE if self._input_failed else FAILED
        alerted = any(each["samples"] for each in summary.thresholds)
        return ALERTED if self.args.fail_on_alert and alerted else OK

    def _not_kept(self, summary: Summary) -> tuple[int, int]:
        """How many readings are in no part, and how many in no stream or spool: dropped, or made after a failure."""
        recorded = summary.readings if self._recorder is None else self._recorder.written
        published = summary.readings if self._publisher is None else self._publisher.safe
        return max(0, summary.readings - recorded), max(0, summary.readings - published)

    def _further_lines(self, rejected: dict[str, int]) -> list[str]:
        """What the summary says of the input and the recording."""
        lines = []
        if losses := self._feed_losses():
            lines.append("lost       " + ", ".join(f"{count:,} {where}" for where, count in losses.items()))
        if rejected:
            lines.append("rejected   " + ", ".join(f"{count:,} x {reason}" for reason, count in rejected.items()))
        lines += [f"note       {note}" for note in self._feed.notes()]
        if self._recorder is not None:
            lines.append(f"recorded   {self._recorder}")
        if self._sharer is not None:
            lines.append(f"shared     {self._sharer}")
        if self._publisher is not None:
            lines.append(f"published  {self._publisher}")
        if self._page is not None:
            lines.append(f"shown      {self._page}")
        return [*lines, *self._feed.lines()]
