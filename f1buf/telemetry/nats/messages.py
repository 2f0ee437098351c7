"""Readings as messages: what is in one, how it is packed and unpacked. Needs pyarrow.

A message is an Arrow IPC stream of one record batch, which any program with Arrow reads: a row a reading, in the order
in which they were taken, with the columns of `SCHEMA`. `channel` is dictionary-encoded; the dictionary has the names of
the channels that came so far. Where several channels have one name, the later ones have their unit behind it. Place 0
is no channel, and its name is empty. Where the sender knows something of its sensors the columns of `DESCRIBED` follow,
as in a recording.

The schema's metadata has, under `KEY`, a JSON object: "schema" (the version of all that is said here), "version" (of
the f1buf that sent it), "source" (where the readings come from), "thresholds" (what they are checked against there, a
TOML text), and "channels", in the order of the dictionary from 1 on, each with "name", "unit" and "range" (null where
it is infinite). So every message can be read by itself.

Arrow's format has no checksums: where bytes were damaged, pyarrow may give other values, or end the process. So the
checksum of a message goes with it, as a header, and is compared before pyarrow sees the message.
"""

import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from f1buf import __version__
from f1buf.ring.reading import READING
from f1buf.telemetry.channels import MAX_CHANNELS, Channel, channels_by_name, known_channels
from f1buf.telemetry.parts import (
    KEY,
    Descriptions,
    channel_from,
    channel_said,
    described_columns,
    described_rows,
)
from f1buf.telemetry.text import faithful_text, one_line
from f1buf.telemetry.thresholds import Threshold, dumps, loads

__all__ = ["CHECKSUM", "DESCRIBED", "SCHEMA", "VERSION", "About", "MessageError", "Packer", "Unpacker", "checksum"]

Array = NDArray[Any]

VERSION = 1
"""A message with a higher one may lack or rename columns."""

_PLAIN = ("timestamp", "sensor_id", "value", "flags")  # as in READING
SCHEMA = pa.schema(
    [
        pa.field("timestamp", pa.float64(), nullable=False),  # [s]
        pa.field("sensor_id", pa.uint32(), nullable=False),
        pa.field("channel", pa.dictionary(pa.uint16(), pa.string()), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # in the channel's unit
        pa.field("flags", pa.uint16(), nullable=False),
    ]
)
"""The columns of every message."""

# A record batch says nothing of its dictionaries: where `channel` is the numbers alone its bytes are the same.
_NUMBERS = SCHEMA.set(2, pa.field("channel", pa.uint16(), nullable=False))
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream

DESCRIBED = pa.schema(described_columns())
"""Those that follow where the sender knows something of its sensors: null where it does not."""


CHECKSUM = "F1buf-Crc32"
"""The header that has a message's checksum."""


def checksum(message: bytes) -> str:
    """Return what `CHECKSUM` says of a message: its CRC-32, in eight hexadecimal digits."""
    return f"{zlib.crc32(message):08x}"


_NEW = 0xFFFF  # in place of a channel's place in the dictionary; with 65,535 channels in use the last one has none


class MessageError(ValueError):
    """Bytes that are no message of readings; the message is one line that says why."""


# Packing --------------------------------------------------------------------------------------------------------------


class Packer:
    """Packs readings; for one thread at a time.

    Parameters
    ----------
    describe : callable, optional
        Returns what is known of a sensor, from its id and the reading's flags: ``car``, ``driver``, ``lap``, ``part``,
        ``session``.
    source : str
        Where the readings come from; for people.
    thresholds : iterable of Threshold
        What they are checked against here.

    Examples
    --------
    >>> import pyarrow
    >>> from f1buf.telemetry import SpeedSensor
    >>> message = Packer().pack(SpeedSensor(7, seed=1).read_batch(3))
    >>> pyarrow.ipc.open_stream(message).read_all().column("channel").to_pylist()
    ['SPEED', 'SPEED', 'SPEED']
    """

    def __init__(
        self,
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        *,
        source: str = "",
        thresholds: Iterable[Threshold] = (),
    ) -> None:
        self._descriptions = None if describe is None else Descriptions(describe)
        self._thresholds = tuple(thresholds)
        self._said = {
            "schema": VERSION,
            "version": __version__,
            "source": source,
            "thresholds": dumps(self._thresholds),
        }
        # By a channel's number its place in the dictionary, which has those that came so far, or that thresholds name.
        self._places = np.full(MAX_CHANNELS + 1, _NEW, np.uint16)
        self._places[0] = 0
        self._channels: list[Channel] = []
        self._schema, self._names = SCHEMA, pa.array([""])
        self._begin = b""  # of a message: the schema and the dictionary, the same in all while there is no new channel
        self._tell_of([each for threshold in self._thresholds for each in channels_by_name(threshold.channel)])

    @property
    def notes(self) -> list[str]:
        """For each column the first value of `describe` that it cannot hold; for people."""
        return [] if self._descriptions is None else list(self._descriptions.notes.values())

    def pack(self, readings: Array) -> bytes:
        """Return the message of these readings, an array of READING; none is a message, too."""
        columns = [pa.array(np.ascontiguousarray(readings[name])) for name in _PLAIN]
        columns.insert(2, pa.array(self._placed(readings["channel"])))
        if self._descriptions is None:
            batch = pa.RecordBatch.from_arrays(columns, schema=_NUMBERS)
            return b"".join((self._begin, batch.serialize(), _END))
        columns[2] = pa.DictionaryArray.from_arrays(columns[2], self._names)
        columns += self._descriptions.columns(self._descriptions.codes(readings))
        self._descriptions.clear()
        return self._whole(columns)

    def _whole(self, columns: list[Any]) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        message: bytes = sink.getvalue().to_pybytes()
        return message

    def _placed(self, numbers: Array) -> Array:
        """Return the channels' places in the dictionary."""
        places: Array = self._places[numbers]
        new = places == _NEW
        if new.any():
            known = known_channels()
            self._tell_of([known[n - 1] for n in np.unique(numbers[new]).tolist() if n <= len(known)])
            places = self._places[numbers]
            places[places == _NEW] = 0  # no channel has these numbers
        return places

    def _tell_of(self, channels: Iterable[Channel]) -> None:
        """Take channels into the dictionary and the schema."""
        for channel in channels:
            if self._places[channel.number] == _NEW:
                self._channels.append(channel)
                self._places[channel.number] = len(self._channels)
        said = json.dumps(self._said | {"channels": [channel_said(each) for each in self._channels]})
        fields = [*SCHEMA, *(DESCRIBED if self._descriptions is not None else ())]
        self._schema = pa.schema(fields, {KEY: said.encode()})
        self._names = pa.array(_different(self._channels))
        if self._descriptions is None:
            columns = [pa.array([], field.type) for field in SCHEMA]
            columns[2] = pa.DictionaryArray.from_arrays(pa.array([], pa.uint16()), self._names)
            message = self._whole(columns)
            self._begin = message[: _begin_of(message)]


def _different(channels: Iterable[Channel]) -> list[str]:
    """Return the channels' names, none twice, as pandas wants it; before them that of no channel."""
    names = [""]
    for place, channel in enumerate(channels, 1):
        name = faithful_text(channel.name)
        others = (name, f"{name} [{faithful_text(channel.unit)}]", f"{name} #{place}")
        names.append(next(each for each in others if each not in names))
    return names


def _begin_of(message: bytes) -> int:
    """Return how long the schema and the one dictionary of a message are; 0 where it begins with anything else."""
    source = pa.BufferReader(message)
    kinds = [pa.ipc.read_message(source).type for _ in range(2)]
    return int(source.tell()) if kinds == ["schema", "dictionary"] else 0


# Unpacking ------------------------------------------------------------------------------------------------------------


# What pyarrow and json raise, and what follows where they believe what makes no sense.
_UNFIT = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class About(NamedTuple):
    """What a message's metadata says."""

    source: str
    """Where the readings come from."""
    thresholds: tuple[Threshold, ...]
    """What the sender checks them against."""
    numbers: Array
    """The number in this process of the channel with each number of the sender's; of 0, which is no channel, 0."""


class Unpacked(NamedTuple):
    """What a message holds."""

    readings: Array
    """READING, the caller's own; the channels have this process' numbers."""
    described: dict[int, dict[str, Any]]
    """What was known of their sensors, by ``sensor_id << 16 | flags``; without what was not known."""
    about: About
    """What its metadata says."""


class Unpacker:
    """Unpacks messages; creates their channels in this process. For one thread at a time.

    Examples
    --------
    >>> from f1buf.telemetry import SpeedSensor
    >>> readings = SpeedSensor(7, seed=1).read_batch(3)
    >>> bool((Unpacker().unpack(Packer().pack(readings)).readings == readings).all())
    True
    """

    def __init__(self) -> None:
        self._text, self._about = b"", About("", (), np.zeros(1, READING["channel"]))
        self._begin: bytes | None = None  # of the messages without descriptions that came last

    def unpack(self, message: bytes, expected: str | None = None) -> Unpacked:
        """Return what a message holds.

        Parameters
        ----------
        message : bytes
            As it was packed.
        expected : str, optional
            Its checksum, as `checksum` gave it before the message went over a network or to a disk.

        Raises
        ------
        MessageError
            It is no message of readings, damaged, or of a newer version.
        """
        if expected is not None and checksum(message) != expected:
            said = "is damaged: its checksum differs" if expected else "has no checksum"
            raise MessageError(f"{said}; expected readings that f1buf published")
        try:
            if self._begin is not None and message.startswith(self._begin):
                rest = pa.py_buffer(message)[len(self._begin) :]
                batch = pa.ipc.read_record_batch(rest, _NUMBERS)
                return Unpacked(self._readings(batch, batch.column("channel"), self._about), {}, self._about)
            self._begin = None
            with pa.ipc.open_stream(message) as stream:
                about = self._read_about((stream.schema.metadata or {}).get(KEY))
                names = [field.name for field in stream.schema]
                if names[: len(SCHEMA)] != SCHEMA.names or stream.schema.types[: len(SCHEMA)] != SCHEMA.types:
                    raise MessageError(f"has the columns {', '.join(names)}; expected {', '.join(SCHEMA.names)}")
                batch = stream.read_next_batch()
            readings = self._readings(batch, batch.column("channel").indices, about)
            described = described_rows(readings, batch)
            if len(names) == len(SCHEMA) and (length := _begin_of(message)):
                self._begin = message[:length]
            return Unpacked(readings, described, about)
        except MessageError:
            raise
        except (*_UNFIT, StopIteration) as error:
            raise MessageError(f"is no message of readings, or damaged: {one_line(error)}") from error

    def _readings(self, batch: Any, channels: Any, about: About) -> Array:
        readings = np.empty(len(batch), READING)
        for name in _PLAIN:
            readings[name] = batch.column(name).to_numpy()
        numbers = channels.to_numpy()
        readings["channel"] = about.numbers[np.where(numbers < len(about.numbers), numbers, 0)]
        return readings

    def _read_about(self, text: bytes | None) -> About:
        if text == self._text and text:
            return self._about
        if text is None:
            raise MessageError(f"has no metadata {KEY.decode()!r}; expected readings that f1buf published")
        said = json.loads(text)
        version = said.get("schema") if isinstance(said, dict) else None
        if version != VERSION:
            raise MessageError(f"has schema version {version}; expected {VERSION}: a newer f1buf may know it")
        numbers = np.array([0, *(channel_from(**each).number for each in said["channels"])], READING["channel"])
        self._about = About(str(said["source"]), loads(said["thresholds"]), numbers)
        self._text = text
        return self._about
