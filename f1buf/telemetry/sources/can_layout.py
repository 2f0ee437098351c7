"""Where the signals of a message are in its bytes, and their values in many frames at once.

cantools reads a database; what its layout says is done here by numpy, with the same arithmetic, so that each value is
bit for bit the one that cantools computes for the frame alone. Unlike cantools, a frame that cannot be read as a whole
gives what can be read of it: the signals that lie wholly inside a short frame, and those that are not behind a
multiplexer whose value the database does not have.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from f1buf._reading import READING

if TYPE_CHECKING:
    from cantools.database import Signal

__all__ = ["INEXACT", "NOT_A_NUMBER", "SHORT", "SHORT_IN_PART", "UNKNOWN_PAGE", "Found", "Layout", "Rows"]

Array = NDArray[Any]
Sensor = tuple[int, int]

SHORT = "too short"
SHORT_IN_PART = "too short (some signals left out)"
UNKNOWN_PAGE = "unknown multiplexer value (some signals left out)"
NOT_A_NUMBER = "not a number"
INEXACT = "integer that float64 does not hold exactly"

_WORD = 8  # bytes that are looked at together
_EXACT = 2**53  # up to there float64 holds every integer
_FLOATS = {16: (np.uint16, np.float16), 32: (np.uint32, np.float32), 64: (np.uint64, np.float64)}
_UNCHANGED = 1.0, -0.0  # as scale and offset: adding 0.0 would make 0.0 of -0.0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """
    Frames of one message, n of them.

    Parameters
    ----------
    place : numpy.ndarray of intp, shape (n,)
        Where each is in its batch.
    timestamp : numpy.ndarray of float64, shape (n,)
        [s].
    first_sensor : numpy.ndarray of uint32, shape (n,)
        Is added to the numbers of the layout's sensors: who sent the frame.
    length : numpy.ndarray of integers, shape (n,)
        How many bytes of `data` are the frame's.
    data : numpy.ndarray of uint8, shape (n, width)
        Contiguous, 8 bytes wide or more; what is in it behind a frame's own bytes is of no account.
    """

    place: Array
    timestamp: Array
    first_sensor: Array
    length: Array
    data: Array

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, chosen: slice | Array) -> "Rows":
        """Return the frames of a slice (views), or those that an array of places chooses (copies)."""
        return Rows(
            self.place[chosen],
            self.timestamp[chosen],
            self.first_sensor[chosen],
            self.length[chosen],
            self.data[chosen],
        )


class Found:
    """What was found in a batch of frames: readings, and in which frames some were left out.

    Parameters
    ----------
    rejected : collections.Counter
        Counts what was left out.
    """

    def __init__(self, rejected: Counter[str]) -> None:
        self.rejected = rejected
        self._readings: list[Array] = []
        self._places: list[Array] = []

    def add(self, place: Array, readings: Array) -> None:
        """Take readings, each with the place of its frame in the batch; ascending."""
        self._places.append(place)
        self._readings.append(readings)

    def in_order(self) -> Array:
        """Return all readings in the order of their frames; those of a frame in the order in which they were added."""
        if not self._readings:
            return np.empty(0, READING)
        readings, places = np.concatenate(self._readings), np.concatenate(self._places)
        if places.size and places.max() < 2**16:
            places = places.astype(np.uint16)  # numbers this small numpy sorts in linear time
        ordered: Array = readings.take(np.argsort(places, kind="stable"))
        finite = np.isfinite(ordered["value"])
        if not finite.all():
            self.rejected[NOT_A_NUMBER] += int(np.count_nonzero(~finite))
            ordered = ordered[finite]
        return ordered


class Layout:
    """The signals of a message.

    Parameters
    ----------
    signals : sequence of cantools.database.Signal
        Of the message, in its order; they fit in it and do not overlap.
    sensors : sequence of (int, int)
        Each signal's sensor, without the number that says who sent it, and its channel's number.
    """

    def __init__(self, signals: "Sequence[Signal]", sensors: Sequence[Sensor]) -> None:
        fields = [_Field(signal, sensor) for signal, sensor in zip(signals, sensors, strict=True)]
        self._root = _Page([field for field in fields if field.signal.multiplexer_signal is None], fields)

    def read(self, rows: Rows, found: Found) -> None:
        """Add the readings of frames to what was found: frame by frame, in the order of cantools' decoded signals."""
        if len(rows) and rows.length.min() < self._root.least:
            nothing = rows.length < self._root.least
            found.rejected[SHORT] += int(np.count_nonzero(nothing))
            rows = rows[np.flatnonzero(~nothing)]
        partly: dict[str, list[Array]] = {}
        self._root.read(rows, found, partly)
        for reason, places in partly.items():
            found.rejected[reason] += len(np.unique(np.concatenate(places)))  # a frame counts once


class _Field:
    """Where a signal is, and what its bits mean."""

    def __init__(self, signal: "Signal", sensor: Sensor) -> None:
        self.signal = signal
        self.sensor, self.channel = sensor
        self.size = signal.length
        self.little = signal.byte_order == "little_endian"
        # The number of its first bit: of little-endian ones from the lowest bit of byte 0, else from the highest.
        self.start = signal.start if self.little else 8 * (signal.start // 8) + 7 - signal.start % 8
        self.first, self.end = self.start // 8, (self.start + self.size - 1) // 8 + 1
        self.is_float = signal.conversion.is_float
        self.sign = 1 << (self.size - 1) if signal.is_signed and not self.is_float else 0
        self.linear = self._linear()
        """Scale and offset if float64 arithmetic gives what cantools computes; otherwise None."""

    def _linear(self) -> tuple[float, float] | None:
        scale, offset = self.signal.conversion.scale, self.signal.conversion.offset
        if type(scale) not in (int, float) or type(offset) not in (int, float):
            return None
        if self.end - self.first > _WORD or (self.is_float and self.size not in _FLOATS):
            return None
        if (scale, offset) == (1, 0) and self.is_float:
            return _UNCHANGED
        try:
            exact = self.is_float or self._is_exact(scale, offset)
            return (float(scale), float(offset)) if exact else None
        except OverflowError:  # an integer beyond all floats
            return None

    def _is_exact(self, scale: float, offset: float) -> bool:
        """Say whether float64 arithmetic gives what cantools computes of an integer; it uses Python's, of any size."""
        if not isinstance(scale, int) and not (scale.is_integer() and float(offset).is_integer()):
            return self.size < 64 or self.sign > 0  # it makes a float of the integer at once; int64 holds these
        low, high = (-self.sign, self.sign - 1) if self.sign else (0, (1 << self.size) - 1)
        steps = [each for raw in (low, high) for each in (raw, raw * scale, raw * scale + offset)]
        return all(abs(each) <= _EXACT for each in (scale, offset, *steps))

    def value(self, data: bytes) -> float | None:
        """Return its value in one frame, by Python's own integers and cantools; None if float64 does not hold it."""
        bits = int.from_bytes(data[self.first : self.end], "little" if self.little else "big")
        bits >>= self.start % 8 if self.little else 8 * self.end - self.start - self.size
        bits &= (1 << self.size) - 1
        try:
            raw = _as_float(bits, self.size) if self.is_float else (bits ^ self.sign) - self.sign
            value: Any = self.signal.conversion.raw_to_scaled(raw, decode_choices=False)
            rounded = float(value)
        except Exception:  # an integer beyond all floats; or what a conversion of another kind raises
            return None
        return rounded if rounded == value or rounded != rounded else None


def _as_float(bits: int, size: int) -> float:
    kind, float_kind = _FLOATS[size]
    value: float = np.array(bits, kind).view(float_kind).item()
    return value


class _Page:
    """Signals that are read together: those that are in every frame, or those behind one value of a multiplexer.

    Parameters
    ----------
    fields : list of _Field
        At least one.
    all_fields : list of _Field
        Of the message.
    """

    def __init__(self, fields: list[_Field], all_fields: list[_Field]) -> None:
        self._fields = fields
        self._sensors = np.array([field.sensor for field in fields], np.uint32)
        self._channels = np.array([field.channel for field in fields], np.uint16)
        self._ends = np.array([[field.end] for field in fields], np.intp).reshape(-1, 1)
        self.least = min((field.end for field in fields), default=0)
        """How many bytes a frame has that holds a signal."""
        self._all = max((field.end for field in fields), default=0)
        linear = [field.linear or _UNCHANGED for field in fields]
        self._scale = np.array([[scale] for scale, _ in linear]).reshape(-1, 1)
        self._offset = np.array([[offset] for _, offset in linear]).reshape(-1, 1)
        self._unchanged = all(each == _UNCHANGED for each in linear)
        self._unread = [row for row, field in enumerate(fields) if field.linear is None]
        self._floats = [row for row, field in enumerate(fields) if field.is_float and field.linear is not None]
        self._plans: dict[int, _Plan] = {}
        self._multiplexers = [
            (row, pages) for row, field in enumerate(fields) if (pages := _pages(field.signal, all_fields))
        ]

    def read(self, rows: Rows, found: Found, partly: dict[str, list[Array]]) -> None:
        """Add the readings of frames; `partly` gets the places of frames that are read in part, by reason."""
        count, signals = len(rows), len(self._fields)
        if not count or not signals:
            return
        values = self._values(rows.data)
        there: Array | None = None
        if rows.length.min() < self._all:
            there = rows.length >= self._ends
            partly.setdefault(SHORT_IN_PART, []).append(rows.place[~np.all(there, axis=0)])
        if self._unread:
            there = self._read_singly(rows, values, there, found)
        readings: Array = np.empty((count, signals), READING)
        readings["timestamp"] = rows.timestamp[:, np.newaxis]
        readings["sensor_id"] = rows.first_sensor[:, np.newaxis] + self._sensors
        readings["channel"] = self._channels
        readings["flags"] = 0
        readings["value"] = values.T
        place = np.repeat(rows.place, signals)
        readings = readings.reshape(-1)
        if there is not None:
            kept = there.T.reshape(-1)
            place, readings = place[kept], readings[kept]
        found.add(place, readings)
        for row, pages in self._multiplexers:
            here = slice(None) if there is None else np.flatnonzero(there[row])
            _read_pages(pages, values[row][here], rows[here], found, partly)

    def _values(self, data: Array) -> Array:
        """Return the values of all signals, shape (signals, n); nonsense where a frame is too short."""
        width = data.shape[1]
        plan = self._plans.get(width)
        if plan is None:
            plan = self._plans[width] = _Plan(self._fields, width)
        raw = plan.raw(data)
        values = raw.astype(np.float64)
        with np.errstate(all="ignore"):  # not a number, infinite: see `Found.in_order`
            for row in self._floats:
                kind, float_kind = _FLOATS[self._fields[row].size]
                values[row] = raw[row].astype(kind).view(float_kind)
            if not self._unchanged:
                values *= self._scale
                values += self._offset
        return values

    def _read_singly(self, rows: Rows, values: Array, there: Array | None, found: Found) -> Array:
        """Read the signals for which numpy has nothing; return which values are there."""
        if there is None:
            there = np.ones(values.shape, np.bool_)
        for row in self._unread:
            read = self._fields[row].value
            for column in np.flatnonzero(there[row]).tolist():
                value = read(rows.data[column].tobytes())
                if value is None:
                    found.rejected[INEXACT] += 1
                    there[row, column] = False
                else:
                    values[row, column] = value
        return there


def _pages(signal: "Signal", all_fields: list[_Field]) -> dict[int, _Page]:
    """Return what is behind each value of a multiplexer, as cantools sees it; nothing if the signal is none."""
    if not signal.is_multiplexer:
        return {}
    children = [field for field in all_fields if field.signal.multiplexer_signal == signal.name]
    numbers = {number for field in children for number in field.signal.multiplexer_ids or ()}
    numbers.update(signal.conversion.choices or ())  # a page with a name may be empty
    made: dict[tuple[int, ...], _Page] = {}  # pages of the same signals are one
    pages = {}
    for number in numbers:
        fields = [field for field in children if number in (field.signal.multiplexer_ids or ())]
        key = tuple(map(id, fields))
        if key not in made:
            made[key] = _Page(fields, all_fields)
        pages[number] = made[key]
    return pages


def _read_pages(
    pages: dict[int, _Page], values: Array, rows: Rows, found: Found, partly: dict[str, list[Array]]
) -> None:
    numbers = np.trunc(values)
    for number in np.unique(numbers).tolist():
        chosen = np.flatnonzero(numbers == number) if number == number else np.flatnonzero(np.isnan(numbers))
        page = pages.get(number)
        if page is None:
            partly.setdefault(UNKNOWN_PAGE, []).append(rows.place[chosen])
        else:
            page.read(rows[chosen], found, partly)


class _Plan:
    """How to get signals out of data that is so many bytes wide: words of 64 bits, shifted left, then right."""

    def __init__(self, fields: list[_Field], width: int) -> None:
        windows: dict[tuple[int, bool], int] = {}
        shifts = []
        for field in fields:
            if field.linear is None or field.end > width:  # not by these shifts, or in no frame
                shifts.append((windows.setdefault((0, True), len(windows)), 0, 0))
                continue
            base = min(field.first, width - _WORD)
            below = field.start - 8 * base if field.little else 64 - (field.start - 8 * base) - field.size
            window = windows.setdefault((base, field.little), len(windows))
            shifts.append((window, 64 - field.size - below, 64 - field.size))
        self._windows = list(windows)
        self._word = [window for window, _, _ in shifts] if len(windows) > 1 else None
        self._left, self._right = (np.array([[each[i]] for each in shifts], np.uint64) for i in (1, 2))
        self._sign = np.array([[field.sign if field.linear else 0] for field in fields], np.uint64)
        self._signed = bool(self._sign.any())

    def raw(self, data: Array) -> Array:
        """Return the bits of all signals as integers, shape (signals, n)."""
        words = np.empty((len(self._windows), len(data)), np.uint64)
        for row, (base, little) in enumerate(self._windows):
            words[row] = _words(data, base, little)
        raw: Array = (words if self._word is None else words[self._word]) << self._left
        raw >>= self._right
        if not self._signed:
            return raw
        raw ^= self._sign  # two's complement, with modular arithmetic
        raw -= self._sign
        return raw.view(np.int64)


def _words(data: Array, base: int, little: bool) -> Array:
    window = np.ascontiguousarray(data[:, base : base + _WORD])
    words: Array = window.view("<u8" if little else ">u8").reshape(-1)
    return words
