"""Checking one batch: `ThresholdTable.check` compares it with all thresholds, and `Crossings` is what it found.

How the work is divided
    `ThresholdTable.check` looks at one batch and keeps nothing, so any number of threads may call it on the batches of
    one stream at the same time. `Tracker.merge` takes the results one at a time, in stream order. It alone knows which
    sensors were over when the batch before ended, without which a rise cannot be told from a mere sample. So that this
    serial part is short, it touches only sensors that cross a threshold in the batch or were over before it. The result
    is the same however the stream was cut into batches.

    Damping is divided likewise. A reading that can keep a series over is *held*: beyond the limit, or not yet back by
    the hysteresis. Being over lasts no longer than a run of held readings, so what came before the batch matters only
    for a run that starts with the series' first reading in it. `check` settles all other runs. Of that one it tells
    where it starts and stops, and what it comes to if the series was not over before.

What check costs
    Readings of one sensor mostly come in runs, as many as the sensor put at once. Where a batch consists of a few long
    runs, each series is compared with its channel's thresholds as it stands: two passes over the batch. Otherwise a
    screen over the whole batch decides most batches: it compares each reading with the lowest and highest limit of its
    channel. Only where something is beyond these is there more to do: the readings of the sensors concerned are sorted
    by series, and each threshold is looked at by itself.

    numpy lets go of the GIL in nearly every operation on more than 500 elements. Where other threads want the GIL,
    getting it back costs more than the operation (30 us against 3). So the number of such operations counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import MAX_CHANNELS, Channel, known_channels
from f1buf.telemetry.errors import ThresholdError
from f1buf.telemetry.thresholds.model import Bools, Floats, Threshold
from f1buf.telemetry.thresholds.stretches import Ints, first_from, long_enough, ranges, runs_of

__all__ = ["Crossings", "DampedFound", "Found", "Rule", "Run", "ThresholdTable"]

Readings = NDArray[np.void]

_CHANNEL_NUMBERS = MAX_CHANNELS + 1
_SORT_ALL = 512  # readings: sorting a batch of up to this many costs less than first picking out some sensors' readings
LONG_RUN = 192
"""Readings in a run, on average, from which on looking at each series by itself costs less."""
_KEY, _KEY_AT = np.dtype(np.uint64), 8  # READING's sensor_id, channel and flags as one number, and its offset
_HASH_BITS = 12  # 4,096 flags: many more than sensors that cross at once, and few enough for the first-level cache
_HASH_FACTOR = np.uint32(2_654_435_769)  # 2**32 / golden ratio, odd: spreads ids however they are numbered (Knuth)
_SENSOR_BITS = 32  # READING.sensor_id; a series' key is its channel's number above its sensor's


class Rule(NamedTuple):
    """A threshold applied to one channel: there are several where several channels have its name."""

    number: int  # its index in the table's rules
    threshold_index: int  # in the table
    threshold: Threshold
    channel: int  # the channel's number
    damped: bool


class Found(NamedTuple):
    """What one batch says about one rule.

    Of the batch's series of the rule's channel, those that have a sample were looked at, and perhaps others.
    """

    looked_at: int  # how many readings
    samples: Ints  # positions in the batch of the readings that are over, series by series
    rises: Ints  # positions where a series went from not over to over within the batch
    opened: dict[int, int]  # sensor -> position of its first reading, where that is over: a rise if it was not before
    lasting: dict[int, float | None]  # the sensors whose last reading is over
    ended: set[int]  # the other sensors that were looked at


class Run(NamedTuple):
    """Held readings in a row, of one series in one batch: indices in the `positions` of a `DampedFound`."""

    start: int
    rise: int  # the first that counts, if nothing was over before; `stop` if none does
    stop: int
    last: bool  # whether it goes on to the series' last reading in the batch


class DampedFound(NamedTuple):
    """What one batch says about one damped rule; all series that have a held reading were looked at."""

    looked_at: int
    positions: Ints  # in the batch, of the readings looked at, series by series
    over: bool  # whether one is beyond the limit
    samples: Ints  # positions in the batch of readings that count, whatever was before
    rises: Ints  # and of the first of each stretch of them
    opened: dict[int, Run]  # sensor -> the run that its first reading is in
    lasting: dict[int, float | None]  # sensors over after the batch if none was before, as in `Tracker`
    ended: set[int]  # the other sensors that were looked at


@dataclass(slots=True, eq=False)  # not frozen: that alone would take a tenth of the time that a small batch does
class Crossings:
    """What `ThresholdTable.check` found in one batch, for `Tracker.merge`.

    True if any reading is beyond a limit, or not yet back from it by the hysteresis.

    It refers to the batch, which must stay as it is until it has been merged.
    """

    readings: Readings
    seen: Ints
    """For each of the table's rules, how many readings its channel has."""
    found: dict[int, Found | DampedFound]
    """By the number of the rule; only of rules that have samples, or held readings where they are damped."""

    def __bool__(self) -> bool:
        return bool(self.found)


class ThresholdTable:
    """Thresholds made ready to check batches.

    Parameters
    ----------
    thresholds : iterable of Threshold
        Any number for a channel.
    channels : iterable of Channel, optional
        Where to look for the thresholds' channels; all that this process knows by now, if it is not given. A channel
        that is created later is not checked.

    Attributes
    ----------
    thresholds : tuple of Threshold
        In the order in which they were given.
    rules : tuple of Rule
        Each threshold with each channel that it applies to.

    Raises
    ------
    ThresholdError
        A threshold names a channel that is not there.

    Notes
    -----
    Takes 1 MB: two limits for each of the 65,536 channel numbers, so that no reading needs a test of bounds.
    """

    def __init__(self, thresholds: Iterable[Threshold], channels: Iterable[Channel] | None = None) -> None:
        self.thresholds = tuple(thresholds)
        known = known_channels() if channels is None else tuple(channels)
        found = [
            (i, threshold, channel, bool(threshold.damping))
            for i, threshold in enumerate(self.thresholds)
            for channel in _numbers_of(threshold.channel, known, f"threshold[{i}].channel")
        ]
        self.rules = tuple(Rule(number, *each) for number, each in enumerate(found))
        self._channels: Ints = np.array([rule.channel for rule in self.rules], np.intp)
        self._span = max((rule.channel for rule in self.rules), default=0) + 1
        self._rules_of: dict[int, list[Rule]] = {}  # by channel
        # Within its channel's limits a reading is neither over any threshold nor held; NaN compares as within.
        self._low = np.full(_CHANNEL_NUMBERS, -np.inf)
        self._high = np.full(_CHANNEL_NUMBERS, np.inf)
        for rule in self.rules:
            self._rules_of.setdefault(rule.channel, []).append(rule)
            self._narrow(rule.threshold, rule.channel)
        self._has_low = bool((self._low > -np.inf).any())

    def _narrow(self, threshold: Threshold, channel: int) -> None:
        if threshold.side == "below":  # where it is absolute, more readings than necessary are looked at
            self._low[channel] = max(self._low[channel], threshold.release)
            return
        self._high[channel] = min(self._high[channel], threshold.release)
        if threshold.absolute:
            self._low[channel] = max(self._low[channel], -threshold.release)

    def check(self, readings: Readings) -> Crossings:
        """Compare a batch with all thresholds.

        Keeps nothing, so threads may call it at the same time.

        Parameters
        ----------
        readings : ndarray of READING, shape (n,)
            A batch of a stream, in the stream's order. Not changed; the result refers to it.

        Returns
        -------
        Crossings
            For `Tracker.merge`.

        Raises
        ------
        TypeError
            It is no one-dimensional array of READING.
        """
        if not isinstance(readings, np.ndarray) or readings.ndim != 1 or readings.dtype != READING:
            got = f"{readings.shape} {readings.dtype}" if isinstance(readings, np.ndarray) else type(readings).__name__
            raise TypeError(f"expected a one-dimensional array of f1buf.READING, got {got}")
        if not len(readings):
            return Crossings(readings, np.zeros(len(self.rules), np.intp), {})
        starts = _long_runs(readings)
        return self._check_all(readings) if starts is None else self._check_runs(readings, starts)

    def _check_runs(self, readings: Readings, starts: list[int]) -> Crossings:
        """Check a batch of a few long runs, series by series."""
        seen = np.zeros(len(self.rules), np.intp)
        found: dict[int, Found | DampedFound] = {}
        for channel, series in _series_of_runs(readings, starts).items():
            count = sum([len(each.values) for each in series])
            for rule in self._rules_of.get(channel, ()):
                seen[rule.number] = count
                if not rule.damped:
                    if (crossing := _found_in_series(rule.threshold, series, count)) is not None:
                        found[rule.number] = crossing
                elif any(_any(rule.threshold.held(each.values)) for each in series):
                    found[rule.number] = _found_damped(rule.threshold, _sorted(series), readings["timestamp"])
        return Crossings(readings, seen, found)

    def _check_all(self, readings: Readings) -> Crossings:
        """Check a batch of any readings."""
        numbers = readings["channel"]
        only = _only_one(numbers)
        # One channel has one pair of limits; else there is a pair for each reading.
        channels: Any = numbers.astype(np.intp) if only is None else only
        values = readings["value"].copy()  # contiguous: comparing then takes a third of the time
        over: Bools = values > self._high[channels]
        if self._has_low:
            over |= values < self._low[channels]
        seen: Ints
        if only is None:
            seen = np.bincount(channels, minlength=self._span)[self._channels]
        else:
            seen = (self._channels == only) * len(readings)
        return Crossings(readings, seen, self._look_closer(readings, values, over) if np.count_nonzero(over) else {})

    def _look_closer(self, readings: Readings, values: Floats, over: Bools) -> dict[int, Found | DampedFound]:
        """Sort by series the readings of all sensors that are `over` some limit, and look at each rule in turn."""
        numbers, sensors = readings["channel"], readings["sensor_id"]
        crossed = np.bincount(numbers[over]).nonzero()[0].tolist()
        chosen = None
        if len(readings) > _SORT_ALL:
            chosen = _of_same_sensors(sensors, over)
            numbers, sensors = numbers[chosen], sensors[chosen]
        series = numbers.astype(np.int64) << _SENSOR_BITS
        series |= sensors
        order = series.argsort(kind="stable")  # stable: within a series the batch's order stays
        series, sensors = series[order], sensors[order]
        positions = order if chosen is None else chosen[order]
        values = values[positions]
        first = np.empty(len(series), np.bool_)
        first[0] = True
        np.not_equal(series[1:], series[:-1], out=first[1:])
        found: dict[int, Found | DampedFound] = {}
        for channel in crossed:
            start = series.searchsorted(channel << _SENSOR_BITS)
            stop = series.searchsorted((channel + 1) << _SENSOR_BITS)
            part = _Sorted(values[start:stop], positions[start:stop], sensors[start:stop], first[start:stop])
            for rule in self._rules_of[channel]:
                beyond = rule.threshold.held(part.values) if rule.damped else rule.threshold.over(part.values)
                if np.count_nonzero(beyond):
                    found[rule.number] = (
                        _found_damped(rule.threshold, part, readings["timestamp"])
                        if rule.damped
                        else _found_in_sorted(beyond, part)
                    )
        return found


def _numbers_of(name: str, channels: tuple[Channel, ...], key: str) -> list[int]:
    # Once each: the caller's list may hold equal channels.
    numbers = sorted({channel.number for channel in channels if channel.name == name})
    if not numbers:
        names = ", ".join(sorted({channel.name for channel in channels})) or "none"
        raise ThresholdError(f"{name!r}: no such channel; the known ones are {names}", key)
    return numbers


def _only_one(column: NDArray[Any]) -> int | None:
    """Return the one number that a column consists of, or None if there are several."""
    number: int = column.item(0)
    # Comparing bytes takes a third of (column == number).all().
    same = number == column.item(-1) and column.tobytes() == column[:1].tobytes() * len(column)
    return number if same else None


def _any(flags: Bools) -> bool:
    """Return whether one is true, as `flags.any()` does, which would let go of the GIL."""
    return b"\1" in flags.tobytes()


# --- a batch of long runs ------------------------------------------------------------------------------------------


def _long_runs(readings: Readings) -> list[int] | None:
    """Return where each run of readings of one sensor starts; None if they are short."""
    keys = readings.getfield(_KEY, _KEY_AT)
    changes = keys[1:] != keys[:-1]
    if not _any(changes):
        return [0]
    if np.count_nonzero(changes) * LONG_RUN > len(readings):
        return None
    return [0, *(changes.nonzero()[0] + 1).tolist()]


class _Series(NamedTuple):
    """The readings of one sensor on one channel in a batch that consists of long runs."""

    sensor: int
    values: Floats
    runs: list[slice]  # where they are in the batch

    def positions(self, indices: Ints) -> Ints:
        """Return where in the batch some of the values are."""
        shifts: Any = self.runs[0].start
        if len(self.runs) > 1:
            ends = np.cumsum([run.stop - run.start for run in self.runs])
            shifts = (np.array([run.stop for run in self.runs]) - ends)[ends.searchsorted(indices, side="right")]
        positions: Ints = indices + shifts
        return positions


def _series_of_runs(readings: Readings, starts: list[int]) -> dict[int, list[_Series]]:
    """Sort a batch of long runs: by channel, the series."""
    channels, sensors, values = readings["channel"], readings["sensor_id"], readings["value"]
    if len(starts) == 1:  # a small batch of one sensor, where what follows would be a tenth of the check
        return {channels.item(0): [_Series(sensors.item(0), values, [slice(0, len(readings))])]}
    runs: dict[tuple[int, int], list[slice]] = {}
    for start, stop in pairwise([*starts, len(readings)]):
        runs.setdefault((channels.item(start), sensors.item(start)), []).append(slice(start, stop))
    series: dict[int, list[_Series]] = {}
    for (channel, sensor), its in runs.items():
        its_values = values[its[0]] if len(its) == 1 else np.concatenate([values[run] for run in its])
        series.setdefault(channel, []).append(_Series(sensor, its_values, its))
    return series


def _found_in_series(threshold: Threshold, all_series: list[_Series], count: int) -> Found | None:
    """Look at one channel's series, which have `count` readings in all; None if none is over."""
    samples, rises = [], []
    opened: dict[int, int] = {}
    lasting: dict[int, float | None] = {}
    for series in all_series:
        over = threshold.over(series.values)
        if not _any(over):
            continue
        indices = over.nonzero()[0]
        positions = series.positions(indices)
        samples.append(positions)
        if indices[0] == 0:
            opened[series.sensor] = int(positions[0])
        else:
            rises.append(positions[:1])
        rises.append(positions[1:][indices[1:] - indices[:-1] > 1])
        if indices[-1] == len(over) - 1:
            lasting[series.sensor] = None
    if not samples:
        return None
    ended = {series.sensor for series in all_series} - lasting.keys()
    return Found(count, np.concatenate(samples), np.concatenate(rises), opened, lasting, ended)


# --- a batch sorted by series --------------------------------------------------------------------------------------


class _Sorted(NamedTuple):
    """Readings of one channel in a batch, series by series, each in the stream's order."""

    values: Floats
    positions: Ints  # in the batch
    sensors: NDArray[np.uint32]
    first: Bools  # marks where each series starts


def _sorted(all_series: list[_Series]) -> _Sorted:
    lengths = [len(each.values) for each in all_series]
    first = np.zeros(sum(lengths), np.bool_)
    first[np.cumsum([0, *lengths[:-1]])] = True
    return _Sorted(
        np.concatenate([each.values for each in all_series]),
        np.concatenate([each.positions(np.arange(len(each.values))) for each in all_series]),
        np.repeat(np.array([each.sensor for each in all_series], np.uint32), lengths),
        first,
    )


def _of_same_sensors(sensors: NDArray[np.uint32], over: Bools) -> Ints:
    """Return the positions of all readings of the sensors that have one `over`; of a few other sensors too."""
    hashed = (sensors * _HASH_FACTOR) >> np.uint32(_SENSOR_BITS - _HASH_BITS)
    wanted = np.zeros(1 << _HASH_BITS, np.bool_)
    wanted[hashed[over]] = True
    positions: Ints = wanted[hashed].nonzero()[0]
    return positions


def _found_in_sorted(over: Bools, series: _Sorted) -> Found:
    positions, first = series.positions, series.first
    rising = (over[1:] > over[:-1]) > first[1:]  # of bools: the greater one is true, the other is not
    starts = first.nonzero()[0]
    names = series.sensors[starts].tolist()
    opening = compress(zip(names, positions[starts].tolist(), strict=True), over[starts].tolist())
    closing = over[starts - 1].tolist()  # each series ends before the next one starts, and the last at -1
    closing.append(closing.pop(0))
    lasting: dict[int, float | None] = dict.fromkeys(compress(names, closing))
    ended = set(names).difference(lasting)
    return Found(len(over), positions[over], positions[1:][rising], dict(opening), lasting, ended)


def _found_damped(threshold: Threshold, series: _Sorted, timestamps: Floats) -> DampedFound:
    """Look at a damped rule's series, of which some have held readings; `timestamps` are those of the whole batch."""
    starts, stops = runs_of(threshold.held(series.values), series.first)
    begins = np.minimum(first_from(starts, threshold.over(series.values)), stops)
    begun = begins < stops
    rises, lowest = begins, np.full(len(starts), np.nan)
    if threshold.min_duration > 0:
        lengths = (stops - begins)[begun]
        times = timestamps[series.positions[ranges(begins[begun], stops[begun])]]
        rises = begins.copy()
        after, lowest[begun] = long_enough(threshold.min_duration, times, lengths, np.nan)
        rises[begun] += after
    counting = rises < stops
    opening = series.first[starts]
    last = np.append(series.first, True)[stops]
    settled = counting & ~opening
    names = series.sensors[starts]
    runs = zip(*(each[opening].tolist() for each in (starts, rises, stops, last)), strict=True)
    over = last & begun
    at_end = zip(lowest[over].tolist(), counting[over].tolist(), strict=True)
    lasting = dict(zip(names[over].tolist(), [None if done else low for low, done in at_end], strict=True))
    return DampedFound(
        looked_at=len(series.values),
        positions=series.positions,
        over=bool(np.count_nonzero(begun)),
        samples=series.positions[ranges(rises[settled], stops[settled])],
        rises=series.positions[rises[settled]],
        opened=dict(zip(names[opening].tolist(), map(Run._make, runs), strict=True)),
        lasting=lasting,
        ended=set(series.sensors[series.first].tolist()).difference(lasting),
    )
