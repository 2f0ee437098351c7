"""Install each wheel where it is meant for, and run its main job and a part of the tests there.

    python tools/try_wheels.py dist                                  all wheels of dist/, the sdist, and every root
    python tools/try_wheels.py dist --root trixie-amd64              this root; may be given several times
    python tools/try_wheels.py dist --root trixie-arm64 --wheels     the wheels alone: emulated, g++ takes its time

A root is a Debian of its own, made by mmdebstrap and kept in --cache (~/.cache/f1buf-roots; each 300 to 900 MB):

    trixie-amd64     Debian 13, glibc 2.41, its CPython 3.13
    bookworm-amd64   Debian 12, glibc 2.36, its CPython 3.11: numpy 1.26 and the newest with one wheel
    bullseye-amd64   Debian 11, glibc 2.31, with a CPython 3.11 that is compiled there first, from Debian 12's source;
                     of what Debian's own archive has, the oldest C library
    forky-amd64      Debian testing, its CPython 3.14 and 3.15
    trixie-arm64     Debian 13 for aarch64, under qemu-user (Debian: qemu-user-static, binfmt-support)
    bookworm-arm64   Debian 12 for aarch64
    forky-arm64      Debian testing for aarch64
    trixie-i386      Debian 13 for 32 bits: the sdist alone, on Debian's own numpy
    here             no root: this machine, with those Pythons that tools/wheels.py finds and no root has

The wheels are tried where there is no compiler, which is looked at first; the sdist in a copy of the root with one.
Each trial: install into a fresh virtual environment; `f1buf run --duration 5 --json`, all of whose readings must have
been analysed; tests of rings, shared rings and queues, of the sdist, against what is installed. Needs root, for mounts
that are gone when it ends, and the network.

Prints a line for each trial, and, of all roots, the wheels that were not tried; what it ran is in the cache, beside the
root (ROOT.log). Exit status: 1 where one failed, or there was none.
"""

import argparse
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wheels import environment, find_pythons, unpack

ROOT = Path(__file__).parents[1]
MIRROR = "http://deb.debian.org/debian"
SHARED = "/f1buf"  # where a root has the wheels, and the unpacked sdist; not to be written to
PASSED_ON = ("PIP_", "F1BUF_", "SSL_", "http_proxy", "https_proxy", "no_proxy")
TESTS = (
    "tests/ring/test_ring.py",
    "tests/ring/test_shared_processes.py",
    "tests/queue/test_queue.py",
    "tests/core/test_stress.py",
)
EMULATED_TESTS = ("tests/ring/test_ring.py", "tests/core/test_stress.py")


@dataclasses.dataclass(frozen=True)
class Root:
    suite: str
    arch: str  # Debian's
    pythons: tuple[str, ...]  # the sdist is tried on the first
    machine: str  # as wheels have it
    packages: tuple[str, ...] = ("python3-venv",)
    numpys: tuple[str, ...] = ("numpy",)  # each in a trial of its own
    compiled_python: bool = False
    own_numpy: bool = False  # Debian's: PyPI has no wheels
    tests: tuple[str, ...] = TESTS
    sdist: bool = True

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.arch}"


BOTH_NUMPYS = ("numpy==1.26.*", "numpy")
ROOTS = {
    root.name: root
    for root in (
        Root("trixie", "amd64", ("3.13",), "x86_64"),
        Root("bookworm", "amd64", ("3.11",), "x86_64", numpys=BOTH_NUMPYS),
        Root("bullseye", "amd64", ("3.11",), "x86_64", packages=(), compiled_python=True, numpys=BOTH_NUMPYS),
        Root("forky", "amd64", ("3.14", "3.15"), "x86_64", packages=("python3.14-venv", "python3.15-venv")),
        Root("trixie", "arm64", ("3.13",), "aarch64", tests=EMULATED_TESTS),
        Root("bookworm", "arm64", ("3.11",), "aarch64", tests=EMULATED_TESTS, sdist=False),
        Root(
            "forky",
            "arm64",
            ("3.14", "3.15"),
            "aarch64",
            packages=("python3.14-venv", "python3.15-venv"),
            tests=EMULATED_TESTS,
            sdist=False,
        ),
        Root(
            "trixie",
            "i386",
            ("3.13",),
            "i686",
            packages=("python3-venv", "python3-numpy", "python3-pytest", "python3-hypothesis"),
            own_numpy=True,
        ),
    )
}

# In bullseye: CPython from Debian 12's source package, into /opt, and then no compiler any more.
COMPILE_PYTHON = f"""
echo 'deb-src {MIRROR} bookworm main' >/etc/apt/sources.list.d/bookworm-source.list
apt-get -qq update
apt-get -qq install -y --no-install-recommends dpkg-dev gcc make libc6-dev libssl-dev zlib1g-dev \
  libffi-dev libsqlite3-dev xz-utils
work=$(mktemp -d)
cd "$work"
apt-get -qq source --download-only -o APT::Sandbox::User=root python3.11
tar -xf python3.11_*.orig.tar.*
cd Python-3.11*
./configure -q --prefix=/opt/python --disable-test-modules
make -s -j2
make -s install
cd /
rm -rf "$work"
apt-get -qq purge -y dpkg-dev gcc make libc6-dev
apt-get -qq autoremove -y
apt-get -qq install -y --no-install-recommends libssl1.1 zlib1g libffi7 libsqlite3-0
"""

TRIAL = """
cd "$(mktemp -d)"
"$1" -m venv {options} v
. v/bin/activate
if {compilerless}; then
  for one in cc gcc g++ c++ clang; do ! command -v $one || {{ echo "there is a compiler: $one"; exit 1; }}; done
fi
{install}
cp -r "$3/tests" "$3/tools" "$3/pyproject.toml" .
python -c 'import f1buf.ring.ring as it, numpy, platform
print("TOLD numpy", numpy.__version__, "Python", platform.python_version(), *platform.libc_ver(), it.__file__)'
f1buf run --duration 5 --json >told.json
python -c 'import json
told = json.load(open("told.json"))
assert 0 < told["readings"] == told["analysed"] and not told["dropped"], told
print("TOLD", told["readings"], "readings, all analysed")'
python -m pytest -q -p no:cacheprovider -p no:xdist {tests} >tests.log 2>&1 || {{ tail -n 60 tests.log; exit 1; }}
echo "TOLD $(tail -n 1 tests.log)"
"""


class Failed(Exception):  # noqa: N818
    """What was expected, and what to do."""


# -- roots ------------------------------------------------------------------------------------------------------------


def logged(command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
    with open(log, "ab") as out:
        done = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
    if done.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise Failed(f"{command[0]}: exit status {done.returncode}; the end of {log}:\n{last}")


def in_root(folder: Path, root: Root, script: str, arguments: list[str], shared: Path, log: Path) -> None:
    """Run bash in the root, in mounts and processes of its own; what is in `shared` can be read there, at SHARED."""
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            shutil.copy(Path("/", name), folder / name)
    its = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    its |= {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    (folder / SHARED.lstrip("/")).mkdir(exist_ok=True)
    mounts = f"""
set -e
mount --make-rprivate /
mount -t proc proc '{folder}/proc'
mount --rbind /dev '{folder}/dev'
mount --bind '{shared}' '{folder}{SHARED}'
mount -o remount,bind,ro '{folder}{SHARED}'
exec chroot '{folder}' /bin/bash -euc "$@"
"""
    command = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", mounts, "try_wheels", script, "bash", *arguments]
    if root.arch == "i386":
        command = ["setarch", "linux32", *command]
    logged(command, log, its)


def made_root(root: Root, cache: Path, log: Path) -> Path:
    """The root without a compiler, made where it is missing."""
    folder = cache / root.name
    if (folder / "ready").exists():
        return folder
    for name in ("mmdebstrap", "unshare"):
        if shutil.which(name) is None:
            raise Failed(f"there is no {name}; install Debian's packages mmdebstrap and util-linux")
    if root.arch == "arm64" and not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        raise Failed("nothing runs programs of aarch64; install Debian's qemu-user-static and binfmt-support")
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)
    packages = ",".join(("ca-certificates", *root.packages))
    options = ["--variant=minbase", f"--architectures={root.arch}", f"--include={packages}"]
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']  # of a mirror that is a snapshot, or of an old release
    logged(["mmdebstrap", *options, root.suite, str(folder), MIRROR], log)
    if root.compiled_python:
        in_root(folder, root, COMPILE_PYTHON, [], ROOT, log)
    (folder / "ready").touch()
    return folder


def with_compiler(root: Root, folder: Path, cache: Path, log: Path) -> Path:
    """A copy of the root that has g++ and Python's headers."""
    copy = cache / f"{root.name}-compiler"
    if not (copy / "ready").exists():
        subprocess.run(["rm", "-rf", "--one-file-system", copy], check=True)
        subprocess.run(["cp", "-a", folder, copy], check=True)
        (copy / "ready").unlink()
        names = "g++" if root.compiled_python else f"g++ python{root.pythons[0]}-dev"
        script = f"apt-get -qq update; apt-get -qq install -y --no-install-recommends {names}"
        in_root(copy, root, script, [], ROOT, log)
        (copy / "ready").touch()
    return copy


# -- trials -----------------------------------------------------------------------------------------------------------


def try_one(
    what: str, root: Root, folder: Path | None, python: str, made: Path, tests: str, numpy: str, log: Path
) -> bool:
    """One trial, in the root that is this folder, or on this machine; prints what came of it."""
    is_sdist = made.name.endswith(".tar.gz")
    if root.own_numpy:  # Debian's, and its pytest and hypothesis
        install = 'pip install -q "setuptools>=77" "Cython>=3.3"\npip install -q --no-build-isolation "$2"'
    else:
        install = f'pip install -q {"" if is_sdist else "--only-binary :all: "}"$2" "{numpy}" pytest hypothesis'
    script = TRIAL.format(
        options="--system-site-packages" if root.own_numpy else "",
        compilerless="true" if folder is not None and not is_sdist else "false",
        install=install,
        tests=" ".join(root.tests),
    )
    mark = log.stat().st_size if log.exists() else 0
    try:
        if folder is None:
            logged(["bash", "-euc", script, "bash", python, str(made), str(made.parent / tests)], log, environment())
        else:
            in_root(folder, root, script, [python, f"{SHARED}/{made.name}", f"{SHARED}/{tests}"], made.parent, log)
    except Failed as error:
        print(f"FAILED  {what}\n{error}", flush=True)
        return False
    with open(log, errors="replace") as text:
        text.seek(mark)
        told = [line.removeprefix("TOLD ").strip() for line in text if line.startswith("TOLD")]
    print(f"passed  {what}: {'; '.join(told)}", flush=True)
    return True


def wheel_series(wheel: Path) -> str:
    """The Python that a wheel is for: 3.13 of cp313-cp313, 3.13t of cp313-cp313t."""
    return "3." + wheel.stem.split("-")[3].removeprefix("cp3")


def try_root(root: Root, dist: Path, tests: str, cache: Path, kinds: set[str]) -> dict[Path, bool]:
    """What was tried there, and whether all of it was good."""
    log = cache / f"{root.name}.log"
    folder = made_root(root, cache, log)
    bin_folder = "/opt/python/bin/" if root.compiled_python else ""
    wheels = sorted(dist.glob(f"*_{root.machine}.whl")) if "wheels" in kinds else []
    came = {}
    for made in wheels:
        if (series := wheel_series(made)) in root.pythons:
            python = f"{bin_folder}python{series}"
            trials = [(f"{root.name}: {made.name}, {numpy}", numpy) for numpy in root.numpys]
            passed = [try_one(what, root, folder, python, made, tests, numpy, log) for what, numpy in trials]
            came[made] = all(passed)
    for made in dist.glob("*.tar.gz") if "sdist" in kinds and root.sdist else []:
        compiler = with_compiler(root, folder, cache, log)
        what = f"{root.name}: {made.name}, with g++"
        python = f"{bin_folder}python{root.pythons[0]}"
        came[made] = try_one(what, root, compiler, python, made, tests, "numpy", log)
    return came


def try_here(dist: Path, tests: str, cache: Path) -> dict[Path, bool]:
    """The same of what no root has a Python for, with those of this machine."""
    machine = platform.machine()
    elsewhere = {series for root in ROOTS.values() if root.machine == machine for series in root.pythons}
    pythons = {python.series: python.path for python in find_pythons() if python.series not in elsewhere}
    here = Root("here", "", tuple(pythons), machine)
    came = {}
    for made in sorted(dist.glob(f"*_{machine}.whl")):
        if python := pythons.get(wheel_series(made)):
            came[made] = try_one(f"here: {made.name}", here, None, python, made, tests, "numpy", cache / "here.log")
    return came


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="the folder that tools/wheels.py has filled")
    parser.add_argument("--root", action="append", choices=[*ROOTS, "here"], help="default: all")
    parser.add_argument("--wheels", action="store_true", help="wheels alone")
    parser.add_argument("--sdist", action="store_true", help="the sdist alone")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/f1buf-roots", metavar="DIR")
    arguments = parser.parse_args()
    dist, cache = arguments.dist.absolute(), arguments.cache.absolute()
    kinds = {name for name in ("wheels", "sdist") if getattr(arguments, name)} or {"wheels", "sdist"}
    sdists = list(dist.glob("*.tar.gz"))
    if len(sdists) != 1:
        parser.error(f"{dist} has {len(sdists)} sdists; expected the folder that tools/wheels.py has filled")
    if os.geteuid() != 0:
        parser.error("not root: expected root's rights, for chroot and mounts")
    cache.mkdir(parents=True, exist_ok=True)
    came: dict[Path, list[bool]] = {}
    good = True
    with tempfile.TemporaryDirectory(dir=dist) as work:
        unpack(sdists[0], Path(work))
        tests = f"{Path(work).name}/{next(Path(work).iterdir()).name}"
        for name in arguments.root or [*ROOTS, "here"]:
            try:
                if name in ROOTS:
                    its = try_root(ROOTS[name], dist, tests, cache, kinds)
                else:
                    its = try_here(dist, tests, cache) if "wheels" in kinds else {}
            except Failed as error:
                print(f"FAILED  {name}: {error}", flush=True)
                good = False
                continue
            for made, passed in its.items():
                came.setdefault(made, []).append(passed)
    if not arguments.root:
        for made in sorted({*dist.glob("*.whl"), *sdists} - came.keys()):
            print(f"not tried  {made.name}")
    return 0 if good and came and all(map(all, came.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
