"""What is known of sensors whose readings have come lately: sources that read it beside the readings keep it here."""

from typing import Any, SupportsIndex

from f1buf.telemetry.sessions import with_session

__all__ = ["DESCRIBED", "DescribedSensors", "DescribingSource"]

DESCRIBED = 131_072  # sensors that are remembered: more than readings are on their way to the analyzers

_Described = dict[int, dict[str, Any]]


class DescribedSensors:
    """Remembers what is known of sensors: one thread tells, any may ask.

    Attributes
    ----------
    sessions : tuple of int
        The game's numbers of the sessions that they are of, in the order in which they came: the latest 16.
    """

    def __init__(self) -> None:
        self.sessions: tuple[int, ...] = ()
        self._described: tuple[_Described, _Described] = {}, {}  # the latest, and those before

    def remember(self, described: _Described) -> None:
        """Keep what is known of sensors, by ``sensor_id << 16 | flags``, before their readings are yielded."""
        for each in described.values():
            if "session" in each:
                self.sessions = with_session(self.sessions, each["session"])
                if len(self.sessions) > 1:
                    each["several"] = True
        latest, before = self._described
        if len(latest) >= DESCRIBED:
            latest, before = {}, latest
        latest.update(described)
        self._described = latest, before

    def describe(self, sensor_id: SupportsIndex, flags: SupportsIndex) -> dict[str, Any]:
        """Return what is known of a sensor; empty where nothing is."""
        key = int(sensor_id) << 16 | int(flags)
        latest, before = self._described
        found = latest.get(key)
        return dict(before.get(key, {}) if found is None else found)


class DescribingSource:
    """What the sources have in common to which somebody else tells what is known of their sensors.

    Parameters
    ----------
    sensors : DescribedSensors
        Where it is kept.
    """

    def __init__(self, sensors: DescribedSensors) -> None:
        self._sensors = sensors

    @property
    def sessions(self) -> tuple[int, ...]:
        """The game's numbers of the sessions that readings came of, in that order: the latest 16."""
        return self._sensors.sessions

    def describe(self, sensor_id: SupportsIndex, flags: SupportsIndex) -> dict[str, Any]:
        """Say what the process that made the readings knew of a sensor.

        Parameters
        ----------
        sensor_id, flags : int
            As in a reading that was yielded lately: among the last 131,072 sensors with flags of their own.

        Returns
        -------
        dict
            What that process' source said, such as ``car``, ``driver``, ``lap``, ``part`` and ``session``, without
            what was not known.

        Notes
        -----
        May be called from other threads while `batches` goes on.
        """
        return self._sensors.describe(sensor_id, flags)
