"""RingBuffer and signals: what a handler ends, what it lets go on, and that nothing is lost or doubled by it.

Each test runs in a process of its own. Sentence 10 of the contract, and Ctrl-C within 100 ms. `F1BUF_STRESS` scales
how often each call is interrupted: once every day, 5 times with `--all`, 200 times from 10 on. How long that took is
what the tests print.
"""

import itertools
import os
import signal
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
    REPEATS,
    WATCHDOG,
    StopError,
    Task,
    assert_interrupted,
    assert_times_out,
    attempts,
    check_balance,
    contents,
    each_call,
    each_get,
    forked,
    get_amid_interrupts,
    interrupt_again_and_again,
    interrupt_once,
    let_go,
    parked,
    put_amid_interrupts,
    reading,
    ring_with,
    run_python,
    send,
    signals_without_end,
    sleeps,
    stalling_signals,
    stop_then_serve,
    stuck_ring,
    thorough,
    trickling,
    wait_parked,
    wait_until,
    writing,
)

from f1buf import Empty, LifoQueue, Queue, RingBuffer


def interrupt(name):
    """The whole of a test, in an interpreter that was started for it."""
    ring = stuck_ring(name)

    def interrupt_once():
        before = contents(ring), ring.stats().offered, ring.stats().taken
        delay = assert_interrupted(lambda: CALLS[name](ring))
        assert (contents(ring), ring.stats().offered, ring.stats().taken) == before
        check_balance(ring)
        if name in PUTS:
            assert ring.get() == 1
        ring.put(2, timeout=LATE)
        assert ring.get(timeout=LATE) == 2
        if name in PUTS:
            ring.put(1)
        check_balance(ring)
        return delay

    interrupt_again_and_again(interrupt_once)


@thorough(but=("get", "put"))
@each_call
def test_ctrl_c_ends_a_wait_and_leaves_the_ring_as_it_was(name):
    code = f"from test_ring_signals import interrupt; interrupt({name!r})"
    print(run_python(code, timeout=WATCHDOG + 2 * REPEATS * LATE))


def interrupt_traffic(name):
    """SIGINT amid hand-overs, at random moments, while other threads go on."""
    ring = RingBuffer(3, "i8")
    if name in PUTS:
        put_amid_interrupts(name, ring, lambda: ring.stats().offered)
    else:
        get_amid_interrupts(name, ring)
    check_balance(ring)


@thorough(but=("get", "put_many"))
@each_call
def test_ctrl_c_amid_hand_overs_loses_and_doubles_nothing(name):
    run_python(f"from test_ring_signals import interrupt_traffic; interrupt_traffic({name!r})", timeout=LONG_WATCHDOG)


@each_call
@forked
def test_ctrl_c_ends_a_wait_with_a_timeout(name):
    ring = stuck_ring(name)
    assert_interrupted(lambda: CALLS[name](ring, timeout=60))
    check_balance(ring)


@forked
def test_an_interrupted_put_many_keeps_what_it_had_accepted():
    ring = RingBuffer(5, "i8")
    assert_interrupted(lambda: ring.put_many(range(12)))
    assert contents(ring) == [0, 1, 2, 3, 4]
    assert ring.stats().offered == 5
    check_balance(ring)


@pytest.mark.parametrize("take", ["get_many", "get_into", "batches"])
@forked
def test_an_interrupted_get_has_taken_nothing_of_what_was_there(take):
    ring = ring_with(1, 2, capacity=5)
    call = {
        "get_many": lambda: ring.get_many(min_count=3),
        "get_into": lambda: ring.get_into(np.zeros(5, "i8"), min_count=3),
        "batches": lambda: next(ring.batches(min_count=3)),
    }[take]
    assert_interrupted(call)
    assert contents(ring) == [1, 2]
    assert ring.stats().taken == 0
    check_balance(ring)


@forked
def test_ctrl_c_ends_a_put_many_whose_records_trickle():
    """It waits again and again, but never for as long as it takes to look for signals."""
    ring = ring_with(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with trickling(ring):
        sender = interrupt_once(lambda: ring.stats().offered > 20)  # 0.1 s later
        with pytest.raises(KeyboardInterrupt):
            ring.put_many(range(100_000))  # 500 s
        assert time.monotonic() - sender.result() < LATE
    check_balance(ring)


@forked
def test_ctrl_c_ends_a_put_many_that_never_waits():
    """Half a minute of small copies, or more."""
    ring = RingBuffer(1, "u1", overflow="drop_oldest")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = interrupt_once(lambda: ring.stats().dropped)
    with pytest.raises(KeyboardInterrupt):
        ring.put_many(np.zeros(10**9, "u1"))
    assert time.monotonic() - sender.result() < LATE
    assert ring.stats().offered == ring.stats().dropped + 1 < 10**9
    check_balance(ring)


@thorough(but=("get",))
@pytest.mark.parametrize(
    ("side", "call"),
    [
        (reading, lambda ring: ring.get()),
        (reading, lambda ring: ring.get_nowait()),
        (reading, lambda ring: ring.get_many(timeout=60)),
        (reading, lambda ring: ring.snapshot()),
        (writing, lambda ring: ring.put_many(np.zeros(1, LARGE))),
    ],
    ids=["get", "get_nowait", "get_many", "snapshot", "put_many"],
)
@pytest.mark.threads_only(reason="between processes such a call waits for 20 ms at most")
@forked
def test_ctrl_c_ends_a_wait_for_a_copy_in_progress(side, call):
    with side() as ring:
        assert_interrupted(lambda: call(ring))
    check_balance(ring)


@each_call
@forked
def test_a_handler_that_returns_lets_the_wait_go_on(name):
    ring, handled = stuck_ring(name), []
    signal.signal(signal.SIGUSR1, lambda *_: handled.append(contents(ring)))
    before = contents(ring)

    def disturb_and_serve():
        for count in (1, 2, 3):
            send(signal.SIGUSR1).result()
            wait_until(lambda count=count: len(handled) == count, "the handler")
        wait_parked(threading.main_thread())
        if name in PUTS:
            ring.get()
            return ring.get_many().tolist()
        return ring.put(1)

    server = Task(disturb_and_serve)
    CALLS[name](ring)
    assert server.result() == ([7] if name in PUTS else None)
    assert handled == [before] * 3
    check_balance(ring)


@thorough(but=("get", "put"))
@each_call
@forked
def test_a_handler_that_returns_does_not_renew_the_timeout(name):
    with signals_without_end() as handled:
        before = len(handled)
        while len(handled) == before:
            began = time.monotonic()
            assert_times_out(name, stuck_ring(name), timeout=0.25)
            assert 0.25 <= time.monotonic() - began < 0.25 + LATE


@each_call
@forked
def test_a_handler_may_itself_serve_the_wait(name):
    ring = stuck_ring(name)
    served = (lambda *_: ring.get_many()) if name in PUTS else (lambda *_: ring.put(5))
    signal.signal(signal.SIGUSR1, served)
    sender = send(signal.SIGUSR1)
    if name == "put_many":  # two records, one room
        assert ring.put_many([7]) == 1
    else:
        CALLS[name](ring)
    assert time.monotonic() - sender.result() < LATE
    assert contents(ring) == ([7] if name in PUTS else [])
    check_balance(ring)


@each_get
@forked
def test_a_wait_that_a_handler_serves_is_counted(name):
    """It has then waited, though it takes without looking at the lock once more."""
    ring = stuck_ring(name)
    signal.signal(signal.SIGUSR1, lambda *_: ring.put(5))
    send(signal.SIGUSR1)
    CALLS[name](ring)
    stats = ring.stats()
    assert stats.get_waits == 1
    assert stats.get_wait_seconds > 0


@forked
def test_a_handler_may_shut_the_ring_down():
    ring = RingBuffer(1, "i8")
    signal.signal(signal.SIGTERM, lambda *_: ring.shutdown())
    send(signal.SIGTERM)
    assert list(ring.batches()) == []


@forked
def test_a_handler_may_wait_on_the_same_ring():
    ring, entered, handled = RingBuffer(1, "i8"), [], []

    def handler(*_):
        entered.append(1)
        handled.append(ring.get())

    signal.signal(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)

    def serve():
        wait_until(lambda: entered, "the handler to begin")
        wait_parked(threading.main_thread())
        ring.put(1)
        wait_until(lambda: handled, "the handler")
        ring.put(2)

    server = Task(serve)
    assert ring.get() == 2
    assert handled == [1]
    server.result()
    check_balance(ring)


@forked
def test_a_handler_may_use_the_ring_that_the_main_thread_is_using():
    """The handler puts, the main thread puts and takes, and signals come without end."""
    ring = RingBuffer(100_000, [("origin", "i8"), ("number", "i8")])
    from_handler, numbers, batches, number = [], itertools.count(), [], 0

    def handler(*_):  # which may be interrupted by itself
        number = next(numbers)
        ring.put((1, number))
        assert ring.put_many([]) == 0
        assert len(ring.snapshot(1)) == 1
        from_handler.append(number)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-4)
    while len(from_handler) < 500:
        ring.put((0, number))
        ring.put_many([(0, number + 1), (0, number + 2)])
        number += 3
        batches.append(np.array([ring.get()], ring.dtype))
        batches.append(ring.get_many(2))
    signal.setitimer(signal.ITIMER_REAL, 0)
    if ring.qsize():
        batches.append(ring.get_many())
    taken = np.concatenate(batches)
    assert taken["number"][taken["origin"] == 0].tolist() == list(range(number))
    assert sorted(taken["number"][taken["origin"] == 1].tolist()) == sorted(from_handler)
    check_balance(ring)


@forked
def test_an_interrupted_waiter_leaves_its_place_to_the_next():
    ring = RingBuffer(1, "i8")
    second = Task(lambda: (wait_parked(threading.main_thread()), ring.get())[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt_once_both_wait():
        wait_parked(second)
        return send(signal.SIGINT).result()

    sender = Task(interrupt_once_both_wait)
    with pytest.raises(KeyboardInterrupt):
        ring.get()
    sender.result()
    ring.put(1)
    assert second.result() == 1
    check_balance(ring)


def signal_first_of_two(first, second, serve, handler, late=False):
    """The main thread waits in `first`, then another one in `second`; a signal, and `serve`, before `handler` runs.

    `late`: the main thread does not get to see that it was served before its next look for signals is due. Returns what
    `first` did, or StopError if it raised that, and what `second` did.
    """
    main = threading.main_thread()
    with stalling_signals(handler) as reader:

        def disturb():
            wait_parked(main)
            other = parked(second)
            signal.pthread_kill(main.ident, signal.SIGUSR1)
            if late:
                wait_parked(main)
                time.sleep(0.06)  # longer than from one look for signals to the next
            serve()
            let_go(main, reader)
            return other.result()

        disturber = Task(disturb)
        try:
            done = first()
        except StopError:
            done = StopError
        return done, disturber.result()


def stop(*_):
    raise StopError


@pytest.mark.parametrize(("side", "late"), [("get", False), ("get", True), ("put", True)])
@forked
def test_a_waiter_that_is_interrupted_just_as_it_is_served_passes_its_grant_on(side, late):
    """A put that has seen that there is room is over before the handler runs."""
    for _ in range(3):
        if side == "get":
            ring = RingBuffer(1, "i8")
            assert signal_first_of_two(ring.get, ring.get, lambda ring=ring: ring.put(5), stop, late) == (
                StopError,
                5,
            )
        else:
            ring = ring_with(1)
            puts = [lambda ring=ring, number=number: ring.put(number) for number in (2, 3)]
            assert signal_first_of_two(*puts, ring.get, stop, late) == (StopError, None)
            assert contents(ring) == [3]
        check_balance(ring)


@pytest.mark.parametrize("through", [None, Queue, LifoQueue])
@forked
def test_a_handler_that_waits_gives_up_the_main_threads_promise(through):
    """The other get takes the record, and brings by that what the handler waits for: room, or an item in a queue."""
    for _ in range(3):
        ring, queue = RingBuffer(1, "i8"), through and through()

        def second(ring=ring, queue=queue):
            number = ring.get()
            if queue is not None:
                queue.put(number)
                ring.put(6)
            return number

        def handler(*_, ring=ring, queue=queue):
            if queue is None:
                ring.put(6)
            else:
                assert queue.get() == 5

        assert signal_first_of_two(ring.get, second, lambda ring=ring: ring.put(5), handler) == (6, 5)
        check_balance(ring)


@pytest.mark.threads_only(reason="the child of a fork has the same shared ring, not a copy")
@forked
def test_a_handler_may_fork_while_a_record_is_promised_to_the_main_thread():
    """The child, where nobody else is, goes on in the get that the handler interrupted."""
    # A fork while other threads run: from Python 3.12 on there is a warning; 3.15 raises it where it is an error.
    warnings.simplefilter("ignore", DeprecationWarning)
    for _ in range(3):
        ring, other, forked = RingBuffer(1, "i8"), RingBuffer(1, "i8"), []

        def first(ring=ring, forked=forked):
            got = ring.get()
            if forked == [0]:
                ring.put(7)
                check_balance(ring)
                os._exit(not (got == 5 and ring.get() == 7 and ring.stats().taken == 2))
            return got

        def serve(ring=ring, other=other):
            other.put(6)
            ring.put(5)

        handler = partial(lambda forked, *_: forked.append(os.fork()), forked)
        assert signal_first_of_two(first, other.get, serve, handler) == (5, 6)
        assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0
        check_balance(ring)


@each_get
@forked
def test_a_record_that_comes_right_behind_the_signal_is_left_to_the_next_get(name):
    """A handler that raises ends the get before it has taken anything; at every moment of a tick."""
    ring = RingBuffer(1, "i8")
    for number in stop_then_serve(lambda: CALLS[name](ring), ring.put):
        assert ring.get_nowait() == number
        check_balance(ring)


def test_a_waiter_that_looks_for_signals_keeps_its_place_in_the_line():
    """A put that comes just as it looks may go to the next, so that a busy machine needs several rounds.

    Where a look cost the place none of them would do: each comes after one.
    """
    ring = RingBuffer(1, "i8")

    def serve():
        wait_parked(threading.main_thread())
        second = parked(ring.get)
        time.sleep(0.07)  # longer than one look for signals takes to come
        wait_until(lambda: sleeps(threading.main_thread()), "the main thread to look and sleep", every=0)
        ring.put(1)
        ring.put(2)
        return second.result()

    for _ in attempts():
        server = Task(serve)
        first = ring.get(timeout=WATCHDOG)
        assert sorted([first, server.result()]) == [1, 2]
        if first == 1:
            return
    pytest.fail("the other one was always served first")


@forked
def test_signals_are_the_main_threads_business():
    """Other threads sleep through."""
    ring = RingBuffer(1, "i8")
    waiter = parked(ring.get)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    wait_parked(waiter)
    ring.put(1)
    assert waiter.result() == 1
    with pytest.raises(Empty):
        ring.get_nowait()


def test_each_get_that_waited_is_counted_once():
    """Also where the main thread looks for signals meanwhile."""
    ring = RingBuffer(1, "i8")
    for number in range(3):

        def put_late(number=number):
            wait_parked(threading.main_thread())
            time.sleep(0.07)  # longer than one look for signals takes to come
            ring.put(number)

        putter = Task(put_late)
        assert ring.get() == number
        putter.result()
    stats = ring.stats()
    assert stats.get_waits == 3
    assert stats.get_wait_seconds >= 3 * 0.07
