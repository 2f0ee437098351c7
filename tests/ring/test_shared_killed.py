"""Processes that share a ring are killed at any moment; the others go on, and no record is lost, torn or out of order.

A crowd of two producers and two consumers goes on while one after another is killed and replaced: at random moments,
and, in a debug build (``F1BUF_DEBUG=1 python setup.py -q build_ext --inplace --force``), at every step of the protocol.
There every operation by itself is killed and stopped at each of its steps, too. The everyday run kills 48 times at
random moments, `--all` 240 times, the long run 2,004 times; `-rP` prints how long it took until all others went on.
"""

import contextlib
import mmap
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import FULL, LATE, STRESS_SECONDS, WATCHDOG, attempts, hangs, parked, print_delays, seeded, wait_until
from shared_helpers import CHECKED, KILLED, Child, assert_whole, checked_records, child, shared, some_name, stay

from f1buf import Abandoned, Empty, Full, SharedRingBuffer, ShutDown
from f1buf.ring import segments
from f1buf.ring.shared import STOPS, _stop_at

POLICIES = ("block", "drop_oldest", "drop_newest")
MOST = 40  # records that one call puts or takes

debug_build = pytest.mark.skipif(not STOPS, reason="only a debug build (F1BUF_DEBUG=1) stops at steps of the protocol")


# What processes of a crowd do, and what they log of it ----------------------------------------------------------------

RUN = np.dtype([("first_seq", "<i8"), ("producer", "<i8"), ("number", "<i8"), ("count", "<i8")])
RUNS = 1 << 20  # a log's length; what is not used costs nothing

# The numbers at the head of a log.
CALLS = 0  # how many calls have returned
RECORDS = 1  # of a producer: how many records the ring has taken from it
RETURNED = 2  # of a consumer: so many runs are of calls that have returned,
SEEN = 3  # and these have been seen in a block that may not have ended


class Log:
    """What a process has done, in memory that outlives it: counted once a call has returned."""

    def __init__(self):
        memory = mmap.mmap(-1, 64 + RUNS * RUN.itemsize)
        self.counts = np.frombuffer(memory, "<i8", 8)
        self.runs = np.frombuffer(memory, RUN, RUNS, 64)

    def note(self, first_seq, records):
        """Write down whole records that have been seen, as runs of consecutive numbers of one producer."""
        assert_whole(records)
        step = np.diff(records["number"]) != 1
        starts = np.flatnonzero(np.concatenate(([True], step | (np.diff(records["producer"]) != 0))))
        seen = self.counts[SEEN]
        runs = self.runs[seen : seen + len(starts)]
        runs["first_seq"] = -1 if first_seq is None else first_seq + starts
        runs["producer"], runs["number"] = records["producer"][starts], records["number"][starts]
        runs["count"] = np.diff(starts, append=len(records))
        self.counts[SEEN] = seen + len(starts)

    def returned(self):
        self.counts[RETURNED] = self.counts[SEEN]
        self.counts[CALLS] += 1


def put_one(ring, records):
    ring.put(records[0])
    return 1


def put_batch(ring, records):
    return ring.put_many(records)


def half_of(ring):
    """How many records or slots a call may wait for: were it more, two sides could wait for each other."""
    return max(1, ring.capacity // 2)


def put_in_place(ring, records):
    with ring.reserve(min(len(records), half_of(ring))) as block:
        array = block.array
        array[:] = records[: len(array)]
        count = len(array)
        del array
    return count


def take_one(ring, log, rng):
    log.note(None, np.array([ring.get()], CHECKED))


def take_batch(ring, log, rng):
    log.note(*ring.get_many(rng.randint(1, MOST), return_seq=True))


def take_into(ring, log, rng):
    out = np.empty(MOST, CHECKED)
    first_seq, count = ring.get_into(out, min_count=min(half_of(ring), rng.randint(1, 3)), return_seq=True)
    log.note(first_seq, out[:count])


def take_in_place(ring, log, rng):
    with ring.peek(rng.randint(1, MOST)) as block:
        log.note(block.first_seq, block.array)


PUTS = {"singles": [put_one], "batches": [put_batch], "blocks": [put_in_place]}
PUTS["mixed"] = [put_one, put_batch, put_in_place]
TAKES = {"singles": [take_one], "batches": [take_batch, take_into], "blocks": [take_in_place]}
TAKES["mixed"] = [take_one, take_batch, take_into, take_in_place]


def produce(ring, log, stop, producer, how, rng):
    while not stop[0]:
        records = checked_records(producer, log.counts[RECORDS], rng.randint(1, MOST))
        with contextlib.suppress(Full, Abandoned):  # of a drop policy's block; and where both consumers were killed
            log.counts[RECORDS] += rng.choice(PUTS[how])(ring, records)
        log.counts[CALLS] += 1


def consume(ring, log, how, rng):
    while True:
        try:
            rng.choice(TAKES[how])(ring, log, rng)
        except Abandoned:  # for a moment, until another producer has put
            continue
        except ShutDown:
            return
        log.returned()


class Member:
    """A process of a crowd."""

    def __init__(self, crowd, role, step=None, nth=1):
        self.role, self.log, self.number = role, Log(), crowd.started
        crowd.started += 1
        self.child = Child(self.live, crowd, step, nth)

    def live(self, _, crowd, step, nth):
        rng = random.Random(self.number)
        ring = crowd.ring if rng.random() < 0.5 else SharedRingBuffer.attach(crowd.ring.name)
        if step is not None:
            _stop_at(step, nth, signal.SIGKILL)
        if self.role == "producer":
            produce(ring, self.log, crowd.stop, self.number, crowd.how, rng)
        else:
            consume(ring, self.log, crowd.how, rng)

    @property
    def calls(self):
        return self.log.counts[CALLS]

    def runs(self, kind=RETURNED):
        return self.log.runs[: self.log.counts[kind]]


class Crowd:
    """Two producers and two consumers of one ring, of which some are killed, and replaced."""

    def __init__(self, overflow, how, capacity):
        self.ring = SharedRingBuffer(capacity, CHECKED, name=some_name(), overflow=overflow)
        self.overflow, self.how, self.started = overflow, how, 0
        self.stop = np.frombuffer(mmap.mmap(-1, 8), "<i8")
        self.living, self.killed = [], []
        for role in ("producer", "consumer", "producer", "consumer"):
            self.living.append(Member(self, role))

    def wait_until_all_go_on(self, since):
        """Wait until each that lives has come back from one more call; how long after `since` that was [s]."""
        calls = [member.calls for member in self.living]
        waiting = set(range(len(calls)))
        while waiting:
            waiting -= {i for i in waiting if self.living[i].calls > calls[i]}
            assert not any(member.child.has_ended() for member in self.living), "one has failed, see standard error"
            if time.monotonic() - since > WATCHDOG:
                hangs(f"{[self.living[i].role for i in waiting]} to go on", WATCHDOG)
            time.sleep(1e-4)  # what is waited for gives no sign
        return time.monotonic() - since

    def kill(self, victims):
        """Kill some; returns how long it was until all others had come back from a call [s]."""
        for victim in victims:
            victim.child.signal(signal.SIGKILL)
        return self.bury(victims)

    def bury(self, victims):
        for victim in victims:
            assert victim.child.end() == KILLED
            self.living.remove(victim)
            self.killed.append(victim)
        return self.wait_until_all_go_on(time.monotonic())

    def end(self):
        """Let all come to an end, and the consumers take what is left."""
        self.stop[0] = 1
        for role in ("producer", "consumer"):
            for member in self.living:
                if member.role == role:
                    assert member.child.end() == 0
            self.ring.shutdown()
        assert self.ring.qsize() == 0
        self.ring._check()

    def clean_up(self):
        self.ring.unlink()
        for member in self.living:
            member.child.put_down()

    def members(self, role):
        return [member for member in self.living + self.killed if member.role == role]

    def check(self):
        """What holds of records and numbers once all have come to an end."""
        producers, consumers = self.members("producer"), self.members("consumer")
        killed_consumers = sum(member.role == "consumer" for member in self.killed)
        returned = np.concatenate([member.runs() for member in consumers])
        numbers = unfolded(returned)
        for member in consumers:
            assert_in_order(member.runs())
        numbered = returned[returned["first_seq"] >= 0]
        assert_in_order(numbered[np.argsort(numbered["first_seq"], kind="stable")])

        stats, put = self.ring.stats(), 0
        missing = 0  # records whose put returned, which no get has returned
        for producer in producers:
            done = producer.log.counts[RECORDS]
            taken = np.sort(numbers["number"][numbers["producer"] == producer.number])
            assert (np.diff(taken) > 0).all(), "a record was taken twice"
            # Of its last call, a producer that was killed may have put some, or all.
            assert len(taken) == 0 or taken[-1] < done + (MOST if producer in self.killed else 0)
            put += done
            missing += done - np.count_nonzero(taken < done)
        # A consumer that was killed may have taken, and not written down, what its last call took.
        lost = stats.taken - len(numbers)
        assert 0 <= lost <= MOST * killed_consumers
        assert 0 <= stats.offered - put <= MOST * (len(self.killed) - killed_consumers)
        assert stats.offered == stats.taken + stats.dropped
        assert missing <= stats.dropped + lost
        assert stats.dropped == 0 or self.overflow != "block"
        again = self.seen_again(numbers)
        print(
            f"{len(self.killed)} killed, {lost} records taken and not written down, {again} seen in a block and again"
        )

    def seen_again(self, numbers):
        """How many records that a consumer saw in a block, amid which it was killed, have been taken by another one."""
        again = 0
        for member in self.killed:
            if member.role == "consumer":
                unreturned = unfolded(member.runs(SEEN)[member.log.counts[RETURNED] :])
                again += np.isin(unreturned, numbers).sum()
        return again


def unfolded(runs):
    """The (producer, number) of each record of runs."""
    counts = runs["count"].astype(np.intp)  # on 32 bits `np.repeat` takes nothing larger
    ends = np.cumsum(counts)
    pairs = np.empty(ends[-1] if len(ends) else 0, [("producer", "<i8"), ("number", "<i8")])
    pairs["producer"] = np.repeat(runs["producer"], counts)
    pairs["number"] = np.arange(len(pairs)) + np.repeat(runs["number"] - (ends - counts), counts)
    return pairs


def assert_in_order(runs):
    """That each producer's numbers grow."""
    for producer in np.unique(runs["producer"]):
        of_one = runs[runs["producer"] == producer]
        assert (of_one["number"][1:] >= (of_one["number"] + of_one["count"])[:-1]).all(), f"{producer}'s order"


@contextlib.contextmanager
def crowd_of(overflow, how, capacity):
    crowd = Crowd(overflow, how, capacity)
    try:
        crowd.wait_until_all_go_on(time.monotonic())
        yield crowd
        crowd.end()
        crowd.check()
    finally:
        crowd.clean_up()


# At random moments ----------------------------------------------------------------------------------------------------

KILLS = 167 if FULL else 8 if STRESS_SECONDS >= 0.5 else 4  # of each combination
AT_A_TIME = 10  # of one crowd


@pytest.mark.parametrize("how", PUTS)
@pytest.mark.parametrize("overflow", POLICIES)
def test_the_others_go_on_when_one_is_killed_at_a_random_moment(overflow, how):
    rng, delays = seeded(), []
    while len(delays) < KILLS:
        with crowd_of(overflow, how, rng.choice((1, 7, 64, 1000))) as crowd:
            for _ in range(min(AT_A_TIME, KILLS - len(delays))):
                time.sleep(rng.random() * 0.01)  # the moment
                victims = [rng.choice(crowd.living)]
                if rng.random() < 0.25:  # one of the other side, too
                    victims.append(next(one for one in crowd.living if one.role != victims[0].role))
                delays.append(crowd.kill(victims))
                crowd.living += [Member(crowd, victim.role) for victim in victims]
                crowd.wait_until_all_go_on(time.monotonic())
    print_delays("until all others went on", delays)
    assert max(delays) < LATE


# What those leave that were killed ------------------------------------------------------------------------------------
#
# In any build: the state that a process leaves which is killed at a step is written into the segment in its name.

SIDES = 256  # [bytes] where the two sides begin
SIDE = np.dtype(  # as `SharedSide` in segment.hpp
    {
        "names": ["lock", "turn", "intent", "intends", "seq"],
        "formats": ["u4", "u4", ("u8", 3), "u8", "u8"],
        "offsets": [0, 8, 48, 72, 128],
        "itemsize": 384,
    }
)
BLOCK_OF = {"puts": lambda ring: ring.reserve(1), "gets": lambda ring: ring.peek(1)}
CALL_OF = {"puts": lambda ring: ring.put(7), "gets": lambda ring: ring.get()}
each_side = pytest.mark.parametrize("side", BLOCK_OF)


def side_of(ring, side):
    """A side in the segment itself."""
    return np.memmap(segments.path_of(ring.name), SIDE, "r+", SIDES, 2)[list(BLOCK_OF).index(side)]


def enter_and_stay(pipe, ring, side):
    with BLOCK_OF[side](ring):
        stay(pipe)


@contextlib.contextmanager
def a_block_is_out(ring, side):
    with child(enter_and_stay, ring, side) as other:
        other.hear()
        yield other


@contextlib.contextmanager
def a_lock_is_taken(ring, side):
    """By a process that may be killed; and the segment's side."""
    with a_block_is_out(ring, side) as other:
        its = side_of(ring, side)
        its["lock"], its["turn"] = its["turn"], 0
        yield other, its


@each_side
def test_the_block_of_a_process_that_is_killed_ends(side):
    with shared(2, "i8") as ring:
        ring.put(0)
        with a_block_is_out(ring, side) as other:
            waiter = parked(CALL_OF[side], ring)
            other.kill()
            waiter.result()
        check_end(ring)


@each_side
def test_the_lock_of_a_process_that_is_killed_is_taken(side):
    with shared(2, "i8") as ring:
        ring.put(0)
        with a_lock_is_taken(ring, side) as (other, _):
            waiter = parked(CALL_OF[side], ring)
            other.kill()
            waiter.result()
        check_end(ring)


@each_side
def test_who_has_the_place_of_one_that_was_killed_does_not_keep_its_lock(side):
    with shared(4, "i8") as ring:
        ring.put(0)
        with a_lock_is_taken(ring, side) as (other, its):
            other.kill()
            killed, another = its["lock"], SharedRingBuffer.attach(ring.name)
        ring.get(timeout=LATE) if side == "gets" else ring.put(1, timeout=LATE)
        ring.put(2, timeout=LATE)
        with BLOCK_OF[side](another):
            assert its["turn"] & 0x1FE == killed & 0x1FE, "another place"
        check_end(ring)


@pytest.mark.parametrize("is_done", [False, True], ids=["not done", "done"])
def test_an_eviction_amid_which_a_process_is_killed_is_counted_if_it_was_done(is_done):
    with shared(4, "i8", overflow="drop_oldest") as ring:
        ring.put_many([1, 2, 3, 4])
        with a_lock_is_taken(ring, "gets") as (other, its):
            its["intent"][:] = 1, 1, 0
            its["intends"] = 1
            its["seq"] = is_done
            other.kill()
        dropped = ring.stats().dropped
        assert (dropped, ring.snapshot().tolist()) == ((1, [2, 3, 4]) if is_done else (0, [1, 2, 3, 4]))
        check_end(ring)


# At every step of the protocol ----------------------------------------------------------------------------------------

# By whom, and how, a crowd gets to a step; of both sides where it is not said.
REACHED = {
    "INTENDED": ("producer", "drop_oldest", "mixed"),
    "GIVEN_UP": ("producer", "drop_oldest", "mixed"),
    "COUNTED": ("producer", "drop_oldest", "mixed"),
    "TURN_TAKEN": (None, "block", "blocks"),
    "TURN_ENDING": (None, "block", "blocks"),
}


def crowd_steps():
    for step in STOPS or ["LOCKED"]:
        if step != "SEALING":  # a crowd has one shutdown; see below
            role, overflow, how = REACHED.get(step, (None, "block", "mixed"))
            for one in [role] if role else ["producer", "consumer"]:
                yield pytest.param(step, one, overflow, how, id=f"{step}-{one}")


@debug_build
@pytest.mark.parametrize(("step", "role", "overflow", "how"), list(crowd_steps()))
def test_the_others_go_on_when_one_is_killed_at_a_step(step, role, overflow, how):
    rng, delays = seeded(), []
    while len(delays) < KILLS:
        with crowd_of(overflow, how, rng.choice((1, 7, 64))) as crowd:
            for _ in range(min(AT_A_TIME, KILLS - len(delays))):
                victim = next(member for member in crowd.living if member.role == role)
                crowd.kill([victim])
                condemned = Member(crowd, role, step, rng.randint(1, 20))
                crowd.living.append(condemned)
                delays.append(crowd.bury([condemned]))
                crowd.living.append(Member(crowd, role))
                crowd.wait_until_all_go_on(time.monotonic())
    print_delays("until all others went on", delays)
    assert max(delays) < LATE


class Operation(NamedTuple):
    """What a child does, alone, with a ring of 8 that holds the numbers 0, 1, ...; the call gives what it has taken."""

    call: object
    before: int  # how many records the ring holds
    steps: str  # at which it can be met
    enters: int = 0  # how many records, 100, 101, ..., it puts
    leaves: int = 0  # how many it takes
    drops: int = 0  # how many of those before go to make room
    overflow: str = "block"

    def outcomes(self):
        """What the ring may hold after a part of it."""
        before = list(range(self.before))
        rest = before[self.leaves + self.drops :]
        return before, rest, rest + list(NEW[: self.enters])


CAPACITY = 8
PUT = "LOCKED COPIED PUBLISHED UNLOCKED"
BLOCK = "LOCKED TURN_TAKEN UNLOCKED TURN_ENDING"
DROP = "INTENDED GIVEN_UP COUNTED"
WAIT = "LOCKED UNLOCKED ASLEEP WOKEN"
NEW = np.arange(100, 100 + CAPACITY)
SOON = 0.03  # [s] timeouts that are to be over


def fill_block(ring, count, timeout=None):
    with ring.reserve(count, timeout=timeout) as block:
        block.array[:] = NEW[: len(block)]


def read_block(ring, timeout=None):
    with ring.peek(2, timeout=timeout) as block:
        return block.array.tolist()


def read_into(ring):
    out = np.zeros(2, "i8")
    return out[: ring.get_into(out)].tolist()


def or_nothing(call, *args, **how):
    """What the call gives, as a list."""
    with contextlib.suppress(Empty, Full):
        return np.atleast_1d(call(*args, timeout=SOON, **how)).tolist()
    return []


def oldest(call, before, steps, **what):
    """An operation that finds too little room under "drop_oldest"."""
    return Operation(call, before, f"{steps} {DROP}", overflow="drop_oldest", **what)


OPERATIONS = {
    "put": Operation(lambda ring: ring.put(100), 2, PUT, enters=1),
    "put_many": Operation(lambda ring: ring.put_many(NEW[:3]), 2, PUT, enters=3),
    "put_many around the end": Operation(lambda ring: ring.put_many(NEW), 0, PUT, enters=8),
    "reserve": Operation(lambda ring: fill_block(ring, 2), 0, BLOCK, enters=2),
    "get": Operation(lambda ring: [ring.get()], 3, PUT, leaves=1),
    "get_many": Operation(lambda ring: ring.get_many(2).tolist(), 3, PUT, leaves=2),
    "get_into": Operation(read_into, 3, PUT, leaves=2),
    "batches": Operation(lambda ring: next(ring.batches(2)).tolist(), 3, PUT, leaves=2),
    "peek": Operation(read_block, 3, BLOCK, leaves=2),
    "snapshot": Operation(lambda ring: len(ring.snapshot()), 3, "LOCKED UNLOCKED"),
    "stats": Operation(lambda ring: ring.stats(), 3, "LOCKED UNLOCKED"),
    "put that drops the oldest": oldest(lambda ring: ring.put(100), 8, PUT, enters=1, drops=1),
    "put_many that drops the oldest": oldest(lambda ring: ring.put_many(NEW[:5]), 6, PUT, enters=5, drops=3),
    "reserve that drops the oldest": oldest(lambda ring: fill_block(ring, 2), 8, BLOCK, enters=2, drops=2),
    "put that is dropped": Operation(lambda ring: ring.put(100), 8, "LOCKED COPIED UNLOCKED", overflow="drop_newest"),
    "put that waits": Operation(lambda ring: or_nothing(ring.put, 100) and None, 8, WAIT),
    "reserve that waits": Operation(lambda ring: or_nothing(fill_block, ring, 2) and None, 8, WAIT),
    "get that waits": Operation(lambda ring: or_nothing(ring.get), 0, WAIT),
    "get_many that waits": Operation(lambda ring: or_nothing(ring.get_many, 5, min_count=5), 0, WAIT),
    "peek that waits": Operation(lambda ring: or_nothing(read_block, ring), 0, WAIT),
}

each_operation_and_step = pytest.mark.parametrize(
    ("operation", "step"),
    [
        pytest.param(operation, step, id=f"{name}-{step}")
        for name, operation in OPERATIONS.items()
        for step in operation.steps.split()
    ],
)


@contextlib.contextmanager
def ring_before(operation):
    """Whose slots end amid those that are free."""
    with shared(CAPACITY, "i8", overflow=operation.overflow) as ring:
        start = np.zeros((6 - operation.before) % CAPACITY, "i8")
        ring.put_many(start)
        ring.get_many(timeout=0) if len(start) else None
        ring.put_many(np.arange(operation.before))
        yield ring, len(start)


def operate(pipe, ring, call, step, number):
    _stop_at(step, 1, number)
    taken = call(ring)
    pipe.send(list(map(int, taken)) if isinstance(taken, list) else [])


def go_on(ring):
    """Put and get in this process; how long that took in all [s]."""
    since = time.monotonic()
    if not ring.full():
        ring.put(7, timeout=LATE)
        ring.get(timeout=LATE)
    else:
        ring.get(timeout=LATE)
        ring.put(7, timeout=LATE)
    return time.monotonic() - since


def check_end(ring):
    """At rest: the counts are right, and the ring can come to an end."""
    ring._check()
    stats, rest = ring.stats(), ring.qsize()
    assert stats.offered == stats.taken + stats.dropped + stats.discarded + rest
    ring.shutdown()
    assert sum(map(len, ring.batches())) == rest
    with pytest.raises(ShutDown):
        ring.put(1)


@debug_build
@each_operation_and_step
def test_an_operation_that_is_killed_at_a_step_has_happened_or_has_not(operation, step):
    with ring_before(operation) as (ring, _):
        with child(operate, ring, operation.call, step, signal.SIGKILL) as victim:
            assert victim.end() == KILLED, "the child did not come to that step"
        since = time.monotonic()
        assert ring.snapshot().tolist() in operation.outcomes()
        go_on(ring)
        print_delays("until a put and a get were over", [time.monotonic() - since])
        assert time.monotonic() - since < LATE
        check_end(ring)


def calls_in_time(ring):
    """Make every call that must not wait for long; what was put and taken, and the longest that one took [s]."""
    put, taken, longest = [], [], 0.0

    def put_each(*numbers, call):
        accepted = call(numbers)
        put.extend(numbers[: len(numbers) if accepted is None else accepted])

    for call in (
        lambda: put_each(200, call=lambda numbers: ring.put_nowait(numbers[0])),
        lambda: taken.append(ring.get_nowait()),
        lambda: put_each(201, call=lambda numbers: ring.put(numbers[0], timeout=SOON)),
        lambda: taken.append(ring.get(timeout=SOON)),
        lambda: put_each(202, 203, call=lambda numbers: ring.put_many(list(numbers), timeout=SOON)),
        lambda: taken.extend(ring.get_many(2, timeout=SOON).tolist()),
        lambda: taken.extend(read_block(ring, SOON)),
        lambda: ring.reserve(1, timeout=SOON).__enter__().commit(0),
        ring.stats,
        lambda: (ring.qsize(), ring.full(), repr(ring), ring.attached),
    ):
        since = time.monotonic()
        with contextlib.suppress(Empty, Full):
            call()
        longest = max(longest, time.monotonic() - since)
    return put, taken, longest


@debug_build
@each_operation_and_step
def test_timeouts_hold_while_a_process_is_stopped_at_a_step(operation, step):
    with ring_before(operation) as (ring, start), child(operate, ring, operation.call, step, signal.SIGSTOP) as other:
        other.wait_stopped()
        put, taken, longest = calls_in_time(ring)
        print_delays("the longest call", [longest])
        assert longest < LATE
        other.signal(signal.SIGCONT)
        taken += other.hear()
        assert other.end() == 0
        there = taken + ring.snapshot().tolist()
        assert len(set(there)) == len(there), "a record came twice"
        assert set(there) <= {*range(operation.before), *NEW[: max(operation.enters, 2)].tolist(), *put}
        stats = ring.stats()
        assert len(there) == stats.offered - start - stats.dropped
        go_on(ring)
        check_end(ring)


# Killed amid waking others --------------------------------------------------------------------------------------------

# How a ring of 1 is on which a call waits, and what ends that.
WAITS = {
    "get": (lambda ring: None, lambda ring: ring.get(), lambda ring: ring.put(0)),
    "put": (lambda ring: ring.put(0), lambda ring: ring.put(0), lambda ring: ring.get()),
}
each_wait = pytest.mark.parametrize(("prepare", "wait", "serve"), WAITS.values(), ids=WAITS)


def until_asleep(pid):
    """Wait until a process has been seen to sleep; the next moment it may be awake."""
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SZ", f"{pid} to sleep")


@debug_build
@each_wait
@pytest.mark.parametrize("step", ["ASLEEP", "WOKEN"])
def test_what_a_waiter_that_is_killed_was_woken_for_is_anothers(prepare, wait, serve, step):
    with shared(1, "i8") as ring:
        prepare(ring)
        with child(operate, ring, wait, step, signal.SIGKILL) as victim:
            until_asleep(victim.pid)
            other = parked(wait, ring)
            serve(ring)
            assert victim.end() == KILLED
            other.result()
        check_end(ring)


@debug_build
@each_wait
def test_a_waiter_whose_waker_is_killed_goes_on(prepare, wait, serve):
    for _ in attempts():  # a waiter that looks just then needs no waking
        with shared(1, "i8") as ring:
            prepare(ring)
            other = parked(wait, ring)
            with child(operate, ring, serve, "WAKING", signal.SIGKILL) as victim:
                status = victim.end()
            assert status in (0, KILLED)
            since = time.monotonic()
            other.result()
            print_delays("until the waiter went on", [time.monotonic() - since])
            check_end(ring)
        if status == KILLED:
            return


@debug_build
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("rest", [[], [1, 2, 3]], ids=["empty", "not empty"])
@pytest.mark.parametrize(
    ("immediate", "step"),
    [(immediate, step) for immediate in (False, True) for step in ("SEALING", "LOCKED", "UNLOCKED")],
)
def test_a_shutdown_amid_which_a_process_is_killed_or_stopped_ends_everything(immediate, step, rest, number):
    with shared(4, "i8") as ring:
        ring.put_many(rest) if rest else None
        end_amid(ring, lambda it: it.shutdown(immediate), step, number)
        assert [number for batch in ring.batches() for number in batch.tolist()] == ([] if immediate else rest)
        check_end(ring)


@debug_build
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("step", DROP.split())
def test_a_process_that_is_killed_or_stopped_amid_discarding_discards_once(step, number):
    with shared(4, "i8") as ring:
        ring.put_many([1, 2, 3])
        end_amid(ring, lambda it: it.shutdown(immediate=True), step, number)
        with pytest.raises(ShutDown):
            ring.get()
        assert (ring.stats().discarded, ring.qsize()) == (3, 0)
        check_end(ring)


def end_amid(ring, shut_down, step, number):
    """A child shuts the ring down, and is killed, or stopped for a while, at a step."""
    getter = None if ring.qsize() else parked(ring.get)
    with child(operate, ring, shut_down, step, number) as victim:
        if number == signal.SIGSTOP:
            victim.wait_stopped()
            with pytest.raises(ShutDown):
                ring.put_nowait(4)
            with pytest.raises(ShutDown):
                ring.put(4)
            ring.stats()
            victim.signal(signal.SIGCONT)
        assert victim.end() == (KILLED if number == signal.SIGKILL else 0)
    with pytest.raises(ShutDown):
        ring.put_nowait(4)
    if getter is not None:
        with pytest.raises(ShutDown):
            getter.result()
