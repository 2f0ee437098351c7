"""Live CAN buses, by python-can."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from f1buf.telemetry.sources.can.decoder import CanDecoder
from f1buf.telemetry.sources.can.frames import Frames

if TYPE_CHECKING:
    import can

__all__ = ["CanBus"]

Array = NDArray[Any]

_LISTEN = 0.05  # [s] at once: how often it looks whether to stop
AT_ONCE = 256  # frames put together at most: so it looks for the stop under load, too
AT_THE_STOP = 100_000  # frames taken after the stop at most: all that a bus holds; tests make it smaller


class CanBus:
    """
    A live bus as a source.

    At the stop it takes what the bus has received, and ends. An error of the bus, as when the adapter is pulled out,
    ends it, too; the readings before that are not lost.

    Parameters
    ----------
    bus : can.BusABC
        Open. Its owner shuts it down, after this source has ended.
    decoder : CanDecoder
        What turns frames into readings, and counts those that it cannot use.
    """

    def __init__(self, bus: "can.BusABC", decoder: CanDecoder) -> None:
        known = bus.channel_info not in ("", "unknown")
        self.name = f"CAN bus ({bus.channel_info if known else type(bus).__name__})"
        self._bus = bus
        self._decoder = decoder

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they come in; their timestamps are the bus's, Unix time [s] for most adapters."""
        left = AT_THE_STOP
        try:
            while left > 0:
                stopping = stop.is_set()  # before looking: what came before the stop is seen
                messages, failure = self._received(0.0 if stopping else _LISTEN)
                frames = Frames.of_messages(messages, self._decoder.rejected)
                if len(readings := self._decoder.decode(frames)):
                    yield readings
                if failure is not None:
                    raise failure
                if stopping:
                    left = left - len(messages) if messages else 0
        finally:
            self._decoder.finish()

    def _received(self, timeout: float) -> "tuple[list[can.Message], Exception | None]":
        """Wait for a frame; return it, the frames that are there behind it, and the error that the bus then raised."""
        messages: list[can.Message] = []
        try:
            while len(messages) < AT_ONCE and (message := self._bus.recv(timeout)) is not None:
                messages.append(message)
                timeout = 0.0
        except Exception as error:
            return messages, error
        return messages, None
