"""The live view: what a frame of any size shows of any readings, what it costs, and that nothing waits for it."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
import time

import numpy as np
import pytest
from cli_helpers import Clock, readings
from helpers import WATCHDOG

from f1buf import READING, RingBuffer
from f1buf.telemetry import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    PROFILES,
    SPEED,
    TIRE_PRESSURE,
    Alert,
    Channel,
    F1TelemetrySystem,
    Threshold,
    make_sensors,
)

pytest.importorskip("rich")

from rich.cells import cell_len
from rich.console import Console as RichConsole

from f1buf.command.console import Console
from f1buf.command.progress import Progress, Said, Watched
from f1buf.command.view.board import MOST_SERIES, NOBODY, Board
from f1buf.command.view.drawing import in_ascii
from f1buf.command.view.layout import frame
from f1buf.command.view.terminal import View, printable

SIZES = ((80, 24), (120, 40), (200, 60), (40, 10), (300, 3), (1, 1), (7, 60))
DRIVERS = [f"DRIVER{car}" for car in range(22)]
WHEELS, AXES = ("RL", "RR", "FL", "FR"), ("lateral", "longitudinal", "vertical")
CAR = [
    (SPEED, None),
    (ENGINE_TEMP, None),
    *((TIRE_PRESSURE, wheel) for wheel in WHEELS),
    *((G_FORCE, axis) for axis in AXES),
    (FUEL_LEVEL, None),
]


# What it is made of --------------------------------------------------------------------------------------------------


def display():
    return RingBuffer(16_384, READING, overflow="drop_oldest")


def board_of(*updates, thresholds=PROFILES["default"], describe=lambda sensor_id, flags: {}):
    """A board that was updated after each of these arrays of readings, once a second."""
    board = Board(display(), thresholds, describe)
    for second, each in enumerate(updates):
        hear(board, second, each)
    return board


def hear(board, second, *batches):
    """Give a board readings, and update it."""
    for batch in batches:
        board.ring.put_many(batch)
    board.update(float(second))


def one(value, channel=SPEED, sensor=0, flags=0):
    return np.array([(0.0, sensor, channel.number, flags, value)], READING)


def course(*values, channel=SPEED, **options):
    """A board of one sensor that had one of these values in each update."""
    return board_of(*[one(value, channel) for value in values], **options)


def describe_car(sensor_id, flags):
    car, part = divmod(sensor_id, 16)
    return {"car": car, "driver": DRIVERS[car], "lap": 40 + flags, "part": CAR[part][1]}


def cars(count=22, channels=CAR, **values):
    """A reading of each part of each car; arguments give the values of channels."""
    usual = {"SPEED": 200.0, "ENGINE_TEMP": 100.0, "TIRE_PRESSURE": 2.0, "G_FORCE": 1.0, "FUEL_LEVEL": 50.0, **values}
    return np.array(
        [
            (1.0, car * 16 + part, channel.number, 2, usual[channel.name])
            for car in range(count)
            for part, (channel, _) in enumerate(channels)
        ],
        READING,
    )


def sensors(per_type, updates=3):
    made = make_sensors(per_type, seed=1)
    return [np.concatenate([sensor.read_batch(5) for sensor in made]) for _ in range(updates)]


def text_of(line):
    return "".join(segment.text for segment in line)


def drawn(board, width=80, height=24, *, alerts=(), alert_count=None, notes=(), **progress):
    """A frame, as lines of segments; each must be as wide as the terminal."""
    said = Said(alerts, len(alerts) if alert_count is None else alert_count, notes)
    lines = frame(board, Progress(**{"what": "test", **progress}, said=said), width, height)
    assert len(lines) == height
    assert {cell_len(text_of(line)) for line in lines} == {width}
    return lines


def shown(*args, **options):
    """A frame's text, line by line."""
    return [text_of(line).rstrip() for line in drawn(*args, **options)]


def row(board, width=80):
    """The one line of series that there is room for."""
    return shown(board, width, 3)[2]


def bar_of(line):
    return re.search("<?[━╸─┃]{6,}>?", line).group()


def styles_of(lines, text):
    """The styles in which a text is shown."""
    return [str(segment.style) for line in lines for segment in line if text in segment.text]


def alert_of(n, **fields):
    speeding = Threshold("SPEED", above=340, message="Too fast")
    return Alert("rise", float(n), n, 7, "SPEED", 341.5, "km/h", speeding, **fields)


# Any readings at any size --------------------------------------------------------------------------------------------

UNRANGED = Channel("YAW_RATE", "°/s")
LOPSIDED = Channel("ALTITUDE", "m", (0.0, np.inf))
ODD_VALUES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300, 0.0, -0.0, 1e9, -4.2)


def can_signals(count):
    channels = [
        Channel(f"SIGNAL_{i}", "rpm" if i % 2 else "", (0.0, 10.0**i) if i < 9 else (-np.inf, np.inf))
        for i in range(count)
    ]
    return [
        np.concatenate([one(value * i, channel, sensor=i) for i, channel in enumerate(channels)])
        for value in (1.0, 2.5)
    ]


def odd_readings():
    channels = (SPEED, G_FORCE, UNRANGED, LOPSIDED)
    each = [one(value, channel, sensor) for sensor, channel in enumerate(channels) for value in ODD_VALUES]
    return [*each, np.concatenate(each)]


BOARDS = {
    "nothing": lambda: board_of(),
    "5 sensors": lambda: board_of(*sensors(1)),
    "60 sensors": lambda: board_of(*sensors(12)),
    "500 sensors": lambda: board_of(*sensors(100)),
    "220 series of 22 cars": lambda: board_of(cars(), cars(), describe=describe_car),
    "1 series of 22 cars": lambda: board_of(cars(channels=CAR[:1]), describe=describe_car),
    "tyres of 1 car": lambda: board_of(cars(1)[2:6], describe=describe_car),
    "20 signals": lambda: board_of(*can_signals(20)),
    "odd values": lambda: board_of(*odd_readings(), thresholds=PROFILES["f1game"]),
    "no thresholds": lambda: board_of(*sensors(3), thresholds=()),
}


@pytest.mark.parametrize("name", BOARDS)
def test_a_frame_has_the_size_of_the_terminal(name):
    board = BOARDS[name]()
    busy = {
        "alerts": [alert_of(n) for n in range(100)],
        "notes": [("recording has failed", "bold red")] * 9,
        "losses": {"in the buffer": 12, "on the network": 3},
        "recorder": ("recording to race/", "green"),
        "rejected": 17,
        "draining": 1234,
        "latency_s": {"p50": 1e-4, "p99": 2.0},
    }
    for width, height in SIZES:
        drawn(board, width, height)
        drawn(board, width, height, **busy)


def test_rich_prints_a_frame_as_it_is(capsys):
    lines = drawn(board_of(cars(), describe=describe_car))
    console = RichConsole(width=80, height=24, force_terminal=True, color_system="standard")
    console.print(printable(lines), end="", soft_wrap=True)
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert printed == "\n".join(map(text_of, lines))


# Sensors -------------------------------------------------------------------------------------------------------------


def test_before_the_first_reading():
    assert "waiting for the first readings" in shown(board_of())
    assert "── no alerts ─" in "\n".join(shown(board_of()))


def test_a_sensor_against_its_range_and_threshold():
    line = row(course(100.0, 175.0))
    bar = bar_of(line)
    assert re.match(r"0 SPEED +175 km/h  ", line)
    assert bar.rindex("━") + 1 == pytest.approx(len(bar) / 2, abs=0.6)
    assert bar.index("┃") == int(340 / 350 * len(bar))
    assert line.endswith(" ▁▇")
    assert " >340 " in line


def test_lines_are_deep_where_there_is_room():
    board = course(0.0, 350.0, 87.5, 262.5)
    lines = shown(board)
    [top] = [i for i, line in enumerate(lines) if "SPEED" in line]
    assert re.search(r" 0 +340", lines[top + 1])  # under the bar: where it begins, and the threshold
    assert [f"{line:80}"[-4:] for line in lines[top : top + 4]] == [" █ ▁", " █ █", " █▁█", "▁███"]


BARS = {0.0: "─+", 350.0: "━+", 351.0: "━+>", -1.0: "<─+", np.inf: "━+>", -np.inf: "<─+", np.nan: "─+"}


@pytest.mark.parametrize(("value", "bar"), BARS.items())
def test_a_bar_ends_where_the_range_does(value, bar):
    assert re.fullmatch(bar, bar_of(row(course(value, thresholds=()))))


def test_an_absolute_threshold_is_for_both_directions():
    g = (Threshold("G_FORCE", above=4.5, absolute=True, message="!"),)
    for value in (-5.0, 5.0):
        board = course(1.0, value, channel=G_FORCE, thresholds=g)
        assert styles_of(drawn(board), f"{value:.2f} G") == ["bold red"]
        bar = bar_of(row(board))
        assert len(bar.rstrip("─")) == pytest.approx(5 / 6 * len(bar), abs=0.6)
    assert styles_of(drawn(course(-4.0, channel=G_FORCE, thresholds=g)), "-4.00 G") == ["bold"]
    steering = Channel("STEERING", "°", (-500.0, 500.0))
    limit = (Threshold("STEERING", above=400, absolute=True, message="!"),)
    bar = bar_of(row(course(-250.0, channel=steering, thresholds=limit)))
    assert bar.rindex("━") + 1 == pytest.approx(len(bar) / 2, abs=0.6)


def test_a_value_over_its_threshold_is_red():
    lines = drawn(board_of(np.concatenate([one(341.0, sensor=1), one(340.0, sensor=2)])), 80, 8)
    assert styles_of(lines, "341 km/h") == ["bold red"]
    assert styles_of(lines, "340 km/h") == ["bold"]
    over, other = (line for line in lines if "km/h" in text_of(line))
    assert {str(segment.style) for segment in over if "━" in segment.text} == {"bold red"}
    assert {str(segment.style) for segment in other if "━" in segment.text} == {"green"}


def test_a_spike_between_two_frames_is_seen():
    calm = readings([100.0] * 60)
    spike = readings([*[100.0] * 30, 345.0, *[100.0] * 29])
    dip = readings([*[2.0] * 30, 1.5, *[2.0] * 29], TIRE_PRESSURE)
    board = board_of(calm, spike, calm)
    assert board.history[0, -3:].tolist() == [100.0, 345.0, 100.0]
    lines = drawn(board, 80, 3)
    assert styles_of(lines, "▇") == ["red"]  # of the three columns of the sparkline one
    assert styles_of(lines, "100 km/h") == ["bold"]
    assert board_of(dip).history[0, -1] == 1.5
    assert board_of(dip, thresholds=()).history[0, -1] == 2.0
    g = (Threshold("G_FORCE", above=4.5, absolute=True, message="!"),)
    for peak in (-5.0, 5.0):
        both = readings([1.0, -2.0, peak, 2.0, -1.0], G_FORCE)
        assert board_of(both, thresholds=g).history[0, -1] == peak


def test_a_steady_value_is_flat_and_nan_is_a_gap():
    line = row(course(200.0, 201.0, np.nan, 200.0, np.inf, 200.0, thresholds=()))
    assert line.endswith(" ▄▄ ▄ ▄")


def test_without_a_range_the_bar_is_of_what_has_been_seen():
    wide = Channel("WIDE", "", (-1e30, 1e30))
    for channel in (UNRANGED, LOPSIDED, wide):
        board = course(20.0, 60.0, 40.0, channel=channel, thresholds=())
        bar = bar_of(row(board))
        assert bar.count("━") == len(bar) // 2
        assert re.search(r"\n +20\.0 +60\.0 ", "\n".join(shown(board)))


def test_the_sensors_of_few_channels_are_a_table_where_there_is_no_room_for_lines():
    board = board_of(*sensors(12))
    lines = shown(board)
    head = next(i for i, line in enumerate(lines) if "ENGINE_TEMP" in line)
    assert lines[head].split() == ["ENGINE_TEMP", "TIRE_PRESSURE", "SPEED", "G_FORCE", "FUEL_LEVEL"]
    assert lines[head + 1].split() == ["°C", ">110", "bar", "<1.9", "km/h", ">340", "G", ">5.5", "%", "<15"]
    numbers = [re.findall(r"(\d+) +([\d.]+) [▁-▇ ]{5}", f"{line:80}") for line in lines[head + 2 : head + 14]]
    assert [int(sensor) for line in numbers for sensor, _ in line] == [i + 12 * k for i in range(12) for k in range(5)]
    latest = {each.sensor_id: board.latest[row] for row, each in enumerate(board.series)}
    for sensor, value in (each for line in numbers for each in line):
        assert float(value) == pytest.approx(latest[int(sensor)], abs=0.51)


def test_many_channels_are_in_several_columns():
    board = board_of(*can_signals(30))
    text = "\n".join(shown(board))
    assert all(re.search(rf"SIGNAL_{i}\b", text) for i in range(30))
    assert re.search(r"\n 0 SIGNAL_0 .*   15 SIGNAL_15 ", text)


def test_long_names_keep_their_ends():
    channels = [Channel(f"WHEEL_SPEED_SENSOR_{wheel}", "km/h", (0.0, 300.0)) for wheel in WHEELS]
    board = board_of(np.concatenate([one(100.0, channel, sensor=i) for i, channel in enumerate(channels)]))
    for wheel in WHEELS:
        assert re.search(rf" WHEEL_SPEE\w*…R?_?{wheel} +100 km/h  [▄ ]*▄\n", "\n".join(shown(board, 40, 7)))


@pytest.mark.parametrize("channels", [1, 30])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 12), (30, 9)])
def test_what_does_not_fit_is_counted(channels, width, height):
    made = [Channel(f"MANY_{i}", "", (0.0, 999.0)) for i in range(channels)]
    board = board_of(np.concatenate([one(777.0, made[i % channels], sensor=i) for i in range(300)]))
    text = "\n".join(shown(board, width, height))
    [more] = re.findall(r"\.\.\. ([\d,]+) more", text)
    assert int(more) + len(re.findall(r"\b777\b", text)) == 300


# Cars ----------------------------------------------------------------------------------------------------------------


def test_each_car_has_a_line():
    board = board_of(cars(), describe=describe_car)
    lines = shown(board, 120, 40)
    lines_of_cars = [line for line in lines if "DRIVER" in line]
    assert [line.split()[:3] for line in lines_of_cars] == [[str(car), DRIVERS[car], "L42"] for car in range(22)]
    assert re.fullmatch(
        r" 0 DRIVER0 +L42 +200 [━─┃╸]+ +▄  100\.0 [━─┃╸]+ +▄  2\.00 2\.00 2\.00 2\.00  1\.00 1\.00 1\.00 "
        r"  50\.0 [━─┃╸]+ +▄",
        lines_of_cars[0],
    )
    first = lines.index(lines_of_cars[0])
    names, parts = lines[first - 2 : first]
    assert names.split() == ["SPEED", "ENGINE_TEMP", "TIRE", "bar", "<1.9", "G_FORCE", "G", ">5.5", "FUEL_LEVEL"]
    assert parts.split() == ["km/h", ">340", "°C", ">110", *WHEELS, "lat", "lon", "ver", "%", "<15"]


def test_of_one_car_each_part_has_a_line():
    board = board_of(cars(8)[-10:], cars(8)[-10:], describe=describe_car)
    lines = shown(board)
    head = lines.index(" 7 DRIVER7 L42")
    names = [each.name if part is None else f"{each.name} {part}" for each, part in CAR]
    assert [line.partition("  ")[0].strip() for line in lines[head + 1 : head + 11]] == names
    assert re.match(r" TIRE_PRESSURE FL +2\.00 bar +━+.*<1\.9 .*▄▄$", lines[head + 5])
    lines = shown(board, 80, 40)
    assert lines[lines.index(" 7 DRIVER7 L42") + 1 :: 3][9].startswith(" FUEL_LEVEL ")  # of three lines each


def test_a_narrow_terminal_shows_the_worst_of_a_cars_parts():
    board = board_of(cars(), cars(1, CAR[:3], TIRE_PRESSURE=1.8)[2:], describe=describe_car)
    hear(board, 2.0, one(1.85, TIRE_PRESSURE, sensor=16 + 3), one(-3.0, G_FORCE, sensor=16 + 7))
    lines = drawn(board, 50, 24)
    cells = [text_of(line).split() for line in lines if "DRIVER" in text_of(line)]
    assert [line[-3:-1] for line in cells[:3]] == [["1.80", "1.00"], ["1.85", "1.00"], ["2.00", "1.00"]]
    assert styles_of(lines, "1.80") == ["bold red"]


def test_columns_are_dropped_from_the_end_where_it_is_narrow():
    board = board_of(cars(), describe=describe_car)
    names = ["SPEED", "ENGINE", "TIRE", "G", "FUEL"]

    def present(width):
        return next(line for line in shown(board, width) if "SPEED" in line).split()

    assert [present(width) for width in (50, 40, 36, 30, 22)] == [names, names[:4], names[:3], names[:2], names[:1]]


def test_the_cars_that_do_not_fit_are_counted():
    board = board_of(cars(), describe=describe_car)
    lines = shown(board, alerts=[alert_of(n) for n in range(9)])
    assert "... 8 more cars" in lines
    assert sum("DRIVER" in line for line in lines) == 14
    assert sum("Too fast" in line for line in lines) == 3


def test_the_driver_is_that_of_the_latest_reading():
    drivers = {1: "BEFORE", 2: "AFTER"}
    board = Board(display(), (), lambda sensor_id, flags: {"car": 0, "driver": drivers[flags], "lap": flags})
    for flags, said in ((1, "BEFORE L1"), (2, "AFTER"), (1, "BEFORE L1")):
        hear(board, flags, one(100.0, flags=flags))
        assert f" 0 {said}" in "\n".join(shown(board))


def test_cars_keep_their_order():
    board = board_of(cars(20), describe=describe_car)
    for each in (cars(22)[150:], cars(3), cars(22)[:7]):
        hear(board, 1.0, each)
    assert [line.split()[0] for line in shown(board, 120, 40) if "DRIVER" in line] == [str(car) for car in range(22)]


def test_a_car_that_is_not_heard_any_more_is_dim():
    board = board_of(cars(3), *[cars(2)] * 8, describe=describe_car)
    lines = drawn(board)
    assert styles_of([line for line in lines if "DRIVER2" in text_of(line)], "200") == ["dim"]
    assert styles_of([line for line in lines if "DRIVER1" in text_of(line)], "200") == ["bold"]


# Several sessions ----------------------------------------------------------------------------------------------------

SESSIONS = (9645314088496810282, 1234567890123450154)


def describe_session(sensor_id, flags):
    session, rest = divmod(sensor_id, 512)
    return {**describe_car(rest, flags), "session": SESSIONS[session % 2] + session // 2, "several": True}


def session(number, count=3, **values):
    """A reading of each part of each car of a session."""
    found = cars(count, **values)
    found["sensor_id"] += 512 * number
    return found


def cars_in(lines):
    """What stands before the drivers."""
    return [re.split(r" +DRIVER", line)[0].split() for line in lines if "DRIVER" in line]


def test_cars_of_several_sessions_are_lines_of_their_own():
    board = board_of(session(1, SPEED=150.0), session(0), session(1, SPEED=151.0), describe=describe_session)
    lines = shown(board)
    assert cars_in(lines) == [[name, str(car)] for name in ("0282", "0154") for car in range(3)]
    assert [("200" in line, "151" in line) for line in lines if "DRIVER" in line] == [(True, False)] * 3 + [
        (False, True)
    ] * 3


def test_one_car_of_each_of_several_sessions():
    board = board_of(session(0, 1), session(1, 1), describe=describe_session)
    assert cars_in(shown(board)) == [["0282", "0"], ["0154", "0"]]


def test_one_session_is_not_named():
    board = board_of(session(1), session(1), describe=describe_session)
    assert cars_in(shown(board)) == [[str(car)] for car in range(3)]


def test_a_session_that_is_over_leaves_the_view_to_the_next_one():
    board = board_of(session(0), session(0), describe=describe_session)
    hear(board, 2.0, session(1, 2, SPEED=150.0))
    assert len(cars_in(shown(board))) == 5
    hear(board, 61.5, session(1, 2, SPEED=160.0))  # the first one was heard at 1.0
    assert cars_in(shown(board)) == [["0"], ["1"]]
    assert {each.session for each in board.series} == {SESSIONS[1]}
    assert len(board.series) == 20
    speeds = [row for row, each in enumerate(board.series) if each.channel is SPEED]
    assert board.latest[speeds].tolist() == [160.0, 160.0]
    assert board.low[speeds].tolist() == [150.0, 150.0]
    assert board.history[speeds, -2:].tolist() == [[150.0, 160.0]] * 2
    assert np.isnan(board.latest[20:]).all()
    assert np.isnan(board.history[20:]).all()
    assert board.over(np.array(speeds), np.array([341.0, 339.0])).tolist() == [True, False]
    board.ring.put_many(session(0, 1))  # it goes on after all
    board.update(62.0)
    assert cars_in(shown(board)) == [["0282", "0"], ["0154", "0"], ["0154", "1"]]


def test_a_session_that_is_paused_keeps_its_history():
    board = board_of(session(0, SPEED=100.0), session(0, SPEED=101.0), describe=describe_session)
    for second in range(2, 61):
        hear(board, second, session(1, 1))
    lines = drawn(board)
    assert styles_of([line for line in lines if text_of(line).startswith("0282")], "101") == ["dim"] * 3
    hear(board, 61.0, session(0, SPEED=102.0))
    speeds = [row for row, each in enumerate(board.series) if each.channel is SPEED and each.session == SESSIONS[0]]
    assert board.low[speeds].tolist() == [100.0] * 3
    assert board.history[speeds, -2:].tolist() == [[101.0, 102.0]] * 3


def test_cars_that_are_heard_come_first_where_room_is_short():
    board = board_of(session(0, 22), describe=describe_session)
    hear(board, 6.0, session(1, 22))
    lines = shown(board)
    assert {name for name, _ in cars_in(lines)} == {"0154"}
    assert f"... {44 - len(cars_in(lines))} more cars" in lines


def test_a_full_board_has_room_again_when_all_of_it_is_over():
    board = board_of(readings(np.arange(MOST_SERIES + 10.0), sensors=MOST_SERIES + 10))
    assert board.overfull
    for second in (61.0, 62.0):
        hear(board, second, one(7.0, sensor=10_000))
    assert [each.sensor_id for each in board.series] == [10_000]
    assert not board.overfull


def test_the_only_session_stays_when_it_is_over():
    board = board_of(session(0), describe=describe_session)
    board.update(600.0)
    assert len(cars_in(shown(board))) == 3


def test_sessions_that_are_over_leave_room_for_the_next_ones():
    board = board_of(describe=describe_session)
    for number in range(100):
        hear(board, 61.0 * number, session(number, 22))
    assert not board.overfull
    assert cars_in(shown(board, 80, 60)) == [[str(car)] for car in range(22)]


def test_an_alert_names_its_session():
    lines = shown(board_of(session(0), describe=describe_session), alerts=[alert_of(1, car=3, session=SESSIONS[0])])
    assert "0282 3  SPEED" in "\n".join(lines)


def test_the_value_and_message_of_an_alert_of_several_sessions_fit_into_a_line():
    alert = alert_of(95.089, car=2, driver="HULKENBERG", lap=2, part="longitudinal", session=SESSIONS[0])
    [line] = [line for line in shown(board_of(), alerts=[alert]) if "HULKENBERG" in line]
    assert line == "95.089  0282 2 HULKENBERG L2 longitudinal  SPEED 341.5 km/h (>340)  Too fast"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (120, 40)])
def test_each_session_is_seen(width, height):
    board = board_of(session(0, 22), session(1, 22), describe=describe_session)
    lines = shown(board, width, height, notes=[("a note", "")] * 2)
    seen = cars_in(lines)
    counts = {name: [int(car) for session, car in seen if session == name] for name in ("0282", "0154")}
    assert [session for session, _ in seen] == sorted((session for session, _ in seen), reverse=True)
    assert all(its == list(range(len(its))) and its for its in counts.values())
    assert 0 <= len(counts["0282"]) - len(counts["0154"]) <= 1
    assert f"... {44 - len(seen)} more cars" in lines


def test_a_larger_session_gets_the_room_that_a_smaller_one_leaves():
    board = board_of(session(0, 22), session(1, 2), describe=describe_session)
    seen = cars_in(shown(board))
    assert [car for session, car in seen if session == "0154"] == ["0", "1"]
    assert len([car for session, car in seen if session == "0282"]) > 4


def test_sessions_whose_numbers_end_alike_are_told_apart():
    alike = {0: 9645314088496810282, 1: 77770282}
    board = board_of(
        session(0, 1),
        session(1, 2),
        describe=lambda sensor_id, flags: {**describe_session(sensor_id, flags), "session": alike[sensor_id // 512]},
    )
    assert cars_in(shown(board)) == [["10282", "0"], ["70282", "0"], ["70282", "1"]]


# The board -----------------------------------------------------------------------------------------------------------


class Busy(RingBuffer):
    """A ring to which another reading comes right after each look into it."""

    def _then(self, looked):
        self.put_many(one(100.0))
        return looked

    def stats(self):
        return self._then(super().stats())

    def snapshot(self, *args):
        return self._then(super().snapshot(*args))

    def get_many(self, *args, **options):
        return self._then(super().get_many(*args, **options))


def test_readings_that_come_during_an_update_are_not_missed():
    ring = Busy(16, READING, overflow="drop_oldest")
    board = Board(ring, [Threshold("SPEED", above=340, message="Too fast")])
    for value in (400.0, 401.0, 99.0, 402.0):
        ring.put_many(one(value))
        board.update(0.0)
    assert board.history[0, -4:].tolist() == [400.0, 401.0, 100.0, 402.0]
    assert board.latest[0] == 402.0
    assert ring.qsize() == 1


def test_the_latest_reading_of_each_series_counts():
    board = board_of(readings(np.arange(5000.0), sensors=7))
    latest = {each.sensor_id: board.latest[i] for i, each in enumerate(board.series)}
    assert latest == {n % 7: n for n in range(4993, 5000)}


def test_a_series_without_a_reading_stays_where_it_was():
    board = board_of(np.concatenate([one(1.0, sensor=1), one(5.0, sensor=2)]), one(2.0, sensor=1), one(3.0, sensor=1))
    assert board.history[:2, -3:].tolist() == [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]
    board.update(9.0)  # nothing has come
    assert board.history[0, -3:].tolist() == [1.0, 2.0, 3.0]


def test_a_board_sees_what_its_ring_still_holds():
    board = Board(RingBuffer(10, READING, overflow="drop_oldest"))
    hear(board, 0.0, readings(np.arange(1000.0)))
    assert (board.latest[0], board.low[0], board.high[0]) == (999.0, 990.0, 999.0)


def test_readings_of_no_channel_and_of_too_many_series_are_not_followed():
    strange = one(7.0)
    strange["channel"] = 0
    board = board_of(strange, one(8.0))
    assert [each.channel for each in board.series] == [SPEED]
    many = readings(np.arange(MOST_SERIES + 10.0), sensors=MOST_SERIES + 10)
    board = board_of(many, many)
    assert board.overfull
    assert "... at least 4," in "\n".join(shown(board))
    assert len(board.series) == MOST_SERIES
    assert board.latest[:MOST_SERIES].tolist() == list(range(MOST_SERIES))
    for array in (board.latest, board.low, board.high, board.history[:, -1]):
        assert np.isnan(array[NOBODY])


# Names of anybody ----------------------------------------------------------------------------------------------------

EVIL = "\x1b[2J[red]E\nV\u202eI\x07L[/red]"


def test_names_are_shown_neither_as_markup_nor_as_control_characters():
    channel = Channel(f"C{EVIL}", f"U{EVIL}", (0.0, 1.0))
    limit = Threshold(channel.name, above=0.5, message=f"M{EVIL}")
    boards = [
        course(0.7, channel=channel, thresholds=(limit,)),
        course(0.7, channel=channel, thresholds=(limit,), describe=lambda *_: {"car": 1, "driver": EVIL, "part": EVIL}),
        course(0.7, channel=channel, thresholds=(limit,), describe=lambda *_: {"part": f"P{EVIL}"}),
    ]
    alert = Alert("rise", 1.0, 1, 1, channel.name, 0.7, channel.unit, limit, 1, EVIL, EVIL)
    said = {"alerts": [alert], "notes": [(EVIL, "red")]}
    options = {**said, "what": EVIL, "losses": {EVIL: 1}, "recorder": (EVIL, "red")}
    for board in boards:
        text = "".join(shown(board, 300, 60, **options))
        assert text.isprintable()
        assert "[red]" in text


def test_wide_characters_keep_their_columns():
    drivers = "周冠宇", "é́", "JOHN"
    board = Board(display(), (), lambda sensor_id, flags: {"car": sensor_id, "driver": drivers[sensor_id]})
    hear(board, 0.0, np.concatenate([one(100.0 + sensor, sensor=sensor) for sensor in range(3)]))
    lines = [line for line in shown(board) if re.search(r" 10\d ", line)]
    assert len({cell_len(line.partition(" 10")[0]) for line in lines}) == 1


def test_a_terminal_without_unicode():
    for board in (board_of(*sensors(1)), board_of(cars(), describe=describe_car)):
        text = "\n".join(map(in_ascii, shown(board, 120, 40)))
        assert text.isascii()
        assert re.search("=+-?[.]*[|]", text)


# The head and the alerts ---------------------------------------------------------------------------------------------


def test_the_head_says_how_it_does():
    run = {"what": "replay of race.sqlite3", "seconds": 3725.9, "rate": 13_211.4, "analysed": 158_544, "size": 4096}
    so_far = {"latency_s": {"p50": 0.00021, "p99": 0.0012}, "losses": {"in the buffer": 0, "on the network": 0}}
    recorder = "recording to race/: 12 parts", "green"
    text = "\n".join(shown(board_of(), **run, **so_far, capacity=8192, rejected=17, recorder=recorder))
    assert text.startswith("f1buf replay of race.sqlite3  ")
    for said in ("1:02:05  Ctrl-C stops", "13,211 readings/s", "158,544 analysed", "buffer ━━━━━───── 4,096/8,192"):
        assert said in text
    for said in ("latency 210 µs p50, 1.2 ms p99", "nothing lost", "17 rejected", "recording to race/: 12 parts"):
        assert said in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10)])
def test_losses_come_first_and_are_red(width, height):
    lines = drawn(board_of(), width, height, losses={"in the buffer": 0, "on the network": 1234})
    assert text_of(lines[1]).startswith("lost 1,234 on the network  ")
    assert styles_of(lines, "lost 1,234 on the network") == ["bold red"]
    assert "in the buffer" not in "".join(map(text_of, lines))


def test_a_drain_is_said_instead_of_the_time():
    assert re.search(r"draining: 1,234 left +Ctrl-C ends at once$", shown(board_of(), draining=1234)[0])


def test_the_latest_notes_are_shown():
    lines = shown(board_of(), notes=[(f"note {n}", "red") for n in range(9)])
    assert [line for line in lines if line.startswith("note")] == [f"note {n}" for n in range(3, 9)]


def test_the_newest_alerts_are_shown_and_all_are_counted():
    board = board_of(*sensors(12))
    lines = shown(board, alerts=[alert_of(n, car=3, driver="NAME") for n in range(100)], alert_count=12_345)
    first = next(i for i, line in enumerate(lines) if line.startswith("── 12,345 alerts ──"))
    assert len(lines) - first - 1 >= 3
    assert lines[first + 1 :] == [
        f"{n:.3f}  car 3 NAME  SPEED 341.5 km/h (>340)  Too fast" for n in range(100)[first + 1 - len(lines) :]
    ]


def test_an_alert_of_unix_time_shows_the_time_of_day():
    began = 1_764_142_112.25
    text = "\n".join(shown(board_of(), alerts=[alert_of(began)]))
    assert time.strftime("%H:%M:%S.250  sensor 7", time.localtime(began)) in text


# What it costs, and that nothing waits -------------------------------------------------------------------------------


@pytest.fixture
def terminal_file(monkeypatch):
    """A terminal of 80 x 24 as a text file; what is shown on it is read and dropped."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "COLUMNS", "LINES", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def read():
        with contextlib.suppress(OSError):
            while os.read(master, 65_536):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    with open(slave, "w", encoding="utf-8") as file:
        yield file
    reader.join()
    os.close(master)


def test_after_a_frame_that_took_long_there_is_a_long_rest(terminal_file, monkeypatch):
    view = View(RichConsole(file=terminal_file, force_terminal=True), board_of(*sensors(1)))
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    try:
        assert view.due(50.0)
        for took, draining, rest in ((0.001, None, 0.25), (0.02, None, 0.6), (9.0, None, 1.0), (9.0, 1, 0.25)):
            clock.step = took
            view.draw(Progress("test", draining=draining), 50.0)
            assert not view.due(50.0 + rest * 0.99)
            assert view.due(50.0 + rest * 1.01)
    finally:
        view.close()


@pytest.fixture
def console(terminal_file, monkeypatch):
    """A console that has a view; its list `said` gets what it prints: (text, style)."""
    monkeypatch.setattr("sys.stderr", terminal_file)
    console = Console()
    console.said = []
    monkeypatch.setattr(console, "print", lambda *line: console.said.append(line))
    return console


@pytest.fixture
def drawn_progress(monkeypatch):
    """What the view is to draw, instead of drawing it."""
    seen = []
    monkeypatch.setattr(View, "draw", lambda self, progress, now: seen.append(progress))
    return seen


@contextlib.contextmanager
def watched(console, *told, system=None, **options):
    """Watch a system of the console's; what brings its progress up to date."""
    system = system or F1TelemetrySystem(display=console.display)
    with console.watching(Watched(system, "test", *told, **options)):
        yield lambda draining=False: console.progress(system, draining)


def test_an_alert_does_not_wait_for_a_frame(console, monkeypatch):
    drawing, go_on = threading.Event(), threading.Event()

    def draw(self, progress, now):
        drawing.set()
        assert go_on.wait(WATCHDOG)

    def report():
        assert drawing.wait(WATCHDOG)
        console.alert(alert_of(1))
        console.line("a line")
        go_on.set()

    monkeypatch.setattr(View, "draw", draw)
    reporter = threading.Thread(target=report)
    with watched(console) as progress:
        reporter.start()
        progress()
        reporter.join()
    assert go_on.is_set()


def test_a_view_that_fails_ends_and_the_run_goes_on(console):
    def recorder():
        raise OSError("no such state")

    with watched(console, recorder=recorder) as progress:
        console.line("before")
        with pytest.raises(OSError, match="no such state"):  # the runner tells it
            progress()
        console.line("after")
        progress(draining=True)
    assert [text for text, *_ in console.said] == ["before", "after", "draining: 0 readings left"]


def test_losses_of_the_buffer_and_of_the_source_are_shown(console, drawn_progress):
    system = F1TelemetrySystem(10, overflow="drop_oldest", display=console.display)
    system.ring.put_many(readings(np.zeros(25)))
    losses, rejected = {"on the network": 7}, {"truncated": 2, "oversized": 1}
    with watched(console, lambda: losses, lambda: rejected, system=system) as progress:
        progress()
        progress(draining=True)
    assert [each.draining for each in drawn_progress] == [None, 0]
    first = drawn_progress[0]
    assert (first.losses, first.rejected) == ({"in the buffer": 15, "on the network": 7}, 3)
    assert (first.size, first.capacity) == (10, 10)


def test_a_drain_is_drawn_at_once(console, drawn_progress, monkeypatch):
    monkeypatch.setattr(View, "due", lambda self, now: False)
    with watched(console) as progress:
        for draining in (False, True, True):
            progress(draining)
    assert [each.draining for each in drawn_progress] == [0]


@pytest.fixture
def bare_terminal():
    """Both ends of a terminal, the one to write to as a text file."""
    master, slave = pty.openpty()
    with open(master, "rb", buffering=0) as other_end, open(slave, "w", encoding="utf-8") as file:
        yield other_end, file


def entered(file):
    """A view that has drawn a frame; the terminal is so small that nobody has to read it."""
    fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("4H", 3, 10, 0, 0))
    view = View(RichConsole(file=file, force_terminal=True), board_of())
    view.draw(Progress("test"), 0.0)
    return view


def test_a_terminal_that_is_gone_is_left_all_the_same(bare_terminal):
    other_end, file = bare_terminal
    handler = signal.getsignal(signal.SIGTSTP)
    view = entered(file)
    other_end.close()
    with pytest.raises(OSError, match="Input/output error"):
        os.write(file.fileno(), b"x")
    view.close()
    assert signal.getsignal(signal.SIGTSTP) == handler


def test_an_end_at_once_does_not_wait_for_a_terminal_that_takes_nothing(bare_terminal):
    other_end, file = bare_terminal
    view = entered(file)
    termios.tcflow(file, termios.TCOOFF)  # as Ctrl-S does
    try:
        view.leave(at_once=True)
    finally:
        termios.tcflow(file, termios.TCOON)
        view.close()
    os.set_blocking(other_end.fileno(), False)
    assert b"\x1b[?1049l" not in other_end.read()


def test_lines_are_shown_for_a_while_and_kept(console, drawn_progress, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    with watched(console) as progress:
        console.line("of interest\nnow")
        console.line("a failure", "red")
        for _ in range(2):
            progress()
            clock.now += 40.0
    lines = [("of interest", ""), ("now", ""), ("a failure", "red")]
    assert [each.said.notes for each in drawn_progress] == [lines, lines[2:]]
    assert console.said == lines


def test_of_very_many_lines_those_left_out_are_counted_and_none_is_a_failure(console):
    with watched(console):
        console.line("a failure", "red")
        for n in range(300):
            print(f"of interest {n}", file=sys.stderr)
    interesting = [(f"of interest {n}", "") for n in range(101, 300)]
    counted = "... 101 lines among these were left out (--plain prints all)", "dim"
    assert console.said == [counted, ("a failure", "red"), *interesting]


def test_of_very_many_failures_those_left_out_are_counted(console):
    with watched(console):
        for n in range(300):
            console.line(f"failure {n}", "red")
    assert console.said[0] == ("... 100 lines among these were left out (--plain prints all)", "dim")
    assert console.said[1:] == [(f"failure {n}", "red") for n in range(100, 300)]


def test_plain_is_without_a_view(terminal_file, monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal_file)
    assert Console().display is not None
    assert Console(plain=True).display is None
