"""Series by the line: deep lines where there is room, in several columns where there is little."""

from math import ceil

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment

from f1buf.command.view.board import HISTORY, Board
from f1buf.command.view.drawing import DIM, YELLOW, Line, fit, legend, shortened, width_of
from f1buf.command.view.series import LEAST, ChannelSeries, by_channel, more

_DEEPEST = 4  # lines of one series
_NARROWEST_ENTRY = 37  # characters


def by_the_line(board: Board, rows: list[int], width: int, height: int) -> list[Line]:
    """Each series on lines of its own: `height` lines at most."""
    deep = min((height + 1) // len(rows) - 1, _DEEPEST)
    if deep >= 2:
        return [line for entry in _entries(board, rows, width, deep) for line in (*entry, [])][:-1]
    columns = 1
    while len(rows) > columns * height and (width + 3) // (columns + 1) - 3 >= _NARROWEST_ENTRY:
        columns += 1
    shown = rows if len(rows) <= columns * height else rows[: columns * height - 1]
    if not shown:
        return [more(board, len(rows))]
    entry_width = (width + 3) // columns - 3
    entries = _entries(board, shown, entry_width, 2 if 2 * len(rows) <= height else 1)
    lines = [Segment.adjust_line_length(line, entry_width) for entry in entries for line in entry]
    if len(shown) < len(rows):
        lines.append(more(board, len(rows) - len(shown)))
    count = ceil(len(lines) / columns)
    for column in range(count, len(lines), count):
        for line, right in zip(lines, lines[column : column + count], strict=False):
            line += [Segment("   "), *right]
    return lines[:count]


def _entries(board: Board, rows: list[int], width: int, deep: int) -> list[list[Line]]:
    """For each row `deep` lines."""
    shown = {channel: ChannelSeries(board, channel, its) for channel, its in by_channel(board, rows).items()}
    series = [board.series[row] for row in rows]
    names = [" ".join(filter(None, (shown[each.channel].name, each.part))) for each in series]
    # What each part of a line gets: first what must be there, then what there is room for.
    ids = 0 if series[0].car is not None else max(each.ids for each in shown.values())
    numbers = max(each.scale.width for each in shown.values())
    units = min(max(cell_len(each.unit) for each in shown.values()), 6)
    room = width - (ids + 1) - (2 + numbers) - (1 + units)
    name = min(max(map(cell_len, names)), max(room - 2 * LEAST - 4, min(room - LEAST - 2, 16), 6), 24)
    room -= name
    limits = max(len(each.limits) for each in shown.values()) if deep == 1 else 0
    limits = limits if limits <= min(16, room - 30) else 0
    room -= 2 + limits if limits else 0
    bars = min(max(room // 2 - 2, LEAST), 40) if room >= 2 * LEAST + 4 else 0
    room -= 2 + bars if bars else 0
    courses: dict[int, list[Line]] = {}
    for each in shown.values():
        courses.update(each.courses(min(room - 2, HISTORY), deep))
    entries = []
    for row, its, text in zip(rows, series, names, strict=True):
        channel = shown[its.channel]
        line = [Segment(f"{its.sensor_id:>{ids}} " if ids else " ", DIM), fit(shortened(text, name), name)]
        line += [Segment("  "), channel.number(row, numbers, " " + set_cell_size(channel.unit, units))]
        under = [Segment(" " * (width_of(line) + 2)), *legend(channel.scale, bars)]
        line += [Segment("  "), *channel.bar(row, bars)] if bars else []
        line += [Segment("  "), fit(channel.limits, limits, YELLOW)] if limits else []
        left = [line, under, *[[Segment(" " * width_of(line))]] * (deep - 2)]
        entries.append([[*each, Segment("  "), *course] for each, course in zip(left, courses[row], strict=False)])
    return entries
