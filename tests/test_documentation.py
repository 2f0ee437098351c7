"""The documentation is true: its samples run and print what it shows, what its commands and tables name is there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import documentation
import pytest
from cli_helpers import PLAIN_ENVIRONMENT, call, datagram, participants, telemetry, write_recording
from documentation import ROOT, blocks, pages, prose
from helpers import LONG_WATCHDOG

from f1buf.telemetry import load_thresholds

PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages()}
SHOWN = {"cython", "mermaid", "text"}  # and directives, in braces, which are Sphinx's
RUN = {"console", "pycon", "python", "sh", "sql", "toml"}
OPTION = re.compile(r"--?[a-z0-9][\w-]*")
each_page = pytest.mark.parametrize("name", PAGES)


def walked():
    return [name for name, page in PAGES.items() if any(block.language in RUN for block in blocks(page))]


# Samples --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", walked())
def test_the_samples_of_a_page_run_and_print_what_it_shows(name, tmp_path):
    if "race.sqlite3" in PAGES[name]:
        write_race(tmp_path / "race.sqlite3")
    left_out = walk(ROOT / name, tmp_path)
    if left_out:
        pytest.skip("but for these samples it passed: " + "; ".join(left_out))


def walk(page, folder):
    """Do what a page says, in a folder; what had to be left out."""
    command = [sys.executable, "-W", "error", "-X", "faulthandler", documentation.__file__, str(page)]
    environment = {name: value for name, value in os.environ.items() if name not in PLAIN_ENVIRONMENT}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONG_WATCHDOG)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def write_race(path):
    """Write a recording of the game: two drivers, one of them slower, and somebody unknown."""
    laps = datagram(2, 5.0)
    laps["lap_data"]["current_lap_num"][0, :2] = 3, 2
    packets = [participants(5.0, "ANN", "BOB", ""), laps.tobytes(), telemetry(5.0, 345, 290, 300)]
    return write_recording(path, [(5.0, packet) for packet in packets])


@each_page
def test_every_block_says_what_it_is(name):
    page = PAGES[name]
    assert len(list(blocks(page))) == len(re.findall(r"^ *```", page, re.MULTILINE)) / 2
    for block in blocks(page):
        where = f"{name}:{block.line}"
        assert block.language in RUN | SHOWN or block.language.startswith("{"), where
        assert block.what not in ("not run", "file", "needs") or block.value, where


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\n1 / 0\n```", "ZeroDivisionError"),
        ("```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```", "Expected"),
        ("```pycon\n>>> 1\n2\n```", "Expected"),
        ("```sh\nfalse\n```", "status 1"),
        ("```console\n$ echo 1\n2\n```", "Expected"),
        ("```console\n$ f1buf run --no-such-option\n```", "status 2"),
        ("```toml\n[\n```", "TOMLDecodeError"),
    ],
    ids=["python", "output", "pycon", "sh", "console", "f1buf", "toml"],
)
def test_a_sample_that_is_wrong_fails(tmp_path, page, error):
    (tmp_path / "page.md").write_text(page + "\n")
    with pytest.raises(AssertionError, match=error) as failure:
        walk(tmp_path / "page.md", tmp_path)
    assert "in the block at" in str(failure.value)


# What is not run ------------------------------------------------------------------------------------------------------


def not_run():
    return [(name, block) for name, page in PAGES.items() for block in blocks(page) if block.what == "not run"]


def commands_not_run():
    """Each command of these blocks: its page, and its words."""
    for name, block in not_run():
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|", line.partition(" #")[0]):
                    yield name, shlex.split(re.sub(r"^\w+=\S+ ", "", part))


def test_commands_have_the_options_that_they_are_given():
    found = [(name, words) for name, words in commands_not_run() if words[:1] == ["f1buf"]]
    assert {words[1] for _, words in found} == {"attach", "broker", "can", "listen", "replay", "run", "subscribe"}
    for name, (_, *arguments) in found:
        done = call(*arguments, "--help")  # values are looked at before it is met, names of options are not
        assert done.status == 0, (name, arguments, done.err)
        for option in filter(OPTION.fullmatch, arguments):
            assert re.search(rf"(?<![\w-]){option}\b", done.out), f"{name}: f1buf {arguments[0]} has no {option}"


def test_files_and_extras_that_commands_name_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, words in commands_not_run():
        if words[0] == "python":
            for file in (word for word in words if word.endswith(".py")):
                assert list(ROOT.glob(file)), f"{name}: {file}"
        for named in re.findall(r"(?:f1buf|\.)\[([\w,]+)\]", " ".join(words)):
            assert set(named.split(",")) <= set(extras), f"{name}: {words}"


def test_what_is_not_run_can_be_read():
    for name, block in not_run():
        if block.language == "python":
            compile(block.text, name, "exec")
        elif block.language == "sh":
            subprocess.run(["bash", "-n", "-c", block.text], check=True)


def test_thresholds_that_are_shown_can_be_used(tmp_path):
    shown = [block.text for page in PAGES.values() for block in blocks(page) if block.language == "toml"]
    shown = [text for text in shown if "[[threshold]]" in text]
    assert shown
    for text in shown:
        (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
        load_thresholds(tmp_path / "shown.toml")


# Front page -----------------------------------------------------------------------------------------------------------


def test_the_readme_is_a_front_page():
    assert PAGES["README.md"].count("\n") <= 150


# Prometheus -----------------------------------------------------------------------------------------------------------


def test_what_is_exported_is_what_stats_says():
    """The text that Prometheus gets, after records were put, taken and dropped."""
    parser = pytest.importorskip("prometheus_client.parser")
    sample = next(block.text for block in blocks(PAGES["docs/guides/prometheus.md"]) if block.language == "python")
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


# Tables ---------------------------------------------------------------------------------------------------------------


def rows_of(table):
    """The cells of a table in Markdown, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def tables(page):
    return [rows_of(table) for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)]


def test_what_shows_the_feature_tables_entries_exists():
    features, _killed, _lost, shown = tables(PAGES["docs/features.md"])
    assert {len(row) for row in features} == {8}
    tests = {name: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell) for name, cell in shown}
    without = {"made of"}  # which says what f1buf has not
    assert [name for name, *_ in features if name not in without] == list(tests)
    for named in tests.values():
        assert named
        for file, name in named:
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"


DECLARED = re.compile(r"(?:std::atomic<[^;()]*?>|\batomic\[[^\]]*\]|\b(?:Word|Number)) +(\w[^;=(\n]*)")


def atomics_of(source):
    """The names of the atomics that C++ or Cython declares: words that threads share without a lock."""
    source = re.sub(r"(//|#| ctypedef | using ).*", "", source)
    return {re.match(r"\w+", name)[0] for names in DECLARED.findall(source) for name in re.split(r", *", names.strip())}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("std::atomic<std::uint64_t> forwarded{0}, failed{0};  // Word more", {"forwarded", "failed"}),
        ("    cdef atomic[int] mode   # a Mode", {"mode"}),
        ("  alignas(128) Number seq;\n  Number intent[3];\n  Word id{0};", {"seq", "intent", "id"}),
        ("using Word = std::atomic<int>;\n    ctypedef atomic[int] Word\n    Number* intent\nf(Word *word)", set()),
    ],
)
def test_what_an_atomic_is(source, names):
    assert atomics_of(source) == names


def test_each_atomic_has_its_place_in_the_argument_about_memory_order():
    section = re.search(
        r"### On a processor that reorders\n(.*?)(?=\n##|\Z)", PAGES["docs/architecture.md"], re.DOTALL
    )[1]
    named = {name for quoted in re.findall(r"`([^`]*)`", section) for name in re.findall(r"\w+", quoted)}
    found = 0
    for path in sorted((ROOT / "f1buf").rglob("*.*")):
        if path.suffix in (".hpp", ".pxd", ".pxi", ".pyx"):
            atomics = atomics_of(path.read_text(encoding="utf-8"))
            assert atomics <= named, (
                f"{path.name}: say in docs/architecture.md why the order of {atomics - named} suffices"
            )
            found += len(atomics)
    assert found > 60


@each_page
def test_tables_have_the_same_cells_in_each_row(name):
    for table in re.findall(r"(?:^\|.*\n)+", PAGES[name], re.MULTILINE):
        assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1, table


def headings(page):
    """The anchors of its headings, as GitHub and MyST name them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)", prose(PAGES[name])):
        leads_to = (page.parent / target).resolve() if target else page
        assert leads_to.exists(), target
        if anchor:
            assert anchor in headings(leads_to.read_text(encoding="utf-8")), f"{target}#{anchor}"


@each_page
def test_files_that_a_page_names_exist(name):
    """Tests, tools and benchmarks, by their name alone or with their folder."""
    page = PAGES[name]
    for found in set(re.findall(r"`((?:[\w./]+/)?(?:test_\w+|\w+_model)\.py)`", page)):
        assert list(ROOT.glob(found)) or list((ROOT / "tests").rglob(found)), found
    for found in set(re.findall(r"`((?:f1buf|tools|bench|tests|findings)/[\w./]+)`", page)):
        assert (ROOT / found).exists(), found
