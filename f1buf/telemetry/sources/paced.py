"""Sensors at a pace: so many readings a second, or as fast as it goes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from f1buf.telemetry.sensors import Sensor

__all__ = ["FULL_SPEED_BATCH", "PacedSensor", "SensorAtIntervals", "Turnstile"]

FULL_SPEED_BATCH = 4096
"""Readings that a sensor makes at once where nothing holds it back: about what its own block has."""

_TICK = 2e-3  # [s] fast sensors make what has become due this often, rather than each reading by itself
_TURN = 1e-2  # [s] what a sensor contributes in one turn of a turnstile


class Turnstile:
    """Lets sensors put in a fixed order, one turn each, so that the stream is the same each time.

    Parameters
    ----------
    count : int
        How many sensors take turns: those numbered 0 to count - 1.
    """

    def __init__(self, count: int) -> None:
        self._moved = threading.Condition()
        self._order = deque(range(count))  # whose turn it is comes first

    @contextmanager
    def turn(self, index: int) -> Iterator[None]:
        """Wait for this sensor's turn; at the end it is the next one's."""
        with self._moved:
            self._moved.wait_for(lambda: self._order[0] == index)
        try:
            yield
        finally:
            with self._moved:
                self._order.rotate(-1)
                self._moved.notify_all()

    def leave(self, index: int) -> None:
        """This sensor has ended; the others go on without it."""
        with self._moved:
            self._order.remove(index)
            self._moved.notify_all()


class PacedSensor:
    """
    A sensor as a source.

    Parameters
    ----------
    sensor : Sensor
        What to read.
    rate : float or None
        Readings a second; None for as fast as it goes. A sensor that falls behind catches up.
    count : int or None
        How many readings it makes in all; None for no end.
    turnstile : Turnstile or None
        Where given, batches have a fixed size and come in turns, as number `index`.
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
        self.sensor = sensor
        self.name = f"{type(sensor).__name__} {sensor.sensor_id}"
        self._rate = rate
        self._count = count
        self._turnstile = turnstile
        self._index = index

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield the sensor's readings as they become due."""
        return self._free(stop) if self._turnstile is None else self._in_turns(stop, self._turnstile)

    def _free(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        began, made = time.monotonic(), 0
        while not stop.is_set() and made != self._count:
            due = self._due(time.monotonic() - began) - made
            if due < 1:
                stop.wait(self._until_next(began, made))
                continue
            batch = self.sensor.read_batch(self._at_most(min(due, FULL_SPEED_BATCH), made))
            if not len(batch):
                return
            made += len(batch)
            yield batch

    def _in_turns(self, stop: threading.Event, turnstile: Turnstile) -> Iterator[NDArray[Any]]:
        size = FULL_SPEED_BATCH if self._rate is None else max(1, int(self._rate * _TURN))
        began, made = time.monotonic(), 0
        try:
            while made != self._count and not self._wait_for(began, made, stop):
                batch = self.sensor.read_batch(self._at_most(size, made))
                if not len(batch):
                    return
                made += len(batch)
                with turnstile.turn(self._index):
                    yield batch
        finally:
            turnstile.leave(self._index)

    def _due(self, elapsed: float) -> int:
        """How many readings should have been made after so many seconds."""
        return 1 << 62 if self._rate is None else int(elapsed * self._rate) + 1

    def _at_most(self, n: int, made: int) -> int:
        return n if self._count is None else min(n, self._count - made)

    def _until_next(self, began: float, made: int) -> float:
        assert self._rate is not None  # otherwise there is always one due
        return max(_TICK, began + made / self._rate - time.monotonic())

    def _wait_for(self, began: float, made: int, stop: threading.Event) -> bool:
        """Wait until the next reading is due; True where `stop` came first."""
        if self._rate is None:
            return stop.is_set()
        return stop.wait(max(0.0, began + made / self._rate - time.monotonic()))


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
            batch = self.sensor.read_batch(1)
            if not len(batch):
                return
            made += 1
            yield batch
