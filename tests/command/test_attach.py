"""`--share` and `f1buf attach`: a run in two processes, and what each says when the other one goes."""

import contextlib
import os
import signal
import threading

import pytest
from cli_helpers import (
    CROSSED,
    PATIENCE,
    Captured,
    call,
    command,
    finish,
    json_lines,
    participants,
    read_until,
    readings,
    running,
    telemetry,
    write_recording,
)
from helpers import Task, wait_until
from shared_helpers import some_name, take_away

from f1buf.command import attach
from f1buf.command.cli import main
from f1buf.command.runner import Runner
from f1buf.telemetry import SharedSource, Sharer, sharing

MANY = ("--count", 2000, "--rate", "max", "--seed", 7)
STAYING = ("--rate", "1000", "--plain")
TIMEOUT = ("--timeout", PATIENCE)
# The command, which waits for others longer than its few seconds: until they are there, on a machine however busy.
PATIENT = (
    "-c",
    "import sys\n"
    "from f1buf.command.cli import main\n"
    "from f1buf.telemetry import sharing\n"
    f"sharing.PATIENCE['block'] = {PATIENCE}\n"
    "sys.exit(main())",
)


@pytest.fixture
def name():
    """A name that no other test uses; no ring has it afterwards, though its process was killed."""
    name = some_name()
    yield name
    take_away(name)


@pytest.fixture
def attachable(name, monkeypatch):
    """The name by which two readings are shared, until somebody has attached."""
    monkeypatch.setitem(sharing.PATIENCE, "drop_oldest", PATIENCE)
    sharer = Sharer(name)
    sharer.ring.put_many(readings([1.0, 2.0]))
    sharer.ring.shutdown()
    thread = Task(sharer.run)
    yield name
    thread.result()


def both(name, first, *attach_options):
    """`f1buf attach` that waits, and a command that shares so that nothing is lost; both runs, once they are over."""
    with running("attach", name, *TIMEOUT, *attach_options) as attached:
        done = command(*first, "--share", name, "--share-overflow", "block", program=PATIENT)
        return done, finish(attached)


# All is well ----------------------------------------------------------------------------------------------------------


def test_alerts_are_the_first_process_own(name, tmp_path, crossed):
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    first = ("run", *MANY, "--thresholds", crossed, "--alert-samples", "--alerts", files[0])
    first, second = both(name, first, "--alert-samples", "--alerts", files[1], "--json")
    assert f"shared as {name}: f1buf attach {name}" in first.ended().err
    assert f"shared     10,000 readings as {name}; 0 dropped" in first.err
    assert second.ended().summary["analysed"] == 10_000
    assert f"5 sensors, attached to {name}, 3 analyzers" in second.err
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(json_lines(files[1].read_text())) == 10_000


def test_alerts_name_the_drivers_whom_the_first_process_knows(name, tmp_path):
    packets = [participants(5.0, "ANN", "BÖB"), telemetry(5.0, 345, 290), telemetry(6.0, 300, 344)]
    race = write_recording(tmp_path / "race.sqlite3", enumerate(packets))
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    first, second = both(name, ("replay", race, "--speed", "max", "--alerts", files[0]), "--alerts", files[1])
    first.ended()
    second.ended()
    assert files[0].read_bytes() == files[1].read_bytes()
    alerts = json_lines(files[1].read_text())
    assert [(alert["driver"], alert["value"]) for alert in alerts] == [("ANN", 345.0), ("BÖB", 344.0)]


def test_the_analysis_is_left_to_the_second_process(name, crossed):
    first = ("run", *MANY, "--thresholds", crossed, "--analyzers", 0, "--json")
    first, second = both(name, first, "--json")
    summary = first.ended().summary
    assert (summary["readings"], summary["analysed"], summary["dropped"]) == (10_000, 0, 0)
    assert CROSSED in second.ended().err
    assert second.summary["analysed"] == 10_000


def test_what_was_shared_is_in_the_summary(name):
    done = call("run", "--count", 100, "--rate", "max", "--share", name, "--share-size", 50, "--json").ended()
    sharing = done.summary["sharing"]
    assert {key: sharing[key] for key in ("name", "readings", "dropped")} == {
        "name": name,
        "readings": 50,
        "dropped": 450,
    }


def test_what_is_shared_can_be_recorded(attachable, tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    done = call("attach", attachable, "--record", tmp_path / "kept", "--json").ended()
    assert done.summary["recording"]["readings"] == 2


# Nobody shares --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [(), ("--timeout", 0.1)])
def test_an_unknown_name(name, timeout):
    done = call("attach", name, *timeout).ended(2)
    waited = " (waited 0.1 s)" if timeout else ""
    assert done.error == (
        f"f1buf attach: error: nobody shares readings as {name!r}{waited}; start that process first "
        f"(f1buf run --share {name}), or wait longer for it (--timeout)"
    )


# Nothing can be shared ------------------------------------------------------------------------------------------------


def refused(*options):
    done = call("run", *MANY, *options).ended(2)
    prefix = "f1buf run: error: "
    assert done.error.startswith(prefix)
    return done.error.removeprefix(prefix)


def test_a_name_that_is_taken(attachable):
    said = f"--share {attachable}: the name {attachable!r} is taken: the ring is open in process {os.getpid()}; "
    assert refused("--share", attachable).startswith(said)
    call("attach", attachable).ended()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--share", "a/b"), "--share name is 'a/b', of 3 bytes; expected 1 to 200, and neither a slash nor NUL"),
        (("--share", ""), "argument --share: the name is empty; expected one"),
        (("--share", "x", "--share-size", 10**14), "--share x: cannot allocate a shared ring of 100000000000000 rec"),
        (("--share", "x", "--share-size", 10**30), "--share x: "),
        (("--share-size", 5), "--share-overflow and --share-size are of no use without --share NAME"),
        (
            ("--analyzers", 0),
            "--analyzers 0: nobody would take the readings; expected --share NAME, --publish URL or --record DIR",
        ),
        *(
            (
                ("--share", "x", "--analyzers", 0, *option),
                "--analyzers 0 is of no use with --alerts, --fail-on-alert and",
            )
            for option in (("--alerts", "-"), ("--fail-on-alert",), ("--classic",))
        ),
        (("--share-overflow", "block"), "--share-overflow and --share-size are of no use without --share NAME"),
    ],
)
def test_what_cannot_be_shared(options, said):
    assert refused(*options).startswith(said)


LONGEST = "x" * 195  # such a name is right for a ring alone


@pytest.mark.parametrize("options", [("run", "--share"), ("attach",)], ids=["share", "attach"])
def test_a_name_leaves_room_for_what_its_second_ring_has_more(options):
    said = f"name is {LONGEST!r}, of 195 bytes; expected at most 194 to share readings by"
    assert call(*options, LONGEST).ended(2).error.endswith(said)


def test_bad_options_are_refused_before_anything_is_waited_for(monkeypatch):
    monkeypatch.setattr(attach, "SharedSource", lambda *waits: pytest.fail("it waits"))
    done = call("attach", "nobody", *TIMEOUT, "--json", "--alerts", "-").ended(2)
    said = "f1buf attach: error: --json and --alerts - both want standard output; write the alerts to a file"
    assert done.error == said


# One of them goes -----------------------------------------------------------------------------------------------------


def test_an_attached_process_that_is_stopped_harms_nobody(name):
    with running("run", *STAYING, "--share", name) as first:
        read_until(first.stderr, "shared as")
        with running("attach", name, "--plain", "--fail-on-alert") as second:
            read_until(second.stderr, "Ctrl-C stops")
            second.send_signal(signal.SIGINT)
            assert finish(second).status in (0, 3)
        with running("attach", name, "--plain", "--json", "--alerts", os.devnull) as third:
            read_until(third.stderr, "Ctrl-C stops")
            first.send_signal(signal.SIGINT)
            finish(first).ended()
            finish(third).ended()


def test_the_process_that_shares_is_killed(name):
    with running("run", *STAYING, "--share", name) as first:
        read_until(first.stderr, "shared as")
        with running("attach", name, "--plain") as second:
            read_until(second.stderr, "Ctrl-C stops")
            first.send_signal(signal.SIGKILL)
            done = finish(second).ended(1)
    problems = [line for line in done.err.splitlines() if line.startswith("f1buf: ")]
    assert problems == [
        f"f1buf: attached to {name} failed: SharingError: the process that shared {name!r} was killed, or has left"
    ]


def test_under_block_the_attached_process_is_killed(name, crossed):
    limits = ("--thresholds", crossed, "--plain")
    sharing = ("--share", name, "--share-overflow", "block", "--share-size", 10)
    sharer = running("run", *STAYING, *sharing, "--json", program=PATIENT)
    with running("attach", name, *TIMEOUT, *limits) as second, sharer as first:
        read_until(second.stderr, CROSSED)  # it has taken readings
        second.send_signal(signal.SIGKILL)
        said = read_until(first.stderr, "f1buf: the sharer failed")
        assert "the sharer failed, the analysis goes on: everybody who took readings is gone" in said
        first.send_signal(signal.SIGINT)
        done = finish(first).ended(1)
    assert done.summary["readings"] == done.summary["analysed"]


def test_under_block_people_are_told_for_whom_a_run_waits(name, monkeypatch):
    monkeypatch.setitem(sharing.PATIENCE, "block", 0.2)
    err = Captured()

    attached, start = threading.Event(), Runner._start

    def start_late(runner):  # once there is somebody for whom it waits
        assert attached.wait(PATIENCE)
        start(runner)

    def take_late():
        source = SharedSource(name, timeout=PATIENCE)
        attached.set()
        wait_until(lambda: "waiting to share" in err.getvalue())
        interrupted = False
        for _ in source.batches():
            if not interrupted and "sharing again" in err.getvalue():
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Runner, "_start", start_late)
    taker = Task(take_late)
    with contextlib.redirect_stderr(err):
        status = main(["run", *STAYING, "--share", name, "--share-overflow", "block", "--share-size", "10"])
    taker.result()
    told = [line for line in err.getvalue().splitlines() if "shar" in line]
    waits = f"f1buf: waiting to share: process {os.getpid()} took nothing of {name!r} for 0.2 s"
    assert told[1:3] == [waits, "f1buf: sharing again"]
    assert status == 0


# Losses ---------------------------------------------------------------------------------------------------------------


def test_readings_that_went_past_are_a_loss(attachable, monkeypatch):
    class Missing(SharedSource):
        def batches(self, stop):
            yield from super().batches(stop)
            self.missed += 3

    monkeypatch.setattr(attach, "SharedSource", Missing)
    done = call("attach", attachable, "--json").ended(1)
    assert done.summary["analysed"] == 2
    assert f"lost       3 in the shared ring {attachable}" in done.err
    assert done.err.endswith(f"f1buf: 3 readings were lost in the shared ring {attachable}\n")
