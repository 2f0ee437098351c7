"""Readings from the datagrams that the F1 games send over UDP: packet layouts and the decoder.

The layouts follow EA's published UDP specification of F1 25, in its 2025 and its 2026 format; names of fields are those
of the package f1-packets (MIT, one format a release), against which the tests compare every field. A datagram is one
packet: little-endian, packed, a common header first. The format is the header's `packet_format`, a year, which a player
chooses in the game's settings.

Five packets are decoded: motion (0), lap data (2), participants (4), car telemetry (6) and car status (7). Adding a
format is adding an entry to `FORMATS`; adding a packet is adding its layout there and, if it holds readings, a
`_Recipe`.

Anybody can send a datagram: size, format, packet id and version, session time, player and car count are checked before
one is used, and each value after.
"""

import operator
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from f1buf._reading import READING

from .._text import clean
from ..channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE, Channel
from .frames import FrameGaps

__all__ = ["FORMATS", "HEADER", "Decoder", "Format"]

Array = npt.NDArray[Any]
Datagram = bytes | bytearray | memoryview

MOTION, LAP_DATA, PARTICIPANTS, CAR_TELEMETRY, CAR_STATUS = 0, 2, 4, 6, 7  # packet ids
EVERY_FRAME = (MOTION, LAP_DATA, CAR_TELEMETRY, CAR_STATUS)  # how often they come, the player chooses: "UDP Send Rate"
PACKET_VERSION = 1  # of each of these packets in both formats
BAR_PER_PSI = 0.0689475729


# Layouts ------------------------------------------------------------------------------------------------------------

HEADER = np.dtype(
    [
        ("packet_format", "<u2"),  # the year: says how all that follows is laid out
        ("game_year", "u1"),
        ("game_major_version", "u1"),
        ("game_minor_version", "u1"),
        ("packet_version", "u1"),
        ("packet_id", "u1"),
        ("session_uid", "<u8"),
        ("session_time", "<f4"),  # [s]
        ("frame_identifier", "<u4"),  # goes back after a flashback
        ("overall_frame_identifier", "<u4"),  # never goes back
        ("player_car_index", "u1"),
        ("secondary_player_car_index", "u1"),  # 255: no second player
    ]
)
"""The 29 bytes that every packet starts with, in both formats."""

_UNPACK_HEADER = struct.Struct("<H5BQf2I2B").unpack_from  # the same; numpy takes three times as long


def _packet(*fields: tuple[Any, ...]) -> np.dtype[np.void]:
    return np.dtype([("header", HEADER), *fields])


def _motion(slots: int, g_force: str) -> np.dtype[np.void]:
    axes = "xyz"
    car = np.dtype(
        [
            *((f"world_position_{axis}", "<f4") for axis in axes),
            *((f"world_velocity_{axis}", "<f4") for axis in axes),
            *((f"world_forward_dir_{axis}", "<i2") for axis in axes),
            *((f"world_right_dir_{axis}", "<i2") for axis in axes),
            ("g_force_lateral", g_force),
            ("g_force_longitudinal", g_force),
            ("g_force_vertical", g_force),
            ("yaw", "<f4"),
            ("pitch", "<f4"),
            ("roll", "<f4"),
        ]
    )
    return _packet(("car_motion_data", car, slots))


def _lap_data(slots: int) -> np.dtype[np.void]:
    car = np.dtype(
        [
            ("last_lap_time_in_ms", "<u4"),
            ("current_lap_time_in_ms", "<u4"),
            ("sector1_time_ms_part", "<u2"),
            ("sector1_time_minutes_part", "u1"),
            ("sector2_time_ms_part", "<u2"),
            ("sector2_time_minutes_part", "u1"),
            ("delta_to_car_in_front_ms_part", "<u2"),
            ("delta_to_car_in_front_minutes_part", "u1"),
            ("delta_to_race_leader_ms_part", "<u2"),
            ("delta_to_race_leader_minutes_part", "u1"),
            ("lap_distance", "<f4"),  # [m]
            ("total_distance", "<f4"),  # [m]
            ("safety_car_delta", "<f4"),  # [s]
            ("car_position", "u1"),
            ("current_lap_num", "u1"),  # from 1; 0 for a car that is not there
            ("pit_status", "u1"),
            ("num_pit_stops", "u1"),
            ("sector", "u1"),
            ("current_lap_invalid", "u1"),
            ("penalties", "u1"),
            ("total_warnings", "u1"),
            ("corner_cutting_warnings", "u1"),
            ("num_unserved_drive_through_pens", "u1"),
            ("num_unserved_stop_go_pens", "u1"),
            ("grid_position", "u1"),
            ("driver_status", "u1"),
            ("result_status", "u1"),
            ("pit_lane_timer_active", "u1"),
            ("pit_lane_time_in_lane_in_ms", "<u2"),
            ("pit_stop_timer_in_ms", "<u2"),
            ("pit_stop_should_serve_pen", "u1"),
            ("speed_trap_fastest_speed", "<f4"),
            ("speed_trap_fastest_lap", "u1"),
        ]
    )
    return _packet(("lap_data", car, slots), ("time_trial_pb_car_idx", "u1"), ("time_trial_rival_car_idx", "u1"))


def _participants(slots: int, identifier: str) -> np.dtype[np.void]:
    colour = np.dtype([("red", "u1"), ("green", "u1"), ("blue", "u1")])
    participant = np.dtype(
        [
            ("ai_controlled", "u1"),
            ("driver_id", identifier),
            ("network_id", identifier),
            ("team_id", identifier),
            ("my_team", "u1"),
            ("race_number", "u1"),
            ("nationality", "u1"),
            ("name", "S32"),  # UTF-8, ended by a zero byte
            ("your_telemetry", "u1"),
            ("show_online_names", "u1"),
            ("tech_level", "<u2"),
            ("platform", "u1"),
            ("num_colours", "u1"),
            ("livery_colours", colour, 4),
        ]
    )
    return _packet(("num_active_cars", "u1"), ("participants", participant, slots))


def _car_telemetry(slots: int, engine_temperature: str) -> np.dtype[np.void]:
    car = np.dtype(
        [
            ("speed", "<u2"),  # [km/h]
            ("throttle", "<f4"),
            ("steer", "<f4"),
            ("brake", "<f4"),
            ("clutch", "u1"),
            ("gear", "i1"),
            ("engine_rpm", "<u2"),
            ("drs", "u1"),
            ("rev_lights_percent", "u1"),
            ("rev_lights_bit_value", "<u2"),
            ("brakes_temperature", "<u2", 4),
            ("tyres_surface_temperature", "u1", 4),
            ("tyres_inner_temperature", "u1", 4),
            ("engine_temperature", engine_temperature),  # [°C]
            ("tyres_pressure", "<f4", 4),  # [psi], RL, RR, FL, FR
            ("surface_type", "u1", 4),
        ]
    )
    return _packet(
        ("car_telemetry_data", car, slots),
        ("mfd_panel_index", "u1"),
        ("mfd_panel_index_secondary_player", "u1"),
        ("suggested_gear", "i1"),
    )


def _car_status(slots: int, *, harvest_limit: bool) -> np.dtype[np.void]:
    car = np.dtype(
        [
            ("traction_control", "u1"),
            ("anti_lock_brakes", "u1"),
            ("fuel_mix", "u1"),
            ("front_brake_bias", "u1"),
            ("pit_limiter_status", "u1"),
            ("fuel_in_tank", "<f4"),  # [kg]
            ("fuel_capacity", "<f4"),  # [kg]; 0 for a driver who keeps the telemetry private in an online race
            ("fuel_remaining_laps", "<f4"),
            ("max_rpm", "<u2"),
            ("idle_rpm", "<u2"),
            ("max_gears", "u1"),
            ("drs_allowed", "u1"),
            ("drs_activation_distance", "<u2"),
            ("actual_tyre_compound", "u1"),
            ("visual_tyre_compound", "u1"),
            ("tyres_age_laps", "u1"),
            ("vehicle_fia_flags", "i1"),
            ("engine_power_ice", "<f4"),
            ("engine_power_mguk", "<f4"),
            ("ers_store_energy", "<f4"),
            ("ers_deploy_mode", "u1"),
            ("ers_harvested_this_lap_mguk", "<f4"),
            ("ers_harvested_this_lap_mguh", "<f4"),
            *([("ers_harvest_limit_per_lap", "<f4")] if harvest_limit else []),
            ("ers_deployed_this_lap", "<f4"),
            ("network_paused", "u1"),
        ]
    )
    return _packet(("car_status_data", car, slots))


class Format(NamedTuple):
    """The datagrams of one format year.

    Attributes
    ----------
    slots : int
        Cars that a packet has room for; the first `num_active_cars` of them are in use.
    packet_ids : range
        Every packet id that the game sends in this format, decoded or not.
    g_units : float
        What the g_force fields hold for 1 G.
    packets : dict of int to numpy.dtype
        The layout of each packet that is decoded, by packet id.
    """

    slots: int
    packet_ids: range
    g_units: float
    packets: dict[int, np.dtype[np.void]]


FORMATS: dict[int, Format] = {
    2025: Format(
        slots=22,
        packet_ids=range(16),
        g_units=1.0,
        packets={
            MOTION: _motion(22, g_force="<f4"),
            LAP_DATA: _lap_data(22),
            PARTICIPANTS: _participants(22, identifier="u1"),
            CAR_TELEMETRY: _car_telemetry(22, engine_temperature="<u2"),
            CAR_STATUS: _car_status(22, harvest_limit=False),
        },
    ),
    2026: Format(
        slots=24,
        packet_ids=range(17),
        g_units=1000.0,
        packets={
            MOTION: _motion(24, g_force="<i2"),
            LAP_DATA: _lap_data(24),
            PARTICIPANTS: _participants(24, identifier="<u2"),
            CAR_TELEMETRY: _car_telemetry(24, engine_temperature="u1"),
            CAR_STATUS: _car_status(24, harvest_limit=True),
        },
    ),
}
"""The known formats by year."""


# What becomes a reading ---------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One sensor of a car; `low` and `high` are generous bounds of what is physically possible [channel's unit]."""

    channel: Channel
    name: str | None
    low: float
    high: float


# A part's place in this table is its number in the sensor id: append, never insert.
_PARTS = (
    _Part(SPEED, None, 0.0, 500.0),
    _Part(ENGINE_TEMP, None, 0.0, 300.0),
    *(_Part(TIRE_PRESSURE, wheel, 0.0, 10.0) for wheel in ("RL", "RR", "FL", "FR")),
    *(_Part(G_FORCE, axis, -250.0, 250.0) for axis in ("lateral", "longitudinal", "vertical")),
    _Part(FUEL_LEVEL, None, 0.0, 100.0),
)
_ROSTERS = 1 << 16  # that a reading's flags can tell apart
_SESSIONS = 16  # known at once: the game's own, and what others make up
_ROSTERS_KEPT = 4096  # the latest: more than change while a reading is on its way; forged ones take 8 MB
_IDS_PER_CAR = 16  # sensor_id = car * 16 + part: leaves room for parts to come
_MAX_SLOTS = max(form.slots for form in FORMATS.values())

# A conversion takes one row a car, one column a raw value (float64), and returns one column a part in its unit.
_Conversion = Callable[[Array, Format], Array]


def _to_g(raw: Array, form: Format) -> Array:
    # Divided, not multiplied by 0.001: then 5500 is exactly the 5.5 that a threshold says.
    return raw / form.g_units


_TELEMETRY_FACTORS: Array = np.array([1.0, 1.0] + [BAR_PER_PSI] * 4)


def _to_bar(raw: Array, form: Format) -> Array:
    converted: Array = raw * _TELEMETRY_FACTORS
    return converted


def _to_percent(raw: Array, form: Format) -> Array:
    in_tank, capacity = raw[:, :1], raw[:, 1:]
    return 100.0 * in_tank / capacity


class _Recipe(NamedTuple):
    """Which fields of a packet become readings, the same in every format."""

    cars: str  # the packet's array with one element a car
    fields: tuple[str, ...]
    parts: range
    convert: _Conversion


_RECIPES = {
    MOTION: _Recipe(
        "car_motion_data", ("g_force_lateral", "g_force_longitudinal", "g_force_vertical"), range(6, 9), _to_g
    ),
    CAR_TELEMETRY: _Recipe("car_telemetry_data", ("speed", "engine_temperature", "tyres_pressure"), range(6), _to_bar),
    CAR_STATUS: _Recipe("car_status_data", ("fuel_in_tank", "fuel_capacity"), range(9, 10), _to_percent),
}


class _Extractor:
    """A recipe prepared for the layout of one format, so that a datagram costs a fixed handful of array operations."""

    def __init__(self, form: Format, packet: np.dtype[np.void], recipe: _Recipe) -> None:
        assert packet.fields is not None
        cars, self._offset = packet.fields[recipe.cars][:2]
        self._form = form
        self._convert = recipe.convert
        # One element a car that shows only the fields of the recipe, at their places.
        self._raw = cars.base[list(recipe.fields)]
        # The same fields as doubles without gaps: a cast to it, one operation, leaves a plain table of float64.
        self._wide = np.dtype([(name, "f8", self._raw[name].shape) for name in recipe.fields])
        self._columns = self._wide.itemsize // 8
        self._template = _template(form.slots, recipe.parts)
        self._low = np.array([_PARTS[part].low for part in recipe.parts])
        self._high = np.array([_PARTS[part].high for part in recipe.parts])

    def __call__(self, datagram: Datagram, active: int, chosen: slice | Array, time: float) -> tuple[Array, int]:
        """Return the readings of the `chosen` ones of the `active` cars, and how many absurd ones were left out."""
        cars = np.frombuffer(datagram, self._raw, active, self._offset)[chosen]
        table = cars.astype(self._wide).view("f8").reshape(len(cars), self._columns)
        values = self._convert(table, self._form)
        readings = np.array(self._template[:active][chosen])
        readings["timestamp"] = time
        readings["value"] = values
        readings = readings.reshape(-1)
        sound = (values >= self._low) & (values <= self._high)  # NaN is neither
        if sound.all():
            return readings, 0
        kept = readings[sound.reshape(-1)]
        return kept, len(readings) - len(kept)


def _template(slots: int, parts: range) -> Array:
    """Return readings of shape (slots, parts) that lack only their timestamp and value."""
    template = np.zeros((slots, len(parts)), READING)
    template["sensor_id"] = np.arange(slots)[:, np.newaxis] * _IDS_PER_CAR + np.array(parts)
    template["channel"] = [_PARTS[part].channel.number for part in parts]
    return template


def _lap_numbers(packet: np.dtype[np.void]) -> tuple[int, int]:
    """Where in the packet the first car's lap number is, and how far the next is from it [bytes]."""
    assert packet.fields is not None
    cars, offset = packet.fields["lap_data"][:2]
    assert cars.base.fields is not None
    return offset + cars.base.fields["current_lap_num"][1], cars.base.itemsize


_LAP_NUMBERS = {year: _lap_numbers(form.packets[LAP_DATA]) for year, form in FORMATS.items()}
_MOST_LAPS = 200  # more than any session has
_SOUND_LAPS = bytes(lap if lap <= _MOST_LAPS else 0 for lap in range(256))  # by the lap number that was sent

_EXTRACTORS = {
    (year, packet_id): _Extractor(form, form.packets[packet_id], recipe)
    for year, form in FORMATS.items()
    for packet_id, recipe in _RECIPES.items()
}


# The decoder --------------------------------------------------------------------------------------------------------


_BEFORE_PARTICIPANTS = "before participants"


class _Header(NamedTuple):
    """The fields of `HEADER`, as Python numbers."""

    packet_format: int
    game_year: int
    game_major_version: int
    game_minor_version: int
    packet_version: int
    packet_id: int
    session_uid: int
    session_time: float
    frame_identifier: int
    overall_frame_identifier: int
    player_car_index: int
    secondary_player_car_index: int

    @property
    def session(self) -> tuple[int, int]:
        return self.packet_format, self.session_uid

    @property
    def frame(self) -> tuple[int, int, int]:
        return self.packet_format, self.session_uid, self.overall_frame_identifier


class _Roster(NamedTuple):
    """What a reading's flags say by number: who drives, and in which lap, by car."""

    drivers: tuple[str | None, ...]
    laps: bytes  # 0 where it is not known; may be shorter


_NOBODY = _Roster((), b"")


class _Session:
    """What is known of one session of the game.

    Anybody can send the participants of a session of his own; that must not displace what is known of the others.
    """

    __slots__ = ("active", "chosen", "gaps", "roster", "roster_in_use")

    def __init__(self, roster: int) -> None:
        self.active = 0
        self.chosen: slice | Array = slice(None)  # among the active cars; not used for "player"
        self.roster = roster  # its number: this session's own
        self.roster_in_use = False  # whether a reading has been given that number
        self.gaps = {packet_id: FrameGaps() for packet_id in EVERY_FRAME}


class Decoder:
    """Turns the datagrams of one game into readings.

    Which slots of a packet are cars, and who drives them, the game says in the participants packet: at the start of a
    session and every 5 s. Readings of a session that come before it are rejected ("before participants"), except those
    of its very frame: the game sends a frame's packets by packet id, motion (0) before participants (4). These are kept
    back until the participants packet comes, and returned for it. In which lap each car is comes in the lap data (2),
    so the motion (0) of the very frame in which a lap begins still counts as the lap before.

    Parameters
    ----------
    cars : "all", "player" or iterable of int
        Whose readings to return: every active car's, the player's, or those of these car indices.

    Attributes
    ----------
    rejected : collections.Counter
        How many datagrams were not used, by reason; and under "absurd value" how many single readings were left out of
        datagrams that were used: NaN, infinite or physically impossible values, such as fuel with a capacity of 0.
        Packets that the game sends and that hold nothing for us are not counted.
    lost : int
        How many datagrams are missing so far, of the four packets that come every frame (motion, lap data, car
        telemetry, car status): a gap in the frame numbers of a packet counts as one for each frame. It goes down where
        datagrams come late. See `FrameGaps`.

    Raises
    ------
    ValueError
        `cars` is something else, empty, or names a car index outside 0 to 23.

    Notes
    -----
    One thread at a time may call `decode`; others may call `describe` meanwhile, and read `lost` and a copy of
    `rejected`, ``dict(decoder.rejected)``.
    """

    def __init__(self, cars: str | Iterable[int] = "all") -> None:
        self.rejected: Counter[str] = Counter()
        self._cars = _checked_cars(cars)
        self.lost = 0
        self._sessions: dict[tuple[int, int], _Session] = {}  # the one that was used last is the last
        self._newest: _Session | None = None  # whose participants came last
        self._rosters: dict[int, _Roster] = {}  # by number; see `describe`
        self._last_roster = -1  # the number that was given last
        self._held_frame: tuple[int, int, int] | None = None  # the one that `_held` is of
        # By packet id, so that a flood cannot fill the memory
        self._held: dict[int, tuple[_Header, bytes, float | None]] = {}

    def decode(self, datagram: Datagram, time: float | None = None) -> Array:
        """Return the readings of one datagram; never raises for what it contains.

        Parameters
        ----------
        datagram : bytes, bytearray or memoryview
            One UDP payload, of anybody. Not referred to afterwards, unless it is kept back for the participants packet.
        time : float, optional
            The timestamp of its readings [s]. Without it, session time.

        Returns
        -------
        numpy.ndarray of READING, shape (n,)
            The caller's own, contiguous, by car, then by part; empty if the datagram holds no readings for us.
            Values: speed [km/h], engine temperature [°C], tyre pressures [bar], G-forces with their sign [G], fuel [%].
        """
        if len(datagram) < HEADER.itemsize:
            return self._reject("truncated datagram")
        header = _Header._make(_UNPACK_HEADER(datagram))
        if header.packet_format not in FORMATS:
            return self._reject("unknown format year")
        # Not `get`: CPython 3.13 without the GIL locks the dictionary twice in it where another thread made the key,
        # and finds that out by giving its processor away 40 times: 30 µs, on a busy machine many milliseconds.
        form = FORMATS[header.packet_format]
        if header.packet_id not in form.packet_ids:
            return self._reject("unknown packet id")
        if header.packet_id not in form.packets:
            return _nothing()
        fault = _fault(form, header, len(datagram))
        if fault is not None:
            return self._reject(fault)
        if header.packet_id == PARTICIPANTS:
            return self._take_participants(form, header, datagram)
        session = self._known(header.session)
        if session is None:
            return self._hold(header, datagram, time)
        return self._use(session, header, datagram, time)

    def describe(self, sensor_id: SupportsIndex, roster: int | None = None) -> dict[str, int | str | None]:
        """Say what a sensor id of this decoder stands for, for people.

        Parameters
        ----------
        sensor_id : int
            As in a reading: car * 16 + part.
        roster : int, optional
            The reading's ``flags``, which say who drove, and in which laps, when it was decoded. Without it, the
            latest.

        Returns
        -------
        dict
            ``"car"``: the car's index; ``"driver"``: the name in the participants packet, or None; ``"lap"``: the lap
            that the car was in, from 1, or None where the lap data have not told yet, or something absurd;
            ``"part"``: the wheel ("RL", "RR", "FL", "FR") or axis ("lateral", "longitudinal", "vertical"), or None
            where a car has one such sensor only.

        Raises
        ------
        ValueError
            No reading of this decoder has this sensor id.
        """
        car, part = divmod(operator.index(sensor_id), _IDS_PER_CAR)
        if not (0 <= car < _MAX_SLOTS and part < len(_PARTS)):
            raise ValueError(
                f"sensor_id is {sensor_id}: expected car * {_IDS_PER_CAR} + part, car 0 to {_MAX_SLOTS - 1}, "
                f"part 0 to {len(_PARTS) - 1}, as in the readings that Decoder.decode returns"
            )
        # `decode` may go on in another thread: each is looked at once.
        if roster is None and (newest := self._newest) is not None:
            roster = newest.roster
        drivers, laps = _NOBODY if roster is None else self._rosters.get(roster, _NOBODY)
        return {
            "car": car,
            "driver": drivers[car] if car < len(drivers) else None,
            "lap": (laps[car] if car < len(laps) else 0) or None,
            "part": _PARTS[part].name,
        }

    def _reject(self, reason: str) -> Array:
        self.rejected[reason] += 1
        return _nothing()

    def _take_participants(self, form: Format, header: _Header, datagram: Datagram) -> Array:
        """Remember who drives; return what was held back of this packet's frame."""
        packet = np.frombuffer(datagram, form.packets[PARTICIPANTS], 1)[0]
        active = int(packet["num_active_cars"])
        if active > form.slots:
            return self._reject("impossible car count")
        session = self._newest = self._known(header.session) or self._new_session(header.session)
        session.active = active
        if isinstance(self._cars, tuple):
            session.chosen = np.array([car for car in self._cars if car < active], np.intp)
        drivers = tuple(_driver(name) for name in packet["participants"]["name"][:active].tolist())
        self._note(session, self._roster_of(session)._replace(drivers=drivers))
        return self._release(session, header)

    def _known(self, key: tuple[int, int]) -> _Session | None:
        session = self._sessions.get(key)
        if session is not None and next(reversed(self._sessions)) != key:
            self._sessions[key] = self._sessions.pop(key)
        return session

    def _new_session(self, key: tuple[int, int]) -> _Session:
        if len(self._sessions) == _SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session = self._sessions[key] = _Session(self._new_roster())
        return session

    def _new_roster(self) -> int:
        """Return the next number; the oldest is forgotten."""
        self._last_roster = (self._last_roster + 1) % _ROSTERS
        self._rosters.pop((self._last_roster - _ROSTERS_KEPT) % _ROSTERS, None)
        return self._last_roster

    def _roster_of(self, session: _Session) -> _Roster:
        return self._rosters.get(session.roster, _NOBODY)

    def _take_laps(self, session: _Session, header: _Header, datagram: Datagram) -> Array:
        """Remember in which lap each car is."""
        start, stride = _LAP_NUMBERS[header.packet_format]
        laps = bytes(datagram[start : start + stride * session.active : stride]).translate(_SOUND_LAPS)
        self._note(session, self._roster_of(session)._replace(laps=laps))
        return _nothing()

    def _note(self, session: _Session, roster: _Roster) -> None:
        if roster == self._roster_of(session):
            return
        if session.roster_in_use:
            session.roster, session.roster_in_use = self._new_roster(), False
        self._rosters[session.roster] = roster

    def _hold(self, header: _Header, datagram: Datagram, time: float | None) -> Array:
        """Keep the datagram until its frame is over; counted as rejected until it is used after all."""
        if header.frame != self._held_frame:
            self._held_frame = header.frame
            self._held.clear()
        self._held[header.packet_id] = header, bytes(datagram), time
        return self._reject(_BEFORE_PARTICIPANTS)

    def _release(self, session: _Session, participants: _Header) -> Array:
        held = list(self._held.values()) if participants.frame == self._held_frame else []
        self._held.clear()
        if not held:
            return _nothing()
        self.rejected[_BEFORE_PARTICIPANTS] -= len(held)
        if not self.rejected[_BEFORE_PARTICIPANTS]:
            del self.rejected[_BEFORE_PARTICIPANTS]
        held.sort(key=lambda each: each[0].packet_id != LAP_DATA)  # first: so that the others' laps are known
        return np.concatenate([self._use(session, *each) for each in held])

    def _use(self, session: _Session, header: _Header, datagram: Datagram, time: float | None) -> Array:
        """Return the readings of a datagram of a session whose participants are known."""
        gaps = session.gaps[header.packet_id]
        before = gaps.lost
        gaps.add(header.overall_frame_identifier)
        self.lost += gaps.lost - before
        if header.packet_id == LAP_DATA:
            return self._take_laps(session, header, datagram)
        return self._extract(session, header, datagram, header.session_time if time is None else time)

    def _extract(self, session: _Session, header: _Header, datagram: Datagram, time: float) -> Array:
        player = header.player_car_index
        chosen = slice(player, player + 1) if self._cars == "player" else session.chosen
        extract = _EXTRACTORS[header.packet_format, header.packet_id]
        with np.errstate(all="ignore"):  # NaN and division by zero are expected, and counted
            readings, absurd = extract(datagram, session.active, chosen, time)
        if absurd:
            self.rejected["absurd value"] += absurd
        readings["flags"] = session.roster
        session.roster_in_use = True
        return readings


def _fault(form: Format, header: _Header, size: int) -> str | None:
    """Return why a datagram of a packet that is decoded cannot be trusted, None if it can."""
    expected = form.packets[header.packet_id].itemsize
    if size < expected:
        return "truncated datagram"
    if size > expected:
        return "oversized datagram"
    if header.packet_version != PACKET_VERSION:
        return "unknown packet version"
    if not 0.0 <= header.session_time < float("inf"):
        return "absurd session time"
    if header.player_car_index >= form.slots:
        return "impossible player index"
    return None


def _checked_cars(cars: str | Iterable[int]) -> str | tuple[int, ...]:
    """Return "all", "player" or the car indices, ascending, each once."""
    expected = f"expected 'all', 'player' or car indices from 0 to {_MAX_SLOTS - 1}"
    if isinstance(cars, str):
        if cars not in ("all", "player"):
            raise ValueError(f"cars is {cars!r}: {expected}")
        return cars
    try:
        indices = sorted({operator.index(car) for car in cars})
    except TypeError:
        raise ValueError(f"cars is {cars!r}: {expected}") from None
    if not indices:
        raise ValueError(f"cars is empty: {expected}")
    for index in indices:
        if not 0 <= index < _MAX_SLOTS:
            raise ValueError(f"cars holds {index}: {expected}")
    return tuple(indices)


def _driver(name: bytes) -> str | None:
    """Return a driver's name, fit to be printed: a datagram may hold anything, terminal control characters included."""
    return clean(name.partition(b"\0")[0].decode(errors="replace")) or None


def _nothing() -> Array:
    return np.empty(0, READING)
