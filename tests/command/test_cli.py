"""The command: its options, exit statuses and streams, bad usage, signals, and what may break around it."""

import contextlib
import errno
import importlib
import io
import os
import re
import signal
import sqlite3
import sys
import time
import tomllib

import pytest
from cli_helpers import (
    CROSSED,
    PROGRAM,
    PROGRAM_WITHOUT_RICH,
    call,
    command,
    datagram,
    finish,
    interrupted,
    json_lines,
    participants,
    program_without,
    read_until,
    running,
    strict_json,
    telemetry,
    write_recording,
    write_thresholds,
)
from helpers import thorough, wait_until

from f1buf.command.cli import build_parser
from f1buf.command.runner import Runner
from f1buf.telemetry import PROFILES
from f1buf.telemetry.thresholds import loads

FAST = ("--rate", "max", "--seed", 1)
FEW = ("--count", 5, *FAST)

each_look = pytest.mark.parametrize("program", [PROGRAM, PROGRAM_WITHOUT_RICH], ids=["rich", "plain"])


@pytest.fixture
def race(tmp_path):
    """A recording of two seconds of two cars; one is fast for a while."""
    rows = [(10.0, participants(10.0, "PÉREZ", "NORRIS", player_car_index=1))]
    for tick in range(21):
        now = 10.0 + tick / 10
        rows.append((now, telemetry(now, 345 if 5 <= tick < 15 else 300, 200, player_car_index=1)))
    return write_recording(tmp_path / "race.sqlite3", rows)


RACE_READINGS = 21 * 2 * 6


# The summary ----------------------------------------------------------------------------------------------------------


def test_json_holds_what_was_promised():
    done = call("run", "--json", *FEW).ended()
    assert done.out.count("\n") == 1
    result = done.summary
    assert (result["readings"], result["analysed"], result["dropped"], result["rejected"]) == (25, 25, 0, {})
    assert result["readings_per_s"] > 0
    assert 0 < result["latency_s"]["p50"] <= result["latency_s"]["p99"] <= result["latency_s"]["max"]
    assert result["buffer"]["offered"] == result["buffer"]["taken"] == 25
    for threshold, found in zip(PROFILES["default"], result["thresholds"], strict=True):
        assert found.keys() == {"channel", threshold.side, "message", "readings", "samples", "rises"}
        expected = threshold.channel, threshold.limit, threshold.message, 5
        assert (found["channel"], found[threshold.side], found["message"], found["readings"]) == expected


def test_streams_without_an_encoding():
    """A program that calls `main` may put such streams in place of the standard ones."""
    done = call("run", "--json", *FEW, stream=io.StringIO).ended()
    assert done.summary["readings"] == 25


def test_summary_for_people():
    done = call("run", *FEW).ended()
    assert done.out == ""
    said = "25 made, 25 analysed, 0 dropped", "readings/s", "p50", "p99", "buffer", "High engine temperature"
    for each in (*said, "Low fuel warning"):
        assert each in done.err
    assert "rejected" not in done.err
    assert "\x1b" not in done.err


# Options of run -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def duration_from(readings):
    """A run of this process counts its ``--duration`` from when it has analysed so many: it may begin late."""
    watch = Runner.watch

    def watch_then(runner):
        wait_until(lambda: runner.system.analysed >= readings, f"{readings} readings")
        watch(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "watch", watch_then)
        yield


def test_no_options_but_a_duration():
    began = time.monotonic()
    with duration_from(5):
        done = call("run", "--duration", 0.3, "--json").ended()
    assert time.monotonic() - began >= 0.3
    assert 5 <= done.summary["analysed"] == done.summary["readings"]
    assert 0 < done.summary["seconds"] < time.monotonic() - began


@pytest.mark.parametrize(
    ("options", "readings"),
    [
        (["--count", 40], 5 * 40),
        (["--count", "40", "--duration", 20], 5 * 40),
        (["--count", 5, "--sensors-per-type", 3], 3 * 25),
        (["--count", 5, "--overflow", "block", "--buffer-size", 1], 25),
        *[(["--count", 5, "--analyzers", analyzers], 25) for analyzers in (1, 2, 20)],
        (["--count", 50_000], 5 * 50_000),  # at 100 Hz it would take 8 minutes
    ],
    ids=str,
)
def test_how_many_readings(options, readings):
    result = call("run", *options, *FAST, "--json").summary
    assert (result["readings"], result["analysed"], result["dropped"]) == (readings, readings, 0)


def test_duration_ends_a_count():
    with duration_from(1):
        done = call("run", "--count", 10**9, "--duration", 0.2, *FAST, "--json").ended()
    assert 0 < done.summary["readings"] == done.summary["analysed"] < 10**9


@thorough(but=("30",))
@pytest.mark.parametrize("digits", [30, 400])
def test_a_count_beyond_reach_is_refused_or_runs(digits):
    done = call("run", "--count", 10**digits, "--duration", 0.2, *FAST)
    assert done.status == 0 or (done.status == 2 and "--count" in done.error)


def test_analyzer_delay_slows_the_analysis():
    result = call("run", "--analyzer-delay", 0.01, "--analyzers", 1, *FEW, "--json").summary
    assert result["analysed"] == 25
    assert result["seconds"] >= 0.25


def test_buffer_size():
    result = call("run", "--buffer-size", 3, *FEW, "--json").summary
    assert result["buffer"]["high_water"] <= 3
    assert result["analysed"] == 25


def test_rate_paces():
    result = call("run", "--rate", 1000, "--count", 300, "--json").summary
    assert result["readings"] == 5 * 300
    assert result["seconds"] > 0.25


@thorough
@pytest.mark.parametrize("rate", ["0.001", "0.02"])
def test_a_low_rate_makes_its_first_reading_and_stops_in_time(rate):
    with duration_from(5):
        done = call("run", "--rate", rate, "--duration", 0.2, "--json").ended()
    assert done.summary["readings"] == done.summary["analysed"] == 5


@pytest.mark.parametrize("rate", ["1e9", "1e300"])
def test_a_rate_that_nothing_reaches(rate):
    """The run is as fast as it can be, or refused; no sensor fails."""
    with duration_from(6):
        done = call("run", "--rate", rate, "--duration", 0.2, "--json")
    if done.status == 2:
        assert "--rate" in done.error
    else:
        assert done.status == 0
        assert done.summary["readings"] > 5


@pytest.mark.parametrize("delay", ["1e10", "1e300"])
def test_a_delay_that_nothing_waits_for(delay):
    """A time that no thread can sleep is bad usage, and not a failure of the analyzers."""
    done = call("run", "--analyzer-delay", delay, "--count", 1).ended(2)
    assert "--analyzer-delay" in done.error


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_overflow_drops_are_counted_and_tell_by_the_status(policy):
    options = ["--analyzer-delay", 0.001, "--buffer-size", 10, "--analyzers", 1]
    done = call("run", "--overflow", policy, *options, "--count", 200, *FAST, "--json")
    result = done.summary
    assert result["dropped"] > 0
    assert result["readings"] == 1000 == result["analysed"] + result["dropped"]
    assert done.status == 1
    assert f"{result['dropped']:,} readings were lost" in done.err


def test_thresholds_of_a_profile():
    result = call("run", "--thresholds", "f1game", *FEW, "--json").summary
    assert [each["message"] for each in result["thresholds"]] == [each.message for each in PROFILES["f1game"]]


def test_thresholds_of_a_file_replace_the_profile(tmp_path):
    file = write_thresholds(
        tmp_path / "mine.toml",
        {"channel": "SPEED", "below": 1000, "message": "slower than sound"},
        {"channel": "SPEED", "above": 1000.5, "message": "faster", "absolute": True},
    )
    done = call("run", "--thresholds", file, *FEW, "--json")
    assert done.summary["thresholds"] == [
        {"channel": "SPEED", "below": 1000, "message": "slower than sound", "readings": 5, "samples": 5, "rises": 1},
        {"channel": "SPEED", "above": 1000.5, "absolute": True, "message": "faster"}
        | {"readings": 5, "samples": 0, "rises": 0},
    ]


def test_an_empty_file_of_thresholds(tmp_path):
    (tmp_path / "none.toml").write_text("")
    done = call("run", "--thresholds", tmp_path / "none.toml", "--fail-on-alert", *FEW, "--json").ended()
    assert done.summary["thresholds"] == []


def test_seed_makes_the_same_run(crossed):
    def alerts(seed):
        options = ["--thresholds", crossed, "--alert-samples", "--alerts", "-"]
        return call("run", "--count", 100, "--rate", "max", "--seed", seed, *options).out

    assert alerts(3) == alerts(3) != alerts(4)


# Alerts ---------------------------------------------------------------------------------------------------------------


def test_alerts_to_a_file_and_to_people(crossed, tmp_path):
    path = tmp_path / "alerts.jsonl"
    path.touch()  # as mktemp leaves one
    done = call("run", "--thresholds", crossed, "--alerts", path, *FEW).ended()
    assert done.out == ""
    alerts = json_lines(path.read_text(encoding="utf-8"))
    assert [alert["sensor"] for alert in alerts] == [0, 1, 2, 3, 4]
    assert all(alert["kind"] == "rise" and alert["message"] == CROSSED for alert in alerts)
    assert done.err.count(CROSSED) == 5 + 5  # a line an alert, a line a threshold


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "a link to it"])
def test_alerts_of_an_earlier_run_are_not_overwritten(crossed, tmp_path, linked):
    path = earlier = tmp_path / "alerts.jsonl"
    earlier.write_text("of an earlier run\n")
    if linked:
        path = tmp_path / "link"
        path.symlink_to(earlier)
    error = refused("run", "--thresholds", crossed, "--alerts", path, *FEW)
    said = f"--alerts {path}: holds something already; choose another file, or remove that one"
    assert error == f"f1buf run: error: {said}"
    assert earlier.read_text() == "of an earlier run\n"


def test_refused_alerts_leave_no_folder_for_a_recording(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "alerts.jsonl").write_text("of an earlier run\n")
    refused("run", "--alerts", tmp_path / "alerts.jsonl", "--record", tmp_path / "race", *FEW)
    assert not (tmp_path / "race").exists()


def test_alerts_to_a_pipe_or_device(crossed, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert call("run", "--thresholds", crossed, "--alerts", pipe, *FEW).status == 0
        assert len(json_lines(os.read(reader, 1 << 16).decode())) == 5
    finally:
        os.close(reader)
    assert call("run", "--thresholds", crossed, "--alerts", "/dev/null", *FEW).status == 0
    done = command("run", "--thresholds", crossed, "--alerts", "/dev/stdout", *FEW)
    assert (done.status, len(json_lines(done.out))) == (0, 5)


def test_alerts_to_standard_output_are_not_told_twice(crossed):
    done = call("run", "--thresholds", crossed, "--alerts", "-", *FEW).ended()
    assert len(json_lines(done.out)) == 5
    assert done.err.count(CROSSED) == 5  # the summary


def test_alert_samples(crossed):
    alerts = json_lines(call("run", "--thresholds", crossed, "--alerts", "-", "--alert-samples", *FEW).out)
    assert sorted(alert["kind"] for alert in alerts) == ["rise"] * 5 + ["sample"] * 20
    assert [alert["position"] for alert in alerts] == list(range(25))


def test_a_flood_of_alerts_is_cut_for_people_only(crossed, tmp_path):
    path = tmp_path / "alerts.jsonl"
    done = call("run", "--thresholds", crossed, "--alert-samples", "--alerts", path, "--count", 1000, *FAST)
    assert len(json_lines(path.read_text(encoding="utf-8"))) == 5000
    shown = done.err.count(CROSSED) - 5
    left_out = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) more alerts", done.err)]
    assert 100 < shown < 5000
    assert shown + sum(left_out) == 5000


def test_alerts_appear_as_they_happen(crossed, tmp_path):
    path = tmp_path / "alerts.jsonl"
    with running("run", "--thresholds", crossed, "--alerts", path) as process:
        read_until(process.stderr, CROSSED)
        while not (found := path.read_text(encoding="utf-8")).endswith("\n"):
            assert process.poll() is None
            time.sleep(0.01)  # nothing tells that another process has written a file
        assert json_lines(found)[0]["message"] == CROSSED


@pytest.mark.parametrize("message", ["too hot :fire:", "[bold]hot[/bold]", "[red]", "100 % \\o/", "a" * 300])
@pytest.mark.parametrize("looks", ["rich", "plain"])
def test_messages_are_shown_as_they_are(tmp_path, monkeypatch, message, looks):
    if looks == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    file = write_thresholds(tmp_path / "mine.toml", {"channel": "SPEED", "above": -1, "message": message})
    done = call("run", "--thresholds", file, *FEW)
    assert sum(message in line for line in done.err.splitlines()) == 2


def test_fail_on_alert(crossed):
    assert call("run", "--fail-on-alert", "--thresholds", crossed, *FEW).status == 3
    assert call("run", "--fail-on-alert", *FEW).status == 0
    assert call("run", "--thresholds", crossed, *FEW).status == 0


def test_losses_come_before_alerts_in_the_status(crossed):
    options = ["--overflow", "drop_newest", "--buffer-size", 1, "--analyzer-delay", 0.001]
    assert call("run", "--fail-on-alert", "--thresholds", crossed, *options, "--count", 500, *FAST).status == 1


# Sensors of one's own -------------------------------------------------------------------------------------------------

MODULE = """
from f1buf.telemetry import Channel, Sensor, SimulatedSensor

class Oil(Sensor):
    channel = Channel("OIL_PRESSURE", "bar", (0.0, 8.0))
    value = 5.0
    def read(self):
        self.value -= 0.5
        return self.reading(self.value, 1.0)

class Water(SimulatedSensor):
    channel = Channel("WATER_TEMP", "°C", (20.0, 130.0))

class Port(Oil):
    taken = False
    def __init__(self, sensor_id, *, rate=100.0):
        super().__init__(sensor_id, rate=rate)
        if Port.taken:
            raise OSError("the port is in use")
        Port.taken = True

class Old(Oil):
    def __init__(self, number):
        super().__init__(number)

class NoChannel(Sensor):
    def read(self):
        raise StopIteration

class Abstract(Sensor):
    channel = Oil.channel

class Breaks(Oil):
    def read(self):
        raise OSError("the cable is out")

class Seeded(SimulatedSensor):
    channel = Water.channel
    def __init__(self, sensor_id, *, rate=100.0, seed=None):
        super().__init__(sensor_id, rate=rate, seed=seed)

not_a_class = 5
class NotASensor: pass
"""
MODULES = {
    "mine": MODULE,
    "broken": "1 / 0",
    "syntax": "def",
    "lines": "raise ImportError('first line\\nsecond line')",
    "attribute": "import os\nos.no_such_thing",
    "exits": "import sys; sys.exit(0)",
    "interrupted": "raise KeyboardInterrupt",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sensors_from_the_working_directory(modules):
    file = write_thresholds(modules / "mine.toml", {"channel": "OIL_PRESSURE", "below": 1.5, "message": "Low oil"})
    done = command("run", "--sensors", "mine:Oil", "--thresholds", file, "--count", 9, "--alerts", "-", cwd=modules)
    assert done.status == 0, done.err
    [alert] = json_lines(done.out)
    assert (alert["channel"], alert["value"], alert["unit"], alert["sensor"]) == ("OIL_PRESSURE", 1.0, "bar", 0)
    assert "9 made, 9 analysed" in done.err


def test_sensors_is_repeatable_and_replaces_the_five(modules):
    options = ["--sensors", "mine:Oil", "--sensors", "mine:Water", "--sensors-per-type", 2]
    limits = [{"channel": channel, "above": -9} for channel in ("OIL_PRESSURE", "WATER_TEMP")]
    file = write_thresholds(modules / "any.toml", *limits)
    done = command("run", *options, "--thresholds", file, *FEW, "--json", cwd=modules)
    assert done.summary["readings"] == 20
    assert [each["readings"] for each in done.summary["thresholds"]] == [10, 10]


def test_sensors_with_the_default_thresholds(modules):
    done = command("run", "--sensors", "f1buf.telemetry:SpeedSensor", "--sensors", "mine:Oil", *FEW, cwd=modules)
    assert done.status == 0
    assert "10 made, 10 analysed" in done.err


def test_a_sensor_that_breaks_is_named(modules):
    done = command("run", "--sensors", "mine:Breaks", "--json", cwd=modules).ended(1)
    assert done.summary["readings"] == 0
    assert done.err.splitlines()[-1] == "f1buf: Breaks 0 failed: OSError: the cable is out"


@thorough
@pytest.mark.parametrize("sensor", ["mine:Port", "mine:Oil", "mine:Water", "mine:Seeded"])
def test_sensors_in_the_classic_demonstration(modules, sensor):
    """Each sensor is made once, as in any other run."""
    done = command("run", "--classic", "--sensors", sensor, "--count", 1, cwd=modules).ended()
    assert "1 made, 1 analysed" in done.err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nonsense", "expected module:Class"),
        ("mine:", "expected module:Class"),
        (":Oil", "expected module:Class"),
        ("no_such_module:Oil", "no_such_module"),
        ("mine:NoSuchClass", "NoSuchClass"),
        ("mine:not_a_class", "Sensor"),
        ("mine:NotASensor", "Sensor"),
        ("mine:NoChannel", "channel"),
        ("mine:Abstract", "read"),
        ("mine:Old", "rate"),
        ("broken:X", "ZeroDivisionError"),
        ("syntax:X", "SyntaxError"),
        ("lines:X", "first line"),
        ("attribute:X", "no_such_thing"),
        ("exits:X", "exits"),
        (".mine:Oil", ".mine"),
        ("os:path", "Sensor"),
    ],
)
def test_bad_sensors_end_with_one_line(modules, monkeypatch, spec, said):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    done = call("run", "--sensors", spec, "--count", 1).ended(2)
    assert said in done.error
    assert "--sensors" in done.error
    assert done.out == ""


def test_an_interrupt_while_sensors_are_imported(modules):
    done = command("run", "--sensors", "interrupted:X", cwd=modules)
    assert done.status == 130
    assert "Traceback" not in done.err


# Classic --------------------------------------------------------------------------------------------------------------


@thorough
def test_classic_shows_the_textbooks_lines(crossed):
    """The buffer is so small that sensors wait."""
    with running("run", "--classic", "--buffer-size", 2, "--thresholds", crossed, "--json") as process:
        said = "".join(read_until(process.stderr, " processed ") for _ in range(8))
        process.send_signal(signal.SIGINT)
        done = finish(process).ended()
    lines = (said + done.err).splitlines()
    recorded = [line for line in lines if " recorded " in line]
    processed = [line for line in lines if " processed " in line]
    assert len(recorded) == len(processed) == done.summary["readings"] == done.summary["analysed"] >= 8
    for line in recorded:
        assert re.match(r"\w+Sensor [0-4] recorded [A-Z_]+ -?[\d.]+ \S+  \[buffer [0-2]/2\]$", line), line
    for line in processed:
        assert re.match(r"analyzer [1-3] processed [A-Z_]+ -?[\d.]+ \S+  \[buffer [0-2]/2\]$", line), line
    assert [line for line in lines if re.match(r"\w+Sensor [0-4] waits: ", line)]
    assert sum(CROSSED in line for line in lines) == 5 + 5
    stopping, draining, ended = (
        next(i for i, line in enumerate(lines) if line.startswith("* ") and step in line)
        for step in ("stopping", "draining", "ended")
    )
    assert stopping < draining < ended
    assert any(stopping < lines.index(line) < ended for line in processed)
    assert "5 sensors, 3 analyzers, a buffer of 2" in said


@thorough
@pytest.mark.parametrize(("options", "size"), [([], 20), (["--buffer-size", 100], 100), (["--buffer-size", 7], 7)])
def test_buffer_of_the_classic_demonstration(options, size):
    done = command("run", "--classic", "--count", 1, "--analyzers", 5, *options)
    assert f"a buffer of {size};" in done.err
    assert "5 made, 5 analysed" in done.err


@thorough
def test_classic_ends_by_an_interrupt_with_every_step():
    done = interrupted("run", "--classic", after=" recorded ").ended()
    assert done.err.index("* stopping") < done.err.index("* all threads have ended") < done.err.index(" made, ")


# Thresholds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *PROFILES], ids=str)
def test_thresholds_prints_a_profile_that_can_be_read_back(name, tmp_path):
    done = call("thresholds", *filter(None, [name]))
    assert (done.status, done.err) == (0, "")
    assert tomllib.loads(done.out).keys() == {"threshold"}
    assert loads(done.out) == PROFILES[name or "default"]
    path = tmp_path / "mine.toml"
    path.write_text(done.out, encoding="utf-8")
    result = call("run", "--thresholds", path, *FEW, "--json").summary
    assert [each["message"] for each in result["thresholds"]] == [each.message for each in PROFILES[name or "default"]]


# Replay ---------------------------------------------------------------------------------------------------------------


def test_replay(race):
    done = call("replay", race, "--speed", "max", "--json").ended()
    result = done.summary
    assert (result["readings"], result["analysed"], result["rejected"]) == (RACE_READINGS, RACE_READINGS, {})
    assert [each["message"] for each in result["thresholds"]] == [each.message for each in PROFILES["f1game"]]
    speed = next(each for each in result["thresholds"] if each["channel"] == "SPEED")
    assert (speed["readings"], speed["samples"], speed["rises"]) == (42, 10, 1)
    assert "car 0 PÉREZ" in done.err


def test_replayed_alerts(race):
    done = call("replay", race, "--speed", "max", "--alerts", "-", "--alert-samples")
    alerts = json_lines(done.out)
    assert [alert["kind"] for alert in alerts] == ["rise"] + ["sample"] * 9
    assert {(alert["car"], alert["driver"], alert["channel"]) for alert in alerts} == {(0, "PÉREZ", "SPEED")}
    assert alerts[0]["time"] == pytest.approx(10.5)
    assert alerts[0]["position"] == 5 * 12


@pytest.mark.parametrize(("speed", "least"), [("4", 0.48), ("20", 0.09)])
def test_speed_paces_the_replay(race, speed, least):
    result = call("replay", race, "--speed", speed, "--json").summary
    assert result["readings"] == RACE_READINGS
    assert least <= result["seconds"]


@pytest.mark.parametrize("speed", ["1e6", "max"])
def test_a_fast_replay_does_not_wait_for_the_recordings_time(tmp_path, speed):
    rows = [(now, telemetry(now, 300, 200, player_car_index=1)) for now in (10.0, 5e5)]  # nearly six days
    path = write_recording(tmp_path / "long.sqlite3", [(10.0, participants(10.0, "PÉREZ", "NORRIS")), *rows])
    assert call("replay", path, "--speed", speed, "--json").summary["readings"] == 2 * 2 * 6


def test_replay_is_as_fast_as_recorded_unless_told_otherwise():
    assert build_parser("replay").parse_args(["replay", "race.sqlite3"]).speed == 1.0


@thorough(but=("1e-300",))
@pytest.mark.parametrize("speed", ["1e-9", "1e-12", "1e-300"])
def test_a_replay_in_extreme_slow_motion_can_be_stopped(race, speed):
    with duration_from(12):
        done = call("replay", race, "--speed", speed, "--duration", 0.2, "--json").ended()
    assert done.summary["readings"] == 12


@pytest.mark.parametrize(
    ("cars", "found"), [("all", [0, 1]), ("player", [1]), ("0", [0]), ("1,0,1", [0, 1]), ("7", []), ("0,7", [0])]
)
def test_cars(race, tmp_path, cars, found):
    file = write_thresholds(tmp_path / "any.toml", {"channel": "SPEED", "above": 0})
    done = call("replay", race, "--speed", "max", "--cars", cars, "--thresholds", file, "--alerts", "-")
    assert done.status == (0 if found else 2)  # nothing was read
    assert [alert["car"] for alert in json_lines(done.out)] == found
    assert f"{len(found) * RACE_READINGS // 2:,} made" in done.err


def test_replay_shares_the_options_of_run(race):
    options = ["--analyzers", 2, "--analyzer-delay", 1e-5, "--buffer-size", 5, "--overflow", "block", "--duration", 20]
    done = call("replay", race, "--speed", "max", *options, "--fail-on-alert", "--json").ended(3)
    assert done.summary["analysed"] == RACE_READINGS
    assert done.summary["buffer"]["high_water"] <= 5


def test_a_python_that_was_compiled_without_sqlite(race):
    without = program_without("_sqlite3")
    assert command("run", *FEW, "--json", program=without).ended().summary["analysed"] > 0
    done = command("replay", race, program=without).ended(2)
    assert done.error.startswith(f"f1buf replay: error: {race}: this Python was compiled without SQLite (")
    assert done.error.endswith("; use one that has it")


def test_an_empty_recording(tmp_path):
    path = write_recording(tmp_path / "empty.sqlite3", [])
    done = call("replay", path, "--json").ended(2)
    assert done.err.splitlines()[-1] == (
        f"f1buf: {path}: there is no reading in it: it holds no datagram that means something"
    )
    assert done.summary["readings"] == 0
    assert done.summary["latency_s"] == {"p50": None, "p99": None, "max": None}


def test_a_recording_of_rows_that_hold_nothing(tmp_path):
    path = write_recording(tmp_path / "text.sqlite3", [(1.0, "no datagram"), (2.0, "none either")])
    done = call("replay", path, "--speed", "max").ended(2)
    assert done.err.endswith(f"f1buf: {path}: no datagram in it could be used: 2 x unreadable row\n")


def test_replaying_leaves_the_recording_as_it_was(race):
    before = race.read_bytes()
    assert call("replay", race, "--speed", "max").status == 0
    assert race.read_bytes() == before


@pytest.mark.parametrize("option", ["--alerts", "--thresholds"])
def test_a_recording_given_as_another_file_is_not_destroyed(race, option):
    before = race.read_bytes()
    assert call("replay", race, "--speed", "max", option, race).status == 2
    assert race.read_bytes() == before


# Corrupt and foreign input --------------------------------------------------------------------------------------------


def corrupt(now, **fields):
    packet = datagram(6, now)
    cars = packet["car_telemetry_data"][0]
    cars["engine_temperature"] = 100
    cars["tyres_pressure"] = 30.0
    for field, value in fields.items():
        cars[field][0] = value
    return packet.tobytes()


def counted(now, count):
    packet = datagram(4, now)
    packet["num_active_cars"] = count
    return packet.tobytes()


WHOLE = telemetry(11.0, 100, 100)
DAMAGED = {
    "truncated header": (b"\xea\x07", "truncated datagram"),
    "empty": (b"", "truncated datagram"),
    "truncated": (WHOLE[:-1], "truncated datagram"),
    "longer": (WHOLE + b"\0", "oversized datagram"),
    "a year of old": (telemetry(11.0, 1).replace(b"\xea\x07", b"\xe4\x07", 1), "unknown format year"),
    "unknown packet": (WHOLE[:6] + b"\x63" + WHOLE[7:], "unknown packet id"),
    "impossible count": (counted(11.0, 25), "impossible car count"),
    "NaN": (corrupt(11.0, tyres_pressure=float("nan")), "absurd value"),
    "infinity": (corrupt(11.0, tyres_pressure=float("inf")), "absurd value"),
    "session time": (telemetry(11.0, 1, session_time=float("nan")), "absurd session time"),
    "no blob": (17, "unreadable row"),
    "text": ("datagram", "unreadable row"),
    "NULL": (None, "unreadable row"),
}


@thorough(but=("*-max",))
@pytest.mark.parametrize("speed", ["max", "20"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_what_cannot_be_used_is_counted_by_reason_and_stops_nothing(tmp_path, damage, speed):
    row, reason = DAMAGED[damage]
    good = telemetry(10.0, 100, 100), telemetry(11.1, 100, 100)
    rows = [(10.0, participants(10.0, "A", "B")), (10.0, good[0]), (11.0, row), (11.0, row), (11.1, good[1])]
    done = call("replay", write_recording(tmp_path / "damaged.sqlite3", rows), "--speed", speed, "--json").ended()
    result = done.summary
    assert result["rejected"].keys() == {reason}
    assert re.search(rf"rejected +{result['rejected'][reason]} x {reason}", done.err)
    kept = (12 - 4) * 2 if reason == "absurd value" else 0  # four tyres of the first car
    assert result["rejected"][reason] == (8 if reason == "absurd value" else 2)
    assert result["readings"] == result["analysed"] == 24 + kept


def test_missing_rows_are_told_and_fail_nothing(tmp_path):
    path = write_recording(
        tmp_path / "deleted.sqlite3", [(n, participants(10.0, "A")) for n in range(59)] + [(59, telemetry(59.0, 300))]
    )
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM packets WHERE pkt_id IN (1, 2, 5, 6, 7) OR pkt_id > 20 AND pkt_id % 2")
    database.close()
    done = call("replay", path, "--speed", "max", "--json").ended()
    assert done.summary["rejected"] == {"missing row": 5 + 20}
    assert done.summary["gaps"] == [[1, 2], [5, 7]] + [[n, n] for n in range(21, 36, 2)]
    assert re.search(r"rejected +25 x missing row\n", done.err)
    assert re.search(r"missing +pkt_id 1 to 2, 5 to 7, 21, 23, 25, 27, 29, 31, 33, 35 and more\n", done.err)


@thorough
@pytest.mark.parametrize("timestamp", [1e12, 1e300, -1e300, float("inf"), "soon", None], ids=repr)
@pytest.mark.parametrize("where", ["first", "amid"])
def test_an_absurd_timestamp_of_a_row_does_not_stop_a_paced_replay(tmp_path, timestamp, where):
    rows = [(10.0 + i / 100, telemetry(10.0 + i / 100, 100)) for i in range(10)]
    rows[1 if where == "first" else 5] = (timestamp, rows[4][1])
    if where == "first":
        rows[0] = (timestamp, participants(10.0, "A"))
    else:
        rows[0] = (10.0, participants(10.0, "A"))
    path = write_recording(tmp_path / "clock.sqlite3", rows)
    done = call("replay", path, "--duration", 60, "--json")  # it takes a tenth of a second
    readable = isinstance(timestamp, float) and timestamp != float("inf")
    assert done.status == (0 if readable or where == "amid" else 2)  # without participants nothing can be used
    lost = 0 if readable else 2 if where == "first" else 1
    assert done.summary["rejected"].get("unreadable row", 0) == lost
    if readable or where == "amid":
        assert done.summary["readings"] == 6 * (9 - lost)


@pytest.mark.parametrize("speed", ["max", "20"])
def test_a_recording_that_is_damaged_farther_on(tmp_path, speed):
    """The rows before the damage are analysed; the last line tells of it."""
    rows = [(10.0, participants(10.0, "A"))] + [(10.0, telemetry(10.0, 100)) for _ in range(2000)]
    path = write_recording(tmp_path / "damaged.sqlite3", rows)
    content = bytearray(path.read_bytes())
    page = 4096 * (len(content) // 4096 // 3)
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    done = call("replay", path, "--speed", speed, "--json").ended(2)
    last = done.err.splitlines()[-1]
    assert str(path) in last
    read = int(re.search(r"damaged .*after row (\d+)", last)[1])
    assert done.summary["readings"] == done.summary["analysed"] == (read - 1) * 6  # the first names the drivers


def test_the_real_race_with_damaged_rows(recordings_dir, tmp_path):
    source = recordings_dir / "f1_2026_race.sqlite3"
    if not source.is_file():
        pytest.skip(f"the recording of a race is missing: {source} (set F1BUF_DATA)")
    path = tmp_path / "damaged.sqlite3"
    path.write_bytes(source.read_bytes())
    with sqlite3.connect(path) as database:
        ids = database.execute("SELECT pkt_id FROM packets WHERE packetId = 6 ORDER BY pkt_id").fetchall()
        for damaged, rows in (
            ("substr(packet, 1, 100)", ids[100:103]),
            ("CAST(x'e407' || substr(packet, 3) AS BLOB)", ids[200:202]),
            ("'text'", ids[300:301]),
        ):
            database.executemany(f"UPDATE packets SET packet = {damaged} WHERE pkt_id = ?", rows)
    database.close()
    done = call("replay", path, "--speed", "max", "--json").ended()
    assert done.summary["rejected"] == {"unreadable row": 1, "truncated datagram": 3, "unknown format year": 2}
    assert done.summary["readings"] == 220_000 - 6 * 22 * 6


# Bad usage ------------------------------------------------------------------------------------------------------------

HUGE = "1" + "0" * 400
BAD_RUN = {
    "--duration": ("0", "-1", "nan", "inf", "soon"),
    "--count": ("0", "-5", "1.5", "nan", "9" * 5000),
    "--sensors-per-type": ("0", "x"),
    "--sensors": (None,),
    "--analyzers": ("0", "-1", "three"),
    "--analyzer-delay": ("-0.1", "nan", "inf"),
    "--buffer-size": ("0", "-1", "1e3", f"{10**12}", f"{2**63 - 1}", f"{10**30}", HUGE),
    "--rate": ("0", "1e-12", "-100", "nan", "inf", "MAX"),
    "--overflow": ("spill",),
    "--thresholds": ("no_such_profile", ".", "", "-"),
    "--record": ("-",),
    "--seed": ("-1", "x"),
    "--alerts": (".", "no/such/folder/alerts.jsonl", ""),
    "--cars": ("all",),
    "--speed": ("1",),
    "--no-such-option": (None,),
    "surplus": (None,),
}
BAD_REPLAY = {
    "--speed": ("0", "-1", "nan", "inf", "fast"),
    "--cars": ("", "none", "1,", "1;2", "1.5", "-1", "24", HUGE),
    "--buffer-size": (f"{10**12}",),
    "--thresholds": ("no_such_profile",),
    "--dbc": ("-",),
    "--count": ("5",),
    "--rate": ("5",),
    "--seed": ("5",),
    "--sensors": ("a:B",),
    "--sensors-per-type": ("5",),
    "--classic": (None,),
    "second.sqlite3": (None,),
}
TWICE_STDOUT = ["--json", "--alerts", "-"]


def each_of(bad):
    return [[option, *([] if value is None else [value])] for option, values in bad.items() for value in values]


def shortened(args):
    return " ".join(arg if len(arg) < 40 else f"{arg[:8]}..." for arg in map(str, args)) or "nothing"


def refused(*args, how=call):
    """Status 2 and one line that starts with the command; nothing on standard output."""
    done = how(*args)
    assert done.status == 2, done
    assert done.out == ""
    assert re.match(r"f1buf( \w+)?: error: ", done.error)
    assert "Traceback" not in done.err
    return done.error


@pytest.mark.parametrize("args", [*each_of(BAD_RUN), TWICE_STDOUT], ids=shortened)
def test_bad_usage_of_run(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused("run", *args)
    assert any(shortened([arg]).rstrip(".") in error for arg in args)  # it says what it is about
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [*each_of(BAD_REPLAY), TWICE_STDOUT], ids=shortened)
def test_bad_usage_of_replay(args, race):
    refused("replay", race, *args)


@pytest.mark.parametrize("args", [[], ["fly"], ["--json"], ["replay"], ["thresholds", "x"], ["thresholds", "a", "b"]])
def test_bad_usage_of_the_command(args):
    refused(*args)


@thorough(but=("nothing",))
@pytest.mark.parametrize(
    "args", [["run", "--buffer-size", 10**12], ["run", "--buffer-size", HUGE], ["fly"], []], ids=shortened
)
def test_bad_usage_in_a_process_of_its_own(args):
    refused(*args, how=command)


@pytest.mark.parametrize("args", ["replay -", "run --thresholds -", "run --record -"])
def test_a_dash_is_refused_where_a_file_is_read(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("")  # an empty file of thresholds, which is a good one
    assert "'-': expected a name, no stream; ./- for what is called so" in refused(*args.split())
    assert call("run", "--thresholds", "./-", *FEW).status == 0


def test_a_recording_that_was_cut_off(tmp_path, race):
    path = tmp_path / "cut.sqlite3"
    path.write_bytes(race.read_bytes()[:5000])
    assert "cut.sqlite3" in refused("replay", path)


SOUND = '[[threshold]]\nchannel = "SPEED"\nabove = 1\nmessage = "x"\n'
BAD_FILES = {
    "text for a limit": (SOUND * 2 + SOUND.replace("= 1", '= "fast"'), "threshold[2].above"),
    "infinite": (SOUND * 2 + SOUND.replace("= 1", "= inf"), "threshold[2].above"),
    "NaN": (SOUND.replace("above = 1", "below = nan"), "threshold[0].below"),
    "no limit": (SOUND + SOUND.replace("above = 1", ""), "threshold[1].above"),
    "both limits": (SOUND.replace("above = 1", "above = 1\nbelow = 0"), "threshold[0].below"),
    "no message": (SOUND.replace('message = "x"', ""), "threshold[0].message"),
    "number for a message": (SOUND.replace('"x"', "5"), "threshold[0].message"),
    "no channel": (SOUND.replace('channel = "SPEED"', ""), "threshold[0].channel"),
    "unknown channel": (SOUND + SOUND.replace("SPEED", "SPED"), "threshold[1].channel"),
    "unknown key": (SOUND + "colour = 1", "threshold[0].colour"),
    "not a bool": (SOUND + "absolute = 1", "threshold[0].absolute"),
    "single brackets": (SOUND.replace("[[threshold]]", "[threshold]"), "[[threshold]]"),
    "other table": ("[[limit]]\n", "limit"),
    "no TOML": ("channel: SPEED", "TOML"),
    "no UTF-8": (b"\xff\xfe", "UTF-8"),
    "two lines in a name": (SOUND.replace("SPEED", "SP\\nEED"), "threshold[0].channel"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_files_of_thresholds_name_the_place(what, tmp_path):
    text, said = BAD_FILES[what]
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    alerts = tmp_path / "alerts.jsonl"
    alerts.write_text("of an earlier run\n")
    error = refused("run", "--thresholds", path, "--alerts", alerts, *FEW)
    assert said in error
    assert "bad.toml" in error
    assert alerts.read_text() == "of an earlier run\n"  # what did not run has overwritten nothing


def test_version():
    assert re.fullmatch(r"f1buf \d+\.\d+\S*\n", call("--version").out)


def test_a_run_in_this_process_leaves_its_signals_alone():
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    call("run", *FEW)
    call("run", "--thresholds", "nothing")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


# Signals --------------------------------------------------------------------------------------------------------------

SLOW = ("--analyzer-delay", 0.01, "--buffer-size", 50, "--analyzers", 2)
# While 10 are analysed, 250 would be made; what the buffer holds then takes 1.5 s.
BACKLOG = ("--analyzer-delay", 0.05, "--buffer-size", 30, "--analyzers", 1, "--alert-samples")
ENDLESS = ("--analyzer-delay", 0.2, "--buffer-size", 500, "--analyzers", 1, "--rate", 1000)


@thorough(but=("full speed-SIGINT",))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("options", [(), ("--rate", "max"), SLOW], ids=["paced", "full speed", "slow analyzers"])
def test_the_first_signal_ends_in_order_with_nothing_lost(crossed, number, options):
    # Where the analyzers are slow, the buffer is full by then.
    options = ("--thresholds", crossed, "--alert-samples", *options, "--json")
    done = interrupted("run", *options, times=60, by=[number]).ended()
    assert 60 <= done.summary["readings"] == done.summary["analysed"]
    assert f"{done.summary['readings']:,} made" in done.err


def test_a_replay_is_interrupted_likewise(race, crossed):
    done = interrupted("replay", race, "--speed", 0.01, "--thresholds", crossed, "--json").ended()
    assert 0 < done.summary["readings"] == done.summary["analysed"] < RACE_READINGS


@thorough
def test_fail_on_alert_after_an_interrupt(crossed):
    assert interrupted("run", "--thresholds", crossed, "--fail-on-alert").status == 3


@thorough
@each_look
def test_a_drain_shows_how_many_are_left(crossed, program):
    """Also where there is no view."""
    done = interrupted("run", "--thresholds", crossed, *BACKLOG, program=program, times=10).ended()
    before_summary = done.err.partition(" made, ")[0]
    assert re.search(r"\d+ (readings )?left", before_summary)


@thorough(but=("SIGINT",))
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_second_interrupt_ends_a_long_drain_at_once(crossed, first):
    with running("run", "--thresholds", crossed, "--alert-samples", *ENDLESS) as process:
        for _ in range(3):  # the buffer is full by then
            read_until(process.stderr, CROSSED)
        process.send_signal(first)
        read_until(process.stderr, "readings left")  # it drains: hundreds of readings at 0.2 s each
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.status == 130  # a drain that comes to its end gives another status
    assert "Traceback" not in done.err


def test_a_second_interrupt_ends_at_once_though_the_terminal_is_gone(monkeypatch):
    def ended(status):
        raise SystemExit(status)

    def gone():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    runner = Runner(build_parser("run").parse_args(["run"]))
    monkeypatch.setattr(os, "_exit", ended)
    monkeypatch.setattr(runner.console, "restore_terminal", gone)
    runner.on_signal(signal.SIGINT, None)
    with pytest.raises(SystemExit, match="130"):
        runner.on_signal(signal.SIGINT, None)


@thorough
def test_a_second_sigterm_does_not_end_a_drain(crossed):
    done = interrupted("run", "--thresholds", crossed, *BACKLOG, "--json", by=[signal.SIGTERM] * 3, times=10).ended()
    assert done.summary["readings"] == done.summary["analysed"]


SIGNALLED_AT_THE_SUMMARY = """
import os, signal, sys
from f1buf.command import cli, console
show = console.Console.summary
def summary(*args):
    os.kill(os.getpid(), signal.{})
    show(*args)
console.Console.summary = summary
sys.exit(cli.main())
"""


@thorough(but=("SIGINT",))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_first_signal_during_the_summary_does_not_cut_it_off(number):
    """A run may end by itself at the moment when somebody stops it."""
    done = command("run", *FEW, "--json", program=("-c", SIGNALLED_AT_THE_SUMMARY.format(number.name))).ended()
    assert done.summary["analysed"] == 25
    assert "25 made, 25 analysed" in done.err


# Streams that break ---------------------------------------------------------------------------------------------------

BROKEN = {"nobody": "Broken pipe", "full": "No space left on device", "closed": "closed"}


def each_break(*ways):
    """A standard stream that nobody reads, one on a full disk, and one that was closed before (the shell's `>&-`)."""
    full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    ways = [pytest.param(way, marks=full) if way == "full" else way for way in ways or BROKEN]
    return pytest.mark.parametrize("broken", ways)


@contextlib.contextmanager
def streams(**ways):
    """Options of `command` that give it these broken streams, such as ``stdout="full"``."""
    with contextlib.ExitStack() as stack:
        options, numbers = {}, []
        for name, way in ways.items():
            if way == "closed":
                options[name] = None
                numbers.append({"stdout": 1, "stderr": 2}[name])
            elif way == "full":
                options[name] = stack.enter_context(open("/dev/full", "w"))
            else:
                reading, options[name] = os.pipe()
                os.close(reading)
                stack.callback(os.close, options[name])
        yield {**options, "preexec_fn": lambda: [os.close(number) for number in numbers]}


@each_break("full")
def test_an_alerts_file_that_fills_up(crossed, broken):
    options = ["--alerts", "/dev/full", "--alert-samples", "--count", 2000, *FAST]
    done = command("run", "--thresholds", crossed, *options, "--json").ended(1)
    assert done.summary["analysed"] == 10_000
    assert re.search("alerts.*/dev/full.*No space left", done.err.splitlines()[-1])


@thorough(but=("json-full", "alerts-nobody", "json-closed"))
@each_break()
@pytest.mark.parametrize("args", [["--alerts", "-"], ["--json"]], ids=["alerts", "json"])
def test_data_that_standard_output_does_not_take(crossed, args, broken):
    with streams(stdout=broken) as options:
        done = command("run", "--thresholds", crossed, *args, *FEW, **options).ended(1)
    assert "25 made, 25 analysed" in done.err
    assert re.search(f"standard output: .*{BROKEN[broken].split(' on')[0]}", done.err.splitlines()[-1])


TEXTS = ["--help", "--version", "run --help", "thresholds"]
each_buffering = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@thorough(but=("buffered---help-nobody", "buffered-thresholds-full", "buffered-thresholds-closed"))
@each_break()
@pytest.mark.parametrize("args", TEXTS)
@each_buffering
def test_text_that_standard_output_does_not_take(args, broken, unbuffered):
    """Without the command's care Python would say so at length at its end, and end with status 120."""
    with streams(stdout=broken) as options:
        done = command(*args.split(), env={"PYTHONUNBUFFERED": unbuffered}, **options)
    assert done.error.endswith(f": error: standard output: {BROKEN[broken]}")
    assert done.status == 1


PRINTING_SENSOR = """
from f1buf.telemetry import Channel, Sensor

class Printing(Sensor):
    channel = Channel("PRINTED", "bar", (0.0, 8.0))
    def read(self):
        print("I read")
        return self.reading(5.0, 1.0)
"""


def test_what_a_sensor_prints_that_nobody_reads(tmp_path):
    (tmp_path / "printing.py").write_text(PRINTING_SENSOR)
    with streams(stdout="nobody") as options:
        done = command("run", "--sensors", "printing:Printing", *FEW, cwd=tmp_path, **options)
    assert done.err.splitlines()[-1] == "f1buf: error: standard output: Broken pipe"
    assert "5 made, 5 analysed" in done.err
    assert done.status == 1


@thorough(but=("nobody-plain",))
@each_look
@each_break("nobody", "full")
def test_standard_error_that_nobody_can_read(crossed, broken, program):
    """The work goes on, and the data is complete."""
    args = ["run", "--thresholds", crossed, "--alert-samples", "--count", 50, *FAST]
    with streams(stderr=broken) as options:
        done = command(*args, "--json", program=program, **options)
        assert (done.status, done.summary["analysed"]) == (0, 250)
        done = command(*args, "--alerts", "-", program=program, **options)
        assert (done.status, len(json_lines(done.out))) == (0, 250)


@thorough(but=("buffered-nobody-alerts",))
@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["run", "--rate", "nothing"], 2),
        (["run", "--thresholds", "nothing"], 2),
        (["--help"], 0),
        (["run", *FEW, "--thresholds", "CROSSED", "--fail-on-alert"], 3),
    ],
    ids=["argparse's error", "our error", "help", "alerts"],
)
@each_break("nobody", "full")
@each_buffering
def test_the_status_where_nobody_can_read_standard_error(crossed, broken, args, status, unbuffered):
    args = [crossed if arg == "CROSSED" else arg for arg in args]
    with streams(stderr=broken) as options:
        assert command(*args, env={"PYTHONUNBUFFERED": unbuffered}, **options).status == status


@thorough
def test_neither_stream_is_read():
    with streams(stdout="nobody", stderr="nobody") as options:
        assert command("thresholds", **options).status == 1
        assert command("run", *FEW, "--json", **options).status == 1


@thorough
@each_look
def test_standard_error_closed(crossed, program):
    """What is for people goes nowhere; standard output still carries only data."""
    with streams(stderr="closed") as options:
        done = command("run", "--thresholds", crossed, *FEW, "--json", program=program, **options)
        assert (done.status, strict_json(done.out)["analysed"]) == (0, 25)
        for args, status in (("--classic --count 1", 0), ("--thresholds nothing", 2), ("--rate nothing", 2)):
            assert command("run", *args.split(), program=program, **options)[:2] == (status, "")


def test_standard_streams_closed_that_are_not_needed(tmp_path, crossed):
    path = tmp_path / "alerts.jsonl"
    with streams(stdout="closed", stderr="closed") as options:
        command("run", "--thresholds", crossed, *FEW, "--alerts", path, **options).ended()
    assert len(json_lines(path.read_text(encoding="utf-8"))) == 5


@thorough
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@each_look
def test_streams_that_know_few_characters(race, tmp_path, encoding, program):
    """Drivers and units have other characters; JSON can say them all."""
    message = "Σ too fast"
    file = write_thresholds(tmp_path / "mine.toml", {"channel": "SPEED", "above": 340, "message": message})
    options = {"program": program, "env": {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}}
    args = ["replay", race, "--speed", "max", "--thresholds", file]
    done = command(*args, "--alerts", "-", **options).ended()
    [alert] = json_lines(done.out)
    assert (alert["message"], alert["driver"]) == (message, "PÉREZ")
    done = command(*args, "--json", **options).ended()
    assert done.summary["thresholds"][0]["message"] == message


# Looks ----------------------------------------------------------------------------------------------------------------


def masked(text):
    """The text without the numbers, which differ from run to run."""
    return re.sub(r"[\d.,]+( [mµ]?s)?", "#", text)


@thorough
def test_without_rich_the_command_says_the_same(crossed):
    done = command("run", "--thresholds", crossed, *FEW, program=PROGRAM_WITHOUT_RICH).ended()
    assert masked(done.err) == masked(command("run", "--thresholds", crossed, *FEW).err)


@thorough
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_control_characters_where_there_is_no_terminal(crossed, env):
    done = command("run", "--thresholds", crossed, "--duration", 0.3, env=env).ended()
    assert "\x1b" not in done.err
    assert "\r" not in done.err
