"""What the live page shows, and what a browser lacks of it: messages in JSON, each the difference to an earlier one."""

import json
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from f1buf import Empty, RingBuffer, ShutDown
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.text import clean
from f1buf.telemetry.thresholds import Threshold
from f1buf.web.traces import PER_SECOND, Series, Traces

__all__ = ["Watcher"]

WINDOW = 60 * PER_SECOND  # buckets of a trace that a browser gets at first: a minute
_ALERTS = 200  # that are kept
_STATUS_SECONDS = 0.5  # [s] between two looks at how the run does
_QUIET = 5.0  # [s] without a reading
_LONGEST = 100  # characters of a name
_SLICE = 32_768  # readings: 262,144 at once take three times as long; with smaller slices the GIL changes hands often


class Watcher:
    """
    Takes readings out of a ring, and makes of them what browsers get; for one thread, but for `alert`.

    Parameters
    ----------
    ring : RingBuffer
        Of READING, and this watcher's own.
    describe : callable
        As for `Traces`.
    thresholds : iterable of Threshold
        What the readings are checked against.
    source : str
        Where the readings come from, for people.
    status : callable
        Returns how the run does, ready for JSON.
    """

    def __init__(
        self,
        ring: RingBuffer,
        describe: Callable[[int, int], Mapping[str, Any]],
        thresholds: Iterable[Threshold],
        source: str,
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.run = secrets.token_hex(8)  # tells a browser that the numbers of the series are another run's
        self.ended = False
        self.traces = Traces(describe)
        self.shown = 0  # readings that were taken in
        self._ring = ring
        self._slice = np.empty(_SLICE, ring.dtype)
        self._status_of = status
        self._status: dict[str, Any] = {}
        self._status_at = -math.inf
        self._status_revision = 0
        self._alerts: deque[tuple[int, Alert]] = deque(maxlen=_ALERTS)
        self._alert_count = 0
        self._lock = threading.Lock()  # guards the alerts
        self._shared: dict[tuple[int, int], tuple[str, int]] = {}  # what messages have in common; the alerts by then
        self._about = {
            "run": self.run,
            "source": source,
            "per_second": PER_SECOND,
            "thresholds": [{"channel": each.channel, "message": each.message, **each.as_dict()} for each in thresholds],
        }

    def alert(self, alert: Alert) -> None:
        """Show an alert; from any thread."""
        with self._lock:
            self._alert_count += 1
            self._alerts.append((self._alert_count, alert))

    def look(self) -> None:
        """Take in what has come since the last time."""
        now, left = time.monotonic(), self._ring.capacity
        while (count := self._take_slice(now)) and (left := left - count) > 0:
            time.sleep(0)  # the GIL is free for whoever waits for it: by itself Python keeps them waiting for 5 ms
        if now - self._status_at >= _STATUS_SECONDS:
            self.traces.refresh()
            self._status_at, self._status_revision = now, self.traces.revision
            rows = list(self.traces.series)
            heard = self.traces.heard[rows]
            quiet = [row for row, at in zip(rows, heard.tolist(), strict=True) if now - at > _QUIET]
            passed_over = self._ring.stats().dropped + self.traces.left_out
            self._status = {**self._status_of(), "shown": self.shown, "passed_over": passed_over, "quiet": quiet}
        self._shared.clear()

    def _take_slice(self, now: float) -> int:
        """Take in some of what has come; return how many readings."""
        count = 0
        try:
            count = self._ring.get_into(self._slice, block=False)
        except Empty:
            pass
        except ShutDown:
            if not self.ended:
                self.ended, self._status_at = True, -math.inf  # how it ended is told at once
        self.shown += count
        self.traces.take(self._slice[:count], now)
        return count

    # -- messages -----------------------------------------------------------------------------------------------------

    def message(self, since: int, alerts: int, rows: Sequence[int]) -> tuple[str, int, int]:
        """
        Return what a browser lacks.

        Parameters
        ----------
        since : int
            The revision that it has; 0 for none.
        alerts : int
            How many alerts had been raised when it was told last.
        rows : sequence of int
            The series whose traces it shows.

        Returns
        -------
        str
            A JSON object.
        int, int
            The revision that it has then, and how many alerts.
        """
        key = since, alerts
        if key not in self._shared:
            difference = self._difference(since, alerts)
            self._shared[key] = json.dumps(difference), difference["alert_count"]
        shared, alerts = self._shared[key]
        found = ((row, self._trace(row, since)) for row in rows if row in self.traces.series)
        traces = json.dumps({row: trace for row, trace in found if trace is not None})
        return f'{shared[:-1]}, "traces": {traces}}}', self.traces.revision, alerts

    def history(self, rows: Sequence[int], start: int, stop: int) -> str:
        """Return the buckets of these series from number `start` on, before `stop`, as a JSON object."""
        its = {row: _course(self.traces.course(row, start, stop)) for row in rows if row in self.traces.series}
        return json.dumps({"run": self.run, "traces": its})

    def _difference(self, since: int, alerts: int) -> dict[str, Any]:
        traces = self.traces
        rows = list(traces.series)
        changed = [row for row, at in zip(rows, traces.changed[rows].tolist(), strict=True) if at > since]
        told = [row for row, at in zip(rows, traces.told[rows].tolist(), strict=True) if at > since]
        message: dict[str, Any] = {} if since else dict(self._about)
        message["revision"] = traces.revision
        message["depth"] = traces.depth
        message["series"] = [[row, _described(traces.series[row])] for row in told]
        message["gone"] = [row for row, at in traces.gone.items() if at > since]
        message["values"] = [changed, _numbers(traces.latest[changed].tolist())]
        message["clocks"] = {_session(session): bucket for session, bucket in traces.clocks.items()}
        message["ended"] = self.ended
        if self._status_revision > since:
            message["status"] = self._status
        with self._lock:
            message["alert_count"] = self._alert_count
            new = [alert for number, alert in self._alerts if number > alerts]
        message["alerts"] = [_alert(alert) for alert in new]
        return message

    def _trace(self, row: int, since: int) -> dict[str, Any] | None:
        course = self.traces.news(row, since)
        if course is not None:
            return _course(course) if len(course.numbers) else None
        newest = self.traces.clocks.get(self.traces.series[row].session, 0)
        return {**_course(self.traces.course(row, newest - WINDOW, newest + 2)), "anew": True}


def _described(series: Series) -> dict[str, Any]:
    low, high = series.channel.range
    about = {key: series.about.get(key) for key in ("car", "driver", "lap", "part")}
    return {
        **{key: _fit(value) if isinstance(value, str) else value for key, value in about.items() if value is not None},
        "sensor": series.sensor_id,
        "session": _session(series.session),
        "channel": series.channel.name,
        "unit": _fit(series.channel.unit),
        "range": [low, high] if math.isfinite(low) and math.isfinite(high) else None,
    }


def _fit(text: str) -> str:
    """Return a text that can be shown, and has room."""
    text = clean(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _alert(alert: Alert) -> dict[str, Any]:
    known = alert.as_dict()
    return {"text": str(alert), "kind": alert.kind, **{key: known[key] for key in ("message", "channel")}}


def _session(session: int | None) -> str:
    """A session's number as text: JavaScript's numbers do not have all of its digits."""
    return "" if session is None else str(session)


def _course(course: Any) -> dict[str, Any]:
    return {"n": course.numbers.tolist(), "low": course.low.tolist(), "high": course.high.tolist()}


def _numbers(values: list[float]) -> list[float | str]:
    """Values ready for JSON, which knows only finite ones."""
    return [value if math.isfinite(value) else str(value) for value in values]
