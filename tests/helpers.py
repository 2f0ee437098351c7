"""What the tests of rings and queues share: threads with a watchdog, crowds, signals, child processes, records."""

import asyncio
import contextlib
import ctypes
import faulthandler
import functools
import inspect
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

import f1buf
from f1buf import Empty, Full, RingBuffer, ShutDown
from f1buf.ring.shared import _unlink_created

WATCHDOG = 120.0  # [s] how long a test waits for what must come, on a machine however busy
SEEN = 1.0  # [s] within which a thread is seen to wait, mostly: the timeout of one that then times out
# [s] What is promised within 100 ms must be there by then, however busy the machine is; bench/interrupts.py measures.
LATE = 30.0


# Threads --------------------------------------------------------------------------------------------------------------


class Task(threading.Thread):
    """A call in a thread of its own that starts at once; `result()` gives what it returned or raised."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self._call = functools.partial(function, *args, **kwargs)
        self._value = self._error = None
        self.start()

    def run(self):
        try:
            self._value = self._call()
        except BaseException as error:  # result() raises it where it is awaited
            self._error = error

    def result(self):
        self.join(WATCHDOG)
        if self.is_alive():
            hangs(self._call)
        if self._error is not None:
            raise self._error
        return self._value


def hangs(what, after=WATCHDOG):
    """End a wait that has gone on for too long, with every thread's stack on standard error."""
    faulthandler.dump_traceback(file=sys.__stderr__)
    raise AssertionError(f"still waiting for {what} after {after} s")


def wait_until(condition, what="a condition", every=1e-4, patience=WATCHDOG):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            hangs(what)
        time.sleep(every)  # what is waited for gives no sign; an event would be waited for as such


def parked(function, *args, **kwargs):
    """A task that has been seen to wait in its call."""
    task = Task(function, *args, **kwargs)
    wait_parked(task)
    return task


def timeouts():
    """Timeouts [s] of a call that is to be met while it waits, and whether that was in time: until then longer ones.

    In time is what was done before the timeout that began when this gave it: the call's own begins later.
    """
    for timeout in (0.25, 1.0, 4.0, 16.0, 64.0):
        until = time.monotonic() + timeout
        yield timeout, lambda until=until: time.monotonic() < until
    raise AssertionError("a call with a timeout of 64 s was over before it was met")


def parked_or_over(function, *args, **kwargs):
    """A task that has been seen to wait in its call, or whose timeout was over before that, on a busy machine."""
    task = Task(function, *args, **kwargs)
    _parks(task)
    return task


def wait_parked(thread):
    """Wait until a thread sleeps in the kernel for something other than the GIL."""
    assert _parks(thread), "it did not wait"


def wait_parked_anew(thread):
    """Wait until a thread that is parked has been awake, to look for signals say, and is parked again."""
    before = _switches_of_sleeper(thread)
    wait_until(lambda: _switches_of_sleeper(thread) not in (None, before), f"{thread} to wake up", every=1e-3)
    wait_parked(thread)


def _parks(thread):
    """Wait for the same; False where it has ended instead.

    A thread that waits for the GIL wakes up every switch interval to ask for it, and one that runs does not sleep; so
    a thread that sleeps without a context switch for two such intervals is parked.
    """
    switches, since, parks = None, 0.0, False

    def parks_or_has_ended():
        nonlocal switches, since, parks
        now, before = time.monotonic(), switches
        switches = _switches_of_sleeper(thread)
        if switches is None or switches != before:
            since = time.monotonic()
        parks = switches is not None and now - since > 2.5 * sys.getswitchinterval()
        return parks or not thread.is_alive()

    wait_until(parks_or_has_ended, f"{thread} to wait", every=1e-3)
    return parks


def sleeps(thread):
    """Whether a thread sleeps just now, for whatever it may be."""
    return _switches_of_sleeper(thread) is not None


def _switches_of_sleeper(thread):
    """The number of context switches of a thread that sleeps, None where it runs."""
    # after a fork, Python 3.11 does not know the main thread's native id
    native_id = os.getpid() if thread is threading.main_thread() else thread.native_id
    try:
        with open(f"/proc/self/task/{native_id}/status") as file:
            status = dict(line.split(":", 1) for line in file)
    except FileNotFoundError:  # it has ended
        return None
    if not status["State"].strip().startswith("S"):
        return None
    return status["voluntary_ctxt_switches"], status["nonvoluntary_ctxt_switches"]


@contextlib.contextmanager
def stalling_signals(handler=lambda *_: None):
    """A thread that gets SIGUSR1 stays where it is, until the number is read from the descriptor that this gives.

    Python's signal handler (the one in C) writes to the wakeup descriptor, in the thread that got the signal and
    without the GIL. Here that is a full pipe, so the thread waits for it to be emptied.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler_before = signal.signal(signal.SIGUSR1, handler)
    descriptor_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for filling in (bytes(1 << 20), b"\0"):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, filling)
    os.set_blocking(writer, True)
    # Without the GIL the thread may be held where it has one of CPython's own locks, and then nobody here can read.
    rescuer = None if WITH_GIL else subprocess.Popen([sys.executable, "-I", "-S", "-c", _RESCUE], stdin=reader)
    try:
        yield reader
    finally:
        if rescuer is not None:
            rescuer.kill()
            rescuer.wait()
        signal.set_wakeup_fd(descriptor_before)
        signal.signal(signal.SIGUSR1, handler_before)
        os.close(reader)
        os.close(writer)


_RESCUE = """
import os, time
parent, until = os.getppid(), time.monotonic() + 60
while os.getppid() == parent and time.monotonic() < until:
    time.sleep(0.1)
os.read(0, 1 << 16)
"""


def let_go(thread, reader):
    """End what `stalling_signals` began."""
    while thread.is_alive() and signal.SIGUSR1 not in os.read(reader, 1 << 16):
        pass


def interrupt_once(condition):
    """SIGINT as soon as a condition holds; the task's result is when."""

    def wait_and_send():
        wait_until(condition)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
        return sent

    return Task(wait_and_send)


@contextlib.contextmanager
def trickling(ring):
    """Another thread takes what is there, all of it, every 5 ms."""
    enough = threading.Event()

    def drain():
        while not enough.wait(0.005):
            with contextlib.suppress(Empty):
                ring.get_many(block=False)

    drainer = Task(drain)
    yield
    enough.set()
    drainer.result()


def keep_calling(*calls):
    """Daemon threads that make these calls for ever; Full and Empty are no errors.

    Where a fork follows, let them and the child share no closure, list or dictionary, but give `functools.partial`:
    without a GIL CPython guards each of these with a mutex of its own, which in the child may stay locked for ever.
    """
    for call in calls:
        threading.Thread(target=call_for_ever, args=(call,), daemon=True).start()


def call_for_ever(call):
    while True:
        with contextlib.suppress(Empty, Full):
            call()


# What the everyday run leaves out -------------------------------------------------------------------------------------

# `@thorough` leaves a test out of the everyday run, `@thorough(but=("plain-*",))` all but the parameters of these ids.
thorough = pytest.mark.thorough


# Crowds ---------------------------------------------------------------------------------------------------------------

STRESS_SECONDS = float(os.environ.get("F1BUF_STRESS", "0.1"))  # how long each scenario with many threads runs
LONG_WATCHDOG = 2 * WATCHDOG + 20 * STRESS_SECONDS
WITH_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
FULL = STRESS_SECONDS >= 10  # the long run: everything, and as often as is promised
ROUNDS = 20 if STRESS_SECONDS >= 0.5 else 4  # of what meets any moment of a tick of 50 ms
REPEATS = 200 if FULL else max(1, int(10 * STRESS_SECONDS))  # how often what needs a process or a signal is done


def seeded(role=""):
    """Random numbers that are the same each time the test runs, and others in other tests, and for other roles."""
    return random.Random(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] + role)


def examples(often):
    """How many hypothesis tries: so many with `--all`, a fifth every day."""
    return max(10, int(often * STRESS_SECONDS / 0.5))


class Crowd:
    """Threads that must all end well; the first exception of any of them is raised by `join`."""

    def __init__(self):
        self.threads = []
        self.errors = []

    def start(self, target, *args):
        def run():
            try:
                target(*args)
            except BaseException as error:
                self.errors.append(error)

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def join(self):
        deadline = time.monotonic() + LONG_WATCHDOG
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                hangs(thread, LONG_WATCHDOG)
        if self.errors:
            raise self.errors[0]


def hand_over_to_takers_that_give_up(put, take, shutdown):
    """Timeouts about as long as the gap between numbers: many grants meet a waiter that has given up."""
    total, got, crowd = int(2000 * STRESS_SECONDS), [], Crowd()

    def keep_taking():
        while True:
            try:
                got.append(int(take(timeout=5e-5)))
            except Empty:
                continue
            except ShutDown:
                return

    for _ in range(4):
        crowd.start(keep_taking)
    for number in range(total):
        put(number, timeout=LONG_WATCHDOG)
    shutdown()
    crowd.join()
    assert sorted(got) == list(range(total))


def hand_over_one_by_one(put, get, total=int(4000 * STRESS_SECONDS)):
    """One slot, both sides waiting for each number."""
    crowd, got = Crowd(), []
    crowd.start(lambda: [put(number) for number in range(total)])
    crowd.start(lambda: [got.append(int(get())) for _ in range(total)])
    crowd.join()
    assert got == list(range(total))


# Signals --------------------------------------------------------------------------------------------------------------


def send(number):
    """Send this process a signal as soon as its main thread waits; the task's result is when."""

    def wait_and_send():
        wait_parked(threading.main_thread())
        sent = time.monotonic()
        os.kill(os.getpid(), number)
        return sent

    return Task(wait_and_send)


def assert_interrupted(call):
    """The call waits until SIGINT ends it; returns how long after the signal that was [s]."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        call()
    delay = time.monotonic() - sender.result()
    assert delay < LATE
    return delay


def interrupt_again_and_again(interrupt):
    """SIGINT `REPEATS` times, also beside a thread that never lets the GIL go by itself; prints the delays.

    `interrupt` is a test of one SIGINT that returns the delay.
    """
    print_delays("alone", [interrupt() for _ in range(REPEATS)])
    if WITH_GIL:
        with busy_thread():
            print_delays("beside a busy thread", [interrupt() for _ in range(REPEATS)])


def print_delays(how, delays):
    ordered = sorted(1e3 * delay for delay in delays)
    p50, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    print(f"{how}: {len(ordered)} times, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms")


@contextlib.contextmanager
def busy_thread():
    """Another thread computes in Python all the time."""
    busy = True

    def compute():
        while busy:
            pass

    computer = Task(compute)
    yield
    busy = False
    computer.result()


def interrupted_at_random(work):
    """Call `work`, which never returns, again and again, until SIGINT at random moments has ended it often.

    `work` must lose nothing where it is interrupted between two calls: what calls the buffer and keeps the results
    is C, such as `taken.extend(map(get, repeat(True)))`. Python itself would look for signals after a get, before
    anything could keep what that returned.
    """
    rng, enough, armed, interrupted = seeded(), threading.Event(), False, 0

    def handler(*_):
        nonlocal armed
        if armed:  # else it would come where it is not expected
            armed = False
            raise KeyboardInterrupt

    def disturb():
        while not enough.wait(rng.random() * 5e-3):
            os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, handler)
    disturber = Task(disturb)
    while interrupted < 4 * REPEATS:
        try:
            armed = True
            work()
        except KeyboardInterrupt:
            interrupted += 1
    enough.set()
    disturber.result()


def put_amid_interrupts(name, buffer, offered):
    """The main thread puts 0, 1, 2, ..., for others to take; `offered` tells how many the buffer has accepted."""
    accepted, takes, crowd = [], [[], []], Crowd()

    def put_each():  # a put that raises has put nothing
        while True:  # a ring's put that waits for less than a tick does not look for signals
            accepted.extend(map(buffer.put, range(len(accepted), len(accepted) + 10)))

    def put_batches():  # one that raises keeps what it had accepted
        while True:
            first = offered()
            buffer.put_many(range(first, first + 5))

    for taken in takes:
        crowd.start(take_now_and_then, buffer, taken)
    interrupted_at_random(put_each if name == "put" else put_batches)
    buffer.shutdown()
    crowd.join()
    assert name != "put" or len(accepted) == offered()
    assert sorted(itertools.chain(*takes)) == list(range(offered()))
    buffer._check()


def get_amid_interrupts(name, buffer):
    """The main thread takes what others put, and others take some of it, too."""
    repeat = itertools.repeat
    made, takes, results, crowd = [[], []], [[]], [], Crowd()
    outs, kept = itertools.tee(map(np.zeros, repeat(3), repeat("i8")))
    work = {
        "get": lambda: takes[0].extend(map(buffer.get, repeat(True))),
        "get_many": lambda: takes.extend(map(buffer.get_many, repeat(3))),
        "get_into": lambda: results.extend(zip(kept, map(buffer.get_into, outs), strict=True)),
        "batches": lambda: takes.extend(buffer.batches(3)),
    }[name]
    for producer, numbers in enumerate(made):
        crowd.start(put_now_and_then, buffer, itertools.count(producer, 2), numbers)
    takes.append([])
    crowd.start(take_now_and_then, buffer, takes[-1])
    interrupted_at_random(work)
    buffer.shutdown()
    crowd.join()
    takes += [out[:count] for out, count in results]
    assert sorted(map(int, itertools.chain(*takes))) == sorted(itertools.chain(*made))
    buffer._check()


def take_now_and_then(buffer, taken, done=lambda: None):
    """Until the buffer is shut down and drained; `done` after each item."""
    rng = seeded("take")
    with contextlib.suppress(ShutDown):
        while True:
            for item in buffer.get_many(2):
                taken.append(int(item))
                done()
            time.sleep(rng.random() ** 8 * 0.1)  # so that others wait, now and then for longer than a tick


def put_now_and_then(buffer, numbers, made):
    """Until the buffer is shut down."""
    rng = seeded("put")
    with contextlib.suppress(ShutDown):
        for number in numbers:
            buffer.put(number)
            made.append(number)
            time.sleep(rng.random() ** 8 * 0.1)  # so that others wait, now and then for longer than a tick


@contextlib.contextmanager
def signals_without_end():
    """Send this process SIGUSR1 a hundred times a second; gives the list that grows with each that was handled."""
    handled, enough = [], threading.Event()

    def disturb():
        while not enough.wait(0.01):
            os.kill(os.getpid(), signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
    disturber = Task(disturb)
    wait_until(lambda: handled, "the handler")
    yield handled
    enough.set()
    disturber.result()


class StopError(Exception):
    """What the handler of `stop_then_serve` raises."""


def stop_then_serve(call, serve):
    """A signal whose handler raises and right behind it what `call` waits for, at every moment of a tick.

    Yields the number of the round, which `serve` got, after each.
    """

    def handler(*_):
        if armed:
            raise StopError

    signal.signal(signal.SIGUSR1, handler)
    for number in range(ROUNDS):
        armed = True

        def disturb(number=number):
            wait_parked(threading.main_thread())
            time.sleep(0.05 * number / ROUNDS)  # signals at any moment of a tick, which they make up together
            os.kill(os.getpid(), signal.SIGUSR1)
            serve(number)

        disturber = Task(disturb)
        try:
            with pytest.raises(StopError):
                call()
        finally:
            armed = False
            disturber.result()
        yield number


# Copies in progress ---------------------------------------------------------------------------------------------------

MANY = 24 << 20  # records of 8 bytes: a copy of 192 MB takes some 30 ms, so that it can be caught midway
LARGE = np.dtype([("number", "i8"), ("bulk", "u1", (64 << 20,))])  # no put is cut into less than records


@contextlib.contextmanager
def midway(ring, call):
    """A task that is held in the middle of its call's large copy, or None where that was over too soon.

    The task is nice (on Linux: a thread alone): on a busy machine this thread would else be woken after the copy.

    A task whose copy is over may be waiting for the GIL. It must not be held there: the C library's condition variables
    wait for a waiter that was woken to leave, so the next thread to hand the GIL over would wait for ever. Hence from
    the signal on, this thread keeps the GIL until it knows that the copy is not over, or has let the task go.
    """
    copied, over, moved, began = threading.Event(), threading.Event(), moved_so_far(ring), []

    def call_and_stay():  # for a thread that has ended cannot be asked for its clock, nor be sent a signal
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        began.append((time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt))
        try:
            return call()
        finally:
            copied.set()
            over.wait(WATCHDOG)

    def copies():
        """A millisecond is long after a copy began and long before it ends; and it meets memory that is new.

        (The clock alone does not tell: a virtual machine may stand still. What is written does not: memcpy may begin at
        the end.)
        """
        if not began:
            return False
        (clock_then, faults_then), clock = began[0], time.pthread_getcpuclockid(task.ident)
        return time.clock_gettime(clock) - clock_then > 0.001 and page_faults(task) - faults_then > 8

    with stalling_signals() as reader:
        with undisturbed():
            task = Task(call_and_stay)
            wait_until(lambda: copied.is_set() or copies(), "a copy to begin")
            signal.pthread_kill(task.ident, signal.SIGUSR1)
            keep_busy(1e-4)  # [s] to interrupt another processor takes microseconds
            caught = not copied.is_set() and moved_so_far(ring) == moved
            if not caught:
                _KEEPING_GIL.read(reader, ctypes.create_string_buffer(_PIPE), _PIPE)
        try:
            if caught:
                wait_parked(task)
                signal.set_wakeup_fd(-1)
            yield task if caught else None
        finally:
            over.set()
            let_go(task, reader)


_KEEPING_GIL = ctypes.PyDLL(None)  # the C library, called without letting the GIL go
_PIPE = 1 << 16  # bytes that it holds


@contextlib.contextmanager
def undisturbed():
    """Inside, threads that wait for the GIL do not make this one let it go."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(WATCHDOG)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def page_faults(thread):
    """How often it has met memory that was new to it; 0 where it has ended."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{thread.native_id}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[7])
    return 0


def keep_busy(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def moved_so_far(ring):
    stats = ring.stats()
    return stats.offered, stats.taken


def attempts():
    """To catch what is over within milliseconds: on a busy machine that takes many of them."""
    deadline = time.monotonic() + WATCHDOG
    while time.monotonic() < deadline:
        yield


@contextlib.contextmanager
def reading(overflow="block", spare=0, more=(), take=lambda ring: ring.get_many(MANY)):
    """A ring while another thread is held in the middle of copying the first `MANY` of its records, 1, 2, 3, ..."""
    for _ in attempts():
        ring = RingBuffer(MANY + len(more) + spare, "i8", overflow=overflow)
        ring.put_many(np.arange(1, MANY + 1))
        ring.put_many(more)
        with midway(ring, functools.partial(take, ring)) as reader:
            if reader is not None:
                yield ring
        if reader is not None:
            break
    assert np.array_equal(reader.result(), np.arange(1, MANY + 1))


@contextlib.contextmanager
def writing(capacity=2, overflow="block", before=()):
    """A ring of `LARGE` while another thread is held in the middle of putting number 7, behind those `before`."""
    record = np.zeros(1, LARGE)
    for _ in attempts():
        ring = RingBuffer(capacity, LARGE, overflow=overflow)
        for number in before:
            record["number"] = number
            ring.put_many(record)
        record["number"] = 7
        with midway(ring, functools.partial(ring.put_many, record)) as writer:
            if writer is not None:
                yield ring
        if writer is not None:
            break
    assert writer.result() == 1


# Child processes ------------------------------------------------------------------------------------------------------


def in_fork(check, limit=2 * WATCHDOG):  # in which `attempts` may take one
    """Run `check` in a forked child, which must end it in time [s], without an exception, a crash or a hang."""
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork while other threads run
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)  # where it hangs; then it is killed
            signal.alarm(int(limit))
            check()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            try:
                _unlink_created()  # the names of shared rings; os._exit leaves them there
            finally:
                os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended by signal {-status}" if status < 0 else "the child failed, see standard error"


def forked(test):
    """Decorate a test so that it runs in a forked child: it may replace signal handlers, and leave threads behind."""

    @functools.wraps(test)
    def in_child(*args, **kwargs):
        in_fork(lambda: test(*args, **kwargs))

    return in_child


async def waiting(*coroutines):
    """Tasks, each of which has come to where it waits, one after the other."""
    tasks = []
    for coroutine in coroutines:
        tasks.append(asyncio.ensure_future(coroutine))
        for _ in range(3):  # it may have let the loop run first
            await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks[0] if len(tasks) == 1 else tasks


def in_loop(test):
    """Decorate a coroutine function, so that it is a test that the fixture `run` runs."""

    @functools.wraps(test)
    def call(run, **arguments):
        run(test(**arguments))

    run = inspect.Parameter("run", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    call.__signature__ = inspect.Signature([run, *inspect.signature(test).parameters.values()])
    return call


def run_python(code, timeout=WATCHDOG):
    """Run a program in an interpreter of its own; its standard output, once it has ended with status 0."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, process_group=0) as process:
        how = "status"
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            how = f"hung for {timeout} s; status"
            os.killpg(process.pid, signal.SIGABRT)  # at which it and its children print every thread's stack
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"{how} {process.returncode}\n{end_of(out)}\n{end_of(err)}"
    return out


def end_of(output):
    """The last lines of what a program has printed: there the stacks are, which a long report else hides."""
    return "\n".join(output.splitlines()[-300:])


def run_setup(folder, package=None):
    """Run the setup.py in a folder, with all output in its `built`, against `package`, else the f1buf under test."""
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "built"]
    # Cython looks for .pxd files along the path only, where an editable install is not
    path = [str(Path(package or f1buf.get_include()).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONG_WATCHDOG)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "core/sync.hpp" not in done.stderr, f"the header has been warned of:\n{done.stderr}"
    return folder / "built"


def compile_module(folder, name, source, package=None):
    """Compile one module with the setup.py of the example; the folder that it is in then."""
    setup = (Path(__file__).parent / "examples/nogil_producer/setup.py").read_text()
    (folder / "setup.py").write_text(setup.replace("nogil_producer", name))
    (folder / f"{name}.pyx").write_text(source)
    return run_setup(folder, package)


def not_where_detaching_may_crash(scenario):
    """A parameter: at whose end daemon threads come to Python and let it go all the time."""
    reason = (
        "CPython 3.13 without the GIL may end in a segmentation fault where a daemon thread lets its state go (in "
        "PyEval_SaveThread) while the main thread clears it: docs/pythons.md"
    )
    return pytest.param(scenario, marks=pytest.mark.skipif(not WITH_GIL and sys.version_info < (3, 14), reason=reason))


def end_in_children(scenario):
    """`REPEATS` times through the interpreter's whole end, and another time by the caller."""
    for _ in range(REPEATS):
        pid = os.fork()
        if pid == 0:
            signal.alarm(int(WATCHDOG))
            break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    scenario()


@contextlib.contextmanager
def loaded():
    """More processes that never wait than this machine has processors."""
    busy = "import os; parent = os.getppid(); print(flush=True)\nwhile os.getppid() == parent: pass"  # outlives no test
    command = [sys.executable, "-S", "-c", busy]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() + 1)]
    try:
        for child in children:
            child.stdout.readline()  # it runs
        yield
    finally:
        for child in children:
            child.kill()
            child.communicate()


# Recordings -----------------------------------------------------------------------------------------------------------


def recordings_folder():
    """Where the real recordings would be: $F1BUF_DATA, or ../shared/data beside the project."""
    return Path(os.environ.get("F1BUF_DATA") or Path(__file__).parents[2] / "shared" / "data")


# The calls that wait --------------------------------------------------------------------------------------------------

PUTS = {
    "put": lambda ring, **how: ring.put(7, **how),
    "put_many": lambda ring, **how: ring.put_many([7, 8], **how),
}
GETS = {
    "get": lambda ring, **how: ring.get(**how),
    "get_many": lambda ring, **how: ring.get_many(**how),
    "get_into": lambda ring, **how: ring.get_into(np.zeros(1, ring.dtype), **how),
    "batches": lambda ring, **how: next(ring.batches(**how)),
}
CALLS = PUTS | GETS

each_call = pytest.mark.parametrize("name", CALLS)
each_put = pytest.mark.parametrize("name", PUTS)
each_get = pytest.mark.parametrize("name", GETS)


def stuck_ring(name, **options):
    """A ring on which the call of that name has to wait: full or empty."""
    return ring_with(1, **options) if name in PUTS else RingBuffer(1, "i8", **options)


def assert_times_out(name, ring, **how):
    if name == "batches":
        assert len(CALLS[name](ring, **how)) == 0
        return
    with pytest.raises(Full if name in PUTS else Empty):
        CALLS[name](ring, **how)


# Rings and records ----------------------------------------------------------------------------------------------------


def ring_with(*values, capacity=None, dtype="i8", overflow="block"):
    """A ring that holds `values`, of just that capacity unless told otherwise."""
    ring = RingBuffer(capacity or len(values), dtype, overflow=overflow)
    ring.put_many(list(values), block=False)
    return ring


def contents(ring):
    return ring.snapshot().tolist()


def check_balance(ring):
    """What holds at rest, always."""
    stats = ring.stats()
    assert stats.offered == stats.taken + stats.dropped + stats.discarded + ring.qsize()
    ring._check()


@contextlib.contextmanager
def unchanged(ring):
    """What happens inside leaves the ring's records and counters as they were."""
    before = ring.snapshot().tobytes(), ring.stats()
    yield
    assert (ring.snapshot().tobytes(), ring.stats()) == before
    ring._check()


def records(dtype, n, start=1):
    """`n` records of any dtype, numbered from `start`, so that neighbours differ."""
    dtype = np.dtype(dtype)
    out = np.zeros(n, dtype)
    for leaf in _leaves(out):
        numbers = np.arange(start, start + leaf.size).reshape(leaf.shape)
        if leaf.dtype.kind in "mM":
            leaf[...] = numbers.astype("i8").view(leaf.dtype.newbyteorder("="))
        elif leaf.dtype.kind == "V":
            raw = b"".join(bytes([1 + i % 255]) * leaf.dtype.itemsize for i in numbers.flat)
            leaf[...] = np.frombuffer(raw, leaf.dtype).reshape(leaf.shape)
        elif leaf.dtype.kind == "b":
            leaf[...] = numbers % 2 == 1
        else:
            leaf[...] = (numbers % 100).astype(leaf.dtype)
    return out


def _leaves(array):
    if array.dtype.names is None:
        return [array]
    return [leaf for name in array.dtype.names for leaf in _leaves(array[name])]
