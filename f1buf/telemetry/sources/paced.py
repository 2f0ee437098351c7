"""Sensors at a pace: so many readings a second, or as fast as it goes."""

import math
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.convert import to_records
from f1buf.ring.reading import READING
from f1buf.telemetry.sensors import Reading, Sensor, SimulatedSensor, checked_readings
from f1buf.telemetry.sources import Unwritten

__all__ = ["FULL_SPEED_BATCH", "PacedSensor", "SensorAtIntervals", "Turnstile", "paced_sensors"]

FULL_SPEED_BATCH = 16384
"""Readings that a sensor makes at once at full speed: many, so that its thread seldom has to get the GIL back from
another. With half of it, and analyzers that take half as many, the system moved 0.6 times as many readings a second."""

FULL_SPEED_BLOCK = 65536
"""Readings that a simulated sensor writes at once at full speed, straight into the buffer, where that is large enough:
with twice the block, up to here, the system moved 1.3 times as many readings a second."""

_TICK = 2e-3  # [s] how often fast sensors make what has become due
_TURN = 1e-2  # [s] what a sensor contributes in one turn, and the longest that single readings are collected
_CATCH_UP = 0.1  # [s] see PacedSensor
_STOP_TICK = 0.05  # [s] how often a sensor that waits for its turn looks whether to stop
_LONGEST_WAIT = 3600.0  # [s] at once: an Event cannot wait for all that a float can say
_ENDLESS = 1 << 62
_NOTHING = np.empty(0, READING)


class Turnstile:
    """Lets sensors, numbered 0 to count - 1, put in this order, so that the stream is the same each time."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._gates = [threading.Condition(self._lock) for _ in range(count)]  # one each: only the next one is woken
        self._order = deque(range(count))  # the next one is first

    @contextmanager
    def turn(self, index: int, stop: threading.Event) -> Iterator[None]:
        """Wait until it is this sensor's turn to put; then it is the next one's. After `stop` no order is kept."""
        with self._lock:
            while not stop.is_set() and not self._gates[index].wait_for(lambda: self._order[0] == index, _STOP_TICK):
                pass
        try:
            yield
        finally:
            with self._lock:
                if self._order[0] == index:
                    self._order.rotate(-1)
                self._let_next_in()

    def leave(self, index: int) -> None:
        """Go on without a sensor that has ended."""
        with self._lock:
            self._order.remove(index)
            self._let_next_in()

    def _let_next_in(self) -> None:
        if self._order:
            self._gates[self._order[0]].notify()


class PacedSensor:
    """
    A sensor as a source.

    A sensor with `read` alone is read one reading at a time, so that it stops promptly, and what it gave before it
    failed is not lost. A reading with a channel number that no channel has is a failure, too (a ValueError).

    Parameters
    ----------
    sensor : Sensor
        What to read.
    rate : float or None
        Readings a second; None for as fast as it goes. A sensor that is late by up to 0.1 s catches up. After a longer
        wait for room in the buffer it goes on at its pace, so that no backlog piles up behind a slow analysis.
    count : int or None
        How many readings it makes in all; None for no end.
    turnstile : Turnstile or None
        With it, batches have a fixed size and are put in turns; the sensor's number there is `index`.
    """

    def __init__(
        self,
        sensor: Sensor,
        *,
        rate: float | None,
        count: int | None = None,
        turnstile: Turnstile | None = None,
        index: int = 0,
    ) -> None:
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"rate is {rate}; expected readings a second, above 0 and finite, or None for full speed")
        if count is not None and operator.index(count) < 1:
            raise ValueError(f"count is {count}; expected at least 1 reading, or None for no end")
        self.sensor = sensor
        self.name = f"{type(sensor).__name__} {sensor.sensor_id}"
        self._rate = rate
        self._left = math.inf if count is None else count
        self._turnstile = turnstile
        self._index = index
        self._failure: BaseException | None = None
        self._ended = False
        self._one_by_one = type(sensor).read_batch is Sensor.read_batch
        self._trusted = (  # its channel is the sensor's own
            isinstance(sensor, SimulatedSensor)
            and type(sensor).read_batch is SimulatedSensor.read_batch
            and type(sensor).write_batch is SimulatedSensor.write_batch
        )

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any] | Unwritten]:
        """Yield the sensor's readings as they become due."""
        if self._turnstile is not None:
            return self._in_turns(stop, self._turnstile)
        if self._trusted and self._rate is None and self._left == math.inf:
            return self._unwritten(stop)
        return self._free(stop)

    def _unwritten(self, stop: threading.Event) -> Iterator[Unwritten]:
        assert isinstance(self.sensor, SimulatedSensor)
        while not stop.is_set():
            yield Unwritten(FULL_SPEED_BLOCK, self.sensor.write_batch)

    def _free(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        began, made = time.monotonic(), 0
        while not stop.is_set():
            late = time.monotonic() - began - made / self._rate if self._rate is not None else 0.0
            if late > _CATCH_UP:
                began += late - _CATCH_UP
            due = self._due(time.monotonic() - began) - made
            if due < 1:
                stop.wait(max(_TICK, self._until(began, made)))
                continue
            batch = self._read(min(due, FULL_SPEED_BATCH), stop, _TURN)
            if not len(batch):
                return
            made += len(batch)
            yield batch
        self._raise_failure()

    def _in_turns(self, stop: threading.Event, turnstile: Turnstile) -> Iterator[NDArray[Any]]:
        size = FULL_SPEED_BATCH if self._rate is None else max(1, int(min(self._rate, 1e9) * _TURN))
        began, made = time.monotonic(), 0
        try:
            while not stop.wait(max(0.0, self._until(began, made))):
                if self._due(time.monotonic() - began) <= made:
                    continue  # a long pause is waited for in parts
                batch = self._read(size, stop, math.inf)
                if not len(batch):
                    return
                made += len(batch)
                with turnstile.turn(self._index, stop):
                    yield batch
            self._raise_failure()
        finally:
            turnstile.leave(self._index)

    def _due(self, elapsed: float) -> int:
        """Return how many readings should have been made after so many seconds."""
        return _ENDLESS if self._rate is None else int(min(elapsed * self._rate, _ENDLESS)) + 1

    def _until(self, began: float, made: int) -> float:
        """Return the seconds until the next reading is due, negative if it is late, and no more than can be slept."""
        return 0.0 if self._rate is None else min(began + made / self._rate - time.monotonic(), _LONGEST_WAIT)

    def _read(self, n: int, stop: threading.Event, seconds: float) -> NDArray[Any]:
        """Return up to `n` readings, and up to the sensor's count; none at its end. Raise what it failed with."""
        self._raise_failure()
        n = int(min(n, self._left))
        if n == 0 or self._ended:
            return _NOTHING
        batch = self._read_singly(n, stop, seconds) if self._one_by_one else self.sensor.read_batch(n)
        if not self._trusted:
            batch = self._checked(batch)
        self._left = max(0, self._left - len(batch))
        return batch

    def _checked(self, batch: Any) -> NDArray[Any]:
        """Return the readings before the first bad one; raise if there are none."""
        good, error = checked_readings(self.sensor, batch)
        if error is not None:
            self._failure = error  # it comes before what the sensor itself may have failed with
            if not len(good):
                raise error
        return good

    def _raise_failure(self) -> None:
        """Raise what the sensor failed with after its last good readings."""
        if self._failure is not None:
            raise self._failure

    def _read_singly(self, n: int, stop: threading.Event, seconds: float) -> NDArray[Any]:
        """Read once, and then until there are `n`, the time is over, `stop` is set, or the sensor ends or fails."""
        readings: list[Reading] = []
        until = time.monotonic() + seconds
        while len(readings) < n and not (readings and (stop.is_set() or time.monotonic() >= until)):
            try:
                readings.append(self.sensor.read())
            except StopIteration:
                self._ended = True
                break
            except BaseException as error:
                if not readings:
                    raise
                self._failure = error  # for the next call: the readings so far are good
                break
        return to_records(readings, READING)


def paced_sensors(sensors: Sequence[Sensor], rate: float | None, count: int | None = None) -> list[PacedSensor]:
    """Return a source for each sensor; with a `count` they take turns, so that a seeded run is the same each time."""
    turnstile = None if count is None else Turnstile(len(sensors))
    return [
        PacedSensor(sensor, rate=rate, count=count, turnstile=turnstile, index=index)
        for index, sensor in enumerate(sensors)
    ]


class SensorAtIntervals:
    """
    A sensor read one reading at a time, after a pause each: the textbook's producer.

    Parameters
    ----------
    sensor : Sensor
        What to read.
    interval : callable
        Returns the next pause [s].
    count : int or None
        How many readings it makes in all.
    """

    def __init__(self, sensor: Sensor, interval: Callable[[], float], count: int | None = None) -> None:
        self.sensor = sensor
        self.name = f"{type(sensor).__name__} {sensor.sensor_id}"
        self._interval = interval
        self._count = count

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield one reading after each pause."""
        made = 0
        while made != self._count and not stop.wait(self._interval()):
            batch, error = checked_readings(self.sensor, self.sensor.read_batch(1))
            if error is not None:
                raise error
            if not len(batch):
                return
            made += 1
            yield batch
