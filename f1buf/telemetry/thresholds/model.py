"""One threshold: a limit for the readings of a channel."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from f1buf.telemetry.errors import ThresholdError

__all__ = ["Threshold"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A limit for the readings of a channel, and what to say when it is crossed.

    Parameters
    ----------
    channel : str
        The channel's name. The threshold applies to every channel of that name, whatever its unit.
    above, below : float
        The limit, in the channel's unit; exactly one of them, finite. A reading equal to it is not over.
    message : str
        For people.
    absolute : bool
        Compare the absolute value of a reading: for quantities with a direction, such as one axis of acceleration.
    hysteresis : float
        How far back within the limit a reading must be to end being over, in the channel's unit, 0 or more: with
        ``above=110, hysteresis=5`` a series is over from a reading above 110 until one of 105 or less, or NaN. With 0
        any reading that is not beyond the limit ends it. Keeps values that hover about the limit from crossing it again
        and again.
    min_duration : float
        How long a series must be over before it counts, in seconds of the readings' timestamps, 0 or more: the first
        reading that is this much later than the lowest timestamp since the series is over is the rise, and it and the
        later ones are samples. With 0 they count from the first one on. Keeps short peaks from counting.

    Raises
    ------
    ThresholdError
        One of the above does not hold.
    """

    channel: str
    _: KW_ONLY
    above: float | None = None
    below: float | None = None
    message: str
    absolute: bool = False
    hysteresis: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        for key in ("channel", "message"):
            text = getattr(self, key)
            if not isinstance(text, str) or not text.strip():
                raise ThresholdError(f"{text!r}: expected a text that is not empty", key)
        if self.above is None and self.below is None:
            raise ThresholdError("missing: expected above or below, the limit", "above")
        if self.above is not None and self.below is not None:
            raise ThresholdError("above is given too: expected one of them; write two thresholds for a band", "below")
        if not isinstance(self.absolute, bool):
            raise ThresholdError(f"{self.absolute!r}: expected true or false", "absolute")
        for key in (self.side, "hysteresis", "min_duration"):
            object.__setattr__(self, key, _finite(key, getattr(self, key)))
        if self.absolute and self.limit < 0:
            raise ThresholdError(f"{self.limit:g}: an absolute value is never below 0: expected 0 or more", self.side)
        for key, value in self.damping.items():
            if value < 0:
                raise ThresholdError(f"{value:g}: expected 0 or more", key)
        if not math.isfinite(self.release) or (self.absolute and self.release < 0):
            raise ThresholdError(
                f"{self.hysteresis:g}: no value is back by that much from {self.limit:g}: expected less", "hysteresis"
            )

    @property
    def side(self) -> Literal["above", "below"]:
        """Which of the two limits it has."""
        return "above" if self.above is not None else "below"

    @property
    def limit(self) -> float:
        """The limit, in the channel's unit."""
        limit = self.above if self.above is not None else self.below
        assert limit is not None
        return limit

    @property
    def release(self) -> float:
        """The value that ends being over: the limit, less the hysteresis, or plus it for a ``below``; in its unit."""
        return self.limit - self.hysteresis if self.above is not None else self.limit + self.hysteresis

    @property
    def damping(self) -> dict[str, float]:
        """``hysteresis`` and ``min_duration``, where they are not 0; a new dict."""
        each = {"hysteresis": self.hysteresis, "min_duration": self.min_duration}
        return {key: value for key, value in each.items() if value}

    def as_dict(self) -> dict[str, Any]:
        """Return the limit by its side, ``absolute`` where it is true, and the `damping`; ready for JSON."""
        return {self.side: self.limit} | ({"absolute": True} if self.absolute else {}) | self.damping

    def over(self, values: Floats) -> Bools:
        """Tell which values are beyond the limit; a new array of bool of the same shape."""
        return self._beyond(self.limit, values)

    def held(self, values: Floats) -> Bools:
        """Tell which values keep a series over that is over already; a new array of bool of the same shape."""
        return self._beyond(self.release, values)

    def _beyond(self, limit: float, values: Floats) -> Bools:
        if self.absolute:
            values = np.abs(values)
        return values > limit if self.above is not None else values < limit


def _finite(key: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ThresholdError(f"{value!r}: expected a finite number", key)
    return number
