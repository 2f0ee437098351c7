"""Traces of fewer points, in which no extreme is lost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_POINTS", "points_each", "thinned"]

Points = NDArray[np.float64]
"""Of shape (rows, n): times in their order, values, and what else belongs to each point."""

LEAST_POINTS = 6
"""The fewest points to which a trace is thinned: its ends, and the extremes of two pieces."""


def thinned(points: Points, most: int) -> Points:
    """Return a trace of at most `most` points, 6 or more: of equally long pieces the lowest and the highest one.

    Parameters
    ----------
    points : ndarray of float64, shape (rows, n)
        Times in their order, finite values, and what else belongs to each point.
    most : int
        How many points may be left.

    Returns
    -------
    ndarray of float64, shape (rows, up to most)
        Some of the points, as they were, in their order: the first and the last one, and each extreme.
    """
    count = points.shape[1]
    if count <= most:
        return points
    times, values = points[0], points[1]
    pieces = (most - 2) // 2
    length = times[-1] - times[0]
    if length > 0:
        piece = np.minimum(((times - times[0]) * (pieces / length)).astype(np.intp), pieces - 1)
    else:
        piece = np.arange(count) * pieces // count
    begins = np.flatnonzero(np.append(True, np.diff(piece) > 0))
    kept = np.zeros(count, np.bool_)
    kept[[0, -1]] = True
    for extreme in (np.minimum, np.maximum):
        its = np.repeat(extreme.reduceat(values, begins), np.diff(begins, append=count))
        places = np.flatnonzero(values == its)
        kept[places[np.append(True, np.diff(piece[places]) > 0)]] = True  # the first one of each piece
    return points[:, kept]


def points_each(counts: Sequence[int], most: int) -> int:
    """Return how many points each trace may have, so that traces of `counts` points have `most` together.

    Short ones need less, and leave the others more. At least `LEAST_POINTS`, with which they may have more together.
    """
    lengths: NDArray[Any] = np.sort(np.array(counts, np.int64))
    left, traces = most, len(lengths)
    for length in lengths.tolist():
        if length * traces > left:
            return max(LEAST_POINTS, left // traces)
        left -= length
        traces -= 1
    return max(LEAST_POINTS, int(lengths[-1]) if len(lengths) else 0)
