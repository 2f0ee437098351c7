"""Exports: each reading is in the file, as the format's own library finds it there; what becomes of failures."""

import errno
import itertools
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import readings, watchdog
from export_helpers import (
    SESSION,
    arrow_rows,
    by_series,
    csv_rows,
    described_by,
    mcap_rows,
    mdf_series,
    odd_readings,
    rows_of,
    with_odd_times,
)
from helpers import WATCHDOG
from recorder_helpers import names

from f1buf.telemetry import TIRE_PRESSURE, Threshold
from f1buf.telemetry import unseen as unseen_files
from f1buf.telemetry.errors import ExportError
from f1buf.telemetry.exports import FORMATS, format_of, write
from f1buf.telemetry.exports.write import export
from f1buf.telemetry.sources import RecordingError

READ = {"csv": csv_rows, "arrow": arrow_rows, "mdf": mdf_series, "mcap": mcap_rows}


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(WATCHDOG):
        yield


@pytest.fixture(params=list(FORMATS))
def format(request):
    package = FORMATS[request.param].package
    pytest.importorskip(package, reason=f"{package} is not installed")
    return request.param


@pytest.fixture
def mdf():
    pytest.importorskip("asammdf", reason="asammdf is not installed")


@pytest.fixture
def mcap():
    pytest.importorskip("mcap", reason="mcap is not installed")


def exported(path, *batches, format=None, describe=described_by, **options):
    return export(batches, path, format or format_of(path), describe, **options)


def check(path, format, stream, describe=described_by):
    """All of a stream is in a file, each series in its order, each reading as it was."""
    found, expected = READ[format](path), rows_of(stream, describe)
    if format == "mdf":
        check_mdf(found, expected)
    elif format == "mcap":
        assert by_series(found) == by_series(expected)
    else:  # CSV tells no empty text from none
        assert found == [tuple(None if each == "" and format == "csv" else each for each in row) for row in expected]


def check_mdf(found, expected):
    channels = {}
    for (sensor, session, car, driver, part, name, unit), rows in by_series(expected).items():
        known = {"channel": name, "car": car, "driver": driver, "part": part, "session": session, "sensor": sensor}
        comment = "\n".join(f"{key}: {value}" for key, value in known.items() if value not in (None, ""))
        channels.setdefault((comment, unit), []).append([(row[0], row[8]) for row in rows])
    series = {name: each for name, each in found.items() if each[2] != "lap"}
    in_file = {}
    for samples, unit, comment in series.values():
        in_file.setdefault((comment, unit), []).append(samples)
    # Two channels of a sensor may differ in their range alone, which the file does not have.
    assert in_file.keys() == channels.keys()
    for key, samples in channels.items():
        assert sorted(itertools.chain(*in_file[key])) == sorted(itertools.chain(*samples))
        if len(in_file[key]) == 1:
            assert in_file[key] == samples
    assert not any(odd in name for name in found for odd in (".", "[", "\\"))


# What is in the file --------------------------------------------------------------------------------------------------


def test_every_reading_is_in_the_file(tmp_path, format):
    """Odd names, values that are none, times that repeat; and all that is known of the sensors."""
    path = tmp_path / "out"
    stream = odd_readings()
    said = exported(path, stream, format=format)
    check(path, format, stream)
    assert (said.readings, said.rejected, said.failure) == (len(stream), {}, "")
    assert said.series == len(np.unique(stream[["sensor_id", "channel"]]))
    assert said.bytes == path.stat().st_size
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("together", [1, 50, 151])
def test_series_that_come_later(tmp_path, monkeypatch, format, together):
    monkeypatch.setattr(write, "_TOGETHER", together)
    path = tmp_path / "out"
    stream = odd_readings(300)
    exported(path, *np.array_split(stream, 20), format=format)
    check(path, format, stream)


def test_times_that_are_odd(tmp_path, format):
    path = tmp_path / "out"
    stream = with_odd_times(odd_readings())
    said = exported(path, stream, format=format)
    kept = stream
    if format == "mdf":
        kept = stream[np.isfinite(stream["timestamp"])]
        assert said.rejected == {"time that is no number": 9}
        assert any(note.startswith("times go back") for note in said.notes)
    else:
        assert said.rejected == {}
    if format == "mcap":
        assert any("times are none that MCAP can hold" in note for note in said.notes)
    assert said.readings == len(kept)
    check(path, format, kept)


def test_no_reading_at_all(tmp_path, format):
    said = exported(tmp_path / "out", format=format)
    assert (said.readings, said.series) == (0, 0)
    assert not READ[format](tmp_path / "out")


def test_a_source_that_knows_nothing_of_its_sensors(tmp_path, format):
    stream = readings(np.arange(20.0), sensors=3)
    exported(tmp_path / "out", stream, format=format, describe=None)
    check(tmp_path / "out", format, stream, lambda *_: {})


def test_readings_of_no_channel(tmp_path, format):
    stream = readings(np.arange(4.0))
    stream["channel"] = 0
    said = exported(tmp_path / "out", stream, format=format)
    assert said.readings == 4
    found = READ[format](tmp_path / "out")
    if format == "mdf":
        assert [len(samples) for samples, _, _ in found.values()] == [4]
    else:
        assert [row[7] or None for row in found] == [None] * 4


def test_texts_that_utf_8_cannot_hold(tmp_path, format):
    stream = readings(np.arange(2.0))
    exported(tmp_path / "out", stream, format=format, describe=lambda *_: {"part": "\ud800x"})
    assert "x" in str(READ[format](tmp_path / "out"))


def test_pandas_reads_the_tables(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    stream = odd_readings()
    exported(tmp_path / "a.csv", stream)
    exported(tmp_path / "a.arrow", stream)
    for table in (pandas.read_csv(tmp_path / "a.csv"), pandas.read_feather(tmp_path / "a.arrow")):
        np.testing.assert_allclose(table["value"], stream["value"], rtol=1e-13)  # its older versions round
        np.testing.assert_allclose(table["time"], stream["timestamp"], rtol=1e-13)
        assert table["sensor"].tolist() == stream["sensor_id"].tolist()


# MDF ------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mdf")
def test_unix_times_count_from_the_files_start(tmp_path):
    import asammdf

    stream = readings(np.arange(50.0))
    stream["timestamp"] = 1_764_460_800.75 + np.arange(50) / 1000
    exported(tmp_path / "a.mf4", stream, describe=None)
    check(tmp_path / "a.mf4", "mdf", stream, lambda *_: {})
    with asammdf.MDF(tmp_path / "a.mf4") as file:
        assert file.header.start_time.isoformat() == "2025-11-30T00:00:00+00:00"
        assert file.get("SPEED").timestamps[0] == 0.75
        assert file.version == "4.10"


@pytest.mark.usefixtures("mdf")
def test_laps_are_a_channel_of_each_car(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "_TOGETHER", 5)
    stream = readings(np.arange(24.0), sensors=4)  # cars 0 and 1, two sensors each
    stream["flags"] = np.where(stream["sensor_id"] < 2, 1 + stream["timestamp"] // 9, 0)

    def describe(sensor_id, flags):
        return {"car": sensor_id // 2, "driver": "ANN", **({"lap": flags} if flags else {})}

    exported(tmp_path / "a.mf4", stream, describe=describe)
    laps = {name: samples for name, (samples, _, comment) in mdf_series(tmp_path / "a.mf4").items() if comment == "lap"}
    assert laps == {"ANN car 0/LAP": [("0.0", "1.0"), ("9.0", "2.0"), ("20.0", "3.0")]}


@pytest.mark.usefixtures("mdf")
def test_thresholds_are_comments(tmp_path):
    thresholds = (
        Threshold("SPEED", above=340, message="fast", absolute=True, hysteresis=2),
        Threshold("SPEED", below=1, message="slow"),
        Threshold("G_FORCE", above=5, message="hard"),
    )
    stream = np.concatenate([readings([1.0]), readings([2.0], TIRE_PRESSURE)])
    exported(tmp_path / "a.mf4", stream, describe=None, thresholds=thresholds, source="a race <&>")
    found = mdf_series(tmp_path / "a.mf4")
    assert found["SPEED"][2].splitlines() == [
        "channel: SPEED",
        "sensor: 0",
        "threshold: |value| > 340 km/h, hysteresis 2: fast",
        "threshold: value < 1 km/h: slow",
    ]
    assert "threshold" not in found["TIRE_PRESSURE"][2]


@pytest.mark.usefixtures("mdf")
def test_names_that_would_be_the_same(tmp_path):
    parts = ["a.b", "a_b", "a[b", None]
    stream = readings(np.arange(8.0), sensors=4)
    said = exported(tmp_path / "a.mf4", stream, describe=lambda sensor, _: {"part": parts[sensor]})
    assert sorted(mdf_series(tmp_path / "a.mf4")) == [
        "SPEED",
        "a_b/SPEED",
        "a_b/SPEED/sensor 1",
        "a_b/SPEED/sensor 2",
    ]
    assert said.notes == ["2 names hold what a channel's name cannot: '_' instead, the comment has it"]


# MCAP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mcap")
def test_a_message_is_a_car_and_a_moment(tmp_path):
    from mcap.reader import make_reader

    stream = np.concatenate([readings([1.5, 2.0], sensors=2), readings([1.9, 1.8], TIRE_PRESSURE, sensors=2)])
    stream["timestamp"] = 82.5
    stream["sensor_id"] = [0, 6, 1, 7]
    threshold = Threshold("SPEED", above=1, message="fast")

    def describe(sensor, _):
        part = {"part": "RL"} if sensor % 6 else {}
        return {"car": sensor // 6, "driver": "ANN", "lap": 3, "session": SESSION, **part}

    exported(tmp_path / "a.mcap", stream, describe=describe, source="here", thresholds=[threshold])
    with open(tmp_path / "a.mcap", "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = list(reader.iter_messages())
        about = [each.metadata for each in reader.iter_metadata()]
    assert [(channel.topic, message.log_time, json.loads(message.data)) for _, channel, message in found] == [
        ("/ANN_car_0", 82_500_000_000, {"time": 82.5, "lap": 3, "SPEED": 1.5, "TIRE_PRESSURE_RL": 1.9}),
        ("/ANN_car_1", 82_500_000_000, {"time": 82.5, "lap": 3, "SPEED": 2.0, "TIRE_PRESSURE_RL": 1.8}),
    ]
    assert about[0]["source"] == "here"
    assert 'channel = "SPEED"' in about[0]["thresholds"]


@pytest.mark.usefixtures("mcap")
def test_log_times_to_the_nanosecond(tmp_path):
    from mcap.reader import make_reader

    times = [0.0, 1e-9, 0.1, 82.123456789, 1_764_460_800.123456, 18_446_744_072.5, -1.0, math.nan, 18_446_744_074.0]
    stream = readings(np.arange(float(len(times))))
    stream["timestamp"] = times
    exported(tmp_path / "a.mcap", stream, describe=None)
    with open(tmp_path / "a.mcap", "rb") as file:
        found = [message.log_time for _, _, message in make_reader(file).iter_messages(log_time_order=False)]
    last = 18_446_744_072_500_000_000
    assert found == [0, 1, 10**8, 82_123_456_789, 1_764_460_800_123_456_001, last, last, last, last]


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["nameless", "hidden"])
def unseen(request, monkeypatch):
    """What is written to: as the file system can, or as one without files that have no name."""
    if request.param == "hidden":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # no folder is opened so for writing


def refusal(*args, **options):
    with pytest.raises(ExportError) as caught:
        exported(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message, caught.value.while_writing


@pytest.mark.usefixtures("unseen")
def test_a_file_that_is_there_is_left_alone(tmp_path, format):
    path = tmp_path / "out"
    path.write_text("mine")
    expected = f"{path}: exists; expected a new file: choose another name, or remove it"
    assert refusal(path, odd_readings(), format=format) == (expected, False)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert refusal(path, format=format) == (expected, False)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path, hidden=True) == []


@pytest.mark.usefixtures("unseen")
def test_the_longest_name(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert exported(tmp_path / ("x" * 255), format="csv").bytes > 0
    assert os.listdir(tmp_path) == ["x" * 255]
    expected = f"{tmp_path / ('x' * 256)}: cannot be written: File name too long"
    assert refusal(tmp_path / ("x" * 256), format="csv") == (expected, False)


@pytest.mark.usefixtures("unseen")
def test_a_file_that_comes_meanwhile_is_left_alone(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "a.csv"

    def batches():
        yield odd_readings()
        path.write_text("mine")

    with pytest.raises(ExportError, match="exists"):
        export(batches(), path, "csv", described_by)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.usefixtures("unseen")
def test_places_that_cannot_be_written_to(tmp_path, format):
    path = tmp_path / "missing" / "out"
    expected = f"{path}: cannot be written: No such file or directory"
    assert refusal(path, odd_readings(), format=format) == (expected, False)
    path = tmp_path / "file" / "out"
    (tmp_path / "file").touch()
    assert refusal(path, format=format) == (f"{path}: cannot be written: Not a directory", False)


def test_a_disk_that_is_full(tmp_path, monkeypatch, format):
    """Nothing is left."""
    opened = unseen_files.open_unseen

    def open_it(path):
        file, temporary = opened(path)
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), file.fileno())
        return file, temporary

    monkeypatch.setattr(unseen_files, "open_unseen", open_it)
    message, while_writing = refusal(tmp_path / "out", odd_readings(), format=format)
    assert message == f"{tmp_path / 'out'}: cannot be written: {os.strerror(errno.ENOSPC)}"
    assert while_writing
    assert os.listdir(tmp_path) == []


def until(error, *batches):
    yield from batches
    raise error


def test_what_was_read_before_a_source_failed_is_in_the_file(tmp_path, format):
    stream = odd_readings()
    said = export(until(RecordingError("a.log: damaged"), stream), tmp_path / "out", format, described_by)
    assert (said.readings, said.failure) == (len(stream), "a.log: damaged")
    check(tmp_path / "out", format, stream)


def test_a_source_that_cannot_read_is_not_taken_for_a_file_that_cannot_be_written(tmp_path, format):
    error = OSError(errno.EIO, os.strerror(errno.EIO), "a.log")
    said = export(until(error, odd_readings()), tmp_path / "out", format, described_by)
    assert (said.readings, said.failure) == (600, str(error))


@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, MemoryError])
def test_nothing_is_left_where_anything_else_fails(tmp_path, format, error):
    with pytest.raises(error):
        export(until(error(), odd_readings()), tmp_path / "out", format, described_by)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_not_wanted(tmp_path, format):
    said = exported(tmp_path / "out", format=format, is_wanted=lambda said: said.readings > 0)
    assert said.bytes == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_package_that_is_missing(tmp_path, monkeypatch, name):
    package = FORMATS[name].package
    monkeypatch.setitem(sys.modules, package, None)
    message, while_writing = refusal(tmp_path / "out", format=name)
    assert message.startswith(f"--format {name} needs {package} (")
    assert message.endswith("): pip install 'f1buf[export]'")
    assert not while_writing
    assert os.listdir(tmp_path) == []


def test_the_format_by_a_files_name():
    names = ("a.mf4", "A.MCAP", "a.csv", "a.arrow", "a.feather", "a", "a.ld", ".csv")
    assert [format_of(Path(name)) for name in names] == ["mdf", "mcap", "csv", "arrow", "arrow", None, None, None]
