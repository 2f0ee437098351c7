"""f1buf: bounded buffers whose blocking put and get wait without the GIL, and a telemetry system on them.

`RingBuffer` holds fixed-size numpy records; `Tee` puts into several of them; `f1buf.telemetry` is the system of
sensors, analyzers and thresholds that stands on it. `Queue` holds any objects: ``import f1buf as queue`` is a drop-in
for the standard library's `queue`. C speed without the GIL, from another project's Cython: `get_include`.
"""

import sys

from f1buf.core.errors import Abandoned, Empty, Full, ShutDown  # at once, before somebody patches or replaces `queue`

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from queue import SimpleQueue
    from typing import Any

    from f1buf.queue.queue import LifoQueue, PriorityQueue, Queue
    from f1buf.ring.reading import READING
    from f1buf.ring.ring import PeekedBlock, ReservedBlock, RingBuffer
    from f1buf.ring.shared import SharedRingBuffer
    from f1buf.ring.stats import RingStats
    from f1buf.ring.tee import Tee
else:
    from f1buf.core.standard import SimpleQueue

__version__ = "0.1.0"
__all__ = [
    "READING",
    "Abandoned",
    "Empty",
    "Full",
    "LifoQueue",
    "PeekedBlock",
    "PriorityQueue",
    "Queue",
    "ReservedBlock",
    "RingBuffer",
    "RingStats",
    "SharedRingBuffer",
    "ShutDown",
    "SimpleQueue",
    "Tee",
    "get_include",
]

# Loaded when it is first used: importing f1buf, or a Queue from it, does not import numpy.
_HOMES = {
    "LifoQueue": "f1buf.queue.queue",
    "PeekedBlock": "f1buf.ring.ring",
    "PriorityQueue": "f1buf.queue.queue",
    "Queue": "f1buf.queue.queue",
    "READING": "f1buf.ring.reading",
    "ReservedBlock": "f1buf.ring.ring",
    "RingBuffer": "f1buf.ring.ring",
    "RingStats": "f1buf.ring.stats",
    "SharedRingBuffer": "f1buf.ring.shared",
    "Tee": "f1buf.ring.tee",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'f1buf' has no attribute {name!r}")
    from importlib import import_module

    try:
        home = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not _why_not_here() and not missing.startswith("f1buf."):
            raise
        raise _missing(missing) from error
    value = globals()[name] = getattr(home, name)
    return value


def get_include() -> str:
    """
    The folder of the C++ headers that a module needs which does ``from f1buf cimport RingBuffer``.

    Returns
    -------
    str
        For the `include_dirs` of a `setuptools.Extension`. Comments in ``ring/ring.pxd``, there, describe the C calls.

    Examples
    --------
    >>> import f1buf, os
    >>> all(os.path.exists(os.path.join(f1buf.get_include(), name)) for name in ("ring/ring.pxd", "core/sync.hpp"))
    True
    """
    from os.path import abspath, dirname

    return dirname(abspath(__file__))


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# -- where f1buf cannot run -------------------------------------------------------------------------------------------


def _is_main_interpreter() -> bool:
    """Whether this is the main interpreter of the process; True where Python does not tell."""
    try:
        if sys.version_info >= (3, 12):
            from _thread import _is_main_interpreter as is_main

            return bool(is_main())
        import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]
    except ImportError:  # then the compiled modules keep to whoever loads them first
        return True
    return bool(interpreters.get_current() == interpreters.get_main())


def _check_archive() -> None:
    """Refuse a zip archive that has no way to its compiled modules (some programs that freeze others make one)."""
    from importlib.util import find_spec

    if find_spec("f1buf.core.sync") is None:
        raise _missing("f1buf.core.sync")


def _why_not_here() -> str:
    """Why f1buf is not compiled for this system, in the words of setup.py; empty where it is meant for it."""
    if sys.platform != "linux":
        wsl = "; on Windows, use WSL" if sys.platform in ("win32", "cygwin") else ""
        return f"runs on Linux alone (futexes, eventfd, locks of open files), and this is {sys.platform}{wsl}"
    if sys.implementation.name != "cpython":
        import platform

        return f"runs on CPython alone, and this is {platform.python_implementation()}: use CPython 3.11 or newer"
    return ""


def _missing(name: str) -> ImportError:
    """The error where a module of f1buf, most likely a compiled one, is not found."""
    if here := _why_not_here():
        return ImportError(f"f1buf {here}", name=name)
    archive = getattr(__spec__.loader, "archive", None)
    if getattr(sys, "frozen", False):
        why = (
            "the program was frozen without it; name it to the tool that freezes "
            f"(PyInstaller: --hidden-import {name}; cx_Freeze: --includes {name})"
        )
    elif archive is not None:
        why = (
            f"f1buf is in the archive {archive}, and Python loads no compiled module out of an archive; unpack it and "
            "put the folder on sys.path, or make the archive with shiv or pex, which unpack it by themselves"
        )
    else:
        why = _what_is_there(name)
    return ImportError(f"f1buf {__version__} cannot load its module {name}: {why}", name=name)


def _what_is_there(name: str) -> str:
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    *rooms, stem = name.split(".")[1:]
    folder = Path(__file__).absolute().parent.joinpath(*rooms)
    found = sorted(path.name for path in folder.glob(f"{stem}.*") if path.suffix in (".so", ".pyd"))
    of_others = f"only {', '.join(found)}, of another Python" if found else "none"
    return (
        f"{folder} has {of_others}; expected {stem}{EXTENSION_SUFFIXES[0]}; install f1buf with the Python that runs it "
        f"({sys.executable or 'python'} -m pip install --force-reinstall f1buf), and build a source tree "
        "(pip install -e .)"
    )


def _named_for_freezers() -> None:
    """
    Name what a frozen program needs and no other Python code names. Nobody calls this.

    PyInstaller and its like read bytecode: they find neither what only compiled modules import nor what `__getattr__`
    imports by name. That a test compares with what the compiled modules import.
    """
    import _thread  # noqa: F401
    import atexit  # noqa: F401
    import collections  # noqa: F401
    import heapq  # noqa: F401
    import math  # noqa: F401
    import operator  # noqa: F401
    import threading  # noqa: F401
    import time  # noqa: F401
    import types  # noqa: F401
    import weakref  # noqa: F401

    import numpy  # noqa: F401

    import f1buf.core.borrowed
    import f1buf.core.coroutines
    import f1buf.core.errors
    import f1buf.core.loop  # type: ignore[import-not-found]
    import f1buf.core.standard
    import f1buf.core.sync  # type: ignore[import-not-found]
    import f1buf.core.trio
    import f1buf.queue.classic
    import f1buf.queue.coroutines
    import f1buf.queue.queue
    import f1buf.ring.convert
    import f1buf.ring.coroutines
    import f1buf.ring.reading
    import f1buf.ring.ring
    import f1buf.ring.segments
    import f1buf.ring.shared
    import f1buf.ring.stats
    import f1buf.ring.tee  # noqa: F401


# Before any compiled module is loaded: such a module keeps to the interpreter that loads it first, and if that is a
# subinterpreter the main one could not have it any more.
if not _is_main_interpreter():
    raise ImportError(
        "f1buf does not support subinterpreters: what its compiled modules hold is there once for the whole process; "
        "import it in the main interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
    )
if hasattr(__spec__.loader, "archive"):
    _check_archive()
