"""Draws frames on a terminal, and leaves it as it was.

rich.live does the first only: it takes a lock, which a signal handler that ends the process must not wait for, and it
keeps the screen while the job is stopped.
"""

import os
import select
import signal
import time
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.segment import Segment, Segments

from f1buf.command.progress import Progress
from f1buf.command.view.board import Board
from f1buf.command.view.drawing import Line, in_ascii
from f1buf.command.view.layout import frame

_FRAME_SECONDS = 0.25  # [s] between two frames at least
_REST = 30.0  # while the sources are at work there is no frame for this many times as long as the last one took
_LONGEST_REST = 1.0  # [s]
_ENTER = b"\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE = b"\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l"  # cleared: there are terminals with only one screen
_USUAL_SIZE = os.terminal_size((80, 24))  # where the terminal does not know


def printable(lines: list[Line]) -> Segments:
    """Return lines as rich prints them."""
    first, *others = lines
    return Segments([*first, *[segment for line in others for segment in (Segment.line(), *line)]])


class View:
    """
    Draws frames of a board on the console's terminal; for the main thread alone.

    It takes the alternate screen with the first frame. While the process is stopped by Ctrl-Z or in the background, the
    terminal is the shell's.
    """

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board
        self._fd = console.file.fileno()
        self._unicode = console.encoding.startswith("utf")
        self._entered = False
        self._due = 0.0  # when the next frame may come
        self._handler = signal.getsignal(signal.SIGTSTP)
        if self._handler is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._on_stop)

    def due(self, now: float) -> bool:
        """Whether it is time for a frame."""
        return now >= self._due

    def draw(self, progress: Progress, now: float) -> None:
        """Draw a frame; `now` is on the clock of `due`."""
        began = time.perf_counter()
        self._board.update(now)
        if self._in_foreground():
            self._show(frame(self._board, progress, *self._size()))
        rest = min(_REST * (time.perf_counter() - began), _LONGEST_REST) if progress.draining is None else 0.0
        self._due = now + max(_FRAME_SECONDS, rest)

    def _size(self) -> os.terminal_size:
        size = os.get_terminal_size(self._fd)
        return size if min(size) > 0 else _USUAL_SIZE

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # not the terminal that controls the process
            return True

    def _show(self, lines: list[Line]) -> None:
        if not self._unicode:
            lines = [[Segment(in_ascii(text), style) for text, style, _ in line] for line in lines]
        if not self._entered:
            self._entered = True
            os.write(self._fd, _ENTER)
        # The terminal echoes typed text at the cursor; at home that scrolls nothing.
        self._console.print(Control.home(), printable(lines), Control.home(), end="", soft_wrap=True)

    def leave(self, *, at_once: bool = False) -> None:
        """Give the terminal back as it was, until the next frame; also for signal handlers.

        Where the terminal is gone, nothing happens; with `at_once` also where it takes nothing just now.
        """
        if not self._entered:
            return
        self._entered = False
        with suppress(OSError):
            if not at_once or select.select([], [self._fd], [], 0)[1]:
                os.write(self._fd, _LEAVE)

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        signal.signal(signal.SIGTSTP, self._handler)

    def _on_stop(self, signum: int, frame: Any) -> None:
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
