# The packer: how `put` turns a tuple of exact Python numbers, or one number, into a record's bytes, without numpy.
#
# A dtype of plain native numbers side by side has a program, one `Field` each. It takes only what needs no conversion:
# an int that fits, a float, a bool. For anything else it says False, and `convert` looks at it, which also makes the
# errors. Part of ring.pyx.

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsDouble, PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.mem cimport PyMem_RawMalloc
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.math cimport isfinite
from libc.stdint cimport (
    INT8_MAX, INT8_MIN, INT16_MAX, INT16_MIN, INT32_MAX, INT32_MIN, UINT8_MAX, UINT16_MAX, UINT32_MAX,
    int16_t, int32_t, int64_t, uint64_t,
)
from libc.string cimport memcpy, memset

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int*)

cdef object float64 = np.float64  # a float to the C API, and common in tuples

cdef enum:
    RECORD_ON_STACK = 512  # [bytes] the largest record that is packed

# By kind and itemsize, for `pack_field`.
cdef dict PACKED = {
    "f8": "d", "f4": "f", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}


cdef list packer_program(object dtype):
    """[(code, offset, itemsize), ...] of the fields, or None where they are not plain native numbers side by side."""
    if dtype.itemsize > RECORD_ON_STACK:
        return None
    program, taken = [], []  # appended to: Cython 3.3 drops an element twice where a comprehension's list cannot grow
    for name in (None,) if dtype.names is None else dtype.names:
        field, offset = (dtype, 0) if name is None else dtype.fields[name][:2]
        code = PACKED.get(f"{field.kind}{field.itemsize}")
        if code is None or not field.isnative or field.subdtype is not None:
            return None
        program.append((code, offset, field.itemsize))
        taken.append((offset, offset + field.itemsize))
    taken.sort()
    if any(stop > start for (_, stop), (start, _) in zip(taken, taken[1:])):
        return None  # they overlap
    return program


cdef Field* compiled(list program) except? NULL:
    """The packer's program, one `Field` each, where there is one."""
    cdef Field* fields
    cdef Py_ssize_t i
    if program is None:
        return NULL
    codes = []
    for kind, offset, _ in program:
        codes.append((ord(kind), offset))
    fields = <Field*> PyMem_RawMalloc(len(codes) * sizeof(Field))
    if fields == NULL:
        raise MemoryError("no memory for the packer")
    for i, (code, offset) in enumerate(codes):
        fields[i].kind = code
        fields[i].offset = offset
    return fields


cdef inline bint pack_field(char kind, object value, char* out):
    """Write one exact Python number (or np.float64); False where it is something else or does not fit."""
    if kind == c"d" or kind == c"f":
        return pack_float(kind, value, out)
    if kind == c"?":
        if value is not True and value is not False:
            return False
        out[0] = value is True
        return True
    return PyLong_CheckExact(value) and pack_int(kind, value, out)


cdef inline bint pack_float(char kind, object value, char* out):
    cdef double number
    cdef float narrow
    if PyFloat_CheckExact(value) or type(value) is float64:
        number = PyFloat_AS_DOUBLE(value)
    elif PyLong_CheckExact(value):
        try:
            number = PyLong_AsDouble(value)
        except OverflowError:
            return False
    else:
        return False
    if kind == c"d":
        memcpy(out, &number, sizeof(double))
        return True
    narrow = <float> number
    memcpy(out, &narrow, sizeof(float))
    return isfinite(narrow) or not isfinite(number)


cdef inline bint pack_int(char kind, object value, char* out):
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef uint64_t unsigned
    if kind == c"Q":
        if overflow < 0 or (overflow == 0 and number < 0):
            return False
        try:
            unsigned = PyLong_AsUnsignedLongLong(value)
        except OverflowError:
            return False
        memcpy(out, &unsigned, 8)
        return True
    if overflow != 0 or not fits(kind, number):
        return False
    # Little or big end, the low bytes of a native integer are what a narrower cast keeps.
    store(kind, number, out)
    return True


cdef inline bint fits(char kind, int64_t number) noexcept nogil:
    if kind == c"I":
        return 0 <= number <= UINT32_MAX
    if kind == c"H":
        return 0 <= number <= UINT16_MAX
    if kind == c"i":
        return INT32_MIN <= number <= INT32_MAX
    if kind == c"h":
        return INT16_MIN <= number <= INT16_MAX
    if kind == c"B":
        return 0 <= number <= UINT8_MAX
    if kind == c"b":
        return INT8_MIN <= number <= INT8_MAX
    return True


cdef inline void store(char kind, int64_t number, char* out) noexcept nogil:
    cdef int32_t four = <int32_t> number
    cdef int16_t two = <int16_t> number
    if kind == c"I" or kind == c"i":
        memcpy(out, &four, 4)
    elif kind == c"H" or kind == c"h":
        memcpy(out, &two, 2)
    elif kind == c"B" or kind == c"b":
        out[0] = <char> number
    else:
        memcpy(out, &number, 8)


cdef bint pack(RingBuffer self, object record, char* out):
    """Write a record of exact Python numbers to `out`; False for anything else, which `convert` looks at."""
    cdef Py_ssize_t i
    if self.field_count == 0:
        return False
    if not self.is_struct:
        return pack_field(self.fields[0].kind, record, out)
    if not PyTuple_CheckExact(record) or PyTuple_GET_SIZE(record) != self.field_count:
        return False
    if self.padded:
        memset(out, 0, self.itemsize)
    for i in range(self.field_count):
        if not pack_field(self.fields[i].kind, <object> PyTuple_GET_ITEM(record, i), out + self.fields[i].offset):
            return False
    return True
