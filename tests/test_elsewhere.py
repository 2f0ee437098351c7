"""Systems that f1buf is not meant for: each way into it ends with the sentence with which its setup.py ends there.

A process of its own is told that it runs on another system, and has a copy of f1buf without the compiled modules.
"""

import functools
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from helpers import WATCHDOG

import f1buf

ROOT = Path(__file__).parents[1]
# What runs first in such a process. What f1buf needs of others is imported before: it would take this for that system.
FAKED = {
    "macOS": "sys.platform = 'darwin'",
    "Windows": "sys.platform = 'win32'",
    "Cygwin": "sys.platform = 'cygwin'",
    "PyPy": "sys.implementation.name = 'pypy'; platform.python_implementation = lambda: 'PyPy'",
}
OTHERS = "import asyncio, importlib.resources, os, platform, runpy, socket, subprocess, sys, tempfile, numpy; "

each_system = pytest.mark.parametrize("where", FAKED)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with a copy of f1buf that has no compiled module."""
    folder = tmp_path_factory.mktemp("elsewhere")
    left_out = shutil.ignore_patterns("__pycache__", *(f"*{suffix}" for suffix in EXTENSION_SUFFIXES))
    shutil.copytree(f1buf.get_include(), folder / "f1buf", ignore=left_out)
    return folder


def run_where(where, code, path, cwd="/"):
    """Without site (-S), where an editable install has its finder."""
    return subprocess.run(
        [sys.executable, "-S", "-c", f"{OTHERS}{FAKED[where]}\n{code}"],
        cwd=cwd,
        env={"PYTHONPATH": os.pathsep.join([str(path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
    )


@functools.cache
def sentence(where):
    """What setup.py says there, without what concerns those who would build it."""
    done = run_where(where, "sys.argv[1:] = ['--version']; runpy.run_path('setup.py')", ROOT, cwd=ROOT)
    told, ending = done.stderr.split(". CONTRIBUTING.md")
    assert (done.returncode, ending.count("\n")) == (1, 1)
    return told


STATEMENTS = (
    "from f1buf import Queue",
    "from f1buf import RingBuffer",
    "from f1buf import SharedRingBuffer",
    "import f1buf.telemetry",
    "from f1buf.telemetry.channels import Channel",  # plain Python, as the next three are
    "from f1buf.telemetry.thresholds import Threshold",
    "from f1buf.telemetry.report import report_data",
    "import f1buf.telemetry.sources.can.decoder",
    "sys.modules['numpy'] = None; import f1buf.telemetry",
)


@each_system
def test_each_import_says_why(where, sources):
    tell = "\n".join(f"try: {each}\nexcept ImportError as error: print(error)" for each in STATEMENTS)
    done = run_where(where, tell, sources)
    assert done.stdout.splitlines() == [sentence(where)] * len(STATEMENTS), done.stderr


@each_system
@pytest.mark.parametrize(
    "start",
    [
        "sys.argv[1:] = ['run', '--count', '1']; runpy.run_module('f1buf', run_name='__main__', alter_sys=True)",
        "from f1buf.__main__ import main; sys.exit(main())",  # as pip writes the script
        "sys.modules['numpy'] = None; from f1buf.__main__ import main; sys.exit(main())",
    ],
    ids=["-m", "script", "without numpy"],
)
def test_the_command_ends_with_it(where, start, sources):
    done = run_where(where, start, sources)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"f1buf: error: {sentence(where)}\n")


def test_the_command_ends_without_standard_error(sources):
    done = run_where("macOS", "sys.stderr = None; from f1buf.__main__ import main; sys.exit(main())", sources)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_what_is_there_is_not_refused():
    """Whatever the system calls itself: a test of another project's may have changed that."""
    code = "import f1buf, f1buf.telemetry; print(f1buf.RingBuffer(1).capacity)"
    done = run_where("Windows", code, Path(f1buf.get_include()).parent)
    assert done.stdout == "1\n", done.stderr
