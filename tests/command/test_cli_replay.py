"""`f1buf replay`: what it plays, and what it says of what it cannot play."""

import gzip
import os
import sqlite3
import zipfile

import pytest
from cli_helpers import call, json_lines, participants, telemetry, write_recording
from recorder_helpers import numbered, part_names, record, recording_to, wait_until

from f1buf.telemetry import Threshold

EXPECTED = (
    "expected an SQLite recording of the game, a folder that --record has made or a part of it, an .mcap, an .mf4, or "
    "a CAN log with --dbc FILE"
)
A_CAN_LOG = "a CAN log needs a database that names its signals: --dbc FILE"


# What cannot be played ------------------------------------------------------------------------------------------------


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("part-000001.parquet", "")


def database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE messages (ts, arbitration_id)")
    connection.close()


MADE = {
    "nothing": ("missing", lambda path: None, f"No such file or directory; {EXPECTED}"),
    "empty": ("race.sqlite3", lambda path: path.write_bytes(b""), f"empty; {EXPECTED}"),
    "empty part": ("part-000001.parquet", lambda path: path.write_bytes(b""), f"empty; {EXPECTED}"),
    "csv": ("laps.csv", lambda path: path.write_text("lap,speed\n"), f"nothing that f1buf knows; {EXPECTED}"),
    "zip": ("race.zip", zipped, f"a zip archive, unpack it; {EXPECTED}"),
    "gz": ("race.gz", lambda path: path.write_bytes(gzip.compress(b"")), f"compressed, unpack it; {EXPECTED}"),
    "pipe": ("pipe", os.mkfifo, f"not a regular file; {EXPECTED}"),
    "log": ("drive.log", lambda path: path.write_text("(1.0) can0 100#00\n"), A_CAN_LOG),
    "log.gz": ("drive.LOG.gz", lambda path: path.write_bytes(gzip.compress(b"(1.0) can0 100#00\n")), A_CAN_LOG),
    "asc.gz": ("drive.asc.gz", lambda path: path.write_bytes(gzip.compress(b"date")), A_CAN_LOG),
    "blf": ("drive", lambda path: path.write_bytes(b"LOGG" + bytes(140)), A_CAN_LOG),
    "blf as a part": ("drive.parquet", lambda path: path.write_bytes(b"LOGG" + bytes(140)), A_CAN_LOG),
    "db": (
        "drive.db",
        database,
        "has no table 'packets'; expected a recording in the schema of f1-2020-telemetry (a CAN log needs --dbc FILE)",
    ),
    "folder": ("folder", os.mkdir, "holds no part of a recording; expected part-000001.parquet and so on"),
}


@pytest.mark.parametrize("what", MADE)
def test_a_path_without_a_recording_is_refused(tmp_path, what):
    name, make, message = MADE[what]
    make(tmp_path / name)
    done = call("replay", tmp_path / name).ended(2)
    assert done.out == ""
    assert done.err == f"f1buf replay: error: {tmp_path / name}: {message}\n"


BY_CONTENT = {
    b"SQLite format 3\0" + bytes(84): ("an SQLite database, such as the game's recordings", "log", "blf", "csv"),
    b"PAR1" + bytes(100): ("a part that --record has made", "log", "mf4", "db"),
}


@pytest.mark.parametrize("content", BY_CONTENT, ids=["game", "part"])
def test_a_can_database_is_refused_for_a_recording(tmp_path, content):
    """The name of the recording may be that of a CAN log."""
    what, *suffixes = BY_CONTENT[content]
    for suffix in suffixes:
        path = tmp_path / f"race.{suffix}"
        path.write_bytes(content)
        done = call("replay", path, "--dbc", tmp_path / "car.dbc").ended(2)
        assert done.out == ""
        message = f"{what}; expected a CAN log (without --dbc recordings are played)"
        assert done.err == f"f1buf replay: error: {path}: {message}\n"


@pytest.mark.parametrize("name", ["race.log", "race.blf", "race.parquet"])
def test_a_recording_of_the_game_is_known_under_any_name(tmp_path, name):
    write_recording(tmp_path / name, [(0.0, participants(0.0, "A")), (0.1, telemetry(0.1, 100))])
    done = replay(tmp_path / name)
    assert (done.status, done.summary["readings"]) == (0, 6)


@pytest.mark.parametrize("name", ["other.parquet", "other", "other.log"])
def test_a_parquet_file_that_f1buf_did_not_write(tmp_path, name):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"lap": [1]}), tmp_path / name)
    done = call("replay", tmp_path / name).ended(2)
    assert done.out == ""
    message = "has no metadata 'f1buf'; expected a part that f1buf recorded, no other Parquet file"
    assert done.err == f"f1buf replay: error: {tmp_path / name}: {message}\n"


# Folders that --record has made, and their parts ----------------------------------------------------------------------


@pytest.fixture
def race(tmp_path):
    """Three parts of ten readings, the second one with readings above a threshold, and the last one, which is empty."""
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    limit = Threshold("SPEED", above=14.5, message="Fast")
    with recording_to(tmp_path / "race", part_seconds=0, thresholds=[limit]) as recorder:
        for number in range(1, 4):
            recorder.ring.put_many(numbered(10, 10 * number - 10))
            wait_until(lambda number=number: recorder.parts == number)
    return tmp_path / "race"


def replay(path, *options):
    return call("replay", path, "--speed", "max", "--json", "--plain", *options)


def test_a_part_is_played_by_itself(race):
    (race / "part-000001.parquet").unlink()
    done = replay(race / "part-000002.parquet", "--fail-on-alert").ended(3)
    assert (done.summary["readings"], done.summary["rejected"]) == (10, {})
    assert "note " not in done.err
    assert done.summary["thresholds"][0]["samples"] == 5


def test_a_part_that_is_damaged(race):
    part = race / "part-000002.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    done = replay(part).ended(2)
    assert f"{part}: damaged or unreadable: its checksum is " in done.err


def test_a_recording_with_a_missing_part_is_played_and_fails(race):
    (race / "part-000002.parquet").unlink()
    done = replay(race)
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (2, 20, {"missing part": 1})
    message = "missing parts: 2; the others were read: copy the folder again"
    assert done.err.splitlines()[-1] == f"f1buf: replay of race failed: RecordingError: {race}: {message}"


def test_a_recording_without_its_end_is_played_with_a_note(race):
    assert sorted(os.listdir(race)) == part_names(4)
    (race / "part-000004.parquet").unlink()
    done = replay(race)
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (0, 30, {"missing end": 1})
    note = "the recording goes on: it is still recorded, was cut off, or its last parts are missing"
    assert done.summary["notes"] == [note]
    assert done.err.count(f"note       {note}\n") == 1


def test_a_whole_recording_needs_no_note(race):
    done = replay(race)
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (0, 30, {})
    assert done.summary["notes"] == []
    assert "note " not in done.err


def test_a_recording_of_a_recording_is_the_same(race, tmp_path):
    """By that, parts can be put together."""
    assert replay(race, "--record", tmp_path / "again").status == 0
    assert len(os.listdir(tmp_path / "again")) == 1
    assert replay(tmp_path / "again").summary["thresholds"] == replay(race).summary["thresholds"]


def test_no_recording_is_made_inside_of_one(race):
    done = replay(race, "--record", race / "sub").ended(2)
    assert done.out == ""
    assert f"--record {race / 'sub'}: is inside the recording {race}, whose readers would read both; " in done.err
    assert sorted(os.listdir(race)) == part_names(4)


def test_cars_are_for_the_game(race):
    done = call("replay", race, "--cars", "player").ended(2)
    assert "--cars is for a recording of the game; " in done.err


# Sessions in them -----------------------------------------------------------------------------------------------------

ONE, OTHER = 9645314088496810282, 1234567890123450099


@pytest.fixture
def two(tmp_path):
    """A recording of 40 readings: the even ones are of one session, each fourth is of another, the rest of none."""
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    batch = numbered(40)
    batch["sensor_id"] = batch["value"] % 4
    known = {0: {"session": ONE, "driver": "A"}, 1: {"session": OTHER}, 2: {"session": ONE, "driver": "B"}}
    limit = Threshold("SPEED", above=-1, message="Any")
    record(tmp_path / "two", batch, describe=lambda sensor_id, _: known.get(sensor_id, {}), thresholds=[limit])
    return tmp_path / "two"


def test_several_recorded_sessions_are_named(two):
    done = replay(two)
    assert done.summary["sessions"] == [str(ONE), str(OTHER)]
    assert f"sessions   {ONE}, {OTHER}" in done.err.splitlines()
    assert (done.summary["readings"], done.summary["rejected"]) == (40, {})


@pytest.mark.parametrize(
    ("choice", "values"), [(str(ONE), range(0, 40, 2)), ("0282", range(0, 40, 2)), ("0099", range(1, 40, 4))]
)
def test_one_recorded_session_is_chosen(two, tmp_path, choice, values):
    done = replay(two, "--session", choice, "--alert-samples", "--alerts", tmp_path / "alerts")
    alerts = json_lines((tmp_path / "alerts").read_text())
    assert [alert["value"] for alert in alerts] == list(values)
    assert not any("session" in alert for alert in alerts)
    assert done.status == 0
    assert done.summary["rejected"] == {"no session": 10, "other session": 30 - len(values)}
    assert "sessions" not in done.summary


def test_a_recorded_session_that_is_not_there(two):
    done = replay(two, "--session", "7777")
    assert (done.status, done.summary["readings"]) == (2, 0)
    assert done.err.splitlines()[-1] == (
        f"f1buf: {two}: no reading in it could be used: 30 x other session; another session is heard, not the one "
        "chosen; without --session every one is read, and named"
    )


def test_a_bad_choice_of_a_recorded_session(two):
    done = call("replay", two, "--session", "latest").ended(2)
    assert done.out == ""
    expected = "--session is 'latest': expected a session's number, or at least its last 4 digits"
    assert done.err == f"f1buf replay: error: {expected}\n"


def test_an_empty_recording(tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    record(tmp_path / "race")
    done = replay(tmp_path / "race")
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (0, 0, {})
