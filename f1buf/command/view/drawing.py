"""What lines are made of: text that fits, bars, and sparklines."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from math import isnan

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from f1buf.command.view.board import Board, Bools, Rows
from f1buf.command.view.scale import Scale
from f1buf.telemetry import Threshold

Line = list[Segment]

PLAIN, BOLD, DIM = Style(), Style(bold=True), Style(dim=True)
RED, GREEN, YELLOW, CYAN = (Style(color=name) for name in ("red", "green", "yellow", "cyan"))
OVER = RED + BOLD

LEVELS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans(f"━╸─┃{LEVELS}µ…", "=-.| _.-=+*#@u~")
_LOWER = len(LEVELS) - 2  # of sparklines one line deep: without the highest level neighbouring lines do not touch


def width_of(line: Iterable[Segment]) -> int:
    """Characters of a line."""
    return sum([cell_len(segment.text) for segment in line])


def fit(text: str, width: int, style: Style = PLAIN) -> Segment:
    """Text in exactly `width` characters."""
    return Segment(set_cell_size(text, width), style)


def shortened(name: str, width: int) -> str:
    """A name that fits; it keeps its end, because the ends tell names of a kind apart."""
    return name if cell_len(name) <= width or width < 8 else f"{set_cell_size(name, width - 4)}…{name[-3:]}"


def in_ascii(text: str) -> str:
    """The text for a terminal that knows no other characters."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def limit_text(threshold: Threshold) -> str:
    """A threshold's limit, short."""
    sign = ">" if threshold.side == "above" else "<"
    return f"{'|x|' if threshold.absolute else ''}{sign}{threshold.limit:g}"


def in_runs(text: str, styles: Iterable[Style]) -> Line:
    """Text with a style for each character, in as few segments as it takes."""
    line, start = [], 0
    for style, run in groupby(styles):
        stop = start + len(list(run))
        line.append(Segment(text[start:stop], style))
        start = stop
    return line


@lru_cache(4096)
def bar(halves: int, marks: tuple[int, ...], width: int, style: Style, beyond: str = "") -> Line:
    """A bar of so many half cells, with marks; `beyond` is < or > where the value lies beyond that end."""
    text = list(f"{'━' * (halves // 2)}{'╸' * (halves % 2)}".ljust(width, "─"))
    styles = [DIM if cell == "─" else style for cell in text]
    for mark in marks:
        text[mark], styles[mark] = "┃", style if style == OVER else YELLOW
    if beyond:
        end = 0 if beyond == "<" else -1
        text[end], styles[end] = beyond, style
    return in_runs("".join(text), styles)


def value_bar(value: float, scale: Scale, width: int, over: bool) -> Line:
    """A value between the ends of its scale, its limits marked."""
    share = 0.0 if isnan(value) else scale.share(value)
    halves = round(2 * width * min(max(share, 0.0), 1.0))
    marks = tuple([cell for cell, _ in scale.marks(width)])
    return bar(halves, marks, width, OVER if over else GREEN, "<" if share < 0.0 else ">" if share > 1.0 else "")


def legend(scale: Scale, width: int) -> Line:
    """What stands under a bar: the limits where they are, and the ends of the range."""
    text, styles = " " * width, [PLAIN] * width
    ends = [(0, scale.low, DIM), (width, scale.high, DIM)]
    for cell, value, style in [*[(cell, limit, YELLOW) for cell, limit in scale.marks(width)], *ends]:
        number = scale.text(value).strip()
        start = min(max(cell - len(number) // 2, 0), width - len(number))
        stop = start + len(number)
        if start >= 0 and not text[max(start - 1, 0) : stop + 1].strip():
            text = text[:start] + number + text[stop:]
            styles[start:stop] = [style] * len(number)
    return in_runs(text, styles)


def sparklines(board: Board, rows: Rows, width: int, deep: int, scale: Scale) -> list[list[Line]]:
    """The course of each of these rows to its value: `deep` lines, from the top down, red where it was over."""
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
        [_course(f"{text:>{width}}", its_over) for text in its]
        for its, its_over in zip(zip(*texts, strict=True), over, strict=True)
    ]


def _course(text: str, over: Bools) -> Line:
    if not over.any():
        return [Segment(text, CYAN)]
    before = len(text) - len(over)
    return [Segment(text[:before]), *in_runs(text[before:], [RED if each else CYAN for each in over.tolist()])]
