"""Numbers that a server leaves out: a disk that is full as it begins a new file of a stream.

What servers do is told in `findings/nats_server_number_never_stored.sh`. One of version 2.12, whose numbers rise with
each attempt, and which goes on once there is room, is simulated here; the installed one is in `test_nats_killed.py`.
"""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import watchdog
from helpers import LONG_WATCHDOG, Task, wait_until
from nats_helpers import Publisher, Server, StreamError, are_numbered, numbered

from f1buf.telemetry.nats.link import Link, RefusedError
from f1buf.telemetry.nats.messages import Unpacker
from f1buf.telemetry.nats.publisher import _End, _end_of_stream, _Outbox
from f1buf.telemetry.nats.reader import Place, Reader, _between


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(LONG_WATCHDOG):
        yield


class FullStream:
    """A stream in place of a `Link` and of nats-py's client: it stores nothing while it is full, but gives numbers."""

    def __init__(self, address, behind):
        self.address, self.client, self.max_payload = address, self, 1 << 20
        self.generation, self.trouble, self.answer_s, self.on_change = 0, "", 1.0, None
        self.messages = {}  # by number
        self.stored = []  # all that were ever stored
        self.reached = behind  # what STREAM.INFO says
        self.last = 0  # the number of the last message
        self.is_full, self.says_so = False, True
        self.refused = self.under_way = self.most_under_way = 0
        self.config = {}
        self._answers = None
        self._behind = behind  # what the next message has to expect
        self._id = ""  # of the message that was stored last

    def start_again(self):
        """As after SIGTERM: the numbers that were left out stay, and what was stored last is not known any more."""
        self._behind, self._id = self.reached, ""

    def forget(self):
        """As a purge does, up to 2.12: the numbers that were left out count as reached then."""
        self._behind, self.last = self.reached, 0
        self.messages.clear()

    def new_inbox(self):
        return "_INBOX.x"

    async def subscribe(self, _, cb):
        self._answers = cb

    async def publish(self, subject, data, reply, headers):
        said = self._store(data, headers)
        answer = SimpleNamespace(subject=reply, headers=None, data=json.dumps(said).encode())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        asyncio.get_running_loop().create_task(self._answer(answer))

    async def _answer(self, answer):
        self.under_way -= 1
        await self._answers(answer)

    async def request(self, subject, data=b"", timeout=None, headers=None):
        if subject.startswith("STREAM.INFO."):
            return {"state": {"last_seq": self.reached, "messages": len(self.messages)}, "config": self.config}
        return SimpleNamespace(data=json.dumps(self._store(data, headers)).encode())

    async def message_at(self, number):
        found = self.messages.get(number)
        return found and found[0]

    async def last_message(self):
        found = self.messages.get(number := self.last)
        return (number, found[0]) if found else (0, {})

    def _store(self, data, headers):
        expected = int(headers.get("Nats-Expected-Last-Sequence", self._behind))
        before = headers.get("Nats-Expected-Last-Msg-Id")
        assert before is None or "num_replicas" not in self.config
        if expected != self._behind:
            return {"error": {"err_code": 10071, "description": f"wrong last sequence: {self._behind}"}}
        if before not in (None, self._id):
            return {"error": {"err_code": 10070, "description": f"wrong last msg ID: {self._id}"}}
        self.reached += 1
        if self.is_full:
            self.refused += 1
            if not self.says_so:
                raise TimeoutError
            return {"error": {"err_code": 10077, "description": "no space left on device"}}
        self.last = self._behind = self.reached
        self._id = headers["Nats-Msg-Id"]
        self.messages[self.last] = headers, data
        self.stored.append(data)
        return {"seq": self.last}


@pytest.fixture
def publisher(tmp_path):
    with Server(tmp_path) as server:
        yield Publisher(f"{server.url}/race", batch=10)


def nothing(_):
    """The stream is what it was."""


@pytest.mark.parametrize("base", [None, 100], ids=["", "spool"])
@pytest.mark.parametrize("rises", [None, 1, 0], ids=["2.12", "2.10", "2.10, not behind"])
@pytest.mark.parametrize("meanwhile", [nothing, FullStream.start_again, FullStream.forget], ids=["", "again", "purged"])
def test_numbers_that_a_full_server_leaves_out_are_no_messages(publisher, base, rises, meanwhile):
    publisher._base = base  # where the stream ended, if a publisher with a spool has looked
    stream = FullStream(publisher._address, 100)
    if rises is not None:
        rise_with_each_attempt(stream, rises)
    task = Task(lambda: asyncio.run(publisher._send_all(stream)))
    for start in (0, 1000):
        stream.is_full, stream.refused = True, 0
        publisher.ring.put_many(numbered(1000, start))
        wait_until(lambda: stream.refused >= 3 or not task.is_alive(), "three tries")
        assert task.is_alive() or task.result()
        assert publisher.published == start
        meanwhile(stream)
        stream.is_full = False
        wait_until(lambda end=start + 1000: publisher.published == end, "the rest to be stored")
    publisher.ring.shutdown()
    task.result()
    assert stream.most_under_way > 1
    unpacker = Unpacker()
    assert are_numbered(np.concatenate([unpacker.unpack(data).readings for data in stream.stored]), 2000)
    assert stream.last - 100 > len(stream.stored) == publisher.messages


def rise_with_each_attempt(stream, behind):
    """As up to 2.11: the number that a refusal tells rises, too, and stays one behind, mostly."""
    store = stream._store

    def store_and_rise(data, headers):
        before = stream.refused
        said = store(data, headers)
        if stream.refused > before > 0:
            stream._behind = stream.reached - behind
        return said

    stream._store = store_and_rise


def test_numbers_that_were_left_out_are_no_forgotten_messages():
    link = SimpleNamespace(address=SimpleNamespace(stream="race"), client=SimpleNamespace(max_payload=1))
    earlier = Place(3, "a", "3")
    for later, forgotten in ((Place(9, "a", "4"), 0), (Place(9, "a", "6"), 2), (Place(9, "b", "4"), 5)):
        reader = Reader(link, {0: earlier}, is_whole=True)
        reader._note_forgotten(later.sequence, _between(earlier, later))
        assert (reader.forgotten, reader.position) == (forgotten, 8)


def test_one_message_at_a_time_is_under_way_to_several_servers(publisher):
    """It expects a number alone, also where the stream is full."""
    stream = FullStream(publisher._address, 100)
    stream.config = {"num_replicas": 3}
    task = Task(lambda: asyncio.run(publisher._send_all(stream)))
    publisher.ring.put_many(numbered(1000))
    wait_until(lambda: publisher.published == 1000 or not task.is_alive(), "the first readings to be stored")
    stream.is_full = True
    publisher.ring.put_many(numbered(1000, 1000))
    wait_until(lambda: stream.refused >= 3 or not task.is_alive(), "three tries")
    stream.is_full = False
    publisher.ring.shutdown()
    task.result()
    assert (publisher.published, publisher.messages) == (2000, len(stream.stored))
    assert stream.most_under_way == 1


# What a stream's end tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "stored"),
    [
        (_End(107, 107, {"F1buf-Publisher": "me", "F1buf-Number": "6"}), 7),
        (_End(109, 107, {"F1buf-Publisher": "me", "F1buf-Number": "6"}, ""), 7),
        (_End(109, 104, {"F1buf-Publisher": "me", "F1buf-Number": "3"}, ""), 5),  # those that were answered
        (_End(109, 0, {}, ""), 5),
        (_End(109, 0, {}, "me-7"), 8),  # all were removed
        (_End(106, 0, {}, "me-99"), 20),  # no more than were sent
        (_End(107, 107, {"F1buf-Publisher": "you", "F1buf-Number": "6"}), "another publisher has taken"),
        (_End(107, 0, {}, "you-7"), "another publisher has taken"),
        (_End(103, 103, {"F1buf-Publisher": "me", "F1buf-Number": "2"}), "ends at message 103, and 105 had been"),
        (_End(103, 0, {}, ""), "ends at message 103, and 105 had been"),
        (_End(100, 100, {}), "ends at message 100, and 105 had been"),
    ],
)
def test_what_the_end_of_a_stream_tells(end, stored):
    """Of 20 messages behind number 100, of which 5 were answered."""
    outbox = _Outbox.__new__(_Outbox)
    outbox._who, outbox._address, outbox._base, outbox._first, outbox._put = "me", "race", 100, 5, 20
    if isinstance(stored, int):
        assert outbox._stored_by(end, outbox._own_by(end)) == stored
    else:
        with pytest.raises(StreamError, match=stored):
            outbox._stored_by(end, outbox._own_by(end))


def test_the_id_of_a_message_that_was_refused_tells_nothing():
    """A server up to 2.11 whose account is full lets number and id rise. Those of a cluster are not asked."""
    stream = FullStream(SimpleNamespace(stream="race"), 100)
    stream._behind, stream._id = 103, "me-2"
    info = {"state": {"last_seq": 100, "messages": 0}, "config": {}}
    assert asyncio.run(_end_of_stream(stream, info)) == _End(103, 0, {}, "")
    info["state"]["last_seq"] = 104
    assert asyncio.run(_end_of_stream(stream, info)) == _End(103, 0, {}, "me-2")
    info["config"]["num_replicas"] = 3
    assert asyncio.run(_end_of_stream(stream, info)) == _End(103, 0, {}, "")


def test_a_stream_that_says_it_is_empty_is_not_believed():
    """One of version 2.10 whose disk is full: `findings/nats_server_full_disk.sh`."""
    stream = FullStream(SimpleNamespace(stream="race"), 0)
    with pytest.raises(RefusedError, match="says that it has reached none: start the server again"):
        asyncio.run(_end_of_stream(stream, {"state": {"last_seq": 0, "messages": 83}}))


@pytest.mark.parametrize("says_so", [True, False], ids=["2.10", "2.15"])
def test_a_full_server_does_not_hold_up_who_begins_with_a_spool(publisher, says_so):
    stream = FullStream(publisher._address, 100)
    if says_so:
        rise_with_each_attempt(stream, 1)
    stream.is_full, stream.says_so, stream.refused, stream.reached = True, says_so, 1, 101
    spool = SimpleNamespace(begin=lambda *_: None, found=1)
    asyncio.run(publisher._begin_spool(stream, spool))
    assert (publisher._base, publisher._has_begun) == (100, False)


@pytest.mark.parametrize(("there", "last", "number"), [(True, 0, 9), (False, 7, 7), (False, 0, 0)])
def test_the_number_of_the_last_message(there, last, number):
    """That of STREAM.INFO, 9, if such a message is there. (Up to 2.11 the last one may not be found otherwise.)"""

    async def message_at(_):
        return {} if there else None

    async def last_message():
        return last, {}

    link = SimpleNamespace(message_at=message_at, last_message=last_message)
    assert asyncio.run(Link.last_number(link, {"state": {"last_seq": 9}})) == number
