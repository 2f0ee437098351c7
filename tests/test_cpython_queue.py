"""CPython's own tests of `queue` on f1buf: this interpreter's, and Python 3.13's where one is at hand.

They are not part of the project: they come from an interpreter's `test` package, which some installations lack.
"""

import importlib.util
import json
import queue
import sys
from pathlib import Path

import pytest
from helpers import run_python, thorough

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


def files_of_3_13():
    return sorted(Path.home().glob(".pyenv/versions/3.13*/lib/python3.13/test/test_queue.py"))


@pytest.fixture
def own():
    if not own_file():
        pytest.skip("this Python is installed without its test package")
    return own_file()[0]


@pytest.fixture
def of_3_13():
    if sys.version_info[:2] == (3, 13) and own_file():
        pytest.skip("the same as this interpreter's own")
    if not files_of_3_13():
        pytest.skip("there is no ~/.pyenv/versions/3.13*/lib/python3.13/test/test_queue.py")
    return files_of_3_13()[-1]


def run_tests(file, implementation="f1buf", left_out=tuple(LEFT_OUT)):
    code = f"import cpython_queue, {implementation}; cpython_queue.run({implementation}, {str(file)!r}, {left_out})"
    return json.loads(run_python(code, timeout=60))


def check(report, minimum):
    assert report["left out"] == sorted(LEFT_OUT)
    assert report["skipped"] == 0
    assert sorted(report["ran"]) == sorted([*WHOLE_QUEUE, *MANY_THREADS, "PyFailingQueueTest"])
    assert min(report["ran"][name] for name in WHOLE_QUEUE) >= minimum
    assert min(report["ran"][name] for name in MANY_THREADS) >= 7
    assert report["ran"]["PyFailingQueueTest"] >= 1


def test_this_pythons_own_tests(own):
    check(run_tests(own), minimum=24 if sys.version_info >= (3, 13) else 6)


@thorough
def test_the_tests_of_3_13(of_3_13):
    check(run_tests(of_3_13), minimum=24)


@thorough
def test_a_queue_that_is_wrong_does_not_pass(tmp_path, monkeypatch):
    files = own_file() + files_of_3_13()
    if not files:
        pytest.skip("there is no test_queue.py at hand")
    wrong = "from queue import *\nclass Queue(LifoQueue): pass"
    (tmp_path / "wrong_queue.py").write_text(wrong)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match=r"FAIL: test_basic \(cpython_test_queue.PyQueueTest"):
        run_tests(files[0], "wrong_queue", left_out=(*LEFT_OUT, "PyLifoQueueTest", "PyPriorityQueueTest"))


def test_simple_queue_is_the_standard_one():
    assert f1buf.SimpleQueue is queue.SimpleQueue
