"""Recordings of readings, read from a folder of Parquet files, as `f1buf.telemetry.recorder.Recorder` writes them.

Reading them needs pyarrow. A folder may be read while it is still recorded to: the parts count that are there when it
is opened. Hidden files, which a crash leaves behind, are not read. A single part can be read, too.

Every byte of a part is compared with the checksums that its recorder wrote (`f1buf.telemetry.parts`), and the name of a
part with the number in it: a part that is damaged or has another one's name is refused; what is missing is counted.
Older recordings, without checksums or these numbers, are read all the same, with a note.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from f1buf.telemetry.described import DescribedSensors, DescribingSource
from f1buf.telemetry.sessions import checked_session, is_wanted, with_session
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.schedule import Schedule, due_pieces

if TYPE_CHECKING:
    from f1buf.telemetry.parts import Footer, Rows

__all__ = ["PART_NAME", "ParquetRecording", "ParquetReplay", "open_parquet"]

PART_NAME = re.compile(r"part-(\d{6,})\.parquet")
ROWS = 65_536  # readings read together
_GAPS = 10  # that an error names
_BATCH = 4096  # readings put together


class ParquetRecording:
    """A recording of readings, opened by `open_parquet`. It keeps no file open.

    Attributes
    ----------
    path : pathlib.Path
        The folder or part, as it was given.
    source : str
        Where the readings came from; for people.
    thresholds : tuple of Threshold
        What they were checked against when they were recorded.
    count : int
        How many readings it has.
    rejected : collections.Counter
        What is missing: "missing part" counts the parts before the last one that are not there; "missing end" is 1 if
        the last one is not the end of the recording.
    notes : list of str
        Lines for people on what else there is to know.
    """

    def __init__(
        self,
        path: Path,
        parts: "list[Footer]",
        missing: list[tuple[int, int]],
        *,
        whole: bool,
        damage: RecordingError | None = None,
    ) -> None:
        self.path = path
        self.source = parts[-1].source
        self.thresholds = parts[-1].thresholds
        self.count = sum(part.rows for part in parts)
        self.rejected: Counter[str] = Counter()
        self.notes: list[str] = []
        self._parts = parts
        self._missing = missing
        self._damage = damage  # of the part behind these
        if missing:
            self.rejected["missing part"] = sum(last - first + 1 for first, last in missing)
        if whole and parts[-1].last is False and damage is None:
            self.rejected["missing end"] = 1
            self.notes.append("the recording goes on: it is still recorded, was cut off, or its last parts are missing")
        if any(part.data is None for part in parts):
            self.notes.append(
                "an older f1buf recorded it, without checksums: damage, wrong names and a missing end go unnoticed"
            )
        elif whole and any(part.number is None for part in parts):
            self.notes.append("an older f1buf recorded it, without numbers in its parts: wrong names go unnoticed")

    def batches(self, is_wanted: Callable[[int], bool] | None = None) -> "Iterator[Rows]":
        """Iterate over the recording, in the order in which it was recorded.

        Parameters
        ----------
        is_wanted : callable, optional
            Whether the readings of a session, by its number, are wanted; None for all readings.

        Yields
        ------
        (ndarray of READING, dict, dict)
            Up to 65,536 readings, the caller's own, their channels numbered as in this process; what was known of
            their sensors (``car``, ``driver``, ``lap``, ``part``, ``session``) by ``sensor_id << 16 | flags``; and how
            many readings of each other session were left out, None standing for no session.

        Raises
        ------
        RecordingError
            A part is damaged, or has been removed; or, when all were read, parts are missing. What came before was
            yielded.
        """
        from f1buf.telemetry.parts import read_rows

        for part in self._parts:
            yield from read_rows(part, ROWS, is_wanted)
        if self._damage is not None:
            raise self._damage
        if self._missing:
            raise RecordingError(f"{self.path}: {self._what_is_missing()}; the others were read: copy the folder again")

    def _what_is_missing(self) -> str:
        gaps = [f"{first}" + (f" to {last}" if last > first else "") for first, last in self._missing[:_GAPS]]
        more = " and others" if len(self._missing) > _GAPS else ""
        return f"missing parts: {', '.join(gaps)}{more}"


def open_parquet(path: str | os.PathLike[str]) -> ParquetRecording:
    """Open a recording for reading; its channels are created in this process.

    Parameters
    ----------
    path : path-like
        A folder with a file ``part-000001.parquet`` and so on; or one such file, of any name.

    Returns
    -------
    ParquetRecording
        Of the parts that are there now. Nothing needs to be closed.

    Raises
    ------
    RecordingError
        There is no such folder, no part in it, the first part is damaged or not f1buf's or of a newer version, a part
        is of another recording than the first one or has another part's name, or pyarrow is not installed. (Where a
        later part is damaged, those before it are read.)
    """
    path = Path(path)
    whole = not path.is_file()
    found = _parts_in(path) if whole else [(1, path)]
    try:
        from f1buf.telemetry.parts import read_footer
    except ImportError:
        raise RecordingError(f"{path}: reading it needs pyarrow: pip install 'f1buf[record]'") from None
    parts: list[Footer] = []
    damage: RecordingError | None = None
    for number, each in found:
        try:
            parts.append(read_footer(each))
        except RecordingError as error:
            if not parts:
                raise
            damage = error
            break
        if whole:
            _check_place(parts, number)
    gaps = [(before + 1, number - 1) for before, number in pairwise([0, *(number for number, _ in found)])]
    missing = [(first, last) for first, last in gaps if first <= last]
    return ParquetRecording(path, parts, missing, whole=whole, damage=damage)


def _parts_in(folder: Path) -> list[tuple[int, Path]]:
    """Return the number and path of each part, in their order."""
    try:
        found = [(int(match[1]), folder / name) for name in os.listdir(folder) if (match := PART_NAME.fullmatch(name))]
    except OSError as error:
        raise RecordingError(f"{folder}: {error.strerror}; expected a folder with the parts of a recording") from error
    if not found:
        raise RecordingError(f"{folder}: holds no part of a recording; expected part-000001.parquet and so on")
    found.sort()
    for (before, other), (number, path) in pairwise(found):
        if number == before:
            raise RecordingError(f"{path}: has the number of {other.name}, too; expected each once: move one away")
    return found


def _check_place(parts: "list[Footer]", number: int) -> None:
    """Refuse the last of these parts if it does not follow the others, or is not what its name says."""
    first, part = parts[0], parts[-1]
    if part.recording != first.recording:
        raise RecordingError(
            f"{part.path}: is of another recording than {first.path.name}; expected one recording in a folder: "
            "move its parts apart"
        )
    if part.number not in (None, number):
        raise RecordingError(
            f"{part.path}: is part {part.number} under the name of part {number}; "
            f"rename it part-{part.number:06}.parquet, or move it away if that is there"
        )
    if len(parts) > 1 and parts[-2].last:
        raise RecordingError(
            f"{part.path}: comes after {parts[-2].path.name}, with which the recording ended; move it away"
        )


class ParquetReplay(DescribingSource):
    """
    A recording's readings, in their order.

    Parameters
    ----------
    recording : ParquetRecording
        What to play.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    session : str or int, optional
        The one session to play: its number, or the last digits of it, four at least.

    Attributes
    ----------
    rejected : collections.Counter
        The recording's, and how many readings were left out, of an "other session" or of "no session".
    sessions : tuple of int
        The game's numbers of the sessions that readings came of, in that order: the latest 16.
    session : str or None
        The choice of one, as it was given.
    others : tuple of int
        The sessions that were left out: the latest 16.

    Raises
    ------
    ValueError
        `session` is no such number.
    """

    def __init__(
        self, recording: ParquetRecording, speed: float | None = 1.0, session: str | int | None = None
    ) -> None:
        super().__init__(DescribedSensors())
        self.name = f"replay of {recording.path.name}"
        self.rejected = Counter(recording.rejected)
        self.session = checked_session(session)
        self.others: tuple[int, ...] = ()
        self._recording = recording
        self._speed = speed
        self._is_wanted = None if self.session is None else partial(is_wanted, wanted=self.session)

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield readings as they become due."""
        schedule = None if self._speed is None else Schedule(self._speed)
        for readings, described, passed_over in self._recording.batches(self._is_wanted):
            if stop.is_set():
                return
            for session, count in passed_over.items():
                self.rejected["no session" if session is None else "other session"] += count
                if session is not None:
                    self.others = with_session(self.others, session)
            self._sensors.remember(described)
            for piece in [slice(None)] if schedule is None else due_pieces(readings["timestamp"], schedule, stop):
                due = readings[piece]
                for start in range(0, len(due), _BATCH):
                    if stop.is_set():
                        return
                    yield due[start : start + _BATCH]
