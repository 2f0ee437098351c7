"""CAN logs: f1buf's reader and decoder against the loop that a user would write. Ratios, measured in one process.

How it measures. As queues.py: every round times each case once, every other round in the opposite order; a first round
warms up and is not counted. A ratio is the loop's time over f1buf's in the same round, above 1 where f1buf is faster;
shown is the rounds' median, and beside it the quartiles. The clock runs from opening the file until the last reading is
there; imports, the database, threads and thresholds are not part of it.

    plain loop   for message in can.LogReader(file): if the database has its id, database.decode_message(id, data), and
                 all its values as floats into a list
    asammdf      (.mf4) MDF.extract_bus_logging with the same database, and every signal's samples
    f1buf        CanLog.frames and CanDecoder.decode

The log is made here: 13 messages at 10 to 100 Hz, as a road car sends them, every other frame one that the database
does not have. `--log` and `--dbc` measure one of yours, written anew by python-can in each format.

Every run checks that as many readings came, and that their sum is the same. "must" is the ratio that the project sets
itself.

    python bench/can_logs.py [--runs N] [--quick] [--only FORMAT] [--log FILE --dbc FILE] [--json FILE]
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
    by_turns,
    collector_off,
    compared,
    comparison_args,
    comparison_parser,
    environment,
    print_environment,
    write_json,
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


def timed(read: Callable[[Path, Any], Answer], drive: Drive, answers: set[Answer]) -> float:
    database = LOADED[read](drive.database)
    with collector_off():
        began = time.perf_counter_ns()
        answer = read(drive.log, database)
        took = time.perf_counter_ns() - began
    answers.add(answer._replace(total=round(answer.total, 3)))
    if len(answers) > 1:
        raise SystemExit(f"{drive.log.name}: the cases differ in what they read: {sorted(answers)}")
    return took


def measure(name: str, drive: Drive, runs: int) -> dict[str, Any]:
    peer = asammdf if name == "mf4" else plain_loop
    answers: set[Answer] = set()
    times = by_turns([f1buf, peer], runs, lambda case, warm_up: timed(case, drive, answers))
    line = compared(times[f1buf], times[peer], MUST[name], MUST[name])
    return {"format": name, "peer": peer.__name__, "readings": answers.pop().readings, **line}


def main() -> None:
    parser = comparison_parser(__doc__, list(MUST))
    parser.add_argument("--log", metavar="FILE", help="one of yours, instead of the one that is made here")
    parser.add_argument("--dbc", metavar="FILE", help="the database of --log")
    args = comparison_args(parser)
    if (args.log is None) != (args.dbc is None):
        parser.error("--log and --dbc: expected both or neither")
    about = environment(args.runs)
    print_environment(about)
    print(f"{'format':<8}{'against':<14}{'readings':>10}{'f1buf':>10}{'peer':>10}{'ratio':>8}  quartiles    must")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, drive in drives(args, Path(folder)).items():
            line = measure(name, drive, args.runs)
            lines.append(line)
            low, high = line["quartiles"]
            print(
                f"{name:<8}{line['peer']:<14}{line['readings']:>10,}{line['f1buf_ns'] / 1e6:>7.1f} ms"
                f"{line['peer_ns'] / 1e6:>7.1f} ms{line['ratio']:>8.2f}  {low:.2f}-{high:.2f}  {line['must']:>6.1f}"
                f"  {line['mark'] if line['ratio'] < line['must'] else 'reached'}"
            )
    write_json(args, about, lines)


if __name__ == "__main__":
    main()
