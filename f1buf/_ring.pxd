# cython: language_level=3
"""`RingBuffer`'s layout; see `_ring.pyx` for the invariants."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from f1buf._loop cimport LoopWait
from f1buf._sync cimport Monitor, Side, Wait


cdef enum Overflow:
    BLOCK
    DROP_OLDEST
    DROP_NEWEST


cdef enum Outcome:
    DONE
    TICKED         # signal handlers must run, then go on
    OUT_OF_MEMORY  # nothing done
    TIMED_OUT      # nothing done: no room, or nothing there
    SHUT_DOWN      # nothing done: shut down (and drained)
    CUT_IN_TWO     # nothing done: see TORN in _sync.hpp
    GROW           # nothing done: the caller's room is too small for what is there
    QUEUED         # nothing done: a coroutine waits in its side's list
    HELD_BY_SELF   # nothing done: a block of the caller's own is out


cdef struct Counters:
    # What `stats` reports, read in one locked section; see the fields of RingBuffer.
    uint64_t write_seq, read_seq, refused, evicted, discarded, high_water, put_waits, get_waits
    int64_t put_wait_ns, get_wait_ns


cdef struct Field:
    # One field of a flat dtype, for the packer.
    char kind        # one of the codes in _ring.pyx
    size_t offset    # [bytes] in the record


cdef struct Span:
    # The slots of a block: one piece, so at most up to the end of the slots.
    uint64_t pos     # of the first
    uint64_t count   # at least 1
    uint64_t seq     # sequence number of the first


cdef class RingBuffer:
    cdef Monitor monitor          # lock, count, capacity, waiters: see _sync
    cdef char* slots              # capacity * itemsize bytes; NULL until __init__ has run
    cdef size_t itemsize          # [bytes]
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
    cdef object raw_dtype         # dtype, or plain bytes of its size, which numpy allocates 3 times as fast
    cdef object __weakref__

    @cython.final
    cdef object converted(self, object convert, object records)
    @cython.final
    cdef bint pack(self, object record, char* out)
    @cython.final
    cdef bint try_put(self, const char* source, uint64_t n) noexcept nogil
    @cython.final
    cdef bint put_now(self, const char* source, uint64_t n) noexcept nogil
    @cython.final
    cdef bint put_later(self, LoopWait wait, const char* source, uint64_t n) except -1
    @cython.final
    cdef object get_later(self, LoopWait wait, uint64_t least, uint64_t most, bint return_seq)
    @cython.final
    cdef bint withdraw(self, Side* side, Wait* w) noexcept
    @cython.final
    cdef bint withdraw_and_release(self, Side* side, Wait* w) noexcept nogil
    @cython.final
    cdef uint64_t put_waiting(self, const char* source, uint64_t n, int64_t deadline) except? 0
    @cython.final
    cdef uint64_t put_records(self, const char* source, uint64_t n, Wait* w, Outcome* outcome) noexcept nogil
    @cython.final
    cdef bint is_one_piece(self, uint64_t n) noexcept nogil
    @cython.final
    cdef uint64_t piece(self) noexcept nogil
    @cython.final
    cdef uint64_t put_piece(self, const char* source, uint64_t n) noexcept nogil
    @cython.final
    cdef uint64_t admit(self, uint64_t n) noexcept nogil
    @cython.final
    cdef void fill_and_publish(self, const char* source, uint64_t n) noexcept nogil
    @cython.final
    cdef void fill(self, const char* source, uint64_t n) noexcept nogil
    @cython.final
    cdef void publish(self, uint64_t n) noexcept nogil
    @cython.final
    cdef object take_batch(self, uint64_t least, uint64_t most, int64_t deadline, uint64_t* first_seq)
    @cython.final
    cdef uint64_t get_array(self, char* out, uint64_t room, uint64_t least, int64_t deadline,
                            uint64_t* first_seq) except? 0
    @cython.final
    cdef uint64_t get_ticking(self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                              Outcome* outcome) except? 0
    @cython.final
    cdef uint64_t try_get(self, char* out, uint64_t least, uint64_t room, uint64_t* first_seq, Wait* w) noexcept nogil
    @cython.final
    cdef uint64_t get_records(self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                              Outcome* outcome) noexcept nogil
    @cython.final
    cdef void get_piece(self, char* out, uint64_t n) noexcept nogil
    @cython.final
    cdef void copy_in_turn(self, char* out, uint64_t pos, uint64_t n) noexcept nogil
    @cython.final
    cdef void copy_out(self, char* out, uint64_t pos, uint64_t n) noexcept nogil
    @cython.final
    cdef void take(self, uint64_t n) noexcept nogil
    @cython.final
    cdef void advance_read(self, uint64_t n) noexcept nogil
    @cython.final
    cdef uint64_t copy_newest(self, char* out, uint64_t room) except? 0
    @cython.final
    cdef uint64_t copy_newest_records(self, char* out, uint64_t room, Wait* w, Outcome* outcome) noexcept nogil
    @cython.final
    cdef uint64_t give_up_put(self, uint64_t n, Outcome* outcome) noexcept nogil
    @cython.final
    cdef Outcome end_of(self, Side* side) noexcept nogil
    @cython.final
    cdef bint evict_for(self, uint64_t n) noexcept nogil
    @cython.final
    cdef void discard_if_shut_now(self) noexcept nogil
    @cython.final
    cdef Outcome reserve_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil
    @cython.final
    cdef Outcome peek_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil
    @cython.final
    cdef void hand_out(self, Side* side) noexcept nogil
    @cython.final
    cdef void end_block(self, bint is_writer, uint64_t n) noexcept
    @cython.final
    cdef void end_block_and_release(self, bint is_writer, uint64_t n) noexcept nogil
    @cython.final
    cdef void discard_rest(self) noexcept nogil
    @cython.final
    cdef void read_counters(self, Counters* now) noexcept nogil
    @cython.final
    cdef void shut_down(self, int how) noexcept nogil
    @cython.final
    cdef tuple checked_counts(self, object max_count, object min_count, str most_name=*)
    @cython.final
    cdef object blank(self, uint64_t n)
    @cython.final
    cdef const char* fault(self) noexcept nogil
    @cython.final
    cdef const char* fault_now(self) noexcept nogil
