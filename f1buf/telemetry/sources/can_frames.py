"""CAN frames in columns: what logs and buses hand to the decoder, many at once."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import can

__all__ = ["ERROR", "EXTENDED", "REMOTE", "Frames", "Selection"]

Array = NDArray[Any]

EXTENDED, REMOTE, ERROR = 1, 2, 4
"""The bits of `Frames.kind`: the id has 29 bits, a request that holds no data, no frame but what an adapter tells."""

_CLASSIC, _FD = 8, 64  # bytes of data that a frame has room for


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """
    CAN frames in the order in which they came; each column has shape (n,) unless said otherwise, and nobody changes it.

    Parameters
    ----------
    timestamp : numpy.ndarray of float64
        [s], finite.
    can_id : numpy.ndarray of uint32
        11 or 29 bits, as `kind` says.
    kind : numpy.ndarray of uint8
        The bits `EXTENDED`, `REMOTE` and `ERROR`.
    bus : numpy.ndarray of uint16
        Where in `buses` the name of its bus is.
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
        return Frames(
            self.timestamp[chosen],
            self.can_id[chosen],
            self.kind[chosen],
            self.bus[chosen],
            self.length[chosen],
            self.data[chosen],
            self.buses,
        )

    @classmethod
    def of_messages(cls, messages: "Iterable[can.Message]", rejected: Counter[str]) -> "Frames":
        """Return python-can's messages as frames.

        Parameters
        ----------
        messages : iterable of can.Message
            Not referred to afterwards.
        rejected : collections.Counter
            Counts those that are left out: "absurd timestamp" (NaN or infinite), "absurd id" (more than 29 bits),
            "absurd length" (more than 64 bytes).
        """
        sound = []
        for message in messages:
            if (fault := _fault(message)) is None:
                sound.append(message)
            else:
                rejected[fault] += 1
        names = [str(message.channel) for message in sound]
        buses = {name: number for number, name in enumerate(dict.fromkeys(names))}
        data = [bytes(message.data) for message in sound]
        length = np.array([len(each) for each in data], np.uint8)
        width = _FD if len(length) and length.max() > _CLASSIC else _CLASSIC
        return cls(
            np.array([message.timestamp for message in sound], np.float64),
            np.array([message.arbitration_id for message in sound], np.uint32),
            np.array([_kind(message) for message in sound], np.uint8),
            np.array([buses[name] for name in names], np.uint16),
            length,
            np.frombuffer(b"".join(each.ljust(width, b"\0") for each in data), np.uint8).reshape(-1, width),
            tuple(buses),
        )

    def rows(self) -> Iterator[tuple[float, int, int, str, bytes]]:
        """Iterate frame by frame, where numpy has nothing to win: timestamp [s], id, kind, bus, data."""
        columns = (self.timestamp, self.can_id, self.kind, self.bus, self.length, self.data)
        for timestamp, can_id, kind, bus, length, data in zip(*(column.tolist() for column in columns), strict=True):
            yield timestamp, can_id, kind, self.buses[bus], bytes(data[:length])


class Selection:
    """
    Which frames are asked for.

    Parameters
    ----------
    buses : iterable of str, optional
        Names of buses; without them every bus.
    ids : iterable of (int, int, bool), optional
        First and last id, and whether they are extended ones; without them every id.

    Attributes
    ----------
    rejected : collections.Counter
        How many frames were left out, as "not asked for".
    """

    def __init__(self, buses: Iterable[str] = (), ids: Iterable[tuple[int, int, bool]] = ()) -> None:
        self.rejected: Counter[str] = Counter()
        self._buses = frozenset(buses)
        self._ids = tuple(ids)
        self._heard: set[str] = set()

    def __call__(self, frames: Frames) -> Frames:
        """Return those that are asked for, in their order."""
        if not self._buses and not self._ids:
            return frames
        chosen = np.ones(len(frames), bool)
        if self._buses:
            self._heard.update(frames.buses)
            chosen &= np.array([name in self._buses for name in frames.buses], bool)[frames.bus]
        if self._ids:
            extended = frames.kind & EXTENDED != 0
            chosen &= np.logical_or.reduce(
                [
                    (frames.can_id >= low) & (frames.can_id <= high) & (extended == is_extended)
                    for low, high, is_extended in self._ids
                ]
            )
        if left_out := len(frames) - int(np.count_nonzero(chosen)):
            self.rejected["not asked for"] += left_out
        return frames[chosen]

    def notes(self) -> list[str]:
        """Say which of the buses no frame came from."""
        silent = sorted(self._buses - self._heard)
        if not silent:
            return []
        return [f"nothing came from bus {', '.join(silent)}; heard: {', '.join(sorted(self._heard)) or 'none'}"]


def _fault(message: "can.Message") -> str | None:
    if not math.isfinite(message.timestamp):
        return "absurd timestamp"
    if not 0 <= message.arbitration_id < 1 << 29:
        return "absurd id"
    if len(message.data) > _FD:
        return "absurd length"
    return None


def _kind(message: "can.Message") -> int:
    return EXTENDED * message.is_extended_id + REMOTE * message.is_remote_frame + ERROR * message.is_error_frame
