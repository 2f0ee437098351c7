"""PEAK's text logs (``.trc``); their times [s] are Unix time where the header says when the log began."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from f1buf.telemetry.sources.can.formats.text import Lines, data_fault, lines, rows
from f1buf.telemetry.sources.can.frames import EXTENDED, Frames, Row, framed

if TYPE_CHECKING:
    import can

__all__ = ["trc_frames"]

_OF_FRAMES = ("", "Rx", "Tx", "DT", "FD", "FB", "FE", "BI", "RR")
"""The types of lines that hold a frame; none, where a line is cut off."""


def trc_frames(file: BinaryIO, rejected: Counter[str], note: Callable[[str], None]) -> Iterator[Frames]:
    """Read a .trc log; "unreadable line" is a damaged one of a frame."""
    log = _Log(rejected)
    return framed(rows(log.lines(lines(file)), log.usual, log.messages, log.passed_over), rejected)


class _Log:
    """What the header says. Lines are split as python-can splits them, by far the fastest way."""

    def __init__(self, rejected: Counter[str]) -> None:
        self._usual: Callable[[str], Row | None] = lambda line: None
        self._rejected = rejected
        self._version = ""
        self._start = 0.0
        self._place: dict[str, int] = {}

    def lines(self, source: Iterator[str]) -> Iterator[str]:
        """Take note of the header; yield lines for python-can.

        Without a frame there is none: python-can would take the header's last line, or a blank one behind it, for one.
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
            if self._size >= 0:
                self._usual = self._usual_2
        yield from header
        yield from source

    def usual(self, line: str) -> Row | None:
        return self._usual(line)

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

    def messages(self, given: Lines) -> "Iterator[can.Message]":
        import can

        for message in can.TRCReader(given):  # type: ignore[arg-type]
            if fault := self._fault((given.line or "").split(), message):
                self._rejected[fault] += 1
                given.line = None  # so that it is not passed over, too
            else:
                yield message

    def _fault(self, words: list[str], message: "can.Message") -> str | None:
        from can.util import dlc2len

        if message.is_remote_frame:
            return None
        if self._version not in ("2.0", "2.1"):
            return data_fault(words[{"1.1": 5, "1.3": 7}.get(self._version, 4) :], message.dlc, message.data)
        size = dlc2len(message.dlc) if message.is_fd else min(8, message.dlc)  # python-can has the code for the length
        return data_fault(words[self._place["D"] :], size, message.data)

    def passed_over(self, line: str) -> None:
        if not line.strip() or line.lstrip().startswith(";"):
            return
        place = {"1.1": 2, "1.3": 3}.get(self._version, self._place.get("T", 2))
        kind = "".join(line.split()[place : place + 1])
        self._rejected["unreadable line" if kind in _OF_FRAMES else "other event"] += 1
