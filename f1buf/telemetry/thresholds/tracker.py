"""Following a stream: the `Tracker` puts the results of checked batches together, finds rises, and counts."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from f1buf.telemetry.channels import channel_by_number
from f1buf.telemetry.thresholds.check import Crossings, DampedFound, Readings, Rule, ThresholdTable
from f1buf.telemetry.thresholds.model import Floats
from f1buf.telemetry.thresholds.stretches import Ints, long_enough, ranges

__all__ = ["Event", "Tracker"]

MOST_OVER = 1 << 16
"""Series of one threshold that are remembered as over: forged sessions of a game have no end."""

_FEW = 8  # sensors: looking for up to this many one by one costs less than making a set of all that a batch holds
_NONE: Ints = np.zeros(0, np.intp)


class Event(NamedTuple):
    """A reading that counts as over a threshold."""

    position: int
    """In the stream, as `Tracker.merge` was told."""
    threshold: int
    """The threshold's index in the table."""
    reading: np.void
    """A copy of the record, of dtype READING."""
    kind: Literal["rise", "sample"]
    """``"rise"``: the first reading that counts since the series is over; ``"sample"``: one that follows. (Counts of
    samples include the rises.)"""


class Tracker:
    """Puts the results of `ThresholdTable.check` together: finds rises, and counts.

    Used by one thread at a time. The events and counts do not depend on how the stream was cut into batches, unless
    more than 65,536 series of one channel are over at once: then those that the latest batch does not tell of are
    forgotten, so that endless new ones cannot fill the memory, and one that goes on may rise once more.

    Parameters
    ----------
    table : ThresholdTable
        The table whose results will come.
    samples : bool
        Whether to make events of all readings that are over, not of rises alone.
    """

    def __init__(self, table: ThresholdTable, *, samples: bool = False) -> None:
        self._table = table
        self._want_samples = samples
        # By rule the sensors that are over; where it is damped, with the lowest timestamp of the stretch, or None once
        # that counts.
        self._over: list[dict[int, float | None]] = [{} for _ in table.rules]
        self._open: set[int] = set()  # the rules where one of them is not empty
        self._seen = np.zeros(len(table.rules), np.int64)
        self._samples = [0] * len(table.rules)
        self._rises = [0] * len(table.rules)

    @property
    def over(self) -> int:
        """How many series are remembered as over; one series counts for each threshold that it is over."""
        return sum(map(len, self._over))

    def merge(self, crossings: Crossings, first_position: int) -> list[Event]:
        """Take the result for the next batch of the stream.

        Parameters
        ----------
        crossings : Crossings
            From the table's `check`; the batch in it must be as it was then.
        first_position : int
            The position in the stream of the batch's first reading.

        Returns
        -------
        list of Event
            By position, then by threshold; one at most for each reading and threshold.
        """
        self._seen += crossings.seen
        if not (self._open or crossings.found):
            return []
        found: list[tuple[int, int, Literal["rise", "sample"]]] = []
        for number in self._open.union(crossings.found):
            samples, rises = self._advance(number, crossings)
            index = self._table.rules[number].threshold_index
            if self._want_samples:
                rest = set(samples.tolist()).difference(rises)
                found += [(position, index, "sample") for position in rest]
            found += [(position, index, "rise") for position in rises]
        found.sort()
        records = crossings.readings[[position for position, _, _ in found]] if found else ()
        return [
            Event(first_position + position, threshold, record, kind)
            for (position, threshold, kind), record in zip(found, records, strict=True)
        ]

    def _advance(self, number: int, crossings: Crossings) -> tuple[Ints, list[int]]:
        """Bring one rule's state past the batch; return the positions of its samples there, and of its rises."""
        over, found = self._over[number], crossings.found.get(number)
        rises: list[int]
        samples, rises = _NONE, []
        if found is not None:
            if isinstance(found, DampedFound):
                samples, rises, lasting = self._go_on(number, found, crossings.readings["timestamp"])
            else:
                samples, lasting = found.samples, found.lasting
                rises = found.rises.tolist()
                rises += [position for sensor, position in found.opened.items() if sensor not in over]
            for sensor in over.keys() & found.ended:
                if sensor not in lasting:
                    del over[sensor]
            if len(over) > MOST_OVER:
                over.clear()
            over.update(lasting)
            self._samples[number] += len(samples)
            self._rises[number] += len(rises)
        if over and (0 if found is None else found.looked_at) < crossings.seen[number]:
            # A sensor that was over and not looked at: if it has readings here, none of them is over, or held.
            unsettled = set(over) if found is None else set(over).difference(found.ended, found.lasting)
            for sensor in _present(crossings.readings, self._table.rules[number].channel, unsettled):
                del over[sensor]
        (self._open.add if over else self._open.discard)(number)
        return samples, rises

    def _go_on(
        self, number: int, found: DampedFound, timestamps: Floats
    ) -> tuple[Ints, list[int], dict[int, float | None]]:
        """Return positions of the samples and of the rises of a damped rule, and its sensors that are over then."""
        over, lasting = self._over[number], dict(found.lasting)
        if not (over or found.over):
            return _NONE, [], lasting
        waited = self._waited(number, found, timestamps)
        starts, stops, rises = [], [], []
        for sensor, run in found.opened.items():
            start = run.rise
            if sensor in over:
                start, lowest = waited.get(sensor, (run.start, None))
                if run.last:
                    lasting[sensor] = lowest
            if start < run.stop:
                starts.append(start)
                stops.append(run.stop)
                if over.get(sensor, math.nan) is not None:
                    rises.append(start)
        counted = found.positions[ranges(np.array(starts, np.intp), np.array(stops, np.intp))]
        all_rises = found.rises.tolist() + found.positions[rises].tolist()
        return np.concatenate([found.samples, counted]), all_rises, lasting

    def _waited(self, number: int, found: DampedFound, timestamps: Floats) -> dict[int, tuple[int, float | None]]:
        """Return of each sensor that is over and does not count yet where its run counts from, and its new state."""
        over = self._over[number]
        waiting = [sensor for sensor in found.opened if over.get(sensor) is not None]
        if not waiting:
            return {}
        runs = [found.opened[sensor] for sensor in waiting]
        starts, stops = np.array([run.start for run in runs]), np.array([run.stop for run in runs])
        times = timestamps[found.positions[ranges(starts, stops)]]
        earlier = np.array([over[sensor] for sensor in waiting])
        after, lowest = long_enough(self._table.rules[number].threshold.min_duration, times, stops - starts, earlier)
        return {
            sensor: (start, None if start < run.stop else low)
            for sensor, run, start, low in zip(waiting, runs, (starts + after).tolist(), lowest.tolist(), strict=True)
        }

    def state(self) -> list[dict[str, Any]]:
        """Return which series are over, ready for JSON; a tracker that restores it goes on as this one would."""
        return [
            {"threshold": rule.threshold_index, "channel": _name(rule), "over": [*self._over[rule.number].items()]}
            for rule in self._table.rules
            if self._over[rule.number]
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Forget which series are over, and go on where another tracker of the same thresholds was.

        Parameters
        ----------
        state : list of dict
            As its `state` returned it.
        """
        self._over = [{} for _ in self._table.rules]
        for rule in self._table.rules:
            for kept in state:
                if (kept["threshold"], kept["channel"]) == (rule.threshold_index, _name(rule)):
                    self._over[rule.number] |= {int(sensor): lowest for sensor, lowest in kept["over"]}
        self._open = {rule.number for rule in self._table.rules if self._over[rule.number]}

    def counts(self) -> list[dict[str, Any]]:
        """Return for each threshold what it is and what came of it, ready for JSON.

        Returns
        -------
        list of dict
            ``channel``, ``above`` or ``below``, ``absolute`` where it is true, ``hysteresis`` and ``min_duration``
            where they are not 0, ``message``, and the counts ``readings`` (of the threshold's channel), ``samples`` and
            ``rises``.
        """
        nothing = {"readings": 0, "samples": 0, "rises": 0}
        counts: list[dict[str, Any]] = [
            {"channel": each.channel, **each.as_dict(), "message": each.message, **nothing}
            for each in self._table.thresholds
        ]
        for rule in self._table.rules:
            entry = counts[rule.threshold_index]
            entry["readings"] += int(self._seen[rule.number])
            entry["samples"] += self._samples[rule.number]
            entry["rises"] += self._rises[rule.number]
        return counts


def _name(rule: Rule) -> str:
    """How a rule's channel is called in any process; channels may share their name and unit."""
    channel = channel_by_number(rule.channel)
    return f"{channel} {channel.range}"


def _present(readings: Readings, channel: int, sensors: set[int]) -> set[int]:
    """Return those of `sensors` that have a reading of `channel` in the batch."""
    if not sensors:
        return sensors
    ids = readings["sensor_id"]
    if len(sensors) <= _FEW:
        found = {sensor for sensor in sensors if np.count_nonzero(ids == sensor)}
    else:
        found = sensors.intersection(ids.tolist())
    if not found:  # nearly always: most sensors that are over have a reading that is over, or none
        return found
    return found.intersection(ids[readings["channel"] == channel].tolist())
