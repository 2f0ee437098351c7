"""Where readings come from. A source is anything with a method `batches`, see `Source`."""

import threading
from collections.abc import Iterator
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Source"]


class Source(Protocol):
    """Something that the telemetry system feeds into its buffer, in a thread of its own."""

    name: str
    """For error messages and the names of threads."""

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield arrays of READING as they become due, until the source ends or `stop` is set; waits only for `stop`.

        What follows a yield runs when the batch has been put into the buffer.
        """
