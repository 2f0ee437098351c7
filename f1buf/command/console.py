"""What the command says to people: on standard error, in lines or in a live view."""

import io
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from f1buf import READING, RingBuffer
from f1buf.command.progress import Watched
from f1buf.telemetry.text import clean

if TYPE_CHECKING:
    from f1buf.command.view.terminal import View
    from f1buf.telemetry import Alert, F1TelemetrySystem

_ALERTS_PER_SECOND = 20  # what a person can follow
_FIRST_ALERTS = 200  # a burst at the beginning may be longer
_LINE_SECONDS = 2.0  # [s] between two lines about a drain
_DISPLAYED = 16_384  # readings between two looks of the view: all of a quarter of a second at 65,000 a second
_LAST_ALERTS = 20  # are printed when the view has ended


class Console:
    """
    Says things on standard error, from any thread: line by line, or in a live view while a run is watched.

    There is a view where standard error is a terminal that can show one and rich is installed, unless `plain` is asked
    for. Rich honours NO_COLOR and TERM. `display` is the ring that sources offer their readings to for the view; where
    there is none, it is None.
    """

    def __init__(self, plain: bool = False) -> None:
        self._lock = threading.RLock()  # Python may print a warning in the middle of a line
        self._allowed, self._second_began = _FIRST_ALERTS, time.monotonic()
        self._not_shown = 0
        self._next_line = 0.0  # when the next line about a drain may come
        self._rich: Any = None
        self._view: View | None = None
        self._watched: Watched | None = None
        self._draining = False
        self.display: RingBuffer | None = None
        try:
            from rich.console import Console as RichConsole
        except ImportError:
            return
        self._rich = RichConsole(file=sys.stderr, stderr=True, highlight=False, soft_wrap=True)
        self._rich.on_broken_pipe = lambda: None  # rich would end the program where nobody reads standard error
        # FORCE_COLOR makes rich believe in a terminal where there is none.
        if not plain and sys.stderr is not None and self._rich.is_interactive and sys.stderr.isatty():
            self.display = RingBuffer(_DISPLAYED, READING, overflow="drop_oldest")

    @contextmanager
    def watching(self, watched: Watched) -> Iterator[None]:
        """
        Show a run while the ``with`` block lasts, where there can be a view; `progress` brings it up to date.

        The sources of its system offer their readings to `display`. The view also shows what anybody prints meanwhile:
        for half a minute, or to the end where it has a style. When the view has ended, these lines and the last alerts
        are printed; of very many lines those with a style, the last others, and how many were left out.
        """
        if self.display is None:
            yield
            return
        from f1buf.command.view.board import Board
        from f1buf.command.view.terminal import View

        self._watched = watched
        self._view = View(self._rich, Board(self.display, watched.system.thresholds, watched.system.describe))
        with ExitStack() as stack:
            stack.callback(self._end_view)
            lines = stack.enter_context(_Lines(self))
            stack.enter_context(redirect_stderr(lines))
            if sys.stdout is not None and sys.stdout.isatty():
                stack.enter_context(redirect_stdout(lines))
            yield

    def _end_view(self) -> None:
        """Take the view away, and print what people have to know of what it showed."""
        with self._lock:
            watched, view, self._watched, self._view = self._watched, self._view, None, None
            if view is None or watched is None:
                return
            view.close()
            if watched.left_out:
                self.print(f"... {watched.left_out:,} lines among these were left out (--plain prints all)", "dim")
            for _, text, style in watched.notes:
                self.print(text, style)
            last = list(watched.alerts)[-_LAST_ALERTS:]
            if (before := watched.alert_count - len(last)) > 0:
                self.print(f"... {before:,} alerts before these (--alerts FILE keeps all)", "dim")
            for alert in last:
                self._print_alert(alert)

    def restore_terminal(self) -> None:
        """Give the terminal back if it takes that at once; for a signal handler that ends the process."""
        view = self._view
        if view is not None:
            view.leave(at_once=True)

    def line(self, text: str, style: str = "") -> None:
        """Say a line: in the view where there is one."""
        with self._lock:
            if self._watched is not None:
                for each in text.splitlines():
                    self._watched.note(each, style)
            else:
                self.print(text, style)

    def print(self, text: str, style: str = "") -> None:
        """Print a line on standard error, whether or not there is a view."""
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

    def alert(self, alert: "Alert") -> None:
        """Say an alert, unless more come than a person can follow; then say how many were left out."""
        now = time.monotonic()
        with self._lock:
            if self._watched is not None:
                self._watched.alert(alert)
                return
            if now - self._second_began >= 1.0:
                self._allowed, self._second_began = max(self._allowed, _ALERTS_PER_SECOND), now
                self._say_not_shown()
            if self._allowed < 1:
                self._not_shown += 1
                return
            self._allowed -= 1
            self._print_alert(alert)

    def _print_alert(self, alert: "Alert") -> None:
        self.print(str(alert), "bold red" if alert.kind == "rise" else "red")

    def _say_not_shown(self) -> None:
        if self._not_shown:
            self.print(f"... {self._not_shown:,} more alerts, too many to show (--alerts FILE keeps all)", "dim")
            self._not_shown = 0

    def progress(self, system: "F1TelemetrySystem", draining: bool) -> None:
        """Bring the view up to date; where there is none, say now and then how far a drain has come."""
        now = time.monotonic()
        if self._view is not None and self._watched is not None:
            self._draw(self._view, self._watched, draining, now)
        elif draining and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self.line(f"draining: {system.remaining} readings left")

    def _draw(self, view: "View", watched: Watched, draining: bool, now: float) -> None:
        if not view.due(now) and draining == self._draining:
            return
        self._draining = draining
        with self._lock:
            said = watched.said(now)
        try:
            view.draw(watched.progress(now, said, draining), now)
        except Exception:
            self._end_view()
            raise  # the caller tells it, and the run goes on

    def summary(self, lines: Iterable[str]) -> None:
        """Say the summary."""
        with self._lock:
            self._say_not_shown()
        for text in lines:
            self.line(text)


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
