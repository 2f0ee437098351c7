"""Files of other programs as sources: what they have in common, whatever the format."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, SupportsIndex

from numpy.typing import NDArray

from f1buf.telemetry.sessions import with_session
from f1buf.telemetry.sources.schedule import Schedule, due_pieces

__all__ = ["FileReplay", "Measurement", "Sensors"]

Array = NDArray[Any]

_FLAGS = 1 << 16
_KEPT = 1 << 20  # answers kept: a file may say laps without end


class Sensors:
    """What is known of the sensors of a file; one thread tells, any may ask.

    Attributes
    ----------
    sessions : tuple of int
        The game's numbers of the sessions that they are of, in that order: the latest 16.
    """

    def __init__(self) -> None:
        self.sessions: tuple[int, ...] = ()
        self._described: dict[tuple[int, int], dict[str, Any]] = {}
        self._flags: dict[tuple[Any, ...], int] = {}
        self._count: Counter[int] = Counter()  # by sensor how many flags it has

    def new(self, described: dict[str, Any]) -> int:
        """Return the number of a new sensor, of which this is known; its readings have the flags 0."""
        sensor_id = len(self._described)
        self.flags(sensor_id, described)
        return sensor_id

    def flags(self, sensor_id: int, described: dict[str, Any]) -> int:
        """Return the flags of a sensor's readings of which this is known; None is what is not known."""
        key = sensor_id, *described.items()
        flags = self._flags.get(key)
        if flags is None:
            if len(self._flags) >= _KEPT:
                self._flags.clear()
            flags = self._flags[key] = self._count[sensor_id] % _FLAGS
            self._count[sensor_id] += 1
            self._described[sensor_id, flags] = {name: value for name, value in described.items() if value is not None}
            if described.get("session") is not None:
                self.sessions = with_session(self.sessions, described["session"])
        return flags

    def describe(self, sensor_id: SupportsIndex, flags: SupportsIndex) -> dict[str, Any]:
        """Say what is known of a sensor.

        Parameters
        ----------
        sensor_id, flags : int
            As in a reading.

        Returns
        -------
        dict
            ``car``, ``driver``, ``lap``, ``part`` and ``session``, without those that are not known.
        """
        found = dict(self._described.get((int(sensor_id), int(flags)), {}))
        if len(self.sessions) > 1 and "session" in found:
            found["several"] = True
        return found


class Measurement(Protocol):
    """A file that was opened."""

    path: Path
    sensors: Sensors

    def batches(self) -> Iterator[Array]:
        """Yield readings, in their order."""


class FileReplay:
    """
    A file's readings, in their order.

    Parameters
    ----------
    recording : McapRecording or Mf4Recording
        What to play.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    """

    def __init__(self, recording: Measurement, speed: float | None = 1.0) -> None:
        self.name = f"replay of {recording.path.name}"
        self._recording = recording
        self._speed = speed

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they become due."""
        schedule = None if self._speed is None else Schedule(self._speed)
        for readings in self._recording.batches():
            for piece in [slice(None)] if schedule is None else due_pieces(readings["timestamp"], schedule, stop):
                if stop.is_set():
                    return
                yield readings[piece]

    def describe(self, sensor_id: SupportsIndex, flags: SupportsIndex) -> dict[str, Any]:
        """Say what is known of a sensor; see `Sensors.describe`. For any thread."""
        return self._recording.sensors.describe(sensor_id, flags)
