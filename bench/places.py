"""Whether the place of the caller's array in memory changes how fast a ring copies: some ten seconds.

98,304 bytes (4,096 readings) go into a ring and out of it, between its slots and an array at each of 512 places in a
page of 4,096 bytes. Slots and arrays start on pages or anywhere, as the heap likes; on some processors and C libraries
memcpy is 20 times slower where they lie badly to each other. Prints GB/s at the median place, at the best and at the
slowest, the ratio of the slowest to the median, and where in a page the array lay at the slowest; the same for the
ways in which the comparison's peers copy.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from common import Parser, environment, positive, print_environment

from f1buf import READING, RingBuffer

READINGS = 4096
SIZE = READINGS * READING.itemsize
PLACES = range(0, 4096, 8)


def seconds(copy: Callable[[], object], undo: Callable[[], object], rounds: int) -> float:
    """Return the best of several runs: what the place allows."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - start)
        undo()
    return best


def of_a_ring(array: np.ndarray, ring: RingBuffer, other: np.ndarray, rounds: int) -> tuple[float, float]:
    """Return the seconds of a put of `array`, and of a get into it."""
    put = seconds(lambda: ring.put_many(array), lambda: ring.get_into(other), rounds)
    ring.put_many(other)
    return put, seconds(lambda: ring.get_into(array), lambda: ring.put_many(other), rounds)


def line(name: str, times: list[float]) -> str:
    rates = [SIZE / each / 1e9 for each in times]
    median, slowest = statistics.median(rates), min(rates)
    place = PLACES[rates.index(slowest)]
    return f"{name:44}{median:8.1f}{max(rates):8.1f}{slowest:9.1f}{slowest / median:7.2f}{place:7}"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=15, metavar="N", help="copies at each place (default: 15)")
    rounds = parser.parse_args().rounds
    print_environment(environment())
    memory, other = np.zeros(SIZE + 2 * 4096, "u1"), np.zeros(READINGS, READING)
    memory = memory[-memory.ctypes.data % 4096 :]  # from a page on
    target = np.zeros(SIZE, "u1")
    target_bytes = memoryview(target)
    ways: dict[str, list[float]] = {
        name: []
        for name in (
            "ring.put_many, from it",
            "ring.get_into, to it",
            "bytearray(it), queues of bytes",
            "view[:] = it, recycled arrays",
            "it[:] = bytes, numpy",
        )
    }
    for place in PLACES:
        part = memory[place : place + SIZE]
        ring = RingBuffer(2 * READINGS)
        put, get = of_a_ring(part.view(READING), ring, other, rounds)
        view = memoryview(part)
        others: list[Callable[[], object]] = [
            lambda view=view: bytearray(view),
            lambda view=view: target_bytes.__setitem__(slice(None), view),
            lambda part=part: np.copyto(part, target),
        ]
        times = [put, get, *(seconds(copy, lambda: None, rounds) for copy in others)]
        for way, took in zip(ways.values(), times, strict=True):
            way.append(took)
    print(f"{'copies of 98,304 bytes [GB/s]':44}{'median':>8}{'best':>8}{'slowest':>9}{'ratio':>7}{'at':>7}")
    for name, times in ways.items():
        print(line(name, times))


if __name__ == "__main__":
    main()
