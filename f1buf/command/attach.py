"""`f1buf attach`: the readings that another process shares by ``--share``."""

import argparse

from f1buf.command.feed import Feed
from f1buf.command.parser import add_common_options, number, path_name
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry.sharing import SharingError
from f1buf.telemetry.sources.shared import SharedSource

HELP = "what another process shares by --share"
EXAMPLES = """\
examples:
  f1buf attach race                              what `f1buf listen --share race` hears, in a process of its own
  f1buf attach race --timeout 60 --record race/  wait until somebody shares, then record it
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `attach`."""
    parser.add_argument("name", type=path_name, metavar="NAME", help="as the other process' --share has it")
    wait = "how long to wait until somebody shares by this name (default: not at all)"
    parser.add_argument("--timeout", type=number(0), metavar="S", help=wait)
    add_common_options(parser, 8192, "default", "the other process'")


def execute(args: argparse.Namespace) -> int:
    """Analyse what is shared until that ends; return the exit status."""
    try:
        source = SharedSource(args.name, args.timeout)
    except SharingError as error:
        raise UsageError(str(error)) from None
    args.default_thresholds = source.thresholds
    feed = Feed(
        f"{source.source}, {source.name}",
        [source],
        source.describe,
        item="reading",
        lost_here=lambda: {f"in the shared ring {args.name}": source.missed},
    )
    return Runner(args).run(feed)
