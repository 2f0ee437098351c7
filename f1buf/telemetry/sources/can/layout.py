"""Where the signals of messages are in their bytes, and their values in many frames at once.

cantools reads a database; what its layout says is done here by numpy, with the same arithmetic, so that each value is
bit for bit the one that cantools computes for the frame alone. Unlike cantools, a frame that cannot be read as a whole
gives what can be read of it: the signals that lie wholly inside a short frame, and those that are not behind a
multiplexer whose value the database does not have.

All signals of all messages stand in one table. A page is a range of it: the signals that are in every frame of a
message, or those behind one value of a multiplexer. What is read is a list of pairs, each a frame and a signal of it,
whatever the messages are: a batch of frames of many messages costs no more than one of a single message.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING

if TYPE_CHECKING:
    from cantools.database import Signal

__all__ = ["Layout", "Rows"]

Array = NDArray[Any]
Sensor = tuple[int, int, float]  # its number, its channel's, and the least value that is no measurement
Pairs = tuple[Array, Array, Array]  # of each the row, the place in the table, and the value

_SHORT = "too short"
_SHORT_IN_PART = "too short (some signals left out)"
_UNKNOWN_PAGE = "unknown multiplexer value (some signals left out)"
_NOT_A_NUMBER = "not a number"
_NOT_AVAILABLE = "not available (J1939)"
_INEXACT = "integer that float64 does not hold exactly"

_WORD = 8  # bytes that are looked at together
_EXACT = 2**53  # up to there float64 holds every integer
_FLOATS = {16: (np.uint16, np.float16), 32: (np.uint32, np.float32), 64: (np.uint64, np.float64)}
_UNCHANGED = 1.0, -0.0  # as scale and offset: adding 0.0 would make 0.0 of -0.0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """
    Frames that are to be read, n of them.

    Parameters
    ----------
    place : numpy.ndarray of intp, shape (n,)
        Each one's row in `length` and `data`.
    message : numpy.ndarray of integers, shape (n,)
        Each one's message in the layout.
    timestamp : numpy.ndarray of float64, shape (n,)
        [s].
    first_sensor : numpy.ndarray of uint32, shape (n,)
        Added to the numbers of the layout's sensors, so that each sender has its own.
    length : numpy.ndarray of integers, shape (m,)
        How many bytes of `data` are a frame's.
    data : numpy.ndarray of uint8, shape (m, width)
        Contiguous, 8 bytes wide or more; what stands behind a frame's own bytes does not matter.
    """

    place: Array
    message: Array
    timestamp: Array
    first_sensor: Array
    length: Array
    data: Array


class Layout:
    """
    The signals of messages.

    Parameters
    ----------
    messages : sequence of (sequence of cantools.database.Signal, sequence of (int, int, float))
        Each one's signals, in its order, which fit in it and do not overlap; and of each signal the number of its
        sensor, counted from the sender's first one, its channel's number, and the least value that is no measurement.
    rejected : collections.Counter
        Counts the frames, or single readings of frames, that are left out, by reason.
    """

    def __init__(self, messages: "Sequence[tuple[Sequence[Signal], Sequence[Sensor]]]", rejected: Counter[str]) -> None:
        self._rejected = rejected
        self._table: list[_Field] = []
        self._pages: list[list[_Field]] = []
        self._begins: list[int] = []  # where each page is in the table
        self._behind: dict[tuple[int, float], int] = {}  # the page, by a multiplexer's place in the table and its value
        roots = []
        for signals, sensors in messages:
            fields = [_Field(signal, sensor) for signal, sensor in zip(signals, sensors, strict=True)]
            roots.append(self._add([field for field in fields if field.parent is None], fields))
        self._root = np.array(roots, np.intp)
        self._begin = np.array(self._begins, np.intp)
        self._count = np.array([len(page) for page in self._pages], np.intp)
        ends = [[field.end for field in page] for page in self._pages]
        self._least = np.array([min(each, default=0) for each in ends], np.intp)  # bytes with a signal in them
        self._columns = _Columns(self._table)
        self._multiplexes = np.zeros(len(self._table), np.bool_)
        self._multiplexes[[place for place, _ in self._behind]] = True

    def _add(self, page: "list[_Field]", message: "list[_Field]") -> int:
        """Add a page, and then those behind its multiplexers, as cantools decodes them; return its number."""
        number, begin = len(self._pages), len(self._table)
        self._pages.append(page)
        self._begins.append(begin)
        self._table += page
        for place, field in enumerate(page, begin):
            made: dict[tuple[int, ...], int] = {}  # pages of the same signals are one
            for value, behind in _behind(field, message):
                key = tuple(map(id, behind))
                if key not in made:
                    made[key] = self._add(behind, message)
                self._behind[place, value] = made[key]
        return number

    def read(self, rows: Rows) -> tuple[Array, Array]:
        """Read frames.

        Returns
        -------
        readings : numpy.ndarray of READING, shape (k,)
            Frame by frame; those of a frame in the order of cantools' decoded signals.
        row : numpy.ndarray of intp, shape (k,)
            Which of the frames each is from.
        """
        page = self._root.take(rows.message)
        nothing = rows.length.take(rows.place) < self._least.take(page)
        short, unknown = np.zeros((2, len(page)), np.bool_)
        found = [self._values(rows, *self._pairs(np.arange(len(page)), page), short)]
        while len((behind := self._behind_these(*found[-1], unknown))[0]):
            found.append(self._values(rows, *self._pairs(*behind), short))
        self._reject(_SHORT, nothing)
        self._reject(_SHORT_IN_PART, short & ~nothing)
        self._reject(_UNKNOWN_PAGE, unknown)
        return self._readings(rows, found)

    def _pairs(self, row: Array, page: Array) -> tuple[Array, Array]:
        """Pair each row with each signal of its page, which is a place in the table."""
        count = self._count.take(page)
        ends = np.cumsum(count)
        places = np.arange(count.sum()) + np.repeat(self._begin.take(page) - ends + count, count)
        return np.repeat(row, count), places

    def _values(self, rows: Rows, row: Array, field: Array, short: Array) -> Pairs:
        """Return the pairs whose signal is in its frame, and their values; note the rows that lack a signal."""
        place = rows.place.take(row)
        there = rows.length.take(place) >= self._columns.end.take(field)
        if not there.all():
            short[row[~there]] = True
            row, field, place = row[there], field[there], place[there]
        values = self._columns.values(rows.data, place, field)
        if self._columns.some_alone:
            exact = self._read_alone(rows.data, place, field, values)
            self._reject(_INEXACT, ~exact)
            row, field, values = row[exact], field[exact], values[exact]
        return row, field, values

    def _read_alone(self, data: Array, place: Array, field: Array, values: Array) -> Array:
        """Fill in the values for which numpy has no arithmetic; return which of the values float64 holds."""
        exact = np.ones(len(values), np.bool_)
        for i in np.flatnonzero(self._columns.alone.take(field)).tolist():
            value = self._table[field[i]].value(data[place[i]].tobytes())
            values[i] = 0.0 if value is None else value
            exact[i] = value is not None
        return exact

    def _behind_these(self, row: Array, field: Array, values: Array, unknown: Array) -> tuple[Array, Array]:
        """Return the rows with a page behind a multiplexer, and the page; note the rows whose page is unknown."""
        at = np.flatnonzero(self._multiplexes.take(field))
        keys = list(zip(field[at].tolist(), np.trunc(values[at]).tolist(), strict=True))
        # Not `get`: see `Decoder.decode`.
        known = np.array([key in self._behind for key in keys], np.bool_)
        page = np.array([self._behind[key] for key in keys if key in self._behind], np.intp)
        unknown[row[at[~known]]] = True
        return row[at[known]], page

    def _readings(self, rows: Rows, found: list[Pairs]) -> tuple[Array, Array]:
        row, field, values = found[0] if len(found) == 1 else _in_order(found, len(self._table))
        finite = np.isfinite(values)
        if not finite.all():
            self._reject(_NOT_A_NUMBER, ~finite)
            row, field, values = row[finite], field[finite], values[finite]
        if self._columns.some_limited:
            measured = values < self._columns.limit.take(field)
            self._reject(_NOT_AVAILABLE, ~measured)
            row, field, values = row[measured], field[measured], values[measured]
        readings = np.empty(len(row), READING)
        readings["timestamp"] = rows.timestamp.take(row)
        readings["sensor_id"] = self._columns.sensor.take(field) + rows.first_sensor.take(row)
        readings["channel"] = self._columns.channel.take(field)
        readings["flags"] = 0
        readings["value"] = values
        return readings, row

    def _reject(self, reason: str, left_out: Array) -> None:
        count = int(np.count_nonzero(left_out))
        if count:
            self._rejected[reason] += count


def _behind(field: "_Field", message: "list[_Field]") -> "Iterator[tuple[int, list[_Field]]]":
    """Yield each value of a multiplexer, and the signals behind it, as cantools sees them; nothing if it is none."""
    if not field.signal.is_multiplexer:
        return
    name = field.signal.name
    children = [(each, set(each.signal.multiplexer_ids or ())) for each in message if each.parent == name]
    named = field.signal.conversion.choices or ()  # such a page may be empty
    for value in sorted(set(named).union(*(values for _, values in children))):
        yield value, [each for each, values in children if value in values]


class _Field:
    """Where a signal is, and what its bits mean."""

    def __init__(self, signal: "Signal", sensor: Sensor) -> None:
        self.signal = signal
        self.sensor, self.channel, self.limit = sensor
        self.parent = signal.multiplexer_signal
        self.size = signal.length
        self.little = signal.byte_order == "little_endian"
        # The number of its first bit: of little-endian ones from the lowest bit of byte 0, else from the highest.
        self.start = signal.start if self.little else 8 * (signal.start // 8) + 7 - signal.start % 8
        self.first, self.end = self.start // 8, (self.start + self.size - 1) // 8 + 1
        self.is_float = signal.conversion.is_float
        self.sign = 1 << (self.size - 1) if signal.is_signed and not self.is_float else 0
        self.linear = self._linear()  # scale and offset, if float64 arithmetic gives what cantools computes

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
        """Return the value in one frame, by Python's integers and cantools; None if float64 does not hold it."""
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


class _Columns:
    """The table as columns; each array has shape (signals,)."""

    def __init__(self, table: list[_Field]) -> None:
        self.sensor = np.array([field.sensor for field in table], np.uint32)
        self.channel = np.array([field.channel for field in table], np.uint16)
        self.limit = np.array([field.limit for field in table], np.float64)
        self.some_limited = bool(np.isfinite(self.limit).any())
        self.end = np.array([field.end for field in table], np.intp)
        self.alone = np.array([field.linear is None for field in table], np.bool_)  # numpy has no arithmetic for it
        self.some_alone = bool(self.alone.any())
        linear = np.array([field.linear or _UNCHANGED for field in table]).reshape(-1, 2)
        self._scale, self._offset = linear[:, 0].copy(), linear[:, 1].copy()
        self._first = np.array([field.first for field in table], np.intp)
        self._start = np.array([field.start for field in table], np.intp)
        self._size = np.array([min(field.size, 64) for field in table], np.intp)
        self._big = np.array([not field.little for field in table], np.bool_)
        self._some_big = bool(self._big.any())
        self._right = (64 - self._size).astype(np.uint64)
        self._sign = np.array([0 if field.linear is None else field.sign for field in table], np.uint64)
        self._float = np.array([field.size if field.is_float and field.linear else 0 for field in table], np.uint8)
        self._some_float = bool(self._float.any())
        self._words: dict[int, tuple[Array, Array]] = {}

    def values(self, data: Array, place: Array, field: Array) -> Array:
        """Return the value of each signal in each row of data; nonsense for those that are read alone."""
        width = data.shape[1]
        base, left = self._words[width] if width in self._words else self._find_words(width)
        words = np.ndarray((data.size - _WORD + 1,), "<u8", data, 0, (1,))  # one from each byte on, overlapping
        raw = words.take(place * width + base.take(field))
        if self._some_big:
            big = self._big.take(field)
            raw[big] = raw[big].byteswap()
        raw <<= left.take(field)
        raw >>= self._right.take(field)
        sign = self._sign.take(field)
        raw ^= sign  # two's complement, by modular arithmetic
        raw -= sign
        values: Array = raw.view(np.int64).astype(np.float64)
        with np.errstate(all="ignore"):  # what is infinite or not a number is left out later
            if self._some_float:
                self._put_floats(raw, field, values)
            values *= self._scale.take(field)
            values += self._offset.take(field)
        return values

    def _put_floats(self, raw: Array, field: Array, values: Array) -> None:
        size = self._float.take(field)
        for bits, (kind, float_kind) in _FLOATS.items():
            at = np.flatnonzero(size == bits)
            values[at] = raw[at].astype(kind).view(float_kind)

    def _find_words(self, width: int) -> tuple[Array, Array]:
        """Return where in data of this width each signal's word begins, and by how many bits to shift it left."""
        base = np.minimum(self._first, width - _WORD)
        begin = self._start - 8 * base
        left = np.where(self._big, begin, 64 - self._size - begin)
        left[(self.end > width) | self.alone] = 0  # these are in no row, or not in one word
        self._words[width] = base, left.astype(np.uint64)
        return self._words[width]


def _in_order(found: list[Pairs], table: int) -> Pairs:
    """Return all pairs in the order of row and place in the table."""
    row, field, values = (np.concatenate([pairs[i] for pairs in found]) for i in range(3))
    order = np.argsort(row.astype(np.int64) * table + field, kind="stable")
    return row[order], field[order], values[order]
