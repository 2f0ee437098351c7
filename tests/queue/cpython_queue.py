"""CPython's own tests of `queue`, unchanged, run on another implementation of it: `run` is for a process of its own."""

import importlib.util
import json
import sys
import types
import unittest
from pathlib import Path


def run(implementation, file, left_out):
    """Run all classes of a `test_queue.py` but `left_out`; print what ran as JSON, end with status 1 on a failure.

    The file tests two modules that it asks for: `queue` without the C accelerator, in the classes `Py...`, and with it,
    in the classes `C...`. It gets `implementation` for the first, and `converted(implementation)` for the second.
    """
    provide_test_support(file)
    from test import support
    from test.support import import_helper

    def import_fresh_module(name, fresh=(), blocked=()):
        assert name == "queue"
        return implementation if "_queue" in blocked else converted(implementation)

    import_helper.import_fresh_module = import_fresh_module
    allow_many_threads(support)
    module = load(file)
    add_simple_queues_tests(module)
    tests = tests_by_class(module)
    suite = unittest.TestSuite(tests[name] for name in tests if name not in left_out)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    ran = {name: tests[name].countTestCases() for name in tests if name not in left_out}
    print(json.dumps({"left out": sorted(tests.keys() & left_out), "ran": ran, "skipped": len(result.skipped)}))
    assert result.testsRun == sum(ran.values())
    sys.exit(not result.wasSuccessful())


def add_simple_queues_tests(module):
    """Let a Queue, too, pass the tests of SimpleQueue, which it can stand in for: those of many threads are only there.

    Two classes more, of the queues without and with the C accelerator: `PyQueueAsSimpleQueueTest` and `CQueue...`.
    """
    for prefix, queues in (("Py", module.py_queue), ("C", module.c_queue)):
        name = f"{prefix}QueueAsSimpleQueueTest"
        members = {"queue": queues, "type2test": staticmethod(queues.Queue)}
        setattr(module, name, type(name, (module.BaseSimpleQueueTest, unittest.TestCase), members))


def allow_many_threads(support):
    """Let the tests of 100 threads run: from Python 3.14 on they ask for 5 GB, which is their stacks' address space."""
    support.verbose = False  # else it prints what they need, and watches it from a process of its own
    support.set_memlimit("5G")


def provide_test_support(file):
    """Let `test.support` be the one beside the file where this Python has none: some are installed without."""
    try:
        importlib.util.find_spec("test.support")
    except ModuleNotFoundError:
        package = sys.modules["test"] = types.ModuleType("test")
        package.__path__ = [str(Path(file).parent)]


def converted(implementation):
    """The same, but its queues work on a real mutex and real conditions, since somebody has asked for them."""

    def queue(maxsize=0):
        made = implementation.Queue(maxsize)
        with made.mutex:
            pass
        return made

    return types.SimpleNamespace(**{**vars(implementation), "Queue": queue})


def load(file):
    spec = importlib.util.spec_from_file_location("cpython_test_queue", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tests_by_class(module):
    load_tests = unittest.defaultTestLoader.loadTestsFromTestCase
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, unittest.TestCase)]
    return {each.__name__: load_tests(each) for each in classes}
