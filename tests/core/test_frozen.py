"""Programs that carry f1buf along: frozen ones (PyInstaller, cx_Freeze, modulefinder), and archives that cannot."""

import modulefinder
import os
import re
import shutil
import subprocess
import sys
import zipapp
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from helpers import LONG_WATCHDOG, WATCHDOG, run_python

import f1buf

SOURCES = Path(__file__).parents[2] / "f1buf"
INSTALLED = Path(f1buf.get_include())
COMPILED = sorted(
    ".".join(("f1buf", *path.relative_to(INSTALLED).with_name(path.name.partition(".")[0]).parts))
    for path in INSTALLED.rglob(f"*{EXTENSION_SUFFIXES[0]}")
)
IMPORT = re.compile(r"^( *)(?:from (\S+) (c?)import|(c?)import (\S+))", re.MULTILINE)

PROGRAM = """
import asyncio
import f1buf as queue
from f1buf import RingBuffer
from f1buf.telemetry import F1TelemetrySystem

for kind in queue.Queue, queue.LifoQueue, queue.PriorityQueue:
    items = kind(3)
    for item in 2, 1, 3:
        items.put(item)
    print(kind.__name__, *(items.get() for _ in range(3)))
try:
    items.get(timeout=0.01)
except queue.Empty:
    print("Empty")

ring = RingBuffer(1)
ring.put((0.5, 1, 2, 3, 4.5))
print(*ring.get().item())

async def hand_over():
    items = queue.Queue(1)
    taker = asyncio.create_task(items.aget())
    await asyncio.sleep(0)
    await items.aput("handed over")
    return await taker

print(asyncio.run(hand_over()))

system = F1TelemetrySystem(buffer_size=100)
system.start_telemetry(sensors_per_type=1, num_analyzers=1, count=5)
system.wait()
summary = system.shutdown()
print(summary.readings, summary.analysed)
"""
OUTPUT = """\
Queue 2 1 3
LifoQueue 3 1 2
PriorityQueue 1 2 3
Empty
0.5 1 2 3 4.5
handed over
25 25
"""
# What f1buf does without, and what would double the time that it takes to freeze the program.
LEFT_OUT = "asammdf", "can", "cantools", "matplotlib", "pandas", "pyarrow", "pytest", "rich", "scipy"


class Finder(modulefinder.ModuleFinder):
    """It looks into f1buf's modules, and only notes which others these name."""

    def load_module(self, fqname, fp, pathname, file_info):
        if fqname.partition(".")[0] in ("f1buf", "__main__"):
            return super().load_module(fqname, fp, pathname, file_info)
        if fp:
            fp.close()
        return self.add_module(fqname)


def named_by(folder, program):
    """The modules that reading the bytecode of a program finds."""
    script = folder / "program.py"
    script.write_text(program)
    finder = Finder(path=[str(INSTALLED.parent), *sys.path])
    finder.run_script(str(script))
    return {*finder.modules, *finder.badmodules}


def imported_by(name):
    """The modules of f1buf that one of its compiled modules brings, and what its source imports."""
    code = f"import sys, f1buf; before = {{*sys.modules}}; import {name}; print(*{{*sys.modules}} - before)"
    imported = {module for module in run_python(code).split() if module.startswith("f1buf.")}
    source = SOURCES.joinpath(*name.split(".")[1:]).with_suffix(".pyx").read_text()
    for indent, home, compiled, compiled_too, module in IMPORT.findall(source):
        ours = (home or module).partition(".")[0] == "f1buf"
        if ours or not (indent or compiled or compiled_too):  # a program that awaits has imported asyncio
            imported.add(home or module)
    return imported


def frozen(*command, folder):
    """Run the tool that freezes a program, in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=LONG_WATCHDOG
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def output_of(program):
    """What it prints, away from the Python that froze it."""
    done = subprocess.run([program], capture_output=True, text=True, timeout=WATCHDOG, env={}, cwd="/")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


# What tools find ------------------------------------------------------------------------------------------------------


def test_all_compiled_modules_are_looked_at():
    sources = (".".join(("f1buf", *path.relative_to(SOURCES).with_suffix("").parts)) for path in SOURCES.rglob("*.pyx"))
    assert sorted(sources) == COMPILED


@pytest.mark.parametrize("name", COMPILED)
def test_what_a_compiled_module_imports_is_named_in_python(name, tmp_path):
    user = "f1buf.telemetry.sources.game.listen" if ".game." in name else ".".join(name.split(".")[:2])
    user = user if "telemetry" in user else "f1buf"
    missing = imported_by(name) - named_by(tmp_path, f"import {user}")
    assert not missing, "name them in `_named_for_freezers` (f1buf/__init__.py)"


def test_what_is_loaded_by_name_is_named_in_python(tmp_path):
    assert {*f1buf._HOMES.values()} <= named_by(tmp_path, "import f1buf")


def test_the_command_finds_all_modules_of_f1buf(tmp_path):
    every = {
        ".".join(("f1buf", *path.relative_to(SOURCES).with_suffix("").parts)).removesuffix(".__init__")
        for path in SOURCES.rglob("*.py*")
        if path.suffix in (".py", ".pyx") and path.stem != "__main__"
    }
    assert every <= named_by(tmp_path, "import f1buf.command.cli")


# Frozen programs ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_frozen_by_pyinstaller(program, tmp_path):
    pytest.importorskip("PyInstaller", reason="PyInstaller freezes the program")
    left_out = [word for name in LEFT_OUT for word in ("--exclude-module", name)]
    options = ["--noconfirm", "--log-level", "ERROR", "--paths", str(INSTALLED.parent)]
    frozen("PyInstaller", *options, *left_out, str(program), folder=tmp_path)
    assert output_of(tmp_path / "dist/program/program") == OUTPUT


@pytest.mark.thorough
@pytest.mark.parametrize("where", ["beside", "in its archive"])
def test_frozen_by_cx_freeze(where, program, tmp_path):
    pytest.importorskip("cx_Freeze", reason="cx_Freeze freezes the program")
    options = ["--target-dir", "built", "--excludes", ",".join(LEFT_OUT), "--include-path", str(INSTALLED.parent)]
    if where == "in its archive":
        options += ["--zip-include-packages", "f1buf"]
    frozen("cx_Freeze", "build_exe", "--script", str(program), *options, "--silent", folder=tmp_path)
    assert output_of(tmp_path / "built/program") == OUTPUT


# Where the compiled modules are not -----------------------------------------------------------------------------------

TELL = """
try:
    {statement}
except ImportError as error:
    print(type(error).__name__, error.name, error, sep="|")
"""


def run_from(path, *arguments):
    """Run Python with `path` before anything else; without site (-S), where an editable install has its finder."""
    environment = {"PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
    command = [sys.executable, "-S", "-W", "error", *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=WATCHDOG)


def refusal(path, statement="from f1buf import Queue"):
    """The type of the ImportError, the module that it names, and what it says."""
    done = run_from(path, "-c", TELL.format(statement=statement))
    assert done.stdout, done.stderr
    return done.stdout.strip().split("|")


def copy_of_f1buf(folder, *left_out):
    shutil.copytree(INSTALLED, folder / "f1buf", ignore=shutil.ignore_patterns("__pycache__", *left_out))
    return folder / "f1buf"


@pytest.mark.parametrize(
    "statement", ["import f1buf", "from f1buf import Queue", "import f1buf.telemetry", "import f1buf.core.loop"]
)
def test_an_archive_is_refused(statement, tmp_path):
    copy_of_f1buf(tmp_path / "content")
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "content")
    kind, name, told = refusal(archive, statement)
    assert (kind, name) == ("ImportError", "f1buf.core.sync")
    assert archive in told
    assert "unpack it" in told


def test_a_zipapp_says_what_to_do(tmp_path):
    folder = copy_of_f1buf(tmp_path / "content").parent
    (folder / "__main__.py").write_text("from f1buf import Queue\n")
    zipapp.create_archive(folder, tmp_path / "program.pyz")
    done = run_from(tmp_path, str(tmp_path / "program.pyz"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: f1buf {f1buf.__version__} cannot load its module f1buf.core.sync")
    assert str(tmp_path / "program.pyz") in last
    assert "shiv or pex" in last


@pytest.mark.parametrize("statement", ["from f1buf import Queue", "import f1buf.telemetry"])
def test_modules_compiled_for_another_python_are_named(statement, tmp_path):
    folder = copy_of_f1buf(tmp_path, "*.so")
    for name in "queue/queue", "ring/ring":
        (folder / f"{name}.cpython-399-x86_64-linux-gnu.so").touch()
    kind, name, told = refusal(tmp_path, statement)
    module = "queue" if "Queue" in statement else "ring"
    assert (kind, name) == ("ImportError", f"f1buf.{module}.{module}")
    assert f"{folder / module} has only {module}.cpython-399-x86_64-linux-gnu.so, of another Python" in told
    assert f"expected {module}{EXTENSION_SUFFIXES[0]}" in told


@pytest.mark.parametrize(
    ("setting", "told"), [("pass", "has none; expected loop"), ("sys.frozen = True", "was frozen without it")]
)
def test_a_module_that_is_not_there_is_named(setting, told, tmp_path):
    copy_of_f1buf(tmp_path, f"loop{EXTENSION_SUFFIXES[0]}")
    kind, name, text = refusal(tmp_path, f"import sys; {setting}; from f1buf import Queue")
    assert (kind, name) == ("ImportError", "f1buf.core.loop")
    assert told in text


def test_a_missing_module_of_another_package_keeps_its_error(tmp_path):
    copy_of_f1buf(tmp_path)
    statement = "import sys; sys.modules['numpy'] = None; from f1buf import RingBuffer"
    assert refusal(tmp_path, statement)[:2] == ["ModuleNotFoundError", "numpy"]
