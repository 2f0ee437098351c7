"""The messages of a stream behind a position, each once and in order, whatever dies meanwhile.

The position is the reader's own: the number of the last message that it has yielded. It reads by a consumer without
acknowledgements that the server makes behind the position, and that nobody else uses. The consumer counts what it
sends; when a number is missing, a request ends in an odd way, nothing is heard for two heartbeats, or the connection
was lost, the reader makes a new consumer behind its position. So it depends on no memory of the server's. (Acknowledged
messages would be sent again late and out of order, and nats-py's own ways to read were tried: an ordered consumer loses
messages beyond its limits or starts over, and `fetch` yields some twice, while servers are killed.)

Requests ask for so many messages and bytes that the server never has more for this connection than it may (64 MiB, else
it cuts the connection off), and again once half of them have come.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NamedTuple

import nats.errors

from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import Link, RefusedError, heed_cancellation, went_back
from f1buf.telemetry.nats.publisher import NUMBER, PUBLISHER

__all__ = ["Message", "Place", "Reader"]

_ASKED = 64  # messages
_BYTES = 16 << 20  # of a request; and more than the largest message, which else would never come
_MOST_BYTES = 60 << 20
_HEARTBEAT = 1.0  # [s] between signs of life of a server that has nothing to send
_EXPIRES = 30.0  # [s]
_UNUSED = 60.0  # [s] after which the server removes a consumer that nobody asks
_PAUSE = 0.1  # [s] between attempts
_NS = 1_000_000_000


class Place(NamedTuple):
    """A message that was read."""

    sequence: int
    """Its number in the stream."""
    publisher: str = ""
    number: str = ""
    """What its headers say; empty of one that was not read: where the reading begins behind it."""


class Message(NamedTuple):
    """One message of the stream."""

    sequence: int
    """Its number in the stream, from 1."""
    shard: int
    """The last part of its subject."""
    headers: dict[str, str]
    data: bytes
    pending: int
    """How many the stream has behind it, of the shards that are read."""

    @property
    def place(self) -> Place:
        """Which one it is."""
        return Place(self.sequence, self.headers.get(PUBLISHER, ""), self.headers.get(NUMBER, ""))


class _Odd(Exception):  # noqa: N818  no error: a new consumer is made
    """What came does not fit; a new consumer is needed."""


class Reader:
    """Reads a stream, for one coroutine.

    Parameters
    ----------
    link : Link
        The connection.
    done : dict of int to Place
        The shards, which are subjects of the stream, and behind which message to begin with each.
    is_whole : bool
        Whether these are all shards of the stream: then every number comes.

    Attributes
    ----------
    position : int
        The number of the last message that was yielded; 0 before the first one.
    forgotten : int
        How many messages behind the place to begin at the stream had, and dropped before they were read.
    """

    def __init__(self, link: Link, done: Mapping[int, Place], *, is_whole: bool = False) -> None:
        self._done = dict(done)
        self._is_whole = is_whole
        self.forgotten = 0
        # Behind the shard that is least far; of the others what is known already is passed over.
        self.position = min(place.sequence for place in done.values())
        self._last = max((place for place in done.values() if place.publisher), default=None)
        self._known = max(place.sequence for place in done.values())  # up to there some were read before
        self._link, self._stream = link, link.address.stream
        self._subjects = [f"{self._stream}.{shard}" for shard in done]
        self._came: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._listening: Any = None  # nats-py's subscription
        self._bytes = min(_MOST_BYTES, max(_BYTES, link.client.max_payload + (1 << 16)))

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Iterate for ever; waits for messages, and for a server that is away.

        Raises
        ------
        StreamError
            The stream was removed, or the server has lost messages that were yielded already.
        """
        while True:
            heed_cancellation()
            try:
                await self._check_position()
                await self._make_consumer()
                async for message in self._delivered():
                    yield message
            except RefusedError as error:
                if error.code == 10059:
                    raise StreamError(f"{self._link.address}: the stream was removed") from error
                self._link.trouble = str(error)
            except nats.errors.ConnectionClosedError as error:
                raise StreamError(
                    f"{self._link.address}: {self._link.trouble or 'the connection was closed'}"
                ) from error
            except (_Odd, TimeoutError, nats.errors.Error, OSError):
                pass
            finally:
                await self._leave_consumer()
            await asyncio.sleep(_PAUSE)

    async def _check_position(self) -> None:
        """After a power cut a stream may end before the position; its numbers are then given again."""
        if self._last is None:
            return
        state = (await self._link.request(f"STREAM.INFO.{self._stream}"))["state"]
        if int(state["last_seq"]) >= self._last.sequence:
            self._note_forgotten(int(state["first_seq"]))
            there = await self._link.message_at(self._last.sequence)
            # None: the stream's limits have removed it.
            if there is None or (there.get(PUBLISHER, ""), there.get(NUMBER, "")) == self._last[1:]:
                return
        raise StreamError(
            f"{self._link.address}: the stream has gone back behind message {self._last.sequence:,}, which was read "
            f"already: {went_back('read it anew (--from)')}"
        )

    def _note_forgotten(self, first: int, most: int | None = None) -> None:
        """The stream has no message between the position and this number, and has had this many at most."""
        gap = max(0, first - 1 - max(self.position, self._known))
        self.forgotten += gap if most is None else min(gap, most)
        self.position = max(self.position, first - 1)

    # -- the consumer -------------------------------------------------------------------------------------------------

    async def _make_consumer(self) -> None:
        self._came.clear()
        self._name, self._inbox = os.urandom(8).hex(), self._link.client.new_inbox()
        self._listening = await self._link.client.subscribe(
            self._inbox, cb=self._take, pending_msgs_limit=0, pending_bytes_limit=0
        )
        config = {
            "name": self._name, "ack_policy": "none", "max_deliver": 1, "mem_storage": True, "num_replicas": 1,
            "inactive_threshold": int(_UNUSED * _NS), "filter_subjects": self._subjects,
            "deliver_policy": "by_start_sequence", "opt_start_seq": self.position + 1,
        }  # fmt: skip
        subject = f"CONSUMER.CREATE.{self._stream}.{self._name}"
        await self._link.request(subject, stream_name=self._stream, config=config, action="create")
        self._delivered_so_far = self._asked = 0
        self._generation = self._link.generation

    async def _leave_consumer(self) -> None:
        """The server removes it by itself, too, but later."""
        if self._listening is None:
            return
        listening, self._listening = self._listening, None
        try:
            await listening.unsubscribe()
            await self._link.client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")
        except nats.errors.Error:
            pass

    async def _take(self, message: Any) -> None:
        self._came.append(message)
        self._arrived.set()

    async def _ask(self) -> None:
        """Ask for as many messages as there may be under way."""
        asked = {"batch": _ASKED - self._asked, "max_bytes": self._bytes, "expires": int(_EXPIRES * _NS)}
        asked["idle_heartbeat"] = int(_HEARTBEAT * _NS)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._link.client.publish(subject, json.dumps(asked).encode(), self._inbox)
        self._asked = _ASKED

    async def _delivered(self) -> AsyncGenerator[Message, None]:
        """Iterate over what the consumer delivers, as long as all is as it should be."""
        await self._ask()
        while True:
            heed_cancellation()
            if not self._came:
                self._arrived.clear()
                async with asyncio.timeout(2 * _HEARTBEAT):
                    await self._arrived.wait()
            came = self._came.popleft()
            if self._link.generation != self._generation:
                raise _Odd
            if came.reply.startswith("$JS.ACK."):
                message = self._message(came)
                if self._is_whole and self._last is not None:
                    self._note_forgotten(message.sequence, _between(self._last, message.place))
                if message.sequence > self._done[message.shard].sequence:
                    yield message
                    self._last = max(self._last or message.place, message.place)
                self.position = message.sequence
                self._link.trouble = ""
            else:
                self._note_status(came.headers or {})
            if self._asked <= _ASKED // 2:
                await self._ask()

    def _message(self, came: Any) -> Message:
        # $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.SEQUENCE.COUNT.TIME.PENDING[.RANDOM]
        parts = came.reply.split(".")
        sequence, count, _time, pending = parts[7:11] if len(parts) >= 11 else parts[5:9]
        if int(count) != self._delivered_so_far + 1 or int(sequence) <= self.position:
            raise _Odd
        self._delivered_so_far += 1
        self._asked -= 1
        shard = int(came.subject.rpartition(".")[2])  # it is one of the subjects that were asked for
        return Message(int(sequence), shard, came.headers or {}, came.data, int(pending))

    def _note_status(self, headers: dict[str, str]) -> None:
        """A sign of life; or the end of a request, which says how many of its messages did not come."""
        if headers.get("Status") == "100":
            return
        # Among others 503, no responders: the consumer is gone; or it is new, and one server of a cluster has said that
        # it is made before the server that was asked knows of it. A new consumer mends both.
        if "Nats-Pending-Messages" not in headers:
            raise _Odd
        self._asked -= int(headers["Nats-Pending-Messages"])


def _between(earlier: Place, later: Place) -> int | None:
    """Return how many messages a publisher has published between two; None where these are not of one publisher.

    The stream may have more numbers between them: a server whose disk was full leaves some out
    (`findings/nats_server_number_never_stored.sh`).
    """
    if earlier.publisher != later.publisher or not (earlier.number.isdecimal() and later.number.isdecimal()):
        return None
    return max(0, int(later.number) - int(earlier.number) - 1)
