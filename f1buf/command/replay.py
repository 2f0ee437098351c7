"""`f1buf replay`: a recording, at its own speed or another one."""

import argparse

from f1buf.command.parser import add_common_options, number
from f1buf.command.recorded import add_recorded_options, opened
from f1buf.command.runner import Runner

HELP = "a recording, at its own speed or another one"
EXAMPLES = """\
examples:
  f1buf replay race.sqlite3                      as fast as it was recorded
  f1buf replay race.sqlite3 --speed max --json
  f1buf replay race.sqlite3 --speed 5 --web 8000    a page for browsers: http://127.0.0.1:8000/
  f1buf replay race.sqlite3 --speed 20 --cars player --alerts -
  f1buf replay league.sqlite3 --session 0282     of several games the one whose number ends so
  f1buf replay drive.log --dbc car.dbc           a CAN log: candump, .asc, .blf, .mf4 and so on
  f1buf replay drive.log --dbc can0=engine.dbc --dbc can1=body.dbc --ids 100-1FF,18FEF100
  f1buf replay recorded/                         what --record recorded, against the same thresholds
  f1buf replay race.mcap --thresholds f1game     numbers of other programs, in JSON; or an .mf4 with signals
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `replay`."""
    speed, factor = number(0, exclusive=True, word="max"), "times as fast as recorded, or max (default: 1)"
    parser.add_argument("--speed", type=speed, default=1.0, metavar="X", help=factor)
    add_recorded_options(parser, "FILE|DIR")
    said = "f1game; of a folder or an exported .mcap those that it was recorded with; of other files none"
    add_common_options(parser, 8192, "f1game", said)


def execute(args: argparse.Namespace) -> int:
    """Play the file or folder; return the exit status."""
    with opened(args, args.speed) as feed:
        return Runner(args).run(feed)
