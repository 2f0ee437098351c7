"""RingBuffer between threads: what waits for what, for how long, in which order, and what goes on meanwhile."""

import contextlib
import decimal
import fractions
import itertools
import random
import time

import numpy as np
import pytest
from helpers import (
    CALLS,
    LARGE,
    LATE,
    MANY,
    PUTS,
    Task,
    assert_times_out,
    check_balance,
    contents,
    each_call,
    each_get,
    each_put,
    parked,
    parked_or_over,
    reading,
    ring_with,
    stuck_ring,
    thorough,
    timeouts,
    trickling,
    wait_parked,
    wait_until,
    writing,
)

from f1buf import Empty, Full, Queue, RingBuffer, ShutDown

# What a wait waits for ------------------------------------------------------------------------------------------------

FILLS = {
    "put": lambda ring: ring.put(5),
    "put_nowait": lambda ring: ring.put_nowait(5),
    "put_many": lambda ring: ring.put_many([5]),
    "put_many of an array": lambda ring: ring.put_many(np.array([5])),
}
DRAINS = {
    "get": lambda ring: ring.get(),
    "get_nowait": lambda ring: ring.get_nowait(),
    "get_many": lambda ring: ring.get_many(),
    "get_into": lambda ring: ring.get_into(np.zeros(1, "i8")),
    "batches": lambda ring: next(ring.batches()),
}
FOREVER = {
    "None": None,
    "inf": float("inf"),
    "np.inf": np.float32("inf"),
    "1e300": 1e300,
    "10**400": 10**400,
    "Decimal 1e400": decimal.Decimal("1e400"),
    "292 years": 9.2e9,
    "95 years": 3e9,  # no number of seconds for 32 bits
    "a minute": 60,
    "Fraction": fractions.Fraction(121, 2),
    "float16": np.float16(60),
    "int8": np.int8(60),
}
each_fill = pytest.mark.parametrize("fill", FILLS.values(), ids=list(FILLS))
each_drain = pytest.mark.parametrize("drain", DRAINS.values(), ids=list(DRAINS))
each_long_timeout = pytest.mark.parametrize("timeout", FOREVER.values(), ids=list(FOREVER))


@each_fill
@each_get
def test_a_get_waits_for_a_put(name, fill):
    ring = RingBuffer(1, "i8")
    getter = parked(CALLS[name], ring)
    fill(ring)
    assert getter.result() == (1 if name == "get_into" else 5)
    assert ring.empty()
    check_balance(ring)


@each_drain
@each_put
def test_a_put_waits_for_a_get(name, drain):
    ring = ring_with(1)
    putter = parked(FILLS[name], ring)
    drain(ring)
    assert putter.result() == (1 if name == "put_many" else None)
    assert contents(ring) == [5]
    check_balance(ring)


@each_long_timeout
@each_call
def test_a_long_timeout_waits_until_it_can_go_on(name, timeout):
    """Sentence 7: None and infinity wait for ever, a huge timeout saturates; any real number is one."""
    ring = stuck_ring(name)
    waiter = parked(CALLS[name], ring, timeout=timeout)
    if name in PUTS:
        assert ring.get_many().tolist() == [1]
        assert ring.get(timeout=60) == 7
    else:
        ring.put(5)
    waiter.result()
    check_balance(ring)


def test_timeouts_just_below_the_saturation_do_not_pass_at_once():
    """Sentence 7: the clock moves on while a deadline near the end of time is computed."""
    ring, rng = RingBuffer(2, "i8"), random.Random(1)
    feeder = Task(lambda: [ring.put(number) for number in range(6000)])
    for _ in range(3000):
        end_of_time = (2**63 - 1 - time.monotonic_ns()) * 1e-9
        assert len(ring.get_many(2, min_count=2, timeout=end_of_time - rng.random() * 3e-6)) == 2
    feeder.result()


@pytest.mark.parametrize("timeout", [0.05, 0.0503, np.float64(0.05), fractions.Fraction(1, 20)], ids=repr)
@each_call
def test_a_timeout_is_kept(name, timeout):
    """Sentence 7: never early, by the monotonic clock, and not much late."""
    ring = stuck_ring(name)
    began = time.monotonic()
    assert_times_out(name, ring, timeout=timeout)
    assert timeout <= time.monotonic() - began < timeout + LATE
    check_balance(ring)


@pytest.mark.parametrize("buffer", [RingBuffer(1, "i8"), Queue()], ids=["ring", "queue"])
def test_true_is_a_timeout_of_one_second(buffer):
    began = time.monotonic()
    with pytest.raises(Empty):
        buffer.get(timeout=True)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, False, 1e-12, 5e-324], ids=repr)
@each_call
def test_a_timeout_of_next_to_nothing_is_over_at_once(name, timeout):
    began = time.monotonic()
    assert_times_out(name, stuck_ring(name), timeout=timeout)
    assert time.monotonic() - began < LATE


@each_call
def test_a_timeout_is_kept_in_other_threads_too(name):
    """The main thread looks for signals every 50 ms; others sleep through."""
    ring = stuck_ring(name)
    began = time.monotonic()
    Task(assert_times_out, name, ring, timeout=0.12).result()
    assert 0.12 <= time.monotonic() - began < 0.12 + LATE


def test_one_timeout_is_for_all_of_a_put_many():
    """Room that comes again and again does not renew it."""
    for timeout, _ in timeouts():
        ring, accepted = ring_with(0), 0
        with trickling(ring), contextlib.suppress(Full):  # where no room has come at all
            began = time.monotonic()
            accepted = ring.put_many(range(10_000), timeout=timeout)
        assert timeout <= time.monotonic() - began < timeout + LATE
        assert accepted < 10_000
        assert ring.stats().offered == 1 + accepted
        if accepted:
            break


# put_many longer than the capacity, min_count -------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("capacity", [1, 2, 7, 1000])
def test_put_many_may_be_longer_than_the_capacity(capacity, batch):
    ring, total = RingBuffer(capacity, "i8"), 50 * capacity + 13
    putter = Task(ring.put_many, np.arange(total))
    taken = []
    while len(taken) < total:
        taken += ring.get_many(batch).tolist()
    assert putter.result() == total
    assert taken == list(range(total))
    check_balance(ring)


def test_put_many_ended_by_a_shutdown_says_what_it_accepted():
    ring = RingBuffer(3, "i8")
    putter = parked(ring.put_many, range(10))
    assert ring.get_many(2).tolist() == [0, 1]
    wait_until(ring.full)
    wait_parked(putter)
    ring.shutdown()
    assert putter.result() == 5
    assert contents(ring) == [2, 3, 4]
    check_balance(ring)


@thorough
def test_put_many_ended_by_a_timeout_says_what_it_accepted():
    for timeout, in_time in timeouts():
        ring = RingBuffer(3, "i8")
        putter = parked_or_over(ring.put_many, range(10), timeout=timeout)
        ring.get()
        if in_time():
            break
    assert putter.result() == 4
    assert contents(ring) == [1, 2, 3]
    check_balance(ring)


@pytest.mark.parametrize("take", ["get_many", "get_into", "batches"])
def test_min_count_waits_for_that_many_and_takes_what_is_there(take):
    ring, out = RingBuffer(10, "i8"), np.zeros(10, "i8")
    ring.put_many([0, 1])
    getter = parked(
        {
            "get_many": lambda: ring.get_many(min_count=4).tolist(),
            "get_into": lambda: out[: ring.get_into(out, min_count=4)].tolist(),
            "batches": lambda: next(ring.batches(min_count=4)).tolist(),
        }[take]
    )
    ring.put(2)
    wait_parked(getter)
    assert ring.qsize() == 3
    ring.put_many([3, 4])
    assert getter.result() == [0, 1, 2, 3, 4]


def test_min_count_up_to_the_maximum_leaves_the_rest():
    ring = RingBuffer(10, "i8")
    getter = parked(ring.get_many, 3, min_count=3)
    ring.put_many(range(5))
    assert getter.result().tolist() == [0, 1, 2]
    assert contents(ring) == [3, 4]


def test_min_count_may_be_the_capacity_and_outgrow_the_array_allocated():
    ring = RingBuffer(100_000, "i8")
    getter = parked(ring.get_many, min_count=50_000)
    ring.put_many(np.arange(100_000))
    batch = getter.result()
    assert batch.flags.owndata
    assert np.array_equal(batch, np.arange(len(batch)))
    assert len(batch) >= 50_000
    check_balance(ring)


def test_a_wait_for_the_first_record_takes_all_of_a_large_batch():
    """What it allocates before it knows what comes is less than this."""
    ring = RingBuffer(100_000, "i8")
    getter = parked(ring.get_many)
    ring.put_many(np.arange(100_000))
    assert np.array_equal(getter.result(), np.arange(100_000))
    check_balance(ring)


def test_a_promise_ends_once_the_get_has_its_records():
    """Also while it was away to allocate."""
    ring = RingBuffer(100_000, "i8")
    getter = parked(ring.get_many)
    ring.put_many(np.arange(100_000))
    assert len(getter.result()) == 100_000
    getter = parked(ring.get)
    ring.put(1)
    assert getter.result() == 1


def test_min_count_at_the_timeout_takes_what_has_come():
    for timeout, in_time in timeouts():
        ring = RingBuffer(10, "i8")
        getter = parked_or_over(ring.get_many, min_count=4, timeout=timeout)
        ring.put_many([1, 2])
        if in_time():
            break
    assert getter.result().tolist() == [1, 2]


# Shutdown -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
@each_call
def test_a_shutdown_wakes_everybody(name, immediate):
    ring = stuck_ring(name)
    waiters = [parked(CALLS[name], ring, timeout=60) for _ in range(3)]
    ring.shutdown(immediate)
    for waiter in waiters:
        with pytest.raises(StopIteration if name == "batches" else ShutDown):
            waiter.result()
    assert ring.stats().discarded == (immediate and name in PUTS)
    check_balance(ring)


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
def test_a_shutdown_serves_a_get_that_waits_for_more_with_the_rest(immediate):
    ring = ring_with(1, 2, capacity=5)
    waiters = [parked(ring.get_many, 3, min_count=3), parked(ring.get_many, 3, min_count=3)]
    ring.shutdown(immediate)
    outcomes = []
    for waiter in waiters:
        try:
            outcomes.append(waiter.result().tolist())
        except ShutDown:
            outcomes.append("shut down")
    assert sorted(outcomes, key=str) == (["shut down"] * 2 if immediate else [[1, 2], "shut down"])
    assert (ring.stats().taken, ring.stats().discarded) == ((0, 2) if immediate else (2, 0))
    check_balance(ring)


@pytest.mark.parametrize("failure", [None, ZeroDivisionError])
def test_the_end_of_a_with_block_wakes_a_waiter(failure):
    ring = ring_with(1)
    putter = parked(ring.put, 2)
    try:
        with ring:
            if failure is not None:
                raise failure
    except ZeroDivisionError:
        pass
    with pytest.raises(ShutDown):
        putter.result()
    assert contents(ring) == ([] if failure else [1])
    check_balance(ring)


def test_batches_hand_over_everything_and_end():
    ring = RingBuffer(7, "i8")
    consumer = Task(lambda: [batch.tolist() for batch in ring.batches(3)])
    ring.put_many(range(100))
    ring.shutdown()
    batches = consumer.result()
    assert list(itertools.chain(*batches)) == list(range(100))
    assert all(1 <= len(batch) <= 3 for batch in batches)


# First come, first served ---------------------------------------------------------------------------------------------


@pytest.mark.threads_only(reason="whom a shared ring serves first is the kernel's choice")
@each_get
def test_gets_are_served_in_the_order_they_came(name):
    ring, order = RingBuffer(4, "i8"), []

    def take(number):
        CALLS[name](ring)
        order.append(number)

    waiters = [parked(take, number) for number in range(4)]
    for number, waiter in enumerate(waiters):
        ring.put(number)
        waiter.result()
        assert order == list(range(number + 1))


@pytest.mark.threads_only(reason="whom a shared ring serves first is the kernel's choice")
@each_put
def test_puts_are_served_in_the_order_they_came(name):
    ring = ring_with(-1)
    waiters = [parked(ring.put, number) if name == "put" else parked(ring.put_many, [number]) for number in range(4)]
    for number, waiter in enumerate(waiters):
        assert ring.get() == number - 1
        waiter.result()
        assert contents(ring) == [number]
    check_balance(ring)


@pytest.mark.threads_only(reason="whom a shared ring serves first is the kernel's choice")
def test_a_large_put_does_not_hold_up_the_others():
    """Sentence 5: each of its pieces comes to the end of the line."""
    ring, taken = ring_with(-1), []
    large = parked(ring.put_many, range(10))
    small = parked(ring.put, 100)
    for _ in range(4):
        taken.append(int(ring.get()))
        wait_until(ring.full)
        wait_parked(large)
    assert taken == [-1, 0, 100, 1]
    small.result()
    ring.shutdown()
    assert large.result() == 3


def test_one_batch_serves_as_many_as_it_can():
    """Each that was served wakes the next."""
    ring = RingBuffer(10, "i8")
    waiters = [parked(ring.get) for _ in range(5)]
    ring.put_many(range(4))
    wait_until(lambda: sum(waiter.is_alive() for waiter in waiters) == 1, "all but one to be served")
    assert ring.empty()
    wait_parked(next(waiter for waiter in waiters if waiter.is_alive()))  # between processes it may be any of them
    ring.put(4)
    assert sorted(waiter.result() for waiter in waiters) == [0, 1, 2, 3, 4]


def test_one_large_get_makes_room_for_as_many_as_it_can():
    ring = ring_with(1, 2, 3)
    waiters = [parked(ring.put, number) for number in (4, 5, 6)]
    ring.get_many()
    for waiter in waiters:
        waiter.result()
    assert contents(ring) == [4, 5, 6]


def test_a_get_that_needs_many_does_not_block_a_get_behind_it_that_needs_few():
    ring = RingBuffer(10, "i8")
    large = parked(ring.get_many, min_count=5)
    small = parked(ring.get_many, 2, min_count=2)
    ring.put(1)
    wait_parked(small)
    ring.put(2)
    assert small.result().tolist() == [1, 2]
    wait_parked(large)
    ring.put_many(range(5))
    assert large.result().tolist() == list(range(5))


def test_a_get_that_times_out_leaves_its_place_to_the_next():
    for timeout, in_time in timeouts():
        ring = RingBuffer(5, "i8")
        first = parked_or_over(ring.get_many, min_count=3, timeout=timeout)
        second, third = parked(ring.get), parked(ring.get)
        if in_time():
            break
    with pytest.raises(Empty):
        first.result()
    ring.put_many([1, 2])
    assert sorted((second.result(), third.result())) == [1, 2]


@thorough
def test_a_put_that_leaves_at_the_timeout_leaves_its_place_to_the_next():
    for timeout, in_time in timeouts():
        ring = ring_with(0)
        first = parked_or_over(ring.put, 1, timeout=timeout)
        second = parked(ring.put, 2)
        if in_time():
            break
    with pytest.raises(Full):
        first.result()
    assert ring.get() == 0
    second.result()
    assert contents(ring) == [2]


def test_records_that_come_just_at_the_timeout_are_not_lost():
    """A waiter that gave up as it was served passes that on: the other one, which has no timeout, gets the record."""
    for round_number in range(60):
        ring = RingBuffer(1, "i8")
        hasty = Task(ring.get, timeout=0.002)
        patient = Task(ring.get)
        time.sleep(0.0015 + 0.0001 * (round_number % 10))  # the race itself: about when the timeout comes
        ring.put(1)
        try:
            assert hasty.result() == 1
            ring.put(2)
            assert patient.result() == 2
        except Empty:
            assert patient.result() == 1
        check_balance(ring)


# What a wait counts ---------------------------------------------------------------------------------------------------


@each_call
def test_stats_count_the_waits_of_each_side(name):
    ring = stuck_ring(name)
    began = time.monotonic()
    waiter = Task(CALLS[name], ring)
    wait_parked(waiter)
    seen_waiting = time.monotonic()
    time.sleep(0.02)  # so that there is something to measure
    waited = time.monotonic() - seen_waiting
    if name in PUTS:
        ring.get_many()
        ring.get()
    else:
        ring.put(1)
    waiter.result()
    longest, stats = time.monotonic() - began, ring.stats()
    side = "put" if name in PUTS else "get"
    assert getattr(stats, f"{side}_waits") >= 1
    assert waited <= getattr(stats, f"{side}_wait_seconds") <= longest


@each_call
def test_a_wait_that_ends_at_the_timeout_counts(name):
    ring = stuck_ring(name)
    assert_times_out(name, ring, timeout=0.02)
    stats = ring.stats()
    assert (stats.put_waits, stats.get_waits) == ((1, 0) if name in PUTS else (0, 1))
    assert 0 < stats.put_wait_seconds + stats.get_wait_seconds < 0.02 + LATE  # it begins a little after the timeout


# Copies in progress ---------------------------------------------------------------------------------------------------

each_small_put = pytest.mark.parametrize("put", FILLS.values(), ids=list(FILLS))


def test_a_put_goes_on_beside_a_large_get():
    """Large and small ones; Python runs, too."""
    with reading(spare=10_001) as ring:
        assert ring.put_many(np.arange(10_000)) == 10_000
        ring.put_nowait(-1)
        assert ring.full()
    assert np.array_equal(ring.get_many(), np.append(np.arange(10_000), -1))
    check_balance(ring)


def test_a_get_goes_on_beside_a_large_put():
    with writing(capacity=3, before=[1, 2]) as ring:
        assert ring.get_nowait()["number"] == 1
        assert ring.get_many()["number"].tolist() == [2]
        with pytest.raises(Empty):
            ring.get_nowait()
    assert ring.get()["number"] == 7
    check_balance(ring)


@thorough(but=("*drop_oldest-put", "*drop_oldest-put_many"))
@each_small_put
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_records_that_are_being_read_are_not_overwritten(overflow, put):
    """Sentence 1: then the new record is dropped, and nobody waits for the copy to end."""
    with reading(overflow) as ring:
        put(ring)
        assert ring.stats().dropped == 1
    put(ring)
    seq, batch = ring.get_many(return_seq=True)
    assert (seq, batch.tolist(), ring.stats().dropped) == (MANY, [5], 1)
    check_balance(ring)


def test_a_batch_that_fits_in_part_beside_records_being_read_is_dropped_in_part():
    with reading("drop_oldest", spare=3) as ring:
        assert ring.put_many([-1, -2, -3, -4, -5]) == 5
    assert contents(ring) == [-1, -2, -3]
    assert ring.stats().dropped == 2
    check_balance(ring)


def test_drop_oldest_overwrites_again_once_it_is_read():
    with reading("drop_oldest", more=[1, 2]) as ring:
        pass
    assert ring.put_many(np.arange(MANY + 1)) == MANY + 1
    assert ring.stats().dropped == 1
    assert ring.get() == 2
    check_balance(ring)


def test_a_snapshot_is_not_overwritten_while_it_is_copied():
    with reading("drop_oldest", take=RingBuffer.snapshot) as ring:
        assert ring.put_many([-1, -2]) == 2
        assert (ring.qsize(), ring.stats().dropped) == (MANY, 2)
    assert (ring.qsize(), ring.get()) == (MANY, 1)
    check_balance(ring)


def test_an_immediate_shutdown_beside_a_snapshot_discards_everything():
    with reading(take=RingBuffer.snapshot) as ring:
        waiter = parked(ring.get)
        ring.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        waiter.result()
    assert (ring.qsize(), ring.stats().discarded) == (0, MANY)
    check_balance(ring)


def test_a_put_that_finds_no_room_beside_a_copy_is_refused_at_once():
    with reading() as ring:
        for put in (lambda: ring.put_nowait(1), lambda: ring.put_many([1], timeout=0.001)):
            with pytest.raises(Full):
                put()
    check_balance(ring)


LOOKS = {
    "get_nowait": lambda ring: [ring.get_nowait()],
    "get": lambda ring: [ring.get(timeout=0)],
    "get with a timeout": lambda ring: [ring.get(timeout=0.001)],
    "get_many": lambda ring: ring.get_many(block=False).tolist(),
    "get_many of more": lambda ring: ring.get_many(min_count=2, block=False).tolist(),
    "get_into": lambda ring: [ring.get_into(np.zeros(1, "i8"), block=False)],
    "snapshot": lambda ring: ring.snapshot(1).tolist(),
}


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
@thorough(but=("*get*",))
@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
def test_a_non_blocking_get_waits_for_a_copy_in_progress(look):
    """Sentence 2: it finds what the other one left, rather than nothing."""
    with reading(more=[1]) as ring:
        waiter = parked(look, ring)
    assert waiter.result() == [1]
    check_balance(ring)


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
def test_a_non_blocking_get_raises_after_a_copy_that_left_nothing():
    """Sentence 2."""
    with reading() as ring:
        waiters = [parked(ring.get_nowait), parked(ring.get, timeout=0.001)]
    for waiter in waiters:
        with pytest.raises(Empty):
            waiter.result()
    check_balance(ring)


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
def test_a_non_blocking_put_raises_after_a_copy_that_left_no_room():
    """Sentence 2."""
    with writing(capacity=1) as ring:
        waiters = [parked(ring.put_many, np.zeros(1, LARGE), timeout=timeout) for timeout in (0, 0.001)]
    for waiter in waiters:
        with pytest.raises(Full):
            waiter.result()
    check_balance(ring)


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest"])
def test_a_non_blocking_put_waits_for_a_copy_in_progress(overflow):
    """Sentence 2: there is room once it is over."""
    with writing(overflow=overflow) as ring:
        waiter = parked(ring.put_many, np.zeros(1, LARGE), block=False)
    assert waiter.result() == 1
    assert ring.snapshot()["number"].tolist() == [7, 0]
    check_balance(ring)


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
def test_a_shutdown_beside_a_copy_out_leaves_the_copy_its_records(immediate):
    with reading(more=[1, 2, 3]) as ring:
        waiter = parked(ring.get_many)
        ring.shutdown(immediate)
        with pytest.raises(ShutDown):
            ring.put_nowait(1)
    if immediate:
        with pytest.raises(ShutDown):
            waiter.result()
    else:
        assert waiter.result().tolist() == [1, 2, 3]
    assert ring.stats().discarded == (3 if immediate else 0)
    check_balance(ring)


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
def test_a_shutdown_beside_a_copy_in_keeps_or_discards_the_copys_records(immediate):
    with writing(capacity=3, before=[1]) as ring:
        waiter = parked(ring.put_many, np.zeros(1, LARGE))
        ring.shutdown(immediate)
        assert ring.qsize() == (0 if immediate else 1)
    with pytest.raises(ShutDown):
        waiter.result()
    assert (ring.qsize(), ring.stats().discarded) == ((0, 2) if immediate else (2, 0))
    check_balance(ring)


def test_a_shutdown_beside_a_copy_in_does_not_turn_milder():
    with writing(capacity=3, before=[1]) as ring:
        ring.shutdown(immediate=True)
        ring.shutdown()
    assert (ring.qsize(), ring.stats().discarded) == (0, 2)
    check_balance(ring)


def test_gets_after_a_shutdown_wait_for_a_put_that_is_copying():
    """Its record is to come: the ring is not drained yet."""
    with writing() as ring:
        ring.shutdown()
        for look in (ring.get_nowait, lambda: ring.get(timeout=0.001), lambda: ring.get_many(block=False)):
            with pytest.raises(Empty):
                look()
        waiter = parked(lambda: [batch["number"].tolist() for batch in ring.batches()])
    assert waiter.result() == [[7]]
    with pytest.raises(ShutDown):
        ring.get_nowait()
    check_balance(ring)


def test_stats_and_sizes_do_not_wait_for_a_copy():
    with reading() as ring:
        assert (ring.qsize(), ring.full(), ring.stats().taken, ring.is_shutdown) == (MANY, True, 0, False)
        ring._check()


def test_other_threads_run_python_while_one_copies_in():
    """A put of many pieces is seen growing; again and again, until this thread comes to look in its middle."""
    ring, numbers, sizes = RingBuffer(MANY, "i8"), np.arange(MANY), set()

    def put_and_take():
        while len(sizes) < 4:
            assert ring.put_many(numbers) == MANY
            assert np.array_equal(ring.get_many(), numbers)

    putter = Task(put_and_take)
    wait_until(lambda: sizes.add(ring.qsize()) or len(sizes) > 3, "the middle of a put")
    putter.result()
    check_balance(ring)


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
def test_put_nowait_beside_a_long_put_is_not_refused():
    """Sentence 2: it may wait for the copy, and there is room."""
    ring, own = RingBuffer(2 * MANY, "i8"), 0
    putter = Task(ring.put_many, np.arange(1, MANY + 1))
    while putter.is_alive():
        own -= 1
        ring.put_nowait(own)
    assert putter.result() == MANY
    records = ring.get_many()
    assert np.array_equal(records[records > 0], np.arange(1, MANY + 1))
    assert np.array_equal(records[records < 0], np.arange(-1, own - 1, -1))
    check_balance(ring)


def test_get_nowait_beside_a_long_put_finds_records_in_order():
    ring, taken = RingBuffer(MANY, "i8"), []
    putter = Task(ring.put_many, np.arange(MANY))
    wait_until(ring.qsize)
    while putter.is_alive():
        if ring.qsize():  # the putter may be stopped between two of its pieces
            taken.append(ring.get_nowait())
    assert putter.result() == MANY
    assert taken == list(range(len(taken)))
    check_balance(ring)


# Several producers and consumers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [5, 3000, 200_000])
def test_large_puts_may_interleave_and_each_producers_order_holds(capacity):
    """Sentence 5."""
    ring, total = RingBuffer(capacity, [("producer", "u1"), ("number", "u4")]), 100_000 if capacity > 5 else 2000
    streams = np.zeros((3, total), ring.dtype)
    streams["producer"] = np.arange(3)[:, None]
    streams["number"] = np.arange(total)
    putters = [Task(ring.put_many, stream) for stream in streams]
    taken, count = [], 0
    while count < 3 * total:
        taken.append(ring.get_many())
        count += len(taken[-1])
    assert [putter.result() for putter in putters] == [total] * 3
    everything = np.concatenate(taken)
    for producer in range(3):
        assert np.array_equal(everything["number"][everything["producer"] == producer], np.arange(total))
    check_balance(ring)


def test_each_take_is_one_contiguous_range():
    """Sentence 4: with several consumers, too, a batch's number and its records go together."""
    total = 300_000
    ring = RingBuffer(10_000, "i8")

    def take():
        found = []
        try:
            while True:
                found.append(ring.get_many(return_seq=True))
        except ShutDown:
            return found

    takers = [Task(take) for _ in range(3)]
    numbers = np.arange(total)
    for start in range(0, total, 3000):
        ring.put_many(numbers[start : start + 3000])
    ring.shutdown()
    batches = [batch for taker in takers for batch in taker.result()]
    assert all(np.array_equal(batch, np.arange(seq, seq + len(batch))) for seq, batch in batches)
    assert sum(len(batch) for _, batch in batches) == total
    check_balance(ring)


def test_large_copies_of_several_threads_each_way():
    size, rounds = 400_000, 5  # 3 MB a batch
    ring = RingBuffer(size * 2 + 7, "i8")
    putters = [Task(lambda k=k: [ring.put_many(np.full(size, k * 10 + i)) for i in range(rounds)]) for k in range(3)]
    takers = [Task(lambda: sum(map(len, iter(ring.batches())))) for _ in range(2)]
    for putter in putters:
        assert putter.result() == [size] * rounds
    ring.shutdown()
    assert sum(taker.result() for taker in takers) == 3 * rounds * size
    check_balance(ring)
