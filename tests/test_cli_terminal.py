"""The command in a terminal: progress, colours, Ctrl-C typed into it, and the cursor afterwards."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
from cli_helpers import (
    PATIENCE,
    PROGRAM,
    PROGRAM_WITHOUT_RICH,
    child_options,
    participants,
    strict_json,
    telemetry,
    watchdog,
    write_recording,
    write_thresholds,
)

pytest.importorskip("rich")

CTRL_C = b"\x03"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m")
PROGRESS = re.compile(r"[\d,]+ readings analysed +buffer [\d,]+/[\d,]+")
DRAINING = re.compile(r"draining: ([\d,]+) left")
ALERT = "too much of it"
OVERLOAD = ("--analyzer-delay", 0.01, "--analyzers", 1, "--buffer-size", 100)  # a full buffer takes a second
ENDLESS = ("--analyzer-delay", 0.2, "--analyzers", 1, "--buffer-size", 500, "--rate", 1000)


@pytest.fixture(autouse=True)
def bounded():
    with watchdog():
        yield


@pytest.fixture
def crossed(tmp_path):
    return write_thresholds(tmp_path / "crossed.toml", {"channel": "SPEED", "above": -1, "message": ALERT})


class Terminal:
    """A pseudo-terminal of 100 columns with the command in it."""

    def __init__(self, args, program, env, options):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, 100, 0, 0))
        self._modes = termios.tcgetattr(slave)
        self._slave = slave  # kept open: its modes are compared at the end
        self.shown = ""

        def take_terminal():
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)  # so that what is typed there reaches it as signals

        options = {"stdin": slave, "stdout": slave, "stderr": slave, **options}
        self.process = subprocess.Popen(
            **child_options(args, program, env), start_new_session=True, preexec_fn=take_terminal, **options
        )

    def type(self, keys):
        os.write(self._master, keys)

    def read(self):
        """Take what has come within a tenth of a second; whether there was something."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return False
        self.shown += os.read(self._master, 65_536).decode(errors="replace")
        return True

    def wait_for(self, pattern):
        """Read until it has been shown."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.shown)):
            assert self.read() or self.process.poll() is None, f"{pattern} did not come:\n{self.shown}"
            assert time.monotonic() < deadline, f"{pattern} did not come:\n{self.shown}"
        return match

    def finish(self):
        """Read until it has ended; its status."""
        while self.process.poll() is None:
            self.read()
        while self.read():
            pass
        return self.process.returncode

    def assert_left_as_found(self):
        """The cursor can be seen, the modes are what they were, and the next prompt begins on a line of its own."""
        assert self.shown.rfind(SHOW) >= self.shown.rfind(HIDE)
        assert termios.tcgetattr(self._slave) == self._modes
        assert self.shown.endswith("\n") or self.shown.endswith("\x1b[2K"), self.shown[-80:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@contextlib.contextmanager
def terminal(*args, program=PROGRAM, env=None, **options):
    opened = Terminal(args, program, env, options)
    try:
        yield opened
    finally:
        opened.close()


# Progress and Ctrl-C --------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_in_order():
    with terminal("run") as screen:
        screen.wait_for(PROGRESS)
        assert screen.shown.rfind(HIDE) > screen.shown.rfind(SHOW)  # hidden while the status line is there
        screen.type(CTRL_C)
        assert screen.finish() == 0
        assert re.search(r"readings +[\d,]+ made, [\d,]+ analysed, 0 dropped", screen.shown)
        assert "Traceback" not in screen.shown
        screen.assert_left_as_found()


def test_alerts_are_lines_of_their_own_around_the_status_line(crossed):
    with terminal("run", "--thresholds", crossed, "--alert-samples") as screen:
        screen.wait_for(PROGRESS)
        screen.type(CTRL_C)
        assert screen.finish() == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.shown)
    lines = [line for line in text.splitlines() if f"s  {ALERT}: " in line]
    assert lines
    for line in lines:
        assert re.search(r" \d+\.\d{3} s  too much of it: SPEED [\d.]+ km/h \(> -1\)  sensor 2$", line), line


def test_the_drain_counts_down(crossed):
    with terminal("run", "--thresholds", crossed, *OVERLOAD) as screen:
        screen.wait_for("buffer 100/100")
        screen.type(CTRL_C)
        screen.wait_for(DRAINING)
        assert screen.finish() == 0
        left = [int(number.replace(",", "")) for number in DRAINING.findall(screen.shown)]
        left = left[left.index(max(left)) :]  # what sensors were about to put may still come
        assert left[0] > left[-1]
        assert left == sorted(left, reverse=True)
        screen.assert_left_as_found()


def test_a_second_ctrl_c_ends_at_once_and_restores_the_cursor(crossed):
    with terminal("run", "--thresholds", crossed, *ENDLESS) as screen:
        screen.wait_for(ALERT)
        screen.type(CTRL_C)
        screen.wait_for(DRAINING)
        screen.type(CTRL_C)
        began = time.monotonic()
        assert screen.finish() == 130
        assert time.monotonic() - began < 5
        assert "Traceback" not in screen.shown
        screen.assert_left_as_found()


def test_the_cursor_is_restored_where_the_run_cannot_start(tmp_path):
    file = write_thresholds(tmp_path / "other.toml", {"channel": "NO_SUCH_CHANNEL", "above": 1})
    with terminal("run", "--thresholds", file) as screen:
        assert screen.finish() == 2
        assert "NO_SUCH_CHANNEL" in screen.shown
        screen.assert_left_as_found()


def test_the_cursor_is_restored_after_a_failure(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from f1buf.telemetry import SPEED, Sensor\n"
        "class Breaks(Sensor):\n"
        "    channel = SPEED\n"
        "    def read(self):\n"
        "        raise OSError('the cable is out')\n"
    )
    with terminal("run", "--sensors", "mine:Breaks", cwd=tmp_path) as screen:
        assert screen.finish() == 1
        assert "the cable is out" in screen.shown
        screen.assert_left_as_found()


def test_classic_in_a_terminal():
    with terminal("run", "--classic") as screen:
        screen.wait_for(" processed ")
        screen.type(CTRL_C)
        assert screen.finish() == 0
        for said in (" recorded ", "* stopping the sensors", "* all threads have ended", " made, "):
            assert said in screen.shown
        screen.assert_left_as_found()


def test_a_replay_in_a_terminal(tmp_path):
    rows = [(10.0, participants(10.0, "PÉREZ"))] + [(10 + i / 10, telemetry(10 + i / 10, 345)) for i in range(300)]
    with terminal("replay", write_recording(tmp_path / "race.sqlite3", rows)) as screen:
        screen.wait_for(PROGRESS)
        screen.wait_for("car 0 PÉREZ")
        screen.type(CTRL_C)
        assert screen.finish() == 0
        screen.assert_left_as_found()


# Colours, and what is no terminal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["terminal", "NO_COLOR empty", "NO_COLOR", "dumb"],
)
def test_colours(crossed, env, coloured):
    with terminal("run", "--thresholds", crossed, "--duration", 0.3, env=env) as screen:
        assert screen.finish() == 0
        assert ALERT in screen.shown
        assert bool(COLOUR.search(screen.shown)) is coloured
        screen.assert_left_as_found()


def test_a_dumb_terminal_gets_no_control_sequences(crossed):
    with terminal("run", "--thresholds", crossed, "--duration", 0.3, env={"TERM": "dumb"}) as screen:
        assert screen.finish() == 0
    assert "\x1b" not in screen.shown


def test_without_rich_a_terminal_gets_plain_lines(crossed):
    with terminal("run", "--thresholds", crossed, *OVERLOAD, program=PROGRAM_WITHOUT_RICH) as screen:
        screen.wait_for(ALERT)
        screen.type(CTRL_C)
        assert screen.finish() == 0
        assert " made, " in screen.shown
        assert "\x1b" not in screen.shown
        screen.assert_left_as_found()


def test_data_in_a_pipe_beside_a_terminal(crossed):
    with terminal("run", "--thresholds", crossed, "--duration", 0.5, "--json", stdout=subprocess.PIPE) as screen:
        out = screen.process.stdout
        assert screen.finish() == 0
        assert strict_json(out.read().decode())["analysed"] > 5
        out.close()
        assert PROGRESS.search(screen.shown)


def test_no_progress_where_standard_error_is_no_terminal(crossed):
    with terminal("run", "--thresholds", crossed, "--duration", 0.5, "--json", stderr=subprocess.PIPE) as screen:
        err = screen.process.stderr
        assert screen.finish() == 0
        said = err.read().decode()
        err.close()
        assert ALERT in said
        assert "\x1b" not in said
        assert strict_json(screen.shown)["analysed"] > 5
