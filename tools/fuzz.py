"""A fuzzer over what comes from outside: the datagrams of the F1 games, recording files, and logs of CAN frames.

    python tools/fuzz.py TARGET [--seconds N] [--seed S] [--cases DIR] [--input FILE]

It changes good inputs at random, and keeps an input with a new outcome, to change it further. Each is checked without
the code under test: datagrams by a second decoder, written here from the specification by other means; recordings by
the rows that were written, by where in the file each of them lies, and by the rows that the damaged file's pages still
hold; logs, a target for each format, by the second readers of `can_logs`. A child process of limited memory and time
tries the inputs, so a crash or an endless loop is a finding, too. An input that fails is kept as a case: a file in
`tests/telemetry/cases`, which the tests try again, or in another folder. `--input` tries one case alone.
"""

import argparse
import contextlib
import functools
import hashlib
import math
import mmap
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter, OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "telemetry")]  # for what it shares with the tests

from can_logs import LOG_TARGETS
from helpers import WATCHDOG, in_fork, recordings_folder
from test_f1game import blank
from test_recording import SCHEMA

from f1buf import READING
from f1buf.telemetry.channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording

MOTION, LAP_DATA, PARTICIPANTS, CAR_TELEMETRY, CAR_STATUS = 0, 2, 4, 6, 7

# A second decoder -----------------------------------------------------------------------------------------------------

HEADER = struct.Struct("<H5BQfIIBB")

# Bytes between the header and the cars, and behind the cars
AROUND = {MOTION: (0, 0), LAP_DATA: (0, 2), PARTICIPANTS: (1, 0), CAR_TELEMETRY: (0, 3), CAR_STATUS: (0, 0)}


class Layout(NamedTuple):
    slots: int
    packet_ids: int  # how many there are, from 0
    g_units: float
    cars: dict[int, struct.Struct]  # one car of each packet

    def size(self, packet_id):
        return HEADER.size + sum(AROUND[packet_id]) + self.slots * self.cars[packet_id].size

    def unpacked(self, packet_id, data):
        """Return the fields of each car."""
        start = HEADER.size + AROUND[packet_id][0]
        return list(self.cars[packet_id].iter_unpack(data[start : start + self.slots * self.cars[packet_id].size]))


def _cars(g, identifier, temperature, limit):
    return {
        MOTION: struct.Struct(f"<6f6h3{g}3f"),
        LAP_DATA: struct.Struct("<2IHBHBHBHB3f15B2HBfB"),
        PARTICIPANTS: struct.Struct(f"<B3{identifier}3B32s2BH14B"),
        CAR_TELEMETRY: struct.Struct(f"<H3fBbH2BH4H4B4B{temperature}4f4B"),
        CAR_STATUS: struct.Struct(f"<5B3f2H2BH3Bb3fB2f{limit}fB"),
    }


LAYOUTS = {2025: Layout(22, 16, 1.0, _cars("f", "B", "H", "")), 2026: Layout(24, 17, 1000.0, _cars("h", "H", "B", "f"))}
# (part, channel, smallest, largest value) of what a packet holds
PARTS = {
    MOTION: [(part, G_FORCE, -250, 250) for part in (6, 7, 8)],
    CAR_TELEMETRY: [(0, SPEED, 0, 500), (1, ENGINE_TEMP, 0, 300), *((n, TIRE_PRESSURE, 0, 10) for n in range(2, 6))],
    CAR_STATUS: [(9, FUEL_LEVEL, 0, 100)],
}


def _values(layout, packet_id, car):
    if packet_id == MOTION:
        return [g / layout.g_units for g in car[12:15]]
    if packet_id == CAR_TELEMETRY:
        return [car[0], car[22], *(psi * 0.0689475729 for psi in car[23:27])]
    return [100.0 * car[5] / car[6] if car[6] else math.nan]


class Session:
    """What the second decoder knows of a session."""

    def __init__(self):
        self.active = 0
        self.statuses = None  # of its slots, once one of them is a car's
        self.drivers, self.laps = (), []
        self.several = False  # whether there were readings of other sessions, too
        self.number = None  # from its first reading on
        self.last_used = 0
        self.roster = None  # the number of its roster, once there is a reading of it


class Reference:
    """A second `Decoder`, which makes one number after the other."""

    def __init__(self, cars):
        self.cars = cars
        self.rejected = Counter()
        self.held = OrderedDict()  # by session its latest frame's number, and this frame's datagrams by packet
        self.sessions = OrderedDict()  # 16 at most, the latest last
        self.datagrams = 0  # how many were looked at
        self.numbers = 0  # how many sessions had readings
        self.uids = set()  # the uids of these
        self.rosters = 0  # how many rosters have a number
        self.seen = {}  # by roster drivers, laps, session, and whether there were several

    def decode(self, data):
        if len(data) < HEADER.size:
            return self.reject("truncated datagram")
        year, _, _, _, version, packet_id, uid, time, _, frame, player, _ = HEADER.unpack_from(data)
        layout = LAYOUTS.get(year)
        if layout is None:
            return self.reject("unknown format year")
        if packet_id >= layout.packet_ids:
            return self.reject("unknown packet id")
        if packet_id not in layout.cars:
            return []
        if len(data) != layout.size(packet_id):
            return self.reject(f"{'truncated' if len(data) < layout.size(packet_id) else 'oversized'} datagram")
        if version != 1:
            return self.reject("unknown packet version")
        if not (math.isfinite(time) and time >= 0):
            return self.reject("absurd session time")
        self.datagrams += 1
        if packet_id == PARTICIPANTS:
            return self.meet(layout, data, (year, uid), frame)
        session = self.known((year, uid))
        if session is None:
            held_frame, held = self.held.pop((year, uid), (None, {}))
            held = held if held_frame == frame else {}
            self.held[year, uid] = frame, {**held, packet_id: (layout, packet_id, data, time, player)}
            if len(self.held) > 16:
                self.held.popitem(last=False)
            return self.reject("before participants")
        return self.use(session, layout, packet_id, data, time, player)

    def known(self, key):
        if key in self.sessions:
            self.sessions.move_to_end(key)
            self.sessions[key].last_used = self.datagrams
        return self.sessions.get(key)

    def reject(self, reason):
        self.rejected[reason] += 1
        return []

    def meet(self, layout, data, session, frame):
        if data[HEADER.size] > layout.slots:
            return self.reject("impossible car count")
        held_frame, held = self.held.get(session, (None, {}))
        if self.known(session) is None:
            if len(self.sessions) == 16 and not self.forget():
                self.held.pop(session, None)
                return self.reject("too many sessions")
            self.sessions[session] = Session()
            self.known(session)
        known = self.sessions[session]
        known.active = data[HEADER.size]
        names = [car[7].split(b"\0")[0].decode("utf-8", "replace") for car in layout.unpacked(PARTICIPANTS, data)]
        drivers = tuple("".join(c if c.isprintable() else "�" for c in name) or None for name in names)
        self.change(known, drivers, known.laps)
        self.held.pop(session, None)
        held = list(held.values()) if held_frame == frame else []
        self.rejected["before participants"] -= len(held)
        for each in held:
            if each[1] == LAP_DATA:
                self.use(known, *each)
        return [reading for each in held if each[1] != LAP_DATA for reading in self.use(known, *each)]

    def forget(self):
        never_read = [key for key, session in self.sessions.items() if session.number is None]
        idle = [key for key, session in self.sessions.items() if self.datagrams - session.last_used >= 4096]
        for key in (*never_read, *idle)[:1]:
            return self.sessions.pop(key)

    def change(self, session, drivers, laps, several=None):
        known = drivers, laps, session.several if several is None else several
        if known != (session.drivers, session.laps, session.several):
            session.drivers, session.laps, session.several = known
            session.roster = None

    def use(self, session, layout, packet_id, data, time, player):
        if packet_id != LAP_DATA:
            if self.cars == "player" and player == 255:
                return self.reject("nobody plays")
            return self.read(session, layout, packet_id, data, time, player)
        cars = layout.unpacked(LAP_DATA, data)
        if session.statuses or any(car[26] > 1 for car in cars):
            session.statuses = [car[26] for car in cars]
        laps = [car[14] if car[14] <= 200 else 0 for car in cars]
        self.change(session, session.drivers, laps if session.statuses else laps[: session.active])
        return []

    def describe(self, car, roster):
        drivers, laps, uid, several = self.seen[roster]
        return {
            "car": car,
            "driver": drivers[car] if car < len(drivers) else None,
            "lap": laps[car] or None if car < len(laps) else None,
            "part": None,
            "session": uid,
            "several": several,
        }

    def begin_to_read(self, session):
        [uid] = [uid for (_, uid), each in self.sessions.items() if each is session]
        if session.number is None:
            session.number = self.numbers
            self.numbers += 1
            self.uids.add(uid)
            for each in self.sessions.values():
                self.change(each, each.drivers, each.laps, several=len(self.uids) > 1)
        if session.roster is None:
            session.roster = self.rosters
            self.rosters += 1
            self.seen[session.roster] = session.drivers, session.laps, uid, session.several

    def read(self, session, layout, packet_id, data, time, player):
        if session.statuses:
            slots = [car for car in range(layout.slots) if session.statuses[car] > 1]
        else:
            slots = range(session.active)
        chosen = {"all": slots, "player": [player]}.get(str(self.cars), self.cars)
        size, first = layout.cars[packet_id].size, HEADER.size + AROUND[packet_id][0]
        there = [car for car in slots if any(data[first + car * size : first + (car + 1) * size])]
        chosen = sorted(set(chosen) & set(there))
        if not chosen:
            return self.reject("no cars" if self.cars == "all" else "car not there")
        self.begin_to_read(session)
        fields = layout.unpacked(packet_id, data)
        readings = []
        for car in chosen:
            values = _values(layout, packet_id, fields[car])
            for (part, channel, low, high), value in zip(PARTS[packet_id], values, strict=True):
                if low <= value <= high:
                    sensor = session.number * 512 + car * 16 + part
                    readings.append((time, sensor, channel.number, session.roster, value))
                else:
                    self.rejected["absurd value"] += 1
        return readings


# Datagrams ------------------------------------------------------------------------------------------------------------

CHOICES = ("all", "player", [0], [3, 7, 21], [23])
FLOATS = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-45, 3.4e38, -3.4e38]
FLOATS += [145.0377, 145.0378, 250.0, 250.01]  # the largest values that are taken, and what is just beyond
# (format, offset, values) of what the decoder decides by
DECIDING = (
    ("<H", 0, (2024, 2025, 2026, 2027)),  # year
    ("<B", 5, (0, 1, 2, 255)),  # version
    ("<B", 6, (0, 1, 2, 4, 6, 7, 15, 16, 17, 255)),  # packet
    ("<Q", 7, (0, 99, 100)),  # session
    ("<f", 15, FLOATS),  # session time
    ("<I", 23, (6, 7, 8)),  # frame
    ("<B", 27, (0, 1, 19, 20, 21, 22, 23, 24, 255)),  # player
    ("<B", 29, (0, 1, 2, 20, 22, 23, 24, 25, 255)),  # cars, in participants
    *[("<B", 74 + 57 * car, (0, 1, 2, 7, 255)) for car in (0, 7, 21, 23)],  # result status, in lap data
)


class DecoderTarget:
    """Inputs: a byte that chooses the cars, and datagrams, each behind its length in two bytes."""

    def seeds(self):
        packets = {(year, packet_id): _lively(year, packet_id) for year in LAYOUTS for packet_id in LAYOUTS[year].cars}
        inputs = [
            self.joined(choice, [packets[year, packet_id] for packet_id in order])
            for year in LAYOUTS
            for choice, order in enumerate(
                [(4, 0, 2, 6, 7), (0, 2, 6, 7, 4, 0), (4, 6, 4, 6), (6, 4, 2, 7, 2), (4, 7, 0)]
            )
        ]
        recorded = _recorded_datagrams()
        return inputs + [self.joined(0, recorded[i : i + 8]) for i in range(0, len(recorded), 8)]

    def joined(self, choice, datagrams):
        return bytes([choice]) + b"".join(struct.pack("<H", len(data)) + data for data in datagrams)

    def split(self, data):
        """Return the number of the choice of cars, and the datagrams, of any bytes."""
        datagrams, at = [], 3
        while at <= len(data):
            size = int.from_bytes(data[at - 2 : at], "little")
            datagrams.append(data[at : at + size])
            at += size + 2
        return data[0] % len(CHOICES) if data else 0, datagrams

    def mutate(self, rng, corpus):
        choice, datagrams = self.split(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            place = rng.randint(0, len(datagrams))
            if place == len(datagrams):
                datagrams += self.split(rng.choice(corpus))[1][-1:]
            elif rng.random() < 0.15:
                datagrams.insert(place, datagrams[rng.randrange(len(datagrams))])
            elif rng.random() < 0.1:
                del datagrams[place]
            else:
                datagrams[place] = self.bent(rng, datagrams[place])
        if rng.random() < 0.1:
            choice = rng.randrange(len(CHOICES))
        return self.joined(choice, datagrams[-12:])

    def bent(self, rng, datagram):
        data = bytearray(datagram)
        kind = rng.randrange(7)
        if kind == 0:
            return bytes(data[: rng.choice((rng.randint(0, len(data)), max(0, len(data) - 1)))])
        if kind == 1:
            return bytes(data + rng.randbytes(rng.choice((1, 1, 30)))) if len(data) < 2000 else b""
        if kind == 2:
            layout, offset, values = rng.choice(DECIDING)
            _overwrite(data, offset, struct.pack(layout, rng.choice(values)))
        elif kind == 3:
            _overwrite(data, rng.randint(0, len(data)), struct.pack("<f", rng.choice(FLOATS)))
        elif kind == 4:
            _overwrite(
                data, rng.randint(0, len(data)), bytes([rng.choice((0, 1, 127, 128, 255))]) * rng.choice((1, 2, 4))
            )
        elif kind == 5:
            start = rng.randint(0, len(data))
            _overwrite(data, start, rng.randbytes(rng.choice((1, 4, 32, len(data)))))
        else:
            _flip_a_bit(rng, data)
        return bytes(data)

    def check(self, data):
        choice, datagrams = self.split(data)
        decoder, reference = Decoder(CHOICES[choice]), Reference(CHOICES[choice])
        outcome = []
        for datagram in datagrams:
            before = reference.rejected.copy()
            readings, expected = decoder.decode(datagram), reference.decode(datagram)
            assert readings.dtype == READING
            assert readings.tolist() == expected
            assert decoder.rejected == +reference.rejected
            for car in range(0, 24, 5):
                for roster in reference.seen:
                    assert decoder.describe(car * 16, roster) == reference.describe(car, roster)
            outcome.append((len(expected), *sorted((reference.rejected - before).items())))
        return tuple(outcome[-3:])

    def close(self):
        pass


def _lively(year, packet_id):
    """A packet in which no two cars are alike."""
    packet = blank(year, packet_id)
    cars = np.arange(LAYOUTS[year].slots)
    if packet_id == PARTICIPANTS:
        packet["participants"]["name"] = ["DRIVER É".encode() + bytes([65 + car]) for car in cars]
    elif packet_id == LAP_DATA:
        packet["lap_data"]["current_lap_num"] = (cars * 11) % 256
        packet["lap_data"]["result_status"] = cars % 8
    elif packet_id == MOTION:
        packet["car_motion_data"]["g_force_lateral"] = (cars - 10) * LAYOUTS[year].g_units / 4
    elif packet_id == CAR_TELEMETRY:
        packet["car_telemetry_data"]["speed"] = 300 + cars
        packet["car_telemetry_data"]["engine_temperature"] = 90 + cars
        packet["car_telemetry_data"]["tyres_pressure"] = 20 + cars[:, np.newaxis] / 8 + np.arange(4)
    else:
        packet["car_status_data"]["fuel_in_tank"] = cars
    return packet.tobytes()


def _recorded_datagrams():
    """Some of the real ones, where they are at hand."""
    path = recordings_folder() / "f1_2026_race.sqlite3"
    if not path.is_file():
        return []
    connection = sqlite3.connect(path.as_uri() + "?immutable=1", uri=True)
    rows = connection.execute("SELECT packet FROM packets ORDER BY pkt_id LIMIT 1600").fetchall()
    connection.close()
    return [packet for (packet,) in rows[:40] + rows[40::40]]


def _overwrite(data, start, patch):
    """Without changing the length."""
    stop = min(len(data), start + len(patch))
    if start < stop:
        data[start:stop] = patch[: stop - start]


def _flip_a_bit(rng, data):
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


# Recordings -----------------------------------------------------------------------------------------------------------


class Base(NamedTuple):
    """A good recording that is going to be damaged."""

    content: bytes
    page_size: int
    places: dict[tuple[float, bytes], int]  # where in the order of reading each readable row stands; no two are equal
    ids: list[int]  # the pkt_id of each readable row, in the order of reading
    rows: int  # readable or not
    missing: int  # how many numbers up to the last row's no row has
    cells: list[tuple[np.ndarray, int | None]]  # for each row: the numbers of the bytes that hold it, and its place
    schema: np.ndarray  # the bytes that hold the text of the schema


@functools.cache
def _bases():
    with tempfile.TemporaryDirectory(prefix="f1buf-fuzz-") as folder:
        return [
            _base(folder, *each)
            for each in (
                (512, SCHEMA, [_row(n, 20 + 7 * n % 100) for n in range(1, 61)] + [_row(61, 1500)]),
                (1024, SCHEMA, [_row(n, 200) for n in range(1, 41)], "PRAGMA auto_vacuum = FULL", _AFTERMATH),
                (4096, SCHEMA, [_row(n, 1200) for n in range(1, 13)], "PRAGMA journal_mode = WAL"),
                (512, SCHEMA, [(n, when, what) for n, (when, what) in enumerate(_UNREADABLE, 1)]),
                (512, "CREATE TABLE packets (timestamp, packet, pkt_id)", [_row(n, 60) for n in range(1, 21)]),
                (1024, SCHEMA, []),
            )
        ]


def _base(folder, page_size, schema, rows, before="", after=""):
    path = Path(folder, "base.sqlite3")
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA synchronous = OFF; PRAGMA page_size = {page_size}; {before}; {schema};")
    connection.executemany("INSERT INTO packets (pkt_id, timestamp, packet) VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.executescript(after)
    kept = connection.execute("SELECT timestamp, packet, pkt_id FROM packets ORDER BY rowid").fetchall()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'packets'").fetchone()
    connection.close()
    content = path.read_bytes()
    readable = [row for row in kept if isinstance(row[1], bytes) and isinstance(row[0], float)]
    places = {row[:2]: place for place, row in enumerate(readable)}
    assert len(places) == len(readable)
    cells = list(_cells(content, root, page_size))
    assert len(cells) == len(kept)
    return Base(
        content,
        page_size,
        places,
        [pkt_id for *_, pkt_id in readable],
        len(kept),
        _gaps([pkt_id for *_, pkt_id in kept]),
        [(cell, places.get(row[:2])) for cell, row in zip(cells, kept, strict=True)],
        np.concatenate(list(_cells(content, 1, page_size))),
    )


class RecordingTarget:
    """Inputs: a byte that says from which base the file was made, and the file."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="f1buf-fuzz-"))
        self.path = self.folder / "recording.sqlite3"
        self.bases = _bases()

    def seeds(self):
        return [bytes([number]) + base.content for number, base in enumerate(self.bases)]

    def mutate(self, rng, corpus):
        data = bytearray(rng.choice(corpus))
        number, data = data[0] % len(self.bases), data[1:]
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = self.bent(rng, data, self.bases[number].page_size)
        return bytes([number]) + data

    def bent(self, rng, data, size):
        pages = max(1, len(data) // size)
        page = rng.randrange(pages) * size
        before = bytes(data)
        kind = rng.randrange(11)
        if kind == 0:
            return data[: rng.choice((page, rng.randint(0, len(data))))]
        if kind == 1:
            return data + (rng.randbytes(rng.choice((1, size))) if len(data) < 1 << 17 else b"")
        if kind == 2:  # a page in the place of another
            other = rng.randrange(pages) * size
            _overwrite(data, page, data[other : other + size])
        elif kind == 3:  # two pages change places
            other = rng.randrange(pages) * size
            data[page : page + size], data[other : other + size] = data[other : other + size], data[page : page + size]
        elif kind == 4:
            _overwrite(data, page, rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size))))
        elif kind == 5:  # the file ends sooner, and says so; one of its pages stands in the place of the last one
            del data[page + size :]
            other = rng.randrange(pages) * size
            _overwrite(data, page, before[other : other + size] if page else b"")
            _overwrite(data, 28, struct.pack(">I", page // size + 1))
        else:
            # Half of it where the structure is: the file's header, or the header and the cell pointers of a page.
            limit, start = rng.choice(((len(data), 0), (100, 0), (60, page), (60, page)))
            start += rng.randrange(limit) if limit else 0
            number = rng.choice((0, 1, 2, 5, 10, 13, 127, 128, 255, size, pages, rng.randrange(1 << 16)))
            layout = rng.choice((">B", ">H", ">I")) if kind > 6 else ""
            if not layout and start < len(data):
                data[start] ^= 1 << rng.randrange(8)
            elif layout:
                _overwrite(data, start, struct.pack(layout, number & (0xFF if layout == ">B" else 0xFFFF)))
        return data

    def check(self, data):
        base, content = self.bases[data[0] % len(self.bases)], data[1:]
        self.path.unlink(missing_ok=True)  # some file systems write a file out at once if it is overwritten
        self.path.write_bytes(content)
        rows = []
        try:
            with open_recording(self.path) as recording:
                rows.extend(recording.datagrams())
                rejected, count = recording.rejected, recording.count
        except RecordingError as error:
            message = str(error)
            assert content != base.content, f"a good recording was refused: {message}"
            assert message.startswith(f"{self.path}: ")
            assert "\n" not in message
            return re.sub(r"\d+", "0", message)
        finally:
            assert list(self.folder.iterdir()) == [self.path]
        assert count == len(rows) + rejected["unreadable row"]
        page_size = _number(content, 16, 2)
        page_size = 65_536 if page_size == 1 else page_size
        assert _number(content, 28, 4) * page_size <= len(content), "the file should go on, and nothing told"
        # A row's own bytes cannot be checked; any other damage must have been noticed.
        changed = np.ones(max(len(base.content), len(content)), bool)
        shorter = min(len(content), len(base.content))
        changed[:shorter] = np.frombuffer(content, "u1", shorter) != np.frombuffer(base.content, "u1", shorter)
        damaged = {place for cell, place in base.cells if changed[cell].any()}
        latest, strange = -1, 0
        for row in rows:
            place = base.places.get(row)
            if place is None:
                strange += 1
            elif place not in damaged:
                assert place > latest, "rows came out twice, or in another order"
                latest = place
        foreign = changed[base.schema].any()
        assert strange <= sum(changed[cell].any() for cell, _ in base.cells) or foreign, (
            "rows came out that nobody wrote"
        )
        # Another table's page may stand where a page of rows was: it holds unreadable rows, which are counted.
        unreadable = rejected["unreadable row"] - (base.rows - len(base.places))
        missing = rejected["missing row"] - base.missing
        lost = self.lost(base, content, rows)
        told = strange + max(0, unreadable) + max(0, missing)
        if rejected["pkt_id is no whole number"]:  # the schema is damaged: then no row can be known to be missing
            told = base.rows
        assert lost <= told, f"{lost} rows were lost, and nothing told"
        if not damaged and not foreign and len(base.places) == base.rows:
            expected = _gaps([base.ids[base.places[row]] for row in rows])
            assert rejected["missing row"] == expected, f"{expected} numbers have no row"
        return len(str(len(rows))), tuple(sorted(rejected)), len(damaged)

    def lost(self, base, content, rows):
        """Return how many rows should have come out, or been counted as missing.

        A file that ends sooner, and is whole, is a shorter recording: behind the last row that was read only rows that
        the file still holds are lost.
        """
        read = {base.places[row] for row in rows if row in base.places}
        latest = max(read, default=-1)
        held = {content[start:stop] for start, stop in _spots(content, base.page_size)}
        return sum(
            place not in read and (place < latest or _spot(base, cell) in held)
            for cell, place in base.cells
            if place is not None
        )

    def close(self):
        shutil.rmtree(self.folder)


def _row(number, size):
    """Return a row that differs from all others."""
    text = hashlib.shake_128(b"%d" % number).digest(size)
    return number, number + 0.25, text


_UNREADABLE = [
    *[(1.5, b"one"), (None, b"two"), (2.5, "three"), (3.5, b"four"), ("five", b"five"), (4.5, None), (5.5, b"6")]
]
_AFTERMATH = """
    CREATE TABLE laps (number INTEGER); INSERT INTO laps VALUES (1), (2);
    CREATE INDEX by_time ON packets (timestamp); DELETE FROM packets WHERE pkt_id % 5 = 0;
"""


def _gaps(ids):
    """Return how many numbers from 1, or from a lower first one, to the last are missing."""
    return max(ids) - min(1, *ids) + 1 - len(set(ids)) if ids else 0


def _number(content, at, length):
    return int.from_bytes(content[at : at + length], "big")


def _varint(content, at):
    value = 0
    for place in range(at, at + 8):
        byte = content[place] if place < len(content) else 0
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | _number(content, at + 8, 1), at + 9


def _pointers(content, page, size):
    """Return where the cells of a table's page begin, whether it is an inner page, and where its header is."""
    start = (page - 1) * size
    head = start + (100 if page == 1 else 0)
    inner = content[head] == 5
    first = head + (12 if inner else 8)
    return [start + _number(content, first + 2 * i, 2) for i in range(_number(content, head + 3, 2))], inner, head


def _local(content, at, size):
    """Return where a row's cell ends within its page, and whether it goes on elsewhere."""
    length, after = _varint(content, at)
    _, after = _varint(content, after)
    local = length
    if length > size - 35:
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        local = local if local <= size - 35 else least
    return after + local, local < length


def _cells(content, page, size):
    """Yield for each row of a table, by row id, the places of the bytes that hold it."""
    pointers, inner, head = _pointers(content, page, size)
    if inner:
        for child in [*(_number(content, at, 4) for at in pointers), _number(content, head + 8, 4)]:
            yield from _cells(content, child, size)
        return
    for at in pointers:
        stop, goes_on = _local(content, at, size)
        places = [np.arange(at, stop + 4 * goes_on)]
        following = _number(content, stop, 4) if goes_on else 0
        while following:
            places.append(np.arange((following - 1) * size, following * size))
            following = _number(content, (following - 1) * size, 4)
        yield np.concatenate(places)


def _spots(content, size):
    """Yield where rows of any table begin and end, in all pages that look as if they held some."""
    for page in range(2, len(content) // size + 1):
        if content[(page - 1) * size] == 13:
            for at in _pointers(content, page, size)[0]:
                yield at, _local(content, at, size)[0]


def _spot(base, cell):
    start = int(cell[0])
    return base.content[start : _local(base.content, start, base.page_size)[0]]


# The fuzzer -----------------------------------------------------------------------------------------------------------

TARGETS = {"decoder": DecoderTarget, "recording": RecordingTarget, **LOG_TARGETS}
MEMORY = 4 << 30  # [bytes] of addresses, beside those that the child begins with: a test's process may have many

CASES = TESTS / "telemetry" / "cases"
MOST_CASES = 10  # that one run keeps: a fault is met again and again


def fuzz(name, seed, inputs=None, seconds=None, target=None, cases=CASES):
    """Fuzz with so many inputs, or for so long [s]; return how many were tried.

    If an input fails, an AssertionError says in which file it is kept.
    """
    target = target or TARGETS[name]()
    shared = mmap.mmap(-1, 1 << 20)  # for the number of inputs tried, the size of the present one, and that itself
    end = math.inf if seconds is None else time.monotonic() + seconds
    try:
        in_fork(
            lambda: _try_inputs(target, inputs or math.inf, end, random.Random(seed), shared),
            limit=WATCHDOG + (seconds or 0),
        )
    except AssertionError as error:
        count, size = struct.unpack_from("<QQ", shared)
        file = keep(name, bytes(shared[16 : 16 + size]), cases)
        raise AssertionError(
            f"{error}; seed {seed}, input number {count}, kept in {file}\n"
            f"(to try it again: python {__file__} {name} --input {file})"
        ) from error
    finally:
        target.close()
    return struct.unpack_from("<Q", shared)[0]


def keep(name, data, cases):
    cases.mkdir(parents=True, exist_ok=True)
    file = cases / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    return file


def try_case(file, target=None):
    """Try again an input that was kept; the name of its file begins with the target's."""
    with contextlib.closing(target or TARGETS[file.name.partition("-")[0]]()) as target:
        in_fork(lambda: target.check(file.read_bytes()))


def _try_inputs(target, inputs, end, rng, shared):
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # which takes as many addresses as there are
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most, hard = pages * resource.getpagesize() + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    corpus, outcomes, count = target.seeds(), set(), 0

    def outcome_of(data):
        struct.pack_into("<QQ", shared, 0, count, len(data))
        shared[16 : 16 + len(data)] = data
        signal.alarm(int(WATCHDOG))  # after which the child is killed, as `in_fork` has it
        return target.check(data)

    outcomes.update(map(outcome_of, corpus))
    while count < inputs and time.monotonic() < end:
        count += 1
        data = target.mutate(rng, corpus)
        outcome = outcome_of(data)
        if outcome not in outcomes:
            outcomes.add(outcome)
            corpus.append(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS, help="what reads the inputs")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="how long (default: 30)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the first inputs (default: another one each time)")
    parser.add_argument(
        "--cases", type=Path, default=CASES, metavar="DIR", help="for what fails (default: tests/telemetry/cases)"
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="try this one only, a file that an earlier run kept")
    args = parser.parse_args()
    if args.input and not args.input.is_file():
        parser.error(f"{args.input} is no file; expected an input that an earlier run kept")
    warnings.simplefilter("error")
    if args.input:
        try_case(args.input, TARGETS[args.target]())
        print("no fault")
        return
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    print(f"fuzzing the {args.target} for {args.seconds:g} s from seed {seed} on", flush=True)
    end, failures = time.monotonic() + args.seconds, 0
    while (left := end - time.monotonic()) > 0 and failures < MOST_CASES:
        try:
            count = fuzz(args.target, seed, seconds=left, cases=args.cases)
            print(f"{count:,} inputs, seed {seed}: no fault", flush=True)
        except AssertionError as error:
            failures += 1
            print(error, flush=True)
        seed += 1
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
