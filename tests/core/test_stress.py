"""Many threads on one ring, for a while: each record arrives exactly once, in its producer's order.

Some put and take through blocks (`reserve`, `peek`), beside those that copy.

`F1BUF_STRESS` is the number of seconds that each scenario runs (0.1 every day, 0.5 with `--all`). The same
scenarios run under ThreadSanitizer, see `tools/sanitize.py`.
"""

import contextlib
import random
import threading
import time

import numpy as np
import pytest
from helpers import STRESS_SECONDS, Crowd, hand_over_one_by_one, hand_over_to_takers_that_give_up, seeded, wait_until

from f1buf import Empty, Full, RingBuffer, ShutDown

RECORD = np.dtype([("producer", "u4"), ("number", "u8")])


def produce(ring, producer, rng, batch, stop, done):
    """Put numbers 0, 1, 2, ... in one way after the other; `done` gets how many were put."""
    number = 0
    while not stop.is_set():
        n = rng.randrange(1, 2 * batch)
        records = np.zeros(n, RECORD)
        records["producer"] = producer
        records["number"] = np.arange(number, number + n)
        way = rng.randrange(4)
        try:
            if way == 0:
                ring.put((producer, number))
                number += 1
            elif way == 1:
                ring.put((producer, number), timeout=rng.random() * 1e-3)
                number += 1
            elif way == 2:
                number += ring.put_many(records, timeout=rng.random() * 1e-3)
            else:
                number += ring.put_many(records, block=rng.random() < 0.9)
        except Full:
            pass
        except ShutDown:
            break
    done[producer] = number


def consume(ring, rng, batch, taken):
    """Take in one way after the other until the ring is shut down and drained."""
    out = np.zeros(batch, RECORD)
    least = min(batch, ring.capacity)
    while True:
        way = rng.randrange(5)
        try:
            if way == 0:
                taken.append(np.array([ring.get()], RECORD))
            elif way == 1:
                taken.append(ring.get_many(batch, timeout=rng.random() * 1e-3))
            elif way == 2:
                taken.append(ring.get_many(min_count=rng.randrange(1, least + 1), timeout=rng.random() * 1e-3))
            elif way == 3:
                n = ring.get_into(out, min_count=rng.randrange(1, least + 1), timeout=1e-3)
                taken.append(out[:n].copy())
            else:
                ring.snapshot(batch)
        except Empty:
            pass
        except ShutDown:
            return


class ChangedMindError(Exception):
    """What leaves a block now and then."""


def reserve(ring, producer, rng, batch, stop, done):
    """Put numbers 0, 1, 2, ... through blocks: all of one, some, or none; `done` gets how many were put."""
    number = 0
    while not stop.is_set():
        n = rng.randrange(1, min(2 * batch, ring.capacity) + 1)
        how = rng.choice([{}, {"block": False}, {"timeout": rng.random() * 1e-3}])
        with contextlib.suppress(Full, ChangedMindError):
            try:
                number += reserve_once(ring.reserve(n, **how), producer, number, rng)
            except ShutDown:
                break
    done[producer] = number


def reserve_once(block, producer, number, rng):
    """How many records it put."""
    with block:
        block.array["producer"] = producer
        block.array["number"] = np.arange(number, number + len(block))
        count = len(block)
        if rng.random() < 0.5:
            count = rng.randrange(count + 1)
            block.commit(count)
        if rng.random() < 0.1:
            raise ChangedMindError
    return count


def peek(ring, rng, batch, taken):
    """Take through blocks, all of one, some, or none, until the ring is shut down and drained."""
    least = min(batch, ring.capacity)
    while True:
        how = rng.choice([{}, {"block": False}, {"timeout": rng.random() * 1e-3}])
        with contextlib.suppress(Empty, ChangedMindError):
            try:
                taken.append(peek_once(ring.peek(batch, min_count=rng.randrange(1, least + 1), **how), rng))
            except ShutDown:
                return


def peek_once(block, rng):
    """What it took; it may have seen more."""
    with block:
        count = len(block)
        if rng.random() < 0.5:
            count = rng.randrange(count + 1)
            block.consume(count)
        seen = block.array.copy()
        if rng.random() < 0.1:
            raise ChangedMindError
        assert block.array.tobytes() == seen.tobytes(), "somebody wrote to what was peeked at"
    return seen[:count]


def in_each_producers_order(done, takes):
    for taken in takes:
        for producer in done:
            numbers = taken["number"][taken["producer"] == producer].astype("i8")
            assert (np.diff(numbers) > 0).all(), f"producer {producer}'s order"


def run(ring, producers, consumers, put, take):
    """Let them work for a while, in batches of up to `put` and `take`; (how many each has put, what each has taken)."""
    rng = seeded()
    stop, done, crowd, makers = threading.Event(), {}, Crowd(), Crowd()
    takes = [[np.zeros(0, RECORD)] for _ in consumers]
    for consumer, taken in zip(consumers, takes, strict=True):
        crowd.start(consumer, ring, random.Random(rng.random()), take, taken)
    for number, producer in enumerate(producers):
        makers.start(producer, ring, number, random.Random(rng.random()), put, stop, done)
    time.sleep(STRESS_SECONDS)  # the length of the run, not a wait for something
    wait_until(lambda: ring.stats().offered or makers.errors, "a record")  # they may not have run yet
    stop.set()
    makers.join()
    ring.shutdown()
    crowd.join()
    ring._check()
    takes = [np.concatenate(taken) for taken in takes]
    stats = ring.stats()
    assert stats.offered == sum(done.values())
    assert stats.offered == stats.taken + stats.dropped
    assert stats.taken == sum(map(len, takes))
    in_each_producers_order(done, takes)
    return done, takes


@pytest.mark.parametrize(
    ("producers", "consumers", "capacity", "batch"),
    [
        (1, 1, 1, 1),
        (2, 2, 1, 3),
        (2, 2, 2, 2),
        (1, 1, 7, 20),
        (4, 4, 7, 3),
        (8, 2, 1024, 64),
        (2, 8, 1024, 2000),  # copies under a turn
        (3, 3, 4096, 5000),
        ([reserve], [peek], 1, 1),
        ([reserve], [peek], 1024, 64),
        ([reserve, produce], [peek, consume], 7, 3),
        ([reserve, reserve, produce], [peek, peek, consume], 64, 20),
        ([reserve, produce], [peek, consume], 4096, 3000),  # copies under a turn
    ],
    ids=lambda value: "+".join(each.__name__ for each in value) if isinstance(value, list) else str(value),
)
def test_every_record_arrives_once_and_in_order(producers, consumers, capacity, batch):
    """By calls that copy, and through blocks."""
    if isinstance(producers, int):
        producers, consumers = [produce] * producers, [consume] * consumers
    done, takes = run(RingBuffer(capacity, RECORD), producers, consumers, batch, batch)
    everything = np.concatenate(takes)
    for producer, count in done.items():
        numbers = np.sort(everything["number"][everything["producer"] == producer])
        np.testing.assert_array_equal(numbers, np.arange(count, dtype="u8"))
    assert len(everything) == sum(done.values()) > 0


@pytest.mark.parametrize("blocks", [False, True], ids=["copies", "blocks"])
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_under_a_drop_policy_the_counters_balance(overflow, blocks):
    """What is reserved is never dropped later on, unless it has entered; what is peeked at is never overwritten."""
    producers, consumers = ([reserve, reserve], [peek, peek]) if blocks else ([produce] * 2, [consume] * 2)
    ring = RingBuffer(512, RECORD, overflow=overflow)
    run(ring, [*producers, produce], [*consumers, consume], 300, 700)


def test_shutdown_races_with_everything():
    """Rings that are shut down, immediately or not, at a random moment of a busy life."""
    rng = seeded()
    until = time.monotonic() + STRESS_SECONDS
    while time.monotonic() < until:
        ring = RingBuffer(rng.choice([1, 2, 64, 1024]), RECORD)
        stop, done, crowd = threading.Event(), {}, Crowd()
        takes = [[], []]
        for i in range(2):
            crowd.start(rng.choice([produce, reserve]), ring, i, random.Random(rng.random()), 400, stop, done)
            crowd.start(rng.choice([consume, peek]), ring, random.Random(rng.random()), 400, takes[i])
        time.sleep(rng.random() * 2e-3)
        ring.shutdown(immediate=rng.random() < 0.5)
        crowd.join()
        stats = ring.stats()
        assert stats.offered == sum(done.values())
        assert stats.taken == sum(len(batch) for taken in takes for batch in taken)
        assert stats.offered == stats.taken + stats.discarded
        ring._check()


def test_waiters_that_time_out_just_as_they_are_served():
    ring = RingBuffer(1, "u8")
    hand_over_to_takers_that_give_up(ring.put, ring.get, ring.shutdown)


def test_hand_overs_with_a_tiny_switch_interval(hurried):
    ring = RingBuffer(1, "u8")
    hand_over_one_by_one(ring.put, ring.get)
