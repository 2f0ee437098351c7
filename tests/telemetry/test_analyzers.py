"""Analyzers and alerts: the same alerts in the same order, however many analyzers there are and however they run."""

import threading
import time

import numpy as np
import pytest
from cli_helpers import (
    CHANNELS,
    Given,
    call,
    expected_events,
    found_events,
    json_lines,
    mixed_stream,
    participants,
    pieces,
    readings,
    strict_json,
    telemetry,
    watchdog,
    write_recording,
    write_thresholds,
)
from helpers import thorough

from f1buf import RingBuffer
from f1buf.telemetry import (
    G_FORCE,
    PROFILES,
    Alert,
    Analyzer,
    Channel,
    F1TelemetrySystem,
    Threshold,
    ThresholdTable,
)
from f1buf.telemetry.analyzers import BatchOrder
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay

THRESHOLDS = (
    *PROFILES["default"],
    Threshold("SPEED", below=20.0, message="Slow"),
    Threshold("SPEED", above=100.0, message="Fast"),
    Threshold("G_FORCE", above=5.0, absolute=True, message="Either way"),
    Threshold("SPEED", above=200.0, hysteresis=100.0, message="Fast until slow"),
    Threshold("FUEL_LEVEL", below=80.0, min_duration=100.0, message="Not full for some time"),
    Threshold("G_FORCE", above=3.0, absolute=True, hysteresis=2.0, min_duration=150.0, message="Either way, long"),
)
each_number = pytest.mark.parametrize("analyzers", [1, 3, 8])


@pytest.fixture(autouse=True)
def bounded():
    with watchdog():
        yield


def analyse(source, analyzers=3, *, buffer_size=100, analyzer=Analyzer, describe=None, **options):
    """Run a source through a system; its alerts, and its summary."""
    alerts = []
    system = F1TelemetrySystem(buffer_size, on_alert=alerts.append, **options)
    system.start([source], analyzers, describe=describe, analyzer=analyzer)
    system.wait()
    summary = system.shutdown()
    assert summary.readings == summary.analysed
    return alerts, summary


def counts(summary):
    return [(each["readings"], each["samples"], each["rises"]) for each in summary.thresholds]


class Uneven(Analyzer):
    """Takes a few readings at a time, and sometimes its time."""

    max_count = 29

    def check(self, readings):
        if len(readings) and readings["timestamp"][0] % 5 == 0:
            time.sleep(readings["timestamp"][0] % 7 * 3e-4)  # work of any length, so that batches end out of order
        return super().check(readings)


# Alerts against a naive reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [False, True], ids=["rises", "samples"])
@pytest.mark.parametrize("analyzer", [Analyzer, Uneven])
@each_number
def test_alerts_are_those_of_going_through_the_readings_one_by_one(analyzers, analyzer, samples):
    stream = mixed_stream(3000)
    alerts, summary = analyse(
        Given(*pieces(stream, 53)), analyzers, analyzer=analyzer, thresholds=THRESHOLDS, alert_samples=samples
    )
    assert found_events(alerts, THRESHOLDS) == expected_events(stream, THRESHOLDS, samples)
    assert [alert.time for alert in alerts] == [float(alert.position) for alert in alerts]
    every = expected_events(stream, THRESHOLDS, samples=True)
    for index, (threshold, result) in enumerate(zip(THRESHOLDS, summary.thresholds, strict=True)):
        kinds = [kind for _, number, kind in every if number == index]
        [channel] = [channel for channel in CHANNELS if channel.name == threshold.channel]
        assert result["samples"] == len(kinds) > 0
        assert result["rises"] == kinds.count("rise") > 0
        assert result["readings"] == np.count_nonzero(stream["channel"] == channel.number)


@pytest.mark.parametrize("buffer_size", [1, 2, 7])
def test_alerts_do_not_depend_on_the_buffer(buffer_size):
    stream = mixed_stream(1000)
    alerts, _ = analyse(Given(*pieces(stream, 10)), buffer_size=buffer_size, thresholds=THRESHOLDS)
    assert found_events(alerts, THRESHOLDS) == expected_events(stream, THRESHOLDS)


@pytest.mark.parametrize("analyzers", [3, 8])
def test_batches_that_are_finished_out_of_order_are_reported_in_order(analyzers):
    """The first batch is checked last, and so are one in the middle and all that follows it in a row."""
    checked = [threading.Event() for _ in range(20)]
    waits_for = {0: 5, 7: 8, 8: 9, 10: 19}
    finished = []

    class Controlled(Analyzer):
        max_count = 50

        def check(self, readings):
            number = int(readings["timestamp"][0]) // 50
            if number in waits_for:
                checked[waits_for[number]].wait()
            crossings = super().check(readings)
            finished.append(number)
            checked[number].set()
            return crossings

    stream = mixed_stream(1000)
    alerts, summary = analyse(
        Given(stream), analyzers, buffer_size=1000, analyzer=Controlled, thresholds=THRESHOLDS, alert_samples=True
    )
    assert sorted(finished) == list(range(20))
    assert finished != sorted(finished)
    assert found_events(alerts, THRESHOLDS) == expected_events(stream, THRESHOLDS, samples=True)
    assert summary.analysed == 1000


def test_analyzers_check_at_the_same_time():
    together = threading.Barrier(3)

    class Together(Analyzer):
        max_count = 1

        def check(self, readings):
            together.wait()
            return super().check(readings)

    assert analyse(Given(readings([1.0] * 9)), 3, analyzer=Together)[1].analysed == 9


def test_alerts_are_handed_over_by_one_thread_at_a_time():
    inside = threading.Lock()
    overlaps = []

    def on_alert(alert):
        free = inside.acquire(blocking=False)
        overlaps.append(not free)
        time.sleep(0)  # gives others the chance to come in
        if free:
            inside.release()

    system = F1TelemetrySystem(on_alert=on_alert)
    system.start([Given(*pieces(readings([400.0, 0.0] * 1000), 10))], 8, analyzer=Uneven)
    system.wait()
    system.shutdown()
    assert overlaps == [False] * 1000


def test_alerts_of_what_a_drop_policy_left():
    """Positions count the readings that entered the buffer, so they grow, with gaps."""
    alerts, summary = [], None
    system = F1TelemetrySystem(10, overflow="drop_oldest", on_alert=alerts.append, alert_samples=True)
    system.start([Given(*pieces(readings([400.0] * 2000), 100))], 3, analyzer=Uneven)
    system.wait()
    summary = system.shutdown()
    positions = [alert.position for alert in alerts]
    assert positions == sorted(set(positions))
    assert len(positions) == summary.analysed < 2000


@thorough
@each_number
def test_seeded_count_run_is_byte_identical(tmp_path, analyzers):
    def run(number, *options):
        path = tmp_path / f"{number}.jsonl"
        done = call(
            "run", "--seed", 7, "--count", 12_000, "--rate", "max", "--sensors-per-type", 2, "--alerts", path, *options
        )
        assert done.status == 0
        return path.read_bytes()

    first = run(1, "--analyzers", analyzers)
    assert first.count(b"\n") > 10
    assert run(2, "--analyzers", analyzers) == first
    assert run(3, "--analyzers", 2, "--buffer-size", 7) == first
    assert run(4, "--seed", 8) != first


# One alert ------------------------------------------------------------------------------------------------------------

ALWAYS = {"type": "alert", "schema": 1, "kind": "rise"}


def test_alert_as_a_dict():
    alerts, _ = analyse(Given(readings([0.0, 341.5], sensors=9)))
    assert alerts[0].as_dict() == ALWAYS | {
        "time": 1.0,
        "position": 1,
        "sensor": 1,
        "channel": "SPEED",
        "value": 341.5,
        "unit": "km/h",
        "threshold": {"above": 340.0},
        "message": "Approaching top speed",
    }
    assert strict_json(alerts[0].as_json()) == alerts[0].as_dict()
    assert "\n" not in alerts[0].as_json()


@pytest.mark.parametrize(
    ("threshold", "described"),
    [
        (Threshold("G_FORCE", above=4.5, message="x"), {"above": 4.5}),
        (Threshold("G_FORCE", below=10, message="x"), {"below": 10.0}),
        (Threshold("G_FORCE", above=4.5, absolute=True, message="x"), {"above": 4.5, "absolute": True}),
        (Threshold("G_FORCE", above=4.5, hysteresis=1, message="x"), {"above": 4.5, "hysteresis": 1.0}),
        (
            Threshold("G_FORCE", below=9, absolute=True, hysteresis=1, min_duration=2, message="x"),
            {"below": 9.0, "absolute": True, "hysteresis": 1.0, "min_duration": 2.0},
        ),
    ],
    ids=["above", "below", "absolute", "hysteresis", "all"],
)
def test_the_threshold_in_an_alert(threshold, described):
    value = -5.0 if threshold.absolute else 5.0
    times = round(threshold.min_duration) + 1
    [alert], summary = analyse(Given(readings([value] * times, channel=G_FORCE)), thresholds=[threshold])
    assert alert.as_dict()["threshold"] == described
    assert alert.as_dict()["value"] == value
    assert summary.thresholds[0].items() >= described.items()
    assert strict_json(alert.as_json()) == alert.as_dict()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e308, 5e-324, -0.0], ids=repr)
def test_any_value_makes_valid_json(value):
    threshold = Threshold("SPEED", above=1.0, message="x") if value > 1 else Threshold("SPEED", below=1.0, message="x")
    [alert], _ = analyse(Given(readings([value])), thresholds=[threshold])
    assert float(strict_json(alert.as_json())["value"]) == value


@pytest.mark.parametrize("timestamp", [np.inf, -np.inf, np.nan, 1.7e9, 1e308], ids=repr)
def test_any_time_makes_valid_json(timestamp):
    stream = readings([400.0])
    stream["timestamp"] = timestamp
    [alert], _ = analyse(Given(stream))
    assert strict_json(alert.as_json()).keys() >= ALWAYS.keys() | {"position", "value"}
    assert str(alert)


@pytest.mark.parametrize("text", ['a "quoted" \\ one', "two\nlines", "°C \U0001f525", "\x1b[31m\x00"], ids=ascii)
def test_any_text_makes_one_line_of_json(text):
    threshold = Threshold("SPEED", above=1.0, message=text)
    alert = Alert("rise", 1.0, 0, 0, "SPEED", 2.0, "km/h", threshold, car=1, driver=text, part=text)
    assert len(alert.as_json().splitlines()) == 1
    fields = strict_json(alert.as_json())
    assert fields["message"] == fields["driver"] == fields["part"] == text


@pytest.mark.parametrize(
    ("described", "origin"),
    [
        ({}, "sensor 3"),
        ({"car": 5, "driver": None, "part": None}, "car 5"),
        ({"car": 5, "driver": "LECLERC", "part": None}, "car 5 LECLERC"),
        ({"car": 0, "driver": "LECLERC", "part": "RL"}, "car 0 LECLERC RL"),
        ({"car": 0, "driver": "LECLERC", "lap": 12, "part": "RL"}, "car 0 LECLERC lap 12 RL"),
        ({"car": 0, "driver": None, "lap": 0}, "car 0 lap 0"),
        ({"car": 0, "lap": None}, "car 0"),
    ],
    ids=["sensor", "car", "driver", "part", "lap", "lap 0", "no lap"],
)
def test_an_alert_for_people(described, origin):
    stream = readings([341.25])
    stream["sensor_id"] = 3
    [alert], _ = analyse(Given(stream), describe=lambda sensor_id, flags: described)
    assert str(alert).split() == f"0.000 s Approaching top speed: SPEED 341.25 km/h (> 340) {origin}".split()
    known = {name: value for name, value in described.items() if value is not None}
    assert {name: alert.as_dict().get(name) for name in known} == known
    assert not (described.keys() - known.keys()) & alert.as_dict().keys()


def test_the_lap_comes_between_driver_and_part_in_json():
    threshold = Threshold("SPEED", above=1.0, message="x")
    alert = Alert("rise", 1.0, 0, 0, "SPEED", 2.0, "km/h", threshold, 1, "LECLERC", "RL", 12)
    fields = list(alert.as_dict())
    start = fields.index("car")
    assert fields[start : start + 4] == ["car", "driver", "lap", "part"]
    assert (alert.part, alert.lap) == ("RL", 12)


def test_an_alert_of_a_channel_without_a_unit():
    ratio = Channel("TEST_RATIO", "", (0.0, 1.0))
    [alert], _ = analyse(
        Given(readings([0.9], channel=ratio)), thresholds=[Threshold("TEST_RATIO", above=0.5, message="Much")]
    )
    assert alert.as_dict()["unit"] == ""
    assert "TEST_RATIO 0.9 (> 0.5)" in str(alert)


# Analyzers by themselves ----------------------------------------------------------------------------------------------


def test_a_delay_makes_batches_small_enough_for_several_analyzers():
    order = BatchOrder(RingBuffer(10), lambda batch: None)
    table = ThresholdTable([])
    assert Analyzer(order, table).max_count > 1000
    assert Analyzer(order, table, 0.01).max_count * 0.01 <= 0.2
    assert Analyzer(order, table, 5.0).max_count == 1


def test_a_subclass_sees_every_reading_once():
    seen = []

    class Looks(Analyzer):
        max_count = 10

        def check(self, readings):
            seen.extend(readings["timestamp"])
            return super().check(readings)

    analyse(Given(*pieces(readings([1.0] * 500), 7)), 3, analyzer=Looks)
    assert sorted(seen) == list(range(500))


# A real race ----------------------------------------------------------------------------------------------------------

# From the data's README: threshold, readings, samples, rises.
RACE = (
    (Threshold("SPEED", above=330.0, message="fast"), 22_000, 1_401, 13),
    (Threshold("SPEED", above=340.0, message="very fast"), 22_000, 40, 2),
    (Threshold("ENGINE_TEMP", above=110.0, message="warm"), 22_000, 1_000, 1),
    (Threshold("ENGINE_TEMP", above=118.0, message="hot"), 22_000, 101, 1),
    (Threshold("TIRE_PRESSURE", below=1.9, message="soft"), 88_000, 88_000, 88),
    (Threshold("FUEL_LEVEL", below=15.0, message="empty"), 22_000, 22_000, 22),
    (Threshold("G_FORCE", above=5.5, absolute=True, message="hard"), 66_000, 0, 0),
)
RACE_THRESHOLDS = [threshold for threshold, *_ in RACE]
RACE_COUNTS = [tuple(numbers) for _, *numbers in RACE]


@pytest.fixture(scope="session")
def race(recordings_dir):
    path = recordings_dir / "f1_2026_race.sqlite3"
    if not path.is_file():
        pytest.skip(f"the recording of a race is missing: {path} (set F1BUF_DATA)")
    return path


def replay(path, analyzers, cars="all", rejected=None, **options):
    with open_recording(path) as recording:
        decoder = Decoder(cars)
        alerts, summary = analyse(Replay(recording, decoder, None), analyzers, describe=decoder.describe, **options)
    assert decoder.rejected == (rejected or {})
    assert not recording.rejected
    return alerts, summary


@thorough(but=("3-Uneven",))
@pytest.mark.parametrize("analyzer", [Analyzer, Uneven])
@each_number
def test_the_race_has_exactly_its_known_samples_and_rises(race, analyzers, analyzer):
    alerts, summary = replay(race, analyzers, analyzer=analyzer, buffer_size=2000, thresholds=RACE_THRESHOLDS)
    assert summary.analysed == 220_000
    assert counts(summary) == RACE_COUNTS
    assert len(alerts) == sum(rises for *_, rises in RACE)
    positions = [alert.position for alert in alerts]
    assert positions == sorted(positions)


@thorough(but=("3",))
@each_number
def test_the_race_by_the_command(race, tmp_path, analyzers):
    limits = [
        {"channel": threshold.channel, threshold.side: threshold.limit, "message": threshold.message}
        | ({"absolute": True} if threshold.absolute else {})
        for threshold in RACE_THRESHOLDS
    ]
    file = write_thresholds(tmp_path / "race.toml", *limits)
    alerts_file = tmp_path / "alerts.jsonl"
    done = call(
        *["replay", race, "--speed", "max", "--json", "--thresholds", file],
        *["--analyzers", analyzers, "--alerts", alerts_file],
    )
    assert done.status == 0
    result = done.summary
    assert (result["readings"], result["analysed"], result["dropped"]) == (220_000, 220_000, 0)
    assert result["rejected"] == {}
    for (threshold, *expected), found in zip(RACE, result["thresholds"], strict=True):
        assert [found["readings"], found["samples"], found["rises"]] == expected
        assert (found["channel"], found[threshold.side]) == (threshold.channel, threshold.limit)
    alerts = json_lines(alerts_file.read_text(encoding="utf-8"))
    assert len(alerts) == sum(rises for *_, rises in RACE)
    assert [alert["position"] for alert in alerts] == sorted(alert["position"] for alert in alerts)
    assert all(alert["driver"] for alert in alerts)
    assert {alert.get("part") for alert in alerts if alert["channel"] == "TIRE_PRESSURE"} == {"RL", "RR", "FL", "FR"}
    assert {alert["car"] for alert in alerts if alert["channel"] == "FUEL_LEVEL"} == set(range(22))


DAMPED = (
    Threshold("SPEED", above=300.0, message="fast"),
    Threshold("SPEED", above=300.0, min_duration=2.0, message="fast for 2 s"),
    Threshold("G_FORCE", above=3.0, absolute=True, message="hard"),
    Threshold("G_FORCE", above=3.0, absolute=True, hysteresis=1.0, message="hard until gentle"),
    Threshold("G_FORCE", above=3.0, absolute=True, hysteresis=1.0, min_duration=0.5, message="hard for 0.5 s"),
)


@thorough
def test_damped_alerts_of_the_race_are_those_of_going_through_it(race):
    with open_recording(race) as recording:
        stream = np.concatenate(list(Replay(recording, Decoder("all"), None).batches(threading.Event())))
    expected = expected_events(stream, DAMPED)
    for analyzers in (1, 3, 8):
        alerts, summary = replay(race, analyzers, buffer_size=2000, thresholds=DAMPED)
        assert found_events(alerts, DAMPED) == expected
        assert [rises for *_, rises in counts(summary)] == [21, 15, 215, 100, 50]


def test_only_the_players_engine_varies(race):
    alerts, _ = replay(race, 3, thresholds=[Threshold("ENGINE_TEMP", above=110.0, message="warm")])
    [alert] = alerts
    assert alert.car == 21
    assert alert.driver


@pytest.mark.parametrize(
    ("cars", "found"),
    [("player", {21}), ([5], {5}), ([21, 0], {0, 21}), ([23], set())],
    ids=["player", "5", "21,0", "23"],
)
def test_cars_of_the_race(race, cars, found):
    thresholds = [Threshold("FUEL_LEVEL", below=100.0, message="not full")]
    rejected = None if found else {"car not there": 3000}
    alerts, summary = replay(race, 3, cars, rejected, thresholds=thresholds)
    assert summary.analysed == 10_000 * len(found)
    assert {alert.car for alert in alerts} == found


# Replayed alerts name the car -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [None, 1e6], ids=["max", "paced"])
@pytest.mark.parametrize("year", [2025, 2026])
def test_driver_car_and_part_of_a_replay(tmp_path, year, speed):
    """The driver is the one of the moment when the reading was made, however far the replay has got meanwhile."""
    rows = [
        (1.0, participants(1.0, "VERSTAPPEN", "PÉREZ", year=year)),
        (1.0, telemetry(1.0, 100, 350, year=year)),
        (2.0, participants(2.0, "VERSTAPPEN", "SAINZ", year=year)),
        (2.0, telemetry(2.0, 350, 100, year=year)),
        (3.0, telemetry(3.0, 100, 350, year=year)),
    ]
    thresholds = [
        Threshold("SPEED", above=340.0, message="fast"),
        Threshold("TIRE_PRESSURE", above=2.0, message="hard"),
    ]
    with open_recording(write_recording(tmp_path / "race.sqlite3", rows)) as recording:
        decoder = Decoder()
        alerts, _ = analyse(Replay(recording, decoder, speed), describe=decoder.describe, thresholds=thresholds)
    fast = [(alert.time, alert.car, alert.part) for alert in alerts if alert.channel == "SPEED"]
    assert fast == [(1.0, 1, None), (2.0, 0, None), (3.0, 1, None)]
    tyres = [(alert.car, alert.part) for alert in alerts if alert.channel == "TIRE_PRESSURE"]
    assert tyres == [(car, wheel) for car in (0, 1) for wheel in ("RL", "RR", "FL", "FR")]
    assert [alert.driver for alert in alerts if alert.channel == "SPEED"] == ["PÉREZ", "VERSTAPPEN", "SAINZ"]
