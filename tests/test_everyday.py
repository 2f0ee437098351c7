"""The everyday run itself: what it does not depend on."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import WATCHDOG, thorough, wait_until

TEST = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("name", ["one", "other"])
def test_it_goes_on(name):
    pathlib.Path(name).touch()
    while not pathlib.Path("go on").exists():
        time.sleep(0.01)
"""


@thorough
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_the_shell_ignores_ends_nothing(tmp_path, processes, number):
    """As under nohup: the signal comes to the whole group, amid the run."""
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(TEST)
    code = (
        f"import signal, sys, pytest; signal.signal({int(number)}, signal.SIG_IGN); "
        f"sys.exit(pytest.main(['-q', '-n', '{processes}', '-p', 'no:cacheprovider', 'test_it.py']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},  # where conftest.py finds helpers.py
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            wait_until(lambda: (tmp_path / "one").exists(), "a test to run", patience=4 * WATCHDOG)
            os.killpg(process.pid, number)
            (tmp_path / "go on").touch()
            out, _ = process.communicate(timeout=4 * WATCHDOG)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out
    assert "2 passed" in out
