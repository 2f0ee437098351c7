"""Files of other programs as sources: MCAP and MDF 4, f1buf's own and others; what is counted, what is refused."""

import itertools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from cli_helpers import call, readings, watchdog
from export_helpers import SESSION, as_text, by_series, described_by, odd_readings, rows_of, with_odd_times
from helpers import WATCHDOG

from f1buf import READING
from f1buf.telemetry import Channel, Threshold, ThresholdTable, channels
from f1buf.telemetry.channels import channel_by_number
from f1buf.telemetry.exports.write import export
from f1buf.telemetry.sources import RecordingError, mf4
from f1buf.telemetry.sources.mcap import open_mcap
from f1buf.telemetry.sources.mf4 import open_mf4
from f1buf.telemetry.sources.played import FileReplay


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(WATCHDOG):
        yield


@pytest.fixture
def mcap():
    return pytest.importorskip("mcap", reason="mcap is not installed")


@pytest.fixture
def asammdf():
    return pytest.importorskip("asammdf", reason="asammdf is not installed")


def read(recording):
    """All readings, what was known of them, and what went wrong."""
    source = FileReplay(recording, None)
    batches, failure = [np.empty(0, READING)], None
    try:
        batches += source.batches(threading.Event())
    except RecordingError as error:
        failure = str(error)
        assert "\n" not in failure
    return np.concatenate(batches), source.describe, failure


def found_in(recording):
    """(time, channel, unit, value, part) of each reading."""
    readings, describe, failure = read(recording)
    assert failure is None
    found = []
    for at, sensor_id, number, flags, value in readings.tolist():
        channel = channel_by_number(number)
        found.append((at, channel.name, channel.unit, value, describe(sensor_id, flags).get("part")))
    return found


# MCAP of f1buf's own --------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, mcap):
    """A file, and the readings in it."""
    stream = with_odd_times(odd_readings(20_000))
    threshold = Threshold("SPEED", above=1, message="fast")
    export(np.array_split(stream, 9), tmp_path / "own.mcap", "mcap", described_by, thresholds=[threshold])
    return tmp_path / "own.mcap", stream


def check_own(readings, describe, stream):
    def known(sensor_id, flags):
        return {name: value for name, value in describe(sensor_id, flags).items() if name != "several"}

    assert by_series(rows_of(readings, known)) == by_series(rows_of(stream))


def test_what_was_exported_comes_back(own):
    path, stream = own
    recording = open_mcap(path)
    readings, describe, failure = read(recording)
    assert failure is None
    check_own(readings, describe, stream)
    assert recording.thresholds == (Threshold("SPEED", above=1, message="fast"),)
    assert (recording.rejected, recording.notes) == ({}, [])
    assert set(recording.sensors.sessions) == {SESSION, SESSION + 1}
    again, _, _ = read(recording)
    assert len(again) == len(readings)


def test_a_replay_at_a_pace(tmp_path, mcap):
    stream = odd_readings(30)
    stream["timestamp"] = np.arange(30) / 500
    export([stream], tmp_path / "own.mcap", "mcap", described_by)
    began = time.monotonic()
    batches = list(FileReplay(open_mcap(tmp_path / "own.mcap"), 1.0).batches(threading.Event()))
    assert time.monotonic() - began >= 29 / 500
    assert sum(map(len, batches)) == 30
    stop = threading.Event()
    stop.set()
    assert list(FileReplay(open_mcap(tmp_path / "own.mcap"), 1.0).batches(stop)) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off(own, share):
    path, stream = own
    data = path.read_bytes()
    path.write_bytes(data[: 60 + round(share * (len(data) - 61))])
    recording = open_mcap(path)
    readings, describe, failure = read(recording)
    assert failure is None
    assert recording.thresholds == ((Threshold("SPEED", above=1, message="fast"),) if share else ())
    assert recording.rejected == {"missing end": 1}
    assert recording.notes == ["the file is cut off, or its writer was stopped: what is there was read"]
    expected, found = by_series(rows_of(stream)), by_series(rows_of(readings, described_of(describe)))
    assert all(rows == expected[series][: len(rows)] for series, rows in found.items())
    assert (len(readings) > 0) >= (share > 0.5)
    if share > 0.99:
        assert len(readings) == len(stream)


def test_thresholds_of_channels_that_only_the_file_names(tmp_path, mcap):
    """This process has not heard of them; of the second one no reading is in the file."""
    stream = odd_readings(10)
    stream["channel"] = Channel("only in own.mcap", "V").number
    thresholds = [
        Threshold("only in own.mcap", above=1, message="a"),
        Threshold("in no reading of own.mcap", above=1, message="b"),
    ]
    export([stream], tmp_path / "own.mcap", "mcap", described_by, thresholds=thresholds)
    script = f"""
from f1buf.telemetry import ThresholdTable
from f1buf.telemetry.sources.mcap import open_mcap
recording = open_mcap({str(tmp_path / "own.mcap")!r})
table = ThresholdTable(recording.thresholds)
print(sum(table.check(readings).seen for readings in recording.batches()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WATCHDOG)
    assert (done.stdout, done.stderr) == ("[10  0]\n", "")


def described_of(describe):
    return lambda sensor, flags: {name: value for name, value in describe(sensor, flags).items() if name != "several"}


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("finished", [True, False])
def test_a_bit_that_is_flipped(own, finished, share):
    """In a chunk, or in an index, which no reading comes of."""
    path, stream = own
    data = bytearray(path.read_bytes())
    if not finished:
        del data[-8:]
    data[round(share * len(data))] ^= 1
    path.write_bytes(data)
    readings, _, failure = read(open_mcap(path))
    assert failure is not None
    assert failure.startswith(f"{path}: damaged (after message ")
    assert failure.endswith("; copy it again")
    assert len(readings) <= len(stream)
    assert (len(readings) > 0) >= (share > 0.7)


def test_a_bit_that_is_flipped_in_the_index(own):
    """All is read without it; mcap's own reader would miss what the index does not tell of."""
    path, stream = own
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[-28:-20], "little")
    data[(start + len(data) - 28) // 2] ^= 1
    path.write_bytes(data)
    recording = open_mcap(path)
    readings, describe, failure = read(recording)
    assert failure is not None
    assert failure.startswith(f"{path}: damaged (after message ")
    assert recording.thresholds == (Threshold("SPEED", above=1, message="fast"),)
    check_own(readings, describe, stream)


def write_own(path, messages, fields=None, finished=True, **about):
    """Write a file that says it is f1buf's own, with one field unless told otherwise."""
    from mcap.writer import Writer

    field = {"sensor": 7, "channel": "OWN", "unit": "V", "range": [None, 5], "part": None}
    fields = {"A": field | (fields or {})} if fields is None or isinstance(fields, dict) else fields
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.start(profile="f1buf")
        said = {"session": None, "car": None, "driver": None, "fields": fields} | about
        channel = writer.register_channel("/x", "json", 0, {"f1buf": json.dumps(said)})
        for at, message in enumerate(messages):
            writer.add_message(channel, at, json.dumps(message).encode(), at)
        writer.finish()
    if not finished:
        path.write_bytes(path.read_bytes()[:-8])
    return path


SOUND = {"time": 1, "lap": 3, "A": 2}
WHOLE = "expected a whole number from -9,223,372,036,854,775,808 to 9,223,372,036,854,775,807"
ODD_OWN = {
    "sensor -1": (
        [SOUND],
        {"fields": {"sensor": -1}},
        "field 'A': the sensor is -1: expected a whole number from 0 to ",
    ),
    "sensor large": ([SOUND], {"fields": {"sensor": 2**40}}, "field 'A': the sensor is 1099511627776: expected "),
    "sensor text": ([SOUND], {"fields": {"sensor": "x"}}, "field 'A': the sensor is 'x': expected "),
    "sensor none": ([SOUND], {"fields": {"sensor": None}}, "field 'A': the sensor is missing"),
    "sensor true": ([SOUND], {"fields": {"sensor": True}}, "field 'A': the sensor is True: expected "),
    "part": ([SOUND], {"fields": {"part": {}}}, "field 'A': the part is an object: expected a text"),
    "unit": ([SOUND], {"fields": {"unit": 1}}, "field 'A': the unit is 1: expected a text"),
    "channel": ([SOUND], {"fields": {"channel": [1]}}, "field 'A': the channel is a list: expected a text"),
    "range": ([SOUND], {"fields": {"range": [1]}}, "field 'A': the range is no list of two limits"),
    "limit": ([SOUND], {"fields": {"range": [10**400, 1]}}, "field 'A': field 'range' is 1000"),
    "limits": ([SOUND], {"fields": {"range": [2, 1]}}, "field 'A': channel OWN: the range is (2.0, 1.0): expected "),
    "fields": ([SOUND], {"fields": [1]}, "its metadata is no object with fields"),
    "lap text": ([SOUND, SOUND | {"lap": "x"}], {}, f"the lap is 'x': {WHOLE}"),
    "lap large": ([SOUND, SOUND | {"lap": 10**30}], {}, f"the lap is {10**30}: {WHOLE}"),
    "lap list": ([SOUND, SOUND | {"lap": [1]}], {}, f"the lap is a list: {WHOLE}"),
    "driver": ([SOUND], {"driver": 5}, "the driver is 5: expected a text"),
    "car": ([SOUND], {"car": "x" * 99}, f"the car is '{'x' * 39}...: {WHOLE}"),
    "session": (
        [SOUND],
        {"session": -5},
        "the session is -5: expected a whole number from 0 to 18,446,744,073,709,551,6",
    ),
    "session text": ([SOUND], {"session": "s"}, "the session is 's': expected "),
    "time": ([SOUND, {"A": 1}], {}, "field 'time' is None: expected a number"),
    "value": ([SOUND, SOUND | {"A": "x"}], {}, "field 'A' is 'x': expected a number"),
    "other field": ([SOUND, SOUND | {"B": 1}], {}, "field 'B': its metadata is no object"),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", ODD_OWN)
def test_odd_metadata_and_laps(tmp_path, mcap, name, finished):
    messages, about, why = ODD_OWN[name]
    path = write_own(tmp_path / "a.mcap", messages, finished=finished, **about)
    found, _, failure = read(open_mcap(path))
    assert len(found) == len(messages) - 1
    assert failure is not None
    assert failure.startswith(f"{path}: damaged (after message {len(found)}): topic '/x': {why}")
    assert failure.endswith("; copy it again")


@pytest.mark.parametrize("name", ["sensor -1", "lap text", "lap large", "driver", "session text"])
def test_each_command_says_so(tmp_path, mcap, name):
    messages, about, why = ODD_OWN[name]
    path = write_own(tmp_path / "a.mcap", messages, **about)
    for command in (
        ("replay", path, "--speed", "max"),
        ("export", path, tmp_path / "a.csv", "--format", "mcap"),
        ("report", path, "-o", tmp_path / "a.html"),
    ):
        done = call(*command).ended(2)
        (line,) = [line for line in done.err.splitlines() if "damaged" in line]
        assert f"{path}: damaged (after message {len(messages) - 1}): topic '/x': {why}" in line


def test_the_largest_numbers_of_a_file_of_f1bufs_own(tmp_path, mcap):
    most = {"session": 2**64 - 1, "car": 2**63 - 1, "driver": "d"}
    path = write_own(tmp_path / "a.mcap", [SOUND | {"lap": -(2**63)}], fields={"sensor": 2**32 - 1}, **most)
    recording = open_mcap(path)
    found, describe, failure = read(recording)
    assert failure is None
    assert found["sensor_id"].tolist() == [2**32 - 1]
    assert describe(2**32 - 1, found["flags"][0]) == most | {"lap": -(2**63)}
    for suffix in ("csv", "arrow", "mcap"):
        export(recording.batches(), tmp_path / f"b.{suffix}", suffix, recording.sensors.describe)


def test_laps_without_end(tmp_path, monkeypatch, mcap):
    monkeypatch.setattr("f1buf.telemetry.sources.mcap._KEPT", 10)
    monkeypatch.setattr("f1buf.telemetry.sources.played._KEPT", 20)
    laps = list(range(100)) * 2
    recording = open_mcap(write_own(tmp_path / "a.mcap", [SOUND | {"lap": lap} for lap in laps]))
    found, describe, failure = read(recording)
    assert failure is None
    assert [describe(*each)["lap"] for each in found[["sensor_id", "flags"]].tolist()] == laps
    (fields,) = recording._fields.values()
    assert len(fields._known) <= 10
    assert len(recording.sensors._flags) <= 20


@pytest.fixture
def three_channels_left(monkeypatch):
    monkeypatch.setattr(channels, "MAX_CHANNELS", len(channels.known_channels()) + 3)


def test_more_fields_than_there_are_channels(tmp_path, mcap, three_channels_left):
    messages = [("/a", 10**9, {f"limited {at}": at}, "json") for at in range(5)]
    for finished in (True, False):
        recording = write_mcap(tmp_path / "a.mcap", messages)
        if not finished:
            recording.path.write_bytes(recording.path.read_bytes()[:-8])
            recording = open_mcap(recording.path)
        found, _, failure = read(recording)
        assert found["value"].tolist() == [0, 1, 2]
        assert failure == (
            f"{recording.path}: more than 65,535 different fields, the most that f1buf can tell apart; copy the topics "
            "that are needed to a file of their own, and read that (after message 3)"
        )


def test_more_signals_than_there_are_channels(tmp_path, asammdf, three_channels_left):
    samples = np.arange(3.0)
    recording = saved(tmp_path / "a.mf4", asammdf, *[(samples, (f"bounded {n}", samples, "", None)) for n in range(5)])
    _, _, failure = read(recording)
    assert failure == (
        f"{recording.path}: more than 65,535 different signals, the most that f1buf can tell apart; save the signals "
        "that are needed in a file of their own, and read that"
    )


def test_messages_that_are_nested_too_deep(tmp_path, mcap):
    deep = [b'{"a":' * depth + b"1" + b"}" * depth for depth in (1, 980, 100_000)]
    recording = write_mcap(tmp_path / "a.mcap", [("/a", 1, data, "json") for data in deep])
    assert len(found_in(recording)) == 1
    assert recording.rejected.total() == 2


def test_no_mcap(tmp_path, mcap):
    for content in (b"", b"MDF     4.10", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" * 2, b"\x89MCAP0\r\n" + bytes(100)):
        path = tmp_path / "a.mcap"
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=r"a\.mcap: (no MCAP file|damaged: .*; copy it again)$"):
            open_mcap(path)
    with pytest.raises(RecordingError, match="No such file or directory; expected an MCAP file"):
        open_mcap(tmp_path / "missing")


def test_without_mcap(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcap.reader", None)
    with pytest.raises(RecordingError, match=r"reading it needs mcap \(.*\): pip install 'f1buf\[export\]'"):
        open_mcap(tmp_path / "a.mcap")


# Other MCAP -----------------------------------------------------------------------------------------------------------


def write_mcap(path, messages, **options):
    """Write (topic, log time, data, encoding) of another program."""
    from mcap.writer import Writer

    with open(path, "wb") as file:
        writer = Writer(file, **options)
        writer.start()
        channels = {}
        for topic, log_time, data, encoding in messages:
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, encoding, 0, {"v": "m/s"})
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            writer.add_message(channels[topic], log_time, data, log_time)
        writer.finish()
    return open_mcap(path)


def test_numbers_of_another_program(tmp_path, mcap):
    recording = write_mcap(
        tmp_path / "a.mcap",
        [
            (
                "/car",
                3_000_000_000,
                {"v": 3.5, "pose": {"x": 1, "at": {"y": -2}}, "time": 9, "name": "a", "on": True},
                "json",
            ),
            ("/other", 1_000_000_000, {"v": 2**53, "big": 2**53 + 1, "list": [1, 2], "none": None}, "json"),
            ("/car", 2_500_000_000, {"v": float("nan"), "": 1}, "json"),
            ("/broken", 4, b'{"v": ', "json"),
            ("/broken", 5, b"[1]", "json"),
            ("/broken", 6, b"\xff", "json"),
            ("/image", 7, b"\0\1", "cdr"),
            ("/car", 1_764_460_800_123_456_789, {"v": 1}, "json"),
        ],
    )
    found = found_in(recording)
    assert str(found[1][3]) == "nan"
    assert [(at, name, unit, part) for at, name, unit, _, part in found] == [
        (1.0, "v", "m/s", "/other"),
        (2.5, "v", "m/s", "/car"),
        (2.5, "value", "", "/car"),
        (3.0, "v", "m/s", "/car"),
        (3.0, "pose.x", "", "/car"),
        (3.0, "pose.at.y", "", "/car"),
        (3.0, "time", "", "/car"),
        (1_764_460_800.1234567, "v", "m/s", "/car"),
    ]
    assert [value for *_, value, _ in found if value == value] == [2.0**53, 1.0, 3.5, 1.0, -2.0, 9.0, 1.0]
    assert recording.rejected == {
        "field that is no number": 4,
        "integer that float64 does not hold": 1,
        "message that is no JSON object": 3,
        "message in cdr": 1,
    }


def test_channels_of_another_program_are_known_once_the_file_is_open(tmp_path, mcap):
    said = {"early": 1}, {"in": {"a": {"late one": 2}}}
    messages = [*(("/x", at, each, "json") for at, each in enumerate(said)), ("/y", 3, {}, "cdr")]
    recording = write_mcap(tmp_path / "a.mcap", messages)
    table = ThresholdTable([Threshold("in.a.late one", above=1, message="late")])
    assert (recording.rejected, recording.notes) == ({}, [])
    readings, describe, _ = read(recording)
    assert table.check(readings).seen.tolist() == [1]
    assert describe(1, 0)["part"] == "/x"


def test_a_file_without_an_index_is_read_as_it_comes_and_checked(tmp_path, mcap):
    from mcap.writer import IndexType

    times = [5, 3, 4]
    messages = [("/a", at * 10**9, {"v": at}, "json") for at in times]
    for options in ({"index_types": IndexType.NONE}, {"use_chunking": False}):
        assert [each[0] for each in found_in(write_mcap(tmp_path / "a.mcap", messages, **options))] == times
    path = tmp_path / "a.mcap"
    write_mcap(
        path, messages * 1000, index_types=IndexType.NONE, chunk_size=1000, compression=mcap.writer.CompressionType.NONE
    )
    data = path.read_bytes()
    assert data.count(b'{"v": 4}') == 1000
    at = data.index(b'{"v": 4}', len(data) // 2) + 6
    path.write_bytes(data[:at] + b"7" + data[at + 1 :])
    _, _, failure = read(open_mcap(path))
    assert failure is not None
    assert "crc validation failed in Chunk" in failure


# MDF ------------------------------------------------------------------------------------------------------------------


def test_what_was_exported_as_mdf_comes_back_by_time(tmp_path, monkeypatch, asammdf):
    monkeypatch.setattr(mf4, "PIECE", 160)  # ten samples
    stream = odd_readings()
    stream["timestamp"] += 1_764_460_800.25
    export([stream], tmp_path / "a.mf4", "mdf", lambda sensor, _: {"part": f"part {sensor}"})
    found = found_in(open_mf4(tmp_path / "a.mf4"))
    assert len(found) == len(stream)
    assert [each[0] for each in found] == stream["timestamp"].tolist()
    values = [(each[0], as_text(each[3])) for each in found]
    expected = zip(stream["timestamp"].tolist(), map(as_text, stream["value"]), strict=True)
    assert sorted(values) == sorted(expected)
    assert {name.split("/")[0] for _, name, *_ in found} == {f"part {sensor}" for sensor in range(36)}
    assert {unit for name, _, unit, *_ in found} >= {"bar", "km/h"}


def saved(path, asammdf, *groups):
    """A measurement file of another program's, with these groups of (name, samples, unit, invalid)."""
    with asammdf.MDF(version="4.10") as file:
        for times, *signals in groups:
            file.append(
                [
                    asammdf.Signal(samples, times, name=name, unit=unit, invalidation_bits=invalid, encoding="utf-8")
                    for name, samples, unit, invalid in signals
                ],
                acq_name="ecu",
            )
        file.save(path)
    return open_mf4(path)


def test_channels_of_a_measurement_are_known_once_the_file_is_open(tmp_path, asammdf):
    recording = saved(tmp_path / "a.mf4", asammdf, (np.arange(3.0), ("only in a.mf4", np.arange(3.0), "V", None)))
    table = ThresholdTable([Threshold("only in a.mf4", above=1, message="a")])
    assert (recording.rejected, recording.notes) == ({}, [])
    readings, _, _ = read(recording)
    assert (table.check(readings).seen.tolist(), set(readings["sensor_id"].tolist())) == ([3], {0})


@pytest.mark.parametrize("piece", [16, 1 << 16])
def test_signals_of_every_kind(tmp_path, monkeypatch, asammdf, piece):
    monkeypatch.setattr(mf4, "PIECE", piece)
    whole, fast, odd = np.arange(5.0), np.arange(10) / 4, np.array([0.0, np.nan, 3.0])
    recording = saved(
        tmp_path / "a.mf4",
        asammdf,
        (
            whole,
            ("int", np.arange(5, dtype="i2"), "rpm", None),
            ("big", np.array([1, 2**53, 2**53 + 1, 2**63, 5], "u8"), "", None),
            ("low", np.array([1, -(2**53), -(2**53) - 2, 2**62, 5], "i8"), "", None),
            ("bool", np.array([True, False] * 2 + [True]), "", None),
            ("text", np.array([b"a", b"b", b"c", b"d", b"e"]), "", None),
            ("array", np.rec.fromarrays([np.zeros((5, 3))], dtype=[("array", "(3,)f8")]), "", None),
            ("partly", whole * 2, "V", np.array([False, True, False, True, False])),
        ),
        (fast, ("float", fast.astype("f4"), "s", None)),
        (odd, ("odd", odd, "", None)),
        (np.empty(0), ("none", np.empty(0), "", None)),
    )
    found = found_in(recording)
    start = found[0][0]
    by_name = {}
    for at, name, unit, value, part in found:
        assert part == "ecu"
        by_name.setdefault((name, unit), []).append((round(at - start, 3), value))
    for element in range(3):  # newer versions of asammdf have these beside the whole
        assert by_name.pop((f"array[{element}]", ""), [(n, 0) for n in range(5)]) == [(n, 0) for n in range(5)]
    assert by_name == {
        ("int", "rpm"): [(n, n) for n in range(5)],
        ("big", ""): [(0, 1), (1, 2**53), (4, 5)],
        ("low", ""): [(0, 1), (1, -(2**53)), (4, 5)],
        ("bool", ""): [(0, 1), (1, 0), (2, 1), (3, 0), (4, 1)],
        ("partly", "V"): [(0, 0), (2, 4), (4, 8)],
        ("float", "s"): [(n / 4, n / 4) for n in range(10)],
        ("odd", ""): [(0, 0), (3, 3)],
    }
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    assert recording.rejected == {
        "sample that is marked invalid": 2,
        "integer that float64 does not hold": 4,
        "absurd timestamp": 1,
    }
    assert recording.notes == ["2 signals that are no numbers, but texts or arrays, are not read: text, array"]


@pytest.mark.parametrize("piece", [16, 1 << 16])
def test_numbers_with_texts(tmp_path, monkeypatch, asammdf, piece):
    """Raw ones, where there are only texts for them; where most are converted to others, the texts are left out."""
    monkeypatch.setattr(mf4, "PIECE", piece)
    linear = {"a": 0.5, "b": -10.0}
    gears = {f"val_{n}": n for n in range(6)} | {f"text_{n}": f"G{n}".encode() for n in range(6)}
    one = {"val_0": 5, "text_0": b"none"}
    ranges = {"lower_0": 0, "upper_0": 3, "text_0": linear, "lower_1": 4, "upper_1": 5, "text_1": b"none"}
    conversions = {"plain": linear, "gear": gears, "one": one, "sensor": one | {"default_addr": linear}}
    conversions["range"] = ranges | {"default": b""}
    conversions["some"] = one | {"default_addr": {"a": 1.0, "b": 0.0}}
    conversions["bits"] = {"mask_0": 1, "text_0": gears}
    conversions["nested"] = one | {"default_addr": gears}
    raw, times = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5], "u1"), np.arange(9.0)
    for version in ("4.10", "3.30"):
        names = conversions if version == "4.10" else ["plain", "gear"]
        with asammdf.MDF(version=version) as file:
            for name in names:
                file.append([asammdf.Signal(raw, times, name=name, unit="V", conversion=conversions[name])])
            file.append([asammdf.Signal(np.array([b"a"] * 9), times, name=name, encoding="utf-8") for name in "xyzw"])
            path = file.save(tmp_path / f"{version}.mf4")
        recording = open_mf4(path)
        by_name = {}
        for _, name, unit, value, _ in found_in(recording):
            assert unit == "V"
            by_name.setdefault(name, []).append(value)
        expected = {
            "plain": [-10, -9.5, -9, -8.5, -8, -7.5, -7.5, -7.5, -7.5],
            "gear": [0, 1, 2, 3, 4, 5, 5, 5, 5],
            "one": [0, 1, 2, 3, 4, 5, 5, 5, 5],
            "sensor": [-10, -9.5, -9, -8.5, -8],
            "some": [0, 1, 2, 3, 4, 5, 5, 5, 5],
            "bits": [0, 1, 2, 3, 4, 5, 5, 5, 5],
            "nested": [0, 1, 2, 3, 4, 5, 5, 5, 5],
            "range": [-10, -9.5, -9, -8.5],
        }
        assert by_name == {name: expected[name] for name in names}
        assert recording.rejected == ({"sample that is a text": 9} if version == "4.10" else {})
        assert recording.notes == ["4 signals that are no numbers, but texts or arrays, are not read: x, y, z, ..."]


@pytest.mark.parametrize("kind", ["angle", "distance", "index", "no master"])
@pytest.mark.parametrize("version", ["4.10", "4.20"])
def test_signals_that_go_by_no_time(tmp_path, asammdf, version, kind):
    """From version 4.20 on each signal has a group of its own, whose master is that of another one."""
    samples = np.arange(3.0)
    with asammdf.MDF(version=version) as file:
        file.append([asammdf.Signal(samples, samples, name=name) for name in ("timed", "too")])
        number = len(file.groups)
        file.append([asammdf.Signal(samples, samples * 9, name=name) for name in ("a\nb", "c" * 50)])
        master = file.groups[number].channels[0]
        if kind == "no master":
            master.channel_type = master.sync_type = 0
        else:
            master.sync_type = {"angle": 2, "distance": 3, "index": 4}[kind]
        path = file.save(tmp_path / "a.mf4")
    recording = open_mf4(path)
    assert {name for _, name, *_ in found_in(recording)} == {"timed", "too"}
    count, first = (3, "time, ") if kind == "no master" else (2, "")
    assert recording.notes == [
        f"{count} signals that go by an angle, a distance or an index, and not by time, are not read: "
        f"{first}a\N{REPLACEMENT CHARACTER}b, {'c' * 40}..."
    ]


def test_frames_of_can_in_a_measurement(tmp_path, asammdf):
    can = pytest.importorskip("can", reason="python-can is not installed")
    path = tmp_path / "a.mf4"
    with can.Logger(path) as log:
        log(can.Message(timestamp=1.0, arbitration_id=1, data=[1]))
    _, _, failure = read(open_mf4(path))
    assert failure == f"{path}: frames of CAN, and no signals; expected a database that names them: --dbc FILE"
    with asammdf.MDF(path) as file:
        file.append([asammdf.Signal(np.arange(3.0), np.arange(3.0), name="RPM")])
        file.save(tmp_path / "both.mf4")
    recording = open_mf4(tmp_path / "both.mf4")
    assert len(found_in(recording)) == 3
    assert recording.notes == ["1 frames of CAN in it are not read: they need a database, --dbc FILE"]


def test_asammdf_prints_nothing(tmp_path, monkeypatch, asammdf, capfd):
    """It would, once a channel group has taken ten seconds."""
    from asammdf.blocks import mdf_v4

    monkeypatch.setattr(exports_mdf(), "_BLOCK", 1600)
    monkeypatch.setattr(mf4, "PIECE", 1600)
    monkeypatch.setattr(time, "perf_counter", itertools.count(0.0, 11.0).__next__)
    export([readings(np.arange(1000.0))], tmp_path / "a.mf4", "mdf")
    assert len(found_in(open_mf4(tmp_path / "a.mf4"))) == 1000
    assert capfd.readouterr() == ("", "")
    monkeypatch.delattr(mdf_v4, "print")  # as it is by itself
    with asammdf.MDF(tmp_path / "a.mf4") as file:
        file.configure(read_fragment_size=1600)
        assert sum(map(len, file.iter_get("SPEED"))) == 1000
    if asammdf.__version__ == "8.8.28":
        assert "MB/s" in capfd.readouterr().out


def exports_mdf():
    from f1buf.telemetry.exports import mdf

    return mdf


def test_damaged_measurements(tmp_path, asammdf):
    export([odd_readings()], tmp_path / "a.mf4", "mdf")
    data = (tmp_path / "a.mf4").read_bytes()
    path = tmp_path / "b.mf4"
    for content in (data[:64], data[:1000], data[: len(data) // 2], data[:-300]):
        path.write_bytes(content)
        _, _, failure = read(open_mf4(path))
        assert failure is not None
        assert failure.startswith(f"{path}: damaged or no measurement file: ")
    for content in (b"", b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=r"b\.mf4: no measurement file$"):
            open_mf4(path)
    with pytest.raises(RecordingError, match="No such file or directory; expected a measurement file"):
        open_mf4(tmp_path / "missing")


def test_without_asammdf(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "asammdf", None)
    with pytest.raises(RecordingError, match=r"reading it needs asammdf \(.*\): pip install 'f1buf\[export\]'"):
        open_mf4(tmp_path / "a.mf4")
