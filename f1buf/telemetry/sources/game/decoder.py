"""Readings from the datagrams that the F1 games send over UDP: packet layouts and the decoder.

The layouts follow EA's published UDP specification of F1 25, in its 2025 and its 2026 format; names of fields are those
of the package f1-packets (MIT, one format a release), against which the tests compare every field. A datagram is one
packet: little-endian, packed, a common header first. The format is the header's `packet_format`, a year, which a player
chooses in the game's settings.

Five packets are decoded: motion (0), lap data (2), participants (4), car telemetry (6) and car status (7). Adding a
format is adding an entry to `FORMATS`; adding a packet is adding its layout there and, if it holds readings, a
`_Recipe`.

Anybody can send a datagram: size, format, packet id and version, session time and car count are checked before one is
used, and each value after. The player's index is looked at for `cars="player"` alone: an index that is no car's rejects
no datagram, the player is then not there.

Which slots of a packet are cars
    A car keeps its slot for the whole session, and a slot that empties amid the others stays where it is. EA's
    specification, among its questions and answers, says to look at each car's result status in the lap data: where that
    is neither "invalid" nor "inactive" the slot holds valid data. So a car that has finished or retired is still read.
    The number of active cars in the participants packet says how many there are, not where; it counts until the lap
    data have called a slot a car's. Always a slot of which a packet has nothing but zeros is empty there, whatever
    its status: no car has tyres at 0 psi and 0 °C, or looks in no direction.
"""

import operator
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE, Channel
from f1buf.telemetry.sessions import checked_session, is_wanted, with_session
from f1buf.telemetry.sources.game.gaps import FrameGaps
from f1buf.telemetry.text import clean

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
        ("player_car_index", "u1"),  # 255: nobody plays, the session is watched
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
        Cars that a packet has room for.
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
_SESSIONS = 16  # known at once: those of several games, and what others make up
_IN_USE = 4096  # datagrams, 17 s of one game's: a session that sent one among so many of the latest is not displaced
_ROSTERS_KEPT = 4096  # the latest: more than change while a reading is on its way; forged ones take 8 MB
_MAX_SLOTS = max(form.slots for form in FORMATS.values())
# sensor_id = session's number * 512 + car * 16 + part: leaves room for parts to come
_IDS_PER_CAR = 16
_IDS_PER_SESSION = 1 << (_MAX_SLOTS * _IDS_PER_CAR - 1).bit_length()
_NUMBERS = (1 << 32) // _IDS_PER_SESSION  # of sessions that have had readings; none is used twice
_NO_PLAYER = 255
_INACTIVE = 1  # the result status of a slot that holds no car: this, or 0, "invalid"

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


_Cars = slice | Array  # slots


class _Extractor:
    """A recipe prepared for the layout of one format, so that a datagram costs a fixed handful of array operations."""

    def __init__(self, form: Format, packet: np.dtype[np.void], recipe: _Recipe) -> None:
        assert packet.fields is not None
        cars, self._offset = packet.fields[recipe.cars][:2]
        self._form = form
        self._convert = recipe.convert
        # One element a car that shows only the fields of the recipe, at their places.
        self._raw = cars.base[list(recipe.fields)]
        self._whole = np.dtype((np.void, cars.base.itemsize))
        # The same fields as doubles without gaps: a cast to it, one operation, leaves a plain table of float64.
        self._wide = np.dtype([(name, "f8", self._raw[name].shape) for name in recipe.fields])
        self._columns = self._wide.itemsize // 8
        self._template = _template(form.slots, recipe.parts)
        self._low = np.array([_PARTS[part].low for part in recipe.parts])
        self._high = np.array([_PARTS[part].high for part in recipe.parts])

    def template(self, cars: _Cars, first_id: int, flags: int) -> bytes:
        """Return the bytes of these cars' readings, which lack only their timestamp and value."""
        template = np.array(self._template[cars])
        template["sensor_id"] += first_id
        template["flags"] = flags
        return template.tobytes()

    def full(self, datagram: Datagram, cars: _Cars) -> Array | None:
        """Return which of `cars` have a slot that is not all zero, by their places there; None: all of them."""
        slots = np.frombuffer(datagram, self._whole, self._form.slots, self._offset)[cars]
        return None if np.count_nonzero(slots) == len(slots) else slots.nonzero()[0]

    def only(self, full: Array, cars: _Cars, template: bytes) -> tuple[_Cars, bytes]:
        """Return `cars` and `template` without those that are not `full`."""
        its = np.arange(self._form.slots)[cars]
        return its[full], np.frombuffer(template, READING).reshape(len(its), -1)[full].tobytes()

    def __call__(self, datagram: Datagram, cars: _Cars, template: bytes, time: float) -> tuple[Array, int]:
        """Return the readings of these cars, and how many absurd ones were left out."""
        raw = np.frombuffer(datagram, self._raw, self._form.slots, self._offset)[cars]
        table = raw.astype(self._wide).view("f8").reshape(len(raw), self._columns)
        values = self._convert(table, self._form)
        readings = np.frombuffer(bytearray(template), READING)  # numpy would copy records field by field
        readings["timestamp"] = time
        readings["value"] = values.reshape(-1)
        sound = (values >= self._low) & (values <= self._high)  # NaN is neither
        if np.count_nonzero(sound) == sound.size:
            return readings, 0
        kept = readings[sound.reshape(-1)]
        return kept, len(readings) - len(kept)


def _template(slots: int, parts: range) -> Array:
    """Return readings of the first session."""
    template = np.zeros((slots, len(parts)), READING)
    template["sensor_id"] = np.arange(slots)[:, np.newaxis] * _IDS_PER_CAR + np.array(parts)
    template["channel"] = [_PARTS[part].channel.number for part in parts]
    return template


def _of_each_car(packet: np.dtype[np.void], field: str) -> tuple[int, int]:
    """Where in the lap data the first car's `field`, one byte, is, and how far the next is from it [bytes]."""
    assert packet.fields is not None
    cars, offset = packet.fields["lap_data"][:2]
    assert cars.base.fields is not None
    return offset + cars.base.fields[field][1], cars.base.itemsize


_LAP_NUMBERS = {year: _of_each_car(form.packets[LAP_DATA], "current_lap_num") for year, form in FORMATS.items()}
_STATUSES = {year: _of_each_car(form.packets[LAP_DATA], "result_status") for year, form in FORMATS.items()}
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
    """What a reading's flags say by number: of which session it is, who drives, and in which lap, by car."""

    drivers: tuple[str | None, ...] = ()
    laps: bytes = b""  # 0 where it is not known; may be shorter
    session: int | None = None  # its uid
    several: bool = False  # whether there had been readings of other sessions, too


_NOBODY = _Roster()


class _Session:
    """What is known of one session of a game."""

    __slots__ = (
        "active",
        "cars",
        "flags",
        "gaps",
        "heard",
        "last_used",
        "number",
        "player",
        "roster",
        "statuses",
        "templates",
    )

    def __init__(self, uid: int, number: int) -> None:
        self.number = number  # its own from its first reading on; until then the next that is free
        self.heard = False  # whether there has been a reading
        self.last_used = 0  # which of the decoder's datagrams was its latest
        self.active = 0  # how many cars there are, as the participants say
        self.statuses: bytes | None = None  # by slot; None until the lap data have called a slot a car's
        self.player = _NO_PLAYER
        self.cars: _Cars | None = None  # whose readings are wanted; None: nobody's
        self.templates: dict[int, bytes] = {}  # of their readings, by packet id; made when they are needed
        self.roster = _Roster(session=uid)
        self.flags: int | None = None  # the roster's number; None until there is a reading of it
        self.gaps = {packet_id: FrameGaps() for packet_id in EVERY_FRAME}

    @property
    def slots(self) -> list[int]:
        """Which slots are cars."""
        if self.statuses is None:
            return list(range(self.active))
        return [slot for slot, status in enumerate(self.statuses) if status > _INACTIVE]


class Decoder:
    """Turns the datagrams of the games into readings.

    Who drives, the game says in the participants packet: at the start of a session and every 5 s. Readings of a session
    that come before it are rejected ("before participants"), except those of its very frame: the game sends a frame's
    packets by packet id, motion (0) before participants (4). These are kept back until the participants packet comes,
    and returned for it. In which lap each car is comes in the lap data (2), so the motion (0) of the very frame in
    which a lap begins still counts as the lap before. So does which slots are cars; see the module.

    Each session has its own sensor ids, so that no other one continues its series: those of the first whose readings
    come begin at 0, those of the next at 512, and so on. Of 16 sessions that are in use at once further ones are
    rejected ("too many sessions"): a flood of forged ones displaces none that is in use. A session that was displaced
    and comes back begins anew, as another one.

    Parameters
    ----------
    cars : "all", "player" or iterable of int
        Whose readings to return, of each session: those of every car, the player's, or these car indices'.
    session : str or int, optional
        The one session to read: its number, or the last digits of it, four at least; a shorter number has zeros before
        it, ``"0099"``. Datagrams of others are rejected ("other session"). What fits several reads them all.

    Attributes
    ----------
    rejected : collections.Counter
        How many datagrams were not used, by reason; and under "absurd value" how many single readings were left out of
        datagrams that were used: NaN, infinite or physically impossible values, such as fuel with a capacity of 0.
        Packets that the game sends and that hold nothing for us are not counted, nor are empty slots beside one that is
        read. Of a datagram in which no car is there the reason is "no cars"; with a choice of cars, where none of these
        is there, "car not there"; with the player's car chosen and nobody playing, the session being watched, "nobody
        plays".
    lost : int
        How many datagrams are missing so far, of the four packets that come every frame (motion, lap data, car
        telemetry, car status): a gap in the frame numbers of a packet counts as one for each frame. It goes down where
        datagrams come late. See `FrameGaps`.
    session : str or None
        The digits that a session's number must end with to be read; None: each is read.
    sessions : tuple of int
        The game's numbers of the sessions that readings came of, in that order: the latest 16.
    others : tuple of int
        Those of the sessions that were heard and not wanted: the latest 16.

    Raises
    ------
    ValueError
        `cars` is something else, empty, or names a car index outside 0 to 23; or `session` is no such number.

    Notes
    -----
    One thread at a time may call `decode`; others may call `describe` meanwhile, and read `lost`, `sessions`, `others`
    and a copy of `rejected`, ``dict(decoder.rejected)``.
    """

    def __init__(self, cars: str | Iterable[int] = "all", session: str | int | None = None) -> None:
        self.rejected: Counter[str] = Counter()
        self._cars = _checked_cars(cars)
        self.session = checked_session(session)
        self.lost = 0
        self.sessions: tuple[int, ...] = ()
        self.others: tuple[int, ...] = ()
        self._sessions: dict[tuple[int, int], _Session] = {}
        self._datagrams = 0  # how many of the sessions' have come
        self._numbers = 0  # how many sessions have had readings
        self._rosters: dict[int, _Roster] = {}  # by number; see `describe`
        self._last_roster = -1  # the number that was given last
        # By session its latest frame, and of that by packet id, so that a flood cannot fill the memory
        self._held: dict[tuple[int, int], tuple[int, dict[int, tuple[_Header, bytes, float | None]]]] = {}

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
        session = self._known(header.session)
        if session is None and not is_wanted(header.session_uid, self.session):
            self.others = with_session(self.others, header.session_uid)
            return self._reject("other session")
        if header.packet_id == PARTICIPANTS:
            return self._take_participants(session, form, header, datagram)
        if session is None:
            return self._hold(header, datagram, time)
        return self._use(session, header, datagram, time)

    def describe(self, sensor_id: SupportsIndex, roster: int | None = None) -> dict[str, int | str | None]:
        """Say what a sensor id of this decoder stands for, for people.

        Parameters
        ----------
        sensor_id : int
            As in a reading: the session's number here * 512 + car * 16 + part.
        roster : int, optional
            The reading's ``flags``, which say who drove, and in which laps, when it was decoded. Without it, the
            latest.

        Returns
        -------
        dict
            ``"car"``: the car's index; ``"driver"``: the name in the participants packet, or None; ``"lap"``: the lap
            that the car was in, from 1, or None where the lap data have not told yet, or something absurd;
            ``"part"``: the wheel ("RL", "RR", "FL", "FR") or axis ("lateral", "longitudinal", "vertical"), or None
            where a car has one such sensor only; ``"session"``: the game's number of the session, or None where it is
            not known any more; ``"several"``: whether readings of more than one session had come by then.

        Raises
        ------
        ValueError
            No reading of this decoder has this sensor id.
        """
        number, rest = divmod(operator.index(sensor_id), _IDS_PER_SESSION)
        car, part = divmod(rest, _IDS_PER_CAR)
        if not (0 <= number < _NUMBERS and car < _MAX_SLOTS and part < len(_PARTS)):
            raise ValueError(
                f"sensor_id is {sensor_id}: expected car * {_IDS_PER_CAR} + part, car 0 to {_MAX_SLOTS - 1}, "
                f"part 0 to {len(_PARTS) - 1}, and {_IDS_PER_SESSION} more for each session before, "
                "as in the readings that Decoder.decode returns"
            )
        # `decode` may go on in another thread: each is looked at once.
        if roster is None:
            its = [session for session in list(self._sessions.values()) if session.number == number]
            # Those without a reading have a number that another one may have got by now.
            known = max(its, key=lambda session: (session.heard, session.last_used)).roster if its else _NOBODY
        else:
            known = self._rosters.get(roster, _NOBODY)
        drivers, laps, uid, several = known
        return {
            "car": car,
            "driver": drivers[car] if car < len(drivers) else None,
            "lap": (laps[car] if car < len(laps) else 0) or None,
            "part": _PARTS[part].name,
            "session": uid,
            "several": several,
        }

    def _reject(self, reason: str) -> Array:
        self.rejected[reason] += 1
        return _nothing()

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _known(self, key: tuple[int, int]) -> _Session | None:
        self._datagrams += 1
        if key not in self._sessions:
            return None
        session = self._sessions[key]
        session.last_used = self._datagrams
        return session

    def _new_session(self, key: tuple[int, int]) -> _Session | None:
        """Make room for another session, and begin it; None where all are in use."""
        if len(self._sessions) == _SESSIONS and not self._forget_one():
            return None
        session = self._sessions[key] = _Session(key[1], self._numbers)
        session.last_used = self._datagrams
        return session

    def _forget_one(self) -> bool:
        """Forget a session: one of which there was no reading, or else one that is not in use any more."""
        unheard = [key for key, session in self._sessions.items() if not session.heard]
        oldest = min(unheard or self._sessions, key=lambda key: self._sessions[key].last_used)
        if not unheard and self._datagrams - self._sessions[oldest].last_used < _IN_USE:
            return False
        del self._sessions[oldest]
        return True

    def _begin_readings(self, session: _Session, uid: int) -> bool:
        """Give a session its own number, for its first reading; false where there is none left."""
        if self._numbers == _NUMBERS:
            return False
        session.number, session.heard = self._numbers, True
        self._numbers += 1
        self.sessions = with_session(self.sessions, uid)  # it is there where a player has changed the format
        if len(self.sessions) > 1:
            for each in self._sessions.values():
                self._note(each, each.roster._replace(several=True))
        session.templates.clear()
        return True

    # -- who drives, where and in which lap ---------------------------------------------------------------------------

    def _take_participants(self, session: _Session | None, form: Format, header: _Header, datagram: Datagram) -> Array:
        """Remember who drives; return what was held back of this packet's frame."""
        packet = np.frombuffer(datagram, form.packets[PARTICIPANTS], 1)[0]
        active = int(packet["num_active_cars"])
        if active > form.slots:
            return self._reject("impossible car count")
        session = session or self._new_session(header.session)
        if session is None:
            self._held.pop(header.session, None)
            return self._reject("too many sessions")
        session.active = active
        self._choose(session)
        drivers = tuple(_driver(name) for name in packet["participants"]["name"].tolist())
        self._note(session, session.roster._replace(drivers=drivers))
        return self._release(session, header)

    def _choose(self, session: _Session) -> None:
        """Note whose readings are wanted, after a change."""
        slots = session.slots
        if self._cars != "all":
            wanted = (session.player,) if self._cars == "player" else self._cars
            slots = [slot for slot in slots if slot in wanted]
        if not slots:
            session.cars = None
        elif len(slots) == slots[-1] + 1 - slots[0]:
            session.cars = slice(slots[0], slots[-1] + 1)
        else:
            session.cars = np.array(slots, np.intp)
        session.templates.clear()

    def _take_laps(self, session: _Session, header: _Header, datagram: Datagram) -> Array:
        """Remember which slots are cars, and in which lap each is."""
        slots = FORMATS[header.packet_format].slots
        start, stride = _STATUSES[header.packet_format]
        statuses = bytes(datagram[start : start + stride * slots : stride])
        if statuses != session.statuses and (session.statuses is not None or max(statuses) > _INACTIVE):
            session.statuses = statuses
            self._choose(session)
        if session.statuses is None:
            slots = session.active
        start, stride = _LAP_NUMBERS[header.packet_format]
        laps = bytes(datagram[start : start + stride * slots : stride]).translate(_SOUND_LAPS)
        self._note(session, session.roster._replace(laps=laps))
        return _nothing()

    def _note(self, session: _Session, roster: _Roster) -> None:
        """Note what is known by now; where it is the same, see that it is not forgotten among those of others."""
        if roster == session.roster and not self._is_old(session.flags):
            return
        session.roster, session.flags = roster, None
        session.templates.clear()

    def _is_old(self, flags: int | None) -> bool:
        return flags is not None and (self._last_roster - flags) % _ROSTERS >= _ROSTERS_KEPT // 2

    def _flags_of(self, session: _Session) -> int:
        """Return the number of a session's roster; where it needs a new one, the oldest is forgotten."""
        if session.flags is None:
            session.flags = self._last_roster = (self._last_roster + 1) % _ROSTERS
            self._rosters[session.flags] = session.roster
            self._rosters.pop((session.flags - _ROSTERS_KEPT) % _ROSTERS, None)
        return session.flags

    # -- what comes before its session's participants -----------------------------------------------------------------

    def _hold(self, header: _Header, datagram: Datagram, time: float | None) -> Array:
        """Keep the datagram until its frame is over; counted as rejected until it is used after all."""
        frame, held = self._held.pop(header.session, (-1, {}))
        if frame != header.overall_frame_identifier:
            held = {}
        held[header.packet_id] = header, bytes(datagram), time
        self._held[header.session] = header.overall_frame_identifier, held
        if len(self._held) > _SESSIONS:
            del self._held[next(iter(self._held))]
        return self._reject(_BEFORE_PARTICIPANTS)

    def _release(self, session: _Session, participants: _Header) -> Array:
        frame, packets = self._held.pop(participants.session, (-1, {}))
        held = list(packets.values()) if frame == participants.overall_frame_identifier else []
        if not held:
            return _nothing()
        self.rejected[_BEFORE_PARTICIPANTS] -= len(held)
        if not self.rejected[_BEFORE_PARTICIPANTS]:
            del self.rejected[_BEFORE_PARTICIPANTS]
        held.sort(key=lambda each: each[0].packet_id != LAP_DATA)  # first: so that the others' laps are known
        return np.concatenate([self._use(session, *each) for each in held])

    # -- readings -----------------------------------------------------------------------------------------------------

    def _use(self, session: _Session, header: _Header, datagram: Datagram, time: float | None) -> Array:
        """Return the readings of a datagram of a session whose participants are known."""
        gaps = session.gaps[header.packet_id]
        before = gaps.lost
        gaps.add(header.overall_frame_identifier)
        self.lost += gaps.lost - before
        if header.packet_id == LAP_DATA:
            return self._take_laps(session, header, datagram)
        if self._cars == "player" and header.player_car_index != session.player:
            session.player = header.player_car_index
            self._choose(session)
        return self._extract(session, header, datagram, header.session_time if time is None else time)

    def _extract(self, session: _Session, header: _Header, datagram: Datagram, time: float) -> Array:
        if self._cars == "player" and session.player == _NO_PLAYER:
            return self._reject("nobody plays")
        cars = session.cars
        packet_id = header.packet_id
        extract = _EXTRACTORS[header.packet_format, packet_id]
        full = None if cars is None else extract.full(datagram, cars)
        if cars is None or (full is not None and not len(full)):
            return self._reject("no cars" if self._cars == "all" else "car not there")
        if not session.heard and not self._begin_readings(session, header.session_uid):
            return self._reject("too many sessions")
        if packet_id not in session.templates:
            first_id = session.number * _IDS_PER_SESSION
            session.templates[packet_id] = extract.template(cars, first_id, self._flags_of(session))
        template = session.templates[packet_id]
        if full is not None:
            cars, template = extract.only(full, cars, template)
        with np.errstate(all="ignore"):  # NaN and division by zero are expected, and counted
            readings, absurd = extract(datagram, cars, template, time)
        if absurd:
            self.rejected["absurd value"] += absurd
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
