# The sides of a segment: their locks, their numbers, and waiting for them. Part of shared.pyx, whose header has the
# reasoning.

# -- locks --------------------------------------------------------------------------------------------------------

cdef inline bint try_lock(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    cdef uint32_t free = 0
    if not side.lock.compare_exchange_strong(free, self.here.id.load(memory_order_relaxed)):
        return False
    at(LOCKED)
    return self.here.closed.load() == 0 or give_back(self, side)


cdef bint give_back(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """False. The ring was closed meanwhile: by now the lock may be taken for a dead one's, and be another's."""
    cdef uint32_t mine = self.here.id.load() | CONTENDED
    if not side.lock.compare_exchange_strong(mine, 0):
        mine = self.here.id.load()
        side.lock.compare_exchange_strong(mine, 0)
    futex_wake(&side.lock, 1)
    return False


cdef inline void unlock(SharedSide* side) noexcept nogil:
    if side.lock.exchange(0) & CONTENDED:
        futex_wake(&side.lock, 1)
    at(UNLOCKED)


cdef void give_way(SharedSide* side) noexcept nogil:
    """Between two pieces of one large put: let those that have been woken for the lock get it, which takes a while."""
    cdef int64_t until = now_ns() + WAKING_NS
    cdef int _
    while side.waiting.load() != 0 and side.lock.load() == 0 and now_ns() < until:
        for _ in range(16):
            spin_pause()


cdef inline Outcome lock(SharedRingBuffer self, SharedSide* side, Wait* w, bint heeds_shutdown) noexcept nogil:
    """DONE, TICKED, CLOSED, SHUT_DOWN; or FULL: the time is over, and somebody else copies, or is stopped amid that."""
    cdef Outcome outcome
    if try_lock(self, side):
        return DONE
    self.here.locking.fetch_add(1)
    outcome = lock_slowly(self, side, w, heeds_shutdown)
    self.here.locking.fetch_sub(1)
    return outcome


cdef Outcome lock_slowly(SharedRingBuffer self, SharedSide* side, Wait* w, bint heeds_shutdown) noexcept nogil:
    """`lock`, where it is not free."""
    cdef Outcome outcome
    cdef int64_t now
    cdef int64_t until
    cdef int _
    now = now_ns()
    if side.cpu.load(memory_order_relaxed) != current_cpu():
        until = now + LOCK_SPIN_NS
        while now < until:
            for _ in range(16):
                spin_pause()
            if side.lock.load(memory_order_relaxed) == 0 and try_lock(self, side):
                return DONE
            now = now_ns()
    until = w.deadline if w.deadline > now else now + PATIENCE_NS
    while True:
        if self.here.closed.load() == 0 and lock_contended(self, side, min(until, w.tick, now + TICK_NS)):
            return DONE if self.here.closed.load() == 0 or give_back(self, side) else CLOSED
        now = now_ns()
        if self.here.closed.load() != 0:
            outcome = CLOSED
        elif heeds_shutdown and is_shut(self, side):
            outcome = SHUT_DOWN
        elif now >= until:
            outcome = FULL
        elif now >= w.tick:
            w.tick = now + SIGNAL_TICK_NS
            outcome = TICKED
        else:
            continue
        futex_wake(&side.lock, 1)  # it may have been woken for the lock; then the next one must look
        return outcome


cdef inline bint is_shut(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """Whether nothing can be done on a side any more, whatever a thread does that has its lock."""
    cdef uint32_t how = self.here.segment.shut.load()
    return how == SHUT_NOW or (how != OPEN and side == &self.here.segment.puts)


cdef bint lock_contended(SharedRingBuffer self, SharedSide* side, int64_t until) noexcept nogil:
    """Take the lock, from a dead one too, or sleep once; whether it has been taken.

    It is marked as contended, for others may sleep for it; who leaves it then wakes one.
    """
    cdef uint32_t before = side.lock.load()
    if before == 0 or is_dead(self, before):
        return lock_left(self, side, before)
    if not before & CONTENDED:
        if not side.lock.compare_exchange_strong(before, before | CONTENDED):
            return False
        before |= CONTENDED
    side.waiting.fetch_add(1)
    futex_sleep(&side.lock, before, until)
    side.waiting.fetch_sub(1)
    return False


cdef bint lock_left(SharedRingBuffer self, SharedSide* side, uint32_t by) noexcept nogil:
    """Take a lock that is free (`by` 0), or a dead one's; False where another thread was there before."""
    cdef uint32_t before = by
    if not side.lock.compare_exchange_strong(before, self.here.id.load() | CONTENDED):
        return False
    at(LOCKED)
    if by != 0:
        repair(side)
    return True


cdef bint try_lock_of_dead(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """As `try_lock`, that of a dead one too."""
    cdef uint32_t owner
    cdef bint taken
    if try_lock(self, side):
        return True
    self.here.locking.fetch_add(1)
    owner = side.lock.load()
    taken = (
        owner != 0 and self.here.closed.load() == 0 and is_dead(self, owner) and lock_left(self, side, owner)
        and (self.here.closed.load() == 0 or give_back(self, side))
    )
    self.here.locking.fetch_sub(1)
    return taken


cdef bint lock_for(SharedRingBuffer self, SharedSide* side, int64_t ns) noexcept nogil:
    """Take a lock within so long; False where that is not possible."""
    cdef Wait w
    w.deadline = now_ns() + ns
    w.tick = FOREVER
    return lock(self, side, &w, False) == DONE


cdef bint lock_for_certain(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """False where the ring is closed here."""
    while not lock_for(self, side, FOREVER // 2):
        if self.here.closed.load() != 0:
            return False
    return True


cdef bint is_dead(SharedRingBuffer self, uint32_t id) noexcept nogil:
    """Whether the attachment that an id names is there no more."""
    cdef int place = place_of(id)
    if place < 0 or place >= PLACES:
        return True
    if self.here.segment.places[place].generation.load() & GENERATIONS != generation_of(id):
        return True
    return id | CONTENDED != self.here.id.load() | CONTENDED and others_hold(self.here.file, place, 1) == 0


cdef void wait_until_unused(Attachment* here) noexcept nogil:
    """Of one that is closed: until none of its threads has, or may take, a side's lock."""
    cdef Segment* segment = here.segment
    cdef uint32_t own = here.id.load() | CONTENDED
    while (
        here.locking.load() != 0
        or segment.puts.lock.load() | CONTENDED == own or segment.gets.lock.load() | CONTENDED == own
    ):
        futex_wake(&segment.puts.lock, EVERYBODY)
        futex_wake(&segment.gets.lock, EVERYBODY)
        nap()


# -- numbers ------------------------------------------------------------------------------------------------------
#
# Whatever stands in the segment is bounded before it is used: see `BROKEN`.

cdef inline uint64_t records_there(Segment* segment) noexcept nogil:
    """A hint; exact where nothing goes on."""
    cdef uint64_t left = segment.gets.seq.load(memory_order_acquire)
    cdef uint64_t entered = segment.puts.seq.load(memory_order_acquire)
    cdef uint64_t again = segment.gets.seq.load(memory_order_acquire)
    return entered - again if entered >= again else entered - left


cdef inline uint64_t room_there(SharedRingBuffer self, uint64_t wanted) noexcept nogil:
    """With the puts' lock: how many slots are free, looked at anew if fewer than are wanted. UINT64_MAX: no number."""
    cdef SharedSide* puts = &self.here.segment.puts
    cdef uint64_t capacity = self.monitor.capacity
    cdef uint64_t seq = puts.seq.load(memory_order_relaxed)
    cdef uint64_t seen = puts.seen.load(memory_order_relaxed)
    if seq - seen > capacity or capacity - (seq - seen) < wanted:
        seen = self.here.segment.gets.seq.load()
        puts.seen.store(seen, memory_order_relaxed)
        if seq - seen > capacity:
            return UINT64_MAX
    return capacity - (seq - seen)


cdef inline uint64_t records_for(SharedRingBuffer self, uint64_t wanted) noexcept nogil:
    """With the gets' lock: how many records are there, looked at anew if fewer than are wanted; 0 for no number."""
    cdef SharedSide* gets = &self.here.segment.gets
    cdef uint64_t seq = gets.seq.load(memory_order_relaxed)
    cdef uint64_t seen = gets.seen.load(memory_order_relaxed)
    if seen - seq > self.monitor.capacity or seen - seq < wanted:
        seen = self.here.segment.puts.seq.load()
        if seen - seq > self.monitor.capacity:
            seen = seq
        gets.seen.store(seen, memory_order_relaxed)
    return seen - seq


cdef inline bint is_broken(SharedRingBuffer self) noexcept nogil:
    """With a side's lock. (That of the gets may be one's own: then the other number can only have grown.)"""
    cdef uint64_t left = self.here.segment.gets.seq.load()
    return self.here.segment.puts.seq.load() - left > self.monitor.capacity


cdef const char* fault_of(SharedRingBuffer self) noexcept nogil:
    """As `ring.ring_fault`."""
    cdef Segment* segment = self.here.segment
    cdef const char* fault = NULL
    cdef uint64_t left
    if not lock_for(self, &segment.puts, PATIENCE_NS):
        return NULL  # amid a copy
    if not lock_for(self, &segment.gets, PATIENCE_NS):
        unlock(&segment.puts)
        return NULL
    left = segment.gets.seq.load()
    if is_broken(self):
        fault = "gets.seq <= puts.seq <= gets.seq + capacity"
    elif segment.gets.lost.load() + segment.gets.discarded.load() > left:
        fault = "what was dropped or discarded had entered"
    elif segment.gets.intends.load() != 0:
        fault = "what is intended is done under the lock"
    elif segment.puts.high_water.load() > self.monitor.capacity:
        fault = "high_water <= capacity"
    unlock(&segment.gets)
    unlock(&segment.puts)
    return fault


# -- waiting ------------------------------------------------------------------------------------------------------

cdef inline Outcome enter(SharedRingBuffer self, uint32_t role) noexcept nogil:
    """At the beginning of a call: may it, and do the others know what this process does?"""
    if self.here.closed.load() != 0:
        return CLOSED if self.here.segment != NULL else SHUT_DOWN
    tell_role(self, role)
    return DONE


cdef inline void tell_role(SharedRingBuffer self, uint32_t role) noexcept nogil:
    """From now on the others know that this process puts, or gets."""
    if self.here.roles.load(memory_order_acquire) & role != role:
        self.here.segment.places[place_of(self.here.id.load())].roles.fetch_or(role)
        self.here.segment.roles.fetch_or(role)
        self.here.roles.fetch_or(role)  # last: another thread that finds this goes on, and the others must know by then


cdef inline SharedSide* other_side(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    return &self.here.segment.gets if side == &self.here.segment.puts else &self.here.segment.puts


cdef inline bint over(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """Whether a shutdown ends the waiting. Gets still wait for a put that is going on: its records are to come."""
    cdef uint32_t how = self.here.segment.shut.load()
    if side == &self.here.segment.puts:
        return how != OPEN
    return how == SHUT_NOW or (how != OPEN and self.here.segment.sealed.load() != 0)


cdef Outcome acquire(SharedRingBuffer self, SharedSide* side, Wait* w, bint is_batch) noexcept nogil:
    """As `sync.acquire`: wait until the caller may act. DONE, or HELD by a block, with the lock; all else without.

    FULL, or EMPTY: the time is over, and somebody else's copy is not.
    """
    cdef bint is_put = side == &self.here.segment.puts
    cdef uint64_t need = min(w.need, self.monitor.capacity)
    cdef Outcome outcome
    cdef int64_t now
    if w.tick != FOREVER and now_ns() >= w.tick:
        w.tick = now_ns() + SIGNAL_TICK_NS
        return TICKED
    if w.returns:
        leave_list(self, w)
    while True:
        outcome = lock(self, side, w, True)
        if outcome != DONE:
            pass_on(self, side)
            return outcome if outcome != FULL or is_put else EMPTY
        if is_broken(self):
            unlock(side)
            return BROKEN
        if is_free(self, side):
            if w.expired or w.abandoned or over(self, side):
                break
            if (room_there(self, need) if is_put else records_for(self, need)) >= need:
                break
        if not w.later and waits_for_itself(self, side, need):  # a loop goes on, and may end its block
            unlock(side)
            return HELD_BY_SELF
        if side.turn.load() != 0 and gives_up(self, side, w):
            return HELD
        unlock(side)
        if w.later:
            if w.began != 0 and is_abandoned(self, side):
                w.abandoned = True
                continue
            pass_on(self, side)
            return wait_in_list(&self.monitor, &self.monitor.puts if is_put else &self.monitor.gets, w)
        if w.began == 0:
            w.began = now_ns()
        outcome = wait(self, side, w, need, is_batch)
        if outcome != DONE:
            pass_on(self, side)
            return outcome
    if w.began != 0:
        now = now_ns()
        side.waits.fetch_add(1, memory_order_relaxed)
        side.wait_ns.fetch_add(now - w.began, memory_order_relaxed)
        w.began = 0
        if w.tick != FOREVER and not is_put and need != 0 and not w.expired and not over(self, side):
            # As in `sync.acquire`: a signal that came before the records must not find them taken already.
            w.tick = now + SIGNAL_TICK_NS
            unlock(side)
            pass_on(self, side)
            return TICKED
    return DONE


cdef inline bint is_free(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """With the side's lock: whether no block of it is out. That of a dead process' ends here."""
    cdef uint32_t turn = side.turn.load()
    if turn != 0 and is_dead(self, turn):
        side.turn.store(0)
        turn = 0
    return turn == 0


cdef inline bint is_own(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    return side.turn.load() == self.here.id.load() and side.owner.load() == this_thread()


cdef bint waits_for_itself(SharedRingBuffer self, SharedSide* side, uint64_t need) noexcept nogil:
    """As `sync.waits_for_itself`."""
    if is_own(self, side):
        return True
    if not is_own(self, other_side(self, side)):
        return False
    return (room_there(self, need) if side == &self.here.segment.puts else records_for(self, need)) < need


cdef inline bint gives_up(SharedRingBuffer self, SharedSide* side, Wait* w) noexcept nogil:
    """As `sync.gives_up`."""
    cdef uint32_t how = self.here.segment.shut.load()
    if side == &self.here.segment.puts:
        return w.expired or w.need == 0 or how != OPEN
    return w.expired or how == SHUT_NOW


cdef Outcome wait(SharedRingBuffer self, SharedSide* side, Wait* w, uint64_t need, bint is_batch) noexcept nogil:
    """Without the lock: spin, or sleep once. DONE: look again."""
    cdef int64_t now
    cdef int64_t until
    seal_if_shut(self)
    if not w.spun:
        w.spun = True
        if spin(self, side, w, need, is_batch):
            return DONE
    now = now_ns()
    if w.looked == 0:
        w.looked = now + TICK_NS - LOOK_NS  # the first look comes soon
    until = min(w.deadline if not w.expired else FOREVER, now + TICK_NS)
    if sleep(self, side, need, wakes_before(side, need), until) and w.tick != FOREVER:
        w.tick = 0  # a signal has come, as a rule to the main thread; where it came to another one, the tick sees it
    if self.here.closed.load() != 0:
        return CLOSED
    now = now_ns()
    if now - w.looked >= LOOK_NS and need != 0:
        w.looked = now
        w.abandoned = is_abandoned(self, side)
    if now >= w.deadline and not w.expired:
        w.expired = True
    elif now >= w.tick:
        w.tick = now + TICK_NS
        return TICKED
    return DONE


cdef bint may_act(SharedRingBuffer self, SharedSide* side, uint64_t need) noexcept nogil:
    """A hint, without the lock."""
    cdef uint64_t seq
    if side.turn.load() != 0:
        return False
    if over(self, side):
        return True
    seq = side.seq.load()
    if side == &self.here.segment.puts:
        return self.here.segment.gets.seq.load() + self.monitor.capacity - seq >= need
    return <int64_t> (self.here.segment.puts.seq.load() - seq) >= <int64_t> need


cdef bint spin(SharedRingBuffer self, SharedSide* side, Wait* w, uint64_t need, bint is_batch) noexcept nogil:
    """Look for a while; False where it was not worth trying."""
    cdef int cpu = other_side(self, side).cpu.load(memory_order_relaxed)
    cdef int64_t until
    cdef int _
    if SPIN_NS == 0 or cpu < 0 or cpu == current_cpu() or side.turn.load() != 0 or side.wake_at.load() != NOBODY:
        return False
    until = min(now_ns() + SPIN_NS, w.deadline if not w.expired else FOREVER)
    while now_ns() < until:
        for _ in range(16):
            if may_act(self, side, need):
                if is_batch:
                    let_ahead(other_side(self, side))
                return True
            spin_pause()
    return True


cdef void let_ahead(SharedSide* other) noexcept nogil:
    """A batch that comes piece by piece: let the other side go on for as long as it does, 10 us at most.

    Taken one by one, each piece would cost both sides a wait for the other's cache lines: batches of 256 records then
    are half as fast.
    """
    cdef uint64_t seq
    cdef int64_t until
    cdef int times
    for times in range(AHEAD_TIMES):
        seq = other.seq.load(memory_order_relaxed)
        until = now_ns() + AHEAD_NS
        while now_ns() < until:
            spin_pause()
        if other.seq.load(memory_order_relaxed) == seq:
            break


cdef inline uint32_t wakes_before(SharedSide* side, uint64_t need) noexcept nogil:
    """The count of wake-ups before one sleeps, marked where the sleeper waits for anything but a single record."""
    return side.wakes.fetch_or(1) | 1 if need != 1 else side.wakes.load()


cdef bint sleep(SharedRingBuffer self, SharedSide* side, uint64_t need, uint32_t wakes, int64_t until) noexcept nogil:
    """Once, unless `wakes` has changed, until it does or `until`; see "Waiting". Whether a signal has ended it."""
    cdef bint interrupted = False
    cdef uint64_t seq = side.seq.load()
    cdef uint64_t from_seq = 0
    side.sleepers.fetch_add(1)
    if side.turn.load() == 0 and need != 0:
        if side == &self.here.segment.gets:
            from_seq = seq + need
        elif seq + need > self.monitor.capacity:
            from_seq = seq + need - self.monitor.capacity
    lower(&side.wake_at, from_seq)
    at(ASLEEP)
    if not may_act(self, side, need):
        interrupted = futex_sleep(&side.wakes, wakes, until)
    at(WOKEN)
    if side.sleepers.fetch_sub(1) != 1:
        lower(&side.wake_at, 0)
    return interrupted


cdef inline void lower(Number* number, uint64_t to) noexcept nogil:
    cdef uint64_t before = number.load()
    while before > to and not number.compare_exchange_weak(before, to):
        pass


cdef inline void wake_from(SharedSide* side, uint64_t seq) noexcept nogil:
    """After the other side has stored `seq`."""
    if seq >= side.wake_at.load():
        wake_next(side)


cdef void wake_next(SharedSide* side) noexcept nogil:
    cdef uint32_t before
    if side.wake_at.exchange(NOBODY) == NOBODY:
        return
    at(WAKING)
    before = side.wakes.load()
    while not side.wakes.compare_exchange_weak(before, (before + 2) & ~<uint32_t> 1):
        pass
    futex_wake(&side.wakes, EVERYBODY if before & 1 else 1)


cdef void wake_everybody(SharedSide* side) noexcept nogil:
    side.wake_at.store(NOBODY)
    side.wakes.fetch_add(2)
    futex_wake(&side.wakes, EVERYBODY)


cdef inline void pass_on(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """Of one that was woken, perhaps, and does not take what is there, or not all of it: the next one may."""
    if side.wake_at.load() != NOBODY and may_act(self, side, 1):
        wake_from(side, other_side(self, side).seq.load())


cdef bint is_abandoned(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """Whether every process is gone that has worked on the other side, and there was one."""
    cdef uint32_t role = PUTS if side == &self.here.segment.gets else GETS
    cdef int own = place_of(self.here.id.load())
    cdef int i
    if self.here.segment.roles.load() & role == 0:
        return False
    for i in range(PLACES):
        if self.here.segment.places[i].roles.load() & role != 0:
            if i == own or others_hold(self.here.file, i, 1) != 0:
                return False
    return True
