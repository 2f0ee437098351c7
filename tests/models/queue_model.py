"""What a `Queue` (`f1buf/queue/queue.pyx`) does on the protocol of `protocol_model`: fast paths, joins, conversion.

Its lock is the GIL, or as that (`attached`); it has no turns. Its steps, beside those of the protocol:

    FAST        a fast path: put or take one item, and unlock without a SETTLE
    RETURN      of the main thread: runs signal handlers every time, and LOOKs after these
    BOUND       set `maxsize`, which cuts the needs of the waiters in the list
    START       `__init__` once more: BOUND, then an empty, open queue
    CONVERT     PLAIN to CONVERTING; then the items are copied without the lock
    CLASSIC     CONVERTING to CLASSIC: the end of all waiting here
    RENEW       in the child of a fork, before its first conversion: no thread is converting any more
    MOVE ON     the operation goes on by the standard library's algorithm
    WITHDRAW    also of a coroutine that has been woken, and then did a FAST, or finds the queue to be CLASSIC

and TASK DONE, CLEAR, SHUTDOWN. An operation that finds the queue on its way to CLASSIC waits for that.

What is left out:

* The algorithm of a classic queue, which is the standard library's, on `threading.Condition`: what would be modelled is
  a lock that is CPython's. Here an operation that MOVEs ON is over.
* The slots, but for whether there are any (`room`): a fast put needs them. That they shrink closes the fast get, for
  no longer than to the next slow one, which `retune`s.
* Items are never looked at; what their `__del__` does comes after the unlock, hence is another thread's doing.
* `unfinished_tasks` set by a program, a new `put` set on the instance, subclasses with hooks (all of them classic).

What is checked. Q2 and Q3 of `queue.pyx`. Items come once and in order, and what was put was taken, cleared, moved to
the container of the classic queue, or is there. Nothing enters a queue that is shut down or full; slots stay as they
are while they are copied.
"""

from __future__ import annotations

from explorer import insist, keeper, takes
from programs import TIMED, Scenario
from protocol_model import (
    ALLOCATES,
    ANSWERED,
    ENDED,
    LOOKS,
    NONE,
    OPEN,
    SHUT,
    WITHDRAWS,
    Coroutine,
    Protocol,
    Thread,
)

PLAIN, CONVERTING, CLASSIC = "plain", "converting", "classic"
# Where a thread is, too: amid an operation of two sections; at the mutex, to go on there.
HALFWAY, FILLS, MOVES = "is halfway", "fills the container", "moves"
WAITING_KINDS = ("put", "put_many", "get", "get_many", "join")


class Queue(Protocol):
    """A queue and its threads."""

    kept = (
        *Protocol.kept,
        *("capacity", "room", "mode", "unfinished", "made_after", "moved", "removed", "put_below", "get_is_fast"),
    )
    freeze_own, thaw_own = keeper(*kept)
    attached = True

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.sides = (self.gets, self.puts, self.joins)
        self.room = False  # whether there are slots allocated
        self.mode = PLAIN
        self.made_after = 0  # how many forks lay behind the process that made the conditions
        self.moved = 0  # ghost: items that went into the classic queue's container
        self.removed = False  # ghost: an immediate shutdown has removed what was there
        self.settled()

    # -- what comes next ----------------------------------------------------------------------------------------------

    def does_without_the_lock(self, t: Thread) -> tuple[str, ...]:
        if t.at is FILLS:
            return ("CLASSIC",) + ("CONVERT, NO MEMORY",) * self.scenario.memory_fails
        if t.at is MOVES or self.mode is not PLAIN:
            return self.moves()
        return ("START",)

    def moves(self) -> tuple[str, ...]:
        """Of an operation that needs the classic queue."""
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
        fails = self.scenario.memory_fails and (t.node != self.forks or not self.room) and not t.done
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

    # -- waiting ------------------------------------------------------------------------------------------------------

    def needs(self, t: Thread) -> int:
        return t.op.least if t.side is self.gets else 1

    def may_spin(self, t: Thread) -> bool:
        return super().may_spin(t) and t.side is not self.joins

    def needs_no_node(self, t: Thread) -> bool:
        return self.may_spin(t) or (self.ready(t) and (t.side is not self.puts or self.room))

    def settled(self) -> None:
        """`retune` the fast paths."""
        is_open = self.mode is PLAIN and self.shut is OPEN and not (self.puts.waiters or self.gets.waiters)
        self.put_below = self.capacity if is_open and self.room else 0
        self.get_is_fast = is_open

    def act(self, t: Thread) -> None:
        """With the lock held, to the unlock."""
        if self.mode is not PLAIN:
            self.say("the queue is", self.mode)
            self.release(t)
            t.at = MOVES
            self.forget_place(t)
        elif t.side is self.joins:
            insist(self.unfinished == 0, "a join ends before all is done")
            self.end(t)
        elif t.side is self.puts:
            self.put_items(t)
        else:
            self.get_items(t)

    # -- items --------------------------------------------------------------------------------------------------------

    @takes("FAST")
    def act_fast(self, t: Thread) -> None:
        if t.op.kind == "put":
            self.push(t)
        else:
            self.pop(1)
        if t.at is ANSWERED:
            t.at = WITHDRAWS
        else:
            self.finish(t)

    def put_items(self, t: Thread) -> None:
        if self.shut is not OPEN or self.count >= self.capacity:
            self.say("Full" if self.shut is OPEN else "ShutDown")
            insist(self.shut is not OPEN or t.expired, f"{t.name} does not wait for what it needs")
            self.end(t)
            return
        for _ in range(min(t.op.n - t.done, self.capacity - self.count)):
            self.push(t)
            t.done += 1
        self.release(t)
        if t.done == t.op.n:
            self.finish(t)
        else:
            t.at = LOOKS
            self.forget_place(t)

    def get_items(self, t: Thread) -> None:
        n = min(t.most, self.count)
        enough = self.count >= min(t.op.least, self.capacity) or t.expired or self.shut is not OPEN
        insist(enough, f"{t.name} does not wait for what it needs")
        if n == 0:
            self.say("Empty" if self.shut is OPEN else "ShutDown")
            self.end(t)
        elif t.op.kind == "get_many" and not t.piece:
            self.say("away to make a list of", n)
            t.piece = t.most = n  # `piece`: there is a list
            t.at = ALLOCATES
            self.release(t)
        else:
            self.pop(n)
            self.end(t)

    def push(self, t: Thread) -> None:
        insist(self.shut is OPEN, "an item enters a queue that is shut down")
        insist(self.count < self.capacity, "an item enters a full queue")
        self.say("puts 1")
        self.room = True
        t.sent += 1
        self.slots = (*self.slots, (t.index, t.sent))
        self.count += 1
        self.unfinished += 1
        self.accepted += 1

    def pop(self, n: int) -> None:
        self.say("takes", n)
        insist(n <= self.count, "what is not there is taken")
        insist(not self.removed, "an item is taken after an immediate shutdown")
        self.taken += n
        self.advance(n)

    def advance(self, n: int) -> None:
        """The n oldest are taken or cleared."""
        self.pass_by(self.slots[:n])
        self.slots = self.slots[n:]

    def take_slots(self) -> None:
        self.discarded += self.count
        self.advance(self.count)
        self.room = False

    # -- operations that do not wait ----------------------------------------------------------------------------------

    @takes("TASK DONE")
    def task_done(self, t: Thread) -> None:
        self.unfinished = max(0, self.unfinished - 1)  # or an error, where nothing is unfinished
        self.end(t)

    @takes("CLEAR")
    def clear(self, t: Thread) -> None:
        self.say("clears", self.count)
        self.unfinished -= min(self.count, self.unfinished)
        self.take_slots()
        self.end(t)

    @takes("BOUND")
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
            waiter.need = min(waiter.need, self.capacity)

    @takes("SHUTDOWN")
    def shutdown(self, t: Thread) -> None:
        self.shut = SHUT
        if t.op.immediate:
            self.removed = True
            self.clear(t)
        else:
            self.end(t)

    @takes("START")
    def start(self, t: Thread) -> None:
        self.take_slots()
        self.unfinished = 0
        self.removed = False
        self.shut = OPEN
        self.end(t)

    # -- on to the standard library's algorithm -----------------------------------------------------------------------

    @takes("CONVERT")
    def convert(self, t: Thread) -> None:
        self.mode = CONVERTING
        self.release(t)
        t.copied = self.slots
        t.at = FILLS

    @takes("CLASSIC")
    def become_classic(self, t: Thread) -> None:
        insist(self.slots == t.copied, "items change while they are copied")
        self.moved += self.count
        self.slots = ()
        self.count = 0
        self.room = False
        self.end_waiting()
        self.mode = CLASSIC
        self.end(t)

    def end_waiting(self) -> None:
        self.shut = ENDED

    @takes("CONVERT, NO MEMORY")
    def stay_plain(self, t: Thread) -> None:
        insist(self.slots == t.copied, "items change while they are copied")
        self.mode = PLAIN
        self.end(t)

    @takes("RENEW")
    def renew(self, t: Thread) -> None:
        self.made_after = self.forks
        if self.mode is CONVERTING:  # by a thread that is not here
            self.mode = PLAIN
        self.release(t)

    @takes("MOVE ON")
    def move_on(self, t: Thread) -> None:
        self.finish(t)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check_state(self) -> None:
        insist(self.count == len(self.slots) and self.unfinished >= 0, "the counters count")
        insist(not self.joins.waiters or self.unfinished != 0, "Q3: nobody waits for what is done")
        super().check_state()
        self.check_fast_paths()

    def check_fast_paths(self) -> None:
        waits = self.puts.waiters or self.gets.waiters
        closed = not self.put_below and not self.get_is_fast
        insist(closed or (self.mode is PLAIN and self.shut is OPEN and not waits), "Q2: a fast path is open")
        insist(self.put_below <= self.capacity, "Q2: a fast put has room")

    def could_act(self, t: Thread, promised: int = 0) -> bool:
        return self.mode is CLASSIC or super().could_act(t, promised)

    def check_end(self) -> None:
        super().check_end()
        gone = self.taken + self.discarded + self.moved
        insist(self.accepted == gone + self.count, "put = taken + cleared + moved + left")
