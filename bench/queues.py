"""f1buf's queues against `queue.SimpleQueue` and those of `queue`: ratios, measured in one process.

How it measures. Every round times each case once, every other round in the opposite order, so that whatever slows the
machine down for a while slows all of them; a first round warms up and is not counted. A ratio is the peer's time over
f1buf's in the same round, above 1 where f1buf is faster; the table shows the rounds' median, and beside it the
quartiles. All cases run the same loops, each with code of its own (`own_copy`), on a new queue each time, with the
collector off; the items exist beforehand. Threads make their items, meet at a barrier and are timed from its release to
the last join; they may run on any core. Calls are written in two ways: "bound" takes the method out of the loop
(``put = q.put``), "q.put" looks it up at each call.

Every run checks its answer once the clock has stopped: with threads that every item arrived once, and each producer's
in its order; with one thread that all were put, that the last to arrive is the last that was put, and that nothing is
left; of a PriorityQueue that what came is what `heapq` gives for the same items.

"must" and "aim" are the ratios that the project sets itself, per interpreter: 3.11 (also for 3.12), 3.13 (and later)
and builds without the GIL. It takes about two minutes; the table is printed, and goes to --json with every run.
"""

import heapq
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from common import (
    INTERPRETERS,
    Pair,
    check_items,
    collector_off,
    compare_pairs,
    comparison_args,
    comparison_parser,
    interpreter,
    own_copy,
    require,
)

import f1buf

CLASSES: dict[str, Callable[..., Any]] = {
    "f1buf.Queue": f1buf.Queue,
    "queue.Queue": queue.Queue,
    "SimpleQueue": lambda maxsize: queue.SimpleQueue(),  # knows no bound
    "f1buf.LifoQueue": f1buf.LifoQueue,
    "LifoQueue": queue.LifoQueue,
    "f1buf.PriorityQueue": f1buf.PriorityQueue,
    "PriorityQueue": queue.PriorityQueue,
}
STYLES = ("bound", "q.put")
BATCH = 64
HUNG_S = 60.0  # a run takes less than a second


@dataclass(frozen=True)
class Case:
    """What is timed: a class, a workload and a style of call."""

    name: str  # of the class
    maxsize: int
    pairs: int  # of a producer and a consumer each; 0: one thread does both
    batch: int  # items a call
    style: str
    items: int  # that a run moves
    inside: int = 0  # that are there before


def items_a_run(name: str, batch: int, quick: bool) -> int:
    """Enough for 20 to 100 ms, so that threads share out several of the GIL's turns of 5 ms; with `quick` a tenth."""
    slow = name in ("queue.Queue", "LifoQueue", "PriorityQueue")  # some 30 times slower
    items = 40_000 if slow else 32_000 * batch if batch > 1 else 1_000_000
    if name == "f1buf.PriorityQueue":
        items = 300_000
    return items // 10 if quick else items


@dataclass(frozen=True)
class Row:
    """A comparison; `must` and `aim` in the order of INTERPRETERS."""

    name: str  # for --only
    title: str
    peer: str
    must: tuple[float, float, float]
    aim: tuple[float, float, float]
    maxsize: int = 0
    pairs: int = 0
    batch: int = 1
    ours: str = "f1buf.Queue"
    inside: int = 0

    def cases(self, style: str, quick: bool) -> tuple[Case, Case]:
        """f1buf's, and the peer's, which has no batches."""
        ours, theirs = (
            Case(name, self.maxsize, self.pairs, batch, style, items_a_run(name, batch, quick), self.inside)
            for name, batch in ((self.ours, self.batch), (self.peer, 1))
        )
        return ours, theirs


ROWS = (
    Row("one", "put and get, one thread, of 1,024", "SimpleQueue", (1.0, 0.9, 0.95), (1.4, 1.0, 1.05), 1024),
    Row("one", "put and get, one thread, of 1,024", "queue.Queue", (20, 20, 20), (30, 30, 30), 1024),
    Row("unbounded-1", "1 and 1 threads, unbounded", "SimpleQueue", (0.9, 0.9, 0.9), (1, 1, 1), 0, 1),
    Row("unbounded-4", "4 and 4 threads, unbounded", "SimpleQueue", (0.9, 0.9, 0.9), (1, 1, 1), 0, 4),
    Row("unbounded-16", "16 and 16 threads, unbounded", "SimpleQueue", (0.9, 0.9, 0.9), (1, 1, 1), 0, 16),
    Row("unbounded-64", "64 and 64 threads, unbounded", "SimpleQueue", (0.9, 0.9, 0.9), (1, 1, 1), 0, 64),
    Row("bounded-1", "1 and 1 threads, of 1,024", "queue.Queue", (15, 15, 15), (25, 25, 25), 1024, 1),
    Row("bounded-4", "4 and 4 threads, of 1,024", "queue.Queue", (10, 10, 5), (18, 18, 10), 1024, 4),
    Row("many", f"put_many and get_many of {BATCH}, same", "queue.Queue", (60,) * 3, (100,) * 3, 1024, 0, BATCH),
    Row("lifo", "put and get, one thread, LIFO", "LifoQueue", (20,) * 3, (30,) * 3, ours="f1buf.LifoQueue"),
    Row(
        *("priority", "same, ints by priority, 1,000 inside", "PriorityQueue", (6,) * 3, (8,) * 3),
        ours="f1buf.PriorityQueue",
        inside=1000,
    ),
)


# The loops: (a queue, what to put or how often). `repeat` is the cheapest thing to loop over, a list comprehension the
# cheapest way to keep all that came, so that what is timed is the queue as far as a loop in Python lets it.


def turns_bound(q: Any, item: object, n: int) -> object:
    put, get = q.put, q.get
    for _ in repeat(None, n):
        put(item)
        last = get()
    return last


def turns_looked_up(q: Any, item: object, n: int) -> object:
    for _ in repeat(None, n):
        q.put(item)
        last = q.get()
    return last


def batches_bound(q: Any, items: list[int], n: int) -> list[int]:
    put_many, get_many = q.put_many, q.get_many
    for _ in repeat(None, n):
        put_many(items)
        last = get_many(BATCH)
    return last


def batches_looked_up(q: Any, items: list[int], n: int) -> list[int]:
    for _ in repeat(None, n):
        q.put_many(items)
        last = q.get_many(BATCH)
    return last


def each_bound(q: Any, items: list[int]) -> list[int]:
    put, get = q.put, q.get
    return [get() for item in items if put(item) is None]


def each_looked_up(q: Any, items: list[int]) -> list[int]:
    return [q.get() for item in items if q.put(item) is None]


def puts_bound(q: Any, items: list[int]) -> None:
    put = q.put
    for item in items:
        put(item)


def puts_looked_up(q: Any, items: list[int]) -> None:
    for item in items:
        q.put(item)


def gets_bound(q: Any, n: int) -> list[int]:
    get = q.get
    return [get() for _ in repeat(None, n)]


def gets_looked_up(q: Any, n: int) -> list[int]:
    return [q.get() for _ in repeat(None, n)]


def time_one_thread(case: Case) -> float:
    """Seconds for `case.items` items, one in the queue at a time, or one batch."""
    q = CLASSES[case.name](case.maxsize)
    bound = case.style == "bound"
    if case.batch > 1:
        shared, what = batches_bound if bound else batches_looked_up, list(range(1000, 1000 + case.batch))
    else:
        shared, what = turns_bound if bound else turns_looked_up, object()
    loop, turns = own_copy(shared, case), case.items // case.batch
    began = time.perf_counter()
    last = loop(q, what, turns)
    seconds = time.perf_counter() - began
    # A lost item would have blocked a get, or come short in a batch and shifted all that follow.
    require(last == what and q.qsize() == 0, case, "the last is not what was put last, or something is left")
    put = getattr(q, "unfinished_tasks", case.items)  # SimpleQueue does not count
    require(put == case.items, case, f"{put} items put, not {case.items}")
    return seconds


def time_priorities(case: Case) -> float:
    """Seconds for `case.items` items, with as many inside all the time."""
    q, rng = CLASSES[case.name](case.maxsize), random.Random(1)
    heap, items = ([rng.randrange(1 << 20) for _ in range(n)] for n in (case.inside, case.items))
    for item in heap:
        q.put(item)
    loop = own_copy(each_bound if case.style == "bound" else each_looked_up, case)
    began = time.perf_counter()
    taken = loop(q, items)
    seconds = time.perf_counter() - began
    heapq.heapify(heap)
    require(taken == [heapq.heappushpop(heap, item) for item in items], case, "not in the order of the priorities")
    return seconds


def time_threads(case: Case) -> float:
    """Seconds for `case.items` items, the same share of them for each producer and each consumer."""
    q = CLASSES[case.name](case.maxsize)
    bound, share = case.style == "bound", case.items // case.pairs
    put_all = own_copy(puts_bound if bound else puts_looked_up, case)
    get_all = own_copy(gets_bound if bound else gets_looked_up, case)
    made: list[list[int]] = []
    taken: list[list[int]] = []
    began: list[float] = []
    barrier = threading.Barrier(2 * case.pairs, action=lambda: began.append(time.perf_counter()))

    def produce(index: int) -> None:
        # Made here, for without the GIL another thread's objects cost atomic operations at every step of the loop;
        # kept outside, so that they are not freed while the clock runs.
        items = list(range(index * share, (index + 1) * share))
        made.append(items)
        barrier.wait()
        put_all(q, items)

    def consume() -> None:
        barrier.wait()
        taken.append(get_all(q, share))

    threads = [threading.Thread(target=consume, daemon=True) for _ in range(case.pairs)]
    threads += [threading.Thread(target=produce, args=(index,), daemon=True) for index in range(case.pairs)]
    for thread in threads:
        thread.start()
    give_up = time.perf_counter() + HUNG_S
    for thread in threads:
        thread.join(max(0.0, give_up - time.perf_counter()))
    ended = time.perf_counter()
    require(not any(thread.is_alive() for thread in threads), case, f"not done after {HUNG_S} s")
    check_items(case, taken, share, case.pairs)
    return ended - began[0]


def run(case: Case, _warm_up: bool) -> float:
    """Nanoseconds an item."""
    with collector_off():
        time_one = time_priorities if case.inside else time_one_thread
        seconds = time_threads(case) if case.pairs else time_one(case)
    return seconds / case.items * 1e9


def main() -> None:
    args = comparison_args(comparison_parser(__doc__, list(dict.fromkeys(row.name for row in ROWS))))
    column = INTERPRETERS.index(interpreter())
    pairs = [
        Pair(
            {"workload": row.title, "call": style, "peer": row.peer},
            *row.cases(style, args.quick),
            row.must[column],
            row.aim[column],
        )
        for row in ROWS
        if args.only in (None, row.name)
        for style in STYLES
    ]
    compare_pairs(args, pairs, run, f"ns an item, put and got; must and aim are those of {interpreter()}")


if __name__ == "__main__":
    main()
