# cython: language_level=3
"""Waiting on an event loop; see `loop.pyx`."""

from libc.stdint cimport uint64_t
from libcpp.atomic cimport atomic
from cpython.object cimport PyObject

from f1buf.core.sync cimport Bell, Monitor, Outcome, Side, Wait

cdef class LoopWait

# As `sync.withdraw`, of a coroutine that waits on a condition.
ctypedef bint (*Withdraw)(object buffer, LoopWait wait) except -1


cdef object NOT_YET     # in place of a result: it must wait


cdef class LoopWait:
    cdef Wait w             # its node rings the loop's bell
    cdef object buffer      # the buffer on which it waits
    cdef Monitor* monitor   # the buffer's
    cdef Withdraw withdraw  # NULL, but on a classic queue
    cdef object loop        # asyncio's, or a `trio.Run`
    cdef object future      # what its coroutine awaits
    cdef set waits          # all that wait on this loop, itself too
    cdef atomic[int] ended
    cdef PyObject* following  # in the chain that `answer` returns
    cdef public bint told   # of a classic queue: notified, and has not come back yet
    cdef public object condition  # of a classic queue: on which it waits
    cdef uint64_t done      # of a put: how many records, or items, have been put

    cdef int start(self, object buffer, Monitor* monitor, Side* side, uint64_t need) except -1
    cdef int expect(self) except -1
    cdef int end(self) except -1
    cdef bint is_dead(self, Bell* bell)
    cdef int notify(self) except -1


cdef class Attempt

# Does what is to be done, or returns NOT_YET with nothing done.
ctypedef object (*AtOnce)(Attempt of)
# The same, but that it queues the coroutine then: it awaits `wait.future`, and this is called again.
ctypedef object (*Later)(Attempt of, LoopWait wait)

# Puts the next piece of what is given, and counts it in `wait.done`. QUEUED: as `Later`. Any other outcome but DONE
# says why no more is put; where nothing was put, it raises.
ctypedef Outcome (*Piece)(Attempt of, LoopWait wait) except *

cdef class Attempt:
    cdef object buffer
    cdef AtOnce at_once
    cdef Later later
    cdef Piece piece        # in place of `later`, for what is done in pieces
    cdef object waiting     # (attempt, due): a coroutine that does it
    cdef object given       # what is put
    cdef uint64_t least     # of a batch to get
    cdef uint64_t most      # or how much is given, in all
    cdef bint return_seq    # as in `RingBuffer.get_many`
    cdef object coroutine   # that waits, where it must


cdef Attempt attempt(object buffer, AtOnce at_once, Later later)
cdef Attempt attempt_in_pieces(object buffer, AtOnce at_once, Piece piece)
