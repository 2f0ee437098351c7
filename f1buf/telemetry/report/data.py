"""All that a report says, as one dict, ready for JSON.

Keys of the dict, beside those of `f1buf replay --json` (``buffer``, ``latency_s``, ``rejected``, ``notes``, and so on):

schema, version
    Of this form, and of the f1buf that made it.
made, file
    When it was made; the file's or folder's name, bytes and last change.
time
    ``first`` and ``last`` reading's time [s], ``seconds`` between them, and whether they are Unix time (``is_unix``).
    All other times of traces are seconds after ``first``, to the microsecond.
left_out, of_no_channel
    How many readings are in no series: as there were 4,096 others before theirs, or as their channel is none.
subjects
    Cars, messages or sensors (``kind``), each with its ``label``; series and laps name them by their place here.
channels, series, laps, alerts, thresholds
    What was measured, and what came of it. A series' trace is in ``stretches``, one a lap: ``t`` is the place of its
    times in ``times``, ``v`` are its values and ``d`` what the car had driven in the lap [m].
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import __version__
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.channels import Channel
from f1buf.telemetry.report.gather import Gatherer, Series, Stretch
from f1buf.telemetry.report.outliers import stand_out
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.system import Summary
from f1buf.telemetry.text import clean, is_unix_time

__all__ = ["SCHEMA", "KeptAlerts", "report_data"]

SCHEMA = 1
"""The version of the dict; a higher one may lack or rename keys."""

MOST_POINTS = 240_000  # on a page: of a real race all, and less than 10 MB of any
MOST_ALERTS = 5_000

Key = tuple[int | None, int | None, str | None]
"""What a series is of: session, car, and without a car the message or sensor."""


class KeptAlerts:
    """The first alerts of a run, and how many each lap has; for `on_alert`."""

    def __init__(self) -> None:
        self.kept: list[Alert] = []
        self.count = 0
        self.by_lap: Counter[tuple[int, int | None]] = Counter()  # by sensor and lap

    def add(self, alert: Alert) -> None:
        """Take the next alert."""
        self.count += 1
        self.by_lap[alert.sensor_id, alert.lap] += 1
        if len(self.kept) < MOST_ALERTS:
            self.kept.append(alert)


def report_data(gatherer: Gatherer, alerts: KeptAlerts, summary: Summary, **further: Any) -> dict[str, Any]:
    """Return what a run came to.

    Parameters
    ----------
    gatherer : Gatherer
        That got the readings; its traces are thinned to what a page can hold.
    alerts : KeptAlerts
        That got the alerts.
    summary : Summary
        The run's.
    **further
        What the caller knows of the source, ready for JSON.

    Returns
    -------
    dict
        Ready for JSON: see above.
    """
    gatherer.thin(MOST_POINTS)
    subjects = _Subjects(gatherer.series)
    channels = list(dict.fromkeys(series.channel for series in gatherer.series))
    times = _Times(gatherer.first)
    series = [_series(each, subjects, channels, times) for each in gatherer.series]
    _mark_what_stands_out(series)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "made": time.time(),
        **further,
        **summary.as_dict(),
        "time": _span(gatherer),
        "is_thinned": gatherer.is_thinned,
        "left_out": gatherer.left_out,
        "of_no_channel": gatherer.of_no_channel,
        "subjects": {"kind": subjects.kind, "items": subjects.items},
        "channels": [_channel(each) for each in channels],
        "series": series,
        "times": times.each,
        "laps": list(_laps(gatherer.series, subjects, alerts, gatherer.first)),
        "alerts": [alert.as_dict() for alert in alerts.kept],
        "alert_count": alerts.count,
    }


def _span(gatherer: Gatherer) -> dict[str, Any] | None:
    if not math.isfinite(gatherer.first):
        return None
    first, last = gatherer.first, gatherer.last
    return {"first": first, "last": last, "seconds": last - first, "is_unix": is_unix_time(first)}


def _channel(channel: Channel) -> dict[str, Any]:
    limits = [limit if math.isfinite(limit) else None for limit in channel.range]
    return {"name": channel.name, "unit": channel.unit, "range": limits}


class _Subjects:
    """The cars, or else messages or sensors, that the series are of."""

    def __init__(self, series: Iterable[Series]) -> None:
        self.items: list[dict[str, Any]] = []
        self._places: dict[Key, int] = {}
        found: dict[Key, dict[str, Any]] = {}
        for each in series:
            found[_key(each)] = each.described  # what was said last, as a driver may change
        self.kind = "car" if any(car is not None for _, car, _ in found) else "message"
        if self.kind == "message" and not any(described.get("part") for described in found.values()):
            self.kind = "sensor"
        sessions = {session for session, _, _ in found if session is not None}
        for place, key in enumerate(sorted(found, key=_order)):
            self._places[key] = place
            session, car, name = key
            driver = found[key].get("driver")
            label = name if car is None else f"{car} {driver}" if driver else f"car {car}"
            if len(sessions) > 1 and session is not None:
                label = f"{label} ({short_session(session, sessions)})"
            item = {"label": clean(str(label)), "car": car, "driver": driver}
            self.items.append({name: value for name, value in item.items() if value is not None})

    def place(self, series: Series) -> int:
        """Return the place of what a series is of."""
        return self._places[_key(series)]


def _key(series: Series) -> Key:
    described = series.described
    if described.get("car") is not None:
        return described.get("session"), described["car"], None
    return described.get("session"), None, described.get("part") or f"sensor {series.sensor_id}"


def _order(key: Key) -> tuple[Any, ...]:
    session, car, name = key
    number = int(name.removeprefix("sensor ")) if name and name.removeprefix("sensor ").isdecimal() else -1
    return session or 0, car is None, car or 0, number, name or ""


class _Times:
    """The times of traces, each array of them once: the readings of a packet have one time."""

    def __init__(self, first: float) -> None:
        self.each: list[list[float]] = []
        self._first = first
        self._places: dict[bytes, int] = {}

    def place(self, times: NDArray[Any]) -> int:
        """Return the place of these times in `each`."""
        after = np.round(times - self._first, 6)
        found = self._places.setdefault(after.tobytes(), len(self.each))
        if found == len(self.each):
            self.each.append(after.tolist())
        return found


def _series(series: Series, subjects: _Subjects, channels: list[Channel], times: _Times) -> dict[str, Any]:
    said: dict[str, Any] = {
        "sensor": series.sensor_id,
        "channel": channels.index(series.channel),
        "subject": subjects.place(series),
        "readings": series.readings,
        "unfit": series.unfit,
        "backwards": series.backwards,
    }
    if series.described.get("car") is not None and series.described.get("part"):
        said["part"] = clean(series.described["part"])
    if series.fit:
        quartiles = series.sample.quartiles()
        deviation = math.sqrt(series.squares / series.fit)
        outliers, more = series.spikes.beyond(max(deviation, quartiles[2] - quartiles[0]))
        said |= {
            "low": dict(zip(("value", "time"), series.low, strict=True)),
            "high": dict(zip(("value", "time"), series.high, strict=True)),
            "mean": series.mean,
            "deviation": deviation,
            "quartiles": quartiles,
            "quartiles_of_every": series.sample.every,
            "outliers": outliers,
            "more_outliers": more,
            "stretches": [_stretch(lap, each, times) for lap, each in series.stretches.items()],
        }
        if series.pause[0] > 0:
            said["pause"] = dict(zip(("seconds", "time"), series.pause, strict=True))
    return said


def _stretch(lap: int | None, stretch: Stretch, times: _Times) -> dict[str, Any]:
    at, values, *distances = stretch.points
    said: dict[str, Any] = {} if lap is None else {"lap": lap}
    said |= {"t": times.place(at), "v": values.tolist()}
    return said | ({"d": distances[0].round(1).tolist()} if distances else {})


def _mark_what_stands_out(series: list[dict[str, Any]]) -> None:
    """Mark the series whose mean is unlike that of the same part of the others."""
    peers: dict[tuple[int, str | None], list[dict[str, Any]]] = {}
    for each in series:
        if "mean" in each:
            peers.setdefault((each["channel"], each.get("part")), []).append(each)
    for those in peers.values():
        for each, stands_out in zip(those, stand_out([each["mean"] for each in those]), strict=True):
            each["stands_out"] = stands_out


def _laps(series: Iterable[Series], subjects: _Subjects, alerts: KeptAlerts, begin: float) -> Iterator[dict[str, Any]]:
    """Yield what is known of each lap of each car.

    A lap begins with the first reading of it, if there were readings of the lap before, and ends where the next begins.
    """
    by_car: dict[int, list[Series]] = {}
    for each in series:
        if any(lap is not None for lap in each.stretches):
            by_car.setdefault(subjects.place(each), []).append(each)
    for subject, its in sorted(by_car.items()):
        laps = sorted({lap for each in its for lap in each.stretches if lap is not None})
        begins = {lap: _begin(its, lap) for lap in laps}
        for lap in laps:
            stretches = [(each, each.stretches[lap]) for each in its if lap in each.stretches]
            start, end = begins[lap], begins.get(lap + 1)
            said: dict[str, Any] = {
                "subject": subject,
                "lap": lap,
                "first": round(min(stretch.first for _, stretch in stretches) - begin, 6),
                "last": round(max(stretch.last for _, stretch in stretches) - begin, 6),
                "readings": sum(stretch.readings for _, stretch in stretches),
                "alerts": sum(alerts.by_lap[each] for each in {(every.sensor_id, lap) for every in its}),
                "begin_heard": start is not None,
            }
            if start is not None and end is not None and end[0] > start[0]:
                said |= {"seconds": end[0] - start[0], "within": max(start[1], end[1])}
            for each, stretch in stretches:
                if each.has_distance(lap):
                    speeds, distances = stretch.points[1], stretch.points[2]
                    said |= {"distance": round(float(distances[-1]), 1), "top_speed": float(speeds.max())}
            yield said


def _begin(its: list[Series], lap: int) -> tuple[float, float] | None:
    """Return when a lap began, and how much earlier it may have been [s]; None where that was not heard."""
    heard = [each for each in its if lap in each.stretches and lap - 1 in each.stretches]
    if not heard:
        return None
    earliest = min(heard, key=lambda each: each.stretches[lap].first)
    first, before = earliest.stretches[lap].first, earliest.stretches[lap - 1].last
    return (first, first - before) if first >= before else None
