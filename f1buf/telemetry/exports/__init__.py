"""Readings in the formats that other programs open. An export is anything with the methods of `Export`.

mdf      ASAM's measurement files (.mf4), by asammdf
mcap     MCAP (.mcap), by mcap
table    CSV and Arrow (.csv, .arrow), by pyarrow: a row for each reading
series   what all of them are given
write    from a source to a whole file
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from f1buf.telemetry.exports.series import Batch
from f1buf.telemetry.thresholds import Threshold

__all__ = ["FORMATS", "About", "Export", "Format", "format_of"]


@dataclass(frozen=True)
class About:
    """What is known of an export's readings as a whole."""

    folder: Path
    """Where there is room for temporary files."""
    source: str = ""
    """Where the readings come from; for people."""
    thresholds: tuple[Threshold, ...] = ()
    """What they are checked against."""


class Export(Protocol):
    """A file that is being written; for one thread. Its methods raise OSError where the file cannot be written."""

    rejected: Counter[str]
    """How many readings the format cannot hold, by reason."""

    def write(self, batch: Batch) -> None:
        """Write readings."""

    def finish(self) -> list[str]:
        """Write what is left; return lines for people on what is otherwise in the file than it was read."""

    def close(self) -> None:
        """Let go of everything but the file, whether or not it was finished."""


Maker = Callable[[BinaryIO, About], Export]


@dataclass(frozen=True)
class Format:
    """A format: the suffixes of its files' names, and the package that it needs."""

    suffixes: tuple[str, ...]
    package: str
    find: Callable[[], Maker]

    def load(self) -> Maker:
        """Return what makes an `Export`; an ImportError says that the package is missing."""
        import_module(self.package)
        return self.find()


def _mdf() -> Maker:
    from f1buf.telemetry.exports.mdf import MdfExport

    return MdfExport


def _mcap() -> Maker:
    from f1buf.telemetry.exports.mcap import McapExport

    return McapExport


def _csv() -> Maker:
    from f1buf.telemetry.exports.table import csv_export

    return csv_export


def _arrow() -> Maker:
    from f1buf.telemetry.exports.table import arrow_export

    return arrow_export


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "mdf": Format((".mf4",), "asammdf", _mdf),
        "mcap": Format((".mcap",), "mcap", _mcap),
        "csv": Format((".csv",), "pyarrow", _csv),
        "arrow": Format((".arrow", ".feather"), "pyarrow", _arrow),
    }
)
"""By the name that the command gives them."""


def format_of(path: Path) -> str | None:
    """Return the format that a file's name says; None where it says none."""
    suffix = path.suffix.lower()
    return next((name for name, each in FORMATS.items() if suffix in each.suffixes), None)
