"""Rings and queues on a machine whose every processor another process keeps busy, and one more besides.

Timeouts and waits keep their promises, Ctrl-C arrives, hand-overs go on; no speed is asserted.
"""

import contextlib
import functools
import os
import signal
import time

import pytest
import test_queue
import test_queue_signals_fork
from helpers import (
    CALLS,
    LATE,
    STRESS_SECONDS,
    WITH_GIL,
    Task,
    each_call,
    hand_over_one_by_one,
    in_fork,
    loaded,
    parked,
    stuck_ring,
    thorough,
)
from test_queue import KINDS, stuck_queue

from f1buf import Empty, Full, RingBuffer

TIMEOUT = 0.02  # [s]
TOLD = test_queue_signals_fork.TOLD
each_told_kind = pytest.mark.parametrize("kind", TOLD)


def late(kind):
    """What is late [s] for a queue of this kind.

    Before they sleep, the locks of a CPython 3.13 without a GIL give up the processor 40 times, each time until the
    others have had theirs. The standard library's own queue is as late for that as those of f1buf that stand on locks.
    """
    return LATE if kind == "plain" or WITH_GIL else 10 * LATE


@pytest.fixture(autouse=True, scope="module")
def load():
    with loaded():
        yield


def assert_timely(call, late):
    for _ in range(max(3, int(10 * STRESS_SECONDS))):
        began = time.monotonic()
        with contextlib.suppress(Empty, Full):
            assert len(call(timeout=TIMEOUT)) == 0  # of batches
        assert TIMEOUT <= time.monotonic() - began < TIMEOUT + late


def assert_served(call, serve, late):
    waiter = parked(call)
    began = time.monotonic()
    serve()
    waiter.result()
    assert time.monotonic() - began < late


@each_call
def test_a_timeout_of_a_ring_is_never_early_and_hardly_late(name):
    assert_timely(functools.partial(CALLS[name], stuck_ring(name)), LATE)


@each_told_kind
@test_queue.each_timed_call
def test_a_timeout_of_a_queue_is_never_early_and_hardly_late(name, kind):
    assert_timely(functools.partial(CALLS[name], stuck_queue(name, KINDS[kind])), late(kind))


@each_call
def test_a_ring_serves_a_waiter(name):
    ring = stuck_ring(name)
    call = functools.partial(ring.put_many, [7]) if name == "put_many" else functools.partial(CALLS[name], ring)
    assert_served(call, ring.get if ring.full() else lambda: ring.put(7), LATE)


@each_told_kind
@test_queue.each_call
def test_a_queue_serves_a_waiter(name, kind):
    queue = stuck_queue(name, KINDS[kind])
    call = functools.partial(test_queue_signals_fork.call_that_fits, name, queue)
    assert_served(call, lambda: test_queue_signals_fork.serve(name, queue), late(kind))


def assert_interrupted(call):
    sent = []

    def interrupt():
        time.sleep(0.2)  # by then it waits; that cannot be seen here, where it looks for signals in between two looks
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def call_and_interrupt():
        Task(interrupt)
        call()

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        call_and_interrupt()
    assert time.monotonic() - sent[0] < LATE


@thorough(but=("get", "put"))
@each_call
def test_ctrl_c_ends_a_wait_for_a_ring(name):
    in_fork(lambda: assert_interrupted(functools.partial(CALLS[name], stuck_ring(name))))


@thorough(but=("get-plain",))
@pytest.mark.parametrize("kind", TOLD if WITH_GIL else ["plain"])  # see `late`
@pytest.mark.parametrize("name", ["put", "get", "join"])
def test_ctrl_c_ends_a_wait_for_a_queue(name, kind):
    in_fork(lambda: assert_interrupted(functools.partial(test_queue.CALLS[name], stuck_queue(name, KINDS[kind]))))


HAND_OVERS = int(400 * STRESS_SECONDS)  # each may cost two turns of the scheduler


def test_hand_overs_through_a_ring_go_on():
    ring = RingBuffer(1, "i8")
    hand_over_one_by_one(ring.put, ring.get, HAND_OVERS)


@each_told_kind
def test_hand_overs_through_a_queue_go_on(kind):
    queue = KINDS[kind](1)
    hand_over_one_by_one(queue.put, queue.get, HAND_OVERS if late(kind) == LATE else HAND_OVERS // 40)
