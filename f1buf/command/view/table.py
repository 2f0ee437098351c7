"""Series in a table: a column for each channel, and a line for each car or for one sensor of each channel."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment

from f1buf.command.view.board import NOBODY, Board, Rows
from f1buf.command.view.drawing import BOLD, DIM, YELLOW, Line, fit, width_of
from f1buf.command.view.series import LEAST, ChannelSeries, by_channel, more
from f1buf.telemetry import Channel
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.text import clean

_MOST = 24  # characters of a bar or sparkline

Car = tuple[int | None, int | None]  # its session and index
_Cells = Mapping[tuple[Channel, str], int]  # the rows of the board in one line of a table, by channel and part


@dataclass(eq=False)
class _Column:
    """A channel in a table."""

    channel: ChannelSeries
    parts: list[str]
    rows: Rows  # of the board, by line of the table and part
    worst: Rows  # of the board, by line of the table, for one cell
    ids: int  # characters of a sensor's number; 0: not shown
    bar: int = 0  # characters, 0: none
    course: int = 0  # characters, 0: none
    split: bool = False  # a cell for each part, or one for all

    @property
    def cell_width(self) -> int:
        return self.channel.scale.width + sum([1 + each for each in (self.ids, self.bar, self.course) if each])

    @property
    def width(self) -> int:
        count = len(self.parts) if self.split else 1
        return max(count * (self.cell_width + 1) - 1, min(cell_len(self.short_name), 6))

    @property
    def short_name(self) -> str:
        return self.channel.name.partition("_")[0] or self.channel.name

    def head(self) -> list[Segment]:
        """What stands above it: two lines."""
        names, unit, limits = (self.channel.name, self.short_name), self.channel.unit, self.channel.limits
        both = f"{unit} {limits}".strip()
        if self.split:
            parts = " ".join([self._part_name(part) for part in self.parts])
            texts = [[*[f"{name} {both}".strip() for name in names], *names], [parts]]
        else:
            texts = [[*names], [both, limits or unit, limits.replace("|x|", ""), unit]]
        width = self.width
        fitting = [next((text for text in its if cell_len(text) <= width), its[-1]) for its in texts]
        styles = BOLD, DIM if self.split else YELLOW
        return [fit(text, width, style) for text, style in zip(fitting, styles, strict=True)]

    def _part_name(self, part: str) -> str:
        number = self.cell_width if not (self.bar or self.course) else self.channel.scale.width
        text = part if cell_len(part) <= self.cell_width else part[:3]
        return set_cell_size(f"{text:>{number}}", self.cell_width)

    def lines(self, board: Board) -> list[Line]:
        """Its cells."""
        courses = self.channel.courses(self.course)
        return [self._line(board, rows, courses) for rows in (self.rows if self.split else self.worst).tolist()]

    def _line(self, board: Board, rows: list[int], courses: Mapping[int, list[Line]]) -> Line:
        line: Line = []
        for row in rows:
            line += [Segment(" ")] if line else []
            if row == NOBODY:
                line.append(Segment(" " * self.cell_width))
                continue
            line += [Segment(f"{board.series[row].sensor_id:>{self.ids}} ", DIM)] if self.ids else []
            line.append(self.channel.number(row))
            line += [Segment(" "), *self.channel.bar(row, self.bar)] if self.bar else []
            line += [Segment(" "), *courses[row][0]] if self.course else []
        return line


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
        shown = ChannelSeries(board, channel, rows.ravel().tolist())
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
            elif grow([column], "bar", LEAST):
                grow([column], "course", LEAST)
        for column in several:
            if column.split:
                grow([column], "course", LEAST)
    else:
        grow(columns, "course", LEAST // 2)
        grow(columns, "bar", LEAST)
    for attribute in ("course", "bar") * _MOST:
        its = [column for column in columns if 0 < getattr(column, attribute) < _MOST]
        grow(its, attribute, 1)
    return columns


def _table(board: Board, heads: list[Line], cells: Sequence[_Cells], ids: bool, width: int, above: int) -> list[Line]:
    """Lines that begin with `heads`, and `above` lines above them; `ids`: with the numbers of the sensors."""
    head_width = max(map(width_of, heads))
    names: list[Line] = [[Segment(" " * head_width)] for _ in range(2)]
    lines = [Segment.adjust_line_length(head, head_width) for head in heads]
    gap = Segment("  " if head_width else "")
    for column in _arrange(_columns(board, cells, ids), width - head_width):
        for line, name in zip(names, column.head(), strict=True):
            line += [gap, name]
        for line, its in zip(lines, column.lines(board), strict=True):
            line += [gap, *its]
        gap = Segment("  ")
    return [*names[:above], *lines]


def _above(height: int) -> int:
    """How many lines a table has above the first one."""
    return 2 if height >= 6 else 1 if height >= 3 else 0


def cars_table(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """A line for each car of each session, in the order of `rows`."""
    cells: dict[Car, dict[tuple[Channel, str], int]] = {}
    for row in rows:
        series = board.series[row]
        cells.setdefault((series.session, series.car), {})[series.channel, series.part] = row
    above = _above(height)
    shown = list(cells)
    if len(cells) > height - above:
        stale = {car: bool(board.stale(np.array(list(its.values()))).all()) for car, its in cells.items()}
        shown = _shared_out(stale, max(height - above - 1, 1))
    heads = car_heads(board, {car: cells[car].values() for car in shown}, width)
    lines = _table(board, heads, [cells[car] for car in shown], False, width, above)
    return [*lines, more(board, len(cells) - len(shown), " cars")] if len(shown) < len(cells) else lines


def _shared_out(cars: Mapping[Car, bool], count: int) -> list[Car]:
    """Return so many of the cars, in their order: the first one of each session, then the second one, and so on.

    Cars that are not heard any more come last: their game was started again, or is paused.
    """
    sessions: Counter[int | None] = Counter()
    turns = {}
    for (session, car), stale in cars.items():
        turns[session, car] = stale, sessions[session]
        sessions[session] += 1
    chosen = set(sorted(cars, key=turns.__getitem__)[:count])
    return [each for each in cars if each in chosen]


def session_names(board: Board) -> dict[int | None, str]:
    """What to call the sessions, where there are several."""
    sessions = {each.session for each in board.series if each.session is not None}
    return {uid: short_session(uid, sessions) for uid in sessions if len(sessions) > 1}


def car_heads(board: Board, cars: Mapping[Car, Iterable[int]], width: int) -> list[Line]:
    """Each car's driver and lap, by what is known of the latest of its rows; where there are several, its session."""
    known = [board.describe(max(rows, key=board.heard.item)) for rows in cars.values()]
    drivers = [clean(each.get("driver") or "") for each in known]
    laps = ["" if each.get("lap") is None else f" L{each['lap']}" for each in known]
    driver = min(max(map(cell_len, drivers)), 8 if width < 72 else 10 if width < 110 else 18)
    lap = max(map(len, laps)) if width >= 50 else 0
    names = session_names(board)
    sessions = [names.get(session, "") for session, _ in cars]
    wide = max(map(len, sessions))
    sessions = [f"{session:>{wide}} " if wide else "" for session in sessions]
    return [
        [Segment(f"{session}{car:>2} ", DIM), fit(name, driver, BOLD), fit(its_lap, lap, DIM)]
        for session, (_, car), name, its_lap in zip(sessions, cars, drivers, laps, strict=True)
    ]


def sensors_table(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """A column for each channel, with its sensors one below the other."""
    above = _above(height)
    channels = by_channel(board, rows)
    deep = max(map(len, channels.values()))
    if deep > height - above:
        deep = max(height - above - 1, 1)
    cells = [{(channel, ""): its[i] for channel, its in channels.items() if i < len(its)} for i in range(deep)]
    lines = _table(board, [[] for _ in cells], cells, True, width, above)
    left = len(rows) - sum(map(len, cells))
    return [*lines, more(board, left)] if left else lines
