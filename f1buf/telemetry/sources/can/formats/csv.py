"""Tables of frames (``.csv``): python-can's, SavvyCAN's, and those of the CANedge's converter."""

import binascii
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from f1buf.telemetry.sources.can.formats.text import Lines, lines, rows
from f1buf.telemetry.sources.can.frames import EXTENDED, REMOTE, Frames, Row, framed

if TYPE_CHECKING:
    import can

__all__ = ["csv_frames"]

_NUMBER = re.compile(r"\s*-?[0-9]")
_PYTHON_CAN = "timestamp,arbitration_id,"
_SAVVYCAN = "Time Stamp,ID,Extended,"
_CANEDGE = "TimestampEpoch;BusChannel;ID;"


def csv_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read a .csv log; one with another header must be such that python-can can read it."""
    import can

    source = (line for line in lines(file) if line.strip())
    header = next(source, "")
    if header.startswith(_SAVVYCAN):
        return framed(_table_rows(_Table(header, ",").savvycan, source), rejected)
    if header.startswith(_CANEDGE):
        return framed(_table_rows(_Table(header, ";").canedge, source), rejected)

    def messages(rest: Lines) -> "Iterator[can.Message]":
        rest.put_back(_PYTHON_CAN)  # python-can takes the first line that it reads for a header, whatever is there
        for message in can.CSVReader(rest):  # type: ignore[arg-type]
            if not _is_base64(rest.line or ""):  # python-can leaves out what is not
                rejected["unreadable line"] += 1
            elif not message.is_remote_frame and len(message.data) != message.dlc:
                rejected["absurd length"] += 1
            else:
                yield message

    every = itertools.chain([header] if _NUMBER.match(header) else [], source)
    frames = framed(rows(every, _csv_row, messages), rejected)
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


def _table_rows(row: Callable[[str], tuple[Row, int]], source: Iterator[str]) -> Iterator[Row]:
    """Read lines by a function that returns a line's row, and how many bytes of data it must have."""
    for line in source:
        try:
            found, size = row(line)
        except (LookupError, ValueError) as error:
            raise ValueError(f"a row that cannot be read: {line[:100]!r}") from error
        if len(found[-1]) != size:
            raise ValueError(f"{len(found[-1])} bytes of data, expected {size}: {line[:100]!r}")
        yield found


class _Table:
    """A table whose header says what each column is. Times of SavvyCAN [s] count from the log's start."""

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
