"""How long after a SIGINT a wait ends: f1buf's calls and the standard library's by turns, in one process.

The promise is 100 ms, as soon as the main thread has the GIL. Prints the middle, p99 and the longest of each call [ms],
and checks that nothing was taken. It takes a minute.
"""

import os
import queue
import random
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
from common import Parser, positive

import f1buf


def full(buffer):
    buffer.put(1)
    return buffer


ring, rings_room = f1buf.RingBuffer(1, "i8"), full(f1buf.RingBuffer(1, "i8"))
plain, plains_room = f1buf.Queue(1), full(f1buf.Queue(1))
theirs, theirs_room = queue.Queue(1), full(queue.Queue(1))
CALLS: dict[str, Callable[[], object]] = {
    "RingBuffer.get": ring.get,
    "RingBuffer.put": lambda: rings_room.put(2),
    "Queue.get": plain.get,
    "Queue.put": lambda: plains_room.put(2),
    "queue.Queue.get": theirs.get,
    "queue.Queue.put": lambda: theirs_room.put(2),
}


def delay_of(call: Callable[[], object], pause: float) -> float:
    """How long after a SIGINT that comes so long after its beginning a wait ends [s]."""
    sent: list[float] = []
    begins = threading.Event()

    def send() -> None:
        begins.wait()
        time.sleep(pause)  # into the wait, at any moment of a tick
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        begins.set()  # here, where the SIGINT may come: on a busy machine this thread may stand still for longer
        call()
    except KeyboardInterrupt:
        delay = time.monotonic() - sent[0]
    else:
        raise AssertionError("the wait ended, though nothing was put or taken")
    thread.join()
    return delay


def keep_busy() -> None:
    while True:
        pass


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=50, metavar="N", help="SIGINTs to each call (default: 50)")
    parser.add_argument("--busy", action="store_true", help="beside a thread that never lets the GIL go by itself")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.busy:
        threading.Thread(target=keep_busy, daemon=True).start()
    rng = random.Random(1)
    delays: dict[str, list[float]] = {name: [] for name in CALLS}
    for _ in range(options.rounds):
        for name, call in CALLS.items():
            delays[name].append(1e3 * delay_of(call, 0.05 + 0.05 * rng.random()))
    print("| a wait in | p50 [ms] | p99 [ms] | longest [ms] |\n| --- | --- | --- | --- |")
    for name, each in delays.items():
        print(f"| {name} | {np.median(each):.1f} | {np.quantile(each, 0.99):.1f} | {max(each):.1f} |")
    for buffer, size in ((ring, 0), (plain, 0), (theirs, 0), (rings_room, 1), (plains_room, 1), (theirs_room, 1)):
        assert buffer.qsize() == size


if __name__ == "__main__":
    main()
