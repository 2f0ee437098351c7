"""Text logs by the block: whole lines, and those of ``candump -L`` as arrays, without a Python object for each.

A line of the usual form (`_usual`) is read by numpy. Every other line, such as one of CAN FD, a remote frame, a damaged
one, is read by python-can, which also says what is wrong with it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.can_frames import ERROR, EXTENDED, Frames, Row, is_sound, row_of

if TYPE_CHECKING:
    import can

__all__ = ["ID_BITS", "Lines", "candump_frames", "is_error", "text_blocks"]

Array = NDArray[Any]

_BLOCK = 1 << 18  # bytes: some thousand lines, that stay in a core's cache
_LONGEST_LINE = 1 << 20  # bytes; frames need less than 300
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_blocks(file: BinaryIO) -> Iterator[bytes]:
    r"""Read a file as blocks of whole lines, each ended by "\n"; "\r" and "\r\n" end lines, too.

    Where the file cannot be read on (compressed data that is cut off), the lines before are yielded first.

    Raises
    ------
    ValueError
        A line is longer than any of a log.
    """
    held, failure, ended = b"", None, False
    first = True
    while not ended and failure is None:
        pieces = [held]
        left = _BLOCK
        try:
            # Not `read`: what it has got so far it forgets when the file turns out to be cut off.
            while left > 0 and not ended:
                pieces.append(file.read1(left))  # type: ignore[attr-defined]
                left -= len(pieces[-1])
                ended = not pieces[-1]
        except Exception as error:
            failure = error
        data = b"".join(pieces)
        if ended:
            whole, held = data if data.endswith((b"\n", b"\r")) or not data else data + b"\n", b""
        else:
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1  # a "\r" at the end may be half a line end
            whole, held = data[:end], data[end:]
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if first and whole:
            whole, first = whole.removeprefix(_BYTE_ORDER_MARK), False
        if whole:
            yield whole
        if len(held) > _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE:,} bytes; expected lines of text")
    if failure is not None:
        raise failure


def candump_frames(file: BinaryIO, rejected: Counter[str]) -> Iterator[Frames]:
    """Read a log of ``candump -L`` as frames, in its order.

    Parameters
    ----------
    file : binary file
        It has `read1`.
    rejected : collections.Counter
        Counts frames that are left out: see `Frames.of_rows`; and "half a byte" (an odd number of hexadecimal digits).

    Raises
    ------
    ValueError
        python-can cannot read a line; the frames before it were yielded.
    """
    for block in text_blocks(file):
        frames, numbers = _usual(block)
        failure = None
        if len(frames) < (count := block.count(b"\n")):
            others = np.ones(count, bool)
            others[numbers] = False
            lines = block.split(b"\n")
            left = [number for number in np.flatnonzero(others).tolist() if lines[number]]
            unusual, places, failure = _unusual([lines[n].decode(errors="replace") for n in left], left, rejected)
            if failure is not None:
                frames = frames[: np.searchsorted(numbers, failure.number)]
            if len(unusual):
                order = np.argsort(np.concatenate([numbers[: len(frames)], places]), kind="stable")
                frames = Frames.joined([frames, unusual])[order]
        yield frames
        if failure is not None:
            raise failure.error


# Usual lines ----------------------------------------------------------------------------------------------------------

# "(1631416514.717133) can0 0D2#0000FFFF10000000": what stands between a usual line's parts, and at its end.
_DOT, _SPACE, _HASH, _NEWLINE = b". #\n"
_SEPARATES = np.ones(256, bool)  # what has no place in a usual line counts, too: so the line is not usual
_SEPARATES[0x21:0x7F] = False
_SEPARATES[[_DOT, _HASH]] = True

_NO_DIGIT = 0xF0  # bits that no digit's value has
_DECIMAL = np.full(256, 0xFF, np.uint8)
_DECIMAL[ord("0") : ord("9") + 1] = range(10)
_HEX = _DECIMAL.copy()
_HEX[ord("A") : ord("F") + 1] = _HEX[ord("a") : ord("f") + 1] = range(10, 16)

_WIDTH = 16  # bytes: no part of a usual line is longer
_MARGIN = b"0" * _WIDTH  # around a block, so that as many bytes can be taken from everywhere
_FIRST = np.tri(_WIDTH + 1, _WIDTH, -1, np.uint8) * np.uint8(0xFF)  # row n keeps n bytes, the first ones
_LAST = np.ascontiguousarray(_FIRST[:, ::-1])
_POWERS = 100.0 ** np.arange(_WIDTH // 2 - 1, -1, -1)
_MOST_DECIMALS = 9
_SCALE = 10 ** np.arange(_MOST_DECIMALS + 1, dtype=np.int64)
_EXACT = 1 << 53  # integers up to it are exact as float64: so their quotient is rounded once, as float(text) is
_ERROR_FLAG, ID_BITS = 0x2000_0000, 0x1FFF_FFFF
_MOST_BUSES = 64  # in a block; of more python-can reads the names


_DIRECTION = np.zeros(256, bool)
_DIRECTION[list(b"RTrt")] = True


def _usual(block: bytes) -> tuple[Frames, Array]:
    """Return the frames of a block's usual lines, and for each of them its line's number in the block."""
    raw = np.frombuffer(b"".join((_MARGIN, b"\n", block, _MARGIN)), np.uint8)
    lines, places = _well_formed(raw)
    begin, dot, space, other, sign, end = places
    decimals, digits = space - dot - 2, sign - other - 1
    seconds, good = _number(*_before(raw, dot, dot - begin - 2))
    fraction, also = _number(*_before(raw, space - 1, decimals))
    scale = _SCALE[decimals]
    ticks = seconds * scale + fraction
    good &= also & (ticks < _EXACT)
    can_id, also = _bytes(*_before(raw, sign, digits))
    good &= also
    can_id = can_id[:, 4:].copy().view(">u4").ravel().astype(np.uint32)
    data, also = _bytes(*_behind(raw, sign, end - sign - 1))
    good &= also
    names, keep = _behind(raw, space, other - space - 1)
    bus, buses, also = _buses(names & keep)
    good &= also
    kind = np.where(digits > 3, EXTENDED, 0) | np.where(can_id & np.uint32(_ERROR_FLAG), ERROR, 0)
    length = ((end - sign - 1) // 2).astype(np.uint8)
    frames = Frames(ticks / scale, can_id & np.uint32(ID_BITS), kind.astype(np.uint8), bus, length, data, buses)
    return (frames, lines) if good.all() else (frames[good], lines[good])


def _well_formed(raw: Array) -> tuple[Array, Array]:
    """Return which lines have the parts of a usual one, and where what separates them is, shape (6, n).

    That is: the end of the line before, ".", " ", " ", "#", and the end (or the space before the direction).
    """
    places = np.flatnonzero(_SEPARATES[raw])
    found = raw[places]
    newlines = np.flatnonzero(found == _NEWLINE)
    parts = np.diff(newlines)
    lines = np.flatnonzero((parts == 5) | (parts == 6))  # six: with the direction behind it, " R" or " T"
    at = newlines[lines] + np.arange(6)[:, None]
    cuts = places[at]
    begin, dot, space, other, sign, end = cuts
    line_end = places[newlines[lines + 1]]
    good = (end == line_end) | ((end == line_end - 2) & (found[at[5]] == _SPACE) & _DIRECTION[raw[line_end - 1]])
    good &= (found[at[1:5]] == np.array([[_DOT], [_SPACE], [_SPACE], [_HASH]])).all(axis=0)
    good &= (raw[begin + 1] == ord("(")) & (raw[space - 1] == ord(")"))
    for size, least, most in (
        (dot - begin - 2, 1, _WIDTH),  # digits of whole seconds
        (space - dot - 2, 0, _MOST_DECIMALS),
        (space - begin - 4, 1, _WIDTH),  # both: so that together they fit an int64
        (other - space - 1, 1, _WIDTH),  # the bus
        (sign - other - 1, 1, 8),  # digits of the id
        (end - sign - 1, 0, _WIDTH),  # and of the data
    ):
        good &= (size >= least) & (size <= most)
    good &= (end - sign) % 2 == 1
    return (lines, cuts) if good.all() else (lines[good], cuts[:, good])


def _before(raw: Array, end: Array, size: Array) -> tuple[Array, Array]:
    """Return the bytes before these places, shape (n, 16), and a mask of the `size` last ones of each row."""
    return _taken(raw, end - _WIDTH), _LAST[size]


def _behind(raw: Array, begin: Array, size: Array) -> tuple[Array, Array]:
    """Return the bytes behind the one at these places, and a mask of the `size` first ones of each row."""
    return _taken(raw, begin + 1), _FIRST[size]


def _taken(raw: Array, begin: Array) -> Array:
    # One copy of 16 bytes a row: several times as fast as an index for each byte.
    everywhere = np.ndarray(len(raw) - _WIDTH + 1, f"V{_WIDTH}", raw, strides=(1,))
    return everywhere[begin].view(np.uint8).reshape(-1, _WIDTH)


def _number(text: Array, keep: Array) -> tuple[Array, Array]:
    """Return what rows of decimal digits say, int64, and whether they are digits; of each row only `keep` counts."""
    digits = _DECIMAL[text] & keep
    pairs = digits[:, ::2] * np.uint8(10) + digits[:, 1::2]
    return (pairs @ _POWERS).astype(np.int64), _are_digits(digits)


def _bytes(text: Array, keep: Array) -> tuple[Array, Array]:
    """Return rows of hexadecimal digits as bytes, shape (n, 8), and whether they are digits."""
    digits = _HEX[text] & keep
    return digits[:, ::2] << 4 | digits[:, 1::2], _are_digits(digits)


def _are_digits(values: Array) -> Array:
    wrong: Array = (values & _NO_DIGIT).view(np.uint64)
    right: Array = (wrong[:, 0] | wrong[:, 1]) == 0
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


class Lines:
    """
    Stands in for a file from which python-can reads lines of text; tells which one it reads, and where it goes round.

    Parameters
    ----------
    source : iterator of str
        The lines, without their ends.
    passed_over : callable, optional
        Called with each line that python-can made no frame of.
    """

    def __init__(self, source: Iterator[str], passed_over: Callable[[str], None] = lambda line: None) -> None:
        self.count = 0
        """Of lines read so far."""
        self.line: str | None = None
        """The last one."""
        self._source = source
        self._passed_over = passed_over
        self._back: list[str] = []

    def messages(self, reader: "Callable[[Any], Iterable[can.Message]]") -> "Iterator[can.Message]":
        """Yield what a reader of python-can reads, of each line one message at most.

        Raises
        ------
        ValueError
            It makes messages without reading on.
        """
        for message in reader(self):
            if self.line is None or self._back:
                raise ValueError("python-can's reader repeats itself: more than one frame of one line")
            self.line = None
            yield message

    def put_back(self, line: str) -> None:
        self._back.append(line)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if self.line is not None:
            self._passed_over(self.line)
            self.line = None
        self.line = self._back.pop() if self._back else next(self._source)
        self.count += 1
        return self.line

    def close(self) -> None:
        """Nothing is open."""


def is_error(can_id: int) -> bool:
    """Whether an id as Linux writes it, with its flags, is that of an error frame, of whatever class."""
    return bool(can_id & _ERROR_FLAG)


@dataclass(frozen=True)
class _Failure:
    number: int
    """The line's."""
    error: Exception


def _unusual(lines: list[str], numbers: list[int], rejected: Counter[str]) -> tuple[Frames, Array, _Failure | None]:
    """Return the frames that python-can reads in lines, the line's number for each of them, and how it failed."""
    import can

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
        number, line = numbers[given.count - 1], lines[given.count - 1]
        failure = _Failure(number, ValueError(f"{error}: {line[:80]!r}; expected lines of candump -L"))
    return Frames.of_rows(rows, rejected), np.array(found, np.intp), failure


def _checked(row: Row, line: str, rejected: Counter[str]) -> Row | None:
    """Return the row for a line with what python-can does not look at put right; None if it is none."""
    timestamp, can_id, kind, bus, data = row
    id_text, _, rest = line.split()[2].partition("#")
    if is_error(int(id_text, 16)):  # python-can knows one class of errors by its bits
        return (timestamp, can_id, kind | ERROR | EXTENDED, bus, data) if is_sound(row, rejected) else None
    digits = len(rest.removeprefix("#")) - rest.startswith("#")  # of CAN FD flags are before the data
    if data and digits % 2:
        rejected["half a byte"] += 1
        return None
    return row if is_sound(row, rejected) else None
