"""What a queue does that has the standard library's algorithm: CLASSIC, in `queue.pyx`.

`put` and `get` are the standard library's own functions, before Python 3.13 brought to what they do there. They run on
the queue's own attributes: `mutex`, the conditions `not_empty`, `not_full` and `all_tasks_done`, the hooks `_init`,
`_qsize`, `_put`, `_get`, and `maxsize`, `unfinished_tasks`, `is_shutdown`. So all that others do to these, and to
`queue.time`, has the effect that it has there. What the standard library does not have stands on the same parts.

Each wait here is one on a condition, a coroutine's too: a `LoopWait` is among the condition's waiters, which only need
a `release`. A `get_many` that waits for more than one item waits on a fourth condition, `not_empty.enough`, of which
all are told whenever `not_empty` is notified: on `not_empty` itself it would take notifications that it cannot use.

Why no wake-up is lost. All of this looks, and waits or changes something, under one mutex, which a condition's wait
gives up and takes again. Each put notifies one waiter for an item, each get one waiter for room, a shutdown and a new
`maxsize` all. A waiter that is notified looks again; one that then ends without having acted (a hook that raises, a
coroutine that is cancelled) notifies the next. The standard library's own `get` and `put` do not, where a hook or a
signal handler raises: what was told is lost there, as with `queue.Queue`.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import heapq
import sys
import threading
from collections.abc import Iterator

from f1buf.core import standard
from f1buf.core.errors import Empty, Full, ShutDown

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from typing import Any

QUEUED = object()  # in place of a result: a coroutine waits for it

FinalizationError = getattr(builtins, "PythonFinalizationError", RuntimeError)  # from Python 3.13 on


def raise_at_the_end() -> None:
    raise FinalizationError(
        "the interpreter ends, so that no thread will bring what this call waits for; call it with a timeout, or "
        "block=False"
    )


# put, get, shutdown ---------------------------------------------------------------------------------------------------

if sys.version_info >= (3, 13):
    put, get = standard.Queue.put, standard.Queue.get
else:

    def put(self: Any, item: Any, block: Any = True, timeout: Any = None) -> Any:
        """`queue.Queue.put` of Python 3.13."""
        with self.not_full:
            _must_be_open(self)
            if self.maxsize > 0:
                _wait(self, _is_full, _must_be_open, self.not_full, Full, block, timeout)
            self._put(item)
            self.unfinished_tasks += 1
            self.not_empty.notify()

    def get(self: Any, block: Any = True, timeout: Any = None) -> Any:
        """`queue.Queue.get` of Python 3.13."""
        with self.not_empty:
            _must_not_be_drained(self)
            _wait(self, _is_empty, _must_not_be_drained, self.not_empty, Empty, block, timeout)
            item = self._get()
            self.not_full.notify()
            return item

    def _must_be_open(self: Any) -> Any:
        if self.is_shutdown:
            raise ShutDown

    def _must_not_be_drained(self: Any) -> Any:
        if self.is_shutdown and not self._qsize():
            raise ShutDown

    def _is_empty(self: Any) -> Any:
        return not self._qsize()

    def _wait(self: Any, must_wait: Any, check: Any, condition: Any, error: Any, block: Any, timeout: Any) -> Any:
        """With `queue.time` as it is now."""
        if not block:
            if must_wait(self):
                raise error
        elif timeout is None:
            while must_wait(self):
                condition.wait()
                check(self)
        elif timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        else:
            end = standard.module.time() + timeout
            while must_wait(self):
                left = end - standard.module.time()
                if left <= 0.0:
                    raise error
                condition.wait(left)
                check(self)


def _is_full(self: Any) -> Any:
    return 0 < self.maxsize <= self._qsize()


def shutdown(self: Any, immediate: Any) -> Any:
    """`queue.Queue.shutdown` of Python 3.13, but for what it removes: that is let go of without the mutex."""
    removed: list[Any] = []
    with self.mutex:
        self.is_shutdown = True
        try:
            if immediate:
                _discard(self, removed)
        finally:
            self.not_empty.notify_all()
            self.not_full.notify_all()


def maxsize_changed(self: Any) -> Any:
    """All that wait look again."""
    with _held(self.mutex):
        self.not_full.notify_all()
        self.not_empty.enough.notify_all()


def start(self: Any) -> Any:
    """An empty, open queue, after `_init`; all that wait look again."""
    with self.mutex:
        self.unfinished_tasks = 0
        self.is_shutdown = False
        for condition in (self.not_empty, self.not_full, self.all_tasks_done):
            condition.notify_all()


# What the standard library does not have ------------------------------------------------------------------------------


def join(self: Any, timeout: Any) -> Any:
    """Raises TimeoutError where tasks are left."""
    if timeout is None:
        return standard.Queue.join(self)
    with self.all_tasks_done:
        if not self.all_tasks_done.wait_for(lambda: not self.unfinished_tasks, timeout):
            raise TimeoutError(f"{self.unfinished_tasks} tasks were left after {timeout} s")


def snapshot(self: Any) -> Any:
    with self.mutex:
        return list(self.queue)


def clear(self: Any) -> Any:
    removed: list[Any] = []
    with self.mutex:
        _discard(self, removed)


def _discard(self: Any, removed: Any) -> Any:
    """Under the mutex: into `removed`, to be let go of without it: their `__del__` may use the queue."""
    try:
        while self._qsize():
            removed.append(self._get())
            if self.unfinished_tasks > 0:
                self.unfinished_tasks -= 1
    finally:
        self.not_full.notify_all()
        self.all_tasks_done.notify_all()


def put_many(self: Any, items: Any, done: Any, block: Any, timeout: Any) -> Any:
    """The items from `done` on; how many of all are in. Once there are some an error only ends it.

    Like `put`, it looks at the timeout only where there is a bound.
    """
    began, left = standard.module.time(), timeout
    for i in range(done, len(items)):
        try:
            put(self, items[i], block, left)
        except Exception:
            if done == 0:
                raise
            break
        done += 1
        if timeout is not None and self.maxsize > 0 and block:
            left = max(0.0, began + timeout - standard.module.time())
    return done


def get_many(self: Any, most: Any, least: Any, block: Any, timeout: Any) -> Any:
    condition = self.not_empty if least == 1 else self.not_empty.enough
    end = None if timeout is None else standard.module.time() + timeout
    with self.mutex, _passing_on(self.not_empty):
        while not _has(self, least):
            left = None if end is None else end - standard.module.time()
            if not block or (left is not None and left <= 0.0):
                break
            condition.wait(left)
        return _taken(self, most)


def get_more(self: Any, batch: Any, most: Any, least: Any, block: Any, timeout: Any) -> Any:
    """What a `get_many` that has a part already (or None) goes on with. With a part an error only ends it."""
    if not batch:
        return get_many(self, most, least, block, timeout)
    try:
        if most > len(batch):
            batch += get_many(self, most - len(batch), 1, False, None)
    except Exception:
        pass
    return batch


def in_order(heap: Any) -> Any:
    """All that a heap has, which goes with that."""
    return [heapq.heappop(heap) for _ in range(len(heap))]


def _has(self: Any, least: Any) -> Any:
    """Under the mutex: whether there are as many items, or it is no use to wait for more."""
    return self._qsize() >= least or self.is_shutdown or _is_full(self)


def _taken(self: Any, most: Any) -> Any:
    """Under the mutex: up to so many items. Once there are some an error only ends it."""
    there = self._qsize()
    if not there:
        raise ShutDown if self.is_shutdown else Empty
    batch: list[object] = []
    try:
        while len(batch) < min(most, there):
            batch.append(self._get())
    except Exception:
        if not batch:
            raise
    finally:
        self.not_full.notify(len(batch))
    return batch


# Coroutines -----------------------------------------------------------------------------------------------------------
#
# Each of these begins by taking the coroutine out of the condition on which it waited, notified or not, and returns
# QUEUED (or False) where it waits again.


def get_many_later(self: Any, wait: Any, most: Any, least: Any) -> Any:
    leave(self, wait)
    with self.mutex, _passing_on(self.not_empty):
        if _has(self, least):
            return _taken(self, most)
        return _wait_later(wait, self.not_empty if least == 1 else self.not_empty.enough)


def put_later(self: Any, item: Any, wait: Any) -> Any:
    """Whether it has been put."""
    leave(self, wait)
    with self.mutex, _passing_on(self.not_full):
        if self.is_shutdown:
            raise ShutDown
        if _is_full(self):
            _wait_later(wait, self.not_full)
            return False
        self._put(item)
        self.unfinished_tasks += 1
        self.not_empty.notify()
        return True


@contextlib.contextmanager
def _passing_on(condition: Any) -> Iterator[None]:
    """Under the mutex: a waiter that a hook's error ends may have been told of something, which is for the next."""
    try:
        yield
    except ShutDown:
        raise
    except BaseException:
        condition.notify()
        raise


def join_later(self: Any, wait: Any) -> Any:
    """Whether all is done."""
    leave(self, wait)
    with self.mutex:
        if not self.unfinished_tasks:
            return True
        _wait_later(wait, self.all_tasks_done)
        return False


def _wait_later(wait: Any, condition: Any) -> Any:
    """Under the mutex."""
    condition._waiters.append(wait)
    wait.condition = condition
    return QUEUED


def leave(self: Any, wait: Any) -> Any:
    """Out of the condition on which it waits."""
    if wait.condition is not None:
        with _held(self.mutex):
            _leave(wait)


def withdraw(self: Any, wait: Any) -> Any:
    """A coroutine waits no more; what it had been told of is for the next."""
    condition = wait.condition
    if condition is not None:
        with _held(self.mutex):
            _leave(wait)
            if wait.told:
                condition.notify()


def _leave(wait: Any) -> Any:
    """Under the mutex."""
    if wait in wait.condition._waiters:
        wait.condition._waiters.remove(wait)
    wait.condition = None


@contextlib.contextmanager
def _held(mutex: Any) -> Iterator[None]:
    """Amid an operation of this very thread (in a hook, or in a finalizer) the mutex is its own already."""
    if mutex.is_mine():
        yield
        return
    raised = mutex.acquire_anyway()
    try:
        yield
    finally:
        mutex.release()
    if raised is not None:
        raise raised


# The parts of a queue -------------------------------------------------------------------------------------------------


class Condition(threading.Condition):
    """One of a queue's. A program that replaces a method of it wants that called: by the standard algorithm."""

    _lock: Any
    _waiters: Any

    def __setattr__(self, name: Any, value: Any) -> Any:
        super().__setattr__(name, value)
        if hasattr(threading.Condition, name) and name not in _SET_BY_ITSELF:
            self._lock.convert()

    def wait(self, timeout: Any = None) -> Any:
        """As `threading.Condition.wait`; an error where that could only wait for ever."""
        if timeout is None and sys.is_finalizing():
            raise_at_the_end()
        return super().wait(timeout)


_SET_BY_ITSELF = {"_is_owned", "_release_save", "_acquire_restore"}


class NotEmpty(Condition):
    """`not_empty`, with the waiters for several items (`enough`)."""

    def __init__(self, mutex: Any) -> None:
        super().__init__(mutex)
        self.enough = Condition(mutex)

    def notify(self, n: Any = 1) -> Any:
        super().notify(n)
        if self.enough._waiters:
            self.enough.notify_all()


# `queue.queue` of a plain queue ---------------------------------------------------------------------------------------


class _View:
    """The items of a plain queue, for `queue.queue`: what only reads sees a copy, what changes them converts the queue.

    The methods are those of the container that the queue would have, which it says it is. (What reads a list in C
    notices: `heapq` raises TypeError. With the mutex, as it is to be used, one has the list itself.)
    """

    __slots__ = ("__weakref__", "_queue")
    _queue: Any
    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return int(self._queue._length())

    def __getitem__(self, index: Any) -> Any:
        if type(index) is int and abs(index) < sys.maxsize:
            return self._queue._item(index)
        return self._queue._contents()[index]

    def __radd__(self, other: Any) -> Any:
        return other + self._queue._contents()

    def __reduce__(self) -> Any:
        contents = self._queue._contents()
        return type(contents), (list(contents),)  # copied and pickled it is the container itself


def _plain(value: Any) -> Any:
    """What a view stands for."""
    return value._queue._contents() if issubclass(type(value), _View) else value


def _reading(name: Any) -> Any:
    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(_plain(self), name)(*map(_plain, args), **kwargs)

    return read


def _changing(name: Any) -> Any:
    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._queue.mutex.convert()
        result = getattr(self._queue.queue, name)(*map(_plain, args), **kwargs)
        return self._queue.queue if result is self._queue.queue else result  # as `+=` returns it

    return change


READS = {
    *("__add__", "__contains__", "__copy__", "__eq__", "__ge__", "__gt__", "__iter__", "__le__", "__lt__", "__mul__"),
    *("__ne__", "__repr__", "__reversed__", "__rmul__", "copy", "count", "index"),
}
CHANGES = {
    *("__delitem__", "__iadd__", "__imul__", "__setitem__", "append", "appendleft", "clear", "extend", "extendleft"),
    *("insert", "pop", "popleft", "remove", "reverse", "rotate", "sort"),
}


def _views_of(container: Any) -> Any:
    names = {name: _reading(name) for name in READS if hasattr(container, name)}
    names |= {name: _changing(name) for name in CHANGES if hasattr(container, name)}
    if hasattr(container, "maxlen"):
        names["maxlen"] = None  # without which a deque has no bound
    names["__slots__"] = ()
    names["__class__"] = property(lambda self: container)
    names["__new__"] = lambda cls, *args: container(*args)  # as `type(q.queue)(items)` makes one
    return type(f"{container.__name__}_view", (_View,), names)


_DEQUE_VIEW, _LIST_VIEW = _views_of(collections.deque), _views_of(list)


def view_of(queue: Any, is_list: Any) -> Any:
    view = object.__new__(_LIST_VIEW if is_list else _DEQUE_VIEW)
    view._queue = queue
    return view
