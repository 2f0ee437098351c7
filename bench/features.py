"""Tries what the documentation's feature table says of culsans, janus, faster-fifo and the standard library's queues.

Each line is one claim; the exit status is 1 where one does not hold. Two lines fork beside busy threads until a child
hangs, which is a matter of luck: "may hang" fails only where none of 400 did. It takes about a minute, and prints only.
"""

import asyncio
import contextlib
import faulthandler
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import culsans
import faster_fifo
import janus
from common import Parser

HUNG_S = 1.0  # what has not ended by then hangs


class OneFace:
    """What threads call of a queue, under the standard names."""

    def __init__(self, q: Any, shutdown: Callable[[], None] | None = None) -> None:
        self.put, self.get, self.whole = q.put, q.get, q
        self.shutdown = shutdown or getattr(q, "shutdown", None) or q.close


def two_faces(q: Any) -> OneFace:
    return OneFace(q.sync_q, q.shutdown)


MAKERS: dict[str, Callable[[int], OneFace]] = {
    "queue.Queue": lambda maxsize: OneFace(queue.Queue(maxsize), lambda: None),
    "SimpleQueue": lambda maxsize: OneFace(queue.SimpleQueue(), lambda: None),
    "culsans": lambda maxsize: two_faces(culsans.Queue(maxsize)),
    "janus": lambda maxsize: two_faces(janus.Queue(maxsize)),
    "faster-fifo": lambda maxsize: OneFace(faster_fifo.Queue((maxsize or 10_000) * 50)),
}
failed = []


def claim(name: str, what: str, holds: bool, seen: object = "") -> None:
    print(f"{'ok' if holds else 'NOT SO':<7}{name:<12} {what} {seen}".rstrip(), flush=True)
    if not holds:
        failed.append((name, what))


def outcome(call: Callable[[], object]) -> type | None:
    """What it raises, as the standard library names it, or None."""
    try:
        call()
    except (queue.Empty, queue.Full) as error:  # culsans raises subclasses
        return queue.Empty if isinstance(error, queue.Empty) else queue.Full
    except BaseException as error:
        return type(error)
    return None


@contextlib.contextmanager
def beside(work: Callable[[], object], threads: int = 1) -> Iterator[list[threading.Thread]]:
    many = [threading.Thread(target=lambda: outcome(work), daemon=True) for _ in range(threads)]
    for thread in many:
        thread.start()
    yield many


def full(q: OneFace) -> type | None:
    return outcome(lambda: [q.put(b"x" * 20, timeout=0.05) for _ in range(50)])


def ctrl_c(get: Callable[[], object]) -> tuple[type | None, float]:
    """How a wait ends after SIGINT, and how much later [s]."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(0.2)  # so that it waits by then
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with beside(send):
        seen = outcome(get)
        return seen, time.monotonic() - sent[0]


def ends_at_shutdown(q: OneFace) -> bool:
    with beside(lambda: q.get(timeout=5)) as (waiter,):
        time.sleep(0.1)  # so that it waits by then
        q.shutdown()
        waiter.join(HUNG_S)
        return not waiter.is_alive()


def turns_beside(wait: Callable[[], object]) -> int:
    """How often this thread goes around while another waits for 0.3 s."""
    with beside(wait) as (waiter,):
        turns = 0
        while waiter.is_alive():
            turns += 1
        return turns


def forks_until_hung(q: OneFace, forks: int = 400) -> int:
    """After how many forks beside three busy threads a child hung; 0: none did."""
    stop = threading.Event()

    def hand_over() -> None:
        while not stop.is_set():
            q.put(1)
            q.get(timeout=1)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with beside(hand_over, 3) as busy:
            for number in range(1, forks + 1):
                time.sleep(0.001)  # so that the others are anywhere
                child = os.fork()
                if child == 0:
                    signal.alarm(2)
                    q.put(2)
                    q.get(timeout=1)
                    os._exit(0)
                if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGALRM:
                    return number
            return 0
    finally:
        stop.set()
        sys.setswitchinterval(before)
        for thread in busy:
            thread.join(2)


def loops_served(q: Any) -> int:
    """How many of three loops that wait on it get an item."""
    got = []

    async def get_one() -> None:
        async with asyncio.timeout(HUNG_S):
            got.append(await q.async_q.get())

    threads = []
    for _ in range(3):
        with beside(lambda: asyncio.run(get_one())) as (thread,):
            threads.append(thread)
            time.sleep(0.1)  # so that it waits by then
    for i in range(3):
        q.sync_q.put(i)
    for thread in threads:
        thread.join(2 * HUNG_S)
    return len(got)


def in_interpreter(code: str, kind: str) -> bool:
    """Whether it runs in a subinterpreter, of a process of its own; Python 3.13 on."""
    script = f"import _interpreters as it; made = it.create({kind!r}); exit(it.exec(made, {code!r}) is not None)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


def claims_of_all(name: str, make: Callable[[int], OneFace]) -> None:
    bound, fifo = name != "SimpleQueue", name == "faster-fifo"
    claim(name, f"is {'' if bound else 'not '}bounded", full(make(10)) == (queue.Full if bound else None))
    claim(name, "get has a timeout", outcome(lambda: make(0).get(timeout=0.05)) == queue.Empty)
    turns = turns_beside(lambda: make(0).get(timeout=0.3))
    claim(name, "waits without the GIL", turns > 100_000, f"({turns:,} turns beside it)")
    seen, after = ctrl_c(lambda: make(0).get(timeout=1.2))
    what = "after its timeout only" if fifo else "at once"
    ended = f"({seen and seen.__name__} after {after:.4f} s)"
    claim(name, f"Ctrl-C ends a wait {what}", after > 0.9 if fifo else after < 0.05, ended)
    if name in ("culsans", "janus", "faster-fifo"):
        claim(name, f"shutdown wakes{' nobody' if fifo else ''}", ends_at_shutdown(make(0)) != fifo)
    whole = make(0).whole
    claim(name, f"has {'' if fifo else 'no '}batches", hasattr(whole, "put_many") == fifo)
    claim(name, "no drop policy, sequence numbers, views", not {"overflow", "dropped", "reserve"} & {*dir(whole)})


def claims_of_two_faces(module: ModuleType) -> None:
    name, q = module.__name__, module.Queue()
    claim(name, "has LIFO and priority queues", hasattr(module, "LifoQueue") and hasattr(module, "PriorityQueue"))
    standard = not hasattr(q, "put") and hasattr(q.sync_q, "join")
    claim(name, "is no queue.Queue, nor has its calls; sync_q has them", standard)
    claim(name, "sync_q has no mutex", not hasattr(q.sync_q, "mutex"))
    code = f"import {name}; q = {name}.Queue(); q.sync_q.put(1); q.sync_q.get()"
    if sys.version_info >= (3, 13):
        claim(name, "works in subinterpreters", all(in_interpreter(code, kind) for kind in ("isolated", "legacy")))


def claims_of_faster_fifo() -> None:
    name, fifo = "faster-fifo", faster_fifo.Queue(10_000)
    process = multiprocessing.get_context("fork").Process(target=fifo.put, args=("from another process",))
    process.start()
    claim(name, "goes between processes", fifo.get(timeout=5) == "from another process")
    process.join()
    thing = [1]
    fifo.put(thing)
    claim(name, "pickles", (back := fifo.get()) == thing and back is not thing)
    claim(name, "waits 10 s by default", faster_fifo.DEFAULT_TIMEOUT == 10)
    if sys.version_info >= (3, 13):
        claim(name, "not in isolated interpreters", not in_interpreter("import faster_fifo", "isolated"))


def main() -> None:
    Parser(__doc__).parse_args()
    faulthandler.dump_traceback_later(240, exit=True)
    for name, make in MAKERS.items():
        claims_of_all(name, make)
    for module in (culsans, janus):
        claims_of_two_faces(module)
    claim("culsans", "any number of loops", loops_served(culsans.Queue()) == 3)
    claim("janus", "one loop", loops_served(janus.Queue()) == 1)
    claim("culsans", "says how many wait", hasattr(culsans.Queue(), "waiting"))
    claims_of_faster_fifo()
    for name, make in MAKERS.items():
        if name == "faster-fifo":  # its threads, as daemons beside the exit, have been seen to corrupt the heap
            continue
        after, hangs = forks_until_hung(make(0)), name != "SimpleQueue"
        claim(name, f"a forked child {'may hang' if hangs else 'goes on'}", bool(after) == hangs, f"(fork {after})")
    print(f"{len(failed)} claims do not hold" if failed else "all hold")
    sys.stdout.flush()
    os._exit(bool(failed))  # threads that wait for what is over are left alone


if __name__ == "__main__":
    main()
