"""A model of the protocol of `f1buf/ring/shared.pyx`: processes that share a ring, of which one may be killed anywhere.

`scenarios` says which processes there are, `shared_mutations` which pieces must not be missing. The functions do what
those of `shared.pyx` do. Each step is one access to what the processes share, of those whose order matters:

    TRY         take a side's lock where it is free (`try_lock`), and LOOK
    CONTEND     `lock_contended`: take it; or take a dead one's; or mark it. RETRY: the same after a sleep
    REPAIR      finish what the dead one had begun
    PARK        fall asleep on the lock, unless it has changed since
    GIVE UP     its time is over: wake the next in its place, and go
    UNLOCK      and WAKE LOCKER, where it was marked
    LOOK        with the lock: may it act? Of a put also: how much room is there, and from here on it writes. If not:
                UNLOCK, and wait
    PUBLISH     of a put: its records are in, and it stores the number
    COUNT       of a get that is late, or shut: how many records are there
    TAKE        they are copied, and it stores the number
    OVER        of a get that ends: is it shut, and sealed? ANY: and is there still a record?
    LEAVE       with the lock: what is to be done at the end. In it: `sealed` is stored
    EVICT       with both locks: write down the intent; then FILL what is free
    DISCARD     with the gets' lock, of an immediate shutdown: write down the intent
    ADVANCE     do it; TALLY the counts; SETTLE: it is done
    HAND OUT    a block is out: its turn is stored. END, ALL and END, NONE: its `with` ends
    END TURN    store the number; FREE TURN: store that no block is out
    SHUT        store that it is shut
    BELL        look at the bell, and set its bit where other than one record is needed; but after a shutdown first TRY
                to seal, and when that is SEALED, or cannot be
    LOWER       count the sleeper, and lower `wake_at`; CHECK: may it act now? SLEEP, unless the bell has changed
    WOKEN       uncount it; RELOWER: set `wake_at` to 0 for the others. WOKEN, LATE: the deadline has come, too. WOKEN,
                TICKED: it must look for signals first
    RING        look at `wake_at`, and take it away where it is reached. RING ANYWAY: wherever it is. HUSH: that, and
                CHANGE and WAKE all
    CHANGE      change the bell; WAKE one that sleeps on it, or all
    PASS ON     RING for its own side, where there is something
    HANDLERS    a signal handler raised: the operation ends; LOOK AGAIN: it did not
    DEADLINE    a sleeper's time is over. TICK: it has slept for 50 ms
    KILL        the process is gone, at whatever step it was; others see that (its byte of the file is free)

What a state holds is what the segment holds, and of each process where it is and what it has read. Ghosts are what the
code does not have and no step looks at: they serve the checks alone.

What is left out, and why nothing is lost by it:

* Memory order. Whatever is accessed here is sequentially consistent in the code, or written under one lock alone.
* The bell's number: all that counts is whether it has changed since a process looked (`stale`). So it never wraps.
* Threads of one process: only a kill tells them from processes, and it ends all of them at once.
* Spinning: that is to look once more. What has the GIL only tries: that is to give up, and then to wait.
* Accesses that nobody can tell from one: two loads of which the later one decides; what only the lock's owner touches.
  To take a lock and LOOK is one step: what others do in between they could as well have done before. To UNLOCK is one
  with the step before it, where nobody gives up waiting for a lock, and its owner is not one that may be killed.
* The end of PATIENCE: a lock is waited for as long as it takes, unless the operation itself has a deadline; but
  an eviction may give up at any moment. `Abandoned`: here a process that nobody can serve sleeps on after a kill.
* Ids that come again after 8 million generations, and `close`.
* Time has no length, as in `protocol_model`. A sleep lasts for ever, but where one was killed: then there are ticks.

What is checked. In every state: S1; no record that is published lacks its bytes (a slot that is read while another one
writes it holds none); S4 wherever the gets' lock is free. At each store of a number: S2. As records leave: each once,
in its producer's order, without a gap. A get that says ShutDown leaves no record behind.

Without time no state comes again: so nobody wakes others over and over. Where nothing but time can go on: nobody sleeps
that could act. After a kill: the ticks lead to where that is so; and from every state an end can be reached. At an end
all are done, unless one was killed, or the scenario lets some sleep.
"""

from __future__ import annotations

from typing import Any

from explorer import Model, insist, keeper, takes
from programs import BLOCK, DROP_OLDEST, FOR_EVER, TIMED, Op, Scenario

PUTS, GETS = 0, 1
OPEN, SHUT, SHUT_NOW = 0, 1, 2
NOBODY = 99
CONTENDED = 1
NONE = -1

ENDS_OF_BLOCKS = ("END, ALL", "END, NONE")
LEISURE = ("TICK", "DEADLINE", "KILL", *ENDS_OF_BLOCKS)  # steps that need not come
OWN_SIDE = {"put": PUTS, "reserve": PUTS}

Agenda = tuple[tuple[str, int], ...]  # steps, each with its side


class Process:
    """One that puts or gets, with what it has read."""

    freeze, thaw_kept = keeper(
        *("place", "at", "on", "agenda", "instead", "saw", "stale", "expired", "n", "seq", "done", "sent", "copied"),
        "wakes_all",
    )

    def __init__(self, name: str, index: int, program: tuple[Op, ...], scenario: Scenario) -> None:
        self.name = name
        self.index = index
        self.id = 2 * (index + 1)
        self.program = (*program, None)
        self.scenario = scenario
        self.ticks = name in scenario.ticks.split()
        self.place = 0  # in its program
        self.sent = 0  # ghost: how many records it has put; process and number name a record
        self.begin()

    def begin(self) -> None:
        op = self.op
        self.expired = op is not None and op.wait not in (FOR_EVER, TIMED)
        self.instead: Agenda = ()  # of the agenda, where it gives up waiting for a lock; (): it does not
        self.saw = 0  # what it read of a lock
        self.stale: bool | None = None  # whether the bell has changed since it looked; None: it need not know
        self.n = 0  # records
        self.seq = 0  # the number that it stored
        self.done = 0  # put: records that are the caller's no more
        self.copied: tuple[Any, ...] = ()  # what a block shows
        self.wakes_all = False
        self.agenda: Agenda = ()  # the steps that follow, unless this one knows better
        self.at, self.on = "DONE", PUTS
        if op is None:
            return
        if op.kind == "shutdown":
            self.at = "SHUT"
            return
        self.look_again()

    def look_again(self) -> None:
        """`acquire`, from the beginning."""
        side = OWN_SIDE.get(self.op.kind, GETS)
        last = "HANDLE" if self.ticks else "END"
        self.instead = (("PASS ON", side), (last, side)) if self.ticks or self.op.wait is not FOR_EVER else ()
        self.at, self.on = "TRY", side
        self.agenda = (("LOOK", side),)

    @property
    def op(self) -> Any:
        return self.program[self.place]

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.thaw_kept(state)


class Side:
    """`SharedSide`, with who sleeps on its two futexes."""

    freeze, thaw = keeper(
        *("lock", "turn", "seen", "lost", "discarded", "intent", "seq", "wake_at", "many", "sleepers"),
        *("asleep", "parked"),
    )

    def __init__(self) -> None:
        self.lock = 0
        self.turn = 0
        self.seen = 0
        self.lost = 0
        self.discarded = 0
        self.intent: tuple[int, int, int] | None = None  # with `intends`
        self.seq = 0
        self.wake_at = NOBODY
        self.many = False  # the bell's bit
        self.sleepers = 0
        self.asleep: tuple[int, ...] = ()  # on the bell, the one that has slept longest first
        self.parked: tuple[int, ...] = ()  # on the lock


class Shared(Model):
    """A shared ring and its processes in one state, and the steps that lead on from it."""

    time = (*LEISURE, "GIVE UP", "WOKEN, TICKED")
    freeze_own, thaw_own = keeper("shut", "sealed", "slots", "killed", "passed", "evicted", "thrown")

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.capacity = scenario.capacity
        self.puts, self.gets = self.sides = (Side(), Side())
        self.threads = [
            Process(name, index, program, scenario) for index, (name, program) in enumerate(scenario.threads.items())
        ]
        ops = [op for program in scenario.threads.values() for op in program]
        self.mortal = scenario.kills.split()
        self.is_shut = any(op.kind == "shutdown" for op in ops)  # at some time
        evicts = scenario.overflow == DROP_OLDEST
        self.some_give_up = bool(scenario.ticks) or evicts or any(op.wait is not FOR_EVER for op in ops)
        self.shut = OPEN
        self.sealed = False
        self.slots: tuple[Any, ...] = (None,) * self.capacity  # None: amid a copy, or never written
        self.killed = NONE  # who
        self.passed = (0,) * len(self.threads)  # ghost: of each producer, the last record that has left
        self.parts: dict[Any, Any] = {}
        self.evicted = 0  # ghost
        self.thrown = 0  # ghost: by a shutdown

    def __str__(self) -> str:
        return str(self.scenario)

    def freeze(self) -> tuple[Any, ...]:
        same = self.parts.setdefault  # one object for equal parts: states take a quarter of the memory
        puts, gets = self.puts.freeze(), self.gets.freeze()
        threads = [same(its, its) for its in [t.freeze() for t in self.threads]]
        return (self.freeze_own(), same(puts, puts), same(gets, gets), *threads)

    def thaw(self, state: tuple[Any, ...]) -> None:
        own, puts, gets, *rest = state
        self.thaw_own(own)
        self.puts.thaw(puts)
        self.gets.thaw(gets)
        for t, its in zip(self.threads, rest, strict=True):
            t.thaw(its)

    # -- what comes next ----------------------------------------------------------------------------------------------

    def choices(self, t: Process) -> tuple[str, ...]:
        if t.at in ("DONE", "DEAD") or not self.is_there(t):
            return ()
        return self.goes_on(t) + ("KILL",) * (self.killed == NONE and t.name in self.mortal)

    def is_there(self, t: Process) -> bool:
        """A child takes the place of the one that was killed, with another generation."""
        return self.killed != NONE or t.name not in self.scenario.children.split()

    def goes_on(self, t: Process) -> tuple[str, ...]:
        has_deadline = t.op.wait is TIMED and not t.expired
        if t.at == "PARKED":
            return ("GIVE UP",) * bool(t.instead) + ("TICK",) * (self.killed != NONE)
        if t.at == "RETRY":
            return ("RETRY",) + ("GIVE UP",) * bool(t.instead)
        if t.at == "ASLEEP":
            return ("DEADLINE",) * has_deadline + ("TICK",) * (self.killed != NONE)
        if t.at == "WOKEN":
            return ("WOKEN",) + ("WOKEN, LATE",) * has_deadline + ("WOKEN, TICKED",) * t.ticks
        if t.at == "HANDLE":
            return ("LOOK AGAIN", "HANDLERS")
        return ENDS_OF_BLOCKS if t.at == "BLOCK" else (t.at,)

    def go(self, t: Process, *steps: tuple[str, int]) -> None:
        """These steps next, before those that were to come anyway."""
        agenda = steps + t.agenda
        (t.at, t.on), t.agenda = agenda[0], agenda[1:]
        if t.at == "END":
            self.end(t)
        elif t.at == "LOOK":
            self.look(t)
        elif t.at == "LEAVE" and not self.is_shut:
            self.leave(t)
        elif t.at == "UNLOCK" and not self.some_give_up and t.name not in self.mortal:
            self.unlock(t)

    def end(self, t: Process) -> None:
        """Of the operation, or of a piece of it."""
        if t.op.kind == "put" and 0 < t.done < t.op.n and self.shut is OPEN and not t.expired:
            t.n = t.seq = 0
            t.look_again()
            return
        t.place += 1
        t.begin()

    def need(self, t: Process) -> int:
        drops = t.op.kind in ("put", "reserve") and self.scenario.overflow is not BLOCK
        return 0 if drops else min(t.op.least, self.capacity)

    # -- locks --------------------------------------------------------------------------------------------------------

    @takes("TRY")
    def try_lock(self, t: Process) -> None:
        side = self.sides[t.on]
        if side.lock == 0:
            side.lock = t.id
            self.locked(t)
        else:
            t.at = "CONTEND"

    def locked(self, t: Process) -> None:
        t.instead = ()
        t.saw = 0
        self.go(t)
        if t.at == "LEAVE":
            self.leave(t)

    @takes("CONTEND", "RETRY")
    def contend(self, t: Process) -> None:
        side = self.sides[t.on]
        if side.lock == 0:
            side.lock = t.id | CONTENDED
            self.locked(t)
        elif self.is_dead(side.lock):
            self.take_over(t, side)
        else:
            side.lock |= CONTENDED
            t.saw = side.lock
            t.at = "PARK"

    def take_over(self, t: Process, side: Side) -> None:
        self.say("takes a dead one's lock")
        side.lock = t.id | CONTENDED
        if side.intent is not None:
            t.at = "REPAIR"
        else:
            self.locked(t)

    @takes("REPAIR")
    def repair(self, t: Process) -> None:
        side = self.sides[t.on]
        if side.intent and side.seq == side.intent[0]:
            _, side.lost, side.discarded = side.intent
        side.intent = None
        self.locked(t)

    @takes("PARK")
    def park(self, t: Process) -> None:
        side = self.sides[t.on]
        t.at = "RETRY"
        if side.lock == t.saw:
            t.at = "PARKED"
            side.parked += (t.index,)
        t.saw = 0

    @takes("GIVE UP")
    def give_up_lock(self, t: Process) -> None:
        side = self.sides[t.on]
        side.parked = without(side.parked, t.index)
        t.agenda, t.instead = t.instead, ()
        self.hand_on_lock(t)

    def hand_on_lock(self, t: Process) -> None:
        """It may have been woken for the lock, which it does not take."""
        self.go(t, ("WAKE LOCKER", t.on))

    @takes("UNLOCK")
    def unlock(self, t: Process) -> None:
        side = self.sides[t.on]
        self.must_have(t, side)
        contended = side.lock & CONTENDED
        side.lock = 0
        if contended:
            t.at = "WAKE LOCKER"
        else:
            self.go(t)

    @takes("WAKE LOCKER")
    def wake_locker(self, t: Process) -> None:
        side = self.sides[t.on]
        if side.parked:
            self.threads[side.parked[0]].at = "RETRY"
            side.parked = side.parked[1:]
        self.go(t)

    def is_dead(self, word: int) -> bool:
        return word >> 1 == self.killed + 1

    def is_free(self, side: Side) -> bool:
        if side.turn and self.is_dead(side.turn):
            side.turn = 0
        return side.turn == 0

    def must_have(self, t: Process, side: Side) -> None:
        insist(side.lock >> 1 == t.id >> 1, f"S2: {t.name} does this without the lock")

    # -- numbers ------------------------------------------------------------------------------------------------------

    def there(self, on: int, wanted: int) -> int:
        """`room_there`, `records_for`."""
        side, other = self.sides[on], self.sides[1 - on]
        if on == PUTS:
            if self.capacity - (side.seq - side.seen) < wanted:
                side.seen = other.seq
            return self.capacity - (side.seq - side.seen)
        if not wanted <= side.seen - side.seq:
            side.seen = other.seq
        return side.seen - side.seq

    def over(self, on: int) -> bool:
        if on == PUTS:
            return self.shut != OPEN
        return self.shut == SHUT_NOW or (self.shut != OPEN and self.sealed)

    def may_act(self, on: int, need: int) -> bool:
        side, other = self.sides[on], self.sides[1 - on]
        if side.turn:
            return False
        stock = other.seq - side.seq + (self.capacity if on == PUTS else 0)
        return self.over(on) or stock >= need

    def records(self, first: int, n: int) -> tuple[Any, ...]:
        return tuple([self.slots[seq % self.capacity] for seq in range(first, first + n)])

    def write(self, first: int, records: tuple[Any, ...]) -> None:
        slots = list(self.slots)
        for seq, record in enumerate(records, first):
            slots[seq % self.capacity] = record
        self.slots = tuple(slots)

    def store(self, t: Process, on: int, seq: int) -> None:
        """A side's number. Records leave by that of the gets."""
        side = self.sides[on]
        self.must_have(t, side)
        insist(seq >= side.seq, "S1: a number only grows")
        if on == GETS:
            self.pass_by(self.records(side.seq, seq - side.seq))
        side.seq = seq

    def pass_by(self, records: tuple[Any, ...]) -> None:
        passed = list(self.passed)
        for record in records:
            insist(record is not None, "torn: a record is read that another process writes")
            producer, number = record
            insist(number == passed[producer] + 1, "a record comes twice, out of order, or after a gap")
            passed[producer] = number
        self.passed = tuple(passed)

    def new_records(self, t: Process) -> tuple[Any, ...]:
        return tuple([(t.index, t.sent + 1 + i) for i in range(t.n)])

    # -- with the lock ------------------------------------------------------------------------------------------------

    def look(self, t: Process) -> None:
        side, need = self.sides[t.on], self.need(t)
        if self.is_free(side) and (t.expired or self.over(t.on) or self.there(t.on, need) >= need):
            self.act(t)
        elif side.turn and self.gives_up(t):
            self.give_up(t)
        else:
            self.go(t, ("UNLOCK", t.on), ("BELL", t.on))

    def gives_up(self, t: Process) -> bool:
        """Whether it does not wait for a block's end."""
        if t.on == PUTS:
            return t.expired or self.need(t) == 0 or self.shut != OPEN
        return t.expired or self.shut == SHUT_NOW

    def give_up(self, t: Process) -> None:
        if t.on == GETS and t.op.kind != "snapshot":
            self.go(t, *self.end_of_get())
        else:
            self.go(t, ("LEAVE", t.on), ("END", t.on))

    def act(self, t: Process) -> None:
        if t.on == GETS:
            t.at = "COUNT"
            if not t.expired and not self.is_shut:
                self.count(t)
        elif self.shut != OPEN:
            self.go(t, ("LEAVE", PUTS), ("END", PUTS))
        else:
            wanted = self.wanted(t)
            if self.there(PUTS, wanted) < wanted and self.scenario.overflow == DROP_OLDEST:
                t.instead = (("FILL", PUTS),)
                self.go(t, ("TRY", GETS), ("EVICT", GETS), ("FILL", PUTS))
            else:
                self.fill(t)

    def wanted(self, t: Process) -> int:
        if t.op.kind == "put":
            return min(t.op.n - t.done, self.capacity)
        return min(t.op.n, self.capacity - self.puts.seq % self.capacity)

    @takes("FILL")
    def fill(self, t: Process) -> None:
        wanted = self.wanted(t)
        t.n = min(self.there(PUTS, wanted), wanted)
        if t.op.kind == "reserve":
            self.go(t, *[("HAND OUT", PUTS)] * (t.n > 0), ("LEAVE", PUTS), ("BLOCK" if t.n else "END", PUTS))
            return
        t.done += t.n if self.scenario.overflow is BLOCK else wanted
        if t.n:
            self.begin_copy(t)
            self.go(t, ("PUBLISH", PUTS))
        else:
            self.go(t, ("LEAVE", PUTS), ("END", PUTS))

    def begin_copy(self, t: Process) -> None:
        self.write(self.puts.seq, (None,) * t.n)

    @takes("PUBLISH")
    def publish(self, t: Process) -> None:
        self.write(self.puts.seq, self.new_records(t))
        self.count_published(t)

    def count_published(self, t: Process) -> None:
        t.sent += t.n
        t.seq = self.puts.seq + t.n
        for_next = self.puts.wake_at != NOBODY
        self.store(t, PUTS, t.seq)
        self.go(t, ("LEAVE", PUTS), ("RING", GETS), *[("PASS ON", PUTS)] * for_next, ("END", PUTS))

    @takes("COUNT")
    def count(self, t: Process) -> None:
        gets = self.gets
        if t.op.kind == "snapshot":
            insist(None not in self.records(gets.seq, self.there(GETS, NOBODY)), "torn: a snapshot")
            self.go(t, ("LEAVE", GETS), ("END", GETS))
            return
        t.n = min(t.op.n, self.there(GETS, t.op.n))
        if t.op.kind == "peek":
            t.n = min(t.n, self.capacity - gets.seq % self.capacity)
        if t.n == 0 or self.shut == SHUT_NOW:
            t.n = 0
            self.go(t, *self.end_of_get())
        elif t.op.kind == "peek":
            self.go(t, ("HAND OUT", GETS), ("LEAVE", GETS), ("BLOCK", GETS))
        else:
            t.at = "TAKE"

    def end_of_get(self) -> Agenda:
        return (("OVER", GETS), ("ANY", GETS), ("LEAVE", GETS), ("END", GETS))

    @takes("OVER")
    def see_whether_over(self, t: Process) -> None:
        t.copied = (self.over(GETS),)
        self.go(t)

    @takes("ANY")
    def see_whether_any(self, t: Process) -> None:
        t.copied += (self.there(GETS, 1) > 0,)
        self.go(t)

    def end_get(self, t: Process) -> None:
        """What it says, if it says that it is over."""
        over, some = t.copied
        t.copied = ()
        if over and not some and self.shut == SHUT:
            insist(self.puts.seq == self.gets.seq, "a get says ShutDown, and a record is left behind")

    @takes("TAKE")
    def take(self, t: Process) -> None:
        t.seq = self.gets.seq + t.n
        for_next = self.gets.wake_at != NOBODY
        self.store(t, GETS, t.seq)
        self.go(t, ("LEAVE", GETS), ("RING", PUTS), *[("PASS ON", GETS)] * for_next, ("END", GETS))

    @takes("LEAVE")
    def leave(self, t: Process) -> None:
        """With the lock, which it releases."""
        if t.on == GETS:
            self.leave_gets(t)
        else:
            self.leave_puts(t)

    def leave_gets(self, t: Process) -> None:
        if t.copied and t.op.kind in ("get", "peek") and isinstance(t.copied[0], bool):
            self.end_get(t)
        steps = [("DISCARD", GETS)] * (self.shut == SHUT_NOW) + [("UNLOCK", GETS)]
        if t.agenda[0][0] != "RING" and self.gets.wake_at != NOBODY:  # it took nothing
            steps.append(("PASS ON", GETS))
        self.go(t, *steps)

    def leave_puts(self, t: Process) -> None:
        if self.shut == OPEN:
            self.go(t, ("UNLOCK", PUTS))
            return
        if self.is_free(self.puts):
            self.sealed = True
        rest = (("TRY", GETS), ("LEAVE", GETS)) if self.shut == SHUT_NOW else ()
        tells = (("HUSH", GETS),) if self.sealed or self.shut == SHUT_NOW else ()
        t.agenda = tuple([it for it in t.agenda if it[0] not in ("RING", "PASS ON") or it == ("RING", PUTS)])
        self.go(t, ("UNLOCK", PUTS), *rest, *tells)

    # -- evictions ----------------------------------------------------------------------------------------------------

    @takes("EVICT")
    def evict(self, t: Process) -> None:
        gets = self.gets
        lack = self.wanted(t) - self.there(PUTS, self.wanted(t))
        if lack > 0 and self.is_free(gets):
            self.intend(t, lack, 0)
        else:
            self.go(t, ("UNLOCK", GETS))

    @takes("DISCARD")
    def discard(self, t: Process) -> None:
        n = self.there(GETS, NOBODY)
        if n and self.is_free(self.gets):
            self.intend(t, 0, n)
        else:
            self.go(t)

    def intend(self, t: Process, lost: int, discarded: int) -> None:
        gets = self.gets
        gets.intent = (gets.seq + lost + discarded, gets.lost + lost, gets.discarded + discarded)
        self.go(t, ("ADVANCE", GETS), ("TALLY", GETS), ("SETTLE", GETS), *[("UNLOCK", GETS)] * (lost > 0))

    @takes("ADVANCE")
    def advance(self, t: Process) -> None:
        gets = self.gets
        n = gets.intent[0] - gets.seq
        if gets.intent[1] > gets.lost:
            self.evicted += n
        else:
            self.thrown += n
        self.store(t, GETS, gets.intent[0])
        self.go(t)

    @takes("TALLY")
    def tally(self, t: Process) -> None:
        _, self.gets.lost, self.gets.discarded = self.gets.intent
        self.go(t)

    @takes("SETTLE")
    def settle(self, t: Process) -> None:
        self.gets.intent = None
        self.go(t)

    # -- blocks -------------------------------------------------------------------------------------------------------

    @takes("HAND OUT")
    def hand_out(self, t: Process) -> None:
        side = self.sides[t.on]
        side.turn = t.id
        if t.on == PUTS:
            self.begin_copy(t)
        else:
            t.copied = self.records(side.seq, t.n)
        self.go(t)

    @takes("END, ALL")
    def end_all(self, t: Process) -> None:
        side = self.sides[t.on]
        if t.on == PUTS:
            self.write(side.seq, self.new_records(t))
        else:
            insist(t.copied == self.records(side.seq, t.n), "torn: what a block shows has changed")
        t.copied = ()
        self.end_block(t)

    @takes("END, NONE")
    def end_none(self, t: Process) -> None:
        t.copied = ()
        t.n = 0
        self.end_block(t)

    def end_block(self, t: Process) -> None:
        on = t.on
        self.go(
            t,
            *(("TRY", on), ("END TURN", on), ("FREE TURN", on), ("LEAVE", on), ("RING", 1 - on), ("RING ANYWAY", on)),
            ("END", on),
        )

    @takes("END TURN")
    def end_turn(self, t: Process) -> None:
        if t.on == PUTS:
            t.sent += t.n
        t.seq = self.sides[t.on].seq + t.n
        self.store(t, t.on, t.seq)
        self.go(t)

    @takes("FREE TURN")
    def free_turn(self, t: Process) -> None:
        self.sides[t.on].turn = 0
        self.go(t)

    # -- shutdown -----------------------------------------------------------------------------------------------------

    @takes("SHUT")
    def shut_down(self, t: Process) -> None:
        self.shut = max(self.shut, SHUT_NOW if t.op.immediate else SHUT)
        self.go(t, ("TRY", PUTS), ("LEAVE", PUTS), ("HUSH", PUTS), ("HUSH", GETS), ("END", PUTS))

    # -- waiting ------------------------------------------------------------------------------------------------------

    @takes("BELL")
    def look_at_bell(self, t: Process) -> None:
        if t.on == GETS and self.shut != OPEN and not self.sealed:
            self.go(t, ("TRY", PUTS), ("LEAVE", PUTS), ("SEALED", GETS))
        else:
            self.begin_sleep(t)

    @takes("SEALED")
    def begin_sleep(self, t: Process) -> None:
        side = self.sides[t.on]
        if self.wants_many(t) and not side.many:
            side.many = True
            self.change(side)
        t.stale = False
        t.at = "LOWER"

    def wants_many(self, t: Process) -> bool:
        return self.need(t) != 1

    def change(self, side: Side) -> None:
        """The bell is another than those saw that are about to sleep."""
        on = self.sides.index(side)
        for t in self.threads:
            if t.stale is False and t.on == on:
                t.stale = True

    @takes("LOWER")
    def lower(self, t: Process) -> None:
        side, need = self.sides[t.on], self.need(t)
        side.sleepers += 1
        from_seq = 0
        if need and not side.turn:
            from_seq = max(0, side.seq + need - (self.capacity if t.on == PUTS else 0))
        side.wake_at = min(side.wake_at, from_seq)
        t.at = "CHECK"

    @takes("CHECK")
    def check(self, t: Process) -> None:
        t.at = "SLEEP"
        if self.may_act(t.on, self.need(t)):
            t.stale = None
            t.at = "WOKEN"

    @takes("SLEEP")
    def sleep(self, t: Process) -> None:
        t.at = "WOKEN"
        if not t.stale:
            t.at = "ASLEEP"
            self.sides[t.on].asleep += (t.index,)
        t.stale = None

    @takes("WOKEN")
    def woken(self, t: Process) -> None:
        side = self.sides[t.on]
        on, others = t.on, side.sleepers != 1
        side.sleepers -= 1
        t.look_again()
        if others:
            self.relower_before(t, on)

    def relower_before(self, t: Process, on: int) -> None:
        t.agenda = ((t.at, t.on), *t.agenda)
        t.at, t.on = "RELOWER", on

    @takes("WOKEN, LATE")
    def woken_late(self, t: Process) -> None:
        t.expired = True
        self.woken(t)

    @takes("WOKEN, TICKED")
    def woken_ticked(self, t: Process) -> None:
        self.woken(t)
        t.agenda, t.instead = (("PASS ON", t.on), ("HANDLE", t.on)), ()
        if t.at != "RELOWER":
            self.go(t)

    @takes("LOOK AGAIN")
    def comes_back(self, t: Process) -> None:
        t.look_again()

    @takes("HANDLERS")
    def is_interrupted(self, t: Process) -> None:
        t.place += 1
        t.begin()

    @takes("RELOWER")
    def relower(self, t: Process) -> None:
        self.sides[t.on].wake_at = 0
        self.go(t)

    @takes("DEADLINE")
    def deadline(self, t: Process) -> None:
        t.expired = True
        self.tick(t)

    @takes("TICK")
    def tick(self, t: Process) -> None:
        side = self.sides[t.on]
        if t.at == "PARKED":
            side.parked = without(side.parked, t.index)
            t.at = "RETRY"
        else:
            side.asleep = without(side.asleep, t.index)
            t.at = "WOKEN"

    # -- waking -------------------------------------------------------------------------------------------------------

    @takes("RING")
    def wake_from(self, t: Process) -> None:
        seq, t.seq = t.seq, 0
        self.ring_if(t, seq >= self.sides[t.on].wake_at)

    @takes("RING ANYWAY")
    def ring(self, t: Process) -> None:
        self.ring_if(t, True)

    @takes("PASS ON")
    def pass_on(self, t: Process) -> None:
        reached = self.sides[1 - t.on].seq >= self.sides[t.on].wake_at
        self.ring_if(t, reached and self.may_act(t.on, 1))

    def ring_if(self, t: Process, reached: bool) -> None:
        side = self.sides[t.on]
        if reached and side.wake_at != NOBODY:
            side.wake_at = NOBODY
            self.go(t, ("CHANGE", t.on), ("WAKE", t.on))
        else:
            self.go(t)

    @takes("HUSH")
    def wake_everybody(self, t: Process) -> None:
        self.sides[t.on].wake_at = NOBODY
        t.wakes_all = True
        self.go(t, ("CHANGE", t.on), ("WAKE", t.on))
        if t.name not in self.mortal:
            self.change_bell(t)
            self.wake(t)

    @takes("CHANGE")
    def change_bell(self, t: Process) -> None:
        side = self.sides[t.on]
        t.wakes_all |= side.many
        side.many = False
        self.change(side)
        self.go(t)

    @takes("WAKE")
    def wake(self, t: Process) -> None:
        side = self.sides[t.on]
        n = len(side.asleep) if t.wakes_all else 1
        for index in side.asleep[:n]:
            self.say("wakes", self.threads[index].name)
            self.threads[index].at = "WOKEN"
        side.asleep = side.asleep[n:]
        t.wakes_all = False
        self.go(t)

    # -- the kill -----------------------------------------------------------------------------------------------------

    @takes("KILL")
    def kill(self, t: Process) -> None:
        self.killed = t.index
        for side in self.sides:
            side.asleep = without(side.asleep, t.index)
            side.parked = without(side.parked, t.index)
        t.place = len(t.program) - 1
        t.begin()
        t.at = "DEAD"

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check_state(self) -> None:
        puts, gets = self.sides
        insist(gets.seq <= puts.seq <= gets.seq + self.capacity, "S1: gets.seq <= puts.seq <= gets.seq + capacity")
        insist(None not in self.records(gets.seq, puts.seq - gets.seq), "torn: a record is published without its bytes")
        if gets.lock == 0:
            balance = (gets.lost, gets.discarded, gets.intent) == (self.evicted, self.thrown, None)
            insist(balance, "S4: what was dropped and discarded is counted")

    def check_rest(self, choices: list[tuple[Process, str]]) -> bool:
        if any(choice not in LEISURE and not (choice == "GIVE UP" and t.at == "PARKED") for t, choice in choices):
            return False
        in_vain = [t.name for t in self.threads if self.could_act(t)]
        if self.killed == NONE:
            insist(not in_vain, f"{' and '.join(in_vain)} could act, and sleeps, and nobody will act")
        if in_vain or any(choice not in ("TICK", "KILL") for _, choice in choices):
            return False
        left = self.puts.seq - self.gets.seq
        insist(self.killed != NONE or self.shut != SHUT_NOW or left == 0, "an immediate shutdown leaves records behind")
        some_sleep = self.killed != NONE or self.scenario.some_sleep_on
        insist(some_sleep or all(t.at == "DONE" for t in self.threads if self.is_there(t)), "all end")
        return True

    def could_act(self, t: Process) -> bool:
        """Of one that sleeps where nobody does anything: apart from the protocol's own functions."""
        if t.at == "PARKED":
            return True
        if t.at != "ASLEEP":
            return False
        side = self.sides[t.on]
        if side.turn and side.turn >> 1 != self.killed + 1:
            return False
        if self.shut == SHUT_NOW or (self.shut == SHUT and (t.on == PUTS or not self.block_is_out())):
            return True
        count = self.puts.seq - self.gets.seq
        return (count if t.on == GETS else self.capacity - count) >= (0 if t.expired else self.need(t))

    def block_is_out(self) -> bool:
        """One of a living producer's."""
        return bool(self.puts.turn) and self.puts.turn >> 1 != self.killed + 1

    def describe(self) -> str:
        sides = [
            f"{name}: seq {side.seq}, lock {side.lock}, turn {side.turn}, wake_at {side.wake_at}, asleep {side.asleep}"
            for name, side in zip(("puts", "gets"), self.sides, strict=True)
        ]
        return "; ".join([*sides, ", ".join(f"{t.name} {t.at}" for t in self.threads)])


def without(them: tuple[int, ...], left_out: int) -> tuple[int, ...]:
    return tuple([it for it in them if it != left_out])
