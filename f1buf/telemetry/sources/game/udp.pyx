# distutils: language = c++
"""Datagrams from a UDP socket into a ring, by a thread that needs no GIL while it receives.

    game -> the kernel's buffer of the socket -> `Receiver.run`, one thread -> ring of SLOT -> the decoder's thread
                                                                           \\-> each destination, unchanged

Invariants:

U1  Every datagram that was received was handed to each destination, or counted as failed there, before it was pushed.
U2  Datagrams enter the ring in the order in which they were received; a slot's `size` is the true one, its payload
    the first bytes, and what is behind those is left over from others.
U3  For each destination, forwarded + failed is the number of datagrams received, but for the batch in hand.

Locks: none. `batch` and what `receive` writes belong to the thread in `run` alone. What other threads may read or write
meanwhile is atomic: the counters, of which that thread is the only writer, and `stop_ns`. Each stands for itself, so
`relaxed` will do; the datagrams pass through the ring. The sockets belong to their owner, and stay open until `run` has
returned.

Why nothing is lost between the socket and the decoder: what `recvmmsg` has returned is pushed, and a push waits for
room as long as it takes. So when decoding stalls, first the ring fills, then the kernel's buffer, and only the kernel
ever drops, and it counts. Python cannot stall the thread: from its start to its end it runs without the GIL, and uses
the ring's C calls.

How it ends: `stop` notes the Unix time. The thread looks 20 times a second, and after each batch. It then takes what is
in the kernel's buffer without waiting, until nothing is left or what it took has arrived after that time; and shuts the
ring down, which the decoder still drains. So a flood cannot hold it, and what had arrived is not lost. If the ring is
shut down first, nobody is left to decode, and the thread ends at once.

On Linux a system call takes several datagrams, and the kernel says when each has arrived. Elsewhere it takes one.
"""

import os

cimport cython

import numpy as np

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.atomic cimport atomic, memory_order_relaxed

from f1buf cimport FOREVER, Outcome, RingBuffer, now_ns

__all__ = ["SLOT", "Receiver"]

cdef extern from *:
    """
    #include <cerrno>
    #include <cstdint>
    #include <cstring>
    #include <ctime>
    #include <new>
    #include <poll.h>
    #include <sys/socket.h>
    #include <sys/uio.h>

    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    namespace f1buf {

    constexpr int MOST = 64;                // datagrams at once
    constexpr std::size_t LARGEST = 65536;  // [bytes] no datagram is longer
    constexpr std::size_t PAYLOAD = 2048;   // [bytes] kept of a datagram

    struct Slot {
      double time;         // [s] Unix time of arrival
      std::uint32_t size;  // [bytes] of the datagram
      unsigned char payload[PAYLOAD];
    };

    struct Batch {
      unsigned char data[MOST][LARGEST];
      std::uint32_t size[MOST];
      std::int64_t time_ns[MOST];  // Unix time of arrival
      Slot slots[MOST];
    };

    struct Destination {
      int file = -1;
      std::atomic<std::uint64_t> forwarded{0}, failed{0};
    };

    inline Destination *new_destinations(std::size_t n) noexcept { return new (std::nothrow) Destination[n]; }

    inline std::int64_t unix_ns() noexcept {
      timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
    }

    inline void wait_readable(int file, int milliseconds) noexcept {
      pollfd watched{file, POLLIN, 0};
      poll(&watched, 1, milliseconds);  // the caller looks why it has returned
    }

    // `receive` returns the number of datagrams, 0 if there are none now; or -errno.
    inline int failed_with(int error) noexcept {
      return error == EAGAIN || error == EWOULDBLOCK || error == EINTR ? 0 : -error;
    }

    #if defined(__linux__)
    inline void ask_for_times(int file) noexcept {  // if it is refused, the time is that of `receive`
      const int on = 1;
      setsockopt(file, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    }

    inline int receive(int file, Batch &batch) noexcept {
      constexpr std::size_t ROOM = CMSG_SPACE(sizeof(timespec));
      alignas(cmsghdr) char control[MOST][ROOM];
      iovec pieces[MOST];
      mmsghdr messages[MOST] = {};
      for (int i = 0; i < MOST; ++i) {
        pieces[i] = {batch.data[i], LARGEST};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_control = control[i];
        messages[i].msg_hdr.msg_controllen = ROOM;
      }
      const int count = recvmmsg(file, messages, MOST, MSG_DONTWAIT, nullptr);
      if (count < 0) return failed_with(errno);
      const std::int64_t now = unix_ns();
      for (int i = 0; i < count; ++i) {
        batch.size[i] = messages[i].msg_len;
        batch.time_ns[i] = now;
        const cmsghdr *head = CMSG_FIRSTHDR(&messages[i].msg_hdr);
        if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_TIMESTAMPNS) {
          timespec time;
          std::memcpy(&time, CMSG_DATA(head), sizeof time);
          batch.time_ns[i] = time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
        }
      }
      return count;
    }
    #else
    inline void ask_for_times(int) noexcept {}

    inline int receive(int file, Batch &batch) noexcept {
      int count = 0;
      const std::int64_t now = unix_ns();
      for (; count < MOST; ++count) {
        const ssize_t size = recv(file, batch.data[count], LARGEST, MSG_DONTWAIT);
        if (size < 0) return count ? count : failed_with(errno);  // an error that stays comes again
        batch.size[count] = static_cast<std::uint32_t>(size);
        batch.time_ns[count] = now;
      }
      return count;
    }
    #endif

    // A connected socket fails because of an earlier datagram: nobody listens there, or a firewall refuses it. Then it
    // has not sent this one.
    inline void forward(Destination &to, const void *data, std::size_t size) noexcept {
      constexpr auto relaxed = std::memory_order_relaxed;
      ssize_t sent = send(to.file, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && (errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == ENETUNREACH)) {
        if (to.forwarded.load(relaxed)) {
          to.forwarded.fetch_sub(1, relaxed);
          to.failed.fetch_add(1, relaxed);
        }
        sent = send(to.file, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      }
      (sent < 0 ? to.failed : to.forwarded).fetch_add(1, relaxed);
    }

    }  // namespace f1buf
    """
    const size_t PAYLOAD "f1buf::PAYLOAD"

    cppclass Slot "f1buf::Slot":
        double time
        uint32_t size
        unsigned char* payload

    cppclass Batch "f1buf::Batch":
        unsigned char** data
        uint32_t* size
        int64_t* time_ns
        Slot* slots

    cppclass Destination "f1buf::Destination":
        int file
        atomic[uint64_t] forwarded
        atomic[uint64_t] failed

    Batch* new_batch "new (std::nothrow) f1buf::Batch"() noexcept nogil
    Destination* new_destinations "f1buf::new_destinations"(size_t) noexcept nogil
    void delete_destinations "delete[] "(Destination*) noexcept nogil
    int64_t unix_ns "f1buf::unix_ns"() noexcept nogil
    void wait_readable "f1buf::wait_readable"(int, int) noexcept nogil
    void ask_for_times "f1buf::ask_for_times"(int) noexcept nogil
    int receive "f1buf::receive"(int, Batch&) noexcept nogil
    void forward "f1buf::forward"(Destination&, const void*, size_t) noexcept nogil

SLOT = np.dtype([("time", "f8"), ("size", "u4"), ("payload", "u1", PAYLOAD)], align=True)

cdef enum:
    LOOK_MS = 50         # how often the thread looks whether to stop, when nothing comes
    MOST_LEFT = 1 << 17  # datagrams taken after `stop`: more than fit into a kernel's buffer of 64 MiB


@cython.final
cdef class Receiver:
    # The first line is what inspect.signature reads.
    """Receiver(file, forward)\n--\n
    Takes datagrams from a UDP socket, passes them on, and puts them into a ring; see the head of the module.

    Parameters
    ----------
    file : int
        Descriptor of the socket, bound.
    forward : sequence of int
        Descriptors of UDP sockets, each connected to a destination.

    Notes
    -----
    Any thread may call anything, but only one at a time `run`. The caller closes the sockets, after `run` has returned.
    """
    cdef int file
    cdef uint64_t count                 # of the destinations
    cdef Destination* destinations      # NULL until __cinit__ has run
    cdef Batch* batch                   # NULL when nothing runs
    cdef atomic[int64_t] stop_ns        # [ns] Unix time of `stop`; 0: go on
    cdef atomic[int64_t] heard_ns       # [ns] monotonic time of the latest datagram; 0: none yet
    cdef atomic[uint64_t] received

    def __cinit__(self, int file, forward):
        self.file = file
        forward = tuple(forward)
        self.stop_ns.store(0, memory_order_relaxed)
        self.heard_ns.store(0, memory_order_relaxed)
        self.received.store(0, memory_order_relaxed)
        self.destinations = new_destinations(len(forward))
        if self.destinations == NULL:
            raise MemoryError()
        self.count = len(forward)
        for i, each in enumerate(forward):
            self.destinations[i].file = each
        ask_for_times(file)

    def __dealloc__(self):
        delete_destinations(self.destinations)

    def begin(self):
        """Let the next `run` go on until `stop` is called again."""
        self.stop_ns.store(0, memory_order_relaxed)

    def run(self, RingBuffer ring not None):
        """Receive until `stop` is called or the ring is shut down; at the end it is shut down in any case.

        Parameters
        ----------
        ring : RingBuffer
            Of `SLOT`, one slot a datagram: Unix time of arrival [s], size [bytes], and its first 2,048 bytes.

        Raises
        ------
        OSError
            The socket has failed.
        """
        cdef int error
        try:
            if ring.dtype != SLOT or ring.itemsize != sizeof(Slot):
                raise TypeError(f"the ring is of {ring.dtype}; expected SLOT")
            if self.batch != NULL:
                raise RuntimeError("this receiver runs already")
            self.batch = new_batch()
            if self.batch == NULL:
                raise MemoryError()
            with nogil:
                error = self.receive_all(ring)
            del self.batch
            self.batch = NULL
        finally:
            ring.shutdown()  # or its other side would wait for ever
        if error:
            raise OSError(error, os.strerror(error))

    def stop(self):
        """Let `run` take what has arrived by now, and end; return at once. Only the first call counts."""
        cdef int64_t never = 0
        self.stop_ns.compare_exchange_strong(never, unix_ns(), memory_order_relaxed, memory_order_relaxed)

    @property
    def datagrams(self):
        """How many datagrams have been received."""
        return self.received.load(memory_order_relaxed)

    @property
    def last_heard(self):
        """When the latest datagram was received, on the clock of time.monotonic() [s]; None before the first."""
        cdef int64_t ns = self.heard_ns.load(memory_order_relaxed)
        return ns * 1e-9 if ns else None

    def forwarded(self):
        """Return for each destination how many datagrams were forwarded, and how many could not be."""
        counts = []  # appended to: Cython 3.3 drops an element twice where a comprehension's list cannot grow
        for i in range(self.count):
            counts.append((
                self.destinations[i].forwarded.load(memory_order_relaxed),
                self.destinations[i].failed.load(memory_order_relaxed),
            ))
        return counts

    cdef int receive_all(self, RingBuffer ring) noexcept nogil:
        """Receive until the end; return the errno of a failure, 0 for none."""
        cdef int64_t stop_ns
        cdef uint64_t done, left = MOST_LEFT
        cdef int n
        cdef Outcome outcome
        while True:
            stop_ns = self.stop_ns.load(memory_order_relaxed)
            if stop_ns == 0:
                wait_readable(self.file, LOOK_MS)
            n = receive(self.file, self.batch[0])
            if n < 0:
                return -n
            if n > 0:
                self.heard_ns.store(now_ns(), memory_order_relaxed)
                self.received.fetch_add(n, memory_order_relaxed)
                self.pass_on(n)
                outcome = ring.push_many(self.fill_slots(n), n, FOREVER, &done)
                if outcome != Outcome.DONE:
                    return 0 if outcome == Outcome.SHUT_DOWN else ENOMEM
            if stop_ns != 0:
                if n == 0 or self.batch.time_ns[n - 1] > stop_ns or left < <uint64_t> n:
                    return 0
                left -= n

    cdef void pass_on(self, int n) noexcept nogil:
        cdef int i
        cdef uint64_t k
        for k in range(self.count):
            for i in range(n):
                forward(self.destinations[k], self.batch.data[i], self.batch.size[i])

    cdef Slot* fill_slots(self, int n) noexcept nogil:
        cdef int i
        cdef Slot* slot
        for i in range(n):
            slot = &self.batch.slots[i]
            slot.time = self.batch.time_ns[i] * 1e-9
            slot.size = self.batch.size[i]
            memcpy(slot.payload, self.batch.data[i], min(<size_t> slot.size, PAYLOAD))
        return self.batch.slots
