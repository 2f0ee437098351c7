"""Pieces of several streams, each in its own order, as one stream by time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream", "merged"]

Array = NDArray[Any]
Pieces = TypeVar("Pieces", bound=Any)  # what can be indexed as an array can
Piece = TypeVar("Piece", covariant=True)


class Stream(Protocol[Piece]):
    """A stream that is read piece by piece."""

    left: int
    """How much of it has not been returned."""

    def next(self) -> Piece:
        """Return the next piece; an empty one at the end."""


def merged(
    streams: Sequence[Stream[Pieces]], joined: Callable[[list[Pieces]], Pieces], times_of: Callable[[Pieces], Array]
) -> Iterator[Pieces]:
    """Yield what is in all streams by time, that of the first stream first where times are equal.

    What has an earlier time than what is before it in its stream comes right behind that. `joined` makes one piece of
    several, and an empty one of none; `times_of` returns its times [s].
    """
    nothing = joined([])
    held = [nothing] * len(streams)
    times = [np.empty(0)] * len(streams)  # that of each thing held, or of one before it that is later
    known = -np.inf
    while True:
        for i, stream in enumerate(streams):
            if stream.left and (not len(times[i]) or times[i][-1] <= known):
                held[i] = joined([held[i], stream.next()])
                times[i] = np.maximum.accumulate(times_of(held[i]))
                times[i] = np.maximum(times[i], known)
        known = min((time[-1] for time, stream in zip(times, streams, strict=True) if stream.left), default=np.inf)
        # What is earlier comes before all that is still to be read.
        counts = [int(np.searchsorted(time, known)) for time in times]
        order = np.argsort(np.concatenate([time[:n] for time, n in zip(times, counts, strict=True)]), kind="stable")
        yield joined([piece[:n] for piece, n in zip(held, counts, strict=True)])[order]
        held = [piece[n:] for piece, n in zip(held, counts, strict=True)]
        times = [time[n:] for time, n in zip(times, counts, strict=True)]
        if known == np.inf:
            return
