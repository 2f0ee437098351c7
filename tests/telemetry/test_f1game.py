"""The decoder of the F1 games' datagrams: layouts against the package f1-packets, values, and hostile input."""

import ctypes
import pickle
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import Task, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE
from f1buf.telemetry.sources.game import sessions
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.packets import (
    CAR_STATUS,
    CAR_TELEMETRY,
    FORMATS,
    HEADER,
    LAP_DATA,
    MOTION,
    PARTICIPANTS,
)

pytestmark = pytest.mark.filterwarnings("error")  # numpy would warn of NaN and of division by zero

YEARS = sorted(FORMATS)
DECODED = (MOTION, LAP_DATA, PARTICIPANTS, CAR_TELEMETRY, CAR_STATUS)
PARTS = {MOTION: 3, CAR_TELEMETRY: 6, CAR_STATUS: 1}  # readings a car
CARS = {MOTION: "car_motion_data", CAR_TELEMETRY: "car_telemetry_data", CAR_STATUS: "car_status_data"}
ACTIVE = 20
BAR_PER_PSI = 0.0689475729

each_year = pytest.mark.parametrize("year", YEARS)
each_packet = pytest.mark.parametrize("packet_id", DECODED)


# The layouts, against f1-packets -------------------------------------------------------------------------------------


def reference(modules: dict[int, ModuleType], year: int, packet_id: int) -> type[ctypes.Structure]:
    return modules[year].HEADER_FIELD_TO_PACKET_TYPE[year, 1, packet_id]


Leaf = tuple[str, int, int, str]  # path, offset, size, type


def ctypes_leaves(kind: Any, path: str = "", offset: int = 0) -> Iterator[Leaf]:
    if issubclass(kind, ctypes.Structure):
        for name, field_type in kind._fields_:
            yield from ctypes_leaves(field_type, f"{path}.{name}", offset + getattr(kind, name).offset)
    elif issubclass(kind, ctypes.Array) and kind._type_ is not ctypes.c_char:
        for index in range(kind._length_):
            yield from ctypes_leaves(kind._type_, f"{path}[{index}]", offset + index * ctypes.sizeof(kind._type_))
    else:
        is_text = issubclass(kind, ctypes.Array)
        yield path, offset, ctypes.sizeof(kind), "text" if is_text else np.dtype(kind).newbyteorder("<").str


def numpy_leaves(kind: np.dtype[Any], path: str = "", offset: int = 0) -> Iterator[Leaf]:
    if kind.names is not None:
        for name in kind.names:
            field_type, field_offset = kind.fields[name][:2]
            yield from numpy_leaves(field_type, f"{path}.{name}", offset + field_offset)
    elif kind.subdtype is not None:
        for index in range(kind.shape[0]):
            yield from numpy_leaves(kind.base, f"{path}[{index}]", offset + index * kind.base.itemsize)
    else:
        yield path, offset, kind.itemsize, "text" if kind.kind == "S" else kind.newbyteorder("<").str


@each_packet
@each_year
def test_every_field_is_where_f1_packets_has_it(f1_packets, year, packet_id):
    theirs = reference(f1_packets, year, packet_id)
    ours = FORMATS[year].packets[packet_id]
    assert list(numpy_leaves(ours)) == list(ctypes_leaves(theirs))
    assert ours.itemsize == ctypes.sizeof(theirs)


@each_year
def test_header_layout(f1_packets, year):
    assert list(numpy_leaves(HEADER)) == list(ctypes_leaves(f1_packets[year].PacketHeader))
    assert HEADER.itemsize == 29


@each_year
def test_known_packet_ids_are_those_of_f1_packets(f1_packets, year):
    ids = [packet_id for (_, _, packet_id) in f1_packets[year].HEADER_FIELD_TO_PACKET_TYPE]
    assert list(FORMATS[year].packet_ids) == sorted(ids)


@pytest.mark.parametrize(("year", "slots", "telemetry_size"), [(2025, 22, 60), (2026, 24, 59)])
def test_slots_and_size_of_a_car(year, slots, telemetry_size):
    cars = FORMATS[year].packets[CAR_TELEMETRY]["car_telemetry_data"]
    assert FORMATS[year].slots == slots
    assert cars.shape == (slots,)
    assert cars.base.itemsize == telemetry_size


# Building datagrams --------------------------------------------------------------------------------------------------


def blank(year: int, packet_id: int, *, time: float = 12.5, frame: int = 7, player: int = 1, uid: int = 99) -> Any:
    """A packet as a numpy record. No slot is empty, that is all zero: each has a value that becomes no reading."""
    packet = np.zeros((), FORMATS[year].packets[packet_id])
    header = packet["header"]
    header["packet_format"] = year
    header["packet_version"] = 1
    header["packet_id"] = packet_id
    header["session_uid"] = uid
    header["session_time"] = time
    header["overall_frame_identifier"] = frame
    header["player_car_index"] = player
    header["secondary_player_car_index"] = 255
    if packet_id == PARTICIPANTS:
        packet["num_active_cars"] = ACTIVE
    if packet_id == MOTION:
        packet["car_motion_data"]["world_forward_dir_x"] = 32767
    if packet_id == CAR_TELEMETRY:
        packet["car_telemetry_data"]["tyres_surface_temperature"] = 80
    if packet_id == CAR_STATUS:
        packet["car_status_data"]["fuel_capacity"] = 110.0
        packet["car_status_data"]["max_gears"] = 9
    return packet


def datagram(year: int, packet_id: int, **header: Any) -> bytes:
    return blank(year, packet_id, **header).tobytes()


def primed(year: int, cars: Any = "all") -> Decoder:
    decoder = Decoder(cars)
    assert len(decoder.decode(datagram(year, PARTICIPANTS))) == 0
    return decoder


# Values --------------------------------------------------------------------------------------------------------------


def filled(modules: dict[int, ModuleType], year: int, packet_id: int, time: float = 12.5) -> Any:
    """A packet of f1-packets, with the header that `primed` expects."""
    packet = reference(modules, year, packet_id)()
    packet.header.packet_format = year
    packet.header.packet_version = 1
    packet.header.packet_id = packet_id
    packet.header.session_uid = 99
    packet.header.session_time = time
    packet.header.player_car_index = 1
    return packet


@each_year
def test_values_of_car_telemetry(f1_packets, year):
    packet = filled(f1_packets, year, CAR_TELEMETRY)
    for index, car in enumerate(packet.car_telemetry_data):
        car.speed = 300 + index
        car.engine_temperature = 100 + index
        car.tyres_pressure[:] = [20 + index, 21 + index, 22 + index, 23 + index]
    readings = primed(year).decode(bytes(packet))
    assert readings.dtype == READING
    assert readings.flags.c_contiguous
    assert readings.flags.writeable
    assert (readings["timestamp"] == 12.5).all()
    assert (readings["flags"] == 0).all()
    assert readings["sensor_id"].tolist() == [car * 16 + part for car in range(ACTIVE) for part in range(6)]
    channels = [SPEED.number, ENGINE_TEMP.number, *[TIRE_PRESSURE.number] * 4]
    assert readings["channel"].tolist() == channels * ACTIVE
    expected = np.array([300, 100, *(np.arange(20, 24) * BAR_PER_PSI)]) + np.outer(
        np.arange(ACTIVE), [1, 1, *[BAR_PER_PSI] * 4]
    )
    assert readings["value"].reshape(ACTIVE, 6) == pytest.approx(expected)


@each_year
def test_values_of_motion(f1_packets, year):
    packet = filled(f1_packets, year, MOTION)
    units = {2025: 1, 2026: 1000}[year]
    for index, car in enumerate(packet.car_motion_data):
        car.g_force_lateral = -4 * units
        car.g_force_longitudinal = index * units
        car.g_force_vertical = 5.5 * units if year == 2025 else 5500
    readings = primed(year).decode(bytes(packet))
    assert readings["sensor_id"].tolist() == [car * 16 + part for car in range(ACTIVE) for part in (6, 7, 8)]
    assert (readings["channel"] == G_FORCE.number).all()
    expected = [value for car in range(ACTIVE) for value in (-4.0, float(car), 5.5)]
    assert readings["value"].tolist() == expected


@each_year
def test_values_of_car_status(f1_packets, year):
    packet = filled(f1_packets, year, CAR_STATUS)
    for index, car in enumerate(packet.car_status_data):
        car.fuel_in_tank = index
        car.fuel_capacity = 110
    readings = primed(year).decode(bytes(packet))
    assert readings["sensor_id"].tolist() == [car * 16 + 9 for car in range(ACTIVE)]
    assert (readings["channel"] == FUEL_LEVEL.number).all()
    assert readings["value"].tolist() == [100 * car / 110 for car in range(ACTIVE)]


SIGNALLING_NAN = 0x7FA00000


@pytest.mark.parametrize("value", [7.25, np.nan, SIGNALLING_NAN, np.inf, -np.inf, -1e30, 1e30])
def test_only_an_absurd_value_is_left_out(value):
    decoder = primed(2025)
    packet = blank(2025, MOTION)
    field = packet["car_motion_data"]["g_force_longitudinal"]
    (field.view("<u4") if value == SIGNALLING_NAN else field)[3] = value
    absurd = int(value != 7.25)
    readings = decoder.decode(packet.tobytes())
    assert len(readings) == ACTIVE * 3 - absurd
    assert (3 * 16 + 7 in readings["sensor_id"]) != absurd
    assert decoder.rejected["absurd value"] == decoder.rejected.total() == absurd


@pytest.mark.parametrize(("in_tank", "capacity"), [(0, 0), (5, 0), (111, 110), (-1, 110), (5, -1), (1e38, 1e-45)])
def test_impossible_fuel_is_left_out(in_tank, capacity):
    decoder = primed(2026)
    packet = blank(2026, CAR_STATUS)
    packet["car_status_data"]["fuel_in_tank"][0] = in_tank
    packet["car_status_data"]["fuel_capacity"][0] = capacity
    assert decoder.decode(packet.tobytes())["sensor_id"].tolist() == [car * 16 + 9 for car in range(1, ACTIVE)]
    assert decoder.rejected == {"absurd value": 1}


def test_readings_are_the_callers_own():
    decoder = primed(2026)
    first = decoder.decode(datagram(2026, MOTION))
    first["value"] = 9.0
    first["sensor_id"] = 0
    second = decoder.decode(datagram(2026, MOTION))
    assert (second["value"] == 0).all()
    assert second["sensor_id"].max() == (ACTIVE - 1) * 16 + 8


# Cars and drivers ----------------------------------------------------------------------------------------------------


@each_year
@pytest.mark.parametrize("packet_id", PARTS)
def test_choice_of_cars(year, packet_id):
    packet = blank(year, packet_id, player=5)
    everything = primed(year).decode(packet.tobytes())
    cars = everything["sensor_id"] // 16
    assert np.array_equal(primed(year, "player").decode(packet.tobytes()), everything[cars == 5])
    some = primed(year, iter([21, 7, 3, 7])).decode(packet.tobytes())  # car 21 is not active
    assert np.array_equal(some, everything[np.isin(cars, [3, 7])])
    assert len(primed(year, [21]).decode(packet.tobytes())) == 0


@pytest.mark.parametrize("player", [ACTIVE, 23, 24, 254])
def test_a_player_without_a_car_is_not_there(player):
    decoder = primed(2026, "player")
    for packet_id in (MOTION, CAR_TELEMETRY, CAR_STATUS):
        assert len(decoder.decode(datagram(2026, packet_id, player=player))) == 0
    assert decoder.rejected == {"car not there": 3}
    assert decoder.sessions == ()
    assert cars_of(decoder.decode(datagram(2026, MOTION, player=3))) == [3]


@each_year
@pytest.mark.parametrize("player", [22, 24, 254, 255])  # 255: the session is watched
@pytest.mark.parametrize("packet_id", PARTS)
def test_the_players_index_matters_only_where_the_players_car_is_chosen(year, player, packet_id):
    played = primed(year).decode(datagram(year, packet_id))
    for choice, cars in (("all", [*range(ACTIVE)]), ([0, 23], [0]), ([3, 7], [3, 7])):
        decoder = Decoder(choice)
        for each in (PARTICIPANTS, LAP_DATA):
            decoder.decode(datagram(year, each, player=player))
        found = decoder.decode(datagram(year, packet_id, player=player))
        assert np.array_equal(found, played[np.isin(played["sensor_id"] // 16, cars)])
        assert not decoder.rejected


@pytest.mark.parametrize(
    ("choice", "cars", "reason"),
    [
        ([23], 20, "car not there"),
        ([21, 22], 20, "car not there"),
        ("player", 20, "car not there"),
        ("all", 0, "no cars"),
    ],
)
def test_datagrams_without_a_car_that_is_wanted_are_counted(choice, cars, reason):
    decoder = Decoder(choice)
    decoder.decode(participants(cars=cars))
    for packet_id in (LAP_DATA, MOTION, CAR_TELEMETRY, CAR_STATUS):
        assert len(decoder.decode(datagram(2026, packet_id, player=22))) == 0
    assert decoder.rejected == {reason: 3}


def test_a_chosen_car_whose_slot_is_empty_is_not_there():
    decoder = primed(2026, [1, 2])
    assert cars_of(decoder.decode(telemetry(2026, 100, 200, -1))) == [1]
    assert not decoder.rejected
    assert len(decoder.decode(telemetry(2026, 100, -1, -1))) == 0
    assert decoder.rejected == {"car not there": 1}


@pytest.mark.parametrize("cars", ["leader", "", [], [-1], [24], [1.5], ["1"], 3, None])
def test_senseless_choice_of_cars(cars):
    with pytest.raises(ValueError, match=r"^cars .*expected 'all', 'player' or car indices from 0 to 23$"):
        Decoder(cars)


@each_year
def test_describe(year):
    packet = blank(year, PARTICIPANTS)
    packet["participants"]["name"][:4] = ["PÉREZ".encode(), b"", b"A\0B", b"\xff\x1b[2J"]
    decoder = Decoder()
    nothing = {"driver": None, "lap": None, "part": None, "several": False}
    assert decoder.describe(0) == {"car": 0, "session": None, **nothing}
    decoder.decode(packet.tobytes())
    nothing["session"] = 99
    assert decoder.describe(0) == {**nothing, "car": 0, "driver": "PÉREZ"}
    decoder.decode(laps(year, [0, 3, 57]))
    assert decoder.describe(np.uint32(16 + 1)) == {**nothing, "car": 1, "lap": 3}
    assert decoder.describe(2 * 16 + 4) == {**nothing, "car": 2, "driver": "A", "lap": 57, "part": "FL"}
    assert decoder.describe(3 * 16 + 8) == {**nothing, "car": 3, "driver": "��[2J", "part": "vertical"}
    assert decoder.describe(23 * 16 + 9) == {**nothing, "car": 23}


def test_names_of_all_parts():
    decoder = Decoder()
    names = [None, None, "RL", "RR", "FL", "FR", "lateral", "longitudinal", "vertical", None]
    assert [decoder.describe(part)["part"] for part in range(10)] == names


@pytest.mark.parametrize("sensor_id", [-1, 10, 15, 24 * 16, 512 + 24 * 16, 2**32 - 1, 2**32])
def test_describe_unknown_sensor(sensor_id):
    with pytest.raises(ValueError, match=f"sensor_id is {sensor_id}: expected car"):
        Decoder().describe(sensor_id)


# Nobody plays ---------------------------------------------------------------------------------------------------------


def test_the_player_of_a_watched_session_is_nobody():
    decoder = Decoder("player")
    for packet_id in (PARTICIPANTS, LAP_DATA, MOTION, CAR_TELEMETRY):
        assert len(decoder.decode(datagram(2026, packet_id, player=255))) == 0
    assert decoder.rejected == {"nobody plays": 2}
    assert decoder.describe(16)["session"] == 99
    assert set(decoder.decode(datagram(2026, MOTION, player=5))["sensor_id"] // 16) == {5}  # the spectator plays again
    assert len(decoder.decode(datagram(2026, MOTION, player=255))) == 0
    assert decoder.rejected == {"nobody plays": 3}


@pytest.mark.parametrize("second", [0, 23, 24, 255])
def test_the_second_player_is_no_reason_to_reject(second):
    decoder = primed(2026, "player")
    packet = blank(2026, MOTION)
    packet["header"]["secondary_player_car_index"] = second
    assert set(decoder.decode(packet.tobytes())["sensor_id"] // 16) == {1}
    assert not decoder.rejected


# Which slots are cars -------------------------------------------------------------------------------------------------

INVALID, INACTIVE, RACING, FINISHED, OUT, DISQUALIFIED, UNCLASSIFIED, RETIRED = range(8)


def statuses(year: int, *values: int, **header: Any) -> bytes:
    """Lap data of cars with these result statuses."""
    packet = blank(year, LAP_DATA, **header)
    packet["lap_data"]["result_status"][: len(values)] = values
    return packet.tobytes()


def telemetry(year: int, *speeds: int, **header: Any) -> bytes:
    """Car telemetry of cars at these speeds; -1: the slot is empty."""
    packet = blank(year, CAR_TELEMETRY, **header)
    packet["car_telemetry_data"] = np.zeros((), packet["car_telemetry_data"].dtype)
    for car, speed in zip(packet["car_telemetry_data"], speeds, strict=False):
        if speed >= 0:
            car["speed"], car["engine_temperature"], car["tyres_pressure"] = speed, 110, 22.5
    return packet.tobytes()


def without_zeros(packet_id: int, **header: Any) -> bytes:
    """A packet in which no slot is empty."""
    packet = datagram(2026, packet_id, **header)
    return packet[: HEADER.itemsize].ljust(len(packet), b"\1")


def cars_of(readings: Any) -> list[int]:
    return sorted(set((readings["sensor_id"] // 16).tolist()))


@each_year
def test_a_slot_that_empties_hides_no_other_car(year):
    decoder = Decoder()
    decoder.decode(statuses(year, RACING, RACING, RACING))
    decoder.decode(participants("ONE", "TWO", "THREE", year=year))
    assert cars_of(decoder.decode(telemetry(year, 100, 200, 300))) == [0, 1, 2]
    decoder.decode(statuses(year, RACING, INVALID, RACING))
    decoder.decode(participants("ONE", "", "THREE", year=year, cars=2))
    readings = decoder.decode(telemetry(year, 100, -1, 300))
    assert cars_of(readings) == [0, 2]
    assert readings["value"][::6].tolist() == [100, 300]
    assert of_car(decoder, 2, readings) == ("THREE", None)
    assert not decoder.rejected


@pytest.mark.parametrize("packet_id", PARTS)
@pytest.mark.parametrize("status", range(8))
def test_a_slot_is_a_car_unless_it_is_invalid_or_inactive(status, packet_id):
    decoder = primed(2026)
    decoder.decode(statuses(2026, RACING, status, RACING))
    assert cars_of(decoder.decode(without_zeros(packet_id))) == ([0, 2] if status <= INACTIVE else [0, 1, 2])


@each_year
@pytest.mark.parametrize("status", [None, RACING, FINISHED, OUT, DISQUALIFIED, UNCLASSIFIED, RETIRED])
def test_an_empty_slot_has_no_readings(year, status):
    decoder = primed(year)
    if status is not None:  # else there are no lap data
        decoder.decode(statuses(year, RACING, status, RACING))
    readings = decoder.decode(telemetry(year, 100, -1, 300))
    assert cars_of(readings) == [0, 2]
    assert (readings["value"][readings["channel"] == TIRE_PRESSURE.number] > 1).all()
    assert cars_of(decoder.decode(telemetry(year, 100, 0, 300))) == [0, 1, 2]  # it stands, and is no empty slot
    assert cars_of(decoder.decode(telemetry(year, -1, 200, -1))) == [1]
    assert not decoder.rejected
    assert len(decoder.decode(telemetry(year, -1, -1, -1))) == 0
    assert decoder.rejected == {"no cars": 1}


@each_year
@pytest.mark.parametrize("packet_id", PARTS)
def test_a_slot_is_empty_in_each_packet_that_has_nothing_of_it(year, packet_id):
    decoder = primed(year)
    packet = blank(year, packet_id)
    packet[CARS[packet_id]][5] = np.zeros((), packet[CARS[packet_id]].dtype)
    assert cars_of(decoder.decode(packet.tobytes())) == [car for car in range(ACTIVE) if car != 5]
    assert not decoder.rejected


def test_a_session_with_empty_slots_alone_is_not_among_those_heard():
    decoder = primed(2026)
    decoder.decode(participants("ONE", uid=100))
    assert len(decoder.decode(telemetry(2026, -1, uid=100))) == 0
    assert decoder.sessions == ()
    assert set(decoder.decode(datagram(2026, MOTION))["sensor_id"] // 512) == {0}


@pytest.mark.parametrize("packet_id", PARTS)
@pytest.mark.parametrize("choice", ["player", [0, 2], [1], [5]])
def test_choice_of_cars_among_slots_with_gaps(choice, packet_id):
    decoder = primed(2026, choice)
    decoder.decode(statuses(2026, RACING, INVALID, RETIRED, INACTIVE, RACING))
    expected = [4] if choice == "player" else [0, 2] if 0 in choice else []
    assert cars_of(decoder.decode(without_zeros(packet_id, player=4))) == expected


def test_lap_data_without_any_car_count_only_after_some_with_cars():
    decoder = primed(2026)
    decoder.decode(statuses(2026))
    assert cars_of(decoder.decode(datagram(2026, CAR_TELEMETRY))) == [*range(ACTIVE)]  # as many as the participants say
    decoder.decode(statuses(2026, RACING))
    assert cars_of(decoder.decode(telemetry(2026, 100))) == [0]
    decoder.decode(statuses(2026))
    assert len(decoder.decode(telemetry(2026, 100))) == 0


# Several sessions -----------------------------------------------------------------------------------------------------


def test_each_session_has_its_own_series():
    decoder = Decoder()
    for uid in (99, 2**64 - 1):
        decoder.decode(participants("ONE", "TWO", uid=uid))
    first, second = (decoder.decode(datagram(2026, MOTION, uid=uid)) for uid in (99, 2**64 - 1))
    assert (second["sensor_id"] == first["sensor_id"] + 512).all()
    assert decoder.decode(datagram(2026, MOTION))["sensor_id"].tolist() == first["sensor_id"].tolist()
    said = [decoder.describe(int(each["sensor_id"][-1]), int(each["flags"][0])) for each in (first, second)]
    assert [(each["car"], each["part"], each["session"]) for each in said] == [
        (1, "vertical", 99),
        (1, "vertical", 2**64 - 1),
    ]
    assert decoder.sessions == (99, 2**64 - 1)


def test_sessions_are_named_once_readings_of_two_have_come():
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    found = []
    for uid in (99, 99, 100, 99, 100):
        decoder.decode(participants("ONE", uid=uid))  # says nothing by itself: it may be anybody's
        readings = decoder.decode(datagram(2026, MOTION, uid=uid))
        found.append((int(readings["sensor_id"][0]), int(readings["flags"][0])))
    said = [decoder.describe(*each) for each in found]
    expected = [(99, False), (99, False), (100, True), (99, True), (100, True)]
    assert [(each["session"], each["several"]) for each in said] == expected


def test_a_session_can_be_described_while_another_thread_decodes(monkeypatch):
    decoder = Decoder()
    for uid in (99, 100):
        session_of(decoder, uid)

    def describe():
        return {tuple(decoder.describe(sensor_id)["session"] for sensor_id in (0, 512)) for _ in range(2000)}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        describing = Task(describe)
        for uid in (99, 100) * 500:
            decoder.decode(datagram(2026, MOTION, uid=uid))
        assert describing.result() == {(99, 100)}
    finally:
        sys.setswitchinterval(interval)


def test_a_session_without_readings_is_not_described_in_place_of_one_that_has_them():
    decoder = Decoder()
    for uid in (99, 100):
        decoder.decode(participants(str(uid), uid=uid))
    decoder.decode(datagram(2026, MOTION))
    decoder.decode(participants("100", uid=100))
    assert decoder.describe(0)["driver"] == "99"


def test_a_change_of_the_format_makes_no_second_session():
    decoder = Decoder()
    for year in YEARS:
        decoder.decode(participants("ONE", year=year))
        readings = decoder.decode(datagram(year, MOTION))
        assert decoder.describe(int(readings["sensor_id"][0]), int(readings["flags"][0]))["several"] is False
    assert set(readings["sensor_id"] // 512) == {1}  # but other series: the change ends those before
    assert decoder.sessions == (99,)


def test_a_session_without_cars_is_not_among_those_heard():
    decoder = primed(2026)
    decoder.decode(participants(uid=100))
    for packet_id in (LAP_DATA, MOTION, CAR_STATUS):
        assert len(decoder.decode(datagram(2026, packet_id, uid=100))) == 0
    assert decoder.sessions == ()
    assert set(decoder.decode(datagram(2026, MOTION))["sensor_id"] // 512) == {0}
    assert decoder.describe(0)["several"] is False
    assert session_of(decoder, 100) == [1]
    assert decoder.sessions == (99, 100)


def test_two_sessions_that_begin_at_once_lose_nothing():
    decoder = Decoder()
    found = []
    for packet_id in (MOTION, LAP_DATA, PARTICIPANTS, CAR_TELEMETRY):
        found += [decoder.decode(datagram(2026, packet_id, uid=uid)) for uid in (99, 100)]
    assert list(map(len, found)) == [0, 0, 0, 0, ACTIVE * 3, ACTIVE * 3, ACTIVE * 6, ACTIVE * 6]
    assert not decoder.rejected


@pytest.mark.parametrize("wanted", ["1234567890123451154", "1154", "51154", 1234567890123451154])
def test_one_session_may_be_chosen(wanted):
    decoder = Decoder(session=wanted)
    for packet_id in (MOTION, PARTICIPANTS, MOTION):
        assert len(decoder.decode(datagram(2026, packet_id, uid=99))) == 0
    decoder.decode(datagram(2026, PARTICIPANTS, uid=1234567890123451154))
    readings = decoder.decode(datagram(2026, MOTION, uid=1234567890123451154))
    assert readings["sensor_id"][0] == 6
    assert decoder.describe(6, 0)["several"] is False
    assert decoder.rejected == {"other session": 3}


@pytest.mark.parametrize(("wanted", "is_read"), [(99, True), ("0099", True), ("0" * 18 + "99", True), ("1099", False)])
def test_a_short_number_has_zeros_before_it(wanted, is_read):
    decoder = Decoder(session=wanted)
    decoder.decode(datagram(2026, PARTICIPANTS))
    assert (len(decoder.decode(datagram(2026, MOTION))) > 0) is is_read


def test_more_digits_choose_one_of_two_sessions_that_end_alike():
    long, short = 9645314088496810282, 10282
    for wanted, expected in (("0282", (long, short)), ("810282", (long,)), ("010282", (short,))):
        decoder = Decoder(session=wanted)
        for uid in (long, short):
            session_of(decoder, uid)
        assert (decoder.session, decoder.sessions) == (wanted, expected)
        assert set(decoder.others) == {long, short} - set(expected)


def test_the_latest_sessions_that_were_not_wanted_are_known():
    decoder = Decoder(session="1154")
    for uid in (*range(10, 60), 55):
        decoder.decode(datagram(2026, MOTION, uid=uid))
    assert decoder.others == tuple(range(44, 60))
    assert decoder.rejected == {"other session": 51}


@pytest.mark.parametrize("session", ["", "9", "099", "latest", "-1", -1, "0x1f", "1.5", " 99", "٣٣٣٣", "1" * 21])
def test_senseless_choice_of_a_session(session):
    with pytest.raises(ValueError, match=r"^session is .*: expected a session's number, or at least its last 4 digits"):
        Decoder(session=session)


def session_of(decoder: Decoder, uid: int) -> list[int]:
    """Let a session begin, and return the number that its readings show."""
    decoder.decode(datagram(2026, PARTICIPANTS, uid=uid))
    return sorted(set((decoder.decode(datagram(2026, MOTION, uid=uid))["sensor_id"] // 512).tolist()))


def test_forged_sessions_displace_none_that_is_in_use():
    decoder = primed(2026)
    for forged in range(100, 400):
        assert len(decoder.decode(datagram(2026, MOTION))) == ACTIVE * 3
        for more in range(20):
            session_of(decoder, forged * 100 + more)
    assert set(decoder.decode(datagram(2026, MOTION))["sensor_id"] // 512) == {0}
    assert decoder.rejected["too many sessions"] > 5000
    assert len(decoder.sessions) == 16


def test_a_session_in_use_can_be_described_after_a_flood():
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    first = decoder.decode(datagram(2026, MOTION))
    for frame in range(50):
        decoder.decode(laps(2026, [3]))
        readings = decoder.decode(datagram(2026, MOTION))
        for forged in range(200):
            decoder.decode(participants(str(frame), uid=100 + forged % 10))
            decoder.decode(laps(2026, [forged], uid=100 + forged % 10))
            decoder.decode(datagram(2026, CAR_STATUS, uid=100 + forged % 10))
        assert of_car(decoder, 0, readings) == ("ONE", 3)
        assert decoder.describe(0, int(readings["flags"][0]))["session"] == 99
    assert of_car(decoder, 0, first) == (None, None)  # long ago: its flags are forgotten


def test_participants_alone_displace_no_session():
    decoder = Decoder()
    assert [session_of(decoder, uid) for uid in range(15)] == [[number] for number in range(15)]
    for forged in range(100, 200):
        decoder.decode(datagram(2026, PARTICIPANTS, uid=forged))
    assert [session_of(decoder, uid) for uid in range(15)] == [[number] for number in range(15)]
    assert not decoder.rejected


@pytest.mark.parametrize(("others", "number"), [(66, []), (67, [16])])
def test_a_session_that_is_no_longer_in_use_makes_room(monkeypatch, others, number):
    monkeypatch.setattr(sessions, "IN_USE", 100)
    decoder = Decoder()
    assert [session_of(decoder, uid) for uid in range(16)] == [[number] for number in range(16)]
    assert session_of(decoder, 16) == []
    assert decoder.rejected == {"too many sessions": 1, "before participants": 1}
    for _ in range(others):
        decoder.decode(datagram(2026, MOTION, uid=15))
    # Since the first one's last datagram have come 2 of each of the 16 others, these, and now one more.
    assert session_of(decoder, 17) == number


def test_a_session_that_comes_back_continues_no_series(monkeypatch):
    monkeypatch.setattr(sessions, "IN_USE", 0)
    decoder = Decoder()
    numbers = [session_of(decoder, uid % 20) for uid in range(100)]
    assert numbers == [[number] for number in range(100)]
    assert decoder.describe(0)["session"] is None


def test_no_number_is_used_twice(monkeypatch):
    assert sessions.NUMBERS * 512 == 2**32  # as many as sensor ids tell apart
    monkeypatch.setattr(sessions, "NUMBERS", 2)
    decoder = Decoder()
    assert [session_of(decoder, uid) for uid in (98, 99, 100)] == [[0], [1], []]
    assert decoder.rejected == {"too many sessions": 1}


# Laps and drivers, at the time of a reading ---------------------------------------------------------------------------


def laps(year: int, numbers: list[int], **header: Any) -> bytes:
    """Lap data in which the first cars are in these laps."""
    packet = blank(year, LAP_DATA, **header)
    packet["lap_data"]["current_lap_num"][: len(numbers)] = numbers
    return packet.tobytes()


def participants(*names: str, year: int = 2026, cars: int | None = None, **header: Any) -> bytes:
    packet = blank(year, PARTICIPANTS, **header)
    packet["num_active_cars"] = len(names) if cars is None else cars
    packet["participants"]["name"][: len(names)] = [name.encode() for name in names]
    return packet.tobytes()


def of_car(decoder: Decoder, car: int, readings: Any) -> tuple[Any, Any]:
    """The car's driver and lap, when these readings were decoded."""
    [flags] = set(readings["flags"].tolist())
    described = decoder.describe(car * 16, flags)
    return described["driver"], described["lap"]


@each_year
def test_the_lap_numbers_of_f1_packets(f1_packets, year):
    packet = filled(f1_packets, year, LAP_DATA)
    for index, car in enumerate(packet.lap_data):
        car.current_lap_num = index + 1
    decoder = primed(year)
    assert len(decoder.decode(bytes(packet))) == 0
    assert [decoder.describe(car * 16)["lap"] for car in range(24)] == [*range(1, ACTIVE + 1)] + [None] * (24 - ACTIVE)
    assert not decoder.rejected


def test_a_reading_keeps_its_lap_and_driver():
    decoder = Decoder()
    decoder.decode(participants("ONE", "TWO"))
    changes = [
        (("ONE", None), None),
        (("ONE", 1), laps(2026, [1, 1])),
        (("ONE", 1), laps(2026, [1, 1])),
        (("ONE", 1), laps(2026, [1, 2])),
        (("ONE", 2), laps(2026, [2, 2])),
        (("THREE", 2), participants("THREE", "TWO")),
        (("THREE", 3), laps(2026, [3, 3])),
    ]
    found = []
    for expected, change in changes:
        if change is not None:
            assert len(decoder.decode(change)) == 0
        found.append((expected, decoder.decode(datagram(2026, CAR_STATUS))))
    for expected, readings in found:
        assert of_car(decoder, 0, readings) == expected
    assert [int(readings["flags"][0]) for _, readings in found] == [0, 1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("number", "lap"), [(0, None), (1, 1), (200, 200), (201, None), (255, None)])
def test_an_absurd_lap_is_none(number, lap):
    decoder = primed(2026)
    decoder.decode(laps(2026, [number]))
    assert decoder.describe(0)["lap"] == lap


def test_laps_before_participants_count_for_readings_of_their_frame():
    decoder = Decoder()
    decoder.decode(laps(2026, [1], frame=6))
    for packet in (datagram(2026, MOTION), laps(2026, [7, 8]), datagram(2026, MOTION, uid=1)):
        decoder.decode(packet)
    assert decoder.rejected == {"before participants": 4}
    decoder.decode(datagram(2026, MOTION))
    decoder.decode(laps(2026, [4, 5]))
    readings = decoder.decode(participants("ONE", "TWO"))
    assert len(readings) == 2 * 3
    assert of_car(decoder, 1, readings) == ("TWO", 5)
    assert decoder.rejected == {"before participants": 4}


def test_another_session_begins_without_laps():
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    decoder.decode(laps(2026, [5]))
    before = decoder.decode(datagram(2026, CAR_STATUS))
    decoder.decode(participants("ONE", uid=100))
    after = decoder.decode(datagram(2026, CAR_STATUS, uid=100))
    decoder.decode(laps(2026, [9]))  # of the session before
    assert of_car(decoder, 0, before) == ("ONE", 5)
    assert of_car(decoder, 0, after) == ("ONE", None)
    assert [decoder.describe(sensor_id)["lap"] for sensor_id in (0, 512)] == [9, None]


def test_cars_that_join_have_no_lap_until_the_next_lap_data():
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    decoder.decode(laps(2026, [5, 5]))
    decoder.decode(participants("ONE", "TWO"))
    assert [decoder.describe(car * 16)["lap"] for car in (0, 1)] == [5, None]
    decoder.decode(laps(2026, [5, 6]))
    assert decoder.describe(16)["lap"] == 6


def test_roster_numbers_wrap_as_flags_do(monkeypatch):
    assert 1 << 8 * READING["flags"].itemsize == sessions.ROSTERS
    monkeypatch.setattr(sessions, "ROSTERS", 16)
    monkeypatch.setattr(sessions, "ROSTERS_KEPT", 4)
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    found = []
    for lap in range(1, 19):
        decoder.decode(laps(2026, [lap]))
        found.append(decoder.decode(datagram(2026, CAR_STATUS)))
    assert [int(readings["flags"][0]) for readings in found] == [*range(16), 0, 1]
    assert [of_car(decoder, 0, readings) for readings in found[-4:]] == [("ONE", lap) for lap in range(15, 19)]


def test_the_time_may_be_given():
    decoder = Decoder()
    decoder.decode(datagram(2026, MOTION, time=5.0), 1000.25)
    assert set(decoder.decode(datagram(2026, PARTICIPANTS, time=5.0), 1000.5)["timestamp"]) == {1000.25}
    assert set(decoder.decode(datagram(2026, MOTION, time=5.0), 1000.75)["timestamp"]) == {1000.75}
    assert set(decoder.decode(datagram(2026, MOTION, time=5.0))["timestamp"]) == {5.0}


# What is missing ------------------------------------------------------------------------------------------------------


def test_missing_datagrams_are_counted_by_packet():
    decoder = primed(2026)
    for frame in range(1, 101):
        for packet_id in (MOTION, LAP_DATA, CAR_TELEMETRY, CAR_STATUS):
            if frame % 10 != packet_id and frame != 50:
                decoder.decode(datagram(2026, packet_id, frame=frame))
        decoder.decode(datagram(2026, PARTICIPANTS, frame=frame * 7))  # these come when they like
    # 9 of motion, for its frames 10 to 90, of which 50 is missing anyway; 10 of each of the others; and 4 of frame 50
    assert decoder.lost == 8 + 10 + 10 + 10 + 4
    assert not decoder.rejected


def test_rejected_datagrams_fill_no_gap_and_make_none():
    decoder = primed(2026)
    for frame in (1, 2, 5):
        decoder.decode(datagram(2026, MOTION, frame=frame))
    for frame in range(1, 3000, 3):
        for bad in ({"uid": frame}, {"time": float("nan")}, {"time": -1.0}):
            decoder.decode(datagram(2026, MOTION, frame=frame, **bad))
    assert decoder.lost == 2
    decoder.decode(datagram(2026, MOTION, frame=4))  # late
    assert decoder.lost == 1


def test_a_gap_between_sessions_is_no_loss():
    decoder = primed(2026)
    decoder.decode(datagram(2026, MOTION, frame=1))
    decoder.decode(datagram(2026, MOTION, frame=2))
    decoder.decode(datagram(2026, PARTICIPANTS, uid=100, frame=20))
    decoder.decode(datagram(2026, MOTION, uid=100, frame=20))
    decoder.decode(datagram(2026, MOTION, uid=100, frame=21))
    assert decoder.lost == 0


# Participants come first ---------------------------------------------------------------------------------------------


def test_readings_before_participants_are_rejected():
    decoder = Decoder()
    for frame in range(5):
        assert len(decoder.decode(datagram(2026, CAR_TELEMETRY, frame=frame))) == 0
    assert len(decoder.decode(datagram(2026, PARTICIPANTS, frame=5))) == 0
    assert decoder.rejected == {"before participants": 5}
    assert len(decoder.decode(datagram(2026, CAR_TELEMETRY, frame=5))) == ACTIVE * 6


def test_readings_of_the_participants_own_frame_are_kept_back():
    decoder = Decoder()
    decoder.decode(datagram(2026, MOTION, frame=6, time=1.0))
    decoder.decode(datagram(2026, MOTION, frame=7, time=2.0))
    assert decoder.rejected == {"before participants": 2}
    readings = decoder.decode(datagram(2026, PARTICIPANTS, frame=7, time=2.0))
    assert np.array_equal(readings, decoder.decode(datagram(2026, MOTION, frame=7, time=2.0)))
    assert (readings["timestamp"] == 2.0).all()
    assert decoder.rejected == {"before participants": 1}
    assert len(decoder.decode(datagram(2026, PARTICIPANTS, frame=7))) == 0  # once only


def test_a_flood_in_one_frame_is_not_kept():
    decoder = Decoder()
    for _ in range(100):
        decoder.decode(datagram(2026, MOTION))
        decoder.decode(datagram(2026, CAR_STATUS))
    assert len(decoder.decode(datagram(2026, PARTICIPANTS))) == ACTIVE * (3 + 1)
    assert decoder.rejected == {"before participants": 198}


def test_forged_headers_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(sessions, "ROSTERS_KEPT", 10)
    decoder = primed(2026)
    for forged in range(1000):
        for packet_id in DECODED:
            packet = blank(2026, packet_id, uid=forged, frame=forged * 3571 % 2**32)
            if packet_id == PARTICIPANTS:
                packet["participants"]["name"] = str(forged).encode()
            if packet_id == LAP_DATA:
                packet["lap_data"]["current_lap_num"] = forged % 256
            decoder.decode(packet.tobytes())
        if forged == 99:
            before = len(pickle.dumps(decoder))
    assert len(pickle.dumps(decoder)) < 1.1 * before


def test_rosters_without_readings_take_no_memory():
    decoder = primed(2026)
    sizes = []
    for lap in range(1000):
        decoder.decode(laps(2026, [lap % 200]))
        sizes.append(len(pickle.dumps(decoder)))
    assert max(sizes) < sizes[0] + 500


def test_participants_of_another_session_displace_nothing():
    decoder = Decoder()
    decoder.decode(participants("ONE"))
    decoder.decode(laps(2026, [5]))
    for forged in range(100):
        decoder.decode(participants("TWO", "THREE", uid=1000 + forged))
        readings = decoder.decode(datagram(2026, CAR_STATUS))
        assert of_car(decoder, 0, readings) == ("ONE", 5)
        assert len(readings) == 1
    assert decoder.rejected == {}


def test_another_session_needs_its_own_participants():
    decoder = primed(2026)
    assert len(decoder.decode(datagram(2026, MOTION, uid=100, frame=1))) == 0
    assert len(decoder.decode(datagram(2025, MOTION, frame=1))) == 0
    assert decoder.rejected == {"before participants": 2}
    packet = blank(2025, PARTICIPANTS, frame=2)
    packet["num_active_cars"] = 2
    decoder.decode(packet.tobytes())
    assert len(decoder.decode(datagram(2025, MOTION))) == 2 * 3


@each_year
def test_car_counts(year):
    slots = FORMATS[year].slots
    packet = blank(year, PARTICIPANTS)
    decoder = Decoder()
    for count in (slots, 1, 0):
        packet["num_active_cars"] = count
        decoder.decode(packet.tobytes())
        assert len(decoder.decode(datagram(year, CAR_TELEMETRY))) == count * 6
    assert decoder.rejected.pop("no cars") == 1
    packet["num_active_cars"] = 3
    decoder.decode(packet.tobytes())
    packet["num_active_cars"] = slots + 1
    decoder.decode(packet.tobytes())
    assert decoder.rejected == {"impossible car count": 1}
    assert len(decoder.decode(datagram(year, CAR_TELEMETRY))) == 3 * 6  # the good count stays


# Datagrams that are not to be trusted --------------------------------------------------------------------------------


@each_packet
@each_year
def test_every_truncation_is_rejected(year, packet_id):
    whole = datagram(year, packet_id)
    decoder = primed(year)
    for length in range(len(whole)):
        assert len(decoder.decode(whole[:length])) == 0
    assert decoder.rejected == {"truncated datagram": len(whole)}
    assert len(decoder.decode(whole + b"\0")) == 0
    assert decoder.rejected["oversized datagram"] == 1


@each_year
def test_packets_without_readings_are_not_counted(year):
    decoder = primed(year)
    for packet_id in FORMATS[year].packet_ids:
        if packet_id not in DECODED:
            packet = blank(year, MOTION)
            packet["header"]["packet_id"] = packet_id
            assert len(decoder.decode(packet.tobytes())) == 0
    assert not decoder.rejected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("packet_format", 2024, "unknown format year"),
        ("packet_format", 0, "unknown format year"),
        ("packet_id", 17, "unknown packet id"),
        ("packet_id", 255, "unknown packet id"),
        ("packet_version", 2, "unknown packet version"),
        ("session_time", float("nan"), "absurd session time"),
        ("session_time", float("inf"), "absurd session time"),
        ("session_time", -1.0, "absurd session time"),
    ],
)
@each_packet
def test_header_that_cannot_be_trusted(packet_id, field, value, reason):
    decoder = primed(2026)
    packet = blank(2026, packet_id)
    packet["header"][field] = value
    assert len(decoder.decode(packet.tobytes())) == 0
    assert decoder.rejected == {reason: 1}


def test_packet_16_came_with_2026():
    decoder = primed(2025)
    packet = blank(2025, MOTION)
    packet["header"]["packet_id"] = 16
    decoder.decode(packet.tobytes())
    assert decoder.rejected == {"unknown packet id": 1}


def check_decoding(decoder: Decoder, data: bytes) -> None:
    """Decode; check that every value is finite and that what came out and what was rejected add up."""
    before = decoder.rejected.copy()
    readings = decoder.decode(data)
    rejected = {reason: decoder.rejected[reason] - before[reason] for reason in {*before, *decoder.rejected}}
    absurd = rejected.pop("absurd value", 0)
    released = -min(rejected.get("before participants", 0), 0)
    assert np.isfinite(readings["timestamp"]).all()
    assert np.isfinite(readings["value"]).all()
    if len(readings) or absurd:
        packet_id = data[6]
        assert packet_id != LAP_DATA
        if packet_id == PARTICIPANTS:
            assert released
        else:
            cars, rest = divmod(len(readings) + absurd, PARTS[packet_id])
            assert rest == 0
            assert 1 <= cars <= 24
            assert not any(rejected.values())
    else:
        assert sum(rejected.values()) in (0, 1, -released)


year_and_packet = st.tuples(st.sampled_from(YEARS), st.sampled_from(DECODED))
flips = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=8)


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(year_and_packet, flips, st.integers(-2, 2)), max_size=6))
def test_flipped_bytes(mutations):
    decoder = primed(2026)
    for (year, packet_id), changes, extra in mutations:
        data = bytearray(datagram(year, packet_id))
        for position, value in changes:
            data[position % len(data)] = value
        data = data + b"x" * extra if extra > 0 else data[: len(data) + extra]
        check_decoding(decoder, bytes(data))


@settings(max_examples=examples(200))
@given(year_and_packet, st.integers(0, 2**32 - 1))
def test_noise_behind_a_good_header(which, seed):
    year, packet_id = which
    header = datagram(year, packet_id)[: HEADER.itemsize]
    body = np.random.default_rng(seed).bytes(FORMATS[year].packets[packet_id].itemsize - len(header))
    decoder = primed(year)
    check_decoding(decoder, header + body)


@settings(max_examples=examples(200))
@given(st.binary(max_size=1500))
def test_foreign_data(data):
    decoder = primed(2026)
    check_decoding(decoder, data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_will_do(kind):
    assert len(primed(2026).decode(kind(datagram(2026, MOTION)))) == ACTIVE * 3
