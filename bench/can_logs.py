"""CAN logs: f1buf's reader and decoder against the loop that a user would write. Ratios, measured in one process.

How it measures: as queues.py. The clock runs from opening the file until the last reading is there; imports, the
database, threads and thresholds are not part of it.

    plain loop   for message in can.LogReader(file): if the database has its id, database.decode_message(id, data), and
                 all its values as floats into a list
    asammdf      (.mf4) MDF.extract_bus_logging with the same database, and every signal's samples
    f1buf        CanLog.frames and CanDecoder.decode

The log is made here: 13 messages at 10 to 100 Hz, as a road car sends them, every other frame one that the database
does not have. `--log` and `--dbc` measure one of yours, written anew by python-can in each format.

Every run checks that as many readings came, and that their sum is the same. "must" is the ratio that the project sets
itself. It takes about five minutes; the table is printed, and goes to --json with every run.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import can
import cantools
import numpy as np
from common import (
    Pair,
    collector_off,
    compare_pairs,
    comparison_args,
    comparison_parser,
)

from f1buf.telemetry.sources.can.decoder import CanDecoder
from f1buf.telemetry.sources.can.log import open_can_log

FRAMES = 80_000
MUST = {"log": 5.0, "asc": 1.5, "blf": 1.5, "trc": 1.5, "csv": 1.5, "mf4": 1.0}  # times as fast, by format
HZ = (100, 100, 100, 100, 50, 50, 50, 20, 20, 10, 10, 10, 10)  # of each message of the log that is made
SIGNALS = ((0, 16), (16, 8), (24, 12))  # start and length in bits, of each message


class Answer(NamedTuple):
    """What a run found."""

    readings: int
    total: float


class Drive(NamedTuple):
    """A log in one format, and the database that names its signals."""

    log: Path
    database: Path


# What is measured -----------------------------------------------------------------------------------------------------


def plain_loop(log: Path, database: Any) -> Answer:
    """By python-can and cantools, frame by frame."""
    known = {message.frame_id for message in database.messages}
    values: list[float] = []
    with can.LogReader(log) as reader:
        for message in reader:
            if message.arbitration_id in known:
                decoded = database.decode_message(message.arbitration_id, message.data, decode_choices=False)
                values += map(float, decoded.values())
    return Answer(len(values), float(np.sum(values)))


def asammdf(log: Path, database: Any) -> Answer:
    """By asammdf's own extraction, into arrays of samples."""
    from asammdf import MDF

    with MDF(log) as mdf, mdf.extract_bus_logging({"CAN": [(database, 0)]}) as extracted:
        samples = [signal.samples for signal in extracted.iter_channels(skip_master=True)]
    return Answer(sum(map(len, samples)), float(np.sum([np.sum(each) for each in samples])))


def f1buf(log: Path, decoder: CanDecoder) -> Answer:
    """By the batch."""
    values = np.concatenate([decoder.decode(frames)["value"] for frames in open_can_log(log).frames()])
    return Answer(len(values), float(np.sum(values)))


def asammdfs_database(file: Path) -> Any:
    from asammdf.blocks.utils import load_can_database

    return load_can_database(file)


# By case: how it gets the database ready, before the clock starts.
LOADED: dict[Callable[[Path, Any], Answer], Callable[[Path], Any]] = {
    plain_loop: cantools.database.load_file,
    asammdf: asammdfs_database,
    f1buf: lambda database: CanDecoder([database]),
}


# The logs -------------------------------------------------------------------------------------------------------------


def made_database() -> str:
    signals = "".join(
        f' SG_ S{n} : {start}|{length}@1{"+-"[n % 2]} ({0.25 * (n + 1)},{-40 * n}) [0|0] "" ECU\n'
        for n, (start, length) in enumerate(SIGNALS)
    )
    messages = "".join(f"BO_ {0x100 + number} M{number}: 8 ECU\n{signals}" for number in range(len(HZ)))
    return f'VERSION ""\nBU_: ECU\n{messages}'


def made_frames(count: int) -> Iterator[can.Message]:
    """Yield a drive's frames, every other one with an id that the database does not have."""
    rng = np.random.default_rng(1)
    shares = np.array(HZ) / sum(HZ)
    numbers = rng.choice(len(HZ), count, p=shares).tolist()
    for n, number in enumerate(numbers):
        data = rng.bytes(8)
        can_id = 0x100 + number if n % 2 else 0x400 + number
        yield can.Message(
            timestamp=1.7e9 + n * 0.000733, arbitration_id=can_id, data=data, is_extended_id=False, channel=0
        )


def write_log(path: Path, frames: list[can.Message]) -> None:
    with can.Logger(path) as logger:
        for frame in frames:
            logger.on_message_received(frame)


def drives(args: Any, folder: Path) -> dict[str, Drive]:
    """Return the log in each format that is to be measured."""
    database = folder / "made.dbc"
    database.write_text(made_database())
    if args.log:
        database = Path(args.dbc)
        with can.LogReader(args.log) as reader:
            frames = list(reader)
    else:
        frames = list(made_frames(FRAMES // 10 if args.quick else FRAMES))
    for frame in frames:
        frame.channel = 0  # not every format has room for a name
    logs = {}
    for name in [args.only] if args.only else MUST:
        if name == "mf4" and importlib.util.find_spec("asammdf") is None:
            print("mf4 is left out: asammdf is not installed")
            continue
        logs[name] = Drive(folder / f"drive.{name}", database)
        write_log(logs[name].log, frames)
    return logs


# The comparison -------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What is timed."""

    read: Callable[[Path, Any], Answer]
    drive: Drive


def timed(case: Case, answers: dict[Drive, Answer]) -> float:
    """Nanoseconds; checks that the answer is the one of all cases of this log."""
    database = LOADED[case.read](case.drive.database)
    with collector_off():
        began = time.perf_counter_ns()
        answer = case.read(case.drive.log, database)
        took = time.perf_counter_ns() - began
    answer = answer._replace(total=round(answer.total, 3))
    if answers.setdefault(case.drive, answer) != answer:
        raise SystemExit(f"{case.drive.log.name}: {case.read.__name__} reads {answer}, not {answers[case.drive]}")
    return took


def main() -> None:
    parser = comparison_parser(__doc__, list(MUST))
    parser.add_argument("--log", metavar="FILE", help="one of yours, instead of the one that is made here")
    parser.add_argument("--dbc", metavar="FILE", help="the database of --log")
    args = comparison_args(parser)
    if (args.log is None) != (args.dbc is None):
        parser.error("--log and --dbc: expected both or neither")
    answers: dict[Drive, Answer] = {}
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for name, drive in drives(args, Path(folder)).items():
            peer = asammdf if name == "mf4" else plain_loop
            cases = Case(f1buf, drive), Case(peer, drive)
            pairs.append(Pair({"format": name, "peer": peer.__name__}, *cases, MUST[name], MUST[name]))
        if pairs:
            compare_pairs(args, pairs, lambda case, _warm_up: timed(case, answers), "ns a log")
    print("readings:", ", ".join(f"{drive.log.name} {answer.readings:,}" for drive, answer in answers.items()))


if __name__ == "__main__":
    main()
