"""Subinterpreters: f1buf belongs to the main interpreter; any other gets an ImportError that says so.

An extension's state is one for the whole process, and Cython keeps it to the interpreter that loads it first. So a
subinterpreter is refused before it loads any. Each test runs in a process of its own.
"""

import os
import sys

import pytest  # helpers uses f1buf: imported where this interpreter is to use it

try:
    import _interpreters
except ImportError:  # Python 3.12 and older
    import _xxsubinterpreters as _interpreters

REFUSED = "ImportError: f1buf does not support subinterpreters: "
USE = """
try:
    from {module} import {name} as used
    if used.__name__ == "Queue":
        import queue
        one = used(1)
        one.put(7)
        assert one.get() == 7
        try:
            one.get(timeout=0.01)
        except queue.Empty:
            pass
except ImportError as error:
    result = f"ImportError: {{error}}"
else:
    result = "used"
import os, sys
loaded = [name for name in sys.modules if name.startswith(("f1buf._", "numpy")) and name not in {plain}]
if loaded:
    result += f" and loaded {{loaded}}"
os.write({descriptor}, result.encode())
"""


PLAIN = ("f1buf.core.errors", "f1buf.core.standard")  # Python, which an interpreter may have once more


def use_elsewhere(isolated, module="f1buf", name="Queue", before=""):
    """What a new subinterpreter says to this import: "used", or the ImportError."""
    if sys.version_info >= (3, 13):
        other = _interpreters.create("isolated" if isolated else "legacy")
    else:
        other = _interpreters.create(isolated=isolated)
    reader, writer = os.pipe()
    failure = _interpreters.run_string(
        other, before + USE.format(module=module, name=name, descriptor=writer, plain=PLAIN)
    )
    assert failure is None, failure  # Python 3.12 and older raise
    result = os.read(reader, 1000).decode()
    _interpreters.destroy(other)
    return result


def assert_refused(result):
    assert result.startswith(REFUSED), result
    assert "loaded" not in result.removeprefix(REFUSED), result


def main_first(isolated):
    """The whole of a test."""
    from helpers import parked

    from f1buf import Queue

    queue = Queue(1)
    waiter = parked(queue.get)
    for module, name in (
        ("f1buf", "Queue"),
        ("f1buf.queue.queue", "LifoQueue"),
        ("f1buf.core.sync", "forks"),
        ("f1buf", "Queue"),
    ):
        assert_refused(use_elsewhere(isolated, module, name))
    queue.put(1)
    assert waiter.result() == 1
    use_it_here()


def use_it_here():
    """Queue and ring, in threads and in the child of a fork: nothing of this interpreter's has changed."""
    from helpers import in_fork, parked

    from f1buf import Queue, RingBuffer

    for buffer in Queue(1), RingBuffer(1, "i8"):
        waiter = parked(buffer.get)
        buffer.put(1)
        assert waiter.result() == 1
        in_fork(lambda buffer=buffer: (buffer.put(2, timeout=1), buffer.get(timeout=1)))


def subinterpreter_first(isolated):
    """The whole of a test: a subinterpreter that comes first does not keep the main one out."""
    for module, name in (
        ("f1buf", "Queue"),
        ("f1buf.queue.queue", "LifoQueue"),
        ("f1buf", "RingBuffer"),
        ("f1buf.core.sync", "forks"),
    ):
        assert_refused(use_elsewhere(isolated, module, name))
    use_it_here()
    assert_refused(use_elsewhere(isolated))
    use_it_here()


def telemetry_elsewhere(isolated):
    """The whole of a test."""
    for module, name in (
        ("f1buf.telemetry", "READING"),
        ("f1buf.telemetry.sources.game.udp", "Receiver"),
        ("f1buf.command.cli", "main"),
    ):
        assert_refused(use_elsewhere(isolated, module, name))
    use_it_here()


def python_does_not_tell(isolated):
    """The whole of a test: then Cython tells, as ever, which interpreter came first."""
    hide = "import queue, sys, _thread\n_thread.__dict__.pop('_is_main_interpreter', None)\n"
    hide += "sys.modules['_xxsubinterpreters'] = None"
    exec(hide)
    use_it_here()
    result = use_elsewhere(isolated, before=hide)
    assert result.startswith("ImportError: ")
    assert not result.startswith(REFUSED)


@pytest.mark.thorough(but=("main_first-*", "subinterpreter_first-*"))
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "legacy"])
@pytest.mark.parametrize(
    "order",
    [main_first, subinterpreter_first, telemetry_elsewhere, python_does_not_tell],
    ids=lambda order: order.__name__,
)
def test_a_second_interpreter_is_refused_and_the_first_goes_on(order, isolated):
    from helpers import run_python

    run_python(f"import test_subinterpreter as it; it.{order.__name__}({isolated})")
