"""Readings and series that stand out.

A reading stands out that is alone: further from both the one before and the one after it, on the same side, than three
times its series' spread, which is the width of the middle half of its values, or their standard deviation where that is
larger. So a faulty reading does, and a braking, which lasts for many readings, does not.

A series stands out whose mean is further from the median of its peers' than 3.5 times what is usual among them: the
modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_PEERS", "Sample", "Spikes", "stand_out"]

Floats = NDArray[np.float64]

MOST_SAMPLED = 8192
KEPT = 32  # spikes of a series
SPREADS = 3.0
FEWEST_PEERS = 5
"""Among fewer series none stands out."""


class Sample:
    """Every n-th value of a series: all of a short one, some thousands of a long one."""

    def __init__(self) -> None:
        self.values: Floats = np.empty(0)
        self.every = 1  # n
        self._seen = 0

    def add(self, values: Floats) -> None:
        """Take the next values."""
        self.values = np.append(self.values, values[-self._seen % self.every :: self.every])
        self._seen += len(values)
        while len(self.values) > MOST_SAMPLED:
            self.values = self.values[::2]
            self.every *= 2

    def quartiles(self) -> list[float]:
        """Return the lower quartile, the median and the upper quartile; of no values none."""
        return np.percentile(self.values, (25, 50, 75)).tolist() if len(self.values) else []


class Spikes:
    """The readings of a series that are furthest from both of their neighbours, on the same side."""

    def __init__(self) -> None:
        self._furthest = np.empty((3, 0))  # times, values, and how far they are from the nearer neighbour
        self._end = np.empty((2, 0))  # the latest two readings: the last one's next is still to come

    def add(self, points: NDArray[Any]) -> None:
        """Take the next times and values, shape (2, n)."""
        points = np.append(self._end, points, axis=1)
        self._end = points[:, -2:]
        steps = np.diff(points[1])
        before, after = steps[:-1], -steps[1:]
        far = np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
        most = far > (self._furthest[2, -1] if self._furthest.shape[1] == KEPT else 0.0)
        spikes = np.append(self._furthest, np.vstack([points[:, 1:-1], far])[:, most], axis=1)
        self._furthest = spikes[:, np.argsort(-spikes[2], kind="stable")[:KEPT]]

    def beyond(self, spread: float) -> tuple[list[list[float]], bool]:
        """Return times and values of those that stand out, by their times, and whether there may be more of them."""
        found = self._furthest[:2, self._furthest[2] > SPREADS * spread]
        return sorted(found.T.tolist()), found.shape[1] == KEPT


def stand_out(means: list[float]) -> list[bool]:
    """Tell which of the means of peers stand out."""
    away = np.abs(np.array(means) - np.median(means)) if len(means) >= FEWEST_PEERS else np.zeros(len(means))
    usual = np.median(away) / 0.6745 if len(means) else 0.0
    if usual == 0:  # most are the same
        usual = 1.253314 * away.mean() if len(means) else 0.0
    return [bool(each) for each in away > 3.5 * usual]
