# What coroutines await: the awaited methods, for `core.loop`. Part of queue.pyx.
#
# For `attempt`: how each method is done at once, and how it is done by waiting. In place of waiting these functions
# queue the coroutine, and return NOT_YET, or QUEUED.

cdef object get_at_once(Attempt of):
    """By the fast path."""
    cdef PyObject* taken = popped(<_QueueCore> of.buffer)
    return owned(taken) if taken != NULL else NOT_YET


cdef object get_in_time(Attempt of, LoopWait wait):
    cdef _QueueCore self = of.buffer
    cdef PyObject* taken = NULL
    cdef Outcome outcome = MOVED
    if not is_classic(self):
        if not acquire_later(self, &self.monitor.gets, wait, 1):
            return NOT_YET
        outcome = pop_and_release(self, &taken)
    if outcome == DONE:
        return owned(taken)
    if outcome != MOVED:
        raise_get_error(outcome)
    batch = classic_get_later(self, wait, 1, 1)
    return batch if batch is NOT_YET else batch[0]


cdef object put_at_once(Attempt of):
    return None if pushed(<_QueueCore> of.buffer, <PyObject*> of.given) else NOT_YET


cdef object put_in_time(Attempt of, LoopWait wait):
    cdef _QueueCore self = of.buffer
    cdef Outcome outcome = MOVED
    item = of.given
    if not is_classic(self):
        outcome = FULL
        Py_INCREF(item)  # for the slot; under the lock no reference is counted
        try:
            if not acquire_later(self, &self.monitor.puts, wait, 1):
                return NOT_YET
            outcome = push_and_release(self, <PyObject*> item)
        finally:
            if outcome != DONE:
                Py_DECREF(item)
    if outcome == MOVED:
        return None if classic_put_later(self, item, wait) else NOT_YET
    if outcome != DONE:
        raise_put_error(outcome)
    return None


cdef object get_many_at_once(Attempt of):
    """What is there, where nobody waits before and that is enough."""
    cdef _QueueCore self = of.buffer
    cdef list batch
    cdef uint64_t n
    cdef Outcome outcome
    self.monitor.slot_lock.lock()
    n = min(of.most, length(self)) if has_at_once(self, of.least) else 0
    self.monitor.slot_lock.unlock()
    if n == 0:
        return NOT_YET
    batch = blank_list(n)
    self.monitor.slot_lock.lock()
    if not has_at_once(self, of.least):
        self.monitor.slot_lock.unlock()
        return NOT_YET
    outcome = pop_some_and_release(self, batch)
    PyObject_GC_Track(batch)
    if outcome == DONE:
        return batch
    return classic.get_more(self, batch, of.most, of.least, False, None) if batch else NOT_YET


cdef bint has_at_once(_QueueCore self, uint64_t least) noexcept:
    """Under the lock: the fast paths are open, and there is enough."""
    return self.get_above != UINT64_MAX and is_as_known(self) and length(self) >= min(least, self.monitor.capacity)


cdef object get_many_in_time(Attempt of, LoopWait wait):
    cdef _QueueCore self = of.buffer
    cdef list batch = None
    cdef Outcome outcome = MOVED
    if not is_classic(self):
        batch = taken_batch(self, &wait.w, wait, of.most, of.least, &outcome)
    if outcome == QUEUED:
        return NOT_YET
    if outcome == DONE:
        return batch
    if outcome != MOVED:
        raise_get_error(outcome)
    if batch:
        return classic.get_more(self, batch, of.most, of.least, False, None)
    return classic_get_later(self, wait, of.least, of.most)


cdef object put_many_at_once(Attempt of):
    """Put all of them, where nobody waits before and there is room; else none."""
    cdef _QueueCore self = of.buffer
    cdef PyObject** sources = PySequence_Fast_ITEMS(of.given)
    cdef Py_ssize_t done = 0
    cdef uint64_t i
    if of.most == 0:
        return 0
    for i in range(of.most):
        Py_INCREF(<object> sources[i])
    self.monitor.slot_lock.lock()
    # Not `put_below`, which tells of the slots that there are.
    if (
        self.get_above != UINT64_MAX
        and of.most <= available(&self.monitor, &self.monitor.puts)
        and is_as_known(self)
        and self.order != SMALLEST  # which may have to stop in the middle
    ):
        push_some_and_release(self, sources, of.most, &done)
    else:
        self.monitor.slot_lock.unlock()
    if done != 0:
        return done
    for i in range(of.most):
        Py_DECREF(<object> sources[i])
    return NOT_YET


cdef Outcome put_some_in_time(Attempt of, LoopWait wait) except *:
    """Put the next piece of the items. Once some are in, an error only ends it: how many were put must not be lost."""
    cdef Outcome outcome
    try:
        outcome = put_piece_in_time(of.buffer, of.given, wait)
        if outcome != DONE and outcome != QUEUED:
            raise_put_error(outcome)
    except Exception:
        if wait.done == 0:
            raise
        return SHUT_DOWN
    return outcome


cdef Outcome put_piece_in_time(_QueueCore self, tuple items, LoopWait wait) except *:
    cdef PyObject** sources = PySequence_Fast_ITEMS(items) + wait.done
    cdef uint64_t step
    cdef Py_ssize_t done = 0
    cdef uint64_t i
    cdef bint acquired = False
    cdef Outcome outcome = QUEUED
    if not is_classic(self):
        self.monitor.slot_lock.lock()
        step = min(PyTuple_GET_SIZE(items) - wait.done, self.monitor.capacity)
        self.monitor.slot_lock.unlock()
        for i in range(step):
            Py_INCREF(<object> sources[i])
        try:
            acquired = acquire_later(self, &self.monitor.puts, wait, step)
            if acquired:
                outcome = push_some_and_release(self, sources, step, &done)
                forget_place(&wait.w)  # others get their turn
        finally:
            for i in range(done, step):
                Py_DECREF(<object> sources[i])
        wait.done += done
        if outcome != MOVED:
            return outcome
    if not classic_put_later(self, <object> sources[done], wait):
        return QUEUED
    wait.done += 1
    return DONE


cdef object join_at_once(Attempt of):
    return NOT_YET  # `join_in_time` looks first


cdef object join_in_time(Attempt of, LoopWait wait):
    cdef _QueueCore self = of.buffer
    cdef bint all_done = False
    if not is_classic(self):
        if not acquire_later(self, &self.monitor.joins, wait, 1):
            return NOT_YET
        all_done = self.mode.load(memory_order_relaxed) == PLAIN
        release(self)
    if not all_done:
        expect_classic(self, wait)
        all_done = classic.join_later(self, wait)
    return None if all_done else NOT_YET


cdef bint classic_put_later(_QueueCore self, object item, LoopWait wait) except -1:
    """Whether it was put; else it is queued."""
    expect_classic(self, wait)
    return classic.put_later(self, item, wait)


cdef void limit_needs(Waiter* node, uint64_t limit) noexcept:
    while node != NULL:
        node.need = min(node.need, limit)
        node = node.next


cdef bint withdraw_classic(object buffer, LoopWait wait) except -1:
    classic.withdraw(buffer, wait)
    return wait.told
