// The memory that the processes of a `SharedRingBuffer` share, and what the kernel does for it. The protocol is in shared.pyx.
//
// A segment is a file of /dev/shm: HEADER bytes as below, then the slots. It holds numbers alone: no pointer, and no lock
// of the C library's, whose own pointers a stray write would turn into writes to anywhere. So processes of 32 and 64 bits,
// and of different C libraries, read the same, whatever stands there.

#pragma once

#include <cstddef>
#include <cstdint>
#include <errno.h>
#include <fcntl.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "core/sync.hpp"

namespace f1buf {

using Word = std::atomic<std::uint32_t>;
using Number = std::atomic<std::uint64_t>;
static_assert(sizeof(Word) == 4 && sizeof(Number) == 8 && Number::is_always_lock_free, "the layout is one of plain words");

constexpr std::size_t HEADER = 8192;        // [bytes] before the slots
constexpr std::size_t TEXT = 4096;          // [bytes] where the text that describes the dtype begins; it ends before HEADER
constexpr std::size_t PLACES_AT = 1024;     // [bytes] where the table begins
constexpr int PLACES = 192;                 // processes that may be attached at a time
constexpr std::uint64_t NOBODY = UINT64_MAX;

// How a side publishes its `seq` before it unlocks and looks who sleeps. The store must come before that look in what all
// see. On x86 the exchange that unlocks sees to it, whatever the store, and a second locked instruction would cost a put
// 5 ns of 55. Elsewhere only a store in the one order of all does; on ARM that is no dearer than one that releases.
#if defined(__x86_64__) || defined(__i386__)
constexpr std::memory_order PUBLISH = std::memory_order_release;
#else
constexpr std::memory_order PUBLISH = std::memory_order_seq_cst;
#endif

// What a process has done: whether others may count on it.
constexpr std::uint32_t NO_ROLE = 0;
constexpr std::uint32_t PUTS = 1;
constexpr std::uint32_t GETS = 2;

// One of the two sides, puts or gets. The three parts lie in lines of their own: what the side writes for itself, what it
// tells the other side, and what those that sleep on it tell the other side. (128 bytes: processors fetch lines in pairs.)
struct SharedSide {
  alignas(128) Word lock;                   // the id of the attachment whose thread has it, and CONTENDED; or 0
  Word waiting;                             // how many sleep for the lock, those that died asleep too: a hint
  Word turn;                                // the id of the attachment that has a block of this side out; or 0
  Number owner;                             // and its thread, see `this_thread`
  Number seen;                              // the other side's `seq` when a thread of this side last looked
  Number lost;                              // gets: records evicted (drop_oldest)
  Number discarded;                         // gets: records thrown away by an immediate shutdown
  Number intent[3];                         // gets: what `seq`, `lost` and `discarded` are to be; see `give_up_oldest`
  Number intends;                           // whether that counts
  Number waits;                             // operations of this side that had to wait
  Number wait_ns;                           // how long, in all
  Number high_water;                        // puts: the largest count so far

  alignas(128) Number seq;                  // records that have entered (puts) or left (gets)
  std::atomic<std::int32_t> cpu;            // where this side last ran

  alignas(128) Number wake_at;              // from which `seq` of the other side on sleepers are to be woken; NOBODY: never
  Word wakes;                               // on which they sleep: counts wake-ups by 2; + 1: see `wakes_before`
  Word sleepers;                            // how many there are, those that died asleep too
};
static_assert(sizeof(SharedSide) == 384, "the layout is the same everywhere");

// Who is there: attachment i has a lock on byte i of the file, which the kernel drops when its process dies.
struct Place {
  Word generation;                          // how often the place has been taken: part of the attachment's id
  Word process;                             // its id; 0: nobody
  Word roles;                               // PUTS, GETS
  Word unused;
};

// What its first fields must say is checked, and written, in segments.py.
struct Segment {
  char magic[8];
  std::uint32_t layout;
  std::uint32_t byte_order;
  std::uint64_t size;                       // [bytes] of the file
  std::uint64_t capacity;
  std::uint64_t itemsize;
  std::uint32_t overflow;
  std::uint32_t text_size;                  // [bytes] of the dtype's text
  std::uint64_t token[2];                   // this segment's alone, whatever its name
  Word retired;                             // its name has been taken over

  alignas(128) Word shut;                   // OPEN, SHUT or SHUT_NOW
  Word sealed;                              // and no put is going on any more
  Word roles;                               // what anybody has ever done
  Number refused;                           // records dropped before they entered

  SharedSide puts;
  SharedSide gets;
  alignas(128) Place places[PLACES];
};
static_assert(offsetof(Segment, puts) == 256 && offsetof(Segment, places) == PLACES_AT, "the layout is the same everywhere");
static_assert(sizeof(Segment) <= TEXT, "the header has room for it");

// An attachment's id: place + 1 in 8 bits, generation in 23, and a bit that is free for CONTENDED. Never 0.
constexpr std::uint32_t CONTENDED = 1;
constexpr std::uint32_t GENERATIONS = (1u << 23) - 1;
inline std::uint32_t id_of(int place, std::uint32_t generation) noexcept {
  return (generation & GENERATIONS) << 9 | static_cast<std::uint32_t>(place + 1) << 1;
}
inline int place_of(std::uint32_t id) noexcept { return static_cast<int>(id >> 1 & 0xff) - 1; }
inline std::uint32_t generation_of(std::uint32_t id) noexcept { return id >> 9; }

#if defined(__linux__)

// Sleeps while `word` is `value`, until the deadline on the monotonic clock. It may wake up for nothing. Whether a signal has
// ended it. (By number: where time has 32 bits, the call of that name takes other seconds than libc's `timespec` may have.)
inline bool futex_sleep(Word *word, std::uint32_t value, std::int64_t deadline_ns) noexcept {
  struct {
    long seconds, nanoseconds;
  } until{static_cast<long>(deadline_ns / 1'000'000'000), static_cast<long>(deadline_ns % 1'000'000'000)};
  return syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, &until, nullptr, FUTEX_BITSET_MATCH_ANY) < 0 && errno == EINTR;
}

inline void futex_wake(Word *word, int how_many) noexcept {
  syscall(SYS_futex, word, FUTEX_WAKE, how_many, nullptr, nullptr, 0);
}

// Locks on bytes of the file, of an open file description: they belong to whoever has that open, not to a process.
inline int byte_lock(int file, int command, short kind, std::int64_t first, std::int64_t count) noexcept {
  struct flock lock{};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(first);
  lock.l_len = static_cast<off_t>(count);
  const int result = fcntl(file, command, &lock);
  return command == F_OFD_GETLK && result == 0 ? lock.l_type != F_UNLCK : result;
}

// Whether another open file has a lock on bytes; -1: an error.
inline int others_hold(int file, std::int64_t first, std::int64_t count) noexcept {
  return byte_lock(file, F_OFD_GETLK, F_WRLCK, first, count);
}
inline bool take_byte(int file, std::int64_t first) noexcept { return byte_lock(file, F_OFD_SETLK, F_WRLCK, first, 1) == 0; }
inline void drop_byte(int file, std::int64_t first) noexcept { byte_lock(file, F_OFD_SETLK, F_UNLCK, first, 1); }

inline char *map_file(int file, std::size_t size) noexcept {
  void *const start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return start == MAP_FAILED ? nullptr : static_cast<char *>(start);
}
inline void unmap(char *start, std::size_t size) noexcept { munmap(start, size); }
inline void close_file(int file) noexcept { close(file); }
inline std::uint32_t process_id() noexcept { return static_cast<std::uint32_t>(getpid()); }

// The same file, opened anew, so that its locks are others; -1 where that fails. Only calls that a signal handler may make.
inline int opened_anew(int file) noexcept {
  char path[32] = "/proc/self/fd/";
  char digits[12];
  int n = 0, at = 14;
  for (int rest = file; n == 0 || rest != 0; rest /= 10) digits[n++] = static_cast<char>('0' + rest % 10);
  while (n > 0) path[at++] = digits[--n];
  path[at] = '\0';
  return open(path, O_RDWR | O_CLOEXEC);
}

// In the child of a fork: the same behind the same number. False where that fails.
inline bool open_anew(int file) noexcept {
  const int anew = opened_anew(file);
  if (anew < 0) return false;
  const bool moved = dup3(anew, file, O_CLOEXEC) >= 0;
  close(anew);
  return moved;
}

inline void stop_here(int signal) noexcept { kill(getpid(), signal); }
inline void nap() noexcept { usleep(100); }

constexpr bool SHARES = true;

#else  // robust sleeping and locks of open files are Linux's

inline bool futex_sleep(Word *, std::uint32_t, std::int64_t) noexcept { return false; }
inline void futex_wake(Word *, int) noexcept {}
inline int others_hold(int, std::int64_t, std::int64_t) noexcept { return -1; }
inline bool take_byte(int, std::int64_t) noexcept { return false; }
inline void drop_byte(int, std::int64_t) noexcept {}
inline char *map_file(int, std::size_t) noexcept { return nullptr; }
inline void unmap(char *, std::size_t) noexcept {}
inline void close_file(int) noexcept {}
inline std::uint32_t process_id() noexcept { return 0; }
inline int opened_anew(int) noexcept { return -1; }
inline bool open_anew(int) noexcept { return false; }
inline void stop_here(int) noexcept {}
inline void nap() noexcept {}

constexpr bool SHARES = false;

#endif

// The files that are being opened: from `open` on until a place is taken in one (see `take_own_place`), or it is closed. A
// thread of the parent's locks such a file, as a gate (segments.py). The child of a fork has it, too, and knows nothing of
// it: the lock would outlive a parent that is killed. So the child closes them; those of the thread that forked, which goes
// on in the child, are opened anew. All under the registry's lock (shared.pyx), so that no fork comes between the system's
// `open` and the entry.
class Openings {
 public:
  // -1 where that fails; errno says why.
  int open(const char *path, int flags) noexcept {
    const int file = ::open(path, flags | O_CLOEXEC, 0600);
    if (file < 0) return file;
    try {
      list.push_back({file, std::this_thread::get_id()});
    } catch (...) {
      close_file(file);
      errno = ENOMEM;
      return -1;
    }
    return file;
  }
  void forget(int file) noexcept {
    list.erase(std::remove_if(list.begin(), list.end(), [=](const Opening &one) { return one.file == file; }), list.end());
  }
  void pass_to_child() noexcept {
    const std::thread::id me = std::this_thread::get_id();
    for (const Opening &one : list) {
      if (one.by == me) {
        open_anew(one.file);
      } else {
        close_file(one.file);
      }
    }
    list.erase(
      std::remove_if(list.begin(), list.end(), [=](const Opening &one) { return one.by != me; }), list.end()
    );
  }

 private:
  struct Opening {
    int file;
    std::thread::id by;
  };
  std::vector<Opening> list;
};

// A thread that sleeps on a side in place of coroutines, which cannot; see "Coroutines" in shared.pyx.
struct Watcher {
  std::thread *thread = nullptr;            // NULL until a coroutine has had to wait
  Parker parker;                            // on which it sleeps while none waits
  std::atomic<int> stops{0};
  std::uint64_t asleep_for = 0;             // what it waits for in the segment; 0: it does not. Under the monitor's lock
};

template <class Run, class Ring>
inline std::thread *start_watcher(Run run, Ring ring, int is_put) noexcept {
  try {
    return new std::thread(run, ring, is_put);
  } catch (...) {
    return nullptr;
  }
}

inline void join_watcher(std::thread *thread) {
  thread->join();
  delete thread;
}

// One process' use of a segment, by one ring object. `id` is 0, and nothing is to be done, until it is attached.
struct Attachment {
  Segment *segment = nullptr;
  std::size_t size = 0;                     // [bytes] of the mapping
  int file = -1;                            // an open file description of its own, which has the place's lock
  Word id{0};
  Word roles{0};                            // what the segment says that this process has done
  std::atomic<int> closed{1};
  std::atomic<int> locking{0};              // threads that may take a lock without a look at `closed`: see `close`
  Monitor *monitor = nullptr;               // in whose lists the coroutines of this process wait
  Watcher watchers[2];                      // of the gets, of the puts
  Attachment *prev = nullptr;               // neighbours in the list that the fork handlers walk
  Attachment *next = nullptr;
};

// Take a place in the table: the byte's lock first, then a new generation, which ends whatever the place's last owner
// left locked. False where all places are taken.
inline bool take_place(Attachment *here) noexcept {
  for (int i = 0; i < PLACES; ++i) {
    if (!take_byte(here->file, i)) continue;
    Place &place = here->segment->places[i];
    const std::uint32_t generation = place.generation.load() + 1;
    place.roles.store(0);
    place.generation.store(generation);
    place.process.store(process_id());
    here->roles.store(0);
    here->id.store(id_of(i, generation));
    return true;
  }
  return false;
}

// The same, of a file that was opened anew first, behind the same number: what the child of a fork has inherited of the old
// one then has nothing to do with the place. The old one's gate (see segments.py) is opened.
inline bool take_own_place(Attachment *here) noexcept {
#if defined(__linux__)
  const int old = here->file;
  here->file = opened_anew(old);
  const bool taken = here->file >= 0 && take_place(here);
  if (taken) {
    flock(old, LOCK_UN);
    dup3(here->file, old, O_CLOEXEC);
  }
  if (here->file >= 0) close(here->file);
  here->file = old;
  return taken;
#else
  return false;
#endif
}

inline void leave_place(Attachment *here) noexcept {
  const int place = place_of(here->id.load());
  here->segment->places[place].process.store(0);
  drop_byte(here->file, place);
}

}  // namespace f1buf
