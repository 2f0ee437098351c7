"""Queue, LifoQueue, PriorityQueue: all of Python 3.13's `queue`, and batches.

A `Queue` is in one of four modes:

NEW         `__init__` has not run
PLAIN       its items lie in an array of pointers, `slots`: `count` of them from `head` on, around the end
CONVERTING  on its way from PLAIN to CLASSIC: the items are in the slots still, and only the thread that converts it
            gets past its mutex
CLASSIC     the standard library's algorithm, by its own code (`classic.py`): a container that the hooks `_init`,
            `_qsize`, `_put`, `_get` manage, under a mutex and conditions on it

The three classes differ in what a put and a get do with the slots (`Order`): FIRST_IN takes from the head, LAST_IN from
the other end, SMALLEST has them as a heap, from slot 0 on (`heap.hpp`). HOOKED, which is never PLAIN, is the order of a
class that overrides a hook.

A queue is CLASSIC from the start where its class overrides a hook. A plain queue becomes it (`convert`), for good,

- where somebody acquires its mutex or one of its conditions, replaces a method of one, changes `queue.queue` or sets a
  hook on it. These objects can be looked at, and looking changes nothing;
- where its class has changed (`recheck`): each operation compares the class's version with that for which the hooks
  were looked at, as part of the fast paths' condition;
- where it would have to wait while somebody has replaced `queue.time` or `threading.Condition.wait`;
- where only Python can tell which item of a PriorityQueue is the smaller.

Parts of this module are in files of their own: the fast paths (`fast.pxi`), what coroutines await (`awaited.pxi`),
and the mutex that a CLASSIC queue has (`mutex.pxi`).

Who holds what (PLAIN). The slots, the counters and the waiters' lists belong to the slot lock: the GIL where there is
one, else a PyMutex (`SlotLock`). Under it only pointers move: nothing of Python runs, and memory is only taken raw, so
that neither the collector nor an item's `__del__` can come in between; both may use the same queue at any other moment.
No reference is released under it. One is added there only by `_contents`, `_item` and `get_bound`: they return an
object that stays in the queue, and that must not be freed before they have added it. A heap compares numbers, strings
and tuples of them by their types' C functions, which run nothing and answer with one of three constants. The lock is
never held while waiting, nor across anything that may let the GIL go.

The fast path. `put_below` and `get_above` hold every reason to go slow, in one comparison each:

    put    count < put_below    put_below is what has room now: min(maxsize, allocated slots)
    get    count > get_above    get_above is 0, or below what the slots are to shrink

and nothing passes them (0 and the largest number) while somebody waits, after a shutdown, or in another mode. They are
set anew (`retune`) before every unlock that could have changed one of these. `put_nowait` and `get_nowait` are fast,
too, where they need not call a `put` or `get` that somebody else has set (`direct`).

Invariants, whenever the slot lock is free (a debug build checks them after every operation but the fast paths):

Q1  slots[head .. head + count), modulo `room`, are owned references; count <= room; count <= maxsize, unless maxsize
    was lowered meanwhile; head is 0 where the order is SMALLEST.
Q2  fast paths are open only in PLAIN mode, with nobody queued for puts or gets, and not shut down.
Q3  where the list of joins is not empty, unfinished != 0 (looked at by `release`; the fast paths only move it away
    from 0, unless a program has set it below).
I2, I3 of `sync`.

Waiting is `sync`'s protocol, with the slot lock as the monitor's (`attached`), without turns, and with a GIL without
SPIN: there is nothing to copy outside the lock, and a spinner would only queue for the GIL. Why no wake-up is lost is
said there. Each change of the count, the bound, the tasks or the shutdown ends in `release`, which settles. Only the
fast paths do not settle: they are closed while a put or a get waits (Q2), and they do not end the waiting of a join
(Q3). The joins are the third side of the monitor: the last `task_done` grants them all. `tests/models/queue_model.py`
models all this: the fast paths, the joins, the way to CLASSIC.

The collector sees the items through `visit_items`, which only runs while no other thread does (under the GIL, or with
the world stopped), hence never in the middle of a locked section.
"""

import _thread
import collections
import math
import operator
import threading
import time
import weakref
from types import BuiltinFunctionType

cimport cython
from cpython.list cimport PyList_New
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.exc cimport PyErr_CheckSignals
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t
from libc.string cimport memmove
from libcpp.atomic cimport atomic, memory_order_relaxed

from f1buf.core.loop cimport NOT_YET, Attempt, LoopWait, attempt, attempt_in_pieces
from f1buf.core.sync cimport (
    DEBUG, DONE, EMPTY, ENDED, FAST, FOREVER, FULL, LOOK, MOVED, OPEN, OUT_OF_MEMORY, QUEUED, SHUT, SHUT_DOWN,
    SIGNAL_TICK_NS, TICKED,
    LaterInt, Monitor, Outcome, Side, Wait, Waiter,
    acquire, as_count, available, begins, deadline_in, drop_node, forget_place, forks, insist, lend_attached,
    main_thread, make_node, monitor_fault, now_ns, ran_here, ready, record, register_for_fork, settle_and_unlock, shut,
    somebody_waits, start_wait, unregister_for_fork, withdraw,
)

from f1buf.core import standard
from f1buf.queue import classic, coroutines
from f1buf.core.coroutines import functions_of
from f1buf.core.borrowed import check_list
from f1buf.core.errors import Empty, Full, ShutDown

cdef extern from "core/interpreter.hpp" namespace "f1buf" nogil:
    bint is_ending() noexcept
    const bint NO_GIL
    unsigned int version_of(PyObject*) noexcept

cdef extern from "queue/heap.hpp" namespace "f1buf" nogil:
    bint heap_push(PyObject**, size_t, PyObject*) noexcept
    PyObject* heap_pop(PyObject**, size_t) noexcept

cdef extern from *:
    PyObject** PySequence_Fast_ITEMS(object)  # of a list or a tuple
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    ctypedef int (*inquiry)(PyObject*) noexcept
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
        inquiry tp_clear
    PyTypeObject* Py_TYPE(object)
    int PyObject_GenericSetAttr(object, object, PyObject*) except -1
    PyObject* PyObject_CallOneArg(PyObject*, PyObject*)
    void PyErr_Clear()
    void PyObject_GC_Track(object)
    void PyObject_GC_UnTrack(object)
    bint PyObject_GC_IsTracked(object)
    void Py_SET_SIZE(object, Py_ssize_t)

cdef object Condition = threading.Condition
cdef object waits = threading.Condition.wait
cdef object deque = collections.deque
cdef object monotonic = time.monotonic
cdef object QUEUED_THERE = classic.QUEUED
cdef double TIMEOUT_MAX = threading.TIMEOUT_MAX
cdef object SIGNAL_TICK = SIGNAL_TICK_NS * 1e-9  # [s]
cdef object HOOKS = ("_init", "_qsize", "_put", "_get")
# What a class must not define: the standard library would set it on the instance, in front of the class's.
cdef object ATTRIBUTES = (
    "maxsize", "is_shutdown", "unfinished_tasks", "queue", "mutex", "not_empty", "not_full", "all_tasks_done"
)

cdef enum Mode:
    NEW
    PLAIN
    CONVERTING
    CLASSIC

cdef enum Order:
    FIRST_IN
    LAST_IN
    SMALLEST
    HOOKED        # the class overrides a hook

# The bound of a queue that has none.
cdef uint64_t UNBOUNDED = UINT64_MAX
# The version of a class that was not looked at.
cdef unsigned int UNKNOWN = 0xFFFFFFFF
# A deadline further off than the platform can wait; an error only where the call must wait.
cdef int64_t TOO_FAR = -1

# Slots are given back so that `room <= 2 * count + SPARE`: 16 bytes an item, and with the object itself less than
# 1 KiB on top. A bounded queue keeps up to KEPT slots, so that one that fills and drains again and again does not
# allocate again and again (2 to 3 ns an item).
cdef size_t FIRST_ROOM = 32
cdef size_t SPARE = 52
cdef size_t KEPT = 1024


cdef struct Slots:
    PyObject** at          # `room` pointers, of which `count` from `head` on (around the end) are references
    size_t room
    size_t head
    uint64_t count

include "mutex.pxi"


cdef class _QueueCore:
    """_QueueCore(maxsize=0)\n--\n
    What `Queue` is made of, as a C structure.
    """

    # The monitor's slot lock guards all up to `bound`.
    cdef uint64_t put_below        # a put is fast while count < put_below
    cdef uint64_t get_above        # a get is fast while count > get_above
    cdef PyObject** slots          # `room` pointers, of which `count` from `head` on (around the end) are references
    cdef size_t room
    cdef size_t head
    cdef Monitor monitor           # its lock, count, capacity (the bound), unfinished tasks, waiters
    cdef bint closed               # shut down
    cdef PyObject* bound           # `maxsize` as it was given: a reference
    cdef atomic[int] mode          # a `Mode`; changes under the slot lock
    cdef atomic[int] direct        # put_nowait and get_nowait need not call `put` and `get`
    cdef int order                 # an `Order`; a queue whose class changes it becomes CLASSIC first
    cdef atomic[unsigned int] version  # that of the class when it was looked at; UNKNOWN
    cdef bint own_calls            # `put` or `get` is set on the instance
    cdef bint own_hooks            # a hook was set on the instance
    cdef object items              # `queue` of a classic queue; read and written in a critical section
    cdef long converter            # how many `forks` lay behind the process that converts it
    cdef atomic[int] has_locks     # set once the following are there
    cdef _Mutex own_mutex          # `mutex`, and the conditions on it: made when one is first asked for
    cdef object own_not_empty
    cdef object own_not_full
    cdef object own_all_tasks_done

    def __cinit__(self, *args, **kwargs):
        self.get_above = UINT64_MAX
        self.version.store(UNKNOWN)
        self.monitor.attached = True
        self.monitor.capacity = UNBOUNDED
        self.monitor.settled = <void (*)(void*) noexcept nogil> retune
        self.monitor.settled_arg = <void*> self
        self.bound = NULL
        register_for_fork(&self.monitor)

    def __init__(self, maxsize=0):
        limit = limit_of(maxsize)
        look_at_class(self)
        set_bound(self, maxsize, limit)
        if self.own_hooks or self.order == HOOKED or not start_plain(self):
            if self.mode.load() == CONVERTING:
                convert(self)
            start_classic(self, maxsize)

    def __dealloc__(self):
        unregister_for_fork(&self.monitor)  # nobody waits any more: each waiter holds a reference
        Py_XDECREF(self.bound)
        drop_items(take_slots(self))

    # -- the standard methods -------------------------------------------------------------------------------------

    def put(self, item, block=True, timeout=None):
        """
        Put an item into the queue.

        Parameters
        ----------
        item : object
        block : bool
            Whether to wait for room.
        timeout : number or None
            How long to wait [s]; None and infinity: for ever. Looked at only where the queue is bounded and the call
            may block.

        Raises
        ------
        Full
            There was no room in time.
        ShutDown
            The queue has been shut down.
        ValueError
            The timeout is negative.
        """
        if is_classic(self):
            classic.put(self, item, block, finite(timeout))
        else:
            plain_put(self, item, block, timeout)

    def get(self, block=True, timeout=None):
        """
        Remove and return the oldest item.

        Parameters
        ----------
        block : bool
            Whether to wait for an item.
        timeout : number or None
            How long to wait [s]; None and infinity: for ever. Looked at only where the call may block.

        Raises
        ------
        Empty
            There was no item in time.
        ShutDown
            The queue has been shut down and is empty.
        ValueError
            The timeout is negative.
        """
        if is_classic(self):
            return classic.get(self, block, finite(timeout))
        return plain_get(self, block, timeout)

    def put_nowait(self, item):
        """
        Put an item into the queue if there is room now: ``put(item, block=False)``.

        Raises
        ------
        Full, ShutDown
            As `put`.
        """
        recheck(self)
        if not self.direct.load() or self.mode.load() == CLASSIC:
            return self.put(item, block=False)
        plain_put(self, item, False, None)

    def get_nowait(self):
        """
        Remove and return the oldest item if there is one now: ``get(block=False)``.

        Raises
        ------
        Empty, ShutDown
            As `get`.
        """
        recheck(self)
        if not self.direct.load() or self.mode.load() == CLASSIC:
            return self.get(block=False)
        return plain_get(self, False, None)

    def put_many(self, items, block=True, timeout=None):
        """
        Put several items, in order, as many as fit before the timeout.

        Parameters
        ----------
        items : iterable
            Taken as a tuple first.
        block, timeout
            As `put`, for all of them together.

        Returns
        -------
        int
            How many were put, from the first on: fewer than there are where the timeout or a shutdown came first,
            memory was short or an override of `_put` raised. The others are still the caller's. 0 where there are none.

        Raises
        ------
        Full, ShutDown, ValueError
            As `put`; only where nothing was put.
        OverflowError
            The timeout is finite and beyond `threading.TIMEOUT_MAX`.

        Notes
        -----
        Does not call `put`: a subclass that overrides that overrides this, too.

        Examples
        --------
        >>> from f1buf import Queue
        >>> q = Queue(maxsize=4)
        >>> q.put_many("abcdef", block=False)
        4
        >>> q.get_many(3)
        ['a', 'b', 'c']
        """
        cdef LaterInt number
        cdef Py_ssize_t done
        items = tuple(items)
        if not items:
            return 0
        deadline = checked_deadline(put_deadline(self, block, timeout))
        number.reserve(PyTuple_GET_SIZE(items))
        if self.mode.load() == CLASSIC:
            done = classic.put_many(self, items, 0, block, finite(timeout))
        else:
            done = plain_put_many(self, items, block, timeout, deadline)
        return number.become(done)

    def get_many(self, max_count=None, *, min_count=1, block=True, timeout=None):
        """
        Remove and return several items: wait for `min_count`, then take what is there, up to `max_count`.

        Parameters
        ----------
        max_count : int or None
            The most to take; None: what is there.
        min_count : int
            What to wait for; at least 1, at most `max_count`. A queue that is full is not waited for any longer.
        block : bool
            False is the same as a timeout of 0.
        timeout : number or None
            As `get`. What is there when it comes is returned.

        Returns
        -------
        list
            Oldest item first.

        Raises
        ------
        Empty
            There was nothing in time.
        ShutDown
            The queue has been shut down and is empty.
        ValueError
            `min_count` or `max_count` is out of range, or the timeout is negative.
        OverflowError
            The timeout is finite and beyond `threading.TIMEOUT_MAX`.

        Notes
        -----
        Does not call `get`: a subclass that overrides that overrides this, too.
        """
        least, most = batch_limits(max_count, min_count)
        deadline = checked_deadline(get_deadline(self, block, timeout))
        if self.mode.load() == CLASSIC:
            return classic.get_many(self, most, least, deadline != 0, seconds_until(deadline))
        return plain_get_many(self, most, least, deadline)

    # What the coroutine functions of `coroutines` await: aget, aput, aget_many, aput_many and ajoin.

    def _awaited_get(self):
        return attempt(self, get_at_once, get_in_time)

    def _awaited_put(self, item):
        made = attempt(self, put_at_once, put_in_time)
        made.given = item
        return made

    def _awaited_get_many(self, max_count, min_count):
        made = attempt(self, get_many_at_once, get_many_in_time)
        made.least, made.most = batch_limits(max_count, min_count)
        return made

    def _awaited_put_many(self, items):
        made = attempt_in_pieces(self, put_many_at_once, put_some_in_time)
        made.given = tuple(items)
        made.most = PyTuple_GET_SIZE(made.given)
        return made

    def _awaited_join(self):
        return attempt(self, join_at_once, join_in_time)

    def clear(self):
        """Remove all items, and call `task_done` for each of them."""
        if lock_plain(self):
            discard_and_release(self)
        else:
            classic.clear(self)

    def qsize(self):
        """How many items there are; stale as soon as it is returned."""
        cdef uint64_t count
        if not lock_plain(self):
            return standard.Queue.qsize(self)
        count = length(self)
        self.monitor.slot_lock.unlock()
        return count

    def empty(self):
        """Whether there is no item; stale as soon as it is returned."""
        return is_empty(self)

    def full(self):
        """Whether there is no room; stale as soon as it is returned."""
        cdef bint full
        if not lock_plain(self):
            return standard.Queue.full(self)
        full = length(self) >= self.monitor.capacity
        self.monitor.slot_lock.unlock()
        return full

    def task_done(self):
        """
        Say that an item that was got has been dealt with; see `join`.

        Raises
        ------
        ValueError
            It was called more often than items were put.
        """
        if not lock_plain(self):
            standard.Queue.task_done(self)
            return
        if self.monitor.unfinished <= 0:
            self.monitor.slot_lock.unlock()
            raise ValueError("task_done() called too many times")
        self.monitor.unfinished -= 1
        release(self)

    def join(self, timeout=None):
        """
        Wait until `task_done` has been called for every item that was put.

        Parameters
        ----------
        timeout : number or None
            How long to wait [s]; None and infinity: for ever.

        Raises
        ------
        TimeoutError
            Tasks were left when the timeout came.
        ValueError
            The timeout is negative.
        """
        cdef int64_t deadline = checked_deadline(deadline_of(True, timeout))
        if not plain_join(self, deadline):
            classic.join(self, seconds_until(deadline))

    def shutdown(self, immediate=False):
        """
        End the use of the queue: puts raise `ShutDown`, and so do gets once it is empty. Wakes all that wait.

        Parameters
        ----------
        immediate : bool
            Whether to remove what is left; `task_done` is called for each item.
        """
        if not lock_plain(self):
            classic.shutdown(self, immediate)
            return
        set_closed(self, True)
        if immediate:  # in the same locked section: nobody may be told of the end and still find something
            discard_and_release(self)
        else:
            release(self)

    # -- attributes -----------------------------------------------------------------------------------------------

    @property
    def maxsize(self):
        """The bound; 0 or less: none. May be changed at any time, also while others wait."""
        return get_bound(self)

    @maxsize.setter
    def maxsize(self, value):
        set_bound(self, value, limit_of(value))
        if self.mode.load() == CLASSIC:
            classic.maxsize_changed(self)

    @property
    def is_shutdown(self):
        """Whether `shutdown` was called."""
        return is_closed(self)

    @is_shutdown.setter
    def is_shutdown(self, value):
        cdef bint closed = value
        self.monitor.slot_lock.lock()
        set_closed(self, closed)
        release_if_plain(self)

    @property
    def unfinished_tasks(self):
        """Items that were put and for which `task_done` has not been called yet."""
        cdef int64_t unfinished
        self.monitor.slot_lock.lock()
        unfinished = self.monitor.unfinished
        self.monitor.slot_lock.unlock()
        return unfinished

    @unfinished_tasks.setter
    def unfinished_tasks(self, tasks):
        cdef int64_t value = operator.index(tasks)
        self.monitor.slot_lock.lock()
        self.monitor.unfinished = value
        release_if_plain(self)

    @property
    def is_converted(self):
        """Whether it has the standard library's algorithm, and its speed; see the class."""
        recheck(self)
        return self.mode.load() == CLASSIC

    @property
    def mutex(self):
        """The lock of the standard library's algorithm, which the queue has once somebody has acquired it."""
        must_be_ready(self)
        have_locks(self)
        return self.own_mutex

    @property
    def not_empty(self):
        """A condition of the standard library's algorithm; see `mutex`."""
        must_be_ready(self)
        have_locks(self)
        return self.own_not_empty

    @property
    def not_full(self):
        """A condition of the standard library's algorithm; see `mutex`."""
        must_be_ready(self)
        have_locks(self)
        return self.own_not_full

    @property
    def all_tasks_done(self):
        """A condition of the standard library's algorithm; see `mutex`."""
        must_be_ready(self)
        have_locks(self)
        return self.own_all_tasks_done

    @property
    def queue(self):
        """The container of the standard library's algorithm; before the queue has that, a view that can be read."""
        if is_classic(self):
            with cython.critical_section(self):
                return self.items
        return classic.view_of(self, self.order != FIRST_IN)

    @queue.setter
    def queue(self, container):
        if self.mode.load() != NEW:
            convert(self)
        with cython.critical_section(self):
            self.items = container

    def snapshot(self):
        """
        The items, which stay where they are.

        Returns
        -------
        list
            In the order in which they would be got, if nothing came in between; of a `PriorityQueue` that compares
            them, and raises what that raises. A subclass that overrides a hook: in its container's own order.

        Examples
        --------
        >>> from f1buf import LifoQueue
        >>> q = LifoQueue()
        >>> q.put_many("abc")
        3
        >>> q.snapshot(), q.qsize()
        (['c', 'b', 'a'], 3)
        """
        recheck(self)
        if self.mode.load() == CLASSIC:
            items = classic.snapshot(self)
        else:
            items = list(self._contents())
        if self.order == SMALLEST:
            return classic.in_order(items)
        return items[::-1] if self.order == LAST_IN else items

    def _contents(self):
        """What is in the slots, as the container that the queue would have; or that container."""
        cdef list batch
        cdef PyObject** targets
        cdef uint64_t n = 0
        cdef uint64_t i
        if self.mode.load() == CLASSIC:
            return self.queue
        while True:
            batch = blank_list(n)  # which may run anything, so that there may be more by then
            targets = PySequence_Fast_ITEMS(batch)
            self.monitor.slot_lock.lock()
            if length(self) <= n:
                break
            n = length(self)
            self.monitor.slot_lock.unlock()
        if self.mode.load(memory_order_relaxed) == CLASSIC:  # by now
            self.monitor.slot_lock.unlock()
            return self.queue
        n = length(self)
        for i in range(n):
            targets[i] = self.slots[place(self, i)]
            Py_INCREF(<object> targets[i])  # the slot goes on having its own
        self.monitor.slot_lock.unlock()
        Py_SET_SIZE(batch, n)
        PyObject_GC_Track(batch)
        return deque(batch) if self.order == FIRST_IN else batch

    def _length(self):
        """That of `_contents`."""
        cdef uint64_t count
        cdef bint is_classic
        if self.mode.load() == CLASSIC:
            return len(self.queue)
        self.monitor.slot_lock.lock()
        is_classic = self.mode.load(memory_order_relaxed) == CLASSIC  # by now
        count = length(self)
        self.monitor.slot_lock.unlock()
        return len(self.queue) if is_classic else count

    def _item(self, index):
        """That of `_contents`, without the others."""
        cdef PyObject* item = NULL
        cdef bint is_classic
        cdef int64_t at = operator.index(index)
        if self.mode.load() == CLASSIC:
            return self.queue[index]
        self.monitor.slot_lock.lock()
        is_classic = self.mode.load(memory_order_relaxed) == CLASSIC  # by now
        at += length(self) if at < 0 else 0
        if 0 <= at < <int64_t> length(self):
            item = self.slots[place(self, at)]
            Py_INCREF(<object> item)
        self.monitor.slot_lock.unlock()
        if is_classic:
            return self.queue[index]
        if item == NULL:
            raise IndexError(f"index {index} is out of range")
        return owned(item)

    def __setattr__(self, name, value):
        set_attribute(self, name, <PyObject*> value)

    def __delattr__(self, name):
        set_attribute(self, name, NULL)

    def __reduce__(self):
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: other threads may use it and wait at it; "
            "make a new one and put the items into it"
        )

    def __sizeof__(self):
        cdef size_t room
        self.monitor.slot_lock.lock()
        room = self.room
        self.monitor.slot_lock.unlock()
        return object.__sizeof__(self) + room * sizeof(PyObject*)

    def _check(self):
        """Abort the process where an invariant does not hold; for tests."""
        self.monitor.slot_lock.lock()
        insist(queue_fault(self))
        self.monitor.slot_lock.unlock()

    # -- hooks: what a subclass may override ----------------------------------------------------------------------

    def _init(self, maxsize):
        """Make the container; called by `__init__`."""
        self.queue = deque()

    def _qsize(self):
        """How many items the container holds; called under the mutex."""
        return self._length()

    def _put(self, item):
        """Put an item into the container; called under the mutex."""
        self.queue.append(item)

    def _get(self):
        """Take an item from the container; called under the mutex."""
        return self.queue.popleft()


# -- PLAIN: put ---------------------------------------------------------------------------------------------------

cdef int plain_put(_QueueCore self, object item, object block, object timeout) except -1:
    cdef Wait w
    cdef Outcome outcome = FULL
    start_wait(&w, 1, put_deadline(self, block, timeout))
    Py_INCREF(item)  # for the slot; under the lock no reference is counted
    try:
        wait_to_act(self, &self.monitor.puts, &w)
        outcome = push_and_release(self, <PyObject*> item)
        if outcome == MOVED:
            timeout = left_of(&w, timeout)
    finally:
        drop_node(&w)
        if outcome != DONE:
            Py_DECREF(item)
    if outcome == MOVED:
        classic.put(self, item, block, timeout)
    elif outcome != DONE:
        raise_put_error(outcome)
    return 0


cdef Outcome push_and_release(_QueueCore self, PyObject* item) noexcept:
    cdef Outcome outcome = may_put(self)
    if outcome == DONE and not push(self, item):
        outcome = MOVED
    release(self)
    return outcome


cdef inline bint push(_QueueCore self, PyObject* item) noexcept:
    """Under the lock, where there is room: put it in. False where only Python can compare it with the others."""
    cdef uint64_t count = length(self)
    if self.order != SMALLEST:
        append_item(self, item)
        return True
    if not heap_push(self.slots, count, item):
        return False
    self.monitor.count.store(count + 1, memory_order_relaxed)
    self.monitor.unfinished += 1
    return True


cdef inline void append_item(_QueueCore self, PyObject* item) noexcept:
    cdef uint64_t count = length(self)
    self.slots[place(self, count)] = item
    self.monitor.count.store(count + 1, memory_order_relaxed)
    self.monitor.unfinished += 1


cdef inline size_t place(_QueueCore self, uint64_t i) noexcept:
    """The slot of that item, from the head on."""
    cdef size_t at = self.head + i
    return at if at < self.room else at - self.room


cdef Outcome may_put(_QueueCore self) noexcept:
    """Under the lock: whether there is room for one more, with a slot for it."""
    if self.mode.load(memory_order_relaxed) != PLAIN:
        return MOVED
    if self.closed:
        return SHUT_DOWN
    if length(self) >= self.monitor.capacity:
        return FULL
    if length(self) == self.room and not grow(self, max(FIRST_ROOM, 2 * self.room)):
        return OUT_OF_MEMORY
    return DONE


cdef Py_ssize_t plain_put_many(_QueueCore self, tuple items, object block, object timeout, int64_t deadline) except -1:
    cdef Wait w
    cdef Py_ssize_t n = PyTuple_GET_SIZE(items)
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t i
    cdef PyObject** sources = PySequence_Fast_ITEMS(items)
    cdef Outcome outcome = DONE
    start_wait(&w, 1, deadline)
    for i in range(n):
        Py_INCREF(<object> sources[i])
    try:
        if not make_node(&w):  # now: it could not be reported once something has been put
            raise_no_memory()
        while done < n and outcome == DONE:
            wait_to_act(self, &self.monitor.puts, &w)
            outcome = push_some_and_release(self, sources + done, n - done, &done)
            forget_place(&w)  # others get their turn
    finally:
        drop_node(&w)
        for i in range(done, n):
            Py_DECREF(<object> sources[i])
    if outcome == MOVED:
        # Without a deadline, as of a queue that had no bound, for it may have one by now.
        timeout = finite(timeout) if deadline == FOREVER else seconds_until(deadline)
        return classic.put_many(self, items, done, block, timeout)
    if done == 0:
        raise_put_error(outcome)
    return done


cdef Outcome push_some_and_release(_QueueCore self, PyObject** sources, size_t n, Py_ssize_t* done) noexcept:
    """Move as many as there is room for; their references go with them."""
    cdef Outcome outcome = may_put(self)
    cdef size_t i
    if outcome == DONE:
        n = min(n, self.monitor.capacity - length(self))
        if self.room - length(self) < n and not grow(self, max(2 * self.room, length(self) + n)):
            outcome = OUT_OF_MEMORY
            n = 0
        for i in range(n):
            if not push(self, sources[i]):
                outcome = MOVED
                break
            done[0] += 1
    release(self)
    return outcome


# -- PLAIN: get ---------------------------------------------------------------------------------------------------

cdef object plain_get(_QueueCore self, object block, object timeout):
    cdef Wait w
    cdef PyObject* taken = NULL
    cdef Outcome outcome
    start_wait(&w, 1, get_deadline(self, block, timeout))
    try:
        wait_to_act(self, &self.monitor.gets, &w)
        outcome = pop_and_release(self, &taken)
        if taken == NULL:  # else nothing may run before it is returned
            timeout = left_of(&w, timeout)
    finally:
        drop_node(&w)
    if outcome == DONE:
        return owned(taken)
    if outcome == MOVED:
        return classic.get(self, block, timeout)
    raise_get_error(outcome)


cdef Outcome pop_and_release(_QueueCore self, PyObject** taken) noexcept:
    cdef Outcome outcome = may_get(self)
    if outcome == DONE:
        taken[0] = pop(self)
        if taken[0] == NULL:
            outcome = MOVED
        shrink(self)
    release(self)
    return outcome


cdef inline PyObject* pop(_QueueCore self) noexcept:
    """Under the lock, where there is an item: its reference becomes the caller's. NULL where only Python knows."""
    cdef PyObject* item
    cdef uint64_t rest = length(self) - 1
    if self.order == FIRST_IN:
        return pop_first(self)
    if self.order == LAST_IN:
        item = self.slots[place(self, rest)]
    else:
        item = heap_pop(self.slots, rest + 1)
        if item == NULL:
            return NULL
    self.monitor.count.store(rest, memory_order_relaxed)
    return item


cdef inline PyObject* pop_first(_QueueCore self) noexcept:
    cdef PyObject* item = self.slots[self.head]
    cdef size_t head = self.head + 1
    self.head = head if head != self.room else 0  # a branch: what `place` computes is waited for by the next get
    self.monitor.count.store(length(self) - 1, memory_order_relaxed)
    return item


cdef Outcome may_get(_QueueCore self) noexcept:
    """Under the lock: whether there is an item."""
    if self.mode.load(memory_order_relaxed) != PLAIN:
        return MOVED
    if length(self) > 0:
        return DONE
    return SHUT_DOWN if self.closed else EMPTY


cdef object plain_get_many(_QueueCore self, uint64_t most, uint64_t least, int64_t deadline):
    cdef Wait w
    cdef Outcome outcome = DONE
    start_wait(&w, least, deadline)
    try:
        batch = taken_batch(self, &w, None, most, least, &outcome)
    finally:
        drop_node(&w)
    if outcome == DONE:
        return batch
    if outcome == MOVED:
        return classic.get_more(self, batch, most, least, deadline != 0, seconds_until(deadline))
    raise_get_error(outcome)


cdef list taken_batch(_QueueCore self, Wait* w, LoopWait wait, uint64_t most, uint64_t least, Outcome* outcome):
    """Wait, then take what is there; of a coroutine (`wait`) perhaps QUEUED.

    The list is made before anything is taken: without memory for it, nothing is.
    """
    cdef list batch = None
    cdef uint64_t n
    while True:
        if wait is None:
            wait_to_act(self, &self.monitor.gets, w)
        elif not acquire_later(self, &self.monitor.gets, wait, least):
            outcome[0] = QUEUED
            return None
        n = min(most, length(self))
        if batch is not None or may_get(self) != DONE:
            outcome[0] = pop_some_and_release(self, batch)
            break
        # Not promised meanwhile: the collector, which may run then, may wait for what others could take.
        release(self)
        batch = blank_list(n)
    if batch is not None:
        PyObject_GC_Track(batch)
    return batch


cdef Outcome pop_some_and_release(_QueueCore self, list batch) noexcept:
    """Fill the list with up to its length of items; they are there, unless `may_get` says otherwise.

    MOVED also where only Python can tell which is next, after as many as the list then has.
    """
    cdef Outcome outcome = may_get(self)
    cdef PyObject** targets
    cdef PyObject* item
    cdef uint64_t n
    cdef uint64_t done = 0
    if outcome == DONE:
        n = min(<uint64_t> len(batch), length(self))
        targets = PySequence_Fast_ITEMS(batch)
        while done < n:
            item = pop(self)
            if item == NULL:
                break
            targets[done] = item
            done += 1
        if done < n:
            outcome = MOVED
        shrink(self)
    if batch is not None:
        Py_SET_SIZE(batch, done)
    release(self)
    return outcome


# -- PLAIN: the rest ----------------------------------------------------------------------------------------------

cdef bint plain_join(_QueueCore self, int64_t deadline) except -1:
    """Wait for the tasks; False where the queue is classic, or becomes so."""
    cdef Wait w
    cdef int64_t left
    cdef bint plain
    if is_classic(self):
        return False
    start_wait(&w, 1, deadline)
    try:
        wait_to_act(self, &self.monitor.joins, &w)
        left = self.monitor.unfinished
        plain = self.mode.load(memory_order_relaxed) == PLAIN
        release(self)
    finally:
        drop_node(&w)
    if plain and left != 0:
        raise TimeoutError(f"{left} tasks were left when the timeout came; call `task_done` for each item")
    return plain


cdef void set_closed(_QueueCore self, bint closed) noexcept:
    """Under the lock."""
    self.closed = closed
    if self.mode.load(memory_order_relaxed) == PLAIN:
        self.monitor.shut.store(SHUT if closed else OPEN, memory_order_relaxed)


cdef void release_if_plain(_QueueCore self) noexcept:
    """`release`, but that nobody waits here on a classic queue, of which this is the standard library's code."""
    if self.mode.load(memory_order_relaxed) == CLASSIC:
        self.monitor.slot_lock.unlock()
    else:
        release(self)


cdef void discard_and_release(_QueueCore self) noexcept:
    """Under the lock: remove all items, as if each had been got and done."""
    cdef Slots removed = take_slots(self)
    self.monitor.unfinished -= max(0, min(<int64_t> removed.count, self.monitor.unfinished))
    release(self)
    drop_items(removed)


cdef object get_bound(_QueueCore self):
    cdef PyObject* bound
    self.monitor.slot_lock.lock()
    bound = self.bound
    Py_XINCREF(bound)  # the one reference that is counted under the lock: it runs nothing
    self.monitor.slot_lock.unlock()
    return owned(bound) if bound != NULL else 0


cdef int set_bound(_QueueCore self, object maxsize, uint64_t limit) except -1:
    cdef PyObject* before
    Py_INCREF(maxsize)
    self.monitor.slot_lock.lock()
    before = self.bound
    self.bound = <PyObject*> maxsize
    self.monitor.capacity = limit
    # A call that waits for more than is allowed now is content with a full queue, or an empty one.
    limit_needs(self.monitor.gets.waiters.head, limit)
    limit_needs(self.monitor.puts.waiters.head, limit)
    release(self)
    Py_XDECREF(before)
    return 0


cdef bint start_plain(_QueueCore self) except -1:
    """An empty, open queue; False where it is classic, or becomes so.

    A thread that waits goes on waiting, but the tasks are forgotten.
    """
    cdef Slots removed
    self.monitor.slot_lock.lock()
    if self.mode.load(memory_order_relaxed) >= CONVERTING:
        self.monitor.slot_lock.unlock()
        return False
    removed = take_slots(self)
    self.monitor.unfinished = 0
    self.closed = False
    self.monitor.shut.store(OPEN, memory_order_relaxed)
    self.mode.store(PLAIN)
    release(self)
    drop_items(removed)
    return True


# -- slots --------------------------------------------------------------------------------------------------------

cdef Slots take_slots(_QueueCore self) noexcept:
    """Under the lock: take all items away, for `drop_items` once it is released."""
    cdef Slots taken
    taken.at, taken.room, taken.head, taken.count = self.slots, self.room, self.head, length(self)
    self.slots = NULL
    self.room = self.head = 0
    self.monitor.count.store(0, memory_order_relaxed)
    return taken


cdef inline uint64_t length(_QueueCore self) noexcept nogil:
    return self.monitor.count.load(memory_order_relaxed)


cdef bint grow(_QueueCore self, size_t room) noexcept:
    """Under the lock: have more slots; False where there is no memory for them."""
    cdef size_t behind = self.room - self.head  # slots from the head to the old end
    cdef PyObject** slots = NULL
    if room <= (<size_t> -1 >> 1) // sizeof(PyObject*):
        slots = <PyObject**> PyMem_RawRealloc(self.slots, room * sizeof(PyObject*))
    if slots == NULL:
        return False
    if self.head + length(self) > self.room:  # the items go around the old end: move their first part to the new
        memmove(slots + room - behind, slots + self.head, behind * sizeof(PyObject*))
        self.head = room - behind
    self.slots, self.room = slots, room
    return True


cdef void shrink_to(_QueueCore self, size_t room) noexcept:
    """Under the lock: have fewer slots, at least one an item. Where the memory cannot be had, they stay."""
    cdef uint64_t count = length(self)
    cdef size_t behind = self.room - self.head
    cdef PyObject** slots
    if self.head + count <= self.room:
        memmove(self.slots, self.slots + self.head, count * sizeof(PyObject*))
        self.head = 0
    else:
        memmove(self.slots + room - behind, self.slots + self.head, behind * sizeof(PyObject*))
        self.head = room - behind
    # In place, as a rule: on what is left of these pages the next items cause no page fault.
    slots = <PyObject**> PyMem_RawRealloc(self.slots, room * sizeof(PyObject*))
    if slots != NULL:
        self.slots = slots
    self.room = room


cdef size_t kept(_QueueCore self) noexcept nogil:
    """How many slots a queue keeps that has none to fill."""
    cdef uint64_t capacity = self.monitor.capacity
    return FIRST_ROOM if capacity == UNBOUNDED else max(FIRST_ROOM, min(capacity, KEPT))


cdef void shrink(_QueueCore self) noexcept:
    """Under the lock: give slots back where too many are empty."""
    cdef uint64_t count = length(self)
    if self.room > max(kept(self), 2 * count + SPARE):
        shrink_to(self, max(kept(self), count + count // 2))


# -- references and lists ----------------------------------------------------------------------------------------------

cdef bint appended(object append, PyObject* item) noexcept:
    cdef PyObject* result = PyObject_CallOneArg(<PyObject*> append, item)
    if result == NULL:
        PyErr_Clear()
        return False
    Py_DECREF(<object> result)
    return True


cdef list blank_list(uint64_t n):
    """A list to fill; not yet for the collector to show, since its slots are NULL."""
    batch = PyList_New(n)
    PyObject_GC_UnTrack(batch)
    return batch


def _made_list(tuple items, uint64_t room):
    """For `borrowed`."""
    batch = blank_list(room)
    targets = PySequence_Fast_ITEMS(batch)
    known = PyObject_GC_IsTracked(batch)
    for i, item in enumerate(items):
        Py_INCREF(item)
        targets[<Py_ssize_t> i] = <PyObject*> item
    Py_SET_SIZE(batch, len(items))
    if not known:
        PyObject_GC_Track(batch)
    return known, batch


cdef inline object owned(PyObject* item):
    """The object, with the reference that the slot had."""
    taken = <object> item
    Py_DECREF(taken)
    return taken


# -- the protocol -------------------------------------------------------------------------------------------------

cdef int wait_to_act(_QueueCore self, Side* side, Wait* w) except -1:
    """Wait until the caller may act, and return with the lock held.

    It may act where there is what it needs, its time is over, or the queue is shut down or classic (either of which
    shuts the monitor); it looks which.
    """
    if not may_act(self, side, w):
        wait_slowly(self, side, w)
    return 0


cdef bint may_act(_QueueCore self, Side* side, Wait* w) noexcept:
    """LOOK; True with the lock held."""
    lend_attached()
    self.monitor.slot_lock.lock()
    if NO_GIL:
        ran_here(side)
    if ready(&self.monitor, side, w):
        begins(&self.monitor, LOOK)  # not before: what is not recorded must leave no step to the next section
        return True
    self.monitor.slot_lock.unlock()
    return False


cdef int wait_slowly(_QueueCore self, Side* side, Wait* w) except -1:
    """`wait_to_act` of a caller that could not act at once."""
    cdef Outcome outcome
    if w.node == NULL and is_patched():
        convert(self)
    elif w.deadline == TOO_FAR:
        raise_too_far()
    elif w.deadline == FOREVER and is_ending():
        classic.raise_at_the_end()
    while True:
        lend_attached()
        outcome = acquire(&self.monitor, side, w)
        if outcome == DONE:
            return 0
        if outcome != TICKED:
            raise_no_memory()
        PyErr_CheckSignals()


cdef bint acquire_later(_QueueCore self, Side* side, LoopWait wait, uint64_t need) except -1:
    """`wait_to_act` of a coroutine; or False, without the lock, where it has been queued."""
    wait.w.need = need
    if wait.w.node == NULL:
        if may_act(self, side, &wait.w):  # at once: then it needs no loop
            return True
        wait.start(self, &self.monitor, side, need)
    wait.expect()
    return acquire(&self.monitor, side, &wait.w) == DONE


cdef void release(_QueueCore self) noexcept:
    """Unlock. Every unlock after a change goes through here: this is what keeps wake-ups from being lost.

    Only the fast paths do without: they are closed while somebody is queued.
    """
    if DEBUG or somebody_waits(&self.monitor):
        settle_and_unlock(&self.monitor)
    else:
        retune(self)
        self.monitor.slot_lock.unlock()


cdef void retune(_QueueCore self) noexcept nogil:
    """Under the lock, before each unlock: open the fast paths, or close them."""
    if is_open(self):
        self.put_below = min(self.monitor.capacity, self.room)
        self.get_above = (self.room - SPARE) // 2 if self.room > max(kept(self), SPARE) else 0
    else:
        self.put_below = 0
        self.get_above = UINT64_MAX
    if DEBUG:
        insist(queue_fault(self))


cdef void record_fast(_QueueCore self) noexcept:
    """Debug builds, under the lock: a fast path did something."""
    begins(&self.monitor, FAST)
    record(&self.monitor)


cdef inline bint is_open(_QueueCore self) noexcept nogil:
    """Under the lock: whether the fast paths may be open."""
    return not (
        self.mode.load(memory_order_relaxed) != PLAIN
        or self.closed
        or self.monitor.puts.waiters.head != NULL
        or self.monitor.gets.waiters.head != NULL
    )


cdef const char* queue_fault(_QueueCore self) noexcept nogil:
    """Under the lock: which invariant does not hold, or NULL."""
    cdef uint64_t count = length(self)
    if count > self.room or (self.room != 0 and self.head >= self.room):
        return "Q1: the items fit the slots"
    if self.head != 0 and self.order == SMALLEST:
        return "Q1: a heap begins at slot 0"
    if (self.put_below != 0 or self.get_above != UINT64_MAX) and not is_open(self):
        return "Q2: fast paths are closed where somebody waits"
    if self.put_below > min(self.room, self.monitor.capacity):
        return "Q2: a fast put has room"
    if self.monitor.unfinished == 0 and self.monitor.joins.waiters.head != NULL:
        return "Q3: nobody waits for what is done"
    return monitor_fault(&self.monitor)


# -- looks --------------------------------------------------------------------------------------------------------

cdef bint lock_plain(_QueueCore self) except -1:
    """Take the lock of a PLAIN queue; False, without it, where the queue is classic."""
    recheck(self)
    self.monitor.slot_lock.lock()
    if self.mode.load(memory_order_relaxed) == PLAIN:
        return True
    self.monitor.slot_lock.unlock()
    must_be_ready(self)
    return False


cdef bint is_empty(_QueueCore self) except -1:
    cdef bint empty
    if not lock_plain(self):
        return standard.Queue.empty(self)
    empty = length(self) == 0
    self.monitor.slot_lock.unlock()
    return empty


cdef bint is_closed(_QueueCore self) noexcept:
    cdef bint closed
    self.monitor.slot_lock.lock()
    closed = self.closed
    self.monitor.slot_lock.unlock()
    return closed


# -- the class ----------------------------------------------------------------------------------------------------

cdef inline bint is_as_known(_QueueCore self) noexcept:
    """Whether nobody has changed the class since."""
    return self.version.load(memory_order_relaxed) == version_of(<PyObject*> self)


cdef bint is_classic(_QueueCore self) except -1:
    must_be_ready(self)
    recheck(self)
    return self.mode.load() == CLASSIC


cdef inline int recheck(_QueueCore self) except -1:
    if not is_as_known(self):
        look_at_class(self)
    return 0


cdef int look_at_class(_QueueCore self) except -1:
    """Which order it has, and whether its `put` and `get` are those of `Queue`.

    A plain queue becomes classic where its class has another order than before.
    """
    cdef unsigned int version
    cdef int before
    cdef int order
    cdef bint direct
    while True:
        version = version_of(<PyObject*> self)
        order, direct = nature_of(type(self), version)  # which gives the class a version, if it has none
        if version == version_of(<PyObject*> self):
            break
    self.monitor.slot_lock.lock()
    before = self.order
    self.monitor.slot_lock.unlock()
    if order != before and self.mode.load() != NEW:
        convert(self)
        order = HOOKED
    self.monitor.slot_lock.lock()
    self.order = order
    self.version.store(version if version != 0 else UNKNOWN)  # no version: the class has been changed too often
    self.direct.store(direct and not self.own_calls)
    self.monitor.slot_lock.unlock()
    return 0


cdef int set_attribute(_QueueCore self, name, PyObject* value) except -1:
    if name in HOOKS and value != NULL:
        if self.mode.load() != NEW:
            convert(self)
        self.own_hooks = True
    PyObject_GenericSetAttr(self, name, value)
    if name == "put" or name == "get":
        self.own_calls = "put" in self.__dict__ or "get" in self.__dict__
        look_at_class(self)
    return 0


# -- waits --------------------------------------------------------------------------------------------------------

cdef int64_t put_deadline(_QueueCore self, object block, object timeout) except? -2:
    """The deadline of a put, with the standard library's order of errors."""
    cdef bint bounded
    cdef bint closed
    must_be_ready(self)
    self.monitor.slot_lock.lock()
    bounded = self.monitor.capacity != UNBOUNDED
    closed = self.closed
    self.monitor.slot_lock.unlock()
    if closed:
        raise ShutDown
    return deadline_of(block, timeout) if bounded else FOREVER


cdef int64_t get_deadline(_QueueCore self, object block, object timeout) except? -2:
    """The deadline of a get, with the standard library's order of errors."""
    must_be_ready(self)
    if is_closed(self) and is_empty(self):
        raise ShutDown
    return deadline_of(block, timeout)


cdef int must_be_ready(_QueueCore self) except -1:
    if self.mode.load() == NEW:
        raise AttributeError(
            f"{type(self).__name__}.__init__ has not been called; call super().__init__(maxsize) first"
        )
    return 0


# -- CLASSIC: see `classic.py` ------------------------------------------------------------------------------------

cdef int have_locks(_QueueCore self) except -1:
    """Make the mutex and its conditions, unless they are there."""
    cdef _Mutex mutex
    if self.has_locks.load():
        return 0
    mutex = _Mutex(self)
    not_empty = classic.NotEmpty(mutex)
    not_full, all_tasks_done = classic.Condition(mutex), classic.Condition(mutex)
    for condition in (not_empty, not_empty.enough, not_full, all_tasks_done):
        mutex.waiters.append(condition._waiters)
    self.monitor.slot_lock.lock()
    if self.own_mutex is None:  # what stood there is None, so that nothing ends here
        self.own_not_empty, self.own_not_full, self.own_all_tasks_done = not_empty, not_full, all_tasks_done
        self.own_mutex = mutex
        self.has_locks.store(1)
    self.monitor.slot_lock.unlock()
    return 0


cdef int start_classic(_QueueCore self, object maxsize) except -1:
    """An empty, open queue on the standard algorithm."""
    have_locks(self)
    if self.mode.load() == NEW:
        self.monitor.slot_lock.lock()
        self.mode.store(CLASSIC)
        shut(&self.monitor, ENDED)
        release(self)
    self._init(maxsize)
    classic.start(self)
    return 0


cdef int convert(_QueueCore self) except -1:
    """Make a PLAIN queue CLASSIC, for good. A thread that waits goes on waiting, on the conditions."""
    cdef _Mutex mutex
    must_be_ready(self)
    have_locks(self)
    mutex = self.own_mutex
    while self.mode.load() != CLASSIC:
        if self.mode.load() == CONVERTING and self.converter == forks:
            if mutex.take(True, SIGNAL_TICK):  # its holder converts the queue, and cannot be stopped before it has
                mutex.release()
            continue
        # What follows allocates, and what the collector then runs may convert this very queue.
        container = deque() if self.order == FIRST_IN else []
        append = container.append
        mutex.take(True, -1)
        try:  # no `with`: Cython's ends the process where there is no memory for a traceback
            move(self, container, append)
        finally:
            mutex.release()
    return 0


cdef int move(_QueueCore self, object container, object append) except -1:
    """Fill the container with the items, if the queue is PLAIN still. Nothing of Python runs in between.

    (Both containers take their memory without the collector's knowing.)
    """
    cdef Slots moved
    cdef bint filled
    self.monitor.slot_lock.lock()
    if self.mode.load(memory_order_relaxed) == CLASSIC:
        self.monitor.slot_lock.unlock()
        return 0
    _before, self.items = self.items, container  # nothing ends until the lock is free
    self.converter = forks
    self.mode.store(CONVERTING)
    release(self)  # from here on nobody else touches the slots
    filled = fill(self, append)
    moved.at = NULL
    moved.count = 0
    self.monitor.slot_lock.lock()
    if filled:
        moved = take_slots(self)
        shut(&self.monitor, ENDED)  # ends the waiting here
        self.mode.store(CLASSIC)
    else:
        self.items = None
        self.mode.store(PLAIN)
        set_closed(self, self.closed)  # it may have changed meanwhile, and what waits here has not been told
    release(self)
    drop_items(moved)
    if not filled:
        raise MemoryError("no memory for what was asked for; the queue is as it was")
    return 0


cdef bint fill(_QueueCore self, object append) noexcept:
    """Append all items; False where there is no memory. No error is made: that would allocate."""
    cdef uint64_t i
    for i in range(length(self)):
        if not appended(append, self.slots[place(self, i)]):
            return False
    return True


cdef object classic_get_later(_QueueCore self, LoopWait wait, uint64_t least, uint64_t most):
    expect_classic(self, wait)
    result = classic.get_many_later(self, wait, most, least)
    return NOT_YET if result is QUEUED_THERE else result


cdef int expect_classic(_QueueCore self, LoopWait wait) except -1:
    """Before the mutex is taken: what Python runs, so that it may have to wait."""
    if wait.w.node == NULL:
        wait.start(self, NULL, NULL, 0)
    elif wait.withdraw == NULL:  # it waited here while the queue was PLAIN
        withdraw(&self.monitor, &wait.w)
    wait.withdraw = withdraw_classic
    return wait.expect()

cdef object seconds_until(int64_t deadline):
    return None if deadline == FOREVER else max(0, deadline - now_ns()) * 1e-9


cdef object finite(object timeout):
    """What the standard library cannot wait for waits for ever: infinity, and what is not a number."""
    if timeout is None or type(timeout) is int:
        return timeout
    try:
        seconds = 0.0 + timeout
    except Exception:  # which the standard algorithm says itself, where it looks at the timeout
        return timeout
    return None if seconds == math.inf or seconds != seconds else timeout


cdef object left_of(Wait* w, object timeout):
    """The timeout of a call that goes on elsewhere: what is left of it where it has waited, else as it was given."""
    return finite(timeout) if w.node == NULL else seconds_until(w.deadline)


cdef bint is_patched() except -1:
    """Whether somebody has replaced what the standard algorithm waits with, which then is to be called."""
    return type(standard.module.time) is not BuiltinFunctionType or Condition.wait is not waits


include "awaited.pxi"


# -- the collector ------------------------------------------------------------------------------------------------
#
# Cython knows the fields that are Python objects; the slots are ours to visit and to clear.

cdef traverseproc visit_fields
cdef inquiry clear_fields


cdef int visit_items(_QueueCore self, visitproc visit, void* arg) noexcept:
    cdef int stop = visit_fields(<PyObject*> self, visit, arg)
    cdef size_t _
    cdef size_t at = self.head
    if stop == 0 and self.bound != NULL:
        stop = visit(self.bound, arg)
    for _ in range(length(self)):
        if stop != 0:
            return stop
        stop = visit(self.slots[at], arg)
        at = at + 1 if at + 1 != self.room else 0
    return stop


cdef int clear_items(_QueueCore self) noexcept:
    """The counters follow at once: what is garbage together with the queue may still use it."""
    cdef PyObject* bound
    self.monitor.slot_lock.lock()
    bound = self.bound
    self.bound = NULL
    discard_and_release(self)
    Py_XDECREF(bound)
    return clear_fields(<PyObject*> self)


cdef void drop_items(Slots slots) noexcept:
    """Let go of items that nobody else sees any more. Runs whatever their __del__ does."""
    cdef uint64_t _
    for _ in range(slots.count):
        Py_DECREF(<object> slots.at[slots.head])
        slots.head = slots.head + 1 if slots.head + 1 != slots.room else 0
    PyMem_RawFree(slots.at)


include "fast.pxi"


# -- the classes --------------------------------------------------------------------------------------------------

class Queue(_QueueCore, standard.Queue):
    """A first-in, first-out queue of any objects, for any number of producer and consumer threads.

    All of Python 3.13's `queue.Queue` on every Python, `put_many`, `get_many` and `clear`, and methods for coroutines.
    The documentation lists every difference.

    Parameters
    ----------
    maxsize : int
        How many items it holds at most; 0 or less: no bound. May be changed later.

    Notes
    -----
    Every method may be called from any thread, with or without the GIL, also by an item's ``__del__``. Waiting never
    holds the GIL. Timeouts are looked at as the standard library does it, infinity apart, which waits for ever.

    An unbounded queue grows by doubling, and gives memory back as it drains: it holds at most 16 bytes an item and
    1 KiB.

    A subclass that overrides ``_init``, ``_qsize``, ``_put`` or ``_get`` has the standard library's algorithm, by the
    standard library's own code, and so has a queue from the moment on at which somebody acquires its ``mutex``, waits
    on or notifies ``not_empty``, ``not_full`` or ``all_tasks_done``, or changes ``queue`` (`is_converted`). That one is
    slower, and a ``__del__`` that comes amid an operation of its own thread cannot use it (RuntimeError; with the
    standard library's lock it would wait for ever).

    Examples
    --------
    >>> import f1buf as queue
    >>> q = queue.Queue(maxsize=2)
    >>> q.put("lap 1")
    >>> q.put_many(["lap 2", "lap 3"], block=False)
    1
    >>> q.get()
    'lap 1'
    """

    __module__ = "f1buf"


class LifoQueue(Queue, standard.LifoQueue):
    """A `Queue` that returns the newest item first.

    Examples
    --------
    >>> from f1buf import LifoQueue
    >>> q = LifoQueue()
    >>> q.put_many("abc")
    3
    >>> q.get(), q.get_many()
    ('c', ['b', 'a'])
    """

    __module__ = "f1buf"

    @cython.binding(True)
    def _init(self, maxsize):
        self.queue = []

    @cython.binding(True)
    def _qsize(self):
        return self._length()

    @cython.binding(True)
    def _put(self, item):
        self.queue.append(item)

    @cython.binding(True)
    def _get(self):
        return self.queue.pop()


class PriorityQueue(Queue, standard.PriorityQueue):
    """A `Queue` that returns the smallest item first.

    Parameters
    ----------
    maxsize : int
        As of a `Queue`.

    Notes
    -----
    Items are compared; they are typically ``(priority, data)``. Where that raises, no item is lost: one that is being
    put stays out, one that is being got stays in.

    It is as fast as can be while it compares what runs no Python: ints, floats, str, bytes, tuples of these up to the
    first pair that differs, and subclasses of them that do not override the comparison. From the first comparison on
    that is another one it has the standard library's algorithm (`is_converted`).

    The algorithm is that of a binary heap, as in `heapq`: items that are equal come out in the same order as there.

    Examples
    --------
    >>> from f1buf import PriorityQueue
    >>> q = PriorityQueue()
    >>> q.put_many([3, 1, 2])
    3
    >>> q.get(), q.get()
    (1, 2)
    """

    __module__ = "f1buf"

    @cython.binding(True)
    def _init(self, maxsize):
        self.queue = []

    @cython.binding(True)
    def _qsize(self):
        return self._length()

    @cython.binding(True)
    def _put(self, item):
        push_compared(self.queue, item)

    @cython.binding(True)
    def _get(self):
        return pop_compared(self.queue)


# As `heapq`, and as `heap.hpp`: all comparisons first, so that where one raises the heap is what it was.

@cython.boundscheck(True)
cdef int push_compared(list heap, object item) except -1:
    cdef Py_ssize_t count = len(heap)
    cdef Py_ssize_t place = count
    cdef Py_ssize_t at = count
    while place > 0 and bool(item < heap[(place - 1) // 2]):
        insist_on_length(heap, count)
        place = (place - 1) // 2
    insist_on_length(heap, count)
    heap.append(item)
    while at > place:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[place] = item
    return 0


@cython.boundscheck(True)
cdef object pop_compared(list heap):
    cdef Py_ssize_t[65] way  # as many levels as there can be
    cdef Py_ssize_t depth = 0
    cdef Py_ssize_t count = len(heap)
    cdef Py_ssize_t child = 1
    cdef Py_ssize_t i
    if count == 0:
        raise IndexError("index out of range")
    last = heap[count - 1]
    way[0] = 0
    while child < count - 1:
        if child + 1 < count - 1 and not heap[child] < heap[child + 1]:
            child += 1
        insist_on_length(heap, count)
        depth += 1
        way[depth] = child
        child = 2 * child + 1
    while depth > 0 and bool(last < heap[way[depth]]):
        insist_on_length(heap, count)
        depth -= 1
    insist_on_length(heap, count)
    smallest = heap[0]
    for i in range(depth):
        heap[way[i]] = heap[way[i + 1]]
    heap[way[depth]] = last
    heap.pop()
    return smallest


cdef int insist_on_length(list heap, Py_ssize_t count) except -1:
    if len(heap) != count:
        raise RuntimeError("a comparison of two items has changed the queue that they are in")
    return 0


cdef int set_up() except -1:
    """Once, before there is an instance."""
    global queue_type, visit_fields, clear_fields, other_put, other_get
    cdef PyTypeObject* core = <PyTypeObject*> _QueueCore
    queue_type = <PyTypeObject*> <PyObject*> Queue
    visit_fields, clear_fields = core.tp_traverse, core.tp_clear
    core.tp_traverse, core.tp_clear = <traverseproc> visit_items, <inquiry> clear_items
    other_put, other_get = put_on_heap, get_last_or_smallest
    install(0, "put", fast_put, &method_put)
    install(1, "get", fast_get, &method_get)
    install(2, "put_nowait", fast_put_nowait, &method_put_nowait)
    install(3, "get_nowait", fast_get_nowait, &method_get_nowait)
    for order, cls in ((FIRST_IN, Queue), (LAST_IN, LifoQueue), (SMALLEST, PriorityQueue)):
        ORDERS.append((hooks_of(cls), order))
    CALLS.extend([Queue.put, Queue.get])
    for name, function in functions_of(coroutines.Queue).items():
        setattr(Queue, name, function)
    return 0


# -- arguments, errors --------------------------------------------------------------------------------------------

cdef list ORDERS = []   # hooks, of which each class has others, and its order
cdef list CALLS = []    # `Queue.put` and `Queue.get`
cdef dict NATURES = {}  # of versions of classes


cdef list hooks_of(object cls):
    return [cls._init, cls._qsize, cls._put, cls._get]


cdef bint same(list ones, list others) except -1:
    for i, one in enumerate(ones):
        if one is not others[i]:
            return False
    return True


cdef tuple nature_of(object cls, unsigned int version):
    """The order of that version of a class, and whether its put and get are those of `Queue`."""
    nature = NATURES.get(version)
    if nature is None:
        for name in ATTRIBUTES:
            if getattr(cls, name) is not getattr(_QueueCore, name):
                raise TypeError(
                    f"{cls.__name__}.{name} hides the attribute of that name that every queue has; rename it"
                )
        order = HOOKED
        for hooks, one in ORDERS:
            if same(hooks, hooks_of(cls)):
                order = one
        nature = order, same([cls.put, cls.get], CALLS)
        if version != 0:
            if len(NATURES) > 1000:
                NATURES.clear()
            NATURES[version] = nature
    return nature


cdef tuple batch_limits(object max_count, object min_count):
    """The least and the most of a batch to get."""
    least = as_count(min_count, "min_count", 1)
    most = INT64_MAX if max_count is None else as_count(max_count, "max_count", 0)
    if least > most and max_count is not None:
        raise ValueError(f"min_count is {least}; expected at most max_count, which is {most}")
    return min(least, INT64_MAX), min(most, INT64_MAX)


cdef object limit_of(object maxsize):
    """The bound, as an integer; UNBOUNDED for none. (An infinite one is a bound, for what is checked of a timeout.)"""
    try:
        if not maxsize > 0:
            return UNBOUNDED
        return UNBOUNDED - 1 if maxsize >= UNBOUNDED else math.ceil(maxsize)
    except (TypeError, ValueError):
        raise TypeError(
            f"maxsize is {maxsize!r}; expected how many items the queue may hold, or 0 for no bound"
        ) from None


cdef int64_t deadline_of(object block, object timeout) except? -2:
    """The absolute deadline [ns] of a call: 0 for one that must not wait, FOREVER without a timeout.

    What it refuses, and where, is what the standard library refuses; as there, one that is not a number waits for
    ever, and one that is too long is an error only if the call must wait (TOO_FAR).
    """
    cdef double seconds
    if not block:
        return 0
    if timeout is None:
        return FOREVER
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    if type(timeout) is float or type(timeout) is int:
        seconds = timeout
    else:  # anything that can be added to a time, and nothing else
        end = monotonic() + timeout
        seconds = end - monotonic()
    if seconds <= 0.0:
        return 0
    if seconds > TIMEOUT_MAX and seconds < math.inf:
        return TOO_FAR
    return FOREVER if isnan(seconds) else deadline_in(seconds)


cdef int64_t checked_deadline(int64_t deadline) except? -2:
    """For calls of several items, which cannot raise once they have begun."""
    if deadline == TOO_FAR:
        raise_too_far()
    return deadline


cdef int raise_too_far() except -1:
    raise OverflowError("timeout value is too large")


cdef int raise_amid_itself() except -1:
    raise RuntimeError(
        "this thread is amid an operation of this very queue, which called a hook, an item's __del__ or a signal "
        "handler: using the queue there would wait for itself; use it afterwards"
    )


cdef int raise_no_memory() except -1:
    raise MemoryError("no memory to wait; the queue is as it was")


cdef int raise_put_error(Outcome outcome) except -1:
    if outcome == FULL:
        raise Full
    if outcome == SHUT_DOWN:
        raise ShutDown
    raise MemoryError("no memory for more items; the queue is as it was")


cdef int raise_get_error(Outcome outcome) except -1:
    if outcome == SHUT_DOWN:
        raise ShutDown
    raise Empty


check_list(_made_list)
set_up()
