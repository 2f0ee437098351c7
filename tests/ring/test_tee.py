"""Tee: each record into every one of several rings, whatever each of them does with it."""

import inspect
import pickle
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from helpers import LATE, Task, check_balance, contents, parked, ring_with, unchanged, wait_parked

from f1buf import Full, RingBuffer, ShutDown, Tee

PUTS = {
    "put": lambda tee, **how: tee.put(5, **how),
    "put_many": lambda tee, **how: tee.put_many([5], **how),
    "put_nowait": lambda tee: tee.put_nowait(5),
}
each_put = pytest.mark.parametrize("put", PUTS.values(), ids=list(PUTS))
each_waiting_put = pytest.mark.parametrize("put", [PUTS["put"], PUTS["put_many"]], ids=["put", "put_many"])


def rings(count, capacity=10, **options):
    return [RingBuffer(capacity, "i8", **options) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_record_goes_into_every_ring(count):
    targets = rings(count)
    tee = Tee(*targets)
    assert tee.rings == tuple(targets)
    assert tee.put(1) is None
    assert tee.put_nowait(2) is None
    assert tee.put_many([3, 4]) == 2
    assert tee.put_many(np.array([5, 6])) == 2
    assert tee.put_many([]) == 0
    for ring in targets:
        assert contents(ring) == [1, 2, 3, 4, 5, 6]
        check_balance(ring)


def test_each_ring_has_its_own_policy():
    everything, newest, oldest = (
        RingBuffer(10, "i8"),
        *(RingBuffer(2, "i8", overflow=f"drop_{x}") for x in ("oldest", "newest")),
    )
    assert Tee(everything, newest, oldest).put_many(range(5)) == 5
    assert [contents(ring) for ring in (everything, newest, oldest)] == [[0, 1, 2, 3, 4], [3, 4], [0, 1]]
    assert [ring.stats().dropped for ring in (everything, newest, oldest)] == [0, 3, 3]


def test_a_first_ring_that_drops_does_not_keep_the_others_from_anything():
    """What it took from the caller it accepted, kept or not."""
    newest, everything = RingBuffer(2, "i8", overflow="drop_newest"), RingBuffer(10, "i8")
    assert Tee(newest, everything).put_many(range(5)) == 5
    assert (contents(newest), contents(everything)) == ([0, 1], [0, 1, 2, 3, 4])


@each_put
def test_a_first_ring_without_room_refuses_for_all(put):
    first, second = ring_with(1), RingBuffer(2, "i8")
    with unchanged(first), unchanged(second), pytest.raises(Full):
        put(Tee(first, second)) if put is PUTS["put_nowait"] else put(Tee(first, second), block=False)


@each_waiting_put
def test_the_timeout_is_the_first_rings(put):
    first, second = ring_with(1), RingBuffer(2, "i8")
    began = time.monotonic()
    with pytest.raises(Full):
        put(Tee(first, second), timeout=0.05)
    assert 0.05 <= time.monotonic() - began < 0.05 + LATE
    assert (contents(first), contents(second)) == ([1], [])


@pytest.mark.parametrize("how", [{"block": False}, {"timeout": 0}, {"timeout": 0.01}], ids=repr)
def test_the_others_get_just_what_the_first_accepted(how):
    first, second, third = RingBuffer(3, "i8"), RingBuffer(10, "i8"), RingBuffer(2, "i8", overflow="drop_oldest")
    assert Tee(first, second, third).put_many(range(7), **how) == 3
    assert (contents(first), contents(second), contents(third)) == ([0, 1, 2], [0, 1, 2], [1, 2])
    assert third.stats().offered == 3


@each_put
def test_the_others_get_it_however_long_that_takes(put):
    first, second, third = RingBuffer(2, "i8"), ring_with(1), RingBuffer(2, "i8")
    how = {} if put is PUTS["put_nowait"] else {"timeout": 0.001}
    putter = parked(put, Tee(first, second, third), **how)
    assert (contents(first), contents(second), contents(third)) == ([5], [1], [])
    assert second.get() == 1
    putter.result()
    assert (contents(first), contents(second), contents(third)) == ([5], [5], [5])


def test_the_others_get_a_batch_longer_than_they_are():
    first, second = RingBuffer(100, "i8"), RingBuffer(3, "i8")
    putter = Task(Tee(first, second).put_many, range(100), False)
    taken = []
    while len(taken) < 100:
        taken += second.get_many().tolist()
    assert putter.result() == 100
    assert taken == contents(first) == list(range(100))


@each_put
@pytest.mark.parametrize("shut", range(3))
def test_a_ring_that_is_shut_down_is_skipped(shut, put):
    targets = rings(3)
    tee = Tee(*targets)
    targets[shut].shutdown()
    assert put(tee) == (1 if put is PUTS["put_many"] else None)
    assert [contents(ring) for ring in targets] == [[] if index == shut else [5] for index in range(3)]


@each_put
def test_only_when_all_are_shut_down_a_put_raises(put):
    targets = rings(3)
    tee = Tee(*targets)
    for ring in targets[:2]:
        ring.shutdown()
    put(tee)
    targets[2].shutdown(immediate=True)
    with unchanged(targets[2]), pytest.raises(ShutDown, match="all its rings are shut down"):
        put(tee)


@pytest.mark.parametrize("timeout", [0.01, Decimal("0.01"), Fraction(1, 100), np.float32(0.01)], ids=repr)
@each_waiting_put
def test_the_next_ring_takes_the_place_of_a_first_one_that_is_shut_down(put, timeout):
    first, second, third = ring_with(1), ring_with(1), RingBuffer(5, "i8")
    first.shutdown()
    tee = Tee(first, second, third)
    with pytest.raises(Full):
        put(tee, timeout=timeout)
    assert (contents(second), contents(third)) == ([1], [])
    assert second.get() == 1
    put(tee, block=False)
    assert (contents(second), contents(third)) == ([5], [5])


@each_waiting_put
@pytest.mark.parametrize("slow", [0, 1])
def test_a_ring_that_is_shut_down_while_it_makes_the_put_wait_is_skipped(slow, put):
    targets = rings(3)
    targets[slow] = ring_with(1)
    putter = parked(put, Tee(*targets))
    targets[slow].shutdown()
    putter.result()
    assert [contents(ring) for ring in targets] == [[1] if index == slow else [5] for index in range(3)]


def test_a_first_ring_shut_down_in_the_middle_of_a_batch_governs_how_many():
    first, second = RingBuffer(3, "i8"), RingBuffer(10, "i8")
    putter = parked(Tee(first, second).put_many, range(7))
    first.shutdown()
    assert putter.result() == 3
    assert (contents(first), contents(second)) == ([0, 1, 2], [0, 1, 2])


def test_a_later_ring_shut_down_in_the_middle_of_a_batch_changes_nothing_for_the_others():
    first, second, third = RingBuffer(10, "i8"), RingBuffer(3, "i8"), RingBuffer(10, "i8")
    putter = parked(Tee(first, second, third).put_many, range(7))
    second.shutdown()
    assert putter.result() == 7
    assert (contents(second), contents(third)) == ([0, 1, 2], list(range(7)))


@pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])
def test_shutdown_is_for_every_ring(immediate):
    targets = rings(3)
    tee = Tee(*targets)
    tee.put_many([1, 2])
    assert tee.shutdown(immediate) is None
    for ring in targets:
        assert ring.is_shutdown
        assert contents(ring) == ([] if immediate else [1, 2])
        assert ring.stats().discarded == (2 if immediate else 0)
    tee.shutdown()


def test_shutdown_wakes_a_put_that_waits():
    first, second = RingBuffer(2, "i8"), ring_with(1)
    tee = Tee(first, second)
    putter = parked(tee.put, 5)
    tee.shutdown()
    putter.result()
    assert (contents(first), contents(second)) == ([5], [1])
    with pytest.raises(ShutDown):
        tee.put(6)


def test_a_full_later_ring_does_not_hold_up_other_puts_into_the_first():
    first, second = RingBuffer(5, "i8"), ring_with(1)
    putter = parked(Tee(first, second).put, 5)
    first.put_nowait(6)
    assert contents(first) == [5, 6]
    wait_parked(putter)
    second.get()
    putter.result()


def test_each_producers_order_holds_in_each_ring():
    first, second = RingBuffer(7, "i8"), RingBuffer(3, "i8")
    tee = Tee(first, second)
    takers = [Task(lambda ring=ring: np.concatenate(list(ring.batches()))) for ring in (first, second)]
    producers = [
        Task(lambda k=k: [tee.put_many(range(k + i, k + i + 5)) for i in range(0, 500, 5)]) for k in (1000, 2000)
    ]
    for producer in producers:
        assert producer.result() == [5] * 100
    tee.shutdown()
    for taker in takers:
        taken = taker.result()
        for start in (1000, 2000):
            own = taken[(taken >= start) & (taken < start + 1000)]
            assert own.tolist() == list(range(start, start + 500))


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], ValueError, "at least one ring"),
        ([RingBuffer(1), "ring"], TypeError, "'str'"),
        ([[RingBuffer(1)]], TypeError, "'list'"),
        ([RingBuffer(1), RingBuffer(1, "f8")], TypeError, "float64"),
        ([RingBuffer(1, "i8"), RingBuffer(1, ">i8")], TypeError, ">i8"),
        ([RingBuffer(1)] * 2, ValueError, "twice"),
    ],
    ids=["none", "str", "list", "other dtype", "other byte order", "twice"],
)
def test_rings_that_cannot_be_joined_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Tee(*arguments)


@pytest.mark.parametrize("value", [1.5, "x", None, 2**63, [1]], ids=repr)
def test_a_record_that_does_not_fit_changes_no_ring(value):
    first, second = ring_with(1, capacity=5), RingBuffer(5, "i8")
    tee = Tee(first, second)
    for put in (lambda: tee.put(value), lambda: tee.put_nowait(value), lambda: tee.put_many([2, value])):
        with unchanged(first), unchanged(second), pytest.raises((TypeError, ValueError)):
            put()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"], ids=repr)
@pytest.mark.parametrize("full", [True, False], ids=["waits", "need not wait"])
@each_waiting_put
def test_a_wrong_timeout_changes_no_ring(put, full, timeout):
    first, second = ring_with(1, capacity=1 if full else 2), RingBuffer(5, "i8")
    with unchanged(first), unchanged(second), pytest.raises((TypeError, ValueError), match="timeout"):
        put(Tee(first, second), timeout=timeout)


def test_records_are_converted_once():
    class Counted:
        calls = 0

        def __array__(self, dtype=None, copy=None):
            self.calls += 1
            return np.array([1, 2])

    source, targets = Counted(), rings(3)
    assert Tee(*targets).put_many(source) == 2
    assert source.calls == 1
    assert [contents(ring) for ring in targets] == [[1, 2]] * 3


def test_structured_records_go_the_same_way():
    targets = [RingBuffer(3), RingBuffer(3)]
    tee = Tee(*targets)
    tee.put((0.5, 1, 2, 3, 4.0))
    tee.put_many([(0.75, 1, 2, 3, 5.0)])
    tee.put(targets[0].snapshot()[0])
    for ring in targets:
        assert ring.get_many()["value"].tolist() == [4.0, 5.0, 4.0]


@pytest.mark.threads_only(reason="a shared ring can be pickled")
def test_a_tee_is_not_pickled():
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Tee(RingBuffer(1)))


@pytest.mark.parametrize("name", ["put", "put_nowait", "put_many", "shutdown"])
def test_its_methods_are_called_as_those_of_a_ring(name):
    def parameters(cls):
        return [(p.name, p.kind, p.default) for p in inspect.signature(getattr(cls, name)).parameters.values()]

    assert [p[::2] for p in parameters(Tee)] == [p[::2] for p in parameters(RingBuffer)]


def test_a_put_inside_a_block_of_a_later_ring_ends_with_an_error_that_says_so():
    first, later = rings(2)
    with later.reserve(1) as block:
        block.commit(0)
        with pytest.raises(RuntimeError, match="this thread has a block"):
            Tee(first, later).put(5)
    assert contents(first) == [5]  # as the Tee's notes say
    assert contents(later) == []
