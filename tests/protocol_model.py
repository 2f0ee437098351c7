"""A model of the lock-and-wait protocol (`f1buf/_sync.pyx`, as `f1buf/_ring.pyx` uses it), explored completely.

`explore` walks through every interleaving of a scenario: a handful of threads, each with a short program of puts, gets
and shutdowns, on a ring of one or two records. Every reachable state is checked; the first violation is returned
with the shortest trace that leads to it. `python tests/protocol_model.py` explores the scenarios, and
`python tests/protocol_model.py mutations` shows for each mutation (the protocol with one piece switched off) the trace
by which it fails. Names are those of the code: LOOK, SPIN, ENTER, PARK, RETURN, ACT, TURN and END, SETTLE, WAKE.


One step
--------
is what a thread does while it holds the lock, or one thing that it does without it:

    LOOK        lock; unhold; may I act? Yes: ACT or TURN. No: SPIN (unlock, and LOOK later) or ENTER; unlock (SETTLE)
    PARK        fall asleep; with a token already there, that is no sleep
    DEADLINE    `park` gives up because the deadline has come: at any moment of a sleep
    TICK        `park` of the main thread gives up to look for signals: at any moment of a sleep
    RETURN      lock; leave the list or give the promise back; LOOK, and so on; unlock (SETTLE). Where `park` gave up
                but the waiter has been granted: only unlock, and wait for the token
    HANDLERS    signal handlers have run; one raised: the operation ends (otherwise the next step is LOOK)
    COPY        a copy under a turn, without the lock
    END         lock; give the turn back, publish or take; unlock (SETTLE)
    WAKE        deliver one token. What a SETTLE granted is woken one by one, before anything else the thread does
    NO MEMORY   the thread that was away to allocate failed (`end_wait`); or LOOK, but there is no memory for a node
    SHUTDOWN    lock; shut, discard where immediate; unlock (SETTLE)

What a state holds
------------------
Of the ring: the shutdown, the count, the sequence numbers, the slots with the records in them, the counters of
`stats`. Of each side: turn, list of waiters, tickets, promised, granted. Of each thread: where it is, how far its
operation got, `expired`, `spun`, `held`; its node's `granted` and token; the slots it copies; the wake-ups that it
still has to deliver. So a wake-up may be on its way for as long as one likes, and likewise everything that happens
between two sections under the lock. Some of it are ghosts, which the code does not have and no step looks at:
`accepted`, `taken`, `passed` and `drained`, for the checks.

What is left out, and why that loses nothing
--------------------------------------------
* What happens within a locked section is one step: all it reads and writes is written under that lock only. The
  exceptions are tokens, and what spinners read. A token is touched under the lock by nobody. Whatever a spinner
  saw, the next thing it does is to lock and LOOK again; so what it saw is not modelled, only that it was away.
* Time is not measured: a deadline or a tick may come at any moment of a sleep, early or never. After a RETURN the
  deadline may have come or not, whatever ended the sleep. A thread that does not sleep does not look at the clock.
* To take the token and to RETURN is one step: between the two the sleeper touches nothing, and cannot give up.
* Which slots a turn copies is noted when it is taken, and no two such ranges, nor a locked copy and a range, may
  overlap in any state. So a COPY may be one step, in spite of its many bytes.
* The fast paths (`try_put`, `try_get`) are a LOOK that acts at once, or change nothing: they are LOOKs here.
* Tickets are kept as the order of their holders, since nothing but their order is looked at.
* An operation's node is freed with its last locked section, earlier than in truth: that hides no use after it.
* The GIL, forks, memory order (all shared data is under the lock; TSan looks after the rest) and event loops. A
  thread that holds the GIL never waits for the lock, nor for the GIL while it holds the lock; so the GIL is one more
  reason for a thread to be slow, as any thread here may be.

What is checked
---------------
In every state: I1, I2, I3 (each section that ends has put things in order, so they hold in all of them, not only
after a SETTLE); R1, R3 of `_ring`; a side's turn has exactly one owner; the range a turn reads and the one the other
writes do not overlap; promises balance: `promised` and `granted` are those of waiters that have not returned and of
holders; a wake-up on its way, or a token, belongs to a granted waiter that still waits for it, one each.

In the steps: each record is delivered at most once, each producer's in order, without a gap that is not counted as
dropped or discarded; nothing is written over a slot that is being read, nor read where one is being written; a get
or put that may wait ends neither before its need is met, nor before its deadline or the shutdown; no record enters
once a get was told that the ring is shut down and drained; nothing is promised twice.

Where only time could go on (all that is left are deadlines and ticks): every thread is done or sleeps, granted by
nobody, and may indeed not act. So a lost wake-up is found even where a timeout would have mended it.

At the end (all that is left are ticks): put = taken + dropped + discarded + left; nothing is left by an immediate
shutdown; and all threads are done, unless the scenario says that some sleep on. From every state such an end can be
reached (no livelock that cannot be left).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

OPEN, SHUT, SHUT_NOW = "open", "shut", "shut now"
BLOCK, DROP_OLDEST, DROP_NEWEST = "block", "drop_oldest", "drop_newest"
MANY = 9  # more than there ever is

# Where a thread is: what it does next, if no wake-up is left to be delivered.
LOOKS, ENTERED, ASLEEP, GAVE_UP, AWAITS_TOKEN = "looks", "entered", "asleep", "gave up", "awaits its token"
HANDLES, ALLOCATES, COPIES, COPIED, DONE = "runs handlers", "allocates", "copies", "copied", "done"
WAITING = (ENTERED, ASLEEP, GAVE_UP, AWAITS_TOKEN)  # its node is in the list or granted


class Violation(Exception):  # noqa: N818
    """Something that must hold does not."""


def insist(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


# -- programs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """One operation of a thread's program."""

    kind: str  # "put", "get", "snapshot", "shutdown"
    n: int = 1  # records: put all of them, or take so many at most
    least: int = 1  # get: how many to wait for
    wait: str = "for ever"  # or "timed": until a deadline that may come at any moment; or "not": block=False
    locked: int = MANY  # the largest copy under the lock [records]; a larger one takes a turn
    piece: int = MANY  # put: the largest piece [records]
    room: int = MANY  # get: what was allocated before it knew how many there are [records]
    immediate: bool = False  # shutdown


def put(n: int = 1, **how: Any) -> Op:
    return Op("put", n, **how)


def get(least: int = 1, most: int | None = None, **how: Any) -> Op:
    return Op("get", least if most is None else most, least, **how)


def snapshot(most: int = MANY, **how: Any) -> Op:
    return Op("snapshot", most, 0, "not", **how)


def shutdown(immediate: bool = False) -> Op:
    return Op("shutdown", immediate=immediate)


@dataclass(frozen=True)
class Scenario:
    """Threads that use one ring. Those named M... look for signals; P puts, C gets."""

    name: str
    capacity: int
    threads: dict[str, tuple[Op, ...]]
    overflow: str = BLOCK
    spins: bool = False  # who may not act spins once, before it enters the list
    memory: bool = True  # False: it may run out at any allocation
    all_end: bool = True  # False: some may sleep for ever, rightly


def scenario(name: str, capacity: int, *, overflow: str = BLOCK, spins: bool = False, memory: bool = True,
             all_end: bool = True, **threads: Op | tuple[Op, ...]) -> Scenario:
    programs = {who: ops if isinstance(ops, tuple) else (ops,) for who, ops in threads.items()}
    return Scenario(name, capacity, programs, overflow, spins, memory, all_end)
