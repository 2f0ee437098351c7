"""A system clock that is stepped while rings and queues wait: no wait ends early, late or never for it.

libfaketime steps it, for a process of its own and only that clock: the monotonic one is left as it is.
"""

import contextlib
import glob
import os
import threading
import time
from pathlib import Path

import pytest
from helpers import CALLS, LATE, Task, run_python, stuck_ring
from test_queue import GETS, KINDS, PUTS, stuck_queue
from test_queue_signals_fork import serve

from f1buf import Empty, Full

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
TIMEOUT = 0.5  # [s]
HOUR = 3600.0  # [s]


def timed(call, buffer):
    """How long a call took to come back with nothing in its hand [s]."""
    began = time.monotonic()
    with contextlib.suppress(Empty, Full):
        assert len(call(buffer, timeout=TIMEOUT)) == 0  # of batches
    return time.monotonic() - began


def step(file, seconds):
    """Set the clock of the processes that run with this file; it must be whole at any time."""
    new = Path(f"{file}.new")
    new.write_text(f"{seconds:+.0f}\n")
    new.replace(file)


def wait_while_the_clock_is_stepped(seconds):
    """The whole of a test, in an interpreter that runs with libfaketime."""
    timers = {f"ring, {name}": Task(timed, call, stuck_ring(name)) for name, call in CALLS.items()}
    joins = []
    for kind in ("plain", "converted", "hooked", "lifo", "priority"):
        for name in sorted(PUTS | GETS):
            timers[f"{kind} queue, {name}"] = Task(timed, CALLS[name], stuck_queue(name, KINDS[kind]))
        queue = stuck_queue("join", KINDS[kind])
        joins.append((Task(queue.join), queue))
    offset, steps, enough = seconds, 0, threading.Event()
    while any(timer.is_alive() for timer in timers.values()) or steps < 4:
        offset, before = seconds - offset, (time.time(), time.monotonic())
        step(os.environ["FAKETIME_TIMESTAMP_FILE"], offset)
        stepped = time.time() - before[0]
        assert abs(stepped - (offset or -seconds)) < 60, "the clock was not stepped"
        assert 0 <= time.monotonic() - before[1] < 60, "the monotonic clock was stepped, too"
        steps += 1
        enough.wait(0.05)  # several steps while each waits; time.sleep does not work with libfaketime
    for name, timer in timers.items():
        assert TIMEOUT <= timer.result() < TIMEOUT + LATE, name
    for join, queue in joins:
        assert join.is_alive(), "a join has ended before the work was done"
        began = time.monotonic()
        serve("join", queue)
        join.result()
        assert time.monotonic() - began < LATE


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (Debian's package faketime)")
@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_clock_that_is_stepped_by_an_hour_and_back_changes_no_wait(tmp_path, monkeypatch, seconds):
    file = tmp_path / "faketimerc"
    step(file, seconds)
    monkeypatch.setenv("LD_PRELOAD", LIBRARIES[0])
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    run_python(f"import test_clock; test_clock.wait_while_the_clock_is_stepped({seconds})")
