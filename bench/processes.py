"""Records between processes: f1buf.SharedRingBuffer against its peers, its limits and itself.

How it measures. As compare.py does: all cases take turns in one session, every other round in the opposite order, after
a warm-up that finds out how many records take long enough and looks at each of them. Tables show medians, and the
quartiles of the ratios round by round. The peer of a row is the one whose median was the best of the session. Every
run forks its processes, which attach and prepare, meet at a barrier, and are timed from there to the last record of
the last consumer. Every run checks its answer: each record once, each producer's in order. process_peers.py says what
each peer carries, how, and whether its waits keep a core busy.

Above the table stands what f1buf has to reach and does not. All of it takes about six minutes. The raw results go to
build/bench, into compare.py's file, as the section `processes`.
"""

import contextlib
import ctypes
import mmap
import signal
import statistics
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Parser,
    Usage,
    collector_off,
    cpus,
    environment,
    own_copy,
    pin,
    positive,
    print_environment,
    print_table,
    read_results,
    require,
    usage,
    version,
    write_results,
)
from compare import (
    OUTPUT,
    Case,
    Goal,
    Meter,
    Scale,
    file_name,
    flow_case,
    goal_row,
    judge,
    latency,
    memcpy_case,
    rate,
    summary,
)
from native import limits
from peers import CYCLE, FORK, Flow, numbered_blocks, put_each, put_renumbered
from process_peers import PEERS, Check, Ends, Peer, left_out
from workloads import Run

from f1buf import READING, ShutDown

BATCHES = (1, 16, 256, 4096)
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
HUNG_S = 20.0  # a run takes a tenth of a second, with qpipe-rs some seconds
OURS_HUNG_S = 120.0  # a peer's run that did not end is said, one of f1buf's ends the script: not on a busy machine
hung: list[str] = []  # runs of peers that did not end


# -- processes that start together -----------------------------------------------------------------------------------

Prepare = Callable[[], Callable[[], Any]]


@dataclass
class Part:
    """What one process has to tell."""

    began: float
    ended: float
    used: Usage
    result: Any


def body(prepare: Prepare, barrier: Any, pipe: Any, limit: float) -> None:
    """One process: prepares, waits for the others, works, and stays until all have."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with the process that measures
    try:
        work = prepare()
        with collector_off():
            before = usage()
            barrier.wait(limit)
            began = time.perf_counter()
            result = work()
            ended, used = time.perf_counter(), usage().since(before)
        pipe.send(Part(began, ended, used, result))
        barrier.wait(limit)
        sys.unraisablehook = lambda _: None  # of a peer whose destructors fail where both sides were forked
    except threading.BrokenBarrierError:
        return  # another one has failed, and told so
    except BaseException:
        pipe.send(traceback.format_exc())
        barrier.abort()


def run_together(prepares: Sequence[Prepare], what: object, limit: float = OURS_HUNG_S) -> list[Part]:
    """Each in a process of its own; AssertionError with what went wrong in the first that fails."""
    barrier = FORK.Barrier(len(prepares))
    parts: list[Any] = [None] * len(prepares)
    pipes = [FORK.Pipe(duplex=False) for _ in prepares]
    children = [
        FORK.Process(target=body, args=(prepare, barrier, send, limit), daemon=True)
        for prepare, (_, send) in zip(prepares, pipes, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of idle threads, such as numpy's
        for child in children:
            child.start()
    try:
        give_up, open_ = time.monotonic() + limit, {receive: at for at, (receive, _) in enumerate(pipes)}
        while open_:
            ready = wait(list(open_), max(0.0, give_up - time.monotonic()))
            require(bool(ready), what, f"not done after {limit:g} s")
            for receive in ready:
                part = parts[open_.pop(receive)] = receive.recv()
                require(isinstance(part, Part), what, str(part))
        for child in children:
            child.join(10)
    finally:
        for child in children:
            child.kill()
            child.join()
            child.close()
        for ends in pipes:
            for end in ends:
                end.close()
    return parts


def patience(peer: Peer) -> float:
    return OURS_HUNG_S if peer.ours else HUNG_S


def run_of(parts: list[Part], amount: int, **more: Any) -> Run:
    seconds = max(part.ended for part in parts) - min(part.began for part in parts)
    return Run(amount, seconds, Usage(*map(sum, zip(*(part.used for part in parts), strict=True))), **more)


# -- throughput ------------------------------------------------------------------------------------------------------


def producer(flow: Flow, ends: Ends, records: int, index: int) -> Prepare:
    def prepare() -> Callable[[], None]:
        put, blocks = ends.sender(), numbered_blocks(flow, index)
        if not flow.alone:
            loop, numbers, share = own_copy(put_renumbered, flow), blocks[0]["value"], records // flow.producers
            return lambda: loop(put, blocks[0], numbers, share // flow.batch)
        what = list(map(PEERS[flow.peer].form, blocks))
        return lambda: own_copy(put_each, flow)(put, what, records // blocks.size)

    return prepare


def consumer(flow: Flow, ends: Ends, records: int, full: bool, marks: Any) -> Prepare:
    """Its work returns how many records arrived, and how many of them were wrong."""
    checkers: list[Any] = []

    def check(out: Any = None) -> Callable[[Any], int]:
        more = (
            {"cycle": flow.batch * flow.blocks}
            if marks is None
            else {"marks": marks, "share": records // flow.producers}
        )
        checkers.append(checker := limits().Checker(out, **more))
        if marks is not None:
            return checker.marked
        if out is None:
            return checker.every_in if full else checker.ends_in
        return checker.every if full else checker.ends

    def prepare() -> Callable[[], tuple[int, int]]:
        take = ends.receiver(check)

        def work() -> tuple[int, int]:
            take(records // flow.consumers)
            return checkers[0].count, checkers[0].wrong

        return work

    return prepare


def cross(flow: Flow, records: int, full: bool) -> Run:
    """Move records from producers to consumers, each a process."""
    marks = None if flow.alone else np.frombuffer(mmap.mmap(-1, records), "u1")
    with PEERS[flow.peer].open(flow) as ends:
        consumers = [consumer(flow, ends, records, full, marks) for _ in range(flow.consumers)]
        producers = [producer(flow, ends, records, index) for index in range(flow.producers)]
        parts = run_together(consumers + producers, flow, patience(PEERS[flow.peer]))
    counts = [part.result for part in parts[: flow.consumers]]
    require(sum(count for count, _ in counts) == records, flow, f"{counts} records arrived, not {records}")
    require(sum(wrong for _, wrong in counts) == 0, flow, f"{counts}: records or batches that should not have come")
    return run_of(parts, records)


# -- round trips -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trip:
    """One record there and one back, between two processes, each kept on its CPU."""

    peer: str


def ping(put: Callable[[Any], Any], take: Callable[[int], Any], what: list[Any]) -> list[int]:
    clock, times = time.perf_counter_ns, []
    for one in what:
        began = clock()
        put(one)
        take(1)
        times.append(clock() - began)
    return times


def pong(put: Callable[[Any], Any], take: Callable[[int], Any], what: list[Any]) -> None:
    for one in what:
        take(1)
        put(one)


def side(loop: Any, trip: Trip, what: list[Any], ends: Callable[[Check], tuple[Any, Any]], cpu: int) -> Prepare:
    def prepare() -> Callable[[], Any]:
        pin(cpu)
        checkers: list[Any] = []

        def check(out: Any = None) -> Callable[[Any], int]:
            checkers.append(checker := limits().Checker(out, cycle=len(what)))
            return checker.ends_in if out is None else checker.ends

        put, take = ends(check)

        def work() -> Any:
            times = own_copy(loop, trip)(put, take, what)
            require((checkers[0].count, checkers[0].wrong) == (len(what), 0), trip, "wrong answers")
            return times

        return work

    return prepare


def round_trips(trip: Trip, n: int) -> Run:
    """Nanoseconds from before the put to after the get, of up to CYCLE."""
    peer, flow = PEERS[trip.peer], Flow(trip.peer, capacity=1024)
    what = [peer.form(block) for block in numbered_blocks(flow, 0)[:n]]
    with peer.open(flow) as there, peer.open(flow) as back:
        # One side begins with its receiver: some senders wait for theirs.
        pinging = lambda check: (there.sender(), back.receiver(check))  # noqa: E731
        ponging = lambda check: (there.receiver(check), back.sender())[::-1]  # noqa: E731
        sides = [side(ping, trip, what, pinging, cpus()[0]), side(pong, trip, what, ponging, cpus()[-1])]
        parts = run_together(sides, trip, patience(peer))
    return run_of(parts, n, samples=np.array(parts[0].result))


# -- what it costs ---------------------------------------------------------------------------------------------------


def idle(consumers: int, seconds: float) -> Run:
    """So many processes wait at one ring; CPU time of all of them."""
    flow = Flow("shared")
    with PEERS["shared"].open(flow) as ends:

        def waits() -> Callable[[], None]:
            ring = ends.attach()

            def work() -> None:
                with contextlib.suppress(ShutDown):
                    ring.get()

            return work

        def shuts() -> Callable[[], None]:
            ring = ends.attach()

            def work() -> None:
                time.sleep(seconds)  # the length of the measurement
                ring.shutdown()

            return work

        parts = run_together([waits] * consumers + [shuts], f"{consumers} waiting processes")
    return run_of(parts[:-1], consumers)


def attach(times: int) -> Run:
    """Nanoseconds to attach, in a process that has not the ring yet."""
    with PEERS["shared"].open(Flow("shared")) as ends:

        def prepare() -> Callable[[], list[int]]:
            def work() -> list[int]:
                clock, took = time.perf_counter_ns, []
                for _ in repeat(None, times):
                    began = clock()
                    ring = ends.attach()
                    took.append(clock() - began)
                    ring.close()
                return took

            return work

        parts = run_together([prepare], "attach")
    return run_of(parts, times, samples=np.array(parts[0].result))


def memory() -> int:
    """Bytes of a segment beside its records."""
    with PEERS["shared"].open(flow := Flow("shared")) as ends:
        return ends.size - flow.capacity * READING.itemsize


# -- cases -----------------------------------------------------------------------------------------------------------


def unless_hung(run: Callable[[int, bool], Run], ours: bool, *, trips: bool = False) -> Callable[[int, bool], Run]:
    """A peer's run that fails is said, and counts as one that took the longest."""

    def tried(amount: int, full: bool) -> Run:
        try:
            return run(amount, full)
        except AssertionError as error:
            if ours:
                raise
            hung.append(str(error).strip())
            return Run(amount, HUNG_S, Usage(0, 0, 0), np.array([HUNG_S * 1e9]) if trips else None)

    return tried


def crossing(flow: Flow) -> Case:
    peer = PEERS[flow.peer]
    run = unless_hung(lambda amount, full: cross(flow, amount, full), peer.ours)
    return Case(("processes", flow), peer.title, run, {**flow.__dict__, "spins": peer.spins}, flow.unit, ours=peer.ours)


def trip_case(name: str, n: int) -> Case:
    peer, trip = PEERS[name], Trip(name)
    run = unless_hung(lambda amount, full: round_trips(trip, amount), peer.ours, trips=True)
    return Case(trip, peer.title, run, {"peer": name, "spins": peer.spins}, fixed=n, ours=peer.ours)


@dataclass(frozen=True)
class Cases:
    """All that takes turns."""

    flows: dict[tuple[str, int], Case]
    trips: dict[str, Case]
    threads: Case
    memcpys: Case
    one: Case
    two: Case

    @classmethod
    def of(cls, names: Sequence[str], trips: int) -> "Cases":
        one, two = (crossing(Flow("shared", 256, n, n, marked=True)) for n in (1, 2))
        return cls(
            {(name, batch): crossing(Flow(name, batch)) for batch in BATCHES for name in names},
            {name: trip_case(name, trips) for name in names},
            flow_case(Flow("ring-rebatched", 256)),
            memcpy_case(Flow("ring", 4096)),
            one,
            two,
        )

    def all(self) -> list[Case]:
        return [*self.flows.values(), *self.trips.values(), self.threads, self.memcpys, self.one, self.two]


# -- the goals -------------------------------------------------------------------------------------------------------


def goals(cases: Cases, runs: dict[Case, list[Run]]) -> list[Goal]:
    """The rows, each against the best peer of the session."""
    rows = []
    for batch, must, aim in ((1, 5, 10), (16, 8, 15), (256, 3, 6), (4096, 2, 2)):
        theirs = [case for (_, one), case in cases.flows.items() if one == batch and not case.ours]
        best = max(theirs, key=lambda case: rate(runs[case]))
        title = f"1P1C, batches of {batch:,}; the best peer"
        rows.append(Goal(title, cases.flows["shared", batch], best, (must,) * 3, (aim,) * 3))
    ours = cases.flows["shared", 4096], cases.flows["shared", 256]
    rows.append(Goal("1P1C, batches of 4,096; two serial memcpys", ours[0], cases.memcpys, (0,) * 3, (0.8,) * 3))
    rows.append(
        Goal("1P1C, batches of 256; RingBuffer, two threads", ours[1], cases.threads, (1.2, 1.2, 0.8), (2, 2, 1))
    )
    for spins, must, aim in ((True, 1.0, 0.7), (False, 0.1, 0.03)):
        theirs = [case for case in cases.trips.values() if not case.ours and case.spec["spins"] == spins]
        if theirs:
            best = min(theirs, key=lambda case: latency(runs[case])["p50"])
            title = f"round trip; p50 of the best peer that {'spins' if spins else 'waits'}"
            rows.append(Goal(title, cases.trips["shared"], best, (must,) * 3, (aim,) * 3, unit="latency"))
    return [*rows, Goal("2P2C, batches of 256; 1P1C", cases.two, cases.one, (0.7,) * 3, (0.9,) * 3)]


def judged(goal: Goal, runs: dict[Case, list[Run]]) -> dict[str, Any]:
    """The row, with the name of its peer."""
    assert goal.peer is not None
    return judge(goal, runs[goal.ours], runs[goal.peer]) | {"against": goal.peer.title}


def bound(what: str, value: float, most: float, unit: str) -> dict[str, Any]:
    mark = "reaches the must" if value <= most else "falls short"
    return {"what": what, "value": value, "most": most, "unit": unit, "mark": mark}


def bounds(quick: bool) -> list[dict[str, Any]]:
    """What has no peer: the most that it may cost."""
    seconds = 1 if quick else 10
    cpu = statistics.median(idle(8, seconds).used.cpu_s for _ in range(2)) * 10 / seconds
    took = float(np.median(attach(100).samples))
    return [
        bound("8 waiting processes for 10 s; CPU in all, at most 20 ms", cpu * 1e3, 20, "ms"),
        bound("a segment; bytes beside its records, at most 8,192", memory(), 8192, "bytes"),
        bound("attach; median, at most 1 ms", took / 1e6, 1, "ms"),
    ]


# -- printing --------------------------------------------------------------------------------------------------------


def losses(result: dict[str, Any]) -> list[str]:
    """What falls short of what must be."""
    short = [
        f"{line['what']} ({line['against']}): {line['ratio']:.3g}, must be {line['must']:g}"
        for line in result["goals"]
        if is_short(line)
    ]
    return short + [
        f"{line['what']}: {line['value']:.3g} {line['unit']}" for line in result["bounds"] if is_short(line)
    ]


def is_short(line: dict[str, Any]) -> bool:
    return line["mark"] == "falls short"


def peer_row(name: str, cases: Cases, runs: dict[Case, list[Run]]) -> dict[str, str]:
    """A peer's records a second by batch, and its round trip."""
    rates = {f"{batch:,}": f"{rate(runs[cases.flows[name, batch]]) / 1e6:.3g}" for batch in BATCHES}
    found = latency(runs[cases.trips[name]])
    trip = {f"trip {q} [us]": f"{found[q] / 1e3:,.1f}" for q in ("p50", "p99")}
    return {"M/s in batches of": PEERS[name].title, **rates, **trip, "": "spins" if PEERS[name].spins else "waits"}


def print_result(result: dict[str, Any], matrix: list[dict[str, str]]) -> None:
    for line in result["hung"]:
        print(f"a peer's run failed: {line}")
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
            "at most": f"{line['most']:g}",
            "": line["mark"],
        }
        for line in result["bounds"]
    )
    print()
    print_table(matrix)


# -- the command -----------------------------------------------------------------------------------------------------


def works(name: str) -> str:
    """Why a peer does not work here; nothing where it does."""
    try:
        for batch in BATCHES:
            cross(flow := Flow(name, batch), 2 * flow.unit, True)
    except Exception as error:
        return str(error).strip().rpartition("\n")[2] or type(error).__name__
    return ""


def usable(only: Sequence[str] | None, quick: bool) -> tuple[list[str], dict[str, str]]:
    """The peers that can be measured, and why the others cannot; `quick`: found out by measuring."""
    missing = left_out()
    names = [name for name in PEERS if name not in missing and (only is None or name in ("shared", *only))]
    missing |= {name: why for name in names if name != "shared" and not quick and (why := works(name))}
    return [name for name in names if name not in missing], missing


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="little of everything, in less than a minute: does it work?")
    add(
        "--only",
        nargs="+",
        action="extend",
        choices=list(PEERS)[1:],
        metavar="PEER",
        help=f"some of: {', '.join(list(PEERS)[1:])}",
    )
    add("--runs", type=positive, metavar="N", help="of each case (default: 7; with --quick 2)")
    add("--output", type=Path, default=OUTPUT, metavar="DIR", help="for the raw results (default: build/bench)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    limits()  # built now, not while something is timed
    names, missing = usable(args.only, args.quick)
    lines = [f"{name} is left out: {why}" for name, why in missing.items()]
    about = environment() | {"quick": args.quick, "left_out": lines}
    about["versions"] |= {peer.package: version(peer.package) for peer in PEERS.values() if peer.package}
    print_environment(about)
    for line in lines + ["quick: the figures are no measurement"] * args.quick:
        print(line)
    cases, count = Cases.of(names, 500 if args.quick else CYCLE), args.runs or (2 if args.quick else 7)
    began = time.perf_counter()
    runs = Meter(Scale(args.quick)).measure(cases.all(), count)
    result: dict[str, Any] = {"title": "Records between processes", "kind": "goals", "runs": count}
    result["goals"] = [judged(goal, runs) for goal in goals(cases, runs)]
    result["bounds"] = bounds(args.quick)
    result["cases"] = [summary(case, runs[case], None) for case in cases.all()]
    result["hung"] = hung
    result["seconds"] = time.perf_counter() - began
    print(f"\n{result['title']}  [{count} runs, {result['seconds']:.0f} s]")
    print_result(result, [peer_row(name, cases, runs) for name in names])
    file = args.output / file_name(about, args.quick)
    kept = read_results(file) if file.exists() else {}
    write_results(file, kept | {"processes": {"about": about, **result}})
    print(f"\nwritten: {file}")


if __name__ == "__main__":
    main()
