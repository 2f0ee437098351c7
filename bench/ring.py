"""`RingBuffer` against `queue.Queue`, in one run.

The two take turns; the ratios are those of the medians. Every run checks that all that was put has arrived.

    python bench/ring.py [--runs N]
"""

import argparse
import os
import platform
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from f1buf import READING, RingBuffer

RECORD = (1.5, 7, 2, 0, 311.25)


def queue_put(n: int = 50_000) -> float:
    """Items a second, put into a queue.Queue that nobody empties; a ready object."""
    waiting: queue.Queue[object] = queue.Queue()
    put, item = waiting.put, object()
    began = time.perf_counter()
    for _ in range(n):
        put(item)
    seconds = time.perf_counter() - began
    assert waiting.qsize() == n
    return n / seconds


def ring_put(n: int = 200_000) -> float:
    """Readings a second, put as tuples into a ring that nobody empties."""
    ring = RingBuffer(n)
    put = ring.put
    began = time.perf_counter()
    for _ in range(n):
        put(RECORD)
    seconds = time.perf_counter() - began
    assert len(ring) == n
    return n / seconds


def queue_hand_over(n: int = 100_000) -> float:
    """Items a second from one thread to another through a queue.Queue of 1,024."""
    waiting: queue.Queue[int] = queue.Queue(1024)
    thread = threading.Thread(target=lambda: [waiting.put(i) for i in range(n)])
    began = time.perf_counter()
    thread.start()
    total = sum(waiting.get() for _ in range(n))
    seconds = time.perf_counter() - began
    thread.join()
    assert total == n * (n - 1) // 2
    return n / seconds


def ring_hand_over(batch: int, n: int) -> float:
    """Readings a second from one thread to another, in batches, through a ring of 8 batches (1,024 at least)."""
    ring = RingBuffer(max(1024, 8 * batch))
    readings, out = np.zeros(batch, READING), np.zeros(batch, READING)

    def produce() -> None:
        with ring:
            for _ in range(n // batch):
                ring.put_many(readings)

    thread = threading.Thread(target=produce)
    began = time.perf_counter()
    thread.start()
    taken = 0
    while taken < n // batch * batch:
        taken += ring.get_into(out)
    seconds = time.perf_counter() - began
    thread.join()
    assert ring.stats().taken == taken
    return taken / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="of each, taking turns (default: 9)")
    runs = parser.parse_args().runs
    workloads: dict[str, Callable[[], float]] = {
        "queue.Queue.put": queue_put,
        "RingBuffer.put of a tuple": ring_put,
        "queue.Queue, thread to thread": queue_hand_over,
        "RingBuffer, batches of 16": lambda: ring_hand_over(16, 2_000_000),
        "RingBuffer, batches of 256": lambda: ring_hand_over(256, 20_000_000),
        "RingBuffer, batches of 4,096": lambda: ring_hand_over(4096, 200_000_000),
    }
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for run in range(runs + 1):
        for name, workload in workloads.items():
            rate = workload()
            if run:  # the first is the warm-up
                rates[name].append(rate)
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", no GIL"
    print(f"Python {platform.python_version()}{gil}, {os.cpu_count()} cores, numpy {np.__version__}, {runs} runs")
    base = 0.0
    for name, values in rates.items():
        median = statistics.median(values)
        if name.startswith("queue"):
            base = median
        spread = f"{min(values) / 1e6:.2f} to {max(values) / 1e6:.2f}"
        print(f"{name:<30} {median / 1e6:9.2f} M/s  ({spread})  {median / base:8.1f} x")


if __name__ == "__main__":
    main()
