"""Fairness: waiters are woken first come, first served; of equal ones none is served more than twice as often.

Running threads may overtake those that wait. A short run ends once each waiter could have been served so many times;
F1BUF_STRESS=10 runs each for the 10 seconds that the promise is about.
"""

import threading
import time

import pytest
from helpers import FULL, STRESS_SECONDS, WITH_GIL, Crowd, wait_until
from implementations import each_implementation

from f1buf import ShutDown

WAITERS = 50
SECONDS = 10.0 if FULL else 0.0  # at least
ROUNDS = max(50, int(100 * STRESS_SECONDS))  # times that each is served, on average, at least
TIMES = 2 if FULL else 5  # chance has more say in a short run


def serve(call, served, index, stop):
    try:
        while not stop.is_set():
            call()
            served[index] += 1
    except ShutDown:
        pass


# The twin wakes everybody and lets them race: it promises nothing of the kind. Of what has one algorithm, one a day.
EVERYDAY = ("ring of numbers", "plain queue", "converted queue")


@each_implementation(lambda one: one.name in EVERYDAY or (one.name != "twin" and FULL))
@pytest.mark.parametrize("side", ["gets", "puts"])
@pytest.mark.skipif(not (WITH_GIL or FULL), reason="without a GIL chance has more say: a second is too short")
def test_equal_waiters_are_served_equally_often(implementation, side):
    buffer, stop, waiters, others = implementation.make(2), threading.Event(), Crowd(), Crowd()
    served, unused = [0] * WAITERS, [0] * 2
    waited, other = (buffer.get, lambda: buffer.put(1)) if side == "gets" else (lambda: buffer.put(1), buffer.get)
    for index in range(WAITERS):
        waiters.start(serve, waited, served, index, stop)
    for index in range(len(unused)):
        others.start(serve, other, unused, index, stop)
    until = time.monotonic() + SECONDS
    wait_until(lambda: sum(served) >= ROUNDS * WAITERS and time.monotonic() >= until, "the waiters", every=1e-2)
    stop.set()
    buffer.shutdown(immediate=True)
    others.join()
    waiters.join()
    print(f"{implementation.name}, {side}: {min(served)} to {max(served)} of {sum(served)} each")
    assert max(served) <= TIMES * min(served)
