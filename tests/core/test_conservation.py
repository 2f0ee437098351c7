"""Conservation: every item that is put comes out exactly once, and each producer's in its order, whatever the crowd.

Producers x consumers x capacity x batch, each of four sizes. Ordinary runs take the 16 crowds of a pair of orthogonal
Latin squares, in which any two sizes of any two of the four meet once (the everyday run: of each algorithm all, of its
other implementations three); with F1BUF_STRESS=10 or more it is all 256.
"""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from helpers import FULL, STRESS_SECONDS, Crowd, seeded, thorough
from implementations import IMPLEMENTATIONS, RingOfBulk, each_implementation

from f1buf import Empty, RingBuffer, ShutDown

THREADS = (1, 2, 8, 50)
CAPACITIES = (1, 2, 7, 1024)
BATCHES = (1, 3, 64, "more than the capacity")
DOUBLED = (0, 2, 3, 1)  # in the field of four elements, whose addition is ^
ITEMS = int(800 * min(20, max(1, STRESS_SECONDS)))  # of a crowd, about
PRODUCER = 10**9  # items are producer * PRODUCER + number


EVERYDAY = ("ring of numbers", "plain queue", "converted queue")  # each algorithm


def in_latin_squares(sizes):
    i, j, k, n = sizes
    return k == i ^ j and n == i ^ DOUBLED[j]


def crowds():
    """(implementation, producers, consumers, capacity, batch), with readable ids."""
    for one, sizes in itertools.product(IMPLEMENTATIONS, itertools.product(range(4), repeat=4)):
        if not in_latin_squares(sizes) and not FULL:
            continue
        i, j, k, n = sizes
        capacity = (
            min(CAPACITIES[k], 64) if issubclass(one.make, RingOfBulk) else CAPACITIES[k]
        )  # 20 MB each, otherwise
        batch = capacity + 3 if n == 3 else BATCHES[n]
        name = f"{one.name}-{THREADS[i]} to {THREADS[j]}-capacity {capacity}-batches of {batch}"
        marks = [] if one.name in EVERYDAY or i == j < 3 else thorough
        yield pytest.param(one, THREADS[i], THREADS[j], capacity, batch, id=name, marks=marks)


def produce(buffer, producer, count, batch):
    first = producer * PRODUCER
    if batch == 1:
        for item in range(first, first + count):
            buffer.put(item)
    for start in range(first, first + count if batch > 1 else 0, batch):
        items = list(range(start, min(start + batch, first + count)))
        assert buffer.put_many(items) == len(items)


def consume(buffer, batch, most_needed, rng, taken):
    """Wait for ever, for different numbers of items: nothing but the end hides a wake-up that is lost."""
    try:
        while True:
            if batch == 1:
                taken.append(buffer.get())
            else:
                taken += buffer.get_many(batch, min_count=rng.randint(1, most_needed))
    except ShutDown:
        pass


def check_once(counts, takes):
    expected = [producer * PRODUCER + number for producer, count in counts.items() for number in range(count)]
    assert sorted(itertools.chain(*takes)) == expected


def check_order(takes):
    for taken in takes:
        last = {}
        for item in taken:
            producer = item // PRODUCER
            assert item > last.get(producer, -1), f"producer {producer}'s order"
            last[producer] = item


@pytest.mark.parametrize(("implementation", "producers", "consumers", "capacity", "batch"), list(crowds()))
def test_every_item_comes_out_once_and_in_its_producers_order(implementation, producers, consumers, capacity, batch):
    rng = seeded()
    buffer = implementation.make(capacity)
    each = max(-(-ITEMS // producers), 2 * batch if batch > capacity else 1)  # such batches come whole, too
    counts = dict.fromkeys(range(producers), each)
    takes, takers, makers = [[] for _ in range(consumers)], Crowd(), Crowd()
    for taken in takes:
        takers.start(consume, buffer, batch, min(batch, capacity), random.Random(rng.random()), taken)
    for producer, count in counts.items():
        makers.start(produce, buffer, producer, count, batch)
    makers.join()
    buffer.shutdown()
    takers.join()
    check_once(counts, takes)
    if implementation.in_order:
        check_order(takes)
    assert buffer.qsize() == 0
    buffer.check()


# Drop policies --------------------------------------------------------------------------------------------------------


each_drop_policy = pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])


@thorough(but=("*ring of numbers*",))
@each_drop_policy
@each_implementation(lambda one: one.drops)
@pytest.mark.parametrize("immediate", [False, True], ids=["drained", "discarded"])
@pytest.mark.parametrize(("producers", "consumers", "capacity"), [(1, 1, 1), (2, 8, 7), (8, 2, 64), (50, 50, 7)])
def test_a_drop_policy_loses_only_what_it_counts(implementation, overflow, immediate, producers, consumers, capacity):
    """At rest: offered == taken + dropped + discarded + what is there."""
    rng = seeded()
    buffer = implementation.make(capacity, overflow)
    counts = dict.fromkeys(range(producers), -(-ITEMS // producers))
    takes, takers, makers = [[] for _ in range(consumers)], Crowd(), Crowd()
    for taken in takes:
        takers.start(consume, buffer, 5, min(5, capacity), random.Random(rng.random()), taken)
    for producer, count in counts.items():
        makers.start(produce, buffer, producer, count, rng.choice([1, 3, capacity + 3]))
    makers.join()
    buffer.shutdown(immediate)
    takers.join()
    buffer.check()
    everything = Counter(itertools.chain(*takes))
    assert everything.total() == len(everything), "an item came twice"
    assert all(0 <= item % PRODUCER < counts[item // PRODUCER] for item in everything)
    check_order(takes)
    of = buffer.ring.stats() if hasattr(buffer, "ring") else buffer
    assert of.offered == sum(counts.values())
    assert of.taken == len(everything)
    assert of.dropped + of.discarded == of.offered - of.taken
    assert immediate or of.discarded == 0


def sequences(ring, stop_at):
    """Take ranges of sequence numbers until the ring is shut down and drained."""
    ranges = []
    try:
        while True:
            first, batch = ring.get_many(stop_at, return_seq=True)
            ranges.append((first, first + len(batch)))
    except ShutDown:
        return ranges


@each_drop_policy
def test_sequence_numbers_show_what_was_dropped_among_many_threads(overflow):
    """drop_newest keeps what has entered: no gap. Under drop_oldest the gaps are what was dropped, all of it."""
    ring, makers, takers, ranges = RingBuffer(7, "i8", overflow=overflow), Crowd(), Crowd(), []
    for _ in range(4):
        takers.start(lambda: ranges.extend(sequences(ring, 3)))
    for _ in range(4):
        makers.start(lambda: [ring.put_many(np.arange(5)) for _ in range(ITEMS // 10)])
    makers.join()
    ring.shutdown()
    takers.join()
    ranges.sort()
    gaps = sum(after - before for (_, before), (after, _) in itertools.pairwise([(0, 0), *ranges]))
    assert all(before <= after for (_, before), (after, _) in itertools.pairwise(ranges)), "a record came twice"
    stats = ring.stats()
    assert stats.dropped > 0, "nothing was dropped: the test shows nothing"
    assert gaps == (stats.dropped if overflow == "drop_oldest" else 0)


@each_implementation(lambda one: one.drops)
@each_drop_policy
def test_a_drop_policy_keeps_the_newest_or_the_oldest(implementation, overflow):
    """With nobody taking, after many producers: the last that came, or the first; each producer's in one piece."""
    producers, capacity, each = 4, 64, 200
    buffer, makers = implementation.make(capacity, overflow), Crowd()
    for producer in range(producers):
        makers.start(produce, buffer, producer, each, 3)
    makers.join()
    buffer.check()
    kept = buffer.get_many()
    assert len(kept) == capacity
    with pytest.raises(Empty):
        buffer.get(block=False)
    for producer in range(producers):
        numbers = [item % PRODUCER for item in kept if item // PRODUCER == producer]
        if overflow == "drop_oldest":
            assert numbers == list(range(each - len(numbers), each))
        else:
            assert numbers == list(range(len(numbers)))
