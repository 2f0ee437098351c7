"""Logs of CAN frames, read by python-can, and their replay."""

import io
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from f1buf.telemetry.sources.can_database import CanDecoder, reason_of, require_packages
from f1buf.telemetry.sources.can_frames import Frames
from f1buf.telemetry.sources.pace import Pace, wait_until
from f1buf.telemetry.sources.recording import RecordingError

if TYPE_CHECKING:
    import can
    from can.io.generic import MessageReader

__all__ = ["CanLog", "CanReplay", "open_can_log"]

Array = NDArray[Any]

_AT_ONCE = 4096  # frames

# What a file starts with. python-can finds out by itself, but leaves files that are something else open.
_MAGIC = {".blf": (b"LOGG",), ".db": (b"SQLite format 3\0",), ".mf4": (b"MDF ", b"UnFinMF ")}


class CanLog:
    """
    A log of CAN frames, opened by `open_can_log`; it holds no file open while nobody iterates.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    rejected : collections.Counter
        How many frames `frames` left out, by reason: see `Frames.of_messages`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()

    def frames(self) -> Iterator[Frames]:
        """Iterate over the log, in its order, some thousand frames at once.

        Yields
        ------
        Frames
            Their timestamps [s] are as python-can reads them: Unix time, or in some formats since the log's start.

        Raises
        ------
        RecordingError
            The file turns out to be damaged; the message says after which frame. What came before it was yielded.
        """
        number = 0
        messages: list[can.Message] = []
        failure = None
        try:
            with _reader(self.path) as reader:
                for message in reader:
                    number += 1
                    messages.append(message)
                    if len(messages) == _AT_ONCE:
                        yield Frames.of_messages(messages, self.rejected)
                        messages.clear()
        except RecordingError:
            raise
        except Exception as error:  # each format fails in ways of its own
            failure = error
        if messages:
            yield Frames.of_messages(messages, self.rejected)
        if failure is not None:
            raise RecordingError(
                f"{self.path}: damaged or no CAN log (after frame {number}): {reason_of(failure)}"
            ) from failure


def open_can_log(path: str | os.PathLike[str]) -> CanLog:
    """Open a log of CAN frames for reading.

    Parameters
    ----------
    path : path-like
        Its name says the format: ``.log`` (candump -L), ``.asc``, ``.blf``, ``.csv``, ``.db`` (SQLite), ``.trc``,
        ``.mf4`` (with python-can's extra ``mf4``); most may be compressed, such as ``.log.gz``.

    Raises
    ------
    RecordingError
        There is no such file, python-can does not know the format or lacks a package for it, or it is something else.
    CanError
        python-can or cantools is missing.
    """
    require_packages()
    path = Path(path)
    with _reader(path):
        return CanLog(path)


def _reader(path: Path) -> "MessageReader":
    """Open a log; in the thread that reads it, for SQLite wants that."""
    import can

    size = _checked_size(path)
    try:
        reader = can.LogReader(path)
    except Exception as error:
        raise RecordingError(f"{path}: no CAN log that can be read: {reason_of(error)}") from error
    if isinstance(reader, can.BLFReader) and reader.file_size > size and path.suffix.lower() == ".blf":
        # It would take the frames up to there for all, or for damage.
        reader.stop()
        raise RecordingError(
            f"{path}: cut off: {size:,} bytes, expected {reader.file_size:,} by its header; copy it again"
        )
    file = getattr(reader, "file", None)
    if isinstance(file, io.TextIOWrapper):
        # Comments and the names of months are in whatever encoding the logger used; the frames are ASCII.
        file.reconfigure(encoding="utf-8", errors="replace")
    return reader


def _checked_size(path: Path) -> int:
    """Return the file's size in bytes if it can be read and starts as its name says."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise RecordingError(f"{path}: not a regular file; expected a CAN log")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected a CAN log") from error
    magic = _MAGIC.get(path.suffix.lower())
    if magic is not None and not start.startswith(magic):
        raise RecordingError(f"{path}: no CAN log in the format that its name says, {path.suffix}")
    return status.st_size


class CanReplay:
    """
    A log's frames, decoded in their order.

    Parameters
    ----------
    log : CanLog
        What to read.
    decoder : CanDecoder
        What turns frames into readings, and counts those that it cannot use.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    select : callable, optional
        Returns the frames that are asked for, such as a `Selection`; without it all are.
    """

    def __init__(
        self,
        log: CanLog,
        decoder: CanDecoder,
        speed: float | None = 1.0,
        select: Callable[[Frames], Frames] = lambda frames: frames,
    ) -> None:
        self.name = f"replay of {log.path.name}"
        self._log = log
        self._decoder = decoder
        self._speed = speed
        self._select = select

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they become due."""
        try:
            yield from self._batches(stop)
        finally:
            self._decoder.finish()

    def _batches(self, stop: threading.Event) -> Iterator[Array]:
        pace = None if self._speed is None else Pace(self._speed)
        for frames in map(self._select, self._log.frames()):
            for due in [frames] if pace is None else _paced(frames, pace, stop):
                if stop.is_set():
                    return
                readings = self._decoder.decode(due)
                if len(readings):
                    yield readings


def _paced(frames: Frames, pace: Pace, stop: threading.Event) -> Iterator[Frames]:
    """Yield frames in pieces: all that is due together; fewer than there are once `stop` is set."""
    begin = 0
    for end, timestamp in enumerate(frames.timestamp.tolist()):
        due = pace.due(timestamp)
        if due > time.monotonic():
            if end > begin:
                yield frames[begin:end]
                begin = end
            if wait_until(due, stop):
                return
    yield frames[begin:]
