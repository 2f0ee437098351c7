"""The game's sessions, live, replayed and recorded: their names, which one is wanted, which were read."""

from collections.abc import Iterable

__all__ = ["checked_session", "is_wanted", "short_session", "with_session"]

_SHORTEST, _LONGEST = 4, 20  # digits by which a session may be named: the last ones of its number
_KEPT = 16  # sessions that are remembered: forged ones may come without end


def checked_session(session: str | int | None) -> str | None:
    """Return a choice of a session as text; None for none."""
    if session is None:
        return None
    text = session if isinstance(session, str) else f"{session:0{_SHORTEST}}"
    if not (text.isascii() and text.isdigit() and _SHORTEST <= len(text) <= _LONGEST):
        raise ValueError(
            f"session is {session!r}: expected a session's number, or at least its last {_SHORTEST} digits"
        )
    return text


def is_wanted(uid: int, wanted: str | None) -> bool:
    """Return whether a session's number, with zeros before it, ends with the chosen digits; True without a choice."""
    return wanted is None or f"{uid:0{_LONGEST}}".endswith(wanted)


def short_session(uid: int, among: Iterable[int] = ()) -> str:
    """Return the last four digits of a session's number, or as many as tell it from the others of `among`."""
    others = [each for each in among if each != uid]
    number = f"{uid:0{_LONGEST}}"
    for count in range(_SHORTEST, _LONGEST):
        if not any(is_wanted(each, number[-count:]) for each in others):
            return number[-count:]
    return number


def with_session(sessions: tuple[int, ...], uid: int) -> tuple[int, ...]:
    """Return `sessions`, which are in the order in which they came, and this one: the latest 16."""
    return sessions if uid in sessions else (*sessions, uid)[-_KEPT:]
