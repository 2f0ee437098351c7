"""Recordings in Parquet: what is read, what is refused, and that a replay gives the alerts of the original run."""

import json
import os
import sys
import threading
import time

import numpy as np
import pytest
from cli_helpers import Given, mixed_stream, pieces, watchdog
from helpers import WATCHDOG, parked, run_python, thorough, wait_until
from recorder_helpers import numbered, read, record, recording_to, replayed

from f1buf.telemetry import (
    PROFILES,
    Channel,
    F1TelemetrySystem,
    TelemetryError,
    Threshold,
    channels_by_name,
    described,
)
from f1buf.telemetry.channels import known_channels
from f1buf.telemetry.sources import RecordingError, parquet, schedule
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet

pa = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
parts = pytest.importorskip("f1buf.telemetry.parts", reason="reading Parquet needs pyarrow")


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(WATCHDOG):
        yield


def in_parts(folder, *batches, describe=None, numbers=None):
    """Record each batch as a part of its own, with these numbers."""
    numbers = list(numbers or range(1, len(batches) + 1))
    capacity = 8 * len(batches[0])  # it takes an eighth of the ring at once
    with recording_to(folder, describe, capacity=capacity, part_seconds=0) as recorder:
        for number, batch in zip(numbers, batches, strict=True):
            recorder.parts = number - 1
            if number == numbers[-1]:
                recorder.part_seconds = np.inf  # completed when the recording ends
            recorder.ring.put_many(batch)
            wait_until(lambda number=number: recorder.parts == number or number == numbers[-1])
    return folder


# What is read ---------------------------------------------------------------------------------------------------------


def test_parts_come_in_the_order_of_their_numbers(tmp_path):
    # names that sort the other way
    in_parts(tmp_path, numbered(10), numbered(10, 10), numbered(10, 20), numbers=range(999_998, 1_000_001))
    with pytest.raises(RecordingError, match="missing parts: 1 to 999997; "):
        read(tmp_path)
    (tmp_path / "laps.parquet").write_text("another program's")
    (tmp_path / "part-1.parquet").write_text("another program's")
    recording = open_parquet(str(tmp_path))
    assert recording.count == 30
    assert played(recording)[0] == list(range(30))


def played(recording):
    """The values of all readings, and what ended the replay."""
    values = []
    try:
        for batch in ParquetReplay(recording, None).batches(threading.Event()):
            values += batch["value"].tolist()
    except RecordingError as error:
        return values, str(error)
    return values, None


def test_missing_parts_are_counted_and_said_once_the_others_are_played(tmp_path):
    in_parts(tmp_path, *(numbered(10, start) for start in range(0, 70, 10)))
    assert not open_parquet(tmp_path).rejected
    for number in (1, 3, 4):
        (tmp_path / f"part-{number:06}.parquet").unlink()
    recording = open_parquet(tmp_path)
    assert ParquetReplay(recording, None).rejected == recording.rejected == {"missing part": 3}
    assert played(recording) == (
        [*range(10, 20), *range(40, 70)],
        f"{tmp_path}: missing parts: 1, 3 to 4; the others were read: copy the folder again",
    )


def test_many_missing_parts(tmp_path):
    in_parts(tmp_path, *[numbered(1)] * 15, numbers=range(2, 31, 2))
    assert "missing parts: 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and others; " in played(open_parquet(tmp_path))[1]


def test_a_recording_whose_end_is_not_there(tmp_path):
    with recording_to(tmp_path, part_seconds=0) as recorder:
        for number in range(1, 4):
            recorder.ring.put_many(numbered(10))
            wait_until(lambda number=number: recorder.parts == number)
        going_on = open_parquet(tmp_path)
    ended = open_parquet(tmp_path)
    (tmp_path / "part-000004.parquet").unlink()  # even where it is empty
    cut_off = open_parquet(tmp_path)
    said = ["the recording goes on: it is still recorded, was cut off, or its last parts are missing"]
    assert (ended.rejected, ended.notes) == ({}, [])
    for recording in (going_on, cut_off):
        assert (recording.rejected, recording.notes) == ({"missing end": 1}, said)
        assert played(recording) == ([*range(10)] * 3, None)


@pytest.mark.parametrize("older", [False, True])
def test_parts_of_several_recordings(part, older, tmp_path_factory):
    """As if one were copied over a longer one."""
    another = tmp_path_factory.mktemp("another")
    record(another, numbered(10))
    other = (another / "part-000001.parquet").rename(part)
    if older:
        as_by_version_1(other)
    message = (
        "is of another recording than part-000001.parquet; expected one recording in a folder: move its parts apart"
    )
    assert refusal(part.parent, part) == message
    assert len(read(part)) == 10


def renamed(folder, *pairs):
    """Give parts each other's names: `pairs` of an old and a new one, copies where an old one stays."""
    contents = {new: (folder / f"part-{old}.parquet").read_bytes() for old, new in pairs}
    for new, content in contents.items():
        (folder / f"part-{new}.parquet").write_bytes(content)


WRONG_NAMES = {
    "twice": (
        [("000002", "000003")],
        "000003",
        "is part 2 under the name of part 3; rename it part-000002.parquet, or move it away if that is there",
    ),
    "swapped": (
        [("000001", "000002"), ("000002", "000001")],
        "000001",
        "is part 2 under the name of part 1; rename it part-000002.parquet, or move it away if that is there",
    ),
    "behind the last": (
        [("000003", "000004")],
        "000004",
        "is part 3 under the name of part 4; rename it part-000003.parquet, or move it away if that is there",
    ),
    "seven digits": (
        [("000001", "0000001")],
        "000001",
        "has the number of part-0000001.parquet, too; expected each once: move one away",
    ),
}


@pytest.mark.parametrize("what", WRONG_NAMES)
def test_a_part_under_another_parts_name(tmp_path, what):
    """Silently it would be played twice, or instead of another one, or in another order."""
    pairs, named, message = WRONG_NAMES[what]
    in_parts(tmp_path, numbered(10), numbered(10, 10), numbered(10, 20))
    renamed(tmp_path, *pairs)
    assert refusal(tmp_path, tmp_path / f"part-{named}.parquet") == message
    assert len(read(tmp_path / f"part-{named}.parquet")) == 10  # by itself it may have any name


def without_number(part):
    rewrite(part, lambda table, said: (table, {name: said[name] for name in said if name != "number"}))


def test_parts_that_do_not_say_their_number(tmp_path):
    """They are read, and it is said; one that says that it is the last must be that all the same."""
    in_parts(tmp_path, numbered(10), numbered(10, 10))
    for name in os.listdir(tmp_path):
        without_number(tmp_path / name)
    recording = open_parquet(tmp_path)
    assert recording.notes == [
        "an older f1buf recorded it, without numbers in its parts: wrong names go unnoticed",
    ]
    assert played(recording) == (list(range(20)), None)
    assert open_parquet(tmp_path / "part-000001.parquet").notes == []
    renamed(tmp_path, ("000002", "000003"))
    message = "comes after part-000002.parquet, with which the recording ended; move it away"
    assert refusal(tmp_path, tmp_path / "part-000003.parquet") == message


def test_a_part_by_itself(part):
    recording = open_parquet(part)
    assert (recording.path, recording.count, recording.rejected, recording.notes) == (part, 10_000, {}, [])
    assert played(recording) == (list(range(10_000, 20_000)), None)
    assert played(open_parquet(part.rename(part.with_name("another name"))))[0] == list(range(10_000, 20_000))


def test_it_knows_where_it_comes_from(tmp_path):
    record(tmp_path / "race", numbered(1), source="somewhere")
    recording = open_parquet(tmp_path / "race")
    assert (recording.source, recording.path, recording.count) == ("somewhere", tmp_path / "race", 1)
    assert ParquetReplay(recording).name == "replay of race"


@thorough
def test_channels_of_another_process_are_created_in_this_one(tmp_path):
    """There they have other numbers."""
    run_python(
        f"""
from f1buf.telemetry import Channel
from recorder_helpers import numbered, record
channels = [Channel("FROM THERE", "", (low, low + 1.0)) for low in (5.0, 4.0)] + [Channel("FROM THERE", "Nm")]
batch = numbered(6)
batch["channel"] = [each.number for each in channels] * 2
record({str(tmp_path)!r}, batch)
"""
    )
    for number in range(3):  # numbers that are not those of the other process
        Channel(f"FROM HERE {number}", "")
    assert channels_by_name("FROM THERE") == ()
    open_parquet(tmp_path)
    found = channels_by_name("FROM THERE")  # at once: thresholds look for them before anything is read
    assert [(channel.unit, channel.range) for channel in found] == [
        ("", (5.0, 6.0)),
        ("", (4.0, 5.0)),
        ("Nm", (-np.inf, np.inf)),
    ]
    assert read(tmp_path)["channel"].tolist() == [channel.number for channel in found] * 2


def test_descriptions_are_as_they_were_when_each_reading_was_recorded(tmp_path):
    """The meaning of flags changes, once their numbers are used up."""
    batch = numbered(10)
    batch["sensor_id"] = 1
    laps = iter((1, 2))
    in_parts(tmp_path, batch, batch, describe=lambda *_: {"lap": next(laps)})
    replay = ParquetReplay(open_parquet(tmp_path), None)
    batches = replay.batches(threading.Event())
    assert [(len(batch), replay.describe(1, 0)["lap"]) for batch in batches] == [(10, 1), (10, 2)]


def test_what_is_known_of_sensors_is_forgotten_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(described, "DESCRIBED", 100)
    monkeypatch.setattr(parquet, "ROWS", 50)
    batch = numbered(1000)
    batch["sensor_id"] = np.arange(1000)
    record(tmp_path, batch, describe=lambda sensor_id, flags: {"lap": sensor_id})
    replay = ParquetReplay(open_parquet(tmp_path), None)
    for piece in replay.batches(threading.Event()):
        newest = int(piece["sensor_id"].max())
        known = [sensor for sensor in range(1000) if replay.describe(sensor, 0)]
        assert known[-1] == newest
        assert min(newest, 99) <= len(known) <= 250
        assert known == list(range(known[0], newest + 1))
        assert all(replay.describe(sensor, 0) == {"lap": sensor} for sensor in known)


def test_one_session_is_played_however_its_sensors_are_numbered(tmp_path):
    """What is known of a sensor is of the session that is played, also where others' rows have its number."""
    batch = numbered(200_000)  # more than a row group
    batch["sensor_id"] = 1
    said = iter(({"session": 12345, "lap": 1}, {"session": 2345, "lap": 2}))
    record(tmp_path, batch, describe=lambda *_: next(said), part_seconds=np.inf)
    for choice, lap, values in ((12345, 1, range(131_072)), ("2345", None, range(200_000)), (1, None, ())):
        replay = ParquetReplay(open_parquet(tmp_path), None, choice)
        assert replayed(replay)["value"].tolist() == list(values)
        assert replay.rejected == ({"other session": 200_000 - len(values)} if len(values) < 200_000 else {})
        assert lap is None or replay.describe(1, 0) == {"session": 12345, "lap": 1}
    with pytest.raises(ValueError, match=r"^session is '-1': expected a session's number"):
        ParquetReplay(open_parquet(tmp_path), None, "-1")


def test_a_recording_that_knows_no_sessions_has_none_to_choose(tmp_path):
    record(tmp_path, numbered(10))
    for rewritten in (False, True):
        if rewritten:
            as_by_version_1(tmp_path / "part-000001.parquet")
        replay = ParquetReplay(open_parquet(tmp_path), None, "2345")
        assert len(replayed(replay)) == 0
        assert (replay.rejected, replay.sessions) == ({"no session": 10}, ())


def test_stop_ends_a_replay_that_passes_over_readings(tmp_path):
    record(tmp_path, numbered(10))
    stop = threading.Event()
    stop.set()
    replay = ParquetReplay(open_parquet(tmp_path), None, "2345")
    assert list(replay.batches(stop)) == []
    assert replay.rejected == {}


# When readings are due ------------------------------------------------------------------------------------------------


def test_readings_that_are_due_together_come_together(tmp_path, monkeypatch):
    """The clock stands still but for the waits."""
    now, waits = 1000.0, []
    batch = numbered(10)
    batch["timestamp"] = 5.0, 5.0, 5.5, 5.5, 5.4, 6.0, np.nan, 6.0, 6.25, 99.0
    record(tmp_path, batch)

    def wait(due, stop):
        nonlocal now
        waits.append(due - 1000.0)
        now = due
        return False

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(schedule, "wait_until", wait)
    got = [piece["value"].tolist() for piece in ParquetReplay(open_parquet(tmp_path), 2.0).batches(threading.Event())]
    assert got == [[0, 1], [2, 3, 4], [5, 6, 7], [8, 9]]  # the last timestamp is no time to wait for
    assert waits == [0.25, 0.5, 0.625]


@pytest.mark.parametrize("speed", [None, 1e9])
def test_batches_are_small_enough_to_stop_between(tmp_path, speed):
    stream = mixed_stream(150_000)
    record(tmp_path, stream)
    stop = threading.Event()
    batches = ParquetReplay(open_parquet(tmp_path), speed).batches(stop)
    sizes = [len(next(batches)) for _ in range(20)]
    assert max(sizes) <= 4096
    stop.set()
    assert list(batches) == []


def test_stop_ends_a_wait(tmp_path):
    batch = numbered(10)
    batch["timestamp"] = np.arange(10)
    record(tmp_path, batch)
    stop = threading.Event()
    batches = ParquetReplay(open_parquet(tmp_path), 1e-9).batches(stop)
    assert next(batches)["value"].tolist() == [0]
    rest = parked(list, batches)
    stop.set()
    assert rest.result() == []


@pytest.mark.parametrize("speed", [1e-300, 0.5, 3.0, 1e300])
def test_a_schedule(speed):
    due = schedule.Schedule(speed).due
    first = due(100.0)
    for timestamp, sum_of_steps in [
        (101.0, 1.0),
        (100.9, 1.0),  # a small step back: recorded order is not strictly that of time
        (101.5, 1.5),
        (np.nan, 1.5),
        (1000.0, 1.5),  # a pause, which is not waited for
        (1001.0, 2.5),
        (10.0, 2.5),  # a new session
        (11.0, 3.5),
        (np.inf, 3.5),
        (12.0, 4.5),
    ]:
        assert due(timestamp) == pytest.approx(first + sum_of_steps / speed)


# The same alerts ------------------------------------------------------------------------------------------------------

OWN = (
    Threshold("SPEED", above=330.0, message="Fast"),
    Threshold("SPEED", below=80.0, message="Slow"),
    Threshold("ENGINE_TEMP", above=118.0, message="Hot"),
    Threshold("TIRE_PRESSURE", below=1.495, message="Low"),
    Threshold("G_FORCE", above=4.0, absolute=True, message="Either way"),
)


class Recorded:
    """A source whose readings go to a recorder, too."""

    def __init__(self, source, ring):
        self.name = source.name
        self._source, self._ring = source, ring

    def batches(self, stop):
        for batch in self._source.batches(stop):
            self._ring.put_many(batch)
            yield batch


def alerts(source, describe=None, **options):
    """What a system says of a source, as JSON."""
    said = []
    system = F1TelemetrySystem(8192, on_alert=said.append, **options)
    system.start([source], 3, describe=describe)
    system.wait()
    summary = system.shutdown()
    assert summary.readings == summary.analysed
    return [alert.as_json() for alert in said], [
        {name: each[name] for name in ("readings", "samples", "rises")} for each in summary.thresholds
    ]


@pytest.fixture(scope="session")
def race(recordings_dir):
    path = recordings_dir / "f1_2026_race.sqlite3"
    if not path.is_file():
        pytest.skip(f"the recording of a race is missing: {path} (set F1BUF_DATA)")
    return path


@pytest.fixture(scope="session")
def recorded_race(race, tmp_path_factory):
    """The race in Parquet, in several parts."""
    folder = tmp_path_factory.mktemp("race") / "recorded"
    decoder = Decoder()
    with open_recording(race) as recording, recording_to(folder, decoder.describe, part_seconds=0.05) as recorder:
        original = alerts(
            Recorded(Replay(recording, decoder, None), recorder.ring), decoder.describe, thresholds="f1game"
        )
    assert recorder.written == 220_000
    return folder, original


@pytest.mark.parametrize("speed", [None, 1000.0])
def test_a_replay_gives_the_alerts_of_the_original_run(recorded_race, speed):
    folder, original = recorded_race
    assert original[0]
    replay = ParquetReplay(open_parquet(folder), speed)
    assert alerts(replay, replay.describe, thresholds="f1game") == original


def test_a_replay_gives_the_alerts_that_other_thresholds_would_have_given(race, recorded_race):
    options = {"thresholds": OWN, "alert_samples": True}
    decoder = Decoder()
    with open_recording(race) as recording:
        expected = alerts(Replay(recording, decoder, None), decoder.describe, **options)
    parts = {json.loads(alert).get("part") for alert in expected[0]}
    assert {None, "lateral"} < parts
    assert parts & {"RL", "RR", "FL", "FR"}
    assert {json.loads(alert)["driver"] for alert in expected[0]} >= {"PIASTRI", "ALONSO"}
    replay = ParquetReplay(open_parquet(recorded_race[0]), None)
    assert alerts(replay, replay.describe, **options) == expected


def test_readings_that_are_no_numbers_give_the_same_alerts(tmp_path):
    stream = mixed_stream(30_000)
    expected = alerts(Given(*pieces(stream, 1000)), thresholds=PROFILES["default"], alert_samples=True)
    record(tmp_path, *pieces(stream, 777), part_seconds=0)
    replay = ParquetReplay(open_parquet(tmp_path), None)
    assert alerts(replay, replay.describe, thresholds=PROFILES["default"], alert_samples=True) == expected


# What is refused ------------------------------------------------------------------------------------------------------


def refusal(folder, path=None):
    """The message, without the path, with which it is refused."""
    with pytest.raises(RecordingError) as caught:
        read(folder)
    message = str(caught.value)
    assert message.startswith(f"{path or folder}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path or folder}: ")


def test_folders_without_a_recording(tmp_path):
    (tmp_path / "file").write_text("")
    expected = "; expected a folder with the parts of a recording"
    assert refusal(tmp_path / "missing") == "No such file or directory" + expected
    assert refusal(tmp_path / "file").startswith("damaged or unreadable: cut off, or no Parquet file; ")
    assert refusal(tmp_path) == "holds no part of a recording; expected part-000001.parquet and so on"


def test_without_pyarrow(tmp_path, monkeypatch):
    record(tmp_path, numbered(1))
    monkeypatch.setitem(sys.modules, "f1buf.telemetry.parts", None)
    assert refusal(tmp_path) == "reading it needs pyarrow: pip install 'f1buf[record]'"


@pytest.fixture
def part(tmp_path):
    """The second part of a recording."""
    in_parts(tmp_path, numbered(10_000), numbered(10_000, 10_000))
    return tmp_path / "part-000002.parquet"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet, but long enough" * 10, b"PAR1" + bytes(100) + b"PAR1"])
def test_files_that_are_no_parquet(part, content):
    part.write_bytes(content)
    assert refusal(part.parent, part).startswith("damaged or unreadable: ")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_parts_that_are_cut_off(part, share):
    part.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
    assert refusal(part.parent, part).startswith("damaged or unreadable: ")


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_parts_before_one_that_is_cut_off_are_read(tmp_path, share):
    in_parts(tmp_path, *(numbered(10, start) for start in range(0, 40, 10)))
    cut = tmp_path / "part-000003.parquet"
    cut.write_bytes(cut.read_bytes()[: round(share * cut.stat().st_size)])
    recording = open_parquet(tmp_path)
    values, failure = played(recording)
    assert values == list(range(20))
    assert failure.startswith(f"{cut}: damaged or unreadable: ")
    assert (recording.rejected, recording.notes, recording.count) == ({}, [], 20)


def test_a_part_that_is_no_file(part):
    part.unlink()
    os.mkfifo(part)
    assert refusal(part.parent, part).startswith("not a regular file")
    part.unlink()
    part.mkdir()
    assert refusal(part.parent, part).startswith("not a regular file")


def rewrite(part, change):
    """Replace its table and its metadata by what `change` makes of them."""
    said = json.loads(pq.read_metadata(part).metadata[b"f1buf"])
    table, said = change(pq.read_table(part), {**said, **parts.NO_CHECKSUMS})
    pq.write_table(table.replace_schema_metadata({} if said is None else {b"f1buf": json.dumps(said)}), part)
    if "crc32" in str(said):
        with part.open("r+b") as file:
            parts.fill_in_checksums(file)


def test_a_part_that_another_program_has_written_again(part):
    """It may lack something."""
    table, metadata = pq.read_table(part), pq.read_metadata(part).metadata
    pq.write_table(table.replace_schema_metadata({b"f1buf": metadata[b"f1buf"]}), part)
    assert refusal(part.parent, part).startswith("damaged or unreadable: its checksum is ")
    without = {name: value for name, value in json.loads(metadata[b"f1buf"]).items() if name != "crc32"}
    pq.write_table(table.replace_schema_metadata({b"f1buf": json.dumps(without)}), part)
    assert refusal(part.parent, part) == (
        "has no checksums: damaged, or written again by another program; copy it again"
    )


def test_a_part_that_is_written_again_with_checksums(part):
    """Without a change it is read, so the tests below fail for the change alone."""
    rewrite(part, lambda table, said: (table, said))
    assert read(part.parent)["value"].tolist() == list(range(20_000))


NO_CHANNEL = "has damaged metadata: "
CHANGED = {
    "metadata": (lambda table, said: (table, None), "has no metadata 'f1buf'; expected a part that f1buf recorded, no"),
    "a newer version": (
        lambda table, said: (table, {**said, "schema": 3}),
        "has schema version 3; expected 1 to 2: a newer f1buf may know it",
    ),
    "no version": (lambda table, said: (table, {}), "has schema version None; expected 1 to 2"),
    "a list": (lambda table, said: (table, [said]), "has schema version None; expected 1 to 2"),
    "a column too few": (
        lambda table, said: (table.drop_columns("flags"), said),
        "has other columns than f1buf records",
    ),
    "another type": (
        lambda table, said: (table.set_column(0, "timestamp", table["timestamp"].cast("float32")), said),
        "has other columns than f1buf records; expected timestamp, sensor_id, channel, unit, value, car, driver, lap",
    ),
    "no channels": (lambda table, said: (table, {**said, "channels": None}), NO_CHANNEL),
    "thresholds of another kind": (lambda table, said: (table, {**said, "thresholds": 5}), NO_CHANNEL),
    "a number of another kind": (
        lambda table, said: (table, {**said, "number": "2"}),
        NO_CHANNEL + "TypeError: number is '2'",
    ),
    "no thresholds": (lambda table, said: (table, {**said, "thresholds": "[[threshold]]"}), NO_CHANNEL),
    "no range": (lambda table, said: (table, {**said, "channels": [{"name": "A", "unit": ""}]}), NO_CHANNEL),
    "an empty range": (
        lambda table, said: (table, {**said, "channels": [{"name": "A", "unit": "", "range": [2, 1]}]}),
        NO_CHANNEL + "ValueError: channel A: the range is (2, 1): expected (low, high) with low < high",
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_parts_that_are_not_as_expected(part, what):
    change, message = CHANGED[what]
    rewrite(part, change)
    assert refusal(part.parent, part).startswith(message)


def test_metadata_that_is_no_json(part):
    pq.write_table(pq.read_table(part).replace_schema_metadata({b"f1buf": b"{"}), part)
    assert refusal(part.parent, part).startswith("damaged or unreadable: ")


def as_by_version_1(part):
    """Write it again as the first f1buf that recorded would have written it."""
    table, said = pq.read_table(part), json.loads(pq.read_metadata(part).metadata[b"f1buf"])
    said = {name: said[name] for name in ("version", "source", "thresholds", "channels")}
    metadata = {b"f1buf": json.dumps({"schema": 1, **said})}
    pq.write_table(table.drop_columns("session").replace_schema_metadata(metadata), part, write_page_checksum=True)


def test_a_recording_without_checksums_is_read_and_that_is_said(tmp_path):
    said = {"car": 3, "driver": "A", "lap": 2, "part": "RL"}
    batch = numbered(100)
    batch["sensor_id"] = 1
    record(tmp_path, batch, describe=lambda *_: {**said, "session": 7})
    as_by_version_1(tmp_path / "part-000001.parquet")
    recording = open_parquet(tmp_path)
    assert recording.notes == [
        "an older f1buf recorded it, without checksums: damage, wrong names and a missing end go unnoticed"
    ]
    assert recording.rejected == {}
    replay = ParquetReplay(recording, None)
    assert replayed(replay).tobytes() == batch.tobytes()
    assert replay.describe(1, 0) == said


def small_part(folder):
    """Of a few readings, with something in each column, and a driver with a name like the checksums."""
    said = {"car": 3, "driver": '"crc32": "00000000 00000000"', "lap": 2, "part": "RL", "session": 1 << 63}
    batch = numbered(6)
    batch["channel"] = channels_by_name("SPEED")[0].number
    described = {sensor_id: said if sensor_id % 2 else {} for sensor_id in range(7)}
    record(
        folder,
        batch,
        describe=lambda sensor_id, _: described[sensor_id],
        source="flipped",
        thresholds=[Threshold("ENGINE_TEMP", above=118.0, message="Hot")],
    )
    return folder / "part-000001.parquet"


def all_of(part):
    """What a replay has of it."""
    recording = open_parquet(part)
    replay = ParquetReplay(recording, None)
    readings = replayed(replay)
    described = [replay.describe(sensor_id, 0) for sensor_id in readings["sensor_id"]]
    return readings.tobytes(), described, recording.source, recording.thresholds, recording.count, recording.rejected


def footer_at(part):
    content = part.read_bytes()
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


@thorough(but=("*by turns*",))
@pytest.mark.parametrize("where", ["footer", "before the footer"])
@pytest.mark.parametrize("bit", [*range(8), None], ids=[*map(str, range(8)), "by turns"])
def test_a_part_of_which_a_bit_is_flipped_is_refused(tmp_path, where, bit):
    part = small_part(tmp_path)
    before, known = all_of(part), known_channels()
    begin, end = footer_at(part), part.stat().st_size
    positions = range(begin, end) if where == "footer" else range(begin)
    with part.open("r+b", buffering=0) as file:
        for position in positions:
            (byte,) = os.pread(file.fileno(), 1, position)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << (position % 8 if bit is None else bit)]), position)
            with pytest.raises(RecordingError):
                all_of(part)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert all_of(part) == before
    assert known_channels() == known  # none was created from what is damaged


def test_a_threshold_that_is_another_one_is_not_replayed(tmp_path):
    """A reader that does not look at the checksum would find nothing wrong."""
    part = small_part(tmp_path)
    content = part.read_bytes()
    assert content.count(b"118.0") == 1
    part.write_bytes(content.replace(b"118.0", b"138.0"))
    assert pq.read_table(part).num_rows == 6
    assert refusal(part).startswith("damaged or unreadable: its checksum is ")


def damage(part):
    """Change one bit of random numbers, which decode all the same."""
    column = pq.read_metadata(part).row_group(0).column(0)
    assert column.path_in_schema == "timestamp"
    content = bytearray(part.read_bytes())
    content[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    part.write_bytes(content)
    assert len(pq.read_table(part)) == 10_000


def test_damage_in_the_middle_of_a_part_is_noticed_when_it_is_read(part):
    damage(part)
    batches = open_parquet(part.parent).batches()
    assert len(next(batches)[0]) == 10_000
    with pytest.raises(RecordingError, match=r"part-000002\.parquet: damaged or unreadable: "):
        next(batches)


@pytest.mark.parametrize("speed", [None, 1e9])
def test_what_comes_before_the_damage_is_analysed(part, speed):
    damage(part)
    system = F1TelemetrySystem()
    system.start([ParquetReplay(open_parquet(part.parent), speed)])
    system.wait()
    with pytest.raises(TelemetryError, match=r"part-000002\.parquet: damaged or unreadable: its checksum ") as caught:
        system.shutdown()
    assert isinstance(caught.value.failures[0][1], RecordingError)
    assert system.summary.analysed == 10_000


def test_a_part_that_is_removed_meanwhile(part):
    recording = open_parquet(part.parent)
    part.unlink()
    with pytest.raises(RecordingError, match=r"part-000002\.parquet: damaged or unreadable: No such file"):
        list(recording.batches())
