"""The telemetry system: it starts, runs, stops without losing anything, and says what failed."""

import contextlib
import itertools
import queue
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from cli_helpers import Given, mixed_stream, pieces, readings, watchdog
from helpers import WATCHDOG, Task, thorough, wait_parked, wait_until

from f1buf import READING, Full, RingBuffer
from f1buf.telemetry import (
    SPEED,
    Analyzer,
    Channel,
    F1TelemetrySystem,
    Sensor,
    SpeedSensor,
    TelemetryError,
    Threshold,
    ThresholdTable,
    make_sensors,
)
from f1buf.telemetry import analyzers as analyzers_module
from f1buf.telemetry import system as system_module
from f1buf.telemetry.analyzers import BatchOrder
from f1buf.telemetry.sources import Unwritten
from f1buf.telemetry.sources.paced import PacedSensor

SOON = 0.2  # [s] the patience of a system whose threads are to be given up
FIVE = [
    "EngineTemperatureSensor 0",
    "TirePressureSensor 1",
    "SpeedSensor 2",
    "GForceSensor 3",
    "FuelLevelSensor 4",
]


@pytest.fixture(autouse=True)
def bounded():
    with watchdog():
        yield


class Speed(Sensor):
    """A sensor of a test's own; subclasses say how it reads."""

    channel = SPEED

    def __init__(self, sensor_id=0, *, rate=100.0):
        super().__init__(sensor_id, rate=rate)
        self.reads = 0

    def read(self):
        self.reads += 1
        return self.reading(100.0, timestamp=self.reads)


def run_sources(system, *sources, analyzers=3, **options):
    system.start(sources, analyzers, **options)
    system.wait()
    return system.shutdown()


def failed(stop):
    """The error that stopping ends with."""
    with pytest.raises(TelemetryError) as caught:
        stop()
    return caught.value


def names(before):
    return sorted(thread.name for thread in set(threading.enumerate()) - before)


# Starting and stopping ------------------------------------------------------------------------------------------------


def test_defaults_are_one_of_each_sensor_three_analyzers_and_a_buffer_of_100():
    before = set(threading.enumerate())
    system = F1TelemetrySystem()
    assert system.ring.capacity == 100
    assert system.ring.overflow == "block"
    system.start_telemetry()
    assert names(before) == sorted([*FIVE, "analyzer 1", "analyzer 2", "analyzer 3"])
    summary = system.shutdown()
    assert names(before) == []
    assert summary.readings == summary.analysed == summary.buffer.taken
    assert [each["channel"] for each in summary.thresholds] == [
        "ENGINE_TEMP",
        "TIRE_PRESSURE",
        "SPEED",
        "G_FORCE",
        "FUEL_LEVEL",
    ]


def test_as_many_sensors_and_analyzers_as_asked_for():
    before = set(threading.enumerate())
    with F1TelemetrySystem() as system:
        system.start_telemetry(sensors_per_type=2, num_analyzers=5)
        started = names(before)
    assert len([name for name in started if name.startswith("analyzer")]) == 5
    assert len(started) == 5 * 2 + 5
    assert names(before) == []


def test_each_sensor_makes_count_readings_then_it_ends():
    system = F1TelemetrySystem()
    summary = system.run(sensors_per_type=2, rate=None, count=1234, seed=1)
    assert summary.readings == summary.analysed == 5 * 2 * 1234
    assert [each["readings"] for each in summary.thresholds] == [2 * 1234] * 5
    assert summary.dropped == 0


def test_run_for_a_duration():
    for duration in (0.3, 3.0, 30.0):  # [s] in which each sensor has its turn, on a machine however busy
        began = time.monotonic()
        summary = F1TelemetrySystem().run(duration)
        assert time.monotonic() - began >= duration
        assert summary.readings == summary.analysed
        if summary.readings >= 5 and summary.seconds > duration / 3:
            break
    assert summary.readings >= 5
    assert summary.seconds > duration / 3


def test_a_block_that_is_left_shuts_down():
    with F1TelemetrySystem() as system:
        system.start_telemetry()
        assert system.is_running
        wait_until(lambda: system.readings, "a reading")
    assert not system.is_running
    assert system.summary.readings == system.summary.analysed > 0


def test_an_exception_in_the_block_passes_after_the_shutdown():
    system = F1TelemetrySystem()

    def fail():
        with system:
            system.start_telemetry()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert system.summary.readings == system.summary.analysed


def test_a_block_may_shut_down_itself():
    with F1TelemetrySystem() as system:
        system.run(count=1, rate=None)
    assert system.summary.readings == 5


def test_wait_tells_whether_the_sources_have_ended():
    ended = threading.Event()
    system = F1TelemetrySystem()
    system.start([SourceThatWaits(ended)])
    assert system.wait(0.01) is False
    ended.set()
    assert system.wait() is True
    assert system.wait(0) is True
    system.shutdown()


class SourceThatWaits:
    """A source that ends when told, or to stop."""

    name = "waits"

    def __init__(self, ended):
        self._ended = ended

    def batches(self, stop):
        yield readings([100.0])
        while not (self._ended.wait(0.01) or stop.is_set()):
            pass


def test_starts_again_after_a_shutdown_with_counters_of_its_own():
    system = F1TelemetrySystem(thresholds=[Threshold("SPEED", above=0.0, message="moves")])
    for n in (10, 3, 7):
        summary = run_sources(system, Given(readings([1.0] * n)))
        assert (summary.readings, summary.analysed, summary.buffer.taken) == (n, n, n)
        assert summary.thresholds[0]["rises"] == 1  # the first reading of a run has none before it
        assert summary.thresholds[0]["samples"] == n


def test_starts_again_after_a_failure():
    system = F1TelemetrySystem()
    failed(lambda: run_sources(system, SourceThatFails()))
    assert run_sources(system, Given(readings([1.0]))).analysed == 1


def test_start_while_it_runs_is_an_error_and_changes_nothing():
    system = F1TelemetrySystem()
    system.start_telemetry()
    with pytest.raises(RuntimeError, match="running"):
        system.start_telemetry()
    assert system.is_running
    wait_until(lambda: system.readings, "a reading")
    assert system.shutdown().readings > 0


@pytest.mark.parametrize("started_before", [False, True], ids=["never started", "shut down"])
def test_shutdown_of_a_system_that_does_not_run_is_an_error(started_before):
    system = F1TelemetrySystem()
    if started_before:
        system.run(count=1, rate=None)
    with pytest.raises(RuntimeError, match="not running"):
        system.shutdown()


def test_no_summary_before_the_end():
    system = F1TelemetrySystem()
    with pytest.raises(RuntimeError, match="no summary yet"):
        _ = system.summary
    first = system.run(count=1, rate=None)
    assert system.summary is first
    system.start_telemetry()
    with pytest.raises(RuntimeError, match="no summary yet"):
        _ = system.summary
    system.shutdown()


def test_steps_of_the_shutdown_are_told():
    steps = []
    system = F1TelemetrySystem(on_step=steps.append)
    system.start_telemetry(count=1, rate=None)
    wait_until(lambda: system.analysed == 5, "all readings to be checked")
    system.shutdown()
    assert steps == [
        "stopping the sensors",
        "sensors stopped; draining the buffer: 0 readings left",
        "all threads have ended",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"sensors_per_type": 0},
        {"num_analyzers": 0},
        {"num_analyzers": -1},
        {"num_analyzers": 2.5},
        {"sensors": []},
        {"sensors": [Speed()], "rate": 0.0},
        {"sensors": [Speed()], "rate": -5.0},
        {"sensors": [Speed()], "rate": float("nan")},
        {"sensors": [Speed()], "rate": float("inf")},
        {"sensors": [Speed()], "count": -1},
    ],
    ids=repr,
)
def test_a_senseless_start_is_refused_and_leaves_nothing_behind(options):
    before = set(threading.enumerate())
    system = F1TelemetrySystem()
    try:
        with pytest.raises((ValueError, TypeError)):
            system.start_telemetry(**options)
        assert not system.is_running
        assert names(before) == []
    finally:
        if system.is_running:
            system.shutdown()
    assert run_sources(system, Given(readings([1.0]))).analysed == 1


@pytest.mark.parametrize(
    "options",
    [
        {"buffer_size": 0},
        {"buffer_size": -1},
        {"overflow": "spill"},
        {"analyzer_delay": -0.1},
        {"analyzer_delay": float("nan")},
        {"analyzer_delay": float("inf")},
        {"thresholds": "no such profile"},
    ],
    ids=repr,
)
def test_senseless_options_are_refused(options):
    with pytest.raises(ValueError, match=r"\S"):
        F1TelemetrySystem(**options)


def test_a_start_that_runs_out_of_threads_leaves_nothing_behind(monkeypatch):
    started, start = [], threading.Thread.start

    def start_five(thread):
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start_five)
    system = F1TelemetrySystem()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        system.start_telemetry()
    monkeypatch.undo()
    try:
        for thread in started:
            thread.join(WATCHDOG / 4)
        assert not [thread.name for thread in started if thread.is_alive()]
        assert not system.is_running
    finally:
        system.stop_sources()
        system.ring.shutdown(immediate=True)


def test_no_thresholds_at_all():
    summary = F1TelemetrySystem(thresholds=[]).run(count=10, rate=None)
    assert summary.analysed == 50
    assert summary.thresholds == []


def test_summary_as_a_dict():
    summary = F1TelemetrySystem().run(count=10, rate=None)
    result = summary.as_dict()
    assert {"readings", "analysed", "dropped", "readings_per_s", "latency_s", "buffer", "thresholds"} <= result.keys()
    assert result["readings_per_s"] == pytest.approx(50 / result["seconds"])
    assert result["buffer"]["offered"] == 50
    assert result["latency_s"].keys() == {"p50", "p99", "max"}


# Nothing is lost by stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("analyzers", [1, 3])
@pytest.mark.parametrize("buffer_size", [1, 2, 7, 100])
def test_nothing_is_lost_however_small_the_buffer(buffer_size, analyzers):
    stream = mixed_stream(2000)
    system = F1TelemetrySystem(buffer_size)
    summary = run_sources(system, Given(*pieces(stream, 37)), Given(*pieces(stream, 1)), analyzers=analyzers)
    assert summary.readings == summary.analysed == 4000
    assert summary.dropped == 0
    assert summary.buffer.high_water <= buffer_size


@pytest.mark.parametrize("buffer_size", [pytest.param(1, marks=thorough), 7, 100])
def test_stopping_at_full_speed_loses_nothing(buffer_size):
    system = F1TelemetrySystem(buffer_size)
    system.start_telemetry(sensors_per_type=2, rate=None)
    wait_until(lambda: system.analysed > 5000, "5,000 readings")
    summary = system.shutdown()
    assert summary.readings == summary.analysed > 5000
    assert summary.dropped == 0
    assert system.remaining == 0


def test_stopping_with_slow_analyzers_and_a_full_buffer_loses_nothing():
    system = F1TelemetrySystem(20, analyzer_delay=0.005)
    system.start_telemetry(rate=1000.0)
    wait_until(system.ring.full, "a full buffer")
    system.stop_sources()
    summary = system.shutdown()
    assert summary.readings == summary.analysed >= 20
    assert summary.dropped == 0


def test_the_batch_that_a_source_makes_when_it_is_stopped_is_put():
    reached = threading.Event()

    class InHand:
        name = "in hand"

        def batches(self, stop):
            reached.set()
            stop.wait()
            yield readings([1.0] * 500)

    system = F1TelemetrySystem(3)
    system.start([InHand()])
    reached.wait()
    assert system.shutdown().analysed == 500


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("buffer_size", [1, 7, 100])
def test_what_a_drop_policy_loses_is_counted(policy, buffer_size):
    system = F1TelemetrySystem(buffer_size, overflow=policy, analyzer_delay=1e-4)
    summary = run_sources(system, *[Given(*pieces(mixed_stream(1000), 50)) for _ in range(3)], analyzers=2)
    assert summary.readings == 3000
    assert summary.dropped > 0
    assert summary.analysed + summary.dropped == 3000
    assert sum(each["readings"] for each in summary.thresholds) == summary.analysed


def test_sources_make_no_new_readings_once_told_to_stop():
    class Blocked:
        """Its full batches keep it waiting for room."""

        name = "blocked"
        made = 0

        def batches(self, stop):
            while not stop.is_set():
                self.made += 1
                yield readings([1.0] * 50)

    source = Blocked()
    system = F1TelemetrySystem(5, analyzer_delay=0.001)
    system.start([source], 1)
    wait_until(system.ring.full, "a full buffer")
    system.stop_sources()
    at_stop = source.made
    assert system.shutdown().analysed == 50 * source.made
    assert source.made <= at_stop + 1  # it may have looked just before


def test_a_slow_sensor_makes_no_new_readings_once_told_to_stop():
    """A device that gives fewer readings a second than asked for: its sensor falls behind, and stops all the same."""
    turns = threading.Semaphore(0)

    class Device(Speed):
        def read(self):
            turns.acquire()
            return super().read()

    sensor = Device()
    system = F1TelemetrySystem()
    system.start_telemetry(sensors=[sensor], rate=1000.0)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.1, "the sensor to fall 100 readings behind")
    turns.release()  # one reading; then a hundred are due
    wait_until(lambda: system.analysed == 1, "the first reading")
    turns.release()
    wait_until(lambda: sensor.reads == 2, "the second reading")
    system.stop_sources()
    task = Task(system.shutdown)
    while task.is_alive():
        turns.release()
        task.join(0.01)
    assert sensor.reads <= 4  # the one in progress, and one that may have begun just before
    assert task.result().analysed == sensor.reads


@thorough
def test_a_slow_analysis_is_waited_for():
    """A thread that works as slowly as `analyzer_delay` says makes progress."""
    system = F1TelemetrySystem(stop_timeout=10.0, analyzer_delay=11.0)
    assert run_sources(system, Given(readings([1.0] * 3)), analyzers=3).analysed == 3


# Failures -------------------------------------------------------------------------------------------------------------


class SourceThatFails:
    name = "the source"

    def __init__(self, *batches):
        self._batches = batches

    def batches(self, stop):
        yield from self._batches
        raise OSError("the cable is out")


class FailsAt(Speed):
    """A sensor whose n-th reading, from 1, fails."""

    def __init__(self, n, error, sensor_id=0):
        super().__init__(sensor_id)
        self._n, self._error = n, error

    def read(self):
        reading = super().read()
        if self.reads == self._n:
            raise self._error
        return reading


@pytest.mark.parametrize("stop", ["run", "shutdown"])
@pytest.mark.parametrize("n", [1, 2, 50], ids="reading {}".format)
def test_a_sensor_that_fails_is_named_and_the_rest_stops(n, stop):
    before = set(threading.enumerate())
    error = OSError("the cable is out")
    system = F1TelemetrySystem()
    sensors = [SpeedSensor(0), FailsAt(n, error, 1), SpeedSensor(2)]

    def run():
        if stop == "run":
            system.run(sensors=sensors, rate=1000.0)
        else:
            system.start_telemetry(sensors=sensors, rate=1000.0)
            assert system.wait()
            system.shutdown()

    caught = failed(run)
    assert caught.failures == [("FailsAt 1", error)]
    assert caught.stuck == []
    assert caught.__cause__ is error
    assert str(caught) == "FailsAt 1 failed: OSError: the cable is out"
    assert names(before) == []
    assert not system.is_running
    assert system.summary.readings == system.summary.analysed


@pytest.mark.parametrize("count", [None, 10], ids=["free", "in turns"])
def test_a_failure_at_the_moment_of_the_stop_is_reported(count):
    first_read = threading.Event()

    class FailsAtStop(Speed):
        def read(self):
            if self.reads == 1:
                first_read.set()
                stop_begun.wait()
                raise OSError("the cable is out")
            return super().read()

    stop_begun = threading.Event()
    system = F1TelemetrySystem(on_step=lambda text: system.stop_sources() or stop_begun.set())
    system.start_telemetry(sensors=[FailsAtStop()], rate=None, count=count)
    first_read.wait()
    caught = failed(system.shutdown)
    assert [name for name, _ in caught.failures] == ["FailsAtStop 0"]
    assert system.summary.analysed == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()], ids=repr)
def test_any_error_of_a_sensor_reaches_the_caller(error):
    caught = failed(lambda: F1TelemetrySystem().run(sensors=[FailsAt(3, error)]))
    assert caught.failures == [("FailsAt 0", error)]


@pytest.mark.parametrize("count", [None, 1000], ids=["free", "in turns"])
def test_a_failing_sensor_among_others_that_take_turns(count):
    sensors = [SpeedSensor(0), FailsAt(100, ValueError("no"), 1), SpeedSensor(2)]
    system = F1TelemetrySystem(7)
    caught = failed(lambda: system.run(sensors=sensors, rate=2000.0, count=count))
    assert [name for name, _ in caught.failures] == ["FailsAt 1"]
    assert system.summary.readings == system.summary.analysed >= 99


def test_several_failures_are_all_reported():
    together = threading.Barrier(3)

    class FailsTogether(Speed):
        def read(self):
            together.wait()
            raise ValueError(self.sensor_id)

    caught = failed(lambda: F1TelemetrySystem().run(sensors=[FailsTogether(i) for i in range(3)]))
    assert sorted(name for name, _ in caught.failures) == [f"FailsTogether {i}" for i in range(3)]
    assert all(f"FailsTogether {i} failed: ValueError: {i}" in str(caught) for i in range(3))


class BrokenAnalyzer(Analyzer):
    """Fails at the reading with timestamp 500; others than that one go on."""

    max_count = 10

    def check(self, readings):
        if 500 in readings["timestamp"]:
            raise ArithmeticError("not a number I know")
        return super().check(readings)


@pytest.mark.parametrize("analyzers", [1, 3])
def test_an_analyzer_that_fails_is_named_and_the_rest_stops(analyzers):
    before = set(threading.enumerate())
    system = F1TelemetrySystem()
    stream = readings([1.0] * 1000)
    caught = failed(
        lambda: run_sources(system, Given(*pieces(stream, 20)), analyzers=analyzers, analyzer=BrokenAnalyzer)
    )
    [(name, error)] = caught.failures
    assert name.startswith("analyzer ")
    assert isinstance(error, ArithmeticError)
    assert caught.__cause__ is error
    assert names(before) == []
    summary = system.summary
    if analyzers > 1:  # the others drain the buffer; only the batch in hand is not checked
        assert 0 < summary.dropped <= 10
        assert summary.analysed + summary.dropped == summary.readings


def test_an_analyzer_that_cannot_be_made():
    class Unmakable(Analyzer):
        def __init__(self, *args):
            raise ImportError("no model")

    system = F1TelemetrySystem()
    caught = failed(lambda: run_sources(system, Given(readings([1.0] * 1000)), analyzer=Unmakable))
    assert sorted(name for name, _ in caught.failures) == ["analyzer 1", "analyzer 2", "analyzer 3"]


class Hopeless(Analyzer):
    def check(self, readings):
        raise ArithmeticError


@pytest.mark.parametrize("sensors", [1, 4])
def test_sensors_that_wait_for_room_do_not_hang_when_all_analyzers_have_failed(sensors):
    system = F1TelemetrySystem(2)
    sources = [PacedSensor(SpeedSensor(i, seed=1), rate=None) for i in range(sensors)]
    caught = failed(lambda: run_sources(system, *sources, analyzers=2, analyzer=Hopeless))
    assert {name for name, _ in caught.failures} == {"analyzer 1", "analyzer 2"}
    assert caught.stuck == []
    assert system.summary.readings > system.summary.analysed == 0


class NotToBeStopped(Given):
    """A source of given batches that puts all of them, though it is told to stop."""

    def batches(self, stop):
        return super().batches(threading.Event())


@pytest.mark.parametrize("analyzers", [1, 3])
def test_an_alert_handler_that_fails_is_reported_and_costs_nothing_that_was_made(analyzers):
    handed_over, told = [], []

    def handler(alert):
        handed_over.append(alert.position)
        raise LookupError(f"nobody there {len(handed_over)}")

    before = set(threading.enumerate())
    collector = Collector()
    system = F1TelemetrySystem(on_alert=handler, on_failure=lambda *failure: told.append(failure))
    source = NotToBeStopped(*pieces(readings([400.0, 0.0] * 500), 10))
    caught = failed(lambda: run_sources(system, source, analyzers=analyzers, consumers=[collector]))
    assert str(caught) == "on_alert failed: LookupError: nobody there 1"
    assert told == caught.failures
    assert names(before) == []
    assert handed_over == list(range(0, 1000, 2))
    summary = system.summary
    assert (summary.readings, summary.analysed, summary.dropped, len(collector.readings)) == (1000, 1000, 0, 1000)


def test_an_alert_handler_that_fails_stops_the_sources():
    def handler(alert):
        raise LookupError

    system = F1TelemetrySystem(thresholds=[Threshold("SPEED", above=-1, message="all")], on_alert=handler)
    system.start([PacedSensor(SpeedSensor(0, seed=1), rate=None)])  # which has no end
    assert system.wait(WATCHDOG / 2)
    assert [name for name, _ in failed(system.shutdown).failures] == ["on_alert"]
    assert system.summary.readings == system.summary.analysed > 0


def test_a_description_that_fails_is_reported_and_costs_its_alert_alone():
    def describe(sensor_id, flags):
        if sensor_id == 1:
            raise LookupError("unheard of")
        return {"driver": "NORRIS"}

    alerts = []
    system = F1TelemetrySystem(on_alert=alerts.append)
    stream = readings([400.0] * 3, sensors=3)
    caught = failed(lambda: run_sources(system, Given(stream), analyzers=1, describe=describe))
    assert str(caught) == "describe failed: LookupError: unheard of"
    assert [(alert.sensor_id, alert.driver) for alert in alerts] == [(0, "NORRIS"), (2, "NORRIS")]


def test_a_failure_handler_that_fails_is_reported():
    def handler(*failure):
        raise LookupError("nobody there")

    before = set(threading.enumerate())
    system = F1TelemetrySystem(on_alert=handler, on_failure=handler)
    caught = failed(lambda: run_sources(system, Given(readings([400.0])), analyzers=1))
    assert [name for name, _ in caught.failures] == ["on_alert", "on_failure"]
    assert names(before) == []
    assert system.summary.analysed == 1


def test_a_merge_that_fails_costs_no_other_batch():
    """Batches that were checked before the one that failed are merged all the same."""
    merged = []

    def merge(batch):
        merged.append(batch.first_position)
        if batch.first_position == 0:
            raise LookupError

    ring = RingBuffer(100, READING)
    ring.put_many(readings(np.zeros(30)))
    order = BatchOrder(ring, merge)
    first, second, third = (order.take(10) for _ in range(3))
    order.finish(third)
    order.finish(second)
    with pytest.raises(LookupError):
        order.finish(first)
    assert merged == [0, 10, 20]


@pytest.mark.parametrize("processors", [2, 3])
def test_a_plain_analyzer_stays_at_the_ring_unless_there_is_work_for_another_one(processors):
    """With a processor to spare, a whole batch more in the ring is such work."""
    ring = RingBuffer(100, READING)
    with mock.patch.object(analyzers_module, "_PROCESSORS", processors):
        order = BatchOrder(ring, lambda batch: None)
        ring.put_many(readings(np.zeros(19)))
        first = order.take(10, reuse=True, stay=True)
        other = Task(lambda: order.take(10))
        ring.put_many(readings(np.zeros(11)))
        second = order.take(10, reuse=True, stay=True)  # at once: it is still at the ring; ten are left there
        if processors == 2:
            wait_parked(other)  # it would take what is left, if it could
            order.leave()
        assert other.result().first_position == 20
    assert (first.first_position, second.first_position) == (0, 10)


def test_an_analyzer_that_was_slow_leaves_the_ring():
    """With its second batch: the third can be taken while it merges that."""
    ring = RingBuffer(100, READING)
    ring.put_many(readings(np.zeros(30)))
    ring.shutdown()

    def merge(batch):
        if batch.first_position == 10:
            wait_until(lambda: ring.qsize() == 0)

    order = BatchOrder(ring, merge)
    analyzers = [Analyzer(order, ThresholdTable([])) for _ in range(2)]
    with mock.patch.object(analyzers_module, "_QUICK", 0.0):
        for analyzer in analyzers:
            analyzer.max_count = 10
        for task in [Task(analyzer.run) for analyzer in analyzers]:
            task.result()


def test_an_analyzer_that_fails_while_it_stays_lets_the_others_in():
    ring = RingBuffer(100, READING)

    def merge(batch):
        if batch.first_position == 0:
            raise LookupError

    order = BatchOrder(ring, merge)
    table = ThresholdTable([])
    fails, goes_on = (Analyzer(order, table) for _ in range(2))
    ring.put_many(readings(np.zeros(5)))
    with pytest.raises(LookupError):
        fails.run()
    ring.put_many(readings(np.zeros(5)))
    ring.shutdown()
    other = Task(goes_on.run)
    other.result()
    assert ring.qsize() == 0


def test_the_memory_of_a_batch_is_used_again_once_it_is_merged_and_not_before():
    ring = RingBuffer(100, READING)
    ring.put_many(readings(np.arange(50.0)))
    order = BatchOrder(ring, lambda batch: None)
    first, second = (order.take(10, reuse=True, stay=True) for _ in range(2))
    order.finish(second)  # waits for the first one
    third = order.take(10, reuse=True, stay=True)
    assert [batch.readings["value"][0] for batch in (first, second, third)] == [0, 10, 20]
    order.finish(first)
    fourth, fifth = (order.take(10, reuse=True, stay=True) for _ in range(2))
    assert not np.shares_memory(fourth.readings, fifth.readings)
    assert np.shares_memory(fourth.readings, first.readings) or np.shares_memory(fourth.readings, second.readings)
    assert third.readings["value"].tolist() == list(range(20, 30))
    assert fourth.readings["value"].tolist() == list(range(30, 40))
    order.leave()


def test_a_check_of_ones_own_may_keep_its_readings():
    kept = []

    class Keeps(Analyzer):
        max_count = 10

        def check(self, batch):
            kept.append((batch, batch.copy()))
            return super().check(batch)

    stream = mixed_stream(500)
    run_sources(F1TelemetrySystem(), Given(*pieces(stream, 37)), analyzer=Keeps)
    assert sum(len(batch) for batch, _ in kept) == 500
    assert all(batch.tobytes() == copy.tobytes() for batch, copy in kept)


def test_a_check_that_an_analyzer_was_given_may_keep_its_readings():
    """As that of a subclass."""
    kept = []

    class Keeps(Analyzer):
        max_count = 10

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.check = self.keep

        def keep(self, batch):
            kept.append((batch, batch.copy()))
            return self.table.check(batch)

    stream = mixed_stream(500)
    run_sources(F1TelemetrySystem(), Given(*pieces(stream, 37)), analyzer=Keeps)
    assert sum(len(batch) for batch, _ in kept) == 500
    assert all(batch.tobytes() == copy.tobytes() for batch, copy in kept)


def test_a_batch_is_no_longer_than_asked_for_whatever_was_asked_for_before():
    ring = RingBuffer(100, READING)
    ring.put_many(readings(np.arange(40.0)))
    order = BatchOrder(ring, lambda batch: None)
    lengths = []
    for max_count in (10, 3, 20, 1 << 62):  # the last one: as many as there are
        batch = order.take(max_count, reuse=True)
        lengths.append(len(batch.readings))
        order.finish(batch)
    order.leave()
    assert lengths == [10, 3, 20, 7]


@pytest.mark.parametrize("error", [LookupError, SystemExit])
@pytest.mark.parametrize("callback", ["stopping", "draining", "ended"])
def test_a_step_handler_that_fails_does_not_keep_the_system_from_stopping(callback, error):
    def on_step(text):
        if callback in text:
            raise error(text)

    before = set(threading.enumerate())
    system = F1TelemetrySystem(on_step=on_step)
    system.start_telemetry()
    wait_until(lambda: system.readings, "a reading")
    with pytest.raises(TelemetryError, match="on_step"):
        system.shutdown()
    left = names(before)
    system.stop_sources()  # so that a test that fails leaves nothing behind
    assert left == []
    assert system.summary.readings > 0


# Readings that are written into the buffer ----------------------------------------------------------------------------


class Writes:
    """A source whose readings count up; `until` says how many it writes."""

    name = "writes"

    def __init__(self, until, *, fails_at=None):
        self.until, self.fails_at = until, fails_at
        self.written, self.sizes = 0, []

    def batches(self, stop):
        yield Unwritten(self.until, self.write)

    def write(self, out):
        if self.fails_at is not None and self.written + len(out) > self.fails_at:
            self.fail(out)
        out[:] = readings(np.arange(self.written, self.written + len(out)), start=self.written)
        self.written += len(out)
        self.sizes.append((len(out), out.base is None))

    def fail(self, out):
        try:
            out["no such field"] = 1
        except ValueError as error:
            raise LookupError from error


class Collects:
    """A consumer that keeps all."""

    name = "collects"

    def __init__(self):
        self.ring = RingBuffer(100_000, READING)
        self.got = []

    def run(self):
        self.got = list(self.ring.batches())


class Keeping(Analyzer):
    """An analyzer that keeps the values that it sees, in the order of the stream."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        type(self).seen = []

    def check(self, batch):
        self.seen.append(batch["value"].copy())
        return super().check(batch)


@pytest.mark.parametrize(
    ("buffer_size", "options", "in_place"),
    [
        (100_000, {}, True),
        (8192, {}, True),
        (8191, {}, False),
        (100_000, {"overflow": "drop_oldest"}, False),
        (100_000, {"overflow": "drop_newest"}, False),
        (100_000, {"consumers": True}, False),
    ],
    ids=["large", "just large enough", "too small", "drop_oldest", "drop_newest", "with a consumer"],
)
def test_readings_are_written_in_place_where_that_can_be(buffer_size, options, in_place, monkeypatch):
    monkeypatch.setattr(system_module, "_PATIENCE_FOR_ROOM", WATCHDOG)  # else not while the analysis stands still
    source, consumer = Writes(35_000), Collects()
    display = RingBuffer(100, READING, overflow="drop_oldest")
    system = F1TelemetrySystem(buffer_size, overflow=options.get("overflow", "block"), display=display)
    consumers = [consumer] if "consumers" in options else []
    summary = run_sources(system, source, analyzers=1, analyzer=Keeping, consumers=consumers)
    np.testing.assert_array_equal(np.concatenate(Keeping.seen), np.arange(35_000))
    assert summary.readings == summary.analysed == source.written == 35_000
    assert sum(size for size, _ in source.sizes) == 35_000
    assert {own for _, own in source.sizes} == {not in_place}
    assert max(size for size, _ in source.sizes) <= (buffer_size // 2 if in_place else 16_384)
    assert summary.latency_s["p50"] > 0
    assert set(display.snapshot()["value"]) <= set(range(35_000))
    if consumers:
        np.testing.assert_array_equal(np.concatenate(consumer.got)["value"], np.arange(35_000))


@dataclass
class CodeError(Exception):
    """An error that cannot be hashed."""

    code: int


class FailsSo(Writes):
    """With an error of a sort that `how` says."""

    def __init__(self, how):
        super().__init__(50_000, fails_at=25_000)
        self.how = how

    def fail(self, out):
        if self.how == "from another":
            super().fail(out)
        if self.how == "of a dataclass":
            raise CodeError(7)
        try:
            super().fail(out)
        except LookupError as error:
            raise ExceptionGroup("several", [error]) from None


@pytest.mark.parametrize("how", ["from another", "of a dataclass", "in a group"])
def test_a_source_that_fails_while_it_writes_puts_nothing_of_that(how):
    source = FailsSo(how)
    system = F1TelemetrySystem(20_000)
    caught = failed(lambda: run_sources(system, source, analyzers=1, analyzer=Keeping))
    expected = {"from another": LookupError, "of a dataclass": CodeError, "in a group": ExceptionGroup}
    assert [(name, type(error)) for name, error in caught.failures] == [("writes", expected[how])]
    assert caught.stuck == []
    assert system.summary.readings == system.summary.analysed == source.written < 25_000
    np.testing.assert_array_equal(np.concatenate(Keeping.seen), np.arange(source.written))


def test_what_a_source_raises_while_it_writes_is_its_own_whatever_a_ring_may_raise():
    class Fails(Writes):
        def fail(self, out):
            raise Full

    source = Fails(50_000, fails_at=25_000)
    system = F1TelemetrySystem(20_000)
    caught = failed(lambda: run_sources(system, source, analyzers=1))
    assert [(name, type(error)) for name, error in caught.failures] == [("writes", Full)]
    assert system.summary.readings == system.summary.analysed == source.written < 25_000


def test_a_source_that_writes_in_place_has_its_share_beside_one_that_puts_small_arrays():
    """Those find room for themselves each time that an analyzer takes little; for a whole block there never is."""

    class Small(Given):
        def batches(self, stop):
            while not stop.is_set():
                yield readings(np.zeros(256))

    source = Writes(1 << 40)
    system = F1TelemetrySystem(20_000, analyzer_delay=2e-5)  # takes 5,000 at once
    system.start([Small(), source], 1)
    wait_until(lambda: source.written > 35_000)
    summary = system.shutdown()
    assert summary.readings == summary.analysed


def test_a_display_that_is_shut_down_stops_no_source():
    display = RingBuffer(100, READING, overflow="drop_oldest")
    display.shutdown()
    source = Writes(35_000)
    summary = run_sources(F1TelemetrySystem(20_000, display=display), source, analyzers=1)
    assert summary.readings == summary.analysed == source.written == 35_000


def test_what_is_not_written_yet_is_not_made_once_the_run_is_to_stop():
    source = Writes(1 << 40)
    system = F1TelemetrySystem(10, analyzer_delay=1e-5)
    system.start([source])
    wait_until(lambda: system.analysed > 0)
    system.stop_sources()
    at_stop = source.written
    summary = system.shutdown()
    assert summary.readings == summary.analysed == source.written
    assert summary.readings <= at_stop + 16_384  # it may have begun just before


def test_simulated_sensors_at_full_speed_give_the_readings_that_they_give_at_any():
    system = F1TelemetrySystem(50_000, thresholds=[])
    system.start_telemetry(sensors=[SpeedSensor(3, seed=5)], rate=None, num_analyzers=1)
    assert isinstance(next(PacedSensor(SpeedSensor(0), rate=None).batches(threading.Event())), Unwritten)
    system.shutdown()
    system.start([PacedSensor(SpeedSensor(3, seed=5), rate=None)], 1, analyzer=Keeping)
    wait_until(lambda: system.analysed > 200_000)
    summary = system.shutdown()
    assert summary.readings == summary.analysed
    same = SpeedSensor(3, seed=5).read_batch(summary.readings)
    np.testing.assert_array_equal(np.concatenate(Keeping.seen), same["value"])


def test_all_sensors_at_full_speed_have_their_share():
    system = F1TelemetrySystem(65_536)
    system.start_telemetry(rate=None, num_analyzers=1, seed=1)
    wait_until(lambda: system.analysed > 20_000_000)
    summary = system.shutdown()
    shares = [each["readings"] / summary.readings for each in summary.thresholds]
    assert min(shares) > 0, shares


# Threads that do not stop ---------------------------------------------------------------------------------------------


class Stuck(Speed):
    """A sensor whose read() waits until the test releases it."""

    def __init__(self, sensor_id=0, good=0):
        super().__init__(sensor_id)
        self.released, self.stuck = threading.Event(), threading.Event()
        self._good = good

    def read(self):
        if self.reads == self._good:
            self.stuck.set()
            self.released.wait()
        return super().read()


@pytest.fixture
def only(monkeypatch):
    """A function that says which threads are stuck: only once all others have ended does their patience begin."""
    join = system_module._Run._join

    def say(*names):
        def join_others_first(run, threads, patience):
            for thread in threads:
                if thread.name not in names:
                    thread.join()  # on a busy machine it might be given up, too
            return join(run, threads, patience)

        monkeypatch.setattr(system_module._Run, "_join", join_others_first)

    return say


def test_a_process_that_was_stopped_gives_nothing_up(monkeypatch):
    """The clock has gone on, and no thread could."""
    clock = SimpleNamespace(monotonic=itertools.count(0.0, 1000.0).__next__, perf_counter=time.perf_counter)
    monkeypatch.setattr(system_module, "time", clock)
    ended = threading.Event()

    class Lingers:
        name = "lingers"

        def batches(self, stop):
            yield readings([1.0])
            stop.wait()
            ended.wait(SOON)

    system = F1TelemetrySystem()
    system.start([Lingers()])
    wait_until(lambda: system.analysed, "a reading")
    assert system.shutdown().analysed == 1


@pytest.mark.parametrize("count", [None, 1000], ids=["free", "in turns"])
def test_a_stuck_sensor_is_named_and_given_up(count, only):
    only("Stuck 1")
    before = set(threading.enumerate())
    stuck = Stuck(1, good=2)
    system = F1TelemetrySystem(stop_timeout=SOON)
    try:
        system.start_telemetry(sensors=[SpeedSensor(0), stuck, SpeedSensor(2)], rate=1000.0, count=count)
        stuck.stuck.wait()
        wait_until(lambda: system.readings, "a reading")
        caught = failed(system.shutdown)
        assert caught.stuck == ["Stuck 1"]
        assert caught.failures == []
        assert str(caught) == "Stuck 1 did not stop in time"
        assert names(before) == ["Stuck 1"]
        assert not system.is_running
        assert system.summary.readings == system.summary.analysed > 0
    finally:
        stuck.released.set()


def test_a_failure_beside_a_stuck_sensor_tells_both(only):
    only("Stuck 1")
    stuck = Stuck(1)

    class FailsLater(Speed):
        def read(self):
            stuck.stuck.wait()
            raise ValueError

    system = F1TelemetrySystem(stop_timeout=SOON)
    try:
        caught = failed(lambda: system.run(sensors=[FailsLater(0), stuck]))
        assert [name for name, _ in caught.failures] == ["FailsLater 0"]
        assert caught.stuck == ["Stuck 1"]
    finally:
        stuck.released.set()


def test_a_stuck_analyzer_is_named_and_given_up():
    before = set(threading.enumerate())
    released = threading.Event()

    class StuckAnalyzer(Analyzer):
        def check(self, readings):
            released.wait()
            return super().check(readings)

    system = F1TelemetrySystem(1, stop_timeout=SOON)
    try:
        system.start([PacedSensor(SpeedSensor(0), rate=None)], 1, analyzer=StuckAnalyzer)
        wait_until(system.ring.full, "a full buffer")
        caught = failed(system.shutdown)
        assert "analyzer 1" in caught.stuck
        wait_until(lambda: names(before) == ["analyzer 1"], "the others to end")
    finally:
        released.set()


def test_a_thread_given_up_does_not_touch_the_next_run(only):
    only("Stuck 7")
    stuck = Stuck(7)
    system = F1TelemetrySystem(stop_timeout=SOON)
    system.start_telemetry(sensors=[stuck])
    stuck.stuck.wait()
    failed(system.shutdown)
    [thread] = [each for each in threading.enumerate() if each.name == "Stuck 7"]

    ended = threading.Event()
    system.start([SourceThatWaits(ended)])
    stuck.released.set()
    thread.join()
    over = system.wait(0.05)
    ended.set()
    system.wait()
    summary = system.shutdown()
    assert not over  # this run's one source was still at work
    assert (summary.readings, summary.analysed, summary.buffer.offered) == (1, 1, 1)


# Consumers ------------------------------------------------------------------------------------------------------------


class Collector:
    """A consumer that keeps what it gets."""

    name = "collector"

    def __init__(self, capacity=8, overflow="block"):
        self.ring = RingBuffer(capacity, READING, overflow=overflow)
        self.batches = []

    def run(self):
        self.batches.extend(self.ring.batches())

    @property
    def readings(self):
        return np.concatenate(self.batches)


class FailsAtOnce(Collector):
    """A consumer that fails at the first reading."""

    def run(self):
        self.ring.get()
        raise OSError("disk full")


def test_consumers_get_every_reading():
    stream, collectors = mixed_stream(5000), [Collector(), Collector(100)]
    system = F1TelemetrySystem(64)
    summary = run_sources(system, Given(*pieces(stream, 77)), consumers=collectors)
    assert (summary.readings, summary.analysed) == (5000, 5000)
    for collector in collectors:
        assert collector.readings.tobytes() == stream.tobytes()


def test_a_consumer_whose_ring_drops_loses_by_itself():
    stream, released = mixed_stream(1000), threading.Event()

    class Late(Collector):
        def run(self):
            released.wait()
            super().run()

    late, system = Late(10, "drop_oldest"), F1TelemetrySystem(2000)
    system.start([Given(*pieces(stream, 50))], consumers=[late])
    wait_until(lambda: late.ring.stats().offered == 1000, "all readings")
    released.set()
    system.wait()
    assert system.shutdown().analysed == 1000
    assert late.readings.tobytes() == stream[-10:].tobytes()
    assert late.ring.stats().dropped == 990


def test_a_consumer_that_fails_is_reported_at_once_and_the_analysis_goes_on():
    before, told, go_on = set(threading.enumerate()), queue.SimpleQueue(), threading.Event()

    class GivenLater(Given):
        def batches(self, stop):
            yield from super().batches(stop)
            go_on.wait()
            yield from super().batches(stop)

    system = F1TelemetrySystem(100, on_failure=lambda *failure: told.put(failure))
    collector = Collector()
    system.start([GivenLater(*pieces(mixed_stream(1000), 10))], consumers=[FailsAtOnce(1), collector])
    name, error = told.get(timeout=WATCHDOG / 2)
    assert (name, str(error)) == ("collector", "disk full")
    go_on.set()  # no source waits for room in the ring of the one that failed
    system.wait()
    caught = failed(system.shutdown)
    assert caught.failures == [(name, error)]
    assert (system.summary.readings, system.summary.analysed) == (2000, 2000)
    assert len(collector.readings) == 2000
    assert names(before) == []


def test_a_stuck_consumer_is_named_and_given_up(only):
    only("collector")
    released = threading.Event()

    class StuckConsumer(Collector):
        def run(self):
            released.wait()

    system = F1TelemetrySystem(stop_timeout=SOON)
    try:
        caught = failed(lambda: run_sources(system, Given(mixed_stream(5)), consumers=[StuckConsumer()]))
        assert caught.stuck == ["collector"]
        assert system.summary.analysed == 5
    finally:
        released.set()


def test_a_consumer_may_wait_for_a_busy_disk_at_its_end(only):
    only("collector")

    class Slow(Collector):
        def run(self):
            super().run()
            threading.Event().wait(5 * SOON)

    collector = Slow()
    run_sources(F1TelemetrySystem(stop_timeout=2.5 * SOON), Given(mixed_stream(5)), consumers=[collector])
    assert sum(map(len, collector.batches)) == 5


def test_consumers_of_a_run_that_cannot_be_started_end():
    before, collector = set(threading.enumerate()), Collector()
    system, start = F1TelemetrySystem(), threading.Thread.start

    def start_but_feeders(thread):
        if thread.name == "given":
            raise RuntimeError("no more threads")
        start(thread)

    with mock.patch.object(threading.Thread, "start", start_but_feeders), pytest.raises(RuntimeError, match="no more"):
        system.start([Given(mixed_stream(5))], consumers=[collector])
    assert names(before) == []
    assert collector.ring.is_shutdown


# Sensors of one's own -------------------------------------------------------------------------------------------------


def test_a_channel_a_sensor_and_a_threshold_of_ones_own():
    class OilPressureSensor(Sensor):
        channel = Channel("TEST_OIL_PRESSURE", "bar", (0.0, 8.0))
        value = 5.0

        def read(self):
            self.value -= 0.5
            return self.reading(self.value)

    alerts = []
    low = Threshold("TEST_OIL_PRESSURE", below=1.5, message="Low oil pressure")
    system = F1TelemetrySystem(thresholds=[low], on_alert=alerts.append)
    summary = system.run(sensors=[OilPressureSensor(0), OilPressureSensor(1)], count=8, rate=None)
    assert summary.analysed == 16
    assert [(alert.sensor_id, alert.value, alert.message) for alert in alerts] == [
        (0, 1.0, "Low oil pressure"),
        (1, 1.0, "Low oil pressure"),
    ]


class Ends(Speed):
    """A sensor with five readings."""

    def read(self):
        if self.reads == 5:
            raise StopIteration
        return super().read()


class EndsEmpty(Speed):
    """The same, in batches of three."""

    def read_batch(self, n):
        batch = readings([1.0] * min(n, 3, 5 - self.reads))
        self.reads += len(batch)
        return batch


@pytest.mark.parametrize("rate", [1000.0, None], ids="rate {}".format)
@pytest.mark.parametrize("count", [None, 20], ids=["free", "in turns"])
@pytest.mark.parametrize("sensor", [Ends, EndsEmpty])
def test_sensors_that_end(sensor, count, rate):
    system = F1TelemetrySystem()
    sensors = [sensor(0), sensor(1)]
    if count is not None:
        sensors.append(SpeedSensor(2))  # goes on when the others have left
    summary = system.run(sensors=sensors, count=count, rate=rate)
    assert summary.readings == summary.analysed == 10 + (count or 0)


def test_a_sensor_that_ends_at_once():
    class Never(Speed):
        def read(self):
            raise StopIteration

    summary = F1TelemetrySystem().run(sensors=[Never()])
    assert (summary.readings, summary.analysed, summary.readings_per_s) == (0, 0, 0)
    assert summary.latency_s == {"p50": None, "p99": None, "max": None}


def sensor_returning(*, reading=None, batch=None):
    class Wrong(Speed):
        def read(self):
            return reading

        def read_batch(self, n):
            return super().read_batch(n) if batch is None else batch(n)

    return Wrong()


@pytest.mark.parametrize("count", [None, 100], ids=["free", "in turns"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"reading": None},
        {"reading": 5.0},
        {"reading": (1.0, 2.0)},
        {"reading": "5.0"},
        {"batch": lambda n: None},
        {"batch": lambda n: np.ones(n)},
        {"batch": lambda n: [1.0] * n},
        {"batch": lambda n: np.zeros((n, 2), READING)},
        {"batch": lambda n: np.zeros((), READING)},
        {"batch": lambda n: "readings"},
    ],
    ids=["None", "a float", "two numbers", "a text", "no batch", "floats", "a list", "a table", "a scalar", "text"],
)
def test_a_sensor_that_returns_something_else_is_named(wrong, count):
    """A number alone, for one, is no reading."""
    system = F1TelemetrySystem()
    system.start_telemetry(sensors=[sensor_returning(**wrong)], rate=1000.0, count=count)
    ended = system.wait(WATCHDOG / 2)
    caught = failed(system.shutdown)
    assert ended
    assert [name for name, _ in caught.failures] == ["Wrong 0"]
    assert isinstance(caught.failures[0][1], (TypeError, ValueError))
    assert system.summary.analysed == 0


@pytest.mark.parametrize("count", [25, None])
def test_a_sensor_that_returns_more_than_asked_for_ends_all_the_same(count):
    """Either it is an error, or what is too much is counted; it does not go on past `count` for ever."""

    class Blocks(Speed):
        def read_batch(self, n):
            return self.readings([1.0] * 10, [0.0] * 10)

    system = F1TelemetrySystem()
    system.start_telemetry(sensors=[Blocks()], rate=1000.0, count=count)
    ended = system.wait(0.5 if count is None else WATCHDOG / 2)
    with contextlib.suppress(TelemetryError):
        system.shutdown()
    assert count is None or ended
    assert system.summary.readings == system.summary.analysed + system.summary.dropped


def test_readings_of_an_unknown_channel():
    """They meet no threshold, and are no reason to stop."""
    stream = readings([1.0] * 10)
    stream["channel"] = 65_535
    assert run_sources(F1TelemetrySystem(), Given(stream)).analysed == 10


def test_make_sensors_numbers_them():
    assert [sensor.sensor_id for sensor in make_sensors(3, types=[SpeedSensor, Speed])] == list(range(6))
    with pytest.raises(ValueError, match="sensors_per_type is 0"):
        make_sensors(0)
