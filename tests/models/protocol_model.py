"""A model of the lock and wait protocol of `f1buf/core/sync.pyx`: LOOK, SPIN, ENTER, PARK, RETURN, SETTLE, WAKE.

`ring_model` and `queue_model` say what a ring and a Queue do on it: ACT, and of a ring TURN and END. `scenarios` says
which threads there are, `mutations` which pieces must not be missing. `explorer` goes through all interleavings;
`python tests/models/explore.py` shows what it finds. The functions have the names of those in `sync.pyx`. That the code
takes these steps and no others is looked at by `test_protocol_recorded`: a debug build writes down what it does under
the lock, and the model follows.

One step is all that a thread does from lock to unlock, or one thing that it does without the lock:

    LOOK        lock; take back what it held; may I act? Yes: ACT or TURN. No: SPIN (and LOOK later) or ENTER, or give
                up, where a block is out that it must not wait for (HELD). Unlock
    PARK        fall asleep; with the token already there, that is no sleep
    DEADLINE    `park` gives up, for the deadline has come: at any moment of a sleep
    TICK        `park` of the main thread gives up, for it is time to look for signals: at any moment of a sleep
    RETURN      lock; leave the list, or give the promise back; LOOK, and so on; unlock. Where `park` gave up, but the
                waiter has been granted meanwhile: nothing but to wait for the token. LATE: the deadline has come, so
                it acts on what is there. The main thread may unlock without a LOOK, to run signal handlers first
    HANDLERS    a signal handler raised: the operation ends. (Where none did, the next step is LOOK)
    WAKE        deliver one token. A thread wakes all that its SETTLE granted before it does anything else
    RING        the same to a coroutine: its node goes to the bell of its loop, which is told where there was none yet
    ANSWER      the loop sees all nodes for which its bell has rung: their coroutines may go on
    CANCEL      while a coroutine is suspended, at any moment: WITHDRAW
    WITHDRAW    lock; leave the list, or give the promise back; unlock
    LET GO      after that: free the node, or leave that to the thread that is still to ring for it
    CLOSE       a loop ends for good: nothing answers any more, and all coroutines that wait there WITHDRAW
    NO MEMORY   there was none for what it went away to allocate, or (at its LOOK) for its node: the operation ends
    SHUTDOWN    lock; shut; unlock
    FORK        what follows happens in the child: there is only the thread that forked, nothing is promised, no turn is
                taken; a copy that was cut in two tears the buffer

Every unlock SETTLEs, except where nothing was changed.

A coroutine LOOKs and acts as a thread does; where it would sleep it is suspended, and RETURNs once its loop has
answered. Those of one loop run one at a time, each up to where it is suspended or its operation ends.

What a state holds. Of the buffer: the shutdown, the count, the capacity, the unfinished tasks. Of a side: turn, list,
tickets, `promised`, `granted`. Of a thread: where it is, how far its operation got, `expired`, `spun`, `held`; its
node's need, `granted` and token; the wake-ups that it has yet to deliver. So a wake-up can be on its way for as long as
it likes. Ghosts are what the code does not have and no step looks at: they serve the checks alone.

What is left out, and why nothing is lost by it:

* A locked section is one step. What it reads and writes is written under that lock only, but for tokens, which no
  section touches. Spinners read outside the lock, but whatever they see, they lock and LOOK next: so what they see
  is left out, and only that they were away is kept. (A spin in which no other thread takes a step is as good as none.)
* Time has no length. A deadline or tick comes at any moment of a sleep, or not at all; at a RETURN either may have
  come, whatever ended the sleep; and before any LOOK it may be time to look for signals.
* To take the token and to RETURN is one step: in between the sleeper touches nothing, and cannot give up any more.
* What a copy weighs, of which only so much may overtake the threads that wait: here each is one.
* Tickets are kept as the order of their holders: nothing else about them is looked at.
* A node is freed with its operation's last locked section, a little early: that hides no use after it.
* The GIL. No thread waits for it under the lock: so to wait for it is one more way of being slow between two steps, and
  any thread here may be slow anywhere. Without it these interleavings are possible, with it some of them.
* What a signal handler does is what any other thread could do meanwhile, but that its own goes on only after it. So it
  is a program (H) that is run once, wherever the main thread HANDLES or, as the collector would, ALLOCATES.
* After a fork the parent is as if nothing had happened. In the child other threads may be started (K).
* Callers without the GIL: they wait as threads do, without ticks.
* A bell's mutex and its file: that a node is pushed and the loop told is one step, and so is that the loop takes what
  is there and reads its file; told between these two, it would look once more and find nothing.
* A WITHDRAW of a coroutine that neither waits nor was promised anything, as at each end of one that has waited: it is
  one more SETTLE.
* Loops in the child of a fork. In which order a loop goes on with the coroutines that it has answered: here in any.
* Memory order: what is shared is under the lock (and ThreadSanitizer looks after that).

What is checked. In every state, since the lock is free in all of them: I2 and I3. The promises balance: `promised` and
`granted` are those of the waiters that have not returned and of the threads that are away to allocate. A wake-up on its
way, or a token, belongs to a granted waiter that has yet to take it, one to each: never to a node that was freed or
used again. A coroutine's node is freed once, and neither while its bell is to ring for it, nor later than that. Nothing
is promised twice.

Where nothing but time can go on (what is left are deadlines, ticks and ends of blocks): every thread is done, asleep or
has a block, and a thread that sleeps is not granted and may indeed not act. So neither a timeout nor the end of a block
hides a lost wake-up.

At an end (what is left are ticks): all threads are done, unless the scenario lets some sleep on. And from every state
an end can be reached: no livelock.
"""

from __future__ import annotations

from typing import Any

from explorer import Model, insist, keeper, takes
from programs import BLOCK, MANY, NOT, TIMED, Op, Scenario

OPEN, SHUT, SHUT_NOW, TORN, ENDED = "open", "shut", "shut now", "torn", "ended"
FREE, COPYING, RESERVED = 0, 1, 2  # states of a turn
NONE = -1  # no node

# Where a thread is: what it does next, once it has no wake-up left to deliver.
LOOKS, ENTERED, ASLEEP, GAVE_UP, AWAITS_TOKEN = "looks", "entered", "asleep", "gave up", "awaits its token"
HANDLES, ALLOCATES, HAS_BLOCK, DONE = "runs handlers", "allocates", "has a block", "done"
SUSPENDED, ANSWERED, WITHDRAWS, LETS_GO = "is suspended", "may go on", "withdraws", "lets go"  # of coroutines
QUEUED = (ENTERED, ASLEEP, GAVE_UP)
WAITS = (*QUEUED, AWAITS_TOKEN)

TIME = ("DEADLINE", "TICK")  # steps that need not come
ENDS_OF_BLOCKS = ("END, ALL", "END, FEWER", "END, NONE")
LEISURE = (*TIME, *ENDS_OF_BLOCKS, "CANCEL", "CLOSE")  # and those that come after any time


# -- the state --------------------------------------------------------------------------------------------------------


class Thread:
    """A thread, with its operation's wait, its node and its copy."""

    kept = (
        *("place", "sent", "wakes", "at", "expired", "spun", "waited", "held", "held_forks", "need"),
        *("node", "granted", "token", "late", "due", "done", "room", "most", "span", "piece", "copied"),
    )
    freeze, thaw_kept = keeper(*kept)

    def __init__(self, name: str, index: int, program: tuple[Op, ...], m: Protocol) -> None:
        self.name = name
        self.index = index
        self.program = [(op, m.side_of(op.kind)) for op in program] + [(None, None)]
        self.ticks = name in (m.scenario.ticks, m.scenario.handler)
        self.amid: Thread | None = None  # of a handler: the thread that runs it
        self.loop: Loop | None = None  # of a coroutine
        self.place = 0  # in its program
        self.sent = 0  # ghost: how many records it has put; thread and number name a record
        self.wakes: tuple[int, ...] = ()  # the waiters that it granted and has yet to wake
        self.begin()

    def begin(self) -> None:
        """`start_wait` of the operation at `place`, if there is one left."""
        self.op, self.side = self.program[self.place]
        self.at = LOOKS if self.op else DONE
        self.expired = bool(self.op) and self.op.wait is NOT
        self.spun = False
        self.waited = False  # since it last could act: `began` of the code
        self.held = 0
        self.held_forks = 0  # how many forks lay behind its process when it was promised what is `held`
        self.need = 0  # of the node
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
        self.copied: tuple[Any, ...] = ()  # what was read and is to stay as it is

    def vanish(self) -> None:
        """It is not there in the child of a fork, or its loop ends."""
        self.place = len(self.program) - 1
        self.wakes = ()
        self.begin()

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.thaw_kept(state)
        self.op, self.side = self.program[self.place]


class Coroutine(Thread):
    """The same of a coroutine, which its loop runs."""

    freeze, thaw_kept = keeper("rung", "expected", *Thread.kept)

    def begin(self) -> None:
        super().begin()
        self.ticks = False  # its loop sees to signals
        self.rung = False  # of the node: the loop has seen that its bell rang, or it is dead and will not look
        self.expected = False  # while it lets go of the node: the thread that granted it is still to ring

    def is_busy(self) -> bool:
        """Whether its loop can do nothing else now."""
        between = self.at in (SUSPENDED, ANSWERED, DONE) or (self.at is LOOKS and self.node == NONE)
        return bool(self.wakes) or not between


class Loop(Thread):
    """An event loop, with its bell: like a thread, but for that it answers in place of operations."""

    freeze, thaw = keeper("woken", "rings", "dead", "references")

    def __init__(self, letter: str, index: int, m: Protocol) -> None:
        super().__init__(f"loop {letter}", index, (), m)
        self.letter = letter
        self.loop = self
        self.coroutines = [t for t in m.threads if t.name[0] == letter]
        for t in self.coroutines:
            t.loop = self
        self.woken: tuple[int, ...] = ()  # nodes it has rung for since it last answered; `orphan`: one without an owner
        self.rings = False  # its file can be read
        self.dead = False
        self.references = 0  # to its bell, by nodes: how many of these there are
        self.orphan = -1 - index

    def is_busy(self) -> bool:
        return any(t.is_busy() for t in self.coroutines)


class Side:
    """Puts, gets or joins."""

    freeze, thaw = keeper("turn", "waiters", "tickets", "promised", "granted", "overtakes")

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = FREE
        self.forget_waiters()

    def forget_waiters(self) -> None:
        self.waiters: tuple[Thread, ...] = ()  # the list
        self.tickets: tuple[Thread, ...] = ()  # the threads that have one, in the order of the tickets
        self.promised = 0
        self.granted = 0
        self.overtakes = 0  # since a woken thread came back


def without(threads: tuple[Thread, ...], left_out: Thread) -> tuple[Thread, ...]:
    return tuple([t for t in threads if t is not left_out])


# -- the steps --------------------------------------------------------------------------------------------------------


class Protocol(Model):
    """A buffer and its threads in one state, and the steps that lead on from it.

    A subclass has what differs: which steps may come next (`looks`, `returns` of a coroutine, `does_without_the_lock`);
    what an operation needs, and whether a node (`needs`, `needs_no_node`); what it does once it may act, or must give
    up (`act`, `give_up`).
    """

    kept = ("shut", "count", "forks", "handling", "cut", "accepted", "taken", "discarded", "passed", "slots")
    freeze_own, thaw_own = keeper(*kept)
    attached = False  # whether its lock is the GIL, or as that
    unfinished = 0  # tasks

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.capacity = scenario.capacity
        self.puts, self.gets, self.joins = Side("puts"), Side("gets"), Side("joins")
        self.sides = (self.gets, self.puts)  # of a Queue also the joins; in the order of SETTLE
        self.threads: list[Thread] = []
        for name, program in scenario.threads.items():
            kind = Coroutine if name[0] in scenario.loops else Thread
            self.threads.append(kind(name, len(self.threads), program, self))
        self.loops = [Loop(letter, len(self.threads) + i, self) for i, letter in enumerate(scenario.loops)]
        self.threads += self.loops
        for t in self.threads:
            if t.name == scenario.handler:
                t.amid = next(main for main in self.threads if main.name == scenario.ticks)
        self.unborn = {t for t in self.threads if t.name in scenario.children.split()}
        self.handling = False  # whether the handler has begun and not ended
        self.forks = 0  # how many lie behind this process
        self.shut = OPEN
        self.count = 0
        self.slots: tuple[Any, ...] = ()  # the records: (index of the producer, which of its own)
        self.accepted = 0  # ghost: records that are their producers' no more
        self.taken = 0  # ghost: records that consumers have got
        self.discarded = 0
        self.passed = (0,) * len(self.threads)  # ghost: of each producer, the last record that has left
        self.cut = False  # ghost: a fork came amid a copy

    def __str__(self) -> str:
        return str(self.scenario)

    def side_of(self, kind: str) -> Side:
        sides = {"put": self.puts, "put_many": self.puts, "reserve": self.puts, "join": self.joins}
        return sides.get(kind, self.gets)

    def freeze(self) -> tuple[Any, ...]:
        return (self.freeze_own(), *[it.freeze() for it in self.sides], *[t.freeze() for t in self.threads])

    def thaw(self, state: tuple[Any, ...]) -> None:
        own, *rest = state
        self.thaw_own(own)
        for part, its in zip((*self.sides, *self.threads), rest, strict=True):
            part.thaw(its)

    # -- what comes next ----------------------------------------------------------------------------------------------

    def choices(self, t: Thread) -> tuple[str, ...]:
        """The steps that the thread may take now."""
        if t.wakes:
            return ("RING",) if t.wakes[0] < 0 or self.threads[t.wakes[0]].loop else ("WAKE",)
        if not self.runs(t):
            return ()
        if t is t.loop:
            return self.answers(t)
        if t.loop and (t.loop.dead or t.at in (SUSPENDED, ANSWERED, WITHDRAWS, LETS_GO)):
            return self.goes_on(t)
        if t.at is LOOKS:
            return self.looks(t)
        if t.at in WAITS:
            return self.waits(t)
        if t.at is HANDLES:
            return self.handles(t)
        if t.at is ALLOCATES:
            return self.looks(t) + ("NO MEMORY",) * self.scenario.memory_fails
        return () if t.at is DONE else self.does_without_the_lock(t)

    def runs(self, t: Thread) -> bool:
        """Whether it has begun, and is not in a signal handler, which has to end first."""
        if t.amid:  # what the collector runs while the thread allocates is as good as a handler
            return self.handling or (t.amid.at in (HANDLES, ALLOCATES) and not t.amid.wakes)
        if self.handling and t.name == self.scenario.ticks:
            return False
        if t.loop and t is not t.loop and any(other.is_busy() for other in t.loop.coroutines if other is not t):
            return False
        return bool(self.forks) or t not in self.unborn

    def waits(self, t: Thread) -> tuple[str, ...]:
        has_deadline = t.op.wait is TIMED and not t.expired and not t.late
        if t.at is ENTERED:
            return ("PARK",)
        if t.at is ASLEEP and not t.token:
            return ("DEADLINE",) * has_deadline + ("TICK",) * t.ticks
        if t.at is AWAITS_TOKEN and not t.token:
            return ()
        return ("RETURN",) + ("RETURN, LATE",) * has_deadline

    def handles(self, t: Thread) -> tuple[str, ...]:
        return ("LOOK", "HANDLERS")

    def answers(self, loop: Loop) -> tuple[str, ...]:
        if loop.dead or loop.is_busy():
            return ()
        return ("ANSWER",) * loop.rings + ("CLOSE",) * (loop.letter in self.scenario.closed)

    def goes_on(self, t: Coroutine) -> tuple[str, ...]:
        """Of a coroutine that was suspended, or that a closed loop leaves behind."""
        if t.at is LETS_GO:
            return ("LET GO",)
        if t.at is WITHDRAWS or t.loop.dead:
            return ("WITHDRAW",) * (t.at is not DONE)
        return self.returns(t) * (t.at is ANSWERED) + ("CANCEL",) * (t.name in self.scenario.cancelled)

    def step(self, t: Thread, choice: str) -> None:
        super().step(t, choice)
        if t.amid:
            self.handling = t.at is not DONE or bool(t.wakes)

    # -- one operation's wait: `acquire`, `park` ----------------------------------------------------------------------

    @takes("LOOK")
    def acquire(self, t: Thread) -> None:
        t.at = LOOKS
        if t.loop:
            self.make_node(t)
        self.unhold(t)
        self.look(t)

    @takes("LOOK, NO MEMORY")
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
            self.end(t)

    def look(self, t: Thread) -> None:
        """LOOK and what follows, to the unlock."""
        if self.ready(t):
            waited, t.waited = t.waited, False
            if waited and self.looks_for_signals_first(t):
                self.say("may act, but looks for signals first")
                t.at = HANDLES
                self.hold(t, self.needs(t))
                self.release(t)
            else:
                self.act(t)
        elif self.is_held(t):
            t.waited = False
            self.give_up(t)
        else:
            t.waited = not t.loop
            spins, t.spun = self.may_spin(t), True
            if spins:
                self.say("may not act: SPIN")
            else:
                self.say("may not act: ENTER")
                self.make_node(t)
                self.queue_up(t)
            self.release(t)

    def ready(self, t: Thread) -> bool:
        if t.side.turn:
            return False
        if t.expired or self.over(t.side):
            return True
        need = min(self.needs(t), self.capacity)
        return self.available(t.side) >= need and (self.may_overtake(t.side) or need == 0)

    def available(self, side: Side) -> int:
        if side is self.joins:
            return 0 if self.unfinished else MANY
        return max(0, self.capacity - self.count) if side is self.puts else self.count

    def over(self, side: Side) -> bool:
        """Whether a shutdown ends the waiting. Gets still wait for a put that is copying: its records are to come."""
        if side is self.joins:
            return self.shut is ENDED
        return self.shut is not OPEN and not (side is self.gets and self.shut is SHUT and self.puts.turn)

    def may_overtake(self, side: Side) -> bool:
        return not self.scenario.overtakes or side.overtakes < self.scenario.overtakes

    def overtake(self, side: Side) -> None:
        if self.scenario.overtakes and any(t.granted and self.is_woken(t) for t in self.threads if t.side is side):
            side.overtakes = min(side.overtakes + 1, self.scenario.overtakes)

    def is_woken(self, t: Thread) -> bool:
        """Whether a granted waiter will soon be back. A loop may be long in coming."""
        return not t.loop

    def looks_for_signals_first(self, t: Thread) -> bool:
        """The main thread, which waited: a signal that came before the records must not find them taken already."""
        waits_for_records = t.side is self.gets and self.needs(t) != 0
        return not self.attached and t.ticks and waits_for_records and not t.expired and not self.over(t.side)

    def is_held(self, t: Thread) -> bool:
        """HELD: a block is out, and it does not wait for its end."""
        return t.side.turn == RESERVED and self.gives_up(t)

    def gives_up(self, t: Thread) -> bool:
        """Its time is over, its policy drops, or it would get nothing."""
        if t.side is self.puts:
            return t.expired or self.needs(t) == 0 or self.shut is not OPEN
        return t.expired or self.shut in (SHUT_NOW, TORN)

    def may_spin(self, t: Thread) -> bool:
        return self.scenario.spins and not (t.loop or t.spun or t.side.waiters or t.side.turn == RESERVED)

    @takes("PARK")
    def fall_asleep(self, t: Thread) -> None:
        t.at = ASLEEP

    @takes("DEADLINE")
    def give_up_late(self, t: Thread) -> None:
        t.at = GAVE_UP
        t.late = True

    @takes("TICK")
    def give_up_due(self, t: Thread) -> None:
        t.at = GAVE_UP
        t.due = True

    @takes("RETURN, LATE")
    def come_back_late(self, t: Thread) -> None:
        t.late = True
        self.come_back(t)

    @takes("RETURN")
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
        self.leave(t)
        t.expired |= t.late
        ticks = t.ticks if self.attached else t.due and not t.late
        t.token = t.late = t.due = False
        if ticks:
            t.at = HANDLES
            self.release(t)
        else:
            self.look(t)

    @takes("HANDLERS", "NO MEMORY")
    def end_wait(self, t: Thread) -> None:
        """An exception ends the operation."""
        if t.held:
            self.unhold(t)
            self.release(t)
        self.finish(t)

    def end(self, t: Thread) -> None:
        """Unlock; the operation is over."""
        self.release(t)
        self.finish(t)

    def finish(self, t: Thread) -> None:
        """The operation is over, and its node freed."""
        insist(not t.granted and not t.token and t not in t.side.waiters, f"{t.name} frees a node that is in use")
        self.forget_place(t)
        if t.loop and t.node != NONE:
            t.loop.references -= 1
        t.place += 1
        t.begin()
        if t.loop and t.loop.dead:
            t.vanish()

    def forget_place(self, t: Thread) -> None:
        """Between two pieces of one operation: its next wait starts at the end of the line."""
        if t in t.side.tickets:
            t.side.tickets = without(t.side.tickets, t)

    def make_node(self, t: Thread) -> None:
        if t.node != self.forks:
            t.node = self.forks
            if t.loop:
                t.loop.references += 1
            self.forget_place(t)

    # -- lists, grants ------------------------------------------------------------------------------------------------

    def queue_up(self, t: Thread) -> None:
        """ENTER."""
        insist(t.side.turn != RESERVED or not must_not_wait(self, t), f"{t.name} waits for a reservation")
        t.need = self.node_need(t)
        self.enter(t)
        if t.loop:
            self.suspend(t)
        else:
            t.at = ENTERED

    def node_need(self, t: Thread) -> int:
        return 0 if t.expired else min(self.needs(t), self.capacity)

    def enter(self, t: Thread) -> None:
        """By ticket: a waiter that was overtaken, or looked for signals, gets its old place back."""
        side = t.side
        if t not in side.tickets:
            side.tickets = (*side.tickets, t)
        side.waiters = tuple(sorted((*side.waiters, t), key=side.tickets.index))

    def suspend(self, t: Coroutine) -> None:
        t.at = SUSPENDED
        t.rung = False

    def leave(self, t: Thread) -> None:
        side = t.side
        if t.granted:
            t.granted = False
            side.promised -= t.need
            side.granted -= 1
            if self.is_woken(t):
                side.overtakes = 0
        else:
            side.waiters = without(side.waiters, t)
        t.need = 0

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
        stock = MANY if self.over(side) else self.available(side) - side.promised
        return next((t for t in side.waiters if t.need == 0 or t.need <= stock), None)

    def first_to_give_up(self, side: Side) -> Thread | None:
        return next((t for t in side.waiters if self.gives_up(t)), None)

    def grant(self, side: Side) -> list[int]:
        """SETTLE one side: grant up to the first thread, or all after a shutdown, and all joins."""
        granted = []
        t = self.servable(side)
        while t:
            self.say("SETTLE grants", t.name)
            side.waiters = without(side.waiters, t)
            t.granted = True
            side.promised += t.need
            side.granted += 1
            granted.append(t.index)
            if not self.over(side):
                enough = side.promised <= self.available(side) or not t.need
                insist(enough, f"{t.name} is promised what is promised already")
                if self.is_woken(t) and side is not self.joins:
                    break
            t = self.servable(side)
        return granted

    def settle(self) -> list[int]:
        """SETTLE. Returns the threads to wake after the unlock, in this order."""
        return [index for side in self.sides if side.waiters for index in self.grant(side)]

    def settled(self) -> None:
        """What a buffer does at each unlock, after that."""

    def release(self, t: Thread) -> None:
        """SETTLE and unlock; the WAKEs follow."""
        t.wakes += tuple(self.settle())
        self.settled()

    @takes("WAKE", "RING")
    def wake_next(self, t: Thread) -> None:
        index, *wakes = t.wakes
        t.wakes = tuple(wakes)
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

    @takes("ANSWER")
    def answer(self, loop: Loop) -> None:
        loop.rings = False
        for t in self.take_woken(loop):
            self.say(t.name)
            t.at = ANSWERED

    def take_woken(self, loop: Loop) -> list[Coroutine]:
        """The coroutines that have been woken since; free the nodes without an owner."""
        woken, loop.woken = loop.woken, ()
        loop.references -= woken.count(loop.orphan)
        answered = [self.threads[index] for index in woken if index >= 0]
        for t in answered:
            t.rung = True
        return answered

    @takes("CLOSE")
    def close(self, loop: Loop) -> None:
        loop.dead = True
        loop.rings = False
        self.take_woken(loop)
        for t in loop.coroutines:
            if t.at is LOOKS:
                t.vanish()

    @takes("CANCEL", "WITHDRAW")
    def withdraw(self, t: Coroutine) -> None:
        """WITHDRAW, to the unlock. Where it has been woken, `unhold` is what leaves the list."""
        insist(not t.done or t.op.n > self.capacity, f"{t.name} has put a part of what fits")
        t.expected = t.granted
        if t.granted or t in t.side.waiters:
            self.leave(t)
        t.at = LETS_GO
        self.release(t)

    @takes("LET GO")
    def let_go(self, t: Coroutine) -> None:
        if t.expected and not t.rung:
            self.leave_node(t)
        self.finish(t)

    def leave_node(self, t: Coroutine) -> None:
        """To the thread that is still to ring for it, or to the loop, which is to answer: that one frees it."""
        t.node = NONE
        left = t.loop.woken.count(t.index)
        t.loop.woken = tuple(sorted([t.loop.orphan if index == t.index else index for index in t.loop.woken]))
        for other in self.threads:
            left += other.wakes.count(t.index)
            other.wakes = tuple([t.loop.orphan if index == t.index else index for index in other.wakes])
        insist(left == 1, f"nobody frees the node of {t.name}")

    # -- fork ---------------------------------------------------------------------------------------------------------

    @takes("FORK")
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
        side.forget_waiters()

    # -- what must hold -----------------------------------------------------------------------------------------------

    def pass_by(self, records: tuple[Any, ...]) -> None:
        """They leave, as the oldest that are there."""
        passed = list(self.passed)
        for producer, number in records:
            insist(number == passed[producer] + 1, "a record comes twice, out of order, or after a gap")
            passed[producer] = number
        self.passed = tuple(passed)
        self.count -= len(records)

    def check_state(self) -> None:
        """In every state; apart from the protocol's own functions, so that a mutation of those cannot blind it."""
        for side in self.sides:
            check_list(self, side)
            check_grants(self, side)
        check_wake_ups(self)

    def check_rest(self, choices: list[tuple[Thread, str]]) -> bool:
        """Check the states where only time can go on; True for an end."""
        if any(choice not in LEISURE for _, choice in choices):
            return False
        check_sleepers(self)
        if any(choice != "TICK" for _, choice in choices):
            return False
        self.check_end()
        return True

    def check_end(self) -> None:
        insist(not any(loop.woken for loop in self.loops), "a node is left to a loop that is closed")
        ended = self.scenario.some_sleep_on or all(t.at is DONE for t in self.threads if self.runs(t))
        insist(ended, "all threads end")

    def could_act(self, t: Thread, promised: int = 0) -> bool:
        """Whether it need not wait; to give up is to act, too."""
        if t.side is self.joins:
            return self.unfinished == 0
        if t.side.turn:
            return t.side.turn == RESERVED and must_not_wait(self, t)
        if self.shut is not OPEN and not (t.side is self.gets and self.shut is SHUT and self.puts.turn):
            return True
        stock = self.capacity - self.count if t.side is self.puts else self.count
        need = 0 if t.expired else min(self.needs(t), self.capacity)
        return need == 0 or stock >= promised + need

    def describe(self) -> str:
        sides = [
            f"{side.name}: waiting {' '.join(t.name for t in side.waiters) or '-'}, granted {side.granted}, "
            f"promised {side.promised}" + ("", ", turn", ", reserved")[side.turn]
            for side in self.sides
        ]
        threads = ", ".join(f"{t.name} {t.at}" for t in self.threads if self.runs(t) and t is not t.loop)
        return "; ".join([f"{self.shut}, {self.count} of {self.capacity} records", *sides, threads])


def check_list(m: Protocol, side: Side) -> None:
    places = [side.tickets.index(t) for t in side.waiters]
    insist(places == sorted(set(places)), f"I2: the {side.name} wait in the order of their tickets")
    for t in side.waiters:
        insist(not t.granted, f"I2: {t.name} is in the list, though it was granted")
        insist(t.at in QUEUED or t.at is SUSPENDED, f"{t.name} is in the list, though it does not wait")
        insist(t.node == m.forks, f"{t.name} waits by a node of the parent's")


def check_grants(m: Protocol, side: Side) -> None:
    here = [t for t in m.threads if t.side is side]
    promises = [t.need for t in here if t.granted]
    promises += [t.held for t in here if t.held and t.held_forks == m.forks]
    insist((side.granted, side.promised) == (len(promises), sum(promises)), f"the promises of the {side.name} balance")
    woken = any(t.granted and not t.loop for t in here)
    insist(not side.overtakes or woken, f"only woken threads are overtaken among the {side.name}")
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
