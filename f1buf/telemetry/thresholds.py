"""Thresholds: what counts as too much or too little, and finding it in a stream of readings.

Words
    A reading is *over* a threshold if it is beyond it: above an ``above``, below a ``below``. NaN is never over. Each
    reading that is over is a *sample*; a *rise* is a change from not over to over in one sensor's own series, where a
    first reading that is over counts as one. A series is the readings of one sensor on one channel.

Damping
    A threshold with a hysteresis or a minimum duration is *damped*, and being over is then a series' state. It begins
    with a reading beyond the limit, and ends with one that is back by the hysteresis or more, or NaN: so all readings
    from the one to before the other are a *stretch* of being over. With a minimum duration only those count (are
    samples, the first of them a rise) that come once the stretch has lasted so long: from the first whose timestamp is
    that much above the lowest one of the stretch so far, which is its first reading's unless time went back in between
    (a new session, a flashback). Time is the readings' own, compared without a tolerance; a timestamp that is NaN tells
    nothing of it.

How the work is divided
    `ThresholdTable.check` looks at one batch and keeps nothing, so any number of threads may call it on the batches of
    one stream at the same time. `Tracker.merge` takes the results one at a time, in stream order; it alone knows which
    sensors were over when the batch before ended, which is what telling a rise from mere samples takes. So that this
    serial part is short, it touches only sensors that cross a threshold in the batch or were over before it, and the
    result is the same however the stream was cut into batches.

    Damping is divided likewise. A reading that can keep a series over is *held*: beyond the limit, or not yet back by
    the hysteresis. Being over lasts no longer than a run of held readings, so what came before the batch matters only
    for a run that starts with the series' first reading in it. `check` settles all others; of that one it tells where
    it starts and stops, and what it comes to if the series was not over before.

What check costs
    Readings of one sensor mostly come in runs, as many as it put at once. Where a batch consists of a few long runs,
    each series is compared with its channel's thresholds as it stands: two passes over the batch. Otherwise a screen
    over the whole batch decides most batches: each reading against the lowest and highest limit of its channel. Only
    where something is beyond these is there more to do: the readings of the sensors concerned are sorted by series, and
    each threshold is looked at by itself.

    numpy lets go of the GIL in nearly every operation on more than 500 elements, and where other threads want it,
    getting it back costs more than the operation (30 us against 3). So the number of such operations counts.

Threshold files are TOML, one ``[[threshold]]`` table for each; `dumps` writes one to start from.
"""

import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import compress, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import MAX_CHANNELS, Channel, known_channels

__all__ = [
    "PROFILES",
    "Crossings",
    "Event",
    "Threshold",
    "ThresholdError",
    "ThresholdTable",
    "Tracker",
    "dumps",
    "load_thresholds",
    "loads",
]

Readings = NDArray[np.void]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


# --- one threshold -------------------------------------------------------------------------------------------------


class ThresholdError(ValueError):
    """A threshold that makes no sense, or a file of them that cannot be used.

    Attributes
    ----------
    problem : str
        What is wrong and what was expected.
    key : str
        Where: ``"above"``, or in a file ``"threshold[2].above"``, counted from 0; empty for the whole.
    source : str
        The file; empty where there is none.
    """

    def __init__(self, problem: str, key: str = "", source: str = "") -> None:
        super().__init__(": ".join(filter(None, (source, key, problem))))
        self.problem = problem
        self.key = key
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.key, self.source)


@dataclass(frozen=True)
class Threshold:
    """A limit for the readings of a channel, and what to say when it is crossed.

    Parameters
    ----------
    channel : str
        The channel's name. The threshold applies to every channel of that name, whatever its unit.
    above, below : float
        The limit, in the channel's unit; exactly one of them, finite. A reading equal to it is not over.
    message : str
        For people.
    absolute : bool
        Compare the absolute value of a reading: for quantities with a direction, such as one axis of acceleration.
    hysteresis : float
        How far back within the limit a reading must be to end being over, in the channel's unit, 0 or more: with
        ``above=110, hysteresis=5`` a series is over from a reading above 110 until one of 105 or less, or NaN. With 0
        any reading that is not beyond the limit ends it. Keeps values that hover about the limit from crossing it again
        and again.
    min_duration : float
        How long a series must be over before it counts, in seconds of the readings' timestamps, 0 or more: the first
        reading that is this much later than the lowest timestamp since it is over is the rise, and it and those after
        it are samples. With 0 they count from the first one on. Keeps short peaks from counting.

    Raises
    ------
    ThresholdError
        One of the above does not hold.
    """

    channel: str
    _: KW_ONLY
    above: float | None = None
    below: float | None = None
    message: str
    absolute: bool = False
    hysteresis: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        _require_text("channel", self.channel)
        _require_text("message", self.message)
        if self.above is None and self.below is None:
            raise ThresholdError("missing: expected above or below, the limit", "above")
        if self.above is not None and self.below is not None:
            raise ThresholdError("above is given too: expected one of them; write two thresholds for a band", "below")
        limit = _finite(self.side, getattr(self, self.side))
        object.__setattr__(self, self.side, limit)
        if not isinstance(self.absolute, bool):
            raise ThresholdError(f"{self.absolute!r}: expected true or false", "absolute")
        if self.absolute and limit < 0:
            raise ThresholdError(f"{limit:g}: an absolute value is never below 0: expected 0 or more", self.side)
        for key in ("hysteresis", "min_duration"):
            object.__setattr__(self, key, _not_negative(key, getattr(self, key)))
        if not math.isfinite(self.release) or (self.absolute and self.release < 0):
            raise ThresholdError(
                f"{self.hysteresis:g}: no value is back by that much from {limit:g}: expected less", "hysteresis"
            )

    @property
    def side(self) -> Literal["above", "below"]:
        """Which of the two limits it has."""
        return "above" if self.above is not None else "below"

    @property
    def limit(self) -> float:
        """The limit, in the channel's unit."""
        limit = self.above if self.above is not None else self.below
        assert limit is not None
        return limit

    @property
    def release(self) -> float:
        """The value that ends being over: the limit, less the hysteresis, or plus it for a ``below``; in its unit."""
        return self.limit - self.hysteresis if self.above is not None else self.limit + self.hysteresis

    @property
    def damping(self) -> dict[str, float]:
        """``hysteresis`` and ``min_duration``, where they are not 0; a new dict."""
        each = {"hysteresis": self.hysteresis, "min_duration": self.min_duration}
        return {key: value for key, value in each.items() if value}

    def over(self, values: Floats) -> Bools:
        """Tell which values are beyond the limit; a new array of bool of the same shape."""
        if self.absolute:
            values = np.abs(values)
        return values > self.limit if self.above is not None else values < self.limit

    def held(self, values: Floats) -> Bools:
        """Tell which values keep a series over that is so already; a new array of bool of the same shape."""
        if self.absolute:
            values = np.abs(values)
        return values > self.release if self.above is not None else values < self.release


def _require_text(key: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ThresholdError(f"{value!r}: expected a text that is not empty", key)


def _finite(key: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ThresholdError(f"{value!r}: expected a finite number", key)
    return number


def _not_negative(key: str, value: Any) -> float:
    number = _finite(key, value)
    if number < 0:
        raise ThresholdError(f"{value!r}: expected 0 or more", key)
    return number


# --- profiles and files --------------------------------------------------------------------------------------------

PROFILES: Mapping[str, tuple[Threshold, ...]] = MappingProxyType(
    {
        # A racing car in general; the simulated sensors are made for these.
        "default": (
            Threshold("ENGINE_TEMP", above=110.0, message="High engine temperature"),
            Threshold("TIRE_PRESSURE", below=1.9, message="Low tire pressure"),
            Threshold("SPEED", above=340.0, message="Approaching top speed"),
            Threshold("G_FORCE", above=5.5, message="Extreme G-Force detected"),
            Threshold("FUEL_LEVEL", below=15.0, message="Low fuel warning"),
        ),
        # The cars of the F1 game, judged by a recorded race of 22 cars: 21 s, 82 s after the start of its session.
        "f1game": (
            # Cars driven by the computer always report 110; the player's ran at 115 to 119.
            Threshold("ENGINE_TEMP", above=118.0, message="High engine temperature"),
            # 1.49 to 1.51 bar behind and 1.61 to 1.70 in front, so all are "low" by the default profile.
            Threshold("TIRE_PRESSURE", below=1.4, message="Low tire pressure: puncture?"),
            # The fastest reached 342.
            Threshold("SPEED", above=340.0, message="Approaching top speed"),
            # Each axis for itself, and braking is negative; the hardest braking was 4.8, the hardest corner 4.1.
            Threshold("G_FORCE", above=4.5, absolute=True, message="Extreme G-Force detected"),
            # Per cent of the tank, not of the load that a car starts with: they held about 6 with a lap to spare, and
            # burnt 0.3 in 21 s, so 1.2 in a lap of 90 s.
            Threshold("FUEL_LEVEL", below=2.5, message="Low fuel warning: about two laps left"),
        ),
    }
)
"""Sets of thresholds by name."""

_KEYS = ("channel", "above", "below", "message", "absolute", "hysteresis", "min_duration")

_HEADER = """\
# Thresholds: one [[threshold]] table for each, any number for a channel.
#
#   channel       the channel's name; applies to every channel of that name, whatever its unit
#   above         over if a reading is greater than this ...
#   below         ... or less than this: one of the two, in the channel's unit
#   message       what to tell people
#   absolute      true compares the absolute value of a reading; left out: false
#   hysteresis    once over, a sensor stays so until a reading is back by this much, in the channel's unit; left out: 0
#   min_duration  counts only once it has lasted this long, in seconds of the readings' own time; left out: 0
"""


def load_thresholds(source: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """Return the thresholds of a profile or of a TOML file.

    Parameters
    ----------
    source : str or path
        The name of a profile (see `PROFILES`) or a file. A string that is both means the profile: write ``./default``
        for a file of such a name.

    Raises
    ------
    ThresholdError
        It is neither, or the file's content is no set of thresholds.
    OSError
        The file cannot be read.
    """
    if isinstance(source, str) and source in PROFILES:
        return PROFILES[source]
    try:
        content = Path(source).read_bytes()
    except FileNotFoundError:
        raise ThresholdError(
            f"neither a file nor a profile of thresholds; the profiles are {', '.join(PROFILES)}", source=str(source)
        ) from None
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark that is no part of the text
    except UnicodeDecodeError as error:
        raise ThresholdError(f"not UTF-8, as TOML must be: {error}", source=str(source)) from None
    return loads(text, source=str(source))


def loads(text: str, *, source: str = "") -> tuple[Threshold, ...]:
    """Return the thresholds of a TOML text.

    Parameters
    ----------
    text : str
        What `dumps` writes.
    source : str
        The name of the file, for error messages.

    Raises
    ------
    ThresholdError
        The text is no TOML, or something in it is no threshold; `ThresholdError.key` says where.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThresholdError(f"not TOML: {error}", source=source) from None
    for key in document:
        if key != "threshold":
            raise ThresholdError("unknown key: expected only [[threshold]] tables", key, source)
    tables = document.get("threshold", [])
    if not isinstance(tables, list):
        raise ThresholdError("expected tables in double brackets: [[threshold]]", "threshold", source)
    return tuple(_from_table(table, f"threshold[{i}]", source) for i, table in enumerate(tables))


def _from_table(table: Any, path: str, source: str) -> Threshold:
    if not isinstance(table, dict):
        raise ThresholdError(f"{table!r}: expected a table, [[threshold]]", path, source)
    for key in table:
        if key not in _KEYS:
            raise ThresholdError(f"unknown key: expected {', '.join(_KEYS)}", f"{path}.{key}", source)
    for key in ("channel", "message"):
        if key not in table:
            raise ThresholdError("missing: expected a text", f"{path}.{key}", source)
    try:
        return Threshold(**table)
    except ThresholdError as error:
        raise ThresholdError(error.problem, f"{path}.{error.key}", source) from None


def dumps(thresholds: Iterable[Threshold]) -> str:
    """Return the thresholds as a TOML text with comments, which `loads` reads back."""
    return "\n".join([_HEADER, *map(_as_table, thresholds)])


def _as_table(threshold: Threshold) -> str:
    lines = [
        "[[threshold]]",
        f"channel = {_quoted(threshold.channel)}",
        f"{threshold.side} = {threshold.limit!r}",
        f"message = {_quoted(threshold.message)}",
    ]
    if threshold.absolute:
        lines.append("absolute = true")
    lines += [f"{key} = {value!r}" for key, value in threshold.damping.items()]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    # JSON's escapes are all TOML's too; TOML also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# --- checking one batch --------------------------------------------------------------------------------------------

_CHANNEL_NUMBERS = MAX_CHANNELS + 1
_SORT_ALL = 512  # readings: sorting a batch of up to this many costs less than first picking out some sensors' readings
_FEW = 8  # sensors: looking for up to this many one by one costs less than making a set of all that a batch holds
_LONG_RUN = 192  # readings, on average: from here on looking at each series by itself costs less
_WHO, _WHO_AT = np.dtype(np.uint64), 8  # READING's sensor_id, channel and flags as one number, and where that is
_HASH_BITS = 12  # 4,096 flags: many more than sensors that cross at once, and few enough for the first-level cache
_HASH_FACTOR = np.uint32(2_654_435_769)  # 2**32 / golden ratio, odd: spreads ids however they are numbered (Knuth)
_SENSOR_BITS = 32  # READING.sensor_id; a series' key is its channel's number above its sensor's
_MOST_OVER = 1 << 16  # series of one rule: more than anybody's sensors; sessions of a game that are forged have no end
_NONE: Ints = np.zeros(0, np.intp)


class _Rule(NamedTuple):
    """A threshold applied to one channel: there are several, where several channels have its name."""

    threshold: int  # its index in the table
    channel: int  # the channel's number


class _RuleCrossings(NamedTuple):
    """What one batch says about one rule: about the series looked at, which are all that have samples, and others."""

    looked_at: int  # how many readings
    samples: Ints  # positions in the batch of the readings that are over, series by series
    rises: Ints  # positions where a series went from not over to over within the batch
    opened: dict[int, int]  # sensor -> position of its first reading, where that is over: a rise if it was not before
    lasting: set[int]  # sensors whose last reading is over
    ended: set[int]  # sensors whose last reading is not


class _Run(NamedTuple):
    """Held readings in a row, of one series in one batch: indices in the `positions` of a `_DampedCrossings`."""

    start: int
    rise: int  # the first that counts, if nothing was over before; `stop` if none does
    stop: int
    last: bool  # whether it goes on to the series' last reading in the batch


class _DampedCrossings(NamedTuple):
    """What one batch says about one damped rule: about the series looked at, which are all that have held readings."""

    positions: Ints  # positions in the batch of the readings looked at, series by series
    sensors: set[int]  # whose they are
    over: bool  # whether one is beyond the limit
    samples: Ints  # positions of readings that count, whatever was before
    rises: Ints  # and of the first of each stretch of them
    opened: dict[int, _Run]  # sensor -> the run that its first reading is in
    lasting: dict[int, float | None]  # as Tracker._stretches: sensors over after the batch, if none was before


@dataclass(slots=True, eq=False)  # not frozen: that alone would take a tenth of the time that a small batch does
class Crossings:
    """What `ThresholdTable.check` found in one batch, for `Tracker.merge`.

    True if any reading is beyond a limit, or not yet back from it by the hysteresis.

    It refers to the batch, which must stay as it is until it has been merged.
    """

    readings: Readings
    _seen: Ints  # for each rule, how many readings its channel has
    _rules: dict[int, _RuleCrossings]  # by rule; only those that have samples
    _damped: dict[int, _DampedCrossings]  # by rule; only those that have held readings

    def __bool__(self) -> bool:
        return bool(self._rules or self._damped)


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
        self._rules = tuple(
            _Rule(i, number)
            for i, threshold in enumerate(self.thresholds)
            for number in _numbers_of(threshold.channel, known, f"threshold[{i}].channel")
        )
        self._channels: Ints = np.array([rule.channel for rule in self._rules], np.intp)
        self._span = max((rule.channel for rule in self._rules), default=0) + 1
        self._rules_of: dict[int, list[tuple[int, Threshold, bool]]] = {}  # by channel; whether it is damped
        # Within its channel's limits a reading is neither over any threshold nor held; NaN compares as within.
        self._low = np.full(_CHANNEL_NUMBERS, -np.inf)
        self._high = np.full(_CHANNEL_NUMBERS, np.inf)
        for i, rule in enumerate(self._rules):
            threshold = self.thresholds[rule.threshold]
            self._rules_of.setdefault(rule.channel, []).append((i, threshold, bool(threshold.damping)))
            self._narrow(threshold, rule.channel)
        self._has_low = bool((self._low > -np.inf).any())

    def _narrow(self, threshold: Threshold, channel: int) -> None:
        if threshold.side == "below":  # an absolute one: lets through too much, and what it lets through is looked at
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
        _require_readings(readings)
        if not len(readings):
            return Crossings(readings, np.zeros(len(self._rules), np.intp), {}, {})
        starts = _long_runs(readings)
        return self._check_all(readings) if starts is None else self._check_runs(readings, starts)

    def _check_runs(self, readings: Readings, starts: list[int]) -> Crossings:
        """Check a batch of a few long runs, series by series."""
        seen = np.zeros(len(self._rules), np.intp)
        rules, damped = {}, {}
        for channel, series in _series_of_runs(readings, starts).items():
            count = sum([len(each.values) for each in series])
            for rule, threshold, is_damped in self._rules_of.get(channel, ()):
                seen[rule] = count
                if is_damped:
                    if any(_any(threshold.held(each.values)) for each in series):
                        damped[rule] = _damped_crossings(threshold, _sorted_series(series), readings["timestamp"])
                    continue
                crossing = _crossings_of_series(threshold, series, count)
                if crossing is not None:
                    rules[rule] = crossing
        return Crossings(readings, seen, rules, damped)

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
        if not np.count_nonzero(over):
            return Crossings(readings, seen, {}, {})
        return Crossings(readings, seen, *self._look_closer(readings, values, over))

    def _look_closer(
        self, readings: Readings, values: Floats, over: Bools
    ) -> tuple[dict[int, _RuleCrossings], dict[int, _DampedCrossings]]:
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
        rules, damped = {}, {}
        for channel in crossed:
            start = series.searchsorted(channel << _SENSOR_BITS)
            stop = series.searchsorted((channel + 1) << _SENSOR_BITS)
            part = slice(start, stop)
            for rule, threshold, is_damped in self._rules_of[channel]:
                beyond = threshold.held(values[part]) if is_damped else threshold.over(values[part])
                if not np.count_nonzero(beyond):
                    continue
                if is_damped:
                    ordered = _Sorted(values[part], positions[part], sensors[part], first[part])
                    damped[rule] = _damped_crossings(threshold, ordered, readings["timestamp"])
                else:
                    rules[rule] = _crossings_of_rule(beyond, positions[part], sensors[part], first[part])
        return rules, damped


def _numbers_of(name: str, channels: tuple[Channel, ...], key: str) -> list[int]:
    # Once each: the caller's list may hold equal channels.
    numbers = sorted({channel.number for channel in channels if channel.name == name})
    if not numbers:
        names = ", ".join(sorted({channel.name for channel in channels})) or "none"
        raise ThresholdError(f"{name!r}: no such channel; the known ones are {names}", key)
    return numbers


def _require_readings(readings: Readings) -> None:
    if not isinstance(readings, np.ndarray) or readings.ndim != 1 or readings.dtype != READING:
        what = f"{readings.shape} {readings.dtype}" if isinstance(readings, np.ndarray) else type(readings).__name__
        raise TypeError(f"expected a one-dimensional array of f1buf.READING, got {what}")


def _only_one(column: NDArray[Any]) -> int | None:
    """Return the one number that a column consists of, or None if there are several."""
    number: int = column.item(0)
    # Comparing bytes takes a third of (column == number).all().
    same = number == column.item(-1) and column.tobytes() == column[:1].tobytes() * len(column)
    return number if same else None


def _long_runs(readings: Readings) -> list[int] | None:
    """Return where each run of readings of one sensor starts; None if they are short."""
    who = readings.getfield(_WHO, _WHO_AT)
    changes = who[1:] != who[:-1]
    if not _any(changes):
        return [0]
    if np.count_nonzero(changes) * _LONG_RUN > len(readings):
        return None
    return [0, *(changes.nonzero()[0] + 1).tolist()]


def _any(flags: Bools) -> bool:
    """Tell whether one is true: as `flags.any()`, which would let go of the GIL."""
    return b"\1" in flags.tobytes()


class _Series(NamedTuple):
    """The readings of one sensor on one channel in a batch that consists of long runs."""

    sensor: int
    values: Floats
    runs: list[slice]  # where they are in the batch

    def positions(self, indices: Ints) -> Ints:
        """Return where in the batch some of the values are."""
        positions: Ints
        if len(self.runs) == 1:
            positions = indices + self.runs[0].start
            return positions
        ends = np.cumsum([run.stop - run.start for run in self.runs])
        shifts = np.array([run.stop for run in self.runs]) - ends
        positions = indices + shifts[ends.searchsorted(indices, side="right")]
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


def _crossings_of_series(threshold: Threshold, all_series: list[_Series], count: int) -> _RuleCrossings | None:
    """Look at one channel's series, `count` readings in all; None if none is over."""
    samples, rises = [], []
    opened: dict[int, int] = {}
    lasting: set[int] = set()
    ended: set[int] = set()
    for series in all_series:
        over = threshold.over(series.values)
        if not _any(over):
            ended.add(series.sensor)
            continue
        indices = over.nonzero()[0]
        positions = series.positions(indices)
        samples.append(positions)
        if indices[0] == 0:
            opened[series.sensor] = int(positions[0])
        else:
            rises.append(positions[:1])
        rises.append(positions[1:][indices[1:] - indices[:-1] > 1])
        (lasting if indices[-1] == len(over) - 1 else ended).add(series.sensor)
    if not samples:
        return None
    return _RuleCrossings(
        looked_at=count,
        samples=np.concatenate(samples),
        rises=np.concatenate(rises),
        opened=opened,
        lasting=lasting,
        ended=ended,
    )


def _of_same_sensors(sensors: NDArray[np.uint32], over: Bools) -> Ints:
    """Return the positions of all readings of the sensors that have one `over`; of a few other sensors too."""
    hashed = (sensors * _HASH_FACTOR) >> np.uint32(_SENSOR_BITS - _HASH_BITS)
    wanted = np.zeros(1 << _HASH_BITS, np.bool_)
    wanted[hashed[over]] = True
    positions: Ints = wanted[hashed].nonzero()[0]
    return positions


def _crossings_of_rule(over: Bools, positions: Ints, sensors: NDArray[np.uint32], first: Bools) -> _RuleCrossings:
    """Summarise readings that are sorted by sensor; `first` marks where each one starts."""
    rising = (over[1:] > over[:-1]) > first[1:]  # of bools: the greater one is true, the other is not
    starts = first.nonzero()[0]
    names = sensors[starts].tolist()
    opening = compress(zip(names, positions[starts].tolist(), strict=True), over[starts].tolist())
    closing = over[starts - 1].tolist()  # each series ends before the next one starts, and the last at -1
    closing.append(closing.pop(0))
    lasting = set(compress(names, closing))
    return _RuleCrossings(
        looked_at=len(over),
        samples=positions[over],
        rises=positions[1:][rising],
        opened=dict(opening),
        lasting=lasting,
        ended=set(names) - lasting,
    )


class _Sorted(NamedTuple):
    """Readings of one channel in a batch, series by series, each in the stream's order."""

    values: Floats
    positions: Ints  # in the batch
    sensors: NDArray[np.uint32]
    first: Bools  # marks where each series starts


def _sorted_series(all_series: list[_Series]) -> _Sorted:
    lengths = [len(each.values) for each in all_series]
    first = np.zeros(sum(lengths), np.bool_)
    first[np.cumsum([0, *lengths[:-1]])] = True
    return _Sorted(
        np.concatenate([each.values for each in all_series]),
        np.concatenate([each.positions(np.arange(len(each.values))) for each in all_series]),
        np.repeat(np.array([each.sensor for each in all_series], np.uint32), lengths),
        first,
    )


def _damped_crossings(threshold: Threshold, series: _Sorted, timestamps: Floats) -> _DampedCrossings:
    """Look at a damped rule, in the series of which some have held readings; the timestamps are all the batch's."""
    starts, stops = _runs(threshold.held(series.values), series.first)
    begins = np.minimum(_first_from(starts, threshold.over(series.values)), stops)
    begun = begins < stops
    rises, lowest = begins, np.full(len(starts), np.nan)
    if threshold.min_duration > 0:
        lengths = (stops - begins)[begun]
        times = timestamps[series.positions[_ranges(begins[begun], stops[begun])]]
        rises = begins.copy()
        after, lowest[begun] = _long_enough(threshold.min_duration, times, lengths, np.nan)
        rises[begun] += after
    counting = rises < stops
    opening = series.first[starts]
    last = np.append(series.first, True)[stops]
    settled = counting & ~opening
    names = series.sensors[starts]
    runs = zip(*(each[opening].tolist() for each in (starts, rises, stops, last)), strict=True)
    over = last & begun
    at_end = zip(lowest[over].tolist(), counting[over].tolist(), strict=True)
    return _DampedCrossings(
        positions=series.positions,
        sensors=set(series.sensors[series.first].tolist()),
        over=bool(np.count_nonzero(begun)),
        samples=series.positions[_ranges(rises[settled], stops[settled])],
        rises=series.positions[rises[settled]],
        opened=dict(zip(names[opening].tolist(), map(_Run._make, runs), strict=True)),
        lasting=dict(zip(names[over].tolist(), [None if done else low for low, done in at_end], strict=True)),
    )


def _runs(flags: Bools, first: Bools) -> tuple[Ints, Ints]:
    """Return where each run of true flags starts and stops; `first` marks where a run may not go on."""
    starts, ends = flags.copy(), flags.copy()
    starts[1:] &= ~flags[:-1] | first[1:]
    ends[:-1] &= ~flags[1:] | first[1:]
    return starts.nonzero()[0], ends.nonzero()[0] + 1


def _first_from(starts: Ints, flags: Bools) -> Ints:
    """Return the index of the first true flag from each start on; their number where there is none."""
    indices = np.append(flags.nonzero()[0], len(flags))
    first: Ints = indices[indices.searchsorted(starts)]
    return first


def _ranges(starts: Ints, stops: Ints) -> Ints:
    """Return all the numbers of several ranges, one range after the other."""
    lengths = stops - starts
    ends = lengths.cumsum()
    numbers: Ints = np.arange(lengths.sum()) + np.repeat(stops - ends, lengths)
    return numbers


def _long_enough(duration: float, times: Floats, lengths: Ints, earlier: Floats | float) -> tuple[Ints, Floats]:
    """Tell when stretches, laid end to end, have lasted `duration`.

    `earlier` has the lowest timestamp of each one before; NaN where there is none. Returns for each how many readings
    it takes, all of them where that is not enough, and its lowest timestamp so far.
    """
    stops = lengths.cumsum()
    starts = stops - lengths
    compared = times.copy()
    compared[starts] = np.fmin(compared[starts], earlier)
    # The running minimum of all stretches at once: of the timestamps' ranks, where each stretch is below those before.
    order = compared.argsort(kind="stable")  # NaN comes last
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    below = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) * len(order)  # int64: beyond 32 bits soon
    lowest = compared[order[np.minimum.accumulate(ranks - below) + below]]
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite timestamps
        lasted = times - lowest >= duration
    return np.minimum(_first_from(starts, lasted), stops) - starts, lowest[stops - 1]


# --- following a stream --------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """A reading that counts as over a threshold."""

    position: int
    """In the stream, as `Tracker.merge` was told."""
    threshold: int
    """The threshold's index in the table."""
    reading: np.void
    """A copy of the record, of dtype READING."""
    kind: Literal["rise", "sample"]
    """``"rise"``: the first reading that counts since the series is over; ``"sample"``: one that follows. (Counts of
    samples include the rises.)"""


class Tracker:
    """Puts the results of `ThresholdTable.check` together: finds rises, and counts.

    Used by one thread at a time. The events and counts do not depend on how the stream was cut into batches, unless
    more than 65,536 series of one channel are over at once: then all but those of the latest batch are forgotten, so
    that endless new ones cannot fill the memory, and one that goes on may rise once more.

    Parameters
    ----------
    table : ThresholdTable
        The table whose results will come.
    samples : bool
        Whether to make events of all readings that are over, not of rises alone.
    """

    def __init__(self, table: ThresholdTable, *, samples: bool = False) -> None:
        self._table = table
        self._want_samples = samples
        rules = range(len(table._rules))
        self._over: list[set[int]] = [set() for _ in rules]  # by rule: the sensors whose latest reading is over
        # By damped rule: the sensors that are over, with the lowest timestamp since then; None once that counts.
        self._stretches: dict[int, dict[int, float | None]] = {
            rule: {} for rule in rules if table.thresholds[table._rules[rule].threshold].damping
        }
        self._open: set[int] = set()  # the rules where one of them is not empty
        self._seen = np.zeros(len(rules), np.int64)
        self._samples = [0 for _ in rules]
        self._rises = [0 for _ in rules]

    def merge(self, crossings: Crossings, first_position: int) -> list[Event]:
        """Take the result for the next batch of the stream.

        Parameters
        ----------
        crossings : Crossings
            From the table's `check`; the batch in it must be as it was then.
        first_position : int
            The position in the stream of the batch's first reading.

        Returns
        -------
        list of Event
            By position, then by threshold; one at most for each reading and threshold.
        """
        self._seen += crossings._seen
        if not (self._open or crossings._rules or crossings._damped):
            return []
        found: list[tuple[int, int, Literal["rise", "sample"]]] = []
        for rule in self._open.union(crossings._rules, crossings._damped):
            if rule in self._stretches:
                samples, rises = self._advance_damped(rule, crossings)
            else:
                samples, rises = self._advance(rule, crossings)
            threshold = self._table._rules[rule].threshold
            if self._want_samples:
                rest = set(samples.tolist()).difference(rises)
                found += [(position, threshold, "sample") for position in rest]
            found += [(position, threshold, "rise") for position in rises]
        found.sort()
        records = crossings.readings[[position for position, _, _ in found]] if found else ()
        return [
            Event(first_position + position, threshold, record, kind)
            for (position, threshold, kind), record in zip(found, records, strict=True)
        ]

    def _advance(self, rule: int, crossings: Crossings) -> tuple[Ints, list[int]]:
        """Bring one rule's state past the batch; return the positions of its samples there, and of its rises."""
        over = self._over[rule]
        unsettled = over  # sensors that were over, and of which this batch has told nothing yet
        looked_at = 0
        samples = _NONE
        rises: list[int] = []
        crossing = crossings._rules.get(rule)
        if crossing is not None:
            looked_at = crossing.looked_at
            samples = crossing.samples
            rises = crossing.rises.tolist()
            rises += [position for sensor, position in crossing.opened.items() if sensor not in over]
            unsettled = over - crossing.lasting - crossing.ended
            over -= crossing.ended
            over |= crossing.lasting
            if len(over) > _MOST_OVER:
                over &= crossing.lasting
            self._samples[rule] += len(samples)
            self._rises[rule] += len(rises)
        if unsettled and looked_at < crossings._seen[rule]:
            # Not among the series that were looked at, so if a sensor has readings here none of them is over.
            over -= _present(crossings.readings, self._table._rules[rule].channel, unsettled)
        (self._open.add if over else self._open.discard)(rule)
        return samples, rises

    def _advance_damped(self, rule: int, crossings: Crossings) -> tuple[Ints, list[int]]:
        """Do the same for a damped rule."""
        stretches = self._stretches[rule]
        unsettled, looked_at = set(stretches), 0
        samples = _NONE
        rises: list[int] = []
        crossing = crossings._damped.get(rule)
        if crossing is not None and (stretches or crossing.over):
            looked_at = len(crossing.positions)
            unsettled -= crossing.sensors
            samples, rises = self._go_on(rule, crossing, crossings.readings["timestamp"])
            self._samples[rule] += len(samples)
            self._rises[rule] += len(rises)
        if unsettled and looked_at < crossings._seen[rule]:
            # As above: none of their readings here is held.
            for sensor in _present(crossings.readings, self._table._rules[rule].channel, unsettled):
                del stretches[sensor]
        (self._open.add if stretches else self._open.discard)(rule)
        return samples, rises

    def _go_on(self, rule: int, crossing: _DampedCrossings, timestamps: Floats) -> tuple[Ints, list[int]]:
        """Bring the stretches of the series looked at past the batch; return positions of samples, and of rises."""
        stretches, lasting = self._stretches[rule], dict(crossing.lasting)
        waited = self._waited(rule, crossing, timestamps)
        starts, stops, rises = [], [], []
        for sensor, run in crossing.opened.items():
            start = run.rise
            if sensor in stretches:
                start, lowest = waited.get(sensor, (run.start, None))
                if run.last:
                    lasting[sensor] = lowest
            if start < run.stop:
                starts.append(start)
                stops.append(run.stop)
                if stretches.get(sensor, math.nan) is not None:
                    rises.append(start)
        for sensor in crossing.sensors.intersection(stretches):
            del stretches[sensor]
        if len(stretches) > _MOST_OVER:
            stretches.clear()
        stretches.update(lasting)
        positions = crossing.positions
        counted = positions[_ranges(np.array(starts, np.intp), np.array(stops, np.intp))]
        return np.concatenate([crossing.samples, counted]), crossing.rises.tolist() + positions[rises].tolist()

    def _waited(self, rule: int, crossing: _DampedCrossings, timestamps: Floats) -> dict[int, tuple[int, float | None]]:
        """Return of each sensor that is over and does not count yet where its run counts from, and its new state."""
        stretches = self._stretches[rule]
        waiting = [sensor for sensor in crossing.opened if stretches.get(sensor) is not None]
        if not waiting:
            return {}
        runs = [crossing.opened[sensor] for sensor in waiting]
        starts, stops = np.array([run.start for run in runs]), np.array([run.stop for run in runs])
        times = timestamps[crossing.positions[_ranges(starts, stops)]]
        duration = self._table.thresholds[self._table._rules[rule].threshold].min_duration
        earlier = np.array([stretches[sensor] for sensor in waiting])
        after, lowest = _long_enough(duration, times, stops - starts, earlier)
        counts_from = (starts + after).tolist()
        return {
            sensor: (start, None if start < run.stop else low)
            for sensor, run, start, low in zip(waiting, runs, counts_from, lowest.tolist(), strict=True)
        }

    def counts(self) -> list[dict[str, Any]]:
        """Return for each threshold what it is and what came of it, ready for JSON.

        Returns
        -------
        list of dict
            ``channel``, ``above`` or ``below``, ``absolute`` where it is true, ``hysteresis`` and ``min_duration``
            where they are not 0, ``message``, and the counts ``readings`` (of the threshold's channel), ``samples`` and
            ``rises``.
        """
        counts = [_described(threshold) for threshold in self._table.thresholds]
        for i, rule in enumerate(self._table._rules):
            entry = counts[rule.threshold]
            entry["readings"] += int(self._seen[i])
            entry["samples"] += self._samples[i]
            entry["rises"] += self._rises[i]
        return counts


def _present(readings: Readings, channel: int, sensors: set[int]) -> set[int]:
    """Return those of `sensors` that have a reading of `channel` in the batch."""
    ids = readings["sensor_id"]
    if len(sensors) <= _FEW:
        found = {sensor for sensor in sensors if np.count_nonzero(ids == sensor)}
    else:
        found = sensors.intersection(ids.tolist())
    if not found:  # nearly always: most sensors that are over have a reading that is over, or none
        return found
    return found.intersection(ids[readings["channel"] == channel].tolist())


def _described(threshold: Threshold) -> dict[str, Any]:
    entry: dict[str, Any] = {"channel": threshold.channel, threshold.side: threshold.limit}
    if threshold.absolute:
        entry["absolute"] = True
    return {**entry, **threshold.damping, "message": threshold.message, "readings": 0, "samples": 0, "rises": 0}
