// What is asked of the interpreter by more than one module.

#pragma once

#include <Python.h>

namespace f1buf {

// Whether the interpreter ends: no thread but the caller runs Python any more. Daemon threads that come back to it sleep
// for ever (before Python 3.14 they end, their stack unwound), whatever they hold.
inline bool is_ending() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}

}  // namespace f1buf
