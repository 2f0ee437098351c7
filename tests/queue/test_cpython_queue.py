"""CPython's own tests of `queue` on f1buf: this interpreter's, and those of Python 3.13 to 3.15 where they are at hand.

They are not part of the project: they come from an interpreter's `test` package, which some installations lack (Debian
has it in libpython3.15-testsuite and its like).
"""

import importlib.util
import json
import queue
import re
import sys
from pathlib import Path

import pytest
from helpers import WATCHDOG, run_python, thorough

import f1buf

THE_SAME_AGAIN = "only a plain Queue has a second way to run; this is what the class Py... has tested"
LEFT_OUT = {
    "CLifoQueueTest": THE_SAME_AGAIN,
    "CPriorityQueueTest": THE_SAME_AGAIN,
    "CFailingQueueTest": THE_SAME_AGAIN,
    "CSimpleQueueTest": "f1buf.SimpleQueue is the standard library's own",
    "PySimpleQueueTest": "tests queue._PySimpleQueue, which is private, and which f1buf has no copy of",
}
MANY_THREADS = ("PyQueueAsSimpleQueueTest", "CQueueAsSimpleQueueTest")  # 50 that put and 50 that get, among others
WHOLE_QUEUE = ("PyQueueTest", "CQueueTest", "PyLifoQueueTest", "PyPriorityQueueTest")  # C: of converted queues


def own_file():
    """This interpreter's own test_queue.py; there need not be one."""
    package = importlib.util.find_spec("test")
    folders = package.submodule_search_locations if package else None
    return [file for folder in folders or () if (file := Path(folder) / "test_queue.py").is_file()]


def files_of(version):
    """Those of another Python, as Debian, `make install` and pyenv put them; the newest last."""
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}*"), key=by_number)
    folders = [Path("/usr"), Path("/usr/local"), *of_pyenv]
    files = [folder / f"lib/python{version}/test/test_queue.py" for folder in folders]
    return [file for file in files if file.is_file()]


def by_number(folder):
    return [int(part) for part in re.findall("[0-9]+", folder.name)]


@pytest.fixture
def own():
    if not own_file():
        this = f"{sys.version_info.major}.{sys.version_info.minor}"
        pytest.skip(f"Python {this} has no test/test_queue.py here (Debian: apt-get install libpython{this}-testsuite)")
    return own_file()[0]


@pytest.fixture(params=["3.13", "3.14", "3.15"])
def another(request):
    if request.param == f"{sys.version_info.major}.{sys.version_info.minor}" and own_file():
        pytest.skip("the same as this interpreter's own")
    files = files_of(request.param)
    if not files:
        pytest.skip(f"no Python {request.param} with a test/test_queue.py in ~/.pyenv, /usr/local or /usr")
    return files[-1]


def run_tests(file, implementation="f1buf", left_out=tuple(LEFT_OUT)):
    code = f"import cpython_queue, {implementation}; cpython_queue.run({implementation}, {str(file)!r}, {left_out})"
    return json.loads(run_python(code, timeout=2 * WATCHDOG))  # 100 threads at a time are slow on a busy machine


def check(report, minimum):
    assert report["left out"] == sorted(LEFT_OUT)
    assert report["skipped"] == 0
    assert sorted(report["ran"]) == sorted([*WHOLE_QUEUE, *MANY_THREADS, "PyFailingQueueTest"])
    assert min(report["ran"][name] for name in WHOLE_QUEUE) >= minimum
    assert min(report["ran"][name] for name in MANY_THREADS) >= 7
    assert report["ran"]["PyFailingQueueTest"] >= 1


@thorough
def test_this_pythons_own_tests(own):
    check(run_tests(own), minimum=24 if sys.version_info >= (3, 13) else 6)


@thorough
def test_the_tests_of_another_python(another):
    check(run_tests(another), minimum=24)


@thorough
def test_a_queue_that_is_wrong_does_not_pass(tmp_path, monkeypatch):
    files = own_file() + files_of("3.13")
    if not files:
        pytest.skip("there is no test_queue.py at hand")
    wrong = "from queue import *\nclass Queue(LifoQueue): pass"
    (tmp_path / "wrong_queue.py").write_text(wrong)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match=r"FAIL: test_basic \(cpython_test_queue.PyQueueTest"):
        run_tests(files[0], "wrong_queue", left_out=(*LEFT_OUT, "PyLifoQueueTest", "PyPriorityQueueTest"))


def test_simple_queue_is_the_standard_one():
    assert f1buf.SimpleQueue is queue.SimpleQueue
