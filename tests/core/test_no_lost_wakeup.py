"""No wake-up is lost: hand-overs through a single slot, where each wait ends by a wake-up or never.

Nobody here has a timeout that would hide one, but where the timeout is the point. What stands still for `WATCHDOG`
seconds is a hang: the test ends with every thread's stack. F1BUF_STRESS=10 makes ten million hand-overs through one
slot of each fast implementation, a quarter of that on one core and without spinning, a tenth with a tiny switch
interval, of many threads, and with timeouts.
"""

import contextlib
import os

import numpy as np
import pytest
from helpers import FULL, STRESS_SECONDS, WATCHDOG, Crowd, check_balance, hangs, parked
from implementations import RingOfNumbers, each_implementation

from f1buf import Empty, Full, RingBuffer, SharedRingBuffer, ShutDown
from f1buf.core import sync
from f1buf.ring import shared

HAND_OVERS = 10_000_000 if FULL else int(20_000 * max(0.2, min(1.0, 2 * STRESS_SECONDS)))
SLOW = 10  # how much less is asked of threads that are slowed down
SLOWER = 50 if FULL else 10  # and of what runs in Python or copies kilobytes

LARGE = np.dtype([("bytes", "u1", 4_000_000)])
LARGE_ONES = 50  # each thread's


@pytest.fixture(autouse=True)
def without_tick():
    """A shared ring's waiters, too, depend on wake-ups alone; otherwise they look by themselves every 80 ms."""
    before = shared._tick_every(3_600_000_000_000)
    yield
    shared._tick_every(before)


@pytest.fixture
def one_core():
    """This thread and those that it starts share one processor: nobody spins, each wait parks."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def never_spinning():
    before = sync._spin_for(0)
    yield
    sync._spin_for(before)


def amount(implementation, factor=1):
    fast = implementation.make is RingOfNumbers or implementation.name in ("plain queue", "subclass queue")
    return max(500, HAND_OVERS // factor // (1 if fast else SLOWER))


def join_while_it_goes_on(crowd, progress):
    """Wait for a crowd's end for as long as `progress()` changes."""
    while any(thread.is_alive() for thread in crowd.threads) and not crowd.errors:
        before = progress()
        for thread in crowd.threads:
            thread.join(WATCHDOG / len(crowd.threads))
        if progress() == before and any(thread.is_alive() for thread in crowd.threads):
            hangs(f"a hand-over, after {before}")
    if crowd.errors:  # for which the others would wait in vain
        raise crowd.errors[0]
    crowd.join()


def hand_over(buffer, total, put, get, in_order=True):
    """One thread puts 0, 1, 2, ..., another checks that just these come."""
    crowd, taken = Crowd(), [0]

    def take():
        while taken[0] < total:
            items = get(buffer)
            assert items == list(range(taken[0], taken[0] + len(items)))
            taken[0] += len(items)

    crowd.start(put, buffer, total)
    crowd.start(take)
    join_while_it_goes_on(crowd, lambda: taken[0])
    assert taken == [total]
    assert buffer.qsize() == 0
    buffer.check()


def put_singly(buffer, total):
    for number in range(total):
        buffer.put(number)


def put_batches(buffer, total, batch=64):
    for start in range(0, total, batch):
        buffer.put_many(range(start, min(start + batch, total)))


def get_singly(buffer):
    return [buffer.get()]


def get_batch(buffer):
    return buffer.get_many(64)


WAYS = {
    "singly": (put_singly, get_singly),
    "in batches": (put_batches, get_batch),
    "a batch taken singly": (put_batches, get_singly),
}
each_way = pytest.mark.parametrize(("put", "get"), WAYS.values(), ids=list(WAYS))


@each_way
@each_implementation()
def test_hand_overs_through_one_slot(implementation, put, get):
    hand_over(implementation.make(1), amount(implementation), put, get)


@each_way
@each_implementation()
def test_hand_overs_on_one_core(implementation, put, get, one_core):
    hand_over(implementation.make(1), amount(implementation, 4), put, get)


@each_way
@each_implementation()
def test_hand_overs_with_a_tiny_switch_interval(implementation, put, get, hurried):
    hand_over(implementation.make(1), amount(implementation, SLOW), put, get)


@each_way
@each_implementation(lambda one: not one.is_queue and one.name != "twin")
def test_hand_overs_without_spinning(implementation, put, get, never_spinning):
    hand_over(implementation.make(1), amount(implementation, 4), put, get)


@each_implementation()
def test_hand_overs_among_several_threads_a_side(implementation):
    """A wake-up that goes to the wrong side, or to one that no longer waits, leaves somebody asleep."""
    buffer, total, taken, crowd = implementation.make(1), amount(implementation, SLOW), [], Crowd()

    def take():
        with contextlib.suppress(ShutDown):
            while True:
                taken.append(buffer.get())

    for _ in range(4):
        crowd.start(take)
    makers = Crowd()
    for producer in range(4):
        makers.start(lambda producer=producer: [buffer.put(n) for n in range(producer, total, 4)])
    join_while_it_goes_on(makers, lambda: len(taken))
    buffer.shutdown()
    join_while_it_goes_on(crowd, lambda: len(taken))
    assert sorted(taken) == list(range(total))
    buffer.check()


@each_implementation()
def test_waiters_with_different_needs(implementation):
    """Some wait for one item, others for two, five or a full buffer, and none of them with a timeout."""
    capacity, total, taken, takers, makers = 7, amount(implementation, SLOW), [], Crowd(), Crowd()
    buffer = implementation.make(capacity)

    def take(least):
        with contextlib.suppress(ShutDown):
            while True:
                batch = buffer.get_many(min_count=least)
                taken.extend(batch)
                assert len(batch) >= least or ended, "fewer than were waited for"

    ended = []
    for least in (1, 2, 5, capacity, 1, 2, 5, capacity):
        takers.start(take, least)
    makers.start(lambda: [buffer.put(n) for n in range(0, total, 3)])
    makers.start(lambda: [buffer.put_many([n]) for n in range(1, total, 3)])
    makers.start(lambda: put_third(buffer, range(2, total, 3)))
    join_while_it_goes_on(makers, lambda: len(taken))
    ended.append(True)
    buffer.shutdown()
    join_while_it_goes_on(takers, lambda: len(taken))
    assert sorted(taken) == list(range(total))
    buffer.check()


def put_third(buffer, numbers):
    for start in range(0, len(numbers), 10):
        assert buffer.put_many(numbers[start : start + 10]) == len(numbers[start : start + 10])


@each_implementation()
def test_waiters_that_time_out_just_as_they_are_served(implementation):
    """Both sides give up after about as long as a hand-over takes: many grants meet a waiter that has just left."""
    buffer, total, put, taken = implementation.make(1), amount(implementation, SLOW), [], []
    takers, makers = Crowd(), Crowd()

    def offer(numbers):
        for number in numbers:
            while True:
                try:
                    buffer.put(number, timeout=5e-5)
                    break
                except Full:
                    continue
            put.append(number)

    def take():
        with contextlib.suppress(ShutDown):
            while True:
                with contextlib.suppress(Empty):
                    taken.append(buffer.get(timeout=5e-5))

    for _ in range(3):
        takers.start(take)
    for producer in range(3):
        makers.start(offer, range(producer, total, 3))
    join_while_it_goes_on(makers, lambda: len(taken))
    buffer.shutdown()
    join_while_it_goes_on(takers, lambda: len(taken))
    assert sorted(put) == sorted(taken) == list(range(total))
    buffer.check()


BLOCKS = {
    "reserve, put": (0, lambda ring: ring.reserve(1), lambda ring: ring.put(1)),
    "reserve, get": (0, lambda ring: ring.reserve(1), lambda ring: ring.get()),
    "peek, get": (2, lambda ring: ring.peek(1), lambda ring: ring.get()),
    "peek, put": (2, lambda ring: ring.peek(1), lambda ring: ring.put(1)),
}


each_ring = pytest.mark.parametrize("kind", [RingBuffer, SharedRingBuffer])


@each_ring
@pytest.mark.parametrize(("before", "enter", "call"), BLOCKS.values(), ids=BLOCKS)
def test_a_block_that_ends_wakes_those_that_wait_for_that(before, enter, call, kind):
    ring = kind(2, "i8")
    ring.put_many(range(before))
    with enter(ring):
        waiter = parked(call, ring)
    waiter.result()
    check_balance(ring)


@each_ring
def test_one_that_needs_little_is_woken_though_another_waits_for_more(kind):
    ring = kind(4, "i8")
    more, little = parked(ring.get_many, min_count=2), parked(ring.get)
    ring.put(1)
    assert little.result() == 1
    ring.put_many([2, 3])
    assert more.result().tolist() == [2, 3]


@each_ring
def test_a_batch_wakes_all_those_for_whom_there_is_something(kind):
    ring = kind(3, "i8")
    gets = [parked(ring.get) for _ in range(3)]
    ring.put_many([1, 2, 3])
    assert sorted(get.result() for get in gets) == [1, 2, 3]
    ring.put_many([4, 5, 6])
    puts = [parked(ring.put, number) for number in (7, 8, 9)]
    assert ring.get_many().tolist() == [4, 5, 6]
    for put in puts:
        put.result()
    assert sorted(ring.get_many().tolist()) == [7, 8, 9]


@each_ring
def test_copies_that_take_long_wake_those_that_wait_for_their_end(kind):
    """Two threads of a side, of which one mostly finds the other amid its copy."""
    ring, record, taken, crowd = kind(4, LARGE), np.zeros(1, LARGE), [], Crowd()
    for _ in range(2):
        crowd.start(lambda: [ring.put_many(record) for _ in range(LARGE_ONES)])
        crowd.start(lambda: [taken.append(len(ring.get_many(1))) for _ in range(LARGE_ONES)])
    join_while_it_goes_on(crowd, lambda: len(taken))
    assert taken == 2 * LARGE_ONES * [1]
    check_balance(ring)


def test_a_get_that_nobody_serves_is_noticed():
    """The watchdog itself: a get that nobody serves."""
    buffer, crowd = RingOfNumbers(1), Crowd()
    crowd.start(buffer.get)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.WATCHDOG", 0.1)
        with pytest.raises(AssertionError, match="still waiting for a hand-over"):
            join_while_it_goes_on(crowd, lambda: 0)
    buffer.shutdown()
