"""Series by channel, ready to be drawn."""

from collections.abc import Iterable

import numpy as np
from rich.segment import Segment

from f1buf.command.view.board import NOBODY, Board
from f1buf.command.view.drawing import BOLD, DIM, OVER, RED, Line, limit_text, sparklines, value_bar
from f1buf.telemetry import Channel
from f1buf.telemetry.text import clean

LEAST = 6  # characters of a bar or sparkline


class ChannelSeries:
    """The series of one channel."""

    def __init__(self, board: Board, channel: Channel, rows: Iterable[int]) -> None:
        self._board = board
        self._rows = np.array(sorted(set(rows) - {NOBODY}), np.intp)
        values = board.latest[self._rows]
        self._places = {row: place for place, row in enumerate(self._rows.tolist())}
        self._values, self._over = values.tolist(), board.over(self._rows, values).tolist()
        self._stale = board.stale(self._rows).tolist()
        self.name, self.unit = clean(channel.name), clean(channel.unit)
        self.scale = board.scale(channel, self._rows)
        self.limits = " ".join([limit_text(each) for each in board.thresholds if each.channel == channel.name])

    @property
    def ids(self) -> int:
        """Characters of the longest sensor number."""
        return max(len(str(self._board.series[row].sensor_id)) for row in self._places)

    def number(self, row: int, width: int = 0, after: str = "") -> Segment:
        """The row's value."""
        place = self._places[row]
        over, stale = self._over[place], self._stale[place]
        style = (RED + DIM if over else DIM) if stale else OVER if over else BOLD
        return Segment(f"{self.scale.text(self._values[place]):>{width}}{after}", style)

    def bar(self, row: int, width: int) -> Line:
        """The row's value between the ends of the channel's range."""
        place = self._places[row]
        return value_bar(self._values[place], self.scale, width, self._over[place])

    def courses(self, width: int, deep: int = 1) -> dict[int, list[Line]]:
        """For each row `deep` lines that show its course to its value."""
        lines = sparklines(self._board, self._rows, width, deep, self.scale)
        return dict(zip(self._places, lines, strict=True))


def by_channel(board: Board, rows: Iterable[int]) -> dict[Channel, list[int]]:
    """The rows of each channel."""
    found: dict[Channel, list[int]] = {}
    for row in rows:
        found.setdefault(board.series[row].channel, []).append(row)
    return found


def more(board: Board, count: int, what: str = "") -> Line:
    """Says how many do not fit."""
    return [Segment(f"... {'at least ' if board.overfull else ''}{count:,} more{what}", DIM)]
