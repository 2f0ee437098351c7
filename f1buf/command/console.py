"""What the commands say to people: on standard error, in colour and in a live view where that is wanted."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from f1buf import READING, RingBuffer
from f1buf.telemetry.text import clean

if TYPE_CHECKING:
    from f1buf.command.view import Status, View
    from f1buf.telemetry import Alert, F1TelemetrySystem, Summary

_ALERTS_PER_SECOND = 20  # what a person can follow
_FIRST_ALERTS = 200  # a burst at the beginning may be longer
_LINE_SECONDS = 2.0  # [s] between two lines about a drain
_DISPLAYED = 16_384  # readings between two looks of the view: all of a quarter of a second at 65,000 a second
_KEPT = 200  # alerts, and lines, that the view may show; lines are printed when it has ended
_NOTE_SECONDS = 30.0  # [s] that a line without a style is shown
_LAST_ALERTS = 20  # are printed when the view has ended
_RATE_FRAMES = 5  # over which readings a second are counted: a second


class Console:
    """
    Says things on standard error, from any thread: line by line, or in a live view while a run is watched.

    There is a view where standard error is a terminal that can do it and rich is installed. NO_COLOR and TERM are
    honoured (by rich).

    Parameters
    ----------
    plain : bool
        No view.

    Attributes
    ----------
    display : RingBuffer or None
        Where there will be a view: what the sources are to offer their readings to.
    """

    def __init__(self, plain: bool = False) -> None:
        self._lock = threading.RLock()  # a warning may want to be printed amid a line
        self._allowed, self._second_began = _FIRST_ALERTS, time.monotonic()
        self._not_shown = 0
        self._next_line = 0.0  # when the next line about a drain may come
        self._rich: Any = None
        self._view: View | None = None
        self._watched: _Watched | None = None
        self.display: RingBuffer | None = None
        try:
            from rich.console import Console as RichConsole
        except ImportError:
            return
        self._rich = RichConsole(file=sys.stderr, stderr=True, highlight=False, soft_wrap=True)
        self._rich.on_broken_pipe = lambda: None  # rich would end the program where nobody reads standard error
        # Not by FORCE_COLOR alone.
        if not plain and sys.stderr is not None and self._rich.is_interactive and sys.stderr.isatty():
            self.display = RingBuffer(_DISPLAYED, READING, overflow="drop_oldest")

    @contextmanager
    def watching(
        self,
        system: F1TelemetrySystem,
        what: str,
        *,
        losses: Callable[[], Mapping[str, int]] = dict,
        rejected: Callable[[], Mapping[str, int]] = dict,
        recorder: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> Iterator[None]:
        """
        Show a run while the block lasts, where there can be a view; `progress` brings it up to date.

        What is printed meanwhile, by whoever it may be, is shown in the view: for half a minute, or to the end where it
        has a style. It is printed when the view has ended, and so are the last alerts. Of very many lines, those with a
        style and the last others are, and how many were left out.

        Parameters
        ----------
        system : F1TelemetrySystem
            What runs; its sources offer their readings to `display`.
        what : str
            What feeds it.
        losses : callable
            How many were lost, by where; the buffer's own are added.
        rejected : callable
            How many were not fit to be used, by reason.
        recorder : callable
            What the recorder does, and rich's style to say it in.
        """
        if self.display is None:
            yield
            return
        from f1buf.command.board import Board
        from f1buf.command.view import View

        self._watched = _Watched(system, what, losses, rejected, recorder)
        self._view = View(self._rich, Board(self.display, system.thresholds, system.describe))
        with ExitStack() as stack:
            stack.callback(self._end_view)
            lines = stack.enter_context(_Lines(self))
            stack.enter_context(redirect_stderr(lines))
            if sys.stdout is not None and sys.stdout.isatty():
                stack.enter_context(redirect_stdout(lines))
            yield

    def _end_view(self) -> None:
        """Take the view away, and say what has to be known of what it showed."""
        with self._lock:
            watched, view, self._watched, self._view = self._watched, self._view, None, None
            if view is None or watched is None:
                return
            view.close()
            if watched.left_out:
                self._print(f"... {watched.left_out:,} lines among these were left out (--plain prints all)", "dim")
            for _, text, style in watched.notes:
                self._print(text, style)
            last = list(watched.alerts)[-_LAST_ALERTS:]
            if len(last) < watched.alert_count:
                self._print(
                    f"... {watched.alert_count - len(last):,} alerts before these (--alerts FILE keeps all)", "dim"
                )
            for alert in last:
                self._print_alert(alert)

    def restore_terminal(self) -> None:
        """For a signal handler that ends the process: give the terminal back, if it is there and takes it at once."""
        view = self._view
        if view is not None:
            view.leave(at_once=True)

    def line(self, text: str, style: str = "") -> None:
        """Print a line."""
        with self._lock:
            if self._watched is not None:
                for each in text.splitlines():
                    self._watched.note(each, style)
            else:
                self._print(text, style)

    def _print(self, text: str, style: str) -> None:
        if sys.stderr is None:
            return  # closed; print would turn to standard output
        text = "\n".join(map(clean, text.split("\n")))
        try:
            if self._rich is None:
                print(text, file=sys.stderr)
            else:
                self._rich.print(text, style=style or None, markup=False, emoji=False)
        except OSError:
            pass  # nobody listens; the work goes on

    def alert(self, alert: Alert) -> None:
        """Print an alert, unless more come than a person can follow; how many were left out is said then."""
        now = time.monotonic()
        with self._lock:
            if self._watched is not None:
                self._watched.alerts.append(alert)
                self._watched.alert_count += 1
                return
            if now - self._second_began >= 1.0:
                self._allowed, self._second_began = max(self._allowed, _ALERTS_PER_SECOND), now
                self._say_not_shown()
            if self._allowed < 1:
                self._not_shown += 1
                return
            self._allowed -= 1
            self._print_alert(alert)

    def _print_alert(self, alert: Alert) -> None:
        self._print(str(alert), "bold red" if alert.kind == "rise" else "red")

    def _say_not_shown(self) -> None:
        if self._not_shown:
            self._print(f"... {self._not_shown:,} more alerts, too many to show (--alerts FILE keeps all)", "dim")
            self._not_shown = 0

    def progress(self, system: F1TelemetrySystem, draining: bool) -> None:
        """Bring the view up to date; where there is none, say now and then how far a drain has come."""
        now = time.monotonic()
        if self._view is not None and self._watched is not None:
            self._draw(self._view, self._watched, draining, now)
        elif draining and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self.line(f"draining: {system.remaining} readings left")

    def _draw(self, view: View, watched: _Watched, draining: bool, now: float) -> None:
        if not view.due(now) and draining == watched.draining:
            return
        watched.draining = draining
        with self._lock:
            alerts, count, said = list(watched.alerts), watched.alert_count, list(watched.notes)
        notes = [(text, style) for at, text, style in said if style or now - at < _NOTE_SECONDS]
        try:
            view.draw(watched.status(now), alerts, count, notes, now)
        except Exception:
            self._end_view()
            raise  # whoever asked for it tells, and the run goes on

    def summary(self, summary: Summary, capacity: int, further: Sequence[str]) -> None:
        """Print the summary, with `further` lines that the input and the recorder have to say."""
        with self._lock:
            self._say_not_shown()
        for text in summary_lines(summary, capacity, further):
            self.line(text)


class _Watched:
    """A run that is watched: what the view has to say about it."""

    def __init__(
        self,
        system: F1TelemetrySystem,
        what: str,
        losses: Callable[[], Mapping[str, int]],
        rejected: Callable[[], Mapping[str, int]],
        recorder: Callable[[], tuple[str, str]],
    ) -> None:
        self.alerts: deque[Alert] = deque(maxlen=_KEPT)
        self.alert_count = 0
        self.notes: list[tuple[float, str, str]] = []  # when, what, in which style
        self.left_out = 0  # notes
        self.draining = False
        self._system = system
        self._what = what
        self._losses, self._rejected, self._recorder = losses, rejected, recorder
        self._began = time.monotonic()
        self._counts = deque([(self._began, 0)], maxlen=_RATE_FRAMES)  # readings analysed at the times of frames

    def note(self, text: str, style: str) -> None:
        """Keep a line; where there are too many, at the expense of the oldest without a style."""
        self.notes.append((time.monotonic(), text, style))
        if len(self.notes) > _KEPT:
            del self.notes[next((i for i, (_, _, style) in enumerate(self.notes) if not style), 0)]
            self.left_out += 1

    def status(self, now: float) -> Status:
        """How it does; for one thread at a time."""
        from f1buf.command.view import Status

        system, stats = self._system, self._system.ring.stats()
        analysed = system.analysed
        then, before = self._counts[0]
        self._counts.append((now, analysed))
        return Status(
            self._what,
            seconds=now - self._began,
            rate=(analysed - before) / max(now - then, 1e-3),
            analysed=analysed,
            size=system.ring.qsize(),
            capacity=system.ring.capacity,
            latency_s=system.latency_s,
            losses={"in the buffer": stats.dropped + stats.discarded, **self._losses()},
            rejected=sum(self._rejected().values()),
            recorder=self._recorder(),
            draining=system.remaining if self.draining else None,
        )


class _Lines(io.TextIOBase):
    """In place of a standard stream: what is written becomes lines of the console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._begun = ""  # a line without its end

    def write(self, text: str) -> int:
        """Say the lines that are complete."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.line(line)
        return len(text)

    def close(self) -> None:
        """Say what is left."""
        if self._begun:
            self.write("\n")
        super().close()


def summary_lines(summary: Summary, capacity: int, further: Sequence[str]) -> list[str]:
    """Return the summary for people, line by line."""
    buffer = summary.buffer
    p50, p99, longest = (short_time(summary.latency_s[name]) for name in ("p50", "p99", "max"))
    lines = [
        "",
        f"readings   {summary.readings:,} made, {summary.analysed:,} analysed, {summary.dropped:,} dropped",
        f"rate       {summary.readings_per_s:,.0f} readings/s over {summary.seconds:.3f} s",
        f"latency    {p50} p50, {p99} p99, {longest} max from put to check",
        f"buffer     {buffer.high_water:,} of {capacity:,} at most; "
        f"puts waited {buffer.put_waits:,} times ({buffer.put_wait_seconds:.3f} s), "
        f"gets {buffer.get_waits:,} times ({buffer.get_wait_seconds:.3f} s)",
    ]
    lines += further
    lines.append("alerts" if summary.thresholds else "alerts     none: there are no thresholds (--thresholds FILE)")
    for each in summary.thresholds:
        side, sign = ("above", ">") if "above" in each else ("below", "<")
        limit = f"{'|x| ' if each.get('absolute') else ''}{sign} {each[side]:g}"
        lines.append(
            f"  {each['channel']:<14} {limit:<10} {each['rises']:>9,} rises  {each['samples']:>12,} samples  "
            f"{each['message']}{_damping(each)}"
        )
    return lines


def _damping(threshold: dict[str, Any]) -> str:
    said = [f"hysteresis {threshold['hysteresis']:g}"] if "hysteresis" in threshold else []
    said += [f"for {threshold['min_duration']:g} s"] if "min_duration" in threshold else []
    return f" ({', '.join(said)})" if said else ""


def short_time(seconds: float | None) -> str:
    """Return a duration [s] for people."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
