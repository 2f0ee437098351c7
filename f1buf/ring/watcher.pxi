# How coroutines wait for a side of a segment. Part of shared.pyx.
#
# An event loop cannot sleep there, so a thread does so for all coroutines of this process that wait on a side. They
# wait in the lists of the ring's own monitor, which has no other use here: its turns are taken, so that nothing is
# granted there, but for the moment in which the watcher has found something and lets the monitor grant it (`grant`).
# What is granted is a promise between the coroutines of this process alone; each then looks for itself.

cdef void close_lists(Attachment* here) noexcept nogil:
    here.monitor.count.store(0, memory_order_relaxed)
    here.monitor.shut.store(OPEN, memory_order_relaxed)
    here.monitor.puts.turn.store(COPYING, memory_order_relaxed)
    here.monitor.gets.turn.store(COPYING, memory_order_relaxed)


cdef void settled(void* attachment) noexcept nogil:
    """`Monitor.settled`, under its lock: a coroutine has come, or gone, or was granted something."""
    cdef Attachment* here = <Attachment*> attachment
    close_lists(here)
    poke(here, &here.monitor.gets, &here.watchers[0], &here.segment.gets)
    poke(here, &here.monitor.puts, &here.watchers[1], &here.segment.puts)


cdef void poke(Attachment* here, Side* waiting, Watcher* watcher, SharedSide* side) noexcept nogil:
    """Under the monitor's lock: let the watcher look anew, where it sleeps for more than what is needed now."""
    cdef uint64_t need = needed(here.monitor, waiting)
    if need == 0:
        return
    if watcher.asleep_for == 0:
        watcher.parker.unpark()
    elif need < watcher.asleep_for:
        wake_everybody(side)


cdef uint64_t needed(Monitor* m, Side* waiting) noexcept nogil:
    """Under the monitor's lock: how much must be there so that one more coroutine can go on; 0: none waits."""
    cdef Waiter* node = waiting.waiters.head
    cdef uint64_t least = UINT64_MAX
    if node == NULL:
        return 0
    while node != NULL:
        least = min(least, node.need)
        node = node.next
    return min(max(<uint64_t> 1, least + waiting.waiters.promised), m.capacity)


cdef void watch(SharedRingBuffer self, int is_put) noexcept nogil:
    """The watcher's thread."""
    cdef Monitor* m = &self.monitor
    cdef Side* waiting = &m.puts if is_put else &m.gets
    cdef SharedSide* side = &self.here.segment.puts if is_put else &self.here.segment.gets
    cdef Watcher* watcher = &self.here.watchers[is_put]
    cdef int64_t looked = now_ns() + TICK_NS - LOOK_NS
    cdef uint64_t need
    cdef uint32_t wakes
    cdef bint all_go
    while watcher.stops.load() == 0:
        m.lock.lock()
        need = needed(m, waiting)
        wakes = wakes_before(side, 0)  # before any poke that it is to notice
        watcher.asleep_for = need
        m.lock.unlock()
        if need == 0:
            watcher.parker.park(FOREVER)
            continue
        sleep(self, side, need, wakes, now_ns() + TICK_NS)
        all_go = over(self, side) or self.here.closed.load() != 0
        if not all_go and now_ns() - looked >= LOOK_NS:
            looked = now_ns()
            all_go = is_abandoned(self, side)
        seal_if_shut(self)
        grant(self, waiting, watcher, all_go, may_act(self, side, need))


cdef void grant(SharedRingBuffer self, Side* waiting, Watcher* watcher, bint all_go, bint some_go) noexcept nogil:
    cdef Monitor* m = &self.monitor
    m.lock.lock()
    watcher.asleep_for = 0
    if all_go:
        m.shut.store(SHUT_NOW, memory_order_relaxed)
    if all_go or some_go:
        m.count.store(min(records_there(self.here.segment), m.capacity), memory_order_relaxed)
        waiting.turn.store(FREE, memory_order_relaxed)
        settle_and_unlock(m)
    else:
        m.lock.unlock()


cdef inline void seal_if_shut(SharedRingBuffer self) noexcept nogil:
    if self.here.closed.load() == 0 and self.here.segment.shut.load() != OPEN:
        seal(self)


cdef void leave_list(SharedRingBuffer self, Wait* w) noexcept nogil:
    """A coroutine that was woken is back."""
    self.monitor.lock.lock()
    unhold(w)
    settle_and_unlock(&self.monitor)


cdef void end_watcher(Attachment* here, bint is_put) noexcept nogil:
    cdef Watcher* watcher = &here.watchers[is_put]
    if watcher.thread != NULL:
        watcher.stops.store(1)
        watcher.parker.unpark()
        wake_everybody(&here.segment.puts if is_put else &here.segment.gets)
        join_watcher(watcher.thread)
