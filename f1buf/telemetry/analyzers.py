"""Analyzers: threads that check batches at the same time, and report in the order of the stream.

What happens in parallel
    Checking a batch needs nothing but the batch, so each analyzer checks its own (`ThresholdTable.check`). Whether a
    reading is a *rise* depends on the readings before it, so the results are merged one at a time, in the order in
    which the batches were taken (`BatchOrder`). The alerts are therefore those of one analyzer that reads the whole
    stream, however many analyzers there are and however they are scheduled.

How the order is kept
    Batches are taken one at a time and queued as taken: one analyzer is *at the ring*, the others wait to come there. A
    finished batch stays in the queue until all before it are finished, too. The analyzer that finishes the first batch
    of the queue merges all that are ready. A batch whose analyzer fails is passed over.

How many are at work
    An analyzer that is quick stays at the ring while it checks and merges, and the others sleep: waking another one for
    each batch would cost more than the check does. Where there are processors for them, others come once a whole batch
    more is waiting. An analyzer that was slow with its last batch (hundreds of thresholds, an `on_alert` that waits)
    leaves the ring with the next one. So does always one with a check of its own, or a delay: it may take long, or wait
    for what another one finds.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import READING, RingBuffer, ShutDown
from f1buf.telemetry.thresholds import Crossings, ThresholdTable

__all__ = ["Analyzer", "Batch", "BatchOrder"]

_SLICE = 0.1  # [s] the most work that an analyzer with a delay takes at once, to leave some for the others
_QUICK = 1e-3  # [s] from the take of a batch to its merge: a dozen times what waking another analyzer costs
_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(slots=True, eq=False)
class Batch:
    """Readings on their way through an analyzer."""

    first_position: int
    """Position in the stream of the first reading."""
    readings: NDArray[Any]
    """READING, the analyzer's own."""
    room: NDArray[Any] | None = None
    """What `readings` is the front of, where it can be used for another batch once this one has been merged."""
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
        self._taking = threading.Lock()  # held by the analyzer that is at the ring
        self._at_ring: int | None = None  # its thread; only written to by that thread
        self._merging = threading.Lock()
        self._taken: deque[Batch] = deque()  # appended to under _taking, emptied under _merging
        self._rooms: list[NDArray[Any]] = []  # that no batch uses

    def take(self, max_count: int, *, reuse: bool = False, stay: bool = False) -> Batch | None:
        """Wait for the next batch; None once the ring is shut down and drained.

        Parameters
        ----------
        max_count : int
            The most readings in it.
        reuse : bool
            Whether nobody keeps the batch's readings once it is merged, so that another batch can have their memory.
        stay : bool
            Whether the calling thread's analyzer stays at the ring, unless there is work for another one, too. Then it
            must call this again, or `leave`.
        """
        me = threading.get_ident()
        if self._at_ring != me:
            self._taking.acquire()
            self._at_ring = me
        stays = False
        try:
            batch = self._in_kept(max_count) if reuse else Batch(*self._ring.get_many(max_count, return_seq=True))
            self._taken.append(batch)
            stays = stay and not self._is_work_for_two(max_count)
        except ShutDown:
            return None
        finally:
            if not stays:
                self.leave()
        return batch

    def _is_work_for_two(self, max_count: int) -> bool:
        """Whether another batch as large is there, and a processor beside that of the source and this one."""
        return _PROCESSORS > 2 and self._ring.qsize() >= min(max_count, self._ring.capacity // 2)

    def _in_kept(self, max_count: int) -> Batch:
        """Return the next batch in memory that is kept: malloc gives large arrays back, and page faults follow."""
        most = min(max_count, self._ring.capacity)
        room = self._rooms.pop() if self._rooms else None
        if room is None or len(room) != most:  # analyzers may differ, and an analyzer may change its mind
            room = np.empty(most, READING)
        first_position, count = self._ring.get_into(room, return_seq=True)
        return Batch(first_position, room[:count], room)

    def leave(self) -> None:
        """Let another analyzer come to the ring, if the calling thread's is there."""
        if self._at_ring == threading.get_ident():
            self._at_ring = None
            self._taking.release()

    def finish(self, batch: Batch) -> None:
        """Merge it and the batches that waited for it, unless one before it is not finished yet.

        Where a merge raises, the others are merged all the same; then the first error is raised.
        """
        errors = []
        with self._merging:
            batch.finished = True
            while self._taken and self._taken[0].finished:
                ready = self._taken.popleft()
                try:
                    self._merge(ready)
                except BaseException as error:
                    errors.append(error)
                if ready.room is not None:
                    self._rooms.append(ready.room)
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

    max_count = 65536
    """The most readings to take at once; fewer with a delay. An analyzer that is behind takes larger batches, which
    cost less a reading."""

    def __init__(self, order: BatchOrder, table: ThresholdTable, delay: float = 0.0) -> None:
        self.table = table
        self._order = order
        self._delay = delay
        if delay > 0:
            self.max_count = max(1, min(self.max_count, int(_SLICE / delay)))

    def run(self) -> None:
        """Work until the ring is drained; in a thread."""
        # A check of a subclass's, or of this very analyzer's, may keep the readings, or wait for another one's.
        plain = getattr(self.check, "__func__", None) is Analyzer.check and self._delay == 0
        quick = True  # it will turn out
        try:
            while (batch := self._order.take(self.max_count, reuse=plain, stay=plain and quick)) is not None:
                began = time.perf_counter()
                try:
                    batch.crossings = self._checked(batch.readings)
                finally:
                    self._order.finish(batch)
                quick = time.perf_counter() - began < _QUICK
        finally:
            self._order.leave()

    def _checked(self, readings: NDArray[Any]) -> Crossings:
        found = self.check(readings)
        if not isinstance(found, Crossings):
            raise TypeError(f"{type(self).__name__}.check returned {found!r}; expected the Crossings of table.check")
        if self._delay > 0:
            time.sleep(self._delay * len(readings))  # the further work
        return found

    def check(self, readings: NDArray[Any]) -> Crossings:
        """Compare a batch with the thresholds.

        Parameters
        ----------
        readings : ndarray of READING
            The batch: this analyzer's own, not to be changed.
        """
        return self.table.check(readings)
