"""What f1buf fills in by itself, inside objects of the interpreter's and of numpy's: tried once, at the import.

MemoryError is to mean that nothing has changed, so what a call returns is made before it changes anything, and filled
in when nothing may fail any more: ints (`int.hpp`), lists and pairs (which the collector must not show meanwhile),
arrays and numpy's scalars (`arrays.hpp`). Where there is a public way to do that, it is used; the rest depends on how
these objects lie in memory. So each extension module hands its own functions in here, and what they make is compared
with what the interpreter and numpy make of the same by themselves.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from typing import Any

# What the tests have run on; a hint for the reader of the error, nothing is refused by it.
TRIED = "CPython 3.11 to 3.15, numpy 1.26 to 2.5"

# At the edges of what is kept ready-made (256; 1024 from 3.15 on) and of digits (of 15 bits, or 30), and at the end.
INTS = tuple(edge + step for edge in (1, 256, 1024, 1 << 15, 1 << 30, 1 << 45, 1 << 60) for step in (-1, 0, 1))
MOST = (1 << 64) - 1

# All of numpy's own types that have scalars with a place for a value.
SCALARS = (*"bBhHiIlLqQefdgFDG", "M8[ns]", "m8[s]", "V5")


def must_be(what: str, found: object, expected: object, numpy: Any = None) -> None:
    """Refuse to be imported where f1buf does not find what it expects."""
    if found == expected:
        return
    import platform  # not before: it takes longer than all the checks

    from f1buf import __version__

    where = f"{platform.python_implementation()} {platform.python_version()}"
    if numpy is not None:
        where += f" with numpy {numpy.__version__}"

    raise ImportError(
        f"f1buf {__version__} cannot run on {where}: {what} that it has filled in is {found!r}; expected {expected!r}. "
        f"There such objects are laid out otherwise than f1buf takes them to be. Install a newer one (pip install "
        f"--upgrade f1buf), or build this one anew (pip install --force-reinstall --no-cache-dir --no-binary f1buf "
        f"f1buf), or use what it has been tried on: {TRIED}"
    )


def check_ints(made: Callable[[int, int], int], ready_made: int) -> None:
    """
    Check `LaterInt`.

    Parameters
    ----------
    made : callable
        ``made(most, value)``: `value`, by way of an int that may become anything up to `most`.
    ready_made : int
        Up to here getting an int must not take memory.
    """
    for value in (*INTS, MOST):
        own = int(str(value))
        kept = value <= ready_made or own is int(str(value))
        for most in (value, MOST):
            number = made(most, value)
            must_be("an int", faces(number), faces(own))
            must_be(f"that the int {value} is the interpreter's own", number is int(str(value)), kept)


def faces(number: int) -> tuple[object, ...]:
    """An int, and what the interpreter works out from its digits, in several ways."""
    return type(number), number, repr(number), hash(number), number.bit_length(), number * number, number // 3, -number


def check_list(made: Callable[[tuple[object, ...], int], tuple[bool, list[object]]]) -> None:
    """
    Check `blank_list`.

    Parameters
    ----------
    made : callable
        ``made(items, room)``: whether the collector knew of the list while it was blank, and had room for so many; and
        the list, by then of `items`.
    """
    items: tuple[object, ...] = (1000, "item", [])
    known, batch = made(items, len(items) + 2)
    must_be("that the collector knows of a list", (known, gc.is_tracked(batch)), (False, True))
    must_be("a list", batch, [*items])
    batch.append(None)
    batch.extend(items)
    must_be("a list, to which more was added,", batch, [*items, None, *items])


def check_pair(made: Callable[[object, object], tuple[bool, tuple[object, object]]]) -> None:
    """
    Check `blank_pair`.

    Parameters
    ----------
    made : callable
        ``made(first, second)``: whether the collector knew of the tuple while it was blank; and the tuple.
    """
    known, pair = made(1000, "second")
    must_be("that the collector knows of a tuple", known, False)
    must_be("a tuple", (pair, hash(pair), gc.is_tracked(pair)), ((1000, "second"), hash((1000, "second")), False))


def check_array(made: Callable[[Any, Any, int, int], Any], numpy: Any) -> None:
    """
    Check `set_dtype` and `cut_to`.

    Parameters
    ----------
    made : callable
        ``made(raw_dtype, dtype, room, length)``: a new array of `room` items of `raw_dtype`, then of `length` of
        `dtype`.
    numpy : module
    """
    dtype = numpy.dtype([("number", "i8"), ("value", "f4")])
    own = numpy.array([(n, n / 4) for n in range(3)], dtype)
    array = made(numpy.dtype((numpy.void, dtype.itemsize)), dtype, 5, 3)
    must_be("an array", looks(array), looks(own), numpy)
    must_be("that an array has the very dtype", array.dtype is dtype, True, numpy)
    array[:] = own
    must_be("an array", array.tolist(), own.tolist(), numpy)


def looks(array: Any) -> tuple[object, ...]:
    """An array but for its items, as numpy shows it."""
    flags = array.flags
    shape = array.shape, array.strides, array.itemsize, array.nbytes, str(array.dtype)
    return type(array), shape, array.base is None, flags.owndata, flags.c_contiguous, flags.writeable


def check_scalars(made: Callable[[Any, Any], Any], numpy: Any) -> None:
    """
    Check `data_of_scalar`.

    Parameters
    ----------
    made : callable
        ``made(zeros, own)``: a new scalar of the array `zeros`, to which the value of the array `own` has been written;
        or None.
    numpy : module
    """
    for code in SCALARS:
        own = numpy.array([b"value"] if code[0] == "V" else [3]).astype(code)
        scalar = made(numpy.zeros(1, code), own)
        must_be(f"a scalar of {own.dtype}", (type(scalar), scalar), (type(own[0]), own[0]), numpy)
