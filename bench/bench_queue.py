"""f1buf.Queue's throughput and latency beside queue.Queue's, for pytest-benchmark; queues.py compares them in detail.

    python -m pytest bench/bench_queue.py

What the figures include: see bench_ring.py.
"""

import pytest
from bench_ring import measure
from common import cpus
from peers import Flow
from workloads import Trip, move, put_only, round_trips

QUEUES = ["f1buf.Queue", "queue.Queue", "SimpleQueue"]


@pytest.mark.parametrize("name", QUEUES)
def test_put(benchmark, name):
    measure(benchmark, put_only, name, 1 << 17)


@pytest.mark.parametrize("name", QUEUES)
@pytest.mark.parametrize("threads", [1, 4, 16])
def test_one_by_one(benchmark, name, threads):
    measure(benchmark, move, Flow(name, 1, threads, threads), 1 << 16)


@pytest.mark.parametrize("batch", [16, 256])
def test_lists(benchmark, batch):
    measure(benchmark, move, Flow("f1buf.Queue", batch), 1 << 19)


@pytest.mark.parametrize("how", ["references", "bytes"])
@pytest.mark.parametrize("name", QUEUES)
def test_arrays(benchmark, name, how):
    measure(benchmark, move, Flow(f"{name}-{how}", 256), 1 << 21)


@pytest.mark.parametrize("name", QUEUES)
@pytest.mark.parametrize("cores", [1, 2])
def test_round_trip(benchmark, name, cores):
    if cores > len(cpus()):
        pytest.skip("needs two cores")
    runs = measure(benchmark, round_trips, Trip(name, cores), 2000)
    benchmark.extra_info |= runs[-1].as_dict()["ns"]
