"""Streams while a server, a publisher or a subscriber is killed: every reading arrives exactly once."""

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import child_options, free_port, watchdog
from helpers import FULL, LONG_WATCHDOG, WATCHDOG, Task, seeded, thorough, wait_until
from nats_helpers import (
    BEFORE,
    Publisher,
    Server,
    StreamError,
    Subscriber,
    Taker,
    are_numbered,
    asked,
    nats,
    numbered,
    published,
    taken,
    unhurried,
)

from f1buf import ShutDown

ROUNDS = 50 if FULL else 3  # with F1BUF_STRESS=10


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(10 * LONG_WATCHDOG), unhurried(BEFORE):
        yield


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as server:
        yield server


class Feeder:
    """Puts numbered readings into a publisher's ring, in batches of many sizes, until it is told to end."""

    def __init__(self, publisher, first=0, pause=0.001):
        self._publisher, self._first, self._stop, self._pause = publisher, first, threading.Event(), pause
        self.count = first
        self._task = Task(self._put)

    def _put(self):
        random = seeded(str(self._first))
        with contextlib.suppress(ShutDown):
            while not self._stop.wait(self._pause):
                size = random.randrange(1, 400)
                self._publisher.ring.put_many(numbered(size, self.count))
                self.count += size

    def end(self):
        """How many there are in all."""
        self._stop.set()
        self._task.result()
        self._publisher.ring.shutdown()
        return self.count


# The server -----------------------------------------------------------------------------------------------------------


@thorough(but=("killed",))
@pytest.mark.parametrize("by", ["killed", "stopped"])
def test_the_server_is_killed_amid_publishing_and_subscribing(server, by):
    url, random = f"{server.url}/race", seeded()
    publisher = Publisher(url, batch=100, delay=0.005, patience=WATCHDOG)
    thread, feeder = Task(publisher.run), Feeder(publisher)
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    for _ in range(ROUNDS if by == "killed" else 2):
        taker.wait_for(taker.count + random.randrange(1, 5000))
        server.kill() if by == "killed" else server.stop()
        put = feeder.count
        wait_until(lambda put=put: feeder.count > put + 1000)  # what is put meanwhile waits
        server.start()
    count = feeder.end()
    thread.result()
    assert are_numbered(taker.result(), count)
    assert (taker.subscriber.missed, taker.subscriber.rejected) == (0, {})
    assert (publisher.published, publisher.lost) == (count, 0)


def test_the_server_is_killed_before_the_first_new_message(server):
    url = f"{server.url}/race"
    publisher = Publisher(url, patience=WATCHDOG)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    wait_until(lambda: publisher.published == 10)
    taker = Taker(Subscriber(url, start="new"))
    server.kill()
    publisher.ring.put_many(numbered(10, 10))
    server.start()
    publisher.ring.put_many(numbered(10, 20))
    publisher.ring.shutdown()
    thread.result()
    assert taker.result()["value"].tolist() == list(range(10, 30))


def test_a_server_that_is_away_when_reading_begins(server):
    url = f"{server.url}/race"
    published(url, numbered(100))
    source = Subscriber(url)
    server.kill()
    taker = Taker(source)
    server.start()
    assert are_numbered(taker.result(), 100)


def test_a_subscriber_is_stopped_before_the_server_has_come_back(server):
    published(f"{server.url}/race", numbered(100))
    source = Subscriber(f"{server.url}/race")
    server.kill()
    assert len(Taker(source).end()) == 0
    wait_until(
        lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(source.name)],
        "the thread that receives to end",
    )


def test_a_subscriber_is_stopped_while_the_server_is_away(server):
    url = f"{server.url}/race"
    publisher = Publisher(url, patience=0.1)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    taker.wait_for(10)
    server.kill()
    assert len(taker.end()) == 10
    publisher.ring.shutdown()
    with contextlib.suppress(StreamError):
        thread.result()


@thorough
def test_a_server_that_hangs_at_the_end(server):
    """It takes nothing, but the connection stays: the publisher ends all the same."""
    url = f"{server.url}/race"
    publisher = Publisher(url, patience=0.1)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(10))
    wait_until(lambda: publisher.published == 10)
    server.pause()
    try:
        publisher.ring.put_many(numbered(500_000, 10))  # more than a connection holds
        publisher.ring.shutdown()
        with pytest.raises(StreamError, match=r"; 500,000 readings are not known to be stored$"):
            thread.result()
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_store_that_went_back(server, tmp_path):
    """As after a power cut: both sides say so, and miss nothing silently."""
    url = f"{server.url}/race"
    publisher = Publisher(url, batch=10, patience=WATCHDOG)
    thread = Task(publisher.run)
    publisher.ring.put_many(numbered(100))
    taker = Taker(Subscriber(url, timeout=WATCHDOG))
    taker.wait_for(100)
    server.stop()
    shutil.copytree(server.folder / "jetstream", tmp_path / "before")
    server.start()
    publisher.ring.put_many(numbered(100, 100))
    taker.wait_for(200)
    wait_until(lambda: publisher.published == 200)
    server.kill()
    shutil.rmtree(server.folder / "jetstream")
    shutil.copytree(tmp_path / "before", server.folder / "jetstream")
    server.start()
    with pytest.raises(StreamError, match="the stream has gone back behind message "):
        taker.result()
    with contextlib.suppress(ShutDown):
        publisher.ring.put_many(numbered(7, 200))  # which it has seen by now, or sees then
    with pytest.raises(StreamError, match=r"the stream ends at message .*; [07] readings are not known to be stored$"):
        thread.result()
    assert are_numbered(taker.readings, 200)


# A process ------------------------------------------------------------------------------------------------------------


def child(call, **options):
    """A process that calls one of the functions below."""
    how = child_options([], ("-c", f"import test_nats_killed; test_nats_killed.{call}"), **options)
    here = Path(__file__).parent
    how["env"]["PYTHONPATH"] += os.pathsep.join(["", str(here), str(here.parent)])
    return subprocess.Popen(**how, stdout=subprocess.PIPE, text=True)


def subscribe_and_tell(url, start):
    """Print each batch's position and values: a line is written whole or not at all, as a part of a recording."""
    source = Subscriber(url, start=start)
    before = None
    for batch in source.batches():
        if before is not None:
            print(source.position, *before, flush=True)
        before = batch["value"].astype(int).tolist()
    print(source.position, *before, flush=True)


def test_the_subscriber_is_killed(server):
    """The next process goes on behind what the one before has told of."""
    url, random = f"{server.url}/race", seeded()
    publisher = Publisher(url, batch=100, delay=0.005, patience=WATCHDOG)
    thread, feeder = Task(publisher.run), Feeder(publisher)
    wait_until(lambda: publisher.published)
    values, position = [], 0
    for left in reversed(range(ROUNDS + 1)):
        lines = random.randrange(1, 40) if left else -1
        if not left:
            count = feeder.end()
        with child(f"subscribe_and_tell({url!r}, {position + 1})") as process:
            for line in process.stdout:
                if line.endswith("\n"):
                    position, *told = map(int, line.split())
                    values += told
                lines -= 1
                if not lines:
                    process.kill()
        assert process.returncode == (-signal.SIGKILL if left else 0)
    thread.result()
    assert values == list(range(count))


def publish_for_ever(url, first):
    publisher = Publisher(url, batch=50, delay=0.005)
    thread, feeder = Task(publisher.run), Feeder(publisher, first)
    print(flush=True)
    thread.join()
    feeder.end()


def test_the_publisher_is_killed(server):
    """What is stored are whole messages, from the first on; the next one's follow."""
    url = f"{server.url}/race"
    taker = None
    for number in range(max(2, ROUNDS // 10)):
        first = number * 10**9
        with child(f"publish_for_ever({url!r}, {first})") as process:
            process.stdout.readline()
            taker = taker or Taker(Subscriber(url, timeout=WATCHDOG))
            taker.wait_for_value(first + 2000)  # of this publisher: those of the one before may come late
            process.kill()
    published(url, numbered(10, 10**12))
    values = taker.result()["value"]
    assert values[-10:].tolist() == list(range(10**12, 10**12 + 10))
    for number in range(max(2, ROUNDS // 10)):
        mine = values[(values >= number * 10**9) & (values < (number + 1) * 10**9)]
        assert len(mine) >= 1000
        assert np.array_equal(mine, np.arange(len(mine)) + number * 10**9)
    assert np.all(np.diff(values) > 0)
    assert taker.subscriber.missed == 0


# More servers, and other losses ---------------------------------------------------------------------------------------


class Cluster:
    """Three servers that hold a stream together."""

    def __init__(self, folder):
        first = [Server(folder / f"n{number}") for number in range(3)]
        ports = [free_port() for _ in first]  # at which they talk to each other
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        for number, server in enumerate(first):
            path = server.folder / "nats.conf"
            text = path.read_text().replace("server_name: f1buf", f"server_name: n{number}")
            listen = f'listen: "127.0.0.1:{ports[number]}"'
            path.write_text(f"{text}cluster {{ name: c, {listen}, routes: [{routes}] }}\n")
        self.servers = first

    def url(self, stream):
        return f"nats://{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}/{stream}"

    def info(self, name):
        """What the servers say of a stream; None while they do not agree."""

        async def look(_, stream):
            return await stream.stream_info(name)

        for server in self.servers:
            if server.process.poll() is None:
                with contextlib.suppress(Exception):
                    return asked(server.url, look, 1.0)  # without a leader nobody answers
        return None

    def leader(self, name):
        """The server that leads a stream, once there is one."""
        found = []

        def led():
            info = self.info(name)
            found[:] = [info.cluster.leader] if info is not None and info.cluster.leader else []
            return found

        wait_until(led, "a leader", every=0.1)
        return self.servers[int(found[0][1])]

    def made(self, make):
        """What is made, once the servers have found each other and agree on who leads: before, they refuse it."""
        made = []

        def try_to_make():
            with contextlib.suppress(StreamError, nats.errors.Error, TimeoutError):
                made.append(make())
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("f1buf.telemetry.nats.link._FIRST_ANSWER", 5.0)  # without a leader none ever comes
            wait_until(try_to_make, "a cluster", every=0.2)
        return made[0]

    def publisher(self):
        """A publisher of a stream on all three."""
        how = {"batch": 100, "delay": 0.005, "replicas": 3, "patience": WATCHDOG}
        return self.made(lambda: Publisher(self.url("race"), **how))

    def taker(self, **options):
        """Takes the readings of that stream."""
        return Taker(self.made(lambda: Subscriber(self.url("race"), timeout=WATCHDOG, **options)))

    def is_whole(self, name):
        info = self.info(name)
        others = (info.cluster.replicas or []) if info is not None and info.cluster.leader else []
        return len(others) == 2 and all(each.current for each in others)

    def __enter__(self):
        tasks = [Task(server.start) for server in self.servers]
        for task in tasks:
            task.result()
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.__exit__()


@thorough
def test_a_publisher_takes_over_what_a_cluster_holds(tmp_path):
    """While the older one has messages under way; the servers go on."""
    with Cluster(tmp_path) as cluster:
        older, newer = cluster.publisher(), cluster.publisher()
        thread, feeder = Task(older.run), Feeder(older, pause=0.0005)
        wait_until(lambda: older.published > 1000, "the older one to publish")
        other = Task(newer.run)
        newer.ring.put_many(numbered(1000, 10**6))
        newer.ring.shutdown()
        other.result()
        feeder.end()
        with pytest.raises(StreamError, match="another publisher has taken the stream over"):
            thread.result()
        values = cluster.taker().result()["value"].tolist()
    assert values[-1000:] == list(range(10**6, 10**6 + 1000))
    assert values[:-1000] == list(range(len(values) - 1000))
    assert len(values) - 1000 >= older.published


@thorough
def test_a_cluster_keeps_what_a_durable_subscriber_has_done(tmp_path):
    """On as many servers as the stream; also where a stream for it was there before, on one."""
    with Cluster(tmp_path) as cluster:
        publisher = cluster.publisher()
        single = {"name": "f1buf-progress", "subjects": ["f1buf-progress.>"], "max_msgs_per_subject": 1}
        cluster.made(lambda: asked(cluster.servers[0].url, lambda _, stream: stream.add_stream(**single), 5.0))
        thread, feeder = Task(publisher.run), Feeder(publisher, pause=0.02)
        taker = cluster.taker(durable="wall")
        for name in ("race", "f1buf-progress"):
            taker.wait_for(taker.count + 2000)
            # Both: what has not come to a second server is away with the first.
            for each in ("race", "f1buf-progress"):
                wait_until(lambda each=each: cluster.is_whole(each), "three servers", every=0.2)
            leader = cluster.leader(name)
            leader.kill()
            taker.wait_for(taker.count + 5000)  # longer than from one time that is kept to the next
            leader.start()
        count = feeder.end()
        thread.result()
        assert are_numbered(taker.result(), count)


@thorough
def test_a_cluster_loses_its_leader(tmp_path):
    with Cluster(tmp_path) as cluster:
        publisher = cluster.publisher()
        thread, feeder = Task(publisher.run), Feeder(publisher, pause=0.02)  # slow enough for two to catch up
        taker = cluster.taker()
        for _ in range(max(2, ROUNDS // 10)):
            taker.wait_for(taker.count + 3000)
            leader = cluster.leader("race")
            leader.kill()
            taker.wait_for(taker.count + 3000)  # the other two go on
            leader.start()
            wait_until(lambda: cluster.is_whole("race"), "three servers again", every=0.2)
        count = feeder.end()
        thread.result()
        assert are_numbered(taker.result(), count)
        assert publisher.published == count


def test_a_full_file_system(tmp_path):
    """What is told to be stored is; the publisher waits for room, and gives up at the end."""
    in_full_file_system("fill", tmp_path, "8m")


def in_full_file_system(function, folder, size, *more):
    """Call a function of this module with a folder that is a file system of that size."""
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size={size} none {folder} && exec "$@"'
    namespace = unshare, "--mount", "sh", "-c", mount, "sh"
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    how = child_options([], ("-c", f"import test_nats_killed; test_nats_killed.{function}{(str(folder), *more)}"))
    here = Path(__file__).parent
    how["env"]["PYTHONPATH"] += os.pathsep.join(["", str(here), str(here.parent)])
    how["args"] = [*namespace, *how["args"]]
    done = subprocess.run(**how, capture_output=True, text=True, timeout=2 * WATCHDOG)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ok\n"


def fill(folder):
    """Publish to a server whose file system is full before the end."""
    with Server(folder) as server:
        url = f"{server.url}/race"
        publisher = Publisher(url, batch=4096, patience=0.5)
        thread = Task(publisher.run)
        publisher.ring.put_many(numbered(10))
        wait_until(lambda: publisher.published == 10)  # from the end on it is waited for half a second only
        publisher.ring.put_many(numbered(499_990, 10))
        publisher.ring.shutdown()
        with pytest.raises(StreamError, match="readings are not known to be stored"):
            thread.result()
        count = publisher.published
        assert 0 < count < 500_000
        taker = Taker(Subscriber(url))
        taker.wait_for(count)
        assert are_numbered(taker.end()[:count], count)
    print("ok")


@pytest.mark.parametrize("ends", ["kill", "stop"])
def test_a_file_system_that_is_full_as_the_server_begins_a_new_file(tmp_path, ends):
    """The stream then says that it has reached a number of which there is no message: that one is not stored.

    A server that is killed forgets the number, and one that is stopped keeps it.
    """
    in_full_file_system("fill_at_new_file", tmp_path, "30m", ends)


def fill_at_new_file(folder, ends):
    filler = Path(folder) / "filler"
    with Server(folder) as server:
        url = f"{server.url}/race"
        published(url, numbered(10))
        fill_file_of_stream(url)
        publisher = Publisher(url, batch=4096, patience=WATCHDOG)
        thread = Task(publisher.run)
        wait_until(lambda: publisher.messages == 1, "the stream to be taken over")
        publisher.ring.put_many(numbered(10, 10))
        wait_until(lambda: publisher.published == 10)
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        publisher.ring.put_many(numbered(50_000, 20))
        wait_until(lambda: publisher.resent > 20 or publisher.published > 10, "two tries")
        assert publisher.published == 10
        later = [Subscriber(url, start=start) for start in ("new", datetime.datetime.now(datetime.UTC))]
        filler.unlink()
        getattr(server, ends)()  # from version 2.14 on it stores no more until it is started again
        server.start()
        publisher.ring.shutdown()
        thread.result()
        taker = Taker(Subscriber(url))
        assert are_numbered(taker.result(), 50_020)
        assert taker.subscriber.forgotten == 0
        for each in later:
            assert taken(each)["value"].tolist() == list(range(20, 50_020))
    print("ok")


def fill_file_of_stream(url, stream="race", file=8 << 20, size=100_000):
    """Publish until a file of the stream has no room for a message of that size any more."""

    async def fill(_, manager):
        while (await manager.stream_info(stream)).state.bytes + size < file:
            await manager.publish(f"{stream}.0", bytes(size - 1000))

    asked(url, fill)


@thorough
def test_a_network_that_is_cut():
    """In a network of its own, whose loopback interface goes down and comes back."""
    from own_network import NOT_ALLOWED

    here = Path(__file__).parent
    how = child_options([], (str(here / "own_network.py"), sys.executable, "-W", "error", "-c", CUT))
    how["env"]["PYTHONPATH"] += os.pathsep.join(["", str(here), str(here.parent)])
    done = subprocess.run(**how, capture_output=True, text=True, timeout=10 * LONG_WATCHDOG)
    if done.returncode == NOT_ALLOWED:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ok\n"


CUT = "import test_nats_killed; test_nats_killed.cut_again_and_again()"


def set_loopback(up):
    """Let the loopback interface of this network take and give packets, or lose them all."""
    import fcntl
    import socket
    import struct

    from own_network import IFF_RUNNING, IFF_UP, SIOCSIFFLAGS

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", (IFF_UP | IFF_RUNNING) if up else 0))


def cut_again_and_again():
    """Publish and subscribe while the network is cut, each time until the publisher has noticed."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Server(folder) as server:
        url = f"{server.url}/race"
        publisher = Publisher(url, batch=100, delay=0.005, patience=WATCHDOG)
        thread, feeder = Task(publisher.run), Feeder(publisher)
        taker = Taker(Subscriber(url, timeout=WATCHDOG))
        for _ in range(3):
            taker.wait_for(taker.count + 3000)
            set_loopback(False)
            wait_until(lambda: publisher.trouble)
            set_loopback(True)
        count = feeder.end()
        thread.result()
        assert are_numbered(taker.result(), count)
    print("ok")
