"""Queue and what comes from outside: signals, forks, and the interpreter's exit while threads wait.

Each test runs in a process of its own. Ctrl-C within 100 ms; nothing is lost or doubled by a handler or a fork.
`F1BUF_STRESS` scales how often each call is interrupted, and how often a program ends beside its threads: once
every day, 5 times with `--all`, 200 times from 10 on. How long an interruption took is what the tests print.
"""

import asyncio
import builtins
import contextlib
import ctypes
import functools
import gc
import itertools
import os
import signal
import sys
import threading
import time
import types
import warnings
import weakref
from functools import partial

import pytest
from helpers import (
    LATE,
    LONG_WATCHDOG,
    REPEATS,
    SEEN,
    WATCHDOG,
    WITH_GIL,
    Crowd,
    StopError,
    Task,
    assert_interrupted,
    assert_times_out,
    forked,
    get_amid_interrupts,
    in_fork,
    interrupt_again_and_again,
    interrupt_once,
    interrupted_at_random,
    keep_calling,
    not_where_detaching_may_crash,
    parked,
    put_amid_interrupts,
    put_now_and_then,
    run_python,
    send,
    signals_without_end,
    stop_then_serve,
    take_now_and_then,
    thorough,
    trickling,
    wait_parked,
    wait_until,
)
from test_queue import (
    CALLS,
    GETS,
    KINDS,
    PUTS,
    converted,
    drained,
    each_call,
    each_kind,
    each_timed_call,
    outcome,
    queue_with,
    stuck_queue,
)

from f1buf import Empty, Full, LifoQueue, Queue, ShutDown

each_put = pytest.mark.parametrize("name", sorted(PUTS))
TOLD = ("plain", "converted", "lifo", "priority")  # the standard algorithm is one for all of the others
each_told_kind = pytest.mark.parametrize("kind", TOLD)
each_algorithm = pytest.mark.parametrize("kind", [Queue, converted], ids=["plain", "converted"])


def serve(name, queue):
    """Let the call of that name go on, from another thread or from a handler."""
    if name in GETS:
        queue.put(5)
    elif name in PUTS:
        queue.get()
    else:
        queue.task_done()


def call_that_fits(name, queue):
    """The same call, of which one turn serves all."""
    return queue.put_many([7]) if name == "put_many" else CALLS[name](queue)


def expected_of(name):
    return {"get": 5, "get_many": [5], "put_many": 1}.get(name)


# Ctrl-C ---------------------------------------------------------------------------------------------------------------


def interrupt(name, kind):
    """The whole of a test, in an interpreter that was started for it."""
    queue = stuck_queue(name, KINDS[kind])

    def interrupt_once():
        before = queue.qsize(), queue.unfinished_tasks
        delay = assert_interrupted(lambda: CALLS[name](queue))
        assert (queue.qsize(), queue.unfinished_tasks) == before
        queue._check()
        assert drained(queue) == [1] * before[0]
        queue.put(2, timeout=LATE)
        assert queue.get(timeout=LATE) == 2
        for _ in range(queue.unfinished_tasks):
            queue.task_done()
        queue.join()
        if name not in GETS:
            queue.put(1)
        return delay

    interrupt_again_and_again(interrupt_once)
    drained(queue)
    other = parked(queue.get)
    queue.put(3)
    assert other.result() == 3


@thorough(but=("get-plain", "put-plain", "join-plain", "get-converted"))
@each_told_kind
@each_call
def test_ctrl_c_ends_a_wait_and_leaves_the_queue_as_it_was(name, kind):
    code = f"from test_queue_signals_fork import interrupt; interrupt({name!r}, {kind!r})"
    print(run_python(code, timeout=WATCHDOG + 2 * REPEATS * LATE))


def interrupt_traffic(name, kind):
    """SIGINT amid hand-overs, at random moments, while other threads go on."""
    queue = KINDS[kind](3)
    if name in PUTS:
        put_amid_interrupts(name, queue, lambda: queue.unfinished_tasks)
    elif name in GETS:
        get_amid_interrupts(name, queue)
    else:
        join_amid_interrupts(queue)


def join_amid_interrupts(queue):
    made, taken, crowd = [], [], Crowd()

    def keep_joining():
        while True:
            queue.join()

    crowd.start(put_now_and_then, queue, itertools.count(), made)
    crowd.start(take_now_and_then, queue, taken, queue.task_done)
    interrupted_at_random(keep_joining)
    queue.shutdown()
    crowd.join()
    queue.join()
    assert queue.unfinished_tasks == 0
    assert sorted(taken) == made


@thorough(but=("put-plain", "get-plain", "get-priority"))
@pytest.mark.parametrize("kind", ["plain", "lifo", "priority"])  # the standard algorithm's mutex may stay taken
@each_call
def test_ctrl_c_amid_hand_overs_loses_and_doubles_nothing(name, kind):
    code = f"from test_queue_signals_fork import interrupt_traffic; interrupt_traffic({name!r}, {kind!r})"
    run_python(code, timeout=LONG_WATCHDOG)


@thorough(but=("*plain*", "*hooked*"))
@each_kind
@each_timed_call
@forked
def test_ctrl_c_ends_a_wait_with_a_timeout(name, kind):
    queue = stuck_queue(name, kind)
    assert_interrupted(lambda: CALLS[name](queue, timeout=60))
    assert queue.qsize() == (name in PUTS)
    queue._check()


@each_kind
@forked
def test_an_interrupted_put_many_keeps_what_it_had_accepted(kind):
    queue = kind(5)
    assert_interrupted(lambda: queue.put_many(range(12)))
    assert (queue.qsize(), queue.unfinished_tasks) == (5, 5)
    assert sorted(drained(queue)) == [0, 1, 2, 3, 4]


@each_kind
@forked
def test_an_interrupted_get_many_has_taken_nothing_of_what_was_there(kind):
    queue = queue_with(kind, 1, 2)
    assert_interrupted(lambda: queue.get_many(min_count=3))
    assert sorted(drained(queue)) == [1, 2]


@forked
def test_ctrl_c_ends_a_put_many_whose_items_trickle():
    """It waits again and again, but never for as long as it takes to look for signals."""
    queue = queue_with(Queue, 0, maxsize=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with trickling(queue):
        sender = interrupt_once(lambda: queue.unfinished_tasks > 20)  # 0.1 s later
        with pytest.raises(KeyboardInterrupt):
            queue.put_many(range(100_000))  # 500 s
        assert time.monotonic() - sender.result() < LATE
    queue._check()


def interrupt_everything(queue, item):
    """On a full queue, and on an empty one."""
    for call in (lambda: queue.put(item), lambda: queue.put_many([item] * 3), queue.join):
        assert_interrupted(call)
    queue.clear()
    for call in (queue.get, queue.get_many):
        assert_interrupted(call)


@each_algorithm
@forked
def test_an_interrupted_call_keeps_no_reference(kind):
    queue, item = queue_with(kind, 0, maxsize=1), object()
    alive, before = weakref.ref(queue), sys.getrefcount(item)
    interrupt_everything(queue, item)
    del queue
    gc.collect()
    assert sys.getrefcount(item) == before
    assert alive() is None


@forked
def test_an_interrupted_waiter_leaves_its_place_to_the_next():
    queue = Queue(1)
    second = Task(lambda: (wait_parked(threading.main_thread()), queue.get())[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt_once_both_wait():
        wait_parked(second)
        return send(signal.SIGINT).result()

    sender = Task(interrupt_once_both_wait)
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    sender.result()
    queue.put(1)
    assert second.result() == 1
    queue._check()


@pytest.mark.parametrize("kind", ["plain", "lifo", "priority"])  # what waits on a condition takes it along
@pytest.mark.parametrize("name", sorted(GETS))
@forked
def test_the_notification_of_an_interrupted_get_goes_to_the_next(name, kind):
    """A signal whose handler raises and right behind it an item, while another get waits for one."""
    queue, main = KINDS[kind](), threading.main_thread()

    def stop(*_):
        raise StopError

    def get_second():
        wait_parked(main)
        return CALLS[name](queue)

    def stop_the_first(second):
        wait_parked(main)
        wait_parked(second)
        os.kill(os.getpid(), signal.SIGUSR1)
        queue.put(5)

    signal.signal(signal.SIGUSR1, stop)
    for _ in range(3):
        second = Task(get_second)
        stopper = Task(stop_the_first, second)
        with pytest.raises(StopError):
            queue.get()
        assert second.result() == expected_of(name)
        stopper.result()
        queue._check()


@pytest.mark.parametrize("name", sorted(GETS))
@forked
def test_ctrl_c_amid_a_wait_leaves_the_mutex_to_its_holder(name):
    """One that ends the wait, and one that comes when that has ended and the mutex is not to be had."""
    queue = stuck_queue(name, converted)

    def interrupt_and_hold():
        wait_parked(threading.main_thread())
        with queue.mutex:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)  # for the main thread to look: it may show nothing of what it does then
                wait_parked(threading.main_thread())
            assert queue.mutex.locked()
            queue.queue.append(5)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    holder = Task(interrupt_and_hold)
    with pytest.raises(KeyboardInterrupt):
        CALLS[name](queue)
    holder.result()
    assert not queue.mutex.locked()
    assert drained(queue) == [5]


@pytest.mark.parametrize("kind", [converted, LifoQueue], ids=lambda kind: kind.__name__)
@each_call
@forked
def test_ctrl_c_ends_a_wait_for_the_mutex(name, kind):
    """Which stays its holder's."""
    queue, held, over = stuck_queue(name, kind), threading.Event(), threading.Event()

    def hold():
        with queue.mutex:
            held.set()
            over.wait()

    holder = Task(hold)
    held.wait()
    assert_interrupted(lambda: CALLS[name](queue))
    assert queue.mutex.locked()
    over.set()
    holder.result()
    assert not queue.mutex.locked()
    assert drained(queue) == ([] if name in GETS else [1])


@forked
def test_a_signal_between_two_looks_for_the_mutex_is_seen(monkeypatch):
    """Waiting for a lock ends by a signal that comes amid it; one that came before is nobody's but the waiter's."""
    raise_signal = ctypes.CDLL(None)["raise"]
    raise_signal.argtypes = [ctypes.c_int, ctypes.c_bool, ctypes.c_double]
    # Not to be had, and raises the signal in C, where no bytecode runs that would look for it.
    lock = types.SimpleNamespace(acquire=partial(raise_signal, signal.SIGINT), locked=lambda: True)
    monkeypatch.setattr(threading, "Lock", lambda: lock)
    mutex = Queue().mutex
    monkeypatch.undo()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        mutex.acquire()


@forked
def test_signals_are_the_main_threads_business():
    """Other threads sleep through."""
    queue = Queue(1)
    waiter = parked(queue.get)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    wait_parked(waiter)
    queue.put(1)
    assert waiter.result() == 1
    assert queue.empty()


# Handlers that return -------------------------------------------------------------------------------------------------


@each_told_kind
@each_call
@forked
def test_a_handler_that_returns_lets_the_wait_go_on(name, kind):
    queue, handled = stuck_queue(name, KINDS[kind]), []
    signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))

    def disturb_and_serve():
        for count in (1, 2, 3):
            send(signal.SIGUSR1).result()
            wait_until(lambda count=count: len(handled) == count, "the handler")
        wait_parked(threading.main_thread())
        serve(name, queue)

    server = Task(disturb_and_serve)
    assert call_that_fits(name, queue) == expected_of(name)
    server.result()
    assert len(handled) == 3
    assert drained(queue) == ([7] if name in PUTS else [1] if name == "join" else [])


@thorough(but=("get-plain",))
@each_told_kind
@each_timed_call
@forked
def test_a_handler_that_returns_does_not_renew_the_timeout(name, kind):
    with signals_without_end() as handled:
        before = len(handled)
        while len(handled) == before:
            began = time.monotonic()
            assert_times_out(name, stuck_queue(name, KINDS[kind]), timeout=0.25)
            assert 0.25 <= time.monotonic() - began < 0.25 + LATE


@each_told_kind
@each_call
@forked
def test_a_handler_may_itself_serve_the_wait(name, kind):
    queue = stuck_queue(name, KINDS[kind])
    signal.signal(signal.SIGUSR1, lambda *_: serve(name, queue))
    sender = send(signal.SIGUSR1)
    assert call_that_fits(name, queue) == expected_of(name)
    assert time.monotonic() - sender.result() < LATE
    assert drained(queue) == ([7] if name in PUTS else [1] if name == "join" else [])
    queue._check()


@each_timed_call
@forked
def test_a_handler_may_shut_the_queue_down(name):
    queue = stuck_queue(name)
    signal.signal(signal.SIGTERM, lambda *_: queue.shutdown())
    send(signal.SIGTERM)
    assert outcome(CALLS[name], queue) == (ShutDown, ())


@each_call
@forked
def test_a_handler_may_ask_for_the_inside_of_a_queue_that_is_waited_on(name):
    """The wait goes on by the standard algorithm."""
    queue, sizes = stuck_queue(name), []
    signal.signal(signal.SIGUSR1, lambda *_: sizes.append(len(queue.queue)))

    def disturb_and_serve():
        send(signal.SIGUSR1).result()
        wait_until(lambda: sizes, "the handler")
        wait_parked(threading.main_thread())
        serve(name, queue)

    server = Task(disturb_and_serve)
    assert call_that_fits(name, queue) == expected_of(name)
    server.result()
    assert sizes == [name not in GETS]


@pytest.mark.parametrize("handler", [False, True], ids=["a hook", "a signal handler amid a hook"])
def test_a_call_amid_an_operation_of_the_same_thread_on_a_classic_queue_is_an_error(handler):
    """The standard library deadlocks."""

    class Odd(Queue):
        def _put(self, item):
            if item == 1:
                signal.raise_signal(signal.SIGUSR1) if handler else self.qsize()
            super()._put(item)

    def check():
        queue = Odd()
        signal.signal(signal.SIGUSR1, lambda *_: queue.put(2))
        with pytest.raises(RuntimeError, match="amid an operation of this very queue"):
            queue.put(1)
        queue.put(3)
        assert drained(queue) == [3]

    in_fork(check)


@forked
def test_a_handler_may_wait_on_the_same_queue():
    queue, entered, handled = Queue(1), [], []

    def handler(*_):
        entered.append(1)
        handled.append(queue.get())

    signal.signal(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)

    def feed():
        wait_until(lambda: entered, "the handler to begin")
        wait_parked(threading.main_thread())
        queue.put(1)
        wait_until(lambda: handled, "the handler")
        queue.put(2)

    feeder = Task(feed)
    assert queue.get() == 2
    assert handled == [1]
    feeder.result()
    queue._check()


@each_algorithm
@pytest.mark.parametrize("name", sorted(GETS))
@forked
def test_an_item_that_comes_behind_a_signal_is_left_to_the_next_get(name, kind):
    """A handler that raises ends the get before it has taken anything, as with the standard one."""
    queue = stuck_queue(name, kind)
    for _ in stop_then_serve(lambda: CALLS[name](queue), lambda _: serve(name, queue)):
        assert drained(queue) == [5]
        queue._check()


@each_algorithm
@each_put
@forked
def test_a_put_that_was_interrupted_before_there_was_room_has_put_nothing(name, kind):
    queue = stuck_queue(name, kind)
    for _ in stop_then_serve(lambda: CALLS[name](queue), lambda _: serve(name, queue)):
        assert drained(queue) == []
        queue._check()
        queue.put(1)


@pytest.mark.parametrize("kind", ["plain", "lifo", "priority"])  # amid the standard algorithm it would wait for itself
@forked
def test_a_handler_may_use_the_queue_that_the_main_thread_is_using(kind):
    queue, from_handler, numbers, taken, number = KINDS[kind](), [], itertools.count(), [], 0

    def handler(*_):  # which may be interrupted by itself
        number = next(numbers)
        queue.put(("handler", number))
        assert queue.put_many([]) == 0
        assert queue.qsize() >= 0
        from_handler.append(number)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-4)
    while len(from_handler) < 500:
        queue.put(("main", number))
        queue.put_many([("main", number + 1), ("main", number + 2)])
        number += 3
        taken.append(queue.get())
        taken += queue.get_many(2)
    signal.setitimer(signal.ITIMER_REAL, 0)
    taken += drained(queue)
    queue._check()
    of_main = [item for origin, item in taken if origin == "main"]
    assert (of_main if KINDS[kind] is Queue else sorted(of_main)) == list(range(number))
    assert sorted(item for origin, item in taken if origin == "handler") == sorted(from_handler)
    assert queue.unfinished_tasks == len(taken)


# Forks ----------------------------------------------------------------------------------------------------------------


def use_everything(queue):
    """What a child may do with a queue of maxsize 1 on which its parent's threads wait."""
    with contextlib.suppress(Empty):
        queue.get_many(timeout=0)
    for _ in range(queue.unfinished_tasks):
        queue.task_done()
    queue.join()
    queue.put(1)
    assert queue.full()
    for name in PUTS:
        assert_times_out(name, queue, timeout=0.01)
    assert queue.get() == 1
    for name in GETS:
        assert_times_out(name, queue, timeout=0.01)
    getter = parked(queue.get)
    queue.put(2)
    assert getter.result() == 2
    assert queue.put_many([3]) == 1
    putter = parked(queue.put, 4)
    assert queue.get() == 3
    putter.result()
    joiner = parked(queue.join)
    queue.clear()
    for _ in range(queue.unfinished_tasks):
        queue.task_done()
    joiner.result()
    queue._check()
    assert list(queue.queue) == []
    queue.put(5)
    waiter = parked(queue.put, 6)
    queue.shutdown()
    assert outcome(waiter.result) == (ShutDown, ())
    assert drained(queue) == [5]


@thorough(but=("*plain*",))
@each_kind
@each_call
def test_a_child_can_use_a_queue_on_which_its_parents_threads_wait(name, kind):
    queue = stuck_queue(name, kind)
    waiters = [parked(CALLS[name], queue) for _ in range(3)]
    in_fork(lambda: use_everything(queue))
    assert all(waiter.is_alive() for waiter in waiters)
    if name in PUTS:
        taken = [queue.get(timeout=LATE) for _ in range(4 if name == "put" else 7)]
        assert sorted(taken) == ([1, 7, 7, 7] if name == "put" else [1, 7, 7, 7, 8, 8, 8])
    else:
        for _ in waiters:
            serve(name, queue)
            if name == "join":
                break
    for waiter in waiters:
        waiter.result()
    queue._check()


@pytest.mark.parametrize("name", ["mutex", "not_empty", "not_full", "all_tasks_done"])
def test_a_child_can_use_a_queue_whose_mutex_its_parents_threads_hold(name):
    queue, held, over = Queue(1), threading.Event(), threading.Event()

    def hold():
        with getattr(queue, name):
            held.set()
            over.wait()

    holder = Task(hold)
    held.wait()
    waiters = [parked(queue.put, 1), parked(queue.qsize)]
    in_fork(lambda: use_everything(queue))
    over.set()
    for task in (holder, *waiters):
        task.result()
    assert drained(queue) == [1]


@pytest.mark.parametrize("held", [False, True], ids=["free", "held by the parent"])
def test_one_thread_of_the_child_gets_the_mutex(held):
    """Whichever of them makes it anew, since a thread of the parent's may have it."""
    queue, over = Queue(), threading.Event()
    with queue.mutex:
        pass  # it is converted

    def hold():
        with queue.mutex:
            over.wait()

    def check():
        begin, end = threading.Barrier(4), threading.Barrier(4)

        def take():
            begin.wait()
            taken = queue.mutex.acquire(False)
            end.wait()
            return taken

        tasks = [Task(take) for _ in range(4)]
        assert sum(task.result() for task in tasks) == 1

    holder = parked(hold) if held else None
    for _ in range(20 * REPEATS):
        in_fork(check)
    over.set()
    if held:
        holder.result()


@each_algorithm
def test_a_child_of_a_child_can_use_the_queue(kind):
    queue = kind(1)
    waiter = parked(queue.get)

    def check():
        own_waiter = parked(queue.get)
        in_fork(lambda: use_everything(queue))
        queue.put(1)
        assert own_waiter.result() == 1

    in_fork(check)
    queue.put(2)
    assert waiter.result() == 2


@each_kind
def test_a_queue_at_rest_keeps_its_items_and_tasks_in_the_child(kind):
    queue = queue_with(kind, 1, 2, 3, maxsize=5)
    queue.get()
    queue.task_done()

    def check():
        assert (queue.qsize(), queue.unfinished_tasks, queue.maxsize) == (2, 2, 5)
        assert queue.put_many([4, 5, 6]) == 3
        assert outcome(queue.put_nowait, 7) == (Full, ())
        assert len(queue.get_many()) == 5

    in_fork(check)
    assert (queue.qsize(), queue.unfinished_tasks) == (2, 2)


def test_a_queue_that_is_shut_down_is_shut_down_in_the_child():
    queue = queue_with(Queue, 1)
    queue.shutdown()
    in_fork(lambda: outcome(queue.put, 1) == (ShutDown, ()) or pytest.fail("it is open"))
    assert drained(queue) == [1]


def test_queues_made_in_the_child():
    in_fork(lambda: use_everything(Queue(1)))


def test_the_thread_that_forks_is_the_childs_main_thread_for_signals():
    queue = Queue(1)
    Task(in_fork, lambda: assert_interrupted(queue.get)).result()


def fork_in_a_handler(use=lambda: None):
    """At each SIGUSR1, into the list that it gives; `use` runs in the child's handler."""
    children = []

    def fork(*_):
        children.append(os.fork())
        if children[0] == 0:
            signal.alarm(int(WATCHDOG))
            use()

    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork while other threads run
    signal.signal(signal.SIGUSR1, fork)
    return children


def end_of_child(children):
    """In the parent: the child must have ended well."""
    if children[0]:
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


each_use = pytest.mark.parametrize("used", [False, True], ids=["left alone", "used in the handler"])


@thorough(but=("left alone-get-plain",))
@each_algorithm
@each_timed_call
@each_use
@forked
def test_a_wait_whose_signal_handler_forks_goes_on_in_both_processes(name, kind, used):
    queue = stuck_queue(name, kind)
    children = fork_in_a_handler(queue.qsize if used else lambda: None)
    send(signal.SIGUSR1)
    while not children:  # the signal comes once this thread has been seen to wait
        assert_times_out(name, queue, timeout=SEEN)
    assert drained(queue) == ([1] if name in PUTS else [])
    queue.put(1)
    assert queue.get() == 1
    queue._check()
    end_of_child(children)


@thorough(but=("*-plain",))
@each_told_kind
@each_call
@each_use
@forked
def test_a_wait_whose_signal_handler_forks_is_served_in_both_processes(name, kind, used):
    """In the child by a thread of its own."""
    queue = stuck_queue(name, KINDS[kind])

    def serve_soon():
        wait_parked(threading.main_thread())
        serve(name, queue)

    def use():
        if used:
            queue.qsize()
        Task(serve_soon)

    children = fork_in_a_handler(use)
    Task(lambda: (wait_until(lambda: children, "the fork"), serve_soon()))
    send(signal.SIGUSR1)  # at last: while a thread is being started, this one waits, too
    assert call_that_fits(name, queue) == expected_of(name)
    assert drained(queue) == ([7] if name in PUTS else [1] if name == "join" else [])
    queue._check()
    end_of_child(children)


@thorough(but=("*-get*",))
@pytest.mark.parametrize("kind", ["converted", "hooked", "lifo", "priority"])
@pytest.mark.parametrize("waits_for", ["an item", "the mutex"])
@each_use
@forked
def test_a_wait_whose_signal_handler_forks_does_not_hang_at_the_parents_mutex(kind, waits_for, used):
    """Another thread holds it at the fork, which is not there in the child."""
    queue, held = KINDS[kind](), threading.Event()
    children = fork_in_a_handler(functools.partial(queue.put, 5) if used else lambda: None)

    def hold_and_interrupt():
        if waits_for == "an item":
            wait_parked(threading.main_thread())
        with queue.mutex:
            held.set()
            send(signal.SIGUSR1).result()
            wait_until(lambda: children, "the fork")

    interrupter = Task(hold_and_interrupt)
    if waits_for == "an item":
        got = outcome(functools.partial(queue.get, timeout=SEEN))
        while not children and interrupter.is_alive():  # which has yet to see this thread wait
            got = outcome(functools.partial(queue.get, timeout=SEEN))
        if not children:
            interrupter.result()  # why there is none
        assert got == (5 if used and children[0] == 0 else (Empty, ()))
    else:
        held.wait()
        queue.put(3)
        assert sorted(drained(queue)) == ([3, 5] if used and children[0] == 0 else [3])
    queue._check()
    end_of_child(children)


def test_a_child_can_use_a_queue_amid_one_of_whose_hooks_its_parents_thread_is():
    """Though a thread of the child may have the identity that the parent's had."""
    entered, over = threading.Event(), threading.Event()

    class Slow(Queue):
        def _put(self, item):
            entered.set()
            over.wait()
            super()._put(item)

    queue = Slow()
    putter = Task(queue.put, 1)
    entered.wait()
    in_fork(lambda: Task(queue.qsize).result() == 0 or pytest.fail("it holds something"))
    over.set()
    putter.result()
    assert drained(queue) == [1]


def fork_while_others_are_busy(kind=Queue):
    """Many forks at random moments of a queue's busy life; each child goes on with what was there."""
    queue = kind(64)
    keep_calling_everything(queue)
    for _ in range(30):
        in_fork(functools.partial(go_on, queue))


def go_on(queue):
    queue._check()
    size = queue.qsize()
    assert 0 <= size <= 64
    assert len(drained(queue)) == size
    assert queue.put_many(range(100), block=False) == 64
    assert queue.get_many() == list(range(64))
    getter = parked(queue.get)
    queue.put(1)
    assert getter.result() == 1
    queue.unfinished_tasks = 0
    queue.join()


def keep_calling_everything(queue):
    partial = functools.partial
    keep_calling(
        partial(queue.put, 1, timeout=1e-3),
        partial(queue.put_many, range(100), timeout=1e-4),
        partial(queue.get, timeout=1e-4),
        partial(queue.get_many, 64, min_count=32, timeout=1e-4),
        queue.get_nowait,
        queue.clear,
        queue.qsize,
    )


def fork_while_others_are_busy_by_the_standard_algorithm():
    fork_while_others_are_busy(converted)


def fork_while_others_convert():
    """Many forks, each while threads make a plain queue into another."""
    for _ in range(10):
        queue = queue_with(Queue, 1, maxsize=1)
        crowd = [threading.Thread(target=target, args=(queue,)) for target in (look_inside, look_inside, get_and_put)]
        for thread in crowd:
            thread.start()
        in_fork(functools.partial(use_everything, queue))
        for thread in crowd:
            thread.join(WATCHDOG)


def look_inside(queue):
    with queue.mutex:
        pass


def get_and_put(queue):
    for _ in range(10):
        queue.put(queue.get(timeout=LATE))


def fork_while_others_contend():
    """Very many forks beside far more threads than processors: at some of them the lock changes hands."""
    threads, forks = (4, 20) if WITH_GIL else (32, 300)  # with it, that is the lock, and each fork waits long for it
    queue = queue_with(Queue, *range(1000))
    keep_calling(*[functools.partial(pass_on, queue)] * threads)
    for _ in range(forks):
        in_fork(functools.partial(check_and_put, queue))


def pass_on(queue):
    queue.put(queue.get_nowait())


def check_and_put(queue):
    queue._check()
    queue.put(1)


def fork_while_others_look():
    """Many forks while threads ask a queue for its size."""
    queue = queue_with(Queue, *range(100))
    keep_calling(queue.qsize, queue.full, functools.partial(pass_on, queue), functools.partial(sys.getsizeof, queue))
    for _ in range(30):
        in_fork(queue._check)


FORKING = [
    fork_while_others_are_busy,
    fork_while_others_are_busy_by_the_standard_algorithm,
    fork_while_others_convert,
    fork_while_others_contend,
    fork_while_others_look,
]


@thorough(but=("fork_while_others_are_busy",))
@pytest.mark.parametrize("scenario", FORKING, ids=lambda scenario: scenario.__name__)
def test_forks_never_hang(scenario):
    run_python(f"from test_queue_signals_fork import {scenario.__name__}; {scenario.__name__}()", timeout=6 * WATCHDOG)


# The interpreter's exit -----------------------------------------------------------------------------------------------


def leave_threads_waiting():
    """A main program that ends while daemon threads wait in every call."""
    sys.setswitchinterval(1e-3)  # so that `wait_parked` sees it soon
    for kind in KINDS.values():
        for name in CALLS:
            threading.Thread(target=CALLS[name], args=(stuck_queue(name, kind),), daemon=True).start()
            if name != "join":
                how = {"timeout": 60}
                threading.Thread(target=CALLS[name], args=(stuck_queue(name, kind),), kwargs=how, daemon=True).start()
        threading.Thread(target=kind().get_many, kwargs={"min_count": 10}, daemon=True).start()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            wait_parked(thread)


def leave_threads_waiting_on_one():
    """The same on one queue that others hold, too, and that is used at the very end."""
    queue = Queue(1)
    for _ in range(3):
        parked(queue.get)
    parked(queue.get_many, timeout=60)
    use_at_the_very_end(queue)


def leave_threads_busy():
    """The same with threads that come back to Python all the time."""
    queue = Queue(64)
    keep_calling_everything(queue)
    use_at_the_very_end(queue)
    time.sleep(0.05)  # the threads' life, not a wait for something


def leave_threads_waiting_for_the_lock():
    """The same with threads that wait for the lock of the slots when the end comes: it is long held for large batches.

    Without a GIL it is then handed to one that will never run again.
    """
    queue, batch, all_there = Queue(300_000), (None,) * 300_000, threading.Event()

    def keep_waiting():
        all_there.wait()
        queue.qsize()

    keep_calling(partial(queue.put_many, batch, block=False), *[keep_waiting] * 3)
    keep_calling(partial(queue.get_many, timeout=60))
    use_at_the_very_end(queue)
    all_there.set()
    time.sleep(0.05)  # the threads' life, not a wait for something


def use_at_the_very_end(queue):
    class Last:
        def __del__(self):
            for call in (lambda: queue.put(1, timeout=0.01), queue.get_nowait, queue.clear, queue.qsize):
                with contextlib.suppress(Full, Empty):
                    call()

    builtins.last = Last()


def leave_an_executor_like_pool():
    """Workers that wait for work when the program ends, and that are told so by what `threading` calls at its end."""
    queue = Queue()

    def work():
        while queue.get() is not None:
            pass

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    threading._register_atexit(lambda: queue.put_many([None] * 3))


def leave_a_thread_amid_a_hook():
    """A main program whose end cancels a coroutine that waits on a queue whose mutex a daemon thread holds."""
    amid = threading.Event()

    class Stuck(Queue):
        def _put(self, item):
            if not amid.is_set():
                amid.set()
                threading.Event().wait()
            super()._put(item)

    queue, loop = Stuck(), asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.run_until_complete(asyncio.sleep(0))
    threading.Thread(target=queue.put, args=(1,), daemon=True).start()
    amid.wait()
    use_at_the_very_end(queue)
    builtins.left = loop, task


def wait_at_the_very_end():
    """A main program whose end waits for what nobody can bring any more."""
    calls = [partial(CALLS[name], stuck_queue(name, kind)) for kind in KINDS.values() for name in CALLS]
    error, write = getattr(builtins, "PythonFinalizationError", RuntimeError), os.write

    class Last:
        def __del__(self):
            assert sys.is_finalizing()
            for call in calls:
                try:
                    call()
                except error as told:
                    write(1, b"." if "no thread will bring" in str(told) else b"?")

    print(len(calls), flush=True)
    builtins.last = Last()


LEAVING = [
    leave_threads_waiting,
    leave_threads_waiting_on_one,
    not_where_detaching_may_crash(leave_threads_busy),
    leave_threads_waiting_for_the_lock,
    leave_a_thread_amid_a_hook,
    leave_an_executor_like_pool,
]


@thorough(but=("leave_threads_waiting", "leave_threads_busy"))
@pytest.mark.parametrize("scenario", LEAVING, ids=lambda scenario: scenario.__name__)
def test_the_interpreter_ends_beside_threads(scenario):
    name = scenario.__name__
    code = f"from helpers import end_in_children; from test_queue_signals_fork import {name}; end_in_children({name})"
    run_python(code, timeout=LONG_WATCHDOG)


def test_a_wait_for_ever_at_the_very_end_is_an_error():
    out = run_python("from test_queue_signals_fork import wait_at_the_very_end; wait_at_the_very_end()")
    count, done = out.split()
    assert done == "." * int(count)


def test_a_child_can_ask_for_the_inside_of_a_queue_whose_mutex_its_parents_threads_hold():
    queue, held, over = queue_with(Queue, 1, 2), threading.Event(), threading.Event()

    def hold():
        with queue.mutex:
            held.set()
            over.wait()

    holder = Task(hold)
    held.wait()

    def check():
        with queue.mutex:
            assert list(queue.queue) == [1, 2]
            putter = parked(queue.put, 3)  # it has the same lock
        putter.result()

    in_fork(check)
    over.set()
    holder.result()
