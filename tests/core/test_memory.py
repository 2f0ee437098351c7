"""Memory: what is freed with a buffer that is shut down, and that millions of operations leave none behind.

`F1BUF_STRESS` scales how many operations: 40,000 for each kind of buffer every day, 10 million from 10 on.
"""

import contextlib
import gc
import os
import sys
import threading
import time
import tracemalloc
import weakref
from functools import partial
from queue import SimpleQueue

import numpy as np
import pytest
from helpers import (
    CALLS,
    FULL,
    LONG_WATCHDOG,
    STRESS_SECONDS,
    WITH_GIL,
    each_call,
    forked,
    parked,
    run_python,
    stuck_ring,
    thorough,
    wait_parked,
)
from test_queue import CALLS as QUEUE_CALLS
from test_queue import KINDS, drained, each_kind, queue_with, stuck_queue
from test_queue import each_call as each_queue_call

from f1buf import Empty, Full, Queue, RingBuffer, ShutDown

# The end of a buffer that is shut down --------------------------------------------------------------------------------

each_shutdown = pytest.mark.parametrize("immediate", [False, True], ids=["shut down", "shut down immediately"])


def end_with_its_waiters(make, call, end):
    """Shut down a buffer whose last references are those of the threads that wait on it."""
    buffer = make()
    waiters = [threading.Thread(target=call_until_shutdown, args=(call, buffer), daemon=True) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
        wait_parked(waiter)
    alive = weakref.ref(buffer)
    del buffer
    end(alive())
    for waiter in waiters:
        waiter.join()
    gc.collect()
    assert alive() is None


def call_until_shutdown(call, buffer):
    with contextlib.suppress(ShutDown, StopIteration):  # the latter from `batches`
        call(buffer)


@thorough(but=("*get-*",))
@each_shutdown
@each_call
def test_a_ring_is_freed_with_the_last_waiter_that_its_shutdown_wakes(name, immediate):
    end_with_its_waiters(lambda: stuck_ring(name), CALLS[name], lambda ring: ring.shutdown(immediate))


@thorough(but=("plain-*-shut down", "converted-get-*"))
@each_shutdown
@each_queue_call
@each_kind
def test_a_queue_is_freed_with_the_last_waiter_that_its_shutdown_wakes(kind, name, immediate):
    def end(queue):
        queue.shutdown(immediate)
        if name == "join" and not immediate:  # which waits for the tasks still
            queue.task_done()

    end_with_its_waiters(lambda: stuck_queue(name, kind), QUEUE_CALLS[name], end)


@each_kind
def test_a_queue_that_is_shut_down_drops_with_itself_what_is_left_in_it(kind):
    ended = []

    class Finalised:
        def __del__(self):
            ended.append(alive())

    queue = kind()
    alive = weakref.ref(queue)
    queue.put(Finalised())
    queue.shutdown()
    del queue
    gc.collect()
    assert ended == [None]


# Items that use the queue at their end --------------------------------------------------------------------------------


class Unordered:
    """An item that a PriorityQueue takes, too."""

    def __lt__(self, other):
        return False


REMOVALS = {
    "get": lambda queue: [queue.get() for _ in range(queue.qsize())],
    "get_many": lambda queue: queue.get_many(),
    "clear": lambda queue: queue.clear(),
    "an immediate shutdown": lambda queue: queue.shutdown(immediate=True),
    "another init": lambda queue: queue.__init__(),
}


@thorough(but=("plain-*", "priority-get"))
@pytest.mark.parametrize("remove", REMOVALS.values(), ids=list(REMOVALS))
@each_kind
@forked
def test_an_item_that_is_removed_may_use_the_queue_at_its_end(kind, remove):
    queue, ended = kind(), []

    class Heir(Unordered):
        def __del__(self):
            with contextlib.suppress(ShutDown):
                queue.put(Unordered())
            with contextlib.suppress(Empty, ShutDown):
                queue.get_nowait()
            ended.append(queue.qsize())

    queue.put_many([Heir() for _ in range(100)])
    remove(queue)
    gc.collect()
    assert ended == [0] * 100
    queue._check()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between the interpreter's steps only")
@forked
def test_a_finalizer_amid_a_get_many_may_wait_for_what_others_take():
    """It fills the queue, and waits for room; another get waits for two items, of which one was there already."""
    queue = Queue(2)
    other = parked(queue.get_many, 2, min_count=2)
    queue.put(1)

    class Cyclic:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            queue.put(2)
            queue.put(3)
            queue.put(4)

    gc.collect()
    gc.disable()
    Cyclic()
    gc.set_threshold(1)
    gc.enable()
    batch = queue.get_many()  # whose list is the first thing that the collector counts
    gc.set_threshold(700)
    assert other.result() == [1, 2]
    assert batch + drained(queue) == [3, 4]


# Many operations ------------------------------------------------------------------------------------------------------

OPERATIONS = 10_000_000 if FULL else int(400_000 * STRESS_SECONDS)
# [KiB] What may come in addition once all has been used: the kernel counts pages for each processor, and sums up late;
# without a GIL cycles are collected later, the more the busier the machine.
RSS_GROWTH = 1024 if WITH_GIL else 8192
TRACED_GROWTH = 64


def keep_taking(work, done):
    """From each buffer that is sent, until that is shut down."""
    for buffer in iter(work.get, None):
        with contextlib.suppress(ShutDown):
            while True:
                buffer.get()
        done.put(1)


@contextlib.contextmanager
def taker(done):
    """A thread that keeps taking from what is put into the SimpleQueue that it gives, and tells `done`."""
    work = SimpleQueue()
    thread = threading.Thread(target=keep_taking, args=(work, done), daemon=True)
    thread.start()
    try:
        yield work
    finally:
        work.put(None)
        thread.join()


def use_ring(done):
    """Rounds of all that a ring can do, forever; yields how many operations each round was."""
    ring, full = RingBuffer(64, "i8"), stuck_ring("put")
    out, batch = np.zeros(8, "i8"), np.arange(20)
    with taker(done) as work:
        while True:
            for number in range(20):
                ring.put(number)
                ring.put_nowait(np.int64(number))
                ring.get()
                ring.get_nowait()
            ring.put_many(batch)
            ring.put_many(range(20))
            ring.snapshot(10)
            ring.get_many(20)
            ring.get_into(out)
            next(ring.batches())
            for wait in (ring.get, ring.get_many, partial(full.put, 1), partial(full.put_many, [1, 2])) * 2:
                with contextlib.suppress(Empty, Full):
                    wait(timeout=1e-5)
            with contextlib.suppress(TypeError):
                ring.put("no number")
            with contextlib.suppress(Empty):
                ring.get_nowait()
            other = RingBuffer(4, "i8", overflow="drop_oldest")
            work.put(other)
            other.put_many(batch)
            other.shutdown(immediate=True)
            with contextlib.suppress(ShutDown):
                other.put(1)
            done.get()
            yield 100


def use_blocks():
    """Rounds of blocks that end in every way; yields how many blocks each round was."""
    ring, full, empty = RingBuffer(64, "i8"), stuck_ring("put"), stuck_ring("get")
    while True:
        for number in range(20):
            with ring.reserve(3) as block:
                block.array[:] = number
                memoryview(block)[0] = 1
            with ring.peek() as block:
                block.array.sum()
                block.consume(2)
            ring.get_many()
            with contextlib.suppress(BufferError), ring.reserve(3) as block:
                alive = block.array[1:]
            del alive
            with contextlib.suppress(ZeroDivisionError), ring.peek() as block:
                alive = memoryview(block)
                raise ZeroDivisionError
            del alive
            ring.peek().__enter__()  # and is dropped
            ring.get_many()
            ring.reserve(1)
        for block in (full.reserve(1, timeout=1e-5), empty.peek(timeout=1e-5), empty.peek(block=False)):
            with contextlib.suppress(Empty, Full):
                block.__enter__()
        other = RingBuffer(4, "i8")
        with contextlib.suppress(BufferError), other.reserve(2) as block:
            alive = block.array
        other.shutdown(immediate=True)
        del other, block, alive
        yield 120


def use_queue(kind, done):
    """The same with a queue."""
    queue, full = kind(64), queue_with(kind, 1, maxsize=1)
    with taker(done) as work:
        while True:
            for number in range(1000, 1020):  # which are objects of their own
                queue.put(number)
                queue.put_nowait(number + 1)
                queue.get()
                queue.get_nowait()
            queue.put_many(range(1000, 1040))
            queue.get_many(20)
            queue.clear()
            refused = bytes(1000)
            for wait in (queue.get, queue.get_many, partial(full.put, refused), partial(full.put_many, [refused])) * 2:
                with contextlib.suppress(Empty, Full):
                    wait(timeout=1e-5)
            for _ in range(queue.unfinished_tasks):
                queue.task_done()
            queue.join()
            with contextlib.suppress(Empty):
                queue.get_nowait()
            cycle = kind()
            cycle.put(cycle)
            converting = queue_with(Queue, 1, 2, 3)
            converting.queue.append(4)
            drained(converting)
            other = kind(4)
            work.put(other)
            other.put_many(range(1000, 1020), timeout=1e-5)
            other.shutdown(immediate=True)
            with contextlib.suppress(ShutDown):
                other.put(1)
            done.get()
            yield 130


USES = {"ring": lambda: use_ring(RingBuffer(1, "i8")), "blocks": use_blocks} | {
    name: lambda kind=KINDS[name]: use_queue(kind, kind()) for name in ("plain", "converted", "priority")
}


def resident():
    """[KiB]"""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def traced():
    """[KiB]"""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] // 1024


def growth(rounds, operations, measure):
    """By how much what is measured grows over so many operations, once a fifth of them have been done before."""
    run(rounds, operations // 5)
    before = measure()
    run(rounds, operations)
    return measure() - before


def run(rounds, operations):
    """Cycles lie about for a hundred rounds, not until a Python has collected enough of them (2,000 from 3.13 on)."""
    for number, count in enumerate(rounds):
        operations -= count
        if number % 100 == 0:
            gc.collect()
        if operations <= 0:
            return


def stay_flat(name):
    rounds, began = USES[name](), time.monotonic()
    rss = growth(rounds, OPERATIONS, resident)
    tracemalloc.start()
    python = growth(rounds, OPERATIONS // 10, traced)
    tracemalloc.stop()
    rounds.close()
    print(f"{name}: {OPERATIONS} operations in {time.monotonic() - began:.0f} s: RSS +{rss} KiB, traced +{python} KiB")
    assert rss <= RSS_GROWTH
    assert python <= TRACED_GROWTH


@thorough(but=("ring", "plain"))
@pytest.mark.parametrize("name", USES)
def test_memory_stays_flat_over_many_operations(name):
    print(run_python(f"from test_memory import stay_flat; stay_flat({name!r})", timeout=10 * LONG_WATCHDOG))
