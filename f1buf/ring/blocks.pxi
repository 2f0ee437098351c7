# Blocks: views of slots without a copy, which `RingBuffer.reserve` and `RingBuffer.peek` return. Part of ring.pyx.
#
# A block counts the users of its slots: itself, from entering to leaving, its arrays (by their leases, which go with
# the last of their slices), and every buffer that was got of it. The last user ends the turn, in any thread. So nobody
# sees slots that belong to others by then, and the ring lives as long as its blocks.

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE

cdef object frombuffer = np.frombuffer

cdef char* BYTES = b"B"

cdef enum BlockState:
    LEFT = 0      # or never made by `new_block`: one that is without a ring stays as harmless as one that is over
    NEW
    ENTERING
    ENTERED


cdef Outcome reserve_slots(RingBuffer self, uint64_t n, Wait* w, Span* span) noexcept nogil:
    cdef Monitor* m = &self.monitor
    cdef Outcome outcome = acquire(m, &m.puts, w)
    if not has_lock(outcome):
        return outcome
    span.pos, span.seq = self.write_pos, self.write_seq
    span.count = min(n, m.capacity - self.write_pos)
    if outcome == DONE and m.shut.load(memory_order_relaxed) == OPEN:
        evict_for(self, span.count)
        span.count = min(span.count, m.capacity - m.count.load(memory_order_relaxed))
    else:
        span.count = 0
    if span.count == 0:
        outcome = end_of(self, &m.puts)
    else:
        hand_out(self, &m.puts)
    release(m)
    return outcome


cdef Outcome peek_slots(RingBuffer self, uint64_t n, Wait* w, Span* span) noexcept nogil:
    cdef Monitor* m = &self.monitor
    cdef Outcome outcome = acquire(m, &m.gets, w)
    if not has_lock(outcome):
        return outcome
    span.pos, span.seq = self.read_pos, self.read_seq
    span.count = min(n, m.count.load(memory_order_relaxed), m.capacity - self.read_pos)
    if span.count == 0 or outcome == HELD or m.shut.load(memory_order_relaxed) == TORN:
        outcome = end_of(self, &m.gets)
    else:
        hand_out(self, &m.gets)
    release(m)
    return outcome


cdef void hand_out(RingBuffer self, Side* side) noexcept nogil:
    """Under the lock. From here on the slots are the block's, and the turn is its thread's."""
    side.turn.store(RESERVED, memory_order_relaxed)
    side.owner = this_thread()


cdef void end_block(RingBuffer self, bint is_writer, uint64_t n) noexcept:
    """END of a block, of which n records enter, or leave, the ring."""
    cdef Monitor* m = &self.monitor
    lock_attached(m)
    begins(m, END)
    if is_writer:
        m.puts.turn.store(FREE, memory_order_relaxed)
        publish(self, n)
    else:
        m.gets.turn.store(FREE, memory_order_relaxed)
        take_out(self, n)
    discard_if_shut_now(self)
    release(m)


@cython.no_gc_clear
cdef class _Block:
    cdef RingBuffer ring
    cdef Span span                 # its slots, from entering on
    cdef uint64_t least            # what it waits for
    cdef uint64_t most             # how many slots it takes
    cdef uint64_t used             # how many records enter or leave the ring when it ends
    cdef bint block                # and whether, and how long
    cdef object timeout
    cdef bint is_writer
    cdef Py_ssize_t nbytes         # the shape of its buffers
    cdef atomic[int] state         # a BlockState
    cdef atomic[long] users        # itself while it is ENTERED, and its buffers
    cdef long forks                # how many lay behind the process that entered it

    def __init__(self, *args, **kwargs):
        raise TypeError(f"a {type(self).__name__} cannot be made by itself; ask a ring: `with ring.{self.maker()}:`")

    cdef str maker(self):
        return "reserve(n)" if isinstance(self, ReservedBlock) else "peek(n)"

    def __enter__(self):
        cdef int expected = NEW
        cdef int64_t deadline = deadline_from(self.block, self.timeout)
        if not self.state.compare_exchange_strong(expected, ENTERING):
            raise RuntimeError("a block can be entered once; ask the ring for another one")
        try:
            self.wait(deadline)
        except BaseException:
            self.state.store(NEW)
            raise
        self.state.store(ENTERED)
        return self

    cdef int wait(self, int64_t deadline) except -1:
        cdef Wait w
        cdef Outcome outcome = TICKED
        start_wait(&w, 0 if self.is_writer and self.ring.policy != BLOCK else self.least, deadline)
        try:
            while outcome == TICKED:
                with nogil:
                    if self.is_writer:
                        outcome = self.ring.reserve_slots(self.most, &w, &self.span)
                    else:
                        outcome = self.ring.peek_slots(self.most, &w, &self.span)
                if outcome == TICKED:
                    PyErr_CheckSignals()
        finally:
            end_wait(&w)
        if outcome != DONE:
            if self.is_writer:
                raise_put_error(outcome)
            raise_get_error(outcome)
        self.used = self.span.count
        self.nbytes = self.span.count * self.ring.itemsize
        self.forks = forks
        self.users.store(1)
        return 0

    def __exit__(self, exc_type, exc_value, traceback):
        cdef int expected = ENTERED
        if not self.state.compare_exchange_strong(expected, LEFT):
            raise RuntimeError("the block is not entered")
        if exc_type is not None:
            self.used = 0
        if not self.drop_user() and exc_type is None:
            raise BufferError(
                f"an array of the block is still alive; its {self.span.count} slots stay held until that is gone; "
                "delete it inside the block, and copy what must live longer"
            )

    def __dealloc__(self):
        if self.state.load() == ENTERED:  # and nobody has left it: its buffers would keep it alive
            self.used = 0
            self.drop_user()

    cdef bint drop_user(self):
        """One less; the last ends the turn. Whether it did."""
        if self.users.fetch_sub(1) != 1:
            return False
        if self.forks == forks:  # else the turn was its parent's
            self.ring.end_block(self.is_writer, self.used)
        return True

    cdef int add_user(self, object error) except -1:
        cdef long before = self.users.load()
        self.must_be_entered(error)
        while before != 0 and not self.users.compare_exchange_weak(before, before + 1):
            pass
        if before == 0:
            raise error("the block has ended meanwhile; use it inside its `with`")
        return 0

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self.must_be_allowed(flags)
        self.add_user(BufferError)
        self.show(buffer, flags)
        buffer.obj = self

    def __releasebuffer__(self, Py_buffer* buffer):
        self.drop_user()

    cdef int must_be_allowed(self, int flags) except -1:
        if flags & PyBUF_WRITABLE and not self.is_writer:
            raise BufferError("records that are peeked at cannot be written to; copy them first")
        return 0

    cdef void show(self, Py_buffer* buffer, int flags) noexcept:
        buffer.buf = self.ring.slots + self.span.pos * self.ring.itemsize
        buffer.len = self.nbytes
        buffer.itemsize = 1
        buffer.readonly = not self.is_writer
        buffer.ndim = 1
        buffer.format = BYTES if flags & PyBUF_FORMAT else NULL
        buffer.shape = &self.nbytes if flags & PyBUF_ND else NULL
        buffer.strides = &buffer.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    cdef int must_be_entered(self, object error) except -1:
        if self.state.load() != ENTERED:
            raise error("the block has ended, or has not begun: its slots are only there inside its `with`")
        return 0

    def __len__(self):
        self.must_be_entered(RuntimeError)
        return self.span.count

    @property
    def array(self):
        """The slots, as a new array of the ring's dtype each time. It must be gone when the block ends."""
        cdef _Lease lease = _Lease.__new__(_Lease)
        self.add_user(RuntimeError)
        lease.block = self
        return frombuffer(lease, self.ring.dtype)

    @property
    def first_seq(self):
        """The sequence number of the first record, as `RingBuffer.get_many` tells it."""
        self.must_be_entered(RuntimeError)
        return self.span.seq

    cdef int use(self, object count, str name) except -1:
        n = as_count(count, name, 0)
        self.must_be_entered(RuntimeError)
        if n > self.span.count:
            raise ValueError(f"{name} is {n}; expected at most {self.span.count}, the length of the block")
        self.used = n
        return 0

    def __repr__(self):
        cdef int state = self.state.load()
        how = f"of {self.span.count} records" if state == ENTERED else "left" if state == LEFT else "new"
        return f"<{type(self).__name__} {how}>"

    def __reduce_ex__(self, protocol):
        raise TypeError("a block cannot be pickled or copied: it is memory of its ring; copy its array")


@cython.no_gc_clear
@cython.final
cdef class _Lease:
    # What an array of a block has as its base: a user of the block for as long as the array lives. (Of the block itself
    # numpy would make a memoryview, whose `release` ends that while the array goes on.)
    cdef _Block block

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.block is None:
            raise BufferError("there is no block; ask a block for its array")
        self.block.must_be_allowed(flags)
        self.block.show(buffer, flags)
        buffer.obj = self

    def __dealloc__(self):
        if self.block is not None:
            self.block.drop_user()


cdef class ReservedBlock(_Block):
    """
    Free slots to write records to; what `RingBuffer.reserve` returns, for a ``with`` statement.

    ``len(block)`` says how many they are. It supports the buffer protocol: ``socket.recv_into(block)`` writes to the
    slots. Whatever is got of it must be gone when the ``with`` statement ends; see `RingBuffer.reserve`.

    Examples
    --------
    >>> import io
    >>> from f1buf import RingBuffer
    >>> ring = RingBuffer(8, "u1")
    >>> with ring.reserve(5) as block:
    ...     block.commit(io.BytesIO(b"abc").readinto(block))
    >>> bytes(ring.get_many())
    b'abc'
    """

    def commit(self, count):
        """
        Let only the first `count` records enter the ring when the block ends; the last call counts.

        Parameters
        ----------
        count : int
            0 to ``len(block)``.
        """
        self.use(count, "count")


cdef class PeekedBlock(_Block):
    """
    The oldest records, to be read in place; what `RingBuffer.peek` returns, for a ``with`` statement.

    ``len(block)`` says how many they are. It supports the buffer protocol, read-only: ``socket.send(block)`` reads the
    slots. Whatever is got of it must be gone when the ``with`` statement ends; see `RingBuffer.peek`.

    Examples
    --------
    >>> from f1buf import RingBuffer
    >>> ring = RingBuffer(8, "u1")
    >>> ring.put_many(list(b"abc"))
    3
    >>> with ring.peek() as block:
    ...     bytes(block)
    b'abc'
    >>> len(ring)
    0
    """

    def consume(self, count):
        """
        Let only the first `count` records leave the ring when the block ends; the last call counts.

        Parameters
        ----------
        count : int
            0 to ``len(block)``.
        """
        self.use(count, "count")


cdef _Block new_block(_Block block, RingBuffer ring, uint64_t least, uint64_t most, bint waits, object timeout):
    deadline_from(waits, timeout)  # for its errors, here already
    block.ring, block.least, block.most, block.block, block.timeout = ring, least, most, waits, timeout
    block.is_writer = isinstance(block, ReservedBlock)
    block.state.store(NEW)
    return block
