"""Where readings come from. A source is anything with a method `batches`, see `Source`.

can/       CAN buses and logs, whose frames a CAN database explains
game/      the F1 games' datagrams, live over UDP or recorded
paced      sensors of this process, at a rate
parquet    what `f1buf.telemetry.recorder.Recorder` has recorded
schedule   when what was recorded is due
"""

import threading
from collections.abc import Iterator
from typing import Any, Protocol

from numpy.typing import NDArray

from f1buf.telemetry.errors import RecordingError

__all__ = ["RecordingError", "Source"]


class Source(Protocol):
    """Something that the telemetry system feeds into its buffer, in a thread of its own."""

    name: str
    """For error messages and the names of threads."""

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they become due, until the source ends or `stop` is set; waits only for `stop`.

        What follows a yield runs when the batch has been put into the buffer.
        """
