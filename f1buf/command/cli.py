"""The command `f1buf`: its sub-commands, and the exit status.

Standard output carries only data (``--json``, ``--alerts -``, ``thresholds``); everything for people goes to standard
error. Exit status: 130 after a second Ctrl-C, else 2 for bad usage and unreadable input, else 1 where something failed
(a sensor, an analyzer, the recorder, the view) or was lost on this machine, else 3 with ``--fail-on-alert`` if there
was an alert, else 0.
"""

import argparse
import sys
from collections.abc import Sequence

from f1buf.command import attach, broker, can, export, listen, replay, report, run, subscribe, thresholds
from f1buf.command.parser import Parser, Version
from f1buf.command.status import BAD_USAGE, INTERRUPTED, UsageError
from f1buf.command.streams import at_end, say_error
from f1buf.telemetry.errors import CanError

COMMANDS = {
    "run": run,
    "replay": replay,
    "export": export,
    "report": report,
    "listen": listen,
    "can": can,
    "attach": attach,
    "subscribe": subscribe,
    "broker": broker,
    "thresholds": thresholds,
}
"""Each has HELP, EXAMPLES, `add_options` and `execute`."""


def build_parser(command: str | None = None) -> Parser:
    """Return the parser of the whole command; only the sub-command that will be parsed has its options."""
    parser = Parser(prog="f1buf", description="Telemetry through a ring buffer that loses nothing.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    layout = argparse.RawDescriptionHelpFormatter
    for name, module in COMMANDS.items():
        added = commands.add_parser(name, help=module.HELP, epilog=module.EXAMPLES, formatter_class=layout)
        added.set_defaults(check=lambda args: None, execute=module.execute, prog=added.prog)
        if name == command:
            module.add_options(added)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    return at_end(run_arguments(sys.argv[1:] if argv is None else list(argv)))


def run_arguments(arguments: list[str]) -> int:
    """Run the sub-command that the arguments name."""
    prog = "f1buf can"  # only its options need packages that may be missing
    try:
        command = next((each for each in arguments if not each.startswith("-")), None)
        args = build_parser(command).parse_args(arguments)
        prog = args.prog
        args.check(args)
        status: int = args.execute(args)
    except (UsageError, CanError) as error:
        say_error(f"{prog}: error: {error}")
        return BAD_USAGE
    except KeyboardInterrupt:  # while the user's sensors were imported, or before the system ran
        return INTERRUPTED
    return status
