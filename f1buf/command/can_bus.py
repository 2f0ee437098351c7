"""The options of a live CAN bus: python-can's own."""

import argparse
import contextlib
import io
from typing import TYPE_CHECKING, Any, cast

from f1buf.telemetry.errors import CanError
from f1buf.telemetry.sources.can.database import reason_of, require_packages

if TYPE_CHECKING:
    import can

__all__ = ["add_bus_arguments", "open_bus"]


def add_bus_arguments(parser: argparse.ArgumentParser) -> None:
    """Add python-can's own options for a bus to a parser: --interface, --channel, --bitrate and so on.

    What they print on standard output when they are parsed is left out; nonsense is an error of argparse.

    Raises
    ------
    CanError
        python-can or cantools is missing.
    """
    require_packages()
    import can.cli

    can.cli.add_bus_arguments(cast(argparse.ArgumentParser, _Quietly(parser)), filter_arg=True, group_title="CAN bus")


def open_bus(args: argparse.Namespace) -> "can.BusABC":
    """Open the bus that the options of `add_bus_arguments` ask for; python-can's configuration adds to them.

    Returns
    -------
    can.BusABC
        Shut it down, or use it in a ``with`` statement.

    Raises
    ------
    CanError
        There is no such bus, its adapter's driver or package is missing, or python-can or cantools is.
    """
    require_packages()
    import can.cli

    try:
        return can.cli.create_bus_from_namespace(args)
    except argparse.ArgumentError as error:
        reason = reason_of(error.__cause__ or error)
        if reason == 'Unknown interface type "None"':
            reason = "which one? give --interface, such as socketcan, and mostly --channel, such as can0"
        given = [f"{name} {getattr(args, name)}" for name in ("interface", "channel") if hasattr(args, name)]
        raise CanError(f"CAN bus: {', '.join(given)}: {reason}" if given else f"CAN bus: {reason}") from error


# python-can's text is for another program's formatter, and names that program.
_SAID_BETTER = {
    "--filter": {
        "metavar": "ID:MASK",
        "help": "Take only frames whose id is ID in the bits of MASK, both hexadecimal; several: any of them",
    }
}


class _Quietly:
    """Stands in for a parser, or a group of one, while python-can adds its options to it."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def add_argument_group(self, *args: Any, **options: Any) -> "_Quietly":
        return _Quietly(self._target.add_argument_group(*args, **options))

    def add_argument(self, *flags: str, **options: Any) -> Any:
        if isinstance(options.get("action"), type):
            options["action"] = _quiet(options["action"])
        if "choices" in options:  # in the help once, not in each line of the usage
            options["metavar"] = flags[-1].lstrip("-").upper()
            options["help"] += " One of " + ", ".join(options["choices"])
        return self._target.add_argument(*flags, **{**options, **_SAID_BETTER.get(flags[-1], {})})


def _quiet(action: type[argparse.Action]) -> type[argparse.Action]:
    class Quiet(action):  # type: ignore[misc,valid-type]
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    super().__call__(*args, **kwargs)
            except ValueError as error:
                raise argparse.ArgumentError(self, reason_of(error)) from None

    return Quiet
