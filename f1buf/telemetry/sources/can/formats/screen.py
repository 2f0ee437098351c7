"""What candump prints on a screen, with ``-ta`` (Unix time) or ``-tA`` (a date and local time, read as UTC).

Times from the start and from line to line look alike, so a log with these is refused.
"""

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from f1buf.telemetry.sources.can.formats.candump import ID_BITS, is_error
from f1buf.telemetry.sources.can.formats.text import lines
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames, Row, framed

__all__ = ["is_screen", "screen_frames"]

_LINE = re.compile(
    r"\s*(?:\(([^()]*)\)\s+)?(\S+)\s+(?:[RT]X\s+\S\s+\S\s+)?([0-9A-F]{3}|[0-9A-F]{8})\s+\[(\d+)\]"
    r"(?:\s+(remote request)|((?:\s+[0-9A-F]{2}(?!\S))*))\s*(?:$|\'|ERRORFRAME)",
    re.ASCII,
)
_UNIX_TIME = re.compile(r"\d{9,}\.\d+$", re.ASCII)


def is_screen(start: bytes) -> bool:
    """Say whether text begins as candump prints it without ``-L``: ``  can0  0D2   [2]  00 FF``."""
    line = start.lstrip().partition(b"\n")[0].decode(errors="replace")
    return _LINE.match(line) is not None


def screen_frames(file: BinaryIO, rejected: Counter[str]) -> Iterator[Frames]:
    """Read what candump has printed."""
    # What `-e` prints below an error frame begins with a tab.
    source = (line for line in lines(file) if line.strip() and not line.startswith("\t"))
    return framed(map(_row, source), rejected)


def _row(line: str) -> Row:
    found = _LINE.match(line)
    if found is None:
        raise ValueError(f"no line of candump: {line[:100]!r}")
    time, bus, id_text, size, remote, text = found.groups()
    data = bytes.fromhex(text or "")
    if not remote and len(data) != int(size):
        raise ValueError(f"{len(data)} bytes of data, expected {size}: {line[:100]!r}")
    can_id = int(id_text, 16)
    kind = EXTENDED * (len(id_text) > 3) | REMOTE * bool(remote) | ERROR * is_error(can_id)
    return _time(time), can_id & ID_BITS, kind, bus, data


def _time(text: str | None) -> float:
    if text is not None and _UNIX_TIME.match(text):
        return float(text)
    if text is not None and "-" in text:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()
    what = "without times" if text is None else f"with times such as ({text}), from the start or from line to line"
    raise ValueError(f"what candump prints on a screen, {what}; record with candump -L (or print with -ta)")
