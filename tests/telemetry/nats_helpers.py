"""What the tests of NATS share: a server of a test's own, which may be killed and started again, and what uses it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import free_port, readings
from helpers import Task, wait_until

from f1buf import READING
from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.server import configuration, find_server

# A file of tests that imports this is skipped where one of them is missing.
nats = pytest.importorskip("nats", reason="streams of a NATS server need nats-py")
pa = pytest.importorskip("pyarrow", reason="streams of a NATS server need pyarrow")
Publisher = pytest.importorskip("f1buf.telemetry.nats.publisher").Publisher
Subscriber = pytest.importorskip("f1buf.telemetry.nats.subscriber").Subscriber

__all__ = ["Publisher", "Server", "StreamError", "Subscriber", "nats", "pa"]

PATIENCE = 120.0  # [s] how long the server may take to start, to answer or to end, on a machine however busy

# How long publishers and subscribers wait before anything starts, by module; and for answers of a server afterwards.
BEFORE = {"link": ("_PATIENCE", "_FIRST_ANSWER"), "subscriber": ("_JOINING",)}
ANSWERS = {"link": ("_ANSWER",), "publisher": ("_ANSWERED",), "group": ("_ANSWER",), "subscriber": ("_PATIENCE",)}


@contextlib.contextmanager
def unhurried(waits):
    """Let publishers and subscribers of this process wait (for `BEFORE`, `ANSWERS`) as long as a test does.

    Not for the answers of a server that the test kills: what was asked of it last is never answered, and a connection
    that is begun as it dies may come to nothing. Another one is tried after that.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, names in waits.items():
            for name in names:
                patch.setattr(f"f1buf.telemetry.nats.{module}.{name}", PATIENCE)
        yield


def greeting(port):
    """The first line of the server that listens at a port: its INFO; empty where there is none yet."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        return connection.makefile("rb").readline().decode()
    return ""


class Server:
    """
    A server as `f1buf broker` runs it, of a port and a folder of its own: ``with Server(tmp_path) as server:``.

    `more` are settings of NATS (``authorization {...}``), `max_size` is how much its streams may hold [bytes], and
    `program` is another server than the installed one. `process` is the Popen.
    """

    def __init__(self, folder, more="", max_size=1 << 30, program=None):
        self.folder = Path(folder).resolve() / "nats"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None
        self._program = program or find_server()
        (self.folder / "more.conf").write_text(more)
        self._configuration = self.folder / "nats.conf"
        self._configuration.write_text(configuration(self.folder, max_size, self.folder / "more.conf"))

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self):
        """What the server has written of itself."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self):
        """Start it, again on the same port and store; returns once it answers."""
        address = ("-a", "127.0.0.1", "-p", str(self.port))
        self.process = subprocess.Popen([self._program, "-c", self._configuration, *address], stdin=subprocess.DEVNULL)
        wait_for_greeting(self.process, self.port)
        return self

    def kill(self):
        """SIGKILL: nothing is said, written or closed; returns once it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def pause(self):
        """SIGSTOP; returns once it does nothing any more."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def stop(self):
        """SIGTERM; returns the exit status once it is gone."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def wait_for_greeting(process, port):
    """Wait until the process' server answers; it gives no other sign."""
    deadline = time.monotonic() + PATIENCE
    while not greeting(port).startswith("INFO "):
        assert process.poll() is None, f"the server has ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"nobody answers at port {port} after {PATIENCE} s"
        time.sleep(0.01)


# Publishing and subscribing -------------------------------------------------------------------------------------------


def publish(publisher, *batches):
    """Publish these batches to the end; the thread that does."""
    thread = Task(publisher.run)
    for batch in batches:
        publisher.ring.put_many(batch)
    publisher.ring.shutdown()
    return thread


@contextlib.contextmanager
def publishing(url, *args, **options):
    """A publisher at work; at the end its ring is shut down, and what its thread raised is raised."""
    publisher = Publisher(url, *args, **{"patience": PATIENCE, **options})
    task = Task(publisher.run)
    try:
        yield publisher
    finally:
        publisher.ring.shutdown()
        task.result()


def published(url, *batches, **options):
    """A publisher that has published these batches and ended."""
    publisher = Publisher(url, **{"patience": PATIENCE, **options})
    publish(publisher, *batches).result()
    return publisher


def taken(source, stop=None):
    """All readings that a source yields."""
    return np.concatenate([np.empty(0, READING), *source.batches(stop)])


class Taker:
    """Takes all that a subscriber yields, in a thread of its own; `readings` are those so far."""

    def __init__(self, subscriber):
        self.subscriber = subscriber
        self.stop = threading.Event()
        self._batches = []
        self.count = 0
        self._task = Task(self._take)

    def _take(self):
        for batch in self.subscriber.batches(self.stop):
            self._batches.append(batch)
            self.count += len(batch)

    @property
    def readings(self):
        return np.concatenate([np.empty(0, READING), *self._batches])

    def wait_for(self, count):
        """Wait until so many readings have come."""
        self._wait_until(lambda: self.count >= count, f"{count} readings")

    def wait_for_value(self, value):
        """Wait until the last reading that has come has at least this value."""
        self._wait_until(lambda: self._batches and self._batches[-1]["value"][-1] >= value, f"the value {value}")

    def _wait_until(self, condition, what):
        wait_until(lambda: condition() or not self._task.is_alive(), what, every=1e-3)
        if not condition():
            self._task.result()
            raise AssertionError(f"it ended after {self.count} readings; expected {what}")

    def result(self):
        """All readings, once it has ended by itself; raises what it raised."""
        self._task.result()
        return self.readings

    def end(self):
        """Tell it to stop; all readings that it has taken."""
        self.stop.set()
        return self.result()


def numbered(count, start=0, sensors=7):
    """Readings whose value is their number."""
    return readings(np.arange(start, start + count, dtype="f8"), sensors=sensors, start=start)


def are_numbered(taken, count):
    """Whether these are the readings that `numbered` gives, each once and in order."""
    return taken["value"].tolist() == list(range(count))


def asked(url, call, timeout=PATIENCE):
    """What a coroutine function that is given nats-py's connection and JetStream returns."""

    async def ask():
        client = await nats.connect(url, allow_reconnect=False, connect_timeout=PATIENCE)
        try:
            return await call(client, client.jetstream(timeout=timeout))
        finally:
            await client.close()

    return asyncio.run(ask())


def make_stream(url, name="race", shards=1, **limits):
    """Make a stream as a publisher makes it, but with these limits."""
    metadata = {"f1buf": "1", "shards": str(shards)}
    config = nats.js.api.StreamConfig(name, subjects=[f"{name}.*"], metadata=metadata, **limits)
    asked(url, lambda client, stream: stream.add_stream(config))


def limit_stream(url, name="race", **limits):
    """Give a stream other limits."""

    async def limit(client, stream):
        await stream.update_stream((await stream.stream_info(name)).config.evolve(**limits))

    asked(url, limit)


def state(url, name="race"):
    """What a server says of a stream: messages, bytes, first_seq, last_seq."""

    async def look(client, stream):
        return (await stream.stream_info(name)).state

    return asked(url, look)
