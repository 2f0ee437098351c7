// The data of the lock and wait protocol, and the few things that Cython cannot say.
// The functions on it, and the reasoning, are in sync.pxd and core/sync.pyx.

#pragma once

#include <Python.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "core/interpreter.hpp"

#ifndef F1BUF_DEBUG
#define F1BUF_DEBUG 0
#endif

namespace f1buf {

// How much may be done on a side, in operations and kilobytes copied, before one of the woken threads is back. With a
// GIL no thread goes on for long. Without, 50 threads that put or get 20 KB each, for five seconds: the most that one did is
// 4 to 5 times the least without a limit, 1.2 to 1.5 times with this one; 64 is fairer still, but 256 x 24 bytes put and
// got by many threads then are 10 % slower.
#ifdef Py_GIL_DISABLED
constexpr std::int32_t MOST_OVERTAKES = 256;
#else
constexpr std::int32_t MOST_OVERTAKES = 0;  // no limit
#endif

// A deadline that never comes. Timeouts that reach past it saturate here: 292 years of monotonic clock.
constexpr std::int64_t FOREVER = INT64_MAX;

inline std::int64_t now_ns() noexcept {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

// The processor that runs the caller, or -1 where the platform does not tell (then nobody spins).
inline int current_cpu() noexcept {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

inline void spin_pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One waiter, one waker, one token: a wake-up that comes before the wait is kept.
#if defined(__linux__) && defined(__LP64__)
// A word that the kernel can wait for: one system call to sleep, one to wake a sleeper, none where nobody sleeps. (With
// a mutex and a condition variable, as below, a round trip on one processor took 5 % longer.) The three states are those
// of Rust's `std::thread::park`.
class Parker {
 public:
  // Sleeps until the token is there, and takes it; false where the deadline came first. (Where the kernel forbade the
  // call, this would burn a processor; but there glibc's own mutexes end the process.)
  bool park(std::int64_t deadline_ns) noexcept {
    if (state_.exchange(PARKED, std::memory_order_acquire) == TOKEN) {
      state_.store(EMPTY, std::memory_order_relaxed);
      return true;
    }
    const timespec until{deadline_ns / 1'000'000'000, deadline_ns % 1'000'000'000};
    const timespec *const limit = deadline_ns == FOREVER ? nullptr : &until;
    while (state_.load(std::memory_order_relaxed) == PARKED) {  // it may wake up for nothing, and for signals
      if (limit != nullptr && now_ns() >= deadline_ns) break;
      syscall(SYS_futex, &state_, FUTEX_WAIT_BITSET_PRIVATE, PARKED, limit, nullptr, FUTEX_BITSET_MATCH_ANY);
    }
    return state_.exchange(EMPTY, std::memory_order_acquire) == TOKEN;
  }

  // The sleeper may have had its token, and be gone, before the kernel is called; its parker is not (see WaiterPool),
  // and the thread that sleeps on it next looks for the token again.
  void unpark() noexcept {
    if (state_.exchange(TOKEN, std::memory_order_release) == PARKED) {
      syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
  }

 private:
  static constexpr int EMPTY = 0, TOKEN = 1, PARKED = 2;
  std::atomic<int> state_{EMPTY};
};
static_assert(sizeof(std::atomic<int>) == 4, "the kernel waits for a word of 32 bits");
#else
// (glibc before 2.41 can lose a wake-up where several waiters share a condition variable, bug 25847; here none do.)
class Parker {
 public:
  // Sleeps until the token is there, and takes it; false where the deadline came first.
  bool park(std::int64_t deadline_ns) noexcept {
    std::unique_lock<std::mutex> held(mutex_);
    while (!token_) {
      if (deadline_ns == FOREVER) {
        changed_.wait(held);
        continue;
      }
      const std::int64_t now = now_ns();
      if (now >= deadline_ns) return false;
      const std::chrono::nanoseconds until(deadline_ns - now > MOST_NS ? now + MOST_NS : deadline_ns);
      changed_.wait_until(held, std::chrono::steady_clock::time_point(until));
    }
    token_ = false;
    return true;
  }

  // Notifies after the unlock: on one processor a sleeper that is notified before would wake up only to wait for the
  // mutex, two context switches more. By then the sleeper may have had its token and be gone; its parker is not
  // (see WaiterPool), and the thread that sleeps on it next looks for the token again.
  void unpark() noexcept {
    {
      std::lock_guard<std::mutex> held(mutex_);
      token_ = true;
    }
    changed_.notify_one();
  }

 private:
  // It sleeps for so long at once: where seconds have 32 bits, a time beyond 2**31 s would be one that has passed.
  static constexpr std::int64_t MOST_NS = 86'400'000'000'000;  // a day

  std::mutex mutex_;
  std::condition_variable changed_;
  bool token_ = false;
};
#endif

struct Waiter;

// How threads wake an event loop: by a list of the waiters that were woken, and a file that the loop polls.
struct Bell {
  std::mutex mutex;                     // guards what follows; no other lock is taken under it
  Waiter *woken = nullptr;              // linked by `next`, the last one first
  bool dead = false;                    // its loop is closed: nobody will look any more
  int file = -1;                        // an eventfd
  std::atomic<long> references{1};      // the loop's, and one for each waiter
};

// One that waits, a thread or a coroutine. On the heap: a daemon thread that Python ends while it re-takes the GIL never unwinds.
struct Waiter {
  Waiter *prev = nullptr;               // neighbours while it is queued; `next` also chains those to be woken
  Waiter *next = nullptr;
  std::uint64_t ticket = 0;             // its place in the line: given at the first wait for something, kept until that comes
  std::uint64_t need = 0;               // records (get) or slots (put) it waits for; 0: only for its side's turn
  bool queued = false;                  // is in the list
  bool gives_up = false;                // it waits for the end of a copy, but not for that of a reservation
  bool granted = false;                 // was unlinked and promised `need`; a wake-up is on its way or has come
  void (*wake)(void *) = nullptr;      // how it is woken: called once a grant, without any lock, with or without the GIL
  void *wake_arg = nullptr;
  Parker parker;                        // what `wake` unparks where the waiter is a thread
  Bell *bell = nullptr;                 // what `wake` rings where it is a coroutine; a reference
  void *coroutine = nullptr;            // its LoopWait; NULL: that is gone, and the wake-up frees the node
  bool rung = false;                    // the loop has seen its wake-up; both under the bell's mutex
};

// Waiters of one side, first come first served. All of it under the monitor's lock.
struct WaitList {
  Waiter *head = nullptr;
  Waiter *tail = nullptr;
  std::uint64_t next_ticket = 1;
  std::uint64_t promised = 0;           // sum of the needs of granted waiters that have not come back to the lock yet
  std::uint32_t granted = 0;            // how many these are
  std::uint32_t woken = 0;              // the threads among these, but for those that are away by `hold`: soon back
  std::atomic<std::int32_t> overtakes{0};  // what has been done here since the last of the woken came back
};

// States of a side's turn.
constexpr int FREE = 0;
constexpr int COPYING = 1;   // for the length of a copy: everybody waits for its end
constexpr int RESERVED = 2;  // a block is out, for as long as its owner likes: a caller that must not wait gives up

// One of the sides that wait: puts, gets, or a Queue's joins. Atomics are written under the lock and also read outside it, by spinners.
struct Side {
  WaitList waiters;
  std::atomic<int> turn{FREE};          // whether somebody works on this side's slots outside the lock
  std::atomic<int> cpu{-1};             // where this side last ran
  std::uint64_t owner = 0;              // RESERVED: the thread that entered the block, see `this_thread`
  std::uint64_t waits = 0;              // operations that had to wait (spinning counts)
  std::int64_t wait_ns = 0;             // how long, in all
};

// States of a monitor, each harder than the one before. A ring never goes back; a Queue that is PLAIN may be opened again.
constexpr int OPEN = 0;
constexpr int SHUT = 1;      // nothing enters any more, what is there can be taken
constexpr int SHUT_NOW = 2;  // what is there is discarded, too
constexpr int TORN = 3;      // a fork cut a copy in two: what is there is not to be trusted
constexpr int ENDED = 4;     // a Queue has become CLASSIC: nobody waits here any more, not for its tasks either

// A Queue's lock: the GIL where there is one, else a PyMutex. Attached threads hold it, for a few instructions in which
// nothing of Python runs. A thread that must wait for a PyMutex detaches, so it stops nobody who wants to stop the world:
// the collector, or os.fork. That finds nobody between lock and unlock. But a PyMutex may have been handed to a waiter that
// is still detached, and that will not be there to unlock it: in the child of a fork (hence `renew`), or at the
// interpreter's end.
class SlotLock {
 public:
#ifdef Py_GIL_DISABLED
  void lock() {  // not noexcept: before Python 3.14 a daemon thread that waits here at the end is unwound
    if (is_ending()) renew();
    PyMutex_Lock(&mutex_);
  }
  void unlock() noexcept { PyMutex_Unlock(&mutex_); }
  void renew() noexcept { mutex_ = {0}; }

 private:
  PyMutex mutex_ = {0};
#else
  void lock() noexcept {}
  void unlock() noexcept {}
  void renew() noexcept {}
#endif
};

// A bounded count, and the sides that wait for it: everything of a buffer but its storage.
//
// Its lock is the parameter of the protocol: a mutex, for threads that run without the GIL (or a GIL that they give up
// where the mutex is busy); or, where `attached`, the slot lock, for threads that have the GIL, and give it up to sleep.
struct Monitor {
  // All that a Queue's fast paths write lies together, so that few cache lines go from processor to processor. With
  // `lock` between the first two, an item took 87 ns in place of 70, with two threads and without the GIL.
  SlotLock slot_lock;                   // in place of `lock` where `attached`
  bool attached = false;
  std::atomic<std::uint64_t> count{0};  // records or items that can be taken
  std::int64_t unfinished = 0;          // a Queue's items put less `task_done` called; a program may set it below 0
  std::uint64_t capacity = 0;           // a Queue's maxsize may be lowered below the count
  std::mutex lock;
  Side puts;
  Side gets;
  Side joins;                           // threads and coroutines that wait for a Queue's tasks to be done
  std::atomic<int> shut{OPEN};
  int step = 0;                         // debug: what the section that holds the lock began with, see `begins`
  void (*settled)(void *) = nullptr;    // called under the lock, after each SETTLE: a Queue sets its fast paths anew
  void *settled_arg = nullptr;
  Monitor *fork_prev = nullptr;         // neighbours in the list that the fork handlers walk
  Monitor *fork_next = nullptr;
};

inline void lock(Monitor *m) {
  if (m->attached) {
    m->slot_lock.lock();
  } else {
    m->lock.lock();
  }
}

// With the GIL: false where the lock is busy, so that the caller gives the GIL up and waits for it.
inline bool try_lock(Monitor *m) {
  if (!m->attached) return m->lock.try_lock();
  m->slot_lock.lock();
  return true;
}

inline void unlock(Monitor *m) noexcept {
  if (m->attached) {
    m->slot_lock.unlock();
  } else {
    m->lock.unlock();
  }
}

// PARK, without the lock. Not noexcept: before Python 3.14 a daemon thread that comes back for the GIL at the
// interpreter's end is unwound.
inline bool sleep(Monitor *m, Waiter *waiter, std::int64_t deadline_ns) {
  if (!m->attached) return waiter->parker.park(deadline_ns);
  PyThreadState *const state = PyEval_SaveThread();
  const bool woken = waiter->parker.park(deadline_ns);
  PyEval_RestoreThread(state);
  return woken;
}

// SPIN of an `attached` monitor, without the lock: until the count changes, or a shutdown. Detached, so that the
// collector and os.fork, which stop the world, need not wait for it.
inline void spin_detached(Monitor *m, std::uint64_t count, std::int64_t until_ns) {
  PyThreadState *const state = PyEval_SaveThread();
  while (m->count.load(std::memory_order_relaxed) == count && m->shut.load(std::memory_order_relaxed) == OPEN) {
    for (int i = 0; i < 16; ++i) spin_pause();
    if (now_ns() >= until_ns) break;
  }
  // Where the other side goes on, let it get ahead, for some 10 us at most: item by item, each side would wait for the
  // other's cache lines. (With two threads and a bound of 1,024 an item then took 209 ns, in place of 100.)
  for (int times = 0; times < 64 && m->count.load(std::memory_order_relaxed) != count; ++times) {
    count = m->count.load(std::memory_order_relaxed);
    for (int i = 0; i < 8; ++i) spin_pause();
  }
  PyEval_RestoreThread(state);
}

// Waiters that nobody uses now. They are never freed: a waker may still be about to notify one (see Parker::unpark).
// There are as many as have ever waited at the same time.
class WaiterPool {
 public:
  Waiter *take() noexcept {
    std::lock_guard<std::mutex> held(lock);
    if (fail_in > 0 && --fail_in == 0) {
      return nullptr;
    }
    Waiter *waiter = free_;
    if (waiter == nullptr) {
      return new (std::nothrow) Waiter;
    }
    free_ = waiter->next;
    waiter->next = nullptr;
    return waiter;
  }

  // Its token has been taken, and it is in no list.
  void give_back(Waiter *waiter) noexcept {
    std::lock_guard<std::mutex> held(lock);
    waiter->ticket = 0;
    waiter->next = free_;
    free_ = waiter;
  }

  // In the child of a fork: a waker that was about to notify one of them has left it in an unknown state.
  void forget() noexcept { free_ = nullptr; }

  std::mutex lock;  // the fork handlers take it, too
  int fail_in = 0;  // for tests: with the how many-th node from now on memory is short; 0: with none

 private:
  Waiter *free_ = nullptr;
};

inline int install_fork_handlers(void (*prepare)(), void (*parent)(), void (*child)()) noexcept {
  return pthread_atfork(prepare, parent, child);
}

// An invariant of a debug build does not hold: nothing that runs on could be believed.
inline void broken_invariant(const char *what) noexcept {
  std::fprintf(stderr, "f1buf: broken invariant: %s\n", what);
  std::abort();
}

}  // namespace f1buf
