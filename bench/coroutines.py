"""Threads on one side, coroutines on the other: f1buf against janus and culsans. Ratios, measured in one process.

How it measures: as queues.py, on a new event loop each time. The clock runs from when the thread is let go until both
sides are done.

    to loop     a thread puts, one coroutine gets
    to thread   one coroutine puts, a thread gets
    round trip  a thread puts an item, a coroutine gets it and puts it into a second queue, where the thread gets it;
                then the next
    batches     256 records of 24 bytes (READING) at a time, the bound 65,536 records. f1buf's RingBuffer copies them
                in and out. janus and culsans carry numpy arrays of 256 by reference, the same ready ones again and
                again, and copy nothing; or they carry copies, as a producer needs that uses its own array again, made
                in the fastest way: as bytes (``put(bytearray(block))``, ``np.frombuffer(get(), READING)``)

Beside round trips stands a limit: the same hand-overs through two bare eventfds and a list.

Every run checks that every item arrived once and in order: objects when the clock has stopped, of batches the ends
while it runs (in the warm-up each record). "must" and "aim" are the ratios that the project sets itself. It takes about
three minutes; the table is printed, and goes to --json with every run.
"""

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from common import (
    Pair,
    collector_off,
    compare_pairs,
    comparison_args,
    comparison_parser,
    own_copy,
    require,
    version,
)
from native import limits
from peers import get_each, put_bytes, put_each

import f1buf
from f1buf import READING

BATCH = 256  # records
CYCLE = 4096  # records after which the numbers in the batches begin anew
ROOM = 65536  # records: the bound of batches
MUST, AIM = 2, 5  # times as fast as either peer
HUNG_S = 60.0  # a run takes less than a second

PEERS = ("janus", "culsans")
LIMIT = "eventfds"
LOOPS = ("asyncio", "uvloop")


class Channel(NamedTuple):
    """What a thread calls, what a coroutine awaits, and what is awaited at the end."""

    put: Callable[[Any], Any]
    get: Callable[[], Any]
    aput: Callable[[Any], Awaitable[Any]]
    aget: Callable[[], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]


async def nothing() -> None:
    pass


def f1buf_queue(maxsize: int) -> Channel:
    q = f1buf.Queue(maxsize)
    return Channel(q.put, q.get, q.aput, q.aget, nothing)


def f1buf_ring(capacity: int) -> Channel:
    ring = f1buf.RingBuffer(capacity)
    return Channel(ring.put_many, lambda: ring.get_many(BATCH), ring.aput_many, lambda: ring.aget_many(BATCH), nothing)


def janus_queue(maxsize: int) -> Channel:
    import janus

    q = janus.Queue(maxsize)  # within a loop: before janus 1.2 it needs one

    async def close() -> None:
        q.close()
        await q.wait_closed()

    return Channel(q.sync_q.put, q.sync_q.get, q.async_q.put, q.async_q.get, close)


def culsans_queue(maxsize: int) -> Channel:
    import culsans

    q: Any = culsans.Queue(maxsize)
    return Channel(q.green_put, q.green_get, q.async_put, q.async_get, nothing)  # what `sync_q` and `async_q` call


class Eventfd:
    """The least that wakes a thread or a loop: one item at a time, one way."""

    def __init__(self, maxsize: int) -> None:
        self.loop, self.file = asyncio.get_running_loop(), os.eventfd(0)
        self.items: list[Any] = []
        self.waiting: asyncio.Future[Any] | None = None

    def put(self, item: Any) -> None:
        self.items.append(item)
        os.eventfd_write(self.file, 1)

    def get(self) -> Any:
        os.eventfd_read(self.file)
        return self.items.pop()

    async def aput(self, item: Any) -> None:
        self.put(item)

    async def aget(self) -> Any:
        if self.waiting is None:
            self.loop.add_reader(self.file, self.wake)
        self.waiting = self.loop.create_future()
        if self.items:
            return self.items.pop()
        return await self.waiting

    def wake(self) -> None:
        os.eventfd_read(self.file)
        if self.items and not self.waiting.done():
            self.waiting.set_result(self.items.pop())

    async def close(self) -> None:
        self.loop.remove_reader(self.file)
        os.close(self.file)


def eventfd(maxsize: int) -> Channel:
    file = Eventfd(maxsize)
    return Channel(file.put, file.get, file.aput, file.aget, file.close)


MAKERS: dict[str, Callable[[int], Channel]] = {
    "f1buf": f1buf_queue,
    "f1buf ring": f1buf_ring,
    "janus": janus_queue,
    "culsans": culsans_queue,
    LIMIT: eventfd,
}


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    return importlib.import_module(name).new_event_loop()


@dataclass(frozen=True)
class Case:
    """What is timed."""

    maker: str
    way: str  # "to loop", "to thread" or "round trip"
    bound: int  # items, or arrays; 0: none; of a ring records
    batch: int  # records in an item, 1: it is an object
    items: int  # that a run moves
    loop: str
    copied: bool = False  # arrays: as bytes


@dataclass(frozen=True)
class Row:
    """A comparison with each peer."""

    name: str  # for --only
    title: str
    way: str
    bound: int = 0  # items, or records where there are batches
    batch: int = 1
    copied: bool = False  # by the peers

    @property
    def peers(self) -> tuple[str, ...]:
        return (*PEERS, LIMIT) if self.way == "round trip" else PEERS

    def case(self, peer: str, loop: str, quick: bool) -> Case:
        """`peer` may be f1buf."""
        ours = peer == "f1buf"
        bound = self.bound if ours or self.batch == 1 else self.bound // self.batch
        maker = "f1buf ring" if ours and self.batch > 1 else peer
        return Case(
            maker, self.way, bound, self.batch, self.items(ours) // (10 if quick else 1), loop, self.copied and not ours
        )

    def items(self, ours: bool) -> int:
        """Enough for 20 to 200 ms, so that both sides share out several of the GIL's turns of 5 ms."""
        if self.way == "round trip" or self.bound == 1:
            return 2_000
        if self.batch > 1:
            return CYCLE // self.batch * (2_000 if ours else 400)
        return 200_000 if ours else 10_000


ROWS = (
    Row("to-loop", "to loop, unbounded", "to loop"),
    Row("to-loop", "to loop, of 1,024", "to loop", 1024),
    Row("to-loop", "to loop, of 1", "to loop", 1),
    Row("to-thread", "to thread, unbounded", "to thread"),
    Row("to-thread", "to thread, of 1,024", "to thread", 1024),
    Row("to-thread", "to thread, of 1", "to thread", 1),
    Row("round-trip", "round trip, unbounded", "round trip"),
    Row("batches", f"to loop, batches of {BATCH}", "to loop", ROOM, BATCH),
    Row("batches", f"to loop, batches of {BATCH}, copied", "to loop", ROOM, BATCH, True),
    Row("batches", f"to thread, batches of {BATCH}", "to thread", ROOM, BATCH),
    Row("batches", f"to thread, batches of {BATCH}, copied", "to thread", ROOM, BATCH, True),
)


# The loops: of a thread, and of a coroutine. `seen` looks at a batch.


async def aput_all(aput: Any, items: list[Any]) -> None:
    for item in items:
        await aput(item)


async def aput_copies(aput: Any, blocks: list[Any]) -> None:
    for block in blocks:
        await aput(bytearray(block))


async def aget_all(aget: Any, n: int) -> list[Any]:
    return [await aget() for _ in repeat(None, n)]


def get_batches(get: Any, seen: Any, n: int) -> None:
    while n > 0:
        batch = get()
        seen(batch)
        n -= len(batch)


async def aget_batches(aget: Any, seen: Any, n: int) -> None:
    while n > 0:
        batch = await aget()
        seen(batch)
        n -= len(batch)


def get_copies(get: Any, seen: Any, n: int) -> None:
    frombuffer, dtype = np.frombuffer, READING
    while n > 0:
        batch = frombuffer(get(), dtype)
        seen(batch)
        n -= len(batch)


async def aget_copies(aget: Any, seen: Any, n: int) -> None:
    frombuffer, dtype = np.frombuffer, READING
    while n > 0:
        batch = frombuffer(await aget(), dtype)
        seen(batch)
        n -= len(batch)


def go_around(put: Any, get: Any, items: list[Any]) -> list[Any]:
    back = []
    for item in items:
        put(item)
        back.append(get())
    return back


async def send_back(aget: Any, aput: Any, n: int) -> None:
    for _ in repeat(None, n):
        await aput(await aget())


def make_items(case: Case) -> list[Any]:
    if case.batch == 1:
        return list(range(case.items))
    records = np.zeros(CYCLE, READING)
    records["timestamp"], records["value"] = 1.5, np.arange(CYCLE)
    blocks = list(records.reshape(-1, case.batch))
    return blocks * (case.items // len(blocks))


class Run:
    """One run of a case, on the running loop."""

    def __init__(self, case: Case, full: bool) -> None:
        self.case = case
        self.channel = MAKERS[case.maker](case.bound)
        self.back = MAKERS[case.maker](case.bound) if case.way == "round trip" else self.channel
        self.items = make_items(case)
        self.checker = limits().Checker(cycle=CYCLE) if case.batch > 1 else None
        self.seen = self.checker and (self.checker.every_of if full else self.checker.ends_of)
        self.got: list[Any] | None = None

    def own(self, loop: Any) -> Any:
        return own_copy(loop, self.case)

    def in_thread(self) -> None:
        case = self.case
        if case.way == "to loop":
            self.own(put_bytes if case.copied else put_each)(self.channel.put, self.items, 1)
        elif case.way == "round trip":
            self.got = self.own(go_around)(self.channel.put, self.back.get, self.items)
        elif case.batch > 1:
            self.own(get_copies if case.copied else get_batches)(self.channel.get, self.seen, case.items * case.batch)
        else:
            self.got = self.own(get_each)(self.channel.get, case.items)

    async def in_loop(self) -> None:
        case = self.case
        if case.way == "to thread":
            await self.own(aput_copies if case.copied else aput_all)(self.channel.aput, self.items)
        elif case.way == "round trip":
            await self.own(send_back)(self.channel.aget, self.back.aput, case.items)
        elif case.batch > 1:
            await self.own(aget_copies if case.copied else aget_batches)(
                self.channel.aget, self.seen, case.items * case.batch
            )
        else:
            self.got = await self.own(aget_all)(self.channel.aget, case.items)

    def check(self) -> None:
        if self.checker is None:
            require(self.got == self.items, self.case, "not every item arrived once and in order")
        else:
            count, wrong = self.checker.count, self.checker.wrong
            require(count == self.case.items * self.case.batch, self.case, f"{count} records arrived")
            require(wrong == 0, self.case, f"{wrong} records or batches were not what should have come")


async def time_once(case: Case, full: bool) -> float:
    """Seconds for `case.items` items."""
    run, loop = Run(case, full), asyncio.get_running_loop()
    there, done, go = loop.create_future(), loop.create_future(), threading.Event()

    def thread() -> None:
        loop.call_soon_threadsafe(there.set_result, None)
        go.wait()
        try:
            run.in_thread()
            ended = time.perf_counter()
        except BaseException as error:
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, ended)

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    async with asyncio.timeout(HUNG_S):
        await there
        began = time.perf_counter()
        go.set()
        await run.in_loop()
        ended = time.perf_counter()
        ended = max(ended, await done)
    worker.join(HUNG_S)
    run.check()
    for channel in {run.channel, run.back}:
        await channel.close()
    return ended - began


def run(case: Case, full: bool) -> float:
    """Nanoseconds an item."""
    with collector_off(), asyncio.Runner(loop_factory=lambda: new_loop(case.loop)) as runner:
        return runner.run(time_once(case, full)) / case.items * 1e9


def main() -> None:
    parser = comparison_parser(__doc__, list(dict.fromkeys(row.name for row in ROWS)))
    parser.add_argument("--loop", choices=LOOPS, metavar="NAME", help="asyncio or uvloop (default: what is installed)")
    args = comparison_args(parser)
    there = {"asyncio", LIMIT, *filter(version, (*PEERS, "uvloop"))}
    if not there.intersection(PEERS):
        parser.error("neither janus nor culsans is installed: pip install 'f1buf[bench]'")
    if args.loop == "uvloop" and args.loop not in there:
        parser.error("uvloop is not installed")
    pairs = [
        Pair(
            {"workload": row.title, "loop": loop, "peer": peer},
            row.case("f1buf", loop, args.quick),
            row.case(peer, loop, args.quick),
            *((None, None) if peer == LIMIT else (MUST, AIM)),
        )
        for row in ROWS
        if args.only in (None, row.name)
        for loop in ([args.loop] if args.loop else filter(there.__contains__, LOOPS))
        for peer in row.peers
        if peer in there
    ]
    compare_pairs(args, pairs, run, "ns an item, put and got; of batches a batch, of round trips both ways")


if __name__ == "__main__":
    main()
