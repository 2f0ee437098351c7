"""The decoder: readings of CAN frames, by CAN databases.

A CAN database names the signals in the frames. Each signal becomes a `Channel` with the database's name, unit and
range; each signal of each message is a sensor of its own, on each bus, and of each sender where that is known (J1939).
"""

import itertools
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.errors import CanError
from f1buf.telemetry.sources.can.database import load, require_packages
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames
from f1buf.telemetry.sources.can.j1939 import LARGEST, Transport, is_transport, source_of, without_priority
from f1buf.telemetry.sources.can.layout import Layout, Rows
from f1buf.telemetry.sources.can.messages import UNKNOWN, Entry, Table
from f1buf.telemetry.text import clean

__all__ = ["CanDecoder", "CanError", "Selection"]

Array = NDArray[Any]
DatabaseFile = str | os.PathLike[str]


@dataclass(frozen=True)
class Selection:
    """
    Which frames are asked for.

    Parameters
    ----------
    buses : frozenset of str, optional
        Names of buses; without them every bus.
    ids : tuple of (int, int, bool), optional
        First and last id, and whether they are extended ones; without them every id.
    """

    buses: frozenset[str] = frozenset()
    ids: tuple[tuple[int, int, bool], ...] = ()

    def wants_bus(self, bus: str) -> bool:
        """Say whether any frame of a bus is asked for."""
        return not self.buses or bus in self.buses

    def wants(self, bus: str, can_id: int, extended: bool) -> bool:
        """Say whether a frame is asked for."""
        if not self.wants_bus(bus):
            return False
        return not self.ids or any(low <= can_id <= high and extended == each for low, high, each in self.ids)

    def wants_group(self, bus: str, can_id: int) -> bool:
        """Say whether a message of J1939 that came in several frames is asked for, at any priority: it has none."""
        return any(self.wants(bus, priority << 26 | without_priority(can_id), True) for priority in range(8))


_ALL = Selection()
_NOT_ASKED_FOR = "not asked for"
_MOST_BUSES = 256  # each has sensors of its own, and a log or a network can make up any number of names
MOST_SENDERS = 2**16  # on all buses together, of 256 addresses on each; tests make it smaller


class CanDecoder:
    """
    Turns CAN frames into readings, by one or several CAN databases.

    The channels of all signals exist once it has been made, so that thresholds can name them before the first frame. A
    value outside the database's range is a reading like any other.

    Parameters
    ----------
    database_files : iterable of path-like or (str, path-like)
        Files that cantools can read: DBC, KCD, SYM, ARXML. A file with the name of a bus is for that bus alone, and
        goes first there; the others are for all buses. In a file that itself names buses, a message is for the bus that
        it names; for buses that the file does not name, all messages are.
    j1939 : bool, optional
        Whether all messages with an extended id are J1939's. Otherwise those are of which the database says so.
    select : Selection, optional
        Which frames are asked for; without it all are.

    Attributes
    ----------
    channels : tuple of Channel
        Each once, in the order of the databases.
    rejected : collections.Counter
        How many frames were not used, or not all of them, by reason:

        - "not asked for", "no database entry" (of this id), "error frame", "remote frame", "container message" (of
          AUTOSAR), "too many buses" (more than 256), "too many senders";
        - "ambiguous id: ..." or "ambiguous parameter group: ..." (databases have two different messages for it),
          "unusable database entry: ..." (cantools finds that its signals overlap, or do not fit);
        - "too short" (no signal is wholly inside the frame), "too short (some signals left out)", "unknown multiplexer
          value (some signals left out)";
        - "transport protocol: ..." (of J1939: frames, or messages in several frames that did not become whole).

        And how many single readings were left out of frames that were used: "not a number", "integer that float64 does
        not hold exactly" (it holds all up to 2**53), "not available (J1939)" (a number that the standard keeps for
        that, or for an error, and that is beyond the signal's range in the database).
    heard : set of str
        The buses of which there have been frames; 256 at most.
    unheard : set of str
        The buses that are asked for, or that have a database of their own, and of which there has been no frame: their
        names may be wrong.

    Raises
    ------
    CanError
        A file cannot be read, there is no signal or there are more than channels can be told apart; or python-can or
        cantools is missing.

    Notes
    -----
    J1939: the priority does not matter, nor does the address that a frame is sent to, unless the database has several
    messages of one parameter group that differ in it. Each source address is a sender whose signals are sensors of
    their own. A message in several frames has the timestamp of the last one, and counts as one frame.

    One thread at a time may call `decode` and `finish`; others may call `describe` meanwhile, and read a copy of
    `rejected`, ``dict(decoder.rejected)``.
    """

    def __init__(
        self,
        database_files: Iterable[DatabaseFile | tuple[str, DatabaseFile]],
        *,
        j1939: bool = False,
        select: Selection = _ALL,
    ) -> None:
        require_packages()
        self.rejected: Counter[str] = Counter()
        known = [
            Entry(path, bus, listed) for bus, path in map(_bus_and_path, database_files) for listed in load(path, j1939)
        ]
        names = dict.fromkeys(name for entry in known for name in (None, entry.for_bus, *entry.buses))
        self._tables = {name: Table(known, name) for name in (None, *names)}
        meanings = dict.fromkeys(each for table in self._tables.values() for each in table.meanings)
        self._entries: list[Entry] = []
        self._parts: list[str] = []  # each sensor's message; the sensors of a further sender are numbered on from there
        for entry in known:
            if entry in meanings:
                entry.prepare(len(self._entries), len(self._parts))
                self._entries.append(entry)
                self._parts += [entry.name] * len(entry.channels)
        if not self._parts:
            why = next((f" ({each})" for each in meanings if isinstance(each, str)), "")
            raise CanError(f"the CAN databases have no signal that can be decoded{why}; expected messages with signals")
        self.channels = tuple(dict.fromkeys(each for entry in self._entries for each in entry.channels))
        self._layout = Layout([entry.signals for entry in self._entries], self.rejected)
        self._select = select
        self._named = {entry.for_bus for entry in known if entry.for_bus is not None} | select.buses
        self.heard: set[str] = set()
        self._buses: set[str] = set()
        self._senders: dict[tuple[str, int | None], int] = {}  # number by bus and address, in the order heard
        self._most_senders = min(MOST_SENDERS, 2**32 // len(self._parts))  # a sensor's number has 32 bits
        self._transport = Transport(self.rejected)

    def decode(self, frames: Frames) -> Array:
        """Return the readings of frames, in their order; never raises for what they hold.

        Parameters
        ----------
        frames : Frames
            From anybody. They may be changed afterwards.

        Returns
        -------
        numpy.ndarray of READING, shape (n,)
            A copy, one for each signal that is in a frame (of multiplexed ones those that are sent), with the frame's
            timestamp [s] and the value in the database's unit.
        """
        self._hear(frames.buses)
        frames = self._with_data(frames)
        if not len(frames):
            return np.empty(0, READING)
        key = frames.bus.astype(np.int64) << 30 | (frames.kind & EXTENDED).astype(np.int64) << 29 | frames.can_id
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        meant, sensor, transport = self._meanings(frames, first, np.bincount(which))
        message = meant.take(which)
        place = np.flatnonzero(message >= 0)
        if not len(place) and not transport.any():
            return np.empty(0, READING)
        sensor, time = sensor.take(which.take(place)), frames.timestamp.take(place)
        rows = Rows(place, message.take(place), time, sensor, frames.length, np.ascontiguousarray(frames.data))
        readings, row = self._layout.read(rows)
        if transport.any():
            return self._with_complete(frames, np.flatnonzero(transport.take(which)), readings, place.take(row))
        return readings

    def finish(self) -> None:
        """Count messages in several frames that have not become whole; call it when no frame will follow."""
        self._transport.finish()

    def describe(self, sensor_id: SupportsIndex, flags: int = 0) -> dict[str, str]:
        """Say what a sensor id of this decoder stands for, for people.

        Parameters
        ----------
        sensor_id : int
            As in a reading.
        flags : int
            As in a reading; not used.

        Returns
        -------
        dict
            ``"part"``: the message's name in the database; behind it the sender's address (of J1939), and the name of
            the bus unless it was the first: ``"ENGINE"``, ``"ENGINE (can1)"``, ``"EEC1 (00)"``, ``"EEC1 (00, can1)"``.

        Raises
        ------
        ValueError
            No reading of this decoder has this sensor id.
        """
        sender, index = divmod(operator.index(sensor_id), len(self._parts))
        senders = list(self._senders)  # decode may go on in another thread
        if not 0 <= sender < max(1, len(senders)):
            raise ValueError(f"sensor_id is {sensor_id}: expected one of a reading that CanDecoder.decode returned")
        behind = []
        if senders:
            (first_bus, _), (bus, address) = senders[0], senders[sender]
            behind = [f"{address:02X}"] if address is not None else []
            behind += [clean(bus)] if bus != first_bus else []
        part = self._parts[index]
        return {"part": f"{part} ({', '.join(behind)})" if behind else part}

    @property
    def unheard(self) -> set[str]:
        return self._named - self.heard

    def _hear(self, buses: Iterable[str]) -> None:
        if not self.heard.issuperset(buses) and len(self.heard) < _MOST_BUSES:
            self.heard.update(itertools.islice(buses, _MOST_BUSES - len(self.heard)))

    def _with_data(self, frames: Frames) -> Frames:
        odd = frames.kind & (ERROR | REMOTE)
        if not odd.any():
            return frames
        errors = int(np.count_nonzero(odd & ERROR))
        self._reject("error frame", errors)
        self._reject("remote frame", int(np.count_nonzero(odd)) - errors)
        return frames[odd == 0]

    def _meanings(self, frames: Frames, first: Array, counts: Array) -> tuple[Array, Array, Array]:
        """Look up what n different ids mean, in the order in which they came; count the frames without a meaning.

        Parameters
        ----------
        frames : Frames
            A batch.
        first, counts : numpy.ndarray of intp, shape (n,)
            Where in the batch each id comes first, and how many frames have it.

        Returns
        -------
        message : numpy.ndarray of intp, shape (n,)
            The number of each id's entry, -1 where there is none.
        sensor : numpy.ndarray of uint32, shape (n,)
            The number of the sender's first sensor.
        transport : numpy.ndarray of bool, shape (n,)
            Whether the frames are J1939's transport protocol.
        """
        message = np.full(len(first), -1, np.intp)
        sensor = np.zeros(len(first), np.uint32)
        transport = np.zeros(len(first), np.bool_)
        heard = np.argsort(first)
        columns = (frames.bus, frames.can_id, frames.kind & EXTENDED)
        rows = zip(heard.tolist(), *(column[first[heard]].tolist() for column in columns), strict=True)
        for i, bus_number, can_id, extended in rows:
            bus = frames.buses[bus_number]
            if extended and self._table(bus).has_j1939 and is_transport(can_id) and self._select.wants_bus(bus):
                transport[i] = True
                self._sender(bus, source_of(can_id))  # its number is that of now, not of when its message is complete
            if not self._select.wants(bus, can_id, bool(extended)):
                if not transport[i]:  # these count by the message that they carry
                    self._reject(_NOT_ASKED_FOR, int(counts[i]))
                continue
            meaning = self._meaning(bus, can_id, bool(extended))
            if not isinstance(meaning, str):
                message[i], sensor[i] = meaning
            elif not transport[i] or meaning != UNKNOWN:
                self._reject(meaning, int(counts[i]))
        return message, sensor, transport

    def _table(self, bus: str) -> Table:
        return self._tables[bus if bus in self._tables else None]

    def _meaning(self, bus: str, can_id: int, extended: bool) -> tuple[int, int] | str:
        """Return the message's number and the sender's first sensor; or why there are none."""
        entry = self._table(bus).meaning(can_id, extended)
        if isinstance(entry, str):
            return entry
        if entry.fault is not None:
            return entry.fault
        sender = self._sender(bus, source_of(can_id) if entry.j1939 else None)
        return sender if isinstance(sender, str) else (entry.number, sender * len(self._parts))

    def _sender(self, bus: str, address: int | None) -> int | str:
        number = self._senders.get((bus, address))
        if number is not None:
            return number
        if bus not in self._buses and len(self._buses) >= _MOST_BUSES:
            return "too many buses"
        if len(self._senders) >= self._most_senders:
            return "too many senders"
        self._buses.add(bus)
        number = self._senders[bus, address] = len(self._senders)
        return number

    def _with_complete(self, frames: Frames, places: Array, readings: Array, place: Array) -> Array:
        """Return readings, each with the place of its frame in the batch, and among them those of the messages that
        frames of the transport protocol, at `places`, complete.
        """
        complete = list(self._complete(frames, places))
        if not complete:
            return readings
        at, message, sensor, contents = zip(*complete, strict=True)
        last = np.array(at, np.intp)
        padded = b"".join(content.ljust(LARGEST, b"\0") for content in contents)
        rows = Rows(
            np.arange(len(complete)),
            np.array(message, np.intp),
            frames.timestamp.take(last),
            np.array(sensor, np.uint32),
            np.array([len(content) for content in contents], np.intp),
            np.frombuffer(padded, np.uint8).reshape(-1, LARGEST),
        )
        more, row = self._layout.read(rows)
        order = np.argsort(np.concatenate([place, last.take(row)]), kind="stable")
        return np.concatenate([readings, more]).take(order)

    def _complete(self, frames: Frames, places: Array) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield of each complete message the last frame's place, the entry's number, the first sensor, and the data."""
        for place, (_, can_id, _, bus, data) in zip(places.tolist(), frames[places].rows(), strict=True):
            message = self._transport.take(bus, can_id, data)
            if message is None:
                continue
            wanted = self._select.wants_group(bus, message.can_id)
            meaning = self._meaning(bus, message.can_id, True) if wanted else _NOT_ASKED_FOR
            if isinstance(meaning, str):
                self._reject(meaning, 1)
            else:
                yield place, *meaning, message.data

    def _reject(self, reason: str, count: int) -> None:
        if count:
            self.rejected[reason] += count


def _bus_and_path(given: DatabaseFile | tuple[str, DatabaseFile]) -> tuple[str | None, Path]:
    bus, path = given if isinstance(given, tuple) else (None, given)
    return bus, Path(path)
