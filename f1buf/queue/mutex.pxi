# `q.mutex`, which makes its queue CLASSIC once somebody acquires it. Part of queue.pyx.

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef object get_ident = _thread.get_ident


@cython.final
cdef class _Mutex:
    """A queue's mutex: a lock of `threading` that makes the queue classic before it is first held.

    Unlike that, it knows its holder: where that one would wait for itself, it raises RuntimeError; where it is not
    there any more, as in the child of a fork and at the interpreter's end, the lock is made anew, or taken over.
    """

    cdef object lock
    cdef object queue                   # a weak reference to its queue
    cdef atomic[int] converted          # that is CLASSIC
    cdef list waiters                   # of each condition on it
    cdef atomic[unsigned long] holder   # a thread, or 0
    cdef atomic[long] made_after        # how many `forks` lay behind the process that made the lock
    cdef object __weakref__

    def __init__(self, queue):
        self.lock = threading.Lock()
        self.queue = weakref.ref(queue)
        self.waiters = []
        self.made_after.store(forks)

    def acquire(self, blocking=True, timeout=-1):
        """As `threading.Lock.acquire`."""
        self.convert()
        return self.take(blocking, timeout)

    def release(self):
        """As `threading.Lock.release`."""
        self.holder.store(0, memory_order_relaxed)
        self.lock.release()

    def locked(self):
        """As `threading.Lock.locked`."""
        return self.lock.locked()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def __repr__(self):
        return f"<{'locked' if self.lock.locked() else 'unlocked'} mutex of a f1buf queue at {id(self):#x}>"

    def _is_owned(self):
        """For `threading.Condition`, which asks whether it is locked."""
        return self.lock.locked()

    def acquire_anyway(self):
        """Take it whatever signal handlers raise meanwhile; returns the last of that, or None."""
        raised = None
        while True:
            try:
                self.take(True, -1)
                return raised
            except BaseException as error:
                raised = error

    def _acquire_restore(self, _):
        """For `threading.Condition`, at the end of a wait: whatever comes, the waiter has the mutex then."""
        raised = self.acquire_anyway()
        if raised is not None:
            raise raised

    def convert(self):
        """Make its queue classic."""
        if not self.converted.load():
            queue = self.queue()
            if queue is not None:
                convert(<_QueueCore> queue)
            self.converted.store(1)

    def is_mine(self):
        """Whether this thread holds it."""
        return self.holder.load(memory_order_relaxed) == this_thread()

    cdef object take(self, blocking, timeout):
        """Looks up every tick: a signal handler may have forked, and in the child the holder will never release it."""
        cdef unsigned long me = this_thread()  # now, for it may fail
        cdef bint taken = False
        if not blocking or timeout != -1:
            self.renew()
            taken = self.lock.acquire(blocking, timeout)
        while not taken and blocking and timeout == -1:
            self.renew()
            if is_ending() and self.holder.load(memory_order_relaxed) != me:
                self.lock.acquire(False)  # or it is taken over: no other thread runs any more
                taken = True
            else:
                taken = self.lock.acquire(True, SIGNAL_TICK)
                if not taken:
                    PyErr_CheckSignals()  # the lock looks only where a signal ends its wait, not where one came before
                    if self.holder.load(memory_order_relaxed) == me:
                        raise_amid_itself()
        if taken:
            self.holder.store(me, memory_order_relaxed)
        return taken

    cdef int renew(self) except -1:
        """In the child of a fork: a thread that held the lock, or waited on its conditions, is not here any more.

        The thread that forked is, where it did so in a signal handler or a hook: it goes on holding the lock, and is
        told to look again where it waits.
        """
        cdef bint is_first
        if self.made_after.load() == forks:
            return 0
        queue = self.queue()
        lock = threading.Lock()
        if queue is not None:
            (<_QueueCore> queue).monitor.slot_lock.lock()
        is_first = self.made_after.load() != forks  # of the child's threads: one renews it, the others find that done
        # (Other threads of the child may have got the names of the parent's.)
        if is_first and self.holder.load(memory_order_relaxed) != main_thread:
            self.holder.store(0, memory_order_relaxed)
            lock, self.lock = self.lock, lock  # nothing ends until the slot lock is free
        self.made_after.store(forks)  # last: who finds this takes the lock that stands there
        if queue is not None:
            (<_QueueCore> queue).monitor.slot_lock.unlock()
        if not is_first:
            return 0
        for waiters in self.waiters:
            while waiters:
                try:
                    waiters.popleft().release()
                except RuntimeError:  # released already, or a coroutine of the parent's, which refuses
                    pass
        return 0


cdef unsigned long this_thread() except? 0:
    """Or this greenlet, where gevent or eventlet have replaced what `threading` has."""
    return PyThread_get_thread_ident() if threading.get_ident is get_ident else threading.get_ident()
