"""What the scripts in bench/ make of what they have measured."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).parents[1] / "bench"
LOWER, HIGHER = [1.0, 2.0, 10.0], [9.0, 20.0, 11.0]  # 9, 10 and 1.1 times as much; that of the medians is 5.5


@pytest.fixture
def bench(monkeypatch):
    """Import a module of bench/, whose modules find each other by their bare names."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCH)
    yield lambda name: __import__(name)
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or ".").parent == BENCH:
            del sys.modules[name]


def test_a_ratio_is_the_middle_one_of_its_rounds(bench):
    line = bench("common").compared(LOWER, HIGHER, 2.0, 9.0)  # times
    assert (line["ratio"], line["quartiles"], line["mark"]) == (9.0, [5.05, 9.5], "reaches the aim")
    assert (line["f1buf_ns"], line["peer_ns"]) == (2.0, 11.0)


def test_so_it_is_in_the_table_of_goals(bench):
    def runs(rates):
        used = SimpleNamespace(cpu_s=1.0, voluntary=0, involuntary=0)
        return [SimpleNamespace(rate=rate, seconds=1.0, used=used) for rate in rates]

    compare = bench("compare")
    goal = compare.Goal("what; against what", None, None, (2.0,) * 3, (9.0,) * 3)
    line = compare.judge(goal, runs(HIGHER), runs(LOWER))
    assert (line["ratio"], line["quartiles"], line["mark"]) == (9.0, [5.05, 9.5], "reaches the aim")
