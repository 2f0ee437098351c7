"""Whatever is given to a ring: what goes in comes out, bit for bit or by numpy's cast, or nothing has changed.

Property-based, at the ring's surface: dtypes, arrays of any strides, sizes, and things of a wrong type. The conversions
by themselves are tested in test_convert.py.
"""

import collections
import contextlib
import functools
import warnings

import numpy as np
import pytest
from helpers import contents, examples, ring_with, unchanged
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_convert import SOME, dtypes, leaves

from f1buf import Empty, Full, RingBuffer

OFTEN = settings(SOME, max_examples=examples(60))
any_dtype = dtypes | st.sampled_from(
    [np.dtype("S5000"), np.dtype("S70000")]
)  # larger than what is copied under the lock


def same_bits(ours, theirs):
    """Whether two arrays hold the same bits in every leaf; padding is not looked at."""
    if ours.dtype.names is None:
        return ours.shape == theirs.shape and ours.tobytes() == theirs.astype(ours.dtype).tobytes()
    return all(same_bits(ours[name], theirs[name]) for name in ours.dtype.names)


# Arrays of equal records that lie in memory in every way.
def repeated(array):
    return np.repeat(array, 2)[::2]


def backwards(array):
    return array[::-1].copy()[::-1]


def column(array):
    return np.repeat(array[:, np.newaxis], 3, axis=1)[:, 1]


def row_of_fortrans(array):
    return np.asfortranarray(np.repeat(array[np.newaxis], 3, axis=0))[1]


def unaligned(array):
    return np.frombuffer(b"x" + array.tobytes(), array.dtype, len(array), 1) if len(array) else array


def field(array):
    wider = np.zeros(len(array), [("pad", "u1"), ("it", array.dtype), ("more", "u1")])
    wider["it"] = array
    return wider["it"]


def other_order(array):
    return array.astype(array.dtype.newbyteorder())


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


LAYOUTS = {
    "as it is": lambda array: array,
    "repeated": repeated,
    "backwards": backwards,
    "column": column,
    "row of fortran's": row_of_fortrans,
    "unaligned": unaligned,
    "field": field,
    "other byte order": other_order,
    "read-only": read_only,
    "subclass": lambda array: array.view(Subclass),
    "list": list,
    "deque": collections.deque,
}


@st.composite
def arrays(draw, dtype, size=None):
    """Records, and the same in some other layout."""
    array = draw(hnp.arrays(dtype, st.integers(0, 9) if size is None else size))
    return array, LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)


# What goes in comes out -----------------------------------------------------------------------------------------------


def put_one_by_one(ring, given):
    for each in given:
        ring.put(each, block=False)
    return len(given)


def put_as_many(ring, given):
    return ring.put_many(given, block=False)


def get_one_by_one(ring):
    taken = np.zeros(len(ring), ring.dtype)
    for i in range(len(taken)):
        taken[i] = ring.get(block=False)
    return taken


def get_into_memory(ring):
    out = np.zeros(len(ring) + 2, ring.dtype)
    return out[: ring.get_into(out, block=False)]


def get_as_many(ring):
    return ring.get_many(block=False)


def get_batches(ring):
    taken, batches = np.zeros(len(ring), ring.dtype), ring.batches(1)
    for i in range(len(taken)):
        taken[i : i + 1] = next(batches)
    return taken


GETS = (get_one_by_one, get_into_memory, get_as_many, get_batches)


@OFTEN
@given(st.data())
def test_records_in_any_layout_come_out_bit_for_bit(data):
    dtype = data.draw(any_dtype)
    records, given_records = data.draw(arrays(dtype))
    capacity = len(records) + data.draw(st.integers(1, 3))
    ring = RingBuffer(capacity, dtype)
    around = data.draw(st.integers(0, capacity - 1))  # where the first of them will lie
    if around:
        ring.put_many(np.zeros(around, dtype))
        ring.get_many()
    put = data.draw(st.sampled_from([put_as_many, put_one_by_one]))
    assert put(ring, given_records) == len(records) == len(ring)
    assert same_bits(ring.snapshot(), records)
    if len(records):
        taken = data.draw(st.sampled_from(GETS))(ring)
        assert same_bits(taken, records)
        assert taken.dtype == dtype
    assert ring.empty()
    ring._check()


KIN = {
    "b": ["?"],
    "i": ["i1", ">i2", "i4", "i8", "u1", "u4", "?", "f4"],
    "u": ["u1", ">u2", "u4", "u8", "i1", "i8", "?", "f8"],
    "f": ["f2", ">f4", "f8", "g", "i4", "u8", "c8"],
    "c": ["c8", ">c16", "f8", "i2"],
    "U": ["U1", ">U3", "U9", "S3"],
    "S": ["S1", "S3", "S9", "U2"],
    "V": ["V3"],
    "M": ["M8[Y]", "M8[D]", ">M8[h]", "M8[s]", "M8[us]", "i8"],
    "m": ["m8[W]", "m8[D]", ">m8[s]", "m8[3ms]", "m8[ns]", "i4"],
}


@st.composite
def relatives(draw, dtype):
    """The same fields, each of a dtype that numpy casts to ours, or nearly so."""
    if dtype.names is not None:
        return np.dtype([(name, draw(relatives(dtype[name]))) for name in dtype.names])
    if dtype.subdtype is not None:
        return np.dtype((draw(relatives(dtype.base)), dtype.shape))
    return np.dtype(draw(st.sampled_from(KIN[dtype.kind]) | st.just(dtype)))


def cast(array, dtype):
    """By numpy's same_kind rule, field by field; TypeError where that forbids it.

    OverflowError where numpy cannot do it, since between two units of time there is a factor of more than an int64.
    """
    if dtype.names is None:
        with np.errstate(all="ignore"):
            return array.astype(dtype.base, casting="same_kind")
    assert array.dtype.names == dtype.names
    out = np.zeros(array.shape, dtype)
    for name in dtype.names:
        out[name] = cast(array[name], dtype[name])
    return out


@OFTEN
@given(st.data())
def test_arrays_of_another_dtype_come_out_as_numpy_casts_them_or_nothing_has_changed(data):
    dtype = data.draw(dtypes)
    theirs = data.draw(relatives(dtype) | dtypes)
    records, given_records = data.draw(arrays(theirs).filter(lambda both: isinstance(both[1], np.ndarray)))
    ring = ring_of(dtype, 1, capacity=10)
    accepted = attempt(ring, lambda: ring.put_many(given_records, block=False))
    if accepted is not None:
        assert accepted == len(records) == len(ring) - 1
        with contextlib.suppress(OverflowError):
            assert same_bits(ring.snapshot(accepted), cast(records, dtype))
        ring._check()


# Things of a wrong type, and numbers out of range ---------------------------------------------------------------------


def ring_of(dtype, count, capacity):
    ring = RingBuffer(capacity, dtype)
    ring.put_many(np.ones(count, dtype) if dtype.kind not in "VM" else np.zeros(count, dtype))
    return ring


def attempt(ring, call, *expected):
    """What a call returns; None where it raises what it should for what it cannot use, and has changed nothing."""
    as_it_was = unchanged(ring)
    as_it_was.__enter__()
    try:
        return call()
    except (TypeError, ValueError, *expected):
        as_it_was.__exit__(None, None, None)
        return None


class Odd:
    """Has the methods of an array, a number and a sequence, and none of them is of use."""

    def __init__(self, error):
        self.error = error

    def _raise(self, *args, **kwargs):
        raise self.error("odd")

    __array__ = __len__ = __getitem__ = __index__ = __float__ = __bool__ = __repr__ = _raise


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.decimals()
    | st.fractions()
    | st.datetimes()
    | st.timedeltas()
    | st.sampled_from(
        [object(), object, Ellipsis, np.float64("nan"), np.datetime64("NaT", "s"), np.void(b"abc"), np.ma.masked]
    )
    | st.builds(Odd, st.sampled_from([TypeError, ValueError]))
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
objects = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
many_arrays = hnp.arrays(leaves, shapes) | hnp.arrays("O", shapes, elements=objects)
things = st.recursive(
    scalars | many_arrays | many_arrays.map(np.ma.masked_array),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(iter)
        | st.lists(inner, max_size=4).map(collections.deque)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)


@OFTEN
@given(st.data(), things)
def test_anything_that_is_put_is_accepted_whole_or_nothing_has_changed(data, thing):
    ring = ring_of(data.draw(dtypes), 2, capacity=12)
    before = ring.snapshot().tobytes()
    if data.draw(st.booleans()):
        accepted = attempt(ring, lambda: ring.put(thing, block=False) or 1)
    else:
        accepted = attempt(ring, lambda: ring.put_many(thing, block=False))
    assert len(ring) == 2 + (accepted or 0)
    assert ring.stats().offered == 2 + (accepted or 0)
    assert ring.snapshot()[:2].tobytes() == before
    ring._check()


GUARD = 64  # bytes around what may be written to


class Liar(np.ndarray):
    """Says of itself what a ring would like to hear."""

    dtype = property(lambda self: np.dtype("i8"))
    ndim = property(lambda self: 1)
    shape = property(lambda self: (5,))
    flags = property(lambda self: np.zeros(1).flags)


class Impostor:
    """Says that it is an array, and is none."""

    __class__ = np.ndarray
    dtype, ndim, shape, flags = np.dtype("i8"), 1, (5,), np.zeros(1).flags

    def __array__(self, dtype=None, copy=None):
        return np.zeros(5, "i8")

    def __len__(self):
        return 5


@OFTEN
@given(st.data())
def test_only_an_array_that_fits_is_written_to_and_nothing_around_it(data):
    dtype = data.draw(dtypes)
    ring = ring_of(dtype, 5, capacity=6)
    expected = ring.snapshot()
    theirs = data.draw(st.just(dtype) | relatives(dtype) | leaves)
    room = data.draw(st.integers(0, 7))
    memory = np.full(2 * GUARD + room * theirs.itemsize, 0xA5, "u1")
    out = memory[GUARD : len(memory) - GUARD].view(theirs)
    shape = data.draw(
        st.sampled_from(["plain", "every second", "backwards", "read-only", "square", "subclass", "liar"])
    )
    if shape == "every second":
        out = out[::2]
    elif shape == "backwards":
        out = out[::-1]
    elif shape == "square":
        out = out.reshape(1, -1)
    elif shape == "read-only":
        out.flags.writeable = False
    elif shape in ("subclass", "liar"):
        out = out.view(Subclass if shape == "subclass" else Liar)
    truth = np.asarray(out)
    fits = (
        truth.dtype == dtype and truth.ndim == 1 and truth.flags.c_contiguous and truth.flags.writeable and len(truth)
    )
    taken = attempt(ring, lambda: ring.get_into(out, block=False))
    assert (taken is not None) == bool(fits)
    whole = memory.copy()
    if fits:
        assert taken == min(5, len(truth))
        assert truth[:taken].tobytes() == expected[:taken].tobytes()
        start = truth.ctypes.data - memory.ctypes.data
        whole[start : start + taken * dtype.itemsize] = 0xA5
        assert ring.snapshot().tobytes() == expected[taken:].tobytes()
    assert (whole == 0xA5).all()


@OFTEN
@given(things | st.builds(Impostor))
def test_only_arrays_are_written_to(thing):
    ring = ring_with(1, 2, 3)
    taken = attempt(ring, lambda: ring.get_into(thing, block=False))
    assert taken is None or (isinstance(thing, np.ndarray) and thing.dtype == ring.dtype)
    assert contents(ring) == [1, 2, 3][taken or 0 :]


counts = things | st.integers(-2, 6) | st.integers(2**62, 2**65) | st.integers(0, 6).map(np.int64)


@OFTEN
@given(most=counts, least=counts)
def test_any_counts_take_what_they_say_or_nothing(most, least):
    calls = {
        "get_many": lambda ring: ring.get_many(most, min_count=least, block=False),
        "batches": lambda ring: next(ring.batches(most, min_count=least, timeout=0)),
        "snapshot": lambda ring: ring.snapshot(most),
    }
    for name, call in calls.items():
        ring = ring_with(1, 2, 3, capacity=4)
        taken = attempt(ring, functools.partial(call, ring), Empty)
        if taken is not None:
            oldest = 3 - len(taken) if name == "snapshot" else 0
            assert len(taken) == (3 if most is None else min(3, int(most)))
            assert taken.tolist() == [1, 2, 3][oldest : oldest + len(taken)]
            assert contents(ring) == [1, 2, 3][0 if name == "snapshot" else len(taken) :]


@OFTEN
@given(timeout=things, block=things)
def test_any_timeout_is_a_number_of_seconds_or_refused(timeout, block):
    ring = ring_with(1, capacity=2)
    accepted = attempt(ring, lambda: ring.put(2, timeout=timeout) or 1)
    assert (accepted is not None) == (timeout is None or seconds(timeout) >= 0)
    if accepted:
        assert contents(ring) == [1, 2]
    first = attempt(ring, lambda: ring.get(block, timeout))
    assert first in (None, 1)


def seconds(timeout):
    """Below 0 for what is no number of seconds."""
    if isinstance(timeout, (str, bytes)):  # which float() reads
        return -1.0
    try:
        return float(timeout)
    except OverflowError:
        return timeout
    except (TypeError, ValueError, DeprecationWarning):
        return -1.0


DTYPE_TEXT = "fiubcSUVMmOa?123480<>=|,()[]sD: "


@OFTEN
@given(
    capacity=things | st.integers(1, 100),
    dtype=things | st.text(DTYPE_TEXT, max_size=8) | leaves,
    overflow=things | st.sampled_from(["block", "drop_oldest", "drop_newest"]),
)
def test_any_arguments_make_a_ring_or_the_right_error(capacity, dtype, overflow):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about ways to name a dtype
        try:
            ring = RingBuffer(capacity, dtype, overflow=overflow)
        except (TypeError, ValueError, MemoryError):
            return
    assert ring.capacity == capacity
    ring.put_many(np.zeros(1, ring.dtype))
    assert ring.get_many().tobytes() == bytes(ring.dtype.itemsize)
    ring._check()


# Any calls one after the other ----------------------------------------------------------------------------------------


class Model:
    """What a ring holds and counts, as a list."""

    def __init__(self, capacity, overflow):
        self.capacity, self.overflow = capacity, overflow
        self.records, self.offered, self.taken, self.dropped = [], 0, 0, 0

    def put(self, records):
        """How many are accepted."""
        room = self.capacity - len(self.records)
        n = min(len(records), room) if self.overflow == "block" else len(records)
        self.offered += n
        if self.overflow == "drop_newest":
            self.dropped += max(0, n - room)
            records = records[:room]
        self.records += records[:n]
        if self.overflow == "drop_oldest":
            over = max(0, len(self.records) - self.capacity)
            self.dropped += over
            del self.records[:over]
        return n

    def get(self, n):
        taken = self.records[:n]
        del self.records[:n]
        self.taken += len(taken)
        return taken


@OFTEN
@given(st.data())
def test_any_sequence_of_calls_leaves_what_a_list_would_hold(data):
    dtype = data.draw(any_dtype)
    overflow = data.draw(st.sampled_from(["block", "drop_oldest", "drop_newest"]))
    ring = RingBuffer(data.draw(st.integers(1, 6)), dtype, overflow=overflow)
    model = Model(ring.capacity, overflow)
    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["put", "put_many", "get", "get_many", "get_into"]))
        if action in ("put", "put_many"):
            size = st.just(1) if action == "put" else st.integers(0, 14)
            records = np.ascontiguousarray(data.draw(arrays(dtype, size))[0])
            accepted = model.put([records[i : i + 1].tobytes() for i in range(len(records))])
            put = functools.partial(getattr(ring, action), records if action == "put_many" else records[0], block=False)
            if accepted or not len(records):
                assert put() == (accepted if action == "put_many" else None)
            else:
                with unchanged(ring), pytest.raises(Full):
                    put()
        else:
            most = 1 if action == "get" else data.draw(st.integers(1, 7))
            expected = model.get(most)
            if not expected:
                with pytest.raises(Empty):
                    ring.get_many(most, block=False)
            elif action == "get":
                assert np.array([ring.get(False)], dtype).tobytes() == expected[0]
            elif action == "get_many":
                assert ring.get_many(most, block=False).tobytes() == b"".join(expected)
            else:
                out = np.zeros(most, dtype)
                assert ring.get_into(out, block=False) == len(expected)
                assert out.tobytes() == b"".join(expected) + bytes((most - len(expected)) * dtype.itemsize)
        assert ring.snapshot().tobytes() == b"".join(model.records)
        stats = ring.stats()
        assert (stats.offered, stats.taken, stats.dropped) == (model.offered, model.taken, model.dropped)
        ring._check()
