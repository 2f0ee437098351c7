"""The subscriber: a source of the readings that another machine publishes to a stream of a NATS server."""

import asyncio
import contextlib
import datetime
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import nats.errors
from numpy.typing import NDArray

from f1buf import Empty, Queue, ShutDown
from f1buf.telemetry.described import DescribedSensors
from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import Link, RefusedError, StreamAddress, check_stream, connected, explained, result_of
from f1buf.telemetry.nats.messages import CHECKSUM, About, MessageError, Unpacked, Unpacker
from f1buf.telemetry.nats.publisher import FIRST, LAST, PUBLISHER
from f1buf.telemetry.nats.reader import Message, Reader
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["StreamError", "Subscriber"]

_AHEAD = 64  # messages that are unpacked and not yielded yet
_LOOK = 0.1  # [s] how often the source looks whether it is to stop
_POLL = 0.1  # [s] how often it looks for a stream
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
    ) -> None:
        self._address = StreamAddress(url)
        self._start = _policy(start)
        self._follow = follow
        self.name = f"subscribed to {self._address}"
        self.source = ""
        self.thresholds: tuple[Threshold, ...] | None = None
        self.position = self.missed = 0
        self.rejected: Counter[str] = Counter()
        self._sensors = DescribedSensors()
        self._unpacker = Unpacker()
        self._ahead: Queue[tuple[int, Any]] = Queue(_AHEAD)
        self._following: dict[tuple[int, str], int] = {}  # by shard and publisher, how many readings came
        self._ended: set[int] = set()  # shards
        self._shards = result_of(self._prepare(timeout))

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
            about: About = self._unpacker.unpack(message.data or b"", (message.headers or {}).get(CHECKSUM, "")).about
            self.source, self.thresholds = about.source, about.thresholds

    # -- reading ------------------------------------------------------------------------------------------------------

    def batches(self, stop: threading.Event | None = None) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they come, until the publisher has ended or `stop` is set.

        Their channels are numbered as in this process. A server that is away is waited for.

        Raises
        ------
        StreamError
            The stream was removed, or has gone back behind what was read.
        """
        thread = threading.Thread(target=self._run, name=f"{self.name}: receives", daemon=True)
        thread.start()
        try:
            while stop is None or not stop.is_set():
                try:
                    sequence, unpacked = self._ahead.get(timeout=_LOOK)
                except Empty:
                    continue
                except ShutDown:
                    return
                if isinstance(unpacked, BaseException):
                    raise unpacked
                self._sensors.remember(unpacked.described)
                self.source, self.thresholds = unpacked.about.source, unpacked.about.thresholds
                if len(unpacked.readings):
                    yield unpacked.readings
                self.position = sequence
        finally:
            self._ahead.shutdown(immediate=True)  # ends the thread where it waits for room
            thread.join(10)

    def _run(self) -> None:
        """The thread that receives, with an event loop of its own: it answers the server while `batches` waits."""
        try:
            asyncio.run(self._receive())
        except ShutDown:
            pass  # `batches` has ended
        except BaseException as error:
            known = error if isinstance(error, StreamError) else StreamError(f"{self._address}: {one_line(error)}")
            with contextlib.suppress(ShutDown):
                self._ahead.put((0, known))
        self._ahead.shutdown()

    async def _receive(self) -> None:
        reading = asyncio.create_task(self._read())
        leaving = asyncio.create_task(self._until_shut())
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            for task in (reading, leaving):
                task.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _until_shut(self) -> None:
        """Return once `batches` has ended, whatever the stream does."""
        while not self._ahead.is_shutdown:
            await asyncio.sleep(_LOOK)

    async def _read(self) -> None:
        async with connected(self._address, patient=True) as link:
            reader = Reader(link, self._start, list(range(self._shards)))
            async with contextlib.aclosing(reader.messages()) as messages:
                async for message in messages:
                    if (unpacked := self._opened(message)) is not None:
                        await self._ahead.aput((message.sequence, unpacked))
                    if LAST in message.headers:
                        self._ended.add(message.shard)
                    else:
                        self._ended.discard(message.shard)
                    if len(self._ended) == self._shards and not message.pending and not self._follow:
                        return

    def _opened(self, message: Message) -> Unpacked | None:
        """Unpack a message, and count what is missing before it; None where it cannot be read."""
        try:
            unpacked = self._unpacker.unpack(message.data, message.headers.get(CHECKSUM, ""))
        except MessageError as error:
            self.rejected[one_line(error)] += 1
            return None
        key, first = (message.shard, message.headers.get(PUBLISHER, "")), int(message.headers.get(FIRST, 0))
        self.missed += max(0, first - self._following.get(key, first if self._is_first(message) else 0))
        self._following[key] = first + len(unpacked.readings)
        return unpacked

    def _is_first(self, message: Message) -> bool:
        """Whether nothing was read of the shard: what came before the beginning is not missed."""
        return all(shard != message.shard for shard, _ in self._following)


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
