"""What the scripts here have in common: the machine, the interpreter, placement, and the command line."""

import argparse
import gc
import os
import platform
import resource
import subprocess
import sys
import sysconfig
import threading
import types
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

import f1buf

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
    """Whose `must` and `aim` apply: by the build, whether or not it has turned its GIL on again."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "free-threaded"
    return "3.13" if sys.version_info >= (3, 13) else "3.11"


def processor() -> str:
    return processor_details().get("model name") or platform.processor() or platform.machine()


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


class Parser(argparse.ArgumentParser):
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
