"""MCAP files as a source: those that `f1buf export` has written, and others whose messages are JSON with numbers.

In a file of f1buf's own each field is the sensor that it was, with its channel, car, driver, part and lap, at its exact
time, in the file's order. Of another file each field of a message that is a number, also inside of other objects
(``pose.x``), is a sensor whose channel has the field's name; its part is the message's topic, its time the log time, in
whose order they come.

The channels are known once the file is open, so that thresholds may name them: what `f1buf export` has written says
them; another file is read for that once more.

Checksums are compared, where the file has them. Of a file that was not finished (it has no index) all that is there is
read, in its order, and that is said. Neither needs more memory than a few of the file's chunks.
"""

import json
import math
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import MAX_CHANNELS, Channel, channels_by_name
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.played import Sensors
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold, loads

__all__ = ["McapRecording", "open_mcap"]

Array = NDArray[Any]
Row = tuple[float, int, int, int, float]

_BATCH = 4096  # readings put together
_KEPT = 1 << 16  # meanings kept of each channel in a file of f1buf's own; tests make it smaller
_KEY, _TIME, _LAP = "f1buf", "time", "lap"  # as `f1buf.telemetry.exports.mcap` writes them
_SHOWN = 40  # characters of a name or value
_PIECE = 1 << 20  # bytes whose checksum is computed at once
_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _CHECKSUM_SIZE = struct.Struct("<QQI"), 4  # where the index begins, where its offsets do, and its checksum


class McapRecording:
    """An MCAP file, opened by `open_mcap`; it holds no file open while nobody iterates.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    thresholds : tuple of Threshold or None
        What the readings of a file of f1buf's own were checked against; None of another file.
    rejected : collections.Counter
        How many messages ("message in cdr", "message that is no JSON object", "message that is nested too deep") and
        fields ("field that is no number", "integer that float64 does not hold") were not used; "missing end" is 1 where
        the file was not finished.
    notes : list of str
        Lines for people on what else there is to know.
    sensors : Sensors
        What is known of the sensors whose readings have been yielded.

    Notes
    -----
    One thread at a time may iterate.
    """

    def __init__(
        self,
        path: Path,
        thresholds: tuple[Threshold, ...] | None,
        *,
        indexed: bool,
        finished: bool,
        sound: bool,
    ) -> None:
        self.path = path
        self.thresholds = thresholds
        self.rejected: Counter[str] = Counter()
        self.notes: list[str] = []
        self.sensors = Sensors()
        self._indexed = indexed
        self._finished = finished
        self._sound = sound  # the index is as it was written
        self._fields: dict[int, _Fields] = {}  # by the number of the file's channel

    def batches(self) -> Iterator[Array]:
        """Iterate over the file.

        Yields
        ------
        ndarray of READING
            Some thousand readings.

        Raises
        ------
        RecordingError
            The file turns out to be damaged, or has more different channels than f1buf can tell apart; the message says
            after which message. What came before was yielded.
        """
        self.rejected.clear()
        self.notes.clear()
        self._fields.clear()
        rows: list[Row] = []
        count = 0
        failure: RecordingError | None = None
        with self.path.open("rb") as file:
            messages = self._messages(file)
            while True:
                try:
                    channel, message = next(messages)
                except StopIteration:
                    break
                except Exception as error:  # the library fails in many ways
                    if self._finished or file.read(1):
                        failure = self._damaged(count, one_line(error))
                    break
                try:
                    rows += self._readings(channel, message)
                except OverflowError as error:
                    failure = RecordingError(f"{self.path}: {error} (after message {count:,})")
                    break
                except ValueError as error:
                    failure = self._damaged(count, f"topic {_shown(channel.topic)}: {error}")
                    break
                count += 1
                if len(rows) >= _BATCH:
                    yield np.array(rows, READING)
                    rows = []
        if rows:
            yield np.array(rows, READING)
        if failure is None and not self._sound:
            failure = self._damaged(count, "its index, without which all was read, has another checksum")
        if failure is not None:
            raise failure
        if not self._finished:
            self.rejected["missing end"] = 1
            self.notes.append("the file is cut off, or its writer was stopped: what is there was read")

    def _learn(self) -> None:
        """Make the channels known by reading the file; what is wrong with it the next reader is told."""
        with suppress(RecordingError):
            for _ in self.batches():
                pass
        self.rejected.clear()
        self.notes.clear()
        self.sensors = Sensors()

    def _damaged(self, count: int, why: str) -> RecordingError:
        return RecordingError(f"{self.path}: damaged (after message {count:,}): {why}; copy it again")

    def _messages(self, file: BinaryIO) -> Iterator[tuple[Any, Any]]:
        """Yield channels and messages: by log time, those of a file of f1buf's own or without an index as they come."""
        from mcap.reader import NonSeekingReader, SeekingReader

        # In the file's order a seeking reader would first load all of it; and it compares no checksums of a file
        # without an index, whatever it is told.
        by_time = self._indexed and self.thresholds is None
        reader: Any = (SeekingReader if by_time else NonSeekingReader)(file, validate_crcs=True)
        for _, channel, message in reader.iter_messages(log_time_order=by_time):
            yield channel, message

    def _readings(self, channel: Any, message: Any) -> list[Row]:
        if channel.message_encoding != "json":
            self.rejected[f"message in {channel.message_encoding or 'no encoding'}"] += 1
            return []
        try:
            said = json.loads(message.data)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self.rejected["message that is no JSON object"] += 1
            return []
        fields = self._fields.get(channel.id)
        if fields is None:
            own = self.thresholds is not None and _KEY in channel.metadata
            fields = self._fields[channel.id] = (_OwnFields if own else _OtherFields)(channel, self.sensors)
        return fields.readings(said, message.log_time, self.rejected)


class _Fields:
    """The fields of one of the file's channels.

    What a file of f1buf's own cannot say is a ValueError; more channels than f1buf can tell apart, an OverflowError.
    """

    def __init__(self, channel: Any, sensors: Sensors) -> None:
        self._channel = channel
        self._sensors = sensors
        self._known: dict[tuple[str, int | None], tuple[int, int, int]] = {}

    def readings(self, said: dict[str, Any], log_time: int, rejected: Counter[str]) -> list[Row]:
        """Return the readings in a message, and count what is none."""
        raise NotImplementedError


class _OwnFields(_Fields):
    """Of a channel that `f1buf export` has written: its metadata says what they are."""

    def __init__(self, channel: Any, sensors: Sensors) -> None:
        super().__init__(channel, sensors)
        try:
            about = json.loads(channel.metadata[_KEY])
        except (ValueError, RecursionError):
            raise ValueError("its metadata is no JSON") from None
        if not isinstance(about, dict) or not isinstance(about.get("fields"), dict):
            raise ValueError("its metadata is no object with fields")
        self._common = {
            "session": _whole("the session", about.get("session"), 0, 2**64 - 1),
            "car": _whole("the car", about.get("car")),
            "driver": _text("the driver", about.get("driver")),
        }
        self._about: dict[str, Any] = about["fields"]

    def readings(self, said: dict[str, Any], log_time: int, rejected: Counter[str]) -> list[Row]:
        time, lap = _float(_TIME, said.pop(_TIME, None)), _whole("the lap", said.pop(_LAP, None))
        return [(time, *self._meaning(field, lap), _float(field, value)) for field, value in said.items()]

    def learn(self) -> None:
        """Make the channels known that the metadata name."""
        for about in self._about.values():
            if isinstance(about, dict):
                _channel_number(about)

    def _meaning(self, field: str, lap: int | None) -> tuple[int, int, int]:
        """Return the sensor's number, the channel's, and the flags that stand for what is known."""
        found = self._known.get((field, lap))
        if found is None:
            about = self._about.get(field)
            if not isinstance(about, dict):
                raise ValueError(f"field {_shown(field)}: its metadata is no object")
            try:
                sensor_id = _whole("the sensor", about.get("sensor"), 0, 2**32 - 1)
                if sensor_id is None:
                    raise ValueError("the sensor is missing")
                part = _text("the part", about.get("part"))
                number = _channel_number(about)
            except ValueError as error:
                raise ValueError(f"field {_shown(field)}: {error}") from None
            flags = self._sensors.flags(sensor_id, {**self._common, "part": part, "lap": lap})
            if len(self._known) >= _KEPT:  # a file may say laps without end
                self._known.clear()
            found = self._known[field, lap] = sensor_id, number, flags
        return found


def _channel_number(about: dict[str, Any]) -> int:
    """Return the number of the channel that metadata say; 0 for none."""
    name, unit = _text("the channel", about.get("channel")), _text("the unit", about.get("unit"))
    if not name:
        return 0
    match about.get("range"):
        case [low, high]:
            least = -math.inf if low is None else _float("range", low)
            most = math.inf if high is None else _float("range", high)
            return _number_of(name, unit or "", (least, most))
    raise ValueError("the range is no list of two limits")


def _number_of(name: str, unit: str, limits: tuple[float, float] = (-math.inf, math.inf)) -> int:
    """Return the number of a channel."""
    try:
        return Channel(name, unit, limits).number
    except OverflowError:
        raise OverflowError(
            f"more than {MAX_CHANNELS:,} different fields, the most that f1buf can tell apart; copy the topics that "
            "are needed to a file of their own, and read that"
        ) from None


def _whole(name: str, value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> int | None:
    """Check a whole number of a file of f1buf's own; None is what is not known."""
    if value is None or (type(value) is int and low <= value <= high):
        return value
    raise ValueError(f"{name} is {_shown(value)}: expected a whole number from {low:,} to {high:,}")


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{name} is {_shown(value)}: expected a text")


def _float(field: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"field {_shown(field)} is {_shown(value)}: expected a number") from None


def _shown(value: Any) -> str:
    """Return a value of a file as a few characters."""
    if isinstance(value, str | int | float) or value is None:
        said = repr(value)
        return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
    return "a list" if isinstance(value, list) else "an object"


class _OtherFields(_Fields):
    """Of another program's channel: each number is a sensor."""

    def readings(self, said: dict[str, Any], log_time: int, rejected: Counter[str]) -> list[Row]:
        time = log_time / 1_000_000_000
        try:
            numbers = list(_numbers("", said, rejected))
        except RecursionError:
            rejected["message that is nested too deep"] += 1
            return []
        return [(time, *self._meaning(field), value) for field, value in numbers]

    def _meaning(self, field: str) -> tuple[int, int, int]:
        found = self._known.get((field, None))
        if found is None:
            number = _number_of(field.strip() or "value", self._channel.metadata.get(field, ""))
            sensor_id = self._sensors.new({"part": self._channel.topic})
            found = self._known[field, None] = sensor_id, number, 0
        return found


def _numbers(above: str, said: dict[str, Any], rejected: Counter[str]) -> Iterator[tuple[str, float]]:
    """Yield the numbers in an object, and in those inside of it, by their names."""
    for name, value in said.items():
        if isinstance(value, dict):
            yield from _numbers(f"{above}{name}.", value, rejected)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            rejected["field that is no number"] += 1
        elif isinstance(value, int) and not -(1 << 53) <= value <= 1 << 53:
            rejected["integer that float64 does not hold"] += 1
        else:
            yield above + name, float(value)


def open_mcap(path: str | os.PathLike[str]) -> McapRecording:
    """Open an MCAP file for reading.

    Parameters
    ----------
    path : path-like
        The file. It may be one that was not finished.

    Raises
    ------
    RecordingError
        There is no such file, it is no MCAP file, its end is damaged, or mcap is not installed.
    """
    path = Path(path)
    try:
        from mcap.reader import SeekingReader
    except ImportError as error:
        raise RecordingError(f"{path}: reading it needs mcap ({error}): pip install 'f1buf[export]'") from None
    try:
        with path.open("rb") as file:
            finished = _is_finished(path, file)
            sound = not finished or _is_index_sound(file)
            file.seek(0)
            reader = SeekingReader(file, validate_crcs=True)
            own = reader.get_header().profile == _KEY
            summary = reader.get_summary() if finished and sound else None
            thresholds = _thresholds(file, finished) if own else None
        indexed = bool(summary and summary.chunk_indexes)
        recording = McapRecording(path, thresholds, indexed=indexed, finished=finished, sound=sound)
        if own and summary is not None:
            _learn_of(summary.channels.values())
        else:
            recording._learn()
        for threshold in thresholds or ():
            if not channels_by_name(threshold.channel):
                Channel(threshold.channel, "")  # none of its readings is in the file
        return recording
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected an MCAP file") from error
    except Exception as error:  # the library fails in many ways
        raise RecordingError(f"{path}: damaged: {one_line(error)}; copy it again") from error


def _thresholds(file: BinaryIO, finished: bool) -> tuple[Threshold, ...]:
    """Return what the readings of a file of f1buf's own were checked against: it stands before the first of them."""
    from mcap.records import Chunk, Message, Metadata
    from mcap.stream_reader import StreamReader

    file.seek(0)
    try:
        for record in StreamReader(file, emit_chunks=True).records:
            if isinstance(record, Metadata) and record.name == _KEY:
                return loads(record.metadata.get("thresholds", ""))
            if isinstance(record, Chunk | Message):
                break
    except Exception:  # the library fails in many ways
        if finished:
            raise
    return ()


def _learn_of(channels: Iterable[Any]) -> None:
    """Make known what channels of a file of f1buf's own say; what is wrong with them the next reader is told."""
    for channel in channels:
        if _KEY in channel.metadata:
            with suppress(ValueError, OverflowError):
                _OwnFields(channel, Sensors()).learn()


def _is_index_sound(file: BinaryIO) -> bool:
    """Compare the index with its checksum, which mcap does not; 0 stands for none (MCAP specification, "Footer")."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_MAGIC) - _FOOTER.size))
    footer = file.read(_FOOTER.size)
    start, _, checksum = _FOOTER.unpack(footer) if len(footer) == _FOOTER.size else (0, 0, 0)
    if start == 0 or checksum == 0:
        return True
    file.seek(min(start, size))
    found, left = 0, max(0, size - start - len(_MAGIC) - _CHECKSUM_SIZE)
    while piece := file.read(min(left, _PIECE)):  # a damaged footer may take all of the file for the index
        found, left = zlib.crc32(piece, found), left - len(piece)
    return found == int(checksum)


def _is_finished(path: Path, file: BinaryIO) -> bool:
    """Return whether a file ends as its writer ends it; refuse one that begins otherwise."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise RecordingError(f"{path}: no MCAP file")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(len(_MAGIC), size - len(_MAGIC)))
    return file.read() == _MAGIC
