"""`f1buf thresholds`: a profile of thresholds as a TOML file, to start from."""

import argparse

from f1buf.command.status import UsageError
from f1buf.command.streams import print_data
from f1buf.telemetry import PROFILES
from f1buf.telemetry.thresholds import dumps

HELP = "print a profile of thresholds to start from"
EXAMPLES = """\
examples:
  f1buf thresholds > mine.toml                   edit it, then: f1buf run --thresholds mine.toml
  f1buf thresholds f1game                        what `listen` and `replay` use unless told otherwise
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the profile's name."""
    parser.add_argument("name", nargs="?", default="default", metavar="NAME", help=f"{', '.join(PROFILES)}")


def execute(args: argparse.Namespace) -> int:
    """Print the profile; return the exit status."""
    if args.name not in PROFILES:
        raise UsageError(f"{args.name!r}: no such profile; expected {' or '.join(PROFILES)}")
    return print_data(args.prog, dumps(PROFILES[args.name]))
