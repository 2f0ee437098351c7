"""Thresholds: their files, checking batches, and following a stream however it is cut."""

import json
import math
import pickle
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from f1buf._reading import READING
from f1buf.telemetry import thresholds as module
from f1buf.telemetry.channels import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    SPEED,
    TIRE_PRESSURE,
    Channel,
    TelemetryData,
)
from f1buf.telemetry.sensors import SpeedSensor
from f1buf.telemetry.thresholds import (
    PROFILES,
    Threshold,
    ThresholdError,
    ThresholdTable,
    Tracker,
    dumps,
    load_thresholds,
    loads,
)

BAR, PSI = Channel("LINE_PRESSURE", "bar", (0, 10)), Channel("LINE_PRESSURE", "psi", (0, 150))
STEERING = Channel("STEERING", "°", (-180, 180))
NOT_CHECKED = Channel("NOT_CHECKED", "", (0, 1))


# --- one threshold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "over", "not_over"),
    [
        ({"above": 5}, [5.1, math.inf], [5, -9, -math.inf, math.nan]),
        ({"below": 5}, [4.9, -math.inf], [5, 9, math.inf, math.nan]),
        ({"above": 5, "absolute": True}, [5.1, -5.1, math.inf, -math.inf], [5, -5, 0, math.nan]),
        ({"below": 5, "absolute": True}, [4.9, -4.9, 0], [5, -5, math.inf, -math.inf, math.nan]),
        ({"above": -2}, [-1], [-2, -3]),
    ],
    ids=repr,
)
def test_what_is_over(arguments, over, not_over):
    threshold = Threshold("X", message="m", **arguments)
    assert threshold.over(np.array(over)).all()
    assert not threshold.over(np.array(not_over)).any()


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ({}, "above", "missing: expected above or below"),
        ({"above": 1, "below": 2}, "below", "above is given too"),
        ({"above": math.nan}, "above", "nan: expected a finite number"),
        ({"below": -math.inf}, "below", "-inf: expected a finite number"),
        ({"above": 10**400}, "above", "expected a finite number"),
        ({"above": True}, "above", "True: expected a finite number"),
        ({"above": "7"}, "above", "'7': expected a finite number"),
        ({"above": []}, "above", "expected a finite number"),
        ({"above": -1, "absolute": True}, "above", "-1: an absolute value is never below 0"),
        ({"above": 1, "absolute": 1}, "absolute", "1: expected true or false"),
        ({"above": 1, "message": " "}, "message", "' ': expected a text that is not empty"),
        ({"above": 1, "message": None}, "message", "expected a text"),
        ({"above": 1, "channel": ""}, "channel", "expected a text"),
        ({"above": 1, "channel": SPEED}, "channel", "expected a text"),
    ],
    ids=repr,
)
def test_what_is_no_threshold(arguments, key, words):
    with pytest.raises(ThresholdError) as caught:
        Threshold(**{"channel": "X", "message": "m"} | arguments)
    assert caught.value.key == key
    assert words in caught.value.problem
    assert str(caught.value) == f"{key}: {caught.value.problem}"


def test_thresholds_are_values():
    threshold = Threshold("X", above=1, message="m")
    assert threshold == Threshold("X", above=1.0, message="m")
    assert len({threshold, Threshold("X", above=1.0, message="m"), Threshold("X", below=1, message="m")}) == 2
    assert (threshold.side, threshold.limit) == ("above", 1.0)
    with pytest.raises(AttributeError):
        threshold.above = 2


def test_an_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(ThresholdError("wrong", "above", "file.toml")))
    assert (str(error), error.key, error.source) == ("file.toml: above: wrong", "above", "file.toml")


# --- profiles and files --------------------------------------------------------------------------------------------


def test_the_default_profile():
    assert load_thresholds("default") == (
        Threshold("ENGINE_TEMP", above=110, message="High engine temperature"),
        Threshold("TIRE_PRESSURE", below=1.9, message="Low tire pressure"),
        Threshold("SPEED", above=340, message="Approaching top speed"),
        Threshold("G_FORCE", above=5.5, message="Extreme G-Force detected"),
        Threshold("FUEL_LEVEL", below=15, message="Low fuel warning"),
    )


def test_the_games_profile_knows_its_units():
    thresholds = {threshold.channel: threshold for threshold in load_thresholds("f1game")}
    ordinary = {"ENGINE_TEMP": 110, "TIRE_PRESSURE": 1.51, "SPEED": 250, "G_FORCE": -4.0, "FUEL_LEVEL": 5.8}
    assert thresholds.keys() == ordinary.keys()
    assert not any(thresholds[name].over(np.array(value)) for name, value in ordinary.items())
    assert thresholds["G_FORCE"].over(np.array([-4.7, 4.7])).all()


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_written_out_reads_back(name, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(dumps(PROFILES[name]), encoding="utf-8")
    assert load_thresholds(file) == load_thresholds(str(file)) == load_thresholds(name)
    ThresholdTable(load_thresholds(file))


def test_what_is_written_explains_itself():
    text = dumps([Threshold("A", above=1.5, message="m", absolute=True), Threshold("B", below=-2, message="n")])
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert all(any(key in line for line in comments) for key in ("channel", "above", "below", "message", "absolute"))
    assert text.splitlines()[len(comments) :] == [
        *["", "[[threshold]]", 'channel = "A"', "above = 1.5", 'message = "m"', "absolute = true"],
        *["", "[[threshold]]", 'channel = "B"', "below = -2.0", 'message = "n"'],
    ]
    assert loads(dumps([])) == ()


texts = st.text().filter(str.strip)
any_threshold = st.builds(
    lambda channel, side, limit, message, absolute: Threshold(
        channel, **{side: abs(limit) if absolute else limit}, message=message, absolute=absolute
    ),
    texts,
    st.sampled_from(["above", "below"]),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.booleans(),
)


@given(st.lists(any_threshold, max_size=4))
def test_anything_written_reads_back(some):
    assert loads(dumps(some)) == tuple(some)


def test_a_file_takes_whole_numbers_and_any_number_a_channel():
    text = '[[threshold]]\nchannel = "SPEED"\nabove = 300\nmessage = "fast"\n'
    text += '[[threshold]]\nchannel = "SPEED"\nbelow = 60\nmessage = "slow"\nabsolute = false\n'
    assert loads(text) == (
        Threshold("SPEED", above=300.0, message="fast"),
        Threshold("SPEED", below=60.0, message="slow"),
    )


GOOD = '[[threshold]]\nchannel = "SPEED"\nabove = 300\nmessage = "fast"\n'


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("above = ", "", "not TOML"),
        ("[[thresholds]]", "thresholds", "unknown key: expected only [[threshold]] tables"),
        ("threshold = 5", "threshold", "double brackets"),
        ("[threshold]\nabove = 5", "threshold", "double brackets"),
        ("threshold = [5]", "threshold[0]", "5: expected a table"),
        ("[[threshold]]", "threshold[0].channel", "missing"),
        ('[[threshold]]\nchannel = "SPEED"\nabove = 1', "threshold[0].message", "missing"),
        ('[[threshold]]\nchannel = "SPEED"\nmessage = "m"', "threshold[0].above", "missing"),
        (GOOD + GOOD + "below = 3", "threshold[1].below", "above is given too"),
        (GOOD + GOOD + GOOD.replace("300", "nan"), "threshold[2].above", "nan: expected a finite number"),
        (GOOD + GOOD + GOOD.replace("300", "true"), "threshold[2].above", "True: expected a finite number"),
        (GOOD.replace("300", "'300'"), "threshold[0].above", "'300': expected a finite number"),
        (GOOD.replace('"SPEED"', "5"), "threshold[0].channel", "5: expected a text"),
        (GOOD + "absolute = 1", "threshold[0].absolute", "1: expected true or false"),
        (GOOD + "unit = 'km/h'", "threshold[0].unit", "unknown key: expected channel, above, below, message, absolute"),
    ],
    ids=range(15),
)
def test_files_with_mistakes(text, key, words, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ThresholdError) as caught:
        load_thresholds(file)
    assert (caught.value.key, caught.value.source) == (key, str(file))
    assert words in caught.value.problem
    assert str(caught.value).startswith(f"{file}: {key}")


def test_a_file_that_is_not_utf8(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(GOOD.replace("fast", "schnell \xfc").encode("latin-1"))
    with pytest.raises(ThresholdError, match="not UTF-8"):
        load_thresholds(file)


def test_neither_profile_nor_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThresholdError, match=r"defualt: neither a file nor .* the profiles are default, f1game"):
        load_thresholds("defualt")
    (tmp_path / "default").write_text(GOOD)
    assert load_thresholds("default") == PROFILES["default"]
    assert load_thresholds("./default") == loads(GOOD)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(OSError, match="directory"):
        load_thresholds(tmp_path)


# --- tables --------------------------------------------------------------------------------------------------------


def test_an_unknown_channel_is_an_error_that_lists_the_known_ones():
    some = [Threshold("SPEED", above=1, message="m"), Threshold("SPED", above=1, message="m")]
    with pytest.raises(ThresholdError, match=r"threshold\[1\].channel: 'SPED': no such channel.*ENGINE_TEMP.*SPEED"):
        ThresholdTable(some)
    with pytest.raises(ThresholdError, match=r"the known ones are FUEL_LEVEL$"):
        ThresholdTable(some[:1], channels=[FUEL_LEVEL])
    with pytest.raises(ThresholdError, match=r"the known ones are none$"):
        ThresholdTable(some, channels=[])


def test_a_table_of_no_thresholds():
    table = ThresholdTable([])
    tracker = Tracker(table)
    assert tracker.merge(table.check(batch((SPEED, 1, 999))), 0) == []
    assert tracker.merge(table.check(batch((SPEED, 1, 999), (FUEL_LEVEL, 2, 0))), 1) == []
    assert tracker.counts() == []


@pytest.mark.parametrize(
    "what",
    [None, [1.0], np.zeros(3), np.zeros((2, 2), READING), np.zeros((), READING), np.zeros(3, [("value", "f8")])],
    ids=["None", "list", "floats", "2-d", "0-d", "other record"],
)
def test_only_readings_are_checked(what):
    with pytest.raises(TypeError, match=r"expected a one-dimensional array of f1buf\.READING, got"):
        ThresholdTable(PROFILES["default"]).check(what)


# --- following a stream --------------------------------------------------------------------------------------------


def batch(*rows):
    """Return readings of (channel, sensor, value), one a second."""
    return np.array([(i, sensor, channel.number, 0, value) for i, (channel, sensor, value) in enumerate(rows)], READING)


def follow(table, stream, cuts=(), samples=True):
    """Return the events and counts of a stream that is cut at these positions."""
    tracker = Tracker(table, samples=samples)
    events = []
    edges = [0, *cuts, len(stream)]
    for start, stop in pairwise(edges):
        events += tracker.merge(table.check(stream[start:stop]), start)
    return events, tracker.counts()


def reference(some, stream):
    """Return what `follow` should, worked out reading by reading."""
    names = {channel.number: channel.name for channel in (*CHANNELS, BAR, PSI)}
    was_over, events = {}, []
    counts = [{"readings": 0, "samples": 0, "rises": 0} for _ in some]
    for position, record in enumerate(stream):
        _, sensor, number, _, value = record.item()
        for i, threshold in enumerate(some):
            if names.get(number) != threshold.channel:
                continue
            number_or_size = abs(value) if threshold.absolute else value
            above = threshold.above is not None
            over = number_or_size > threshold.above if above else number_or_size < threshold.below
            rise = over and not was_over.get((i, number, sensor), False)
            was_over[i, number, sensor] = over
            counts[i]["readings"] += 1
            counts[i]["samples"] += over
            counts[i]["rises"] += rise
            if over:
                events.append((position, i, record.item(), "rise" if rise else "sample"))
    return events, counts


CHANNELS = (SPEED, TIRE_PRESSURE, STEERING, FUEL_LEVEL, NOT_CHECKED)
MIXED = (
    Threshold("SPEED", above=340, message="fast"),
    Threshold("TIRE_PRESSURE", below=1.9, message="soft"),
    Threshold("SPEED", above=330, message="rather fast"),
    Threshold("STEERING", above=90, absolute=True, message="turning hard"),
    Threshold("STEERING", below=1, absolute=True, message="straight on"),
    Threshold("SPEED", below=10, message="slow"),
    Threshold("LINE_PRESSURE", above=5, message="in bar and in psi"),
)


def assert_as_reference(some, stream, cuts):
    expected_events, expected_counts = reference(some, stream)
    table = ThresholdTable(some)
    events, counts = follow(table, stream, cuts)
    assert [(event.position, event.threshold, event.reading.item(), event.kind) for event in events] == expected_events
    assert [{key: count[key] for key in ("readings", "samples", "rises")} for count in counts] == expected_counts
    rises, counts_without_samples = follow(table, stream, cuts, samples=False)
    assert [event[:2] for event in rises] == [event[:2] for event in expected_events if event[3] == "rise"]
    assert counts_without_samples == counts


VALUES = [0.0, -0.5, 1.0, 1.8, 5.0, 6.0, 10.0, 90.0, -90.5, 91.0, 330.0, 335.0, 341.0, math.nan, math.inf, -math.inf]
rows = st.lists(
    st.tuples(
        st.sampled_from([channel.number for channel in (*CHANNELS, BAR, PSI)] + [0, 65_535]),
        st.sampled_from([1, 2, 3, 2**32 - 1]),
        st.sampled_from(VALUES),
    ),
    max_size=40,
)


either_way = pytest.mark.parametrize("long_run", [module._LONG_RUN, 0], ids=["short runs", "series by series"])


@either_way
@given(some=rows, cuts=st.lists(st.integers(0, 40), max_size=10))
@settings(deadline=None, max_examples=200)
def test_any_stream_cut_anyhow_is_as_the_reference(some, cuts, long_run):
    stream = np.array([(i, sensor, number, 0, value) for i, (number, sensor, value) in enumerate(some)], READING)
    with mock.patch.object(module, "_LONG_RUN", long_run):
        assert_as_reference(MIXED, stream, sorted(min(cut, len(stream)) for cut in cuts))


@either_way
def test_a_sensor_falls_back_while_another_crosses(long_run):
    """Its next rise is one, though in the batch where it fell back it is not among those that are over."""
    stream = batch((SPEED, 1, 341), (SPEED, 1, 200), (SPEED, 2, 341), (SPEED, 1, 341))
    with mock.patch.object(module, "_LONG_RUN", long_run):
        assert_as_reference(MIXED, stream, [1, 3])


def long_stream(rng, *, sensors, run, calm):
    """Return 6,000 readings: runs of readings of one sensor, each going over and back at random.

    In the parts of 1,000 readings that `calm` names nothing is over: there all sensors that were fall back, seen or
    unseen.
    """
    n = 6000
    ids = rng.integers(0, 2**32, sensors, dtype=np.uint32)
    sensor = np.repeat(rng.integers(0, sensors, n), rng.integers(1, run + 1, n))[:n]
    over = (np.cumsum(rng.random((n, sensors)) < 0.02, axis=0) + np.arange(sensors)) % 2 == 1
    quiet = np.isin(np.arange(n) // 1000, calm)
    kind = sensor % 3
    stream = np.zeros(n, READING)
    stream["timestamp"] = np.arange(n)
    stream["flags"] = np.arange(n) // 700  # of no account: a series goes on
    stream["sensor_id"] = ids[sensor]
    stream["channel"] = np.array([SPEED.number, TIRE_PRESSURE.number, STEERING.number])[kind]
    high, low = np.array([345.0, 1.8, -100.0]), np.array([200.0, 2.1, 30.0])
    stream["value"] = np.where(over[np.arange(n), sensor] & ~quiet, high[kind], low[kind])
    return stream


@pytest.mark.parametrize("sensors", [1, 3, 60])
@pytest.mark.parametrize("run", [1, 300, 2000], ids=["interleaved", "in runs", "in long runs"])
@pytest.mark.parametrize("cut", [100, 513, 1000, 6000])
@pytest.mark.parametrize("seed", [1, 2])
def test_long_batches_are_as_the_reference(sensors, run, cut, seed):
    rng = np.random.default_rng(seed)
    stream = long_stream(rng, sensors=sensors, run=run, calm=[2, 4])
    assert_as_reference(MIXED, stream, range(cut, len(stream), cut))
    assert_as_reference(MIXED, stream, np.sort(rng.integers(0, len(stream), 20)).tolist())


def test_everything_over_all_the_time():
    stream = np.zeros(22_000, READING)
    stream["sensor_id"] = np.arange(22_000) % 220
    stream["channel"] = np.where(stream["sensor_id"] < 88, TIRE_PRESSURE.number, SPEED.number)
    stream["value"] = np.where(stream["sensor_id"] < 88, 1.5, 200)
    rises, counts = follow(ThresholdTable(PROFILES["default"]), stream, range(0, 22_000, 1000), samples=False)
    assert [(event.position, event.threshold, event.kind) for event in rises] == [(i, 1, "rise") for i in range(88)]
    assert counts[1] == {
        "channel": "TIRE_PRESSURE",
        "below": 1.9,
        "message": "Low tire pressure",
        "readings": 8800,
        "samples": 8800,
        "rises": 88,
    }


@pytest.mark.parametrize(
    ("values", "cuts", "positions"),
    [
        ([345], [], [0]),
        ([345, 345], [1], [0]),
        ([300, 345, 345], [], [1]),
        ([345, 300, 345], [], [0, 2]),
        ([345, 300, 345], [1], [0, 2]),
        ([345, 300, 345], [1, 2], [0, 2]),
        ([345, 300, 300, 345], [1, 3], [0, 3]),
        ([345, math.nan, 345], [1, 2], [0, 2]),
        ([340, 340.1], [], [1]),
        ([300, 300], [1], []),
    ],
    ids=repr,
)
def test_rises_of_one_sensor(values, cuts, positions):
    table = ThresholdTable(PROFILES["default"])
    rises, _ = follow(table, batch(*[(SPEED, 7, value) for value in values]), cuts, samples=False)
    assert [event.position for event in rises] == positions


@pytest.mark.parametrize("cuts", [[], [1], [1, 2], [1, 3], [1, 2, 3], [3]], ids=repr)
def test_each_sensor_and_each_channel_is_a_series_of_its_own(cuts):
    stream = batch((SPEED, 1, 345), (SPEED, 2, 300), (G_FORCE, 1, 1.0), (SPEED, 1, 345), (SPEED, 2, 345))
    rises, _ = follow(ThresholdTable(PROFILES["default"]), stream, cuts, samples=False)
    assert [event.position for event in rises] == [0, 4]


def test_a_threshold_applies_to_every_unit_of_its_channel():
    stream = batch((BAR, 1, 6), (PSI, 1, 3), (PSI, 2, 80), (BAR, 1, 7))
    events, (count,) = follow(ThresholdTable(MIXED[-1:]), stream)
    assert [(event.position, event.kind) for event in events] == [(0, "rise"), (2, "rise"), (3, "sample")]
    assert (count["readings"], count["samples"], count["rises"]) == (4, 3, 2)
    _, (count,) = follow(ThresholdTable(MIXED[-1:], channels=[BAR]), stream)
    assert (count["readings"], count["samples"], count["rises"]) == (2, 2, 1)


def test_events_come_by_position_then_by_threshold():
    some = [Threshold("SPEED", above=limit, message="m") for limit in (340, 320, 330)]
    stream = batch((SPEED, 2, 335), (SPEED, 1, 350), (SPEED, 2, 350))
    tracker = Tracker(table := ThresholdTable(some), samples=True)
    events = tracker.merge(table.check(stream), 1_000_000)
    assert [(event.position - 1_000_000, event.threshold, event.kind) for event in events] == [
        *[(0, 1, "rise"), (0, 2, "rise")],
        *[(1, 0, "rise"), (1, 1, "rise"), (1, 2, "rise")],
        *[(2, 0, "rise"), (2, 1, "sample"), (2, 2, "sample")],
    ]


def test_an_event_keeps_its_reading():
    stream = batch((ENGINE_TEMP, 5, 100), (ENGINE_TEMP, 5, 115))
    (event,), _ = follow(ThresholdTable(PROFILES["default"]), stream, samples=False)
    stream["value"] = 0
    assert event.reading.dtype == READING
    assert TelemetryData.from_reading(event.reading) == (1.0, 5, "ENGINE_TEMP", 115.0, "°C")


def test_counts_go_into_json():
    some = [*PROFILES["f1game"], Threshold("SPEED", below=50, message="slow")]
    _, counts = follow(ThresholdTable(some), batch((SPEED, 1, 345), (G_FORCE, 1, -5.0), (SPEED, 1, 345)))
    assert json.loads(json.dumps(counts)) == counts
    assert counts[3] == {
        "channel": "G_FORCE",
        "above": 4.5,
        "absolute": True,
        "message": "Extreme G-Force detected",
        "readings": 1,
        "samples": 1,
        "rises": 1,
    }
    assert [(count["readings"], count["samples"], count["rises"]) for count in counts] == [
        *[(0, 0, 0), (0, 0, 0), (2, 2, 1), (1, 1, 1), (0, 0, 0), (2, 0, 0)]
    ]


def test_crossings_tell_whether_anything_is_over():
    table = ThresholdTable(PROFILES["default"])
    assert table.check(batch((SPEED, 1, 345), (FUEL_LEVEL, 2, 50)))
    assert not table.check(batch((SPEED, 1, 300), (FUEL_LEVEL, 2, 50)))
    assert not table.check(np.zeros(0, READING))


def test_a_batch_may_be_any_view_and_is_not_changed():
    table = ThresholdTable(MIXED)
    stream = long_stream(np.random.default_rng(3), sensors=10, run=1, calm=[])
    stream.flags.writeable = False
    expected = follow(table, stream[::2].copy(), range(100, 3000, 100))
    events, counts = follow(table, stream[::2], range(100, 3000, 100))
    assert counts == expected[1]
    assert [event[:2] for event in events] == [event[:2] for event in expected[0]]


def test_threads_check_the_batches_of_one_stream():
    table = ThresholdTable(MIXED)
    stream = long_stream(np.random.default_rng(4), sensors=20, run=50, calm=[1])
    starts = range(0, len(stream), 100)
    tracker = Tracker(table)
    with ThreadPoolExecutor(4) as pool:
        checked = list(pool.map(lambda start: table.check(stream[start : start + 100]), starts))
    events = []
    for start, crossings in zip(starts, checked, strict=True):
        events += tracker.merge(crossings, start)
    expected, counts = follow(table, stream, samples=False)
    assert [event[:2] for event in events] == [event[:2] for event in expected]
    assert tracker.counts() == counts


def test_a_threshold_of_ones_own_on_a_sensor_of_ones_own():
    class PitSpeedSensor(SpeedSensor):
        channel = Channel("PIT_SPEED", "km/h", (0, 100))
        wander = 0.0

        def motion(self, rng):
            return np.array([5.0, 5.0]), rng.uniform([70, 81], [79, 90])

    table = ThresholdTable([Threshold("PIT_SPEED", above=80, message="Too fast in the pit lane")])
    tracker = Tracker(table)
    events = tracker.merge(table.check(PitSpeedSensor(1, seed=1).read_batch(10_000)), 0)
    assert len(events) == tracker.counts()[0]["rises"] == 11


def test_what_dumps_writes_is_plain_toml():
    tables = tomllib.loads(dumps(PROFILES["f1game"]))["threshold"]
    assert [table["channel"] for table in tables] == [threshold.channel for threshold in PROFILES["f1game"]]
