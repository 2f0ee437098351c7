"""Every implementation of a bounded buffer behind one face, for what they all promise; and a plain twin as oracle.

Items are numbers. The face: `put`, `put_many`, `get`, `get_many`, `shutdown`, `qsize` with the meanings of
`RingBuffer`, and `check`, which looks at the invariants. The twin is a deque, a lock and one condition on which
everybody is woken at every change: too simple to be wrong, too slow to be used. It goes through the same tests, which
are so tested themselves.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import thorough
from test_queue import KINDS

from f1buf import Empty, Full, RingBuffer, SharedRingBuffer, ShutDown

BULK = np.dtype([("number", "i8"), ("bulk", "u1", 20_000)])  # too large to be copied under the lock


class Twin:
    """The contract, as plainly as it can be written."""

    def __init__(self, capacity, overflow="block"):
        self.capacity, self.overflow = capacity, overflow
        self._items = deque()
        self._changed = threading.Condition()
        self._shut = False
        self.offered = self.taken = self.dropped = self.discarded = 0

    def put(self, item, block=True, timeout=None):
        self.put_many([item], block, timeout)

    def put_many(self, items, block=True, timeout=None):
        deadline = _deadline(block, timeout)
        with self._changed:
            for done, item in enumerate(items):
                if self._wait(self._has_room, deadline) and not self._shut:
                    self._accept(item)
                elif done:
                    return done
                else:
                    raise ShutDown if self._shut else Full
        return len(items)

    def get(self, block=True, timeout=None):
        return self.get_many(1, block=block, timeout=timeout)[0]

    def get_many(self, max_count=None, *, min_count=1, block=True, timeout=None):
        with self._changed:
            self._wait(lambda: len(self._items) >= min_count, _deadline(block, timeout))
            n = len(self._items) if max_count is None else min(max_count, len(self._items))
            if n == 0:
                raise ShutDown if self._shut else Empty
            self.taken += n
            self._changed.notify_all()
            return [self._items.popleft() for _ in range(n)]

    def shutdown(self, immediate=False):
        with self._changed:
            self._shut = True
            if immediate:
                self.discarded += len(self._items)
                self._items.clear()
            self._changed.notify_all()

    def qsize(self):
        with self._changed:
            return len(self._items)

    def check(self):
        with self._changed:
            assert self.offered == self.taken + self.dropped + self.discarded + len(self._items)

    def _has_room(self):
        return len(self._items) < self.capacity or self.overflow != "block"

    def _wait(self, condition, deadline):
        """Wait for the condition or a shutdown; False where the deadline came first."""
        return self._changed.wait_for(
            lambda: condition() or self._shut, None if deadline is None else max(0.0, deadline - time.monotonic())
        )

    def _accept(self, item):
        self.offered += 1
        if len(self._items) == self.capacity:
            self.dropped += 1
            if self.overflow == "drop_newest":
                return
            self._items.popleft()
        self._items.append(item)
        self._changed.notify_all()


def _deadline(block, timeout):
    if not block:
        return time.monotonic()
    return None if timeout is None else time.monotonic() + timeout


class RingOfNumbers:
    """A `RingBuffer` of 8 bytes a record, each number one of them."""

    dtype = np.dtype("i8")
    kind = RingBuffer

    def __init__(self, capacity, overflow="block"):
        self.ring = self.kind(capacity, self.dtype, overflow=overflow)
        self.shutdown, self.qsize = self.ring.shutdown, self.ring.qsize

    def put(self, item, block=True, timeout=None):
        self.ring.put(item, block, timeout)

    def put_many(self, items, block=True, timeout=None):
        return self.ring.put_many(self.records(items), block, timeout)

    def get(self, block=True, timeout=None):
        return self.numbers(np.array([self.ring.get(block, timeout)], self.dtype))[0]

    def get_many(self, max_count=None, **how):
        return self.numbers(self.ring.get_many(max_count, **how))

    def records(self, items):
        return np.array(items, self.dtype)

    def numbers(self, records):
        return records.tolist()

    def check(self):
        self.ring._check()
        stats = self.ring.stats()
        assert stats.offered == stats.taken + stats.dropped + stats.discarded + self.ring.qsize()


class RingOfBulk(RingOfNumbers):
    """A `RingBuffer` whose every copy takes a turn; what was copied must be whole."""

    dtype = BULK

    def put(self, item, block=True, timeout=None):
        self.ring.put(self.records([item])[0], block, timeout)

    def records(self, items):
        records = np.empty(len(items), BULK)
        records["number"] = items
        records["bulk"] = (records["number"] % 251)[:, None]
        return records

    def numbers(self, records):
        assert (records["bulk"] == (records["number"] % 251)[:, None]).all(), "a record is torn"
        return records["number"].tolist()


class SharedRingOfNumbers(RingOfNumbers):
    """A `SharedRingBuffer` that is opened twice, as by two processes: one of them for puts, the other for gets."""

    kind = SharedRingBuffer

    def __init__(self, capacity, overflow="block"):
        super().__init__(capacity, overflow)
        self.other = SharedRingBuffer.attach(self.ring.name)
        self.put, self.put_many = self.other.put, self.other.put_many


class QueueOfNumbers:
    """A queue of any kind; what is taken is done."""

    kind = staticmethod(KINDS["plain"])

    def __init__(self, capacity, overflow="block"):
        assert overflow == "block", "queues have no drop policies"
        self.queue = self.kind(capacity)
        self.put, self.put_many = self.queue.put, self.queue.put_many
        self.get, self.get_many = self.queue.get, self.queue.get_many
        self.shutdown, self.qsize, self.check = self.queue.shutdown, self.queue.qsize, self.queue._check


@dataclass(frozen=True)
class Implementation:
    name: str
    make: type
    in_order: bool = True  # first in, first out
    drops: bool = False  # has drop policies

    @property
    def is_queue(self):
        return issubclass(self.make, QueueOfNumbers)


def _queue(name):
    made = type(name, (QueueOfNumbers,), {"kind": staticmethod(KINDS[name])})
    return Implementation(f"{name} queue", made, in_order=name not in ("lifo", "priority"))


IMPLEMENTATIONS = [
    Implementation("ring of numbers", RingOfNumbers, drops=True),
    Implementation("ring of bulk", RingOfBulk, drops=True),
    Implementation("shared ring", SharedRingOfNumbers, drops=True),
    *map(_queue, KINDS),
    Implementation("twin", Twin, drops=True),
]
DERIVED = ("subclass queue", "hooked queue", "lifo queue")  # whose algorithm is another one's


def each_implementation(wanted=lambda implementation: True):
    """Parametrise a test by `implementation`; the everyday run takes each algorithm."""
    params = [
        pytest.param(one, id=one.name, marks=thorough if one.name in DERIVED else [])
        for one in IMPLEMENTATIONS
        if wanted(one)
    ]
    return pytest.mark.parametrize("implementation", params)
