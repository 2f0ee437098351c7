"""The subscriber: a source of the readings that another machine publishes to a stream of a NATS server."""

import asyncio
import contextlib
import datetime
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import nats.errors
from numpy.typing import NDArray

from f1buf import Empty, Queue, ShutDown
from f1buf.telemetry.described import DescribedSensors
from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import (
    Link,
    RefusedError,
    StreamAddress,
    check_stream,
    connected,
    connected_in_time,
    explained,
    prepared,
)
from f1buf.telemetry.nats.messages import About, MessageError, Unpacked, Unpacker
from f1buf.telemetry.nats.progress import KeptProgress
from f1buf.telemetry.nats.publisher import FIRST, LAST, NUMBER, PUBLISHER
from f1buf.telemetry.nats.reader import Message, Reader
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["StreamError", "Subscriber"]

_AHEAD = 64  # messages that are unpacked and not yielded yet
_LOOK = 0.1  # [s] how often the source looks whether it is to stop
_POLL = 0.1  # [s] how often it looks for a stream
_KEEP = 2.5  # [s] between two times that what was done is kept: as often as a recorder completes a part
_PATIENCE = 5.0  # [s] for a server that is away at the end
_FOLLOWED = 256  # publishers and shards whose counts are kept: the latest
_DURABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NEW = {"deliver_policy": "new"}


class Subscriber:
    """Takes the readings of a stream, each once and in its order; `batches` may be called once.

    Parameters
    ----------
    url : str
        ``nats://HOST[:PORT]/STREAM``, as the `Publisher` has it; see `StreamAddress`.
    start : {"start", "new"}, int or datetime.datetime
        Where to begin: with the oldest message that the stream has, with what comes from now on, with the message of
        this number, or with the first one that was stored at this time or later.
    follow : bool
        Whether to go on where the publisher has ended, for the next one.
    timeout : float, optional
        How long to wait for a stream that has a message [s]; without it there must be one now.
    durable : str, optional
        A name under which the server keeps what `keep` returns, so that a later subscriber of this name goes on there.
        One at a time may have it: a newer one takes it over, and the older one fails.
    progress : dict, optional
        What an earlier subscriber gave to `keep`, to go on there.
    keep : callable, optional
        Called at the beginning, every 2.5 s, and at the end, by the thread of `batches`, with what it takes to go on
        behind the readings that were yielded so far: a dict, ready for JSON. It sees to it that they are done with. Of
        a durable subscriber it returns what the server is to keep: that dict, with what else is to be known; or None,
        to keep nothing now.
        May also be set later, before `batches` is called.

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    source : str
        Where the readings come from; for people. Empty where nothing has been published yet.
    thresholds : tuple of Threshold, or None
        What the publisher checks them against; None where nothing has been published yet.
    position : int
        The number in the stream of the last message whose readings were yielded.
    progress : dict or None
        What the server, or the caller, had kept of an earlier subscriber.
    ended : bool
        Whether the publisher has ended, and all was read.
    missed : int
        How many readings the stream had, and dropped before they were read: its limits were reached.
    rejected : collections.Counter
        How many messages could not be read, by reason.

    Raises
    ------
    StreamError
        No server answers, it refuses the credentials or has no JetStream, there is no such stream, it is another
        program's, or nats-py or pyarrow is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        start: str | int | datetime.datetime = "start",
        follow: bool = False,
        timeout: float | None = None,
        durable: str | None = None,
        progress: dict[str, Any] | None = None,
        keep: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    ) -> None:
        if durable is not None and not _DURABLE.fullmatch(durable):
            raise StreamError(f"the durable name is {durable!r}; expected up to 64 letters, digits, - and _")
        self._address = StreamAddress(url)
        self._start = _policy(start)
        self._follow = follow
        self.name = f"subscribed to {self._address}"
        self.source = ""
        self.thresholds: tuple[Threshold, ...] | None = None
        self.position = self.missed = 0
        self.progress, self.keep, self.ended = progress, keep, False
        self._durable = None if durable is None else KeptProgress(self._address.stream, durable)
        self._left = threading.Event()  # `batches` has ended
        self._linked = threading.Event()  # and the next two are there
        self._loop: asyncio.AbstractEventLoop | None = None  # of the thread that receives
        self._link: Link | None = None
        self._kept_at = -math.inf
        self._identity = ("", "")  # publisher and number of the message at the position
        self.rejected: Counter[str] = Counter()
        self._sensors = DescribedSensors()
        self._unpacker = Unpacker()
        self._ahead: Queue[tuple[Any, Any]] = Queue(_AHEAD)
        self._following: dict[tuple[int, str], int] = {}  # by shard and publisher, how many readings came
        self._ends: set[int] = set()  # the shards whose publisher has ended, as far as was yielded
        self._shards = prepared(self._address, self._prepare(timeout))

    @property
    def sessions(self) -> tuple[int, ...]:
        """The game's numbers of the sessions that readings came of, in that order: the latest 16."""
        return self._sensors.sessions

    def describe(self, sensor_id: int, flags: int) -> dict[str, Any]:
        """Say what the publisher knew of a sensor.

        Parameters
        ----------
        sensor_id, flags : int
            As in a reading that was yielded lately: among the last 131,072 sensors with flags of their own.

        Returns
        -------
        dict
            ``car``, ``driver``, ``lap``, ``part`` and ``session``, without those that were not known.

        Notes
        -----
        May be called from other threads while `batches` goes on.
        """
        return self._sensors.describe(sensor_id, flags)

    # -- before anything starts ---------------------------------------------------------------------------------------

    async def _prepare(self, timeout: float | None) -> int:
        """Wait for a message, and learn from the last one of the readings; return how many shards the stream has."""
        until = time.monotonic() + (timeout or 0.0)
        address = self._address
        async with connected(address) as link:
            while (info := await self._info(link)) is None or not info["state"]["messages"]:
                if time.monotonic() >= until:
                    waited = f" (waited {timeout:g} s)" if timeout else ""
                    raise StreamError(
                        f"{address}: nothing has been published there{waited}; publish first (--publish {address}), or "
                        "wait longer for it (--timeout)"
                    )
                await asyncio.sleep(_POLL)
            last = int(info["state"]["last_seq"])
            if self._start == _NEW:  # by its number: a consumer that is made anew must not begin later
                self._start = _policy(last + 1)
            shards = await check_stream(link, info)
            await self._learn(link, last)
            if self._durable is not None:
                self.progress = await self._durable.take_over(link)
            return shards

    async def _info(self, link: Link) -> dict[str, Any] | None:
        """What the server says of the stream; None where there is none."""
        try:
            return await explained(self._address, link.request(f"STREAM.INFO.{self._address.stream}"))
        except RefusedError:
            return None

    async def _learn(self, link: Link, last: int) -> None:
        from nats.js.errors import NotFoundError

        with contextlib.suppress(NotFoundError, MessageError, TimeoutError, nats.errors.Error):
            message = await link.client.jetstream().get_msg(self._address.stream, seq=last)
            about: About = self._unpacker.unpack(message.data or b"").about
            self.source, self.thresholds = about.source, about.thresholds

    # -- reading ------------------------------------------------------------------------------------------------------

    def batches(self, stop: threading.Event | None = None) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they come, until the publisher has ended or `stop` is set.

        Their channels are numbered as in this process. A server that is away is waited for.

        Raises
        ------
        StreamError
            The stream was removed, has gone back behind what was read, or another subscriber has the durable name.
        """
        thread = threading.Thread(target=self._run, name=f"{self.name}: receives", daemon=True)
        self._go_on()
        thread.start()
        try:
            while stop is None or not stop.is_set():
                if self.keep is not None and time.monotonic() - self._kept_at >= _KEEP:
                    self._keep(stop)
                try:
                    message, unpacked = self._ahead.get(timeout=_LOOK)
                except Empty:
                    continue
                except ShutDown:
                    self.ended = True
                    break
                if isinstance(unpacked, BaseException):
                    raise unpacked
                yield from self._accepted(message, unpacked)
            if self.keep is not None:
                self._keep(stop)
        finally:
            self._left.set()
            self._ahead.shutdown(immediate=True)  # ends the thread where it waits for room
            thread.join(10)

    def _accepted(self, message: Message, unpacked: Unpacked) -> Iterator[NDArray[Any]]:
        self._sensors.remember(unpacked.described)
        self.source, self.thresholds = unpacked.about.source, unpacked.about.thresholds
        publisher, first = message.headers.get(PUBLISHER, ""), int(message.headers.get(FIRST, 0))
        key = message.shard, publisher
        self.missed += max(0, first - self._following.get(key, first if self._is_first(message) else 0))
        if len(unpacked.readings):
            yield unpacked.readings
        self._following[key] = first + len(unpacked.readings)
        (self._ends.add if LAST in message.headers else self._ends.discard)(message.shard)
        self.position, self._identity = message.sequence, (publisher, message.headers.get(NUMBER, ""))

    def _is_first(self, message: Message) -> bool:
        """Whether nothing was read of the shard: what came before the beginning is not missed."""
        return all(shard != message.shard for shard, _ in self._following)

    # -- going on where an earlier one was ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Begin behind what an earlier subscriber has done with."""
        if self.progress is not None:
            self.position, *identity = self.progress["message"]
            self._identity = identity[0], identity[1]
            self._following = {(shard, publisher): count for shard, publisher, count in self.progress["following"]}
            self._ends = set(self.progress["ended"])

    def _keep(self, stop: threading.Event | None) -> None:
        """Have all that was yielded done with, and kept."""
        assert self.keep is not None
        following = [[*key, count] for key, count in self._following.items()][-_FOLLOWED:]
        message, ended = [self.position, *self._identity], sorted(self._ends)
        progress = self.keep({"message": message, "following": following, "ended": ended})
        if progress is not None and self._durable is not None:
            self._store(progress, stop)
        self._kept_at = time.monotonic()

    def _store(self, progress: dict[str, Any], stop: threading.Event | None) -> None:
        """Have the server keep it; where it is away, wait for it, but once this is to stop not for long."""
        assert self._durable is not None
        storing: Future[None] | None = None
        until = math.inf
        while True:
            if storing is None and self._linked.wait(_LOOK):
                assert self._link is not None
                assert self._loop is not None
                storing = asyncio.run_coroutine_threadsafe(self._durable.store(self._link, progress), self._loop)
            with contextlib.suppress(TimeoutError):
                if storing is not None:
                    return storing.result(_LOOK)
            if stop is not None and stop.is_set():
                until = min(until, time.monotonic() + _PATIENCE)
            if time.monotonic() > until or (self._ahead.is_shutdown and storing is None):
                raise StreamError(
                    f"{self._address}: the server is away, and does not know what was done last: the next subscriber "
                    "of this name does it again"
                )

    # -- the thread that receives -------------------------------------------------------------------------------------

    def _run(self) -> None:
        """The thread that receives, with an event loop of its own: it answers the server while `batches` waits."""
        try:
            asyncio.run(self._receive())
        except ShutDown:
            pass  # `batches` has ended
        except BaseException as error:
            known = error if isinstance(error, StreamError) else StreamError(f"{self._address}: {one_line(error)}")
            with contextlib.suppress(ShutDown):
                self._ahead.put((None, known))
        self._ahead.shutdown()

    async def _receive(self) -> None:
        async with connected_in_time(self._address, lambda _: self._left.is_set()) as link:
            self._loop, self._link = asyncio.get_running_loop(), link
            self._linked.set()
            reading = asyncio.create_task(self._read(link))
            leaving = asyncio.create_task(self._until_shut())
            try:
                await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                    self._ahead.shutdown()
                    await leaving  # the connection is needed until the end is kept
            finally:
                for task in (reading, leaving):
                    task.cancel()
                await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _until_shut(self) -> None:
        """Return once `batches` has ended, whatever the stream does."""
        while not self._left.is_set():
            await asyncio.sleep(_LOOK)

    async def _read(self, link: Link) -> None:
        ends = set(self._ends)
        if len(ends) == self._shards and not self._follow and await self._is_at_end(link):
            return
        reader = Reader(link, self._start, list(range(self._shards)), self.position, self._identity)
        async with contextlib.aclosing(reader.messages()) as messages:
            async for message in messages:
                if (unpacked := self._opened(message)) is not None:
                    await self._ahead.aput((message, unpacked))
                (ends.add if LAST in message.headers else ends.discard)(message.shard)
                if len(ends) == self._shards and not message.pending and not self._follow:
                    return

    async def _is_at_end(self, link: Link) -> bool:
        """Whether the stream has nothing behind what an earlier subscriber has read."""
        info = await self._info(link)
        return info is not None and int(info["state"]["last_seq"]) == self.position

    def _opened(self, message: Message) -> Unpacked | None:
        """Unpack a message; None where it cannot be read."""
        try:
            return self._unpacker.unpack(message.data)
        except MessageError as error:
            self.rejected[one_line(error)] += 1
            return None


def _policy(start: str | int | datetime.datetime) -> dict[str, Any]:
    """Return where a consumer is to begin, as NATS says it."""
    if start == "start":
        return {"deliver_policy": "all"}
    if start == "new":
        return _NEW
    if isinstance(start, datetime.datetime):
        moment = start.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
        return {"deliver_policy": "by_start_time", "opt_start_time": moment}
    if isinstance(start, int) and start >= 1:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    raise ValueError(f"start is {start!r}; expected 'start', 'new', a message's number from 1, or a datetime")
