"""How many of a stream's numbered frames are missing."""

from bisect import bisect_left
from itertools import pairwise

__all__ = ["FrameGaps"]

LONGEST_GAP = 3600
"""Frames: one minute at 60 Hz. A longer step, either way, is a pause, a new start or nonsense, and not a loss."""

_WINDOW = 64  # frames: how late one may come; a second at 60 Hz


class FrameGaps:
    """
    Counts what is missing in a stream of frame numbers, of which some may be lost, doubled or late.

    Frames are numbered in even steps. The step is not known (a game may send every frame or every third): the smallest
    step between two of the latest 128 to 192 frames is taken for it. So the count is exact if at least two neighbours
    of these arrive. What is before the first frame or behind the last one is not missing; nor is a frame that comes
    late, behind up to 63 others.

    Attributes
    ----------
    lost : int
        How many frames are missing. It goes down when one comes late.

    Notes
    -----
    It remembers 128 frames at most. Forged numbers near the true ones can make it count too many. One thread at a time
    may call it; others may read `lost`.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._settled = 0  # how many are missing before the window
        self._window: list[int] = []  # the latest frames, each once, ascending
        self._step = 0  # the smallest between two neighbours; 0: not known yet

    def add(self, frame: int) -> None:
        """Take note of a frame that has arrived."""
        window = self._window
        if not window or frame - window[-1] == self._step > 0:
            window.append(frame)
        else:
            self._insert(frame)
        if len(window) >= 2 * _WINDOW:
            self._settle()

    def restart(self) -> None:
        """Begin anew with the next frame; `lost` stays."""
        self._settled = self.lost
        self._window.clear()
        self._step = 0

    def _insert(self, frame: int) -> None:
        window = self._window
        if abs(frame - window[-1]) > LONGEST_GAP:
            self.restart()
        index = bisect_left(window, frame)
        if index == 0 and window:
            return  # too late, or before the first
        if index < len(window) and window[index] == frame:
            return  # came twice
        window.insert(index, frame)
        self._count(self._step)

    def _count(self, step: int) -> list[int]:
        """Count anew, with this step or a smaller one; return how many are missing behind each frame of the window."""
        steps = [after - before for before, after in pairwise(self._window)]
        self._step = min([step, *steps] if step else steps, default=0)
        missing = [each // self._step - 1 for each in steps]
        self.lost = self._settled + sum(missing)
        return missing

    def _settle(self) -> None:
        """Forget the older half of the window."""
        missing = self._count(0)  # the step may have grown: the game may be told to send less often
        self._settled += sum(missing[:_WINDOW])
        del self._window[:_WINDOW]
