"""CAN: what frames mean by their database, logs in every format, live buses, and the answers of a real car's log."""

import argparse
import contextlib
import gzip
import importlib.util
import io
import logging
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from can_helpers import can, cantools, decode, frame, named, written
from cli_helpers import watchdog
from helpers import WATCHDOG, Task, thorough, wait_until
from own_network import NOT_ALLOWED

import f1buf
from f1buf import READING
from f1buf.command.can import add_options
from f1buf.command.can_bus import add_bus_arguments, open_bus
from f1buf.command.parser import Parser
from f1buf.telemetry import F1TelemetrySystem, TelemetryError, Threshold, ThresholdTable, channels
from f1buf.telemetry.channels import channels_by_name
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can import bus as can_bus
from f1buf.telemetry.sources.can.bus import CanBus
from f1buf.telemetry.sources.can.decoder import CanDecoder, CanError
from f1buf.telemetry.sources.can.log import CanReplay, open_can_log

DATABASE = """\
VERSION ""
BS_:
BU_: ECU
BO_ 256 ENGINE: 4 ECU
 SG_ RPM : 0|16@1+ (0.25,0) [0|16000] "rpm" ECU
 SG_ OIL_TEMP : 16|8@1- (1,0) [-40|127] "°C" ECU
 SG_ GEAR : 24|4@1+ (1,0) [0|0] "" ECU
BO_ 257 TORQUES: 5 ECU
 SG_ TORQUE : 7|16@0- (0.1,0) [-3276.8|3276.7] "Nm" ECU
 SG_ BOOST : 27|12@0+ (1,-100) [-100|3995] "kPa" ECU
BO_ 258 PAGES: 4 ECU
 SG_ PAGE M : 0|8@1+ (1,0) [0|1] "" ECU
 SG_ OIL_PRESSURE m0 : 8|16@1+ (0.01,0) [0|10] "bar" ECU
 SG_ FUEL_PRESSURE m1 : 8|8@1+ (0.1,0) [0|10] "bar" ECU
 SG_ COUNT : 24|8@1+ (1,0) [0|255] "" ECU
BO_ 259 VOLTAGES: 8 ECU
 SG_ BATTERY : 0|32@1- (1,0) [0|0] "V" ECU
 SG_ LAMBDA : 32|32@1- (1,0) [0|0] "V" ECU
BO_ 260 WHEELS: 2 ECU
 SG_ RPM : 0|16@1+ (1,0) [0|3000] "1/min" ECU
BO_ 2147483904 ENGINE_2: 2 ECU
 SG_ RPM : 0|16@1+ (0.25,0) [0|16000] "rpm" ECU
BO_ 261 NOTHING: 8 ECU
VAL_ 256 GEAR 0 "neutral" 1 "first" 2 "second" ;
SIG_VALTYPE_ 259 BATTERY : 1;
SIG_VALTYPE_ 259 LAMBDA : 1;
"""
SIGNALS = 13


@pytest.fixture
def database(tmp_path):
    return written(tmp_path / "car.dbc", DATABASE)


@pytest.fixture
def decoder(database):
    return CanDecoder([database])


def decoded(decoder, *frame_and_data, **options):
    return named(decoder, frame(*frame_and_data, **options))


def only_rejected(decoder, reason, message):
    """The frame gives no reading, and is counted for this reason alone."""
    decoder.rejected.clear()
    readings = decode(decoder, message)
    assert readings.dtype == READING
    assert not len(readings)
    assert decoder.rejected == {reason: 1}


# What signals become --------------------------------------------------------------------------------------------------


def test_channels_have_the_names_units_and_ranges_of_the_database(decoder):
    found = {(channel.name, channel.unit): channel.range for channel in decoder.channels}
    assert found == {
        ("RPM", "rpm"): (0, 16000),
        ("OIL_TEMP", "°C"): (-40, 127),
        ("GEAR", ""): (-np.inf, np.inf),  # [0|0]: nobody knows
        ("TORQUE", "Nm"): (-3276.8, 3276.7),
        ("BOOST", "kPa"): (-100, 3995),
        ("PAGE", ""): (0, 1),
        ("OIL_PRESSURE", "bar"): (0, 10),
        ("FUEL_PRESSURE", "bar"): (0, 10),
        ("COUNT", ""): (0, 255),
        ("BATTERY", "V"): (-np.inf, np.inf),
        ("LAMBDA", "V"): (-np.inf, np.inf),
        ("RPM", "1/min"): (0, 3000),
    }


def test_thresholds_can_name_a_channel_before_its_first_frame(tmp_path):
    path = written(tmp_path / "early.dbc", DATABASE.replace("OIL_TEMP", "NEVER_HEARD_OF"))
    assert not channels_by_name("NEVER_HEARD_OF")
    CanDecoder([path])
    ThresholdTable([Threshold("NEVER_HEARD_OF", above=1.0, message="?")])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # little-endian: 0x1F40 is 8000 quarters; 0xD8 is -40 with its sign; 0x2 of 0xF2, "second"
        (
            (256, 0x40, 0x1F, 0xD8, 0xF2),
            [("ENGINE", "RPM", 2000.0), ("ENGINE", "OIL_TEMP", -40.0), ("ENGINE", "GEAR", 2)],
        ),
        # big-endian: 0xFF38 is -200 tenths; 0xABC, across bytes and not from a byte's first bit
        ((257, 0xFF, 0x38, 0, 0xFA, 0xBC), [("TORQUES", "TORQUE", -20.0), ("TORQUES", "BOOST", 0xABC - 100)]),
        # multiplexed: only what is sent
        ((258, 0, 0x2C, 0x01, 7), [("PAGES", "PAGE", 0), ("PAGES", "COUNT", 7), ("PAGES", "OIL_PRESSURE", 3.0)]),
        ((258, 1, 50, 0xFF, 8), [("PAGES", "PAGE", 1), ("PAGES", "COUNT", 8), ("PAGES", "FUEL_PRESSURE", 5.0)]),
        # IEEE 754: 13.5 and -0.75
        ((259, 0, 0, 0x58, 0x41, 0, 0, 0x40, 0xBF), [("VOLTAGES", "BATTERY", 13.5), ("VOLTAGES", "LAMBDA", -0.75)]),
        # far beyond the database's range: a reading all the same
        ((260, 0xFF, 0xFF), [("WHEELS", "RPM", 65535)]),
        # longer than the database says
        ((260, 1, 0, 9, 9, 9), [("WHEELS", "RPM", 1)]),
        ((261, *range(8)), []),
    ],
    ids=["little-endian", "big-endian", "page 0", "page 1", "floats", "out of range", "long", "no signals"],
)
def test_values_computed_by_hand(decoder, message, expected):
    found = decoded(decoder, *message)
    assert sorted(found) == sorted((part, name, pytest.approx(value, abs=1e-9)) for part, name, value in expected)
    assert not decoder.rejected


def test_values_are_those_of_cantools(database, decoder):
    reference = cantools.database.load_file(database, encoding="utf-8")
    rng = random.Random(1)
    compared = 0
    for message in reference.messages:
        for _ in range(200):
            data = rng.randbytes(message.length)
            if message.name == "PAGES":
                data = bytes([rng.randrange(2)]) + data[1:]
            expected = {
                (message.name, name): value
                for name, value in message.decode(data, decode_choices=False).items()
                if np.isfinite(value)
            }
            found = decoded(decoder, message.frame_id, *data, is_extended_id=message.is_extended_frame)
            assert {(part, name): value for part, name, value in found} == expected
            compared += len(expected)
    assert compared > 2000


def test_standard_and_extended_ids_are_different(decoder):
    assert decoded(decoder, 256, 4, 0, is_extended_id=True) == [("ENGINE_2", "RPM", 1.0)]
    assert decoded(decoder, 256, 8, 0, 0, 0)[0] == ("ENGINE", "RPM", 2.0)
    only_rejected(decoder, "no database entry", frame(260, 0, 0, is_extended_id=True))


def test_the_same_name_in_several_messages(decoder):
    """One channel where unit and range are the same, another where they are not, and always sensors of their own."""
    one, other, wheels = (
        decode(decoder, message)[0]
        for message in (frame(256, 0, 0, 0, 0), frame(256, 0, 0, is_extended_id=True), frame(260, 0, 0))
    )
    assert one["channel"] == other["channel"] != wheels["channel"]
    assert len({one["sensor_id"], other["sensor_id"], wheels["sensor_id"]}) == 3
    numbers = {channel.number for channel in channels_by_name("RPM")}
    assert {one["channel"], wheels["channel"]} <= numbers


def test_each_signal_of_each_bus_is_a_sensor(decoder):
    sensors = {}
    for bus in (None, "can1", 7):
        readings = [
            decode(decoder, frame(256, 0, 0, 0, 0, channel=bus)),
            decode(decoder, frame(258, 0, 0, 0, 0, channel=bus)),
            decode(decoder, frame(258, 1, 0, 0, 0, channel=bus)),
        ]
        ids = {int(each) for batch in readings for each in batch["sensor_id"]}
        assert len(ids) == 7
        assert {int(each) for batch in readings for each in batch["flags"]} == {0}
        sensors[bus] = ids
        again = decode(decoder, frame(256, 1, 1, 1, 1, channel=bus))["sensor_id"]
        assert again.tolist() == readings[0]["sensor_id"].tolist()
    assert len(set.union(*sensors.values())) == 21
    parts = {bus: {decoder.describe(sensor, 0)["part"] for sensor in ids} for bus, ids in sensors.items()}
    assert parts == {
        None: {"ENGINE", "PAGES"},
        "can1": {"ENGINE (can1)", "PAGES (can1)"},
        7: {"ENGINE (7)", "PAGES (7)"},
    }


def test_sensors_are_numbered_the_same_each_time(database, decoder):
    message = frame(259, *bytes(8))
    assert decode(decoder, message).tolist() == decode(CanDecoder([database]), message).tolist()


@pytest.mark.parametrize("sensor_id", [-1, SIGNALS, 10**9])
def test_a_sensor_that_does_not_exist(decoder, sensor_id):
    assert decoder.describe(SIGNALS - 1, 0) == {"part": "ENGINE_2"}
    with pytest.raises(ValueError, match=f"sensor_id is {sensor_id}: expected one of a reading"):
        decoder.describe(sensor_id, 0)


def test_a_reading_is_the_callers_own(decoder):
    message = frame(256, 4, 0, 1, 1, time=12.5)
    first = decode(decoder, message)
    expected = first.tolist()
    assert first["timestamp"].tolist() == [12.5] * 3
    first["value"] = first["sensor_id"] = 9
    message.data[:] = bytes(4)
    assert decode(decoder, frame(256, 4, 0, 1, 1, time=12.5)).tolist() == expected


# What is not used -----------------------------------------------------------------------------------------------------


def test_frames_that_are_not_used_are_counted_by_reason(decoder):
    only_rejected(decoder, "no database entry", frame(0x7FF, 1, 2, 3))
    only_rejected(decoder, "remote frame", frame(256, is_remote_frame=True, dlc=4))
    only_rejected(decoder, "error frame", frame(256, 0, 0, 0, 0, is_error_frame=True))
    only_rejected(decoder, "too short", frame(256, 1))
    only_rejected(decoder, "too short", frame(256))


def test_values_that_are_no_numbers_are_left_out(decoder):
    nan, infinite = (0, 0, 0xC0, 0x7F), (0, 0, 0x80, 0xFF)
    assert decoded(decoder, 259, *nan, 0, 0, 0x80, 0x3F) == [("VOLTAGES", "LAMBDA", 1.0)]
    assert decoder.rejected == {"not a number": 1}
    assert decoded(decoder, 259, *nan, *infinite) == []
    assert decoder.rejected == {"not a number": 3}


def test_a_message_that_makes_no_sense_does_not_spoil_the_others(tmp_path):
    text = DATABASE.replace("OIL_TEMP : 16|8", "SPOILT : 8|16").replace("WHEELS: 2", "WHEELS: 1")
    decoder = CanDecoder([written(tmp_path / "overlapping.dbc", text)])
    assert not channels_by_name("SPOILT")  # a threshold for it is refused, rather than never crossed
    reason = "unusable database entry: The signals SPOILT and RPM are overlapping in message ENGINE"
    only_rejected(decoder, reason, frame(256, 0, 0, 0, 0))
    reason = "unusable database entry: The signal RPM does not fit in message WHEELS"
    only_rejected(decoder, reason, frame(260, 0, 0))
    assert decoded(decoder, 256, 4, 0, is_extended_id=True) == [("ENGINE_2", "RPM", 1.0)]


def test_containers_are_counted(decoder, database, monkeypatch):
    [message] = cantools.database.load_string('BO_ 1 M: 1 E\n SG_ X : 0|8@1+ (1,0) [0|1] "" E\n', "dbc").messages
    container = cantools.database.Message(5, "CONTAINER", 64, signals=[], contained_messages=[message])
    monkeypatch.setattr(
        cantools.database, "load_string", lambda *_, **__: cantools.database.Database([container, message])
    )
    decoder = CanDecoder([database])
    only_rejected(decoder, "container message", frame(5, *bytes(64), is_fd=True))
    assert decoded(decoder, 1, 3) == [("M", "X", 3.0)]


def test_more_buses_than_are_told_apart(decoder):
    for bus in range(300):
        decode(decoder, frame(260, 0, 0, channel=f"can{bus}"))
    assert decoder.rejected == {"too many buses": 300 - 256}
    assert decoder.describe(255 * SIGNALS, 0) == {"part": "ENGINE (can255)"}
    assert decoded(decoder, 260, 1, 0, channel="can3") == [("WHEELS (can3)", "RPM", 1.0)]


def test_no_frame_raises(decoder):
    """Whatever a frame holds, it gives readings or is counted, once; nothing of it reaches a terminal as it is."""
    rng = random.Random(2)
    ids = [256, 257, 258, 259, 260, 261, 0, 2**29 - 1, 2**40, -1]
    buses = [None, "can0", 3, -1, "\x1b[2J", ["a", "list"], {"a": "dict"}, float("nan")]
    decode(decoder, frame(260, 0, 0, channel="first"))  # the one that is not named
    nothing = 0
    for n in range(20_000):
        message = can.Message(
            timestamp=rng.choice([0.0, -1.0, 1e300, n]),
            arbitration_id=rng.choice([*ids, rng.randrange(2**11)]),
            is_extended_id=rng.random() < 0.2,
            is_remote_frame=rng.random() < 0.1,
            is_error_frame=rng.random() < 0.1,
            is_fd=rng.random() < 0.2,
            channel=rng.choice(buses),
            data=rng.randbytes(rng.choice([0, 1, 2, 4, 5, 8, 64])),
        )
        before = decoder.rejected.total()
        readings = decode(decoder, message)
        assert np.isfinite(readings["value"]).all()
        known_and_empty = message.arbitration_id == 261 and not message.is_extended_id
        assert len(readings) or decoder.rejected.total() > before or known_and_empty
        nothing += not len(readings)
        assert all(decoder.describe(sensor, 0)["part"].isprintable() for sensor in readings["sensor_id"].tolist())
    assert 1000 < nothing < 19_000
    assert "undecodable" not in decoder.rejected


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["dbc", "kcd", "sym", "DBC", "unknown"])
def test_every_format_of_database(tmp_path, database, suffix):
    # A SYM file knows one signal of a name.
    written(database, DATABASE.replace("RPM : 0|16@1+ (1,0)", "SPEED : 0|16@1+ (1,0)"))
    decoder = CanDecoder([database])
    given = cantools.database.load_file(database, encoding="utf-8", sort_signals=None)
    path = tmp_path / f"other.{suffix}"
    file_format = "dbc" if suffix == "unknown" else suffix.lower()
    try:
        cantools.database.dump_file(given, path, file_format, encoding="utf-8")
    except AttributeError:
        pytest.skip("this cantools is too old to write such a file")
    other = CanDecoder([path])
    messages = [frame(256, 1, 2, 3, 1), frame(257, 9, 8, 7, 6, 5), frame(258, 1, 2, 3, 4), frame(260, 5, 6)]
    for message in [*messages, frame(256, 5, 6, is_extended_id=True)]:
        assert sorted(named(other, message)) == sorted(named(decoder, message))
    assert not other.rejected
    units = {channel.name: channel.unit for channel in other.channels}
    assert units["OIL_TEMP"] == "°C"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_units_in_any_encoding(tmp_path, encoding, newline):
    path = written(tmp_path / "car.dbc", DATABASE.replace("\n", newline).encode(encoding))
    assert "°C" in [channel.unit for channel in CanDecoder([path]).channels]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("[0|0]", (-np.inf, np.inf)),
        ("[5|5]", (-np.inf, np.inf)),
        ("[9|-9]", (-np.inf, np.inf)),
        ("[-1e300|1e300]", (-1e300, 1e300)),
        ("[0|1]", (0, 1)),
    ],
)
def test_ranges(tmp_path, limits, expected):
    path = written(tmp_path / "car.dbc", f'BO_ 1 M: 1 E\n SG_ LIMITED : 0|8@1+ (1,0) {limits} "x" E\n')
    [channel] = CanDecoder([path]).channels
    assert channel.range == expected
    assert decode(CanDecoder([path]), frame(1, 200))["value"].tolist() == [200.0]


KCD = """\
<NetworkDefinition xmlns="http://kayak.2codeornot2code.org/1.0"><Bus name="b">
<Message id="0x1" name="{message}" length="2"><Signal name="{signal}" offset="0" length="8"><Value unit="{unit}"
{limits}/></Signal></Message></Bus></NetworkDefinition>
"""


def test_names_with_odd_characters_can_be_printed(tmp_path):
    text = KCD.format(message="a b&#x9b;m", signal="Öl&#x202e; &lt;1&gt; 油", unit="&#xb5;&#10;V", limits='min="1"')
    decoder = CanDecoder([written(tmp_path / "car.kcd", text)])
    [channel] = decoder.channels
    assert (channel.name, channel.range) == ("Öl\ufffd <1> 油", (1.0, np.inf))
    assert channel.unit.isprintable()
    assert channel.unit.startswith("µ")
    assert decoded(decoder, 1, 2, 0) == [("a b\ufffdm", channel.name, 2.0)]


def test_several_databases(tmp_path, database):
    more = 'BO_ 1 MORE: 1 E\n SG_ X : 0|8@1+ (1,0) [0|1] "" E\n'
    more += DATABASE[DATABASE.index("BO_ 260") : DATABASE.index("BO_ 21474")]
    other = written(tmp_path / "more.dbc", more)
    decoder = CanDecoder([database, str(other)])  # WHEELS is in both, and is the same
    assert decoded(decoder, 1, 3) == [("MORE", "X", 3.0)]
    assert decoded(decoder, 260, 1, 0) == [("WHEELS", "RPM", 1.0)]
    assert decoder.describe(SIGNALS) == {"part": "MORE"}


@pytest.mark.parametrize(
    ("old", "new"),
    [("WHEELS", "OTHERS"), ("(1,0) [0|3000]", "(2,0) [0|3000]"), ("WHEELS: 2", "WHEELS: 3")],
    ids=["name", "factor", "length"],
)
def test_databases_that_contradict_each_other_are_not_used_where_they_do(tmp_path, database, old, new):
    decoder = CanDecoder([database, written(tmp_path / "other.dbc", DATABASE.replace(old, new))])
    name = "OTHERS" if new == "OTHERS" else "WHEELS"
    only_rejected(decoder, f"ambiguous id: WHEELS and {name} both have 0x104", frame(260, 0, 0))
    assert decoded(decoder, 256, 4, 0, is_extended_id=True) == [("ENGINE_2", "RPM", 1.0)]
    assert not [channel for channel in decoder.channels if channel.unit == "1/min"]  # a threshold for it is refused


@contextlib.contextmanager
def no_logging():
    """Nobody handles the log, as in the command: then Python prints warnings on standard error."""
    handlers, logging.root.handlers = logging.root.handlers, []
    try:
        yield
    finally:
        logging.root.handlers = handlers


def refusal(*paths):
    with no_logging(), pytest.raises(CanError) as caught:
        CanDecoder(paths)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_databases_that_cannot_be_read(tmp_path, capfd):
    missing = tmp_path / "missing.dbc"
    formats = ".arxml, .dbc, .kcd, .sym"
    assert refusal(missing) == f"{missing}: No such file or directory; expected a CAN database: {formats}"
    assert refusal(tmp_path) == f"{tmp_path}: Is a directory; expected a CAN database: {formats}"
    bad = f"{tmp_path}/bad"
    for suffix, reason in ((".dbc", "Invalid syntax at line 1"), (".kcd", "syntax error"), (".arxml", "syntax error")):
        for content in (b"nonsense " * 1000, b"", b"\xff\x00\x1b" * 100):
            Path(bad + suffix).write_bytes(content)
            message = refusal(bad + suffix)
            assert message.startswith(f"{bad}{suffix}: no CAN database that cantools can read: ")
            assert reason in message or not content.startswith(b"nonsense")
    Path(bad + ".txt").write_text("nonsense")
    assert refusal(bad + ".txt") == f"{bad}.txt: no CAN database that cantools can read: not one of {formats}"
    Path(bad + ".dbc").write_text('BO_ 1 X: 8 E\n SG_ A : 0|0@1+ (1,0) [0|0] "" E\n')
    assert "length 0 is not greater than 0 in message X" in refusal(bad + ".dbc")
    Path(bad + ".dbc").write_text("BO_ 1 X: 8 E\n")
    assert "no signal" in refusal(bad + ".dbc")
    assert "no signal" in refusal()
    twice = 'BO_ 2147483649 {}: 1 E\n SG_ S : 0|8@1+ (1,0) [0|0] "" E\n'
    Path(bad + ".dbc").write_text(twice.format("A") + twice.format("B"))
    reason = "(ambiguous id: A and B both have the extended id 0x1); expected messages with signals"
    assert refusal(bad + ".dbc").endswith(reason)
    assert capfd.readouterr() == ("", "")


def test_a_signal_without_a_name(tmp_path):
    path = written(tmp_path / "car.kcd", KCD.format(message="m", signal=" ", unit="", limits=""))
    assert refusal(path).startswith(f"{path}: message m: a channel's name is ' '")


def test_more_channels_than_can_be_told_apart(tmp_path, monkeypatch):
    path = written(tmp_path / "new.dbc", 'BO_ 1 M: 1 E\n SG_ ONE_TOO_MANY : 0|8@1+ (1,0) [0|0] "" E\n')
    monkeypatch.setattr(channels, "MAX_CHANNELS", len(channels.known_channels()))
    assert refusal(path).startswith(f"{path}: message M: channel ONE_TOO_MANY: this process already has ")


@pytest.mark.parametrize("package", ["can", "can.cli", "cantools"])
def test_a_package_that_is_missing(database, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    for call in (
        lambda: CanDecoder([database]),
        lambda: open_can_log(database),
        lambda: open_bus(argparse.Namespace()),
        lambda: add_bus_arguments(argparse.ArgumentParser()),
    ):
        with pytest.raises(
            CanError, match=r"^CAN needs python-can 4\.6 and cantools \(.*\): pip install 'f1buf\[can\]'$"
        ):
            call()


# Logs -----------------------------------------------------------------------------------------------------------------


def some_frames(count=500):
    """Frames of a car, some of them unknown, 1 ms apart."""
    rng = random.Random(3)
    frames = []
    for n in range(count):
        frame_id, size = rng.choice([(256, 4), (257, 5), (258, 4), (260, 2), (0x55, 8), (0x10000, 3)])
        data = bytes([n % 2]) + rng.randbytes(size - 1)
        extended = frame_id > 0x7FF or (frame_id == 256 and rng.random() < 0.3)
        frames.append(frame(frame_id, *data, time=1_700_000_000.5 + n / 1000, is_extended_id=extended))
    return frames


def write_log(path, frames):
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    with can.Logger(str(plain)) as writer:
        for each in frames:
            writer(each)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def all_of(source, stop=None):
    batches = list(source.batches(stop or threading.Event()))
    assert all(map(len, batches))
    return np.concatenate([np.empty(0, READING), *batches])


FORMATS = {".log": 1e-6, ".asc": 1e-6, ".blf": 1e-6, ".csv": 0, ".db": 0, ".trc": 1e-3, ".mf4": 1e-6}  # precision [s]


@pytest.mark.parametrize("suffix", [*FORMATS, ".log.gz", ".blf.gz", ".BLF"])
def test_a_log_in_every_format(tmp_path, database, decoder, suffix):
    if suffix == ".mf4":
        pytest.importorskip("asammdf", reason="asammdf is not installed")
    frames = some_frames()
    log = open_can_log(write_log(tmp_path / f"car{suffix}", frames))
    expected = np.concatenate([decode(decoder, each) for each in frames])
    other = CanDecoder([database])
    for speed in (None, 1e6):
        other.rejected.clear()
        # In a thread of its own, as the system does it.
        found = Task(all_of, CanReplay(log, other, speed)).result()
        for field in ("sensor_id", "channel", "flags", "value"):
            assert found[field].tolist() == expected[field].tolist()
        since_start = [each["timestamp"] - each["timestamp"][0] for each in (found, expected)]
        precision = next((each for name, each in FORMATS.items() if suffix.lower().startswith(name)), 0)
        assert np.abs(since_start[0] - since_start[1]).max() <= precision + 1e-6
        assert other.rejected == decoder.rejected
        assert decoder.rejected["no database entry"] > 50
    assert not log.rejected


def test_error_and_remote_frames_of_a_log(tmp_path, decoder):
    frames = [
        frame(256, 1, 1, 1, 1),
        frame(256, is_remote_frame=True, dlc=4),
        can.Message(timestamp=1.5, is_error_frame=True, is_extended_id=False),
        frame(256, 2, 2, 2, 2, time=2.0),
    ]
    log = open_can_log(write_log(tmp_path / "car.log", frames))
    assert len(all_of(CanReplay(log, decoder, None))) == 6
    assert decoder.rejected == {"remote frame": 1, "error frame": 1}


def test_a_log_of_several_buses(tmp_path, decoder):
    path = written(tmp_path / "car.log", "".join(f"({n}.0) can{n % 2} 104#{n:02X}00\n" for n in range(10)))
    alerts, _ = analyse(CanReplay(open_can_log(path), decoder, None), decoder, Threshold("RPM", above=4.5, message="!"))
    assert [(alert.value, alert.part) for alert in alerts] == [(5.0, "WHEELS (can1)"), (6.0, "WHEELS")]


def analyse(source, decoder, *thresholds):
    """Run a source through a system; its alerts, and its summary."""
    alerts = []
    system = F1TelemetrySystem(1000, thresholds=thresholds, on_alert=alerts.append)
    with watchdog():
        system.start([source], 3, describe=decoder.describe)
        system.wait()
        summary = system.shutdown()
    assert summary.readings == summary.analysed
    return alerts, summary


def test_a_replay_keeps_its_pace(tmp_path, decoder):
    """Never ahead of time; how late it is depends on the machine."""
    frames = [frame(260, n, 0, time=100 + n / 10) for n in range(4)]
    log = open_can_log(write_log(tmp_path / "car.log", frames))
    began, found = time.monotonic(), []
    for batch in CanReplay(log, decoder, 2.0).batches(threading.Event()):  # of several frames, where it is late
        found += batch["value"].tolist()
        assert time.monotonic() - began >= found[-1] / 20 - 1e-3
    assert found == [0, 1, 2, 3]


def test_a_stop_ends_a_replay_at_once(tmp_path, decoder):
    frames = [frame(260, 1, 0, time=0.0), frame(260, 2, 0, time=50.0)]
    log = open_can_log(write_log(tmp_path / "car.csv", frames))
    stop = threading.Event()
    batches = CanReplay(log, decoder, 0.01).batches(stop)
    assert next(batches)["value"].tolist() == [1.0]
    waiting = Task(list, batches)
    stop.set()
    assert waiting.result() == []


def test_timestamps_that_make_no_sense_are_left_out(tmp_path, decoder):
    text = "(nan) can0 104#0100\n(1.0) can0 104#0200\n(inf) can0 104#0300\n(2.0) can0 104#0400\n"
    log = open_can_log(written(tmp_path / "car.log", text))
    assert all_of(CanReplay(log, decoder, 1e6))["value"].tolist() == [2.0, 4.0]
    assert log.rejected == {"absurd timestamp": 2}


def log_refusal(path):
    with pytest.raises(RecordingError) as caught:
        list(open_can_log(path).frames())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_logs_that_cannot_be_read(tmp_path):
    assert log_refusal(tmp_path / "missing.log") == "No such file or directory; expected a CAN log"
    assert log_refusal(tmp_path) == "not a regular file; expected a CAN log"
    os.mkfifo(tmp_path / "pipe.log")
    assert log_refusal(tmp_path / "pipe.log") == "not a regular file; expected a CAN log"
    unknown = 'no CAN log that can be read: No read support for unknown log format ".txt"'
    assert log_refusal(written(tmp_path / "car.txt", "x")) == unknown
    for suffix in (".blf", ".db", ".mf4"):
        path = written(tmp_path / f"car{suffix}", "(1.0) can0 104#0100\n" * 100)
        assert log_refusal(path) == f"no CAN log in the format that its name says, {suffix}"
    assert not (tmp_path / "missing.db").exists()
    assert log_refusal(tmp_path / "missing.db").startswith("No such file")
    assert not (tmp_path / "missing.db").exists()


def test_mf4_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "asammdf", None)
    message = log_refusal(written(tmp_path / "car.mf4", b"MDF     4.10" + bytes(1000)))
    assert re.fullmatch(r"no CAN log .* read: it needs asammdf \(.*\): pip install 'python-can\[mf4\]'", message)


def test_an_sqlite_database_of_something_else(tmp_path):
    connection = sqlite3.connect(tmp_path / "race.db")
    connection.execute("CREATE TABLE packets (pkt_id)")
    connection.close()
    assert log_refusal(tmp_path / "race.db") == "damaged or no CAN log (after frame 0): no such table: messages"


def test_a_log_that_is_something_else(tmp_path):
    for suffix, content in (
        (".log", b"Dear diary,\nto-day it rained\n"),
        (".log", random.Random(4).randbytes(5000)),
        (".csv", b"a,b\n1\n"),
    ):
        path = written(tmp_path / f"diary{suffix}", content)
        assert log_refusal(path).startswith("damaged or no CAN log (after frame 0): ")


def test_an_empty_log(tmp_path, decoder):
    path = written(tmp_path / "car.log", b"")
    assert not len(all_of(CanReplay(open_can_log(path), decoder, None)))


@pytest.mark.parametrize("speed", [None, 1e6], ids=["max", "paced"])
def test_damage_in_the_middle(tmp_path, decoder, speed):
    """What comes before it is analysed, and then it is told."""
    path = write_log(tmp_path / "car.log", [frame(260, n, 0, time=n / 1000) for n in range(100)])
    path.write_bytes(path.read_bytes() + b"(1.0) can0 10\x00\xff\xfe\n(2.0) can0 104#0000\n")
    system = F1TelemetrySystem(1000, thresholds=[])
    with watchdog():
        system.start([CanReplay(open_can_log(path), decoder, speed)], 2, describe=decoder.describe)
        system.wait()
        with pytest.raises(TelemetryError) as caught:
            system.shutdown()
    start = f"replay of car.log failed: RecordingError: {path}: damaged or no CAN log (after frame 100): "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert system.summary.analysed == 100


def test_logs_that_were_cut_off(tmp_path, decoder):
    frames = [frame(260, *random.Random(n).randbytes(8), time=n / 1000) for n in range(20_000)]
    path = write_log(tmp_path / "car.blf", frames)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    reason = f"cut off: {len(whole) // 2:,} bytes, expected {len(whole):,} by its header; copy it again"
    assert log_refusal(path).endswith(f"): {reason}")
    path = write_log(tmp_path / "car.log.gz", frames[:1000])
    path.write_bytes(path.read_bytes()[:-2000])
    found = []
    with pytest.raises(RecordingError, match=r"damaged or no CAN log \(after frame \d+\): Compressed file ended"):
        found.extend(open_can_log(path).frames())
    assert found


def test_text_in_any_encoding_around_the_frames(tmp_path, decoder):
    path = write_log(tmp_path / "car.asc", some_frames(10))
    lines = path.read_bytes().split(b"\n")
    lines[3:3] = ["// März".encode("cp1252")]
    path.write_bytes(b"\n".join(lines))
    assert sum(map(len, open_can_log(path).frames())) == 10


def test_no_file_is_left_open(tmp_path, decoder):
    path = write_log(tmp_path / "car.log", some_frames(10_000))
    frames = open_can_log(path).frames()

    def is_open():
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # another thread has closed it, or the collector
                if os.readlink(f"/proc/self/fd/{number}") == str(path):
                    return True
        return False

    assert not is_open()
    next(frames)
    assert is_open()
    frames.close()
    assert not is_open()


# A real car -----------------------------------------------------------------------------------------------------------

# From the data's README: threshold, readings, samples, rises.
ROAD_CAR = (
    (Threshold("COOLANT_TEMP", above=93.0, message="hot"), 1_806, 207, 1),
    (Threshold("RPM", above=5000.0, message="fast"), 9_030, 265, 3),
)


@pytest.fixture(scope="session")
def road_car(recordings_dir):
    paths = recordings_dir / "road_car.log", recordings_dir / "road_car.dbc"
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the log of a road car is missing: {paths[0]} (set F1BUF_DATA)")
    return paths


def test_the_road_car_has_exactly_its_known_samples_and_rises(road_car):
    path, database = road_car
    decoder = CanDecoder([database])
    log = open_can_log(path)
    thresholds = [threshold for threshold, *_ in ROAD_CAR]
    alerts, summary = analyse(CanReplay(log, decoder, None), decoder, *thresholds)
    assert summary.analysed == 91_381
    assert decoder.rejected == {"no database entry": 44_543}
    assert not log.rejected
    found = [(each["readings"], each["samples"], each["rises"]) for each in summary.thresholds]
    assert found == [tuple(numbers) for _, *numbers in ROAD_CAR]
    assert [(alert.channel, alert.part) for alert in alerts] == [("RPM", "ID_140")] * 3 + [("COOLANT_TEMP", "ID_360")]
    assert len(decoder.channels) == 20
    assert (alerts[-1].unit, alerts[-1].value) == ("C", 94.0)


# Live -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_buses(request):
    """A sender and a receiver on a virtual bus of their own."""
    with (
        can.Bus(interface="virtual", channel=request.node.name) as sender,
        can.Bus(interface="virtual", channel=request.node.name) as receiver,
    ):
        yield sender, receiver


def test_every_frame_of_a_live_bus_arrives_in_order(two_buses, decoder):
    sender, receiver = two_buses
    count = 3000
    alerts = []
    threshold = Threshold("RPM", above=2999.5, message="fast")
    system = F1TelemetrySystem(64, thresholds=[threshold], on_alert=alerts.append, alert_samples=True)
    source = CanBus(receiver, decoder)
    assert source.name == f"CAN bus ({receiver.channel_info})"
    now = []  # the clock may be set meanwhile
    with watchdog(WATCHDOG):
        system.start([source], 3, describe=decoder.describe)
        for n in range(count):
            now.append(time.time())
            sender.send(frame(260, *(n + 1000).to_bytes(2, "little")))
            if n % 10 == 0:
                sender.send(frame(0x7FF, 1))
        wait_until(lambda: system.analysed == count, "all frames")
        summary = system.shutdown()
        now.append(time.time())
    assert summary.readings == count
    assert [alert.value for alert in alerts] == list(range(3000, 4000))
    assert [alert.position for alert in alerts] == list(range(2000, 3000))
    assert {alert.part for alert in alerts} == {"WHEELS"}
    assert all(min(now) - 1 < alert.time < max(now) + 1 for alert in alerts)
    assert decoder.rejected == {"no database entry": count // 10}


def test_what_a_bus_has_received_at_the_stop_is_not_lost(two_buses, decoder):
    sender, receiver = two_buses
    for n in range(2000):
        sender.send(frame(260, *n.to_bytes(2, "little")))
    stop = threading.Event()
    stop.set()
    assert all_of(CanBus(receiver, decoder), stop)["value"].tolist() == list(range(2000))


def test_a_frame_does_not_wait_for_others(decoder):
    class Trickling:
        channel_info = "slow"

        def recv(self, timeout):
            return frame(260, 1, 0) if timeout > 0 else None

    assert len(next(CanBus(Trickling(), decoder).batches(threading.Event()))) == 1


def test_a_stop_ends_a_bus_that_never_falls_silent(decoder, monkeypatch):
    class Noisy:
        channel_info = "unknown"

        def recv(self, timeout):
            return frame(260, 1, 0)

    monkeypatch.setattr(can_bus, "AT_THE_STOP", 1000)
    stop = threading.Event()
    stop.set()
    source = CanBus(Noisy(), decoder)
    assert source.name == "CAN bus (Noisy)"
    assert 1000 <= len(all_of(source, stop)) <= 1000 + can_bus.AT_ONCE


def test_a_silent_bus_stops_at_once(two_buses, decoder):
    _, receiver = two_buses
    stop = threading.Event()
    waiting = Task(all_of, CanBus(receiver, decoder), stop)
    stop.set()
    assert not len(waiting.result())


def test_a_bus_that_fails(decoder):
    """What it gave before is analysed; the failure is one line."""

    class Unplugged(can.BusABC):
        channel_info = "can7"
        left = 300  # more than are put together

        def __init__(self):
            super().__init__("can7")

        def _recv_internal(self, timeout):
            self.left -= 1
            if self.left < 0:
                raise can.CanOperationError("the adapter is gone", error_code=100)
            return frame(260, 1, 0), False

        def send(self, msg, timeout=None):
            pass

    system = F1TelemetrySystem(1000, thresholds=[])
    with Unplugged() as bus, watchdog():
        system.start([CanBus(bus, decoder)], 1, describe=decoder.describe)
        system.wait()
        with pytest.raises(TelemetryError) as caught:
            system.shutdown()
    message = "CAN bus (can7) failed: CanOperationError: the adapter is gone [Error Code 100]"
    assert str(caught.value) == message
    assert system.summary.analysed == 300


MULTICAST = """
import sys, threading
sys.path[:0] = {paths!r}
import can
from helpers import wait_until
from can_helpers import can, cantools, decode, frame, named, written
from cli_helpers import watchdog
from f1buf.telemetry import F1TelemetrySystem, Threshold
from f1buf.telemetry.sources.can.bus import CanBus
from f1buf.telemetry.sources.can.decoder import CanDecoder

decoder = CanDecoder([{database!r}])
alerts = []
system = F1TelemetrySystem(64, thresholds=[Threshold("RPM", above=989.5, message="!")], on_alert=alerts.append,
                           alert_samples=True)
with (
    can.Bus(interface="udp_multicast", channel="239.74.163.2") as sender,
    can.Bus(interface="udp_multicast", channel="239.74.163.2") as receiver,
    watchdog({patience}),
):
    system.start([CanBus(receiver, decoder)], 2, describe=decoder.describe)
    for n in range(1000):
        sender.send(can.Message(arbitration_id=260, is_extended_id=False, data=n.to_bytes(2, "little")))
        if n % 50 == 49:  # not more at once than the socket holds: UDP waits for nobody
            wait_until(lambda: system.readings == n + 1, "what was sent")
    summary = system.shutdown()
assert summary.analysed == 1000, summary
assert [alert.value for alert in alerts] == list(range(990, 1000)), alerts
assert sum(decoder.rejected.values()) == 0, decoder.rejected
print(system.ring.stats().offered)
"""


@thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces are Linux's")
def test_multicast_in_a_network_of_its_own(database):
    if importlib.util.find_spec("msgpack") is None:  # not imported: its extension switches the GIL on
        pytest.skip("python-can's udp_multicast needs msgpack")
    paths = [str(Path(f1buf.__file__).parents[1]), *map(str, Path(__file__).parents[:2])]
    code = MULTICAST.format(paths=paths, database=str(database), patience=WATCHDOG)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("own_network.py")), sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "MSGPACK_PUREPYTHON": "1"},
        timeout=2 * WATCHDOG,
    )
    if done.returncode == NOT_ALLOWED:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")


# The command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """A function that parses the command's options, those of a bus among them; python-can finds no configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("CAN_")]:
        monkeypatch.delenv(name)
    parser = Parser(prog="f1buf can")
    add_options(parser)
    return lambda *arguments: parser.parse_args(["--dbc", "car.dbc", *arguments])


def test_options_of_a_bus(parse, capfd):
    args = parse(
        *["-i", "virtual", "-c", "options", "--timing", "f_clock=8_000_000", "tseg1=5", "tseg2=2", "sjw=2", "brp=2"],
        *["nof_samples=1", "--filter", "100:7F0", "--bus-kwargs", "rx_queue_size=7", "--duration", "3", "--json"],
    )
    assert (args.duration, args.json) == (3.0, True)
    with open_bus(args) as bus:
        assert bus.channel_info == "Virtual bus channel options"
        assert bus.queue.maxsize == 7
        assert bus.filters == [{"can_id": 0x100, "can_mask": 0x7F0}]
    assert capfd.readouterr() == ("", "")


def test_help_names_every_option_of_a_bus(parse, capfd):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capfd.readouterr().out
    for option in ("--channel", "--interface", "--bitrate", "--fd", "--data-bitrate", "--timing", "--filter"):
        assert option in text
    assert text.count("udp_multicast") == 1
    assert "ID:MASK" in text
    assert "R|" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--interface", "nonsense"],
        ["--filter", "nonsense"],
        ["--filter", "non:sense"],
        ["--timing", "x"],
        ["--timing", "x=1"],
        ["--bus-kwargs", "x"],
        ["--bitrate", "fast"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense(parse, capfd, arguments):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert arguments[0] in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "CAN bus: which one? give --interface, such as socketcan, and mostly --channel, such as can0"),
        (["-i", "socketcan", "-c", "no-such-bus"], "CAN bus: interface socketcan, channel no-such-bus: "),
        (["-i", "slcan", "-c", "/dev/no-such-bus"], "CAN bus: interface slcan, channel /dev/no-such-bus: "),
        (["-i", "kvaser", "-c", "0"], "CAN bus: interface kvaser, channel 0: "),
        (["-i", "gs_usb", "-c", "no-such-bus"], "CAN bus: interface gs_usb, channel no-such-bus: "),
        (["-i", "pcan"], "CAN bus: interface pcan: "),
        (["-i", "socketcand"], "CAN bus: interface socketcand: "),
        (["-i", "virtual", "--bus-kwargs", "port=0"], "CAN bus: interface virtual: Port config must be inside"),
    ],
    ids=["nothing", "socketcan", "slcan", "kvaser", "gs_usb", "pcan", "socketcand", "port"],
)
def test_buses_that_cannot_be_opened(parse, capfd, arguments, message):
    with no_logging(), pytest.raises(CanError) as caught:
        open_bus(parse(*arguments))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) > len(message) or not arguments or "Port" in message
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_bus_of_python_cans_configuration(parse, monkeypatch):
    monkeypatch.setenv("CAN_INTERFACE", "virtual")
    monkeypatch.setenv("CAN_CHANNEL", "configured")
    with open_bus(parse()) as bus:
        assert bus.channel_info == "Virtual bus channel configured"


def test_what_an_option_prints_does_not_reach_standard_output(capfd):
    """As with an older or newer python-can, which may print other things."""
    parser = argparse.ArgumentParser()
    add_bus_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr(sys, "stdout", out)
        parser.parse_args(["--filter", "1:7FF"])
    assert out.getvalue() == ""
