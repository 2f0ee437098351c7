"""The textbook demonstration: a few readings a second, and a line for everything that happens.

Five sensors with a reading every 0.1 to 0.5 s make 17 readings a second. Three analyzers with 0.2 to 0.7 s of work for
each reading can do 7. So the buffer fills, sensors wait, and in the end all that was recorded has been processed.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from f1buf import RingBuffer
from f1buf.telemetry.analyzers import Analyzer
from f1buf.telemetry.channels import TelemetryData
from f1buf.telemetry.sensors import Sensor
from f1buf.telemetry.sources.paced import SensorAtIntervals
from f1buf.telemetry.thresholds import Crossings

__all__ = ["BUFFER_SIZE", "TextbookSensor", "textbook_analyzer"]

BUFFER_SIZE = 20
"""Readings that the demonstration's buffer holds unless told otherwise: full within seconds."""

INTERVAL = (0.1, 0.5)  # [s] between two readings of a sensor
WORK = (0.2, 0.7)  # [s] for a reading


class TextbookSensor(SensorAtIntervals):
    """A sensor that says when it waits for room and when its reading is recorded.

    Parameters
    ----------
    sensor : Sensor
        What to read.
    ring : RingBuffer
        The buffer, to see whether it is full.
    say : callable
        Takes a line.
    count : int or None
        How many readings it makes.
    rng : random.Random
        Of the pauses.
    """

    def __init__(
        self, sensor: Sensor, ring: RingBuffer, say: Callable[[str], None], count: int | None, rng: random.Random
    ) -> None:
        super().__init__(sensor, lambda: rng.uniform(*INTERVAL), count)
        self._ring = ring
        self._say = say

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield one reading after each pause."""
        for batch in super().batches(stop):
            if self._ring.full():
                self._say(f"{self.name} waits: the buffer is full")
            yield batch
            self._say(f"{self.name} recorded {_short(batch[0])}  {_fill(self._ring)}")


def textbook_analyzer(ring: RingBuffer, say: Callable[[str], None], rng: random.Random) -> type[Analyzer]:
    """Return the class of an analyzer that takes its time for each reading and says what it has processed."""

    class TextbookAnalyzer(Analyzer):
        max_count = 1

        def check(self, readings: NDArray[Any]) -> Crossings:
            time.sleep(rng.uniform(*WORK))  # stands for work
            crossings = super().check(readings)
            say(f"{threading.current_thread().name} processed {_short(readings[0])}  {_fill(ring)}")
            return crossings

    return TextbookAnalyzer


def _short(reading: Any) -> str:
    data = TelemetryData.from_reading(reading)
    return f"{data.data_type} {data.value:.2f} {data.unit}"


def _fill(ring: RingBuffer) -> str:
    return f"[buffer {ring.qsize()}/{ring.capacity}]"
