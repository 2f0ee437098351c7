"""The files of shared rings: their names, how one is made and found, and what its header says.

A segment's file appears under its name in one step, when all is written and its maker is attached (`publish`): a
process that finds the file finds it whole. A name belongs to a ring for as long as any process has that open. After
that another process may take it over. That one holds the old file's gate alone, and processes that attach share the
gate, so that none attaches to what is about to be replaced. The gate is a flock on the whole file. The kernel drops it
once the file is closed, also by the death of its process; for no child that a fork has made meanwhile has it (`Files`).

Nothing here is trusted that stands in a file: see `read_header`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import numpy as np

from f1buf.ring.convert import check_dtype

FOLDER = "/dev/shm"
PREFIX = "f1buf-"
LONGEST_NAME = 200  # [bytes]

MAGIC = b"f1bufSHR"
LAYOUT = 1
BYTE_ORDER_MARK = 0x01020304
HEADER = 8192  # [bytes]
TEXT = 4096  # [bytes] where the text begins that describes the dtype
_FIELDS = struct.Struct("=8sIIQQQII16sI")  # as `Segment` begins in segment.hpp

_AS_IT_IS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK  # through no link, and no pipe is waited for

POLL_S = 0.005  # [s] how often `attach` looks for a name that is not there yet


class Header(NamedTuple):
    """What a segment says of itself, checked."""

    size: int  # [bytes] of the file
    capacity: int
    itemsize: int  # [bytes]
    overflow: int  # place in `OVERFLOWS` of ring.pyx
    token: bytes  # no other segment has it
    retired: bool  # its name has been taken over
    dtype: np.dtype[Any]


class Files(Protocol):
    """Opens files that the child of a fork does not have, and closes them."""

    def open(self, path: str, flags: int) -> int:
        """Open a file, which programs that are started do not have, either."""

    def close(self, file: int) -> None:
        """Close it. Until then, or until a place is taken in it, it is one that is being opened."""


def checked_name(name: object) -> str:
    """The name itself, or a new one for None."""
    if name is None:
        return f"{os.getpid()}-{secrets.token_hex(6)}"
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; expected a string, or None for a name that nobody else has")
    size = len(name.encode(errors="surrogateescape"))
    if not 1 <= size <= LONGEST_NAME or "/" in name or "\0" in name:
        raise ValueError(
            f"name is {name!r}, of {size} bytes; expected 1 to {LONGEST_NAME}, and neither a slash nor NUL among them"
        )
    return name


def path_of(name: str) -> str:
    return f"{FOLDER}/{PREFIX}{name}"


# -- creation ---------------------------------------------------------------------------------------------------------


def check_size(size: int, what: str) -> None:
    """Refuse what no file can be."""
    if size > sys.maxsize:
        raise MemoryError(f"cannot allocate {what}; choose a smaller capacity")


def allocate(size: int, what: str, files: Files) -> int:
    """A new file without a name, of so many bytes that are there for certain; for this user alone."""
    try:
        file = files.open(FOLDER, os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        raise OSError(error.errno, f"no shared memory can be made in {FOLDER}: {error.strerror}") from error
    try:
        os.posix_fallocate(file, 0, size)  # else a full file system would end the process at some put
    except (OSError, OverflowError) as error:
        free = os.fstatvfs(file)
        files.close(file)
        raise MemoryError(
            f"cannot allocate {what}; {FOLDER} has {free.f_bavail * free.f_frsize} bytes free; "
            "choose a smaller capacity, or make that larger (Docker: --shm-size)"
        ) from error
    return file


def publish(file: int, name: str, users: Callable[[int], list[int]], files: Files) -> None:
    """Give a finished file its name, also where that is a dead ring's. `users` tells who has a file open.

    That is told by locks alone, as anybody may have written over the numbers of the processes.
    """
    while True:
        try:
            # With a folder's descriptor, though the path is absolute: without, `os.link` follows no link.
            os.link(f"/proc/self/fd/{file}", path_of(name), src_dir_fd=file, follow_symlinks=True)
            return
        except FileExistsError:
            _retire(name, users, files)


def _retire(name: str, users: Callable[[int], list[int]], files: Files) -> None:
    """Take the name of a ring that nobody has open any more from it."""
    taken = f"the name {name!r} is taken"
    try:
        old = files.open(path_of(name), _AS_IT_IS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileExistsError(
            error.errno, f"{taken}, and its file cannot be opened ({error.strerror}); choose another name"
        ) from error
    with _gate(old, files):  # once nobody is attaching
        if not is_at(old, name):
            return
        if not is_segment(_start_of(old)):
            raise FileExistsError(errno.EEXIST, f"{taken}, by no ring that this f1buf knows; choose another name")
        processes = users(old)
        if processes:  # also one that has no number yet, or no longer
            numbers = ", ".join(str(process) for process in processes if process != 0)
            raise FileExistsError(
                errno.EEXIST,
                f"{taken}: the ring is open in {f'process {numbers}' if numbers else 'another process'}; "
                f"use SharedRingBuffer.attach({name!r}), or choose another name",
            )
        os.pwrite(old, b"\1\0\0\0", _FIELDS.size - 4)
        os.unlink(path_of(name))


@contextmanager
def _gate(file: int, files: Files) -> Iterator[None]:
    """The file's gate, alone, and its end. (Closing alone would leave it to a program that is just being started.)"""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
        files.close(file)


def is_at(file: int, name: str) -> bool:
    """Whether the name is this file's."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path_of(name), follow_symlinks=False))
    except FileNotFoundError:
        return False


def _start_of(file: int) -> bytes:
    try:
        return os.pread(file, HEADER, 0)
    except OSError:  # a pipe, say
        return b""


def remove(file: int, name: str) -> None:
    """Take the name away, if it is still this file's."""
    fcntl.flock(file, fcntl.LOCK_EX)  # so that nobody takes it over in between
    try:
        if is_at(file, name):
            os.unlink(path_of(name))
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def header_bytes(header: Header) -> bytes:
    """The first HEADER bytes of a new segment."""
    text = json.dumps(described(header.dtype)).encode()
    if rebuilt(json.loads(text)) != header.dtype:
        raise TypeError(f"dtype {header.dtype!s} cannot be described to other processes; expected plain fields")
    if len(text) > HEADER - TEXT:
        raise ValueError(
            f"the dtype takes {len(text)} bytes to describe; expected at most {HEADER - TEXT}; "
            "use shorter names, or fewer fields"
        )
    start = _FIELDS.pack(
        MAGIC,
        LAYOUT,
        BYTE_ORDER_MARK,
        header.size,
        header.capacity,
        header.itemsize,
        header.overflow,
        len(text),
        header.token,
        header.retired,
    )
    return start.ljust(TEXT, b"\0") + text.ljust(HEADER - TEXT, b"\0")


# -- attaching --------------------------------------------------------------------------------------------------------


def find(name: str, timeout: float | None, files: Files) -> tuple[int, Header]:
    """The open file of a ring, whose gate it shares until `fcntl.flock(file, LOCK_UN)`, and what its header says."""
    deadline = time.monotonic() + (timeout or 0.0)
    while True:
        found = _look_for(name, files)
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0.0:
            waited = f" (waited {timeout} s)" if timeout else ""
            raise FileNotFoundError(
                errno.ENOENT, f"no shared ring is named {name!r}{waited}; create it first, or say how long to wait"
            )
        time.sleep(min(POLL_S, left))


def _look_for(name: str, files: Files) -> tuple[int, Header] | None:
    """None where no ring has the name, or is about to lose it."""
    try:
        file = files.open(path_of(name), _AS_IT_IS)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PermissionError(
            error.errno, f"the shared ring {name!r} is another user's; run both programs as the same one"
        ) from None
    except OSError as error:
        raise ValueError(f"{path_of(name)} is no shared ring of f1buf ({error.strerror})") from None
    header = None
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        header = read_header(file, name)
        if not header.retired:
            return file, header
    finally:
        if header is None or header.retired:
            fcntl.flock(file, fcntl.LOCK_UN)
            files.close(file)
    return None


def is_segment(start: bytes) -> bool:
    """Whether a file that begins so is a ring of this layout."""
    if len(start) < _FIELDS.size:
        return False
    magic, layout, byte_order, *_ = _FIELDS.unpack_from(start)
    return bool(magic == MAGIC and layout == LAYOUT and byte_order == BYTE_ORDER_MARK)


def read_header(file: int, name: str) -> Header:
    """What the file says of itself; ValueError where it is no whole segment of this layout."""
    start = _start_of(file)
    if start[: len(MAGIC)] != MAGIC or len(start) < HEADER:
        raise ValueError(f"{path_of(name)} is no shared ring of f1buf, or its header was written over")
    fields = _FIELDS.unpack_from(start)
    _, layout, byte_order, size, capacity, itemsize, overflow, text_size, token, retired = fields
    if layout != LAYOUT or byte_order != BYTE_ORDER_MARK:
        raise ValueError(
            f"the shared ring {name!r} has layout {layout}; this f1buf knows {LAYOUT}; "
            "use the same release on both sides"
        )
    is_size = os.fstat(file).st_size
    dtype = _dtype_in(start[TEXT : TEXT + text_size])
    if (
        size != HEADER + capacity * itemsize
        or not 1 <= capacity < 1 << 62
        or not 0 <= overflow < 3
        or dtype is None
        or dtype.itemsize != itemsize
    ):
        raise ValueError(f"the header of the shared ring {name!r} makes no sense; somebody wrote over it")
    if is_size != size:
        raise ValueError(f"the shared ring {name!r} has {is_size} bytes; expected {size}; somebody changed its size")
    return Header(size, capacity, itemsize, overflow, token, bool(retired), dtype)


# -- dtypes -----------------------------------------------------------------------------------------------------------


def described(dtype: np.dtype[Any]) -> Any:
    """A dtype for JSON: of a field its string, a pair for a sub-array, a mapping for fields."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [described(base), list(shape)]
    if dtype.names is None or dtype.fields is None:
        if np.dtype(dtype.str) != dtype:
            raise TypeError(f"dtype {dtype!s} cannot be described to other processes; expected one of numpy's own")
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names]
    text = {
        "names": list(dtype.names),
        "formats": [described(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }
    titles = [field[2] if len(field) > 2 else None for field in fields]
    if any(title is not None for title in titles):
        text["titles"] = titles
    return text


def rebuilt(text: Any) -> np.dtype[Any]:
    """The dtype of what `described` made."""
    if isinstance(text, str):
        return np.dtype(text)
    if isinstance(text, list):
        base, shape = text
        return np.dtype((rebuilt(base), tuple(shape)))
    fields: Any = {**text, "formats": [rebuilt(one) for one in text["formats"]]}
    aligned = bool(fields.pop("aligned"))
    dtype: np.dtype[Any] = np.dtype(fields)
    with suppress(ValueError):  # what a process of 32 bits has aligned, 8 bytes at 4, need not be for one of 64
        dtype = np.dtype(fields, align=aligned)
    return dtype


def _dtype_in(text: bytes) -> np.dtype[Any] | None:
    """None where that makes no sense."""
    try:
        return check_dtype(rebuilt(json.loads(text)))
    except Exception:  # whatever numpy makes of it, also a warning that the program takes for an error
        return None
