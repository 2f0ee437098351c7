"""What all tests share: where real recordings and f1-packets are, and how a hang is reported."""

import faulthandler
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from helpers import recordings_folder

if "F1BUF_FUZZ_SEED" in os.environ:  # the same examples each time
    hypothesis.settings.register_profile("repeatable", derandomize=True)
    hypothesis.settings.load_profile("repeatable")

# Of these modules pytest-run-parallel may run a test in several threads at once: each works on what it makes itself.
# The others send signals, fork, start processes, pin threads, or look at what belongs to the whole process.
SEVERAL_AT_ONCE = {
    "test_convert",
    "test_queue",
    "test_ring",
    "test_shutdown",
    "test_stress",
    "test_tee",
}


def pytest_configure(config):
    config.addinivalue_line("markers", "thread_unsafe(reason): pytest-run-parallel runs it in one thread")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.module.__name__ not in SEVERAL_AT_ONCE:
            item.add_marker(pytest.mark.thread_unsafe(reason="it uses what belongs to the whole process"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Nothing that was imported may have switched the GIL on."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys._is_gil_enabled():
        print("\nthe GIL has been switched on: what passed was not tested without it", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
    """The folder of the real recordings."""
    folder = recordings_folder()
    if not folder.is_dir():
        pytest.skip(f"the real recordings are missing: {folder} is no folder (set F1BUF_DATA)")
    return folder


RELEASES = {2025: "2025.1.1", 2026: "2026.1.1"}  # of f1-packets: each knows one format


@pytest.fixture(scope="session")
def f1_packets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with f1-packets for 2025 in 2025/ and for 2026 in 2026/: $F1BUF_F1_PACKETS, or freshly installed."""
    given_folder = os.environ.get("F1BUF_F1_PACKETS")
    if given_folder:
        return Path(given_folder)
    folder = tmp_path_factory.mktemp("f1_packets")
    for year, release in RELEASES.items():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--target", str(folder / str(year)), f"f1-packets=={release}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"pip could not install f1-packets {release}; set F1BUF_F1_PACKETS or fix pip:\n{done.stderr}")
    return folder


@pytest.fixture(scope="session")
def f1_packets(f1_packets_dir: Path) -> dict[int, ModuleType]:
    """The module f1.packets of each year, loaded from its file: the releases share one module name."""
    modules = {}
    for year in RELEASES:
        spec = importlib.util.spec_from_file_location(
            f"f1_packets_{year}", f1_packets_dir / str(year) / "f1" / "packets.py"
        )
        assert spec is not None
        assert spec.loader is not None
        modules[year] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[year])
    return modules


@pytest.fixture
def hurried():
    """Threads are switched as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
