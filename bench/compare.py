"""f1buf against its rivals and against what the machine can do: tables, and raw results.

How it measures. All in one process: the cases of a section take turns, every other round in the opposite order, so that
whatever slows the machine down for a while slows all of them. A first round warms up, finds out how much work takes
long enough to be timed, and looks at every record; it is not counted. The tables show medians, and beside them the
spread. A goal's ratio is the median of the ratios round by round, beside it their quartiles. Of latencies the median of
the runs' p50, p99 and p99.9 is shown, and the largest of all. Beside each throughput stand the CPUs kept busy and the
context switches, so that what was bought with spinning shows. Every run checks its answer: each record once, each
producer's in order (peers.py says how).

Sections: speed (the goals, with marks), batches, threads (producers x consumers), capacity, growth, latency (round
trips), sensors (50 at 10 kHz, one reading at a time), busy (beside a thread that only computes), slow (a slow consumer
under each overflow policy), one-core, pipeline.

Above each table stands where a peer is faster than f1buf. All of it takes about a quarter of an hour, speed alone two
minutes. The raw results go to build/bench, one file a release and Python: a section takes the place of an earlier
run's. report.py makes tables of them, plots.py pictures.
"""

import argparse
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
from common import (
    INTERPRETERS,
    Parser,
    cpus,
    environment,
    interpreter,
    positive,
    print_environment,
    print_table,
    quartiles_of,
    read_results,
    write_results,
)
from native import limits
from peers import PEERS, Flow
from pipelines import Pipeline
from workloads import (
    PACED,
    SLOW,
    Mixed,
    Pace,
    Run,
    Slow,
    Trip,
    check,
    idle,
    move,
    move_by_memcpy,
    paced,
    pipeline,
    put_only,
    quantiles,
    round_trips,
    slow_consumer,
)

from f1buf.telemetry.sources.paced import FULL_SPEED_BATCH

OUTPUT = Path(__file__).parents[1] / "build" / "bench"
MEMCPY = "limit: two memcpys, one after the other"
OBJECTS_AT_MOST = 1_000_000  # in one run: they are all kept, to be looked at


# -- cases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Something that can be run; equal to another that runs the same."""

    key: Hashable
    title: str = field(compare=False)
    run: Callable[[int, bool], Run] = field(compare=False)
    spec: dict[str, Any] = field(compare=False)
    unit: int = field(compare=False, default=1)
    most: float = field(compare=False, default=float("inf"))
    stretch: float = field(compare=False, default=1)  # how many times as long a run is to last as others do
    fixed: int | None = field(compare=False, default=None)  # the amount (trips, ms), where it is not found out
    runs: int | None = field(compare=False, default=None)  # at most: where one is long
    ours: bool = field(compare=False, default=False)


@dataclass(frozen=True)
class Scale:
    """How long things take."""

    quick: bool

    @property
    def target_s(self) -> float:
        """Of one throughput run: several of the GIL's turns of 5 ms."""
        return 0.01 if self.quick else 0.08

    def pick(self, full: Any, quick: Any) -> Any:
        return quick if self.quick else full


def flow_case(flow: Flow) -> Case:
    peer = PEERS[flow.peer]
    title = peer.title if flow.spins else f"{peer.title}, never spinning"
    objects = flow.batch == 1 or flow.peer in ("f1buf.Queue", "deque")
    return Case(
        flow,
        title,
        lambda amount, full: move(flow, amount, full=full),
        flow.__dict__,
        flow.unit,
        OBJECTS_AT_MOST if objects else float("inf"),
        # Until 128 threads have left their barrier, half of a short run is over.
        max(1, (flow.producers + flow.consumers) / 8),
        ours=peer.ours,
    )


def memcpy_case(flow: Flow) -> Case:
    run = lambda amount, full: move_by_memcpy(flow, amount)  # noqa: E731
    return Case(("memcpy", flow), MEMCPY, run, {**flow.__dict__, "peer": "memcpy"}, flow.unit)


def puts_case(name: str) -> Case:
    title = "RingBuffer.put of a tuple" if name == "ring" else f"{name}.put of a ready object"
    run = lambda amount, full: put_only(name, amount)  # noqa: E731
    return Case(("put", name), title, run, {"peer": name}, 65536, ours="Queue" not in name)


def trip_case(trip: Trip, scale: Scale) -> Case:
    title, ours = f"limit: {trip.peer}", False
    if trip.peer in PEERS:
        title, ours = (
            re.sub(" one by one| of objects|[(]no bound[)]", "", PEERS[trip.peer].title),
            PEERS[trip.peer].ours,
        )
    run = lambda amount, full: round_trips(trip, amount)  # noqa: E731
    return Case(trip, title.strip(), run, trip.__dict__, fixed=scale.pick(20_000, 500), ours=ours)


def lasting_case(key: Any, title: str, work: Callable[[Any, float], Run], peer: str, ms: int, **more: Any) -> Case:
    """One that runs for a time."""
    run = lambda amount, full: work(key, amount / 1000)  # noqa: E731
    spec = {"peer": peer, **getattr(key, "__dict__", {})}
    return Case(key, title, run, spec, fixed=ms, **more)


def pace_case(pace: Pace, ms: int) -> Case:
    titles = {"ring": "f1buf.RingBuffer", "deque": "deque with Conditions"}
    titles["nowhere"] = "limit: the sensors alone, without a consumer"
    title = titles.get(pace.peer, pace.peer)
    return lasting_case(pace, title, paced, pace.peer, ms, ours=title.startswith("f1buf"))


def slow_case(slow: Slow, ms: int) -> Case:
    titles = {"queue.Queue": "queue.Queue of arrays, waits", "deque": "deque(maxlen), drops the oldest, polled"}
    title = titles.get(slow.policy, f"f1buf.RingBuffer, {slow.policy}")
    return lasting_case(slow, title, slow_consumer, slow.policy, ms, ours=slow.policy not in titles)


def pipeline_case(spec: Pipeline, ms: int) -> Case:
    titles = {
        "f1buf": "f1buf.telemetry",
        "full speed": "f1buf.telemetry at full speed",
        "plain": "the plain pattern",
        "one thread": "the same in one thread",
        "two processes": "f1buf.telemetry at full speed, in two processes",
    }
    title = titles.get(spec.kind, f"the same on {spec.kind}")
    title += f", batches of {spec.batch:,}" if spec.kind not in ("full speed", "two processes", "plain") else ""
    title += ", readings ready" if spec.ready else ""
    return lasting_case(spec, title, pipeline, spec.kind, ms, ours=title.startswith("f1buf"))


def idle_case(consumers: int, ms: int) -> Case:
    return lasting_case(consumers, f"{consumers} consumers that wait", idle, "ring", ms, runs=2, ours=True)


# -- the goals ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A line of the speed table; `must` and `aim` in the order of INTERPRETERS, None where it is no goal."""

    title: str
    ours: Case
    peer: Case | None
    must: Sequence[float | None]
    aim: Sequence[float | None]
    unit: str = "rate"  # or "latency", a ratio of p50, the less the better; or "cpu" [s], without a peer
    aim_ns: dict[str, float] | None = None  # instead of a ratio, to be reached in all these quantiles


def goals(scale: Scale) -> list[Goal]:
    ring = {batch: flow_case(Flow("ring", batch)) for batch in (16, 256, 4096)}
    one_by_one = flow_case(Flow("queue.Queue", capacity=1024))  # its best: with more room its two threads fight more
    rows = [
        Goal("one put, nobody takes; queue.Queue.put", puts_case("ring"), puts_case("queue.Queue"), (8,) * 3, (15,) * 3)
    ]
    for batch, must, aim in ((16, (40,) * 3, 100), (256, (150,) * 3, 500), (4096, (800, 800, 1500), 2000)):
        title = f"1P1C, batches of {batch:,}; queue.Queue one by one"
        rows.append(Goal(title, ring[batch], one_by_one, must, (aim,) * 3))
    for batch, how, must, aim in ((16, "references", 3, 8), (256, "copied", 2, 4), (256, "bytes", 2, 4)):
        peer = flow_case(Flow(f"queue.Queue-{how}", batch))
        title = f"1P1C, batches of {batch:,}; {peer.title}"
        rows.append(Goal(title, ring[batch], peer, (must,) * 3, (aim,) * 3))
    limit = memcpy_case(Flow("ring", 4096))
    rows.append(Goal("1P1C, batches of 4,096; two serial memcpys", ring[4096], limit, (0.5,) * 3, (0.9,) * 3))
    rows += trip_goals(scale)
    rows += pipeline_goals(scale)
    many, two = (flow_case(Flow("ring", 256, n, n, marked=True)) for n in (64, 1))
    rows.append(Goal("64 x 64 threads, batches of 256; 1 x 1", many, two, (0.4, 0.4, 0.3), (0.7,) * 3))
    # Settled: what pages of memory cost when they are first touched, the section `capacity` shows.
    powers = scale.pick((16, 10, 12, 20, 24), (16, 10, 20))
    sizes = {1 << n: flow_case(Flow("ring", 256, capacity=1 << n, settled=True)) for n in powers}
    usual = sizes.pop(1 << 16)
    for size, case in sizes.items():
        title = f"batches of 256, room for {size:,}; for 65,536"
        rows.append(Goal(title, case, usual, (1 / 2,) * 3, (1 / 1.3,) * 3))
    spins, never = (flow_case(Flow("ring", 16, one_core=True, spins=spins)) for spins in (True, False))
    rows.append(Goal("one core, batches of 16; never spinning", spins, never, (1.0,) * 3, (1.0,) * 3))
    waits = idle_case(8, scale.pick(10_000, 500))
    return [*rows, Goal("8 idle consumers for 10 s: CPU in all", waits, None, (0.02,) * 3, (0.005,) * 3, unit="cpu")]


def pipeline_goals(scale: Scale) -> list[Goal]:
    ms = scale.pick(1000, 200)
    ours = {batch: pipeline_case(Pipeline("f1buf", batch), ms) for batch in (256, 4096)}
    plain = pipeline_case(Pipeline("plain"), ms)
    rows = [Goal("whole pipeline; the plain pattern", ours[4096], plain, (100,) * 3, (250,) * 3)]
    for batch, must, aim in ((256, 1.5, 3.0), (4096, 1.0, 1.5)):
        peer = pipeline_case(Pipeline("queue.Queue of arrays", batch), ms)
        title = f"whole pipeline, batches of {batch:,}; on queue.Queue of arrays"
        rows.append(Goal(title, ours[batch], peer, (must,) * 3, (aim,) * 3))
    system, loop = (pipeline_case(Pipeline(kind, FULL_SPEED_BATCH), ms) for kind in ("full speed", "one thread"))
    title = f"whole pipeline, at full speed; in one thread, batches of {FULL_SPEED_BATCH:,}"
    return [*rows, Goal(title, system, loop, (1.3,) * 3, (1.8,) * 3)]


def trip_goals(scale: Scale) -> list[Goal]:
    def goal(title: str, peer: str, cores: int, must: Sequence[Any], aim: Sequence[Any], **more: Any) -> Goal:
        ours, theirs = (trip_case(Trip(name, cores), scale) for name in ("ring", peer))
        return Goal(f"round trip, {title}; {peer}'s p50", ours, theirs, must, aim, unit="latency", **more)

    rows = [goal("one core", "SimpleQueue", 1, (1.1,) * 3, (1.0,) * 3)]
    if len(cpus()) > 1:
        two = goal("two cores", "SimpleQueue", 2, (0.3, 0.3, None), (0.06, 0.06, None))
        without_gil = {"p50": 1e3, "p99": 30e3}
        free = goal("two cores", "queue.Queue", 2, (None, None, 0.1), (None,) * 3, aim_ns=without_gil)
        rows = [two, *rows, free]
    return rows


# -- sections -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    kind: str  # how its lines are printed: "goals", "flow", "latency", "slow" or "rate"
    cases: list[Case]
    runs: int
    goals: list[Goal] = field(default_factory=list)


def flows(made: Iterable[Flow]) -> list[Case]:
    return [flow_case(flow) for flow in made if flow.peer in PEERS]


PIPES = ("multiprocessing.Queue", "faster-fifo")
ONE_BY_ONE = ("queue.Queue", "SimpleQueue", "deque", "culsans", "nblf-queue", *PIPES, "f1buf.Queue")
CARRIERS = ("queue.Queue", "SimpleQueue", "f1buf.Queue")
OF_ARRAYS = (*(f"{who}-{how}" for who in CARRIERS for how in ("references", "bytes")), "queue.Queue-copied")
IN_BATCHES = ("f1buf.Queue", "deque", *OF_ARRAYS, *PIPES)


def batches_section(scale: Scale) -> Section:
    cases = flows(Flow(name) for name in ("ring", "ring-rebatched", *ONE_BY_ONE))
    cases += flows([Flow("queue.Queue", capacity=1024)])
    for batch in scale.pick((4, 16, 64, 256, 1024, 4096, 16384), (16, 256, 4096)):
        cases += flows(Flow(name, batch) for name in ("ring", *IN_BATCHES))
        cases.append(memcpy_case(Flow("ring", batch)))
    return Section("batches", "Throughput by batch size, one producer, one consumer", "flow", cases, 5)


def threads_section(scale: Scale) -> Section:
    cases = []
    shapes = scale.pick(((1, 1), (1, 4), (4, 1), (4, 4), (16, 16), (64, 64)), ((1, 1), (4, 4)))
    for producers, consumers in shapes:
        for name in ("ring", *OF_ARRAYS, "deque"):
            cases += flows([Flow(name, 256, producers, consumers, marked=True)])
        for name in ("ring-rebatched", "f1buf.Queue", "queue.Queue", "SimpleQueue", "culsans", "nblf-queue"):
            cases += flows([Flow(name, 1, producers, consumers, marked=True)])
        cases += flows([Flow("queue.Queue", 1, producers, consumers, capacity=1024, marked=True)])
    return Section("threads", "Throughput by producers x consumers", "flow", cases, 5)


def capacity_section(scale: Scale) -> Section:
    sizes = scale.pick((1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20), (1 << 10, 1 << 16))
    largest = scale.pick((1 << 22, 1 << 24), (1 << 20,))
    cases = []
    for size in sizes:
        cases += flows(Flow(name, 256, capacity=size) for name in ("ring", *OF_ARRAYS))
        cases += flows(Flow(name, capacity=size) for name in ("queue.Queue", "f1buf.Queue"))
        cases.append(memcpy_case(Flow("ring", 256, capacity=size)))
    for size in largest:  # more than any cache holds; the others would keep gigabytes of objects
        cases += [*flows([Flow("ring", 256, capacity=size)]), memcpy_case(Flow("ring", 256, capacity=size))]
    return Section("capacity", "Throughput by capacity, one producer, one consumer", "flow", cases, 5)


def growth_section(scale: Scale) -> Section:
    """What a record costs in large, beside what it costs in small."""
    cases = []
    for power in scale.pick(range(10, 27, 2), (10, 16)):  # 1.6 GB
        flow = Flow("ring", 256, capacity=1 << power, settled=True)
        cases.append(replace(flow_case(flow), title=f"ring, batches of 256, room for 2^{power}"))
    for n in scale.pick((1, 4, 16, 64, 256), (1, 4)):
        flow = Flow("ring", 256, n, n, marked=True)
        cases.append(replace(flow_case(flow), title=f"ring, batches of 256, {n} x {n} threads"))
    for series in scale.pick((1, 10, 100, 1000), (1, 10)):
        title = f"thresholds checked, {series:,} series in turns"
        cases.append(lasting_case(Mixed(series), title, check, "check", scale.pick(300, 30), ours=True))
    return Section("growth", "What a record costs as rings, threads and series grow", "rate", cases, 5)


def latency_section(scale: Scale) -> Section:
    names = ("ring", "f1buf.Queue", "SimpleQueue", "queue.Queue", "deque", "culsans", "multiprocessing.Queue")
    there = [*(name for name in (*names, "faster-fifo") if name in PEERS), "C condition variable"]
    trips = [Trip(name, cores) for cores in (1, 2)[: len(cpus())] for name in there]
    if len(cpus()) > 1:
        trips.append(Trip("C spinning flag", 2))  # on one core each would spin until it is preempted
    title = "Round trip of one record between two threads, each kept on its core"
    return Section("latency", title, "latency", [trip_case(trip, scale) for trip in trips], 5)


def sensors_section(scale: Scale) -> Section:
    cases = [pace_case(Pace(name, 50, 10_000.0), scale.pick(1000, 200)) for name in PACED]
    title = "50 sensors at 10 kHz, one reading at a time: from the scheduled time to the consumer"
    return Section("sensors", title, "latency", cases, 3)


def busy_section(scale: Scale) -> Section:
    cases = [pace_case(Pace(name, 1, 1000.0, busy=1), scale.pick(2000, 300)) for name in PACED]
    title = f"One sensor at 1 kHz beside a thread that computes (switch interval {sys.getswitchinterval() * 1e3:g} ms)"
    return Section("busy", title, "latency", cases, 3)


def slow_section(scale: Scale) -> Section:
    cases = [slow_case(Slow(policy), scale.pick(1000, 150)) for policy in SLOW]
    title = "A consumer half as fast as the producer (256,000 records/s offered): age of what it gets, what is lost"
    return Section("slow", title, "slow", cases, 3)


def one_core_section(scale: Scale) -> Section:
    cases = flows(Flow(name, one_core=True) for name in ("ring-rebatched", "f1buf.Queue", "queue.Queue", "SimpleQueue"))
    cases += flows([Flow("queue.Queue", capacity=1024, one_core=True)])
    for batch in scale.pick((16, 256, 4096), (256,)):
        cases += flows(Flow(name, batch, one_core=True) for name in ("ring", *OF_ARRAYS))
        cases += flows([Flow("ring", batch, one_core=True, spins=False)])
    return Section("one-core", "Throughput with all threads on one core", "flow", cases, 7)


def pipeline_section(scale: Scale) -> Section:
    ms = scale.pick(1000, 200)
    cases = []
    for ready in scale.pick((False, True), (False,)):
        cases.append(pipeline_case(Pipeline("plain", ready=ready), ms))
        for batch in (256, 4096):
            cases += [pipeline_case(Pipeline(kind, batch, ready), ms) for kind in ("f1buf", "queue.Queue of arrays")]
        kinds = ("f1buf", "one thread") if ready else ("full speed", "two processes", "one thread")
        cases += [pipeline_case(Pipeline(kind, FULL_SPEED_BATCH, ready), ms) for kind in kinds]
    title = "The whole pipeline: 5 sensor types, 3 analyzers, alerts on"
    return Section("pipeline", title, "rate", cases, 5)


def speed_section(scale: Scale) -> Section:
    column = INTERPRETERS.index(interpreter())
    mine = [goal for goal in goals(scale) if goal.must[column] is not None]
    cases = list(dict.fromkeys(case for goal in mine for case in (goal.ours, goal.peer) if case is not None))
    title = f"The goals, as they are set for {interpreter()}: what; against what"
    return Section("speed", title, "goals", cases, 9, mine)


SECTIONS: dict[str, Callable[[Scale], Section]] = {
    "speed": speed_section,
    "batches": batches_section,
    "threads": threads_section,
    "capacity": capacity_section,
    "growth": growth_section,
    "latency": latency_section,
    "sensors": sensors_section,
    "busy": busy_section,
    "slow": slow_section,
    "one-core": one_core_section,
    "pipeline": pipeline_section,
}


# -- measuring ------------------------------------------------------------------------------------------------------


class Meter:
    """Measures cases; remembers how much of each is enough to be timed."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._amounts: dict[Case, int] = {}

    def measure(self, cases: Sequence[Case], runs: int) -> dict[Case, list[Run]]:
        cases = list(dict.fromkeys(cases))
        for case in cases:
            self._warm_up(case)
        measured: dict[Case, list[Run]] = {case: [] for case in cases}
        for turn in range(runs):
            for case in cases if turn % 2 else reversed(cases):
                if case.runs is not None and turn >= case.runs:
                    continue
                run = case.run(self._amounts[case], False)
                run.samples, run.extra = None, _with_quantiles(run)
                measured[case].append(run)
        return measured

    def _warm_up(self, case: Case) -> None:
        if case.fixed is not None:
            self._amounts[case] = case.fixed
            case.run(max(1, case.fixed // 10), True)
        elif case in self._amounts:
            case.run(self._amounts[case], True)
        else:
            self._amounts[case] = self._found_out(case)

    def _found_out(self, case: Case) -> int:
        """How much to run, from ever larger runs, after a small one that looks at everything."""
        case.run(-(-100_000 // case.unit) * case.unit, True)
        most = max(case.unit, int(min(case.most, 1 << 40)) // case.unit * case.unit)
        amount, target = min(most, -(-2000 // case.unit) * case.unit), self._scale.target_s * case.stretch
        while True:
            run = case.run(amount, False)
            if run.seconds > target / 4:  # or something else held it up
                run = min(run, case.run(amount, False), key=lambda run: run.seconds)
            if run.seconds > target / 4 or amount >= most:
                break
            amount = min(most, amount * 4)
        wanted = run.rate * target
        return int(min(most, max(case.unit, wanted // case.unit * case.unit)))


CURVE = (*np.arange(0, 99, 1) / 100, *(1 - np.logspace(-2, -4, 41)), 1.0)  # where the plots draw a distribution


def _with_quantiles(run: Run) -> dict[str, Any]:
    """A million samples a run are too many to keep."""
    if run.samples is None:
        return run.extra
    curve = np.quantile(run.samples, CURVE, method="higher")
    return {**run.extra, "samples": len(run.samples), "ns": quantiles(run.samples), "curve_ns": curve.tolist()}


def rate(runs: Sequence[Run]) -> float:
    return statistics.median(run.rate for run in runs)


def latency(runs: Sequence[Run]) -> dict[str, float]:
    """Medians of the quantiles; the largest of all."""
    found = {name: statistics.median(run.extra["ns"][name] for run in runs) for name in ("p50", "p99", "p99.9")}
    return {**found, "max": max(run.extra["ns"]["max"] for run in runs)}


# -- what it comes to -----------------------------------------------------------------------------------------------


def judge(goal: Goal, ours: list[Run], theirs: list[Run] | None) -> dict[str, Any]:
    """A line of the speed table."""
    column = INTERPRETERS.index(interpreter())
    must, aim = goal.must[column], goal.aim[column]
    assert must is not None
    values = {"rate": lambda run: run.rate, "latency": lambda run: run.extra["ns"]["p50"]}
    value = values.get(goal.unit, lambda run: run.used.cpu_s)
    a, b = list(map(value, ours)), [1.0] * len(ours) if theirs is None else list(map(value, theirs))
    low, ratio, high = quartiles_of([x / y for x, y in zip(a, b, strict=True)])
    sign = 1 if goal.unit == "rate" else -1
    reached = sign * ratio >= sign * must
    if goal.aim_ns is not None:
        found = latency(ours)
        best = all(found[name] <= ns for name, ns in goal.aim_ns.items())
    else:
        assert aim is not None
        best = sign * ratio >= sign * aim
    mark = "reaches the aim" if best and reached else "reaches the must" if reached else "falls short"
    return {
        "what": goal.title, "f1buf": statistics.median(a), "peer": statistics.median(b) if theirs else None,
        "unit": goal.unit, "ratio": ratio, "quartiles": [low, high], "must": must, "aim": aim, "aim_ns": goal.aim_ns,
        "mark": mark, "used": [used(runs) for runs in (ours, theirs) if runs],
    }  # fmt: skip


def used(runs: list[Run]) -> dict[str, float]:
    """CPUs kept busy, and how often threads were switched."""
    return {
        "cpus": statistics.median(run.used.cpu_s / run.seconds for run in runs),
        "switches_per_s": statistics.median((run.used.voluntary + run.used.involuntary) / run.seconds for run in runs),
    }


def summary(case: Case, runs: list[Run], base: float | None) -> dict[str, Any]:
    """A case for the JSON file and the plots."""
    row: dict[str, Any] = {"title": case.title, "ours": case.ours, "spec": dict(case.spec)}
    if "ns" in runs[0].extra:
        curve = np.median([run.extra["curve_ns"] for run in runs], axis=0)
        row |= {"ns": latency(runs), "curve_at": list(CURVE), "curve_ns": curve.tolist()}
    row |= {
        "rate": rate(runs),
        "spread": [min(run.rate for run in runs), max(run.rate for run in runs)],
        "ratio": rate(runs) / base if base else None,
        **used(runs),
        "cpu_ns_a_record": statistics.median(run.used.cpu_s / run.amount * 1e9 for run in runs),
        "runs": [{name: value for name, value in run.as_dict().items() if name != "curve_ns"} for run in runs],
    }
    return row


def is_base(base: Flow, flow: Flow) -> bool:
    shape = (flow.producers, flow.consumers, flow.one_core)
    return base.peer == "queue.Queue" and base.batch == 1 and (base.producers, base.consumers, base.one_core) == shape


def base_of(section: Section, case: Case, runs: dict[Case, list[Run]]) -> float | None:
    """The rate that a case's ratio is to: queue.Queue one by one, with the same threads, at its best capacity."""
    if isinstance(case.key, Flow) or (isinstance(case.key, tuple) and case.key[0] == "memcpy"):
        flow = case.key if isinstance(case.key, Flow) else case.key[1]
        alike = [one for one in runs if isinstance(one.key, Flow) and is_base(one.key, flow)]
        return max((rate(runs[one]) for one in alike), default=None)
    if isinstance(case.key, Pipeline):  # to the plain pattern, with as much work
        alike = [one for one in runs if isinstance(one.key, Pipeline) and one.key.kind == "plain"]
        return next((rate(runs[one]) for one in alike if one.key.ready == case.key.ready), None)
    return None


def file_name(about: dict[str, Any], quick: bool) -> str:
    """One file a release and Python; a quick run never takes the place of a measurement."""
    python = about["python"].rstrip("t").rpartition(".")[0] + "t" * (about["goals"] == "free-threaded")
    return f"{about['versions']['f1buf']}-python{python}{'-quick' * quick}.json.xz"


# -- printing -------------------------------------------------------------------------------------------------------


def goal_row(line: dict[str, Any]) -> dict[str, str]:
    show, scale = {"rate": ("{:.2f} M/s", 1e6), "latency": ("{:.2f} us", 1e3), "cpu": ("{:.4f} s", 1)}[line["unit"]]
    aim_ns = line["aim_ns"] or {}
    return {
        "what; against what": line["what"],
        **{who: "" if line[who] is None else show.format(line[who] / scale) for who in ("f1buf", "peer")},
        "ratio": f"{line['ratio']:.3g}",
        "quartiles": "{:.3g}-{:.3g}".format(*line["quartiles"]),
        "must": f"{line['must']:.3g}",
        "aim": ", ".join(f"{q} {ns / 1e3:g} us" for q, ns in aim_ns.items()) or f"{line['aim']:.3g}",
        "mark": line["mark"],
        "CPUs": ", ".join(f"{one['cpus']:.2f}" for one in line["used"]),
        "switches/s": ", ".join(f"{one['switches_per_s']:,.0f}" for one in line["used"]),
    }


def throughput(line: dict[str, Any]) -> dict[str, str]:
    return {
        "what": line["title"],
        "M/s": f"{line['rate'] / 1e6:.2f}",
        "least-most": "{:.4g}-{:.4g}".format(*(rate / 1e6 for rate in line["spread"])),
        "ratio": f"{line['ratio']:.3g}" if line["ratio"] else "",
        "ns CPU": f"{line['cpu_ns_a_record']:.1f}",
        **costs(line),
    }


def costs(line: dict[str, Any]) -> dict[str, str]:
    return {"CPUs": f"{line['cpus']:.2f}", "switches/s": f"{line['switches_per_s']:,.0f}"}


def flow_row(line: dict[str, Any]) -> dict[str, str]:
    spec = line["spec"]
    shape = {"threads": f"{spec['producers']}x{spec['consumers']}"}
    return {"what": "", **shape, **{name: f"{spec[name]:,}" for name in ("batch", "capacity")}, **throughput(line)}


def latency_row(line: dict[str, Any]) -> dict[str, str]:
    offered, late = line["runs"][0].get("offered_per_s"), ""
    if offered and line["rate"] < 0.9 * offered:
        late = f"cannot follow: {line['rate']:,.0f} of {offered:,.0f} a second"
    found = {f"{name} [us]": f"{ns / 1e3:,.1f}" for name, ns in line["ns"].items()}
    return {"what": line["title"], "cores": str(line["spec"].get("cores", "")), **found, **costs(line), "": late}


def slow_row(line: dict[str, Any]) -> dict[str, str]:
    ns, runs = line["ns"], line["runs"]
    puts = {"put p99 [us]": "put_p99_s", "put max [us]": "put_max_s"}
    return {
        "what": line["title"],
        **{f"age {name} [ms]": f"{ns[name] / 1e6:.1f}" for name in ("p50", "p99", "max")},
        "lost": f"{statistics.median(run['dropped'] / run['amount'] for run in runs):.0%}",
        **{name: f"{statistics.median(run[key] for run in runs) * 1e6:,.1f}" for name, key in puts.items()},
        **costs(line),
    }


TABLES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, str]], str]] = {  # a line's cells, and what they mean
    "goals": (goal_row, "CPUs: kept busy, and switches of threads: f1buf's, the peer's"),
    "flow": (flow_row, "ratio: to queue.Queue one by one at its best capacity; ns CPU: of CPU time, a record"),
    "latency": (latency_row, ""),
    "slow": (slow_row, ""),
    "rate": (throughput, ""),
}


def losses(result: dict[str, Any]) -> list[str]:
    """Where a peer is faster than f1buf: goals against a peer, and flows and trips of the same shape."""
    if "goals" in result:
        lost = [line for line in result["goals"] if line["peer"] and (line["ratio"] < 1) == (line["unit"] == "rate")]
        return [f"{line['what']}: {line['ratio']:.3g}" for line in lost if not loses_to_itself(line["what"])]
    shapes: dict[Any, list[dict[str, Any]]] = {}
    for line in result["cases"]:
        if not line["title"].startswith("limit"):
            spec = {name: value for name, value in line["spec"].items() if name not in ("peer", "kind")}
            shapes.setdefault(tuple(spec.items()), []).append(line)
    found = []
    for lines in shapes.values():
        best = max((line for line in lines if line["ours"]), key=goodness, default=None)
        if best is not None:
            better = [line for line in lines if not line["ours"] and goodness(line) > goodness(best)]
            found += [f"{one['title']} is {goodness(one) / goodness(best):.3g} times {best['title']}" for one in better]
    return found


def goodness(line: dict[str, Any]) -> float:
    """The more, the better."""
    return 1e9 / line["ns"]["p50"] if "ns" in line else line["rate"]


def loses_to_itself(what: str) -> bool:
    """Whether the goal is against a limit, or another shape of f1buf's own."""
    return what.endswith(("memcpys", "1 x 1", "for 65,536", "never spinning"))


def print_section(section: Section, result: dict[str, Any]) -> None:
    print(f"\n{section.title}  [{section.name}; {result['runs']} runs, {result['seconds']:.0f} s]")
    for line in losses(result):
        print(f"f1buf loses: {line}")
    row, note = TABLES[section.kind]
    print_table(map(row, result["goals" if section.goals else "cases"]))
    print(note, end="\n" * bool(note))


# -- the command ----------------------------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="little of everything, in less than a minute: does it work?")
    add(
        "--only",
        nargs="+",
        action="extend",
        choices=SECTIONS,
        metavar="SECTION",
        help=f"some of: {', '.join(SECTIONS)}",
    )
    add("--runs", type=positive, metavar="N", help="of each case (default: 3 to 9, by section; with --quick 2)")
    add("--output", type=Path, default=OUTPUT, metavar="DIR", help="for the raw results (default: build/bench)")
    args = parser.parse_args()
    args.only = list(dict.fromkeys(args.only or []))
    try:  # now: what was measured would be lost if it could not be written
        args.output.mkdir(parents=True, exist_ok=True)
        if not os.access(args.output, os.W_OK):
            raise PermissionError(13, "Permission denied", str(args.output))
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")
    return args


def measure_section(section: Section, meter: Meter, count: int) -> dict[str, Any]:
    began = time.perf_counter()
    runs = meter.measure(section.cases, count)
    result: dict[str, Any] = {"title": section.title, "kind": section.kind, "runs": count}
    result["seconds"] = time.perf_counter() - began
    if section.goals:
        result["goals"] = [judge(goal, runs[goal.ours], goal.peer and runs[goal.peer]) for goal in section.goals]
    result["cases"] = [summary(case, runs[case], base_of(section, case, runs)) for case in section.cases]
    return result


def main() -> None:
    args = parse_args()
    limits()  # built now, not while something is timed
    scale, left_out = Scale(args.quick), peers.with_optional_peers()
    if len(cpus()) < 2:
        left_out.append("all that needs two cores is left out: there is one")
    about = environment() | {"quick": args.quick, "left_out": left_out}
    print_environment(about)
    for line in left_out + ["quick: the figures are no measurement"] * args.quick:
        print(line)
    meter, results = Meter(scale), {}
    for name in args.only or SECTIONS:
        section = SECTIONS[name](scale)
        if sys.stderr.isatty():
            print(f"measuring {name} ...", end="\r", file=sys.stderr, flush=True)
        measured = measure_section(section, meter, args.runs or (2 if args.quick else section.runs))
        results[name] = {"about": about, **measured}
        print_section(section, measured)
        sys.stdout.flush()
    file = args.output / file_name(about, args.quick)
    if file.exists():  # what was not measured now stays
        results = read_results(file) | results
    write_results(file, results)
    print(f"\nwritten: {file}")


if __name__ == "__main__":
    main()
