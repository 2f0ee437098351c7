"""Readings between processes: each is taken once, by names that both know, or is counted; whoever is killed."""

import itertools
import json
import os
import signal
import subprocess
import threading

import numpy as np
import pytest
from cli_helpers import Given, child_options, mixed_stream, pieces, readings, watchdog
from helpers import WATCHDOG, Task, wait_until
from shared_helpers import some_name, take_away

from f1buf import READING, RingBuffer, SharedRingBuffer
from f1buf.telemetry import (
    SPEED,
    Channel,
    F1TelemetrySystem,
    SharedSource,
    Sharer,
    SharingError,
    TelemetryError,
    Threshold,
    about,
    described,
    sharing,
)
from f1buf.telemetry.about import AboutReader, AboutWriter
from f1buf.telemetry.channels import known_channels


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(WATCHDOG):
        yield


@pytest.fixture
def name():
    """A name that no other test uses; no ring has it afterwards, though its process was killed."""
    name = some_name()
    yield name
    take_away(name)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Where nobody is attached it is not waited for long."""
    for overflow in sharing.PATIENCE:
        monkeypatch.setitem(sharing.PATIENCE, overflow, 0.05)


@pytest.fixture
def patient(impatient, monkeypatch):
    """... but for as long as a test may take."""
    for overflow in sharing.PATIENCE:
        monkeypatch.setitem(sharing.PATIENCE, overflow, WATCHDOG)


def share(sharer, *batches):
    """Share these batches to the end; the thread that does."""
    thread = Task(sharer.run)
    for batch in batches:
        sharer.ring.put_many(batch)
    sharer.ring.shutdown()
    return thread


def taken(source):
    return np.concatenate([np.empty(0, READING), *source.batches()])


# Readings -------------------------------------------------------------------------------------------------------------


def test_readings_come_out_as_they_were_put(name):
    stream = mixed_stream(50_000)
    sharer = Sharer(name, capacity=1000, overflow="block")
    source = SharedSource(name)
    thread = share(sharer, *pieces(stream, 700))
    assert taken(source).tobytes() == stream.tobytes()
    thread.result()
    assert source.missed == 0
    assert sharer.as_dict()["readings"] == 50_000
    assert str(sharer).startswith(f"50,000 readings as {name}; 0 dropped, puts waited ")


def test_a_system_analyses_what_another_one_shares(name):
    limits = [Threshold("SPEED", above=10, message="fast")]
    alerts = [], []
    sharer = Sharer(name, overflow="block")
    first = F1TelemetrySystem(thresholds=limits, on_alert=alerts[0].append)
    second = F1TelemetrySystem(thresholds=limits, on_alert=alerts[1].append)
    with first, second:
        second.start([SharedSource(name)])
        first.start([Given(*pieces(readings(np.arange(5000.0) % 20, sensors=3), 256))], consumers=[sharer])
        assert first.wait(WATCHDOG)
        first.shutdown()
        assert second.wait(WATCHDOG)
        assert second.shutdown().analysed == 5000
    assert alerts[0] == alerts[1]
    assert alerts[0]


def test_the_analysis_is_left_to_another_process(name):
    sharer = Sharer(name, overflow="block")
    source = SharedSource(name)
    thread = Task(taken, source)
    system = F1TelemetrySystem()
    system.start_telemetry(num_analyzers=0, rate=None, count=20_000, seed=1, consumers=[sharer])
    with system:
        assert system.wait(WATCHDOG)
    summary = system.summary
    assert (summary.readings, summary.analysed, summary.dropped) == (100_000, 0, 0)
    kept = Kept()
    F1TelemetrySystem().run(rate=None, count=20_000, seed=1, consumers=[kept])
    assert thread.result().tobytes() == kept.readings.tobytes()


class Kept:
    """A consumer that keeps all readings."""

    name = "kept"

    def __init__(self):
        self.ring = RingBuffer(1000)

    def run(self):
        self.readings = np.concatenate(list(self.ring.batches()))


def test_a_run_that_leaves_the_analysis_to_others_ends_with_its_sharer(name):
    sharer = Sharer(name, capacity=10, overflow="block")
    system = F1TelemetrySystem()
    system.start_telemetry(num_analyzers=0, rate=None, consumers=[sharer])
    assert system.wait(WATCHDOG)
    with pytest.raises(TelemetryError, match="sharer failed: SharingError: nobody has attached"):
        system.shutdown()


@pytest.mark.parametrize("consumers", [0, 1])
def test_somebody_must_take_the_readings(name, consumers):
    sharer = Sharer(name)
    with pytest.raises(ValueError, match=f"num_analyzers is {-consumers}; expected at least {1 - consumers}"):
        F1TelemetrySystem().start_telemetry(num_analyzers=-consumers, consumers=[sharer] * consumers)
    share(sharer).result()


def test_where_they_come_from_and_what_they_are_checked_against_is_told(name):
    limits = (Threshold("SPEED", above=10, message="fäst"), Threshold("OTHER", below=1, message="low"))
    sharer = Sharer(name, source="five sensors", thresholds=limits)
    source = SharedSource(name)
    assert (source.source, source.thresholds) == ("five sensors", limits)
    assert source.name == f"attached to {name}"
    share(sharer).result()


def test_a_ring_of_ones_own_is_a_source():
    ring = SharedRingBuffer(1000)
    ring.put_many(readings([1.0, 2.0]))
    ring.shutdown()
    system = F1TelemetrySystem()
    with system:
        system.start([ring])
        assert system.wait(WATCHDOG)
    assert system.summary.analysed == 2
    assert ring.attached == [os.getpid()]  # still open
    source = SharedSource(ring)
    assert (source.source, source.thresholds, source.describe(0, 0)) == ("", (), {})


def test_a_stop_leaves_the_ring_open_for_others(name):
    sharer = Sharer(name)
    source = SharedSource(name)
    assert len(sharer.shared.attached) == 2
    stop = threading.Event()
    thread = Task(lambda: list(source.batches(stop)))
    stop.set()
    assert thread.result() == []
    assert len(sharer.shared.attached) == 1
    again = SharedSource(name)
    thread = share(sharer, readings([1.0]))
    assert taken(again)["value"].tolist() == [1.0]
    thread.result()


# Channels and sensors -------------------------------------------------------------------------------------------------


def test_channels_keep_their_names_in_a_process_that_numbers_them_otherwise(name):
    sharer = Sharer(name)
    reader = f"""if True:
        import json
        from f1buf.telemetry import Channel, SharedSource, channel_by_number
        others = [Channel("its own", str(number)) for number in range(3)]
        source = SharedSource({name!r})
        print(flush=True)
        for batch in source.batches():
            for reading in batch:
                channel = channel_by_number(reading["channel"]) if reading["channel"] else None
                print(json.dumps([channel and [channel.name, channel.unit, *channel.range], reading["value"].item()]))
    """
    with subprocess.Popen(
        **child_options([], program=["-c", reader]), stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        process.stdout.readline()  # it is attached
        later = Channel("TÖRQUE", "N m", (-1.5, 700.0))  # new to both
        endless = Channel("POWER", "")
        unknown = np.zeros(1, READING)
        unknown["channel"] = 65_535
        batches = [readings([1.0]), readings([2.0], later), readings([3.0], endless), unknown]
        share(sharer, *batches).result()
        out, _ = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0
    inf = float("inf")
    assert list(map(json.loads, out.splitlines())) == [
        [["SPEED", "km/h", 0.0, 350.0], 1.0],
        [["TÖRQUE", "N m", -1.5, 700.0], 2.0],
        [["POWER", "", -inf, inf], 3.0],
        [None, 0.0],
    ]


def flagged(sensors, flags=0):
    out = readings(np.ones(len(sensors)))
    out["sensor_id"], out["flags"] = sensors, flags
    return out


def test_what_is_known_of_a_sensor_is_there_with_its_readings(name):
    laps = itertools.count(1)
    asked = []

    def describe(sensor_id, flags):
        asked.append((sensor_id, flags))
        return {"car": sensor_id, "driver": "BÖB", "lap": next(laps), "session": 2**63 + flags, "several": True}

    sharer = Sharer(name, describe)
    source = SharedSource(name)
    thread, batches = Task(sharer.run), source.batches()
    for lap, (sensor, flags) in enumerate([(5, 0), (2**32 - 1, 65_535), (5, 1), (5, 0)], 1):
        sharer.ring.put_many(flagged([sensor] * 3, flags))
        for reading in next(batches):
            told = {"car": sensor, "driver": "BÖB", "lap": lap if lap < 4 else 1, "session": 2**63 + flags}
            assert source.describe(reading["sensor_id"], reading["flags"]) == {**told, "several": True}
    assert source.describe(6, 0) == {}
    assert asked == [(5, 0), (2**32 - 1, 65_535), (5, 1)]  # each once
    sharer.ring.shutdown()
    assert list(batches) == []
    thread.result()


def test_what_is_known_is_told_again_when_the_ring_has_been_filled(name):
    answers = itertools.count()
    sharer = Sharer(name, lambda sensor_id, flags: {"lap": next(answers)}, capacity=10)
    source = SharedSource(name)
    thread, batches = Task(sharer.run), source.batches()
    laps = []
    for _ in range(4):
        sharer.ring.put_many(flagged([1] * 6))
        next(batches)
        laps.append(source.describe(1, 0)["lap"])
    assert laps == [0, 0, 1, 1]
    sharer.ring.shutdown()
    assert list(batches) == []
    thread.result()


def test_what_json_cannot_say_is_told_as_text(name):
    sharer = Sharer(name, lambda sensor_id, flags: {"driver": "\ud800", "part": {1}})
    source = SharedSource(name)
    thread = share(sharer, flagged([1]))
    assert len(taken(source)) == 1
    thread.result()
    assert source.describe(1, 0) == {"driver": "\ud800", "part": "{1}"}


@pytest.fixture
def little_room(monkeypatch):
    """A small ring, and few channels to tell of, however many other tests have made in this process."""
    monkeypatch.setattr(about, "CAPACITY", 65_536)
    monkeypatch.setattr(about, "known_channels", lambda: known_channels()[: SPEED.number])


def test_the_channels_are_told_again_before_they_are_lost_among_sensors(name, little_room, monkeypatch):
    monkeypatch.setattr(described, "DESCRIBED", 1000)
    writer = AboutWriter(name, "a source", [])
    follower = AboutReader(SharedRingBuffer.attach(about.about_name(name)))
    for sensor in range(0, 20_000, 50):
        writer.tell_sensors([(each, 7, {"driver": f"driver {each}"}) for each in range(sensor, sensor + 50)])
        follower.look()
        for each in range(sensor, sensor + 50):
            assert follower.sensors.describe(each, 7) == {"driver": f"driver {each}"}
        if sensor % 1000 == 0:
            late = AboutReader(SharedRingBuffer.attach(about.about_name(name)))
            assert late.source == "a source"
            assert np.array_equal(late.numbers, follower.numbers)
            assert late.numbers[SPEED.number] == SPEED.number
            assert late.sensors.describe(sensor, 7) == {"driver": f"driver {sensor}"}
    assert follower.sensors.describe(0, 7) == {}  # forgotten
    assert writer._ring.stats().dropped == 0
    follower.close()


def test_too_much_to_tell_is_refused(name, little_room):
    writer = AboutWriter(name, "a source", [])
    with pytest.raises(SharingError, match="are to be told of channels and sensors at once; expected at most 16,384"):
        writer.tell_sensors([(1, 0, {"driver": "x" * 20_000})])


def test_a_text_that_has_not_come_whole_is_read_later():
    ring = SharedRingBuffer(1000, "u1")
    text = b'\x1e{"source": "whole", "thresholds": ""}\n'
    reader = AboutReader(ring)
    for size in (1, 10, len(text) - 12, 1):
        assert reader.source == ""
        at = len(ring)
        ring.put_many(np.frombuffer(text[at : at + size], "u1"))
        reader.look()
    assert reader.source == "whole"


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"channels": [[1]]}', b'{"channels": [[99999, "A", "", 0, 1]]}'])
def test_what_makes_no_sense_is_refused(name, text):
    ring = SharedRingBuffer(1000, "u1", name=name)
    ring.put_many(np.frombuffer(b"\x1e" + text + b"\n", "u1"))
    with pytest.raises(SharingError, match=f"what '{ring.name}' says makes no sense: "):
        AboutReader(ring)


# Losses ---------------------------------------------------------------------------------------------------------------


def shared_by_hand(name, overflow):
    """A sharer whose shared ring the test fills, of ten readings; and a source that has had two of twelve."""
    sharer = Sharer(name, capacity=10, overflow=overflow)
    sharer.shared.put_many(readings(np.arange(12.0)))
    source = SharedSource(name)
    batches = source.batches()
    next(batches)
    return sharer, source, batches


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_what_was_dropped_since_the_first_batch_is_missed(name, overflow):
    sharer, source, batches = shared_by_hand(name, overflow)
    assert source.missed == 0  # the first two were dropped before
    sharer.shared.put_many(readings(np.arange(15.0)))
    assert len(next(batches)) == 10
    sharer.shared.put_many(readings(np.arange(11.0)))
    sharer.shared.shutdown()
    assert len(next(batches)) == 10
    assert list(batches) == []
    assert source.missed == 6
    assert sharer.as_dict()["dropped"] == 8


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_what_was_dropped_before_the_first_batch_is_missed_too(name, overflow):
    sharer = Sharer(name, capacity=10, overflow=overflow)
    sharer.shared.put_many(readings(np.arange(12.0)))
    source = SharedSource(name)
    if overflow == "drop_newest":
        assert len(SharedRingBuffer.attach(name).get_many(4)) == 4
    sharer.shared.put_many(readings(np.arange(15.0)))
    sharer.shared.shutdown()
    # The first ten are older than the source.
    expected = (10, 5) if overflow == "drop_oldest" else (10, 11)
    assert (len(taken(source)), source.missed) == expected


def test_what_others_took_before_the_first_batch_is_missed_too(name):
    sharer = Sharer(name, capacity=10)
    source = SharedSource(name)
    sharer.shared.put_many(readings(np.arange(5.0)))
    assert len(SharedRingBuffer.attach(name).get_many(3)) == 3
    sharer.shared.shutdown()
    assert (len(taken(source)), source.missed) == (2, 3)


def test_refused_and_taken_by_others_add_up(name):
    sharer, source, batches = shared_by_hand(name, "drop_newest")
    sharer.shared.put_many(readings(np.arange(15.0)))
    SharedRingBuffer.attach(name).get_many(3)
    next(batches)
    assert source.missed == 5 + 3


def test_what_another_process_takes_is_missed(name):
    sharer, source, batches = shared_by_hand(name, "drop_oldest")
    sharer.shared.put_many(readings(np.arange(5.0)))
    SharedRingBuffer.attach(name).get_many(3)
    next(batches)
    assert source.missed == 3


# Who is there ---------------------------------------------------------------------------------------------------------


def run_with(sharer, count=1000):
    """Let a system share readings; what failed, and how many were analysed."""
    failures = []
    system = F1TelemetrySystem(on_failure=lambda name, error: failures.append((name, error)))
    batches = pieces(readings(np.arange(float(count))), 100)
    with pytest.raises(TelemetryError) if sharer.shared.overflow == "block" else watchdog():
        system.start([Given(*batches)], consumers=[sharer])
        assert system.wait(WATCHDOG)
        system.shutdown()
    return failures, system.summary.analysed


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_nobody_needs_to_be_there(name, overflow):
    assert run_with(Sharer(name, capacity=10, overflow=overflow)) == ([], 1000)


@pytest.mark.parametrize("count", [1000, 5], ids=["full", "not full"])
def test_under_block_a_sharer_fails_where_nobody_is_there(name, count):
    sharer = Sharer(name, capacity=10, overflow="block")
    [(who, error)], analysed = run_with(sharer, count)
    assert who == "sharer"
    said = "nobody has attached" if count > 10 else "nobody is attached"
    left = min(count, 10)
    assert str(error) == (
        f"{said}, and the shared ring {name!r} holds {left} readings; attach first, or let it drop readings"
    )
    assert analysed == count  # all the same


def test_under_block_a_sharer_fails_where_all_who_took_are_gone(name, patient):
    sharer = Sharer(name, capacity=10, overflow="block")
    sharer.shared.put_many(readings([0.0]))
    source = SharedSource(name)
    batches = source.batches()
    next(batches)
    batches.close()
    [(_, error)], analysed = run_with(sharer)
    assert str(error).startswith(f"everybody who took readings is gone, and the shared ring {name!r} holds 10 readings")
    assert analysed == 1000


def test_under_block_one_who_has_attached_and_taken_nothing_yet_is_waited_for(name):
    sharer = Sharer(name, capacity=10, overflow="block")
    sharer.shared.put_many(readings([0.0]))
    first = SharedSource(name).batches()
    next(first)
    first.close()
    second = SharedSource(name)
    thread = share(sharer, readings(np.arange(100.0)))
    wait_until(lambda: sharer.shared.stats().put_waits >= 5)  # by then it knows that the first one is gone
    assert taken(second)["value"].tolist() == list(range(100))
    thread.result()


def test_a_sharer_waits_at_its_end_for_somebody_to_attach(name, patient):
    sharer = Sharer(name)
    thread = share(sharer, readings([1.0, 2.0]))
    wait_until(lambda: len(sharer.shared) == 2)
    source = SharedSource(name)
    thread.result()  # it does not wait until they are taken
    with pytest.raises(SharingError, match="nobody shares readings"):
        SharedSource(name)
    assert taken(source)["value"].tolist() == [1.0, 2.0]


def test_a_failure_of_the_sharer_is_told_to_the_other_process(name):
    def describe(sensor_id, flags):
        raise KeyError("no such sensor")

    sharer = Sharer(name, describe)
    source = SharedSource(name)
    thread = share(sharer, readings([1.0]))
    with pytest.raises(SharingError, match="the other process failed to share: 'no such sensor'"):
        taken(source)
    with pytest.raises(KeyError):
        thread.result()


def test_somebody_else_shuts_the_ring_down(name):
    sharer = Sharer(name)
    SharedRingBuffer.attach(name).shutdown()
    thread = share(sharer, readings([1.0]))
    with pytest.raises(SharingError, match=f"another process has shut the ring '{name}' down"):
        thread.result()


def test_a_name_is_one_sharers_until_its_end(name):
    sharer = Sharer(name)
    with pytest.raises(SharingError, match=f"^{name}: the name '{name}' is taken: the ring is open in process"):
        Sharer(name)
    share(sharer).result()
    share(Sharer(name)).result()


def test_a_name_whose_second_ring_is_taken_is_free_again(name):
    other = SharedRingBuffer(10, name=about.about_name(name))
    with pytest.raises(SharingError, match=f"the name '{name}-about' is taken"):
        Sharer(name)
    with pytest.raises(SharingError, match="nobody shares readings"):
        SharedSource(name)
    other.unlink()
    share(Sharer(name)).result()


def test_a_ring_of_something_else_is_refused():
    ring = SharedRingBuffer(10, "i8")
    with pytest.raises(SharingError, match=f"{ring.name}: is a ring of int64; expected f1buf.READING"):
        SharedSource(ring)


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_nobody_shares_by_a_name(name, timeout):
    waited = " (waited 0.05 s)" if timeout else ""
    with pytest.raises(SharingError) as error:
        SharedSource(name, timeout)
    assert str(error.value).startswith(f"nobody shares readings as {name!r}{waited}; start that process first")


def test_a_source_waits_for_a_sharer(name):
    thread = Task(SharedSource, name, WATCHDOG)
    sharer = Sharer(name)
    source = thread.result()
    share(sharer, readings([1.0])).result()
    assert len(taken(source)) == 1


def sharing_process(name, count=3):
    """A process that shares some readings, and then stays."""
    program = f"""if True:
        import time
        from f1buf.telemetry import Sharer, SpeedSensor
        sharer = Sharer({name!r})
        sharer.shared.put_many(SpeedSensor(1, seed=1).read_batch(3)[:{count}])
        print(flush=True)
        time.sleep({WATCHDOG})
    """
    process = subprocess.Popen(**child_options([], program=["-c", program]), stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_the_process_that_shares_is_killed(name):
    with sharing_process(name) as process:
        source = SharedSource(name)
        batches = source.batches()
        assert len(next(batches)) == 3
        process.send_signal(signal.SIGKILL)
        with pytest.raises(SharingError, match=f"the process that shared '{name}' was killed, or has left"):
            next(batches)
        with pytest.raises(SharingError, match=f"the process that shared readings as '{name}' was killed"):
            SharedSource(name)
        process.wait(WATCHDOG)
    share(Sharer(name)).result()  # takes the name over


def test_the_process_that_shares_is_killed_before_the_first_reading(name):
    with sharing_process(name, 0) as process:
        source, other = SharedSource(name), SharedSource(name)
        waiting = Task(taken, source)
        process.kill()
        process.wait(WATCHDOG)
        for task in waiting, Task(taken, other):
            with pytest.raises(SharingError, match=f"the process that shared '{name}' was killed, or has left"):
                task.result()
