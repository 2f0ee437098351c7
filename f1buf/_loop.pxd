# cython: language_level=3
"""Waiting on an event loop; see `_loop.pyx`."""

from libc.stdint cimport uint64_t
from libcpp.atomic cimport atomic
from cpython.object cimport PyObject

from f1buf._sync cimport Bell, Side, Wait

# Takes a coroutine out of its list; whether it had been granted what it came for, which others get then.
ctypedef bint (*Withdraw)(object buffer, Wait* w) except -1


cdef object PAUSE       # awaited, it lets the loop run once
cdef bint is_due() noexcept


cdef class LoopWait:
    cdef Wait w             # whose node rings the loop's bell
    cdef object buffer      # what it waits for
    cdef Withdraw withdraw
    cdef object loop
    cdef object future      # what its coroutine awaits
    cdef set waits          # all that wait on this loop, itself too
    cdef atomic[int] ended
    cdef PyObject* following  # in the chain that `answer` returns
    cdef bint told          # of a classic queue: notified, and has not come back yet
    cdef object condition   # of a classic queue: on which it waits
    cdef uint64_t done      # of a put: how many records have been put

    cdef int start(self, object buffer, Withdraw withdraw, Side* side, uint64_t need) except -1
    cdef int expect(self) except -1
    cdef int end(self) except -1
    cdef bint is_dead(self, Bell* bell)
    cdef int notify(self) except -1
