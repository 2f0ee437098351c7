# distutils: language = c++
"""The lock and wait protocol that every buffer stands on.

A `Monitor` is a bounded count and the sides that wait for it, puts and gets, and in a Queue a third, the joins that
wait for its tasks: everything of a buffer but its storage. One lock protects all of it: a mutex, or, of a Queue, the
slot lock (`attached`), which is the GIL where there is one. The steps are the same with either; a Queue has no turns,
and a SPIN only where there is no GIL. An operation runs through these steps; the model of the protocol in
`tests/models` steps through every interleaving of them, under the same names:

    LOOK    under the lock: may I act? (my side's turn is free, and there is what I need)
    SPIN    without the lock and the GIL, for 20 us at most, where the side that it waits for (the other one, or its own
            while that has its turn taken) last ran on another processor
    ENTER   under the lock: into my side's list, by ticket; then unlock
    PARK    sleep until woken, or the deadline, or (main thread) the next look for signals
    RETURN  under the lock: leave the list, or give back what I was promised; then LOOK again
    ACT     under the lock: move the records, change the count
    TURN    instead of ACT for a large copy: take my side's turn and unlock; copy; lock; give the turn back (END)
    SETTLE  under the lock, at every unlock after a change (but a Queue's fast paths: see there): grant the next waiter
            of each side that can be served
    WAKE    after the unlock: wake those that were granted

(A debug build can record its locked sections; the tests have the model follow such recordings.)

Invariants, whenever the lock is free (a debug build checks them after every operation but a Queue's fast paths):

I1  0 <= count <= capacity; of a Queue unless its maxsize was lowered below the count.
I2  A side's list holds waiters in the order of their tickets, none of them granted.
I3  Where a side's turn is free and one of its waiters could be served from what is not promised yet, or its turn is
    a block's and one of its waiters `gives_up`, at least one thread among that side's waiters has been granted and has
    not returned. (Its RETURN ends in a SETTLE of its own.)

Who may hold what. The lock is held for a few instructions and a small copy. No thread waits, touches a Python object or
takes the GIL under it; what a thread allocates under it is one raw node (`park`), and where there is no memory for that
nothing has changed. A thread that has the GIL takes a mutex by `try_lock` only, and gives the GIL up if it is busy
(the fork handlers may wait for the mutex: the thread that holds it does not need the GIL). A turn is held for one copy,
by a thread that runs without the GIL; or, RESERVED, by a block of the ring's for as long as its owner likes. A thread
that must not wait for that gives up (`gives_up`), and the owner is told that it would wait for itself. The pool's lock
may be taken under a monitor's. Beyond that only the fork handlers hold several locks: the registry's, then each
monitor's, then the pool's.

Why no wake-up is lost. What a waiter needs can become true only by a change under the lock: of the count, a turn, a
promise, the unfinished tasks, or the shutdown. Each such section ends in `settle_and_unlock`, or in a `release`, which
calls it where somebody waits; that restores I3. A granted waiter sleeps no longer: the grant is followed by exactly one
wake-up, and a wake-up that comes before the sleep is kept as a token. It then returns to the lock (of a ring without
needing the GIL, of a Queue that is its lock), acts or re-enters with its old ticket, and SETTLEs again; so the chain of
grants goes on until nobody can be served. A waiter that leaves by timeout or for a signal does the same; where it was
granted meanwhile, it first takes the token that is on its way: its node will be used again.

What a grant is. Not a hand-over: running threads may overtake (a condition is checked again after every wake-up), but a
promise, so that two waiters are not woken for the same record: `promised` is the sum of what granted waiters need, and
later grants are given only from the rest. One grant a side and SETTLE: a batch wakes one consumer, which takes what it
can and wakes the next only if something is left; of the joins all are granted at once. (A coroutine's does not count:
its loop may be long in coming, so SETTLE goes on to the next.) Overtaking is what makes it fast, since a thread that
runs need not be woken. But where nothing but the lock ever stops the threads that run (no GIL, large copies), some
would run for long. There, once so much has been done before the woken threads are back, all threads that may wait do so
until one of those is back.

The end. A graceful shutdown ends the waiting of gets only once no put is copying under its turn (`over`): those
records have been accepted, and a consumer that was told "drained" will not come back for them.

Spinning. By time, not by count, since a `pause` costs anything from 4 to 40 ns: a wake-up through the kernel costs
some 50 us between processors, so 20 us of looking are a fair bet, once an operation, where nobody else of its side
waits: a spinner would be there before the waiters that have to be woken, again and again. Where there is a GIL, a
spinner that has been served needs it next, and as a rule the thread that served it still holds it and goes on until it
must wait, too. Asleep at the GIL it would be woken through the kernel, so it spins on, within its 20 us, until another
thread spins, which then does not hold the GIL: a small ring full of batches changes hands three times as fast. (10 us
were too few for that where a ring of 4,096 records is filled in batches of 256.)

A Queue's waiter spins only where there is no GIL: with one, the thread that it waits for needs what it would have to
come back for. It spins detached, until the count has changed and changes no more: nothing else is read without the
lock. A put that waits for a large queue does not spin: the gets have a whole queue to go through meanwhile.

How a waiter is woken: through `wake(wake_arg)`, so that threads, nogil callers and event loops can wait in the same
list. It is called without any lock and must neither block nor need the GIL.

    a thread        start_wait(&w, need, deadline). Of a ring it calls acquire(m, side, &w) without the GIL, of a Queue
                    with it. TICKED: signal handlers run, then it calls acquire again. DONE or HELD: it has the lock;
                    it acts, and releases. After every other outcome it has no lock, and the call ends. At last it
                    calls end_wait(&w); of a Queue, where it never holds a promise, drop_node(&w) is enough.
    a nogil caller  the same; only the main thread is ever told TICKED, any other may ignore it.
    a coroutine     `loop.LoopWait`: its node rings its loop's bell. acquire(m, side, &w) queues it, and says QUEUED;
                    when the bell has rung for it, w.returns, and acquire again, which takes it out of the list. It
                    never spins, nor counts as `woken`: a loop may be long in coming, and no thread may wait for that.

The protocol is the monitor with explicit hand-off of wake-ups of Brinch Hansen and Hoare (1974), with Mesa's
re-check after waking (Lampson and Redell, 1980).
"""

import operator
import sys
import threading

from cpython.float cimport PyFloat_AsDouble
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport ceil, isnan
from libc.stdint cimport int64_t, uint64_t

from f1buf.core.borrowed import check_ints

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil


def _made_int(uint64_t most, uint64_t value):
    """For `borrowed`."""
    cdef LaterInt number
    number.reserve(most)
    return number.become(value)


check_ints(_made_int, READY_MADE)

# Measured with two threads on two processors: shorter loses round trips to the kernel, longer wins nothing. What is
# waited for in vain costs less than half of the sleep that follows.
cdef int64_t SPIN_NS = 20_000
cdef uint64_t SMALL = 16  # [items] the largest bound of a Queue whose puts spin
# The promise is Ctrl-C within 100 ms.
cdef int64_t SIGNAL_TICK_NS = 50_000_000


def _spin_for(int64_t ns):
    """Let waits spin for so long, from now on [ns]; returns what it was. To measure what spinning is worth."""
    global SPIN_NS
    before, SPIN_NS = SPIN_NS, ns
    return before


main_thread = threading.main_thread().ident
if main_thread not in sys._current_frames():  # gevent has put a greenlet's in its place
    main_thread = PyThread_get_thread_ident()
cdef WaiterPool pool
cdef atomic[int] spinners  # threads that spin now, at whatever monitor
cdef extern from *:
    """
    static thread_local void *f1buf_holding = nullptr;
    """
    void* holding "f1buf_holding"  # the `Wait` by which this thread holds a promise; one at most, see `lend`

cdef extern from *:
    """
    static std::atomic<std::uint64_t> f1buf_threads{0};
    static thread_local const std::uint64_t f1buf_this_thread = ++f1buf_threads;
    """
    const uint64_t THIS_THREAD "f1buf_this_thread"

cdef bint with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
forks = 0


def _fail_wait(int nth):
    """Let there be no memory for the `nth` wait from now on; 0: for all. Returns which was still to fail. For tests."""
    with nogil:
        nth = fail_wait(nth)
    return nth


cdef int fail_wait(int nth) noexcept nogil:
    cdef int before
    pool.lock.lock()
    before, pool.fail_in = pool.fail_in, nth
    pool.lock.unlock()
    return before


# -- one operation's wait -----------------------------------------------------------------------------------------

cdef void start_wait(Wait* w, uint64_t need, int64_t deadline) noexcept nogil:
    w.node = NULL
    w.deadline = deadline
    w.need = need
    w.held = 0
    w.expired = deadline == 0
    w.spun = False
    w.tick = now_ns() + SIGNAL_TICK_NS if PyThread_get_thread_ident() == main_thread else FOREVER
    w.began = 0
    w.later = False
    w.looked = 0
    w.abandoned = False
    w.returns = False


cdef void end_wait(Wait* w) noexcept:
    if w.held != 0:  # it was away, to allocate or to run signal handlers, and will not come back
        with nogil:
            unhold_and_release(w)
    drop_node(w)


cdef Outcome acquire(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """Wait until the caller may act, and return DONE with the lock held.

    DONE: the side's turn is free, and there is `w.need`, or the deadline has passed (`w.expired`), or the monitor
    is shut; the caller looks which. HELD, also with the lock: a block is out, and `gives_up`. Otherwise (TICKED,
    OUT_OF_MEMORY, HELD_BY_SELF, QUEUED) the lock is not held. Without the GIL, unless the monitor is `attached`.
    """
    cdef Outcome outcome = DONE
    cdef int64_t now
    if w.tick != FOREVER and w.held == 0 and now_ns() >= w.tick:
        w.tick = now_ns() + SIGNAL_TICK_NS  # also where it waits often but never for long, or copies without end
        return TICKED
    if w.later:
        return acquire_later(m, side, w)
    if w.held == 0:
        lend()
    lock(m)
    begins(m, LOOK)
    unhold(w)
    while not ready(m, side, w):                # LOOK
        if waits_for_itself(m, side, w):
            settle_and_unlock(m)
            return HELD_BY_SELF
        if side.turn.load(memory_order_relaxed) == RESERVED and gives_up(m, side, w):
            outcome = HELD
            break
        if w.began == 0:
            w.began = now_ns()
        if not w.spun:
            w.spun = True
            if spin(m, side, w):
                continue
        outcome = park(m, side, w)
        if outcome != DONE:
            return outcome
    if w.began != 0:
        now = now_ns()
        side.waits += 1
        side.wait_ns += now - w.began
        w.began = 0
        if (
            w.tick != FOREVER and not m.attached
            and side == &m.gets and w.need != 0 and not w.expired and not over(m, side)
        ):
            # The main thread waited for records: a signal that came before them must not find them taken already.
            w.tick = now + SIGNAL_TICK_NS
            hold(m, side, w, min(w.need, available(m, side)))
            settle_and_unlock(m)
            return TICKED
    return outcome


cdef inline bint waits_for_itself(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """Whether a block of the caller's own keeps it from what it needs, where it may not act.

    One of the other side, too: that keeps everybody else from bringing what is not there yet.
    """
    cdef Side* other = &m.gets if side == &m.puts else &m.puts
    return is_own(side) or (is_own(other) and available(m, side) < w.need)


cdef inline bint is_own(Side* side) noexcept nogil:
    return side.turn.load(memory_order_relaxed) == RESERVED and side.owner == this_thread()


cdef Outcome acquire_later(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """`acquire` for a coroutine: it is queued in place of sleeping."""
    cdef Outcome outcome = DONE
    lock(m)
    begins(m, RETURN if w.returns else LOOK)
    unhold(w)
    if not ready(m, side, w):
        if side.turn.load(memory_order_relaxed) != RESERVED or not gives_up(m, side, w):
            # Also where the block is its own thread's: its loop goes on, and may end that.
            side.waits += w.began == 0
            w.began = now_ns()
            queue_up(m, side, w)
            return QUEUED
        outcome = HELD
    w.began = 0
    return outcome


cdef inline void queue_up(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """ENTER, and unlock."""
    w.node.need = 0 if w.expired else min(w.need, m.capacity)
    w.node.gives_up = w.expired or (w.need == 0 and side == &m.puts)
    enter(&side.waiters, w.node)
    settle_and_unlock(m)


cdef bint withdraw(Monitor* m, Wait* w) noexcept:
    """A coroutine waits no more. Returns whether it had been granted what it came for, which others get now."""
    cdef bint granted
    lock_attached(m)
    granted = w.node.granted
    begins(m, UNHOLD)
    if w.node.queued:  # what it has waited so far
        w.side.wait_ns += now_ns() - w.began
    unhold(w)
    leave(&w.side.waiters, w.node)
    settle_and_unlock(m)
    return granted


cdef inline bint gives_up(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """Whether it does not wait for a block's end: its time is over, its policy drops, or it would get nothing."""
    cdef int how = m.shut.load(memory_order_relaxed)
    if side == &m.puts:
        return w.expired or w.need == 0 or how != OPEN
    return w.expired or how == SHUT_NOW


cdef bint spin(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """SPIN: look for a while without the lock. Returns with the lock held; False where it was not worth trying."""
    cdef Side* runs = side if side.turn.load(memory_order_relaxed) else (&m.gets if side == &m.puts else &m.puts)
    cdef int other = runs.cpu.load(memory_order_relaxed)
    cdef uint64_t count
    cdef int64_t until
    cdef int _
    if other < 0 or other == current_cpu() or SPIN_NS == 0 or side.waiters.head != NULL:
        return False  # or others wait already: a spinner would be there before the waiters that must be woken
    if m.attached and (with_gil or side == &m.joins or (side == &m.puts and m.capacity > SMALL)):
        return False  # tasks take long; and the gets are faster alone
    if side.turn.load(memory_order_relaxed) == RESERVED:
        return False  # for as long as its owner likes
    count = m.count.load(memory_order_relaxed)
    settle_and_unlock(m)  # `acquire` may have taken a promise back
    until = min(now_ns() + SPIN_NS, w.deadline if not w.expired else FOREVER)
    if m.attached:
        spin_detached(m, count, until)
        lock(m)
        begins(m, LOOK)
        return True
    spinners.fetch_add(1, memory_order_relaxed)
    # Served is not enough where there is a GIL: see "Spinning".
    while not (ready(m, side, w) and (not with_gil or spinners.load(memory_order_relaxed) > 1)):
        for _ in range(16):
            spin_pause()
        if now_ns() >= until:
            break
    spinners.fetch_sub(1, memory_order_relaxed)
    lock(m)
    begins(m, LOOK)
    return True


cdef Outcome park(Monitor* m, Side* side, Wait* w) noexcept nogil:
    """ENTER, PARK, RETURN. Returns DONE with the lock held, woken or not: look again."""
    cdef int64_t deadline = FOREVER if w.expired else w.deadline
    cdef int64_t now
    cdef bint woken
    cdef bint ticks
    if not make_node(w):
        settle_and_unlock(m)
        return OUT_OF_MEMORY
    queue_up(m, side, w)
    woken = sleep(m, w.node, min(deadline, w.tick))
    lock(m)
    if not woken and w.node.granted:
        # Granted just as it gave up: the wake-up is on its way to a node that is about to be used again.
        unlock(m)
        sleep(m, w.node, FOREVER)
        lock(m)
    begins(m, RETURN)
    leave(&side.waiters, w.node)
    now = now_ns()
    # Of a Queue the main thread looks for signals after every sleep: it has the GIL, so that this costs little.
    ticks = w.tick != FOREVER if m.attached else deadline > now >= w.tick
    if now >= deadline:
        begins(m, RETURN_LATE)
        w.expired = True
    elif ticks and not m.attached:
        begins(m, RETURN_SIGNALS)
    if ticks:
        w.tick = now + SIGNAL_TICK_NS
        settle_and_unlock(m)
        return TICKED
    return DONE


cdef Waiter* take_node() noexcept nogil:
    return pool.take()


cdef void give_back(Waiter* node) noexcept nogil:
    pool.give_back(node)


cdef bint make_node(Wait* w) noexcept nogil:
    """See to it that `w` has a node by which a thread waits; False where there is no memory for it."""
    if w.node != NULL and w.forks == forks:
        return True
    w.node = pool.take()  # in the child of a fork (in a signal handler) the old one is as `WaiterPool.forget` says
    w.forks = forks
    if w.node == NULL:
        return False
    w.node.wake = unpark_thread
    w.node.wake_arg = &w.node.parker
    return True


cdef void drop_node(Wait* w) noexcept nogil:
    if w.node != NULL:
        if w.forks == forks:  # else it is one of those that `WaiterPool.forget` left alone
            pool.give_back(w.node)
        w.node = NULL


cdef uint64_t this_thread() noexcept nogil:
    """A number that no other thread has had. (The system gives those of ended threads to new ones.)"""
    return THIS_THREAD


cdef void unpark_thread(void* parker) noexcept nogil:
    (<Parker*> parker).unpark()


# -- lists, grants ------------------------------------------------------------------------------------------------

cdef void enter(WaitList* waiters, Waiter* node) noexcept nogil:
    """Queue by ticket: a waiter that was overtaken, or looked for signals, gets its old place back."""
    cdef Waiter* before = waiters.tail
    if node.ticket == 0:
        node.ticket = waiters.next_ticket
        waiters.next_ticket += 1
    while before != NULL and before.ticket > node.ticket:
        before = before.prev
    node.prev = before
    node.next = waiters.head if before == NULL else before.next
    if node.next == NULL:
        waiters.tail = node
    else:
        node.next.prev = node
    if before == NULL:
        waiters.head = node
    else:
        before.next = node
    node.queued = True


cdef void unlink(WaitList* waiters, Waiter* node) noexcept nogil:
    if node.prev == NULL:
        waiters.head = node.next
    else:
        node.prev.next = node.next
    if node.next == NULL:
        waiters.tail = node.prev
    else:
        node.next.prev = node.prev
    node.prev = node.next = NULL
    node.queued = False


cdef void leave(WaitList* waiters, Waiter* node) noexcept nogil:
    """Out of the list, or give the promise back. The caller's `release` passes it on if it is not used."""
    if node.granted:
        node.granted = False
        waiters.promised -= node.need
        waiters.granted -= 1
        if node.bell == NULL:
            waiters.woken -= 1
            waiters.overtakes.store(0, memory_order_relaxed)
    elif node.queued:
        unlink(waiters, node)


cdef void hold(Monitor* m, Side* side, Wait* w, uint64_t need) noexcept nogil:
    """Under the lock: keep `need` promised while the caller is away, to allocate or to run signal handlers.

    `acquire` and `end_wait` end it, or `lend`.
    """
    global holding
    w.held = need
    w.held_of = m
    w.held_side = side
    w.held_forks = forks
    side.waiters.promised += need
    side.waiters.granted += 1
    holding = w


cdef void unhold(Wait* w) noexcept nogil:
    """Under the lock; a coroutine that was woken leaves its list, too."""
    global holding
    if w.returns:
        w.returns = False
        if w.forks == forks:
            w.side.wait_ns += now_ns() - w.began
            leave(&w.side.waiters, w.node)
    if w.held != 0:
        holding = NULL  # it was `w`: an operation that this thread was amid before has lent what it held (`lend`)
        if w.held_forks == forks:  # else none are left: this is the child of a fork that came in between
            w.held_side.waiters.promised -= w.held
            w.held_side.waiters.granted -= 1
        w.held = 0


cdef void unhold_and_release(Wait* w) noexcept nogil:
    cdef Monitor* m = w.held_of
    m.lock.lock()
    begins(m, UNHOLD)
    unhold(w)
    release(m)


cdef void lend() noexcept nogil:
    """Before this thread waits: give back what it holds by a ring's operation that it is amid.

    So it runs a signal handler, or a finalizer, which may wait for what only others can bring, by taking what was
    promised to this thread. (What they wait for by other means than f1buf's is not seen here; and a greenlet that
    switched to another in a handler would leave behind what points into its stack.)
    """
    if holding != NULL:
        unhold_and_release(<Wait*> holding)


cdef void lend_attached() noexcept:
    if holding != NULL:
        with nogil:
            lend()


cdef Waiter* servable(Monitor* m, Side* side) noexcept nogil:
    """The first waiter that could be served from what is not promised yet, or NULL.

    Not the head alone: a consumer that waits for many records must not stop one behind it that needs few.
    """
    cdef Waiter* node = side.waiters.head
    cdef uint64_t stock = available(m, side)
    if side.turn.load(memory_order_relaxed) == RESERVED:
        return first_to_give_up(m, side)
    if side.turn.load(memory_order_relaxed) == COPYING:
        return NULL
    if over(m, side):
        return node
    if not may_overtake(side):  # the woken one that they wait for SETTLEs when it returns
        return NULL
    while node != NULL and node.need != 0 and stock < side.waiters.promised + node.need:
        node = node.next
    return node


cdef Waiter* first_to_give_up(Monitor* m, Side* side) noexcept nogil:
    """The first waiter that must not wait for a block: as `gives_up`."""
    cdef Waiter* node = side.waiters.head
    cdef int how = m.shut.load(memory_order_relaxed)
    if how == SHUT_NOW or (how != OPEN and side == &m.puts):
        return node
    while node != NULL and not node.gives_up:
        node = node.next
    return node


cdef Waiter* grant(Monitor* m, Side* side, Waiter* chain) noexcept nogil:
    """SETTLE one side: grant up to the first thread, or all after a shutdown, and all joins.

    Returns `chain` with them in front.
    """
    cdef Waiter* node = servable(m, side)
    while node != NULL:
        unlink(&side.waiters, node)
        node.granted = True
        side.waiters.promised += node.need
        side.waiters.granted += 1
        side.waiters.woken += node.bell == NULL
        node.next = chain
        chain = node
        if node.bell == NULL and side != &m.joins and not over(m, side):
            break
        node = servable(m, side)
    return chain


cdef Waiter* settle(Monitor* m) noexcept nogil:
    """SETTLE, under the lock. Returns the waiters that must be woken after the unlock."""
    cdef Waiter* chain = grant(m, &m.joins, grant(m, &m.puts, grant(m, &m.gets, NULL)))
    if DEBUG:
        insist(settled_fault(m, &m.puts))
        insist(settled_fault(m, &m.gets))
        insist(settled_fault(m, &m.joins))
    return chain


cdef void wake_all(Waiter* chain) noexcept nogil:
    """WAKE, without the lock, in the order of the grants: the first that was granted is the last in the chain."""
    cdef Waiter* woken
    chain = reversed_chain(chain)
    while chain != NULL:
        woken = chain
        chain = chain.next  # before the wake-up: its owner may free the node right after
        woken.wake(woken.wake_arg)


cdef inline Waiter* reversed_chain(Waiter* chain) noexcept nogil:
    cdef Waiter* result = NULL
    cdef Waiter* node
    while chain != NULL:
        node = chain
        chain = chain.next
        node.next = result
        result = node
    return result


cdef void settle_and_unlock(Monitor* m) noexcept nogil:
    """As `release`, of any monitor."""
    cdef Waiter* chain = settle(m)
    if m.settled != NULL:
        m.settled(m.settled_arg)
    if DEBUG:
        insist(monitor_fault(m))
        record(m)
    unlock(m)
    wake_all(chain)


cdef void shut(Monitor* m, int how) noexcept nogil:
    """Under the lock; the caller's `release` wakes everybody. A shutdown never turns milder."""
    if how > m.shut.load(memory_order_relaxed):
        m.shut.store(how, memory_order_relaxed)


# -- invariants ---------------------------------------------------------------------------------------------------

cdef const char* monitor_fault(Monitor* m) noexcept nogil:
    """Which rule of the lists and their promises (I2) does not hold, under the lock; NULL where all do.

    The buffers check I1.
    """
    cdef const char* fault = waiters_fault(&m.puts.waiters)
    if fault == NULL:
        fault = waiters_fault(&m.gets.waiters)
    return fault if fault != NULL else waiters_fault(&m.joins.waiters)


cdef const char* waiters_fault(WaitList* waiters) noexcept nogil:
    cdef Waiter* node = waiters.head
    cdef Waiter* before = NULL
    while node != NULL:
        if node.prev != before or not node.queued or node.granted:
            return "a list links queued, ungranted waiters"
        if before != NULL and before.ticket >= node.ticket:
            return "waiters are queued by ticket"
        before = node
        node = node.next
    if waiters.tail != before:
        return "a list ends at its tail"
    if waiters.granted == 0 and waiters.promised != 0:
        return "promises belong to granted waiters"
    if waiters.woken == 0 and waiters.overtakes.load(memory_order_relaxed) != 0:
        return "only waiters that were woken are overtaken"
    return NULL


cdef const char* settled_fault(Monitor* m, Side* side) noexcept nogil:
    """I3, under the lock and after settling."""
    if side.waiters.woken == 0 and servable(m, side) != NULL:
        return "where a waiter can be served, a thread has been woken"
    return NULL


cdef void insist(const char* fault) noexcept nogil:
    if fault != NULL:
        broken_invariant(fault)


# -- the recorder -------------------------------------------------------------------------------------------------
#
# A debug build can write down each locked section just before its unlock, so that the order is the lock's: which
# thread's it was, how it began, and what it left. The model (`protocol_model.py`) follows such recordings, to see that
# the code takes no step that the model does not know (test_protocol_recorded.py). Sections that change nothing, nor
# SETTLE, are left out.

cdef struct Section:
    Monitor* monitor
    unsigned long thread
    int step
    uint64_t[16] left      # in the order of FIELDS

# What a section left. The lists' lengths: `puts_waiting` and so on. `unfinished` is a Queue's.
cdef tuple FIELDS = (
    "shut", "count", "capacity", "unfinished",
    "puts_turn", "puts_waiting", "puts_granted", "puts_promised", "puts_woken",
    "gets_turn", "gets_waiting", "gets_granted", "gets_promised", "gets_woken",
    "joins_waiting", "joins_granted",
)
cdef tuple STEP_NAMES = (
    "OTHER", "LOOK", "TRY", "RETURN", "RETURN, LATE", "RETURN, SIGNALS", "END", "UNHOLD", "FAST",
)
cdef Section* sections = NULL
cdef size_t section_room = 0
cdef atomic[size_t] section_count

RECORDS = bool(DEBUG)  # whether this build can


def _record(size_t room):
    """Write down the next locked sections of all buffers, up to so many. While no other thread uses a buffer."""
    global sections, section_room
    if not DEBUG:
        raise RuntimeError("this build of f1buf does not record; build it with F1BUF_DEBUG=1")
    PyMem_RawFree(sections)
    sections = NULL
    section_room = 0
    section_count.store(0)
    sections = <Section*> PyMem_RawMalloc(room * sizeof(Section))
    if sections == NULL:
        raise MemoryError(f"no memory to record {room} sections")
    section_room = room


def _recorded():
    """End what `_record` began; [(buffer, thread, step, {field: value}), ...]. While no other thread uses a buffer."""
    global sections, section_room
    cdef size_t n = section_count.load()
    cdef size_t room = section_room
    recording = []
    for i in range(min(n, room)):
        recording.append((
            <size_t> sections[i].monitor,
            sections[i].thread,
            STEP_NAMES[sections[i].step],
            {name: sections[i].left[place] for place, name in enumerate(FIELDS)},
        ))
    PyMem_RawFree(sections)
    sections = NULL
    section_room = 0
    if n > room:
        raise RuntimeError(f"there were {n} sections; _record({room}) has no room for them")
    return recording


cdef void record(Monitor* m) noexcept nogil:
    """Under the lock, just before the unlock."""
    cdef Section* section
    cdef size_t i
    if sections != NULL:
        i = section_count.fetch_add(1)
        if i < section_room:
            section = &sections[i]
            section.monitor, section.thread, section.step = m, PyThread_get_thread_ident(), m.step
            section.left[0] = m.shut.load(memory_order_relaxed)
            section.left[1] = m.count.load(memory_order_relaxed)
            section.left[2] = m.capacity
            section.left[3] = m.unfinished
            record_side(&m.puts, &section.left[4])
            record_side(&m.gets, &section.left[9])
            section.left[14] = length(&m.joins.waiters)
            section.left[15] = m.joins.waiters.granted
    m.step = OTHER


cdef void record_side(Side* side, uint64_t* left) noexcept nogil:
    left[0] = side.turn.load(memory_order_relaxed)
    left[1] = length(&side.waiters)
    left[2] = side.waiters.granted
    left[3] = side.waiters.promised
    left[4] = side.waiters.woken


cdef uint64_t length(WaitList* waiters) noexcept nogil:
    cdef Waiter* node = waiters.head
    cdef uint64_t n = 0
    while node != NULL:
        n += 1
        node = node.next
    return n


# -- fork ---------------------------------------------------------------------------------------------------------
#
# pthread_atfork rather than os.register_at_fork: nothing of Python runs between these handlers and the fork, so no
# other hook can find the locks taken. Taking them is short, since nobody waits while holding one.

cdef Mutex registry_lock
cdef Monitor* registry = NULL


cdef void register_for_fork(Monitor* m) noexcept nogil:
    global registry
    registry_lock.lock()
    m.fork_next = registry
    if registry != NULL:
        registry.fork_prev = m
    registry = m
    registry_lock.unlock()


cdef void unregister_for_fork(Monitor* m) noexcept nogil:
    global registry
    registry_lock.lock()
    if m.fork_prev != NULL:
        m.fork_prev.fork_next = m.fork_next
    elif registry == m:
        registry = m.fork_next
    if m.fork_next != NULL:
        m.fork_next.fork_prev = m.fork_prev
    registry_lock.unlock()


cdef void before_fork() noexcept nogil:
    cdef Monitor* m
    registry_lock.lock()
    m = registry
    while m != NULL:
        m.lock.lock()
        m = m.fork_next
    pool.lock.lock()  # last: a thread that holds a monitor's lock may need a node


cdef void after_fork_in_parent() noexcept nogil:
    cdef Monitor* m = registry
    pool.lock.unlock()
    while m != NULL:
        m.lock.unlock()
        m = m.fork_next
    registry_lock.unlock()


cdef void after_fork_in_child() noexcept nogil:
    """Only the forking thread lives on: nobody waits, and a copy that another thread had begun will never end."""
    global main_thread, forks
    cdef Monitor* m = registry
    main_thread = PyThread_get_thread_ident()
    forks += 1
    pool.forget()
    pool.lock.unlock()
    spinners.store(0, memory_order_relaxed)
    while m != NULL:
        if m.puts.turn.load(memory_order_relaxed) or m.gets.turn.load(memory_order_relaxed):
            m.shut.store(TORN, memory_order_relaxed)
        m.puts.turn.store(0, memory_order_relaxed)
        m.gets.turn.store(0, memory_order_relaxed)
        forget_waiters(&m.puts.waiters)
        forget_waiters(&m.gets.waiters)
        forget_waiters(&m.joins.waiters)
        m.slot_lock.renew()  # it may have been handed to a thread of the parent's that had not taken it yet
        m.lock.unlock()
        m = m.fork_next
    registry_lock.unlock()


cdef void forget_waiters(WaitList* waiters) noexcept nogil:
    waiters.head = waiters.tail = NULL
    waiters.promised = 0
    waiters.granted = 0
    waiters.woken = 0
    waiters.overtakes.store(0, memory_order_relaxed)


if install_fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child) != 0:
    raise MemoryError("f1buf: no memory for the fork handlers")


# -- arguments ----------------------------------------------------------------------------------------------------

cdef int64_t deadline_from(bint block, object timeout) except -1:
    """The absolute deadline [ns] of a call: 0 for one that must not wait, FOREVER without a timeout.

    A timeout is looked at only where the call may block, as in the standard library.
    """
    cdef double seconds
    if not block:
        return 0
    if timeout is None:
        return FOREVER
    seconds = seconds_from(timeout)
    if isnan(seconds) or seconds < 0.0:
        raise ValueError(f"timeout is {timeout!r}; expected a number of seconds >= 0, or None to wait for ever")
    return 0 if seconds == 0.0 else deadline_in(seconds)


cdef int64_t deadline_in(double seconds) noexcept nogil:
    """The deadline so many seconds > 0 from now."""
    cdef int64_t now = now_ns()
    if seconds * 1e9 >= <double> (FOREVER - now - 2048):  # up there doubles are 1024 apart
        return FOREVER
    return now + <int64_t> ceil(seconds * 1e9)


cdef double seconds_from(object timeout) except? -1.0:
    try:
        return PyFloat_AsDouble(timeout)
    except OverflowError:  # an integer beyond a float's range
        return float("inf") if timeout > 0 else -1.0
    except TypeError:
        raise TypeError(
            f"timeout is {timeout!r}; expected a number of seconds, or None to wait for ever"
        ) from None


cdef object as_count(object value, str name, int least):
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer of at least {least}") from None
    if count < least:
        raise ValueError(f"{name} is {count}; expected at least {least}")
    return count
