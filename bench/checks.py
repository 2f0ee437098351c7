"""What simulating and checking a reading costs in one thread: prints nanoseconds a reading, the best of several runs.

"quiet" batches are within all limits; in "busy" ones two of the twenty sensors are over theirs the whole time. Batches
are of one channel and sensor, or of five channels and twenty sensors at random. It takes some seconds.
"""

import timeit
from collections.abc import Callable

import numpy as np
from common import Parser

from f1buf.ring.reading import READING
from f1buf.telemetry.sensors import (
    EngineTemperatureSensor,
    FuelLevelSensor,
    GForceSensor,
    SpeedSensor,
    TirePressureSensor,
)
from f1buf.telemetry.thresholds import PROFILES, ThresholdTable, Tracker

SENSORS = (EngineTemperatureSensor, TirePressureSensor, SpeedSensor, GForceSensor, FuelLevelSensor)
CALM = (100.0, 2.1, 300.0, 3.0, 50.0)  # within the limits, in the order of SENSORS
OVER = (115.0, 1.85, 345.0, 5.8, 10.0)
SIZES = (100, 256, 4096)


def ns_a_reading(call: Callable[[], object], readings: int) -> float:
    """Return the best of seven runs of 5 ms or so [ns]."""
    timer = timeit.Timer(call)
    calls = max(1, int(0.005 / (timer.timeit(10) / 10)))
    return min(timer.repeat(7, calls)) / calls / readings * 1e9


def batch(size: int, *, mixed: bool, busy: bool) -> np.ndarray:
    """Return readings of four sensors of each kind at random, or of one speed sensor."""
    sensor = np.random.default_rng(1).integers(0, 20, size) if mixed else np.full(size, 8)
    kind = sensor // 4
    readings = np.zeros(size, READING)
    readings["sensor_id"] = sensor
    readings["channel"] = np.array([each.channel.number for each in SENSORS])[kind]
    over = busy & np.isin(sensor, (1, 8))
    readings["value"] = np.where(over, np.array(OVER)[kind], np.array(CALM)[kind])
    return readings


def main() -> None:
    Parser(__doc__).parse_args()
    print(f"{'read_batch, ns a reading':40}" + "".join(f"{size:>9,}" for size in SIZES) + "     read")
    for noise in ("walk", "uniform"):
        for cls in SENSORS:
            sensor = cls(1, seed=1, noise=noise)
            times = [ns_a_reading(lambda n=size, s=sensor: s.read_batch(n), size) for size in SIZES]
            times.append(ns_a_reading(sensor.read, 1))
            print(f"{cls.__name__ + ', ' + noise:40}" + "".join(f"{each:9.1f}" for each in times))
    table = ThresholdTable(PROFILES["default"])
    for what in ("check", "merge"):
        print(f"\n{what + ', ns a reading':40}" + "".join(f"{size:>9,}" for size in SIZES))
        for mixed in (False, True):
            for busy in (False, True):
                name = f"{'20 sensors' if mixed else '1 sensor'}, {'busy' if busy else 'quiet'}"
                print(f"{name:40}" + "".join(f"{cost(table, what, size, mixed, busy):9.1f}" for size in SIZES))


def cost(table: ThresholdTable, what: str, size: int, mixed: bool, busy: bool) -> float:
    """Return what `check` or `merge` takes for such a batch [ns a reading]."""
    readings = batch(size, mixed=mixed, busy=busy)
    if what == "check":
        return ns_a_reading(lambda: table.check(readings), size)
    tracker, crossings = Tracker(table), table.check(readings)
    return ns_a_reading(lambda: tracker.merge(crossings, 0), size)


if __name__ == "__main__":
    main()
