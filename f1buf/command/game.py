"""What `replay` and `listen` of the game share: the choice of cars and a session, and what is said of sessions."""

import argparse
from collections.abc import Iterator, Sequence

from f1buf.command.status import UsageError
from f1buf.telemetry.sessions import short_session
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.parquet import ParquetReplay
from f1buf.telemetry.text import one_line


def add_game_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose cars and a session."""
    parser.add_argument("--cars", type=cars, metavar="WHICH", help="player, all (default), or 0,5,21")
    session = "of several of the game's sessions this one alone: its number, or the last digits of it, four at least"
    parser.add_argument("--session", metavar="N", help=session)


def cars(text: str) -> str | list[int]:
    """Convert ``all``, ``player`` or a list such as ``0,5,21``."""
    if text in ("all", "player"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected all, player or car numbers such as 0,5,21") from None


def game_decoder(args: argparse.Namespace) -> Decoder:
    """Return a decoder of the game's datagrams for the cars and the session that were chosen."""
    try:
        return Decoder("all" if args.cars is None else args.cars, args.session)
    except ValueError as error:
        raise UsageError(f"--{one_line(error)}") from None


def session_details(sessions: Sequence[int]) -> dict[str, list[str]]:
    """Return what the JSON summary says of sessions: their numbers, where there are several."""
    return {"sessions": list(map(str, sessions))} if len(sessions) > 1 else {}


def session_lines(source: Decoder | ParquetReplay) -> Iterator[str]:
    """Yield what the summary for people says of several sessions, or of those heard instead of the chosen one."""
    if len(source.sessions) > 1:
        yield f"sessions   {', '.join(map(str, source.sessions))}"
    elif source.others and not source.sessions:
        yield f"sessions   heard, but not read: {', '.join(map(str, source.others))}"


class SessionNotices:
    """Tells people of the sessions that a source reads, from the second one on, and how many digits tell them apart."""

    MOST = 16  # forged ones may come without end

    def __init__(self, source: Decoder | ParquetReplay) -> None:
        self._source = source
        self._said: set[tuple[int, str]] = set()  # sessions, and the digits that name them
        self._is_one_wanted = source.session is not None

    def notices(self) -> Iterator[str]:
        """Yield the lines that are to be said now."""
        sessions = self._source.sessions
        if len(sessions) < 2:
            return
        if self._is_one_wanted:
            self._is_one_wanted = False
            yield f"--session {self._source.session} fits more than one session that is heard"
        for uid in sessions:
            said = uid, short_session(uid, sessions)
            if said not in self._said and len(self._said) < self.MOST:
                self._said.add(said)
                yield f"session {uid} is read; --session {said[1]} reads it alone"
