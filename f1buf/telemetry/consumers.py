"""Who else gets the readings. A consumer is anything with a ring of its own, see `Consumer`."""

from typing import Protocol

from f1buf import RingBuffer

__all__ = ["Consumer"]


class Consumer(Protocol):
    """Something that gets every reading beside the analyzers, such as a recorder, in a thread of its own.

    The system puts each batch into the analyzers' ring, then into the ring of each consumer (`f1buf.Tee`): one whose
    ring blocks makes the sources wait where it falls behind, one whose ring drops loses readings by itself.

    Readings of different sources may come in another order than the analyzers see; those of one source do not.
    """

    name: str
    """For error messages and the name of the thread."""
    ring: RingBuffer
    """Its own, of READING, used by one run of the system only."""

    def run(self) -> None:
        """Take out of the ring until it is shut down and drained.

        What it raises is reported at once, and its ring shut down; the analysis goes on without it.
        """
