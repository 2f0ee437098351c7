"""Latency: the histogram against numpy, and which puts are sampled when."""

import threading

import numpy as np
import pytest
from cli_helpers import Given, pieces, readings, watchdog
from hypothesis import given
from hypothesis import strategies as st

from f1buf import RingBuffer, ShutDown
from f1buf.telemetry import Analyzer, F1TelemetrySystem
from f1buf.telemetry.latency import LatencyHistogram, LatencySampler, PutTimer

WIDTH = 10 ** (1 / 100)  # of a bucket: 2.3 %


@pytest.fixture(autouse=True)
def bounded():
    with watchdog():
        yield


def histogram_of(durations):
    histogram = LatencyHistogram()
    for duration in durations:
        histogram.add(float(duration))
    return histogram


# The histogram --------------------------------------------------------------------------------------------------------


def test_nothing_counted():
    assert LatencyHistogram().as_dict() == {"p50": None, "p99": None, "max": None}


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.lognormal(-8, 2, 10_000),
        lambda rng: rng.uniform(1e-6, 1e-3, 10_000),
        lambda rng: rng.exponential(1e-4, 3),
        lambda rng: np.full(100, 3e-4),
        lambda rng: 10 ** rng.uniform(-6.9, 2.9, 10_000),
    ],
    ids=["lognormal", "uniform", "three", "constant", "all decades"],
)
def test_quantiles_are_numpys_within_a_bucket(draw, q):
    durations = np.clip(draw(np.random.default_rng(5)), 1e-7, 1e3)
    exact = np.quantile(durations, q, method="inverted_cdf")
    assert exact * (1 - 1e-9) <= histogram_of(durations).quantile(q) <= exact * WIDTH * (1 + 1e-9)


@given(st.lists(st.floats(0, 1e5), min_size=1))
def test_a_quantile_is_one_of_the_share_that_it_covers(durations):
    histogram = histogram_of(durations)
    result = histogram.as_dict()
    assert 0 <= result["p50"] <= result["p99"] <= result["max"] == max(durations)
    for q in (0.5, 0.99):
        covered = sum(duration <= histogram.quantile(q) * (1 + 1e-9) for duration in durations)
        assert covered >= q * len(durations)


# The sampler ----------------------------------------------------------------------------------------------------------


def test_a_put_counts_once_all_of_it_has_been_checked():
    ring = RingBuffer(100)
    sampler = LatencySampler(ring)
    timer = PutTimer(sampler)
    with timer:
        ring.put_many(readings([1.0] * 10))
    for position in (0, 1, 9):
        sampler.checked(position)
        assert sampler.histogram.count == 0
    sampler.checked(10)
    sampler.checked(11)
    assert sampler.histogram.count == 1
    assert 0 < sampler.histogram.max < 30


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest"])
def test_a_put_is_found_at_its_position_whatever_was_dropped(policy):
    ring = RingBuffer(5, overflow=policy)
    sampler = LatencySampler(ring)
    if policy == "block":
        ring.put_many(readings([1.0] * 5))
    else:
        ring.put_many(readings([1.0] * 20))
    first, batch = ring.get_many(return_seq=True)
    with PutTimer(sampler):
        ring.put_many(readings([1.0]))
    sampler.checked(first + len(batch))
    assert sampler.histogram.count == 0
    first, batch = ring.get_many(return_seq=True)
    sampler.checked(first + len(batch))
    assert sampler.histogram.count == 1


def test_not_every_put_is_a_sample():
    ring = RingBuffer(10_000)
    sampler = LatencySampler(ring)
    timer = PutTimer(sampler)
    for _ in range(5000):
        with timer:
            ring.put_many(readings([1.0]))
    sampler.checked(5000)
    assert 1 <= sampler.histogram.count < 5000


def test_a_put_that_fails_is_no_sample():
    ring = RingBuffer(10)
    ring.shutdown()
    sampler = LatencySampler(ring)
    with pytest.raises(ShutDown), PutTimer(sampler):
        ring.put_many(readings([1.0]))
    assert sampler.histogram.count == 0


# In the system --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"analyzer_delay": 1e-4}, {"overflow": "drop_oldest"}], ids=str)
def test_latency_of_a_run(options):
    system = F1TelemetrySystem(**options)
    system.start([Given(*pieces(readings([1.0] * 2000), 10))], 3)
    system.wait()
    latency = system.shutdown().latency_s
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 30


def test_latency_covers_the_wait_in_the_buffer():
    """At least as long as an analyzer was kept from it."""
    held = threading.Event()

    class Held(Analyzer):
        def check(self, readings):
            held.wait(0.2)
            return super().check(readings)

    system = F1TelemetrySystem()
    system.start([Given(readings([1.0]))], 1, analyzer=Held)
    system.wait()
    assert 0.2 <= system.shutdown().latency_s["p50"] < 30
