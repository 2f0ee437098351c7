"""Which message of the databases a frame is.

Frames are matched by their bus and their whole id, a standard (11 bits) or an extended one (29 bits); those of J1939 by
their parameter group.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from f1buf.telemetry.channels import Channel
from f1buf.telemetry.errors import CanError
from f1buf.telemetry.sources.can.database import Listed, reason_of
from f1buf.telemetry.sources.can.j1939 import Group, group_of, no_measurement_from, without_priority
from f1buf.telemetry.text import clean

if TYPE_CHECKING:
    from cantools.database import Message as DatabaseMessage
    from cantools.database import Signal

__all__ = ["UNKNOWN", "Entry", "Table"]


def _fault(message: "DatabaseMessage") -> str | None:
    """Return why the frames of a message cannot be decoded, None if they can."""
    from cantools.database.errors import Error

    if message.is_container:
        return "container message"
    try:
        message.refresh(strict=True)
    except Error as error:
        return f"unusable database entry: {reason_of(error).rstrip('.')}"
    return None


def _channel(signal: "Signal") -> Channel:
    low = -math.inf if signal.minimum is None else float(signal.minimum)
    high = math.inf if signal.maximum is None else float(signal.maximum)
    if not low < high:  # many tools write 0 to 0 for "nobody knows"
        low, high = -math.inf, math.inf
    return Channel(clean(signal.name), clean(signal.unit or ""), (low, high))


class Entry:
    """A message of a database, whose file may have been given for one bus alone."""

    def __init__(self, path: Path, for_bus: str | None, listed: Listed) -> None:
        self.message, self.j1939, self.buses = listed
        self.path, self.for_bus = path, for_bus
        self.name = clean(self.message.name)
        self.number = -1  # among all entries that are in use
        self.fault: str | None = None  # why its frames cannot be decoded
        self.channels: list[Channel] = []

    def prepare(self, number: int, first_sensor: int) -> None:
        """Make what decoding needs; the signals become the sensors from this number on."""
        self.number = number
        self.fault = _fault(self.message)
        signals = self.message.signals if self.fault is None else []
        try:
            channels = [_channel(signal) for signal in signals]
        except (ValueError, OverflowError) as error:
            raise CanError(f"{self.path}: message {self.name}: {reason_of(error)}") from error
        # A name may be on several pages of a multiplexed message: one series, if unit and range are the same.
        series = [(signal.name, channel) for signal, channel in zip(signals, channels, strict=True)]
        sensors = {each: first_sensor + i for i, each in enumerate(dict.fromkeys(series))}
        self.channels = [channel for _, channel in sensors]
        limits = [no_measurement_from(signal) if self.j1939 else math.inf for signal in signals]
        placed = zip(series, limits, strict=True)
        self.signals = signals, [(sensors[name, channel], channel.number, limit) for (name, channel), limit in placed]

    def is_for(self, bus: str | None) -> bool:
        """Say whether it is for a bus; None stands for every bus that no database names.

        A file may call its buses otherwise than a log does: then its messages are for all of the log's buses.
        """
        if self.for_bus not in (None, bus):
            return False
        return bus not in self.buses or self.message.bus_name in (bus, None)

    def is_especially_for(self, bus: str | None) -> bool:
        """Say whether it goes before messages that are for all buses."""
        return bus is not None and bus in (self.for_bus, self.message.bus_name)

    def is_the_same_as(self, other: "Entry") -> bool:
        mine, its = self.message, other.message
        return (mine.name, mine.length, repr(mine.signals)) == (its.name, its.length, repr(its.signals))


Meaning = Entry | str  # a message, or why it is not known which one

UNKNOWN = "no database entry"


def _ambiguous(one: Entry, other: Entry) -> str:
    frame_id = one.message.frame_id
    names, behind = f"{one.name} and {other.name}", ""
    buses = one.message.bus_name, other.message.bus_name
    if all(buses) and buses[0] != buses[1]:
        one_bus, other_bus = (clean(str(bus)) for bus in buses)
        names = f"{one.name} (of bus {one_bus}) and {other.name} (of bus {other_bus})"
        behind = ", which the frame's bus does not tell apart"
    if one.j1939:
        return f"ambiguous parameter group: {names} both have 0x{group_of(frame_id):X}{behind}"
    kind = "the extended id " if one.message.is_extended_frame else ""
    return f"ambiguous id: {names} both have {kind}0x{frame_id:X}{behind}"


def _one_of(entries: Sequence[Entry]) -> Meaning:
    first = entries[0]
    return next((_ambiguous(first, other) for other in entries[1:] if not first.is_the_same_as(other)), first)


class Table:
    """What the ids on a bus mean, by the entries of all databases; None stands for every bus that no database names."""

    def __init__(self, entries: Iterable[Entry], bus: str | None) -> None:
        known: tuple[dict[_Key, list[Entry]], ...] = {}, {}
        for entry in entries:
            if entry.is_for(bus):
                known[entry.is_especially_for(bus)].setdefault(_key_of(entry), []).append(entry)
        self._ids: dict[_Key, Meaning] = {}
        self._groups: dict[int, Group[Meaning]] = {}
        self.meanings: list[Meaning] = []
        for key, candidates in (known[False] | known[True]).items():
            if candidates[0].j1939:
                self._groups[key[0]] = Group(self._told_apart(candidates))
            else:
                self._ids[key] = _one_of(candidates)
        self.meanings += self._ids.values()
        self.has_j1939 = bool(self._groups)

    def _told_apart(self, candidates: Iterable[Entry]) -> Iterator[tuple[int, Meaning]]:
        by_id: dict[int, list[Entry]] = {}
        for entry in candidates:
            by_id.setdefault(without_priority(entry.message.frame_id), []).append(entry)
        for can_id, entries in by_id.items():
            self.meanings.append(meaning := _one_of(entries))
            yield can_id, meaning

    def meaning(self, can_id: int, extended: bool) -> Meaning:
        """Return which message a frame is, or why that is not known."""
        if (can_id, extended) in self._ids:  # not `get`: see `Decoder.decode`
            return self._ids[can_id, extended]
        if not extended or (group := group_of(can_id)) not in self._groups:
            return UNKNOWN
        one, *others = self._groups[group].messages_of(can_id)
        for other in others:
            if isinstance(one, Entry) and isinstance(other, Entry) and not one.is_the_same_as(other):
                return _ambiguous(one, other)
        return one


_Key = tuple[int, bool | None]


def _key_of(entry: Entry) -> _Key:
    """Return the id and whether it is an extended one; of J1939's the parameter group, and that it is no id."""
    frame_id = entry.message.frame_id
    return (group_of(frame_id), None) if entry.j1939 else (frame_id, entry.message.is_extended_frame)
