"""The code takes no step that the model of its protocol does not know: the model follows recordings of real threads.

A debug build writes down every locked section, in the order of the lock: whose it was, how it began, and what it left
(`sync._record`). Here threads run the programs of the model's scenarios on real buffers; then the model takes
the same steps, and must be left with the same count, turns, lists, grants and promises after each of them, and in the
end with the same records in the same hands. What the recording does not show is searched for: whether somebody spun
before it queued, how much room a `get_many` had, how much a snapshot saw before it had the lock.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import itertools
import signal
import threading
import time

import numpy as np
import pytest
from explorer import Violation, insist
from helpers import STRESS_SECONDS, WITH_GIL, Crowd, StopError, attempts, seeded, wait_parked, wait_parked_anew
from mutations import MUTATIONS, mutated
from programs import BLOCK, FOR_EVER, MANY, NOT, TIMED, Scenario, operation, scenario
from protocol_model import (
    ALLOCATES,
    ANSWERED,
    DONE,
    ENDED,
    ENDS_OF_BLOCKS,
    ENTERED,
    HANDLES,
    HAS_BLOCK,
    LOOKS,
    NONE,
    OPEN,
    RESERVED,
    SHUT,
    SHUT_NOW,
    SUSPENDED,
    WITHDRAWS,
)
from queue_model import CLASSIC, MOVES
from ring_model import COPIES
from scenarios import QUEUE, RING, SCENARIOS

from f1buf import Empty, Full, Queue, RingBuffer, ShutDown
from f1buf.core import sync

if not WITH_GIL:
    pytest.skip(
        "how much was done before the woken, which is limited without a GIL, is not recorded", allow_module_level=True
    )
if not sync.RECORDS:
    how = "F1BUF_DEBUG=1 python setup.py build_ext --inplace"
    pytest.skip(f"only a debug build of f1buf records what threads do: {how}", allow_module_level=True)

SHUT_CODES = {OPEN: 0, SHUT: 1, SHUT_NOW: 2, ENDED: 4}
ROOM = 20_000  # locked sections of one run


@pytest.fixture(autouse=True)
def no_garbage():
    """What other tests have left is gone before: a block of theirs would give its turn back amid a recording."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# -- real threads ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """What real threads did."""

    scenario: Scenario
    events: list  # (index of the thread, step, what it left) of each locked section
    got: list  # by thread: what it took, in order


LARGE = np.dtype([("number", "i8"), ("bulk", "u1", (70_000,))])  # every copy takes a turn; get_many may lack room


class RingRun:
    """The operations of the ring's model, on a real ring."""

    def __init__(self, scenario, large):
        self.dtype = LARGE if large else np.dtype([("number", "i8")])
        self.buffer = RingBuffer(scenario.capacity, self.dtype, overflow=scenario.overflow)

    def put(self, op, how, first):
        if op.n == 1 and self.dtype is not LARGE:
            self.buffer.put((first,), **how)
            return 1
        return self.buffer.put_many(self.records(op.n, first), **how)

    def records(self, n, first):
        records = np.zeros(n, self.dtype)
        records["number"] = range(first, first + n)
        return records

    def get(self, op, how):
        if op.least == op.n == 1:
            return [self.buffer.get(**how)["number"]]
        return self.buffer.get_many(op.n, min_count=op.least, **how)["number"]

    def reserve(self, op, how, first, uses):
        with self.buffer.reserve(op.n, **how) as block:
            array = block.array
            array["number"] = range(first, first + len(block))
            del array
            committed = uses(len(block))
            block.commit(committed)
        return committed

    def peek(self, op, how, uses):
        with self.buffer.peek(op.n, min_count=op.least, **how) as block:
            consumed = uses(len(block))
            numbers = block.array["number"][:consumed].tolist()
            block.consume(consumed)
        return numbers

    async def aput(self, op, first):
        return await self.buffer.aput_many(self.records(op.n, first))

    async def aget(self, op):
        return (await self.buffer.aget_many(op.n, min_count=op.least))["number"]


class QueueRun:
    """The operations of the queue's model, on a real queue."""

    def __init__(self, scenario, large):
        self.buffer = Queue(scenario.capacity)

    def put(self, op, how, first):
        self.buffer.put(first, **how)
        return 1

    def put_many(self, op, how, first):
        return self.buffer.put_many(range(first, first + op.n), **how)

    def get(self, op, how):
        return [self.buffer.get(**how)]

    def get_many(self, op, how):
        return self.buffer.get_many(op.n, min_count=op.least, **how)

    async def aput(self, op, first):
        await self.buffer.aput(first)
        return 1

    async def aget(self, op):
        return [await self.buffer.aget()]

    async def ajoin(self, op):
        await self.buffer.ajoin()
        return []


def run(scenario, rng, large=False, first=lambda: None):
    """Run the scenario's threads on a real buffer, and record it. P1 calls `first` before it puts anything.

    Each loop has a thread and one coroutine.
    """
    real = {"ring": RingRun, "queue": QueueRun}[scenario.of](scenario, large)
    names = list(scenario.threads)
    threads, got = {}, [[] for _ in (*names, *scenario.loops)]
    barrier = threading.Barrier(len(names))

    def follow_program(index):
        threads[threading.get_ident()] = index
        sent = 0
        barrier.wait()
        if names[index] == "P1":
            first()
        if names[index][0] in scenario.loops:
            asyncio.run(follow_coroutine(index))
            return
        for op in scenario.threads[names[index]]:
            for _ in range(rng.choice((0, 0, 30, 300, 3000))):
                pass
            # ValueError: task_done, where all is done
            with contextlib.suppress(Empty, Full, ShutDown, StopError, ValueError):
                sent += perform(real, op, index, sent, got[index], rng)

    async def follow_coroutine(index):
        sent = 0
        for op in scenario.threads[names[index]]:
            await asyncio.sleep(rng.choice((0, 0, 1e-4)))
            may_be_cancelled = names[index] in scenario.cancelled
            with contextlib.suppress(ShutDown, TimeoutError):
                async with asyncio.timeout(rng.choice((1e-5, 1e-3, None)) if may_be_cancelled else None):
                    sent += await perform_later(real, op, index, sent, got[index])

    crowd = Crowd()
    sync._record(ROOM)
    for index, name in enumerate(names):
        if name != scenario.ticks:
            crowd.start(follow_program, index)
    if scenario.ticks:
        follow_program(names.index(scenario.ticks))
    crowd.join()
    recording = sync._recorded()
    assert len({buffer for buffer, *_ in recording}) == 1
    return Run(scenario, [(threads[thread], step, left) for _, thread, step, left in recording], got)


def perform(real, op, index, sent, got, rng):
    """Do what the model calls `op`; how many records that put."""
    how = {NOT: {"block": False}, TIMED: {"timeout": rng.choice((1e-6, 1e-4, 5e-4))}, FOR_EVER: {}}[op.wait]
    first = index * ROOM + sent + 1
    uses = functools.partial(use_block, rng)
    if op.kind in ("put", "put_many"):
        return getattr(real, op.kind)(op, how, first)
    if op.kind == "reserve":
        return real.reserve(op, how, first, uses)
    if op.kind in ("get", "get_many", "peek"):
        numbers = real.peek(op, how, uses) if op.kind == "peek" else getattr(real, op.kind)(op, how)
        got += [divmod(int(number), ROOM) for number in numbers]
    elif op.kind == "shutdown":
        time.sleep(rng.choice((0, 1e-4, 1e-3)))  # the others get a chance to come far
        real.buffer.shutdown(op.immediate)
    elif op.kind == "bound":
        real.buffer.maxsize = op.n
    elif op.kind == "convert":
        real.buffer.mutex.convert()
    else:
        getattr(real.buffer, op.kind)()
    return 0


async def perform_later(real, op, index, sent, got):
    """The same of a coroutine."""
    call = getattr(real, f"a{op.kind}")
    if op.kind == "put":
        return await call(op, index * ROOM + sent + 1)
    got += [divmod(int(number), ROOM) for number in await call(op)]
    return 0


def use_block(rng, length):
    """Have a block for a while; of how many of its records it then makes use: of all, all but one, or none."""
    time.sleep(rng.choice((0, 0, 1e-4, 1e-3)))
    return rng.choice((length, length, max(0, length - 1), 0))


# -- the model follows -------------------------------------------------------------------------------------------------


class Follower:
    """Mixed into a model: how it takes the step that a recording tells of."""

    def __init__(self, scenario):
        super().__init__(scenario)
        self.spins = False  # whether a thread that may not act spins first
        self.acting = None  # the thread that takes a step
        self.got = [()] * len(self.threads)

    def freeze(self):
        return tuple(self.got), super().freeze()

    def thaw(self, state):
        got, rest = state
        self.got = list(got)
        super().thaw(rest)

    def may_spin(self, t):
        return self.spins and not t.loop and not t.spun and not t.side.waiters

    def looks(self, t):
        """A put's TRY is a LOOK for the model, unless it is in vain."""
        return super().looks(t) + ("TRY",) * (t.op.kind == "put")

    def take(self, records):
        self.got[self.acting.index] += records
        super().take(records)

    def pop(self, n):
        self.got[self.acting.index] += tuple(self.slots[:n])
        super().pop(n)

    def left(self):
        """What a recording says of the state."""
        left = {
            "shut": SHUT_CODES[self.shut],
            "count": self.count,
            "capacity": self.capacity,
            "joins_waiting": len(self.joins.waiters),
            "joins_granted": self.joins.granted,
        }
        if not self.is_classic():  # there they are counted without a release
            left["unfinished"] = self.unfinished
        for side in (self.puts, self.gets):
            left |= {
                f"{side.name}_turn": side.turn,
                f"{side.name}_waiting": len(side.waiters),
                f"{side.name}_granted": side.granted,
                f"{side.name}_promised": side.promised,
                f"{side.name}_woken": sum(t.granted and not t.loop for t in self.threads if t.side is side),
            }
        return left

    def is_classic(self):
        return self.is_queue() and self.mode is CLASSIC

    def is_queue(self):
        return self.scenario.of == "queue"

    def guesses(self, t, step):
        """What the recording does not show: operations that ended without a section, whether it spins, how much room it
        has, how much it saw to be there before it had the lock, how many of a block's records enter or leave."""
        skips = range(len(t.program) - t.place if self.is_queue() else 1 + self.may_be_ended(t))
        rooms = mosts = (MANY,)
        spins = (False, True) if step == "LOOK" and not self.is_queue() else (False,)
        if t.op is not None and t.op.kind == "get":
            rooms = sorted({t.op.least, MANY})
            mosts = range(t.op.least, t.op.n + 1) if step == "TRY" else (MANY,)
        elif t.op is not None and t.op.kind == "snapshot":
            mosts = range(self.count + 1)
        ends = ENDS_OF_BLOCKS if step == "END" and t.at is HAS_BLOCK else ("END",)
        return itertools.product(skips, spins, rooms, mosts, ends)

    def follow(self, t, step, guess):
        skipped, self.spins, room, most, end = guess
        self.acting = t
        self.deliver(t)
        for _ in range(skipped):
            self.skip(t)
        before = t.place, t.room, t.most
        t.room, t.most = min(room, t.room), min(most, t.most)
        self.go(t, *self.choices_behind(t, step if step != "END" else end))
        if t.place == before[0] and t.at not in (COPIES, ALLOCATES):
            _, t.room, t.most = before

    def choices_behind(self, t, step):
        """The model's names for what a recording calls `step`, and what goes before it unseen."""
        if t.loop:
            return self.choices_of_coroutine(t, step)
        if step == "OTHER":
            return self.choices(t)[:1]
        if step == "END":
            return "COPY", "END"
        if step == "UNHOLD":
            return ("HANDLERS",)
        if step == "TRY" and "TRY" not in self.choices(t):
            return "LOOK, SIGNALS", "TRY"
        if not step.startswith("RETURN"):
            return (step,)
        parks = ("PARK",) * (t.at is ENTERED)
        if t.granted:
            self.deliver_to(t)
            return *parks, step
        return *parks, "DEADLINE" if step == "RETURN, LATE" else "TICK", "RETURN"

    def choices_of_coroutine(self, t, step):
        if step == "UNHOLD" and t.at in (SUSPENDED, ANSWERED, WITHDRAWS):
            return "WITHDRAW" if "WITHDRAW" in self.choices(t) else "CANCEL", "LET GO"
        if step == "UNHOLD":  # it has ended, and neither waits nor was promised anything
            self.release(t)
            return ()
        if t.at is SUSPENDED and t.granted:
            self.deliver_to(t)
            self.step(t.loop, "ANSWER")
        return ("COPY", "END") if step == "END" else (step,)

    def deliver(self, t):
        """All wake-ups that it has to deliver."""
        while t.wakes:
            self.step(t, "WAKE")

    def deliver_to(self, t):
        """The wake-up that is on its way to it."""
        for other in self.threads:
            while t.index in other.wakes:
                self.step(other, "WAKE")

    def go(self, t, *choices):
        insist(choices or t.loop, f"{t.name} does something, though its program is over")
        for choice in choices:
            if choice == "LET GO":
                self.deliver(t)
            can = self.choices(t)
            insist(choice in can, f"{t.name} {t.at} cannot {choice}, but {' or '.join(can) or 'nothing'}")
            self.step(t, choice)

    def may_be_ended(self, t):
        """By a signal handler, without a section: a ring's operation, which was promised nothing."""
        return not self.is_queue() and t.at is HANDLES and not t.held

    def skip(self, t):
        """End an operation that leaves no trace: a queue that is shut down, or has no task left, says so at once; one
        that has become classic is not the model's any more; and a handler may end what was promised nothing."""
        kind = t.op.kind if t.op is not None and t.at is LOOKS and t.node == NONE else None
        silent = self.is_queue() and (
            kind == "task_done"
            or (kind in ("put", "put_many") and self.shut is not OPEN)
            or (kind in ("get", "get_many") and self.shut is not OPEN and self.count == 0)
        )
        moves = self.is_classic() and t.at in (LOOKS, MOVES)
        insist(silent or moves or self.may_be_ended(t), f"{t.name} ends an operation, which leaves no trace")
        self.finish(t)


def accept(run, *mutations):
    """Let the model take the steps of a recording; a Violation where it cannot."""
    m = type("Followed", (Follower, mutated(run.scenario, *mutations)), {})(run.scenario)
    states = {m.freeze()}
    for number, (index, step, left) in enumerate(run.events):
        t, reached, why = m.threads[index], set(), set()
        for state in states:
            m.thaw(state)
            for guess in m.guesses(t, step):
                m.thaw(state)
                try:
                    m.follow(t, step, guess)
                    m.check_state()
                    differs = {it: value for it, value in m.left().items() if value != left[it]}
                    insist(not differs, f"the model is left with {differs}")
                    reached.add(m.freeze())
                except Violation as violation:
                    why.add(str(violation))
        insist(reached, f"section {number}, {t.name} {step}, left {left}, is no step of the model: {', or '.join(why)}")
        states = reached
    ends = [end for end in (end_of(m, state, run.got) for state in states) if end]
    insist(len(ends) < len(states), f"the recording ends too early, or not with what was got: {ends}")


def end_of(m, state, got):
    """What is wrong with the end of a recording, or None."""
    m.thaw(state)
    try:
        for t in m.threads:
            m.deliver(t)
            while t.at is not DONE:
                m.acting = t
                m.skip(t)
    except Violation as violation:
        return str(violation)
    same = all(
        list(model) == real[: len(model) if m.is_classic() else None] for model, real in zip(m.got, got, strict=True)
    )
    if m.scenario.overflow is not BLOCK:  # there the model numbers only those that enter
        same = [*map(len, m.got)] == [*map(len, got)]
    return None if same else f"{m.got} is not {got}"


# -- tests -------------------------------------------------------------------------------------------------------------


each_size = pytest.mark.parametrize("large", [False, True], ids=["small copies", "copies in turns"])


def recordable(scenario, *more, times=3, large=False, **settings):
    """The scenario with longer programs, all copies alike, and a shutdown in the end, so that everybody ends.

    Nothing limits overtaking where there is a GIL.
    """
    threads = {
        name: tuple(dataclasses.replace(op, locked=0 if large else MANY, room=MANY) for op in ops) * times
        for name, ops in scenario.threads.items()
        if ops[0].kind != "shutdown"
    }
    threads |= {name: ops for name, ops in scenario.threads.items() if ops[0].kind == "shutdown"}
    threads["Z"] = (operation("shutdown now"), *more)
    return dataclasses.replace(scenario, threads=threads, memory_fails=False, spins=True, overtakes=0, **settings)


def follow_runs(scenario, large=False):
    """Record run after run, for a while; each must be accepted."""
    rng, deadline, sections = seeded(), time.monotonic() + STRESS_SECONDS / 5, 0
    while sections == 0 or time.monotonic() < deadline:
        done = run(scenario, rng, large)
        accept(done)
        sections += len(done.events)
    print(f"{sections} sections")


def is_recordable(scenario):
    """A handler and children are not; of a loop one coroutine is."""
    coroutines = [name for name in scenario.threads if name[0] in scenario.loops]
    return not scenario.handler and not scenario.children and len(coroutines) == len(scenario.loops)


def coroutines(name, of, text):
    """Beside the scenarios of the models: each coroutine has a loop of its own, and some are cancelled."""
    return scenario(f"coroutines {name}", f"loops ABD; cancelled A1 B1; {text}", of)


RING_SCENARIOS = [
    *filter(is_recordable, RING.values()),
    coroutines("get", "ring", "capacity 2; P1 put, put 2; A1 get; B1 get 1-2; D1 get 2; C1 get"),
    coroutines("put", "ring", "capacity 2; A1 put; B1 put 2; D1 put 3; P1 put 2; C1 get 1-2, get; C2 get 2"),
    coroutines("pass", "ring", "capacity 1; A1 put; B1 get; D1 put, get"),
    coroutines("wait for blocks", "ring", "capacity 2; P1 reserve 2; A1 put; B1 get; D1 get; C1 peek"),
]


@pytest.mark.usefixtures("hurried")
@each_size
@pytest.mark.parametrize("scenario", RING_SCENARIOS, ids=lambda it: it.name)
def test_recorded_runs_of_a_ring_are_accepted(scenario, large):
    follow_runs(recordable(scenario, large=large), large)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("side", ["puts", "gets"])
def test_blocks_are_recorded_which_others_wait_for_or_not(side):
    """Some wait while one is out; others give up meanwhile, which leaves it out."""
    rng = seeded()
    scenario = recordable(SCENARIOS["blocks, deadlines"])
    waited = gave_up = False
    while not (waited and gave_up):
        done = run(scenario, rng)
        accept(done)
        out = [(step, left) for _, step, left in done.events if left[f"{side}_turn"] == RESERVED]
        waited |= any(left[f"{side}_waiting"] for _, left in out)
        gave_up |= any(step == "RETURN, LATE" and not left[f"{side}_waiting"] for step, left in out)


QUEUE_KINDS = {"put", "put_many", "get", "get_many", "task_done", "join", "clear", "bound", "convert", "shutdown"}
QUEUE_SCENARIOS = [
    it
    for it in QUEUE.values()
    if is_recordable(it) and {op.kind for ops in it.threads.values() for op in ops} <= QUEUE_KINDS
] + [
    coroutines("of a queue get", "queue", "capacity 2; P1 put, put_many 2; A1 get; B1 get; D1 get; C1 get_many 2"),
    coroutines("of a queue put", "queue", "capacity 1; A1 put; B1 put; D1 join; P1 put_many 2; C1 get, task_done"),
]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("scenario", QUEUE_SCENARIOS, ids=lambda it: it.name)
def test_recorded_runs_of_a_queue_are_accepted(scenario):
    tasks = sum(op.n for ops in scenario.threads.values() for op in ops if op.kind in ("put", "put_many")) * 3
    follow_runs(recordable(scenario, *[operation("task_done")] * tasks))


def main_thread_gets(large):
    """Two gets of the main thread, and the puts of another that it waits for."""
    how = " turn>0" if large else ""
    text = f"ticks C1; spins; P1 put{how}, put{how}, shutdown; C1 get{how}, get{how}"
    return scenario("the main thread gets", text, "ring")


@each_size
def test_the_main_thread_is_followed_as_it_looks_for_signals(large):
    """It waits for longer than it goes without looking."""

    def until_it_has_looked():
        wait_parked(threading.main_thread())
        wait_parked_anew(threading.main_thread())

    done = run(main_thread_gets(large), seeded(), large, first=until_it_has_looked)
    assert "RETURN, SIGNALS" in [step for _, step, _ in done.events]
    accept(done)


def runs_with_a_signal(large, pause):
    """The main thread gets, and a signal comes whose handler raises; after a pause [s] come the records."""
    main = threading.main_thread()
    rng = seeded()

    def disturb():
        wait_parked(main)
        signal.pthread_kill(main.ident, signal.SIGUSR1)
        time.sleep(pause)

    def handler(*_):
        raise StopError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        return [run(main_thread_gets(large), rng, large, first=disturb) for _ in range(5)]
    finally:
        signal.signal(signal.SIGUSR1, before)


@each_size
def test_a_get_that_a_signal_handler_ends_is_followed(large):
    """The signal comes first, then the record, which the main thread is promised, and has to give back."""
    runs = runs_with_a_signal(large, 0)
    for done in runs:
        accept(done)
    # Where the look for signals that is due every 50 ms comes in between, there is no promise yet.
    assert "UNHOLD" in [step for done in runs for _, step, _ in done.events]


@each_size
def test_a_get_that_a_signal_handler_ends_without_a_trace_is_followed(large):
    """It is promised nothing yet when it looks for signals."""
    for done in runs_with_a_signal(large, 0.1):
        accept(done)


# That a recording can be rejected. Some changes make another possible recording: a waiter that is woken in vain may as
# well be woken later, a TRY in vain may as well not have been made. So those are looked at that no other section of the
# same thread can make up for.


each_kind = pytest.mark.parametrize(
    ("name", "large"),
    [("needs that differ", False), ("needs that differ", True), ("blocks", False)],
    ids=["small copies", "copies in turns", "blocks"],
)


def busy_run(name="needs that differ", large=False):
    """A recording in which much happens."""
    rng = seeded()
    scenario = recordable(SCENARIOS[name], large=large)
    while True:
        done = run(scenario, rng, large)
        if len(changes(done.events)) > 3 and any(left["gets_waiting"] for _, _, left in done.events):
            return done


def changes(events):
    """The places of the sections that put or took records, and whose thread then did so again, or was done."""
    owned = [[left[it] for it in ("count", "puts_turn", "gets_turn")] for _, _, left in events]
    places = [i for i in range(1, len(events)) if owned[i] != owned[i - 1] and events[i][1] != "OTHER"]
    followed = [next((j for j in range(i + 1, len(events)) if events[j][0] == events[i][0]), None) for i in places]
    return [i for i, following in zip(places, followed, strict=True) if following is None or following in places]


def assert_rejected(done, events):
    with pytest.raises(Violation):
        accept(dataclasses.replace(done, events=events))


@pytest.mark.usefixtures("hurried")
@each_kind
def test_a_recording_without_one_of_its_sections_is_rejected(name, large):
    done = busy_run(name, large)
    for i in changes(done.events):
        assert_rejected(done, done.events[:i] + done.events[i + 1 :])


@pytest.mark.usefixtures("hurried")
@each_kind
def test_a_recording_with_two_sections_exchanged_is_rejected(name, large):
    done = busy_run(name, large)
    events, places = done.events, changes(done.events)
    for i in places:
        if i - 1 in places and events[i][0] != events[i - 1][0]:
            assert_rejected(done, [*events[: i - 1], events[i], events[i - 1], *events[i + 1 :]])


@pytest.mark.usefixtures("hurried")
@each_kind
def test_a_recording_with_another_number_is_rejected(name, large):
    done = busy_run(name, large)
    for i in changes(done.events)[:8]:
        index, step, left = done.events[i]
        for it, value in left.items():
            assert_rejected(done, [*done.events[:i], (index, step, left | {it: value + 1}), *done.events[i + 1 :]])


@pytest.mark.usefixtures("hurried")
@each_kind
def test_a_recording_by_another_thread_is_rejected(name, large):
    done = busy_run(name, large)
    for i in changes(done.events):
        index, step, left = done.events[i]
        other = index ^ 1  # P1 and P2, C1 and C2
        assert_rejected(done, [*done.events[:i], (other, step, left), *done.events[i + 1 :]])


@pytest.mark.usefixtures("hurried")
def test_a_recording_of_other_records_is_rejected():
    done = busy_run()
    with pytest.raises(Violation, match="not with what was got"):
        accept(dataclasses.replace(done, got=[[(0, 99)], *done.got[1:]]))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "name",
    [
        "a get does not SETTLE",
        "SETTLE looks at the first waiter only",
        "SETTLE forgets what is promised",
        "a put that drops waits for a reservation",
        "nobody waits for a reservation",
        "END of a block does not SETTLE",
    ],
)
def test_a_recording_of_the_code_is_rejected_by_a_model_of_something_else(name):
    mutation = MUTATIONS[name]
    rng = seeded()
    scenario = recordable(SCENARIOS[mutation.scenario])
    runs = (run(scenario, rng) for _ in attempts())
    with pytest.raises(Violation):
        all(accept(done, mutation) is None for done in runs)


def test_recording_more_sections_than_there_is_room_for_is_an_error():
    ring = RingBuffer(1)
    sync._record(1)
    ring.put((0, 0, 0, 0, 0))
    ring.get()
    with pytest.raises(RuntimeError, match="2 sections"):
        sync._recorded()
