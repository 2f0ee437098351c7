"""Channels: what is measured, in which unit; and a reading in the form that people read.

A record carries its channel as a 16-bit number (the field ``channel`` of `f1buf.READING`), so that a million readings
need no strings. The numbers are handed out by this process, in the order in which channels are first created: they mean
nothing in another process, so files and messages name a channel by name and unit. Number 0 is no channel, so a zeroed
record is no sensor's reading. That leaves 65,535 numbers, the most that the two-byte field can tell apart.
"""

import math
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from f1buf.ring.reading import READING

__all__ = [
    "ENGINE_TEMP",
    "FUEL_LEVEL",
    "G_FORCE",
    "SPEED",
    "TIRE_PRESSURE",
    "Channel",
    "TelemetryData",
    "channel_by_number",
    "channels_by_name",
    "known_channels",
]

_NAMES: tuple[str, ...] = READING.names or ()
MAX_CHANNELS = 65_535  # 1 to 2**16 - 1: what READING.channel (u2) holds, less the 0 that means no channel

_lock = threading.Lock()  # guards both; held for a look-up and an insertion, never while foreign code runs
_numbers: dict["Channel", int] = {}
_channels: dict[int, "Channel"] = {}


@dataclass(frozen=True)
class Channel:
    """What a sensor measures.

    Equal channels share one number in this process; the same name with another unit or range is another channel.

    Parameters
    ----------
    name : str
        As thresholds name it, such as ``"ENGINE_TEMP"``.
    unit : str
        The unit of the values, such as ``"°C"``; empty where there is none.
    range : (float, float)
        The lowest and highest value to expect [unit]; infinite (the default) where that is not known. Information only:
        no reading is rejected for it.

    Attributes
    ----------
    number : int
        1 to 65,535: what a reading of this channel holds in its field ``channel``. Valid in this process only.

    Raises
    ------
    ValueError
        The name is empty, or the range is not low < high.
    OverflowError
        This process already knows 65,535 channels.
    """

    name: str
    unit: str
    range: tuple[float, float] = (-math.inf, math.inf)
    number: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"a channel's name is {self.name!r}: expected a text that is not empty")
        if not isinstance(self.unit, str):
            raise TypeError(f"channel {self.name}: the unit is {self.unit!r}: expected a text, '' for no unit")
        object.__setattr__(self, "range", _checked_range(self.name, self.range))
        object.__setattr__(self, "number", _register(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: another process gives the channel a number of its own.
        return type(self), (self.name, self.unit, self.range)

    def __str__(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def _checked_range(name: str, limits: Any) -> tuple[float, float]:
    try:
        low, high = map(float, limits)
    except (TypeError, ValueError):
        raise ValueError(f"channel {name}: the range is {limits!r}: expected two numbers, (low, high)") from None
    if not low < high:
        raise ValueError(f"channel {name}: the range is {limits!r}: expected (low, high) with low < high")
    return low, high


def _register(channel: Channel) -> int:
    """Return the number of `channel`, a new one if no equal channel has one."""
    with _lock:
        number = _numbers.get(channel)
        if number is None:
            number = len(_numbers) + 1
            if number > MAX_CHANNELS:
                raise OverflowError(
                    f"channel {channel.name}: this process already has {MAX_CHANNELS:,} channels, the most that a "
                    "reading's 16-bit channel number tells apart; create channels once and reuse them"
                )
            _numbers[channel] = number
            _channels[number] = channel
    return number


def channel_by_number(number: int) -> Channel:
    """Return the channel that readings with this channel number belong to.

    Raises
    ------
    KeyError
        No channel of this process has the number.
    """
    channel = _channels.get(int(number))
    if channel is None:
        raise KeyError(f"no channel has the number {number}: this process knows 1 to {len(_channels)}")
    return channel


def channels_by_name(name: str) -> tuple[Channel, ...]:
    """Return every channel known by this name, whatever its unit and range, in the order of their numbers.

    Empty where there is none.
    """
    return tuple(channel for channel in known_channels() if channel.name == name)


def known_channels() -> tuple[Channel, ...]:
    """Return every channel that this process has created so far, in the order of their numbers."""
    with _lock:
        return tuple(_channels.values())


SPEED = Channel("SPEED", "km/h", (0.0, 350.0))
ENGINE_TEMP = Channel("ENGINE_TEMP", "°C", (80.0, 120.0))
TIRE_PRESSURE = Channel("TIRE_PRESSURE", "bar", (1.8, 2.5))
G_FORCE = Channel("G_FORCE", "G", (0.0, 6.0))
FUEL_LEVEL = Channel("FUEL_LEVEL", "%", (0.0, 100.0))


class TelemetryData(NamedTuple):
    """One reading for people: names and units where the record has numbers.

    Making one costs far more than moving a record does: make them for what is shown, not for every reading.
    """

    timestamp: float
    """[s]: n / rate (simulated), session time (replayed) or Unix time (live)."""
    sensor_id: int
    """The number of the physical series."""
    data_type: str
    """The channel's name."""
    value: float
    """In `unit`."""
    unit: str
    """The channel's unit."""

    @classmethod
    def from_reading(cls, reading: Any) -> "TelemetryData":
        """Make one from a reading.

        Parameters
        ----------
        reading : numpy.void of dtype READING, or a tuple of its five fields
            Copied; nothing refers to it afterwards.

        Raises
        ------
        KeyError
            No channel of this process has the reading's channel number.
        """
        timestamp, sensor_id, number, _flags, value = _fields(reading)
        channel = channel_by_number(number)
        return cls(float(timestamp), int(sensor_id), channel.name, float(value), channel.unit)

    def __str__(self) -> str:
        value = f"{self.value:.6g} {self.unit}".rstrip()
        return f"{self.timestamp:.3f} s  sensor {self.sensor_id}  {self.data_type} {value}"


def _fields(reading: Any) -> tuple[float, int, int, int, float]:
    fields = reading.item() if hasattr(reading, "item") else reading
    if not isinstance(fields, tuple) or len(fields) != len(_NAMES):
        raise TypeError(f"expected one reading, a record or tuple of {', '.join(_NAMES)}; got {reading!r}")
    return fields
