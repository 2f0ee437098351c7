"""What the tests of exports and of files of other programs share: readings with odd names, times and values."""

import csv
import datetime
import json
import math

import numpy as np

from f1buf import READING
from f1buf.telemetry import SPEED, TIRE_PRESSURE, Channel
from f1buf.telemetry.channels import channel_by_number

SESSION = 9645314088496810282
ODD_TEXTS = ('a,b"c', "two\nlines", "dots.and[brackets]\\", "ä 日本 🏎", "=1+1", "")
ODD_VALUES = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2)
ODD_TIMES = (-5.5, 3e10, 1.7e9 + 0.123456789, 1e300)


def described_by(sensor_id, flags):
    """Sensors 0 to 5 have no car and odd parts; the others are cars', of two sessions, whose lap the flags say."""
    if sensor_id < len(ODD_TEXTS):
        return {"part": ODD_TEXTS[sensor_id]} if ODD_TEXTS[sensor_id] else {}
    car = sensor_id // 6
    driver = ODD_TEXTS[car % len(ODD_TEXTS)] or None
    session = {"session": SESSION + car % 2} if car < 4 else {}
    lap = {"lap": flags} if flags else {}
    return {"car": car, "driver": driver, "part": ("RL", "RR", None)[sensor_id % 3], **session, **lap}


def odd_readings(n=600):
    """Readings of channels with odd names and units, of which two share both; odd values; times that repeat."""
    channels = [Channel(f"odd {text}", text[:3]) for text in ODD_TEXTS]
    channels += [SPEED, TIRE_PRESSURE, Channel("SPEED", "km/h", (0.0, 1.0))]
    rng = np.random.default_rng(1)
    out = np.zeros(n, READING)
    out["timestamp"] = np.arange(n) // 7 / 3
    out["sensor_id"] = rng.integers(0, 36, n)
    numbers = [channel.number for channel in channels]
    out["channel"] = rng.choice(numbers, n)
    out["flags"] = np.arange(n) // 200
    out["value"] = rng.normal(size=n)
    out["value"][rng.integers(0, n, 10 * len(ODD_VALUES))] = np.tile(ODD_VALUES, 10)
    return out


def with_odd_times(readings):
    """The same at times that go back, are before 1970 or far away, or are none."""
    readings = readings.copy()
    for number, odd in enumerate((*ODD_TIMES, math.nan, math.inf, -math.inf)):
        readings["timestamp"][10 + 20 * number : 13 + 20 * number] = odd
    return readings


def rows_of(readings, describe=described_by):
    """Each reading as (time, sensor, session, car, driver, lap, part, channel, value, unit); numbers as texts."""
    rows = []
    for time, sensor_id, number, flags, value in readings.tolist():
        said = dict(describe(sensor_id, flags))
        channel = channel_by_number(number)
        known = [said.get(name) for name in ("session", "car", "driver", "lap", "part")]
        rows.append((as_text(time), sensor_id, *known, channel.name, as_text(value), channel.unit))
    return rows


# What the formats' own libraries find ---------------------------------------------------------------------------------


def csv_rows(path):
    """By the standard library."""
    kinds = (as_text, int, int, int, str, int, str, str, as_text, str)
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    assert names == ["time", "sensor", "session", "car", "driver", "lap", "part", "channel", "value", "unit"]
    return [tuple(kind(text) if text else None for kind, text in zip(kinds, row, strict=True)) for row in rows]


def arrow_rows(path):
    """By pyarrow."""
    import pyarrow.ipc

    with pyarrow.ipc.open_file(path) as file:
        table = file.read_all()
    return [
        (as_text(time), *known, as_text(value), unit)
        for time, *known, value, unit in map(dict.values, table.to_pylist())
    ]


def as_text(number):
    """A number so that NaN is equal to itself, and 0 is not -0."""
    return repr(float(number))


def mdf_series(path):
    """By asammdf: the times and values of each channel by its name, and its unit and comment."""
    import asammdf

    with asammdf.MDF(path) as file:
        assert file.header.start_time.tzinfo is not None
        start = (file.header.start_time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
        found = {}
        for number, group in enumerate(file.groups):
            assert len(group.channels) == 2  # each with times of its own
            signal = file.get(group=number, index=1)
            assert signal.name not in found
            found[signal.name] = (
                list(zip(map(as_text, signal.timestamps + start), map(as_text, signal.samples), strict=True)),
                signal.unit,
                signal.comment,
            )
        return found


def mcap_rows(path):
    """By mcap: each field of each message, with what its channel's metadata says."""
    from mcap.reader import make_reader

    rows = []
    with open(path, "rb") as file:
        for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False):
            said = json.loads(message.data)
            about = json.loads(channel.metadata["f1buf"])
            time, lap = as_text(said.pop("time")), said.pop("lap", None)
            properties = json.loads(schema.data)["properties"]
            for field, value in said.items():
                series = about["fields"][field]
                assert channel.metadata[field] == series["unit"] == properties[field]["description"]
                common = about["session"], about["car"], about["driver"], lap, series["part"]
                rows.append((time, series["sensor"], *common, series["channel"], as_text(value), series["unit"]))
    return rows


def by_series(rows):
    """Rows of each sensor and channel, in order."""
    found = {}
    for row in rows:
        found.setdefault((row[1], row[2], *row[3:5], *row[6:8], row[9]), []).append(row)
    return found
