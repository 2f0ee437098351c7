"""Readings over a NATS server: each arrives once and in its order; where one begins, what limits do, who is refused."""

import asyncio
import contextlib
import datetime
import itertools
import json
import re
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import Given, free_port, mixed_stream, pieces, readings, watchdog
from helpers import WATCHDOG, Task, thorough, wait_until
from nats_helpers import (
    ANSWERS,
    BEFORE,
    PATIENCE,
    Publisher,
    Server,
    StreamError,
    Subscriber,
    Taker,
    are_numbered,
    asked,
    make_stream,
    nats,
    numbered,
    pa,
    publish,
    published,
    publishing,
    state,
    taken,
    unhurried,
)

from f1buf import RingBuffer
from f1buf.telemetry import SPEED, Channel, F1TelemetrySystem, Threshold
from f1buf.telemetry.nats import link as link_module
from f1buf.telemetry.nats import publisher as publisher_module
from f1buf.telemetry.nats.link import StreamAddress, connected
from f1buf.telemetry.nats.reader import Reader

_numbers = itertools.count()
LIMITS = (Threshold("SPEED", above=10, message="fäst"),)


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
        yield f"{shared.url}/stream-{next(_numbers)}"


@pytest.fixture
def server(tmp_path):
    """A server of the test's own."""
    with Server(tmp_path) as server:
        yield server


# Readings -------------------------------------------------------------------------------------------------------------


def test_readings_come_out_as_they_were_put(url):
    stream = mixed_stream(50_000)
    publisher = published(url, *pieces(stream, 700))
    source = Subscriber(url)
    assert taken(source).tobytes() == stream.tobytes()
    assert (source.missed, source.rejected) == (0, {})
    assert (publisher.published, publisher.lost, publisher.resent, publisher.trouble) == (50_000, 0, 0, "")
    assert source.position == publisher.messages
    said = publisher.as_dict()
    assert said.keys() == {
        *("stream", "readings", "messages", "bytes", "resent"),
        *("dropped", "put_waits", "put_wait_seconds", "notes"),
    }
    assert (said["stream"], said["readings"], said["dropped"]) == (url, 50_000, 0)
    assert str(publisher).startswith(f"50,000 readings in {publisher.messages:,} messages, ")


def test_a_system_analyses_what_another_one_publishes(url):
    limits = [Threshold("SPEED", above=10, message="fast")]
    alerts = [], []
    first = F1TelemetrySystem(thresholds=limits, on_alert=alerts[0].append)
    second = F1TelemetrySystem(thresholds=limits, on_alert=alerts[1].append)
    with first, second:
        publisher = Publisher(url)
        first.start([Given(*pieces(readings(np.arange(5000.0) % 20, sensors=3), 256))], consumers=[publisher])
        second.start([Subscriber(url, timeout=WATCHDOG)])
        assert first.wait(WATCHDOG)
        first.shutdown()
        assert second.wait(WATCHDOG)
        assert second.shutdown().analysed == 5000
    assert alerts[0] == alerts[1]
    assert alerts[0]


class Kept:
    """A consumer that keeps all readings."""

    name = "kept"

    def __init__(self):
        self.ring = RingBuffer(1000)

    def run(self):
        self.readings = np.concatenate(list(self.ring.batches()))


@pytest.mark.parametrize("shards", [1, 4])
def test_a_seeded_run(url, shards):
    """With one shard the very same stream; with several the very same of each sensor."""
    kept = Kept()
    system = F1TelemetrySystem()
    with system:
        system.start_telemetry(2, rate=None, count=2000, seed=1, consumers=[kept, Publisher(url, shards=shards)])
        assert system.wait(WATCHDOG)
    stream = taken(Subscriber(url))
    assert len(stream) == 20_000
    if shards == 1:
        assert stream.tobytes() == kept.readings.tobytes()
    for sensor in range(10):
        mine = [each[each["sensor_id"] == sensor] for each in (stream, kept.readings)]
        assert mine[0].tobytes() == mine[1].tobytes()


def test_the_shards_are_the_streams_own(url):
    published(url, numbered(100), shards=3)
    published(url, numbered(100, 100), shards=5)
    subjects = asked(url, lambda _, stream: stream.stream_info(url.rpartition("/")[2], subjects_filter=">"))
    assert len(subjects.state.subjects) == 3
    assert len(taken(Subscriber(url, follow=False))) == 200


def test_a_reading_arrives_though_no_other_comes(url):
    with publishing(url) as publisher:
        taker = Taker(Subscriber(url, timeout=WATCHDOG))
        for count in (1, 2, 3):
            publisher.ring.put_many(numbered(1, count - 1))
            taker.wait_for(count)
    assert are_numbered(taker.result(), 3)
    assert publisher.messages == 5  # the empty one first, the one that says it is the last


def test_who_is_asked_first_knows_already(url):
    publisher = Publisher(url, source="five sensors", thresholds=LIMITS)
    thread = Task(publisher.run)
    source = Subscriber(url, timeout=WATCHDOG)  # before there are readings
    assert (source.source, source.thresholds) == ("five sensors", LIMITS)
    assert source.name == f"subscribed to {url}"
    publisher.ring.shutdown()
    thread.result()
    assert len(taken(source)) == 0


def test_what_is_known_of_a_sensor_is_there_with_its_readings(url):
    def describe(sensor_id, flags):
        return {"car": sensor_id, "driver": "BÖB", "lap": flags, "session": 2**63 + flags}

    with publishing(url, describe) as publisher:
        source = Subscriber(url, timeout=WATCHDOG)
        batches = source.batches()
        for flags in (0, 1, 0):
            batch = numbered(3)
            batch["sensor_id"], batch["flags"] = 5, flags
            publisher.ring.put_many(batch)
            assert next(batches)["flags"].tolist() == [flags] * 3
            told = {"car": 5, "driver": "BÖB", "lap": flags, "session": 2**63 + flags}
            assert source.describe(5, flags).items() >= told.items()
        assert source.describe(6, 0) == {}
        assert source.sessions == (2**63, 2**63 + 1)
        batches.close()


def test_a_channel_that_is_new(url):
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(1))
        publisher.ring.put_many(readings([7.0], Channel(f"NEW {url}", "N m")))
    source = Subscriber(url)
    assert taken(source)["channel"].tolist() == [SPEED.number, Channel(f"NEW {url}", "N m").number]


def test_a_plain_program_reads_it(url):
    """One that knows nothing of f1buf: nats-py and pyarrow."""
    published(url, numbered(10_000), batch=1000)

    async def read(client, stream):
        tables = []
        subscription = await stream.subscribe(f"{url.rpartition('/')[2]}.*", ordered_consumer=True)
        while sum(map(len, tables)) < 10_000:
            message = await subscription.next_msg(timeout=WATCHDOG)
            tables.append(pa.ipc.open_stream(message.data).read_all())
        await subscription.unsubscribe()
        return tables

    tables = asked(url, read)
    assert [value for table in tables for value in table["value"].to_pylist()] == list(range(10_000))
    assert set(tables[1]["channel"].to_pylist()) == {"SPEED"}
    channels = json.loads(tables[1].schema.metadata[b"f1buf"])["channels"]
    assert {each["name"]: each["unit"] for each in channels}["SPEED"] == "km/h"


def test_sources_that_drop_are_counted(url):
    publisher = Publisher(url, capacity=100, overflow="drop_oldest")
    publisher.ring.put_many(numbered(1000))
    publish(publisher).result()
    assert (publisher.published, publisher.lost) == (100, 900)
    assert publisher.as_dict()["dropped"] == 900
    assert taken(Subscriber(url))["value"].tolist() == list(range(900, 1000))


@pytest.mark.parametrize("option", [{"batch": 0}, {"batch": 2**21}, {"shards": 0}, {"shards": 257}, {"replicas": 0}])
def test_options_that_make_no_sense(option):
    [(name, value)] = option.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; expected 1 to "):
        Publisher("nats://127.0.0.1:1/x", **option)


def test_in_a_coroutine(url):
    """Both may be made where an event loop runs, as in a notebook."""

    async def both():
        publisher = Publisher(url)
        await asyncio.to_thread(lambda: publish(publisher, numbered(10)).result())
        return Subscriber(url)

    assert are_numbered(taken(asyncio.run(both())), 10)


# The size of messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kilobytes", [8, 16])
def test_a_message_larger_than_the_server_takes_is_split(tmp_path, kilobytes):
    with Server(tmp_path, f"max_payload: {kilobytes}KB\n") as server:
        url = f"{server.url}/race"
        publisher = published(url, numbered(3000), batch=1500)
        assert are_numbered(taken(Subscriber(url)), 3000)
        assert publisher.messages > 4
        assert publisher.bytes <= publisher.messages * kilobytes * 1024
        assert "payload" not in server.log


def test_one_reading_may_be_too_large(tmp_path):
    with Server(tmp_path, "max_payload: 1KB\n") as server:
        publisher = Publisher(f"{server.url}/race")
        publisher.ring.put_many(numbered(3))  # before it begins, for it fails at once
        with pytest.raises(StreamError) as error:
            publish(publisher).result()
    said = f"{server.url}/race: takes messages of 1 bytes, and one reading with what is known of its channel takes "
    assert str(error.value).startswith(said)
    assert str(error.value).endswith("(max_payload); 3 readings are not known to be stored")


# Where one begins -----------------------------------------------------------------------------------------------------


def test_from_the_number_of_a_message(url):
    publisher = published(url, numbered(1000), batch=100)
    for number in (1, 4, publisher.messages):
        source = Subscriber(url, start=number)
        assert taken(source)["value"].tolist() == list(range(max(0, number - 2) * 100, 1000))
        assert source.missed == 0


def test_from_a_time(url):
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(10))
        wait_until(lambda: publisher.published == 10)
        info = asked(url, lambda _, stream: stream.get_msg(url.rpartition("/")[2], seq=2, direct=False))
        moment = info.time if isinstance(info.time, datetime.datetime) else datetime.datetime.fromisoformat(info.time)
        wait_until(lambda: datetime.datetime.now(datetime.UTC) > moment + datetime.timedelta(milliseconds=1))
        between = datetime.datetime.now(datetime.UTC)
        wait_until(lambda: datetime.datetime.now(datetime.UTC) > between + datetime.timedelta(milliseconds=1))
        publisher.ring.put_many(numbered(10, 10))
    assert taken(Subscriber(url, start=between))["value"].tolist() == list(range(10, 20))
    past = datetime.datetime(2000, 1, 1)  # of this machine's zone
    assert are_numbered(taken(Subscriber(url, start=past)), 20)


def test_a_server_that_does_not_know_of_the_consumer_yet(url, monkeypatch):
    """In a cluster its creation may be answered before the server that is asked has heard of it: 503, no responders."""
    published(url, numbered(1000), batch=100)
    tried, ask = [], Reader._ask

    async def ask_too_early(reader):
        tried.append(reader._name)
        if len(tried) == 1:
            reader._name = "nobody"
        await ask(reader)

    monkeypatch.setattr(Reader, "_ask", ask_too_early)
    assert are_numbered(taken(Subscriber(url)), 1000)
    assert len(tried) >= 2


@pytest.mark.parametrize("behind", [1, 4])
def test_from_between_the_ends_of_shards(url, behind):
    """Of a shard that has ended before the beginning nothing is waited for."""
    publisher = published(url, numbered(1000), shards=5)
    source = Subscriber(url, start=publisher.messages + 1 - behind)
    assert list(source.batches()) == []
    assert source.ended


def test_a_connection_that_is_closed_on_purpose_is_no_loss(url):
    published(url, numbered(1))

    async def connect():
        async with connected(StreamAddress(url)) as link:
            pass
        return link

    link = asyncio.run(connect())
    assert (link.trouble, link.generation) == ("", 0)


@pytest.mark.parametrize("others", [0, 2])
def test_a_server_that_answers_late_is_waited_for(url, monkeypatch, others):
    """nats-py gives up after 2 s, which a busy machine or a satellite may take; but no server takes all the time."""
    published(url, numbered(1))
    connect, told = link_module._Client.connect, []

    def noted(self, **options):
        told.append((len(options["servers"]), options["connect_timeout"]))
        return connect(self, **options)

    monkeypatch.setattr(link_module._Client, "connect", noted)
    away = "".join(f"127.0.0.1:{free_port()}," for _ in range(others))
    assert len(taken(Subscriber(url.replace("//", f"//{away}")))) == 1
    count, first = told[0]
    assert count == 1 + others
    assert first > 3
    assert count * first < link_module._PATIENCE


def test_from_a_time_that_is_to_come(url):
    """The server would begin with whatever comes next."""
    for number, ahead in enumerate((6, 24, 96)):  # [s] more than clocks may differ by; on a busy machine longer
        stream = f"{url}-{number}"
        with publishing(stream) as publisher:
            publisher.ring.put_many(numbered(10))
            wait_until(lambda publisher=publisher: publisher.published == 10)
            moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead)
            task = Task(Subscriber, stream, start=moment, timeout=10 * ahead)
            publisher.ring.put_many(numbered(10, 10))
            wait_until(lambda publisher=publisher: publisher.published == 20)
            in_time = datetime.datetime.now(datetime.UTC) < moment
            source = task.result()
            assert datetime.datetime.now(datetime.UTC) >= moment
            publisher.ring.put_many(numbered(10, 20))
            wait_until(lambda publisher=publisher: publisher.published == 30)
        values = taken(source)["value"].tolist()
        if in_time:
            break
    assert in_time
    assert values == list(range(20, 30))


def test_from_a_time_that_is_too_far_away(url):
    published(url, numbered(10))
    before = datetime.datetime.now(datetime.UTC)
    moment = before + datetime.timedelta(hours=1)
    with pytest.raises(StreamError) as error:
        Subscriber(url, start=moment)
    took = (datetime.datetime.now(datetime.UTC) - before).total_seconds()
    begin, ahead, end = re.split(r" is ([0-9,]+) s in the future", str(error.value))
    assert begin == f"{url}: {moment.isoformat()}"
    assert 3600 - took - 1 <= int(ahead.replace(",", "")) <= 3600
    assert end == ", by the server's clock; expected a time that has come, or 'new'; or wait for it (--timeout)"


def test_from_now_on(url):
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(10))
        wait_until(lambda: publisher.published == 10)
        source = Subscriber(url, start="new")
        publisher.ring.put_many(numbered(10, 10))  # before it reads
        wait_until(lambda: publisher.published == 20)
    assert taken(source)["value"].tolist() == list(range(10, 20))
    assert source.missed == 0


@pytest.mark.parametrize("start", ["", "old", 0, -1, 1.5, None, datetime.date(2026, 1, 1)])
def test_a_beginning_that_makes_no_sense(start):
    with pytest.raises(
        ValueError, match=r"^start is .*; expected 'start', 'new', a message's number from 1, or a datet"
    ):
        Subscriber("nats://127.0.0.1:1/x", start=start)


def test_publishers_one_after_another(url):
    for first in (0, 10, 20):
        published(url, numbered(10, first))
    assert are_numbered(taken(Subscriber(url)), 30)  # what is there, to its end
    taker = Taker(Subscriber(url, follow=True))
    taker.wait_for(30)
    published(url, numbered(10, 30))
    taker.wait_for(40)
    assert are_numbered(taker.end(), 40)
    assert taker.subscriber.missed == 0


def test_the_end_of_the_publisher_ends_the_subscriber(url):
    publisher = Publisher(url, shards=2)
    thread = Task(publisher.run)
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    publisher.ring.put_many(numbered(10))
    taker.wait_for(10)
    publisher.ring.shutdown()
    thread.result()
    assert len(taker.result()) == 10


def test_a_subscriber_that_is_stopped(url):
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(10))
        source = Subscriber(url, timeout=WATCHDOG)
        taker = Taker(source)
        taker.wait_for(10)
        assert len(taker.end()) == 10


def test_batches_that_are_left(url):
    """The thread that receives ends with them, though it has more than it can hand over."""
    publisher = published(url, numbered(10_000), batch=10)
    source = Subscriber(url)
    batches = source.batches()
    for _ in range(5):
        next(batches)
    batches.close()
    wait_until(lambda: not threads_of(source), "the thread that receives to end")
    assert source.position == 5  # the empty one, and four of ten readings: of the fifth it is not known
    rest = taken(Subscriber(url, start=source.position + 1))
    assert rest["value"].tolist() == list(range(40, 10_000))
    assert publisher.messages >= 1002  # more where readings waited for 50 ms


@pytest.mark.parametrize("where", ["_make_consumer", "_ask"])
def test_a_cancellation_that_is_lost_is_heeded_all_the_same(url, monkeypatch, where):
    """As `asyncio.wait_for` loses one beside an answer, before Python 3.12."""
    reached, real = threading.Event(), getattr(Reader, where)

    async def loses_it(reader):
        reached.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(WATCHDOG)
        await real(reader)

    monkeypatch.setattr(Reader, where, loses_it)
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(10))
        wait_until(lambda: publisher.published == 10)
        source = Subscriber(url, start="new")  # nothing comes: what was read could not be handed over, and end it
        taker = Taker(source)
        assert reached.wait(WATCHDOG)
        assert len(taker.end()) == 0
        wait_until(lambda: not threads_of(source), "the thread that receives to end", patience=WATCHDOG / 4)


def threads_of(source):
    return [thread for thread in threading.enumerate() if thread.name.startswith(source.name)]


# Limits of a stream ---------------------------------------------------------------------------------------------------


def test_what_a_stream_has_dropped_is_missed(url):
    """`missed` counts what went between the first message that was read and the last."""
    name = url.rpartition("/")[2]
    make_stream(url, name, max_msgs=100, discard="old")
    with publishing(url, batch=10) as publisher:
        publisher.ring.put_many(numbered(500))
        wait_until(lambda: publisher.published == 500)
        source = Subscriber(url)
        batches = source.batches()
        first = next(batches)
        publisher.ring.put_many(numbered(10_000, 500))
        wait_until(lambda: publisher.published == 10_500)
    rest = np.concatenate(list(batches))
    assert source.missed == 10_500 - len(first) - len(rest)
    assert source.missed > 0
    assert rest["value"].tolist()[-1] == 10_499
    assert np.all(np.diff(rest["value"]) > 0)


def test_a_full_stream_is_waited_for(url):
    name = url.rpartition("/")[2]
    make_stream(url, name, max_msgs=10, discard="new")
    publisher = Publisher(url, batch=10, patience=WATCHDOG)
    thread = publish(publisher, numbered(300))
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    while thread.is_alive():
        wait_until(lambda: "maximum messages exceeded" in publisher.trouble or not thread.is_alive())
        if not thread.is_alive():
            break
        last = state(url, name).last_seq  # of a full stream: nothing comes before it is purged
        wait_until(lambda last=last: taker.subscriber.position == last)
        asked(url, lambda _, stream: stream.purge_stream(name))
        wait_until(lambda last=last: publisher.messages > last or not publisher.trouble)
    thread.result()
    assert are_numbered(taker.result(), 300)
    assert (publisher.messages, publisher.trouble) == (32, "")


def test_an_answer_that_is_lost_leaves_no_trouble(url, monkeypatch):
    """The stream itself tells then that all is stored."""
    lost, answered = [], publisher_module._Outbox._answered

    async def all_but_one_answered(outbox, answer):
        if answer.subject.endswith("-1") and not lost:  # of the message that has the readings
            lost.append(answer)
        else:
            await answered(outbox, answer)

    monkeypatch.setattr(publisher_module._Outbox, "_answered", all_but_one_answered)
    monkeypatch.setattr(publisher_module, "_ANSWERED", 0.1)
    with publishing(url) as publisher:
        publisher.ring.put_many(numbered(10))
        wait_until(lambda: publisher.published == 10)
        assert lost
        wait_until(lambda: not publisher.trouble, "an end of the trouble")


def test_a_stream_that_is_full_at_the_end(url):
    make_stream(url, url.rpartition("/")[2], max_msgs=10, discard="new")
    publisher = Publisher(url, batch=10, patience=0.2)
    with pytest.raises(StreamError, match="maximum messages exceeded; 210 readings are not known to be stored"):
        publish(publisher, numbered(300)).result()
    assert (publisher.published, publisher.lost) == (90, 210)
    assert "maximum messages exceeded" in publisher.trouble


def test_a_long_pause_before_the_end_is_no_reason_to_give_up(server, monkeypatch):
    """`patience` begins when nothing more will be put, not when something was stored last."""
    clock, later = time.monotonic, [0.0]
    monkeypatch.setattr(publisher_module, "time", SimpleNamespace(monotonic=lambda: clock() + later[0]))
    publisher = Publisher(f"{server.url}/race", patience=WATCHDOG)
    task = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    wait_until(lambda: publisher.published == 10, "ten readings to be stored")
    server.kill()
    later[0] = 10 * WATCHDOG
    publisher.ring.put_many(numbered(10, 10))
    publisher.ring.shutdown()
    wait_until(lambda: publisher.trouble, "the server to be missed")
    server.start()
    task.result()
    assert are_numbered(taken(Subscriber(f"{server.url}/race")), 20)


@thorough
def test_a_server_that_greets_late(server):
    """Later than nats-py would wait by itself."""
    url = f"{server.url}/race"
    published(url, numbered(10))
    server.pause()
    task = Task(Subscriber, url)
    task.join(2.5)
    server.process.send_signal(signal.SIGCONT)
    assert len(taken(task.result())) == 10


def test_a_server_that_is_away_at_the_end(server):
    publisher = Publisher(f"{server.url}/race", patience=0.2)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    wait_until(lambda: publisher.published == 10)
    server.kill()
    publisher.ring.put_many(numbered(5, 10))
    publisher.ring.shutdown()
    with pytest.raises(StreamError) as error:
        thread.result()
    assert str(error.value).startswith(f"{server.url}/race: ")
    assert str(error.value).endswith("; 5 readings are not known to be stored")
    assert publisher.trouble


def test_a_stream_that_is_removed(url):
    name = url.rpartition("/")[2]
    publisher = Publisher(url)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    taker.wait_for(10)
    asked(url, lambda _, stream: stream.delete_stream(name))
    with pytest.raises(StreamError, match=f"^{url}: the stream was removed"):
        taker.result()
    publisher.ring.put_many(numbered(5, 10))
    with pytest.raises(StreamError, match=f"^{url}: the stream was removed; 5 readings are not known to be stored$"):
        thread.result()
    publisher.ring.shutdown()


def test_others_messages_are_counted(url):
    """What another program puts into the stream, and what was damaged on the way."""
    name = url.rpartition("/")[2]
    published(url, numbered(10))

    async def put(client, stream):
        await stream.publish(f"{name}.0", b"hello")
        message = await stream.get_msg(name, seq=2)
        headers = {key: value for key, value in message.headers.items() if key.startswith("F1buf-")}
        await stream.publish(f"{name}.0", message.data[:-100] + b"?" + message.data[-99:], headers=headers)

    asked(url, put)
    published(url, numbered(10, 10))
    source = Subscriber(url)
    assert are_numbered(taken(source), 20)
    assert source.rejected == {
        "has no checksum; expected readings that f1buf published": 1,
        "is damaged: its checksum differs; expected readings that f1buf published": 1,
    }


def test_a_last_message_that_was_removed_is_stored_all_the_same(url, monkeypatch):
    """The publisher, whose answer was lost, does not send it once more."""
    answered, removed = publisher_module._Outbox._answered, []

    async def remove_second_message(outbox, answer):
        if removed or int(json.loads(answer.data)["seq"]) < 3:  # the first one takes the stream over
            await answered(outbox, answer)
            return
        removed.append(answer)
        await outbox._link.client.jetstream(timeout=WATCHDOG).delete_msg(outbox._address.stream, 3)
        outbox._unsure("the answer was lost")

    monkeypatch.setattr(publisher_module._Outbox, "_answered", remove_second_message)
    with publishing(url) as publisher:
        for start in (0, 10, 20):
            publisher.ring.put_many(numbered(10, start))
            wait_until(lambda end=start + 10: publisher.published == end)
    assert removed
    assert publisher.resent == 0
    assert taken(Subscriber(url))["value"].tolist() == [*range(10), *range(20, 30)]


# Several publishers ---------------------------------------------------------------------------------------------------


def test_a_publisher_takes_a_stream_over(url):
    first = Publisher(url)
    thread = Task(first.run)
    first.ring.put_many(numbered(10))
    wait_until(lambda: first.published == 10)
    published(url, numbered(10, 10))
    first.ring.put_many(numbered(5))
    said = "another publisher has taken the stream over; one at a time may publish"
    with pytest.raises(StreamError, match=f"^{url}: {said}; 5 readings are not known to be stored$"):
        thread.result()
    assert are_numbered(taken(Subscriber(url)), 20)


def test_a_message_that_comes_between_two_under_way_takes_the_place_of_none(url, monkeypatch):
    """The next one would expect just its number; it expects the message before itself, too."""
    client, between = nats.aio.client.Client, []
    send = client.publish

    async def publish(self, subject, payload=b"", reply="", headers=None):
        if (headers or {}).get("F1buf-Number") == "3" and not between:
            await self.flush(PATIENCE)  # those before it are stored, or refused
            other = await nats.connect(self.connected_url.geturl(), allow_reconnect=False, connect_timeout=PATIENCE)
            between.append(await other.jetstream(timeout=PATIENCE).publish(subject, b"another program's"))
            await other.close()
        await send(self, subject, payload, reply, headers)

    monkeypatch.setattr(client, "publish", publish)
    publisher = Publisher(url, batch=10)
    publisher.ring.put_many(numbered(100))  # in messages that are all sent at once
    with pytest.raises(StreamError, match="another publisher has taken the stream over"):
        Task(lambda: (publisher.ring.shutdown(), publisher.run())).result()
    assert [each.seq for each in between] == [4]
    assert state(url, url.rpartition("/")[2]).last_seq == 4
    assert publisher.published == 20


def test_a_publisher_takes_a_busy_stream_over(url):
    """One that goes on all the time: what each says is stored is stored, once, and the second's is all of it."""
    first, stop = Publisher(url, batch=10, delay=0.001), threading.Event()
    thread = Task(first.run)
    feeder = Task(put_until, first, stop)
    wait_until(lambda: first.published > 100)
    second = published(url, numbered(5000, 10**9), batch=10)
    with pytest.raises(StreamError, match="another publisher has taken the stream over"):
        thread.result()
    stop.set()
    first.ring.shutdown()
    feeder.result()
    values = taken(Subscriber(url))["value"]
    assert second.published == 5000
    assert values[values >= 10**9].tolist() == list(range(10**9, 10**9 + 5000))
    assert values[values < 10**9].tolist() == list(range(len(values) - 5000))
    assert first.published <= len(values) - 5000


def put_until(publisher, stop):
    """Put numbered readings, ten at once, a few hundred times a second; how many."""
    count = 0
    while not stop.wait(0.002) and not publisher.ring.is_shutdown:
        with contextlib.suppress(Exception):
            publisher.ring.put_many(numbered(10, count))
            count += 10
    return count
