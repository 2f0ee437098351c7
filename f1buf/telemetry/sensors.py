"""Sensors: where readings begin.

A `Sensor` has a channel, a number, and ``read()``; the telemetry system gives each a thread. The five simulated sensors
stand for a racing car's; `readings_from_block` turns what a data-acquisition card delivers into readings.

How a simulated sensor moves
    A *motion* is a sequence of waypoints, (seconds to get there, level), drawn from the seed. The value eases from one
    waypoint to the next (zero slope at each). It is worked out at *knots* 0.16 s apart, a third of the shortest move
    below, where a small random deviation is added, and is linear between knots. There is no noise from reading to
    reading: at 10 kHz it would cross a threshold hundreds of times on the way past. Time is n / rate, so the same seed
    gives the same motion at 100 Hz and at 10 kHz. (Where 0.16 s is not a whole number of readings, the knots are as
    near to it as possible, and the deviations differ.)

Why it is fast
    A batch is written by one compiled pass, all fields at once, straight into the array that the caller gets, and
    without the GIL (`ramps`). What is random is worked out by numpy, for thousands of knots at a time.
"""

from __future__ import annotations  # lest `np.random`, which takes as long as all else here, is imported for them

import math
import operator
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from f1buf.ring.convert import to_records
from f1buf.ring.reading import READING
from f1buf.telemetry.channels import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    SPEED,
    TIRE_PRESSURE,
    Channel,
    known_channels,
)
from f1buf.telemetry.ramps import ease, write_ramps

__all__ = [
    "SENSOR_TYPES",
    "EngineTemperatureSensor",
    "FuelLevelSensor",
    "GForceSensor",
    "Reading",
    "Sensor",
    "SimulatedSensor",
    "SpeedSensor",
    "TirePressureSensor",
    "checked_readings",
    "make_sensors",
    "readings_from_block",
]

Reading = tuple[float, int, int, int, float]
"""One reading as a tuple: timestamp, sensor_id, channel number, flags, value: the fields of `READING`."""

Floats = NDArray[np.float64]

INPUT = Channel("INPUT", "")
"""An input of a data-acquisition card of which nothing more is known."""

_MAX_SENSOR_ID = 2**32 - 1  # READING.sensor_id is u4


class Sensor(ABC):
    """Something that gives readings of one channel.

    A sensor of your own needs a class attribute `channel` and a method `read`::

        class OilPressureSensor(Sensor):
            channel = Channel("OIL_PRESSURE", "bar", (0.0, 8.0))

            def read(self):
                return self.reading(query_the_device())

    Where many readings come at once, override `read_batch` too and build its result with `readings`. One thread at a
    time uses a sensor.

    Parameters
    ----------
    sensor_id : int
        0 to 4,294,967,295 (the field is u4); one number for each physical series.
    rate : float
        Readings a second that it gives, or means to give [Hz].

    Raises
    ------
    TypeError
        The class has no channel.
    ValueError
        The number or the rate is out of range.
    """

    channel: ClassVar[Channel]

    def __init__(self, sensor_id: int, *, rate: float = 100.0) -> None:
        if not isinstance(getattr(self, "channel", None), Channel):
            raise TypeError(f"{type(self).__name__} needs a class attribute `channel`, a f1buf.telemetry.Channel")
        self.sensor_id = _checked_sensor_id(sensor_id)
        self.rate = _checked_rate(rate)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.sensor_id}: {self.channel} at {self.rate:g} Hz>"

    @abstractmethod
    def read(self) -> Reading:
        """Return the next reading; may block until there is one.

        Raises
        ------
        StopIteration
            The sensor has ended: there will be no more.
        """

    def read_batch(self, n: int) -> NDArray[np.void]:
        """Return the next readings; this default calls `read` until it has `n`, or the sensor has ended.

        Parameters
        ----------
        n : int
            The most to return; at least 1.

        Returns
        -------
        ndarray of READING, shape (up to n,)
            The caller's own. Empty: the sensor has ended.
        """
        readings: list[Reading] = []
        for _ in range(_checked_count(n)):
            try:
                readings.append(self.read())
            except StopIteration:
                break
        return to_records(readings, READING)  # numpy's own conversion would take a float for a record

    def reading(self, value: float, timestamp: float | None = None) -> Reading:
        """Return one reading of this sensor.

        Parameters
        ----------
        value : float
            In the channel's unit.
        timestamp : float, optional
            [s]; now, as Unix time, where it is not given.
        """
        return (time.time() if timestamp is None else timestamp, self.sensor_id, self.channel.number, 0, value)

    def readings(self, values: ArrayLike, timestamps: ArrayLike) -> NDArray[np.void]:
        """Return many readings of this sensor.

        Parameters
        ----------
        values : array_like, shape (n,)
            In the channel's unit.
        timestamps : array_like, shape (n,)
            [s], one for each value.

        Returns
        -------
        ndarray of READING, shape (n,)
            A copy.
        """
        values, timestamps = np.asarray(values), np.asarray(timestamps)
        if values.ndim != 1 or values.shape != timestamps.shape:
            raise ValueError(
                f"{self!r}: {values.shape} values with {timestamps.shape} timestamps: expected two of shape (n,)"
            )
        out = _blank(len(values), self)
        out["timestamp"] = timestamps
        out["value"] = values
        return out


def _checked_sensor_id(sensor_id: SupportsIndex) -> int:
    number = operator.index(sensor_id)
    if not 0 <= number <= _MAX_SENSOR_ID:
        raise ValueError(f"sensor_id is {number}: expected 0 to {_MAX_SENSOR_ID:,}, what a reading's 32 bits hold")
    return number


def _checked_rate(rate: SupportsFloat) -> float:
    hertz = float(rate)
    if not (math.isfinite(hertz) and hertz > 0):
        raise ValueError(f"rate is {rate}: expected a finite number of readings a second, above 0")
    return hertz


def _checked_count(n: SupportsIndex) -> int:
    count = operator.index(n)
    if count < 1:
        raise ValueError(f"n is {n}: expected at least 1 reading (an empty batch means that the sensor has ended)")
    return count


def _blank(n: int, sensor: Sensor) -> NDArray[np.void]:
    """Return `n` readings of `sensor` at time 0 with value 0."""
    out = np.zeros(n, READING)
    out["sensor_id"] = sensor.sensor_id
    out["channel"] = sensor.channel.number
    return out


def checked_readings(sensor: Sensor, readings: Any) -> tuple[NDArray[Any], ValueError | None]:
    """Check what a sensor's `read_batch` returned: a reading with a wrong channel number would meet no threshold.

    Parameters
    ----------
    sensor : Sensor
        The sensor that returned them.
    readings : ndarray of READING, or what can become one
        Checked; copied only where it is no such array.

    Returns
    -------
    ndarray of READING
        A view of those before the first one whose channel number is no channel's: nearly always all.
    ValueError or None
        What is wrong with that one.

    Raises
    ------
    TypeError, ValueError, OverflowError
        They are no readings.
    """
    if getattr(readings, "dtype", None) != READING or readings.ndim != 1:
        readings = to_records(readings, READING)
    numbers = readings["channel"]
    known = len(known_channels())
    below = numbers - np.uint16(1)  # 0, which is no channel's number, becomes the highest one
    if below.max(initial=0) < known:
        return readings, None
    first = int(np.argmax(below >= known))
    return readings[:first], ValueError(
        f"a reading has the channel number {numbers[first]}, which is no channel's; expected that of a Channel, such "
        f"as {sensor.channel.number} of {sensor.channel}: self.reading(value) fills it in"
    )


# --- simulated sensors ---------------------------------------------------------------------------------------------

_KNOT_SECONDS = 0.16
_AHEAD = 1_024  # readings made at once for `read`, one after the other
_LONGEST = 8_192  # readings: the longest ramp between two values
_CHUNK = 2_048  # knots worked out at once: so many that their dozen numpy calls cost nearly nothing
_GROUPS = 16  # laps, stints or episodes that a motion draws at once, for the same reason

Motion = tuple[Floats, Floats]
Span = tuple[float, float]  # lowest, highest


class SimulatedSensor(Sensor):
    """A sensor that makes its readings up: reproducible, plausible, and fast. It never ends.

    The n-th reading has the timestamp n / rate, from 0. Its value depends on the seed, the sensor's number and the
    channel only, not on how the reads are split: ten `read` equal one ``read_batch(10)``.

    A subclass needs a `channel`, and may override `motion`; without that its values wander over the middle four fifths
    of the channel's range.

    Parameters
    ----------
    sensor_id : int
        As for `Sensor`. Sensors with different numbers give different series.
    rate : float
        Readings a second [Hz]. Changes how finely the motion is sampled, not how fast it goes.
    seed : int, optional
        At least 0; without it every sensor is different each time.
    noise : {"walk", "uniform"}
        ``"walk"``: the motion described above; ``"uniform"``: independent values, uniform over the channel's range.

    Notes
    -----
    A sensor keeps about 40 KB once it has been read in batches, 130 KB once one by one. The numbers come from numpy's
    SFC64 generator; another version of numpy may give other ones.
    """

    wander: ClassVar[float] = 0.0
    """The most by which a knot deviates at random from the motion, in the channel's unit."""

    def __init__(
        self,
        sensor_id: int,
        *,
        rate: float = 100.0,
        seed: int | None = None,
        noise: Literal["walk", "uniform"] = "walk",
    ) -> None:
        super().__init__(sensor_id, rate=rate)
        if noise not in ("walk", "uniform"):
            raise ValueError(f"noise is {noise!r}: expected 'walk' or 'uniform'")
        if not all(map(math.isfinite, self.channel.range)):
            raise ValueError(f"{self.channel}: a simulated sensor needs a channel with a finite range")
        self.noise = noise
        self._number = self.channel.number
        self._knots: _Walk | _Uniform = (_Walk if noise == "walk" else _Uniform)(self, _generators(self, seed))
        self._made = 0  # readings so far
        self._ahead: NDArray[np.void] = np.empty(0, READING)  # made for `read`
        self._next = 0  # the first of them that was not handed out yet
        self._columns: tuple[list[float], list[float]] = [], []  # their times and values

    def motion(self, rng: np.random.Generator) -> Motion:
        """Draw the next stretch of the motion, which continues the one before.

        The series starts at a random moment of the first stretch. It must not wait: at full speed it is called while
        the readings' place in the buffer is reserved, so that all other sensors and the analyzers would wait, too.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of randomness to use.

        Returns
        -------
        durations : ndarray of float, shape (waypoints,)
            [s] from the waypoint before to this one; above 0.
        levels : ndarray of float, shape (waypoints,)
            The value there, in the channel's unit.
        """
        low, high = self.channel.range
        margin = 0.1 * (high - low)
        return rng.uniform(2.0, 8.0, 64), rng.uniform(low + margin, high - margin, 64)

    def read(self) -> Reading:
        """Return the next reading; never blocks, never ends."""
        if self._next == len(self._ahead):
            self._ahead = np.empty(_AHEAD, READING)
            self._make(self._ahead)
            # Lists: taking a number from an array costs more than all else here.
            self._columns = self._ahead["timestamp"].tolist(), self._ahead["value"].tolist()
            self._next = 0
        timestamps, values = self._columns
        i = self._next
        self._next = i + 1
        return timestamps[i], self.sensor_id, self._number, 0, values[i]

    def read_batch(self, n: int) -> NDArray[np.void]:
        """Return the next `n` readings, shape (n,); never blocks, never ends. A copy, the caller's own."""
        out: NDArray[np.void] = np.empty(_checked_count(n), READING)
        self.write_batch(out)
        return out

    def write_batch(self, out: NDArray[np.void]) -> None:
        """Write the next readings to an array, as many as it is long; never blocks, never ends.

        Parameters
        ----------
        out : ndarray of READING, shape (n,), contiguous
            Such as the slots that `f1buf.RingBuffer.reserve` gives: then nothing is copied.

        Raises
        ------
        TypeError
            It is no such array; nothing has been written. (Where `motion` raises, a part may have been.)
        """
        if not (isinstance(out, np.ndarray) and out.dtype == READING and out.ndim == 1 and out.flags.carray):
            raise TypeError(f"{self!r}: expected a contiguous, writeable array of f1buf.READING; got {out!r:.60}")
        left = self._ahead[self._next : self._next + len(out)]  # what `read` has not handed out yet
        out[: len(left)] = left
        self._next += len(left)
        self._make(out[len(left) :])

    def _make(self, out: NDArray[np.void]) -> None:
        knots = self._knots
        done, n = 0, len(out)
        while done < n:
            if knots.place >= knots.size:
                knots.renew()
            count = min(n - done, knots.size - knots.place)
            write_ramps(
                out,
                done,
                done + count,
                self.sensor_id,
                self._number,
                self._made,
                self.rate,
                knots.knots,
                knots.steps,
                knots.place,
            )
            knots.place += count
            self._made += count
            done += count


def _generators(sensor: SimulatedSensor, seed: int | None) -> list[np.random.Generator]:
    """Return two independent generators for this sensor: of its motion and of its noise."""
    name = zlib.crc32(sensor.channel.name.encode())  # sensors that share a number still differ by channel
    seeds = np.random.SeedSequence(seed, spawn_key=(sensor.sensor_id, name)).spawn(2)
    return [np.random.Generator(np.random.SFC64(each)) for each in seeds]


class _Uniform:
    """Knots for `SimulatedSensor`, one for each reading: independent values, uniform over the channel's range."""

    steps = 1
    size = _LONGEST

    def __init__(self, sensor: SimulatedSensor, generators: list[np.random.Generator]) -> None:
        self.knots: Floats = np.zeros(self.size + 1)
        self.place = self.size  # none is worked out yet
        self._rng = generators[1]
        self._low, high = sensor.channel.range
        self._span = high - self._low
        while self._low + self._span > high:  # one rounding error too much
            self._span = math.nextafter(self._span, 0.0)

    def renew(self) -> None:
        """Work out the next ones, in the place of those before."""
        values = self.knots[:-1]
        self._rng.random(out=values)
        values *= self._span
        values += self._low
        self.place = 0


class _Walk:
    """Knots for `SimulatedSensor`: its motion, sampled.

    Where they would have more readings between them than the longest ramp, there are several ramps, the `parts`.
    """

    def __init__(self, sensor: SimulatedSensor, generators: list[np.random.Generator]) -> None:
        a_knot = max(1.0, sensor.rate * _KNOT_SECONDS)  # readings between knots, before rounding
        self._parts = math.ceil(a_knot / _LONGEST)
        self.steps = round(a_knot / self._parts)
        self._chunk = math.ceil(_CHUNK / self._parts)  # knots
        self.size = self._chunk * self._parts * self.steps  # readings in a chunk
        self.place = self.size  # none is worked out yet
        self.knots: Floats = np.empty(0)
        self._knot_seconds = self._parts * self.steps / sensor.rate
        self._path = _Path(sensor.motion, generators[0])
        self._rng = generators[1]
        self._wander = sensor.wander
        self._range = sensor.channel.range
        self._made = 0  # knots so far
        self._last: Floats = np.empty(0)  # the chunk's last knot, from which the next one goes on

    def renew(self) -> None:
        """Work out the next chunk."""
        more = self._rng.uniform(-self._wander, self._wander, self._chunk + (self._made == 0))
        self._path.add_to(more, self._made, self._knot_seconds, self._range)
        self._made += len(more)
        self.knots = np.concatenate((self._last, more))
        self._last = more[-1:]
        if self._parts > 1:
            ends = np.arange(self._chunk + 1)
            self.knots = np.interp(np.arange(self._parts * self._chunk + 1) / self._parts, ends, self.knots)
        self.place = 0


class _Path:
    """A motion as a function of time; it forgets what is past, so the times must ascend from call to call."""

    def __init__(self, motion: Callable[[np.random.Generator], Motion], rng: np.random.Generator) -> None:
        self._motion = motion
        self._rng = rng
        self._times: Floats = np.empty(0)
        self._levels: Floats = np.empty(0)

    def add_to(self, knots: Floats, number: int, seconds: float, within: Span) -> None:
        """Add the motion's values at ``number * seconds`` and the next to `knots`; keep the sums within a range."""
        self._extend_past((number + len(knots) - 1) * seconds)
        last = ease(knots, seconds, number, self._times, self._levels, *within)
        self._times, self._levels = self._times[last:], self._levels[last:]

    def _extend_past(self, end: float) -> None:
        all_times, all_levels = [self._times], [self._levels]
        last = self._times[-1] if len(self._times) else None
        while last is None or last <= end:
            durations, levels = _checked_motion(*self._motion(self._rng))
            times = np.cumsum(durations)
            # The first stretch began some time ago: otherwise all cars would start their engines at time 0.
            times += -self._rng.uniform(times[0], times[-1]) if last is None else last
            last = times[-1]
            all_times.append(times)
            all_levels.append(levels)
        self._times, self._levels = np.concatenate(all_times), np.concatenate(all_levels)


def _checked_motion(durations: ArrayLike, levels: ArrayLike) -> Motion:
    times, values = np.asarray(durations, np.float64), np.asarray(levels, np.float64)
    if times.ndim != 1 or times.shape != values.shape or not len(times):
        raise ValueError(
            f"motion() returned durations of shape {times.shape} with levels of shape {values.shape}: expected two of "
            "shape (waypoints,), at least one"
        )
    if not (times > 0).all() or not np.isfinite(times).all():
        raise ValueError(
            f"motion() returned a duration of {times[~(times > 0) | np.isinf(times)][0]} s: expected above 0"
        )
    return times, values


def _cruise_and_episode(rng: np.random.Generator, cruise: Span, episode: Span, *, change: float, hold: Span) -> Motion:
    """Draw stretches: three slow moves within `cruise`, then a visit to a level within `episode`.

    A stretch takes 3 * U(6, 14) s, the change there [s], the hold [s] and the change back: 33 to 36 s on average.
    """
    durations = rng.uniform(6.0, 14.0, (_GROUPS, 6))
    durations[:, 3] = durations[:, 5] = change
    durations[:, 4] = rng.uniform(*hold, _GROUPS)
    levels = rng.uniform(*cruise, (_GROUPS, 6))
    levels[:, 3] = levels[:, 4] = rng.uniform(*episode, _GROUPS)
    return durations.ravel(), levels.ravel()


def _laps(
    rng: np.random.Generator, track: Floats, *, spread: float, peaks: Span, ordinary: Span, share: float
) -> Motion:
    """Draw laps of a `track`: rows of (seconds to get there, level).

    Each lap's times vary by 5 %, its levels by up to `spread`. A pair of rows with the level NaN is a place where the
    level is drawn anew each lap, and held between the two: within `peaks` in a `share` of the cases, else within
    `ordinary`.
    """
    durations = track[:, 0] * rng.uniform(0.95, 1.05, (_GROUPS, len(track)))
    levels = track[:, 1] + rng.uniform(-spread, spread, (_GROUPS, len(track)))
    first = np.flatnonzero(np.isnan(track[:, 1]))[::2]
    size = (_GROUPS, len(first))
    drawn = np.where(rng.random(size) < share, rng.uniform(*peaks, size), rng.uniform(*ordinary, size))
    levels[:, first] = levels[:, first + 1] = drawn
    return durations.ravel(), levels.ravel()


class EngineTemperatureSensor(SimulatedSensor):
    """Engine temperature, 80 to 120 °C.

    Wanders between 97 and 107 °C. Once in 34 s on average it overheats to between 112 and 117 °C, and is above 110 °C
    for 1.1 to 3.1 s.
    """

    channel = ENGINE_TEMP
    wander = 0.1

    def motion(self, rng: np.random.Generator) -> Motion:
        return _cruise_and_episode(rng, (97.0, 107.0), (112.0, 117.0), change=1.5, hold=(0.4, 1.3))


class TirePressureSensor(SimulatedSensor):
    """The pressure of one tyre, 1.8 to 2.5 bar.

    Breathes between 1.98 and 2.3 bar as the tyre warms and cools. Once in 33 s on average it dips to between 1.83 and
    1.87 bar, and is below 1.9 bar for 0.5 to 2.3 s.
    """

    channel = TIRE_PRESSURE
    wander = 0.003

    def motion(self, rng: np.random.Generator) -> Motion:
        return _cruise_and_episode(rng, (1.98, 2.3), (1.83, 1.87), change=0.8, hold=(0.3, 1.5))


class SpeedSensor(SimulatedSensor):
    """Speed, 0 to 350 km/h.

    Laps of 71 s with three long straights. On two thirds of these it reaches 342 to 347 km/h, so once in 36 s on
    average, and is above 340 km/h for 1.4 to 2.8 s; on the others it stays below 338 km/h.
    """

    channel = SPEED
    wander = 0.3
    TRACK: ClassVar[Floats] = np.array(
        [  # [s] from the row before, [km/h]; braking peaks at 4 to 4.5 G
            *[(1.0, 95), (4.0, 265), (1.6, 150), (1.0, 155), (5.0, 300), (2.0, 120), (1.0, 125)],
            *[(8.0, np.nan), (1.2, np.nan), (2.6, 80), (1.2, 85)],
            *[(3.5, 240), (1.2, 175), (1.5, 190), (4.5, 290), (1.8, 130), (0.8, 135)],
            *[(7.0, np.nan), (1.0, np.nan), (2.4, 110), (1.0, 115), (3.0, 230), (1.4, 160), (1.0, 170)],
            *[(8.0, np.nan), (1.4, np.nan), (2.6, 90)],
        ]
    )

    def motion(self, rng: np.random.Generator) -> Motion:
        return _laps(rng, self.TRACK, spread=4.0, peaks=(342.0, 347.0), ordinary=(325.0, 337.0), share=2 / 3)


class GForceSensor(SimulatedSensor):
    """The size of the acceleration, 0 to 6 G.

    Laps of 71 s: 0.3 to 0.7 G on straights, 2 to 5 G in braking zones and corners. In two thirds of the three fastest
    corners it reaches 5.7 to 5.9 G, so once in 36 s on average, and is above 5.5 G for 0.8 to 1.6 s.
    """

    channel = G_FORCE
    wander = 0.05
    TRACK: ClassVar[Floats] = np.array(
        [  # [s] from the row before, [G]
            *[(1.0, 3.0), (2.5, 1.4), (3.0, 0.7), (0.6, 4.2), (1.2, 3.1), (1.5, 1.6), (4.0, 0.6)],
            *[(0.7, np.nan), (0.8, np.nan), (1.0, 2.2), (1.5, 3.4), (2.5, 1.5), (6.0, 0.5), (0.6, 4.6), (1.6, 2.4)],
            *[(2.0, 3.6), (2.0, 1.3), (5.0, 0.6), (0.7, np.nan), (1.0, np.nan), (1.2, 2.6), (2.4, 1.2)],
            *[(3.0, 0.5), (0.6, 4.4), (1.8, 3.3), (3.0, 1.3), (5.5, 0.5), (0.5, 4.8), (1.4, 3.0), (2.5, 1.5)],
            *[(5.0, 0.6), (0.7, np.nan), (0.9, np.nan), (1.5, 2.0), (2.0, 0.6)],
        ]
    )

    def motion(self, rng: np.random.Generator) -> Motion:
        return _laps(rng, self.TRACK, spread=0.2, peaks=(5.7, 5.9), ordinary=(4.2, 5.2), share=2 / 3)


class FuelLevelSensor(SimulatedSensor):
    """The fuel in the tank, 0 to 100 %.

    Stints of about ten minutes: burns down from between 98 and 99.9 % to between 5 and 11 %, then is refuelled in 6 to
    9 s. Below 15 % once a stint, for its last 25 to 70 s.
    """

    channel = FUEL_LEVEL
    wander = 0.0  # so the level climbs only at a stop
    LAPS = 9  # a stint

    def motion(self, rng: np.random.Generator) -> Motion:
        full = rng.uniform(98.0, 99.9, _GROUPS)
        durations = rng.uniform(63.0, 70.0, (_GROUPS, 1 + self.LAPS))
        durations[:, 0] = rng.uniform(6.0, 9.0, _GROUPS)
        levels = np.linspace(full, rng.uniform(5.0, 11.0, _GROUPS), 1 + self.LAPS, axis=1)
        return durations.ravel(), levels.ravel()


SENSOR_TYPES: tuple[type[SimulatedSensor], ...] = (
    EngineTemperatureSensor,
    TirePressureSensor,
    SpeedSensor,
    GForceSensor,
    FuelLevelSensor,
)
"""The five sensor types of the simulated car."""


def make_sensors(
    sensors_per_type: int = 1,
    *,
    types: Iterable[type[Sensor]] = SENSOR_TYPES,
    rate: float = 100.0,
    seed: int | None = None,
    noise: str = "walk",
) -> list[Sensor]:
    """Make sensors, numbered from 0.

    Parameters
    ----------
    sensors_per_type : int
        How many of each type; at least 1.
    types : iterable of Sensor classes
        Called as ``type(sensor_id, rate=rate)``; simulated ones with ``seed=seed``, too, and the five also with
        ``noise=noise``.
    rate : float
        Readings a second.
    seed : int, optional
        Of the simulated ones.
    noise : {"walk", "uniform"}
        How the five types move, see `SimulatedSensor`.
    """
    if sensors_per_type < 1:
        raise ValueError(f"sensors_per_type is {sensors_per_type}; expected at least 1")
    sensors: list[Sensor] = []
    for kind in types:
        options: dict[str, Any] = {"seed": seed} if issubclass(kind, SimulatedSensor) else {}
        if kind in SENSOR_TYPES:
            options["noise"] = noise
        sensors += [kind(len(sensors) + i, rate=rate, **options) for i in range(sensors_per_type)]
    return sensors


# --- data-acquisition cards ----------------------------------------------------------------------------------------


def readings_from_block(
    block: ArrayLike,
    sensor_ids: Sequence[int],
    t0: float,
    rate: float,
    *,
    channels: Channel | Sequence[Channel] = INPUT,
) -> NDArray[np.void]:
    """Turn a block of a data-acquisition card into readings.

    Parameters
    ----------
    block : array_like of numbers, shape (scans, columns)
        A row for each scan, a column for each input; in the channels' units, so scale raw counts first
        (``counts * gain + offset``, where both may be arrays with a number a column).
    sensor_ids : sequence of int, length columns
        The sensor behind each column; no number twice.
    t0 : float
        [s] when the first scan was taken. The next block's is ``t0 + scans / rate``.
    rate : float
        Scans a second [Hz].
    channels : Channel, or sequence of Channel, length columns
        What each column measures; a single channel is for all columns. Default: a channel ``INPUT`` without a unit.

    Returns
    -------
    ndarray of READING, shape (scans * columns,)
        A copy: scan by scan, and in each column by column; scan i's timestamps are t0 + i / rate.

    Raises
    ------
    TypeError
        The block holds no real numbers, or a channel is no Channel.
    ValueError
        A shape, number or rate does not fit.
    """
    ids = [_checked_sensor_id(each) for each in sensor_ids]
    block = _checked_block(block, len(ids))
    scans, columns = block.shape
    if len(set(ids)) != columns:
        raise ValueError(f"sensor_ids {ids} has a number twice: each column is a sensor of its own")
    t0, rate = float(t0), _checked_rate(rate)
    if not math.isfinite(t0):
        raise ValueError(f"t0 is {t0}: expected a finite time in seconds")
    out = np.zeros((scans, columns), READING)
    out["timestamp"] = (t0 + np.arange(scans) / rate)[:, None]
    out["sensor_id"] = ids
    out["channel"] = _channel_numbers(channels, columns)
    out["value"] = block
    return out.reshape(-1)


def _checked_block(block: ArrayLike, columns: int) -> NDArray[Any]:
    array = np.asarray(block)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"the block holds {array.dtype}: expected real numbers")
    if array.ndim != 2:
        hint = "; one input makes a block[:, np.newaxis]" if array.ndim == 1 else ""
        raise ValueError(f"the block has the shape {array.shape}: expected (scans, columns){hint}")
    if array.shape[1] != columns:
        hint = "; it looks transposed: pass block.T" if array.shape[0] == columns else ""
        raise ValueError(f"the block has {array.shape[1]} columns, but there are {columns} sensor_ids{hint}")
    return array


def _channel_numbers(channels: Channel | Sequence[Channel], columns: int) -> list[int]:
    if isinstance(channels, Channel):
        return [channels.number] * columns
    channels = list(channels)
    if not all(isinstance(each, Channel) for each in channels):
        raise TypeError(f"channels is {channels!r}: expected a Channel, or one for each column")
    if len(channels) != columns:
        raise ValueError(f"{len(channels)} channels for {columns} columns: expected one for each, or a single Channel")
    return [each.number for each in channels]
