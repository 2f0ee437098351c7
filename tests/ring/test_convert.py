"""The slow path of conversions: what is taken, what is refused and by which error, and that nothing is lost."""

import array
import collections
import ctypes
import datetime
import decimal
import enum
import fractions
import math
import re

import numpy as np
import pytest
from helpers import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from f1buf.ring.convert import check_dtype, to_record, to_records

NESTED = np.dtype([("reading", [("t", "f8"), ("ch", "u2", (4,)), ("name", "U3")]), ("id", "i1")])
FITS = ((1.5, [1, 2, 3, 4], "abc"), -5)
PAIR = np.dtype([("a", "i4"), ("b", "f4")])
NAT = -(2**63)


def record(value, dtype):
    """One record by `put`'s way, checked for what every result promises."""
    dtype = np.dtype(dtype)
    result = to_record(value, dtype)
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype) == ((1,), dtype)
    assert result.flags.owndata
    assert result.flags.c_contiguous
    return result


def records(values, dtype):
    """Many records by `put_many`'s way, checked for what every result promises."""
    dtype = np.dtype(dtype)
    result = to_records(values, dtype)
    assert type(result) is np.ndarray
    assert result.ndim == 1
    assert result.dtype == dtype
    assert result.dtype.type is dtype.type
    assert result.flags.c_contiguous
    return result


def attempt(convert, values, dtype):
    """The result and None, or None and a TypeError or ValueError."""
    try:
        return convert(values, dtype), None
    except (TypeError, ValueError) as error:
        return None, error


def refused(error, values, dtype, *words, convert=to_records):
    """Check that `values` are refused, by a message with all the `words`."""
    with pytest.raises(error) as caught:
        convert(values, np.dtype(dtype))
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


def times(counts, dtype):
    """Times by their counts, without the warning of numpy 2.5 for those that have no unit."""
    return np.array(counts, "i8").view(dtype)


def same(ours, theirs):
    """Whether two arrays hold the same values in every leaf, NaN and NaT included; padding is not looked at."""
    assert ours.shape == theirs.shape
    if ours.dtype.names is not None:
        return all(same(ours[name], theirs[name]) for name in ours.dtype.names)
    if ours.dtype.kind == "V":
        return ours.tobytes() == theirs.tobytes()
    return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fcmM")


# ---------------------------------------------------------------------------------------------------------------------
# check_dtype
# ---------------------------------------------------------------------------------------------------------------------

UNION = np.dtype({"names": ["a", "b"], "formats": ["i4", "f4"], "offsets": [0, 0]})


@pytest.mark.parametrize(
    "dtype",
    [
        "f8",
        ">u2",
        "?",
        "g",
        "G",
        "e",
        "M8[25s]",
        "m8",
        "U3",
        "S3",
        "V3",
        PAIR,
        NESTED,
        [("a", "U0"), ("b", "i1")],
        UNION,
    ],
    ids=str,
)
def test_dtypes_without_objects_are_taken(dtype):
    assert check_dtype(dtype) == np.dtype(dtype)
    assert isinstance(check_dtype(dtype), np.dtype)


@pytest.mark.parametrize("dtype", ["O", [("a", "O")], [("a", [("b", "i4"), ("c", "O", (2,))])], object, dict], ids=str)
def test_dtypes_with_objects_are_a_type_error(dtype):
    with pytest.raises(TypeError, match=r"holds Python objects; expected fixed-size values only; give"):
        check_dtype(dtype)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 has it")
def test_strings_of_variable_width_are_objects():
    with pytest.raises(TypeError, match="StringDType"):
        check_dtype(np.dtypes.StringDType())


@pytest.mark.parametrize("dtype", ["U", "U0", "S0", "V0", [], [("a", "U0")], [("a", "f4", (0,))]], ids=str)
def test_records_without_size_are_a_value_error(dtype):
    with pytest.raises(ValueError, match=r"has no size; expected records of at least 1 byte"):
        check_dtype(dtype)


def test_sub_array_needs_a_field():
    with pytest.raises(ValueError, match=re.escape("[('data', 'float32', (3,))]")):
        check_dtype(("f4", (3,)))


def test_a_string_that_is_no_syntax_is_no_dtype():
    with pytest.raises(TypeError, match=r"dtype '01': expected a numpy dtype"):
        check_dtype("01")


def test_none_is_no_dtype():
    with pytest.raises(TypeError, match="None"):
        check_dtype(None)


@pytest.mark.parametrize("dtype", ["<m8", ">m8", "<M8", ">M8", [("a", ">m8"), ("b", ">M8[s]")]], ids=str)
def test_arrays_can_be_made_of_a_checked_dtype(dtype):
    checked = check_dtype(dtype)
    assert np.empty(0, checked).dtype == checked
    source = times([NAT, NAT] if checked.names is None else [(1, 2), (NAT, NAT)], "i8").view(checked)
    source = source.reshape(-1)
    assert same(records(source, checked), source)


def test_what_numpy_does_not_know_is_a_type_error():
    with pytest.raises(TypeError, match="nonsense"):
        check_dtype("nonsense")


# ---------------------------------------------------------------------------------------------------------------------
# One record
# ---------------------------------------------------------------------------------------------------------------------


def test_record_from_tuple():
    result = record(FITS, NESTED)
    assert result["id"] == -5
    assert result["reading"]["t"] == 1.5
    assert result["reading"]["ch"].tolist() == [[1, 2, 3, 4]]
    assert result["reading"]["name"] == "abc"


Point = collections.namedtuple("Point", "a b")


@pytest.mark.parametrize(
    "value",
    [
        (1, 2.5),
        Point(1, 2.5),
        np.array((1, 2.5), PAIR),
        np.array([(1, 2.5)], PAIR)[0],
        np.array([(1, 2.5)], PAIR).view(np.recarray)[0],
        np.array([(1, 2.5)], [("a", ">i8"), ("b", "f8")])[0],
        np.array((1, 2.5), [("a", "i2"), ("b", "f2")]),
        (np.array(1), np.float16(2.5)),
        (np.uint64(1), decimal.Decimal("2.5")),
    ],
    ids=[
        "tuple",
        "namedtuple",
        "0-d array",
        "void",
        "np.record",
        "void of wider fields",
        "0-d of others",
        "0-d",
        "mixed",
    ],
)
def test_record_of_every_kind(value):
    assert same(record(value, PAIR), np.array([(1, 2.5)], PAIR))
    assert same(records([value, (1, 2.5), value], PAIR), np.array([(1, 2.5)] * 3, PAIR))


@pytest.mark.parametrize("dtype", ["f8", "i2", "?", "c8", "U3", "S3", "V3", "M8[s]", "m8[ms]"])
def test_record_from_the_scalar_of_the_dtype(dtype):
    value = np.ones(1, dtype)[0] if dtype != "V3" else np.void(b"a\0\0")
    assert same(record(value, dtype), np.array([value], dtype))
    assert same(records([value, value], dtype), np.array([value, value], dtype))


def test_record_does_not_share_the_callers_memory():
    source = np.ones((), PAIR)
    result = record(source, PAIR)
    source["a"] = 7
    assert result["a"] == 1


def test_record_of_a_nested_numpy_record():
    inner = np.array([FITS], NESTED)["reading"][0]
    assert same(record((inner, -5), NESTED), np.array([FITS], NESTED))
    refused(TypeError, (np.zeros(1, PAIR)[0], 5), NESTED, "field 'reading'", "('a', 'b')", convert=to_record)


def test_overlapping_fields_need_the_exact_dtype():
    source = np.array([1, 2], "i4").view(UNION)
    assert record(source[1], UNION)["a"] == 2
    assert list(records(source[::-1], UNION)["a"]) == [2, 1]
    assert list(records(list(source), UNION)["a"]) == [1, 2]
    refused(TypeError, (1, 2.5), UNION, "overlap", "exactly this dtype", convert=to_record)
    refused(TypeError, np.zeros(2, PAIR), UNION, "overlap")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ((1,), ValueError, ["a tuple of shape (1,)", "expected shape (2,)", "('a', 'b')"]),
        ((1, 2, 3), ValueError, ["a tuple of shape (3,)", "expected shape (2,)"]),
        ((), ValueError, ["shape (0,)", "shape (2,)"]),
        ([1, 2.5], TypeError, ["[1, 2.5] (list)", "('a', 'b')", "make it a tuple"]),
        (None, TypeError, ["None"]),
        (1, TypeError, ["1 (int)"]),
        ("ab", TypeError, ["'ab' (str)"]),
        ({"a": 1, "b": 2}, TypeError, ["dict"]),
        (np.zeros(1, PAIR), ValueError, ["(1,)", "expected shape ()", "put_many"]),
        (np.zeros((), [("a", "i4"), ("c", "f4")]), TypeError, ["without ['b'] and with ['c']"]),
        (np.zeros((), [("b", "f4"), ("a", "i4")]), TypeError, ["in another order"]),
        (np.void(b"12345678"), TypeError, ["void"]),
        ((None, 1.0), TypeError, ["field 'a'", "None (NoneType)"]),
        ((1, "2"), TypeError, ["field 'b'", "'2' (str)"]),
        (((1,), 2.0), ValueError, ["field 'a'", "shape (1,)", "shape ()"]),
        ((np.ones(2, int), 2.0), ValueError, ["field 'a'", "shape (2,)", "shape ()"]),
    ],
    ids=str,
)
def test_a_value_that_is_no_record_is_refused(value, error, words):
    refused(error, value, PAIR, *words, convert=to_record)


# ---------------------------------------------------------------------------------------------------------------------
# Many records: which inputs there are
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        (1, 2, 3),
        collections.deque([1, 2, 3]),
        range(1, 4),
        [np.int64(1), 2, np.array(3)],
        array.array("B", [1, 2, 3]),
        bytearray(b"\1\2\3"),
        memoryview(b"\1\2\3"),
        (ctypes.c_uint8 * 3)(1, 2, 3),
        np.array([1, 2, 3], "u8"),
        np.array([3, 2, 1], "u4")[::-1],
        np.array([1, 2, 3], object),
        np.array([[1, 2, 3]] * 2, "u1", order="F")[0],
    ],
    ids=lambda values: type(values).__name__,
)
def test_array_likes(values):
    assert records(values, "u1").tolist() == [1, 2, 3]


class OffersArray:
    def __array__(self, dtype=None, copy=None):
        return np.array([1, 2], "u2")


class OffersInterface:
    def __init__(self):
        self.held = np.array([1, 2], "u2")

    @property
    def __array_interface__(self):
        return self.held.__array_interface__


class Rows:
    """A sequence by its methods only."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return [1, 2][index]


@pytest.mark.parametrize("kind", [OffersArray, OffersInterface, Rows])
def test_third_party_array_likes(kind):
    assert records(kind(), "u4").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([], "f8"),
        ((), "f8"),
        ([], PAIR),
        ((), PAIR),
        (collections.deque(), NESTED),
        (np.zeros(0, PAIR), PAIR),
        (range(0), "U3"),
    ],
    ids=str,
)
def test_empty(values, dtype):
    assert len(records(values, dtype)) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (iter([1]), ["list_iterator", "list()"]),
        ((i for i in [1]), ["generator", "list()"]),
        ({1, 2}, ["set", "list()"]),
        ({1: 2}, ["dict"]),
        (None, ["None"]),
        (datetime.date(2020, 1, 1), ["date"]),
        (5, ["use put for one record"]),
        (5.0, ["use put for one record"]),
        ("abc", ["use put for one record"]),
        (b"abc", ["use put for one record"]),
        (np.float64(5), ["use put for one record"]),
        (np.zeros(1, PAIR)[0], ["use put for one record"]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_values_that_are_no_sequence_of_records_are_refused(values, words):
    refused(TypeError, values, "f8", *words)


@pytest.mark.parametrize(
    "values",
    [(1, 2.5), Point(1, 2.5), np.zeros((), PAIR), np.zeros(1, PAIR)[0]],
    ids=lambda values: type(values).__name__,
)
def test_one_record_is_for_put(values):
    with pytest.raises((TypeError, ValueError), match="use put for one record"):
        to_records(values, PAIR)


def test_tuple_of_records_is_many():
    assert same(records(((1, 2.5), (3, 4.5)), PAIR), np.array([(1, 2.5), (3, 4.5)], PAIR))


@pytest.mark.parametrize("values", [np.zeros((3, 2)), np.zeros((0, 3))], ids=["2-d", "empty"])
def test_arrays_have_one_dimension(values):
    refused(ValueError, values, "f8", str(values.shape), "(n,)")


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], [(1, 2)], [np.array([1, 2])]], ids=["lists", "tuples", "arrays"])
def test_nested_sequences_are_no_scalars(values):
    refused(ValueError, values, "f8", "record 0", "shape (2,)", "shape ()")


def test_masks_are_refused():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    refused(TypeError, masked, "f8", "the records: a masked array", "filled()")
    refused(TypeError, [1.0, np.ma.masked], "f8", "record 1: a masked array")
    refused(TypeError, [([1.0, 2.0],), (masked,)], [("x", "f8", (2,))], "record 1, field 'x[...]'", "mask")
    refused(TypeError, np.ma.masked, "f8", "mask", convert=to_record)


def test_a_list_that_holds_itself_is_refused():
    endless = [1]
    endless.append(endless)
    refused(ValueError, endless, "f8", "record 1")


# ---------------------------------------------------------------------------------------------------------------------
# What is copied, and what is not
# ---------------------------------------------------------------------------------------------------------------------


def unaligned(values):
    raw = np.zeros(values.nbytes + 1, "u1")
    result = raw[1:].view(values.dtype)
    result[...] = values
    return result


def read_only(values):
    result = values.copy()
    result.flags.writeable = False
    return result


@pytest.mark.parametrize("change", [np.array, read_only, unaligned, lambda a: a.view(np.recarray)])
def test_contiguous_arrays_of_the_dtype_are_not_copied(change):
    source = change(np.array([(1, 2.5), (3, 4.5)], PAIR))
    result = records(source, PAIR)
    assert np.shares_memory(result, source)
    assert same(result, np.asarray(source))


def test_exact_array_is_returned_itself():
    source = np.zeros(3, PAIR)
    assert to_records(source, PAIR) is source


def test_memmap_is_not_copied(tmp_path):
    source = np.memmap(tmp_path / "records", PAIR, "w+", shape=3)
    source["a"] = [1, 2, 3]
    result = records(source, PAIR)
    assert np.shares_memory(result, source)
    assert result["a"].tolist() == [1, 2, 3]


STRIDED = {
    "every other": lambda a: np.repeat(a, 2)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "column": lambda a: np.asfortranarray(np.stack([a, a]))[1],
    "one repeated": lambda a: np.broadcast_to(a[:1], (3,)),
    "read-only": lambda a: read_only(np.repeat(a, 2))[::2],
    "unaligned": lambda a: unaligned(np.repeat(a, 2))[::2],
}


@pytest.mark.parametrize(
    "dtype", [PAIR, NESTED, "f8", "U3", "M8[s]", np.dtype([("a", "i1"), ("b", "f8")], align=True)], ids=str
)
@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED.keys())
def test_any_strides(view, dtype):
    source = view(np.zeros(4, dtype))
    assert same(records(source, dtype), np.asarray(source))
    assert same(records(source, np.dtype(dtype).newbyteorder()), np.asarray(source))


def test_caller_and_result_stay_apart_after_a_conversion():
    source = np.arange(3)
    before = source.copy()
    result = records(source, "i2")
    result[...] = 9
    assert np.array_equal(source, before)


def test_padding_carries_nothing():
    padded = np.dtype([("a", "i1"), ("b", [("c", "i2"), ("d", "f8")], (2,))], align=True)
    packed = np.dtype([("a", "i2"), ("b", [("c", "i4"), ("d", "f4")], (2,))])
    dirty = np.full(padded.itemsize * 8, 0xFF, "u1").view(padded)
    for values in (np.ones(4, packed), [(1, [(1, 1.0), (1, 1.0)])] * 4, list(np.ones(4, packed))):
        result = records(values, padded)
        clean = np.zeros(4, padded)
        clean["a"] = clean["b"]["c"] = clean["b"]["d"] = 1
        assert result.tobytes() == clean.tobytes()
    dirty["a"] = 1
    assert record((dirty["a"][0], [(1, 1.0), (1, 1.0)]), padded).tobytes() == clean[:1].tobytes()


# ---------------------------------------------------------------------------------------------------------------------
# Structured arrays: the same names in the same order, each leaf by its own rule
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "theirs",
    [
        [("a", ">i4"), ("b", ">f4")],
        [("a", "i2"), ("b", "f8")],
        [("a", "?"), ("b", "f2")],
        {"names": ["a", "b"], "formats": ["i4", "f4"], "offsets": [8, 2], "itemsize": 20},
        [(("title of a", "a"), "i4"), ("b", "f4")],
        np.dtype([("a", "i4"), ("b", "f4")], align=True),
    ],
    ids=["byte order", "other sizes", "bool and half", "offsets and padding", "titles", "aligned"],
)
def test_same_fields_in_another_layout(theirs):
    source = np.zeros(3, theirs)
    source["a"] = [0, 1, 1]
    source["b"] = [0.5, math.inf, -1]
    expected = np.array([(0, 0.5), (1, math.inf), (1, -1)], PAIR)
    assert same(records(source, PAIR), expected)
    assert same(records(source[::-1], PAIR), expected[::-1])
    assert same(record(source[1], PAIR), expected[1:2])


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ([("a", "i4")], ["without ['b']"]),
        ([("a", "i4"), ("b", "f4"), ("c", "f4")], ["with ['c']"]),
        ([("a", "i4"), ("c", "f4")], ["without ['b'] and with ['c']"]),
        ([("b", "f4"), ("a", "i4")], ["('b', 'a') in another order", "expected ('a', 'b')"]),
        ("f4", ["an array of float32", "('a', 'b')"]),
        ([("a", "f4"), ("b", "f4")], ["field 'a'", "an array of float32", "expected int32"]),
        ([("a", "u4", (1,)), ("b", "f4")], []),
    ],
    ids=str,
)
def test_other_fields_are_refused(theirs, words):
    error = ValueError if "(1,)" in str(theirs) else TypeError
    refused(error, np.zeros(2, theirs), PAIR, *words)


def test_structured_array_is_no_scalar():
    refused(TypeError, np.zeros(2, [("a", "f8")]), "f8", "an array of [('a', '<f8')]")


def test_value_in_a_nested_array_is_named():
    source = np.zeros(3, [("reading", [("t", "f8"), ("ch", "u8", (4,)), ("name", "U9")]), ("id", "i1")])
    assert same(records(source, NESTED), np.zeros(3, NESTED))
    source["reading"]["ch"][1, 3] = 70000
    refused(ValueError, source, NESTED, "record 1, field 'reading.ch[3]'", "70000", "from 0 to 65535 (uint16)")


def test_value_in_an_array_of_nested_sub_arrays_is_named():
    ours = np.dtype([("rows", [("x", "i1", (2,))], (2, 3))])
    source = np.zeros(4, [("rows", [("x", "i2", (2,))], (2, 3))])
    source["rows"]["x"][2, 1, 0, 1] = -129
    refused(ValueError, source, ours, "record 2, field 'rows[1][0].x[1]'", "-129", "from -128 to 127")
    refused(ValueError, list(source), ours, "record 2, field 'rows[1][0].x[1]'", "-129")
    refused(ValueError, source[2], ours, "field 'rows[1][0].x[1]'", convert=to_record)


def test_object_fields_are_columns_of_values():
    source = np.array([(1, 2.5), (3, 4)], "O,O")
    assert same(records(source, [("f0", "u4"), ("f1", "f4")]), np.array([(1, 2.5), (3, 4)], "u4,f4"))
    refused(TypeError, source, "u4,u4", "record 0, field 'f1'", "2.5 (float)")


# ---------------------------------------------------------------------------------------------------------------------
# Sub-arrays: exactly the field's shape
# ---------------------------------------------------------------------------------------------------------------------

GRID = np.dtype([("x", "f4", (2, 3))])
GRID_VALUES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    "value",
    [
        GRID_VALUES,
        tuple(map(tuple, GRID_VALUES)),
        np.array(GRID_VALUES),
        np.asfortranarray(GRID_VALUES),
        [np.array([1.0, 2, 3]), (4, 5, 6)],
    ],
    ids=["lists", "tuples", "array", "Fortran array", "mixed"],
)
def test_sub_array(value):
    assert record((value,), GRID)["x"].tolist() == [GRID_VALUES]
    assert records([(value,), (GRID_VALUES,)], GRID)["x"].tolist() == [GRID_VALUES] * 2


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (1.0, "()"),
        (None, "()"),
        ([1.0, 2.0, 3.0], "(3,)"),
        ([[1.0, 2.0], [3.0, 4.0]], "(2,)"),
        ([[1.0, 2.0, 3.0]], "(1, 3)"),
        (np.ones((3, 2)), "(3, 2)"),
        (np.ones((1, 3)), "(1, 3)"),
        (np.float64(1), "()"),
        ([1.0, 2.0], "()"),
    ],
    ids=str,
)
def test_sub_array_of_another_shape_is_refused(value, shape):
    refused(ValueError, (value,), GRID, "field 'x[", f"shape {shape}", "expected shape (", convert=to_record)


class Liar(list):
    """A list that is shorter than it says."""

    def __len__(self):
        return 2


def test_sub_array_goes_by_what_a_sequence_gives():
    for inner, value in (((2,), Liar([1.0])), ((2, 1), Liar([[1.0]])), ((1, 2), [Liar([1.0])])):
        refused(ValueError, (value,), [("x", "f4", inner)], "field 'x[", convert=to_record)


def test_sub_array_of_bytes_is_of_small_integers():
    assert record((b"\1\2\xff",), [("data", "u1", (3,))])["data"].tolist() == [[1, 2, 255]]
    refused(ValueError, (b"\1\2",), [("data", "u1", (3,))], "shape (2,)", "shape (3,)", convert=to_record)


def test_sub_array_from_an_array_goes_by_the_array_rule():
    dtype = np.dtype([("ch", "u2", (2,))])
    assert record(([1, 2],), dtype)["ch"].tolist() == [[1, 2]]
    assert record((np.array([1, 2], "u8"),), dtype)["ch"].tolist() == [[1, 2]]
    refused(TypeError, (np.array([1, 2], "i8"),), dtype, "field 'ch[...]'", "int64", "uint16", convert=to_record)


def test_sub_array_of_records():
    dtype = np.dtype([("rows", PAIR, (2,))])
    values = [(1, 2.5), np.array([(3, 4.5)], PAIR)[0]]
    assert same(record((values,), dtype)["rows"], np.array([[(1, 2.5), (3, 4.5)]], PAIR))
    refused(TypeError, ([(1, 2.5), (3.0, 4.5)],), dtype, "field 'rows[1].a'", "3.0 (float)", convert=to_record)


def test_leaves_without_size():
    dtype = np.dtype([("u", "U0"), ("s", "S0"), ("v", "V0"), ("z", "f4", (0,)), ("e", []), ("i", "i1")])
    assert record(("", b"", b"", [], (), 7), dtype)["i"] == 7
    refused(ValueError, ("x", b"", b"", [], (), 7), dtype, "field 'u'", convert=to_record)
    refused(ValueError, ("", b"", b"x", [], (), 7), dtype, "field 'v'", convert=to_record)
    refused(ValueError, ("", b"", b"", [1.0], (), 7), dtype, "field 'z", "(0,)", convert=to_record)


# ---------------------------------------------------------------------------------------------------------------------
# The array rule, leaf by leaf
# ---------------------------------------------------------------------------------------------------------------------


ARRAYS_TAKEN = [
    (np.array([-128, 127]), "i1", [-128, 127]),
    (np.array([0, 255], "u8"), "u1", [0, 255]),
    (np.array([0, 2**63 - 1], "u8"), "i8", [0, 2**63 - 1]),
    (np.array([True, False]), "u1", [1, 0]),
    (np.array([2**53 + 1]), "f8", [2.0**53]),
    (np.array([True]), "f4", [1.0]),
    (np.array([0.1, math.inf, -math.inf]), "f4", [np.float32(0.1), math.inf, -math.inf]),
    (np.array([1e-300]), "f4", [0.0]),
    (np.array([65504], "u8"), "f2", [65504.0]),
    (np.array([1.5]), "c8", [1.5 + 0j]),
    (np.array([complex(math.inf, 1)]), "c8", [complex(math.inf, 1)]),
    (np.array(["ab", "c"], "U9"), "U2", ["ab", "c"]),
    (np.array(["ab"], ">U2"), "U9", ["ab"]),
    (np.array([b"a\0b", b""], "S9"), "S3", [b"a\0b", b""]),
    (np.array(["2020", "NaT"], "M8[Y]"), "M8[D]", [datetime.date(2020, 1, 1), None]),
    (np.array(["2020-02"], "M8[M]"), "M8[s]", [datetime.datetime(2020, 2, 1)]),
    (times([3, NAT], "m8[10s]"), "m8[5s]", [datetime.timedelta(seconds=30), None]),
    (times([3, NAT], "m8"), "m8[s]", [datetime.timedelta(seconds=3), None]),
    (times([NAT], "M8"), "M8[ns]", [None]),
    (np.array(["NaT"], "M8[Y]"), "M8[as]", [None]),
    (np.array(["1969", "2024"], "M8[Y]"), "M8[M]", [datetime.date(1969, 1, 1), datetime.date(2024, 1, 1)]),
    (np.array(["1968-02"], "M8[M]"), "M8[6h]", [datetime.datetime(1968, 2, 1)]),
    (times([-9, 0], "m8[s]"), "m8[as]", [-9 * 10**18, 0]),  # numpy's own cast refuses the units
    (times([0], "m8[1000m]"), "m8[fs]", [0]),
    (np.array([3, 4], "u1"), "m8[s]", [datetime.timedelta(seconds=3), datetime.timedelta(seconds=4)]),
    (np.array([True, False]), "m8[s]", [datetime.timedelta(seconds=1), datetime.timedelta(0)]),
]


def case(value):
    return f"{value.dtype}" if isinstance(value, np.ndarray) else str(value)


@pytest.mark.parametrize(("source", "dtype", "expected"), ARRAYS_TAKEN, ids=case)
def test_arrays_that_are_taken(source, dtype, expected):
    before = source.tobytes()
    for order in "<>":
        assert records(source, np.dtype(dtype).newbyteorder(order)).tolist() == expected
        assert records(source.astype(source.dtype.newbyteorder(order)), dtype).tolist() == expected
    assert source.tobytes() == before


ARRAYS_TOO_LARGE = [
    (np.array([0, 128, 300]), "i1", ["record 1", "128", "from -128 to 127 (int8)", "wider"]),
    (np.array([0, -129]), "i1", ["record 1", "-129", "from -128 to 127"]),
    (np.array([2**63], "u8"), "i8", ["record 0", str(2**63), "int64"]),
    (np.array([1, 256], "u2"), "u1", ["record 1", "256", "from 0 to 255 (uint8)"]),
    (np.array([1.0, 1e300]), "f4", ["record 1", "1e+300", "float32", "scale"]),
    (np.array([1.0, -7e4], "f4"), "f2", ["record 1", "-70000", "float16"]),
    (np.array([70000], "i8"), "f2", ["record 0", "70000", "float16"]),
    (np.array([1e300j]), "c8", ["record 0", "1e+300j", "complex64"]),
    (np.array([complex(1e300, math.inf)]), "c8", ["record 0", "complex64"]),
    (np.array([1e300]), "c8", ["record 0", "complex64"]),
    (np.array(["abc", "abcd"]), "U3", ["record 1", "'abcd'", "at most 3 characters"]),
    (np.array([b"abc", b"abcd"]), "S3", ["record 1", "b'abcd'", "at most 3"]),
    (np.array(["2020", "2300"], "M8[Y]"), "M8[ns]", ["record 1", "2300", "datetime64[ns]"]),
    (np.array(["1600"], "M8[Y]"), "M8[ns]", ["record 0", "1600"]),
    (np.array(["NaT", "1971"], "M8[Y]"), "M8[as]", ["record 1", "1971", "datetime64[as]"]),
    (times([2**62], "M8[s]"), "M8[ms]", ["record 0", "datetime64[ms]"]),
    (times([0, 2**62], "m8[s]"), "m8[ms]", ["record 1", "timedelta64[ms]"]),
    (times([-(2**62)], "m8[2s]"), "m8[s]", ["record 0"]),  # it would be -2**63, which is NaT
    (times([0, 1], "m8[1000m]"), "m8[fs]", ["record 1"]),  # numpy's own cast wraps the factor
    (times([0, 10], "m8[s]"), "m8[as]", ["record 1"]),
    (times([2**62], "M8[Y]"), "M8[D]", ["record 0"]),
    (np.array([1, NAT]), "m8[s]", ["record 1", str(NAT)]),
    (np.array([2**63], "u8"), "m8[s]", ["record 0", str(2**63)]),
]


@pytest.mark.parametrize(("source", "dtype", "words"), ARRAYS_TOO_LARGE, ids=case)
def test_values_of_arrays_that_do_not_fit(source, dtype, words):
    refused(ValueError, source, dtype, *words)
    refused(ValueError, np.repeat(source, 2)[::2], np.dtype(dtype).newbyteorder(), *words[:2])


ARRAYS_OF_A_WRONG_KIND = [
    ("i8", "u1"),
    ("f8", "i8"),
    ("f8", "u8"),
    ("c16", "f8"),
    ("i1", "?"),
    ("u1", "?"),
    ("f8", "?"),
    ("i8", "M8[s]"),
    ("f8", "m8[s]"),
    ("m8[s]", "i8"),
    ("M8[s]", "i8"),
    ("M8[s]", "m8[s]"),
    ("m8[s]", "M8[s]"),
    ("m8[s]", "f8"),
    ("M8[s]", "M8[m]"),
    ("M8[ns]", "M8[us]"),
    ("M8[D]", "M8[W]"),
    ("M8[D]", "M8[M]"),
    ("M8[Y]", "M8[2Y]"),
    ("M8[M]", "M8[W]"),
    ("M8[Y]", "M8[7h]"),
    ("m8[M]", "m8[D]"),
    ("M8[25s]", "M8[7s]"),
    ("m8[s]", "m8[h]"),
    ("m8[Y]", "m8[D]"),
    ("m8[s]", "m8"),
    ("M8[s]", "M8"),
    ("M8[s]", "U30"),
    ("i8", "U30"),
    ("?", "U30"),
    ("f8", "S40"),
    ("U3", "S3"),
    ("S3", "U3"),
    ("U3", "i8"),
    ("S3", "V3"),
    ("V3", "S3"),
    ("V3", "V5"),
    ("V5", "V3"),
    ("i4", "V4"),
    ("U3", "M8[s]"),
    ("f8", PAIR),
    (PAIR, "V8"),
]


@pytest.mark.parametrize(("theirs", "ours"), ARRAYS_OF_A_WRONG_KIND, ids=str)
def test_arrays_of_a_wrong_kind(theirs, ours):
    source = np.empty(3, "i8").astype(theirs) if theirs == "i8" else np.zeros(3, theirs)
    refused(TypeError, source, ours, f"an array of {np.dtype(theirs)}", "expected")
    if PAIR not in (theirs, ours):
        fields = source.view([("x", theirs)])
        refused(TypeError, fields, [("x", ours)], "field 'x'", f"an array of {np.dtype(theirs)}")
    refused(TypeError, source[:0], ours)


def test_first_value_of_a_strided_array_is_the_one_that_is_named():
    source = np.array([[1, 900], [2, 901], [300, 902]]).T[0]
    refused(ValueError, source, "i1", "record 2", "300")


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 has it")
def test_strings_of_variable_width_are_text():
    source = np.array(["a", "bcd"], np.dtypes.StringDType())
    assert records(source, "U3").tolist() == ["a", "bcd"]
    refused(ValueError, source, "U2", "record 1", "'bcd'")
    refused(TypeError, source, "f8")


# ---------------------------------------------------------------------------------------------------------------------
# The value rule, leaf by leaf
# ---------------------------------------------------------------------------------------------------------------------


class Index:
    def __index__(self):
        return 7


class Float:
    def __float__(self):
        return 1.5


class Complex:
    def __complex__(self):
        return 1.5j


class Color(str, enum.Enum):  # noqa: UP042 - str() of it is not its text, unlike a StrEnum's
    RED = "red"


class Level(enum.IntEnum):
    LOW = 7


class Nanoseconds(datetime.datetime):
    """A datetime that holds more than its base class can say, as some libraries have them."""

    def __eq__(self, other):
        return False

    __hash__ = datetime.datetime.__hash__


VALUES_TAKEN = [
    (True, "?", True),
    (np.True_, "?", True),
    (7, "u1", 7),
    (True, "u1", 1),
    (np.True_, "i8", 1),
    (np.int64(7), "u1", 7),
    (np.uint64(7), "i1", 7),
    (Level.LOW, "i1", 7),
    (Index(), "i1", 7),
    (np.array(7), "u1", 7),
    (2**64 - 1, "u8", 2**64 - 1),
    (-(2**63), "i8", -(2**63)),
    (1.5, "f4", 1.5),
    (7, "f4", 7.0),
    (2**70, "f4", 2.0**70),
    (True, "f8", 1.0),
    (np.float64(0.1), "f4", float(np.float32(0.1))),
    (np.longdouble(1.5), "f2", 1.5),
    (math.inf, "f2", math.inf),
    (decimal.Decimal("-inf"), "f2", -math.inf),
    (decimal.Decimal("1.5"), "f4", 1.5),
    (fractions.Fraction(3, 2), "f8", 1.5),
    (Float(), "f8", 1.5),
    (Index(), "f8", 7.0),
    (1.5, "c8", 1.5 + 0j),
    (1.5j, "c8", 1.5j),
    (np.complex64(1.5j), "c16", 1.5j),
    (Complex(), "c8", 1.5j),
    (Float(), "c8", 1.5 + 0j),
    (complex(math.inf, 1), "c8", complex(math.inf, 1)),
    ("abc", "U3", "abc"),
    ("", "U3", ""),
    ("a\0b", "U3", "a\0b"),
    ("\ud800\U0010ffff", "U3", "\ud800\U0010ffff"),
    (np.str_("abc"), "U3", "abc"),
    (Color.RED, "U3", "red"),
    (b"a\xff", "S3", b"a\xff"),
    (np.bytes_(b"abc"), "S3", b"abc"),
    (b"a\0\0", "V3", b"a\0\0"),
    (np.void(b"a\0\0"), "V3", b"a\0\0"),
    (np.datetime64("2020-01-01"), "M8[s]", datetime.datetime(2020, 1, 1)),
    (times([NAT], "M8")[0], "M8[s]", None),
    (np.datetime64("NaT", "Y"), "M8[as]", None),
    (datetime.date(2020, 1, 1), "M8[D]", datetime.date(2020, 1, 1)),
    (datetime.datetime(2020, 1, 1, 0, 0, 0, 5), "M8[us]", datetime.datetime(2020, 1, 1, 0, 0, 0, 5)),
    (datetime.datetime.max, "M8[us]", datetime.datetime.max),
    (np.timedelta64(3, "h"), "m8[s]", datetime.timedelta(hours=3)),
    (times([3], "m8")[0], "m8[s]", datetime.timedelta(seconds=3)),
    (times([NAT], "m8")[0], "m8[s]", None),
    (datetime.timedelta(1, 2, 3), "m8[us]", datetime.timedelta(1, 2, 3)),
    (3, "m8[s]", datetime.timedelta(seconds=3)),
    (np.uint8(3), "m8", 3),
]


def value_case(value):
    return value if isinstance(value, str) and value.isascii() else f"{type(value).__name__}"


@pytest.mark.parametrize(("value", "dtype", "expected"), VALUES_TAKEN, ids=value_case)
def test_values_that_are_taken(value, dtype, expected):
    assert record(value, dtype).tolist() == [expected]
    assert records([value, value], dtype).tolist() == [expected] * 2
    assert record((value,), [("x", dtype)])["x"].tolist() == [expected]
    assert record(([value, value],), [("x", dtype, (2,))])["x"].tolist() == [[expected] * 2]
    swapped = check_dtype(np.dtype(dtype).newbyteorder())
    assert records(np.array([None, value], object)[1:], swapped).tolist() == [expected]


VALUES_OF_A_WRONG_TYPE = [
    (1, "?"),
    (1.0, "?"),
    ("a", "?"),
    (3.0, "i4"),
    (np.float64(3), "i4"),
    (np.float16(3), "u8"),
    (3 + 0j, "i4"),
    (decimal.Decimal(3), "i4"),
    (fractions.Fraction(3), "i4"),
    (Float(), "i4"),
    (np.timedelta64(3, "s"), "i4"),
    (times([3], "m8")[0], "i8"),
    (np.datetime64(3, "s"), "i8"),
    ("3", "i4"),
    (b"3", "i4"),
    (1j, "f8"),
    (np.complex128(1), "f8"),
    ("1.5", "f8"),
    (np.str_("1.5"), "f8"),
    (b"1.5", "f8"),
    (np.timedelta64(3, "s"), "f8"),
    (datetime.timedelta(3), "f8"),
    (times([3], "m8")[0], "c16"),
    ("1j", "c16"),
    (np.str_("1j"), "c16"),
    (b"abc", "U3"),
    (1, "U3"),
    (np.void(b"abc"), "U3"),
    ("abc", "S3"),
    (bytearray(b"abc"), "V3"),
    ("abc", "V3"),
    (1, "V3"),
    ("2020-01-01", "M8[D]"),
    (0, "M8[s]"),
    (np.timedelta64(0, "s"), "M8[s]"),
    (datetime.timedelta(0), "M8[s]"),
    (np.datetime64("2020-01-01T00", "s"), "M8[m]"),
    (datetime.datetime(2020, 1, 1), "M8[s]"),
    (datetime.date(2020, 1, 1), "M8[M]"),
    (1.0, "m8[s]"),
    ("1", "m8[s]"),
    (datetime.date(2020, 1, 1), "m8[s]"),
    (np.timedelta64(1, "Y"), "m8[D]"),
    (np.timedelta64(60, "s"), "m8[m]"),
    (datetime.timedelta(1), "m8[s]"),
    (np.timedelta64(1, "s"), "m8"),
    (float, "f8"),
    (object(), "f8"),
    *((None, dtype) for dtype in ["?", "i4", "f4", "c8", "U4", "S4", "V4", "M8[s]", "m8[s]"]),
]


@pytest.mark.parametrize(("value", "dtype"), VALUES_OF_A_WRONG_TYPE, ids=value_case)
def test_values_of_a_wrong_type(value, dtype):
    name = type(value).__name__
    if name != "bytearray":  # one that stands alone is an array of small integers
        refused(TypeError, value, dtype, "the record", f"({name})", "; expected ", convert=to_record)
    refused(TypeError, (value,), [("x", dtype)], "field 'x'", f"({name})", "; expected ", convert=to_record)
    refused(TypeError, [value], dtype, "record 0", f"({name})", "; expected ")


VALUES_THAT_DO_NOT_FIT = [
    (256, "u1", "from 0 to 255 (uint8)"),
    (-1, "u1", "from 0 to 255 (uint8)"),
    (np.int64(-1), "u8", str(2**64 - 1)),
    (128, "i1", "from -128 to 127 (int8)"),
    (2**63, "i8", "int64"),
    (10**400, "i8", "int64"),
    (10**5000, "i8", "int64"),
    (1e300, "f4", "float32"),
    (1e300, "f2", "float16"),
    (np.float64(-1e300), "f4", "float32"),
    (70000, "f2", "float16"),
    (10**400, "f8", "float64"),
    (10**400, "f4", "float32"),
    (10**5000, "g", np.dtype("g").name),
    (decimal.Decimal("1e400"), "f8", "float64"),
    (fractions.Fraction(10**400), "f8", "float64"),
    (10**400, "c16", "complex128"),
    (1e300j, "c8", "complex64"),
    (complex(1e300, math.inf), "c8", "complex64"),
    ("abcd", "U3", "at most 3 characters"),
    ("ab\0", "U3", "NUL"),
    (np.str_("ab\0"), "U3", "NUL"),
    (b"abcd", "S3", "at most 3"),
    (b"ab\0", "S3", "NUL"),
    (np.bytes_(b"ab\0"), "S3", "NUL"),
    (b"ab", "V3", "exactly 3"),
    (b"abcd", "V3", "exactly 3"),
    (np.void(b"ab"), "V3", "exactly 3"),
    (np.datetime64("2300"), "M8[ns]", "datetime64[ns]"),
    (np.datetime64("1971"), "M8[as]", "datetime64[as]"),
    (datetime.datetime(2300, 1, 1), "M8[ns]", "datetime64[ns]"),
    (datetime.date.max, "M8[ns]", "datetime64[ns]"),
    (datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "M8[us]", "without zone"),
    (Nanoseconds(2020, 1, 1), "M8[ns]", "datetime64[ns]"),
    (np.timedelta64(2**62, "s"), "m8[ms]", "timedelta64[ms]"),
    (datetime.timedelta.max, "m8[us]", "timedelta64[us]"),
    (2**63, "m8[s]", "timedelta64[s]"),
    (NAT, "m8[s]", "timedelta64[s]"),
]


@pytest.mark.parametrize(("value", "dtype", "expected"), VALUES_THAT_DO_NOT_FIT, ids=value_case)
def test_values_that_do_not_fit(value, dtype, expected):
    refused(ValueError, value, dtype, "the record", expected, convert=to_record)
    refused(ValueError, (value,), [("x", dtype)], "field 'x'", expected, convert=to_record)
    good = np.zeros(1, dtype)[0]
    refused(ValueError, [good, value, value], dtype, "record 1:", expected)
    refused(ValueError, [([good, value],)], [("x", dtype, (2,))], "record 0, field 'x[1]'", expected)


def test_longdouble_keeps_its_precision():
    for value in (2**63 + 1, np.longdouble(1) + np.finfo("g").eps, np.longdouble("1e-400")):
        assert record(value, "g")[0] == np.longdouble(value)
    assert record(np.longdouble(1) + np.finfo("g").eps, "G")[0].real == np.longdouble(1) + np.finfo("g").eps


def test_nan_and_signed_zero_stay():
    result = records([math.nan, -0.0, np.float32("nan")], "f2")
    assert np.isnan(result).tolist() == [True, False, True]
    assert np.signbit(result[1])


def test_units_may_be_mixed():
    values = [datetime.timedelta(seconds=1), 5, np.timedelta64(1, "m"), times([NAT], "m8")[0], np.timedelta64(7, "ms")]
    assert records(values, "m8[us]").view("i8").tolist() == [10**6, 5, 60 * 10**6, NAT, 7000]
    refused(TypeError, [*values, np.timedelta64(1, "ns")], "m8[us]", "record 5", "timedelta64")


def test_an_inputs_own_exceptions_propagate():
    class Broken:
        def __float__(self):
            raise ZeroDivisionError("mine")

        __index__ = __float__

    class BrokenArray:
        def __array__(self, dtype=None, copy=None):
            raise LookupError("mine")

    for dtype in ("f8", "i4", "c8", "m8[s]"):
        with pytest.raises(ZeroDivisionError, match="mine"):
            to_record(Broken(), np.dtype(dtype))
    with pytest.raises(ValueError, match="signaling"):
        to_records([decimal.Decimal("sNaN")], np.dtype("f8"))
    for convert in (to_record, to_records):
        with pytest.raises(LookupError, match="mine"):
            convert(BrokenArray(), np.dtype("f8"))


def test_messages_are_short_and_survive_a_broken_repr():
    class Mute:
        def __repr__(self):
            raise RuntimeError("mine")

    refused(TypeError, [Mute()], "f8", "Mute")
    for values in ("x" * 10**6, [1] * 10**6, 10**4000):
        with pytest.raises((TypeError, ValueError)) as caught:
            to_record((values, 1), np.dtype("i4,i4"))
        assert len(str(caught.value)) < 400
    with pytest.raises(TypeError) as caught:
        check_dtype([(f"field {i}", "O") for i in range(1000)])
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------------------------------------------------------------
# Properties
# ---------------------------------------------------------------------------------------------------------------------

SOME = settings(suppress_health_check=[HealthCheck.too_slow])  # other work may share the machine
MANY = settings(SOME, max_examples=examples(300))

leaves = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=4),
    hnp.byte_string_dtypes(min_len=1, max_len=4),
    hnp.datetime64_dtypes(min_period="as", endianness="?"),
    hnp.timedelta64_dtypes(min_period="as", endianness="?"),
)
dtypes = hnp.nested_dtypes(leaves, max_leaves=6, max_itemsize=200).filter(lambda d: d.subdtype is None and d.itemsize)


def as_tuples(values):
    """Structured items as the tuples of their fields."""
    return [tuple(row) if values.dtype.names else row for row in values]


@SOME
@given(st.data())
def test_any_array_survives_every_way_in(data):
    dtype = data.draw(dtypes)
    source = data.draw(hnp.arrays(dtype, st.integers(0, 4)))
    assert to_records(source, dtype) is source
    assert same(records(np.repeat(source, 2)[::2], dtype), source)
    assert same(records(source, dtype.newbyteorder()), source)
    assert same(records(list(source), dtype), source)
    assert same(records(collections.deque(list(source)), dtype.newbyteorder()), source)
    assert same(records(as_tuples(source), dtype), source)
    for index in range(len(source)):
        assert same(record(source[index], dtype), source[index : index + 1])


ATTOSECONDS = {"W": 604800 * 10**18, "D": 86400 * 10**18, "h": 3600 * 10**18, "m": 60 * 10**18} | {
    unit: 10 ** (18 - 3 * power) for power, unit in enumerate(["s", "ms", "us", "ns", "ps", "fs", "as"])
}


def exact(value):
    """A numpy scalar as something of Python's that compares exactly: a number, text, bytes, or a time's atoms."""
    if value.dtype.kind == "V":
        return bytes(value)
    if value.dtype.kind not in "mM":
        return value.item()
    unit, count = np.datetime_data(value.dtype)
    number = int(value.view("i8")) * count
    if np.isnat(value):
        return None
    if unit not in ("Y", "M"):
        return number * ATTOSECONDS.get(unit, 1)
    months = number * {"Y": 12, "M": 1}[unit]
    if value.dtype.kind == "m":
        return months
    years, month = divmod(months, 12)  # days by the 400 years after which the Gregorian calendar repeats
    first = datetime.date(2000 + (1970 + years) % 400, month + 1, 1)
    days = (first - datetime.date(1970, 1, 1)).days + ((1970 + years) // 400 - 5) * 146097
    return days * ATTOSECONDS["D"]


def kept(value, stored):
    """Whether `stored` is `value`; floats within the rounding of the narrower of the two."""
    ours, theirs = exact(stored), exact(value)
    if isinstance(ours, float | complex):
        return all(rounded(getattr(theirs, part), getattr(stored, part)) for part in ("real", "imag"))
    if stored.dtype.kind in "mM" and value.dtype.kind not in "mM":
        return int(stored.view("i8")) == theirs
    return type(ours) in (type(theirs), int) and ours == theirs


def rounded(value, stored):
    if math.isnan(value) or math.isinf(value):
        return str(float(value)) == str(float(stored))
    info = np.finfo(stored.dtype)
    value, kept, eps, tiny = map(fractions.Fraction, (value, *map(float, (stored, info.eps, info.smallest_subnormal))))
    return abs(kept - value) <= max(abs(value) * eps, tiny)


@MANY
@given(st.data())
def test_arrays_of_another_dtype_keep_their_values_or_are_refused(data):
    theirs = data.draw(leaves)
    ours = data.draw(leaves)
    source = data.draw(hnp.arrays(theirs, st.integers(1, 4)))
    result, error = attempt(records, source, ours)
    if error is not None:
        assert type(error) in (TypeError, ValueError)
        return
    assert theirs == ours or np.can_cast(theirs, ours, "same_kind")
    assert all(kept(value, stored) for value, stored in zip(source, result, strict=True))


@SOME
@given(st.data())
def test_integers_are_taken_exactly_where_they_fit(data):
    theirs = data.draw(st.one_of(hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?")))
    ours = data.draw(st.one_of(hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?")))
    info = np.iinfo(theirs)
    edges = [e + d for limit in (np.iinfo(ours).min, np.iinfo(ours).max) for e in [int(limit)] for d in (-1, 0, 1)]
    elements = st.sampled_from([e for e in edges if info.min <= e <= info.max] or [0]) | hnp.from_dtype(theirs)
    source = data.draw(hnp.arrays(theirs, st.integers(1, 4), elements=elements))
    fits = [int(np.iinfo(ours).min) <= int(value) <= int(np.iinfo(ours).max) for value in source]
    if all(fits):
        assert records(source.tolist(), ours).tolist() == source.tolist()
        assert records(list(source), ours).tolist() == source.tolist()
    else:
        refused(ValueError, source.tolist(), ours, f"record {fits.index(False)}: {source.tolist()[fits.index(False)]}")
    if not np.can_cast(theirs, ours, "same_kind"):
        refused(TypeError, source, ours)
    elif all(fits):
        assert records(source, ours).tolist() == source.tolist()
    else:
        refused(ValueError, source, ours, f"record {fits.index(False)}:")


@SOME
@given(st.data())
def test_times_are_taken_exactly_where_they_fit(data):
    units = ["W", "D", "h", "m", "s", "ms", "us", "ns"]
    coarse, fine = sorted((data.draw(st.integers(0, 7)), data.draw(st.integers(0, 7))))
    kind = data.draw(st.sampled_from(["m8", "M8"]))
    theirs, ours = np.dtype(f"{kind}[{units[coarse]}]"), np.dtype(f"{kind}[{units[fine]}]")
    factor = ATTOSECONDS[units[coarse]] // ATTOSECONDS[units[fine]]
    edge = (2**63 - 1) // factor
    number = data.draw(st.sampled_from([edge, edge + 1, -edge, -edge - 1, NAT, 0]) | st.integers(NAT, 2**63 - 1))
    number = max(NAT, min(2**63 - 1, number))
    source = np.array([number], "i8").view(theirs)
    if number == NAT:
        assert np.isnat(records(source, ours)).all()
    elif abs(number * factor) < 2**63:
        assert records(source, ours).view("i8").tolist() == [number * factor]
        assert records(list(source), ours).view("i8").tolist() == [number * factor]
    else:
        refused(ValueError, source, ours, "record 0")
        refused(ValueError, list(source), ours, "record 0")


python_values = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.none(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
)


def equals(value, stored):
    """Whether a numpy scalar is the Python value that was put."""
    if stored.dtype.kind == "M":
        return np.datetime64(value) == stored
    if stored.dtype.kind == "m":
        return stored == np.timedelta64(value) if isinstance(value, datetime.timedelta) else stored.view("i8") == value
    if stored.dtype.kind in "fc":
        return all(
            rounded(getattr(value, part, 0) if part == "imag" else getattr(value, "real", value), getattr(stored, part))
            for part in ("real", "imag")
        )
    return exact(stored) == value and not isinstance(value, float)


@MANY
@given(st.data())
def test_python_values_are_kept_or_refused(data):
    dtype = data.draw(leaves | st.integers(1, 4).map(lambda size: np.dtype(f"V{size}")))
    value = data.draw(python_values)
    result, error = attempt(record, value, dtype)
    if error is not None:
        assert type(error) in (TypeError, ValueError)
        assert "; expected " in str(error)
        return
    assert equals(value, result[0])


@SOME
@given(st.data())
def test_random_tuples_are_kept_or_refused(data):
    dtype = data.draw(dtypes)
    anything = st.recursive(
        python_values, lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    )
    value = data.draw(st.lists(anything, max_size=3).map(tuple) | anything)
    for convert, values in ((to_record, value), (to_records, value), (to_records, [value])):
        _, error = attempt(convert, values, dtype)
        assert type(error) in (type(None), TypeError, ValueError)
        assert error is None or "expected" in str(error)
