"""Sensors: the simulated ones, a user's own, and blocks of a data-acquisition card."""

import pickle
import threading
import time

import numpy as np
import pytest
from helpers import examples, run_python
from hypothesis import given, settings
from hypothesis import strategies as st

from f1buf.ring.reading import READING
from f1buf.telemetry import F1TelemetrySystem, TelemetryError
from f1buf.telemetry.channels import SPEED, Channel
from f1buf.telemetry.ramps import ease, write_ramps
from f1buf.telemetry.sensors import (
    EngineTemperatureSensor,
    FuelLevelSensor,
    GForceSensor,
    Sensor,
    SimulatedSensor,
    SpeedSensor,
    TirePressureSensor,
    readings_from_block,
)
from f1buf.telemetry.sources.paced import PacedSensor, SensorAtIntervals
from f1buf.telemetry.thresholds import PROFILES

SIMULATED = [EngineTemperatureSensor, TirePressureSensor, SpeedSensor, GForceSensor, FuelLevelSensor]
each_sensor = pytest.mark.parametrize("cls", SIMULATED, ids=lambda cls: cls.__name__)
each_noise = pytest.mark.parametrize("noise", ["walk", "uniform"])


def default_threshold(channel):
    return next(threshold for threshold in PROFILES["default"] if threshold.channel == channel.name)


def episodes(over):
    """Return the first and the one past the last index of each stretch of True that is whole."""
    edges = np.flatnonzero(np.diff(over.astype(np.int8)))
    edges = edges[int(over[0]) :] + 1
    return edges[: len(edges) // 2 * 2].reshape(-1, 2)


# --- the simulated sensors -----------------------------------------------------------------------------------------


@each_sensor
@each_noise
def test_the_fields_of_a_batch(cls, noise):
    sensor = cls(7, rate=250, seed=1, noise=noise)
    batch = np.concatenate([sensor.read_batch(3000), sensor.read_batch(7000)])
    assert batch.dtype == READING
    np.testing.assert_array_equal(batch["timestamp"], np.arange(10_000) / 250)
    assert set(batch["sensor_id"]) == {7}
    assert set(batch["channel"]) == {cls.channel.number}
    assert set(batch["flags"]) == {0}
    low, high = cls.channel.range
    assert low <= batch["value"].min() < batch["value"].max() <= high


@each_sensor
@each_noise
def test_the_same_seed_gives_the_same_readings(cls, noise):
    first, second = (cls(7, seed=5, noise=noise).read_batch(5000) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@each_sensor
@each_noise
@pytest.mark.parametrize("other", [{"sensor_id": 8}, {"seed": 6}, {"seed": None}], ids=repr)
def test_another_number_or_seed_gives_other_readings(cls, noise, other):
    usual = {"sensor_id": 7, "seed": 5, "noise": noise}
    first, second = (cls(**arguments).read_batch(5000)["value"] for arguments in (usual, usual | other))
    assert np.mean(first == second) < 0.1


@given(
    cuts=st.lists(st.one_of(st.none(), st.integers(1, 12_000)), min_size=1, max_size=12),
    rate=st.sampled_from([0.3, 5.0, 44.0, 100.0, 1e4, 3e4]),
    cls=st.sampled_from(SIMULATED),
    noise=st.sampled_from(["walk", "uniform"]),
)
@settings(max_examples=examples(40))
def test_how_reads_are_split_changes_nothing(cuts, rate, cls, noise):
    split = cls(1, rate=rate, seed=2, noise=noise)
    parts = [np.array([split.read()], READING) if n is None else split.read_batch(n) for n in cuts]
    whole = cls(1, rate=rate, seed=2, noise=noise).read_batch(sum(map(len, parts)))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert [type(field) for field in split.read()] == [float, int, int, int, float]


@each_sensor
@pytest.mark.parametrize(("rate", "every"), [(1e3, 10), (1e4, 100), (1e5, 1000)])
def test_the_rate_changes_the_sampling_only(cls, rate, every):
    slow = cls(1, rate=100, seed=3).read_batch(500)
    fast = cls(1, rate=rate, seed=3).read_batch(500 * every)[::every]
    np.testing.assert_allclose(fast["value"], slow["value"], rtol=1e-12)
    np.testing.assert_allclose(fast["timestamp"], slow["timestamp"], rtol=1e-12)


@pytest.mark.parametrize(
    ("cls", "steepest"),
    [  # in the channel's unit a second
        (EngineTemperatureSensor, 25.0),
        (TirePressureSensor, 1.0),
        (SpeedSensor, 60 * 3.6),  # 6 G
        (GForceSensor, 20.0),
        (FuelLevelSensor, 30.0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("rate", [20.0, 100.0, 1e4])
def test_values_move_smoothly(cls, steepest, rate):
    values = cls(1, rate=rate, seed=4).read_batch(100_000)["value"]
    assert np.abs(np.diff(values)).max() * rate <= steepest
    assert np.ptp(values) > 0


@pytest.mark.parametrize(
    ("cls", "every", "shortest", "longest"),
    [  # [s]
        (EngineTemperatureSensor, 34, 1.1, 3.1),
        (TirePressureSensor, 33, 0.5, 2.3),
        (SpeedSensor, 36, 1.4, 2.8),
        (GForceSensor, 36, 0.8, 1.6),
        (FuelLevelSensor, 606, 25, 70),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_excursions_beyond_the_default_thresholds(cls, every, shortest, longest):
    rate, seconds = 50, 40_000
    values = cls(1, rate=rate, seed=9).read_batch(rate * seconds)["value"]
    found = episodes(default_threshold(cls.channel).over(values))
    durations = (found[:, 1] - found[:, 0]) / rate
    assert seconds / len(found) == pytest.approx(every, rel=0.1)
    assert shortest <= durations.min() <= durations.max() <= longest


@each_sensor
def test_an_excursion_is_one_rise_at_any_rate(cls):
    seconds = 700 if cls is FuelLevelSensor else 60
    threshold = default_threshold(cls.channel)
    rises = [
        len(episodes(threshold.over(cls(3, rate=rate, seed=1).read_batch(int(rate * seconds))["value"])))
        for rate in (100.0, 5000.0)
    ]
    assert rises[0] == rises[1] >= 1


def test_fuel_only_climbs_when_refuelled():
    values = FuelLevelSensor(1, rate=10, seed=2).read_batch(30_000)["value"]
    climbing = episodes(np.diff(values) > 0)
    assert len(climbing) in (4, 5)  # stops in 3,000 s
    assert (np.diff(climbing) <= 9.5 * 10).all()
    assert all(values[stop] > 97 and values[start] < 12 for start, stop in climbing)


@each_sensor
def test_uniform_noise_is_uniform(cls):
    values = cls(1, seed=1, noise="uniform").read_batch(100_000)["value"]
    low, high = cls.channel.range
    counts, _ = np.histogram(values, bins=20, range=(low, high))
    assert counts.sum() == 100_000
    assert (np.abs(counts - 5000) < 400).all()  # over five standard deviations of 69
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("read", [0, 3, 1023, 1024], ids="after {} reads".format)
@each_noise
def test_readings_are_written_to_an_array_as_they_are_read(noise, read):
    sensor, same = (SpeedSensor(1, seed=6, noise=noise) for _ in range(2))
    for _ in range(read):
        assert sensor.read() == same.read()
    out = np.zeros(3000, READING)
    for part in (out[:1000], out[1000:1000], out[1000:1001], out[1001:]):
        sensor.write_batch(part)
    np.testing.assert_array_equal(out, same.read_batch(3000))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros(5, "f8"),
        np.zeros((5, 1), READING),
        np.zeros(10, READING)[::2],
        np.broadcast_to(np.zeros((), READING), 5),
        [(0.0, 0, 0, 0, 0.0)] * 5,
    ],
    ids=["another dtype", "a table", "with gaps", "read-only", "a list"],
)
def test_readings_are_written_to_nothing_else(out):
    sensor = SpeedSensor(1, seed=6)
    with pytest.raises(TypeError, match=r"SpeedSensor 1.*expected a contiguous, writeable array of f1buf\.READING"):
        sensor.write_batch(out)
    np.testing.assert_array_equal(sensor.read_batch(10), SpeedSensor(1, seed=6).read_batch(10))


def test_a_batch_is_the_callers_own():
    sensor = SpeedSensor(1, seed=1)
    batch = sensor.read_batch(1000)
    kept = batch.copy()
    sensor.read_batch(10_000)
    np.testing.assert_array_equal(batch, kept)
    batch["value"] = -1
    assert sensor.read()[4] != -1


@each_noise
@pytest.mark.parametrize("read", [0, 1000], ids=["before it is read", "after some reads"])
def test_a_copy_goes_on_as_the_original(read, noise):
    sensor = SpeedSensor(1, seed=1, noise=noise)
    if read:
        sensor.read_batch(read)
    copy = pickle.loads(pickle.dumps(sensor))
    np.testing.assert_array_equal(copy.read_batch(20_000), sensor.read_batch(20_000))


@pytest.mark.parametrize("rate", [1e-3, 1.0, 25_600.0, 1e6], ids="{:g} Hz".format)
def test_very_low_and_very_high_rates(rate):
    batch = SpeedSensor(1, rate=rate, seed=1).read_batch(6000)
    np.testing.assert_array_max_ulp(batch["timestamp"], np.arange(6000) / rate)  # 1: 32-bit PCs round some twice
    assert batch["value"].min() >= 0
    assert batch["value"].max() <= 350


@each_sensor
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sensor_id": -1}, ValueError, "sensor_id is -1"),
        ({"sensor_id": 2**32}, ValueError, "sensor_id is 4294967296"),
        ({"sensor_id": 1.0}, TypeError, "float"),
        ({"sensor_id": 1, "rate": 0}, ValueError, "rate is 0"),
        ({"sensor_id": 1, "rate": -5}, ValueError, "rate is -5"),
        ({"sensor_id": 1, "rate": float("nan")}, ValueError, "rate is nan"),
        ({"sensor_id": 1, "rate": float("inf")}, ValueError, "rate is inf"),
        ({"sensor_id": 1, "noise": "pink"}, ValueError, "noise is 'pink': expected 'walk' or 'uniform'"),
        ({"sensor_id": 1, "seed": -1}, ValueError, "non-negative"),
    ],
    ids=repr,
)
def test_arguments_that_make_no_sense(cls, arguments, error, words):
    with pytest.raises(error, match=words):
        cls(**arguments)


@pytest.mark.parametrize("n", [0, -1])
@pytest.mark.parametrize("make", [lambda: SpeedSensor(1), lambda: Constant(1)], ids=["simulated", "own"])
def test_a_batch_has_at_least_one_reading(make, n):
    with pytest.raises(ValueError, match=f"n is {n}"):
        make().read_batch(n)


def test_the_import_does_without_what_only_some_programs_need():
    """These take as long as the rest of the telemetry."""
    seldom = {"tomllib", "numpy.random", "asyncio", "pyarrow", "rich"}
    code = "import sys, numpy; before = {*sys.modules}; import f1buf.telemetry; print(*{*sys.modules} - before)"
    assert not seldom & set(run_python(code).split())


# --- a user's own sensors ------------------------------------------------------------------------------------------


class Constant(Sensor):
    channel = Channel("CONSTANT", "V", (0, 10))

    def read(self):
        return self.reading(4.2, timestamp=1.5)


class Countdown(Sensor):
    channel = Channel("COUNTDOWN", "", (0, 10))
    left = 5

    def read(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.reading(self.left)


def test_a_channel_and_a_sensor_of_ones_own():
    sensor = Constant(9)
    assert sensor.rate == 100
    assert sensor.read() == (1.5, 9, Constant.channel.number, 0, 4.2)
    batch = sensor.read_batch(3)
    assert batch.dtype == READING
    assert batch.tolist() == [sensor.read()] * 3
    assert repr(sensor) == "<Constant 9: CONSTANT [V] at 100 Hz>"


def test_a_simulated_sensor_of_ones_own():
    class BrakeTemperatureSensor(SimulatedSensor):
        channel = Channel("BRAKE_TEMP", "°C", (100, 1000))
        wander = 2.0

        def motion(self, rng):  # heats up in braking, cools slowly
            return np.tile([1.5, 9.0], 20), rng.uniform([700, 150], [950, 250], (20, 2)).ravel()

    values = BrakeTemperatureSensor(1, seed=1).read_batch(10_000)["value"]
    assert 140 < values.min() < 260
    assert 690 < values.max() < 960


def test_a_simulated_sensor_needs_no_motion_of_its_own():
    class Voltage(SimulatedSensor):
        channel = Channel("VOLTAGE", "V", (10, 15))

    values = Voltage(1, seed=1).read_batch(100_000)["value"]
    assert 10.5 <= values.min() < 11
    assert 14 < values.max() <= 14.5


def test_a_motion_stays_within_the_range():
    class Wild(SimulatedSensor):
        channel = Channel("WILD", "", (0, 1))

        def motion(self, rng):
            return np.array([1.0, 1.0]), np.array([-5.0, 5.0])

    values = Wild(1, seed=1).read_batch(1000)["value"]
    assert (values.min(), values.max()) == (0, 1)


@pytest.mark.parametrize(
    ("durations", "levels", "words"),
    [
        (
            [1.0, 2.0],
            [3.0],
            r"motion\(\) returned durations of shape \(2,\) with levels of shape \(1,\)",
        ),
        ([], [], r"shape \(0,\) .* at least one"),
        ([[1.0]], [[3.0]], r"shape \(1, 1\)"),
        ([1.0, 0.0], [3.0, 4.0], r"a duration of 0.0 s: expected above 0"),
        ([1.0, -2.0], [3.0, 4.0], r"a duration of -2.0 s"),
        ([np.nan, 1.0], [3.0, 4.0], r"a duration of nan s"),
        ([1.0, np.inf], [3.0, 4.0], r"a duration of inf s"),
    ],
)
def test_a_motion_that_makes_no_sense(durations, levels, words):
    class Still(SimulatedSensor):
        channel = Channel("STILL_SENSOR", "", (0.0, 10.0))

        def motion(self, rng):
            return durations, levels

    with pytest.raises(ValueError, match=words):
        Still(1).read_batch(10)


@pytest.mark.parametrize(
    "arguments",
    [(-1, 4, 0), (3, 2, 0), (0, 11, 0), (0, 10, -1), (0, 10, 31), (0, 1, 40)],
    ids=lambda arguments: str(arguments),
)
def test_ramps_stay_within_their_arrays(arguments):
    """Ten readings; four ramps of ten."""
    start, stop, place = arguments
    out = np.zeros(10, READING)
    with pytest.raises(IndexError):
        write_ramps(out, start, stop, 1, 1, 0, 100.0, np.zeros(5), 10, place)
    assert not out.tobytes().strip(b"\0")


@pytest.mark.parametrize(("times", "levels"), [(1, 1), (0, 0), (3, 2)])
def test_a_motion_has_as_many_levels_as_times(times, levels):
    with pytest.raises(IndexError):
        ease(np.zeros(3), 0.1, 0, np.zeros(times), np.zeros(levels), 0.0, 1.0)


def test_a_motion_that_ends_too_early_is_followed_no_further():
    """What lies behind its waypoints in memory is none of them."""
    waypoints = np.arange(20.0)
    assert ease(np.zeros(15), 1.0, 0, waypoints[:3], waypoints[:3], 0.0, 10.0) == 1


def test_the_readings_of_a_seed_are_those_of_a_formula():
    """Operation by operation, as numpy does it: a fused multiply and add would give other last bits."""
    rng = np.random.default_rng(1)
    knots, steps, rate = rng.random(101), 7, 97.3
    out = np.zeros(690, READING)
    write_ramps(out, 0, 690, 5, 3, 1000, rate, knots, steps, 5)
    places = np.arange(5, 695)
    slopes = np.diff(knots) / steps
    assert out["value"].tolist() == (slopes[places // steps] * (places % steps) + knots[places // steps]).tolist()
    assert out["timestamp"].tolist() == ((1000 + np.arange(690)) / rate).tolist()
    assert set(zip(*(out[name].tolist() for name in ("sensor_id", "channel", "flags")), strict=True)) == {(5, 3, 0)}


def test_uniform_noise_never_rounds_out_of_the_range():
    class Narrow(SimulatedSensor):
        channel = Channel("NARROW", "", (0.1, np.nextafter(0.1, 1)))

    assert set(Narrow(1, seed=1, noise="uniform").read_batch(1000)["value"]) <= {0.1, np.nextafter(0.1, 1)}


def test_a_reading_is_of_now_unless_it_says_otherwise():
    before = time.time()
    timestamp = Countdown(1).read()[0]
    assert before <= timestamp <= time.time()


class Odd(Sensor):
    """Its readings have these channel numbers."""

    channel = Channel("ODD", "V")
    numbers = ()

    def read(self):
        number = self.numbers[self.done]
        self.done += 1
        return 0.0, self.sensor_id, number, 0, float(self.done)

    done = 0


class OddBatches(Odd):
    def read_batch(self, n):
        batch = np.zeros(len(self.numbers), READING)
        batch["channel"] = self.numbers
        batch["value"] = np.arange(1, len(batch) + 1)
        return batch


class OddLists(Odd):
    def read_batch(self, n):
        return [self.read() for _ in self.numbers]


def paced(sensor, **options):
    """Its readings' values, and what it failed with."""
    values = []
    try:
        for batch in PacedSensor(sensor, rate=None, **options).batches(threading.Event()):
            assert batch.dtype == READING
            values += batch["value"].tolist()
    except ValueError as error:
        return values, str(error)
    return values, None


@pytest.mark.parametrize("bad", [0, 65_535, 60_000])
@pytest.mark.parametrize("cls", [Odd, OddBatches, OddLists])
def test_a_channel_number_that_is_no_channels(cls, bad):
    own = Odd.channel.number
    sensor = cls(5)
    sensor.numbers = own, SPEED.number, bad, own
    message = (
        f"a reading has the channel number {bad}, which is no channel's; expected that of a Channel, such as {own} of "
        "ODD [V]: self.reading(value) fills it in"
    )
    assert paced(sensor, count=4) == ([1.0, 2.0], message)  # what was good before it is not lost


def test_a_channel_number_that_is_no_channels_at_once():
    sensor = OddBatches(5)
    sensor.numbers = (0,)
    values, message = paced(sensor, count=1)
    assert values == []
    assert "channel number 0," in message
    one_by_one = SensorAtIntervals(sensor, lambda: 0.0, 1)
    with pytest.raises(ValueError, match="channel number 0,"):
        list(one_by_one.batches(threading.Event()))


class ReadsOddly(SpeedSensor):
    def read_batch(self, n):
        batch = super().read_batch(n)
        batch["channel"] = 60_000
        return batch


class WritesOddly(SpeedSensor):
    def write_batch(self, out):
        super().write_batch(out)
        out["channel"] = 60_000


@pytest.mark.parametrize("count", [None, 4])
@pytest.mark.parametrize("cls", [ReadsOddly, WritesOddly])
def test_what_a_subclass_makes_of_simulated_readings_is_checked(cls, count):
    values, message = paced(cls(5), count=count)
    assert values == []
    assert "channel number 60000," in message


def test_a_sensor_with_a_bad_channel_number_is_named():
    sensor = Odd(5)
    sensor.numbers = Odd.channel.number, 60_000
    system = F1TelemetrySystem()
    system.start_telemetry(sensors=[sensor], rate=None)
    system.wait()
    with pytest.raises(TelemetryError, match=r"^Odd 5 failed: ValueError: a reading has the channel number 60000"):
        system.shutdown()
    assert system.summary.analysed == 1


def test_a_sensor_that_ends():
    sensor = Countdown(1)
    assert sensor.read()[4] == 4
    assert sensor.read_batch(3)["value"].tolist() == [3, 2, 1]
    assert sensor.read_batch(3)["value"].tolist() == [0]
    for _ in range(2):
        empty = sensor.read_batch(3)
        assert (len(empty), empty.dtype) == (0, READING)
    with pytest.raises(StopIteration):
        sensor.read()


def test_many_readings_at_once():
    values = np.array([1.0, 2.0])
    batch = Constant(3).readings(values, [10, 11])
    assert batch.tolist() == [(10, 3, Constant.channel.number, 0, 1), (11, 3, Constant.channel.number, 0, 2)]
    values[0] = 99
    assert batch["value"][0] == 1


@pytest.mark.parametrize(("values", "timestamps"), [([1, 2], [1]), ([[1]], [[1]]), (1, 1)], ids=repr)
def test_many_readings_that_do_not_fit(values, timestamps):
    with pytest.raises(ValueError, match=r"CONSTANT.*expected two of shape \(n,\)"):
        Constant(3).readings(values, timestamps)


def test_a_sensor_needs_a_read_method():
    class NoRead(Sensor):
        channel = SPEED

    with pytest.raises(TypeError, match="abstract"):
        NoRead(1)


@pytest.mark.parametrize("channel", [None, "SPEED"], ids=repr)
def test_a_sensor_needs_a_channel(channel):
    class NoChannel(Sensor):
        def read(self):
            raise StopIteration

    if channel is not None:
        NoChannel.channel = channel
    with pytest.raises(TypeError, match="NoChannel needs a class attribute `channel`"):
        NoChannel(1)


def test_a_simulated_sensor_needs_a_finite_range():
    class Endless(SimulatedSensor):
        channel = Channel("ENDLESS", "m")

    with pytest.raises(ValueError, match=r"ENDLESS \[m\]: a simulated sensor needs a channel with a finite range"):
        Endless(1)


# --- blocks of a data-acquisition card -----------------------------------------------------------------------------

VOLTS = Channel("INPUT", "V", (-10, 10))
AMPERES = Channel("INPUT", "A", (0, 20))


def test_a_block_becomes_readings_scan_by_scan():
    block = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    readings = readings_from_block(block, [7, 8], 100.0, 4, channels=[VOLTS, AMPERES])
    assert readings.dtype == READING
    assert readings.tolist() == [
        (100.0, 7, VOLTS.number, 0, 1.0),
        (100.0, 8, AMPERES.number, 0, 2.0),
        (100.25, 7, VOLTS.number, 0, 3.0),
        (100.25, 8, AMPERES.number, 0, 4.0),
        (100.5, 7, VOLTS.number, 0, 5.0),
        (100.5, 8, AMPERES.number, 0, 6.0),
    ]
    block[:] = 0
    assert readings["value"][0] == 1


@pytest.mark.parametrize("dtype", ["i2", ">i2", "u1", "f4", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_block_of_any_real_numbers(dtype, order):
    block = np.array([[0, 1], [1, 0]], dtype=dtype, order=order)
    readings = readings_from_block(block, (1, 2), 0, 1, channels=VOLTS)
    assert readings["value"].tolist() == [0, 1, 1, 0]
    assert set(readings["channel"]) == {VOLTS.number}
    assert len(readings_from_block(block[:0], (1, 2), 0, 1, channels=VOLTS)) == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"block": np.zeros(3)}, ValueError, r"shape \(3,\): expected \(scans, columns\); one input makes"),
        ({"block": np.zeros((2, 2, 2))}, ValueError, r"shape \(2, 2, 2\): expected \(scans, columns\)$"),
        ({"block": np.zeros((5, 3))}, ValueError, "3 columns, but there are 2 sensor_ids$"),
        ({"block": np.zeros((2, 5))}, ValueError, "5 columns, but there are 2 sensor_ids; it looks transposed"),
        ({"block": np.zeros((5, 2), complex)}, TypeError, "complex128: expected real numbers"),
        ({"block": [["a", "b"]]}, TypeError, "expected real numbers"),
        ({"sensor_ids": [1, 1]}, ValueError, "a number twice"),
        ({"sensor_ids": [1, -1]}, ValueError, "sensor_id is -1"),
        ({"t0": float("nan")}, ValueError, "t0 is nan"),
        ({"rate": 0}, ValueError, "rate is 0"),
        ({"channels": [VOLTS]}, ValueError, "1 channels for 2 columns"),
        ({"channels": ["INPUT", "INPUT"]}, TypeError, "expected a Channel"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_blocks_that_do_not_fit(change, error, words):
    arguments = {"block": np.zeros((5, 2)), "sensor_ids": [1, 2], "t0": 0.0, "rate": 10.0, "channels": VOLTS}
    with pytest.raises(error, match=words):
        readings_from_block(**arguments | change)
