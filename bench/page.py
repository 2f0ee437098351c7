"""What the live page costs the analysis: with it and 0, 1 or 20 browsers, against the same without it.

They take turns, at full speed and at 100,000 readings a second; of 20 browsers one never reads. What counts is the
ratio of neighbouring runs: of the readings a second, and at full speed of the processor's time for a reading, which
says more where other programs run. At the fixed rate it is told how much of a processor the page takes. The browsers
are in a process of their own, whose time is not counted. No reading may be lost. It takes a few minutes, and prints the
ratios.
"""

import contextlib
import statistics
import subprocess
import sys
import time

from common import Parser, environment, positive, positive_seconds, print_environment

from f1buf.telemetry import F1TelemetrySystem
from f1buf.web.server import WebPage

BROWSERS = (None, 0, 1, 20)  # None: no page
RATES = {"full speed": None, "100 kHz": 20_000.0}  # of each of five sensors
READER = """
import selectors, socket, sys
port, count = map(int, sys.argv[1:])
selector, read = selectors.DefaultSelector(), 0
connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for number, connection in enumerate(connections):
    connection.sendall(b"GET /events HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
    if number > 0 or count == 1:
        selector.register(connection, selectors.EVENT_READ)
print("ready", flush=True)
while selector.get_map():
    for key, _ in selector.select():
        if not (got := len(key.fileobj.recv(1 << 16))):
            selector.unregister(key.fileobj)
        read += got
print(read)
"""


def run(rate, seconds, browsers):
    """Return readings a second, and seconds of the processor for a million readings."""
    with contextlib.ExitStack() as stack:
        consumers = []
        if browsers is not None:
            consumers.append(stack.enter_context(WebPage()))
        system = F1TelemetrySystem(65_536)
        began = time.process_time()
        system.start_telemetry(rate=RATES[rate], seed=1, consumers=consumers)
        readers = None
        if browsers:
            command = [sys.executable, "-c", READER, str(consumers[0].port), str(browsers)]
            readers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert readers.stdout.readline() == "ready\n"
        system.wait(seconds)
        summary = system.shutdown()
        used = time.process_time() - began
    if readers is not None:
        assert int(readers.communicate()[0]) > 1000 * browsers, "the browsers got next to nothing"
    assert summary.readings == summary.analysed, "readings were lost"
    return summary.readings_per_s, used / summary.readings * 1e6


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", type=positive, default=9, metavar="N", help="rounds (default: 9)")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, metavar="S", help="of each run (default: 2)")
    args = parser.parse_args()
    print_environment(environment())
    for rate in RATES:
        rounds = [{browsers: run(rate, args.seconds, browsers) for browsers in BROWSERS} for _ in range(args.runs)]
        for browsers in BROWSERS[1:]:
            for column, what in enumerate(("readings a second", "processor's time")):
                its = [each[browsers][column] / each[None][column] for each in rounds]
                if rate != "full speed" and column:  # there the processor idles most of the time
                    what = "of a processor"
                    its = [(each[browsers][1] - each[None][1]) * each[None][0] / 1e6 for each in rounds]
                low, middle, high = min(its), statistics.median(its), max(its)
                who = f"{browsers} browser{'s' * (browsers != 1)}"
                print(f"{rate:11} {who:12} {what:18} {middle:.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
