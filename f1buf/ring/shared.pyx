# distutils: language = c++
"""`SharedRingBuffer`: the ring's contract between processes, of which any may be killed at any moment.

What a segment holds is in `segment.hpp`, how it gets its name in `segments.py`; all that does not touch the slots is
`RingBuffer`'s. Each side, puts and gets, has a lock and a sequence number of its own. A put takes its side's lock,
copies into free slots, then publishes them by one store to its number; a get takes its side's, copies out, then gives
the slots back by one store to its number. So one put and one get copy at the same time.

Invariants, whatever happens:

S1  gets.seq <= puts.seq <= gets.seq + capacity. Both only grow.
S2  A side's `seq` is only written by a thread that has that side's lock, once all before it is done.
S3  The slots of [gets.seq, puts.seq) belong to whoever has the gets' lock, the others to whoever has the puts' lock; or
    to the block whose attachment stands in that side's `turn`.
S4  offered == taken + dropped + discarded + qsize, as for every ring (`RingBuffer.stats`).

Killed. A lock names the attachment whose thread has it; an attachment is alive while the kernel says that its byte of
the file is locked, and its place still has its generation. A thread that finds a lock of a dead one's takes it, and
finds the state before that one's store or after it; there is no third. A put that was killed before its store has left
bytes in free slots. A get that was killed before its store has taken nothing: its records are there for the next.
Whatever changes more than the one number writes down first what is to be (`give_up_oldest`), and the next one finishes
it (`repair`). A block that is out when its process dies ends as one that an exception left.

Lock order: puts before gets. A thread that has the gets' lock takes no other. A put under "drop_oldest" that finds the
ring full takes the gets' lock for the time of three stores; where it does not get that soon, it drops what it brings.
A thread that has the GIL only tries: it waits without.

Waiting. A waiter spins for 20 us, then sleeps on `wakes`, its side's count of wake-ups, a futex; it has written to
`wake_at` from which number of the other side on it wants to be woken. Why no wake-up is lost: the waiter first lowers
`wake_at`, then looks at the number again, then sleeps, unless `wakes` has changed since it began. The other side first
stores its number, then looks at `wake_at`; where that is reached it sets `wake_at` to NOBODY, changes `wakes`, then
wakes. All of these are sequentially consistent (how the number is stored, see `PUBLISH`): so either the waiter sees the
new number, or the other side sees the waiter, and then the count has changed before the waiter sleeps, or the wake-up
comes after it slept. One sleeper is woken, the one that has slept longest; all, where one of them waits for anything
but a single record or slot. A sleeper that comes back while others sleep lowers `wake_at` to 0 for them before it does
anything else; and a section that leaves something for others of its own side wakes the next. So they are woken one
after another, for as long as there is something for them. The lock's own sleepers, too, are woken one after another:
one that goes away without the lock wakes the next.

A thread that is killed between its store and its wake-up leaves others asleep. So nobody sleeps for longer than TICK,
80 ms, without a look: at what is there, at the lock's owner, and, twice a second, at who is attached. Where nobody was
killed no waiter depends on that (the model explores it).

The end. `shut` ends puts at once, and gets once no put is going on: `sealed`, which is written by a thread that has the
puts' lock and finds `shut`, so that no put behind it will publish anything.

Sources: the sequence numbers are Lamport's (1977, "Proving the correctness of multiprocess programs"), a bounded buffer
of one producer and one consumer; the lock with its contended bit is the third of Drepper's "Futexes are tricky" (2005),
and what it leaves to a robust list of the C library's is here left to the locks of open files (`F_OFD_SETLK`).
"""

import atexit
import fcntl
import os
import secrets
import sys
import weakref

from libc.errno cimport errno
from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.atomic cimport atomic, memory_order, memory_order_acquire, memory_order_relaxed

from f1buf.core.sync cimport (
    ABANDONED, BROKEN, CLOSED, COPYING, DEBUG, DONE, EMPTY, FOREVER, FREE, FULL, GROW, HELD, HELD_BY_SELF, OPEN, SHUT,
    SHUT_DOWN, SHUT_NOW, SIGNAL_TICK_NS, SPIN_NS, TICKED,
    Monitor, Mutex, Outcome, Parker, Side, Wait, Waiter,
    current_cpu, deadline_from, install_fork_handlers, now_ns, settle_and_unlock, spin_pause, this_thread, unhold,
)
from f1buf.core.sync cimport acquire as wait_in_list
from f1buf.ring.ring cimport (
    BLOCK, DROP_OLDEST, Counters, Overflow, RingBuffer, Span, checked_capacity, checked_policy, piece_size,
)

from f1buf.ring import segments
from f1buf.ring.convert import check_dtype
from f1buf.ring.reading import READING

__all__ = ["SharedRingBuffer"]

cdef extern from "ring/copy.hpp" namespace "f1buf" nogil:
    const size_t ATTACHED_COPY
    void copy_bytes(char*, const char*, size_t) noexcept

cdef extern from "ring/segment.hpp" namespace "f1buf" nogil:
    const size_t HEADER
    const int PLACES
    const uint64_t NOBODY
    const memory_order PUBLISH
    const uint32_t NO_ROLE
    const uint32_t PUTS
    const uint32_t GETS
    const uint32_t CONTENDED
    const uint32_t GENERATIONS
    const bint SHARES
    const size_t PLACES_AT

    ctypedef atomic[uint32_t] Word
    ctypedef atomic[uint64_t] Number

    # Each field is explained where it is defined, in segment.hpp.
    cppclass SharedSide:
        Word lock
        Word turn
        Number owner
        Number seen
        Number lost
        Number discarded
        Number* intent
        Number intends
        Number waits
        Number wait_ns
        Number high_water
        Number seq
        atomic[int32_t] cpu
        Word waiting
        Number wake_at
        Word wakes
        Word sleepers

    cppclass Place:
        Word generation
        Word process
        Word roles

    cppclass Segment:
        Word shut
        Word sealed
        Word roles
        Number refused
        SharedSide puts
        SharedSide gets
        Place* places

    cppclass Openings:
        int open(const char*, int) noexcept
        void forget(int) noexcept
        void pass_to_child() noexcept

    cppclass Thread "std::thread":
        pass

    cppclass Watcher:
        Thread* thread
        Parker parker
        atomic[int] stops
        uint64_t asleep_for

    cppclass Attachment:
        Segment* segment
        Monitor* monitor
        Watcher* watchers
        size_t size
        int file
        Word id
        Word roles
        atomic[int] closed
        atomic[int] locking
        Attachment* prev
        Attachment* next

    int place_of(uint32_t) noexcept
    uint32_t generation_of(uint32_t) noexcept
    bint futex_sleep(Word*, uint32_t, int64_t) noexcept
    void futex_wake(Word*, int) noexcept
    int others_hold(int, int64_t, int64_t) noexcept
    bint take_place(Attachment*) noexcept
    bint take_own_place(Attachment*) noexcept
    void leave_place(Attachment*) noexcept
    char* map_file(int, size_t) noexcept
    void unmap(char*, size_t) noexcept
    void close_file(int) noexcept
    uint32_t process_id() noexcept
    bint open_anew(int) noexcept
    void stop_here(int) noexcept
    void nap() noexcept
    Thread* start_watcher(void (*)(SharedRingBuffer, int) noexcept nogil, SharedRingBuffer, int) noexcept
    void join_watcher(Thread*) noexcept

cdef enum:
    NEVER = 0         # of `stop_at`
    EVERYBODY = 0x7fffffff

cdef int64_t TICK_NS = 80_000_000       # how long a sleep lasts at most, also before signal handlers run
cdef int64_t LOOK_NS = 400_000_000      # how often a sleeper looks who is attached
cdef int64_t AHEAD_NS = 1_500           # how long a waiter that has spun waits for more of a batch
cdef int AHEAD_TIMES = 8                # and how often at most, as long as more comes
cdef int64_t LOCK_SPIN_NS = 5_000       # a copy of 64 KB, or the rest of a larger one
cdef int64_t WAKING_NS = 100_000        # what it takes until a thread runs that was woken, and more
cdef int64_t EVICTION_NS = 1_000_000    # how long a put that drops the oldest waits for a get that is copying
# How long a call that must not wait does so all the same for a copy that is going on: until then a copy ends by itself,
# unless its process is stopped.
cdef int64_t PATIENCE_NS = 20_000_000


def _tick_every(int64_t ns):
    """Let sleeps last so long at most, from now on [ns]; returns what it was. To see that no wake-up is lost."""
    global TICK_NS
    before, TICK_NS = TICK_NS, ns
    return before


# -- steps --------------------------------------------------------------------------------------------------------
#
# A debug build can be made to stop, or die, at the n-th pass of any step of the protocol (test_shared_killed.py).

cdef enum Step:
    LOCKED = 1      # a side's lock has been taken, and nothing done
    COPIED          # the records are in their slots, or out of them
    PUBLISHED       # the number is stored
    UNLOCKED
    INTENDED        # amid `give_up_oldest`: written down, not done
    GIVEN_UP        # the number is stored, not the counts
    COUNTED
    TURN_TAKEN      # a block is out
    TURN_ENDING     # its records are in, or out; the turn is still taken
    ASLEEP          # wake_at is lowered
    WOKEN           # back from sleep, and `wake_at` not lowered again
    WAKING         # wake_at is NOBODY, nobody woken yet
    SEALING         # a shutdown that nobody has been told of
    STEPS

cdef tuple STEP_NAMES = (
    "LOCKED", "COPIED", "PUBLISHED", "UNLOCKED", "INTENDED", "GIVEN_UP", "COUNTED", "TURN_TAKEN", "TURN_ENDING",
    "ASLEEP", "WOKEN", "WAKING", "SEALING",
)
cdef int stop_step = NEVER
cdef int stop_signal = 0
cdef atomic[int] stop_in

STOPS = STEP_NAMES if DEBUG else ()  # the steps at which this build can


def _stop_at(name, int nth, int signal):
    """Send this process a signal at the `nth` time from now on that one of its threads is at a step. For tests."""
    global stop_step, stop_signal
    if not DEBUG:
        raise RuntimeError("this build of f1buf does not stop at steps; build it with F1BUF_DEBUG=1")
    stop_in.store(nth)
    stop_signal = signal
    stop_step = STEP_NAMES.index(name) + 1


cdef inline void at(Step step) noexcept nogil:
    if DEBUG and stop_step == <int> step and stop_in.fetch_sub(1) == 1:
        stop_here(stop_signal)


cdef class SharedRingBuffer(RingBuffer):
    # The first line is what inspect.signature reads.
    """SharedRingBuffer(capacity, dtype=..., *, name=None, overflow="block")\n--\n
    A `RingBuffer` in shared memory: for any number of threads of any number of processes of one machine.

    Parameters
    ----------
    capacity : int
        How many records it holds, exactly; at least 1. ``capacity * itemsize + 8192`` bytes of shared memory are
        allocated, at once.
    dtype : dtype-like, optional
        What a record is: any numpy dtype without Python objects. Default: `READING`.
    name : str or None
        By which other processes `attach`. None: a new name. Where a ring of that name is left that no process has open
        any more, since all were killed, this one takes its place.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What a put does when the ring is full, as in `RingBuffer`.

    Raises
    ------
    FileExistsError
        Another ring has the name, and a process has it open; or the name is something else's.
    MemoryError
        There is not so much shared memory.
    NotImplementedError
        The system is not Linux.
    TypeError, ValueError
        As `RingBuffer`; or the name has no, or too many, characters, or a slash.

    Notes
    -----
    Every method of `RingBuffer` does what it does there, for the threads of all processes together. What differs:

    - ``with`` shuts it down for all processes; where an exception leaves the block what is left is discarded.
    - Any process may be killed at any moment, and the others go on within 100 ms. Of what it was doing, a put that had
      not returned may have happened, and so may a get: then its records are gone with it, else they are there for
      others. (Those of a `peek` are there for others until its block has ended.) Nothing else is lost, nothing comes
      twice, or in pieces, or out of order.
    - `Abandoned`, a `ShutDown`, is raised by a get that would wait where every process is gone that has ever put,
      without a shutdown; and by a put, where every process is gone that has ever taken. That is known within a second.
      Another process may attach and go on; so may this one.
    - Who is served first among those that wait is the kernel's choice.
    - A call that must not wait may wait for the copy of another for 20 ms. Where that takes longer, since its process
      is stopped amid it, the call raises `Full` or `Empty`, or drops what it brings.
    - Under "drop_oldest" a put drops what it brings where a get copies for longer than a millisecond.
    - After a fork the child goes on with the ring as another process does.
    - The main thread of a process looks for signals as always; a record for which it waited may be taken by another
      process while its signal handlers run.

    It can be pickled: then the other process attaches to it. Give it to a ``multiprocessing.Process`` or a pool as an
    argument. The process that created it takes the name away at its normal exit, or where its object is collected; then
    nobody can attach any more, and those that are attached go on. The memory is freed when the last one closes it.

    Only processes of the same user can attach (mode 0600). Whatever they write into the segment, no other process
    touches memory outside of it: what makes no sense is a RuntimeError. A process that makes the file shorter ends the
    others by SIGBUS; shared memory with a name cannot be sealed against that.

    Up to 192 processes may be attached at a time.

    Examples
    --------
    >>> from f1buf import SharedRingBuffer
    >>> ring = SharedRingBuffer(1024, "i8")
    >>> other = SharedRingBuffer.attach(ring.name)  # in this process or in another one
    >>> ring.put_many([1, 2, 3])
    3
    >>> other.get_many().tolist()
    [1, 2, 3]
    """

    cdef Attachment here
    cdef atomic[int] begun
    cdef readonly str name
    cdef long made_by              # the process that created it, and takes the name away; 0: another one did
    cdef bytes token

    # -- life -----------------------------------------------------------------------------------------------------

    def __init__(self, capacity, dtype=READING, *, name=None, overflow="block"):
        cdef uint64_t size = checked_capacity(capacity)
        cdef Overflow policy = checked_policy(overflow)
        must_be_linux()
        checked = check_dtype(dtype)
        name = segments.checked_name(name)
        token = secrets.token_bytes(16)
        records = size * <object> checked.itemsize
        whole = HEADER + records
        what = f"a shared ring of {size} records of {checked.itemsize} bytes ({records} bytes in all)"
        segments.check_size(whole, what)
        start = segments.header_bytes(
            segments.Header(whole, size, checked.itemsize, <int> policy, token, False, checked)
        )
        self.must_be_new()
        file = segments.allocate(whole, what, _files)
        try:
            self.map(file, whole, start)
            self.take_place()
            self.begin(size, checked, policy, <char*> self.here.segment + HEADER)
            segments.publish(file, name, users_of, _files)
        except BaseException:
            self.let_go(file)
            raise
        self.name, self.token, self.made_by = name, token, os.getpid()
        remember(self)

    @classmethod
    def attach(cls, name, *, timeout=None):
        """
        Open a ring that another process, or this one, has created.

        Parameters
        ----------
        name : str
            The one that it was created with; `name` tells it.
        timeout : float or None
            How long to wait for a ring of that name [s]; None: it must be there now.

        Returns
        -------
        SharedRingBuffer
            With the capacity, dtype and overflow policy that the ring was created with.

        Raises
        ------
        FileNotFoundError
            There was no ring of that name in time.
        PermissionError
            It is another user's.
        ValueError
            It is no ring, one of another layout, or one that was written over; or the timeout is none.
        MemoryError
            This process has no room for so much memory.
        OSError
            192 processes are attached already.
        """
        return attached(cls, name, timeout, None)

    cdef int open_named(self, object name, object timeout, object token) except -1:
        must_be_linux()
        name = segments.checked_name(name)
        file, header = segments.find(name, timeout, _files)
        try:
            self.must_be_new()
            if token is not None and header.token != token:
                raise FileNotFoundError(f"the shared ring {name!r} is gone; another one has its name now")
            self.map(file, header.size, None)
            self.take_place()  # which opens the gate
            self.begin(
                header.capacity, header.dtype, <Overflow> (<int> header.overflow), <char*> self.here.segment + HEADER
            )
        except BaseException:
            self.let_go(file)
            raise
        self.name, self.token = name, header.token
        return 0

    cdef int must_be_new(self) except -1:
        if self.begun.exchange(1) != 0:
            raise RuntimeError(f"this {type(self).__name__} has been initialised already; create another one")
        return 0

    cdef int map(self, int file, object size, bytes start) except -1:
        cdef char* memory = NULL
        if size <= sys.maxsize:  # which a ring that a process of 64 bits has made need not be on 32
            memory = map_file(file, size)
        if memory == NULL:
            raise MemoryError(f"cannot map {size} bytes of shared memory")
        self.here.file = file
        self.here.monitor = &self.monitor
        close_lists(&self.here)
        self.monitor.settled = settled
        self.monitor.settled_arg = &self.here
        self.here.segment = <Segment*> memory
        self.here.size = size
        if start is not None:
            memcpy(memory, <const char*> start, HEADER)
            self.here.segment.puts.wake_at.store(NOBODY)
            self.here.segment.gets.wake_at.store(NOBODY)
        return 0

    cdef int take_place(self) except -1:
        if not take_place_and_register(&self.here):
            raise OSError(f"{PLACES} processes are attached to the ring; expected fewer; close it in some of them")
        return 0

    cdef void let_go(self, int file) noexcept:
        """Of what was begun and has failed."""
        if self.here.closed.exchange(1) == 0:
            unregister(&self.here)
        if self.here.segment != NULL:
            unmap(<char*> self.here.segment, self.here.size)
        self.slots = NULL
        self.here.segment = NULL
        self.here.file = -1
        self.here.id.store(0)
        self.begun.store(0)
        fcntl.flock(file, fcntl.LOCK_UN)
        _files.close(file)

    def __dealloc__(self):
        self.slots = NULL  # not `RingBuffer`'s to free
        if self.here.segment != NULL:
            end_watcher(&self.here, False)
            end_watcher(&self.here, True)
            if self.here.closed.exchange(1) == 0:
                leave_place(&self.here)
            unregister(&self.here)
            unmap(<char*> self.here.segment, self.here.size)
            close_file(self.here.file)

    def __del__(self):
        if self.made_by != 0 and self.made_by == <long> process_id():
            self.unlink()

    def close(self):
        """
        Leave the ring: this process has it open no more. It goes on for the others.

        Puts, gets, blocks and snapshots raise ValueError from now on, also those that wait in another thread, and
        `shutdown` does nothing any more. May be called more than once. The name stays; see `unlink`. The memory is
        unmapped with the object.

        Raises
        ------
        BufferError
            A block of it is out in this process.
        """
        if self.here.segment == NULL or self.here.closed.load() != 0:
            return
        self.must_have_no_block()
        if self.here.closed.exchange(1) != 0:
            return
        with nogil:
            # A thread that takes a lock from now on sees `closed`, and gives it back at once.
            wait_until_unused(&self.here)
        try:
            self.must_have_no_block()  # none since
        except BufferError:
            self.here.closed.store(0)
            raise
        leave_place(&self.here)

    cdef int must_have_no_block(self) except -1:
        cdef uint32_t id = self.here.id.load()
        if self.here.segment.puts.turn.load() == id or self.here.segment.gets.turn.load() == id:
            raise BufferError("a block of the ring is out; leave its `with` statement first, and let its arrays go")
        return 0

    def unlink(self):
        """
        Take the ring's name away: nobody can attach any more; those that are attached go on.

        Done by itself where the creating process exits, or collects its object. May be called more than once, by any
        process that has the ring.
        """
        if self.here.segment != NULL:
            segments.remove(self.here.file, self.name)
        if self.made_by == os.getpid():
            self.made_by = 0

    @property
    def attached(self):
        """The ids of the processes that have the ring open, this one too; one for each time that it is open."""
        self.must_be_open()
        return [process for process in users_of(self.here.file, self.here.id.load()) if process != 0]

    def _will_put(self):
        """From now on whoever waits for a record is told where this process is gone, as if it had put one already."""
        self.must_be_open()
        tell_role(self, PUTS)

    def __reduce_ex__(self, protocol):
        """Unpickled, in whatever process, it is attached to the same ring."""
        self.must_be_open()
        if not segments.is_at(self.here.file, self.name):
            raise ValueError(
                f"the shared ring {self.name!r} has no name any more, by which another process could attach; pickle it "
                "before `unlink`, and keep the object that created it"
            )
        return _unpickled, (type(self), self.name, self.token)

    def __repr__(self):
        if self.here.segment == NULL or self.here.closed.load() != 0:
            return f"<SharedRingBuffer {self.name!r}, {'shut down' if self.here.segment == NULL else 'closed'}>"
        state = "open" if self.state() == OPEN else "shut down"
        return (
            f"<SharedRingBuffer {self.name!r} of {self.qsize()}/{self.capacity} {self.dtype!s}, "
            f"overflow={self.overflow!r}, {state}>"
        )

    cdef int must_be_open(self) except -1:
        if self.here.closed.load() != 0:
            raise ValueError("this process has closed the ring; attach to it anew")
        return 0

    # -- what it does in its own way: see ring.pxd ----------------------------------------------------------------

    cdef uint64_t there(self) noexcept nogil:
        cdef uint64_t n
        if self.here.segment == NULL:
            return 0
        n = records_there(self.here.segment)
        return min(n, self.monitor.capacity)

    cdef int state(self) noexcept nogil:
        if self.here.segment == NULL:
            return SHUT
        return min(<int> self.here.segment.shut.load(), SHUT_NOW)

    cdef bint try_put(self, const char* source, uint64_t n, Wait* w) noexcept nogil:
        cdef SharedSide* puts
        cdef uint64_t room
        if n > ATTACHED_COPY // self.itemsize or self.here.closed.load(memory_order_relaxed) != 0:
            return False
        if w != NULL and w.returns:
            return False
        puts = &self.here.segment.puts
        tell_role(self, PUTS)
        if not try_lock(self, puts):
            return False
        room = room_there(self, n)
        if not may_put_now(self, n, &room):
            unlock(puts)
            return False
        fill_and_publish(self, source, room if room < n else n, n)
        return True

    cdef uint64_t put_records(self, const char* source, uint64_t n, Wait* w, Outcome* outcome) noexcept nogil:
        """As `ring.put_records`."""
        cdef SharedSide* puts
        cdef uint64_t done = 0
        cdef uint64_t step
        outcome[0] = enter(self, PUTS)
        if outcome[0] != DONE:
            return 0
        puts = &self.here.segment.puts
        while done < n:
            outcome[0] = acquire(self, puts, w, True)
            if outcome[0] == HELD or (outcome[0] == FULL and self.policy != BLOCK):
                return done + give_up_put(self, n - done, outcome)
            if outcome[0] != DONE:
                break
            if self.here.segment.shut.load() != OPEN:
                outcome[0] = SHUT_DOWN
                leave_puts(self, 0, 0)
                break
            step = put_piece(self, source + done * self.itemsize, n - done)
            if step == 0:
                outcome[0] = ABANDONED if w.abandoned else FULL
                break
            done += step
            if done < n:
                give_way(puts)
        return done

    cdef uint64_t try_get(self, char* out, uint64_t least, uint64_t room, uint64_t* first_seq,
                          Wait* w) noexcept nogil:
        cdef SharedSide* gets
        cdef uint64_t n
        if self.here.closed.load(memory_order_relaxed) != 0 or (w != NULL and w.returns):
            return 0
        gets = &self.here.segment.gets
        tell_role(self, GETS)
        if not try_lock(self, gets):
            return 0
        n = min(room, records_for(self, room))
        if (
            n < least
            or n > ATTACHED_COPY // self.itemsize
            or gets.turn.load(memory_order_relaxed) != 0
            or self.here.segment.shut.load() == SHUT_NOW
        ):
            unlock(gets)
            return 0
        first_seq[0] = gets.seq.load(memory_order_relaxed)
        copy_out(self, out, first_seq[0], n)
        take_out(self, n)
        return n

    cdef uint64_t get_records(self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                              Outcome* outcome) noexcept nogil:
        """As `ring.get_records`; but that nothing is promised to a caller that makes room."""
        cdef SharedSide* gets
        cdef uint64_t n
        outcome[0] = enter(self, GETS)
        if outcome[0] != DONE:
            return 0
        gets = &self.here.segment.gets
        outcome[0] = acquire(self, gets, w, most > 1)
        if outcome[0] != DONE and outcome[0] != HELD:
            return 0
        n = min(most, records_for(self, most))
        if n == 0 or outcome[0] == HELD or self.here.segment.shut.load() == SHUT_NOW:
            outcome[0] = end_of_get(self, w)
            leave_gets(self, 0)
            return 0
        if n > room:
            outcome[0] = GROW
            leave_gets(self, 0)
            return n
        first_seq[0] = gets.seq.load(memory_order_relaxed)
        copy_out(self, out, first_seq[0], n)
        take_out(self, n)
        return n

    cdef uint64_t copy_newest(self, char* out, uint64_t room, Wait* w, Outcome* outcome) noexcept nogil:
        cdef uint64_t n
        cdef uint64_t there
        outcome[0] = enter(self, NO_ROLE)
        if outcome[0] != DONE:
            return 0
        outcome[0] = acquire(self, &self.here.segment.gets, w, False)
        if outcome[0] != DONE and outcome[0] != HELD:
            return 0
        there = records_for(self, UINT64_MAX)
        n = 0 if outcome[0] == HELD else min(room, there)
        copy_out(self, out, self.here.segment.gets.seq.load(memory_order_relaxed) + there - n, n)
        leave_gets(self, 0)
        outcome[0] = DONE
        return n

    cdef Outcome reserve_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil:
        cdef Outcome outcome = enter(self, PUTS)
        cdef SharedSide* puts
        cdef uint64_t room
        if outcome != DONE:
            return outcome
        puts = &self.here.segment.puts
        outcome = acquire(self, puts, w, True)
        if outcome != DONE and outcome != HELD:
            return outcome
        span.seq = puts.seq.load(memory_order_relaxed)
        span.pos = span.seq % self.monitor.capacity
        span.count = min(n, self.monitor.capacity - span.pos)
        if outcome == HELD or self.here.segment.shut.load() != OPEN:
            outcome = SHUT_DOWN if self.here.segment.shut.load() != OPEN else FULL
        else:
            room = room_there(self, span.count)
            if room < span.count and self.policy == DROP_OLDEST:
                room = make_room(self, span.count)
            span.count = min(span.count, room)
            outcome = DONE if span.count != 0 else ABANDONED if w.abandoned else FULL
        if outcome == DONE:
            hand_out(self, puts)
        leave_puts(self, 0, 0)
        return outcome

    cdef Outcome peek_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil:
        cdef Outcome outcome = enter(self, GETS)
        cdef SharedSide* gets
        if outcome != DONE:
            return outcome
        gets = &self.here.segment.gets
        outcome = acquire(self, gets, w, n > 1)
        if outcome != DONE and outcome != HELD:
            return outcome
        span.seq = gets.seq.load(memory_order_relaxed)
        span.pos = span.seq % self.monitor.capacity
        span.count = min(n, records_for(self, n), self.monitor.capacity - span.pos)
        if outcome == HELD or span.count == 0 or self.here.segment.shut.load() == SHUT_NOW:
            outcome = end_of_get(self, w)
        else:
            hand_out(self, gets)
        leave_gets(self, 0)
        return outcome

    cdef void end_block(self, bint is_writer, uint64_t n) noexcept:
        cdef SharedSide* side = &self.here.segment.puts if is_writer else &self.here.segment.gets
        if try_lock(self, side):
            end_turn(self, side, n)
            return
        with nogil:
            if lock_for_certain(self, side):
                end_turn(self, side, n)

    cdef int watch(self, Side* side) except -1:
        """A coroutine waits in this process' list of a side: see that it is woken."""
        cdef bint is_put = side == &self.monitor.puts
        cdef Watcher* watcher = &self.here.watchers[is_put]
        if watcher.thread == NULL:
            watcher.thread = start_watcher(watch, self, is_put)
            if watcher.thread == NULL:
                raise MemoryError("no thread can be started that waits in place of the event loop")
        return 0

    cdef void count_up(self, Counters* c) noexcept:
        c[0] = Counters(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        if self.here.segment != NULL:
            with nogil:
                count_both(self, c)

    cdef const char* broken(self) noexcept nogil:
        return fault_of(self) if self.here.closed.load() == 0 else NULL

    cdef void shut_down(self, bint immediate) noexcept nogil:
        cdef Segment* segment = self.here.segment
        cdef uint32_t how = SHUT_NOW if immediate else SHUT
        cdef uint32_t before
        if self.here.closed.load() != 0:
            return
        before = segment.shut.load()
        while before < how and not segment.shut.compare_exchange_weak(before, how):
            pass
        at(SEALING)
        seal(self)
        wake_everybody(&segment.puts)
        wake_everybody(&segment.gets)


include "sides.pxi"
include "watcher.pxi"


# -- put ----------------------------------------------------------------------------------------------------------

cdef inline bint may_put_now(SharedRingBuffer self, uint64_t n, uint64_t* room) noexcept nogil:
    """With the puts' lock, where there is so much room."""
    cdef Segment* segment = self.here.segment
    if room[0] == UINT64_MAX or segment.shut.load() != OPEN or segment.puts.turn.load(memory_order_relaxed) != 0:
        return False
    if n <= room[0]:
        return True
    if self.policy == BLOCK or n > self.monitor.capacity:
        return False
    if self.policy == DROP_OLDEST and try_lock(self, &segment.gets):
        room[0] = evict(self, n)
    return self.policy != DROP_OLDEST or n <= room[0]


cdef uint64_t put_piece(SharedRingBuffer self, const char* source, uint64_t n) noexcept nogil:
    """With the puts' lock, which it releases. How many records are the caller's no more."""
    cdef uint64_t room
    n = min(n, self.monitor.capacity, piece_size(self))
    room = room_there(self, n)
    if room < n and self.policy == DROP_OLDEST:
        room = make_room(self, n)
    room = min(room, n)
    fill_and_publish(self, source, room, n)
    return room if self.policy == BLOCK else n


cdef inline void fill_and_publish(SharedRingBuffer self, const char* source, uint64_t admitted,
                                  uint64_t n) noexcept nogil:
    """With the puts' lock, which it releases: of the n records, so many enter; under a drop policy the rest is lost."""
    cdef SharedSide* puts = &self.here.segment.puts
    cdef uint64_t seq = puts.seq.load(memory_order_relaxed)
    fill(self, source, seq, admitted)
    at(COPIED)
    if admitted < n and self.policy != BLOCK:
        self.here.segment.refused.fetch_add(n - admitted)
    leave_puts(self, seq, admitted)


cdef inline void fill(SharedRingBuffer self, const char* source, uint64_t seq, uint64_t n) noexcept nogil:
    cdef uint64_t pos = seq % self.monitor.capacity
    cdef uint64_t straight = min(n, self.monitor.capacity - pos)
    copy_bytes(self.slots + pos * self.itemsize, source, straight * self.itemsize)
    if straight < n:
        copy_bytes(self.slots, source + straight * self.itemsize, (n - straight) * self.itemsize)


cdef inline void leave_puts(SharedRingBuffer self, uint64_t seq, uint64_t n) noexcept nogil:
    """Publish n records behind `seq`, unlock, and wake those for whom there is something."""
    cdef Segment* segment = self.here.segment
    cdef SharedSide* puts = &segment.puts
    cdef bint for_next = False
    if n != 0:
        puts.cpu.store(current_cpu(), memory_order_relaxed)
        for_next = puts.wake_at.load(memory_order_relaxed) != NOBODY
        puts.seq.store(seq + n, PUBLISH)
        at(PUBLISHED)
        note_count(self, seq + n)  # behind that, since it may have to fetch the other side's line
    unlock(puts)
    if n != 0:
        wake_from(&segment.gets, seq + n)
    if for_next:
        pass_on(self, puts)
    if segment.shut.load() != OPEN:
        seal(self)


cdef inline void note_count(SharedRingBuffer self, uint64_t seq) noexcept nogil:
    """`high_water`, of which `seen` gives an upper bound for nothing."""
    cdef SharedSide* puts = &self.here.segment.puts
    cdef uint64_t seen
    if seq - puts.seen.load(memory_order_relaxed) > puts.high_water.load(memory_order_relaxed):
        seen = self.here.segment.gets.seq.load()
        puts.seen.store(seen, memory_order_relaxed)
        if puts.high_water.load(memory_order_relaxed) < seq - seen <= self.monitor.capacity:
            puts.high_water.store(seq - seen, memory_order_relaxed)


cdef uint64_t make_room(SharedRingBuffer self, uint64_t n) noexcept nogil:
    """With the puts' lock, under "drop_oldest": let the oldest go so that n fit. How much room there is then."""
    if not lock_for(self, &self.here.segment.gets, EVICTION_NS):
        return room_there(self, n)
    return evict(self, n)


cdef uint64_t evict(SharedRingBuffer self, uint64_t n) noexcept nogil:
    """The same with both locks; it releases that of the gets."""
    cdef Segment* segment = self.here.segment
    cdef uint64_t room = room_there(self, n)
    cdef uint64_t oldest = segment.gets.seq.load(memory_order_relaxed)
    if room < n and is_free(self, &segment.gets):
        give_up_oldest(self, oldest + n - room, segment.gets.lost.load() + n - room, segment.gets.discarded.load())
        room = room_there(self, n)
    unlock(&segment.gets)
    return room


cdef uint64_t give_up_put(SharedRingBuffer self, uint64_t n, Outcome* outcome) noexcept nogil:
    """A put that may not wait: for a block that is out (HELD, with the lock), or a copy. How many records it drops."""
    cdef bint is_open = self.here.segment.shut.load() == OPEN
    if outcome[0] == HELD:
        leave_puts(self, 0, 0)
    if self.policy != BLOCK and is_open:
        self.here.segment.refused.fetch_add(n)
        outcome[0] = DONE
        return n
    outcome[0] = FULL if is_open else SHUT_DOWN
    return 0


# -- get ----------------------------------------------------------------------------------------------------------

cdef inline void copy_out(SharedRingBuffer self, char* out, uint64_t seq, uint64_t n) noexcept nogil:
    cdef uint64_t pos = seq % self.monitor.capacity
    cdef uint64_t straight = min(n, self.monitor.capacity - pos)
    if n == 0:
        return
    copy_bytes(out, self.slots + pos * self.itemsize, straight * self.itemsize)
    if straight < n:
        copy_bytes(out + straight * self.itemsize, self.slots, (n - straight) * self.itemsize)


cdef inline void take_out(SharedRingBuffer self, uint64_t n) noexcept nogil:
    """With the gets' lock, which it releases: the n oldest are gone."""
    cdef SharedSide* gets = &self.here.segment.gets
    cdef uint64_t seq = gets.seq.load(memory_order_relaxed) + n
    at(COPIED)
    gets.cpu.store(current_cpu(), memory_order_relaxed)
    gets.seq.store(seq, PUBLISH)
    at(PUBLISHED)
    leave_gets(self, seq)


cdef inline void leave_gets(SharedRingBuffer self, uint64_t seq) noexcept nogil:
    """Unlock, and wake those for whom there is something; `seq` 0: nothing was taken."""
    cdef Segment* segment = self.here.segment
    cdef bint for_next = segment.gets.wake_at.load(memory_order_relaxed) != NOBODY
    unlock(&segment.gets)
    if seq != 0:
        wake_from(&segment.puts, seq)
    if for_next:
        pass_on(self, &segment.gets)
    if segment.shut.load() == SHUT_NOW:
        discard_rest(self)


cdef Outcome end_of_get(SharedRingBuffer self, Wait* w) noexcept nogil:
    """With the gets' lock: why one ends that may not act."""
    cdef bint is_over = over(self, &self.here.segment.gets)  # before the look at what is there: see `sealed`
    if self.here.segment.shut.load() != SHUT_NOW and records_for(self, 1) != 0:
        return EMPTY  # for now: a block is out, which may leave its records in the ring
    if is_over:
        return SHUT_DOWN
    return ABANDONED if w.abandoned else EMPTY


cdef void give_up_oldest(SharedRingBuffer self, uint64_t seq, uint64_t lost, uint64_t discarded) noexcept nogil:
    """With the gets' lock: the records before `seq` go untaken, as the counts say from then on.

    Three stores, of which a thread that is killed amid them leaves the rest to the next one (`repair`).
    """
    cdef SharedSide* gets = &self.here.segment.gets
    gets.intent[0].store(seq)
    gets.intent[1].store(lost)
    gets.intent[2].store(discarded)
    gets.intends.store(1)
    at(INTENDED)
    gets.seq.store(seq)
    at(GIVEN_UP)
    gets.lost.store(lost)
    gets.discarded.store(discarded)
    gets.intends.store(0)
    at(COUNTED)


cdef void repair(SharedSide* side) noexcept nogil:
    """With the lock that was a dead one's: finish what it had begun."""
    if side.intends.load() != 0:
        if side.seq.load() == side.intent[0].load():
            side.lost.store(side.intent[1].load())
            side.discarded.store(side.intent[2].load())
        side.intends.store(0)


# -- blocks -------------------------------------------------------------------------------------------------------

cdef void hand_out(SharedRingBuffer self, SharedSide* side) noexcept nogil:
    """With the side's lock: from here on the slots are the block's."""
    side.owner.store(this_thread())
    side.turn.store(self.here.id.load())
    at(TURN_TAKEN)


cdef void end_turn(SharedRingBuffer self, SharedSide* side, uint64_t n) noexcept nogil:
    """With the side's lock, which it releases: a block has ended, of which n records enter, or leave, the ring."""
    cdef Segment* segment = self.here.segment
    cdef uint64_t seq = side.seq.load(memory_order_relaxed)
    side.cpu.store(current_cpu(), memory_order_relaxed)
    side.seq.store(seq + n)
    at(TURN_ENDING)
    if side == &segment.puts:
        note_count(self, seq + n)
    side.turn.store(0)
    if side == &segment.puts:
        leave_puts(self, seq, 0)
    else:
        leave_gets(self, 0)
    wake_from(other_side(self, side), seq + n)
    wake_next(side)


# -- shutdown, counters -------------------------------------------------------------------------------------------

cdef void seal(SharedRingBuffer self) noexcept nogil:
    """After a shutdown, without a lock: if no put is going on any more, say so, and wake the gets that wait for that.

    Where the lock is taken its owner does it, as soon as it has unlocked: it looks at `shut` after that.
    """
    cdef Segment* segment = self.here.segment
    cdef bint is_news = False
    if segment.sealed.load() == 0 and try_lock_of_dead(self, &segment.puts):
        is_news = is_free(self, &segment.puts)
        if is_news:
            segment.sealed.store(1)
        unlock(&segment.puts)
    if segment.shut.load() == SHUT_NOW:
        discard_rest(self)
        is_news = True
    if is_news:
        wake_everybody(&segment.gets)


cdef void discard_rest(SharedRingBuffer self) noexcept nogil:
    """After an immediate shutdown, without a lock. Where that of the gets is taken its owner does it, as for `seal`."""
    cdef SharedSide* gets = &self.here.segment.gets
    cdef uint64_t n
    if records_there(self.here.segment) == 0 or not try_lock_of_dead(self, gets):
        return
    n = records_for(self, UINT64_MAX)
    if n != 0 and is_free(self, gets):
        give_up_oldest(self, gets.seq.load(memory_order_relaxed) + n, gets.lost.load(), gets.discarded.load() + n)
    unlock(gets)


cdef void count_both(SharedRingBuffer self, Counters* c) noexcept nogil:
    """From one moment, unless a process is stopped amid a copy."""
    cdef Segment* segment = self.here.segment
    cdef bint is_open = self.here.closed.load() == 0
    cdef bint puts_locked = is_open and lock_for(self, &segment.puts, PATIENCE_NS)
    cdef bint gets_locked = is_open and lock_for(self, &segment.gets, PATIENCE_NS)
    c.entered, c.left = segment.puts.seq.load(), segment.gets.seq.load()
    c.refused, c.evicted, c.discarded = segment.refused.load(), segment.gets.lost.load(), segment.gets.discarded.load()
    c.high_water = segment.puts.high_water.load()
    c.put_waits, c.get_waits = segment.puts.waits.load(), segment.gets.waits.load()
    c.put_wait_ns, c.get_wait_ns = segment.puts.wait_ns.load(), segment.gets.wait_ns.load()
    if gets_locked:
        unlock(&segment.gets)
    if puts_locked:
        unlock(&segment.puts)


# -- who is there -------------------------------------------------------------------------------------------------

def users_of(int file, own=0):
    """The processes that have a segment's file open; 0: one is just coming or leaving. Of an `own` id it is known."""
    processes = []
    places = os.pread(file, PLACES * sizeof(Place), PLACES_AT)
    for i in range(PLACES):
        if i == place_of(own) or others_hold(file, i, 1) == 1:
            processes.append(int.from_bytes(places[i * sizeof(Place) + 4 : i * sizeof(Place) + 8], sys.byteorder))
    return processes


cdef object attached(object cls, object name, object timeout, object token):
    cdef SharedRingBuffer ring
    deadline_from(True, timeout)  # for its errors
    if name is None:
        raise TypeError("name is None; expected the name of a shared ring")
    ring = cls.__new__(cls)
    ring.open_named(name, timeout, token)
    return ring


def _unpickled(cls, name, token):
    return attached(cls, name, None, token)


cdef int must_be_linux() except -1:
    if not SHARES:
        raise NotImplementedError("shared rings need Linux: its futexes, and its locks of open files")
    return 0


cdef object created = weakref.WeakSet()  # by this process, or by those that it is a fork of


def _unlink_created():
    for ring in list(created):
        if (<SharedRingBuffer> ring).made_by == os.getpid():
            ring.unlink()


atexit.register(_unlink_created)
cdef long minded = 0  # the process in which multiprocessing knows of it


cdef int remember(SharedRingBuffer ring) except -1:
    """So that its name goes with the process. (A child of multiprocessing ends without `atexit`.)"""
    global minded
    created.add(ring)
    util = sys.modules.get("multiprocessing.util")
    if util is not None and minded != os.getpid():
        minded = os.getpid()
        util.Finalize(None, _unlink_created, exitpriority=0)
    return 0


# -- fork ---------------------------------------------------------------------------------------------------------
#
# The child is another process. It opens each file anew, so that its place is its own: the locks of the open file that
# it has inherited are its parent's, and would outlive that.

cdef Mutex registry_lock
cdef Attachment* registry = NULL
cdef Openings* openings = new Openings()  # as long as any thread may open a file: for ever


cdef class _Files:
    """Opens the files of rings, so that the child of a fork has none that is being opened; `segments.Files`."""

    def open(self, path, int flags):
        cdef bytes encoded = os.fsencode(path)
        cdef const char* its_path = encoded
        cdef int file, error
        with nogil:
            registry_lock.lock()
            file = openings.open(its_path, flags)
            error = errno
            registry_lock.unlock()
        if file < 0:
            raise OSError(error, os.strerror(error), path)
        return file

    def close(self, int file):
        with nogil:
            registry_lock.lock()
            openings.forget(file)
            registry_lock.unlock()
            close_file(file)


cdef _Files _files = _Files()


cdef bint take_place_and_register(Attachment* here) noexcept nogil:
    """Both at once: a fork in between would leave the place to a child that does not know of it."""
    global registry
    cdef bint taken
    registry_lock.lock()
    taken = take_own_place(here)
    if taken:
        openings.forget(here.file)
        here.next = registry
        if registry != NULL:
            registry.prev = here
        registry = here
        here.closed.store(0)
    registry_lock.unlock()
    return taken


cdef void unregister(Attachment* here) noexcept nogil:
    global registry
    registry_lock.lock()
    if here.prev != NULL:
        here.prev.next = here.next
    elif registry == here:
        registry = here.next
    if here.next != NULL:
        here.next.prev = here.prev
    here.prev = here.next = NULL
    registry_lock.unlock()


cdef void before_fork() noexcept nogil:
    registry_lock.lock()


cdef void after_fork_in_parent() noexcept nogil:
    registry_lock.unlock()


cdef void after_fork_in_child() noexcept nogil:
    """(Where no file can be opened, the ring is closed here.)"""
    cdef Attachment* here = registry
    openings.pass_to_child()
    while here != NULL:
        close_lists(here)
        here.locking.store(0)
        here.watchers[0].thread = here.watchers[1].thread = NULL  # they are the parent's
        here.watchers[0].asleep_for = here.watchers[1].asleep_for = 0
        if here.closed.load() == 0 and not (open_anew(here.file) and take_place(here)):
            here.closed.store(1)
        if here.closed.load() != 0 and here.file >= 0:
            close_file(here.file)  # it is the parent's still, whose place it would keep
            here.file = -1
        here = here.next
    registry_lock.unlock()


if install_fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child) != 0:
    raise MemoryError("f1buf: no memory for the fork handlers")
