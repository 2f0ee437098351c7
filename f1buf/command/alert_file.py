"""Alerts as JSON lines, in a file or on standard output."""

import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from f1buf.command.status import UsageError
from f1buf.command.streams import silence, stdout_knows_unicode
from f1buf.telemetry import Alert


class AlertFile:
    """Writes alerts as JSON lines to a new file, or to standard output for ``"-"``; from any thread.

    A write that fails is remembered, and the analysis goes on. Where `kept` is given the file is an earlier run's, and
    goes on behind so many bytes: what is behind them will be written again.
    """

    def __init__(self, path: str, kept: int | None = None) -> None:
        self.error: OSError | None = None
        self._name = "standard output" if path == "-" else path
        self._ascii = path == "-" and not stdout_knows_unicode()
        if path == "-" and sys.stdout is None:
            self.error = OSError(errno.EBADF, "closed")
        self._lock = threading.Lock()
        try:
            if path == "-":
                self._file: TextIO = sys.stdout
            else:
                self._file = opened_new(path) if kept is None else opened_again(path, kept)
        except OSError as error:
            raise UsageError(f"--alerts {path}: cannot be written: {error.strerror}") from None

    def write(self, alert: Alert) -> None:
        """Write one alert; `flush` makes it visible."""
        self._attempt(lambda: self._file.write(alert.as_json(ensure_ascii=self._ascii) + "\n"))

    def flush(self) -> None:
        """Hand on to the system what was written."""
        self._attempt(lambda: self._file.flush())

    def bring_to_disk(self) -> int:
        """Return how many bytes of the file are on the disk: all that was written.

        Raises
        ------
        OSError
            Some alerts could not be written, now or before.
        """
        self.flush()
        there = os.fstat(self._file.fileno())
        if stat.S_ISREG(there.st_mode):
            self._attempt(lambda: os.fsync(self._file.fileno()))
        if self.error is not None:
            raise self.error
        return there.st_size

    def close(self) -> str | None:
        """Close the file; return what went wrong so far, or None."""
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
        lock(path, descriptor)
        refuse_what_holds_something(path, os.fstat(descriptor))
    except UsageError:
        os.close(descriptor)
        raise
    return open(descriptor, "w", encoding="utf-8")


def opened_again(path: str, kept: int) -> TextIO:
    """Open an earlier run's file, to go on behind so many bytes."""
    expected = f"expected the file to which an earlier run wrote {kept:,} bytes: bring it back, or choose another name"
    try:
        descriptor = os.open(path, os.O_WRONLY | (0 if kept else os.O_CREAT), 0o666)
    except FileNotFoundError:
        raise UsageError(f"--alerts {path}: is not there; {expected}") from None
    try:
        lock(path, descriptor)
        there = os.fstat(descriptor)
        if stat.S_ISREG(there.st_mode):
            if there.st_size < kept:
                raise UsageError(f"--alerts {path}: has {there.st_size:,} bytes; {expected}")
            os.ftruncate(descriptor, kept)
            os.lseek(descriptor, kept, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return open(descriptor, "w", encoding="utf-8")


def lock(path: str, descriptor: int) -> None:
    """Refuse a file to which another run writes; the lock lasts as long as the file is open."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"--alerts {path}: another run writes to it; choose another file") from None
    except OSError:  # a file system without locks
        pass


def refuse_what_holds_something(path: str, there: os.stat_result) -> None:
    """Refuse a file with something in it."""
    if stat.S_ISREG(there.st_mode) and there.st_size > 0:
        raise UsageError(f"--alerts {path}: holds something already; choose another file, or remove that one")
