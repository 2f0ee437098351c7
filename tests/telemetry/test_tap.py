"""Taps: what the sources offer to a ring for display, and how seldom they do where they are fast."""

import threading
import time

import numpy as np
import pytest
from cli_helpers import Clock, Given, readings, watchdog
from helpers import wait_until

from f1buf import READING, RingBuffer
from f1buf.telemetry import F1TelemetrySystem
from f1buf.telemetry.tap import Tap


def display():
    return RingBuffer(16_384, READING, overflow="drop_oldest")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_a_tap_offers_each_batch_at_an_ordinary_rate(clock):
    ring = display()
    tap = Tap(ring)
    clock.step = 1e-6  # an offer takes two microseconds
    for _ in range(60):  # a second of three datagrams at once, 60 times
        for _ in range(3):
            tap.offer(readings(np.zeros(132)))
        clock.now += 1 / 60
    assert ring.stats().offered == 180 * 132


def test_a_tap_rests(clock):
    ring, batch = display(), readings(np.zeros(132))
    tap = Tap(ring)
    began, clock.step = clock.now, 1e-5  # what an offer takes
    while clock.now < began + 2.0:
        tap.offer(batch)
        clock.now += 4e-5
    assert 2.0 / 0.003 * 0.9 < ring.stats().offered / len(batch) < 2.1 / 0.003 * 1.1


def test_a_tap_is_not_held_up_by_one_interruption(clock):
    ring = display()
    tap = Tap(ring)
    clock.step = 0.05
    tap.offer(readings([1.0]))
    clock.step = 0.0
    tap.offer(readings([1.0]))
    assert ring.qsize() == 2


def test_taps_share_the_ring():
    for sources, kept in ((1, 512), (64, 128), (100_000, 1)):
        ring = display()
        Tap(ring, sources).offer(readings(np.arange(4096.0)))
        assert ring.snapshot()["value"].tolist() == list(range(4096 - kept, 4096))


def test_a_system_offers_what_its_sources_make():
    ring = display()
    system = F1TelemetrySystem(1000, display=ring)
    assert system.describe(3, 0) == {}
    assert system.latency_s == {"p50": None, "p99": None, "max": None}
    others = readings([200.0, 201.0], sensors=2)
    system.start(
        [Given(readings(np.arange(300.0))), Given(others)],
        describe=lambda sensor_id, flags: {"car": sensor_id, "lap": flags},
    )
    system.wait()
    system.shutdown()
    assert sorted(ring.snapshot().tolist()) == sorted([*readings(np.arange(300.0)).tolist(), *others.tolist()])
    assert system.describe(16, 5) == {"car": 16, "lap": 5}
    assert system.latency_s == system.summary.latency_s
    assert system.latency_s["p50"] > 0


class Looking:
    """A consumer that only looks: it takes nothing, so that its ring tells what came."""

    name, may_miss = "looking", True

    def __init__(self):
        self.ring = RingBuffer(1 << 20, READING, overflow="drop_oldest")
        self.ended = threading.Event()

    def run(self):
        assert self.ended.wait(60)


def ran(consumer, start):
    """Run a system, with a consumer beside the analyzers."""
    system = F1TelemetrySystem(65_536, thresholds=())
    start(system)
    system.wait()
    consumer.ended.set()
    return system, system.shutdown()


def test_a_consumer_that_only_looks_leaves_full_speed_as_it_is():
    consumer, system = Looking(), F1TelemetrySystem(65_536, thresholds=())
    with watchdog():
        system.start_telemetry(rate=None, consumers=[consumer])
        assert system._run._slots is system.ring  # readings are written straight into it
        wait_until(lambda: system.readings > 10_000_000)
        consumer.ended.set()
        summary = system.shutdown()
    assert summary.readings == summary.analysed
    assert 0 < consumer.ring.stats().offered < summary.readings / 2  # the ends of some blocks


def test_it_gets_all_readings_that_come_in_arrays():
    consumer, stream = Looking(), readings(np.arange(5000.0))
    _, summary = ran(consumer, lambda system: system.start([Given(stream[:4000], stream[4000:])], consumers=[consumer]))
    assert summary.analysed == 5000
    assert consumer.ring.stats().offered == 5000


def test_beside_a_consumer_that_must_see_everything_it_gets_everything():
    class Taking(Looking):
        may_miss = False

        def __init__(self):
            self.ring = RingBuffer(65_536, READING)

        def run(self):
            for _ in self.ring.batches():
                pass

    looking, taking = Looking(), Taking()
    system, summary = ran(
        looking, lambda system: system.start_telemetry(rate=None, count=20_000, consumers=[looking, taking])
    )
    assert system._run._slots is None
    assert summary.readings == looking.ring.stats().offered == taking.ring.stats().taken == 100_000
