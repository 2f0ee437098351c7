"""ASAM's measurement files, MDF 4.10, by asammdf: each series is a channel, with times of its own.

One common time base for all would invent values in between. A channel's name has the driver, the car, the part, the
channel, and the sensor's number where it would not be the only one of its name. What asammdf takes for parts of a name
(``.``, ``\\``, ``[``) is replaced by ``_``. A channel's comment says what else is known, with its thresholds. The laps
of each car are one more channel, with a sample where a lap begins.

Times count from the file's start: the whole second of the first reading where that is Unix time, else 1970, for then
nobody knows when it was. The start and a sample's time together are the reading's time: exactly, unless that is years
before the first one.

asammdf keeps the samples of each channel in a temporary file, 16 bytes a reading, and copies it piece by piece when the
file is saved: memory is bounded, whatever comes.
"""

import datetime
import math
from collections import Counter
from typing import Any, BinaryIO

import numpy as np
from asammdf import MDF, Signal, Source
from numpy.typing import NDArray

from f1buf.telemetry.exports import About
from f1buf.telemetry.exports.series import NO_LAP, Batch, Series, places_by
from f1buf.telemetry.sources.can.libraries import keep_asammdf_quiet
from f1buf.telemetry.text import clean, faithful_text
from f1buf.telemetry.thresholds import Threshold

__all__ = ["MdfExport"]

Array = NDArray[Any]

_NO_TIME = "time that is no number"
_UNIX_TIMES = 1e9, 1.8e10  # [s] what is taken for one: from 2001 to the end of 64 bits of nanoseconds
_TRANSPOSED_DEFLATE = 2
_NO_CAR = -1
_BLOCK = 1 << 18  # bytes of a channel that are compressed together: a reader holds one of each channel
_REPLACED = str.maketrans(dict.fromkeys(".\\[", "_"))

Car = tuple[int | None, str]  # session, driver and car


class MdfExport:
    """Writes an .mf4."""

    def __init__(self, file: BinaryIO, about: About) -> None:
        self.rejected: Counter[str] = Counter()
        self._file = file
        self._about = about
        keep_asammdf_quiet()
        self._mdf: Any = MDF(version="4.10", temporary_folder=str(about.folder))
        self._mdf.configure(write_fragment_size=_BLOCK)
        self._start: float | None = None
        self._groups: dict[int, int] = {}  # by the place of a series the number of its channel group
        self._latest: dict[int, float] = {}  # by the same the time of its last sample
        self._names: set[str] = set()
        self._renamed = self._back = 0
        self._cars: dict[Car, int] = {}
        self._laps: dict[int, list[tuple[float, int]]] = {}  # by the car's number the times of changes

    def write(self, batch: Batch) -> None:
        """Write readings."""
        sound = np.isfinite(batch.readings["timestamp"])
        if not sound.all():
            self.rejected[_NO_TIME] += int((~sound).sum())
            batch = Batch(batch.readings.compress(sound), batch.series, batch.which[sound], batch.lap[sound])
        if not len(batch.readings):
            return
        if self._start is None:
            self._start = _start_of(float(batch.readings["timestamp"][0]))
        for place, where in places_by(batch.which):
            series, readings = batch.series[place], batch.readings.take(where)
            times = readings["timestamp"] - self._start
            self._count_steps_back(place, times)
            self._append(place, series, times, np.ascontiguousarray(readings["value"]))
        cars = np.array([self._place_of_car(series) for series in batch.series])[batch.which]
        for place, where in places_by(cars):
            if place != _NO_CAR:
                self._take_laps(place, batch.readings["timestamp"][where] - self._start, batch.lap[where])

    def _count_steps_back(self, place: int, times: Array) -> None:
        before = self._latest.get(place, -math.inf)
        self._back += int(np.count_nonzero(np.diff(times, prepend=before) < 0))
        self._latest[place] = float(times[-1])

    def _append(self, place: int, series: Series, times: Array, values: Array) -> None:
        if place in self._groups:
            self._mdf.extend(self._groups[place], [(times, None), (values, None)])
            return
        name = self._name_of(series)
        self._groups[place] = self._new_group(name, series.unit, times, values, self._comment(series), series)

    def _new_group(self, name: str, unit: str, times: Array, values: Array, comment: str, series: Series) -> int:
        origin = series.who or series.part or f"sensor {series.sensor_id}"
        source = Source(_fit(origin), _fit(self._about.source), "", Source.SOURCE_OTHER, Source.BUS_TYPE_NONE)
        signal = Signal(values, times, unit=_fit(unit), name=name, comment=comment, source=source)
        number: int = self._mdf.append([signal], acq_name=_fit(origin))
        return number

    def _place_of_car(self, series: Series) -> int:
        return _NO_CAR if series.car is None else self._cars.setdefault((series.session, series.who), len(self._cars))

    def _take_laps(self, car: int, times: Array, laps: Array) -> None:
        known = self._laps.setdefault(car, [])
        changed = np.flatnonzero(np.diff(laps, prepend=known[-1][1] if known else NO_LAP))
        known += zip(times[changed].tolist(), laps[changed].tolist(), strict=True)

    def _name_of(self, series: Series) -> str:
        said = "/".join(filter(None, (series.who, series.part, series.name or "no channel")))
        name = _plain(said)
        self._renamed += name != said
        return self._unique(name, f"sensor {series.sensor_id}")

    def _unique(self, name: str, otherwise: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            unique = f"{name}/{otherwise}" if count == 1 else f"{name}/{otherwise} {count}"
            count += 1
        self._names.add(unique)
        return unique

    def _comment(self, series: Series) -> str:
        known = {
            "channel": series.name,
            "car": series.car,
            "driver": series.driver,
            "part": series.part,
            "session": series.session,
            "sensor": series.sensor_id,
        }
        lines = [f"{name}: {value}" for name, value in known.items() if value not in (None, "")]
        lines += [_said(each, series.unit) for each in self._about.thresholds if each.channel == series.name]
        return "\n".join(map(_fit, lines))

    def finish(self) -> list[str]:
        """Write what is left."""
        for (session, who), place in self._cars.items():
            self._append_laps(session, who, self._laps.get(place, []))
        self._mdf.header.start_time = datetime.datetime.fromtimestamp(self._start or 0.0, datetime.UTC)
        self._mdf.header.comment = _fit(f"f1buf: {self._about.source}")
        # asammdf wants a file whose name is a text; one without a name has a number.
        with open(f"/proc/self/fd/{self._file.fileno()}", "w+b") as file:
            self._mdf.save(file, compression=_TRANSPOSED_DEFLATE)
        return self._notes()

    def _append_laps(self, session: int | None, who: str, laps: list[tuple[float, int]]) -> None:
        laps = [lap for lap in laps if lap[1] != NO_LAP]
        if laps:
            times, numbers = np.array(laps).T
            name = self._unique(_plain(f"{who}/LAP"), f"session {session}")
            nobody = Series(0, None, session, None, None, who)
            self._new_group(name, "", np.ascontiguousarray(times), np.ascontiguousarray(numbers), "lap", nobody)

    def _notes(self) -> list[str]:
        notes = []
        if self._back:
            notes.append(
                f"times go back {self._back:,} times in a channel, as they were read; MDF expects that they grow"
            )
        if self._renamed:
            notes.append(f"{self._renamed:,} names hold what a channel's name cannot: '_' instead, the comment has it")
        return notes

    def close(self) -> None:
        """Remove the temporary file."""
        self._mdf.close()


def _start_of(first: float) -> float:
    """Return what times count from [s]."""
    low, high = _UNIX_TIMES
    return float(math.floor(first)) if low <= first < high else 0.0


def _plain(text: str) -> str:
    """Return a text that can be a channel's name."""
    return clean(faithful_text(text)).translate(_REPLACED)


def _fit(text: str) -> str:
    """Return a text that MDF can hold."""
    return "\n".join(map(clean, faithful_text(text).split("\n")))


def _said(threshold: Threshold, unit: str) -> str:
    """Return a threshold for people."""
    value, sign = "|value|" if threshold.absolute else "value", ">" if threshold.above is not None else "<"
    limit = f"{value} {sign} {threshold.limit:g} {unit}".rstrip()
    damping = "".join(f", {name} {value:g}" for name, value in threshold.damping.items())
    return f"threshold: {limit}{damping}: {threshold.message}"
