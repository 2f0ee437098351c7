# cython: language_level=3, freethreading_compatible=True
"""A sensor at the speed of C: a thread of its own, of which Python knows nothing, pushes readings into a ring."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from f1buf cimport Outcome, RingBuffer, deadline_after

import f1buf

cdef extern from "<thread>" namespace "std" nogil:
    cppclass thread:
        thread() noexcept
        thread(void (*)(Producer*) noexcept nogil, Producer*) except +
        bint joinable() noexcept
        void join() noexcept
        void swap(thread&) noexcept

# What f1buf.READING is in C.
cdef struct Reading:
    double timestamp
    uint32_t sensor_id
    uint16_t channel
    uint16_t flags
    double value

cdef enum:
    BATCH = 256

# What the thread knows. It holds no reference: `Source` does.
cdef struct Producer:
    void* ring
    uint64_t count     # how many readings to push
    double patience    # [s] how long to wait for room
    uint64_t pushed
    Outcome outcome    # of the last push


cdef void produce(Producer* self) noexcept nogil:
    """The thread: batches, each with a deadline, until all are pushed, or the consumer shuts the ring down."""
    cdef Reading[BATCH] batch
    cdef uint64_t size, done
    self.outcome = Outcome.DONE
    while self.outcome == Outcome.DONE and self.pushed < self.count:
        size = min(<uint64_t> BATCH, self.count - self.pushed)
        read_sensor(batch, size, self.pushed)
        self.outcome = (<RingBuffer> self.ring).push_many(batch, size, deadline_after(self.patience), &done)
        self.pushed += done
    (<RingBuffer> self.ring).shut_down(False)  # what is there can still be taken


cdef void read_sensor(Reading* batch, uint64_t size, uint64_t first) noexcept nogil:
    """Here would be your device."""
    cdef uint64_t i
    for i in range(size):
        batch[i].timestamp = <double> (first + i) * 1e-6
        batch[i].sensor_id = 7
        batch[i].channel = batch[i].flags = 0
        batch[i].value = <double> (first + i)


@cython.no_gc_clear  # until __dealloc__ has run, the thread uses the ring
cdef class Source:
    """Source(ring, count, patience=10.0): pushes `count` readings of values 0, 1, 2, ..., and shuts the ring down.

    It stops early where the ring is shut down, or has no room for `patience` seconds.
    """
    cdef RingBuffer ring
    cdef Producer producer
    cdef thread worker

    def __init__(self, RingBuffer ring not None, uint64_t count, double patience=10.0):
        cdef thread started
        if ring.dtype != f1buf.READING or ring.itemsize != sizeof(Reading):
            raise TypeError(f"the ring is of {ring.dtype}; expected f1buf.READING")
        if self.worker.joinable():
            raise RuntimeError("this source runs already")
        self.ring = ring
        self.producer = Producer(<void*> ring, count, patience, 0, Outcome.DONE)
        started = thread(produce, &self.producer)
        self.worker.swap(started)

    def join(self):
        """Wait for the end of the thread; returns how many readings the ring took, and why no more."""
        with nogil:  # this thread never needs the GIL, but the one that makes room for it does
            if self.worker.joinable():
                self.worker.join()
        return self.producer.pushed, self.producer.outcome

    def __dealloc__(self):
        if self.worker.joinable():  # its memory goes: end it
            self.ring.shut_down(True)
            self.worker.join()
