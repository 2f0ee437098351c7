"""A frame: the head, the series, and the newest alerts, in exactly the terminal's size."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from f1buf.command.progress import Progress
from f1buf.command.summary import short_time
from f1buf.command.view.board import Board
from f1buf.command.view.drawing import BOLD, CYAN, DIM, GREEN, OVER, RED, YELLOW, Line, bar, fit, limit_text, width_of
from f1buf.command.view.lines import by_the_line
from f1buf.command.view.series import by_channel
from f1buf.command.view.table import car_heads, cars_table, sensors_table, session_names
from f1buf.telemetry import Alert
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.text import clean, clock

_NARROWEST_COLUMN = 14  # characters of a channel's in a table of sensors


def frame(board: Board, progress: Progress, width: int, height: int) -> list[Line]:
    """Return `height` lines of `width` characters: the progress, the series, and as many alerts as fit."""
    alerts, count, notes = progress.said
    few = max(height // 8, 1)
    lines = [_title(progress, width), *_flowing(_items(progress), width)[:few]]
    lines += [[Segment(clean(text), Style.parse(style))] for text, style in notes[-2 * few :]]
    lines += [[]] if height >= 30 else []
    lines += _body(board, width, max(1, height - len(lines) - (1 + min(few, 6) if height >= 8 else 0)))
    left = height - len(lines) - 1
    if left > 0:
        said = f"── {f'{count:,}' if count else 'no'} alert{'s' * (count != 1)} "
        lines.append([Segment(said + "─" * (width - len(said)), DIM)])
        lines += _alert_lines(alerts[-left:], session_names(board))
    lines += [[]] * (height - len(lines))
    return [Segment.adjust_line_length(line, width) for line in lines[:height]]


def _title(progress: Progress, width: int) -> Line:
    minutes, seconds = divmod(int(progress.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if progress.draining is None:
        passed = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        right = [Segment(f"{passed}  ", BOLD), Segment("Ctrl-C stops", DIM)]
    else:
        right = [Segment(f"draining: {progress.draining:,} left  ", YELLOW + BOLD), Segment("Ctrl-C ends at once", DIM)]
    left = [Segment("f1buf ", CYAN + BOLD), Segment(clean(progress.what), BOLD)]
    room = width - width_of(right) - 1
    return [*Segment.adjust_line_length(left, room), Segment(" "), *right] if room > 0 else right


def _items(progress: Progress) -> list[Line]:
    fill = min(progress.size / progress.capacity, 1.0)
    buffer = bar(round(fill * 20), (), 10, GREEN if fill < 0.5 else YELLOW if fill < 0.9 else OVER)
    p50, p99 = (short_time(progress.latency_s.get(name)) for name in ("p50", "p99"))
    lost = ", ".join([f"{count:,} {clean(where)}" for where, count in progress.losses.items() if count])
    text, style = progress.recorder
    items = [
        [Segment(f"lost {lost}", OVER)] if lost else [],
        [Segment(f"{progress.rate:,.0f} readings/s", BOLD)],
        [Segment(f"{progress.analysed:,} analysed")],
        [Segment("buffer "), *buffer, Segment(f" {progress.size:,}/{progress.capacity:,}")],
        [] if lost else [Segment("nothing lost", GREEN)],
        [Segment(f"latency {p50} p50, {p99} p99")],
        [Segment(f"{progress.rejected:,} rejected", YELLOW)] if progress.rejected else [],
        [Segment(clean(text), Style.parse(style))] if text else [],
    ]
    return [item for item in items if item]


def _flowing(items: list[Line], width: int) -> list[Line]:
    """One item after the other, in as many lines as it takes."""
    lines: list[Line] = [[]]
    for item in items:
        if lines[-1] and width_of(lines[-1]) + 3 + width_of(item) > width:
            lines.append([])
        lines[-1] += [Segment("   "), *item] if lines[-1] else item
    return lines


def _body(board: Board, width: int, height: int) -> list[Line]:
    """All series, in the way that shows most of them: `height` lines at most."""
    order = [(each.sensor_id, each.channel.number, row) for row, each in enumerate(board.series)]
    rows = [row for _, _, row in sorted(order)]
    if not rows:
        return [[Segment("waiting for the first readings", DIM)]]
    cars = {(each.session, each.car) for each in board.series}
    if all(car is not None for _, car in cars):
        if len(cars) == 1 and len(rows) < height:
            return [*car_heads(board, {cars.pop(): rows}, width), *by_the_line(board, rows, width, height - 1)]
        return cars_table(board, rows, width, height)
    channels = len(by_channel(board, rows))
    if len(rows) > height and channels < len(rows) and channels * _NARROWEST_COLUMN <= width:
        return sensors_table(board, rows, width, height)
    return by_the_line(board, rows, width, height)


def _alert_lines(alerts: Sequence[Alert], names: Mapping[int | None, str]) -> list[Line]:
    times = [clock(each.time) for each in alerts]
    origins = [clean(_origin(each, names)) for each in alerts]
    readings = [clean(f"{each.channel} {each.value:.6g} {each.unit}".rstrip()) for each in alerts]
    widths = [max(map(cell_len, texts), default=0) for texts in (times, origins, readings)]
    return [
        [
            Segment(f"{when:>{widths[0]}}  ", DIM),
            fit(origin, widths[1] + 2, BOLD),
            fit(reading, widths[2], OVER if each.kind == "rise" else RED),
            Segment(f" ({limit_text(each.threshold)})  ", DIM),
            Segment(clean(each.message), RED),
        ]
        for each, when, origin, reading in zip(alerts, times, origins, readings, strict=True)
    ]


def _origin(alert: Alert, names: Mapping[int | None, str]) -> str:
    """As `Alert.origin` says it; of several sessions shorter, as the table does, so that the value is seen, too."""
    if alert.session is None or alert.car is None:
        return alert.origin
    session = names.get(alert.session) or short_session(alert.session)
    lap = None if alert.lap is None else f"L{alert.lap}"
    return " ".join(filter(None, (session, str(alert.car), alert.driver, lap, alert.part)))
