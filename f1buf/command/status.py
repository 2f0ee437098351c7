"""How the command ends: its exit statuses, the error that stands for bad usage, and signals that end it."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

OK, FAILED, BAD_USAGE, ALERTED, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """Bad usage or unreadable input: one line, status 2."""


@contextmanager
def stopping_at_signals() -> Iterator[None]:
    """Have signals that would end the process end it as Ctrl-C does, so that nothing half-made is left."""

    def stop(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    with ExitStack() as previous:
        for each in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(each) == signal.SIG_DFL:
                previous.callback(signal.signal, each, signal.signal(each, stop))
        yield
