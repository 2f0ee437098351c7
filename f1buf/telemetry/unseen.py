"""Files that nobody sees before they are complete."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from f1buf.telemetry.errors import ExportError

__all__ = ["new_file", "open_unseen", "remove_unseen", "show_unseen"]

_LONGEST = 255  # bytes of a name, on all file systems of Linux that people keep files on


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Open a file that nobody sees; the function gives it its name, and returns its size. Else it is removed.

    Raises
    ------
    ExportError
        There is such a file, or it cannot be written.
    """
    with _failure_explained(path, while_writing=False):
        _refuse_what_is_there(path)
        file, temporary = open_unseen(path)

    def show() -> int:
        file.flush()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
        _refuse_what_is_there(path)  # where it has a hidden name, the new one would replace the other file
        show_unseen(file, temporary, path)
        return size

    try:
        with _failure_explained(path, while_writing=True):
            yield cast(BinaryIO, file), show
    finally:
        remove_unseen(file, temporary)


def _refuse_what_is_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # it finds a link to nothing, too, and fails for a name that no file can have
        raise FileExistsError


@contextlib.contextmanager
def _failure_explained(path: Path, *, while_writing: bool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        if isinstance(error, FileExistsError):
            reason = "exists; expected a new file: choose another name, or remove it"
        raise ExportError(f"{path}: {reason}", while_writing=while_writing) from error


def open_unseen(path: Path) -> tuple[io.BufferedIOBase, Path | None]:
    """Open a new file in the folder of `path`, without a name; return it, and its hidden name if it needs one.

    Not all programs that read whole folders pass over hidden files, and a crash would leave one behind.
    """
    if os.path.isdir("/proc/self/fd"):  # without it the file could not be given a name
        with contextlib.suppress(OSError):  # not all file systems can; any other error comes again below
            return open(os.open(path.parent, os.O_RDWR | os.O_TMPFILE, 0o666), "w+b"), None
    name = os.fsdecode(os.fsencode(path.name)[: _LONGEST - len("..tmp")])
    temporary = path.with_name(f".{name}.tmp")
    temporary.unlink(missing_ok=True)  # one that a crash left behind
    return temporary.open("x+b"), temporary  # x follows no link, which another user may have put there


def show_unseen(file: io.BufferedIOBase, temporary: Path | None, path: Path) -> None:
    """Give a complete file its name, and close it."""
    if temporary is None:
        # os.link follows the link in /proc only if it is also given a descriptor, which an absolute path ignores.
        number = file.fileno()
        os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number, follow_symlinks=True)
    else:
        temporary.rename(path)
    file.close()


def remove_unseen(file: io.BufferedIOBase, temporary: Path | None) -> None:
    """Close and remove a file that was not shown, as far as that can be done."""
    with contextlib.suppress(OSError):
        file.close()
    if temporary is not None:
        with contextlib.suppress(OSError):
            temporary.unlink()
