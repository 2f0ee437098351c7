"""What exports are given: readings, and of each the series that it is of, by name, and the lap.

What a source knows of a sensor may change from one batch to the next. So it is asked as soon as a batch has come, once
for each sensor in it; what it says is kept as a number for each reading until enough readings are there to be written.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.channels import Channel, channel_by_number

__all__ = ["NO_LAP", "Batch", "Series", "SeriesFinder", "joined", "places_by"]

Array = NDArray[Any]

NO_LAP = -1  # where a source does not know the lap


class Series(NamedTuple):
    """Who measures what: a sensor's readings of one channel, as long as nothing else of this changes."""

    sensor_id: int
    channel: Channel | None
    """None for readings of no channel that this process knows."""
    session: int | None
    car: int | None
    driver: str | None
    part: str | None

    @property
    def name(self) -> str:
        """The channel's name."""
        return "" if self.channel is None else self.channel.name

    @property
    def unit(self) -> str:
        """The channel's unit."""
        return "" if self.channel is None else self.channel.unit

    @property
    def who(self) -> str:
        """The driver and the car; empty where neither is known."""
        car = None if self.car is None else f"car {self.car}"
        return " ".join(filter(None, (self.driver, car)))


class Batch(NamedTuple):
    """Readings, and what is known of them."""

    readings: Array
    """Of READING, shape (n,)."""
    series: Sequence[Series]
    """All series so far."""
    which: Array
    """For each reading the place of its series in `series`; intp, shape (n,)."""
    lap: Array
    """For each reading the lap, or `NO_LAP`; int64, shape (n,)."""


class SeriesFinder:
    """Finds the series of readings.

    Parameters
    ----------
    describe : callable or None
        What the source says of a sensor, from its id and the reading's flags.
    """

    def __init__(self, describe: Callable[[int, int], dict[str, Any]] | None) -> None:
        self.series: list[Series] = []
        self._describe = describe or (lambda sensor_id, flags: {})
        self._places: dict[Series, int] = {}

    def batch(self, readings: Array) -> Batch:
        """Return readings that the source has just yielded with what it knows of them now."""
        keys = readings["sensor_id"].astype(np.uint64) << np.uint64(32)
        keys |= readings["flags"].astype(np.uint64) << np.uint64(16)
        keys |= readings["channel"].astype(np.uint64)
        different, which = np.unique(keys, return_inverse=True)
        found = [self._find(key >> 32, key >> 16 & 0xFFFF, key & 0xFFFF) for key in different.tolist()]
        places, laps = np.array(found, np.int64).reshape(-1, 2).T
        return Batch(readings, self.series, places[which], laps[which])

    def _find(self, sensor_id: int, flags: int, number: int) -> tuple[int, int]:
        """Return the place of a series, and the lap."""
        said = self._describe(sensor_id, flags)
        try:
            channel = channel_by_number(number)
        except KeyError:
            channel = None
        series = Series(sensor_id, channel, *map(said.get, ("session", "car", "driver", "part")))
        place = self._places.setdefault(series, len(self.series))
        if place == len(self.series):
            self.series.append(series)
        lap = said.get("lap")
        return place, NO_LAP if lap is None else lap


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches of one `SeriesFinder` as one."""
    readings, series, which, lap = zip(*batches, strict=True)
    return Batch(np.concatenate(readings), series[-1], np.concatenate(which), np.concatenate(lap))


def places_by(numbers: Array) -> list[tuple[int, Array]]:
    """Return each different number, and where it stands, in order."""
    order = np.argsort(numbers, kind="stable")
    in_order = numbers[order]
    starts = np.flatnonzero(np.diff(in_order)) + 1
    pieces = np.split(order, starts) if len(order) else []
    return [(int(numbers[piece[0]]), piece) for piece in pieces]
