"""Channels, their numbers, and readings for people."""

import math
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from f1buf.ring.reading import READING
from f1buf.telemetry import channels
from f1buf.telemetry.channels import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    SPEED,
    TIRE_PRESSURE,
    Channel,
    TelemetryData,
    channel_by_number,
    channels_by_name,
    known_channels,
)


@pytest.mark.parametrize(
    ("channel", "name", "unit", "limits"),
    [
        (SPEED, "SPEED", "km/h", (0.0, 350.0)),
        (ENGINE_TEMP, "ENGINE_TEMP", "°C", (80.0, 120.0)),
        (TIRE_PRESSURE, "TIRE_PRESSURE", "bar", (1.8, 2.5)),
        (G_FORCE, "G_FORCE", "G", (0.0, 6.0)),
        (FUEL_LEVEL, "FUEL_LEVEL", "%", (0.0, 100.0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_five_channels(channel, name, unit, limits):
    assert (channel.name, channel.unit, channel.range) == (name, unit, limits)
    assert str(channel) == f"{name} [{unit}]"


def test_a_channel_is_new_by_name_unit_or_range():
    first = Channel("OIL_PRESSURE", "bar", (0, 8))
    assert Channel("OIL_PRESSURE", "bar", (0.0, 8.0)) == first
    assert Channel("OIL_PRESSURE", "bar", (0.0, 8.0)).number == first.number
    others = [
        Channel("OIL_PRESSURE", "psi", (0, 8)),
        Channel("OIL_PRESSURE", "bar", (0, 9)),
        Channel("OIL_PRESSURE_2", "bar", (0, 8)),
    ]
    assert first not in others
    assert len({channel.number for channel in [first, *others]}) == 4


def test_numbers_fit_the_record_and_none_is_zero():
    numbers = [channel.number for channel in known_channels()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert np.array([(0.0, 1, numbers[-1], 0, 0.0)], READING)["channel"][0] == numbers[-1]


def test_the_range_may_be_unknown():
    assert Channel("SOMETHING", "").range == (-math.inf, math.inf)
    assert str(Channel("SOMETHING", "")) == "SOMETHING"


def test_a_channel_cannot_be_changed():
    with pytest.raises(AttributeError):
        SPEED.name = "VELOCITY"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("", "bar", (0, 1)), ValueError, "name is ''"),
        (("  ", "bar", (0, 1)), ValueError, "name is '  '"),
        ((3, "bar", (0, 1)), ValueError, "name is 3"),
        (("X", None, (0, 1)), TypeError, "channel X: the unit is None"),
        (("X", "bar", (1, 1)), ValueError, r"channel X: the range is \(1, 1\): expected \(low, high\) with low < high"),
        (("X", "bar", (2, 1)), ValueError, "low < high"),
        (("X", "bar", (math.nan, 1)), ValueError, "low < high"),
        (("X", "bar", (1, 2, 3)), ValueError, "two numbers"),
        (("X", "bar", 5), ValueError, "two numbers"),
        (("X", "bar", ("a", "b")), ValueError, "two numbers"),
    ],
    ids=repr,
)
def test_a_wrong_channel_is_refused(arguments, error, words):
    before = known_channels()
    with pytest.raises(error, match=words):
        Channel(*arguments)
    assert known_channels() == before


def test_too_many_channels(monkeypatch):
    monkeypatch.setattr(channels, "MAX_CHANNELS", len(known_channels()))
    assert Channel("SPEED", "km/h", (0, 350)) == SPEED
    with pytest.raises(OverflowError, match="channel ONE_TOO_MANY: this process already has"):
        Channel("ONE_TOO_MANY", "")
    assert not channels_by_name("ONE_TOO_MANY")


def test_look_up_by_number():
    assert channel_by_number(SPEED.number) is SPEED
    assert channel_by_number(np.uint16(FUEL_LEVEL.number)) is FUEL_LEVEL


@pytest.mark.parametrize("number", [0, 65_535, -1])
def test_look_up_of_an_unknown_number(number):
    with pytest.raises(KeyError, match=f"no channel has the number {number}"):
        channel_by_number(number)


def test_look_up_by_name_finds_every_unit():
    bar, psi = Channel("RAIL_PRESSURE", "bar", (0, 2)), Channel("RAIL_PRESSURE", "psi", (0, 30))
    assert channels_by_name("RAIL_PRESSURE") == (bar, psi)
    assert channels_by_name("rail_pressure") == ()


def test_a_pickled_channel_gets_its_number_in_the_other_process():
    for i in range(50):  # that the other process does not know
        Channel(f"BEFORE_THE_PICKLED_{i}", "")
    channel = Channel("PICKLED", "V", (0, 5))
    assert pickle.loads(pickle.dumps(channel)) == channel
    program = (
        "import pickle, sys; from f1buf.telemetry.channels import *; "
        "channel = pickle.load(sys.stdin.buffer); "
        "assert channel.range == (0, 5) and known_channels()[-1] == channel == channel_by_number(channel.number); "
        "assert channel.number == len(known_channels())"
    )
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(channel), check=True)


def test_threads_that_create_the_same_channels_agree():
    barrier = threading.Barrier(8)
    found = []

    def create():
        barrier.wait()
        found.append([Channel(f"MADE_BY_THREADS_{i}", "", (0, 1)).number for i in range(200)])

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(numbers == found[0] for numbers in found)
    assert len(set(found[0])) == 200


@pytest.mark.parametrize("kind", ["record", "scalar array", "tuple"])
def test_a_reading_for_people(kind):
    fields = (12.34567, 3, ENGINE_TEMP.number, 0, 112.4)
    array = np.array([fields], READING)
    reading = {"record": array[0], "scalar array": array[0:1].reshape(()), "tuple": fields}[kind]
    data = TelemetryData.from_reading(reading)
    assert data == TelemetryData(12.34567, 3, "ENGINE_TEMP", 112.4, "°C")
    assert str(data) == "12.346 s  sensor 3  ENGINE_TEMP 112.4 °C"
    assert [type(field) for field in data] == [float, int, str, float, str]


def test_a_reading_without_a_unit_ends_with_its_value():
    number = Channel("GEAR", "", (-1, 8)).number
    assert str(TelemetryData.from_reading((1.0, 2, number, 0, 4))) == "1.000 s  sensor 2  GEAR 4"


def test_a_reading_of_no_channel():
    with pytest.raises(KeyError, match="no channel has the number 0"):
        TelemetryData.from_reading(np.zeros(1, READING)[0])


@pytest.mark.parametrize("value", [(1.0, 2, 3), np.zeros(2, READING), 5, None], ids=repr)
def test_a_wrong_reading_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        TelemetryData.from_reading(value)
