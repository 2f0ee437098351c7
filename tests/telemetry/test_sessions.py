"""Several sessions of the game at once, and one that is only watched: their series, and what is said of them."""

import json
import socket
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import (
    PATIENCE,
    call,
    datagram,
    json_lines,
    participants,
    readings,
    telemetry,
    watchdog,
    write_recording,
    write_thresholds,
)
from helpers import WATCHDOG, wait_until

from f1buf.command import listen
from f1buf.command.game import SessionNotices
from f1buf.telemetry import Alert, F1TelemetrySystem, Threshold
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.listen import Listener
from f1buf.telemetry.sources.game.readings import car_bytes
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.thresholds import ThresholdTable, Tracker, tracker

ONE, OTHER = 9645314088496810282, 1234567890123450154
FAST = Threshold("SPEED", above=340, message="Too fast")


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(2 * PATIENCE):
        yield


def game(uid, speeds, begin=10.0, **header):
    """What one game sends of one car that has these speeds, as (time, datagram)."""
    rows = [(begin, participants(begin, "PÉREZ", session_uid=uid, **header))]
    for number, speed in enumerate(speeds):
        now = begin + number / 60
        rows.append((now, telemetry(now, speed, session_uid=uid, **header)))
    return rows


def interleaved(*games):
    return [row for rows in zip(*games, strict=True) for row in rows]


@pytest.fixture
def two(tmp_path):
    """A recording of two games on one network: in one the car is fast all the time, in the other never."""
    return write_recording(tmp_path / "two.sqlite3", interleaved(game(ONE, [350] * 50), game(OTHER, [100] * 50)))


@pytest.fixture
def both_fast(tmp_path):
    rows = interleaved(game(ONE, [350, 350, 100] * 20), game(OTHER, [350, 100, 100] * 20))
    return write_recording(tmp_path / "fast.sqlite3", rows)


@pytest.fixture
def watched(tmp_path):
    """A recording of a game in which the player only watches."""
    return write_recording(tmp_path / "watched.sqlite3", game(ONE, [350] * 50, player_car_index=255))


# Series belong to a session -------------------------------------------------------------------------------------------


def test_the_readings_of_one_session_end_no_series_of_another(two):
    done = call("replay", two, "--speed", "max", "--json")
    speed = next(each for each in done.summary["thresholds"] if each["channel"] == "SPEED")
    assert (speed["readings"], speed["samples"], speed["rises"]) == (100, 50, 1)


def with_uid(packet, uid):
    return packet[:7] + uid.to_bytes(8, "little") + packet[15:]


def test_the_recorded_race_twice_at_once_gives_its_alerts_twice(recordings_dir, tmp_path):
    path = recordings_dir / "f1_2026_race.sqlite3"
    with open_recording(path) as recording:
        race = list(recording.datagrams())
    rows = [row for time, packet in race for row in ((time, packet), (time, with_uid(packet, OTHER)))]
    twice = write_recording(tmp_path / "twice.sqlite3", rows)
    told = {}
    for name, file in (("once", path), ("twice", twice)):
        done = call("replay", file, "--speed", "max", "--alerts", tmp_path / name, "--alert-samples", "--json")
        assert done.summary["rejected"] == {}
        told[name] = done.summary["readings"], [each["rises"] for each in done.summary["thresholds"]]
    assert told["once"] == (220_000, [1, 0, 2, 17, 0])
    assert told["twice"] == (440_000, [2, 0, 4, 34, 0])
    once, both = (json_lines((tmp_path / name).read_text("utf-8")) for name in ("once", "twice"))
    assert not any("session" in alert for alert in once)
    for uid, first_id in ((ONE, 0), (OTHER, 512)):
        its = [alert for alert in both if alert["session"] == str(uid)]
        expected = [{**alert, "sensor": alert["sensor"] + first_id, "session": str(uid)} for alert in once]
        assert [{**alert, "position": 0} for alert in its] == [{**alert, "position": 0} for alert in expected]


@pytest.mark.parametrize("where", ["two", "both_fast"])
def test_any_number_of_analyzers_gives_the_same_alerts(request, where):
    path = request.getfixturevalue(where)
    found = [
        call("replay", path, "--speed", "max", "--alerts", "-", "--alert-samples", "--analyzers", analyzers).out
        for analyzers in (1, 3, 8)
    ]
    assert found[0].count("\n") == {"two": 50, "both_fast": 60}[where]
    assert found[1:] == found[:1] * 2


def alerts_of(source, decoder, meanwhile):
    alerts = []
    with F1TelemetrySystem(thresholds=[FAST], on_alert=alerts.append, stop_timeout=WATCHDOG) as system:
        system.start([source], describe=decoder.describe)
        meanwhile(system)
    return [alert._replace(time=0.0) for alert in alerts]


def test_a_replay_at_any_speed_and_a_listener_tell_the_same(both_fast):
    found = []
    with open_recording(both_fast) as recording:
        for speed in (None, 1000.0):
            decoder = Decoder()
            found.append(alerts_of(Replay(recording, decoder, speed), decoder, lambda system: system.wait(WATCHDOG)))
        packets = [packet for _, packet in recording.datagrams()]
    decoder = Decoder()
    with Listener(decoder, port=0) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def send(system):
            for sent, packet in enumerate(packets, 1):
                sock.sendto(packet, listener.address)
                wait_until(lambda sent=sent: listener.datagrams == sent, "the datagram")

        found.append(alerts_of(listener, decoder, send))
    assert len(found[0]) == 40
    assert [alert.session for alert in found[0][:3]] == [None, OTHER, ONE]  # the first came before there were two
    assert found[1:] == found[:1] * 2


@pytest.mark.parametrize("damping", [{}, {"hysteresis": 1.0}, {"min_duration": 0.5}])
def test_series_without_end_do_not_fill_the_memory(monkeypatch, damping):
    monkeypatch.setattr(tracker, "MOST_OVER", 100)
    table = ThresholdTable([Threshold("SPEED", above=340, message="Too fast", **damping)])
    following = Tracker(table)
    rises = 0
    for number in range(500):
        batch = readings([350.0] * 10)
        batch["timestamp"] = number
        batch["sensor_id"][1:] = (
            np.arange(1, 10) + 10 * number
        )  # the first one goes on, the others are never seen again
        rises += len(following.merge(table.check(batch), 10 * number))
        assert following.over <= 110
    assert rises == (1 if "min_duration" in damping else 1 + 9 * 500)  # that one rises once: it is always in a batch


@pytest.mark.parametrize("where", ["two", "both_fast", "watched"])
def test_what_was_recorded_gives_the_same_alerts(request, tmp_path, where):
    pytest.importorskip("pyarrow", reason="recordings need pyarrow")
    folder, options = tmp_path / "parts", ["--speed", "max", "--alerts", "-", "--alert-samples"]
    live = call("replay", request.getfixturevalue(where), *options, "--record", folder)
    again = call("replay", folder, *options)
    assert live.out
    assert again.out == live.out


# Where the session is named -------------------------------------------------------------------------------------------


def test_an_alert_names_its_session_where_there_are_several():
    reading = np.zeros((), [("timestamp", "f8"), ("sensor_id", "u4"), ("channel", "u2"), ("flags", "u2"), ("v", "f8")])
    reading["channel"], reading["v"] = 3, 350
    event = type("Event", (), {"kind": "rise", "position": 7, "reading": reading})
    described = {"car": 5, "driver": "PÉREZ", "lap": 2, "part": None, "session": ONE}
    alone, named = (Alert.from_event(event, FAST, {**described, "several": several}) for several in (False, True))
    assert alone.session is None
    assert "session" not in alone.as_dict()
    assert alone.origin == "car 5 PÉREZ lap 2"
    assert json.loads(named.as_json())["session"] == "9645314088496810282"  # as a number many readers would round it
    assert str(named).endswith("  car 5 PÉREZ lap 2 session 0282")
    assert described == {"car": 5, "driver": "PÉREZ", "lap": 2, "part": None, "session": ONE}


def test_a_single_session_is_not_named(tmp_path):
    path = write_recording(tmp_path / "one.sqlite3", game(ONE, [350, 100]))
    done = call("replay", path, "--speed", "max", "--json")
    assert "session" not in done.err
    assert "sessions" not in done.summary


def test_several_sessions_are_named(both_fast):
    done = call("replay", both_fast, "--speed", "max", "--json")
    assert done.summary["sessions"] == [str(ONE), str(OTHER)]
    lines = done.err.splitlines()
    assert f"sessions   {ONE}, {OTHER}" in lines
    assert sum(line.endswith("car 0 PÉREZ session 0282") for line in lines) == 19  # and one before there were two
    assert sum(line.endswith("car 0 PÉREZ session 0154") for line in lines) == 20


def test_each_of_several_sessions_is_told_once():
    decoder = SimpleNamespace(sessions=(), session=None)
    told = SessionNotices(decoder)
    assert list(told.notices()) == []
    decoder.sessions = (ONE,)
    assert list(told.notices()) == []
    decoder.sessions = (ONE, OTHER)
    assert list(told.notices()) == [
        f"session {ONE} is read; --session 0282 reads it alone",
        f"session {OTHER} is read; --session 0154 reads it alone",
    ]
    decoder.sessions = (ONE, OTHER, 5)
    assert list(told.notices()) == ["session 5 is read; --session 0005 reads it alone"]
    decoder.sessions = (ONE, OTHER, 77770282)
    assert list(told.notices()) == [
        f"session {ONE} is read; --session 10282 reads it alone",  # 0282 does not any more
        "session 77770282 is read; --session 70282 reads it alone",
    ]
    assert list(told.notices()) == []
    for forged in range(100, 200):
        decoder.sessions = (ONE, OTHER, forged)
        told_now = list(told.notices())
    assert told_now == []


def test_digits_that_fit_several_sessions_are_told():
    decoder = SimpleNamespace(sessions=(), session="0282")
    told = SessionNotices(decoder)
    decoder.sessions = (ONE,)
    assert list(told.notices()) == []
    decoder.sessions = (ONE, 10282)
    assert list(told.notices()) == [
        "--session 0282 fits more than one session that is heard",
        f"session {ONE} is read; --session 810282 reads it alone",
        "session 10282 is read; --session 010282 reads it alone",
    ]
    assert list(told.notices()) == []


@pytest.mark.parametrize(
    ("uid", "among", "digits"),
    [
        (5, (), "0005"),
        (ONE, (ONE, OTHER), "0282"),
        (ONE, (ONE, 77770282), "10282"),
        (0, (0, 10**19), "0" * 20),
        (10**19, (0, 10**19), "1" + "0" * 19),
    ],
)
def test_as_many_digits_name_a_session_as_tell_it_from_others(uid, among, digits):
    assert short_session(uid, among) == digits


# One of several, or none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "speed"), [(str(ONE), 350), ("0282", 350), ("0154", 100), (str(OTHER), 100)])
def test_one_session_is_chosen(two, tmp_path, choice, speed):
    file = write_thresholds(tmp_path / "any.toml", {"channel": "SPEED", "above": 0})
    options = ["--session", choice, "--thresholds", file, "--alert-samples"]
    done = call("replay", two, "--speed", "max", *options, "--alerts", "-")
    alerts = json_lines(done.out)
    assert {alert["value"] for alert in alerts} == {speed}
    assert len(alerts) == 50
    assert not any("session" in alert for alert in alerts)
    assert "rejected   51 x other session" in done.err.splitlines()


@pytest.mark.parametrize("name", ["replay", "listen"])
@pytest.mark.parametrize("choice", ["", "28", "282", "latest", "-1", "0x85da"])
def test_bad_choice_of_a_session(two, name, choice):
    done = call(name, *([two] if name == "replay" else []), f"--session={choice}")
    assert done.status == 2
    expected = f"--session is {choice!r}: expected a session's number, or at least its last 4 digits"
    assert done.error == f"f1buf {name}: error: {expected}"


def test_a_choice_of_sessions_is_for_the_game_alone(tmp_path):
    done = call("replay", tmp_path / "drive.log", "--dbc", tmp_path / "car.dbc", "--session", "1234")
    assert done.status == 2
    assert "--session is for a recording of the game or what --record has made; " in done.error


def test_a_session_that_is_not_there(two):
    done = call("replay", two, "--speed", "max", "--session", "7777")
    assert "rejected   102 x other session" in done.err.splitlines()
    assert f"sessions   heard, but not read: {ONE}, {OTHER}" in done.err.splitlines()
    assert done.status == 2
    assert done.err.splitlines()[-1] == (
        f"f1buf: {two}: no datagram in it could be used: 102 x other session; another session is heard, not the one "
        "chosen; without --session every one is read, and named"
    )


def test_a_watched_session_is_read(watched):
    done = call("replay", watched, "--speed", "max", "--json")
    assert (done.summary["readings"], done.summary["rejected"]) == (50 * 6, {})
    assert "nothing" not in done.err


def test_the_player_of_a_watched_session(watched):
    done = call("replay", watched, "--speed", "max", "--cars", "player")
    lines = done.err.splitlines()
    assert "rejected   50 x nobody plays" in lines
    assert done.status == 2
    assert lines[-1] == (
        f"f1buf: {watched}: no datagram in it could be used: 50 x nobody plays; the session is watched; "
        "without --cars player every car is read"
    )


class Ears:
    """Stands in for a listener that hears nothing of use."""

    def __init__(self, **rejected):
        self.datagrams = 0
        self.rejected = {reason.replace("_", " "): count for reason, count in rejected.items()}

    def buffer_advice(self):
        return None

    def hint(self):
        return ["the addresses"]


@pytest.mark.parametrize(
    ("ears", "said"),
    [
        (Ears(car_not_there=9), "no car that --cars names is there; without --cars every car is read"),
        (Ears(no_cars=9), "the game says that there is no car in its session"),
        (Ears(nobody_plays=9), "the session is watched; without --cars player every car is read"),
        (
            Ears(other_session=9),
            "another session is heard, not the one chosen; without --session every one is read, and named",
        ),
        (Ears(truncated_datagram=9, other_session=3), "the addresses"),
    ],
)
def test_silence_is_told_with_what_would_help(monkeypatch, ears, said):
    now = 100.0
    monkeypatch.setattr(listen.time, "monotonic", lambda: now)
    silence = listen.Silence(ears, lambda: 0)
    list(silence.notices())
    now, ears.datagrams = 106.0, 9
    [what, why] = silence.notices()
    assert what.startswith("9 datagrams in 5 s, but no reading, mostly: ")
    assert why == said


# Slots ----------------------------------------------------------------------------------------------------------------


def lap_data(now, *statuses):
    packet = datagram(2, now, session_uid=ONE)
    packet["lap_data"]["result_status"][0, : len(statuses)] = statuses
    return packet.tobytes()


@pytest.mark.parametrize("status", [0, 1, 2, 4, 7])
def test_a_car_whose_slot_empties_has_no_puncture(tmp_path, status):
    rows = [(10.0, participants(10.0, "ONE", "TWO", "THREE", session_uid=ONE)), (10.0, lap_data(10.0, 2, 2, 2))]
    for number in range(60):
        now = 10.0 + number / 60
        packet = bytearray(telemetry(now, 100, 200, 300, session_uid=ONE))
        if number == 30:
            rows.append((now, lap_data(now, 2, status, 2)))
            rows.append((now, participants(now, "ONE", "", session_uid=ONE)))
        if number >= 30:
            packet[29 + 59 : 29 + 2 * 59] = bytes(59)
        rows.append((now, bytes(packet)))
    done = call("replay", write_recording(tmp_path / "out.sqlite3", rows), "--speed", "max", "--json")
    tyres = next(each for each in done.summary["thresholds"] if each["channel"] == "TIRE_PRESSURE")
    assert (tyres["readings"], tyres["samples"]) == (4 * (3 * 30 + 2 * 30), 0)
    assert done.summary["rejected"] == {}


def zeroed(packet, slot):
    """A datagram of 2026 in which a slot is empty."""
    starts = {0: (29, 54), 6: (29, 59), 7: (29, 59)}  # of the first car, and bytes a car
    if packet[6] not in starts:
        return packet
    start, size = starts[packet[6]]
    assert len(packet) - start >= 24 * size
    return packet[: start + slot * size] + bytes(size) + packet[start + (slot + 1) * size :]


def test_an_empty_slot_of_a_race_without_lap_data_has_no_puncture(recordings_dir, tmp_path):
    with open_recording(recordings_dir / "f1_2026_race.sqlite3") as recording:
        rows = [(time, zeroed(packet, 5)) for time, packet in recording.datagrams() if packet[6] != 2]
    done = call("replay", write_recording(tmp_path / "out.sqlite3", rows), "--speed", "max", "--json")
    tyres = next(each for each in done.summary["thresholds"] if each["channel"] == "TIRE_PRESSURE")
    assert (tyres["rises"], done.summary["rejected"]) == (0, {})
    assert done.summary["readings"] == 210_000  # of 21 cars


def test_cars_that_are_not_there_are_told(two):
    done = call("replay", two, "--speed", "max", "--cars", "23")
    assert done.status == 2
    assert "rejected   100 x car not there" in done.err.splitlines()
    assert done.err.splitlines()[-1] == (
        f"f1buf: {two}: no datagram in it could be used: 100 x car not there; no car that --cars names is there; "
        "without --cars every car is read"
    )
    done = call("replay", two, "--speed", "max", "--cars", "0,23", "--json")
    assert (done.summary["readings"], done.summary["rejected"]) == (600, {})


def test_the_recorded_race_has_as_many_cars_as_its_lap_data_say(recordings_dir):
    connection = sqlite3.connect(f"{(recordings_dir / 'f1_2026_race.sqlite3').as_uri()}?mode=ro", uri=True)
    decoder = Decoder()
    cars = set()
    for (packet,) in connection.execute("SELECT packet FROM packets ORDER BY pkt_id LIMIT 500"):
        cars |= set((decoder.decode(packet)["sensor_id"] // 16).tolist())
        if packet[6] == 2:
            statuses = car_bytes(packet, 2026, "result_status")
    connection.close()
    assert cars == set(range(22))
    assert statuses == bytes([2] * 22 + [0] * 2)
