"""Which of the game's sessions are wanted, and which were read: of datagrams and of recorded readings alike."""

__all__ = ["checked_session", "is_wanted", "with_session"]

_KEPT = 16  # forged ones may come without end
_SHORT = 4  # digits of a session's number are enough to name it; see `short_session`


def checked_session(session: str | int | None) -> str | None:
    """Return a choice of a session as text; None for none."""
    text = None if session is None else str(session)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"session is {session!r}: expected a session's number, or at least its last {_SHORT} digits")
    return text


def is_wanted(uid: int, wanted: str | None) -> bool:
    """Say whether a session is the one chosen: its number, or the last digits of it, four at least."""
    return wanted is None or wanted == str(uid) or (len(wanted) >= _SHORT and f"{uid:04}".endswith(wanted))


def with_session(sessions: tuple[int, ...], uid: int) -> tuple[int, ...]:
    """Return the sessions that readings came of, in that order, and this one: the latest 16."""
    return sessions if uid in sessions else (*sessions, uid)[-_KEPT:]
