"""RingBuffer and what ends or splits a process: forks, and the interpreter's exit while threads wait.

`F1BUF_STRESS` scales how often a program ends beside its threads: once every day, 5 times with `--all`, 200 times
from 10 on.
"""

import builtins
import datetime
import os
import signal
import sys
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from helpers import (
    CALLS,
    LARGE,
    LATE,
    LONG_WATCHDOG,
    PUTS,
    SEEN,
    WATCHDOG,
    WITH_GIL,
    Task,
    assert_times_out,
    check_balance,
    contents,
    each_call,
    in_fork,
    keep_calling,
    not_where_detaching_may_crash,
    parked,
    reading,
    ring_with,
    run_python,
    stuck_ring,
    thorough,
    wait_parked,
    writing,
)

from f1buf import Empty, RingBuffer, ShutDown, Tee

# Forks while others wait ----------------------------------------------------------------------------------------------


def use_everything(ring):
    """What a child may do with a ring of capacity 1 on which its parent's threads wait."""
    ring.get_many(timeout=0) if ring.qsize() else None
    ring.put(1)
    assert contents(ring) == [1]
    for name in PUTS:
        assert_times_out(name, ring, timeout=0.01)
    assert ring.get() == 1
    for name in CALLS.keys() - PUTS.keys():
        assert_times_out(name, ring, timeout=0.01)
    getter = parked(ring.get)
    ring.put(2)
    assert getter.result() == 2
    ring.put_many([3])
    putter = parked(ring.put, 4)
    assert ring.get() == 3
    putter.result()
    check_balance(ring)
    waiter = parked(ring.put, 5)
    ring.shutdown()
    with pytest.raises(ShutDown):
        waiter.result()
    assert [batch.tolist() for batch in ring.batches()] == [[4]]


@each_call
def test_a_child_can_use_a_ring_on_which_its_parents_threads_wait(name):
    ring = stuck_ring(name)
    waiters = [parked(CALLS[name], ring) for _ in range(3)]
    in_fork(lambda: use_everything(ring))
    assert all(waiter.is_alive() for waiter in waiters)
    if name in PUTS:
        drain = Task(lambda: sum(map(len, ring.batches())))
    else:
        for _ in waiters:
            ring.put(1)
    for waiter in waiters:
        waiter.result()
    ring.shutdown()
    if name in PUTS:
        assert drain.result() == ring.stats().offered
    check_balance(ring)


def stuck_tees():
    """One that waits for its first ring, and one that waits for a later one."""
    return Tee(ring_with(1), RingBuffer(1, "i8")), Tee(RingBuffer(1, "i8"), ring_with(1))


@pytest.mark.parametrize("which", [0, 1], ids=["the first ring", "a later ring"])
def test_a_child_can_use_a_tee_in_which_its_parents_threads_wait(which):
    tee = stuck_tees()[which]
    waiter = parked(tee.put, 7)

    def check():
        first, second = tee.rings
        assert (contents(first), contents(second)) == (([1], []) if which == 0 else ([7], [1]))
        for ring in tee.rings:
            ring.get_many(timeout=0) if ring.qsize() else None
        tee.put(2)
        putter = parked(tee.put, 3)
        assert (first.get(), second.get()) == (2, 2)
        putter.result()
        assert (contents(first), contents(second)) == ([3], [3])
        tee.shutdown()
        with pytest.raises(ShutDown):
            tee.put(4)
        for ring in tee.rings:
            check_balance(ring)

    in_fork(check)
    tee.rings[which].get()
    waiter.result()
    assert [contents(ring) for ring in tee.rings] == [[7], [7]]


def test_a_child_of_a_child_can_use_the_ring():
    ring = RingBuffer(1, "i8")
    waiter = parked(ring.get)

    def check():
        own_waiter = parked(ring.get)
        in_fork(lambda: use_everything(ring))
        ring.put(1)
        assert own_waiter.result() == 1

    in_fork(check)
    ring.put(2)
    assert waiter.result() == 2


def test_a_ring_at_rest_keeps_its_records_and_numbers_in_the_child():
    ring = ring_with(1, 2, 3, capacity=5)
    ring.get()

    def check():
        assert ring.put_many([4, 5]) == 2
        seq, batch = ring.get_many(return_seq=True)
        assert (seq, batch.tolist()) == (1, [2, 3, 4, 5])

    in_fork(check)
    assert contents(ring) == [2, 3]
    assert ring.stats().offered == 3


def test_the_thread_that_forks_is_the_childs_main_thread_for_signals():
    ring = RingBuffer(1, "i8")

    def check():
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt():
            wait_parked(threading.main_thread())
            os.kill(os.getpid(), signal.SIGINT)
            return time.monotonic()

        sender = Task(interrupt)
        with pytest.raises(KeyboardInterrupt):
            ring.get()
        assert time.monotonic() - sender.result() < LATE

    Task(in_fork, check).result()


def test_a_wait_whose_signal_handler_forks_goes_on_in_both_processes():
    ring = RingBuffer(1, "i8")

    def check():
        children = []
        signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
        Task(lambda: (wait_parked(threading.main_thread()), os.kill(os.getpid(), signal.SIGUSR1)))
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork while other threads run
        while not children:  # the signal comes once this thread has been seen to wait
            with pytest.raises(Empty):
                ring.get(timeout=SEEN)
        ring.put(1)
        assert ring.get() == 1
        check_balance(ring)
        if children[0]:
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0

    in_fork(check)


def test_rings_that_were_freed_before_a_fork_are_forgotten(monkeypatch):
    monkeypatch.setenv("PYTHONMALLOC", "debug")  # what is freed is overwritten
    run_python("from test_ring_fork import fork_beside_freed_rings; fork_beside_freed_rings()")


def fork_beside_freed_rings():
    for freed in range(3):
        rings = [RingBuffer(1, "i8") for _ in range(3)]
        del rings[freed]
        in_fork(partial(rings[0].put, 1))
        in_fork(partial(rings[1].put, 1))


# Forks while others copy ----------------------------------------------------------------------------------------------


def assert_torn(ring):
    records = np.zeros(1, ring.dtype)
    for call in (
        lambda: ring.put(records[0]),
        lambda: ring.put_nowait(records[0]),
        lambda: ring.put_many(records),
        lambda: ring.put_many(records, timeout=0.01),
        ring.get,
        ring.get_nowait,
        ring.get_many,
        lambda: ring.get_many(block=False),
        lambda: ring.get_into(records),
        lambda: next(ring.batches()),
        ring.snapshot,
    ):
        with pytest.raises(RuntimeError, match=r"forked while another thread was copying.*create a new ring"):
            call()
    ring.stats()
    repr(ring)
    ring.shutdown()
    use_everything(RingBuffer(1, "i8"))


@thorough(but=("block",))
@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest"])
def test_a_ring_that_was_being_read_at_the_fork_raises_in_the_child(overflow):
    other = ring_with(1, 2)
    with reading(overflow, more=[1]) as ring:
        in_fork(lambda: assert_torn(ring))
        in_fork(lambda: use_everything(RingBuffer(1, "i8")))
        in_fork(lambda: contents(other) == [1, 2] or pytest.fail("another ring is torn"))
    assert ring.get() == 1
    check_balance(ring)


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest"])
def test_a_ring_that_was_being_written_at_the_fork_raises_in_the_child(overflow):
    with writing(overflow=overflow) as ring:
        in_fork(lambda: assert_torn(ring))
    assert ring.get()["number"] == 7
    check_balance(ring)


def put_what_must_be_converted():
    before = set(sys.modules)
    ring = RingBuffer(100, [("number", "i8"), ("time", "M8[s]")])
    ring.put((np.int8(1), datetime.date(2020, 1, 1)))
    ring.put_many([(1, datetime.date(2020, 1, 1)), (2, np.datetime64("NaT", "s"))])
    ring.put_many(np.zeros(3, [("number", "i4"), ("time", "M8[D]")]))
    RingBuffer(1, "f8").put_many(np.ones(1, "f4"))
    assert set(sys.modules) - before == set()


def test_a_conversion_imports_nothing():
    """In the child of a fork that came amid another thread's import, a conversion with the same import would hang."""
    run_python("import test_ring_fork as it; it.put_what_must_be_converted()")


def fork_while_others_copy():
    """Many forks at random moments: in each child the ring works, or says that it cannot."""
    ring = RingBuffer(50_000, "i8", overflow="drop_oldest")
    batch = np.arange(20_000, dtype="i8")
    keep_calling(
        partial(ring.put_many, batch),
        partial(ring.get_many, block=False),
        partial(ring.put, 1),
        partial(ring.snapshot, 100),
        ring.get_nowait,
    )
    for _ in range(30):
        in_fork(partial(use_or_be_told, ring, batch))


def use_or_be_told(ring, batch):
    try:
        for _ in range(3):
            ring.put_many(batch)
            ring.snapshot()
            ring.get_many(timeout=LATE)
            ring.put(1)
        check_balance(ring)
    except RuntimeError as error:
        if "create a new ring" not in str(error):
            raise


def fork_while_others_look():
    """Many forks while threads ask for statistics of a ring whose lock is contended."""
    ring = RingBuffer(64, "i8", overflow="drop_oldest")
    keep_calling(partial(ring.put_many, np.arange(100_000, dtype="i8")), ring.stats, ring._check)
    for _ in range(30):
        in_fork(ring.stats)


def fork_while_others_contend():
    """Very many forks beside far more threads than processors, whose tiny operations pass the lock around."""
    threads, forks = (1, 30) if WITH_GIL else (5, 100)  # with it, each fork waits long for it
    ring = RingBuffer(1, "i8", overflow="drop_oldest")
    calls = (
        partial(ring.put_many, np.zeros(10_000, "i8")),  # one by one, without the GIL
        partial(ring.put, 1),
        partial(ring.get, timeout=1e-4),
        ring.get_nowait,
    )
    keep_calling(*calls * threads)
    for _ in range(forks):
        in_fork(partial(go_on, ring))


def go_on(ring):
    ring.get_many(timeout=0) if ring.qsize() else None
    ring.put(1)
    assert ring.get() == 1
    assert_times_out("get", ring, timeout=1e-4)
    check_balance(ring)


FORKING = [fork_while_others_copy, fork_while_others_look, fork_while_others_contend]


@thorough(but=("fork_while_others_copy",))
@pytest.mark.parametrize("scenario", FORKING, ids=lambda f: f.__name__)
def test_forks_never_hang(scenario):
    run_python(f"from test_ring_fork import {scenario.__name__}; {scenario.__name__}()", timeout=3 * WATCHDOG)


# The interpreter's exit -----------------------------------------------------------------------------------------------


def leave_threads_waiting():
    """A main program that ends while daemon threads wait in every call."""
    sys.setswitchinterval(1e-3)  # so that `wait_parked` sees it soon
    waiters = [Task(CALLS[name], stuck_ring(name), **how) for name in CALLS for how in ({}, {"timeout": 60})]
    waiters += [Task(tee.put, 7) for tee in stuck_tees()]
    waiters.append(Task(RingBuffer(1000, "i8").get_many, min_count=500))
    for waiter in waiters:
        wait_parked(waiter)


def leave_threads_waiting_for_a_copy():
    """The same while they wait for a copy that another thread is in the middle of."""
    copies = being_read, being_written = reading(), writing()
    calls = ("get", "get_nowait", "get_many", "snapshot")
    ring = being_read.__enter__()
    waiters = [Task(getattr(ring, call)) for call in calls]
    ring = being_written.__enter__()
    waiters.append(Task(ring.put_many, np.zeros(1, LARGE)))
    waiters.append(Task(lambda _: threading.Event().wait(), copies))  # which so stay as they are to the very end
    for waiter in waiters:
        wait_parked(waiter)


def leave_threads_busy():
    """The same with threads that come back to Python all the time."""
    ring = RingBuffer(64, "i8", overflow="drop_oldest")
    keep_calling(
        partial(ring.put_many, np.arange(100_000, dtype="i8")),
        partial(ring.get, timeout=1e-4),
        partial(ring.get_many, 64, min_count=64, timeout=1e-4),
        partial(ring.put, 1),
        ring.snapshot,
    )
    use_at_the_very_end(ring)


def leave_threads_looking():
    """The same with threads that ask for statistics while the lock is contended."""
    ring = RingBuffer(64, "i8", overflow="drop_oldest")
    keep_calling(partial(ring.put_many, np.arange(100_000, dtype="i8")), ring.stats, ring.stats)
    use_at_the_very_end(ring)


def use_at_the_very_end(ring):
    class Last:
        def __del__(self):
            ring.put(1)
            ring.stats()

    builtins.last = Last()
    time.sleep(0.05)  # the threads' life, not a wait for something


LEAVING = [
    leave_threads_waiting,
    leave_threads_waiting_for_a_copy,
    *map(not_where_detaching_may_crash, (leave_threads_busy, leave_threads_looking)),
]


@thorough(but=("leave_threads_waiting", "leave_threads_busy"))
@pytest.mark.parametrize("scenario", LEAVING, ids=lambda f: f.__name__)
def test_the_interpreter_exits_beside_daemon_threads(scenario):
    name = scenario.__name__
    code = f"from helpers import end_in_children; from test_ring_fork import {name}; end_in_children({name})"
    run_python(code, timeout=LONG_WATCHDOG)
