"""Files that nobody sees before they are complete."""

import contextlib
import io
import os
from pathlib import Path

__all__ = ["open_unseen", "remove_unseen", "show_unseen"]


def open_unseen(path: Path) -> tuple[io.BufferedIOBase, Path | None]:
    """Open a new file in the folder of `path`, without a name; return it, and its hidden name if it needs one.

    Not all programs that read whole folders pass over hidden files, and a crash would leave one behind.
    """
    if os.path.isdir("/proc/self/fd"):  # without it the file could not be given a name
        with contextlib.suppress(OSError):  # not all file systems can; any other error comes again below
            return open(os.open(path.parent, os.O_RDWR | os.O_TMPFILE, 0o666), "w+b"), None
    temporary = path.with_name(f".{path.name}.tmp")
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
