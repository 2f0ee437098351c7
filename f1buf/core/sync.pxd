# cython: language_level=3
"""The lock and wait protocol: its data and what is inline. The reasoning is in `sync.pyx`."""

from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libcpp.atomic cimport atomic, memory_order_relaxed


cdef extern from "core/sync.hpp" namespace "f1buf" nogil:
    const int64_t FOREVER
    const int32_t MOST_OVERTAKES
    const bint DEBUG "F1BUF_DEBUG"
    const int OPEN
    const int SHUT
    const int SHUT_NOW
    const int TORN
    const int ENDED
    const int FREE
    const int COPYING
    const int RESERVED

    int64_t now_ns() noexcept
    int current_cpu() noexcept
    void spin_pause() noexcept
    void broken_invariant(const char*) noexcept
    int install_fork_handlers(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil) noexcept

    cppclass Mutex "std::mutex":
        void lock() noexcept
        bint try_lock() noexcept
        void unlock() noexcept

    cppclass Parker:
        bint park(int64_t) noexcept
        void unpark() noexcept

    # Each field is explained where it is defined, in sync.hpp.
    cppclass Bell:
        Mutex mutex
        Waiter* woken
        bint dead
        int file
        atomic[long] references

    cppclass Waiter:
        Waiter* prev
        Waiter* next
        uint64_t ticket
        uint64_t need
        bint queued
        bint gives_up
        bint granted
        void (*wake)(void*) noexcept nogil
        void* wake_arg
        Parker parker
        Bell* bell
        void* coroutine
        bint rung

    cppclass WaitList:
        Waiter* head
        Waiter* tail
        uint64_t next_ticket
        uint64_t promised
        uint32_t granted
        uint32_t woken
        atomic[int32_t] overtakes

    cppclass Side:
        WaitList waiters
        atomic[int] turn
        uint64_t owner
        atomic[int] cpu
        uint64_t waits
        int64_t wait_ns

    cppclass SlotLock:
        void lock() noexcept
        void unlock() noexcept
        void renew() noexcept

    cppclass Monitor:
        Mutex lock
        SlotLock slot_lock
        bint attached
        atomic[uint64_t] count
        int64_t unfinished
        uint64_t capacity
        Side puts
        Side gets
        Side joins
        atomic[int] shut
        int step
        void (*settled)(void*) noexcept nogil
        void* settled_arg
        Monitor* fork_prev
        Monitor* fork_next

    void lock(Monitor*) noexcept
    bint try_lock(Monitor*) noexcept
    void unlock(Monitor*) noexcept
    bint sleep(Monitor*, Waiter*, int64_t) noexcept
    void spin_detached(Monitor*, uint64_t, int64_t) noexcept

    cppclass WaiterPool:
        Waiter* take() noexcept
        void give_back(Waiter*) noexcept
        void forget() noexcept
        Mutex lock
        int fail_in


cdef extern from "core/int.hpp" namespace "f1buf":
    const uint64_t READY_MADE
    cppclass LaterInt:
        int reserve(uint64_t) except -1
        object become(uint64_t)


cdef enum Outcome:
    # How an operation ended, or a step of one. But for DONE, and for what `done` tells of a ring's C calls, nothing was
    # done.
    DONE = 0
    FULL = 1           # no room in time; or a block is out (`reserve`), for whose end there was no time
    EMPTY = 2          # nothing there in time; or a block is out (`peek`), for whose end there was no time
    SHUT_DOWN = 3      # shut down; for a pop also drained: nothing will ever come
    CUT_IN_TWO = 4     # in the child of a fork that came amid a large copy: use another ring
    OUT_OF_MEMORY = 5  # to wait with, or for more items
    HELD_BY_SELF = 6   # a block of this thread's own is out: it would wait for itself
    ABANDONED = 7      # of a shared ring: every process is gone that it could wait for
    BROKEN = 8         # of a shared ring: somebody wrote over its numbers
    CLOSED = 9         # of a shared ring: this process has closed it
    # Inside only:
    TICKED             # signal handlers must run, then the caller goes on
    HELD               # a block is out, for whose end the caller must not wait
    QUEUED             # a coroutine waits in its side's list; its loop will hear of its turn
    GROW               # the caller's room is too small for what is there
    MOVED              # a Queue is not PLAIN any more, or must not stay so


cdef enum Step:
    # How a locked section began, for `record`; in the order of the names in sync.pyx. OTHER: as its operation does.
    OTHER
    LOOK
    TRY             # a fast path that looks like LOOK, and leaves at once where it may not act
    RETURN
    RETURN_LATE     # the deadline has come
    RETURN_SIGNALS  # it is time to look for signals
    END
    UNHOLD          # an exception ends an operation that was promised something
    FAST            # a Queue's fast path, which does not SETTLE


cdef struct Wait:
    # One operation's waiting, on the stack of its caller; `start_wait` begins it, `end_wait` ends it.
    Waiter* node       # NULL until it parks for the first time
    long forks         # how many lay behind this process then
    long held_forks    # and when it was promised what is `held`
    Monitor* held_of   # and of which side of what
    Side* held_side
    int64_t deadline   # [ns] monotonic; FOREVER
    uint64_t need      # what `acquire` waits for; 0: only for the side's turn
    uint64_t held      # a promise that `hold` keeps while the caller is away without the lock
    bint expired       # the deadline has come: act on what is there
    bint spun          # has spun already; once is what pays
    int64_t tick       # [ns] when the main thread must look for signals next; FOREVER for other threads
    int64_t began      # [ns] when it began to wait; 0: it did not
    bint later         # a coroutine's, which cannot sleep: see `acquire_later`
    Side* side         # on which it waits
    int64_t looked     # [ns] when it last looked who is there, of a shared ring
    bint abandoned     # and whether nobody was
    bint returns       # its node has been woken, and is still to leave the list


cdef inline uint64_t available(Monitor* m, Side* side) noexcept nogil:
    """Records that the gets could take, or slots that the puts could fill; enough for all joins, or nothing."""
    cdef uint64_t count = m.count.load(memory_order_relaxed)
    if side == &m.gets:
        return count
    if side == &m.joins:
        return UINT64_MAX if m.unfinished == 0 else 0
    return m.capacity - count if count < m.capacity else 0


cdef inline bint over(Monitor* m, Side* side) noexcept nogil:
    """Whether a shutdown ends the waiting. Gets still wait for a put that is copying: its records are to come."""
    cdef int how = m.shut.load(memory_order_relaxed)
    if side == &m.joins:
        return how == ENDED
    return how != OPEN and not (how == SHUT and side == &m.gets and m.puts.turn.load(memory_order_relaxed))


cdef inline bint ready(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """Whether `acquire` may return. Exact under the lock; outside it (spinners) a hint."""
    if side.turn.load(memory_order_relaxed):
        return False
    if w.expired or over(m, side):
        return True
    return available(m, side) >= min(w.need, m.capacity) and (may_overtake(side) or w.need == 0)


cdef inline bint may_overtake(Side* side) noexcept nogil:
    """Whether a thread that runs may act before those that have been woken; see "What a grant is"."""
    return MOST_OVERTAKES == 0 or side.waiters.overtakes.load(memory_order_relaxed) < MOST_OVERTAKES


cdef inline void overtake(Side* side, uint64_t size) noexcept nogil:
    """Under the lock, where so many bytes were copied."""
    if MOST_OVERTAKES != 0 and side.waiters.woken != 0 and may_overtake(side):
        side.waiters.overtakes.fetch_add(1 + <int32_t> (min(size, <uint64_t> (1 << 20)) // 1024), memory_order_relaxed)


cdef inline bint somebody_waits(Monitor* m) noexcept nogil:
    return m.puts.waiters.head != NULL or m.gets.waiters.head != NULL or m.joins.waiters.head != NULL


cdef inline void release(Monitor* m) noexcept nogil:
    """Unlock a ring's monitor. Every unlock after a change goes through here, or through `settle_and_unlock`: this is
    what keeps wake-ups from being lost."""
    if DEBUG:
        insist(monitor_fault(m))
    if m.puts.waiters.head == NULL and m.gets.waiters.head == NULL:
        if DEBUG:
            record(m)
        m.lock.unlock()
    else:
        settle_and_unlock(m)


cdef inline void lock_attached(Monitor* m) noexcept:
    """Take the lock with the GIL, but wait for it without: no thread waits for the GIL while it holds a lock."""
    while not try_lock(m):
        with nogil:
            lock(m)
            unlock(m)


cdef inline void begins(Monitor* m, Step step) noexcept nogil:
    """Right after the lock was taken: what a debug build records the section as."""
    if DEBUG:
        m.step = step


cdef inline void ran_here(Side* side) noexcept nogil:
    """Note the processor, by which threads of the other side decide whether to spin. Under the lock."""
    side.cpu.store(current_cpu(), memory_order_relaxed)


cdef inline void forget_place(Wait* w) noexcept nogil:
    """Between two pieces of one operation: its next wait starts at the end of the line."""
    if w.node != NULL:
        w.node.ticket = 0


cdef void start_wait(Wait* w, uint64_t need, int64_t deadline) noexcept nogil
cdef Outcome acquire(Monitor* m, Side* side, Wait* w) noexcept nogil
cdef bint withdraw(Monitor* m, Wait* w) noexcept
cdef void end_wait(Wait* w) noexcept
cdef void settle_and_unlock(Monitor* m) noexcept nogil
cdef Waiter* take_node() noexcept nogil
cdef void give_back(Waiter* node) noexcept nogil
cdef bint make_node(Wait* w) noexcept nogil
cdef void drop_node(Wait* w) noexcept nogil
cdef void hold(Monitor* m, Side* side, Wait* w, uint64_t need) noexcept nogil
cdef void unhold(Wait* w) noexcept nogil
cdef void lend_attached() noexcept
cdef uint64_t this_thread() noexcept nogil
cdef void shut(Monitor* m, int how) noexcept nogil
cdef const char* monitor_fault(Monitor* m) noexcept nogil
cdef void insist(const char* fault) noexcept nogil
cdef void record(Monitor* m) noexcept nogil

cdef void register_for_fork(Monitor* m) noexcept nogil
cdef void unregister_for_fork(Monitor* m) noexcept nogil

cdef int64_t SIGNAL_TICK_NS
cdef int64_t SPIN_NS
cdef unsigned long main_thread  # in the child of a fork: the one that forked
cdef long forks  # how many lie between this process and the first

cdef object as_count(object value, str name, int least)
cdef int64_t deadline_in(double seconds) noexcept nogil
cdef int64_t deadline_from(bint block, object timeout) except -1
