"""`f1buf replay LOG` and `f1buf can`: what their options ask for, and what is said where nothing can be used."""

import argparse
import itertools
from pathlib import Path

import pytest
from cli_helpers import call, json_lines, participants, write_recording, write_thresholds

from f1buf.command.can import bus_names
from f1buf.command.can import database as converted
from f1buf.telemetry.sources.can.decoder import Selection

can = pytest.importorskip("can", reason="python-can is not installed")
pytest.importorskip("can.cli", reason="this python-can has no can.cli")
pytest.importorskip("cantools", reason="cantools is not installed")

DATABASE = """\
VERSION ""
BU_: ECU
BO_ {id} {name}: 2 ECU
 SG_ {name}_SPEED : 0|16@1+ (1,0) [0|65535] "km/h" ECU
"""
LOG = [
    "(1.0) can0 100#0100",
    "(2.0) can1 100#0200",
    "(3.0) can0 00000100#0300",
    "(4.0) can1 1FF#0400",
    "(5.0) can0 200#0500",
]


def database(folder, name, can_id):
    path = folder / f"{name}.dbc"
    path.write_text(DATABASE.format(id=can_id, name=name))
    return path


@pytest.fixture
def databases(tmp_path):
    ids = {"A": 0x100, "B": 0x100 | 1 << 31, "C": 0x1FF, "D": 0x200}
    return [part for name, can_id in ids.items() for part in ("--dbc", database(tmp_path, name, can_id))]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "drive.log"
    path.write_text("\n".join(LOG) + "\n")
    return path


ALL = len(LOG)


def readings_of(folder, log, *options):
    """A replay, and its readings as (channel, value): the alerts of limits that all of them cross."""
    names = {Path(str(option).rpartition("=")[2]).stem for option in options if str(option).endswith(".dbc")}
    crossed = [{"channel": f"{name}_SPEED", "above": 0} for name in names]
    alerts = folder / "alerts.jsonl"
    args = ["--thresholds", write_thresholds(folder / "all.toml", *crossed), "--alerts", alerts, "--alert-samples"]
    done = call("replay", log, *options, *args, "--speed", "max", "--json")
    return done, [(alert["channel"], alert["value"]) for alert in json_lines(alerts.read_text())]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["--channels", "can1"], [2, 4]),
        (["--channels", "can0,can1"], [1, 2, 3, 4, 5]),
        (["--channels", "can0", "--channels", "can1"], [1, 2, 3, 4, 5]),
        (["--ids", "100"], [1, 2]),
        (["--ids", "0x100-0x1ff"], [1, 2, 4]),
        (["--ids", "00000100"], [3]),
        (["--ids", "00000000-1FFFFFFF"], [3]),
        (["--ids", "1FF,200", "--ids", "0100"], [3, 4, 5]),
        (["--ids", "100", "--channels", "can0"], [1]),
    ],
)
def test_only_chosen_frames_are_decoded(databases, log, tmp_path, options, left):
    done, found = readings_of(tmp_path, log, *databases, *options)
    assert done.status == 0
    assert sorted(int(value) for _, value in found) == left
    assert done.summary["rejected"] == ({"not asked for": ALL - len(left)} if len(left) < ALL else {})
    assert done.summary["notes"] == []


def test_a_silent_bus_is_in_the_notes(databases, log):
    done = call("replay", log, *databases, "--speed", "max", "--channels", "can1,can7", "--json")
    assert done.summary["notes"] == ["nothing came from bus can7; heard: can0, can1"]
    assert "note       nothing came from bus can7; heard: can0, can1" in done.err.splitlines()


IDS = "expected hexadecimal ids such as 123, 700-7FF or 18FEF100, extended ones of more than 3 digits"
BAD_CHOICES = [
    *[(f"--channels={text}", "expected names of buses such as can0,can1") for text in ("", "can0,", ",can0")],
    *[(f"--ids={text}", IDS) for text in ("", "100,", "7FF-100", "100-00000200", "20000000", "1-2-3", "xyz", "-1")],
    *[(f"--ids={text}", IDS) for text in ("1_0", "800", "0x800")],
]


@pytest.mark.parametrize(("option", "expected"), BAD_CHOICES)
def test_bad_choices_of_frames(databases, log, option, expected):
    done = call("replay", log, *databases, option).ended(2)
    assert expected in done.err


def test_a_database_for_a_bus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bus_names("can0, can1 ") == ["can0", "can1"]
    assert converted("can1=body.dbc") == ("can1", "body.dbc")
    assert converted("body.dbc") == "body.dbc"
    assert converted("./can1=body.dbc") == "./can1=body.dbc"
    database(tmp_path, "can1=body", 1)
    assert converted("can1=body.dbc") == "can1=body.dbc"  # a file of that name
    for text in ("=body.dbc", "can1=", "can1=-", "-"):
        with pytest.raises(argparse.ArgumentTypeError):
            converted(text)


def test_each_bus_by_its_own_database(tmp_path, log):
    """A note tells of a database for a bus that is not there."""
    one, two, three = (database(tmp_path, name, 0x100) for name in "ABC")
    options = ["--dbc", f"can0={one}", "--dbc", f"can1={two}", "--dbc", f"can7={three}"]
    done, found = readings_of(tmp_path, log, *options)
    assert done.status == 0, done.err
    assert sorted(found) == [("A_SPEED", 1.0), ("B_SPEED", 2.0)]
    assert done.summary["notes"] == ["nothing came from bus can7; heard: can0, can1"]


@pytest.mark.parametrize("suffix", ["asc", "blf"])
def test_buses_have_the_numbers_that_the_log_gives_them(tmp_path, suffix):
    """python-can counts them from 0; such logs, and the programs that show them, from 1."""
    log = tmp_path / f"drive.{suffix}"
    with can.Logger(log) as writer:
        for n in (0, 1):  # 1 and 2 in the file
            options = {"is_extended_id": False, "channel": n, "data": [n + 1, 0]}
            writer(can.Message(timestamp=1700000000.0 + n, arbitration_id=0x100, **options))
    one, two = (database(tmp_path, name, 0x100) for name in "AB")
    done, found = readings_of(tmp_path, log, "--dbc", f"1={one}", "--dbc", f"2={two}")
    assert (done.status, done.summary["notes"]) == (0, []), done.err
    assert found == [("A_SPEED", 1.0), ("B_SPEED", 2.0)]
    done = call("replay", log, "--dbc", one, "--dbc", f"0={two}", "--speed", "max", "--json")
    assert done.summary["notes"] == ["nothing came from bus 0; heard: 1, 2"]


def test_j1939_by_an_option(tmp_path):
    path = database(tmp_path, "GROUP", 0x18FEF100 | 1 << 31)
    log = tmp_path / "truck.log"
    log.write_text("(1.0) can0 0CFEF117#0100\n(2.0) can0 18FEF118#0200\n")
    done = call("replay", log, "--dbc", path, "--speed", "max", "--j1939", "--json")
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (0, 2, {})
    done = call("replay", log, "--dbc", path, "--speed", "max").ended(2)
    assert done.err.endswith("2 x no database entry; is the database another car's, or of J1939 (--j1939)?\n")


def test_a_message_of_j1939_in_several_frames_is_asked_for_by_its_id(tmp_path):
    path = database(tmp_path, "GROUP", 0x18FEC900 | 1 << 31)
    log = tmp_path / "truck.log"
    pieces = ["1CECFF17#20090002FFC9FE00", "1CEBFF17#0101000000000000", "1CEBFF17#020000FFFFFFFFFF"]
    log.write_text("".join(f"({n}.0) can0 {piece}\n" for n, piece in enumerate(pieces, 1)))
    done = call("replay", log, "--dbc", path, "--speed", "max", "--j1939", "--ids", "18FEC917", "--json")
    assert (done.status, done.summary["readings"], done.summary["rejected"]) == (0, 1, {})
    done = call("replay", log, "--dbc", path, "--speed", "max", "--j1939", "--ids", "18FEC918").ended(2)
    assert done.err.endswith("no frame in it could be used: 1 x not asked for; see --channels and --ids\n")


def test_alerts_do_not_destroy_a_database(log, tmp_path):
    path = database(tmp_path, "A", 0x100)
    before = path.read_bytes()
    done = call("replay", log, "--dbc", f"can0={path}", "--alerts", path).ended(2)
    assert "is the file that is read" in done.err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (LOG, [], "no frame in it could be used: 5 x no database entry; is the database another car's, or of J1939 "
         "(--j1939)?"),
        (LOG, ["--channels", "can7"], "no frame in it could be used: 5 x not asked for; see --channels and --ids"),
        ([], [], "there is no reading in it: it holds no frame that means something"),
        (["(1.0) can0 100#R"] * 3 + LOG[4:], [], "no frame in it could be used: 3 x remote frame"),
    ],
)  # fmt: skip
def test_a_log_of_which_nothing_could_be_used(tmp_path, log, lines, options, said):
    log.write_text("".join(f"{line}\n" for line in lines))
    done = call("replay", log, "--dbc", database(tmp_path, "OTHER", 0x300), "--speed", "max", *options).ended(2)
    assert done.err.splitlines()[-1] == f"f1buf: {log}: {said}"


def test_a_replay_that_was_stopped_before_the_first_reading_is_no_failure(tmp_path, log):
    log.write_text("(1.0) can0 300#0100\n(2.0) can0 100#0100\n")
    options = ["--dbc", database(tmp_path, "A", 0x100), "--speed", "0.001", "--duration", "0.2"]
    assert call("replay", log, *options).status == 0


def test_a_selection():
    """A selection is by bus, by id, and by whether the id is extended; without a choice it wants everything."""
    asked = itertools.product(["can0", "can1"], [1, 2, 3, 4], [False, True])
    select = Selection(frozenset(["can1"]), ((2, 3, False), (3, 3, True)))
    assert [each for each in asked if select.wants(*each)] == [
        ("can1", 2, False),
        ("can1", 3, False),
        ("can1", 3, True),
    ]
    assert Selection().wants("any", 0x1FFFFFFF, True)
    groups = Selection(ids=((0x18FECA21, 0x18FECA21, True),))  # of priority 6
    assert groups.wants_group("can0", 0x00FECA21)
    assert not groups.wants_group("can0", 0x00FECA22)


@pytest.mark.parametrize("option", [("--channels", "can0"), ("--ids", "100"), ("--j1939",)])
@pytest.mark.parametrize("what", ["game", "recorded"])
def test_options_for_can_are_refused_for_other_recordings(tmp_path, option, what):
    path = tmp_path / what
    if what == "game":
        write_recording(path, [(1.0, participants(1.0, "A"))])
    else:
        path.mkdir()
    done = call("replay", path, *option).ended(2)
    kind = {"game": "a recording of the game", "recorded": "what --record has made"}[what]
    assert f"{option[0]} is for a CAN log; {path} is {kind}" in done.err
