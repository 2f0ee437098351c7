"""The projects in tests/examples: each is built as its users would, against the f1buf that is installed, and runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import WATCHDOG, Task, compile_module, parked, run_python, run_setup, thorough

import f1buf
from f1buf import READING, RingBuffer

EXAMPLES = Path(__file__).parent / "examples"
pytestmark = thorough  # they are compiled first


@pytest.fixture(scope="module")
def producer(tmp_path_factory):
    """The folder of examples/nogil_producer, built."""
    folder = tmp_path_factory.mktemp("examples") / "nogil_producer"
    shutil.copytree(EXAMPLES / "nogil_producer", folder)
    sys.path.append(str(run_setup(folder)))
    yield folder
    sys.path.remove(str(folder / "built"))


def test_a_thread_without_the_gil_feeds_a_consumer_in_python(producer):
    command = [sys.executable, "-W", "error", "consume.py", "1000000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=producer, env=environment, capture_output=True, text=True, timeout=WATCHDOG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1000000 readings in order, ")


def test_a_shutdown_ends_it(producer):
    from nogil_producer import Source

    ring = RingBuffer(1000)
    source = Source(ring, 1_000_000)
    assert len(ring.get_many(1000, min_count=1000)) == 1000
    end = parked(source.join)  # the ring is full again
    ring.shutdown()
    pushed, outcome = end.result()
    assert outcome == 3  # SHUT_DOWN
    assert pushed == ring.stats().offered == ring.stats().taken + len(ring)


def test_it_ends_where_nobody_takes(producer):
    from nogil_producer import Source

    ring = RingBuffer(1000)
    pushed, outcome = Task(Source(ring, 1001, patience=0.01).join).result()
    assert (pushed, outcome) == (1000, 1)  # FULL
    assert ring.is_shutdown
    assert ring.get_many()["value"].tolist() == list(range(1000))


def test_it_ends_with_its_source(producer):
    from nogil_producer import Source

    ring = RingBuffer(10)
    source = Source(ring, 1000)
    del source
    assert ring.is_shutdown


def test_a_ring_of_other_records_is_refused(producer):
    from nogil_producer import Source

    with pytest.raises(TypeError, match=r"expected f1buf\.READING"):
        Source(RingBuffer(10, "i8"), 1)
    with pytest.raises(TypeError):
        Source(None, 1)
    assert RingBuffer(10).dtype == READING


def test_the_sample_in_the_guide(tmp_path):
    page = (EXAMPLES.parents[1] / "docs/guides/from-c.md").read_text(encoding="utf-8")
    built = compile_module(tmp_path, "sample", re.search(r"```cython\n(.*?)```", page, re.DOTALL)[1])
    run_python(f"import sys; sys.path.append({str(built)!r}); import test_examples as it; it.use_sample()")


def use_sample():
    from sample import send_from_python

    ring = RingBuffer(5, "i8")
    assert send_from_python(ring, np.arange(4, dtype="i8"))
    assert not send_from_python(ring, np.arange(4, dtype="i8"))
    assert ring.get_many().tolist() == [0, 1, 2, 3, 0]


# How an f1buf with other C calls declares RingBuffer, and what the import of a module says that was built for it.
OTHER_LAYOUTS = {
    "as large": ("", ["ImportError"]),
    "larger": ("cdef uint64_t[8] more", ["ValueError"]),
    "smaller": (None, ["RuntimeWarning", "ImportError"]),
}
REFUSED = {
    "ImportError": "f1buf.ring.ring does not export expected C variable c_api_0__rebuild_your_module_for_this_f1buf",
    "ValueError": "f1buf.ring.ring.RingBuffer size changed, may indicate binary incompatibility",
    "RuntimeWarning": "f1buf.ring.ring.RingBuffer size changed, may indicate binary incompatibility",
}
IMPORT = """
import sys, warnings
sys.path.append({!r})
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    try:
        import stale
    except Exception as error:
        told.append(warnings.WarningMessage(error, type(error), "", 0))
for each in told:
    print(each.category.__name__, each.message, sep="|")
"""


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_what_was_built_for_other_c_calls_is_refused_at_its_import(tmp_path, layout):
    """Built against an f1buf whose number is another one."""
    other = tmp_path / "other/f1buf"
    shutil.copytree(Path(f1buf.get_include()), other, ignore=shutil.ignore_patterns("*.cpp", "__pycache__"))
    declarations = other / "ring/ring.pxd"
    text = declarations.read_text(encoding="utf-8")
    last = "cdef object __weakref__"
    assert (text.count("cdef int c_api_1__"), text.count(last)) == (1, 1)
    added, kinds = OTHER_LAYOUTS[layout]
    text = text.replace(last, "" if added is None else f"{last}\n    {added}")
    declarations.write_text(text.replace("cdef int c_api_1__", "cdef int c_api_0__"), encoding="utf-8")
    source = "from f1buf cimport RingBuffer\n\ndef end(RingBuffer ring): ring.shut_down(True)\n"
    built = compile_module(tmp_path, "stale", source, package=other)
    told = [line.split("|") for line in run_python(IMPORT.format(str(built))).splitlines()]
    assert [kind for kind, _ in told] == kinds
    for kind, message in told:
        assert message.startswith(REFUSED[kind])


def test_where_the_headers_are_is_told_without_numpy():
    run_python("import sys, f1buf; f1buf.get_include(); assert 'numpy' not in sys.modules")
