"""CAN frames in columns: what logs and buses hand to the decoder, many at once."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import can

__all__ = ["ERROR", "EXTENDED", "REMOTE", "Frames", "Row", "framed", "is_sound", "row_of"]

Array = NDArray[Any]

EXTENDED, REMOTE, ERROR = 1, 2, 4
"""The bits of `Frames.kind`: the id has 29 bits; a request without data; not a frame, but an error on the bus."""

_CLASSIC, _FD = 8, 64  # bytes of data that a frame has room for
_IDS = 1 << 29

Row = tuple[float, int, int, Any, "bytes | bytearray"]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """
    CAN frames in the order in which they came; each column has shape (n,) unless said otherwise. Do not change them.

    Parameters
    ----------
    timestamp : numpy.ndarray of float64
        [s], finite.
    can_id : numpy.ndarray of uint32
        11 or 29 bits, as `kind` says.
    kind : numpy.ndarray of uint8
        The bits `EXTENDED`, `REMOTE` and `ERROR`.
    bus : numpy.ndarray of uint16
        The place in `buses` of the name of its bus.
    length : numpy.ndarray of uint8
        How many bytes of `data` are the frame's.
    data : numpy.ndarray of uint8, shape (n, 8) or (n, 64)
        Contiguous; zero behind each frame's own bytes.
    buses : tuple of str
        Names, as a log or an adapter gives them.
    """

    timestamp: Array
    can_id: Array
    kind: Array
    bus: Array
    length: Array
    data: Array
    buses: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.timestamp)

    def __getitem__(self, chosen: slice | Array) -> "Frames":
        """Return the frames of a slice (views), or those that an array of bool or of places chooses (copies)."""
        timestamp, can_id, kind, bus, length, data = (column[chosen] for column in self._columns)
        return Frames(timestamp, can_id, kind, bus, length, data, self.buses)

    @property
    def _columns(self) -> tuple[Array, Array, Array, Array, Array, Array]:
        return self.timestamp, self.can_id, self.kind, self.bus, self.length, self.data

    @classmethod
    def of_messages(cls, messages: "Iterable[can.Message]", rejected: Counter[str]) -> "Frames":
        """Return python-can's messages as frames.

        Parameters
        ----------
        messages : iterable of can.Message
            They may be changed afterwards.
        rejected : collections.Counter
            Counts the messages that are left out: see `of_rows`.
        """
        return cls.of_rows(list(map(row_of, messages)), rejected)

    @classmethod
    def of_rows(cls, rows: "list[Row]", rejected: Counter[str]) -> "Frames":
        """Return frames of rows, one each.

        Parameters
        ----------
        rows : list of Row
            Of each frame its timestamp [s], id, kind, bus (of any type: its text is the name) and data.
        rejected : collections.Counter
            Counts the rows that are left out: "absurd timestamp" (NaN or infinite), "absurd id" (more than 29 bits),
            "absurd length" (more than 64 bytes).
        """
        times, ids, kinds, buses, data = zip(*rows, strict=True) if rows else ((),) * 5
        timestamp, length = np.array(times, np.float64), np.fromiter(map(len, data), np.int64, len(rows))
        longest = length.max(initial=0)
        if (
            longest > _FD
            or not np.isfinite(timestamp).all()
            or not 0 <= min(ids, default=0) <= max(ids, default=0) < _IDS
        ):
            return cls.of_rows([row for row in rows if is_sound(row, rejected)], rejected)
        names = list(map(str, buses))
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        width = _FD if longest > _CLASSIC else _CLASSIC
        return cls(
            timestamp,
            np.array(ids, np.uint32),
            np.array(kinds, np.uint8),
            np.fromiter(map(numbers.__getitem__, names), np.uint16, len(rows)),
            length.astype(np.uint8),
            np.frombuffer(b"".join([each.ljust(width, b"\0") for each in data]), np.uint8).reshape(-1, width),
            tuple(numbers),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Frames]") -> "Frames":
        """Return the frames of all parts, one after the other, in columns of their own."""
        names = list(dict.fromkeys(name for part in parts for name in part.buses))
        width = max((part.data.shape[1] for part in parts), default=_CLASSIC)
        data = np.zeros((sum(map(len, parts)), width), np.uint8)
        bus = np.empty(len(data), np.uint16)
        begin = 0
        for part in parts:
            end = begin + len(part)
            data[begin:end, : part.data.shape[1]] = part.data
            bus[begin:end] = np.array([names.index(name) for name in part.buses], np.uint16)[part.bus]
            begin = end
        return cls(
            np.concatenate([np.empty(0), *(part.timestamp for part in parts)]),
            np.concatenate([np.empty(0, np.uint32), *(part.can_id for part in parts)]),
            np.concatenate([np.empty(0, np.uint8), *(part.kind for part in parts)]),
            bus,
            np.concatenate([np.empty(0, np.uint8), *(part.length for part in parts)]),
            data,
            tuple(names),
        )

    def rows(self) -> Iterator[tuple[float, int, int, str, bytes]]:
        """Iterate frame by frame: timestamp [s], id, kind, bus, data."""
        values = (column.tolist() for column in self._columns)
        for timestamp, can_id, kind, bus, length, data in zip(*values, strict=True):
            yield timestamp, can_id, kind, self.buses[bus], bytes(data[:length])


_AT_ONCE = 4096  # frames


def framed(rows: Iterable[Row], rejected: Counter[str]) -> Iterator[Frames]:
    """Put rows together as frames, 4,096 at once: see `Frames.of_rows`.

    If iterating over the rows fails, the frames before that are yielded first.
    """
    held: list[Row] = []
    failure = None
    try:
        for row in rows:
            held.append(row)
            if len(held) == _AT_ONCE:
                yield Frames.of_rows(held, rejected)
                held = []
    except Exception as error:  # each format fails in ways of its own
        failure = error
    if held:
        yield Frames.of_rows(held, rejected)
    if failure is not None:
        raise failure


def row_of(message: "can.Message") -> Row:
    """Return a message of python-can as a row for `Frames.of_rows`; its data is not copied."""
    kind = EXTENDED * message.is_extended_id + REMOTE * message.is_remote_frame + ERROR * message.is_error_frame
    return message.timestamp, message.arbitration_id, kind, message.channel, message.data


def is_sound(row: Row, rejected: Counter[str]) -> bool:
    """Say whether a row can be a frame; count the reason if it cannot."""
    timestamp, can_id, _, _, data = row
    if not math.isfinite(timestamp):
        fault = "absurd timestamp"
    elif not 0 <= can_id < _IDS:
        fault = "absurd id"
    elif len(data) > _FD:
        fault = "absurd length"
    else:
        return True
    rejected[fault] += 1
    return False
