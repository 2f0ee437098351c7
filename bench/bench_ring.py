"""RingBuffer's throughput and latency, for pytest-benchmark; compare.py runs the same workloads against their rivals.

    python -m pytest bench/bench_ring.py

A figure of pytest-benchmark's includes making the threads and checking the answer; what the workload's own clock says
is in the extra information (``--benchmark-json``, ``--benchmark-group-by=func``).
"""

import statistics
import threading
from dataclasses import replace

import pytest
from common import cpus, quartiles_of
from peers import PEERS, Flow
from workloads import Pace, Slow, Trip, move, move_by_memcpy, paced, put_only, round_trips, slow_consumer

from f1buf import RingBuffer

BATCHES = {1: 1 << 17, 16: 1 << 20, 256: 1 << 23, 4096: 1 << 25}  # records that a run moves
THREADS = [(1, 4), (4, 1), (4, 4), (16, 16)]


def measure(benchmark, workload, *args, rounds=5):
    """So many rounds after one that warms up; the runs."""
    runs = []
    benchmark.pedantic(lambda: runs.append(workload(*args)), rounds=rounds, warmup_rounds=1)
    counted = runs[1:] or runs  # with --benchmark-disable there is only one
    benchmark.extra_info["a_second"] = statistics.median(run.rate for run in counted)
    benchmark.extra_info["cpu_s"] = statistics.median(run.used.cpu_s for run in counted)
    return counted


def test_put(benchmark):
    measure(benchmark, put_only, "ring", 1 << 18)


@pytest.mark.parametrize("batch", BATCHES)
def test_one_to_one(benchmark, batch):
    measure(benchmark, move, Flow("ring", batch), BATCHES[batch])


@pytest.mark.parametrize("batch", [256, 4096])
@pytest.mark.parametrize("peer", ["ring", "ring-in-place"], ids=["put_many and get_into", "reserve and peek"])
def test_without_a_copy(benchmark, peer, batch):
    """Two copies against one: what a producer makes is written to the slots, and read there."""
    measure(benchmark, move, Flow(peer, batch), BATCHES[batch])


def test_put_one_take_many(benchmark):
    measure(benchmark, move, Flow("ring-rebatched"), 1 << 18)


@pytest.mark.parametrize(("producers", "consumers"), THREADS, ids=lambda count: str(count))
def test_threads(benchmark, producers, consumers):
    measure(benchmark, move, Flow("ring", 256, producers, consumers), 1 << 22)


@pytest.mark.parametrize("capacity", [1024, 65536, 1 << 20])
def test_capacity(benchmark, capacity):
    measure(benchmark, move, Flow("ring", 256, capacity=capacity), 1 << 22)


def test_limit_two_memcpys(benchmark):
    measure(benchmark, move_by_memcpy, Flow("ring", 4096), BATCHES[4096])


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("peer", ["ring", "C condition variable"])
def test_round_trip(benchmark, peer, cores):
    if cores > len(cpus()):
        pytest.skip("needs two cores")
    runs = measure(benchmark, round_trips, Trip(peer, cores), 2000)
    benchmark.extra_info |= runs[-1].as_dict()["ns"]


def test_fifty_sensors(benchmark):
    runs = measure(benchmark, paced, Pace("ring", 50, 10_000.0), 0.2)
    benchmark.extra_info |= runs[-1].as_dict()["ns"]


def test_beside_a_busy_thread(benchmark):
    runs = measure(benchmark, paced, Pace("ring", 1, 1000.0, busy=1), 0.2)
    benchmark.extra_info |= runs[-1].as_dict()["ns"]


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest"])
def test_slow_consumer(benchmark, policy):
    measure(benchmark, slow_consumer, Slow(policy), 0.2)


def test_stats(benchmark):
    """One call, of a ring that nobody uses."""
    benchmark(RingBuffer(1024).stats)


@pytest.mark.parametrize("batch", [1, 256])
def test_stats_at_100_hz(benchmark, capsys, monkeypatch, batch):
    """How fast a ring is while another thread calls `stats` 100 times a second, over how fast it is left alone."""
    made, calls, stop = [], [0], threading.Event()
    peer = PEERS["ring"]
    monkeypatch.setitem(PEERS, "ring", replace(peer, make=lambda flow: made.append(peer.make(flow)) or made[-1]))

    def watch():
        while not stop.wait(0.01):
            if made:
                made[-1].stats()
                calls[0] += 1

    def watched(flow, records):
        stop.clear()
        watcher = threading.Thread(target=watch)
        watcher.start()
        run = move(flow, records)
        stop.set()
        watcher.join()
        return run

    flow, records = Flow("ring", batch), BATCHES[batch] * 16  # 0.3 to 0.6 s
    alone = []
    runs = measure(benchmark, lambda: (alone.append(move(flow, records)), watched(flow, records))[1], rounds=15)
    alone = alone[-len(runs) :]
    ratios = [run.rate / other.rate for run, other in zip(runs, alone, strict=True)]
    low, ratio, high = quartiles_of(ratios)
    benchmark.extra_info |= {"over_alone": ratio, "ratios": ratios, "calls": calls[0]}
    with capsys.disabled():
        print(f"\nbatches of {batch}, stats() at 100 Hz: {ratio:.3f} of the speed alone ({low:.3f} to {high:.3f})")
