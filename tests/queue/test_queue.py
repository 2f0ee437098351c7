"""Queue, LifoQueue and PriorityQueue: the standard library's contract to the letter, and what is on top of it.

Most tests run over several kinds of queues: the plain one; a subclass without hooks; a plain one whose inside was asked
for (`converted`: from then on it runs the standard algorithm); a subclass with hooks of its own; the other two orders.
"""

import contextlib
import copy
import decimal
import enum
import fractions
import functools
import gc
import heapq
import inspect
import io
import itertools
import math
import operator
import pickle
import pprint
import queue as standard
import random
import struct
import sys
import threading
import time
import tracemalloc
import types
import weakref
from collections import deque
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, runtime_checkable
from unittest import mock

import helpers
import numpy as np
import pytest
from helpers import (
    LATE,
    WATCHDOG,
    Task,
    assert_times_out,
    parked,
    parked_or_over,
    run_python,
    thorough,
    timeouts,
    wait_parked,
    wait_until,
)

import f1buf
from f1buf import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue

# The kinds of queues --------------------------------------------------------------------------------------------------


class Named(Queue):
    """A subclass that changes nothing: plain, too."""


class Hooked(Queue):
    """The standard order by hooks of its own."""

    def _init(self, maxsize):
        self.queue = []

    def _qsize(self):
        return len(self.queue)

    def _put(self, item):
        self.queue.append(item)

    def _get(self):
        return self.queue.pop(0)


def convert(queue):
    with queue.mutex:
        assert queue.is_converted


def converted(maxsize=0):
    queue = Queue(maxsize)
    convert(queue)
    return queue


KINDS = {
    "plain": Queue,
    "subclass": Named,
    "converted": converted,
    "hooked": Hooked,
    "lifo": LifoQueue,
    "priority": PriorityQueue,
}
FIRST_IN_FIRST_OUT = {name: KINDS[name] for name in ("plain", "subclass", "converted", "hooked")}
PLAIN = {name: KINDS[name] for name in ("plain", "subclass")}


def each_of(kinds):
    """Parametrise a test by `kind`; the everyday run leaves out the subclass, which is a plain queue in all it does."""
    params = [pytest.param(kind, id=name, marks=thorough if kind is Named else []) for name, kind in kinds.items()]
    return pytest.mark.parametrize("kind", params)


each_kind = each_of(KINDS)
each_fifo = each_of(FIRST_IN_FIRST_OUT)
each_plain = each_of(PLAIN)
each_class = pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue], ids=lambda kind: kind.__name__)
each_size = pytest.mark.parametrize("maxsize", [0, 100], ids=["unbounded", "bounded"])


def standard_of(kind):
    """The standard library's class of the same order."""
    return {LifoQueue: standard.LifoQueue, PriorityQueue: standard.PriorityQueue}.get(kind, standard.Queue)


def in_order(kind, items):
    """The items in the order in which a queue gives them back."""
    return {LifoQueue: lambda items: items[::-1], PriorityQueue: sorted}.get(kind, list)(list(items))


def queue_with(kind, *items, maxsize=0):
    queue = kind(maxsize)
    for item in items:
        queue.put_nowait(item)
    return queue


def drained(queue):
    """All that was there, one by one."""
    taken = []
    with contextlib.suppress(Empty, ShutDown):
        while True:
            taken.append(queue.get_nowait())
    return taken


# The calls that wait, as the ring has them, and one more.
CALLS = {name: helpers.CALLS[name] for name in ("put", "put_many", "get", "get_many")} | {
    "join": lambda queue: queue.join()
}
PUTS = {"put", "put_many"}
GETS = {"get", "get_many"}
each_call = pytest.mark.parametrize("name", CALLS)
each_timed_call = pytest.mark.parametrize("name", sorted(PUTS | GETS))


def stuck_queue(name, kind=Queue):
    """A queue on which the call of that name has to wait."""
    return kind(1) if name in GETS else queue_with(kind, 1, maxsize=1)


# What is public -------------------------------------------------------------------------------------------------------


def test_the_module_offers_the_standard_names():
    for name in standard.__all__:
        assert name in f1buf.__all__, name
        assert getattr(f1buf, name).__name__ == name


def test_the_exceptions_are_the_standard_ones():
    assert Empty is standard.Empty
    assert Full is standard.Full
    assert SimpleQueue is standard.SimpleQueue
    assert ShutDown is getattr(standard, "ShutDown", ShutDown)


def test_importing_and_using_a_queue_does_not_import_numpy():
    run_python(
        "import sys, f1buf as queue\n"
        "from f1buf import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue\n"
        "for kind in (queue.Queue, LifoQueue, PriorityQueue):\n"
        "    q = kind(3)\n"
        "    q.put(1), q.get(), q.put_many([1, 2]), q.get_many(), q.clear(), q.mutex, q.shutdown()\n"
        "assert 'numpy' not in sys.modules"
    )


@each_class
def test_each_kind_is_a_queue_of_the_standard_library(kind):
    assert issubclass(kind, Queue)
    assert issubclass(kind, standard.Queue)
    assert isinstance(kind(), standard.Queue)
    assert (kind.__name__, kind.__qualname__, kind.__module__) == (standard_of(kind).__name__,) * 2 + ("f1buf",)


STANDARD_METHODS = {
    "put": "(item, block=True, timeout=None)",
    "get": "(block=True, timeout=None)",
    "put_nowait": "(item)",
    "get_nowait": "()",
    "qsize": "()",
    "empty": "()",
    "full": "()",
    "task_done": "()",
    "join": "(timeout=None)",
    "shutdown": "(immediate=False)",
    "_init": "(maxsize)",
    "_qsize": "()",
    "_put": "(item)",
    "_get": "()",
}
METHODS_ON_TOP = {
    "put_many": "(items, block=True, timeout=None)",
    "get_many": "(max_count=None, *, min_count=1, block=True, timeout=None)",
    "clear": "()",
    "snapshot": "()",
}
SIGNATURES = STANDARD_METHODS | METHODS_ON_TOP


@pytest.mark.parametrize("name", SIGNATURES)
@each_class
def test_signatures(kind, name):
    signature = inspect.signature(getattr(kind(), name))
    assert str(signature) == SIGNATURES[name]
    of_function = list(inspect.signature(getattr(kind, name)).parameters.values())
    assert of_function[0].name == "self"
    assert of_function[1:] == list(signature.parameters.values())
    if hasattr(standard.Queue, name) and name != "join":  # the standard one has no timeout
        assert signature == inspect.signature(getattr(standard_of(kind)(), name))


@each_class
def test_the_constructors_signature(kind):
    assert str(inspect.signature(kind)) == "(maxsize=0)"
    assert inspect.signature(kind) == inspect.signature(standard_of(kind))
    assert kind(maxsize=3).maxsize == 3
    with pytest.raises(TypeError):
        kind(3, 4)
    with pytest.raises(TypeError):
        kind(size=3)


@pytest.mark.parametrize("name", [name for name in SIGNATURES if not name.startswith("_")])
def test_every_public_method_is_documented(name):
    assert inspect.getdoc(getattr(Queue, name))


@each_kind
def test_arguments_by_name_and_by_position(kind):
    queue = kind(9)
    queue.put(item=3)
    queue.put(3, False)
    queue.put(3, True, 1.0)
    queue.put(block=False, timeout=None, item=3)
    queue.put_nowait(item=3)
    assert queue.put_many(items=[3, 3], block=False, timeout=None) == 2
    assert [queue.get(), queue.get(False), queue.get(True, 1.0), queue.get(timeout=1.0, block=True)] == [3] * 4
    assert queue.get_many(2, min_count=1, block=False, timeout=None) == [3, 3]
    assert queue.get_nowait() == 3
    queue.shutdown(immediate=False)


SPOILT_CALLS = {
    "put of nothing": lambda queue: queue.put(),
    "put of too much": lambda queue: queue.put(1, True, None, 4),
    "put of another name": lambda queue: queue.put(1, wait=True),
    "put twice the same": lambda queue: queue.put(1, item=1),
    "put_nowait of nothing": lambda queue: queue.put_nowait(),
    "put_nowait of too much": lambda queue: queue.put_nowait(1, True),
    "get of too much": lambda queue: queue.get(True, None, 3),
    "get of another name": lambda queue: queue.get(wait=True),
    "get_nowait of too much": lambda queue: queue.get_nowait(True),
    "put_many of nothing": lambda queue: queue.put_many(),
    "put_many of what is not iterable": lambda queue: queue.put_many(5),
    "get_many by position": lambda queue: queue.get_many(1, 1),
    "get_many of a float": lambda queue: queue.get_many(1.0),
    "get_many of a float at least": lambda queue: queue.get_many(min_count=1.0),
    "get_many of a text": lambda queue: queue.get_many("1"),
    "get_many of none at least": lambda queue: queue.get_many(min_count=None),
    "clear of something": lambda queue: queue.clear(1),
    "qsize of something": lambda queue: queue.qsize(1),
    "shutdown of too much": lambda queue: queue.shutdown(True, True),
    "task_done of something": lambda queue: queue.task_done(1),
    "join with too much": lambda queue: queue.join(1, 2),
    "put of no queue": lambda queue: type(queue).put(object(), 1),
}


@pytest.mark.parametrize("call", SPOILT_CALLS.values(), ids=list(SPOILT_CALLS))
@each_kind
def test_wrong_arguments_are_a_type_error_and_change_nothing(kind, call):
    queue = queue_with(kind, 1, 2, 3)
    with pytest.raises(TypeError):
        call(queue)
    assert (queue.qsize(), queue.unfinished_tasks, queue.is_shutdown) == (3, 3, False)
    assert drained(queue) == in_order(kind, [1, 2, 3])


@each_class
def test_a_class_of_items_can_be_named(kind):
    assert kind[int] == types.GenericAlias(kind, int)
    queue = kind[int](2)
    queue.put(1)
    assert type(queue) is kind

    class Numbers(kind[int]):
        pass

    assert Numbers(3).maxsize == 3


@each_kind
def test_weak_references_with_a_callback(kind):
    queue, gone = queue_with(kind, 1), []
    reference = weakref.ref(queue, gone.append)
    weakref.finalize(queue, gone.append, "finalized")
    assert reference() is queue
    del queue
    gc.collect()
    assert gone == ["finalized", reference]
    assert reference() is None


@each_kind
def test_attributes_of_ones_own(kind):
    queue = kind()
    with pytest.raises(AttributeError, match="topic"):
        _ = queue.topic
    queue.topic = "speed"
    assert (queue.topic, vars(queue)["topic"], getattr(queue, "other", None)) == ("speed", "speed", None)
    queue.put(1)
    assert queue.get() == 1
    del queue.topic
    assert not hasattr(queue, "topic")


@each_kind
def test_what_the_queue_itself_needs_cannot_be_taken_away(kind):
    queue = queue_with(kind, 1)
    for name in ("mutex", "not_empty", "not_full", "all_tasks_done"):
        with pytest.raises(AttributeError, match=name):
            setattr(queue, name, threading.Condition())
    for name in ("mutex", "not_empty", "not_full", "all_tasks_done", "queue", "maxsize", "unfinished_tasks", "put"):
        with pytest.raises((AttributeError, NotImplementedError)):
            delattr(queue, name)
    for tasks in (2**63, -(2**70), 1.5, "1", None):
        with pytest.raises((TypeError, OverflowError)):
            queue.unfinished_tasks = tasks
    assert (queue.unfinished_tasks, drained(queue)) == (1, [1])


@each_kind
def test_queues_are_told_apart_by_identity(kind):
    one, other = kind(), kind()
    assert one != other
    assert len({one, other, one}) == 2
    assert bool(one)  # also where it is empty
    assert "object at 0x" in repr(one)


PICKLES = {f"pickle {n}": functools.partial(pickle.dumps, protocol=n) for n in range(pickle.HIGHEST_PROTOCOL + 1)}
COPIES = PICKLES | {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("act", COPIES.values(), ids=list(COPIES))
@each_kind
def test_pickling_and_copying_are_a_type_error(kind, act):
    queue = queue_with(kind, 1)
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        act(queue)
    assert drained(queue) == [1]


def test_a_queue_without_init_does_not_crash():
    run_python("from test_queue import use_without_init; use_without_init()")


def use_without_init():
    for name, call in (
        CALLS | SPOILT_CALLS | {name: lambda q, name=name: getattr(q, name)() for name in SIGNATURES}
    ).items():
        for kind in (Queue, Named, Hooked, LifoQueue, PriorityQueue):
            queue = kind.__new__(kind)
            if name == "join":
                continue  # it may wait
            with contextlib.suppress(AttributeError, TypeError, RuntimeError, ValueError, Empty, Full, ShutDown):
                call(queue)
            queue.__init__(2)
            queue.put(1, timeout=LATE)
            assert queue.get(timeout=LATE) == 1


@each_kind
def test_a_second_init_begins_afresh(kind):
    queue = queue_with(kind, 1, 2)
    queue.__init__(3)
    assert (queue.qsize(), queue.maxsize, queue.unfinished_tasks) == (0, 3, 0)
    queue.put(5)
    assert drained(queue) == [5]


def test_a_second_init_lets_waiters_go_on():
    queue = queue_with(Queue, 1, maxsize=1)
    putter = parked(queue.put, 2)
    queue.__init__(1)
    putter.result()
    assert queue.get() == 2
    getter = parked(queue.get)
    queue.__init__()
    queue.put(3)
    assert getter.result() == 3


# The standard library's outcomes --------------------------------------------------------------------------------------


def outcome(call, *args, **kwargs):
    """What a call returned, or what it raised with which words."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error), error.args if isinstance(error, (ValueError, Full, Empty, ShutDown)) else None


class Seconds:
    """A timeout that is no number, but can all that is asked of one."""

    def __lt__(self, other):
        return other > 0.001

    def __radd__(self, other):
        return other + 0.001


class Undecided:
    def __bool__(self):
        raise ZeroDivisionError


OVER_SOON = {
    "0": 0,
    "0.0": 0.0,
    "-0.0": -0.0,
    "False": False,
    "1e-12": 1e-12,
    "5e-324": 5e-324,
    "0.001": 0.001,
    "Fraction": fractions.Fraction(1, 1000),
    "float64": np.float64(0.001),
    "Seconds": Seconds(),
    "-1": -1,
    "-1e-9": -1e-9,
    "-5e-324": -5e-324,
    "-inf": -float("inf"),
    "-10**400": -(10**400),
    "10**400": 10**400,
    "1e10": 1e10,
    "1e300": 1e300,
    "Decimal": decimal.Decimal("0.01"),
    "Decimal -1": decimal.Decimal(-1),
    "text": "1",
    "bytes": b"1",
    "list": [1],
    "complex": 1j,
}
FOR_EVER = {  # nan: the standard one runs in circles; float32: what is left of it is no number to a lock
    "None": None,
    "inf": float("inf"),
    "nan": float("nan"),
    "a minute": 60,
    "292 years": 9.2e9,
    "95 years": 3e9,  # no number of seconds for 32 bits
    "float32": np.float32(0.01),
}
BLOCKING = {"True": True, "1": 1, "text": "no"}
BLOCKS = BLOCKING | {"False": False, "0": 0, "None": None, "empty": "", "error": Undecided()}

STATES = {
    "empty": (0, []),
    "empty, bounded": (2, []),
    "with room": (2, [1]),
    "full": (2, [1, 2]),
    "overfull": (1, [1, 2]),
    "unbounded": (0, [1, 2]),
}


def in_state(kind, state):
    maxsize, items = STATES[state]
    queue = queue_with(kind, *items)
    queue.maxsize = maxsize
    return queue


def must_wait(call, state):
    return "empty" in state if call == "get" else "full" in state


def hows(call, state):
    """Ways to call it that do not wait for long: a name, `block`, `timeout`."""
    for (block_name, block), (name, timeout) in itertools.product(BLOCKS.items(), (OVER_SOON | FOR_EVER).items()):
        if name not in FOR_EVER or block_name not in BLOCKING or not must_wait(call, state):
            yield f"block {block_name}, timeout {name}", block, timeout


@pytest.mark.parametrize("call", ["put", "get"])
@pytest.mark.parametrize("state", STATES)
@each_kind
def test_block_and_timeout_have_the_standard_outcomes(kind, state, call):
    """Every combination: which error comes first, what is looked at at all, what is a number."""
    different = {}
    for how, block, timeout in hows(call, state):
        outcomes = []
        for each in (kind, standard_of(kind)):
            queue = in_state(each, state)
            arguments = (3, block, timeout) if call == "put" else (block, timeout)
            outcomes.append((outcome(getattr(queue, call), *arguments), queue.qsize(), queue.unfinished_tasks))
        if outcomes[0] != outcomes[1]:
            different[how] = outcomes
    assert not different


@each_size
@each_kind
def test_a_put_on_a_shut_down_queue_raises_that_before_anything_else(kind, maxsize):
    queue = kind(maxsize)
    queue.shutdown()
    for block, timeout in ((True, -1), (True, "1"), (False, None), (Undecided(), None)):
        assert outcome(queue.put, 1, block, timeout) == (ShutDown, ())
    assert outcome(queue.put_nowait, 1) == (ShutDown, ())
    assert outcome(queue.put_many, [1], True, -1) == (ShutDown, ())


@each_size
@each_kind
def test_a_get_on_a_shut_down_queue_looks_at_the_timeout_while_there_are_items(kind, maxsize):
    queue = queue_with(kind, 1, maxsize=maxsize)
    queue.shutdown()
    negative = (ValueError, ("'timeout' must be a non-negative number",))
    assert outcome(queue.get, True, -1) == negative
    assert outcome(queue.get_many, timeout=-1) == negative
    assert queue.get(True, 0) == 1
    assert outcome(queue.get, True, -1) == (ShutDown, ())
    assert outcome(queue.get_many, timeout=-1) == (ShutDown, ())


MAXSIZES = {
    "0": 0,
    "-1": -1,
    "1": 1,
    "2": 2,
    "0.5": 0.5,
    "2.5": 2.5,
    "-0.5": -0.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "True": True,
    "False": False,
    "int64": np.int64(2),
    "float32": np.float32(2.5),
    "Fraction": fractions.Fraction(5, 2),
    "Decimal": decimal.Decimal("2.5"),
    "2**70": 2**70,
    "-2**70": -(2**70),
    "2**31": 2**31,
    "2**32": 2**32,
    "2**32 + 1": 2**32 + 1,
    "2**63": 2**63,
    "2**64": 2**64,
    "2**64 + 1": 2**64 + 1,
    "1e300": 1e300,
}
each_maxsize = pytest.mark.parametrize("maxsize", MAXSIZES.values(), ids=list(MAXSIZES))


def fill(queue):
    """What four puts and `full` before each of them say."""
    outcomes = [(bool(queue.full()), outcome(queue.put_nowait, number)) for number in range(4)]
    return outcomes, bool(queue.full()), queue.empty(), queue.qsize()


@each_maxsize
@each_kind
def test_a_maxsize_of_any_kind_of_number(kind, maxsize):
    queue = kind(maxsize)
    assert queue.maxsize is maxsize
    assert fill(queue) == fill(standard_of(kind)(maxsize))


@pytest.mark.parametrize("maxsize", [2**31, 2**32, 2**32 + 1, 2**40])
@each_kind
def test_a_bound_and_counts_beyond_32_bits(kind, maxsize):
    queue = kind(maxsize)
    assert queue.put_many(range(3000)) == 3000
    assert (queue.full(), queue.qsize()) == (False, 3000)
    queue.unfinished_tasks = 2**32 - 1
    queue.put(3000)
    queue.put(3001)
    assert queue.unfinished_tasks == 2**32 + 1
    assert sorted(queue.get_many(maxsize, min_count=3002)) == list(range(3002))


@each_maxsize
@each_kind
def test_a_maxsize_changed_later_to_any_kind_of_number(kind, maxsize):
    outcomes = []
    for each in (kind, standard_of(kind)):
        queue = queue_with(each, 8, 9, maxsize=3)
        queue.maxsize = maxsize
        assert queue.maxsize is maxsize
        outcomes.append((fill(queue), sorted(outcome(queue.get_nowait) for _ in range(2)), fill(queue)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("maxsize", [None, "3", [3], 3j], ids=repr)
@each_kind
def test_a_wrong_maxsize_is_a_type_error_at_once(kind, maxsize):
    with pytest.raises(TypeError):
        kind(maxsize)
    queue = queue_with(kind, 1, maxsize=3)
    with pytest.raises(TypeError):
        queue.maxsize = maxsize
    assert (queue.maxsize, drained(queue)) == (3, [1])


# Put and get ----------------------------------------------------------------------------------------------------------


@each_size
@each_kind
def test_items_come_back_in_the_queues_order(kind, maxsize):
    queue, items = kind(maxsize), random.Random(1).sample(range(1000), 100)
    for item in items:
        queue.put(item)
    assert (queue.qsize(), queue.empty(), queue.full()) == (100, False, maxsize == 100)
    assert [queue.get() for _ in items] == in_order(kind, items)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)


@each_size
@each_fifo
def test_the_order_holds_around_the_end_of_the_slots(kind, maxsize):
    """Growing, shrinking and wrapping around at every position."""
    queue, rng, came, went = kind(maxsize), random.Random(2), 0, 0
    for _ in range(2000):
        for _ in range(rng.randrange(10)):
            if not queue.full():
                queue.put(came)
                came += 1
        for _ in range(rng.randrange(10)):
            if not queue.empty():
                assert queue.get() == went
                went += 1
    assert drained(queue) == list(range(went, came))


@each_kind
def test_items_are_the_very_objects(kind):
    item = object()
    queue = queue_with(kind, item)
    assert queue.get() is item
    queue.put_many([item])
    assert queue.get_many() == [item]


@each_fifo
def test_anything_is_an_item(kind):
    items = [None, (), [], float("nan"), Queue, NotImplemented, Ellipsis, Empty(), kind()]
    queue = queue_with(kind, *items)
    assert all(queue.get() is item for item in items)
    assert queue.put_many(items) == len(items)
    assert all(got is item for got, item in zip(queue.get_many(), items, strict=True))


@each_kind
def test_a_queue_may_hold_itself(kind):
    queue = kind()
    queue.put(queue)
    assert queue.get() is queue


@pytest.mark.parametrize("touch", [lambda queue: None, convert], ids=["plain", "converted"])
def test_an_item_that_cannot_be_compared_stays_out_of_a_priority_queue(touch):
    """With the standard one the item is in the heap before it is compared, and nobody's task."""
    queue = queue_with(PriorityQueue, 1)
    touch(queue)
    with pytest.raises(TypeError, match="not supported between"):
        queue.put("text")
    with pytest.raises(TypeError, match="not supported between"):
        queue.put_many(["text", 2])
    assert queue.put_many([0, "text", 2]) == 1
    assert (queue.qsize(), queue.unfinished_tasks) == (2, 2)
    assert drained(queue) == [0, 1]


@each_kind
def test_the_standard_method_called_through_the_class(kind):
    queue = kind()
    Queue.put(queue, 1)
    assert Queue.qsize(queue) == 1
    assert Queue.get(queue) == 1
    assert outcome(Queue.get_nowait, queue) == (Empty, ())


# Waiting --------------------------------------------------------------------------------------------------------------

FILLS = {
    "put": lambda queue: queue.put(5),
    "put_nowait": lambda queue: queue.put_nowait(5),
    "put_many": lambda queue: queue.put_many([5]),
}
DRAINS = {
    "get": lambda queue: queue.get(),
    "get_nowait": lambda queue: queue.get_nowait(),
    "get_many": lambda queue: queue.get_many(),
    "clear": lambda queue: queue.clear(),
}
each_fill = pytest.mark.parametrize("fill", FILLS.values(), ids=list(FILLS))
each_drain = pytest.mark.parametrize("drain", DRAINS.values(), ids=list(DRAINS))
each_waiting_get = pytest.mark.parametrize("name", sorted(GETS))
each_waiting_put = pytest.mark.parametrize("name", sorted(PUTS))
# Two algorithms: what depends on nothing else need not be shown for each kind.
each_algorithm = pytest.mark.parametrize("kind", [Queue, converted], ids=["plain", "converted"])
each_long_timeout = pytest.mark.parametrize("timeout", [None, float("inf"), np.float32("inf"), 9e9, 60], ids=repr)


@each_fill
@each_waiting_get
@each_kind
def test_a_get_waits_for_a_put(kind, name, fill):
    queue = kind(1)
    getter = parked(CALLS[name], queue)
    fill(queue)
    assert getter.result() == (5 if name == "get" else [5])
    assert queue.empty()


@thorough(but=("plain-*", "converted-*", "priority-put-get"))
@each_drain
@each_waiting_put
@each_kind
def test_a_put_waits_for_a_get(kind, name, drain):
    queue = queue_with(kind, 1, maxsize=1)
    putter = parked(queue.put_many, [5]) if name == "put_many" else parked(queue.put, 5)
    drain(queue)
    assert putter.result() == (1 if name == "put_many" else None)
    assert drained(queue) == [5]


@each_long_timeout
@each_timed_call
@each_algorithm
def test_a_long_timeout_waits_until_it_can_go_on(kind, name, timeout):
    """None and infinity wait for ever."""
    queue = stuck_queue(name, kind)
    waiter = parked(CALLS[name], queue, timeout=timeout)
    if name in PUTS:
        assert queue.get() == 1
        assert queue.get(timeout=LATE) == 7
    else:
        queue.put(5)
    waiter.result()


@thorough(but=("plain-*", "hooked-get"))
@pytest.mark.parametrize("timeout", [0.05, np.float64(0.05), fractions.Fraction(1, 20)], ids=repr)
@each_timed_call
@each_algorithm
def test_a_timeout_is_kept(kind, name, timeout):
    """Never early, by the monotonic clock, and not much late."""
    queue = stuck_queue(name, kind)
    began = time.monotonic()
    assert_times_out(name, queue, timeout=timeout)
    assert timeout <= time.monotonic() - began < timeout + LATE
    assert queue.qsize() == (name in PUTS)


@thorough(but=("plain-*", "hooked-get"))
@each_timed_call
@each_kind
def test_a_timeout_is_kept_in_other_threads_too(kind, name):
    queue = stuck_queue(name, kind)
    began = time.monotonic()
    Task(assert_times_out, name, queue, timeout=0.06).result()
    assert 0.06 <= time.monotonic() - began < 0.06 + LATE


@each_kind
def test_the_timeout_of_a_get_that_was_overtaken_is_not_renewed(kind):
    """Another one takes each item that comes; the waiter is woken again and again for nothing."""
    queue, enough = kind(), threading.Event()

    def tease():
        while not enough.wait(0.005):
            queue.put(1)
            with contextlib.suppress(Empty):
                queue.get_nowait()

    teaser, began, got = Task(tease), time.monotonic(), 0
    with contextlib.suppress(Empty):
        while True:
            queue.get(timeout=max(0.0, began + 0.15 - time.monotonic()))
            got += 1
    assert 0.15 <= time.monotonic() - began < 0.15 + LATE
    enough.set()
    teaser.result()


@each_kind
def test_other_threads_run_while_one_waits(kind):
    queue, counted = kind(), 0
    waiter = parked(queue.get)
    for _ in range(100_000):
        counted += 1
    assert counted == 100_000
    queue.put(1)
    assert waiter.result() == 1


@thorough(but=("plain", "converted"))
@each_kind
def test_every_waiter_is_served(kind):
    queue = kind(3)
    getters = [parked(queue.get) for _ in range(10)]
    for number in range(10):
        queue.put(number)
    assert sorted(getter.result() for getter in getters) == list(range(10))
    queue.put_many(range(3))
    putters = [parked(queue.put, number) for number in range(3, 10)]
    assert sorted(queue.get(timeout=LATE) for _ in range(10)) == list(range(10))
    for putter in putters:
        putter.result()


@each_kind
def test_one_batch_serves_as_many_as_it_can(kind):
    queue = kind()
    getters = [parked(queue.get) for _ in range(4)]
    queue.put_many(range(4))
    assert sorted(getter.result() for getter in getters) == list(range(4))


@each_kind
def test_one_large_get_makes_room_for_as_many_as_it_can(kind):
    queue = queue_with(kind, 0, 1, 2, maxsize=3)
    putters = [parked(queue.put, number) for number in (3, 4, 5)]
    assert queue.get_many(3) == in_order(kind, [0, 1, 2])
    for putter in putters:
        putter.result()
    assert sorted(drained(queue)) == [3, 4, 5]


@thorough(but=("plain",))
@each_kind
def test_a_get_that_times_out_leaves_its_place_to_the_next(kind):
    for timeout, in_time in timeouts():
        queue = kind()
        hasty = parked_or_over(queue.get, timeout=timeout)
        patient = parked(queue.get)
        if in_time():
            break
    with pytest.raises(Empty):
        hasty.result()
    queue.put(1)
    assert patient.result() == 1


@each_kind
def test_items_that_come_just_at_the_timeout_are_not_lost(kind):
    for round_number in range(20):
        queue = kind(1)
        hasty = Task(queue.get, timeout=0.002)
        patient = Task(queue.get)
        time.sleep(0.0015 + 0.0001 * (round_number % 10))  # the race itself: about when the timeout comes
        queue.put(1)
        try:
            assert hasty.result() == 1
            queue.put(2)
            assert patient.result() == 2
        except Empty:
            assert patient.result() == 1


@each_timed_call
@each_algorithm
def test_a_timeout_that_is_not_a_number_waits_for_ever(kind, name):
    """Asleep; the standard one runs in circles."""
    queue = stuck_queue(name, kind)
    waiter = parked(CALLS[name], queue, timeout=float("nan"))
    queue.shutdown()
    assert outcome(waiter.result) == (ShutDown, ())


# A maxsize that changes -----------------------------------------------------------------------------------------------


@each_kind
def test_a_larger_maxsize_while_putters_wait(kind):
    queue = queue_with(kind, 0, maxsize=1)
    putters = [parked(queue.put, number) for number in (1, 2)]
    queue.maxsize = 3
    assert sorted(queue.get(timeout=LATE) for _ in range(3)) == [0, 1, 2]
    for putter in putters:
        putter.result()
    queue.put_many(range(3), block=False)
    assert queue.full()
    assert outcome(queue.put_nowait, 3) == (Full, ())


@each_plain
def test_waiting_puts_see_a_larger_maxsize_at_once(kind):
    queue = queue_with(kind, 0, maxsize=1)
    putters = [parked(queue.put, number) for number in (1, 2)]
    queue.maxsize = 2
    wait_until(queue.full)
    queue.maxsize = 0
    for putter in putters:
        putter.result()
    assert sorted(drained(queue)) == [0, 1, 2]


@each_kind
def test_a_smaller_maxsize_while_a_putter_waits(kind):
    """It waits until there is room under the new bound."""
    queue = queue_with(kind, 1, 2, 3, maxsize=3)
    putter = parked(queue.put, 4)
    queue.maxsize = 1
    for _ in range(2):
        queue.get()
        wait_parked(putter)
        assert queue.full()
    queue.get()
    putter.result()
    assert drained(queue) == [4]


@each_kind
def test_a_bound_put_on_later_keeps_what_is_there(kind):
    queue = queue_with(kind, *range(10))
    queue.maxsize = 5
    assert queue.full()
    assert outcome(queue.put_nowait, 1) == (Full, ())
    assert queue.put_many([]) == 0
    assert len(queue.get_many(6)) == 6
    queue.put_nowait(1)
    assert outcome(queue.put_nowait, 1) == (Full, ())


@each_kind
def test_a_bound_taken_off_later(kind):
    queue = queue_with(kind, 1, 2, maxsize=2)
    queue.maxsize = 0
    assert not queue.full()
    assert queue.put_many(range(1000), block=False) == 1000
    assert queue.qsize() == 1002


# Tasks and joins ------------------------------------------------------------------------------------------------------


@each_kind
def test_unfinished_tasks_counts_puts_and_task_dones(kind):
    queue = kind()
    queue.put(1)
    queue.put_many([2, 3, 4])
    assert queue.unfinished_tasks == 4
    queue.get_many()
    assert queue.unfinished_tasks == 4
    for left in (3, 2, 1, 0):
        queue.task_done()
        assert queue.unfinished_tasks == left
    assert outcome(queue.task_done) == (ValueError, ("task_done() called too many times",))
    assert queue.unfinished_tasks == 0


@each_kind
def test_a_join_with_nothing_to_do_returns(kind):
    queue = kind()
    queue.join()
    queue.put(1)
    queue.get()
    queue.task_done()
    queue.join()


@each_kind
def test_several_joiners_wait_for_the_last_task(kind):
    queue = queue_with(kind, 1, 2, 3)
    joiners = [parked(queue.join) for _ in range(3)]
    queue.get_many()
    for _ in range(2):
        queue.task_done()
        for joiner in joiners:
            wait_parked(joiner)
    queue.task_done()
    for joiner in joiners:
        assert joiner.result() is None


@each_kind
def test_a_join_waits_for_what_is_put_meanwhile(kind):
    queue = queue_with(kind, 1)
    joiner = parked(queue.join)
    queue.put(2)
    queue.task_done()
    wait_parked(joiner)
    queue.task_done()
    joiner.result()


@each_kind
def test_tasks_may_be_done_before_their_items_are_got(kind):
    queue = queue_with(kind, 1)
    queue.task_done()
    queue.join()
    assert queue.get() == 1
    assert outcome(queue.task_done)[0] is ValueError


@each_kind
def test_unfinished_tasks_can_be_set(kind):
    queue = queue_with(kind, 1)
    queue.unfinished_tasks = 3
    queue.task_done()
    queue.put(2)
    assert queue.unfinished_tasks == 3
    queue.unfinished_tasks = 0
    queue.join()
    assert outcome(queue.task_done)[0] is ValueError


@each_kind
def test_workers_and_a_join(kind):
    """The example of the standard documentation."""
    queue, done = kind(10), []

    def work():
        while (item := queue.get()) < 1000:
            done.append(item)
            queue.task_done()
        queue.task_done()

    workers = [Task(work) for _ in range(3)]
    for number in range(500):
        queue.put(number)
    queue.join()
    assert sorted(done) == list(range(500))
    queue.put_many([1000] * 3)
    queue.join()
    for worker in workers:
        worker.result()


# Shutdown -------------------------------------------------------------------------------------------------------------

each_shutdown = pytest.mark.parametrize("immediate", [False, True], ids=["shutdown", "immediate"])


@each_kind
def test_a_shutdown_lets_gets_take_what_is_left(kind):
    queue = queue_with(kind, 1, 2, 3)
    assert not queue.is_shutdown
    queue.shutdown()
    assert queue.is_shutdown is True
    assert outcome(queue.put, 4) == (ShutDown, ())
    assert queue.get(timeout=LATE) == in_order(kind, [1, 2, 3])[0]
    assert queue.get_many(min_count=5) == in_order(kind, [1, 2, 3])[1:]
    assert outcome(queue.get) == outcome(queue.get_nowait) == (ShutDown, ())
    assert outcome(queue.get, timeout=0.01) == outcome(queue.get_many) == (ShutDown, ())
    assert outcome(queue.get_many, block=False) == (ShutDown, ())


@each_kind
def test_an_immediate_shutdown_removes_what_is_left_and_its_tasks(kind):
    queue = queue_with(kind, 1, 2, 3)
    queue.get()
    queue.shutdown(immediate=True)
    assert (queue.is_shutdown, queue.qsize(), queue.unfinished_tasks) == (True, 0, 1)
    assert outcome(queue.get) == outcome(queue.put, 1) == outcome(queue.get_many) == (ShutDown, ())
    queue.task_done()
    queue.join()


@each_kind
def test_a_shutdown_may_be_repeated_and_hardened(kind):
    queue = queue_with(kind, 1)
    queue.shutdown()
    queue.shutdown()
    assert queue.qsize() == 1
    queue.shutdown(True)
    assert queue.qsize() == 0
    queue.shutdown(False)
    assert queue.is_shutdown


@thorough(but=("plain-*", "hooked-get*"))
@each_shutdown
@each_timed_call
@each_kind
def test_a_shutdown_wakes_everybody(kind, name, immediate):
    queue = stuck_queue(name, kind)
    waiters = [parked(CALLS[name], queue, timeout=timeout) for timeout in (None, 60, None)]
    queue.shutdown(immediate)
    for waiter in waiters:
        assert outcome(waiter.result) == (ShutDown, ())
    assert queue.qsize() == (name in PUTS and not immediate)
    assert queue.unfinished_tasks == queue.qsize()


@each_kind
def test_a_shutdown_does_not_let_waiting_putters_in(kind):
    queue = queue_with(kind, 1, maxsize=1)
    putter = parked(queue.put, 2)
    queue.shutdown()
    assert drained(queue) == [1]
    assert outcome(putter.result) == (ShutDown, ())
    assert queue.qsize() == 0


@each_kind
def test_a_shutdown_serves_a_get_that_waits_for_more_with_the_rest(kind):
    queue = queue_with(kind, 1, 2)
    getter = parked(queue.get_many, min_count=3)
    queue.shutdown()
    assert getter.result() == in_order(kind, [1, 2])


@each_kind
def test_joiners_wait_on_after_a_shutdown_until_the_tasks_are_done(kind):
    queue = queue_with(kind, 1, 2)
    joiner = parked(queue.join)
    queue.shutdown()
    wait_parked(joiner)
    for _ in drained(queue):
        queue.task_done()
    joiner.result()


@each_kind
def test_joiners_after_an_immediate_shutdown_wait_for_what_was_got(kind):
    queue = queue_with(kind, 1, 2, 3)
    queue.get()
    joiners = [parked(queue.join) for _ in range(2)]
    queue.shutdown(immediate=True)
    for joiner in joiners:
        wait_parked(joiner)
    queue.task_done()
    for joiner in joiners:
        joiner.result()


@each_kind
def test_an_immediate_shutdown_wakes_joiners_where_nothing_is_left_to_do(kind):
    queue = queue_with(kind, 1, 2)
    joiners = [parked(queue.join) for _ in range(2)]
    queue.shutdown(immediate=True)
    for joiner in joiners:
        joiner.result()


@each_kind
def test_is_shutdown_can_be_set(kind):
    """As with the standard one, whose attribute it is."""
    queue = kind()
    queue.is_shutdown = True
    assert outcome(queue.put, 1) == (ShutDown, ())
    assert outcome(queue.get_nowait) == (ShutDown, ())
    queue.is_shutdown = False
    queue.put(1)
    assert queue.get() == 1


# put_many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items", [[1, 2, 3], (1, 2, 3), range(1, 4), iter([1, 2, 3]), {1: 0, 2: 0, 3: 0}, np.arange(1, 4)], ids=type
)
@each_fifo
def test_put_many_takes_any_iterable(kind, items):
    if not isinstance(items, (list, tuple, range, dict, np.ndarray)):
        items = iter([1, 2, 3])  # one for each kind
    queue = kind()
    assert queue.put_many(items) == 3
    assert drained(queue) == [1, 2, 3]


@each_kind
def test_put_many_of_nothing_puts_nothing(kind):
    queue = queue_with(kind, 1, maxsize=1)
    assert queue.put_many([]) == queue.put_many(iter(())) == queue.put_many([], block=False) == 0
    assert (queue.qsize(), queue.unfinished_tasks) == (1, 1)


@each_kind
def test_an_iterable_that_fails_puts_nothing(kind):
    def failing():
        yield 1
        raise ZeroDivisionError

    queue = kind()
    with pytest.raises(ZeroDivisionError):
        queue.put_many(failing())
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 0)


@each_fifo
def test_an_iterable_may_use_the_queue(kind):
    """It is taken before anything is locked."""
    queue = kind()

    def numbers():
        for number in range(3):
            queue.put(-number)
            yield number

    assert queue.put_many(numbers()) == 3
    assert drained(queue) == [0, -1, -2, 0, 1, 2]


@each_kind
def test_put_many_accepts_what_fits(kind):
    queue = queue_with(kind, 0, maxsize=3)
    assert queue.put_many([1, 2, 3, 4], block=False) == 2
    assert outcome(queue.put_many, [3], block=False) == (Full, ())
    assert outcome(queue.put_many, [3], timeout=0.01) == (Full, ())
    assert outcome(queue.put_many, [3], timeout=-1) == (ValueError, ("'timeout' must be a non-negative number",))
    assert queue.unfinished_tasks == 3
    assert drained(queue) == in_order(kind, [0, 1, 2])


@each_kind
def test_put_many_looks_at_the_timeout_as_put_does(kind):
    bounded, unbounded = kind(9), kind()
    assert outcome(bounded.put_many, [1], True, -1)[0] is ValueError
    assert outcome(bounded.put_many, [1], True, "1")[0] is TypeError
    assert bounded.put_many([1], False, -1) == 1
    assert unbounded.put_many([1], True, -1) == 1
    assert unbounded.put_many([1], True, "1") == 1
    assert (bounded.qsize(), unbounded.qsize()) == (1, 2)


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("maxsize", [1, 2, 7])
@each_fifo
def test_put_many_may_be_longer_than_the_maxsize(kind, maxsize, batch):
    queue, total, taken = kind(maxsize), 20 * maxsize + 13, []
    putter = Task(queue.put_many, range(total))
    while len(taken) < total:
        taken += queue.get_many(batch)
    assert putter.result() == total
    assert taken == list(range(total))
    assert queue.unfinished_tasks == total


@each_kind
def test_put_many_ended_by_a_shutdown_says_what_it_accepted(kind):
    queue = kind(3)
    putter = parked(queue.put_many, range(10))
    queue.get()
    wait_until(queue.full)
    wait_parked(putter)
    queue.shutdown()
    assert putter.result() == 4
    assert (queue.qsize(), queue.unfinished_tasks) == (3, 4)


@thorough
@each_kind
def test_put_many_ended_by_a_timeout_says_what_it_accepted(kind):
    for timeout, in_time in timeouts():
        queue, began = kind(3), time.monotonic()
        putter = parked_or_over(queue.put_many, range(10), timeout=timeout)
        queue.get()
        if in_time():
            break
    assert putter.result() == 4
    assert timeout <= time.monotonic() - began < timeout + LATE
    assert queue.qsize() == 3


@each_kind
def test_one_timeout_is_for_all_of_a_put_many(kind):
    """Room that comes again and again does not renew it."""
    for timeout, _ in timeouts():
        queue, accepted = queue_with(kind, 0, maxsize=1), 0
        with helpers.trickling(queue), contextlib.suppress(Full):  # where no room has come at all
            began = time.monotonic()
            accepted = queue.put_many(range(10_000), timeout=timeout)
        assert timeout <= time.monotonic() - began < timeout + LATE
        assert accepted < 10_000
        assert queue.unfinished_tasks == 1 + accepted
        if accepted:
            break


@each_fifo
def test_put_many_of_a_queues_own_contents(kind):
    queue = queue_with(kind, 1, 2, 3)
    assert queue.put_many(list(queue.queue)) == 3
    assert drained(queue) == [1, 2, 3, 1, 2, 3]


# get_many -------------------------------------------------------------------------------------------------------------


@each_kind
def test_get_many_takes_what_is_there(kind):
    queue = queue_with(kind, 3, 1, 2)
    batch = queue.get_many()
    assert type(batch) is list
    assert batch == in_order(kind, [3, 1, 2])
    assert queue.empty()


@each_kind
def test_get_many_takes_at_most_the_maximum(kind):
    queue = queue_with(kind, 3, 1, 2)
    assert queue.get_many(2) == in_order(kind, [3, 1, 2])[:2]
    assert queue.get_many(max_count=10**30) == in_order(kind, [3, 1, 2])[2:]
    queue.put_many(range(5))
    assert queue.get_many(np.int8(2), min_count=np.int64(2)) == in_order(kind, range(5))[:2]
    assert len(queue.get_many(True)) == 1


@each_kind
def test_get_many_of_nothing(kind):
    queue = kind()
    assert outcome(queue.get_many, block=False) == (Empty, ())
    assert outcome(queue.get_many, timeout=0) == (Empty, ())
    assert outcome(queue.get_many, timeout=0.01) == (Empty, ())
    assert outcome(queue.get_many, min_count=3, block=False) == (Empty, ())


@pytest.mark.parametrize(
    ("max_count", "min_count"),
    [(None, 0), (None, -1), (3, 0), (3, 4), (0, 1), (-1, 1), (-1, -1), (3, 2**70), (-(2**70), 1), (None, -(2**70))],
)
@each_kind
def test_counts_out_of_range_are_a_value_error_that_names_them(kind, max_count, min_count):
    queue = queue_with(kind, 1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"m(in|ax)_count is -?\d+; expected"):
        queue.get_many(max_count, min_count=min_count)
    assert queue.qsize() == 4


@each_kind
def test_get_many_at_the_end_of_its_patience_takes_what_is_there(kind):
    queue = queue_with(kind, 1, 2)
    assert queue.get_many(min_count=5, block=False) == in_order(kind, [1, 2])
    queue.put_many([1, 2])
    began = time.monotonic()
    assert queue.get_many(min_count=5, timeout=0.05) == in_order(kind, [1, 2])
    assert 0.05 <= time.monotonic() - began < 0.05 + LATE
    queue.put(1)
    assert queue.get_many(min_count=2**70, timeout=0) == [1]


@each_fifo
def test_min_count_waits_for_that_many_and_takes_what_is_there(kind):
    queue = queue_with(kind, 0, 1)
    getter = parked(queue.get_many, min_count=4)
    queue.put(2)
    wait_parked(getter)
    assert queue.qsize() == 3
    queue.put_many([3, 4])
    batch = getter.result()
    assert batch == list(range(len(batch)))
    assert len(batch) >= 4
    assert batch + drained(queue) == [0, 1, 2, 3, 4]


@each_fifo
def test_min_count_up_to_the_maximum_leaves_the_rest(kind):
    queue = kind()
    getter = parked(queue.get_many, 3, min_count=3)
    queue.put_many(range(5))
    assert getter.result() == [0, 1, 2]
    assert drained(queue) == [3, 4]


@each_kind
def test_min_count_waits_no_longer_than_until_the_queue_is_full(kind):
    """Else nobody could go on."""
    queue = kind(3)
    getter = parked(queue.get_many, min_count=5)
    queue.put_many([1, 2])
    wait_parked(getter)
    queue.put(3)
    assert getter.result() == in_order(kind, [1, 2, 3])


@each_kind
def test_a_full_queue_does_not_let_a_larger_min_count_wait(kind):
    queue = queue_with(kind, 1, 2, maxsize=2)
    assert queue.get_many(min_count=3) == in_order(kind, [1, 2])


@each_kind
def test_a_maxsize_that_makes_the_queue_full_serves_a_get_that_waits_for_more(kind):
    """At the latest when somebody waits for room: else both would wait for ever."""
    queue = queue_with(kind, 1, 2)
    getter = parked(queue.get_many, min_count=3)
    queue.maxsize = 2
    putter = Task(queue.put, 3)
    batch = getter.result()
    putter.result()
    assert sorted(batch + drained(queue)) == [1, 2, 3]


@each_fifo
def test_putters_and_a_getter_that_waits_for_more_than_the_maxsize(kind):
    queue, taken = kind(2), []
    putter = Task(queue.put_many, range(8))
    while len(taken) < 8:
        taken += Task(queue.get_many, min_count=4).result()  # full with two, which is not waited for any longer
    assert putter.result() == 8
    assert taken == list(range(8))


@each_fifo
def test_a_get_that_needs_many_does_not_block_a_get_that_needs_few(kind):
    queue = kind()
    large = parked(queue.get_many, min_count=5)
    small = parked(queue.get_many, 2, min_count=2)
    queue.put(1)
    wait_parked(small)
    queue.put(2)
    assert small.result() == [1, 2]
    wait_parked(large)
    queue.put_many(range(5))
    assert large.result() == list(range(5))


@each_algorithm
def test_a_large_batch(kind):
    queue, items = kind(), list(range(100_000))
    getter = parked(queue.get_many, min_count=100_000)
    assert queue.put_many(items) == 100_000
    assert getter.result() == items
    assert queue.unfinished_tasks == 100_000


# clear ----------------------------------------------------------------------------------------------------------------


@each_kind
def test_clear_removes_everything_and_does_its_tasks(kind):
    queue = queue_with(kind, 1, 2, 3)
    queue.get()
    assert queue.clear() is None
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 1)
    queue.put(4)
    assert drained(queue) == [4]
    queue.clear()
    assert queue.unfinished_tasks == 2


@each_kind
def test_clear_wakes_putters_and_joiners(kind):
    queue = queue_with(kind, 1, 2, maxsize=2)
    joiners = [parked(queue.join) for _ in range(2)]
    queue.clear()
    for joiner in joiners:
        joiner.result()
    queue.put_many([1, 2])
    putters = [parked(queue.put, number) for number in (3, 4)]
    queue.clear()
    for putter in putters:
        putter.result()
    assert sorted(drained(queue)) == [3, 4]


@each_kind
def test_clear_after_a_shutdown(kind):
    queue = queue_with(kind, 1)
    queue.shutdown()
    queue.clear()
    assert outcome(queue.get) == (ShutDown, ())
    queue.join()


@each_kind
def test_clear_where_tasks_were_done_before_does_not_count_below_zero(kind):
    queue = queue_with(kind, 1, 2)
    queue.task_done()
    with contextlib.suppress(ValueError):
        queue.clear()
    assert queue.unfinished_tasks >= 0
    assert queue.qsize() == 0


# Subclasses -----------------------------------------------------------------------------------------------------------


def test_hooks_hold_the_items_as_they_like():
    class Unique(Queue):
        """The well-known queue without duplicates."""

        def _init(self, maxsize):
            self.seen = set()

        def _qsize(self):
            return len(self.seen)

        def _put(self, item):
            self.seen.add(item)

        def _get(self):
            return self.seen.pop()

    queue = Unique(2)
    assert queue.put_many([1, 1, 1]) == 3
    queue.put(1)
    assert (queue.qsize(), queue.full(), queue.unfinished_tasks) == (1, False, 4)
    queue.put(2)
    assert queue.full()
    assert sorted(queue.get_many()) == [1, 2]


@pytest.mark.parametrize("base", [Queue, LifoQueue, PriorityQueue], ids=lambda base: base.__name__)
def test_hooks_may_call_those_of_the_base(base):
    class Counting(base):
        def _init(self, maxsize):
            super()._init(maxsize)
            self.calls = []

        def _put(self, item):
            self.calls.append(("put", item))
            super()._put(item)

        def _get(self):
            self.calls.append(("get", super()._qsize()))
            return super()._get()

    queue = Counting()
    queue.put(1)
    queue.put_many([2, 3])
    assert queue.get_many(2) == in_order(base, [1, 2, 3])[:2]
    queue.get_nowait()
    assert queue.calls == [("put", 1), ("put", 2), ("put", 3), ("get", 3), ("get", 2), ("get", 1)]


@pytest.mark.parametrize("hook", ["_init", "_qsize", "_put", "_get"])
def test_one_hook_alone_is_seen(hook):
    calls = []

    def spy(self, *args):
        calls.append(hook)
        return getattr(Queue, hook)(self, *args)

    queue = type("Spying", (Queue,), {hook: spy})(2)
    queue.put(1)
    queue.put(2)
    assert (queue.qsize(), queue.full(), queue.get(), queue.get_nowait()) == (2, True, 1, 2)
    assert hook in calls


def test_hooks_run_under_the_mutex():
    class Watching(Queue):
        def _put(self, item):
            super()._put((item, self.mutex.locked()))

    queue = Watching()
    queue.put(1)
    queue.put_many([2])
    assert queue.get_many() == [(1, True), (2, True)]


class Superstitious(Queue):
    def _put(self, item):
        if item == 13:
            raise ZeroDivisionError
        super()._put(item)


@pytest.mark.parametrize("put", [lambda q: q.put(13), lambda q: q.put_many([13])], ids=["put", "put_many"])
def test_a_hook_that_raises_leaves_the_queue_usable(put):
    queue = Superstitious()
    with pytest.raises(ZeroDivisionError):
        put(queue)
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 0)
    queue.put(1)
    assert Task(queue.get).result() == 1


def test_a_hook_that_raises_in_the_middle_of_a_batch_keeps_what_was_put():
    queue = Superstitious()
    getter = parked(queue.get)
    with contextlib.suppress(ZeroDivisionError):
        assert queue.put_many([1, 2, 13, 3]) == 2
    assert getter.result() == 1
    assert (queue.qsize(), queue.unfinished_tasks) == (1, 2)


def test_a_hook_from_a_mixin_is_seen():
    class Doubling:
        def _put(self, item):
            super()._put(2 * item)

    class Doubled(Doubling, Queue):
        pass

    class Hidden(Queue, Doubling):  # behind the Queue's own
        pass

    assert drained(queue_with(Doubled, 1)) == [2]
    assert drained(queue_with(Hidden, 1)) == [1]


@pytest.mark.parametrize("kind", [Queue, Named, LifoQueue, Hooked], ids=lambda kind: kind.__name__)
def test_a_hook_set_on_an_instance_is_seen(kind):
    queue, put = queue_with(kind, 0), []
    queue._put = put.append
    queue.put(1)
    queue.put_many([2, 3])
    assert put == [1, 2, 3]
    assert (queue.qsize(), queue.unfinished_tasks) == (1, 4)
    queue._qsize = lambda: 7
    assert queue.qsize() == 7
    queue._get = lambda: "item"
    assert [queue.get(), queue.get_nowait(), *queue.get_many(2)] == ["item"] * 4


def test_a_hook_set_on_the_class_of_a_living_queue_is_seen_by_the_standard_algorithm():
    class Patched(LifoQueue):
        pass

    queue, put = Patched(), []
    queue.put(0)
    Patched._put = lambda self, item: put.append(item)
    queue.put(1)
    queue.put_many([2])
    queue.put_nowait(3)
    assert put == [1, 2, 3]


def test_a_hook_set_on_the_class_is_seen_by_all_of_its_queues():
    class Patched(Queue):
        pass

    put, before = [], queue_with(Patched, 1)
    Patched._put = lambda self, item: put.append(item)
    for queue in (before, Patched()):
        queue.put(4)
        queue.put_many([5])
        queue.put_nowait(6)
    assert put == 2 * [4, 5, 6]
    assert before.qsize() == 1


PATCHED_CALLS = {
    "put": lambda queue: (queue.put(2), queue.put_nowait(2)),
    "get": lambda queue: (queue.get(), queue.get_nowait()),
    "_put": lambda queue: (queue.put(2), queue.put_many([2])),
    "_get": lambda queue: (queue.get(), queue.get_many()),
    "_qsize": lambda queue: (queue.qsize(), queue.empty(), queue.full()),
    "join": lambda queue: (queue.task_done(), queue.task_done(), queue.join()),
    "shutdown": lambda queue: queue.shutdown(),
}


@pytest.mark.parametrize("name", PATCHED_CALLS)
@each_class
def test_patching_the_class_is_seen(kind, name):
    """As with a class in Python, by queues that there are already."""
    queue = queue_with(kind, 0, 1, maxsize=9)
    original, called = getattr(kind, name), []

    def spy(self, *args, **kwargs):
        called.append(name)
        return original(self, *args, **kwargs)

    with mock.patch.object(kind, name, spy):
        PATCHED_CALLS[name](queue)
        made_meanwhile = kind()
    assert len(called) >= (1 if name in ("join", "shutdown") else 2)
    assert getattr(kind, name) is original
    assert (queue.is_converted, made_meanwhile.is_converted) == (name.startswith("_"), name.startswith("_"))
    assert not kind().is_converted


IN_THE_WAY = {
    "maxsize": (7, lambda queue: queue.maxsize),
    "unfinished_tasks": (7, lambda queue: queue.unfinished_tasks),
    "is_shutdown": (True, lambda queue: queue.is_shutdown),
    "queue": ([7], lambda queue: list(queue.queue)),
    "mutex": (None, lambda queue: queue.mutex.locked()),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
@each_class
def test_a_class_attribute_of_the_same_name_does_not_hide_the_queues_own(kind, name):
    """The standard one sets them on the instance, in front of the class's; here it may be refused, but not in vain."""
    value, look = IN_THE_WAY[name]
    try:
        queue = type("Odd", (kind,), {name: value})(2)
    except TypeError:
        return
    queue.put(1)
    assert look(queue) == {"maxsize": 2, "unfinished_tasks": 1, "queue": [1]}.get(name, False)


@each_class
def test_a_class_assigned_to_a_living_queue_is_seen_or_refused(kind):
    class Doubled(kind):
        def _put(self, item):
            super()._put(2 * item)

    queue = queue_with(kind, 1)
    try:
        queue.__class__ = Doubled
    except TypeError:
        return
    queue.put(5)
    assert sorted(drained(queue)) == [1, 10]


@each_kind
def test_an_overridden_put_or_get_is_seen_by_the_nowait_calls(kind):
    class Louder(type(kind())):
        def put(self, item, block=True, timeout=None):
            super().put((item, block, timeout), block, timeout)

        def get(self, block=True, timeout=None):
            return super().get(block, timeout), block, timeout

    queue = Louder()
    queue.put_nowait(1)
    assert queue.get_nowait() == ((1, False, None), False, None)


@each_kind
def test_a_put_or_get_set_on_an_instance_is_seen_by_the_nowait_calls(kind):
    queue = queue_with(kind, 0)  # which could be put to and got from in the fastest way
    queue.put = mock.Mock(return_value="put")
    queue.get = mock.Mock(return_value="got")
    assert (queue.put_nowait(1), queue.get_nowait()) == ("put", "got")
    queue.put.assert_called_once_with(1, block=False)
    queue.get.assert_called_once_with(block=False)
    del queue.put, queue.get
    queue.put_nowait(2)
    assert drained(queue) == in_order(kind, [0, 2])


@each_class
def test_a_subclass_with_an_init_of_its_own(kind):
    class Topic(kind):
        def __init__(self, topic, *args, **kwargs):
            self.topic = topic
            super().__init__(*args, **kwargs)

    queue = Topic("speed", maxsize=2)
    assert (queue.topic, queue.maxsize) == ("speed", 2)
    queue.put_many([1, 2], block=False)
    assert queue.full()


@each_class
def test_a_subclass_with_attributes_set_before_the_init(kind):
    class Early(kind):
        limit = 3

        def __init__(self):
            self.name = "early"
            super().__init__(self.limit)

        def _put(self, item):
            super()._put(item if self.name else None)

    queue = Early()
    queue.put(1)
    assert drained(queue) == [1]


@each_class
def test_a_subclass_with_slots_and_properties(kind):
    class Slotted(kind):
        __slots__ = ("topic",)

        @property
        def maxsize_or_more(self):
            return max(self.maxsize, 10)

    queue = Slotted(3)
    queue.topic = "speed"
    assert (queue.topic, queue.maxsize_or_more) == ("speed", 10)


def test_a_subclass_that_makes_maxsize_its_own():
    """A class attribute in the way of ours is the subclass's business, and is honoured."""

    class Fixed(Queue):
        def full(self):
            return True

        def qsize(self):
            return 17

    queue = Fixed(2)
    queue.put(1)
    queue.put_nowait(2)
    assert (queue.full(), queue.qsize(), queue.empty()) == (True, 17, False)
    assert drained(queue) == [1, 2]


def test_methods_do_not_go_through_what_a_subclass_overrides_unless_the_standard_ones_do():
    """The standard `put` and `get` ask `_qsize` and not `qsize`, `shutdown` does not call `task_done`."""

    class Deaf(Queue):
        def qsize(self):
            raise ZeroDivisionError

        full = empty = task_done = qsize

    queue = Deaf(2)
    queue.put_many([1, 2])
    assert outcome(queue.put_nowait, 3) == (Full, ())
    assert queue.get() == 1
    queue.shutdown(immediate=True)
    assert queue.unfinished_tasks == 1


# The well-known idioms ------------------------------------------------------------------------------------------------

INSIDE = ["mutex", "queue", "not_empty", "not_full", "all_tasks_done"]


@pytest.mark.parametrize("name", INSIDE)
@each_kind
def test_the_inner_parts_of_a_queue_stay_the_same_objects(kind, name):
    queue = queue_with(kind, 1)
    inside = getattr(queue, name)
    queue.put(2)
    assert getattr(queue, name) is inside or (name == "queue" and not queue.is_converted)
    if name != "mutex":
        assert isinstance(inside, type(getattr(standard_of(kind)(), name))) or kind is Hooked
    assert drained(queue) == in_order(kind, [1, 2])


@each_fifo
def test_the_queue_attribute_holds_the_items(kind):
    queue = kind(9)
    queue.put_many([1, 2, 3])
    assert list(queue.queue) == [1, 2, 3]
    assert (queue.queue[0], len(queue.queue), 2 in queue.queue) == (1, 3, True)
    queue.put(4)
    assert list(queue.queue) == [1, 2, 3, 4]
    queue.queue.remove(2)
    assert (queue.qsize(), drained(queue)) == (3, [1, 3, 4])


def test_the_other_orders_queue_attributes_hold_the_items():
    lifo, priority = queue_with(LifoQueue, 3, 1, 2), queue_with(PriorityQueue, 3, 1, 2)
    assert lifo.queue == [3, 1, 2]
    assert (priority.queue[0], sorted(priority.queue)) == (1, [1, 2, 3])


@pytest.mark.parametrize("kind", [Queue, LifoQueue], ids=["deque", "list"])
def test_a_plain_queues_attribute_is_a_container_that_can_be_used_as_one(kind):
    queue, container = queue_with(kind, 1, 2), deque if kind is Queue else list
    assert isinstance(queue.queue, container)
    assert queue.queue == container([1, 2])
    assert queue.queue.copy() == container([1, 2])
    assert list(reversed(queue.queue)) == [2, 1]
    assert (queue.queue[0], queue.queue[-1], queue.queue.index(2), queue.queue.count(2)) == (1, 2, 1, 1)
    with pytest.raises(IndexError):
        queue.queue[2]
    assert not queue.is_converted  # by all of that
    queue.queue.insert(0, 0)
    assert queue.is_converted
    assert type(queue.queue) is container
    queue.queue.extend([3, 4])
    assert drained(queue) == in_order(kind, [0, 1, 2, 3, 4])


CHANGES = {
    "append": lambda container: container.append(3),
    "clear": lambda container: container.clear(),
    "delete": lambda container: container.__delitem__(0),
    "pop": lambda container: container.pop(),
    "set": lambda container: container.__setitem__(0, 3),
    "reverse": lambda container: container.reverse(),
    "remove": lambda container: container.remove(2),
    "add in place": lambda container: container.__iadd__([3]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("kind", [Queue, LifoQueue], ids=["deque", "list"])
def test_a_change_of_a_plain_queues_container_changes_the_queue(kind, change):
    queue, container = queue_with(kind, 1, 2), queue_with(standard_of(kind), 1, 2).queue
    change(container)
    change(queue.queue)
    assert queue.queue == container
    queue = queue_with(kind, 1, 2)
    queue.queue += [3]
    assert list(queue.queue) == [1, 2, 3]


def test_a_view_of_a_plain_queue_stays_one_of_the_queue():
    queue = queue_with(Queue, 1)
    view = queue.queue
    convert(queue)
    queue.put(2)
    assert list(view) == [1, 2]
    view.append(3)
    assert drained(queue) == [1, 2, 3]


@each_fifo
def test_the_queue_attribute_can_be_set(kind):
    queue = queue_with(kind, 1)
    queue.queue = type(queue.queue)([7, 8])
    assert queue.qsize() == 2
    assert drained(queue) == [7, 8]


@each_kind
def test_with_mutex_clear(kind):
    """`with q.mutex: q.queue.clear()`"""
    queue = queue_with(kind, 1, 2, 3)
    with queue.mutex:
        queue.queue.clear()
    assert (queue.qsize(), queue.empty(), queue.unfinished_tasks) == (0, True, 3)
    queue.put(4)
    assert drained(queue) == [4]


def clear_with_everything(queue):
    """The longer form of the same idiom, which wakes all waiters."""
    with queue.mutex:
        unfinished = queue.unfinished_tasks - len(queue.queue)
        if unfinished <= 0:
            queue.all_tasks_done.notify_all()
        queue.unfinished_tasks = unfinished
        queue.queue.clear()
        queue.not_full.notify_all()


@each_kind
def test_with_mutex_clear_wakes_putters_and_joiners(kind):
    queue = queue_with(kind, 1, 2, maxsize=2)
    joiner = parked(queue.join)
    clear_with_everything(queue)
    joiner.result()
    queue.put_many([1, 2])
    putter = parked(queue.put, 3)
    clear_with_everything(queue)
    putter.result()
    assert drained(queue) == [3]


CALLS_UNDER_MUTEX = {
    "put": lambda queue: queue.put(5),
    "put_nowait": lambda queue: queue.put_nowait(5),
    "put_many": lambda queue: queue.put_many([5]),
    "get": lambda queue: queue.get(),
    "get_nowait": lambda queue: queue.get_nowait(),
    "get_many": lambda queue: queue.get_many(),
    "clear": lambda queue: queue.clear(),
    "qsize": lambda queue: queue.qsize(),
    "empty": lambda queue: queue.empty(),
    "full": lambda queue: queue.full(),
    "task_done": lambda queue: queue.task_done(),
    "join": lambda queue: queue.join(),
    "shutdown": lambda queue: queue.shutdown(immediate=True),
}


@thorough(but=("plain-*",))
@pytest.mark.parametrize("call", CALLS_UNDER_MUTEX.values(), ids=list(CALLS_UNDER_MUTEX))
@each_kind
def test_with_mutex_excludes_the_other_threads(kind, call):
    """They wait until it is released."""
    queue = queue_with(kind, 1, 2, maxsize=5)
    with queue.mutex:
        other = parked(call, queue)
        assert (queue._qsize(), queue.unfinished_tasks, queue.is_shutdown) == (2, 2, False)
    if call is CALLS_UNDER_MUTEX["join"]:
        queue.clear()
    other.result()


@each_kind
def test_hooks_can_be_called_under_the_mutex(kind):
    queue = queue_with(kind, 1)
    with queue.mutex:
        queue._put(2)
        assert queue._qsize() == 2
        first = queue._get()
    assert [first, *drained(queue)] == in_order(kind, [1, 2])
    assert queue.unfinished_tasks == 1


def join_with_timeout(queue, timeout):
    """The well-known loop: whether all tasks were done in time."""
    deadline = time.monotonic() + timeout
    with queue.all_tasks_done:
        while queue.unfinished_tasks:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            queue.all_tasks_done.wait(remaining)
    return True


@each_kind
def test_joining_with_a_timeout(kind):
    queue = queue_with(kind, 1, 2)
    assert not join_with_timeout(queue, 0.02)
    joiner = parked(join_with_timeout, queue, 60)
    queue.get_many()
    queue.task_done()
    wait_parked(joiner)
    queue.task_done()
    assert joiner.result()
    queue.put(3)
    joiner = parked(join_with_timeout, queue, 60)
    queue.clear()
    assert joiner.result()
    queue.put(4)
    joiner = parked(join_with_timeout, queue, 60)
    queue.shutdown(immediate=True)
    assert joiner.result()


@each_fill
@each_kind
def test_waiting_for_not_empty(kind, fill):
    queue = kind(1)

    def peek():
        with queue.not_empty:
            while not queue._qsize():
                queue.not_empty.wait()
            return queue.queue[0]

    peeker = parked(peek)
    fill(queue)
    assert peeker.result() == 5
    assert queue.get() == 5


@pytest.mark.parametrize("drain", DRAINS.values(), ids=list(DRAINS))
@each_kind
def test_waiting_for_not_full(kind, drain):
    queue = queue_with(kind, 1, maxsize=1)

    def wait():
        with queue.not_full:
            while queue._qsize() >= queue.maxsize:
                queue.not_full.wait()
            return "room"

    waiter = parked(wait)
    drain(queue)
    assert waiter.result() == "room"


@each_kind
def test_a_notification_by_hand_wakes_waiters(kind):
    queue = kind()
    getter = parked(queue.get)
    with queue.not_empty:
        queue._put(1)
        queue.not_empty.notify()
    assert getter.result() == 1
    queue.unfinished_tasks = 1
    joiner = parked(queue.join)
    with queue.mutex:
        queue.unfinished_tasks = 0
        queue.all_tasks_done.notify_all()
    joiner.result()


def test_a_lock_held_while_another_is_interrupted_is_still_the_holders():
    """A call that waits for the mutex does not take it from its holder when it gives up."""
    queue = queue_with(Queue, 1)
    with queue.mutex:
        assert not queue.mutex.acquire(timeout=0.01)
        waiter = parked(queue.put, 2)
        assert queue.mutex.locked()
        wait_parked(waiter)
    waiter.result()
    assert not queue.mutex.locked()


# Looks ----------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Inside(Protocol):
    mutex: Any
    not_empty: Any
    queue: Any


def show_members(value, depth=2):
    """As a debugger expands a variable."""
    repr(value)
    for _, member in inspect.getmembers(value) if depth else ():
        if not callable(member):
            show_members(member, depth - 1)


def inspect_by_rich(queue):
    rich = pytest.importorskip("rich", reason="rich is not installed")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    rich.inspect(queue, console=console, all=True, private=True)


LOOKS = {
    "attributes": lambda queue: [getattr(queue, name) for name in INSIDE],
    "hasattr": lambda queue: [hasattr(queue, name) for name in INSIDE],
    "getmembers": inspect.getmembers,
    "a debugger": show_members,
    "a mock": lambda queue: mock.Mock(spec=queue),
    "a mock of a mock": lambda queue: mock.create_autospec(queue),
    "a protocol": lambda queue: isinstance(queue, Inside),
    "rich": inspect_by_rich,
    "a list of its items": lambda queue: list(queue.queue),
    "locked": lambda queue: (queue.mutex.locked(), repr(queue.mutex), repr(queue.not_full)),
    "snapshot": lambda queue: queue.snapshot(),
    "the command of a debugger": lambda queue: pprint.pformat({name: getattr(queue, name) for name in dir(queue)}),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
@each_class
def test_a_look_changes_nothing(kind, look):
    queue = queue_with(kind, 2, 1)
    look(queue)
    assert not queue.is_converted
    assert drained(queue) == in_order(kind, [2, 1])


def test_a_queue_says_whether_it_is_converted():
    assert not Queue().is_converted
    assert converted().is_converted
    assert Hooked().is_converted


@each_kind
def test_a_snapshot_is_what_would_be_got(kind):
    queue = queue_with(kind, *range(40))
    queue.get_many(30 if kind is not PriorityQueue else 3)
    queue.put_many([7, 3, 5])
    items = queue.snapshot()
    assert type(items) is list
    assert queue.qsize() == len(items)
    assert drained(queue) == items
    assert queue.snapshot() == []


def test_a_snapshot_of_items_that_cannot_be_compared_says_so():
    queue = queue_with(PriorityQueue, (1, 2), (2, {}), (2, []))
    with pytest.raises(TypeError, match="not supported between"):
        queue.snapshot()
    assert queue.qsize() == 3


# What others replace --------------------------------------------------------------------------------------------------


@each_class
def test_a_method_of_a_condition_that_is_replaced_is_called(kind):
    queue = queue_with(kind, 1, maxsize=1)
    with mock.patch.object(queue.not_full, "wait") as wait, pytest.raises(Full):
        queue.put(2, timeout=0.01)
    assert wait.call_args_list
    assert not wait.call_args.args[0] > 0.01
    with mock.patch.object(queue.not_empty, "notify") as notify:
        queue.get()
        queue.put(3)
    notify.assert_called_once_with()
    assert drained(queue) == [3]


@each_kind
@pytest.mark.parametrize("name", ["get", "put"])
def test_a_clock_that_is_replaced_is_read(kind, name, monkeypatch):
    """A call that must wait: the clock says that an hour has gone by."""
    queue = stuck_queue(name, kind)
    times = iter([1000.0, 1000.0, 4600.0])
    monkeypatch.setattr(standard, "time", lambda: next(times, 9999.0))
    with pytest.raises(Empty if name == "get" else Full), mock.patch("threading.Condition.wait") as wait:
        CALLS_WITH_A_TIMEOUT[name](queue)
    assert wait.call_args_list == [mock.call(3600.0)]


CALLS_WITH_A_TIMEOUT = {"put": lambda queue: queue.put(7, timeout=3600), "get": lambda queue: queue.get(timeout=3600)}


def test_a_wait_that_is_replaced_for_all_conditions_is_called():
    queue, waited = Queue(), []

    def wait(condition, timeout=None):
        waited.append(timeout)
        with_it = condition is queue.not_empty
        queue.queue.append(5)
        return with_it

    with mock.patch("threading.Condition.wait", wait):
        assert queue.get() == 5
    assert waited == [None]


# Waiting for tasks with a timeout -------------------------------------------------------------------------------------


@each_kind
def test_a_join_with_a_timeout(kind):
    queue = queue_with(kind, 1, 2)
    with pytest.raises(TimeoutError, match="2 tasks were left"):
        queue.join(timeout=0.01)
    queue.task_done()
    with pytest.raises(TimeoutError, match="1 tasks were left"):
        queue.join(0)
    with pytest.raises(ValueError, match="non-negative"):
        queue.join(-1)
    joiner = parked(queue.join, WATCHDOG)
    queue.task_done()
    assert joiner.result() is None
    assert queue.join(0) is None


# What a PriorityQueue compares ----------------------------------------------------------------------------------------


class Version(NamedTuple):
    number: int
    name: str


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Reversed(int):
    def __lt__(self, other):
        return int(self) > int(other)

    __gt__ = __ge__ = __le__ = None


NUMBERS = itertools.count()
ITEMS = {
    "ints": lambda rng: rng.randrange(50),
    "long ints": lambda rng: rng.choice((1, -1)) * rng.randrange(1 << 70),
    "floats": lambda rng: rng.choice((rng.random(), 0.0, -0.0, math.inf, -math.inf)),
    "numbers": lambda rng: rng.choice((rng.randrange(4), rng.randrange(4) / 2, True, False)),
    "not a number": lambda rng: rng.choice((math.nan, 1.0, 2, 0.5)),
    "strings": lambda rng: "".join(rng.choices("aäb\U0001f3ce", k=rng.randrange(3))),
    "bytes": lambda rng: bytes(rng.choices(range(3), k=rng.randrange(3))),
    "pairs": lambda rng: (rng.randrange(5), rng.randrange(5)),
    "pairs of any length": lambda rng: tuple(rng.choices(range(3), k=rng.randrange(4))),
    "nested": lambda rng: ((rng.randrange(2), (rng.randrange(2),)), "ab"[rng.randrange(2)]),
    "named tuples": lambda rng: Version(rng.randrange(3), "ab"[rng.randrange(2)]),
    "enums": lambda rng: (rng.choice(list(Level)), rng.randrange(9)),
    "numbered": lambda rng: (rng.randrange(3), next(NUMBERS), object()),
}


def same_objects(ones, others):
    return [*map(id, ones)] == [*map(id, others)]


@pytest.mark.parametrize("draw", ITEMS.values(), ids=list(ITEMS))
def test_a_priority_queue_is_heapqs_heap_and_stays_native(draw):
    """The same objects in the same order, equal ones too."""
    rng, queue, heap = random.Random(1), PriorityQueue(), []
    for _ in range(2000):
        if rng.random() < 0.55 or not heap:
            item = draw(rng)
            queue.put(item)
            heapq.heappush(heap, item)
        else:
            assert queue.get() is heapq.heappop(heap)
    assert same_objects(queue.queue, heap)
    assert same_objects(queue.get_many(), [heapq.heappop(heap) for _ in range(len(heap))])
    assert not queue.is_converted


BY_PYTHON = {
    "a class": lambda rng: Reversed(rng.randrange(9)),
    "numbers that no float holds": lambda rng: rng.choice((2**53 + rng.randrange(3), 2.0**53, 2.0**53 + 2, 10**400)),
    "fractions": lambda rng: Fraction(rng.randrange(9), 7),
    "lists": lambda rng: [rng.randrange(9)],
    "in a tuple": lambda rng: (rng.randrange(2), Fraction(rng.randrange(9))),
}


@pytest.mark.parametrize("draw", BY_PYTHON.values(), ids=list(BY_PYTHON))
def test_items_that_only_python_compares_make_a_priority_queue_classic(draw):
    rng, queue, heap = random.Random(1), PriorityQueue(), []
    for _ in range(300):
        item = draw(rng)
        queue.put(item)
        heapq.heappush(heap, item)
    assert queue.is_converted
    assert same_objects(queue.queue, heap)
    assert same_objects(queue.get_many(), [heapq.heappop(heap) for _ in range(len(heap))])


class Touchy:
    """Compares by its number, until it is told to fail."""

    failing = False

    def __init__(self, number):
        self.number = number

    def __lt__(self, other):
        if Touchy.failing:
            raise ZeroDivisionError
        return self.number < other.number


@pytest.mark.parametrize("of_a_pair", [True, False], ids=["second of a pair", "alone"])
def test_a_comparison_that_fails_loses_no_item(of_a_pair, monkeypatch):
    rng = random.Random(2)
    items = [(rng.randrange(3), Touchy(n)) if of_a_pair else Touchy(n) for n in rng.sample(range(50), 50)]
    queue, taken = PriorityQueue(), []
    assert queue.put_many(items) == 50
    inside = [*map(id, queue.queue)]
    extra = (1, Touchy(7)) if of_a_pair else Touchy(7)
    monkeypatch.setattr(Touchy, "failing", True)
    with contextlib.suppress(ZeroDivisionError):
        queue.put(extra)
        inside.append(id(extra))
    for _ in range(60):
        with contextlib.suppress(ZeroDivisionError, TypeError):
            taken.append(queue.get(block=False))
        with contextlib.suppress(ZeroDivisionError, TypeError):
            taken += queue.get_many(2, block=False)
    assert sorted(map(id, [*queue.queue, *taken])) == sorted(inside)
    assert queue.unfinished_tasks == len(inside)
    with contextlib.suppress(ZeroDivisionError, TypeError):
        queue.clear()
    assert queue.unfinished_tasks == len(taken) + queue.qsize()


def test_a_get_that_meets_items_which_only_python_can_compare_takes_them_in_order():
    """Two of the same priority are below the second item, side by side: no put has compared them."""
    items = [(0, None), (1, None), (2, None), (3, Touchy(1)), (3, Touchy(2))]
    queue = PriorityQueue()
    queue.put_many(items)
    assert [queue.get() for _ in items] == items
    queue._check()


def test_a_put_many_whose_comparison_fails_says_how_many_are_in():
    """Told by `unfinished_tasks`, a `join` and a retry."""
    items = [(1, {"job": "a"}), (1, {"job": "b"}), (2, {})]
    queue = PriorityQueue()
    assert queue.put_many(items) == 1
    assert (queue.qsize(), queue.unfinished_tasks) == (1, 1)
    with pytest.raises(TypeError):
        queue.put_many(items[1:])
    assert queue.put_many(items[2:]) == 1
    assert [queue.get(), queue.get()] == [items[0], items[2]]
    queue.task_done()
    queue.task_done()
    queue.join()


@pytest.mark.parametrize("act", [Queue.clear, lambda queue: queue.shutdown(immediate=True)], ids=["clear", "shutdown"])
def test_items_that_are_removed_need_not_be_compared(act):
    queue = queue_with(PriorityQueue, (0, 0), (1, {}), (1, []))
    act(queue)
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 0)


def test_a_batch_that_only_python_can_order_is_as_long_as_was_asked_for():
    queue = queue_with(PriorityQueue, (1,), (2,), (3, Touchy(0)), (3, Touchy(1)))
    assert not queue.is_converted
    assert len(queue.get_many(4, min_count=4)) == 4


def test_a_failed_get_leaves_the_heap_as_it_was(monkeypatch):
    """Also where the last item is there twice."""
    rng, failed = random.Random(1), 0

    class Counting(Touchy):
        left = 10**9

        def __lt__(self, other):
            Counting.left -= 1
            if Counting.left < 0:
                raise ZeroDivisionError
            return self.number < other.number

    for _ in range(300):
        items, queue = [Counting(number) for number in range(4)], PriorityQueue()
        Counting.left = 10**9
        queue.put_many(rng.choices(items, k=rng.randrange(2, 12)))
        before, Counting.left = [*queue.queue], rng.randrange(4)
        with contextlib.suppress(ZeroDivisionError):
            queue.get() if rng.random() < 0.5 else queue.put(items[0])
            continue
        failed += 1
        assert same_objects(queue.queue, before)
    assert failed > 30


def test_a_comparison_that_changes_the_queue_is_told():
    class Meddling(Touchy):
        def __lt__(self, other):
            queue.queue.append(self)
            return True

    queue = queue_with(PriorityQueue, Touchy(1))
    with pytest.raises(RuntimeError, match="has changed the queue"):
        queue.put(Meddling(0))


def test_views_are_told_apart_by_what_is_in_them():
    one, other, lifo = queue_with(Queue, 1, 2), queue_with(Queue, 1, 2), queue_with(LifoQueue, 3)
    assert one.queue == one.queue
    assert one.queue == other.queue
    assert not one.queue < other.queue
    assert one.queue + other.queue == deque([1, 2, 1, 2])
    assert operator.add([0], lifo.queue) + lifo.queue == [0, 3, 3]
    assert copy.copy(one.queue) == copy.deepcopy(one.queue) == pickle.loads(pickle.dumps(one.queue)) == deque([1, 2])
    with pytest.raises(IndexError):
        one.queue[10**30]
    assert not any(queue.is_converted for queue in (one, other, lifo))


def test_the_length_of_a_view_whose_hook_asks_for_it():
    class Late(Queue):
        pass

    queue = queue_with(Late, 1)
    Late._qsize = lambda self: len(self.queue)
    assert len(queue.queue) == 1


def test_a_mutex_that_several_threads_take_for_the_first_time():
    queues = [Queue() for _ in range(500)]
    mutexes, start = [queue.mutex for queue in queues], threading.Barrier(4)

    def take_all():
        start.wait()
        for mutex in mutexes:
            with mutex:
                pass

    for thread in [Task(take_all) for _ in range(4)]:
        thread.result()
    assert all(queue.is_converted for queue in queues)


@pytest.mark.parametrize("how", [{"block": False}, {"timeout": 0.01}], ids=str)
def test_a_bound_that_comes_while_a_put_many_waits_for_the_mutex_is_kept(how):
    queue = queue_with(Queue, 0)
    with queue.mutex:
        putter = parked(outcome, queue.put_many, [1, 2], **how)
        queue.maxsize = 1
    assert putter.result() == (Full, ())


@pytest.mark.parametrize("kind", [LifoQueue, PriorityQueue], ids=lambda kind: kind.__name__)
def test_of_two_orders_the_first_in_the_bases_counts(kind):
    other = PriorityQueue if kind is LifoQueue else LifoQueue
    queue = queue_with(type("Both", (kind, other), {}), 5, 3, 4, 1)
    assert not queue.is_converted
    assert drained(queue) == ([1, 4, 3, 5] if kind is LifoQueue else [1, 3, 4, 5])


# Conversion while others wait -----------------------------------------------------------------------------------------


def enter(name, queue):
    with getattr(queue, name):
        pass


TOUCHES = {name: functools.partial(enter, name) for name in INSIDE if name != "queue"} | {
    "queue": lambda queue: queue.queue.extend([]),
    "a hook": lambda queue: setattr(queue, "_put", functools.partial(Queue._put, queue)),
    "a method of a condition": lambda queue: setattr(queue.not_full, "wait", queue.not_full.wait),
}
each_touch = pytest.mark.parametrize("touch", TOUCHES.values(), ids=list(TOUCHES))


@each_touch
def test_conversion_keeps_everything(touch):
    queue = queue_with(Queue, *range(10))
    queue.get()
    queue.get()
    queue.maxsize, queue.topic = 9, "speed"
    touch(queue)
    assert (queue.qsize(), queue.unfinished_tasks, queue.maxsize, queue.topic) == (8, 10, 9, "speed")
    queue.put(10)
    assert queue.full()
    assert drained(queue) == list(range(2, 11))


@each_shutdown
def test_conversion_keeps_a_shutdown(immediate):
    queue = queue_with(Queue, 1)
    queue.shutdown(immediate)
    convert(queue)
    assert queue.is_shutdown
    assert outcome(queue.put, 1) == (ShutDown, ())
    assert drained(queue) == ([] if immediate else [1])
    assert outcome(queue.get) == (ShutDown, ())


@each_touch
def test_conversion_while_gets_wait(touch):
    queue = Queue(2)
    getters = [parked(queue.get) for _ in range(2)] + [parked(queue.get, timeout=60)]
    touch(queue)
    for number in range(3):
        queue.put(number)
    assert sorted(getter.result() for getter in getters) == [0, 1, 2]
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 3)


@each_touch
def test_conversion_while_batches_are_awaited(touch):
    queue = Queue()
    queue.put(0)
    large = parked(queue.get_many, min_count=4)
    touch(queue)
    queue.put(1)
    wait_parked(large)
    queue.put_many([2, 3])
    assert large.result() == [0, 1, 2, 3]
    assert queue.qsize() == 0


@each_touch
def test_conversion_while_puts_wait(touch):
    queue = queue_with(Queue, 0, maxsize=1)
    putters = [parked(queue.put, number) for number in (1, 2)] + [parked(queue.put, 3, timeout=60)]
    touch(queue)
    assert queue.get() == 0
    assert sorted(queue.get(timeout=LATE) for _ in putters) == [1, 2, 3]
    for putter in putters:
        putter.result()
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 4)


@each_touch
def test_conversion_while_batches_are_put(touch):
    """Each goes on where it was."""
    queue = Queue(2)
    putters = [parked(queue.put_many, range(10 * n, 10 * n + 5)) for n in (1, 2)]
    touch(queue)
    taken = [queue.get(timeout=LATE) for _ in range(10)]
    assert [putter.result() for putter in putters] == [5, 5]
    for n in (1, 2):
        assert [number for number in taken if number // 10 == n] == list(range(10 * n, 10 * n + 5))
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 10)


@each_touch
def test_conversion_while_joins_wait(touch):
    queue = queue_with(Queue, 1, 2)
    joiners = [parked(queue.join) for _ in range(3)]
    touch(queue)
    queue.get_many()
    queue.task_done()
    for joiner in joiners:
        wait_parked(joiner)
    queue.task_done()
    for joiner in joiners:
        joiner.result()


@thorough(but=("*get",))
@each_timed_call
def test_conversion_does_not_renew_a_timeout(name):
    for timeout, in_time in timeouts():
        queue, began = stuck_queue(name), time.monotonic()
        waiter = parked_or_over(assert_times_out, name, queue, timeout=timeout)
        convert(queue)
        if in_time():
            break
    waiter.result()
    assert timeout <= time.monotonic() - began < timeout + LATE
    assert queue.qsize() == (name in PUTS)


@each_timed_call
def test_conversion_of_a_put_many_that_had_put_something_counts_that(name):
    queue = stuck_queue(name)
    waiter = parked(CALLS[name], queue)
    convert(queue)
    queue.shutdown()
    assert outcome(waiter.result) == (ShutDown, ())
    queue = Queue(2)
    putter = parked(queue.put_many, range(5))
    convert(queue)
    wait_parked(putter)
    queue.shutdown()
    assert putter.result() == 2
    assert drained(queue) == [0, 1]


@each_call
def test_conversion_under_the_mutex_holds_up_earlier_waiters(name):
    """No thread changes the queue while its mutex is held, nor does one that already waited when it was asked for."""
    queue = stuck_queue(name)
    waiter = parked(CALLS[name], queue)
    with queue.mutex:
        size = queue._qsize()
        for _ in range(3):
            if waiter.is_alive():
                wait_parked(waiter)
        assert queue._qsize() == size
        assert waiter.is_alive()
    if name == "join":
        queue.clear()
    elif name in PUTS:
        assert queue.get() == 1
        assert queue.get(timeout=LATE) == 7
    else:
        queue.put(5)
    waiter.result()


# Memory ---------------------------------------------------------------------------------------------------------------


POINTER = struct.calcsize("P")  # [bytes] 8, where the numbers that tests are named after hold; 4 on 32 bits


def bound_on_bytes(items):
    return 2 * POINTER * items + 1024


def lengths():
    """Growing and shrinking by leaps, by little, in part and down to nothing."""
    rng, length = random.Random(3), 0
    yield from (0, 1, 2, 10, 31, 32, 33, 64, 65, 1000, 100_000, 100_001, 50_000, 49_999, 25_001, 25_000, 100, 99, 1, 0)
    yield from (10_000, 5_000, 7_000, 3_000, 4_000, 0)
    for _ in range(300):
        length = max(0, length + rng.randrange(-700, 701))
        yield length
    yield 0


@each_plain
def test_a_queue_takes_16_bytes_an_item_at_most_at_every_moment(kind):
    queue = kind()
    for length in lengths():
        while queue.qsize() < length:
            queue.put(None)
        while queue.qsize() > length:
            queue.get()
        assert POINTER * length < sys.getsizeof(queue) <= bound_on_bytes(length), length


@each_plain
def test_the_same_with_batches(kind):
    queue = kind()
    for length in lengths():
        if queue.qsize() < length:
            queue.put_many([None] * (length - queue.qsize()))
        if queue.qsize() > length:
            queue.get_many(queue.qsize() - length)
        assert POINTER * length < sys.getsizeof(queue) <= bound_on_bytes(length), length


@each_plain
def test_the_memory_limit_holds_along_a_drain(kind):
    queue = kind()
    queue.put_many([None] * 30_000)
    while queue.qsize():
        queue.get()
        assert sys.getsizeof(queue) <= bound_on_bytes(queue.qsize()), queue.qsize()


@pytest.mark.parametrize(
    "empty", [Queue.clear, lambda queue: queue.shutdown(immediate=True)], ids=["clear", "shutdown"]
)
def test_emptying_a_queue_gives_its_memory_back(empty):
    queue = Queue()
    queue.put_many([None] * 100_000)
    empty(queue)
    assert sys.getsizeof(queue) <= bound_on_bytes(0)


def traced_here():
    """Bytes that tracemalloc says this file has allocated: other threads, such as pytest-xdist's, do so meanwhile."""
    here = tracemalloc.Filter(True, __file__)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([here]).traces)


@pytest.mark.thread_unsafe(reason="tracemalloc counts what all threads allocate")
def test_tracemalloc_sees_the_slots():
    """And that there is no more than `sys.getsizeof` says."""
    sizes = [n for n in lengths() if n > 1000 or n == 0][:200]
    items = [None] * max(sizes)
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        before = traced_here()
        queue = Queue()
        for length in sizes:
            if queue.qsize() < length:
                queue.put_many(itertools.islice(items, length - queue.qsize()))
            while queue.qsize() > length:
                queue.get()
            traced = traced_here() - before
            assert POINTER * length < traced <= bound_on_bytes(length) + 512, length  # 512: what this test itself takes
        queue.put_many(items)
        del queue
        assert traced_here() - before <= 1024
    finally:
        if not tracing:
            tracemalloc.stop()


def test_a_conversion_gives_the_slots_back():
    queue = queue_with(Queue, *range(10_000))
    with queue.mutex:
        assert len(queue.queue) == 10_000
    assert sys.getsizeof(queue) <= bound_on_bytes(0)


@pytest.mark.parametrize("maxsize", [10**9, sys.maxsize, 10**30, 1e300], ids=repr)
@each_kind
def test_a_large_maxsize_takes_no_memory_before_there_are_items(kind, maxsize):
    queue = kind(maxsize)
    assert sys.getsizeof(queue) <= bound_on_bytes(0)
    queue.put(1)
    assert queue.get() == 1


def test_an_empty_queue_without_bound_is_small():
    assert sys.getsizeof(Queue()) <= 1024


def test_growing_is_amortised():
    """The slots move a few times while a queue grows a thousandfold, not at each put."""
    queue, sizes = Queue(), set()
    for _ in range(100_000):
        queue.put(None)
        sizes.add(sys.getsizeof(queue))
    assert len(sizes) < 40


# Garbage --------------------------------------------------------------------------------------------------------------


class Node:
    """Something that can be part of a cycle."""


def seen_by_collector(queue):
    """What the collector finds from a queue on, through its containers."""
    found, containers = [], [queue]
    while containers:
        referents = gc.get_referents(containers.pop())
        found += referents
        containers += [one for one in referents if type(one) in (dict, list, deque, tuple)]
    return found


@each_kind
def test_the_collector_sees_the_items(kind):
    queue, item = kind(), Node()
    queue.put(item)
    assert sum(one is item for one in seen_by_collector(queue)) == 1
    queue.topic = item
    assert sum(one is item for one in seen_by_collector(queue)) == 2
    queue.get()
    del queue.topic
    assert not any(one is item for one in seen_by_collector(queue))
    assert gc.is_tracked(queue)


def test_the_collector_sees_all_items_around_the_end_of_the_slots():
    queue, nodes = Queue(40), [Node() for _ in range(40)]
    for start in range(100):
        queue.put_many(nodes)
        assert sum(type(one) is Node for one in seen_by_collector(queue)) == 40
        queue.get_many(start % 40 + 1)
        assert sum(type(one) is Node for one in seen_by_collector(queue)) == 39 - start % 40
        queue.clear()


@each_kind
def test_the_collector_sees_a_batch(kind):
    assert gc.is_tracked(queue_with(kind, Node()).get_many())


CYCLES = {
    "an item": lambda queue, node: queue.put(node),
    "items of a batch": lambda queue, node: queue.put_many([node]),
    "an own attribute": lambda queue, node: setattr(queue, "node", node),
    "itself": lambda queue, node: queue.put(queue) or setattr(queue, "node", node),
    "another queue": lambda queue, node: queue.put(queue_with(Queue, node)),
    "an item of a converted queue": lambda queue, node: queue.put(node) or queue.mutex,
}


@thorough(but=("plain-*", "priority-an item"))
@pytest.mark.parametrize("tie", CYCLES.values(), ids=list(CYCLES))
@each_kind
def test_cycles_are_collected(kind, tie):
    queue, node = kind(), Node()
    node.queue = queue
    tie(queue, node)
    alive = weakref.ref(queue), weakref.ref(node)
    del queue, node
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


@each_kind
def test_a_cycle_through_the_maxsize_is_collected(kind):
    class Bound(int):
        pass

    bound = Bound(3)
    queue = bound.queue = kind(bound)
    alive = weakref.ref(queue)
    del queue, bound
    gc.collect()
    assert alive() is None


@each_kind
def test_a_queue_drops_its_items_with_itself(kind):
    nodes = [Node() for _ in range(100)]
    alive = [weakref.ref(node) for node in nodes]
    queue = kind()
    if kind is PriorityQueue:  # nodes cannot be compared
        nodes = nodes[:1]
        del alive[1:]
    queue.put_many(nodes)
    del nodes
    gc.collect()
    assert all(reference() is not None for reference in alive)
    del queue
    gc.collect()
    assert all(reference() is None for reference in alive)


def nest(kind, depth, tied):
    """Queues, each of which holds the next; `tied`: the last one holds the first, for the collector."""
    first = queue = kind()
    for _ in range(depth):
        outer = kind()
        outer.put(queue)
        queue = outer
    if tied:
        first.put(queue)
    del first, queue, outer
    gc.collect()


@thorough(but=("plain-*-by reference counts",))
@pytest.mark.parametrize("tied", [False, True], ids=["by reference counts", "by the collector"])
@pytest.mark.parametrize(("name", "depth"), [("plain", 100_000), ("subclass", 100_000), ("converted", 20_000)])
def test_deep_nesting_is_freed(name, depth, tied):
    run_python(f"from test_queue import KINDS, nest; nest(KINDS[{name!r}], {depth}, {tied})")


# References to items


REFUSED = {
    "put_nowait": lambda queue, item: queue.put_nowait(item),
    "put": lambda queue, item: queue.put(item, timeout=0.001),
    "put, no number": lambda queue, item: queue.put(item, timeout="1"),
    "put_many": lambda queue, item: queue.put_many([item] * 3, timeout=0.001),
    "put_many at once": lambda queue, item: queue.put_many([item] * 3, block=False),
    "put_many of a failing iterable": lambda queue, item: queue.put_many(item if n < 2 else 1 / 0 for n in range(3)),
}


@pytest.mark.parametrize("put", REFUSED.values(), ids=list(REFUSED))
@each_kind
def test_a_refused_put_keeps_no_reference(kind, put):
    queue, item = queue_with(kind, 0, maxsize=1), object()
    before = sys.getrefcount(item)
    with contextlib.suppress(Full, TypeError, ZeroDivisionError):
        put(queue, item)
    assert sys.getrefcount(item) == before
    queue.shutdown()
    with contextlib.suppress(ShutDown, TypeError, ZeroDivisionError):
        put(queue, item)
    assert sys.getrefcount(item) == before


def leave(name, queue):
    """Lose all items in one way or another; the queue is the last reference to itself in the tests below."""
    if name == "get":
        for _ in range(queue.qsize()):
            queue.get()
    elif name == "get with a timeout":
        for _ in range(queue.qsize()):
            queue.get(timeout=1)
    elif name == "get_many":
        queue.get_many(2)
        queue.get_many(min_count=100, timeout=0.001)
    elif name == "clear":
        queue.clear()
    elif name == "shutdown":
        queue.shutdown(immediate=True)
    elif name == "conversion and get":
        assert len(queue.queue) == 5
        queue.get_many()
    elif name == "init":
        queue.__init__()


WAYS_TO_LEAVE = ("get", "get with a timeout", "get_many", "clear", "shutdown", "conversion and get", "init")


@pytest.mark.parametrize("way", [*WAYS_TO_LEAVE, "the end", "conversion and the end"])
@pytest.mark.parametrize("kind", [Queue, Named, Hooked, LifoQueue], ids=lambda kind: kind.__name__)
def test_items_that_leave_leave_no_reference(kind, way):
    queue, item = kind(), object()
    before = sys.getrefcount(item)
    queue.put(item)
    queue.put_nowait(item)
    queue.put_many([item] * 3)
    assert sys.getrefcount(item) == before + 5
    leave(way, queue)
    if "the end" in way:
        if "conversion" in way:
            convert(queue)
            assert sys.getrefcount(item) == before + 5
        del queue
        gc.collect()
    assert sys.getrefcount(item) == before


@each_kind
def test_a_maxsize_that_is_replaced_keeps_no_reference(kind):
    maxsize = int("123456")  # an object of its own
    before = sys.getrefcount(maxsize)
    queue = kind(maxsize)
    assert queue.maxsize is maxsize
    queue.maxsize = 5
    assert sys.getrefcount(maxsize) == before


@each_waiting_put
@each_kind
def test_a_put_that_waited_in_vain_keeps_no_reference(kind, name):
    queue, item = queue_with(kind, 0, maxsize=1), object()
    before = sys.getrefcount(item)
    waiter = parked(queue.put, item) if name == "put" else parked(queue.put_many, [item] * 3)
    queue.shutdown()
    assert outcome(waiter.result) == (ShutDown, ())
    del waiter
    gc.collect()
    assert sys.getrefcount(item) == before


@thorough(but=("plain-*", "converted-get"))
@each_timed_call
@each_kind
def test_calls_that_time_out_keep_no_reference_to_the_queue(kind, name):
    queue = stuck_queue(name, kind)
    alive = weakref.ref(queue)
    for timeout in (0, 0.001):
        assert_times_out(name, queue, timeout=timeout)
    Task(assert_times_out, name, queue, timeout=0.001).result()
    del queue
    gc.collect()
    assert alive() is None


# Items whose end uses the queue ---------------------------------------------------------------------------------------


class Heir:
    """An item whose `__del__` does something."""

    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


@thorough(but=("get", "clear"))
@pytest.mark.parametrize("name", ["clear", "shutdown", "get", "get_many", "init"])
def test_items_dropped_by_a_call_may_use_the_queue(name):
    run_python(f"from test_queue import drop_heirs; drop_heirs({name!r})")


def drop_heirs(name):
    for count in (1, 5, 5000):
        queue, seen = Queue(), []

        def inherit(queue=queue, seen=seen):
            seen.append(queue.qsize())
            with contextlib.suppress(ShutDown):
                queue.put("new")
            with contextlib.suppress(Empty, ShutDown):
                queue.get_nowait()
            with contextlib.suppress(ShutDown):
                queue.put_many(["newer", "newest"])
            queue.full()

        for _ in range(count):
            queue.put(Heir(inherit))
        if name == "get":
            for _ in range(count):
                queue.get()
        elif name == "get_many":
            queue.get_many()
        elif name == "clear":
            queue.clear()
        elif name == "shutdown":
            queue.shutdown(immediate=True)
        else:
            queue.__init__()
        drained(queue)
        gc.collect()
        assert len(seen) == count
        queue._check()


def test_clear_removes_what_was_there_and_not_what_comes_meanwhile():
    run_python("from test_queue import clear_heirs; clear_heirs()")


def clear_heirs():
    queue = Queue()
    for number in range(1000):
        queue.put(Heir(functools.partial(queue.put, number)))
    queue.clear()
    assert drained(queue) == list(range(1000))
    assert queue.unfinished_tasks == 1000


def test_items_may_clear_the_queue_that_drops_them():
    run_python("from test_queue import clear_from_heirs; clear_from_heirs()")


def clear_from_heirs():
    ended = []
    for empty in (Queue.clear, lambda queue: queue.shutdown(True), lambda queue: queue.__init__(), Queue.get_many):
        queue = Queue()

        def inherit(queue=queue):
            ended.append(1)
            queue.clear()
            queue.shutdown(immediate=True)

        for _ in range(1000):
            queue.put(Heir(inherit))
        empty(queue)
        assert queue.qsize() == 0
        queue._check()
        del queue, inherit
        gc.collect()
    assert len(ended) == 4000


def test_items_of_a_queue_that_is_freed_may_use_it():
    run_python("from test_queue import free_with_heirs; free_with_heirs()")


def free_with_heirs():
    """The collector ends items and queue together; one of them may even bring it back."""
    ended, saved = [], []

    def inherit(queue):
        ended.append(queue.qsize())
        queue.put("new")
        queue.get_nowait()
        queue.clear()
        queue.put_many(range(100))
        if not saved:
            saved.append(queue)

    for kind in (Queue, Named):
        saved.clear()
        queue = kind()
        for _ in range(50):
            queue.put(Heir(functools.partial(inherit, queue)))
        del queue
        gc.collect()
        saved[0].put(100)
        saved[0]._check()
        assert set(drained(saved[0])) == set(range(101))
    assert len(ended) == 100


def test_garbage_may_use_the_queue_at_any_moment():
    run_python("from test_queue import use_from_garbage; use_from_garbage()")


def use_from_garbage():
    """The collector runs at nearly every allocation, and what it ends uses the queue that is about to grow, say."""
    rng, queue, balance = random.Random(4), Queue(), {"put": 0, "got": 0}

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            use(depth=1)

    def use(depth):
        way, count = rng.randrange(6), rng.randrange(1, 40)
        if way == 0:
            balance["put"] += 1
            queue.put(None if depth else Cycle())
        elif way == 1:
            balance["put"] += count
            assert queue.put_many([None if depth or n % 9 else Cycle() for n in range(count)]) == count
        elif way == 2:
            with contextlib.suppress(Empty):
                queue.get_nowait()
                balance["got"] += 1
        elif way == 3:
            with contextlib.suppress(Empty):
                balance["got"] += len(queue.get_many(count, block=False))
        elif way == 4 and rng.random() < 0.05:
            if queue.qsize() > 200:
                balance["got"] += len(queue.get_many(block=False))
        elif way == 5:
            assert queue.unfinished_tasks >= queue.qsize()

    gc.set_threshold(1, 1, 1)
    for _ in range(20_000):
        use(depth=0)
    gc.set_threshold(700)
    gc.collect()
    queue._check()
    assert queue.qsize() == balance["put"] - balance["got"]
    assert queue.unfinished_tasks == balance["put"]


def test_heirs_use_the_queue_from_many_threads():
    run_python("from test_queue import use_from_heirs_in_threads; use_from_heirs_in_threads()")


def use_from_heirs_in_threads():
    queue, ended = Queue(), []

    def inherit():
        ended.append(1)
        queue.put(None)
        with contextlib.suppress(Empty):
            queue.get_nowait()

    def work(seed):
        rng = random.Random(seed)
        for _ in range(3000):
            way = rng.randrange(5)
            if way < 2:
                queue.put(Heir(inherit))
            elif way == 2:
                queue.put_many([Heir(inherit) for _ in range(rng.randrange(5))])
            elif way == 3:
                with contextlib.suppress(Empty):
                    queue.get_many(rng.randrange(1, 9), block=False)
            elif rng.random() < 0.02:
                queue.clear()

    tasks = [Task(work, seed) for seed in range(4)]
    for task in tasks:
        task.result()
    while True:
        try:
            queue.get_many(block=False)
        except Empty:
            break
        finally:
            gc.collect()
        if queue.qsize() <= 1:  # the last heirs leave something each
            break
    queue.clear()
    queue._check()
    assert ended


# What reviews have found ----------------------------------------------------------------------------------------------


@each_fifo
def test_a_get_that_needs_many_passes_its_wake_up_on_to_a_get_that_needs_few(kind):
    """The notification of a condition may reach the one that cannot use it."""
    queue = kind()
    many = parked(queue.get_many, min_count=2)
    few = parked(queue.get)
    queue.put(1)
    assert few.result() == 1
    queue.put_many([2, 3])
    assert many.result() == [2, 3]


@pytest.mark.parametrize("timeout", [threading.TIMEOUT_MAX, threading.TIMEOUT_MAX - 1, threading.TIMEOUT_MAX / 2, 3e9])
@pytest.mark.parametrize("name", ["get", "get_many"])
@each_kind
def test_the_longest_timeouts_wait(kind, name, timeout):
    queue = kind()
    waiter = parked(getattr(queue, name), timeout=timeout)
    queue.put(1)
    assert waiter.result() in (1, [1])


def test_a_finaliser_that_converts_the_queue_amid_its_conversion_does_no_harm():
    """Wherever the collector comes in."""

    class Finalised:
        def __init__(self, queue):
            self.queue, self.cycle = queue, self

        def __del__(self):
            self.queue.mutex.locked()

    thresholds = gc.get_threshold()
    try:
        for threshold in range(1, 120):
            queue = queue_with(Queue, 1, 2)
            Finalised(queue)
            gc.set_threshold(threshold)
            assert list(queue.queue) == [1, 2]
            gc.set_threshold(*thresholds)
            queue.put(3)
            with queue.not_empty:  # all have the one lock
                assert queue.mutex.locked()
                assert not queue.not_full.acquire(blocking=False)
            assert drained(queue) == [1, 2, 3]
    finally:
        gc.set_threshold(*thresholds)


@each_kind
def test_a_second_init_lets_a_join_return(kind):
    queue = queue_with(kind, 1)
    joiner = parked(queue.join)
    queue.__init__()
    joiner.result()


@each_kind
def test_a_get_waits_on_through_a_second_init(kind):
    queue = kind()
    getter = parked(queue.get)
    queue.__init__()
    queue.put(3)
    assert getter.result() == 3


def test_an_immediate_shutdown_does_not_call_an_overridden_clear():
    class Odd(Queue):
        def clear(self):
            raise AssertionError("it was not asked for")

    queue = queue_with(Odd, 1, 2)
    queue.shutdown(immediate=True)
    assert queue.qsize() == 0


def test_a_clear_that_fails_half_way_makes_the_room_known_that_it_made():
    class Failing(Queue):
        def _get(self):
            item = super()._get()
            if item == 2:
                raise ValueError(item)
            return item

    queue = queue_with(Failing, 1, 2, 3, maxsize=3)
    putter = parked(queue.put, 4)
    with pytest.raises(ValueError, match="2"):
        queue.clear()
    putter.result()


@pytest.mark.parametrize("remove", [lambda queue: queue.clear(), lambda queue: queue.shutdown(immediate=True)])
@each_kind
def test_the_finaliser_of_a_removed_item_may_use_the_queue(kind, remove):
    class Finalised:
        def __lt__(self, other):
            return False

        def __del__(self):
            sizes.append(queue.qsize())

    def run():
        remove(queue)

    queue, sizes = kind(), []
    queue.put(Finalised())
    Task(run).result()
    gc.collect()
    assert sizes == [0]


@each_plain
def test_a_larger_maxsize_keeps_the_order_of_waiting_puts(kind):
    queue = queue_with(kind, 0, maxsize=1)
    putters = [parked(queue.put, number) for number in (1, 2, 3)]
    queue.maxsize = 4
    for putter in putters:
        putter.result()
    assert drained(queue) == [0, 1, 2, 3]


def test_each_kind_is_an_instance_of_the_standard_librarys():
    assert isinstance(LifoQueue(), standard.LifoQueue)
    assert isinstance(PriorityQueue(), standard.PriorityQueue)


@each_fifo
def test_a_long_put_many_lets_others_in_between(kind):
    """Each producer's order holds, but nobody has the room for himself until he is done."""
    queue, taken = kind(1), []
    long = parked(queue.put_many, range(5000))
    other = parked(queue.put, "other")
    while len(taken) < 5001:
        taken += queue.get_many(timeout=LATE)
    assert (long.result(), other.result()) == (5000, None)
    assert taken.index("other") < 4000  # without a GIL only at last: a thread that runs may come first
    taken.remove("other")
    assert taken == list(range(5000))


@each_plain
def test_an_overridden_empty_does_not_decide_what_a_get_does(kind):
    class Odd(kind):
        def empty(self):
            raise AssertionError("it was not asked for")

    queue = Odd()
    queue.put(1)
    queue.shutdown()
    assert queue.get() == 1
    with pytest.raises(ShutDown):
        queue.get()
