"""What a ring (`f1buf/ring/ring.pyx`) does on the protocol of `protocol_model`: copies, turns, blocks, signals.

Its steps, beside those of the protocol:

    LOOK        a reserve or a peek ACTs by taking its side's turn for a block. The main thread, where it has waited for
                records: yes, but first away to run signal handlers (HANDLES), and these records are promised to it
                meanwhile. SIGNALS: before it, it may be time to look for signals
    LEND        before a handler's LOOK: lock; give back what the operation that it interrupts was promised; unlock
    TRY         lock; take back what it held; put or take a few records at once, if it may; unlock. It never waits. A
                coroutine may TRY in place of its RETURN
    RETURN      SIGNALS: it is time to look for signals, so it unlocks without a LOOK
    COPY        copy under a turn, without the lock
    END         lock; give the turn back; publish or take; unlock. Of a block, which is out for as long as its owner
                likes: ALL of its records enter or leave the ring, or FEWER, or NONE
    SHUTDOWN    discards, where it is immediate

A put of more than one piece has a node from the first on: later nobody could be told that there is no memory for it.

What is left out:

* A COPY is one step in spite of its many bytes: in no state may the slots of two copies overlap.
* A thread's `try_put` either acts at once, as a LOOK here does, or is one more SETTLE. How much a TRY takes may go by a
  count of before the lock: it is then as one that wants less.
* What a block's owner reads or writes, and when: its slots are read at the LOOK and once more at the END, or written at
  the END; in no state may they overlap with those of another. Where they end at the end of the slots is kept.
* That a thread asks for what a block of its own keeps from it (OWN): here each has one block at a time, and nothing
  else to do meanwhile. So no handler runs amid a block, nor does its owner fork there: a fork finds others' blocks.
* That a block's array outlives its `with`, or that another thread ends it: it is out for longer.
* Records have no size: each operation says from how many on its copy takes a turn. A put's pieces are as long as the
  room and the capacity allow.

What is checked. In every state: I1; R1 and R3 of `ring`. A turn has one owner; no slot is written while it is being
read. In the steps: records are delivered at most once, each producer's in order, without gaps but for what is counted
as dropped or discarded. A put or get ends neither before its need is met nor before its deadline or the shutdown. No
record is there or enters once a get was told that the ring is shut down and drained. What is peeked at stays as it is.
What fits the ring a coroutine puts whole, or not at all. An operation gives up before a reservation has ended where it
is out of time, drops, or would get nothing; there, and only there. At an end: put = taken + dropped + discarded + left;
an immediate shutdown left nothing.
"""

from __future__ import annotations

from typing import Any

from explorer import insist, keeper, takes
from programs import BLOCK, DROP_OLDEST, Scenario
from protocol_model import (
    ALLOCATES,
    ANSWERED,
    COPYING,
    ENDS_OF_BLOCKS,
    FREE,
    HANDLES,
    HAS_BLOCK,
    LOOKS,
    NONE,
    OPEN,
    RESERVED,
    SHUT,
    SHUT_NOW,
    TORN,
    Coroutine,
    Protocol,
    Side,
    Thread,
    must_not_wait,
)

COPIES, COPIED = "copies", "copied"  # where a thread is, too
OWNS_TURN = (COPIES, COPIED, HAS_BLOCK)


class Ring(Protocol):
    """A ring and its threads."""

    kept = (*Protocol.kept, "write_seq", "read_seq", "evicted", "refused", "drained")
    freeze_own, thaw_own = keeper(*kept)

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.slots = (None,) * self.capacity
        self.write_seq = self.read_seq = 0
        self.evicted = self.refused = 0
        self.drained = False  # ghost: a get was told that the ring is shut down and drained

    # -- what comes next ----------------------------------------------------------------------------------------------

    def looks(self, t: Thread) -> tuple[str, ...]:
        if t.op.kind in ("shutdown", "fork"):
            return (t.op.kind.upper(),)
        fails = self.scenario.memory_fails and t.node != self.forks
        tries = t.op.kind == "get" and not (t.node != NONE or t.held or t.spun or t.waited)
        tries |= t.op.kind == "put" and bool(t.loop)
        looks = ("LOOK",) + ("LOOK, SIGNALS",) * (t.ticks and not t.held) + ("LOOK, NO MEMORY",) * fails
        return (("LEND",) if self.must_lend(t) else looks) + ("TRY",) * tries

    def must_lend(self, t: Thread) -> bool:
        return t.amid is not None and t.amid.held != 0

    def waits(self, t: Thread) -> tuple[str, ...]:
        choices = super().waits(t)
        return choices + ("RETURN, SIGNALS",) * ("RETURN" in choices and t.ticks and not t.due)

    def handles(self, t: Thread) -> tuple[str, ...]:
        return super().handles(t) + ("TRY",) * (t.op.kind == "get" and not t.waited and not t.expired)

    def returns(self, t: Coroutine) -> tuple[str, ...]:
        return ("RETURN", "TRY")

    def does_without_the_lock(self, t: Thread) -> tuple[str, ...]:
        if t.at is HAS_BLOCK:
            return ENDS_OF_BLOCKS if t.span[1] > 1 else ("END, ALL", "END, NONE")
        return ("COPY",) if t.at is COPIES else ("END",)

    # -- waiting ------------------------------------------------------------------------------------------------------

    @takes("LOOK, SIGNALS")
    def see_to_signals(self, t: Thread) -> None:
        t.at = HANDLES

    @takes("RETURN, SIGNALS")
    def come_back_due(self, t: Thread) -> None:
        t.due = True
        self.come_back(t)

    @takes("LEND")
    def lend(self, t: Thread) -> None:
        self.unhold(t.amid)
        self.release(t)

    def needs(self, t: Thread) -> int:
        if t.side is self.gets:
            return t.op.least
        if self.scenario.overflow is not BLOCK:
            return 0
        if t.loop:  # what fits the ring enters together
            return min(t.op.n - t.done, self.capacity)
        return t.op.n if t.op.kind == "reserve" else 1

    def needs_no_node(self, t: Thread) -> bool:
        if self.ready(t):
            return t.op.kind != "put" or self.is_one_piece(t)
        return self.is_held(t) or self.may_spin(t)

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
            self.end(t)
        else:
            self.end_in_vain(t)

    def end_in_vain(self, t: Thread) -> None:
        """With the lock held, to the unlock: the operation ends by an exception."""
        end = self.end_of(t.side)
        self.say(end)
        if t.side is self.gets and end == "ShutDown":
            self.drained = True
            insist(self.shut is SHUT_NOW or self.count == 0, "a get is told: drained, though records are there")
        self.end(t)

    def end_of(self, side: Side) -> str:
        """Why an operation that may not act ends."""
        if self.shut is TORN:
            return "RuntimeError"
        ends = self.over(side) and not (side is self.gets and self.may_leave_records())
        return "ShutDown" if ends else "Full" if side is self.puts else "Empty"

    def may_leave_records(self) -> bool:
        """Whether a block is out of what is there after a graceful shutdown: the ring is not drained."""
        return self.shut is SHUT and self.count > 0

    # -- put ----------------------------------------------------------------------------------------------------------

    def put_records(self, t: Thread) -> None:
        if self.shut is not OPEN:
            self.end_in_vain(t)
            return
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

    def is_one_piece(self, t: Thread) -> bool:
        return t.op.n - t.done <= (self.available(t.side) if self.scenario.overflow is BLOCK else self.capacity)

    def drop_rest(self, t: Thread) -> None:
        t.piece = t.op.n - t.done
        self.say("drops what it brings:", t.piece)
        self.refused += t.piece
        self.release(t)
        self.end_piece(t)

    def end_piece(self, t: Thread) -> None:
        """Without the lock: on to the next piece, in the same wait, at the end of the line."""
        self.forget_place(t)
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
        if n > room and (self.scenario.overflow != DROP_OLDEST or self.gets.turn):
            return False
        if n > room:
            self.say("drops the oldest")
            self.evicted += n - room
            self.advance_read(n - room)
        return True

    def fill(self, t: Thread) -> None:
        first, n = t.span
        being_read = self.slots_in_turn(self.gets)
        slots = list(self.slots)
        for i in range(n):
            slot = (first + i) % self.capacity
            insist(slot not in being_read, f"{t.name} writes over what is being read")
            slots[slot] = (t.index, t.sent + i + 1)
        self.slots = tuple(slots)

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

    @takes("TRY")
    def try_once(self, t: Thread) -> None:
        """Where it may not act it SETTLEs all the same."""
        if t.at is ANSWERED:
            self.leave(t)
        t.at = LOOKS
        self.unhold(t)
        free = not t.side.turn and self.may_overtake(t.side)
        if t.side is self.puts:  # only of coroutines; a thread's is as a LOOK, or in vain
            n = min(t.op.n - t.done, self.capacity) if t.loop else t.op.n
            fits = n <= (self.capacity - self.count if self.scenario.overflow is BLOCK else self.capacity)
            if free and fits and self.shut is OPEN and n <= t.op.locked:
                self.act(t)
                return
        else:
            n = min(t.most, self.count)
            if free and self.shut is not TORN and t.op.least <= n <= min(t.room, t.op.locked):
                self.take(self.copy_out(self.read_seq, n))
                self.end(t)
                return
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
        self.end(t)

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
        self.advance_read(len(records))
        self.overtake(self.gets)

    def advance_read(self, n: int) -> None:
        """The n oldest are taken, evicted or discarded."""
        self.pass_by(self.copy_out(self.read_seq, n))
        gone = {seq % self.capacity for seq in range(self.read_seq, self.read_seq + n)}
        self.slots = tuple([None if slot in gone else record for slot, record in enumerate(self.slots)])
        self.read_seq += n

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

    @takes("END, ALL")
    def end_block(self, t: Thread) -> None:
        self.end_block_and_release(t, t.span[1])

    @takes("END, FEWER")
    def end_block_with_fewer(self, t: Thread) -> None:
        self.end_block_and_release(t, t.span[1] - 1)

    @takes("END, NONE")
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
        self.end_get(t)

    # -- turns --------------------------------------------------------------------------------------------------------

    @takes("COPY")
    def copy(self, t: Thread) -> None:
        if t.side is self.puts:
            self.fill(t)
        else:
            t.copied = self.copy_out(*t.span)
        t.at = COPIED

    @takes("END")
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

    @takes("SHUTDOWN")
    def shutdown(self, t: Thread) -> None:
        if t.op.immediate:
            self.shut = TORN if self.shut is TORN else SHUT_NOW
            self.discard_rest()
        elif self.shut is OPEN:
            self.shut = SHUT
        self.end(t)

    def discard_if_shut_now(self, t: Thread) -> None:
        if self.shut is SHUT_NOW:
            self.discard_rest()

    def discard_rest(self) -> None:
        if not self.gets.turn:  # what is being read is its reader's; it discards the rest
            self.say("discards", self.count)
            self.discarded += self.count
            self.advance_read(self.count)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check_state(self) -> None:
        insist(0 <= self.count <= self.capacity, "I1: 0 <= count <= capacity")
        insist(self.count == self.write_seq - self.read_seq, "R1: count == write_seq - read_seq")
        gone = self.taken + self.evicted + self.discarded
        insist(self.read_seq == gone, "R3: what has left was taken, dropped or discarded")
        insist(self.shut is not SHUT_NOW or self.gets.turn or self.count == 0, "an immediate shutdown leaves nothing")
        insist(not self.cut or self.shut is TORN, "a fork amid a copy tears the ring")
        super().check_state()
        for side in self.sides:
            owners = [t.at for t in self.threads if t.side is side and t.at in OWNS_TURN]
            insist(len(owners) == (side.turn != FREE), f"the turn of the {side.name} has one owner")
            insist(
                (HAS_BLOCK in owners) == (side.turn == RESERVED),
                f"a block and nothing else reserves the turn of the {side.name}",
            )
        if self.puts.turn and self.gets.turn:
            both = self.slots_in_turn(self.puts) & self.slots_in_turn(self.gets)
            insist(not both, "no slot is written while being read")

    def check_end(self) -> None:
        super().check_end()
        insist(self.accepted == self.write_seq + self.refused, "offered: what has entered or was refused")
        gone = self.taken + self.evicted + self.refused + self.discarded
        insist(self.accepted == gone + self.count, "put = taken + dropped + discarded + left")
