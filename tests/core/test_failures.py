"""Failure inside: where memory is short, or a conversion, an array or a hook fails, a call does all of it or nothing.

Memory fails at every point of every call, first for one allocation, then for ten in a row. The interpreter's test
module does it (`_testcapi`; it sees what is allocated by Python's functions), in a process of its own for each group of
calls; for the nodes that threads wait with, which it does not see, `sync` has a switch. Each time the call has
raised MemoryError, and then does, once more and with memory, just what it does where nothing failed: the same result,
records, items and counters. Or it has done that straight away. Afterwards two threads use the buffer.
"""

import contextlib
import functools
import itertools
import json
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from helpers import Task, check_balance, contents, parked, records, ring_with, run_python, thorough, unchanged
from test_queue import KINDS

import f1buf
from f1buf import Empty, Full, Queue, RingBuffer, ShutDown, Tee
from f1buf.core import sync

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    set_nomemory = None

needs_failing_memory = pytest.mark.skipif(
    set_nomemory is None, reason="this Python has no _testcapi, which lets memory allocation fail"
)

# Each allocation ------------------------------------------------------------------------------------------------------


# How many allocations fail in a row. Python 3.11 ends itself where it cannot even make the exceptions for it.
MORE = 10


def fail_memory(call, buffer, point, last):
    """Make the call while allocations fail from the `point`-th up to the `last`-th; whether it came to that."""
    came, value, error = True, None, None
    probes = range(point + 1) if last == point + 1 else ()
    set_nomemory(point, last)
    try:
        value = call(buffer)
    except BaseException as caught:
        error = caught
    if probes:
        try:
            for _ in probes:  # if the point is still to come, it comes now
                object()
        except MemoryError:
            came = False
    remove_mem_hooks()
    return came, value, error


def fail_wait(call, buffer, point, last):
    """Make the call while there is no memory for its `point`-th wait; whether it came to that."""
    value = error = None
    sync._fail_wait(point + 1)
    try:
        value = call(buffer)
    except BaseException as caught:
        error = caught
    return sync._fail_wait(0) == 0, value, error


def fail_nothing(call, buffer):
    try:
        return call(buffer), None
    except Exception as caught:
        return None, caught


def comparable(value):
    """What two runs of a call have in common: no addresses, no times."""
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.tolist()
    if isinstance(value, tuple) and hasattr(value, "put_wait_seconds"):
        return value._replace(put_wait_seconds=0, get_wait_seconds=0)
    if isinstance(value, tuple):
        return tuple(map(comparable, value))
    return type(value) if isinstance(value, BaseException) else value


def state(buffer):
    """All that a buffer holds and has counted, waits apart; the items of a queue are taken out for that."""
    if isinstance(buffer, Tee):
        return [state(ring) for ring in buffer.rings]
    buffer._check()
    if isinstance(buffer, RingBuffer):
        check_balance(buffer)
        return buffer.is_shutdown, contents(buffer), buffer.stats()[:4], buffer.stats().high_water
    counted = buffer.qsize(), buffer.unfinished_tasks, buffer.maxsize, buffer.is_shutdown
    with contextlib.suppress(Empty):
        return counted, [] if buffer.is_shutdown else buffer.get_many(block=False)
    return counted, []


def use_from_two_threads(buffer):
    """Whatever has happened to it, unless it was shut down."""
    for ring in buffer.rings if isinstance(buffer, Tee) else [buffer]:
        if ring.is_shutdown:
            continue
        with contextlib.suppress(Empty):
            ring.get_many(block=False)
        taker = Task(ring.get)
        ring.put(records(ring.dtype, 1)[0] if isinstance(ring, RingBuffer) else 1)
        taker.result()


class Server:
    """Another thread, which serves a call once that waits; as a rule without memory, which is to fail in the call."""

    def __init__(self, serve, buffer):
        self.serve, self.buffer = serve, buffer
        self.ready, self.go, self.over = threading.Lock(), threading.Lock(), threading.Lock()
        for lock in (self.ready, self.go, self.over):
            lock.acquire()
        self.task = Task(self.run)
        self.ready.acquire()

    def run(self):
        self.ready.release()
        self.go.acquire()
        time.sleep(0.002)  # the call waits by then; if it does not the test is an easier one. To look would allocate
        while True:
            try:
                self.serve(self.buffer)
                break
            except MemoryError:  # it was hit in place of the call, which was late
                pass
        self.over.acquire()

    def end(self):
        self.over.release()
        self.task.result()


def at_each_point(fail, make, call, serve=None, more=1):
    """Let a call fail at each point; how many times it did."""

    def attempt(attempt_call):
        buffer = make()
        if serve is None:
            return buffer, attempt_call(call, buffer), None
        server = Server(serve, buffer)

        def served_call(buffer):
            server.go.release()
            return call(buffer)

        return buffer, attempt_call(served_call, buffer), server

    def finish(buffer, value, error, server):
        if server is not None:
            server.end()
        done = comparable(value), comparable(error), state(buffer)
        use_from_two_threads(buffer)
        return done

    def undisturbed():
        buffer, (value, error), server = attempt(fail_nothing)
        return finish(buffer, value, error, server)

    wanted = undisturbed()
    assert undisturbed() == wanted, "the call does not do the same twice"
    assert wanted[1] in (None, Full, Empty), wanted
    failed = 0
    for point in itertools.count():
        for last in sorted({point + 1, point + more}):
            buffer, (came, value, error), server = attempt(functools.partial(fail, point=point, last=last))
            if error is not None and type(error) is not wanted[1]:  # MemoryError, or what others make of it
                failed += 1
                assert says_no_memory(error), f"{error!r}, without allocation {point} to {last or 'the end'}"
                value, error = fail_nothing(call, buffer)
            done = finish(buffer, value, error, server)
            assert done == wanted, f"{done} is not {wanted}, without allocation {point} to {last or 'the end'}"
            if not came:
                return failed


# What others say where they find no memory: CPython for a lock, Cython for a traceback, numpy for a dtype.
IN_OTHER_WORDS = ("can't allocate lock", "error return without exception set", "StringDType is not currently supported")


def says_no_memory(error):
    return isinstance(error, MemoryError) or str(error).startswith(IN_OTHER_WORDS)


# Where a generator finds no memory, CPython 3.12 and 3.13 leave their heap broken, with any generator.
ENDS_PYTHON = {"put_many of a list"} if (3, 12) <= sys.version_info < (3, 14) else set()


class NoErrstate(contextlib.ContextDecorator):
    """In place of numpy's own (2.4), which ends the process where it finds no memory."""

    def __init__(self, **_):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def explore(group, fail, more):
    """In a process of its own: let each call of a group fail at each point, and print what came of it."""
    np.errstate = NoErrstate
    for name, case in GROUPS[group].items():
        if name in ENDS_PYTHON:
            continue
        trouble, failed = "", 0
        try:
            failed = at_each_point(fail, *case, more=more)
        except BaseException:
            trouble = traceback.format_exc()
        print(json.dumps([name, failed, trouble]), flush=True)


@functools.cache
def explored(group, fail):
    """What came of a group, by the call's name: how many times it failed, and what was wrong."""
    more = MORE if fail is fail_memory else 1
    output = run_python(f"import test_failures as t; t.explore({group!r}, t.{fail.__name__}, {more})", timeout=120)
    return {name: (failed, trouble) for name, failed, trouble in map(json.loads, output.splitlines())}


# The calls: how the buffer is made, what is called, and what serves a call that waits --------------------------------

FIELDS = [("number", "i8"), ("value", "f4")]
THREE, LONG, MANY = (np.arange(n, dtype="i8") for n in (3, 200, 1000))  # the dtype of `ring`: nothing to convert
OUT = np.zeros(1500, "i8")
A_RECORD, A_SHORT, OTHERS = records(FIELDS, 1)[0], np.int16(7), np.zeros(300, [("number", "i2"), ("value", "f4")])
ROOM = np.zeros(200, "i8")  # no longer: the interpreter has the ints up to 256 ready-made, and a server allocates none
VAIN = 0.001  # [s] a timeout that only has to come


def ring(*values, taken=0, **options):
    made = ring_with(*range(taken), *values, **({"capacity": 2000} | options))
    if taken:
        made.get_many(taken)
    return made


def making(function, *args, **options):
    return functools.partial(function, *args, **options)


def long_ring(**options):
    return ring(*range(1000), **options)


def take(buffer):
    buffer.get_into(ROOM)


def put_three(buffer):
    buffer.put_many(THREE)


def reserve(buffer, n=3, **how):
    with buffer.reserve(n, **how) as block:
        block.array[:] = 7
        block.commit(n)
        return len(block), block.first_seq, repr(block)


def peek(buffer, **how):
    with buffer.peek(300, **how) as block:
        block.consume(2)
        return len(block), block.first_seq, int(block.array[0])


RING_CALLS = {
    "construction": (making(RingBuffer.__new__, RingBuffer), lambda b: b.__init__(10, FIELDS)),
    "construction of numbers": (making(RingBuffer.__new__, RingBuffer), lambda b: b.__init__(10, "f8")),
    "put of a tuple": (making(ring, dtype=FIELDS), lambda b: b.put((1, 2.5))),
    "put of a record": (making(ring, dtype=FIELDS), lambda b: b.put(A_RECORD)),
    "put of another type": (ring, lambda b: b.put(A_SHORT)),
    "put that drops the oldest": (making(ring, 1, 2, capacity=2, overflow="drop_oldest"), lambda b: b.put(3)),
    "put that is dropped": (making(ring, 1, 2, capacity=2, overflow="drop_newest"), lambda b: b.put(3)),
    "put_nowait without room": (making(ring, 1, capacity=1), lambda b: b.put_nowait(2)),
    "put that waits in vain": (making(ring, 1, capacity=1), lambda b: b.put(2, timeout=VAIN)),
    "put that waits": (making(ring, 1, capacity=1), lambda b: b.put(2), take),
    "put_many": (ring, lambda b: b.put_many(MANY)),
    "put_many of a list": (ring, lambda b, numbers=list(range(300)): b.put_many(numbers)),
    "put_many of records of other types": (
        making(ring, dtype=FIELDS),
        lambda b: b.put_many(OTHERS),
    ),
    "put_many of more than there is room for": (making(ring, capacity=500), lambda b: b.put_many(MANY, block=False)),
    "put_many that drops the oldest": (making(ring, capacity=500, overflow="drop_oldest"), lambda b: b.put_many(MANY)),
    "put_many that waits in vain": (making(ring, 1, capacity=500), lambda b: b.put_many(MANY, timeout=VAIN)),
    "put_many that waits": (making(ring, *LONG, capacity=200), lambda b: b.put_many(LONG), take),
    "put_many in two pieces": (making(ring, capacity=800), lambda b: b.put_many(MANY), take),
    "get of fields": (making(ring, (1, 2.5), (2, 3.5), dtype=FIELDS), lambda b: b.get()),
    "get of a number": (making(ring, 1000, 1001), lambda b: b.get()),
    "get of a float": (making(ring, 1.5, 2.5, dtype="f4"), lambda b: b.get()),
    "get of a truth value": (making(ring, True, False, dtype="?"), lambda b: b.get()),
    "get of a time": (making(ring, *np.array([5, 6], "M8[s]"), dtype="M8[s]"), lambda b: b.get()),
    "get of raw bytes": (making(ring, b"abc", b"def", dtype="V3"), lambda b: b.get()),
    "get of nothing": (ring, lambda b: b.get_nowait()),
    "get that waits in vain": (ring, lambda b: b.get(timeout=VAIN)),
    "get that waits": (ring, lambda b: b.get(), put_three),
    "get_many": (long_ring, lambda b: b.get_many()),
    "get_many of some": (long_ring, lambda b: b.get_many(5)),
    "get_many with a number": (making(long_ring, taken=300), lambda b: b.get_many(return_seq=True)),
    "get_many of fields": (making(ring, (1, 2.5), (2, 3.5), dtype=FIELDS), lambda b: b.get_many()),
    "get_many that waits in vain for more": (making(ring, 1, 2), lambda b: b.get_many(min_count=5, timeout=VAIN)),
    "get_many that waits": (ring, lambda b: b.get_many(), put_three),
    "get_many with a number that waits": (making(ring, taken=300), lambda b: b.get_many(return_seq=True), put_three),
    "get_many that waits for more than there was room for": (
        making(ring, *range(9800), capacity=10_000),
        lambda b: b.get_many(min_count=10_000),
        lambda b: b.put_many(LONG),
    ),
    "get_into": (long_ring, lambda b: b.get_into(OUT)),
    "get_into with a number": (
        making(long_ring, taken=300),
        lambda b: b.get_into(OUT, return_seq=True),
    ),
    "get_into that waits": (
        making(ring, taken=300),
        lambda b: b.get_into(OUT, return_seq=True),
        put_three,
    ),
    "batches": (long_ring, lambda b: next(b.batches())),
    "batches that wait in vain": (ring, lambda b: next(b.batches(timeout=VAIN))),
    "batches that wait": (ring, lambda b: next(b.batches()), put_three),
    "reserve": (making(ring, taken=300), reserve),
    "reserve that drops the oldest": (making(ring, 1, 2, 3, capacity=3, overflow="drop_oldest"), reserve),
    "reserve that waits in vain": (making(ring, 1, capacity=1), lambda b: reserve(b, 1, timeout=VAIN)),
    "reserve that waits": (making(ring, 1, capacity=1), lambda b: reserve(b, 1), take),
    "peek": (making(long_ring, taken=300), peek),
    "peek that waits in vain": (ring, lambda b: peek(b, timeout=VAIN)),
    "peek that waits": (ring, lambda b: peek(b, min_count=3), put_three),
    "snapshot": (long_ring, lambda b: b.snapshot()),
    "snapshot of some": (long_ring, lambda b: b.snapshot(5)),
    "stats": (long_ring, lambda b: b.stats()),
    "repr": (long_ring, lambda b: repr(b)),
    "len and qsize": (long_ring, lambda b: (len(b), b.qsize(), b.empty(), b.full(), b.capacity)),
    "shutdown": (long_ring, lambda b: b.shutdown()),
    "immediate shutdown": (long_ring, lambda b: b.shutdown(immediate=True)),
    "the end of a with statement": (long_ring, lambda b: b.__exit__(None, None, None)),
}


def tee(**options):
    return Tee(ring(**options), ring(overflow="drop_oldest", **options))


TEE_CALLS = {
    "put": (tee, lambda b: b.put(1)),
    "put_many": (tee, lambda b: b.put_many(THREE)),
    "put_many of a list": (tee, lambda b, numbers=list(range(200)): b.put_many(numbers)),
    "put_many without room": (lambda: Tee(ring(1, capacity=1), ring()), lambda b: b.put_many(THREE, block=False)),
}


def queue(kind, *items, maxsize=0):
    made = kind(maxsize)
    made.put_many(items)
    return made


def queue_calls(kind):
    def of(*items, maxsize=0):
        return functools.partial(queue, kind, *items, maxsize=maxsize)

    many = list(range(300))
    return {
        "construction": (kind if isinstance(kind, type) else of(), lambda q: type(q).__init__(q, 3)),
        "put": (of(), lambda q: q.put(1)),
        "put that grows": (of(*range(32)), lambda q: q.put(33)),
        "put_nowait": (of(), lambda q: q.put_nowait(1)),
        "put without room": (of(1, maxsize=1), lambda q: q.put(2, block=False)),
        "put that waits in vain": (of(1, maxsize=1), lambda q: q.put(2, timeout=VAIN)),
        "put that waits": (of(1, maxsize=1), lambda q: q.put(2), lambda q: q.get()),
        "put_many": (of(), lambda q: q.put_many((1, 2, 3))),
        "get": (of(1, 2), lambda q: q.get()),
        "get_nowait": (of(1, 2), lambda q: q.get_nowait()),
        "get of nothing": (of(), lambda q: q.get(block=False)),
        "get that waits in vain": (of(), lambda q: q.get(timeout=VAIN)),
        "get that waits": (of(), lambda q: q.get(), lambda q: q.put(1)),
        "get_many of one": (of(*many), lambda q: q.get_many(1)),
        "get_many that waits": (of(), lambda q: q.get_many(), lambda q: q.put(1)),
        "clear": (of(*many), lambda q: q.clear()),
        "task_done": (of(1), lambda q: q.task_done()),
        "join": (of(), lambda q: q.join()),
        "join that waits": (of(1), lambda q: q.join(), lambda q: q.task_done()),
        "shutdown": (of(1, 2), lambda q: q.shutdown()),
        "immediate shutdown": (of(*many), lambda q: q.shutdown(immediate=True)),
        "qsize, empty and full": (of(*many), lambda q: (q.qsize(), q.empty(), q.full(), q.unfinished_tasks)),
        "a new maxsize": (of(1, 2, maxsize=2), lambda q: setattr(q, "maxsize", 300)),
        "a look at the mutex": (of(*range(100)), lambda q: q.mutex.locked()),
        "a conversion": (of(*range(100)), lambda q: q.mutex.convert()),
        "a snapshot": (of(*range(100)), lambda q: q.snapshot()),
        "a look at the items": (of(*range(100)), lambda q: len(q.queue)),
        "a hook of its own": (of(*range(100)), lambda q: setattr(q, "_get", functools.partial(type(q)._get, q))),
    }


# (The standard algorithm is not here: where its Python finds no memory it may leave the mutex taken.)
MANY_CALLS = {
    "put_many of many": (making(queue, Queue, 1), lambda q, many=tuple(range(1000)): q.put_many(many)),
    "put_many of more than there is room for": (
        making(queue, Queue, maxsize=500),
        lambda q, many=tuple(range(1000)): q.put_many(many, block=False),
    ),
    "put_many that waits": (making(queue, Queue, 1, maxsize=1), lambda q: q.put_many((2,)), lambda q: q.get()),
    "get_many of many": (making(queue, Queue, *range(1000)), lambda q: q.get_many()),
    "get_many that waits in vain for more": (
        making(queue, Queue, 1, 2),
        lambda q: q.get_many(min_count=5, timeout=VAIN),
    ),
}

OTHER_ORDERS = {name: KINDS[name] for name in ("lifo", "priority")}
GROUPS = {"RingBuffer": RING_CALLS, "Tee": TEE_CALLS, "Queue": queue_calls(Queue) | MANY_CALLS}
GROUPS |= {name: queue_calls(kind) for name, kind in OTHER_ORDERS.items()}


@thorough(but=("RingBuffer-*", "Tee-*", "Queue-*", "priority-*put*"))
@needs_failing_memory
@pytest.mark.parametrize(("group", "name"), [(group, name) for group, calls in GROUPS.items() for name in calls])
def test_without_memory_a_call_does_all_of_it_or_nothing(group, name):
    if name in ENDS_PYTHON:
        pytest.skip("this Python ends where a generator finds no memory")
    failed, trouble = explored(group, fail_memory)[name]
    assert not trouble, trouble
    print(f"it failed {failed} times")


@thorough
@pytest.mark.parametrize("group", ["RingBuffer", "Tee", "Queue"])
def test_without_memory_to_wait_a_call_does_all_of_it_or_nothing(group):
    calls = explored(group, fail_wait)
    assert not any(trouble for _, trouble in calls.values()), "\n".join(trouble for _, trouble in calls.values())
    assert all(failed for name, (failed, _) in calls.items() if "in vain" in name)


@thorough(but=("RingBuffer", "Tee", "Queue", "priority"))
@needs_failing_memory
@pytest.mark.parametrize("group", GROUPS)
def test_memory_has_failed_in_most_calls(group):
    """Else the tests above test nothing."""
    calls = explored(group, fail_memory)
    assert sum(failed > 0 for failed, _ in calls.values()) > len(calls) / 2
    assert sum(failed for failed, _ in calls.values()) > 100


def test_no_list_is_built_as_cython_gets_it_wrong():
    """Cython 3.3.1 drops the new element of a comprehension twice where the list cannot grow: its own helper does, and
    the failing branch of the code around it. So it does with what was just computed; a name is not handed over.

    That happens on every Python (a module of one such comprehension, no f1buf, shows it on 3.11, 3.14 and 3.15). The
    element may be a tuple that is on its list of free ones by then, with the link to the next in place of the reference
    count: on 3.14 and 3.15 the next tuple of that length ended the interpreter. A sorted() of a generator and a list
    with one starred element use the same helper.
    """
    translated = list(Path(f1buf.__file__).parent.rglob("*.cpp"))
    if not translated:
        pytest.skip("what Cython has made of the modules is not here")
    for path in translated:
        assert "__Pyx_ListComp_AppendAndDecref(__pyx" not in path.read_text(), path


@needs_failing_memory
@pytest.mark.parametrize("dtype", ["S3", "U3", ">f8"])
def test_a_get_that_finds_no_memory_for_a_string_loses_no_more_than_that_record(dtype):
    """Of a bare string, or a number in another machine's byte order, the scalar can only be made once it is there."""
    run_python(f"import test_failures; test_failures.get_without_memory({dtype!r})")


def get_without_memory(dtype):
    lost = 0
    for point in itertools.count():
        buffer = ring(*np.array([b"1", b"2", b"3"]).astype(dtype), dtype=dtype)
        came, value, error = fail_memory(RingBuffer.get, buffer, point, point + 1)
        check_balance(buffer)
        if not came:
            break
        lost += error is not None and buffer.stats().taken
        assert float(buffer.get()) == 1 + buffer.stats().taken - 1
        use_from_two_threads(buffer)
    assert float(value) == 1
    assert lost == 1


@needs_failing_memory
@pytest.mark.parametrize("kind", ["ring", "queue"])
def test_a_get_without_memory_for_its_items_passes_its_promise_on(kind):
    run_python(f"import test_failures; test_failures.pass_on({kind!r})")


def pass_on(kind):
    """One waits for anything and one behind it for all. All of it is promised to the first, which fails to take it."""
    everything = records("V1024", 100) if kind == "ring" else tuple(range(100))
    for point in itertools.count():
        buffer, over = RingBuffer(100, "V1024") if kind == "ring" else Queue(100), threading.Lock()
        over.acquire()
        buffer.put_many(everything)  # so that there is memory for these, and later again
        buffer.get_many()

        def take_all(buffer=buffer, over=over):
            try:
                return len(buffer.get_many())
            finally:
                over.release()

        first = parked(take_all)
        if kind == "ring":
            behind = parked(buffer.get_into, np.zeros(100, "V1024"), min_count=100)
        else:
            behind = parked(lambda buffer=buffer: len(buffer.get_many(min_count=100)))
        set_nomemory(point, point + 1)
        buffer.put_many(everything)
        over.acquire()
        remove_mem_hooks()
        try:
            assert first.result() == 100
        except MemoryError:
            assert behind.result() == 100
            use_from_two_threads(buffer)
        else:
            assert behind.is_alive()
            buffer.shutdown()
            with pytest.raises(ShutDown):
                behind.result()
            assert point > 0
            return


@needs_failing_memory
def test_a_tee_without_memory_keeps_each_ring_whole():
    """A later ring may miss what the first has accepted: no ring can be asked beforehand."""
    run_python("import test_failures; test_failures.tee_without_memory()")


def tee_without_memory():
    tee().put_many(MANY)  # what is loaded when it is first used is loaded
    for point in itertools.count():
        buffer = tee()
        came, _, error = fail_memory(lambda b: b.put_many(MANY), buffer, point, point + 1)
        first, second = map(contents, buffer.rings)
        assert first in ([], MANY.tolist())
        assert second in ([], first)
        for each in buffer.rings:
            check_balance(each)
        assert (second == MANY.tolist()) == (error is None)
        use_from_two_threads(buffer)
        if not came:
            return


def test_numbers_of_every_size_are_right():
    """Results are made before their value is known."""
    ring = RingBuffer(1 << 20, "u1", overflow="drop_oldest")
    block = np.zeros(1 << 20, "u1")
    for n in (0, 1, 255, 256, 257, 258, 1000, 65_536):
        number = ring.put_many(block[:n])
        assert (number, type(number), hash(number), str(number), -number) == (n, int, hash(n), str(n), 0 - n)
        number = ring.get_into(block, min_count=1) if n else 0
        assert number == n
        assert number + 1 == n + 1
        assert Queue().put_many(range(n)) == n
    for _ in range(1025):
        ring.put_many(block)
    first, batch = ring.get_many(return_seq=True)
    assert first == ring.stats().offered - len(batch) >= 1 << 30
    other = int(str(first))
    assert (type(first), hash(first), first.bit_length(), first // 2) == (int, hash(other), 31, other // 2)
    full = RingBuffer(1 << 20, "u1", overflow="drop_newest")
    full.put_many(block)
    assert full.put_many(np.zeros((1 << 30) + 5, "u1")) == (1 << 30) + 5  # nothing of it is looked at


# Conversions and arrays -----------------------------------------------------------------------------------------------


class TroubleError(Exception):
    """What goes wrong in somebody else's code."""


def trouble(*_, **__):
    raise TroubleError


def numbers_and_trouble():
    yield from (1, 2)
    raise TroubleError


class SequenceOfTrouble:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index if index < 2 else trouble()


def offering(name, how):
    return type(f"With{name}", (), {name: how})()


def released_view():
    view = memoryview(bytes(16)).cast("q")
    view.release()
    return view


FAILING = {
    "__array__": lambda: offering("__array__", trouble),
    "__array_interface__": lambda: offering("__array_interface__", property(trouble)),
    "__array_struct__": lambda: offering("__array_struct__", property(trouble)),
    "__buffer__": lambda: offering("__buffer__", trouble),
    "__float__": lambda: offering("__float__", trouble),
    "__iter__": lambda: offering("__iter__", trouble),
    "__len__": lambda: offering("__len__", trouble),
    "a released memoryview": released_view,
    "an iterator that fails after two": numbers_and_trouble,
    "a sequence that fails after two": SequenceOfTrouble,
    "a list with a failing element": lambda: [1, 2, offering("__array__", trouble)],
    "a list with another type behind": lambda: [1, 2, "three"],
    "a list with a number that does not fit": lambda: [1, 2, 1 << 70],
    "an array of objects": lambda: np.array([1, 2, "three"], object),
    "an array of floats": lambda: np.array([1.0, 2.0, 0.5]),
}

each_failing = pytest.mark.parametrize("source", FAILING.values(), ids=list(FAILING))


@each_failing
@pytest.mark.parametrize("put", ["put", "put_many"])
@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_a_failed_conversion_changes_nothing(source, put, overflow):
    ring = ring_with(1, 2, overflow=overflow)
    with unchanged(ring), pytest.raises((TroubleError, TypeError, ValueError)):
        getattr(ring, put)(source())


@each_failing
def test_a_failed_conversion_leaves_waiters_waiting(source):
    ring = RingBuffer(2, "i8")
    taker = parked(ring.get)
    with unchanged(ring), pytest.raises((TroubleError, TypeError, ValueError)):
        ring.put_many(source())
    assert taker.is_alive()
    ring.put_many([7])
    assert taker.result() == 7


@each_failing
def test_a_failed_conversion_enters_no_ring_of_a_tee(source):
    rings = ring_with(1, capacity=4), ring_with(1, capacity=4)
    with unchanged(rings[0]), unchanged(rings[1]), pytest.raises((TroubleError, TypeError, ValueError)):
        Tee(*rings).put_many(source())


WRONG_OUTS = {
    "what only offers an array": lambda: offering("__array__", trouble),
    "another dtype": lambda: np.zeros(2, "i4"),
    "two dimensions": lambda: np.zeros((2, 1), "i8"),
    "gaps": lambda: np.zeros(4, "i8")[::2],
    "read-only": lambda: np.frombuffer(bytes(16), "i8"),
    "no array": lambda: [0, 0],
}


@pytest.mark.parametrize("out", WRONG_OUTS.values(), ids=list(WRONG_OUTS))
def test_an_array_that_cannot_be_written_to_takes_nothing_and_leaves_waiters_waiting(out):
    ring = ring_with(1, 2)
    putter = parked(ring.put, 3)
    with unchanged(ring), pytest.raises((TroubleError, TypeError, ValueError)):
        ring.get_into(out())
    assert putter.is_alive()
    assert ring.get() == 1
    putter.result()
    assert contents(ring) == [2, 3]


# Hooks ----------------------------------------------------------------------------------------------------------------


class Moody(KINDS["hooked"]):
    """A hook that is told to fail does so once; 13 can never be put, and 14 never be taken."""

    failing = None

    def fail(self, hook):
        if self.failing == hook:
            self.failing = None
            raise TroubleError

    def _init(self, maxsize):
        self.fail("_init")
        super()._init(maxsize)

    def _qsize(self):
        self.fail("_qsize")
        return super()._qsize()

    def _put(self, item):
        self.fail("_put")
        if item == 13:
            raise TroubleError
        super()._put(item)

    def _get(self):
        self.fail("_get")
        if self.queue[0] == 14:
            raise TroubleError
        return super()._get()


def moody(*items, maxsize=0):
    made = Moody(maxsize)
    for item in items:
        made.put(item)
    return made


def holds(queue, *items, unfinished):
    return list(queue.queue) == list(items) and queue.unfinished_tasks == unfinished


USES = {
    "put": lambda q: q.put(3),
    "put_many": lambda q: q.put_many([3, 4]),
    "get": lambda q: q.get(),
    "get_many": lambda q: q.get_many(),
    "clear": lambda q: q.clear(),
    "shutdown": lambda q: q.shutdown(immediate=True),
    "qsize": lambda q: q.qsize(),
    "full": lambda q: q.full(),
    "empty": lambda q: q.empty(),
}


@pytest.mark.parametrize(
    ("hook", "name"),
    [("_put", "put"), ("_put", "put_many"), ("_get", "get"), ("_get", "get_many"), ("_get", "clear")]
    + [("_qsize", name) for name in USES if name != "shutdown"],
)
def test_a_hook_that_fails_changes_nothing(hook, name):
    queue = moody(1, 2, maxsize=5)
    queue.failing = hook
    with pytest.raises(TroubleError):
        USES[name](queue)
    assert holds(queue, 1, 2, unfinished=2)
    use_from_two_threads(queue)


@pytest.mark.parametrize("hook", ["_qsize", "_get"])
def test_an_immediate_shutdown_whose_hook_fails_shuts_down_all_the_same(hook):
    queue = moody(1, 2)
    queue.failing = hook
    with pytest.raises(TroubleError):
        queue.shutdown(immediate=True)
    assert queue.is_shutdown
    assert holds(queue, 1, 2, unfinished=2)
    queue.shutdown(immediate=True)
    assert holds(queue, unfinished=0)


def test_a_queue_whose_init_fails_is_not_made_and_one_that_is_made_again_keeps_its_items():
    with pytest.raises(TroubleError):
        type("Stillborn", (Moody,), {"failing": "_init"})()
    queue = moody(1, 2)
    queue.failing = "_init"
    with pytest.raises(TroubleError):
        queue.__init__()
    assert holds(queue, 1, 2, unfinished=2)
    use_from_two_threads(queue)


def test_a_get_many_whose_hook_fails_midway_returns_what_it_has_taken():
    queue = moody(1, 2, 14, 3, maxsize=4)
    putters = [parked(queue.put, item) for item in (5, 6)]
    assert queue.get_many() == [1, 2]
    for putter in putters:
        putter.result()
    assert (sorted(queue.queue), queue.unfinished_tasks) == ([3, 5, 6, 14], 6)
    with pytest.raises(TroubleError):
        queue.get_many()
    assert (sorted(queue.queue), queue.unfinished_tasks) == ([3, 5, 6, 14], 6)


def test_a_clear_whose_hook_fails_midway_has_counted_what_it_removed():
    queue = moody(1, 2, 14, 3, maxsize=4)
    putters = [parked(queue.put, item) for item in (5, 6)]
    with pytest.raises(TroubleError):
        queue.clear()
    for putter in putters:
        putter.result()
    assert (sorted(queue.queue), queue.unfinished_tasks) == ([3, 5, 6, 14], 4)


@pytest.mark.parametrize("get", ["get_many"])  # `get` is the standard library's, which does not
@pytest.mark.parametrize("hook", ["_qsize", "_get"])
def test_a_get_whose_hook_fails_once_it_was_woken_passes_that_on(get, hook):
    queue = moody()
    first = parked(getattr(queue, get))
    second = parked(getattr(queue, get))
    with queue.mutex:
        queue.queue.append(7)
        queue.not_empty.notify()
        queue.failing = hook
    with pytest.raises(TroubleError):
        first.result()
    assert second.result() in (7, [7])


def test_a_put_whose_hook_fails_leaves_waiting_gets_waiting():
    queue = moody()
    taker = parked(queue.get)
    with pytest.raises(TroubleError):
        queue.put(13)
    queue.put(5)
    assert taker.result() == 5
