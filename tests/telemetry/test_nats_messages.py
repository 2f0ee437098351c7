"""Messages of readings: what is packed comes out again; damage, other versions and others' messages are refused."""

import io
import json
import math

import numpy as np
import pytest
from cli_helpers import mixed_stream, readings
from helpers import seeded, thorough

pa = pytest.importorskip("pyarrow", reason="messages of readings need pyarrow")

from f1buf import READING  # noqa: E402
from f1buf.telemetry import SPEED, Channel, Threshold  # noqa: E402
from f1buf.telemetry.channels import channels_by_name  # noqa: E402
from f1buf.telemetry.nats.messages import (  # noqa: E402
    DESCRIBED,
    SCHEMA,
    VERSION,
    MessageError,
    Packer,
    Unpacker,
    checksum,
)
from f1buf.telemetry.parts import KEY  # noqa: E402

LIMITS = (Threshold("SPEED", above=10, message="fäst"), Threshold("OTHER", below=1, message="low"))
UNKNOWN = 65_535  # no channel's number


def describe(sensor_id, flags):
    """What a source may know of a sensor: all of it of odd ones, nothing of even ones."""
    if sensor_id % 2 == 0:
        return {}
    return {"car": sensor_id, "driver": "BÖB", "lap": flags, "part": "wing", "session": 2**64 - 1}


# There and back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, describe], ids=["plain", "described"])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_readings_come_out_as_they_went_in(count, known):
    stream = mixed_stream(count)
    stream["flags"] = np.arange(count) % 3
    unpacked = Unpacker().unpack(Packer(known).pack(stream))
    assert unpacked.readings.tobytes() == stream.tobytes()
    assert unpacked.readings.flags.owndata
    assert unpacked.readings.flags.writeable
    said = {sensor << 16 | flags: describe(sensor, flags) for sensor, flags in stream[["sensor_id", "flags"]].tolist()}
    assert unpacked.described == (said if known and count else {})


def test_the_ends_of_every_field():
    stream = readings([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324])
    stream["timestamp"] = [-1e300, 1e300, math.nan, math.inf, -0.0, 0.0]
    stream["sensor_id"] = [0, 2**32 - 1, 1, 2, 3, 4]
    stream["flags"] = [0, 65_535, 1, 2, 3, 4]
    stream["value"].view("u8")[4] = 0x7FF8_0000_0000_1234  # a NaN that carries something
    assert Unpacker().unpack(Packer().pack(stream)).readings.tobytes() == stream.tobytes()


def test_a_number_that_is_no_channel_is_none():
    stream = readings([1.0, 2.0, 3.0])
    stream["channel"] = [UNKNOWN, 0, SPEED.number]
    unpacked = Unpacker().unpack(Packer().pack(stream)).readings
    assert unpacked["channel"].tolist() == [0, 0, SPEED.number]
    assert unpacked["value"].tolist() == [1.0, 2.0, 3.0]


def test_what_the_sender_said_of_itself():
    packer, unpacker = Packer(source="five sensörs", thresholds=LIMITS), Unpacker()
    about = unpacker.unpack(packer.pack(readings([1.0]))).about
    assert (about.source, about.thresholds) == ("five sensörs", LIMITS)
    named = {channel.number for limit in LIMITS for channel in channels_by_name(limit.channel)}
    assert set(about.numbers.tolist()) == {0, SPEED.number} | named  # what came, and what the thresholds are of
    assert unpacker.unpack(packer.pack(readings([]))).about is about  # read once


def test_a_channel_that_comes_between_messages():
    packer, unpacker = Packer(), Unpacker()
    for number in range(3):
        later = Channel(f"BETWEEN {number}", "", (-math.inf, float(number)))
        stream = readings([1.0], later)
        message = packer.pack(stream)
        assert unpacker.unpack(message).readings.tobytes() == stream.tobytes()
        table = pa.ipc.open_stream(message).read_all()
        assert table["channel"].to_pylist() == [f"BETWEEN {number}"]
        said = json.loads(table.schema.metadata[KEY])["channels"][number]
        assert said == {"name": f"BETWEEN {number}", "unit": "", "range": [None, float(number)]}


def test_channels_of_one_name_have_their_units_behind_it():
    same = [Channel("SAME", unit, (0.0, top)) for unit, top in (("V", 5.0), ("A", 5.0), ("A", 9.0))]
    stream = np.concatenate([readings([1.0], channel) for channel in same])
    message = Packer().pack(stream)
    assert Unpacker().unpack(message).readings.tobytes() == stream.tobytes()
    table = pa.ipc.open_stream(message).read_all()
    assert table["channel"].to_pylist() == ["SAME", "SAME [A]", "SAME #3"]
    assert table.to_pandas()["channel"].tolist() == ["SAME", "SAME [A]", "SAME #3"]


def test_what_utf8_cannot_hold():
    odd = Channel("ODD \ud800", "\udfff")
    packer = Packer(lambda sensor_id, flags: {"driver": "A\ud800", "car": 2**40, "lap": 0.5}, source="s\ud800")
    stream = readings([1.0], odd)
    unpacked = Unpacker().unpack(packer.pack(stream))
    assert unpacked.readings.tobytes() == stream.tobytes()  # the channel is the same one
    assert unpacked.described == {0: {"driver": "A�"}}
    assert unpacked.about.source == "s\ud800"
    assert packer.notes == [
        "car 1099511627776 is no int16: null instead",
        "driver 'A\\ud800' is no text: replacement characters instead",
        "lap 0.5 is no int16: null instead",
    ]


def test_a_sensor_is_asked_about_once_a_message():
    asked = []
    packer = Packer(lambda *sensor: asked.append(sensor) or {})
    for _ in range(2):
        packer.pack(readings(np.arange(10.0), sensors=2))
    assert asked == [(0, 0), (1, 0)] * 2


# For other programs ---------------------------------------------------------------------------------------------------


def test_any_program_with_arrow_reads_it():
    stream = readings([1.5, 2.5, 3.5])
    stream["channel"][1] = UNKNOWN
    table = pa.ipc.open_stream(Packer(describe).pack(stream)).read_all()
    assert table.schema.names == [*SCHEMA.names, *DESCRIBED.names]
    assert table.schema.types == [*SCHEMA.types, *DESCRIBED.types]
    assert table["channel"].to_pylist() == ["SPEED", "", "SPEED"]
    assert table["value"].to_pylist() == [1.5, 2.5, 3.5]
    channels = json.loads(table.schema.metadata[KEY])["channels"]
    assert {each["name"]: (each["unit"], each["range"]) for each in channels}["SPEED"] == ("km/h", [0.0, 350.0])


def test_pandas_reads_it():
    pytest.importorskip("pandas", reason="this is about pandas")
    stream = readings([1.5, 2.5], sensors=2)
    frame = pa.ipc.open_stream(Packer(describe).pack(stream)).read_pandas()
    assert frame["channel"].tolist() == ["SPEED", "SPEED"]
    assert frame["value"].tolist() == [1.5, 2.5]
    assert frame["driver"].isna().tolist() == [True, False]


# What is refused ------------------------------------------------------------------------------------------------------


def packed(columns, schema):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return sink.getvalue()


def said_anew(**changes):
    """A message of one reading whose metadata says this."""
    batch = pa.ipc.open_stream(Packer().pack(readings([1.0]))).read_next_batch()
    said = json.loads(batch.schema.metadata[KEY]) | changes
    return packed(batch.columns, batch.schema.with_metadata({KEY: json.dumps(said).encode()}))


def other(name, **changes):
    """A message of one reading, one of whose columns is another one."""
    batch = pa.ipc.open_stream(Packer().pack(readings([1.0]))).read_next_batch()
    at = batch.schema.names.index(name)
    field, column = changes.get("field", batch.schema.field(at)), changes.get("column", batch.column(at))
    columns = [*batch.columns[:at], column, *batch.columns[at + 1 :]]
    return packed(columns, batch.schema.set(at, field))


REFUSED = {
    "nothing": (b"", "is no message of readings, or damaged: "),
    "a text": (b"hello, world", "is no message of readings, or damaged: "),
    "another table": (
        packed([pa.array([1])], pa.schema({"a": pa.int64()})),
        "has no metadata 'f1buf'; expected reading",
    ),
    "a newer version": (said_anew(schema=VERSION + 1), f"has schema version 2; expected {VERSION}: a newer f1buf may"),
    "no version": (said_anew(schema=None), "has schema version None; expected 1"),
    "other columns": (
        other("flags", field=pa.field("flag", pa.uint16(), nullable=False)),
        "has the columns timestamp, sensor_id, channel, value, flag; expected timestamp, sensor_id, channel, value, fl",
    ),
    "another type": (
        other("value", field=pa.field("value", pa.float32()), column=pa.array([1.0], pa.float32())),
        "has the columns timestamp, ",
    ),
    "a value that is missing": (
        other("value", field=pa.field("value", pa.float64()), column=pa.array([None], pa.float64())),
        "is no message of readings, or damaged: ",
    ),
    "no batch": (packed([], pa.schema([], {KEY: b"{}"})), "has schema version None; "),
    "metadata that is a list": (packed([], pa.schema([], {KEY: b"[]"})), "has schema version None; "),
    "metadata that is no JSON": (packed([], pa.schema([], {KEY: b"{"})), "is no message of readings, or damaged: "),
    "deep metadata": (packed([], pa.schema([], {KEY: b"[" * 100_000})), "is no message of readings, or damaged: "),
    "no channels": (said_anew(channels=None), "is no message of readings, or damaged: "),
    "a channel without a unit": (said_anew(channels=[{"name": "A"}]), "is no message of readings, or damaged: "),
    "a channel that is a number": (said_anew(channels=[1]), "is no message of readings, or damaged: "),
    "thresholds that make no sense": (said_anew(thresholds="[["), "is no message of readings, or damaged: "),
    "thresholds that are a number": (said_anew(thresholds=1), "is no message of readings, or damaged: "),
}


@pytest.mark.parametrize(("message", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_message(message, said):
    unpacker = Unpacker()
    with pytest.raises(MessageError) as error:
        unpacker.unpack(message)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    whole = readings([1.0])
    assert unpacker.unpack(Packer().pack(whole)).readings.tobytes() == whole.tobytes()  # it goes on


@pytest.mark.parametrize("known", [None, describe], ids=["plain", "described"])
def test_damage_is_seen_before_arrow_sees_it(known):
    """Without the checksum some of these give other values, and some end the process."""
    message, unpacker = Packer(known).pack(readings([1.0, 2.0, 3.0])), Unpacker()
    expected, random = checksum(message), seeded()
    for at in range(len(message)):
        damaged = bytearray(message)
        damaged[at] ^= random.randrange(1, 256)
        with pytest.raises(MessageError, match=r"^is damaged: its checksum differs; expected readings that f1buf pub"):
            unpacker.unpack(bytes(damaged), expected)
    for size in range(0, len(message), 7):
        with pytest.raises(MessageError, match=r"^is damaged: "):
            unpacker.unpack(message[:size], expected)
    assert len(unpacker.unpack(message, expected).readings) == 3


def test_a_message_without_a_checksum():
    with pytest.raises(MessageError, match=r"^has no checksum; expected readings that f1buf published"):
        Unpacker().unpack(Packer().pack(readings([1.0])), "")


@thorough
def test_a_message_that_was_cut_off():
    message, unpacker = Packer().pack(readings([1.0, 2.0, 3.0])), Unpacker()
    for size in range(len(message) - 8):  # behind them are only the eight bytes that end a stream
        with pytest.raises(MessageError):
            unpacker.unpack(message[:size])


def test_an_array_of_another_kind_is_no_reading():
    with pytest.raises((TypeError, ValueError, IndexError)):
        Packer().pack(np.zeros(1, "i8"))
    assert Packer().pack(np.zeros(0, READING))
