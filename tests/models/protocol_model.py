"""A model of the lock-and-wait protocol (`f1buf/core/sync.pyx`, as `f1buf/ring/ring.pyx` uses it), explored completely.

`explore` goes through every interleaving of a scenario: a handful of threads, each with a short program of puts, gets
and shutdowns, on a ring of one or two records. It checks every state that can be reached; the first violation is
reported with the shortest trace that leads to it. `python tests/models/protocol_model.py` explores all scenarios;
`python tests/models/protocol_model.py mutations` switches off one piece of the protocol after the other, and prints the
trace by which each of these fails. The names are those of the code: LOOK, SPIN, ENTER, PARK, RETURN, ACT, TURN and
END, SETTLE, WAKE. `queue_model` does the same for `Queue`, from which this one's classes are made to differ.

That the code takes these steps and no others is looked at by `test_protocol_recorded`: a debug build writes down what
it does under the lock, and the model follows.

One step
--------
is all that a thread does from lock to unlock, or one thing that it does without the lock:

    LOOK        lock; take back what it held; may I act? Yes: ACT or TURN. No: SPIN (and LOOK later) or ENTER, or give
                up, where a block is out that it must not wait for (HELD). Unlock. Who reserves or peeks ACTs by taking
                its side's turn for a block. The main thread, where it has waited for records: yes, but first away to
                run signal handlers (HANDLES), and these records are promised to it meanwhile
    LEND        before a handler's LOOK: lock; give back what the operation that it interrupts was promised; unlock
    TRY         lock; take back what it held; take a few records at once, if it may; unlock. It never waits
    PARK        fall asleep; with the token already there, that is no sleep
    DEADLINE    `park` gives up, for the deadline has come: at any moment of a sleep
    TICK        `park` of the main thread gives up, for it is time to look for signals: at any moment of a sleep
    RETURN      lock; leave the list, or give the promise back; LOOK, and so on; unlock. Where `park` gave up, but the
                waiter has been granted meanwhile: nothing but to wait for the token. LATE: the deadline has come, so
                it acts on what is there. SIGNALS: it is time to look for signals, so it unlocks without a LOOK
    HANDLERS    a signal handler raised: the operation ends. (Where none did, the next step is LOOK)
    COPY        copy under a turn, without the lock
    END         lock; give the turn back; publish or take; unlock. Of a block, which is out for as long as its owner
                likes: ALL of its records enter or leave the ring, or FEWER, or NONE
    WAKE        deliver one token. Whoever a SETTLE granted is woken before the thread does anything else
    RING        the same to a coroutine: its node goes to the bell of its loop, which is told where there was none yet
    ANSWER      the loop sees all for whom its bell has rung: they may go on
    CANCEL      while a coroutine is suspended, at any moment: WITHDRAW
    WITHDRAW    lock; leave the list, or give the promise back; unlock
    LET GO      after that: free the node, or leave that to whoever is still to ring for it
    CLOSE       a loop ends for good: nobody answers any more, and all who wait there WITHDRAW
    NO MEMORY   there was none for what it went away to allocate, or (at its LOOK) for its node: the operation ends. Who
                puts more than one piece has a node from the first on
    SHUTDOWN    lock; shut, and discard where immediate; unlock
    FORK        what follows happens in the child: nobody is there but who forked, none is promised anything, no turn
                is taken; a copy that was cut in two tears the ring

Every unlock SETTLEs, except where nothing was changed.

A coroutine LOOKs and acts as a thread does; where it would sleep it is suspended, and RETURNs (or TRYs) once its loop
has answered. Those of one loop run one at a time, each up to where it is suspended or its operation ends.

What a state holds
------------------
Of the ring: the shutdown, the count, the sequence numbers, the slots with the records in them, and the counters. Of a
side: turn, list, tickets, `promised`, `granted`. Of a thread: where it is, how far its operation got, `expired`,
`spun`, `held`; its node's `granted` and token; the slots that it copies; the wake-ups that it has yet to deliver. So a
wake-up can be on its way for as long as it likes. Ghosts are what the code does not have and no step looks at:
`accepted`, `taken`, `passed`, `sent` and `drained` serve the checks alone.

What is left out, and why nothing is lost by it
-----------------------------------------------
* A locked section is one step. What it reads and writes is written under that lock only, but for tokens, which no
  section touches. Spinners read outside the lock, but whatever they see, they lock and LOOK next: so what they see
  is left out, and only that they were away is kept. (A spin in which nobody else takes a step is as good as none.)
* Time has no length. A deadline or tick comes at any moment of a sleep, or not at all; at a RETURN either may have
  come, whatever ended the sleep; and before any LOOK it may be time to look for signals.
* To take the token and to RETURN is one step: in between the sleeper touches nothing, and cannot give up any more.
* A COPY is one step in spite of its many bytes: in no state may the slots of two copies overlap.
* `try_put` either acts at once, as a LOOK here does, or is one more SETTLE. Whoever acts without having waited
  overtakes those who wait. How much a TRY takes may go by a count of before the lock: it is then as one that wants
  less.
* What a block's owner reads or writes, and when: its slots are read at the LOOK and once more at the END, or written at
  the END; in no state may they overlap with those of another. Where they end at the end of the slots is kept.
* That a thread asks for what a block of its own keeps from it (OWN): here each has one block at a time, and nothing
  else to do meanwhile. So no handler runs amid a block, nor does its owner fork there: a fork finds others' blocks.
* That a block's array outlives its `with`, or that another thread ends it: it is out for longer.
* Records have no size: each operation says from how many on its copy takes a turn. A put's pieces are as long as the
  room and the capacity allow.
* Tickets are kept as the order of their holders: nothing else about them is looked at.
* What a copy weighs, of which only so much may overtake: here each is one.
* A node is freed with its operation's last locked section, a little early: that hides no use after it.
* The GIL. Nobody waits for it under the lock: so to wait for it is one more way of being slow between two steps, and
  any thread here may be slow anywhere.
* What a signal handler does is what any other thread could do meanwhile, but that its own goes on only after it. So it
  is a program (H) that is run once, wherever the main thread HANDLES or, as the collector would, ALLOCATES.
* After a fork the parent is as if nothing had happened. In the child other threads may be started (K).
* Callers without the GIL: they wait as threads do, without ticks.
* A bell's mutex and its file: that a node is pushed and the loop told is one step, and so is that the loop takes what
  is there and reads its file; told between these two, it would look once more and find nothing.
* A WITHDRAW of who neither waits nor was promised anything, as at each end of a coroutine that has waited: like a TRY
  in vain it is one more SETTLE.
* Loops in the child of a fork. In which order a loop goes on with those that it has answered: here in any.
* Memory order: what is shared is under the lock (and ThreadSanitizer looks after that).

What is checked
---------------
In every state, since the lock is free in all of them: I1, I2, I3; R1 and R3 of `ring`. A turn has one owner; no slot
is written while it is being read. The promises balance: `promised` and `granted` are those of the waiters that have
not returned and of those who are away to allocate. A wake-up on its way, or a token, belongs to a granted waiter that
has yet to take it, one to each: never to a node that was freed or used again.

A coroutine's node is freed once, and neither while its bell is to ring for it, nor later than that. What fits the ring
a coroutine puts whole, or not at all.

Only who is out of time, drops, or would get nothing gives up before a reservation has ended; and such do not wait.

In the steps: records are delivered at most once, each producer's in order, without gaps but for what is counted as
dropped or discarded. A put or get ends neither before its need is met nor before its deadline or the shutdown. No
record is there or enters once a get was told that the ring is shut down and drained. Nothing is promised twice. What is
peeked at stays as it is.

Where nothing but time can go on (what is left are deadlines, ticks and ends of blocks): every thread is done, asleep or
has a block, and whoever is asleep is not granted and may indeed not act. So neither a timeout nor the end of a block
hides a lost wake-up.

At an end (what is left are ticks): put = taken + dropped + discarded + left; an immediate shutdown left nothing; all
threads are done, unless the scenario lets some sleep on. And from every state an end can be reached: no livelock.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

OPEN, SHUT, SHUT_NOW, TORN = "open", "shut", "shut now", "torn"
BLOCK, DROP_OLDEST, DROP_NEWEST = "block", "drop_oldest", "drop_newest"
FOR_EVER, TIMED, NOT = "for ever", "timed", "not"  # how long an operation waits
FREE, COPYING, RESERVED = 0, 1, 2  # states of a turn
MANY = 9  # more than there ever is
NONE = -1  # no node

# Where a thread is: what it does next, once it has no wake-up left to deliver.
LOOKS, ENTERED, ASLEEP, GAVE_UP, AWAITS_TOKEN = "looks", "entered", "asleep", "gave up", "awaits its token"
HANDLES, ALLOCATES, COPIES, COPIED, DONE = "runs handlers", "allocates", "copies", "copied", "done"
HAS_BLOCK = "has a block"
SUSPENDED, ANSWERED, WITHDRAWS, LETS_GO = "is suspended", "may go on", "withdraws", "lets go"  # of coroutines
QUEUED = (ENTERED, ASLEEP, GAVE_UP)
WAITS = (*QUEUED, AWAITS_TOKEN)
OWNS_TURN = (COPIES, COPIED, HAS_BLOCK)

# The steps, and the functions of `Protocol` that take them.
STEPS = {
    "LOOK": "acquire",
    "LOOK, SIGNALS": "see_to_signals",
    "LOOK, NO MEMORY": "acquire_without_memory",
    "LEND": "lend",
    "PARK": "fall_asleep",
    "DEADLINE": "give_up_late",
    "TICK": "give_up_due",
    "TRY": "try_once",
    "RETURN": "come_back",
    "RETURN, LATE": "come_back_late",
    "RETURN, SIGNALS": "come_back_due",
    "HANDLERS": "end_wait",
    "NO MEMORY": "end_wait",
    "COPY": "copy",
    "END": "end_turn",
    "END, ALL": "end_block",
    "END, FEWER": "end_block_with_fewer",
    "END, NONE": "end_block_with_none",
    "WAKE": "wake_next",
    "RING": "wake_next",
    "ANSWER": "answer",
    "CANCEL": "withdraw",
    "WITHDRAW": "withdraw",
    "LET GO": "let_go",
    "CLOSE": "close",
    "SHUTDOWN": "shutdown",
    "FORK": "fork",
}
TIME = ("DEADLINE", "TICK")  # those that need not come
ENDS_OF_BLOCKS = ("END, ALL", "END, FEWER", "END, NONE")
LEISURE = (*TIME, *ENDS_OF_BLOCKS, "CANCEL", "CLOSE")  # and those that come after any time


class Violation(Exception):  # noqa: N818
    """Something that must hold does not."""


def insist(holds: Any, what: str) -> None:
    if not holds:
        raise Violation(what)


# -- programs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """One operation of a thread's program."""

    kind: str  # "put", "get", "reserve", "peek", "snapshot", "shutdown" or "fork"
    n: int = 0  # records: put all of them, take that many at most, wait for so many slots
    least: int = 0  # get, peek: how many it waits for
    wait: str = FOR_EVER
    locked: int = MANY  # the largest copy under the lock [records]; a larger one takes a turn
    room: int = MANY  # get: what it allocates before it knows what is there [records]
    immediate: bool = False  # shutdown

    def __str__(self) -> str:
        words = [self.kind]
        if self.kind in ("get", "peek"):
            words.append(f"{self.least}" if self.least == self.n else f"{self.least}-{self.n}")
        elif self.kind in ("put", "reserve"):
            words.append(str(self.n))
        words += ["timed"] * (self.wait is TIMED) + ["nowait"] * (self.wait is NOT)
        words += [f"turn>{self.locked}"] * (self.locked < MANY) + [f"room {self.room}"] * (self.room < MANY)
        words += ["now"] * self.immediate
        return " ".join(words)


def put(n: int = 1, **how: Any) -> Op:
    return Op("put", n, **how)


def get(least: int = 1, most: int | None = None, **how: Any) -> Op:
    return Op("get", least if most is None else most, least, **how)


def reserve(n: int = 1, wait: str = FOR_EVER) -> Op:
    return Op("reserve", n, wait=wait)


def peek(least: int = 1, most: int | None = None, wait: str = FOR_EVER) -> Op:
    return Op("peek", least if most is None else most, least, wait=wait)


def snapshot(**how: Any) -> Op:
    return Op("snapshot", MANY, **how)


def shutdown(immediate: bool = False) -> Op:
    return Op("shutdown", immediate=immediate)


def fork() -> Op:
    return Op("fork")


@dataclass(frozen=True)
class Scenario:
    """Some threads that use one ring."""

    name: str
    capacity: int
    threads: dict[str, tuple[Op, ...]]
    overflow: str = BLOCK
    ticks: str = ""  # who is the main thread, which looks for signals
    handler: str = ""  # whose program is what a signal handler of that thread does, once
    children: tuple[str, ...] = ()  # who is started in the child of a fork
    loops: str = ""  # letters, each an event loop's: whoever's name begins with it is a coroutine there
    cancelled: str = ""  # which coroutines may be cancelled
    closed: str = ""  # which loops may be closed
    spins: bool = False  # whoever may not act spins once before it enters the list
    memory: bool = True  # False: any allocation may fail
    overtakes: int = 0  # after how many actions those who may wait let the woken come back first; 0: there is no limit
    all_end: bool = True  # False: some may sleep on for ever, and rightly
    model: Any = None  # of what; None: of a ring (`Protocol`)
    long: bool = False  # takes a minute or so

    def __str__(self) -> str:
        threads = [f"{who}: {', '.join(map(str, ops))}" for who, ops in self.threads.items()]
        settings = [f"capacity {self.capacity}"]
        settings += [self.overflow] * (self.overflow is not BLOCK) + [f"{self.ticks} ticks"] * bool(self.ticks)
        settings += [f"its handler: {self.handler}"] * bool(self.handler)
        settings += [f"in the child: {' '.join(self.children)}"] * bool(self.children)
        settings += [f"loops {self.loops}"] * bool(self.loops)
        settings += [f"{self.cancelled} may be cancelled"] * bool(self.cancelled)
        settings += [f"loop {self.closed} may be closed"] * bool(self.closed)
        settings += [f"{self.overtakes} may overtake"] * bool(self.overtakes)
        settings += ["spins"] * self.spins + ["memory fails"] * (not self.memory)
        return "; ".join([", ".join(settings), *threads])


def scenario(name: str, capacity: int, **settings: Any) -> Scenario:
    """A `Scenario`; every keyword in capitals is a thread's program, of one operation or several."""
    threads = {who: ops if isinstance(ops, tuple) else (ops,) for who, ops in settings.items() if who.isupper()}
    return Scenario(name, capacity, threads, **{key: it for key, it in settings.items() if not key.isupper()})


# -- the state --------------------------------------------------------------------------------------------------------


class Thread:
    """A thread, with its operation's wait, its node and its copy."""

    def __init__(
        self, name: str, index: int, program: tuple[Op, ...], scenario: Scenario, sides: dict[str, Side]
    ) -> None:
        self.name = name
        self.index = index
        self.program = program
        self.sides = sides  # by kind of operation
        self.ticks = name in (scenario.ticks, scenario.handler)
        self.amid: Thread | None = None  # of a handler: the thread that runs it
        self.loop: Loop | None = None  # of a coroutine
        self.side: Side  # that of its operation
        self.place = 0  # in its program
        self.sent = 0  # ghost: how many records it has put; thread and number name a record
        self.wakes: tuple[int, ...] = ()  # whom it granted and has yet to wake
        self.begin()

    def begin(self) -> None:
        """`start_wait` of the operation at `place`, if there is one."""
        self.op = self.program[self.place] if self.place < len(self.program) else None
        self.side = self.sides[self.op.kind] if self.op else None
        self.at = LOOKS if self.op else DONE
        self.expired = bool(self.op) and self.op.wait is NOT
        self.spun = False
        self.waited = False  # since it last could act: `began` of the code
        self.held = 0
        self.held_forks = 0  # how many forks lay behind its process when it was promised what is `held`
        self.wants = 0  # its node's need, of a Queue; a ring's follows from the rest (`node_need`)
        self.node = NONE  # or how many forks lay behind its process when it got it
        self.granted = False  # of the node
        self.token = False  # of the node's parker
        self.late = False  # the deadline has come, but RETURN has not seen it yet
        self.due = False  # the same of the time to look for signals
        self.done = 0  # put: records that are the caller's no more
        self.room = self.op.room if self.op else 0
        self.most = self.op.n if self.op else 0
        self.span: tuple[int, int] | None = None  # copied, or a block's: sequence number of the first record, how many
        self.piece = 0  # put: records that are the caller's no more once this copy has ended
        self.copied: tuple[Any, ...] = ()  # get under a turn, peek: the records read

    def vanish(self) -> None:
        """It is not there in the child of a fork."""
        self.place = len(self.program)
        self.wakes = ()
        self.begin()

    def freeze(self) -> tuple[Any, ...]:
        return (
            self.place,
            self.sent,
            self.wakes,
            self.at,
            self.expired,
            self.spun,
            self.waited,
            self.held,
            self.held_forks,
            self.wants,
            self.node,
            self.granted,
            self.token,
            self.late,
            self.due,
            self.done,
            self.room,
            self.most,
            self.span,
            self.piece,
            self.copied,
        )

    def thaw(self, state: tuple[Any, ...]) -> None:
        (
            self.place,
            self.sent,
            self.wakes,
            self.at,
            self.expired,
            self.spun,
            self.waited,
            self.held,
            self.held_forks,
            self.wants,
            self.node,
            self.granted,
            self.token,
            self.late,
            self.due,
            self.done,
            self.room,
            self.most,
            self.span,
            self.piece,
            self.copied,
        ) = state
        self.op = self.program[self.place] if self.place < len(self.program) else None
        self.side = self.sides[self.op.kind] if self.op else None


class Coroutine(Thread):
    """The same of a coroutine, which its loop runs."""

    def begin(self) -> None:
        super().begin()
        self.ticks = False  # its loop sees to signals
        self.rung = False  # of the node: the loop has seen that its bell rang, or it is dead and will not look
        self.expected = False  # while it lets go of the node: by who granted it, who is still to ring

    def freeze(self) -> tuple[Any, ...]:
        return (self.rung, self.expected, super().freeze())

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.rung, self.expected, rest = state
        super().thaw(rest)

    def is_busy(self) -> bool:
        """Whether its loop can do nothing else now."""
        between = self.at in (SUSPENDED, ANSWERED, DONE) or (self.at is LOOKS and self.node == NONE)
        return bool(self.wakes) or not between


class Loop(Thread):
    """An event loop, with its bell: like a thread, but for that it answers in place of operations."""

    def __init__(self, letter: str, index: int, scenario: Scenario, sides: dict[str, Side]) -> None:
        super().__init__(f"loop {letter}", index, (), scenario, sides)
        self.letter = letter
        self.loop = self
        self.coroutines: list[Coroutine] = []
        self.woken: tuple[int, ...] = ()  # whose bell has rung since it last answered; `orphan` for a node of nobody's
        self.rings = False  # its file can be read
        self.dead = False
        self.references = 0  # to its bell, by nodes: how many of these there are
        self.orphan = -1 - index

    def freeze(self) -> tuple[Any, ...]:
        return (self.woken, self.rings, self.dead, self.references)

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.woken, self.rings, self.dead, self.references = state

    def is_busy(self) -> bool:
        return any(t.is_busy() for t in self.coroutines)


class Side:
    """One of the two directions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = FREE
        self.waiters: list[Thread] = []  # the list
        self.tickets: list[Thread] = []  # who has a ticket, in the order of the tickets
        self.promised = 0
        self.granted = 0
        self.overtakes = 0  # since one who was woken came back

    def freeze(self) -> tuple[Any, ...]:
        return (
            self.turn,
            tuple([t.index for t in self.waiters]),
            tuple([t.index for t in self.tickets]),
            self.promised,
            self.granted,
            self.overtakes,
        )

    def thaw(self, state: tuple[Any, ...], threads: list[Thread]) -> None:
        self.turn, waiters, tickets, self.promised, self.granted, self.overtakes = state
        self.waiters = [threads[index] for index in waiters]
        self.tickets = [threads[index] for index in tickets]


class Protocol:
    """A ring and its threads in one state, and the steps that lead on from it."""

    steps = STEPS

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.capacity = scenario.capacity
        self.puts = Side("puts")
        self.gets = Side("gets")
        self.sides = (self.puts, self.gets)
        sides = self.sides_by_kind()
        self.threads = [
            (Coroutine if name[0] in scenario.loops else Thread)(name, index, program, scenario, sides)
            for index, (name, program) in enumerate(scenario.threads.items())
        ]
        self.loops = [
            Loop(letter, index, scenario, sides) for index, letter in enumerate(scenario.loops, len(self.threads))
        ]
        for loop in self.loops:
            loop.coroutines = [t for t in self.threads if t.name[0] == loop.letter]
            for t in loop.coroutines:
                t.loop = loop
        self.threads += self.loops
        for t in self.threads:
            if t.name == scenario.handler:
                t.amid = next(main for main in self.threads if main.name == scenario.ticks)
        self.unborn = {t for t in self.threads if t.name in scenario.children}
        self.handling = False  # whether the handler has begun and not ended
        self.forks = 0  # how many lie behind this process
        self.story: list[str] | None = None  # what the steps tell of themselves, while a trace is told
        self.shut = OPEN
        self.count = self.write_seq = self.read_seq = 0
        self.evicted = self.refused = self.discarded = 0
        self.slots: list[Any] = [None] * self.capacity
        self.accepted = 0  # ghost: records that are their producers' no more
        self.taken = 0  # ghost: records that consumers have got
        self.passed = [0] * len(self.threads)  # ghost: of each producer, the last record taken, evicted or discarded
        self.drained = False  # ghost: a get was told that the ring is shut down and drained
        self.cut = False  # ghost: a fork came amid a copy

    def sides_by_kind(self) -> dict[str, Side]:
        return defaultdict(lambda: self.gets, put=self.puts, reserve=self.puts)

    def freeze(self) -> tuple[Any, ...]:
        return (
            self.handling,
            self.forks,
            self.cut,
            self.shut,
            self.count,
            self.write_seq,
            self.read_seq,
            self.evicted,
            self.refused,
            self.discarded,
            self.accepted,
            self.taken,
            self.drained,
            tuple(self.slots),
            tuple(self.passed),
            self.puts.freeze(),
            self.gets.freeze(),
            *[t.freeze() for t in self.threads],
        )

    def thaw(self, state: tuple[Any, ...]) -> None:
        (
            self.handling,
            self.forks,
            self.cut,
            self.shut,
            self.count,
            self.write_seq,
            self.read_seq,
            self.evicted,
            self.refused,
            self.discarded,
            self.accepted,
            self.taken,
            self.drained,
            slots,
            passed,
            puts,
            gets,
            *threads,
        ) = state
        self.slots = list(slots)
        self.passed = list(passed)
        for t, its in zip(self.threads, threads, strict=True):
            t.thaw(its)
        self.puts.thaw(puts, self.threads)
        self.gets.thaw(gets, self.threads)

    def say(self, *words: Any) -> None:
        if self.story is not None:
            self.story.append(" ".join(map(str, words)))

    # -- what comes next ----------------------------------------------------------------------------------------------

    def choices(self, t: Thread) -> tuple[str, ...]:
        """The steps that the thread may take now."""
        if t.wakes:
            return ("RING",) if t.wakes[0] < 0 or self.threads[t.wakes[0]].loop else ("WAKE",)
        if not self.runs(t):
            return ()
        if t.loop and (t is t.loop or t.loop.dead or t.at in (SUSPENDED, ANSWERED, WITHDRAWS, LETS_GO)):
            return self.answers(t) if t is t.loop else self.goes_on(t)
        if t.at is LOOKS:
            return self.looks(t)
        if t.at in WAITS:
            return self.waits(t)
        if t.at is HANDLES:
            return ("LOOK", "HANDLERS") + ("TRY",) * (t.op.kind == "get" and not t.waited and not t.expired)
        if t.at is ALLOCATES:
            return self.looks(t) + ("NO MEMORY",) * (not self.scenario.memory)
        if t.at is HAS_BLOCK:
            return ENDS_OF_BLOCKS if t.span[1] > 1 else ("END, ALL", "END, NONE")
        return {COPIES: ("COPY",), COPIED: ("END",), DONE: ()}[t.at]

    def runs(self, t: Thread) -> bool:
        """Whether it has begun, and is not in a signal handler, which has to end first."""
        if t.amid:  # what the collector runs while the thread allocates is as good as a handler
            return self.handling or (t.amid.at in (HANDLES, ALLOCATES) and not t.amid.wakes)
        if self.handling and t.name == self.scenario.ticks:
            return False
        if t.loop and t is not t.loop and any(other.is_busy() for other in t.loop.coroutines if other is not t):
            return False
        return bool(self.forks) or t not in self.unborn

    def looks(self, t: Thread) -> tuple[str, ...]:
        if t.op.kind in ("shutdown", "fork"):
            return (t.op.kind.upper(),)
        fails = not self.scenario.memory and t.node != self.forks
        tries = t.op.kind == "get" and not (t.node != NONE or t.held or t.spun or t.waited)
        tries |= t.op.kind == "put" and bool(t.loop)
        looks = ("LOOK",) + ("LOOK, SIGNALS",) * (t.ticks and not t.held) + ("LOOK, NO MEMORY",) * fails
        return (("LEND",) if self.must_lend(t) else looks) + ("TRY",) * tries

    def waits(self, t: Thread) -> tuple[str, ...]:
        has_deadline = t.op.wait is TIMED and not t.expired and not t.late
        if t.at is ENTERED:
            return ("PARK",)
        if t.at is ASLEEP and not t.token:
            return ("DEADLINE",) * has_deadline + ("TICK",) * t.ticks
        if t.at is AWAITS_TOKEN and not t.token:
            return ()
        return ("RETURN",) + ("RETURN, LATE",) * has_deadline + ("RETURN, SIGNALS",) * (t.ticks and not t.due)

    def answers(self, loop: Loop) -> tuple[str, ...]:
        if loop.dead or loop.is_busy():
            return ()
        return ("ANSWER",) * loop.rings + ("CLOSE",) * (loop.letter in self.scenario.closed)

    def goes_on(self, t: Coroutine) -> tuple[str, ...]:
        """Of one that was suspended, or whose loop is closed."""
        if t.at is LETS_GO:
            return ("LET GO",)
        if t.at is WITHDRAWS or t.loop.dead:
            return ("WITHDRAW",) * (t.at is not DONE)
        return self.returns(t) * (t.at is ANSWERED) + ("CANCEL",) * (t.name in self.scenario.cancelled)

    def returns(self, t: Coroutine) -> tuple[str, ...]:
        return ("RETURN", "TRY")

    def step(self, t: Thread, choice: str) -> None:
        getattr(self, self.steps[choice])(t)
        if t.amid:
            self.handling = t.at is not DONE or bool(t.wakes)

    # -- one operation's wait -----------------------------------------------------------------------------------------

    def acquire(self, t: Thread) -> None:
        t.at = LOOKS
        if t.loop:
            self.make_node(t)
        self.unhold(t)
        self.look(t)

    def see_to_signals(self, t: Thread) -> None:
        t.at = HANDLES

    def acquire_without_memory(self, t: Thread) -> None:
        t.at = LOOKS
        if t.loop:  # which makes its node before it looks
            self.finish(t)
            return
        self.unhold(t)
        if self.needs_no_node(t):
            self.look(t)
        else:
            self.say("no memory for a node")
            self.release(t)
            self.finish(t)

    def needs_no_node(self, t: Thread) -> bool:
        if self.ready(t):
            return t.op.kind != "put" or self.is_one_piece(t)
        return self.is_held(t) or self.may_spin(t)

    def must_lend(self, t: Thread) -> bool:
        return t.amid is not None and t.amid.held != 0

    def lend(self, t: Thread) -> None:
        self.unhold(t.amid)
        self.release(t)

    def look(self, t: Thread) -> None:
        """LOOK and what follows, to the unlock."""
        if self.ready(t):
            waited, t.waited = t.waited, False
            if waited and self.looks_for_signals_first(t):
                self.say("may act, but looks for signals first")
                t.at = HANDLES
                self.hold(t, self.need(t))
                self.release(t)
            else:
                self.act(t)
            return
        if self.is_held(t):
            t.waited = False
            self.give_up(t)
            return
        insist(t.side.turn != RESERVED or not must_not_wait(self, t), f"{t.name} waits for a reservation")
        t.waited = not t.loop
        if self.may_spin(t):
            self.say("may not act: SPIN")
            t.spun = True
            self.release(t)
        else:
            t.spun = True
            self.say("may not act: ENTER")
            self.make_node(t)
            self.enter(t)
            if t.loop:
                self.suspend(t)
            else:
                t.at = ENTERED
            self.release(t)

    def suspend(self, t: Coroutine) -> None:
        t.at = SUSPENDED
        t.rung = False

    def looks_for_signals_first(self, t: Thread) -> bool:
        """The main thread, which waited: a signal that came before the records must not find them taken already."""
        return t.ticks and t.op.kind in ("get", "peek") and not t.expired and not self.over(t.side)

    def is_held(self, t: Thread) -> bool:
        """HELD: a reservation is out, for whose end it does not wait."""
        return t.side.turn == RESERVED and self.gives_up(t)

    def gives_up(self, t: Thread) -> bool:
        """Its time is over, its policy drops, or it would get nothing."""
        if t.side is self.puts:
            return t.expired or self.scenario.overflow is not BLOCK or self.shut is not OPEN
        return t.expired or self.shut in (SHUT_NOW, TORN)

    def make_node(self, t: Thread) -> None:
        if t.node != self.forks:
            t.node = self.forks
            if t.loop:
                t.loop.references += 1
            if t in t.side.tickets:
                t.side.tickets.remove(t)

    def ready(self, t: Thread) -> bool:
        if t.side.turn:
            return False
        if t.expired or self.over(t.side):
            return True
        return self.available(t.side) >= self.need(t) and (self.may_overtake(t.side) or self.need(t) == 0)

    def may_overtake(self, side: Side) -> bool:
        return not self.scenario.overtakes or side.overtakes < self.scenario.overtakes

    def overtake(self, side: Side) -> None:
        if self.scenario.overtakes and any(t.granted and self.is_woken(t) for t in self.threads if t.side is side):
            side.overtakes = min(side.overtakes + 1, self.scenario.overtakes)

    def is_woken(self, t: Thread) -> bool:
        """Of who has been granted: whether it will soon be back. A loop may be long in coming."""
        return not t.loop

    def may_spin(self, t: Thread) -> bool:
        return self.scenario.spins and not t.loop and not t.spun and not t.side.waiters and t.side.turn != RESERVED

    def fall_asleep(self, t: Thread) -> None:
        t.at = ASLEEP

    def give_up_late(self, t: Thread) -> None:
        t.at = GAVE_UP
        t.late = True

    def give_up_due(self, t: Thread) -> None:
        t.at = GAVE_UP
        t.due = True

    def come_back_late(self, t: Thread) -> None:
        t.late = True
        self.come_back(t)

    def come_back_due(self, t: Thread) -> None:
        t.due = True
        self.come_back(t)

    def come_back(self, t: Thread) -> None:
        if t.at is GAVE_UP and t.granted:
            self.await_token(t)
        else:
            self.return_(t)

    def await_token(self, t: Thread) -> None:
        self.say("has been granted: wait for the token")
        t.at = AWAITS_TOKEN

    def return_(self, t: Thread) -> None:
        """RETURN and what follows, to the unlock."""
        late, due = t.late, t.due
        t.token = t.late = t.due = False
        self.leave(t)
        if due and not late:
            t.at = HANDLES
            self.release(t)
        else:
            t.expired |= late
            self.look(t)

    def end_wait(self, t: Thread) -> None:
        """An exception ends the operation."""
        if t.held:
            self.unhold(t)
            self.release(t)
        self.finish(t)

    def finish(self, t: Thread) -> None:
        """The operation is over, and its node freed."""
        insist(not t.granted and not t.token and t not in t.side.waiters, f"{t.name} frees a node that is in use")
        if t in t.side.tickets:
            t.side.tickets.remove(t)
        if t.loop and t.node != NONE:
            t.loop.references -= 1
        t.place += 1
        t.begin()
        if t.loop and t.loop.dead:
            t.vanish()

    # -- lists, grants ------------------------------------------------------------------------------------------------

    def need(self, t: Thread) -> int:
        if t.side is self.puts:
            if self.scenario.overflow is not BLOCK:
                return 0
            if t.loop:  # what fits the ring enters together
                return min(t.op.n - t.done, self.capacity)
            return t.op.n if t.op.kind == "reserve" else 1
        return t.op.least

    def node_need(self, t: Thread) -> int:
        return 0 if t.expired else self.need(t)

    def available(self, side: Side) -> int:
        return self.capacity - self.count if side is self.puts else self.count

    def over(self, side: Side) -> bool:
        """Whether a shutdown ends the waiting. Gets still wait for a put that is copying: its records are to come."""
        return self.shut is not OPEN and not (side is self.gets and self.shut is SHUT and self.puts.turn)

    def enter(self, t: Thread) -> None:
        waiters, tickets = t.side.waiters, t.side.tickets
        if t not in tickets:
            tickets.append(t)
        place = len(waiters)
        while place and tickets.index(waiters[place - 1]) > tickets.index(t):
            place -= 1
        waiters.insert(place, t)

    def leave(self, t: Thread) -> None:
        if t.granted:
            t.granted = False
            t.side.promised -= self.node_need(t)
            t.side.granted -= 1
            if self.is_woken(t):
                t.side.overtakes = 0
        else:
            t.side.waiters.remove(t)

    def hold(self, t: Thread, need: int) -> None:
        t.held = need
        t.held_forks = self.forks
        t.side.promised += need
        t.side.granted += 1

    def unhold(self, t: Thread) -> None:
        if t.held and t.held_forks == self.forks:
            t.side.promised -= t.held
            t.side.granted -= 1
        t.held = t.held_forks = 0

    def servable(self, side: Side) -> Thread | None:
        if side.turn == RESERVED:
            return self.first_to_give_up(side)
        if side.turn or not (self.may_overtake(side) or self.over(side)):
            return None
        stock = self.available(side) - side.promised
        return next((t for t in side.waiters if self.may_be_granted(t, side, stock)), None)

    def first_to_give_up(self, side: Side) -> Thread | None:
        return next((t for t in side.waiters if self.gives_up(t)), None)

    def may_be_granted(self, t: Thread, side: Side, stock: int) -> bool:
        return self.over(side) or self.node_need(t) == 0 or stock >= self.node_need(t)

    def grant(self, side: Side, chain: tuple[int, ...]) -> tuple[int, ...]:
        """SETTLE one side: grant up to the first thread, or all after a shutdown."""
        t = self.servable(side)
        while t:
            self.say("SETTLE grants", t.name)
            side.waiters.remove(t)
            t.granted = True
            side.promised += self.node_need(t)
            side.granted += 1
            chain = (t.index, *chain)
            if not self.over(side):
                enough = side.promised <= self.available(side) or not self.node_need(t)
                insist(enough, f"{t.name} is promised what is promised already")
                if self.is_woken(t):
                    break
            t = self.servable(side)
        return chain

    def check_state(self) -> None:
        check_state(self)

    def check_end(self) -> None:
        check_end(self)

    def could_act(self, t: Thread, promised: int = 0) -> bool:
        return could_act(self, t, promised)

    def settle(self) -> tuple[int, ...]:
        return self.grant(self.puts, self.grant(self.gets, ()))

    def release(self, t: Thread) -> None:
        """SETTLE and unlock; the WAKEs follow."""
        t.wakes += self.settle()

    def wake_next(self, t: Thread) -> None:
        index, *t.wakes = t.wakes
        t.wakes = tuple(t.wakes)
        if index < 0:
            self.say("and frees a node")
            self.threads[-1 - index].references -= 1
            return
        woken = self.threads[index]
        self.say(woken.name)
        if woken.loop:
            self.ring(woken)
        else:
            self.wake(woken)

    def wake(self, woken: Thread) -> None:
        woken.token = True

    # -- coroutines ---------------------------------------------------------------------------------------------------

    def ring(self, woken: Coroutine) -> None:
        loop = woken.loop
        if loop.dead:
            woken.rung = True
        else:
            loop.rings |= not loop.woken
            loop.woken = tuple(sorted((*loop.woken, woken.index)))

    def answer(self, loop: Loop) -> None:
        loop.rings = False
        for t in self.take_woken(loop):
            self.say(t.name)
            t.at = ANSWERED

    def take_woken(self, loop: Loop) -> list[Coroutine]:
        """Those who have been woken since; free the nodes of nobody's."""
        woken, loop.woken = loop.woken, ()
        loop.references -= woken.count(loop.orphan)
        answered = [self.threads[index] for index in woken if index >= 0]
        for t in answered:
            t.rung = True
        return answered

    def close(self, loop: Loop) -> None:
        loop.dead = True
        loop.rings = False
        self.take_woken(loop)
        for t in loop.coroutines:
            if t.at is LOOKS:
                t.vanish()

    def withdraw(self, t: Coroutine) -> None:
        """WITHDRAW, to the unlock. Where it has been woken, `unhold` is what leaves the list."""
        insist(not t.done or t.op.n > self.capacity, f"{t.name} has put a part of what fits the ring")
        t.expected = t.granted
        if t.granted or t in t.side.waiters:
            self.leave(t)
        t.at = LETS_GO
        self.release(t)

    def let_go(self, t: Coroutine) -> None:
        if t.expected and not t.rung:
            self.leave_node(t)
        self.finish(t)

    def leave_node(self, t: Coroutine) -> None:
        """To who is still to ring for it, or to the loop, which is to answer: the last one frees it."""
        t.node = NONE
        left = 0
        for other in self.threads:
            left += t.index in other.wakes
            other.wakes = tuple([t.loop.orphan if index == t.index else index for index in other.wakes])
        left += t.index in t.loop.woken
        t.loop.woken = tuple(sorted([t.loop.orphan if index == t.index else index for index in t.loop.woken]))
        insist(left == 1, f"nobody frees the node of {t.name}")

    # -- put ----------------------------------------------------------------------------------------------------------

    def act(self, t: Thread) -> None:
        """ACT or TURN, with the lock held, to the unlock."""
        insist(not t.side.turn, f"{t.name} acts in another's turn")
        actions = {
            "put": self.put_records,
            "get": self.get_records,
            "reserve": self.reserve_slots,
            "peek": self.peek_slots,
            "snapshot": self.copy_newest,
        }
        actions[t.op.kind](t)

    def give_up(self, t: Thread) -> None:
        """Of what `acquire` says HELD to: with the lock held, to the unlock."""
        insist(t.side.turn == RESERVED and must_not_wait(self, t), f"{t.name} does not wait for a reservation")
        if t.op.kind == "put" and self.scenario.overflow is not BLOCK and self.shut is OPEN:
            self.drop_rest(t)
        elif t.op.kind == "snapshot":
            self.say("looks at nothing")
            self.release(t)
            self.finish(t)
        else:
            self.end_in_vain(t)

    def drop_rest(self, t: Thread) -> None:
        t.piece = t.op.n - t.done
        self.say("drops what it brings:", t.piece)
        self.refused += t.piece
        self.release(t)
        self.end_piece(t)

    def end_in_vain(self, t: Thread) -> None:
        """With the lock held, to the unlock: the operation ends by an exception."""
        end = self.end_of(t.side)
        self.say(end)
        if t.side is self.gets and end == "ShutDown":
            self.drained = True
            insist(self.shut is SHUT_NOW or self.count == 0, "a get is told: drained, though records are there")
        self.release(t)
        self.finish(t)

    def end_of(self, side: Side) -> str:
        """Why an operation that may not act ends."""
        if self.shut is TORN:
            return "RuntimeError"
        ends = self.over(side) and not (side is self.gets and self.may_leave_records())
        return "ShutDown" if ends else "Full" if side is self.puts else "Empty"

    def may_leave_records(self) -> bool:
        """Whether a block is out of what is there after a graceful shutdown: the ring is not drained."""
        return self.shut is SHUT and self.count > 0

    def put_records(self, t: Thread) -> None:
        if self.shut is not OPEN:
            self.end_in_vain(t)
        else:
            self.put_piece(t)

    def is_one_piece(self, t: Thread) -> bool:
        return t.op.n - t.done <= (self.available(t.side) if self.scenario.overflow is BLOCK else self.capacity)

    def put_piece(self, t: Thread) -> None:
        if not self.is_one_piece(t):
            self.make_node(t)  # now: it could not be reported later
        n = min(t.op.n - t.done, self.capacity)
        admitted = self.admit(n)
        whole = admitted == n or self.scenario.overflow is not BLOCK
        insist(whole or not t.loop, f"{t.name} puts a part of what fits the ring")
        t.span = (self.write_seq, admitted)
        t.piece = admitted if self.scenario.overflow is BLOCK else n
        insist(t.piece or t.expired, f"{t.name} does not wait for what it needs")
        if admitted <= t.op.locked:
            self.fill(t)
            self.publish(t)
            self.release(t)
            self.end_piece(t)
        else:
            self.say("TURN: puts", admitted)
            t.side.turn = COPYING
            t.at = COPIES
            self.release(t)

    def end_piece(self, t: Thread) -> None:
        """Without the lock: on to the next piece, in the same wait, at the end of the line."""
        if t in t.side.tickets:
            t.side.tickets.remove(t)
        piece, t.piece = t.piece, 0
        t.done += piece
        self.accepted += piece
        t.at = LOOKS
        if piece == 0 or t.done == t.op.n:
            self.finish(t)

    def admit(self, n: int) -> int:
        room = self.capacity - self.count
        if self.evict_for(n):
            return n
        if self.scenario.overflow is not BLOCK:
            self.say("drops the newest")
            self.refused += n - room
        return room

    def evict_for(self, n: int) -> bool:
        """Whether there is room for n, after the oldest have made some where they may."""
        room = self.capacity - self.count
        if n > room and (self.scenario.overflow is not DROP_OLDEST or self.gets.turn):
            return False
        if n > room:
            self.say("drops the oldest")
            self.evicted += n - room
            self.pass_by(n - room)
        return True

    def fill(self, t: Thread) -> None:
        first, n = t.span
        being_read = self.slots_in_turn(self.gets)
        for i in range(n):
            slot = (first + i) % self.capacity
            insist(slot not in being_read, f"{t.name} writes over what is being read")
            self.slots[slot] = (t.index, t.sent + i + 1)

    def publish(self, t: Thread) -> None:
        _, n = t.span
        t.span = None
        t.sent += n
        self.write_seq += n
        self.count += n
        self.say("puts", n)
        self.overtake(self.puts)
        insist(not n or not self.drained or self.shut is SHUT_NOW, "a record enters after a get was told: drained")

    # -- get ----------------------------------------------------------------------------------------------------------

    def get_records(self, t: Thread) -> None:
        n = min(t.most, self.count)
        insist(n >= t.op.least or t.expired or self.over(t.side), f"{t.name} does not wait for what it needs")
        if n == 0 or self.shut is TORN:
            self.end_in_vain(t)
        elif n > t.room:
            self.say("has room for", t.room, "of", n, "only: away to allocate")
            t.room = t.most = n
            t.at = ALLOCATES
            self.hold(t, n)
            self.release(t)
        elif n <= t.op.locked:
            self.take(self.copy_out(self.read_seq, n))
            self.end_get(t)
        else:
            self.copy_in_turn(t, self.read_seq, n)

    def try_once(self, t: Thread) -> None:
        """TRY: put or take a few at once, without waiting. Who may not SETTLEs all the same."""
        if t.at is ANSWERED:
            self.leave(t)
        t.at = LOOKS
        self.unhold(t)
        if t.side is self.puts:
            self.try_put(t)
        else:
            self.try_get(t)

    def try_put(self, t: Thread) -> None:
        """Only of coroutines; a thread's is as a LOOK, or in vain."""
        n = min(t.op.n - t.done, self.capacity) if t.loop else t.op.n
        fits = n <= (self.capacity - self.count if self.scenario.overflow is BLOCK else self.capacity)
        free = not t.side.turn and self.may_overtake(t.side) and self.shut is OPEN
        if free and fits and n <= t.op.locked:
            self.act(t)
        else:
            self.release(t)

    def try_get(self, t: Thread) -> None:
        n = min(t.most, self.count)
        free = not t.side.turn and self.may_overtake(t.side) and self.shut is not TORN
        if free and t.op.least <= n <= min(t.room, t.op.locked):
            self.take(self.copy_out(self.read_seq, n))
            self.release(t)
            self.finish(t)
        else:
            self.release(t)

    def copy_newest(self, t: Thread) -> None:
        """`snapshot`."""
        n = min(t.most, self.count)
        self.say("looks at", n)
        first = self.write_seq - n
        if n <= t.op.locked:
            self.copy_out(first, n)
            self.end_get(t)
        else:
            self.copy_in_turn(t, first, n)

    def copy_in_turn(self, t: Thread, first: int, n: int) -> None:
        self.say("TURN: reads", n)
        t.side.turn = COPYING
        t.span = (first, n)
        t.at = COPIES
        self.release(t)

    def end_get(self, t: Thread) -> None:
        self.discard_if_shut_now(t)
        self.release(t)
        self.finish(t)

    def copy_out(self, first: int, n: int) -> tuple[Any, ...]:
        being_written = self.slots_in_turn(self.puts)
        slots = [seq % self.capacity for seq in range(first, first + n)]
        for slot in slots:
            insist(slot not in being_written and self.slots[slot], "a slot is read that holds no record")
        return tuple([self.slots[slot] for slot in slots])

    def take(self, records: tuple[Any, ...]) -> None:
        insist(not self.cut, "a ring that a fork tore gives records")
        self.say("takes", len(records))
        insist(records == self.copy_out(self.read_seq, len(records)), "what was read has changed meanwhile")
        self.taken += len(records)
        self.pass_by(len(records))
        self.overtake(self.gets)

    def pass_by(self, n: int) -> None:
        """`advance_read`: the n oldest are taken, evicted or discarded."""
        for producer, number in self.copy_out(self.read_seq, n):
            insist(number == self.passed[producer] + 1, "a record comes twice, out of order, or after a gap")
            self.passed[producer] = number
        for seq in range(self.read_seq, self.read_seq + n):
            self.slots[seq % self.capacity] = None
        self.read_seq += n
        self.count -= n

    # -- blocks -------------------------------------------------------------------------------------------------------

    def reserve_slots(self, t: Thread) -> None:
        n = 0
        if self.shut is OPEN:
            n = min(t.op.n, self.capacity - self.write_seq % self.capacity)
            self.evict_for(n)
            n = min(n, self.capacity - self.count)
            dropped = self.scenario.overflow is not BLOCK
            enough = dropped or self.capacity - self.count >= t.op.n
            insist(enough or t.expired, f"{t.name} does not wait for what it needs")
        self.hand_out(t, self.write_seq, n)

    def peek_slots(self, t: Thread) -> None:
        enough = self.count >= t.op.least or t.expired or self.over(t.side)
        insist(enough, f"{t.name} does not wait for what it needs")
        n = 0
        if self.shut is not TORN:
            n = min(t.op.n, self.count, self.capacity - self.read_seq % self.capacity)
            t.copied = self.copy_out(self.read_seq, n)
        self.hand_out(t, self.read_seq, n)

    def hand_out(self, t: Thread, first: int, n: int) -> None:
        """With the lock held, to the unlock; without any slots the operation ends."""
        if n == 0:
            self.end_in_vain(t)
        else:
            self.say("has a block of", n)
            t.side.turn = RESERVED
            t.span = (first, n)
            t.at = HAS_BLOCK
            self.release(t)

    def end_block(self, t: Thread) -> None:
        self.end_block_and_release(t, t.span[1])

    def end_block_with_fewer(self, t: Thread) -> None:
        self.end_block_and_release(t, t.span[1] - 1)

    def end_block_with_none(self, t: Thread) -> None:
        self.end_block_and_release(t, 0)

    def end_block_and_release(self, t: Thread, n: int) -> None:
        """END of a block, of which n records enter, or leave, the ring."""
        t.side.turn = FREE
        t.span = (t.span[0], n)
        if t.side is self.puts:
            insist(t.span[0] == self.write_seq, f"{t.name} has slots that are not the next ones")
            self.fill(t)
            self.publish(t)
            self.accepted += n
        else:
            insist(t.span[0] == self.read_seq, f"what {t.name} peeks at is not the oldest")
            whole = self.copy_out(self.read_seq, len(t.copied))
            insist(whole == t.copied, f"what {t.name} peeks at has changed meanwhile")
            self.take(t.copied[:n])
        self.discard_if_shut_now(t)
        self.release(t)
        self.finish(t)

    # -- turns --------------------------------------------------------------------------------------------------------

    def copy(self, t: Thread) -> None:
        if t.side is self.puts:
            self.fill(t)
        else:
            t.copied = self.copy_out(*t.span)
        t.at = COPIED

    def end_turn(self, t: Thread) -> None:
        """END, to the unlock."""
        t.side.turn = FREE
        if t.side is self.puts:
            self.publish(t)
            self.discard_if_shut_now(t)
            self.release(t)
            self.end_piece(t)
        else:
            t.span = None
            if t.op.kind == "get":
                self.take(t.copied)
            self.end_get(t)

    def slots_in_turn(self, side: Side) -> set[int]:
        """Those that are being copied outside the lock, or are a block's."""
        spans = [t.span for t in self.threads if t.side is side and t.at in OWNS_TURN] if side.turn else []
        return {seq % self.capacity for first, n in spans for seq in range(first, first + n)}

    # -- shutdown -----------------------------------------------------------------------------------------------------

    def shutdown(self, t: Thread) -> None:
        if t.op.immediate:
            self.shut = TORN if self.shut is TORN else SHUT_NOW
            self.discard_rest()
        elif self.shut is OPEN:
            self.shut = SHUT
        self.release(t)
        self.finish(t)

    def discard_if_shut_now(self, t: Thread) -> None:
        if self.shut is SHUT_NOW:
            self.discard_rest()

    # -- fork ---------------------------------------------------------------------------------------------------------

    def fork(self, t: Thread) -> None:
        """Go on in the child: of the threads only the one that forks is there. (In the parent nothing happens.)"""
        for other in self.threads:
            if other not in (t, t.amid) and other not in self.unborn:
                other.vanish()
        self.forks += 1
        if self.puts.turn or self.gets.turn:
            self.cut = True
            self.tear()
        for side in self.sides:
            self.forget_turn(side)
            self.forget_waiters(side)
        self.finish(t)

    def tear(self) -> None:
        self.shut = TORN

    def forget_turn(self, side: Side) -> None:
        side.turn = FREE

    def forget_waiters(self, side: Side) -> None:
        side.waiters = []
        side.tickets = []
        side.promised = side.granted = side.overtakes = 0

    def discard_rest(self) -> None:
        if not self.gets.turn:  # what is being read is its reader's; it discards the rest
            self.say("discards", self.count)
            self.discarded += self.count
            self.pass_by(self.count)


# -- what must hold ---------------------------------------------------------------------------------------------------
#
# Written apart from the protocol's own functions, so that a mutation of those cannot blind these.


def check_state(m: Protocol) -> None:
    """In every state."""
    insist(0 <= m.count <= m.capacity, "I1: 0 <= count <= capacity")
    insist(m.count == m.write_seq - m.read_seq, "R1: count == write_seq - read_seq")
    insist(m.read_seq == m.taken + m.evicted + m.discarded, "R3: what has left was taken, dropped or discarded")
    insist(m.shut is not SHUT_NOW or m.gets.turn or m.count == 0, "an immediate shutdown leaves nothing")
    insist(not m.cut or m.shut is TORN, "a fork amid a copy tears the ring")
    for side in m.sides:
        check_list(m, side)
        check_grants(m, side)
        owners = [t.at for t in m.threads if t.side is side and t.at in OWNS_TURN]
        insist(len(owners) == (side.turn != FREE), f"the turn of the {side.name} has one owner")
        insist((HAS_BLOCK in owners) == (side.turn == RESERVED), f"who holds the turn of the {side.name} is known")
    check_wake_ups(m)
    if m.puts.turn and m.gets.turn:
        insist(m.slots_in_turn(m.puts).isdisjoint(m.slots_in_turn(m.gets)), "no slot is written while being read")


def check_list(m: Protocol, side: Side) -> None:
    places = [side.tickets.index(t) for t in side.waiters]
    insist(places == sorted(set(places)), f"I2: the {side.name} wait in the order of their tickets")
    for t in side.waiters:
        insist(not t.granted, f"I2: {t.name} is in the list, though it was granted")
        insist(t.at in QUEUED or t.at is SUSPENDED, f"{t.name} is in the list, though it does not wait")
        insist(t.node == m.forks, f"{t.name} waits by a node of the parent's")


def check_grants(m: Protocol, side: Side) -> None:
    here = [t for t in m.threads if t.side is side]
    promises = [m.node_need(t) for t in here if t.granted]
    promises += [t.held for t in here if t.held and t.held_forks == m.forks]
    insist((side.granted, side.promised) == (len(promises), sum(promises)), f"the promises of the {side.name} balance")
    woken = any(t.granted and not t.loop for t in here)
    insist(not side.overtakes or woken, f"only who was woken is overtaken among the {side.name}")
    served = woken or not any(m.could_act(t, side.promised) for t in side.waiters)
    insist(served, f"I3: one of the {side.name} could be served, and no thread is granted")


def check_wake_ups(m: Protocol) -> None:
    coming = [m.threads[index] for t in m.threads for index in t.wakes if index >= 0]
    coming += [t for t in m.threads if t.token]
    if m.loops:
        coming += [m.threads[index] for loop in m.loops for index in loop.woken if index >= 0]
        check_nodes(m)
    for t in coming:
        waits = is_to_ring(t) if t.loop else t.granted and t.at in WAITS
        insist(waits, f"a wake-up comes to {t.name}, whose node was freed or is used again")
        insist(coming.count(t) == 1, f"{t.name} is woken twice")


def is_to_ring(t: Coroutine) -> bool:
    """Whether a bell may be about to ring for its node, or has done so, and the loop has not seen it yet."""
    return not t.rung and (t.granted if t.at is SUSPENDED else t.at is LETS_GO and t.expected)


def check_nodes(m: Protocol) -> None:
    for loop in m.loops:
        left = sum(t.wakes.count(loop.orphan) for t in m.threads) + loop.woken.count(loop.orphan)
        nodes = sum(t.node != NONE for t in loop.coroutines) + left
        insist(loop.references == nodes, f"each node that rings for {loop.name} is freed once")


def could_act(m: Protocol, t: Thread, promised: int) -> bool:
    """Whether it need not wait; to give up is to act, too."""
    if t.side.turn:
        return t.side.turn == RESERVED and must_not_wait(m, t)
    if m.shut is not OPEN and not (t.side is m.gets and m.shut is SHUT and m.puts.turn):
        return True
    stock = m.capacity - m.count if t.side is m.puts else m.count
    need = 0 if t.expired else m.need(t)
    return need == 0 or stock >= promised + need


def must_not_wait(m: Protocol, t: Thread) -> bool:
    """For a reservation."""
    drops = t.side is m.puts and m.scenario.overflow is not BLOCK
    too_late = m.shut is not OPEN if t.side is m.puts else m.shut in (SHUT_NOW, TORN)
    return t.expired or drops or too_late


def check_sleepers(m: Protocol) -> None:
    """Where nothing but time can go on."""
    for t in m.threads:
        if not m.runs(t):  # its handler does, or its process is not there yet
            continue
        insist(t.at in (DONE, ASLEEP, HAS_BLOCK, SUSPENDED), f"deadlock: {t.name} {t.at}, and nobody brings it")
        insist(not t.granted, f"deadlock: {t.name} was granted, and nobody wakes it")
        sleeps = t.at in (ASLEEP, SUSPENDED)
        insist(not sleeps or not m.could_act(t), f"deadlock: {t.name} sleeps, though it could act")


def check_end(m: Protocol) -> None:
    insist(not any(loop.woken for loop in m.loops), "a node is left to a loop that is closed")
    insist(m.accepted == m.write_seq + m.refused, "offered: what has entered or was refused")
    gone = m.taken + m.evicted + m.refused + m.discarded
    insist(m.accepted == gone + m.count, "put = taken + dropped + discarded + left")
    insist(not m.scenario.all_end or all(t.at is DONE for t in m.threads if m.runs(t)), "all threads end")


# -- the explorer -----------------------------------------------------------------------------------------------------

Step = tuple[int, int, str]  # from which state; which thread; what it did


@dataclass
class Exploration:
    """What `explore` found."""

    states: int = 0
    steps: int = 0
    ends: int = 0  # states in which nothing but ticks can follow
    kinds: set[str] = field(default_factory=set)  # of steps
    violation: str | None = None
    trace: str = ""  # the shortest way to the violation


def explore(scenario: Scenario, *mutations: Mutation) -> Exploration:
    """Go through every interleaving, breadth first; end at the first violation."""
    m = mutated(scenario, mutations)(scenario)
    states = [m.freeze()]
    numbers = {states[0]: 0}
    came: list[Step | None] = [None]  # how each state was reached first
    following: list[list[int]] = []
    found = Exploration()
    ends = []
    for here, state in enumerate(states):  # which grows meanwhile
        m.thaw(state)
        choices = [(t, choice) for t in m.threads for choice in m.choices(t)]
        step = None
        try:
            if check_rest(m, choices):
                ends.append(here)
            following.append([])
            for t, choice in choices:
                step = (here, t.index, choice)
                m.thaw(state)
                m.step(t, choice)
                reached = m.freeze()
                if reached not in numbers:
                    m.check_state()
                    numbers[reached] = len(states)
                    states.append(reached)
                    came.append(step)
                following[here].append(numbers[reached])
                found.kinds.add(choice)
        except Violation as violation:
            found.violation = str(violation)
            found.trace = tell(m, states[0], way_to(here, came) + [step] * (step is not None), found.violation)
            break
    found.states, found.steps, found.ends = len(states), sum(map(len, following)), len(ends)
    trap = None if found.violation else without_end(following, ends)
    if trap is not None:
        found.violation = "livelock: from here no end can be reached"
        found.trace = tell(m, states[0], way_to(trap, came), found.violation)
    return found


def check_rest(m: Protocol, choices: list[tuple[Thread, str]]) -> bool:
    """Check the states where only time can go on; True for an end."""
    if any(choice not in LEISURE for _, choice in choices):
        return False
    check_sleepers(m)
    if any(choice != "TICK" for _, choice in choices):
        return False
    m.check_end()
    return True


def without_end(following: list[list[int]], ends: list[int]) -> int | None:
    """The first state, if any, from which no end can be reached."""
    before: list[list[int]] = [[] for _ in following]
    for state, reached in enumerate(following):
        for later in reached:
            before[later].append(state)
    good = bytearray(len(following))
    todo = list(ends)
    while todo:
        state = todo.pop()
        if not good[state]:
            good[state] = 1
            todo += before[state]
    trap = good.find(0)
    return None if trap < 0 else trap


def way_to(state: int, came: list[Step | None]) -> list[Step]:
    way = []
    step = came[state]
    while step is not None:
        way.append(step)
        step = came[step[0]]
    return way[::-1]


def tell(m: Protocol, start: tuple[Any, ...], way: list[Step], violation: str) -> str:
    """A trace for people: the steps, and how it stands at the end."""
    lines = [str(m.scenario)]
    m.thaw(start)
    for number, (_, index, choice) in enumerate(way, 1):
        m.story = []
        try:
            m.step(m.threads[index], choice)
        except Violation:
            m.story.append("...")
        lines.append(f"{number:4}  {m.threads[index].name:3} {choice:16} {'; '.join(m.story)}".rstrip())
    m.story = None
    return "\n".join([*lines, f"  =>  {violation}", f"      {describe(m)}"])


def describe(m: Protocol) -> str:
    sides = [
        f"{side.name}: waiting {' '.join(t.name for t in side.waiters) or '-'}, granted {side.granted}, "
        f"promised {side.promised}" + ("", ", turn", ", reserved")[side.turn]
        for side in m.sides
    ]
    threads = ", ".join(f"{t.name} {t.at}" for t in m.threads if m.runs(t) and t is not t.loop)
    return "; ".join([f"{m.shut}, {m.count} of {m.capacity} records", *sides, threads])


# -- scenarios --------------------------------------------------------------------------------------------------------
#
# P puts, C gets, S shuts down, F forks; H is what a signal handler does, K is started in the child of a fork.
# "get 1-2" waits for one and takes up to two; "turn>1" copies more than one record under a turn; "room 1" must go away
# to allocate where more than one is there.

SCENARIOS = {
    it.name: it
    for it in (
        # Small copies, nobody gives up. One slot; then needs that differ, and batches longer than the ring.
        scenario("one record each", 1, P1=put(), P2=put(), C1=get(), C2=get()),
        scenario("two records each", 1, P1=(put(), put()), P2=(put(), put()), C1=(get(), get()), C2=(get(), get())),
        scenario("room for two", 2, P1=(put(), put()), P2=(put(), put()), C1=(get(), get()), C2=(get(), get())),
        scenario("needs that differ", 2, P1=(put(), put()), P2=put(2), C1=get(2), C2=(get(), get())),
        scenario("pieces of one", 1, P1=put(3), P2=put(2), C1=(get(), get(), get()), C2=(get(), get())),
        scenario(
            "pieces of two",
            2,
            all_end=False,
            P1=put(4),
            P2=put(3),
            C1=(get(1, 2), get(2)),
            C2=(get(1, 2), get()),
        ),
        # Spinning.
        scenario("spinning", 1, P1=(put(), put()), P2=put(2), C1=(get(), get()), C2=(get(), get()), spins=True),
        # Large copies.
        scenario(
            "turns",
            2,
            all_end=False,
            spins=True,
            P1=put(3, locked=0),
            P2=put(2, locked=0),
            C1=(get(1, 2, locked=0), get(locked=0)),
            C2=get(2, locked=0),
        ),
        scenario(
            "large and small copies",
            2,
            all_end=False,
            P1=put(4, locked=1),
            P2=put(),
            C1=(get(1, 2, locked=1), get(1, 2, locked=1)),
            C2=(get(), get()),
        ),
        # Deadlines. In the second, all of them; in the third, operations that wait for nothing but a copy.
        scenario(
            "deadlines",
            1,
            all_end=False,
            P1=(put(wait=TIMED), put(wait=TIMED)),
            P2=put(),
            C1=(get(wait=TIMED), get(wait=TIMED)),
            C2=get(),
        ),
        scenario(
            "deadlines everywhere",
            2,
            P1=put(3, wait=TIMED),
            P2=put(2, wait=TIMED),
            C1=get(2, wait=TIMED),
            C2=(get(2, wait=TIMED), get(wait=TIMED)),
        ),
        scenario(
            "without waiting",
            2,
            all_end=False,
            P1=put(3, locked=0),
            P2=(put(wait=NOT), put(wait=NOT)),
            C1=get(1, 2, locked=0),
            C2=(get(2, wait=NOT), get(2, wait=NOT)),
        ),
        scenario(
            "deadlines and turns",
            2,
            P1=put(3, locked=0, wait=TIMED),
            P2=put(2, locked=0, wait=TIMED),
            C1=get(1, 2, locked=0, wait=TIMED),
            C2=get(2, locked=0, wait=TIMED),
        ),
        # So much may be done before those who were woken, and no more.
        scenario(
            "overtaking ends",
            1,
            overtakes=1,
            P1=(put(), put(wait=TIMED), put()),
            P2=put(),
            C1=(get(), get()),
            C2=get(wait=TIMED),
            all_end=False,
        ),
        scenario(
            "overtaking ends, turns",
            2,
            overtakes=1,
            P1=put(3, locked=0),
            P2=put(),
            C1=(get(locked=0), get()),
            C2=get(2),
        ),
        scenario(
            "overtaking ends, a handler puts",
            1,
            overtakes=1,
            ticks="C1",
            handler="H",
            all_end=False,
            P1=(put(), put()),
            C1=(get(wait=TIMED), get()),
            C2=get(),
            H=put(wait=TIMED),
        ),
        scenario(
            "overtaking ends, away to allocate",
            2,
            overtakes=1,
            memory=False,
            all_end=False,
            P1=(put(), put(2)),
            C1=get(1, 2, room=0),
            C2=get(1, 2, room=0),
            C3=get(),
        ),
        scenario(
            "overtaking ends, shutdown",
            1,
            overtakes=1,
            P1=(put(), put()),
            P2=put(),
            C1=(get(), get()),
            C2=get(),
            S=shutdown(),
        ),
        scenario(
            "overtaking ends, drop_oldest",
            1,
            overtakes=1,
            overflow=DROP_OLDEST,
            all_end=False,
            P1=(put(), put()),
            P2=put(),
            C1=(get(), get(wait=TIMED)),
            C2=get(),
        ),
        # Signals: the waiter leaves and comes back with its ticket, or a handler raises.
        scenario(
            "signals to a consumer",
            1,
            ticks="C1",
            all_end=False,
            P1=(put(), put()),
            P2=put(),
            C1=(get(), get()),
            C2=(get(), get()),
        ),
        scenario(
            "signals to a producer",
            1,
            ticks="P1",
            all_end=False,
            P1=put(3, wait=TIMED),
            P2=(put(), put()),
            C1=get(),
            C2=(get(), get()),
        ),
        # Its handler uses the same ring meanwhile.
        scenario(
            "a handler puts",
            1,
            ticks="C1",
            handler="H",
            all_end=False,
            P1=put(),
            C1=(get(wait=TIMED), get()),
            C2=get(),
            H=put(2, wait=TIMED),
        ),
        scenario(
            "a handler gets",
            1,
            ticks="C1",
            handler="H",
            all_end=False,
            P1=(put(), put()),
            C1=get(),
            C2=get(),
            H=get(),
        ),
        scenario(
            "signals amid turns",
            2,
            ticks="C1",
            all_end=False,
            P1=put(2, locked=0),
            P2=put(),
            C1=get(1, 2, locked=0, room=1),
            C2=get(2, locked=0, wait=TIMED),
        ),
        # Away to allocate, with a promise; without memory.
        scenario(
            "away to allocate",
            2,
            memory=False,
            all_end=False,
            P1=put(2),
            P2=put(2),
            C1=get(2, room=1),
            C2=get(1, 2, room=1),
            C3=get(),
        ),
        scenario(
            "away, then spinning",
            2,
            spins=True,
            memory=False,
            all_end=False,
            P1=put(2),
            P2=put(),
            C1=get(2, room=1),
            C2=get(),
            C3=get(),
        ),
        # Shutdowns.
        scenario(
            "shutdown",
            1,
            P1=(put(), put()),
            P2=put(2),
            C1=(get(), get()),
            C2=(get(), get()),
            S=shutdown(),
        ),
        scenario(
            "shutdown amid turns",
            2,
            P1=put(3, locked=0),
            P2=put(2, locked=1),
            C1=(get(1, 2, locked=0), get(1, 2, locked=0)),
            C2=get(2, locked=0),
            S=shutdown(),
        ),
        scenario(
            "immediate shutdown",
            2,
            P1=put(3, locked=0),
            P2=put(2, locked=1),
            C1=(get(1, 2, locked=0), get(1, 2, locked=0)),
            C2=get(2, locked=0),
            S=shutdown(immediate=True),
        ),
        scenario(
            "one shutdown, then another",
            2,
            P1=put(3, locked=0),
            P2=put(),
            C1=get(1, 2, locked=0),
            C2=get(),
            S1=shutdown(),
            S2=shutdown(immediate=True),
        ),
        # Blocks, which are out for as long as their owners like. Beside copies; who must not wait for them; shutdowns.
        scenario("blocks", 2, all_end=False, P1=(reserve(2), put()), P2=put(2), C1=peek(1, 2), C2=get(1, 2)),
        scenario("blocks that follow blocks", 2, all_end=False, P1=reserve(2), P2=reserve(), C1=peek(2), C2=peek()),
        scenario(
            "blocks and large copies",
            2,
            all_end=False,
            P1=put(locked=0),
            P2=reserve(),
            P3=put(wait=NOT),
            P4=put(wait=NOT),
            P5=put(wait=NOT),
        ),
        scenario(
            "a peek and large copies",
            1,
            all_end=False,
            P1=put(2),
            C1=get(locked=0),
            C2=peek(),
            C3=snapshot(locked=0),
            C4=get(wait=NOT),
        ),
        scenario(
            "blocks, deadlines",
            2,
            all_end=False,
            P1=reserve(2, wait=TIMED),
            P2=(put(2, wait=TIMED), put(wait=NOT)),
            C1=(peek(2, wait=TIMED), peek(wait=NOT)),
            C2=(get(wait=NOT), get(wait=TIMED)),
        ),
        scenario(
            "blocks, signals",
            1,
            ticks="C1",
            spins=True,
            P1=(reserve(), put()),
            C1=(peek(), get()),
            C2=peek(wait=TIMED),
            all_end=False,
        ),
        scenario("blocks, memory", 1, memory=False, all_end=False, P1=put(2), P2=reserve(), C1=peek(), C2=get()),
        scenario(
            "blocks, shutdown",
            2,
            P1=(reserve(2), reserve()),
            P2=put(2),
            C1=(peek(1, 2), get(wait=NOT)),
            C2=get(2),
            S=shutdown(),
        ),
        scenario(
            "blocks, immediate shutdown",
            2,
            P1=reserve(2),
            P2=put(2),
            C1=peek(1, 2),
            C2=snapshot(locked=0),
            C3=get(),
            S=shutdown(immediate=True),
        ),
        scenario(
            "blocks, overtaking ends",
            1,
            overtakes=1,
            all_end=False,
            P1=(reserve(), put()),
            P2=put(),
            C1=(peek(), get()),
            C2=get(wait=TIMED),
        ),
        scenario(
            "blocks, drop_oldest",
            2,
            overflow=DROP_OLDEST,
            all_end=False,
            P1=(put(2), reserve(2)),
            P2=put(3, locked=0),
            C1=peek(1, 2),
            C2=snapshot(locked=0),
        ),
        scenario(
            "blocks, drop_newest",
            2,
            overflow=DROP_NEWEST,
            P1=(reserve(2), reserve()),
            P2=put(3, locked=0),
            C1=peek(1, 2),
            C2=get(wait=TIMED),
            S=shutdown(),
        ),
        scenario(
            "blocks, fork",
            1,
            all_end=False,
            children=("K1", "K2"),
            P1=(put(), reserve()),
            C1=(peek(), get()),
            F=(fork(), get()),
            K1=reserve(),
            K2=peek(),
        ),
        # Drop policies, with a snapshot, which reads under a turn.
        scenario(
            "drop_oldest",
            2,
            overflow=DROP_OLDEST,
            all_end=False,
            P1=(put(2, locked=0), put(2, locked=0)),
            P2=put(3),
            C1=get(1, 2, locked=0),
            C2=(snapshot(locked=0), get()),
        ),
        scenario(
            "drop_newest",
            2,
            overflow=DROP_NEWEST,
            P1=(put(2, locked=0), put()),
            P2=put(3),
            C1=get(1, 2, locked=0),
            C2=(snapshot(locked=0), get()),
            S=shutdown(immediate=True),
        ),
        scenario(
            "drop_oldest, deadlines",
            1,
            overflow=DROP_OLDEST,
            P1=put(2, locked=0),
            P2=put(locked=0),
            C1=(get(locked=0, wait=TIMED), snapshot(locked=0)),
            C2=(snapshot(locked=0), get(locked=0, wait=TIMED)),
        ),
        scenario(
            "drop_oldest, signals",
            1,
            overflow=DROP_OLDEST,
            ticks="C1",
            memory=False,
            all_end=False,
            P1=(put(locked=0), put()),
            C1=get(locked=0),
            C2=(snapshot(locked=0), get()),
        ),
        scenario(
            "drop_newest, signals",
            1,
            overflow=DROP_NEWEST,
            ticks="P1",
            all_end=False,
            P1=put(2, locked=0),
            P2=put(locked=0),
            C1=(snapshot(locked=0), get(locked=0)),
            C2=get(wait=TIMED),
            S=shutdown(),
        ),
        scenario(
            "drop_oldest, large copies on each side",
            2,
            overflow=DROP_OLDEST,
            ticks="C1",
            memory=False,
            long=True,
            P1=(put(2, locked=0), put(locked=0)),
            P2=put(2, locked=0),
            C1=get(1, 2, locked=0, room=1, wait=TIMED),
            C2=(snapshot(locked=0), get(locked=0, wait=TIMED)),
        ),
        # Coroutines, beside threads and each other, cancelled, on loops that end.
        scenario(
            "coroutines get",
            2,
            loops="AB",
            cancelled="A1",
            all_end=False,
            P1=(put(), put()),
            P2=put(),
            A1=get(),
            A2=get(),
            B1=get(),
            C1=get(),
        ),
        scenario(
            "coroutines put",
            2,
            loops="A",
            cancelled="A1",
            all_end=False,
            A1=put(2),
            A2=put(3),
            P1=put(2),
            C1=(get(1, 2), get(1, 2)),
            C2=get(2),
        ),
        scenario(
            "coroutines, needs that differ",
            2,
            loops="AB",
            cancelled="A1",
            all_end=False,
            P1=put(2),
            P2=(put(), put()),
            A1=get(2),
            B1=get(1, 2),
            C1=get(),
        ),
        scenario(
            "coroutines, loops that are closed",
            1,
            loops="AB",
            cancelled="A1",
            closed="AB",
            all_end=False,
            P1=put(),
            A1=(get(), get()),
            A2=get(),
            B1=put(),
            C1=get(),
        ),
        scenario(
            "coroutines and large copies",
            2,
            loops="AB",
            cancelled="A1 B1",
            closed="A",
            memory=False,
            all_end=False,
            P1=put(3, locked=0),
            A1=get(1, 2, locked=0, room=1),
            B1=put(2, locked=0),
            C1=get(2, locked=0),
        ),
        scenario(
            "coroutines, overtaking ends",
            1,
            loops="AB",
            overtakes=1,
            cancelled="A1",
            all_end=False,
            P1=(put(), put()),
            P2=put(),
            A1=get(),
            B1=get(),
            C1=(get(), get(wait=TIMED)),
        ),
        scenario(
            "coroutines, shutdown",
            2,
            loops="AB",
            cancelled="A1",
            closed="B",
            P1=put(2),
            A1=put(2),
            A2=get(2),
            B1=get(),
            C1=get(),
            S=shutdown(),
        ),
        scenario(
            "coroutines, immediate shutdown",
            2,
            loops="A",
            cancelled="A2",
            all_end=False,
            P1=put(2, locked=0),
            A1=put(2, locked=0),
            A2=get(1, 2, locked=0),
            C1=get(2),
            S=shutdown(immediate=True),
        ),
        scenario(
            "coroutines and blocks",
            1,
            loops="AB",
            cancelled="A1",
            all_end=False,
            P1=reserve(),
            A1=put(),
            B1=get(),
            C1=peek(),
            S=shutdown(),
        ),
        scenario(
            "coroutines, drop_oldest",
            1,
            loops="A",
            overflow=DROP_OLDEST,
            cancelled="A1",
            all_end=False,
            P1=(put(locked=0), reserve()),
            A1=put(locked=0),
            A2=get(),
            C1=get(locked=0),
        ),
        # Its handler runs a loop; the main thread lends what it was promised.
        scenario(
            "a loop in a handler",
            1,
            loops="H",
            ticks="C1",
            handler="H",
            all_end=False,
            P1=put(),
            C1=(get(wait=TIMED), get()),
            C2=get(),
            H=put(),
        ),
        # Forks. K is started in the child.
        scenario(
            "fork",
            2,
            all_end=False,
            children=("K1", "K2"),
            P1=put(3, locked=1),
            C1=get(2, locked=1, room=1),
            F=(fork(), get()),
            K1=put(2),
            K2=(snapshot(), get()),
        ),
        scenario(
            "a handler forks",
            1,
            all_end=False,
            ticks="C1",
            handler="H",
            children=("K1",),
            P1=(put(), put(locked=0)),
            C1=get(),
            C2=get(),
            H=(fork(), put(wait=NOT)),
            K1=(put(), put()),
        ),
        # All of it.
        scenario(
            "everything",
            2,
            spins=True,
            memory=False,
            ticks="C1",
            P1=put(3, locked=1, wait=TIMED),
            P2=put(wait=NOT),
            C1=get(1, 2, locked=1, room=1, wait=TIMED),
            C2=get(2),
            S=shutdown(),
        ),
    )
}


# -- mutations --------------------------------------------------------------------------------------------------------
#
# Each switches off one piece of the protocol.


@dataclass(frozen=True)
class Mutation:
    """A protocol that is wrong, and where that shows."""

    name: str
    scenario: str
    finds: str  # what the violation says
    protocol: type[Protocol]


MUTATIONS: dict[str, Mutation] = {}


def mutation(
    name: str, *, scenario: str, finds: str, among: dict[str, Mutation] = MUTATIONS
) -> Callable[[type[Protocol]], type[Protocol]]:
    def enlist(protocol: type[Protocol]) -> type[Protocol]:
        among[name] = Mutation(name, scenario, finds, protocol)
        return protocol

    return enlist


def mutated(scenario: Scenario, mutations: Iterable[Mutation]) -> type[Protocol]:
    bases = tuple(it.protocol for it in mutations)
    return type("Mutated", bases, {}) if bases else scenario.model or Protocol


# Wake-ups.


@mutation("a get does not SETTLE", scenario="two records each", finds="I3")
class GetDoesNotSettle(Protocol):
    def release(self, t: Thread) -> None:
        if t.op.kind != "get":
            super().release(t)


@mutation("END does not SETTLE", scenario="turns", finds="I3")
class EndDoesNotSettle(Protocol):
    def release(self, t: Thread) -> None:
        if t.at is not COPIED:
            super().release(t)


@mutation("NO MEMORY unlocks without a SETTLE", scenario="away to allocate", finds="I3")
class NoMemoryDoesNotSettle(Protocol):
    def acquire_without_memory(self, t: Thread) -> None:
        self.unhold(t)
        if self.ready(t):
            self.look(t)
        else:
            self.finish(t)


@mutation("the wake-up of a grant is lost", scenario="one record each", finds="was granted, and nobody wakes it")
class WakeIsLost(Protocol):
    def settle(self) -> tuple[int, ...]:
        return super().settle()[1:]


@mutation("a wake-up before the sleep is lost", scenario="one record each", finds="was granted, and nobody wakes it")
class NoTokenIsKept(Protocol):
    def wake(self, woken: Thread) -> None:
        woken.token = woken.at is not ENTERED


@mutation("SETTLE looks at the first waiter only", scenario="needs that differ", finds="I3")
class OnlyTheFirstIsServed(Protocol):
    def servable(self, side: Side) -> Thread | None:
        t = super().servable(side)
        return t if t in side.waiters[:1] else None


@mutation("SETTLE forgets what is promised", scenario="needs that differ", finds="promised already")
class PromisesTwice(Protocol):
    def servable(self, side: Side) -> Thread | None:
        promised, side.promised = side.promised, 0
        t = super().servable(side)
        side.promised = promised
        return t


# Waking up, leaving.


@mutation("no LOOK after RETURN", scenario="two records each", finds="does not wait for what it needs")
class NoLookAfterReturn(Protocol):
    def ready(self, t: Thread) -> bool:
        return t.at in WAITS or super().ready(t)


@mutation("who is granted at its deadline takes no token", scenario="deadlines", finds="freed or is used again")
class TokenIsNotAwaited(Protocol):
    def await_token(self, t: Thread) -> None:
        self.return_(t)


@mutation("who is granted at a tick takes no token", scenario="signals to a consumer", finds="freed or is used again")
class TokenIsNotAwaitedAtATick(TokenIsNotAwaited):
    pass


@mutation("who is granted as it gives up passes nothing on", scenario="deadlines", finds="I3")
class GrantIsForgotten(Protocol):
    def return_(self, t: Thread) -> None:
        if t.at is AWAITS_TOKEN:
            t.token = False
            self.leave(t)
            self.finish(t)
        else:
            super().return_(t)


@mutation("who is granted as it gives up keeps its promise", scenario="deadlines", finds="promises of the gets balance")
class PromiseIsKept(Protocol):
    def leave(self, t: Thread) -> None:
        if t.at is AWAITS_TOKEN:
            t.granted = False
        else:
            super().leave(t)


@mutation("the need stays after the deadline", scenario="without waiting", finds="I3")
class NeedStays(Protocol):
    def node_need(self, t: Thread) -> int:
        return self.need(t)


@mutation("waiters queue by arrival", scenario="signals to a consumer", finds="I2")
class QueuesByArrival(Protocol):
    def enter(self, t: Thread) -> None:
        super().enter(t)
        t.side.waiters.remove(t)
        t.side.waiters.append(t)


@mutation("a put out of time looks for ever", scenario="deadlines", finds="livelock")
class LooksForEver(Protocol):
    def end_piece(self, t: Thread) -> None:
        if t.piece:
            super().end_piece(t)
        else:
            t.at = LOOKS


@mutation("hold is not undone", scenario="away to allocate", finds="promises of the gets balance")
class HoldIsNotUndone(Protocol):
    def unhold(self, t: Thread) -> None:
        t.held = 0


@mutation("who looks for signals passes nothing on", scenario="signals to a consumer", finds="I3")
class SignalsPassNothingOn(Protocol):
    def release(self, t: Thread) -> None:
        if t.at is not HANDLES:
            super().release(t)


@mutation("who looks for signals before it takes keeps its promise", scenario="a handler puts", finds="gets balance")
class PromiseAtATickIsKept(Protocol):
    def end_wait(self, t: Thread) -> None:
        t.held = 0
        super().end_wait(t)


@mutation("who may not overtake never may again", scenario="overtaking ends", finds="only who was woken is overtaken")
class OvertakingStaysForbidden(Protocol):
    def leave(self, t: Thread) -> None:
        overtakes = t.side.overtakes
        super().leave(t)
        t.side.overtakes = overtakes


@mutation(
    "a handler that waits keeps what was promised before", scenario="a handler puts", finds="sleeps, though it could"
)
class HandlerDoesNotLend(Protocol):
    def must_lend(self, t: Thread) -> bool:
        return False


@mutation(
    "who is away keeps others from overtaking",
    scenario="overtaking ends, a handler puts",
    finds="only who was woken is overtaken",
)
class TheAwayAreNotOvertaken(Protocol):
    def overtake(self, side: Side) -> None:
        if side.granted:
            side.overtakes = min(side.overtakes + 1, self.scenario.overtakes)


@mutation("a TRY that may not act unlocks without a SETTLE", scenario="signals amid turns", finds="I3")
class TryDoesNotSettle(Protocol):
    tried: int | None = None

    def try_once(self, t: Thread) -> None:
        self.tried = self.count
        super().try_once(t)
        self.tried = None

    def release(self, t: Thread) -> None:
        if self.tried != self.count:
            super().release(t)


# Copies.


@mutation("the turn is not looked at", scenario="turns", finds="acts in another's turn")
class TurnIsNotLookedAt(Protocol):
    def ready(self, t: Thread) -> bool:
        return self.available(t.side) >= self.need(t) or super().ready(t)


@mutation("what is being read is dropped", scenario="drop_oldest", finds="no slot is written while being read")
class DropsWhatIsRead(Protocol):
    def admit(self, n: int) -> int:
        turn, self.gets.turn = self.gets.turn, FREE
        admitted = super().admit(n)
        self.gets.turn = turn
        return admitted


@mutation("what is being read is discarded", scenario="immediate shutdown", finds="a slot is read that holds no record")
class DiscardsWhatIsRead(Protocol):
    def discard_rest(self) -> None:
        turn, self.gets.turn = self.gets.turn, FREE
        super().discard_rest()
        self.gets.turn = turn


@mutation("a snapshot takes no turn", scenario="drop_oldest", finds="is read that holds no record")
class SnapshotTakesNoTurn(Protocol):
    def copy_in_turn(self, t: Thread, first: int, n: int) -> None:
        super().copy_in_turn(t, first, n)
        t.side.turn = FREE if t.op.kind == "snapshot" else COPYING

    def check_state(self) -> None:
        pass  # else that would be all that is seen: a turn without an owner


# Blocks.


@mutation("SETTLE does not wake who gives up", scenario="blocks, shutdown", finds="I3")
class NobodyIsWokenToGiveUp(Protocol):
    def first_to_give_up(self, side: Side) -> Thread | None:
        return None


@mutation("SETTLE does not wake who is out of time", scenario="blocks and large copies", finds="I3")
class NobodyIsWokenOutOfTime(Protocol):
    def first_to_give_up(self, side: Side) -> Thread | None:
        return next((t for t in side.waiters if not t.expired and self.gives_up(t)), None)


@mutation("a put that must not wait waits for a reservation", scenario="blocks, deadlines", finds="P2 waits for")
class WaitsOutOfTime(Protocol):
    def is_held(self, t: Thread) -> bool:
        return t.op.kind != "put" and super().is_held(t)


@mutation("a put that drops waits for a reservation", scenario="blocks, drop_oldest", finds="P2 waits for")
class WaitsThoughItDrops(Protocol):
    def gives_up(self, t: Thread) -> bool:
        return super().gives_up(t) and (t.expired or self.shut is not OPEN)


@mutation("a shutdown does not end the waiting for a reservation", scenario="blocks, shutdown", finds="I3")
class WaitsThoughItIsShut(Protocol):
    def gives_up(self, t: Thread) -> bool:
        return super().gives_up(t) and t.expired


@mutation("nobody waits for a reservation", scenario="blocks", finds="does not wait for a reservation")
class NobodyWaits(Protocol):
    def gives_up(self, t: Thread) -> bool:
        return True


@mutation("who gives up passes nothing on", scenario="blocks and large copies", finds="I3")
class GivingUpDoesNotSettle(Protocol):
    settles = True

    def give_up(self, t: Thread) -> None:
        self.settles = False
        super().give_up(t)
        self.settles = True

    def release(self, t: Thread) -> None:
        if self.settles:
            super().release(t)


@mutation("END of a block does not SETTLE", scenario="blocks", finds="I3")
class EndOfBlockDoesNotSettle(Protocol):
    def release(self, t: Thread) -> None:
        if t.at is not HAS_BLOCK or t.side.turn == RESERVED:
            super().release(t)


@mutation("a block without records ends without a SETTLE", scenario="blocks that follow blocks", finds="I3")
class EndWithoutRecordsDoesNotSettle(Protocol):
    settles = True

    def end_block_and_release(self, t: Thread, n: int) -> None:
        self.settles = n > 0
        super().end_block_and_release(t, n)
        self.settles = True

    def release(self, t: Thread) -> None:
        if self.settles:
            super().release(t)


@mutation("a put that gives up does not count what it drops", scenario="blocks, drop_newest", finds="offered")
class DropsUncounted(Protocol):
    def drop_rest(self, t: Thread) -> None:
        refused = self.refused
        super().drop_rest(t)
        self.refused = refused


@mutation("drop_oldest drops what is peeked at", scenario="blocks, drop_oldest", finds="no slot is written while being")
class DropsWhatIsPeekedAt(DropsWhatIsRead):
    pass


@mutation(
    "a reservation drops what is peeked at", scenario="blocks, drop_oldest", finds="no slot is written while being"
)
class ReservesWhatIsPeekedAt(Protocol):
    def reserve_slots(self, t: Thread) -> None:
        turn, self.gets.turn = self.gets.turn, FREE
        super().reserve_slots(t)
        self.gets.turn = turn


@mutation("what is peeked at is discarded", scenario="blocks, immediate shutdown", finds="peeks at is not the oldest")
class DiscardsWhatIsPeekedAt(DiscardsWhatIsRead):
    pass


@mutation("a snapshot does not wait for a peek", scenario="blocks, immediate shutdown", finds="acts in another's turn")
class SnapshotDoesNotWait(Protocol):
    def ready(self, t: Thread) -> bool:
        return t.op.kind == "snapshot" or super().ready(t)


@mutation("a block begins after a shutdown", scenario="blocks, drop_newest", finds="a record enters after")
class ReservesThoughItIsShut(Protocol):
    def reserve_slots(self, t: Thread) -> None:
        shut, self.shut = self.shut, OPEN
        super().reserve_slots(t)
        self.shut = shut


@mutation("a shutdown ends a get before a reservation", scenario="blocks, shutdown", finds="a record enters after")
class DrainedBeforeABlock(Protocol):
    def over(self, side: Side) -> bool:
        return super().over(side) or (self.shut is SHUT and self.puts.turn == RESERVED)


@mutation(
    "who gives up beside a peek is told: drained", scenario="blocks, drop_newest", finds="though records are there"
)
class DrainedBesideAPeek(Protocol):
    def may_leave_records(self) -> bool:
        return False


@mutation(
    "END of a block discards nothing", scenario="blocks, immediate shutdown", finds="immediate shutdown leaves nothing"
)
class BlockDiscardsNothing(Protocol):
    def discard_if_shut_now(self, t: Thread) -> None:
        if t.at is not HAS_BLOCK:
            super().discard_if_shut_now(t)


# Forks.


@mutation("a fork leaves a turn taken", scenario="fork", finds="turn of the puts has one owner")
class ForkLeavesTurn(Protocol):
    def forget_turn(self, side: Side) -> None:
        pass


@mutation("a fork amid a copy does not tear", scenario="fork", finds="a fork amid a copy tears the ring")
class ForkDoesNotTear(Protocol):
    def tear(self) -> None:
        pass


@mutation("the child keeps the parent's waiters", scenario="fork", finds="though it does not wait")
class ChildKeepsWaiters(Protocol):
    def forget_waiters(self, side: Side) -> None:
        side.promised = side.granted = 0


@mutation("the child keeps the parent's promises", scenario="fork", finds="balance")
class ChildKeepsPromises(Protocol):
    def forget_waiters(self, side: Side) -> None:
        side.waiters, side.tickets = [], []


@mutation(
    "a promise of before the fork is given back", scenario="a handler forks", finds="promises of the gets balance"
)
class OldPromiseIsGivenBack(Protocol):
    def unhold(self, t: Thread) -> None:
        t.held_forks = self.forks
        super().unhold(t)


@mutation("the child waits by a node of the parent's", scenario="a handler forks", finds="node of the parent's")
class ChildKeepsNodes(Protocol):
    def make_node(self, t: Thread) -> None:
        if t.node == NONE:
            super().make_node(t)


# Coroutines. Those that `queue_model` uses, too, are made of either model.


class CancelledKeepsPromise(Protocol):
    def leave(self, t: Thread) -> None:
        if t.at is SUSPENDED and t.granted:
            t.granted = False
        else:
            super().leave(t)


mutation(
    "a cancelled coroutine keeps what it was promised", scenario="coroutines get", finds="promises of the gets balance"
)(CancelledKeepsPromise)


class WithdrawDoesNotSettle(Protocol):
    def release(self, t: Thread) -> None:
        if t.at is not LETS_GO:
            super().release(t)


mutation("WITHDRAW does not SETTLE", scenario="coroutines get", finds="I3")(WithdrawDoesNotSettle)


class ClosedLoopDoesNotWithdraw(Protocol):
    def goes_on(self, t: Coroutine) -> tuple[str, ...]:
        return () if t.loop.dead else super().goes_on(t)


mutation(
    "a closed loop does not withdraw",
    scenario="coroutines, loops that are closed",
    finds="was granted, and nobody wakes it",
)(ClosedLoopDoesNotWithdraw)


@mutation(
    "a coroutine counts as woken", scenario="coroutines, overtaking ends", finds="only who was woken is overtaken"
)
class CoroutineCountsAsWoken(Protocol):
    def overtake(self, side: Side) -> None:
        if any(t.granted for t in self.threads if t.side is side):
            side.overtakes = min(side.overtakes + 1, self.scenario.overtakes)


class CoroutineEndsSettle(Protocol):
    settles = False

    def is_woken(self, t: Thread) -> bool:
        return self.settles or super().is_woken(t)

    def settle(self) -> tuple[int, ...]:
        self.settles = True
        chain = super().settle()
        self.settles = False
        return chain


mutation("a coroutine's grant ends a SETTLE", scenario="coroutines, needs that differ", finds="I3")(CoroutineEndsSettle)


class NodeIsFreedBeforeItRings(Protocol):
    def let_go(self, t: Coroutine) -> None:
        self.finish(t)


mutation("a node is freed though its bell is still to ring", scenario="coroutines get", finds="freed or is used again")(
    NodeIsFreedBeforeItRings
)


@mutation("a node that waits again counts as rung", scenario="coroutines get", finds="freed or is used again")
class RungStays(Protocol):
    def suspend(self, t: Coroutine) -> None:
        rung = t.rung
        super().suspend(t)
        t.rung = rung


@mutation("a node that has rung is left to who rang", scenario="coroutines get", finds="nobody frees the node")
class RungIsNotLookedAt(Protocol):
    def let_go(self, t: Coroutine) -> None:
        if t.expected:
            self.leave_node(t)
        self.finish(t)


@mutation("who rings for a node of nobody's does not free it", scenario="coroutines get", finds="is freed once")
class RingingFreesNothing(Protocol):
    def wake_next(self, t: Thread) -> None:
        if t.wakes[0] < 0:
            self.threads[-1 - t.wakes[0]].references += 1
        super().wake_next(t)


@mutation("a loop does not free nodes of nobody's", scenario="coroutines get", finds="is freed once")
class AnsweringFreesNothing(Protocol):
    def take_woken(self, loop: Loop) -> list[Coroutine]:
        loop.references += loop.woken.count(loop.orphan)
        return super().take_woken(loop)


@mutation(
    "a closed loop's bell collects nodes", scenario="coroutines, loops that are closed", finds="a node is left to"
)
class DeadBellCollects(Protocol):
    def ring(self, woken: Coroutine) -> None:
        dead, woken.loop.dead = woken.loop.dead, False
        super().ring(woken)
        woken.loop.dead = dead


class BellRingsOnce(Protocol):
    def ring(self, woken: Coroutine) -> None:
        rings = woken.loop.rings
        super().ring(woken)
        if any(t.at is ANSWERED for t in woken.loop.coroutines):
            woken.loop.rings = rings


mutation(
    "the bell does not ring again before who was answered has gone on",
    scenario="coroutines get",
    finds="was granted, and nobody wakes it",
)(BellRingsOnce)


class ReturnStaysInList(Protocol):
    def leave(self, t: Thread) -> None:
        if t.at is not ANSWERED:
            super().leave(t)


mutation(
    "a coroutine that returns does not leave its list", scenario="coroutines get", finds="frees a node that is in"
)(ReturnStaysInList)


@mutation("a coroutine puts what there is room for", scenario="coroutines put", finds="a part of what fits")
class CoroutinePutsAPart(Protocol):
    def need(self, t: Thread) -> int:
        return min(super().need(t), 1) if t.loop and t.side is self.puts else super().need(t)


@mutation("a coroutine's TRY in vain does not SETTLE", scenario="coroutines, needs that differ", finds="I3")
class CoroutinesTryDoesNotSettle(TryDoesNotSettle):
    pass


@mutation("a loop in a handler does not lend", scenario="a loop in a handler", finds="sleeps, though it could")
class LoopDoesNotLend(HandlerDoesNotLend):
    pass


# Shutdowns.


@mutation("a shutdown wakes nobody", scenario="shutdown", finds="I3")
class ShutdownWakesNobody(Protocol):
    def release(self, t: Thread) -> None:
        if t.op.kind != "shutdown":
            super().release(t)


@mutation("a shutdown wakes one a side, which passes nothing on", scenario="shutdown", finds="I3")
class ShutdownWakesOne(Protocol):
    def servable(self, side: Side) -> Thread | None:
        return None if self.shut is not OPEN and side.granted else super().servable(side)

    def release(self, t: Thread) -> None:
        if self.shut is OPEN or t.op.kind == "shutdown":
            super().release(t)


@mutation("a shutdown ends a get before a put in its turn", scenario="shutdown amid turns", finds="drained")
class DrainedTooEarly(Protocol):
    def over(self, side: Side) -> bool:
        return self.shut is not OPEN


@mutation("END of a put discards nothing", scenario="immediate shutdown", finds="an immediate shutdown leaves nothing")
class PutDiscardsNothing(Protocol):
    def discard_if_shut_now(self, t: Thread) -> None:
        if t.side is not self.puts:
            super().discard_if_shut_now(t)


# -- on the command line ----------------------------------------------------------------------------------------------


def main(
    arguments: list[str], scenarios: dict[str, Scenario] = SCENARIOS, mutations: dict[str, Mutation] = MUTATIONS
) -> int:
    if arguments == ["mutations"]:
        return show_mutations(scenarios, mutations)
    if arguments:
        print("usage: protocol_model.py [mutations]", file=sys.stderr)
        return 2
    return show_scenarios(scenarios)


def show_scenarios(scenarios: dict[str, Scenario]) -> int:
    print(f"{'scenario':40} {'states':>8} {'steps':>9} {'ends':>5} {'seconds':>8}")
    began = time.perf_counter()
    total = Exploration()
    failed = 0
    for it in scenarios.values():
        start = time.perf_counter()
        found = explore(it)
        seconds = time.perf_counter() - start
        print(f"{it.name:40} {found.states:8,} {found.steps:9,} {found.ends:5} {seconds:8.1f}", flush=True)
        total.states += found.states
        total.steps += found.steps
        if found.violation:
            failed += 1
            print(found.trace)
    seconds = time.perf_counter() - began
    verdict = f"{failed} of them fail" if failed else "nothing that must not be is reachable"
    print(f"{len(scenarios)} scenarios, {total.states:,} states, {total.steps:,} steps, {seconds:.1f} s: {verdict}")
    return 1 if failed else 0


def show_mutations(scenarios: dict[str, Scenario], mutations: dict[str, Mutation]) -> int:
    missed = []
    for it in mutations.values():
        found = explore(scenarios[it.scenario], it)
        print(f"{it.name}, in the scenario {it.scenario!r}:", found.trace or "not found", "", sep="\n", flush=True)
        if found.violation is None or it.finds not in found.violation:
            missed.append(it.name)
    print(f"{len(mutations)} mutations: " + (f"missed {', '.join(missed)}" if missed else "each is found"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
