"""Analyzers: threads that check batches at the same time, and report in the order of the stream.

What happens in parallel
    Checking a batch needs nothing but the batch, so each analyzer checks its own (`ThresholdTable.check`). Whether a
    reading is a *rise* depends on the readings before it, so the results are merged one at a time, in the order in
    which the batches were taken (`BatchOrder`). The alerts are therefore those of one analyzer that reads the whole
    stream, however many analyzers there are and however they are scheduled.

How the order is kept
    Batches are taken one at a time, under a lock, and queued as taken: one analyzer waits at the ring, the others wait
    for that lock. A finished batch stays in the queue until all before it are finished, too. The analyzer that finishes
    the first batch of the queue merges all that are ready. A batch whose analyzer fails is passed over.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from f1buf import RingBuffer, ShutDown
from f1buf.telemetry.thresholds import Crossings, ThresholdTable

__all__ = ["Analyzer", "Batch", "BatchOrder"]

_SLICE = 0.1  # [s] the most work that an analyzer with a delay takes at once, to leave some for the others


@dataclass(slots=True, eq=False)
class Batch:
    """Readings on their way through an analyzer."""

    first_position: int
    """Position in the stream of the first reading."""
    readings: NDArray[Any]
    """READING, the analyzer's own."""
    crossings: Crossings | None = None
    """What the check found; None where it failed."""
    finished: bool = False


class BatchOrder:
    """Hands out a ring's batches and merges the results in the same order.

    Parameters
    ----------
    ring : RingBuffer
        Of READING.
    merge : callable
        Called with one finished `Batch` after the other, never by two threads at once.
    """

    def __init__(self, ring: RingBuffer, merge: Callable[[Batch], None]) -> None:
        self._ring = ring
        self._merge = merge
        self._taking = threading.Lock()  # held while one analyzer waits at the ring
        self._merging = threading.Lock()
        self._taken: deque[Batch] = deque()  # appended to under _taking, emptied under _merging

    def take(self, max_count: int) -> Batch | None:
        """Wait for the next batch; None once the ring is shut down and drained."""
        with self._taking:
            try:
                batch = Batch(*self._ring.get_many(max_count, return_seq=True))
            except ShutDown:
                return None
            self._taken.append(batch)
        return batch

    def finish(self, batch: Batch) -> None:
        """Merge it and the batches that waited for it, unless one before it is not finished yet.

        Where a merge raises, the others are merged all the same; then the first error is raised.
        """
        errors = []
        with self._merging:
            batch.finished = True
            while self._taken and self._taken[0].finished:
                try:
                    self._merge(self._taken.popleft())
                except BaseException as error:
                    errors.append(error)
        if errors:
            raise errors[0]


class Analyzer:
    """Takes batches and checks them, until the ring is shut down and drained.

    To look at the readings in ways of your own, override `check`, and call the base class's in it.

    Parameters
    ----------
    order : BatchOrder
        Where the batches come from and go to.
    table : ThresholdTable
        What to check.
    delay : float
        Seconds of further work for each reading: stands for a slower analysis.
    """

    max_count = 32768
    """The most readings to take at once; fewer with a delay.

    An analyzer that is behind takes larger batches, which cost less a reading: at 256 readings a put, up to 32,768 at
    once make 1.3 times as many a second as up to 8,192."""

    def __init__(self, order: BatchOrder, table: ThresholdTable, delay: float = 0.0) -> None:
        self.table = table
        self._order = order
        self._delay = delay
        if delay > 0:
            self.max_count = max(1, min(self.max_count, int(_SLICE / delay)))

    def run(self) -> None:
        """Work until the ring is drained; in a thread."""
        while (batch := self._order.take(self.max_count)) is not None:
            try:
                found = self.check(batch.readings)
                if not isinstance(found, Crossings):
                    name = type(self).__name__
                    raise TypeError(f"{name}.check returned {found!r}; expected the Crossings of table.check")
                batch.crossings = found
                if self._delay > 0:
                    time.sleep(self._delay * len(batch.readings))  # the further work
            finally:
                self._order.finish(batch)

    def check(self, readings: NDArray[Any]) -> Crossings:
        """Compare a batch with the thresholds.

        Parameters
        ----------
        readings : ndarray of READING
            The batch: this analyzer's own, not to be changed.
        """
        return self.table.check(readings)
