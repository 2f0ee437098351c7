"""Thresholds: their files, checking batches, and following a stream however it is cut into batches."""

import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from cli_helpers import expected_events
from helpers import examples, thorough
from hypothesis import given, settings
from hypothesis import strategies as st

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    SPEED,
    TIRE_PRESSURE,
    Channel,
    TelemetryData,
    channels_by_name,
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
def test_values_that_are_over_a_threshold(arguments, over, not_over):
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
        ({"above": 1, "hysteresis": -0.5}, "hysteresis", "-0.5: expected 0 or more"),
        ({"above": 1, "hysteresis": math.inf}, "hysteresis", "inf: expected a finite number"),
        ({"above": 1, "hysteresis": "5"}, "hysteresis", "'5': expected a finite number"),
        ({"above": 1, "hysteresis": None}, "hysteresis", "None: expected a finite number"),
        ({"above": 1, "min_duration": -1}, "min_duration", "-1: expected 0 or more"),
        ({"above": 1, "min_duration": math.nan}, "min_duration", "nan: expected a finite number"),
        ({"above": 1, "min_duration": False}, "min_duration", "False: expected a finite number"),
        ({"above": 5, "absolute": True, "hysteresis": 6}, "hysteresis", "6: no value is back by that much from 5"),
        ({"above": -1e308, "hysteresis": 1e308}, "hysteresis", "1e+308: no value is back by that much from -1e+308"),
        ({"below": 1e308, "hysteresis": 1e308}, "hysteresis", "1e+308: no value is back by that much from 1e+308"),
    ],
    ids=repr,
)
def test_a_wrong_threshold_is_refused(arguments, key, words):
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
    assert (threshold.hysteresis, threshold.min_duration, threshold.damping) == (0.0, 0.0, {})
    with pytest.raises(AttributeError):
        threshold.above = 2
    damped = Threshold("X", above=1, message="m", hysteresis=1, min_duration=np.float32(0.5))
    assert damped.damping == {"hysteresis": 1.0, "min_duration": 0.5}
    assert damped != threshold
    assert pickle.loads(pickle.dumps(damped)) == damped
    assert damped.as_dict() == {"above": 1.0, "hysteresis": 1.0, "min_duration": 0.5}


@pytest.mark.parametrize(
    ("arguments", "release", "held", "not_held"),
    [
        ({"above": 110, "hysteresis": 5}, 105, [105.1, 110, 111, math.inf], [105, 0, -math.inf, math.nan]),
        ({"below": 1.5, "hysteresis": 0.5}, 2, [1.9, 1.5, 1, -math.inf], [2, 9, math.inf, math.nan]),
        ({"above": 5, "absolute": True, "hysteresis": 5}, 0, [0.1, -0.1, 9, -9, math.inf], [0, -0.0, math.nan]),
        ({"below": 5, "absolute": True, "hysteresis": 2}, 7, [0, 6.9, -6.9], [7, -7, -math.inf, math.nan]),
        ({"above": -2, "hysteresis": 3}, -5, [-4.9, 0], [-5, -6]),
        ({"above": 5, "min_duration": 9}, 5, [5.1], [5, math.nan]),
    ],
    ids=repr,
)
def test_values_that_keep_a_series_over(arguments, release, held, not_held):
    threshold = Threshold("X", message="m", **arguments)
    assert threshold.release == release
    assert threshold.held(np.array(held)).all()
    assert not threshold.held(np.array(not_held)).any()


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


def test_a_written_file_explains_itself():
    damped = Threshold("C", above=3, message="o", hysteresis=0.5, min_duration=2)
    some = [Threshold("A", above=1.5, message="m", absolute=True), Threshold("B", below=-2, message="n"), damped]
    text = dumps(some)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    keys = ("channel", "above", "below", "message", "absolute", "hysteresis", "min_duration")
    assert all(any(key in line for line in comments) for key in keys)
    assert text.splitlines()[len(comments) :] == [
        *["", "[[threshold]]", 'channel = "A"', "above = 1.5", 'message = "m"', "absolute = true"],
        *["", "[[threshold]]", 'channel = "B"', "below = -2.0", 'message = "n"'],
        *["", "[[threshold]]", 'channel = "C"', "above = 3.0", 'message = "o"', "hysteresis = 0.5"],
        "min_duration = 2.0",
    ]
    assert loads(dumps([])) == ()


texts = st.text().filter(str.strip)
any_threshold = st.builds(
    lambda channel, side, limit, message, absolute, part, min_duration: Threshold(
        channel,
        **{side: abs(limit) if absolute else limit},
        message=message,
        absolute=absolute,
        hysteresis=part * abs(limit),
        min_duration=min_duration,
    ),
    texts,
    st.sampled_from(["above", "below"]),
    st.floats(-1e300, 1e300),
    texts,
    st.booleans(),
    st.floats(0, 1),
    st.one_of(st.just(0.0), st.floats(0, allow_infinity=False)),
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
    assert loads(GOOD + "hysteresis = 10\nmin_duration = 0.25") == (
        Threshold("SPEED", above=300.0, message="fast", hysteresis=10.0, min_duration=0.25),
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
        (GOOD.replace('"SPEED"', "5"), "threshold[0].channel", "5: expected a text"),
        (GOOD + "hysteresis = -1", "threshold[0].hysteresis", "-1: expected 0 or more"),
        (GOOD + "min_duration = 07:32:00", "threshold[0].min_duration", "expected a finite number"),
        (GOOD + "unit = 'km/h'", "threshold[0].unit", "unknown key: expected channel, above, below, message, absolute"),
    ],
    ids=range(14),
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


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + dumps(PROFILES["f1game"]).encode())
    assert load_thresholds(tmp_path / "mine.toml") == PROFILES["f1game"]


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
    with pytest.raises(
        ThresholdError, match=r"(?s)threshold\[1\].channel: 'SPED': no such channel.*ENGINE_TEMP.*SPEED"
    ):
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


@pytest.mark.parametrize("place", ["every third", "backwards", "one byte off"])
def test_a_batch_may_lie_anyhow_in_memory(place):
    stream = wavering_stream(np.random.default_rng(3), sensors=9, run=40)
    if place == "one byte off":
        memory = np.zeros(stream.nbytes + 1, np.uint8)
        odd = memory[1:].view(READING)
        odd[:] = stream
        assert odd.ctypes.data % 2
    else:
        odd = stream[::3] if place == "every third" else stream[::-1]
        assert not odd.flags.c_contiguous
    table = ThresholdTable(MIXED)
    assert repr(follow(table, odd)) == repr(follow(table, odd.copy()))


@pytest.mark.parametrize("sensors", [1, 31, 32, 33, 5000])
def test_any_number_of_series_may_be_over_at_once(sensors):
    """However many, and in whatever order they come."""
    ids = np.random.default_rng(5).permutation(np.arange(2**32 - 1, 2**32 - 1 - 7 * sensors, -7, dtype=np.uint32))
    stream = np.zeros(3 * sensors, READING)
    stream["channel"] = SPEED.number
    stream["sensor_id"] = np.concatenate([ids, ids[::-1], ids])
    stream["value"] = np.repeat([341, 200, 342], sensors)
    events, _ = follow(ThresholdTable([Threshold("SPEED", above=340, message="fast")]), stream)
    assert [(event.kind, event.reading["sensor_id"]) for event in events] == [("rise", each) for each in [*ids, *ids]]


def reference(some, stream):
    """Return what `follow` should, worked out reading by reading."""
    events = expected_events(stream, some, samples=True)
    numbers = stream["channel"].tolist()
    counts = []
    for i, threshold in enumerate(some):
        kinds = [kind for _, index, kind in events if index == i]
        readings = sum(numbers.count(channel.number) for channel in channels_by_name(threshold.channel))
        counts.append({"readings": readings, "samples": len(kinds), "rises": kinds.count("rise")})
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
    expected, expected_counts = reference(some, stream)
    table = ThresholdTable(some)
    events, counts = follow(table, stream, cuts)
    assert [(event.position, event.threshold, event.kind) for event in events] == expected
    assert all(event.reading.tobytes() == stream[event.position].tobytes() for event in events)
    assert [{key: count[key] for key in ("readings", "samples", "rises")} for count in counts] == expected_counts
    rises, counts_without_samples = follow(table, stream, cuts, samples=False)
    assert [event[:2] for event in rises] == [event[:2] for event in expected if event[2] == "rise"]
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


@given(some=rows, cuts=st.lists(st.integers(0, 40), max_size=10))
@settings(max_examples=examples(200))
def test_any_stream_cut_anyhow_is_as_the_reference(some, cuts):
    stream = np.array([(i, sensor, number, 0, value) for i, (number, sensor, value) in enumerate(some)], READING)
    assert_as_reference(MIXED, stream, sorted(min(cut, len(stream)) for cut in cuts))


def test_a_sensor_falls_back_while_another_crosses():
    """Its next reading that is over is a rise, though the batch where it fell back has no sample of it."""
    stream = batch((SPEED, 1, 341), (SPEED, 1, 200), (SPEED, 2, 341), (SPEED, 1, 341))
    assert_as_reference(MIXED, stream, [1, 3])


def long_stream(rng, *, sensors, run, calm):
    """Return 6,000 readings: runs of readings of one sensor, each going over and back at random.

    In the parts of 1,000 readings that `calm` names nothing is over: there all sensors that were fall back, seen or
    unseen.
    """
    n = 6000
    ids = rng.integers(0, 2**32, sensors, dtype=np.uint32)
    sensor = np.repeat(rng.integers(0, sensors, n), rng.integers(1, run + 1, n).astype(np.intp))[:n]
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


@thorough
@pytest.mark.parametrize("sensors", [1, 3, 60])
@pytest.mark.parametrize("run", [1, 300, 2000], ids=["interleaved", "in runs", "in long runs"])
@pytest.mark.parametrize("cut", [100, 513, 1000, 6000])
@pytest.mark.parametrize("seed", [1, 2])
def test_long_batches_are_as_the_reference(sensors, run, cut, seed):
    rng = np.random.default_rng(seed)
    stream = long_stream(rng, sensors=sensors, run=run, calm=[2, 4])
    assert_as_reference(MIXED, stream, range(cut, len(stream), cut))
    assert_as_reference(MIXED, stream, np.sort(rng.integers(0, len(stream), 20)).tolist())


@pytest.mark.parametrize("sensors", [2, 3])
@pytest.mark.parametrize("run", [1, 2, 32, 62, 63, 64, 65, 66, 128])
def test_sensors_that_take_turns_are_as_the_reference(run, sensors):
    """With a length of their turns each, around that of a block of the scan."""
    stream = np.zeros(4 * sensors * run, READING)
    stream["channel"] = SPEED.number
    stream["sensor_id"] = np.arange(len(stream)) // run % sensors
    stream["value"] = 200.0
    stream["value"][[run // 2, -1 - run // 2]] = 345.0
    assert_as_reference(MIXED, stream, [])
    assert_as_reference(MIXED, stream, [1])


# --- damping -------------------------------------------------------------------------------------------------------


def timed(times, values, channel=SPEED):
    """Return readings of one sensor."""
    stream = batch(*[(channel, 7, value) for value in values])
    stream["timestamp"] = times
    return stream


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("arguments", "values", "kinds"),
    [
        ({"above": 110, "hysteresis": 5}, [110, 111, 108, 105.1, 112, 105, 110, 111], "-rsss--r"),
        ({"above": 110, "hysteresis": 5}, [106, 110, 106, 111], "---r"),
        ({"above": 110, "hysteresis": 5}, [111, 108, NAN, 108, 111, INF, -INF, 108], "rs--rs--"),
        ({"below": 2, "hysteresis": 0.5}, [2, 1.9, 2.4, 2.5, 2.4, 1.9, NAN, 1.9], "-rs--r-r"),
        ({"above": 4, "absolute": True, "hysteresis": 1}, [-3.5, -5, 3.5, -3.5, 3, -3.5, 5], "-rss--r"),
        ({"below": 1, "absolute": True, "hysteresis": 1}, [0, -1.5, 1.5, -2, 1.5, 0.5], "rss--r"),
        ({"above": 110}, [111, 110, 111, 111, NAN, 111], "r-rs-r"),
    ],
    ids=repr,
)
def test_hysteresis(arguments, values, kinds):
    assert_kinds(Threshold("SPEED", message="m", **arguments), timed(range(len(values)), values), kinds)


@pytest.mark.parametrize(
    ("arguments", "times", "values", "kinds"),
    [
        ({"min_duration": 2}, [0, 1, 2, 3, 4, 5, 6, 7], [9, 9, 9, 9, 0, 9, 9, 0], "--rs----"),
        ({"min_duration": 2}, [0, 1, 1.9, 2.5, 3], [9, 9, 9, 0, 9], "-----"),
        ({"min_duration": 2}, [0, 1, 2, 3, 4], [9, 9, NAN, 9, 9], "-----"),
        ({"min_duration": 0.5}, [0, 0, 10, 10], [0, 9, 9, 9], "--rs"),
        ({"min_duration": 3}, [10, 12, 5, 7, 8, 9], [9] * 6, "----rs"),  # back to 5: it counts from there
        ({"min_duration": 3}, [10, 12, 13, 5, 7], [9] * 5, "--rss"),  # what counts goes on counting
        ({"min_duration": 3}, [10, 5, NAN, 8, NAN, 0], [9] * 6, "---rss"),
        ({"min_duration": 3}, [NAN, NAN, 1, 4], [9] * 4, "---r"),
        ({"min_duration": 3}, [INF, INF, 1, INF], [9] * 4, "---r"),
        ({"min_duration": 3}, [-INF, -INF, -1e308], [9] * 3, "--r"),
        ({"min_duration": 3}, [-1e308, 1e308], [9] * 2, "-r"),
        ({"min_duration": 2, "hysteresis": 4}, [0, 1, 2, 3, 4, 5, 6, 7], [9, 2, 2, 1, 2, 9, 2, 2], "--r----r"),
        ({"min_duration": 2, "hysteresis": 4}, [0, 1, 2, 3, 4], [2, 2, 2, 9, 2], "-----"),
    ],
    ids=repr,
)
def test_minimum_duration(arguments, times, values, kinds):
    assert_kinds(Threshold("SPEED", above=5, message="m", **arguments), timed(times, values), kinds)


def assert_kinds(threshold, stream, kinds):
    """It finds r(ises) and s(amples) at these readings, however they are cut."""
    expected = [(i, {"r": "rise", "s": "sample"}[kind]) for i, kind in enumerate(kinds) if kind != "-"]
    every = range(1, len(stream))
    for cuts in ([], every, every[::2], every[1::2], *([cut] for cut in every)):
        events, _ = follow(ThresholdTable([threshold]), stream, cuts)
        assert [(event.position, event.kind) for event in events] == expected, cuts
        assert_as_reference([threshold], stream, cuts)


some_damped = st.lists(
    st.builds(
        lambda channel, side, limit, absolute, hysteresis, min_duration: Threshold(
            channel.name,
            **{side: abs(limit) if absolute else limit},
            message="m",
            absolute=absolute,
            hysteresis=min(hysteresis, abs(limit)) if absolute else hysteresis,
            min_duration=min_duration,
        ),
        st.sampled_from([SPEED, STEERING]),
        st.sampled_from(["above", "below"]),
        st.integers(-3, 3),
        st.booleans(),
        st.sampled_from([0, 0, 1, 2, 3.5]),
        st.sampled_from([0, 0, 1, 2.5, 6]),
    ),
    min_size=1,
    max_size=5,
)
damped_rows = st.lists(
    st.tuples(
        st.sampled_from([0, 0.5, 1, 1, 1, 2, 4, -1, -8, NAN, INF]),
        st.sampled_from([SPEED, SPEED, STEERING, NOT_CHECKED]),
        st.sampled_from([1, 1, 2]),
        st.sampled_from([*range(-5, 6), 0.5, NAN, INF, -INF]),
    ),
    max_size=40,
)


@given(some=some_damped, rows=damped_rows, cuts=st.lists(st.integers(0, 40), max_size=10))
@settings(max_examples=examples(300))
def test_damped_thresholds_are_as_the_reference_however_the_stream_is_cut(some, rows, cuts):
    stream, now = batch(*[row[1:] for row in rows]), 0.0
    for reading, (step, *_) in zip(stream, rows, strict=True):
        reading["timestamp"] = now + step
        now += step if math.isfinite(step) else 0.0
    assert_as_reference(some, stream, sorted(min(cut, len(stream)) for cut in cuts))


DAMPED = (
    Threshold("SPEED", above=300, message="plain"),
    Threshold("SPEED", above=310, hysteresis=50, message="fast"),
    Threshold("SPEED", above=280, min_duration=0.5, message="fast for some time"),
    Threshold("SPEED", below=100, hysteresis=40, min_duration=1.5, message="slow for some time"),
    Threshold("STEERING", above=90, absolute=True, hysteresis=60, message="turning hard"),
    Threshold("STEERING", below=20, absolute=True, hysteresis=5, min_duration=0.1, message="straight on"),
    Threshold("TIRE_PRESSURE", below=1.9, min_duration=1e9, message="never that long"),
)


def wavering_stream(rng, *, sensors, run, size=6000):
    """Return runs of readings of one sensor: random walks, 10 ms apart, now and then NaN, or back in time by 1 s."""
    sensor = np.repeat(rng.integers(0, sensors, size), rng.integers(1, run + 1, size).astype(np.intp))[:size]
    kind = sensor % 3
    stream = np.zeros(size, READING)
    stream["timestamp"] = np.arange(size) / 100 - np.cumsum(rng.random(size) < 0.002)
    stream["timestamp"][rng.integers(0, size, 10)] = math.nan
    stream["sensor_id"] = rng.integers(0, 2**32, sensors, dtype=np.uint32)[sensor]
    stream["channel"] = np.array([SPEED.number, TIRE_PRESSURE.number, STEERING.number])[kind]
    low, high, step = np.array([[0.0, 1.8, -150.0], [350.0, 2.1, 150.0], [40.0, 0.1, 30.0]])[:, kind]
    for each in range(sensors):
        mine = sensor == each
        walk = np.cumsum(rng.uniform(-1, 1, np.count_nonzero(mine)) * step[mine]) % (2 * (high - low)[mine])
        stream["value"][mine] = low[mine] + np.abs(walk - (high - low)[mine])  # folded at both ends
    stream["value"][rng.integers(0, size, 10)] = math.nan
    return stream


@thorough
@pytest.mark.parametrize("sensors", [1, 4, 60])
@pytest.mark.parametrize("run", [1, 300, 2000], ids=["interleaved", "in runs", "in long runs"])
@pytest.mark.parametrize("cut", [100, 1000, 6000])
def test_long_batches_of_damped_thresholds_are_as_the_reference(sensors, run, cut):
    rng = np.random.default_rng(sensors + run)
    stream = wavering_stream(rng, sensors=sensors, run=run)
    assert_as_reference(DAMPED, stream, range(cut, len(stream), cut))
    assert_as_reference(DAMPED, stream, np.sort(rng.integers(0, len(stream), 20)).tolist())


def test_all_damping_is_seen_in_the_long_batches():
    """Otherwise the test above would compare nothing with nothing."""
    _, counts = reference(DAMPED, wavering_stream(np.random.default_rng(5), sensors=4, run=1))
    assert [count["rises"] > 3 for count in counts] == [True] * 6 + [False]
    assert counts[1]["samples"] > counts[0]["samples"]
    assert counts[2]["samples"] < counts[0]["samples"] + counts[1]["samples"]


@pytest.mark.parametrize(
    ("arguments", "over", "held"),
    [
        ({"above": 5, "hysteresis": 3}, 6, 3),
        ({"below": 5, "hysteresis": 3}, 4, 7),
        ({"above": 5, "absolute": True, "hysteresis": 3}, 6, 3),
        ({"above": 5, "absolute": True, "hysteresis": 3}, -6, -3),
        ({"below": 5, "absolute": True, "hysteresis": 3}, -4, -7),
    ],
    ids=repr,
)
def test_a_batch_of_held_readings_alone_keeps_its_series_over(arguments, over, held):
    stream = batch(*[(SPEED, sensor, value) for value in (over, held, held, over) for sensor in (1, 2)])
    events, _ = follow(ThresholdTable([Threshold("SPEED", message="m", **arguments)]), stream, [2, 4, 6])
    assert [event.kind for event in events] == ["rise"] * 2 + ["sample"] * 6


def test_a_sensor_falls_back_unseen_among_those_that_are_held():
    """A series may end in a batch where only other series of its rule are looked at, or none."""
    some = [Threshold("SPEED", above=340, hysteresis=10, message="m")]
    stream = batch(
        *[(SPEED, 1, 341), (SPEED, 2, 341), (SPEED, 1, 200), (SPEED, 2, 335), (FUEL_LEVEL, 2, 1), (SPEED, 1, 335)],
        *[(SPEED, 2, 335), (SPEED, 2, 200), (SPEED, 1, 341)],
    )
    for cut in range(1, len(stream)):
        assert_as_reference(some, stream, [cut])
        assert_as_reference(some, stream, sorted({2, cut}))
    assert [event[:2] for event in follow(ThresholdTable(some), stream, [2, 6], samples=False)[0]] == [
        *[(0, 0), (1, 0), (8, 0)]
    ]


def test_stretches_times_readings_of_one_batch_may_be_more_than_32_bits_hold():
    sensors = 40_000
    stream = np.zeros(2 * sensors, READING)
    stream["timestamp"][1::200] = 1  # of every hundredth sensor's second reading
    stream["sensor_id"] = np.arange(2 * sensors) // 2
    stream["channel"] = SPEED.number
    stream["value"] = 341
    assert len(stream) * sensors > 2**31
    table = ThresholdTable([Threshold("SPEED", above=340, min_duration=1, message="m")])
    events, counts = follow(table, stream)
    assert [event.position for event in events] == [*range(1, 2 * sensors, 200)]
    assert (counts[0]["samples"], counts[0]["rises"]) == (400, 400)


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
    some = [*PROFILES["f1game"], DAMPED[3]]
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
    assert counts[5].items() >= {"below": 100.0, "hysteresis": 40.0, "min_duration": 1.5}.items()
    assert [(count["readings"], count["samples"], count["rises"]) for count in counts] == [
        *[(0, 0, 0), (0, 0, 0), (2, 2, 1), (1, 1, 1), (0, 0, 0), (2, 0, 0)]
    ]


def test_crossings_tell_whether_anything_is_over():
    table = ThresholdTable(PROFILES["default"])
    assert table.check(batch((SPEED, 1, 345), (FUEL_LEVEL, 2, 50)))
    assert not table.check(batch((SPEED, 1, 300), (FUEL_LEVEL, 2, 50)))
    assert not table.check(np.zeros(0, READING))
    damped = ThresholdTable([Threshold("SPEED", above=340, hysteresis=50, message="m")])
    assert damped.check(batch((SPEED, 1, 300)))
    assert not damped.check(batch((SPEED, 1, 290), (SPEED, 2, 200)))


def test_a_batch_may_be_any_view_and_is_not_changed():
    table = ThresholdTable(MIXED)
    stream = long_stream(np.random.default_rng(3), sensors=10, run=1, calm=[])
    stream.flags.writeable = False
    expected = follow(table, stream[::2].copy(), range(100, 3000, 100))
    events, counts = follow(table, stream[::2], range(100, 3000, 100))
    assert counts == expected[1]
    assert [event[:2] for event in events] == [event[:2] for event in expected[0]]


@pytest.mark.parametrize("some", [MIXED, DAMPED], ids=["plain", "damped"])
def test_threads_check_the_batches_of_one_stream(some):
    table, rng = ThresholdTable(some), np.random.default_rng(4)
    stream = wavering_stream(rng, sensors=20, run=3)
    starts = range(0, len(stream), 100)
    tracker = Tracker(table, samples=True)
    with ThreadPoolExecutor(4) as pool:
        checked = list(pool.map(lambda start: table.check(stream[start : start + 100]), starts))
    events = [event for start, found in zip(starts, checked, strict=True) for event in tracker.merge(found, start)]
    assert [(event.position, event.threshold, event.kind) for event in events] == expected_events(stream, some, True)


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
