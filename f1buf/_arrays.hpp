// A numpy array's fields, for objects that are known to be numpy arrays.
//
// Only the structure, which every numpy since 1.7 has: nothing here calls numpy, so nothing needs its C API at run time.
// The buffer protocol would do as well, but numpy describes a structured dtype anew each time that it is asked for a
// buffer: 150 to 700 ns, more than a batch of 16 records costs to move.

#pragma once

#define NPY_NO_DEPRECATED_API NPY_1_20_API_VERSION
#include <Python.h>
#include <numpy/ndarraytypes.h>

#include <cstdint>
#include <utility>

namespace f1buf {

inline PyArrayObject *as_array(PyObject *array) noexcept { return reinterpret_cast<PyArrayObject *>(array); }

inline char *data_of(PyObject *array) noexcept { return PyArray_BYTES(as_array(array)); }
inline PyObject *dtype_of(PyObject *array) noexcept { return reinterpret_cast<PyObject *>(PyArray_DESCR(as_array(array))); }
inline int ndim_of(PyObject *array) noexcept { return PyArray_NDIM(as_array(array)); }
inline std::uint64_t length_of(PyObject *array) noexcept {
  return ndim_of(array) == 0 ? 1 : static_cast<std::uint64_t>(PyArray_DIM(as_array(array), 0));
}
inline bool is_in_one_piece(PyObject *array) noexcept { return PyArray_IS_C_CONTIGUOUS(as_array(array)); }
inline bool is_writeable(PyObject *array) noexcept { return PyArray_ISWRITEABLE(as_array(array)); }

// What `array.dtype = dtype` does where the size of an item stays the same, for an array that nobody else has yet.
inline void set_dtype(PyObject *array, PyObject *dtype) noexcept {
  auto *fields = reinterpret_cast<PyArrayObject_fields *>(array);
  Py_INCREF(dtype);
  PyObject *before = reinterpret_cast<PyObject *>(std::exchange(fields->descr, reinterpret_cast<PyArray_Descr *>(dtype)));
  Py_DECREF(before);
}

// What `array.resize(length)` does to its length, for an array of one dimension that nobody else has yet. The memory
// stays: what is behind the new end goes with the rest.
inline void cut_to(PyObject *array, std::uint64_t length) noexcept {
  PyArray_DIMS(as_array(array))[0] = static_cast<npy_intp>(length);
}

// Where a numpy scalar keeps its value; NULL with an exception where it does not say.
inline char *data_of_scalar(PyObject *scalar) noexcept {
  Py_buffer view;
  if (PyObject_GetBuffer(scalar, &view, PyBUF_SIMPLE) != 0) {
    return nullptr;
  }
  auto *data = static_cast<char *>(view.buf);
  PyBuffer_Release(&view);
  return data;
}

}  // namespace f1buf
