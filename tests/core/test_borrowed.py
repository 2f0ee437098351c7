"""What f1buf fills in by itself, inside the interpreter's and numpy's objects, is checked at the import (`borrowed`).

Each check passes with f1buf's own functions. It refuses them where the interpreter or numpy would make something else
of what they filled in: here, with what they return changed accordingly.
"""

import sys

import numpy as np
import pytest
from helpers import run_python

import f1buf
from f1buf import Empty, Full, Queue, RingBuffer
from f1buf.core import borrowed, sync
from f1buf.queue import queue as queue_module
from f1buf.ring import ring as ring_module

READY_MADE = 256
CHECKS = {
    "check_ints": (sync._made_int, READY_MADE),
    "check_list": (queue_module._made_list,),
    "check_pair": (ring_module._made_pair,),
    "check_array": (ring_module._made_array, np),
    "check_scalars": (ring_module._made_scalar, np),
}


class Other(int):
    """Equal to an int, but none."""


class Stuck(list):
    """A list that does not grow."""

    def append(self, item):
        pass


class Hashed(tuple):
    """A tuple with a hash of its own."""

    def __hash__(self):
        return 1


# What is wrong: the check that is to notice, and how it comes about, from the function and its arguments.
BROKEN = {
    "an int without its upper digits": ("check_ints", lambda made, most, value: made(most, value & (1 << 30) - 1)),
    "an int with one digit more": ("check_ints", lambda made, most, value: made(most, value) + (1 << 60)),
    "a negative int": ("check_ints", lambda made, most, value: -made(most, value)),
    "an int of another type": ("check_ints", lambda made, most, value: Other(made(most, value))),
    "a blank list that is shown": ("check_list", lambda made, *args: (True, made(*args)[1])),
    "a list with its empty room": ("check_list", lambda made, *args: (False, [*made(*args)[1], None])),
    "a list that does not grow": ("check_list", lambda made, *args: (False, Stuck(made(*args)[1]))),
    "a list that the collector does not know": ("check_list", lambda made, items, room: (False, items)),
    "a blank pair that is shown": ("check_pair", lambda made, *args: (True, made(*args)[1])),
    "a pair the wrong way round": ("check_pair", lambda made, first, second: made(second, first)),
    "a pair with another hash": ("check_pair", lambda made, *args: (False, Hashed(made(*args)[1]))),
    "an array of another dtype": (
        "check_array",
        lambda made, raw_dtype, dtype, room, n: made(raw_dtype, np.dtype([("number", "i8"), ("value", "i4")]), room, n),
    ),
    "an array of an equal dtype": (
        "check_array",
        lambda made, raw_dtype, dtype, room, n: made(raw_dtype, np.dtype(dtype.descr), room, n),
    ),
    "an array of its old length": (
        "check_array",
        lambda made, raw_dtype, dtype, room, n: made(raw_dtype, dtype, room, room - 1),
    ),
    "an array that does not own its memory": ("check_array", lambda made, *args: made(*args)[:]),
    "an array that is not in one piece": ("check_array", lambda made, *args: made(*args).repeat(2)[::2]),
    "a scalar whose value lies elsewhere": ("check_scalars", lambda made, zeros, own: zeros[0]),
    "a scalar one byte off": ("check_scalars", lambda made, zeros, own: made(zeros, np.roll(own.view("u1"), 1))),
    "a scalar that is not found": ("check_scalars", lambda made, zeros, own: None),
    "a scalar of another type": ("check_scalars", lambda made, zeros, own: made(zeros, own).item()),
}


@pytest.mark.parametrize("name", CHECKS)
def test_objects_are_filled_in_as_python_makes_them(name):
    getattr(borrowed, name)(*CHECKS[name])


@pytest.mark.parametrize("what", BROKEN)
def test_objects_that_come_out_otherwise_are_refused(what):
    name, broken = BROKEN[what]
    made, *rest = CHECKS[name]
    with pytest.raises(ImportError):
        getattr(borrowed, name)(lambda *args: broken(made, *args), *rest)


def test_fewer_ready_made_ints_than_f1buf_counts_on_are_refused():
    with pytest.raises(ImportError, match=r"that the int \d+ is the interpreter's own"):
        borrowed.check_ints(sync._made_int, 1 << 20)


def test_the_error_says_where_what_and_what_to_do():
    with pytest.raises(ImportError) as caught:
        borrowed.check_scalars(lambda zeros, own: None, np)
    message = str(caught.value)
    python = ".".join(map(str, sys.version_info[:3]))
    assert message.startswith(f"f1buf {f1buf.__version__} cannot run on CPython {python}")
    for words in f"numpy {np.__version__}", "a scalar of int8", "expected", "pip install", borrowed.TRIED:
        assert words in message


IMPORT = """
import f1buf
from f1buf.core import borrowed

check = borrowed.{name}
borrowed.{name} = lambda made, *rest: check(lambda *args: {broken}, *rest)
for _ in range(2):
    try:
        f1buf.{used}
    except ImportError as error:
        assert str(error).startswith(f"f1buf {{f1buf.__version__}} cannot run on "), error
    else:
        raise AssertionError("it was imported")
"""


@pytest.mark.parametrize(
    ("used", "name", "broken"),
    [
        ("Queue", "check_ints", "-made(*args)"),
        ("RingBuffer", "check_ints", "-made(*args)"),
        ("Queue", "check_list", "(True, made(*args)[1])"),
        ("RingBuffer", "check_pair", "(True, made(*args)[1])"),
        ("RingBuffer", "check_array", "made(*args)[:]"),
        ("RingBuffer", "check_scalars", "None"),
    ],
)
def test_a_part_that_fails_its_check_is_not_imported(used, name, broken):
    run_python(IMPORT.format(used=used, name=name, broken=broken))


def test_ints_are_the_interpreter_s_own():
    """From 3.15 on it keeps those to 1024 ready-made: there they are."""
    ring, queue = RingBuffer(2000, "i8"), Queue()
    out = np.zeros(2000, "i8")
    for n in 1, READY_MADE, READY_MADE + 1, 1000, 1024, 1025:
        own = int(str(n))
        kept = own is int(str(n))
        counts = ring.put_many(np.zeros(n, "i8")), ring.get_into(out), queue.put_many([None] * n), len(queue.get_many())
        assert counts == (n, n, n, n)
        assert [count is own for count in counts] == [kept] * 4


def test_queues_have_their_fast_paths():
    """With the Cython that they were built by. Where it makes methods in another way they would be missing."""
    assert {"put", "get", "put_nowait", "get_nowait"} <= vars(Queue).keys()


def test_queues_work_without_their_fast_paths():
    queue, core = Queue(2), queue_module._QueueCore
    core.put(queue, 1)
    core.put_nowait(queue, 2)
    for put in core.put_nowait, lambda *args: core.put(*args, timeout=0):
        with pytest.raises(Full):
            put(queue, 3)
    assert (core.get(queue), core.get_nowait(queue)) == (1, 2)
    for get in core.get_nowait, lambda queue: core.get(queue, block=False):
        with pytest.raises(Empty):
            get(queue)
