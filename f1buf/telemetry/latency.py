"""How long readings take from the put to the check.

Now and then a producer notes when it began a put, and how many records had entered the ring when the put was over. Once
the analyzers are past that position, the whole put has been checked. The time since it began is one sample: at least as
long as any of its readings waited.
"""

import math
import threading
import time
from collections import deque
from typing import Any

from f1buf import RingBuffer

__all__ = ["LatencyHistogram", "LatencySampler"]

_PER_DECADE = 100  # buckets 2.3 % wide
_LOWEST = 1e-7  # [s] the upper end of the first bucket
_DECADES = 10  # up to 1,000 s
_INTERVAL = 1e-3  # [s] between two samples of one producer


class LatencyHistogram:
    """Counts durations in buckets 2.3 % wide, so in the same memory however long it runs."""

    def __init__(self) -> None:
        self._counts = [0] * (_DECADES * _PER_DECADE + 1)
        self.count = 0
        self.max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration [s]."""
        bucket = math.ceil(math.log10(max(seconds, _LOWEST) / _LOWEST) * _PER_DECADE)
        self._counts[min(bucket, len(self._counts) - 1)] += 1
        self.count += 1
        self.max = max(self.max, seconds)

    def quantile(self, q: float) -> float | None:
        """Return the duration [s] that a share `q` does not exceed, up to 2.3 % too high; None if none was counted."""
        wanted = math.ceil(q * self.count)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                last = bucket == len(self._counts) - 1  # it has all that is longer than the buckets reach
                return self.max if last else min(_LOWEST * 10 ** (bucket / _PER_DECADE), self.max)
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return ``p50``, ``p99`` and ``max`` [s], each None where nothing was counted."""
        return {"p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": self.max if self.count else None}


class LatencySampler:
    """Notes puts (any thread) and finds out when they had been checked (one thread at a time)."""

    def __init__(self, ring: RingBuffer) -> None:
        self._ring = ring
        self._lock = threading.Lock()  # held for a moment, a thousand times a second and producer at most
        self._noted: deque[tuple[int, float]] = deque()  # position to pass, time of the put
        self._checked = (0, 0.0)  # everything before this position has been checked, at that time
        self.histogram = LatencyHistogram()

    def note(self, began: float) -> None:
        """Remember a put that is over, and began then (``time.perf_counter()``)."""
        stats = self._ring.stats()
        # A refused record has no position. Under "drop_oldest" a few are refused, which makes samples late.
        entered = stats.offered - (stats.dropped if self._ring.overflow == "drop_newest" else 0)
        with self._lock:
            position, at = self._checked
            if entered <= position:  # the analyzers were faster
                self.histogram.add(max(0.0, at - began))
            else:
                self._noted.append((entered, began))

    def checked(self, position: int) -> None:
        """Count the puts before `position`: everything there has been checked."""
        now = time.perf_counter()
        with self._lock:
            self._checked = position, now
            while self._noted and self._noted[0][0] <= position:
                self.histogram.add(now - self._noted.popleft()[1])


class PutTimer:
    """One producer's part in the sampling: ``with timer:`` around each put; now and then that makes a sample."""

    def __init__(self, sampler: LatencySampler) -> None:
        self._sampler = sampler
        self._began = 0.0
        self._next = 0.0  # when a sample is due

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self._began >= self._next:
            self._next = self._began + _INTERVAL
            self._sampler.note(self._began)
