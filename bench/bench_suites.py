"""The workloads of compare.py for pytest-benchmark, with which one build can be compared to another.

    python -m pytest bench/bench_suites.py                 some three minutes; the table is printed
    python -m pytest bench/bench_suites.py -k stats        what `stats()` costs
    ... --benchmark-json FILE --benchmark-group-by=func    what to keep, and how the table is grouped

A figure of pytest-benchmark's includes making the threads and checking the answer; a pipeline runs for a fixed time.
The extra information has what the workload's own clock says: `a_second`, `cpu_s`, and the quantiles of latencies [ns].
"""

import statistics
import threading
from dataclasses import replace

import pytest
from common import cpus, quartiles_of
from peers import PEERS, Flow
from pipelines import PIPELINES, Pipeline
from workloads import (
    Pace,
    Slow,
    Trip,
    move,
    move_by_memcpy,
    paced,
    pipeline,
    put_only,
    quantiles,
    round_trips,
    slow_consumer,
)

from f1buf import RingBuffer

QUEUES = ["f1buf.Queue", "queue.Queue", "SimpleQueue"]
BATCHES = {1: 1 << 17, 16: 1 << 20, 256: 1 << 23, 4096: 1 << 25}  # records that a run moves
FLOWS = {  # what moves, and how many records in a run
    **{f"ring, batches of {batch}": (Flow("ring", batch), records) for batch, records in BATCHES.items()},
    **{f"ring, in place, {batch}": (Flow("ring-in-place", batch), BATCHES[batch]) for batch in (256, 4096)},
    "ring, put one, take many": (Flow("ring-rebatched"), 1 << 18),
    **{f"ring, {p} x {c}": (Flow("ring", 256, p, c), 1 << 22) for p, c in ((1, 4), (4, 1), (4, 4), (16, 16))},
    **{f"ring, room for {size}": (Flow("ring", 256, capacity=size), 1 << 22) for size in (1024, 65536, 1 << 20)},
    **{f"{name}, {n} x {n}": (Flow(name, 1, n, n), 1 << 16) for name in QUEUES for n in (1, 4, 16)},
    **{f"f1buf.Queue, lists of {batch}": (Flow("f1buf.Queue", batch), 1 << 19) for batch in (16, 256)},
    **{f"{one}": (Flow(one, 256), 1 << 21) for name in QUEUES for one in (f"{name}-references", f"{name}-bytes")},
}


def measure(benchmark, workload, *args, rounds=5):
    """So many rounds after one that warms up; the runs."""
    runs = []
    benchmark.pedantic(lambda: runs.append(workload(*args)), rounds=rounds, warmup_rounds=1)
    counted = runs[1:] or runs  # with --benchmark-disable there is only one
    benchmark.extra_info["a_second"] = statistics.median(run.rate for run in counted)
    benchmark.extra_info["cpu_s"] = statistics.median(run.used.cpu_s for run in counted)
    if counted[-1].samples is not None:
        benchmark.extra_info |= quantiles(counted[-1].samples)
    return counted


@pytest.mark.parametrize("name", ["ring", *QUEUES])
def test_put(benchmark, name):
    measure(benchmark, put_only, name, 1 << (18 if name == "ring" else 17))


@pytest.mark.parametrize(("flow", "records"), FLOWS.values(), ids=FLOWS)
def test_flow(benchmark, flow, records):
    measure(benchmark, move, flow, records)


def test_limit_two_memcpys(benchmark):
    measure(benchmark, move_by_memcpy, Flow("ring", 4096), BATCHES[4096])


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("peer", ["ring", "C condition variable", *QUEUES])
def test_round_trip(benchmark, peer, cores):
    if cores > len(cpus()):
        pytest.skip("needs two cores")
    measure(benchmark, round_trips, Trip(peer, cores), 2000)


@pytest.mark.parametrize("pace", [Pace("ring", 50, 10_000.0), Pace("ring", 1, 1000.0, busy=1)], ids=["fifty", "busy"])
def test_sensors(benchmark, pace):
    measure(benchmark, paced, pace, 0.2)


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest"])
def test_slow_consumer(benchmark, policy):
    measure(benchmark, slow_consumer, Slow(policy), 0.2)


@pytest.mark.parametrize("kind", PIPELINES)
def test_pipeline(benchmark, kind):
    measure(benchmark, pipeline, Pipeline(kind), 0.5)


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
