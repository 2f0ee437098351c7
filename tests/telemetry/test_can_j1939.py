"""J1939: parameter groups, senders, and messages that come in several frames; whatever a network sends."""

import random
import sys
import threading

import can_helpers
import numpy as np
import pytest
from can_helpers import can, decode, written
from helpers import WATCHDOG, Task

from f1buf.telemetry.sources.can.decoder import CanDecoder, Selection
from f1buf.telemetry.sources.can.log import CanReplay, open_can_log

EXTENDED = 1 << 31  # in a DBC file
MESSAGES = f"""\
BO_ {EXTENDED | 0x0CF004FE} EEC1: 8 E
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" E
BO_ {EXTENDED | 0x0C0000FE} TSC1: 8 E
 SG_ RequestedSpeed : 8|16@1+ (0.125,0) [0|8031.875] "rpm" E
BO_ {EXTENDED | 0x18FECAFE} DM1: 30 E
 SG_ FIRST : 0|16@1+ (1,0) [0|0] "" E
 SG_ LAST : 232|8@1+ (1,0) [0|0] "" E
BO_ 256 PLAIN: 1 E
 SG_ PLAIN_X : 0|8@1+ (1,0) [0|0] "" E
"""
OF_EACH = """\
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_DEF_ "VFrameFormat" "J1939PG";
"""
OF_ALL = 'BA_DEF_ "ProtocolType" STRING ;\nBA_DEF_DEF_ "ProtocolType" "";\nBA_ "ProtocolType" "J1939";\n'


@pytest.fixture
def write(tmp_path):
    """A function that writes a database and returns its path."""
    return lambda text, name="truck.dbc": written(tmp_path / name, text)


@pytest.fixture
def decoder(write):
    return CanDecoder([write(MESSAGES + OF_EACH)])


def frame(can_id, data, *, bus="can0", time=1.0, extended=True):
    return can_helpers.frame(can_id, *data, time=time, is_extended_id=extended, channel=bus)


def parts_and_values(decoder, *frames):
    return [(part, value) for part, _, value in can_helpers.named(decoder, *frames)]


def speed(can_id, rpm, **options):
    return frame(can_id, b"\xff\xff\xff" + (rpm * 8).to_bytes(2, "little") + b"\xff\xff\xff", **options)


# Parameter groups -----------------------------------------------------------------------------------------------------


def test_a_frame_is_matched_by_its_parameter_group_and_each_sender_is_a_series(decoder):
    frames = speed(0x0CF00400, 1000), speed(0x0CF00401, 1500), speed(0x18F00400, 2000)
    found = parts_and_values(decoder, *frames)
    assert found == [("EEC1 (00)", 1000.0), ("EEC1 (01)", 1500.0), ("EEC1 (00)", 2000.0)]
    sensors = decode(decoder, *frames)["sensor_id"].tolist()
    assert sensors[0] == sensors[2] != sensors[1]
    assert not decoder.rejected


def test_the_same_sender_on_another_bus_is_another_series(decoder):
    frames = [speed(0x0CF00400, 1, bus=bus) for bus in ("can0", "can1", "can0")]
    assert [part for part, _ in parts_and_values(decoder, *frames)] == ["EEC1 (00)", "EEC1 (00, can1)", "EEC1 (00)"]
    assert parts_and_values(decoder, frame(256, b"\5", extended=False)) == [("PLAIN", 5.0)]
    assert parts_and_values(decoder, frame(256, b"\6", bus="can1", extended=False)) == [("PLAIN (can1)", 6.0)]


def test_the_address_that_a_frame_is_sent_to_does_not_matter(decoder):
    data = b"\xff" + (800 * 8).to_bytes(2, "little") + bytes(5)
    found = parts_and_values(decoder, frame(0x0C00000B, data), frame(0x0400170B, data), frame(0x0C000B00, data))
    assert found == [("TSC1 (0B)", 800.0), ("TSC1 (0B)", 800.0), ("TSC1 (00)", 800.0)]


def test_other_groups_pages_and_standard_ids_are_no_match(decoder):
    ids = (0x0CF00500, 0x0DF00400, 0x0EF00400, 0x0C010000, 0x0D000000)
    assert parts_and_values(decoder, *(speed(each, 1) for each in ids), frame(0x004, bytes(8), extended=False)) == []
    assert decoder.rejected == {"no database entry": 6}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (MESSAGES, {}, False),
        (MESSAGES, {"j1939": True}, True),
        (MESSAGES + OF_EACH, {}, True),
        (MESSAGES + OF_EACH.replace('" "J1939PG"', '" "StandardCAN"'), {}, False),
        (MESSAGES + OF_ALL, {}, True),
        (MESSAGES + OF_ALL.replace('"J1939"', '"CAN"'), {}, False),
        (MESSAGES + OF_EACH.replace('" "J1939PG"', '" "ExtendedCAN"') + OF_ALL, {}, False),
        (MESSAGES + 'BA_DEF_ "ProtocolType" ENUM "CAN","J1939";\nBA_ "ProtocolType" 1;\n', {}, True),
        (MESSAGES + 'BA_DEF_ "ProtocolType" ENUM "CAN","J1939";\nBA_ "ProtocolType" 0;\n', {}, False),
        (MESSAGES + 'BA_DEF_ "ProtocolType" STRING ;\nBA_DEF_DEF_ "ProtocolType" "J1939";\n', {}, True),
    ],
    ids=[
        "nothing",
        "asked",
        "messages",
        "not-messages",
        "network",
        "not-network",
        "against-network",
        "number",
        "not-number",
        "default",
    ],
)
def test_what_makes_a_database_j1939(write, text, options, expected):
    decoder = CanDecoder([write(text)], **options)
    assert parts_and_values(decoder, speed(0x18F00417, 10)) == ([("EEC1 (17)", 10.0)] if expected else [])
    assert len(parts_and_values(decoder, speed(0x0CF004FE, 10))) == 1  # the very id of the database
    assert parts_and_values(decoder, frame(256, b"\5", extended=False)) == [("PLAIN", 5.0)]


def named(*ids):
    """A database with messages A, B and so on of these ids."""
    lines = [
        f'BO_ {EXTENDED | can_id} {name}: 8 E\n SG_ S : 0|8@1+ ({factor},0) [0|0] "" E\n'
        for factor, (name, can_id) in enumerate(zip("ABCDE", ids, strict=False), 1)
    ]
    return "".join(lines) + OF_EACH


@pytest.mark.parametrize(
    ("ids", "can_id", "part"),
    [
        ([0x18EF2100], 0x18EF0505, "A (05)"),  # one alone is everybody's
        ([0x18FF0100, 0x18FF0103], 0x0CFF0103, "B (03)"),
        ([0x18FF01FE, 0x18FF0103], 0x0CFF0103, "B (03)"),
        ([0x18FF01FE, 0x18FF0103], 0x0CFF0104, "A (04)"),
        ([0x18EF2100, 0x18EF2200], 0x18EF2200, "B (00)"),
        ([0x18EFFFFE, 0x18EF22FE], 0x18EF2205, "B (05)"),
        ([0x18EFFFFE, 0x18EF22FE], 0x18EF2305, "A (05)"),
        ([0x18EF2103, 0x18EF2204], 0x18EF2203, "A (03)"),  # the sender is compared first
        ([0x18EF2203, 0x18EF22FE, 0x18EFFF03], 0x18EF2103, "C (03)"),
        ([0x18EF2203, 0x18EF22FE, 0x18EFFF03], 0x18EF2203, "A (03)"),
        ([0x18EF2203, 0x18EF22FE, 0x18EFFF03], 0x18EF2204, "B (04)"),
    ],
)
def test_the_database_may_be_more_exact_than_the_group(write, ids, can_id, part):
    decoder = CanDecoder([write(named(*ids))])
    assert [part for part, _ in parts_and_values(decoder, frame(can_id, bytes(8)))] == [part]
    assert not decoder.rejected


def test_a_group_with_several_messages_that_nothing_tells_apart(write):
    decoder = CanDecoder([write(named(0x18FF0100, 0x18FF0103, 0x18FF02FE, 0x0CFF02FE, 0x18FF03FE))])
    frames = frame(0x18FF0105, bytes(8)), frame(0x18FF0205, bytes(8)), frame(0x18FF0305, bytes(8))
    assert parts_and_values(decoder, *frames) == [("E (05)", 0.0)]
    assert decoder.rejected == {
        "ambiguous parameter group: A and B both have 0xFF01": 1,
        "ambiguous parameter group: C and D both have 0xFF02": 1,
    }
    assert len(decoder.channels) == 1


def test_the_same_message_from_several_senders_in_several_files_is_not_ambiguous(write):
    texts = [
        (MESSAGES + OF_EACH).replace(str(EXTENDED | 0x0CF004FE), str(EXTENDED | each))
        for each in (0xCF00400, 0xCF00403)
    ]
    decoder = CanDecoder([write(text, f"{n}.dbc") for n, text in enumerate(texts)])
    assert parts_and_values(decoder, speed(0x0CF00405, 10)) == [("EEC1 (05)", 10.0)]
    assert not decoder.rejected


def test_a_bus_with_j1939_beside_one_without(write):
    plain = f'BO_ {EXTENDED | 0x18F00400} OWN: 8 E\n SG_ S : 0|8@1+ (1,0) [0|0] "" E\n'
    decoder = CanDecoder([("truck", write(MESSAGES + OF_EACH)), ("car", write(plain, "car.dbc"))])
    frames = [speed(can_id, 10, bus=bus) for bus in ("truck", "car") for can_id in (0x18F00400, 0x18F00401)]
    found = parts_and_values(decoder, *frames)
    assert found == [("EEC1 (00)", 10.0), ("EEC1 (01)", 10.0), ("OWN (car)", 255.0)]
    assert decoder.rejected == {"no database entry": 1}


def test_values_that_mean_not_available_are_no_measurements(write):
    """They are left out if the database's range excludes them: 0xFE.. is an error, 0xFF.. not available."""
    text = f"""\
BO_ {EXTENDED | 0x0CF004FE} EEC1: 8 E
 SG_ SPEED_16 : 0|16@1+ (0.125,0) [0|8031.875] "rpm" E
 SG_ TEMP_8 : 16|8@1+ (1,-40) [-40|210] "deg" E
 SG_ SWITCH_2 : 24|2@1+ (1,0) [0|1] "" E
 SG_ COUNT_8 : 32|8@1+ (1,0) [0|255] "" E
 SG_ UNKNOWN_8 : 40|8@1+ (1,0) [0|0] "" E
 SG_ SIGNED_8 : 48|8@1- (1,0) [-128|100] "" E
"""
    decoder = CanDecoder([write(text + OF_EACH)])

    def names(speed, temperature, switch, rest=0xFF):
        data = speed.to_bytes(2, "little") + bytes([temperature, switch, rest, rest, rest, 0])
        decoder.rejected.clear()
        return {name: value for _, name, value in can_helpers.named(decoder, frame(0x0CF00400, data))}

    always = {"COUNT_8": 255.0, "UNKNOWN_8": 255.0, "SIGNED_8": -1.0}
    assert names(0xFAFF, 250, 1) == {"SPEED_16": 8031.875, "TEMP_8": 210.0, "SWITCH_2": 1.0, **always}
    assert names(0xFDFF, 253, 1) == {"SPEED_16": 8127.875, "TEMP_8": 213.0, "SWITCH_2": 1.0, **always}
    assert not decoder.rejected
    for error in (0, 1):
        assert names(0xFE00 | error << 8, 254 + error, 2 + error) == always
        assert decoder.rejected == {"not available (J1939)": 3}
    plain = CanDecoder([write(text)])  # no J1939: all are numbers
    assert len(decode(plain, frame(0x0CF004FE, b"\xff" * 8))) == 6


# Messages in several frames -------------------------------------------------------------------------------------------

DM1, LONG = 0xFECA, bytes(range(100, 130))
TO_ALL, SENDER, RECEIVER = 0xFF, 0x21, 0x05


def connect(control, *fields, group=DM1, source=SENDER, to=TO_ALL, **options):
    data = bytes([control, *fields]).ljust(5, b"\xff") + group.to_bytes(3, "little")
    return frame(0x1CEC0000 | to << 8 | source, data, **options)


def announced(data=LONG, group=DM1, to=TO_ALL, **options):
    size, packets = len(data).to_bytes(2, "little"), -(-len(data) // 7)
    return connect(32 if to == TO_ALL else 16, *size, packets, 0xFF, group=group, to=to, **options)


def packet(number, data=LONG, *, source=SENDER, to=TO_ALL, **options):
    part = data[7 * number - 7 : 7 * number]
    return frame(0x1CEB0000 | to << 8 | source, bytes([number]) + part.ljust(7, b"\xff"), **options)


def packets(first, last, data=LONG, **options):
    return [packet(number, data, **options) for number in range(first, last + 1)]


WHOLE = [("DM1 (21)", 100.0 + 256 * 101), ("DM1 (21)", 129.0)]


def test_a_message_to_all_has_its_last_frames_time(decoder):
    frames = [announced(time=1.0), *(packet(number, time=1 + number / 4) for number in range(1, 6))]
    assert decode(decoder, *frames)[["timestamp", "value"]].tolist() == [(2.25, 25956.0), (2.25, 129.0)]
    assert not decoder.rejected


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_message_in_several_batches_and_between_other_frames(decoder, size):
    frames = [announced(), speed(0x0CF00421, 1), packet(1), packet(2), packet(3), packet(4), speed(0x0CF00421, 2)]
    frames += [packet(5), speed(0x0CF00421, 3)]
    found = [each for i in range(0, len(frames), size) for each in parts_and_values(decoder, *frames[i : i + size])]
    assert found == [("EEC1 (21)", 1.0), ("EEC1 (21)", 2.0), *WHOLE, ("EEC1 (21)", 3.0)]
    decoder.finish()
    assert not decoder.rejected


@pytest.mark.parametrize(
    ("ids", "found", "left_out"),
    [
        ([(0x18FECA21, 0x18FECA21, True)], WHOLE, 1),
        ([(0x0CF00400, 0x18FECAFF, True)], [*WHOLE, ("EEC1 (21)", 1.0)], 0),
        ([(0x18FECA22, 0x18FECAFF, True)], [], 2),
        ([(0x0CF00421, 0x0CF00421, True)], [("EEC1 (21)", 1.0)], 1),
        ([(0x100, 0x100, False)], [], 2),
        ([], [*WHOLE, ("EEC1 (21)", 1.0)], 0),
    ],
)
def test_a_message_in_several_frames_is_asked_for_by_its_own_id(write, ids, found, left_out):
    decoder = CanDecoder([write(MESSAGES + OF_EACH)], select=Selection(ids=tuple(ids)))
    messages = [announced(), *packets(1, 5), speed(0x0CF00421, 1)]
    assert parts_and_values(decoder, *messages) == found
    assert decoder.rejected == ({"not asked for": left_out} if left_out else {})


def test_what_a_bus_that_is_not_asked_for_carries_is_not_put_together(write):
    decoder = CanDecoder([write(MESSAGES + OF_EACH)], select=Selection(frozenset(["can1"])))
    assert parts_and_values(decoder, announced(), *packets(1, 5)) == []
    decoder.finish()
    assert decoder.rejected == {"not asked for": 6}


def test_messages_at_once_of_several_senders_to_several_receivers_on_several_buses(decoder):
    conversations = [
        {"source": 0x21, "to": 0xFF},
        {"source": 0x22, "to": 0xFF},
        {"source": 0x21, "to": 0x05},
        {"source": 0x21, "to": 0x06},
        {"source": 0x21, "to": 0xFF, "bus": "can1"},
    ]
    contents = [bytes([n, 0, *range(27), n]) for n in range(5)]
    frames = [announced(data, **each) for data, each in zip(contents, conversations, strict=True)]
    for number in range(1, 6):
        frames += [packet(number, data, **each) for data, each in zip(contents, conversations, strict=True)]
    parts = ["DM1 (21)", "DM1 (22)", "DM1 (21)", "DM1 (21)", "DM1 (21, can1)"]
    assert parts_and_values(decoder, *frames) == [(part, float(n)) for n, part in enumerate(parts) for _ in range(2)]
    assert not decoder.rejected


def test_a_conversation_with_one_receiver(decoder):
    """The receiver asks for three packets, then to wait, then for the last one of these again and for the rest."""
    to = {"to": RECEIVER}
    back = {"source": RECEIVER, "to": SENDER}
    frames = [
        *[announced(**to), connect(17, 3, 1, **back), *packets(1, 3, **to)],
        *[connect(17, 0, 0xFF, **back), connect(17, 3, 3, **back), *packets(3, 5, **to)],
    ]
    assert parts_and_values(decoder, *frames) == WHOLE
    again = [connect(17, 2, 4, **back), *packets(4, 5, **to), connect(19, 30, 0, 5, **back)]
    assert parts_and_values(decoder, *again) == []  # it has been read
    decoder.finish()
    assert not decoder.rejected


def test_a_packet_that_was_lost_here_alone_is_read_when_it_comes_again(decoder):
    to, back = {"to": RECEIVER}, {"source": RECEIVER, "to": SENDER}
    frames = [announced(**to), packet(1, **to), packet(3, **to), connect(17, 4, 2, **back), *packets(2, 5, **to)]
    assert parts_and_values(decoder, *frames) == WHOLE
    decoder.finish()
    assert not decoder.rejected


def test_two_senders_that_send_to_each_other(decoder):
    """A sender that refuses the other's message ends none of its own."""
    there, back = {"to": RECEIVER}, {"source": RECEIVER, "to": SENDER}
    refused = connect(255, 1, group=0xFEEE, **back)
    frames = [announced(**there), announced(group=0xFEEE, **back), *packets(1, 4, **there), refused, packet(5, **there)]
    assert parts_and_values(decoder, *frames) == WHOLE
    assert decoder.rejected == {UNFINISHED: 1}


def test_a_receiver_that_asks_for_nonsense(decoder):
    to, back = {"to": RECEIVER}, {"source": RECEIVER, "to": SENDER}
    nonsense = [connect(17, *fields, **back) for fields in ((1, 0), (0, 1), (255, 255))]
    assert parts_and_values(decoder, announced(**to), *packets(1, 2, **to), *nonsense, *packets(3, 5, **to)) == WHOLE


def test_the_largest_message(write):
    text = f'BO_ {EXTENDED | 0x18FF01FE} L: 1785 E\n SG_ S : 14272|8@1+ (1,0) [0|0] "" E\n' + OF_EACH
    decoder = CanDecoder([write(text)])
    data = random.Random(1).randbytes(1785)
    frames = [announced(data, group=0xFF01), *packets(1, 255, data)]
    assert parts_and_values(decoder, *frames) == [("L (21)", float(data[-1]))]


def test_a_message_shorter_than_the_databases_is_read_in_part(decoder):
    data = LONG[:12]
    assert parts_and_values(decoder, announced(data), *packets(1, 2, data)) == WHOLE[:1]
    assert decoder.rejected == {"too short (some signals left out)": 1}
    assert parts_and_values(decoder, frame(0x18FECA21, LONG[:8])) == WHOLE[:1]  # in one frame: there is no fault


def test_a_message_to_one_is_matched_by_its_destination(write):
    decoder = CanDecoder([write(named(0x18EF05FE, 0x18EFFFFE))])
    data = bytes([7]) * 9
    for to, part in ((0x05, "A (21)"), (0x06, "B (21)")):
        frames = [announced(data, group=0xEF00, to=to), *packets(1, 2, data, to=to)]
        assert [part for part, _ in parts_and_values(decoder, *frames)] == [part]


def test_a_message_of_an_unknown_group_counts_once(decoder):
    assert parts_and_values(decoder, announced(group=0xFEEE), *packets(1, 5)) == []
    assert decoder.rejected == {"no database entry": 1}


MISSING = "transport protocol: message with a missing packet"
UNFINISHED = "transport protocol: unfinished message"
UNANNOUNCED = "transport protocol: packet of no announced message"
ABSURD = "transport protocol: absurd frame"


@pytest.mark.parametrize(
    ("frames", "rejected"),
    [
        ([announced(), *packets(1, 4)], {UNFINISHED: 1}),
        ([announced()], {UNFINISHED: 1}),
        ([announced(), *packets(1, 2), announced(), packet(1)], {UNFINISHED: 2}),
        ([announced(), packet(1), *packets(3, 5)], {MISSING: 1}),
        ([announced(), *packets(2, 5)], {MISSING: 1}),
        ([announced(), packet(1), packet(1), *packets(2, 5)], {MISSING: 1}),
        ([announced(), packet(1), packet(3)], {MISSING: 1}),
        ([announced(), packet(1), *packets(3, 5), packet(5)], {MISSING: 1, UNANNOUNCED: 1}),
        ([*packets(5, 5), announced(group=256), *packets(1, 5), packet(5)], {"no database entry": 1, UNANNOUNCED: 2}),
        ([announced(), packet(0)], {MISSING: 1}),
        (
            [announced(to=5), packet(1, to=5), connect(255, 1, source=5, to=SENDER), packet(2, to=5)],
            {UNFINISHED: 1, UNANNOUNCED: 1},
        ),
        ([announced(to=5), packet(1, to=5), connect(255, 1, to=5), packet(2, to=5)], {UNFINISHED: 1, UNANNOUNCED: 1}),
        ([announced(to=5), packet(2, to=5), connect(19, source=5, to=SENDER)], {MISSING: 1}),
        (packets(4, 5), {UNANNOUNCED: 2}),
        ([announced(), packet(1, to=5), *packets(1, 4, source=9)], {UNFINISHED: 1, UNANNOUNCED: 5}),
        ([announced(), packet(1, bus="can1")], {UNFINISHED: 1, UNANNOUNCED: 1}),
        ([connect(32, 30, 0, 4)], {ABSURD: 1}),
        ([connect(32, 8, 0, 2)], {ABSURD: 1}),
        ([connect(32, 0, 0, 0)], {ABSURD: 1}),
        ([connect(32, 0xFF, 0xFF, 0xFF)], {ABSURD: 1}),
        ([connect(32, 30, 0, 5, to=5)], {ABSURD: 1}),
        ([connect(16, 30, 0, 5)], {ABSURD: 1}),
        ([connect(99)], {ABSURD: 1}),
        ([frame(0x1CECFF21, b"\x20\x1e\0\5"), frame(0x1CEBFF21, b"")], {ABSURD: 2}),
        ([announced(), frame(0x1CEBFF21, b"\1abc")], {MISSING: 1}),
        ([connect(17, 3, 1, source=5, to=SENDER), connect(19, source=5, to=SENDER)], {}),
    ],
)
def test_what_does_not_become_a_message_is_counted(decoder, frames, rejected):
    assert parts_and_values(decoder, *frames) == []
    decoder.finish()
    assert decoder.rejected == rejected
    decoder.rejected.clear()
    assert parts_and_values(decoder, announced(), *packets(1, 5)) == WHOLE  # and the next one is read


def test_the_last_packet_may_be_cut_to_what_is_in_it(decoder):
    assert parts_and_values(decoder, announced(), *packets(1, 4), frame(0x1CEBFF21, b"\5" + LONG[28:])) == WHOLE


def test_a_database_may_have_the_transport_protocol_as_messages_too(write):
    text = f'BO_ {EXTENDED | 0x1CECFFFE} TP_CM: 8 E\n SG_ CONTROL : 0|8@1+ (1,0) [0|0] "" E\n'
    decoder = CanDecoder([write(text + MESSAGES + OF_EACH)])
    assert parts_and_values(decoder, announced(), *packets(1, 5)) == [("TP_CM (21)", 32.0), *WHOLE]
    assert not decoder.rejected


def test_without_j1939_its_transport_protocol_is_nothing_special(write):
    decoder = CanDecoder([write(MESSAGES)])
    assert parts_and_values(decoder, announced(), *packets(1, 5)) == []
    assert decoder.rejected == {"no database entry": 6}


def test_memory_is_bounded_whatever_a_network_announces(decoder):
    """2,560 senders leave their messages unfinished; the oldest are given up."""
    size = (1785).to_bytes(2, "little")
    for bus in range(10):
        frames = [connect(32, *size, 255, source=source, bus=f"can{bus}") for source in range(256)]
        frames += [packet(1, bytes(1785), source=source, bus=f"can{bus}") for source in range(256)]
        decode(decoder, *frames)
    assert decoder.rejected == {UNFINISHED: 2560 - 1024}
    rest = packets(2, 255, bytes(1785), source=255, bus="can9")
    assert parts_and_values(decoder, *rest) == [("DM1 (FF, can9)", 0.0)] * 2


def test_more_senders_than_are_told_apart(write, monkeypatch):
    monkeypatch.setattr("f1buf.telemetry.sources.can.decoder.MOST_SENDERS", 300)
    decoder = CanDecoder([write(MESSAGES + OF_EACH)])
    frames = [speed(0x0CF00400 | source, 1, bus=f"can{bus}") for bus in range(2) for source in range(256)]
    assert len(parts_and_values(decoder, *frames)) == 300
    assert decoder.rejected == {"too many senders": 212}


def test_a_further_sender_when_no_further_bus_is_taken(decoder):
    frames = [speed(0x0CF00400, 1, bus=f"can{bus}") for bus in range(257)]
    assert len(parts_and_values(decoder, *frames)) == 256
    assert parts_and_values(decoder, speed(0x0CF00401, 1, bus="can255")) == [("EEC1 (01, can255)", 1.0)]
    assert decoder.rejected == {"too many buses": 1}


def test_no_frame_raises(decoder):
    rng = random.Random(3)
    ids = [0x1CECFF21, 0x1CEC0521, 0x1CEC2105, 0x1CEBFF21, 0x1CEB0521, 0x0CF00421, 0x18FECA21]
    for _ in range(200):
        frames = []
        for _ in range(50):
            data = bytearray(rng.randbytes(rng.choice([0, 1, 5, 8, 8, 8, 8])))
            if data and rng.random() < 0.7:
                data[0] = rng.choice([16, 17, 19, 32, 255, 1, 2, 3])
            if len(data) == 8 and rng.random() < 0.7:
                data[1:4] = rng.choice([b"\x0f\0\3", b"\x1e\0\5", b"\2\1\xff"])
                data[5:] = b"\xca\xfe\0"
            frames.append(frame(rng.choice(ids), bytes(data)))
        for part, value in parts_and_values(decoder, *frames):
            assert part in ("EEC1 (21)", "DM1 (21)")
            assert np.isfinite(value)
    assert len(decoder.rejected) >= 6


@pytest.mark.parametrize("batch", [7, 1000])
def test_sensors_have_the_same_numbers_in_batches_of_any_size(write, batch):
    rng = random.Random(9)
    frames = []
    for source in rng.sample(range(256), 40):
        each = {"source": source, "to": rng.choice([TO_ALL, RECEIVER]), "bus": rng.choice(["can0", "can1"])}
        frames += [announced(**each), *packets(1, 5, **each), speed(0x0CF00400 | rng.randrange(256), 1)]
    together, singly = (CanDecoder([write(MESSAGES + OF_EACH)]) for _ in range(2))
    batches = [frames[i : i + batch] for i in range(0, len(frames), batch)]
    found, expected = (
        np.concatenate([decode(decoder, *each) for each in parts])
        for decoder, parts in ((together, batches), (singly, [[each] for each in frames]))
    )
    assert len(found) == 40 * 3
    assert found.tobytes() == expected.tobytes()
    assert together.rejected == singly.rejected


def test_senders_are_described_while_others_are_first_heard(decoder):
    began, stop = threading.Event(), threading.Event()

    def describe():
        while not stop.is_set():
            part = decoder.describe(0)["part"]
            assert part in ("EEC1", "EEC1 (00)")
            began.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        task = Task(describe)
        assert began.wait(WATCHDOG)
        for bus in range(8):
            for source in range(256):
                decode(decoder, speed(0x0CF00400 | source, 1, bus=f"can{bus}"))
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    task.result()


def test_a_log_that_ends_within_a_message_says_so(tmp_path, decoder):
    path = tmp_path / "truck.log"
    with can.Logger(str(path)) as writer:
        for each in [announced(), *packets(1, 5), announced(), *packets(1, 3)]:
            writer(each)
    batches = list(CanReplay(open_can_log(path), decoder, None).batches(threading.Event()))
    assert np.concatenate(batches)["value"].tolist() == [value for _, value in WHOLE]
    assert decoder.rejected == {UNFINISHED: 1}
