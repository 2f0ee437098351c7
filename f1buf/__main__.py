"""``python -m f1buf``, and the console script: the command `f1buf`."""

import sys
from contextlib import suppress


def main() -> int:
    """Run the command; returns the exit status, also where the command is not there yet, or cannot be."""
    try:
        from f1buf import RingBuffer  # noqa: F401 - first: where there can be none, f1buf says why
        from f1buf.command.cli import main as run
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        if not str(error).startswith("f1buf "):
            raise
        return _refused(error)
    return run()


def _refused(error: ImportError) -> int:
    """Say why f1buf cannot run, in one line on standard error, where that is open."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"f1buf: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
