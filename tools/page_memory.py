"""Leave the live page open for long, in a real Chromium, and see whether the memory of either side grows.

    python tools/page_memory.py --minutes 60 ../shared/data/f1_2026_race.sqlite3

plays a recording of the game at 20 times its speed, again and again; without a file five sensors make 1,000 readings a
second each. Every half minute it prints what the page's objects and elements come to after a collection, and the memory
of this process, which has the system and the server. It fails where the last quarter is above the second one by more
than a tenth. It needs selenium, and Debian's chromium and chromium-driver.
"""

import argparse
import re
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / each) for each in ("", "browser")]

from browser_helpers import browsing

from f1buf.telemetry import F1TelemetrySystem
from f1buf.telemetry.sensors import make_sensors
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.paced import paced_sensors
from f1buf.web.server import WebPage

SPEED, RATE = 20.0, 1000.0


class Again:
    """A recording of the game, again and again: the time of its session is rewound each time."""

    name = "again"

    def __init__(self, path):
        self.path, self.decoder = path, Decoder()

    def batches(self, stop):
        while not stop.is_set():
            with open_recording(self.path) as recording:
                yield from Replay(recording, self.decoder, SPEED).batches(stop)


def resident():
    """The memory of this process [MB]."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="a recording of the game")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=30.0, metavar="S", help="default: 30")
    args = parser.parse_args()
    again = Again(args.file) if args.file else None
    sources = [again] if again else paced_sensors(make_sensors(1, rate=RATE), RATE, None)
    describe = again.decoder.describe if again else None
    system = F1TelemetrySystem(8192, thresholds="f1game" if again else "default")
    seen = []
    with WebPage(describe=describe, thresholds=system.thresholds) as page, browsing() as browser:
        system.on_alert = page.alert
        system.start(sources, 3, describe=describe, consumers=[page])
        browser.driver.get(page.address)
        ends = time.monotonic() + 60 * args.minutes
        print("minutes  objects MB  elements  this process MB  readings")
        while (now := time.monotonic()) < ends:
            time.sleep(min(args.every, ends - now))
            cdp = browser.driver.execute_cdp_cmd
            cdp("HeapProfiler.collectGarbage", {})
            heap = cdp("Runtime.getHeapUsage", {})["usedSize"] / 2**20
            nodes = cdp("Memory.getDOMCounters", {})["nodes"]
            browser.driver.get_log("performance"), browser.driver.get_log("browser")  # which the driver keeps
            seen.append((heap, nodes, resident()))
            minutes = args.minutes - (ends - time.monotonic()) / 60
            print(f"{minutes:7.1f}  {heap:10.2f}  {nodes:8,}  {seen[-1][2]:15.1f}  {system.readings:,}", flush=True)
        state = browser.text("#state")
        summary = system.shutdown()  # which tells a failure
    assert state == "Live", state
    assert summary.readings == summary.analysed
    quarter = len(seen) // 4
    for what, its in zip(("objects", "elements", "this process"), zip(*seen, strict=True), strict=True):
        before, after = max(its[quarter : 2 * quarter]), max(its[-quarter:])
        assert after <= 1.1 * before + 1, f"{what}: {before:,.1f}, and later {after:,.1f}"


if __name__ == "__main__":
    main()
