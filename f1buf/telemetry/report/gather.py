"""The gatherer: a consumer that keeps of each series what a report needs, in bounded memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import READING, RingBuffer, ShutDown
from f1buf.telemetry.channels import SPEED, Channel, channel_by_number, known_channels
from f1buf.telemetry.report.outliers import Sample, Spikes
from f1buf.telemetry.report.thin import Points, points_each, thinned

__all__ = ["MOST_SERIES", "Gatherer", "Series", "Stretch"]

Describe = Callable[[int, int], dict[str, Any]]

MOST_SERIES = 4096  # more than a page can show
MOST_POINTS = 2_000_000  # of 16 or 24 bytes, that are held; then the traces are thinned
THINNED_POINTS = 500_000
_CAPACITY = 65_536  # readings in the ring: sources know the sensors of as many
_LARGEST = np.array([[1e12], [1e100]])  # time [s] and value that a chart can show, and of which sums are finite
_KMH = 3.6  # a m/s
_FASTEST = 1000.0  # [km/h]: a faulty reading moves no car


class Stretch:
    """The trace of a series in one lap, or all of it where there are no laps.

    Attributes
    ----------
    readings : int
        How many there were.
    first, last : float
        The times of the first and of the last one [s].
    """

    def __init__(self) -> None:
        self.readings = 0
        self.first, self.last = np.inf, -np.inf
        self._pieces: list[Points] = []
        self._end: Points | None = None  # the latest time, speed and distance

    @property
    def points(self) -> Points:
        """Times in their order, values and, if they were taken, distances [m]; shape (2 or 3, n)."""
        points = np.concatenate(self._pieces, axis=1)
        self._pieces = [points[:, np.argsort(points[0], kind="stable")]]
        return self._pieces[0]

    @property
    def held(self) -> int:
        """How many points it has."""
        return sum(piece.shape[1] for piece in self._pieces)

    def add(self, points: Points, *, with_distance: bool) -> None:
        """Take the next times and values, shape (2, n), with n of at least 1."""
        self.readings += points.shape[1]
        self.first, self.last = min(self.first, points[0].min()), max(self.last, points[0].max())
        self._pieces.append(self._with_distance(points) if with_distance else points)

    def _with_distance(self, speeds: Points) -> Points:
        """Add what was driven up to each time, from the first one on: the mean of two speeds times the time between."""
        begin = np.append(speeds[:, :1], [[0.0]], axis=0) if self._end is None else self._end
        times, values = np.append(begin[:2], speeds, axis=1)
        values = np.clip(values, 0.0, _FASTEST)
        steps = np.maximum(np.diff(times), 0.0) * (values[1:] + values[:-1]) / (2 * _KMH)
        points = np.vstack([speeds, begin[2] + np.cumsum(steps)])
        self._end = points[:, -1:]
        return points

    def thin(self, most: int) -> None:
        """Keep at most so many points."""
        self._pieces = [thinned(self.points, most)]


class Series:
    """What is known of one sensor on one channel.

    Attributes
    ----------
    described : dict
        What the source said of it last.
    readings, unfit : int
        How many came, and how many of them have a time or a value that is no number, or larger than any that a chart
        can show. These are in nothing else.
    backwards : int
        How many have an earlier time than the one before.
    low, high : tuple of float
        Value and time of the lowest and the highest one.
    mean, squares : float
        The mean, and the sum of the squared distances from it.
    pause : tuple of float
        The longest time between two readings, and when it began [s].
    sample, spikes
        For the quartiles and the outliers.
    stretches : dict
        By lap; None stands for no lap.
    """

    def __init__(self, sensor_id: int, channel: Channel) -> None:
        self.sensor_id, self.channel = sensor_id, channel
        self.described: dict[str, Any] = {}
        self.readings = self.unfit = self.backwards = 0
        self.low, self.high = (np.inf, np.nan), (-np.inf, np.nan)
        self.squares = 0.0
        self.pause = 0.0, np.nan
        self.sample, self.spikes = Sample(), Spikes()
        self.stretches: dict[int | None, Stretch] = {}
        self._latest: float | None = None  # time
        # The mean is the first value and an offset: so it is exact where all values are the same.
        self._origin = self._offset = 0.0

    @property
    def fit(self) -> int:
        """How many readings are no `unfit` ones."""
        return self.readings - self.unfit

    @property
    def mean(self) -> float:
        """The mean of those."""
        return self._origin + self._offset

    def add(self, times: NDArray[Any], values: NDArray[Any], described: dict[str, Any]) -> None:
        """Take the next readings, of which this is known."""
        self.described = described
        points = np.stack([times, values])
        fit = (np.abs(points) <= _LARGEST).all(axis=0)  # NaN is not
        self.readings += len(fit)
        if not fit.all():
            self.unfit += len(fit) - int(fit.sum())
            points = points[:, fit]
        if points.shape[1]:
            self._count(points)
            lap = described.get("lap")
            self.stretches.setdefault(lap, Stretch()).add(points, with_distance=self.has_distance(lap))

    def has_distance(self, lap: int | None) -> bool:
        """Whether it says how far a car has come in this lap."""
        return self.channel == SPEED and lap is not None

    def _count(self, points: Points) -> None:
        times, values = points
        low, high = int(values.argmin()), int(values.argmax())
        self.low = min(self.low, (float(values[low]), float(times[low])), key=lambda each: each[0])
        self.high = max(self.high, (float(values[high]), float(times[high])), key=lambda each: each[0])
        if self._latest is None:
            self._origin = float(values[0])
        # The sums of two parts, as Chan, Golub and LeVeque (1979) put them together.
        from_origin = values - self._origin
        before, new, mean = self.fit - len(values), len(values), float(from_origin.mean())
        step = mean - self._offset
        self._offset += step * new / (before + new)
        self.squares += float(((from_origin - mean) ** 2).sum()) + step * step * before * new / (before + new)
        self.sample.add(values)
        self.spikes.add(points)
        self._look_for_pauses(times)

    def _look_for_pauses(self, times: NDArray[Any]) -> None:
        if self._latest is not None:
            times = np.append(self._latest, times)
        self._latest = float(times[-1])
        steps = np.diff(times)
        self.backwards += int(np.count_nonzero(steps < 0))
        if len(steps) and (longest := float(steps.max())) > self.pause[0]:
            self.pause = longest, float(times[steps.argmax()])


class Gatherer:
    """Keeps what a report needs of all readings that are put into its ring; a `Consumer` of one run.

    Its memory is bounded: where more than two million readings come, traces are thinned to the extremes of equally
    long pieces. All else that it tells is of all readings.

    Parameters
    ----------
    describe : callable, optional
        Returns what is known of a sensor, from its id and a reading's flags, see `F1TelemetrySystem.start`.

    Attributes
    ----------
    name, ring
        As of any consumer.
    series : list of Series
        In the order in which they were first heard; for after the run.
    readings : int
        How many came.
    left_out, of_no_channel : int
        How many are in no series, as there were 4,096 others before theirs, or as their channel is none.
    first, last : float
        The earliest and the latest time [s]; infinite where no reading came.
    is_thinned : bool
        Whether there were so many that traces had to be thinned.
    """

    name = "report"

    def __init__(self, describe: Describe | None = None) -> None:
        self.ring = RingBuffer(_CAPACITY, READING)
        self.series: list[Series] = []
        self.readings = self.left_out = self.of_no_channel = 0
        self.first, self.last = np.inf, -np.inf
        self.is_thinned = False
        self._describe = describe or (lambda sensor_id, flags: {})
        self._known: dict[tuple[int, int], Series] = {}  # by sensor and channel
        self._channels = range(0)  # the numbers of those that there are
        self._held = 0  # points

    def run(self) -> None:
        """Take out of the ring until it is shut down and drained; in a thread of its own."""
        while True:
            try:
                readings = self.ring.get_many(_CAPACITY, min_count=_CAPACITY // 4)
            except ShutDown:
                return
            self.add(readings)

    def add(self, readings: NDArray[Any]) -> None:
        """Take the next readings, an array of READING."""
        self.readings += len(readings)
        self._channels = range(1, len(known_channels()) + 1)
        for group in _groups(readings):
            _time, sensor_id, number, flags, _value = group[0].item()
            if number not in self._channels:
                self.of_no_channel += len(group)
            elif (series := self._series(sensor_id, number)) is None:
                self.left_out += len(group)
            else:
                series.add(group["timestamp"], group["value"], self._describe(sensor_id, flags))
        times = readings["timestamp"][np.abs(readings["timestamp"]) <= _LARGEST[0, 0]]
        if len(times):
            self.first, self.last = min(self.first, float(times.min())), max(self.last, float(times.max()))
        self._held += len(readings)
        if self._held > MOST_POINTS:
            self.thin(THINNED_POINTS)

    def _series(self, sensor_id: int, number: int) -> Series | None:
        found = self._known.get((sensor_id, number))
        if found is None and len(self.series) < MOST_SERIES:
            found = self._known[sensor_id, number] = Series(sensor_id, channel_by_number(number))
            self.series.append(found)
        return found

    def thin(self, most: int) -> None:
        """Thin the traces to about so many points together.

        Half of them is for speed by laps, which is laid over other laps and so needs more.
        """
        by_lap: list[Stretch] = []
        others: list[Stretch] = []
        for series in self.series:
            for lap, stretch in series.stretches.items():
                (by_lap if series.has_distance(lap) else others).append(stretch)
        self._held = 0
        for stretches, share in ((by_lap, most // 2), (others, most)):
            each_has = points_each([stretch.held for stretch in stretches], share - self._held)
            for stretch in stretches:
                self.is_thinned = self.is_thinned or stretch.held > each_has
                stretch.thin(each_has)
            self._held += sum(stretch.held for stretch in stretches)


def _groups(readings: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the readings by sensor, channel and flags, each group in its order; the groups by their first reading."""
    if not len(readings):
        return []
    keys = readings["sensor_id"].astype(np.uint64) << np.uint64(32)
    keys |= readings["channel"].astype(np.uint64) << np.uint64(16) | readings["flags"]
    order = np.argsort(keys, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))
    groups = np.split(readings.take(order), begins[1:])
    return [groups[place] for place in np.argsort(order[begins])]
