"""Which database is for which bus, and that frames of a batch are read as each would be alone."""

import random
from collections import Counter

import can_helpers
import numpy as np
import pytest
from can_helpers import can, cantools, decode, named, written

from f1buf import READING
from f1buf.telemetry.channels import channel_by_number, channels_by_name
from f1buf.telemetry.sources.can.decoder import CanDecoder, CanError
from f1buf.telemetry.sources.can.frames import Frames

ENGINE = """\
BO_ 256 ENGINE: 8 E
 SG_ OIL_TEMP : 0|16@1+ (0.1,0) [0|200] "degC" E
BO_ 512 SHARED: 2 E
 SG_ GEAR : 0|8@1+ (1,0) [0|0] "" E
BO_ 513 PAGES: 3 E
 SG_ PAGE M : 0|8@1+ (1,0) [0|1] "" E
 SG_ X m0 : 8|8@1+ (1,0) [0|0] "" E
 SG_ Y m1 : 16|8@1- (0.5,0) [0|0] "" E
BO_ 514 VOLTAGES: 4 E
 SG_ VOLTAGE : 0|32@1- (1,0) [0|0] "V" E
SIG_VALTYPE_ 514 VOLTAGE : 1;
"""
WHEELS = """\
BO_ 256 WHEELS: 8 E
 SG_ WHEEL_FL : 0|16@1+ (0.01,0) [0|400] "km/h" E
"""


def frame(frame_id, *data, bus="can0", **options):
    return can_helpers.frame(frame_id, *data, channel=bus, **options)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and returns its path."""
    return lambda name, text: written(tmp_path / name, text)


# Buses ----------------------------------------------------------------------------------------------------------------


def test_an_id_means_what_the_database_of_its_bus_says(write):
    decoder = CanDecoder([("can0", write("can0.dbc", ENGINE)), ("can1", write("can1.dbc", WHEELS))])
    found = named(decoder, *(frame(256, 0xE8, 3, *bytes(6), bus=bus) for bus in ("can0", "can1", "can1", "can0")))
    engine, wheels = ("ENGINE", "OIL_TEMP", 100.0), ("WHEELS (can1)", "WHEEL_FL", 10.0)
    assert found == [engine, wheels, wheels, engine]
    assert not decoder.rejected


def test_a_database_of_one_bus_is_not_for_another(write):
    decoder = CanDecoder([("can1", write("can1.dbc", WHEELS))])
    assert named(decoder, frame(256, *bytes(8)), frame(256, *bytes(8), bus="can10")) == []
    assert decoder.rejected == {"no database entry": 2}
    assert named(decoder, frame(256, *bytes(8), bus="can1")) == [("WHEELS", "WHEEL_FL", 0.0)]


def test_buses_that_are_not_heard_are_known(write):
    path = write("can1.dbc", WHEELS)
    decoder = CanDecoder([("can1", path), ("cam2", path), path])
    assert decoder.unheard == {"can1", "cam2"}
    decode(decoder, frame(1, bus="can1"), frame(1, bus="can2"))  # what the frame means is of no account
    assert (decoder.unheard, decoder.heard) == ({"cam2"}, {"can1", "can2"})
    decode(decoder, *(frame(1, bus=f"bus{n}") for n in range(1000)))
    assert len(decoder.heard) == 256


@pytest.mark.parametrize("own_first", [True, False])
def test_the_database_of_the_bus_comes_before_those_for_all(write, own_first):
    files = [("can1", write("can1.dbc", WHEELS)), write("all.dbc", ENGINE)]
    decoder = CanDecoder(files if own_first else files[::-1])
    found = named(decoder, *(frame(n, 10, *bytes(7), bus=bus) for bus in ("can0", "can1") for n in (256, 512)))
    assert found == [
        ("ENGINE", "OIL_TEMP", 1.0),
        ("SHARED", "GEAR", 10.0),
        ("WHEELS (can1)", "WHEEL_FL", 0.1),
        ("SHARED (can1)", "GEAR", 10.0),
    ]
    assert not decoder.rejected


def test_one_database_for_two_buses(write):
    path = write("body.dbc", WHEELS)
    decoder = CanDecoder([("can1", path), ("can2", path)])
    messages = [frame(256, 100, *bytes(7), bus=bus) for bus in ("can1", "can2", "can0")]
    assert named(decoder, *messages) == [("WHEELS", "WHEEL_FL", 1.0), ("WHEELS (can2)", "WHEEL_FL", 1.0)]
    assert len(decoder.channels) == 1
    assert decoder.rejected == {"no database entry": 1}


KCD = """\
<NetworkDefinition xmlns="http://kayak.2codeornot2code.org/1.0">
<Bus name="Motor">
<Message id="0x100" name="ENGINE" length="1"><Signal name="OIL" offset="0" length="8"/></Message>
<Message id="0x101" name="ONLY_MOTOR" length="1"><Signal name="RPM" offset="0" length="8"/></Message>
</Bus>
<Bus name="Comfort">
<Message id="0x100" name="DOORS" length="1"><Signal name="OPEN" offset="0" length="8"/></Message>
<Message id="0x102" name="ONLY_COMFORT" length="1"><Signal name="SEAT" offset="0" length="8"/></Message>
</Bus>
</NetworkDefinition>
"""


TELLS_NOTHING = "which the frame's bus does not tell apart"
BOTH = f"ambiguous id: ENGINE (of bus Motor) and DOORS (of bus Comfort) both have 0x100, {TELLS_NOTHING}"


def test_a_file_with_several_buses(write):
    decoder = CanDecoder([write("car.kcd", KCD)])
    ids = (0x100, 0x101, 0x102)
    assert named(decoder, *(frame(each, 7, bus=bus) for bus in ("Motor", "Comfort") for each in ids)) == [
        ("ENGINE", "OIL", 7.0),
        ("ONLY_MOTOR", "RPM", 7.0),
        ("DOORS (Comfort)", "OPEN", 7.0),
        ("ONLY_COMFORT (Comfort)", "SEAT", 7.0),
    ]
    assert decoder.rejected == {"no database entry": 2}


def test_a_file_whose_buses_have_other_names_is_for_all_and_one_doubled_id_refuses_that_message_alone(write):
    decoder = CanDecoder([write("car.kcd", KCD)])
    assert named(decoder, *(frame(each, 7) for each in (0x100, 0x101, 0x102))) == [
        ("ONLY_MOTOR", "RPM", 7.0),
        ("ONLY_COMFORT", "SEAT", 7.0),
    ]
    assert decoder.rejected == {BOTH: 1}


def test_a_message_of_no_bus_in_a_file_with_buses_is_for_all(write, monkeypatch):
    """As an ARXML file may have them."""
    database = cantools.database.load_string(KCD, "kcd")
    for message in database.messages:
        message.bus_name = message.bus_name if message.bus_name == "Motor" else None
    monkeypatch.setattr(cantools.database, "load_string", lambda *_, **__: database)
    decoder = CanDecoder([write("car.kcd", "")])
    found = named(decoder, *(frame(each, 7, bus="Motor") for each in (0x100, 0x101, 0x102)))
    assert found == [("ENGINE", "OIL", 7.0), ("ONLY_MOTOR", "RPM", 7.0), ("ONLY_COMFORT", "SEAT", 7.0)]


def test_a_file_with_several_buses_for_one_bus(write):
    path = write("car.kcd", KCD)
    assert named(CanDecoder([("Comfort", path)]), frame(0x100, 7, bus="Comfort")) == [("DOORS", "OPEN", 7.0)]
    decoder = CanDecoder([("can0", path)])
    assert named(decoder, frame(0x101, 7), frame(0x100, 7), frame(0x101, 7, bus="Motor")) == [
        ("ONLY_MOTOR", "RPM", 7.0)
    ]
    assert decoder.rejected == {BOTH: 1, "no database entry": 1}


def test_a_file_that_names_one_bus_comes_first_there_and_is_for_all_others(write):
    """A DBC file, too, may have the name of its bus."""
    name = 'BA_DEF_ "DBName" STRING ;\nBA_DEF_DEF_ "DBName" "";\nBA_ "DBName" "{}";\n'
    engine, wheels = (
        write("engine.dbc", ENGINE + name.format("can0")),
        write("wheels.dbc", WHEELS + name.format("can1")),
    )
    decoder = CanDecoder([engine, wheels])
    assert named(decoder, *(frame(256, 10, *bytes(7), bus=bus) for bus in ("can0", "can1", "can2"))) == [
        ("ENGINE", "OIL_TEMP", 1.0),
        ("WHEELS (can1)", "WHEEL_FL", 0.1),
    ]
    assert decoder.rejected == {
        f"ambiguous id: ENGINE (of bus can0) and WHEELS (of bus can1) both have 0x100, {TELLS_NOTHING}": 1
    }
    assert named(CanDecoder([wheels]), frame(256, 10, *bytes(7))) == [("WHEELS", "WHEEL_FL", 0.1)]


def test_a_doubled_id_of_one_bus_leaves_the_other_buses_alone(write):
    again = WHEELS.replace("WHEELS", "BRAKES").replace("WHEEL_FL", "DISK_FL")
    files = [("can1", write("can1.dbc", WHEELS)), ("can1", write("more.dbc", again)), write("all.dbc", ENGINE)]
    decoder = CanDecoder(files)
    messages = [frame(256, *bytes(8), bus=bus) for bus in ("can1", "can0")]
    assert named(decoder, *messages) == [("ENGINE", "OIL_TEMP", 0.0)]
    assert decoder.rejected == {"ambiguous id: WHEELS and BRAKES both have 0x100": 1}
    assert not channels_by_name("DISK_FL")  # a threshold for it is refused, rather than never crossed


def test_the_same_message_in_several_files_is_one(write):
    decoder = CanDecoder([write("a.dbc", ENGINE), write("b.dbc", ENGINE)])
    assert named(decoder, frame(256, 10, *bytes(7))) == [("ENGINE", "OIL_TEMP", 1.0)]
    assert decoder.describe(len(decoder.channels) - 1) == {"part": "VOLTAGES"}
    with pytest.raises(ValueError, match="sensor_id is"):
        decoder.describe(len(decoder.channels))


def test_a_database_of_a_bus_that_cannot_be_read(tmp_path, write):
    with pytest.raises(CanError, match=r"missing\.dbc: No such file"):
        CanDecoder([("can0", tmp_path / "missing.dbc")])
    with pytest.raises(CanError, match=r"no signal that can be decoded; expected"):
        CanDecoder([("can0", write("empty.dbc", "BO_ 1 X: 8 E\n"))])


def test_a_series_on_several_pages_is_one_sensor(write):
    text = """\
<NetworkDefinition xmlns="http://kayak.2codeornot2code.org/1.0"><Bus name="b"><Message id="1" name="M" length="3">
<Multiplex name="PAGE" offset="0" length="8">
<MuxGroup count="0"><Signal name="SAME" offset="8" length="8"/><Signal name="OTHER" offset="16" length="8"/></MuxGroup>
<MuxGroup count="1"><Signal name="SAME" offset="8" length="8"/>
<Signal name="OTHER" offset="16" length="8"><Value unit="V"/></Signal></MuxGroup>
</Multiplex></Message></Bus></NetworkDefinition>
"""
    decoder = CanDecoder([write("pages.kcd", text)])
    readings = decode(decoder, frame(1, 0, 5, 6), frame(1, 1, 7, 8))
    names = [channel_by_number(number).name for number in readings["channel"].tolist()]
    sensors = dict.fromkeys(zip(names, readings["sensor_id"].tolist(), strict=True))
    assert sorted(zip(names, readings["value"].tolist(), strict=True)) == [
        *[("OTHER", 6.0), ("OTHER", 8.0), ("PAGE", 0.0), ("PAGE", 1.0), ("SAME", 5.0), ("SAME", 7.0)]
    ]
    assert sorted(name for name, _ in sensors) == ["OTHER", "OTHER", "PAGE", "SAME"]  # volts are another series


# Batches --------------------------------------------------------------------------------------------------------------


def some_frames(count):
    """Frames of all kinds on three buses, of all lengths."""
    rng = random.Random(5)
    for n in range(count):
        size = rng.choice([0, 1, 2, 3, 4, 8, 8, 8, 12])
        data = rng.choice([rng.randbytes(size), bytes([1, *range(63)][:size]), b"\xff" * size])
        yield frame(
            rng.choice([256, 512, 513, 514, 600, rng.randrange(2048)]),
            *data,
            bus=rng.choice(["can0", "can1", None]),
            time=n / 8,
            is_error_frame=rng.random() < 0.02,
            is_remote_frame=rng.random() < 0.02,
            is_extended_id=rng.random() < 0.05,
            is_fd=size > 8,
        )


@pytest.mark.parametrize("batch", [7, 100, 4000])
def test_frames_are_read_in_a_batch_as_each_is_alone(write, batch):
    files = [("can1", write("can1.dbc", WHEELS)), write("all.dbc", ENGINE)]
    messages = list(some_frames(4000))
    together, singly = CanDecoder(files), CanDecoder(files)
    expected = np.concatenate([decode(singly, each) for each in messages])
    found = np.concatenate([decode(together, *messages[i : i + batch]) for i in range(0, len(messages), batch)])
    assert found.dtype == READING
    assert found.tobytes() == expected.tobytes()
    assert together.rejected == singly.rejected
    assert len(together.rejected) == 7
    assert len(found) > 1500
    sensors = np.unique(found["sensor_id"]).tolist()
    assert [together.describe(each) for each in sensors] == [singly.describe(each) for each in sensors]


def test_an_empty_batch(write):
    decoder = CanDecoder([write("a.dbc", ENGINE)])
    for frames in ([], [frame(256, is_error_frame=True)], [frame(1)]):
        readings = decode(decoder, *frames)
        assert (readings.dtype, len(readings)) == (READING, 0)


def test_nothing_of_a_batch_is_changed_or_kept(write):
    decoder = CanDecoder([write("a.dbc", ENGINE)])
    frames = Frames.of_messages([frame(256, n, *bytes(7)) for n in range(5)], Counter())
    columns = frames.timestamp, frames.can_id, frames.kind, frames.bus, frames.length, frames.data
    before = [column.tobytes() for column in columns]
    for column in columns:
        column.flags.writeable = False
    readings = decoder.decode(frames)
    assert readings.flags.owndata
    assert readings.flags.writeable
    assert [column.tobytes() for column in columns] == before


def test_a_real_cars_log_gives_bit_for_bit_what_cantools_makes_of_each_frame(recordings_dir):
    path, database = recordings_dir / "road_car.log", recordings_dir / "road_car.dbc"
    if not path.is_file():
        pytest.skip(f"the log of a road car is missing: {path} (set F1BUF_DATA)")
    reference = cantools.database.load_file(database)
    known = {message.frame_id: message for message in reference.messages}
    expected, messages = [], list(can.LogReader(path))
    for each in messages:
        if each.arbitration_id in known:
            decoded = known[each.arbitration_id].decode_simple(each.data, decode_choices=False)
            expected += [(each.timestamp, name, float(value)) for name, value in decoded.items()]
    decoder = CanDecoder([database])
    found = []
    for begin in range(0, len(messages), 10_000):
        for timestamp, _, number, _, value in decode(decoder, *messages[begin : begin + 10_000]).tolist():
            found.append((timestamp, channel_by_number(number).name, value))
    assert len(found) == 91_381
    assert found == expected
