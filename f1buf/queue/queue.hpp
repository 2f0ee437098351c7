// The lock of a Queue's slots: the GIL where there is one, else a PyMutex. And which version of its class an object has.

#pragma once

#include <Python.h>

#include "core/interpreter.hpp"

namespace f1buf {

#ifdef Py_GIL_DISABLED
const bool NO_GIL = true;
#else
const bool NO_GIL = false;
#endif

// Held by attached threads only, for a few instructions in which nothing of Python runs. A thread that must wait for
// a PyMutex detaches, so that it stops nobody who wants to stop the world: the collector, or os.fork. That finds
// nobody between lock and unlock; but a PyMutex may have been handed to a waiter that is still detached, who will not
// be there to unlock it: in the child (hence `renew`), or at the interpreter's end.
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

// A number that the interpreter gives a class at its first use, and takes away where somebody changes the class or one
// of its bases: no two classes have the same one, nor has one class before and after a change. 0: none at the moment.
inline unsigned int version_of(PyObject* object) noexcept {
  return __atomic_load_n(&Py_TYPE(object)->tp_version_tag, __ATOMIC_RELAXED);
}

}  // namespace f1buf
