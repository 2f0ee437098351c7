"""Texts for people: names come from anybody, errors from anywhere."""

import time
from collections.abc import Iterable

__all__ = ["LONGEST_SESSION", "SHORTEST_SESSION", "clean", "clock", "fits_session", "one_line", "short_session"]


def clean(text: str) -> str:
    """Return it fit to be printed: what is not printable, such as a terminal's control characters, replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line whatever it says; the name of its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


SHORTEST_SESSION, LONGEST_SESSION = 4, 20
"""Digits by which a session may be named: the last ones of its number."""


def fits_session(digits: str, uid: int) -> bool:
    """Tell whether a session's number, with zeros before it, ends so."""
    return f"{uid:0{LONGEST_SESSION}}".endswith(digits)


def short_session(uid: int, among: Iterable[int] = ()) -> str:
    """Return the last digits of a session's number: what people call it, and may tell `Decoder` to read.

    They are four, or as many as tell it from the others of `among`.
    """
    others = [each for each in among if each != uid]
    number = f"{uid:0{LONGEST_SESSION}}"
    for count in range(SHORTEST_SESSION, LONGEST_SESSION):
        if not any(fits_session(number[-count:], each) for each in others):
            return number[-count:]
    return number


def clock(seconds: float) -> str:
    """Return a reading's time: session time [s], or the time of day where it is Unix time."""
    if not 1e9 <= seconds < 1e11:
        return f"{seconds:.3f}"
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%H:%M:%S", time.localtime(whole)) + f".{milliseconds:03}"
