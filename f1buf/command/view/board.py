"""What a live view knows of each series: its latest value, and how it got there."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf import Empty, RingBuffer
from f1buf.command.view.scale import Scale, scale_of
from f1buf.telemetry import Channel, Threshold, channel_by_number
from f1buf.telemetry.text import clean

Rows = NDArray[np.intp]
Values = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_SERIES = 4096  # that a board follows: more than a terminal shows
HISTORY = 160  # columns of the longest sparkline
NOBODY = -1  # the row of a series that is not followed: its values are NaN
_STALE = 5.0  # [s] without a reading
_OVER = 60.0  # [s] without a reading of the whole session
_LATEST, _HIGHEST, _LOWEST, _LARGEST = range(4)  # which reading of an update a sparkline shows


class Series(NamedTuple):
    """One sensor on one channel."""

    sensor_id: int
    channel: Channel
    car: int | None
    part: str  # which wheel or axis; empty where there is only one
    session: int | None = None  # the game's number of its session, where the source knows sessions


class Board:
    """
    What is known of each series; for one thread.

    A session is over when nothing has come of it for a minute while other readings came: the game was started again.
    Its series are forgotten. A session that is paused comes back earlier, as a rule.

    Parameters
    ----------
    ring : RingBuffer
        Of READING, and this board's own: each update takes what is there.
    thresholds : iterable of Threshold
        What counts as over.
    describe : callable
        Returns what is known of a sensor, from its number and a reading's flags, see `F1TelemetrySystem.start`. Its
        car, part and session do not change.

    Attributes
    ----------
    series : list of Series
        In the order in which they were first heard. The arrays have a row for each; the row `NOBODY` is NaN.
    latest, low, high : ndarray of float64, shape (MOST_SERIES + 1,)
        The latest value, and the extremes so far.
    heard : ndarray of float64, shape (MOST_SERIES + 1,)
        When the latest one came, on the clock of `update`.
    history : ndarray of float64, shape (MOST_SERIES + 1, HISTORY)
        The newest column is the last. A column stands for the readings of one update: for a series with a threshold
        it is the worst of them, so that none over the threshold is missed; for others it is the latest. (A ring with a
        drop policy may have lost readings before the update.)
    overfull : bool
        There are more series than it follows.
    """

    def __init__(
        self,
        ring: RingBuffer,
        thresholds: Iterable[Threshold] = (),
        describe: Callable[[int, int], Mapping[str, Any]] = lambda sensor_id, flags: {},
    ) -> None:
        self.thresholds = tuple(thresholds)
        self.series: list[Series] = []
        self.overfull = False
        self.latest, self.low, self.high, self.heard = (np.full(MOST_SERIES + 1, np.nan) for _ in range(4))
        self.history = np.full((MOST_SERIES + 1, HISTORY), np.nan)
        self.ring = ring
        self._now = 0.0  # the time of the last update
        self._describe = describe
        self._rows: dict[int, int] = {}
        self._flags = np.zeros(MOST_SERIES + 1, np.uint16)
        self._stands_for = np.zeros(MOST_SERIES + 1, np.intp)  # _LATEST and so on
        self._judged = np.zeros((len(self.thresholds), MOST_SERIES + 1), np.bool_)  # by which threshold

    def update(self, now: float) -> None:
        """Take what has come since the last time; `now` is seconds on any clock."""
        self._now = now
        try:
            readings = self.ring.get_many(block=False)  # one moment: each reading is in one column
        except Empty:
            return
        keys = readings["sensor_id"].astype(np.int64) << 16 | readings["channel"]
        order = keys.argsort(kind="stable")  # by series, and each one's in their order
        keys, values, flags = keys[order], readings["value"][order], readings["flags"][order]
        last = np.append(keys[1:] != keys[:-1], True).nonzero()[0]
        first = np.append(0, last[:-1] + 1)
        rows = self._rows_of(keys[last].tolist(), flags[last].tolist())
        high, low = np.fmax.reduceat(values, first), np.fmin.reduceat(values, first)
        largest = np.where(-low > high, low, high)
        self.latest[rows] = values[last]
        self._flags[rows] = flags[last]
        self.heard[rows] = now
        self.high[rows] = np.fmax(self.high[rows], high)
        self.low[rows] = np.fmin(self.low[rows], low)
        followed = self.history[: len(self.series)]
        followed[:, :-1] = followed[:, 1:]
        followed[:, -1] = self.latest[: len(followed)]
        self.history[rows, -1] = np.choose(self._stands_for[rows], (values[last], high, low, largest))
        for array in (self.latest, self.low, self.high, self.history):
            array[NOBODY] = np.nan
        self._forget_what_is_over()

    def _forget_what_is_over(self) -> None:
        heard: dict[int | None, float] = {}
        for series, last in zip(self.series, self.heard.tolist(), strict=False):
            heard[series.session] = max(last, heard.get(series.session, last))
        over = {session for session, last in heard.items() if self._now - last > _OVER}
        if over:
            self._keep([row for row, series in enumerate(self.series) if series.session not in over])

    def _keep(self, rows: list[int]) -> None:
        """Forget all series but these."""
        count = len(rows)
        self.series = [self.series[row] for row in rows]
        places = {row: place for place, row in enumerate(rows)}
        self._rows = {key: places[row] for key, row in self._rows.items() if row in places}
        self.overfull = False
        for array in (self.latest, self.low, self.high, self.heard, self.history, self._flags, self._stands_for):
            array[:count] = array[rows]
            array[count:] = np.nan if array.dtype.kind == "f" else 0
        self._judged[:, :count] = self._judged[:, rows]
        self._judged[:, count:] = False

    def _rows_of(self, keys: list[int], flags: list[int]) -> Rows:
        for key, its_flags in zip(keys, flags, strict=True):
            if key not in self._rows:
                self._follow(key, its_flags)
        return np.array([self._rows.get(key, NOBODY) for key in keys], np.intp)

    def _follow(self, key: int, flags: int) -> None:
        row, sensor_id = len(self.series), key >> 16
        self.overfull = self.overfull or row == MOST_SERIES
        if self.overfull:
            return
        try:
            channel = channel_by_number(key & 0xFFFF)
        except KeyError:
            return  # nobody's reading
        described = self._describe(sensor_id, flags)
        part = clean(described.get("part") or "")
        self.series.append(Series(sensor_id, channel, described.get("car"), part, described.get("session")))
        self._rows[key] = row
        for threshold, judged in zip(self.thresholds, self._judged, strict=True):
            judged[row] = threshold.channel == channel.name
            if judged[row] and self._stands_for[row] == _LATEST:
                one_sided = _HIGHEST if threshold.side == "above" else _LOWEST
                self._stands_for[row] = _LARGEST if threshold.absolute else one_sided

    def describe(self, row: int) -> Mapping[str, Any]:
        """What is known of the sensor as of its latest reading."""
        return self._describe(self.series[row].sensor_id, int(self._flags[row]))

    def stale(self, rows: Rows) -> Bools:
        """Tell which of these rows have had no reading for a while."""
        stale: Bools = self._now - self.heard[rows] > _STALE
        return stale

    def over(self, rows: Rows, values: Values) -> Bools:
        """Tell which of `values` are over a threshold: one value, or a line of them, for each of these rows."""
        over = np.zeros(values.shape, np.bool_)
        for threshold, judged in zip(self.thresholds, self._judged, strict=True):
            its = judged[rows]
            if its.any():
                over[its] |= threshold.over(values[its])
        return over

    def worst(self, rows: Rows) -> Rows:
        """Return the row of each line of a table of rows whose value is the worst by its threshold; one column."""
        values, stands_for = self.latest[rows], self._stands_for[rows]
        badness = np.where(stands_for == _LOWEST, -values, np.where(stands_for == _LARGEST, np.abs(values), values))
        worst = np.where(np.isnan(badness), -np.inf, badness).argmax(axis=1)
        return np.take_along_axis(rows, worst[:, np.newaxis], axis=1)

    def scale(self, channel: Channel, rows: Rows) -> Scale:
        """The scale for the values of these rows, all of one channel."""
        return scale_of(channel, self.thresholds, [*self.low[rows].tolist(), *self.high[rows].tolist()])
