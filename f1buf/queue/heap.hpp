// A PriorityQueue's heap: as `heapq` has it (the smallest item at 0, the children of i at 2i + 1 and 2i + 2; the same
// comparisons in the same order), on raw pointers, and without running Python.
//
// Items are compared under the slot lock, so only by what runs nothing: ints, floats, str, bytes, and tuples of these
// up to the first pair that differs, as well as their subclasses that compare as they do. Where only Python can tell,
// nothing has changed, for either function compares first and moves afterwards; the queue then goes on by the standard
// library's algorithm.

#pragma once

#include <Python.h>

namespace f1buf {

const int ONLY_PYTHON_KNOWS = -1;
const int DEEPEST = 8;  // tuples in tuples

inline int answer_of(PyObject* result) noexcept {
  if (result == nullptr) PyErr_Clear();
  const int answer = result == Py_True ? 1 : result == Py_False ? 0 : ONLY_PYTHON_KNOWS;
  Py_XDECREF(result);  // one of the three constants, which stay
  return answer;
}

inline bool runs_nothing(richcmpfunc compare) noexcept {
  return compare == PyLong_Type.tp_richcompare || compare == PyUnicode_Type.tp_richcompare ||
         compare == PyFloat_Type.tp_richcompare || compare == PyBytes_Type.tp_richcompare;
}

// An int of at most 53 bits, or a float: as a double, which is exact. Longer ints would be compared with floats by
// allocating others.
inline bool as_double(PyObject* number, double* value) noexcept {
  if (PyFloat_Check(number)) {
    *value = PyFloat_AS_DOUBLE(number);
    return true;
  }
  int overflow = 0;
  const long long exact = PyLong_AsLongLongAndOverflow(number, &overflow);
  *value = static_cast<double>(exact);
  return overflow == 0 && exact <= (1LL << 53) && exact >= -(1LL << 53);
}

inline int compare(PyObject* one, PyObject* other, int how, int depth = 0) noexcept;

// `how`: Py_LT or Py_EQ. As tuples do it: the first pair that is not equal decides, and the same object is equal.
inline int compare_tuples(PyObject* one, PyObject* other, int how, int depth) noexcept {
  const Py_ssize_t length = PyTuple_GET_SIZE(one);
  const Py_ssize_t other_length = PyTuple_GET_SIZE(other);
  for (Py_ssize_t i = 0; i < length && i < other_length; i++) {
    PyObject* left = PyTuple_GET_ITEM(one, i);
    PyObject* right = PyTuple_GET_ITEM(other, i);
    if (left == right) continue;
    const int equal = compare(left, right, Py_EQ, depth + 1);
    if (equal == ONLY_PYTHON_KNOWS) return equal;
    if (!equal) return how == Py_EQ ? 0 : compare(left, right, Py_LT, depth + 1);
  }
  return how == Py_EQ ? length == other_length : length < other_length;
}

inline int compare(PyObject* one, PyObject* other, int how, int depth) noexcept {
  const richcmpfunc compares = Py_TYPE(one)->tp_richcompare;
  if (compares == Py_TYPE(other)->tp_richcompare) {
    if (runs_nothing(compares)) return answer_of(compares(one, other, how));
    if (compares == PyTuple_Type.tp_richcompare && depth < DEEPEST) return compare_tuples(one, other, how, depth);
    return ONLY_PYTHON_KNOWS;
  }
  const richcmpfunc others = Py_TYPE(other)->tp_richcompare;
  const bool numbers = (compares == PyFloat_Type.tp_richcompare && others == PyLong_Type.tp_richcompare) ||
                       (compares == PyLong_Type.tp_richcompare && others == PyFloat_Type.tp_richcompare);
  double left, right;
  if (!numbers || !as_double(one, &left) || !as_double(other, &right)) return ONLY_PYTHON_KNOWS;
  return how == Py_EQ ? left == right : left < right;
}

// Put one more item in, behind `count` others; whether it could be compared.
[[gnu::noinline]] inline bool heap_push(PyObject** heap, size_t count, PyObject* item) noexcept {
  size_t place = count;
  while (place > 0) {
    const int smaller = compare(item, heap[(place - 1) / 2], Py_LT);
    if (smaller == ONLY_PYTHON_KNOWS) return false;
    if (!smaller) break;
    place = (place - 1) / 2;
  }
  for (size_t at = count; at > place; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[place] = item;
  return true;
}

// Take the smallest of `count` items, at least one; NULL where they could not be compared.
//
// The last item is to be put into the path of smaller children from the root down: as `heapq`, first all the way to
// the leaf, then up again to where it belongs, for it mostly belongs near the leaves.
[[gnu::noinline]] inline PyObject* heap_pop(PyObject** heap, size_t count) noexcept {
  PyObject* smallest = heap[0];
  const size_t rest = count - 1;
  PyObject* last = heap[rest];
  size_t path[8 * sizeof(size_t) + 1];  // as many levels as there can be
  size_t depth = 0;
  path[0] = 0;
  for (size_t child = 1; child < rest; child = 2 * child + 1) {
    if (child + 1 < rest) {
      const int smaller = compare(heap[child], heap[child + 1], Py_LT);
      if (smaller == ONLY_PYTHON_KNOWS) return nullptr;
      child += !smaller;
    }
    path[++depth] = child;
  }
  size_t level = depth;
  while (level > 0) {
    const int smaller = compare(last, heap[path[level]], Py_LT);
    if (smaller == ONLY_PYTHON_KNOWS) return nullptr;
    if (!smaller) break;
    level--;
  }
  for (size_t i = 0; i < level; i++) heap[path[i]] = heap[path[i + 1]];
  heap[path[level]] = last;  // where nothing is left: over the smallest, which is the last
  return smallest;
}

}  // namespace f1buf
