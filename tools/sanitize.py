"""Run tests of what is compiled under one of gcc's sanitizers, and judge its reports.

    python tools/sanitize.py thread PYTHON    data races: the tests with many threads
    python tools/sanitize.py address          bad memory accesses: all tests of rings, queues, passes over batches
    python tools/sanitize.py undefined        undefined behaviour: the same

In an environment with what `pip install -e '.[test]'` installs, setuptools and Cython. f1buf is built with the
sanitizer in a copy of the tree. PYTHON runs the tests, with the packages of the environment; for `thread` it must be
one that was configured `--with-thread-sanitizer`, and of the environment's version (free-threaded, so that there is no
lock around everything). Further arguments go to pytest; `F1BUF_STRESS` is the seconds that each scenario runs.

A report is f1buf's where a frame of one of its modules is in it, and only these count: neither CPython nor numpy is
ours to mend. No report is suppressed. Exit status: 0 where tests ran, all passed, and no report is f1buf's.

`address` leaves out tests that hold a thread in the middle of a copy, where the sanitizer is slow, and tests whose
signal handler forks, after which it may hang: see HOLDING and FORKING.

With `--canary`, as the first argument, it breaks f1buf on purpose, and exits with 0 only where the sanitizer reports
that: silence means nothing where it would be silent anyway.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from mutate import QUEUE_TESTS, RING_TESTS, ROOT, Change, build, copied_tree, files_of_tests

REPORT = re.compile(r"(?m)^(?=(?:==\d+==)?(?:WARNING|ERROR|FATAL): \w+Sanitizer: |\S+:\d+:\d+: runtime error: )")
OURS = re.compile(r"5f1buf|f1buf::|/(?:core|ring|queue|telemetry|thresholds|game)/\w+\.(?:cpython-|cpp|pyx|px[di]|hpp)")

STRESS_TESTS = ("test_stress.py", "test_queue_stress.py", "test_coroutines.py")
LISTEN_TESTS = tuple(
    f"test_listen.py::test_{name}"
    for name in (
        "two_at_once",
        "forwarding_leaves_nothing_out_and_changes_nothing",
        "what_has_come_before_the_stop_is_decoded",
        "closing_ends_it",
    )
)
BATCH_TESTS = ("test_thresholds.py", "test_sensors.py")  # the compiled passes over batches of readings
NOGIL_TESTS = ("test_ring_nogil.py::test_everything_comes_once_and_in_order",)
TESTS = {
    "thread": (
        *STRESS_TESTS,
        *NOGIL_TESTS,
        *LISTEN_TESTS,
        "test_analyzers.py::test_alerts_do_not_depend_on_the_buffer",
    ),
    "address": RING_TESTS + QUEUE_TESTS + BATCH_TESTS,
    "undefined": RING_TESTS + QUEUE_TESTS + BATCH_TESTS,
}

# What AddressSanitizer does not run, by the names that a test uses, or what it is parametrized with.
#
# Those that hold a thread in the middle of a large copy; one of them is a scenario. What goes before the copy takes so
# long under the sanitizer that the thread is held there, where no other thread waits for it, or inside the allocation,
# with a lock of the sanitizer's.
HOLDING = {"reading", "writing", "midway"}
HOLDS = (
    "tests/ring/test_ring_fork.py::test_the_interpreter_exits_beside_daemon_threads[leave_threads_waiting_for_a_copy]"
)

# Those whose signal handler forks: the thread that sent the signal ends just then, and gives the memory that it kept
# back to the sanitizer's allocator, without the GIL. That takes locks which the allocator (of gcc 12) does not see to
# at a fork. Where the child finds one taken, an allocation of its hangs for ever; also without f1buf, with a queue of
# the standard library's.
FORKING = {"fork_in_a_handler", "fork"}


CANARIES = {
    "thread": [
        # a counter that is changed without the lock
        Change("ring/ring.pyx", "try_put", "release(m)", "release(m)\nself.high_water += n % 2"),
        # a look without the lock
        Change(
            "queue/fast.pxi",
            "pushed",
            "Py_INCREF(<object> item)",
            "if self.monitor.unfinished < 0:\n    return False\nPy_INCREF(<object> item)",
        ),
    ],
    "address": [
        # a copy from beyond the slots
        Change("ring/ring.pyx", "copy_out", "self.slots + pos", "self.slots + self.monitor.capacity"),
    ],
    "undefined": [
        # a copy of nothing from nowhere: without slots
        Change("ring/ring.pyx", "copy_newest", "elif n != 0:", "else:"),
    ],
}


def environment_of(sanitizer, tree, logs):
    options = f"log_path={logs}/report"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), *packages()]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if sanitizer == "thread":
        environment["TSAN_OPTIONS"] = f"{options}:exitcode=0"  # the tests say whether they pass, the reports the rest
    elif sanitizer == "address":
        # The interpreter is not built with it, so that the library must be there before it starts (and the one for
        # exceptions, which it looks for then). It sees each object only where Python's own allocator is out of the way.
        environment["LD_PRELOAD"] = " ".join(map(library, ("libasan.so", "libstdc++.so")))
        environment["PYTHONMALLOC"] = "malloc"
        # The interpreter leaks at its end by design; a ring beyond any memory is to be a MemoryError.
        environment["ASAN_OPTIONS"] = f"{options}:detect_leaks=0:allocator_may_return_null=1"
    else:
        environment["UBSAN_OPTIONS"] = f"{options}:print_stacktrace=1"
    return environment


def packages():
    """Where the packages of this environment are, for another interpreter of the same version."""
    return [path for path in sys.path if path.endswith("site-packages")]


def library(name):
    compiler = os.environ.get("CC", "gcc").split()
    return subprocess.run(
        [*compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
    ).stdout.strip()


def tests_that_name(names, files):
    for file in files:
        for test in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                nodes = list(ast.walk(test))  # its decorators, too
                used = {node.id for node in nodes if isinstance(node, ast.Name)}
                used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
                if used & names:
                    yield f"{file}::{test.name}"


def run(sanitizer, python, arguments, canaries, folder):
    """(what pytest counted, its exit status, f1buf's reports, how many others)"""
    tree, logs = copied_tree(folder / "tree"), folder / "logs"
    logs.mkdir()
    for canary in canaries:
        canary.apply(tree)
    build(tree, F1BUF_SANITIZE=sanitizer)
    files = files_of_tests(TESTS[sanitizer])
    deselect = []
    if sanitizer == "address":
        holding, forking = [*tests_that_name(HOLDING, files), HOLDS], [*tests_that_name(FORKING, files)]
        deselect = [f"--deselect={test}" for test in holding + forking]
        print(f"not run, since they hold a thread in a copy: {len(holding)} tests, see HOLDING", flush=True)
        print(f"not run, since they fork while a thread ends: {len(forking)} tests, see FORKING", flush=True)
    options = ["-q", "--all", "-p", "no:cacheprovider", f"--junitxml={folder}/tests.xml", *deselect]
    status = subprocess.run(
        [python, "-m", "pytest", *options, *files, *arguments], cwd=tree, env=environment_of(sanitizer, tree, logs)
    ).returncode
    results = folder / "tests.xml"
    counted = ElementTree.parse(results).find("testsuite").attrib if results.exists() else {"tests": 0, "skipped": 0}
    reports = [
        report
        for log in sorted(logs.iterdir())
        for report in REPORT.split(log.read_text(errors="replace"))
        if REPORT.match(report)
    ]
    ours = [report for report in reports if OURS.search(report)]
    return int(counted["tests"]) - int(counted["skipped"]), status, ours, len(reports) - len(ours)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canary", action="store_true", help="break f1buf first, and see that it is reported")
    parser.add_argument("sanitizer", choices=TESTS, help="what to build with, and which tests to run")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="[PYTHON] [PYTEST ARGUMENT ...]",
        help="default: this Python, and none",
    )
    options = parser.parse_args(arguments)
    rest = options.rest
    python = rest.pop(0) if rest and not rest[0].startswith("-") else sys.executable
    if shutil.which(python) is None:
        parser.error(f"{python}: expected a Python that can be run")
    began = time.monotonic()
    canaries = CANARIES[options.sanitizer] if options.canary else []
    with tempfile.TemporaryDirectory(prefix="sanitize-") as folder:
        try:
            ran, status, ours, others = run(options.sanitizer, python, rest, canaries, Path(folder))
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error}\n{error.stdout}\n{error.stderr}")
    verdict = f"{options.sanitizer}: {ran} tests ran, {len(ours)} reports with f1buf in them, {others} others; "
    verdict += f"{time.monotonic() - began:.0f} s"
    if options.canary:
        missed = [canary for canary in canaries if not any(Path(canary.file).stem in report for report in ours)]
        print(verdict)
        for canary in missed:
            print(f"what was broken on purpose is not reported: {canary}")
        return 1 if missed else 0
    print(*ours, verdict, sep="\n")
    return 1 if ours or status != 0 or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
