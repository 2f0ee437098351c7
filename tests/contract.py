"""The ring's contract is run over both rings: that of threads, and the one in shared memory.

In the modules of CONTRACT, and in what they use of `helpers`, `RingBuffer` is one, then the other. A test that can only
be one of the first is marked `threads_only`, with the reason. The everyday run leaves the second one out where it takes
long; so does --all without the GIL, of which its waiting makes no use. (conftest.py imports both hooks.)
"""

import helpers
import pytest
from helpers import FULL, WITH_GIL, thorough

from f1buf import RingBuffer, SharedRingBuffer

CONTRACT = (
    "test_stress",
    "test_ring",
    "test_ring_bad_input",
    "test_ring_blocks",
    "test_ring_nogil",
    "test_ring_signals",
    "test_ring_waiting",
    "test_tee",
)
LONG = ("test_ring_nogil", "test_ring_signals", "test_ring_waiting")


@pytest.fixture(autouse=True)
def contract(request):
    # Without `monkeypatch`: pytest-run-parallel runs no test that uses it in several threads.
    if not hasattr(request, "param"):
        yield
        return
    modules = [module for module in (request.module, helpers) if hasattr(module, "RingBuffer")]
    for module in modules:
        module.RingBuffer = request.param
    yield
    for module in modules:
        module.RingBuffer = RingBuffer


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__ in CONTRACT:
        rings = [pytest.param(RingBuffer, id="threads")]
        is_long = metafunc.module.__name__ in LONG
        if not metafunc.definition.get_closest_marker("threads_only") and not (is_long and not WITH_GIL and not FULL):
            marks = thorough if is_long else []
            rings.append(pytest.param(SharedRingBuffer, id="processes", marks=marks))
        metafunc.parametrize("contract", rings, indirect=True)
