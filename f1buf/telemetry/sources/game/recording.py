"""Recordings of the games' datagrams, read from SQLite.

The schema is the one that the package f1-2020-telemetry records and plays: a table `packets` with one row a datagram,
of which `pkt_id` (the order of arrival), `timestamp` and `packet` (the datagram as it was sent) are used. Its recorder
writes the Unix time of arrival as `timestamp`, others write the session time: use its differences, for the pace, and
take the session time from the datagram itself.

A recording is only read: it is opened immutable, so SQLite neither locks it nor writes a file beside it. So it must be
complete: a recording that is still written to, or was left behind in a crash, is refused.

What SQLite reads without complaint need not be all that was recorded: a file whose pages were lost or overwritten may
be a sound database of fewer rows. Rows are numbered as they arrive, from 1 on, so each `pkt_id` is compared with the
one before it, and numbers that are missing are counted. A deleted row looks the same, so it is no error. Rows lost at
the end leave no trace in a file that is otherwise whole, unless `pkt_id` was declared AUTOINCREMENT.
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
from typing import Any, NamedTuple

from f1buf.telemetry.sources import RecordingError

__all__ = ["Recording", "open_recording"]

_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">16sH6xII60xI")  # magic, page size, changes made, pages, changes when those were counted
# Where the text of a damaged schema is part of SQLite's message, sqlite3 fails to decode that as UTF-8.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_COLUMNS = ("pkt_id", "timestamp", "packet")
_UNREADABLE = "unreadable row"
_MISSING = "missing row"
_REPEATED = "repeated pkt_id"
_DISPLACED = "pkt_id out of order"
_UNNUMBERED = "pkt_id is no whole number"
_GAPS = 10  # that are remembered, for people


class Recording:
    """A recording of datagrams, opened by `open_recording`; a context manager that closes it.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    count : int
        How many rows it has, unreadable ones included. Counted when first asked for, which reads the file once.
    rejected : collections.Counter
        What was wrong with the rows that `datagrams` came to, by reason. An "unreadable row" was left out: its `packet`
        is no blob, or its `timestamp` no finite number. "missing row" counts the numbers that no row has as its
        `pkt_id`: before the first row, between two rows, and behind the last one up to the highest number that was ever
        given, if SQLite keeps that (AUTOINCREMENT). The other rows were yielded all the same: "repeated pkt_id",
        "pkt_id out of order" and "pkt_id is no whole number".
    gaps : list of (int, int)
        The first and the last `pkt_id` of what is missing: the first ten gaps.

    Notes
    -----
    Any thread may use it: one may open it, and another iterate.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, state: "_State") -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        self.gaps: list[tuple[int, int]] = []
        self._connection = connection
        self._resolved_path = path.resolve()
        self._state = state

    def datagrams(self) -> Iterator[tuple[float, bytes]]:
        """Iterate over the recording, row by row as they are asked for, in the order of `pkt_id`.

        Yields
        ------
        (float, bytes)
            The row's timestamp [s] and its datagram.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, was written to since it was opened, or the recording is closed. Not all
            damage shows in a row: behind the last row the structure of the whole file is checked, and the message says
            which numbers are missing.

        Notes
        -----
        `rejected` and `gaps` begin anew with each iteration.
        """
        self.rejected.clear()
        self.gaps.clear()
        row_number, expected = 0, None  # which pkt_id would follow the last one
        try:
            for pkt_id, timestamp, packet in self._connection.execute(
                "SELECT pkt_id, timestamp, packet FROM packets ORDER BY pkt_id"
            ):
                row_number += 1
                if expected is not None and pkt_id == expected:
                    expected += 1
                else:
                    expected = self._expected_after(pkt_id, expected)
                if isinstance(packet, bytes) and _is_finite(timestamp):
                    yield float(timestamp), packet
                else:
                    self.rejected[_UNREADABLE] += 1
            if (highest := self._highest_given()) > 0:
                self._miss_up_to(highest, 1 if expected is None else expected)
            (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            self._check_unchanged(row_number)
            if verdict != "ok":
                verdict += self._tally()
        except _ERRORS as error:
            self._check_unchanged(row_number)  # a change may seem to be damage
            raise _explained(self.path, error, f"after row {row_number}") from error
        if verdict != "ok":
            raise _damaged(self.path, verdict, f"after row {row_number}")

    def unusable(self) -> dict[str, int]:
        """Return how many of the rows that are there hold no datagram, by reason."""
        count = dict(self.rejected).get(_UNREADABLE, 0)
        return {_UNREADABLE: count} if count else {}

    @cached_property
    def count(self) -> int:
        try:  # in the table itself: an index of a damaged file may have other rows
            (count,) = self._connection.execute("SELECT count(*) FROM packets NOT INDEXED").fetchone()
        except _ERRORS as error:
            raise _explained(self.path, error, "counting its rows") from error
        return int(count)

    def _expected_after(self, pkt_id: Any, expected: int | None) -> int | None:
        """Count what an unexpected number means; return the number that is expected next."""
        if not isinstance(pkt_id, (int, float)) or pkt_id % 1 != 0 or not -(1 << 63) <= pkt_id < 1 << 63:
            self.rejected[_UNNUMBERED] += 1
            return expected
        number = int(pkt_id)
        if expected is not None and number < expected:
            self.rejected[_REPEATED if number == expected - 1 else _DISPLACED] += 1
            return expected
        self._miss_up_to(number - 1, min(number, 1) if expected is None else expected)
        return number + 1

    def _miss_up_to(self, last: int, first: int) -> None:
        if last >= first:
            self.rejected[_MISSING] += last - first + 1
            if len(self.gaps) < _GAPS:
                self.gaps.append((first, last))

    def _highest_given(self) -> int:
        """Return the highest `pkt_id` that a row ever had, 0 if SQLite does not keep it."""
        if not self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
            return 0
        (highest,) = self._connection.execute(
            "SELECT max(seq) FROM sqlite_sequence WHERE name = 'packets' COLLATE NOCASE AND typeof(seq) = 'integer'"
        ).fetchone()
        return 0 if highest is None else int(highest)

    def _tally(self) -> str:
        """Return what the numbers in a damaged table say, whatever their order; set the counts right.

        They need not fit into memory: SQLite compares them in a file.
        """
        try:
            rows, distinct, first, last = self._connection.execute(
                "SELECT count(*), count(DISTINCT +pkt_id), min(+pkt_id), max(+pkt_id) FROM packets NOT INDEXED "
                "WHERE typeof(pkt_id) = 'integer'"
            ).fetchone()
        except _ERRORS:
            return ""
        if not rows:
            return ""
        first = min(first, 1)
        missing, repeated = last - first + 1 - distinct, rows - distinct
        for reason, count in ((_MISSING, missing), (_REPEATED, repeated), (_DISPLACED, 0)):
            del self.rejected[reason]
            if count:
                self.rejected[reason] = count
        self.gaps.clear()
        return f"; of pkt_id {first:,} to {last:,}, {missing:,} are missing and {repeated:,} come twice"

    def _check_unchanged(self, row_number: int) -> None:
        """Refuse a file that was written to: what was read may be part old, part new."""
        try:
            state = state_of(self._resolved_path)
        except (OSError, RecordingError):
            return  # it was removed: what was read was whole
        if state != self._state and state.file == self._state.file:
            raise RecordingError(
                f"{self.path}: written to while it was read (after row {row_number:,}); "
                "stop its recorder, and read it again"
            )

    def close(self) -> None:
        """Close the file. Calling it again changes nothing."""
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
    state = check_file(path)
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
    return Recording(path, connection, state)


class _State(NamedTuple):
    """What changes when a database is written to: its header counts changes."""

    file: tuple[int, int]
    size: int
    header: bytes


def state_of(path: Path) -> _State:
    """Return what shows later whether a file was written to."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        raise RecordingError(f"{path}: not a regular file; expected a recording, an SQLite database")
    with path.open("rb") as file:
        header = file.read(_HEADER.size).ljust(_HEADER.size, b"\0")
    return _State((status.st_dev, status.st_ino), status.st_size, header)


def check_file(path: Path) -> _State:
    """Refuse a file that is no SQLite database, or shorter than its header says; return its state."""
    try:
        state = state_of(path)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected a recording, an SQLite database") from error
    magic, page_size, changes, pages, changes_at_pages = _HEADER.unpack(state.header)
    page_size = 65_536 if page_size == 1 else page_size
    if magic != _MAGIC:
        raise RecordingError(f"{path}: not an SQLite database; expected a recording with a table 'packets'")
    # SQLite reads zeros for what is missing of the last page.
    if page_size and state.size % page_size:
        raise RecordingError(
            f"{path}: cut off: {state.size:,} bytes, expected a multiple of its page size {page_size:,}; copy it again"
        )
    # SQLite believes the header's number of pages, and neither reads nor checks any behind them. If the two counters
    # differ, it believes the file's size, however much is cut off: programs that do not fill in the number of pages
    # leave the other counter behind, https://sqlite.org/fileformat2.html#in_header_database_size. Then pages may have
    # been added since; a recorder removes none.
    expected, found = pages * page_size, state.size
    if found < expected or (0 < expected < found and changes == changes_at_pages):
        raise RecordingError(
            f"{path}: damaged: {found // page_size:,} pages, expected {pages:,} by its header; copy it again"
        )
    return state


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
        raise RecordingError(
            f"{path}: has no table 'packets'; expected a recording in the schema of f1-2020-telemetry (a CAN log needs "
            "--dbc FILE)"
        )
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
