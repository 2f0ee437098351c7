"""CSV and Arrow's file format, by pyarrow: a row for each reading, in the order in which they were read.

The columns are those of `COLUMNS`. Texts stand in each row as they are: Arrow's files may hold a text once and refer to
it, but not every program reads such files when texts come later that the file's beginning did not have.
"""

from collections import Counter
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]

from f1buf.telemetry.exports import About
from f1buf.telemetry.exports.series import NO_LAP, Batch, Series
from f1buf.telemetry.text import faithful_text

__all__ = ["COLUMNS", "TableExport", "arrow_export", "csv_export"]

COLUMNS = pa.schema(
    [
        pa.field("time", pa.float64(), nullable=False),  # [s]
        pa.field("sensor", pa.uint32(), nullable=False),
        pa.field("session", pa.uint64()),  # this and the next four: null where they are not known
        pa.field("car", pa.int64()),
        pa.field("driver", pa.string()),
        pa.field("lap", pa.int64()),
        pa.field("part", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("value", pa.float64(), nullable=False),  # in `unit`
        pa.field("unit", pa.string()),
    ]
)


class TableExport:
    """Writes tables of `COLUMNS` to one of pyarrow's writers."""

    def __init__(self, writer: Any) -> None:
        self.rejected: Counter[str] = Counter()
        self._writer = writer

    def write(self, batch: Batch) -> None:
        """Write readings."""
        readings, series, which, lap = batch
        columns = _columns_of(series, pa.array(which))
        columns["time"] = pa.array(readings["timestamp"])
        columns["value"] = pa.array(readings["value"])
        columns["lap"] = pa.array(lap, mask=np.asarray(lap == NO_LAP))
        self._writer.write_table(pa.table(columns, COLUMNS))

    def finish(self) -> list[str]:
        """Write what is left."""
        self._writer.close()
        return []

    def close(self) -> None:
        """Let go of the writer, which would write again when it is collected."""
        self._writer = None


def _columns_of(series: Any, places: Any) -> dict[str, Any]:
    """Return the columns that are the same for all readings of a series."""
    of_each = {
        "sensor": [each.sensor_id for each in series],
        "session": [each.session for each in series],
        "car": [each.car for each in series],
        "driver": [_text(each.driver) for each in series],
        "part": [_text(each.part) for each in series],
        "channel": [_text(_channel_name(each)) for each in series],
        "unit": [_text(None if each.channel is None else each.unit) for each in series],
    }
    return {name: pa.array(values, COLUMNS.field(name).type).take(places) for name, values in of_each.items()}


def _channel_name(series: Series) -> str | None:
    return None if series.channel is None else series.name


def _text(value: str | None) -> str | None:
    return None if value is None else faithful_text(value)


def csv_export(file: BinaryIO, about: About) -> TableExport:
    """Return what writes CSV, in UTF-8: a text between quotes, a number as it is, nothing where it is not known."""
    return TableExport(pyarrow.csv.CSVWriter(file, COLUMNS))


def arrow_export(file: BinaryIO, about: About) -> TableExport:
    """Return what writes an Arrow file, which is Feather's second version, too."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    return TableExport(pa.ipc.new_file(file, COLUMNS, options=options))
