"""f1buf: bounded buffers whose blocking put and get wait without the GIL, and a telemetry system on them.

`RingBuffer` holds fixed-size numpy records; `Tee` puts into several of them; `f1buf.telemetry` is the system of
sensors, analyzers and thresholds that stands on it. `Queue` holds any objects: ``import f1buf as queue`` is a drop-in
for the standard library's `queue`. C speed without the GIL, from another project's Cython: `get_include`.
"""

from typing import TYPE_CHECKING, Any

from f1buf._shutdown import ShutDown

if TYPE_CHECKING:
    from queue import Empty, Full, SimpleQueue

    from f1buf._queue import LifoQueue, PriorityQueue, Queue
    from f1buf._reading import READING
    from f1buf._ring import PeekedBlock, ReservedBlock, RingBuffer
    from f1buf._stats import RingStats
    from f1buf._tee import Tee
else:
    from f1buf._standard import Empty, Full, SimpleQueue  # at once, before somebody patches or replaces `queue`

__version__ = "0.1.0"
__all__ = [
    "READING",
    "Empty",
    "Full",
    "LifoQueue",
    "PeekedBlock",
    "PriorityQueue",
    "Queue",
    "ReservedBlock",
    "RingBuffer",
    "RingStats",
    "ShutDown",
    "SimpleQueue",
    "Tee",
    "get_include",
]

# Loaded when it is first used: importing f1buf, or a Queue from it, does not import numpy.
_HOMES = {
    "LifoQueue": "f1buf._queue",
    "PeekedBlock": "f1buf._ring",
    "PriorityQueue": "f1buf._queue",
    "Queue": "f1buf._queue",
    "READING": "f1buf._reading",
    "ReservedBlock": "f1buf._ring",
    "RingBuffer": "f1buf._ring",
    "RingStats": "f1buf._stats",
    "Tee": "f1buf._tee",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'f1buf' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def get_include() -> str:
    """
    The folder of the C++ headers that a module needs which does ``from f1buf cimport RingBuffer``.

    Returns
    -------
    str
        For the `include_dirs` of a `setuptools.Extension`. The comments in ``_ring.pxd``, there, describe the C calls.

    Examples
    --------
    >>> import f1buf, os
    >>> sorted(name for name in os.listdir(f1buf.get_include()) if name in ("__init__.pxd", "_ring.pxd", "_sync.hpp"))
    ['__init__.pxd', '_ring.pxd', '_sync.hpp']
    """
    from os.path import abspath, dirname

    return dirname(abspath(__file__))


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
