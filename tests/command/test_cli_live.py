"""The commands on live input and with a recording: `listen`, `can`, `replay` of all kinds, and `--record`."""

import contextlib
import errno
import functools
import os
import re
import resource
import signal
import socket
import sqlite3
import threading
from collections import Counter

import pytest
from cli_helpers import (
    PATIENCE,
    Captured,
    call,
    command,
    finish,
    interrupted,
    json_lines,
    mixed_stream,
    participants,
    program_without,
    read_until,
    running,
    strict_json,
    telemetry,
    write_recording,
    write_thresholds,
)
from helpers import Task, thorough, wait_until

from f1buf.command import listen
from f1buf.command.alert_file import AlertFile
from f1buf.command.cli import build_parser
from f1buf.command.console import Console
from f1buf.command.feed import Feed, added_up
from f1buf.command.runner import Runner
from f1buf.telemetry.sources.parquet import open_parquet

FEW = ("--count", 100, "--rate", "max", "--seed", 7)
ON_THE_AIR = 32  # datagrams that have been sent and not come back: far fewer than any socket holds


@pytest.fixture(scope="module")
def race(recordings_dir):
    """The recorded race: its file and its datagrams."""
    path = recordings_dir / "f1_2026_race.sqlite3"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return path, [packet for (packet,) in connection.execute("SELECT packet FROM packets ORDER BY pkt_id")]


# The game -------------------------------------------------------------------------------------------------------------


class Listening:
    """`f1buf listen` in a process of its own, that forwards what it gets to a socket of ours."""

    def __init__(self, process, host, back):
        self.process = process
        self.said = read_until(process.stderr, "Ctrl-C stops")
        self.port = int(re.search(r":(\d+), ", self.said)[1])
        self._back = back
        self._socket = socket.socket(back.family, socket.SOCK_DGRAM)
        self._socket.connect((host, self.port))

    def send(self, datagrams):
        """Send them, no faster than they are received; each must come back as it was."""
        sent = 0
        for index, datagram in enumerate(datagrams):
            while sent < min(index + ON_THE_AIR, len(datagrams)):
                self._socket.send(datagrams[sent])
                sent += 1
            assert self._back.recv(65_536) == datagram

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self._socket.close()
        return finish(self.process).ended()


@contextlib.contextmanager
def listening(*args, host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as back:
        back.bind((host, 0))
        back.settimeout(PATIENCE)
        there = f"[{host}]" if ":" in host else host
        forward = f"{there}:{back.getsockname()[1]}"
        with running("listen", "--host", host, "--port", 0, "--forward", forward, "--json", *args) as process:
            yield Listening(process, host, back)


def without_times(alerts):
    return [{name: value for name, value in alert.items() if name != "time"} for alert in alerts]


@thorough
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listen_gives_the_readings_and_alerts_of_the_replay(race, tmp_path, host):
    path, datagrams = race
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    replayed = call("replay", path, "--speed", "max", "--alerts", there, "--json").summary
    with listening("--alerts", here, host=host) as listener:
        listener.send(datagrams)
        done = listener.end()
    summary = done.summary
    assert (summary["readings"], summary["analysed"], summary["rejected"]) == (220_000, 220_000, {})
    assert summary["thresholds"] == replayed["thresholds"]
    assert without_times(json_lines(here.read_text())) == without_times(json_lines(there.read_text()))
    network = summary["network"]
    assert (network["datagrams"], network["dropped"], network["lost"]) == (7124, 0, replayed["network"]["lost"])
    assert list(network["forwarded"].values()) == [7124]
    assert list(network["not_forwarded"].values()) == [0]
    assert re.search(r"forwarded  7,124 to \S+, 0 not", done.err)


def test_live_readings_have_unix_time(tmp_path):
    alerts, crossed = tmp_path / "a.jsonl", write_thresholds(tmp_path / "t.toml", {"channel": "SPEED", "above": 300})
    began = 1_600_000_000
    with listening("--alerts", alerts, "--thresholds", crossed, "--cars", "player") as listener:
        listener.send([participants(5.0, "ANN"), telemetry(5.0, 310)])
        listener.end()
    [alert] = json_lines(alerts.read_text())
    assert alert["time"] > began
    assert (alert["car"], alert["driver"], alert["value"]) == (0, "ANN", 310.0)


def test_unfit_datagrams_are_counted_and_shown():
    with listening() as listener:
        listener.send([b"garbage"] * 30 + [bytes(100), participants(5.0, "ANN"), telemetry(5.0, 310)[:-1]])
        done = listener.end()
    assert done.summary["rejected"] == {"truncated datagram": 31, "unknown format year": 1}
    assert "rejected   31 x truncated datagram, 1 x unknown format year" in done.err
    assert done.err.count("truncated datagram") < 25  # no line for each


def test_what_the_kernel_drops_is_this_machines_loss(monkeypatch):
    class Overrun(listen.Listener):
        dropped = 3
        lost = 5

        def batches(self, stop):
            return iter([])

    monkeypatch.setattr(listen, "Listener", Overrun)
    done = call("listen", "--port", 0, "--json").ended(1)
    assert "lost       5 on the network or by the kernel, 3 by the kernel" in done.err
    assert "f1buf: 3 datagrams were lost by the kernel" in done.err
    assert (done.summary["network"]["lost"], done.summary["network"]["dropped"]) == (5, 3)


class Ears:
    """Stands in for a listener, and tells what was heard."""

    def __init__(self):
        self.datagrams = 0
        self.rejected = Counter()

    def hint(self):
        return ["the addresses"]

    def buffer_advice(self):
        return "a small buffer"


def test_silence_is_told_once_and_the_first_time_with_what_to_do(monkeypatch):
    ears, now, readings = Ears(), 100.0, 0
    monkeypatch.setattr(listen.time, "monotonic", lambda: now)
    silence = listen.Silence(ears, lambda: readings)
    assert list(silence.notices()) == ["a small buffer"]
    now = 104.9
    assert list(silence.notices()) == []
    now = 105.1
    assert list(silence.notices()) == ["nothing has been heard for 5 s", "the addresses"]
    assert list(silence.notices()) == []
    ears.datagrams = readings = now = 106
    assert list(silence.notices()) == []
    now = 111.1
    assert list(silence.notices()) == ["nothing has been heard for 5 s"]
    assert list(silence.notices()) == []


class Growing(Counter):
    """A counter to which a reason is added while its items are gone through, one by one."""

    def items(self):
        for item in super().items():
            yield item
            self[f"reason {len(self)}"] = 1


@pytest.mark.parametrize("counter", [Counter, Growing], ids=["at rest", "while the decoder counts"])
def test_unfit_datagrams_are_silence_too(monkeypatch, counter):
    ears, now = Ears(), 100.0
    monkeypatch.setattr(listen.time, "monotonic", lambda: now)
    silence = listen.Silence(ears, lambda: 0)
    list(silence.notices())
    ears.datagrams, ears.rejected, now = 300, counter({"truncated datagram": 1, "unknown format year": 299}), 105.1
    assert list(silence.notices()) == [
        "300 datagrams in 5 s, but no reading, mostly: unknown format year",
        "the addresses",
    ]


def test_counters_that_grow_meanwhile_are_added_up():
    growing = Growing({"unknown format year": 299, "truncated datagram": 1})
    assert added_up(growing) == {"unknown format year": 299, "truncated datagram": 1}
    assert added_up(growing, {"truncated datagram": 2}, {}) == {"unknown format year": 299, "truncated datagram": 3}


@thorough
def test_what_to_enter_in_the_game_is_told_after_five_seconds():
    with running("listen", "--port", 0) as process:
        said = read_until(process.stderr, "UDP Format")
        process.send_signal(signal.SIGINT)
        assert finish(process).status == 0
    port = re.search(r"UDP 127.0.0.1:(\d+)", said)[1]
    assert "nothing has been heard for 5 s" in said
    assert re.search(rf"UDP IP Address: 127\.0\.0\.1\n.*UDP Port: {port}", said)


def test_a_port_that_is_taken():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = call("listen", "--port", port).ended(2)
    assert f"127.0.0.1:{port}" in done.error
    assert "--forward" in done.error


BAD_DESTINATIONS = "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:20778", ":20778", "[::1:20778"
BAD_PORTS, BAD_CARS, BAD_HOSTS = ("65536", "-1"), ("24",), ("not.a.host.invalid",)
BAD_LISTEN = {"--forward": BAD_DESTINATIONS, "--port": BAD_PORTS, "--cars": BAD_CARS, "--host": BAD_HOSTS}


@pytest.mark.parametrize(("option", "values"), BAD_LISTEN.items())
def test_bad_usage_of_listen(option, values):
    for value in values:
        done = call("listen", f"{option}={value}").ended(2)
        assert option in done.error or value in done.error


def test_destinations():
    assert listen.destination("localhost:20778") == ("localhost", 20778)
    assert listen.destination("[::1]:1") == ("::1", 1)


# CAN ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def can():
    pytest.importorskip("cantools")
    return pytest.importorskip("can")


@pytest.fixture
def car(recordings_dir):
    return ("--dbc", recordings_dir / "road_car.dbc")


@thorough
def test_a_can_log_gives_the_known_answers(can, car, recordings_dir, tmp_path):
    thresholds = write_thresholds(
        tmp_path / "car.toml", {"channel": "COOLANT_TEMP", "above": 93}, {"channel": "RPM", "above": 5000}
    )
    log = recordings_dir / "road_car.log"
    done = call("replay", log, *car, "--speed", "max", "--thresholds", thresholds, "--json").ended()
    summary = done.summary
    assert (summary["readings"], summary["rejected"]) == (91_381, {"no database entry": 44_543})
    found = [tuple(each[name] for name in ("readings", "samples", "rises")) for each in summary["thresholds"]]
    assert found == [(1806, 207, 1), (9030, 265, 3)]
    assert re.search(r"COOLANT_TEMP 94 C \(> 93\)  sensor \d+ ID_360", done.err)


def test_a_live_bus(can, car, tmp_path):
    thresholds = write_thresholds(tmp_path / "car.toml", {"channel": "RPM", "above": 5000})
    frame = functools.partial(can.Message, arbitration_id=0x140, is_extended_id=False)
    before = signal.getsignal(signal.SIGINT)
    with can.Bus(interface="virtual", channel="f1buf-cli", receive_own_messages=False) as bus:
        run = ("can", *car, "-i", "virtual", "-c", "f1buf-cli", "--thresholds", thresholds, "--json")

        def send():
            wait_until(lambda: len(bus.channel) > 1, "the other end")  # before that a frame would reach nobody
            for rpm in (1000, 6000, 6000, 900):
                bus.send(frame(data=bytes([0, 0, *rpm.to_bytes(2, "little"), 0, 0, 0, 0])))
            bus.send(can.Message(arbitration_id=0x7FF, is_extended_id=False))
            wait_until(lambda: signal.getsignal(signal.SIGINT) != before, "the run to mind signals")
            os.kill(os.getpid(), signal.SIGINT)  # what the bus has received by then is taken

        sender = Task(send)
        done = call(*run)
        sender.result()
    assert done.status == 0, done.err
    assert done.summary["readings"] == 4 * 3  # THROTTLE, CLUTCH, RPM
    assert done.summary["rejected"] == {"no database entry": 1}
    [rpm] = done.summary["thresholds"]
    assert (rpm["readings"], rpm["samples"], rpm["rises"]) == (4, 2, 1)


def test_bad_usage_of_can(can, car, recordings_dir, tmp_path):
    unknown = write_thresholds(tmp_path / "t.toml", {"channel": "IN_NO_DATABASE", "above": 1})
    log = recordings_dir / "road_car.log"
    race = recordings_dir / "f1_2026_race.sqlite3"
    for args, expected in [
        (("can",), "--dbc"),
        (("can", *car), "--interface"),
        (("can", *car, "-i", "nonsense"), "nonsense"),
        (("can", "--dbc", tmp_path / "no.dbc", "-i", "virtual"), "No such file"),
        (("can", *car, "-i", "virtual", "-c", "x", "--thresholds", unknown), "IN_NO_DATABASE"),
        (("replay", log), "--dbc FILE"),
        (("replay", log, *car, "--cars", "player"), "--cars"),
        (("replay", race, *car), "race"),
        (("replay", tmp_path / "no.log", *car), "No such file"),
    ]:
        done = call(*args)
        assert done.status == 2, args
        assert expected in done.error, args


@thorough
@pytest.mark.parametrize(
    ("package", "args", "extra"),
    [
        ("can", ("can", "--dbc", "x.dbc", "-i", "virtual"), "f1buf[can]"),
        ("cantools", ("replay", "x.log", "--dbc", "x.dbc"), "f1buf[can]"),
        ("pyarrow", ("run", "--record", "recorded"), "f1buf[record]"),
    ],
)
def test_a_package_that_is_missing(tmp_path, package, args, extra):
    done = command(*args, program=program_without(package), cwd=tmp_path).ended(2)
    assert f"pip install '{extra}'" in done.error
    assert list(tmp_path.iterdir()) == []


# Recording ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pq():
    return pytest.importorskip("pyarrow.parquet")


def recorded(pq, folder):
    """All rows of a recording, as a dictionary of columns."""
    return pq.read_table(folder).to_pydict()


@thorough
def test_a_recorded_replay_gives_the_same_alerts(pq, race, tmp_path):
    path, _ = race
    thresholds = write_thresholds(
        tmp_path / "t.toml",
        {"channel": "SPEED", "above": 330},
        {"channel": "G_FORCE", "above": 3, "absolute": True, "hysteresis": 0.5, "min_duration": 0.2},
    )
    folder, first, again = tmp_path / "recorded", tmp_path / "first.jsonl", tmp_path / "again.jsonl"
    options = ("--speed", "max", "--json", "--alert-samples")
    done = call("replay", path, *options, "--thresholds", thresholds, "--record", folder, "--alerts", first).ended()
    recording = done.summary["recording"]
    assert (recording["readings"], recording["lost"], recording["dropped"]) == (220_000, 0, 0)
    assert recording["bytes"] == sum(part.stat().st_size for part in folder.iterdir())
    assert f"recorded   220,000 readings in {recording['parts']} parts" in done.err
    thresholds.unlink()  # they travel with the readings
    done = call("replay", folder, *options, "--alerts", again).ended()
    assert again.read_text() == first.read_text()
    assert len(json_lines(first.read_text())) > 1401


@thorough(but=("SIGTERM",))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_recording_is_complete_after_a_signal(pq, tmp_path, number):
    options = ("--rate", 2000, "--record", tmp_path / "r", "--json")
    done = interrupted("run", *options, after="Ctrl-C stops", by=[number]).ended()
    rows = recorded(pq, tmp_path / "r")
    assert len(rows["value"]) == done.summary["readings"] == done.summary["recording"]["readings"]
    for sensor in range(5):
        times = [time for time, its in zip(rows["timestamp"], rows["sensor_id"], strict=True) if its == sensor]
        assert times == [n / 2000 for n in range(len(times))]
    assert open_parquet(tmp_path / "r").rejected == {}  # its end is there


def test_a_full_disk_is_told_at_once_and_the_analysis_goes_on(pq, tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a write beyond fails, like one to a full disk

    args = ("run", "--rate", "max", "--record", tmp_path / "r", "--json", "--buffer-size", 65_536)
    with running(*args, preexec_fn=limited) as process:
        said = read_until(process.stderr, "the recorder failed")
        assert "the analysis goes on" in said
        assert "File too large" in said
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.status == 1
    assert "recorder failed: RecorderError" in done.err
    assert done.summary["readings"] == done.summary["analysed"] > 0
    missing = done.summary["readings"] - done.summary["recording"]["readings"]
    assert done.summary["recording"]["lost"] == missing > 0
    assert f"f1buf: {missing:,} readings were not recorded" in done.err


@thorough
def test_a_recorder_that_drops_counts_and_fails_the_run(pq, tmp_path, monkeypatch):
    from f1buf.telemetry import recorder

    run = recorder.Recorder.run

    def late(self):
        wait_until(lambda: self.ring.is_shutdown, "the sensors' end")
        run(self)

    monkeypatch.setattr(recorder.Recorder, "run", late)
    record = ("--record", tmp_path / "r", "--record-overflow", "drop_oldest")
    done = call("run", "--count", 300_000, "--rate", "max", *record, "--json").ended(1)
    recording = done.summary["recording"]
    assert recording["readings"] + recording["dropped"] == 1_500_000
    assert recording["dropped"] == recording["lost"] == 1_500_000 - 1_048_576  # what its ring holds
    assert "f1buf: 451,424 readings were not recorded" in done.err


def test_bad_usage_of_record(pq, tmp_path):
    folder = tmp_path / "r"
    assert call("run", *FEW, "--record", folder).status == 0
    before = {part.name: part.read_bytes() for part in folder.iterdir()}
    for args, expected in [
        (("run", *FEW, "--record", folder), "holds a recording already"),
        (("replay", folder, "--record", folder), "holds a recording already"),
        (("run", *FEW, "--record-overflow", "block"), "--record DIR"),
        (("run", *FEW, "--record", ""), "the name is empty"),
        (("run", *FEW, "--record", folder / "part-000001.parquet"), "is inside the recording"),
        (("replay", folder, "--cars", "player"), "--cars"),
        (("replay", tmp_path), "part-000001.parquet"),
        (("replay", folder, "--alerts", folder / "part-000001.parquet"), "recorded parts"),
        (("run", *FEW, "--record", tmp_path / "new", "--alerts", tmp_path / "new" / "a.parquet"), "recorded parts"),
    ]:
        done = call(*args)
        assert done.status == 2, args
        assert expected in done.error, args
    assert {part.name: part.read_bytes() for part in folder.iterdir()} == before


class Late:
    """A source that makes its readings once something has happened."""

    name = "late"

    def __init__(self, happened, stream):
        self._happened, self._stream = happened, stream

    def batches(self, stop):
        self._happened.wait()
        yield self._stream


def runner(*options):
    """A runner for a feed of the test's own."""
    return Runner(build_parser("run").parse_args(["run", *map(str, options)]))


@pytest.mark.parametrize("what", ["notices", "progress", "flush"])
@pytest.mark.parametrize("when", ["at work", "draining"])
def test_notices_that_fail_lose_nothing_and_fail_the_run(pq, tmp_path, what, when, monkeypatch):
    failed, flush = threading.Event(), AlertFile.flush

    def fail(*args, **options):
        failed.set()
        raise OSError(errno.ENOBUFS, "no room\nat all")

    def fail_first(file):
        flush(file) if failed.is_set() else fail()

    if when == "draining":
        monkeypatch.setattr(Runner, "watch", lambda self: None)
    if what == "progress":
        monkeypatch.setattr(Console, "progress", fail)
    elif what == "flush":
        monkeypatch.setattr(AlertFile, "flush", fail_first)
    options = ("--record", tmp_path / "r", "--alerts", tmp_path / "a.jsonl", "--json")
    feed = Feed("test", [Late(failed, mixed_stream(1000))], notices=fail if what == "notices" else tuple)
    out, err = Captured(), Captured()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = runner(*options).run(feed)
    summary = strict_json(out.getvalue())
    assert status == 1
    assert (summary["readings"], summary["analysed"], summary["recording"]["readings"]) == (1000, 1000, 1000)
    assert len(recorded(pq, tmp_path / "r")["value"]) == 1000
    said = [line for line in err.getvalue().splitlines() if "could not be told: OSError" in line]
    assert said == [f"{said[-1]}; the run goes on", said[-1]]  # at once, and in the end
    assert "Traceback" not in err.getvalue()


def test_the_rest_is_drained_after_a_failure_of_the_watch(pq, tmp_path, monkeypatch):
    class Ended(BaseException):
        pass

    def end(self):
        wait_until(lambda: self.system.readings == 1000, "the readings")
        raise Ended

    happened = threading.Event()
    happened.set()
    monkeypatch.setattr(Runner, "watch", end)
    with contextlib.redirect_stderr(Captured()):
        made = runner("--record", tmp_path / "r")
        with pytest.raises(Ended):
            made.run(Feed("test", [Late(happened, mixed_stream(1000))]))
    assert not made.system.is_running
    assert len(recorded(pq, tmp_path / "r")["value"]) == 1000


def test_the_rest_is_drained_where_no_other_thread_can_start(tmp_path, monkeypatch):
    start = threading.Thread.start

    def refused(self):
        if self.name == "shutdown":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    done = call("run", *FEW, "--json")
    assert (done.status, done.summary["analysed"]) == (0, 500)


def test_alerts_on_standard_output_beside_a_recording(pq, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thresholds = write_thresholds(tmp_path / "t.toml", {"channel": "SPEED", "above": -1})
    options = ("--thresholds", thresholds, "--alerts", "-")
    first = call("run", *FEW, *options, "--record", ".").ended()
    again = call("replay", ".", "--speed", "max", *options).ended()
    assert len(json_lines(first.out)) == len(json_lines(again.out)) == 1


def test_a_damaged_recording_ends_with_status_2(pq, tmp_path):
    folder = tmp_path / "r"
    call("run", *FEW, "--record", folder)
    [part] = folder.iterdir()
    content = bytearray(part.read_bytes())
    content[len(content) // 8 : len(content) // 4] = bytes(len(content) // 4 - len(content) // 8)
    part.write_bytes(content)
    done = call("replay", folder, "--speed", "max").ended(2)
    assert "part-000001.parquet: damaged" in done.err


# What all of them have ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "replay", "listen", "can", "thresholds"])
def test_help_is_complete_and_has_examples(name):
    if name == "can":
        pytest.importorskip("can")
        pytest.importorskip("cantools")
    done = call(name, "--help")
    assert (done.status, done.err) == (0, "")
    assert all(len(line) <= 120 for line in done.out.splitlines())
    usage, _, rest = done.out.partition("\n\n")
    assert "examples:\n  f1buf " + name in done.out
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", usage)) - {"--help"}:
        described = re.search(rf"^  (-\w [A-Z_:]+, )?{option}\b.*\n?.*\S", rest, re.M)
        assert described, option


def test_without_thresholds_the_summary_says_so(can, car, recordings_dir, tmp_path):
    (tmp_path / "short.log").write_bytes((recordings_dir / "road_car.log").read_bytes()[:5000])
    done = call("replay", tmp_path / "short.log", *car, "--speed", "max").ended()
    assert "alerts     none: there are no thresholds (--thresholds FILE)" in done.err


@thorough(but=("road_car-8",))
@pytest.mark.parametrize("analyzers", [1, 3, 8])
@pytest.mark.parametrize("what", ["race", "road_car", "recorded"])
def test_any_number_of_analyzers_gives_the_same(request, recordings_dir, tmp_path, what, analyzers):
    """They give the same alerts in the same order, for every rule that the data's README has answers for."""
    race, car = recordings_dir / "f1_2026_race.sqlite3", (recordings_dir / "road_car.log", "--dbc")
    if what == "road_car":
        pytest.importorskip("can")
        pytest.importorskip("cantools")
        rules = ("COOLANT_TEMP", {"above": 93}, 1_806, 207, 1), ("RPM", {"above": 5000}, 9_030, 265, 3)
        source = (*car, recordings_dir / "road_car.dbc")
    else:
        rules = (
            ("SPEED", {"above": 330}, 22_000, 1_401, 13),
            ("SPEED", {"above": 340}, 22_000, 40, 2),
            ("ENGINE_TEMP", {"above": 110}, 22_000, 1_000, 1),
            ("ENGINE_TEMP", {"above": 118}, 22_000, 101, 1),
            ("TIRE_PRESSURE", {"below": 1.9}, 88_000, 88_000, 88),
            ("FUEL_LEVEL", {"below": 15}, 22_000, 22_000, 22),
            ("G_FORCE", {"above": 5.5, "absolute": True}, 66_000, 0, 0),
        )
        source = (race,)
        if what == "recorded":
            pytest.importorskip("pyarrow")
            source = (tmp_path / "recorded",)
            assert call("replay", race, "--speed", "max", "--record", *source).status == 0
    thresholds = write_thresholds(tmp_path / "t.toml", *({"channel": name, **rule} for name, rule, *_ in rules))
    found = []
    for number in sorted({1, analyzers}):
        alerts = tmp_path / f"{number}.jsonl"
        options = ("--analyzers", number, "--thresholds", thresholds, "--alerts", alerts, "--json")
        done = call("replay", *source, "--speed", "max", *options).ended()
        answers = [(each["readings"], each["samples"], each["rises"]) for each in done.summary["thresholds"]]
        assert answers == [tuple(numbers) for _, _, *numbers in rules]
        found.append(alerts.read_bytes())
    assert found[0] == found[-1]


def test_a_hysteresis_in_the_file_is_in_the_summary(tmp_path):
    thresholds = write_thresholds(
        tmp_path / "t.toml", {"channel": "SPEED", "above": 100, "hysteresis": 5, "min_duration": 0.5}
    )
    done = call("run", *FEW, "--thresholds", thresholds, "--json")
    [threshold] = done.summary["thresholds"]
    assert (threshold["hysteresis"], threshold["min_duration"]) == (5.0, 0.5)
    assert "too much (hysteresis 5, for 0.5 s)" in done.err


def test_alerts_fail_a_replay_on_a_test_bench(tmp_path):
    recording = write_recording(tmp_path / "r.sqlite3", [(5.0, participants(5.0, "ANN")), (5.0, telemetry(5.0, 310))])
    crossed = write_thresholds(tmp_path / "t.toml", {"channel": "SPEED", "above": 300, "min_duration": 0.0})
    longer = write_thresholds(tmp_path / "l.toml", {"channel": "SPEED", "above": 300, "min_duration": 1.0})
    options = ("replay", recording, "--speed", "max", "--fail-on-alert", "--thresholds")
    assert call(*options, crossed).status == 3
    assert call(*options, longer).status == 0
