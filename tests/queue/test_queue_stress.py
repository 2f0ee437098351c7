"""Many threads on one queue, for a while: each item arrives exactly once, in its producer's order.

`F1BUF_STRESS` is the number of seconds that each scenario runs (0.1 every day, 0.5 with `--all`). The same
scenarios run under ThreadSanitizer, see `tools/sanitize.py`.
"""

import collections
import contextlib
import gc
import itertools
import operator
import os
import random
import sys
import threading
import time

import pytest
from helpers import (
    LONG_WATCHDOG,
    STRESS_SECONDS,
    WITH_GIL,
    Crowd,
    hand_over_one_by_one,
    hand_over_to_takers_that_give_up,
    seeded,
    wait_parked,
    wait_until,
)

from f1buf import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown
from f1buf.core import sync

MOST = int(300_000 * STRESS_SECONDS)  # items in a scenario, so that they can be checked in about the same time
PRODUCER = 10**9  # items are producer * PRODUCER + number


class Hooked(Queue):
    """The standard algorithm by its hooks."""

    def _put(self, item):
        super()._put(item)


# Producers and consumers ----------------------------------------------------------------------------------------------


def produce(queue, producer, rng, batch, stop, done, most=MOST):
    """Put one number after the other in one way after the other; `done` gets how many were put."""
    number = 0
    while not stop.is_set() and number < most:
        first = producer * PRODUCER + number
        items = range(first, first + rng.randrange(1, 2 * batch))
        way = rng.randrange(6)
        try:
            if way == 0:
                queue.put(items[0])
                number += 1
            elif way == 1:
                queue.put(items[0], timeout=rng.random() * 1e-3)
                number += 1
            elif way == 2:
                queue.put_nowait(items[0])
                number += 1
            elif way == 3:
                number += queue.put_many(items, timeout=rng.random() * 1e-3)
            else:
                number += queue.put_many(items, block=rng.random() < 0.5)
        except Full:
            pass
        except ShutDown:
            break
    done[producer] = number


def consume(queue, rng, batch, taken):
    """Take in one way after the other until the queue is shut down and drained."""
    while True:
        way = rng.randrange(6)
        try:
            if way == 0:
                taken.append(queue.get())
            elif way == 1:
                taken.append(queue.get(timeout=rng.random() * 1e-3))
            elif way == 2:
                taken.append(queue.get_nowait())
            elif way == 3:
                taken += queue.get_many(batch, timeout=rng.random() * 1e-3)
            elif way == 4:
                taken += queue.get_many(min_count=rng.randrange(1, batch + 1), timeout=rng.random() * 1e-3)
            else:
                taken += queue.get_many(batch, min_count=rng.randrange(1, batch + 1), timeout=1e-2)
        except Empty:
            pass
        except ShutDown:
            return


def check_once_and_in_order(done, takes):
    for taken in takes:
        for producer in done:
            numbers = [item for item in taken if item // PRODUCER == producer]
            assert all(map(operator.lt, numbers, numbers[1:])), f"producer {producer}'s order"
    check_once(done, takes)


def check_once(done, takes):
    expected = [range(producer * PRODUCER, producer * PRODUCER + done[producer]) for producer in sorted(done)]
    assert sorted(itertools.chain(*takes)) == list(itertools.chain(*expected))


def run(queue, producers, consumers, batch, rng, meanwhile=(), check=check_once_and_in_order):
    """Producers and consumers for a while, beside what else happens `meanwhile`; then what must hold at rest."""
    stop, done, takes = threading.Event(), {}, [[] for _ in range(consumers)]
    takers, makers = Crowd(), Crowd()
    for taken in takes:
        takers.start(consume, queue, random.Random(rng.random()), batch, taken)
    for producer in range(producers):
        makers.start(produce, queue, producer, random.Random(rng.random()), batch, stop, done, MOST // producers)
    for act in meanwhile:
        makers.start(act, queue, random.Random(rng.random()), stop)
    until = time.monotonic() + STRESS_SECONDS  # the length of the run, not a wait for something
    for maker in makers.threads:
        maker.join(max(0.0, until - time.monotonic()))
    stop.set()
    makers.join()
    queue.shutdown()
    takers.join()
    check(done, takes)
    queue._check()
    assert queue.qsize() == 0
    assert queue.unfinished_tasks == sum(done.values())


CROWDS = [  # producers, consumers, maxsize, batch
    (1, 1, 1, 1),
    (2, 2, 1, 3),
    (2, 2, 2, 2),
    (4, 4, 7, 3),
    (8, 2, 1024, 64),
    (2, 8, 1024, 300),
    (1, 1, 0, 200),
    (3, 3, 0, 20),
]
each_crowd = pytest.mark.parametrize(("producers", "consumers", "maxsize", "batch"), CROWDS, ids=str)


@each_crowd
def test_every_item_arrives_once_and_in_order(producers, consumers, maxsize, batch):
    run(Queue(maxsize), producers, consumers, batch, seeded())


@pytest.mark.parametrize("maxsize", [1, 7, 0])
def test_every_item_arrives_once_with_a_tiny_switch_interval(maxsize, hurried):
    run(Queue(maxsize), 3, 3, 5, seeded())


@pytest.mark.parametrize("kind", [Hooked, LifoQueue, PriorityQueue], ids=lambda kind: kind.__name__)
def test_every_item_arrives_once_by_the_standard_algorithm(kind):
    run(kind(7), 3, 3, 5, seeded(), check=check_once_and_in_order if kind is Hooked else check_once)


# What happens beside them ---------------------------------------------------------------------------------------------


def convert_in_the_middle(queue, rng, stop):
    time.sleep(STRESS_SECONDS * rng.random())  # somewhen
    with queue.mutex:
        assert len(queue.queue) == queue._qsize()


def look_inside(queue, rng, stop):
    """From the middle on, again and again, with all the locks that there are."""
    time.sleep(STRESS_SECONDS * 0.5)
    while not stop.wait(1e-3):
        with rng.choice([queue.mutex, queue.not_empty, queue.not_full, queue.all_tasks_done]):
            items = list(queue.queue)
            assert len(items) == queue._qsize()


def change_the_bound(queue, rng, stop):
    while not stop.wait(rng.random() * 1e-3):
        queue.maxsize = rng.choice([1, 2, 5, 100])
    queue.maxsize = 100


def look_from_outside(queue, rng, stop):
    while not stop.is_set():
        assert 0 <= queue.qsize() <= 100
        assert queue.empty() in (True, False)
        assert queue.full() in (True, False)
        assert sys.getsizeof(queue) < 100_000
        assert queue.unfinished_tasks >= 0
        queue._check()


def collect_garbage(queue, rng, stop):
    while not stop.wait(1e-3):
        gc.collect()


def set_own_attributes(queue, rng, stop):
    while not stop.wait(1e-4):
        queue.topic = rng.random()
        del queue.topic


MEANWHILE = {
    "a conversion": (0, [convert_in_the_middle]),
    "a conversion of a bounded queue": (1, [convert_in_the_middle]),
    "several conversions at a time": (7, [convert_in_the_middle] * 4),
    "looks inside": (7, [look_inside]),
    "looks from outside": (100, [look_from_outside]),
    "a bound that changes": (100, [change_the_bound]),
    "the collector": (0, [collect_garbage]),
    "own attributes": (7, [set_own_attributes]),
}


@pytest.mark.parametrize(("maxsize", "meanwhile"), MEANWHILE.values(), ids=list(MEANWHILE))
def test_every_item_arrives_once_beside(maxsize, meanwhile):
    run(Queue(maxsize), 3, 3, 4, seeded(), meanwhile)


# Short lives ----------------------------------------------------------------------------------------------------------


def short_lives(rng):
    until = time.monotonic() + STRESS_SECONDS
    while time.monotonic() < until:
        yield Queue(rng.choice([0, 1, 2, 64])), threading.Event(), {}, [[], []]


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
def test_shutdown_races_with_everything(immediate):
    """Queues that are shut down at a random moment of a busy life."""
    rng = seeded()
    for queue, stop, done, takes in short_lives(rng):
        crowd = Crowd()
        for i in range(2):
            crowd.start(produce, queue, i, random.Random(rng.random()), 40, stop, done)
            crowd.start(consume, queue, random.Random(rng.random()), 40, takes[i])
        time.sleep(rng.random() * 2e-3)
        queue.shutdown(immediate)
        crowd.join()
        taken = sum(map(len, takes))
        assert queue.qsize() == 0
        if immediate:  # the tasks of what was removed are done
            assert queue.unfinished_tasks == taken
        else:
            check_once_and_in_order(done, takes)
            assert queue.unfinished_tasks == taken == sum(done.values())
        queue._check()


def test_conversion_races_with_everything():
    """Many queues, each of which several threads convert while others are about to wait or to be served."""
    rng = seeded()

    def put(queue, producer):
        for number in range(20):
            queue.put(producer * PRODUCER + number, timeout=LONG_WATCHDOG)

    def take(queue, taken):
        with contextlib.suppress(ShutDown):
            while True:
                taken.append(queue.get())
                queue.task_done()

    def convert(queue, after, attribute):
        time.sleep(after)
        getattr(queue, attribute)

    for queue, _, _, takes in short_lives(rng):
        takers, makers = Crowd(), Crowd()
        for taken in takes:
            takers.start(take, queue, taken)
        for producer in range(2):
            makers.start(put, queue, producer)
        for attribute in ("mutex", "queue"):
            makers.start(convert, queue, rng.random() * 5e-4, attribute)
        makers.join()
        makers.start(queue.join)
        makers.join()
        assert queue.unfinished_tasks == 0
        queue.shutdown()
        takers.join()
        check_once_and_in_order({0: 20, 1: 20}, takes)


def test_a_thread_that_looks_inside_while_another_converts_sees_all_items():
    """`list(q.queue)` without the mutex, as many programs look."""
    until = time.monotonic() + STRESS_SECONDS
    while time.monotonic() < until:
        queue, crowd, together, seen = Queue(), Crowd(), threading.Barrier(3), []
        queue.put_many(range(1000))

        def look(queue=queue, together=together, seen=seen):
            together.wait()
            seen.append(len(queue.queue))
            with queue.mutex:
                seen.append(len(queue.queue))

        for _ in range(3):
            crowd.start(look)
        crowd.join()
        assert seen == [1000] * 6


def test_a_queue_is_started_anew_while_another_thread_converts_it():
    """`__init__` empties the slots, but not those that are just being copied (without a GIL there is time for that)."""
    rng, until = seeded(), time.monotonic() + STRESS_SECONDS
    while time.monotonic() < until:
        queue, crowd, together, after = Queue(), Crowd(), threading.Barrier(2), rng.random() * 1e-3
        queue.put_many(range(20_000))

        def convert(queue=queue, together=together):
            together.wait()
            assert queue.mutex is not None

        def start(queue=queue, together=together, after=after):
            together.wait()
            time.sleep(after)  # at any moment of the copying, of which nothing tells
            queue.__init__()

        crowd.start(convert)
        crowd.start(start)
        crowd.join()
        assert queue.queue == collections.deque()
        queue.put("anew")
        assert (queue.get(), queue.unfinished_tasks) == ("anew", 1)
        queue._check()


def test_joins_return_when_all_is_done_and_not_before():
    rng = seeded()
    queue, workers = Queue(5), Crowd()
    done = []

    def work(rng):
        with contextlib.suppress(ShutDown):
            while True:
                items = queue.get_many(rng.randrange(1, 4))
                for item in items:
                    done.append(item)
                    queue.task_done()

    def join(least):
        queue.join()
        assert len(done) >= least

    for _ in range(3):
        workers.start(work, random.Random(rng.random()))
    until, put = time.monotonic() + STRESS_SECONDS, 0
    while time.monotonic() < until:
        joiners = Crowd()
        for _ in range(rng.randrange(1, 20)):
            queue.put(put)
            put += 1
        for _ in range(3):
            joiners.start(join, put)
        joiners.join()
        assert len(done) == put
    queue.shutdown()
    workers.join()
    assert sorted(done) == list(range(put))


def test_clear_beside_producers_and_consumers():
    """`clear` does the tasks that it removes, a consumer those that it takes: in the end nothing is left to do."""
    rng = seeded()
    queue, stop, done, crowd, takes = Queue(50), threading.Event(), {}, Crowd(), [[], []]

    def take(rng, taken):
        with contextlib.suppress(ShutDown):
            while True:
                items = queue.get_many(rng.randrange(1, 9))
                taken += items
                for _ in items:
                    queue.task_done()

    def clear():
        while not stop.wait(1e-4):
            queue.clear()

    for producer, taken in enumerate(takes):
        crowd.start(produce, queue, producer, random.Random(rng.random()), 9, stop, done)
        crowd.start(take, random.Random(rng.random()), taken)
    crowd.start(clear)
    time.sleep(STRESS_SECONDS)
    stop.set()
    queue.join()
    queue.shutdown()
    crowd.join()
    assert queue.unfinished_tasks == 0
    for taken in takes:
        for producer in done:
            numbers = [item for item in taken if item // PRODUCER == producer]
            assert all(map(operator.lt, numbers, numbers[1:]))


def test_waiters_that_time_out_just_as_they_are_served():
    queue = Queue(1)
    hand_over_to_takers_that_give_up(queue.put, queue.get, queue.shutdown)


def test_putters_that_time_out_just_as_there_is_room():
    queue, put, crowd, stop = Queue(1), [], Crowd(), threading.Event()

    def offer(producer):
        number = 0
        while not stop.is_set():
            with contextlib.suppress(Full):
                queue.put((producer, number), timeout=5e-5)
                put.append((producer, number))
                number += 1

    for producer in range(4):
        crowd.start(offer, producer)
    got = [queue.get(timeout=LONG_WATCHDOG) for _ in range(int(2000 * STRESS_SECONDS))]
    stop.set()
    crowd.join()
    got += queue.get_many(block=False) if queue.qsize() else []
    assert sorted(got) == sorted(put)


def test_hand_overs_with_a_tiny_switch_interval(hurried):
    queue = Queue(1)
    hand_over_one_by_one(queue.put, queue.get)


@pytest.mark.skipif(WITH_GIL, reason="with a GIL a queue's waiter does not spin")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors: on one no waiter spins")
def test_a_waiter_that_spins_stops_nobody_who_stops_the_world():
    """It spins for as long as the watchdog waits, were it not served; the collector runs meanwhile."""
    queue, answers, spins = Queue(), Queue(), sync._spin_for(int(LONG_WATCHDOG * 1e9))
    here, there = sorted(os.sched_getaffinity(0))[:2]

    def answer():
        os.sched_setaffinity(0, {there})
        for _ in range(3):
            answers.put(queue.get())

    crowd = Crowd()
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {here})
        crowd.start(answer)
        wait_parked(crowd.threads[0])  # what it waits for has not run anywhere yet
        for number in range(3):
            queue.put(number)  # the first one tells where; from then on it spins
            assert answers.get() == number
            gc.collect()
    finally:
        sync._spin_for(spins)
        os.sched_setaffinity(0, before)
    crowd.join()


def test_cycles_go_through_the_queue_and_are_collected():
    """Items that refer to the queue and to themselves, dropped by every thread while the collector runs in another."""
    queue, stop, crowd, ended = Queue(100), threading.Event(), Crowd(), []

    class Cycle:
        def __init__(self):
            self.itself, self.queue = self, queue

        def __del__(self):
            ended.append(self.queue.qsize())

    made = []

    def make():
        while not stop.is_set():
            with contextlib.suppress(Full):
                queue.put(Cycle(), timeout=1e-3)
                made.append(1)

    def drop():
        while not stop.is_set():
            with contextlib.suppress(Empty):
                queue.get_many(10, timeout=1e-3)

    for _ in range(2):
        crowd.start(make)
        crowd.start(drop)
    crowd.start(collect_garbage, queue, seeded(), stop)
    time.sleep(STRESS_SECONDS)
    wait_until(lambda: made or crowd.errors, "an item")  # they may not have run yet
    stop.set()
    crowd.join()
    queue.clear()
    gc.collect()
    assert len(ended) >= len(made) > 0
    assert all(0 <= size <= 100 for size in ended)
