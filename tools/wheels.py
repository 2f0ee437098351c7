"""Build what a release uploads: the sdist, and from it a wheel for each Python and processor.

    python tools/wheels.py                                   every Python found, x86_64 and aarch64, into dist/
    python tools/wheels.py --python python3.11 --arch x86_64 --output build/wheels
    python tools/wheels.py --sdist                           that alone
    python tools/wheels.py --check-reproducible              builds it twice, in two folders, and compares the bytes

Pythons are looked for on PATH and in ~/.pyenv; what is not found is named, and makes the exit status 1. Each needs its
headers (Debian: python3.X-dev). What is built is the commit: what is changed, and not committed, is refused. A wheel is
a manylinux_2_28 one: for Debian 10, RHEL 8 and what is newer. It carries a bill of materials (tools/sbom.py).
auditwheel checks it, and a wheel that does not keep its promise is no result. Each tool is of the version that
tools/build-constraints.txt says, in environments of their own; nothing is installed elsewhere. It takes a minute for
each Python and processor. The same commit, compilers and Pythons give the same bytes: all times are the commit's, and
of the caller's environment only PASSED_ON counts (no CFLAGS, no F1BUF_DEBUG).

It needs git, and Debian's compilers: g++, and g++-aarch64-linux-gnu for aarch64. No root, no container.

Why these compilers, and not `zig c++`, which PyPI has for any glibc and processor: zig links its own libc++ and its own
unwinder into each module. At the interpreter's end CPython before 3.14 ends daemon threads by unwinding their stacks,
with the system's libgcc_s; where it meets a module's frame, the module's unwinder is given the state of the other: a
program with daemon threads in `get` then ended in a segmentation fault, every time (CPython 3.11, zig 0.17.1; with
g++, never). And Cython projects that use f1buf's C calls are compiled with g++, too: one layout of `std::mutex` for
all. The old glibc is a matter of one symbol (tools/old_glibc.hpp). No option names a processor newer than the
architecture's baseline; on aarch64 gcc's atomics look at run time for the newer instructions (-moutline-atomics).

Why aarch64 is built with the headers of this machine's Python and numpy: both name a processor only in what a compiler
says of itself (`__aarch64__`). What their `configure` has written down are sizes, and what the C library has; Linux on
x86_64 and on aarch64 agree in all that a module's memory depends on: 64-bit pointers and longs, little-endian, a `long
double` of 16 bytes. The cross compiler compares all sizes that are written down with its own before anything is built.

Prints a table: file, bytes, SHA-256, auditwheel's verdict. Exit status: 0 where all is built, 1 otherwise; then only
what is in the table is in the folder.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import os
import pprint
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = ROOT / "tools/build-constraints.txt"
OLD_GLIBC = ROOT / "tools/old_glibc.hpp"
GLIBC = (2, 28)
SERIES = ("3.11", "3.12", "3.13", "3.13t", "3.14", "3.15")  # t: without the GIL, which has been tried on 3.13 alone
COMPILERS = {"x86_64": "x86_64-linux-gnu-", "aarch64": "aarch64-linux-gnu-"}  # Debian's names; what comes before g++
PACKAGES = {"x86_64": "g++-x86-64-linux-gnu", "aarch64": "g++-aarch64-linux-gnu"}
# Of the environment. What else is there may change what is compiled, and how.
PASSED_ON = (
    *("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
BUILD = ("setuptools", "Cython", "numpy", "wheel")
TOOLS = ("auditwheel", "pyelftools", "cyclonedx-python-lib", "wheel")

# What the interpreter that runs it was compiled with.
ASK = """
import json, os, platform, sys, sysconfig
names = sysconfig.get_config_vars()
print(json.dumps({
    "series": "%d.%d" % sys.version_info[:2] + "t" * bool(names.get("Py_GIL_DISABLED")),
    "usable": sys.platform == "linux" and platform.python_implementation() == "CPython",
    "machine": platform.machine(),
    "include": sysconfig.get_path("include"),
    "config": sysconfig.get_config_h_filename(),
    "names": names,
}))
"""


class Failed(Exception):  # noqa: N818
    """What was expected, and what to do, in a sentence."""


@dataclasses.dataclass(frozen=True)
class Python:
    path: str
    series: str
    machine: str
    include: Path  # Python.h and the rest
    config: Path  # pyconfig.h
    names: dict  # sysconfig's


@dataclasses.dataclass(frozen=True)
class Made:
    path: Path
    verdict: str


# -- running others ---------------------------------------------------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    """Of those who are run."""
    ours = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("PIP_")}
    return {**ours, "LC_ALL": "C.UTF-8", "TZ": "UTC", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def run(*command, folder: Path | None = None, **more: str) -> str:
    """Its standard output; where it fails, its last lines are the error."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=folder, env=environment(**more), capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"{words[0]}: cannot be run ({error.strerror}); install it") from None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise Failed(f"{' '.join(words)}: exit status {done.returncode}\n{last}")
    return done.stdout


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def fresh_environment(python: str, folder: Path, packages: tuple[str, ...]) -> str:
    """A virtual environment with these packages, each of the version in PINNED; its interpreter."""
    run(python, "-m", "venv", folder)
    mine = str(folder / "bin/python")
    run(mine, "-m", "pip", "install", "-q", "--only-binary", ":all:", "-c", PINNED, *packages)
    return mine


# -- which Pythons ----------------------------------------------------------------------------------------------------


def ask(path: str) -> Python | None:
    """The interpreter at `path`; None where nothing runs there, or no CPython on Linux does."""
    try:
        answer = subprocess.run([path, "-c", ASK], env=environment(), capture_output=True, text=True, timeout=60)
        told = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0 or not told["usable"]:
        return None
    include, config = Path(told["include"]), Path(told["config"])
    return Python(path, told["series"], told["machine"], include, config, told["names"])


def candidates(series: str) -> Iterator[str]:
    plain = series.rstrip("t")
    folders = Path.home().glob(f".pyenv/versions/{plain}.*")
    for folder in sorted(folders, key=lambda one: [*map(int, re.findall(r"\d+", one.name))], reverse=True):
        yield str(folder / "bin" / f"python{series}")
    if found := shutil.which(f"python{series}"):
        yield found


def find_pythons() -> list[Python]:
    """One of each series, the first that has headers."""
    found = []
    for series in SERIES:
        for path in candidates(series):
            python = ask(path)
            if python and python.series == series and (python.include / "Python.h").exists():
                found.append(python)
                break
    return found


def given_pythons(paths: list[str]) -> list[Python]:
    found = []
    for path in paths:
        python = ask(path)
        if python is None:
            raise Failed(f"--python {path}: no CPython runs there; expected the path of one, of {', '.join(SERIES)}")
        if not (python.include / "Python.h").exists():
            raise Failed(f"--python {path}: {python.include} has no Python.h; install its headers (python3.X-dev)")
        if python.series not in SERIES or python.series in (one.series for one in found):
            raise Failed(f"--python {path}: is a Python {python.series}; expected one of each of {', '.join(SERIES)}")
        found.append(python)
    return found


# -- what is compiled, and how ----------------------------------------------------------------------------------------


def tool(arch: str, name: str, machine: str) -> str:
    """A compiler's path: Debian's for the architecture, or, of this machine's own, that without a prefix."""
    for candidate in (COMPILERS[arch] + name, *([name] if arch == machine else [])):
        if found := shutil.which(candidate):
            return found
    package = "g++" if arch == machine else PACKAGES[arch]
    raise Failed(f"there is no {COMPILERS[arch]}{name}; install Debian's package {package}, or choose with --arch")


def own_headers(python: Python, folder: Path) -> Path:
    """A copy of the headers with this machine's `pyconfig.h`; Debian's includes that of each processor's own folder."""
    shutil.copytree(python.include, folder, symlinks=False)
    debian = python.include.parent / str(python.names.get("MULTIARCH")) / python.include.name / "pyconfig.h"
    shutil.copy(debian if debian.exists() else python.config, folder / "pyconfig.h")
    return folder


def check_compiler(python: Python, arch: str) -> None:
    """Refuse one that uses newer instructions by itself. (Its modules do not say so: gcc leaves no note in them.)"""
    tool(arch, "g++", python.machine)
    macros = run(tool(arch, "gcc", python.machine), "-dM", "-E", "-x", "c", os.devnull)
    if newer := re.search(r"__SSE3__|__AVX__|__ARM_FEATURE_ATOMICS", macros):
        raise Failed(f"the compiler for {arch} is set up for newer processors ({newer[0]}); expected the baseline")


def check_sizes(compiler: str, headers: Path, numpy: Path, folder: Path) -> None:
    """Compare each size that Python's and numpy's headers have written down with the compiler's own."""
    types = {
        "SIZEOF_INT": "int",
        "SIZEOF_LONG": "long",
        "SIZEOF_LONG_LONG": "long long",
        "SIZEOF_VOID_P": "void *",
        "SIZEOF_SIZE_T": "size_t",
        "SIZEOF_SHORT": "short",
        "SIZEOF_FLOAT": "float",
        "SIZEOF_DOUBLE": "double",
        "SIZEOF_LONG_DOUBLE": "long double",
        "SIZEOF_OFF_T": "off_t",
        "SIZEOF_TIME_T": "time_t",
        "SIZEOF_WCHAR_T": "wchar_t",
        "SIZEOF_PTHREAD_T": "pthread_t",
        "NPY_SIZEOF_LONGDOUBLE": "long double",
        "NPY_SIZEOF_INTP": "void *",
        "NPY_SIZEOF_OFF_T": "off_t",
        "NPY_SIZEOF_COMPLEX_LONGDOUBLE": "long double _Complex",
    }
    lines = ["#include <Python.h>", "#include <numpy/ndarrayobject.h>", "#include <pthread.h>", "#include <time.h>"]
    for name, kind in types.items():
        lines += [f"#ifdef {name}", f'_Static_assert({name} == sizeof({kind}), "{name}");', "#endif"]
    lines.append('_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte order");')
    source = folder / "sizes.c"
    source.write_text("\n".join(lines) + "\n")
    run(compiler, "-fsyntax-only", "-w", f"-I{headers}", f"-I{numpy}", source)


def build_variables(python: Python, arch: str, headers: Path, tree: Path) -> dict:
    """
    What sysconfig tells setuptools: this interpreter's own, but for compilers and names.

    The interpreter's own options are those of whoever built it; here they are the same for all.
    """
    gcc, gxx = tool(arch, "gcc", python.machine), tool(arch, "g++", python.machine)
    paths = (f"-I{headers}", f"-ffile-prefix-map={tree}=.", "-include", str(OLD_GLIBC))
    options = f"-DNDEBUG -g0 -O3 -fwrapv -Wall {shlex.join(paths)}"
    gcc, gxx = shlex.quote(gcc), shlex.quote(gxx)
    link = "-shared -Wl,-s -Wl,--build-id=none"
    own = {
        "CC": gcc,
        "CXX": gxx,
        "CFLAGS": options,
        "PY_CFLAGS": options,
        "PY_CPPFLAGS": "",
        "OPT": "",
        "CPPFLAGS": "",
        "LDFLAGS": "",
        "CCSHARED": "-fPIC",
        "LDSHARED": f"{gcc} {link}",
        "LDCXXSHARED": f"{gxx} {link}",
        "BLDSHARED": f"{gcc} {link}",
    }
    theirs = f"{python.machine}-linux-gnu"
    for name in ("EXT_SUFFIX", "SOABI", "MULTIARCH"):
        own[name] = str(python.names.get(name, "")).replace(theirs, f"{arch}-linux-gnu")
    return {**python.names, **own}


# -- the sdist, and wheels --------------------------------------------------------------------------------------------


def platform_tag(arch: str) -> str:
    return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{arch}"


def commit_time() -> str:
    return run("git", "log", "-1", "--format=%ct", folder=ROOT).strip()


def build_sdist(output: Path, work: Path, epoch: str) -> Path:
    """The commit as an sdist; its members in order, all of the commit's time and of nobody."""
    tree = work / "commit"
    tree.mkdir()
    archive = work / "commit.tar"
    as_they_are = ("-c", "core.autocrlf=false", "-c", "core.eol=lf")
    run("git", *as_they_are, "archive", "--output", archive, "HEAD", folder=ROOT)
    unpack(archive, tree)
    mine = fresh_environment(sys.executable, work / "sdist-venv", ("build", *BUILD))
    command = [mine, "-m", "build", "--sdist", "--no-isolation", "--outdir", work / "sdist"]
    run(*command, folder=tree, SOURCE_DATE_EPOCH=epoch)
    (made,) = (work / "sdist").glob("*.tar.gz")
    target = output / made.name
    plain_tar(made, target, int(epoch))
    return target


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as whole:
        whole.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # before 3.11.4


def plain_tar(source: Path, target: Path, epoch: int) -> None:
    with (
        tarfile.open(source) as old,
        open(target, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


def build_wheel(python: Python, arch: str, tree: Path, checker: str, output: Path, work: Path, epoch: str) -> Made:
    """
    One wheel, from the unpacked sdist in `tree`, with its bill of materials, checked.

    `checker` is an interpreter that has TOOLS.
    """
    work.mkdir()
    venv = work.parent / f"venv-{python.series}"
    mine = str(venv / "bin/python")
    if not venv.exists():
        fresh_environment(python.path, venv, BUILD)
    headers = own_headers(python, work / "include")
    numpy = Path(run(mine, "-c", "import numpy; print(numpy.get_include())").strip())
    check_sizes(tool(arch, "gcc", python.machine), headers, numpy, work)
    variables = pprint.pformat(build_variables(python, arch, headers, tree))
    (work / "f1buf_build_variables.py").write_text(f"build_time_vars = {variables}\n")
    shutil.rmtree(tree / "build", ignore_errors=True)
    command = [mine, "setup.py", "-q", "bdist_wheel", "--dist-dir", work / "raw", "--plat-name", platform_tag(arch)]
    run(
        *command,
        folder=tree,
        SOURCE_DATE_EPOCH=epoch,
        PYTHONPATH=str(work),
        PYTHONHASHSEED="0",
        _PYTHON_SYSCONFIGDATA_NAME="f1buf_build_variables",
        _PYTHON_HOST_PLATFORM=f"linux-{arch}",
    )
    (raw,) = (work / "raw").glob("*.whl")
    run(checker, ROOT / "tools/sbom.py", raw, SOURCE_DATE_EPOCH=epoch, PYTHONHASHSEED="0")
    verdict = audited(raw, checker)
    check_modules(raw, work)
    return Made(Path(shutil.copy(raw, output)), verdict)


def audited(wheel: Path, checker: str) -> str:
    """auditwheel's verdict: for which platforms its symbols do; an error where it is not for GLIBC."""
    told = json.loads(run(checker, "-m", "auditwheel", "show", "--json", wheel))
    tag = told["overall_tag"]
    version = re.fullmatch(r"manylinux_(\d+)_(\d+)_\w+", tag)
    if version is None or tuple(map(int, version.groups())) > GLIBC or told["external_libs"]:
        needs = {name: versions[-1] for name, versions in told["versioned_symbols"].items()}
        raise Failed(
            f"auditwheel says {tag} of {wheel.name}, expected {platform_tag('...')} or older: it needs {needs}, "
            f"libraries: {[*told['external_libs']]}; see tools/old_glibc.hpp"
        )
    return tag


def check_modules(wheel: Path, work: Path) -> None:
    """
    Refuse a symbol of unknown origin: one without a version must be Python's. auditwheel reads versions alone.

    And a path of whoever built it, where libraries would be looked for.
    """
    folder = work / "symbols"
    shutil.unpack_archive(wheel, folder, "zip")
    for module in sorted(folder.rglob("*.so")):
        if re.search(r"\((RPATH|RUNPATH)\)", run("readelf", "--dynamic", "--wide", module)):
            raise Failed(f"{module.name} names a folder to look for libraries in (RPATH); expected none")
        for line in run("readelf", "--dyn-syms", "--wide", module).splitlines():
            words = line.split()
            if len(words) < 8 or words[6] != "UND" or words[4] == "WEAK" or "@" in words[7]:
                continue
            if not words[7].startswith(("Py", "_Py")):
                raise Failed(f"{module.name} needs {words[7]}, of which no library says that it has it")


def build(pythons: list[Python], arches: list[str], output: Path) -> list[Made]:
    """All of it; what was made is in `output` once all is."""
    epoch = commit_time()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        finished = work / "finished"
        finished.mkdir()
        say("the sdist")
        made = [Made(build_sdist(finished, work, epoch), "")]
        if pythons:
            unpack(made[0].path, work / "tree")
            (tree,) = (work / "tree").iterdir()
            checker = fresh_environment(sys.executable, work / "tools", TOOLS)
        for python in pythons:
            for arch in arches:
                say(f"Python {python.series}, {arch}")
                its = work / f"{python.series}-{arch}"
                made.append(build_wheel(python, arch, tree, checker, finished, its, epoch))
        return [Made(Path(shutil.move(one.path, output)), one.verdict) for one in made]


# -- the command ------------------------------------------------------------------------------------------------------


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(made: list[Made]) -> str:
    rows = [("file", "bytes", "sha256", "auditwheel")]
    rows += [(one.path.name, f"{one.path.stat().st_size:,}", digest(one.path), one.verdict) for one in made]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def make_ready(output: Path) -> None:
    """Make the folder; refuse one that has wheels already."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"--output {output}: {error.strerror}; expected a folder that can be made") from None
    if there := [*output.glob("*.whl"), *output.glob("*.tar.gz")]:
        raise Failed(f"{output} has {there[0].name} already; expected a folder without wheels: give another --output")


def refuse_changes() -> None:
    if changed := run("git", "status", "--porcelain", "--untracked-files=no", folder=ROOT).split("\n")[0]:
        raise Failed(f"not committed: {changed.strip()}; a release is built from a commit: commit or stash")


def differences(first: list[Made], second: list[Made]) -> list[str]:
    return [one.path.name for one, other in zip(first, second, strict=True) if digest(one.path) != digest(other.path)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist")
    parser.add_argument(
        "--python", nargs="+", action="extend", metavar="PATH", help="interpreters; default: those that are found"
    )
    parser.add_argument("--arch", nargs="+", action="extend", choices=COMPILERS, help="default: both")
    parser.add_argument("--sdist", action="store_true", help="the sdist alone")
    parser.add_argument("--check-reproducible", action="store_true", help="build all twice, and compare the bytes")
    arguments = parser.parse_args()
    if arguments.sdist and (arguments.python or arguments.arch):
        parser.error("--sdist is for every Python and processor; expected it without --python and --arch")
    os.umask(0o022)  # the modes of files are in a wheel
    try:
        make_all(arguments)
    except Failed as error:
        say(f"wheels: error: {error}")
        return 1
    return 0


def make_all(arguments: argparse.Namespace) -> None:
    refuse_changes()
    arches = arguments.arch or list(COMPILERS)
    pythons = []
    if not arguments.sdist:
        pythons = given_pythons(arguments.python) if arguments.python else find_pythons()
    for python in pythons:
        for arch in arches:  # before anything takes time
            check_compiler(python, arch)
    make_ready(arguments.output)
    made = build(pythons, arches, arguments.output.absolute())
    print(table(made))
    if arguments.check_reproducible:
        with tempfile.TemporaryDirectory() as again:
            different = differences(made, build(pythons, arches, Path(again)))
        if different:
            raise Failed(f"built twice: {', '.join(different)} differ")
        print("built twice: the same bytes")
    if not arguments.sdist and not arguments.python:
        say_what_is_missing(pythons)


def say_what_is_missing(pythons: list[Python]) -> None:
    if missing := [series for series in SERIES if series not in (python.series for python in pythons)]:
        raise Failed(
            f"not built: Python {', '.join(missing)}, of which PATH and ~/.pyenv have no interpreter with headers; "
            "--python names what is to be built"
        )


if __name__ == "__main__":
    sys.exit(main())
