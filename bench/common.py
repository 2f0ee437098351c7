"""What the scripts here share: the machine, raw results, the command line, tables, comparisons of pairs."""

import argparse
import datetime
import gc
import importlib.metadata
import json
import lzma
import os
import platform
import resource
import statistics
import subprocess
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import f1buf

C = TypeVar("C")
RIVALS = ("janus", "culsans", "aiologic", "faster-fifo", "uvloop", "cantools", "python-can", "asammdf")  # packages
RESULTS = Path(__file__).with_name("results")  # those that are kept: one file a release and Python
INTERPRETERS = ("3.11", "3.13", "free-threaded")  # what `must` and `aim` are given for, in this order


def fresh(code: types.CodeType) -> types.CodeType:
    """A copy of the code and of all code within: a comprehension is a function of its own before Python 3.12."""
    within = tuple(fresh(one) if isinstance(one, types.CodeType) else one for one in code.co_consts)
    return code.replace(co_consts=within)


@cache
def own_copy(loop: types.FunctionType, case: Hashable) -> types.FunctionType:
    """The loop with code that no other case runs.

    The interpreter notes inside each code object which types its calls and lookups met, and takes a shortcut for
    those. Classes that shared a loop would undo each other's shortcuts, and the last one before a run would decide
    how the next begins. `code.replace` gives a code object without notes (`dis.dis(..., adaptive=True)` shows them).
    """
    return types.FunctionType(fresh(loop.__code__), loop.__globals__, loop.__name__)


class Usage(NamedTuple):
    """What the process and the children it has waited for have used."""

    cpu_s: float
    voluntary: int  # context switches: it went to sleep
    involuntary: int  # it was made to give way

    def since(self, before: "Usage") -> "Usage":
        return Usage(*(now - then for now, then in zip(self, before, strict=True)))


def usage() -> Usage:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Usage(
        sum(one.ru_utime + one.ru_stime for one in both),
        sum(one.ru_nvcsw for one in both),
        sum(one.ru_nivcsw for one in both),
    )


def require(holds: bool, what: object, why: str) -> None:
    if not holds:
        raise AssertionError(f"{what}: {why}")


def check_items(what: object, taken: list[list[int]], share: int, producers: int) -> None:
    """All numbers once, and what each consumer got from one producer in the order it was put; a `share` is of one."""
    require(sorted(chain.from_iterable(taken)) == list(range(share * producers)), what, "not every item arrived once")
    for got in taken:
        # A sort by producer alone keeps the order within each. (share.__rfloordiv__(item) is item // share.)
        by_producer = sorted(got, key=share.__rfloordiv__) if producers > 1 else got
        require(by_producer == sorted(got), what, "items of one producer arrived out of their order")


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cpus() -> list[int]:
    """The CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def pin(cpu: int | None) -> None:
    """Keep the calling thread on one CPU; None: leave it alone."""
    if cpu is not None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})


def gil_enabled() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def interpreter() -> str:
    """The one of INTERPRETERS whose goals apply: by the build, whether or not it has turned its GIL on again."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "free-threaded"
    return "3.13" if sys.version_info >= (3, 13) else "3.11"


@cache
def processor_details() -> dict[str, str]:
    """What /proc/cpuinfo says of the first one: a name such as "AMD EPYC" stands for many."""
    wanted = ("vendor_id", "model name", "cpu family", "model", "stepping", "cache size")
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip() in wanted}


def commit(root: Path = Path(f1buf.__file__).parents[1]) -> str | None:
    """The commit that the imported f1buf stands in, "-dirty" with changes on top; None outside of a checkout."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_results(file: Path) -> dict[str, Any]:
    """The sections that compare.py has measured, by name; each says of itself where and when that was."""
    with lzma.open(file, "rt", encoding="utf-8") as text:
        return json.load(text)


def write_results(file: Path, sections: dict[str, Any]) -> None:
    """The same, compressed, with nine digits of each number; the same sections give the same bytes."""
    rounded = json.loads(json.dumps(sections), parse_float=lambda digits: float(f"{float(digits):.9g}"))
    text = json.dumps(rounded, separators=(",", ":"))
    file.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


class Parser(argparse.ArgumentParser):
    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Bad usage: one line, not the whole usage."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and up to 3600, got {text!r}")
    return seconds


def environment() -> dict[str, Any]:
    """Where and with what something is measured."""
    in_checkout = commit()
    packages = ("numpy", "Cython", *RIVALS)
    return {
        "python": platform.python_version() + "t" * (interpreter() == "free-threaded"),
        "compiler": platform.python_compiler(),
        "gil": gil_enabled(),
        "goals": interpreter(),
        "switch_interval_s": sys.getswitchinterval(),
        "processor": processor_details().get("model name") or platform.processor() or platform.machine(),
        "processor_details": processor_details(),
        "cores": len(cpus()),
        "system": platform.platform(),
        "load_before": os.getloadavg(),
        "commit": in_checkout or commit(Path(__file__).parents[1]),
        "f1buf_is": "the checkout's" if in_checkout else f"installed in {Path(f1buf.__file__).parent}",
        "versions": {"f1buf": f1buf.__version__} | {name: version(name) for name in packages},
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def print_environment(about: dict[str, Any]) -> None:
    gil, commit_ = "on" if about["gil"] else "off", about["commit"] or "unknown"
    print(f"Python {about['python']}, GIL {gil}; {about['processor']}, {about['cores']} cores")
    print(f"f1buf {about['versions']['f1buf']} ({about['f1buf_is']}), commit {commit_}")
    print(f"load before: {about['load_before'][0]:.2f}")


def print_table(rows: Iterable[dict[str, str]]) -> None:
    """Columns as wide as they need; text stands at the left, and numbers at the right."""
    rows = list(rows)
    columns = []
    for column in zip(rows[0], *(row.values() for row in rows), strict=True):
        width, text = max(map(len, column)), any(cell[:1].isalpha() for cell in column[1:])
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in column])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


# -- comparisons of pairs -------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A line of a comparison: f1buf's case and a peer's."""

    what: dict[str, str]  # the line's first columns
    ours: Any
    theirs: Any
    must: float | None
    aim: float | None  # None, both: the peer is a limit


def comparison_parser(description: str | None, names: Iterable[str]) -> Parser:
    parser = Parser(description)
    parser.add_argument("--runs", type=positive, metavar="N", help="of each (default: 15; with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="few runs of a tenth of the items: does it work?")
    parser.add_argument("--only", choices=names, metavar="NAME", help=f"one workload: {', '.join(names)}")
    parser.add_argument("--json", metavar="FILE", help="write the table there too, with the time of every run")
    return parser


def comparison_args(parser: Parser) -> argparse.Namespace:
    args = parser.parse_args()
    args.runs = args.runs or (3 if args.quick else 15)
    if args.json:  # opened now: what was measured would be lost if it could not be written
        try:
            args.json = open(args.json, "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            parser.error(f"cannot write {args.json}: {error.strerror}")
    return args


def by_turns(cases: Sequence[C], runs: int, run: Callable[[C, bool], float]) -> dict[C, list[float]]:
    """What each run of each case took; `run` is told whether it is the warm-up, which is left out."""
    times: dict[C, list[float]] = {case: [] for case in cases}
    for turn in range(runs + 1):
        for case in cases if turn % 2 else reversed(cases):
            took = run(case, not turn)
            if turn:
                times[case].append(took)
    return times


def quartiles_of(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles of the ratios round by round. (The ratio of the medians may lie outside of them.)"""
    low, middle, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else list(ratios) * 3
    return low, middle, high


def compared(ours: list[float], theirs: list[float], must: float | None, aim: float | None) -> dict[str, Any]:
    """Of the times of f1buf and of a peer, the medians [ns], the ratio, and what of the goals that reaches."""
    low, ratio, high = quartiles_of([b / a for a, b in zip(ours, theirs, strict=True)])
    mark = "a limit"
    if must is not None and aim is not None:
        mark = "reaches the aim" if ratio >= aim else "reaches the must" if ratio >= must else "falls short"
    return {
        "f1buf_ns": statistics.median(ours), "peer_ns": statistics.median(theirs),
        "ratio": ratio, "quartiles": [low, high], "must": must, "aim": aim, "mark": mark,
        "f1buf_runs_ns": ours, "peer_runs_ns": theirs,
    }  # fmt: skip


def compare_pairs(args: argparse.Namespace, pairs: list[Pair], run: Callable[[Any, bool], float], note: str) -> None:
    """Measure the cases by turns [ns], print the table, and write it to `--json`."""
    cases = dict.fromkeys(case for pair in pairs for case in (pair.ours, pair.theirs))
    about = environment()
    times = by_turns(list(cases), args.runs, run)
    lines = [pair.what | compared(times[pair.ours], times[pair.theirs], pair.must, pair.aim) for pair in pairs]
    print_environment(about)
    print(f"{args.runs} runs of each, taking turns; medians; ratio = peer / f1buf\n{note}\n")
    print_table(
        {
            **pair.what,
            "f1buf": f"{line['f1buf_ns']:,.1f} ns",
            "peer's": f"{line['peer_ns']:,.1f} ns",
            "ratio": f"{line['ratio']:.2f}",
            "quartiles": "{:.2f}-{:.2f}".format(*line["quartiles"]),
            "must": str(line["must"] or ""),
            "aim": str(line["aim"] or ""),
            "mark": line["mark"],
        }
        for pair, line in zip(pairs, lines, strict=True)
    )
    if args.json:
        with args.json as file:
            json.dump({**about, "runs": args.runs, "rows": lines}, file, indent=1)
