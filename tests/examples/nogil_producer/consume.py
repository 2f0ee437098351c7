"""The consumer, in Python: takes what the C++ thread pushes, and checks that all of it comes, in order.

    pip install . && python -m consume

in this folder, with a C++17 compiler. (Where f1buf is not on PyPI, install it first, with setuptools and Cython, and
give pip --no-build-isolation.)
"""

import sys
import time

import numpy as np
from nogil_producer import Source

from f1buf import RingBuffer


def main(count: int = 10_000_000) -> None:
    ring = RingBuffer(65_536)
    began = time.perf_counter()
    source = Source(ring, count)
    taken = 0
    for batch in ring.batches():  # until it is shut down and drained
        assert np.array_equal(batch["value"], np.arange(taken, taken + len(batch)))
        taken += len(batch)
    seconds = time.perf_counter() - began
    pushed, _ = source.join()
    assert taken == pushed == count, (taken, pushed, count)
    print(f"{taken} readings in order, {taken / seconds / 1e6:.1f} million/s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
