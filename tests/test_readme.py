"""The README's samples run as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import call, datagram, participants, telemetry, write_recording
from helpers import WATCHDOG

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLES = [
    (section.partition("\n")[0], code)
    for section in README.split("\n## ")
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
]


@pytest.mark.parametrize("sample", [code for _, code in SAMPLES], ids=[title for title, _ in SAMPLES])
def test_sample_runs(sample, tmp_path):
    if "prometheus_client" in sample:
        pytest.importorskip("prometheus_client")
    if "import pandas" in sample:
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        record_race(tmp_path)
    assert run(sample, tmp_path).returncode == 0


def run(sample, folder):
    """Run it in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-c", sample]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, cwd=folder, env=environment)
    print(done.stderr)
    return done


def record_race(folder):
    """Record the folder `race` that a sample reads: two drivers, one of them slower, and somebody unknown."""
    laps = datagram(2, 5.0)
    laps["lap_data"]["current_lap_num"][0, :2] = 3, 2
    packets = [participants(5.0, "ANN", "BOB", ""), laps.tobytes(), telemetry(5.0, 310, 290, 300)]
    recording = write_recording(folder / "race.sqlite3", [(5.0, packet) for packet in packets])
    assert call("replay", recording, "--record", folder / "race").status == 0


def test_the_recipe_for_pandas(tmp_path):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    (sample,) = [code for _, code in SAMPLES if "import pandas" in code]
    record_race(tmp_path)
    found = run(sample + "print(top.to_csv())", tmp_path).stdout.split()
    assert found == ["driver,lap,value", "ANN,3,310.0", "BOB,2,290.0", ",,300.0"]


def test_every_sample_is_found():
    assert len(SAMPLES) == README.count("```python") > 2


def test_what_is_exported_is_what_stats_says():
    """The text that Prometheus gets, after records were put, taken and dropped."""
    parser = pytest.importorskip("prometheus_client.parser")
    (sample,) = [code for title, code in SAMPLES if title == "Watch it"]
    more = """
import json
from prometheus_client import generate_latest
ring.put_many([(0.0, 1, 0, 0, 312.0)] * 1021)
ring.get_many(1000)
ring.shutdown(immediate=True)
print(json.dumps([ring.stats()._asdict(), ring.qsize(), generate_latest(REGISTRY).decode()]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", sample + more], capture_output=True, text=True, timeout=60, check=True
    )
    stats, qsize, text = json.loads(done.stdout)
    assert stats["offered"] == 1024
    assert stats["discarded"] == 24
    families = [family for family in parser.text_string_to_metric_families(text) if family.name.startswith("f1buf_")]
    exported = {one.name: one.value for family in families for one in family.samples if one.labels == {}}
    gauges = {"f1buf_qsize": qsize, "f1buf_high_water": stats.pop("high_water")}
    assert exported == gauges | {f"f1buf_{name}_total": value for name, value in stats.items()}
    types = {family.name: family.type for family in families}
    assert types == dict.fromkeys(gauges, "gauge") | {f"f1buf_{name}": "counter" for name in stats}


def rows_of(table):
    """The cells of a table in Markdown, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_what_shows_the_feature_tables_entries_exists():
    section = README.partition("\n## Feature table\n")[2].partition("\n## ")[0]
    features, shown = (rows_of(table) for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE))
    assert {len(row) for row in features} == {8}
    tests = {name: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell) for name, cell in shown}
    without = {"between processes", "made of"}  # which say what f1buf has not
    assert [name for name, *_ in features if name not in without] == list(tests)
    for named in tests.values():
        assert named
        for file, name in named:
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"


def test_the_view_is_shown_as_it_looks():
    """A terminal of 80 columns and 24 lines at most, with what `replay` shows of the cars."""
    (view,) = re.findall(r"```text\n(f1buf replay.*?)```", README, re.DOTALL)
    lines = view.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for expected in ("Ctrl-C stops", "readings/s", "buffer", "latency", "SPEED", "more cars", "alerts"):
        assert expected in view
