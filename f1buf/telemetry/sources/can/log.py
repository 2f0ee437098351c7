"""Logs of CAN frames in every format, and their replay."""

import contextlib
import gzip
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from numpy.typing import NDArray

from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.database import reason_of, require_packages
from f1buf.telemetry.sources.can.decoder import CanDecoder
from f1buf.telemetry.sources.can.formats.asc import asc_frames
from f1buf.telemetry.sources.can.formats.blf import blf_frames
from f1buf.telemetry.sources.can.formats.candump import candump_frames
from f1buf.telemetry.sources.can.formats.csv import csv_frames
from f1buf.telemetry.sources.can.formats.mf4 import mf4_frames
from f1buf.telemetry.sources.can.formats.screen import is_screen, screen_frames
from f1buf.telemetry.sources.can.formats.trc import trc_frames
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames, Row, framed, row_of
from f1buf.telemetry.sources.can.libraries import Libraries
from f1buf.telemetry.sources.schedule import Schedule, due_pieces

__all__ = ["CanLog", "CanReplay", "can_log_format", "open_can_log"]

Array = NDArray[Any]

_START = 4096  # bytes that tell what a .log file is
_MAGIC = {".blf": (b"LOGG",), ".db": (b"SQLite format 3\0",), ".mf4": (b"MDF ", b"UnFinMF ")}
_COMPRESSED = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class CanLog:
    """
    A log of CAN frames, opened by `open_can_log`; it holds no file open while nobody iterates.

    A file that contradicts itself, being damaged or cut off, is an error: there may be a whole one elsewhere. What came
    before is used first. It is a note where there is no better file, as when the log's writer was killed, and all that
    is there was read.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    frames_read : int
        How many frames `frames` has yielded since it began.
    rejected : collections.Counter
        How many frames it left out, by reason: see ``Frames.of_rows`` and ``f1buf.telemetry.sources.can.formats``.
        "Other event" is what is no frame: statistics, triggers, frames of another kind of bus.
    notes : list of str
        Lines for people on the log as a whole, and what the libraries that read it said.

    Notes
    -----
    One thread at a time may iterate; others may read copies of the attributes meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames_read = 0
        self.rejected: Counter[str] = Counter()
        self.notes: list[str] = []

    def frames(self) -> Iterator[Frames]:
        """Iterate over the log, in its order, some thousand frames at once.

        Yields
        ------
        Frames
            Their timestamps [s] are Unix time, or in some formats count from the log's start. It may be none, where a
            piece of the log holds none: so that the caller can stop there.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, or to be full of something else than CAN frames; the message says after
            which frame. The frames before that were yielded.
        """
        self.frames_read = 0
        self.rejected.clear()
        self.notes.clear()
        libraries = Libraries(can_log_format(self.path) == ".mf4")
        try:
            with contextlib.closing(self._read()) as reader:
                while True:
                    with libraries:
                        frames = next(reader, None)
                    if frames is None:
                        break
                    self.frames_read += len(frames)
                    yield frames
        except RecordingError:
            raise
        except Exception as error:  # each format fails in ways of its own
            raise RecordingError(
                f"{self.path}: damaged or no CAN log (after frame {self.frames_read}): {reason_of(error)}"
            ) from error
        finally:
            self.notes += libraries.said()

    def _read(self) -> Generator[Frames, None, None]:
        size = _checked_size(self.path)
        suffix = can_log_format(self.path)
        if suffix == ".db":
            yield from _sqlite_frames(self.path, self.rejected)
        elif suffix in _READERS:
            with _opened(self.path) as file:
                yield from _READERS[suffix](file, self.rejected, self.notes.append)
        else:
            yield from framed(_rows_of_a_plugin(self.path, size), self.rejected)


def _log_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    screen = is_screen(file.peek(_START))  # type: ignore[attr-defined]
    return screen_frames(file, rejected) if screen else candump_frames(file, rejected, note)


_READERS: dict[str, Callable[[BinaryIO, Counter[str], Callable[[str], None]], Iterator[Frames]]] = {
    ".asc": asc_frames,
    ".blf": blf_frames,
    ".csv": csv_frames,
    ".log": _log_frames,
    ".mf4": mf4_frames,
    ".trc": trc_frames,
}


def can_log_format(path: Path) -> str:
    """Return the format that a log's name says, such as ``.log`` of ``drive.log.gz``; of another file its suffix."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def open_can_log(path: str | os.PathLike[str]) -> CanLog:
    """Open a log of CAN frames for reading.

    Parameters
    ----------
    path : path-like
        Its name says the format: ``.log`` (candump -L or -ta), ``.asc``, ``.blf``, ``.csv`` (of python-can, SavvyCAN or
        the CANedge), ``.db`` (SQLite), ``.trc``, ``.mf4`` (with python-can's extra ``mf4``), or one that a plug-in of
        python-can reads. All but ``.db`` may be compressed by gzip, such as ``.log.gz``.

    Raises
    ------
    RecordingError
        There is no such file, the format is not known or a package for it is missing, or it is something else.
    CanError
        python-can or cantools is missing.
    """
    require_packages()
    path = Path(path)
    _checked_size(path)
    suffix = can_log_format(path)
    try:
        if suffix == ".mf4":
            _require_asammdf()
        elif suffix not in (*_READERS, ".db") or (suffix == ".db" and path.suffix.lower() == ".gz"):
            import can

            can.LogReader(path).stop()
    except Exception as error:
        raise RecordingError(f"{path}: no CAN log that can be read: {reason_of(error)}") from error
    return CanLog(path)


def _require_asammdf() -> None:
    try:
        import asammdf  # noqa: F401
    except ImportError as error:
        raise ValueError(f"it needs asammdf ({error}): pip install 'python-can[mf4]'") from error


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
    suffix = can_log_format(path)
    magic = _MAGIC.get(suffix)
    if magic is not None and not start.startswith((*magic, _COMPRESSED)):
        raise RecordingError(f"{path}: no CAN log in the format that its name says, {suffix}")
    if magic is None and start.startswith(_UTF_16):
        raise RecordingError(f"{path}: text in UTF-16; expected UTF-8: convert it, as by iconv -f utf-16 -t utf-8")
    return status.st_size


def _opened(path: Path) -> BinaryIO:
    """Open a file; its content, not its name, says whether it is compressed."""
    file = path.open("rb")
    if not file.peek(2).startswith(_COMPRESSED):
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path))


def _sqlite_frames(path: Path, rejected: Counter[str]) -> Iterator[Frames]:
    """Read python-can's table of messages, row by row."""
    import sqlite3  # not every Python has it; without it there is no python-can, either

    connection = sqlite3.connect(path, check_same_thread=False)  # a generator may be closed by another thread
    with contextlib.closing(connection):
        rows = connection.execute("SELECT * FROM messages")
        yield from framed(map(_row_of_table, rows), rejected)


def _row_of_table(row: tuple[Any, ...]) -> Row:
    time, can_id, extended, remote, error, _, data = row
    return time, can_id, EXTENDED * bool(extended) | REMOTE * bool(remote) | ERROR * bool(error), None, data or b""


_MOST_COMPRESSED = 1032  # bytes that deflate can make of one


def _rows_of_a_plugin(path: Path, size: int) -> Iterator[Row]:
    """Read a log by python-can, in a format that it does not know by itself."""
    import can

    with can.LogReader(path) as reader:
        for number, message in enumerate(reader):
            if number >= size * _MOST_COMPRESSED:
                raise ValueError("python-can's reader repeats itself: more frames than the file's bytes can hold")
            yield row_of(message)


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
    """

    def __init__(self, log: CanLog, decoder: CanDecoder, speed: float | None = 1.0) -> None:
        self.name = f"replay of {log.path.name}"
        self._log = log
        self._decoder = decoder
        self._speed = speed

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they become due."""
        try:
            yield from self._batches(stop)
        finally:
            self._decoder.finish()

    def _batches(self, stop: threading.Event) -> Iterator[Array]:
        schedule = None if self._speed is None else Schedule(self._speed)
        for frames in self._log.frames():
            for piece in [slice(None)] if schedule is None else due_pieces(frames.timestamp, schedule, stop):
                if stop.is_set():
                    return
                readings = self._decoder.decode(frames[piece])
                if len(readings):
                    yield readings
