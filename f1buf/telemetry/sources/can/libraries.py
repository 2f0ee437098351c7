"""What python-can and asammdf say in their logs and as warnings: kept, for the notes of a log that they read."""

import contextlib
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterator

from f1buf.telemetry.text import clean

__all__ = ["Libraries", "keep_asammdf_quiet"]

_LONGEST_NOTE = 200  # characters


class Libraries(logging.Handler):
    """
    Counts what the libraries say in this thread while a ``with`` statement runs.

    Nobody would see it otherwise: the command mutes python-can, whose lines would come between its own, and asammdf
    logs nothing that is less than an error.

    Parameters
    ----------
    measurement : bool
        Whether asammdf reads. Then its logger and Python's filters of warnings, which belong to all threads, are
        changed. So one ``with`` statement for asammdf waits for another; and what other threads warn of meanwhile is
        taken for asammdf's, and not printed.
    """

    _MOST = 20  # different ones
    _one_at_a_time = threading.Lock()

    def __init__(self, measurement: bool) -> None:
        super().__init__(logging.WARNING)
        self._measurement = measurement
        self._until_exit = contextlib.ExitStack()
        self._caught: list[warnings.WarningMessage] = []
        self._counts: Counter[str] = Counter()
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        if self._measurement:
            self._until_exit.enter_context(self._one_at_a_time)
            self._until_exit.enter_context(self._instead_of_others(logging.getLogger("asammdf")))
            self._caught = self._until_exit.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            for of_programs in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", of_programs)  # says nothing of the log, and may be another object's
        else:
            logging.getLogger("can").addHandler(self)
            self._until_exit.callback(logging.getLogger("can").removeHandler, self)

    def __exit__(self, *_: object) -> None:
        self._until_exit.close()
        for each in self._caught:
            self._count("asammdf warns", str(each.message))
        self._caught = []

    @contextlib.contextmanager
    def _instead_of_others(self, logger: logging.Logger) -> Iterator[None]:
        handlers, level, propagate = logger.handlers, logger.level, logger.propagate
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._count("asammdf says" if self._measurement else "python-can says", record.getMessage())

    def _count(self, library: str, text: str) -> None:
        line = f"{library}: {clean(' '.join(text.split()))[:_LONGEST_NOTE]}"
        self._counts[line if line in self._counts or len(self._counts) < self._MOST else "and more"] += 1

    def said(self) -> list[str]:
        """Return what was said, each text once with how many times: up to 20 texts, and then "and more"."""
        return [line if count == 1 else f"{line} ({count:,} times)" for line, count in self._counts.items()]


def keep_asammdf_quiet() -> None:
    """Have asammdf print nothing on standard output, which is for data.

    Where a channel group takes longer than ten seconds to be read or saved, it prints how fast it is.
    """
    from asammdf.blocks import mdf_v4

    mdf_v4.print = lambda *_, **__: None  # type: ignore[attr-defined]
