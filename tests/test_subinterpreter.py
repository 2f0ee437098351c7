"""Subinterpreters: f1buf belongs to the interpreter that uses it first; any other gets an ImportError that says so.

An extension's state is one for the whole process. From 3.12 on Python itself keeps such out of isolated interpreters,
whoever comes first. Each test runs in a process of its own.
"""

import os
import sys

import pytest  # helpers uses f1buf: imported where this interpreter is to use it

try:
    import _interpreters
except ImportError:  # Python 3.12 and older
    import _xxsubinterpreters as _interpreters

REFUSED = ("does not support loading in subinterpreters", "can only be loaded into one interpreter per process")
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
import os
os.write({descriptor}, result.encode())
"""


def use_elsewhere(isolated, module="f1buf", name="Queue"):
    """What a new subinterpreter says to this import: "used", or the ImportError."""
    if sys.version_info >= (3, 13):
        other = _interpreters.create("isolated" if isolated else "legacy")
    else:
        other = _interpreters.create(isolated=isolated)
    reader, writer = os.pipe()
    failure = _interpreters.run_string(other, USE.format(module=module, name=name, descriptor=writer))
    assert failure is None, failure  # Python 3.12 and older raise
    result = os.read(reader, 1000).decode()
    _interpreters.destroy(other)
    return result


def assert_refused(result):
    assert result.startswith("ImportError: ")
    assert any(words in result for words in REFUSED), result


def main_first(isolated):
    """The whole of a test."""
    from helpers import parked

    from f1buf import Queue

    queue = Queue(1)
    waiter = parked(queue.get)
    for module, name in ("f1buf", "Queue"), ("f1buf._queue", "LifoQueue"), ("f1buf._sync", "forks"), ("f1buf", "Queue"):
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


def ring_elsewhere(isolated):
    """The whole of a test: who refuses first, numpy or f1buf, is all the same."""
    use_it_here()
    assert use_elsewhere(isolated, name="RingBuffer").startswith("ImportError: ")
    use_it_here()


def subinterpreter_first(isolated):
    """The whole of a test."""
    result = use_elsewhere(isolated)
    if isolated and sys.version_info >= (3, 12):
        assert_refused(result)
        use_it_here()
        return
    assert result == "used"
    with pytest.raises(ImportError, match=REFUSED[1]):
        from f1buf import Queue  # noqa: F401
    assert_refused(use_elsewhere(isolated))
    with pytest.raises(ImportError, match=REFUSED[1]):
        import f1buf._ring  # noqa: F401


@pytest.mark.thorough(but=("main_first-*",))
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "legacy"])
@pytest.mark.parametrize("order", [main_first, ring_elsewhere, subinterpreter_first], ids=lambda order: order.__name__)
def test_a_second_interpreter_is_refused_and_the_first_goes_on(order, isolated):
    from helpers import run_python

    run_python(f"import test_subinterpreter as it; it.{order.__name__}({isolated})")
