"""How the command ends: its exit statuses, and the error that stands for bad usage."""

OK, FAILED, BAD_USAGE, ALERTED, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """Bad usage or unreadable input: one line, status 2."""
