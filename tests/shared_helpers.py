"""What the tests of shared rings have in common: children that may be killed, and names that are gone afterwards."""

import contextlib
import faulthandler
import glob
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
import warnings

import numpy as np
from helpers import LONG_WATCHDOG, WATCHDOG, end_of, hangs, wait_until

from f1buf import SharedRingBuffer
from f1buf.ring import segments

KILLED = -signal.SIGKILL  # how such a child ends, as `Child.end` tells it

# A container may share /dev/shm with others in which the same numbers are other processes.
_NUMBERED_BY = os.stat("/proc/self/ns/pid").st_ino
_numbers = itertools.count()


def some_name():
    """A name for a shared ring that no other test has."""
    return f"test-{_NUMBERED_BY}-{os.getpid()}-{next(_numbers)}"


def assert_gone(name):
    assert not take_away(name)


def take_away(name):
    """Take away what a process left that was killed: rings whose names begin so. Their paths."""
    left = glob.glob(f"{glob.escape(segments.path_of(name))}*")
    for path in left:
        os.unlink(path)
    return left


@contextlib.contextmanager
def shared(*args, **how):
    """A shared ring whose name is gone afterwards, however the test ends."""
    ring = SharedRingBuffer(*args, **{"name": some_name(), **how})
    try:
        yield ring
    finally:
        ring.unlink()


class Child:
    """A forked process that calls a function with a pipe to its parent, which may kill it; `end` tells how it ended."""

    def __init__(self, function, *args, limit=LONG_WATCHDOG):
        self.pipe, pipe = multiprocessing.Pipe()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork while other threads run
            self.pid = os.fork()
        if self.pid == 0:
            _live_as_child(function, args, pipe, limit)
        pipe.close()

    def hear(self):
        """What the child sends next."""
        if not self.pipe.poll(WATCHDOG):
            hangs(f"a word of process {self.pid}")
        return self.pipe.recv()

    def send(self, word=None):
        self.pipe.send(word)

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_stopped(self):
        status = self._wait(os.WUNTRACED)[1]
        assert os.WIFSTOPPED(status), f"the child was to stop, and has ended: {status}"

    def has_ended(self):
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self):
        """Wait for its end: its exit status, or minus the number of the signal that ended it."""
        status = os.waitstatus_to_exitcode(self._wait(0)[1])
        self.pipe.close()
        return status

    def kill(self):
        self.signal(signal.SIGKILL)
        assert self.end() == KILLED

    def put_down(self):
        """Kill it, unless it has been waited for: its number may be another process' by then."""
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                self.signal(signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def _wait(self, how):
        seen = []

        def is_seen():
            seen[:] = os.waitpid(self.pid, how | os.WNOHANG)
            return seen[0] != 0

        wait_until(is_seen, f"process {self.pid}")
        return seen


def _live_as_child(function, args, pipe, limit):
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)  # where it hangs; then it is killed
        signal.alarm(int(limit))
        function(pipe, *args)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


@contextlib.contextmanager
def child(function, *args, **how):
    """A child that is killed where the test forgets it."""
    one = Child(function, *args, **how)
    try:
        yield one
    finally:
        one.put_down()


def stay(pipe, word=None):
    """Of a child: say that it is so far, and wait to be told more."""
    pipe.send(word)
    return pipe.recv()


def run_silent(code, timeout=WATCHDOG, before=()):
    """Run a program, every warning an error; its standard output. Nothing may stand on its standard error."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [*before, sys.executable, "-W", "error", "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, ""), f"{end_of(done.stdout)}\n{end_of(done.stderr)}"
    return done.stdout


# Records that show whether they are whole -----------------------------------------------------------------------------

CHECKS = 5
CHECKED = np.dtype([("producer", "<i8"), ("number", "<i8"), ("check", "<i8", (CHECKS,))])


def checked_records(producer, first, count):
    """The records of that producer from number `first` on."""
    records = np.empty(count, CHECKED)
    records["producer"] = producer
    records["number"] = np.arange(first, first + count)
    records["check"] = _checks(records)
    return records


def _checks(records):
    start = records["producer"] * 1_000_003 + records["number"] * 7919
    return start[:, np.newaxis] + np.arange(CHECKS) * 104_729


def assert_whole(records):
    assert (records["check"] == _checks(records)).all(), f"a torn record among {records}"
