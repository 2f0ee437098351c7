"""The publisher: puts every reading into a stream of a NATS server, once and in order, whatever dies meanwhile.

One publisher a stream. Each message says which number it expects the stream to have reached
(``Nats-Expected-Last-Sequence``), and which message to be there (``Nats-Expected-Last-Msg-Id``), so the server stores
it only behind the one before it. (The number alone would not do: a message of another publisher's would take the place
of one that is under way, and the next would be stored behind that.) Up to `IN_FLIGHT` messages are under way; of a
stream that several servers hold, one, without the latter (see `_is_replicated`). An answer with a number tells that
this message is stored, and so are all before it. Whatever else happens (a refusal, no answer in time, a connection that
is lost) leaves it open how many are stored; then the publisher asks for the stream's last number and message, forgets
what is stored, and sends the rest again. A message of before that comes late is refused, as its number is not expected
any more.

Where the disk becomes full as the server begins a new file of a stream, the number that the server says the stream has
reached is of no message (`findings/nats_server_number_never_stored.sh`); up to version 2.12 it rises with each attempt.
So a last number without a message is no sign that anything was stored; it may as well have been removed. Two messages
that the server must refuse tell more: of one that expects a number that no stream reaches, it says behind which number
it goes on; and of one that expects another message before it, which one it has stored last, also if that was removed.
A server that has been started anew since does not know the latter, and those of a cluster are not asked. Then what the
headers of the last message that is there say counts as stored, and what was answered. (Messages that were removed
before their answer came are sent again in that case: better twice than never.)

The first message has no readings and expects nothing: it takes the stream over, and its answer tells behind which
number the others are to come. A publisher that goes on with the spool of an earlier one takes the stream over before
anything else: its first message expects the end at which it has looked how much of the spool is stored. The earlier one
may have been killed, and messages of its own may still come out of its connection: then the first message is refused,
and the later publisher looks anew.

A message's headers name its publisher and its number, so that a publisher sees whether the last one is its own. If
another one has published, it took the stream over: the older one fails.

The order of one sensor's readings is kept: all of them are in one shard, a subject of the stream. How many shards there
are is the stream's, from its first publisher on.

With a spool (`f1buf.telemetry.nats.spool`) the ring never stays full: while no message has room, and the ring is more
than half full, its readings go to the disk. As long as the spool holds any, messages are made of those at its front.
"""

import asyncio
import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import nats.errors
import numpy as np
from numpy.typing import NDArray

from f1buf import Empty, RingBuffer, ShutDown
from f1buf.ring.reading import READING
from f1buf.telemetry.consumers import losses_and_waits, losses_and_waits_text
from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import (
    FORMAT,
    OVERHEAD,
    Link,
    RefusedError,
    StreamAddress,
    check_stream,
    connected,
    connected_in_time,
    explained,
    prepared,
    went_back,
)
from f1buf.telemetry.nats.messages import CHECKSUM, Packer, Unpacker, checksum
from f1buf.telemetry.nats.spool import REACHED, Place, Spool
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["Publisher", "StreamError"]

Array = NDArray[Any]

IN_FLIGHT = 64  # messages: with 16 nats-py is a seventh slower in small batches, with 256 not faster
_IN_FLIGHT_BYTES = 16 << 20
_TAKEN = 4096  # readings at a time, at least: a take costs as much as the half of a small message
_ANSWERED = 5.0  # [s] in which a message that was sent is answered; a cluster that has lost its leader takes 6
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # [s] between questions to a server that does not answer, or refuses
_LOOK_AT_RING = 0.02  # [s] between looks whether the ring fills, while no message has room
_DUPLICATES = 1_000_000_000  # [ns] how long the server remembers messages; for nothing, but it remembers at least some
_EXPECTED_LAST = "Nats-Expected-Last-Sequence"
_EXPECTED_ID = "Nats-Expected-Last-Msg-Id"
_NEVER = 1 << 62  # a number that no stream reaches
_WRONG_LAST = 10071  # JetStream's code of "wrong last sequence"
PUBLISHER, NUMBER, FIRST, LAST = "F1buf-Publisher", "F1buf-Number", "F1buf-First", "F1buf-Last"
"""Headers: who published the message; its number among those of this publisher, from 0; how many readings of this
publisher's are in the shard before it; whether the publisher ended with it."""


@dataclass(slots=True)
class _Message:
    subject: str
    data: bytes
    headers: dict[str, str]
    readings: int
    place: Place | None  # with a spool


class _End(NamedTuple):
    """Where a stream ends."""

    number: int
    """The next message has to expect it."""
    last: int
    """The number of the last message that is there; 0 where there is none."""
    headers: dict[str, str]
    """That message's."""
    id: str | None = None
    """None: the numbers end with that message. Else the ``Nats-Msg-Id`` of what was stored last, which may have been
    removed; empty where the server does not know it.
    """


class _AwayError(StreamError):
    """At the end the server has stored nothing for long: what is left is for the spool."""


class Publisher:
    """Publishes all readings that come into its ring; a `f1buf.telemetry.Consumer`.

    Other machines read them with `f1buf.telemetry.nats.subscriber.Subscriber`, by ``f1buf subscribe``, or by any
    program with a NATS client and Arrow.

    Parameters
    ----------
    url : str
        ``nats://HOST[:PORT]/STREAM``, see
        `f1buf.telemetry.nats.link.StreamAddress`. The stream is made where it is missing.
    describe : callable, optional
        Returns what is known of a sensor, from its id and the reading's flags: ``car``, ``driver``, ``lap``, ``part``,
        ``session``. Called by the publisher's thread.
    capacity : int
        How many readings the ring holds, of 24 bytes: what may come while the server is away.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What happens when the ring is full: puts wait (nothing is lost), or readings are dropped and counted.
    source : str
        Where the readings come from; told to others, for people.
    thresholds : iterable of Threshold
        What the readings are checked against here; told to others.
    batch : int
        How many readings a message holds at most.
    delay : float
        How long a reading waits for others to fill a message with, at most [s].
    shards : int
        Of a new stream: into how many subjects the sensors are divided. With one, a subscriber sees all readings in the
        order in which they were put; with more, only those of each sensor.
    replicas : int
        Of a new stream: on how many servers of a cluster it is kept.
    patience : float
        At the end: how long the server may store nothing before the publisher gives up [s].
    spool : path-like, optional
        A folder for what comes while the server is away: the ring's readings go there once it is more than half full,
        and are sent in their order. What is left in it when the publisher ends, or is killed, the next publisher with
        this spool sends first. Made where it is missing. A source that is faster than a server that is there has its
        readings go there, too, in place of waiting.

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    ring : RingBuffer
        Of READING: put readings here, and shut it down to end the publishing.
    published : int
        How many readings the server has said are stored.
    messages : int
        How many messages they are.
    bytes : int
        Their size, without headers.
    resent : int
        How many messages were sent again.
    trouble : str
        Why nothing is stored now, or nothing can be written to the spool; empty while all is well.
    safe : int
        How many of this publisher's readings are known to be stored, or are in the spool.

    Raises
    ------
    StreamError
        No server answers, it refuses the credentials or has no JetStream, the stream is another program's, or nats-py
        or pyarrow is not installed. The spool is in use, damaged, or anything else; or it holds readings, and the
        stream ends with what another publisher has published since.

    Notes
    -----
    What is stored is what the server has written to its file. Unless it is told to (``sync_interval: always``, as
    ``f1buf broker`` does) it brings that to the disk only after up to two minutes: a power cut, not a crash of the
    server, may take it.
    """

    name = "publisher"

    def __init__(
        self,
        url: str,
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        *,
        capacity: int = 1_048_576,
        overflow: str = "block",
        source: str = "",
        thresholds: Iterable[Threshold] = (),
        batch: int = 4096,
        delay: float = 0.05,
        shards: int = 1,
        replicas: int = 1,
        patience: float = 10.0,
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value, most in (("batch", batch, 1 << 20), ("shards", shards, 256), ("replicas", replicas, 5)):
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}; expected 1 to {most:,}")
        self.ring = RingBuffer(capacity, READING, overflow=overflow)  # type: ignore[arg-type]
        self.published = self.messages = self.bytes = self.resent = 0
        self._trouble = ""
        self._address = StreamAddress(url)
        thresholds = tuple(thresholds)
        self._packer = Packer(describe, source=source, thresholds=thresholds)
        self._batch, self._delay, self._patience = batch, delay, patience
        self._waits_since = time.monotonic()
        self._who = os.urandom(8).hex()
        self._base: int | None = None  # the stream's number before message 0, where a spool must go on behind it
        self._has_begun = False  # whether message 0 is stored before the thread runs
        self._spool = None if spool is None else Spool(spool, describe, source=source, thresholds=thresholds)
        try:
            prepared(self._address, self._prepare(shards, replicas))
        except BaseException:
            if self._spool is not None:
                self._spool.close()
            raise

    @property
    def address(self) -> str:
        """Where it publishes to, without a password."""
        return str(self._address)

    @property
    def trouble(self) -> str:
        """Why nothing is stored now, or nothing can be written to the spool; empty while all is well."""
        return "; ".join(filter(None, (self._trouble, "" if self._spool is None else self._spool.trouble)))

    @trouble.setter
    def trouble(self, why: str) -> None:
        self._trouble = why

    async def _prepare(self, shards: int, replicas: int) -> None:
        """Make the stream where it is missing, and see where it ends."""
        address = self._address
        async with connected(address) as link:
            try:
                info = await explained(address, link.request(f"STREAM.INFO.{address.stream}"))
            except RefusedError:
                config = {
                    "name": address.stream, "subjects": [f"{address.stream}.*"], "storage": "file",
                    "num_replicas": replicas, "discard": "new", "duplicate_window": _DUPLICATES,
                    "metadata": {"f1buf": FORMAT, "shards": str(shards)},
                }  # fmt: skip
                try:
                    info = await explained(address, link.request(f"STREAM.CREATE.{address.stream}", **config))
                except RefusedError as error:
                    raise StreamError(f"{address}: the server makes no such stream: {error}") from error
            self._shards = check_stream(link, info)
            self._firsts = [0] * self._shards  # how many readings of each shard were put into messages
            if self._spool is not None:
                await self._begin_spool(link, self._spool)

    async def _begin_spool(self, link: Link, spool: Spool) -> None:
        """Find out what of the spool is stored; if it holds more, take the stream over right behind that."""
        while True:
            info = await explained(self._address, link.request(f"STREAM.INFO.{self._address.stream}"))
            end = await _end_of_stream(link, info)
            # Where a later message was stored, and removed, this one does not tell how much of the spool is stored.
            said = end.headers if end.id in (None, end.headers.get("Nats-Msg-Id")) else {}
            spool.begin(self._who, info, end.number, said.get(PUBLISHER, ""), said.get(REACHED, ""), self._shards)
            if not spool.found:
                self._base = None  # nothing has to come right behind what is there
                return
            if end.number == self._base:
                return  # it was refused all the same: the thread tries again
            self._base = end.number
            [first] = self._messages(_largest(link), 0, np.empty(0, READING))
            headers = first.headers | _numbered(first, self._who, 0) | {_EXPECTED_LAST: str(end.number)}
            try:
                answer = await link.client.request(first.subject, first.data, timeout=link.answer_s, headers=headers)
            except TimeoutError:
                continue  # from 2.14 on a server does not answer a message that it cannot store
            error = json.loads(answer.data).get("error")
            if error is not None and error.get("err_code") != _WRONG_LAST:
                return  # as by a full stream: the thread tries again
            if error is None:
                self._has_begun = True
                self.messages, self.bytes = 1, len(first.data)
                return

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Publish until the ring is shut down and drained; in a thread of its own.

        Raises
        ------
        StreamError
            Another publisher has taken the stream over, it was removed, or at the end the server stored nothing for
            `patience` seconds. How many readings are not known to be stored is said. With a spool, a server that is
            away at the end is no failure: what is not stored is left in the spool. A part of the spool that is damaged
            is one, or a disk that has no room for the rest.
        """
        try:
            asyncio.run(self._publish())
        except (StreamError, nats.errors.Error) as error:
            said = error if isinstance(error, StreamError) else f"{self._address}: {one_line(error)}"
            raise StreamError(f"{said}; {self.lost:,} readings are not known to be stored") from error
        finally:
            if self._spool is not None:
                self._spool.close()

    async def _publish(self) -> None:
        try:
            await self._connect_and_send()
        except _AwayError:
            if self._spool is None:
                raise
            await self._keep_rest(self._spool)

    async def _connect_and_send(self) -> None:
        there = asyncio.Event()
        waiting = asyncio.create_task(self._wait_for(there))
        try:
            async with connected_in_time(self._address, self._note_away) as link:
                there.set()
                await waiting
                self.trouble = ""
                await self._send_all(link)
        finally:
            there.set()
            await waiting

    async def _send_all(self, link: Link) -> None:
        outbox = _Outbox(link, self)
        sending = asyncio.create_task(outbox.run())
        filling = asyncio.create_task(self._fill(outbox))
        try:
            await asyncio.wait((sending, filling), return_when=asyncio.FIRST_EXCEPTION)
            for task in (sending, filling):  # the sender's failure is what keeps the other one
                if task.done():
                    task.result()
        except _AwayError:
            if self._spool is not None:
                outbox.leave()
                await filling
                await self._keep_messages(self._spool, outbox.unstored)
            raise
        finally:
            for task in (sending, filling):
                while not task.done():  # before Python 3.12 wait_for loses a cancellation beside an answer
                    task.cancel()
                    await asyncio.wait((task,), timeout=_PAUSE)
            await asyncio.gather(sending, filling, return_exceptions=True)

    def _note_away(self, trouble: str) -> None:
        """A server that is away is waited for; at the end for no more than `patience` seconds."""
        self.trouble = trouble
        if not self.ring.is_shutdown:
            self._waits_since = time.monotonic()
        if time.monotonic() - self._waits_since > self._patience:
            raise _AwayError(trouble)

    async def _fill(self, outbox: "_Outbox") -> None:
        """Make messages of what comes into the ring, until that ends, or the outbox takes no more."""
        sorter, clock = _Sorter(self._shards, self._batch), asyncio.get_running_loop().time
        due: float | None = None  # when what waits is to be sent
        if not self._has_begun:
            await self._send(outbox, 0, np.empty(0, READING))  # tells subscribers of the thresholds, before any reading
        while not outbox.is_left:
            if self._spool is not None and self._spool.holds:
                await self._send_rest(outbox, sorter)  # it came before what the spool holds
                due = None
                await self._send_front(outbox, self._spool)
                continue
            if (readings := await self._take(due)) is None:
                break
            for shard, part in sorter.add(readings):
                await self._send(outbox, shard, part)
            if sorter.holds and due is None:
                due = clock() + self._delay
            elif not sorter.holds or (due is not None and clock() >= due):
                await self._send_rest(outbox, sorter)
                due = None
        await self._send_rest(outbox, sorter)
        if outbox.is_left:
            return
        for shard in range(self._shards):
            await self._send(outbox, shard, np.empty(0, READING), {LAST: "1"})
        outbox.finish()

    async def _take(self, due: float | None) -> Array | None:
        """Wait for readings, until `due`; None once there are no more."""
        try:
            async with asyncio.timeout_at(due):
                return await self.ring.aget_many(max(_TAKEN, self._batch * self._shards))
        except TimeoutError:
            return np.empty(0, READING)
        except ShutDown:
            return None

    async def _send_rest(self, outbox: "_Outbox", sorter: "_Sorter") -> None:
        for shard, part in sorter.rest():
            await self._send(outbox, shard, part)

    async def _send(
        self,
        outbox: "_Outbox",
        shard: int,
        readings: Array,
        more: dict[str, str] | None = None,
        packer: Packer | None = None,
    ) -> None:
        """Put the readings of one shard into the outbox, in as many messages as they need."""
        for message in self._messages(outbox.largest, shard, readings, more, packer):
            await outbox.put(message)

    def _messages(
        self,
        largest: int,
        shard: int,
        readings: Array,
        more: dict[str, str] | None = None,
        packer: Packer | None = None,
    ) -> Iterator[_Message]:
        """Make as many messages of the readings of one shard as they need; of none, one."""
        for piece, data in self._packed(readings, largest, packer or self._packer):
            headers = {FIRST: str(self._firsts[shard]), **(more or {})}
            self._firsts[shard] += len(piece)
            place = None
            if self._spool is not None:
                place = self._spool.place(len(piece))
                headers[REACHED] = f"{place.number}:{place.end}"
            yield _Message(f"{self._address.stream}.{shard}", data, headers, len(piece), place)

    def _packed(self, readings: Array, largest: int, packer: Packer) -> Iterator[tuple[Array, bytes]]:
        """Yield the readings in pieces of one message each, with that; none is a message, too."""
        for start in range(0, max(1, len(readings)), self._batch):
            yield from self._fitting(readings[start : start + self._batch], largest, packer)

    def _fitting(self, readings: Array, largest: int, packer: Packer) -> Iterator[tuple[Array, bytes]]:
        data = packer.pack(readings)
        if len(data) <= largest:
            yield readings, data
        elif len(readings) > 1:
            half = len(readings) // 2
            yield from self._fitting(readings[:half], largest, packer)
            yield from self._fitting(readings[half:], largest, packer)
        else:
            raise StreamError(
                f"{self._address}: takes messages of {largest:,} bytes, and one reading with what is known of its "
                f"channel takes {len(data):,}; allow larger ones (max_payload)"
            )

    # -- the spool ----------------------------------------------------------------------------------------------------

    async def _wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event; meanwhile a ring that fills is emptied into the spool."""
        while not event.is_set():
            if self._spool is None:
                await event.wait()
                return
            await self._relieve(self._spool)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AT_RING):
                    await event.wait()

    async def _relieve(self, spool: Spool) -> None:
        """Move what a ring that is more than half full holds to the spool."""
        if not spool.is_behind and 2 * len(self.ring) > self.ring.capacity:
            with suppress(Empty, ShutDown):  # puts of a ring that drops take some, too
                spool.take(self.ring.get_many(spool.most, block=False))
        await spool.write()

    async def _send_front(self, outbox: "_Outbox", spool: Spool) -> None:
        """Send the part at the spool's front."""
        readings, packer = await spool.front()
        shards = readings["sensor_id"] % self._shards
        for piece in np.split(readings, np.flatnonzero(np.diff(shards)) + 1):
            if len(piece):
                await self._send(outbox, int(piece["sensor_id"][0]) % self._shards, piece, packer=packer)
        if not spool.holds:
            spool.between()
        await self._relieve(spool)  # the server may keep up with the spool, but not with the ring

    async def _keep_messages(self, spool: Spool, messages: Iterable[_Message]) -> None:
        """Leave the readings of messages that are not known to be stored in the spool."""
        unpacker = Unpacker()
        for message in messages:
            if message.readings and message.place is not None and not message.place.on_disk:
                readings, described, _ = unpacker.unpack(message.data)
                if not await spool.keep(message.place, readings, described):
                    raise StreamError(self.trouble)

    async def _keep_rest(self, spool: Spool) -> None:
        """Leave what the ring still holds in the spool."""
        while True:
            await spool.write(now=True)
            if spool.is_behind:
                raise StreamError(self.trouble)
            try:
                spool.take(self.ring.get_many(spool.most, block=False))
            except (Empty, ShutDown):
                return

    # -- afterwards ---------------------------------------------------------------------------------------------------

    @property
    def notes(self) -> list[str]:
        """For each column the first value of `describe` that it cannot hold; for people."""
        return list(dict.fromkeys([*self._packer.notes, *([] if self._spool is None else self._spool.notes)]))

    @property
    def safe(self) -> int:
        """How many of this publisher's readings are known to be stored, or are in the spool."""
        spool = self._spool
        return self.published if spool is None else self.published + spool.left - spool.found

    @property
    def lost(self) -> int:
        """Readings that were put and are not known to be stored, nor in the spool: while it runs, also those on their
        way.
        """
        return self.ring.stats().offered - self.safe

    def as_dict(self) -> dict[str, Any]:
        """Return what came of it, ready for JSON."""
        return {
            "stream": str(self._address),
            "readings": self.published,
            "messages": self.messages,
            "bytes": self.bytes,
            "resent": self.resent,
            **losses_and_waits(self.ring.stats()),
            "notes": self.notes,
            **({} if self._spool is None else {"spool": self._spool.as_dict()}),
        }

    def __str__(self) -> str:
        notes = "".join(f"; {note}" for note in self.notes)
        notes = ("" if self._spool is None else f"; {self._spool}") + notes
        return (
            f"{self.published:,} readings in {self.messages:,} messages, {self.bytes / 1e6:,.1f} MB, at "
            f"{self._address}; {losses_and_waits_text(self.ring.stats())}{notes}"
        )


class _Sorter:
    """Readings that wait for others of their shard, to fill a message with."""

    def __init__(self, shards: int, batch: int) -> None:
        self._waiting: list[list[Array]] = [[] for _ in range(shards)]
        self._counts = [0] * shards
        self._batch = batch

    @property
    def holds(self) -> bool:
        """Whether any wait."""
        return any(self._counts)

    def add(self, readings: Array) -> Iterator[tuple[int, Array]]:
        """Take readings; yield those of a shard that fill messages."""
        shards = readings["sensor_id"] % len(self._counts) if len(self._counts) > 1 else None
        for shard in range(len(self._counts)):
            # numpy's compress is seven times as fast as indexing, which copies records field by field.
            part = readings if shards is None else readings.compress(shards == shard)
            if len(part):
                self._waiting[shard].append(part)
                self._counts[shard] += len(part)
            if self._counts[shard] >= self._batch:
                yield shard, self._front(shard, self._counts[shard] // self._batch * self._batch)

    def rest(self) -> Iterator[tuple[int, Array]]:
        """Yield all that wait, by shard."""
        for shard, count in enumerate(self._counts):
            if count:
                yield shard, self._front(shard, count)

    def _front(self, shard: int, count: int) -> Array:
        waiting = self._waiting[shard]
        readings = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        self._waiting[shard] = [readings[count:]] if count < len(readings) else []
        self._counts[shard] = len(readings) - count
        return readings[:count]


class _Outbox:
    """The messages that are not known to be stored, and who sends them."""

    def __init__(self, link: Link, publisher: Publisher) -> None:
        self._link, self._publisher, self._address = link, publisher, link.address
        self._patience = publisher._patience
        self._who = publisher._who
        self._window: deque[_Message] = deque()
        self._bytes = 0  # of the window
        self._first = int(publisher._has_begun)  # the number of the window's first message
        self._put = self._first  # the number of the next message
        self._sent = 0  # how many of the window have been sent since the stream was looked at last
        self._most = 1  # how many may be under way
        self._base = publisher._base  # the stream's number before message 0
        self._look = True  # the stream is to be looked at: it is not known what of the window is stored
        self._epoch = 0  # counts these looks: answers to what was sent before one mean nothing
        self._generation = -1  # of the connection, at the last look
        self._finished = False
        self.is_left = False  # whether it sends no more
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._stored_at = time.monotonic()  # when the last message was stored
        self._ending_since = math.inf  # since when it is known that nothing more will be put
        self.largest = _largest(link)

    async def put(self, message: _Message) -> None:
        """Have a message sent; waits while as many are under way as may be."""
        while (len(self._window) >= IN_FLIGHT or self._bytes >= _IN_FLIGHT_BYTES) and not self.is_left:
            self._room.clear()
            await self._publisher._wait_for(self._room)
        message.headers |= _numbered(message, self._who, self._put)
        self._put += 1
        self._bytes += len(message.data)
        self._window.append(message)
        self._changed.set()

    def leave(self) -> None:
        """Send no more, heed no answer any more, and take what is still put without waiting."""
        self.is_left = True
        self._epoch += 1
        self._room.set()

    @property
    def unstored(self) -> list[_Message]:
        """The messages that are not known to be stored, in their order."""
        return list(self._window)

    def finish(self) -> None:
        """Nothing more will be put."""
        self._finished = True
        self._changed.set()

    async def run(self) -> None:
        """Send until all is stored and nothing more will come."""
        client = self._link.client
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._link.on_change = self._changed.set
        pause, stored = _PAUSE, -1
        while self._window or not self._finished:
            if self._look or self._link.generation != self._generation:
                if self._first == stored:
                    # Where the server goes on refusing, as a full stream does, it is asked again ever more seldom.
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                else:
                    pause = _PAUSE
                stored = self._first
                await self._look_at_stream()
            await self._send()
            await self._wait()

    @property
    def _has_to_send(self) -> bool:
        return self._sent < min(len(self._window), self._most)

    async def _send(self) -> None:
        """Send what of the window has not been sent."""
        while self._has_to_send and not self._look and self._link.generation == self._generation:
            message, number = self._window[self._sent], self._first + self._sent
            expected = {}
            if self._base is not None:
                expected[_EXPECTED_LAST] = str(self._base + number)
            elif number:
                return  # the first message, which expects nothing, takes the stream over: its answer says where it is
            if self._sent:  # else the message before is the one that was looked at, or whose number was answered
                expected[_EXPECTED_ID] = _id(self._who, number - 1)
            reply = f"{self._inbox}.{self._epoch}-{number}"
            self._sent += 1
            await self._link.client.publish(
                message.subject, message.data, reply=reply, headers=message.headers | expected
            )

    async def _wait(self) -> None:
        """Wait until there is something to do."""
        may_send = self._has_to_send and not (self._base is None and self._sent)
        if self._look or may_send or (self._finished and not self._window):
            return
        self._changed.clear()
        try:
            async with asyncio.timeout(_ANSWERED if self._window else self._patience):
                await self._changed.wait()
        except TimeoutError:
            if self._window:
                self._unsure("the server does not answer")

    def _unsure(self, why: str) -> None:
        """It is not known any more what is stored."""
        if not self._look:  # else what was sent behind it is refused only because it was
            self._publisher.trouble = f"{self._address}: {why}"
        self._look = True
        self._changed.set()

    async def _answered(self, answer: Any) -> None:
        epoch, _, number = answer.subject.rpartition(".")[2].partition("-")
        if int(epoch) != self._epoch:
            return
        if answer.headers and answer.headers.get("Status") == "503":
            self._unsure("the stream is away")
            return
        said = json.loads(answer.data)
        if "error" in said:
            self._unsure(f"the server refuses a message: {said['error'].get('description', 'it does not say why')}")
        else:
            if self._base is None:
                self._begin_behind(int(said["seq"]) - 1)
            self._stored_until(int(number) + 1)
            self._publisher.trouble = ""
            self._changed.set()

    def _begin_behind(self, last: int) -> None:
        """The stream had reached this number before this publisher's first message, or would have, without a gap."""
        self._base = last
        if self._publisher._spool is not None:
            self._publisher._spool.note_base(last)

    def _stored_until(self, number: int) -> None:
        """All messages before this one are stored."""
        publisher = self._publisher
        while self._first < number:
            message = self._window.popleft()
            self._first += 1
            self._sent = max(0, self._sent - 1)
            self._bytes -= len(message.data)
            publisher.published += message.readings
            publisher.messages += 1
            publisher.bytes += len(message.data)
            if publisher._spool is not None and message.place is not None:
                publisher._spool.note_stored(message.place)
            self._stored_at = time.monotonic()
        self._room.set()

    async def _look_at_stream(self) -> None:
        """Find out what is stored; asks until there is an answer."""
        while True:
            self._epoch += 1
            self._look, self._generation = False, self._link.generation
            try:
                end = await self._end_of_stream()
                break
            except RefusedError as error:
                if error.code == 10059:  # no such stream
                    raise StreamError(f"{self._address}: the stream was removed") from error
                self._publisher.trouble = f"{self._address}: {error}"
            except (TimeoutError, nats.errors.Error, OSError) as error:
                self._publisher.trouble = f"{self._address}: {self._link.trouble or one_line(error)}"
            self._give_up_at_the_end()
            await asyncio.sleep(_PAUSE)
        self._give_up_at_the_end()
        own = self._own_by(end)
        if self._base is None and own is None:
            self._sent = 0
            return
        stored = self._stored_by(end, own)
        if self._base is None:
            self._begin_behind(end.number - stored)
        self._base = end.number - stored  # it grows by the numbers that the server has left out
        self._publisher.resent += max(0, self._sent - (stored - self._first))
        self._stored_until(stored)
        self._sent = 0
        if not self._window:
            self._publisher.trouble = ""  # no answer will come that says so

    def _own_by(self, end: _End) -> int | None:
        """Return how many of this publisher's messages are stored, as a stream's end tells; None where it does not."""
        told: list[int] = []
        if end.headers.get(PUBLISHER) == self._who:
            told.append(int(end.headers[NUMBER]) + 1)
        who, _, number = (end.id or "").rpartition("-")
        if who == self._who:
            told.append(int(number) + 1)
        return max(told, default=None)

    def _stored_by(self, end: _End, own: int | None) -> int:
        """Return how many messages are stored, of which the stream's end tells `own`."""
        base = end.number if self._base is None else self._base
        if own is None and (end.last > base or (end.id and self._first)):
            raise StreamError(
                f"{self._address}: another publisher has taken the stream over; one at a time may publish"
            )
        if end.id is None:
            stored = end.number - base if own is None else own
        else:  # what was answered may have been removed
            stored = max(own or 0, self._first if end.number >= base + self._first else 0)
        if stored < self._first:
            raise StreamError(
                f"{self._address}: the stream ends at message {end.number:,}, and {base + self._first:,} had been "
                f"stored: {went_back('begin another stream')}"
            )
        return min(stored, self._put)  # what was sent before the thread ran, and was not answered, may have come

    async def _end_of_stream(self) -> _End:
        info = await self._link.request(f"STREAM.INFO.{self._address.stream}")
        self._most = 1 if _is_replicated(info) else IN_FLIGHT
        return await _end_of_stream(self._link, info)

    def _give_up_at_the_end(self) -> None:
        """Raise where no more readings come, and nothing has been stored for long."""
        if not self._publisher.ring.is_shutdown:
            return
        now = time.monotonic()
        self._ending_since = min(self._ending_since, now)  # a pause before that does not count
        if now - max(self._stored_at, self._ending_since) > self._patience:
            raise _AwayError(self._publisher.trouble or f"{self._address}: the server stores nothing")


def _largest(link: Link) -> int:
    """Return how many bytes a message may have at most."""
    return max(1, link.client.max_payload - OVERHEAD)


def _id(who: str, number: int) -> str:
    return f"{who}-{number}"


def _numbered(message: _Message, who: str, number: int) -> dict[str, str]:
    """Return the headers that a message has once it has a number."""
    return {
        PUBLISHER: who, NUMBER: str(number), CHECKSUM: checksum(message.data), "Nats-Msg-Id": _id(who, number)
    }  # fmt: skip


async def _end_of_stream(link: Link, info: dict[str, Any]) -> _End:
    """See where a stream ends, of which STREAM.INFO says this."""
    said, count = int(info["state"]["last_seq"]), info["state"]["messages"]
    if count and said and (headers := await link.message_at(said)) is not None:
        return _End(said, said, headers)
    if not (count or said):
        return _End(0, 0, {})
    number = int(await _refusal(link, {_EXPECTED_LAST: str(_NEVER)}, r"wrong last sequence: (\d+)"))
    if count and not number:  # a server of 2.10, see `went_back`
        raise RefusedError(0, "has messages, and says that it has reached none: start the server again")
    who = ""
    # A server up to 2.11 whose account is full tells of a message that it refused; its number is higher then.
    if not _is_replicated(info) and number <= said:
        who = await _refusal(link, {_EXPECTED_LAST: str(number), _EXPECTED_ID: "none"}, r"wrong last msg ID: (.*)")
    return _End(number, *await link.last_message(), id=who)


def _is_replicated(info: dict[str, Any]) -> bool:
    """Return whether several servers hold a stream of which STREAM.INFO says this.

    Then a message expects a number alone, and one is under way at a time: with more, servers of version 2.15 can all
    let go of the stream, until they are started again.
    """
    return int(info["config"].get("num_replicas", 1)) > 1


async def _refusal(link: Link, headers: dict[str, str], expected: str) -> str:
    """Return what a server says that refuses a message with these headers: the group of the pattern."""
    answer = await link.client.request(f"{link.address.stream}.0", b"", timeout=link.answer_s, headers=headers)
    error = json.loads(answer.data).get("error", {})
    told = re.fullmatch(expected, error.get("description", ""))
    if told is None:
        raise RefusedError(error.get("err_code", 0), error.get("description", "it does not say where the stream ends"))
    return told[1]
