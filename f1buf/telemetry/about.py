"""What a process tells others of the readings that it shares: a ring of bytes beside the ring of the readings.

It holds JSON texts, each between a record separator and a line feed (RFC 7464), so that a reader finds the next one
wherever it begins to read. Readers only look; the writer takes the oldest texts out where it needs room. A text is one
of these:

    {"source": where the readings come from, "thresholds": TOML}
    {"channels": [[number, name, unit, lowest, highest], ...]}      null where a limit is infinite
    {"sensors": [[sensor_id, flags, what is known of the sensor], ...]}
    {"failed": why there will be no more readings}

The first two are written again before their last copy is taken out. What is known of a sensor is written again from
time to time while its readings come. All that a reading needs is there before the reading is.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from f1buf import Empty, SharedRingBuffer
from f1buf.ring.segments import LONGEST_NAME, checked_name
from f1buf.telemetry.channels import MAX_CHANNELS, Channel, known_channels
from f1buf.telemetry.described import DescribedSensors
from f1buf.telemetry.errors import SharingError
from f1buf.telemetry.thresholds import Threshold, dumps, loads

CAPACITY = 4 << 20  # [bytes]
_ABOUT = "-about"
_BEGIN, _END = b"\x1e", b"\n"
_TOGETHER = 512  # sensors in one text
_PATIENCE = 1.0  # [s] for a reader that looks, until the oldest texts can be taken out

Sensor = tuple[int, int, dict[str, Any]]
"""The sensor's id, the reading's flags, what is known of it."""


def about_name(name: str) -> str:
    """Return the name of the ring beside the ring of this name; a ValueError where it would be too long."""
    size, longest = len(checked_name(name).encode(errors="surrogateescape")), LONGEST_NAME - len(_ABOUT)
    if size > longest:
        raise ValueError(f"name is {name!r}, of {size} bytes; expected at most {longest} to share readings by")
    return name + _ABOUT


class AboutWriter:
    """Writes them; for one thread at a time."""

    def __init__(self, name: str, source: str, thresholds: Iterable[Threshold]) -> None:
        self._ring = SharedRingBuffer(CAPACITY, "u1", name=about_name(name))
        self._standing = b""  # the texts that must stay
        self._channels = 0  # how many of them tell of a channel
        self._write({"source": source, "thresholds": dumps(thresholds)}, stays=True)
        self.tell_channels()

    def tell_channels(self) -> None:
        """Tell of this process' channels that are new."""
        channels = known_channels()
        if len(channels) > self._channels:
            rows = [_row(channel) for channel in channels[self._channels :]]
            self._channels = len(channels)
            self._write({"channels": rows}, stays=True)

    def tell_sensors(self, sensors: list[Sensor]) -> None:
        """Tell what is known of sensors."""
        for start in range(0, len(sensors), _TOGETHER):
            self._write({"sensors": sensors[start : start + _TOGETHER]})

    def tell_failure(self, why: str) -> None:
        """Tell why there will be no more readings."""
        self._write({"failed": why})

    def unlink(self) -> None:
        """Take the ring's name away."""
        self._ring.unlink()

    def _write(self, text: dict[str, Any], *, stays: bool = False) -> None:
        data = _BEGIN + json.dumps(text, default=str).encode() + _END
        if len(self._standing) + len(data) > CAPACITY // 4:
            raise SharingError(
                f"{len(self._standing) + len(data):,} bytes are to be told of channels and sensors at once; expected "
                f"at most {CAPACITY // 4:,}: use fewer channels"
            )
        if self._ring.qsize() + len(data) + len(self._standing) > CAPACITY:
            self._make_room()
        self._ring.put_many(np.frombuffer(data, "u1"))
        if stays:
            self._standing += data

    def _make_room(self) -> None:
        """Take out the oldest half, once what must stay has been written again."""
        self._ring.put_many(np.frombuffer(self._standing, "u1"))
        oldest = self._ring.qsize() - CAPACITY // 2
        try:
            self._ring.get_many(oldest, min_count=oldest, timeout=_PATIENCE)
        except Empty:
            raise SharingError(f"a process that looks at {self._ring.name!r} stands still; end it") from None


def _row(channel: Channel) -> list[Any]:
    low, high = (limit if math.isfinite(limit) else None for limit in channel.range)
    return [channel.number, channel.name, channel.unit, low, high]


class AboutReader:
    """Reads them; for one thread at a time.

    Attributes
    ----------
    begun : bool
        Whether the writer has said where the readings come from, which it does first.
    source : str
        Where the readings come from.
    thresholds : tuple of Threshold
        What the other process checks them against.
    failed : str or None
        Why there will be no more readings.
    numbers : ndarray
        By a channel's number in the other process its number in this one; 0 where it was not told of.
    differs : bool
        Whether a channel has another number in the other process than in this one.
    sensors : DescribedSensors
        What is known of those whose readings have come lately.
    """

    def __init__(self, ring: SharedRingBuffer) -> None:
        self.begun = False
        self.source = ""
        self.thresholds: tuple[Threshold, ...] = ()
        self.failed: str | None = None
        self.numbers = np.zeros(MAX_CHANNELS + 1, "u2")
        self.differs = False
        self.sensors = DescribedSensors()
        self._ring = ring
        self._seen = 0  # bytes
        self.look()

    def look(self) -> None:
        """Read what is new."""
        while (end := self._ring.stats().offered) != self._seen:
            data = self._ring.snapshot(end - self._seen).tobytes()
            if self._ring.stats().offered != end:
                continue  # the writer has gone on meanwhile, and so the newest bytes are others
            _rest, *texts = data.split(_BEGIN)
            unfinished = texts.pop() if texts and not texts[-1].endswith(_END) else None
            self._take_in(texts)
            self._seen = end
            if unfinished is not None:
                self._seen -= len(_BEGIN + unfinished)
                return

    def close(self) -> None:
        """Leave the ring; what is known by then stays."""
        self._ring.close()

    def _take_in(self, texts: list[bytes]) -> None:
        try:
            for text in map(json.loads, texts):
                if "source" in text:
                    self.begun, self.source, self.thresholds = True, text["source"], loads(text["thresholds"])
                self.failed = text.get("failed", self.failed)
                for number, name, unit, low, high in text.get("channels", ()):
                    limits = -math.inf if low is None else low, math.inf if high is None else high
                    self.numbers[number] = own = Channel(name, unit, limits).number
                    self.differs = self.differs or own != number
                sensors = text.get("sensors", ())
                self.sensors.remember({sensor_id << 16 | flags: described for sensor_id, flags, described in sensors})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise SharingError(f"what {self._ring.name!r} says makes no sense: {error}; share anew") from error
