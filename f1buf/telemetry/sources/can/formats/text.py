"""What the readers of text logs share: the lines of a file, and python-can's readers for the unusual ones."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from f1buf.telemetry.sources.can.frames import Row, row_of

if TYPE_CHECKING:
    import can

__all__ = ["BYTE", "Lines", "data_fault", "lines", "rows", "text_blocks"]

# What tests make smaller.
BLOCK = 1 << 18  # bytes: some thousand lines, which stay in a core's cache
LONGEST_LINE = 1 << 20  # bytes; frames need less than 300

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
        left = BLOCK
        try:
            # Not `read`: it forgets what it has when the file turns out to be cut off.
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
        if len(held) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE:,} bytes; expected lines of text")
    if failure is not None:
        raise failure


def lines(file: BinaryIO) -> Iterator[str]:
    """Read a file as lines of text, without their ends."""
    for block in text_blocks(file):
        # Comments and the names of months are in whatever encoding the logger used; the frames are ASCII.
        yield from block.decode(errors="replace").split("\n")[:-1]


class Lines:
    """
    Stands in for a file from which python-can reads lines, and notes which one it reads and which ones it passes over.

    Parameters
    ----------
    source : iterator of str
        The lines, without their ends.
    passed_over : callable, optional
        Called with each line of which python-can made no frame.

    Attributes
    ----------
    count : int
        How many lines have been read.
    line : str or None
        The last one; None once a frame has been made of it.
    """

    def __init__(self, source: Iterator[str], passed_over: Callable[[str], None] = lambda line: None) -> None:
        self.count = 0
        self.line: str | None = None
        self._source = source
        self._passed_over = passed_over
        self._back: list[str] = []

    def messages(self, reader: "Callable[[Any], Iterable[can.Message]]") -> "Iterator[can.Message]":
        """Yield what a reader of python-can makes of the lines, at most one message of each.

        Raises
        ------
        ValueError
            The reader cannot read a line, which is quoted, or makes messages without reading on.
        """
        for message in self._read_by(reader):
            if self.line is None or self._back:
                raise ValueError("python-can's reader repeats itself: more than one frame of one line")
            self.line = None
            yield message

    def _read_by(self, reader: "Callable[[Any], Iterable[can.Message]]") -> "Iterator[can.Message]":
        try:
            yield from reader(self)
        except (LookupError, TypeError, ValueError) as error:  # mostly with a text of Python's, not for people
            if self.line is None:  # not the reader failed, but the file
                raise
            raise ValueError(f"a line that cannot be read: {self.line[:80]!r}") from error

    def put_back(self, line: str) -> None:
        """Let the next line that is read be this one."""
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


def rows(
    source: Iterator[str],
    usual: Callable[[str], Row | None],
    reader: "Callable[[Any], Iterable[can.Message]]",
    passed_over: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """Read lines as rows.

    Parameters
    ----------
    source : iterator of str
        The lines.
    usual : callable
        Returns the row of a line of the usual form, None for another line.
    reader : callable
        A reader of python-can for the other lines; it may read on behind them.
    passed_over : callable, optional
        Called with each line of which the reader makes no frame.
    """
    given = Lines(source, passed_over)
    messages = given.messages(reader)
    for line in source:
        row = usual(line)
        if row is None:
            given.put_back(line)
            message = next(messages, None)
            if message is None:
                break
            row = row_of(message)
        yield row


BYTE = re.compile(r"[0-9A-F]{1,2}|[0-9]{3}", re.ASCII | re.IGNORECASE)
"""A byte, hexadecimal or decimal."""


def data_fault(cells: list[str], size: int, data: "bytes | bytearray", hexadecimal: bool = True) -> str | None:
    """Return what is wrong with data that python-can has read: it checks neither their length nor for half bytes.

    Parameters
    ----------
    cells : list of str
        The line's words from the data on.
    size : int
        How many bytes there must be.
    data : bytes or bytearray
        What python-can has read.
    hexadecimal : bool
        Whether the bytes are written so.
    """
    if hexadecimal and any(len(cell) < 2 for cell in cells[:size]):
        return "half a byte"
    more = len(cells) > size and BYTE.fullmatch(cells[size])
    return "absurd length" if more or len(data) != size else None
