"""MCAP, by the package mcap: messages in JSON, one for each car (or CAN message, or other part) and moment.

What is of one car stands under one topic, and of one moment in one message: ``{"time": 82.0, "lap": 3, "SPEED": 311.0,
"TIRE_PRESSURE_RL": 1.5}``. A message for each reading would take five times as much room. A field has the channel's
name; with a car also the part's; and the sensor's number where it would not be the only one of its name. Characters
that are no letters, digits or ``_`` are replaced by ``_``, for Foxglove's paths have a meaning for them. JSON has
neither NaN nor infinity: these are the texts "nan", "inf" and "-inf".

A topic's schema has the fields, with their units. Where a field comes later, the topic gets one more channel, with a
schema of its own. A channel's metadata has the unit of each field; and under ``f1buf`` a JSON object with all that is
needed to read the file back.

MCAP counts its log times in whole nanoseconds from 0 on. A time that is none (before 0, after the year 2554, no number)
has the log time of the message before it. Each message also has its time [s] as it was read.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from mcap.writer import Writer
from numpy.typing import NDArray

from f1buf.telemetry.exports import About
from f1buf.telemetry.exports.series import NO_LAP, Batch, Series
from f1buf.telemetry.text import faithful_text
from f1buf.telemetry.thresholds import dumps

__all__ = ["KEY", "LAP", "TIME", "McapExport"]

Array = NDArray[Any]

KEY = "f1buf"
"""Of a channel's metadata, of the file's, and of its profile."""
TIME, LAP = "time", "lap"
"""The fields that are no reading."""

_END = 18_446_744_073.0  # [s]: later times do not fit into 64 bits of nanoseconds
_NONE = np.uint64(2**64 - 1)
_ODD = re.compile(r"\W")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

Who = tuple[int | None, str, str | None]  # session; driver and car; part where there is no car


class _Topic:
    """A topic: the fields of its messages so far, and the MCAP channel that has all of them."""

    def __init__(self, name: str, series: Series) -> None:
        self.name = name
        self.fields: dict[str, Series] = {}
        self.channel = 0  # 0: to be registered before the next message
        self._common = {name: getattr(series, name) for name in ("session", "car", "driver")}

    def field_for(self, series: Series) -> str:
        """Return the name of a new field."""
        name = "_".join(filter(None, (series.name or "value", series.part if series.car is not None else None)))
        field = name = _plain(name)
        count = 0
        while field in self.fields or field in (TIME, LAP, KEY):
            field = f"{name}_{series.sensor_id}" + (f"_{count}" if count else "")
            count += 1
        self.fields[field] = series
        self.channel = 0
        return field

    def schema(self) -> dict[str, Any]:
        """Return what JSON Schema says of its messages."""
        properties: dict[str, Any] = {TIME: {"type": "number", "description": "s"}, LAP: {"type": "integer"}}
        for field, series in self.fields.items():
            properties[field] = {"type": "number", "description": faithful_text(series.unit)}
        return {"type": "object", "title": self.name, "properties": properties}

    def metadata(self) -> dict[str, str]:
        """Return the units for anybody, and all that is known for f1buf."""
        units = {field: faithful_text(series.unit) for field, series in self.fields.items()}
        fields = {field: _field_said(series) for field, series in self.fields.items()}
        return {**units, KEY: json.dumps({**self._common, "fields": fields})}


def _field_said(series: Series) -> dict[str, Any]:
    limits = (-math.inf, math.inf) if series.channel is None else series.channel.range
    return {
        "sensor": series.sensor_id,
        "channel": series.name,
        "unit": series.unit,
        "range": [limit if math.isfinite(limit) else None for limit in limits],
        "part": series.part,
    }


def _plain(text: str) -> str:
    return _ODD.sub("_", faithful_text(text))


class _Rows(NamedTuple):
    """A batch's readings, as Python's numbers."""

    which: list[int]
    laps: list[int]
    times: list[float | str]
    log_times: list[int]
    values: list[float | str]


class McapExport:
    """Writes an .mcap."""

    def __init__(self, file: BinaryIO, about: About) -> None:
        self.rejected: Counter[str] = Counter()
        self._writer = Writer(file, enable_data_crcs=True)
        self._writer.start(profile=KEY)
        said = {"source": faithful_text(about.source), "thresholds": dumps(about.thresholds)}
        self._writer.add_metadata(KEY, said)
        self._topics: list[_Topic] = []
        self._numbers: dict[Who, int] = {}  # of the topics, by who they are of
        self._names: set[str] = set()
        self._places: list[tuple[int, str]] = []  # by the place of a series its topic's number, and its field
        self._latest = 0  # [ns]
        self._timeless = 0

    def write(self, batch: Batch) -> None:
        """Write readings."""
        for series in batch.series[len(self._places) :]:
            self._places.append(self._place_of(series))
        topics = np.array([number for number, _ in self._places], np.intp)[batch.which]
        times = batch.readings["timestamp"]
        rows = _Rows(
            batch.which.tolist(),
            batch.lap.tolist(),
            _as_json(times),
            _log_times(times).tolist(),
            _as_json(batch.readings["value"]),
        )
        for moment in _moments(batch, topics):
            self._write_moment(rows, self._topics[topics[moment[0]]], moment)

    def _place_of(self, series: Series) -> tuple[int, str]:
        """Return a new series' topic and field; both may be new."""
        who = series.session, series.who, None if series.car is not None else series.part
        number = self._numbers.setdefault(who, len(self._topics))
        if number == len(self._topics):
            self._topics.append(_Topic(self._new_name(who), series))
        return number, self._topics[number].field_for(series)

    def _new_name(self, who: Who) -> str:
        _session, car, part = who
        plain = "/" + (_plain(car or part or "") or "sensors")
        name, count = plain, 1
        while name in self._names:  # of another session, or of a name that differs in what was replaced
            count += 1
            name = f"{plain}_{count}"
        self._names.add(name)
        return name

    def _write_moment(self, rows: _Rows, topic: _Topic, places: list[int]) -> None:
        """Write the readings of one topic, one time and one lap: one message, unless a field comes twice."""
        first = places[0]
        common = {TIME: rows.times[first]}
        if rows.laps[first] != NO_LAP:
            common[LAP] = rows.laps[first]
        message = dict(common)
        for place in places:
            field = self._places[rows.which[place]][1]
            if field in message:
                self._write_message(topic, rows.log_times[first], message)
                message = dict(common)
            message[field] = rows.values[place]
        self._write_message(topic, rows.log_times[first], message)

    def _write_message(self, topic: _Topic, log_time: int, message: dict[str, Any]) -> None:
        if not topic.channel:
            topic.channel = self._new_channel(topic)
        if log_time == _NONE:
            self._timeless += 1
            log_time = self._latest
        self._latest = log_time
        self._writer.add_message(topic.channel, log_time, _encode(message).encode(), log_time)

    def _new_channel(self, topic: _Topic) -> int:
        schema = self._writer.register_schema(topic.name, "jsonschema", json.dumps(topic.schema()).encode())
        return self._writer.register_channel(topic.name, "json", schema, topic.metadata())

    def finish(self) -> list[str]:
        """Write what is left."""
        self._writer.finish()  # type: ignore[no-untyped-call]
        if not self._timeless:
            return []
        return [
            f"{self._timeless:,} times are none that MCAP can hold: these messages have the time before as log time"
        ]

    def close(self) -> None:
        """Nothing else is held."""


def _moments(batch: Batch, topics: Array) -> Iterator[list[int]]:
    """Yield the places of what is of one topic and follows each other there with one time and lap, by the first one."""
    order = np.argsort(topics, kind="stable")
    times = np.ascontiguousarray(batch.readings["timestamp"]).view(np.uint64)  # a NaN equals itself
    new = np.zeros(len(order), bool)
    new[:1] = True
    for column in (topics, times, batch.lap):
        in_order = column[order]
        new[1:] |= in_order[1:] != in_order[:-1]
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order))
    places = order.tolist()
    for number in np.argsort(order[starts], kind="stable").tolist():
        yield places[starts[number] : ends[number]]


def _log_times(times: Array) -> Array:
    """Return times [s] in nanoseconds; `_NONE` where that is none of MCAP's times."""
    sound = (times >= 0.0) & (times < _END)
    whole = np.floor(np.where(sound, times, 0.0))
    rest = np.rint((np.where(sound, times, 0.0) - whole) * 1e9)
    log_times = whole.astype(np.uint64) * np.uint64(10**9) + rest.astype(np.uint64)
    return np.where(sound, log_times, _NONE)


def _as_json(values: Array) -> list[float | str]:
    """Return numbers as JSON can say them."""
    said: list[float | str] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        said[place] = str(said[place])
    return said
