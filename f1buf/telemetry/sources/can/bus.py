"""Live CAN buses, by python-can."""

import argparse
import contextlib
import io
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from f1buf.telemetry.sources.can.decoder import CanDecoder, CanError, reason_of, require_packages
from f1buf.telemetry.sources.can.frames import Frames

if TYPE_CHECKING:
    import can

__all__ = ["CanBus", "add_bus_arguments", "open_bus"]

Array = NDArray[Any]

_LISTEN = 0.05  # [s] at once: how often it looks whether to stop
AT_ONCE = 256  # frames put together at most, so that under load it still looks
AT_THE_STOP = 100_000  # frames taken after the stop at most: all that a bus holds, but not for ever what still comes


class CanBus:
    """
    A live bus as a source.

    At the stop it takes what the bus has received until then, and ends. What the bus raises, as when the adapter is
    pulled out, ends it, too; the readings before that are not lost.

    Parameters
    ----------
    bus : can.BusABC
        Open; to be shut down by whoever opened it, after this source has ended.
    decoder : CanDecoder
        What turns frames into readings, and counts those that it cannot use.
    """

    def __init__(self, bus: "can.BusABC", decoder: CanDecoder) -> None:
        known = bus.channel_info not in ("", "unknown")
        self.name = f"CAN bus ({bus.channel_info if known else type(bus).__name__})"
        self._bus = bus
        self._decoder = decoder

    def batches(self, stop: threading.Event) -> Iterator[Array]:
        """Yield readings as they come in; their timestamps are the bus's, Unix time [s] for most adapters."""
        try:
            yield from self._batches(stop)
        finally:
            self._decoder.finish()

    def _batches(self, stop: threading.Event) -> Iterator[Array]:
        left = AT_THE_STOP
        while left > 0:
            stopping = stop.is_set()  # before looking: what came before the stop is seen
            messages, failure = self._received(0.0 if stopping else _LISTEN)
            frames = Frames.of_messages(messages, self._decoder.rejected)
            if len(readings := self._decoder.decode(frames)):
                yield readings
            if failure is not None:
                raise failure
            if stopping:
                left = left - len(messages) if messages else 0

    def _received(self, timeout: float) -> "tuple[list[can.Message], Exception | None]":
        """Wait for a frame; return it, those that are there behind it, and what the bus raised after these."""
        messages: list[can.Message] = []
        try:
            while len(messages) < AT_ONCE and (message := self._bus.recv(timeout)) is not None:
                messages.append(message)
                timeout = 0.0
        except Exception as error:
            return messages, error
        return messages, None


# The command line -----------------------------------------------------------------------------------------------------


def add_bus_arguments(parser: argparse.ArgumentParser) -> None:
    """Add python-can's own options for a bus to a parser: --interface, --channel, --bitrate and so on.

    What they print on standard output when they are parsed is left out, and what they raise for nonsense is an error of
    argparse.

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


# Its own text is meant for another program's formatter and speaks of that program.
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
