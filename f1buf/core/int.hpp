// Ints whose value is known only when nothing may fail any more: made before that, given their value after.
//
// From 3.14 on by the interpreter's own PyLongWriter; before by its ints' digits, whose layout these versions keep.
// `borrowed.py` checks either at the import.

#pragma once

#include <Python.h>

#include <cstdint>
#include <utility>

#include "core/interpreter.hpp"

namespace f1buf {

constexpr std::uint64_t READY_MADE = 256;  // the interpreter keeps all ints up to here: getting one cannot fail

// An int to be. On the stack of a call that has the GIL, and what did not become a number is gone when that ends.
class LaterInt {
 public:
  LaterInt() = default;
  LaterInt(const LaterInt &) = delete;
  LaterInt &operator=(const LaterInt &) = delete;

  // Room for any number up to `most`; -1 with MemoryError. Once, and before `become`.
  int reserve(std::uint64_t most) noexcept {
    if (most <= READY_MADE) {
      return 0;
    }
    for (; most != 0; most >>= PyLong_SHIFT) {
      size_++;
    }
    return allocate();
  }

  // The number, which is at most `most`: a new reference. Cannot fail.
  PyObject *become(std::uint64_t value) noexcept {
    return value <= READY_MADE ? PyLong_FromUnsignedLongLong(value) : filled(value);
  }

#if PY_VERSION_HEX >= 0x030E0000
  ~LaterInt() { PyLongWriter_Discard(writer_); }  // NULL too

 private:
  int allocate() noexcept {
    void *digits;
    writer_ = PyLongWriter_Create(0, size_, &digits);
    digits_ = static_cast<digit *>(digits);
    return writer_ == nullptr ? -1 : 0;
  }

  PyObject *filled(std::uint64_t value) noexcept {
    for (Py_ssize_t i = 0; i < size_; i++, value >>= PyLong_SHIFT) {
      digits_[i] = static_cast<digit>(value & PyLong_MASK);
    }
    return PyLongWriter_Finish(std::exchange(writer_, nullptr));
  }

  PyLongWriter *writer_ = nullptr;
  digit *digits_ = nullptr;
#else
  // A daemon thread's stack is unwound where it comes back to an interpreter that ends (before 3.14). It has no GIL
  // then, so what it had is left where it is.
  ~LaterInt() {
    if (number_ != nullptr && !is_ending()) {
      Py_DECREF(number_);
    }
  }

 private:
  int allocate() noexcept {
    // Of `size_` digits, and at least two: never one that the interpreter keeps.
    number_ = PyLong_FromUnsignedLongLong(std::uint64_t{1} << PyLong_SHIFT * (size_ > 1 ? size_ - 1 : 1));
    return number_ == nullptr ? -1 : 0;
  }

  // With fewer digits than there is room for, if need be, as the interpreter's own arithmetic leaves them.
  PyObject *filled(std::uint64_t value) noexcept {
    auto *number = reinterpret_cast<PyLongObject *>(number_);
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
    return std::exchange(number_, nullptr);
  }

  PyObject *number_ = nullptr;
#endif
  Py_ssize_t size_ = 0;  // digits
};

}  // namespace f1buf
