"""`f1buf report`: what is in the page and in the JSON, that it is what `replay` finds, and what is refused."""

import base64
import hashlib
import os
import re
import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    call,
    command,
    finish,
    json_lines,
    participants,
    running,
    telemetry,
    write_recording,
    write_thresholds,
)
from recorder_helpers import numbered, part_names, record, recording_to, wait_until
from report_cases import HTML, embedded, page_of, report, short_race, traces, without_times

from f1buf.command import report as module
from f1buf.telemetry import F1TelemetrySystem, Threshold, channel_by_number, unseen
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet


@pytest.fixture
def race(tmp_path):
    return short_race(tmp_path / "race.sqlite3")


@pytest.fixture
def real_race(recordings_dir):
    path = recordings_dir / "f1_2026_race.sqlite3"
    if not path.is_file():
        pytest.skip(f"the recording of a race is missing: {path} (set F1BUF_DATA)")
    return path


@pytest.fixture
def road_car(recordings_dir):
    pytest.importorskip("cantools", reason="a CAN log needs cantools")
    paths = recordings_dir / "road_car.log", recordings_dir / "road_car.dbc"
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the log of a road car is missing: {paths[0]} (set F1BUF_DATA)")
    return paths


def readings_of(source):
    return np.concatenate(list(source.batches(threading.Event())))


def assert_traces_are(data, stream):
    """The page has each of these readings, with its whole value, and its time to the microsecond."""
    found = traces(data)
    assert sum(map(len, found.values())) == len(stream) == data["readings"]
    first = stream["timestamp"].min()
    order = np.lexsort((stream["timestamp"], stream["channel"], stream["sensor_id"]))
    expected = {}
    for at, sensor, number, _flags, value in stream[order].tolist():
        expected.setdefault((sensor, channel_by_number(number).name), []).append((at - first, value))
    assert found.keys() == expected.keys()
    for key, points in expected.items():
        assert [value for _, value in found[key]] == [value for _, value in points]
        assert np.allclose([at for at, _ in found[key]], [at for at, _ in points], rtol=0, atol=1e-6)


def assert_finds_what_replay_finds(path, tmp_path, *options):
    """The alerts, the thresholds' counts and what was lost and rejected; return the report's run and its data."""
    replayed = call("replay", path, "--speed", "max", "--json", "--alerts", tmp_path / "alerts.jsonl", *options)
    done = report(path, *options)
    data, summary = done.summary, replayed.summary
    assert done.status == replayed.status
    assert data["alerts"] == json_lines((tmp_path / "alerts.jsonl").read_text())
    assert data["alert_count"] == len(data["alerts"])
    for key in ("readings", "analysed", "dropped", "thresholds", "rejected", "notes"):
        assert data[key] == summary[key], key
    return done, data


# What is in it --------------------------------------------------------------------------------------------------------


def test_the_page_and_the_json_say_the_same(race, tmp_path):
    done = report(race, "-o", tmp_path / "page.html").ended()
    assert embedded((tmp_path / "page.html").read_text()) == done.summary
    assert re.fullmatch(rf"{tmp_path}/page.html: 2,160 readings of 12 series, 1 alert, 0.\d MB\n", done.err)
    assert without_times(report(race).summary) == without_times(done.summary)
    assert sorted(os.listdir(tmp_path)) == ["page.html", "race.sqlite3"]


def test_the_alerts_and_readings_of_a_race(race, tmp_path):
    done, data = assert_finds_what_replay_finds(race, tmp_path)
    done.ended()
    assert [(alert["car"], alert["lap"], alert["time"]) for alert in data["alerts"]] == [(0, 3, 22)]
    with open_recording(race) as recording:
        assert_traces_are(data, readings_of(Replay(recording, Decoder(), None)))
    assert data["subjects"] == {
        "kind": "car",
        "items": [{"label": "0 ANN", "car": 0, "driver": "ANN"}, {"label": "1 BOB", "car": 1, "driver": "BOB"}],
    }


def test_the_laps_of_a_race(race):
    laps = report(race).summary["laps"]
    assert [(lap["subject"], lap["lap"], lap.get("seconds"), lap.get("within")) for lap in laps] == [
        *((0, lap, 10.0 if lap in (2, 3, 4) else None, 0.25 if lap in (2, 3, 4) else None) for lap in range(1, 6)),
        *((1, lap, 10.0 if lap in (2, 3, 4) else None, 0.25 if lap in (2, 3, 4) else None) for lap in range(1, 6)),
    ]
    assert [lap["first"] for lap in laps if lap["subject"] == 1] == [0, 11, 21, 31, 41]
    assert [lap["alerts"] for lap in laps] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    steady = 210 / 3.6 * 9.75  # to the last reading of the lap
    assert [lap["distance"] for lap in laps if lap["subject"] == 1 and "seconds" in lap] == pytest.approx(
        [steady] * 3, abs=0.06
    )


def test_the_choice_of_cars_and_thresholds(race, tmp_path):
    limits = write_thresholds(tmp_path / "mine.toml", {"channel": "SPEED", "above": 205, "message": "Fast"})
    done = report(race, "--cars", "1", "--thresholds", limits, "--fail-on-alert").ended(3)
    assert [item["label"] for item in done.summary["subjects"]["items"]] == ["1 BOB"]
    assert done.summary["alert_count"] == 1
    assert report(race, "--thresholds", limits, "--alert-samples").ended().summary["alert_count"] > 100


def test_the_real_race(real_race, tmp_path):
    _, data = assert_finds_what_replay_finds(real_race, tmp_path)
    with open_recording(real_race) as recording:
        assert_traces_are(data, readings_of(Replay(recording, Decoder(), None)))
    assert data["lost"] == {"on the network": data["network"]["lost"]}
    assert (len(data["series"]), len(data["subjects"]["items"]), data["is_thinned"]) == (220, 22, False)
    began = [lap for lap in data["laps"] if lap["begin_heard"]]
    assert (len(data["laps"]), len(began)) == (42, 20)
    engine = [place for place, each in enumerate(data["channels"]) if each["name"] == "ENGINE_TEMP"]
    odd = [each["subject"] for each in data["series"] if each["channel"] in engine and each["stands_out"]]
    assert odd == [21]  # all others have exactly 110 °C


def processor_seconds():
    """What children that have ended took of the processors: less than the clock says where others want them, too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_real_race_makes_a_small_page_soon(real_race, tmp_path):
    before = processor_seconds()
    command("report", real_race, "-o", tmp_path / "race.html").ended()
    assert processor_seconds() - before < 5 * 3  # 5 s on a machine that has nothing else to do
    assert (tmp_path / "race.html").stat().st_size < 10e6


def test_a_road_car(road_car, tmp_path):
    log, database = road_car
    limits = write_thresholds(
        tmp_path / "car.toml",
        {"channel": "COOLANT_TEMP", "above": 93, "message": "Hot"},
        {"channel": "RPM", "above": 5000, "message": "High revs"},
    )
    _, data = assert_finds_what_replay_finds(log, tmp_path, "--dbc", database, "--thresholds", limits)
    assert [each["rises"] for each in data["thresholds"]] == [1, 3]
    assert data["subjects"]["kind"] == "message"
    assert data["time"]["is_unix"]
    assert data["laps"] == []
    assert sum(map(len, traces(data).values())) == 91_381


def test_a_simulated_run(tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    call("run", "--count", 4000, "--rate", "max", "--seed", 7, "--record", tmp_path / "run").ended()
    _, data = assert_finds_what_replay_finds(tmp_path / "run", tmp_path)
    assert_traces_are(data, readings_of(ParquetReplay(open_parquet(tmp_path / "run"), None)))
    assert (data["subjects"]["kind"], len(data["series"]), data["alert_count"]) == ("sensor", 5, 3)


# Where there is little or something is wrong --------------------------------------------------------------------------


def test_an_empty_recording(tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    record(tmp_path / "empty")
    text, data = page_of(tmp_path / "empty", tmp_path / "page.html")
    assert (data["readings"], data["series"], data["time"], data["problems"]) == (0, [], None, [])
    assert text.startswith("<!DOCTYPE html>")


def test_a_recording_of_nothing_that_can_be_used(tmp_path):
    path = write_recording(tmp_path / "race.sqlite3", [(0.0, b"no packet")])
    why = f"{path}: no datagram in it could be used: 1 x truncated datagram"
    done = report(path).ended(2)
    assert done.error == f"f1buf: {why}"
    assert done.summary["problems"] == [why]
    assert done.summary["rejected"] == {"truncated datagram": 1}


@pytest.fixture
def three_parts(tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    limit = Threshold("SPEED", above=14.5, message="Fast")
    with recording_to(tmp_path / "parts", part_seconds=0, thresholds=[limit]) as recorder:
        for number in range(3):
            recorder.ring.put_many(numbered(1000, 1000 * number))
            wait_until(lambda number=number: recorder.parts == number + 1)
    return tmp_path / "parts"


def test_a_damaged_part(three_parts, tmp_path):
    part = three_parts / part_names(3)[1]
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    _, data = assert_finds_what_replay_finds(three_parts, tmp_path)
    assert data["readings"] == 1000
    [problem] = data["problems"]
    assert f"{part}: damaged or unreadable: its checksum " in problem
    _, shown = page_of(three_parts, tmp_path / "page.html", status=2)
    assert without_times(shown) == without_times(data)


def test_a_missing_part(three_parts, tmp_path):
    (three_parts / part_names(3)[1]).unlink()
    _, data = assert_finds_what_replay_finds(three_parts, tmp_path)
    assert data["readings"] == 2000
    assert data["rejected"] == {"missing part": 1}
    [problem] = data["problems"]
    assert "missing parts: 2; the others were read" in problem
    assert page_of(three_parts, tmp_path / "page.html", status=2)[1]["problems"] == [problem]


def test_names_with_html_in_them_are_text(tmp_path):
    path = short_race(tmp_path / "<img src=x onerror=alert(1)>.sqlite3", HTML, "{{DATA}}{{STYLES}}", seconds=3)
    limits = {"channel": "SPEED", "above": 5, "message": "<script>alert('over')</script>"}
    limits = write_thresholds(tmp_path / "mine.toml", limits)
    text, data = page_of(path, tmp_path / "page.html", "--thresholds", limits)
    assert [item["driver"] for item in data["subjects"]["items"]] == [HTML, "{{DATA}}{{STYLES}}"]
    assert data["alerts"][0]["message"] == "<script>alert('over')</script>"
    assert data["file"]["name"] == path.name
    plain, _ = page_of(short_race(tmp_path / "plain.sqlite3", seconds=3), tmp_path / "plain.html")
    for mark in ("<script", "</script", "<img", "<!--"):
        assert text.count(mark) == plain.count(mark)


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path):
    path = short_race(os.fsencode(tmp_path / "r") + b"\xff\xfe", seconds=3)
    text, data = page_of(os.fsdecode(path), tmp_path / "page.html")
    assert data["file"]["name"] == "r??"
    text.encode()


def test_the_page_asks_for_nothing_and_runs_nothing_else(race, tmp_path):
    text, _ = page_of(race, tmp_path / "page.html")
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    hashes = dict(re.findall(r"(script|style)-src 'sha256-([^']*)'", policy))
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    for kind in ("script", "style"):
        [content] = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() == hashes[kind]
    assert not re.search(r"""(src|href)\s*=\s*["']|url\(|@import|\bfetch\(|XMLHttpRequest""", text)


# What is refused ------------------------------------------------------------------------------------------------------


def refused(*args):
    done = call("report", *args).ended(2)
    assert done.out == ""
    return done.error.removeprefix("f1buf report: error: ")


def test_wrong_usage(race, tmp_path, three_parts):
    page = tmp_path / "page.html"
    assert refused(race) == "nothing to write: expected -o PAGE, such as -o report.html, or --json"
    missing = tmp_path / "missing" / "page.html"
    assert refused(race, "-o", missing) == f"-o {missing}: cannot be written: No such file or directory"
    assert "'-': expected a name, no stream" in refused(race, "-o", "-")
    assert "-o/--output: the name is empty; expected one" in refused(race, "-o", "")
    long = tmp_path / ("x" * 256)
    assert refused(race, "-o", long) == f"-o {long}: cannot be written: File name too long"
    inside = three_parts / "page.html"
    assert refused(three_parts, "-o", inside) == f"-o {inside}: is in a folder of recorded parts; choose another one"
    gone = tmp_path / "gone.sqlite3"
    assert refused(gone, "-o", page).startswith(f"{gone}: No such file or directory; expected an SQLite recording")
    assert "neither a file nor a profile" in refused(race, "-o", page, "--thresholds", "fast")
    limits = write_thresholds(tmp_path / "mine.toml", {"channel": "OIL_OF_NOBODY", "above": 5})
    assert refused(race, "-o", page, "--thresholds", limits).startswith(f"--thresholds {limits}: ")
    assert refused(three_parts, "-o", page, "--cars", "1").startswith("--cars is for a recording of the game; ")
    assert not page.exists()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


EXISTS = "exists; expected a new file: choose another name, or remove it"


def test_what_is_there_is_left_alone(race, tmp_path):
    folder, full, empty, link = (tmp_path / name for name in ("folder", "full.html", "empty.html", "link.html"))
    folder.mkdir()
    full.write_text("mine")
    empty.touch()
    link.symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    for there in (folder, full, empty, link, race, Path("/dev/full")):
        assert refused(race, "-o", there) == f"-o {there}: {EXISTS}"
    assert (full.read_text(), empty.read_text(), link.is_symlink()) == ("mine", "", True)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_page_that_came_meanwhile_stays(race, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    monkeypatch.setattr(module, "page", lambda text: page.write_text("another's") and text)
    assert call("report", race, "-o", page).ended(1).error == f"f1buf report: error: -o {page}: {EXISTS}"
    assert page.read_text() == "another's"
    assert sorted(os.listdir(tmp_path)) == ["page.html", "race.sqlite3"]


def test_a_disk_that_is_full(race, tmp_path, monkeypatch):
    opened = unseen.open_unseen

    def open_full(path):
        file, temporary = opened(path)
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), file.fileno())
        return file, temporary

    monkeypatch.setattr(unseen, "open_unseen", open_full)
    done = report(race, "-o", tmp_path / "page.html").ended(1)
    why = "cannot be written: No space left on device"
    assert done.error == f"f1buf report: error: -o {tmp_path / 'page.html'}: {why}"
    assert done.summary["readings"] == 2160  # what was asked for on standard output comes all the same
    assert os.listdir(tmp_path) == ["race.sqlite3"]


def test_how_far_it_has_come_is_said(race, monkeypatch):
    monkeypatch.setattr(module, "SAY_SECONDS", 0.0)
    waited = []

    def wait(system, timeout=None):
        waited.append(timeout)
        return len(waited) > 2 and system_wait(system)

    system_wait = F1TelemetrySystem.wait
    monkeypatch.setattr(F1TelemetrySystem, "wait", wait)
    lines = report(race).ended().err.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"[\d,]+ readings so far; Ctrl-C stops", line) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_page(race, tmp_path, number):
    """Of a source that waits."""
    waits = (
        "import sys\nfrom f1buf.telemetry.sources.game.replay import Replay\n"
        "def batches(self, stop):\n    print('begun', file=sys.stderr, flush=True)\n"
        "    stop.wait(1000)\n    yield from ()\n"
        "Replay.batches = batches\nfrom f1buf.command.cli import main\nsys.exit(main())\n"
    )
    page = tmp_path / "page.html"
    with running("report", race, "-o", page, program=("-c", waits)) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        done = finish(process)
    assert done.ended(130).error == f"f1buf report: stopped; {page} was not made"
    assert os.listdir(tmp_path) == ["race.sqlite3"]


def test_a_sensor_that_stops_and_one_reading(tmp_path):
    path = write_recording(tmp_path / "race.sqlite3", [(0.0, participants(0.0, "A")), (0.1, telemetry(0.1, 100))])
    data = report(path).ended().summary
    assert [each["readings"] for each in data["series"]] == [1] * 6
    assert data["time"]["seconds"] == 0
