"""Logs of CAN frames in every format, and their replay."""

import contextlib
import gzip
import io
import logging
import os
import sqlite3
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from numpy.typing import NDArray

from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.decoder import CanDecoder, reason_of, require_packages
from f1buf.telemetry.sources.can.formats.blf import blf_frames
from f1buf.telemetry.sources.can.formats.candump import candump_frames
from f1buf.telemetry.sources.can.formats.lines import asc_frames, csv_frames, is_screen, screen_frames, trc_frames
from f1buf.telemetry.sources.can.formats.mf4 import mf4_frames
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames, Row, framed, row_of
from f1buf.telemetry.sources.pace import Pace, due_pieces
from f1buf.telemetry.text import clean

__all__ = ["CanLog", "CanReplay", "can_log_format", "open_can_log"]

Array = NDArray[Any]

_START = 4096  # bytes that are looked at to see what a file is

# What a file starts with.
_MAGIC = {".blf": (b"LOGG",), ".db": (b"SQLite format 3\0",), ".mf4": (b"MDF ", b"UnFinMF ")}
_COMPRESSED = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class CanLog:
    """
    A log of CAN frames, opened by `open_can_log`; it holds no file open while nobody iterates.

    What is wrong with the file is an error where it contradicts itself, being damaged or cut off: there may be a whole
    one elsewhere. What came before is used, and then it raises. It is a note where nobody has a better file, as when
    the log's writer was killed, and where all that is there was read.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    frames_read : int
        How many frames `frames` has yielded since it began.
    rejected : collections.Counter
        How many it left out, by reason: see ``Frames.of_rows``, and what each format adds, such as "other event" (what
        is no frame: statistics, triggers, frames of another kind of bus).
    notes : list of str
        Lines for people on the log as a whole, and on what the libraries that read it said.

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
            Empty where a piece of the log holds none, so that the caller can stop there. Their timestamps [s] are
            Unix time, or in some formats since the log's start.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, or to hold no CAN frames at all though it is full of something else; the
            message says after which frame. What came before it was yielded.
        """
        self.frames_read = 0
        self.rejected.clear()
        self.notes.clear()
        libraries = _Libraries(can_log_format(self.path) == ".mf4")
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
        elif suffix not in _FORMATS:
            yield from framed(_rows_of_a_plugin(self.path, size), self.rejected)
        else:
            with _opened(self.path) as file:
                compressed = isinstance(file, gzip.GzipFile)
                if suffix == ".mf4":
                    source = io.BytesIO(file.read()) if compressed else str(self.path)
                    yield from mf4_frames(source, self.rejected, self.notes.append)
                elif suffix == ".blf":
                    yield from blf_frames(file, None if compressed else size, self.rejected, self.notes.append)
                elif suffix == ".asc":
                    yield from asc_frames(file, self.rejected, self.notes.append)
                else:
                    yield from _text_reader(file, suffix)(file, self.rejected)


_FORMATS = (".log", ".asc", ".blf", ".csv", ".db", ".trc", ".mf4")


def can_log_format(path: Path) -> str:
    """Return the format that a log's name says, such as ``.log`` of ``drive.log.gz``; of no CAN log the name's end."""
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
        elif suffix not in _FORMATS or (suffix == ".db" and path.suffix.lower() == ".gz"):
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
    """Open a file whose content, not its name, says whether it is compressed."""
    file = path.open("rb")
    if not file.peek(2).startswith(_COMPRESSED):
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path))


def _text_reader(file: BinaryIO, suffix: str) -> Callable[[BinaryIO, Counter[str]], Iterator[Frames]]:
    if suffix == ".log":
        return screen_frames if is_screen(file.peek(_START)) else candump_frames  # type: ignore[attr-defined]
    return {".csv": csv_frames, ".trc": trc_frames}[suffix]


def _sqlite_frames(path: Path, rejected: Counter[str]) -> Iterator[Frames]:
    """Read python-can's table of messages as it lies, row by row."""
    connection = sqlite3.connect(path, check_same_thread=False)  # a generator may be closed by another thread
    with contextlib.closing(connection):
        rows = connection.execute("SELECT * FROM messages")
        yield from framed(map(_row_of_table, rows), rejected)


def _row_of_table(row: tuple[Any, ...]) -> Row:
    time, can_id, extended, remote, error, _, data = row
    return time, can_id, EXTENDED * bool(extended) | REMOTE * bool(remote) | ERROR * bool(error), None, data or b""


_MOST_COMPRESSED = 1032  # to how many bytes deflate can expand one


def _rows_of_a_plugin(path: Path, size: int) -> Iterator[Row]:
    """Read a log by python-can, in a format that it does not know by itself."""
    import can

    with can.LogReader(path) as reader:
        for number, message in enumerate(reader):
            if number >= size * _MOST_COMPRESSED:
                raise ValueError("python-can's reader repeats itself: more frames than the file's bytes can hold")
            yield row_of(message)


_LONGEST_NOTE = 200  # characters


class _Libraries(logging.Handler):
    """
    Counts what the libraries that read logs say, in their logs and as warnings, while a ``with`` statement runs.

    Nobody would see it otherwise: the command mutes python-can, whose lines would come between its own, and asammdf
    keeps what is less than an error to itself.

    Parameters
    ----------
    measurement : bool
        Whether asammdf reads. Its logger and Python's filters of warnings, which belong to all threads, are changed
        for that: such logs are read one at a time, each piece for itself; and what other threads warn of meanwhile is
        taken for asammdf's, and not printed.
    """

    _MOST = 20  # different ones
    _one_at_a_time = threading.Lock()

    def __init__(self, measurement: bool) -> None:
        super().__init__(logging.WARNING)
        self._measurement = measurement
        self._until_exit = contextlib.ExitStack()
        self._caught: list[warnings.WarningMessage] = []
        self._counts: Counter[str] = Counter()
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        if self._measurement:
            self._until_exit.enter_context(self._one_at_a_time)
            self._until_exit.enter_context(self._instead_of_others(logging.getLogger("asammdf")))
            self._caught = self._until_exit.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
        else:
            logging.getLogger("can").addHandler(self)
            self._until_exit.callback(logging.getLogger("can").removeHandler, self)

    def __exit__(self, *_: object) -> None:
        self._until_exit.close()
        for each in self._caught:
            self._count("asammdf warns", str(each.message))
        self._caught = []

    @contextlib.contextmanager
    def _instead_of_others(self, logger: logging.Logger) -> Iterator[None]:
        handlers, level, propagate = logger.handlers, logger.level, logger.propagate
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._count("asammdf says" if self._measurement else "python-can says", record.getMessage())

    def _count(self, who: str, text: str) -> None:
        line = f"{who}: {clean(' '.join(text.split()))[:_LONGEST_NOTE]}"
        self._counts[line if line in self._counts or len(self._counts) < self._MOST else "and more"] += 1

    def said(self) -> list[str]:
        return [line if count == 1 else f"{line} ({count:,} times)" for line, count in self._counts.items()]


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
        pace = None if self._speed is None else Pace(self._speed)
        for frames in self._log.frames():
            for piece in [slice(None)] if pace is None else due_pieces(frames.timestamp, pace, stop):
                if stop.is_set():
                    return
                readings = self._decoder.decode(frames[piece])
                if len(readings):
                    yield readings
