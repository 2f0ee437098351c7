"""From a source to a whole file: it is written where nobody sees it, and gets its name when it is complete."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from f1buf.telemetry.errors import ExportError, RecordingError
from f1buf.telemetry.exports import FORMATS, About, Export
from f1buf.telemetry.exports.series import Batch, SeriesFinder, joined
from f1buf.telemetry.thresholds import Threshold
from f1buf.telemetry.unseen import new_file

__all__ = ["Exported", "export"]

Array = NDArray[Any]

_TOGETHER = 131_072  # readings written together: what is kept of them takes 5 MB


@dataclass
class Exported:
    """What became of an export."""

    format: str
    """As it was given."""
    readings: int = 0
    """How many are in the file."""
    series: int = 0
    """Of how many series."""
    bytes: int = 0
    """The file's size."""
    seconds: float = 0.0
    """How long it took [s]."""
    rejected: Counter[str] = field(default_factory=Counter)
    """How many readings the format cannot hold, by reason."""
    notes: list[str] = field(default_factory=list)
    """Lines for people on what is otherwise in the file than it was read."""
    failure: str = ""
    """Why what was to be read ended early; empty where it was read to its end. What was read is in the file."""

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, without what the source knows better."""
        return {name: getattr(self, name) for name in ("format", "readings", "series", "bytes", "seconds")}


def export(
    batches: Iterable[Array],
    path: str | os.PathLike[str],
    format: str,
    describe: Callable[[int, int], dict[str, Any]] | None = None,
    *,
    source: str = "",
    thresholds: Iterable[Threshold] = (),
    is_wanted: Callable[[Exported], bool] = lambda exported: True,
) -> Exported:
    """Write readings to a new file; it appears when it is complete.

    Parameters
    ----------
    batches : iterable of ndarray of READING
        The readings, as a source yields them. Where it raises a RecordingError, the file has what came before.
    path : path-like
        A name that no file has.
    format : str
        ``"mdf"``, ``"mcap"``, ``"csv"`` or ``"arrow"``.
    describe : callable, optional
        What is known of a sensor, from its id and the reading's flags: ``car``, ``driver``, ``lap``, ``part``,
        ``session``.
    source : str
        Where the readings come from; for people.
    thresholds : iterable of Threshold
        What they are checked against: kept in the formats that have room for it.
    is_wanted : callable
        Asked when all was read; where it says no, no file is made.

    Raises
    ------
    ExportError
        There is such a file, it cannot be written, or a package is missing.
    """
    path = Path(path)
    began = time.monotonic()
    exported = Exported(format)
    try:
        make = FORMATS[format].load()
    except ImportError as error:
        package = FORMATS[format].package
        raise ExportError(f"--format {format} needs {package} ({error}): pip install 'f1buf[export]'") from None
    with new_file(path) as (file, show):
        about = About(path.parent, source, tuple(thresholds))
        with contextlib.closing(make(file, about)) as writer:
            finder = SeriesFinder(describe)
            for batch in _together(map(finder.batch, batches), exported):
                writer.write(batch)
                exported.readings += len(batch.readings)
            _finish(writer, exported)
        exported.series = len(finder.series)
        if is_wanted(exported):
            exported.bytes = show()
    exported.seconds = time.monotonic() - began
    return exported


def _finish(writer: Export, exported: Exported) -> None:
    exported.notes = writer.finish()
    exported.rejected = writer.rejected
    exported.readings -= writer.rejected.total()


def _together(batches: Iterator[Batch], exported: Exported) -> Iterator[Batch]:
    """Yield batches of many readings, up to the end or to where they cannot be read."""
    held: list[Batch] = []
    count = 0
    try:
        for batch in batches:
            held.append(batch)
            count += len(batch.readings)
            if count >= _TOGETHER:
                yield joined(held)
                held, count = [], 0
    except (RecordingError, OSError) as error:
        exported.failure = str(error)
    if count:
        yield joined(held)
