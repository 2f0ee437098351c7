"""What the scripts in bench/ make of what they have measured; how those in tools/ are called."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import f1buf

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


def test_the_documents_say_what_the_kept_results_say(bench):
    """bench/README.md has the tables whole, the others may show rows of them."""
    report = bench("report")
    sections = ("speed", "processes", "streams")
    kept = [report.lines_of(sorted(report.RESULTS.iterdir()), section) for section in sections]
    tables = [report.table(lines, cell) for lines in kept if lines for cell in (report.ratio, report.distance)]
    head, rows = tables[0].partition("\n")[0], {row for table in tables for row in table.splitlines()}
    root = BENCH.parent
    shown = {
        str(file.relative_to(root)): re.findall(
            rf"(?m)^{re.escape(head)}\n(?:\|.*\n)+", file.read_text(encoding="utf-8")
        )
        for file in (root / "README.md", BENCH / "README.md", *root.glob("docs/**/*.md"))
    }
    assert shown["bench/README.md"] == [f"{table}\n" for table in tables]
    assert {file: extra for file, found in shown.items() if (extra := {*"".join(found).splitlines()} - rows)} == {}


def test_results_come_back_with_nine_digits_and_from_the_same_bytes(bench, tmp_path):
    common, sections = bench("common"), {"speed": {"about": {"python": "3.11.7"}, "rates": [1 / 3, 12]}}
    for name in ("one", "other"):
        common.write_results(tmp_path / name, sections)
    assert common.read_results(tmp_path / "one")["speed"]["rates"] == [0.333333333, 12]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_between_processes_what_falls_short_is_said_first(bench):
    processes = bench("processes")
    goals = [
        {"what": "fast", "against": "a", "ratio": 9.0, "must": 2.0, "mark": "reaches the must"},
        {"what": "slow", "against": "b", "ratio": 0.5, "must": 2.0, "mark": "falls short"},
    ]
    bounds = [processes.bound("small", 8192, 8192, "bytes"), processes.bound("large", 1.5, 1, "ms")]
    assert processes.losses({"goals": goals, "bounds": bounds}) == ["slow (b): 0.5, must be 2", "large: 1.5 ms"]


def test_over_streams_what_falls_short_is_said_first(bench):
    pytest.importorskip("nats")
    streams = bench("streams")
    goals = [
        {"what": "fast", "against": "a", "ratio": 0.95, "must": 0.9, "mark": "reaches the must"},
        {"what": "slow", "against": "b", "ratio": 0.5, "must": 0.9, "mark": "falls short"},
    ]
    bounds = [streams.at_least("fast", 12, 12, "M/s"), streams.at_least("slow", 3, 4, "M/s")]
    assert streams.losses({"goals": goals, "bounds": bounds}) == ["slow (b): 0.5, must be 0.9", "slow: 3 M/s"]


def test_over_streams_a_reading_that_is_lost_or_changes_its_place_is_found(bench):
    pytest.importorskip("nats")
    streams = bench("streams")
    readings = streams.of_a_run(8)
    for arrived, right in ((np.tile(readings, 2), True), (readings[1:], False), (readings[::-1].copy(), False)):
        checker = streams.Checker(readings)
        for part in np.array_split(arrived, 3):
            checker(part)
        assert (checker.count, checker.right) == (len(arrived), right)


def test_a_producer_waits_where_a_peer_would_overwrite(bench, monkeypatch):
    peers, sent, taken = bench("process_peers"), [], []
    window = peers.Window(2)
    seen = window.seen(lambda message: taken.append(message) or 1)
    monkeypatch.setattr(peers.os, "sched_yield", lambda: seen(sent[len(taken)]))
    put = window.sender(sent.append)
    ahead = []
    for n in range(5):
        put(n)
        ahead.append(len(sent) - len(taken))
    assert (sent, ahead) == ([0, 1, 2, 3, 4], [1, 2, 2, 2, 2])


def test_what_a_killed_producer_leaves_is_told_apart(bench):
    killed = bench("killed_peers")
    board, size = killed.Board(), 16

    def batch(producer, n):
        records = np.zeros(size, f1buf.READING)
        records["sensor_id"], records["value"], records["timestamp"] = producer, n, n
        return records

    mixed = batch(1, 5)
    mixed[7:] = batch(1, 6)[7:]
    for one in (batch(1, 0), batch(1, 3), batch(1, 3), mixed, batch(1, 4)[:9], batch(2, 1), batch(1, 4)):
        killed.look_at(one, size, board)
    assert {word: board[word] for word in killed.WORDS} == {
        **{"producer": 2, "taken": 2, "put": 0},
        **{"lost": 2 + 1, "again": 1 + 1, "torn": 2},
    }


@pytest.mark.parametrize("tool", ["fuzz", "live_runs", "mutate", "sanitize"])
def test_each_tool_says_what_it_does_and_refuses_the_rest(tool):
    command = [sys.executable, BENCH.parent / "tools" / f"{tool}.py"]
    told, refused = (
        subprocess.run([*command, option], capture_output=True, text=True) for option in ("--help", "--no")
    )
    assert (told.returncode, refused.returncode) == (0, 2)
    assert f"python tools/{tool}.py " in told.stdout
    assert "error: " in refused.stderr
