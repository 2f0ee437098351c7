"""Where readings come from. A source is anything with a method `batches`, see `Source`.

can/       CAN buses and logs, whose frames a CAN database explains
game/      the F1 games' datagrams, live over UDP or recorded
paced      sensors of this process, at a rate
mcap, mf4  files of other programs
parquet    what `f1buf.telemetry.recorder.Recorder` has recorded
shared     what another process shares by `f1buf.telemetry.Sharer`
played     what the files of other programs have in common
schedule   when what was recorded is due
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from f1buf.telemetry.errors import RecordingError

__all__ = ["RecordingError", "Source", "Unwritten"]


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Readings that are due and not written yet: a source yields it in place of a large array.

    The system lets them be written straight into the buffer's slots, where that is possible. The next batch may be
    asked for before all of them have been: once the source is to stop, the rest is not made.
    """

    count: int
    """How many; at least 1."""
    write: Callable[[NDArray[Any]], None]
    """Writes the source's next readings to an array of READING, as many as it is long. It must neither wait nor keep
    the array, in an error that it raises either: as long as that lives, its slots are not the buffer's."""


class Source(Protocol):
    """Something that the telemetry system feeds into its buffer, in a thread of its own."""

    name: str
    """For error messages and the names of threads."""

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any] | Unwritten]:
        """Yield arrays of READING as they become due, until the source ends or `stop` is set; waits only for `stop`.

        What follows a yield runs when the batch has been put into the buffer.
        """
