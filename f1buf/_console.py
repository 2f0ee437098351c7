"""What the commands say to people: on standard error, in colour where that is wanted and rich is there."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from f1buf.telemetry import Alert, F1TelemetrySystem, Summary

_ALERTS_PER_SECOND = 20  # what a person can follow
_FIRST_ALERTS = 200  # a burst at the beginning may be longer
_LINE_SECONDS = 2.0  # [s] between two lines about a drain


class Console:
    """
    Prints lines, from any thread, around a status line on a terminal.

    Without rich, or where standard error is no terminal, it prints the same lines plainly and no status.
    NO_COLOR and TERM are honoured (by rich).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed, self._second_began = _FIRST_ALERTS, time.monotonic()
        self._not_shown = 0
        self._next_line = 0.0  # when the next line about a drain may come
        self._rich: Any = None
        self._status: Any = None
        try:
            from rich.console import Console as RichConsole
        except ImportError:
            return
        self._rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._rich.on_broken_pipe = lambda: None  # rich would end the program where nobody reads standard error

    def __enter__(self) -> Console:
        if self._rich is not None and self._rich.is_terminal and sys.stderr.isatty():  # not by FORCE_COLOR alone
            self._status = self._rich.status("starting", refresh_per_second=8)
            self._status.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_status()

    def end_status(self) -> None:
        """Take the status line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def restore_terminal(self) -> None:
        """For a signal handler that ends the process: show the cursor, which the status line hides."""
        if self._status is not None:
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")

    def line(self, text: str, style: str = "") -> None:
        """Print a line."""
        with self._lock:
            self._print(text, style)

    def _print(self, text: str, style: str) -> None:
        if sys.stderr is None:
            return  # closed; print would turn to standard output
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
            if now - self._second_began >= 1.0:
                self._allowed, self._second_began = max(self._allowed, _ALERTS_PER_SECOND), now
                self._say_not_shown()
            if self._allowed < 1:
                self._not_shown += 1
                return
            self._allowed -= 1
            self._print(str(alert), "bold red" if alert.kind == "rise" else "red")

    def _say_not_shown(self) -> None:
        if self._not_shown:
            self._print(f"... {self._not_shown:,} more alerts, too many to show (--alerts FILE keeps all)", "dim")
            self._not_shown = 0

    def progress(self, system: F1TelemetrySystem, draining: bool) -> None:
        """Bring the status line up to date; where there is none, say now and then how far a drain has come."""
        if self._status is None:
            if draining and time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _LINE_SECONDS
                self.line(f"draining: {system.remaining} readings left")
        else:
            what = f"draining: {system.remaining:,} left  " if draining else ""
            self._status.update(
                f"{what}{system.analysed:,} readings analysed  buffer {system.ring.qsize():,}/{system.ring.capacity:,}"
            )

    def summary(self, summary: Summary, rejected: dict[str, int], capacity: int) -> None:
        """Print the summary."""
        self.end_status()
        with self._lock:
            self._say_not_shown()
        for text in summary_lines(summary, rejected, capacity):
            self.line(text)


def summary_lines(summary: Summary, rejected: dict[str, int], capacity: int) -> list[str]:
    """Return the summary for people, line by line."""
    buffer, latency = summary.buffer, summary.latency_s
    lines = [
        "",
        f"readings   {summary.readings:,} made, {summary.analysed:,} analysed, {summary.dropped:,} dropped",
        f"rate       {summary.readings_per_s:,.0f} readings/s over {summary.seconds:.3f} s",
        f"latency    {_time(latency['p50'])} p50, {_time(latency['p99'])} p99, {_time(latency['max'])} max "
        "from put to check",
        f"buffer     {buffer.high_water:,} of {capacity:,} at most; "
        f"puts waited {buffer.put_waits:,} times ({buffer.put_wait_seconds:.3f} s), "
        f"gets {buffer.get_waits:,} times ({buffer.get_wait_seconds:.3f} s)",
    ]
    if rejected:
        lines.append("rejected   " + ", ".join(f"{count:,} x {reason}" for reason, count in rejected.items()))
    lines.append("alerts")
    for each in summary.thresholds:
        side, sign = ("above", ">") if "above" in each else ("below", "<")
        limit = f"{'|x| ' if each.get('absolute') else ''}{sign} {each[side]:g}"
        lines.append(
            f"  {each['channel']:<14} {limit:<10} {each['rises']:>9,} rises  {each['samples']:>12,} samples  "
            f"{each['message']}"
        )
    return lines


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
