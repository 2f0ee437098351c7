// Ints whose value is known only when nothing may fail any more: made before that, given their value after.

#pragma once

#include <Python.h>

#include <cstdint>

namespace f1buf {

constexpr std::uint64_t READY_MADE = 256;  // the interpreter keeps all ints up to here: getting one cannot fail

// An int that can become any number up to `most`; None where the interpreter has all of these ready-made.
inline PyObject *blank_int(std::uint64_t most) noexcept {
  if (most <= READY_MADE) {
    Py_INCREF(Py_None);
    return Py_None;
  }
  return PyLong_FromUnsignedLongLong(most | std::uint64_t{1} << PyLong_SHIFT);  // two digits: never a ready-made one
}

// `blank`, which nobody has seen yet, as the number `value`. With fewer digits than it has room for, if need be, as
// the interpreter's own arithmetic leaves them.
inline PyObject *filled_int(PyObject *blank, std::uint64_t value) noexcept {
  if (value <= READY_MADE) {
    return PyLong_FromUnsignedLongLong(value);
  }
  auto *number = reinterpret_cast<PyLongObject *>(blank);
#if PY_VERSION_HEX >= 0x030C0000
  digit *digits = number->long_value.ob_digit;
#else
  digit *digits = number->ob_digit;
#endif
  Py_ssize_t size = 0;
  for (; value != 0; value >>= PyLong_SHIFT) {
    digits[size++] = static_cast<digit>(value & PyLong_MASK);
  }
#if PY_VERSION_HEX >= 0x030C0000
  number->long_value.lv_tag = static_cast<std::uintptr_t>(size) << _PyLong_NON_SIZE_BITS;  // and positive
#else
  Py_SET_SIZE(reinterpret_cast<PyVarObject *>(number), size);
#endif
  Py_INCREF(blank);
  return blank;
}

}  // namespace f1buf
