// What is asked of the interpreter by more than one module.

#pragma once

#include <Python.h>

namespace f1buf {

#ifdef Py_GIL_DISABLED
constexpr bool NO_GIL = true;
#else
constexpr bool NO_GIL = false;
#endif

// Whether the interpreter ends: no thread but the caller runs Python any more. Daemon threads that come back to it sleep
// for ever (before Python 3.14 they end, their stack unwound), whatever they hold.
inline bool is_ending() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}

// A number that the interpreter gives a class at its first use, and takes away where somebody changes the class or one
// of its bases: no two classes have the same one, nor has one class before and after a change. 0: none at the moment.
inline unsigned int version_of(PyObject* object) noexcept {
  return __atomic_load_n(&Py_TYPE(object)->tp_version_tag, __ATOMIC_RELAXED);
}

}  // namespace f1buf
