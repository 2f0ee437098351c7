"""The bare nats-py programs that streams.py compares f1buf with, each in its best form.

They know nothing of servers that die: they keep no position, send nothing again, and fail where something is odd. What
they publish a Subscriber does not read, as its headers are missing. Each packs a batch as one Arrow IPC stream with the
schema and metadata that f1buf's message has, and unpacks it into an array of READING.

    publish_async    nats-py's own: 128 under way, then wait for all
    expects numbers  each message says the stream's number that it expects; 64 under way, answered through one inbox
    bytes ready      the same, of messages that were packed before
    fetch            nats-py's own pull subscription, 64 messages at a time, without acknowledgements
    asks ahead       requests of 64 messages, the next one once half of them have come
    bytes only       the same, which unpacks nothing
"""

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import nats
import numpy as np
import pyarrow as pa
from common import require
from nats.js.api import ConsumerConfig

from f1buf import READING
from f1buf.telemetry.channels import known_channels
from f1buf.telemetry.nats.messages import SCHEMA, Packer

BYTES_READY, BYTES_ONLY = "bytes ready", "bytes only"
IN_FLIGHT = 64
PATIENCE_S = 600.0
EXPIRES_NS = 600_000_000_000
Part = Callable[[], contextlib.AbstractContextManager[None]]


# -- messages --------------------------------------------------------------------------------------------------------


def packer() -> Callable[[Any], bytes]:
    """Packs what f1buf packs: the same bytes."""
    each = np.zeros(
        len(known_channels()), READING
    )  # a reading of each channel: the dictionary is in their numbers' order
    each["channel"] = np.arange(1, len(each) + 1)
    with pa.ipc.open_stream(Packer().pack(each)) as stream:
        schema, names = stream.schema, stream.read_next_batch().column("channel").dictionary

    def pack(readings: Any) -> bytes:
        columns = [
            pa.array(np.ascontiguousarray(readings["timestamp"])),
            pa.array(np.ascontiguousarray(readings["sensor_id"])),
            pa.DictionaryArray.from_arrays(pa.array(np.ascontiguousarray(readings["channel"])), names),
            pa.array(np.ascontiguousarray(readings["value"])),
            pa.array(np.ascontiguousarray(readings["flags"])),
        ]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return bytes(sink.getvalue())

    return pack


def unpack(message: bytes) -> Any:
    with pa.ipc.open_stream(message) as stream:
        batch = stream.read_next_batch()
    readings = np.empty(len(batch), READING)
    for number, name in enumerate(SCHEMA.names):
        column = batch.column(number)
        readings[name] = column.indices.to_numpy() if name == "channel" else column.to_numpy()
    return readings


# -- publishing ------------------------------------------------------------------------------------------------------


async def publish_async(client: Any, stream: str, packed: Iterator[bytes]) -> None:
    js, subject = client.jetstream(timeout=PATIENCE_S), f"{stream}.0"
    under_way = []
    for data in packed:
        under_way.append(await js.publish_async(subject, data, wait_stall=PATIENCE_S))
        if len(under_way) == 2 * IN_FLIGHT:
            await asyncio.gather(*under_way)
            under_way.clear()
    await asyncio.gather(*under_way)


async def expects_numbers(client: Any, stream: str, packed: Iterator[bytes]) -> None:
    subject, stored, moved = f"{stream}.0", 0, asyncio.Event()

    async def answered(answer: Any) -> None:
        nonlocal stored
        said = json.loads(answer.data)
        require("error" not in said, stream, str(said))
        stored = said["seq"]
        moved.set()

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=answered)
    sent = 0
    for data in packed:
        await client.publish(subject, data, reply=inbox, headers={"Nats-Expected-Last-Sequence": str(sent)})
        sent += 1
        while sent - stored >= IN_FLIGHT:
            moved.clear()
            await moved.wait()
    while stored < sent:
        moved.clear()
        await moved.wait()


class PublishingProgram(NamedTuple):
    publish: Callable[[Any, str, Iterator[bytes]], Any]
    packs: bool = True

    def prepared(self, blocks: Sequence[Any]) -> Sequence[Any]:
        return blocks if self.packs else list(map(packer(), blocks))

    def run(self, url: str, stream: str, what: Sequence[Any], messages: int, part: Part) -> None:
        async def main() -> None:
            client = await nats.connect(url, pending_size=64 << 20)
            each = itertools.islice(itertools.cycle(what), messages)
            with part():
                await self.publish(client, stream, map(packer(), each) if self.packs else each)
            await client.close()

        asyncio.run(main())


PUBLISHERS = {
    "publish_async": PublishingProgram(publish_async),
    "expects numbers": PublishingProgram(expects_numbers),
    BYTES_READY: PublishingProgram(expects_numbers, packs=False),
}


# -- subscribing -----------------------------------------------------------------------------------------------------


async def fetch(client: Any, stream: str, messages: int, take: Callable[[bytes], None]) -> int:
    js, config = client.jetstream(timeout=PATIENCE_S), ConsumerConfig(ack_policy="none")
    subscription = await js.pull_subscribe(f"{stream}.*", stream=stream, config=config)
    count = 0
    while count < messages:
        for message in await subscription.fetch(min(IN_FLIGHT, messages - count), timeout=PATIENCE_S):
            take(message.data)
            count += 1
    await subscription.unsubscribe()
    return count


async def asks_ahead(client: Any, stream: str, messages: int, take: Callable[[bytes], None]) -> int:
    came: deque[Any] = deque()
    there = asyncio.Event()

    async def arrived(message: Any) -> None:
        came.append(message)
        there.set()

    inbox, name = client.new_inbox(), os.urandom(8).hex()
    await client.subscribe(inbox, cb=arrived, pending_msgs_limit=0, pending_bytes_limit=0)
    config = {"name": name, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True,
              "inactive_threshold": 60_000_000_000}  # fmt: skip
    body = {"stream_name": stream, "config": config, "action": "create"}
    await answer_of(client, f"CONSUMER.CREATE.{stream}.{name}", body)
    asked = count = 0
    while count < messages:
        if asked <= IN_FLIGHT // 2:
            request = json.dumps({"batch": IN_FLIGHT - asked, "expires": EXPIRES_NS}).encode()
            await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", request, inbox)
            asked = IN_FLIGHT
        while not came:
            there.clear()
            await there.wait()
        message = came.popleft()
        if not count and (message.headers or {}).get("Status") == "503":
            asked = 0  # one of a cluster answers before all of its servers know of the consumer
            continue
        require(message.reply.startswith("$JS.ACK."), stream, f"{message.headers}")
        take(message.data)
        count, asked = count + 1, asked - 1
    return count


class SubscribingProgram(NamedTuple):
    subscribe: Callable[[Any, str, int, Callable[[bytes], None]], Any]
    unpacks: bool = True

    def run(self, url: str, stream: str, check: Callable[[Any], None], messages: int, part: Part) -> int:
        """Take so many messages that have readings, and one that has none before; return how many have."""

        async def main() -> int:
            client = await nats.connect(url)
            take = (lambda data: check(unpack(data))) if self.unpacks else check
            with part():
                count: int = await self.subscribe(client, stream, messages + 1, take)
            await client.close()
            return count - 1

        return asyncio.run(main())


SUBSCRIBERS = {
    "fetch": SubscribingProgram(fetch),
    "asks ahead": SubscribingProgram(asks_ahead),
    BYTES_ONLY: SubscribingProgram(asks_ahead, unpacks=False),
}


# -- around them -----------------------------------------------------------------------------------------------------


async def answer_of(client: Any, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask JetStream something; again, where a cluster has no leader just now: it says so by 503, or nothing at all."""
    said, give_up, error = json.dumps(body).encode() if body else b"", time.monotonic() + PATIENCE_S, {"code": 0}
    while True:
        before = error["code"]
        try:
            answer = dict(json.loads((await client.request(f"$JS.API.{subject}", said, timeout=10)).data))
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError) as none:
            answer = {"error": {"code": 503, "description": repr(none)}}
        error = answer.get("error", {"code": 0})
        if error["code"] != 503 or time.monotonic() > give_up:
            break
        await asyncio.sleep(0.1)  # who leads by now, nobody tells
    gone = error["code"] == 404 and before == 503 and subject.startswith("STREAM.DELETE.")  # by what was not answered
    require(error["code"] == 0 or gone, subject, str(error))
    return answer


def ask(url: str, subject: str, **body: Any) -> dict[str, Any]:
    """The same, by a connection of its own."""

    async def main() -> dict[str, Any]:
        client = await nats.connect(url)
        answer = await answer_of(client, subject, body)
        await client.close()
        return answer

    return asyncio.run(main())


def read_back(url: str, stream: str, check: Callable[[Any], None]) -> None:
    """Read all messages of a stream."""
    messages = ask(url, f"STREAM.INFO.{stream}")["state"]["messages"]
    SUBSCRIBERS["asks ahead"].run(url, stream, check, messages - 1, contextlib.nullcontext)
