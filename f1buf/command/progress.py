"""How far a run has come: what the live view shows besides the series."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from f1buf.telemetry import Alert, F1TelemetrySystem

_KEPT = 200  # alerts, and notes, that the view may show; the notes are printed when it has ended
_NOTE_SECONDS = 30.0  # [s] that a note without a style is shown
_RATE_FRAMES = 5  # over which readings a second are counted: a second


class Said(NamedTuple):
    """What people should see."""

    alerts: Sequence[Alert] = ()
    """The newest ones, the latest last."""
    alert_count: int = 0
    """How many there were in all."""
    notes: Sequence[tuple[str, str]] = ()
    """Lines and their styles, the latest last."""


class Progress(NamedTuple):
    """How a run does at one moment."""

    what: str
    """What feeds it."""
    seconds: float = 0.0
    """Since it began [s]."""
    rate: float = 0.0
    """Readings analysed a second, of late."""
    analysed: int = 0
    """Readings."""
    size: int = 0
    """Readings in the buffer."""
    capacity: int = 1
    """Of the buffer."""
    latency_s: Mapping[str, float | None] = {}
    """``p50`` and ``p99`` so far [s]."""
    losses: Mapping[str, int] = {}
    """How many readings were lost, by where: ``"in the buffer"``."""
    rejected: int = 0
    """Datagrams and values that could not be used."""
    recorder: tuple[str, str] = ("", "")
    """What the recorder does, and rich's style to say it in."""
    draining: int | None = None
    """How many readings are left, once the run is to stop."""
    said: Said = Said()


@dataclass
class Watched:
    """A run that is watched.

    Parameters
    ----------
    system : F1TelemetrySystem
        What runs.
    what : str
        What feeds it.
    losses : callable
        Returns how many readings were lost outside the system's buffer, by where.
    rejected : callable
        Returns how many datagrams and values were not fit to be used, by reason.
    recorder : callable
        Returns what the recorder does, and rich's style to say it in.
    """

    system: F1TelemetrySystem
    what: str
    losses: Callable[[], Mapping[str, int]] = dict
    rejected: Callable[[], Mapping[str, int]] = dict
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
