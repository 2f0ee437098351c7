"""What the live view costs: full speed with it, in a pseudo-terminal, against the same with ``--plain``.

The two take turns, in processes of their own; the ratio of neighbouring runs is what counts. It takes a minute, and
prints the ratios.
"""

import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import termios
import threading

from common import Parser, environment, positive, positive_seconds, print_environment


def readings_per_second(seconds, *options):
    """Run it in a terminal of 120 columns and 40 lines, whose output is read."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    command = [sys.executable, "-m", "f1buf", "run", "--rate", "max", "--buffer-size", "65536", "--seed", "1"]
    command += ["--duration", str(seconds), "--json", *options]
    terminal = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, stdin=slave, env=terminal)
    os.close(slave)
    shown = []
    reader = threading.Thread(target=read_all, args=(master, shown))
    reader.start()
    summary = json.loads(process.stdout.read())
    process.wait()
    reader.join()
    os.close(master)
    assert ("Ctrl-C stops" in "".join(shown[1:])) or options, "there was no view"
    return summary["readings_per_s"]


def read_all(descriptor, shown):
    while True:
        try:
            shown.append(os.read(descriptor, 1 << 16).decode(errors="replace"))
        except OSError:  # the other end is closed
            return


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", type=positive, default=9, metavar="N", help="pairs of runs (default: 9)")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, metavar="S", help="of each run (default: 2)")
    args = parser.parse_args()
    print_environment(environment())
    ratios = []
    for _ in range(args.runs):
        plain = readings_per_second(args.seconds, "--plain")
        viewed = readings_per_second(args.seconds)
        ratios.append(viewed / plain)
        print(f"plain {plain / 1e6:6.1f} M/s   with the view {viewed / 1e6:6.1f} M/s   {ratios[-1]:.3f}", flush=True)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"with the view, of the speed without: median {middle:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
