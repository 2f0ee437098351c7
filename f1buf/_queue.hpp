// The lock of a Queue's slots: the GIL where there is one, else a PyMutex.

#pragma once

#include <Python.h>

namespace f1buf {

// Held by attached threads only, for a few instructions in which nothing of Python runs. A thread that must wait for
// a PyMutex detaches, so that it stops nobody who wants to stop the world: the collector, or os.fork, which hence finds every slot lock free.
class SlotLock {
 public:
#ifdef Py_GIL_DISABLED
  void lock() noexcept { PyMutex_Lock(&mutex_); }
  void unlock() noexcept { PyMutex_Unlock(&mutex_); }

 private:
  PyMutex mutex_ = {0};
#else
  void lock() noexcept {}
  void unlock() noexcept {}
#endif
};

}  // namespace f1buf
