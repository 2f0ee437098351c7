"""Make the picture of the live view: a run, and one frame of the view as an SVG.

    python docs/picture.py [--recording FILE] [--seconds S] [--out FILE]

Without a recording of the game the run is of the five simulated sensors, from a seed. The frame is the one that the
command shows after so many seconds of the run's own time. Only the latency in it depends on the machine.
"""

import argparse
import io
import time
from itertools import groupby
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from f1buf import READING, RingBuffer
from f1buf.command.progress import Progress, Said
from f1buf.command.view.board import Board
from f1buf.command.view.layout import frame
from f1buf.command.view.terminal import printable
from f1buf.telemetry import F1TelemetrySystem, make_sensors
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording

WIDTH, HEIGHT = 100, 28  # characters
FRAME = 0.25  # [s] between two frames of the view
AT_ONCE = 50  # readings
RATE = 100  # readings a second of each simulated sensor
BUFFER = 8192  # readings
SEED, SECONDS = 101, 113.0  # the speed is over its limit then, and each sensor was before
BLACK, RED, GREEN, YELLOW = (72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)
BLUE, MAGENTA, CYAN, WHITE = (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)
THEME = TerminalTheme((13, 17, 23), (201, 209, 217), [BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE])
"""GitHub's dark one."""


class Given:
    """A source of readings that are there already."""

    def __init__(self, name, readings):
        self.name = name
        self.readings = readings

    def batches(self, stop):
        for start in range(0, len(self.readings), AT_ONCE):
            yield self.readings[start : start + AT_ONCE]
            time.sleep(0.001)  # the analyzers wait for the next ones, as they do at the run's own pace


def simulated(seconds):
    """What `f1buf run --seed 101` feeds the system with: name, readings in the order of time, thresholds, describe."""
    made = [sensor.read_batch(round(RATE * seconds)) for sensor in make_sensors(rate=RATE, seed=SEED)]
    return "5 sensors", np.stack(made, axis=1).ravel(), "default", None


def replayed(path, seconds):
    """What `f1buf replay` feeds the system with."""
    decoder = Decoder()
    with open_recording(path) as recording:
        readings = np.concatenate([decoder.decode(datagram) for _, datagram in recording.datagrams()])
    end = readings["timestamp"][0] + seconds
    return f"replay of {Path(path).name}", readings[readings["timestamp"] < end], "f1game", decoder.describe


def picture(name, readings, thresholds, describe):
    """The run's last frame, as an SVG."""
    alerts = []
    system = F1TelemetrySystem(BUFFER, thresholds=thresholds, on_alert=alerts.append)
    system.start([Given(name, readings)], 3, describe=describe)
    system.wait()
    system.shutdown()
    board = Board(RingBuffer(BUFFER, READING, overflow="drop_oldest"), system.thresholds, system.describe)
    frames = (readings["timestamp"] - readings["timestamp"][0]) // FRAME
    for number, rows in groupby(range(len(readings)), key=frames.tolist().__getitem__):
        board.ring.put_many(readings[list(rows)])
        board.update(FRAME * number)
    seconds = float(readings["timestamp"][-1] - readings["timestamp"][0])
    progress = Progress(
        name,
        seconds=seconds,
        rate=len(readings) / seconds,
        analysed=system.summary.analysed,
        capacity=BUFFER,
        latency_s=system.latency_s,
        said=Said(alerts, len(alerts)),
    )
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(printable(frame(board, progress, WIDTH, HEIGHT)), end="", soft_wrap=True)
    return console.export_svg(title="f1buf", theme=THEME)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", metavar="FILE", help="an SQLite recording of the game")
    seconds = f"of the run's own time (default: {SECONDS:g})"
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=seconds)
    out = Path(__file__).parent / "_static" / "view.svg"
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help="default: docs/_static/view.svg")
    args = parser.parse_args()
    run = simulated(args.seconds) if args.recording is None else replayed(args.recording, args.seconds)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(picture(*run), encoding="utf-8")


if __name__ == "__main__":
    main()
