"""What a ring has done so far."""

from typing import NamedTuple


class RingStats(NamedTuple):
    """A ring's counters, all from one moment. At rest ``offered == taken + dropped + discarded + qsize``."""

    offered: int
    """Records that puts took from their callers, those dropped at once included."""
    taken: int
    """Records that gets took out."""
    dropped: int
    """Records lost to a drop policy: refused, or overwritten before anybody took them."""
    discarded: int
    """Records thrown away by an immediate shutdown."""
    put_waits: int
    """Puts (pieces of large ones) that had to wait for room or for another copy; spinning counts."""
    get_waits: int
    """Gets and snapshots that had to wait."""
    put_wait_seconds: float
    """How long these puts waited in all [s]."""
    get_wait_seconds: float
    """How long these gets waited in all [s]."""
    high_water: int
    """The largest number of records that the ring has held."""
