"""The C calls of RingBuffer, for other projects' Cython: what each does, and each outcome.

nogil_calls.pyx, compiled here as any other project would, makes them: without the GIL, with it, and in a thread that
Python knows nothing of.
"""

import contextlib
import itertools
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import (
    LATE,
    WATCHDOG,
    Crowd,
    Task,
    check_balance,
    compile_module,
    contents,
    in_fork,
    parked,
    reading,
    ring_with,
    send,
    thorough,
    unchanged,
    wait_parked,
    writing,
)

from f1buf import Empty, RingBuffer, ShutDown
from f1buf.core import sync

MS = 1_000_000  # [ns]

PUSHES = ["try_push", "push", "try_push_many", "push_many"]
POPS = ["try_pop", "pop", "try_pop_many", "pop_many"]
ALL = PUSHES + POPS

hows = pytest.mark.parametrize("how", ["nogil", "foreign", "gil"])
waiting_hows = pytest.mark.parametrize("how", ["nogil", "foreign"])  # for what others with the GIL must end
each = pytest.mark.parametrize("what", ALL)
each_push = pytest.mark.parametrize("push", PUSHES)
each_pop = pytest.mark.parametrize("pop", POPS)
each_waiting = pytest.mark.parametrize("what", ["push", "push_many", "pop", "pop_many"])


class Calls:
    """What nogil_calls.pyx offers, with numbers for records."""

    def __init__(self, module):
        self.module = module

    def push(self, ring, values, what="push_many", **options):
        """(outcome, how many were taken)"""
        return self.module.call(what, ring, np.array(values, ring.dtype).tobytes(), **options)[:2]

    def pop(self, ring, n=1, what="pop_many", **options):
        """(outcome, [what was taken])"""
        outcome, done, taken = self.module.call(what, ring, n=n, **options)
        values = np.frombuffer(taken, ring.dtype).tolist()
        assert len(values) == done
        return outcome, values

    def outcome(self, what, ring, **options):
        """Of a push of one record, 7, or a pop of one."""
        if "push" in what:
            outcome, done = self.push(ring, [7], what, **options)
        else:
            outcome, done = self.pop(ring, 1, what, **options)
        assert bool(done) == (outcome == "DONE")
        return outcome


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """The module nogil_calls, compiled with the setup.py of the example."""
    source = Path(__file__).with_name("nogil_calls.pyx").read_text()
    built = str(compile_module(tmp_path_factory.mktemp("nogil_calls"), "nogil_calls", source))
    sys.path.append(built)
    import nogil_calls

    sys.path.remove(built)
    return Calls(nogil_calls)


def stuck(what, overflow="block"):
    """A ring on which that call would have to wait: full or empty."""
    return ring_with(1, 2, overflow=overflow) if "push" in what else RingBuffer(2, "i8", overflow=overflow)


class ForeignThread(NamedTuple):
    """One that Python knows nothing of."""

    native_id: int

    def is_alive(self):
        return self.native_id in threads()


def threads():
    return set(map(int, os.listdir("/proc/self/task")))


def parked_in_call(call, *args, how, **options):
    """As `parked`; where a foreign thread makes the call, that one has been seen to wait, too."""
    before = threads()
    task = parked(call, *args, how=how, **options)
    if how == "foreign":  # its caller waits for its end, whether or not it has begun
        (made,) = threads() - before - {task.native_id}
        wait_parked(ForeignThread(made))
    return task


@contextlib.contextmanager
def held(block):
    """Another thread is inside the block; nothing of it is committed or consumed."""
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with block:
            (block.commit if hasattr(block, "commit") else block.consume)(0)
            entered.set()
            leave.wait(WATCHDOG)

    holder = Task(hold)
    assert entered.wait(WATCHDOG)
    yield
    leave.set()
    holder.result()


@contextlib.contextmanager
def calm(ring):
    """Inside, no record enters or leaves, and none is dropped; waits may be counted."""

    def now():
        stats = ring.stats()
        return ring.qsize(), stats.offered, stats.taken, stats.dropped

    before = now()
    yield
    assert now() == before


def in_ms(ms):
    return time.monotonic_ns() + int(ms * MS)


# One record, several --------------------------------------------------------------------------------------------------


@thorough(but=("*-foreign",))
@hows
@each_push
@each_pop
def test_records_that_are_pushed_are_popped(calls, push, pop, how):
    ring = RingBuffer(3, "i8")
    for value in range(5):
        assert calls.push(ring, [value], push, how=how) == ("DONE", 1)
        assert calls.pop(ring, 1, pop, how=how) == ("DONE", [value])
    assert ring.stats().taken == 5
    check_balance(ring)


@hows
def test_batches(calls, how):
    ring = RingBuffer(5, "i8")
    for start in range(0, 40, 4):
        values = list(range(start, start + 4))
        assert calls.push(ring, values, "try_push_many", how=how) == ("DONE", 4)
        assert calls.pop(ring, 9, "try_pop_many", how=how) == ("DONE", values)
    check_balance(ring)


@hows
@each
def test_a_call_that_would_have_to_wait_says_why(calls, what, how):
    ring = stuck(what)
    with calm(ring):
        assert calls.outcome(what, ring, how=how) == ("FULL" if "push" in what else "EMPTY")


@hows
def test_a_push_takes_as_many_records_as_there_is_room_for(calls, how):
    ring = RingBuffer(3, "i8")
    assert calls.push(ring, range(5), "try_push_many", how=how) == ("FULL", 3)
    assert contents(ring) == [0, 1, 2]
    assert calls.push(ring, [], "try_push_many", how=how) == ("DONE", 0)
    check_balance(ring)


@hows
def test_a_pop_takes_the_records_there_are(calls, how):
    ring = ring_with(1, 2, 3, capacity=4)
    assert calls.pop(ring, 4, "try_pop_many", least=4, how=how) == ("EMPTY", [1, 2, 3])
    assert calls.pop(ring, 4, "try_pop_many", how=how) == ("EMPTY", [])


def test_least_is_limited_to_the_possible(calls):
    ring = ring_with(1, 2, 3)
    assert calls.pop(ring, 1, least=5) == ("DONE", [1])
    assert calls.pop(ring, 1, least=0) == ("DONE", [2])
    assert calls.pop(ring, 0, least=0) == calls.pop(ring, 0, least=5) == ("DONE", [])
    ring.put_many([4, 5])
    assert calls.pop(ring, 9, least=9) == ("DONE", [3, 4, 5])
    assert calls.pop(ring, 1, least=0) == ("EMPTY", [])


@hows
def test_records_of_any_size(calls, how):
    """Those that are copied outside the lock, too."""
    for dtype in "u1", "S4096", "S20000", "S2000000":
        ring = RingBuffer(3, dtype)
        values = [f"{i}".encode() for i in range(1, 4)]
        if dtype == "u1":
            values = [1, 2, 3]
        assert calls.push(ring, values[:1], "push", how=how) == ("DONE", 1)
        assert calls.push(ring, values[1:], how=how) == ("DONE", 2)
        assert calls.pop(ring, 1, "pop", how=how) == ("DONE", values[:1])
        assert calls.pop(ring, 2, how=how) == ("DONE", values[1:])
        check_balance(ring)


# Waiting --------------------------------------------------------------------------------------------------------------


@waiting_hows
@each_waiting
def test_a_waiter_is_served(calls, what, how):
    ring = stuck(what)
    waiter = parked_in_call(calls.outcome, what, ring, deadline=calls.module.NEVER, how=how)
    if "push" in what:
        assert ring.get() == 1
        assert waiter.result() == "DONE"
        assert contents(ring) == [2, 7]
    else:
        ring.put(1)
        assert waiter.result() == "DONE"
        assert contents(ring) == []
    check_balance(ring)


@waiting_hows
def test_more_than_the_capacity_can_be_pushed(calls, how):
    ring, taken = RingBuffer(10, "i8"), []
    pusher = Task(calls.push, ring, range(1000), deadline=calls.module.NEVER, how=how)
    while len(taken) < 1000:
        taken += ring.get_many(timeout=WATCHDOG).tolist()
    assert pusher.result() == ("DONE", 1000)
    assert taken == list(range(1000))


@waiting_hows
def test_a_pop_waits_for_the_least_and_takes_all_there_are(calls, how):
    ring = RingBuffer(10, "i8")
    popper = parked_in_call(calls.pop, ring, 9, least=3, deadline=calls.module.NEVER, how=how)
    ring.put_many([1, 2])
    wait_parked(popper)
    ring.put_many([3, 4])
    assert popper.result() == ("DONE", [1, 2, 3, 4])


@hows
@each_waiting
@pytest.mark.parametrize("ms", [0.5, 30])
def test_a_deadline_is_kept_and_never_early(calls, what, how, ms):
    ring = stuck(what)
    with calm(ring):
        deadline = in_ms(ms)
        assert calls.outcome(what, ring, deadline=deadline, how=how) == ("FULL" if "push" in what else "EMPTY")
        assert deadline <= time.monotonic_ns() < deadline + 1e9 * LATE


@pytest.mark.parametrize("deadline", [0, 1, -1, -(1 << 63)])
@each_waiting
def test_a_deadline_that_has_passed_does_not_wait(calls, what, deadline):
    ring = stuck(what)
    before = time.monotonic()
    assert calls.outcome(what, ring, deadline=deadline) == ("FULL" if "push" in what else "EMPTY")
    assert time.monotonic() - before < LATE


@waiting_hows
def test_a_call_that_ends_at_its_deadline_says_how_many_it_moved(calls, how):
    ring = RingBuffer(3, "i8")
    assert calls.push(ring, range(5), deadline=in_ms(5), how=how) == ("FULL", 3)
    assert calls.pop(ring, 5, least=3, deadline=in_ms(5), how=how) == ("DONE", [0, 1, 2])
    ring.put(9)
    assert calls.pop(ring, 5, least=3, deadline=in_ms(5), how=how) == ("EMPTY", [9])
    check_balance(ring)


def test_times_are_on_the_monotonic_clock(calls):
    before = time.monotonic_ns()
    now = calls.module.now()
    assert before <= now <= time.monotonic_ns()
    assert before + 5 * 10**8 <= calls.module.after(0.5) <= time.monotonic_ns() + 5 * 10**8
    assert [calls.module.after(seconds) for seconds in (0.0, -1.0, -math.inf, math.nan)] == [0, 0, 0, 0]
    assert calls.module.after(math.inf) == calls.module.after(1e10) == calls.module.NEVER


@thorough(but=("pop",))
@each_waiting
def test_the_main_thread_goes_on_behind_a_signal_and_its_handler_runs_then(calls, what):
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(time.monotonic_ns()))
    try:
        sender = send(signal.SIGALRM)  # once this thread is seen to wait
        deadline = in_ms(300)  # six looks for signals
        assert calls.outcome(what, stuck(what), deadline=deadline) == ("FULL" if "push" in what else "EMPTY")
        sender.result()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(handled) == 1
    assert handled[0] >= deadline


@each_waiting
def test_the_main_thread_is_served(calls, what):
    """It is promised nothing that it would have to give back."""
    ring = stuck(what)
    server = Task(lambda: (wait_parked(threading.main_thread()), ring.get() if "push" in what else ring.put(1)))
    assert calls.outcome(what, ring, deadline=in_ms(1000 * WATCHDOG)) == "DONE"
    server.result()
    check_balance(ring)
    waiter = parked(calls.outcome, what, ring, deadline=calls.module.NEVER)
    ring.get() if "push" in what else ring.put(1)
    assert waiter.result() == "DONE"


@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
@thorough(but=("foreign",))
@waiting_hows
def test_a_copy_in_progress_is_waited_for(calls, how):
    """By the try_* forms, too: that ends by itself."""
    with writing() as ring:
        pusher = parked_in_call(calls.module.call, "try_push", ring, bytes(ring.dtype.itemsize), how=how)
    assert pusher.result()[0] == "DONE"
    with reading(spare=1) as ring:
        popper = parked_in_call(calls.outcome, "try_pop", ring, how=how)
    assert popper.result() == "EMPTY"


@pytest.mark.parametrize("how", ["nogil", "foreign"])
def test_everything_comes_once_and_in_order(calls, how):
    """Three push, three pop, singly and in batches, by all forms that wait."""
    ring, crowd, taken = RingBuffer(50, "i8"), Crowd(), [[] for _ in range(3)]

    def push(first):
        for start in range(first, first + 3000, 30):
            calls.push(ring, range(start, start + 29), deadline=calls.module.NEVER, how=how)
            calls.push(ring, [start + 29], "push", deadline=calls.module.NEVER, how=how)

    def pop(into):
        while True:
            what, n = ("pop", 1) if len(into) % 3 == 0 else ("pop_many", 20)
            outcome, values = calls.pop(ring, n, what, least=min(3, n), deadline=calls.module.NEVER, how=how)
            into += values
            if outcome == "SHUT_DOWN":
                return

    pushers = [Task(push, first) for first in (0, 3000, 6000)]
    for into in taken:
        crowd.start(pop, into)
    for pusher in pushers:
        pusher.result()
    calls.module.call("shut_down", ring)
    crowd.join()
    assert sorted(itertools.chain(*taken)) == list(range(9000))
    for into in taken:
        for first in (0, 3000, 6000):
            own = [value for value in into if first <= value < first + 3000]
            assert own == sorted(own)
    check_balance(ring)


# Shutdown -------------------------------------------------------------------------------------------------------------


@hows
@each
@pytest.mark.parametrize("immediate", [False, True])
def test_after_a_shutdown(calls, what, how, immediate):
    ring = RingBuffer(4, "i8")
    ring.shutdown(immediate)
    with unchanged(ring):
        assert calls.outcome(what, ring, deadline=calls.module.NEVER, how=how) == "SHUT_DOWN"


@hows
@each_pop
def test_the_records_left_after_a_shutdown_can_be_popped(calls, pop, how):
    ring = ring_with(1)
    ring.shutdown()
    assert calls.pop(ring, 1, pop, how=how) == ("DONE", [1])
    assert calls.pop(ring, 1, pop, how=how) == ("SHUT_DOWN", [])


@waiting_hows
@each_waiting
@pytest.mark.parametrize("immediate", [False, True])
def test_a_shutdown_wakes_a_waiter(calls, what, how, immediate):
    ring = stuck(what)
    waiter = parked_in_call(calls.outcome, what, ring, deadline=calls.module.NEVER, how=how)
    ring.shutdown(immediate)
    assert waiter.result() == "SHUT_DOWN"
    check_balance(ring)


@waiting_hows
def test_a_call_that_a_shutdown_ends_says_how_many_it_moved(calls, how):
    ring = RingBuffer(3, "i8")
    pusher = parked_in_call(calls.push, ring, range(5), deadline=calls.module.NEVER, how=how)
    ring.shutdown()
    assert pusher.result() == ("SHUT_DOWN", 3)
    assert contents(ring) == [0, 1, 2]
    ring = ring_with(1, 2, capacity=4)
    popper = parked_in_call(calls.pop, ring, 4, least=3, deadline=calls.module.NEVER, how=how)
    ring.shutdown()
    assert popper.result() == ("SHUT_DOWN", [1, 2])


def test_a_pop_that_comes_too_late_for_its_least_does_not_call_the_ring_drained(calls):
    """SHUT_DOWN means that nothing will come: after less than `least` only where that was looked at."""
    ring = ring_with(1, 2, capacity=4)
    ring.shutdown()
    assert calls.pop(ring, 4, least=3) == ("EMPTY", [1, 2])
    assert calls.pop(ring, 4, least=3) == ("SHUT_DOWN", [])


@hows
def test_shut_down_is_shutdown(calls, how):
    ring = ring_with(1, 2)
    putter = parked(ring.put, 3)
    calls.module.call("shut_down", ring, how=how)
    with pytest.raises(ShutDown):
        putter.result()
    assert contents(ring) == [1, 2]
    calls.module.call("shut_down", ring, immediate=True, how=how)
    assert contents(ring) == []
    assert ring.stats().discarded == 2
    check_balance(ring)


def test_a_ring_that_was_never_initialised_is_shut_down(calls):
    for what in ALL:
        assert calls.outcome(what, RingBuffer.__new__(RingBuffer), deadline=calls.module.NEVER) == "SHUT_DOWN"


# Blocks, policies, what goes wrong ------------------------------------------------------------------------------------


@hows
@each
def test_a_block_is_not_waited_for_without_time(calls, what, how):
    ring = ring_with(1, 2, capacity=4)
    with held(ring.reserve(1) if "push" in what else ring.peek(1)), calm(ring):
        outcome = calls.outcome(what, ring, deadline=in_ms(0 if "try" in what else 5), how=how)
    assert outcome == ("FULL" if "push" in what else "EMPTY")
    assert calls.outcome(what, ring, how=how) == "DONE"


@hows
@each_pop
def test_a_ring_is_not_drained_while_records_are_peeked_at(calls, pop, how):
    """They may stay in the ring when the block ends."""
    ring = ring_with(1, 2)
    with held(ring.peek(2)):
        ring.shutdown()
        assert calls.outcome(pop, ring, deadline=in_ms(0 if "try" in pop else 5), how=how) == "EMPTY"
        with pytest.raises(Empty):
            ring.get(timeout=0 if "try" in pop else 0.005)
    assert calls.pop(ring, 2, how=how) == ("DONE", [1, 2])
    assert calls.outcome(pop, ring, how=how) == "SHUT_DOWN"


@waiting_hows
@each_waiting
def test_a_block_is_waited_for_where_there_is_time(calls, what, how):
    ring = ring_with(1, 2, capacity=4)
    with held(ring.reserve(1) if "push" in what else ring.peek(1)):
        waiter = parked_in_call(calls.outcome, what, ring, deadline=calls.module.NEVER, how=how)
    assert waiter.result() == "DONE"


@pytest.mark.parametrize("how", ["nogil", "gil"])
@each
def test_a_block_of_ones_own_is_told(calls, what, how):
    ring = ring_with(1, 2, capacity=4)
    with ring.reserve(1) if "push" in what else ring.peek(1):
        assert calls.outcome(what, ring, deadline=calls.module.NEVER, how=how) == "HELD_BY_SELF"
    assert calls.outcome(what, ring, how=how) == "DONE"
    check_balance(ring)


@hows
@each_push
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_drop_policy_drops_and_counts(calls, push, how, overflow):
    ring = stuck(push, overflow)
    assert calls.outcome(push, ring, deadline=calls.module.NEVER, how=how) == "DONE"
    assert contents(ring) == ([2, 7] if overflow == "drop_oldest" else [1, 2])
    if "many" in push:
        assert calls.push(ring, range(10), push, deadline=calls.module.NEVER, how=how) == ("DONE", 10)
        assert contents(ring) == ([8, 9] if overflow == "drop_oldest" else [1, 2])
    assert ring.stats().dropped == (11 if "many" in push else 1)
    check_balance(ring)


@hows
@each_push
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_drop_policy_drops_where_slots_are_reserved(calls, push, how, overflow):
    ring = RingBuffer(4, "i8", overflow=overflow)
    with held(ring.reserve(2)):
        assert calls.outcome(push, ring, deadline=calls.module.NEVER, how=how) == "DONE"
        assert ring.stats().dropped == 1
    assert contents(ring) == []
    check_balance(ring)


@pytest.mark.threads_only(reason="a wait between processes takes no memory")
@hows
@each_waiting
def test_no_memory_to_wait_with(calls, what, how):
    ring = stuck(what)
    with calm(ring):
        sync._fail_wait(1)
        try:
            assert calls.outcome(what, ring, deadline=in_ms(1000 * LATE), how=how) == "OUT_OF_MEMORY"
        finally:
            assert sync._fail_wait(0) == 0
    assert calls.outcome(what, ring, deadline=in_ms(1), how=how) in ("FULL", "EMPTY")


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps what is freed")
@pytest.mark.parametrize("what", ["push_many", "pop_many"])
def test_waits_leave_no_memory_behind(calls, what):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def wait(times):
        for _ in range(times):
            calls.module.call(what, ring, bytes(8), n=1, deadline=1)

    def grown():
        before = resident()
        wait(200_000)
        return resident() - before

    ring = stuck(what)
    wait(1000)
    # Waiters would be 9 MB, each time. What the process does beside, and huge pages, are not.
    assert any(grown() < 4 << 20 for _ in range(3))


@pytest.mark.threads_only(reason="the child of a fork has the same shared ring, not a copy")
def test_a_ring_that_a_fork_has_torn(calls):
    def all_say_so():
        for what in ALL:
            assert calls.outcome(what, ring, deadline=calls.module.NEVER) == "CUT_IN_TWO"

    with reading() as ring:
        in_fork(all_say_so)


@pytest.mark.threads_only(reason="the child of a fork has the same shared ring, not a copy")
def test_the_child_of_a_fork_goes_on(calls):
    """Beside a waiter of its parent's."""
    ring = RingBuffer(1, "i8")
    waiter = parked_in_call(calls.outcome, "pop", ring, deadline=calls.module.NEVER, how="foreign")

    def use():
        assert calls.outcome("push", ring, how="foreign") == "DONE"
        assert calls.outcome("push", ring, deadline=in_ms(5), how="foreign") == "FULL"
        assert calls.pop(ring, 1, "pop") == ("DONE", [7])

    in_fork(use)
    ring.put(1)
    assert waiter.result() == "DONE"


def test_a_subclass_has_them_too(calls):
    class Named(RingBuffer):
        name = "a subclass in Python"

    ring = Named(1, "i8")
    assert calls.outcome("push", ring) == calls.outcome("pop", ring) == "DONE"
