"""Durable subscribers: whatever ends one, another one goes on behind what was done; several share the shards."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import Clock, mixed_stream, watchdog
from helpers import FULL, WATCHDOG, Task, wait_until
from nats_helpers import (
    ANSWERS,
    BEFORE,
    Server,
    StreamError,
    Subscriber,
    Taker,
    are_numbered,
    asked,
    limit_stream,
    nats,
    numbered,
    published,
    publishing,
    state,
    unhurried,
)

from f1buf import READING
from f1buf.command.alert_file import AlertFile
from f1buf.command.status import UsageError
from f1buf.telemetry import (
    SPEED,
    Channel,
    F1TelemetrySystem,
    Recorder,
    RecorderError,
    Threshold,
    ThresholdTable,
    Tracker,
)
from f1buf.telemetry.nats import group
from f1buf.telemetry.nats.group import Group
from f1buf.telemetry.nats.keeper import Keeper, file_name
from f1buf.telemetry.nats.link import StreamAddress, connected
from f1buf.telemetry.sources.parquet import open_parquet

_numbers = itertools.count()
LIMITS = (
    Threshold("SPEED", above=10, message="fast"),
    Threshold("SPEED", above=12, hysteresis=3, min_duration=0.05, message="long"),
)


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(4 * WATCHDOG), unhurried(BEFORE):
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server that no test harms."""
    with Server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(shared):
    """The address of a stream that no other test uses."""
    with unhurried(ANSWERS):
        yield f"{shared.url}/durable-{next(_numbers)}"


# How an analysis stands -----------------------------------------------------------------------------------------------


def test_a_tracker_goes_on_where_another_one_was():
    Channel(SPEED.name, SPEED.unit, (0.0, 1.0))  # shares its name and unit
    table, stream = ThresholdTable(LIMITS), mixed_stream(4000)
    whole = Tracker(table, samples=True)
    events = whole.merge(table.check(stream), 0)
    found, state = [], []
    for start in range(0, len(stream), 150):  # each piece by a tracker of its own, which knows the last one's state
        tracker = Tracker(table, samples=True)
        tracker.restore(json.loads(json.dumps(state)))
        found += tracker.merge(table.check(stream[start : start + 150]), start)
        state = tracker.state()
    assert [(each.position, each.threshold, each.kind) for each in found] == [
        (each.position, each.threshold, each.kind) for each in events
    ]
    assert len(found) > 100
    for kept, each in zip(state, whole.state(), strict=True):
        assert kept | {"over": sorted(kept["over"])} == each | {"over": sorted(each["over"])}
    whole.restore([])
    assert (whole.state(), whole.over) == ([], 0)


class Pieces:
    """A source that asks how the analysis stands after each piece."""

    name = "pieces"

    def __init__(self, system, pieces):
        self._system, self._pieces = system, pieces
        self.stood = []

    def batches(self, stop):
        for piece in self._pieces:
            yield piece
            self.stood.append(self._system.settle())


def test_a_run_goes_on_where_another_one_was():
    stream = mixed_stream(4000)
    alerts, once = [], []
    system = F1TelemetrySystem(64, thresholds=LIMITS, on_alert=lambda alert: once.append(alert.as_json()))
    source = Pieces(system, [stream])
    system.start([source])
    system.run()
    stood, cuts = None, [0, 1, 777, 778, 2500, 4000]
    for begin, end in itertools.pairwise(cuts):
        system = F1TelemetrySystem(64, thresholds=LIMITS, on_alert=lambda alert: alerts.append(alert.as_json()))
        source = Pieces(system, [stream[begin:end]])
        system.start([source], resume=stood)
        assert system.run().readings == end - begin
        stood = json.loads(json.dumps(source.stood[-1]))
        assert stood["readings"] == end
    assert len(once) > 20
    assert alerts == once


def test_what_stood_for_other_thresholds_is_not_taken():
    system = F1TelemetrySystem(64, thresholds=LIMITS)
    source = Pieces(system, [mixed_stream(500)])
    system.start([source])
    system.run()
    other = F1TelemetrySystem(64, thresholds=LIMITS[:1])
    again = Pieces(other, [mixed_stream(1)[:0]])
    other.start([again], resume=source.stood[0])
    other.run()
    assert again.stood[0]["over"] == []


def test_a_run_that_fails_does_not_settle():
    def fail(alert):
        raise OSError("no room")

    system = F1TelemetrySystem(64, thresholds=LIMITS, on_alert=fail)
    settled = []

    class Source:
        name = "source"

        def batches(self, stop):
            yield mixed_stream(500)
            stop.wait(WATCHDOG)
            settled.append(system.settle())

    system.start([Source()])
    with pytest.raises(Exception, match="no room"):
        system.run()
    assert len(settled) == 1  # it came back, whatever it says


# Recordings of several runs -------------------------------------------------------------------------------------------


def run_of(folder, first, count, *, cuts=1, kept=True, is_last=False):
    """One run of a recording: so many readings, in so many cuts, of which the last one counts or not."""
    recorder = Recorder(folder, goes_on=True)
    thread = Task(recorder.run)
    for number, part in enumerate(np.array_split(numbered(count, first), cuts)):
        recorder.ring.put_many(part)
        recorder.cut({"to": int(part["value"][-1]) + 1})
        if kept or number < cuts - 1:
            recorder.keep_cut()
    recorder.is_last = is_last
    recorder.ring.shutdown()
    thread.result()
    return recorder


def test_runs_make_one_recording(tmp_path):
    folder = tmp_path / "race"
    first = run_of(folder, 0, 300, cuts=3)
    assert (first.written, first.parts, first.progress) == (300, 3, {"to": 300})
    assert Recorder(folder, goes_on=True).progress == {"to": 300}
    second = run_of(folder, 300, 100, cuts=2, is_last=True)
    assert (second.written, second.parts) == (100, 3)  # one says that it is the last
    recording = open_parquet(folder)
    assert recording.rejected == {}
    assert are_numbered(np.concatenate([rows.readings for rows in recording.batches()]), 400)
    with pytest.raises(RecorderError, match="holds a recording that has ended; choose another folder"):
        Recorder(folder, goes_on=True)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("before", [0, 200])
def test_a_cut_of_which_nobody_knows_whether_it_counts(tmp_path, before, kept):
    folder = tmp_path / "race"
    if before:
        run_of(folder, 0, before)
    run_of(folder, before, 50, kept=False)
    recorder = Recorder(folder, goes_on=True)
    assert recorder.pending == {"to": before + 50}
    if kept:
        recorder.keep_cut()
    else:
        recorder.drop_cut()
    del recorder
    so_far = before + 50 * kept
    run_of(folder, so_far, 30, is_last=True)
    rows = np.concatenate([rows.readings for rows in open_parquet(folder).batches()])
    assert are_numbered(rows, so_far + 30)
    assert [name for name in os.listdir(folder) if "cut" in name] == []


def test_what_was_not_cut_is_for_the_next_run(tmp_path):
    recorder = Recorder(tmp_path / "race", goes_on=True)
    thread = Task(recorder.run)
    recorder.ring.put_many(numbered(100))
    recorder.cut({"to": 100})
    recorder.keep_cut()
    recorder.ring.put_many(numbered(70, 100))
    recorder.ring.shutdown()
    thread.result()
    assert (recorder.written, recorder.lost) == (100, 70)
    assert open_parquet(tmp_path / "race").count == 100


def test_a_recording_of_one_run_does_not_go_on(tmp_path):
    recorder = Recorder(tmp_path / "race")
    thread = Task(recorder.run)
    recorder.ring.shutdown()
    thread.result()
    with pytest.raises(RecorderError, match="holds a recording that is not of several runs; choose another folder"):
        Recorder(tmp_path / "race", goes_on=True)


def test_a_recorder_that_has_failed_cuts_nothing(tmp_path):
    recorder = Recorder(tmp_path / "race", goes_on=True)
    recorder.ring.shutdown()
    Task(recorder.run).result()
    with pytest.raises(RecorderError, match="the recorder has ended"):
        recorder.cut({})


def test_a_file_of_alerts_goes_on_behind_what_counts(tmp_path):
    path = tmp_path / "alerts"
    path.write_text("counts\ndoes not\n")
    file = AlertFile(str(path), len("counts\n"))
    assert file.bring_to_disk() == len("counts\n")
    file._file.write("goes on\n")
    assert file.bring_to_disk() == len("counts\ngoes on\n")
    assert file.close() is None
    assert path.read_text() == "counts\ngoes on\n"
    with pytest.raises(UsageError, match="has 15 bytes; expected the file to which an earlier run wrote 99"):
        AlertFile(str(path), 99)
    assert path.read_text() == "counts\ngoes on\n"
    with pytest.raises(UsageError, match="gone: is not there; expected the file to which an earlier run wrote 99"):
        AlertFile(str(tmp_path / "gone"), 99)
    assert not (tmp_path / "gone").exists()


def test_a_file_of_alerts_belongs_to_one_run(tmp_path):
    first = AlertFile(str(tmp_path / "alerts"))
    for kept in (None, 0):
        with pytest.raises(UsageError, match="another run writes to it; choose another file"):
            AlertFile(str(tmp_path / "alerts"), kept)
    first.close()
    AlertFile(str(tmp_path / "alerts")).close()


def test_alerts_that_cannot_be_written_keep_nothing():
    system = F1TelemetrySystem(64, thresholds=LIMITS)
    file = AlertFile("/dev/full")
    keeper = Keeper(system, {}, alerts="/dev/full", bring_to_disk=file.bring_to_disk)

    class Asks(Pieces):
        """Asks in between, as a subscriber does."""

        def batches(self, stop):
            yield from super().batches(stop)
            assert set(keeper.settle(False)[1].values()) == {0}  # nothing is to be written yet
            file._file.write("an alert\n")
            with pytest.raises(StreamError, match="alerts cannot be written: No space left on device; what came since"):
                keeper.settle(False)

    system.start([Asks(system, [mixed_stream(100)])])
    system.run()
    assert "No space left on device" in file.close()


# Groups ---------------------------------------------------------------------------------------------------------------


def in_group(url, test, members=2, shards=4):
    """Run a coroutine with a link and so many members of one name, which have not joined."""

    async def run():
        address = StreamAddress(url)
        async with connected(address) as link:
            stream = {"config": {"name": address.stream}, "created": "today"}
            await test(link, *(Group(stream, "wall", shards, 60.0) for _ in range(members)))

    asyncio.run(run())


def done(*shards, to=1, ended=False):
    """What was done with shards."""
    return {shard: {"readings": to, "ended": ended} for shard in shards}


def test_a_member_has_what_was_kept_and_gives_others_their_share(url):
    async def test(link, first, second):
        await first.join(link)
        assert first.owned == [0, 1, 2, 3]
        await first.keep(link, done(0, 1, 2, 3, to=5), {"a": 1})
        await second.join(link)
        assert second.owned == []
        await first.keep(link, done(0, 1, 2, 3, to=6), {"b": 2})  # the second one is seen, and has its share
        assert first.owned == [0, 1]
        await second.keep(link, {}, {})
        assert second.owned == [2, 3]
        assert [second.progress(shard) for shard in (2, 3)] == [{"readings": 6, "ended": False}] * 2
        assert second.record["files"] == {"a": 1, "b": 2}
        await first.keep(link, done(0, 1, ended=True), {})
        assert not first.has_ended
        await first.leave(link)
        await second.keep(link, done(2, 3, ended=True), {})
        assert second.owned == [0, 1, 2, 3]
        assert second.has_ended

    in_group(url, test)


@pytest.fixture
def clock(monkeypatch):
    """By which nobody stands still because the machine is busy."""
    clock = Clock()
    monkeypatch.setattr(group, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_a_member_that_gives_no_sign_loses_its_shards_and_is_told(url, clock):
    async def test(link, first, second):
        await first.join(link)
        await first.keep(link, done(0, 1, 2, 3, to=5), {})
        await second.join(link)
        clock.now += 59.0
        await second.keep(link, {}, {})
        assert second.owned == []
        clock.now += 2.0
        await second.keep(link, {}, {})
        assert second.owned == [0, 1, 2, 3]
        await second.keep(link, done(0, 1, 2, 3, to=9), {})
        for step in (first.give_sign(link), first.keep(link, done(0, 1, 2, 3, to=7), {})):
            with pytest.raises(StreamError, match=r"stood still for more than 60 s, and another one of the durable"):
                await step
        await second.keep(link, done(0, to=10), {})
        assert [second.progress(shard)["readings"] for shard in range(4)] == [10, 9, 9, 9]

    in_group(url, test)


async def share(link, first, second):
    """Have each own two shards, and know the other one's latest sign."""
    await first.join(link)
    await second.join(link)
    await first.keep(link, {}, {})
    await second.keep(link, {}, {})
    await first.keep(link, {}, {})
    assert (len(first.owned), len(second.owned)) == (2, 2)


@pytest.mark.parametrize("asks", ["before the loss", "then", "not"])
def test_a_server_that_is_away_makes_nobody_stand_still(tmp_path, clock, asks):
    """Whether what was asked meanwhile is lost, or answered once the connection is there again."""
    with Server(tmp_path) as server:

        async def test(link, first, second):
            with unhurried({"group": ("_ANSWER",)}):
                await share(link, first, second)
            server.kill()
            asking = []
            if asks == "before the loss":  # is known here
                asking.append(asyncio.create_task(first.give_sign(link)))
            while not link.trouble:
                await asyncio.sleep(0.01)
            if asks == "then":
                asking.append(asyncio.create_task(first.give_sign(link)))
                await asyncio.sleep(0)
            clock.now += 100.0  # far longer than the lease
            await asyncio.to_thread(server.start)
            while link.trouble:
                await asyncio.sleep(0.01)
            await asyncio.gather(*asking)
            await first.keep(link, {}, {})  # before the other one has said anything
            await second.keep(link, {}, {})
            assert (len(first.owned), len(second.owned)) == (2, 2)

        in_group(f"{server.url}/race", test)


def test_a_server_that_answers_late_makes_nobody_stand_still(url, clock, monkeypatch):
    async def test(link, first, second):
        await share(link, first, second)
        request = link.client.request

        async def late(*args, **options):
            answer = await request(*args, **options)
            clock.now += 100.0
            return answer

        monkeypatch.setattr(link.client, "request", late)
        await first.give_sign(link)
        monkeypatch.setattr(link.client, "request", request)
        await first.keep(link, {}, {})
        await second.keep(link, {}, {})
        assert (len(first.owned), len(second.owned)) == (2, 2)

    in_group(url, test)


@pytest.mark.parametrize("refusal", [None, {"err_code": 10077, "description": "maximum bytes exceeded"}])
def test_a_server_that_keeps_nothing_for_a_while_makes_nobody_stand_still(url, clock, monkeypatch, refusal):
    """It does not answer for want of a leader, or has no room: each time at once, and the connection stays."""

    async def test(link, first, second):
        await share(link, first, second)
        request, refused = link.client.request, []

        async def refuse(subject, *args, **options):
            if subject.startswith("$JS.API.") or len(refused) == 3:
                return await request(subject, *args, **options)
            refused.append(subject)
            clock.now += 25.0  # longer than the lease in all
            if refusal is None:
                raise nats.errors.NoRespondersError
            return SimpleNamespace(data=json.dumps({"error": refusal}))

        monkeypatch.setattr(link.client, "request", refuse)
        await first.give_sign(link)
        assert len(refused) == 3
        await first.keep(link, {}, {})
        await second.keep(link, {}, {})
        assert (len(first.owned), len(second.owned)) == (2, 2)

    in_group(url, test)


def test_a_record_that_the_server_does_not_take(url):
    async def test(link, first):
        await first.join(link)
        progress = {0: {"ended": False, "analysis": "x" * link.client.max_payload}}
        with pytest.raises(StreamError, match=r"what is to be kept for the durable name 'wall' .* is 8,\d+,\d+ bytes"):
            await first.keep(link, progress, {})

    in_group(url, test, members=1)


def test_a_step_of_which_no_answer_came_is_made_once(url, monkeypatch):
    async def test(link, first, second):
        await first.join(link)
        await second.join(link)
        await first.give_sign(link)  # it has seen the other one
        request, silent = link.client.request, [True]

        async def unheard(subject, *args, **options):
            answer = await request(subject, *args, **options)
            if silent and subject.startswith("f1buf-progress"):
                silent.pop()
                await second.keep(link, {}, {})  # another member makes a step meanwhile
                raise TimeoutError
            return answer

        monkeypatch.setattr(link.client, "request", unheard)
        await first.keep(link, done(0, 1, 2, 3, to=5), {})
        assert not silent
        assert first.owned == [0, 1]  # it gave back two, of which the other one has taken hold
        assert second.owned == [2, 3]
        assert [second.progress(shard)["readings"] for shard in range(4)] == [5] * 4

    in_group(url, test)


# Subscribers ----------------------------------------------------------------------------------------------------------


def test_a_durable_subscriber_goes_on_where_the_last_one_ended(url):
    published(url, numbered(5000), batch=100)
    first = Taker(Subscriber(url, durable="wall"))
    first.wait_for(1000)
    before = first.end()
    second = Taker(Subscriber(url, durable="wall"))
    everything = np.concatenate([before, second.result()])
    assert are_numbered(everything, 5000)
    assert second.subscriber.ended
    assert len(Taker(Subscriber(url, durable="wall")).result()) == 0
    assert are_numbered(Taker(Subscriber(url, durable="desk")).result(), 5000)  # another name has another place


def test_readings_that_come_later_are_the_next_ones(url):
    published(url, numbered(300))
    assert are_numbered(Taker(Subscriber(url, durable="wall")).result(), 300)
    published(url, numbered(200, 300))
    assert Taker(Subscriber(url, durable="wall")).result()["value"].tolist() == list(range(300, 500))


def test_a_shard_that_had_nothing_yet_does_not_change_where_the_others_go_on(url):
    """A later subscriber's `start` is of no account where an earlier one had begun."""
    published(url, numbered(10, sensors=2), shards=2)
    Taker(Subscriber(url, durable="wall", start="new", follow=True)).end()
    odd = numbered(40, 10, sensors=2)
    published(url, odd[odd["sensor_id"] == 1][:5], shards=2)
    first = Taker(Subscriber(url, durable="wall", start="new", follow=True))
    first.wait_for(5)
    first.end()
    published(url, numbered(40, 50, sensors=2), shards=2)
    assert len(Taker(Subscriber(url, durable="wall", start="new")).result()) == 40


def test_a_stream_that_was_made_anew_is_read_anew(url):
    name = url.rpartition("/")[2]
    published(url, numbered(5000), batch=100)
    assert len(Taker(Subscriber(url, durable="wall")).result()) == 5000
    asked(url, lambda _, stream: stream.delete_stream(name))
    published(url, numbered(700), batch=100)
    assert are_numbered(Taker(Subscriber(url, durable="wall")).result(), 700)


def test_a_stream_that_went_back_is_said(url):
    """The record is behind the end of the stream, as after a power cut."""
    published(url, numbered(500), batch=100)
    Taker(Subscriber(url, durable="wall")).result()
    subject = f"f1buf-progress.{url.rpartition('/')[2]}.wall"

    async def put_ahead(client, stream):
        record = json.loads((await stream.get_last_msg("f1buf-progress", subject)).data)
        record["shards"]["0"]["progress"]["place"][0] = 99
        await stream.publish(subject, json.dumps(record).encode())

    asked(url, put_ahead)
    for _ in range(2):
        with pytest.raises(StreamError, match=r"has gone back behind message 99, .*: take another durable name to"):
            Subscriber(url, durable="wall")


def test_messages_that_the_stream_forgot_are_counted(url):
    """Also where no message of their publisher is left."""
    name = url.rpartition("/")[2]
    published(url, numbered(1000), batch=100)
    first = Taker(Subscriber(url, durable="wall"))
    assert len(first.result()) == 1000
    published(url, numbered(2000, 1000), batch=100)
    limit_stream(url, name, max_msgs=3, discard="old")
    published(url, numbered(300, 3000), batch=100)
    source = Subscriber(url, durable="wall")
    came = Taker(source).result()
    assert came["value"].tolist() == list(range(3100, 3300))
    assert source.forgotten == state(url, name).first_seq - 1 - first.subscriber.position > 20


@pytest.mark.parametrize("durable", [None, "wall"])
@pytest.mark.parametrize("subject", ["0", "other"])
def test_a_message_of_others_at_the_end(url, durable, subject):
    name = url.rpartition("/")[2]
    published(url, numbered(300))
    asked(url, lambda _, stream: stream.publish(f"{name}.{subject}", b"hello"))
    source = Subscriber(url, durable=durable)
    assert source.thresholds == ()  # the publisher's
    assert are_numbered(Taker(source).result(), 300)
    assert source.rejected.total() == (subject == "0")


def test_it_begins_with_the_thresholds_of_what_it_reads_first(url):
    published(url, numbered(100), thresholds=LIMITS)
    published(url, numbered(100, 100), thresholds=LIMITS[:1])
    source = Subscriber(url, durable="wall")
    assert source.thresholds == LIMITS
    Taker(source).result()
    assert source.thresholds == LIMITS[:1]
    assert Subscriber(url, durable="wall").thresholds == LIMITS[:1]


def test_one_that_will_not_read_leaves(url):
    published(url, numbered(10))
    first = Subscriber(url, durable="wall")
    assert first._owned == [0]
    first.close()
    assert Subscriber(url, durable="wall")._owned == [0]


def test_a_name_that_cannot_be(url):
    published(url, numbered(1))
    with pytest.raises(StreamError, match=r"the durable name is 'a\.b'; expected up to 64 letters, digits, - and _"):
        Subscriber(url, durable="a.b")


def test_two_share_the_shards_and_each_reading_comes_once(url):
    with publishing(url, shards=4, delay=0.001) as publisher:
        publisher.ring.put_many(numbered(1000, sensors=8))
        first, second = (Taker(Subscriber(url, durable="wall", timeout=WATCHDOG, lease=WATCHDOG)) for _ in range(2))
        start = 1000
        while min(first.count, second.count) == 0:  # until the second one has its share, and readings of it
            publisher.ring.put_many(numbered(100, start, sensors=8))
            start += 100
            threading.Event().wait(0.01)
    parts = first.result(), second.result()
    assert sorted(np.concatenate(parts)["value"].tolist()) == list(range(start))
    for part in parts:
        for sensor in np.unique(part["sensor_id"]):
            assert (np.diff(part["value"][part["sensor_id"] == sensor]) > 0).all()


PROGRAM = """\
import sys
from f1buf.telemetry import F1TelemetrySystem, Recorder
from f1buf.telemetry.nats.keeper import Keeper
from f1buf.telemetry.nats.subscriber import Subscriber
from f1buf.command.alert_file import AlertFile

url, folder, alerts = sys.argv[1:]
source = Subscriber(url, durable="wall", lease=1.0)
system = F1TelemetrySystem(256, thresholds=source.thresholds, on_alert=lambda alert: file.write(alert))
recorder = Recorder(folder, goes_on=True)
source.keeper = Keeper(system, source.files, recorder, alerts, lambda: file.bring_to_disk())
file = AlertFile(alerts, source.keeper.alerts_size)
system.start([source], describe=source.describe, consumers=[recorder], resume=source.analysis)
print("begun", flush=True)
system.wait()
system.shutdown()
"""


def subscriber_process(url, folder):
    """A process that analyses and records; it has begun."""
    arguments = [sys.executable, "-c", PROGRAM, url, str(folder / "race"), str(folder / "alerts")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_subscriber_that_is_killed_loses_and_doubles_nothing(tmp_path, url):
    stream, expected = mixed_stream(20_000), []
    system = F1TelemetrySystem(256, thresholds=LIMITS, on_alert=lambda alert: expected.append(alert.as_json() + "\n"))
    system.start([Pieces(system, [stream])])
    system.run()
    with publishing(url, thresholds=LIMITS, batch=64) as publisher:
        for part in np.array_split(stream, 25 if FULL else 2):
            process = subscriber_process(url, tmp_path)
            parts = len(list(tmp_path.glob("race/part-*")))  # before there is anything for the next one
            publisher.ring.put_many(part)
            wait_until(lambda: publisher.lost == 0, "the server has all")
            wait_until(lambda: len(list(tmp_path.glob("race/part-*"))) > parts or process.poll(), "a part", every=0.01)  # noqa: B023
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
    process = subscriber_process(url, tmp_path)
    assert process.wait(WATCHDOG) == 0
    process.stdout.close()
    recording = open_parquet(tmp_path / "race")
    assert recording.rejected == {}
    rows = np.concatenate([rows.readings for rows in recording.batches()])
    assert rows.dtype == READING
    assert rows.tobytes() == stream.tobytes()  # NaN, too
    assert (tmp_path / "alerts").read_text().splitlines(keepends=True) == expected


def test_a_keeper_counts_a_cut_that_the_server_knows_and_no_other(tmp_path):
    for known in (True, False):
        folder = tmp_path / str(known)
        recorder = Recorder(folder, goes_on=True)
        thread = Task(recorder.run)
        recorder.ring.put_many(numbered(10))
        recorder.cut({"cut": "abc"})
        recorder.ring.shutdown()
        thread.result()
        again = Recorder(folder, goes_on=True)
        Keeper(F1TelemetrySystem(), {file_name(Path(folder)): "abc" if known else "earlier"}, again)
        assert again.pending is None
        assert (again.progress is not None) == known
