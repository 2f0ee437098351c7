"""What callers put, made into records of a ring's dtype: the slow path, behind the ring's own for exact matches.

Three functions are the whole interface: `check_dtype`, `to_record` and `to_records`. They raise before anything is put.

Nothing is converted with loss. There are two rules, and each works on whole columns, one field after the other:

- The array rule (`_fill_array`) judges by the dtype: numpy's same_kind casts, except that text and raw bytes come only
  from their own kind, and times only from the same or coarser units. Values are checked where the dtype cannot promise
  that they fit: integers, text, the range of times, and finite floats that would become infinite. Floats may round.
- The value rule (`_fill_values`) judges Python objects and numpy scalars one by one: the types say what may enter
  which field (no float enters an integer field), then each value must fit. Object arrays are columns of values too.

Structured arrays and numpy records must have the same field names in the same order; padding, offsets, byte order and
titles are free. Sub-arrays must have exactly the field's shape: nothing is broadcast.

A wrong type is a TypeError; a value or a shape that does not fit is a ValueError. What an input raises itself (in its
`__float__`, `__array__` and so on) reaches the caller as it is.

Results start as zeros, so padding carries nothing from the heap. In what follows `out` is a view of the result, and
`path` says where it stands in the caller's input: field names and indices, None for each dimension of `out`.
"""

import datetime
import numbers
import operator
import reprlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray

_Array = NDArray[Any]
_DType = np.dtype[Any]
_Path = tuple[str | int | None, ...]

_NUMBERS = (int, float, complex, np.generic)
_NAT = -(2**63)  # the one int64 that numpy reads as "not a time"
_MONTHS = {"Y": 12, "M": 1}
_ATTOSECONDS = {"W": 604_800 * 10**18, "D": 86_400 * 10**18, "h": 3_600 * 10**18, "m": 60 * 10**18, "s": 10**18}
_ATTOSECONDS |= {"ms": 10**15, "us": 10**12, "ns": 10**9, "ps": 10**6, "fs": 10**3, "as": 1}


# ---------------------------------------------------------------------------------------------------------------------
# The interface
# ---------------------------------------------------------------------------------------------------------------------


def check_dtype(dtype: DTypeLike) -> _DType:
    """The dtype of a ring, normalised.

    Raises
    ------
    TypeError
        For what numpy does not take for a dtype, and for dtypes with Python objects anywhere in them.
    ValueError
        For records without a size, and for a sub-array outside a field.
    """
    if dtype is None:  # np.dtype(None) is float64, which nobody means here
        raise TypeError("dtype None: expected a numpy dtype; name one, such as 'f8'")
    try:
        checked: _DType = np.dtype(dtype)
    except SyntaxError as error:  # which numpy lets through for some strings, such as '01'
        raise TypeError(f"dtype {dtype!r}: expected a numpy dtype, such as 'f8'") from error
    if checked.hasobject:
        raise TypeError(
            f"dtype {_short_dtype(checked)} holds Python objects; expected fixed-size values only; "
            "give text a length (such as 'U16') and keep objects in f1buf.Queue"
        )
    if checked.subdtype is not None:
        base, shape = checked.subdtype
        raise ValueError(
            f"dtype {_short_dtype(checked)} is a sub-array; expected a scalar or structured dtype; "
            f"wrap it in a field: [('data', {_short_dtype(base)!r}, {shape})]"
        )
    if checked.itemsize == 0:
        raise ValueError(
            f"dtype {_short_dtype(checked)} has no size; expected records of at least 1 byte; "
            "give it a length (such as 'U16') or a field"
        )
    if checked.kind in "mM" and np.datetime_data(checked)[0] == "generic":
        return checked.newbyteorder("=")  # numpy 2 allocates times without a unit so, whatever it is asked for
    return checked


def to_record(value: object, dtype: _DType) -> _Array:
    """One record: a new array of shape (1,).

    Parameters
    ----------
    value
        A tuple with one value a field, a numpy record (``np.void`` or an array of shape ()), or, where `dtype` has no
        fields, a scalar. A numpy record of another dtype is read as the tuple of its fields.
    dtype
        What `check_dtype` returned.

    Raises
    ------
    TypeError, ValueError
        For a wrong type; for a value or a shape that does not fit. Nothing is converted with loss.
    """
    record = np.zeros(1, dtype)
    cell = record.reshape(())
    if _is_array(value):
        value = _as_array(value, ())
        if value.ndim:
            raise ValueError(f"the record has shape {value.shape}; expected shape (); use put_many for many records")
    with np.errstate(all="ignore"):  # floats may round and underflow; infinities are looked for
        # numpy text scalars are Python's too: their trailing NULs must be seen
        if isinstance(value, (np.generic, np.ndarray)) and value.dtype == dtype and not isinstance(value, (str, bytes)):
            cell[...] = value
        else:
            _fill_values(cell, [value], ())
    return record


def to_records(values: object, dtype: _DType) -> _Array:
    """Any array-like of the dtype: a 1-D C-contiguous array, the caller's own memory where that already is one.

    Parameters
    ----------
    values
        An array, whatever offers one (``__array__``, the buffer protocol), or a sequence (list, tuple, deque, range) of
        what `to_record` takes. A sequence is copied first. Iterators are refused: they can be used up only once.
    dtype
        What `check_dtype` returned.

    Raises
    ------
    TypeError, ValueError
        For a wrong type; for a value or a shape that does not fit. Nothing is converted with loss.
    """
    if _is_one_record(values, dtype):
        raise TypeError(f"{_short(values)} is one record; expected many; use put for one record")
    if _is_array(values):
        return _from_array(_as_array(values, (None,)), dtype)
    if not _is_sequence(values):
        raise TypeError(
            f"{_short(values)} ({type(values).__name__}) is no sequence; expected an array or a sequence of records; "
            "use list() on an iterator or a set, and put for one record"
        )
    rows: list[Any] = list(values)  # type: ignore[call-overload]
    records = np.zeros(len(rows), dtype)
    with np.errstate(all="ignore"):
        if rows and all(isinstance(row, np.void) and row.dtype == dtype for row in rows):
            records[...] = rows  # as get returned them
        else:
            _fill_values(records, rows, (None,))
    return records


def _from_array(source: _Array, dtype: _DType) -> _Array:
    if source.ndim == 0:
        raise ValueError("an array of shape () is one record; expected shape (n,); use put for one record")
    if source.ndim != 1:
        raise ValueError(f"an array of shape {source.shape}; expected shape (n,); ravel() it if each item is a record")
    if source.dtype == dtype and source.flags.c_contiguous:
        return source if source.dtype is dtype else source.view(dtype)  # an equal dtype may be np.record's
    records = np.zeros(source.shape, dtype)
    with np.errstate(all="ignore"):
        _fill_array(records, source, (None,))
    return records


# ---------------------------------------------------------------------------------------------------------------------
# What inputs are
# ---------------------------------------------------------------------------------------------------------------------


def _is_array(value: object) -> bool:
    """Whether numpy sees an array without looking at items. Bytes are a sequence here, as they are in Python."""
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, (np.generic, bytes, list, tuple)):
        return False
    return _offers_array(type(value)) or _offers_buffer(value)  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def _offers_array(kind: type) -> bool:
    if issubclass(kind, np.generic):
        return False
    return hasattr(kind, "__array__") or hasattr(kind, "__array_interface__") or hasattr(kind, "__array_struct__")


def _offers_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _as_array(value: object, path: _Path) -> _Array:
    # Where nobody has imported numpy.ma there is no masked array. To name it would import it: the child of a fork that
    # came amid another thread's first conversion would wait for an import which never ends.
    if isinstance(value, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())):
        raise TypeError(
            f"{_where(path)}: a masked array, but a ring has no place for the mask; "
            "expected a plain array; use its filled() or compressed()"
        )
    return np.asarray(value)


def _is_sequence(value: object) -> bool:
    kind = type(value)
    if isinstance(value, (str, Mapping, np.generic)):
        return False
    return hasattr(kind, "__len__") and hasattr(kind, "__getitem__")


def _is_one_record(values: object, dtype: _DType) -> bool:
    """Whether `values`, which should be many records, is one: a scalar, or a tuple of plain values for the fields."""
    if isinstance(values, tuple) and dtype.names is not None:
        return not all(isinstance(row, (tuple, np.void, np.ndarray)) for row in values)
    return isinstance(values, (str, bytes, numbers.Number, np.generic))


# ---------------------------------------------------------------------------------------------------------------------
# The array rule
# ---------------------------------------------------------------------------------------------------------------------


def _fill_array(out: _Array, source: _Array, path: _Path) -> None:
    """Fill `out` from an array of the same shape."""
    if source.dtype == out.dtype:
        out[...] = source
    elif source.dtype.names is None and source.dtype.hasobject:
        _fill_values(out, source.ravel().tolist(), path)
    elif out.dtype.names is not None and source.dtype.names is not None:
        if source.dtype.names != out.dtype.names:
            _refuse_names(source.dtype.names, out.dtype.names, path)
        for name in _fields(out.dtype):
            _fill_field(out[name], source[name], (*path, name), out.ndim)
    elif _castable(source.dtype, out.dtype):
        stored, unfit = _cast(source, out.dtype)
        if unfit.any():
            index = int(unfit.argmax())
            _refuse(ValueError, source.flat[index], out, path, index)
        out[...] = stored
    else:
        _refuse_dtype(source.dtype, out.dtype, path)


def _fill_field(out: _Array, source: _Array, path: _Path, outer: int) -> None:
    """One field of all records; its dimensions after the first `outer` are those of a sub-array."""
    ours, theirs = out.shape[outer:], source.shape[outer:]
    if ours != theirs:
        _refuse_shape(source, theirs, ours, path)
    _fill_array(out, source, path + (None,) * len(ours))


def _castable(source: _DType, dtype: _DType) -> bool:
    """Whether arrays of one leaf dtype may enter another one, as far as the dtypes say."""
    if dtype.kind in "SU":
        return source.kind == dtype.kind
    if dtype.kind == "V" or source.names is not None:
        return False
    if source.kind in "mM":
        return source.kind == dtype.kind and _time_factor(source, dtype) is not None
    return bool(np.can_cast(source, dtype, "same_kind"))


def _cast(source: _Array, dtype: _DType) -> tuple[_Array, NDArray[np.bool_]]:
    """`source` as `dtype`, and where its values do not fit."""
    if source.dtype.kind in "mM":
        return _cast_times(source, dtype)
    stored = source.astype(dtype)
    if dtype.kind in "SU":
        return stored, stored != source
    if source.dtype.kind == "b" or (np.can_cast(source.dtype, dtype, "safe") and dtype.kind != "m"):
        # (an int64 may be NaT's number; bools and limits numpy compares as its own int, which may have 32 bits)
        return stored, np.zeros(source.shape, np.bool_)
    if dtype.kind in "ium":
        low, high = _limits(dtype)
        return stored, (source < low) | (source > high)
    return stored, _overflowed(stored.real, source.real) | _overflowed(stored.imag, source.imag)


def _overflowed(stored: _Array, source: _Array) -> NDArray[np.bool_]:
    return np.isinf(stored) & ~np.isinf(source)


def _cast_times(source: _Array, dtype: _DType) -> tuple[_Array, NDArray[np.bool_]]:
    """Times in finer units, by integers: numpy wraps what is out of range, and now and then its own factor."""
    counts = source.astype(np.int64)
    absent = counts == _NAT
    unfit = np.zeros(source.shape, np.bool_)
    if _by_days(source.dtype, dtype):
        days = source.astype("M8[D]")
        unfit |= days.astype(source.dtype) != source
        counts = days.astype(np.int64)
    factor = _time_factor(source.dtype, dtype) or 1
    limit = (2**63 - 1) // factor
    unfit |= (counts < -limit) | (counts > limit)
    stored = np.where(absent, _NAT, counts * min(factor, 2**63 - 1))
    return stored.view(dtype.newbyteorder("=")), unfit & ~absent


def _time_factor(source: _DType, dtype: _DType) -> int | None:
    """How many units of `dtype` make one of `source`; None where that is no whole number."""
    unit, count = ("D", 1) if _by_days(source, dtype) else np.datetime_data(source)[:2]
    our_unit, our_count = np.datetime_data(dtype)[:2]
    if unit == "generic":  # a bare number, or NaT
        return 1
    table = _MONTHS if unit in _MONTHS else _ATTOSECONDS
    if our_unit not in table:
        return None
    factor, rest = divmod(table[unit] * count, table[our_unit] * our_count)
    return None if rest else factor


def _by_days(source: _DType, dtype: _DType) -> bool:
    """Whether the calendar comes in: the days of a month and of a year vary."""
    return source.kind == "M" and np.datetime_data(source)[0] in _MONTHS and np.datetime_data(dtype)[0] in _ATTOSECONDS


@lru_cache(maxsize=64)
def _limits(dtype: _DType) -> tuple[int, int]:
    """The smallest and the largest integer that `dtype`, an integer or a timedelta, can hold."""
    if dtype.kind == "m":
        return _NAT + 1, 2**63 - 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _fields(dtype: _DType) -> tuple[str, ...]:
    """The names of a structured dtype's fields, in their order."""
    if _overlapping(dtype):
        raise TypeError(
            f"fields of dtype {_short_dtype(dtype)} overlap, so one would overwrite another; "
            "expected an array or a numpy record of exactly this dtype; make one first"
        )
    return dtype.names or ()


@lru_cache(maxsize=256)
def _overlapping(dtype: _DType) -> bool:
    fields: Mapping[str, Any] = dtype.fields or {}
    spans = sorted((fields[name][1], fields[name][1] + fields[name][0].itemsize) for name in dtype.names or ())
    return any(end > start for (_, end), (start, _) in pairwise(span for span in spans if span[0] < span[1]))


# ---------------------------------------------------------------------------------------------------------------------
# The value rule
# ---------------------------------------------------------------------------------------------------------------------


def _fill_values(out: _Array, values: list[Any], path: _Path) -> None:
    """Fill `out` from as many objects as it has items, in C order."""
    if not values:
        return
    if out.dtype.names is not None:
        _fill_rows(out, values, path)
    else:
        _fill_leaf(out, values, path)


def _fill_rows(out: _Array, rows: list[Any], path: _Path) -> None:
    names = _fields(out.dtype)
    tuples = [row if type(row) is tuple else _as_tuple(row, out, path, index) for index, row in enumerate(rows)]
    for index, row in enumerate(tuples):
        if len(row) != len(names):
            where = _where(_item_path(path, out, index))
            raise ValueError(
                f"{where}: {_short(row)}, a tuple of shape ({len(row)},); "
                f"expected shape ({len(names)},), one value for each of {_short(names)}"
            )
    for name, column in zip(names, zip(*tuples, strict=True), strict=True):
        target = out[name]
        if target.ndim == out.ndim:
            _fill_values(target, list(column), (*path, name))
        else:
            _fill_blocks(target, list(column), (*path, name), out.ndim)


def _as_tuple(row: Any, out: _Array, path: _Path, index: int) -> tuple[Any, ...]:
    """A record that is no plain tuple as the tuple of its fields."""
    if isinstance(row, tuple):
        return tuple(row)
    if isinstance(row, np.ndarray):
        row = _as_item(row, out, path, index)
    if isinstance(row, np.void) and row.dtype.names is not None:
        if row.dtype.names != out.dtype.names:
            _refuse_names(row.dtype.names, out.dtype.names or (), _item_path(path, out, index))
        return tuple(row)  # type: ignore[arg-type]
    _refuse(TypeError, row, out, path, index)


def _fill_blocks(out: _Array, blocks: list[Any], path: _Path, outer: int) -> None:
    """A field that is a sub-array: the dimensions of `out` after the first `outer`."""
    inner = (None,) * (out.ndim - outer)
    if len(inner) == 1 and all(type(block) in (list, tuple) and len(block) == out.shape[-1] for block in blocks):
        _fill_values(out, list(chain.from_iterable(blocks)), path + inner)  # the usual case, one column for all
        return
    for index, block in enumerate(blocks):
        position = tuple(map(int, np.unravel_index(index, out.shape[:outer])))
        _fill_block(out[position], block, _at(path, position) + inner)


def _fill_block(out: _Array, value: Any, path: _Path) -> None:
    """One sub-array from an array or nested sequences of its shape."""
    if _is_array(value):
        source = _as_array(value, path)
        if source.shape != out.shape:
            _refuse_shape(source, source.shape, out.shape, path)
        _fill_array(out, source, path)
        return
    items = list(value) if _is_sequence(value) else []
    if not _is_sequence(value) or len(items) != len(out):
        _refuse_shape(value, _shape(value), out.shape, path)
    if out.ndim == 1:
        _fill_values(out, items, path)
        return
    for index, item in enumerate(items):
        _fill_block(out[index], item, _at(path, (index,)))


def _fill_leaf(out: _Array, values: list[Any], path: _Path) -> None:
    kinds = set(map(type, values))
    if any(map(_offers_array, kinds)):
        values = [_as_item(value, out, path, index) for index, value in enumerate(values)]
        kinds = set(map(type, values))
    leaf = _LEAVES[out.dtype.kind]
    wrong = {kind for kind in kinds if not leaf.accepts(kind)}
    if wrong:
        index = next(index for index, value in enumerate(values) if type(value) in wrong)
        _refuse(TypeError, values[index], out, path, index)
    try:
        stored = leaf.store(values, out.dtype)
    except _UnfitError as unfit:
        _refuse(unfit.error, values[unfit.index], out, path, unfit.index)
    out[...] = stored.reshape(out.shape)


def _as_item(value: Any, out: _Array, path: _Path, index: int) -> Any:
    """The item of an array of shape (), which is a numpy scalar; anything else as it is."""
    if not _offers_array(type(value)):  # type: ignore[arg-type]
        return value
    source = _as_array(value, _item_path(path, out, index))
    if source.ndim:
        _refuse_shape(source, source.shape, (), _item_path(path, out, index))
    return source[()]


# ---------------------------------------------------------------------------------------------------------------------
# Leaves of the value rule: the types that may enter, and a column of values as an array
# ---------------------------------------------------------------------------------------------------------------------


class _UnfitError(Exception):
    """A value of an accepted type that does not fit; `_fill_leaf` knows where it stands."""

    def __init__(self, index: int, error: type[Exception] = ValueError) -> None:
        self.index = index
        self.error = error


def _is_integer(kind: type) -> bool:
    if issubclass(kind, np.generic):  # numpy's own hierarchy counts timedelta64 among the integers
        return issubclass(kind, (np.bool_, np.integer)) and not issubclass(kind, np.timedelta64)
    return hasattr(kind, "__index__")


def _is_real(kind: type) -> bool:
    if issubclass(kind, np.generic):
        return issubclass(kind, np.floating) or _is_integer(kind)
    return hasattr(kind, "__float__") or hasattr(kind, "__index__")


def _is_complex(kind: type) -> bool:
    if issubclass(kind, np.generic):
        return issubclass(kind, np.complexfloating) or _is_real(kind)
    return hasattr(kind, "__complex__") or _is_real(kind)


def _is_span(kind: type) -> bool:
    return issubclass(kind, (np.timedelta64, datetime.timedelta)) or _is_integer(kind)


def _bools(values: list[Any], dtype: _DType) -> _Array:
    return np.array(values, dtype)


def _as_int(value: Any) -> int:
    return int(value) if isinstance(value, np.bool_) else operator.index(value)


def _integers(values: list[Any], dtype: _DType) -> _Array:
    numbers = [_as_int(value) for value in values]
    low, high = _limits(dtype)
    if min(numbers) < low or max(numbers) > high:
        raise _UnfitError(next(index for index, number in enumerate(numbers) if not low <= number <= high))
    return np.array(numbers, dtype)


def _floats(values: list[Any], dtype: _DType) -> _Array:
    """Real or complex numbers. Numpy's and Python's own go in as they are, so that a longdouble keeps its precision."""
    convert: type = complex if dtype.kind == "c" else float
    stored = np.empty(len(values), dtype)
    try:
        numbers = [v if isinstance(v, _NUMBERS) else convert(v) for v in values]
        stored[...] = numbers
    except (OverflowError, ValueError):
        for index, value in enumerate(values):
            if _is_too_large(value, dtype, convert):
                raise _UnfitError(index) from None
        raise
    infinite = np.isinf(stored)
    if not np.count_nonzero(infinite):  # cheaper than any() for the few values of a record
        return stored
    for index in map(int, np.flatnonzero(infinite)):
        # a Decimal of 1e400 is finite, the float of it is not: compare with the value itself where it has parts
        value = values[index] if hasattr(values[index], "imag") else numbers[index]
        for part in ("real", "imag"):
            kept = float(getattr(stored[index], part))  # a numpy float16 would have Python's 1e300 equal its infinity
            if np.isinf(kept) and getattr(value, part) != kept:
                raise _UnfitError(index)
    return stored


def _is_too_large(value: Any, dtype: _DType, convert: type) -> bool:
    """Whether the conversion to a float, Python's or numpy's, raises for the size of `value`."""
    try:
        number = value if isinstance(value, _NUMBERS) else convert(value)
    except OverflowError:
        return True
    try:
        np.empty(1, dtype)[0] = number
    except (OverflowError, ValueError):  # for a longdouble numpy reads an int's digits, which Python limits to 4,300
        return True
    return False


def _texts(values: list[Any], dtype: _DType) -> _Array:
    """str or bytes. Numpy drops trailing NULs when it reads them, so a value that ends in one does not fit."""
    empty: Any = "" if dtype.kind == "U" else b""
    nul: Any = "\0" if dtype.kind == "U" else b"\0"
    width = dtype.itemsize // (4 if dtype.kind == "U" else 1)
    texts = [empty.join((value,)) for value in values]  # the characters of a subclass, whatever its __str__ says
    for index, text in enumerate(texts):
        if len(text) > width or text.endswith(nul):
            raise _UnfitError(index)
    return np.array(texts, f"{dtype.kind}{max(width, 1)}")


def _voids(values: list[Any], dtype: _DType) -> _Array:
    for index, value in enumerate(values):
        if memoryview(value).nbytes != dtype.itemsize or getattr(value, "dtype", dtype).names is not None:
            raise _UnfitError(index)
    return np.ndarray(len(values), dtype, b"".join(values))


def _times(values: list[Any], dtype: _DType) -> _Array:
    """datetime64 or timedelta64: the array rule on the values of each unit."""
    native = dtype.newbyteorder("=")  # numpy before 2 assigns times without a unit in the other byte order wrongly
    times: list[np.generic] = []
    for value in values:
        time = _as_datetime64(value) if dtype.kind == "M" else _as_timedelta64(value, native)
        if time is None:
            raise _UnfitError(len(times))
        times.append(time)
    stored = np.empty(len(times), native)
    for unit in dict.fromkeys(time.dtype for time in times):
        chosen = [index for index, time in enumerate(times) if time.dtype == unit]
        if not _castable(unit, dtype):
            raise _UnfitError(chosen[0], TypeError)
        cast, unfit = _cast(np.array([times[index] for index in chosen], unit), native)
        if unfit.any():
            raise _UnfitError(chosen[int(unfit.argmax())])
        stored[chosen] = cast
    return stored


def _as_datetime64(value: Any) -> np.datetime64 | None:
    """None for what a datetime64 cannot say: time zones, and the nanoseconds of some subclasses."""
    if isinstance(value, np.datetime64):
        return value
    if getattr(value, "tzinfo", None) is not None:
        return None
    time = np.datetime64(value, "us" if isinstance(value, datetime.datetime) else "D")
    return time if time.item() == value else None


def _as_timedelta64(value: Any, unit: _DType) -> np.generic | None:
    """None for what a timedelta64 cannot hold. Integers count units of the field, as numpy has it."""
    if isinstance(value, np.timedelta64):
        return value
    if isinstance(value, datetime.timedelta):
        span = np.timedelta64(value, "us")
        return span if span.item() == value else None
    number = _as_int(value)
    return np.int64(number).view(unit) if _NAT < number < 2**63 else None


class _Leaf(NamedTuple):
    accepts: Callable[[type], bool]
    store: Callable[[list[Any], _DType], _Array]


_LEAVES = {
    "b": _Leaf(lambda kind: issubclass(kind, (bool, np.bool_)), _bools),
    "i": _Leaf(_is_integer, _integers),
    "u": _Leaf(_is_integer, _integers),
    "f": _Leaf(_is_real, _floats),
    "c": _Leaf(_is_complex, _floats),
    "U": _Leaf(lambda kind: issubclass(kind, str), _texts),
    "S": _Leaf(lambda kind: issubclass(kind, bytes), _texts),
    "V": _Leaf(lambda kind: issubclass(kind, (bytes, np.void)), _voids),
    "M": _Leaf(lambda kind: issubclass(kind, (np.datetime64, datetime.date)), _times),
    "m": _Leaf(_is_span, _times),
}


# ---------------------------------------------------------------------------------------------------------------------
# Errors: where, what came, what was expected and what to do
# ---------------------------------------------------------------------------------------------------------------------

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60
_repr.maxtuple = _repr.maxlist = 8


def _refuse(error: type[Exception], value: Any, out: _Array, path: _Path, index: int) -> NoReturn:
    """Refuse the value that stands at `index` of `out`, counted in C order."""
    path = _item_path(path, out, index)
    if out.dtype.names is None and isinstance(value, (list, tuple)):
        _refuse_shape(value, _shape(value), (), path)
    raise error(f"{_where(path)}: {_short(value)} ({type(value).__name__}); {_expected(out.dtype)}")


def _refuse_dtype(theirs: _DType, ours: _DType, path: _Path) -> NoReturn:
    expected = _expected(ours)
    if ours.kind in "biufc" and theirs.names is None:
        name = _short_dtype(ours)
        expected = f"expected {name}, or what casts to it by 'same_kind'; check the values, then use astype({name!r})"
    raise TypeError(f"{_where(path)}: an array of {_short_dtype(theirs)}; {expected}")


def _refuse_names(theirs: tuple[str, ...], ours: tuple[str, ...], path: _Path) -> NoReturn:
    missing = [name for name in ours if name not in theirs]
    unknown = [name for name in theirs if name not in ours]
    told = [f"{what} {_short(names)}" for what, names in (("without", missing), ("with", unknown)) if names]
    raise TypeError(
        f"{_where(path)}: fields {_short(theirs)} {' and '.join(told) or 'in another order'}; "
        f"expected {_short(ours)}; rename them, or pick and order them with values[[name, ...]]"
    )


def _refuse_shape(value: Any, theirs: tuple[int, ...], ours: tuple[int, ...], path: _Path) -> NoReturn:
    what = "an array" if isinstance(value, np.ndarray) else _short(value)
    raise ValueError(
        f"{_where(path)}: {what} of shape {theirs}; expected shape {ours}; nothing is broadcast, so give every value"
    )


def _expected(dtype: _DType) -> str:
    """What a dtype takes, and what to do with the rest."""
    name, size = _short_dtype(dtype), dtype.itemsize
    if dtype.names is not None:
        return f"expected a record with the fields {_short(dtype.names)}; make it a tuple or a numpy record"
    if dtype.kind in "iu":
        low, high = _limits(dtype)
        return f"expected an integer from {low} to {high} ({name}); round() a float, or give the field a wider dtype"
    return {
        "b": "expected a bool; compare first, such as value != 0",
        "f": f"expected a real number in the range of {name}; scale it, or give the field a wider dtype",
        "c": f"expected a number in the range of {name}; scale it, or give the field a wider dtype",
        "U": f"expected a str of at most {size // 4} characters, the last of them no NUL; "
        "decode() bytes, or give the field a longer dtype",
        "S": f"expected bytes, at most {size}, the last of them no NUL; "
        "encode() a str, give the field a longer dtype, or a 'V' one where NULs count",
        "V": f"expected exactly {size} raw bytes ({name}); pad them, or give the field another length",
        "M": f"expected a time without zone, in units no finer than {name}'s and in its range; "
        f"make it a np.datetime64, and cast with astype({name!r}) if it may lose the rest",
        "m": f"expected a duration or an integer, in units no finer than {name}'s and in its range; "
        f"make it a np.timedelta64, and cast with astype({name!r}) if it may lose the rest",
    }[dtype.kind]


def _at(path: _Path, position: tuple[int, ...]) -> _Path:
    """`path` with the first of its open indices (None) known."""
    known = iter(position)
    return tuple(next(known, None) if part is None else part for part in path)


def _item_path(path: _Path, out: _Array, index: int) -> _Path:
    """`path` to one item of `out`, counted in C order."""
    return _at(path, tuple(map(int, np.unravel_index(index, out.shape))))


def _where(path: _Path) -> str:
    """A path in words: an index before the first field name is that of a record."""
    record = [f"record {path[0]}"] if path and isinstance(path[0], int) else []
    names = path if path and isinstance(path[0], str) else path[1:]
    parts = [f".{part}" if isinstance(part, str) else f"[{'...' if part is None else part}]" for part in names]
    field = [f"field {''.join(parts).removeprefix('.')!r}"] if parts else []
    return ", ".join(record + field) or ("the records" if path else "the record")


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of nested sequences, going by the first of each."""
    shape: list[int] = []
    while _is_sequence(value) and len(shape) < 32:
        shape.append(len(value))
        if not len(value):
            break
        value = value[0]
    return tuple(shape)


def _short(value: object) -> str:
    try:
        return _repr.repr(value)
    except Exception:  # an error about a value must not fail on its repr
        return f"<{type(value).__name__}>"


def _short_dtype(dtype: _DType) -> str:
    plain = dtype.names is None and not dtype.hasobject
    text = str(dtype.newbyteorder("=") if plain else dtype)  # "float64" in either byte order
    return text if len(text) <= 120 else f"{text[:117]}..."
