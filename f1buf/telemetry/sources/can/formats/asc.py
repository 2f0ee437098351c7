"""Vector's text logs (``.asc``); their times [s] count from the log's start."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, BinaryIO

from f1buf.telemetry.sources.can.formats.text import BYTE, Lines, data_fault, lines, rows
from f1buf.telemetry.sources.can.frames import EXTENDED, Frames, Row, framed

if TYPE_CHECKING:
    import can

__all__ = ["asc_frames"]

_ANY_CASE = re.IGNORECASE
_FRAME = re.compile(r"\s*(-?\d+\.\d+)\s+(\d+)\s+([0-9A-F]{1,8})(x?)\s+[RT]x\s+d\s+([0-8])\s*", re.ASCII | _ANY_CASE)
_OTHER_LENGTH = re.compile(rf"\S|\s+(?:{BYTE.pattern})(?!\S)", re.ASCII | _ANY_CASE)  # behind the data: they go on
_BASE = re.compile(r"\s*base\s+(hex|dec)(?:\s+timestamps\s+(absolute|relative))?", _ANY_CASE)
_HEADER = re.compile(r"\s*(date\s|base\s|//|$)", _ANY_CASE)
_EVENTS = re.compile(r"\s*(no)?\s*internal\s+events\s+logged", _ANY_CASE)
_BLOCK = re.compile(r"\s*(begin|end)\s+triggerblock", _ANY_CASE)
_TIME = re.compile(r"\s*(-?\d+\.\d+)(?=\s)", re.ASCII)
_REQUEST = re.compile(r"\s*\S+\s+(?:CANFD\s+)?\d+\s+\S+\s+TxRq\s|\s*\S+\s+CANFD\s+\d+\s+TxRq\s", _ANY_CASE)
_NO_EVENT = re.compile(
    r"\s*(?:$|//|date\s|base\s|(?:no\s*)?internal\s+events|\S+\s+Start\s+of\s+measurement\s*$)", _ANY_CASE
)


def asc_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read an .asc log; "unreadable line" is one that does not begin with a time."""
    log = _Log(rejected)
    source = log.lines(lines(file))
    yield from framed(rows(source, log.usual, log.messages, log.passed_over), rejected)
    if log.open:
        note("the log's last block has no end: its writer was stopped before that, or it is cut off")


class _Log:
    """What the header says, and what python-can leaves to be done."""

    def __init__(self, rejected: Counter[str]) -> None:
        self.open = False  # whether a block has begun and not ended
        self._hexadecimal = True
        self._relative = False
        self._rejected = rejected

    def lines(self, source: Iterator[str]) -> Iterator[str]:
        """Yield lines for python-can, their times counted from the start.

        python-can takes times that count from the event before for absolute ones. And it drops the line behind the
        header, unless that says whether internal events were logged: so one that says it is put there.
        """
        for line in source:
            if _HEADER.match(line):
                if base := _BASE.match(line):
                    self._hexadecimal = base[1].lower() == "hex"
                    self._relative = (base[2] or "").lower() == "relative"
                if line.strip():
                    yield line
                continue
            if not _EVENTS.match(line):
                yield "internal events logged"
            rest = itertools.chain([line], source)
            yield from _absolute(rest) if self._relative else rest

    def passed_over(self, line: str) -> None:
        if block := _BLOCK.match(line):
            self.open = block[1].lower() == "begin"
        elif not _NO_EVENT.match(line):
            self._rejected["other event" if _TIME.match(line) else "unreadable line"] += 1

    def usual(self, line: str) -> Row | None:
        found = _FRAME.match(line)
        if found is None or not self._hexadecimal:
            return None
        time, channel, can_id, extended, size = found.groups()
        data = _data(line, found.end(), int(size))
        if data is None:
            return None
        return float(time), int(can_id, 16), EXTENDED if extended else 0, int(channel), data

    def messages(self, given: Lines) -> "Iterator[can.Message]":
        import can

        unsigned = _Unsigned(given)
        for message in can.ASCReader(unsigned):  # type: ignore[arg-type]
            if fault := self._fault((given.line or "").lstrip().removeprefix("-").split(), message):
                self._rejected[fault] += 1
                given.line = None  # so that it is not passed over, too
                continue
            if unsigned.negative:
                message.timestamp = -message.timestamp
            message.channel += 1  # type: ignore[operator]  # python-can takes one off; people know the file's number
            yield message

    def _fault(self, words: list[str], message: "can.Message") -> str | None:
        if message.is_remote_frame or message.is_error_frame:
            return None
        size = message.dlc
        if message.is_fd:  # behind time, CANFD, channel, direction, id, mostly a name, and four numbers; before others
            begin = 9 if words[5].isdigit() else 10
            cells = words[begin : begin + size]
        else:
            size, cells = min(8, size), words[6:]
        return data_fault(cells, size, message.data, self._hexadecimal)


def _absolute(source: Iterator[str]) -> Iterator[str]:
    now = Decimal(0)
    for line in source:
        if time := _TIME.match(line):
            now += Decimal(time[1])
            line = f"{now:f}{line[time.end() :]}"
        yield line


def _data(line: str, begin: int, size: int) -> bytes | None:
    """Return the bytes that are written there as ``00 01 0A`` behind white space; None if there are others."""
    if size == 0:
        return b"" if begin == len(line) else None
    end = begin - 1 + 3 * size
    text = line[begin - 1 : end]
    if not text[::3].isspace() or _OTHER_LENGTH.match(line, end):
        return None
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == size else None


class _Unsigned:
    """Stands in for a file: python-can passes over lines with negative times, so it gets these without their sign."""

    def __init__(self, given: Lines) -> None:
        self.negative = False  # whether the last line's time is
        self._given = given
        self.close = given.close

    def __iter__(self) -> "_Unsigned":
        return self

    def __next__(self) -> str:
        line = next(self._given).lstrip()
        self.negative = line.startswith("-")
        if _REQUEST.match(line):  # another line follows once it was sent; to python-can both are frames
            return ""
        return line.removeprefix("-")
