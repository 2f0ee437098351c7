"""Recorded telemetry as a source: at its own pace, faster, or as fast as it goes."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.schedule import replayed

if TYPE_CHECKING:  # it needs SQLite, which not every Python has
    from f1buf.telemetry.sources.game.recording import Recording

__all__ = ["Replay"]


class Replay:
    """
    A recording's datagrams, decoded in their order.

    Parameters
    ----------
    recording : Recording
        Open. Its owner closes it.
    decoder : Decoder
        What turns datagrams into readings, and counts those that it cannot use.
    speed : float or None
        How many times as fast as recorded; None for as fast as it goes.
    """

    def __init__(self, recording: "Recording", decoder: Decoder, speed: float | None = 1.0) -> None:
        self.name = f"replay of {recording.path.name}"
        self._recording = recording
        self._decoder = decoder
        self._speed = speed

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield readings as they become due."""
        return replayed(self._recording.datagrams(), self._decoder.decode, self._speed, stop)
