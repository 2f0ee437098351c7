"""What a release is made of: what the sdist holds, what a wheel is called and says, where f1buf refuses to be built.

That the wheels run where they are meant for is for `tools/try_wheels.py`, which needs other systems.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import backend
import pytest
from helpers import LONG_WATCHDOG, WATCHDOG, thorough

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINNED = dict(
    re.findall(r"^([\w.-]+)==(\S+?)(?:;|$)", (ROOT / "tools/build-constraints.txt").read_text(), re.MULTILINE)
)


# -- where it is not meant for ----------------------------------------------------------------------------------------


def setup_where(tmp_path, faked, **environment):
    """What `setup.py --version` says where `faked`, a line of Python, has run first; its status and standard error."""
    (tmp_path / "sitecustomize.py").write_text(faked)
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
    )
    return done.returncode, done.stderr


REFUSED = {
    "macOS": ("import sys; sys.platform = 'darwin'", "runs on Linux alone .*, and this is darwin"),
    "Windows": ("import sys; sys.platform = 'win32'", "and this is win32; on Windows, use WSL"),
    "PyPy": ("import platform; platform.python_implementation = lambda: 'PyPy'", "and this is PyPy: use CPython 3.11"),
    "musl": ("import os; os.confstr_names.pop('CS_GNU_LIBC_VERSION')", r"another C library \(musl\?\); to build it"),
    "ARM of 32 bits": (
        "import platform, struct; platform.machine = lambda: 'armv7l'; struct.calcsize = lambda _: 4",
        "this is armv7l with 32 bits; to build it all the same, set F1BUF_UNTRIED=1",
    ),
    "aarch64's kernel, a Python of 32 bits": (
        "import platform, struct; platform.machine = lambda: 'aarch64'; struct.calcsize = lambda _: 4",
        "this is aarch64 with 32 bits",
    ),
}


@pytest.mark.parametrize("where", REFUSED)
def test_where_f1buf_is_not_meant_for_its_setup_ends_with_a_sentence(tmp_path, where):
    faked, sentence = REFUSED[where]
    status, told = setup_where(tmp_path, faked)
    assert status == 1
    assert told.count("\n") == 1
    assert re.match(rf'f1buf .*{sentence}.*\. CONTRIBUTING\.md, "A port", lists what it would take\.$', told)


def test_what_is_only_untried_can_be_built_all_the_same(tmp_path):
    musl, arm = (REFUSED[name][0] for name in ("musl", "ARM of 32 bits"))
    reached = "import types; sys = __import__('sys'); sys.modules['numpy'] = None"  # setup.py imports it next
    for faked in (musl, arm):
        _, told = setup_where(tmp_path, f"{faked}\n{reached}", F1BUF_UNTRIED="1")
        assert "import of numpy halted" in told
    status, told = setup_where(tmp_path, REFUSED["macOS"][0], F1BUF_UNTRIED="1")
    assert (status, told.count("\n")) == (1, 1)


def test_contributing_lists_what_a_port_needs():
    assert "\n### A port\n" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_whoever_asks_what_a_build_needs_is_told_first_where_it_is_none(monkeypatch):
    """Before pip installs numpy, which may have no wheel there."""
    assert backend.get_requires_for_build_wheel() == backend.get_requires_for_build_sdist() == backend.NEEDED
    assert backend.get_requires_for_build_editable() == backend.NEEDED
    monkeypatch.setattr(sys, "platform", "darwin")
    for ask in (backend.get_requires_for_build_wheel, backend.get_requires_for_build_editable):
        with pytest.raises(SystemExit, match=r"^f1buf runs on Linux alone .*, and this is darwin"):
            ask()
    assert backend.get_requires_for_build_sdist() == backend.NEEDED  # it compiles nothing


# -- versions move together -------------------------------------------------------------------------------------------


def test_the_changelog_begins_with_the_version():
    import f1buf

    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    version = PROJECT["project"]["version"]
    released = rf"{re.escape(version)} \((unreleased|\d{{4}}-\d\d-\d\d)\)"
    assert heading == "Unreleased" or re.fullmatch(released, heading)
    assert f1buf.__version__ == version


def test_who_reads_the_pinned_versions_is_there():
    """Each is one that pyproject.toml allows; and Cython is among them."""
    needed = [*PROJECT["build-system"]["requires"], *backend.NEEDED]
    lower = dict(re.findall(r"([\w-]+)>=([\d.]+)", " ".join(needed)))
    assert lower.keys() <= PINNED.keys()
    for name, least in lower.items():
        assert [*map(int, PINNED[name].split("."))] >= [*map(int, least.split("."))]
    hosted = PROJECT["tool"]["cibuildwheel"]
    assert (ROOT / hosted["environment"]["PIP_CONSTRAINT"]).exists()
    assert "-c tools/build-constraints.txt" in hosted["before-build"]


C_FILES = ("ring/ring.pxd", "core/sync.pxd", "core/sync.hpp")


def without_comments(text):
    return re.sub(r"\s+", " ", re.sub(r"(#|//).*", "", text))


C_CALLS = {name: (ROOT / "f1buf" / name).read_text(encoding="utf-8") for name in C_FILES}


def digest_of(files):
    """(number, hash) of all that another project's module compiles in: the class, its calls, and what these are given.

    Of sync.pxd and sync.hpp that is what the class is made of, and what `f1buf/__init__.pxd` takes from there:
    Outcome (not what is inside only), FOREVER, and `now_ns`, whose clock the deadlines are on.
    """
    ring, sync, data = (files[name] for name in C_FILES)
    number = re.search(r"c_api_(\d+)__rebuild_your_module_for_this_f1buf", ring)[1]
    parts = [
        ring[ring.index("cdef class RingBuffer") :].replace(f"c_api_{number}__", ""),
        data[data.index("struct Waiter {") : data.index("inline void lock(Monitor")],
        re.search(r"cdef enum Outcome:.*?(?=# Inside only)", sync, re.DOTALL)[0],
        re.search(r"constexpr std::int64_t FOREVER = .*", data)[0],
        re.search(r"inline std::int64_t now_ns\(\).*?\n}\n", data, re.DOTALL)[0],
    ]
    return number, hashlib.sha256("".join(map(without_comments, parts)).encode()).hexdigest()[:12]


def test_the_number_of_the_c_calls_is_counted_up_with_what_modules_compile_in():
    """Where this fails: count up `c_api_N__` in `f1buf/ring/ring.pxd`, then write the new pair here."""
    assert digest_of(C_CALLS) == ("1", "a0cbfee16175")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("core/sync.pxd", "FULL = 1", "FULL = 2"),
        ("core/sync.pxd", "    CLOSED = 9 ", "    LATE = 10\n    CLOSED = 9 "),
        ("core/sync.hpp", "FOREVER = INT64_MAX", "FOREVER = INT64_MAX - 1"),
        ("core/sync.hpp", "steady_clock::now()", "system_clock::now()"),
        ("core/sync.hpp", "int step = 0;", "long step = 0;"),
        ("ring/ring.pxd", "deadline_after(double seconds)", "deadline_after(float seconds)"),
        ("ring/ring.pxd", "    cdef size_t itemsize ", "    cdef int itemsize "),
    ],
)
def test_a_change_of_what_modules_compile_in_is_seen(name, before, after):
    assert C_CALLS[name].count(before) == 1
    assert digest_of({**C_CALLS, name: C_CALLS[name].replace(before, after)}) != digest_of(C_CALLS)


def test_what_other_projects_may_cimport_is_looked_at():
    text = (ROOT / "f1buf/__init__.pxd").read_text(encoding="utf-8")
    names = {name for line in re.findall(r"^from .* cimport (.*)", text, re.MULTILINE) for name in line.split(", ")}
    assert names == {"FOREVER", "Outcome", "RingBuffer", "deadline_after", "now_ns"}  # else see `digest_of`


def test_what_is_only_inside_changes_nothing():
    edited = C_CALLS["core/sync.pxd"].replace("    TICKED ", "    TOLD\n    TICKED ")
    assert edited != C_CALLS["core/sync.pxd"]
    assert digest_of({**C_CALLS, "core/sync.pxd": edited}) == digest_of(C_CALLS)


# -- the sdist, and a wheel -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commit(tmp_path_factory):
    """A copy of what git has, with what is changed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git here, or no repository: nothing says which files are the project's")
    folder = tmp_path_factory.mktemp("commit") / "f1buf"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(commit):
    command = [sys.executable, "setup.py", "-q", "sdist"]
    done = subprocess.run(command, cwd=commit, capture_output=True, text=True, timeout=LONG_WATCHDOG)
    assert done.returncode == 0, done.stderr
    (made,) = (commit / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def test_the_sdist_has_all_that_builds_and_tests_it(commit, sdist):
    here = {str(path.relative_to(commit)) for path in commit.rglob("*") if path.is_file()}
    needed = {name for name in here if name.startswith(("f1buf/", "tests/", "tools/", "bench/", "findings/", "."))}
    needed = {name for name in needed if not name.endswith((".cpp", ".so", ".pyc"))}
    assert needed - sdist == set()
    assert {"setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= sdist
    assert not {
        name for name in sdist if name.endswith((".cpp", ".so", ".pyc")) or name.startswith("docs/_static/plots")
    }


def test_every_licence_of_what_is_shipped_is_named():
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / "f1buf").rglob("*LICENSE*")}
    assert {*PROJECT["project"]["license-files"]} == {"LICENSE", *shipped}


def test_a_dry_wheel_is_called_and_built_as_told(tmp_path):
    """What tools/wheels.py tells setuptools for another processor, without compiling anything."""
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    python = wheels.ask(sys.executable)
    assert python.series.rstrip("t") == f"{sys.version_info[0]}.{sys.version_info[1]}"
    if python.machine != "x86_64":
        pytest.skip(f"this machine is {python.machine}; the cross-build is one from x86_64")
    compilers = tmp_path / "bin"
    compilers.mkdir()
    for name in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"):
        (compilers / name).touch(mode=0o755)
    path, os.environ["PATH"] = os.environ["PATH"], str(compilers)
    try:
        told = wheels.build_variables(python, "aarch64", tmp_path / "include", tmp_path)
        with pytest.raises(wheels.Failed, match=r"no x86_64-linux-gnu-nm.*package g\+\+-x86-64-linux-gnu"):
            wheels.tool("x86_64", "nm", "other")
    finally:
        os.environ["PATH"] = path
    assert told["EXT_SUFFIX"] == sysconfig.get_config_var("EXT_SUFFIX").replace("x86_64", "aarch64")
    assert told["LDCXXSHARED"].startswith(str(compilers / "aarch64-linux-gnu-g++"))
    assert "-march" not in " ".join(str(told[name]) for name in ("CC", "CXX", "CFLAGS", "LDSHARED", "LDCXXSHARED"))
    assert wheels.platform_tag("aarch64") == "manylinux_2_28_aarch64"


def test_headers_that_include_others_for_each_processor(tmp_path):
    """As Debian has them: the cross compiler must not look for its own, which are not there."""
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    include = tmp_path / "include/python3.14"
    for folder, text in ((include, "dispatch"), (tmp_path / "include/x86_64-linux-gnu/python3.14", "sizes")):
        folder.mkdir(parents=True)
        (folder / "pyconfig.h").write_text(text)
    (include / "Python.h").touch()
    for machine, text in (("x86_64-linux-gnu", "sizes"), ("", "dispatch")):
        python = wheels.Python("", "3.14", "x86_64", include, include / "pyconfig.h", {"MULTIARCH": machine})
        copy = wheels.own_headers(python, tmp_path / f"copy-{text}")
        assert (copy / "Python.h").exists()
        assert (copy / "pyconfig.h").read_text() == text


def test_what_is_set_for_compilers_elsewhere_changes_nothing(monkeypatch):
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CC", "CPATH", "F1BUF_DEBUG", "PYTHONPATH", "GIT_TRACE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PIP_CERT", "its")
    told = wheels.environment(SOURCE_DATE_EPOCH="5")
    assert told.keys() <= {*wheels.PASSED_ON, "PIP_CERT", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH"} | {
        name for name in os.environ if name.startswith("PIP_")
    } | {"PIP_DISABLE_PIP_VERSION_CHECK"}
    assert (told["PIP_CERT"], told["TZ"], told["SOURCE_DATE_EPOCH"]) == ("its", "UTC", "5")


def test_a_compiler_that_is_set_up_for_newer_processors_is_refused(monkeypatch):
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    python = wheels.ask(sys.executable)
    monkeypatch.setattr(wheels, "tool", lambda *_: "gcc")
    monkeypatch.setattr(wheels, "run", lambda *_: "#define __SSE2__ 1\n")
    wheels.check_compiler(python, "x86_64")
    monkeypatch.setattr(wheels, "run", lambda *_: "#define __SSE2__ 1\n#define __AVX__ 1\n")
    with pytest.raises(wheels.Failed, match=r"newer processors \(__AVX__\); expected the baseline"):
        wheels.check_compiler(python, "x86_64")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--python", "no-such-python"], "no CPython runs there; expected the path of one"),
        (["--python", sys.executable, sys.executable], "expected one of each of 3.11, "),
        (["--output", __file__], "File exists; expected a folder that can be made"),
        (["--sdist", "--python", sys.executable], "expected it without --python and --arch"),
    ],
    ids=["no Python", "twice", "a file", "sdist"],
)
def test_bad_usage_is_one_line_before_anything_is_built(tmp_path, monkeypatch, capsys, args, said):
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    built = []
    monkeypatch.setattr(
        sys, "argv", ["wheels.py", *(["--output", str(tmp_path / "dist")] if args[0] != "--output" else []), *args]
    )
    monkeypatch.setattr(wheels, "refuse_changes", lambda: None)
    monkeypatch.setattr(wheels, "check_compiler", lambda *_: None)
    monkeypatch.setattr(wheels, "build", lambda *_: built.append(1) or [])
    before = os.umask(0o022)
    try:
        with pytest.raises(SystemExit) as ended:
            sys.exit(wheels.main())
    finally:
        os.umask(before)
    assert ended.value.code in (1, 2)
    told = capsys.readouterr()
    assert (built, told.out) == ([], "")
    assert said in told.err.splitlines()[-1]


def test_what_is_not_built_for_want_of_a_python_is_a_failure():
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    with pytest.raises(
        wheels.Failed, match=r"^not built: Python 3\.11, 3\.12, .*; --python names what is to be built$"
    ):
        wheels.say_what_is_missing([])


def test_a_wheel_that_needs_a_newer_glibc_is_no_result(tmp_path, monkeypatch):
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    told = {
        "overall_tag": "manylinux_2_34_x86_64",
        "external_libs": {},
        "versioned_symbols": {"libc.so.6": ["GLIBC_2.17", "GLIBC_2.34"]},
    }
    monkeypatch.setattr(wheels, "run", lambda *_, **__: json.dumps(told))
    with pytest.raises(wheels.Failed, match=r"says manylinux_2_34_x86_64 .* expected manylinux_2_28.*GLIBC_2\.34"):
        wheels.audited(tmp_path / "f1buf.whl", "python")
    told["overall_tag"] = "manylinux_2_17_x86_64"
    assert wheels.audited(tmp_path / "f1buf.whl", "python") == "manylinux_2_17_x86_64"
    told["external_libs"] = {"libelse.so": None}
    with pytest.raises(wheels.Failed, match=r"libraries: \['libelse\.so'\]"):
        wheels.audited(tmp_path / "f1buf.whl", "python")


def test_an_sdist_is_the_same_bytes_whenever_it_is_made(tmp_path):
    wheels = pytest.importorskip("wheels", reason="tools/ is on the path of these tests")
    for name, time, order in (("first", 1_000_000_000, ("a", "b")), ("second", 1_500_000_000, ("b", "a"))):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            for member in order:
                (tmp_path / member).write_text(member)
                os.utime(tmp_path / member, (time, time))
                archive.add(tmp_path / member, f"f1buf/{member}")
        wheels.plain_tar(tmp_path / f"{name}.tar.gz", tmp_path / f"{name}.plain", 1_700_000_000)
    assert (tmp_path / "first.plain").read_bytes() == (tmp_path / "second.plain").read_bytes()
    with tarfile.open(tmp_path / "first.plain") as archive:
        assert [(one.name, one.mtime, one.uid, one.uname) for one in archive] == [
            ("f1buf/a", 1_700_000_000, 0, ""),
            ("f1buf/b", 1_700_000_000, 0, ""),
        ]


@thorough
def test_the_bill_names_what_others_wrote(tmp_path):
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is for who makes wheels")
    pytest.importorskip("wheel", reason="wheel is for who makes wheels")
    import sbom

    folder = tmp_path / "f1buf-1.2.3"
    shutil.copytree(ROOT / "f1buf/web", folder / "f1buf/web")
    told = json.loads(sbom.bill(Path("f1buf-1.2.3-cp311-cp311-any.whl"), folder, 1_700_000_000))
    assert (told["bomFormat"], told["metadata"]["component"]["version"]) == ("CycloneDX", "1.2.3")
    parts = {part["name"]: part for part in told["components"]}
    script = (ROOT / "f1buf/web/static/uPlot.iife.min.js").read_bytes()
    assert parts["uPlot"]["purl"] == f"pkg:npm/uplot@{parts['uPlot']['version']}"
    assert f"(v{parts['uPlot']['version']})".encode() in script
    assert parts["uPlot"]["hashes"][0]["content"] == hashlib.sha256(script).hexdigest()
    assert parts["Cython"]["version"] == PINNED["Cython"]


# -- the workflow -----------------------------------------------------------------------------------------------------


def test_the_workflow_s_actions_are_pinned_by_commit():
    """A tag can be moved, and one of these jobs may sign."""
    text = (ROOT / ".github/workflows/wheels.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_the_workflow_sets_no_option_of_cibuildwheel_to_nothing():
    """An empty CIBW_BUILD would mean every Python that it knows, also those without the GIL that nobody has tried."""
    text = (ROOT / ".github/workflows/wheels.yml").read_text(encoding="utf-8")
    assert re.findall(r"^ *(CIBW_\w+): (.*)$", text, re.MULTILINE) == [("CIBW_ARCHS", "${{ matrix.arch }}")]
    assert 'echo "CIBW_BUILD=cp311-* cp313-*" >>"$GITHUB_ENV"' in text


def test_the_workflow_publishes_what_all_other_jobs_have_made_and_nothing_else_may_sign():
    text = (ROOT / ".github/workflows/wheels.yml").read_text(encoding="utf-8")
    assert re.findall(r"^( *)permissions:\n +(.*?)(?: +#.*)?$", text, re.MULTILINE) == [
        ("", "contents: read"),
        ("    ", "id-token: write"),
    ]
    jobs = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)*)", text.partition("\njobs:\n")[2], re.MULTILINE))
    assert "id-token: write" in jobs["publish"]
    needed = re.search(r"needs: \[(.*)\]", jobs["publish"])[1].split(", ")
    assert {*needed} == jobs.keys() - {"publish"}
