"""Text logs line by line: ``.asc``, ``.trc``, ``.csv`` and what candump prints on a screen.

A line of the usual form is read here, into a row, without the message that python-can makes of it. python-can reads
every other line, and the headers; of what it passes over in silence this module keeps count.
"""

import binascii
import datetime
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO

from f1buf.telemetry.sources.can.formats.candump import ID_BITS, Lines, is_error, text_blocks
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames, Row, framed, row_of

if TYPE_CHECKING:
    import can

__all__ = ["asc_frames", "csv_frames", "is_screen", "screen_frames", "trc_frames"]

Usual = Callable[[str], Row | None]
"""Returns what a line of the usual form says, None for another one."""


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    for block in blocks:
        # Comments and the names of months are in whatever encoding the logger used; the frames are ASCII.
        yield from block.decode(errors="replace").split("\n")[:-1]


def _rows(
    source: Iterator[str],
    usual: Usual,
    reader: "Callable[[Any], Iterable[can.Message]]",
    passed_over: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """Read lines as rows; what is not usual by a reader of python-can, which may read on behind it.

    `passed_over` is called with the lines that it makes no frame of.
    """
    lines = Lines(source, passed_over)
    messages = lines.messages(reader)
    for line in source:
        row = usual(line)
        if row is None:
            lines.put_back(line)
            message = next(messages, None)
            if message is None:
                break
            row = row_of(message)
        yield row


_BYTE = re.compile(r"[0-9A-F]{1,2}|[0-9]{3}", re.ASCII | re.IGNORECASE)
_BEHIND_DATA = re.compile(rf"\S|\s+(?:{_BYTE.pattern})(?!\S)", re.ASCII | re.IGNORECASE)
"""What is behind data where its length is another one."""


def _fault(cells: list[str], size: int, data: "bytes | bytearray", hexadecimal: bool = True) -> str | None:
    """Return what is wrong with data that python-can has read: it looks neither at its length nor at half bytes.

    Parameters
    ----------
    cells : list of str
        The words where the data is, and behind it.
    size : int
        How many bytes there are to be.
    """
    if hexadecimal and any(len(cell) < 2 for cell in cells[:size]):
        return "half a byte"
    more = len(cells) > size and _BYTE.fullmatch(cells[size])
    return "absurd length" if more or len(data) != size else None


def _data(line: str, begin: int, size: int) -> bytes | None:
    """Return a frame's bytes, written there as ``00 01 0A`` behind white space; None if they are not."""
    if size == 0:
        return b"" if begin == len(line) else None
    end = begin - 1 + 3 * size
    text = line[begin - 1 : end]
    if not text[::3].isspace() or _BEHIND_DATA.match(line, end):
        return None
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == size else None


# .asc -----------------------------------------------------------------------------------------------------------------

_ASC_FRAME = re.compile(
    r"\s*(-?\d+\.\d+)\s+(\d+)\s+([0-9A-F]{1,8})(x?)\s+[RT]x\s+d\s+([0-8])\s*", re.ASCII | re.IGNORECASE
)
_ASC_BASE = re.compile(r"\s*base\s+(hex|dec)(?:\s+timestamps\s+(absolute|relative))?", re.IGNORECASE)
_ASC_HEADER = re.compile(r"\s*(date\s|base\s|//|$)", re.IGNORECASE)
_ASC_EVENTS = re.compile(r"\s*(no)?\s*internal\s+events\s+logged", re.IGNORECASE)
_ASC_BLOCK = re.compile(r"\s*(begin|end)\s+triggerblock", re.IGNORECASE)
_ASC_TIME = re.compile(r"\s*(-?\d+\.\d+)(?=\s)", re.ASCII)
_ASC_REQUEST = re.compile(r"\s*\S+\s+(?:CANFD\s+)?\d+\s+\S+\s+TxRq\s|\s*\S+\s+CANFD\s+\d+\s+TxRq\s", re.IGNORECASE)
_ASC_QUIET = re.compile(
    r"\s*(?:$|//|date\s|base\s|(?:no\s*)?internal\s+events|\S+\s+Start\s+of\s+measurement\s*$)", re.IGNORECASE
)


class _Asc:
    """An .asc file: what python-can does not do with its lines, and what its header says."""

    def __init__(self, rejected: Counter[str]) -> None:
        self.open = False
        """Whether a block of it has begun and not ended."""
        self._hexadecimal = True
        self._relative = False
        self._rejected = rejected

    def lines(self, source: Iterator[str]) -> Iterator[str]:
        """Yield lines for python-can, times counted from the start.

        python-can takes times for absolute that are counted from the event before; and it drops the line behind the
        header, whatever it is: unless that is the one that says whether internal events were logged.
        """
        for line in source:
            if _ASC_HEADER.match(line):
                if base := _ASC_BASE.match(line):
                    self._hexadecimal = base[1].lower() == "hex"
                    self._relative = (base[2] or "").lower() == "relative"
                if line.strip():
                    yield line
                continue
            if not _ASC_EVENTS.match(line):
                yield "internal events logged"
            rest = itertools.chain([line], source)
            yield from _absolute(rest) if self._relative else rest

    def passed_over(self, line: str) -> None:
        if block := _ASC_BLOCK.match(line):
            self.open = block[1].lower() == "begin"
        elif not _ASC_QUIET.match(line):
            self._rejected["other event" if _ASC_TIME.match(line) else "unreadable line"] += 1

    def usual(self, line: str) -> Row | None:
        found = _ASC_FRAME.match(line)
        if found is None or not self._hexadecimal:
            return None
        time, channel, can_id, extended, size = found.groups()
        data = _data(line, found.end(), int(size))
        if data is None:
            return None
        return float(time), int(can_id, 16), EXTENDED if extended else 0, int(channel), data

    def messages(self, lines: Lines) -> "Iterator[can.Message]":
        import can

        unsigned = _Unsigned(lines)
        for message in can.ASCReader(unsigned):  # type: ignore[arg-type]
            if fault := self._fault((lines.line or "").lstrip().removeprefix("-").split(), message):
                self._rejected[fault] += 1
                lines.line = None  # it is not passed over
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
        return _fault(cells, size, message.data, self._hexadecimal)


def _absolute(source: Iterator[str]) -> Iterator[str]:
    now = Decimal(0)
    for line in source:
        if time := _ASC_TIME.match(line):
            now += Decimal(time[1])
            line = f"{now:f}{line[time.end() :]}"
        yield line


class _Unsigned:
    """Stands in for a file: python-can passes over lines of negative times."""

    def __init__(self, lines: Lines) -> None:
        self.negative = False
        """Whether the time of the last line is."""
        self._lines = lines
        self.close = lines.close

    def __iter__(self) -> "_Unsigned":
        return self

    def __next__(self) -> str:
        line = next(self._lines).lstrip()
        self.negative = line.startswith("-")
        if _ASC_REQUEST.match(line):  # another line follows once it was sent; to python-can both are frames
            return ""
        return line.removeprefix("-")


def asc_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read an .asc log; times [s] count from its start.

    Parameters
    ----------
    file : binary file
        It has `read1`.
    rejected : collections.Counter
        Counts what is left out: see `Frames.of_rows`; "half a byte" (of one hexadecimal digit), "absurd length" also
        where there are not as many bytes as the line says, "other event", and "unreadable line" (that does not even
        begin with a time).
    note : callable
        Called with a line for people if the log has no end.
    """
    asc = _Asc(rejected)
    source = asc.lines(_lines(text_blocks(file)))
    yield from framed(_rows(source, asc.usual, asc.messages, asc.passed_over), rejected)
    if asc.open:
        note("the log's last block has no end: its writer was stopped before that, or it is cut off")


# .trc -----------------------------------------------------------------------------------------------------------------


_TRC_FRAMES = ("", "Rx", "Tx", "DT", "FD", "FB", "FE", "BI", "RR")
"""What says that a line is a frame's; or nothing, as where a line is cut off."""


class _Trc:
    """A .trc file: what its header says. Lines are split as python-can splits them, by far the fastest way."""

    def __init__(self, rejected: Counter[str]) -> None:
        self._rejected = rejected
        self._usual: Usual | None = None
        self._version = ""
        self._start = 0.0
        self._place: dict[str, int] = {}

    def lines(self, source: Iterator[str]) -> Iterator[str]:
        """Yield lines for python-can; of those of the header take note.

        python-can takes the last line of the header, or a blank one behind it, for a frame, where no other follows.
        """
        header = []
        for line in source:
            if not line.strip():
                continue
            key, _, value = line.strip().partition("=")
            if key == ";$FILEVERSION":
                self._version = value
            elif key == ";$STARTTIME":
                start = datetime.datetime(1899, 12, 30, tzinfo=datetime.UTC)
                self._start = (start + datetime.timedelta(days=float(value))).timestamp()
            elif key == ";$COLUMNS":
                self._place = {column: place for place, column in enumerate(value.split(","))}
            header.append(line)
            if not line.lstrip().startswith(";"):
                break
        else:
            return
        if self._version == "1.1" and not self._place:
            self._usual = self._usual_1_1
        elif self._version in ("2.0", "2.1") and {"O", "T", "I"} < set(self._place) and list(self._place)[-1] == "D":
            self._size = self._place.get("l", self._place.get("L", -1))
            self._bus = self._place.get("B")
            self._usual = self._usual_2 if self._size >= 0 else None
        yield from header
        yield from source

    def usual(self, line: str) -> Row | None:
        return None if self._usual is None else self._usual(line)

    def _usual_1_1(self, line: str) -> Row | None:
        cells = line.split()
        try:
            can_id, size = cells[3], int(cells[4])
            data = bytes.fromhex(" ".join(cells[5:]))
            if cells[2] not in ("Rx", "Tx") or len(data) != size or len(cells) != 5 + size:
                return None
            return float(cells[1]) / 1000 + self._start, int(can_id, 16), EXTENDED * (len(can_id) > 4), 1, data
        except (IndexError, ValueError):
            return None

    def _usual_2(self, line: str) -> Row | None:
        place = self._place
        cells = line.split(None, len(place) - 1)
        try:
            if cells[place["T"]] != "DT":
                return None
            can_id, size = cells[place["I"]], int(cells[self._size])
            data = bytes.fromhex(cells[-1]) if size else b""
            if len(data) != size or (size and len(cells) != len(place)):
                return None
            bus = 1 if self._bus is None else int(cells[self._bus])
            time = float(cells[place["O"]]) / 1000 + self._start
            return time, int(can_id, 16), EXTENDED * (len(can_id) > 4), bus, data
        except (IndexError, ValueError):
            return None

    def messages(self, lines: Lines) -> "Iterator[can.Message]":
        import can

        for message in can.TRCReader(lines):  # type: ignore[arg-type]
            if fault := self._fault((lines.line or "").split(), message):
                self._rejected[fault] += 1
                lines.line = None  # it is not passed over
            else:
                yield message

    def _fault(self, words: list[str], message: "can.Message") -> str | None:
        from can.util import dlc2len

        if message.is_remote_frame:
            return None
        if self._version not in ("2.0", "2.1"):
            return _fault(words[{"1.1": 5, "1.3": 7}.get(self._version, 4) :], message.dlc, message.data)
        size = dlc2len(message.dlc) if message.is_fd else min(8, message.dlc)  # python-can has the code for the length
        return _fault(words[self._place["D"] :], size, message.data)

    def passed_over(self, line: str) -> None:
        """Count a line that python-can has made no frame of: it tells of something else, or it is damaged."""
        if not line.strip() or line.lstrip().startswith(";"):
            return
        place = {"1.1": 2, "1.3": 3}.get(self._version, self._place.get("T", 2))
        kind = "".join(line.split()[place : place + 1])
        self._rejected["unreadable line" if kind in _TRC_FRAMES else "other event"] += 1


def trc_frames(file: BinaryIO, rejected: Counter[str]) -> Iterator[Frames]:
    """Read a .trc log; times [s] are Unix time where its header says when it began.

    Parameters
    ----------
    file : binary file
        It has `read1`.
    rejected : collections.Counter
        Counts what is left out: see `asc_frames`; and "unreadable line" (a frame's that is damaged).
    """
    trc = _Trc(rejected)
    source = trc.lines(_lines(text_blocks(file)))
    return framed(_rows(source, trc.usual, trc.messages, trc.passed_over), rejected)


# .csv -----------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\s*-?[0-9]")
_PYTHON_CAN = "timestamp,arbitration_id,"
_SAVVYCAN = "Time Stamp,ID,Extended,"
_CANEDGE = "TimestampEpoch;BusChannel;ID;"


def csv_frames(file: BinaryIO, rejected: Counter[str]) -> Iterator[Frames]:
    """Read a .csv log: of python-can, of SavvyCAN (times [s] since its start), or of the CANedge's converter.

    Raises
    ------
    ValueError
        Its header is none of these, and python-can cannot read it.
    """
    import can

    lines = (line for line in _lines(text_blocks(file)) if line.strip())
    header = next(lines, "")
    if header.startswith(_SAVVYCAN):
        return framed(_table_rows(_Table(header, ",").savvycan, lines), rejected)
    if header.startswith(_CANEDGE):
        return framed(_table_rows(_Table(header, ";").canedge, lines), rejected)

    def messages(rest: Lines) -> "Iterator[can.Message]":
        rest.put_back(_PYTHON_CAN)  # for it the first line that it reads is a header, whatever is there
        for message in can.CSVReader(rest):  # type: ignore[arg-type]
            if not _is_base64(rest.line or ""):  # python-can passes over what is none
                rejected["unreadable line"] += 1
            elif not message.is_remote_frame and len(message.data) != message.dlc:
                rejected["absurd length"] += 1
            else:
                yield message

    source = itertools.chain([header] if _NUMBER.match(header) else [], lines)
    frames = framed(_rows(source, _csv_row, messages), rejected)
    return frames if header.startswith(_PYTHON_CAN) else _doubtful(frames, header)


def _doubtful(frames: Iterator[Frames], header: str) -> Iterator[Frames]:
    try:
        first = next(frames, None)
    except Exception as error:
        known = f"python-can ({_PYTHON_CAN}...), SavvyCAN ({_SAVVYCAN}...) or CANedge ({_CANEDGE}...)"
        raise ValueError(f"its first line is {header[:60]!r}; expected the header of {known}") from error
    if first is not None:
        yield first
    yield from frames


_base64 = functools.partial(binascii.a2b_base64, strict_mode=True)


def _is_base64(line: str) -> bool:
    try:
        _base64(line.rpartition(",")[2].strip())
    except ValueError:
        return False
    return True


def _csv_row(line: str) -> Row | None:
    try:
        time, can_id, extended, remote, error, size, data = line.split(",")
        if remote == "1" or error == "1" or len(payload := _base64(data)) != int(size):
            return None
        return float(time), int(can_id, 16), EXTENDED * (extended == "1"), None, payload
    except ValueError:
        return None


def _table_rows(row: Callable[[str], tuple[Row, int]], lines: Iterator[str]) -> Iterator[Row]:
    """Read what is written in each line, and how many bytes of data are to be there."""
    for line in lines:
        try:
            found, size = row(line)
        except (LookupError, ValueError) as error:
            raise ValueError(f"a row that cannot be read: {line[:100]!r}") from error
        if len(found[-1]) != size:
            raise ValueError(f"{len(found[-1])} bytes of data, expected {size}: {line[:100]!r}")
        yield found


class _Table:
    """A .csv file whose header says which column is what."""

    def __init__(self, header: str, delimiter: str) -> None:
        self._delimiter = delimiter
        self._place = {name.strip(): place for place, name in enumerate(header.split(delimiter))}

    def savvycan(self, line: str) -> tuple[Row, int]:
        """Read a row such as ``166064000,0000021A,false,Rx,0,2,FE,36,``; time is in microseconds."""
        cells, place = line.split(self._delimiter), self._place
        size, first = int(cells[place["LEN"]]), place["D1"]
        kind = EXTENDED * _BOOL[cells[place["Extended"]].strip().lower()]
        data = bytes([int(cell, 16) for cell in cells[first : first + size]])
        time = int(cells[place["Time Stamp"]]) / 1e6
        return (time, int(cells[place["ID"]], 16), kind, cells[place["Bus"]].strip(), data), size

    def canedge(self, line: str) -> tuple[Row, int]:
        """Read a row such as ``1579876676.605300;1;14FF0121;1;8;8;0;0;0;0;0;AFFEFFFF00000000``."""
        cells, place = line.split(self._delimiter), self._place
        kind = EXTENDED * _BOOL[cells[place["IDE"]]]
        if "RTR" in place:
            kind |= REMOTE * _BOOL[cells[place["RTR"]]]
        data = bytes.fromhex(cells[place["DataBytes"]])
        size = len(data)
        if "DataLength" in place and not kind & REMOTE:
            size = int(cells[place["DataLength"]])
        time = float(cells[place["TimestampEpoch"]])
        return (time, int(cells[place["ID"]], 16), kind, cells[place["BusChannel"]], data), size


_BOOL = {"0": False, "1": True, "false": False, "true": True}


# What candump prints on a screen --------------------------------------------------------------------------------------

_SCREEN = re.compile(
    r"\s*(?:\(([^()]*)\)\s+)?(\S+)\s+(?:[RT]X\s+\S\s+\S\s+)?([0-9A-F]{3}|[0-9A-F]{8})\s+\[(\d+)\]"
    r"(?:\s+(remote request)|((?:\s+[0-9A-F]{2}(?!\S))*))\s*(?:$|\'|ERRORFRAME)",
    re.ASCII,
)
_UNIX_TIME = re.compile(r"\d{9,}\.\d+$", re.ASCII)


def is_screen(start: bytes) -> bool:
    """Whether text begins as what candump prints without ``-L``: ``  can0  0D2   [8]  00 00 FF FF 10 00 00 00``."""
    line = start.lstrip().partition(b"\n")[0].decode(errors="replace")
    return _SCREEN.match(line) is not None


def screen_frames(file: BinaryIO, rejected: Counter[str]) -> Iterator[Frames]:
    """Read what candump prints with ``-ta`` (Unix time) or ``-tA`` (a date and local time, read as UTC).

    Raises
    ------
    ValueError
        A line is damaged, or there is no such time on it: the other ones cannot be told apart.
    """

    def row(line: str) -> Row:
        found = _SCREEN.match(line)
        if found is None:
            raise ValueError(f"no line of candump: {line[:100]!r}")
        time, bus, id_text, size, remote, text = found.groups()
        data = bytes.fromhex(text or "")
        if not remote and len(data) != int(size):
            raise ValueError(f"{len(data)} bytes of data, expected {size}: {line[:100]!r}")
        can_id = int(id_text, 16)
        kind = EXTENDED * (len(id_text) > 3) | REMOTE * bool(remote) | ERROR * is_error(can_id)
        return _screen_time(time), can_id & ID_BITS, kind, bus, data

    # What `-e` prints below an error frame begins with a tab.
    lines = (line for line in _lines(text_blocks(file)) if line.strip() and not line.startswith("\t"))
    return framed(map(row, lines), rejected)


def _screen_time(text: str | None) -> float:
    if text is not None and _UNIX_TIME.match(text):
        return float(text)
    if text is not None and "-" in text:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()
    what = "without times" if text is None else f"with times such as ({text}), from the start or from line to line"
    raise ValueError(f"what candump prints on a screen, {what}; record with candump -L (or print with -ta)")
