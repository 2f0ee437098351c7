# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
# distutils: language = c++
# distutils: extra_compile_args = -O3 -std=c++17
# distutils: extra_link_args = -pthread
# distutils: define_macros = NPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION
"""What the machine itself can do, and the check of what has arrived. Built by `native.py` when it is first needed.

Limits: two memcpys of the same bytes one after the other (a ring cannot copy in and out with less), and round trips
between two C threads, over a condition variable (what waiting costs in the kernel) and over a spinning flag (what one
core needs to see what the other wrote).

The check is in C so that the clock may run meanwhile: it costs some 20 ns a batch. The sequence number of a record is
its `value`, its producer `sensor_id`; both are read at their offsets in READING.
"""

import numpy as np

cimport numpy as cnp
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

cnp.import_array()

cdef enum:
    ITEMSIZE = 24      # of READING, and where in it
    PRODUCER_AT = 8
    NUMBER_AT = 16


cdef inline double number_of(const char* record) noexcept nogil:
    cdef double number
    memcpy(&number, record + NUMBER_AT, sizeof(number))
    return number


cdef inline uint32_t producer_of(const char* record) noexcept nogil:
    cdef uint32_t producer
    memcpy(&producer, record + PRODUCER_AT, sizeof(producer))
    return producer


cdef class Checker:
    """Counts what arrives at one consumer, and the records that are not the ones that should have come.

    ``out`` is the array into which the consumer takes. ``cycle``: one producer numbers its records from 0 to
    cycle - 1, again and again, and this consumer gets all of them. ``marks``: a bytearray of ``share`` for each
    producer, which all consumers have in common; each record sets its own mark, and counts as wrong where it is set
    already, or where its producer's numbers do not rise.
    """

    cdef readonly Py_ssize_t count  # records that arrived
    cdef readonly Py_ssize_t wrong  # of these, or of batches where only the ends are looked at
    cdef cnp.ndarray out
    cdef char* data          # of `out`
    cdef double expected     # the next number
    cdef double cycle
    cdef object kept         # the bytearray
    cdef uint8_t* marks
    cdef Py_ssize_t share
    cdef Py_ssize_t all_marks
    cdef object last         # the last number of each producer, as an array
    cdef double* lasts

    def __init__(self, cnp.ndarray out=None, *, cycle=1, cnp.ndarray marks=None, Py_ssize_t share=1):
        self.out = out
        self.data = cnp.PyArray_BYTES(out) if out is not None else NULL
        self.cycle = cycle
        self.kept, self.share = marks, share
        if marks is not None:
            self.marks, self.all_marks = <uint8_t*> cnp.PyArray_BYTES(marks), marks.size
            self.last = np.full(marks.size // share, -1.0)
            self.lasts = <double*> cnp.PyArray_BYTES(<cnp.ndarray> self.last)

    def ends(self, Py_ssize_t n):
        """The first n records of `out`: look at the first and the last."""
        self.check_ends(self.data, n)
        return n

    def ends_of(self, cnp.ndarray batch not None):
        self.check_ends(cnp.PyArray_BYTES(batch), cnp.PyArray_DIM(batch, 0))

    def ends_in(self, data):
        """The records in a buffer: look at the first and the last; returns how many there are."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef Py_ssize_t n = view.len // ITEMSIZE
        self.check_ends(<const char*> view.buf, n)
        PyBuffer_Release(&view)
        return n

    def every_in(self, data):
        """The same: look at each."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef Py_ssize_t n = view.len // ITEMSIZE
        self.check_every(<const char*> view.buf, n)
        PyBuffer_Release(&view)
        return n

    def every(self, Py_ssize_t n):
        """The first n records of `out`: look at each."""
        self.check_every(self.data, n)
        return n

    def every_of(self, cnp.ndarray batch not None):
        self.check_every(cnp.PyArray_BYTES(batch), cnp.PyArray_DIM(batch, 0))

    def marked(self, Py_ssize_t n):
        """The first n records of `out`, of several producers, for one of several consumers."""
        self.check_marked(self.data, n)
        return n

    def marked_of(self, cnp.ndarray batch not None):
        self.check_marked(cnp.PyArray_BYTES(batch), cnp.PyArray_DIM(batch, 0))

    cdef void check_ends(self, const char* records, Py_ssize_t n) noexcept nogil:
        cdef double end = self.expected + n
        while end > self.cycle:
            end -= self.cycle
        self.wrong += number_of(records) != self.expected
        self.wrong += number_of(records + (n - 1) * ITEMSIZE) != end - 1
        self.expected = 0 if end == self.cycle else end
        self.count += n

    cdef void check_every(self, const char* records, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(n):
            self.wrong += number_of(records + i * ITEMSIZE) != self.expected
            self.expected += 1
            if self.expected == self.cycle:
                self.expected = 0
        self.count += n

    cdef void check_marked(self, const char* records, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i, at
        cdef double number
        cdef uint32_t producer
        for i in range(n):
            number = number_of(records + i * ITEMSIZE)
            producer = producer_of(records + i * ITEMSIZE)
            at = producer * self.share + <Py_ssize_t> number
            if not 0 <= at < self.all_marks or self.marks[at] or number <= self.lasts[producer]:
                self.wrong += 1
                continue
            self.marks[at] = 1
            self.lasts[producer] = number
        self.count += n


def two_memcpys(cnp.ndarray blocks not None, cnp.ndarray slots not None, cnp.ndarray out not None, Py_ssize_t turns):
    """Copy each row of `blocks` into the next part of `slots`, and from there to `out`, `turns` times.

    The working set of a ring, its producer and its consumer, in one thread, without any waiting.
    """
    cdef Py_ssize_t size = cnp.PyArray_DIM(blocks, 1) * ITEMSIZE
    cdef Py_ssize_t rows = cnp.PyArray_DIM(blocks, 0)
    cdef Py_ssize_t parts = cnp.PyArray_DIM(slots, 0) * ITEMSIZE // size
    cdef char* source = cnp.PyArray_BYTES(blocks)
    cdef char* middle = cnp.PyArray_BYTES(slots)
    cdef char* target = cnp.PyArray_BYTES(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(turns):
            memcpy(middle + i % parts * size, source + i % rows * size, size)
            memcpy(target, middle + i % parts * size, size)


cdef extern from *:
    """
    #include <atomic>
    #include <chrono>
    #include <condition_variable>
    #include <mutex>
    #include <thread>
    #include <cstdint>
    #ifdef __linux__
    #include <pthread.h>
    #include <sched.h>
    #endif

    static void limits_pin(int cpu) {
    #ifdef __linux__
        if (cpu < 0) return;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    #else
        (void) cpu;
    #endif
    }

    static int64_t limits_now() {
        using namespace std::chrono;
        return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
    }

    /* Two mailboxes, each a number that its reader waits for; one mutex and condition variable each. */
    struct limits_box {
        std::mutex mutex;
        std::condition_variable changed;
        int64_t number = 0;
        void put(int64_t n) {
            { std::lock_guard<std::mutex> held(mutex); number = n; }
            changed.notify_one();
        }
        void wait(int64_t n) {
            std::unique_lock<std::mutex> held(mutex);
            while (number != n) changed.wait(held);
        }
    };

    struct limits_flag {
        alignas(128) std::atomic<int64_t> number{0};
        void put(int64_t n) { number.store(n, std::memory_order_release); }
        void wait(int64_t n) { while (number.load(std::memory_order_acquire) != n) {} }
    };

    template <class Box>
    static void limits_trips(int64_t* times, int64_t n, int here, int there) {
        Box ping, pong;
        std::thread other([&] {
            limits_pin(there);
            for (int64_t i = 1; i <= n; i++) { ping.wait(i); pong.put(i); }
        });
        std::thread self([&] {
            limits_pin(here);
            for (int64_t i = 1; i <= n; i++) {
                int64_t began = limits_now();
                ping.put(i);
                pong.wait(i);
                times[i - 1] = limits_now() - began;
            }
        });
        self.join();
        other.join();
    }
    static void limits_condition(int64_t* t, int64_t n, int a, int b) { limits_trips<limits_box>(t, n, a, b); }
    static void limits_spin(int64_t* t, int64_t n, int a, int b) { limits_trips<limits_flag>(t, n, a, b); }
    """
    void limits_condition(int64_t*, int64_t, int, int) noexcept nogil
    void limits_spin(int64_t*, int64_t, int, int) noexcept nogil


def c_round_trips(bint spin, cnp.ndarray times not None, int here, int there):
    """Fill `times` (int64) with the nanoseconds of each round trip between two C threads on these CPUs."""
    cdef int64_t* data = <int64_t*> cnp.PyArray_BYTES(times)
    cdef int64_t n = times.size
    with nogil:
        if spin:
            limits_spin(data, n, here, there)
        else:
            limits_condition(data, n, here, there)
