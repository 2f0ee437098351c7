# cython: language_level=3, freethreading_compatible=True
# distutils: language = c++
"""Each C call of RingBuffer as Python can make it; test_ring_nogil.py compiles this against f1buf's .pxd files."""

from libc.stdint cimport int64_t, uint64_t

from f1buf cimport FOREVER, Outcome, RingBuffer, deadline_after, now_ns

cdef extern from "<thread>" namespace "std" nogil:
    cppclass thread:
        thread(void (*)(Call*) noexcept nogil, Call*) except +
        void join() noexcept
        void swap(thread&) noexcept

cdef enum What:
    TRY_PUSH
    PUSH
    TRY_PUSH_MANY
    PUSH_MANY
    TRY_POP
    POP
    TRY_POP_MANY
    POP_MANY
    SHUT_DOWN

cdef struct Call:
    What what
    void* ring
    char* records
    uint64_t n
    uint64_t least
    int64_t deadline
    bint immediate
    uint64_t done
    Outcome outcome

CALLS = {
    "try_push": TRY_PUSH, "push": PUSH, "try_push_many": TRY_PUSH_MANY, "push_many": PUSH_MANY,
    "try_pop": TRY_POP, "pop": POP, "try_pop_many": TRY_POP_MANY, "pop_many": POP_MANY, "shut_down": SHUT_DOWN,
}
OUTCOMES = {
    Outcome.DONE: "DONE", Outcome.FULL: "FULL", Outcome.EMPTY: "EMPTY", Outcome.SHUT_DOWN: "SHUT_DOWN",
    Outcome.CUT_IN_TWO: "CUT_IN_TWO", Outcome.OUT_OF_MEMORY: "OUT_OF_MEMORY", Outcome.HELD_BY_SELF: "HELD_BY_SELF",
    Outcome.ABANDONED: "ABANDONED", Outcome.BROKEN: "BROKEN", Outcome.CLOSED: "CLOSED",
}
NEVER = FOREVER


def call(str what, RingBuffer ring not None, records=b"", *, n=0, least=1, deadline=0, immediate=False, how="nogil"):
    """(outcome, done, the bytes popped) of one call: "nogil", in a thread of C's own ("foreign"), or with the "gil".

    A push is given the `records`, a pop room for `n`, which is written to here as far as it says that it has popped.
    """
    cdef bytearray memory = bytearray(records) if "push" in what else bytearray(b"\xee" * max(1, n * ring.itemsize))
    cdef Call c
    if "push" in what:
        n = len(records) // ring.itemsize
    c = Call(CALLS[what], <void*> ring, memory, n, least, deadline, immediate, 77, Outcome.DONE)
    if how == "gil":
        perform(&c)
    elif how == "foreign":
        in_thread(&c)
    else:
        with nogil:
            perform(&c)
    assert bytes(memory[c.done * ring.itemsize:]).strip(b"\xee") == b"" or "push" in what, "it wrote beyond"
    return OUTCOMES[c.outcome], c.done, bytes(memory[:c.done * ring.itemsize])


cdef int in_thread(Call* c) except -1:
    cdef thread* worker = new thread(perform, c)
    with nogil:
        worker.join()
    del worker
    return 0


cdef void perform(Call* c) noexcept nogil:
    perform_on(<RingBuffer> c.ring, c)


cdef void perform_on(RingBuffer ring, Call* c) noexcept nogil:
    if c.what == TRY_PUSH:
        c.outcome = ring.try_push(c.records)
    elif c.what == PUSH:
        c.outcome = ring.push(c.records, c.deadline)
    elif c.what == TRY_PUSH_MANY:
        c.outcome = ring.try_push_many(c.records, c.n, &c.done)
    elif c.what == PUSH_MANY:
        c.outcome = ring.push_many(c.records, c.n, c.deadline, &c.done)
    elif c.what == TRY_POP:
        c.outcome = ring.try_pop(c.records)
    elif c.what == POP:
        c.outcome = ring.pop(c.records, c.deadline)
    elif c.what == TRY_POP_MANY:
        c.outcome = ring.try_pop_many(c.records, c.least, c.n, &c.done)
    elif c.what == POP_MANY:
        c.outcome = ring.pop_many(c.records, c.least, c.n, c.deadline, &c.done)
    else:
        ring.shut_down(c.immediate)
    if c.what in (TRY_PUSH, PUSH, TRY_POP, POP, SHUT_DOWN):
        c.done = c.outcome == Outcome.DONE and c.what != SHUT_DOWN


def after(double seconds):
    return deadline_after(seconds)


def now():
    return now_ns()
