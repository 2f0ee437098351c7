"""The live view of a run on a terminal: each series against its threshold, how the buffer does, the newest alerts.

How it is divided
    A `Board` keeps what is known of each series; it takes from the ring that the sources' taps fill. `frame` lays out a
    board and a `Status` in exactly the terminal's size; it keeps nothing and prints nothing. `View` has the terminal:
    it draws frames over each other, on the alternate screen, so that the next one covers all of it whatever size it
    takes, and what was there before is there again afterwards.

What is shown of the series
    Of cars a table, one line each; where there are more of them, each session has its share of the lines. Of one car,
    and of other sensors, a line each, deeper ones where there is room, and where there is too little a table, one
    column a channel. What does not fit is counted.

What it costs
    Frames are made by the one thread that calls `View.draw`, four a second at most, and after one that took t seconds
    there is none for 30 t: one takes 3 ms, and five times as long where all threads want the GIL. A frame is text with
    ready-made styles, which rich turns into escape sequences; its own tables would take several times as long.

Names and messages come from anybody: they are never read as markup, and what cannot be printed is replaced.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import ceil, isnan
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.segment import Segment
from rich.style import Style

from f1buf.command.board import HISTORY, NOBODY, Board, Bools, Rows, Scale
from f1buf.command.console import short_time
from f1buf.telemetry import Alert, Channel, Threshold
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.text import clean, clock

__all__ = ["Frame", "Status", "View", "frame"]

Line = list[Segment]

PLAIN, BOLD, DIM = Style(), Style(bold=True), Style(dim=True)
RED, GREEN, YELLOW, CYAN = (Style(color=name) for name in ("red", "green", "yellow", "cyan"))
OVER = RED + BOLD

LEVELS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans(f"━╸─┃{LEVELS}µ…", "=-.| _.-=+*#@u~")
_LOWER = len(LEVELS) - 2  # levels of sparklines in lines on end: the highest is left out, so that they do not touch


# -- pieces of lines --------------------------------------------------------------------------------------------------


def _width(line: Iterable[Segment]) -> int:
    return sum([cell_len(segment.text) for segment in line])


def _padded(text: str, width: int, style: Style = PLAIN) -> Segment:
    return Segment(set_cell_size(text, width), style)


def _shortened(name: str, width: int) -> str:
    """A name that fits; its end stays, by which names of a kind differ."""
    return name if cell_len(name) <= width or width < 8 else f"{set_cell_size(name, width - 4)}…{name[-3:]}"


def _first_that_fits(width: int, *candidates: str) -> str:
    return next((text for text in candidates if cell_len(text) <= width), candidates[-1])


def in_ascii(text: str) -> str:
    """For a terminal that knows no more."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def _limit(threshold: Threshold) -> str:
    sign = ">" if threshold.side == "above" else "<"
    return f"{'|x|' if threshold.absolute else ''}{sign}{threshold.limit:g}"


@lru_cache(4096)
def _bar(halves: int, marks: tuple[int, ...], width: int, style: Style, beyond: str = "") -> Line:
    """A bar of so many half cells, with marks; `beyond` is < or > where the value lies beyond that end."""
    cells = [("━", style)] * (halves // 2) + [("╸", style)] * (halves % 2)
    cells += [("─", DIM)] * (width - len(cells))
    for mark in marks:
        cells[mark] = "┃", style if style == OVER else YELLOW
    if beyond:
        cells[0 if beyond == "<" else -1] = beyond, style
    runs = groupby(cells, key=lambda cell: cell[1])
    return [Segment("".join([text for text, _ in run]), its_style) for its_style, run in runs]


def _value_bar(value: float, scale: Scale, width: int, over: bool) -> Line:
    """A value between the ends of its scale, its limits marked."""
    share = 0.0 if isnan(value) else scale.share(value)
    halves = round(2 * width * min(max(share, 0.0), 1.0))
    marks = tuple([cell for cell, _ in scale.marks(width)])
    return _bar(halves, marks, width, OVER if over else GREEN, "<" if share < 0.0 else ">" if share > 1.0 else "")


def _legend(scale: Scale, width: int) -> Line:
    """What stands under a bar: the limits where they are, and the ends of the range."""
    text = " " * width
    said: list[tuple[int, str, Style]] = []
    ends = [(0, scale.low, DIM), (width, scale.high, DIM)]
    for cell, value, style in [*[(cell, limit, YELLOW) for cell, limit in scale.marks(width)], *ends]:
        number = scale.text(value).strip()
        start = min(max(cell - len(number) // 2, 0), width - len(number))
        stop = start + len(number)
        if start >= 0 and not text[max(start - 1, 0) : stop + 1].strip():
            text = text[:start] + number + text[stop:]
            said.append((start, number, style))
    line, done = [], 0
    for start, number, style in sorted(said, key=lambda each: each[0]):
        line += [Segment(" " * (start - done)), Segment(number, style)]
        done = start + len(number)
    return [*line, Segment(" " * (width - done))]


def _sparklines(board: Board, rows: Rows, width: int, deep: int, scale: Scale) -> list[list[Line]]:
    """How each of these rows got to its value: `deep` lines, from the top down, red where it was over."""
    if width < 1:
        return [[[]] * deep for _ in rows]
    values = board.history[rows, -width:]
    over = board.over(rows, values)
    finite = np.where(np.isfinite(values), values, np.nan)
    low, high = np.fmin.reduce(finite, axis=1), np.fmax.reduce(finite, axis=1)
    # What hardly moves shall not look like a mountain range.
    span = np.fmax(high - low, (scale.high - scale.low) / 20.0)
    share = (finite - ((low + high - span) / 2.0)[:, np.newaxis]) / span[:, np.newaxis]
    steps = len(LEVELS) - 1 if deep > 1 else _LOWER
    top = deep * steps
    height = np.where(np.isnan(share), 0, 1 + np.clip(share * top, 0, top - 1)).astype(np.intp)
    characters = np.array(list(LEVELS))
    texts = [
        characters[np.clip(height - below * steps, 0, steps)].view(f"U{values.shape[1]}").ravel().tolist()
        for below in reversed(range(deep))
    ]
    return [
        [_in_runs(f"{text:>{width}}", its_over) for text in its]
        for its, its_over in zip(zip(*texts, strict=True), over, strict=True)
    ]


def _in_runs(text: str, over: Bools) -> Line:
    if not over.any():
        return [Segment(text, CYAN)]
    line, start = [Segment(text[: len(text) - len(over)])], len(text) - len(over)
    for is_over, run in groupby(over.tolist()):
        stop = start + len(list(run))
        line.append(Segment(text[start:stop], RED if is_over else CYAN))
        start = stop
    return line


# -- the head ---------------------------------------------------------------------------------------------------------


class Status(NamedTuple):
    """How a run does, for the head of the view."""

    what: str
    """What feeds it."""
    seconds: float = 0.0
    """Since it began [s]."""
    rate: float = 0.0
    """Readings analysed a second, of late."""
    analysed: int = 0
    """Readings."""
    size: int = 0
    """Readings in the buffer."""
    capacity: int = 1
    """Of the buffer."""
    latency_s: Mapping[str, float | None] = {}
    """``p50`` and ``p99`` so far [s]."""
    losses: Mapping[str, int] = {}
    """How much was lost, by where: ``"in the buffer"``."""
    rejected: int = 0
    """Datagrams and values that could not be used."""
    recorder: tuple[str, str] = ("", "")
    """What the recorder does, and the style to say it in."""
    draining: int | None = None
    """How many readings are left, once it is to stop."""


def _title(status: Status, width: int) -> Line:
    minutes, seconds = divmod(int(status.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if status.draining is None:
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        right = [Segment(f"{clock}  ", BOLD), Segment("Ctrl-C stops", DIM)]
    else:
        right = [Segment(f"draining: {status.draining:,} left  ", YELLOW + BOLD), Segment("Ctrl-C ends at once", DIM)]
    left = [Segment("f1buf ", CYAN + BOLD), Segment(clean(status.what), BOLD)]
    room = width - _width(right) - 1
    return [*Segment.adjust_line_length(left, room), Segment(" "), *right] if room > 0 else right


def _items(status: Status) -> list[Line]:
    fill = min(status.size / status.capacity, 1.0)
    buffer = _bar(round(fill * 20), (), 10, GREEN if fill < 0.5 else YELLOW if fill < 0.9 else OVER)
    p50, p99 = (short_time(status.latency_s.get(name)) for name in ("p50", "p99"))
    lost = ", ".join([f"{count:,} {clean(where)}" for where, count in status.losses.items() if count])
    items = [
        [Segment(f"{status.rate:,.0f} readings/s", BOLD)],
        [Segment(f"{status.analysed:,} analysed")],
        [Segment("buffer "), *buffer, Segment(f" {status.size:,}/{status.capacity:,}")],
        [Segment(f"latency {p50} p50, {p99} p99")],
    ]
    if lost:
        items.insert(0, [Segment(f"lost {lost}", OVER)])
    else:
        items.insert(3, [Segment("nothing lost", GREEN)])
    if status.rejected:
        items.append([Segment(f"{status.rejected:,} rejected", YELLOW)])
    text, style = status.recorder
    if text:
        items.append([Segment(clean(text), Style.parse(style))])
    return items


def _flowing(items: list[Line], width: int) -> list[Line]:
    """One item after the other, in as many lines as it takes."""
    lines: list[Line] = [[]]
    for item in items:
        if lines[-1] and _width(lines[-1]) + 3 + _width(item) > width:
            lines.append([])
        lines[-1] += [Segment("   "), *item] if lines[-1] else item
    return lines


# -- series -----------------------------------------------------------------------------------------------------------


class _Shown:
    """Series of one channel, ready to be drawn."""

    def __init__(self, board: Board, channel: Channel, rows: Iterable[int]) -> None:
        self._board = board
        self._rows = np.array(sorted(set(rows) - {NOBODY}), np.intp)
        values = board.latest[self._rows]
        self._places = {row: place for place, row in enumerate(self._rows.tolist())}
        self._values, self._over = values.tolist(), board.over(self._rows, values).tolist()
        self._stale = board.stale(self._rows).tolist()
        self.name, self.unit = clean(channel.name), clean(channel.unit)
        self.scale = board.scale(channel, self._rows)
        self.limits = " ".join([_limit(each) for each in board.thresholds if each.channel == channel.name])

    @property
    def ids(self) -> int:
        """Characters of the longest sensor number."""
        return max(len(str(self._board.series[row].sensor_id)) for row in self._places)

    def number(self, row: int, width: int = 0, after: str = "") -> Segment:
        """The row's value."""
        place = self._places[row]
        style = (
            (OVER if self._over[place] else BOLD) if not self._stale[place] else RED + DIM if self._over[place] else DIM
        )
        return Segment(f"{self.scale.text(self._values[place]):>{width}}{after}", style)

    def bar(self, row: int, width: int) -> Line:
        """The row's value between the ends of the channel's range."""
        place = self._places[row]
        return _value_bar(self._values[place], self.scale, width, self._over[place])

    def courses(self, width: int, deep: int = 1) -> dict[int, list[Line]]:
        """For each row `deep` lines that show how it got to its value."""
        lines = _sparklines(self._board, self._rows, width, deep, self.scale)
        return dict(zip(self._places, lines, strict=True))


def _by_channel(board: Board, rows: Iterable[int]) -> dict[Channel, list[int]]:
    found: dict[Channel, list[int]] = {}
    for row in rows:
        found.setdefault(board.series[row].channel, []).append(row)
    return found


def _more(board: Board, count: int, what: str = "") -> Line:
    return [Segment(f"... {'at least ' if board.overfull else ''}{count:,} more{what}", DIM)]


_NARROWEST_COLUMN = 14  # characters of a channel's in a table of sensors


def _body(board: Board, width: int, height: int) -> list[Line]:
    """All series, in the way that shows most of them: `height` lines at most."""
    order = [(each.sensor_id, each.channel.number, row) for row, each in enumerate(board.series)]
    rows = [row for _, _, row in sorted(order)]
    if not rows:
        return [[Segment("waiting for the first readings", DIM)]]
    cars = {(each.session, each.car) for each in board.series}
    if all(car is not None for _, car in cars):
        if len(cars) == 1 and len(rows) < height:
            [head] = _heads(board, {cars.pop(): rows}, width)
            return [head, *_by_the_line(board, rows, width, height - 1)]
        return _cars(board, rows, width, height)
    by_channel = _by_channel(board, rows)
    if len(rows) > height and len(by_channel) < len(rows) and len(by_channel) * _NARROWEST_COLUMN <= width:
        return _sensors(board, rows, width, height)
    return _by_the_line(board, rows, width, height)


# -- series by the line -----------------------------------------------------------------------------------------------

_LEAST = 6  # characters of a bar or sparkline
_DEEPEST = 4  # lines of one series
_NARROWEST_ENTRY = 37  # characters


def _by_the_line(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """Each series on lines of its own: deep ones where there is room, in several columns where there is little."""
    deep = min((height + 1) // len(rows) - 1, _DEEPEST)
    if deep >= 2:
        return [line for entry in _entries(board, rows, width, deep) for line in (*entry, [])][:-1]
    columns = 1
    while len(rows) > columns * height and (width + 3) // (columns + 1) - 3 >= _NARROWEST_ENTRY:
        columns += 1
    shown = rows if len(rows) <= columns * height else rows[: columns * height - 1]
    if not shown:
        return [_more(board, len(rows))]
    entry_width = (width + 3) // columns - 3
    entries = _entries(board, shown, entry_width, 2 if 2 * len(rows) <= height else 1)
    lines = [Segment.adjust_line_length(line, entry_width) for entry in entries for line in entry]
    if len(shown) < len(rows):
        lines.append(_more(board, len(rows) - len(shown)))
    count = ceil(len(lines) / columns)
    for column in range(count, len(lines), count):
        for line, right in zip(lines, lines[column : column + count], strict=False):
            line += [Segment("   "), *right]
    return lines[:count]


def _entries(board: Board, rows: list[int], width: int, deep: int) -> list[list[Line]]:
    """For each row `deep` lines."""
    shown = {channel: _Shown(board, channel, its) for channel, its in _by_channel(board, rows).items()}
    series = [board.series[row] for row in rows]
    names = [" ".join(filter(None, (shown[each.channel].name, each.part))) for each in series]
    # What each part of a line gets: first what must be there, then what there is room for.
    ids = 0 if series[0].car is not None else max(each.ids for each in shown.values())
    numbers = max(each.scale.width for each in shown.values())
    units = min(max(cell_len(each.unit) for each in shown.values()), 6)
    room = width - (ids + 1) - (2 + numbers) - (1 + units)
    name = min(max(map(cell_len, names)), max(room - 2 * _LEAST - 4, min(room - _LEAST - 2, 16), 6), 24)
    room -= name
    limits = max(len(each.limits) for each in shown.values()) if deep == 1 else 0
    limits = limits if limits <= min(16, room - 30) else 0
    room -= 2 + limits if limits else 0
    bars = min(max(room // 2 - 2, _LEAST), 40) if room >= 2 * _LEAST + 4 else 0
    room -= 2 + bars if bars else 0
    courses: dict[int, list[Line]] = {}
    for each in shown.values():
        courses.update(each.courses(min(room - 2, HISTORY), deep))
    entries = []
    for row, its, text in zip(rows, series, names, strict=True):
        channel = shown[its.channel]
        line = [Segment(f"{its.sensor_id:>{ids}} " if ids else " ", DIM), _padded(_shortened(text, name), name)]
        line += [Segment("  "), channel.number(row, numbers, " " + set_cell_size(channel.unit, units))]
        under = [Segment(" " * (_width(line) + 2)), *_legend(channel.scale, bars)]
        line += [Segment("  "), *channel.bar(row, bars)] if bars else []
        line += [Segment("  "), _padded(channel.limits, limits, YELLOW)] if limits else []
        left = [line, under, *[[Segment(" " * _width(line))]] * (deep - 2)]
        entries.append([[*each, Segment("  "), *course] for each, course in zip(left, courses[row], strict=False)])
    return entries


# -- a table of series ------------------------------------------------------------------------------------------------

_MOST = 24  # characters of a bar or sparkline


@dataclass(eq=False)
class _Column:
    """A channel in a table."""

    shown: _Shown
    parts: list[str]
    rows: Rows  # of the board, by line of the table and part
    worst: Rows  # of the board, by line of the table, for one cell
    ids: int  # characters of a sensor's number; 0: not shown
    bar: int = 0  # characters, 0: none
    course: int = 0  # characters, 0: none
    split: bool = False  # a cell for each part, or one for all

    @property
    def cell_width(self) -> int:
        return self.shown.scale.width + sum([1 + each for each in (self.ids, self.bar, self.course) if each])

    @property
    def width(self) -> int:
        count = len(self.parts) if self.split else 1
        return max(count * (self.cell_width + 1) - 1, min(cell_len(self.short_name), 6))

    @property
    def short_name(self) -> str:
        return self.shown.name.partition("_")[0] or self.shown.name

    def head(self) -> tuple[Segment, Segment]:
        """What stands above it: two lines."""
        names, unit, limits, width = (self.shown.name, self.short_name), self.shown.unit, self.shown.limits, self.width
        if self.split:
            above = _first_that_fits(width, *[f"{name} {unit} {limits}".strip() for name in names], *names)
            below = " ".join([self._part_name(part) for part in self.parts])
            return _padded(above, width, BOLD), _padded(below, width, DIM)
        above = _first_that_fits(width, *names)
        below = _first_that_fits(width, f"{unit} {limits}".strip(), limits or unit, limits.replace("|x|", ""), unit)
        return _padded(above, width, BOLD), _padded(below, width, YELLOW)

    def _part_name(self, part: str) -> str:
        number = self.cell_width if not (self.bar or self.course) else self.shown.scale.width
        text = part if cell_len(part) <= self.cell_width else part[:3]
        return set_cell_size(f"{text:>{number}}", self.cell_width)

    def lines(self, board: Board) -> list[Line]:
        """Its cells."""
        courses = self.shown.courses(self.course)
        return [self._line(board, rows, courses) for rows in (self.rows if self.split else self.worst).tolist()]

    def _line(self, board: Board, rows: list[int], courses: Mapping[int, list[Line]]) -> Line:
        line: Line = []
        for row in rows:
            line += [Segment(" ")] if line else []
            if row == NOBODY:
                line.append(Segment(" " * self.cell_width))
                continue
            line += [Segment(f"{board.series[row].sensor_id:>{self.ids}} ", DIM)] if self.ids else []
            line.append(self.shown.number(row))
            line += [Segment(" "), *self.shown.bar(row, self.bar)] if self.bar else []
            line += [Segment(" "), *courses[row][0]] if self.course else []
        return line


_Cells = Mapping[tuple[Channel, str], int]  # the rows of the board in one line of a table, by channel and part


def _columns(board: Board, lines: Sequence[_Cells], ids: bool) -> list[_Column]:
    """A column for each channel, in the order of its sensors' numbers."""
    parts: dict[Channel, dict[str, None]] = {}
    first: dict[Channel, int] = {}
    for line in lines:
        for (channel, part), row in line.items():
            parts.setdefault(channel, {})[part] = None
            first[channel] = min(first.get(channel, 1 << 32), board.series[row].sensor_id)
    columns = []
    for channel in sorted(parts, key=first.__getitem__):
        rows = np.array([[line.get((channel, part), NOBODY) for part in parts[channel]] for line in lines], np.intp)
        shown = _Shown(board, channel, rows.ravel().tolist())
        columns.append(_Column(shown, list(parts[channel]), rows, board.worst(rows), shown.ids if ids else 0))
    return columns


def _arrange(columns: list[_Column], room: int) -> list[_Column]:
    """Give the columns what there is room for; return those that fit at all."""
    columns = list(columns)

    def fits() -> bool:
        return sum([2 + column.width for column in columns]) <= room

    def grow(its: Sequence[_Column], attribute: str, by: int) -> bool:
        """Let all of them have it, or none."""
        for column in its:
            setattr(column, attribute, getattr(column, attribute) + by)
        grown = fits()
        for column in its if not grown else ():
            setattr(column, attribute, getattr(column, attribute) - by)
        return grown

    while len(columns) > 1 and not fits():
        columns.pop()
    single = [column for column in columns if len(column.parts) == 1]
    several = [column for column in columns if len(column.parts) > 1]
    if several:  # of cars: first the speed in full, then each wheel
        for column in (*single[:1], *several, *single[1:]):
            if column in several:
                grow([column], "split", True)
            elif grow([column], "bar", _LEAST):
                grow([column], "course", _LEAST)
        for column in several:
            if column.split:
                grow([column], "course", _LEAST)
    else:
        grow(columns, "course", _LEAST // 2)
        grow(columns, "bar", _LEAST)
    for attribute in ("course", "bar") * _MOST:
        its = [column for column in columns if 0 < getattr(column, attribute) < _MOST]
        grow(its, attribute, 1)
    return columns


def _table(board: Board, heads: list[Line], columns: list[_Column], width: int, above: int) -> list[Line]:
    """Lines that begin with `heads`, and `above` lines above them."""
    head_width = max(map(_width, heads))
    names: list[Line] = [[Segment(" " * head_width)] for _ in range(2)]
    lines = [Segment.adjust_line_length(head, head_width) for head in heads]
    gap = Segment("  " if head_width else "")
    for column in _arrange(columns, width - head_width):
        for line, name in zip(names, column.head(), strict=True):
            line += [gap, name]
        for line, cells in zip(lines, column.lines(board), strict=True):
            line += [gap, *cells]
        gap = Segment("  ")
    return [*names[:above], *lines]


_Car = tuple[int | None, int | None]  # its session and index


def _above(height: int) -> int:
    """How many lines a table has above the first one."""
    return 2 if height >= 6 else 1 if height >= 3 else 0


def _cars(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """A line for each car of each session, in the order of `rows`."""
    cells: dict[_Car, dict[tuple[Channel, str], int]] = {}
    for row in rows:
        series = board.series[row]
        cells.setdefault((series.session, series.car), {})[series.channel, series.part] = row
    above = _above(height)
    cars = list(cells)
    shown = cars
    if len(cars) > height - above:
        stale = {car: bool(board.stale(np.array(list(its.values()))).all()) for car, its in cells.items()}
        shown = _shared_out(stale, max(height - above - 1, 1))
    lines = _table(
        board,
        _heads(board, {car: cells[car].values() for car in shown}, width),
        _columns(board, [cells[car] for car in shown], False),
        width,
        above,
    )
    return [*lines, _more(board, len(cars) - len(shown), " cars")] if len(shown) < len(cars) else lines


def _shared_out(cars: Mapping[_Car, bool], count: int) -> list[_Car]:
    """So many of the cars: the first one of each session, then the second one of each, and so on; in their order.

    Those that are stale come last: they are a game's that was started again, or is paused.
    """
    sessions: Counter[int | None] = Counter()
    turns = {}
    for (session, car), stale in cars.items():
        turns[session, car] = stale, sessions[session]
        sessions[session] += 1
    chosen = set(sorted(cars, key=turns.__getitem__)[:count])
    return [each for each in cars if each in chosen]


def _session_names(board: Board) -> dict[int | None, str]:
    """What to call the sessions, where there are several."""
    sessions = {each.session for each in board.series if each.session is not None}
    return {uid: short_session(uid, sessions) for uid in sessions if len(sessions) > 1}


def _heads(board: Board, cars: Mapping[_Car, Iterable[int]], width: int) -> list[Line]:
    """Who drives each car, and its lap, by what is known of the latest of its rows; of several sessions which."""
    known = [board.describe(max(rows, key=board.heard.item)) for rows in cars.values()]
    drivers = [clean(each.get("driver") or "") for each in known]
    laps = ["" if each.get("lap") is None else f" L{each['lap']}" for each in known]
    driver = min(max(map(cell_len, drivers)), 8 if width < 72 else 10 if width < 110 else 18)
    lap = max(map(len, laps)) if width >= 50 else 0
    names = _session_names(board)
    sessions = [names.get(session, "") for session, _ in cars]
    wide = max(map(len, sessions))
    sessions = [f"{session:>{wide}} " if wide else "" for session in sessions]
    return [
        [Segment(f"{session}{car:>2} ", DIM), _padded(name, driver, BOLD), _padded(its_lap, lap, DIM)]
        for session, (_, car), name, its_lap in zip(sessions, cars, drivers, laps, strict=True)
    ]


def _sensors(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """A column for each channel, with its sensors one below the other."""
    above = _above(height)
    by_channel = _by_channel(board, rows)
    deep = max(map(len, by_channel.values()))
    if deep > height - above:
        deep = max(height - above - 1, 1)
    cells = [{(channel, ""): its[i] for channel, its in by_channel.items() if i < len(its)} for i in range(deep)]
    lines = _table(board, [[] for _ in cells], _columns(board, cells, True), width, above)
    left = len(rows) - sum(map(len, cells))
    return [*lines, _more(board, left)] if left else lines


# -- the whole frame --------------------------------------------------------------------------------------------------


def _origin(alert: Alert, names: Mapping[int | None, str]) -> str:
    """As `Alert.origin` says it; of several sessions shorter, as the table does, so that the value is seen, too."""
    if alert.session is None or alert.car is None:
        return alert.origin
    session = names.get(alert.session) or short_session(alert.session)
    lap = None if alert.lap is None else f"L{alert.lap}"
    return " ".join(filter(None, (session, str(alert.car), alert.driver, lap, alert.part)))


def _alert_lines(alerts: Sequence[Alert], names: Mapping[int | None, str]) -> list[Line]:
    times = [clock(each.time) for each in alerts]
    origins = [clean(_origin(each, names)) for each in alerts]
    readings = [clean(f"{each.channel} {each.value:.6g} {each.unit}".rstrip()) for each in alerts]
    widths = [max(map(cell_len, texts), default=0) for texts in (times, origins, readings)]
    return [
        [
            Segment(f"{when:>{widths[0]}}  ", DIM),
            _padded(origin, widths[1] + 2, BOLD),
            _padded(reading, widths[2], OVER if each.kind == "rise" else RED),
            Segment(f" ({_limit(each.threshold)})  ", DIM),
            Segment(clean(each.message), RED),
        ]
        for each, when, origin, reading in zip(alerts, times, origins, readings, strict=True)
    ]


def frame(
    board: Board,
    status: Status,
    alerts: Sequence[Alert],
    alert_count: int,
    notes: Sequence[tuple[str, str]],
    width: int,
    height: int,
) -> list[Line]:
    """
    Lay out one frame.

    Parameters
    ----------
    board, status : Board, Status
        What to show.
    alerts : sequence of Alert
        The newest ones, the latest last; as many as fit are shown.
    alert_count : int
        How many there were in all.
    notes : sequence of (str, str)
        Lines that want to be seen, the latest last, and their styles.
    width, height : int
        Of the terminal [characters].

    Returns
    -------
    list of list of Segment
        `height` lines of `width` characters.
    """
    few = max(height // 8, 1)
    lines = [_title(status, width), *_flowing(_items(status), width)[:few]]
    lines += [[Segment(clean(text), Style.parse(style))] for text, style in notes[-2 * few :]]
    lines += [[]] if height >= 30 else []
    lines += _body(board, width, max(1, height - len(lines) - (1 + min(few, 6) if height >= 8 else 0)))
    left = height - len(lines) - 1
    if left > 0:
        said = f"── {f'{alert_count:,}' if alert_count else 'no'} alert{'s' * (alert_count != 1)} "
        lines += [
            [Segment(said + "─" * (width - len(said)), DIM)],
            *_alert_lines(alerts[-left:], _session_names(board)),
        ]
    lines += [[]] * (height - len(lines))
    return [Segment.adjust_line_length(line, width) for line in lines[:height]]


class Frame:
    """Lines that rich can print."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._lines[0]
        for line in self._lines[1:]:
            yield Segment.line()
            yield from line


# -- the terminal -----------------------------------------------------------------------------------------------------

_FRAME_SECONDS = 0.25  # [s] between two frames at least
_REST = 30.0  # times as long as a frame took there is none while the sources are at work
_LONGEST_REST = 1.0  # [s]
_ENTER = b"\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE = b"\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l"  # cleared: there are terminals with only one screen
_USUAL_SIZE = os.terminal_size((80, 24))  # where the terminal does not know


class View:
    """
    Draws frames on a terminal; for the main thread alone.

    It takes the alternate screen with the first frame. While the process is stopped by Ctrl-Z or in the background, the
    terminal is the shell's.

    Parameters
    ----------
    console : rich.console.Console
        Of the terminal.
    board : Board
        What to show.
    """

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board
        self._fd = console.file.fileno()
        self._unicode = console.encoding.startswith("utf")
        self._entered = False
        self._due = 0.0  # when the next frame may come
        self._handler = signal.getsignal(signal.SIGTSTP)
        if self._handler is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._on_stop)

    def due(self, now: float) -> bool:
        """Whether it is time for a frame."""
        return now >= self._due

    def draw(
        self, status: Status, alerts: Sequence[Alert], alert_count: int, notes: Sequence[tuple[str, str]], now: float
    ) -> None:
        """Draw a frame, see `frame`; `now` is on the clock of `due`."""
        began = time.perf_counter()
        self._board.update(now)
        if self._in_foreground():
            width, height = self._size()
            self._show(frame(self._board, status, alerts, alert_count, notes, width, height))
        rest = min(_REST * (time.perf_counter() - began), _LONGEST_REST) if status.draining is None else 0.0
        self._due = now + max(_FRAME_SECONDS, rest)

    def _size(self) -> os.terminal_size:
        size = os.get_terminal_size(self._fd)
        return size if min(size) > 0 else _USUAL_SIZE

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # not the terminal that controls the process
            return True

    def _show(self, lines: list[Line]) -> None:
        if not self._unicode:
            lines = [[Segment(in_ascii(text), style) for text, style, _ in line] for line in lines]
        if not self._entered:
            self._entered = True
            os.write(self._fd, _ENTER)
        # What is typed is echoed at the cursor: at home it scrolls nothing.
        self._console.print(Control.home(), Frame(lines), Control.home(), end="", soft_wrap=True)

    def leave(self, *, at_once: bool = False) -> None:
        """Give the terminal back as it was, until the next frame; also for signal handlers.

        Where it is gone, nothing happens, and with `at_once` also where it takes nothing just now.
        """
        if not self._entered:
            return
        self._entered = False
        with suppress(OSError):
            if not at_once or select.select([], [self._fd], [], 0)[1]:
                os.write(self._fd, _LEAVE)

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        signal.signal(signal.SIGTSTP, self._handler)

    def _on_stop(self, signum: int, frame: Any) -> None:
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
