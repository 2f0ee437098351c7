"""Recordings of the games' datagrams, read from SQLite.

The schema is the one that the package f1-2020-telemetry records and plays: a table `packets` with one row a datagram,
of which `pkt_id` (the order of arrival), `timestamp` and `packet` (the datagram as it was sent) are used. Its recorder
writes the Unix time of arrival as `timestamp`, others write the session time: use its differences, for the pace, and
take the session time from the datagram itself.

A recording is only read: it is opened immutable, so SQLite neither locks it nor writes a file beside it. In return it
must be complete, hence a recording that its recorder still writes to, or left behind in a crash, is refused.
"""

import math
import os
import sqlite3
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Recording", "RecordingError", "open_recording"]

_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">16sH6xII60xI")  # magic, page size, changes made, pages, changes when those were counted
# Where the text of a damaged schema is part of SQLite's message, sqlite3 fails to decode that as UTF-8.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_COLUMNS = ("pkt_id", "timestamp", "packet")
_UNREADABLE = "unreadable row"


class RecordingError(ValueError):
    """A recording cannot be read; the message is one line that names the file."""


class Recording:
    """A recording of datagrams, opened by `open_recording`; a context manager that closes it.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    count : int
        How many rows it has, unreadable ones included. Counted when first asked for, which reads the file once.
    rejected : collections.Counter
        How many rows `datagrams` left out, by reason: "unreadable row" where `packet` is no blob or `timestamp` is no
        finite number.

    Notes
    -----
    Any thread may use it, so one may open it and another iterate.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        self._connection = connection

    def datagrams(self) -> Iterator[tuple[float, bytes]]:
        """Iterate over the recording, row by row as they are asked for, in the order of `pkt_id`.

        Yields
        ------
        (float, bytes)
            The row's timestamp [s] and its datagram.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, or the recording is closed. Not all damage shows in a row: behind the last
            one the whole file's structure is checked, which tells whether rows were lost, doubled or displaced.
        """
        row_number = 0
        try:
            for timestamp, packet in self._connection.execute("SELECT timestamp, packet FROM packets ORDER BY pkt_id"):
                row_number += 1
                if isinstance(packet, bytes) and _is_finite(timestamp):
                    yield float(timestamp), packet
                else:
                    self.rejected[_UNREADABLE] += 1
            (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        except _ERRORS as error:
            raise _explained(self.path, error, f"after row {row_number}") from error
        if verdict != "ok":
            raise _damaged(self.path, verdict, f"after row {row_number}")

    @cached_property
    def count(self) -> int:
        try:
            (count,) = self._connection.execute("SELECT count(*) FROM packets").fetchone()
        except _ERRORS as error:
            raise _explained(self.path, error, "counting its rows") from error
        return int(count)

    def close(self) -> None:
        """Close the file; again is no error."""
        self._connection.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open a recording for reading.

    Parameters
    ----------
    path : path-like
        An SQLite database with a table `packets`.

    Returns
    -------
    Recording
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    RecordingError
        There is no such file, it is no SQLite database, lacks the table or a column, is damaged or still written to.
    """
    path = Path(path)
    _check_journals(path)  # first: a file that is being written to may seem damaged
    _check_file(path)
    uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    except _ERRORS as error:
        raise _explained(path, error, "opening it") from error
    # Text that is no UTF-8 must not end the iteration: the row is unreadable anyway.
    connection.text_factory = lambda text: text.decode(errors="replace")
    try:
        _check_schema(path, connection)
    except BaseException:
        connection.close()
        raise
    return Recording(path, connection)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise RecordingError(f"{path}: not a regular file; expected a recording, an SQLite database")
        with path.open("rb") as file:
            header = file.read(_HEADER.size).ljust(_HEADER.size, b"\0")
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected a recording, an SQLite database") from error
    magic, page_size, changes, pages, changes_at_pages = _HEADER.unpack(header)
    page_size = 65_536 if page_size == 1 else page_size
    if magic != _MAGIC:
        raise RecordingError(f"{path}: not an SQLite database; expected a recording with a table 'packets'")
    # SQLite reads zeros for what is missing of the last page.
    if page_size and status.st_size % page_size:
        raise RecordingError(
            f"{path}: cut off: {status.st_size:,} bytes, expected a multiple of its page size {page_size:,}; "
            "copy it again"
        )
    # SQLite believes its header, and would neither read nor check the pages behind those. (Programs that do not fill in
    # the number of pages leave the other counter behind: https://sqlite.org/fileformat2.html#in_header_database_size.)
    if 0 < pages * page_size < status.st_size and changes == changes_at_pages:
        raise RecordingError(
            f"{path}: damaged: {status.st_size // page_size:,} pages, expected {pages:,} by its header; copy it again"
        )


def _check_journals(path: Path) -> None:
    """Refuse a database with changes in a journal beside it, which an immutable connection would not see."""
    for suffix in ("-wal", "-journal"):
        journal = path.resolve()
        journal = journal.with_name(journal.name + suffix)
        try:
            with journal.open("rb") as file:
                in_use = file.read(1) not in (b"", b"\0")  # SQLite may leave it behind emptied or zeroed
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RecordingError(f"{path}: its journal {journal.name} cannot be read: {error.strerror}") from error
        if in_use:
            raise RecordingError(
                f"{path}: still written to, or not closed properly ({journal.name} exists); stop its recorder, "
                "or complete it by opening it once with the command sqlite3"
            )


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    try:
        rows = connection.execute("SELECT lower(name) FROM pragma_table_info('packets')").fetchall()
    except _ERRORS as error:
        raise _explained(path, error, "reading its schema") from error
    found = {name for (name,) in rows}
    if not found:
        raise RecordingError(f"{path}: has no table 'packets'; expected a recording in the schema of f1-2020-telemetry")
    missing = [column for column in _COLUMNS if column not in found]
    if missing:
        raise RecordingError(
            f"{path}: its table 'packets' has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}"
        )


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _explained(path: Path, error: Exception, where: str) -> RecordingError:
    if isinstance(error, sqlite3.ProgrammingError):  # what sqlite3 raises for a closed connection
        return RecordingError(f"{path}: the recording is closed ({where}); iterate before closing it")
    return _damaged(path, str(error), where)


def _damaged(path: Path, reason: str, where: str) -> RecordingError:
    return RecordingError(f"{path}: damaged or unreadable database ({where}): {' '.join(reason.split())}")
