"""What all tests share: where real recordings are, and how a hang is reported."""

import faulthandler
import os
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test's report ends with every thread's stack (seeds are in what the tests print)."""
    report = (yield).get_result()
    if report.failed:
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            report.sections.append(("Every thread's stack", file.read()))


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """The folder of the real recordings: $F1BUF_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("F1BUF_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real recordings are missing: {folder} is no folder (set F1BUF_DATA)")
    return folder


@pytest.fixture
def hurried():
    """Threads are switched as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
