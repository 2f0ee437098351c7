"""`f1buf listen`: the game's telemetry, live over UDP."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from f1buf.command.feed import ADVICE, Feed, added_up, commonest
from f1buf.command.game import SessionNotices, add_game_options, game_decoder, session_details, session_lines
from f1buf.command.parser import add_common_options, number
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry.errors import ListenError
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.listen import DEFAULT_PORT, Listener

HELP = "the F1 game's telemetry, live over UDP"
EXAMPLES = """\
examples:
  f1buf listen                                   the game runs on this machine
  f1buf listen --host 0.0.0.0 --cars player      ... or on another one, or on a console
  f1buf listen --forward 127.0.0.1:20778         another program wants the datagrams, too
  f1buf listen --session 0282                    of several games in the network the one whose number ends so
  f1buf listen --record race/ --alerts race.jsonl
  f1buf listen --host 0.0.0.0 --web 0.0.0.0:8000    a page for the tablet in the garage, too
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `listen`."""
    option = parser.add_argument
    where = "where to listen: 127.0.0.1 (default) or ::1 for this machine alone, 0.0.0.0 or :: for every network"
    option("--host", default="127.0.0.1", metavar="ADDRESS", help=where)
    port = f"UDP port (default: {DEFAULT_PORT}, the game's); 0 for any that is free"
    option("--port", type=number(0, 65535, whole=True), default=DEFAULT_PORT, metavar="N", help=port)
    further = "pass each datagram on unchanged, for only one program can own the port; repeatable"
    option("--forward", type=destination, action="append", default=[], metavar="HOST:PORT", help=further)
    add_game_options(parser)
    add_common_options(parser, 8192, "f1game")


def destination(text: str) -> tuple[str, int]:
    """Convert ``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if in_brackets else host
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or in_brackets != (":" in host):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT, such as 127.0.0.1:20778 or [::1]:20778")
    return host, int(port)


def execute(args: argparse.Namespace) -> int:
    """Listen until the run is stopped; return the exit status."""
    decoder = game_decoder(args)
    runner = Runner(args)
    try:
        listener = Listener(decoder, args.host, args.port, forward=args.forward)
    except ListenError as error:
        raise UsageError(str(error)) from None
    with listener:
        return runner.run(listen_feed(listener, decoder, lambda: runner.system.readings))


def listen_feed(listener: Listener, decoder: Decoder, readings: Callable[[], int]) -> Feed:
    """Return what the listener hears; `readings` tells how many readings have come of it."""

    def network() -> dict[str, Any]:
        return {
            "datagrams": listener.datagrams,
            "lost": listener.lost,
            "dropped": listener.dropped,
            "forwarded": by_destination(listener.forwarded),
            "not_forwarded": by_destination(listener.not_forwarded),
        }

    def missing() -> dict[str, int]:
        # Numbered datagrams that the kernel dropped are missing, too; nobody can tell the two apart.
        return {"on the network" if not listener.dropped else "on the network or by the kernel": listener.lost}

    def lines() -> Iterator[str]:
        failed = by_destination(listener.not_forwarded)
        for where, count in by_destination(listener.forwarded).items():
            yield f"forwarded  {count:,} to {where}, {failed[where]:,} not"
        yield from session_lines(decoder)
        if not decoder.sessions and (why := commonest(decoder.rejected)) in ADVICE:
            yield f"nothing    {why}: {ADVICE[why]}"

    silence, sessions = Silence(listener, readings), SessionNotices(decoder)
    return Feed(
        listener.name,
        [listener],
        decoder.describe,
        rejected=lambda: added_up(listener.rejected),
        lost_elsewhere=missing,
        lost_here=lambda: {"by the kernel": listener.dropped or 0},
        details=lambda: {"network": network(), **session_details(decoder.sessions)},
        lines=lines,
        notices=lambda: [*silence.notices(), *sessions.notices()],
    )


def by_destination(counts: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """Return counts by destination as people write it."""
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}": count for (host, port), count in counts.items()}


class Silence:
    """Tells people that nothing is heard, or nothing that can be used; the first time also what to do about it.

    `readings` returns how many readings have come of what the listener heard.
    """

    SECONDS = 5.0

    def __init__(self, listener: Listener, readings: Callable[[], int]) -> None:
        self._listener = listener
        self._readings = readings
        self._seen = 0, 0  # readings and datagrams, the last time that there were new readings
        self._since = time.monotonic()  # and when that was
        self._silent = False  # the silence since then has been told
        self._hinted = self._advised = False

    def notices(self) -> Iterator[str]:
        """Yield the lines that are to be said now."""
        if not self._advised:
            self._advised = True
            yield from filter(None, [self._listener.buffer_advice()])
        readings, datagrams = self._readings(), self._listener.datagrams
        if readings != self._seen[0]:
            self._seen, self._since, self._silent = (readings, datagrams), time.monotonic(), False
        elif not self._silent and time.monotonic() - self._since > self.SECONDS:
            self._silent = True
            yield from self._complaint(datagrams - self._seen[1])

    def _complaint(self, datagrams: int) -> Iterator[str]:
        why = commonest(added_up(self._listener.rejected)) if datagrams else ""
        mostly = f", mostly: {why}" if why else ""
        if datagrams:
            yield f"{datagrams:,} datagrams in {self.SECONDS:g} s, but no reading{mostly}"
        else:
            yield f"nothing has been heard for {self.SECONDS:g} s"
        if why in ADVICE:
            yield ADVICE[why]
        elif not self._hinted:
            self._hinted = True
            yield from self._listener.hint()
