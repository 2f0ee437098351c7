# cython: language_level=3
"""`RingBuffer` for other Cython code: `from f1buf cimport RingBuffer`. Its C calls are described below, in the class.

All else here is its layout, and private; see `ring.pyx` for the invariants.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from f1buf.core.loop cimport LoopWait
from f1buf.core.sync cimport Monitor, Outcome, Side, Wait


cdef enum Overflow:
    BLOCK
    DROP_OLDEST
    DROP_NEWEST


cdef struct Field:
    # One field of a flat dtype, for the packer.
    char kind        # one of the codes in ring.pyx
    size_t offset    # [bytes] in the record


cdef struct Span:
    # The slots of a block: one piece, so at most up to the end of the slots.
    uint64_t pos     # of the first
    uint64_t count   # at least 1
    uint64_t seq     # sequence number of the first


cdef struct Counters:
    # What `RingBuffer.stats` tells, in the words of the fields below.
    uint64_t entered
    uint64_t left
    uint64_t refused
    uint64_t evicted
    uint64_t discarded
    uint64_t high_water
    uint64_t put_waits
    uint64_t get_waits
    int64_t put_wait_ns
    int64_t get_wait_ns


cdef class RingBuffer:
    cdef Monitor monitor          # lock, count, capacity, waiters: see core.sync
    cdef char* slots              # capacity * itemsize bytes; NULL until __init__ has run
    cdef size_t itemsize          # [bytes]; public: see below
    cdef uint64_t write_pos       # slot of the next record in; write_seq % capacity
    cdef uint64_t read_pos        # slot of the next record out; read_seq % capacity
    cdef uint64_t write_seq       # records that have entered
    cdef uint64_t read_seq        # records that have left: taken, evicted or discarded
    cdef uint64_t evicted         # dropped after they had entered (drop_oldest)
    cdef uint64_t refused         # dropped before they could enter
    cdef uint64_t discarded       # thrown away by an immediate shutdown
    cdef uint64_t high_water      # the largest count so far
    cdef Overflow policy          # what a put does when the ring is full
    cdef Field* fields            # the packer's program; NULL where the dtype is not flat
    cdef Py_ssize_t field_count   # 0: no packer
    cdef bint is_struct           # records have fields; otherwise they are scalars
    cdef bint padded              # the fields leave gaps, which the packer must fill with zeros
    cdef readonly object dtype
    cdef object blank_scalar      # an array whose [0] is a new scalar for `get` to fill, where the dtype has such
    cdef object spare             # an array of records, of which the first `spare_count` are free for `get` to fill
    cdef Py_ssize_t spare_count
    cdef object raw_dtype         # dtype, or plain bytes of its size, which numpy allocates 3 times as fast
    cdef object __weakref__

    # -- for other projects: C calls, with or without the GIL ------------------------------------------------------
    #
    # Any thread may call them, one that Python knows nothing of, too; the ring and the interpreter must not end before
    # it does. A record is `itemsize` bytes, as the ring's dtype lays them out: compare that, a public field, with the
    # size of your struct first, while you have the GIL. `capacity`, `qsize()`, and all else, is for callers that have
    # the GIL.
    #
    # The try_* forms are `block=False`: they wait neither for room or records nor for a block that is out; for the lock
    # and for a copy in progress they do, which ends by itself, also where the caller has the GIL. The others wait until
    # `deadline_ns`, on the monotonic clock: `deadline_after(seconds)`, FOREVER, or `now_ns()` and so on; what has
    # passed, and 0, is the same as try_*. Call those without the GIL: they keep it while they wait, so that the thread
    # that they wait for may never get it. They do not look for signals: in the main thread wait for 50 ms at a time,
    # and call PyErr_CheckSignals in between.
    #
    # Their order, and the layout of the class, are the ABI, and not to be relied on: build your module anew for each
    # minor version of f1buf. (At its import Cython compares the number below.) Its source need not change.

    cdef Outcome try_push(self, const void* record) noexcept nogil
    cdef Outcome push(self, const void* record, int64_t deadline_ns) noexcept nogil
    # Under a drop policy pushes never wait for room and are never FULL: what is lost is counted (`stats`).

    cdef Outcome try_pop(self, void* record) noexcept nogil
    cdef Outcome pop(self, void* record, int64_t deadline_ns) noexcept nogil

    # `n` records, of which `done[0]` were taken, in order from the first. DONE: all. Otherwise why no more; the rest is
    # still the caller's. More than the capacity may be pushed. Records of others may come between the pieces.
    cdef Outcome try_push_many(self, const void* records, uint64_t n, uint64_t* done) noexcept nogil
    cdef Outcome push_many(self, const void* records, uint64_t n, int64_t deadline_ns, uint64_t* done) noexcept nogil

    # Waits for `least` records, then takes what is there, up to `most`: `done[0]`, written to the front of `out`, which
    # has room for `most`. DONE: at least `least`. Otherwise why fewer, and `done[0]` is what was there, perhaps 0.
    # (`least` is brought to within 1 and the smaller of `most` and the capacity. `most` 0 is DONE at once.)
    cdef Outcome try_pop_many(self, void* out, uint64_t least, uint64_t most, uint64_t* done) noexcept nogil
    cdef Outcome pop_many(self, void* out, uint64_t least, uint64_t most, int64_t deadline_ns,
                          uint64_t* done) noexcept nogil

    # `shutdown()`: let nothing more in, wake everybody. `immediate`: and discard what is left.
    cdef void shut_down(self, bint immediate) noexcept nogil

    # -- private: what a ring does with its slots; `SharedRingBuffer` does it in another way -------------------------
    #
    # All else, arguments and results, records and arrays, is the same for both, and calls these.

    cdef int begin(self, uint64_t size, object checked, Overflow policy, char* slots) except -1
    cdef uint64_t there(self) noexcept nogil
    cdef int state(self) noexcept nogil
    cdef bint try_put(self, const char* source, uint64_t n, Wait* w) noexcept nogil
    cdef uint64_t put_records(self, const char* source, uint64_t n, Wait* w, Outcome* outcome) noexcept nogil
    cdef uint64_t try_get(self, char* out, uint64_t least, uint64_t room, uint64_t* first_seq, Wait* w) noexcept nogil
    cdef uint64_t get_records(self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                              Outcome* outcome) noexcept nogil
    cdef uint64_t copy_newest(self, char* out, uint64_t room, Wait* w, Outcome* outcome) noexcept nogil
    cdef Outcome reserve_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil
    cdef Outcome peek_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil
    cdef void end_block(self, bint is_writer, uint64_t n) noexcept
    cdef int watch(self, Side* side) except -1
    cdef void count_up(self, Counters* c) noexcept
    cdef const char* broken(self) noexcept nogil


# Which C calls, and which layout, a module was built for. Cython looks for each variable of this file when a module is
# imported that cimports it: where the number is another one, that is an ImportError, and the name is its message: "...
# does not export expected C variable c_api_1__rebuild_your_module_for_this_f1buf". Before that it compares the size of
# the class: a ValueError where the module was built for a larger one, a RuntimeWarning where for a smaller one. Count
# the number up with each change of the class, of what it is made of, of the order of its calls, and of what modules
# compile in (Outcome, FOREVER, `now_ns`); `tests/test_wheels.py` notices.
cdef int c_api_1__rebuild_your_module_for_this_f1buf

# The absolute deadline so many seconds from now, for the calls above; from 292 years on it is FOREVER. 0, what is
# negative, and NaN: do not wait.
cdef int64_t deadline_after(double seconds) noexcept nogil

# Private: for `shared`.
cdef uint64_t checked_capacity(object capacity) except 0
cdef Overflow checked_policy(object overflow) except *
cdef uint64_t piece_size(RingBuffer self) noexcept nogil
