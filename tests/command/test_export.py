"""`f1buf export`: what it says of what it made, what it refuses, and real recordings in each format."""

import os
import signal

import numpy as np
import pytest
from cli_helpers import (
    call,
    command,
    finish,
    participants,
    program_without,
    running,
    telemetry,
    write_recording,
)
from export_helpers import arrow_rows, as_text, by_series, csv_rows, mcap_rows, mdf_series, odd_readings, rows_of
from helpers import wait_until
from recorder_helpers import names, numbered, record, recording_to

from f1buf.command import recorded
from f1buf.telemetry.exports import FORMATS

pytest.importorskip("pyarrow", reason="exporting needs pyarrow")
SUFFIXES = {"mdf": ".mf4", "mcap": ".mcap", "csv": ".csv", "arrow": ".arrow"}


@pytest.fixture(params=list(FORMATS))
def format(request):
    package = FORMATS[request.param].package
    pytest.importorskip(package, reason=f"{package} is not installed")
    return request.param


@pytest.fixture
def race(tmp_path):
    """Two cars, three frames: 2 speeds, 2 temperatures and 8 pressures each."""
    rows = [(0.0, participants(0.0, "ANN", "BOB"))]
    rows += [(n / 60, telemetry(n / 60, 300 + n, 200 + n)) for n in (1, 2, 4)]
    return write_recording(tmp_path / "race.sqlite3", rows)


def the_line(done):
    (line,) = [line for line in done.err.splitlines() if line.startswith("exported")]
    return line


# What it makes --------------------------------------------------------------------------------------------------------


def test_a_recording_in_each_format(tmp_path, race, format):
    folder, out = tmp_path / "race", tmp_path / f"out{SUFFIXES[format]}"
    call("replay", race, "--speed", "max", "--record", folder).ended()
    done = call("export", folder, out).ended()
    assert done.out == ""
    size = out.stat().st_size
    assert the_line(done).startswith(f"exported   36 readings of 12 series, {size:,} bytes, ")
    assert done.err.count("\n") == 1
    assert the_line(done).endswith(f" s: {out}")


def test_the_summary_as_json(tmp_path, race):
    done = call("export", race, tmp_path / "out.csv", "--json").ended()
    seconds = done.summary.pop("seconds")
    assert 0 < seconds < 100
    expected = {
        "file": str(tmp_path / "out.csv"),
        "format": "csv",
        "readings": 36,
        "series": 12,
        "bytes": (tmp_path / "out.csv").stat().st_size,
        "rejected": {},
        "notes": [],
        "network": {"lost": 1},
        "gaps": [],
    }
    assert {**done.summary, "seconds": None} == {**expected, "seconds": None}
    assert "lost       1 on the network" in done.err.splitlines()


def test_a_format_whatever_the_name(tmp_path, race):
    call("export", race, tmp_path / "data", "--format", "arrow", "--cars", "1").ended()
    rows = arrow_rows(tmp_path / "data")
    assert len(rows) == 18
    assert {row[4] for row in rows} == {"BOB"}


@pytest.mark.parametrize("format", ["mdf", "mcap"], indirect=True)
def test_thresholds_of_the_recording_are_in_the_file(tmp_path, race, format):
    out = tmp_path / f"out{SUFFIXES[format]}"
    call("export", race, out).ended()
    if format == "mdf":
        comment = mdf_series(out)["ANN car 0/SPEED"][2]
        assert comment.splitlines()[-1] == "threshold: value > 340 km/h: Approaching top speed"
    else:
        done = call("replay", out, "--speed", "max", "--json").ended()
        assert [each["above"] for each in done.summary["thresholds"] if each["channel"] == "SPEED"] == [340.0]


@pytest.mark.parametrize("format", ["mdf", "mcap"], indirect=True)
def test_what_was_exported_can_be_replayed_and_exported_again(tmp_path, race, format):
    first, second = tmp_path / f"first{SUFFIXES[format]}", tmp_path / "second.csv"
    call("export", race, first).ended()
    done = call("replay", first, "--speed", "max", "--json").ended()
    assert done.summary["readings"] == 36
    call("export", first, second).ended()
    call("export", race, tmp_path / "direct.csv").ended()
    if format == "mcap":
        assert by_series(csv_rows(second)) == by_series(csv_rows(tmp_path / "direct.csv"))
    else:
        expected = sorted((row[0], row[8]) for row in csv_rows(tmp_path / "direct.csv"))
        assert sorted((row[0], row[8]) for row in csv_rows(second)) == expected


# What is missing ------------------------------------------------------------------------------------------------------


def test_an_empty_recording(tmp_path, format):
    record(tmp_path / "rec", numbered(0))
    out = tmp_path / f"out{SUFFIXES[format]}"
    done = call("export", tmp_path / "rec", out).ended()
    assert the_line(done).startswith("exported   0 readings of 0 series, ")
    assert out.exists()


def test_a_recording_of_the_game_without_a_reading(tmp_path):
    path = write_recording(tmp_path / "race.sqlite3", [(0.0, b"nonsense")])
    done = call("export", path, tmp_path / "out.csv").ended(2)
    assert done.err.splitlines()[-1] == (
        f"f1buf export: {path}: no datagram in it could be used: 1 x truncated datagram; "
        f"{tmp_path / 'out.csv'} was not made"
    )
    assert not (tmp_path / "out.csv").exists()


def in_parts(folder, count):
    """Parts of ten readings each."""
    with recording_to(folder, capacity=80, part_seconds=0) as recorder:
        for number in range(count):
            recorder.ring.put_many(numbered(10, 10 * number))
            wait_until(lambda number=number: recorder.parts == number + 1)


def test_a_part_that_is_missing(tmp_path):
    """The others are in the file, and the status is that of what cannot be read."""
    folder, out = tmp_path / "rec", tmp_path / "out.csv"
    in_parts(folder, 4)
    (folder / "part-000002.parquet").unlink()
    done = call("export", folder, out).ended(2)
    assert the_line(done).startswith("exported   30 readings of 7 series, ")
    assert "rejected   1 x missing part" in done.err.splitlines()
    assert done.err.splitlines()[-1] == (
        f"f1buf export: {folder}: missing parts: 2; the others were read: copy the folder again"
    )
    assert [row[8] for row in csv_rows(out)] == [as_text(n) for n in [*range(10), *range(20, 40)]]


def test_a_part_that_is_damaged(tmp_path):
    """What came before it is in the file."""
    folder, out = tmp_path / "rec", tmp_path / "out.csv"
    in_parts(folder, 3)
    damaged = folder / "part-000002.parquet"
    data = bytearray(damaged.read_bytes())
    data[30] ^= 1
    damaged.write_bytes(data)
    done = call("export", folder, out).ended(2)
    assert the_line(done).startswith("exported   10 readings of 7 series, ")
    assert done.err.splitlines()[-1].startswith(f"f1buf export: {damaged}: damaged or unreadable: its checksum is ")
    out.unlink()
    (folder / "part-000001.parquet").write_bytes(damaged.read_bytes()[:100])
    assert call("export", folder, out).ended(2).error.startswith("f1buf export: error: ")
    assert not out.exists()


def test_nothing_is_made_of_what_is_damaged_from_its_beginning(tmp_path):
    folder, out = tmp_path / "rec", tmp_path / "out.csv"
    in_parts(folder, 1)
    damaged = folder / "part-000001.parquet"
    data = bytearray(damaged.read_bytes())
    data[30] ^= 1
    damaged.write_bytes(data)
    done = call("export", folder, out).ended(2)
    assert "exported" not in done.err
    assert done.err.splitlines()[-1].endswith(f"; {out} was not made")
    assert not out.exists()


def test_readings_that_the_format_cannot_hold(tmp_path):
    pytest.importorskip("asammdf", reason="asammdf is not installed")
    stream = odd_readings(20)
    stream["timestamp"][3] = np.nan
    record(tmp_path / "rec", stream)
    out = tmp_path / "out.mf4"
    done = call("export", tmp_path / "rec", out).ended(1)
    assert the_line(done).startswith("exported   19 readings of ")
    assert "rejected   1 x time that is no number" in done.err.splitlines()
    assert done.err.splitlines()[-1] == f"f1buf export: 1 readings are not in {out}, which cannot hold them"


# What it refuses ------------------------------------------------------------------------------------------------------


def test_a_file_that_exists(tmp_path, race):
    out = tmp_path / "out.csv"
    out.write_text("mine")
    done = call("export", race, out).ended(2)
    expected = f"f1buf export: error: {out}: exists; expected a new file: choose another name, or remove it"
    assert done.error == expected
    assert out.read_text() == "mine"


def test_what_names_no_format_or_no_recording(tmp_path, race):
    done = call("export", race, tmp_path / "out.ld").ended(2)
    assert done.error == (
        f"f1buf export: error: {tmp_path / 'out.ld'}: names no format; expected .mf4, .mcap, .csv, .arrow, .feather, "
        "or --format mdf or mcap or csv or arrow"
    )
    done = call("export", tmp_path / "missing", tmp_path / "out.csv").ended(2)
    assert done.error == f"f1buf export: error: {tmp_path / 'missing'}: No such file or directory; {recorded.EXPECTED}"
    done = call("export", race, "-").ended(2)
    assert "'-': expected a name" in done.error
    done = call("export", race, "", "--format", "csv").ended(2)
    assert "OUT: the name is empty; expected one" in done.error
    done = call("export", race, tmp_path / "out.csv", "--channels", "can0").ended(2)
    assert "--channels is for a CAN log" in done.error
    assert names(tmp_path) == ["race.sqlite3"]


def test_a_folder_of_recorded_parts_is_kept_clean(tmp_path):
    """Programs that read a whole folder would read the file, too."""
    record(tmp_path / "rec", numbered(10))
    out = tmp_path / "rec" / "out.csv"
    done = call("export", tmp_path / "rec", out).ended(2)
    assert done.error == f"f1buf export: error: {out}: is in a folder of recorded parts; choose another one"
    assert not out.exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_package_that_is_missing(tmp_path, race, format):
    package = FORMATS[format].package
    out = tmp_path / f"out{SUFFIXES[format]}"
    done = command("export", race, out, program=program_without(package)).ended(2)
    assert done.error.startswith(f"f1buf export: error: --format {format} needs {package} (")
    assert done.error.endswith("): pip install 'f1buf[export]'")


def test_a_disk_that_is_full(race):
    """A device in place of a file: it exists."""
    done = call("export", race, "/dev/full", "--format", "csv").ended(2)
    assert "exists" in done.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing(tmp_path, number):
    """Of a source that waits."""
    waits = (
        "import sys, time\nfrom f1buf.telemetry.sources.parquet import ParquetReplay\n"
        "def batches(self, stop):\n    print('begun', file=sys.stderr, flush=True)\n    time.sleep(1000)\n    yield\n"
        "ParquetReplay.batches = batches\nfrom f1buf.command.cli import main\nsys.exit(main())\n"
    )
    record(tmp_path / "rec", numbered(10))
    out = tmp_path / "out.csv"
    with running("export", tmp_path / "rec", out, program=("-c", waits)) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        done = finish(process)
    assert done.ended(130).error == f"f1buf export: stopped; {out} was not made"
    assert os.listdir(tmp_path) == ["rec"]


# Real recordings ------------------------------------------------------------------------------------------------------


def check_file(out, format, expected):
    """A file holds these rows of a CSV that was made otherwise."""
    if format == "csv":  # which tells no empty text from none
        assert csv_rows(out) == [tuple(None if each == "" else each for each in row) for row in expected]
    elif format == "arrow":
        assert arrow_rows(out) == expected
    elif format == "mcap":
        assert by_series(mcap_rows(out)) == by_series(expected)
    else:
        found = [samples for samples, _, comment in mdf_series(out).values() if comment != "lap"]
        wanted = [[(row[0], row[8]) for row in rows] for rows in by_series(expected).values()]
        assert sorted(found) == sorted(wanted)


def test_the_real_race(tmp_path, recordings_dir, format):
    """Against what the recorder keeps."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    source, folder = recordings_dir / "f1_2026_race.sqlite3", tmp_path / "race"
    call("replay", source, "--speed", "max", "--record", folder).ended()
    out = tmp_path / f"out{SUFFIXES[format]}"
    done = call("export", folder, out, "--json").ended()
    assert (done.summary["readings"], done.summary["series"]) == (220_000, 220)
    table = pandas.read_parquet(folder)
    columns = ("timestamp", "sensor_id", "session", "car", "driver", "lap", "part", "channel", "value", "unit")
    expected = list(zip(*(column_of(table[name]) for name in columns), strict=True))
    check_file(out, format, expected)


def column_of(column):
    if column.dtype == "float64":
        return [as_text(value) for value in column]
    return [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]


def test_the_road_car(tmp_path, recordings_dir, format):
    """Against what its decoder gives."""
    pytest.importorskip("cantools", reason="CAN logs need cantools")
    from f1buf.telemetry.sources.can.decoder import CanDecoder
    from f1buf.telemetry.sources.can.log import open_can_log

    log, database = recordings_dir / "road_car.log", recordings_dir / "road_car.dbc"
    decoder = CanDecoder([database])
    stream = np.concatenate([decoder.decode(frames) for frames in open_can_log(log).frames()])
    out = tmp_path / f"out{SUFFIXES[format]}"
    done = call("export", log, out, "--dbc", database, "--json").ended()
    assert (done.summary["readings"], done.summary["series"]) == (91_381, 20)
    assert done.summary["rejected"] == {"no database entry": 44_543}
    check_file(out, format, rows_of(stream, decoder.describe))
