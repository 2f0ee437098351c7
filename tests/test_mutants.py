"""The lists of deliberate faults, `mutate.MUTANTS` and `sanitize.CANARIES`, still fit the sources and the tests.

That the tests notice each of them takes longer: `python tools/mutate.py`.
"""

import pytest
from mutate import MUTANTS, ROOT, files_of_tests
from sanitize import CANARIES

SOURCES = ROOT / "f1buf"

pytestmark = pytest.mark.skipif(
    not (SOURCES / "core/sync.pyx").exists(), reason="the sources of f1buf are not beside the tests"
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_a_test(mutant):
    assert (SOURCES / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    file, name = mutant.test.split("::")
    (path,) = files_of_tests([file])
    marks, found, _ = (ROOT / path).read_text(encoding="utf-8").partition(f"def {name}(")
    assert found
    assert "\n@thorough\n" not in marks.rpartition("\n\n")[2], "the everyday run does not notice it"
    assert path in mutant.suite()


def test_mutants_are_told_apart_by_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("canary", [canary for canaries in CANARIES.values() for canary in canaries], ids=str)
def test_a_canary_changes_one_place(canary):
    assert (SOURCES / canary.file).read_text(encoding="utf-8").count(canary.old) == 1
    assert canary.new != canary.old
