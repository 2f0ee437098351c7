# cython: language_level=3
"""The lock and wait protocol: its data and what is inline. The reasoning is in `sync.pyx`."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libcpp.atomic cimport atomic, memory_order_relaxed


cdef extern from "core/sync.hpp" namespace "f1buf" nogil:
    const int64_t FOREVER
    const int32_t MOST_OVERTAKES
    const bint DEBUG "F1BUF_DEBUG"
    const int OPEN
    const int SHUT
    const int SHUT_NOW
    const int TORN
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

    cppclass Monitor:
        Mutex lock
        atomic[uint64_t] count
        uint64_t capacity
        Side puts
        Side gets
        WaitList joins
        atomic[int] shut
        void (*renew)(void*) noexcept nogil
        void* renew_arg
        Monitor* fork_prev
        Monitor* fork_next
        int step

    cppclass WaiterPool:
        Waiter* take() noexcept
        void give_back(Waiter*) noexcept
        void forget() noexcept
        Mutex lock
        int fail_in


cdef enum Status:
    READY = 0    # the lock is held and the caller may act
    TICK = 1     # the lock is not held: let signal handlers run, then call again
    NO_MEMORY = 2  # the lock is not held, nothing was changed
    HELD = 3     # the lock is held; a reservation is out that the caller must not wait for
    OWN = 4      # the lock is not held; the reservation is this thread's own, so that it would wait for itself
    LATER = 5    # the lock is not held; a coroutine has been queued, and its loop will hear of its turn


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
    bint returns       # whose node has been woken, and is still to leave


cdef inline uint64_t available(Monitor* m, Side* side) noexcept nogil:
    """Records that the gets could take, or slots that the puts could fill."""
    cdef uint64_t count = m.count.load(memory_order_relaxed)
    if side == &m.gets:
        return count
    return m.capacity - count if count < m.capacity else 0


cdef inline bint over(Monitor* m, Side* side) noexcept nogil:
    """Whether a shutdown ends the waiting. Gets still wait for a put that is copying: its records are to come."""
    cdef int how = m.shut.load(memory_order_relaxed)
    return how != OPEN and not (how == SHUT and side == &m.gets and m.puts.turn.load(memory_order_relaxed))


cdef inline bint ready(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """Whether `acquire` may return. Exact under the lock; outside it (spinners) a hint."""
    if side.turn.load(memory_order_relaxed):
        return False
    if w.expired or over(m, side):
        return True
    return available(m, side) >= w.need and (may_overtake(side) or w.need == 0)


cdef inline bint may_overtake(Side* side) noexcept nogil:
    """Whether who runs may act before those who have been woken; see "What a grant is"."""
    return MOST_OVERTAKES == 0 or side.waiters.overtakes.load(memory_order_relaxed) < MOST_OVERTAKES


cdef inline void overtake(Side* side, uint64_t size) noexcept nogil:
    """Under the lock, where so many bytes were copied."""
    if MOST_OVERTAKES != 0 and side.waiters.woken != 0 and may_overtake(side):
        side.waiters.overtakes.fetch_add(1 + <int32_t> (min(size, <uint64_t> (1 << 20)) // 1024), memory_order_relaxed)


cdef inline void release(Monitor* m) noexcept nogil:
    """Unlock. Every unlock after a change goes through here: this is what keeps wake-ups from being lost."""
    if DEBUG:
        insist(monitor_fault(m))
    if m.puts.waiters.head == NULL and m.gets.waiters.head == NULL:
        if DEBUG:
            record(m, 0)
        m.lock.unlock()
    else:
        settle_and_unlock(m)


cdef inline void begins(Monitor* m, Step step) noexcept nogil:
    """Right after the lock was taken: what a debug build records the section as."""
    if DEBUG:
        m.step = step


cdef inline void ran_here(Side* side) noexcept nogil:
    """Note the processor, for those of the other side who wonder whether to spin. Under the lock."""
    side.cpu.store(current_cpu(), memory_order_relaxed)


cdef inline void forget_place(Wait* w) noexcept nogil:
    """Between two pieces of one operation: its next wait starts at the end of the line."""
    if w.node != NULL:
        w.node.ticket = 0


cdef void start_wait(Wait* w, uint64_t need, int64_t deadline) noexcept nogil
cdef Status acquire(Monitor* m, Side* side, Wait* w) noexcept nogil
cdef void end_wait(Wait* w) noexcept
cdef void enter(WaitList* waiters, Waiter* node) noexcept nogil
cdef void leave(WaitList* waiters, Waiter* node) noexcept nogil
cdef void settle_and_unlock(Monitor* m) noexcept nogil
cdef Waiter* settle(Monitor* m) noexcept nogil
cdef Waiter* grant_all(WaitList* waiters, Waiter* chain) noexcept nogil
cdef void wake_all(Waiter* chain) noexcept nogil
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
cdef const char* waiters_fault(WaitList* waiters) noexcept nogil
cdef void insist(const char* fault) noexcept nogil
cdef void record(Monitor* m, int64_t unfinished) noexcept nogil

cdef void register_for_fork(Monitor* m) noexcept nogil
cdef void unregister_for_fork(Monitor* m) noexcept nogil

cdef int64_t SIGNAL_TICK_NS
cdef unsigned long main_thread  # in the child of a fork: the one that forked
cdef long forks  # how many lie between this process and the first

cdef object as_count(object value, str name, int least)
cdef int64_t deadline_in(double seconds) noexcept nogil
cdef int64_t deadline_from(bint block, object timeout) except -1
