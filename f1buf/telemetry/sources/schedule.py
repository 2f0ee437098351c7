"""When what was recorded is due: at its own pace, faster, or as fast as it goes."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources import RecordingError

__all__ = ["Schedule", "due_pieces", "replayed", "wait_until"]

_LONGEST_GAP = 60.0  # [s] of recorded time: a longer one is a pause, a new session or nonsense, and not waited for
_LONGEST_WAIT = 3600.0  # [s] at once: an Event cannot wait for all that a float can say
_BATCH = 4096  # readings put together where nothing paces them

Array = NDArray[Any]
Item = TypeVar("Item")


class Schedule:
    """Says when things that were recorded are due, at so many times the recorded speed; the first is due at once."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._due = time.monotonic()
        self._latest: float | None = None

    def due(self, timestamp: float) -> float:
        """Return when the next one, recorded at `timestamp` [s], is due, on the monotonic clock [s]."""
        if not math.isfinite(timestamp):
            return self._due
        step = 0.0 if self._latest is None else timestamp - self._latest
        if 0.0 < step <= _LONGEST_GAP:
            self._due += step / self._speed
        # Recorded order is not strictly that of time: a small step back is no new time to count from.
        if self._latest is None or step > 0.0 or step < -_LONGEST_GAP:
            self._latest = timestamp
        return self._due


def wait_until(due: float, stop: threading.Event) -> bool:
    """Wait until then, or for `stop`; return whether it is set."""
    while (left := due - time.monotonic()) > 0:
        if stop.wait(min(left, _LONGEST_WAIT)):
            return True
    return stop.is_set()


def due_pieces(timestamps: Array, schedule: Schedule, stop: threading.Event) -> Iterator[slice]:
    """Wait until things that were recorded at these times are due, and yield the places of those that are due together.

    It ends when `stop` is set.
    """
    changed = np.ones(len(timestamps), bool)
    changed[1:] = timestamps[1:] != timestamps[:-1]
    changes = np.flatnonzero(changed)
    begin = 0
    for start, timestamp in zip(changes.tolist(), timestamps[changes].tolist(), strict=True):
        due = schedule.due(timestamp)
        if due > time.monotonic():
            if start > begin:
                yield slice(begin, start)
                begin = start
            if wait_until(due, stop):
                return
    yield slice(begin, None)


def replayed(
    recorded: Iterator[tuple[float, Item]], decode: Callable[[Item], Array], speed: float | None, stop: threading.Event
) -> Iterator[Array]:
    """Decode a recording's items in their order, each when it is due.

    Parameters
    ----------
    recorded : iterator of (float, item)
        Timestamps [s], of which only the differences count, and what was recorded then. If it raises a
        RecordingError, what was decoded before is yielded first.
    decode : callable
        Returns the readings of an item, an array of READING; possibly none.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    stop : threading.Event
        Ends it at once.

    Yields
    ------
    numpy.ndarray of READING
        The readings of one item, or of many if `speed` is None; never empty.
    """
    return _together(recorded, decode, stop) if speed is None else _when_due(recorded, decode, speed, stop)


def _when_due(
    recorded: Iterator[tuple[float, Item]], decode: Callable[[Item], Array], speed: float, stop: threading.Event
) -> Iterator[Array]:
    schedule = Schedule(speed)
    for timestamp, item in recorded:
        if wait_until(schedule.due(timestamp), stop):
            return
        readings = decode(item)
        if len(readings):
            yield readings


def _together(
    recorded: Iterator[tuple[float, Item]], decode: Callable[[Item], Array], stop: threading.Event
) -> Iterator[Array]:
    held: list[Array] = []
    total = 0
    failure = None
    try:
        for _, item in recorded:
            if stop.is_set():
                break
            readings = decode(item)
            if not len(readings):
                continue
            held.append(readings)
            total += len(readings)
            if total >= _BATCH:
                yield np.concatenate(held)
                held, total = [], 0
    except RecordingError as error:
        failure = error
    if total:  # decoded before the stop or the damage: made, so not lost
        yield np.concatenate(held)
    if failure is not None:
        raise failure
