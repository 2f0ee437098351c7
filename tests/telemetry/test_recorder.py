"""The recorder: every reading is in a complete part or counted as lost, whatever happens to the process or the disk."""

import errno
import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import mixed_stream, pieces, watchdog
from helpers import WATCHDOG, Task, parked, thorough, wait_until
from recorder_helpers import (
    child,
    names,
    numbered,
    outcome,
    part_names,
    put_numbered,
    read,
    record,
    recording_to,
    replayed,
)

import f1buf
from f1buf import READING
from f1buf.telemetry import SPEED, Channel, Threshold, recorder
from f1buf.telemetry.recorder import Recorder, RecorderError
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet

pa = pytest.importorskip("pyarrow", reason="recording needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="recording needs pyarrow")
parts = pytest.importorskip("f1buf.telemetry.parts", reason="recording needs pyarrow")


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(WATCHDOG):
        yield


@pytest.fixture(params=["nameless", "hidden"])
def unseen(request, monkeypatch):
    """What a part is written to: as the file system can, or as one without files that have no name."""
    if request.param == "hidden":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # no folder is opened so for writing
    return request.param


def table(folder):
    """All that the parts hold, as plain Python."""
    return pa.concat_tables([pq.read_table(folder / name) for name in names(folder)]).to_pydict()


def metadata(path):
    return json.loads(pq.read_metadata(path).metadata[b"f1buf"])


def failed(task):
    with pytest.raises(RecorderError) as caught:
        task.result()
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is kept ---------------------------------------------------------------------------------------------------------


def test_every_field_comes_back_as_it_was(tmp_path):
    rng = np.random.default_rng(1)
    odd = np.zeros(3000, READING)
    odd["timestamp"] = rng.integers(0, 1 << 64, 3000, np.uint64).view("f8")  # any bits, so signalling NaN, too
    odd["value"] = rng.integers(0, 1 << 64, 3000, np.uint64).view("f8")
    odd["value"][:6] = np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308
    odd["sensor_id"] = rng.integers(0, 1 << 32, 3000)
    odd["sensor_id"][:2] = 0, 0xFFFFFFFF
    odd["flags"] = rng.integers(0, 1 << 16, 3000)
    odd["flags"][:2] = 0xFFFF, 0
    odd["channel"] = SPEED.number
    recorder = record(tmp_path / "new" / "folder", *pieces(odd, 700), capacity=1000)
    assert read(recorder.folder).tobytes() == odd.tobytes()
    assert (recorder.written, recorder.lost) == (3000, 0)


def test_more_than_a_row_group_comes_back_in_order(tmp_path):
    stream = mixed_stream(300_000)
    recorder = record(tmp_path, stream, part_seconds=math.inf)
    assert read(tmp_path).tobytes() == stream.tobytes()
    file = pq.ParquetFile(tmp_path / "part-000001.parquet")
    with file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)] == [
            131_072,
            131_072,
            300_000 - 2 * 131_072,
        ]
    assert (recorder.parts, recorder.written) == (1, 300_000)
    assert recorder.bytes == (tmp_path / "part-000001.parquet").stat().st_size


def test_rows_name_channel_and_unit(tmp_path):
    celsius = Channel("OIL", "°C", (-40.0, 150.0))
    plain = Channel("COUNTER", "")
    other = Channel("COUNTER", "", (0.0, 15.0))
    batch = numbered(5)
    batch["channel"] = celsius.number, plain.number, other.number, 0, 65_535  # the last two are no channel's
    record(tmp_path, batch)
    rows = table(tmp_path)
    assert rows["channel"] == ["OIL", "COUNTER", "COUNTER", None, None]
    assert rows["unit"] == ["°C", "", "", None, None]
    assert rows["channel_number"] == batch["channel"].tolist()
    assert read(tmp_path)["channel"].tolist() == [celsius.number, plain.number, other.number, 0, 0]


def test_the_channel_table_is_in_the_metadata(tmp_path):
    with recording_to(tmp_path, part_seconds=0, source="a test") as recorder:
        recorder.ring.put_many(numbered(10))
        wait_until(lambda: recorder.parts == 1)
        late = Channel("CAME LATER", "rpm", (0.0, math.inf))
        batch = numbered(10)
        batch["channel"] = late.number
        recorder.ring.put_many(batch)
    entry = {"name": "CAME LATER", "unit": "rpm", "range": [0.0, None]}
    first, second = (metadata(tmp_path / name) for name in part_names(2))
    assert {name: second[name] for name in ("schema", "version", "source")} == {
        "schema": 2,
        "version": f1buf.__version__,
        "source": "a test",
    }
    assert first["channels"][SPEED.number - 1] == {"name": "SPEED", "unit": "km/h", "range": [0.0, 350.0]}
    assert entry not in first["channels"]
    assert second["channels"][late.number - 1] == entry
    assert table(tmp_path)["channel"][-1] == "CAME LATER"


def test_what_is_known_of_a_sensor_is_in_its_rows_and_in_a_replay(tmp_path):
    said = {
        (1, 0): {"car": 0, "driver": "A", "lap": 3, "part": "RL", "session": (1 << 64) - 1},
        (1, 1): {"car": 0, "driver": "B", "lap": 4, "part": "RL"},
        (2, 0): {"car": 1, "driver": None, "part": None, "session": None},
        (3, 0): {},
        (0xFFFFFFFF, 0xFFFF): {"car": 32767, "driver": "Ä\n", "lap": -1, "part": ""},
    }
    asked = []

    def describe(sensor_id, flags):
        asked.append((sensor_id, flags))
        return said[sensor_id, flags]

    batch = np.tile(numbered(5), 100)
    batch["sensor_id"], batch["flags"] = np.tile(list(said), (100, 1)).T
    record(tmp_path, batch, describe=describe)
    assert sorted(asked) == sorted(said)  # once each
    rows = table(tmp_path)
    for name in ("car", "driver", "lap", "part", "session"):
        assert rows[name] == [each.get(name) for each in said.values()] * 100
    replay = ParquetReplay(open_parquet(tmp_path), None)
    assert replay.describe(1, 0) == {}  # nothing has been read yet
    assert len(replayed(replay)) == 500
    for pair, description in said.items():
        expected = {name: value for name, value in description.items() if value is not None}
        assert replay.describe(*map(np.uint32, pair)) == expected
    assert replay.describe(99, 0) == {}


UNFIT = {
    "lap": (40_000, None, "lap 40000 is no int16: null instead"),
    "car": (0.5, None, "car 0.5 is no int16: null instead"),
    "session": (-1, None, "session -1 is no uint64: null instead"),
    "driver": ("A\ud800\udfff", "A\ufffd\ufffd", r"driver 'A\ud800\udfff' is no text: replacement characters instead"),
    "part": (5, None, "part 5 is no text: null instead"),
}
FIT = {"car": 3, "driver": "Ä", "lap": -1, "part": "RL", "session": (1 << 64) - 1}


@pytest.mark.parametrize("name", UNFIT)
def test_what_a_column_cannot_hold_costs_no_reading(tmp_path, name):
    value, held, note = UNFIT[name]
    batch = numbered(21)
    recorder = record(tmp_path, batch, describe=lambda sensor_id, _: {**FIT, name: value} if sensor_id % 2 else FIT)
    assert (recorder.written, recorder.lost) == (21, 0)
    assert read(tmp_path).tobytes() == batch.tobytes()
    rows = table(tmp_path)
    expected = {**FIT, name: held}
    for column in FIT:
        assert rows[column] == [(expected if sensor % 2 else FIT)[column] for sensor in batch["sensor_id"]]
    assert recorder.notes == recorder.as_dict()["notes"] == [note]
    assert str(recorder).endswith(f" s); {note}")


def test_values_that_fit_need_no_note(tmp_path):
    recorder = record(tmp_path, numbered(7), describe=lambda sensor_id, _: {"lap": np.int64(sensor_id)})
    assert table(tmp_path)["lap"] == list(range(7))
    assert recorder.notes == []
    assert str(recorder).endswith(" s)")


def test_a_note_tells_of_a_column_once(tmp_path):
    laps = iter(range(40_000, 50_000))
    batch = numbered(1000)
    batch["sensor_id"] = np.arange(1000)
    recorder = record(tmp_path, batch, describe=lambda *_: {"lap": next(laps), "driver": "\n" * 1000 + "\udc80"})
    assert recorder.notes[1] == "lap 40000 is no int16: null instead"
    assert len(recorder.notes) == 2
    assert max(map(len, recorder.notes)) < 120


def test_a_channel_whose_name_is_no_text(tmp_path):
    """In the rows it has replacement characters; a replay has it back as it was."""
    channel = Channel("ODD\ud800", "\udfff")
    batch = numbered(10)
    batch["channel"] = channel.number
    limit = Threshold("ODD\ud800", above=5, message="High")
    record(tmp_path, batch, thresholds=[limit])
    assert set(zip(table(tmp_path)["channel"], table(tmp_path)["unit"], strict=True)) == {("ODD\ufffd", "\ufffd")}
    assert read(tmp_path).tobytes() == batch.tobytes()
    assert open_parquet(tmp_path).thresholds == (limit,)


def test_it_asks_again_what_a_sensor_is_in_each_row_group(tmp_path):
    laps = iter(range(3))
    with recording_to(tmp_path, lambda sensor_id, flags: {"lap": next(laps)}, part_seconds=0) as recorder:
        for part in range(3):
            batch = numbered(20)
            batch["sensor_id"] = 1
            recorder.ring.put_many(batch)
            wait_until(lambda part=part: recorder.parts == part + 1)
    assert table(tmp_path)["lap"] == np.repeat(range(3), 20).tolist()


def test_an_empty_recording_is_one(tmp_path):
    recorder = record(tmp_path / "empty")
    assert names(recorder.folder) == part_names(1)
    assert (recorder.parts, recorder.written, recorder.lost) == (1, 0, 0)
    assert len(read(recorder.folder)) == open_parquet(recorder.folder).count == 0


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_what_a_drop_policy_loses_is_counted(tmp_path, overflow):
    recorder = Recorder(tmp_path, capacity=10, overflow=overflow)
    recorder.ring.put_many(numbered(25))  # its thread does not run yet
    task = Task(recorder.run)
    recorder.ring.shutdown()
    task.result()
    kept = range(15, 25) if overflow == "drop_oldest" else range(10)
    assert read(tmp_path)["value"].tolist() == list(kept)
    assert (recorder.written, recorder.lost, recorder.ring.stats().dropped) == (10, 15, 15)


def test_puts_wait_for_room_unless_told_otherwise(tmp_path):
    recorder = Recorder(tmp_path, capacity=10)
    feeder = parked(recorder.ring.put_many, numbered(25))
    task = Task(recorder.run)
    assert feeder.result() == 25
    recorder.ring.shutdown()
    task.result()
    assert read(tmp_path)["value"].tolist() == list(range(25))
    assert (recorder.written, recorder.lost) == (25, 0)
    assert recorder.ring.stats().put_waits >= 1


@pytest.mark.parametrize("capacity", [1, 7, 8, 100_000])
def test_any_capacity_will_do(tmp_path, capacity):
    recorder = record(tmp_path, *pieces(numbered(1000), 33), capacity=capacity)
    assert read(tmp_path)["value"].tolist() == list(range(1000))
    assert recorder.ring.capacity == capacity


# Parts ----------------------------------------------------------------------------------------------------------------


def test_parts_follow_each_other(tmp_path):
    with recording_to(tmp_path, part_seconds=0, capacity=100) as recorder:
        Task(put_numbered, recorder.ring)
        wait_until(lambda: recorder.parts >= 12)
    assert names(tmp_path) == part_names(recorder.parts)
    assert names(tmp_path, hidden=True) == []
    assert read(tmp_path)["value"].tolist() == list(range(recorder.written))
    assert recorder.written == recorder.ring.stats().offered
    assert recorder.bytes == sum((tmp_path / name).stat().st_size for name in names(tmp_path))


class Clock:
    """What the recorder takes for the time."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(recorder, "time", clock)
    return clock


def put_and_wait(recorder, batch):
    """Until the recorder has taken it."""
    recorder.ring.put_many(batch)
    wait_until(lambda: recorder.ring.stats().taken == recorder.ring.stats().offered)


def test_a_part_ends_when_its_first_reading_has_been_there_for_so_long(tmp_path, clock):
    with recording_to(tmp_path, capacity=8) as recorder:  # takes what comes at once
        put_and_wait(recorder, numbered(3))
        clock.now += 2.4
        for start in (3, 6, 9):
            put_and_wait(recorder, numbered(3, start))
        assert recorder.parts == 0
        clock.now += 0.11
        wait_until(lambda: recorder.parts == 1)
        assert recorder.written == 12


@thorough
def test_what_comes_while_the_disk_is_waited_for_ages_meanwhile(tmp_path, clock, monkeypatch):
    fsync = os.fsync
    with recording_to(tmp_path, capacity=8) as recorder:

        def slow(descriptor):
            if recorder.parts == 0 and not recorder.ring.qsize():
                clock.now += 2.0
                recorder.ring.put_many(numbered(1, start=1))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        put_and_wait(recorder, numbered(1))
        clock.now += 2.51
        wait_until(lambda: recorder.parts == 1)
        wait_until(lambda: recorder.ring.stats().taken == 2)
        assert recorder.parts == 1
        clock.now += 0.51  # 2 s have gone by already
        wait_until(lambda: recorder.parts == 2)


@pytest.mark.usefixtures("unseen")
def test_no_reader_sees_half_a_part(tmp_path):
    """A reader opens each part as soon as it sees its name, while a writer writes and renames."""
    seen, finished = {}, threading.Event()

    def look():
        while not finished.is_set() or len(seen) < len(names(tmp_path)):
            for name in names(tmp_path):
                if name not in seen:
                    seen[name] = pq.read_table(tmp_path / name)["value"].to_numpy()

    looker = Task(look)
    with recording_to(tmp_path, part_seconds=0, capacity=2000) as recorder:
        Task(put_numbered, recorder.ring)
        wait_until(lambda: recorder.parts >= 30)
    finished.set()
    looker.result()
    assert sorted(seen) == part_names(recorder.parts)
    assert np.concatenate([seen[name] for name in sorted(seen)]).tolist() == list(range(recorder.written))


def test_each_part_is_on_the_disk_before_it_is_seen_and_its_name_after(tmp_path, monkeypatch, unseen):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), names(tmp_path)))
        fsync(descriptor)

    recorder = Recorder(tmp_path)
    monkeypatch.setattr(os, "fsync", noted)
    recorder.ring.put_many(numbered(10))
    recorder.ring.shutdown()
    recorder.run()
    (written, before), after = synced
    assert "(deleted)" in written if unseen == "nameless" else written == ".part-000001.parquet.tmp"
    assert before == []
    assert after == (tmp_path.name, part_names(1))


@pytest.mark.parametrize("there", ["", "new", "new/above/r"], ids=["nothing", "its root", "all"])
def test_the_names_of_its_folders_are_on_the_disk_before_its_first_part(tmp_path, monkeypatch, there):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "new" / "above" / "r"
    monkeypatch.setattr(os, "fsync", noted)
    Recorder(folder)
    made = [each for each in (folder, *folder.parents) if each == folder or not (tmp_path / there).is_relative_to(each)]
    assert synced[: len(made)] == [str(each.parent) for each in made]
    assert len(synced) == len(made) + 1  # the part that is tried out
    assert str(tmp_path) in synced or there


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL])
def test_a_folder_above_that_cannot_be_waited_for_has_everything_waited_for(tmp_path, monkeypatch, number):
    fsync, all_synced = os.fsync, []

    def refused(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    monkeypatch.setattr(os, "sync", lambda: all_synced.append(names(tmp_path)))
    record(tmp_path / "r", numbered(10))
    assert all_synced == [["r"]]


def test_a_disk_that_fails_when_the_folders_name_is_waited_for(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    assert refusal(tmp_path / "r").startswith(f"cannot be written: {os.strerror(errno.EIO)}; expected")


# What a crash leaves --------------------------------------------------------------------------------------------------


@thorough(but=("9",))
@pytest.mark.parametrize("wait", [2, 9])
def test_after_a_sigkill_all_that_was_safe_is_there(tmp_path, wait):
    with child(f"keep_recording({str(tmp_path)!r})") as process:
        safe = [int(process.stdout.readline()) for _ in range(wait)]
        process.kill()
        safe += [int(line) for line in process.stdout.read().split()]
        assert process.wait() == -signal.SIGKILL
        assert process.stderr.read() == ""
    seen = names(tmp_path)
    assert seen == part_names(len(seen))
    for name in seen:
        pq.read_table(tmp_path / name)
    found = read(tmp_path)["value"].tolist()
    assert found == list(range(len(found)))
    assert len(found) >= safe[-1]
    assert open_parquet(tmp_path).rejected == {"missing end": 1}
    assert names(tmp_path, hidden=True) == []


def test_what_a_crash_left_behind_disturbs_neither_reading_nor_pandas_nor_recording(tmp_path, unseen):
    pandas = pytest.importorskip("pandas")
    (tmp_path / ".part-000001.parquet.tmp").write_bytes(b"PAR1 and then a power cut" * 1000)
    (tmp_path / ".part-000007.parquet.tmp").write_bytes(b"PAR1 and then a power cut")
    record(tmp_path, numbered(10))
    left = [".part-000001.parquet.tmp"] if unseen == "nameless" else []
    assert names(tmp_path, hidden=True) == [*left, ".part-000007.parquet.tmp"]
    assert read(tmp_path)["value"].tolist() == list(range(10))
    assert len(pandas.read_parquet(tmp_path)) == 10


@pytest.mark.usefixtures("unseen")
def test_no_link_is_followed(tmp_path):
    """In a folder that others may write to, another user may put one where the next part will be written."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".part-000001.parquet.tmp").symlink_to(tmp_path / "precious")
    record(tmp_path / "folder", numbered(10))
    assert (tmp_path / "precious").read_text() == "precious"
    assert len(read(tmp_path / "folder")) == 10


# Disks that fail ------------------------------------------------------------------------------------------------------


def check_failure(result, reason):
    """What is promised where a write fails."""
    assert f"part-{result['parts'] + 1:06}.parquet: cannot be written: {os.strerror(reason)}" in result["error"]
    assert result["complete"]
    assert result["written"] > 0
    assert result["lost"] == result["offered"] - result["written"] > 0
    assert result["seen"] == part_names(result["parts"])
    assert result["hidden"] == []


def test_a_full_file_system(tmp_path):
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size=300k none {tmp_path} && exec "$@"'
    namespace = unshare, "--mount", "sh", "-c", mount, "sh"
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    with child(f"record_until_it_fails({str(tmp_path)!r})", *namespace) as process:
        out, err = process.communicate(timeout=WATCHDOG)
    assert (process.returncode, err) == (0, "")
    check_failure(json.loads(out), errno.ENOSPC)
    assert names(tmp_path) == []


def fill_device(monkeypatch, name):
    """What is written to the part of this name goes to a device that is full."""
    opened = parts.open_unseen

    def open_it(path):
        file, temporary = opened(path)
        if path.name == name:
            with Path("/dev/full").open("wb") as full:
                os.dup2(full.fileno(), file.fileno())
        return file, temporary

    monkeypatch.setattr(parts, "open_unseen", open_it)


@pytest.mark.usefixtures("unseen")
def test_a_device_that_is_full(tmp_path, monkeypatch):
    fill_device(monkeypatch, "part-000003.parquet")
    recorder = Recorder(tmp_path, capacity=100, part_seconds=0)
    task, feeder = Task(recorder.run), Task(put_numbered, recorder.ring)
    feeder.result()  # a put that waits for room is woken
    check_failure(outcome(recorder, failed(task)), errno.ENOSPC)
    assert open_parquet(tmp_path).rejected == {"missing end": 1}
    assert recorder.ring.is_shutdown
    assert recorder.ring.qsize() == 0


@pytest.mark.usefixtures("unseen")
def test_a_device_that_is_full_in_the_middle_of_a_part(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path)
    fill_device(monkeypatch, "part-000001.parquet")
    task = Task(recorder.run)
    Task(put_numbered, recorder.ring, 50_000).result()
    assert f"part-000001.parquet: cannot be written: {os.strerror(errno.ENOSPC)}" in failed(task)
    assert (recorder.written, os.listdir(tmp_path)) == (0, [])


@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize("call", [1, 2], ids=["of the part", "of the folder"])
def test_a_disk_that_fails_when_it_is_waited_for(tmp_path, monkeypatch, call):
    recorder = Recorder(tmp_path, capacity=100, part_seconds=0)
    task, fsync, calls = Task(recorder.run), os.fsync, []
    recorder.ring.put_many(numbered(50))
    wait_until(lambda: recorder.parts == 1)

    def broken(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    recorder.ring.put_many(numbered(50, 50))
    error = failed(task)
    assert f"part-000002.parquet: cannot be written: {os.strerror(errno.EIO)}" in error
    assert (recorder.written, recorder.lost, recorder.ring.is_shutdown) == (50, 50, True)
    assert names(tmp_path, hidden=True) == []


def test_a_folder_that_is_removed_meanwhile(tmp_path):
    recorder = Recorder(tmp_path / "gone", capacity=100, part_seconds=0)
    task = Task(recorder.run)
    shutil.rmtree(tmp_path / "gone")
    Task(put_numbered, recorder.ring).result()
    assert f"part-000001.parquet: cannot be written: {os.strerror(errno.ENOENT)}" in failed(task)
    assert recorder.lost == recorder.ring.stats().offered > 0


@pytest.mark.parametrize("before", [0, 131_072], ids=["at once", "in the middle of a part"])
def test_a_description_that_fails_ends_the_recorder(tmp_path, before):
    def describe(sensor_id, flags):
        return {} if sensor_id < 9 else {}["unknown sensor"]

    recorder = Recorder(tmp_path, describe)
    batch = numbered(before + 10)
    batch["sensor_id"][before:] = 9
    recorder.ring.put_many(batch)
    with pytest.raises(KeyError, match="unknown sensor"):
        recorder.run()
    assert recorder.ring.is_shutdown
    assert (recorder.written, recorder.lost) == (0, len(batch))
    assert os.listdir(tmp_path) == []
    del recorder
    gc.collect()  # no warning comes from a writer of pyarrow that was not closed


# What is refused before anything starts -------------------------------------------------------------------------------


def refusal(folder, **options):
    with pytest.raises(RecorderError) as caught:
        Recorder(folder, **options)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    return message.removeprefix(f"{folder}: ")


def test_a_folder_that_holds_a_recording(tmp_path):
    record(tmp_path, numbered(10))
    before = (tmp_path / "part-000001.parquet").read_bytes()
    assert refusal(tmp_path).startswith("holds a recording already; expected a new or empty folder")
    assert names(tmp_path) == part_names(1)
    assert (tmp_path / "part-000001.parquet").read_bytes() == before
    (tmp_path / "part-000001.parquet").rename(tmp_path / "another name.parquet")
    assert "recording" in refusal(tmp_path)


@pytest.mark.parametrize("where", ["sub", "sub/of/it", "link/sub"])
def test_a_folder_inside_a_recording(tmp_path, monkeypatch, where):
    """Programs that read whole folders, such as pandas, would take both for one."""
    folder = tmp_path / "race"
    record(folder, numbered(10))
    (tmp_path / "link").symlink_to(folder)
    place = tmp_path / where if "link" in where else folder / where
    message = f"is inside the recording {folder.resolve()}, whose readers would read both; choose a folder outside"
    assert refusal(place) == message
    monkeypatch.chdir(folder)
    assert refusal(Path("sub")) == message
    assert names(folder) == part_names(1)  # nothing was made


def test_a_folder_beside_files_of_other_names(tmp_path):
    for name in ("laps.parquet", "part-1.parquet", "part.0.parquet"):
        (tmp_path / name).write_text("another program's")
    record(tmp_path / "race", numbered(10))
    assert len(read(tmp_path / "race")) == 10


def test_a_folder_that_is_being_recorded_to(tmp_path):
    first = Recorder(tmp_path)
    assert refusal(tmp_path) == "is being recorded to; choose another folder"
    del first
    Recorder(tmp_path)


@pytest.mark.parametrize("where", ["file", "file/in a file"])
def test_a_file(tmp_path, where):
    (tmp_path / "file").write_text("a file")
    assert "expected a new or empty folder that can be written to" in refusal(tmp_path / where)


def test_a_folder_of_another_user(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with child(f"record_without_rights({str(tmp_path)!r})") as process:
            out, err = process.communicate(timeout=WATCHDOG)
    finally:
        tmp_path.chmod(0o755)
    assert err == ""
    assert out.startswith(f"{tmp_path}: cannot be written: {os.strerror(errno.EACCES)}; expected")


def test_a_disk_that_is_full_already(tmp_path, monkeypatch):
    fill_device(monkeypatch, "part-000001.parquet")
    assert refusal(tmp_path).startswith(f"cannot be written: {os.strerror(errno.ENOSPC)}; expected")
    assert os.listdir(tmp_path) == []


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "f1buf.telemetry.parts", None)  # its import fails as if pyarrow were missing
    with pytest.raises(RecorderError, match=r"needs pyarrow: pip install 'f1buf\[record\]'"):
        Recorder(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options", [{"part_seconds": -1}, {"part_seconds": math.nan}, {"capacity": 0}, {"overflow": "x"}]
)
def test_bad_options(tmp_path, options):
    with pytest.raises(ValueError, match="|".join(options)):
        Recorder(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


# For other programs ---------------------------------------------------------------------------------------------------


@thorough
def test_pandas_reads_the_folder_as_it_is(tmp_path):
    pandas = pytest.importorskip("pandas")
    with recording_to(tmp_path, lambda sensor_id, flags: {"car": sensor_id, "driver": "Ä"}, part_seconds=0) as recorder:
        for batch in pieces(mixed_stream(1000), 250):
            recorder.ring.put_many(batch)
            wait_until(lambda: not recorder.ring.qsize())
        late = numbered(10, start=1000)
        late["channel"] = Channel("FROM PANDAS' TEST", "m/s²").number
        recorder.ring.put_many(late)
    frame = pandas.read_parquet(tmp_path)
    assert len(names(tmp_path)) > 1
    assert frame["timestamp"].tolist() == [*mixed_stream(1000)["timestamp"].tolist(), *late["timestamp"].tolist()]
    assert set(zip(frame["channel"], frame["unit"], strict=True)) == {
        ("ENGINE_TEMP", "°C"),
        ("TIRE_PRESSURE", "bar"),
        ("SPEED", "km/h"),
        ("G_FORCE", "G"),
        ("FUEL_LEVEL", "%"),
        ("FROM PANDAS' TEST", "m/s²"),
    }
    assert set(frame["driver"]) == {"Ä"}
    assert frame["car"].tolist() == frame["sensor_id"].tolist()
    assert frame["lap"].isna().all()
    assert frame.query("channel == 'SPEED'")["value"].max() == np.inf


SAID = {"car": 3, "driver": "A", "lap": 2, "part": "RL", "session": 1 << 63}


@pytest.fixture
def going_on(tmp_path):
    """A recording of a driver and of an unknown one, 20 readings each; another part of it is being written."""
    with recording_to(tmp_path, lambda sensor_id, _: SAID if sensor_id else {}, part_seconds=0) as recorder:
        for part, sensor_id in enumerate((1, 0)):
            batch = numbered(20)
            batch["sensor_id"] = sensor_id
            put_and_wait(recorder, batch)
            wait_until(lambda part=part: recorder.parts == part + 1)
        recorder.part_seconds = math.inf
        put_and_wait(recorder, numbered(131_073))  # it takes the last one once the others, a row group, are written
        yield tmp_path


def rows_of(library, folder):
    """How many rows another program finds in the folder, given as it is."""
    module = pytest.importorskip(library, reason="another program that reads Parquet")
    if library == "pandas":
        return len(module.read_parquet(folder))
    if library == "polars":
        return module.scan_parquet(folder).collect().height
    if library == "duckdb":
        with module.connect() as connection:
            return connection.execute(f"SELECT count(*) FROM read_parquet('{folder}/*.parquet')").fetchone()[0]
    return module.dataset(folder).count_rows()


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb", "pyarrow.dataset"])
def test_a_folder_that_is_recorded_to_can_be_read_as_it_is(going_on, library):
    assert rows_of(library, going_on) == 40


def test_where_unfinished_parts_have_names_a_pattern_reads_the_folder(unseen, going_on):
    polars = pytest.importorskip("polars", reason="another program that reads Parquet")
    assert names(going_on, hidden=True) == ([".part-000003.parquet.tmp"] if unseen == "hidden" else [])
    assert polars.scan_parquet(going_on / "*.parquet").collect().height == 40


def test_pandas_has_the_same_types_whatever_is_in_a_recording(going_on):
    pandas = pytest.importorskip("pandas")
    for name in ("part-000001.parquet", "part-000002.parquet", "."):  # nothing is null, everything, some
        frame = pandas.read_parquet(going_on / name)
        assert frame.dtypes[["car", "lap", "session"]].astype(str).tolist() == ["Int16", "Int16", "UInt64"]
        assert frame.index.equals(pandas.RangeIndex(len(frame)))
    assert frame["session"].dropna().unique().tolist() == [1 << 63]
    assert pandas.read_parquet(going_on, columns=["value", "lap"]).dtypes["lap"] == "Int16"


def test_grouping_in_pandas_keeps_unknown_drivers(going_on):
    """As the documentation shows it."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(going_on)
    top = frame.groupby(["driver", "lap"], observed=True, dropna=False).value.max().reset_index()
    assert top["value"].tolist() == [19.0, 19.0]
    assert top["lap"].tolist() == [2, pandas.NA]
    assert top["driver"].isna().tolist() == [False, True]
