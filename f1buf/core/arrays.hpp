// A numpy array's fields, for objects that are known to be numpy arrays.
//
// Only the structure, which every numpy since 1.7 has: nothing here calls numpy, so nothing needs its C API at run time;
// `borrowed.py` checks it at the import. The buffer protocol would do as well, but numpy describes a structured dtype
// anew each time that it is asked for a buffer: 150 to 700 ns, more than a batch of 16 records costs to move.

#pragma once

#define NPY_NO_DEPRECATED_API NPY_1_20_API_VERSION
#include <Python.h>
#include <numpy/ndarraytypes.h>

#include <numpy/arrayscalars.h>  // behind what it uses

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
// Because an array of plain bytes, and this, take 85 ns where numpy takes 265 for one of a structured dtype (and 225 in
// its C API), 390 to set the attribute, and 590 for a view, which does not even own its memory.
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

// Where a numpy scalar, an element of this array, keeps its value; NULL for a type that is not numpy's own, a boolean,
// or a string. (Its buffer says so, too, but in 8 ns more, and as one that must not be written to.)
inline char *data_of_scalar(PyObject *scalar, PyObject *array) noexcept {
#define F1BUF_VALUE_OF(NUMBER, NAME) \
  case NUMBER:                       \
    return reinterpret_cast<char *>(&PyArrayScalar_VAL(scalar, NAME))
  switch (PyArray_TYPE(as_array(array))) {
    F1BUF_VALUE_OF(NPY_BYTE, Byte);
    F1BUF_VALUE_OF(NPY_UBYTE, UByte);
    F1BUF_VALUE_OF(NPY_SHORT, Short);
    F1BUF_VALUE_OF(NPY_USHORT, UShort);
    F1BUF_VALUE_OF(NPY_INT, Int);
    F1BUF_VALUE_OF(NPY_UINT, UInt);
    F1BUF_VALUE_OF(NPY_LONG, Long);
    F1BUF_VALUE_OF(NPY_ULONG, ULong);
    F1BUF_VALUE_OF(NPY_LONGLONG, LongLong);
    F1BUF_VALUE_OF(NPY_ULONGLONG, ULongLong);
    F1BUF_VALUE_OF(NPY_HALF, Half);
    F1BUF_VALUE_OF(NPY_FLOAT, Float);
    F1BUF_VALUE_OF(NPY_DOUBLE, Double);
    F1BUF_VALUE_OF(NPY_LONGDOUBLE, LongDouble);
    F1BUF_VALUE_OF(NPY_CFLOAT, CFloat);
    F1BUF_VALUE_OF(NPY_CDOUBLE, CDouble);
    F1BUF_VALUE_OF(NPY_CLONGDOUBLE, CLongDouble);
    F1BUF_VALUE_OF(NPY_DATETIME, Datetime);
    F1BUF_VALUE_OF(NPY_TIMEDELTA, Timedelta);
    case NPY_VOID:
      return PyArrayScalar_VAL(scalar, Void);
    default:
      return nullptr;
  }
#undef F1BUF_VALUE_OF
}

}  // namespace f1buf
