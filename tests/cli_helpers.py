"""What the tests of the telemetry system and of the command share: a watchdog, known readings, a naive reference, runs.

A *run* of the command is either a process of its own (`command`, `running`) or a call in this one (`call`), which is
faster and shows the same.
"""

import contextlib
import faulthandler
import functools
import io
import itertools
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import f1buf
from f1buf import READING
from f1buf.command.cli import main
from f1buf.telemetry import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE
from f1buf.telemetry.channels import known_channels
from f1buf.telemetry.sources.game.packets import FORMATS

PATIENCE = 120.0  # [s] how long a test may take before it counts as hanging
CHANNELS = (ENGINE_TEMP, TIRE_PRESSURE, SPEED, G_FORCE, FUEL_LEVEL)
CROSSED = "too much of it"  # the message of the thresholds that every reading crosses


# Bounds ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watchdog(seconds=PATIENCE):
    """Fail, with every thread's stack, where the block hangs, or where a thread that it started outlives it."""

    def expired(signum, frame):
        faulthandler.dump_traceback(file=sys.__stderr__)
        raise AssertionError(f"still not over after {seconds} s")

    before = set(threading.enumerate())
    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
        left = set(threading.enumerate()) - before
        for thread in left:
            thread.join(min(seconds, PATIENCE) / 2)  # which says what thread it is; the end of the time would not
        assert not [thread.name for thread in left if thread.is_alive()]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# Readings -------------------------------------------------------------------------------------------------------------


def readings(values, channel=SPEED, sensors=1, start=0):
    """Readings of these values, of `sensors` sensors in turn; the timestamp is the number of the reading."""
    numbers = np.arange(start, start + len(values))
    out = np.zeros(len(values), READING)
    out["timestamp"] = numbers
    out["sensor_id"] = numbers % sensors
    out["channel"] = channel.number
    out["value"] = values
    return out


def mixed_stream(n, seed=1, sensors=7):
    """Readings of all five channels that cross the default thresholds all the time; some are NaN or infinite."""
    rng = np.random.default_rng(seed)
    out = np.zeros(n, READING)
    out["timestamp"] = np.arange(n)
    out["sensor_id"] = rng.integers(0, sensors, n)  # a sensor may have readings of several channels: series of its own
    kinds = rng.integers(0, len(CHANNELS), n)
    low, high = np.array([channel.range for channel in CHANNELS]).T
    out["channel"] = np.array([channel.number for channel in CHANNELS])[kinds]
    out["value"] = rng.uniform(low[kinds], high[kinds])
    for odd in (np.nan, np.inf, -np.inf):
        out["value"][rng.integers(0, n, n // 100)] = odd
    return out


def pieces(stream, size):
    return [stream[start : start + size] for start in range(0, len(stream), size)]


class Given:
    """A source of given batches."""

    name = "given"

    def __init__(self, *batches):
        self._batches = batches

    def batches(self, stop):
        for batch in self._batches:
            if stop.is_set():
                return
            yield batch


def expected_events(stream, thresholds, samples=False):
    """(position, threshold's index, kind) of each event, found by going through the readings one by one."""
    names = {channel.number: channel.name for channel in known_channels()}
    lowest, counting, events = {}, set(), []  # of each series that is over: the lowest time; whether it counts by now
    for position, (at, sensor, number, _flags, value) in enumerate(stream.tolist()):
        for index, threshold in enumerate(thresholds):
            if names.get(number) != threshold.channel:
                continue
            series = index, number, sensor
            if _beyond(threshold, value):
                lowest.setdefault(series, at)
            elif not _beyond(threshold, value, threshold.hysteresis):
                lowest.pop(series, None)
                counting.discard(series)
            if series not in lowest:
                continue
            if at < lowest[series] or math.isnan(lowest[series]):
                lowest[series] = at
            kind = "sample" if series in counting else "rise"
            if kind == "rise" and threshold.min_duration > 0 and not at - lowest[series] >= threshold.min_duration:
                continue
            counting.add(series)
            if samples or kind == "rise":
                events.append((position, index, kind))
    return events


def _beyond(threshold, value, slack=0.0):
    size = abs(value) if threshold.absolute else value
    return size > threshold.above - slack if threshold.side == "above" else size < threshold.below + slack


def found_events(alerts, thresholds):
    """What `expected_events` returns, of alerts that were raised."""
    return [(alert.position, thresholds.index(alert.threshold), alert.kind) for alert in alerts]


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self):
        self.now = 100.0
        self.step = 0.0

    def __call__(self):
        self.now += self.step
        return self.now


# Recordings and threshold files ---------------------------------------------------------------------------------------

TABLE = "CREATE TABLE packets (pkt_id INTEGER PRIMARY KEY, timestamp REAL, packet BLOB)"


def write_recording(path, rows):
    """Write an SQLite recording of (timestamp, datagram)."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO packets (timestamp, packet) VALUES (?, ?)", rows)
    return path


def datagram(packet_id, time, year=2026, **header):
    """A packet of zeros of the game's, as an array of one to be filled in."""
    packet = np.zeros(1, FORMATS[year].packets[packet_id])
    packet["header"]["packet_format"] = year
    packet["header"]["packet_version"] = 1
    packet["header"]["packet_id"] = packet_id
    packet["header"]["session_time"] = time
    packet["header"]["overall_frame_identifier"] = round(time * 60)
    for field, value in header.items():
        packet["header"][field] = value
    return packet


def participants(time, *drivers, year=2026, **header):
    """The packet with the drivers' names."""
    packet = datagram(4, time, year, **header)
    packet["num_active_cars"] = len(drivers)
    for index, driver in enumerate(drivers):
        packet["participants"]["name"][0, index] = driver.encode()
    return packet.tobytes()


def telemetry(time, *speeds, year=2026, **header):
    """The packet with each car's speed [km/h]; engines at 100 °C, tyres at 2.07 bar."""
    packet = datagram(6, time, year, **header)
    cars = packet["car_telemetry_data"]
    cars["speed"][0, : len(speeds)] = speeds
    cars["engine_temperature"] = 100
    cars["tyres_pressure"] = 30.0  # psi
    return packet.tobytes()


def write_thresholds(path, *tables):
    """Write a TOML file; each table is a dict."""
    text = ""
    for table in tables:
        # JSON's texts, numbers, true and false are TOML's too.
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"message": "too much", **table}.items()]
        text += "\n".join(["[[threshold]]", *lines, "", ""])
    path.write_text(text)
    return path


# The command ----------------------------------------------------------------------------------------------------------


class Done(NamedTuple):
    """A run of the command that is over."""

    status: int
    out: str
    err: str

    def ended(self, status=0):
        """The run, if it has ended with this status, and without a word of Python's own."""
        assert self.status == status, self
        assert "Traceback" not in self.err
        assert "Exception ignored" not in self.err
        return self

    @property
    def summary(self):
        return strict_json(self.out)

    @property
    def error(self):
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON: {text}")

    return json.loads(text, parse_constant=refuse)


def json_lines(text):
    return [strict_json(line) for line in text.splitlines()]


class Captured(io.StringIO):
    """Text that a stream took; like a real stream, it has an encoding."""

    encoding = "utf-8"


def call(*args, stream=Captured):
    """Run the command in this process."""
    out, err = stream(), stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as error:
            status = error.code
    return Done(status, out.getvalue(), err.getvalue())


PROGRAM = ("-m", "f1buf")


def program_without(package):
    """The command where a package is not installed: None in sys.modules makes its import fail so."""
    return "-c", f"import sys; sys.modules['{package}'] = None; from f1buf.command.cli import main; sys.exit(main())"


PROGRAM_WITHOUT_RICH = program_without("rich")
# For rich, and for how Python buffers what is printed.
PLAIN_ENVIRONMENT = (
    *("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    "PYTHONUNBUFFERED",
)


def child_options(args, program=PROGRAM, env=None, **options):
    """Arguments of subprocess.Popen for the command; warnings are errors in there, too."""
    paths = [str(Path(f1buf.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {name: value for name, value in os.environ.items() if name not in PLAIN_ENVIRONMENT}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm-256color", **(env or {})}
    arguments = [sys.executable, "-W", "error", "-X", "faulthandler", *program, *map(str, args)]
    return {"args": arguments, "env": environment, **options}


def command(*args, **options):
    """Run the command in a process of its own until it ends."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": PATIENCE, **options}
    timeout = options.pop("timeout")
    done = subprocess.run(**child_options(args, **options), timeout=timeout, stdin=subprocess.DEVNULL)
    out = (done.stdout or b"").decode()  # data is UTF-8, whatever the locale
    return Done(done.returncode, out, (done.stderr or b"").decode(errors="replace"))


@contextlib.contextmanager
def running(*args, **options):
    """The command in a process of its own; it is killed at the end of the block, if it has not ended."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", **options}
    with subprocess.Popen(**child_options(args, **options), stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finish(process):
    """Wait until the process ends; return the run."""
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


def interrupted(*args, after=CROSSED, times=1, by=(signal.SIGINT,), **options):
    """Run the command in a process of its own; send it signals once it has said `after` so often; return the run."""
    with running(*args, **options) as process:
        for _ in range(times):
            read_until(process.stderr, after)
        for number in by:
            process.send_signal(number)
            time.sleep(0.05 * (len(by) > 1))  # signals that come at once are one
        return finish(process)


def read_until(stream, text):
    """Read lines until one contains `text`; return all that was read."""
    read = ""
    for line in stream:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} did not come:\n{read}")


# Ports ----------------------------------------------------------------------------------------------------------------


def free_port():
    """A port that nobody listens at, and that no other test takes: it stays free, also when a server has ended."""
    for port in _ports():
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port


@functools.cache
def _ports():
    """This process' own ports in turn, without an end; they are below those that the kernel gives out.

    As long as this process lives, a socket with a name keeps all others away from them, those of other test runs, too.
    """
    for first in range(10_000, 20_000, 100):
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mine.bind(f"\0f1buf-tests-ports-{first}")  # an abstract one: it leaves no file
        except OSError:
            mine.close()
        else:
            mine.detach()  # left open, and not for the collector to find
            return itertools.cycle(range(first, first + 100))
    raise AssertionError("all ports for tests are taken by other processes")
