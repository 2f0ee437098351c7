"""What is known of sensors whose readings have come lately: sources that read it beside the readings keep it here."""

from typing import Any

from f1buf.telemetry.sessions import with_session

__all__ = ["DESCRIBED", "DescribedSensors"]

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

    def describe(self, sensor_id: int, flags: int) -> dict[str, Any]:
        """Return what is known of a sensor; empty where nothing is."""
        key = int(sensor_id) << 16 | int(flags)
        latest, before = self._described
        found = latest.get(key)
        return dict(before.get(key, {}) if found is None else found)
