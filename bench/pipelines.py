"""Whole pipelines: five sensors, something that carries their readings, three analyzers, alerts on.

The plain pattern is what a textbook shows: five threads make readings as dataclasses and put them into a
`queue.Queue`, three threads get them one by one and apply one threshold check each; nothing is printed. f1buf's
system does the same work with arrays, over a `RingBuffer`. Between the two stands what a numpy user would write:
f1buf's own sensors, checks and alerts, with a `queue.Queue` carrying whole arrays, by reference. And a loop in one
thread makes, puts, gets and checks in turns: what threads are worth here. It is compared with "full speed", the system
as ``f1buf run --rate max`` has it, whose sensors write straight into the ring. "two processes" is the same with
``--share`` and ``f1buf attach``: one process makes the readings, another one analyses them.

With readings that are ready beforehand (`Pipeline.ready`) sensors hand out the same arrays again and again, so that
what is left is carrying and checking.
"""

import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import f1buf
from f1buf.telemetry import F1TelemetrySystem, Sharer
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.analyzers import Analyzer, Batch, BatchOrder
from f1buf.telemetry.sensors import Sensor
from f1buf.telemetry.sources.paced import paced_sensors
from f1buf.telemetry.system import make_sensors
from f1buf.telemetry.thresholds import ThresholdTable, Tracker, load_thresholds

BUFFER_SIZE = 65536
ANALYZERS = 3


@dataclass(frozen=True)
class Pipeline:
    """Which one, and what its sensors give."""

    kind: str  # of PIPELINES
    batch: int = 4096  # readings that a sensor makes at once; the plain pattern's are always single
    ready: bool = False


class Block:
    """A source of `Pipeline.batch` readings at once, as fast as it goes."""

    def __init__(self, sensor: Sensor, spec: Pipeline) -> None:
        self.name = type(sensor).__name__
        self._sensor = sensor
        self._batch = spec.batch
        self._ready = [sensor.read_batch(spec.batch) for _ in range(max(2, 8192 // spec.batch))] if spec.ready else []

    def batches(self, stop: threading.Event) -> Iterator[Any]:
        if self._ready:
            for block in cycle(self._ready):
                if stop.is_set():
                    return
                yield block
        while not stop.is_set():
            yield self._sensor.read_batch(self._batch)


def on_ring(spec: Pipeline, seconds: float) -> float:
    """Readings analysed a second by f1buf's system."""
    alerts: list[Alert] = []
    system = F1TelemetrySystem(BUFFER_SIZE, on_alert=alerts.append)
    sensors = make_sensors()
    full_speed = spec.kind == "full speed"
    system.start(paced_sensors(sensors, None) if full_speed else [Block(each, spec) for each in sensors], ANALYZERS)
    summary = system.run(seconds)
    _require(summary.readings, summary.analysed, "f1buf")
    return summary.readings_per_s


class QueueOfArrays:
    """What `InOrder` asks of a ring, from a queue of arrays: all of one put at once, numbered as it comes out."""

    def __init__(self, maxsize: int, length: int) -> None:
        self.queue: queue.Queue[Any] = queue.Queue(maxsize)
        self._length = length  # of the arrays
        self._position = 0
        self._ended = False

    def get_many(self, most: int, *, return_seq: bool) -> tuple[int, Any]:
        """Called by one thread at a time. An array goes out as it came in, whatever `most` says."""
        array = None if self._ended else self.queue.get()
        if array is None:
            self._ended = True
            raise f1buf.ShutDown
        first = self._position
        self._position += len(array)
        return first, array

    capacity = BUFFER_SIZE

    def qsize(self) -> int:
        """In readings, nearly."""
        return self.queue.qsize() * self._length


class InOrder(BatchOrder):
    """The same with arrays that come by reference."""

    def _in_kept(self, max_count: int) -> Batch:
        return Batch(*self._ring.get_many(max_count, return_seq=True))


def in_two_processes(_spec: Pipeline, seconds: float) -> float:
    """Readings analysed a second by ``f1buf attach``, where this process makes them at full speed and analyses none."""
    name = f"bench-{os.getpid()}"
    attach = ["-m", "f1buf", "attach", name, "--timeout", "60", "--buffer-size", str(BUFFER_SIZE), "--json", "--plain"]
    sharer = Sharer(name, overflow="block", thresholds=load_thresholds("default"))
    with subprocess.Popen([sys.executable, *attach], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as attached:
        while len(sharer.shared.attached) < 2 and attached.poll() is None:
            time.sleep(0.001)  # who attaches gives no sign
        system = F1TelemetrySystem(BUFFER_SIZE)
        system.start(paced_sensors(make_sensors(), None), 0, consumers=[sharer])
        made = system.run(seconds).readings
        summary = json.loads(attached.communicate()[0])
    _require(made, summary["analysed"], "f1buf in two processes")
    return float(summary["readings_per_s"])


def on_queue(spec: Pipeline, seconds: float) -> float:
    """The same sensors, checks and alerts, with queue.Queue carrying their arrays, at equal memory."""
    sources = [Block(sensor, spec) for sensor in make_sensors()]
    waiting = QueueOfArrays(max(1, BUFFER_SIZE // spec.batch), spec.batch)
    table = ThresholdTable(load_thresholds("default"))
    tracker, stop = Tracker(table), threading.Event()
    alerts: list[Alert] = []
    made, analysed = [0] * len(sources), [0]

    def merge(batch: Batch) -> None:
        assert batch.crossings is not None
        for event in tracker.merge(batch.crossings, batch.first_position):
            alerts.append(Alert.from_event(event, table.thresholds[event.threshold], {}))
        analysed[0] += len(batch.readings)

    order = InOrder(waiting, merge)  # type: ignore[arg-type]

    def feed(index: int) -> None:
        for readings in sources[index].batches(stop):  # they are not changed: there is nothing to copy
            made[index] += len(readings)
            waiting.queue.put(readings)

    feeders = [threading.Thread(target=feed, args=(index,)) for index in range(len(sources))]
    analyzers = [threading.Thread(target=Analyzer(order, table).run) for _ in range(ANALYZERS)]
    took = _timed(feeders, analyzers, seconds, stop, lambda: waiting.queue.put(None))
    _require(sum(made), analysed[0], "the pipeline on queue.Queue")
    return analysed[0] / took


def in_one_thread(spec: Pipeline, seconds: float) -> float:
    """The same sensors, ring, checks and alerts, one after the other."""
    ring, stop = f1buf.RingBuffer(BUFFER_SIZE), threading.Event()
    table = ThresholdTable(load_thresholds("default"))
    tracker = Tracker(table)
    alerts: list[Alert] = []
    made = analysed = 0
    sources = cycle([Block(sensor, spec).batches(stop) for sensor in make_sensors()])
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        made += ring.put_many(next(next(sources)))
        first, readings = ring.get_many(return_seq=True)
        for event in tracker.merge(table.check(readings), first):
            alerts.append(Alert.from_event(event, table.thresholds[event.threshold], {}))
        analysed += len(readings)
    _require(made, analysed, "the loop")
    return analysed / took


@dataclass
class Reading:
    timestamp: float
    sensor_id: int
    data_type: str
    value: float
    unit: str


SENSORS = [
    ("ENGINE_TEMP", "°C", 80.0, 120.0),
    ("TIRE_PRESSURE", "bar", 1.8, 2.5),
    ("SPEED", "km/h", 0.0, 350.0),
    ("G_FORCE", "G", 0.0, 6.0),
    ("FUEL_LEVEL", "%", 0.0, 100.0),
]
OVER = {
    "ENGINE_TEMP": lambda value: value > 110,
    "TIRE_PRESSURE": lambda value: value < 1.9,
    "SPEED": lambda value: value > 340,
    "G_FORCE": lambda value: value > 5.5,
    "FUEL_LEVEL": lambda value: value < 15,
}


def plain(spec: Pipeline, seconds: float) -> float:
    """Readings analysed a second by the plain pattern."""
    buffer: queue.Queue[Reading | None] = queue.Queue(BUFFER_SIZE)
    stop = threading.Event()
    made, analysed = [0] * len(SENSORS), [0] * ANALYZERS

    def sense(index: int) -> None:
        data_type, unit, low, high = SENSORS[index]
        n = 0
        while not stop.is_set():
            buffer.put(Reading(n / 100.0, index, data_type, random.uniform(low, high), unit))
            n += 1
        made[index] = n

    def sense_again(index: int) -> None:
        data_type, unit, low, high = SENSORS[index]
        ready = [Reading(n / 100.0, index, data_type, random.uniform(low, high), unit) for n in range(8192)]
        n = 0
        for reading in cycle(ready):
            if stop.is_set():
                break
            buffer.put(reading)
            n += 1
        made[index] = n

    def analyse(index: int) -> None:
        n = alerts = 0
        while (reading := buffer.get()) is not None:
            alerts += OVER[reading.data_type](reading.value)
            n += 1
        analysed[index] = n

    def end() -> None:
        for _ in range(ANALYZERS):
            buffer.put(None)

    make = sense_again if spec.ready else sense
    sensors = [threading.Thread(target=make, args=(i,)) for i in range(len(SENSORS))]
    analyzers = [threading.Thread(target=analyse, args=(i,)) for i in range(ANALYZERS)]
    took = _timed(sensors, analyzers, seconds, stop, end)
    _require(sum(made), sum(analysed), "the plain pattern")
    return sum(analysed) / took


def _timed(
    feeders: list[threading.Thread],
    analyzers: list[threading.Thread],
    seconds: float,
    stop: threading.Event,
    end: Callable[[], None],
) -> float:
    """Let them run, stop in order, and return how long it took."""
    began = time.perf_counter()
    for thread in analyzers + feeders:
        thread.start()
    time.sleep(seconds)  # the length of the measurement
    stop.set()
    for thread in feeders:
        thread.join()
    end()
    for thread in analyzers:
        thread.join()
    return time.perf_counter() - began


def _require(made: int, analysed: int, what: str) -> None:
    if made != analysed:
        raise AssertionError(f"{what} lost readings: {made} made, {analysed} analysed")


PIPELINES: dict[str, Callable[[Pipeline, float], float]] = {
    "f1buf": on_ring,
    "full speed": on_ring,
    "two processes": in_two_processes,
    "queue.Queue of arrays": on_queue,
    "one thread": in_one_thread,
    "plain": plain,
}
