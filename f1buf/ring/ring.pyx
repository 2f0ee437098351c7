# distutils: language = c++
"""`RingBuffer`: fixed-size records in a circle of slots, without Python objects.

The waiting is `sync`'s; here are the slots, and the copies in and out of them. A record is bytes: what a dtype
means is looked at before the lock is taken (`packer.pxi`, `convert.py`) and after it is released. The views of slots
that `reserve` and `peek` give out are in `blocks.pxi`. (Both are parts of this module, so that a call costs nothing.)

Invariants, whenever the lock is free (`_check`, after every operation of a debug build):

R1  count == write_seq - read_seq, and 0 <= count <= capacity. The sequence numbers only grow.
R2  write_pos == write_seq % capacity, and read_pos == read_seq % capacity. (Kept beside, for a division costs more.)
R3  offered == taken + dropped + discarded + count: every record that a put took from its caller was refused, or has
    a sequence number; every one with a number was taken, evicted or discarded, or is there.

Which thread may touch which slots: [read_seq, write_seq) belongs to the gets, the rest to the puts; each side's part to
the thread that holds the lock, or, for a large copy or a block, that side's turn. A put under "drop_oldest" takes slots
from the gets only while their turn is free: a range that is being read is never overwritten.

Where memory is short: what a call allocates, it allocates before it changes anything, its result too. A number is
made as a blank and filled in afterwards (`int.hpp`), and so is the record that a get returns. MemoryError so means
that nothing has changed. One exception: a get of a bare string, or of a bare number in another machine's byte order,
whose scalar can only be made of a record that has been taken; without memory for it the record is lost, and counted.

Copies up to LOCKED_COPY bytes (with the GIL: ATTACHED_COPY) happen under the lock, larger ones under a turn. So one
producer and one consumer copy large batches at the same time, and neither holds the GIL.
"""

cimport cython

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy
from libcpp.atomic cimport atomic, memory_order_relaxed

from f1buf.core.loop cimport NOT_YET, Attempt, LoopWait, attempt, attempt_in_pieces
from f1buf.core.sync cimport (
    ABANDONED, BROKEN, CLOSED, COPYING, CUT_IN_TWO, DEBUG, DONE, EMPTY, END, FOREVER, FREE, FULL, GROW, HELD,
    HELD_BY_SELF, OPEN, OUT_OF_MEMORY, QUEUED, READY_MADE, RESERVED, SHUT, SHUT_DOWN, SHUT_NOW, TICKED, TORN, TRY,
    LaterInt, Monitor, Outcome, Side, Wait,
    acquire, as_count, available, begins, deadline_from, deadline_in, drop_node, end_wait, forget_place, forks, hold,
    insist, lock_attached, make_node, may_overtake, monitor_fault, over, overtake, ran_here, register_for_fork,
    release, shut, start_wait, this_thread, unhold, unregister_for_fork,
)

from f1buf.core.coroutines import functions_of
from f1buf.ring import coroutines
from f1buf.core.borrowed import check_array, check_pair, check_scalars
from f1buf.ring.convert import check_dtype, to_record, to_records
from f1buf.ring.reading import READING
from f1buf.core.errors import Abandoned, Empty, Full, ShutDown
from f1buf.ring.stats import RingStats

__all__ = ["PeekedBlock", "ReservedBlock", "RingBuffer"]

cdef extern from "core/arrays.hpp" namespace "f1buf":
    char* data_of(object) noexcept
    PyObject* dtype_of(object) noexcept
    int ndim_of(object) noexcept
    uint64_t length_of(object) noexcept
    bint is_in_one_piece(object) noexcept
    bint is_writeable(object) noexcept
    void set_dtype(object, object) noexcept
    void cut_to(object, uint64_t) noexcept
    char* data_of_scalar(object, object) noexcept

cdef extern from "core/interpreter.hpp" namespace "f1buf" nogil:
    const bint NO_GIL

cdef extern from "ring/copy.hpp" namespace "f1buf" nogil:
    const size_t ATTACHED_COPY
    void copy_bytes(char*, const char*, size_t) noexcept

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(object)
    bint PyObject_GC_IsTracked(object)

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/mman.h>
    #endif

    namespace f1buf {
    // Ask for pages of 2 MB, where the system gives them on request: the first round through a large ring then meets
    // one page fault where it met 512, and later ones miss the TLB less. Advice: if it is not taken nothing is lost.
    inline void advise_huge_pages(char *start, size_t size) noexcept {
    #ifdef MADV_HUGEPAGE
      constexpr std::uintptr_t PAGE = 4096, LARGE_PAGE = 2 << 20;
      const auto begin = (reinterpret_cast<std::uintptr_t>(start) + PAGE - 1) & ~(PAGE - 1);
      if (size >= 2 * LARGE_PAGE) madvise(reinterpret_cast<void *>(begin), size - PAGE, MADV_HUGEPAGE);
    #endif
    }
    }  // namespace f1buf
    """
    void advise_huge_pages "f1buf::advise_huge_pages"(char*, size_t) noexcept

cdef size_t LOCKED_COPY = 4096    # [bytes] the same for a thread that runs without the GIL
cdef size_t PIECE = 1 << 20       # [bytes] the largest piece of a put, so that others get their turn
cdef Py_ssize_t SPARE_BYTES = 384  # of records that `get` makes at once: what one that is kept keeps alive at most
cdef size_t FIRST_ROOM = 1 << 16  # [bytes] what a get_many allocates before it knows what it will find

cdef object ndarray = np.ndarray
cdef object empty = np.empty
cdef tuple OVERFLOWS = ("block", "drop_oldest", "drop_newest")  # in the order of `Overflow`

include "packer.pxi"


cdef class RingBuffer:
    # The first line is what inspect.signature reads.
    """RingBuffer(capacity, dtype=..., *, overflow="block")\n--\n
    A bounded buffer of fixed-size records, for any number of producer and consumer threads.

    Parameters
    ----------
    capacity : int
        How many records it holds, exactly; at least 1. ``capacity * itemsize`` bytes are allocated.
    dtype : dtype-like, optional
        What a record is: any numpy dtype without Python objects. Default: `READING`.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What a put does when the ring is full: wait for room, overwrite the oldest records, or drop what it brings.

    Raises
    ------
    TypeError
        The dtype holds Python objects.
    ValueError
        The capacity is below 1, the records have no size, or the policy is unknown.
    MemoryError
        The slots cannot be allocated.

    Notes
    -----
    Every method may be called from any thread, with or without the GIL. Waiting never holds the GIL. A signal
    handler that raises (Ctrl-C) ends a get before it has taken anything; a put keeps what it had accepted. While
    signal handlers run, the record that a get of the main thread came for stays promised to it, unless a handler itself
    waits on a buffer of f1buf: by other means a handler must not wait for what another get is to do with that record.

    Timeouts are seconds on the monotonic clock; None and infinity wait for ever, and so does anything beyond
    292 years. NaN and negative timeouts are a ValueError. With ``block=False`` the timeout is not looked at.

    ``with ring:`` shuts the ring down where the block ends. What is left can still be taken, unless an exception leaves
    the block: then it is discarded, as by ``shutdown(immediate=True)``, and counted (`RingStats.discarded`).

    A ring cannot be pickled or copied. After a fork the child uses its own copy of the ring; if another thread was
    in the middle of a large copy, or a block was out, every put, get and snapshot in the child raises RuntimeError.

    Examples
    --------
    >>> from f1buf import RingBuffer
    >>> ring = RingBuffer(1024)
    >>> ring.put((0.01, 7, 2, 0, 311.5))
    >>> ring.put_many([(0.02, 7, 2, 0, 312.0), (0.03, 7, 2, 0, 312.25)])
    2
    >>> ring.get_many()["value"].tolist()
    [311.5, 312.0, 312.25]
    """

    # -- construction ---------------------------------------------------------------------------------------------

    def __cinit__(self, *args, **kwargs):
        # Until __init__ has run: shut down, empty, and nothing to divide by zero.
        self.monitor.shut.store(SHUT, memory_order_relaxed)
        self.monitor.capacity = 1
        self.itemsize = 1
        register_for_fork(&self.monitor)

    def __init__(self, capacity, dtype=READING, *, overflow="block"):
        cdef uint64_t size = checked_capacity(capacity)
        cdef Overflow policy = checked_policy(overflow)
        checked = check_dtype(dtype)
        self.begin(size, checked, policy, NULL)

    cdef int begin(self, uint64_t size, object checked, Overflow policy, char* slots) except -1:
        """Set everything up; `slots` NULL: allocate them. Where this raises nothing has changed."""
        program = packer_program(checked)
        raw_dtype = checked if checked.names is None else np.dtype((np.void, checked.itemsize))
        blank_scalar = scalar_to_fill(checked)
        cdef size_t itemsize = checked.itemsize
        cdef bint is_struct = checked.names is not None
        cdef Py_ssize_t field_count = 0 if program is None else len(program)
        cdef bint padded = program is not None and sum(size for _, _, size in program) != itemsize
        cdef Field* fields = compiled(program)
        try:
            if self.slots != NULL:  # from here on nothing of Python runs that could do the same once more
                raise RuntimeError(f"this {type(self).__name__} has been initialised already; create another one")
            self.slots = allocate_slots(size, itemsize) if slots == NULL else slots
        except BaseException:
            PyMem_RawFree(fields)
            raise
        self.itemsize = itemsize
        self.policy = policy
        self.dtype = checked
        self.raw_dtype = raw_dtype
        self.blank_scalar = blank_scalar
        self.fields = fields
        self.field_count = field_count
        self.is_struct = is_struct
        self.padded = padded
        self.monitor.capacity = size
        self.monitor.shut.store(OPEN, memory_order_relaxed)
        return 0

    def __dealloc__(self):
        unregister_for_fork(&self.monitor)  # nobody waits any more: each waiter holds a reference
        PyMem_RawFree(self.slots)
        PyMem_RawFree(self.fields)

    def __reduce_ex__(self, protocol):
        raise TypeError(
            "a RingBuffer cannot be pickled or copied: threads wait on it; "
            "create one where it is needed, and send records (get_many, snapshot)"
        )

    def __repr__(self):
        cdef int how = self.state()
        state = ", open" if how == OPEN else ", torn by a fork" if how == TORN else ", shut down"
        return f"<RingBuffer of {self.qsize()}/{self.capacity} {self.dtype!s}, overflow={self.overflow!r}{state}>"

    # -- put ------------------------------------------------------------------------------------------------------

    def put(self, record, bint block=True, timeout=None):
        """
        Put one record.

        Parameters
        ----------
        record : tuple, numpy record or scalar of the dtype
            Converted without loss: integers must fit, no float enters an integer field, strings are not shortened.
        block : bool
            Whether to wait for room. Under a drop policy a put never does.
        timeout : float or None
            How long to wait at most [s].

        Raises
        ------
        queue.Full
            There was no room in time. Never under a drop policy.
        ShutDown
            The ring is shut down.
        TypeError, ValueError
            The record does not fit the dtype, or the timeout is none; nothing has changed.
        """
        cdef char local[RECORD_ON_STACK]
        cdef int64_t deadline = deadline_from(block, timeout)
        if pack(self, record, local):
            if not self.try_put(local, 1, NULL):
                put_waiting(self, local, 1, deadline)
            return
        converted = converted_by(self, to_record, record)
        put_waiting(self, data_of(converted), 1, deadline)

    def put_nowait(self, record):
        """Put one record if there is room now: ``put(record, block=False)``."""
        self.put(record, False)

    def put_many(self, records, bint block=True, timeout=None):
        """
        Put many records, in order.

        Parameters
        ----------
        records : array-like of the dtype
            Of any length, longer than the capacity too. A contiguous array of exactly the dtype is copied straight
            into the slots, anything else is converted first, without loss. The array must not change meanwhile.
        block : bool
            Whether to wait for room. Under a drop policy a put never does.
        timeout : float or None
            How long to wait at most, in all [s].

        Returns
        -------
        int
            How many were accepted, in order from the first: fewer than given only where a timeout or a shutdown
            ended it early. The rest is still the caller's. Under a drop policy always ``len(records)``.

        Raises
        ------
        queue.Full
            There was no room in time for even one.
        ShutDown
            The ring was shut down before it had accepted one.
        TypeError, ValueError
            The records do not fit the dtype, or the timeout is none; nothing has changed.

        Notes
        -----
        The records of other producers may come between the pieces of a large put; each producer's order holds.
        """
        cdef LaterInt accepted
        cdef uint64_t n
        cdef int64_t deadline = deadline_from(block, timeout)
        if not is_plain(records, self.dtype):
            records = converted_by(self, to_records, records)
        n = length_of(records)
        accepted.reserve(n)
        if n != 0 and not self.try_put(data_of(records), n, NULL):
            n = put_waiting(self, data_of(records), n, deadline)
        return accepted.become(n)

    # -- get ------------------------------------------------------------------------------------------------------

    def get(self, bint block=True, timeout=None):
        """
        Take the oldest record.

        Parameters
        ----------
        block : bool
            Whether to wait for one.
        timeout : float or None
            How long to wait at most [s].

        Returns
        -------
        numpy scalar
            A copy: a numpy record for a structured dtype, else a scalar of the dtype. A record that is kept may keep up
            to 384 bytes in memory.

        Raises
        ------
        queue.Empty
            There was none in time.
        ShutDown
            The ring is shut down and empty.
        """
        cdef int64_t deadline = deadline_from(block, timeout)
        cdef Py_ssize_t place
        if self.blank_scalar is not None:
            record = self.blank_scalar[0]
            get_array(self, data_of_scalar(record, self.blank_scalar), 1, 1, deadline, NULL)
            return record
        if not self.is_struct:
            out = blank_array(self, 1)
            get_array(self, data_of(out), 1, 1, deadline, NULL)
            return out[0]
        out = spare_records(self, &place)
        record = out[place]  # a view, so that it can be had before what it shows
        get_array(self, data_of(out) + place * self.itemsize, 1, 1, deadline, NULL)
        return record

    def get_nowait(self):
        """Take the oldest record if there is one now: ``get(block=False)``."""
        return self.get(False)

    def get_many(self, max_count=None, *, min_count=1, bint block=True, timeout=None, bint return_seq=False):
        """
        Take a batch: wait for `min_count` records, then take what is there, up to `max_count`.

        Parameters
        ----------
        max_count : int or None
            The most to take. None: what is there when it looks.
        min_count : int
            What to wait for; at least 1, at most `max_count` and the capacity.
        block : bool
            False is the same as a timeout of 0.
        timeout : float or None
            How long to wait at most [s]; then it takes what is there.
        return_seq : bool
            Whether to return the sequence number of the first record, too. Numbers count the records that entered
            the ring, from 0; a gap between batches is what was overwritten or discarded in between.

        Returns
        -------
        numpy.ndarray, or (int, numpy.ndarray) with `return_seq`
            The records, oldest first, one contiguous range of the stream; the array owns its memory.

        Raises
        ------
        queue.Empty
            There was nothing in time. Fewer than `min_count` are returned.
        ShutDown
            The ring is shut down and empty.
        ValueError
            `min_count` is out of range, or the timeout is none.
        """
        cdef LaterInt number
        cdef uint64_t first_seq = 0
        cdef int64_t most = self.monitor.capacity if max_count is None else small_count(max_count)
        cdef int64_t least = small_count(min_count)
        cdef int64_t deadline
        if not 1 <= least <= min(most, <int64_t> self.monitor.capacity):
            least, most = checked_counts(self, max_count, min_count)
        most = min(most, <int64_t> self.monitor.capacity)
        deadline = deadline_from(block, timeout)
        if not return_seq:
            return take_batch(self, least, most, deadline, &first_seq)
        number.reserve(UINT64_MAX)
        pair = blank_pair()
        out = take_batch(self, least, most, deadline, &first_seq)
        return filled_pair(pair, number.become(first_seq), out)

    def get_into(self, out, *, min_count=1, bint block=True, timeout=None, bint return_seq=False):
        """
        Take a batch into the caller's array: `get_many` that allocates nothing.

        Parameters
        ----------
        out : numpy.ndarray
            One-dimensional, contiguous, writeable, of exactly the dtype. Its length is the most to take. It must not
            be resized meanwhile.
        min_count, block, timeout, return_seq
            As in `get_many`.

        Returns
        -------
        int, or (int, int) with `return_seq`
            How many records were written to the front of `out`, after the sequence number of the first.

        Raises
        ------
        TypeError, ValueError
            `out` is not such an array.
        queue.Empty, ShutDown, ValueError
            As `get_many`.
        """
        cdef LaterInt count, number
        cdef uint64_t first_seq = 0
        cdef int64_t deadline = deadline_from(block, timeout)
        cdef int64_t least
        cdef uint64_t n
        if small_count(min_count) < 1:
            min_count = as_count(min_count, "min_count", 1)
        # From here on nothing of others runs, which could change the array, until it has been written to.
        least = small_count(min_count)
        if not (is_plain(out, self.dtype) and is_writeable(out)):
            refuse_out(out, self.dtype)
        if not 1 <= least <= <int64_t> min(length_of(out), self.monitor.capacity):
            least, _ = checked_counts(self, length_of(out), min_count, "len(out)")
        if not return_seq and self.there() <= READY_MADE:
            n = self.try_get(data_of(out), least, min(length_of(out), READY_MADE), &first_seq, NULL)
            if n != 0:
                return n
        count.reserve(length_of(out))
        if not return_seq:
            n = get_array(self, data_of(out), length_of(out), least, deadline, &first_seq)
            return count.become(n)
        number.reserve(UINT64_MAX)
        pair = blank_pair()
        n = get_array(self, data_of(out), length_of(out), least, deadline, &first_seq)
        return filled_pair(pair, number.become(first_seq), count.become(n))

    def batches(self, max_count=None, *, min_count=1, timeout=None):
        """
        Iterate over batches until the ring is shut down and drained.

        Parameters
        ----------
        max_count, min_count
            As in `get_many`.
        timeout : float or None
            How long to wait for each batch [s]. Then it yields what is there, possibly an empty array, so that a
            consumer can do its housekeeping.

        Yields
        ------
        numpy.ndarray
            As `get_many` returns it.
        """
        checked_counts(self, max_count, min_count)
        deadline_from(True, timeout)
        return self._batches(max_count, min_count, timeout)

    def _batches(self, max_count, min_count, timeout):
        while True:
            try:
                batch = self.get_many(max_count, min_count=min_count, timeout=timeout)
            except Empty:
                batch = blank_array(self, 0)
            except Abandoned:
                raise  # not an end that a producer has declared
            except ShutDown:
                return
            yield batch

    # -- C calls for other projects: see ring.pxd -----------------------------------------------------------------

    cdef Outcome try_push(self, const void* record) noexcept nogil:
        return self.push(record, 0)

    cdef Outcome push(self, const void* record, int64_t deadline_ns) noexcept nogil:
        cdef uint64_t done
        if self.try_put(<const char*> record, 1, NULL):
            return DONE
        return push_waiting(self, <const char*> record, 1, deadline_ns, &done)

    cdef Outcome try_push_many(self, const void* records, uint64_t n, uint64_t* done) noexcept nogil:
        return self.push_many(records, n, 0, done)

    cdef Outcome push_many(self, const void* records, uint64_t n, int64_t deadline_ns, uint64_t* done) noexcept nogil:
        done[0] = n
        if n == 0 or (n <= LOCKED_COPY // self.itemsize and self.try_put(<const char*> records, n, NULL)):
            return DONE
        return push_waiting(self, <const char*> records, n, deadline_ns, done)

    cdef Outcome try_pop(self, void* record) noexcept nogil:
        return self.pop(record, 0)

    cdef Outcome pop(self, void* record, int64_t deadline_ns) noexcept nogil:
        cdef uint64_t done
        cdef uint64_t first_seq
        if self.try_get(<char*> record, 1, 1, &first_seq, NULL) != 0:
            return DONE
        return pop_waiting(self, <char*> record, 1, 1, deadline_ns, &done)

    cdef Outcome try_pop_many(self, void* out, uint64_t least, uint64_t most, uint64_t* done) noexcept nogil:
        return self.pop_many(out, least, most, 0, done)

    cdef Outcome pop_many(self, void* out, uint64_t least, uint64_t most, int64_t deadline_ns,
                          uint64_t* done) noexcept nogil:
        cdef uint64_t first_seq
        least = min(max(<uint64_t> 1, least), most, self.monitor.capacity)
        done[0] = 0
        if most == 0:
            return DONE
        if min(most, self.there()) <= LOCKED_COPY // self.itemsize:
            done[0] = self.try_get(<char*> out, least, most, &first_seq, NULL)
            if done[0] != 0:
                return DONE
        return pop_waiting(self, <char*> out, least, most, deadline_ns, done)

    # -- blocks: zero-copy ----------------------------------------------------------------------------------------

    def reserve(self, n, bint block=True, timeout=None):
        """
        Free slots to write records to, without a copy: ``with ring.reserve(n) as block: block.array[...] = ...``.

        The records enter the ring when the block ends: all of them, or as many as `ReservedBlock.commit` said; none
        if an exception left it.

        Parameters
        ----------
        n : int
            How many slots to wait for; 1 to the capacity.
        block : bool
            Whether to wait for them. Under a drop policy it never waits for room.
        timeout : float or None
            How long to wait at most [s]; then it takes what is free.

        Returns
        -------
        ReservedBlock
            To be entered by ``with``; until then nothing is reserved. It may be shorter than `n`: its slots lie in one
            piece, and so end where the slots end; ``len(block)`` says how many they are. (It waits for `n` all the
            same: where that will be is not known before.)

        Raises
        ------
        queue.Full
            On entering: not one slot was free in time, or another reservation did not end in time. Under a drop policy
            it waits for neither; under "drop_oldest" the oldest records make room, and are counted as dropped, unless
            they are being read.
        ShutDown
            On entering: the ring is shut down.
        RuntimeError
            On entering: a block of this thread's own is out; it would wait for itself.
        BufferError
            On leaving: an array of the block is still alive. The slots stay reserved until that is gone, and then what
            was to be committed enters the ring.
        TypeError, ValueError
            `n` is no count or out of range, or the timeout is none.

        Notes
        -----
        Other puts wait while a block is out, as long as their timeouts allow; those that must not wait raise `Full`, or
        drop what they bring and count it. Gets go on. After a shutdown a block may be finished; gets wait for it,
        unless the shutdown is an immediate one, which discards it.

        Examples
        --------
        >>> from f1buf import RingBuffer
        >>> ring = RingBuffer(8, "i4")
        >>> with ring.reserve(3) as block:
        ...     block.array[:] = [10, 11, 12]
        ...     block.commit(2)
        >>> ring.get_many().tolist()
        [10, 11]
        """
        n = as_count(n, "n", 1)
        if n > self.capacity:
            raise ValueError(f"n is {n}; expected at most the capacity, which is {self.capacity}")
        return new_block(ReservedBlock.__new__(ReservedBlock), self, n, n, block, timeout)

    def peek(self, max_count=None, *, min_count=1, bint block=True, timeout=None):
        """
        Read the oldest records without a copy: ``with ring.peek(n) as block: use(block.array)``.

        The records leave the ring when the block ends: all of them, or as many as `PeekedBlock.consume` said; none if
        an exception left it.

        Parameters
        ----------
        max_count, min_count, block, timeout
            As in `get_many`.

        Returns
        -------
        PeekedBlock
            To be entered by ``with``. Its array is read-only, and may be shorter than what is there, even than
            `min_count`: it lies in one piece, and so ends where the slots end.

        Raises
        ------
        queue.Empty, ShutDown
            On entering, as `get_many`.
        RuntimeError
            On entering: a block of this thread's own is out; it would wait for itself.
        BufferError
            On leaving: an array of the block is still alive. The records stay until that is gone, and then what was to
            be consumed leaves the ring.
        TypeError, ValueError
            A count is none or out of range, or the timeout is none.

        Notes
        -----
        Other gets and snapshots wait while a block is out; gets that must not wait raise `Empty`. Puts go on; under
        "drop_oldest" those that find the ring full drop what they bring. After an immediate shutdown a block may be
        finished; what it does not take is discarded then.

        Examples
        --------
        >>> from f1buf import RingBuffer
        >>> ring = RingBuffer(8, "i4")
        >>> ring.put_many([10, 11, 12])
        3
        >>> with ring.peek() as block:
        ...     print(block.array.sum())
        ...     block.consume(2)
        33
        >>> ring.get_many().tolist()
        [12]
        """
        least, most = checked_counts(self, max_count, min_count)
        return new_block(PeekedBlock.__new__(PeekedBlock), self, least, most, block, timeout)

    # -- coroutines -----------------------------------------------------------------------------------------------

    # What the coroutine functions of `coroutines` await: aget_many, aput_many and abatches.

    def _awaited_get_many(self, max_count, min_count, bint return_seq):
        cdef Attempt made = attempt(self, get_at_once, get_in_time)
        cdef int64_t most = self.monitor.capacity if max_count is None else small_count(max_count)
        cdef int64_t least = small_count(min_count)
        if not 1 <= least <= min(most, <int64_t> self.monitor.capacity):
            least, most = checked_counts(self, max_count, min_count)
        made.least, made.most = least, min(most, <int64_t> self.monitor.capacity)
        made.return_seq = return_seq
        return made

    def _awaited_put_many(self, records):
        cdef Attempt made = attempt_in_pieces(self, put_at_once, put_some_in_time)
        if not is_plain(records, self.dtype):
            records = converted_by(self, to_records, records)
        made.given, made.most = records, length_of(records)
        return made

    # -- looking --------------------------------------------------------------------------------------------------

    def snapshot(self, max_count=None):
        """
        Copy the newest records and take nothing.

        Parameters
        ----------
        max_count : int or None
            The most to copy; None: all that are there.

        Returns
        -------
        numpy.ndarray
            Oldest first; owns its memory. Empty where nothing is there. It may wait for another copy, or another
            thread's `peek`, to end.

        Raises
        ------
        RuntimeError
            A block that this thread peeks at is out; it would wait for itself.
        """
        cdef uint64_t room = self.there()
        cdef uint64_t n
        if max_count is not None:
            room = min(room, as_count(max_count, "max_count", 0))
        out = blank_array(self, room)
        n = newest(self, data_of(out), room)
        return out if n == room else shortened(out, n)

    def __array__(self, dtype=None, copy=None):
        """
        What ``np.asarray(ring)`` calls: `snapshot`, which copies the records and takes none.

        Parameters
        ----------
        dtype : dtype-like or None
            What numpy is to convert the copy to, as its `astype` does; None: the ring's dtype.
        copy : bool or None
            It always is a copy. False, by which numpy says that it must be none, is refused.

        Returns
        -------
        numpy.ndarray
            Oldest first; owns its memory.

        Raises
        ------
        ValueError
            `copy` is False.
        RuntimeError
            A block that this thread peeks at is out; it would wait for itself.

        Notes
        -----
        Some do not ask numpy: give pandas ``np.asarray(ring)``.
        """
        if copy is not None and not copy:
            raise ValueError(
                f"copy is {copy!r}: the records of a ring cannot be had as an array without a copy; expected None or "
                "True; to read them in place: with ring.peek() as block: block.array"
            )
        records = self.snapshot()
        return records if dtype is None else records.astype(dtype, copy=False)

    def qsize(self):
        """How many records are there: 0 to the capacity, and stale once returned."""
        return self.there()

    def __len__(self):
        return self.there()

    def empty(self):
        """Whether nothing is there; stale once returned."""
        return self.there() == 0

    def full(self):
        """Whether there is no room; stale once returned."""
        return self.there() == self.monitor.capacity

    @property
    def capacity(self):
        """How many records the ring holds, exactly as asked for."""
        return self.monitor.capacity

    @property
    def overflow(self):
        """What a put does when the ring is full: "block", "drop_oldest" or "drop_newest"."""
        return OVERFLOWS[<int> self.policy]

    @property
    def is_shutdown(self):
        """Whether the ring has been shut down."""
        return self.state() != OPEN

    def stats(self):
        """
        What the ring has done so far.

        Returns
        -------
        RingStats
            Immutable; all counters from one moment.
        """
        cdef Counters c
        self.count_up(&c)
        return RingStats(
            offered=c.entered + c.refused,
            taken=c.left - c.evicted - c.discarded,
            dropped=c.refused + c.evicted,
            discarded=c.discarded,
            put_waits=c.put_waits,
            get_waits=c.get_waits,
            put_wait_seconds=c.put_wait_ns * 1e-9,
            get_wait_seconds=c.get_wait_ns * 1e-9,
            high_water=c.high_water,
        )

    # -- shutdown -------------------------------------------------------------------------------------------------

    def shutdown(self, bint immediate=False):
        """
        Let nothing more in, and wake everybody.

        Puts raise `ShutDown` from now on; gets do so once the ring is drained. May be called more than once.

        Parameters
        ----------
        immediate : bool
            Discard what is left (`stats` counts it), so that gets raise at once.
        """
        with nogil:
            self.shut_down(immediate)

    cdef void shut_down(self, bint immediate) noexcept nogil:
        self.monitor.lock.lock()
        shut(&self.monitor, SHUT_NOW if immediate else SHUT)
        if immediate:
            discard_rest(self)
        release(&self.monitor)

    def __enter__(self):
        """The ring itself."""
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        """
        Shut the ring down: what is left can still be taken; where an exception left the block it is discarded.

        Its producer may have been in the middle of something, so no consumer is to go on with half of it; `stats` has
        how much was discarded. Use `shutdown` in a ``finally`` to have it taken all the same.

        Examples
        --------
        >>> from f1buf import RingBuffer
        >>> ring = RingBuffer(8, "i8")
        >>> try:
        ...     with ring:
        ...         accepted = ring.put_many([1, 2])
        ...         raise OSError("the cable is out")
        ... except OSError:
        ...     ring.qsize(), ring.stats().discarded
        (0, 2)
        """
        self.shutdown(exc_type is not None)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _check(self):
        """Raise AssertionError where an invariant does not hold (for tests)."""
        cdef const char* fault
        with nogil:
            fault = self.broken()
        if fault != NULL:
            raise AssertionError(fault.decode())

    # -- what `SharedRingBuffer` does in another way: see ring.pxd ------------------------------------------------

    cdef uint64_t there(self) noexcept nogil:
        return self.monitor.count.load(memory_order_relaxed)

    cdef int state(self) noexcept nogil:
        return self.monitor.shut.load(memory_order_relaxed)

    cdef bint try_put(self, const char* source, uint64_t n, Wait* w) noexcept nogil:
        return try_put(self, source, n, w)

    cdef uint64_t put_records(self, const char* source, uint64_t n, Wait* w, Outcome* outcome) noexcept nogil:
        return put_records(self, source, n, w, outcome)

    cdef uint64_t try_get(self, char* out, uint64_t least, uint64_t room, uint64_t* first_seq,
                          Wait* w) noexcept nogil:
        return try_get(self, out, least, room, first_seq, w)

    cdef uint64_t get_records(self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                              Outcome* outcome) noexcept nogil:
        return get_records(self, out, room, most, w, first_seq, outcome)

    cdef uint64_t copy_newest(self, char* out, uint64_t room, Wait* w, Outcome* outcome) noexcept nogil:
        return copy_newest(self, out, room, w, outcome)

    cdef Outcome reserve_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil:
        return reserve_slots(self, n, w, span)

    cdef Outcome peek_slots(self, uint64_t n, Wait* w, Span* span) noexcept nogil:
        return peek_slots(self, n, w, span)

    cdef void end_block(self, bint is_writer, uint64_t n) noexcept:
        end_block(self, is_writer, n)

    cdef int watch(self, Side* side) except -1:
        return 0  # whoever changes the monitor wakes those that wait in its lists

    cdef void count_up(self, Counters* c) noexcept:
        count_up(self, c)

    cdef const char* broken(self) noexcept nogil:
        cdef const char* fault
        self.monitor.lock.lock()
        fault = ring_fault(self)
        self.monitor.lock.unlock()
        return fault


# -- put ----------------------------------------------------------------------------------------------------------

cdef object converted_by(RingBuffer self, object convert, object records):
    """What `convert` makes of them: one piece of exactly the dtype."""
    dtype = self.dtype
    result = convert(records, dtype)
    if dtype is not self.dtype:
        raise RuntimeError("the ring was initialised while a record was converted; nothing was put")
    return result


cdef bint try_put(RingBuffer self, const char* source, uint64_t n, Wait* w) noexcept nogil:
    """Put all of a small batch now, with or without the GIL; False where that takes waiting or a large copy.

    `w` is the operation's waiting, whose promise this takes back, or NULL.
    """
    cdef Monitor* m = &self.monitor
    if n > ATTACHED_COPY // self.itemsize or not m.lock.try_lock():
        return False
    if w != NULL:
        return put_or_give_back(self, source, n, w)
    if not may_put_now(self, n):
        m.lock.unlock()
        return False
    begins(m, TRY)
    fill_and_publish(self, source, admit(self, n))
    release(m)
    return True


cdef bint put_or_give_back(RingBuffer self, const char* source, uint64_t n, Wait* w) noexcept nogil:
    """`try_put` of an operation that has waited, with the lock held, which it releases."""
    cdef Monitor* m = &self.monitor
    cdef bint may
    begins(m, TRY)
    unhold(w)
    may = may_put_now(self, n)
    if may:
        fill_and_publish(self, source, admit(self, n))
        forget_place(w)  # as in `put_records`
    release(m)
    return may


cdef inline bint may_put_now(RingBuffer self, uint64_t n) noexcept nogil:
    """Under the lock."""
    cdef Monitor* m = &self.monitor
    return not (
        m.puts.turn.load(memory_order_relaxed)
        or not may_overtake(&m.puts)
        or m.shut.load(memory_order_relaxed) != OPEN
        or n > (m.capacity if self.policy != BLOCK else m.capacity - m.count.load(memory_order_relaxed))
    )


cdef uint64_t put_waiting(RingBuffer self, const char* source, uint64_t n, int64_t deadline) except? 0:
    """Put without the GIL, waiting as long as allowed; returns how many the ring took."""
    cdef Wait w
    cdef Outcome outcome = DONE
    cdef uint64_t done = 0
    start_wait(&w, 1 if self.policy == BLOCK else 0, deadline)
    try:
        while True:
            with nogil:
                done += self.put_records(source + done * self.itemsize, n - done, &w, &outcome)
            if outcome != TICKED:
                break
            PyErr_CheckSignals()
    finally:
        end_wait(&w)
    if done == 0:
        raise_put_error(outcome)
    return done


cdef uint64_t put_records(RingBuffer self, const char* source, uint64_t n, Wait* w, Outcome* outcome) noexcept nogil:
    """Put piece by piece; returns how many were taken from the caller before `outcome`."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t done = 0
    cdef uint64_t step
    outcome[0] = DONE
    while done < n:
        outcome[0] = acquire(m, &m.puts, w)
        if outcome[0] == HELD:
            done += give_up_put(self, n - done, outcome)
            break
        if outcome[0] != DONE:
            break
        if m.shut.load(memory_order_relaxed) != OPEN:
            outcome[0] = CUT_IN_TWO if m.shut.load(memory_order_relaxed) == TORN else SHUT_DOWN
            release(m)
            break
        if n > 1 and not is_one_piece(self, n - done) and not make_node(w):
            outcome[0] = OUT_OF_MEMORY  # now, before the first piece: after that it could not be reported
            release(m)
            break
        step = put_piece(self, source + done * self.itemsize, n - done)
        if step == 0:
            outcome[0] = FULL
            break
        done += step
        forget_place(w)  # the next piece queues up again: one large put must not hold up everybody else's
    return done


cdef uint64_t give_up_put(RingBuffer self, uint64_t n, Outcome* outcome) noexcept nogil:
    """With the lock, which it releases: a reservation is out that it must not wait for. How many it drops."""
    cdef Monitor* m = &self.monitor
    cdef bint drops = self.policy != BLOCK and m.shut.load(memory_order_relaxed) == OPEN
    if drops:
        self.refused += n
    outcome[0] = DONE if drops else end_of(self, &m.puts)
    release(m)
    return n if drops else 0


cdef Outcome end_of(RingBuffer self, Side* side) noexcept nogil:
    """Under the lock: why an operation that may not act ends."""
    cdef Monitor* m = &self.monitor
    cdef int how = m.shut.load(memory_order_relaxed)
    if how == TORN:
        return CUT_IN_TWO
    if side == &m.gets and how == SHUT and m.count.load(memory_order_relaxed) != 0:
        return EMPTY  # for now: a block is out, which may leave its records in the ring
    if over(m, side):
        return SHUT_DOWN
    return FULL if side == &m.puts else EMPTY


cdef bint is_one_piece(RingBuffer self, uint64_t n) noexcept nogil:
    """Under the lock: whether the next piece is all of it."""
    cdef Monitor* m = &self.monitor
    return n <= (available(m, &m.puts) if self.policy == BLOCK else m.capacity) and n <= piece_size(self)


cdef uint64_t piece_size(RingBuffer self) noexcept nogil:
    return max(<size_t> 1, PIECE // self.itemsize)


cdef uint64_t put_piece(RingBuffer self, const char* source, uint64_t n) noexcept nogil:
    """ACT or TURN, with the lock held; releases it. Returns how many records are the caller's no more."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t admitted
    n = min(n, m.capacity, piece_size(self))
    admitted = admit(self, n)
    if admitted <= LOCKED_COPY // self.itemsize:
        fill_and_publish(self, source, admitted)
    else:
        m.puts.turn.store(COPYING, memory_order_relaxed)
        release(m)
        fill(self, source, admitted)
        m.lock.lock()
        begins(m, END)
        m.puts.turn.store(FREE, memory_order_relaxed)
        publish(self, admitted)
        discard_if_shut_now(self)
    release(m)
    return admitted if self.policy == BLOCK else n


cdef uint64_t admit(RingBuffer self, uint64_t n) noexcept nogil:
    """How many of the next n <= capacity records enter, after the overflow policy made room and counted."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t room = m.capacity - m.count.load(memory_order_relaxed)
    if n <= room:
        return n
    if evict_for(self, n):
        return n
    if self.policy != BLOCK:  # or the oldest are being read
        self.refused += n - room
    return room


cdef bint evict_for(RingBuffer self, uint64_t n) noexcept nogil:
    """Whether the oldest have made room for n <= capacity, or there was room; not while they are being read."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t room = m.capacity - m.count.load(memory_order_relaxed)
    if n <= room:
        return True
    if self.policy != DROP_OLDEST or m.gets.turn.load(memory_order_relaxed):
        return False
    self.evicted += n - room
    advance_read(self, n - room)
    return True


cdef void fill_and_publish(RingBuffer self, const char* source, uint64_t n) noexcept nogil:
    fill(self, source, n)
    publish(self, n)


cdef void fill(RingBuffer self, const char* source, uint64_t n) noexcept nogil:
    """Copy into the free slots from write_pos on, around the end."""
    cdef uint64_t straight = min(n, self.monitor.capacity - self.write_pos)
    copy_bytes(self.slots + self.write_pos * self.itemsize, source, straight * self.itemsize)
    if straight < n:
        copy_bytes(self.slots, source + straight * self.itemsize, (n - straight) * self.itemsize)


cdef void publish(RingBuffer self, uint64_t n) noexcept nogil:
    """Under the lock: what was filled can be taken."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t count = m.count.load(memory_order_relaxed) + n
    self.write_seq += n
    self.write_pos += n
    if self.write_pos >= m.capacity:
        self.write_pos -= m.capacity
    m.count.store(count, memory_order_relaxed)
    if count > self.high_water:
        self.high_water = count
    ran_here(&m.puts)
    overtake(&m.puts, n * self.itemsize)
    if DEBUG:
        insist(ring_fault(self))


# -- get ----------------------------------------------------------------------------------------------------------

cdef object take_batch(RingBuffer self, uint64_t least, uint64_t most, int64_t deadline, uint64_t* first_seq):
    """Allocate for what is there, take it; where it must wait, allocate again for what came."""
    cdef Wait w
    cdef Outcome outcome
    cdef uint64_t n
    cdef uint64_t room = min(most, self.there())
    if least <= room <= ATTACHED_COPY // self.itemsize:
        out = blank_array(self, room)
        n = self.try_get(data_of(out), least, room, first_seq, NULL)
        if n != 0:
            return out if n == room else shortened(out, n)
    start_wait(&w, least, deadline)
    room = min(most, max(room, least, FIRST_ROOM // self.itemsize))
    try:
        while True:
            out = blank_array(self, room)
            n = get_ticking(self, data_of(out), room, most, &w, first_seq, &outcome)
            if outcome != GROW:
                break
            most = room = n  # promised until we are back, so that nobody is woken for the same records
    finally:
        end_wait(&w)
    if n == 0:
        raise_get_error(outcome)
    return out if n == room else shortened(out, n)


cdef uint64_t get_array(RingBuffer self, char* out, uint64_t room, uint64_t least, int64_t deadline,
                        uint64_t* first_seq) except? 0:
    """Take up to `room` records to `out`."""
    cdef Wait w
    cdef Outcome outcome = DONE
    cdef uint64_t unused = 0
    cdef uint64_t n
    if first_seq == NULL:
        first_seq = &unused
    n = self.try_get(out, least, room, first_seq, NULL)
    if n != 0:
        return n
    start_wait(&w, least, deadline)
    try:
        n = get_ticking(self, out, room, room, &w, first_seq, &outcome)
    finally:
        end_wait(&w)
    if n == 0:
        raise_get_error(outcome)
    return n


cdef uint64_t get_ticking(RingBuffer self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                          Outcome* outcome) except? 0:
    """`get_records` without the GIL, with signal handlers run in between."""
    cdef uint64_t n
    while True:
        with nogil:
            n = self.get_records(out, room, most, w, first_seq, outcome)
        if outcome[0] != TICKED:
            return n
        PyErr_CheckSignals()
        n = min(most, self.there())
        if w.began != 0 or w.expired or n > room:
            continue
        n = self.try_get(out, w.need, n, first_seq, w)
        if n != 0:  # with the GIL still here: the main thread need not give it up and get it once more
            outcome[0] = DONE
            return n


cdef uint64_t try_get(RingBuffer self, char* out, uint64_t least, uint64_t room, uint64_t* first_seq,
                      Wait* w) noexcept nogil:
    """Take a small batch now, with or without the GIL; 0 where that takes waiting or a large copy.

    `w` is the operation's waiting, whose promise this takes back, or NULL.
    """
    cdef Monitor* m = &self.monitor
    cdef uint64_t n
    if not m.lock.try_lock():
        return 0
    begins(m, TRY)
    if w != NULL:
        unhold(w)
    n = min(room, m.count.load(memory_order_relaxed))
    if (
        n < least
        or n > ATTACHED_COPY // self.itemsize
        or m.gets.turn.load(memory_order_relaxed)
        or not may_overtake(&m.gets)
        or m.shut.load(memory_order_relaxed) == TORN
    ):
        release(m)
        return 0
    first_seq[0] = self.read_seq
    copy_out(self, out, self.read_pos, n)
    take_out(self, n)
    release(m)
    return n


cdef uint64_t get_records(RingBuffer self, char* out, uint64_t room, uint64_t most, Wait* w, uint64_t* first_seq,
                          Outcome* outcome) noexcept nogil:
    """Wait, then take; returns how many, or with GROW how many there are for a larger `room`."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t n
    outcome[0] = acquire(m, &m.gets, w)
    if not has_lock(outcome[0]):
        return 0
    n = min(most, m.count.load(memory_order_relaxed))
    if n == 0 or outcome[0] == HELD or m.shut.load(memory_order_relaxed) == TORN:
        outcome[0] = end_of(self, &m.gets)
        release(m)
        return 0
    if n > room:
        outcome[0] = GROW
        hold(m, &m.gets, w, n)
        release(m)
        return n
    first_seq[0] = self.read_seq
    get_piece(self, out, n)
    return n


cdef void get_piece(RingBuffer self, char* out, uint64_t n) noexcept nogil:
    """ACT or TURN, with the lock held; releases it."""
    cdef Monitor* m = &self.monitor
    if n <= LOCKED_COPY // self.itemsize:
        copy_out(self, out, self.read_pos, n)
    else:
        copy_in_turn(self, out, self.read_pos, n)
    take_out(self, n)
    discard_if_shut_now(self)
    release(m)


cdef void copy_in_turn(RingBuffer self, char* out, uint64_t pos, uint64_t n) noexcept nogil:
    """TURN: copy outside the lock, which is held before and after; until then nothing there is overwritten."""
    cdef Monitor* m = &self.monitor
    m.gets.turn.store(COPYING, memory_order_relaxed)
    release(m)
    copy_out(self, out, pos, n)
    m.lock.lock()
    begins(m, END)
    m.gets.turn.store(FREE, memory_order_relaxed)


cdef void copy_out(RingBuffer self, char* out, uint64_t pos, uint64_t n) noexcept nogil:
    cdef uint64_t straight = min(n, self.monitor.capacity - pos)
    copy_bytes(out, self.slots + pos * self.itemsize, straight * self.itemsize)
    if straight < n:
        copy_bytes(out + straight * self.itemsize, self.slots, (n - straight) * self.itemsize)


cdef void take_out(RingBuffer self, uint64_t n) noexcept nogil:
    """Under the lock: the n oldest are gone."""
    advance_read(self, n)
    ran_here(&self.monitor.gets)
    overtake(&self.monitor.gets, n * self.itemsize)
    if DEBUG:
        insist(ring_fault(self))


cdef void advance_read(RingBuffer self, uint64_t n) noexcept nogil:
    cdef Monitor* m = &self.monitor
    self.read_seq += n
    self.read_pos += n
    if self.read_pos >= m.capacity:
        self.read_pos -= m.capacity
    m.count.store(m.count.load(memory_order_relaxed) - n, memory_order_relaxed)


# -- C calls ------------------------------------------------------------------------------------------------------

cdef Outcome push_waiting(RingBuffer self, const char* source, uint64_t n, int64_t deadline,
                          uint64_t* done) noexcept nogil:
    cdef Wait w
    cdef Outcome outcome
    start_wait_without_ticks(&w, 1 if self.policy == BLOCK else 0, deadline)
    done[0] = self.put_records(source, n, &w, &outcome)
    drop_node(&w)
    return outcome


cdef Outcome pop_waiting(RingBuffer self, char* out, uint64_t least, uint64_t most, int64_t deadline,
                         uint64_t* done) noexcept nogil:
    cdef Wait w
    cdef Outcome outcome
    cdef uint64_t first_seq
    start_wait_without_ticks(&w, least, deadline)
    done[0] = self.get_records(out, most, most, &w, &first_seq, &outcome)
    drop_node(&w)
    if 0 < done[0] < least:  # then it was late, or drained
        return EMPTY if w.expired else SHUT_DOWN
    return outcome


cdef inline void start_wait_without_ticks(Wait* w, uint64_t need, int64_t deadline) noexcept nogil:
    """For a nogil caller, which cannot run signal handlers: `acquire` is never TICKED, nor leaves a promise behind."""
    start_wait(w, need, deadline)
    w.tick = FOREVER


cdef int64_t deadline_after(double seconds) noexcept nogil:
    return deadline_in(seconds) if seconds > 0.0 else 0


# -- coroutines ---------------------------------------------------------------------------------------------------
#
# For `attempt`: how each method is done at once, and how it is done by waiting. In place of waiting these functions
# queue the coroutine, and return NOT_YET, or QUEUED.

cdef object get_at_once(Attempt of):
    return small_batch(<RingBuffer> of.buffer, of, NULL)


cdef object small_batch(RingBuffer self, Attempt of, Wait* w):
    """A small batch that is there, or NOT_YET; `w` as in `try_get`."""
    cdef LaterInt number
    cdef uint64_t first_seq = 0
    cdef uint64_t room = min(of.most, self.there())
    cdef uint64_t n
    if not of.least <= room <= ATTACHED_COPY // self.itemsize:
        return NOT_YET
    pair = None
    if of.return_seq:
        number.reserve(UINT64_MAX)
        pair = blank_pair()
    out = blank_array(self, room)
    n = self.try_get(data_of(out), of.least, room, &first_seq, w)
    return filled_batch(out, n, room, number, pair, first_seq) if n != 0 else NOT_YET


cdef object get_in_time(Attempt of, LoopWait wait):
    cdef RingBuffer self = of.buffer
    cdef Monitor* m = &self.monitor
    cdef LaterInt number
    cdef Outcome outcome = QUEUED
    cdef uint64_t first_seq = 0
    cdef uint64_t most = of.most
    cdef uint64_t room
    cdef uint64_t n
    cdef char* target
    if wait.w.node == NULL:
        wait.start(self, m, &m.gets, of.least)
    batch = small_batch(self, of, &wait.w)
    if batch is not NOT_YET:
        return batch
    room = min(most, max(self.there(), of.least, FIRST_ROOM // self.itemsize))
    pair = None
    if of.return_seq:
        number.reserve(UINT64_MAX)
        pair = blank_pair()
    while True:
        out = blank_array(self, room)
        target = data_of(out)
        wait.expect()
        with nogil:
            n = self.get_records(target, room, most, &wait.w, &first_seq, &outcome)
        if outcome != GROW:
            break
        most = room = n
    if outcome == QUEUED:
        self.watch(&m.gets)
        return NOT_YET
    if n == 0:
        raise_get_error(outcome)
    return filled_batch(out, n, room, number, pair, first_seq)


cdef object put_at_once(Attempt of):
    cdef RingBuffer self = of.buffer
    cdef uint64_t n = of.most
    if n == 0 or (n <= min(self.monitor.capacity, piece_size(self)) and self.try_put(data_of(of.given), n, NULL)):
        return n
    return NOT_YET


cdef Outcome put_some_in_time(Attempt of, LoopWait wait) except *:
    """Put the next piece of the records."""
    cdef RingBuffer self = of.buffer
    cdef Monitor* m = &self.monitor
    cdef Outcome outcome = DONE
    cdef uint64_t step = min(of.most - wait.done, m.capacity, piece_size(self))
    cdef uint64_t done
    cdef const char* source = data_of(of.given) + wait.done * self.itemsize
    if self.try_put(source, step, &wait.w):
        wait.done += step
        wait.w.began = 0
        return DONE
    if wait.w.node == NULL:
        wait.start(self, m, &m.puts, step)
    wait.w.need = step if self.policy == BLOCK else 0
    wait.expect()
    with nogil:
        done = self.put_records(source, step, &wait.w, &outcome)
    wait.done += done
    if outcome == QUEUED:
        self.watch(&m.puts)
    elif wait.done == 0:
        raise_put_error(outcome)
    return outcome


# -- snapshots, counters ------------------------------------------------------------------------------------------

cdef uint64_t newest(RingBuffer self, char* out, uint64_t room) except? 0:
    cdef Wait w
    cdef uint64_t n = 0
    cdef Outcome outcome = TICKED
    start_wait(&w, 0, FOREVER)
    try:
        while outcome == TICKED:
            with nogil:
                n = self.copy_newest(out, room, &w, &outcome)
            PyErr_CheckSignals()
    finally:
        end_wait(&w)
    if outcome != DONE:
        raise_get_error(outcome)
    return n


cdef uint64_t copy_newest(RingBuffer self, char* out, uint64_t room, Wait* w, Outcome* outcome) noexcept nogil:
    cdef Monitor* m = &self.monitor
    cdef uint64_t n
    cdef uint64_t pos
    outcome[0] = acquire(m, &m.gets, w)
    if not has_lock(outcome[0]):
        return 0
    if outcome[0] == HELD:  # by a block that is out, of what an immediate shutdown discards
        room = 0
    n = min(room, m.count.load(memory_order_relaxed))
    pos = self.write_pos - n if self.write_pos >= n else self.write_pos + m.capacity - n
    if n > LOCKED_COPY // self.itemsize:
        copy_in_turn(self, out, pos, n)
    elif n != 0:  # without slots, before __init__ has run, there is nothing that memcpy could be given
        copy_out(self, out, pos, n)
    discard_if_shut_now(self)
    outcome[0] = CUT_IN_TWO if m.shut.load(memory_order_relaxed) == TORN else DONE
    release(m)
    return n


cdef void count_up(RingBuffer self, Counters* c) noexcept:
    cdef Monitor* m = &self.monitor
    lock_attached(m)
    c.entered, c.left = self.write_seq, self.read_seq
    c.refused, c.evicted, c.discarded = self.refused, self.evicted, self.discarded
    c.high_water = self.high_water
    c.put_waits, c.get_waits = m.puts.waits, m.gets.waits
    c.put_wait_ns, c.get_wait_ns = m.puts.wait_ns, m.gets.wait_ns
    m.lock.unlock()


# -- shutdown -----------------------------------------------------------------------------------------------------

cdef void discard_if_shut_now(RingBuffer self) noexcept nogil:
    if self.monitor.shut.load(memory_order_relaxed) == SHUT_NOW:
        discard_rest(self)


cdef void discard_rest(RingBuffer self) noexcept nogil:
    """Under the lock, after an immediate shutdown. What is being read is its reader's; it discards the rest."""
    cdef Monitor* m = &self.monitor
    if not m.gets.turn.load(memory_order_relaxed):
        self.discarded += m.count.load(memory_order_relaxed)
        advance_read(self, m.count.load(memory_order_relaxed))


# -- inside -------------------------------------------------------------------------------------------------------

cdef tuple checked_counts(RingBuffer self, object max_count, object min_count, str most_name="max_count"):
    least = as_count(min_count, "min_count", 1)
    most = self.capacity if max_count is None else as_count(max_count, most_name, 0)
    if least > most and max_count is not None:
        raise ValueError(f"min_count is {least}; expected at most {most_name}, which is {most}")
    if least > self.capacity:
        raise ValueError(f"min_count is {least}; expected at most the capacity, which is {self.capacity}")
    return least, min(most, self.capacity)


cdef object blank_array(RingBuffer self, uint64_t n):
    """An array of `n` records that owns its memory, which nobody has written to yet."""
    array = empty(n, self.raw_dtype)
    if self.raw_dtype is not self.dtype:
        set_dtype(array, self.dtype)
    return array


cdef object spare_records(RingBuffer self, Py_ssize_t* place):
    """An array with a record that nobody has, at `place`: for `get`. Making an array takes longer than all else there.

    With a GIL only; without, several threads would have to share them.
    """
    cdef Py_ssize_t n = 1 if NO_GIL else max(<Py_ssize_t> 1, SPARE_BYTES // <Py_ssize_t> self.itemsize)
    if NO_GIL or self.spare_count == 0:
        more = blank_array(self, n)  # now the collector may have run, and a get in a finalizer
        if n == 1:
            place[0] = 0
            return more
        self.spare, self.spare_count = more, n
    self.spare_count -= 1
    place[0] = self.spare_count
    return self.spare


cdef const char* ring_fault(RingBuffer self) noexcept nogil:
    """Which invariant does not hold, under the lock; NULL where all do."""
    cdef Monitor* m = &self.monitor
    cdef uint64_t count = m.count.load(memory_order_relaxed)
    if count > m.capacity:
        return "count <= capacity"
    if self.write_seq - self.read_seq != count:
        return "count == write_seq - read_seq"
    if self.write_pos != self.write_seq % m.capacity or self.read_pos != self.read_seq % m.capacity:
        return "positions follow the sequence numbers"
    if self.evicted + self.discarded > self.read_seq:
        return "what was dropped or discarded had entered"
    return monitor_fault(m)


# -- construction -------------------------------------------------------------------------------------------------

cdef uint64_t checked_capacity(object capacity) except 0:
    size = as_count(capacity, "capacity", 1)
    if size >= 1 << 62:
        raise MemoryError(f"cannot allocate a ring of {size} records; choose a smaller capacity")
    return size


cdef Overflow checked_policy(object overflow) except *:
    if not isinstance(overflow, str) or overflow not in OVERFLOWS:
        raise ValueError(f"overflow is {overflow!r}; expected one of {', '.join(map(repr, OVERFLOWS))}")
    return <Overflow> (<int> OVERFLOWS.index(overflow))


cdef char* allocate_slots(uint64_t capacity, size_t itemsize) except NULL:
    cdef char* slots = NULL
    if capacity <= (<size_t> -1 >> 1) // itemsize:
        slots = <char*> PyMem_RawCalloc(capacity, itemsize)  # zeros: a block shows slots that nobody has written yet
    if slots == NULL:
        raise MemoryError(
            f"cannot allocate a ring of {capacity} records of {itemsize} bytes "
            f"({int(capacity) * int(itemsize)} bytes in all); choose a smaller capacity"
        )
    advise_huge_pages(slots, capacity * itemsize)
    return slots


cdef object scalar_to_fill(object dtype):
    """An array whose [0] is a new scalar each time, in which a record's bytes can be put; None where there is none.

    None for records of several fields (there [0] is a view), booleans (two objects that the interpreter shares),
    strings (whose length is that of the value), other machines' byte order and other packages' types.
    """
    array = np.zeros(1, dtype)
    if dtype.names is not None or not dtype.isnative or array[0] is array[0]:
        return None
    return array if data_of_scalar(array[0], array) != NULL else None


# -- arrays -------------------------------------------------------------------------------------------------------
#
# Of any dtype, datetime64 too: what is copied is the bytes.

cdef bint is_plain(object records, object dtype) except -1:
    """Whether these are records as they lie in the slots: one piece, one dimension, exactly the dtype."""
    if type(records) is not ndarray or ndim_of(records) != 1 or not is_in_one_piece(records):
        return False
    return dtype_of(records) == <PyObject*> dtype or records.dtype == dtype


cdef object shortened(object array, uint64_t n):
    try:
        array.resize(n, refcheck=False)  # in place: a slice would keep the whole block and own nothing
    except MemoryError:
        cut_to(array, n)  # the records in it have been taken, and must get out
    return array


cdef object filled_batch(object out, uint64_t n, uint64_t room, LaterInt& number, object pair, uint64_t first_seq):
    """What a get returns that found n records where there was room for more; `pair` None: not their sequence number."""
    if n != room:
        out = shortened(out, n)
    return out if pair is None else filled_pair(pair, number.become(first_seq), out)


cdef tuple blank_pair():
    """A tuple for two; not for the collector to show while it is empty."""
    pair = PyTuple_New(2)
    PyObject_GC_UnTrack(pair)
    return pair


cdef tuple filled_pair(tuple pair, object first, object second):
    Py_INCREF(first)
    PyTuple_SET_ITEM(pair, 0, first)
    Py_INCREF(second)
    PyTuple_SET_ITEM(pair, 1, second)
    return pair  # of numbers and arrays, none of which the collector follows: it would let go of it, too


def _made_pair(first, second):
    """For `borrowed`."""
    pair = blank_pair()
    known = PyObject_GC_IsTracked(pair)
    return known, filled_pair(pair, first, second)


def _made_array(raw_dtype, dtype, uint64_t room, uint64_t n):
    """For `borrowed`."""
    array = empty(room, raw_dtype)
    set_dtype(array, dtype)
    cut_to(array, n)
    return array


def _made_scalar(zeros, own):
    """For `borrowed`."""
    scalar = zeros[0]
    cdef char* data = data_of_scalar(scalar, zeros)
    if data == NULL:
        return None
    memcpy(data, data_of(own), own.itemsize)
    return scalar


check_pair(_made_pair)
check_array(_made_array, np)
check_scalars(_made_scalar, np)


cdef int refuse_out(object out, object dtype) except -1:
    """Say why an array is none to write records to; subclasses of ndarray may be."""
    if not issubclass(type(out), ndarray):  # an object may lie about its class, and a subclass about all else
        raise TypeError(f"out is {type(out).__name__!r}; expected a numpy array of dtype {dtype!s}")
    out = np.asarray(out)
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype!s}; expected exactly {dtype!s}")
    if out.ndim != 1:
        raise ValueError(f"out has shape {out.shape}; expected one dimension")
    if not out.flags.c_contiguous:
        raise ValueError(f"out is not contiguous (strides {out.strides}); expected an array of one piece")
    if not out.flags.writeable:
        raise ValueError("out is read-only; expected a writeable array")
    return 0


cdef int64_t small_count(object value) noexcept:
    """An exact integer from 0 to the largest C integer, or -1: then `as_count` says what it is."""
    cdef int overflow = 0
    cdef long long count
    if not PyLong_CheckExact(value):
        return -1
    count = PyLong_AsLongLongAndOverflow(value, &overflow)
    return count if not overflow and count >= 0 else -1


include "blocks.pxi"


# -- coroutine methods --------------------------------------------------------------------------------------------

cdef extern from *:
    ctypedef struct PyTypeObject:
        PyObject* tp_dict
    void PyType_Modified(PyTypeObject*)


cdef int add_coroutines() except -1:
    """A class in C takes no new attributes any other way."""
    cdef PyTypeObject* kind = <PyTypeObject*> RingBuffer
    (<dict> kind.tp_dict).update(functions_of(coroutines.RingBuffer))
    PyType_Modified(kind)
    return 0


add_coroutines()


# -- errors -------------------------------------------------------------------------------------------------------

cdef inline bint has_lock(Outcome outcome) noexcept nogil:
    """Whether `acquire` returned with the lock held."""
    return outcome == DONE or outcome == HELD


cdef int raise_put_error(Outcome outcome) except -1:
    if outcome == FULL:
        raise Full("the ring is full; nothing was put")
    return raise_error(outcome, "put into")


cdef int raise_get_error(Outcome outcome) except -1:
    if outcome == EMPTY:
        raise Empty("the ring is empty")
    return raise_error(outcome, "get from")


cdef int raise_error(Outcome outcome, str verb) except -1:
    if outcome == OUT_OF_MEMORY:
        raise MemoryError("no memory to wait with; nothing has changed")
    if outcome == HELD_BY_SELF:
        raise RuntimeError(
            f"cannot {verb} the ring: this thread has a block of it out, for whose end it would wait itself; "
            "leave the `with` statement first, and let its arrays go"
        )
    if outcome == CUT_IN_TWO:
        raise RuntimeError(
            "this process was forked while another thread was copying into or out of the ring, or a block of it "
            "was out; its records cannot be trusted here; create a new ring in the child"
        )
    if outcome == ABANDONED:
        others = "taken from" if verb == "put into" else "put into"
        raise Abandoned(
            f"cannot {verb} the ring: every process that has {others} it is gone, and none of them shut it down; "
            "start another one, or go on without"
        )
    if outcome == BROKEN:
        raise RuntimeError(
            "the numbers of the shared ring make no sense: a process wrote over its memory; create a new ring"
        )
    if outcome == CLOSED:
        raise ValueError(f"cannot {verb} the ring: this process has closed it; attach to it anew")
    raise ShutDown(f"cannot {verb} the ring: it is shut down")
