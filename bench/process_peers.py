"""What moves records between two processes: each peer in its best form, behind the smallest adapter.

A peer is opened in the process that measures, with what its batches and its bound are. It then says how each side
begins, in a process of its own: `sender` returns what puts one batch, `receiver` what takes so many records and shows
each batch to a check. What is put is ready before the clock starts: the batch's bytes, or what f1buf takes.

Every consumer ends up with a copy of its own, as f1buf's has. All have the same bound, `capacity` records, where they
let one choose it. A peer that overwrites what was not read yet has no bound: its consumer says how far it has come in a
word of shared memory, and its producer waits for that (`Window`), so that nothing is lost.

Where a peer has a wait, it waits; where it has none, both sides ask again and again, and keep a core busy each
(`spins`).
"""

import contextlib
import ctypes
import fcntl
import importlib.metadata
import itertools
import mmap
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import gil_enabled
from peers import FORK, Flow

from f1buf import READING

Check = Callable[..., Callable[[Any], int]]  # of an array, or None: what looks at its first n records, or at a buffer
MESSAGES = 1024  # at most in a peer that wants to know how many messages, not bytes
_numbers = itertools.count()


@dataclass(frozen=True)
class Ends:
    """How each side of an open channel begins, in its own process."""

    sender: Callable[[], Callable[[Any], Any]]
    receiver: Callable[[Check], Callable[[int], None]]
    attach: Callable[[], Any] | None = None  # f1buf's
    size: int = 0  # of f1buf's segment [bytes]


@dataclass(frozen=True)
class Peer:
    title: str
    open: Callable[[Flow], contextlib.AbstractContextManager[Ends]]
    package: str | None = None  # that has to be installed
    spins: bool = False
    form: Callable[[Any], Any] = np.ndarray.tobytes  # of a block, what is put
    ours: bool = False


def fresh_name() -> str:
    return f"f1buf-bench-{os.getpid()}-{next(_numbers)}"


def nbytes(flow: Flow) -> int:
    """A batch's."""
    return flow.batch * READING.itemsize


def messages(flow: Flow) -> int:
    """The bound of a peer that counts messages; with more than this they only leave the cache."""
    return max(4, min(MESSAGES, flow.capacity // flow.batch))


def one_by_one(get: Callable[[], Any], check: Check) -> Callable[[int], None]:
    seen = check()

    def take(records: int) -> None:
        while records > 0:
            records -= seen(get())

    return take


class Window:
    """How many messages a consumer has taken, for the producer of a peer that would overwrite what was not read."""

    def __init__(self, room: int) -> None:
        self._room, self._every = room, max(1, room // 8)
        self._taken = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def sender(self, put: Callable[[Any], Any]) -> Callable[[Any], None]:
        taken, room, give_way = self._taken, self._room, os.sched_yield
        limit, numbers = taken[0] + room, itertools.count(taken[0] + 1)

        def put_within(block: Any) -> None:
            nonlocal limit
            number = next(numbers)
            while number > limit:
                limit = taken[0] + room
                if number > limit:
                    give_way()
            put(block)

        return put_within

    def seen(self, seen: Callable[[Any], int]) -> Callable[[Any], int]:
        taken, every, numbers = self._taken, self._every, itertools.count(1)

        def seen_and_told(message: Any) -> int:
            number = next(numbers)
            n = seen(message)
            if number % every == 0:
                taken[0] = number
            return n

        return seen_and_told

    def many(self) -> Callable[[int], None]:
        """For a consumer that takes several at once."""
        taken = self._taken

        def told(n: int) -> None:
            taken[0] += n

        return told


# -- f1buf -----------------------------------------------------------------------------------------------------------


@contextmanager
def shared_ring(flow: Flow) -> Iterator[Ends]:
    from f1buf import SharedRingBuffer

    ring = SharedRingBuffer(flow.capacity, name=fresh_name())

    def attach() -> Any:
        return SharedRingBuffer.attach(ring.name)

    def sender() -> Callable[[Any], Any]:
        mine = attach()
        return mine.put if flow.batch == 1 else mine.put_many

    def receiver(check: Check) -> Callable[[int], None]:
        mine = attach()
        get_into, out = mine.get_into, np.zeros(4096, READING)
        seen = check(out)

        def take(records: int) -> None:
            while records > 0:  # and no more: another consumer waits for the rest
                records -= seen(get_into(out if records >= len(out) else out[:records]))

        return take

    segment = next(Path("/dev/shm").glob(f"*{ring.name.lstrip('/')}"))
    try:
        yield Ends(sender, receiver, attach, segment.stat().st_size)
    finally:
        ring.close()
        ring.unlink()


def record_or_block(block: Any) -> Any:
    """A tuple is put, or an array."""
    return block[0].item() if len(block) == 1 else block


# -- the standard library --------------------------------------------------------------------------------------------


@contextmanager
def pipe(flow: Flow) -> Iterator[Ends]:
    """With the largest buffer that the kernel gives without asking: its 64 KiB hold less than one large batch."""
    receive, send = FORK.Pipe(duplex=False)
    fcntl.fcntl(send.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)

    def receiver(check: Check) -> Callable[[int], None]:
        out = np.zeros(flow.batch, READING)
        seen, raw, into = check(out), memoryview(out).cast("B"), receive.recv_bytes_into

        def take(records: int) -> None:
            while records > 0:
                records -= seen(into(raw) // READING.itemsize)

        return take

    with receive, send:
        yield Ends(lambda: send.send_bytes, receiver)


@contextmanager
def queue_of_bytes(flow: Flow) -> Iterator[Ends]:
    q: Any = FORK.Queue(max(1, min(32767, flow.capacity // flow.batch)))  # no semaphore counts further
    yield Ends(lambda: q.put, lambda check: one_by_one(q.get, check))
    q.close()


# -- packages --------------------------------------------------------------------------------------------------------


@contextmanager
def fifo(flow: Flow) -> Iterator[Ends]:
    import faster_fifo

    # Its own way is to pickle; where both sides know the dtype the bytes will do.
    q = faster_fifo.Queue(max_size_bytes=flow.capacity * READING.itemsize, dumps=bytes, loads=bytes)

    def receiver(check: Check) -> Callable[[int], None]:
        seen, get_many = check(), q.get_many

        def take(records: int) -> None:
            while records > 0:
                for message in get_many():
                    records -= seen(message)

        return take

    yield Ends(lambda: q.put, receiver)
    q.close()


@contextmanager
def spsc(flow: Flow) -> Iterator[Ends]:
    import membridge

    name = f"/{fresh_name()}"
    memory = membridge.SharedMemory.create(
        name, (1 << (2 * flow.capacity * READING.itemsize - 1).bit_length() - 1) + 24
    )
    memory.spsc()

    def sender() -> Callable[[Any], None]:
        push = membridge.SharedMemory.open(name).spsc().push

        def put(block: bytes) -> None:
            while not push(block):
                pass

        return put

    def receiver(check: Check) -> Callable[[int], None]:
        seen, pop = check(), membridge.SharedMemory.open(name).spsc().pop

        def take(records: int) -> None:
            while records > 0:
                if (message := pop()) is not None:
                    records -= seen(message)

        return take

    try:
        yield Ends(sender, receiver)
    finally:
        membridge.SharedMemory.remove(name)


def kickmsg_waiting(polled: bool) -> Callable[[Flow], contextlib.AbstractContextManager[Ends]]:
    @contextmanager
    def opened(flow: Flow) -> Iterator[Ends]:
        import kickmsg

        name, config = f"/{fresh_name()}", kickmsg.Config()
        config.max_subscribers, config.max_payload_size = 1, nbytes(flow)
        config.sub_ring_capacity, config.pool_size = messages(flow), 2 * messages(flow)
        region = kickmsg.SharedRegion.create(name, kickmsg.ChannelType.PubSub, config)
        window = Window(messages(flow) - 1)

        def sender() -> Callable[[Any], None]:
            mine = kickmsg.SharedRegion.open(name)
            return window.sender(kickmsg.Publisher(mine).send)

        def receiver(check: Check) -> Callable[[int], None]:
            subscriber = kickmsg.Subscriber(kickmsg.SharedRegion.open(name))
            get = subscriber.try_receive if polled else lambda: subscriber.receive(1.0)
            seen = window.seen(check())

            def take(records: int) -> None:
                while records > 0:
                    if (message := get()) is not None:
                        records -= seen(message)

            return take

        try:
            yield Ends(sender, receiver)
        finally:
            region.unlink()

    return opened


@contextmanager
def iceoryx(flow: Flow) -> Iterator[Ends]:
    """Its subscribers are polled; the publisher tries again until there is room."""
    import iceoryx2 as iox2

    name, bound = fresh_name(), messages(flow)

    def service() -> Any:
        iox2.set_log_level(iox2.LogLevel.Error)
        node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        builder = node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(iox2.Slice[ctypes.c_uint8])
        builder = builder.enable_safe_overflow(False).subscriber_max_buffer_size(bound)
        return node, builder.max_publishers(64).open_or_create()

    def sender() -> Callable[[Any], None]:
        node, mine = service()
        builder = mine.publisher_builder().initial_max_slice_len(nbytes(flow))
        publisher = builder.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()
        loan, copy, size = publisher.loan_slice_uninit, ctypes.memmove, nbytes(flow)

        def put(block: bytes, _kept: Any = (node, mine, publisher)) -> None:
            sample = loan(size)
            copy(sample.payload_ptr, block, size)
            sample.assume_init().send()

        return put

    def receiver(check: Check) -> Callable[[int], None]:
        node, mine = service()
        subscriber = mine.subscriber_builder().buffer_size(bound).create()
        out = np.zeros(flow.batch, READING)
        seen, receive, copy, at, size = check(out), subscriber.receive, ctypes.memmove, out.ctypes.data, nbytes(flow)

        def take(records: int, _kept: Any = (node, mine, subscriber)) -> None:
            while records > 0:
                if (sample := receive()) is not None:
                    copy(at, sample.payload_ptr, size)
                    sample.delete()
                    records -= seen(flow.batch)

        return take

    yield Ends(sender, receiver)


@contextmanager
def global_buffer(flow: Flow) -> Iterator[Ends]:
    """One writer, whose process makes the buffer; a message is an array of bytes."""
    import global_buffer as gb

    name, room = fresh_name(), messages(flow)
    schema = gb.ArraySpec(dtype="uint8", shape=(nbytes(flow),))
    buffer, window = gb.create(name=name, schema=schema, capacity=room), Window(room)

    def receiver(check: Check) -> Callable[[int], None]:
        reader, most = gb.attach(name), max(1, 256 // flow.batch)
        out = np.zeros(most * flow.batch, READING)
        seen, rows = check(out), out.view("u1").reshape(most, -1)
        into, told = reader.next_batch_into, window.many()

        def take(records: int) -> None:
            while records > 0:
                n = into(rows)
                records -= seen(n * flow.batch)
                told(n)

        return take

    try:
        yield Ends(lambda: window.sender(buffer.write), receiver)
    finally:
        buffer.close()
        gb.unlink(name)


@contextmanager
def slick(flow: Flow) -> Iterator[Ends]:
    import slick_queue_py

    name, size = fresh_name(), 1 << (messages(flow).bit_length() - 1)
    queue = slick_queue_py.SlickQueue(name=name, size=size, element_size=nbytes(flow))
    window = Window(size)

    class Lean(slick_queue_py.QueueTraits):
        enable_loss_detection = False

    def attached() -> Any:
        return slick_queue_py.SlickQueue(name=name, element_size=nbytes(flow), traits=Lean)

    def sender() -> Callable[[Any], None]:
        mine = attached()
        reserve, publish = mine.reserve, mine.publish

        def put(block: bytes) -> None:
            at = reserve()
            mine[at][:] = block
            publish(at)

        return window.sender(put)

    def receiver(check: Check) -> Callable[[int], None]:
        mine, at = attached(), 0
        seen, read = window.seen(check()), mine.read

        def take(records: int) -> None:
            nonlocal at
            while records > 0:
                message, _, at = read(at)
                if message is not None:
                    records -= seen(message)

        return take

    try:
        yield Ends(sender, receiver)
    finally:
        queue.close()
        queue.unlink()


@contextmanager
def msgq(flow: Flow) -> Iterator[Ends]:
    import msgq

    name, size = fresh_name(), max(1 << 22, 64 * nbytes(flow))
    window, published = Window(size // 2 // (nbytes(flow) + 8)), FORK.Event()

    def sender() -> Callable[[Any], None]:
        publisher = msgq.pub_sock(name, segment_size=size)
        published.set()  # what subscribed before is thrown out by a publisher, and comes again
        publisher.wait_for_readers()
        return window.sender(publisher.send)

    def receiver(check: Check) -> Callable[[int], None]:
        published.wait()
        subscriber = msgq.sub_sock(name, timeout=100, segment_size=size)
        seen, receive = window.seen(check()), subscriber.receive

        def take(records: int) -> None:
            while records > 0:
                if (message := receive()) is not None:
                    records -= seen(message)

        return take

    try:
        yield Ends(sender, receiver)
    finally:
        Path(f"/dev/shm/msgq_{name}").unlink(missing_ok=True)


_drivers: list[str] = []


@contextmanager
def media_driver() -> Iterator[str]:
    """The directory of aeron's driver, one process for all channels that are open."""
    import pyaeron

    if _drivers:
        yield _drivers[0]
        return
    receive, send = FORK.Pipe()

    def drive() -> None:
        driver = pyaeron.MediaDriver()
        send.send(driver.dir)
        send.recv()
        driver.close()

    process = FORK.Process(target=drive, daemon=True)
    process.start()
    _drivers.append(receive.recv())
    try:
        yield _drivers[0]
    finally:
        _drivers.clear()
        receive.send(None)
        process.join()


@contextmanager
def aeron(flow: Flow) -> Iterator[Ends]:
    import pyaeron

    channel, stream = "aeron:ipc?term-length=16m|mtu=65504", next(_numbers)

    def sender() -> Callable[[Any], None]:
        client = pyaeron.Aeron(dir=where)
        publication = client.add_exclusive_publication(channel, stream)
        publication.await_connected(30.0)
        offer, idle = publication.offer, pyaeron.IdleStrategy.yielding().idle

        def put(block: bytes, _kept: Any = client) -> None:
            while not offer(block):
                idle(0)

        return put

    def receiver(check: Check) -> Callable[[int], None]:
        client = pyaeron.Aeron(dir=where)
        subscription = client.add_subscription(channel, stream)
        subscription.await_connected(30.0)
        taken: deque[bytes] = deque()
        seen, poll = check(), subscription.poll

        def keep(message: Any, _: Any) -> None:
            taken.append(message.tobytes())

        def take(records: int, _kept: Any = client) -> None:
            while records > 0:
                if poll(keep, 64):
                    while taken:
                        records -= seen(taken.popleft())

        return take

    with media_driver() as where:
        yield Ends(sender, receiver)


@contextmanager
def qpipe(flow: Flow) -> Iterator[Ends]:
    """Over TCP, through a broker of its own."""
    import qpipe

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:{1}".format(*free.getsockname())
    broker = subprocess.Popen([Path(sys.executable).with_name("orchestrator"), address], stderr=subprocess.DEVNULL)
    try:
        qpipe.wait_until_healthy(address, 30.0)
        yield Ends(
            lambda: qpipe.Producer.connect(address).send_bytes,
            lambda check: one_by_one(qpipe.Consumer.connect(address).recv_bytes, check),
        )
    finally:
        broker.terminate()
        broker.wait()


PEERS = {
    "shared": Peer("f1buf.SharedRingBuffer", shared_ring, form=record_or_block, ours=True),
    "pyaeron": Peer("pyaeron", aeron, "pyaeron", spins=True),
    "kickmsg": Peer("kickmsg", kickmsg_waiting(False), "kickmsg"),
    "kickmsg-polled": Peer("kickmsg, polled", kickmsg_waiting(True), "kickmsg", spins=True),
    "iceoryx2": Peer("iceoryx2", iceoryx, "iceoryx2", spins=True),
    "membridge": Peer("membridge", spsc, "membridge", spins=True),
    "global-buffer": Peer("global-buffer", global_buffer, "global-buffer", form=lambda block: block.view("u1")),
    "faster-fifo": Peer("faster-fifo", fifo, "faster-fifo"),
    "slick-queue-py": Peer("slick-queue-py", slick, "slick-queue-py", spins=True),
    "msgq-ipc": Peer("msgq-ipc", msgq, "msgq-ipc"),
    "qpipe-rs": Peer("qpipe-rs", qpipe, "qpipe-rs"),
    "Pipe": Peer("multiprocessing.Pipe", pipe),
    "Queue": Peer("multiprocessing.Queue", queue_of_bytes),
}


def left_out() -> dict[str, str]:
    """The peers that cannot be measured here, and why."""
    found = {}
    for name, peer in PEERS.items():
        if peer.package is None:
            continue
        try:
            importlib.metadata.version(peer.package)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "it is not installed"
        else:
            if not gil_enabled():
                found[name] = "importing it would turn the GIL on, for all that is measured after it"
    return found
