"""The subscriber: a source of the readings that another machine publishes to a stream of a NATS server."""

import asyncio
import contextlib
import datetime
import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, NamedTuple, TypeVar

import nats.errors
from numpy.typing import NDArray

from f1buf import Empty, Queue, ShutDown
from f1buf.telemetry.described import DescribedSensors, DescribingSource
from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.group import Group
from f1buf.telemetry.nats.keeper import Keeper
from f1buf.telemetry.nats.link import (
    Link,
    RefusedError,
    StreamAddress,
    check_stream,
    connected,
    connected_in_time,
    explained,
    heed_cancellation,
    prepared,
    went_back,
)
from f1buf.telemetry.nats.messages import CHECKSUM, About, MessageError, Unpacked, Unpacker
from f1buf.telemetry.nats.publisher import FIRST, LAST, PUBLISHER
from f1buf.telemetry.nats.reader import Message, Place, Reader
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["StreamError", "Subscriber"]

_TOGETHER = 16  # messages that are handed over at once, where more are behind: each time two threads change places
_AHEAD = 8  # so many such lists are unpacked and not yielded yet, at most
_LOOK = 0.1  # [s] how often the source looks whether it is to stop
_POLL = 0.1  # [s] how often it looks for a stream
_T = TypeVar("_T")
_KEEP_IDLE = 0.5  # [s] the same where all was read
_KEEP = 2.5  # [s] between two times that what was done is kept: as often as a recorder completes a part
_SKEW = 5.0  # [s] by which two machines' clocks may differ
_JOINING = 15.0  # [s] until the server has kept that there is one more subscriber of a durable name
_PATIENCE = 5.0  # [s] for a server that is away at the end
_FOLLOWED = 256  # publishers and shards whose counts are kept: the latest
_DURABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Round(NamedTuple):
    """What the thread that receives is to read; another one takes its place where the own shards change."""

    number: int
    places: dict[int, Place]
    """The shards, and behind which message to begin with each."""
    ends: frozenset[int]
    """Those whose publisher has ended there."""


class Subscriber(DescribingSource):
    """Takes the readings of a stream, each once and in its order; `batches` may be called once.

    Parameters
    ----------
    url : str
        ``nats://HOST[:PORT]/STREAM``, as the publisher has it; see
        `f1buf.telemetry.nats.link.StreamAddress`.
    start : {"start", "new"}, int or datetime.datetime
        Where to begin: with the oldest message that the stream has, with what comes from now on, with the message of
        this number, or with the first one that was stored at this time or later, by the server's clock.
    follow : bool
        Whether to go on where the publisher has ended, for the next one.
    timeout : float, optional
        How long to wait for a stream that has a message, and for a `start` that is to come [s]; without it there must
        be one now, and a time that is to come is waited for where clocks may differ by that, for 5 s.
    durable : str, optional
        A name under which the server keeps what was done, so that another subscriber of it goes on there, whatever
        ends this one. Several subscribers of one name share the stream's shards. Without a `keeper` what was yielded
        counts as done.
    lease : float
        How long a durable subscriber may stand still until others go on in its place [s].

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
    keeper : Keeper or None
        Sees to it that what was yielded is done with; to be set before `batches` is called.
    files : dict
        What is known of the files of the members of the durable name, see `f1buf.telemetry.nats.keeper.Keeper`.
    analysis : dict
        Where the analysis of an earlier subscriber stood, for `f1buf.telemetry.F1TelemetrySystem.start`.
    ended : bool
        Whether the publisher has ended, and all was read.
    missed : int
        How many readings the stream had, and dropped before they were read, as far as publishers' later messages tell.
    forgotten : int
        How many messages the stream had, and dropped before they were read: its limits were reached. (A durable
        subscriber that shares the stream notices that only where it begins to read, or begins anew.)
    rejected : collections.Counter
        How many messages could not be read, by reason.

    Raises
    ------
    StreamError
        No server answers, it refuses the credentials or has no JetStream, there is no such stream, it is another
        program's, the time to begin at is too far in the future, or nats-py or pyarrow is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        start: str | int | datetime.datetime = "start",
        follow: bool = False,
        timeout: float | None = None,
        durable: str | None = None,
        lease: float = 5.0,
    ) -> None:
        if durable is not None and not _DURABLE.fullmatch(durable):
            raise StreamError(f"the durable name is {durable!r}; expected up to 64 letters, digits, - and _")
        super().__init__(DescribedSensors())
        self._address = StreamAddress(url)
        _check_start(start)
        self._start = start
        self._follow = follow
        self.name = f"subscribed to {self._address}"
        self.source = ""
        self.thresholds: tuple[Threshold, ...] | None = None
        self.position = self.missed = self._last = 0
        self._away = ""  # why there is no connection
        self._reader: Reader | None = None
        self._forgotten = 0  # of earlier readers
        self.keeper: Keeper | None = None
        self.ended = False
        self._durable, self._lease = durable, lease
        self._group: Group | None = None
        self._left = threading.Event()  # `batches` has ended
        self._failure: StreamError | None = None  # of the thread that receives
        self._linked = threading.Event()  # and the next two are there
        self._loop: asyncio.AbstractEventLoop | None = None  # of the thread that receives
        self._link: Link | None = None
        self._kept_at = -math.inf
        self._ended_before: set[int] = set()  # shards whose publisher has ended before the beginning
        self._behind = 0  # the number of the message behind which to begin with a shard that nobody has read
        self.rejected: Counter[str] = Counter()
        self._unpacker = Unpacker()
        self._ahead: Queue[tuple[int, Any]] = Queue(_AHEAD)
        self._following: dict[tuple[int, str], int] = {}  # by shard and publisher, how many readings came
        # By shard, as far as was yielded:
        self._places: dict[int, Place] = {}  # the last message
        self._counts: dict[int, int] = {}  # how many readings, of earlier subscribers, too
        self._ends: set[int] = set()  # those whose publisher has ended
        self._shards = prepared(self._address, self._prepare(timeout))
        self._owned = list(range(self._shards)) if self._group is None else self._group.owned
        self._go_on()
        self._ends |= self._ended_before
        self._round = _Round(0, dict(self._places), frozenset(self._ends))

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
            self._last = await link.last_number(info)
            if isinstance(self._start, datetime.datetime):
                await self._until_it_is(self._start, link, max(_SKEW, until - time.monotonic()))
            # By its number: what begins later, or anew, must not begin anywhere else.
            self._behind = await self._number_before(link, self._last)
            shards = check_stream(link, info)
            if self._durable is not None:
                self._group = Group(info, self._durable, shards, self._lease)
                await self._join(link, self._group, int(info["state"]["last_seq"]))
            elif 0 < self._behind < self._last:
                self._ended_before = await self._ended_up_to(link, self._behind, shards)
            await self._learn(link)
            return shards

    async def _join(self, link: Link, group: Group, last: int) -> None:
        """Become a member of the group, unless the stream, which has reached the number `last`, has gone back."""
        try:
            async with asyncio.timeout(_JOINING):
                await group.join(link)
        except TimeoutError as error:
            why = link.trouble or "no answer"
            raise StreamError(f"{self._address}: the server does not keep what is done: {why}") from error
        if (place := group.last_place) > last:
            await group.leave(link)
            raise self._gone_back(place)

    def _gone_back(self, place: int) -> StreamError:
        return StreamError(
            f"{self._address}: the stream has gone back behind message {place:,}, which was read already: "
            f"{went_back('take another durable name to read it anew')}"
        )

    async def _until_it_is(self, moment: datetime.datetime, link: Link, patience: float) -> None:
        """Wait until the server's clock is there: before that the server takes any new message for a later one."""
        while True:
            now = (await link.request(f"STREAM.INFO.{self._address.stream}"))["ts"]
            ahead = (moment.astimezone(datetime.UTC) - datetime.datetime.fromisoformat(now)).total_seconds()
            if ahead > patience:
                raise StreamError(
                    f"{self._address}: {moment.isoformat()} is {ahead:,.0f} s in the future, by the server's clock; "
                    "expected a time that has come, or 'new'; or wait for it (--timeout)"
                )
            if ahead <= 0:
                return
            await asyncio.sleep(ahead)

    async def _number_before(self, link: Link, last: int) -> int:
        """Return the number of the message behind which to begin."""
        if self._start == "new":
            return last
        if not isinstance(self._start, datetime.datetime):
            return 0 if self._start == "start" else int(self._start) - 1
        name, moment = os.urandom(8).hex(), self._start.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
        config = {
            "name": name, "deliver_policy": "by_start_time", "opt_start_time": moment, "ack_policy": "none",
            "mem_storage": True, "num_replicas": 1,
        }  # fmt: skip
        stream = self._address.stream
        subject = f"CONSUMER.CREATE.{stream}.{name}"
        told = await link.request(subject, stream_name=stream, config=config, action="create")
        with contextlib.suppress(RefusedError):
            await link.request(f"CONSUMER.DELETE.{stream}.{name}")
        behind = int(told["delivered"]["stream_seq"])
        return min(behind, await link.last_number(await link.request(f"STREAM.INFO.{stream}")))

    async def _ended_up_to(self, link: Link, place: int, shards: int) -> set[int]:
        """Return the shards whose publisher has ended there before this message or with it: nothing comes of them."""
        last = [await link.last_message(shard) for shard in range(shards)]
        return {shard for shard, (number, headers) in enumerate(last) if number <= place and LAST in headers}

    async def _info(self, link: Link) -> dict[str, Any] | None:
        """What the server says of the stream; None where there is none."""
        try:
            return await explained(self._address, link.request(f"STREAM.INFO.{self._address.stream}"))
        except RefusedError:
            return None

    async def _learn(self, link: Link) -> None:
        """Learn from the first message that will be read; where there is none yet, from the last one."""
        from nats.js.errors import NotFoundError

        begin = self._behind if self._group is None else max(self._behind, self._group.first_place)
        stream, subjects = self._address.stream, f"{self._address.stream}.*"
        manager = link.client.jetstream(timeout=link.answer_s)
        for which in ({"seq": begin + 1, "subject": subjects, "next": True}, {"subject": subjects}):
            with contextlib.suppress(NotFoundError, MessageError, TimeoutError, nats.errors.Error):
                message = await manager.get_msg(stream, **which)
                checksum = (message.headers or {}).get(CHECKSUM, "")
                about: About = self._unpacker.unpack(message.data or b"", checksum).about
                self.source, self.thresholds = about.source, about.thresholds
                return

    def close(self) -> None:
        """Leave the durable name, for one that will not read: others need not wait for its lease."""
        group = self._group
        if group is not None:

            async def leave() -> None:
                async with connected(self._address) as link:
                    await group.leave(link)

            prepared(self._address, leave())

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def forgotten(self) -> int:
        """How many messages the stream had, and dropped before they were read."""
        return self._forgotten + (0 if self._reader is None else self._reader.forgotten)

    @property
    def trouble(self) -> str:
        """Why nothing can come now; empty while all is well."""
        return self._away if self._link is None else self._link.trouble

    @property
    def waits_for_new(self) -> bool:
        """Whether the stream had nothing to be read when this subscriber was made, nor has been read anything since."""
        return self.position == 0 and self._last <= min((place.sequence for place in self._places.values()), default=0)

    def batches(self, stop: threading.Event | None = None) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they come, until the publisher has ended or `stop` is set.

        Their channels are numbered as in this process. A server that is away is waited for. A durable subscriber that
        shares the stream ends once all of its shards were read, whoever reads them.

        Raises
        ------
        StreamError
            The stream was removed, has gone back behind what was read, or others have gone on in place of this durable
            subscriber, since it stood still.
        """
        thread = threading.Thread(target=self._run, name=f"{self.name}: receives", daemon=True)
        thread.start()
        try:
            while not self.ended and (stop is None or not stop.is_set()):
                if self._group is not None and time.monotonic() >= self._keep_at():
                    self._keep(self._group, stop)
                    continue
                try:
                    now, came = self._ahead.get(timeout=_LOOK)
                except Empty:
                    continue
                except ShutDown:
                    self.ended = True
                    break
                if isinstance(came, BaseException):
                    raise came
                for message, unpacked in came if now == self._round.number else ():
                    yield from self._accepted(message, unpacked)
                    if stop is not None and stop.is_set():
                        break
            if self._group is not None:
                self._keep(self._group, stop, leaves=True)
        finally:
            self._left.set()
            self._ahead.shutdown(immediate=True)  # ends the thread where it waits for room
            thread.join(10)

    def _accepted(self, message: Message, unpacked: Unpacked | None) -> Iterator[NDArray[Any]]:
        if unpacked is None:  # what cannot be read is passed over
            self._places[message.shard] = message.place
            self.position = message.sequence
            return
        self._sensors.remember(unpacked.described)
        self.source, self.thresholds = unpacked.about.source, unpacked.about.thresholds
        shard, first = message.shard, int(message.headers.get(FIRST, 0))
        key = shard, message.headers.get(PUBLISHER, "")
        self.missed += max(0, first - self._following.get(key, 0 if self._places[shard].publisher else first))
        if len(unpacked.readings):
            yield unpacked.readings
        self._following[key] = first + len(unpacked.readings)
        self._counts[shard] = self._counts.get(shard, 0) + len(unpacked.readings)
        (self._ends.add if LAST in message.headers else self._ends.discard)(shard)
        self._places[shard] = message.place
        self.position = message.sequence

    # -- a durable subscriber -----------------------------------------------------------------------------------------

    @property
    def files(self) -> dict[str, Any]:
        """What is known of the files of the members of the durable name, see `f1buf.telemetry.nats.keeper.Keeper`."""
        return {} if self._group is None else self._group.record["files"]

    @property
    def analysis(self) -> dict[str, Any]:
        """Where the analysis of the shards that are read stood, for `f1buf.telemetry.F1TelemetrySystem.start`."""
        kept = [] if self._group is None else [self._group.progress(shard) or {} for shard in self._owned]
        known = [each["analysis"] for each in kept if each.get("analysis")]
        over = [row for each in known for row in each["over"]]
        return {
            "readings": sum(each.get("readings", 0) for each in kept),
            "thresholds": known[-1]["thresholds"] if known else "",
            "over": over,
        }

    def _go_on(self) -> None:
        """Begin with the own shards behind what was done with them."""
        for state in (self._places, self._counts, self._following, self._ends):
            state.clear()
        for shard in self._owned:
            self._places[shard] = Place(self._behind)
            if self._group is None or (kept := self._group.progress(shard)) is None:
                continue
            self._places[shard] = Place(*kept["place"])
            self._counts[shard] = kept["readings"]
            self._following |= {(shard, publisher): count for publisher, count in kept["following"]}
            if kept["ended"]:
                self._ends.add(shard)

    def _keep_at(self) -> float:
        """When what was done is to be kept next: sooner where there is nothing to read."""
        return self._kept_at + (_KEEP if self._ends < set(self._owned) else _KEEP_IDLE)

    def _keep(self, group: Group, stop: threading.Event | None, *, leaves: bool = False) -> None:
        """Have all that was yielded done with, and kept; then read the shards that are this one's from now on."""
        self._kept_at = time.monotonic()
        analysis: dict[str, Any] | None = None
        files: dict[str, Any] = {}
        if self.keeper is not None:
            settled = self.keeper.settle(self.ended)
            if settled is None:
                return  # the run is failing
            analysis, files = settled
        progress = {shard: self._progress(shard, analysis) for shard in self._owned}
        self._have_done(lambda link: group.keep(link, progress, files), stop)
        if self.keeper is not None:
            self.keeper.keep()
        if leaves:
            self._have_done(group.leave, stop)
        elif group.owned != self._owned:
            self._owned = group.owned
            self._go_on()
            # What is on its way of the round before is passed over.
            self._round = _Round(self._round.number + 1, dict(self._places), frozenset(self._ends))
            if self.keeper is not None:
                self.keeper.restore(self.analysis)
        elif group.has_ended and not self._follow:
            self.ended = self._have_done(self._is_at_end, stop)

    async def _is_at_end(self, link: Link) -> bool:
        """Whether nothing has come behind what the subscribers of the durable name have read."""
        assert self._group is not None
        try:
            if (info := await self._info(link)) is None:
                return False
            if (place := self._group.last_place) > int(info["state"]["last_seq"]):
                raise self._gone_back(place)
            for shard in range(self._shards):
                place = (self._group.progress(shard) or {"place": [0]})["place"][0]
                if (await link.last_message(shard))[0] > place:
                    return False
        except (TimeoutError, nats.errors.Error, RefusedError):  # the server is away: it is looked at again
            return False
        return True

    def _progress(self, shard: int, analysis: dict[str, Any] | None) -> dict[str, Any]:
        """What is to be kept of a shard."""
        following = [[publisher, count] for (each, publisher), count in self._following.items() if each == shard]
        own = None
        if analysis is not None:
            rows = [
                row | {"over": [each for each in row["over"] if each[0] % self._shards == shard]}
                for row in analysis["over"]
            ]
            own = {"thresholds": analysis["thresholds"], "over": rows}
        return {
            "place": self._places[shard],
            "readings": self._counts.get(shard, 0),
            "following": following[-_FOLLOWED:],
            "ended": shard in self._ends,
            "analysis": own,
        }

    def _have_done(self, act: Callable[[Link], Coroutine[Any, Any, _T]], stop: threading.Event | None) -> _T:
        """Have the other thread do it; where the server is away, wait for it, but once this is to stop not for long."""
        doing: Future[_T] | None = None
        until = math.inf
        while True:
            if doing is None and self._linked.wait(_LOOK):
                assert self._link is not None
                assert self._loop is not None
                doing = asyncio.run_coroutine_threadsafe(act(self._link), self._loop)
            if doing is not None:
                wait((doing,), _LOOK)
                if doing.done() and not doing.cancelled():
                    return doing.result()
            if self._failure is not None:  # the other thread has ended, and cancelled what it was to do
                raise self._failure
            if stop is not None and stop.is_set():
                until = min(until, time.monotonic() + _PATIENCE)
            if time.monotonic() > until:
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
            self._failure = known
            with contextlib.suppress(ShutDown):
                self._ahead.put((0, known))
        self._ahead.shutdown()

    async def _receive(self) -> None:
        await self._first_of(self._work(), self._until_left())

    async def _work(self) -> None:
        async with connected_in_time(self._address, self._note_away) as link:
            self._loop, self._link = asyncio.get_running_loop(), link
            self._linked.set()
            await self._first_of(self._read(link), self._give_signs(link))

    def _note_away(self, why: str) -> None:
        self._away = why.removeprefix(f"{self._address}: ")

    async def _first_of(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        """Run them until one has ended, and raise what it raised; cancel the others."""
        tasks = [asyncio.create_task(each) for each in coroutines]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_left(self) -> None:
        """Return once `batches` has ended, whatever the stream does."""
        while not self._left.is_set():
            await asyncio.sleep(_LOOK)

    async def _give_signs(self, link: Link) -> None:
        """Tell the other subscribers of the durable name that this one is alive, for ever."""
        while True:
            heed_cancellation()
            await asyncio.sleep(self._lease / 5)
            if self._group is not None:
                await self._group.give_sign(link)

    async def _read(self, link: Link) -> None:
        """Read the own shards; anew where these change."""
        while True:
            now = self._round
            reading = asyncio.create_task(self._read_shards(link, now))
            try:
                while self._round is now and not reading.done():
                    await asyncio.wait((reading,), timeout=_LOOK)
                if reading.done():
                    return reading.result()
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _read_shards(self, link: Link, now: "_Round") -> None:
        """Read the shards of a round; returns where their publisher has ended, but for a durable subscriber."""
        if not now.places:
            await asyncio.get_running_loop().create_future()  # until this is cancelled
        ends = set(now.ends)
        self._forgotten = self.forgotten
        self._reader = reader = Reader(link, now.places, is_whole=len(now.places) == self._shards)
        held: list[tuple[Message, Unpacked | None]] = []
        async with contextlib.aclosing(reader.messages()) as messages:
            async for message in messages:
                held.append((message, unpacked := self._opened(message)))
                if not message.pending or len(held) >= _TOGETHER:
                    await self._ahead.aput((now.number, held))
                    held = []
                if unpacked is not None:
                    (ends.add if LAST in message.headers else ends.discard)(message.shard)
                is_end = len(ends) == self._shards and not message.pending
                if is_end and self._group is None and not self._follow:
                    return

    def _opened(self, message: Message) -> Unpacked | None:
        """Unpack a message; None where it cannot be read."""
        try:
            return self._unpacker.unpack(message.data, message.headers.get(CHECKSUM, ""))
        except MessageError as error:
            self.rejected[one_line(error)] += 1
            return None


def _check_start(start: object) -> None:
    is_number = isinstance(start, int) and 1 <= start < 1 << 64
    if not (is_number or isinstance(start, datetime.datetime) or start in ("start", "new")):
        raise ValueError(f"start is {start!r}; expected 'start', 'new', a message's number from 1, or a datetime")
    if isinstance(start, datetime.datetime):
        try:
            start.astimezone(datetime.UTC)
        except OverflowError:
            raise ValueError(f"start is {start}; expected a time that there is in UTC, too") from None
