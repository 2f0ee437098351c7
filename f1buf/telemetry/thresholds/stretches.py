"""Stretches of readings as numpy sees them: many at once, each by where it starts and where it stops."""

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.thresholds.model import Bools, Floats

__all__ = ["long_enough", "ranges"]

Ints = NDArray[np.intp]


def _first_from(starts: Ints, flags: Bools) -> Ints:
    """Return the index of the first true flag from each start on; their number where there is none."""
    indices = np.append(flags.nonzero()[0], len(flags))
    first: Ints = indices[indices.searchsorted(starts)]
    return first


def ranges(starts: Ints, stops: Ints) -> Ints:
    """Return all the numbers of several ranges, one range after the other."""
    lengths = stops - starts
    ends = lengths.cumsum()
    numbers: Ints = np.arange(lengths.sum()) + np.repeat(stops - ends, lengths)
    return numbers


def long_enough(duration: float, times: Floats, lengths: Ints, earlier: Floats | float) -> tuple[Ints, Floats]:
    """Find out when stretches have lasted `duration`.

    `times` has the timestamps of all stretches, one stretch after the other, and `lengths` how many each has. `earlier`
    is the lowest timestamp of each in batches before; NaN where there is none. Returns for each how many readings come
    before the stretch has lasted so long (all, where it has not), and its lowest timestamp so far.
    """
    stops = lengths.cumsum()
    starts = stops - lengths
    compared = times.copy()
    compared[starts] = np.fmin(compared[starts], earlier)
    # The running minimum of all stretches at once. It is taken of ranks, shifted down further with each stretch:
    # so the ranks of a stretch are below those of all stretches before it.
    order = compared.argsort(kind="stable")  # NaN comes last
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    below = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) * len(order)  # int64: it may exceed 32 bits
    lowest = compared[order[np.minimum.accumulate(ranks - below) + below]]
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite timestamps
        lasted = times - lowest >= duration
    return np.minimum(_first_from(starts, lasted), stops) - starts, lowest[stops - 1]
