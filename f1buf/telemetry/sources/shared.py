"""Readings that another process shares: out of a shared ring of a `f1buf.telemetry.Sharer`, or of one's own."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from f1buf import Abandoned, Empty, SharedRingBuffer, ShutDown
from f1buf.ring.reading import READING
from f1buf.telemetry.about import AboutReader, about_name
from f1buf.telemetry.described import DescribedSensors, DescribingSource
from f1buf.telemetry.errors import SharingError
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold

__all__ = ["SharedSource", "SharingError"]

_BATCH = 4096  # readings taken at once
_LOOK = 0.1  # [s] how often the source looks whether it is to stop
_POLL = 0.01  # [s] how often it looks for a process that shares


class SharedSource(DescribingSource):
    """Takes readings that another process shares, each once; `batches` may be called once.

    Parameters
    ----------
    ring : str or SharedRingBuffer
        The name by which another process shares them (`f1buf.telemetry.Sharer`, ``f1buf run --share NAME``). Or a ring
        of READING that a program of one's own fills, with this process' channel numbers; who has it open closes it.
    timeout : float, optional
        How long to wait for a process that shares by this name [s]; without it there must be one now.

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    missed : int
        How many of the readings that came since this was made went past: dropped by the shared ring, which was full,
        or taken by another process.

    Raises
    ------
    SharingError
        Nobody shares readings by this name, or it is another user's, or not readings.
    """

    def __init__(self, ring: str | SharedRingBuffer, timeout: float | None = None) -> None:
        self._about: AboutReader | None = None
        self.missed = 0
        self._following: int | None = None  # the number of the reading that is to come
        self._gaps = 0
        if isinstance(ring, SharedRingBuffer):
            self._ring = ring
        else:
            self._ring, self._about = _attached(ring, timeout)
        super().__init__(DescribedSensors() if self._about is None else self._about.sensors)
        if self._ring.dtype != READING:
            raise SharingError(f"{self._ring.name}: is a ring of {self._ring.dtype!s}; expected f1buf.READING")
        self.name = f"attached to {self._ring.name}"
        stats = self._ring.stats()
        # The numbers of the oldest reading that is there, and of the next one that comes.
        self._oldest, self._next = stats.taken + stats.dropped + stats.discarded, stats.offered
        self._dropped_before = stats.dropped

    @property
    def source(self) -> str:
        """Where the readings come from; for people."""
        return "" if self._about is None else self._about.source

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """What the other process checks them against."""
        return () if self._about is None else self._about.thresholds

    def batches(self, stop: threading.Event | None = None) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they come, until the sharing ends or `stop` is set.

        Their channels are numbered as in this process.

        Raises
        ------
        SharingError
            The process that shared them was killed, or its sharer failed.
        """
        try:
            while stop is None or not stop.is_set():
                try:
                    first, readings = self._ring.get_many(_BATCH, timeout=_LOOK, return_seq=True)
                except Empty:
                    continue
                self._count_missed(first, len(readings))
                if self._about is not None:
                    self._about.look()
                    if self._about.differs:
                        readings["channel"] = self._about.numbers[readings["channel"]]
                yield readings
        except Abandoned:
            raise SharingError(f"the process that shared {self._ring.name!r} was killed, or has left") from None
        except ShutDown:
            self._check_end()
        finally:
            if self._about is not None:
                self._ring.close()
                self._about.close()

    def _count_missed(self, first: int, count: int) -> None:
        """Dropped readings leave a gap in the numbers; those that a full ring refuses have none."""
        if self._following is not None:
            self._gaps += first - self._following
        elif self._ring.overflow == "drop_oldest":
            self._gaps = max(0, first - self._next)
            self._dropped_before += max(0, min(first, self._next) - self._oldest)  # they were there before
        self._following = first + count
        dropped = self._ring.stats().dropped - self._dropped_before
        # Under "drop_newest" the gaps are what others took. Else they are dropped, too; and where a put could not drop
        # the oldest ones at once, and dropped what it brought, there are fewer of them.
        self.missed = self._gaps + dropped if self._ring.overflow == "drop_newest" else max(self._gaps, dropped)

    def _check_end(self) -> None:
        if self._following is not None:
            self._count_missed(self._following, 0)
        if self._about is not None:
            self._about.look()
            if self._about.failed is not None:
                raise SharingError(f"the other process failed to share: {self._about.failed}")


def _attached(name: str, timeout: float | None) -> tuple[SharedRingBuffer, AboutReader]:
    """Return the ring of the readings, and what is told of them."""
    until = time.monotonic() + (timeout or 0.0)
    waited = f" (waited {timeout:g} s)" if timeout else ""
    try:
        while True:
            # The other process takes this one for a reader once it has both rings open: so this one comes first.
            ring = SharedRingBuffer.attach(about_name(name), timeout=timeout and max(0.0, until - time.monotonic()))
            about, is_alive = AboutReader(ring), len(ring.attached) > 1
            if is_alive and about.begun:
                return SharedRingBuffer.attach(name), about
            about.close()
            if time.monotonic() >= until:
                break
            time.sleep(_POLL)
    except FileNotFoundError:
        is_alive = True
    except (NotImplementedError, OSError, ValueError) as error:
        raise SharingError(f"{name}: {getattr(error, 'strerror', None) or one_line(error)}") from error
    if not is_alive:
        raise SharingError(f"the process that shared readings as {name!r} was killed{waited}; start it again")
    raise SharingError(
        f"nobody shares readings as {name!r}{waited}; start that process first (f1buf run --share {name}), or wait "
        "longer for it (--timeout)"
    )
