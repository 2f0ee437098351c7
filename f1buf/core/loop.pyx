# distutils: language = c++
"""How coroutines wait in the same lists as threads: each event loop has a bell.

A coroutine that cannot act at once is queued (`sync.acquire_later`) with a node whose wake-up pushes it to its loop's
list, and, where that was empty, writes to an eventfd that the loop polls: one system call for however many are woken
before the loop looks. No thread waits for it, and no GIL is needed to wake it. In the loop the `LoopBell` then resolves
the futures that the coroutines await; they go on, leave the list of waiters and look again, as threads do. Where there
is something to do, a coroutine does it at once, without a look at the loop; but see `is_due`.

What was promised to a coroutine must not stay with it. Where it is cancelled it is withdrawn, and what it had been
granted goes to the next. Where its loop is closed, the loop lets go of the `LoopBell`, to which nothing else refers,
and that withdraws all that wait there. A loop that is stopped, or busy, keeps its promises meanwhile.

A node that has been granted is about to be pushed by the thread that granted it. So the last of three gives it back to
the pool: that thread, the loop, or the coroutine's end (`Waiter.rung`, `Waiter.coroutine`, under the bell's mutex,
under which nothing of Python runs).

"Loop" means asyncio's, uvloop's and the like, and trio's run as well. `f1buf.core.trio.Run` gives a run of trio the few
methods of a loop that are used here: a future that trio's tasks can await, and a system task of the run that polls the
bell's eventfd, in place of a reader. The bell goes with that task, when the run ends. What runs here is looked up where
a coroutine must wait, or pause, and not before: importing f1buf, or taking what is there, imports neither.

What a coroutine function of `coroutines` awaits is an `Attempt`: it acts at once, or makes the compiled coroutine that
waits. Calling the coroutine function changes nothing: Python may run signal handlers after that call, and they find
nothing to lose. Only awaiting the `Attempt` acts, and its result goes straight to the caller.
"""

import sys
import weakref

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport ENOSYS, errno
from libc.stdint cimport int64_t, uint64_t

from f1buf.core.sync cimport (
    DONE, FOREVER, QUEUED,
    Bell, Monitor, Outcome, Side, Waiter,
    forks, give_back, lend_attached, now_ns, start_wait, take_node, withdraw,
)

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/eventfd.h>
    #include <unistd.h>
    #endif

    namespace f1buf {
    #if defined(__linux__)
    inline int open_bell() noexcept { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
    inline void close_bell(int file) noexcept { close(file); }
    inline void ring(int file) noexcept {  // cannot fail: the file is open, and its counter far from full
      const std::uint64_t one = 1;
      if (write(file, &one, sizeof one) < 0) return;
    }
    inline void silence(int file) noexcept {
      std::uint64_t count;
      if (read(file, &count, sizeof count) < 0) return;
    }
    #else
    inline int open_bell() noexcept { errno = ENOSYS; return -1; }
    inline void close_bell(int) noexcept {}
    inline void ring(int) noexcept {}
    inline void silence(int) noexcept {}
    #endif
    }  // namespace f1buf
    """
    int open_bell "f1buf::open_bell"() noexcept nogil
    void close_bell "f1buf::close_bell"(int) noexcept nogil
    void ring "f1buf::ring"(int) noexcept nogil
    void silence "f1buf::silence"(int) noexcept nogil
    Bell* new_bell "new (std::nothrow) f1buf::Bell"() noexcept nogil

cdef extern from *:
    """
    struct f1buf_tally_of_thread {
      int operations;       // of coroutines, since it was looked at the clock
      std::int64_t paused;  // [ns] when one let the loop run
    };
    static thread_local f1buf_tally_of_thread f1buf_tally = {0, 0};
    """
    cppclass Tally "f1buf_tally_of_thread":
        int operations
        int64_t paused
    Tally tally "f1buf_tally"

cdef int64_t PAUSE_NS = 1_000_000
# Of each loop a weak reference to its LoopBell. Each loop looks for its own, so that a lock is not needed; a finalizer
# that comes in between and waits on the same loop makes a second bell, which rings as well.
cdef object bells = weakref.WeakKeyDictionary()

cdef object PAUSE  # awaited, it lets the loop run once
NOT_YET = object()


cdef class _Pause:
    def __await__(self):
        run = running_trio()
        return _pause() if run is None else run.checkpoint()


def _pause():
    """What asyncio's tasks take for "again in the loop's next round"; driven otherwise, a coroutine goes on."""
    if running_asyncio() is not None:
        yield


PAUSE = _Pause()


cdef object running_trio():
    """The `trio.Run` of the trio task that runs here, or None. (Importing f1buf does not import trio.)"""
    if "trio" not in sys.modules:
        return None
    from f1buf.core.trio import current_run
    return current_run()


cdef object running_asyncio():
    """asyncio's loop that runs here, or None. Looked up anew each time: trio-asyncio puts its own function there."""
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)  # importing f1buf does not import asyncio
    return None if find is None else find()


cdef object running_loop():
    """Trio first: in its guest mode asyncio's loop, too, runs in the thread."""
    loop = running_trio()
    if loop is None:
        loop = running_asyncio()
    if loop is None:
        raise RuntimeError(
            "this coroutine may have to wait, and neither an event loop of asyncio nor a run of trio runs here; await "
            "it in one of these, or call the method for threads"
        )
    return loop


cdef bint is_due() noexcept:
    """Whether it is time to let the loop run, of an operation that has not done anything yet.

    Where threads bring more and more, a coroutine that always finds something would never wait, and stop its whole
    loop: timeouts, other coroutines, Ctrl-C. So one operation in 32 looks whether a millisecond has gone by.
    """
    cdef int64_t now
    tally.operations += 1
    if tally.operations < 32:
        return False
    tally.operations = 0
    now = now_ns()
    if now - tally.paused < PAUSE_NS:
        return False
    tally.paused = now
    return True


cdef class LoopBell:
    """One event loop's: what it calls where its file is readable. Only the loop refers to it."""

    cdef Bell* bell
    cdef set waits
    cdef long made_after     # how many `forks` lay behind the process that made it
    cdef object __weakref__

    def __cinit__(self):
        self.waits = set()
        self.made_after = forks
        self.bell = new_bell()
        if self.bell == NULL:
            raise MemoryError("no memory to wait on this event loop")
        self.bell.file = open_bell()
        if self.bell.file < 0:
            if errno == ENOSYS:
                raise NotImplementedError("coroutines can only wait where there is eventfd: on Linux; use threads")
            PyErr_SetFromErrno(OSError)

    def __call__(self):
        """Resolve the futures of those that have been woken: all, also where a signal handler raises meanwhile."""
        cdef PyObject* woken
        raised = None
        silence(self.bell.file)
        woken = answer(self.bell, False)
        while woken != NULL:
            wait = taken_from(&woken)
            try:
                wait.notify()
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def __del__(self):
        """The loop is closed. (In the child of a fork the bell is the parent's, and its mutex may be left taken.)"""
        cdef PyObject* woken = NULL
        if self.bell == NULL:
            return
        if self.made_after == forks:
            woken = answer(self.bell, True)
        while woken != NULL:
            taken_from(&woken)
        for wait in list(self.waits):
            end_for_good(wait)

    def __dealloc__(self):
        if self.bell != NULL:
            drop_bell(self.bell)


cdef PyObject* answer(Bell* bell, bint dead) noexcept:
    """The coroutines woken since, first come first, each with a reference; for `taken_from`. Free nodes without one."""
    cdef Waiter* node
    cdef Waiter* next
    cdef Waiter* orphans = NULL
    cdef PyObject* first = NULL
    bell.mutex.lock()
    bell.dead = dead
    node = bell.woken
    bell.woken = NULL
    while node != NULL:
        next = node.next
        if node.coroutine == NULL:
            node.next, orphans = orphans, node
        else:
            node.rung = True  # from here on the node may go at any time; its LoopWait is in `waits`, so there
            first = chained(<PyObject*> node.coroutine, first)
        node = next
    bell.mutex.unlock()
    while orphans != NULL:
        node, orphans = orphans, orphans.next
        free_node(node)
    return first


cdef inline PyObject* chained(PyObject* wait, PyObject* following) noexcept:
    Py_INCREF(<object> wait)
    (<LoopWait> wait).following = following
    return wait


cdef inline LoopWait taken_from(PyObject** chain):
    """The first, out of the chain."""
    wait = <LoopWait> chain[0]
    chain[0] = wait.following
    Py_DECREF(wait)
    return wait


cdef void ring_bell(void* arg) noexcept nogil:
    """`Waiter.wake` of a coroutine: at most once for each time that it is queued."""
    cdef Waiter* node = <Waiter*> arg
    cdef Bell* bell = node.bell
    cdef bint orphan
    bell.references.fetch_add(1)  # once the mutex is free the node may be gone, and its reference
    bell.mutex.lock()
    orphan = node.coroutine == NULL
    if bell.dead:
        node.rung = True
    elif not orphan:
        node.next = bell.woken
        bell.woken = node
        if node.next == NULL:
            ring(bell.file)
    bell.mutex.unlock()
    if orphan:
        free_node(node)
    drop_bell(bell)


cdef void free_node(Waiter* node) noexcept nogil:
    cdef Bell* bell = node.bell
    node.bell = NULL
    node.coroutine = NULL
    node.rung = False
    give_back(node)
    drop_bell(bell)


cdef void drop_bell(Bell* bell) noexcept nogil:
    if bell.references.fetch_sub(1) == 1:
        if bell.file >= 0:
            close_bell(bell.file)
        del bell


cdef LoopBell bell_of(object loop):
    """Its bell, hung up at its first wait."""
    known = bells.get(loop)
    bell = None if known is None else known()
    if bell is None or (<LoopBell> bell).made_after != forks:
        bell = LoopBell()
        loop.add_reader((<LoopBell> bell).bell.file, bell)
        bells[loop] = weakref.ref(bell)
    return bell


cdef class LoopWait:
    """One coroutine's waiting: `start`, then as often as it must wait `expect` and `await wait.future`, at last `end`.

    All in the loop's thread, but for `end`, which comes from anywhere where the loop is closed.
    """

    cdef int start(self, object buffer, Monitor* monitor, Side* side, uint64_t need) except -1:
        cdef LoopBell bell
        cdef Waiter* node
        self.loop = running_loop()
        self.ended.store(0)  # at the end of a run of trio a coroutine may wait anew, though its bell is gone
        self.buffer = buffer
        self.monitor = monitor
        self.withdraw = NULL
        bell = bell_of(self.loop)
        node = take_node()
        if node == NULL:
            raise MemoryError("no memory to wait with; nothing has changed")
        start_wait(&self.w, need, FOREVER)
        bell.bell.references.fetch_add(1)
        node.bell = bell.bell
        node.coroutine = <PyObject*> self
        node.wake = ring_bell
        node.wake_arg = node
        self.w.node = node
        self.w.forks = forks
        self.w.side = side
        self.w.tick = FOREVER  # its loop sees to signals
        self.w.later = True
        self.waits = bell.waits
        self.waits.add(self)
        return 0

    cdef int expect(self) except -1:
        """Before it is queued: what its coroutine will await. Not under a lock: Python runs here."""
        if self.w.forks != forks:
            raise RuntimeError("this event loop is that of the process that forked; in the child run another one")
        if self.w.held == 0:  # else what this thread holds is promised to this very one
            lend_attached()
        self.future = self.loop.create_future()
        self.w.node.rung = False
        self.told = False
        return 0

    cdef int notify(self) except -1:
        """Its bell has rung."""
        self.w.returns = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    def release(self):
        """Ring, as a waiter of a `threading.Condition`; RuntimeError, as of a free lock: then another is told."""
        cdef Waiter* node = self.w.node
        if self.told or node == NULL or self.w.forks != forks or self.is_dead(node.bell):
            raise RuntimeError("it has been notified, or its event loop is closed")
        self.told = True
        ring_bell(node)

    cdef bint is_dead(self, Bell* bell):
        cdef bint dead
        bell.mutex.lock()
        dead = bell.dead
        bell.mutex.unlock()
        return dead

    cdef int end(self) except -1:
        """It waits no more; what it had been granted and does not use goes to the next.

        What signal handlers raise meanwhile comes afterwards.
        """
        cdef Waiter* node = self.w.node
        cdef bint expected = False
        if node == NULL or self.ended.exchange(1):  # the end of its coroutine and of its loop may come at once
            return 0
        raised = None
        try:
            if self.w.forks == forks:  # else it is in the lists of the parent, which the child has forgotten
                if self.withdraw == NULL:
                    expected = withdraw(self.monitor, &self.w)
                else:
                    expected = self.withdraw(self.buffer, self)
        except BaseException as error:
            raised = error
        if self.w.forks == forks:
            let_go(node, expected or self.told)
        self.w.node = NULL
        self.future = None
        self.waits.discard(self)
        if raised is not None:
            raise raised
        return 0


cdef void end_for_good(LoopWait wait) noexcept:
    wait.end()


cdef void let_go(Waiter* node, bint expected) noexcept nogil:
    """Free it, unless its bell is still to ring for it."""
    cdef Bell* bell = node.bell
    cdef bint free = True
    bell.mutex.lock()
    if expected and not node.rung:
        node.coroutine = NULL
        free = False
    bell.mutex.unlock()
    if free:
        free_node(node)


# -- what the coroutine functions await ---------------------------------------------------------------------------

cdef extern from *:
    """
    // `value` is stolen. As an instance: of a tuple, or an exception, PyErr_SetObject would make something else.
    static PyObject* f1buf_stop(PyObject* value) {
      if (value != Py_None) {
        PyObject* stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (stop != NULL) {
          PyErr_SetObject(PyExc_StopIteration, stop);
          Py_DECREF(stop);
        }
      }
      Py_DECREF(value);
      return NULL;
    }
    """
    PyObject* stop "f1buf_stop"(PyObject* value)
    ctypedef int (*sendfunc)(PyObject*, PyObject*, PyObject**) noexcept
    ctypedef PyObject* (*iternextfunc)(PyObject*) noexcept
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        iternextfunc tp_iternext
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PYGEN_ERROR
    int PyIter_Send(object, object, PyObject**) except -1
    void PyType_Modified(PyTypeObject*)


@cython.final
@cython.freelist(16)
cdef class Attempt:
    """One call: awaited, it acts at once, or lets a coroutine wait."""

    def __await__(self):
        return self

    def send(self, value):
        cdef PyObject* result = NULL
        cdef int how = advance(self, value, &result)
        returned = <object> result
        Py_DECREF(returned)
        if how == PYGEN_RETURN:
            raise StopIteration(returned)
        return returned

    def throw(self, *error):  # this, and `close`, come where it was left: in the coroutine
        return self.coroutine.throw(*error)

    def close(self):
        self.coroutine.close()


cdef Attempt attempt(object buffer, AtOnce at_once, Later later):
    cdef Attempt made = Attempt.__new__(Attempt)
    made.buffer, made.at_once, made.later, made.waiting = buffer, at_once, later, _do_when_it_can
    return made


async def _do_when_it_can(Attempt of, bint due):
    """`due`: lets the loop run first."""
    if due:
        await PAUSE
        done = of.at_once(of)
        if done is not NOT_YET:
            return done
    wait = LoopWait()
    try:
        while True:
            done = of.later(of, wait)
            if done is not NOT_YET:
                return done
            await wait.future
    finally:
        wait.end()


cdef Attempt attempt_in_pieces(object buffer, AtOnce at_once, Piece piece):
    cdef Attempt made = attempt(buffer, at_once, NULL)
    made.piece, made.waiting = piece, _do_in_pieces
    return made


async def _do_in_pieces(Attempt of, bint due):
    """Put `of.most` things; how many were put, from the first on."""
    cdef Outcome outcome
    if due:
        await PAUSE
        done = of.at_once(of)
        if done is not NOT_YET:
            return done
    wait = LoopWait()
    try:
        while wait.done < of.most:
            outcome = of.piece(of, wait)
            if outcome == QUEUED:
                await wait.future
            elif outcome != DONE:
                break
            elif wait.done < of.most and is_due():  # not right after it was woken, when it is its turn
                await PAUSE
    finally:
        wait.end()
    return wait.done


cdef inline int advance(Attempt self, object value, PyObject** result) except -1:
    """As `am_send`."""
    cdef bint due
    if self.coroutine is None:
        due = is_due()
        if not due:
            done = self.at_once(self)
            if done is not NOT_YET:
                Py_INCREF(done)
                result[0] = <PyObject*> done
                return PYGEN_RETURN
        self.coroutine = self.waiting(self, due)
    return PyIter_Send(self.coroutine, value, result)


cdef int send_to_attempt(PyObject* self, PyObject* value, PyObject** result) except -1:
    result[0] = NULL
    return advance(<Attempt> self, <object> value, result)


cdef PyObject* next_of_attempt(PyObject* self) except? NULL:
    cdef PyObject* result = NULL
    return result if advance(<Attempt> self, None, &result) == PYGEN_NEXT else stop(result)


cdef int set_up() noexcept:
    """What `await` calls: up to Python 3.11 the first, then the second, where a result costs an exception."""
    cdef PyTypeObject* kind = <PyTypeObject*> Attempt
    kind.tp_as_async.am_send = <sendfunc> send_to_attempt
    kind.tp_iternext = <iternextfunc> next_of_attempt
    PyType_Modified(kind)
    return 0


set_up()
