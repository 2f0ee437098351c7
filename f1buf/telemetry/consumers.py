"""Consumers: what gets the readings beside the analyzers."""

from typing import Any, Protocol

from f1buf import RingBuffer, RingStats

__all__ = ["Consumer"]


class Consumer(Protocol):
    """Anything with a ring of its own that is to get every reading, such as a recorder; it has a thread of its own.

    The system puts each batch into the analyzers' ring, then into the ring of each consumer (`f1buf.Tee`). A consumer
    that falls behind makes the sources wait where its ring blocks, and loses readings where its ring drops.

    Readings of different sources may come in another order than the analyzers see; those of one source do not.

    One that has an attribute ``may_miss`` that is true, and a ring that drops the oldest, is for looking only. A
    simulated sensor at full speed writes straight into the analyzers' ring as long as there are no other consumers than
    these. They get some of such readings, by a tap as the display does, since to copy all would slow it down.
    """

    name: str
    """For error messages and the name of the thread."""
    ring: RingBuffer
    """Its own, of READING, used by one run of the system only."""

    def run(self) -> None:
        """Take out of the ring until it is shut down and drained.

        What it raises is reported at once, and its ring is shut down; the analysis goes on without it.
        """


def losses_and_waits(stats: RingStats) -> dict[str, Any]:
    """Return what a consumer's ring cost the sources, ready for JSON."""
    return {name: getattr(stats, name) for name in ("dropped", "put_waits", "put_wait_seconds")}


def losses_and_waits_text(stats: RingStats) -> str:
    """Return the same for people."""
    return f"{stats.dropped:,} dropped, puts waited {stats.put_waits:,} times ({stats.put_wait_seconds:.3f} s)"
