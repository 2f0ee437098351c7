"""Bus logging in ASAM's measurement files (``.mf4``), by asammdf: its channel groups as arrays, merged by time.

python-can's reader makes an object of each frame, of some dozen numpy scalars; and a file without bus logging, or
whose writer was killed while it saved it, is an empty log to it.
"""

import contextlib
import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames
from f1buf.telemetry.sources.can.libraries import keep_asammdf_quiet
from f1buf.telemetry.sources.merging import merged

__all__ = ["kind_of", "mf4_frames", "open_mdf"]

Array = NDArray[Any]

PIECE = 1 << 22  # bytes of a channel group read at once; tests make it smaller
_KINDS = {"CAN_DataFrame": 0, "CAN_ErrorFrame": ERROR, "CAN_RemoteFrame": REMOTE}
_ROOM = 64  # bytes of data at most
_EXTENDED_ID, _ID_BITS, _STANDARD_IDS = 0x8000_0000, 0x1FFF_FFFF, 0x800


def mf4_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read an .mf4 log by time, each channel group in its order; one without frames of CAN is an error."""
    with open_mdf(io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file.name) as log:
        log.configure(read_fragment_size=PIECE)
        groups = []
        signals = 0
        for number, group in enumerate(log.groups):
            names = {channel.name for channel in group.channels}
            count = group.channel_group.cycles_nr
            kind = kind_of(group)
            if kind is not None:
                groups.append(_Group(log, number, kind, names, count, rejected))
            elif count:
                signals += len(names) - 1  # without that of time
        if not log.groups:
            raise ValueError("nothing in it: no measurement was made, or its writer was stopped while it saved it")
        if not groups:
            what = f"{signals:,} ordinary signals" if signals else "nothing else"
            raise ValueError(f"no CAN frames, but {what}; expected bus logging (a channel CAN_DataFrame)")
        if signals:
            note(f"{signals:,} signals in the log that are not frames of CAN are not read")
        if groups := [group for group in groups if group.left]:
            yield from merged(groups, Frames.joined, lambda frames: frames.timestamp)


def open_mdf(file: Any) -> Any:
    """Open a measurement file by asammdf; a context manager that closes it."""
    from asammdf import MDF

    keep_asammdf_quiet()
    try:
        return MDF(file)
    except Exception as error:
        _close_half_made(error)
        raise


def kind_of(group: Any) -> str | None:
    """Return the name of the frames that a channel group holds; None where it holds none of CAN."""
    names = {channel.name for channel in group.channels}
    return next((name for name in _KINDS if name in names), None)


def _close_half_made(error: Exception) -> None:
    """Close what asammdf has made before it failed: by itself it fails at that, with a traceback on standard error."""
    place = error.__traceback__
    while place is not None:
        half_made: Any = place.tb_frame.f_locals.get("self")
        if hasattr(half_made, "_tempfile"):
            half_made._file = getattr(half_made, "_file", None)
            with contextlib.suppress(AttributeError):  # of what has not been made
                half_made.close()
        place = place.tb_next


class _Group:
    """A channel group of bus logging, read piece by piece; `left` is how many frames have not been returned."""

    def __init__(self, file: Any, number: int, kind: str, names: set[str], count: int, rejected: Counter[str]) -> None:
        self.left = count
        self._pieces = file.iter_get(kind, number)
        self._kind = kind
        self._has = {name.removeprefix(f"{kind}.") for name in names}
        self._count = count
        self._rejected = rejected
        self._start = file.header.start_time.timestamp()

    def next(self) -> Frames:
        """Return the next frames; none at its end."""
        for signal in self._pieces:
            self.left -= len(signal)
            frames = self._frames(signal.samples, signal.timestamps + self._start)
            sound = np.isfinite(frames.timestamp)
            if not sound.all():
                self._rejected["absurd timestamp"] += int((~sound).sum())
                frames = frames[sound]
            if len(frames):
                return frames
        if self.left:
            there = self._count - self.left
            raise ValueError(f"it says {self._count:,} frames, {there:,} are there; copy it again")
        return Frames.joined([])

    def _frames(self, records: Any, timestamp: Array) -> Frames:
        raw_id = self._field(records, "ID", np.uint32)
        width = 0
        if "DataBytes" in self._has and self._kind != "CAN_RemoteFrame":
            data = records[f"{self._kind}.DataBytes"]
            width = data.shape[1]
        length = np.minimum(self._field(records, "DataLength", np.int64), min(width, _ROOM))
        room = _ROOM if length.max(initial=0) > 8 else 8
        payload = np.zeros((len(records), room), np.uint8)
        if width:
            payload[:, :width] = data[:, :room]
            payload[np.arange(room) >= length[:, None]] = 0
        if "IDE" in self._has:
            extended = self._field(records, "IDE", np.int64) > 0
        else:
            extended = (raw_id & _EXTENDED_ID > 0) | (raw_id & _ID_BITS >= _STANDARD_IDS)
        bus = self._field(records, "BusChannel", np.int64)
        buses, place = np.unique(bus, return_inverse=True)
        return Frames(
            timestamp,
            raw_id & np.uint32(_ID_BITS),
            np.where(extended, EXTENDED, 0).astype(np.uint8) | np.uint8(_KINDS[self._kind]),
            place.astype(np.uint16),
            length.astype(np.uint8),
            payload,
            tuple(map(str, buses.tolist())) if "BusChannel" in self._has else ("None",),
        )

    def _field(self, records: Any, name: str, dtype: Any) -> Any:
        if name not in self._has:
            return np.zeros(len(records), dtype)
        return records[f"{self._kind}.{name}"].astype(dtype)
