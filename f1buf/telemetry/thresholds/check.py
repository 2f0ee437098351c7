"""Checking one batch: `ThresholdTable.check` compares it with all thresholds, and `Crossings` is what it found.

How the work is divided
    `ThresholdTable.check` looks at one batch and keeps nothing, so any number of threads may call it on the batches of
    one stream at the same time. `Tracker.merge` takes the results one at a time, in stream order. It alone knows which
    sensors were over when the batch before ended, without which a rise cannot be told from a mere sample. So that this
    serial part is short, it touches only sensors that cross a threshold in the batch or were over before it. The result
    is the same however the stream was cut into batches.

    Damping is divided likewise. A reading that can keep a series over is *held*: beyond the limit, or not yet back by
    the hysteresis. Being over lasts no longer than a run of held readings, so what came before the batch matters only
    for a run that starts with the series' first reading in it. `check` settles all other runs. Of that one it tells
    where it starts and stops, and what it comes to if the series was not over before.

What check costs
    One compiled pass decides most batches: `scan` compares each reading with the lowest and highest limit of its
    channel. Only where something is beyond these is there more to do, for the series concerned alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from f1buf.ring.reading import READING
from f1buf.telemetry.channels import Channel, known_channels
from f1buf.telemetry.errors import ThresholdError
from f1buf.telemetry.thresholds.model import Threshold
from f1buf.telemetry.thresholds.scan import Scan
from f1buf.telemetry.thresholds.stretches import Ints

__all__ = ["Crossings", "DampedFound", "Found", "Rule", "Run", "ThresholdTable"]

Readings = NDArray[np.void]


class Rule(NamedTuple):
    """A threshold applied to one channel: there are several where several channels have its name."""

    number: int  # its index in the table's rules
    threshold_index: int  # in the table
    threshold: Threshold
    channel: int  # the channel's number
    damped: bool


class Found(NamedTuple):
    """What one batch says about one rule.

    Of the batch's series of the rule's channel, those that have a sample were looked at, and perhaps others.
    """

    looked_at: int  # how many readings
    samples: Ints  # positions in the batch of the readings that are over, series by series
    rises: Ints  # positions where a series went from not over to over within the batch
    opened: dict[int, int]  # sensor -> position of its first reading, where that is over: a rise if it was not before
    lasting: dict[int, float | None]  # the sensors whose last reading is over
    ended: set[int]  # the other sensors that were looked at


class Run(NamedTuple):
    """Held readings in a row, of one series in one batch: indices in the `positions` of a `DampedFound`."""

    start: int
    rise: int  # the first that counts, if nothing was over before; `stop` if none does
    stop: int
    last: bool  # whether it goes on to the series' last reading in the batch


class DampedFound(NamedTuple):
    """What one batch says about one damped rule; all series that have a held reading were looked at."""

    looked_at: int
    positions: Ints  # in the batch, of the readings looked at, series by series
    over: bool  # whether one is beyond the limit
    samples: Ints  # positions in the batch of readings that count, whatever was before
    rises: Ints  # and of the first of each stretch of them
    opened: dict[int, Run]  # sensor -> the run that its first reading is in
    lasting: dict[int, float | None]  # sensors over after the batch if none was before, as in `Tracker`
    ended: set[int]  # the other sensors that were looked at


@dataclass(slots=True, eq=False)  # not frozen: that alone would take a tenth of the time that a small batch does
class Crossings:
    """What `ThresholdTable.check` found in one batch, for `Tracker.merge`.

    True if any reading is beyond a limit, or not yet back from it by the hysteresis.

    It refers to the batch, which must stay as it is until it has been merged.
    """

    readings: Readings
    seen: Ints
    """For each of the table's rules, how many readings its channel has."""
    found: dict[int, Found | DampedFound]
    """By the number of the rule; only of rules that have samples, or held readings where they are damped."""

    def __bool__(self) -> bool:
        return bool(self.found)


class ThresholdTable:
    """Thresholds made ready to check batches.

    Parameters
    ----------
    thresholds : iterable of Threshold
        Any number for a channel.
    channels : iterable of Channel, optional
        Where to look for the thresholds' channels; all that this process knows by now, if it is not given. A channel
        that is created later is not checked.

    Attributes
    ----------
    thresholds : tuple of Threshold
        In the order in which they were given.
    rules : tuple of Rule
        Each threshold with each channel that it applies to.

    Raises
    ------
    ThresholdError
        A threshold names a channel that is not there.

    Notes
    -----
    Takes 1.5 MB: two limits for each of the 65,536 channel numbers, so that no reading needs a test of bounds.
    """

    def __init__(self, thresholds: Iterable[Threshold], channels: Iterable[Channel] | None = None) -> None:
        self.thresholds = tuple(thresholds)
        known = known_channels() if channels is None else tuple(channels)
        found = [
            (i, threshold, channel, bool(threshold.damping))
            for i, threshold in enumerate(self.thresholds)
            for channel in _numbers_of(threshold.channel, known, f"threshold[{i}].channel")
        ]
        self.rules = tuple(Rule(number, *each) for number, each in enumerate(found))
        self._scan = Scan(self.rules, (Found, DampedFound, Run))

    def check(self, readings: Readings) -> Crossings:
        """Compare a batch with all thresholds.

        Keeps no results, so threads may call it at the same time.

        Parameters
        ----------
        readings : ndarray of READING, shape (n,)
            A batch of a stream, in the stream's order. Not changed; the result refers to it.

        Returns
        -------
        Crossings
            For `Tracker.merge`.

        Raises
        ------
        TypeError
            It is no one-dimensional array of READING.
        """
        if not isinstance(readings, np.ndarray) or readings.ndim != 1 or readings.dtype != READING:
            got = f"{readings.shape} {readings.dtype}" if isinstance(readings, np.ndarray) else type(readings).__name__
            raise TypeError(f"expected a one-dimensional array of f1buf.READING, got {got}")
        return Crossings(readings, *self._scan.scan(readings))


def _numbers_of(name: str, channels: tuple[Channel, ...], key: str) -> list[int]:
    # Once each: the caller's list may hold equal channels.
    numbers = sorted({channel.number for channel in channels if channel.name == name})
    if not numbers:
        names = ", ".join(sorted({channel.name for channel in channels})) or "none"
        raise ThresholdError(f"{name!r}: no such channel; the known ones are {names}", key)
    return numbers
