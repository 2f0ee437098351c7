"""What is compared: each peer in its best form, behind the smallest adapter.

A peer says how to make its channel, and gives one loop for a producer and one for a consumer. The loops take methods
out of the object once (``put = q.put``) and run with code of their own for each case (`common.own_copy`). A producer's
thread makes what it needs before the clock starts.

What carries what
    objects        Python integers, one by one or in lists
    readings       records of READING: the producer's blocks are copied into the ring, and out of it by the consumer
    in place       records of READING through blocks: written to the ring's slots, where a producer would make them
                   (here from ready bytes), and looked at there; one copy where "readings" are two
    by reference   whole numpy arrays: the producer puts the same ready arrays again and again, and copies nothing
    copied         ``put(block.copy())``: what a producer needs that uses its own array again
    as bytes       the same in the fastest way: numpy copies a structured array field by field, 20 to 30 times as slowly
                   as its bytes. ``put(bytearray(bytes_of_block))``, ``np.frombuffer(get(), READING)``
    recycled       SimpleQueue has no bound: arrays go around, full ones through one queue, empty ones back through
                   another; "copied" copies the block's bytes into an empty one, which allocates nothing

All have the same bound, `capacity` records: a queue of arrays holds ``capacity // batch`` arrays. SimpleQueue, carrying
objects, has none.

What is checked, outside of the loops where that is possible
    All objects are kept, and looked at when the clock has stopped; so are arrays by reference. Records that are copied
    go through a `limits.Checker`. With one producer and one consumer it looks at the first and the last of each batch
    (in the warm-up run at each record), with several of them (`Flow.marked`) at each record, in its producer's order.
    The same array again and again has no order, and is only counted; in the warm-up run each is an object of its own.
"""

import multiprocessing
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import check_items, gil_enabled, own_copy, require
from native import limits

import f1buf
from f1buf import READING, RingBuffer, ShutDown

TOGETHER = 1024  # messages that are taken at once where they are single readings
CYCLE = 4096  # records after which a single producer's numbers begin anew, two blocks at least


@dataclass(frozen=True)
class Flow:
    """From producers to consumers, as fast as it goes."""

    peer: str
    batch: int = 1
    producers: int = 1
    consumers: int = 1
    capacity: int = 65536  # records: 1.5 MB
    one_core: bool = False
    spins: bool = True  # whether a ring's waits may look for a while before they sleep
    marked: bool = False  # each record is looked at; with several threads always, so also in what is compared to them
    settled: bool = False  # a ring whose first round, in which each new page of memory is a page fault, is over

    @property
    def alone(self) -> bool:
        return self.producers == self.consumers == 1 and not self.marked

    @property
    def blocks(self) -> int:
        """How many blocks a producer puts in turn."""
        return max(2, CYCLE // self.batch) if self.alone else 1

    @property
    def unit(self) -> int:
        """A run moves a multiple of so many records."""
        return self.batch * (self.blocks if self.alone else self.producers * self.consumers)

    @property
    def arrays(self) -> int:
        """The bound of a queue of arrays."""
        return max(1, self.capacity // self.batch)


@dataclass
class Job:
    """One run of a flow: what its threads share."""

    flow: Flow
    records: int
    full: bool = False  # whether to look at each record where otherwise the ends of batches must do
    channel: Any = None
    items: list[list[Any]] = field(default_factory=list)  # that each consumer of objects has taken
    references: list[list[Any]] = field(default_factory=list)
    put: dict[int, tuple[int, int]] = field(default_factory=dict)  # of each array its producer and number, with `full`
    checkers: list[Any] = field(default_factory=list)
    marks: Any = None
    kept: list[Any] = field(default_factory=list)  # what would otherwise be freed while the clock runs
    lock: Any = field(default_factory=threading.Lock)
    at_work: int = 0  # producers

    def __post_init__(self) -> None:
        self.at_work = self.flow.producers
        self.marks = None if self.flow.alone else np.zeros(self.records, "u1")

    @property
    def share(self) -> int:
        """Records of one producer."""
        return self.records // self.flow.producers

    def own(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        return own_copy(loop, self.flow)

    def checker(self, out: Any = None) -> tuple[Callable[[int], None], Callable[[Any], None]]:
        """A new consumer's: for what is in `out`, and for arrays."""
        make = limits().Checker
        if not self.flow.alone:
            checker = make(out, marks=self.marks, share=self.share)
            self.checkers.append(checker)
            return checker.marked, checker.marked_of
        checker = make(out, cycle=self.flow.batch * self.flow.blocks)
        self.checkers.append(checker)
        return (checker.every, checker.every_of) if self.full else (checker.ends, checker.ends_of)

    def left(self) -> bool:
        """A producer has ended; whether it was the last."""
        with self.lock:
            self.at_work -= 1
            return self.at_work == 0

    def verify(self) -> None:
        """Each record once, and each producer's in order."""
        if self.items:
            self._verify_items()
        elif self.references:
            self._verify_references()
        else:
            count = sum(checker.count for checker in self.checkers)
            wrong = sum(checker.wrong for checker in self.checkers)
            require(count == self.records, self.flow, f"{count} records arrived, not {self.records}")
            require(wrong == 0, self.flow, f"{wrong} records or batches were not what should have come")

    def _verify_items(self) -> None:
        for taken in self.items:
            if taken and isinstance(taken[0], list):
                taken[:] = chain.from_iterable(taken)
        check_items(self.flow, self.items, self.share, self.flow.producers)

    def _verify_references(self) -> None:
        arrays = [list(map(id, taken)) for taken in self.references]
        everything = Counter(chain.from_iterable(arrays))
        count = self.records // self.flow.batch
        require(everything.total() == count, self.flow, f"{everything.total()} arrays arrived, not {count}")
        if self.put:
            require(everything.keys() == self.put.keys(), self.flow, "not every array arrived once")
            for taken in arrays:
                come = [self.put[one] for one in taken]
                ordered = sorted(come, key=itemgetter(0))  # a sort by producer alone keeps the order within each
                require(ordered == sorted(come), self.flow, "arrays of one producer arrived out of their order")
        elif self.flow.alone:  # the same ones come round in the same order
            around = len(everything)
            expected = arrays[0][:around] * (count // around + 1)
            require(arrays[0] == expected[:count], self.flow, "arrays arrived out of their order")


def numbered_blocks(flow: Flow, producer: int) -> Any:
    """A producer's blocks, as rows; their records are numbered from 0."""
    blocks = np.zeros(flow.blocks * flow.batch, READING)
    blocks["timestamp"] = 1.5
    blocks["sensor_id"] = producer
    blocks["channel"] = 2
    blocks["value"] = np.arange(len(blocks))
    return blocks.reshape(flow.blocks, flow.batch)


# -- the producers' loops -------------------------------------------------------------------------------------------


def put_each(put: Callable[[Any], Any], what: list[Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        for one in what:
            put(one)


def put_renumbered(put: Callable[[Any], Any], block: Any, numbers: Any, rounds: int) -> None:
    """Several producers: every record gets a number of its own, so that each can be found again."""
    step = len(block)
    for _ in repeat(None, rounds):
        put(block)
        numbers += step


def write_in_place(reserve: Callable[[int], Any], what: list[Any], batch: int, rounds: int) -> None:
    """The ring holds whole batches, so that none lies around its end."""
    for _ in repeat(None, rounds):
        for one in what:
            with reserve(batch) as block:
                memoryview(block)[:] = one


def put_copies(put: Callable[[Any], Any], what: list[Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        for one in what:
            put(one.copy())


def put_renumbered_copies(put: Callable[[Any], Any], block: Any, numbers: Any, rounds: int) -> None:
    step = len(block)
    for _ in repeat(None, rounds):
        put(block.copy())
        numbers += step


def put_bytes(put: Callable[[Any], Any], what: list[Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        for one in what:
            put(bytearray(one))


def put_renumbered_bytes(put: Callable[[Any], Any], raw: Any, numbers: Any, step: int, rounds: int) -> None:
    for _ in repeat(None, rounds):
        put(bytearray(raw))
        numbers += step


def put_recycled(put: Callable[[Any], Any], empty: Callable[[], Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        put(empty())


def put_into_recycled(put: Callable[[Any], Any], empty: Callable[[], Any], what: list[Any], rounds: int) -> None:
    for _ in repeat(None, rounds):
        for one in what:
            both = empty()
            both[1][:] = one
            put(both)


def put_renumbered_into_recycled(
    put: Callable[[Any], Any], empty: Callable[[], Any], raw: Any, numbers: Any, step: int, rounds: int
) -> None:
    for _ in repeat(None, rounds):
        both = empty()
        both[1][:] = raw
        put(both)
        numbers += step


# -- the consumers' loops -------------------------------------------------------------------------------------------


def get_each(get: Callable[[], Any], n: int) -> list[Any]:
    return [get() for _ in repeat(None, n)]


def get_lists(get_many: Callable[[int], Any], n: int, batch: int) -> list[Any]:
    taken = []
    while n > 0:
        some = get_many(batch if batch < n else n)
        n -= len(some)
        taken.append(some)
    return taken


def get_into_array(get_into: Callable[[Any], int], out: Any, seen: Callable[[int], None], n: int) -> None:
    while n > 0:
        k = get_into(out)
        seen(k)
        n -= k


def read_in_place(peek: Callable[[int], Any], seen: Callable[[Any], None], n: int, batch: int) -> None:
    while n > 0:
        with peek(batch) as block:
            seen(block.array)
            n -= len(block)


def get_into_array_until_shut(get_into: Callable[[Any], int], out: Any, seen: Callable[[int], None]) -> None:
    try:
        while True:
            seen(get_into(out))
    except ShutDown:
        pass


def get_arrays(get: Callable[[], Any], seen: Callable[[Any], None], n: int) -> None:
    for _ in repeat(None, n):
        seen(get())


def get_bytes(get: Callable[[], Any], seen: Callable[[Any], None], n: int) -> None:
    frombuffer, dtype = np.frombuffer, READING
    for _ in repeat(None, n):
        seen(frombuffer(get(), dtype))


def get_together(get_many: Callable[[], list[Any]], seen: Callable[[Any], None], n: int) -> None:
    while n > 0:
        arrays = get_many()
        for array in arrays:
            seen(array)
        n -= len(arrays)


def get_and_give_back(
    get: Callable[[], Any], seen: Callable[[Any], None], give_back: Callable[[Any], None], n: int
) -> None:
    for _ in repeat(None, n):
        both = get()
        seen(both[0])
        give_back(both)


# -- the peers ------------------------------------------------------------------------------------------------------

Work = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """What can be compared."""

    title: str
    make: Callable[[Flow], Any]
    produce: Callable[[Job, int], Work]  # prepares, in the producer's thread
    consume: Callable[[Job], Work]
    ours: bool = False
    processes: bool = False  # producers are processes of their own; one of them, and one consumer


def ring(flow: Flow) -> RingBuffer:
    made, block = RingBuffer(flow.capacity), np.zeros(min(flow.capacity, 1 << 16), READING)
    while flow.settled and made.stats().offered < flow.capacity:
        made.put_many(block[: flow.capacity - made.stats().offered])
        made.get_into(block)
    return made


def then_shut(job: Job, loop: Callable[..., Any], *args: Any) -> Work:
    """With several producers: the last of them shuts the ring, which ends the consumers."""

    def work() -> None:
        job.own(loop)(*args)
        if job.left():
            job.channel.shutdown()

    return work


def ring_produce(job: Job, index: int) -> Work:
    put, flow = job.channel.put, job.flow
    if flow.batch > 1:
        put_many, blocks = job.channel.put_many, numbered_blocks(flow, index)
        if flow.alone:
            return lambda: job.own(put_each)(put_many, list(blocks), job.records // blocks.size)
        return then_shut(job, put_renumbered, put_many, blocks[0], blocks[0]["value"], job.share // flow.batch)
    tuples = [(1.5, index, 2, 0, float(n)) for n in range(flow.blocks if flow.alone else job.share)]
    if flow.alone:
        return lambda: job.own(put_each)(put, tuples, job.records // len(tuples))
    return then_shut(job, put_each, put, tuples, 1)


def ring_consume(job: Job, room: int | None = None) -> Work:
    get_into, out = job.channel.get_into, np.zeros(room or job.flow.batch, READING)
    seen, _ = job.checker(out)
    if job.flow.alone:
        return lambda: job.own(get_into_array)(get_into, out, seen, job.records)
    return lambda: job.own(get_into_array_until_shut)(get_into, out, seen)


def ring_write(job: Job, _: int) -> Work:
    flow, blocks = job.flow, numbered_blocks(job.flow, 0)
    require(flow.alone and flow.capacity % flow.batch == 0, flow, "one producer only, and whole batches")
    raw = [memoryview(block.tobytes()) for block in blocks]
    return lambda: job.own(write_in_place)(job.channel.reserve, raw, flow.batch, job.records // blocks.size)


def ring_read(job: Job) -> Work:
    _, seen = job.checker()
    return lambda: job.own(read_in_place)(job.channel.peek, seen, job.records, job.flow.batch)


def items_produce(job: Job, index: int) -> Work:
    """One by one, or in lists."""
    share, batch, start = job.share, job.flow.batch, index * job.share
    if batch > 1:
        put, items = job.channel.put_many, [list(range(at, at + batch)) for at in range(start, start + share, batch)]
    else:
        put, items = job.channel.put, list(range(start, start + share))
    job.kept.append(items)
    return lambda: job.own(put_each)(put, items, 1)


def items_consume(job: Job) -> Work:
    channel, n, batch = job.channel, job.records // job.flow.consumers, job.flow.batch
    if batch > 1:
        return lambda: job.items.append(job.own(get_lists)(channel.get_many, n, batch))
    return lambda: job.items.append(job.own(get_each)(channel.get, n))


def references_produce(job: Job, index: int) -> Work:
    put, blocks = job.channel.put, numbered_blocks(job.flow, index)
    if not job.full:
        return lambda: job.own(put_each)(put, list(blocks), job.share // blocks.size)
    arrays = [blocks[n % len(blocks)] for n in range(job.share // job.flow.batch)]  # each a new view
    job.put |= {id(array): (index, n) for n, array in enumerate(arrays)}
    job.kept.append(arrays)
    return lambda: job.own(put_each)(put, arrays, 1)


def references_consume(job: Job) -> Work:
    get, n = job.channel.get, job.records // job.flow.batch // job.flow.consumers
    return lambda: job.references.append(job.own(get_each)(get, n))


def copies_produce(job: Job, index: int) -> Work:
    put, blocks = job.channel.put, numbered_blocks(job.flow, index)
    rounds = job.share // blocks.size
    if job.flow.alone:
        return lambda: job.own(put_copies)(put, list(blocks), rounds)
    return lambda: job.own(put_renumbered_copies)(put, blocks[0], blocks[0]["value"], rounds)


def raw(block: Any) -> memoryview:
    return memoryview(block).cast("B")


def bytes_produce(job: Job, index: int) -> Work:
    put, blocks = job.channel.put, numbered_blocks(job.flow, index)
    rounds = job.share // blocks.size
    if job.flow.alone:
        return lambda: job.own(put_bytes)(put, [raw(block) for block in blocks], rounds)
    numbers, step = blocks[0]["value"], job.flow.batch
    return lambda: job.own(put_renumbered_bytes)(put, raw(blocks[0]), numbers, step, rounds)


def bytes_consume(job: Job) -> Work:
    get, n = job.channel.get, job.records // job.flow.batch // job.flow.consumers
    _, seen = job.checker()
    return lambda: job.own(get_bytes)(get, seen, n)


def arrays_consume(job: Job) -> Work:
    get, n = job.channel.get, job.records // job.flow.batch // job.flow.consumers
    _, seen = job.checker()
    return lambda: job.own(get_arrays)(get, seen, n)


class Recycler:
    """Arrays that go around between two SimpleQueues: the bound that SimpleQueue has not.

    What goes around are pairs: an array, and the view of its bytes that is quick to copy into.
    """

    def __init__(self, flow: Flow) -> None:
        self.full: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.empty: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(flow.arrays):
            array = np.zeros(flow.batch, READING)
            self.empty.put((array, raw(array)))


def recycled_produce(job: Job, index: int) -> Work:
    put, empty = job.channel.full.put, job.channel.empty.get
    return lambda: job.own(put_recycled)(put, empty, job.share // job.flow.batch)


def recycled_consume(job: Job) -> Work:
    channel, n = job.channel, job.records // job.flow.batch // job.flow.consumers
    taken: list[Any] = []
    job.references.append(taken)
    return lambda: job.own(get_and_give_back)(channel.full.get, taken.append, channel.empty.put, n)


def recycled_copies_produce(job: Job, index: int) -> Work:
    put, empty, blocks = job.channel.full.put, job.channel.empty.get, numbered_blocks(job.flow, index)
    rounds = job.share // blocks.size
    if job.flow.alone:
        return lambda: job.own(put_into_recycled)(put, empty, [raw(block) for block in blocks], rounds)
    loop, source, numbers = job.own(put_renumbered_into_recycled), raw(blocks[0]), blocks[0]["value"]
    return lambda: loop(put, empty, source, numbers, job.flow.batch, rounds)


def recycled_copies_consume(job: Job) -> Work:
    channel, n = job.channel, job.records // job.flow.batch // job.flow.consumers
    _, seen = job.checker()
    return lambda: job.own(get_and_give_back)(channel.full.get, seen, channel.empty.put, n)


class DequeWithConditions:
    """A deque, a lock, a condition for each side; whole batches under one acquisition of the lock."""

    def __init__(self, maxsize: int) -> None:
        self._items: deque[Any] = deque()
        self._maxsize = maxsize
        lock = threading.Lock()
        self._not_empty, self._not_full = threading.Condition(lock), threading.Condition(lock)

    def put(self, item: Any) -> None:
        with self._not_full:
            while len(self._items) >= self._maxsize:
                self._not_full.wait()
            self._items.append(item)
            self._not_empty.notify()

    def get(self) -> Any:
        with self._not_empty:
            while not self._items:
                self._not_empty.wait()
            item = self._items.popleft()
            self._not_full.notify()
        return item

    def put_many(self, items: list[Any]) -> None:
        with self._not_full:
            while len(self._items) + len(items) > self._maxsize:
                self._not_full.wait()
            self._items.extend(items)
            self._not_empty.notify()

    def get_many(self, most: int) -> list[Any]:
        with self._not_empty:
            while not self._items:
                self._not_empty.wait()
            popleft = self._items.popleft
            taken = [popleft() for _ in repeat(None, min(most, len(self._items)))]
            if self._items:
                self._not_empty.notify()  # a put_many wakes one; it passes on what it leaves
            self._not_full.notify_all()  # what has become free may do for several
        return taken


def queue_of_arrays(flow: Flow) -> Any:
    return queue.Queue(flow.arrays)


PEERS: dict[str, Peer] = {
    "ring": Peer("f1buf.RingBuffer", ring, ring_produce, ring_consume, ours=True),
    "ring-rebatched": Peer(
        "f1buf.RingBuffer, put one, take many", ring, ring_produce, lambda job: ring_consume(job, 4096), ours=True
    ),
    "ring-in-place": Peer("f1buf.RingBuffer, reserve and peek", ring, ring_write, ring_read, ours=True),
    "f1buf.Queue": Peer(
        "f1buf.Queue of objects", lambda flow: f1buf.Queue(flow.capacity), items_produce, items_consume, ours=True
    ),
    "queue.Queue": Peer(
        "queue.Queue one by one", lambda flow: queue.Queue(flow.capacity), items_produce, items_consume
    ),
    "SimpleQueue": Peer(
        "SimpleQueue one by one (no bound)", lambda flow: queue.SimpleQueue(), items_produce, items_consume
    ),
    "deque": Peer(
        "deque with Conditions", lambda flow: DequeWithConditions(flow.capacity), items_produce, items_consume
    ),
    "queue.Queue-copied": Peer("queue.Queue of arrays, copied", queue_of_arrays, copies_produce, arrays_consume),
    "SimpleQueue-references": Peer(
        "SimpleQueues of arrays, by reference", Recycler, recycled_produce, recycled_consume
    ),
    "SimpleQueue-bytes": Peer(
        "SimpleQueues of arrays, copied as bytes", Recycler, recycled_copies_produce, recycled_copies_consume
    ),
}
for _name, _make in (("f1buf.Queue", lambda flow: f1buf.Queue(flow.arrays)), ("queue.Queue", queue_of_arrays)):
    _title, _ours = f"{_name} of arrays", _name == "f1buf.Queue"
    PEERS[f"{_name}-references"] = Peer(f"{_title}, by reference", _make, references_produce, references_consume, _ours)
    PEERS[f"{_name}-bytes"] = Peer(f"{_title}, copied as bytes", _make, bytes_produce, bytes_consume, _ours)


# -- peers that are not always there ---------------------------------------------------------------------------------

FORK = multiprocessing.get_context("fork")


def piped_produce(job: Job, index: int) -> Work:
    """Items, or arrays, of which `put` itself makes a copy."""
    if job.flow.batch == 1:
        return items_produce(job, index)
    put, blocks = job.channel.put, numbered_blocks(job.flow, index)
    return lambda: job.own(put_each)(put, list(blocks), job.share // blocks.size)


PEERS["multiprocessing.Queue"] = Peer(
    "multiprocessing.Queue, 2 processes",
    lambda flow: FORK.Queue(flow.arrays),
    piped_produce,
    lambda job: (arrays_consume if job.flow.batch > 1 else items_consume)(job),
    processes=True,
)


def with_optional_peers() -> list[str]:
    """Add the peers that are installed; returns a line for each that is left out."""
    left_out = []
    for name, add in (("culsans", _add_culsans), ("faster-fifo", _add_faster_fifo), ("nblf-queue", _add_nblf_queue)):
        if name == "faster-fifo" and not gil_enabled():
            left_out.append(
                f"{name} is left out: importing it would turn the GIL on, for all that is measured after it"
            )
            continue
        try:
            add()
        except ImportError as error:
            left_out.append(f"{name} is left out: {error}")
    return left_out


def _add_culsans() -> None:
    import culsans

    def make(flow: Flow) -> Any:
        q: Any = culsans.Queue(flow.capacity)
        return SimpleNamespace(put=q.sync_put, get=q.sync_get)

    PEERS["culsans"] = Peer("culsans.Queue one by one", make, items_produce, items_consume)


def _add_nblf_queue() -> None:
    import nblf_queue

    PEERS["nblf-queue"] = Peer(
        "nblf-queue one by one, polled", lambda flow: nblf_queue.Queue(flow.capacity), polled_produce, polled_consume
    )


def polled_produce(job: Job, index: int) -> Work:
    """It never waits: `push` gives the item back where there is no room."""
    items = list(range(index * job.share, (index + 1) * job.share))
    job.kept.append(items)
    return lambda: job.own(push_each)(job.channel.push, items)


def push_each(push: Callable[[Any], Any], items: list[Any]) -> None:
    for item in items:
        while push(item) is not None:
            time.sleep(0)  # it has no wait: let the consumers run


def polled_consume(job: Job) -> Work:
    n = job.records // job.flow.consumers
    return lambda: job.items.append(job.own(pop_each)(job.channel.pop, n))


def pop_each(pop: Callable[[], Any], n: int) -> list[Any]:
    taken = []
    for _ in repeat(None, n):
        while (item := pop()) is None:
            time.sleep(0)  # and here the producers
        taken.append(item)
    return taken


def _add_faster_fifo() -> None:
    import faster_fifo

    def make(flow: Flow) -> Any:
        size = flow.capacity * READING.itemsize
        if flow.batch == 1:
            return faster_fifo.Queue(max_size_bytes=size)
        # Pickling is what it does by default; for arrays of a known dtype the bytes will do.
        loads = own_copy(array_of, flow)
        return faster_fifo.Queue(max_size_bytes=size, dumps=np.ndarray.tobytes, loads=loads)

    PEERS["faster-fifo"] = Peer("faster-fifo, 2 processes", make, piped_produce, taken_together, processes=True)


def taken_together(job: Job) -> Work:
    """With faster-fifo's own `get_many`: all messages that are there."""
    channel, n = job.channel, job.records // job.flow.batch
    if job.flow.batch > 1:
        _, seen = job.checker()
        return lambda: job.own(get_together)(channel.get_many, seen, n)
    return lambda: job.items.append(
        job.own(get_lists)(lambda most: channel.get_many(max_messages_to_get=most), n, TOGETHER)
    )


def array_of(data: Any) -> Any:
    return np.frombuffer(data, READING)
