"""Rings and queues on a machine whose every processor another process keeps busy, and one more besides.

Timeouts and waits keep their promises, Ctrl-C arrives, hand-overs go on; no speed is asserted.
"""

import contextlib
import functools
import time

import pytest
import test_queue
import test_queue_signals_fork
import test_ring_signals
from helpers import CALLS, LATE, STRESS_SECONDS, each_call, hand_over_one_by_one, in_fork, loaded, parked, stuck_ring
from test_queue import KINDS, each_kind, stuck_queue

from f1buf import Empty, Full, RingBuffer

TIMEOUT = 0.02  # [s]
each_told_kind = pytest.mark.parametrize("kind", test_queue_signals_fork.TOLD)


@pytest.fixture(autouse=True, scope="module")
def load():
    with loaded():
        yield


def assert_timely(call):
    for _ in range(max(3, int(10 * STRESS_SECONDS))):
        began = time.monotonic()
        with contextlib.suppress(Empty, Full):
            assert len(call(timeout=TIMEOUT)) == 0  # of batches
        assert TIMEOUT <= time.monotonic() - began < TIMEOUT + LATE


def assert_served(call, serve):
    waiter = parked(call)
    began = time.monotonic()
    serve()
    waiter.result()
    assert time.monotonic() - began < LATE


@each_call
def test_a_timeout_of_a_ring_is_never_early_and_hardly_late(name):
    assert_timely(functools.partial(CALLS[name], stuck_ring(name)))


@each_kind
@test_queue.each_timed_call
def test_a_timeout_of_a_queue_is_never_early_and_hardly_late(name, kind):
    assert_timely(functools.partial(CALLS[name], stuck_queue(name, kind)))


@each_call
def test_a_ring_serves_who_waits(name):
    ring = stuck_ring(name)
    call = functools.partial(ring.put_many, [7]) if name == "put_many" else functools.partial(CALLS[name], ring)
    assert_served(call, ring.get if ring.full() else lambda: ring.put(7))


@each_kind
@test_queue.each_call
def test_a_queue_serves_who_waits(name, kind):
    queue = stuck_queue(name, kind)
    call = functools.partial(test_queue_signals_fork.call_that_fits, name, queue)
    assert_served(call, lambda: test_queue_signals_fork.serve(name, queue))


@each_call
def test_ctrl_c_ends_a_wait_for_a_ring(name):
    in_fork(lambda: test_ring_signals.interrupt(name))


@each_told_kind
@test_queue.each_call
def test_ctrl_c_ends_a_wait_for_a_queue(name, kind):
    in_fork(lambda: test_queue_signals_fork.interrupt(name, kind))


HAND_OVERS = int(400 * STRESS_SECONDS)  # each may cost two turns of the scheduler


def test_hand_overs_through_a_ring_go_on():
    ring = RingBuffer(1, "i8")
    hand_over_one_by_one(ring.put, ring.get, HAND_OVERS)


@each_told_kind
def test_hand_overs_through_a_queue_go_on(kind):
    queue = KINDS[kind](1)
    hand_over_one_by_one(queue.put, queue.get, HAND_OVERS)
