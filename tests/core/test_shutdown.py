"""Shutdown, of every implementation: all waiters are woken, later calls are refused; what is left.

The standard behaviour is that of Python 3.13's `queue`: after a shutdown puts raise ShutDown, gets do so once it is
drained; an immediate one leaves nothing, and the tasks of what it removed are done.
"""

import collections
import contextlib
import threading

import pytest
from helpers import STRESS_SECONDS, Crowd, Task, parked, wait_parked
from implementations import each_implementation

from f1buf import ShutDown

each_way = pytest.mark.parametrize("immediate", [False, True], ids=["graceful", "immediate"])
each_crowd = pytest.mark.parametrize("waiters", [1, 50], ids=["1 waiter", "50 waiters"])
each_queue = each_implementation(lambda one: one.is_queue)
ROUNDS = int(400 * STRESS_SECONDS)  # of a race


def outcome(call, *args, **how):
    try:
        return call(*args, **how)
    except ShutDown:
        return ShutDown


def all_parked(call, n):
    """Call it in n threads that wait; soon seen where threads are switched often (`hurried`)."""
    tasks = [Task(outcome, call) for _ in range(n)]
    for task in tasks:
        wait_parked(task)
    return tasks


def results(tasks):
    return collections.Counter(map(str, (task.result() for task in tasks)))


SHUT = str(ShutDown)


def only(counts):
    return {result: n for result, n in counts.items() if n}


@each_way
@each_crowd
@each_implementation()
def test_gets_that_wait_are_woken(implementation, immediate, waiters, hurried):
    buffer = implementation.make(60)
    tasks = all_parked(buffer.get, waiters)
    buffer.shutdown(immediate)
    assert results(tasks) == {SHUT: waiters}
    buffer.check()


@each_way
@each_crowd
@each_implementation()
def test_a_get_that_waits_for_more_items_than_come_gets_those_there_are(implementation, immediate, waiters, hurried):
    """Three are left: one of the gets that wait for five takes them, unless they are discarded."""
    buffer = implementation.make(60)
    tasks = all_parked(lambda: sorted(buffer.get_many(min_count=5)), waiters)
    assert buffer.put_many([1, 2, 3]) == 3
    buffer.shutdown(immediate)
    assert results(tasks) == only({SHUT: waiters} if immediate else {"[1, 2, 3]": 1, SHUT: waiters - 1})
    assert buffer.qsize() == 0
    buffer.check()


@each_way
@each_crowd
@each_implementation()
def test_puts_that_wait_are_woken_and_keep_their_items(implementation, immediate, waiters, hurried):
    buffer = implementation.make(2)
    buffer.put_many([1, 2])
    tasks = all_parked(lambda: buffer.put(9), waiters)
    buffer.shutdown(immediate)
    assert results(tasks) == {SHUT: waiters}
    assert buffer.qsize() == (0 if immediate else 2)
    if not immediate:
        assert sorted(buffer.get_many()) == [1, 2]
    assert outcome(buffer.get) is ShutDown
    buffer.check()


@each_way
@each_crowd
@each_implementation()
def test_a_batch_that_waits_for_room_says_how_much_of_it_went_in(implementation, immediate, waiters, hurried):
    buffer = implementation.make(2)
    # Two of the first go in: it waits before the others begin, as a converted queue puts a batch item by item.
    tasks = [task for number in (1, waiters - 1) for task in all_parked(lambda: buffer.put_many([1, 2, 3, 4]), number)]
    buffer.shutdown(immediate)
    assert results(tasks) == only({"2": 1, SHUT: waiters - 1})
    assert buffer.qsize() == (0 if immediate else 2)
    buffer.check()


@each_way
@each_crowd
@each_queue
def test_joins_are_woken_where_nothing_is_left_to_do(implementation, immediate, waiters, hurried):
    """A graceful shutdown leaves the tasks to their consumers; an immediate one does those that it removes."""
    queue = implementation.make(60).queue
    queue.put_many([1, 2, 3])
    tasks = all_parked(queue.join, waiters)
    queue.shutdown(immediate)
    if not immediate:
        for task in tasks:
            wait_parked(task)
        for _ in range(3):
            queue.get()
            queue.task_done()
    assert results(tasks) == {"None": waiters}
    assert queue.unfinished_tasks == 0


@each_way
@each_implementation()
def test_calls_after_a_shutdown(implementation, immediate):
    buffer = implementation.make(3)
    buffer.put_many([1, 2, 3])
    buffer.shutdown(immediate)
    for put in (lambda: buffer.put(4), lambda: buffer.put(4, block=False), lambda: buffer.put_many([4, 5])):
        assert outcome(put) is ShutDown
    assert buffer.qsize() == (0 if immediate else 3)
    left = [buffer.get(), *buffer.get_many(min_count=3)] if not immediate else []
    assert sorted(left) == ([] if immediate else [1, 2, 3])
    for get in (buffer.get, lambda: buffer.get(block=False), lambda: buffer.get_many(min_count=2)):
        assert outcome(get) is ShutDown
    buffer.shutdown()  # once more changes nothing
    assert outcome(buffer.get) is ShutDown
    buffer.check()


@each_implementation()
def test_a_graceful_shutdown_may_become_an_immediate_one(implementation):
    buffer = implementation.make(3)
    buffer.put_many([1, 2, 3])
    buffer.shutdown()
    buffer.shutdown(immediate=True)
    assert buffer.qsize() == 0
    assert outcome(buffer.get) is ShutDown
    buffer.check()


# Races ----------------------------------------------------------------------------------------------------------------


@each_way
@each_implementation()
def test_a_shutdown_races_with_the_item_that_a_waiter_waits_for(implementation, immediate):
    """The item is got, or still there, or discarded, or was never accepted: one of these, and the waiter wakes up."""
    for _ in range(ROUNDS):
        buffer, together = implementation.make(1), threading.Barrier(2)
        waiter = Task(outcome, buffer.get)
        ender = Task(lambda: (together.wait(), buffer.shutdown(immediate)))  # noqa: B023
        together.wait()
        put = outcome(buffer.put, 7)
        ender.result()
        got = waiter.result()
        assert got in (7, ShutDown)
        if got == 7:
            assert put is None
        elif put is None and not immediate:
            assert buffer.get() == 7
        assert outcome(buffer.get) is ShutDown
        buffer.check()


@each_way
@each_implementation()
def test_a_shutdown_races_with_the_room_that_a_waiter_waits_for(implementation, immediate):
    for _ in range(ROUNDS):
        buffer, together = implementation.make(1), threading.Barrier(2)
        buffer.put(1)
        waiter = Task(outcome, buffer.put, 2)
        ender = Task(lambda: (together.wait(), buffer.shutdown(immediate)))  # noqa: B023
        together.wait()
        taken = [outcome(buffer.get)]
        ender.result()
        put = waiter.result()
        with contextlib.suppress(ShutDown):
            taken.append(buffer.get())
        taken = [item for item in taken if item is not ShutDown]
        assert taken in ([1, 2], [1]) if put is None or not immediate else taken in ([1], [])
        if not immediate:
            assert taken == ([1, 2] if put is None else [1])
        buffer.check()


@each_way
@each_queue
def test_a_shutdown_races_with_joins_and_tasks_done(implementation, immediate):
    """Joins end when all that was taken is done and nothing else is left, in whatever order that comes."""
    for _ in range(ROUNDS):
        queue, together, taken = implementation.make(8).queue, threading.Barrier(3), []
        queue.put_many(range(8))

        def work(queue=queue, together=together, taken=taken):
            together.wait()
            with contextlib.suppress(ShutDown):
                while True:
                    taken.append(queue.get())
                    queue.task_done()

        workers, joiner = [Task(work) for _ in range(2)], Task(queue.join)
        together.wait()
        queue.shutdown(immediate)
        for task in (*workers, joiner):
            task.result()
        assert queue.unfinished_tasks == queue.qsize() == 0
        assert sorted(taken) == list(range(8)) or immediate
        queue._check()


@each_queue
def test_tasks_done_from_many_threads_are_counted_each(implementation):
    """Exactly as many as there are tasks; each one too many is a ValueError, and joins end with the last."""
    queue, refused, crowd = implementation.make(0).queue, [], Crowd()
    queue.put_many(range(1000))
    joiner = parked(queue.join)

    def finish(n):
        for _ in range(n):
            try:
                queue.task_done()
            except ValueError as error:
                refused.append(error)

    for _ in range(4):
        crowd.start(finish, 300)
    crowd.join()
    joiner.result()
    assert len(refused) == 200
    assert queue.unfinished_tasks == 0
