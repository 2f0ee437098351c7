"""A publisher with a spool: what comes while the server is away arrives once and in order, whoever is killed."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import child_options, readings, watchdog
from helpers import REPEATS, WATCHDOG, Task, seeded, wait_until

pytest.importorskip("nats", reason="streams of a NATS server need it")
pytest.importorskip("pyarrow", reason="streams of a NATS server need it")

from nats_helpers import BEFORE, PATIENCE, Server, asked, limit_stream, published, publishing, state, unhurried
from shared_helpers import child as forked
from shared_helpers import stay

from f1buf import READING, ShutDown
from f1buf.command.cli import main
from f1buf.telemetry import SPEED
from f1buf.telemetry.nats import link, spool
from f1buf.telemetry.nats import publisher as publisher_module
from f1buf.telemetry.nats.messages import Packer, checksum
from f1buf.telemetry.nats.publisher import Publisher, StreamError
from f1buf.telemetry.nats.subscriber import Subscriber
from f1buf.telemetry.parts import read_footer, read_rows
from f1buf.telemetry.recorder import Recorder

# 64 messages and the ring hold far less than is put; takes leave a rest. A server that comes back is waited for.
SMALL = {"capacity": 1000, "batch": 15, "patience": WATCHDOG}
MANY = 12_000
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(4 * WATCHDOG), unhurried(BEFORE):
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One that each test finds at work."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def url(server):
    """The address of a stream that no other test uses; the server is there."""
    if server.process.poll() is not None:
        server.start()
    return f"{server.url}/stream-{next(_numbers)}"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def hasty(monkeypatch):
    """A server that is away is not waited for as long as usual."""
    monkeypatch.setattr(link, "_ANSWER", 0.1)
    return {"patience": 0.1}


def numbered(count, start=0):
    """Readings whose value is their number, of 7 sensors; they hardly compress."""
    out = readings(np.arange(start, start + count, dtype="f8"), sensors=7, start=start)
    out["timestamp"] += np.random.default_rng(start).random(count)
    return out


def put(publisher, count, start=0, batch=100):
    for first in range(start, start + count, batch):
        publisher.ring.put_many(numbered(min(batch, start + count - first), first))


def taken(url):
    """All readings that a stream holds."""
    source = Subscriber(url)
    out = np.concatenate([np.empty(0, READING), *source.batches()])
    assert (source.missed, source.rejected) == (0, {})
    return out


def check(came, count, shards=1):
    """Each reading came once; in order, or with several shards in that of its sensor."""
    values = came["value"].astype(int)
    assert sorted(values) == list(range(count))
    for sensor in range(7) if shards > 1 else ():
        values = came["value"][came["sensor_id"] == sensor]
        assert (np.diff(values) > 0).all()
    if shards == 1:
        assert values.tolist() == list(range(count))
    assert (came[np.argsort(came["value"])]["channel"] == SPEED.number).all()


def values_in(folder):
    """The numbers of the readings in a spool's parts."""
    parts = [read_footer(path) for path in folder.glob("spool-*.parquet")]
    return [value for part in parts for rows in read_rows(part, 1 << 20) for value in rows.readings["value"].tolist()]


def left_in(publisher):
    return publisher.as_dict()["spool"]["left"]


# A server that is away ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("before", [0, 300], ids=["from the first reading on", "amid"])
def test_what_comes_while_the_server_is_away(server, url, folder, before, shards):
    publisher = Publisher(url, shards=shards, spool=folder, **SMALL)
    if not before:
        server.kill()
    task = Task(publisher.run)
    put(publisher, before)
    wait_until(lambda: publisher.published >= before, "the first readings to be stored")
    if before:
        server.kill()
    Task(put, publisher, MANY - before, before).result()  # far more than the ring holds
    assert left_in(publisher) > MANY // 4
    server.start()
    publisher.ring.shutdown()
    task.result()
    check(taken(url), MANY, shards)
    said = publisher.as_dict()["spool"]
    assert (said["found"], said["left"], said["folder"]) == (0, 0, str(folder))
    assert said["readings"] > MANY // 4
    assert (publisher.published, publisher.safe, publisher.lost, publisher.trouble) == (MANY, MANY, 0, "")
    assert f"{said['readings']:,} went through the spool {folder}, none is left" in str(publisher)
    assert os.listdir(folder) == []


def test_a_server_that_goes_away_again_and_again(server, url, folder):
    with publishing(url, spool=folder, **SMALL) as publisher:
        for start in range(0, 2 * MANY, MANY):
            server.kill()
            Task(put, publisher, MANY - 2000, start).result()
            server.start()
            put(publisher, 2000, start + MANY - 2000)
    check(taken(url), 2 * MANY)
    assert os.listdir(folder) == []


def test_what_was_known_of_a_sensor_when_its_readings_came(server, url, folder):
    now = {"lap": 1}

    def describe(sensor_id, flags):
        return {"lap": now["lap"], "driver": f"driver {sensor_id}", "car": sensor_id, "session": 1 << 63}

    publisher = Publisher(url, describe, spool=folder, **SMALL)
    server.kill()
    task = Task(publisher.run)
    put(publisher, 5000)

    def spooled():
        return publisher.as_dict()["spool"]["readings"]

    # What is in neither is being described.
    wait_until(
        lambda: spooled() + len(publisher.ring) == 5000 and len(publisher.ring) <= 500,
        "the spool to have what the ring cannot hold",
    )
    so_far = spooled()
    now["lap"] = 2
    put(publisher, 200, 5000)
    server.start()
    publisher.ring.shutdown()
    task.result()
    source, laps = Subscriber(url), defaultdict(set)
    for batch in source.batches():
        for value, sensor, flags in zip(batch["value"], batch["sensor_id"], batch["flags"], strict=True):
            said = source.describe(sensor, flags)
            laps[said["lap"]].add(value)
            assert said | {"lap": 0} == {"lap": 0, "driver": f"driver {sensor}", "car": sensor, "session": 1 << 63}
    assert max(laps[1]) < min(laps[2])
    assert (len(laps[1]) >= so_far > 3000, len(laps[1] | laps[2])) == (True, 5200)


def test_a_server_that_keeps_up_has_nothing_written(url, folder):
    with publishing(url, spool=folder) as publisher:
        put(publisher, 5000)
        wait_until(lambda: publisher.published == 5000, "all to be stored")
        assert os.listdir(folder) == []
    assert publisher.as_dict()["spool"] == {"folder": str(folder), "readings": 0, "found": 0, "left": 0}
    assert os.listdir(folder) == []


def test_a_ring_that_drops_the_oldest(server, url, folder):
    publisher = Publisher(url, overflow="drop_oldest", spool=folder, **SMALL)
    server.kill()
    task = Task(publisher.run)
    Task(put, publisher, MANY).result()
    server.start()
    publisher.ring.shutdown()
    task.result()
    values, dropped = taken(url)["value"], publisher.ring.stats().dropped
    assert (np.diff(values) > 0).all()
    assert len(values) == publisher.published == MANY - dropped
    assert publisher.lost == dropped
    assert values[-1] == MANY - 1
    assert os.listdir(folder) == []


# A publisher that ends, or is killed ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("before", [0, 300], ids=["from the first reading on", "amid"])
def test_what_is_left_at_the_end_is_sent_by_the_next_one(server, url, folder, hasty, before, shards):
    first = Publisher(url, shards=shards, spool=folder, **SMALL | hasty)
    if not before:
        server.kill()
    task = Task(first.run)
    put(first, before)
    wait_until(lambda: first.published >= before, "the first readings to be stored")
    if before:
        server.kill()
    put(first, 5000 - before, before)
    first.ring.shutdown()
    task.result()  # no failure: nothing is lost
    left = first.as_dict()["spool"]["left"]
    assert (first.published + left, first.safe, first.lost) == (5000, 5000, 0)
    assert f"{left:,} are left in it for the next run" in str(first)
    assert sorted(values_in(folder)) == list(range(first.published, 5000))

    server.start()
    Publisher(url, spool=folder)._spool.close()  # ends before it has sent anything, as if killed
    with publishing(url, spool=folder, **SMALL) as second:
        assert second.as_dict()["spool"]["found"] == left
        put(second, 1000, 5000)
    check(taken(url), 6000, shards)
    assert (second.published, second.safe, second.lost) == (1000 + left, 1000, 0)
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("hasty")
def test_what_is_left_has_its_own_source_and_thresholds(server, url, folder, hasty):
    first = Publisher(url, source="the race", spool=folder, **SMALL | hasty)
    server.kill()
    task = Task(first.run)
    put(first, 500)
    first.ring.shutdown()
    task.result()
    server.start()
    with publishing(url, source="the next one", spool=folder) as second:
        put(second, 10, 500)
    source, sources = Subscriber(url), []
    for batch in source.batches():
        sources += [source.source] * len(batch)
    assert sources == ["the race"] * 500 + ["the next one"] * 10
    assert second.published == 510


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("late", [1, None], ids=["some", "all"])
def test_what_a_killed_publisher_sent_last_comes_late(server, url, folder, hasty, late, monkeypatch):
    """Its connection may hold messages while the next publisher looks where the stream ends."""
    store_some_and_leave_the_rest(server, url, folder, hasty)
    parts = sorted(map(read_footer, folder.glob("spool-*")), key=lambda part: (part.number, part.progress["first"]))
    name = url.rpartition("/")[2]
    end = state(url, name).last_seq + len(parts[:late])
    looked, coming = publisher_module._end_of_stream, [parts[:late]]

    async def end_of_stream(link, info):
        end = await looked(link, info)
        number, count = int(end.headers["F1buf-Number"]), 300
        for part in coming.pop() if coming else ():
            [rows] = read_rows(part, 1 << 20)
            number += 1
            message = Packer().pack(rows.readings)
            more = {"F1buf-Number": f"{number}", "F1buf-First": f"{count}", "F1buf-Crc32": checksum(message)}
            more["F1buf-Publisher"] = end.headers["F1buf-Publisher"]
            more[spool.REACHED] = f"{part.number}:{part.progress['first'] + len(rows.readings)}"
            answer = await link.client.request(f"{link.address.stream}.0", message, PATIENCE, headers=more)
            assert b"error" not in answer.data
            count += len(rows.readings)
        return end

    monkeypatch.setattr(publisher_module, "_end_of_stream", end_of_stream)
    with publishing(url, spool=folder, **SMALL) as second:
        assert second.as_dict()["spool"]["found"] == sum(part.rows for part in parts[late:] if late)
        put(second, 1000, 5000)
    check(taken(url), 6000)
    assert second.messages == state(url, name).last_seq - end
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("hasty")
def test_the_next_one_waits_for_room_in_a_full_stream(server, url, folder, hasty):
    name = url.rpartition("/")[2]
    first = Publisher(url, spool=folder, **SMALL | hasty)
    server.kill()
    task = Task(first.run)
    put(first, 5000)
    first.ring.shutdown()
    task.result()
    server.start()
    published(url, numbered(100))  # by one without a spool: a message of readings, and one before and behind it
    (folder / "publisher.json").unlink()  # "send all of them all the same"
    limit_stream(url, name, max_msgs=3)
    with publishing(url, spool=folder, **SMALL) as second:
        wait_until(lambda: "maximum messages exceeded" in second.trouble, "the stream to refuse")
        limit_stream(url, name, max_msgs=-1)
    assert taken(url)["value"].tolist() == [*range(100), *range(5000)]
    assert os.listdir(folder) == []


def put_for_ever(url, folder):
    """For a child: publish numbers, and say how many are stored and how many the spool took whenever that changes."""
    publisher = Publisher(url, spool=folder, shards=3, **SMALL)
    tasks = [Task(publisher.run), Task(put, publisher, 1 << 40)]
    said = None

    def counts():
        return publisher.published, publisher.as_dict()["spool"]["readings"]

    while all(task.is_alive() for task in tasks):
        wait_until(lambda said=said: said != counts(), every=1e-3)
        said = counts()
        print(*said, flush=True)
    for task in tasks:
        task.result()


@contextlib.contextmanager
def child(call, *before):
    """A process that calls a function of this module; `before` is a command that starts it."""
    here = Path(__file__).parent
    code = f"import sys; sys.path.append({str(here)!r}); import test_nats_spool as tests; tests.{call}"
    how = child_options([], ("-c", code))
    how["args"] = [*before, *how["args"]]
    how["env"]["PYTHONPATH"] += os.pathsep.join(["", str(here), str(here.parent)])
    with subprocess.Popen(
        **how, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_counts(process, enough):
    """Read what `put_for_ever` says until it is enough."""
    for line in process.stdout:
        if enough(*map(int, line.split())):
            return
    raise AssertionError(f"it ended: {process.stderr.read()}")


@pytest.mark.parametrize("amid", ["spooling", "sending"])
def test_a_publisher_is_killed(server, url, tmp_path, amid):
    chance = seeded(amid)
    for number in range(REPEATS):
        stream, folder = f"{url}-{number}", tmp_path / f"{number}"
        if server.process.poll() is not None:
            server.start()
        with child(f"put_for_ever({stream!r}, {str(folder)!r})") as process:
            wait_for_counts(process, lambda stored, spooled: stored > 0)
            server.kill()
            many = chance.randrange(2000, 20_000)
            wait_for_counts(process, lambda stored, spooled, many=many: spooled >= many)
            if amid == "sending":
                server.start()
                stored, more = [], chance.randrange(1, 2000)
                wait_for_counts(process, lambda now, _, s=stored, m=more: s.append(now) or now >= s[0] + m)
            process.kill()
            process.wait(WATCHDOG)
        if server.process.poll() is not None:
            server.start()
        complete = values_in(folder)
        last = int(max(complete)) + 1
        with publishing(stream, spool=folder, **SMALL) as publisher:
            put(publisher, 2000, last)
        came = taken(stream)
        values = came["value"]
        assert len(set(values)) == len(values), "some came twice"
        assert set(complete) <= set(values), "what was in complete parts did not come"
        assert set(range(last, last + 2000)) <= set(values)
        for sensor in range(7):
            assert (np.diff(came["value"][came["sensor_id"] == sensor]) > 0).all()
        assert publisher.as_dict()["spool"]["found"] <= len(complete)
        assert os.listdir(folder) == []


# Disks that are full --------------------------------------------------------------------------------------------------


def fill_a_disk(url, folder):
    """For a child: publish to a server that is away until the disk is full, say so, and go on once a line comes."""
    publisher = Publisher(url, spool=folder, **SMALL)
    print("ready", flush=True)
    input()
    tasks = [Task(publisher.run), Task(put, publisher, 30_000)]
    wait_until(lambda: os.strerror(errno.ENOSPC) in publisher.trouble, "a disk that is full", every=1e-3)
    wait_until(lambda: publisher.ring.full(), "a ring that is full", every=1e-3)
    print(json.dumps([publisher.trouble, sum(path.stat().st_size for path in Path(folder).iterdir())]), flush=True)
    input()
    tasks[1].result()
    publisher.ring.shutdown()
    tasks[0].result()
    print(json.dumps([publisher.trouble, publisher.as_dict()["spool"], os.listdir(folder)]))


def test_a_full_file_system(server, url, tmp_path):
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size=300k none {tmp_path} && exec "$@"'
    namespace = unshare, "--mount", "sh", "-c", mount, "sh"
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    call = f"fill_a_disk({url!r}, {str(tmp_path / 'spool')!r})"
    how = ("env", *namespace)
    with child(call, *how) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        server.kill()
        print(file=process.stdin, flush=True)
        trouble, size = json.loads(process.stdout.readline())
        assert ".parquet: cannot be written: No space left on device; make room" in trouble
        assert size > 150_000
        server.start()
        print(file=process.stdin, flush=True)
        out, err = process.communicate(timeout=WATCHDOG)
    assert (process.returncode, err) == (0, "")
    trouble, said, names = json.loads(out)
    assert (trouble, said["left"], names) == ("", 0, [])
    assert said["readings"] > 0
    check(taken(url), 30_000)


class FullDisk:
    """In place of `PartWriter`: after so many parts there is no room, until `room` is set."""

    def __init__(self, monkeypatch, parts):
        self._parts, self._real = parts, spool.PartWriter
        self.room = threading.Event()
        monkeypatch.setattr(spool, "PartWriter", self)

    def __call__(self, path):
        if self._parts == 0 and not self.room.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._parts = max(0, self._parts - 1)
        return self._real(path)


@pytest.mark.parametrize("parts", [0, 3])
def test_a_disk_without_room_makes_puts_wait(server, url, folder, monkeypatch, parts):
    disk = FullDisk(monkeypatch, parts)
    publisher = Publisher(url, spool=folder, **SMALL)
    server.kill()
    task, putting = Task(publisher.run), Task(put, publisher, MANY)
    wait_until(lambda: "No space left" in publisher.trouble and publisher.ring.full(), "a ring that is full")
    assert len([name for name in os.listdir(folder) if name.endswith(".parquet")]) == parts
    if parts:
        disk.room.set()
        putting.result()
        assert "No space" not in publisher.trouble
    server.start()
    putting.result()
    publisher.ring.shutdown()
    task.result()
    check(taken(url), MANY)
    assert (publisher.trouble, os.listdir(folder)) == ("", [])


def test_a_disk_without_room_at_the_end(server, url, folder, monkeypatch, hasty):
    FullDisk(monkeypatch, 2)
    first = Publisher(url, spool=folder, **SMALL | hasty)
    server.kill()
    task, putting = Task(first.run), Task(put, first, MANY)
    wait_until(lambda: "No space left" in first.trouble and first.ring.full(), "a ring that is full")
    first.ring.shutdown()
    with pytest.raises(ShutDown):
        putting.result()
    with pytest.raises(StreamError, match=r"No space left on device; make room.*; [0-9,]+ readings are not known"):
        task.result()
    complete = values_in(folder)
    assert (first.safe, first.lost) == (len(complete), first.ring.stats().offered - len(complete))
    assert first.lost >= 1000
    monkeypatch.undo()
    server.start()
    with publishing(url, spool=folder):
        pass
    assert taken(url)["value"].tolist() == sorted(complete)


# What is refused ------------------------------------------------------------------------------------------------------


def leave_some(server, url, folder, hasty, count=5000):
    """Have a spool with readings for a stream; the server is there again."""
    publisher = Publisher(url, spool=folder, **SMALL | hasty)
    server.kill()
    task = Task(publisher.run)
    put(publisher, count)
    publisher.ring.shutdown()
    task.result()
    server.start()
    return publisher


def store_some_and_leave_the_rest(server, url, folder, hasty):
    """Have 300 readings in a stream, and the 4,700 behind them in the spool."""
    publisher = Publisher(url, spool=folder, **SMALL | hasty)
    task = Task(publisher.run)
    put(publisher, 300)
    wait_until(lambda: publisher.published == 300, "the first readings to be stored")
    server.kill()
    put(publisher, 4700, 300)
    publisher.ring.shutdown()
    task.result()
    server.start()


def refused(url, folder):
    with pytest.raises(StreamError) as caught:
        Publisher(url, spool=folder)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_folders_that_are_anything_else(url, folder, tmp_path):
    recorder = Recorder(tmp_path / "race")
    assert "another publisher or recorder" in refused(url, tmp_path / "race")
    recorder.ring.shutdown()
    recorder.run()
    assert "holds part-000001.parquet, which is no part of a spool" in refused(url, tmp_path / "race")
    assert "is inside the recording" in refused(url, tmp_path / "race" / "spool")
    folder.mkdir()
    (folder / "notes.txt").touch()
    assert refused(url, folder).startswith(f"{folder}: holds notes.txt, which is no part of a spool; expected a new or")
    assert "File exists" in refused(url, folder / "notes.txt")
    (folder / "notes.txt").unlink()
    (folder / ".spool-000001-0.parquet.tmp").touch()  # a crash left it
    publisher = Publisher(url, spool=folder)
    assert "another publisher or recorder has it; choose another folder" in refused(url, folder)
    publisher.ring.shutdown()
    publisher.run()
    assert os.listdir(folder) == []
    Publisher(url, spool=folder)


@pytest.mark.parametrize("forgets", [False, True])
def test_a_folder_is_free_again_whatever_was_forked_meanwhile(folder, forgets):
    first = spool.Spool(folder)
    with forked(stay_with, first, forgets) as its:
        its.hear()
        with pytest.raises(StreamError, match="another publisher or recorder has it"):
            spool.Spool(folder)
        first.close()
        spool.Spool(folder).close()


def stay_with(pipe, its, forgets):
    if forgets:
        its._leave()  # as the collector does
    stay(pipe)


def test_a_spool_whose_stream_another_one_has_taken_over(server, url, folder, hasty):
    leave_some(server, url, folder, hasty)
    with publishing(url) as other:
        put(other, 10, 90_000)
    said = refused(url, folder)
    assert said.startswith(f"{folder}: holds 5,000 readings for the stream stream-")
    assert "which another publisher has taken over since, or which has forgotten what it had of these" in said
    assert f"remove {spool._STATE} in it to send all of them all the same" in said
    (folder / spool._STATE).unlink()
    with publishing(url, spool=folder):
        pass
    assert taken(url)["value"].tolist() == [*range(90_000, 90_010), *range(5000)]


def test_a_spool_whose_last_stored_message_was_removed(server, url, folder, hasty):
    """What the message before it says is older than what was stored."""
    store_some_and_leave_the_rest(server, url, folder, hasty)
    name = url.rpartition("/")[2]
    last = state(url, name).last_seq
    asked(url, lambda _, stream: stream.delete_msg(name, last))
    assert "which has forgotten what it had of these (its limits, a purge, a full disk)" in refused(url, folder)


def test_a_spool_of_another_stream(server, url, folder, hasty):
    leave_some(server, url, folder, hasty)
    assert "is the spool of the stream stream-" in refused(f"{url}-other", folder)


def test_a_stream_that_was_made_anew_gets_all_that_is_left(server, url, folder, hasty, tmp_path):
    leave_some(server, url, folder, hasty)
    with Server(tmp_path / "other") as other:
        moved = f"{other.url}/{url.rpartition('/')[2]}"
        with publishing(moved, spool=folder):
            pass
        check(taken(moved), 5000)


def test_damaged_parts(server, url, folder, hasty):
    leave_some(server, url, folder, hasty)
    path = sorted(folder.glob("spool-*.parquet"))[0]
    whole = path.read_bytes()

    path.write_bytes(whole[:-10])  # seen at once
    said = refused(url, folder)
    assert said.startswith(f"{path}: damaged or unreadable: ")
    assert said.endswith("it was to be published: move it away to publish what is behind it")

    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])  # seen when it is to be sent
    publisher = Publisher(url, spool=folder, patience=WATCHDOG)
    publisher.ring.shutdown()
    with pytest.raises(StreamError, match=r"its checksum is .*; it was to be published: move it away"):
        publisher.run()
    assert path.exists()

    path.write_bytes(whole)
    other = path.rename(path.with_name("spool-000999-0.parquet"))
    assert "has another part's name" in refused(url, folder)
    other.rename(path)

    (folder / spool._STATE).write_text("{}")
    assert f"{spool._STATE}: damaged or unreadable: " in refused(url, folder)


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(url, folder, capsys):
    assert main(["run", "--publish-spool", str(folder)]) == 2
    assert "--publish-spool and --replicas are of no use without --publish URL" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--publish", url, "--publish-spool", ""])
    assert "--publish-spool: the name is empty; expected one" in capsys.readouterr().err
    folder.mkdir()
    (folder / "notes.txt").touch()
    assert main(["run", "--publish", url, "--publish-spool", str(folder)]) == 2
    assert f"--publish {folder}: holds notes.txt" in capsys.readouterr().err
    (folder / "notes.txt").unlink()
    how = ["--duration", "0.1", "--plain", "--json", "--publish", url, "--publish-spool", str(folder)]
    assert main(["run", *how]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)["publishing"]
    assert said["spool"]["left"] == said["lost"] == 0
    assert f"went through the spool {folder}, none is left" in err


def test_the_command_at_whose_end_the_server_is_away(server, url, folder, hasty, capsys, monkeypatch):
    made = []

    def away(*args, **options):
        made.append(Publisher(*args, **options, **hasty))
        server.kill()
        return made[0]

    monkeypatch.setattr("f1buf.telemetry.nats.publisher.Publisher", away)
    how = ["--count", "100", "--rate", "max", "--plain", "--json", "--publish", url, "--publish-spool", str(folder)]
    assert main(["run", *how]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["publishing"]["spool"]["left"] == said["readings"] == 500
    assert said["publishing"]["lost"] == 0
    assert "are left in it for the next run" in err
    server.start()
    with contextlib.suppress(ShutDown), publishing(url, spool=folder):
        pass
    assert len(taken(url)) == said["readings"]
