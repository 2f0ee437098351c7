"""Blocks: `RingBuffer.reserve` and `peek`, views into the slots without a copy.

Who may enter when, what enters or leaves the ring at the end, and that nobody ever sees slots that are not his.
"""

import gc
import pickle
import socket
import threading

import numpy as np
import pytest
from helpers import WATCHDOG, Task, check_balance, contents, in_fork, parked, ring_with, wait_parked

from f1buf import Empty, Full, RingBuffer, ShutDown

each_side = pytest.mark.parametrize("side", ["reserve", "peek"])


def block_of(ring, side, n=1, **how):
    return getattr(ring, side)(n, **how)


def ring_for(side, capacity=4):
    """On which a block of one side can be had."""
    return RingBuffer(capacity, "i8") if side == "reserve" else ring_with(*range(capacity))


# What a block is ------------------------------------------------------------------------------------------------------


def test_what_is_written_enters_when_the_block_ends():
    ring = RingBuffer(4, "i8")
    with ring.reserve(3) as block:
        assert len(block) == 3
        block.array[:] = [1, 2, 3]
        assert contents(ring) == []
    assert contents(ring) == [1, 2, 3]
    check_balance(ring)


def test_what_is_read_leaves_when_the_block_ends():
    ring = ring_with(1, 2, 3)
    with ring.peek(2) as block:
        assert block.array.tolist() == [1, 2]
        assert contents(ring) == [1, 2, 3]
    assert contents(ring) == [3]
    check_balance(ring)


@pytest.mark.parametrize("counts", [[0], [1], [3], [3, 2], [0, 3]])
def test_commit_says_how_many_enter(counts):
    ring = RingBuffer(4, "i8")
    with ring.reserve(3) as block:
        block.array[:] = [1, 2, 3]
        for count in counts:
            block.commit(count)
    assert contents(ring) == [1, 2, 3][: counts[-1]]
    ring.put(4)
    assert contents(ring) == [1, 2, 3][: counts[-1]] + [4]
    check_balance(ring)


@pytest.mark.parametrize("counts", [[0], [1], [3], [3, 2], [0, 3]])
def test_consume_says_how_many_leave(counts):
    ring = ring_with(1, 2, 3)
    with ring.peek() as block:
        for count in counts:
            block.consume(count)
    assert contents(ring) == [1, 2, 3][counts[-1] :]
    check_balance(ring)


@each_side
def test_an_exception_that_leaves_the_block_changes_nothing(side):
    ring = ring_for(side)
    before = contents(ring)
    with pytest.raises(ZeroDivisionError), block_of(ring, side, 2) as block:
        block.array  # noqa: B018
        raise ZeroDivisionError
    assert contents(ring) == before
    with block_of(ring, side, 2):
        pass
    check_balance(ring)


@each_side
def test_a_block_ends_where_the_slots_end(side):
    ring = RingBuffer(4, "i8")
    ring.put_many([0, 1, 2])
    ring.get_many(2 if side == "peek" else 3)
    if side == "peek":
        ring.put_many([3, 4])  # 2 is in the last slot but one, 4 in the first
        with ring.peek(3) as block:
            assert (len(block), block.array.tolist()) == (2, [2, 3])
        assert contents(ring) == [4]
    else:
        with ring.reserve(4) as block:
            assert len(block) == 1
            block.array[0] = 3
        with ring.reserve(3) as block:
            assert len(block) == 3
        assert len(ring) == 4


# Arrays that live longer ----------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("kept", [lambda b: b.array, lambda b: b.array[:1], memoryview, lambda b: memoryview(b.array)])
def test_what_is_still_alive_holds_the_slots(side, kept):
    ring = ring_for(side)
    before = contents(ring)
    with pytest.raises(BufferError, match="still alive"), block_of(ring, side, 2) as block:
        alive = kept(block)
    assert contents(ring) == before
    with pytest.raises(RuntimeError, match="own"), block_of(ring, side):
        pass
    del alive
    assert len(ring) == (2 if side == "reserve" else 2)
    check_balance(ring)


@each_side
def test_a_block_that_was_left_gives_nothing(side):
    ring = ring_for(side)
    with block_of(ring, side) as block:
        pass
    for use in (lambda: block.array, lambda: len(block), lambda: block.first_seq, lambda: block.__enter__()):
        with pytest.raises(RuntimeError):
            use()
    with pytest.raises(BufferError):
        memoryview(block)


# Shutdowns ------------------------------------------------------------------------------------------------------------


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


# Who waits for itself -------------------------------------------------------------------------------------------------


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
