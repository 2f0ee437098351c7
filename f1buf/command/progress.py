"""How far a run has come: what the live view shows besides the series."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from f1buf.telemetry import Alert, F1TelemetrySystem

_KEPT = 200  # alerts, and notes, that the view may show; the notes are printed when it has ended
_NOTE_SECONDS = 30.0  # [s] that a note without a style is shown
_RATE_FRAMES = 5  # frames over which readings a second are counted: about a second


class Said(NamedTuple):
    """What people should see, the latest last."""

    alerts: Sequence[Alert] = ()  # the newest ones
    alert_count: int = 0  # how many there were in all
    notes: Sequence[tuple[str, str]] = ()  # lines, and rich's styles for them


class Progress(NamedTuple):
    """How a run does at one moment."""

    what: str  # what feeds it
    seconds: float = 0.0  # since it began [s]
    rate: float = 0.0  # readings analysed a second, of late
    analysed: int = 0  # readings
    size: int = 0  # readings in the buffer
    capacity: int = 1  # of the buffer
    latency_s: Mapping[str, float | None] = {}  # p50 and p99 so far [s]
    losses: Mapping[str, int] = {}  # how many readings were lost, by where, such as "in the buffer"
    rejected: int = 0  # datagrams and values that could not be used
    recorder: tuple[str, str] = ("", "")  # what the recorder does, and rich's style to say it in
    draining: int | None = None  # how many readings are left, once the run is to stop
    said: Said = Said()

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, without what was said."""
        fields = self._asdict()
        del fields["said"]
        return {**fields, "recorder": self.recorder[0]}


@dataclass
class Watched:
    """A run that is watched: its system, what feeds that, and functions that tell the rest of its `Progress`."""

    system: F1TelemetrySystem
    what: str
    losses: Callable[[], Mapping[str, int]] = dict  # outside the system's buffer, by where
    rejected: Callable[[], Mapping[str, int]] = dict  # by reason
    recorder: Callable[[], tuple[str, str]] = lambda: ("", "")

    def __post_init__(self) -> None:
        self.alerts: deque[Alert] = deque(maxlen=_KEPT)
        self.alert_count = 0
        self.notes: list[tuple[float, str, str]] = []  # when, what, in which style
        self.left_out = 0  # notes
        self._began = time.monotonic()
        self._counts = deque([(self._began, 0)], maxlen=_RATE_FRAMES)  # readings analysed at the times of frames

    def alert(self, alert: Alert) -> None:
        """Keep an alert."""
        self.alerts.append(alert)
        self.alert_count += 1

    def note(self, text: str, style: str) -> None:
        """Keep a line; one too many replaces the oldest without a style."""
        self.notes.append((time.monotonic(), text, style))
        if len(self.notes) > _KEPT:
            del self.notes[next((i for i, (_, _, style) in enumerate(self.notes) if not style), 0)]
            self.left_out += 1

    def said(self, now: float) -> Said:
        """Return what people should see; as `alert` and `note`, for one thread at a time."""
        notes = [(text, style) for at, text, style in self.notes if style or now - at < _NOTE_SECONDS]
        return Said(list(self.alerts), self.alert_count, notes)

    def progress(self, now: float, said: Said, draining: bool) -> Progress:
        """Return how the run does; for one thread at a time, which may be another one than that of `said`."""
        system, stats = self.system, self.system.ring.stats()
        analysed = system.analysed
        then, before = self._counts[0]
        self._counts.append((now, analysed))
        return Progress(
            self.what,
            seconds=now - self._began,
            rate=(analysed - before) / max(now - then, 1e-3),
            analysed=analysed,
            size=system.ring.qsize(),
            capacity=system.ring.capacity,
            latency_s=system.latency_s,
            losses={"in the buffer": stats.dropped + stats.discarded, **self.losses()},
            rejected=sum(self.rejected().values()),
            recorder=self.recorder(),
            draining=system.remaining if draining else None,
            said=said,
        )
