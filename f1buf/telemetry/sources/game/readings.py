"""Which fields of a packet become readings, and the handful of array operations that make readings of a datagram.

A sensor's id is session * 512 + car * 16 + part: the session's number in the decoder, the car's slot, and the place of
the part in `PARTS`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE, Channel
from f1buf.telemetry.sources.game.packets import CAR_STATUS, CAR_TELEMETRY, FORMATS, LAP_DATA, MOTION, Format

__all__ = ["EXTRACTORS", "IDS_PER_CAR", "IDS_PER_SESSION", "MAX_SLOTS", "PARTS", "Cars", "Datagram", "car_bytes"]

Array = NDArray[Any]
Datagram = bytes | bytearray | memoryview
Cars = slice | Array
"""Slots of a packet."""

MAX_SLOTS = max(form.slots for form in FORMATS.values())
IDS_PER_CAR = 16  # there is room for parts to come
IDS_PER_SESSION = 1 << (MAX_SLOTS * IDS_PER_CAR - 1).bit_length()
_BAR_PER_PSI = 0.0689475729


class _Part(NamedTuple):
    """A sensor of a car; `low` and `high` are generous bounds of what is physically possible [channel's unit]."""

    channel: Channel
    name: str | None
    low: float
    high: float


PARTS = (  # append, never insert: a part's place is in its sensor ids
    _Part(SPEED, None, 0.0, 500.0),
    _Part(ENGINE_TEMP, None, 0.0, 300.0),
    *(_Part(TIRE_PRESSURE, wheel, 0.0, 10.0) for wheel in ("RL", "RR", "FL", "FR")),
    *(_Part(G_FORCE, axis, -250.0, 250.0) for axis in ("lateral", "longitudinal", "vertical")),
    _Part(FUEL_LEVEL, None, 0.0, 100.0),
)

# A conversion takes one row a car, one column a raw value (float64), and returns one column a part in its unit.


def _to_g(raw: Array, form: Format) -> Array:
    return raw / form.g_units  # not * 0.001: then 5500 is exactly the 5.5 of a threshold


_TELEMETRY_FACTORS = np.array([1.0, 1.0] + [_BAR_PER_PSI] * 4)


def _to_bar(raw: Array, form: Format) -> Array:
    converted: Array = raw * _TELEMETRY_FACTORS
    return converted


def _to_percent(raw: Array, form: Format) -> Array:
    return 100.0 * raw[:, :1] / raw[:, 1:]


class _Recipe(NamedTuple):
    """What is read of a packet, the same in every format."""

    cars: str  # the packet's array with one element a car
    fields: tuple[str, ...]
    parts: range
    convert: Callable[[Array, Format], Array]


_RECIPES = {
    MOTION: _Recipe(
        "car_motion_data", ("g_force_lateral", "g_force_longitudinal", "g_force_vertical"), range(6, 9), _to_g
    ),
    CAR_TELEMETRY: _Recipe("car_telemetry_data", ("speed", "engine_temperature", "tyres_pressure"), range(6), _to_bar),
    CAR_STATUS: _Recipe("car_status_data", ("fuel_in_tank", "fuel_capacity"), range(9, 10), _to_percent),
}


class _Extractor:
    """A recipe prepared for one format's layout of a packet."""

    def __init__(self, form: Format, packet_id: int, recipe: _Recipe) -> None:
        car, self._offset = _cars_in(form, packet_id, recipe.cars)
        parts = [PARTS[part] for part in recipe.parts]
        self._form = form
        self._convert = recipe.convert
        self._raw = car[list(recipe.fields)]  # one element a car that shows only these fields, at their places
        self._whole = np.dtype((np.void, car.itemsize))
        # The same fields as doubles without gaps: a cast to it, one operation, leaves a plain table of float64.
        self._wide = np.dtype([(name, "f8", self._raw[name].shape) for name in recipe.fields])
        self._columns = self._wide.itemsize // 8
        self._template = np.zeros((form.slots, len(parts)), READING)
        self._template["sensor_id"] = np.arange(form.slots)[:, np.newaxis] * IDS_PER_CAR + np.array(recipe.parts)
        self._template["channel"] = [part.channel.number for part in parts]
        self._low = np.array([part.low for part in parts])
        self._high = np.array([part.high for part in parts])

    def template(self, cars: Cars, session: int, flags: int) -> bytes:
        """Return the bytes of these cars' readings, which lack only their timestamps and values."""
        template = np.array(self._template[cars])
        template["sensor_id"] += session * IDS_PER_SESSION
        template["flags"] = flags
        return template.tobytes()

    def full(self, datagram: Datagram, cars: Cars) -> Array | None:
        """Return the places in `cars` of the slots that are not all zero; None if none is."""
        slots = np.frombuffer(datagram, self._whole, self._form.slots, self._offset)[cars]
        return None if np.count_nonzero(slots) == len(slots) else slots.nonzero()[0]

    def only(self, full: Array, cars: Cars, template: bytes) -> tuple[Cars, bytes]:
        """Return `cars` and `template` without those that are not `full`."""
        its = np.arange(self._form.slots)[cars]
        return its[full], np.frombuffer(template, READING).reshape(len(its), -1)[full].tobytes()

    def __call__(self, datagram: Datagram, cars: Cars, template: bytes, time: float) -> tuple[Array, int]:
        """Return the readings of these cars, and how many absurd ones were left out."""
        raw = np.frombuffer(datagram, self._raw, self._form.slots, self._offset)[cars]
        values = self._convert(raw.astype(self._wide).view("f8").reshape(len(raw), self._columns), self._form)
        readings = np.frombuffer(bytearray(template), READING)  # numpy would copy records field by field
        readings["timestamp"] = time
        readings["value"] = values.reshape(-1)
        sound = (values >= self._low) & (values <= self._high)  # NaN is neither
        if np.count_nonzero(sound) == sound.size:
            return readings, 0
        kept = readings.compress(sound.reshape(-1))
        return kept, len(readings) - len(kept)


def _cars_in(form: Format, packet_id: int, field: str) -> tuple[np.dtype[np.void], int]:
    """Return the layout of a car in a packet, and where the first car is [bytes]."""
    fields = form.packets[packet_id].fields
    assert fields is not None
    return fields[field][0].base, fields[field][1]


EXTRACTORS = {
    (year, packet_id): _Extractor(form, packet_id, recipe)
    for year, form in FORMATS.items()
    for packet_id, recipe in _RECIPES.items()
}
"""By format year and packet id."""


def _each_car(form: Format, field: str) -> slice:
    """Return where in the lap data a field of one byte is, for each car."""
    car, offset = _cars_in(form, LAP_DATA, "lap_data")
    assert car.fields is not None
    start = offset + car.fields[field][1]
    return slice(start, start + car.itemsize * form.slots, car.itemsize)


_LAP_DATA = {
    (year, field): _each_car(form, field)
    for year, form in FORMATS.items()
    for field in ("current_lap_num", "result_status")
}


def car_bytes(datagram: Datagram, year: int, field: str) -> bytes:
    """Return the field "current_lap_num" or "result_status" of every slot in the lap data."""
    return bytes(datagram[_LAP_DATA[year, field]])
