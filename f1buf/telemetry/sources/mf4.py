"""ASAM's measurement files (``.mf4``) with ordinary signals as a source, by asammdf.

Each signal that is a number is a sensor, whose channel has the signal's name and unit; its part is the name of the
signal's source, or of its group. Where a conversion has only texts for the numbers, the numbers are read as they are
stored. The channels are known once the file is open, so that thresholds may name them. Times are the file's start and
the sample's time together: Unix time, or what it was in a file that `f1buf export` has written. Frames of a CAN bus in
it are not read: `f1buf.telemetry.sources.can.log`.

Of each signal a piece is in memory at a time: a fragment of `PIECE` bytes, and the block of the file that it is of.
"""

import os
from collections import Counter
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import MAX_CHANNELS, Channel
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.database import reason_of
from f1buf.telemetry.sources.can.formats.mf4 import kind_of, open_mdf
from f1buf.telemetry.sources.can.libraries import Libraries
from f1buf.telemetry.sources.merging import merged
from f1buf.telemetry.sources.played import Sensors
from f1buf.telemetry.text import clean

__all__ = ["Mf4Recording", "open_mf4"]

Array = NDArray[Any]

PIECE = 1 << 16  # bytes of a channel group read at once; tests make it smaller
_EXACT = 1 << 53  # float64 holds every whole number up to it
_NAMED, _SHOWN = 3, 40  # signals that a note names, and characters of each name
_TIMES = 0, 1  # what a master channel is synchronized with: not said, time. Others: angle, distance, index.
_REMOTE_MASTER = 8  # flag of a channel group whose master is another group's
_NONE, _LINEAR, _BITS = 0, 1, 11  # conversions of version 4, the last one to a text for each bit
_TO_TEXT = {"3": (11, 12), "4": (7, 8, 11)}  # by the format's version the conversions of numbers to texts


class Mf4Recording:
    """A measurement file, opened by `open_mf4`; it holds no file open while nobody iterates.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    rejected : collections.Counter
        How many samples were not used, by reason: "absurd timestamp", "sample that is marked invalid", "integer that
        float64 does not hold", "sample that is a text".
    notes : list of str
        Lines for people on what else there is to know: signals that are no numbers or have no times, and what asammdf
        said.
    sensors : Sensors
        What is known of the sensors whose readings have been yielded.

    Notes
    -----
    One thread at a time may iterate.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        self.notes: list[str] = []
        self.sensors = Sensors()

    def batches(self) -> Generator[Array, None, None]:
        """Iterate over the file, by time.

        Yields
        ------
        ndarray of READING
            Some thousand readings; there may be none.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, to hold nothing but frames of CAN, or more different signals than f1buf
            can tell apart. What came before was yielded.
        """
        self.rejected.clear()
        self.notes.clear()
        libraries = Libraries(measurement=True)
        try:
            with closing(self._read()) as reader:
                while True:
                    with libraries:
                        readings = next(reader, None)
                    if readings is None:
                        return
                    yield readings
        except RecordingError:
            raise
        except Exception as error:  # the library fails in many ways
            raise RecordingError(f"{self.path}: damaged or no measurement file: {reason_of(error)}") from error
        finally:
            self.notes += libraries.said()

    def _learn(self) -> None:
        """Make the channels known by a look at each signal; what is wrong with the file the next reader is told."""
        with suppress(RecordingError), closing(self.batches()) as batches:
            next(batches, None)
        self.rejected.clear()
        self.notes.clear()
        self.sensors = Sensors()

    def _read(self) -> Generator[Array, None, None]:
        with open_mdf(self.path) as file:
            file.configure(read_fragment_size=PIECE)
            signals, frames = [], 0
            others: list[str] = []
            timeless: list[str] = []
            for number, group in enumerate(file.groups):
                count = group.channel_group.cycles_nr
                if kind_of(group) is not None:
                    frames += count
                    continue
                places = set(range(len(group.channels))) - {file.masters_db.get(number)} if count else ()
                if places and not _has_times(file, number):
                    timeless += [group.channels[index].name for index in sorted(places)]
                    continue
                for index in sorted(places):
                    signal = _Signal(file, number, index, self.rejected)
                    if signal.is_number:
                        self._tell(signal)
                        signals.append(signal)
                    else:
                        others.append(group.channels[index].name)
            if frames and not signals:
                raise RecordingError(
                    f"{self.path}: frames of CAN, and no signals; expected a database that names them: --dbc FILE"
                )
            if frames:
                self.notes.append(f"{frames:,} frames of CAN in it are not read: they need a database, --dbc FILE")
            if others:
                self.notes.append(
                    f"{len(others):,} signals that are no numbers, but texts or arrays, are not read: {_named(others)}"
                )
            if timeless:
                self.notes.append(
                    f"{len(timeless):,} signals that go by an angle, a distance or an index, and not by time, are not "
                    f"read: {_named(timeless)}"
                )
            if signals:
                yield from merged(signals, _joined, lambda readings: readings["timestamp"])

    def _tell(self, signal: "_Signal") -> None:
        try:
            signal.tell(self.sensors)
        except OverflowError:
            raise RecordingError(
                f"{self.path}: more than {MAX_CHANNELS:,} different signals, the most that f1buf can tell apart; save "
                "the signals that are needed in a file of their own, and read that"
            ) from None


def _named(names: list[str]) -> str:
    """Return the first ones of some names."""
    said = [clean(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...") for name in names[:_NAMED]]
    return ", ".join(said) + (", ..." if len(names) > _NAMED else "")


def _has_times(file: Any, number: int) -> bool:
    """Return whether a channel group's samples go by time."""
    group = file.groups[number]
    if getattr(group.channel_group, "flags", 0) & _REMOTE_MASTER:
        return _has_times(file, group.channel_group.cg_master_index)
    master = file.masters_db.get(number)
    # Version 3 has no masters but times.
    return master is not None and getattr(group.channels[master], "sync_type", _TIMES[0]) in _TIMES


def _joined(pieces: list[Array]) -> Array:
    return np.concatenate([np.empty(0, READING), *pieces])


def _is_number(samples: Array) -> bool:
    return samples.dtype.kind in "buif" and samples.ndim == 1


def _is_unity(conversion: Any) -> bool:
    """Return whether a conversion that another one refers to leaves numbers as they are."""
    kind = conversion.conversion_type
    return kind == _NONE or (kind == _LINEAR and (conversion.a, conversion.b) == (1, 0))


class _Signal:
    """A signal, read piece by piece; `left` is 0 once all was returned."""

    def __init__(self, file: Any, group: int, index: int, rejected: Counter[str]) -> None:
        self.left: int = file.groups[group].channel_group.cycles_nr
        self._count = self.left  # samples
        about = file.groups[group].channel_group  # of version 3 it has neither of these two
        self._has_invalid = getattr(about, "invalidation_bytes_nr", 0) > 0
        self._unit = getattr(file.groups[group].channels[index], "unit", "")
        self._to_text = _TO_TEXT["4" if file.version >= "4" else "3"]
        self._rejected = rejected
        self._seen = 0
        self._pieces = map(self._converted, file.iter_get(group=group, index=index, raw=True))
        self._held = next(self._pieces)
        self._origin = getattr(self._held.source, "name", "") or getattr(about, "acq_name", "")
        self._start = file.header.start_time.timestamp()
        self._sensor_id = self._channel = 0

    @property
    def is_number(self) -> bool:
        """Whether its samples are numbers."""
        return _is_number(self._held.samples)

    def tell(self, sensors: Sensors) -> None:
        """Become a sensor."""
        self._sensor_id = sensors.new({"part": self._origin or None})
        self._channel = Channel(self._held.name.strip() or "signal", self._unit or self._held.unit).number

    def _converted(self, signal: Any) -> Any:
        """Return a piece with its samples as they are meant: raw ones where there are only texts for them."""
        conversion = signal.conversion
        if conversion is None:
            return signal
        if not self._is_to_text(conversion):
            signal.samples = conversion.convert(signal.samples)
        elif _is_number(signal.samples) and not self._has_only_texts(conversion):
            # Some of the numbers become others: as they are stored, the rest would be of another unit.
            meant = conversion.convert(signal.samples, as_object=True).tolist()
            is_number = np.array([not isinstance(each, bytes | str) for each in meant], bool)
            signal.samples = np.array([each for each in meant if not isinstance(each, bytes | str)], float)
            signal.timestamps = signal.timestamps[is_number]
            texts = len(meant) - len(signal.samples)
            self._seen += texts
            self._reject("sample that is a text", texts)
        return signal

    def _has_only_texts(self, conversion: Any) -> bool:
        """Return whether a conversion to texts makes no other number of a number."""
        if conversion.conversion_type == _BITS:
            return True
        others = [each for each in (conversion.referenced_blocks or {}).values() if hasattr(each, "convert")]
        return all(_is_unity(each) or (self._is_to_text(each) and self._has_only_texts(each)) for each in others)

    def _is_to_text(self, conversion: Any) -> bool:
        return conversion.conversion_type in self._to_text

    def next(self) -> Array:
        """Return the next readings; none at the end."""
        while (signal := self._held) is not None:
            self._held = next(self._pieces, None)
            self._seen += len(signal)
            readings = self._readings(signal)
            if len(readings):
                return readings
        missing, self.left = self._count - self._seen, 0
        if missing and not self._has_invalid:
            raise ValueError(f"it says {self._count:,} samples, {self._seen:,} are there; copy it again")
        self._reject("sample that is marked invalid", missing)
        return np.empty(0, READING)

    def _readings(self, signal: Any) -> Array:
        times, values = signal.timestamps + self._start, signal.samples
        sound = np.isfinite(times)
        self._reject("absurd timestamp", int((~sound).sum()))
        if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            exact = (values <= _EXACT) & (values >= -_EXACT if values.dtype.kind == "i" else True)
            self._reject("integer that float64 does not hold", int((sound & ~exact).sum()))
            sound &= exact
        readings = np.zeros(int(sound.sum()), READING)
        readings["timestamp"] = times[sound]
        readings["value"] = values[sound]
        readings["sensor_id"] = self._sensor_id
        readings["channel"] = self._channel
        return readings

    def _reject(self, reason: str, count: int) -> None:
        if count:
            self._rejected[reason] += count


def open_mf4(path: str | os.PathLike[str]) -> Mf4Recording:
    """Open a measurement file for reading.

    Parameters
    ----------
    path : path-like
        An MDF file, of version 3 or 4.

    Raises
    ------
    RecordingError
        There is no such file, it is none, or asammdf is not installed.
    """
    path = Path(path)
    try:
        import asammdf  # noqa: F401
    except ImportError as error:
        raise RecordingError(f"{path}: reading it needs asammdf ({error}): pip install 'f1buf[export]'") from None
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected a measurement file") from error
    if not begin.startswith((b"MDF ", b"UnFinMF")):
        raise RecordingError(f"{path}: no measurement file")
    recording = Mf4Recording(path)
    recording._learn()
    return recording
