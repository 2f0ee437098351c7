"""The workloads: plain functions, each of which runs once, checks its answer and says what it took.

`compare.py` and the suites `bench_*.py` call them. Threads prepare what they need, meet at a barrier and are timed
from its release to the last join; the collector is off meanwhile.
"""

import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import numpy as np
from common import Usage, collector_off, cpus, own_copy, pin, require, usage
from native import limits
from peers import FORK, PEERS, DequeWithConditions, Flow, Job, numbered_blocks
from pipelines import PIPELINES, Pipeline

import f1buf
from f1buf import READING, RingBuffer
from f1buf.core import sync  # type: ignore[attr-defined]
from f1buf.telemetry.sensors import make_sensors
from f1buf.telemetry.thresholds import ThresholdTable, Tracker, load_thresholds

HUNG_S = 120.0
RECORD = (1.5, 7, 2, 0, 311.25)


@dataclass
class Run:
    """What one run came to."""

    amount: int  # records, or whatever the workload counts
    seconds: float
    used: Usage
    samples: Any = None  # nanoseconds, where latency is measured
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.amount / self.seconds

    def as_dict(self) -> dict[str, Any]:
        row = {"amount": self.amount, "seconds": self.seconds, **self.used._asdict(), **self.extra}
        return row if self.samples is None else {**row, "ns": quantiles(self.samples)}


QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def quantiles(samples: Any) -> dict[str, float]:
    return {name: float(np.quantile(samples, q, method="higher")) for name, q in QUANTILES.items()}


class Crew:
    """Threads (and processes) that start together; the first that fails is raised where they are waited for."""

    def __init__(self, size: int, *, processes: bool = False) -> None:
        self._barrier: Any = FORK.Barrier(size) if processes else threading.Barrier(size)
        self._threads: list[threading.Thread] = []
        self._children: list[tuple[Any, Any]] = []
        self._failures: list[BaseException] = []
        self._stamps: list[float] = []
        self._before: list[Usage] = []

    def thread(self, prepare: Callable[[], Callable[[], Any]], cpu: int | None = None) -> None:
        """Will run what `prepare` returns."""

        def body() -> None:
            try:
                pin(cpu)
                work = prepare()
                self._before.append(usage())
                self._barrier.wait(HUNG_S)
                self._stamps.append(time.perf_counter())
                work()
            except BaseException as error:
                self._failures.append(error)
                self._barrier.abort()

        self._threads.append(threading.Thread(target=body, daemon=True))

    def process(self, prepare: Callable[[], Callable[[], Any]], cpu: int | None = None) -> None:
        """The same in a forked child; its preparation is not counted."""
        receive, send = FORK.Pipe(duplex=False)

        def body() -> None:
            pin(cpu)
            work = prepare()
            send.send(usage())
            self._barrier.wait(HUNG_S)
            work()

        self._children.append((FORK.Process(target=body, daemon=True), receive))

    def run(self) -> tuple[float, Usage]:
        """Seconds, and what was used."""
        with collector_off():
            with warnings.catch_warnings():
                # Python 3.12 and later warn of numpy's idle threads; ours have not started yet.
                warnings.simplefilter("ignore", DeprecationWarning)
                for child, _ in self._children:
                    child.start()
            for thread in self._threads:
                thread.start()
            give_up = time.perf_counter() + HUNG_S
            for thread in self._threads:
                thread.join(max(0.0, give_up - time.perf_counter()))
            ended = time.perf_counter()
            for child, _ in self._children:
                child.join(max(0.0, give_up - time.perf_counter()))
            used = usage().since(max(self._before))
        for child, receive in self._children:
            require(child.exitcode == 0, "a child process", f"ended with {child.exitcode}")
            used = used.since(receive.recv())
        if self._failures:
            raise self._failures[0]
        require(not any(t.is_alive() for t in self._threads), "a run", f"not done after {HUNG_S} s")
        return ended - min(self._stamps), used


# -- throughput -----------------------------------------------------------------------------------------------------


def move(flow: Flow, records: int, *, full: bool = False) -> Run:
    """Move records (a multiple of `flow.unit`) from producers to consumers; `full`: look at each that arrives."""
    require(records % flow.unit == 0, flow, f"{records} is no multiple of {flow.unit}")
    peer = PEERS[flow.peer]
    job = Job(flow, records, full, peer.make(flow))
    crew = Crew(flow.producers + flow.consumers, processes=peer.processes)
    cpu = cpus()[0] if flow.one_core else None
    for _ in range(flow.consumers):
        crew.thread(lambda: peer.consume(job), cpu)
    for index in range(flow.producers):
        (crew.process if peer.processes else crew.thread)(lambda index=index: peer.produce(job, index), cpu)
    with spinning(flow.spins):
        seconds, used = crew.run()
    job.verify()
    return Run(records, seconds, used)


@contextmanager
def spinning(allowed: bool) -> Iterator[None]:
    before = None if allowed else sync._spin_for(0)
    try:
        yield
    finally:
        if before is not None:
            sync._spin_for(before)


def move_by_memcpy(flow: Flow, records: int) -> Run:
    """The limit: the same bytes copied twice, into a place of the ring's size and out of it, by one thread."""
    blocks, out = numbered_blocks(flow, 0), np.zeros(flow.batch, READING)
    slots = np.zeros(max(flow.capacity, flow.batch), READING)
    crew = Crew(1)
    copy = limits().two_memcpys
    crew.thread(lambda: lambda: copy(blocks, slots, out, records // flow.batch))
    seconds, used = crew.run()
    last = blocks[(records // flow.batch - 1) % len(blocks)]
    require(bool((out == last).all()), flow, "memcpy did not copy")
    return Run(records, seconds, used)


def put_only(name: str, records: int, *, capacity: int = 65536) -> Run:
    """One thread puts; the buffer is emptied between the rounds, while the clock stands."""
    fill, empty = PUTS[name](capacity)
    seconds, used = 0.0, Usage(0, 0, 0)
    with collector_off():
        for turn in range(records // capacity + 1):
            before, began = usage(), time.perf_counter()
            fill()
            took, spent = time.perf_counter() - began, usage().since(before)
            if turn:  # the first touches the memory
                seconds, used = seconds + took, Usage(*map(sum, zip(used, spent, strict=True)))
            empty()
    return Run(records // capacity * capacity, seconds, used)


def put_over_and_over(put: Callable[[Any], None], what: list[Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        for one in what:
            put(one)


def _ring_of_tuples(capacity: int) -> tuple[Callable[[], None], Callable[[], None]]:
    ring, out = RingBuffer(capacity), np.zeros(capacity, READING)
    tuples = [(1.5, 7, 2, 0, float(n)) for n in range(64)]
    loop, numbers = own_copy(put_over_and_over, "ring"), np.tile(np.arange(64.0), capacity // 64)

    def empty() -> None:
        require(ring.get_into(out) == capacity, "RingBuffer.put", "records are missing")
        require(bool((out["value"] == numbers).all()), "RingBuffer.put", "records are out of order")

    return lambda: loop(ring.put, tuples, capacity // 64), empty


def _queue_of_objects(make: Callable[[int], Any]) -> Callable[[int], tuple[Callable[[], None], Callable[[], None]]]:
    def start(capacity: int) -> tuple[Callable[[], None], Callable[[], None]]:
        q, items = make(capacity), [object() for _ in range(64)]
        loop = own_copy(put_over_and_over, make)

        def empty() -> None:
            taken = [q.get() for _ in repeat(None, capacity)]
            require(taken == items * (capacity // 64) and q.qsize() == 0, make, "items are missing or out of order")

        return lambda: loop(q.put, items, capacity // 64), empty

    return start


PUTS: dict[str, Callable[[int], tuple[Callable[[], None], Callable[[], None]]]] = {
    "ring": _ring_of_tuples,
    "queue.Queue": _queue_of_objects(queue.Queue),
    "SimpleQueue": _queue_of_objects(lambda capacity: queue.SimpleQueue()),
    "f1buf.Queue": _queue_of_objects(f1buf.Queue),
}


# -- latency: there and back ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trip:
    """One record there and one back, between two threads, each kept on its CPU."""

    peer: str
    cores: int  # 1 or 2


def ping(put: Callable[[Any], Any], get: Callable[[], Any], items: list[Any], times: list[int]) -> int:
    """Put, wait for the answer; returns how many answers were wrong."""
    clock, wrong = time.perf_counter_ns, 0
    for item in items:
        began = clock()
        put(item)
        got = get()
        times.append(clock() - began)
        if got != item:
            wrong += 1
    return wrong


def pong(get: Callable[[], Any], put: Callable[[Any], Any], n: int) -> None:
    for _ in repeat(None, n):
        put(get())


def ping_ring(put: Any, get_into: Any, out: Any, seen: Any, records: list[Any], times: list[int]) -> None:
    clock = time.perf_counter_ns
    for record in records:
        began = clock()
        put(record)
        get_into(out)
        times.append(clock() - began)
        seen(1)


def pong_ring(get_into: Any, put: Any, out: Any, seen: Any, records: list[Any]) -> None:
    for record in records:
        get_into(out)
        put(record)
        seen(1)


def round_trips(trip: Trip, n: int) -> Run:
    """Nanoseconds of n round trips, each from before the put to after the get."""
    here, there = cpus()[0], cpus()[trip.cores - 1]
    if trip.peer in ("C condition variable", "C spinning flag"):
        return _round_trips_in_c(trip, n, here, there)
    if trip.peer == "ring":
        return _round_trips_of_ring(trip, n, here, there)
    peer = PEERS[trip.peer]
    flow = Flow(trip.peer, capacity=1024)
    to, back = peer.make(flow), peer.make(flow)
    items, times, wrong = list(range(n)), [], []  # type: ignore[var-annotated]
    crew = Crew(2, processes=peer.processes)
    crew.thread(lambda: lambda: wrong.append(own_copy(ping, trip)(to.put, back.get, items, times)), here)
    other = lambda: lambda: own_copy(pong, trip)(to.get, back.put, n)  # noqa: E731
    (crew.process if peer.processes else crew.thread)(other, there)
    seconds, used = crew.run()
    require(wrong == [0] and len(times) == n, trip, f"{wrong} wrong answers")
    return Run(n, seconds, used, np.array(times))


def _round_trips_of_ring(trip: Trip, n: int, here: int, there: int) -> Run:
    to, back = RingBuffer(1024), RingBuffer(1024)
    records = [(1.5, 7, 2, 0, float(i)) for i in range(n)]
    outs = [np.zeros(1, READING), np.zeros(1, READING)]
    checkers = [limits().Checker(out, cycle=n) for out in outs]
    times: list[int] = []
    crew = Crew(2)
    crew.thread(
        lambda: lambda: own_copy(ping_ring, trip)(to.put, back.get_into, outs[0], checkers[0].ends, records, times),
        here,
    )
    crew.thread(
        lambda: lambda: own_copy(pong_ring, trip)(to.get_into, back.put, outs[1], checkers[1].ends, records), there
    )
    seconds, used = crew.run()
    for checker in checkers:
        require(checker.count == n and checker.wrong == 0, trip, f"{checker.wrong} of {checker.count} were wrong")
    return Run(n, seconds, used, np.array(times))


def _round_trips_in_c(trip: Trip, n: int, here: int, there: int) -> Run:
    times = np.zeros(n, "i8")
    trips = limits().c_round_trips
    before, began = usage(), time.perf_counter()
    trips(trip.peer == "C spinning flag", times, here, there)
    seconds = time.perf_counter() - began
    require(bool((times > 0).all()), trip, "a round trip took no time")
    return Run(n, seconds, usage().since(before), times)


# -- latency: sensors at a pace -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """Sensors that each put single readings at a rate; one consumer.

    A reading's latency counts from the moment it was scheduled for, whenever the sensor's thread came to put it.
    """

    peer: str
    sensors: int
    rate: float  # readings a second of each
    busy: int = 0  # threads beside it that only compute, in Python
    capacity: int = 65536

    @property
    def period(self) -> float:
        return 1 / self.rate


TICK_S = 1e-3  # what has become due in the meantime is put one by one
TAKE = 4096  # the most that is taken at once


def sense(put: Callable[[Any], Any], pace: Pace, index: int, start: float, n: int) -> None:
    """Put n readings, each (scheduled time, sensor, channel, flags, number), as they become due."""
    clock, sleep, period = time.perf_counter, time.sleep, pace.period
    k, due = 0, start
    while k < n:
        now = clock()
        if now < due:
            sleep(max(due - now, TICK_S))
            now = clock()
        while due <= now and k < n:
            put((due, index, 2, 0, float(k)))
            k += 1
            due = start + k * period


def take_records(get_into: Callable[[Any], int], n: int, arrived: list[Any]) -> None:
    clock, out = time.perf_counter, np.zeros(TAKE, READING)
    while n > 0:
        k = get_into(out)
        arrived.append((clock(), out[:k].copy()))
        n -= k


def take_singly(get: Callable[[], Any], n: int, arrived: list[Any]) -> None:
    clock = time.perf_counter
    for _ in repeat(None, n):
        got = get()
        arrived.append((clock(), got))


def take_lists(get_many: Callable[[int], Any], n: int, arrived: list[Any]) -> None:
    clock = time.perf_counter
    while n > 0:
        got = get_many(TAKE)
        arrived.append((clock(), got))
        n -= len(got)


class Nowhere:
    """Notes when each reading is put: by how much the sensors are late themselves, whatever carries their readings."""

    def __init__(self, capacity: int) -> None:
        self._arrived: list[Any] = []

    def put(self, reading: Any) -> None:
        self._arrived.append((time.perf_counter(), reading))

    def wait(self, n: int) -> list[Any]:
        while len(self._arrived) < n:
            time.sleep(TICK_S)  # it polls: waking a consumer is what is left out here
        return self._arrived


def wait_for_all(wait: Callable[[int], list[Any]], n: int, arrived: list[Any]) -> None:
    arrived += wait(n)


def compute(stop: threading.Event) -> None:
    n = 0
    while not stop.is_set():
        for _ in range(1000):
            n += 1


PACED: dict[str, tuple[Callable[[int], Any], str, Callable[..., None]]] = {
    "ring": (RingBuffer, "get_into", take_records),
    "f1buf.Queue": (f1buf.Queue, "get_many", take_lists),
    "queue.Queue": (queue.Queue, "get", take_singly),
    "SimpleQueue": (lambda capacity: queue.SimpleQueue(), "get", take_singly),
    "deque": (DequeWithConditions, "get_many", take_lists),
    "nowhere": (Nowhere, "wait", wait_for_all),
}


def paced(pace: Pace, seconds: float) -> Run:
    """Latencies [ns] of all readings that the sensors make in so many seconds."""
    make, method, take = PACED[pace.peer]
    channel, each = make(pace.capacity), max(1, int(seconds * pace.rate))
    n, arrived, stop = each * pace.sensors, [], threading.Event()  # type: ignore[var-annotated]
    others = [threading.Thread(target=compute, args=(stop,), daemon=True) for _ in range(pace.busy)]
    crew = Crew(pace.sensors + 1)
    crew.thread(lambda: lambda: own_copy(take, pace)(getattr(channel, method), n, arrived))
    start: list[float] = []
    lock = threading.Lock()

    def begin(index: int) -> None:
        with lock:  # all count from the same moment, a fraction of a period apart
            start[:] = start or [time.perf_counter() + 0.01]
        own_copy(sense, pace)(channel.put, pace, index, start[0] + index / pace.sensors * pace.period, each)

    for index in range(pace.sensors):
        crew.thread(lambda index=index: lambda: begin(index))
    for thread in others:
        thread.start()
    try:
        took, used = crew.run()
    finally:
        stop.set()
    for thread in others:
        thread.join()
    return Run(n, took, used, _latencies(pace, arrived, each), {"offered_per_s": pace.rate * pace.sensors})


def _latencies(pace: Pace, arrived: list[Any], each: int) -> Any:
    """Of each reading [ns]; checks that each is there once, and each sensor's in order."""
    batches = [[got] if isinstance(got, tuple) else got for _, got in arrived]
    if isinstance(batches[0], list):
        readings = np.array(list(chain.from_iterable(batches)), READING)
    else:
        readings = np.concatenate(batches)
    at = np.repeat([when for when, _ in arrived], list(map(len, batches)))
    order = np.argsort(readings["sensor_id"], kind="stable")
    numbers = readings["value"][order].reshape(pace.sensors, each)
    require(bool((numbers == np.arange(each)).all()), pace, "readings are missing or out of order")
    return (at - readings["timestamp"]) * 1e9


# -- waiting --------------------------------------------------------------------------------------------------------


def idle(consumers: int, seconds: float, *, capacity: int = 1024) -> Run:
    """Consumers of a ring into which nothing is put; the amount is the consumers."""
    ring = RingBuffer(capacity)
    crew = Crew(consumers + 1)

    def consume() -> None:
        try:
            ring.get_many()
        except f1buf.ShutDown:
            return
        raise AssertionError("a record came out of an empty ring")

    for _ in range(consumers):
        crew.thread(lambda: consume)

    def end() -> None:
        time.sleep(seconds)  # the length of the measurement
        ring.shutdown()

    crew.thread(lambda: end)
    took, used = crew.run()
    return Run(consumers, took, used)


# -- a slow consumer ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slow:
    """Blocks come twice as fast as they are taken; `policy` says what happens when it is full."""

    policy: str  # a ring's overflow policy, "queue.Queue" (waits) or "deque" (with a maxlen: drops the oldest)
    batch: int = 256
    period: float = 1e-3  # [s] of the producer, and of the consumer, which takes half as much each time
    capacity: int = 8192


def slow_consumer(slow: Slow, seconds: float) -> Run:
    """How old the records are when they are taken [ns], from the time they were scheduled for; and what is lost."""
    blocks = max(1, int(seconds / slow.period))
    put, take, lost, shut = SLOW[slow.policy](slow)
    taken: list[tuple[float, Any]] = []
    waits: list[float] = []

    def produce() -> None:
        block = numbered_blocks(Flow("", slow.batch, 2), 0)[0]
        start, clock = time.perf_counter() + 0.001, time.perf_counter
        for k in range(blocks):
            due = start + k * slow.period
            if (ahead := due - clock()) > 0:
                time.sleep(ahead)  # its pace
            block["timestamp"] = due
            began = clock()
            put(block)
            waits.append(clock() - began)
            block["value"] += slow.batch
        shut()

    def consume() -> None:
        clock = time.perf_counter
        while (batch := take(slow.batch // 2)) is not None:
            taken.append((clock(), batch))
            time.sleep(slow.period)  # its work

    crew = Crew(2)
    crew.thread(lambda: produce)
    crew.thread(lambda: consume)
    took, used = crew.run()
    records = np.concatenate([batch for _, batch in taken])
    at = np.repeat([when for when, _ in taken], [len(batch) for _, batch in taken])
    offered, dropped = blocks * slow.batch, lost()
    require(bool((np.diff(records["value"]) > 0).all()), slow, "records are out of order")
    require(len(records) + dropped == offered, slow, f"{len(records)} taken, {dropped} dropped of {offered}")
    extra = {"taken": len(records), "dropped": dropped, "put_p99_s": float(np.quantile(waits, 0.99))}
    extra |= {"put_max_s": max(waits), "producer_s": sum(waits)}
    return Run(offered, took, used, (at - records["timestamp"]) * 1e9, extra)


Ends = tuple[Callable[[Any], Any], Callable[[int], Any], Callable[[], int], Callable[[], Any]]


def _slow_ring(policy: str) -> Callable[[Slow], Ends]:
    def start(slow: Slow) -> Ends:
        ring = RingBuffer(slow.capacity, overflow=policy)  # type: ignore[arg-type]

        def take(most: int) -> Any:
            try:
                return ring.get_many(most)
            except f1buf.ShutDown:
                return None

        return ring.put_many, take, lambda: ring.stats().dropped, ring.shutdown

    return start


def _halves(block: Any) -> tuple[Any, Any]:
    middle = len(block) // 2
    return block[:middle].copy(), block[middle:].copy()


def _slow_queue(slow: Slow) -> Ends:
    waiting: queue.Queue[Any] = queue.Queue(2 * slow.capacity // slow.batch)

    def put(block: Any) -> None:
        for half in _halves(block):
            waiting.put(half)

    return put, lambda most: waiting.get(), lambda: 0, lambda: waiting.put(None)


def _slow_deque(slow: Slow) -> Ends:
    """What drops the oldest in the standard library; it cannot be waited at, so the consumer polls."""
    waiting: deque[Any] = deque(maxlen=2 * slow.capacity // slow.batch)
    put_and_taken = [0, 0]
    ended = threading.Event()

    def put(block: Any) -> None:
        waiting.extend(_halves(block))
        put_and_taken[0] += len(block)

    def take(most: int) -> Any:
        while True:
            done = ended.is_set()
            try:
                array = waiting.popleft()
            except IndexError:
                if done:
                    return None
                time.sleep(slow.period / 10)  # it can only be polled
                continue
            put_and_taken[1] += len(array)
            return array

    return put, take, lambda: put_and_taken[0] - put_and_taken[1], ended.set


SLOW: dict[str, Callable[[Slow], Ends]] = {
    "block": _slow_ring("block"),
    "drop_oldest": _slow_ring("drop_oldest"),
    "drop_newest": _slow_ring("drop_newest"),
    "queue.Queue": _slow_queue,
    "deque": _slow_deque,
}


# -- the check ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixed:
    """Batches of the readings of so many series in turns, as many of each of the five channels as can be."""

    series: int
    batch: int = 4096


def check(mixed: Mixed, seconds: float) -> Run:
    """Readings compared with the default thresholds, and merged, by one thread."""
    table = ThresholdTable(load_thresholds("default"))
    each = -(-mixed.batch * 16 // mixed.series)
    sensors = make_sensors(-(-mixed.series // 5), rate=100.0, seed=1)[: mixed.series]
    stream = np.stack([sensor.read_batch(each) for sensor in sensors], axis=1).reshape(-1)
    batches = [stream[at : at + mixed.batch] for at in range(0, mixed.batch * 16, mixed.batch)]
    tracker, done = Tracker(table), 0
    with collector_off():
        before, began, took = usage(), time.perf_counter(), 0.0
        while not done or took < seconds:  # once at least, however long the machine stood still meanwhile
            for batch in batches:
                tracker.merge(table.check(batch), done)
                done += len(batch)
            took = time.perf_counter() - began
        used = usage().since(before)
    seen = sum(each["readings"] for each in tracker.counts())
    require(seen == done, mixed, f"{seen} readings were counted, not {done}")
    return Run(done, took, used)


# -- the whole pipeline ---------------------------------------------------------------------------------------------


def pipeline(spec: Pipeline, seconds: float) -> Run:
    """Readings from five sensors through three analyzers."""
    with collector_off():
        before, began = usage(), time.perf_counter()
        rate = PIPELINES[spec.kind](spec, seconds)
        took = time.perf_counter() - began
        # One at least: a rate is divided by, though the machine stood still meanwhile.
        return Run(max(1, int(rate * took)), took, usage().since(before))
