"""The same random calls on the standard library's queues and on f1buf's: same results, same errors, same states.

Each sequence of calls has a seed, which a failure shows together with the last calls. There are 100,000 calls in all
with `--all`, and others as `F1BUF_STRESS` scales them. The reference is `queue` of Python
3.13; for older ones, its shutdown is written below on what they have.

What differs by intention (docs/differences-from-queue.md) does not come up here.
"""

import contextlib
import dataclasses
import functools
import gc
import math
import queue
import random
import reprlib
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import STRESS_SECONDS, WATCHDOG, Task, hangs, parked, thorough, wait_parked

import f1buf
from f1buf import Empty, Full, ShutDown

OPERATIONS = int(200_000 * STRESS_SECONDS)
SEQUENCE = 250  # operations on one pair of queues
TOLD = 20  # operations that a failure shows


# The reference --------------------------------------------------------------------------------------------------------


class WithShutdown(queue.Queue):
    """A queue of Python 3.12 or older with what `shutdown` does in Python 3.13."""

    def __init__(self, maxsize=0):
        super().__init__(maxsize)
        self.is_shutdown = False

    def put(self, item, block=True, timeout=None):
        def room():
            if self.is_shutdown:
                raise ShutDown
            return not 0 < self.maxsize <= self._qsize()

        with self.not_full:
            room()
            if self.maxsize > 0:
                self._await(self.not_full, room, Full, block, timeout)
            self._put(item)
            self.unfinished_tasks += 1
            self.not_empty.notify()

    def get(self, block=True, timeout=None):
        def something():
            there = self._qsize()
            if self.is_shutdown and not there:
                raise ShutDown
            return there

        with self.not_empty:
            something()
            self._await(self.not_empty, something, Empty, block, timeout)
            item = self._get()
            self.not_full.notify()
            return item

    @staticmethod
    def _await(condition, ready, error, block, timeout):
        deadline = None
        if not block:
            if not ready():
                raise error
            return
        if timeout is not None:
            if timeout < 0:
                raise ValueError("'timeout' must be a non-negative number")
            deadline = time.monotonic() + timeout
        while not ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise error
            condition.wait(left)

    def shutdown(self, immediate=False):
        with self.mutex:
            self.is_shutdown = True
            while immediate and self._qsize():
                self._get()
                self.unfinished_tasks -= self.unfinished_tasks > 0
            for condition in (self.all_tasks_done, self.not_empty, self.not_full):
                condition.notify_all()


class LifoWithShutdown(WithShutdown, queue.LifoQueue):
    pass


class PriorityWithShutdown(WithShutdown, queue.PriorityQueue):
    pass


class WithCleanHeap:
    """A heap that is what it was where its items cannot be compared, which that of the standard library is not."""

    def _put(self, item):
        with self._unless_it_fails():
            super()._put(item)

    def _get(self):
        with self._unless_it_fails():
            return super()._get()

    @contextlib.contextmanager
    def _unless_it_fails(self):
        before = self.queue.copy()
        try:
            yield
        except BaseException:
            self.queue[:] = before
            raise


BACKPORT = types.SimpleNamespace(
    Queue=WithShutdown,
    LifoQueue=LifoWithShutdown,
    PriorityQueue=PriorityWithShutdown,
)
STANDARD = queue if sys.version_info >= (3, 13) else BACKPORT
REFERENCE = types.SimpleNamespace(
    Queue=STANDARD.Queue,
    LifoQueue=STANDARD.LifoQueue,
    PriorityQueue=type("PriorityQueue", (WithCleanHeap, STANDARD.PriorityQueue), {}),
)


# The kinds of queue: what makes one, from a module that has the three classes -----------------------------------------


def converted(module, kind="Queue"):
    """Plain queues whose mutex somebody has taken."""

    def make(*args, **kwargs):
        made = getattr(module, kind)(*args, **kwargs)
        with made.mutex:
            pass
        return made

    return make


def without_hooks(module):
    class Named(module.Queue):
        def __init__(self, maxsize=0, name="of a subclass"):
            self.name = name
            super().__init__(maxsize)

    return Named


def of_a_set(module):
    class SetQueue(module.Queue):
        def _init(self, maxsize):
            self.queue = set()

        def _put(self, item):
            self.queue.add(item)

        def _get(self):
            return self.queue.pop()

    return SetQueue


def with_its_own_storage(module):
    """None of the standard hooks, and no `queue`."""

    class Pairs(module.Queue):
        def _init(self, maxsize):
            self.pairs = []
            self.room = maxsize

        def _qsize(self):
            return len(self.pairs)

        def _put(self, item):
            self.pairs.append((len(self.pairs), item))

        def _get(self):
            return self.pairs.pop(len(self.pairs) // 2)

    return Pairs


def that_fails(module):
    """Puts that raise for some items, before or after these are in, and gets that raise now and then."""

    class Failing(module.Queue):
        gets = 0

        def _put(self, item):
            if isinstance(item, int) and item % 7 == 3:
                raise LookupError("before", item)
            super()._put(item)
            if isinstance(item, int) and item % 7 == 5:
                raise LookupError("after", item)

        def _get(self):
            self.gets += 1
            if self.gets % 6 == 0:
                raise LookupError("get", self.gets)
            return super()._get()

    return Failing


def that_seems_shorter(module):
    class Shorter(module.Queue):
        def _qsize(self):
            return super()._qsize() // 2

    return Shorter


def that_seems_longer(module):
    class Longer(module.Queue):
        def _qsize(self):
            return super()._qsize() + (super()._qsize() > 3)

    return Longer


def with_its_own_put(module):
    """put_nowait is expected to call put."""

    class Logging(module.Queue):
        def __init__(self, maxsize=0):
            self.log = []
            super().__init__(maxsize)

        def put(self, item, block=True, timeout=None):
            self.log.append(block)
            super().put(item, block, timeout)

    return Logging


def with_its_own_get(module):
    """get_nowait is expected to call get."""

    class Logging(module.Queue):
        def __init__(self, maxsize=0):
            self.log = []
            super().__init__(maxsize)

        def get(self, block=True, timeout=None):
            self.log.append(block)
            return super().get(block=block, timeout=timeout)

    return Logging


def that_lets_some_in_first(module):
    """Works on the inside, as the standard methods do."""

    class Urgent(module.Queue):
        def put(self, item, block=True, timeout=None):
            if item is not None and not isinstance(item, str):
                return super().put(item, block, timeout)
            with self.not_full:
                if 0 < self.maxsize <= self._qsize():
                    raise Full
                self.queue.appendleft(item)
                self.unfinished_tasks += 1
                self.not_empty.notify()

    return Urgent


def with_put_and_get_set_on_it(module):
    def make(maxsize=0):
        made = module.Queue(maxsize)
        made.log = []
        put, get = made.put, made.get

        def logged_put(item, block=True, timeout=None):
            made.log.append(("put", block))
            put(item, block, timeout)

        def logged_get(block=True, timeout=None):
            made.log.append(("get", block))
            return get(block, timeout)

        made.put, made.get = logged_put, logged_get
        return made

    return make


def with_hooks_set_on_it(module):
    def make(maxsize=0):
        made = module.Queue(maxsize)
        with made.mutex:
            container = made.queue
        made._put = container.appendleft
        made._get = container.popleft
        return made

    return make


KINDS = {
    "Queue": lambda module: module.Queue,
    "LifoQueue": lambda module: module.LifoQueue,
    "PriorityQueue": lambda module: module.PriorityQueue,
    "converted": converted,
    "converted LifoQueue": lambda module: converted(module, "LifoQueue"),
    "converted PriorityQueue": lambda module: converted(module, "PriorityQueue"),
    "without hooks": without_hooks,
    "of a set": of_a_set,
    "with its own storage": with_its_own_storage,
    "that fails": that_fails,
    "that seems shorter": that_seems_shorter,
    "that seems longer": that_seems_longer,
    "with its own put": with_its_own_put,
    "with its own get": with_its_own_get,
    "that lets some in first": that_lets_some_in_first,
    "with put and get set on it": with_put_and_get_set_on_it,
    "with hooks set on it": with_hooks_set_on_it,
}
WITHOUT_CONTAINER = {"with its own storage"}  # nothing that `queue` could be
WITH_CALLS_OF_THEIR_OWN = {
    *("with its own put", "with its own get"),
    *("that lets some in first", "with put and get set on it"),
}
SHARE = {"Queue": 6, "without hooks": 2}  # of the operations; 1 for the other kinds
SHARES = sum(SHARE.get(kind, 1) for kind in KINDS)


# One operation --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Step:
    """What is done to either queue; to the reference by `model`, where it has no such method."""

    act: Callable
    args: tuple = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    model: Callable | None = None
    words: bool = True  # whether the text of an error must be the same as well

    def on(self, q, act):
        try:
            return "returned", act(q, *self.args, **self.kwargs)
        except Exception as error:
            # a timeout that is too long for the platform is refused in different words by each Python
            words = self.words and not isinstance(error, OverflowError)
            return "raised", type(error), str(error.args) if words else ""

    def __str__(self):
        short = reprlib.repr  # there are long lists, and numbers of 400 digits
        arguments = [*map(short, self.args), *(f"{key}={short(value)}" for key, value in self.kwargs.items())]
        return f"{self.act.__name__}({', '.join(arguments)})"


def method(name):
    def call(q, *args, **kwargs):
        return getattr(q, name)(*args, **kwargs)

    call.__name__ = name
    return call


PUT, GET, PUT_NOWAIT, GET_NOWAIT = map(method, ("put", "get", "put_nowait", "get_nowait"))
TASK_DONE, JOIN, SHUTDOWN, INIT = map(method, ("task_done", "join", "shutdown", "__init__"))
PUT_MANY, GET_MANY, CLEAR = map(method, ("put_many", "get_many", "clear"))


def set_attribute(q, name, value):
    setattr(q, name, value)


def items_of(q):
    return list(q.queue)


def clear_under_mutex(q):
    with q.mutex:
        q.queue.clear()


class State(NamedTuple):
    qsize: int
    empty: bool
    full: bool
    unfinished_tasks: int
    maxsize: Any
    is_shutdown: bool
    log: list | None


def state_of(q):
    return State(
        q.qsize(),
        q.empty(),
        q.full(),
        q.unfinished_tasks,
        q.maxsize,
        q.is_shutdown,
        getattr(q, "log", None),
    )


def same(one, other):
    return one is other or (
        type(one) is type(other)
        and (all(map(same, one, other)) and len(one) == len(other) if isinstance(one, tuple) else one == other)
    )


# Arguments ------------------------------------------------------------------------------------------------------------


TOKENS = weakref.WeakSet()


@functools.total_ordering
class Token:
    """An item that is in `TOKENS` as long as it is there; it compares with numbers, too."""

    def __init__(self, number):
        self.number = number
        TOKENS.add(self)

    def __repr__(self):
        return f"Token({self.number})"

    def __lt__(self, other):
        return self.number < getattr(other, "number", other)

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Undecided:
    """Has no truth value."""

    def __repr__(self):
        return "Undecided()"

    def __bool__(self):
        raise ArithmeticError("undecided")


class Seconds:
    """Just as much of a number as `queue` asks for: it can be compared with one, and be added to one."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __repr__(self):
        return f"Seconds({self.seconds})"

    def __lt__(self, other):
        return self.seconds < other

    def __radd__(self, other):
        return other + self.seconds


OMITTED = object()
TRUE = (True, 1, "no", [0], 0.5)
FALSE = (False, 0, None, [], "")
TINY = 0.0005  # [s]
ENDING = (  # a call with one of these timeouts does not wait for long, if only because it is refused
    *(0, 0.0, -0.0, False, TINY, Fraction(0), Fraction(1, 2000), 1e-12, 5e-324, Seconds(TINY)),
    *(-1, -0.5, -TINY, -math.inf, Fraction(-1, 2), Decimal(-1), Decimal("0.0005"), Decimal("NaN"), Seconds(-1)),
    *(np.float64(TINY), np.float32(-TINY), np.int64(0), np.uint8(0), np.bool_(False)),
    *("1", b"", [], object, 1j, 1e10, 10**12, 10**400, -(10**400), Fraction(10**400)),
)
LASTING = (None, True, 1, 60.0, Fraction(100, 3), math.nan, math.inf, Seconds(60), 2**31)
BAD_CALLS = (
    (PUT, (), {}),
    (PUT, (1, True, None, 4), {}),
    (PUT, (1,), {"item": 2}),
    (PUT, (1, False), {"block": False}),
    (PUT, (1,), {"blocking": False}),
    (PUT, (), {"block": False}),
    (PUT, (1,), {"timeout": 0, "Timeout": 0}),
    (GET, (True, 0.0, 3), {}),
    (GET, (False,), {"block": False}),
    (GET, (), {"timout": 1}),
    (GET, (), {"item": 1}),
    (PUT_NOWAIT, (), {}),
    (PUT_NOWAIT, (1, False), {}),
    (PUT_NOWAIT, (1,), {"block": False}),
    (GET_NOWAIT, (1,), {}),
    (GET_NOWAIT, (), {"block": False}),
    (TASK_DONE, (1,), {}),
    (TASK_DONE, (), {"count": 1}),
    (JOIN, (None, 0.5), {}),
    (JOIN, (), {"timout": 0.5}),
    (SHUTDOWN, (True, False), {}),
    (SHUTDOWN, (), {"now": True}),
    (method("qsize"), (1,), {}),
    (method("empty"), (1,), {}),
    (method("full"), (), {"x": 1}),
    (INIT, (1, 2, 3), {}),
    (INIT, (), {"size": 1}),
)
BOUNDS = (0, 1, 2, 3, 5, 40, -1, -7, 2.5, 0.5, -0.5, 3.0, math.inf, -math.inf, True, False, Fraction(7, 2), 10**30)
TASKS = (0, 1, 2, 5, 1000, -1)


def draw_item(rng, kind):
    if rng.random() < 0.8:
        return rng.choice((Token(rng.randrange(50)), rng.randrange(50), rng.randrange(10**6)))
    if kind.endswith("PriorityQueue") and rng.random() < 0.9:
        return Fraction(rng.randrange(100), 3)
    return rng.choice((None, "lap", (1, Token(2)), b"", 3.5, -1, frozenset(), [], {}))


def draw_how(rng, stuck):
    """`block` and `timeout` for a call, which must not be one that waits for ever."""
    if rng.random() < 0.5 and not stuck:
        return OMITTED, OMITTED
    block = rng.choice((OMITTED, Undecided(), *TRUE, *FALSE))
    timeout = rng.choice((OMITTED, *ENDING) if rng.random() < 0.5 else LASTING)
    does_not_block = any(block is each for each in FALSE)
    if not stuck or does_not_block or isinstance(block, Undecided):
        return block, timeout
    return block, rng.choice(ENDING)


def arguments(rng, **named):
    """The arguments, the first ones by position, the others by name."""
    given = {name: value for name, value in named.items() if value is not OMITTED}
    by_position = []
    for name, value in named.items():
        if value is OMITTED or rng.random() < 0.4:
            break
        by_position.append(value)
        del given[name]
    return tuple(by_position), given


# Drawing operations: each knows the reference's state ----------------------------------------------------------------


def draw_put(rng, kind, state):
    block, timeout = draw_how(rng, stuck=state.full and not state.is_shutdown)
    if block is OMITTED and timeout is OMITTED and rng.random() < 0.9:
        return Step(PUT, (draw_item(rng, kind),))
    return Step(PUT, *arguments(rng, item=draw_item(rng, kind), block=block, timeout=timeout))


def draw_get(rng, kind, state):
    block, timeout = draw_how(rng, stuck=state.empty and not state.is_shutdown)
    return Step(GET, *arguments(rng, block=block, timeout=timeout))


def draw_put_nowait(rng, kind, state):
    return Step(PUT_NOWAIT, *arguments(rng, item=draw_item(rng, kind)))


def draw_get_nowait(rng, kind, state):
    return Step(GET_NOWAIT)


def draw_task_done(rng, kind, state):
    return Step(TASK_DONE)


def draw_join(rng, kind, state):
    return Step(JOIN) if state.unfinished_tasks == 0 else Step(TASK_DONE)


def draw_bad_call(rng, kind, state):
    return Step(*rng.choice(BAD_CALLS), words=False)


def draw_bound(rng, kind, state):
    return Step(set_attribute, ("maxsize", rng.choice(BOUNDS)))


def draw_tasks(rng, kind, state):
    return Step(set_attribute, ("unfinished_tasks", rng.choice(TASKS)))


def draw_shutdown(rng, kind, state):
    return Step(SHUTDOWN, *arguments(rng, immediate=rng.choice((OMITTED, *TRUE, *FALSE))))


def draw_init(rng, kind, state):
    return Step(INIT, *arguments(rng, maxsize=rng.choice((OMITTED, *BOUNDS))))


def draw_look_inside(rng, kind, state):
    return Step(clear_under_mutex if rng.random() < 0.5 else items_of)


def draw_put_many(rng, kind, state):
    items = [draw_item(rng, kind) for _ in range(rng.choice((0, 1, 2, 3, 5, 30, 200)))]
    block, timeout = draw_how_for_many(rng)
    args, kwargs = arguments(rng, items=rng.choice((items, tuple(items))), block=block, timeout=timeout)
    return Step(PUT_MANY, args, kwargs, put_one_by_one)


def draw_get_many(rng, kind, state):
    how = dict(zip(("block", "timeout"), draw_how_for_many(rng), strict=True))
    how["min_count"] = rng.choice((OMITTED, 1, 1, 2, 5))
    kwargs = {name: value for name, value in how.items() if value is not OMITTED}
    most = rng.choice((OMITTED, None, 1, 2, 5, 50, 1000))
    if most is not OMITTED and rng.random() < 0.5:
        kwargs["max_count"] = most
        most = OMITTED
    return Step(GET_MANY, () if most is OMITTED else (most,), kwargs, get_one_by_one, words=False)


def draw_clear(rng, kind, state):
    return Step(CLEAR, model=get_everything)


def draw_how_for_many(rng):
    """As `draw_how`; but whether a call for many has to wait is not said by the state."""
    block = rng.choice(FALSE if rng.random() < 0.7 else (OMITTED, Undecided(), *TRUE))
    timeout = rng.choice((0, 0.0, TINY, Fraction(1, 2000), -1, -0.5, "1", Decimal(1), [], 10**400))
    return block, timeout


ALWAYS = {
    draw_put: 30,
    draw_get: 25,
    draw_put_nowait: 8,
    draw_get_nowait: 8,
    draw_task_done: 8,
    draw_join: 2,
    draw_bad_call: 4,
    draw_bound: 2,
    draw_tasks: 1,
    draw_shutdown: 0.5,
    draw_init: 0.7,
}
BATCHES = {draw_put_many: 15, draw_get_many: 25, draw_clear: 2}


# What the calls for many do, one by one -------------------------------------------------------------------------------


def put_one_by_one(q, items, block=True, timeout=None):
    done = 0
    for item in items:
        try:
            q.put(item, block, timeout)
        except Exception:
            if done == 0:
                raise
            break
        done += 1
    return done


def get_one_by_one(q, max_count=None, *, min_count=1, block=True, timeout=None):
    """Without other threads nothing can come while it waits, so that `min_count` makes no difference but this."""
    if max_count is not None and min_count > max_count:
        raise ValueError
    there = q.qsize()
    batch = [q.get(block, timeout)]
    while len(batch) < (there if max_count is None else min(there, max_count)):
        try:
            batch.append(q.get(block=False))
        except Exception:
            break
    return batch


def get_everything(q):
    while q.qsize():
        q.get(block=False)
        if q.unfinished_tasks > 0:
            q.task_done()


# Sequences ------------------------------------------------------------------------------------------------------------


class Pair:
    """Two queues, and what was done to both of them."""

    def __init__(self, kind, seed, reference, subject):
        self.rng = random.Random(seed)
        self.kind = kind
        self.seed = seed
        self.done = []
        bound = self.rng.choice((OMITTED, *BOUNDS))
        args, kwargs = arguments(self.rng, maxsize=bound)
        self.made_by = f"{kind}: made with {args} {kwargs}"
        self.reference = KINDS[kind](reference)(*args, **kwargs)
        self.subject = KINDS[kind](subject)(*args, **kwargs)
        self.compare_states()

    def run(self, weights, operations):
        draws = self.rng.choices([*weights], [*weights.values()], k=operations)
        for draw in draws:
            self.apply(draw(self.rng, self.kind, self.state))
        if self.kind not in WITHOUT_CONTAINER:
            self.apply(Step(items_of))
        if hasattr(self.subject, "_check"):
            self.subject._check()

    def apply(self, step):
        self.done.append(step)
        expected = step.on(self.reference, step.model or step.act)
        got = step.on(self.subject, step.act)
        if not same(expected, got):
            raise AssertionError(f"it {got}, the reference {expected}\n{self}")
        self.compare_states()

    def compare_states(self):
        self.state, state = state_of(self.reference), state_of(self.subject)
        if not same(self.state, state):
            raise AssertionError(f"its state is {state}, the reference's {self.state}\n{self}")

    def __str__(self):
        story = [f"seed {self.seed}, {self.made_by}"]
        if len(self.done) > TOLD:
            story.append(f"... {len(self.done) - TOLD} before that")
        return "\n    ".join([*story, *map(str, self.done[-TOLD:])])


def compare(kind, reference, subject, operations, more=()):
    """Sequence by sequence, each with a seed of its own."""
    for number in range(max(1, operations // SEQUENCE)):
        pair = Pair(kind, number, reference, subject)
        weights = ALWAYS | dict(more)
        weights[draw_put] *= pair.rng.choice((0.5, 1, 3))
        if kind not in WITHOUT_CONTAINER and pair.rng.random() < 0.5:
            weights[draw_look_inside] = 1  # which a plain queue does not survive as one
        with watchdog(pair):
            pair.run(weights, SEQUENCE)
        story = str(pair)
        del pair
        check_nothing_is_left(story)


def check_nothing_is_left(story):
    if TOKENS:
        gc.collect()
    assert not TOKENS, f"items are still there without their queues\n{story}"


@contextlib.contextmanager
def watchdog(pair):
    """A call that goes on waiting becomes a failure, too. For the main thread."""

    def give_up(*_):
        hangs(pair)

    handler = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_call_by_call_the_same_as_the_standard_queue(kind):
    compare(kind, REFERENCE, f1buf, OPERATIONS * SHARE.get(kind, 1) // SHARES)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITH_CALLS_OF_THEIR_OWN])
def test_calls_for_many_are_the_same_as_one_by_one(kind):
    compare(kind, REFERENCE, f1buf, OPERATIONS * SHARE.get(kind, 1) // SHARES // 4, BATCHES)


@pytest.mark.skipif(STANDARD is BACKPORT, reason="needs Python 3.13's queue to compare with")
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_for_older_pythons_is_true(kind):
    compare(kind, queue, BACKPORT, OPERATIONS // 10 // len(KINDS))


def test_a_difference_is_found_and_told():
    class Wrong(REFERENCE.Queue):
        def _get(self):
            return self.queue.popleft() if len(self.queue) < 4 else self.queue.pop()

    told = r"(?s)it \('returned', .*the reference \('returned'.*seed \d+, Queue: made with .*\n    get"
    with pytest.raises(AssertionError, match=told):
        compare("Queue", REFERENCE, types.SimpleNamespace(Queue=Wrong), 10 * SEQUENCE)


# One thread waits, another ends that ----------------------------------------------------------------------------------


class Scene(NamedTuple):
    """A queue, what a thread waits for on it, and what then ends that."""

    before: Callable
    wait: Callable
    end: Callable


def empty_one(q):
    pass


def full_one(q):
    q.maxsize = 2
    q.put(11)
    q.put(22)


def one_with_a_task(q):
    q.put(11)


def get(q, timeout=None):
    return q.get(timeout=timeout)


def put(q, timeout=None):
    return q.put(30, timeout=timeout)


def join(q, timeout=None):
    return q.join()


def puts(q):
    q.put(1)


def puts_nowait(q):
    q.put_nowait(1)


def gets(q):
    return q.get()


def gets_nowait(q):
    return q.get_nowait()


def finishes(q):
    q.task_done()


def shuts_down(q):
    q.shutdown()


def shuts_down_immediately(q):
    q.shutdown(immediate=True)


def notifies_of_nothing_and_puts(q):
    with q.not_empty:
        q.not_empty.notify_all()
    q.put(1)


def notifies_of_nothing_and_gets(q):
    with q.not_full:
        q.not_full.notify_all()
    return q.get()


def finishes_under_mutex(q):
    with q.all_tasks_done:
        q.unfinished_tasks = 0
        q.all_tasks_done.notify_all()


def puts_under_mutex(q):
    with q.mutex:
        q._put(1)
        q.not_empty.notify()


def clears_under_mutex(q):
    with q.mutex:
        q.queue.clear()
        q.not_full.notify_all()


SCENES = [
    *(Scene(empty_one, get, end) for end in (puts, puts_nowait, shuts_down, shuts_down_immediately)),
    *(Scene(empty_one, get, end) for end in (puts_under_mutex, notifies_of_nothing_and_puts)),
    *(Scene(full_one, put, end) for end in (gets, gets_nowait, shuts_down, shuts_down_immediately)),
    *(Scene(full_one, put, end) for end in (clears_under_mutex, notifies_of_nothing_and_gets)),
    *(Scene(one_with_a_task, join, end) for end in (finishes, finishes_under_mutex, shuts_down_immediately)),
]
LONG = 60.0  # [s]; none of these calls may take that long
WAITED_ON = [
    ("Queue", None),
    ("Queue", LONG),
    ("converted", None),
    ("without hooks", LONG),
    ("LifoQueue", LONG),
    ("PriorityQueue", None),
    ("of a set", LONG),
    ("that fails", None),
]


def named(scene):
    return f"{scene.wait.__name__}-{scene.end.__name__}" if isinstance(scene, Scene) else None


def outcome(act, q, *args):
    return Step(act, args).on(q, act)


def in_both(play, kind):
    """What happens on a queue of that kind: the same in both implementations."""
    expected, got = play(KINDS[kind](REFERENCE)()), play(KINDS[kind](f1buf)())
    assert same(expected, got)
    return got


@thorough(but=("*Queue*",))
@pytest.mark.parametrize(("kind", "timeout"), WAITED_ON)
@pytest.mark.parametrize("scene", SCENES, ids=named)
def test_a_waiting_call_ends_the_same(scene, kind, timeout):
    def play(q):
        scene.before(q)
        waiter = parked(outcome, scene.wait, q, timeout)
        end = outcome(scene.end, q)
        return waiter.result(), end, state_of(q), tuple(items_of(q))

    in_both(play, kind)


@pytest.mark.parametrize("kind", ["Queue", "converted"])
@pytest.mark.parametrize("scene", SCENES, ids=named)
def test_the_main_thread_waits_the_same(scene, kind):
    def play(q):
        scene.before(q)
        other = Task(end_once_it_waits, q)
        with watchdog(scene):
            waited = outcome(scene.wait, q, LONG)
        return waited, other.result(), state_of(q), tuple(items_of(q))

    def end_once_it_waits(q):
        wait_parked(threading.main_thread())
        return outcome(scene.end, q)

    in_both(play, kind)


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "of a set"])
@pytest.mark.parametrize(("before", "wait", "error"), [(empty_one, get, Empty), (full_one, put, Full)])
def test_a_timeout_leaves_nothing_behind(before, wait, error, kind):
    """Nobody takes what comes late, or puts it."""

    def play(q):
        before(q)
        first = outcome(wait, q, 20 * TINY)
        q.maxsize = 0
        q.put(1)
        return first, state_of(q), tuple(items_of(q))

    assert in_both(play, kind)[0] == ("raised", error, "()")


@pytest.mark.parametrize("kind", ["Queue", "converted", "of a set"])
def test_gets_are_served_in_the_order_in_which_they_wait(kind):
    def play(q):
        first = parked(outcome, get, q)
        gives_up = Task(outcome, get, q, 0.05)
        last = parked(outcome, get, q, LONG)
        results = [gives_up.result()]
        for number, waiter in enumerate((first, last)):
            q.put(number)
            results.append(waiter.result())
        return tuple(results), state_of(q)

    in_both(play, kind)


@pytest.mark.parametrize("kind", ["Queue", "converted", "LifoQueue"])
def test_puts_are_served_in_the_order_in_which_they_wait(kind):
    def play(q):
        q.maxsize = 1
        q.put(0)
        waiters = [parked(outcome, PUT, q, number) for number in (1, 2, 3)]
        results = []
        for waiter in waiters:
            results.append(q.get())
            results.append(waiter.result())
        return tuple(results), state_of(q), tuple(items_of(q))

    in_both(play, kind)


@pytest.mark.parametrize("kind", ["Queue", "converted", "PriorityQueue"])
@pytest.mark.parametrize("immediate", [False, True])
def test_a_shutdown_ends_every_wait(immediate, kind):
    def play(q):
        q.maxsize = 1
        gets = [parked(outcome, GET, q) for _ in range(2)]
        q.shutdown(immediate)
        return tuple(waiter.result() for waiter in gets), state_of(q)

    in_both(play, kind)


def test_waiters_stay_where_the_inside_is_asked_for():
    """A queue that becomes a converted one while others wait on it."""

    def play(q):
        waiters = [parked(outcome, get, q, timeout) for timeout in (None, LONG, None)]
        held = parked_join(q)
        with q.mutex:
            q.queue.extend([1, 2, 3])
            q.unfinished_tasks += 3
            q.not_empty.notify_all()
        results = sorted(str(waiter.result()) for waiter in waiters)
        for _ in range(4):
            q.task_done()
        return tuple(results), held.result(), state_of(q)

    def parked_join(q):
        q.unfinished_tasks += 1
        return parked(outcome, JOIN, q)

    in_both(play, "Queue")


def test_an_infinite_timeout_waits_for_ever():
    """The one difference: the standard library raises an OverflowError."""
    q = f1buf.Queue()
    waiter = parked(outcome, get, q, math.inf)
    q.put(1)
    assert waiter.result() == ("returned", 1)
