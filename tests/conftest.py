"""What all tests share: what the everyday run leaves out, where real recordings and f1-packets are, how a hang is told.

``python -m pytest`` is the everyday run. ``python -m pytest --all`` also runs what is marked `thorough`, and repeats
more: each scenario with many threads runs for `F1BUF_STRESS` seconds, which `--all` sets to 0.5 and the everyday run
to 0.1, unless it is set. The whole suite runs in two processes (`-n 0`: in one), single files in one.
"""

import faulthandler
import fnmatch
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

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

# A child process inherits what its parent ignores or blocks. These are left alone: what Python itself ignores, and what
# keeps a job in the background from the terminal.
LEFT_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTIN, signal.SIGTTOU}


def pytest_addoption(parser):
    parser.addoption(
        "--all", action="store_true", help="also the tests marked thorough, and more repeats of the others"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite runs in two processes, by pytest-xdist, unless it is told otherwise."""
    options = config.option
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:
        return  # one of the two: it must not start two more
    debugged = options.usepdb or options.trace or options.capture == "no"
    if not options.file_or_dir and not debugged and getattr(options, "numprocesses", 0) is None:
        options.numprocesses = 2


def pytest_configure(config):
    config.addinivalue_line("markers", "thread_unsafe(reason): pytest-run-parallel runs it in one thread")
    config.addinivalue_line("markers", "threads_only(reason): a part of the ring's contract that a shared ring has not")
    config.addinivalue_line("markers", "thorough(but=()): left out of the everyday run, save these parameters' ids")
    os.environ.setdefault("F1BUF_STRESS", "0.5" if config.getoption("all") else "0.1")
    from helpers import examples  # which looks at F1BUF_STRESS as it is imported

    hypothesis.settings.register_profile(
        "repeatable",
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],  # it goes by the clock, as the deadline does
        max_examples=examples(100),
    )
    hypothesis.settings.load_profile("repeatable")  # the same examples each time
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        signals_as_usual()  # where tests run: the two processes are to inherit what this one ignores
    # How long a thread that waits for the GIL sleeps before it asks for it: to see that one waits for something else
    # takes several times as long, thousands of times (`wait_parked` in helpers.py).
    sys.setswitchinterval(0.002)


def signals_as_usual():
    """Put back signals that the parent process ignores or blocks (nohup, a job in the background, some CI runners).

    Tests and their children send themselves such signals. A signal that was ignored gets a handler that does nothing:
    this process goes on ignoring it, and children do not inherit it.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - LEFT_IGNORED:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else lambda *_: None)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.module.__name__ not in SEVERAL_AT_ONCE:
            item.add_marker(pytest.mark.thread_unsafe(reason="it uses what belongs to the whole process"))
    # What is asked for by its name runs, too.
    if not config.getoption("all") and not any("::" in each for each in config.args):
        left_out = [item for item in items if is_left_out(item)]
        items[:] = [item for item in items if not is_left_out(item)]
        config.hook.pytest_deselected(items=left_out)


def is_left_out(item):
    """Whether the everyday run leaves it out; see `thorough` in helpers.py."""
    mark = item.get_closest_marker("thorough")
    if mark is None:
        return False
    kept = mark.kwargs.get("but", ())
    name = item.callspec.id.removeprefix("threads-") if kept else ""  # see contract.py
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in kept)


def pytest_collection_finish():
    """What is there by now stays: the collector need not go through it again, some thousand times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def gil_stays_off():
    """Nothing that was imported may have switched the GIL on: what passes then was not tested without it."""
    yield
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled(), "the GIL has been switched on"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test's report ends with every thread's stack."""
    report = (yield).get_result()
    if report.failed:
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            report.sections.append(("Every thread's stack", file.read()))


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """The folder of the real recordings."""
    from helpers import recordings_folder

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
        with warnings.catch_warnings():
            # Of Python 3.14 on, which wants `_layout_ = "ms"` beside it; packed by 1 the layouts are the same.
            warnings.filterwarnings("ignore", "Due to '_pack_'", DeprecationWarning)
            spec.loader.exec_module(modules[year])
    return modules


@pytest.fixture
def hurried():
    """Threads are switched as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
