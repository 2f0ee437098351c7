"""Vector's binary logs (``.blf``): every object is looked at, and what holds frames is read by the container.

python-can's reader is not used. In silence it passes over objects that lie outside a container, whose header has an
unknown version, or whose container has an unknown compression; and a damaged size can keep it at one place for ever.
"""

import datetime
import gzip
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames

__all__ = ["blf_frames"]

Array = NDArray[Any]

# What tests make smaller: bytes of a container that are unpacked at once, and that may come of them.
PACKED, PIECE = 1 << 16, 1 << 20

_LONGEST_HEADER = 1 << 16  # bytes; writers make one of 144


class _Header:
    """What a file's first bytes say: its size [bytes], how many objects there are in it without containers and restore
    points, and the Unix time [s] from which its times count, 0.0 if that is not said. The file is then at its first
    object."""

    _STRUCT = struct.Struct("<4sL8BQQLL8H8H")

    def __init__(self, file: BinaryIO) -> None:
        start = file.read(self._STRUCT.size)
        if len(start) < self._STRUCT.size or not start.startswith(b"LOGG"):
            raise ValueError("no header of a .blf file")
        _, length, *_, self.size, _, self.objects, _ = self._STRUCT.unpack(start)[:14]
        when = self._STRUCT.unpack(start)[14:22]
        self.start = _unix_time(*when)
        self.no_date = any(when) and self.start == 0.0
        if not len(start) <= length <= _LONGEST_HEADER:
            raise ValueError(f"a header of {length:,} bytes; expected {len(start)} to {_LONGEST_HEADER:,}")
        file.read(length - len(start))
        self.unfinished = self.objects == 0 and self.size <= length  # the writer has not come to the end


def _unix_time(year: int, month: int, _: int, day: int, hour: int, minute: int, second: int, millisecond: int) -> float:
    utc = datetime.UTC
    try:
        return datetime.datetime(year, month, day, hour, minute, second, millisecond * 1000, tzinfo=utc).timestamp()
    except ValueError:
        return 0.0


def blf_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read a .blf log; "unknown object version" is that of an object's header.

    A file that is shorter than its header says is an error: there is a whole one elsewhere. One that its writer has not
    finished is not, for there will be no better one: it is noted.
    """
    size = None if isinstance(file, gzip.GzipFile) else os.fstat(file.fileno()).st_size
    header = _Header(file)
    if header.no_date:
        note("the log's header says when it began, but not as a date: times count from its start")
    count, lost = 0, False
    tail: list[bytes] = []  # what has been read of the last object
    needed = 0  # bytes until it is whole
    failure: Exception | None = None
    try:
        for objects, complete in _contents(file, rejected):
            if objects is None:
                if b"LOBJ" in b"".join(tail):
                    rejected["truncated object"] += 1
                tail, needed, lost = [], 0, True
                continue
            if lost and not complete:  # it may begin amid an object that is lost
                if (begin := objects.find(b"LOBJ")) < 0:
                    continue
                objects, lost = objects[begin:], False
            if not complete:
                tail.append(objects)
                needed -= len(objects)
                if needed > 0:  # put together once, not with each piece
                    yield Frames.joined([])
                    continue
                objects = b"".join(tail)
            places, end, more, failure = walk(objects)
            count += len(places)
            yield _frames(objects, places, header.start, rejected)
            if failure is not None:
                break
            if not complete:
                tail, needed = [objects[end:]], more
    except _FAILURES as error:
        failure = error
    if failure is None and b"LOBJ" in b"".join(tail):
        failure = _EndsEarlyError("it ends within an object")
    if size is not None and header.size > size:
        raise ValueError(f"cut off: {size:,} bytes, expected {header.size:,} by its header; copy it again")
    if header.unfinished:
        note(
            "the log's writer was stopped before its end: what it had not written yet is missing, "
            "and times count from its start, which it had not written either"
        )
    elif failure is None and header.objects > count:
        note(f"the log's header says {header.objects:,} objects, {count:,} are there")
    if failure is not None and not (header.unfinished and isinstance(failure, _EndsEarlyError)):
        raise failure


class _EndsEarlyError(ValueError):
    """The file is sound as far as it goes, but does not go on."""


# Where the objects are ------------------------------------------------------------------------------------------------

_BASE = struct.Struct("<4sHHLL")  # "LOBJ", the header's size and version, the object's size and type
_CONTAINER, _CONTAINER_HEADER = 10, struct.Struct("<H6xL4x")  # compression, size of what is in it
_STORED, _DEFLATED = 0, 2
_LARGEST = 1 << 24  # bytes of an object; containers have some hundred thousand, texts and Ethernet's frames fewer
_LARGEST_FRAME = 1 << 10  # bytes of one that holds a frame: so that a damaged size does not swallow what is behind it
_TOGETHER = 1 << 18  # bytes of objects outside a container
_FAILURES = (ValueError, OSError, EOFError, zlib.error)


def _contents(file: BinaryIO, rejected: Counter[str]) -> Iterator[tuple[bytes | None, bool]]:
    """Yield pieces of what is in containers, and false: an object may go on in the next piece; or whole objects, and
    true. None stands for a container that cannot be read.
    """
    bare = bytearray()
    failure: Exception | None = None
    while failure is None and (base := file.read(_BASE.size)):
        try:
            size, kind = _sizes(base, 0)
        except ValueError as error:
            failure = error
            break
        body = file.read(size - _BASE.size)
        padding = file.read(size % 4)
        if len(body) < size - _BASE.size:
            failure = _EndsEarlyError("it ends within an object")
        if kind != _CONTAINER:
            bare += base + body + padding
        if bare and (kind == _CONTAINER or len(bare) >= _TOGETHER):
            yield bytes(bare), True
            bare.clear()
        if kind == _CONTAINER:
            try:
                for content in _unpacked(body, rejected):
                    yield content, False
            except _FAILURES as error:
                failure = failure or error
    if bare:
        yield bytes(bare), True
    if failure is not None:
        raise failure


def _sizes(data: bytes, at: int) -> tuple[int, int]:
    """Return the size and type of the object there; raise if there can be none."""
    if len(data) - at < _BASE.size:
        raise _EndsEarlyError("it ends within an object")
    signature, _, _, size, kind = _BASE.unpack_from(data, at)
    if signature != b"LOBJ":
        raise ValueError(f"{signature!r} where an object must begin, expected b'LOBJ'")
    largest = _LARGEST_FRAME if kind in _LAYOUTS else _LARGEST
    if not _BASE.size <= size <= largest:
        raise ValueError(f"an object of type {kind} that has {size:,} bytes; expected {_BASE.size} to {largest:,}")
    return size, kind


def _unpacked(body: bytes, rejected: Counter[str]) -> Iterator[bytes | None]:
    """Yield what is in a container as far as that can be unpacked; then raise what is wrong with it."""
    if len(body) < _CONTAINER_HEADER.size:
        raise _EndsEarlyError("it ends within a container")
    method, _ = _CONTAINER_HEADER.unpack_from(body)
    if method == _STORED:
        yield body[_CONTAINER_HEADER.size :]
    elif method == _DEFLATED:
        yield from _inflated(body, _CONTAINER_HEADER.size)
    else:
        rejected["container of unknown compression"] += 1
        yield None


def _inflated(packed: bytes, begin: int) -> Iterator[bytes]:
    """Unpack piece by piece: some bytes can stand for any number."""
    unpacking = zlib.decompressobj()
    for place in range(begin, len(packed), PACKED):
        rest = packed[place : place + PACKED]
        piece = b""
        while rest or len(piece) == PIECE:  # more of that may be waiting to come out
            yield (piece := unpacking.decompress(rest, PIECE))
            rest = unpacking.unconsumed_tail
    if not unpacking.eof:
        raise ValueError("a container that does not come to its end")


def walk(data: bytes) -> tuple[Array, int, int, ValueError | None]:
    """Return where whole objects begin; where the rest begins, whose object goes on elsewhere; how many bytes this
    lacks, as far as it says; and what is wrong with it.
    """
    places = []
    end = needed = 0
    try:
        while (place := data.find(b"LOBJ", end, end + 8)) >= 0 and len(data) - place >= _BASE.size:
            size, _ = _sizes(data, place)
            if (needed := place + size - len(data)) > 0:
                break
            places.append(place)
            end = place + size
        if place < 0 and len(data) - end >= 8:
            raise ValueError(f"{data[end : end + 4]!r} where an object must begin, expected b'LOBJ'")
    except ValueError as error:
        return np.array(places, np.intp), end, 0, error
    return np.array(places, np.intp), end, needed, None


# What they hold -------------------------------------------------------------------------------------------------------

_MARGIN = bytes(128)
_HEADER = np.dtype(
    {
        "names": ["version", "size", "type", "flags", "time"],
        "formats": ["<u2", "<u4", "<u4", "<u4", "<u8"],
        "offsets": [6, 8, 12, 16, 24],
        "itemsize": 32,
    }
)
_HEADER_SIZES = {1: 32, 2: 40}
_TEN_MICROSECONDS = 1  # in `flags`; else time is in nanoseconds
_EXTENDED_ID, _ID_BITS = 0x8000_0000, 0x1FFF_FFFF


def _body(data: int, **fields: tuple[str, int]) -> np.dtype[Any]:
    """Return the layout of an object behind its header; its data begins at the byte `data`."""
    places = {**fields, "data": (("u1", _ROOM), data)}
    formats, offsets = zip(*places.values(), strict=True)
    layout = {"names": list(places), "formats": formats, "offsets": offsets, "itemsize": data + _ROOM}
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]


_ROOM = 64  # bytes of data at most
_MESSAGE, _MESSAGE_2, _ERROR_EXT, _FD_MESSAGE, _FD_MESSAGE_64 = 1, 86, 73, 100, 101
_RESTORE_POINT = 115  # tells a program where to begin when it shows the file; no event
_CLASSIC = _body(8, channel=("<u2", 0), flags=("u1", 2), length=("u1", 3), id=("<u4", 4))
_LAYOUTS = {  # with how many bytes there must be
    _MESSAGE: (_CLASSIC, 16),
    _MESSAGE_2: (_CLASSIC, 16),
    _ERROR_EXT: (_body(24, channel=("<u2", 0), length=("u1", 10), id=("<u4", 16)), 32),
    _FD_MESSAGE: (_body(20, channel=("<u2", 0), flags=("u1", 2), length=("u1", 14), id=("<u4", 4)), 84),
    _FD_MESSAGE_64: (
        _body(40, channel=("u1", 0), length=("u1", 2), id=("<u4", 4), flags=("<u4", 12), behind=("u1", 35)),
        40,
    ),
}
_REMOTE_FLAG = {_MESSAGE: 0x80, _MESSAGE_2: 0x80, _FD_MESSAGE: 0x80, _FD_MESSAGE_64: 0x10}


def _frames(data: bytes, places: Array, start: float, rejected: Counter[str]) -> Frames:
    """Return the frames among the objects there, in their order."""
    raw = np.frombuffer(data + _MARGIN, np.uint8)
    header = _at(raw, places, _HEADER)
    version, kind = header["version"], header["type"]
    parts, found = [], []
    for number, (layout, least) in _LAYOUTS.items():
        for known, header_size in _HEADER_SIZES.items():
            which = np.flatnonzero((kind == number) & (version == known))
            if not len(which):
                continue
            room = header["size"][which].astype(np.int64) - header_size
            if not (fits := room >= least).all():
                rejected["truncated object"] += int((~fits).sum())
                which, room = which[fits], room[fits]
            body = _at(raw, places[which] + header_size, layout)
            part, sound = _part(number, body, room, header_size, _seconds(header[which]) + start)
            if not sound.all():
                rejected["absurd length"] += int((~sound).sum())
                part, which = part[sound], which[sound]
            parts.append(part)
            found.append(which)
    frames = np.isin(kind, list(_LAYOUTS))
    others = ~frames & (kind != _RESTORE_POINT)
    unknown = frames & ~np.isin(version, list(_HEADER_SIZES))
    for reason, count in (("other event", others.sum()), ("unknown object version", unknown.sum())):
        if count:
            rejected[reason] += int(count)
    joined = Frames.joined(parts)
    return joined if len(parts) < 2 else joined[np.argsort(np.concatenate(found), kind="stable")]


def _at(raw: Array, places: Array, dtype: np.dtype[Any]) -> Array:
    """Return the records that begin at these places; one that goes beyond the data goes on in the margin."""
    size = dtype.itemsize
    return np.ndarray(len(raw) - size + 1, f"V{size}", raw, strides=(1,))[places].view(dtype)


def _seconds(header: Array) -> Array:
    coarse = header["flags"] == _TEN_MICROSECONDS
    return header["time"] / np.where(coarse, 1e5, 1e9)


def _part(number: int, body: Array, room: Array, header_size: int, timestamp: Array) -> tuple[Frames, Array]:
    """Return the frames of objects of one type, and which of them are sound: `room` is the bytes of each body."""
    length = body["length"]
    sound = length <= _ROOM
    if number == _FD_MESSAGE_64:  # what its length says beyond its data is zeros; behind its data may be more
        behind = np.where(body["behind"] > 0, body["behind"].astype(np.int64) - header_size, room)
        there = np.clip(behind - 40, 0, length)
        sound &= behind >= 40
    else:
        length = there = np.minimum(length, _ROOM if number == _FD_MESSAGE else 8)
    width = _ROOM if length.max(initial=0) > 8 else 8
    payload = np.where(np.arange(width) < there[:, None], body["data"][:, :width], 0)
    can_id = body["id"]
    kind = np.where(can_id & _EXTENDED_ID, EXTENDED, 0).astype(np.uint8)
    if number == _ERROR_EXT:
        kind |= ERROR
    else:
        remote = (body["flags"] & _REMOTE_FLAG[number]) > 0
        kind |= np.where(remote, REMOTE, 0).astype(np.uint8)
        length = np.where(remote, 0, length)
        payload[remote] = 0
    buses, bus = np.unique(body["channel"], return_inverse=True)
    frames = Frames(
        timestamp,
        can_id & np.uint32(_ID_BITS),
        kind,
        bus.astype(np.uint16),
        length.astype(np.uint8),
        payload,
        tuple(str(each) for each in buses.tolist()),
    )
    return frames, sound
