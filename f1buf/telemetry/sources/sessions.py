"""Which of the game's sessions are wanted, and which were read: of datagrams and of recorded readings alike."""

from f1buf.telemetry._text import LONGEST_SESSION, SHORTEST_SESSION, fits_session

__all__ = ["checked_session", "is_wanted", "with_session"]

_KEPT = 16  # forged ones may come without end


def checked_session(session: str | int | None) -> str | None:
    """Return a choice of a session as text; None for none."""
    if session is None:
        return None
    text = session if isinstance(session, str) else f"{session:0{SHORTEST_SESSION}}"
    if not (text.isascii() and text.isdigit() and SHORTEST_SESSION <= len(text) <= LONGEST_SESSION):
        raise ValueError(
            f"session is {session!r}: expected a session's number, or at least its last {SHORTEST_SESSION} digits"
        )
    return text


def is_wanted(uid: int, wanted: str | None) -> bool:
    """Say whether a session is the one chosen: its number, or the last digits of it, four at least."""
    return wanted is None or fits_session(wanted, uid)


def with_session(sessions: tuple[int, ...], uid: int) -> tuple[int, ...]:
    """Return sessions in the order in which they came, and this one: the latest 16."""
    return sessions if uid in sessions else (*sessions, uid)[-_KEPT:]
