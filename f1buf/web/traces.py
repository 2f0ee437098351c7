"""What the live page knows of each series: its latest reading, and its course in buckets of a tenth of a second.

A bucket has the lowest and the highest of its readings, in the readings' own time, so no peak is missed however many
readings there are. Each series has a ring of buckets; how many depends on how many series there are, so the memory is
bounded. `revision` counts the batches: what a page lacks is what has changed since the revision that it has.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.ma  # np.unique asks for it at its first call, which would take 40 ms of a run
from numpy.typing import NDArray

from f1buf.telemetry.channels import Channel, channel_by_number

__all__ = ["MOST_SERIES", "PER_SECOND", "Course", "Series", "Traces"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PER_SECOND = 10  # buckets
MOST_SERIES = 4096
_FIRST_ROWS = 64  # room that there is at first; it is doubled as series come
_DEEPEST, _SHALLOWEST = 3000, 600  # buckets of each series: five minutes, and one where there are very many series
_CELLS = 1_500_000  # buckets in all, of 28 bytes, as long as each series has the fewest at least
_LATE = PER_SECOND  # a reading that is earlier than the series' newest by more begins anew: the session was rewound
_NONE = -(2**60)  # the number of a bucket that is empty
_FURTHEST = 2**52  # the highest number of a bucket: 14 million years
_OVER = 60.0  # [s] without a reading of the whole session, while others came


class Series(NamedTuple):
    """One sensor on one channel; `about` is what is known of it, as of its latest reading, see `Source.describe`."""

    sensor_id: int
    channel: Channel
    about: Mapping[str, Any]

    @property
    def session(self) -> int | None:
        """The game's number of its session, where the source knows sessions."""
        return self.about.get("session")


class Course(NamedTuple):
    """Buckets of one series, in the order of their numbers: bucket n has the readings from n/10 s on."""

    numbers: Ints
    low: Floats
    high: Floats


class Traces:
    """
    The latest reading and the course of each series; for one thread.

    A session is over when nothing has come of it for a minute while other readings came. Its series are forgotten.
    Where a series' time goes back by more than a second, a flashback of the game or a recording that is played again,
    what was later is forgotten. Values that are not finite are in no course; they may be the latest.

    Parameters
    ----------
    describe : callable
        Returns what is known of a sensor, from its number and a reading's flags, see `F1TelemetrySystem.start`.

    Attributes
    ----------
    series : dict of int to Series
        By row. A row may be another series' after the first one was forgotten.
    latest, heard : ndarray of float64
        By row: the latest value [its unit], and when it came [s], on the clock of `take`.
    told, changed : ndarray of int64
        By row: at which revision what is known of the series was new, and the latest value.
    clocks : dict
        By session the number of the bucket of its newest reading.
    gone : dict of int to int
        Rows that are free again, and since which revision.
    depth : int
        How many buckets of a series are kept.
    left_out : int
        Readings of more series than it follows, or of channels that nobody knows.
    """

    def __init__(self, describe: Callable[[int, int], Mapping[str, Any]] = lambda sensor_id, flags: {}) -> None:
        self.revision = 0
        self.series: dict[int, Series] = {}
        self.clocks: dict[int | None, int] = {}
        self.gone: dict[int, int] = {}
        self.left_out = 0
        self._describe = describe
        self._rows: dict[int, int] = {}  # by sensor and channel
        self._sessions: dict[int | None, int] = {}  # their places in what `_session_of` has
        self._now = 0.0
        self.latest, self.heard = np.zeros(0), np.zeros(0)
        self.told, self.changed, self._head, self._began = (np.zeros(0, np.int64) for _ in range(4))
        self._flags, self._described_flags, self._session_of = (np.zeros(0, np.int64) for _ in range(3))
        self._numbers, self._revisions = np.zeros((0, _DEEPEST), np.int64), np.zeros((0, _DEEPEST), np.int32)
        self._low, self._high = (np.zeros((0, _DEEPEST)) for _ in range(2))
        self._grow(_FIRST_ROWS)

    @property
    def depth(self) -> int:
        """How many buckets of a series are kept."""
        return self._numbers.shape[1]

    # -- taking in ----------------------------------------------------------------------------------------------------

    def take(self, readings: NDArray[Any], now: float) -> None:
        """Take in an array of READING in the stream's order; `now` is seconds on any clock."""
        self.revision += 1
        self._now = now
        if not len(readings):
            return
        keys = readings["sensor_id"].astype(np.int64) << 16 | readings["channel"]
        order = keys.argsort(kind="stable")  # by series, and each one's in their order
        keys, sorted_readings = keys[order], readings.take(order)  # 13 times as fast as indexing, with records
        last = np.append(keys[1:] != keys[:-1], True).nonzero()[0]
        counts = np.diff(last, prepend=-1)
        newest = sorted_readings[last]
        rows = self._rows_of(keys[last].tolist(), newest["flags"].tolist())
        known = rows >= 0
        self.left_out += int(counts[~known].sum())
        its = rows[known]
        self.latest[its], self._flags[its] = newest["value"][known], newest["flags"][known]
        self.heard[its], self.changed[its] = now, self.revision
        self._take_courses(np.repeat(rows, counts), sorted_readings["timestamp"], sorted_readings["value"])
        self._advance_clocks(its)

    def _take_courses(self, rows: Ints, times: Floats, values: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            numbers = np.floor(times * PER_SECOND)
            usable = (rows >= 0) & np.isfinite(values) & (np.abs(numbers) < _FURTHEST)
        rows, values, buckets = rows[usable], values[usable], numbers[usable].astype(np.int64)
        if not len(rows):
            return
        first = np.append(True, rows[1:] != rows[:-1])
        before = np.where(first, self._head[rows], np.append(0, buckets[:-1]))
        back = np.unique(rows[buckets < before])
        for row in back.tolist():  # rare: time has gone back
            its = rows == row
            self._take_one_by_one(row, buckets[its].tolist(), values[its].tolist())
        if len(back):
            forward = ~np.isin(rows, back)
            rows, values, buckets = rows[forward], values[forward], buckets[forward]
            if not len(rows):
                return
        start = np.append(True, (rows[1:] != rows[:-1]) | (buckets[1:] != buckets[:-1])).nonzero()[0]
        low, high = np.minimum.reduceat(values, start), np.maximum.reduceat(values, start)
        rows, buckets = rows[start], buckets[start]
        cells = rows, buckets % self.depth
        goes_on = self._numbers[cells] == buckets
        self._low[cells] = np.where(goes_on, np.minimum(self._low[cells], low), low)
        self._high[cells] = np.where(goes_on, np.maximum(self._high[cells], high), high)
        self._numbers[cells] = buckets
        self._revisions[cells] = self.revision
        self._head[rows] = buckets  # the last one of each row counts

    def _take_one_by_one(self, row: int, buckets: list[int], values: list[float]) -> None:
        numbers = self._numbers[row]
        for bucket, value in zip(buckets, values, strict=True):
            if bucket < self._head[row] - _LATE:
                numbers[numbers > bucket] = _NONE
                self._head[row], self._began[row] = bucket, self.revision
            self._head[row] = max(int(self._head[row]), bucket)
            cell = row, bucket % self.depth
            goes_on = numbers[cell[1]] == bucket
            self._low[cell] = min(self._low[cell], value) if goes_on else value
            self._high[cell] = max(self._high[cell], value) if goes_on else value
            self._numbers[cell], self._revisions[cell] = bucket, self.revision

    def _advance_clocks(self, rows: Ints) -> None:
        """Set each session's clock to its newest reading of this batch: where it was rewound it goes back."""
        rows = rows[self._head[rows] != _NONE]
        places = self._session_of[rows]
        for session, place in self._sessions.items():
            its = rows[places == place]
            if len(its):
                self.clocks[session] = int(self._head[its].max())

    # -- series that come and go --------------------------------------------------------------------------------------

    def _rows_of(self, keys: list[int], flags: list[int]) -> Ints:
        for key, its_flags in zip(keys, flags, strict=True):
            if key not in self._rows:
                self._follow(key, its_flags)
        return np.array([self._rows.get(key, -1) for key in keys], np.int64)

    def _follow(self, key: int, flags: int) -> None:
        if len(self.series) == MOST_SERIES:
            return
        try:
            channel = channel_by_number(key & 0xFFFF)
        except KeyError:
            return
        if self.gone:
            row = next(iter(self.gone))
            del self.gone[row]
        else:
            row = len(self.series)
            if row == len(self.latest):
                self._grow(2 * row)
        described = dict(self._describe(key >> 16, flags))
        self.series[row] = Series(key >> 16, channel, described)
        self._rows[key] = row
        self._described_flags[row] = flags
        self.told[row] = self._began[row] = self.revision
        self._session_of[row] = self._sessions.setdefault(described.get("session"), len(self._sessions))

    def _grow(self, rows: int) -> None:
        """Make room for so many series; where they are many, each has fewer buckets from then on."""
        before, depth = len(self.latest), min(_DEEPEST, max(_SHALLOWEST, _CELLS // rows))
        one_each = ["latest", "heard", "told", "changed", "_flags", "_described_flags", "_session_of", "_began"]
        for name in one_each:
            setattr(self, name, np.append(getattr(self, name), np.zeros(rows - before, getattr(self, name).dtype)))
        numbers = self._numbers
        others: tuple[NDArray[Any], ...] = self._low, self._high, self._revisions
        oldest = self._head - depth
        self._numbers = np.full((rows, depth), _NONE)
        self._low, self._high = np.zeros((rows, depth)), np.zeros((rows, depth))
        self._revisions = np.zeros((rows, depth), np.int32)
        kept = (numbers != _NONE) & (numbers > oldest[:, np.newaxis])
        places = kept.nonzero()[0], numbers[kept] % depth
        self._numbers[places] = numbers[kept]
        arrays: tuple[NDArray[Any], ...] = self._low, self._high, self._revisions
        for to, its in zip(arrays, others, strict=True):
            to[places] = its[kept]
        self._head = np.append(self._head, np.full(rows - before, _NONE))

    def refresh(self) -> None:
        """Ask anew what is known of sensors where a reading has said that it has changed; forget what is over."""
        for row in (self._flags != self._described_flags).nonzero()[0].tolist():
            self._described_flags[row] = self._flags[row]
            if row in self.series:
                series = self.series[row]
                about = dict(self._describe(series.sensor_id, int(self._flags[row])))
                if about != series.about:
                    self.series[row], self.told[row] = series._replace(about=about), self.revision
        self._forget_what_is_over()

    def _forget_what_is_over(self) -> None:
        if len(self._sessions) < 2:
            return
        for session, place in list(self._sessions.items()):
            its = [row for row in self.series if self._session_of[row] == place]
            if self._now - self.heard[its].max(initial=-np.inf) > _OVER:
                self._forget(its)
                self.clocks.pop(session, None)
                del self._sessions[session]
        places = {place: new for new, place in enumerate(self._sessions.values())}
        self._sessions = {session: places[place] for session, place in self._sessions.items()}
        for row in self.series:
            self._session_of[row] = places[int(self._session_of[row])]

    def _forget(self, rows: list[int]) -> None:
        forgotten = set(rows)
        self._rows = {key: row for key, row in self._rows.items() if row not in forgotten}
        for row in rows:
            del self.series[row]
            self.gone[row] = self.revision
        self._numbers[rows] = self._head[rows] = _NONE
        self._described_flags[rows] = self._flags[rows]

    # -- what pages ask for -------------------------------------------------------------------------------------------

    def course(self, row: int, start: int, stop: int) -> Course:
        """Return the buckets of a series from number `start` on, before `stop`."""
        numbers = self._numbers[row]
        return self._course(row, (numbers >= start) & (numbers < stop) & (numbers != _NONE))

    def news(self, row: int, since: int) -> Course | None:
        """Return the buckets of a series that have changed after a revision; None where it has begun anew."""
        if self._began[row] > since:
            return None
        return self._course(row, (self._revisions[row] > since) & (self._numbers[row] != _NONE))

    def _course(self, row: int, cells: NDArray[np.bool_]) -> Course:
        places = cells.nonzero()[0]
        places = places[self._numbers[row, places].argsort()]
        return Course(self._numbers[row, places], self._low[row, places], self._high[row, places])
