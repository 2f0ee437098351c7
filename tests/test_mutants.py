"""The lists of deliberate faults, `mutate.MUTANTS` and `sanitize.CANARIES`, still fit the sources and the tests.

That the tests notice each of them takes longer: `python tools/mutate.py`.
"""

import pytest
from mutate import MUTANTS, ROOT, Change, files_of_tests
from sanitize import CANARIES

SOURCES = ROOT / "f1buf"

sources_there = pytest.mark.skipif(
    not (SOURCES / "core/sync.pyx").exists(), reason="the sources of f1buf are not beside the tests"
)


@sources_there
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_a_test(mutant):
    assert mutant.applied(ROOT) != mutant.path(ROOT).read_text(encoding="utf-8")
    file, name = mutant.test.split("::")
    (path,) = files_of_tests([file])
    marks, found, _ = (ROOT / path).read_text(encoding="utf-8").partition(f"def {name}(")
    assert found
    assert "\n@thorough\n" not in marks.rpartition("\n\n")[2], "the everyday run does not notice it"
    assert path in mutant.suite()


def test_mutants_are_told_apart_by_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@sources_there
@pytest.mark.parametrize("canary", [canary for canaries in CANARIES.values() for canary in canaries], ids=str)
def test_a_canary_changes_one_place(canary):
    assert canary.applied(ROOT) != canary.path(ROOT).read_text(encoding="utf-8")


SOURCE = {
    "it.pyx": """\
cdef int other(int one) noexcept:
    return one + two

    cdef inline int changed(int one,
                            int two) noexcept nogil:
        # return one + two
        if one:
            return ( one  # as it is
                    + two)  # and no more
        return changed(one + three) + changed(one + three)

def last():
    return one + two
""",
    "it.hpp": """\
inline int other(int one) { return one + two; }

[[gnu::noinline]] inline int* changed(int one) {
  // return one + two;
#ifdef ODD
  return ( one  // as it is
          + two);  // and no more
#endif
  return changed(one + three) + changed(one + three);
}

inline int last() { return one + two; }
""",
}


@pytest.fixture(params=SOURCE)
def source(request, tmp_path):
    """The path, in a tree, of a file with a function `changed`."""
    path = tmp_path / "f1buf" / request.param
    path.parent.mkdir()
    path.write_text(SOURCE[request.param], encoding="utf-8")
    return path


def test_the_place_of_a_change_depends_on_no_white_space_and_no_comment(source):
    Change(source.name, "changed", "return (one\n+ two)", "first\nsecond").apply(source.parents[1])
    before, _, after = SOURCE[source.name].partition("return ( one")
    indent = before.rpartition("\n")[2]
    assert source.read_text() == f"{before}first\n{indent}second{after.partition('two)')[2]}"


@pytest.mark.parametrize(
    ("function", "old", "found"),
    [
        ("changed", "one + three", "2 times"),
        ("changed", "return one + two", "0 times"),
        ("changed", "return (one + tw", "0 times"),
        ("change", "return (one + two)", "no such function"),
    ],
)
def test_a_change_without_a_place_of_its_own_is_refused(source, function, old, found):
    with pytest.raises(LookupError) as error:
        Change(source.name, function, old, "").applied(source.parents[1])
    assert str(error.value) == f"{source.name}, {function}: expected once, found {found}: {old}"
