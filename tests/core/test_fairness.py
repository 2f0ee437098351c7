"""Fairness: waiters are woken first come, first served; of equal ones none is served more than twice as often.

The first is shown waiter by waiter. The second is about ten seconds of an idle machine, on which running threads may
overtake those that wait: F1BUF_STRESS=10 runs it.
"""

import contextlib
import threading
import time

import pytest
from helpers import FULL, Crowd, Task, wait_parked, wait_until
from implementations import each_implementation

from f1buf import ShutDown

WAITERS = 50
SECONDS = 10.0
each_side = pytest.mark.parametrize("side", ["gets", "puts"])
# The twin wakes everybody and lets them race; whom a shared ring serves first is the kernel's choice.
each_fair = each_implementation(lambda one: one.name != "twin" and not one.name.startswith("shared"))


def calls(buffer, side):
    """What waits, and what lets one that waits go on."""
    put = lambda: buffer.put(1)  # noqa: E731
    return (buffer.get, put) if side == "gets" else (put, buffer.get)


@each_fair
@each_side
def test_a_thread_that_comes_back_is_served_behind_those_that_wait(implementation, side):
    buffer, served = implementation.make(1), []
    wait, serve = calls(buffer, side)
    if side == "puts":
        buffer.put(1)

    def keep_waiting(index):
        with contextlib.suppress(ShutDown):
            while True:
                wait()
                served.append(index)

    tasks = []
    for index in range(6):
        tasks.append(Task(keep_waiting, index))
        wait_parked(tasks[-1])
    for number in range(3 * len(tasks)):
        serve()
        wait_until(lambda number=number: len(served) > number, "the next one")
        wait_parked(tasks[served[-1]])
    assert served == 3 * [*range(len(tasks))]
    buffer.shutdown(immediate=True)
    for task in tasks:
        task.result()


def keep_calling(call, served, index, stop):
    with contextlib.suppress(ShutDown):
        while not stop.is_set():
            call()
            served[index] += 1


@pytest.mark.skipif(not FULL, reason="takes ten seconds each of an idle machine: F1BUF_STRESS=10")
@each_fair
@each_side
def test_equal_waiters_are_served_equally_often(implementation, side):
    buffer, stop, waiters, others = implementation.make(2), threading.Event(), Crowd(), Crowd()
    served, unused = [0] * WAITERS, [0] * 2
    wait, serve = calls(buffer, side)
    for index in range(WAITERS):
        waiters.start(keep_calling, wait, served, index, stop)
    for index in range(len(unused)):
        others.start(keep_calling, serve, unused, index, stop)
    time.sleep(SECONDS)  # the length of the run
    stop.set()
    buffer.shutdown(immediate=True)
    others.join()
    waiters.join()
    print(f"{implementation.name}, {side}: {min(served)} to {max(served)} of {sum(served)} each in {SECONDS} s")
    assert min(served) >= 20, "too few to tell"
    assert max(served) <= 2 * min(served)
