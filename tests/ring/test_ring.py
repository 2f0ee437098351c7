"""RingBuffer, one thread at a time: each row of the contract's table, what is kept, what is refused, what is counted.

Waiting is in test_ring_waiting.py, signals in test_ring_signals.py, forks and the interpreter's exit in
test_ring_fork.py. What is converted how is in test_convert.py; here is that the ring goes by it.
"""

import ast
import contextlib
import copy
import enum
import gc
import inspect
import pickle
import re
import sys
import tracemalloc
import weakref
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    CALLS,
    PUTS,
    assert_times_out,
    check_balance,
    contents,
    each_call,
    examples,
    forked,
    records,
    ring_with,
    run_python,
    stuck_ring,
    unchanged,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import f1buf
from f1buf import READING, Empty, Full, RingBuffer, RingStats, ShutDown

POLICIES = ["block", "drop_oldest", "drop_newest"]
DROPS = POLICIES[1:]
CAPACITIES = [1, 2, 3, 7, 1000]

each_policy = pytest.mark.parametrize("overflow", POLICIES)
each_drop = pytest.mark.parametrize("overflow", DROPS)
each_capacity = pytest.mark.parametrize("capacity", CAPACITIES)


# RingBuffer(capacity, dtype, overflow) --------------------------------------------------------------------------------


@each_capacity
def test_capacity_is_exact(capacity):
    """Sentence 6."""
    ring = RingBuffer(capacity, "i8")
    assert ring.capacity == capacity
    assert ring.put_many(range(capacity + 2), block=False) == capacity
    assert ring.full()
    with pytest.raises(Full):
        ring.put_nowait(1)
    assert contents(ring) == list(range(capacity))


def test_defaults():
    ring = RingBuffer(5)
    assert (ring.capacity, ring.dtype, ring.overflow, ring.is_shutdown) == (5, READING, "block", False)


def test_reading_is_the_contracts():
    names = ["timestamp", "sensor_id", "channel", "flags", "value"]
    assert np.dtype(list(zip(names, ["f8", "u4", "u2", "u2", "f8"], strict=True))) == READING
    assert READING.itemsize == 24


@pytest.mark.parametrize(
    "capacity", [np.int64(3), np.uint8(3), type("Three", (), {"__index__": lambda self: 3})()], ids=type
)
def test_capacity_is_any_integer(capacity):
    assert RingBuffer(capacity, "f8").capacity == 3


@pytest.mark.parametrize("capacity", [0, -1, -(2**70)])
def test_a_capacity_below_one_is_a_value_error(capacity):
    with pytest.raises(ValueError, match=rf"capacity is {capacity}; expected at least 1"):
        RingBuffer(capacity)


@pytest.mark.parametrize("capacity", [1.5, 2.0, "x", None, [1]], ids=repr)
def test_a_capacity_that_is_no_integer_is_a_type_error_that_names_it(capacity):
    """Sentence 12."""
    with pytest.raises(TypeError) as caught:
        RingBuffer(capacity)
    assert "capacity" in str(caught.value)
    assert repr(capacity) in str(caught.value)


@pytest.mark.parametrize("exponent", [45, 59, 60, 61])
def test_a_capacity_that_memory_cannot_hold_is_a_memory_error_that_says_how_much(exponent):
    """Sentence 12."""
    with pytest.raises(MemoryError, match="choose a smaller capacity") as caught:
        RingBuffer(2**exponent)
    assert f"{2**exponent} records" in str(caught.value)
    assert f"{2**exponent * READING.itemsize} " in str(caught.value)


@pytest.mark.parametrize("exponent", [62, 63, 64, 70])
def test_a_capacity_beyond_any_memory_is_a_memory_error(exponent):
    with pytest.raises(MemoryError, match=f"{2**exponent} records; choose a smaller capacity"):
        RingBuffer(2**exponent)


HALF = sys.maxsize + 1  # [bytes] of all that can be addressed


@pytest.mark.parametrize("itemsize", [1, 24, 4096, 2**20])
@pytest.mark.parametrize("wraps", [1, 2, 3, 4, 8])
def test_a_ring_beyond_the_address_space_is_a_memory_error(wraps, itemsize):
    """Also where their number, cut to a machine word, is a small one: with 2, 4 and 8 halves it is one record's."""
    capacity = wraps * HALF // itemsize + 1
    with pytest.raises(MemoryError, match=f"{capacity} records.*; choose a smaller capacity"):
        RingBuffer(capacity, f"V{itemsize}")


@pytest.mark.parametrize("dtype", ["O", object, [("a", "O")], [("a", [("b", "f8"), ("c", "O", (2,))])]], ids=repr)
def test_a_dtype_with_objects_is_a_type_error(dtype):
    with pytest.raises(TypeError, match="holds Python objects; expected"):
        RingBuffer(1, dtype)


@pytest.mark.parametrize("dtype", ["U", "S0", "V0", [], [("a", "f8", (0,))]], ids=repr)
def test_a_dtype_without_size_is_a_value_error(dtype):
    with pytest.raises(ValueError, match="has no size; expected"):
        RingBuffer(1, dtype)


@pytest.mark.parametrize("dtype", [None, "nonsense", 5], ids=repr)
def test_a_wrong_dtype_is_a_type_error(dtype):
    with pytest.raises(TypeError):
        RingBuffer(1, dtype)


@pytest.mark.parametrize("overflow", ["drop-oldest", "BLOCK", "", None, 0], ids=repr)
def test_an_unknown_policy_is_a_value_error_that_lists_them(overflow):
    with pytest.raises(ValueError, match="overflow is") as caught:
        RingBuffer(1, overflow=overflow)
    assert all(repr(word) in str(caught.value) for word in [overflow, *POLICIES])


@each_policy
def test_overflow_is_told(overflow):
    assert RingBuffer(1, overflow=overflow).overflow == overflow


@pytest.mark.parametrize("arguments", [(), (1, "f8", "block")], ids=["too few", "overflow is keyword-only"])
def test_other_arguments_are_a_type_error(arguments):
    with pytest.raises(TypeError):
        RingBuffer(*arguments)


@pytest.mark.parametrize("name", ["capacity", "dtype", "overflow", "is_shutdown"])
def test_properties_are_read_only(name):
    with pytest.raises(AttributeError):
        setattr(RingBuffer(1), name, None)


def test_a_second_init_changes_nothing():
    ring = ring_with(1, 2, capacity=3)
    with unchanged(ring), pytest.raises(RuntimeError, match="initialised already"):
        ring.__init__(100, "u1")
    assert (ring.capacity, ring.dtype) == (3, "i8")


def test_an_init_that_failed_can_be_repeated():
    ring = RingBuffer.__new__(RingBuffer)
    with pytest.raises(ValueError, match="capacity"):
        ring.__init__(0)
    ring.__init__(2, "i8")
    assert ring.put_many([1, 2]) == 2


UNINITIALISED = CALLS | {
    "put_many of an array": lambda ring: ring.put_many(np.zeros(1)),
    "put_nowait": lambda ring: ring.put_nowait(1.0),
    "get_nowait": lambda ring: ring.get_nowait(),
    "get_into float64": lambda ring: ring.get_into(np.zeros(1)),
    "snapshot": lambda ring: ring.snapshot(),
    "_check": lambda ring: ring._check(),
}


@pytest.mark.parametrize("name", UNINITIALISED)
@forked
def test_a_ring_without_init_is_shut_down_and_does_not_crash(name):
    with contextlib.suppress(RuntimeError, TypeError, ValueError, ShutDown, StopIteration):
        UNINITIALISED[name](RingBuffer.__new__(RingBuffer))


@forked
def test_a_ring_without_init_can_be_looked_at():
    ring = RingBuffer.__new__(RingBuffer)
    assert (len(ring), ring.qsize(), ring.empty(), ring.is_shutdown) == (0, 0, True, True)
    assert "shut down" in repr(ring)
    ring.stats()
    ring.shutdown()


@forked
def test_an_init_within_an_init_does_not_corrupt_the_ring():
    class Capacity:
        def __index__(self):
            ring.__init__(1000, "i8")
            ring.put_many(range(999))
            return 3

    ring = RingBuffer.__new__(RingBuffer)
    with pytest.raises(RuntimeError, match="initialised already"):
        ring.__init__(Capacity(), "i8")
    ring._check()
    assert contents(ring) == list(range(999))


@forked
def test_an_init_within_a_put_does_not_let_more_in_than_was_given():
    class Record:
        def __float__(self):
            ring.__init__(2, "V1000000")
            return 1.0

    ring = RingBuffer.__new__(RingBuffer)
    with contextlib.suppress(RuntimeError, TypeError, ValueError, ShutDown):
        ring.put(Record())
    assert ring.empty()


# Any dtype without objects --------------------------------------------------------------------------------------------

PARTS = [("a", "u1"), ("b", "f8"), ("c", "i2")]
PLAIN = ["f8", "f4", "f2", "u1", "i8", "bool", "c8", "c16", "U5", "S3", "V7", "M8[ns]", "M8[D]", "m8[us]"]
SWAPPED = [">i4", ">f8", ">M8[s]", ">U3"]
DTYPES = {name: np.dtype(name) for name in PLAIN + SWAPPED}
DTYPES |= {
    "longdouble": np.dtype("g"),
    "READING": READING,
    "packed": np.dtype(PARTS),
    "aligned": np.dtype(PARTS, align=True),
    "gaps": np.dtype({"names": ["x", "y"], "formats": ["u4", "u1"], "offsets": [5, 1], "itemsize": 13}),
    "nested": np.dtype([("head", PARTS), ("name", "U3"), ("when", "M8[us]")]),
    "sub-array": np.dtype([("t", "f8"), ("ch", "f4", (50,))]),
    "matrix of records": np.dtype([("m", PARTS, (2, 3))]),
    "byte-swapped fields": np.dtype([("a", ">u2"), ("b", "<f8"), ("c", ">f4")]),
    "titles": np.dtype([(("Time since start", "t"), "f8"), (("Name", "n"), "S4")]),
    "over 512 bytes": np.dtype([("x", "f8", (70,))]),
    "over 64 KiB": np.dtype([("n", "u4"), ("x", "u1", (70_000,))]),
    "np.record": np.dtype((np.record, PARTS)),
}
each_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=list(DTYPES))


def same(ours, theirs):
    return (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


@each_dtype
def test_any_dtype_goes_in_and_out_unchanged(dtype):
    """Sentence 9. The slots are passed twice: where a batch wraps around is not to be seen."""
    ring = RingBuffer(5, dtype)
    assert ring.dtype == dtype
    source, out = records(dtype, 15), np.zeros(5, dtype)
    for start in range(0, 15, 3):
        piece = source[start : start + 3]
        assert ring.put_many(piece) == 3
        assert same(ring.snapshot(), piece)
        if start % 2:
            assert same(ring.get_many(), piece)
        else:
            assert ring.get_into(out) == 3
            assert same(out[:3], piece)
    check_balance(ring)


@each_dtype
def test_a_numpy_record_or_scalar_goes_in_and_out_as_numpys_own(dtype):
    ring = RingBuffer(3, dtype)
    source = records(dtype, 8)
    for record in source:
        ring.put(record)
        got = ring.get()
        assert type(got) is type(record)
        assert got.dtype == record.dtype
        assert np.array_equal(np.array(got, dtype), np.array(record, dtype))


@pytest.mark.parametrize("name", ["packed", "aligned", "gaps", "byte-swapped fields", "READING"])
def test_a_tuple_is_a_record(name):
    dtype = DTYPES[name]
    ring, source = RingBuffer(3, dtype), records(dtype, 3)
    for record in source:
        ring.put(record.item())
    assert same(ring.get_many(), source)


def test_dtypes_that_differ_in_layout_only_are_converted_not_copied():
    packed, aligned = DTYPES["packed"], DTYPES["aligned"]
    assert packed.names == aligned.names
    ring = RingBuffer(3, aligned)
    ring.put_many(records(packed, 3))
    assert ring.get_many().tolist() == records(packed, 3).tolist()


# Nothing is converted with loss ---------------------------------------------------------------------------------------

NUMBERS = np.arange(1, 21)
ARRAY_LIKES = {
    "strided": NUMBERS[::2],
    "reversed": NUMBERS[::-1],
    "column": NUMBERS.reshape(4, 5).T[1],
    "broadcast": np.broadcast_to(np.int64(3), 5),
    "read-only": np.frombuffer(NUMBERS.tobytes(), "i8"),
    "swapped": NUMBERS.astype(">i8"),
    "narrow": NUMBERS.astype("i2"),
    "unsigned": NUMBERS.astype("u8"),
    "subclass": NUMBERS.view(type("Sub", (np.ndarray,), {})),
    "empty": NUMBERS[:0],
    "list": NUMBERS.tolist(),
    "tuple": tuple(NUMBERS.tolist()),
    "deque": deque(NUMBERS.tolist()),
    "range": range(1, 21),
    "list of scalars": list(NUMBERS),
    "memoryview": memoryview(NUMBERS),
    "objects": NUMBERS.astype(object),
}


@pytest.mark.parametrize("array", ARRAY_LIKES.values(), ids=list(ARRAY_LIKES))
def test_put_many_takes_any_array_like_of_the_dtype(array):
    ring = RingBuffer(20, "i8")
    assert ring.put_many(array) == len(array)
    assert contents(ring) == [int(number) for number in array]


def test_put_many_takes_a_memmap(tmp_path):
    array = np.memmap(tmp_path / "records", READING, "w+", shape=10)
    array[:] = records(READING, 10)
    ring = RingBuffer(10)
    assert ring.put_many(array) == 10
    assert same(ring.get_many(), np.asarray(array))


def test_floats_may_round():
    ring = RingBuffer(4, "f4")
    ring.put(0.1)
    ring.put_many([0.1])
    ring.put_many(np.array([0.1]))
    assert contents(ring) == [float(np.float32(0.1))] * 3


SPOILT_RECORDS = {
    "too few values": (READING, (1.0, 2, 3), ValueError),
    "too many values": (READING, (1.0, 2, 3, 4, 5.0, 6), ValueError),
    "negative into unsigned": (READING, (1.0, -1, 0, 0, 1.0), ValueError),
    "integer too large": (READING, (1.0, 0, 2**16, 0, 1.0), ValueError),
    "integer far too large": (READING, (1.0, 2**80, 0, 0, 1.0), ValueError),
    "float into integer": (READING, (1.0, 1.5, 0, 0, 1.0), TypeError),
    "whole float into integer": (READING, (1.0, 1.0, 0, 0, 1.0), TypeError),
    "str into float": (READING, ("1", 1, 0, 0, 1.0), TypeError),
    "huge integer into float": (READING, (10**400, 1, 0, 0, 1.0), ValueError),
    "None in a field": (READING, (1.0, None, 0, 0, 1.0), TypeError),
    "None": (READING, None, TypeError),
    "list": (READING, [1.0, 1, 0, 0, 1.0], TypeError),
    "dict": (READING, dict.fromkeys(READING.names, 1), TypeError),
    "array of one": (READING, records(READING, 1), ValueError),
    "scalar into records": (READING, 1.0, TypeError),
    "record of other fields": (READING, records(PARTS, 1)[0], TypeError),
    "tuple into scalars": ("f8", (1.0,), ValueError),
    "float into scalars": ("i4", 1.0, TypeError),
    "int8 too large": ("i1", 128, ValueError),
    "int8 too small": ("i1", -129, ValueError),
    "uint64 too large": ("u8", 2**64, ValueError),
    "uint64 negative": ("u8", -1, ValueError),
    "float32 too large": ("f4", 1e39, ValueError),
    "int into bool": ("bool", 1, TypeError),
    "str too long": ("U2", "abc", ValueError),
    "bytes too long": ("S2", b"abc", ValueError),
    "bytes into str": ("U2", b"ab", TypeError),
    "bytes too few": ("V3", b"ab", ValueError),
    "time unit too fine": ("M8[s]", np.datetime64(1, "ns"), TypeError),
    "span unit too fine": ("m8[s]", np.timedelta64(1, "ms"), TypeError),
    "complex into float": ("f8", 1j, TypeError),
}


@pytest.mark.parametrize(("dtype", "record", "error"), SPOILT_RECORDS.values(), ids=list(SPOILT_RECORDS))
def test_a_record_that_does_not_fit_is_refused_and_nothing_changes(dtype, record, error):
    """Sentences 8 and 12."""
    ring = RingBuffer(3, dtype)
    ring.put_many(records(dtype, 1))
    with unchanged(ring), pytest.raises(error, match="expected"):
        ring.put(record)
    with unchanged(ring), pytest.raises(error, match="expected"):
        ring.put_nowait(record)


SPOILT_BATCHES = {
    "last of a list": ("i8", [1, 2, "x"], TypeError),
    "last does not fit": ("u1", [1, 2, 256], ValueError),
    "float in integers": ("i8", [1, 2.0], TypeError),
    "array of floats": ("i8", np.ones(3), TypeError),
    "array that does not fit": ("i1", np.array([1, 200]), ValueError),
    "array of longer strings": ("U2", np.array(["abc"]), ValueError),
    "array of finer times": ("M8[s]", np.zeros(2, "M8[ms]"), TypeError),
    "array of other fields": (READING, records(PARTS, 2), TypeError),
    "array of two dimensions": ("i8", np.ones((2, 2), "i8"), ValueError),
    "array of none": ("i8", np.ones((), "i8"), ValueError),
    "masked array": ("i8", np.ma.masked_array([1, 2], [0, 1]), TypeError),
    "iterator": ("i8", iter([1, 2]), TypeError),
    "one record": (READING, (1.0, 2, 3, 4, 5.0), TypeError),
    "scalar": ("i8", 5, TypeError),
    "None": ("i8", None, TypeError),
    "dict": ("i8", {1: 2}, TypeError),
    "ring": ("i8", RingBuffer(1), TypeError),
}


@pytest.mark.parametrize(("dtype", "batch", "error"), SPOILT_BATCHES.values(), ids=list(SPOILT_BATCHES))
@each_policy
def test_a_batch_that_does_not_fit_is_refused_and_nothing_changes(overflow, dtype, batch, error):
    """Sentences 8 and 12: not even the records before the one that does not fit."""
    ring = RingBuffer(5, dtype, overflow=overflow)
    ring.put_many(records(dtype, 2))
    with unchanged(ring), pytest.raises(error):
        ring.put_many(batch)


def test_an_exception_of_the_records_own_code_reaches_the_caller():
    class Bad:
        def __float__(self):
            raise ZeroDivisionError("of its own")

    ring = RingBuffer(2, "f8")
    for put in (lambda: ring.put(Bad()), lambda: ring.put_many([1.0, Bad()])):
        with unchanged(ring), pytest.raises(ZeroDivisionError):
            put()


def test_a_record_whose_code_uses_the_ring_may_do_so():
    class Busy:
        def __float__(self):
            ring.put(1.0)
            return float(ring.get()) + 1.0

    ring = RingBuffer(1, "f8")
    ring.put(Busy())
    assert ring.get() == 2.0
    assert ring.put_many([Busy()]) == 1
    assert contents(ring) == [2.0]


# The fast path of put does what the slow one does

CODES = ["f8", "f4", "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
EDGES = [sign * (1 << bits) + off for bits in (7, 8, 15, 16, 31, 32, 63, 64) for off in (-1, 0, 1) for sign in (1, -1)]


class OwnFloat(float):
    def __float__(self):
        return -1.0


class OwnInt(int):
    def __index__(self):
        return -1

    def __float__(self):
        return -1.0


Level = enum.IntEnum("Level", ["LOW", "HIGH"])
ODD = [1e39, 3.4028235677973366e38, 1 << 1024, "x", b"x", None, 1j, (1,), Level.HIGH, OwnFloat(2.5), OwnInt(3)]
ODD += [np.float64(0.1), np.float32(0.1), np.longdouble(0.1), np.int16(-3), np.uint64(2**63), np.bool_(True)]
anything = st.sampled_from(ODD) | st.sampled_from(EDGES) | st.integers() | st.floats() | st.booleans()


def fitting(code):
    """What a field of that type takes, more often than not."""
    kind, bits = np.dtype(code).kind, 8 * np.dtype(code).itemsize
    if kind == "f":
        return st.floats(width=bits) | st.floats() | st.integers()
    if kind == "b":
        return st.booleans()
    return st.integers(0, 2**bits - 1) if kind == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def dtypes_and_records(draw):
    codes = draw(st.lists(st.sampled_from(CODES), min_size=1, max_size=5))
    layout = draw(st.sampled_from(["scalar", "packed", "aligned", "backwards"]))
    if layout == "scalar":
        return np.dtype(codes[0]), draw(fitting(codes[0]) | anything)
    record = [draw(fitting(code)) for code in codes]
    if draw(st.booleans()):
        record[draw(st.integers(0, len(record) - 1))] = draw(anything)
    names = [f"f{i}" for i in range(len(codes))]
    if layout == "backwards":  # with gaps of three bytes
        offsets = [9 * i + 3 for i in reversed(range(len(codes)))]
        form = {"names": names, "formats": codes, "offsets": offsets, "itemsize": 9 * len(codes) + 5}
        return np.dtype(form), tuple(record)
    return np.dtype(list(zip(names, codes, strict=True)), align=layout == "aligned"), tuple(record)


def outcome(put, value, ring):
    try:
        put(value)
    except (TypeError, ValueError) as error:
        return type(error)
    return ring.get_many().tobytes()


def one_by_put_many(ring):
    return lambda value: ring.put_many([value])


@given(dtypes_and_records())
@settings(max_examples=examples(500))
def test_numbers_are_packed_as_converted(dtype_and_record):
    """One record by `put` has the bytes that `put_many` gives it, or is refused likewise."""
    dtype, record = dtype_and_record
    ring = RingBuffer(1, dtype)
    assert outcome(ring.put, record, ring) == outcome(one_by_put_many(ring), record, ring)


@pytest.mark.parametrize("value", ODD + EDGES, ids=repr)
@pytest.mark.parametrize("code", CODES)
def test_odd_values_are_packed_as_converted(code, value):
    ring = RingBuffer(1, code)
    assert outcome(ring.put, value, ring) == outcome(one_by_put_many(ring), value, ring)


@pytest.mark.parametrize("offsets", [[0, 0], [0, 2], [4, 4]], ids=repr)
def test_overlapping_fields_are_packed_as_converted(offsets):
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u4", "u4"], "offsets": offsets, "itemsize": 8})
    ring = RingBuffer(1, dtype)
    assert outcome(ring.put, (1, 2), ring) == outcome(one_by_put_many(ring), (1, 2), ring)


@pytest.mark.parametrize("name", ["aligned", "gaps"])
def test_padding_is_zero(name):
    """What was in memory before does not get out through the gaps between fields."""
    dtype = DTYPES[name]
    ring, zeros = RingBuffer(1, dtype), tuple(0 for _ in dtype.names)
    ring.put_many(np.full(dtype.itemsize, 255, "u1").view(dtype))
    ring.get()
    ring.put(zeros)
    assert ring.get().tobytes() == bytes(dtype.itemsize)


# put, put_nowait, put_many --------------------------------------------------------------------------------------------


def test_put_and_get_are_first_in_first_out():
    ring = RingBuffer(3, "i8")
    for number in range(10):
        assert ring.put(number) is None
        assert ring.put_nowait(number + 100) is None
        assert (ring.get(), ring.get_nowait()) == (number, number + 100)


@pytest.mark.parametrize(
    "how", [{"block": False}, {"timeout": 0}, {"block": False, "timeout": 5}, {"timeout": 1e-9}], ids=repr
)
@each_call
def test_a_call_that_may_not_wait_gives_up_at_once(name, how):
    """`block=False` is the same as a timeout of 0."""
    if name == "batches" and "block" in how:
        how = {"timeout": 0}
    ring = stuck_ring(name)
    before = ring.snapshot()
    assert_times_out(name, ring, **how)
    assert same(ring.snapshot(), before)
    check_balance(ring)


def test_the_nowait_calls_give_up_at_once():
    ring = RingBuffer(1, "i8")
    with pytest.raises(Empty):
        ring.get_nowait()
    ring.put_nowait(1)
    with pytest.raises(Full):
        ring.put_nowait(2)


def test_block_and_timeout_may_be_given_by_position_as_to_a_queue():
    ring = RingBuffer(1, "i8")
    ring.put(1, True, 5)
    with pytest.raises(Full):
        ring.put(2, False)
    with pytest.raises(Full):
        ring.put_many([2], False)
    assert ring.get(True, 5) == 1
    with pytest.raises(Empty):
        ring.get(False)


@pytest.mark.parametrize("how", [{"block": False}, {"timeout": 0}, {"timeout": 0.001}], ids=repr)
def test_put_many_accepts_what_there_is_room_for_and_says_how_many(how):
    ring = ring_with(0, 1, capacity=5)
    assert ring.put_many(range(2, 12), **how) == 3
    assert contents(ring) == [0, 1, 2, 3, 4]
    assert ring.stats().offered == 5
    with unchanged(ring), pytest.raises(Full):
        ring.put_many(range(5, 12), block=False)


@each_policy
def test_put_many_of_nothing_accepts_nothing(overflow):
    ring = ring_with(1, overflow=overflow)
    with unchanged(ring):
        assert ring.put_many([]) == 0
        assert ring.put_many(np.zeros(0, "i8"), block=False) == 0


def test_put_many_does_not_keep_the_callers_array():
    ring, array = RingBuffer(3, "i8"), np.array([1, 2, 3])
    ring.put_many(array)
    array[:] = 0
    assert contents(ring) == [1, 2, 3]


# Overflow policies: what is kept, what is counted, how it is numbered -------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@each_capacity
@each_drop
def test_drop_policies_keep_the_oldest_or_the_newest_exactly(overflow, capacity, batch):
    """Sentence 1: a put never waits and never raises Full, `put_many` returns the length, the loss is counted."""
    total = 7 * ((capacity + 50) // batch + 1) * batch
    ring = RingBuffer(capacity, "i8", overflow=overflow)
    for start in range(0, total, batch):
        assert ring.put_many(range(start, start + batch)) == batch
    kept = range(total - capacity, total) if overflow == "drop_oldest" else range(capacity)
    assert contents(ring) == list(kept)
    stats = ring.stats()
    assert (stats.offered, stats.dropped, stats.high_water) == (total, total - capacity, capacity)
    first = total - capacity if overflow == "drop_oldest" else 0
    seq, batch = ring.get_many(return_seq=True)
    assert (seq, batch.tolist()) == (first, list(kept))
    check_balance(ring)


@pytest.mark.parametrize("put", [lambda ring, value: ring.put(value), lambda ring, value: ring.put_nowait(value)])
@each_drop
def test_one_record_is_dropped_likewise(overflow, put):
    ring = RingBuffer(2, "i8", overflow=overflow)
    for number in range(5):
        assert put(ring, number) is None
    assert contents(ring) == ([3, 4] if overflow == "drop_oldest" else [0, 1])
    assert ring.stats().dropped == 3


@pytest.mark.parametrize("how", [{}, {"block": False}, {"timeout": 0}, {"timeout": 5}], ids=repr)
@pytest.mark.parametrize("records_given", [3, 20_000])
@each_drop
def test_more_records_than_the_capacity_are_dropped_likewise(overflow, records_given, how):
    ring = ring_with(-2, -1, overflow=overflow)
    assert ring.put_many(range(records_given), **how) == records_given
    assert contents(ring) == ([records_given - 2, records_given - 1] if overflow == "drop_oldest" else [-2, -1])
    assert ring.stats().dropped == records_given
    check_balance(ring)


def test_a_large_drop_is_exact_too():
    """Several pieces, each larger than what is copied under the lock."""
    capacity, total = 300_000, 1_000_000
    for overflow in DROPS:
        ring = RingBuffer(capacity, "i8", overflow=overflow)
        numbers = np.arange(total, dtype="i8")
        assert ring.put_many(numbers) == total
        kept = numbers[-capacity:] if overflow == "drop_oldest" else numbers[:capacity]
        assert same(ring.get_many(), kept)
        check_balance(ring)


def test_sequence_numbers_count_the_records_that_entered():
    """Sentence 4."""
    ring, out = RingBuffer(4, "i8"), np.zeros(3, "i8")
    ring.put_many([10, 11, 12, 13])
    assert ring.get() == 10
    seq, batch = ring.get_many(2, return_seq=True)
    assert (seq, batch.tolist()) == (1, [11, 12])
    ring.put_many([14, 15])
    assert ring.get_into(out, return_seq=True) == (3, 3)
    assert out.tolist() == [13, 14, 15]


def test_a_gap_between_batches_is_what_was_overwritten():
    """Sentence 4."""
    ring = RingBuffer(3, "i8", overflow="drop_oldest")
    ring.put_many(range(3))
    assert ring.get_many(2, return_seq=True)[0] == 0
    ring.put_many(range(3, 10))
    seq, batch = ring.get_many(return_seq=True)
    assert (seq, batch.tolist()) == (7, [7, 8, 9])
    assert ring.stats().dropped == 7 - 2


def test_a_refused_record_gets_no_number():
    """Sentence 4."""
    ring = RingBuffer(2, "i8", overflow="drop_newest")
    ring.put_many(range(5))
    assert ring.get_many(return_seq=True)[0] == 0
    ring.put(5)
    seq, batch = ring.get_many(return_seq=True)
    assert (seq, batch.tolist()) == (2, [5])


# get, get_nowait, get_many, get_into ----------------------------------------------------------------------------------


def test_get_returns_a_copy():
    ring = RingBuffer(1)
    first, second = records(READING, 2)
    ring.put(first)
    got = ring.get()
    ring.put(second)
    assert got == first
    got["value"] = -1.0
    assert ring.get() == second


@pytest.mark.parametrize("dtype", [READING, [("a", "u1"), ("b", "S3")], [("a", "u1"), ("b", "V600")]], ids=str)
def test_each_record_that_get_returns_has_memory_of_its_own(dtype):
    given = np.zeros(50, dtype)
    given[given.dtype.names[0]] = np.arange(50)
    ring = RingBuffer(50, dtype)
    ring.put_many(given)
    with pytest.raises(Empty):
        RingBuffer(50, dtype).get_nowait()
    got = [ring.get() for _ in range(50)]
    assert got == list(given)
    for i, record in enumerate(got):
        record[0] = 100 + i
    assert [record[0] for record in got] == list(range(100, 150))


@pytest.mark.parametrize("n", [2047, 2048, 2111, 2112, 4099])
def test_copies_are_right_wherever_the_array_lies(n):
    """Where it lies just behind the slots within a page of 4,096 bytes, they are copied in another way."""
    ring = RingBuffer(n, "u1")
    source = np.resize(np.arange(251, dtype="u1"), n)
    memory = np.zeros(4096 + n, "u1")
    for place in range(4096):
        memory[place : place + n] = source
        ring.put_many(memory[place : place + n])
        memory[:] = 0xFF
        assert ring.get_into(memory[place : place + n]) == n
        assert np.array_equal(memory[place : place + n], source)
        assert (memory[:place] == 0xFF).all()
        assert (memory[place + n :] == 0xFF).all()


def test_arrays_out_own_their_memory():
    """Whole batches, shortened ones, grown ones, and snapshots; none shares the slots."""
    ring = RingBuffer(30_000, "i8")
    for take in (
        lambda: ring.get_many(),
        lambda: ring.get_many(5, timeout=0),
        lambda: ring.get_many(20_000, min_count=20_000, timeout=0),
        lambda: ring.get_many(min_count=30_000, block=False),
        lambda: ring.get_many(return_seq=True)[1],
        lambda: ring.snapshot(),
        lambda: ring.snapshot(5),
        lambda: next(ring.batches()),
    ):
        for count in (3, 25_000):
            ring.put_many(np.arange(count), block=False)
            batch = take()
            expected = batch.copy()
            assert batch.flags.owndata
            assert batch.base is None
            assert batch.flags.writeable
            assert type(batch) is np.ndarray
            while ring.qsize():
                ring.get_many()
            ring.put_many(np.full(ring.capacity, -1))
            assert same(batch, expected)
            ring.get_many()


@pytest.mark.parametrize(
    ("max_count", "taken"), [(None, 5), (1, 1), (3, 3), (5, 5), (6, 5), (2**70, 5), (np.int8(2), 2)]
)
def test_get_many_takes_what_is_there_up_to_the_maximum(max_count, taken):
    ring = ring_with(0, 1, 2, 3, 4, capacity=6)
    assert ring.get_many(max_count).tolist() == list(range(taken))
    assert contents(ring) == list(range(taken, 5))


@pytest.mark.parametrize("how", [{"timeout": 0}, {"block": False}, {"timeout": 0.001}], ids=repr)
@pytest.mark.parametrize("min_count", [1, 3, 4, 5])
def test_get_many_returns_fewer_than_min_count_at_the_timeout(min_count, how):
    ring = ring_with(1, 2, 3, capacity=5)
    assert ring.get_many(min_count=min_count, **how).tolist() == [1, 2, 3]
    with pytest.raises(Empty):
        ring.get_many(min_count=min_count, **how)


@pytest.mark.parametrize("how", [{"timeout": 0}, {"block": False}, {"timeout": 0.001}], ids=repr)
def test_get_into_returns_fewer_than_min_count_at_the_timeout(how):
    ring, out = ring_with(1, 2, 3, capacity=5), np.zeros(5, "i8")
    assert ring.get_into(out, min_count=4, **how) == 3
    assert out.tolist() == [1, 2, 3, 0, 0]
    with pytest.raises(Empty):
        ring.get_into(out, min_count=4, **how)


TAKES = {
    "get_many": lambda ring, count, **how: ring.get_many(count, **how),
    "get_into": lambda ring, count, **how: ring.get_into(np.zeros(count, "i8"), **how),
    "batches": lambda ring, count, **how: ring.batches(count, **how),
}
each_take = pytest.mark.parametrize("take", TAKES.values(), ids=list(TAKES))


@pytest.mark.parametrize(
    ("max_count", "min_count"), [(3, 0), (3, -1), (3, 4), (9, 6), (3, 2**70), (3, -(2**70))], ids=repr
)
@each_take
def test_a_min_count_out_of_range_is_a_value_error_that_names_it(take, max_count, min_count):
    """Below 1, above `max_count`, above the capacity; `batches` says so before its first batch."""
    ring = ring_with(1, 2, 3, 4, 5)
    with unchanged(ring), pytest.raises(ValueError, match=f"min_count is {min_count}; expected at"):
        take(ring, max_count, min_count=min_count)


@pytest.mark.parametrize("min_count", [1.0, "1", None], ids=repr)
@each_take
def test_a_min_count_that_is_no_integer_is_a_type_error_that_names_it(take, min_count):
    """Sentence 12."""
    ring = ring_with(1, 2)
    with unchanged(ring), pytest.raises(TypeError) as caught:
        take(ring, 2, min_count=min_count)
    assert "min_count" in str(caught.value)
    assert repr(min_count) in str(caught.value)


@pytest.mark.parametrize("max_count", [0, -1, -(2**70)])
@pytest.mark.parametrize("name", ["get_many", "batches"])
def test_a_max_count_below_one_is_a_value_error(name, max_count):
    ring = ring_with(1)
    with unchanged(ring), pytest.raises(ValueError, match=f"{max_count}"):
        TAKES[name](ring, max_count)


@pytest.mark.parametrize("max_count", [1.5, "1"], ids=repr)
@pytest.mark.parametrize(
    "take", [RingBuffer.get_many, RingBuffer.batches, RingBuffer.snapshot], ids=lambda f: f.__name__
)
def test_a_max_count_that_is_no_integer_is_a_type_error_that_names_it(take, max_count):
    """Sentence 12."""
    ring = ring_with(1)
    with unchanged(ring), pytest.raises(TypeError) as caught:
        take(ring, max_count)
    assert "max_count" in str(caught.value)
    assert repr(max_count) in str(caught.value)


def test_get_into_writes_the_front_only():
    ring, out = ring_with(1, 2, capacity=8), np.full(5, -1, "i8")
    assert ring.get_into(out) == 2
    assert out.tolist() == [1, 2, -1, -1, -1]
    ring.put_many(range(8))
    assert ring.get_into(out) == 5
    assert out.tolist() == [0, 1, 2, 3, 4]
    assert contents(ring) == [5, 6, 7]


UNFIT_TO_FILL = {
    "read-only": (np.broadcast_to(np.int64(0), 1), ValueError, "out is read-only"),
    "strided": (np.zeros(6, "i8")[::2], ValueError, "out is not contiguous"),
    "reversed": (np.zeros(3, "i8")[::-1], ValueError, "out is not contiguous"),
    "float": (np.zeros(3, "f8"), TypeError, "float64"),
    "swapped": (np.zeros(3, ">i8"), TypeError, ">i8"),
    "records": (np.zeros(3, READING), TypeError, "timestamp"),
    "2-D": (np.zeros((3, 1), "i8"), ValueError, r"\(3, 1\)"),
    "0-D": (np.zeros((), "i8"), ValueError, r"\(\)"),
    "empty": (np.zeros(0, "i8"), ValueError, "out"),
    "list": ([0, 0, 0], TypeError, "out is 'list'"),
    "bytearray": (bytearray(24), TypeError, "bytearray"),
    "None": (None, TypeError, "NoneType"),
}


@pytest.mark.parametrize(("out", "error", "word"), UNFIT_TO_FILL.values(), ids=list(UNFIT_TO_FILL))
def test_get_into_refuses_what_it_cannot_fill(out, error, word):
    """Sentence 12: the message names what is wrong with `out`."""
    ring = ring_with(1, 2, 3)
    with unchanged(ring), pytest.raises(error, match=word):
        ring.get_into(out)


def test_get_into_takes_a_subclass_and_a_slice():
    ring, out = ring_with(1, 2, 3), np.zeros(5, "i8")
    assert ring.get_into(out[1:2]) == 1
    assert ring.get_into(out[3:].view(type("Sub", (np.ndarray,), {}))) == 2
    assert out.tolist() == [0, 1, 0, 2, 3]


@forked
def test_an_array_that_lies_about_itself_is_not_written_beyond_its_end():
    class Liar(np.ndarray):
        shape, ndim, dtype = (1000,), 1, np.dtype("i8")

    ring, memory = RingBuffer(1000, "i8"), np.zeros(100, "i8")
    ring.put_many(range(1, 1001))
    liar = np.ndarray.view(memory[:10], Liar)
    assert ring.get_into(liar, timeout=0) <= 10
    assert not memory[10:].any()
    ring._check()


# batches, snapshot ----------------------------------------------------------------------------------------------------


def test_batches_end_once_the_ring_is_shut_down_and_drained():
    ring = ring_with(*range(7))
    ring.shutdown()
    assert [batch.tolist() for batch in ring.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(ring.batches()) == []


def test_batches_yield_what_is_there_at_each_timeout_possibly_nothing():
    ring = ring_with(1, 2, capacity=5)
    batches = ring.batches(min_count=3, timeout=0.001)
    assert next(batches).tolist() == [1, 2]
    nothing = next(batches)
    assert (nothing.tolist(), nothing.dtype) == ([], ring.dtype)
    ring.put_many([3, 4, 5])
    assert next(batches).tolist() == [3, 4, 5]
    ring.put(6)
    ring.shutdown()
    assert [batch.tolist() for batch in batches] == [[6]]


def test_batches_after_an_immediate_shutdown_are_over():
    ring = ring_with(1, 2)
    batches = ring.batches(1)
    assert next(batches).tolist() == [1]
    ring.shutdown(immediate=True)
    assert list(batches) == []


@pytest.mark.parametrize("max_count", [None, 0, 1, 3, 4, 2**70])
def test_snapshot_copies_the_newest_oldest_first_and_takes_nothing(max_count):
    ring = RingBuffer(4, "i8", overflow="drop_oldest")
    ring.put_many(range(6))  # around the end
    ring.get()
    with unchanged(ring):
        newest = ring.snapshot(max_count)
    assert newest.dtype == ring.dtype
    assert newest.tolist() == ([3, 4, 5] if max_count is None else [3, 4, 5][max(0, 3 - max_count) :])


def test_snapshot_of_nothing_is_empty():
    assert RingBuffer(3).snapshot().tolist() == []


def test_snapshot_of_a_ring_that_is_shut_down_is_what_is_left():
    ring = ring_with(1, 2)
    ring.shutdown()
    assert contents(ring) == [1, 2]
    ring.shutdown(immediate=True)
    assert contents(ring) == []


def test_a_negative_snapshot_is_a_value_error():
    with pytest.raises(ValueError, match="max_count is -1; expected at least 0"):
        ring_with(1).snapshot(-1)


@pytest.mark.parametrize("ask", [np.asarray, np.array, np.atleast_1d, lambda ring: ring.__array__(None, True)])
@pytest.mark.parametrize("dtype", ["i8", ">f4", [("number", "i4"), ("name", "U2")]], ids=str)
def test_numpy_makes_of_a_ring_its_records_oldest_first_and_takes_nothing(ask, dtype):
    ring = RingBuffer(4, dtype, overflow="drop_oldest")
    ring.put_many(records(dtype, 6))  # around the end
    with unchanged(ring):
        array = ask(ring)
        array[:] = np.zeros(4, dtype)  # which is the caller's own
    assert array.dtype == ring.dtype
    assert np.asarray(ring).tolist() == records(dtype, 6)[2:].tolist()


def test_numpy_makes_of_an_empty_ring_an_empty_array():
    array = np.asarray(RingBuffer(3))
    assert (array.shape, array.dtype) == ((0,), RingBuffer(3).dtype)


@pytest.mark.parametrize("dtype", ["f4", "i2", "U3", object, np.float64])
def test_numpy_converts_the_records_of_a_ring_as_those_of_an_array(dtype):
    values = [1, 2, 70_000]
    ring = ring_with(*values)
    expected = np.array(values).astype(dtype)
    for array in (
        np.asarray(ring, dtype),
        np.array(ring, dtype=dtype),
        ring.__array__(dtype),
        ring.__array__(dtype, None),
    ):
        assert array.dtype == expected.dtype
        assert array.tolist() == expected.tolist()


def test_records_that_numpy_cannot_convert_raise_what_numpy_raises():
    with pytest.raises(ValueError, match="invalid literal"):
        np.asarray(ring_with("a", dtype="U1"), int)


def test_a_ring_as_an_array_without_a_copy_is_a_value_error():
    ring = ring_with(1, 2)
    for call in [lambda: ring.__array__(copy=False), lambda: ring.__array__("i8", False)]:
        with unchanged(ring), pytest.raises(ValueError, match=r"copy is False: .* without a copy; .* ring.peek\(\)"):
            call()
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        assert np.array(ring, copy=False).tolist() == [1, 2]  # there it means: unless it is needed
        return
    with pytest.raises(ValueError, match="copy"):
        np.array(ring, copy=False)


def test_a_ring_as_an_array_while_its_thread_peeks_is_a_runtime_error():
    ring = ring_with(1, 2)
    with ring.peek(1), pytest.raises(RuntimeError, match="block of it out"):
        np.asarray(ring)


def test_numpy_computes_with_the_records_of_a_ring():
    ring = ring_with(1, 2, 6)
    assert (np.mean(ring), np.concatenate([ring, ring]).tolist()) == (3, [1, 2, 6, 1, 2, 6])
    assert ring.qsize() == 3


def test_the_records_of_one_ring_are_put_into_another():
    source = ring_with(1, 2, 3)
    target = RingBuffer(5, "f8")
    assert target.put_many(source) == 3
    assert (contents(target), contents(source)) == ([1.0, 2.0, 3.0], [1, 2, 3])
    assert target.put_many(target, block=False) == 2  # what is there when it begins; for the third there is no room
    assert contents(target) == [1.0, 2.0, 3.0, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"shape \(3,\); expected shape \(\)"):
        target.put(source)


# shutdown, is_shutdown, with ------------------------------------------------------------------------------------------


@each_policy
def test_after_a_shutdown_puts_raise_and_gets_drain(overflow):
    ring = ring_with(1, 2, 3, overflow=overflow)
    assert ring.shutdown() is None
    assert ring.is_shutdown
    for name in PUTS:
        with unchanged(ring), pytest.raises(ShutDown, match="put into"):
            CALLS[name](ring)
    assert ring.get() == 1
    assert ring.get_many(5, timeout=0, min_count=3).tolist() == [2, 3]
    for take in (ring.get, ring.get_nowait, ring.get_many, lambda: ring.get_into(np.zeros(1, "i8"))):
        with pytest.raises(ShutDown, match="get from"):
            take()
    check_balance(ring)


def test_after_a_shutdown_a_get_that_needs_more_returns_what_is_left():
    ring = ring_with(1, 2, capacity=5)
    ring.shutdown()
    assert ring.get_many(min_count=5).tolist() == [1, 2]


@each_policy
def test_an_immediate_shutdown_discards_what_is_left_and_counts_it(overflow):
    ring = ring_with(1, 2, 3, overflow=overflow)
    ring.get()
    ring.shutdown(immediate=True)
    assert ring.is_shutdown
    assert ring.empty()
    assert (ring.stats().discarded, ring.stats().taken) == (2, 1)
    with pytest.raises(ShutDown):
        ring.get()
    with pytest.raises(ShutDown):
        ring.put(1)
    check_balance(ring)


def test_a_shutdown_may_be_repeated_and_made_harder_but_not_milder():
    ring = ring_with(1, 2)
    ring.shutdown()
    ring.shutdown()
    assert contents(ring) == [1, 2]
    ring.shutdown(immediate=True)
    ring.shutdown()
    assert (ring.empty(), ring.stats().discarded) == (True, 2)


def test_with_shuts_down():
    with ring_with(1, 2) as ring:
        assert isinstance(ring, RingBuffer)
        assert not ring.is_shutdown
    assert ring.is_shutdown
    assert contents(ring) == [1, 2]


def test_with_shuts_down_immediately_where_an_exception_left_it():
    ring = ring_with(1, 2)
    with pytest.raises(ZeroDivisionError), ring:
        1 / 0  # noqa: B018
    assert ring.is_shutdown
    assert (ring.empty(), ring.stats().discarded) == (True, 2)
    check_balance(ring)
    for text in (RingBuffer.__doc__, RingBuffer.__exit__.__doc__):
        assert re.search(r"exception (leaves|left) the block.* discarded", " ".join(text.split()))  # and says so


# Numbers beyond 32 bits -----------------------------------------------------------------------------------------------

WIDE = (1 << 24) - 1  # records of a ring whose slots nobody touches; not a divisor of 2**32
BEYOND = 1 << 32


def passed(ring, until):
    """So many records have entered the ring and left it: in blocks, so that none of them is copied."""
    for seq in range(0, until, ring.capacity):
        with ring.reserve(min(ring.capacity, until - seq)) as block:
            block.commit(len(block))
        while ring.overflow == "block" and not ring.empty():
            with ring.peek() as block:
                block.consume(len(block))


def test_sequence_numbers_go_on_beyond_32_bits():
    ring = RingBuffer(WIDE, "u1")
    passed(ring, BEYOND - 2)
    assert ring.stats()[:2] == (BEYOND - 2, BEYOND - 2)
    assert ring.put_many(np.arange(12, dtype="u1")) == 12
    seq, batch = ring.get_many(1, return_seq=True)
    assert (seq, batch.tolist()) == (BEYOND - 2, [0])
    assert ring.get_into(np.zeros(1, "u1"), return_seq=True) == (BEYOND - 1, 1)
    with ring.peek(1) as block:
        assert (block.first_seq, block.array.tolist()) == (BEYOND, [2])
    with ring.reserve(1) as block:
        assert block.first_seq == BEYOND + 10
        block.array[:] = 12
    seq, batch = ring.get_many(return_seq=True)
    assert (seq, batch.tolist()) == (BEYOND + 1, [*range(3, 13)])
    assert ring.stats()[:2] == (BEYOND + 11, BEYOND + 11)
    check_balance(ring)


def test_more_than_32_bits_of_records_are_overwritten_one_by_one():
    ring = RingBuffer(WIDE, "u1", overflow="drop_oldest")
    passed(ring, BEYOND + WIDE + 5)
    assert (ring.stats().offered, ring.stats().dropped) == (BEYOND + WIDE + 5, BEYOND + 5)
    assert ring.get_many(1, return_seq=True)[0] == BEYOND + 5
    check_balance(ring)
    ring.shutdown(immediate=True)
    assert ring.stats().discarded == WIDE - 1
    check_balance(ring)


def test_more_than_32_bits_of_records_are_refused():
    ring = RingBuffer(WIDE, "u1", overflow="drop_newest")
    passed(ring, WIDE)
    more = np.zeros(WIDE + 2, "u1")
    for _ in range(256):
        assert ring.put_many(more) == WIDE + 2
    assert ring.stats().dropped == 256 * (WIDE + 2) == BEYOND + 256
    assert ring.stats().offered == BEYOND + 256 + WIDE
    check_balance(ring)


# qsize, len, empty, full, stats ---------------------------------------------------------------------------------------


def test_the_size_is_told_in_every_way():
    ring = RingBuffer(2, "i8")
    seen = []
    for change in (lambda: ring.put(1), lambda: ring.put(2), ring.get, ring.get):
        seen.append((ring.qsize(), len(ring), ring.empty(), ring.full()))
        change()
    assert seen == [(0, 0, True, False), (1, 1, False, False), (2, 2, False, True), (1, 1, False, False)]


def test_stats_count_what_they_say():
    ring = RingBuffer(4, "i8", overflow="drop_oldest")
    assert ring.stats() == RingStats(0, 0, 0, 0, 0, 0, 0.0, 0.0, 0)
    ring.put_many(range(6))
    ring.get_many(1)
    ring.shutdown(immediate=True)
    stats = ring.stats()
    assert isinstance(stats, RingStats)
    assert stats == RingStats(
        offered=6,
        taken=1,
        dropped=2,
        discarded=3,
        put_waits=0,
        get_waits=0,
        put_wait_seconds=0.0,
        get_wait_seconds=0.0,
        high_water=4,
    )


def test_a_put_that_raises_has_offered_nothing():
    ring = ring_with(1)
    with pytest.raises(Full):
        ring.put_nowait(2)
    ring.shutdown()
    with pytest.raises(ShutDown):
        ring.put_many([1, 2])
    assert ring.stats().offered == 1


def test_high_water_is_the_most_that_it_held():
    ring = RingBuffer(5, "i8")
    ring.put_many(range(3))
    ring.get_many()
    ring.put(1)
    assert ring.stats().high_water == 3


def test_stats_are_immutable_and_do_not_follow_the_ring():
    ring = ring_with(1)
    stats = ring.stats()
    with pytest.raises(AttributeError):
        stats.offered = 5
    ring.get()
    assert stats.taken == 0


# Timeouts -------------------------------------------------------------------------------------------------------------

NO_TIMEOUTS = {
    "-1": (-1, ValueError),
    "-1e-9": (-1e-9, ValueError),
    "nan": (float("nan"), ValueError),
    "np.nan": (np.float32("nan"), ValueError),
    "-inf": (float("-inf"), ValueError),
    "-10**400": (-(10**400), ValueError),
    "str": ("1", TypeError),
    "bytes": (b"1", TypeError),
    "list": ([1], TypeError),
    "complex": (1j, TypeError),
}


@pytest.mark.parametrize(("timeout", "error"), NO_TIMEOUTS.values(), ids=list(NO_TIMEOUTS))
@pytest.mark.parametrize("must_wait", [True, False], ids=["waits", "need not wait"])
@each_call
def test_a_wrong_timeout_is_refused_whether_or_not_the_call_had_to_wait(name, must_wait, timeout, error):
    """Sentences 7 and 12: NaN and negative numbers are a ValueError, and nothing has changed."""
    ring = stuck_ring(name) if must_wait else ring_with(1, capacity=4)
    with unchanged(ring), pytest.raises(error, match=r"timeout is .*; expected a number of seconds"):
        CALLS[name](ring, timeout=timeout)


@each_call
def test_a_timeouts_own_exception_reaches_the_caller(name):
    class Bad:
        def __float__(self):
            raise ZeroDivisionError("of its own")

    ring = stuck_ring(name)
    with unchanged(ring), pytest.raises(ZeroDivisionError):
        CALLS[name](ring, timeout=Bad())


def test_a_timeout_whose_code_uses_the_ring_may_do_so():
    class Busy:
        def __float__(self):
            ring.put(5)
            return 10.0

    ring = RingBuffer(1, "i8")
    assert ring.get(timeout=Busy()) == 5
    assert ring.get_many(timeout=Busy()).tolist() == [5]


# Errors, names, help --------------------------------------------------------------------------------------------------


@pytest.mark.threads_only(reason="a shared ring can be pickled")
@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_pickling_and_copying_are_a_type_error(act):
    """Sentence 11."""
    ring = ring_with(1)
    with unchanged(ring), pytest.raises(TypeError, match="cannot be pickled or copied"):
        act(ring)


@pytest.mark.threads_only(reason="a shared ring can be pickled")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_a_type_error_under_every_protocol(protocol):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(RingBuffer(1), protocol)


def test_a_ring_can_be_referenced_weakly_and_is_freed():
    ring = RingBuffer(1)
    batches = ring.batches(timeout=0)
    next(batches)
    alive = weakref.ref(ring)
    assert alive() is ring
    del ring, batches
    gc.collect()
    assert alive() is None


def test_repr_tells_what_the_ring_is():
    ring = ring_with(1, 2, capacity=5, overflow="drop_oldest")
    text = repr(ring)
    assert all(word in text for word in ("RingBuffer", "2/5", "int64", "drop_oldest", "open"))
    ring.shutdown()
    assert "shut down" in repr(ring)


def test_a_subclass_may_add_attributes_and_override_methods():
    class Named(RingBuffer):
        def __init__(self, name, capacity):
            super().__init__(capacity, "i8")
            self.label = name

        def get(self, block=True, timeout=None):
            return super().get(block, timeout) + 100

    ring = Named("speed", 2)
    assert ring.put_many([1, 2, 3], block=False) == 2
    assert (ring.label, ring.get_nowait(), ring.get(), type(ring)) == ("speed", 101, 102, Named)


@forked
def test_a_subclass_that_lies_about_its_capacity_gets_no_others_memory():
    class Liar(RingBuffer):
        capacity = 10**6

    ring = Liar(2, "i8")
    ring.put_many([1, 2])
    assert ring.get_many(10**6, min_count=3, timeout=0).tolist() == [1, 2]
    ring._check()


def stubs():
    """The signatures that ring/ring.pyi promises; of overloads the first, which has all the defaults."""
    tree = ast.parse(Path(f1buf.__file__).parent.joinpath("ring", "ring.pyi").read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "RingBuffer").body
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not any(
            ast.unparse(mark) == "property" for mark in node.decorator_list
        ):
            found.setdefault(node.name, node.args)
    return found


def parameters_of_stub(arguments):
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    pairs = list(zip(plain, defaults, strict=True)) + list(
        zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    )
    by_keyword = {argument.arg for argument in arguments.kwonlyargs}
    return [
        (
            argument.arg,
            argument.arg in by_keyword,
            inspect.Parameter.empty if default is None else ast.literal_eval(default),
        )
        for argument, default in pairs
        if argument.arg != "self"
    ]


def parameters_of(function):
    return [
        (
            parameter.name,
            parameter.kind is parameter.KEYWORD_ONLY,
            ... if parameter.default is READING else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


@pytest.mark.parametrize("name", [name for name in stubs() if not name.startswith("__")])
def test_signatures_are_those_of_the_stubs(name):
    assert parameters_of(getattr(RingBuffer, name)) == parameters_of_stub(stubs()[name])


@pytest.mark.threads_only(reason="the stubs are RingBuffer's")
def test_the_constructors_signature_is_that_of_the_stubs():
    assert parameters_of(RingBuffer) == parameters_of_stub(stubs()["__init__"])


@pytest.mark.threads_only(reason="the stubs are RingBuffer's")
def test_all_that_is_public_is_in_the_stubs_and_documented():
    public = {name for name in vars(RingBuffer) if not name.startswith("_")}
    assert public == {name for name in stubs() if not name.startswith("_")} | {
        "capacity",
        "dtype",
        "overflow",
        "is_shutdown",
    }
    undocumented = {name for name in public - {"dtype"} if not inspect.getdoc(getattr(RingBuffer, name))}
    assert not undocumented


# The package ----------------------------------------------------------------------------------------------------------


def test_importing_f1buf_does_not_import_numpy():
    run_python(
        "import sys; before = set(sys.modules); import f1buf; assert 'numpy' not in set(sys.modules) - before, 'numpy'"
    )


@pytest.mark.parametrize("name", ["READING", "Empty", "Full", "RingBuffer", "RingStats", "ShutDown", "Tee"])
def test_public_names(name):
    assert name in f1buf.__all__
    assert name in dir(f1buf)
    assert getattr(f1buf, name)


def test_every_name_in_all_is_there_and_others_are_not():
    assert all(hasattr(f1buf, name) for name in f1buf.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        f1buf.nonsense  # noqa: B018


def test_empty_and_full_are_the_standard_librarys():
    import queue

    assert (f1buf.Empty, f1buf.Full) == (queue.Empty, queue.Full)
    assert f1buf.ShutDown is getattr(queue, "ShutDown", f1buf.ShutDown)


def test_importing_leaves_the_gil_off_on_free_threaded_builds():
    import sys
    import sysconfig

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this interpreter always has a GIL")
    assert sys.version_info >= (3, 13)
    run_python("import sys; from f1buf import RingBuffer; assert not sys._is_gil_enabled()")


# Memory ---------------------------------------------------------------------------------------------------------------


def allocated_at_most(call, *args):
    """Bytes while the call runs, and what a look at them takes by itself; it is called four times."""

    def allocated():
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call(*args)
        return tracemalloc.get_traced_memory()[1] - before

    gc.collect()
    tracemalloc.start()
    try:
        call(*args)  # the first one makes what the interpreter keeps for later calls
        return min(allocated() for _ in range(3))  # amid one another thread, of pytest-xdist, may allocate, too
    finally:
        tracemalloc.stop()


@pytest.mark.threads_only(reason="shared memory is not Python's")
@pytest.mark.parametrize("capacity", [1, 1000, 65_536])
def test_a_ring_takes_its_records_and_4_kib_at_most(capacity):
    size = capacity * READING.itemsize
    assert size <= allocated_at_most(RingBuffer, capacity, READING) <= size + 4096


def test_a_ring_that_is_freed_gives_its_memory_back():
    def make():
        RingBuffer(1000, READING).put((0.0, 1, 2, 3, 4.0))

    make()
    gc.collect()
    tracemalloc.start()
    try:
        make()
        left = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            make()
        assert tracemalloc.get_traced_memory()[0] - left < 100 * READING.itemsize
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [1, 16, 200])
def test_arrays_go_in_and_out_without_an_allocation(count):
    """Beside the number that each returns, which for up to 256 records exists already."""
    ring, records = RingBuffer(1000, READING), np.zeros(count, READING)
    nothing = allocated_at_most(len, records)
    assert allocated_at_most(ring.put_many, records) == nothing
    assert ring.qsize() == 4 * count
    assert allocated_at_most(ring.get_into, records) == nothing
    assert ring.empty()


# Any sequence of calls against a plain model --------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """A ring beside a deque of (sequence number, record): every method, small capacities, all policies."""

    @initialize(capacity=st.integers(1, 5), overflow=st.sampled_from(POLICIES))
    def create(self, capacity, overflow):
        self.ring = RingBuffer(capacity, "i8", overflow=overflow)
        self.there = deque()
        self.next_record = self.entered = self.taken = self.dropped = self.discarded = self.high_water = 0
        self.closed = False

    def enter(self, records):
        """How many of the records the model accepts."""
        for accepted, record in enumerate(records):
            if len(self.there) == self.ring.capacity:
                if self.ring.overflow == "block":
                    return accepted
                self.dropped += 1
                if self.ring.overflow == "drop_newest":
                    continue
                self.there.popleft()
            self.there.append((self.entered, record))
            self.entered += 1
            self.high_water = max(self.high_water, len(self.there))
        return len(records)

    def leave(self, count):
        """What the model's get takes: (the first number, the records), or which exception it raises."""
        if not self.there:
            return ShutDown if self.closed else Empty
        pairs = [self.there.popleft() for _ in range(min(count, len(self.there)))]
        self.taken += len(pairs)
        return pairs[0][0], [record for _, record in pairs]

    def fresh(self, count):
        self.next_record += count
        return list(range(self.next_record - count, self.next_record))

    def attempt(self, call, *args, **kwargs):
        try:
            return call(*args, **kwargs)
        except (Empty, Full, ShutDown) as error:
            return type(error)

    @rule(way=st.sampled_from(["put_nowait", "put"]))
    def put(self, way):
        (record,) = self.fresh(1)
        got = self.attempt(getattr(self.ring, way), record, **({"timeout": 0} if way == "put" else {}))
        assert got is (ShutDown if self.closed else None if self.enter([record]) else Full)

    @rule(count=st.integers(0, 12), how=st.sampled_from([{"block": False}, {"timeout": 0}]), as_array=st.booleans())
    def put_many(self, count, how, as_array):
        records = self.fresh(count)
        got = self.attempt(self.ring.put_many, np.array(records, "i8") if as_array else records, **how)
        if count and self.closed:
            assert got is ShutDown
        else:
            assert got == (self.enter(records) or (Full if count else 0))

    @rule(way=st.sampled_from(["get_nowait", "get"]))
    def get(self, way):
        got = self.attempt(getattr(self.ring, way), **({"timeout": 0} if way == "get" else {}))
        expected = self.leave(1)
        assert got == (expected[1][0] if isinstance(expected, tuple) else expected)

    @rule(
        max_count=st.none() | st.integers(1, 8),
        min_count=st.integers(1, 5),
        how=st.sampled_from(["get", "into", "batches"]),
    )
    def take_many(self, max_count, min_count, how):
        most = self.ring.capacity if max_count is None else max_count
        min_count = min(min_count, most, self.ring.capacity)
        expected = self.leave(most)
        if how == "get":
            got = self.attempt(self.ring.get_many, max_count, min_count=min_count, block=False, return_seq=True)
            assert expected == ((got[0], got[1].tolist()) if isinstance(got, tuple) else got)
        elif how == "into":
            out = np.zeros(most, "i8")
            got = self.attempt(self.ring.get_into, out, min_count=min_count, timeout=0, return_seq=True)
            assert expected == ((got[0], out[: got[1]].tolist()) if isinstance(got, tuple) else got)
        else:
            got = next(self.ring.batches(max_count, min_count=min_count, timeout=0), None)
            wanted = {ShutDown: None, Empty: []}.get(expected) if isinstance(expected, type) else expected[1]
            assert wanted == (None if got is None else got.tolist())

    @rule(max_count=st.integers(0, 6))
    def snapshot(self, max_count):
        there = [record for _, record in self.there]
        assert self.ring.snapshot(max_count).tolist() == there[max(0, len(there) - max_count) :]

    @precondition(lambda self: self.next_record > 20)
    @rule(immediate=st.booleans())
    def shutdown(self, immediate):
        self.ring.shutdown(immediate)
        self.closed = True
        if immediate:
            self.discarded += len(self.there)
            self.there.clear()

    @invariant()
    def they_agree(self):
        ring, there = self.ring, [record for _, record in self.there]
        assert contents(ring) == there
        assert (ring.qsize(), len(ring)) == (len(there), len(there))
        assert (ring.empty(), ring.full(), ring.is_shutdown) == (not there, len(there) == ring.capacity, self.closed)
        refused = self.dropped if ring.overflow == "drop_newest" else 0
        counts = (self.entered + refused, self.taken, self.dropped, self.discarded, 0, 0, 0.0, 0.0, self.high_water)
        assert tuple(ring.stats()) == counts
        check_balance(ring)


def test_any_sequence_of_calls_agrees_with_the_model():
    """Sentences 1, 3, 4 and 6, and the whole table."""
    run_state_machine_as_test(Model, settings=settings(max_examples=examples(60), stateful_step_count=40))


@pytest.mark.parametrize("where", ["timeout", "min_count"])
@forked
def test_an_array_that_its_arguments_change_is_not_written_beyond(where):
    """What an argument's conversion runs comes before the look at the array."""
    ring, out = RingBuffer(128, "i8"), np.zeros(128, "i8")
    ring.put_many(np.arange(128))

    class Argument:
        def __float__(self):
            # Another dtype and less memory: what assigning `out.dtype` did before numpy 2.5 deprecated it.
            out.__setstate__((1, (16,), np.dtype("i1"), False, bytes(16)))
            return 1.0

        def __index__(self):
            self.__float__()
            return 1

    with pytest.raises(TypeError, match="int8"):
        ring.get_into(out, **{where: Argument()})
    assert ring.qsize() == 128
