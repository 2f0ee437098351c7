"""`Tee`: each record into every one of several rings."""

from __future__ import annotations

import time
from typing import Any

from f1buf.core.errors import Abandoned, ShutDown
from f1buf.ring.convert import to_record, to_records
from f1buf.ring.ring import RingBuffer

_FOR_EVER = 1e12  # [s]: integers beyond a float's range must not meet one


class Tee:
    """
    Puts each record into every one of several rings, each with its own overflow policy.

    Analyzers that must see everything can so stand beside a display that may skip.

    Parameters
    ----------
    *rings : RingBuffer
        At least one, all of the same dtype, none twice.

    Notes
    -----
    The timeout governs the first ring. What that accepted then goes to each other ring in turn, however long that
    takes: a full ring with ``overflow="block"`` makes the put wait. A ring that is shut down is skipped, and the
    next one takes its place; when all are, puts raise `ShutDown`. Not so a shared ring that is full, and that all who
    took from it have left: puts raise `Abandoned`, once all other rings have the records.

    Safe from any thread, but the rings may see the records of different producers in different orders. An exception
    from a signal handler ends a put that waits for a later ring, and so does a lack of memory for its waiting: the
    earlier rings have the records then. So have they where the thread has a block of a later ring out (`reserve`, or
    `peek` of one that is full), for whose end the put would wait itself: that is a RuntimeError.

    Examples
    --------
    >>> from f1buf import RingBuffer, Tee
    >>> everything, newest = RingBuffer(100), RingBuffer(2, overflow="drop_oldest")
    >>> Tee(everything, newest).put_many([(t, 0, 0, 0, 20.5) for t in range(5)])
    5
    >>> len(everything), newest.snapshot()["timestamp"].tolist()
    (5, [3.0, 4.0])
    """

    def __init__(self, *rings: RingBuffer) -> None:
        if not rings:
            raise ValueError("a Tee needs at least one ring; got none")
        for ring in rings:
            if not isinstance(ring, RingBuffer):
                raise TypeError(f"a Tee joins RingBuffers; got {type(ring).__name__!r}")
            if ring.dtype != rings[0].dtype:
                raise TypeError(f"the rings of a Tee have one dtype; got {rings[0].dtype!s} and {ring.dtype!s}")
        if len({id(ring) for ring in rings}) != len(rings):
            raise ValueError("a ring stands twice in the Tee; each record would enter it twice")
        self._rings = rings

    @property
    def rings(self) -> tuple[RingBuffer, ...]:
        """The rings, in the order given."""
        return self._rings

    def put(self, record: Any, block: bool = True, timeout: float | None = None) -> None:
        """
        Put one record into every ring.

        Parameters
        ----------
        record, block, timeout
            As in `RingBuffer.put`; `block` and `timeout` are for the first ring.

        Raises
        ------
        queue.Full
            The first ring had no room in time; none has the record.
        ShutDown
            Every ring is shut down.
        Abandoned
            Nobody takes from a `SharedRingBuffer` any more, which is full. Where it is the first ring, none has the
            record; else all others have it.
        TypeError, ValueError
            The record does not fit the dtype; nothing has changed.
        """
        self._put_array(to_record(record, self._rings[0].dtype), block, timeout)

    def put_nowait(self, record: Any) -> None:
        """Put one record into every ring if the first has room now: ``put(record, block=False)``."""
        self.put(record, False)

    def put_many(self, records: Any, block: bool = True, timeout: float | None = None) -> int:
        """
        Put many records, in order, into every ring.

        Parameters
        ----------
        records, block, timeout
            As in `RingBuffer.put_many`; `block` and `timeout` are for the first ring.

        Returns
        -------
        int
            How many the first ring accepted, in order from the first; the others have got the same, unless
            they were shut down meanwhile.

        Raises
        ------
        queue.Full, ShutDown, Abandoned, TypeError, ValueError
            As `put`.
        """
        return self._put_array(to_records(records, self._rings[0].dtype), block, timeout)

    def _put_array(self, records: Any, block: bool, timeout: float | None) -> int:
        accepted = abandoned = None
        began = time.monotonic()
        for ring in self._rings:
            try:
                if accepted is None:
                    accepted = ring.put_many(records, block, timeout)
                    if accepted < len(records):  # else nothing that follows needs memory, unless a ring must wait
                        records = records[:accepted]
                else:
                    put = ring.put_many(records)
                    while put < accepted:  # why, it says now
                        put += ring.put_many(records[put:])
            except Abandoned as error:
                if accepted is None:
                    raise
                abandoned = error
            except ShutDown:
                if timeout is not None:  # the ring that takes its place has what is left of it
                    timeout = max(0.0, float(min(timeout, _FOR_EVER)) - (time.monotonic() - began))
                    began = time.monotonic()
        if accepted is None:
            raise ShutDown("cannot put into the Tee: all its rings are shut down")
        if abandoned is not None:
            raise abandoned
        return accepted

    def shutdown(self, immediate: bool = False) -> None:
        """
        Shut every ring down.

        Parameters
        ----------
        immediate : bool
            Discard what is left in the rings.
        """
        for ring in self._rings:
            ring.shutdown(immediate)


__all__ = ["Tee"]
