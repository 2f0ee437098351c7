"""The standard streams: data goes to standard output, everything for people to standard error.

Each of them may be closed, full, or read by nobody. Lost data fails the command; a lost line for people does not.
"""

import os
import sys
from contextlib import suppress
from typing import TextIO

from f1buf.command.status import ALERTED, FAILED, OK
from f1buf.telemetry.text import clean


def print_data(prog: str, text: str) -> int:
    """Print data on standard output; return the exit status, after saying what went wrong."""
    problem = write_stdout(text)
    if problem is None:
        return OK
    say_error(f"{prog}: error: {problem}")
    return FAILED


def write_stdout(text: str) -> str | None:
    """Print data on standard output; return what went wrong, or None."""
    if sys.stdout is None:
        return "standard output: closed"
    try:
        print(text, end="", flush=True)
    except OSError as error:
        silence(sys.stdout)
        return f"standard output: {error.strerror}"
    return None


def say_error(text: str) -> None:
    """Print a line on standard error; where that fails, the exit status has to do."""
    if sys.stderr is not None:  # where it is closed, print would turn to standard output
        with suppress(OSError):
            print(clean(text), file=sys.stderr)


def stdout_knows_unicode() -> bool:
    """Whether standard output can take any character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def silence(stream: TextIO) -> None:
    """Throw away what the stream still holds: the interpreter would fail to write it, and end with status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def at_end(status: int) -> int:
    """Flush the standard streams, which the interpreter would do with a status of its own; return the exit status."""
    if sys.stdout is not None and not sys.stdout.closed:
        failed = print_data("f1buf", "")  # a user's own sensor may have printed something
        status = failed if failed and status in (OK, ALERTED) else status
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    return status
