"""Texts for people, made of names, errors and times."""

import re
import time

__all__ = ["clean", "clock", "faithful_text", "is_unix_time", "one_line"]


def clean(text: str) -> str:
    """Return it with what cannot be printed, such as a terminal's control characters, replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


_SURROGATES = re.compile("[\ud800-\udfff]")  # what a Python str can hold, and UTF-8 cannot


def faithful_text(text: str) -> str:
    """Return the text with replacement characters for what UTF-8 cannot hold."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(error: BaseException) -> str:
    """Return an error's message as one line, or the name of its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def clock(seconds: float) -> str:
    """Return a reading's time: session time [s], or the time of day where it is Unix time."""
    if not is_unix_time(seconds):
        return f"{seconds:.3f}"
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%H:%M:%S", time.localtime(whole)) + f".{milliseconds:03}"


def is_unix_time(seconds: float) -> bool:
    """Whether a reading's time is the time of day, and no session time."""
    return 1e9 <= seconds < 1e11
