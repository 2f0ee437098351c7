"""Recorded telemetry as a source: at its own pace, faster, or as fast as it goes."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.sources.f1game import Decoder
from f1buf.telemetry.sources.recording import Recording

__all__ = ["Replay"]

_BATCH = 4096  # readings put together where nothing paces them


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
        began = first = None
        for timestamp, datagram in self._recording.datagrams():
            if began is None or first is None:
                began, first = time.monotonic(), timestamp
            # Recorded order is not strictly that of time: what is late already does not wait.
            if stop.wait(max(0.0, began + (timestamp - first) / speed - time.monotonic())):
                return
            readings = self._decoder.decode(datagram)
            if len(readings):
                yield readings

    def _together(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        held: list[NDArray[Any]] = []
        total = 0
        for _, datagram in self._recording.datagrams():
            if stop.is_set():
                break
            readings = self._decoder.decode(datagram)
            held.append(readings)
            total += len(readings)
            if total >= _BATCH:
                yield np.concatenate(held)
                held, total = [], 0
        if total:  # decoded before the stop: made, so not lost
            yield np.concatenate(held)
