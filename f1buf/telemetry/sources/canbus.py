"""Readings from CAN: a live bus or a log of one, by python-can, and what its frames mean, by cantools.

A CAN database names the signals in the frames. Each signal becomes a `Channel` with the database's name, unit and
range; each signal of each message is a sensor of its own, on each bus.

Frames are matched by their whole id, a standard (11 bits) or an extended one (29 bits). J1939, where only a part of the
id says which message it is, needs a database with the ids as they are on the bus.

python-can and cantools are imported when they are first needed.
"""

import argparse
import contextlib
import io
import logging
import math
import operator
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray

from f1buf._reading import READING
from f1buf.telemetry._text import clean, one_line
from f1buf.telemetry.channels import Channel
from f1buf.telemetry.sources.pace import replayed
from f1buf.telemetry.sources.recording import RecordingError

if TYPE_CHECKING:
    import can
    from can.io.generic import MessageReader
    from cantools.database import Message as DatabaseMessage
    from cantools.database import Signal

__all__ = ["CanBus", "CanDecoder", "CanError", "CanLog", "CanReplay", "add_bus_arguments", "open_bus", "open_can_log"]

Array = NDArray[Any]


class CanError(ValueError):
    """A CAN database or bus cannot be used; the message is one line that says which."""


_SILENT = logging.NullHandler()


def _require_packages() -> None:
    try:
        import can.cli  # noqa: F401
        import cantools  # noqa: F401
    except ImportError as error:
        raise CanError(f"CAN needs python-can 4.6 and cantools ({error}): pip install 'f1buf[can]'") from error
    # What matters they raise. Unless the program handles their log, nothing of it is to be printed between our lines.
    for name in ("can", "cantools"):
        logging.getLogger(name).addHandler(_SILENT)


_LONGEST_REASON = 200  # characters: a parser may quote a whole line of the file, however long


def _one_line(error: BaseException) -> str:
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
        reason = _one_line(error.__cause__ or error) if file_format else "not one of " + ", ".join(_FORMATS)
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
        return f"unusable database entry: {_one_line(error).rstrip('.')}"
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
        _require_packages()
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
            raise CanError(f"{path}: message {clean(message.name)}: {_one_line(error)}") from error
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

    def decode(self, message: "can.Message") -> Array:
        """Return the readings of one frame, decoded once for all its signals; never raises for what it holds.

        Parameters
        ----------
        message : can.Message
            A frame, of anybody. Not referred to afterwards.

        Returns
        -------
        numpy.ndarray of READING, shape (n,)
            The caller's own, one for each signal that is in the frame (of multiplexed ones those that are sent), with
            the frame's timestamp [s] and values in the units of the database; empty if the frame holds nothing for us.
        """
        if message.is_error_frame:
            return self._reject("error frame")
        if message.is_remote_frame:
            return self._reject("remote frame")
        key = message.arbitration_id, message.is_extended_id
        if key not in self._entries:
            return self._reject("no database entry")
        entry = self._entries[key]  # not `get`: see `f1game.Decoder.decode`
        if entry.fault is not None:
            return self._reject(entry.fault)
        if len(message.data) < entry.message.length:
            return self._reject("too short")
        bus = self._bus_number(message.channel)
        if bus is None:
            return self._reject("too many buses")
        try:
            signals: dict[str, Any] = entry.message.decode_simple(bytes(message.data), decode_choices=False)
            values = [float(value) for value in signals.values()]
        except Exception as error:
            return self._reject(_why_undecodable(error))
        readings = entry.template(tuple(signals)).copy()
        readings["timestamp"] = message.timestamp
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

    def _bus_number(self, channel: Any) -> int | None:
        name = str(channel)
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


# Logs -----------------------------------------------------------------------------------------------------------------

# What a file starts with. python-can finds out by itself, but leaves files that are something else open.
_MAGIC = {".blf": (b"LOGG",), ".db": (b"SQLite format 3\0",), ".mf4": (b"MDF ", b"UnFinMF ")}


class CanLog:
    """
    A log of CAN frames, opened by `open_can_log`; it holds no file open while nobody iterates.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was given.
    rejected : collections.Counter
        How many frames `frames` left out, by reason: "absurd timestamp" (NaN or infinite).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()

    def frames(self) -> "Iterator[tuple[float, can.Message]]":
        """Iterate over the log, frame by frame as they are asked for, in its order.

        Yields
        ------
        (float, can.Message)
            The frame's timestamp [s], as python-can reads it: Unix time, or in some formats since the log's start.

        Raises
        ------
        RecordingError
            The file turns out to be damaged; the message says after which frame.
        """
        number = 0
        try:
            with _reader(self.path) as reader:
                for message in reader:
                    number += 1
                    if math.isfinite(message.timestamp):
                        yield message.timestamp, message
                    else:
                        self.rejected["absurd timestamp"] += 1
        except RecordingError:
            raise
        except Exception as error:  # each format fails in ways of its own
            raise RecordingError(
                f"{self.path}: damaged or no CAN log (after frame {number}): {_one_line(error)}"
            ) from error


def open_can_log(path: str | os.PathLike[str]) -> CanLog:
    """Open a log of CAN frames for reading.

    Parameters
    ----------
    path : path-like
        Its name says the format: ``.log`` (candump -L), ``.asc``, ``.blf``, ``.csv``, ``.db`` (SQLite), ``.trc``,
        ``.mf4`` (with python-can's extra ``mf4``); most may be compressed, such as ``.log.gz``.

    Raises
    ------
    RecordingError
        There is no such file, python-can does not know the format or lacks a package for it, or it is something else.
    CanError
        python-can or cantools is missing.
    """
    _require_packages()
    path = Path(path)
    with _reader(path):
        return CanLog(path)


def _reader(path: Path) -> "MessageReader":
    """Open a log; in the thread that reads it, for SQLite wants that."""
    import can

    size = _checked_size(path)
    try:
        reader = can.LogReader(path)
    except Exception as error:
        raise RecordingError(f"{path}: no CAN log that can be read: {_one_line(error)}") from error
    if isinstance(reader, can.BLFReader) and reader.file_size > size and path.suffix.lower() == ".blf":
        # It would take the frames up to there for all, or for damage.
        reader.stop()
        raise RecordingError(
            f"{path}: cut off: {size:,} bytes, expected {reader.file_size:,} by its header; copy it again"
        )
    file = getattr(reader, "file", None)
    if isinstance(file, io.TextIOWrapper):
        # Comments and the names of months are in whatever encoding the logger used; the frames are ASCII.
        file.reconfigure(encoding="utf-8", errors="replace")
    return reader


def _checked_size(path: Path) -> int:
    """Return the file's size in bytes if it can be read and starts as its name says."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise RecordingError(f"{path}: not a regular file; expected a CAN log")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}; expected a CAN log") from error
    magic = _MAGIC.get(path.suffix.lower())
    if magic is not None and not start.startswith(magic):
        raise RecordingError(f"{path}: no CAN log in the format that its name says, {path.suffix}")
    return status.st_size


class CanReplay:
    """
    A log's frames, decoded in their order.

    Parameters
    ----------
    log : CanLog
        What to read.
    decoder : CanDecoder
        What turns frames into readings, and counts those that it cannot use.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    """

    def __init__(self, log: CanLog, decoder: CanDecoder, speed: float | None = 1.0) -> None:
        self.name = f"replay of {log.path.name}"
        self._log = log
        self._decoder = decoder
        self._speed = speed

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they become due."""
        return replayed(self._log.frames(), self._decoder.decode, self._speed, stop)


# Live -----------------------------------------------------------------------------------------------------------------

_LISTEN = 0.05  # [s] at once: how often it looks whether to stop
_AT_ONCE = 256  # frames put together at most, so that under load it still looks
_AT_THE_STOP = 100_000  # frames taken after the stop at most: all that a bus holds, but not for ever what still comes


class CanBus:
    """
    A live bus as a source.

    At the stop it takes what the bus has received until then, and ends. What the bus raises, as when the adapter is
    pulled out, ends it, too; the readings before that are not lost.

    Parameters
    ----------
    bus : can.BusABC
        Open; to be shut down by whoever opened it, after this source has ended.
    decoder : CanDecoder
        What turns frames into readings, and counts those that it cannot use.
    """

    def __init__(self, bus: "can.BusABC", decoder: CanDecoder) -> None:
        known = bus.channel_info not in ("", "unknown")
        self.name = f"CAN bus ({bus.channel_info if known else type(bus).__name__})"
        self._bus = bus
        self._decoder = decoder

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they come in; their timestamps are the bus's, Unix time [s] for most adapters."""
        left = _AT_THE_STOP
        while left > 0:
            stopping = stop.is_set()  # before looking: what came before the stop is seen
            messages, failure = self._received(0.0 if stopping else _LISTEN)
            batches = [readings for message in messages if len(readings := self._decoder.decode(message))]
            if batches:
                yield np.concatenate(batches)
            if failure is not None:
                raise failure
            if stopping:
                left = left - len(messages) if messages else 0

    def _received(self, timeout: float) -> "tuple[list[can.Message], Exception | None]":
        """Wait for a frame; return it, those that are there behind it, and what the bus raised after these."""
        messages: list[can.Message] = []
        try:
            while len(messages) < _AT_ONCE and (message := self._bus.recv(timeout)) is not None:
                messages.append(message)
                timeout = 0.0
        except Exception as error:
            return messages, error
        return messages, None


# The command line -----------------------------------------------------------------------------------------------------


def add_bus_arguments(parser: argparse.ArgumentParser) -> None:
    """Add python-can's own options for a bus to a parser: --interface, --channel, --bitrate and so on.

    What they print on standard output when they are parsed is left out, and what they raise for nonsense is an error of
    argparse.

    Raises
    ------
    CanError
        python-can or cantools is missing.
    """
    _require_packages()
    import can.cli

    can.cli.add_bus_arguments(cast(argparse.ArgumentParser, _Quietly(parser)), filter_arg=True, group_title="CAN bus")


def open_bus(args: argparse.Namespace) -> "can.BusABC":
    """Open the bus that the options of `add_bus_arguments` ask for; python-can's configuration adds to them.

    Returns
    -------
    can.BusABC
        Shut it down, or use it in a ``with`` statement.

    Raises
    ------
    CanError
        There is no such bus, its adapter's driver or package is missing, or python-can or cantools is.
    """
    _require_packages()
    import can.cli

    try:
        return can.cli.create_bus_from_namespace(args)
    except argparse.ArgumentError as error:
        reason = _one_line(error.__cause__ or error)
        if reason == 'Unknown interface type "None"':
            reason = "which one? give --interface, such as socketcan, and mostly --channel, such as can0"
        given = [f"{name} {getattr(args, name)}" for name in ("interface", "channel") if hasattr(args, name)]
        raise CanError(f"CAN bus: {', '.join(given)}: {reason}" if given else f"CAN bus: {reason}") from error


# Its own text is meant for another program's formatter and speaks of that program.
_SAID_BETTER = {
    "--filter": {
        "metavar": "ID:MASK",
        "help": "Take only frames whose id is ID in the bits of MASK, both hexadecimal; several: any of them",
    }
}


class _Quietly:
    """Stands in for a parser, or a group of one, while python-can adds its options to it."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def add_argument_group(self, *args: Any, **options: Any) -> "_Quietly":
        return _Quietly(self._target.add_argument_group(*args, **options))

    def add_argument(self, *flags: str, **options: Any) -> Any:
        if isinstance(options.get("action"), type):
            options["action"] = _quiet(options["action"])
        if "choices" in options:  # in the help once, not in each line of the usage
            options["metavar"] = flags[-1].lstrip("-").upper()
            options["help"] += " One of " + ", ".join(options["choices"])
        return self._target.add_argument(*flags, **{**options, **_SAID_BETTER.get(flags[-1], {})})


def _quiet(action: type[argparse.Action]) -> type[argparse.Action]:
    class Quiet(action):  # type: ignore[misc,valid-type]
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    super().__call__(*args, **kwargs)
            except ValueError as error:
                raise argparse.ArgumentError(self, _one_line(error)) from None

    return Quiet
