"""Alerts: what the system says of a reading that is over a threshold."""

import json
import math
from typing import Any, Literal, NamedTuple

from f1buf.telemetry.channels import channel_by_number
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.text import clock
from f1buf.telemetry.thresholds import Event, Threshold

__all__ = ["ALERT_SCHEMA", "Alert"]

ALERT_SCHEMA = 1
"""The version of the JSON form; a higher one may lack or rename fields."""


class Alert(NamedTuple):
    """A reading over its threshold, and all that is known of it."""

    kind: Literal["rise", "sample"]
    """``"rise"``: the first reading that counts since the series is over; ``"sample"``: one that follows."""
    time: float
    """The reading's timestamp [s]."""
    position: int
    """The reading's position in the stream, from 0."""
    sensor_id: int
    """The number of the physical series."""
    channel: str
    """The channel's name."""
    value: float
    """In `unit`."""
    unit: str
    """The channel's unit."""
    threshold: Threshold
    """What it is over."""
    car: int | None = None
    """The car's index, where the source knows cars."""
    driver: str | None = None
    """The driver's name, where the source knows."""
    part: str | None = None
    """The wheel or axis, where a car has several such sensors; on a CAN bus the message."""
    lap: int | None = None
    """The car's lap, from 1, where the source knows."""
    session: int | None = None
    """The game's number of its session, where readings of more than one session have come."""

    @classmethod
    def from_event(cls, event: Event, threshold: Threshold, described: dict[str, Any]) -> "Alert":
        """Make an alert from an event of `Tracker.merge`.

        Parameters
        ----------
        event : Event
            The event.
        threshold : Threshold
            The event's threshold.
        described : dict
            What the source says of the sensor: ``car``, ``driver``, ``lap``, ``part``, each optional; and ``session``,
            which the alert names where ``several`` is true.
        """
        described = dict(described)
        if not described.pop("several", False):
            described.pop("session", None)
        timestamp, sensor_id, number, _flags, value = event.reading.item()
        channel = channel_by_number(number)
        return cls(
            event.kind, timestamp, event.position, sensor_id, channel.name, value, channel.unit, threshold, **described
        )

    @property
    def message(self) -> str:
        """The threshold's message."""
        return self.threshold.message

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON: ``type``, ``schema`` and the fields, without those that are not known."""
        fields = {
            "type": "alert",
            "schema": ALERT_SCHEMA,
            "kind": self.kind,
            "time": _number(self.time),
            "position": self.position,
            "sensor": self.sensor_id,
            "session": None if self.session is None else str(self.session),  # a float would not hold all its digits
            "car": self.car,
            "driver": self.driver,
            "lap": self.lap,
            "part": self.part,
            "channel": self.channel,
            "value": _number(self.value),
            "unit": self.unit,
            "threshold": self.threshold.as_dict(),
            "message": self.message,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def as_json(self, *, ensure_ascii: bool = False) -> str:
        """Return it as one line of JSON, without the line's end."""
        return json.dumps(self.as_dict(), ensure_ascii=ensure_ascii)

    def __str__(self) -> str:
        sign = ">" if self.threshold.side == "above" else "<"
        reading = f"{self.channel} {self.value:.6g} {self.unit}".rstrip()
        value = "|x| " if self.threshold.absolute else ""
        limit = f"{value}{sign} {self.threshold.limit:g}"
        seconds = " s" if self.time < 1e9 else ""  # else it is the time of day
        return f"{clock(self.time):>9}{seconds}  {self.message}: {reading} ({limit})  {self.origin}"

    @property
    def origin(self) -> str:
        """Where it comes from, for people: the car and all that is known of it, or the sensor's number."""
        sensor = f"sensor {self.sensor_id}" if self.car is None else f"car {self.car}"
        lap = None if self.lap is None else f"lap {self.lap}"
        session = None if self.session is None else f"session {short_session(self.session)}"
        return " ".join(filter(None, (sensor, self.driver, lap, self.part, session)))


def _number(value: float) -> float | str:
    """Return a number as JSON can say it: JSON has neither infinity nor NaN."""
    return value if math.isfinite(value) else str(value)
