"""What CAN frames mean, by cantools: CAN databases, and the decoder that makes readings of frames.

A CAN database names the signals in the frames. Each signal becomes a `Channel` with the database's name, unit and
range; each signal of each message is a sensor of its own, on each bus.

Frames are matched by their whole id, a standard (11 bits) or an extended one (29 bits).

python-can and cantools are imported when they are first needed.
"""

import logging
import math
import operator
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from f1buf._reading import READING
from f1buf.telemetry._text import clean, one_line
from f1buf.telemetry.channels import Channel
from f1buf.telemetry.sources.can_frames import ERROR, EXTENDED, REMOTE, Frames

if TYPE_CHECKING:
    from cantools.database import Message as DatabaseMessage
    from cantools.database import Signal

__all__ = ["CanDecoder", "CanError", "reason_of", "require_packages"]

Array = NDArray[Any]


class CanError(ValueError):
    """A CAN database or bus cannot be used; the message is one line that says which."""


_SILENT = logging.NullHandler()


def require_packages() -> None:
    try:
        import can.cli  # noqa: F401
        import cantools  # noqa: F401
    except ImportError as error:
        raise CanError(f"CAN needs python-can 4.6 and cantools ({error}): pip install 'f1buf[can]'") from error
    # What matters they raise. Unless the program handles their log, nothing of it is to be printed between our lines.
    for name in ("can", "cantools"):
        logging.getLogger(name).addHandler(_SILENT)


_LONGEST_REASON = 200  # characters: a parser may quote a whole line of the file, however long


def reason_of(error: BaseException) -> str:
    text = one_line(error)
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


# The database ---------------------------------------------------------------------------------------------------------

_FORMATS = {".arxml": "arxml", ".dbc": "dbc", ".kcd": "kcd", ".sym": "sym"}


def _load(path: Path) -> "list[DatabaseMessage]":
    import cantools.database

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CanError(f"{path}: {error.strerror}; expected a CAN database: {', '.join(_FORMATS)}") from error
    file_format = _FORMATS.get(path.suffix.lower())
    try:
        # Not strict: one message that makes no sense is no reason to do without the others.
        database = cantools.database.load_string(_decoded(content), file_format, strict=False)
    except Exception as error:  # whatever a parser stumbles over
        reason = reason_of(error.__cause__ or error) if file_format else "not one of " + ", ".join(_FORMATS)
        raise CanError(f"{path}: no CAN database that cantools can read: {reason}") from error
    if not isinstance(database, cantools.database.Database):
        raise CanError(f"{path}: a database of diagnostics; expected one of CAN messages: {', '.join(_FORMATS)}")
    return database.messages


def _decoded(content: bytes) -> str:
    """Return a database's text: UTF-8, or else what most tools write, which has no invalid bytes to speak of."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n")


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


class _Entry:
    """What is known of the frames with one id.

    Parameters
    ----------
    message : Message
        Of the database.
    first_sensor : int
        Its signals are the sensors from this number on.
    """

    def __init__(self, message: "DatabaseMessage", first_sensor: int) -> None:
        self.message = message
        self.fault = _fault(message)
        """Why its frames cannot be decoded, None if they can."""
        signals = {signal.name: signal for signal in message.signals} if self.fault is None else {}
        self.channels = [_channel(signal) for signal in signals.values()]
        self._sensors = {name: (first_sensor + i, self.channels[i].number) for i, name in enumerate(signals)}
        self._templates: dict[tuple[str, ...], Array] = {}

    def template(self, names: tuple[str, ...]) -> Array:
        """Return readings of these signals that lack only timestamp and value; not to be changed."""
        template = self._templates.get(names)
        if template is None:
            rows = [(0.0, *self._sensors[name], 0, 0.0) for name in names]
            template = self._templates[names] = np.array(rows, READING)
        return template

    def is_the_same_as(self, other: "_Entry") -> bool:
        mine, its = self.message, other.message
        return (mine.name, mine.length, repr(mine.signals)) == (its.name, its.length, repr(its.signals))


_MOST_BUSES = 256  # each has sensors of its own, and a log or a network can make up any number of names


class CanDecoder:
    """
    Turns CAN frames into readings, by one or several CAN databases.

    The channels of all signals exist once it has been made, so that thresholds can name them before the first frame. A
    value outside the database's range is a reading like any other.

    Parameters
    ----------
    database_files : iterable of path-like
        Files that cantools can read: DBC, KCD, SYM, ARXML.

    Attributes
    ----------
    channels : tuple of Channel
        Each once, in the order of the databases.
    rejected : collections.Counter
        How many frames were not used, by reason: "no database entry" (of this id), "error frame", "remote frame", "too
        short" (the database's message has more bytes), "unknown multiplexer value", "container message" (of AUTOSAR),
        "unusable database entry: ..." (cantools finds that its signals overlap, or do not fit). And under "not a
        number" how many single readings were left out of frames that were used.

    Raises
    ------
    CanError
        A file cannot be read, an id has two different messages, there is no signal or there are more than channels can
        be told apart; or python-can or cantools is missing.

    Notes
    -----
    One thread at a time may call `decode`; others may call `describe` meanwhile, and read a copy of `rejected`,
    ``dict(decoder.rejected)``.
    """

    def __init__(self, database_files: Iterable[str | os.PathLike[str]]) -> None:
        require_packages()
        self.rejected: Counter[str] = Counter()
        self._entries: dict[tuple[int, bool], _Entry] = {}  # by id, and whether that is an extended one
        self._parts: list[str] = []  # each sensor's message; the sensors of a further bus are numbered on from there
        self._buses: dict[str, int] = {}  # number by name, in the order in which they were heard
        for path in map(Path, database_files):
            for message in _load(path):
                self._add(path, message)
        if not self._parts:
            raise CanError("the CAN databases have no signal that can be decoded; expected messages with signals")
        self.channels = tuple(dict.fromkeys(each for entry in self._entries.values() for each in entry.channels))

    def _add(self, path: Path, message: "DatabaseMessage") -> None:
        try:
            entry = _Entry(message, len(self._parts))
        except (ValueError, OverflowError) as error:
            raise CanError(f"{path}: message {clean(message.name)}: {reason_of(error)}") from error
        frame_id = message.frame_id, message.is_extended_frame
        known = self._entries.setdefault(frame_id, entry)
        if known is entry:
            self._parts += [clean(message.name)] * len(entry.channels)
        elif not known.is_the_same_as(entry):
            kind = "extended id" if message.is_extended_frame else "id"
            names = f"{clean(known.message.name)} and {clean(message.name)}"
            raise CanError(
                f"{path}: {names} both have the {kind} 0x{message.frame_id:X}; expected one message for an id"
            )

    def decode(self, frames: Frames) -> Array:
        """Return the readings of frames, in their order; never raises for what they hold.

        Parameters
        ----------
        frames : Frames
            Of anybody. Not referred to afterwards.

        Returns
        -------
        numpy.ndarray of READING, shape (n,)
            The caller's own, one for each signal that is in a frame (of multiplexed ones those that are sent), with the
            frame's timestamp [s] and values in the units of the database; none of a frame that holds nothing for us.
        """
        decoded = [self._decode(*row) for row in frames.rows()]
        return np.concatenate(decoded) if decoded else np.empty(0, READING)

    def _decode(self, timestamp: float, can_id: int, kind: int, bus_name: str, data: bytes) -> Array:
        if kind & ERROR:
            return self._reject("error frame")
        if kind & REMOTE:
            return self._reject("remote frame")
        key = can_id, bool(kind & EXTENDED)
        if key not in self._entries:
            return self._reject("no database entry")
        entry = self._entries[key]  # not `get`: see `f1game.Decoder.decode`
        if entry.fault is not None:
            return self._reject(entry.fault)
        if len(data) < entry.message.length:
            return self._reject("too short")
        bus = self._bus_number(bus_name)
        if bus is None:
            return self._reject("too many buses")
        try:
            signals: dict[str, Any] = entry.message.decode_simple(data, decode_choices=False)
            values = [float(value) for value in signals.values()]
        except Exception as error:
            return self._reject(_why_undecodable(error))
        readings = entry.template(tuple(signals)).copy()
        readings["timestamp"] = timestamp
        readings["value"] = values
        if bus:
            readings["sensor_id"] += bus * len(self._parts)
        return readings if all(map(math.isfinite, values)) else self._without_nonsense(readings)

    def describe(self, sensor_id: SupportsIndex, flags: int = 0) -> dict[str, str]:
        """Say what a sensor id of this decoder stands for, for people.

        Parameters
        ----------
        sensor_id : int
            As in a reading.
        flags : int
            As in a reading; of no account.

        Returns
        -------
        dict
            ``"part"``: the message's name in the database; behind it the bus's name, such as ``"ENGINE (can1)"``, if
            that is not the first bus heard.

        Raises
        ------
        ValueError
            No reading of this decoder has this sensor id.
        """
        bus, index = divmod(operator.index(sensor_id), len(self._parts))
        names = list(self._buses)  # decode may go on in another thread
        if not 0 <= bus < max(1, len(names)):
            raise ValueError(f"sensor_id is {sensor_id}: expected one of a reading that CanDecoder.decode returned")
        part = self._parts[index]
        return {"part": f"{part} ({clean(names[bus])})" if bus else part}

    def _bus_number(self, name: str) -> int | None:
        number = self._buses.get(name)
        if number is None and len(self._buses) < _MOST_BUSES:
            number = self._buses[name] = len(self._buses)
        return number

    def _without_nonsense(self, readings: Array) -> Array:
        kept: Array = readings[np.isfinite(readings["value"])]
        self.rejected["not a number"] += len(readings) - len(kept)
        return kept

    def _reject(self, reason: str) -> Array:
        self.rejected[reason] += 1
        return np.empty(0, READING)


def _why_undecodable(error: Exception) -> str:
    from cantools.database import DecodeError

    return "unknown multiplexer value" if isinstance(error, DecodeError) else "undecodable"
