"""The files of a recording, its parts: what is in one, how it is written and read. Needs pyarrow.

A part is a complete Parquet file with the columns of `SCHEMA`, a row a reading, in the order in which they were taken.
Names, units and drivers stand in the rows, for programs that know nothing of f1buf. The file's metadata has, under
`KEY`, a JSON object: "schema" (the version of all that is said here), "version" (of the f1buf that wrote it),
"recording" (a random text, the same in all parts of a recording), "source" (where the readings came from), "thresholds"
(what they were checked against, a TOML text), "number" (the part's in the recording, from 1, as in its name), "last"
(whether the recording ended with it), "progress" (of a recording that several runs make: where the next one goes on),
"channels", in the order of the rows' channel numbers from 1, each with "name",
"unit" and "range" (null where it is infinite), and "crc32", the checksums.

A reader of the folder must find only complete parts. So a part is written to a file that has no name, brought to the
disk, and only then given its name. Where the file system has no files without a name, it has a hidden name until then.

Two CRC-32 cover every byte of a part: one what lies before the footer, the other the footer to the file's last byte,
with zeros for the two themselves. (Parquet's own checksums cover only the pages' content, and neither names nor types
nor the number of rows.) The footer is checked when the recording is opened, the rest of a part before its rows are
read. A part that another program has written again has no valid checksums.
"""

import contextlib
import io
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from f1buf import __version__
from f1buf.ring.reading import READING
from f1buf.telemetry.channels import Channel, known_channels
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.text import faithful_text, one_line
from f1buf.telemetry.thresholds import Threshold, loads
from f1buf.telemetry.unseen import open_unseen, remove_unseen, show_unseen

__all__ = ["KEY", "SCHEMA", "VERSION", "Descriptions", "Footer", "PartWriter", "Rows", "read_footer", "read_rows"]

Array = NDArray[Any]
Describe = Callable[[int, int], dict[str, Any]]

KEY = b"f1buf"
VERSION = 2
"""A file with a higher one may lack or rename columns. Version 1 had no checksums, "last", "recording", `session`."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("timestamp", pa.float64(), nullable=False),  # [s]
        pa.field("sensor_id", pa.uint32(), nullable=False),
        pa.field("channel", _TEXT),  # the channel's name; null for a number that is no channel's
        pa.field("unit", _TEXT),
        pa.field("value", pa.float64(), nullable=False),  # in `unit`
        pa.field("car", pa.int16()),  # this and the next four: null where the source does not know
        pa.field("driver", _TEXT),
        pa.field("lap", pa.int16()),
        pa.field("part", _TEXT),
        pa.field("session", pa.uint64()),
        pa.field("flags", pa.uint16(), nullable=False),
        pa.field("channel_number", pa.uint16(), nullable=False),  # two channels may share their name and unit
    ]
)
"""A part's columns."""

_DESCRIBED = ("car", "driver", "lap", "part", "session")


def described_columns() -> list[Any]:
    """Return the columns that hold what is known of sensors."""
    return [SCHEMA.field(name) for name in _DESCRIBED]


_COLUMNS = {1: pa.schema([field for field in SCHEMA if field.name != "session"]), VERSION: SCHEMA}
# Without this pandas makes whole numbers floats in a file where one is null, and leaves them whole in others.
_NULLABLE = {"car": "Int16", "lap": "Int16", "session": "UInt64"}
_FOR_PANDAS = [
    {"name": name, "field_name": name, "pandas_type": kind.lower(), "numpy_type": kind, "metadata": None}
    for name, kind in _NULLABLE.items()
]
_WRITTEN = SCHEMA.with_metadata(
    {"pandas": json.dumps({"index_columns": [], "column_indexes": [], "columns": _FOR_PANDAS})}
)

# Of a recorded race a reading takes 1.3 bytes with zstd, 1.6 with snappy, which is 9 % faster. Columns whose values
# hardly repeat would fill a larger dictionary for nothing: with the usual 1 MiB, random values take 1.4 times as much
# room and 1.8 times as long.
_OPTIONS = {"compression": "zstd", "dictionary_pagesize_limit": 131_072, "write_page_checksum": True}


# Descriptions: what is known of a sensor ------------------------------------------------------------------------------


def _keys(readings: Array) -> Any:
    """Return sensor id and flags of each reading as one number; dictionary-encoded: each different one stands once."""
    keys = (readings["sensor_id"].astype(np.uint64) << np.uint64(16)) | readings["flags"]
    return pa.array(keys).dictionary_encode()


class Descriptions:
    """What a source says of the sensors whose readings are to become rows.

    Parameters
    ----------
    describe : callable or None
        Returns what is known of a sensor, from its id and the reading's flags: ``car``, ``driver``, ``lap``, ``part``,
        ``session``.

    Attributes
    ----------
    notes : dict of str to str
        By column a sentence on the first value that it could not hold.
    """

    def __init__(self, describe: Describe | None) -> None:
        self.notes: dict[str, str] = {}
        self._describe = describe
        self._codes: dict[int, int] = {}
        self._said: list[dict[str, Any]] = [{}]

    def codes(self, readings: Array) -> Array:
        """Return for each reading the number of its description; each sensor id with each flags is asked for once."""
        if self._describe is None:
            return np.zeros(len(readings), np.int32)
        keys = _keys(readings)
        codes = np.array([self._code(key) for key in keys.dictionary.to_pylist()], np.int32)
        each: Array = codes[keys.indices.to_numpy()]
        return each

    def _code(self, key: int) -> int:
        code = self._codes.get(key)
        if code is None:
            assert self._describe is not None
            self._said.append(self._describe(key >> 16, key & 0xFFFF))
            code = self._codes[key] = len(self._said) - 1
        return code

    def columns(self, codes: Array) -> list[Any]:
        """Return the columns car, driver, lap, part and session of readings with these codes."""
        places = pa.array(codes)
        return [self._column(name, [each.get(name) for each in self._said]).take(places) for name in _DESCRIBED]

    def _column(self, name: str, values: list[Any]) -> Any:
        kind = SCHEMA.field(name).type
        try:
            return _faithful(values, kind)
        except Exception:  # a source may say anything; pyarrow fails in several ways
            return _array([self._holdable(name, kind, value) for value in values], kind)

    def _holdable(self, name: str, kind: Any, value: Any) -> Any:
        """Return what a column holds of a value that may not fit; the reading is kept in any case."""
        try:
            return _faithful([value], kind)[0].as_py()
        except Exception:
            held = faithful_text(value) if kind == _TEXT and isinstance(value, str) else None
            kind = "text" if kind == _TEXT else kind
            instead = "null" if held is None else "replacement characters"
            said = one_line(Exception(repr(value)))[:40]
            self.notes.setdefault(name, f"{name} {said} is no {kind}: {instead} instead")
            return held

    def clear(self) -> None:
        """Forget all answers, and what the codes meant."""
        self._codes.clear()
        del self._said[1:]


def _array(values: Sequence[Any], kind: Any) -> Any:
    # Each text once: a Parquet dictionary has no doubles.
    return pa.array(values, pa.string()).dictionary_encode() if kind == _TEXT else pa.array(values, kind)


def _faithful(values: list[Any], kind: Any) -> Any:
    """Return the column of these values; a value that pyarrow would change, such as 0.5 to 0, is an error."""
    column = _array(values, kind)
    if column.to_pylist() != values:
        raise ValueError(f"no {kind}")
    return column


# Writing --------------------------------------------------------------------------------------------------------------


class PartWriter:
    """A part that is being written. Where anything fails, `discard` it.

    Parameters
    ----------
    path : pathlib.Path
        Where it will be once it is complete.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._temporary = open_unseen(path)
        try:
            self._writer = pq.ParquetWriter(self._file, _WRITTEN, **_OPTIONS)
        except BaseException:
            self._remove()
            raise

    def write(self, readings: Array, described: Sequence[Any]) -> None:
        """Write readings and the columns of their `Descriptions` as a row group."""
        channels = known_channels()
        names = _array([None, *(faithful_text(channel.name) for channel in channels)], _TEXT)
        units = _array([None, *(faithful_text(channel.unit) for channel in channels)], _TEXT)
        numbers = readings["channel"]
        places = pa.array(np.where(numbers <= len(channels), numbers, 0))
        columns = {
            "timestamp": pa.array(readings["timestamp"]),
            "sensor_id": pa.array(readings["sensor_id"]),
            "channel": names.take(places),
            "unit": units.take(places),
            "value": pa.array(readings["value"]),
            **dict(zip(_DESCRIBED, described, strict=True)),
            "flags": pa.array(readings["flags"]),
            "channel_number": pa.array(numbers),
        }
        self._writer.write_table(pa.table(columns, SCHEMA))

    def complete(self, notes: dict[str, Any], *, number: int, last: bool) -> int:
        """Write what is left, with the channels known by now, and bring it to the disk; return its size in bytes."""
        self._writer.add_key_value_metadata({KEY: _metadata({**notes, "number": number, "last": last})})
        self._writer.close()
        size = self._file.tell()
        fill_in_checksums(self._file)
        self._file.flush()
        os.fsync(self._file.fileno())
        return size

    def show(self) -> None:
        """Give the complete part its name."""
        show_unseen(self._file, self._temporary, self._path)

    def discard(self) -> None:
        """Close and remove it, as far as that can be done."""
        self._writer.is_open = False  # else it would write again when it is collected
        self._remove()

    def _remove(self) -> None:
        remove_unseen(self._file, self._temporary)


def channel_said(channel: Channel) -> dict[str, Any]:
    """Return a channel ready for JSON; null for a limit that is infinite."""
    limits = [limit if math.isfinite(limit) else None for limit in channel.range]
    return {"name": channel.name, "unit": channel.unit, "range": limits}


def _metadata(notes: dict[str, Any]) -> bytes:
    channels = [channel_said(channel) for channel in known_channels()]
    said = {"schema": VERSION, "version": __version__, **notes, "channels": channels, **NO_CHECKSUMS}
    return json.dumps(said).encode()


# Checksums ------------------------------------------------------------------------------------------------------------

NO_CHECKSUMS = {"crc32": "00000000 00000000"}
"""In a part's metadata the checksum of what is before the footer, and the footer's, before they are known."""

_UNKNOWN = json.dumps(NO_CHECKSUMS)[1:-1].encode()
_CHECKSUMS = re.compile(_UNKNOWN.replace(b"0" * 8, b"([0-9a-f]{8})"))
_END = struct.Struct("<I4s")  # how long the footer is before this, and what every Parquet file ends with


def _read_end(file: io.BufferedIOBase) -> tuple[int, bytes]:
    """Return where the footer begins, and all from there on."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    length, magic = _END.unpack(end) if len(end) == _END.size else (0, b"")
    begin = size - _END.size - length
    if magic != b"PAR1" or begin < len(magic):
        raise ValueError("cut off, or no Parquet file")
    file.seek(begin)
    return begin, file.read()


def _crc_of_data(file: io.BufferedIOBase, begin: int) -> int:
    """Return the checksum of all before the footer, which begins there."""
    file.seek(0)
    crc, piece = 0, memoryview(bytearray(1 << 20))
    while begin and (count := file.readinto(piece[:begin])):
        crc = zlib.crc32(piece[:count], crc)
        begin -= count
    return crc


def fill_in_checksums(file: io.BufferedIOBase) -> None:
    """Put the checksums into a part whose metadata has `NO_CHECKSUMS`."""
    begin, footer = _read_end(file)
    at = footer.rindex(_UNKNOWN)  # the last one: a driver may have this name
    known = _UNKNOWN.replace(b"0" * 8, b"%08x") % (_crc_of_data(file, begin), zlib.crc32(footer))
    file.seek(begin + at)
    file.write(known)


def _checked_footer(path: Path) -> tuple[int, int] | None:
    """Compare the footer with its checksum, before pyarrow, which believes a footer, sees it.

    Return how long the rest is and its checksum; None where there are no checksums.
    """
    with path.open("rb") as file:
        begin, footer = _read_end(file)
    found = [None, *_CHECKSUMS.finditer(footer)][-1]
    if found is None:
        return None
    _compare(zlib.crc32(footer[: found.start()] + _UNKNOWN + footer[found.end() :]), int(found[2], 16))
    return begin, int(found[1], 16)


def _compare(crc: int, expected: int) -> None:
    if crc != expected:
        raise ValueError(
            f"its checksum is {crc:08x}, expected {expected:08x}: changed since f1buf wrote it, or written again by "
            "another program"
        )


# Reading --------------------------------------------------------------------------------------------------------------


class Footer(NamedTuple):
    """What the end of a part says of it."""

    path: Path
    """The part."""
    rows: int
    """How many readings it holds."""
    data: tuple[int, int] | None
    """How long the rest of it is and its checksum; None where it has no checksums, so in version 1."""
    number: int | None
    """Which of the recording's parts it is, from 1; None in an older one, which does not say it."""
    last: bool | None
    """Whether the recording ended with it; None where that is not known, so in version 1."""
    recording: str | None
    """The same in all parts of a recording; None in version 1."""
    source: str
    """Where the readings came from."""
    thresholds: tuple[Threshold, ...]
    """What they were checked against."""
    numbers: Array
    """The number in this process of the channel with each number in the file; of 0, which is no channel, 0."""
    progress: dict[str, Any] | None
    """Where the next run goes on; None in a recording of one run."""


@contextlib.contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, RecordingError):
            raise
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else one_line(error)
        raise RecordingError(
            f"{path}: damaged or unreadable: {reason}; copy it again, or move it away to play the others"
        ) from error


def read_footer(path: Path) -> Footer:
    """Read the end of a part, and create its channels in this process.

    Raises
    ------
    RecordingError
        It is damaged, no part, or of a version that is not known.
    """
    with _damage_explained(path):
        if not path.is_file():  # opening a pipe would wait for its writer
            raise RecordingError(f"{path}: not a regular file; expected a part of a recording")
        data = _checked_footer(path)
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
            text = (file.metadata.metadata or {}).get(KEY)
        if text is None:
            raise RecordingError(
                f"{path}: has no metadata {KEY.decode()!r}; expected a part that f1buf recorded, no other Parquet file"
            )
        said = json.loads(text)
    version = said.get("schema") if isinstance(said, dict) else None
    if not isinstance(version, int) or version not in _COLUMNS:
        raise RecordingError(
            f"{path}: has schema version {version}; expected 1 to {VERSION}: a newer f1buf may know it"
        )
    if not schema.equals(_COLUMNS[version]):
        raise RecordingError(
            f"{path}: has other columns than f1buf records; expected {', '.join(_COLUMNS[version].names)}"
        )
    if version > 1 and data is None:
        raise RecordingError(f"{path}: has no checksums: damaged, or written again by another program; copy it again")
    try:
        numbers: Any = [0, *(channel_from(**each).number for each in said["channels"])]
        if not isinstance(said["thresholds"], str):
            raise TypeError(f"thresholds are {said['thresholds']!r}")
        thresholds = loads(said["thresholds"])
        last, recording = (said["last"], said["recording"]) if version > 1 else (None, None)
        number = said.get("number")
        if not isinstance(number, int | None):
            raise TypeError(f"number is {number!r}")
        source, numbers = str(said["source"]), np.array(numbers, READING["channel"])
        progress = said.get("progress")
        if not isinstance(progress, dict | None):
            raise TypeError(f"progress is {progress!r}")
        return Footer(path, rows, data, number, last, recording, source, thresholds, numbers, progress)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordingError(f"{path}: has damaged metadata: {type(error).__name__}: {error}") from error


def channel_from(name: str, unit: str, range: Sequence[float | None]) -> Channel:
    """Return the channel of which `channel_said` says this."""
    low, high = range
    return Channel(name, unit, (-math.inf if low is None else low, math.inf if high is None else high))


class Rows(NamedTuple):
    """What some rows of a part hold."""

    readings: Array
    """The readings of the wanted sessions, of READING; the channels have this process's numbers."""
    described: dict[int, dict[str, Any]]
    """What was known of their sensors, by ``sensor_id << 16 | flags``; without what was not known."""
    passed_over: dict[int | None, int]
    """How many readings of each other session there were; under None those that name no session."""


def read_rows(part: Footer, max_count: int, is_wanted: Callable[[int], bool] | None = None) -> Iterator[Rows]:
    """Iterate over a part.

    Parameters
    ----------
    part : Footer
        As `read_footer` returned it.
    max_count : int
        How many rows are read together, at most.
    is_wanted : callable, optional
        Whether the readings of a session, by its number, are wanted; None for all readings.

    Yields
    ------
    Rows
        In the order of the part; there may be no reading in them.

    Raises
    ------
    RecordingError
        It is damaged.
    """
    with _damage_explained(part.path), part.path.open("rb") as file:
        if part.data is not None:
            size, crc = part.data
            _compare(_crc_of_data(file, size), crc)
    with _damage_explained(part.path), pq.ParquetFile(part.path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(max_count, use_threads=False):
            passed_over: dict[int | None, int] = {}
            if is_wanted is not None:
                batch, passed_over = _only_wanted(batch, is_wanted)
            readings = np.empty(len(batch), READING)
            for field in ("timestamp", "sensor_id", "value", "flags"):
                readings[field] = batch.column(field).to_numpy()
            numbers = batch.column("channel_number").to_numpy()
            readings["channel"] = part.numbers[np.where(numbers < len(part.numbers), numbers, 0)]
            yield Rows(readings, described_rows(readings, batch), passed_over)


def _only_wanted(batch: Any, is_wanted: Callable[[int], bool]) -> tuple[Any, dict[int | None, int]]:
    """Return the rows of the wanted sessions, and how many rows of each other session there are."""
    if "session" not in batch.schema.names:  # version 1
        return batch.slice(0, 0), {None: len(batch)}
    column = batch.column("session")
    counts = {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}
    wanted = [uid for uid in counts if uid is not None and is_wanted(uid)]
    passed_over = {uid: count for uid, count in counts.items() if uid not in wanted}
    if passed_over:
        batch = batch.filter(pc.is_in(column, value_set=pa.array(wanted, column.type)))
    return batch, passed_over


def described_rows(readings: Array, batch: Any) -> dict[int, dict[str, Any]]:
    """Return what a batch's columns say of the sensors of its rows, by ``sensor_id << 16 | flags``."""
    known = [name for name in _DESCRIBED if name in batch.schema.names and batch.column(name).null_count < len(batch)]
    if not known:
        return {}
    keys = _keys(readings)
    rows = np.empty(len(keys.dictionary), np.intp)
    rows[keys.indices.to_numpy()] = np.arange(len(readings))  # of the last one of each key
    columns = [batch.column(name).take(pa.array(rows)).to_pylist() for name in known]
    return {
        key: {name: value for name, value in zip(known, values, strict=True) if value is not None}
        for key, *values in zip(keys.dictionary.to_pylist(), *columns, strict=True)
    }
