"""``python -m f1buf``, and the console script: the command `f1buf`."""

import sys


def main() -> int:
    """Run the command; returns the exit status, also where Ctrl-C comes before the command is there to mind it."""
    try:
        from f1buf.command.cli import main as run
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
