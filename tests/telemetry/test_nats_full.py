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
from nats_helpers import Publisher, Server, are_numbered, numbered

from f1buf.telemetry.nats.messages import Unpacker
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
        self.reached = behind  # what STREAM.INFO says
        self.last = 0  # the number of the last message
        self.is_full = False
        self.refused = 0
        self._answers = None
        self._behind = behind  # what the next message has to expect

    def new_inbox(self):
        return "_INBOX.x"

    async def subscribe(self, _, cb):
        self._answers = cb

    async def publish(self, subject, data, reply, headers):
        said = self._store(data, headers)
        answer = SimpleNamespace(subject=reply, headers=None, data=json.dumps(said).encode())
        asyncio.get_running_loop().create_task(self._answers(answer))

    async def request(self, subject, data=b"", timeout=None, headers=None):
        if subject.startswith("STREAM.INFO."):
            return {"state": {"last_seq": self.reached, "messages": len(self.messages)}}
        return SimpleNamespace(data=json.dumps(self._store(data, headers)).encode())

    async def message_at(self, number):
        return self.messages[number][0] if number in self.messages else None

    async def last_message(self):
        return (self.last, self.messages[self.last][0]) if self.last else (0, {})

    def _store(self, data, headers):
        expected = int(headers.get("Nats-Expected-Last-Sequence", self._behind))
        before = headers.get("Nats-Expected-Last-Msg-Id")
        if expected != self._behind:
            return {"error": {"err_code": 10071, "description": f"wrong last sequence: {self._behind}"}}
        if before is not None and before != self.messages.get(self.last, ({},))[0].get("Nats-Msg-Id"):
            return {"error": {"err_code": 10070, "description": "wrong last msg ID"}}
        self.reached += 1
        if self.is_full:
            self.refused += 1
            return {"error": {"err_code": 10077, "description": "no space left on device"}}
        self.last = self._behind = self.reached
        self.messages[self.last] = headers, data
        return {"seq": self.last}


@pytest.fixture
def publisher(tmp_path):
    with Server(tmp_path) as server:
        yield Publisher(f"{server.url}/race", batch=10)


@pytest.mark.parametrize("base", [None, 100], ids=["", "spool"])
@pytest.mark.parametrize("rises", [False, True], ids=["2.12", "2.10"])
def test_numbers_that_a_full_server_leaves_out_are_no_messages(publisher, base, rises):
    publisher._base = base  # where the stream ended, if a publisher with a spool has looked
    stream = FullStream(publisher._address, 100)
    if rises:
        rise_with_each_attempt(stream)
    task = Task(lambda: asyncio.run(publisher._send_all(stream)))
    for start in (0, 1000):
        stream.is_full, stream.refused = True, 0
        publisher.ring.put_many(numbered(1000, start))
        wait_until(lambda: stream.refused >= 3 or not task.is_alive(), "three tries")
        assert task.is_alive() or task.result()
        assert publisher.published == start
        stream.is_full = False
        wait_until(lambda end=start + 1000: publisher.published == end, "the rest to be stored")
    publisher.ring.shutdown()
    task.result()
    unpacker, stored = Unpacker(), [stream.messages[number] for number in sorted(stream.messages)]
    assert are_numbered(np.concatenate([unpacker.unpack(data).readings for _, data in stored]), 2000)
    assert stream.last - 100 > len(stored) == publisher.messages


def rise_with_each_attempt(stream):
    """As up to 2.11: the number that a refusal tells rises, too, and stays one behind."""
    store = stream._store

    def store_and_rise(data, headers):
        before = stream.refused
        said = store(data, headers)
        if stream.refused > before > 0:
            stream._behind = stream.reached - 1
        return said

    stream._store = store_and_rise


def test_numbers_that_were_left_out_are_no_forgotten_messages():
    link = SimpleNamespace(address=SimpleNamespace(stream="race"), client=SimpleNamespace(max_payload=1))
    earlier = Place(3, "a", "3")
    for later, forgotten in ((Place(9, "a", "4"), 0), (Place(9, "a", "6"), 2), (Place(9, "b", "4"), 5)):
        reader = Reader(link, {0: earlier}, is_whole=True)
        reader._note_forgotten(later.sequence, _between(earlier, later))
        assert (reader.forgotten, reader.position) == (forgotten, 8)
