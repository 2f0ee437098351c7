"""Thresholds: what counts as too much or too little, and finding it in a stream of readings.

Words
    A reading is *over* a threshold if it is beyond the limit: greater than ``above``, or less than ``below``. NaN is
    never over. A *series* is the readings of one sensor on one channel. Each reading that is over is a *sample*; a
    *rise* is a sample whose series was not over before, so also a series' first reading.

Damping
    A threshold with a hysteresis or a minimum duration is *damped*, and being over is then a state of the series. It
    begins with a reading beyond the limit. It ends with the first reading that is back by the hysteresis or more, or is
    NaN. The readings in between are a *stretch*. With a minimum duration, a stretch counts from the first reading whose
    timestamp exceeds the lowest one of the stretch so far by that much: that reading is the rise, and it and all later
    ones of the stretch are samples. The lowest timestamp is the first reading's, unless time went back meanwhile (a new
    session, a flashback). Time is the readings' own, compared without a tolerance; a timestamp that is NaN is ignored.

Parts
    `model` is one threshold; `files` are the profiles and the TOML files; `check` compares one batch, by any number of
    threads at the same time; `tracker` follows the stream from batch to batch; `stretches` has the array arithmetic of
    both.
"""

from f1buf.telemetry.errors import ThresholdError
from f1buf.telemetry.thresholds.check import Crossings, ThresholdTable
from f1buf.telemetry.thresholds.files import PROFILES, dumps, load_thresholds, loads
from f1buf.telemetry.thresholds.model import Threshold
from f1buf.telemetry.thresholds.tracker import Event, Tracker

__all__ = [
    "PROFILES",
    "Crossings",
    "Event",
    "Threshold",
    "ThresholdError",
    "ThresholdTable",
    "Tracker",
    "dumps",
    "load_thresholds",
    "loads",
]
