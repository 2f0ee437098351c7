"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import f1buf

MODULES = [module.name for module in pkgutil.walk_packages(f1buf.__path__, "f1buf.") if "__main__" not in module.name]
NEEDS = {"f1buf.command.view.": "rich", "f1buf.telemetry.parts": "pyarrow", "f1buf.telemetry.recorder": "pyarrow"}
NEEDS |= {"f1buf.web.server": "uvicorn", "f1buf.telemetry.exports.table": "pyarrow"}
NEEDS |= {"f1buf.telemetry.exports.mcap": "mcap", "f1buf.telemetry.exports.mdf": "asammdf"}
BUFFERS = ["LifoQueue", "PeekedBlock", "PriorityQueue", "Queue", "ReservedBlock", "RingBuffer", "Tee"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name):
    for prefix, package in NEEDS.items():
        if name.startswith(prefix):
            pytest.importorskip(package)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", BUFFERS)
def test_the_examples_of_a_buffer_give_what_they_say(name):
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(getattr(f1buf, name), name, module=False, globs={}):
        runner.run(test)
    assert runner.tries > 0, "there is no example"
    assert runner.failures == 0
