"""`f1buf run`: simulated sensors, or the user's own."""

import argparse
import importlib
import math
import random
import sys
from collections.abc import Sequence

from f1buf.command.feed import Feed
from f1buf.command.parser import add_common_options, number
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry import Sensor, make_sensors, textbook
from f1buf.telemetry.sources.paced import paced_sensors
from f1buf.telemetry.system import SENSOR_TYPES
from f1buf.telemetry.text import one_line

HELP = "simulated sensors, or your own"
EXAMPLES = """\
examples:
  f1buf run                                      five sensors at 100 Hz, until Ctrl-C
  f1buf run --rate max --buffer-size 65536 --duration 5 --json
  f1buf run --count 6000 --seed 7 --alerts alerts.jsonl
  f1buf run --sensors mymodule:OilPressureSensor --thresholds mine.toml
  f1buf run --classic --duration 20              the textbook's producers and consumers, line by line
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    option, count = parser.add_argument, number(1, math.inf, whole=True)
    option("--count", type=count, metavar="N", help="readings a sensor; then it ends")
    option("--sensors-per-type", type=number(1, 10_000, whole=True), default=1, metavar="N", help="default: 1")
    own = "a sensor class of your own, instead of the five simulated ones; repeatable"
    option("--sensors", type=sensor_class, action="append", metavar="MODULE:CLASS", help=own)
    rate = "readings a second of each sensor, or max (default: 100)"
    option("--rate", type=number(0.001, word="max"), default=100.0, metavar="HZ", help=rate)
    option("--seed", type=number(0, math.inf, whole=True), metavar="N", help="of the simulated sensors")
    lines = "the textbook demonstration, line by line, at its own pace; the buffer holds 20 unless told otherwise"
    option("--classic", action="store_true", help=lines)
    add_common_options(parser, 100, "default")


def sensor_class(text: str) -> type[Sensor]:
    """Import ``module:Class``, from the working directory, too."""
    module_name, _, class_name = text.partition(":")
    if not module_name or not class_name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, class_name, None)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {one_line(error)}"
        raise argparse.ArgumentTypeError(f"{text}: cannot import {module_name}: {said}") from None
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: the module {module_name} has no {class_name}")
    if not (isinstance(found, type) and issubclass(found, Sensor)):
        raise argparse.ArgumentTypeError(f"{text}: expected a subclass of f1buf.telemetry.Sensor")
    return found


def execute(args: argparse.Namespace) -> int:
    """Run the sensors; return the exit status."""
    if args.classic:
        if args.overflow != "block":
            raise UsageError(f"--classic shows how sensors wait for room; leave --overflow {args.overflow} out")
        args.default_buffer_size = textbook.BUFFER_SIZE
    runner = Runner(args)
    types, rate = args.sensors or SENSOR_TYPES, 100.0 if args.rate is None else args.rate
    noise = "uniform" if args.classic else "walk"
    try:
        sensors = make_sensors(args.sensors_per_type, types=types, rate=rate, seed=args.seed, noise=noise)
    except Exception as error:  # a user's own class may raise anything
        raise UsageError(f"--sensors: cannot be made: {type(error).__name__}: {one_line(error)}") from None
    name = f"{len(sensors)} sensors"
    if args.classic:
        return runner.run(textbook_feed(name, runner, args, sensors))
    return runner.run(Feed(name, paced_sensors(sensors, args.rate, args.count)))


def textbook_feed(name: str, runner: Runner, args: argparse.Namespace, sensors: Sequence[Sensor]) -> Feed:
    """Return the textbook demonstration."""
    ring, say, rng = runner.system.ring, runner.console.line, random.Random(args.seed)
    sources = [
        textbook.TextbookSensor(sensor, ring, say, args.count, random.Random(rng.random())) for sensor in sensors
    ]
    return Feed(name, sources, analyzer=textbook.textbook_analyzer(ring, say, rng))
