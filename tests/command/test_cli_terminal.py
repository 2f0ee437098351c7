"""The command in a terminal: its live view, colours, what is typed into it, and how it leaves the terminal."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from cli_helpers import (
    CROSSED,
    PATIENCE,
    PROGRAM,
    PROGRAM_WITHOUT_RICH,
    child_options,
    participants,
    strict_json,
    telemetry,
    write_recording,
    write_thresholds,
)
from helpers import thorough

pytest.importorskip("rich")

CTRL_C, CTRL_Z = b"\x03", b"\x1a"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # the alternate screen
HOME = "\x1b[H"
CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m")
PROGRESS = re.compile(r"[\d,]+ readings/s +[\d,]+ analysed +buffer \S+ [\d,]+/[\d,]+")
DRAINING = re.compile(r"draining: ([\d,]+) left")
OVERLOAD = ("--analyzer-delay", 0.03, "--analyzers", 1, "--buffer-size", 100)  # a full buffer takes 3 seconds
ENDLESS = ("--analyzer-delay", 0.2, "--analyzers", 1, "--buffer-size", 500, "--rate", 1000)


def plain(shown):
    """The text alone."""
    return CONTROL.sub("", shown)


class Terminal:
    """A pseudo-terminal of 100 x 30 with the command in it."""

    def __init__(self, args, program, env, options):
        self._master, slave = pty.openpty()
        self._modes = termios.tcgetattr(slave)
        self._slave = slave  # kept open: its modes are compared at the end
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.resize(100, 30)
        self.shown = ""

        def take_terminal():
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)  # so that what is typed there reaches it as signals

        options = {"stdin": slave, "stdout": slave, "stderr": slave, **options}
        self.process = subprocess.Popen(
            **child_options(args, program, env), start_new_session=True, preexec_fn=take_terminal, **options
        )

    def resize(self, width, height):
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def type(self, keys):
        os.write(self._master, keys)

    def read(self):
        """Take what comes within a tenth of a second; return whether something came."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return False
        self.shown += self._decoder.decode(os.read(self._master, 65_536))
        return True

    def wait_for(self, pattern, start=0):
        """Read until the pattern is in the text that came after the first `start` characters."""
        self.wait_until(lambda: re.search(pattern, plain(self.shown[start:])), pattern)

    def wait_until(self, condition, what):
        """Read until the condition is true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            has_ended = self.process.poll() is not None
            assert self.read() or not has_ended, f"{what} did not come:\n{self.shown}"
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.shown}"

    def frames(self):
        """The frames that were drawn in full, as lines of text."""
        return [plain(each).split("\r\n") for each in self.shown.split(HOME)[1:-1] if plain(each)]

    def finish(self, status=0):
        """Read until the command has ended, with this status; it leaves the terminal as it found it."""
        while self.process.poll() is None:
            self.read()
        while self.read():
            pass
        assert self.process.returncode == status
        self.assert_left_as_found()

    def stop(self):
        """Type Ctrl-C, and read until the command has ended in order."""
        self.type(CTRL_C)
        self.finish()

    def assert_left_as_found(self):
        """The usual screen is there, with the cursor, in the modes it had; the prompt will be on a line of its own."""
        assert self.shown.rfind(SHOW) >= self.shown.rfind(HIDE)
        assert self.shown.rfind(LEAVE) >= self.shown.rfind(ENTER)
        assert termios.tcgetattr(self._slave) == self._modes
        assert self.shown.endswith(("\n", LEAVE)), self.shown[-80:]  # it was entered from the start of a line

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
        assert screen.shown.rfind(HIDE) > screen.shown.rfind(SHOW)  # hidden while the view is there
        screen.stop()
        assert re.search(r"readings +[\d,]+ made, [\d,]+ analysed, 0 dropped", screen.shown.rpartition(LEAVE)[2])
        assert "Traceback" not in screen.shown


def test_alerts_are_shown_in_the_view_and_as_lines_after_it(tmp_path):
    speed = write_thresholds(tmp_path / "speed.toml", {"channel": "SPEED", "above": -1, "message": CROSSED})
    with terminal("run", "--thresholds", speed, "--alert-samples") as screen:
        screen.wait_for(rf"[2-9]\d alerts (?s:.*) sensor 2 +SPEED [\d.]+ km/h \(>-1\)  {CROSSED}")
        screen.stop()
    said = plain(screen.shown.rpartition(LEAVE)[2]).splitlines()
    alerts = [line for line in said if CROSSED in line][:-1]  # the last one is the summary's
    assert len(alerts) == 20
    for line in alerts:
        assert re.fullmatch(r" +\d+\.\d{3} s  too much of it: SPEED [\d.]+ km/h \(> -1\)  sensor 2", line), line
    assert re.fullmatch(
        r"\.\.\. [\d,]+ alerts before these \(--alerts FILE keeps all\)", said[said.index(alerts[0]) - 1]
    )


@thorough
def test_the_drain_counts_down(crossed):
    with terminal("run", "--thresholds", crossed, *OVERLOAD) as screen:
        screen.wait_for(r"buffer \S+ 100/100")
        screen.type(CTRL_C)
        screen.wait_for(DRAINING)
        screen.finish()
        left = [int(number.replace(",", "")) for number in DRAINING.findall(plain(screen.shown))]
        left = left[left.index(max(left)) :]  # what sensors were about to put may still come
        assert left[0] > left[-1]
        assert left == sorted(left, reverse=True)


def test_a_second_ctrl_c_ends_at_once_and_restores_the_cursor(crossed):
    with terminal("run", "--thresholds", crossed, *ENDLESS) as screen:
        screen.wait_for(CROSSED)
        screen.type(CTRL_C)
        screen.wait_for(DRAINING)
        screen.type(CTRL_C)
        screen.finish(130)  # a drain that comes to its end gives another status
        assert "Traceback" not in screen.shown


@thorough
def test_the_cursor_is_restored_where_the_run_cannot_start(tmp_path):
    file = write_thresholds(tmp_path / "other.toml", {"channel": "NO_SUCH_CHANNEL", "above": 1})
    with terminal("run", "--thresholds", file) as screen:
        screen.finish(2)
        assert "NO_SUCH_CHANNEL" in screen.shown


def test_the_cursor_is_restored_after_a_failure(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from f1buf.telemetry import SPEED, Sensor\n"
        "class Breaks(Sensor):\n"
        "    channel = SPEED\n"
        "    def read(self):\n"
        "        raise OSError('the cable is out')\n"
    )
    with terminal("run", "--sensors", "mine:Breaks", cwd=tmp_path) as screen:
        screen.finish(1)
        assert "the cable is out" in screen.shown


@thorough
def test_classic_in_a_terminal():
    with terminal("run", "--classic") as screen:
        screen.wait_for(" processed ")
        screen.stop()
        for said in (" recorded ", "* stopping the sensors", "* all threads have ended", " made, "):
            assert said in screen.shown


@thorough
def test_a_replay_in_a_terminal(tmp_path):
    rows = [(10.0, participants(10.0, "PÉREZ", "SAINZ"))]
    rows += [(10 + i / 10, telemetry(10 + i / 10, 345, 100)) for i in range(300)]
    with terminal("replay", write_recording(tmp_path / "race.sqlite3", rows)) as screen:
        screen.wait_for(PROGRESS)
        screen.wait_for("car 0 PÉREZ")  # in an alert
        screen.wait_for(r"\n 0 PÉREZ +345 ")
        screen.stop()


# Size, jobs and lines of others ---------------------------------------------------------------------------------------


@thorough
def test_the_view_takes_the_size_that_the_terminal_has():
    with terminal("run") as screen:
        for width, height in ((100, 30), (60, 12), (1, 1), (200, 50)):
            screen.resize(width, height)
            size = height, {width}
            screen.wait_until(
                lambda size=size: any((len(each), set(map(len, each))) == size for each in screen.frames()[-1:]), size
            )
        screen.stop()
        assert screen.shown.count(ENTER) == screen.shown.count(LEAVE) == 1


@thorough
def test_a_stopped_job_leaves_the_terminal_to_the_shell(tmp_path):
    def state():
        with open(f"/proc/{screen.process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    with terminal("run") as screen:
        screen.wait_for(PROGRESS)
        screen.type(CTRL_Z)
        screen.wait_until(lambda: state() == "T", "the stop")
        while screen.read():
            pass
        screen.assert_left_as_found()
        shown = len(screen.shown)
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for(PROGRESS, shown)
        assert screen.shown.rfind(ENTER) >= shown
        screen.stop()


IN_THE_BACKGROUND = (
    "-c",
    "import subprocess, sys\n"
    "sys.exit(subprocess.run([sys.executable, '-m', 'f1buf', *sys.argv[1:]], process_group=0).returncode)",
)


@thorough
def test_a_job_in_the_background_leaves_the_terminal_to_the_shell():
    with terminal("run", "--duration", 0.8, program=IN_THE_BACKGROUND) as screen:
        screen.finish()
    assert " made, " in screen.shown
    assert ENTER not in screen.shown


@thorough
def test_lines_that_a_sensor_prints_are_shown_and_kept(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "from f1buf.telemetry import SPEED, Sensor\n"
        "class Talks(Sensor):\n"
        "    channel = SPEED\n"
        "    said = 0\n"
        "    def read(self):\n"
        "        if self.said < 3:\n"
        "            self.said += 1\n"
        "            print('from', 'stdout', self.said, end='')\n"
        "            print('\\nfrom stderr \\x1b[2J', self.said, file=sys.stderr)\n"
        "        return self.reading(100.0)\n"
    )
    with terminal("run", "--sensors", "mine:Talks", cwd=tmp_path) as screen:
        screen.wait_for("from stderr \N{REPLACEMENT CHARACTER}\\[2J 3")
        screen.stop()
    said = screen.shown.rpartition(LEAVE)[2]
    assert re.findall("from std.*?(?=\r)", said) == [
        f"from {text} {n}" for n in (1, 2, 3) for text in ("stdout", "stderr \N{REPLACEMENT CHARACTER}[2J")
    ]


# Colours, and what is no terminal -------------------------------------------------------------------------------------


@thorough
@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["terminal", "NO_COLOR empty", "NO_COLOR", "dumb"],
)
def test_colours(crossed, env, coloured):
    with terminal("run", "--thresholds", crossed, "--count", 50, env=env) as screen:
        screen.finish()
        assert CROSSED in screen.shown
        assert bool(COLOUR.search(screen.shown)) is coloured


@thorough
@pytest.mark.parametrize(
    ("options", "env"),
    [
        (["--count", 50, "--plain"], {}),
        (["--count", 50], {"TERM": "dumb"}),
        (["--count", 50], {"TTY_INTERACTIVE": "0"}),
        (["--count", 50, "--alerts", "-"], {}),
        (["--count", 1, "--classic"], {}),
    ],
    ids=["plain", "dumb", "not interactive", "data there", "classic"],
)
def test_without_a_view_there_are_lines(crossed, options, env):
    with terminal("run", "--thresholds", crossed, *options, env=env) as screen:
        screen.finish()
        assert CROSSED in screen.shown
        assert not re.search(r"\x1b\[[^m]*[A-Za-ln-z]", screen.shown)  # none but colours


@thorough
def test_a_terminal_that_knows_no_unicode(crossed):
    with terminal("run", "--thresholds", crossed, env={"PYTHONIOENCODING": "ascii"}) as screen:
        screen.wait_for(r"buffer [=.-]{10} ")
        screen.wait_for(r"\d \?C +=")
        screen.stop()
    assert screen.shown.isascii()


@thorough
def test_without_rich_a_terminal_gets_plain_lines(crossed):
    with terminal("run", "--thresholds", crossed, *OVERLOAD, program=PROGRAM_WITHOUT_RICH) as screen:
        screen.wait_for(CROSSED)
        screen.stop()
        assert " made, " in screen.shown
        assert "\x1b" not in screen.shown


@thorough
def test_data_in_a_pipe_beside_a_terminal(crossed):
    with terminal("run", "--thresholds", crossed, "--json", stdout=subprocess.PIPE) as screen:
        out = screen.process.stdout
        screen.wait_for(PROGRESS)
        screen.wait_for(r"\d\d analysed")
        screen.stop()
        assert strict_json(out.read().decode())["analysed"] > 5
        out.close()


@thorough
def test_no_view_where_standard_error_is_no_terminal(crossed):
    with terminal("run", "--thresholds", crossed, "--count", 50, "--json", stderr=subprocess.PIPE) as screen:
        err = screen.process.stderr
        screen.finish()
        said = err.read().decode()
        err.close()
        assert CROSSED in said
        assert "\x1b" not in said
        assert strict_json(screen.shown)["analysed"] > 5
