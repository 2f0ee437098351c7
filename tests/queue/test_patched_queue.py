"""The standard library's own classes under f1buf's queues, whatever was patched or put in the place of `queue`.

Each case runs in an interpreter of its own: what is patched stays so.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers import WATCHDOG, run_python, thorough

# Libraries of greenlets warn of much, and of themselves.
QUIET = "import warnings; warnings.simplefilter('ignore')\n"
PATCHES = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()\nfrom gevent import spawn, sleep, wait\n",
    "eventlet": "import eventlet; eventlet.monkey_patch()\nfrom eventlet import spawn, sleep\n",
}

# In front of what is tested: the three classes do all they should, and programs that catch the exceptions know them.
CHECK = """
import _queue, queue, sys
import f1buf
from f1buf.core import standard as ours

def check(others=queue):
    for name in "Queue", "LifoQueue", "PriorityQueue":
        standard = getattr(ours, name)
        assert (type(standard), standard.__module__, standard.__name__) == (type, "queue", name), standard
        made = getattr(f1buf, name)
        assert issubclass(made, standard), made.__mro__
        assert issubclass(made, ours.Queue), made.__mro__
        q = made(2)
        assert repr(q).startswith(f"<f1buf.{name} object"), q
        q.put(2)
        q.put(1)
        try:
            q.put(3, timeout=1e-3)
        except others.Full:
            pass
        assert [q.get(), q.get()] == ([2, 1] if name == "Queue" else [1, 2]) or name == "LifoQueue"
        try:
            q.get(timeout=1e-3)
        except others.Empty:
            pass
        with q.not_full:
            assert q.mutex.locked()
        q.put(1)
        assert list(q.queue) == [1]
    if hasattr(others, "ShutDown"):
        assert others.ShutDown is f1buf.ShutDown
    assert f1buf.SimpleQueue is _queue.SimpleQueue
    assert ours.Queue.put.__globals__ is vars(ours.module)
    assert ours.module.time is not None
"""


def greenlets(*names):
    """For each of these libraries that is there; not imported here, since greenlet switches the GIL on."""
    return pytest.mark.parametrize(
        "patch",
        [
            pytest.param(
                PATCHES[name],
                id=name,
                marks=pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}: pip install {name}"),
            )
            for name in names
        ],
    )


# What others make of queue --------------------------------------------------------------------------------------------


def test_the_import_brings_no_more_than_queue_does():
    run_python(
        "import sys, queue; before = {*sys.modules}; import f1buf\n"
        "brought = {*sys.modules} - before - {'_xxsubinterpreters'}  # which tells whether this is the main one\n"
        "assert brought == {'f1buf', 'f1buf.core', 'f1buf.core.errors', 'f1buf.core.standard'}, brought"
    )


@pytest.mark.parametrize("used", ["f1buf.Queue()", ""], ids=["used before", "not used before"])
def test_the_standard_classes_serve_where_f1buf_stands_in_for_queue(used):
    """The standard library's own modules then use f1buf's queues."""
    run_python(f"""
import sys
import f1buf
{used}
sys.modules["queue"] = f1buf
import concurrent.futures, logging.handlers, multiprocessing, multiprocessing.pool, queue
assert queue.Queue is f1buf.Queue
{CHECK}
check()
lines = []
class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
q = queue.Queue()
logger = logging.getLogger("test")
logger.propagate = False
logger.addHandler(logging.handlers.QueueHandler(q))
listener = logging.handlers.QueueListener(q, Lines())
listener.start()
logger.warning("lap 1")
listener.stop()
assert lines == ["lap 1"]
with concurrent.futures.ThreadPoolExecutor(2) as executor:
    assert list(executor.map(abs, range(-3, 0))) == [3, 2, 1]
with multiprocessing.pool.ThreadPool(2) as pool:
    assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
q = multiprocessing.Queue(1)
q.put(1)
assert q.get() == 1
try:
    q.get(timeout=1e-3)
except queue.Empty:
    print("empty")
""")


def test_a_mock_is_active_at_the_import():
    run_python(f"""
from unittest import mock
import queue
standard = queue.Queue
with mock.patch("queue.Queue") as mocked, mock.patch("queue.LifoQueue", autospec=True):
    import f1buf
    assert isinstance(f1buf.Queue(), standard)
{CHECK}
check()
assert ours.module is queue
assert not mocked.mock_calls
""")


def test_the_class_has_been_replaced_by_a_subclass():
    run_python(f"""
import queue
class Counted(queue.Queue):
    pass
standard, queue.Queue = queue.Queue, Counted
{CHECK}
check()
assert f1buf.Queue.__mro__[2] is standard
""")


# Where the standard classes are gone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["", "from queue import Queue", "from queue import LifoQueue"])
def test_nobody_holds_all_of_the_classes(kept):
    """A module that imported one of them takes f1buf's queues for such; the others are of a private copy."""
    name = kept.rpartition(" ")[2] or "object"
    run_python(f"""
import gc, queue, sys
{kept}
queue.Queue = queue.LifoQueue = queue.PriorityQueue = None
gc.collect()
{CHECK}
check()
assert isinstance(f1buf.LifoQueue(), {name})
assert (ours.module is queue) == {bool(kept)}
assert queue.Queue is None and queue is sys.modules["queue"]
""")


def test_the_module_itself_is_gone():
    run_python(f"""
import gc, sys, types
import queue
standard = queue.Queue
sys.modules["queue"] = types.ModuleType("queue")
del queue
gc.collect()
{CHECK}
check(ours.module)
assert not isinstance(f1buf.Queue(), standard)
""")


def test_the_module_is_held_by_others_only():
    """As gevent holds it where a program has put gevent's in its place."""
    run_python(f"""
import queue as held
import sys, types
sys.modules["queue"] = types.ModuleType("queue")
{CHECK}
check(held)
assert ours.module is held
""")


@pytest.mark.parametrize("frozen", ["", "import os; del os.__file__"], ids=["", "frozen"])
def test_an_import_of_queue_is_blocked(frozen):
    run_python(f"""
import gc, sys
sys.modules["queue"] = None
{frozen}
{CHECK.replace("import _queue, queue,", "import _queue, ").replace("others=queue", "others")}
check(ours.module)
assert sys.modules["queue"] is None
""")


def test_what_to_do_is_said_where_there_is_none():
    said = run_python("""
import importlib.machinery, sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name == "queue":
            return importlib.machinery.ModuleSpec("queue", self, origin="nowhere")
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.Queue = list
sys.meta_path.insert(0, Nowhere())
try:
    import f1buf
except ImportError as error:
    print(error)
""")
    assert "queue.Queue" in said
    assert "origin='nowhere'" in said
    assert "import f1buf before" in said


# A queue.py of the program's ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imported", ["", "import queue; assert queue.Queue is list"], ids=["", "imported"])
def test_a_file_hides_the_standard_one(tmp_path, imported):
    """It stays what the program finds, and runs where the program imports it, not before."""
    (tmp_path / "queue.py").write_text("print('it runs')\nQueue = list\n")
    said = run_python(f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
{imported}
import f1buf
assert ("queue" in sys.modules) == {bool(imported)}
print("then")
{CHECK}
check(ours.module)
assert queue.Queue is list
""")
    assert said.split("\n") == (["it runs", "then", ""] if imported else ["then", "it runs", ""])


def test_the_program_itself_is_called_queue(tmp_path):
    script = tmp_path / "queue.py"
    script.write_text("from f1buf import Queue, Empty\nq = Queue()\nq.put(1)\nprint(q.get())\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=WATCHDOG)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# gevent, eventlet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after", "used before"])
@greenlets("gevent", "eventlet")
def test_the_standard_classes_serve_whenever_a_library_patches(patch, when):
    first = {"before": "import f1buf", "after": "", "used before": "import f1buf; f1buf.Queue().mutex.convert()"}[when]
    run_python(QUIET + first + "\n" + patch + CHECK + "check()")


@greenlets("gevent", "eventlet")
def test_a_queue_imported_before_the_patch_is_a_base_of_f1bufs(patch):
    run_python(
        f"{QUIET}from queue import Queue as Known\n{patch}{CHECK}check()\nassert isinstance(f1buf.Queue(), Known)"
    )


@greenlets("gevent", "eventlet")
def test_greenlets_share_a_queue_where_nobody_has_to_wait(patch):
    run_python(f"""{QUIET}{patch}
import f1buf
q, taken = f1buf.Queue(10), []
def put():
    for number in range(10):
        q.put(number)
        sleep(0)
def take():
    while len(taken) < 10:
        taken.extend(q.get_many(block=False) if q.qsize() else ())
        sleep(0)
green = [spawn(put), spawn(take)]
while len(taken) < 10:
    sleep(0.001)
assert taken == list(range(10))
""")


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue"])
@greenlets("gevent", "eventlet")
def test_greenlets_wait_for_each_other_by_the_standard_algorithm(patch, kind):
    """The locks are the library's own then, where f1buf is first used after the patch."""
    run_python(f"""{QUIET}{patch}
import f1buf
q, taken = f1buf.{kind}(1), []
with q.mutex:
    pass
def put():
    for number in range(100):
        q.put(number, timeout={WATCHDOG})
def take():
    for _ in range(100):
        taken.append(q.get(timeout={WATCHDOG}))
        q.task_done()
green = [spawn(take), spawn(put)]
while len(taken) < 100:
    sleep(0.001)
q.join()
assert taken == list(range(100))
""")


@greenlets("gevent", "eventlet")
def test_a_plain_queue_waits_for_a_thread_of_the_system(patch):
    """What waits is the whole thread, its greenlets with it."""
    run_python(f"""{QUIET}import _thread; start = _thread.start_new_thread
{patch}
import f1buf
q = f1buf.Queue(1)
ticks = []
green = spawn(lambda: [(ticks.append(1), sleep(0)) for _ in range(1000)])
start(lambda: [q.put(number, timeout={WATCHDOG}) for number in range(1000)], ())
assert [q.get(timeout={WATCHDOG}) for _ in range(1000)] == list(range(1000))
assert not ticks
""")


@greenlets("gevent")
def test_gevents_thread_pool_hands_over_while_greenlets_run(patch):
    run_python(f"""{QUIET}{patch}
import gevent, f1buf
q, pool, ticks = f1buf.Queue(1), gevent.get_hub().threadpool, []
taken = pool.spawn(lambda: [q.get(timeout={WATCHDOG}) for _ in range(1000)])
spawn(lambda: [(ticks.append(1), sleep(0)) for _ in range(10)]).join()
assert len(ticks) == 10 and not taken.ready()  # although a thread waits for an item
pool.spawn(lambda: [q.put(number, timeout={WATCHDOG}) for number in range(1000)])
assert taken.get() == list(range(1000))
""")


@thorough
@greenlets("gevent", "eventlet")
def test_log_records_go_through_a_queue_on_the_librarys_locks(patch):
    run_python(f"""{QUIET}{patch}
import logging, logging.handlers
import f1buf
lines = []
class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
q = f1buf.Queue()
with q.mutex:
    pass
logger = logging.getLogger("test")
logger.addHandler(logging.handlers.QueueHandler(q))
listener = logging.handlers.QueueListener(q, Lines())
listener.start()
sleep(0.01)
logger.warning("lap 1")
listener.stop()
assert lines == ["lap 1"]
""")


@greenlets("gevent", "eventlet")
def test_a_signal_comes_amid_a_wait_of_the_main_thread(patch):
    """Whose name `threading` does not know then."""
    run_python(f"""{QUIET}{patch}
import signal, time
import f1buf
q, handled = f1buf.Queue(), []
signal.signal(signal.SIGALRM, lambda *_: (handled.append(True), q.put("from the handler")))
signal.setitimer(signal.ITIMER_REAL, 0.1)
assert q.get(timeout={WATCHDOG}) == "from the handler"
""")
