"""Blocks: `RingBuffer.reserve` and `peek`, views into the slots without a copy.

When a thread may enter, what enters or leaves the ring at the end, and that no thread sees another's slots.
"""

import builtins
import collections
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import signal
import socket
import struct
import sys
import threading
import weakref

import numpy as np
import pytest
from helpers import (
    CALLS,
    GETS,
    PUTS,
    WATCHDOG,
    StopError,
    Task,
    assert_interrupted,
    assert_times_out,
    check_balance,
    contents,
    each_get,
    each_put,
    forked,
    in_fork,
    parked,
    parked_or_over,
    records,
    ring_with,
    run_python,
    seeded,
    send,
    timeouts,
    wait_parked,
    wait_until,
)
from test_ring_signals import signal_first_of_two, stop

from f1buf import READING, Empty, Full, PeekedBlock, ReservedBlock, RingBuffer, ShutDown

SIDES = {"reserve": ReservedBlock, "peek": PeekedBlock}
POLICIES = ("block", "drop_oldest", "drop_newest")
IN_VAIN = {"reserve": Full, "peek": Empty}

each_side = pytest.mark.parametrize("side", SIDES)
each_policy = pytest.mark.parametrize("overflow", POLICIES)
each_drop_policy = pytest.mark.parametrize("overflow", POLICIES[1:])
without_waiting = pytest.mark.parametrize(
    "how", [{"block": False}, {"timeout": 0}, {"timeout": 0.01}], ids=["block=False", "timeout 0", "timeout"]
)


def block_of(ring, side, n=1, **how):
    return getattr(ring, side)(n, **how)


def ring_for(side, capacity=4, **options):
    """On which a block of one side can be had, of all its slots."""
    return RingBuffer(capacity, "i8", **options) if side == "reserve" else ring_with(*range(capacity), **options)


def stuck_ring(side):
    """On which one has to wait for a block."""
    return ring_with(1) if side == "reserve" else RingBuffer(1, "i8")


def serve(ring, side):
    """Bring what `stuck_ring` lacks."""
    return ring.get() if side == "reserve" else ring.put(1)


def finish(block, count):
    block.commit(count) if isinstance(block, ReservedBlock) else block.consume(count)


def enter_and_leave(ring, side, n=1, **how):
    """The length of a block, and what was in it."""
    with block_of(ring, side, n, **how) as block:
        return len(block), block.array.tolist()


@contextlib.contextmanager
def held(ring, side, n=1, at_the_end=lambda block: None):
    """Another thread has a block out; it leaves that at the end."""
    entered, over = threading.Event(), threading.Event()

    def hold():
        with block_of(ring, side, n) as block:
            entered.set()
            over.wait(WATCHDOG)
            at_the_end(block)

    holder = Task(hold)
    assert entered.wait(WATCHDOG), "it could not be entered"
    try:
        yield
    finally:
        over.set()
        holder.result()


def write(*values):
    def write_them(block):
        block.array[:] = values

    return write_them


# What a block is ------------------------------------------------------------------------------------------------------


def test_records_that_are_written_enter_when_the_block_ends():
    ring = RingBuffer(4, "i8")
    with ring.reserve(3) as block:
        assert isinstance(block, ReservedBlock)
        assert len(block) == 3
        block.array[:] = [1, 2, 3]
        assert contents(ring) == []
        assert len(ring) == 0
    assert contents(ring) == [1, 2, 3]
    assert ring.stats()[:4] == (3, 0, 0, 0)
    assert ring.stats().high_water == 3
    check_balance(ring)


def test_records_that_are_read_leave_when_the_block_ends():
    ring = ring_with(1, 2, 3)
    with ring.peek(2) as block:
        assert isinstance(block, PeekedBlock)
        assert block.array.tolist() == [1, 2]
        assert len(ring) == 3
        assert ring.stats().taken == 0
    assert contents(ring) == [3]
    assert ring.stats().taken == 2
    check_balance(ring)


@pytest.mark.parametrize("counts", [[0], [1], [3], [3, 2], [0, 3]], ids=str)
def test_commit_says_how_many_enter(counts):
    ring = RingBuffer(4, "i8")
    with ring.reserve(3) as block:
        block.array[:] = [1, 2, 3]
        for count in counts:
            block.commit(count)
    assert contents(ring) == [1, 2, 3][: counts[-1]]
    ring.put(4)
    assert contents(ring) == [*[1, 2, 3][: counts[-1]], 4]
    assert ring.stats().offered == counts[-1] + 1
    check_balance(ring)


@pytest.mark.parametrize("counts", [[0], [1], [3], [3, 2], [0, 3]], ids=str)
def test_consume_says_how_many_leave(counts):
    ring = ring_with(1, 2, 3)
    with ring.peek() as block:
        for count in counts:
            block.consume(count)
    assert contents(ring) == [1, 2, 3][counts[-1] :]
    assert ring.stats().taken == counts[-1]
    check_balance(ring)


@pytest.mark.parametrize("count", [None, 1], ids=["all", "some"])
@each_side
def test_an_exception_that_leaves_the_block_changes_nothing(side, count):
    ring = ring_for(side)
    before = contents(ring)

    def fail():
        with block_of(ring, side, 2) as block:
            if count is not None:
                finish(block, count)
            assert block.array.shape == (2,)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents(ring) == before
    assert ring.stats().taken == 0
    with block_of(ring, side, 2):
        pass
    assert len(ring) == 2
    check_balance(ring)


def test_a_reserved_array_is_writable_and_a_peeked_one_is_not():
    ring = RingBuffer(2, READING)
    with ring.reserve(2) as block:
        assert block.array.dtype == READING
        assert block.array.shape == (2,)
        assert block.array.flags.writeable
        assert block.array.flags.aligned
        assert not block.array["value"].any(), "slots that nobody has written to are zeros"
        block.array["value"] = [1.5, 2.5]
        assert block.array["value"].tolist() == [1.5, 2.5], "each array is of the same slots"
    with ring.peek() as block:
        assert block.array.dtype == READING
        assert not block.array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            block.array["value"] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            block.array.flags.writeable = True
        assert block.array["value"].tolist() == [1.5, 2.5]


@each_side
def test_a_block_ends_where_the_slots_end(side):
    ring = RingBuffer(4, "i8")
    ring.put_many([0, 1, 2])
    ring.get_many(2 if side == "peek" else 3)
    if side == "peek":
        ring.put_many([3, 4])  # 2 is in the last slot but one, 4 in the first
        assert enter_and_leave(ring, side, 3, min_count=3) == (2, [2, 3])
        assert contents(ring) == [4]
        assert enter_and_leave(ring, side, None) == (1, [4])
    else:
        with ring.reserve(4) as block:
            assert (len(block), block.array.shape, memoryview(block).nbytes) == (1, (1,), 8)
            block.array[0] = 3
        with ring.reserve(3) as block:
            assert len(block) == 3
            block.array[:] = [4, 5, 6]
        assert contents(ring) == [3, 4, 5, 6]
    check_balance(ring)


@pytest.mark.parametrize("capacity", [1, 2, 3, 7])
def test_any_sequence_of_blocks_and_copies_is_as_of_a_list(capacity):
    rng, ring, model, number = seeded(), RingBuffer(capacity, "i8"), collections.deque(), 0
    for _ in range(500):
        n = rng.randrange(1, capacity + 1)
        start, room = number % capacity, capacity - len(model)
        way = rng.choice(["reserve", "peek", "put_many", "get_many"])
        if way == "reserve" and room:
            with ring.reserve(n, block=False) as block:
                assert len(block) == min(n, room, capacity - start)
                assert block.first_seq == number
                keep = rng.randrange(len(block) + 1)
                block.array[:] = range(number, number + len(block))
                block.commit(keep)
            model.extend(range(number, number + keep))
            number += keep
        elif way == "peek" and model:
            with ring.peek(n, block=False) as block:
                straight = min(n, len(model), capacity - model[0] % capacity)
                assert block.array.tolist() == list(model)[:straight]
                assert block.first_seq == model[0]
                keep = rng.randrange(len(block) + 1)
                block.consume(keep)
            for _ in range(keep):
                model.popleft()
        elif way == "put_many" and room:
            taken = ring.put_many(range(number, number + n), block=False)
            model.extend(range(number, number + taken))
            number += taken
        elif way == "get_many" and model:
            assert ring.get_many(n).tolist() == [model.popleft() for _ in range(min(n, len(model)))]
        assert contents(ring) == list(model)
        check_balance(ring)


def test_reserve_waits_for_all_of_its_slots_or_takes_what_is_free_in_time():
    ring = ring_with(1, 2, 3, capacity=4)
    ring.get_many()
    ring.put_many([4])
    ring.get()  # all is free, and the next slot is the first
    ring.put_many([1, 2])
    waiter = parked(enter_and_leave, ring, "reserve", 4)
    ring.get()
    wait_parked(waiter)
    ring.get()
    assert waiter.result()[0] == 2  # of the four, up to the end of the slots
    assert ring.get_many(2).shape == (2,)
    ring.put(1)
    assert enter_and_leave(ring, "reserve", 4, timeout=0.01)[0] == 3
    check_balance(ring)


def test_peek_waits_for_its_min_count_or_takes_what_is_there_in_time():
    ring = ring_with(1, capacity=4)
    assert enter_and_leave(ring, "peek", 3, min_count=2, timeout=0.01) == (1, [1])
    waiter = parked(enter_and_leave, ring, "peek", None, min_count=2)
    ring.put(2)
    wait_parked(waiter)
    ring.put(3)
    assert waiter.result() == (2, [2, 3])
    check_balance(ring)


@each_side
def test_a_block_that_cannot_be_had_in_time_raises(side):
    ring = stuck_ring(side)
    for how in ({"block": False}, {"timeout": 0}, {"timeout": 0.01}):
        with pytest.raises(IN_VAIN[side], match=r"the ring is full; nothing was put|the ring is empty"):
            block_of(ring, side, **how).__enter__()
    check_balance(ring)


def test_first_seq_counts_the_records_that_entered():
    ring = ring_with(0, 1, 2, capacity=3, overflow="drop_oldest")
    ring.put_many([3, 4])
    with ring.peek(1) as block:
        assert block.first_seq == block.array[0] == 2
    assert ring.get_many(1, return_seq=True)[0] == 3
    with ring.reserve(1) as block:
        assert block.first_seq == 5


@each_side
def test_repr_says_what_has_become_of_it(side):
    ring, name = ring_for(side), SIDES[side].__name__
    block = block_of(ring, side, 3)
    assert repr(block) == f"<{name} new>"
    with block:
        assert repr(block) == f"<{name} of 3 records>"
    assert repr(block) == f"<{name} left>"


@each_side
def test_a_block_cannot_be_pickled_or_copied(side):
    ring = ring_for(side)
    with block_of(ring, side) as block:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"a block cannot be pickled or copied: .*; copy its array"):
                call(block)


@each_side
def test_a_block_that_no_ring_made_is_harmless(side):
    kind = SIDES[side]
    with pytest.raises(TypeError, match=rf"a {kind.__name__} cannot be made by itself; ask a ring: `with ring.{side}"):
        kind()
    made = kind.__new__(kind)
    assert repr(made) == f"<{kind.__name__} left>"
    for use in (lambda: made.array, lambda: len(made), made.__enter__, lambda: made.__exit__(None, None, None)):
        with pytest.raises(RuntimeError):
            use()
    with pytest.raises(BufferError):
        memoryview(made)


def test_a_lease_that_no_block_made_is_harmless():
    with RingBuffer(1, "i8").reserve(1) as block:
        lease = type(block.array.base)
    with pytest.raises(BufferError, match="there is no block; ask a block"):
        memoryview(lease())


# Records of any dtype -------------------------------------------------------------------------------------------------

DTYPES = {
    "READING": READING,
    "datetime64": np.dtype("M8[ns]"),
    "bare U3": np.dtype("U3"),
    "bare raw bytes": np.dtype("V5"),
    "other byte order": np.dtype(">i4"),
    "truth values": np.dtype("?"),
    "complex": np.dtype("c16"),
    "sub-array fields": np.dtype([("at", "M8[us]"), ("matrix", "f4", (2, 3)), ("nested", [("x", "u2", (2,))], (2,))]),
    "unaligned": np.dtype([("flag", "u1"), ("number", "f8"), ("tag", "S3")]),
    "padded": np.dtype([("flag", "u1"), ("number", "f8")], align=True),
    "larger than a page": np.dtype([("number", "i8"), ("bulk", "u1", (5000,))]),
}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=list(DTYPES))
def test_records_of_any_dtype_go_through_blocks_bit_for_bit(dtype):
    ring, given = RingBuffer(3, dtype), records(dtype, 5)
    for first in range(0, 4, 2):  # the second time around the end
        todo = given[first : first + 2]
        while len(todo):
            with ring.reserve(len(todo)) as block:
                assert block.array.dtype == dtype
                block.array[...] = todo[: len(block)]
                todo = todo[len(block) :]
        assert ring.snapshot().tobytes() == given[first : first + 2].tobytes()
        taken = b""
        while len(ring):
            with ring.peek() as block:
                assert block.array.dtype == dtype
                taken += block.array.tobytes()
        assert taken == given[first : first + 2].tobytes()
    check_balance(ring)


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n is 0; expected at least 1"),
        (-1, ValueError, "n is -1; expected at least 1"),
        (5, ValueError, "n is 5; expected at most the capacity, which is 4"),
        (2**64, ValueError, f"n is {2**64}; expected at most the capacity, which is 4"),
        (1.5, TypeError, "n is 1.5; expected an integer of at least 1"),
        ("2", TypeError, "n is '2'; expected an integer of at least 1"),
        (None, TypeError, "n is None; expected an integer of at least 1"),
    ],
    ids=str,
)
def test_reserve_refuses_what_is_no_count(n, error, message):
    with pytest.raises(error) as caught:
        RingBuffer(4, "i8").reserve(n)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_count": 0}, ValueError, "min_count is 0; expected at least 1"),
        ({"min_count": 5}, ValueError, "min_count is 5; expected at most the capacity, which is 4"),
        ({"max_count": 0}, ValueError, "min_count is 1; expected at most max_count, which is 0"),
        ({"max_count": -1}, ValueError, "max_count is -1; expected at least 0"),
        ({"max_count": 2, "min_count": 3}, ValueError, "min_count is 3; expected at most max_count, which is 2"),
        ({"max_count": 1.5}, TypeError, "max_count is 1.5; expected an integer of at least 0"),
        ({"min_count": "2"}, TypeError, "min_count is '2'; expected an integer of at least 1"),
    ],
    ids=str,
)
def test_peek_refuses_what_are_no_counts(arguments, error, message):
    with pytest.raises(error) as caught:
        ring_with(1, 2, 3, 4).peek(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("soon", TypeError)], ids=str
)
@each_side
def test_a_timeout_that_is_none_is_refused_before_it_is_waited(side, timeout, error):
    with pytest.raises(error, match=f"timeout is {timeout!r}; expected a number of seconds"):
        block_of(ring_for(side), side, timeout=timeout)
    enter_and_leave(ring_for(side), side, block=False, timeout=timeout)  # which is not looked at


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (-1, ValueError, "count is -1; expected at least 0"),
        (3, ValueError, "count is 3; expected at most 2, the length of the block"),
        (2**64, ValueError, f"count is {2**64}; expected at most 2, the length of the block"),
        (1.0, TypeError, "count is 1.0; expected an integer of at least 0"),
        ("1", TypeError, "count is '1'; expected an integer of at least 0"),
        (None, TypeError, "count is None; expected an integer of at least 0"),
    ],
    ids=str,
)
@each_side
def test_a_block_refuses_what_is_no_count_of_its_records(side, count, error, message):
    ring = ring_for(side)
    with block_of(ring, side, 2) as block:
        finish(block, 1)
        with pytest.raises(error) as caught:
            finish(block, count)
    assert str(caught.value) == message
    assert len(ring) == (1 if side == "reserve" else 3), "what was said before holds"
    check_balance(ring)


# The life of a block --------------------------------------------------------------------------------------------------


def uses_of(block):
    yield lambda: block.array
    yield lambda: len(block)
    yield lambda: block.first_seq
    yield lambda: finish(block, 1)


@each_side
def test_slots_are_there_only_inside_the_with_statement(side):
    ring = ring_for(side)
    block = block_of(ring, side)
    for _ in ("before", "after"):
        for use in uses_of(block):
            with pytest.raises(RuntimeError, match="has ended, or has not begun: its slots are only there inside its"):
                use()
        with pytest.raises(BufferError, match="its slots are only there inside its `with`"):
            memoryview(block)
        with contextlib.suppress(RuntimeError), block:
            for use in uses_of(block):
                use()
    assert len(ring) == (1 if side == "reserve" else 3)


@each_side
def test_a_block_is_entered_once(side):
    ring = ring_for(side)
    block = block_of(ring, side)
    with block, pytest.raises(RuntimeError, match="a block can be entered once; ask the ring for another one"):
        block.__enter__()
    with pytest.raises(RuntimeError, match="a block can be entered once"):
        block.__enter__()
    assert len(ring) == (1 if side == "reserve" else 3)
    check_balance(ring)


@each_side
def test_a_block_is_left_once_and_only_where_it_was_entered(side):
    ring = ring_for(side)
    block = block_of(ring, side)
    with pytest.raises(RuntimeError, match="the block is not entered"):
        block.__exit__(None, None, None)
    with block:
        pass
    with pytest.raises(RuntimeError, match="the block is not entered"):
        block.__exit__(None, None, None)
    assert len(ring) == (1 if side == "reserve" else 3)
    check_balance(ring)


@each_side
def test_a_block_that_could_not_be_entered_may_be_tried_again(side):
    ring = stuck_ring(side)
    block = block_of(ring, side, block=False)
    for _ in range(2):
        with pytest.raises(IN_VAIN[side]):
            block.__enter__()
    serve(ring, side)
    with block:
        assert len(block) == 1
    check_balance(ring)


@each_side
def test_two_threads_do_not_enter_one_block(side):
    ring = stuck_ring(side)
    block = block_of(ring, side)
    first = parked(block.__enter__)
    with pytest.raises(RuntimeError, match="a block can be entered once"):
        block.__enter__()
    assert repr(block) == f"<{SIDES[side].__name__} new>"
    serve(ring, side)
    assert first.result() is block
    block.__exit__(None, None, None)
    check_balance(ring)


@each_side
def test_a_block_may_be_used_and_left_by_another_thread(side):
    ring = ring_for(side)
    block = block_of(ring, side, 2)
    block.__enter__()
    assert Task(lambda: block.array.shape).result() == (2,)
    Task(block.__exit__, None, None, None).result()
    enter_and_leave(ring, side)  # it is this thread's no more
    assert len(ring) == (3 if side == "reserve" else 1)
    check_balance(ring)


def test_a_thread_does_not_inherit_the_block_of_one_that_has_ended():
    ring = RingBuffer(4, "i8")
    for _ in range(20):  # the system gives their numbers to new threads
        block = Task(ring.reserve(1).__enter__).result()
        with pytest.raises(Full):
            Task(ring.put, 1, block=False).result()
        block.__exit__(ValueError, None, None)
    check_balance(ring)


# The same thread ------------------------------------------------------------------------------------------------------

OWN = r"this thread has a block of it out, for whose end it would wait itself; leave the `with` statement first"


def uses_of_side(ring, side):
    """All that one side does."""
    yield lambda how: enter_and_leave(ring, side, **how)
    for name in PUTS if side == "reserve" else GETS:
        yield lambda how, name=name: CALLS[name](ring, **how) if "block" not in how or name != "batches" else ring.get()
    if side == "peek":
        yield lambda how: ring.snapshot()


@each_policy
@each_side
def test_a_thread_that_has_a_block_out_cannot_enter_its_side_again(side, overflow):
    ring = ring_for(side, overflow=overflow)
    verb = "put into" if side == "reserve" else "get from"
    with block_of(ring, side, 2):
        for use in uses_of_side(ring, side):
            for how in ({}, {"block": False}, {"timeout": 1}):
                with pytest.raises(RuntimeError, match=f"cannot {verb} the ring: {OWN}"):
                    use(how)
    assert len(ring) == 2
    enter_and_leave(ring, side)
    check_balance(ring)


@each_side
def test_a_thread_that_has_a_block_out_may_use_the_other_side(side):
    ring = ring_with(1, 2, 3, 4, capacity=8)
    with block_of(ring, side):
        if side == "reserve":
            assert ring.get() == 1
            assert ring.get_many(1).tolist() == [2]
            assert enter_and_leave(ring, "peek", 1) == (1, [3])
            assert contents(ring) == [4]
        else:
            ring.put(5)
            assert ring.put_many([6, 7]) == 2
            assert enter_and_leave(ring, "reserve")[0] == 1
        assert len(ring) == ring.qsize() == (1 if side == "reserve" else 8)
        assert (ring.empty(), ring.full()) == (False, side == "peek")
        ring.stats()
        repr(ring)
    check_balance(ring)


def test_a_get_that_waits_for_the_last_records_of_its_own_thread_raises():
    """After a graceful shutdown they are the only ones to come."""
    ring = RingBuffer(4, "i8")
    with ring.reserve(2) as block:
        block.array[:] = [1, 2]
        ring.shutdown()
        for name in GETS:
            with pytest.raises(RuntimeError, match=OWN):
                CALLS[name](ring)
            with pytest.raises(RuntimeError, match=OWN):
                CALLS[name](ring, timeout=60)
        with pytest.raises(RuntimeError, match=OWN):
            enter_and_leave(ring, "peek")
        with pytest.raises(Empty):
            ring.get_nowait()
        assert contents(ring) == []
    assert ring.get_many().tolist() == [1, 2]
    check_balance(ring)


# Others, while a block is out -----------------------------------------------------------------------------------------


@each_put
def test_puts_wait_for_a_reservation(name):
    ring = RingBuffer(4, "i8")
    with held(ring, "reserve", 2, write(1, 2)):
        putter = parked(CALLS[name], ring)
        assert contents(ring) == []
    putter.result()
    assert contents(ring) == ([1, 2, 7] if name == "put" else [1, 2, 7, 8])
    assert ring.stats().put_waits == 1
    check_balance(ring)


@each_get
def test_gets_wait_for_a_peek(name):
    ring = ring_with(1, 2, 3)
    with held(ring, "peek", 2):
        getter = parked(CALLS[name], ring)
        assert len(ring) == 3
    assert np.ravel(getter.result()).tolist() == ([1] if name == "get_into" else [3])
    assert len(ring) == 0
    check_balance(ring)


@pytest.mark.threads_only(reason="who is served first between processes is the kernel's choice")
@each_side
def test_blocks_wait_for_a_block_in_the_order_in_which_they_came(side):
    ring, order = ring_for(side), []

    def note(number):
        with block_of(ring, side):
            order.append(number)

    with held(ring, side):
        waiters = [parked(note, number) for number in range(3)]
    for waiter in waiters:
        waiter.result()
    assert order == [0, 1, 2]
    check_balance(ring)


@without_waiting
@each_put
def test_puts_that_must_not_wait_for_a_reservation_raise_full(name, how):
    ring = RingBuffer(4, "i8")
    with held(ring, "reserve", 1, write(1)):
        assert_times_out(name, ring, **how)
        assert ring.stats().offered == 0
    assert contents(ring) == [1]
    check_balance(ring)


@without_waiting
@each_get
def test_gets_that_must_not_wait_for_a_peek_raise_empty(name, how):
    ring = ring_with(1, 2, 3)
    how = {"timeout": 0} if name == "batches" and "block" in how else how
    with held(ring, "peek"):
        assert_times_out(name, ring, **how)
        assert len(ring) == 3
    assert contents(ring) == [2, 3]
    check_balance(ring)


@without_waiting
@each_side
def test_blocks_that_must_not_wait_for_a_block_raise(side, how):
    ring = ring_for(side)
    with held(ring, side), pytest.raises(IN_VAIN[side]):
        enter_and_leave(ring, side, **how)
    enter_and_leave(ring, side, **how)
    check_balance(ring)


@each_drop_policy
@each_put
def test_puts_under_a_drop_policy_drop_and_count_while_a_reservation_is_out(name, overflow):
    ring = RingBuffer(4, "i8", overflow=overflow)
    with held(ring, "reserve", 1, write(1)):
        for how in ({}, {"block": False}, {"timeout": 60}):
            assert CALLS[name](ring, **how) == (None if name == "put" else 2)
        lost = 3 * (1 if name == "put" else 2)
        assert ring.put_many(range(100)) == 100  # more than it holds
        stats = ring.stats()
        assert (stats.offered, stats.dropped, stats.taken, len(ring)) == (lost + 100, lost + 100, 0, 0)
        with pytest.raises(Full):
            enter_and_leave(ring, "reserve")
    assert contents(ring) == [1]
    check_balance(ring)


@each_policy
def test_consumers_go_on_while_a_reservation_is_out(overflow):
    ring = ring_with(*range(6), capacity=8, overflow=overflow)
    with held(ring, "reserve", 1, write(6)):
        assert contents(ring) == [0, 1, 2, 3, 4, 5]
        assert ring.get() == 0
        assert ring.get_many(1).tolist() == [1]
        assert ring.get_into(np.zeros(1, "i8")) == 1
        assert next(ring.batches(1)).tolist() == [3]
        assert enter_and_leave(ring, "peek", 1) == (1, [4])
        getter = parked(ring.get_many, min_count=2)
    assert getter.result().tolist() == [5, 6]
    check_balance(ring)


@each_policy
def test_producers_go_on_while_a_peek_is_out(overflow):
    ring = ring_with(0, 1, capacity=6, overflow=overflow)
    with held(ring, "peek", 2):
        ring.put(2)
        assert ring.put_many([3, 4]) == 2
        with ring.reserve(1) as block:
            block.array[:] = 5
        assert len(ring) == 6
    assert contents(ring) == [2, 3, 4, 5]
    check_balance(ring)


def test_a_put_into_a_full_ring_waits_for_the_room_that_a_peek_makes():
    ring = ring_with(1, 2)
    with held(ring, "peek", 1):
        assert_times_out("put", ring, block=False)
        putter = parked(ring.put, 3)
        reserver = parked(enter_and_leave, ring, "reserve")
    wait_until(ring.full, "one of them to be served")  # between processes it may be either
    assert ring.get() == 2
    putter.result()
    assert reserver.result()[0] == 1
    check_balance(ring)


def test_drop_oldest_never_overwrites_what_is_peeked_at():
    ring = ring_with(1, 2, 3, overflow="drop_oldest")
    seen = []
    with held(ring, "peek", 1, lambda block: seen.append(block.array.tolist())):
        ring.put(4)
        assert ring.put_many([5, 6, 7, 8]) == 4
        with pytest.raises(Full):
            enter_and_leave(ring, "reserve")
        assert (ring.stats().dropped, ring.stats().offered) == (5, 8)
    assert seen == [[1]]
    assert contents(ring) == [2, 3]
    ring.put_many([9, 10])
    assert contents(ring) == [3, 9, 10]
    check_balance(ring)


def test_drop_oldest_fills_what_room_there_is_beside_a_peek():
    ring = ring_with(1, 2, capacity=3, overflow="drop_oldest")
    with held(ring, "peek", 2):
        assert ring.put_many([3, 4]) == 2
        assert ring.stats().dropped == 1
    assert contents(ring) == [3]
    check_balance(ring)


def test_a_reservation_under_drop_oldest_makes_room():
    ring = ring_with(1, 2, 3, 4, overflow="drop_oldest")
    with ring.reserve(2) as block:
        assert len(block) == 2
        assert contents(ring) == [3, 4]
        block.array[:] = [5, 6]
        assert ring.stats().dropped == 2
    assert contents(ring) == [3, 4, 5, 6]
    check_balance(ring)


def test_a_reservation_under_drop_newest_takes_what_room_there_is():
    ring = ring_with(1, 2, 3, capacity=4, overflow="drop_newest")
    with ring.reserve(2, timeout=60) as block:
        block.array[:] = [4]
    with pytest.raises(Full):
        enter_and_leave(ring, "reserve", timeout=60)
    assert contents(ring) == [1, 2, 3, 4]
    assert ring.stats().dropped == 0
    check_balance(ring)


def test_a_put_many_of_more_than_the_capacity_waits_for_a_reservation_between_its_pieces():
    """The reservation comes while the put waits for room, and has its turn when that goes to the end of the line."""
    ring, taken = RingBuffer(2, "i8"), []
    entered, over = threading.Event(), threading.Event()

    def reserve():
        with ring.reserve(1) as block:
            entered.set()
            over.wait(WATCHDOG)
            block.array[:] = -1

    putter = parked(ring.put_many, range(30_000))
    reserver = parked(reserve)
    while not entered.wait(0.001):
        with contextlib.suppress(Empty):
            taken += ring.get_many(1, block=False).tolist()
    wait_parked(putter)
    with contextlib.suppress(Empty):
        taken += ring.get_many(block=False).tolist()
    wait_parked(putter)  # though there is room now
    assert len(ring) == 0
    over.set()
    reserver.result()
    while len(taken) < 30_001:
        taken += ring.get_many(timeout=WATCHDOG).tolist()
    assert putter.result() == 30_000
    assert [number for number in taken if number != -1] == list(range(30_000))
    check_balance(ring)


def test_a_put_many_that_gives_up_during_a_reservation_returns_what_it_had_put():
    for timeout, in_time in timeouts():
        ring = RingBuffer(2, "i8")
        block = ring.reserve(1, timeout=WATCHDOG)
        # which may go before the block again and again
        putter = parked_or_over(ring.put_many, range(100_000), timeout=timeout)
        reserver = parked(block.__enter__)
        while reserver.is_alive():
            with contextlib.suppress(Empty):
                ring.get(timeout=0.01)
        assert reserver.result() is block
        amid_the_reservation = in_time()
        accepted = putter.result()
        assert 2 <= accepted < 100_000
        assert ring.stats().offered == accepted
        block.__exit__(None, None, None)
        check_balance(ring)
        if amid_the_reservation:
            break


@pytest.mark.parametrize("take", ["get_many", "get_into", "batches", "peek"])
def test_a_min_count_is_met_by_the_records_of_a_reservation(take):
    ring = ring_with(1, capacity=4)
    call = {
        "get_many": lambda: ring.get_many(min_count=3).tolist(),
        "get_into": lambda: ring.get_into(np.zeros(4, "i8"), min_count=3),
        "batches": lambda: next(ring.batches(min_count=3)).tolist(),
        "peek": lambda: enter_and_leave(ring, "peek", None, min_count=3)[1],
    }[take]
    with held(ring, "reserve", 2, write(2, 3)):
        taker = parked(call)
    assert taker.result() == (3 if take == "get_into" else [1, 2, 3])
    check_balance(ring)


def test_a_snapshot_waits_for_a_peek_and_not_for_a_reservation():
    ring = ring_with(1, 2, 3, capacity=5)
    with held(ring, "reserve", 1, write(4)):
        assert contents(ring) == [1, 2, 3]
    with held(ring, "peek", 1):
        looker = parked(contents, ring)
    assert looker.result() == [2, 3, 4]
    check_balance(ring)


# Arrays that live longer ----------------------------------------------------------------------------------------------

KEPT = {
    "array": lambda block: block.array,
    "slice": lambda block: block.array[:1],
    "slice of a slice": lambda block: block.array[:2][1:],
    "view": lambda block: block.array.view("u1"),
    "memoryview of an array": lambda block: memoryview(block.array),
    "array of a memoryview of an array": lambda block: np.asarray(memoryview(block.array)),
    "memoryview": memoryview,
    "slice of a memoryview": lambda block: memoryview(block)[3:],
    "cast of a memoryview": lambda block: memoryview(block).cast("q"),
    "asarray": np.asarray,
    "frombuffer": lambda block: np.frombuffer(block, "i8"),
}
each_kept = pytest.mark.parametrize("keep", KEPT.values(), ids=list(KEPT))


STAY = "stay held until that is gone; delete it inside the block, and copy what must live longer"


def leave_alive(ring, side, keep=KEPT["array"], n=2, use=lambda block: None):
    """What is still alive of a block that has been left."""
    block = block_of(ring, side, n)
    block.__enter__()
    alive = keep(block)
    use(block)
    with pytest.raises(BufferError, match=f"an array of the block is still alive; its {n} slots {STAY}"):
        block.__exit__(None, None, None)
    return alive


@each_kept
@each_side
def test_an_array_that_is_still_alive_holds_the_slots(side, keep):
    ring = ring_for(side)
    alive = leave_alive(ring, side, keep)
    assert len(ring) == (0 if side == "reserve" else 4)
    with pytest.raises(RuntimeError, match=OWN):
        enter_and_leave(ring, side)
    with pytest.raises(IN_VAIN[side]):
        Task(enter_and_leave, ring, side, timeout=0.01).result()
    waiter = parked(enter_and_leave, ring, side)
    del alive
    waiter.result()
    assert len(ring) == (3 if side == "reserve" else 1)
    enter_and_leave(ring, side)
    check_balance(ring)


@each_side
def test_commit_and_consume_count_when_the_last_array_dies(side):
    ring = ring_for(side)
    alive = [leave_alive(ring, side, use=lambda block: finish(block, 1))]
    alive.append(alive[0][1:])
    alive.append(memoryview(alive[1]))
    while alive:
        assert len(ring) == (0 if side == "reserve" else 4)
        alive.pop(0)
    assert len(ring) == (1 if side == "reserve" else 3)
    check_balance(ring)


@each_side
def test_of_a_block_that_an_exception_left_nothing_comes_when_the_last_array_dies(side):
    ring = ring_for(side)
    alive = []

    def fail():
        with block_of(ring, side) as block:
            alive.append(block.array)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # and no BufferError, which would hide it
        fail()
    with pytest.raises(IN_VAIN[side]):
        Task(enter_and_leave, ring, side, block=False).result()
    before = len(ring)
    alive.clear()
    assert len(ring) == before
    enter_and_leave(ring, side)
    check_balance(ring)


def test_an_array_that_lives_longer_is_of_slots_that_are_nobody_elses():
    ring = RingBuffer(4, "i8", overflow="drop_oldest")
    ring.put_many([1, 2])
    alive = leave_alive(ring, "peek")
    ring.put_many([3, 4])
    ring.put_many([5, 6])  # which are dropped
    assert alive.tolist() == [1, 2]
    del alive
    assert contents(ring) == [3, 4]
    written = leave_alive(ring, "reserve")
    written[:] = [7, 8]
    assert ring.get_many().tolist() == [3, 4]
    assert len(ring) == 0
    written[1] = 9
    del written
    assert contents(ring) == [7, 9]
    check_balance(ring)


@each_side
def test_nothing_but_its_end_parts_an_array_from_its_slots(side):
    """As would the `release` of a memoryview that it had as its base."""
    ring = ring_for(side)
    with block_of(ring, side) as block:
        base = block.array
        while base is not None:
            assert not hasattr(base, "release")
            base = getattr(base, "base", None)
        with memoryview(block) as released:
            assert len(released) == 8
        with pytest.raises(ValueError, match="released"):
            released[0]
    check_balance(ring)


@each_side
def test_an_array_may_die_in_another_thread(side):
    ring = ring_for(side)
    alive = [leave_alive(ring, side)]
    Task(alive.clear).result()
    assert len(ring) == 2
    enter_and_leave(ring, side)
    check_balance(ring)


@each_side
def test_an_array_may_be_ended_by_the_collector(side):
    ring = ring_for(side)
    cycle = [leave_alive(ring, side)]
    cycle.append(cycle)
    before = len(ring)
    del cycle
    gc.collect()
    assert len(ring) != before
    enter_and_leave(ring, side)
    check_balance(ring)


class Owner(RingBuffer):
    """A ring with attributes."""


@pytest.mark.parametrize("kept", ["block", "memoryview"])  # an array of numpy's is nothing that the collector sees
@each_side
def test_a_cycle_of_ring_and_block_is_collected(side, kept):
    ring = Owner(4, "i8")
    ring.put_many([1, 2])
    ring.block = block_of(ring, side, 2)
    if kept != "block":
        ring.block.__enter__()
        ring.kept = memoryview(ring.block)
    alive = weakref.ref(ring)
    del ring
    gc.collect()
    assert alive() is None


@each_side
def test_an_array_keeps_its_ring_alive(side):
    ring = ring_for(side)
    before, freed = contents(ring), weakref.ref(ring)
    array = leave_alive(ring, side)
    del ring
    gc.collect()
    assert freed() is not None
    assert array.tolist() == (before[:2] if side == "peek" else [0, 0])
    if side == "reserve":
        array[:] = 1
    del array
    gc.collect()
    assert freed() is None


@each_side
def test_a_block_that_is_dropped_without_leaving_it_changes_nothing(side):
    ring = ring_for(side)
    before = contents(ring)
    block = block_of(ring, side, 2)
    block.__enter__()
    finish(block, 1)
    alive = block.array
    del block
    with pytest.raises(IN_VAIN[side]):
        Task(enter_and_leave, ring, side, block=False).result()
    del alive
    gc.collect()
    assert contents(ring) == before
    enter_and_leave(ring, side)
    check_balance(ring)


def test_the_last_array_of_a_ring_that_was_shut_down_frees_it():
    ring = ring_with(1, 2)
    freed = weakref.ref(ring)
    arrays = [leave_alive(ring, "peek")]
    ring.shutdown(immediate=True)
    waiter = Task(ring.snapshot)
    assert waiter.result().tolist() == []
    del ring, waiter
    assert arrays[0].tolist() == [1, 2]
    arrays.clear()
    gc.collect()
    assert freed() is None


# The buffer protocol --------------------------------------------------------------------------------------------------


def test_a_memoryview_of_a_block_is_of_its_bytes():
    ring = RingBuffer(2, "i4")
    with ring.reserve(2) as block, memoryview(block) as view:
        assert (view.format, view.itemsize, view.shape, view.strides, view.nbytes) == ("B", 1, (8,), (1,), 8)
        assert (view.readonly, view.c_contiguous, view.obj) == (False, True, block)
        view[:] = struct.pack("2i", 5, 6)
    assert contents(ring) == [5, 6]
    with ring.peek() as block, memoryview(block) as view:
        assert (view.readonly, bytes(view)) == (True, struct.pack("2i", 5, 6))
        with pytest.raises(TypeError, match="cannot modify read-only memory"):
            view[0] = 1
    check_balance(ring)


def test_asarray_of_a_block_is_of_its_bytes():
    ring = RingBuffer(2, "i4")
    with ring.reserve(1) as block:
        np.asarray(block)[:] = 1
    with ring.peek() as block:
        assert np.asarray(block).tolist() == [1, 1, 1, 1]
        assert not np.asarray(block).flags.writeable
    check_balance(ring)


def test_a_socket_receives_into_a_block_and_sends_from_one():
    ring, numbers = RingBuffer(4, "i8"), np.arange(3, dtype="i8")
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.sendall(numbers.tobytes())
        with ring.reserve(4) as block:
            block.commit(receiver.recv_into(block) // 8)
        assert contents(ring) == [0, 1, 2]
        with ring.peek(2) as block:
            assert receiver.send(block) == 16
        assert np.frombuffer(sender.recv(100), "i8").tolist() == [0, 1]
    assert contents(ring) == [2]
    check_balance(ring)


def test_a_file_is_read_into_a_block_and_written_from_one(tmp_path):
    ring = RingBuffer(4, "i8")
    np.arange(3, dtype="i8").tofile(tmp_path / "in")
    with open(tmp_path / "in", "rb", buffering=0) as file, ring.reserve(4) as block:
        block.commit(file.readinto(block) // 8)
    with open(tmp_path / "out", "wb") as file, ring.peek() as block:
        assert file.write(block) == 24
    assert np.fromfile(tmp_path / "out", "i8").tolist() == [0, 1, 2]
    check_balance(ring)


def test_bytes_are_packed_into_a_block_and_got_from_one():
    ring = RingBuffer(1, "i8")
    with ring.reserve(1) as block:
        struct.pack_into("q", block, 0, 7)
    with ring.peek() as block:
        assert struct.unpack_from("q", block) == (7,)
        assert bytes(block) == bytearray(block) == struct.pack("q", 7)


def test_writing_to_a_peeked_block_is_refused():
    with ring_with(1, 2).peek() as block:
        sender, receiver = socket.socketpair()
        with sender, receiver, pytest.raises(TypeError, match="read-write"):
            receiver.recv_into(block)
        if sys.version_info >= (3, 12):
            with pytest.raises(BufferError, match="peeked at cannot be written to; copy them first"):
                block.__buffer__(inspect.BufferFlags.WRITABLE)


# Shutdown -------------------------------------------------------------------------------------------------------------


@each_side
def test_a_shutdown_wakes_a_waiter_for_a_block(side):
    for immediate in (False, True):
        ring = stuck_ring(side)
        waiter = parked(enter_and_leave, ring, side)
        ring.shutdown(immediate)
        verb = "put into" if side == "reserve" else "get from"
        with pytest.raises(ShutDown, match=f"cannot {verb} the ring: it is shut down"):
            waiter.result()
        with pytest.raises(ShutDown):
            enter_and_leave(ring, side, block=False)
        check_balance(ring)


def test_after_a_graceful_shutdown_peeks_drain_the_ring():
    ring = ring_with(1, 2, 3)
    ring.shutdown()
    with pytest.raises(ShutDown):
        enter_and_leave(ring, "reserve")
    assert enter_and_leave(ring, "peek", 2) == (2, [1, 2])
    assert enter_and_leave(ring, "peek", None, min_count=3) == (1, [3])
    with pytest.raises(ShutDown):
        enter_and_leave(ring, "peek")
    check_balance(ring)


@each_get
def test_gets_after_a_graceful_shutdown_wait_for_a_reservation(name):
    ring = RingBuffer(4, "i8")
    with held(ring, "reserve", 1, write(1)):
        early = parked(CALLS[name], ring)
        ring.shutdown()
        late = parked(functools.partial(enter_and_leave, ring, "peek"))
        assert_times_out(name, ring, **({"timeout": 0} if name == "batches" else {"block": False}))
    results = []
    for getter in (early, late):
        with contextlib.suppress(ShutDown, StopIteration):  # the latter from `batches`
            results.append(getter.result())
    assert len(results) == 1
    with pytest.raises(ShutDown):
        ring.get()
    check_balance(ring)


@pytest.mark.parametrize("immediate", [False, True], ids=["gracefully", "immediately"])
def test_puts_do_not_wait_for_a_reservation_of_a_ring_that_is_shut_down(immediate):
    ring = RingBuffer(4, "i8")
    with held(ring, "reserve", 1, write(1)):
        early = [parked(CALLS[name], ring) for name in PUTS]
        early.append(parked(enter_and_leave, ring, "reserve"))
        ring.shutdown(immediate)
        for waiter in early:
            with pytest.raises(ShutDown):
                waiter.result()
        for name in PUTS:
            with pytest.raises(ShutDown):
                CALLS[name](ring)
        with pytest.raises(ShutDown):
            enter_and_leave(ring, "reserve")
    assert contents(ring) == ([] if immediate else [1])
    assert ring.stats().discarded == (1 if immediate else 0)
    check_balance(ring)


@each_drop_policy
def test_puts_under_a_drop_policy_are_told_of_a_shutdown_while_a_reservation_is_out(overflow):
    ring = RingBuffer(4, "i8", overflow=overflow)
    with held(ring, "reserve", 1, write(1)):
        ring.shutdown()
        for name in PUTS:
            with pytest.raises(ShutDown):
                CALLS[name](ring)
        assert ring.stats().dropped == 0
    assert contents(ring) == [1]
    check_balance(ring)


@pytest.mark.parametrize("immediate", [False, True], ids=["gracefully", "immediately"])
@pytest.mark.parametrize("committed", [0, 1, 2])
def test_a_reservation_may_be_finished_after_a_shutdown(committed, immediate):
    ring = ring_with(1, 2, capacity=4)
    with ring.reserve(2) as block:
        ring.shutdown(immediate)
        block.array[:] = [3, 4]
        block.commit(committed)
    assert contents(ring) == ([] if immediate else [1, 2, 3, 4][: 2 + committed])
    stats = ring.stats()
    assert (stats.offered, stats.discarded) == (2 + committed, 2 + committed if immediate else 0)
    check_balance(ring)


def test_gets_after_an_immediate_shutdown_do_not_wait_for_a_reservation():
    ring = ring_with(1, capacity=4)
    with held(ring, "reserve", 1, write(2)):
        waiter = parked(ring.get_many, min_count=2)
        ring.shutdown(immediate=True)
        with pytest.raises(ShutDown):
            waiter.result()
        for get in (ring.get, ring.get_many, lambda: enter_and_leave(ring, "peek")):
            with pytest.raises(ShutDown):
                get()
        assert contents(ring) == []
    assert (ring.stats().discarded, len(ring)) == (2, 0)
    check_balance(ring)


def test_gets_after_a_graceful_shutdown_wait_for_a_peek():
    """A peek may leave the last records where they are: a ring that is not drained is not over."""
    ring = ring_with(1, 2, 3)
    with held(ring, "peek", 3, lambda block: block.consume(1)):
        early = parked(ring.get_many)
        ring.shutdown()
        wait_parked(early)
        late = parked(ring.get_many)
        for name in GETS:
            assert_times_out(name, ring, **({"timeout": 0} if name == "batches" else {"block": False}))
        with pytest.raises(Empty):
            enter_and_leave(ring, "peek", timeout=0.01)
    taken = []
    for getter in (early, late):  # a get that is woken by then does not queue any more
        with contextlib.suppress(ShutDown):
            taken.append(getter.result().tolist())
    assert taken == [[2, 3]]
    check_balance(ring)


@pytest.mark.parametrize("consumed", [0, 1, 2])
def test_a_peek_may_be_finished_after_an_immediate_shutdown(consumed):
    ring, seen = ring_with(1, 2, 3, 4), []

    def finish(block):
        seen.append(block.array.tolist())
        block.consume(consumed)

    with held(ring, "peek", 2, finish):
        waiters = [parked(ring.get), parked(ring.get_many), parked(enter_and_leave, ring, "peek")]
        looker = parked(ring.snapshot)
        ring.shutdown(immediate=True)
        for waiter in waiters:
            with pytest.raises(ShutDown):
                waiter.result()
        assert looker.result().tolist() == contents(ring) == []
        for name in GETS.keys() - {"batches"}:
            with pytest.raises(ShutDown):
                CALLS[name](ring)
        assert list(ring.batches()) == []
    assert seen == [[1, 2]]
    stats = ring.stats()
    assert (stats.taken, stats.discarded, len(ring)) == (consumed, 4 - consumed, 0)
    check_balance(ring)


def test_a_shutdown_with_both_kinds_of_blocks_out():
    for immediate in (False, True):
        ring = ring_with(1, 2, capacity=4)
        with held(ring, "peek", 1), held(ring, "reserve", 2, write(3, 4)):
            ring.shutdown(immediate)
        assert contents(ring) == ([] if immediate else [2, 3, 4])
        assert ring.stats().taken == 1
        check_balance(ring)


@each_side
def test_an_array_may_outlive_an_immediate_shutdown(side):
    ring = ring_for(side)
    alive = leave_alive(ring, side)
    ring.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        ring.get() if side == "reserve" else Task(ring.get).result()
    del alive
    stats = ring.stats()
    assert (stats.taken, stats.discarded) == ((0, 2) if side == "reserve" else (2, 2))
    check_balance(ring)


# Forks ----------------------------------------------------------------------------------------------------------------


def assert_torn(ring):
    for call in (
        *(functools.partial(CALLS[name], ring) for name in CALLS),
        ring.snapshot,
        *(functools.partial(enter_and_leave, ring, side) for side in SIDES),
        functools.partial(ring.put, 1, block=False),
        functools.partial(ring.get, block=False),
    ):
        with pytest.raises(RuntimeError, match=r"forked while .* or a block of it was out; .*create a new ring"):
            call()
    ring.stats()
    repr(ring)
    other = RingBuffer(2, "i8")
    with other.reserve(2) as block:
        block.array[:] = [1, 2]
    assert enter_and_leave(other, "peek", 2) == (2, [1, 2])
    other.put(3)
    assert other.get() == 3
    check_balance(other)


@pytest.mark.threads_only(reason="a shared ring is not torn by a fork")
@each_policy
@each_side
def test_a_thread_that_forks_with_a_block_out_goes_on_with_it_in_the_parent(side, overflow):
    ring = ring_for(side, overflow=overflow)
    with block_of(ring, side, 2) as block:
        block.array.sum()

        def check():
            before = ring.stats()
            assert_torn(ring)
            assert block.array.shape == (2,)
            block.__exit__(None, None, None)
            assert ring.stats() == before
            assert_torn(ring)

        in_fork(check)
        in_fork(lambda: assert_torn(ring))
    assert len(ring) == 2
    enter_and_leave(ring, side)
    check_balance(ring)


@pytest.mark.threads_only(reason="a shared ring is not torn by a fork")
@each_side
def test_a_block_that_another_thread_has_out_at_the_fork_tears_the_ring_in_the_child(side):
    ring = ring_for(side)
    with held(ring, side, 2):
        waiter = parked(enter_and_leave, ring, side)
        in_fork(lambda: assert_torn(ring))
        assert waiter.is_alive()
    waiter.result()
    check_balance(ring)


@pytest.mark.threads_only(reason="a shared ring is not torn by a fork")
@each_side
def test_arrays_of_the_parents_block_do_no_harm_in_the_child(side):
    ring = ring_for(side)
    alive = [leave_alive(ring, side)]

    def check():
        before = ring.stats(), alive[0].tolist()
        if side == "reserve":
            alive[0][:] = 7
        alive.append(memoryview(alive[0]))
        alive.clear()
        gc.collect()
        assert ring.stats() == before[0]
        assert_torn(ring)

    in_fork(check)
    assert alive[0].tolist() == ([0, 0] if side == "reserve" else [0, 1])
    alive.clear()
    assert len(ring) == 2
    enter_and_leave(ring, side)
    check_balance(ring)


@pytest.mark.threads_only(reason="a shared ring is not torn by a fork")
@each_side
def test_a_block_that_was_not_entered_at_the_fork_works_in_both(side):
    ring = ring_for(side)
    block = block_of(ring, side, 2)

    def check():
        with block:
            assert len(block) == 2
        assert len(ring) == 2
        check_balance(ring)

    in_fork(check)
    check()


def fork_beside_blocks():
    """Many forks at random moments: in each child the ring works, or says that it cannot."""
    ring = RingBuffer(8, "i8", overflow="drop_oldest")
    for side in SIDES:
        for _ in range(2):
            threading.Thread(target=use_for_ever, args=(ring, side), daemon=True).start()
    for _ in range(20):
        in_fork(functools.partial(use_or_be_told, ring))


def use_for_ever(ring, side):
    rng = seeded()
    while True:
        with contextlib.suppress(Full, Empty), block_of(ring, side, rng.randrange(1, 4), timeout=1e-3) as block:
            block.array.sum()


def use_or_be_told(ring):
    try:
        ring.put(1)
        ring.get()
        for side in ("reserve", "peek"):
            enter_and_leave(ring, side)
        check_balance(ring)
    except RuntimeError as error:
        if "create a new ring" not in str(error):
            raise


@pytest.mark.threads_only(reason="a shared ring is not torn by a fork")
def test_forks_beside_blocks_never_hang():
    run_python("from test_ring_blocks import fork_beside_blocks; fork_beside_blocks()", timeout=3 * WATCHDOG)


# The interpreter's end ------------------------------------------------------------------------------------------------


def leave_views():
    """A main program that ends with views of every kind out, and threads that have blocks or wait for them."""
    sys.setswitchinterval(1e-3)  # so that `wait_parked` sees it soon
    kept = builtins.kept = []
    for side in SIDES:
        for keep in KEPT.values():
            kept.append(leave_alive(ring_for(side), side, keep))
        block = block_of(ring_for(side), side)
        block.__enter__()
        kept.append(block)
        kept.append([block.array])
        kept[-1].append(kept[-1])  # for the collector
        ring = ring_for(side)
        entered = threading.Event()

        def hold(ring=ring, side=side, entered=entered):
            with block_of(ring, side) as block:
                array = block.array
                entered.set()
                threading.Event().wait()
                return array

        Task(hold)
        entered.wait()
        parked(enter_and_leave, ring, side)
        parked(enter_and_leave, ring, side, timeout=60)

    class Last:
        def __del__(self):  # when most is gone already
            kept.clear()

    builtins.last = Last()


def test_the_interpreter_exits_with_views_out(monkeypatch):
    monkeypatch.setenv("PYTHONMALLOC", "debug")  # what is freed is overwritten
    run_python("from test_ring_blocks import leave_views; leave_views()")


# Signals --------------------------------------------------------------------------------------------------------------


@each_side
@forked
def test_ctrl_c_ends_the_wait_for_a_block(side):
    ring = stuck_ring(side)
    block = block_of(ring, side)
    before = contents(ring), ring.stats()[:4]
    for _ in range(2):  # what was not entered may be tried again
        assert_interrupted(block.__enter__)
    assert (contents(ring), ring.stats()[:4]) == before
    serve(ring, side)
    with block:
        assert len(block) == 1
    check_balance(ring)


@each_side
@forked
def test_ctrl_c_ends_the_wait_for_a_block_that_another_thread_has_out(side):
    ring = ring_for(side)
    with held(ring, side):
        for call in uses_of_side(ring, side):
            assert_interrupted(lambda call=call: call({}))
    enter_and_leave(ring, side)
    check_balance(ring)


@each_side
@forked
def test_a_handler_that_returns_lets_the_wait_for_a_block_go_on(side):
    ring = stuck_ring(side)
    signal.signal(signal.SIGUSR1, lambda *_: serve(ring, side))
    send(signal.SIGUSR1)
    assert enter_and_leave(ring, side)[0] == 1
    check_balance(ring)


@forked
def test_a_handler_may_enter_a_block_amid_the_wait_for_one():
    ring = RingBuffer(2, "i8")

    def handler(*_):
        with ring.reserve(1) as block:
            block.array[:] = 5

    signal.signal(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    assert enter_and_leave(ring, "peek") == (1, [5])
    check_balance(ring)


@each_side
@forked
def test_a_waiter_that_is_interrupted_just_as_it_is_served_a_block_passes_its_grant_on(side):
    for _ in range(3):
        ring = stuck_ring(side)
        use = functools.partial(enter_and_leave, ring, side)
        first, second = signal_first_of_two(use, use, functools.partial(serve, ring, side), stop)
        if side == "peek":  # before the handler ran nothing was taken
            assert (first, second) == (StopError, (1, [1]))
        else:  # the handler may run once the block was entered: it then has been given up by the exception
            assert first is StopError
            assert second[0] == 1
        check_balance(ring)


@each_side
@forked
def test_an_exception_of_a_handler_inside_the_block_changes_nothing(side):
    ring = ring_for(side)
    before = contents(ring)
    signal.signal(signal.SIGUSR1, stop)
    with pytest.raises(StopError), block_of(ring, side, 2):
        signal.raise_signal(signal.SIGUSR1)
    assert contents(ring) == before
    check_balance(ring)


# Threads --------------------------------------------------------------------------------------------------------------


def test_arrays_die_in_many_threads_at_once():
    """The thread whose array dies last ends the turn."""
    ring = RingBuffer(8, "i8")
    for number in range(100):
        with contextlib.suppress(BufferError), ring.reserve(2) as block:
            block.array[:] = number
            owners = [[block.array[:1]] for _ in range(3)]
        together = threading.Barrier(len(owners))
        tasks = [Task(lambda owner, barrier: (barrier.wait(), owner.clear()), each, together) for each in owners]
        for task in tasks:
            task.result()
        assert ring.get_many(min_count=2, timeout=WATCHDOG).tolist() == [number, number]
    check_balance(ring)


def test_a_ring_is_not_drained_while_a_block_may_leave_records():
    ring = ring_with(1, 2)
    with ring.peek() as block:
        ring.shutdown()
        with pytest.raises(Empty):
            Task(ring.get_nowait).result()
        housekeeping = Task(lambda: next(ring.batches(timeout=0.01))).result()
        assert housekeeping.size == 0
        block.consume(1)
    assert contents(ring) == [2]
    assert ring.get() == 2
    with pytest.raises(ShutDown):
        ring.get()
    check_balance(ring)


# Threads that wait for themselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"timeout": WATCHDOG}])
@pytest.mark.parametrize("shut", [False, True], ids=["open", "shut"])
def test_the_owner_of_free_slots_cannot_wait_for_records(how, shut):
    ring = RingBuffer(2, "i8")
    with ring.reserve(1) as block:
        if shut:
            ring.shutdown()
        with pytest.raises(RuntimeError, match="this thread has a block"):
            ring.get(**how)
        with pytest.raises(Empty):
            ring.get_nowait()
        block.array[0] = 1
    assert ring.get() == 1


@pytest.mark.parametrize("how", [{}, {"timeout": WATCHDOG}])
def test_the_owner_of_records_cannot_wait_for_room(how):
    ring = ring_with(1, 2)
    with ring.peek(1):
        with pytest.raises(RuntimeError, match="this thread has a block"):
            ring.put(3, **how)
        with pytest.raises(Full):
            ring.put_nowait(3)
    assert ring.put_many([3, 4], block=False) == 1
    check_balance(ring)


def test_the_owner_of_a_block_may_use_the_other_side():
    ring = RingBuffer(3, "i8")
    ring.put(1)
    with ring.reserve(1) as block:
        block.array[0] = 2
        assert ring.get() == 1
    with ring.peek():
        assert ring.put_many([3, 4, 5]) == 2
    assert ring.get_many().tolist() == [3, 4]
    check_balance(ring)
