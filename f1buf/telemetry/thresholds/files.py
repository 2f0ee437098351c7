"""Profiles, which are sets of thresholds by name, and threshold files.

A file is TOML with one ``[[threshold]]`` table for each; `dumps` writes one to start from.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from f1buf.telemetry.errors import ThresholdError
from f1buf.telemetry.thresholds.model import Threshold

__all__ = ["PROFILES", "dumps", "load_thresholds", "loads"]

PROFILES: Mapping[str, tuple[Threshold, ...]] = MappingProxyType(
    {
        # A racing car in general; the simulated sensors are made for these.
        "default": (
            Threshold("ENGINE_TEMP", above=110.0, message="High engine temperature"),
            Threshold("TIRE_PRESSURE", below=1.9, message="Low tire pressure"),
            Threshold("SPEED", above=340.0, message="Approaching top speed"),
            Threshold("G_FORCE", above=5.5, message="Extreme G-Force detected"),
            Threshold("FUEL_LEVEL", below=15.0, message="Low fuel warning"),
        ),
        # The cars of the F1 game, judged by a recorded race of 22 cars: 21 s, 82 s after the start of its session.
        "f1game": (
            # Cars driven by the computer always report 110; the player's ran at 115 to 119.
            Threshold("ENGINE_TEMP", above=118.0, message="High engine temperature"),
            # 1.49 to 1.51 bar behind and 1.61 to 1.70 in front, so all are "low" by the default profile.
            Threshold("TIRE_PRESSURE", below=1.4, message="Low tire pressure: puncture?"),
            # The fastest reached 342.
            Threshold("SPEED", above=340.0, message="Approaching top speed"),
            # Each axis is a sensor, and braking is negative; the hardest braking was 4.8, the hardest corner 4.1.
            Threshold("G_FORCE", above=4.5, absolute=True, message="Extreme G-Force detected"),
            # Per cent of the tank, not of the load that a car starts with: they held about 6 with a lap to spare, and
            # burnt 0.3 in 21 s, so 1.2 in a lap of 90 s.
            Threshold("FUEL_LEVEL", below=2.5, message="Low fuel warning: about two laps left"),
        ),
    }
)
"""Sets of thresholds by name."""

_KEYS = tuple(field.name for field in fields(Threshold))

_HEADER = """\
# Thresholds: one [[threshold]] table for each, any number for a channel.
#
#   channel       the channel's name; applies to every channel of that name, whatever its unit
#   above         over if a reading is greater than this ...
#   below         ... or less than this: one of the two, in the channel's unit
#   message       what to tell people
#   absolute      true compares the absolute value of a reading; left out: false
#   hysteresis    once over, a sensor stays so until a reading is back by this much, in the channel's unit; left out: 0
#   min_duration  counts only once it has lasted this long, in seconds of the readings' own time; left out: 0
"""


def load_thresholds(source: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """Return the thresholds of a profile or of a TOML file.

    Parameters
    ----------
    source : str or path
        The name of a profile (see `PROFILES`) or a file. A string that is both means the profile: write ``./default``
        for a file of such a name.

    Raises
    ------
    ThresholdError
        It is neither, or the file's content is no set of thresholds.
    OSError
        The file cannot be read.
    """
    if isinstance(source, str) and source in PROFILES:
        return PROFILES[source]
    name = str(source)
    try:
        # Some editors begin a file with a mark that is no part of the text.
        text = Path(source).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ThresholdError(
            f"neither a file nor a profile of thresholds; the profiles are {', '.join(PROFILES)}", source=name
        ) from None
    except UnicodeDecodeError as error:
        raise ThresholdError(f"not UTF-8, as TOML must be: {error}", source=name) from None
    return loads(text, source=name)


def loads(text: str, *, source: str = "") -> tuple[Threshold, ...]:
    """Return the thresholds of a TOML text.

    Parameters
    ----------
    text : str
        What `dumps` writes.
    source : str
        The name of the file, for error messages.

    Raises
    ------
    ThresholdError
        The text is no TOML, or something in it is no threshold; `ThresholdError.key` says where.
    """
    import tomllib  # here: most programs read no thresholds

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThresholdError(f"not TOML: {error}", source=source) from None
    for key in document:
        if key != "threshold":
            raise ThresholdError("unknown key: expected only [[threshold]] tables", key, source)
    tables = document.get("threshold", [])
    if not isinstance(tables, list):
        raise ThresholdError("expected tables in double brackets: [[threshold]]", "threshold", source)
    return tuple(_from_table(table, f"threshold[{i}]", source) for i, table in enumerate(tables))


def _from_table(table: Any, path: str, source: str) -> Threshold:
    if not isinstance(table, dict):
        raise ThresholdError(f"{table!r}: expected a table, [[threshold]]", path, source)
    for key in table:
        if key not in _KEYS:
            raise ThresholdError(f"unknown key: expected {', '.join(_KEYS)}", f"{path}.{key}", source)
    for key in ("channel", "message"):
        if key not in table:
            raise ThresholdError("missing: expected a text", f"{path}.{key}", source)
    try:
        return Threshold(**table)
    except ThresholdError as error:
        raise ThresholdError(error.problem, f"{path}.{error.key}", source) from None


def dumps(thresholds: Iterable[Threshold]) -> str:
    """Return the thresholds as a TOML text with comments, which `loads` reads back."""
    return "\n".join([_HEADER, *map(_as_table, thresholds)])


def _as_table(threshold: Threshold) -> str:
    table: dict[str, Any] = {
        "channel": threshold.channel,
        threshold.side: threshold.limit,
        "message": threshold.message,
    }
    lines = [f"{key} = {_as_toml(value)}" for key, value in (table | threshold.as_dict()).items()]
    return "\n".join(["[[threshold]]", *lines, ""])


def _as_toml(value: str | float | bool) -> str:
    # What JSON writes for these is TOML, too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
