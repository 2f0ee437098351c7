"""Recorded telemetry as a source: at its own pace, faster, or as fast as it goes."""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.f1game import Decoder
from f1buf.telemetry.sources.recording import Recording, RecordingError

__all__ = ["Pace", "Replay", "wait_until"]

_LONGEST_GAP = 60.0  # [s] of recorded time: a longer one is a pause, a new session or nonsense, and not waited for
_LONGEST_WAIT = 3600.0  # [s] at once: an Event cannot wait for all that a float can say
_BATCH = 4096  # readings put together where nothing paces them


class Pace:
    """
    When each of the things that were recorded is due; from its making on.

    Parameters
    ----------
    speed : float
        How many times as fast as recorded.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._due = time.monotonic()
        self._latest: float | None = None

    def due(self, timestamp: float) -> float:
        """When, on the monotonic clock [s], the next one is due that was recorded at `timestamp` [s]."""
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
    """Wait until then, or for `stop`: true."""
    while (left := due - time.monotonic()) > 0:
        if stop.wait(min(left, _LONGEST_WAIT)):
            return True
    return stop.is_set()


class Replay:
    """
    A recording's datagrams, decoded in their order.

    Parameters
    ----------
    recording : Recording
        Open; to be closed by whoever opened it.
    decoder : Decoder
        What turns datagrams into readings, and counts those that it cannot use.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    """

    def __init__(self, recording: Recording, decoder: Decoder, speed: float | None = 1.0) -> None:
        self.name = f"replay of {recording.path.name}"
        self._recording = recording
        self._decoder = decoder
        self._speed = speed

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield readings as they become due."""
        return self._together(stop) if self._speed is None else self._paced(stop, self._speed)

    def _paced(self, stop: threading.Event, speed: float) -> Iterator[NDArray[Any]]:
        pace = Pace(speed)
        for timestamp, datagram in self._recording.datagrams():
            if wait_until(pace.due(timestamp), stop):
                return
            readings = self._decoder.decode(datagram)
            if len(readings):
                yield readings

    def _together(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        held: list[NDArray[Any]] = []
        total = 0
        failure = None
        try:
            for _, datagram in self._recording.datagrams():
                if stop.is_set():
                    break
                readings = self._decoder.decode(datagram)
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
