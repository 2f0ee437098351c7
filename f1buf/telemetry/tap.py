"""Taps: what the sources make, for a display that may miss some of it."""

import time
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from f1buf import RingBuffer, ShutDown

__all__ = ["Tap"]

_TAIL = 512  # readings: 12 KiB, which a ring takes without letting go of the GIL
_REST = 300.0  # times as long as an offer took, so that offers take 0.3 % of a thread's time
_CREDIT = 0.1  # [s] of rest that may be owed: the packets of one frame come at once, and all are to be offered
_LONGEST_OFFER = 1e-4  # [s] an offer that took longer was interrupted


class Tap:
    """Offers one source's readings to a ring for display, at hardly any cost. Never waits for room.

    At ordinary rates the ring gets the end of each batch, all of a small one; of a faster source it misses batches.

    Parameters
    ----------
    ring : RingBuffer
        Of READING, with ``overflow="drop_oldest"``: a display takes from it, or looks (`RingBuffer.snapshot`).
    sources : int
        How many taps share the ring.
    """

    def __init__(self, ring: RingBuffer, sources: int = 1) -> None:
        self._ring = ring
        self._tail = max(1, min(_TAIL, ring.capacity // (2 * sources)))
        self._rested = 0.0  # when the rest after all offers so far ends (time.perf_counter)

    def offer(self, readings: NDArray[Any]) -> None:
        """Put the last ones of `readings`, an array of READING, unless rest is due; for one thread at a time."""
        began = time.perf_counter()
        if began < self._rested - _CREDIT:
            return
        with suppress(ShutDown):  # nobody looks any more; that is no reason to stop
            self._ring.put_many(readings[-self._tail :])
        took = min(time.perf_counter() - began, _LONGEST_OFFER)
        self._rested = max(self._rested, began) + _REST * took
