# The fast paths of put, get, put_nowait and get_nowait. Part of queue.pyx.
#
# Each stands before an ordinary method, for its commonest call, and hands every other on to it. As C functions with
# the interpreter's own calling convention, and as descriptors of `Queue` itself, for which the interpreter has a
# specialised call: a put and a get, with the loop, take 600 instructions, and 1050 where the methods that Cython makes
# have these paths inside.

from types import MethodDescriptorType

cdef extern from *:
    ctypedef object (*PyCFunction)(object, object)
    ctypedef struct PyMethodDef:
        const char* ml_name
        PyCFunction ml_meth
        int ml_flags
        const char* ml_doc
    ctypedef struct PyMethodDescrObject:
        PyMethodDef* d_method
    object PyDescr_NewMethod(PyTypeObject*, PyMethodDef*)
    int METH_FASTCALL
    int METH_KEYWORDS

# They return a new reference, or NULL with the exception set. As a plain pointer: a get that took the item into a
# Python variable would touch its reference count, which has long left the cache.
ctypedef PyObject* (*fastcall)(_QueueCore, PyObject**, Py_ssize_t, PyObject*) noexcept

# What a fast path hands on, with the ordinary method; as variables, lest the compiler puts it into the fast path.
ctypedef PyObject* (*seldom)(_QueueCore, PyObject**, fastcall) noexcept

cdef seldom other_put
cdef seldom other_get
cdef fastcall method_put
cdef fastcall method_get
cdef fastcall method_put_nowait
cdef fastcall method_get_nowait
cdef PyMethodDef[4] fast_methods
cdef PyTypeObject* queue_type = NULL


cdef inline bint pushed(_QueueCore self, PyObject* item) noexcept:
    cdef bint fast
    Py_INCREF(<object> item)
    self.monitor.slot_lock.lock()
    fast = length(self) < self.put_below and is_as_known(self) and push(self, item)
    if DEBUG and fast:
        record_fast(self)
    self.monitor.slot_lock.unlock()
    if not fast:
        Py_DECREF(<object> item)
    return fast


cdef inline PyObject* popped(_QueueCore self) noexcept:
    cdef PyObject* item = NULL
    self.monitor.slot_lock.lock()
    if length(self) > self.get_above and is_as_known(self):
        item = pop(self)
        if DEBUG and item != NULL:
            record_fast(self)
    self.monitor.slot_lock.unlock()
    return item


cdef inline PyObject* none() noexcept:
    Py_INCREF(None)
    return <PyObject*> None


cdef inline PyObject* put_or(_QueueCore self, PyObject** args, fastcall method) noexcept:
    """With a GIL this calls nothing but in tail position, so that the usual path saves no registers."""
    if NO_GIL:
        Py_INCREF(<object> args[0])  # for the slot; under the lock no reference is counted
    self.monitor.slot_lock.lock()
    if length(self) < self.put_below and is_as_known(self) and self.order != SMALLEST:
        if not NO_GIL:
            Py_INCREF(<object> args[0])
        append_item(self, args[0])
        if DEBUG:
            record_fast(self)
        self.monitor.slot_lock.unlock()
        return none()
    self.monitor.slot_lock.unlock()
    if NO_GIL:
        Py_DECREF(<object> args[0])
    return other_put(self, args, method)


cdef PyObject* put_on_heap(_QueueCore self, PyObject** args, fastcall method) noexcept:
    return none() if self.order == SMALLEST and pushed(self, args[0]) else method(self, args, 1, NULL)


cdef inline PyObject* get_or(_QueueCore self, PyObject** args, fastcall method) noexcept:
    cdef PyObject* item
    self.monitor.slot_lock.lock()
    if length(self) > self.get_above and is_as_known(self) and self.order == FIRST_IN:
        item = pop_first(self)
        if DEBUG:
            record_fast(self)
        self.monitor.slot_lock.unlock()
        return item
    self.monitor.slot_lock.unlock()
    return other_get(self, args, method)


cdef PyObject* get_last_or_smallest(_QueueCore self, PyObject** args, fastcall method) noexcept:
    cdef PyObject* item = popped(self) if self.order != FIRST_IN else NULL
    return item if item != NULL else method(self, args, 0, NULL)


cdef PyObject* fast_put(_QueueCore self, PyObject** args, Py_ssize_t nargs, PyObject* keywords) noexcept:
    if nargs == 1 and keywords == NULL:
        return put_or(self, args, method_put)
    return method_put(self, args, nargs, keywords)


cdef PyObject* fast_put_nowait(_QueueCore self, PyObject** args, Py_ssize_t nargs, PyObject* keywords) noexcept:
    if nargs == 1 and keywords == NULL and self.direct.load(memory_order_relaxed):
        return put_or(self, args, method_put_nowait)
    return method_put_nowait(self, args, nargs, keywords)


cdef PyObject* fast_get(_QueueCore self, PyObject** args, Py_ssize_t nargs, PyObject* keywords) noexcept:
    if nargs == 0 and keywords == NULL:
        return get_or(self, args, method_get)
    return method_get(self, args, nargs, keywords)


cdef PyObject* fast_get_nowait(_QueueCore self, PyObject** args, Py_ssize_t nargs, PyObject* keywords) noexcept:
    if nargs == 0 and keywords == NULL and self.direct.load(memory_order_relaxed):
        return get_or(self, args, method_get_nowait)
    return method_get_nowait(self, args, nargs, keywords)


cdef int install(int index, str name, fastcall fast, fastcall* method) except -1:
    """Put a fast path before a method of `Queue`, under the same name and documentation.

    A method that Cython has not made as the fast path calls it stays as it is, and is slower.
    """
    cdef PyMethodDef* ordinary
    method_object = _QueueCore.__dict__[name]
    if type(method_object) is not MethodDescriptorType:
        return 0
    ordinary = (<PyMethodDescrObject*> (<PyObject*> method_object)).d_method
    if ordinary.ml_flags != METH_FASTCALL | METH_KEYWORDS:
        return 0
    method[0] = <fastcall> ordinary.ml_meth
    fast_methods[index] = ordinary[0]
    fast_methods[index].ml_meth = <PyCFunction> fast
    setattr(Queue, name, PyDescr_NewMethod(queue_type, &fast_methods[index]))
    return 0
