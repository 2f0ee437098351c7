"""The sharer: gives every reading to other processes, through shared memory."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import Abandoned, Full, RingBuffer, SharedRingBuffer, ShutDown
from f1buf.ring.reading import READING
from f1buf.telemetry.about import AboutWriter
from f1buf.telemetry.consumers import losses_and_waits, losses_and_waits_text
from f1buf.telemetry.errors import SharingError
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["Sharer", "SharingError"]

_INBOX = 65_536  # readings that may come while the sharer does not get to them
_BATCH = 4096  # readings shared at once
# [s] how long the sharer waits for somebody to attach: for room under "block", and at the end for what is left.
PATIENCE = {"block": 5.0, "drop_oldest": 1.0, "drop_newest": 1.0}
_LOOK = 0.1  # [s] how often it looks meanwhile
_LOOK_AT_END = 0.005


def _processes(ids: list[int]) -> str:
    return f"{'process' if len(ids) == 1 else 'processes'} {', '.join(map(str, ids))}"


class Sharer:
    """Puts all readings that come into its ring into a `f1buf.SharedRingBuffer`; another process takes them from there.

    It also tells that process the channels' names, and what is known of the sensors. The other process reads with
    `f1buf.telemetry.sources.shared.SharedSource`, or by the command ``f1buf attach``. Each reading goes to one process:
    where several are attached, to one of them.

    Parameters
    ----------
    name : str
        By which others attach.
    describe : callable, optional
        Returns what is known of a sensor, from its id and the reading's flags. Called by the sharer's thread, before
        the reading is shared. What JSON cannot say is told as text.
    capacity : int
        How many readings the shared ring holds, of 24 bytes.
    overflow : {"drop_oldest", "drop_newest", "block"}
        What happens when the shared ring is full. With a drop policy the sources never wait for other processes. With
        "block" they do, and nothing is lost: where nobody is attached for five seconds, or all that have taken readings
        were killed, or have left, the sharer fails.
    source : str
        Where the readings come from; told to others, for people.
    thresholds : iterable of Threshold
        What the readings are checked against here; told to others.

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    ring : RingBuffer
        Of READING: put readings here, and shut it down to end the sharing.
    shared : SharedRingBuffer
        Of READING: what others attach to. After the last reading it is shut down, and loses its name.
    trouble : str
        Under "block": who has taken nothing for five seconds, so that all wait for it; empty while all is well.

    Raises
    ------
    SharingError
        Another process shares by this name, there is not so much shared memory, or the system has none.

    Examples
    --------
    >>> import os
    >>> from f1buf.telemetry import F1TelemetrySystem, Sharer
    >>> from f1buf.telemetry.sources.shared import SharedSource
    >>> name = f"of-an-example-{os.getpid()}"
    >>> sharer = Sharer(name)
    >>> source = SharedSource(name)  # in this process or in another one
    >>> F1TelemetrySystem().run(rate=None, count=100, consumers=[sharer]).readings
    500
    >>> sum(len(readings) for readings in source.batches())
    500
    """

    name = "sharer"

    def __init__(
        self,
        name: str,
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        *,
        capacity: int = 65_536,
        overflow: str = "drop_oldest",
        source: str = "",
        thresholds: Iterable[Threshold] = (),
    ) -> None:
        self.ring = RingBuffer(_INBOX, READING)
        self._describe = describe
        self._told: set[int] = set()  # of which sensors with which flags
        self._readings = 0  # since it was emptied
        self.trouble = ""
        try:
            # In this order: whoever finds the second one finds the first one, too.
            self.shared = SharedRingBuffer(capacity, READING, name=name, overflow=overflow)  # type: ignore[arg-type]
            try:
                self._about = AboutWriter(name, source, thresholds)
                self.shared._will_put()
            except BaseException:
                self.shared.unlink()
                raise
        except (MemoryError, NotImplementedError, OSError) as error:
            raise SharingError(f"{name}: {getattr(error, 'strerror', None) or one_line(error)}") from error

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Share until the ring is shut down and drained; in a thread of its own.

        Where readings are left then, and nobody is attached, it gives others the time to attach: five seconds under
        "block", else one.

        Raises
        ------
        SharingError
            Under "block": nobody takes the readings.
        """
        try:
            self._share()
            self._wait_for_others()
        except BaseException as error:
            self._about.tell_failure(one_line(error))
            raise
        finally:
            self.shared.shutdown()
            self.shared.unlink()
            self._about.unlink()

    def _share(self) -> None:
        room = np.empty(_BATCH, READING)
        while True:
            try:
                readings = room[: self.ring.get_into(room)]
            except ShutDown:
                return
            self._about.tell_channels()
            if self._describe is not None:
                self._tell_sensors(readings, self._describe)
            self._put(readings)

    def _tell_sensors(self, readings: NDArray[Any], describe: Callable[[int, int], dict[str, Any]]) -> None:
        """Tell what is known of the sensors of these readings; again, once the shared ring has been filled anew."""
        keys = readings["sensor_id"].astype("u8") << np.uint64(16) | readings["flags"]
        new = [key for key in np.unique(keys).tolist() if key not in self._told]
        self._told.update(new)
        self._about.tell_sensors([(key >> 16, key & 0xFFFF, describe(key >> 16, key & 0xFFFF)) for key in new])
        self._readings += len(readings)
        if self._readings >= self.shared.capacity:
            self._told.clear()
            self._readings = 0

    def _put(self, readings: NDArray[Any]) -> None:
        """Under "block" wait for room, as long as somebody else is attached."""
        patience = PATIENCE[self.shared.overflow]
        alone_since = full_since = time.monotonic()
        while len(readings):
            try:
                readings = readings[self.shared.put_many(readings, timeout=_LOOK) :]
                full_since = time.monotonic()
                self.trouble = ""
            except Abandoned:
                if not self._others():
                    raise self._nobody_takes("everybody who took readings is gone") from None
                time.sleep(_LOOK)  # one that has just attached has taken nothing yet
            except ShutDown:
                raise SharingError(f"another process has shut the ring {self.shared.name!r} down") from None
            except Full:
                now = time.monotonic()
                if others := self._others():
                    alone_since = now
                    if now - full_since > patience:
                        self.trouble = f"{_processes(others)} took nothing of {self.shared.name!r} for {patience:g} s"
                elif now - alone_since > patience:
                    raise self._nobody_takes("nobody has attached") from None

    def _wait_for_others(self) -> None:
        """At the end, where readings are left: whoever is attached by then will take them."""
        until = time.monotonic() + PATIENCE[self.shared.overflow]
        while self.shared.qsize() and not self._others():
            if time.monotonic() > until:
                if self.shared.overflow == "block":
                    raise self._nobody_takes("nobody is attached")
                return
            time.sleep(_LOOK_AT_END)

    def _others(self) -> list[int]:
        """Who else has the shared ring open: process ids. This process may have it open again, to take from it."""
        others = self.shared.attached
        others.remove(os.getpid())
        return others

    def _nobody_takes(self, why: str) -> SharingError:
        return SharingError(
            f"{why}, and the shared ring {self.shared.name!r} holds {self.shared.qsize():,} readings; attach first, or "
            "let it drop readings"
        )

    # -- afterwards ---------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return what came of it, ready for JSON."""
        stats = self.shared.stats()
        return {
            "name": self.shared.name,
            "readings": stats.offered - stats.dropped,
            **losses_and_waits(stats),
        }

    def __str__(self) -> str:
        stats = self.shared.stats()
        return f"{stats.offered - stats.dropped:,} readings as {self.shared.name}; {losses_and_waits_text(stats)}"
