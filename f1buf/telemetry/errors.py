"""The errors of the telemetry system and of its sources."""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "CanError",
    "ExportError",
    "ListenError",
    "PageError",
    "RecorderError",
    "RecordingError",
    "SharingError",
    "StreamError",
    "TelemetryError",
    "ThresholdError",
]


class TelemetryError(RuntimeError):
    """Sources, analyzers, consumers or callbacks that failed, or threads that did not stop.

    Attributes
    ----------
    failures : list of (str, BaseException)
        Which thread failed, or which callback ("on_alert", "describe", "on_step", "on_failure"), and how.
    stuck : list of str
        Threads that made no progress while they were to stop.
    """

    def __init__(self, failures: Sequence[tuple[str, BaseException]], stuck: Sequence[str] = ()) -> None:
        self.failures = list(failures)
        self.stuck = list(stuck)
        said = [f"{name} failed: {type(error).__name__}: {error}" for name, error in failures]
        said += [f"{name} did not stop in time" for name in stuck]
        super().__init__("; ".join(said))


class ThresholdError(ValueError):
    """A threshold that makes no sense, or a file of thresholds that cannot be used.

    Attributes
    ----------
    problem : str
        What is wrong and what was expected.
    key : str
        Where: ``"above"``, or in a file ``"threshold[2].above"``, counted from 0; empty for the whole.
    source : str
        The file; empty where there is none.
    """

    def __init__(self, problem: str, key: str = "", source: str = "") -> None:
        super().__init__(": ".join(filter(None, (source, key, problem))))
        self.problem = problem
        self.key = key
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.key, self.source)


class RecorderError(RuntimeError):
    """A recording cannot be begun or written; the message is one line that names the file or folder."""


class ExportError(RuntimeError):
    """A new file cannot be made; the message is one line that names the file or the package.

    Attributes
    ----------
    while_writing : bool
        Whether it failed while it wrote; else it could not begin.
    """

    def __init__(self, message: str, *, while_writing: bool = False) -> None:
        super().__init__(message)
        self.while_writing = while_writing


class SharingError(RuntimeError):
    """Readings cannot be shared with other processes, or are shared no more; the message is one line that says why."""


class StreamError(RuntimeError):
    """A stream of a NATS server cannot be published to or read; the message is one line that names it and says why."""


class PageError(OSError):
    """The live page cannot be served at an address; the message is one line that names it."""


class RecordingError(ValueError):
    """A recording or a log cannot be read; the message is one line that names the file."""


class CanError(ValueError):
    """A CAN database or bus cannot be used; the message is one line that says which."""


class ListenError(OSError):
    """An address cannot be listened at, or forwarded to; the message is one line that names it."""
