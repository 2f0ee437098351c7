"""Logs of ``candump -L`` (``.log``): usual lines as arrays, block by block, without a Python object for each line.

Every other line, such as one of a remote frame, or a damaged one, is read by python-can, which also says what is wrong
with it.
"""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.can.formats.text import Lines, text_blocks
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, Frames, Row, is_sound, row_of

__all__ = ["ID_BITS", "candump_frames", "is_error"]

Array = NDArray[Any]


def candump_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read a log of ``candump -L``."""
    for block in text_blocks(file):
        raw = np.frombuffer(b"".join((_MARGIN, b"\n", block, _MARGIN)), np.uint8)
        parts = [_usual(raw, fd=False)]
        failure = None
        if len(parts[0][1]) < (count := block.count(b"\n")):
            parts.append(_usual(raw, fd=True))
            others = np.ones(count, bool)
            others[np.concatenate([numbers for _, numbers in parts])] = False
            if others.any():
                unusual, failure = _unusual(block.split(b"\n"), np.flatnonzero(others).tolist(), rejected)
                parts.append(unusual)
        yield _in_order(parts, count if failure is None else failure.number)
        if failure is not None:
            raise failure.error


def _in_order(parts: list[tuple[Frames, Array]], end: int) -> Frames:
    """Return the frames of all parts up to a line, each part being frames and the numbers of their lines."""
    parts = [(frames[: (n := int(np.searchsorted(numbers, end)))], numbers[:n]) for frames, numbers in parts]
    parts = [part for part in parts if len(part[1])]
    if len(parts) == 1:
        return parts[0][0]
    order = np.argsort(np.concatenate([np.empty(0, np.intp), *(numbers for _, numbers in parts)]), kind="stable")
    return Frames.joined([frames for frames, _ in parts])[order]


# Usual lines ----------------------------------------------------------------------------------------------------------

# "(1631416514.717133) can0 0D2#0000FFFF10000000", or of CAN FD, with a digit of flags: "(1.5) can0 0D2##10000FFFF".
_DOT, _SPACE, _HASH, _NEWLINE = b". #\n"  # between a usual line's parts, and at its end
_SEPARATES = np.ones(256, bool)  # what has no place in a usual line separates, too: so the line is not usual
_SEPARATES[0x21:0x7F] = False
_SEPARATES[[_DOT, _HASH]] = True

_NO_DIGIT = 0xF0  # bits that no digit's value has
_DECIMAL = np.full(256, 0xFF, np.uint8)
_DECIMAL[ord("0") : ord("9") + 1] = range(10)
_HEX = _DECIMAL.copy()
_HEX[ord("A") : ord("F") + 1] = _HEX[ord("a") : ord("f") + 1] = range(10, 16)

_WIDTH, _FD_WIDTH = 16, 128  # bytes: no part of a usual line is longer; nor the data of one of CAN FD
_MARGIN = b"0" * _FD_WIDTH  # around a block, so that as many bytes can be taken from everywhere
# Row n keeps n bytes, the first or the last ones.
_FIRST, _FD_FIRST = (np.tri(width + 1, width, -1, np.uint8) * np.uint8(0xFF) for width in (_WIDTH, _FD_WIDTH))
_LAST = np.ascontiguousarray(_FIRST[:, ::-1])
_POWERS = 100.0 ** np.arange(_WIDTH // 2 - 1, -1, -1)
_MOST_DECIMALS = 9
_SCALE = 10 ** np.arange(_MOST_DECIMALS + 1, dtype=np.int64)
_EXACT = 1 << 53  # integers up to it are exact as float64: so their quotient is rounded once, as float(text) is
_ERROR_FLAG, ID_BITS = 0x2000_0000, 0x1FFF_FFFF
_MOST_BUSES = 64  # in a block; where there are more python-can reads the lines of the others
_DIRECTION = np.zeros(256, bool)
_DIRECTION[list(b"RTrt")] = True


def _usual(raw: Array, fd: bool) -> tuple[Frames, Array]:
    """Return the frames of a block's usual lines, of CAN FD or not, and the number of each one's line in the block.

    Parameters
    ----------
    raw : numpy.ndarray of uint8
        The margin, the end of the line before, the block, and the margin again.
    """
    lines, cuts = _well_formed(raw, fd)
    begin, dot, space, other, sign, before_data, end = cuts
    decimals, digits, data_digits = space - dot - 2, sign - other - 1, end - before_data - 1
    seconds, good = _number(_taken(raw, dot - _WIDTH), _LAST[dot - begin - 2])
    fraction, also = _number(_taken(raw, space - 1 - _WIDTH), _LAST[decimals])
    scale = _SCALE[decimals]
    ticks = seconds * scale + fraction
    good &= also & (ticks < _EXACT)
    can_id, also = _bytes(_taken(raw, sign - _WIDTH), _LAST[digits])
    good &= also
    can_id = can_id[:, 4:].copy().view(">u4").ravel().astype(np.uint32)
    if fd:
        data, also = _bytes(_taken(raw, before_data + 1, _FD_WIDTH), _FD_FIRST[data_digits])
    else:
        data, also = _bytes(_taken(raw, before_data + 1), _FIRST[data_digits])
    good &= also
    bus, buses, also = _buses(_taken(raw, space + 1) & _FIRST[other - space - 1])
    good &= also
    kind = np.where(digits > 3, EXTENDED, 0) | np.where(can_id & np.uint32(_ERROR_FLAG), ERROR, 0)
    length = (data_digits // 2).astype(np.uint8)
    frames = Frames(ticks / scale, can_id & np.uint32(ID_BITS), kind.astype(np.uint8), bus, length, data, buses)
    return (frames, lines) if good.all() else (frames[good], lines[good])


def _well_formed(raw: Array, fd: bool) -> tuple[Array, Array]:
    """Return which lines have the parts of a usual one, and where these are, shape (7, n).

    That is where in `raw` there is: the end of the line before, ".", " ", " ", "#", what is right before the data, and
    the data's end.
    """
    places = np.flatnonzero(_SEPARATES[raw])
    found = raw[places]
    newlines = np.flatnonzero(found == _NEWLINE)
    parts = np.diff(newlines)
    last = 6 if fd else 5
    lines = np.flatnonzero((parts == last) | (parts == last + 1))  # one more: the direction behind it, " R" or " T"
    at = newlines[lines] + np.arange(last + 1)[:, None]
    begin, dot, space, other, sign, *_, end = places[at]
    before_data = sign + 2 if fd else sign
    line_end = places[newlines[lines + 1]]
    good = (end == line_end) | ((end == line_end - 2) & (found[at[last]] == _SPACE) & _DIRECTION[raw[line_end - 1]])
    for i, separator in ((1, _DOT), (2, _SPACE), (3, _SPACE), (4, _HASH)):
        good &= found[at[i]] == separator
    good &= (raw[begin + 1] == ord("(")) & (raw[space - 1] == ord(")"))
    if fd:
        good &= (raw[sign + 1] == _HASH) & (_DECIMAL[raw[before_data]] <= 9)
    for size, least, most in (
        (dot - begin - 2, 1, _WIDTH),  # digits of whole seconds
        (space - dot - 2, 0, _MOST_DECIMALS),
        (space - begin - 4, 1, _WIDTH),  # both: so that together they fit an int64
        (other - space - 1, 1, _WIDTH),  # the bus
        (sign - other - 1, 1, 8),  # digits of the id
        (end - before_data - 1, 0, _FD_WIDTH if fd else _WIDTH),  # and of the data
    ):
        good &= (size >= least) & (size <= most)
    good &= (end - before_data) % 2 == 1
    cuts = np.stack([begin, dot, space, other, sign, before_data, end])
    return (lines, cuts) if good.all() else (lines[good], cuts[:, good])


def _taken(raw: Array, begin: Array, width: int = _WIDTH) -> Array:
    """Return the bytes from these places on, shape (n, width)."""
    # One copy of so many bytes a row: several times as fast as an index for each byte.
    everywhere = np.ndarray(len(raw) - width + 1, f"V{width}", raw, strides=(1,))
    return everywhere[begin].view(np.uint8).reshape(-1, width)


def _number(text: Array, keep: Array) -> tuple[Array, Array]:
    """Return what rows of decimal digits say, int64, and whether they are digits; of each row only `keep` counts."""
    digits = _DECIMAL[text] & keep
    pairs = digits[:, ::2] * np.uint8(10) + digits[:, 1::2]
    return (pairs @ _POWERS).astype(np.int64), _are_digits(digits)


def _bytes(text: Array, keep: Array) -> tuple[Array, Array]:
    """Return rows of hexadecimal digits as bytes, two each, and whether they are digits."""
    digits = _HEX[text] & keep
    return digits[:, ::2] << 4 | digits[:, 1::2], _are_digits(digits)


def _are_digits(values: Array) -> Array:
    eights = (values & _NO_DIGIT).view(np.uint64).T
    right: Array = functools.reduce(np.bitwise_or, eights) == 0
    return right


def _buses(names: Array) -> tuple[Array, tuple[str, ...], Array]:
    """Return which bus each row names, the buses, and whether it is one of these.

    Parameters
    ----------
    names : numpy.ndarray of uint8, shape (n, 16)
        ASCII, filled up with zeros.
    """
    halves = names.view(np.uint64)
    bus = np.zeros(len(names), np.uint16)
    left = np.ones(len(names), bool)
    buses: dict[str, int] = {}
    for _ in range(_MOST_BUSES):
        if not left.any():
            break
        row = int(left.argmax())
        same = left & (halves[:, 0] == halves[row, 0]) & (halves[:, 1] == halves[row, 1])
        name = bytes(names[row]).rstrip(b"\0").decode("ascii")
        bus[same] = buses.setdefault(str(int(name)) if name.isdigit() else name, len(buses))
        left &= ~same
    return bus, tuple(buses), ~left


# The others -----------------------------------------------------------------------------------------------------------


_RAW_DLC = re.compile(r"(#(?:[0-9A-F]{16}|R8))_[9A-F](?!\S)", re.IGNORECASE)
"""What `candump -8` writes behind 8 bytes: the length that the frame gave, which has no meaning beyond 8."""
_HEX_DIGITS = frozenset(string.hexdigits)


def is_error(can_id: int) -> bool:
    """Say whether an id as Linux writes it, with its flags, is that of an error frame, of whatever class."""
    return bool(can_id & _ERROR_FLAG)


class _Failure(NamedTuple):
    number: int  # the line's
    error: Exception


def _unusual(
    block: list[bytes], numbers: list[int], rejected: Counter[str]
) -> tuple[tuple[Frames, Array], _Failure | None]:
    """Return the frames that python-can reads in the lines of these numbers, their lines' numbers, and a failure."""
    import can

    numbers = [number for number in numbers if block[number]]
    lines = [_RAW_DLC.sub(r"\1", block[number].decode(errors="replace")) for number in numbers]
    given = Lines(iter(lines))
    rows: list[Row] = []
    found: list[int] = []
    failure = None
    try:
        for message in given.messages(can.CanutilsLogReader):
            row = _checked(row_of(message), lines[given.count - 1], rejected)
            if row is not None:
                rows.append(row)
                found.append(numbers[given.count - 1])
    except Exception as error:  # a line that makes no sense fails in many ways
        place = max(0, given.count - 1)
        number, quoted = numbers[place], f": {lines[place][:80]!r}"
        quoted = "" if str(error).endswith(quoted) else quoted
        failure = _Failure(number, ValueError(f"{error}{quoted}; expected lines of candump -L"))
    return (Frames.of_rows(rows, rejected), np.array(found, np.intp)), failure


def _checked(row: Row, line: str, rejected: Counter[str]) -> Row | None:
    """Return what python-can has read of a line, put right where python-can does not look; None if it is no frame."""
    timestamp, can_id, kind, bus, data = row
    id_text, _, rest = line.split()[2].partition("#")
    if is_error(int(id_text, 16)):  # python-can knows one class of errors alone
        return (timestamp, can_id, kind | ERROR | EXTENDED, bus, data) if is_sound(row, rejected) else None
    digits = rest[2:] if rest.startswith("#") else rest  # of CAN FD: flags come before the data
    if data and not _HEX_DIGITS.issuperset(digits) and not rest.startswith(("R", "r")):
        raise ValueError("data that is not hexadecimal")  # int("-0", 16) is a number for Python
    if data and len(digits) % 2:
        rejected["half a byte"] += 1
        return None
    return row if is_sound(row, rejected) else None
