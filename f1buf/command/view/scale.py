"""The scale that the values of a channel are shown on."""

from collections.abc import Iterable
from math import ceil, isfinite, log10
from typing import NamedTuple

from f1buf.telemetry import Channel, Threshold

_WIDEST_RANGE = 1e7  # a wider one is what somebody's data type can hold, not what is to be expected
_WIDTHS = 4, 9  # characters: nan and -inf fit; longer numbers are written with an exponent


class Scale(NamedTuple):
    """How the values of a channel are shown."""

    low: float  # the left end of its bars: of the channel's range, or of the values so far where that is no help
    high: float  # the right end
    decimals: int
    width: int  # characters of the longest number so far
    limits: tuple[float, ...]  # of its thresholds
    absolute: bool  # whether these compare absolute values; then its bars show absolute values, too

    def text(self, value: float) -> str:
        """The number in `width` characters."""
        text = f"{value:z.{self.decimals}f}"
        return f"{text if len(text) <= self.width else f'{value:.0e}':>{self.width}}"[: self.width]

    def share(self, value: float) -> float:
        """Where between the ends a value lies: 0 to 1, or beyond."""
        return ((abs(value) if self.absolute else value) - self.low) / (self.high - self.low)

    def marks(self, width: int) -> list[tuple[int, float]]:
        """The cells of a bar of `width` cells in which limits lie, and these limits."""
        shares = [(self.share(limit), limit) for limit in self.limits]
        return [(min(int(share * width), width - 1), limit) for share, limit in shares if 0.0 <= share <= 1.0]


def scale_of(channel: Channel, thresholds: Iterable[Threshold], values: Iterable[float]) -> Scale:
    """Return the scale for a channel with these thresholds whose extremes so far are among `values`."""
    thresholds = [each for each in thresholds if each.channel == channel.name]
    limits = tuple([each.limit for each in thresholds])
    absolute = bool(thresholds) and all(each.absolute for each in thresholds)
    seen = low, high = _ends(values)
    if channel.range[1] - channel.range[0] <= _WIDEST_RANGE:
        low, high = channel.range
        decimals = _decimals(high - low)
    else:
        decimals = _decimals(max(high - low, abs(high), abs(low)))
        low, high = _ends([low, high, *limits])
        if not low < high:
            low, high = low - 1.0, low + 1.0
    if absolute:
        low, high = 0.0, max(-low, high)
    width = max(len(f"{end:z.{decimals}f}") for end in (low, high, *seen))
    return Scale(low, high, decimals, min(max(width, _WIDTHS[0]), _WIDTHS[1]), limits, absolute)


def _ends(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if isfinite(value)] or [0.0]
    return min(finite), max(finite)


def _decimals(span: float) -> int:
    """How many to show of values that move within `span`, so that about three digits change."""
    if span >= 200.0:
        return 0
    if span >= 20.0:
        return 1
    return min(6, max(2, ceil(1.0 - log10(span)))) if span > 0.0 else 2
