"""f1buf's telemetry system against the plain pattern, in one run.

The plain pattern is what a textbook shows: five threads make readings as dataclasses and put them into a
`queue.Queue`, three threads get them one by one and apply one threshold check each; nothing is printed. f1buf does
the same work as ``f1buf run --rate max --buffer-size 65536`` does it: five simulated sensors, three analyzers, the
default thresholds. Both take turns, several times; the ratio is that of the medians.

    python bench/plain.py [--runs N] [--seconds S] [--json]
"""

import argparse
import json
import os
import platform
import queue
import random
import statistics
import sys
import threading
import time
from dataclasses import dataclass

from f1buf.telemetry import F1TelemetrySystem

BUFFER_SIZE = 65536


@dataclass
class Reading:
    timestamp: float
    sensor_id: int
    data_type: str
    value: float
    unit: str


SENSORS = [
    ("ENGINE_TEMP", "°C", 80.0, 120.0),
    ("TIRE_PRESSURE", "bar", 1.8, 2.5),
    ("SPEED", "km/h", 0.0, 350.0),
    ("G_FORCE", "G", 0.0, 6.0),
    ("FUEL_LEVEL", "%", 0.0, 100.0),
]
OVER = {
    "ENGINE_TEMP": lambda value: value > 110,
    "TIRE_PRESSURE": lambda value: value < 1.9,
    "SPEED": lambda value: value > 340,
    "G_FORCE": lambda value: value > 5.5,
    "FUEL_LEVEL": lambda value: value < 15,
}


def plain(seconds: float) -> float:
    """Readings analysed a second by the plain pattern."""
    buffer: queue.Queue[Reading | None] = queue.Queue(BUFFER_SIZE)
    stop = threading.Event()
    made, analysed = [0] * 5, [0] * 3

    def sense(index: int) -> None:
        data_type, unit, low, high = SENSORS[index]
        n = 0
        while not stop.is_set():
            buffer.put(Reading(n / 100.0, index, data_type, random.uniform(low, high), unit))
            n += 1
        made[index] = n

    def analyse(index: int) -> None:
        n = alerts = 0
        while (reading := buffer.get()) is not None:
            alerts += OVER[reading.data_type](reading.value)
            n += 1
        analysed[index] = n

    sensors = [threading.Thread(target=sense, args=(i,)) for i in range(5)]
    analyzers = [threading.Thread(target=analyse, args=(i,)) for i in range(3)]
    began = time.perf_counter()
    for thread in sensors + analyzers:
        thread.start()
    time.sleep(seconds)  # the length of the measurement
    stop.set()
    for thread in sensors:
        thread.join()
    for _ in analyzers:
        buffer.put(None)
    for thread in analyzers:
        thread.join()
    if sum(made) != sum(analysed):
        raise AssertionError(f"the plain pattern lost readings: {sum(made)} made, {sum(analysed)} analysed")
    return sum(analysed) / (time.perf_counter() - began)


def ours(seconds: float) -> float:
    """Readings analysed a second by f1buf's system."""
    alerts = []
    system = F1TelemetrySystem(BUFFER_SIZE, on_alert=alerts.append)
    summary = system.run(seconds, rate=None)
    if summary.readings != summary.analysed:
        raise AssertionError(f"f1buf lost readings: {summary.readings} made, {summary.analysed} analysed")
    return summary.readings_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each, taking turns (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    plain(0.2), ours(0.2)  # warm-up
    rates: dict[str, list[float]] = {"plain": [], "f1buf": []}
    for _ in range(args.runs):
        rates["plain"].append(plain(args.seconds))
        rates["f1buf"].append(ours(args.seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "python": platform.python_version() + ("" if getattr(sys, "_is_gil_enabled", lambda: True)() else " no GIL"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "readings_per_s": rates,
        "ratio": medians["f1buf"] / medians["plain"],
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, values in rates.items():
        spread = f"min {min(values) / 1e6:.2f}, max {max(values) / 1e6:.2f}"
        print(f"{name:<6} {medians[name] / 1e6:8.2f} M readings/s ({spread})")
    print(f"ratio  {result['ratio']:8.1f} x  (Python {result['python']}, {result['cores']} cores)")


if __name__ == "__main__":
    main()
