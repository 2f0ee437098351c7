"""Coroutines wait in the same lists as threads: what they get, what they leave behind, and how their loops may end.

Each test runs on asyncio's own loop and on uvloop's.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import types
from fractions import Fraction

import numpy as np
import pytest
from helpers import (
    WATCHDOG,
    WITH_GIL,
    Crowd,
    StopError,
    Task,
    check_balance,
    contents,
    forked,
    in_fork,
    in_loop,
    parked,
    ring_with,
    send,
    waiting,
)
from test_ring_signals import signal_first_of_two

from f1buf import Empty, Full, LifoQueue, PriorityQueue, Queue, RingBuffer, ShutDown
from f1buf.core import sync

LOOPS = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class Hooked(Queue):
    """Has the standard library's algorithm."""

    def _get(self):
        return super()._get()


KINDS = [Queue, Hooked, LifoQueue, PriorityQueue]
each_queue = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request):
    if request.param not in LOOPS:
        pytest.skip(f"{request.param} is not installed")
    return LOOPS[request.param]


@pytest.fixture
def run(new_loop):
    """Runs coroutines; each must end in time."""

    def run(main):
        async def watched():
            async with asyncio.timeout(WATCHDOG):
                return await main

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(watched())

    return run


async def none_is_due():
    """The next 31 operations of this thread do not let the loop run first: one just has (see `loop.is_due`)."""
    ring, ran = RingBuffer(1, "i8"), []
    asyncio.get_running_loop().call_soon(ran.append, True)
    while not ran:
        ring.put(0)
        await ring.aget_many()


async def result_of(thread_task):
    """What a helpers.Task returns, while the loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(None, thread_task.result)


# Rings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 7, 1000])
@in_loop
async def test_threads_put_and_coroutines_take(capacity):
    ring = RingBuffer(capacity, "i8")

    def produce():
        for start in range(0, 3000, 30):
            ring.put_many(np.arange(start, start + 30))
        ring.shutdown()

    producer = Task(produce)
    batches = [batch async for batch in ring.abatches()]
    assert np.concatenate(batches).tolist() == list(range(3000))
    producer.result()
    check_balance(ring)


@pytest.mark.parametrize("capacity", [1, 7, 1000])
@in_loop
async def test_coroutines_put_and_threads_take(capacity):
    ring = RingBuffer(capacity, "i8")
    consumer = Task(lambda: np.concatenate(list(ring.batches())).tolist())
    for start in range(0, 3000, 30):
        assert await ring.aput_many(np.arange(start, start + 30)) == 30
    ring.shutdown()
    assert consumer.result() == list(range(3000))
    check_balance(ring)


@in_loop
async def test_a_large_batch_is_copied_whole():
    ring = RingBuffer(50, np.dtype([("number", "i8"), ("bulk", "u1", 70_000)]))
    records = np.zeros(50, ring.dtype)
    records["number"] = range(50)
    records["bulk"] = np.arange(50)[:, None]
    task = await waiting(ring.aget_many(min_count=50))
    assert await ring.aput_many(records) == 50
    assert (await task == records).all()


LARGE = np.dtype([("number", "i8"), ("bulk", "u1", (70_000,))])


@pytest.mark.parametrize("dtype", ["i8", LARGE], ids=["small", "large"])
@in_loop
async def test_the_pieces_of_a_put_do_not_hold_up_the_others(dtype):
    ring = RingBuffer(1, dtype)
    first, piecewise, other = (np.zeros(n, ring.dtype) for n in (1, 2, 1))
    numbers = [batch["number"] if dtype is LARGE else batch for batch in (first, piecewise, other)]
    for batch, values in zip(numbers, ([0], [1, 2], [3]), strict=True):
        batch[:] = values
    ring.put_many(first)
    await none_is_due()
    await waiting(ring.aput_many(piecewise), ring.aput_many(other))
    got = []
    for _ in range(4):
        record = await ring.aget_many()
        got += (record["number"] if dtype is LARGE else record).tolist()
        while len(got) < 4 and not len(ring):
            await asyncio.sleep(0)
    assert got == [0, 1, 3, 2]


@pytest.mark.parametrize("dtype", ["i8", LARGE], ids=["small", "large"])
@in_loop
async def test_a_long_wait_in_the_main_thread_ends_as_a_short_one(dtype):
    """It lasts for longer than a thread there goes without looking for signals: here the loop does that."""
    ring = RingBuffer(1, dtype)
    records = np.zeros(1, ring.dtype)
    get = await waiting(ring.aget_many())
    await asyncio.sleep(0.06)
    for _ in range(2):  # the first one is overtaken
        ring.put_many(records)
        ring.get_nowait()
        await asyncio.sleep(0.01)
        assert not get.done()
    ring.put_many(records)
    put = asyncio.ensure_future(ring.aput_many(records))
    assert len(await get) == 1
    assert await put == 1
    put = await waiting(ring.aput_many(records))
    await asyncio.sleep(0.06)
    ring.get_nowait()
    ring.put_many(records)
    await asyncio.sleep(0.01)
    assert not put.done()
    ring.get_nowait()
    assert await put == 1


@in_loop
async def test_records_that_are_there_are_taken_at_once():
    ring = ring_with(1, 2, 3)
    assert (await ring.aget_many(2)).tolist() == [1, 2]
    seq, batch = await ring.aget_many(return_seq=True)
    assert (seq, batch.tolist()) == (2, [3])
    assert batch.flags.owndata


@in_loop
async def test_it_waits_for_min_count():
    ring = RingBuffer(8, "i8")
    task = await waiting(ring.aget_many(5, min_count=3, return_seq=True))
    ring.put_many([1, 2])
    await asyncio.sleep(0)
    assert not task.done()
    ring.put_many([3, 4])
    seq, batch = await task
    assert (seq, batch.tolist()) == (0, [1, 2, 3, 4])
    assert ring.stats().get_waits == 1
    assert ring.stats().get_wait_seconds > 0


@in_loop
async def test_a_batch_that_fits_the_ring_enters_together_or_not_at_all():
    ring = ring_with(1, 2, capacity=4)
    task = await waiting(ring.aput_many([3, 4, 5]))
    assert contents(ring) == [1, 2]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert contents(ring) == [1, 2]
    assert ring.stats().offered == 2
    task = await waiting(ring.aput_many([3, 4, 5]))
    ring.get()
    assert await task == 3
    assert contents(ring) == [2, 3, 4, 5]


@in_loop
async def test_a_batch_that_does_not_fit_the_ring_enters_piece_by_piece():
    ring = RingBuffer(4, "i8")
    task = await waiting(ring.aput_many(range(10)))
    assert ring.get_many().tolist() == [0, 1, 2, 3]
    while not ring.full():
        await asyncio.sleep(0)
    ring.shutdown()
    assert await task == 8
    assert contents(ring) == [4, 5, 6, 7]


@pytest.mark.parametrize(("overflow", "left"), [("drop_oldest", [3, 4, 5]), ("drop_newest", [0, 1, 2])])
@in_loop
async def test_under_a_drop_policy_a_put_does_not_wait_for_room(overflow, left):
    ring = RingBuffer(3, "i8", overflow=overflow)
    assert await ring.aput_many(range(6)) == 6
    assert contents(ring) == left
    check_balance(ring)


def test_nothing_to_put_is_put(run):
    assert run(RingBuffer(1, "i8").aput_many([])) == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ring: ring.aget_many(0), ValueError),
        (lambda ring: ring.aget_many(min_count=3), ValueError),
        (lambda ring: ring.aget_many(min_count=1.5), TypeError),
        (lambda ring: ring.aput_many([1.5]), TypeError),
        (lambda ring: ring.aput_many("text"), (TypeError, ValueError)),
    ],
)
def test_bad_arguments_change_nothing(run, call, error):
    ring = ring_with(1, 2)
    with pytest.raises(error):
        run(call(ring))
    assert contents(ring) == [1, 2]


@pytest.mark.parametrize("arguments", [{"min_count": 3}, {"max_count": -1}])
def test_bad_batches_are_refused_as_the_first_is_asked_for(run, arguments):
    with pytest.raises(ValueError, match="expected"):
        run(anext(ring_with(1, 2).abatches(**arguments)))


@in_loop
async def test_a_coroutine_waits_for_its_own_threads_block():
    ring = RingBuffer(4, "i8")
    with ring.reserve(2) as block:
        block.array[:] = 1, 2
        task = await waiting(ring.aput_many([3]))
    assert await task == 1
    with ring.peek(1):
        task = await waiting(ring.aget_many(1))
    assert (await task).tolist() == [2]


# Queues ---------------------------------------------------------------------------------------------------------------


@each_queue
@pytest.mark.parametrize("maxsize", [0, 1, 10])
@in_loop
async def test_items_go_from_threads_to_coroutines(kind, maxsize):
    queue = kind(maxsize)

    def produce():
        for i in range(1000):
            queue.put(i)
        queue.shutdown()

    producer, got = Task(produce), []
    with contextlib.suppress(ShutDown):
        while True:
            got.append(await queue.aget())
    assert sorted(got) == list(range(1000))
    producer.result()


@each_queue
@pytest.mark.parametrize("maxsize", [0, 1, 10])
@in_loop
async def test_items_go_from_coroutines_to_threads_and_are_joined(kind, maxsize):
    queue, got = kind(maxsize), []

    def consume():
        with contextlib.suppress(ShutDown):
            while True:
                got.append(queue.get())
                queue.task_done()

    consumer = Task(consume)
    for i in range(1000):
        await queue.aput(i)
    await queue.ajoin()
    assert sorted(got) == list(range(1000))
    queue.shutdown()
    consumer.result()


@each_queue
@in_loop
async def test_a_queue_passes_items_between_coroutines(kind):
    queue = kind(2)
    item = (1, "an item")

    async def produce():
        for _ in range(100):
            await queue.aput(item)

    producer = asyncio.ensure_future(produce())
    assert all([await queue.aget() is item for _ in range(100)])
    await producer


@in_loop
async def test_waiters_go_on_where_a_queue_takes_the_standard_algorithm():
    queue = Queue(1)
    getting = await waiting(queue.aget())
    assert queue.mutex is not None
    queue.put(1)
    assert await getting == 1
    queue = Queue(1)
    queue.put(1)
    putting, joining = await waiting(queue.aput(2), queue.ajoin())
    assert queue.mutex is not None
    assert queue.get() == 1
    await putting
    assert queue.get() == 2
    queue.task_done()
    queue.task_done()
    await joining


def test_a_join_of_what_is_done_returns_at_once(run):
    for kind in KINDS:
        run(kind().ajoin())


def test_a_hook_that_raises_ends_its_coroutine_and_the_next_one_is_told(run):
    class Picky(Queue):
        def _get(self):
            item = super()._get()
            if item == "bad":
                raise ZeroDivisionError
            return item

    async def main():
        queue = Picky()
        first, second = await waiting(queue.aget(), queue.aget())
        queue.put("bad")
        with pytest.raises(ZeroDivisionError):
            await first
        queue.put("good")
        assert await second == "good"

    run(main())


@pytest.mark.parametrize("side", ["get", "put"])
def test_a_coroutine_whose_hook_raises_as_it_looks_passes_its_notification_on(run, side):
    class Failing(Queue):
        fails = False

        def _qsize(self):
            if self.fails:
                self.fails = False
                raise ZeroDivisionError
            return super()._qsize()

    async def main():
        queue = Failing(1)
        if side == "put":
            queue.put(0)
        call = queue.aget if side == "get" else lambda: queue.aput(1)
        first, second = await waiting(call(), call())
        queue.put(1) if side == "get" else queue.get()
        queue.fails = True
        with pytest.raises(ZeroDivisionError):
            await first
        await second

    run(main())


# Batches of queues ----------------------------------------------------------------------------------------------------


@each_queue
@pytest.mark.parametrize("maxsize", [0, 1, 7])
@in_loop
async def test_batches_go_between_threads_and_coroutines(kind, maxsize):
    there, back = kind(maxsize), kind(maxsize)

    def relay():
        with contextlib.suppress(ShutDown):
            while True:
                back.put_many(there.get_many())
        back.shutdown()

    async def produce():
        for start in range(0, 1500, 30):
            assert await there.aput_many(range(start, start + 30)) == 30
        there.shutdown()

    thread, producer, got = Task(relay), asyncio.ensure_future(produce()), []
    with contextlib.suppress(ShutDown):
        while True:
            got += await back.aget_many(20)
    await producer
    await result_of(thread)
    assert sorted(got) == list(range(1500))
    assert kind not in (Queue, Hooked) or got == sorted(got)
    assert there.unfinished_tasks == 1500
    there._check()


@each_queue
@in_loop
async def test_items_that_are_there_are_taken_at_once_as_a_batch(kind):
    queue = kind()
    assert await queue.aput_many("abc") == 3
    first = await queue.aget_many(2)
    assert len(first) == 2
    assert sorted(first + await queue.aget_many()) == ["a", "b", "c"]
    assert gc.is_tracked(first)
    task = await waiting(queue.aget_many())
    queue.put(1)
    assert await task == [1]


@in_loop
async def test_a_batch_waits_for_min_count_or_for_a_full_queue():
    queue = Queue(4)
    task = await waiting(queue.aget_many(5, min_count=3))
    queue.put_many([1, 2])
    await asyncio.sleep(0.01)
    assert not task.done()
    queue.put_many([3, 4])
    assert await task == [1, 2, 3, 4]
    task = await waiting(queue.aget_many(min_count=9))
    queue.put_many([1, 2, 3])
    await asyncio.sleep(0.01)
    assert not task.done()
    queue.put(4)
    assert await task == [1, 2, 3, 4]
    task = await waiting(queue.aget_many(min_count=3))
    queue.put_many([1, 2])
    queue.maxsize = 2
    assert await task == [1, 2]
    task = await waiting(queue.aget_many(min_count=2))
    queue.put(1)
    queue.shutdown()
    assert await task == [1]


@in_loop
async def test_a_get_that_needs_fewer_is_served_beside_one_that_waits_for_more():
    queue = Queue()
    many, one = await waiting(queue.aget_many(min_count=3), queue.aget())
    queue.put(1)
    assert await one == 1
    queue.put_many([2, 3, 4])
    assert await many == [2, 3, 4]


@in_loop
async def test_a_batch_that_fits_the_queue_is_put_together_or_not_at_all():
    queue = Queue(4)
    queue.put_many([1, 2])
    task = await waiting(queue.aput_many([3, 4, 5]))
    assert queue.qsize() == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert queue.qsize() == queue.unfinished_tasks == 2
    task = await waiting(queue.aput_many([3, 4, 5]))
    queue.get()
    assert await task == 3
    assert queue.get_many() == [2, 3, 4, 5]


@in_loop
async def test_room_that_a_cancelled_batch_was_granted_goes_to_the_next():
    queue = Queue(4)
    queue.put_many([0, 0, 0, 0])
    cancelled, next_one = await waiting(queue.aput_many([1, 2, 3]), queue.aput(4))
    queue.get_many(3)
    cancelled.cancel()
    await next_one
    assert queue.get_many() == [0, 4]


@in_loop
async def test_a_batch_that_waits_for_room_takes_less_where_the_bound_falls():
    queue = Queue(4)
    queue.put_many([0, 0])
    task = await waiting(queue.aput_many([1, 2, 3]))
    queue.maxsize = 2
    assert queue.get_many() == [0, 0]
    while not queue.full():
        await asyncio.sleep(0)
    assert queue.get_many() == [1, 2]
    assert await task == 3
    assert queue.get_many() == [3]


@pytest.mark.parametrize("kind", [Queue, Hooked])
@in_loop
async def test_a_batch_that_does_not_fit_the_queue_is_put_piece_by_piece(kind):
    queue = kind(4)
    task = await waiting(queue.aput_many(range(10)))
    assert queue.get_many() == [0, 1, 2, 3]
    while not queue.full():
        await asyncio.sleep(0)
    queue.shutdown()
    assert await task == 8
    assert queue.get_many() == [4, 5, 6, 7]
    assert queue.unfinished_tasks == 8


@each_queue
def test_nothing_to_put_into_a_queue_is_put(run, kind):
    assert run(kind(1).aput_many([])) == 0


@each_queue
@in_loop
async def test_a_batch_cannot_be_put_into_a_queue_that_is_shut_down(kind):
    queue = kind()
    queue.shutdown()
    with pytest.raises(ShutDown):
        await queue.aput_many([1])
    with pytest.raises(ShutDown):
        await queue.aget_many()


@pytest.mark.parametrize("arguments", [{"max_count": 0}, {"min_count": 0}, {"max_count": 2, "min_count": 3}])
def test_bad_batches_of_a_queue_change_nothing(run, arguments):
    queue = Queue()
    queue.put_many([1, 2, 3])
    with pytest.raises(ValueError, match="expected"):
        run(queue.aget_many(**arguments))
    with pytest.raises(TypeError):
        run(queue.aput_many(5))
    assert queue.get_many() == [1, 2, 3]


@in_loop
async def test_batches_that_wait_go_on_where_a_queue_takes_the_standard_algorithm():
    queue = Queue(2)
    getting = await waiting(queue.aget_many())
    assert queue.mutex is not None
    queue.put(1)
    assert await getting == [1]
    queue = Queue(2)
    queue.put(0)
    putting = await waiting(queue.aput_many([1, 2]))
    assert queue.mutex is not None
    assert queue.get() == 0
    assert await putting == 2
    assert queue.get_many() == [1, 2]


@in_loop
async def test_without_memory_a_batch_is_not_put():
    """What can be, in part, is, and the rest is still the caller's."""
    queue = Queue(2)
    queue.put(0)
    sync._fail_wait(1)
    with pytest.raises(MemoryError):
        await queue.aput_many([1, 2])
    assert queue.get_many() == [0]
    sync._fail_wait(1)
    assert await queue.aput_many([1, 2, 3]) == 2
    assert sync._fail_wait(0) == 0
    assert queue.get_many() == [1, 2]
    assert queue.unfinished_tasks == 3


def test_batches_are_freed_with_what_they_hold(run):
    """Of what is taken, put, or put in part, no reference is lost, and none too many is given back."""

    class Item:
        pass

    async def main():
        queue = Queue(4)
        task = await waiting(queue.aput_many(items))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await queue.aget_many(3) == items[:3]
        task = await waiting(queue.aput_many(items[:4]))
        queue.shutdown()
        with pytest.raises(ShutDown):
            await task
        assert await queue.aget_many() == items[3:4]

    items = [Item() for _ in range(6)]
    before = [*map(sys.getrefcount, items)]
    run(main())
    gc.collect()
    assert [*map(sys.getrefcount, items)] == before


def test_a_queue_before_its_init_says_so(run):
    with pytest.raises(AttributeError, match="__init__"):
        run(Queue.__new__(Queue).aget())


# Cancelled, timed out -------------------------------------------------------------------------------------------------


@each_queue
@in_loop
async def test_a_timeout_takes_nothing(kind):
    queue = kind()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.aget()
    queue.put(1)
    assert queue.get_nowait() == 1


@in_loop
async def test_a_timeout_of_a_ring_takes_nothing():
    ring = RingBuffer(2, "i8")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ring.aget_many()
    ring.put_many([1, 2])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ring.aput_many([3])
    assert contents(ring) == [1, 2]
    check_balance(ring)


def made(kind, size=4):
    return kind(size, "i8") if issubclass(kind, RingBuffer) else kind(size)


class Ways:
    """By which coroutines and threads get from a buffer, and others put."""

    def __init__(self, kind, size=4):
        self.buffer = made(kind, size)
        self.put = self.buffer.put
        self.is_ring = isinstance(self.buffer, RingBuffer)

    async def aget(self):
        return int((await self.buffer.aget_many(1))[0]) if self.is_ring else await self.buffer.aget()

    async def aput(self, item):
        await (self.buffer.aput_many([item]) if self.is_ring else self.buffer.aput(item))

    def get(self, **how):
        return int(self.buffer.get(**how)) if self.is_ring else self.buffer.get(**how)


each_kind = pytest.mark.parametrize("kind", [RingBuffer, *KINDS])


@each_kind
@in_loop
async def test_the_grant_of_a_cancelled_get_goes_to_the_next(kind):
    """It is cancelled after the item came for it and before it ran."""
    ways = Ways(kind)
    cancelled, next_one = await waiting(ways.aget(), ways.aget())
    ways.put(1)
    cancelled.cancel()
    assert await next_one == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    cancelled = await waiting(ways.aget())
    thread = parked(ways.get)
    ways.put(2)
    cancelled.cancel()
    assert await result_of(thread) == 2


@each_kind
@in_loop
async def test_the_room_that_a_cancelled_put_was_granted_goes_to_the_next(kind):
    ways = Ways(kind)
    for i in range(4):
        ways.put(i)
    cancelled, next_one = await waiting(ways.aput(4), ways.aput(5))
    ways.get()
    cancelled.cancel()
    await next_one
    left = sorted(ways.get(block=False) for _ in range(4))
    assert 5 in left
    assert 4 not in left


@in_loop
async def test_a_cancelled_join_leaves_nothing_behind():
    for kind in KINDS:
        queue = kind()
        queue.put(1)
        joining, other = await waiting(queue.ajoin(), queue.ajoin())
        joining.cancel()
        queue.get()
        queue.task_done()
        await other


@each_kind
@in_loop
async def test_cancelled_amid_traffic_loses_nothing(kind):
    """Coroutines are cancelled again and again while threads put; all that was put is in what the others returned."""
    ways, got = Ways(kind), []
    producer = Task(lambda: [ways.put(i) for i in range(2000)])
    while len(got) < 2000:
        tasks = [asyncio.ensure_future(ways.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        missing = 2000 - len(got)
        if missing < 3:
            await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        got += [it for it in done if not isinstance(it, asyncio.CancelledError)]
    producer.result()
    assert sorted(got) == list(range(2000))
    with pytest.raises(Empty):
        ways.get(block=False)


@pytest.mark.parametrize("kind", [RingBuffer, Queue, Hooked])
@in_loop
async def test_first_come_first_served(kind):
    """Also where several are served at once."""
    ways = Ways(kind)
    tasks = await waiting(*[ways.aget() for _ in range(4)])
    ways.buffer.put_many([0, 1, 2, 3])
    assert [await task for task in tasks] == [0, 1, 2, 3]
    ways.buffer.put_many([0, 1, 2, 3])
    tasks = await waiting(*[ways.aput(i) for i in (4, 5, 6, 7)])
    assert len(ways.buffer.get_many()) == 4
    await asyncio.gather(*tasks)
    assert list(ways.buffer.get_many()) == [4, 5, 6, 7]


@each_kind
def test_a_loop_without_memory_for_a_future_waits_for_nothing(new_loop, kind):
    ways = Ways(kind)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        loop = runner.get_loop()

        async def main():
            def create_future():
                raise MemoryError("no future")

            loop.create_future = create_future
            try:
                with pytest.raises(MemoryError, match="no future"):
                    await ways.aget()
            finally:
                del loop.create_future

        runner.run(main())
    ways.put(1)
    assert ways.get(block=False) == 1
    ways.buffer._check()


@pytest.mark.parametrize("told", [False, True], ids=["queued", "told"])
@forked
def test_a_cancelled_wait_on_a_condition_is_withdrawn_whatever_signal_handlers_raise(told):
    """It is cancelled while a hook holds the mutex, and a signal comes as it waits for that."""
    holds, goes_on = threading.Event(), threading.Event()

    class Slow(Queue):
        def _qsize(self):
            if threading.current_thread() is not threading.main_thread():
                holds.set()
                goes_on.wait(WATCHDOG)
            return super()._qsize()

    def handler(*_):
        goes_on.set()
        raise StopError

    signal.signal(signal.SIGUSR1, handler)

    async def main():
        queue = Slow()
        task, other = await waiting(queue.aget(), queue.aget())
        if told:
            queue.put(1)
        holder = Task(queue.qsize)
        assert holds.wait(WATCHDOG)
        task.cancel()
        send(signal.SIGUSR1)
        with pytest.raises(StopError):
            await task
        holder.result()
        if not told:
            queue.put(1)
        async with asyncio.timeout(WATCHDOG / 2):
            assert await other == 1
        assert not queue.not_empty._waiters

    asyncio.run(main())


@forked
def test_a_coroutine_and_its_loop_may_end_at_once(new_loop):
    """In two threads, both of which wait for the mutex that a third has."""
    queue, loop, holds, goes_on = Hooked(), new_loop(), threading.Event(), threading.Event()
    coroutine = queue.aget()
    task = loop.create_task(coroutine)
    task._log_destroy_pending = False
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))

    def hold():
        with queue.mutex:
            holds.set()
            goes_on.wait(WATCHDOG)

    holder = Task(hold)
    assert holds.wait(WATCHDOG)
    ends = [parked(coroutine.close)]
    ends.append(Task(loop.close))
    goes_on.set()
    for end in (holder, *ends):
        end.result()

    async def use_nodes():
        queues = [Queue() for _ in range(4)]
        tasks = await waiting(*[it.aget() for it in queues])
        for i, it in enumerate(queues):
            it.put(i)
        async with asyncio.timeout(WATCHDOG / 2):
            assert [await it for it in tasks] == [0, 1, 2, 3]

    asyncio.run(use_nodes())


@each_kind
@pytest.mark.parametrize("granted", [False, True], ids=["queued", "granted"])
@pytest.mark.parametrize("ends", ["coroutine", "loop"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_in_the_child_of_a_fork_a_wait_ends_without_a_trace(new_loop, kind, granted, ends):
    """Of the parent's loop nobody waits there; in the parent it goes on."""
    ways, loop = Ways(kind), new_loop()
    coroutine = ways.aget()
    task = loop.create_task(coroutine)
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    if granted:
        ways.put(1)

    def check():
        if granted:
            assert ways.get(block=False) == 1
        thread = parked(ways.get)
        if ends == "coroutine":
            coroutine.close()
        else:
            loop.close()
        ways.put(2)
        assert thread.result() == 2
        ways.buffer._check()

    in_fork(check)
    if ends == "coroutine":  # a loop that a child closes polls no more in the parent either: they share its epoll
        if not granted:
            ways.put(1)
        assert loop.run_until_complete(task) == 1
    task._log_destroy_pending = False
    loop.close()


@in_loop
async def test_a_parents_loop_does_not_wait_in_the_child():
    coroutine = Queue().aget()
    future = coroutine.send(None)
    while future is None:  # it let the loop run first
        future = coroutine.send(None)

    def check():
        future.set_result(None)
        with pytest.raises(RuntimeError, match="in the child run another one"):
            coroutine.send(None)

    in_fork(check)
    coroutine.close()


@in_loop
async def test_without_memory_to_wait_nothing_changes():
    ring, queue = RingBuffer(1, "i8"), Queue(1)
    for call in (ring.aget_many, queue.aget):
        sync._fail_wait(1)
        with pytest.raises(MemoryError):
            await call()
    ring.put(1)
    queue.put(1)
    for call in (lambda: ring.aput_many([2]), lambda: queue.aput(2)):
        sync._fail_wait(1)
        with pytest.raises(MemoryError):
            await call()
    assert sync._fail_wait(0) == 0
    assert contents(ring) == [1]
    assert queue.get_many() == [1]


# Coroutines that always find something --------------------------------------------------------------------------------


@each_kind
@in_loop
async def test_a_timeout_comes_to_a_coroutine_that_never_waits(kind):
    ways = Ways(kind)

    async def circle():
        for _ in range(1_000_000):
            await ways.aput(1)
            await ways.aget()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await circle()


@each_kind
@in_loop
async def test_coroutines_that_never_wait_run_side_by_side(kind):
    ways, turns = Ways(kind), []

    async def circle(name):
        for _ in range(20_000):
            turns.append(name)
            await ways.aput(1)
            assert await ways.aget() == 1

    await asyncio.gather(circle("a"), circle("b"))
    assert turns.index("b") < 20_000


@in_loop
async def test_a_put_many_that_has_put_everything_does_not_wait_any_more():
    """Where it let its loop run then, it could be cancelled as if it had not."""
    ring, pauses = RingBuffer(4, "i8"), 0

    @types.coroutine
    def watched(coroutine, all_in):
        nonlocal pauses
        while True:
            try:
                what = coroutine.send(None)
            except StopIteration as end:
                return end.value
            if what is None:  # it lets the loop run
                pauses += 1
                assert ring.stats().offered < all_in
            yield what

    consumer = Task(lambda: sum(len(batch) for batch in ring.batches()))
    rounds = 0
    while pauses < 20:
        rounds += 1
        assert await watched(ring.aput_many(range(8)), rounds * 8) == 8
    ring.shutdown()
    assert consumer.result() == rounds * 8


# Shutdown, and the end of a loop --------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("immediate", [False, True])
@in_loop
async def test_a_shutdown_wakes_coroutines(kind, immediate):
    ways = Ways(kind)
    tasks = await waiting(ways.aget(), ways.aget(), ways.aget())
    Task(ways.buffer.shutdown, immediate).result()
    for task in tasks:
        with pytest.raises(ShutDown):
            await task
    with pytest.raises(ShutDown):
        await ways.aget()
    with pytest.raises(ShutDown):
        await ways.aput(1)
    ways = Ways(kind)
    for i in range(4):
        ways.put(i)
    task = await waiting(ways.aput(4))
    ways.buffer.shutdown(immediate)
    with pytest.raises(ShutDown):
        await task


@in_loop
async def test_after_a_shutdown_the_items_left_are_taken():
    ring = ring_with(1, 2, 3)
    ring.shutdown()
    assert [batch.tolist() async for batch in ring.abatches(2)] == [[1, 2], [3]]


@each_kind
@pytest.mark.parametrize("granted", [False, True], ids=["queued", "granted"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*was never awaited")
def test_a_loop_that_is_closed_while_it_waits_keeps_nothing(new_loop, kind, granted):
    """Its coroutine was granted the item that came, or the next one; a thread that waits gets it."""
    ways = Ways(kind)
    loop = new_loop()
    task = loop.create_task(ways.aget())
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    if granted:
        thread = parked(ways.get)
        ways.put(1)
        loop.close()
    else:
        loop.close()
        thread = parked(ways.get)
        ways.put(1)
    assert thread.result() == 1
    task._log_destroy_pending = False
    ways.buffer._check()


@pytest.mark.parametrize("kind", [RingBuffer, Queue])
@pytest.mark.parametrize("side", ["gets", "puts"])
def test_a_loop_that_does_not_run_keeps_nobody_else_waiting(new_loop, kind, side):
    """Its coroutine is granted one item or slot of two; the other is for the next waiter: a coroutine, a thread."""
    buffer = RingBuffer(3, "i8") if kind is RingBuffer else kind(3)
    loops = [new_loop() for _ in range(2)]
    tasks = []
    if side == "puts":
        buffer.put_many([0, 0, 0])
    for loop in loops:
        gets = buffer.aget_many(1) if kind is RingBuffer else buffer.aget()
        puts = buffer.aput_many([1]) if kind is RingBuffer else buffer.aput(1)
        tasks.append(loop.create_task(gets if side == "gets" else puts))
        loop.run_until_complete(asyncio.sleep(0))
        (puts if side == "gets" else gets).close()
    if side == "gets":
        thread = parked(buffer.get)
        buffer.put_many([1, 2, 3])
    else:
        thread = parked(buffer.put, 1)
        buffer.get_many(3)
    thread.result()
    loops[1].run_until_complete(tasks[1])
    assert not tasks[0].done()
    loops[0].run_until_complete(tasks[0])
    buffer._check()
    for loop in loops:
        loop.close()


def test_a_loop_that_is_closed_lets_go_of_its_file(new_loop):
    def wait_once():
        loop = new_loop()
        with contextlib.suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(Queue().aget(), 0.001))
        loop.close()

    wait_once()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        wait_once()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def shared(kind, takers, putters):
    """Each of `takers` and of `putters` runs, in a thread, what it is given with a buffer's ways; nothing is lost."""
    ways, got, consumers, producers, each = Ways(kind), [], Crowd(), Crowd(), 300
    for taker in takers:
        consumers.start(taker, ways, got)
    for number, putter in enumerate(putters):
        producers.start(putter, ways, range(number * each, (number + 1) * each))
    producers.join()
    ways.buffer.shutdown()
    consumers.join()
    assert sorted(got) == list(range(len(putters) * each))


async def aget_all(ways, got):
    with contextlib.suppress(ShutDown):
        while True:
            got.append(await ways.aget())


async def ten_take(ways, got):
    await asyncio.gather(*[aget_all(ways, got) for _ in range(10)])


async def aput_all(ways, items):
    for item in items:
        await ways.aput(item)


def get_all(ways, got):
    with contextlib.suppress(ShutDown):
        while True:
            got.append(ways.get())


def put_all(ways, items):
    for item in items:
        ways.put(item)


@pytest.mark.parametrize("kind", [RingBuffer, Queue, PriorityQueue])
def test_coroutines_of_several_loops_and_threads_share_a_buffer(new_loop, kind):
    """Three loops of ten coroutines and two threads take what two loops and two threads put."""

    def of_loop(main):
        def run(*args):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main(*args))

        return run

    shared(kind, [of_loop(ten_take)] * 3 + [get_all] * 2, [put_all, of_loop(aput_all)] * 2)


# What it costs --------------------------------------------------------------------------------------------------------


@in_loop
async def test_waiting_takes_no_thread_and_does_not_poll():
    ring, queue = RingBuffer(1, "i8"), Queue()
    threads = set(threading.enumerate())  # one of an earlier test's may end meanwhile
    tasks = await waiting(*[ring.aget_many() for _ in range(500)], *[queue.aget() for _ in range(500)])
    assert set(threading.enumerate()) <= threads
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    await asyncio.sleep(0.3)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 10
    for task in tasks:
        task.cancel()


@in_loop
async def test_memory_stays_flat():
    """Nodes, bells and futures of waits that ended are used again or freed."""
    ring, queue = RingBuffer(1, "i8"), Queue()

    async def wait_often(times):
        for _ in range(times):
            for coroutine in (ring.aget_many(), queue.aget()):
                task = await waiting(coroutine)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    await wait_often(100)
    gc.collect()
    before = len(gc.get_objects())
    await wait_often(1000)
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_a_program_without_coroutines_does_not_import_asyncio():
    code = "import sys, f1buf; f1buf.Queue().put(1); f1buf.RingBuffer(1); assert 'asyncio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not WITH_GIL, reason="asyncio.run and signals are the same with a GIL and without")
def test_ctrl_c_ends_a_coroutine_that_waits():
    code = """if True:
        import asyncio, signal, threading
        from f1buf import Queue
        queue = Queue()
        async def main():
            asyncio.get_running_loop().call_later(0.1, signal.raise_signal, signal.SIGINT)
            await queue.aget()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            queue.put(1)
            assert queue.get_nowait() == 1
            print("ended")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WATCHDOG, check=True)
    assert done.stdout == "ended\n"


@pytest.mark.parametrize("kind", [None, *KINDS])
@forked
def test_a_loop_in_a_signal_handler_gives_up_the_main_threads_promise(kind):
    """The other get takes the record, and brings by that what the loop waits for: room, or an item in a queue.

    On asyncio's own loop only: uvloop changes how signals arrive.
    """
    ring, queue = RingBuffer(1, "i8"), kind and kind()

    def second():
        number = ring.get()
        if queue is not None:
            queue.put(number)
            ring.put(6)
        return number

    def handler(*_):
        asyncio.run(ring.aput_many([6]) if queue is None else queue.aget())

    assert signal_first_of_two(ring.get, second, lambda: ring.put(5), handler) == (6, 5)
    check_balance(ring)


def test_where_a_signal_handler_raises_as_a_loop_answers_the_others_go_on():
    """The handler runs in `call_soon`, which is Python's where the loop is asyncio's own."""

    class Loop(asyncio.SelectorEventLoop):
        stops = False

        def call_soon(self, *args, **how):
            if self.stops:
                self.stops = False
                raise StopError
            return super().call_soon(*args, **how)

    async def main():
        ring, loop, stopped = RingBuffer(4, "i8"), asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: stopped.append(context["exception"]))
        tasks = await waiting(*[ring.aget_many(1) for _ in range(3)])
        ring.put_many([1, 2, 3])
        loop.stops = True
        await asyncio.sleep(0.05)
        assert [*map(type, stopped)] == [StopError]
        assert sum(task.done() for task in tasks) == 2
        for task in tasks:  # of one asyncio has lost that it is to go on
            task._log_destroy_pending = False

    loop = Loop()  # no Runner, which would wait for the one
    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("name", ["aget", "aput"])
def test_an_empty_or_full_of_a_hooks_own_comes_to_the_caller(name):
    """It does not mean that there is nothing: the loop would ask again and again."""

    class Delayed(Queue):
        def _get(self):
            raise Empty

        def _put(self, item):
            if item == "too much":
                raise Full
            super()._put(item)

    async def main():
        queue = Delayed()
        queue.put(1)
        with pytest.raises(Empty if name == "aget" else Full):
            await (queue.aget() if name == "aget" else queue.aput("too much"))

    asyncio.run(main())


def test_a_batch_that_only_python_can_order_is_as_long_as_was_asked_for():
    async def main():
        queue = PriorityQueue()
        queue.put_many([(1,), (2,), (3, Fraction(1)), (3, Fraction(2))])
        assert not queue.is_converted
        return await queue.aget_many(4, min_count=4)

    assert len(asyncio.run(main())) == 4


def test_the_child_of_a_fork_rings_no_bell_of_its_parents():
    """Whatever is open under that number there."""

    async def main():
        queue = Queue()
        with queue.mutex:
            pass
        task = await waiting(queue.aget())
        (waiter,) = queue.not_empty._waiters

        def check():
            with pytest.raises(RuntimeError, match="notified"):
                waiter.release()
            queue.put("child")
            assert queue.get() == "child"

        in_fork(check)
        queue.put("parent")
        assert await task == "parent"

    asyncio.run(main())
