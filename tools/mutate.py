"""Break the code on purpose, one piece at a time, and see that the tests notice.

    python tools/mutate.py                 every mutant, one after the other: some 55 minutes, most of them of waiting
    python tools/mutate.py --only NAME     these mutants, by name; may be given several times
    python tools/mutate.py --list          their names, and what is changed

Each mutant in `mutants.txt` changes one place of the sources, in a copy of the tree, where it is built and tested:
first by the test that is to notice it, then, if that passes, by all the tests of rings or of queues, as the everyday
run has them. Without a change, all of these must pass: that is the first run. A mutant is killed by the test that
fails, crashes or hangs, and by nothing else: one that does not compile is an error. Mutants whose place is not found
are named, with their function, before anything runs. Needs what `pip install -e '.[test]'` installs, setuptools and
Cython.

Prints a table of the mutants and the tests that killed them; standard error tells what happens meanwhile. Exit status:
0 where all are killed, 1 where one survives, 2 where something else went wrong.

What is no mutant, since it changes nothing that could be noticed but time, and why:

- A waiter that was granted just as it gave up does not wait for its wake-up: the next waiter with that node gets it,
  and looks again.
- One grant a SETTLE after a shutdown, too: each that was granted SETTLEs as it returns.
- A spinner that does not SETTLE as it unlocks: it does within 10 us, when it parks, or acts.
- A standard wait that a signal handler's exception ends, and that does not pass on what it was told: its callers do.
- No promise while a get allocates: others are woken for the same records, find nothing and wait on.
- A coroutine that goes on to a condition, but stays in the lists of the queue's PLAIN days: only a debug build sees it.
- Between processes, an eviction that is not written down before it is done: only in a debug build is a process killed
  amid it (`test_shared_killed.py`).
- A put that does not seal what was shut down amid it, and one that waits without a look whether its process has closed
  the ring: those that wait seal it within a TICK, and the lock, which is taken next, looks.

And that a parker, or a sleeper between processes, keeps a wake-up that comes before the sleep is for the models of the
protocols: between the two lies too little for a test to meet.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STALLED = 45.0  # [s] without a sign of life, after which the test that runs counts as hanging; no test takes 10
RING_TESTS = (
    "test_ring*.py",
    "test_shared*.py",
    "test_no_lost_wakeup.py",
    "test_stress.py",
    "test_coroutines.py",
    "test_async_frameworks.py",
)
QUEUE_TESTS = ("test_queue*.py", "test_coroutines.py", "test_async_frameworks.py")

# Of a language: a comment, and what stands on a line before the name of the function that it begins.
PYTHON = r"#.*", r"(?:async +)?(?:def|cdef|cpdef)\b[^=\n]*?"
CPP = r"//.*", r"[\w\[\]:<>*& ]+[*& ]"


def files_of_tests(patterns):
    """The files of tests, or the tests in them, that each pattern names, from the root of the project on."""
    found = set()
    for pattern in patterns:
        file, *test = pattern.split("::")
        found |= {"::".join([str(path.relative_to(ROOT)), *test]) for path in (ROOT / "tests").rglob(file)}
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class Change:
    """A piece of code that is in a function exactly once, and what it becomes."""

    file: str  # in f1buf/
    function: str  # by its name alone: all of that name in the file
    old: str
    new: str

    def path(self, tree):
        return tree / "f1buf" / self.file

    def place(self, text):
        """Where the piece starts and ends. White space and comments do not count.

        A function ends before the next line that is indented no deeper. Raises LookupError.
        """
        comment, head = CPP if self.file.endswith(".hpp") else PYTHON
        text = re.sub(comment, lambda found: " " * len(found[0]), text)
        functions = list(re.finditer(rf"(?ms)^( *){head}\b{self.function}\(.*?(?=^(?!\1 ) *[\w@]|\Z)", text))
        tokens = [re.sub(r"\w+", r"\\b\g<0>\\b", re.escape(token)) for token in re.findall(r"\w+|\S", self.old)]
        piece = re.compile(r"\s*".join(tokens))
        places = [place for function in functions for place in piece.finditer(text, *function.span())]
        if len(places) != 1:
            found = f"{len(places)} times" if functions else "no such function"
            raise LookupError(f"{self.file}, {self.function}: expected once, found {found}: {self.old}")
        return places[0].span()

    def applied(self, tree):
        """The file's text with the change, indented as the piece's first line. Raises LookupError."""
        text = self.path(tree).read_text(encoding="utf-8")
        start, end = self.place(text)
        line = text[text.rfind("\n", 0, start) + 1 : start]
        indent = line[: len(line) - len(line.lstrip())]
        return text[:start] + self.new.replace("\n", "\n" + indent) + text[end:]

    def apply(self, tree):
        self.path(tree).write_text(self.applied(tree), encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Mutant(Change):
    name: str
    test: str  # in tests/: the one that is to notice

    def suite(self):
        """Everything that could notice."""
        room = Path(self.file).parts[0]
        return files_of_tests({"ring": RING_TESTS, "queue": QUEUE_TESTS}.get(room, RING_TESTS + QUEUE_TESTS))


def read_mutants(file):
    """Yield those of a file whose first paragraph says what the others consist of."""
    for paragraph in file.read_text(encoding="utf-8").split("\n\n")[1:]:
        name, where, *change, test = [line for line in paragraph.splitlines() if not line.startswith("#")]
        old, new = ("\n".join(line[2:] for line in change if line[0] == sign) for sign in "-+")
        yield Mutant(*where.split(), old, new, name, test)


MUTANTS = list(read_mutants(Path(__file__).with_name("mutants.txt")))


# Trees ----------------------------------------------------------------------------------------------------------------


def copied_tree(folder):
    """A copy of the tree without what was built."""
    what_was_built = shutil.ignore_patterns(
        ".*", "bench", "build", "dist", "*.so", "*.pyd", "*.cpp", "*.egg-info", "__pycache__"
    )
    return Path(shutil.copytree(ROOT, folder, ignore=what_was_built))


def build(tree, **environment):
    """Build what has changed, and see that this is what would be imported. Raises CalledProcessError."""
    run = {"cwd": tree, "check": True, "capture_output": True, "text": True}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, env={**os.environ, **environment}, **run)
    look = [sys.executable, "-c", "from importlib.util import find_spec; print(find_spec('f1buf.queue.queue').origin)"]
    origin = subprocess.run(look, env={**os.environ, "PYTHONPATH": str(tree)}, **run).stdout.strip()
    if tree.resolve() not in Path(origin).resolve().parents:
        raise SystemExit(f"{origin} would be tested, not what was built in {tree}")


# Runs -----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Failure:
    test: str
    how: str
    says: str


def first_failure(tree, tests):
    """Run tests until one fails, crashes or hangs; None where all of them pass."""
    log = tree / "tests.log"
    command = [sys.executable, "-m", "pytest", "-x", "-v", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = wait_for_progress(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):  # its children, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors="replace")
    if status == 0:
        return None
    if status in (4, 5):  # pytest: usage, nothing to run
        raise SystemExit(f"pytest cannot run {' '.join(tests)}:\n{text[-2000:]}")
    how = "hangs" if status is None else "fails" if status > 0 else f"crashes ({signal.Signals(-status).name})"
    started = re.findall(
        r"^tests/(?:\w+/)*(\S+\.py::\w+(?:\[.*?\])?)(?= |$)", text, re.MULTILINE
    )  # the last one ended it
    says = re.search(r"^E +(.*)$", text, re.MULTILINE)
    return Failure(started[-1] if started else "importing the tests", how, says[1] if says else "")


def wait_for_progress(process, log):
    """The exit status of a process, or None where it has written nothing for too long."""
    size, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)  # a look at a file
        if log.stat().st_size != size:
            size, since = log.stat().st_size, time.monotonic()
        elif time.monotonic() - since > STALLED:
            return None
    return process.returncode


def try_mutant(mutant, base, folder):
    """The first failure with it; None where it survives."""
    tree = Path(shutil.copytree(base, folder))
    try:
        mutant.apply(tree)
        try:
            build(tree)
        except subprocess.CalledProcessError as error:
            tell(f"{mutant.name} does not compile: {error.stdout[-1000:]}{error.stderr[-2000:]}")
            return None
        file, name = mutant.test.split("::")  # by -k, so that what the everyday run leaves out is left out here, too
        return first_failure(tree, [*files_of_tests([file]), "-k", name]) or first_failure(tree, mutant.suite())
    finally:
        shutil.rmtree(tree)


def try_all(mutants, folder):
    """[(mutant, the failure that killed it, seconds), ...]"""
    base = copied_tree(folder / "base")
    setup = base / "setup.py"
    setup.write_text(setup.read_text(encoding="utf-8").replace("-O3", "-O0"), encoding="utf-8")  # a third of the time
    began = time.monotonic()
    build(base)
    tests = sorted({test for mutant in mutants for test in mutant.suite()})
    failure = first_failure(base, tests)
    if failure is not None:
        raise SystemExit(f"nothing is broken yet, but {failure.test} {failure.how}: {failure.says}")
    tell(f"{time.monotonic() - began:.0f} s: without a change, all of {len(tests)} files pass")
    outcomes = []
    for mutant in mutants:
        began = time.monotonic()
        killer = try_mutant(mutant, base, folder / "mutant")
        outcomes.append((mutant, killer, time.monotonic() - began))
        end = "SURVIVES" if killer is None else f"{killer.test} {killer.how}: {killer.says}"
        tell(f"{outcomes[-1][2]:.0f} s: {mutant.name}: {end}")
    return outcomes


def lost_places(mutants):
    for mutant in mutants:
        try:
            mutant.applied(ROOT)
        except LookupError as error:
            yield f"{mutant.name}: {error}"


def tell(line):
    print(line, file=sys.stderr, flush=True)


def table(outcomes):
    yield "| what is broken | in | which test says so | how | s |"
    yield "| --- | --- | --- | --- | --- |"
    for mutant, killer, seconds in outcomes:
        test, how = ("**none**", "survives") if killer is None else (f"`{killer.test}`", killer.how)
        yield f"| {mutant.name} | `{mutant.file}` | {test} | {how} | {seconds:.0f} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help="this one; repeatable")
    parser.add_argument("--list", action="store_true", help="the mutants, and nothing else")
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}\n  {mutant.file}, {mutant.function}: {mutant.old!r} becomes {mutant.new!r}")
            print(f"  {mutant.test}")
    lost = list(lost_places(mutants))
    for line in lost:
        tell(line)
    if lost or options.list:
        return 2 if lost else 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            outcomes = try_all(mutants, Path(folder))
        except subprocess.CalledProcessError as error:
            tell(f"{error}\n{error.stdout[-2000:]}\n{error.stderr[-2000:]}")
            return 2
        except SystemExit as error:
            tell(error)
            return 2
    print("\n".join(table(outcomes)))
    survivors = sum(killer is None for _, killer, _ in outcomes)
    print(f"\n{len(outcomes)} mutants, {survivors} survive; {sum(seconds for *_, seconds in outcomes):.0f} s.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
