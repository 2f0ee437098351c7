"""The packets that the F1 games send over UDP: where each field is.

The layouts follow EA's published UDP specification of F1 25, in its 2025 and its 2026 format; names of fields are those
of the package f1-packets (MIT, one format a release), against which the tests compare every field. A datagram is one
packet: little-endian, packed, `HEADER` first. The format is the header's `packet_format`, a year that the player
chooses in the game's settings.

To add a format, add an entry to `FORMATS`. To add a packet, add its layout there and, if it holds readings, a recipe in
`f1buf.telemetry.sources.game.readings`.
"""

import re
import struct
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "CAR_STATUS",
    "CAR_TELEMETRY",
    "FORMATS",
    "HEADER",
    "LAP_DATA",
    "MOTION",
    "PACKET_VERSION",
    "PARTICIPANTS",
    "Format",
    "Header",
]

Layout = np.dtype[np.void]

MOTION, LAP_DATA, PARTICIPANTS, CAR_TELEMETRY, CAR_STATUS = 0, 2, 4, 6, 7
"""The ids of the packets that are decoded."""

PACKET_VERSION = 1
"""The version of each of these packets, in both formats."""


def _layout(text: str, **types: Any) -> Layout:
    """Return the layout that a text describes: a type a line, the fields of this type, and behind "#" a comment.

    A type is numpy's, or one of `types`; a field ``name[4]`` is an array.
    """
    fields: list[tuple[Any, ...]] = []
    for line in text.splitlines():
        kind, *names = line.partition("#")[0].split() or [""]
        numpy_type = types.get(kind) or f"<{kind}"
        for name, count in re.findall(r"(\w+)(?:\[(\d+)\])?", " ".join(names)):
            fields.append((name, numpy_type, int(count)) if count else (name, numpy_type))
    return np.dtype(fields)


HEADER = _layout("""
    u2 packet_format                    # the year, which says how all that follows is laid out
    u1 game_year game_major_version game_minor_version packet_version packet_id
    u8 session_uid
    f4 session_time                     # [s]
    u4 frame_identifier                 # goes back after a flashback
    u4 overall_frame_identifier         # never goes back
    u1 player_car_index                 # 255: nobody plays, the session is watched
    u1 secondary_player_car_index       # 255: there is no second player
""")
"""The 29 bytes that every packet starts with, in both formats."""

_UNPACK_HEADER = struct.Struct("<H5BQf2I2B").unpack_from  # the same fields; numpy takes three times as long


class Header(NamedTuple):
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

    @classmethod
    def of(cls, datagram: bytes | bytearray | memoryview) -> "Header":
        """Return the header of a datagram of 29 bytes or more."""
        return cls._make(_UNPACK_HEADER(datagram))

    @property
    def session(self) -> tuple[int, int]:
        """What tells sessions apart: a player who changes the format begins another one."""
        return self.packet_format, self.session_uid


_CAR_MOTION = """
    f4 world_position_x world_position_y world_position_z world_velocity_x world_velocity_y world_velocity_z
    i2 world_forward_dir_x world_forward_dir_y world_forward_dir_z
    i2 world_right_dir_x world_right_dir_y world_right_dir_z
    g_force g_force_lateral g_force_longitudinal g_force_vertical
    f4 yaw pitch roll
"""
_CAR_LAP = """
    u4 last_lap_time_in_ms current_lap_time_in_ms
    u2 sector1_time_ms_part
    u1 sector1_time_minutes_part
    u2 sector2_time_ms_part
    u1 sector2_time_minutes_part
    u2 delta_to_car_in_front_ms_part
    u1 delta_to_car_in_front_minutes_part
    u2 delta_to_race_leader_ms_part
    u1 delta_to_race_leader_minutes_part
    f4 lap_distance total_distance      # [m]
    f4 safety_car_delta                 # [s]
    u1 car_position
    u1 current_lap_num                  # from 1; 0 for a car that is not there
    u1 pit_status num_pit_stops sector current_lap_invalid penalties total_warnings corner_cutting_warnings
    u1 num_unserved_drive_through_pens num_unserved_stop_go_pens grid_position driver_status result_status
    u1 pit_lane_timer_active
    u2 pit_lane_time_in_lane_in_ms pit_stop_timer_in_ms
    u1 pit_stop_should_serve_pen
    f4 speed_trap_fastest_speed
    u1 speed_trap_fastest_lap
"""
_PARTICIPANT = """
    u1 ai_controlled
    identifier driver_id network_id team_id
    u1 my_team race_number nationality
    S32 name                            # UTF-8, ended by a zero byte
    u1 your_telemetry show_online_names
    u2 tech_level
    u1 platform num_colours
    colour livery_colours[4]
"""
_CAR_TELEMETRY = """
    u2 speed                            # [km/h]
    f4 throttle steer brake
    u1 clutch
    i1 gear
    u2 engine_rpm
    u1 drs rev_lights_percent
    u2 rev_lights_bit_value brakes_temperature[4]
    u1 tyres_surface_temperature[4] tyres_inner_temperature[4]
    temperature engine_temperature      # [°C]
    f4 tyres_pressure[4]                # [psi], RL, RR, FL, FR
    u1 surface_type[4]
"""
_CAR_STATUS = """
    u1 traction_control anti_lock_brakes fuel_mix front_brake_bias pit_limiter_status
    f4 fuel_in_tank                     # [kg]
    f4 fuel_capacity                    # [kg]; 0 for a driver who keeps the telemetry private in an online race
    f4 fuel_remaining_laps
    u2 max_rpm idle_rpm
    u1 max_gears drs_allowed
    u2 drs_activation_distance
    u1 actual_tyre_compound visual_tyre_compound tyres_age_laps
    i1 vehicle_fia_flags
    f4 engine_power_ice engine_power_mguk ers_store_energy
    u1 ers_deploy_mode
    f4 ers_harvested_this_lap_mguk ers_harvested_this_lap_mguh
    {harvest_limit}
    f4 ers_deployed_this_lap
    u1 network_paused
"""


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
    packets: dict[int, Layout]


def _packets(
    slots: int, *, g_force: str, identifier: str, temperature: str, harvest_limit: str = ""
) -> dict[int, Layout]:
    """Return the layouts of a format; the formats differ in the types that are given here."""

    def packet(text: str, car: Layout) -> Layout:
        return _layout(f"header header\n{text}", header=HEADER, cars=(car, slots))

    colour = _layout("u1 red green blue")
    status = _layout(_CAR_STATUS.format(harvest_limit=harvest_limit))
    return {
        MOTION: packet("cars car_motion_data", _layout(_CAR_MOTION, g_force=g_force)),
        LAP_DATA: packet("cars lap_data\nu1 time_trial_pb_car_idx time_trial_rival_car_idx", _layout(_CAR_LAP)),
        PARTICIPANTS: packet(
            "u1 num_active_cars\ncars participants", _layout(_PARTICIPANT, identifier=identifier, colour=colour)
        ),
        CAR_TELEMETRY: packet(
            "cars car_telemetry_data\nu1 mfd_panel_index mfd_panel_index_secondary_player\ni1 suggested_gear",
            _layout(_CAR_TELEMETRY, temperature=temperature),
        ),
        CAR_STATUS: packet("cars car_status_data", status),
    }


FORMATS: dict[int, Format] = {
    2025: Format(
        slots=22,
        packet_ids=range(16),
        g_units=1.0,
        packets=_packets(22, g_force="<f4", identifier="u1", temperature="<u2"),
    ),
    2026: Format(
        slots=24,
        packet_ids=range(17),
        g_units=1000.0,
        packets=_packets(
            24, g_force="<i2", identifier="<u2", temperature="u1", harvest_limit="f4 ers_harvest_limit_per_lap"
        ),
    ),
}
"""The known formats by year."""
