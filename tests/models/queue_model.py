"""A model of how those wait who use a `Queue` (PLAIN in `f1buf/queue/queue.pyx`), explored completely.

See `protocol_model`.

Its steps are those of `protocol_model`, without SPIN and turns; apart from these:

    FAST        a fast path: put or take one item, and unlock without a SETTLE
    RETURN      of the main thread: runs signal handlers every time, and LOOKs after these
    BOUND       `maxsize` is set, which cuts what those need who are in the list
    START       `__init__` once more: BOUND, then an empty, open queue
    CONVERT     PLAIN to CONVERTING; FILL is without the lock
    CLASSIC     CONVERTING to CLASSIC: the end of all waiting here
    RENEW       in the child of a fork, before its first conversion: nobody is converting any more
    MOVE ON     the operation goes on by the standard library's algorithm
    WITHDRAW    also of a coroutine that has been woken, and then did a FAST, or finds the queue to be CLASSIC

Whoever finds the queue on its way to CLASSIC waits for that, and goes on there.

What is left out
----------------
* The algorithm of a classic queue, which is the standard library's, on `threading.Condition`: what would be modelled is
  a lock that is CPython's. Here an operation that MOVEs ON is over.
* The slots, but for whether there are any (`room`): a fast put needs them. That they shrink closes the fast get, for
  no longer than to the next slow one, which `retune`s.
* Items are never looked at; what their `__del__` does comes after the unlock, hence is another thread's doing.
* `unfinished_tasks` set by a program, a new `put` set on the instance, subclasses with hooks (all of them classic).
* That there is a GIL: without it, these interleavings are possible; with it, some of them.

What is checked
---------------
I2 and I3 of `sync`, Q2 and Q3 of `queue.pyx`, and what `protocol_model` checks of promises, wake-ups, sleepers, ends.
Items come once and in order, and what was put was taken, cleared, moved to the container of the classic queue, or is
there. Nothing enters a queue that is shut down or full; slots stay as they are while they are copied.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import protocol_model
from protocol_model import (
    ALLOCATES,
    ANSWERED,
    DONE,
    ENTERED,
    FOR_EVER,
    HANDLES,
    LOOKS,
    NONE,
    NOT,
    OPEN,
    SHUT,
    TIMED,
    WITHDRAWS,
    Coroutine,
    Mutation,
    Op,
    Protocol,
    Scenario,
    Side,
    Thread,
    fork,
    insist,
    shutdown,
)

PLAIN, CONVERTING, CLASSIC = "plain", "converting", "classic"
ENDED = "ended"  # the monitor's state once the queue is CLASSIC
# Where a thread is, beside what `protocol_model` has: amid an operation of two sections; at the mutex, to go on there.
HALFWAY, FILLS, MOVES = "is halfway", "fills the container", "moves"
WAITING_KINDS = ("put", "put_many", "get", "get_many", "join")

STEPS = {
    "FAST": "act_fast",
    "LOOK": "acquire",
    "LOOK, NO MEMORY": "acquire_without_memory",
    "PARK": "fall_asleep",
    "DEADLINE": "give_up_late",
    "TICK": "give_up_due",
    "RETURN": "come_back",
    "RETURN, LATE": "come_back_late",
    "HANDLERS": "end_wait",
    "NO MEMORY": "end_wait",
    "WAKE": "wake_next",
    "RING": "wake_next",
    "ANSWER": "answer",
    "CANCEL": "withdraw",
    "WITHDRAW": "withdraw",
    "LET GO": "let_go",
    "CLOSE": "close",
    "TASK DONE": "task_done",
    "CLEAR": "clear",
    "BOUND": "set_bound",
    "SHUTDOWN": "shutdown",
    "START": "start",
    "CONVERT": "convert",
    "CLASSIC": "become_classic",
    "CONVERT, NO MEMORY": "stay_plain",
    "RENEW": "renew",
    "MOVE ON": "finish",
    "FORK": "fork",
}


def put(wait: str = FOR_EVER) -> Op:
    return Op("put", 1, wait=wait)


def put_many(n: int, wait: str = FOR_EVER) -> Op:
    return Op("put_many", n, wait=wait)


def get(wait: str = FOR_EVER) -> Op:
    return Op("get", 1, 1, wait=wait)


def get_many(least: int = 1, most: int | None = None, wait: str = FOR_EVER) -> Op:
    return Op("get_many", least if most is None else most, least, wait=wait)


def bound(maxsize: int) -> Op:
    return Op("bound", maxsize)


def start(maxsize: int) -> Op:
    return Op("start", maxsize)


task_done, join, clear, convert = Op("task_done"), Op("join"), Op("clear"), Op("convert")


class QueueProtocol(Protocol):
    """A queue and its threads in one state, and the steps that lead on from it."""

    steps = STEPS

    def __init__(self, scenario: Scenario) -> None:
        self.joins = Side("joins")
        super().__init__(scenario)
        self.sides = (self.puts, self.gets, self.joins)
        self.slots = []  # the items, oldest first
        self.room = False  # whether there are slots allocated
        self.closed = False
        self.mode = PLAIN
        self.unfinished = 0
        self.made_after = 0  # how many forks lay behind the process that made the conditions
        self.moved = 0  # ghost: items that went into the classic queue's container
        self.removed = False  # ghost: an immediate shutdown has removed what was there
        self.retune()

    def sides_by_kind(self) -> dict[str, Side]:
        return defaultdict(lambda: self.gets, put=self.puts, put_many=self.puts, join=self.joins)

    def freeze(self) -> tuple[Any, ...]:
        return (
            self.capacity,
            self.room,
            self.closed,
            self.mode,
            self.unfinished,
            self.made_after,
            self.moved,
            self.removed,
            self.put_below,
            self.get_is_fast,
            self.joins.freeze(),
            super().freeze(),
        )

    def thaw(self, state: tuple[Any, ...]) -> None:
        (
            self.capacity,
            self.room,
            self.closed,
            self.mode,
            self.unfinished,
            self.made_after,
            self.moved,
            self.removed,
            self.put_below,
            self.get_is_fast,
            joins,
            rest,
        ) = state
        super().thaw(rest)
        self.joins.thaw(joins, self.threads)

    # -- what comes next ----------------------------------------------------------------------------------------------

    def choices(self, t: Thread) -> tuple[str, ...]:
        if t.wakes or not self.runs(t) or t.at not in (HALFWAY, FILLS, MOVES):
            return super().choices(t)
        if t.at is FILLS:
            return ("CLASSIC",) + ("CONVERT, NO MEMORY",) * (not self.scenario.memory)
        if t.at is MOVES or self.mode is not PLAIN:
            return self.moves()
        return ("START",)

    def moves(self) -> tuple[str, ...]:
        """Of somebody who needs the classic queue."""
        if self.made_after != self.forks:
            return ("RENEW",)
        return {PLAIN: ("CONVERT",), CONVERTING: (), CLASSIC: ("MOVE ON",)}[self.mode]

    def looks(self, t: Thread) -> tuple[str, ...]:
        kind = t.op.kind
        if kind == "fork":
            return ("FORK",)
        if kind == "convert" or (self.mode is CLASSIC and t.at is LOOKS):
            # LOOK: it may have asked for the mode before that changed.
            return self.moves() + ("LOOK",) * (kind in WAITING_KINDS)
        if kind not in WAITING_KINDS:
            if self.mode is CONVERTING and kind not in ("bound", "start"):
                return self.moves()
            return ("BOUND",) if kind == "start" else (kind.upper().replace("_", " "),)
        fails = not self.scenario.memory and (t.node != self.forks or not self.room) and not t.done
        return ("LOOK",) + ("FAST",) * self.may_be_fast(t) + ("LOOK, NO MEMORY",) * fails

    def returns(self, t: Coroutine) -> tuple[str, ...]:
        """RETURN, too: it may have asked for the mode before that changed."""
        return ("RETURN",) + ("FAST",) * self.may_be_fast(t) + ("WITHDRAW",) * (self.mode is CLASSIC)

    def may_be_fast(self, t: Thread) -> bool:
        if t.op.wait is TIMED or t.waited or (t.node != NONE and not t.loop):
            return False
        return (t.op.kind == "put" and self.count < self.put_below) or (
            t.op.kind == "get" and self.get_is_fast and self.count > 0
        )

    def waits(self, t: Thread) -> tuple[str, ...]:
        return tuple([choice for choice in super().waits(t) if choice != "RETURN, SIGNALS"])

    # -- one operation's wait -----------------------------------------------------------------------------------------

    def ready(self, t: Thread) -> bool:
        """`may_act`."""
        if t.side is self.joins:
            return self.unfinished == 0 or self.mode is CLASSIC
        if t.expired or self.over(t.side):
            return True
        return self.count >= min(self.need(t), self.capacity) if t.side is self.gets else self.count < self.capacity

    def looks_for_signals_first(self, t: Thread) -> bool:
        return False  # it has done so

    def acquire_without_memory(self, t: Thread) -> None:
        if t.loop:
            super().acquire_without_memory(t)
            return
        t.at = LOOKS
        if self.ready(t) and (t.side is not self.puts or self.room):
            self.look(t)
        else:
            self.say("no memory")
            self.release(t)
            self.finish(t)

    def return_(self, t: Thread) -> None:
        """RETURN and what follows, to the unlock."""
        t.expired |= t.late
        t.token = t.late = t.due = False
        self.leave(t)
        if t.ticks:
            t.at = HANDLES
            self.release(t)
        else:
            self.look(t)

    # -- lists, grants ------------------------------------------------------------------------------------------------

    def need(self, t: Thread) -> int:
        return {"put": 1, "put_many": 1, "join": 0}.get(t.op.kind, t.op.least)

    def node_need(self, t: Thread) -> int:
        return t.wants

    def available(self, side: Side) -> int:
        return max(0, self.capacity - self.count) if side is self.puts else self.count

    def enter(self, t: Thread) -> None:
        t.wants = min(self.need(t), self.capacity)
        super().enter(t)

    def leave(self, t: Thread) -> None:
        super().leave(t)
        t.wants = 0

    def grant_all(self, side: Side, chain: tuple[int, ...]) -> tuple[int, ...]:
        for t in side.waiters:
            self.say("grants", t.name)
            t.granted = True
            side.granted += 1
            chain = (t.index, *chain)
        side.waiters = []
        return chain

    def somebody_waits(self) -> bool:
        return bool(self.puts.waiters or self.gets.waiters)

    def release(self, t: Thread) -> None:
        chain = self.settle() if self.somebody_waits() else ()
        if self.unfinished == 0:
            chain = self.grant_all(self.joins, chain)
        self.retune()
        t.wakes += chain

    def retune(self) -> None:
        is_open = self.mode is PLAIN and not self.closed and not self.somebody_waits()
        self.put_below = self.capacity if is_open and self.room else 0
        self.get_is_fast = is_open

    # -- items --------------------------------------------------------------------------------------------------------

    def push(self, t: Thread) -> None:
        insist(not self.closed, "an item enters a queue that is shut down")
        insist(self.count < self.capacity, "an item enters a full queue")
        self.say("puts 1")
        self.room = True
        t.sent += 1
        self.slots.append((t.index, t.sent))
        self.count += 1
        self.unfinished += 1
        self.accepted += 1

    def pass_by(self, n: int) -> None:
        """The n oldest are taken or cleared."""
        for producer, number in self.slots[:n]:
            insist(number == self.passed[producer] + 1, "an item comes twice, out of order, or after a gap")
            self.passed[producer] = number
        del self.slots[:n]
        self.count -= n

    def pop(self, n: int) -> None:
        self.say("takes", n)
        insist(n <= self.count, "what is not there is taken")
        insist(not self.removed, "an item is taken after an immediate shutdown")
        self.taken += n
        self.pass_by(n)

    def take_slots(self) -> None:
        self.discarded += self.count
        self.pass_by(self.count)
        self.room = False

    # -- operations ---------------------------------------------------------------------------------------------------

    def act_fast(self, t: Thread) -> None:
        if t.op.kind == "put":
            self.push(t)
        else:
            self.pop(1)
        if t.at is ANSWERED:
            t.at = WITHDRAWS
        else:
            self.finish(t)

    def act(self, t: Thread) -> None:
        """With the lock held, to the unlock."""
        if self.mode is not PLAIN:
            self.say("the queue is", self.mode)
            self.release(t)
            self.move(t)
        elif t.op.kind == "join":
            insist(self.unfinished == 0, "a join ends before all is done")
            self.release(t)
            self.finish(t)
        elif t.side is self.puts:
            self.put_items(t)
        else:
            self.get_items(t)

    def move(self, t: Thread) -> None:
        t.at = MOVES
        if t in t.side.tickets:
            t.side.tickets.remove(t)

    def put_items(self, t: Thread) -> None:
        if self.closed or self.count >= self.capacity:
            self.say("ShutDown" if self.closed else "Full")
            insist(self.closed or t.expired, f"{t.name} does not wait for what it needs")
            self.release(t)
            self.finish(t)
            return
        for _ in range(min(t.op.n - t.done, self.capacity - self.count)):
            self.push(t)
            t.done += 1
        self.release(t)
        if t.done == t.op.n:
            self.finish(t)
        else:
            t.at = LOOKS
            if t in t.side.tickets:
                t.side.tickets.remove(t)

    def get_items(self, t: Thread) -> None:
        n = min(t.most, self.count)
        enough = self.count >= min(t.op.least, self.capacity) or t.expired or self.closed
        insist(enough, f"{t.name} does not wait for what it needs")
        if n == 0:
            self.say("ShutDown" if self.closed else "Empty")
            self.release(t)
            self.finish(t)
        elif t.op.kind == "get_many" and not t.piece:
            self.say("away to make a list of", n)
            t.piece = t.most = n  # `piece`: there is a list
            t.at = ALLOCATES
            self.release(t)
        else:
            self.pop(n)
            self.release(t)
            self.finish(t)

    def task_done(self, t: Thread) -> None:
        self.unfinished = max(0, self.unfinished - 1)  # or an error, where nothing is unfinished
        self.release(t)
        self.finish(t)

    def clear(self, t: Thread) -> None:
        self.say("clears", self.count)
        self.unfinished -= min(self.count, self.unfinished)
        self.take_slots()
        self.release(t)
        self.finish(t)

    def set_bound(self, t: Thread) -> None:
        self.capacity = t.op.n
        self.cut_needs()
        self.release(t)
        if t.op.kind == "start":
            t.at = HALFWAY
        else:
            self.finish(t)

    def cut_needs(self) -> None:
        for waiter in self.gets.waiters:
            waiter.wants = min(waiter.wants, self.capacity)

    def shutdown(self, t: Thread) -> None:
        self.closed = True
        self.shut = SHUT
        if t.op.immediate:
            self.removed = True
            self.clear(t)
        else:
            self.release(t)
            self.finish(t)

    def start(self, t: Thread) -> None:
        self.take_slots()
        self.unfinished = 0
        self.closed = self.removed = False
        self.shut = OPEN
        self.release(t)
        self.finish(t)

    # -- on to the standard library's algorithm -----------------------------------------------------------------------

    def convert(self, t: Thread) -> None:
        self.mode = CONVERTING
        self.release(t)
        t.copied = tuple(self.slots)
        t.at = FILLS

    def become_classic(self, t: Thread) -> None:
        insist(tuple(self.slots) == t.copied, "items change while they are copied")
        self.moved += self.count
        self.slots = []
        self.count = 0
        self.room = False
        self.end_waiting()
        self.mode = CLASSIC
        chain = self.grant_all(self.joins, ())
        self.release(t)
        t.wakes += chain
        self.finish(t)

    def end_waiting(self) -> None:
        self.shut = ENDED

    def stay_plain(self, t: Thread) -> None:
        insist(tuple(self.slots) == t.copied, "items change while they are copied")
        self.mode = PLAIN
        self.release(t)
        self.finish(t)

    def renew(self, t: Thread) -> None:
        self.made_after = self.forks
        if self.mode is CONVERTING:  # who was at it is not here
            self.mode = PLAIN
        self.release(t)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check_state(self) -> None:
        check_state(self)

    def check_end(self) -> None:
        check_end(self)

    def check_fast_paths(self) -> None:
        check_fast_paths(self)

    def could_act(self, t: Thread, promised: int = 0) -> bool:
        return could_act(self, t, promised)


def check_state(m: QueueProtocol) -> None:
    """In every state; apart from the protocol's own functions, as in `protocol_model`."""
    insist(m.count == len(m.slots) and m.unfinished >= 0, "the counters count")
    insist(not m.joins.waiters or m.unfinished != 0, "Q3: nobody waits for what is done")
    for side in m.sides:
        protocol_model.check_list(m, side)
        protocol_model.check_grants(m, side)
    protocol_model.check_wake_ups(m)
    m.check_fast_paths()


def check_fast_paths(m: QueueProtocol) -> None:
    waits = m.puts.waiters or m.gets.waiters
    closed = not m.put_below and not m.get_is_fast
    insist(closed or (m.mode is PLAIN and not m.closed and not waits), "Q2: a fast path is open")
    insist(m.put_below <= m.capacity, "Q2: a fast put has room")


def could_act(m: QueueProtocol, t: Thread, promised: int) -> bool:
    if t.op.kind == "join":
        return m.unfinished == 0 or m.mode is CLASSIC
    if m.closed or m.mode is CLASSIC or t.expired:
        return True
    if t.side is m.puts:
        return m.capacity - m.count > promised
    return m.count >= promised + min(m.need(t), m.capacity)


def check_end(m: QueueProtocol) -> None:
    insist(m.accepted == m.taken + m.discarded + m.moved + m.count, "put = taken + cleared + moved + left")
    insist(not m.scenario.all_end or all(t.at is DONE for t in m.threads if m.runs(t)), "all threads end")


# -- scenarios --------------------------------------------------------------------------------------------------------
#
# P puts, C gets, J joins, S shuts down; H is what a signal handler does, K runs in the child of a fork.

SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, maxsize: int, **settings: Any) -> None:
    name = f"queue: {name}"
    SCENARIOS[name] = protocol_model.scenario(name, maxsize, model=QueueProtocol, **settings)


scenario("one slot", 1, P1=(put(), put()), P2=put(), C1=get(), C2=(get(), get()))
scenario("batches", 2, all_end=False, P1=(put(), put_many(2)), P2=put(), C1=(get_many(2), get()), C2=get_many(1, 2))
scenario("batches, one slot", 1, all_end=False, P1=put_many(3), P2=put(), C1=(get_many(2), get()), C2=get_many(1, 2))
scenario(
    "deadlines",
    1,
    all_end=False,
    P1=(put(TIMED), put()),
    P2=put_many(2, TIMED),
    C1=(get_many(1, 2, TIMED), get(NOT)),
    C2=get(),
)
scenario("without memory", 2, memory=False, all_end=False, P1=(put(), put()), P2=put(), C1=get_many(2), C2=get())
scenario(
    "signals to a consumer",
    1,
    ticks="C1",
    handler="H",
    all_end=False,
    P1=(put(), put()),
    C1=(get(TIMED), get_many()),
    C2=get(),
    H=put(NOT),
)
# A finalizer, which the collector runs while a list is made, waits for what another get is to do.
scenario(
    "a finalizer puts",
    2,
    ticks="C1",
    handler="H",
    all_end=False,
    P1=(put(), put()),
    C1=get_many(1, 2),
    C2=get_many(2),
    H=put(),
)
scenario("signals to a producer", 1, ticks="P1", all_end=False, P1=put_many(2, TIMED), P2=put(), C1=get(), C2=get())
scenario("joins", 2, P1=(put(), put(), join), C1=(get(), task_done), C2=(get(), task_done), J1=join)
scenario("signals to a join", 1, ticks="J1", all_end=False, P1=(put(), put()), C1=(get(), task_done), J1=join, J2=join)
scenario("clear", 1, all_end=False, P1=(put(), put()), P2=put(), C1=get(), J1=join, S1=clear)
scenario("maxsize", 2, all_end=False, P1=put_many(3), C1=get_many(2), C2=get(), S1=(bound(1), bound(3)))
scenario("shutdown", 1, P1=put_many(2), P2=put(), C1=(get(), get_many(2)), C2=get(), S1=shutdown())
scenario(
    "immediate shutdown",
    1,
    all_end=False,
    P1=(put(), put()),
    C1=(get_many(), task_done),
    C2=get(TIMED),
    J1=join,
    S1=shutdown(immediate=True),
)
scenario(
    "started anew", 1, all_end=False, P1=(put(), put()), C1=(get_many(2), get()), J1=join, S1=(shutdown(), start(2))
)
scenario("conversion", 1, memory=False, all_end=False, P1=(put(), put()), C1=get(), J1=join, S1=convert)
scenario(
    "conversion amid waits", 1, long=True, P1=put_many(2), P2=put(TIMED), C1=get(TIMED), C2=get(), J1=join, S1=convert
)
scenario("two conversions", 1, P1=put_many(2), C1=get_many(2), S1=convert, S2=(clear, convert))
scenario("conversion, started anew", 1, all_end=False, P1=put(), C1=get(), S1=convert, S2=start(2))
scenario(
    "fork",
    1,
    all_end=False,
    children=("K1", "K2"),
    P1=(put(), put()),
    C1=(get_many(), get()),
    J1=join,
    S1=(fork(), get()),
    K1=put(),
    K2=(get(), task_done),
)
scenario(
    "a handler forks",
    1,
    all_end=False,
    ticks="C1",
    handler="H",
    children=("K1",),
    P1=(put(), put()),
    C1=get_many(),
    C2=get(),
    H=fork(),
    K1=put(),
)
scenario(
    "fork amid a conversion",
    1,
    all_end=False,
    children=("K1",),
    P1=put(),
    C1=get(),
    S1=convert,
    S2=(fork(), get()),
    K1=put(),
)
scenario(
    "coroutines",
    1,
    loops="AB",
    cancelled="A1",
    all_end=False,
    P1=(put(), put()),
    A1=get(),
    A2=put(),
    B1=get(),
    C1=get(),
)
scenario(
    "coroutines put",
    1,
    loops="A",
    cancelled="A1",
    all_end=False,
    A1=put(),
    A2=(put(), put()),
    P1=put(),
    C1=get_many(1, 2),
    C2=get(),
)
scenario(
    "coroutines, batches",
    2,
    loops="AB",
    cancelled="A1",
    memory=False,
    all_end=False,
    P1=put_many(2),
    P2=put(),
    A1=get(),
    B1=get(),
    C1=get_many(2),
)
scenario(
    "coroutines join",
    1,
    loops="A",
    cancelled="A1",
    P1=(put(), put()),
    A1=join,
    A2=(get(), join),
    C1=(get(), task_done),
    J1=(task_done, join),
    all_end=False,
)
scenario(
    "coroutines, loops that are closed",
    1,
    loops="AB",
    cancelled="A1",
    closed="AB",
    all_end=False,
    P1=put(),
    A1=get(),
    A2=join,
    B1=get(),
    C1=(get(), task_done),
)
scenario(
    "coroutines, shutdown",
    1,
    loops="AB",
    cancelled="A1",
    all_end=False,
    P1=put_many(2),
    A1=get(),
    A2=put(),
    B1=join,
    S1=shutdown(immediate=True),
)
scenario(
    "coroutines, conversion",
    1,
    loops="AB",
    cancelled="A1",
    closed="AB",
    memory=False,
    all_end=False,
    P1=put(),
    A1=get(),
    A2=put(),
    B1=join,
    S1=convert,
)
scenario(
    "a loop in a handler",
    1,
    loops="H",
    ticks="C1",
    handler="H",
    all_end=False,
    P1=put(),
    C1=(get(TIMED), get()),
    C2=get(),
    H=put(),
)


# -- mutations --------------------------------------------------------------------------------------------------------

MUTATIONS: dict[str, Mutation] = {}


def mutation(name: str, *, scenario: str, finds: str) -> Any:
    return protocol_model.mutation(f"queue: {name}", scenario=f"queue: {scenario}", finds=finds, among=MUTATIONS)


# The fast paths.


@mutation("the fast path is not closed when somebody waits", scenario="one slot", finds="Q2")
class FastPathStaysOpen(QueueProtocol):
    def retune(self) -> None:
        puts, gets = self.puts.waiters, self.gets.waiters
        self.puts.waiters = self.gets.waiters = []
        super().retune()
        self.puts.waiters, self.gets.waiters = puts, gets


@mutation("the same, and nobody looks at Q2", scenario="one slot", finds="I3")
class FastPathStaysOpenUnnoticed(FastPathStaysOpen):
    def check_fast_paths(self) -> None:
        pass


@mutation("the fast path is not closed by a shutdown", scenario="shutdown", finds="Q2")
class FastPathOutlivesShutdown(QueueProtocol):
    def retune(self) -> None:
        closed, self.closed = self.closed, False
        super().retune()
        self.closed = closed


@mutation("the same of a shutdown", scenario="shutdown", finds="an item enters a queue that is shut down")
class FastPathOutlivesShutdownUnnoticed(FastPathOutlivesShutdown):
    def check_fast_paths(self) -> None:
        pass


@mutation("the fast path is not closed by a conversion", scenario="conversion", finds="items change")
class FastPathOutlivesConversion(QueueProtocol):
    def retune(self) -> None:
        mode, self.mode = self.mode, PLAIN
        super().retune()
        self.mode = mode

    def check_fast_paths(self) -> None:
        pass


@mutation("a smaller maxsize leaves the fast put its bound", scenario="maxsize", finds="Q2")
class FastPutKeepsItsBound(QueueProtocol):
    put_below = 0

    def retune(self) -> None:
        before = self.put_below
        super().retune()
        self.put_below = max(before, self.put_below)


# Wake-ups.


@mutation("who takes items wakes nobody", scenario="batches", finds="I3")
class GetDoesNotSettle(QueueProtocol):
    def release(self, t: Thread) -> None:
        if t.op.kind == "get_many":
            self.retune()
        else:
            super().release(t)


@mutation("a larger maxsize wakes nobody", scenario="maxsize", finds="I3")
class BoundDoesNotSettle(QueueProtocol):
    def release(self, t: Thread) -> None:
        if t.op.kind == "bound":
            self.retune()
        else:
            super().release(t)


@mutation("a smaller maxsize leaves needs that cannot be met", scenario="maxsize", finds="I3")
class NeedsStay(QueueProtocol):
    def cut_needs(self) -> None:
        pass


@mutation("who returns waits for more than fits", scenario="batches, one slot", finds="I3")
class NeedIsNotCut(QueueProtocol):
    def enter(self, t: Thread) -> None:
        super().enter(t)
        t.wants = self.need(t)


@mutation("a shutdown wakes nobody", scenario="shutdown", finds="I3")
class ShutdownWakesNobody(QueueProtocol):
    def release(self, t: Thread) -> None:
        if t.op.kind == "shutdown":
            self.retune()
        else:
            super().release(t)


@mutation("an immediate shutdown is two sections", scenario="immediate shutdown", finds="after an immediate shutdown")
class ShutdownIsTwoSections(QueueProtocol):
    def choices(self, t: Thread) -> tuple[str, ...]:
        return ("CLEAR",) if t.at is HALFWAY and not t.wakes else super().choices(t)

    def shutdown(self, t: Thread) -> None:
        self.closed = self.removed = True
        self.shut = SHUT
        self.release(t)
        t.at = HALFWAY


@mutation("a wake-up before the sleep is lost", scenario="one slot", finds="was granted, and nobody wakes it")
class NoTokenIsKept(QueueProtocol):
    def wake(self, woken: Thread) -> None:
        woken.token = woken.at is not ENTERED


@mutation("who is granted at its deadline takes no token", scenario="deadlines", finds="freed or is used again")
class TokenIsNotAwaited(QueueProtocol):
    def await_token(self, t: Thread) -> None:
        self.return_(t)


@mutation("who is granted at a tick takes no token", scenario="signals to a consumer", finds="freed or is used again")
class TokenIsNotAwaitedAtATick(TokenIsNotAwaited):
    pass


@mutation("who runs handlers passes nothing on", scenario="signals to a consumer", finds="I3")
class SignalsPassNothingOn(QueueProtocol):
    def release(self, t: Thread) -> None:
        if t.at is HANDLES:
            self.retune()
        else:
            super().release(t)


# Joins.


class GrantsNoJoin(QueueProtocol):
    kind = ""

    def release(self, t: Thread) -> None:
        if t.op.kind == self.kind:
            t.wakes += self.settle()
            self.retune()
        else:
            super().release(t)


@mutation("task_done grants no joiner", scenario="joins", finds="Q3")
class TaskDoneGrantsNoJoin(GrantsNoJoin):
    kind = "task_done"


@mutation("clear grants no joiner", scenario="clear", finds="Q3")
class ClearGrantsNoJoin(GrantsNoJoin):
    kind = "clear"


@mutation("an immediate shutdown grants no joiner", scenario="immediate shutdown", finds="Q3")
class ShutdownGrantsNoJoin(GrantsNoJoin):
    kind = "shutdown"


@mutation("a queue that is started anew grants no joiner", scenario="started anew", finds="Q3")
class StartGrantsNoJoin(GrantsNoJoin):
    kind = "start"


@mutation("one joiner is granted, which passes nothing on", scenario="joins", finds="Q3")
class OneJoinIsGranted(QueueProtocol):
    def grant_all(self, side: Side, chain: tuple[int, ...]) -> tuple[int, ...]:
        rest, side.waiters = side.waiters[1:], side.waiters[:1]
        chain = super().grant_all(side, chain)
        side.waiters = rest
        return chain


@mutation("a joiner does not look again", scenario="joins", finds="a join ends before all is done")
class JoinDoesNotLookAgain(QueueProtocol):
    def ready(self, t: Thread) -> bool:
        return super().ready(t) or (t.side is self.joins and t.waited)


# The way to the standard library's algorithm.


@mutation("conversion leaves waiters behind", scenario="conversion", finds="I3")
class ConversionLeavesWaiters(QueueProtocol):
    def end_waiting(self) -> None:
        pass


@mutation("conversion leaves joiners behind", scenario="conversion", finds="I3")
class ConversionLeavesJoiners(QueueProtocol):
    def grant_all(self, side: Side, chain: tuple[int, ...]) -> tuple[int, ...]:
        return chain if self.mode is CLASSIC and self.unfinished else super().grant_all(side, chain)


@mutation("a get goes on while the items are copied", scenario="conversion", finds="items change")
class ActsAmidConversion(QueueProtocol):
    def act(self, t: Thread) -> None:
        mode, self.mode = self.mode, PLAIN if self.mode is CONVERTING else self.mode
        super().act(t)
        self.mode = mode
        self.retune()


@mutation(
    "a queue is started anew while the items are copied", scenario="conversion, started anew", finds="items change"
)
class StartsAmidConversion(QueueProtocol):
    def choices(self, t: Thread) -> tuple[str, ...]:
        starts = t.at is HALFWAY and t.op.kind == "start" and self.mode is CONVERTING and not t.wakes
        return ("START",) if starts else super().choices(t)


# Coroutines.


@mutation(
    "a cancelled coroutine keeps what it was promised", scenario="coroutines", finds="promises of the gets balance"
)
class CancelledKeepsPromise(protocol_model.CancelledKeepsPromise, QueueProtocol):
    pass


@mutation("WITHDRAW does not SETTLE", scenario="coroutines", finds="I3")
class WithdrawDoesNotSettle(protocol_model.WithdrawDoesNotSettle, QueueProtocol):
    pass


@mutation(
    "a closed loop does not withdraw",
    scenario="coroutines, loops that are closed",
    finds="was granted, and nobody wakes it",
)
class ClosedLoopDoesNotWithdraw(protocol_model.ClosedLoopDoesNotWithdraw, QueueProtocol):
    pass


@mutation("a coroutine's grant ends a SETTLE", scenario="coroutines, batches", finds="I3")
class CoroutineEndsSettle(protocol_model.CoroutineEndsSettle, QueueProtocol):
    pass


@mutation("a node is freed though its bell is still to ring", scenario="coroutines", finds="freed or is used again")
class NodeIsFreedBeforeItRings(protocol_model.NodeIsFreedBeforeItRings, QueueProtocol):
    pass


@mutation(
    "the bell does not ring again before who was answered has gone on",
    scenario="coroutines, conversion",
    finds="was granted, and nobody wakes it",
)
class BellRingsOnce(protocol_model.BellRingsOnce, QueueProtocol):
    pass


@mutation(
    "a coroutine that returns does not leave its list", scenario="coroutines join", finds="frees a node that is in use"
)
class ReturnStaysInList(protocol_model.ReturnStaysInList, QueueProtocol):
    pass


@mutation("a coroutine that is served by a fast path does not withdraw", scenario="coroutines", finds="that is in use")
class FastDoesNotWithdraw(QueueProtocol):
    def act_fast(self, t: Thread) -> None:
        t.at = LOOKS
        super().act_fast(t)


@mutation(
    "a coroutine moves on without a WITHDRAW", scenario="coroutines, conversion", finds="frees a node that is in use"
)
class MovesOnWithoutWithdraw(QueueProtocol):
    def returns(self, t: Coroutine) -> tuple[str, ...]:
        return ("MOVE ON",) if self.mode is CLASSIC else super().returns(t)


@mutation("conversion leaves coroutines behind", scenario="coroutines, conversion", finds="I3")
class ConversionLeavesCoroutines(ConversionLeavesWaiters):
    pass


# Forks.


@mutation("the child keeps the parent's joiners", scenario="fork", finds="though it does not wait")
class ChildKeepsJoins(QueueProtocol):
    def forget_waiters(self, side: Side) -> None:
        if side is not self.joins:
            super().forget_waiters(side)


@mutation("the child keeps the parent's promises", scenario="fork", finds="promises of the gets balance")
class ChildKeepsPromises(QueueProtocol):
    def forget_waiters(self, side: Side) -> None:
        promised, granted = side.promised, side.granted
        super().forget_waiters(side)
        side.promised, side.granted = promised, granted


@mutation("the child waits by a node of the parent's", scenario="a handler forks", finds="node of the parent's")
class ChildKeepsNodes(QueueProtocol):
    def make_node(self, t: Thread) -> None:
        if t.node == NONE:
            super().make_node(t)


@mutation("the child waits for the parent's conversion", scenario="fork amid a conversion", finds="deadlock")
class ChildAwaitsConversion(QueueProtocol):
    def renew(self, t: Thread) -> None:
        self.made_after = self.forks
        self.release(t)


if __name__ == "__main__":
    sys.exit(protocol_model.main(sys.argv[1:], SCENARIOS, MUTATIONS))
