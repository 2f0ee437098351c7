"""Shared rings and the processes that have them: names, who is there, forks, failures, multiprocessing.

That processes may be killed at any moment is in test_shared_killed.py, the ring's contract in test_ring*.py.
"""

import contextlib
import gc
import json
import mmap
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    FULL,
    LATE,
    STRESS_SECONDS,
    WATCHDOG,
    Task,
    check_balance,
    in_fork,
    parked,
    print_delays,
    seeded,
    sleeps,
    wait_until,
)
from shared_helpers import (
    CHECKED,
    Child,
    assert_gone,
    child,
    run_silent,
    shared,
    some_name,
    stay,
)

from f1buf import Abandoned, Empty, Full, RingBuffer, SharedRingBuffer, ShutDown, Tee
from f1buf.ring import segments

SOON = 0.03  # [s] timeouts that are to be over
ROUNDS = 200 if FULL else 10 if STRESS_SECONDS >= 0.5 else 5  # of what takes its chances with the moment


@pytest.fixture(name="name")
def free_name():
    """A name; whatever has it at the test's end, or begins with it, should not be there."""
    name = some_name()
    yield name
    assert_gone(name)


def create_and_stay(pipe, name, *records):
    """A child that creates a ring, perhaps puts something, and waits to be told or killed."""
    ring = SharedRingBuffer(8, "i8", name=name)
    for record in records:
        ring.put(record)
    stay(pipe, os.getpid())


def attach_and_stay(pipe, name, call=lambda ring: None):
    ring = SharedRingBuffer.attach(name)
    stay(pipe, call(ring))


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a/b", "/", "a\0b", "x" * 201, "\N{GRINNING FACE}" * 51], ids=ascii)
def test_a_name_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected 1 to 200"):
        SharedRingBuffer(1, "i8", name=text)
    with pytest.raises(ValueError, match="expected 1 to 200"):
        SharedRingBuffer.attach(text)


@pytest.mark.parametrize("value", [7, b"name", ["name"]])
def test_a_name_is_a_string(value):
    with pytest.raises(TypeError, match="expected a string"):
        SharedRingBuffer(1, "i8", name=value)
    with pytest.raises(TypeError, match="name"):
        SharedRingBuffer.attach(value)


@pytest.mark.parametrize("text", ["rennwagen-\N{LATIN SMALL LETTER U WITH DIAERESIS}", " ", "..", "a b\n", "x" * 150])
def test_any_other_string_is_a_name(name, text):
    with shared(1, "i8", name=name + text) as ring:
        ring.put(7)
        assert SharedRingBuffer.attach(name + text).get() == 7
        assert ring.name == name + text


def test_rings_without_a_name_get_different_ones():
    with shared(1, "i8", name=None) as one, shared(1, "i8", name=None) as other:
        assert one.name != other.name
        other.put(7)
        assert SharedRingBuffer.attach(other.name).get() == 7


def test_a_name_in_use_is_refused_with_the_processes_that_use_it(name):
    with child(create_and_stay, name) as creator:
        pid = creator.hear()
        with pytest.raises(FileExistsError, match=rf"{pid}.*SharedRingBuffer\.attach.*or choose another name"):
            SharedRingBuffer(1, "i8", name=name)
        creator.kill()
        SharedRingBuffer(1, "i8", name=name).unlink()


def test_nobody_is_found_under_no_name(name):
    with pytest.raises(FileNotFoundError, match="create it first"):
        SharedRingBuffer.attach(name)
    with pytest.raises(FileNotFoundError, match=r"waited 0\.03 s"):
        SharedRingBuffer.attach(name, timeout=SOON)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_a_timeout_that_is_none_is_refused(name, timeout):
    with pytest.raises((ValueError, TypeError)):
        SharedRingBuffer.attach(name, timeout=timeout)


def test_attach_waits_for_the_name(name):
    attacher = Task(SharedRingBuffer.attach, name, timeout=WATCHDOG)
    wait_until(lambda: sleeps(attacher))
    with child(create_and_stay, name, 7) as creator:
        creator.hear()
        ring = attacher.result()
        assert ring.get(timeout=LATE) == 7
        assert ring.attached == [creator.pid, os.getpid()]
        ring.unlink()


# Files that are no ring -----------------------------------------------------------------------------------------------


def make_link(path):
    path.symlink_to("/etc/passwd")


FOREIGN = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("what is mine\n" * 1000),
    "folder": lambda path: path.mkdir(),
    "link": make_link,
    "link to nothing": lambda path: path.symlink_to("/nowhere"),
    "pipe": lambda path: os.mkfifo(path),
}


def state_of(path):
    """What a look at a file does not change: a look is an access."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_size, found.st_mtime_ns


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_ring_is_left_alone(name, make):
    path = Path(segments.path_of(name))
    make(path)
    before = state_of(path)
    try:
        with pytest.raises(ValueError, match="no shared ring of f1buf"):
            SharedRingBuffer.attach(name)
        with pytest.raises(FileExistsError, match="choose another name"):
            SharedRingBuffer(1, "i8", name=name)
        assert state_of(path) == before
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


def left_behind(name, dtype="i8", capacity=8):
    """A ring whose creator was killed; its file."""
    with child(lambda pipe: (SharedRingBuffer(capacity, dtype, name=name), stay(pipe))) as creator:
        creator.hear()
        creator.kill()
    return Path(segments.path_of(name))


def write_over(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize(("offset", "content"), [(8, b"\2\0\0\0"), (8, b"\0\0\0\0"), (12, b"\1\2\3\4")], ids=str)
def test_another_layout_is_neither_read_nor_replaced(name, offset, content):
    path = left_behind(name)
    write_over(path, offset, content)
    with pytest.raises(ValueError, match=r"layout.*use the same release"):
        SharedRingBuffer.attach(name)
    with pytest.raises(FileExistsError, match="choose another name"):
        SharedRingBuffer(1, "i8", name=name)
    path.unlink()


@pytest.mark.parametrize("size", [0, 4, 8191, 8192, 8192 + 63, 8192 + 65])
def test_a_file_of_another_size_is_refused(name, size):
    path = left_behind(name)
    os.truncate(path, size)
    with pytest.raises(ValueError, match=r"no shared ring|expected 8256"):
        SharedRingBuffer.attach(name)
    path.unlink()


SIZELESS = {"names": [], "formats": [], "offsets": [], "itemsize": 0, "aligned": False}
ONE_FIELD = {"names": ["a"], "formats": ["<i8"], "offsets": [0], "itemsize": 8, "aligned": False}


@pytest.mark.parametrize(
    ("text", "itemsize"),
    [
        *[(text, 0) for text in ("|V0", "|S0", "<U0", ["<i8", [0]], SIZELESS)],
        *[
            (text, 8)
            for text in ("|O", "", "no dtype", 5, None, [], {}, ["<i8"], ["<i8", -1], ONE_FIELD | {"names": 1})
        ],
        *[(ONE_FIELD | change, 8) for change in ({"offsets": [4]}, {"formats": None}, {"itemsize": -8}, {"titles": 3})],
        ("<i4", 8),
        (["<i8", [2]], 16),
    ],
    ids=str,
)
def test_a_dtype_that_makes_no_sense_is_refused(name, text, itemsize):
    path = left_behind(name)
    described = json.dumps(text).encode()
    size = segments.HEADER + 8 * itemsize
    start = segments._FIELDS.pack(
        segments.MAGIC, segments.LAYOUT, segments.BYTE_ORDER_MARK, size, 8, itemsize, 0, len(described), bytes(16), 0
    )
    write_over(path, 0, start.ljust(segments.TEXT, b"\0") + described.ljust(segments.HEADER - segments.TEXT, b"\0"))
    os.truncate(path, size)
    with pytest.raises(ValueError, match="makes no sense"):
        SharedRingBuffer.attach(name)
    path.unlink()


def test_fields_that_are_aligned_as_on_32_bits_are_those_of_any_process(name):
    """There 8 bytes are aligned at 4, as on 64 bits they are not."""
    path = left_behind(name, [("a", "<i4"), ("b", "<f8")])
    text = {"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [0, 4], "itemsize": 12, "aligned": True}
    described = json.dumps(text).encode()
    write_over(path, 44, len(described).to_bytes(4, sys.byteorder))
    write_over(path, segments.TEXT, described)
    ring = SharedRingBuffer.attach(name)
    assert ring.dtype == [("a", "<i4"), ("b", "<f8")]
    ring.put((1, 2.5))
    assert ring.get().tolist() == (1, 2.5)
    path.unlink()


def test_a_header_that_was_scribbled_over_is_refused_or_does_no_harm(name):
    rng, whole = seeded(), left_behind(name, CHECKED).read_bytes()
    path = Path(segments.path_of(name))

    def attach_and_use():
        try:
            ring = SharedRingBuffer.attach(name)
        except (ValueError, FileNotFoundError):  # the latter where it says that its name has been taken over
            return
        with contextlib.suppress(ValueError, TypeError, RuntimeError, Empty, Full, ShutDown):
            ring.put_many(np.zeros(3, ring.dtype), timeout=SOON)
            ring.get_many(timeout=SOON)
        with contextlib.suppress(ValueError, RuntimeError, Empty, ShutDown):
            ring.get_many(block=False)

    for _ in range(10 * ROUNDS):
        start = rng.choice((rng.randrange(72), rng.randrange(segments.TEXT, segments.TEXT + 200)))
        write_over(path, start, rng.randbytes(rng.choice((1, 1, 2, 8))))
        in_fork(attach_and_use)
        write_over(path, 0, whole)
    path.unlink()


# A name whose ring is dead --------------------------------------------------------------------------------------------


def test_the_name_of_a_ring_whose_creator_was_killed_is_taken_over_and_its_memory_freed(name):
    path = left_behind(name)
    with open(path, "rb") as old, shared(4, "i4", name=name) as ring:
        assert os.fstat(old.fileno()).st_nlink == 0, "its memory is freed with the last that has it open"
        assert SharedRingBuffer.attach(name).dtype == "i4"
        assert ring.attached == [os.getpid()]


def test_a_ring_whose_creator_was_killed_goes_on_while_others_have_it(name):
    with child(create_and_stay, name, 7) as creator:
        creator.hear()
        ring = SharedRingBuffer.attach(name)
        creator.kill()
        with pytest.raises(FileExistsError, match=str(os.getpid())):
            SharedRingBuffer(1, "i8", name=name)
        assert SharedRingBuffer.attach(name).get() == 7
        ring.put(8)
        assert SharedRingBuffer.attach(name).get() == 8
        ring.unlink()


def wait_for(flag):
    while not flag[0]:
        pass


@pytest.mark.parametrize("is_left", [False, True], ids=["free name", "name of a dead one"])
def test_of_those_that_create_a_name_at_the_same_time_one_wins(name, is_left):
    def create(pipe, go):
        pipe.send("ready")
        wait_for(go)
        try:
            ring = SharedRingBuffer(1, "i8", name=name)
            ring.put(os.getpid())
            stay(pipe, "made")
        except FileExistsError:
            stay(pipe, "taken")

    for _ in range(ROUNDS):
        path = left_behind(name)
        if not is_left:
            path.unlink()
        go = np.frombuffer(mmap.mmap(-1, 8), "i8")
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(child(create, go)) for _ in range(3)]
            for one in children:
                one.hear()
            go[0] = 1
            heard = [one.hear() for one in children]
            assert sorted(heard) == ["made", "taken", "taken"]
            winner = children[heard.index("made")]
            assert SharedRingBuffer.attach(name).get(timeout=LATE) == winner.pid
            for one in children:
                one.kill()
        path.unlink()


def test_nobody_is_attached_to_a_ring_whose_name_is_taken_over(name):
    """Several attach all the time, while creators are killed and followed by others."""

    def attach_again_and_again(pipe, stop, found):
        while not stop[0]:
            with contextlib.suppress(FileNotFoundError):
                ring = SharedRingBuffer.attach(name, timeout=SOON)
                # It is open here: so the name stays its own.
                assert SharedRingBuffer.attach(name).attached.count(os.getpid()) == 2
                ring.close()
                found[0] += 1

    def create_at_last(pipe):
        while True:
            try:
                ring = SharedRingBuffer(1, "i8", name=name)
            except FileExistsError:
                continue
            stay(pipe, len(ring.attached))

    stop, *found = np.frombuffer(mmap.mmap(-1, 3 * 8), "i8").reshape(3, 1)
    with contextlib.ExitStack() as stack:
        attachers = [stack.enter_context(child(attach_again_and_again, stop, each)) for each in found]
        rounds = 0
        while rounds < 2 * ROUNDS or not all(found):  # an attacher may come late
            with child(create_at_last) as creator:
                creator.hear()
                creator.kill()
            assert not any(one.has_ended() for one in attachers), "one has failed, see standard error"
            rounds += 1
        stop[0] = 1
        for one in attachers:
            assert one.end() == 0
    os.unlink(segments.path_of(name))


def test_a_name_is_free_where_a_process_was_killed_that_was_about_to_take_it_over(name):
    path = left_behind(name)
    write_over(path, segments._FIELDS.size - 4, b"\1")  # what it writes before it takes the name away
    with pytest.raises(FileNotFoundError):
        SharedRingBuffer.attach(name)
    with pytest.raises(FileNotFoundError):
        SharedRingBuffer.attach(name, timeout=SOON)
    with shared(1, "i8", name=name):
        SharedRingBuffer.attach(name)


# How much, and by whom ------------------------------------------------------------------------------------------------


def test_so_many_processes_can_be_attached(name):
    with shared(1, "i8", name=name) as ring:
        others = [SharedRingBuffer.attach(name) for _ in range(191)]
        with pytest.raises(OSError, match="192"):
            SharedRingBuffer.attach(name)
        assert len(ring.attached) == 192
        others.pop()
        SharedRingBuffer.attach(name).put(7)
        assert ring.get() == 7


def test_another_users_ring_cannot_be_had(name):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with shared(1, "i8", name=name):
        assert os.stat(segments.path_of(name)).st_mode & 0o777 == 0o600

        def as_another_user():
            os.setuid(65534)
            with pytest.raises(PermissionError, match="another user's"):
                SharedRingBuffer.attach(name)
            with pytest.raises(FileExistsError, match="choose another name"):
                SharedRingBuffer(1, "i8", name=name)

        in_fork(as_another_user)


def in_64_mb():
    """Run in a /dev/shm of that size: what it has no room for is an error, and takes nothing."""

    def free():
        figures = os.statvfs(segments.FOLDER)
        return figures.f_bavail * figures.f_frsize

    before = free()
    assert before <= 64 << 20
    for size in (65 << 20, 1 << 40):
        with pytest.raises(MemoryError, match=r"/dev/shm.*Docker: --shm-size"):
            SharedRingBuffer(size, "u1")
    assert free() == before
    first = SharedRingBuffer(40 << 20, "u1")
    with pytest.raises(MemoryError, match="free; choose a smaller capacity"):
        SharedRingBuffer(40 << 20, "u1")
    batch = np.ones(1 << 20, "u1")
    for _ in range(60):  # every page of it is there
        first.put_many(batch)
        first.get_many(1 << 20)
    del first
    assert free() == before


def test_a_full_dev_shm_is_a_memory_error():
    mounted = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    own = [shutil.which("unshare") or "unshare", "-Urm", "sh", "-c"]
    try:
        can = subprocess.run([*own, mounted], capture_output=True, timeout=LATE).returncode == 0
    except OSError:
        can = False
    if not can:
        pytest.skip("this user cannot mount a /dev/shm of its own (unshare -Urm)")
    before = [*own, f'{mounted} && exec "$0" "$@"']
    run_silent("from test_shared_processes import in_64_mb; in_64_mb()", before=before)


def test_more_than_any_machine_has_is_a_memory_error():
    with pytest.raises(MemoryError, match="choose a smaller capacity"):
        SharedRingBuffer(1 << 55, "i8")


# Who is there ---------------------------------------------------------------------------------------------------------


def test_attached_are_the_processes_that_have_it_open(name):
    with shared(1, "i8", name=name) as ring, child(attach_and_stay, name) as one, child(attach_and_stay, name) as other:
        one.hear(), other.hear()
        # A child has the one that its parent had open, and attaches, too.
        assert sorted(ring.attached) == sorted([os.getpid(), *[one.pid] * 2, *[other.pid] * 2])
        one.kill()
        assert sorted(ring.attached) == sorted([os.getpid(), *[other.pid] * 2])
        other.send()
        assert other.end() == 0
        assert ring.attached == [os.getpid()]


def test_a_process_that_has_ended_in_whatever_way_is_not_there_any_more(name):
    """Its place is the kernel's to free: by exec, by a normal end; and no subprocess keeps it."""
    with shared(1, "i8", name=name) as ring:
        for end in (
            lambda: os.execv(shutil.which("sleep"), ["sleep", "60"]),
            lambda: subprocess.Popen([shutil.which("sleep"), "60"]) and os.kill(os.getpid(), signal.SIGKILL),
        ):
            with child(lambda pipe, end=end: (stay(pipe, ring.attached), end())) as one:
                assert one.pid in one.hear()
                one.send()
                wait_until(lambda: ring.attached == [os.getpid()], "the place to be free")


def test_a_ring_is_attached_to_several_times_in_one_process(name):
    with shared(4, "i8", name=name) as ring:
        other = SharedRingBuffer.attach(name)
        other.put_many([1, 2])
        assert ring.get() == 1
        ring.close()
        assert other.attached == [os.getpid()]
        assert other.get() == 2


# The end of an attachment ---------------------------------------------------------------------------------------------

CALLS = {
    "put": lambda ring: ring.put(1),
    "put_many": lambda ring: ring.put_many([1, 2]),
    "reserve": lambda ring: ring.reserve(1).__enter__(),
    "get": lambda ring: ring.get(),
    "get_many": lambda ring: ring.get_many(),
    "get_into": lambda ring: ring.get_into(np.zeros(1, "i8")),
    "batches": lambda ring: next(ring.batches()),
    "peek": lambda ring: ring.peek().__enter__(),
}
PUTS = ("put", "put_many", "reserve")
each_call = pytest.mark.parametrize("call", CALLS)


def waited_for(ring, call):
    """A task that waits in that call, on a ring of 1."""
    if call in PUTS:
        ring.put(0)
    return parked(CALLS[call], ring)


@each_call
def test_who_waits_while_another_thread_closes_the_ring_is_told(call):
    with shared(1, "i8") as ring:
        other = SharedRingBuffer.attach(ring.name)
        waiter = waited_for(ring, call)
        ring.close()
        with pytest.raises(ValueError, match="closed it"):
            waiter.result()
        assert other.attached == [os.getpid()]
        other.get() if call in PUTS else other.put(1)
        other._check()


@each_call
def test_a_closed_ring_is_closed(call):
    with shared(1, "i8") as ring:
        ring.close()
        ring.close()
        with pytest.raises(ValueError, match="closed it; attach to it anew"):
            CALLS[call](ring)
        for call in (lambda: ring.attached, ring.snapshot, ring.get_nowait, lambda: pickle.dumps(ring)):
            with pytest.raises(ValueError, match="closed"):
                call()
        ring.shutdown()
        ring.stats()
        ring._check()
        assert "closed" in repr(ring)
        assert SharedRingBuffer.attach(ring.name).put(1) is None


def test_closing_leaves_the_records_and_the_name_to_others(name):
    with child(create_and_stay, name, 1, 2) as other, shared(1, "i8"):
        other.hear()
        ring = SharedRingBuffer.attach(name)
        ring.close()
        assert SharedRingBuffer.attach(name).get_many().tolist() == [1, 2]
        other.kill()
        SharedRingBuffer(1, "i8", name=name).unlink()


@pytest.mark.parametrize("block", [lambda ring: ring.reserve(1), lambda ring: ring.peek(1)], ids=["reserve", "peek"])
def test_a_ring_with_a_block_out_cannot_be_closed(block):
    with shared(2, "i8") as ring:
        ring.put(1)
        other = SharedRingBuffer.attach(ring.name)
        with block(ring):
            with pytest.raises(BufferError, match="a block of the ring is out"):
                ring.close()
            other.close()
        ring.close()


def count_until_closed(call):
    count = 0
    while True:
        try:
            count += call()
        except Empty:
            continue
        except ValueError:
            return count


def test_close_beside_threads_that_use_the_ring():
    """Each call is done, or raises ValueError; what was put is there for the others."""
    for _ in range(4 * ROUNDS):
        with shared(64, "i8", overflow="drop_oldest") as ring:
            other = SharedRingBuffer.attach(ring.name)
            puts = Task(count_until_closed, partial(ring.put_many, np.arange(5)))
            gets = Task(count_until_closed, lambda ring=ring: len(ring.get_many(timeout=SOON)))
            wait_until(lambda other=other: other.stats().taken > 0)
            ring.close()
            counts = puts.result(), gets.result()
            stats = other.stats()
            assert (stats.offered, stats.taken) == counts
            other._check()


def test_the_name_is_gone_with_the_object_that_created_it(name):
    ring = SharedRingBuffer(2, "i8", name=name)
    other = SharedRingBuffer.attach(name)
    del other
    gc.collect()
    other = SharedRingBuffer.attach(name)
    del ring
    gc.collect()
    with pytest.raises(FileNotFoundError):
        SharedRingBuffer.attach(name)
    other.put(7)
    assert other.get() == 7


def test_after_unlink_those_that_are_attached_go_on_and_the_name_is_free(name):
    with shared(2, "i8", name=name) as ring:
        other = SharedRingBuffer.attach(name)
        other.unlink()
        other.unlink()
        ring.put(7)
        assert other.get() == 7
        with pytest.raises(FileNotFoundError):
            SharedRingBuffer.attach(name)
        with shared(2, "i8", name=name) as new:
            ring.unlink()
            ring.put(8)
            assert SharedRingBuffer.attach(name).empty()
            assert (new.attached, ring.attached) == ([os.getpid()], [os.getpid()] * 2)


ENDS = {
    "end": "",
    "sys.exit": "import sys; sys.exit()",
    "close": "ring.close()",
    "thread": "import threading; threading.Thread(target=ring.get, daemon=True).start()",
    "child": "import os, sys; os.fork() or sys.exit(); os.wait(); SharedRingBuffer.attach(ring.name)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_names_are_gone_when_the_process_that_created_them_ends(end):
    code = f"from f1buf import SharedRingBuffer; ring = SharedRingBuffer(9, 'i8'); print(ring.name); {end}"
    out = run_silent(code)
    assert_gone(out.split()[0])


# Processes that are all gone ------------------------------------------------------------------------------------------


def put_and_stay(pipe, ring, count=1):
    for number in range(count):
        ring.put(number)
    stay(pipe)


def get_and_stay(pipe, ring):
    ring.get()
    stay(pipe)


@pytest.mark.parametrize("how", ["killed", "ended"])
@each_call
def test_who_waits_for_processes_that_are_all_gone_is_told(call, how):
    with shared(1, "i8") as ring, contextlib.ExitStack() as stack:
        others = []
        for _ in range(2):
            ring.put(0) if call in PUTS else None
            others.append(stack.enter_context(child(get_and_stay if call in PUTS else put_and_stay, ring)))
            others[-1].hear()
            ring.get() if call not in PUTS else None
        waiter = waited_for(ring, call)
        since = time.monotonic()
        for other in others:
            other.kill() if how == "killed" else other.send()
        with pytest.raises(Abandoned, match="is gone"):
            waiter.result()
        print_delays("until the waiter was told", [time.monotonic() - since])


def test_another_process_may_put_where_one_is_gone():
    with shared(1, "i8") as ring:
        for _ in range(2):
            with child(put_and_stay, ring) as other:
                other.hear()  # until it has put, a get would be told that all who have are gone
                assert ring.get(timeout=LATE) == 0
                other.kill()
            with pytest.raises(Abandoned):
                ring.get()


def test_another_process_may_get_where_one_is_gone():
    with shared(1, "i8") as ring:
        ring.put(1)
        for number in range(2):
            with child(get_and_stay, ring) as other:
                other.hear()  # until it has got, a put would be told that all who have are gone
                ring.put(number, timeout=LATE)
                other.kill()
            with pytest.raises(Abandoned):
                ring.put(3)
        assert ring.get() == number  # from here on this process itself gets
        ring.put_many([4, 5], timeout=SOON)
        with pytest.raises(Full):
            ring.put(6, timeout=0.6)


# A waiter looks who is there after 50 ms, then twice a second: what it would see wrongly it has seen after 0.6 s.


def test_nobody_is_abandoned_by_processes_that_have_not_come_yet():
    with shared(1, "i8") as ring:
        with pytest.raises(Empty):
            ring.get(timeout=0.6)
        ring.put(1)
        with pytest.raises(Full):
            ring.put(2, timeout=0.6)


def look_and_stay(pipe, ring):
    stay(pipe, ring.snapshot().tolist())


def test_who_only_looks_has_not_taken():
    with shared(1, "i8") as ring:
        ring.put(1)
        with child(look_and_stay, ring) as other:
            assert other.hear() == [1]
            other.kill()
        with pytest.raises(Full):
            ring.put(2, timeout=0.6)


def test_a_tee_tells_that_nobody_takes_from_a_later_ring_any_more():
    """The other rings have it all by then; nothing goes past the later one without a word."""
    first, last = RingBuffer(100, "i8"), RingBuffer(100, "i8")
    with shared(2, "i8") as later:
        tee = Tee(first, later, last)
        later.put(0)
        with child(get_and_stay, later) as other:
            other.hear()
            other.kill()
        for records in ([1, 2, 3, 4], [5]):
            with pytest.raises(Abandoned):
                tee.put_many(records)
        with pytest.raises(Abandoned):  # as the first one it refuses for all
            Tee(later, first).put(6)
        assert first.get_many(9).tolist() == last.get_many(9).tolist() == [1, 2, 3, 4, 5]
        assert later.get_many(9).tolist() == [1, 2]


def test_nobody_is_abandoned_while_one_is_left():
    with shared(1, "i8") as ring, child(put_and_stay, ring) as one:
        one.hear()
        ring.get()
        with child(put_and_stay, ring) as other:
            other.hear()
            ring.get()
            one.kill()
            with pytest.raises(Empty):
                ring.get(timeout=0.6)
            ring.put(1)  # so has this process itself
            other.kill()
            ring.get()
            with pytest.raises(Empty):
                ring.get(timeout=0.6)


def test_what_is_there_is_taken_before_anybody_is_told():
    with shared(4, "i8") as ring, child(put_and_stay, ring, 3) as other:
        other.hear()
        other.kill()
        batches = ring.batches()
        assert next(batches).tolist() == [0, 1, 2]
        with pytest.raises(Abandoned):
            next(batches)


# Forks ----------------------------------------------------------------------------------------------------------------


def test_the_child_of_a_fork_is_a_process_of_its_own():
    """It goes on where its parent is killed; and where it is killed that is not its parent's death."""

    def parent(pipe, ring):
        one, other = Child(put_what_it_is_told, ring), Child(put_what_it_is_told, ring)
        other.kill()
        pipe.send((one.pid, os.getpid()))
        pipe.recv()

    def put_what_it_is_told(_, ring):
        while True:
            ring.put(numbers.get(timeout=WATCHDOG))

    with shared(4, "i8") as numbers, shared(4, "i8") as ring, child(parent, ring) as middle:
        grandchild, pid = middle.hear()
        assert sorted(ring.attached) == sorted([os.getpid(), pid, grandchild])
        middle.kill()
        wait_until(lambda: sorted(ring.attached) == sorted([os.getpid(), grandchild]), "the place to be free")
        numbers.put(7)
        assert ring.get(timeout=LATE) == 7
        os.kill(grandchild, signal.SIGKILL)
        wait_until(lambda: ring.attached == [os.getpid()], "the other place to be free")


@each_call
def test_a_child_works_on_the_ring_for_which_its_parents_threads_wait(call):
    with shared(1, "i8") as ring:
        waiter = waited_for(ring, call)
        in_fork(ring.get if call in PUTS else lambda: ring.put(7))
        if call == "put_many":
            assert ring.get() == 1
        waiter.result()


def test_a_block_is_not_the_childs():
    with shared(4, "i8") as ring, shared(4, "i8") as full:
        full.put(7)
        with ring.reserve(2) as written, full.peek(1) as read:
            written.array[:] = [1, 2]

            def leave():
                written.__exit__(None, None, None)
                read.__exit__(None, None, None)
                assert (ring.qsize(), full.qsize()) == (0, 1)
                with pytest.raises(Full):
                    ring.put(3, timeout=SOON)

            in_fork(leave)
        assert ring.get_many().tolist() == [1, 2]
        assert full.empty()


def forks_amid_everything(pipe, ring):
    """Threads put, get, attach and close while children are made, which use the ring and then stay."""

    def call_for_ever(call):
        while True:
            with contextlib.suppress(Empty):
                call()

    batch = np.arange(20_000)
    for call in (
        lambda: ring.put_many(batch),
        lambda: ring.get_many(timeout=SOON),
        lambda: SharedRingBuffer.attach(ring.name).close(),
        lambda: SharedRingBuffer.attach(ring.name).put(1),
        lambda: SharedRingBuffer(4, "i8").unlink(),
    ):
        threading.Thread(target=call_for_ever, args=(call,), daemon=True).start()
    children = [Child(use_and_stay, ring) for _ in range(ROUNDS)]
    for one in children:
        one.hear()
    stay(pipe, [one.pid for one in children])


def use_and_stay(pipe, ring):
    for _ in range(3):
        ring.put_many(np.arange(20_000))
        with contextlib.suppress(Empty):
            ring.get_many(timeout=SOON)
        ring.put(1)
    stay(pipe)


def test_forks_at_any_moment_leave_each_process_its_own_place():
    with shared(30_000, "i8", overflow="drop_oldest") as ring, child(forks_amid_everything, ring) as parent:
        children = parent.hear()
        parent.kill()
        # None of its children has what was its own: with that, what it had locked would stay so.
        wait_until(lambda: set(ring.attached) <= {os.getpid(), *children}, "the parent's places to be free")
        ring.put_many(np.arange(20_000))
        assert len(ring.get_many(timeout=LATE)) > 0
        with pytest.raises(FileExistsError):  # no child has the name's gate either
            SharedRingBuffer(1, "i8", name=ring.name)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: ring.attached == [os.getpid()], "all places to be free")
        check_balance(ring)


def open_amid_a_fork(pipe, name, step):
    """Have a ring whose file was open already when a child was made, which knows nothing of it."""
    real, forked = getattr(segments, step), []

    def fork_and_go_on(*args):
        result = real(*args)
        forked.append(Child(stay))
        return result

    setattr(segments, step, fork_and_go_on)
    ring = SharedRingBuffer(4, "i8", name=name) if step == "allocate" else SharedRingBuffer.attach(name)
    assert ring.attached.count(os.getpid()) == 1
    stay(pipe, forked[0].pid)


@pytest.mark.parametrize("step", ["read_header", "allocate"], ids=["attaching", "creating"])
def test_a_child_that_was_made_amid_opening_does_not_keep_its_parents_place(name, step):
    left_behind(name) if step == "read_header" else None
    with child(open_amid_a_fork, name, step) as parent:
        grandchild = parent.hear()
        ring = SharedRingBuffer.attach(name)
        assert parent.pid in ring.attached
        parent.kill()
        wait_until(lambda: ring.attached == [os.getpid()], "the place to be free")
        ring.close()
        SharedRingBuffer(1, "i8", name=name).unlink()
        os.kill(grandchild, signal.SIGKILL)


def stay_at_the_gate(pipe, name, step):
    """Hold the gate of the name's file for good, which is at a step; another thread has made a child meanwhile."""

    def fork_and_stay(*_):
        forked = []
        thread = threading.Thread(target=lambda: forked.append(Child(stay)))
        thread.start()
        thread.join()
        stay(pipe, forked[0].pid)

    setattr(segments, step, fork_and_stay)
    SharedRingBuffer.attach(name) if step == "read_header" else SharedRingBuffer(4, "i8", name=name)


@pytest.mark.parametrize("step", ["read_header", "is_segment"], ids=["attaching", "taking over"])
def test_a_gate_is_open_once_its_process_was_killed(name, step):
    left_behind(name)
    with child(stay_at_the_gate, name, step) as parent:
        grandchild = parent.hear()
        taking_over = Task(lambda: SharedRingBuffer(1, "i8", name=name).unlink())
        parent.kill()
        taking_over.result()
        os.kill(grandchild, signal.SIGKILL)


def test_a_fork_amid_attaching_leaves_the_name_free(name, monkeypatch):
    path, forked = left_behind(name), []

    def fork_and_fail(*_):
        forked.append(Child(stay))
        raise ValueError("after a fork")

    monkeypatch.setattr(segments, "read_header", fork_and_fail)
    with pytest.raises(ValueError, match="after a fork"):
        SharedRingBuffer.attach(name)
    assert path.exists()
    SharedRingBuffer(1, "i8", name=name).unlink()
    forked[0].kill()


# Stopped, and killed, amid a copy of a normal build -------------------------------------------------------------------

LARGE = np.dtype([("number", "i8"), ("same", "i8", 1 << 18)])  # 2 MB: a process is amid a copy most of the time


def put_large_ones(pipe, ring):
    records = np.zeros(1, LARGE)
    pipe.send("ready")
    while True:
        records["number"] += 1
        records["same"] = records["number"]
        with contextlib.suppress(Full):
            ring.put_many(records, timeout=SOON)


def get_large_ones(pipe, ring):
    pipe.send("ready")
    while True:
        with contextlib.suppress(Empty):
            check_large(ring.get_many(1, timeout=SOON))


def check_large(records):
    assert (records["same"] == records["number"][:, np.newaxis]).all(), "a torn record"


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("who", [put_large_ones, get_large_ones], ids=["a put", "a get"])
def test_timeouts_hold_while_a_process_is_stopped_at_any_moment(who, overflow):
    rng, delays = seeded(), []
    with shared(3, LARGE, overflow=overflow) as ring, child(who, ring) as other:
        other.hear()
        record = np.zeros(1, LARGE)
        for _ in range(ROUNDS):
            time.sleep(rng.random() * 0.01)  # the moment
            other.signal(signal.SIGSTOP)
            other.wait_stopped()
            for call in (
                lambda: ring.put_many(record, block=False),
                lambda: ring.put_many(record, timeout=SOON),
                lambda: check_large(ring.get_many(block=False)),
                lambda: check_large(ring.get_many(timeout=SOON)),
                lambda: ring.peek(timeout=SOON).__enter__(),
                lambda: ring.reserve(1, timeout=SOON).__enter__().commit(0),
                ring.stats,
            ):
                since = time.monotonic()
                with contextlib.suppress(Empty, Full):
                    call()
                delays.append(time.monotonic() - since)
            other.signal(signal.SIGCONT)
            with contextlib.suppress(Empty):
                check_large(ring.get_many(timeout=SOON))
        assert not other.has_ended(), "see standard error"
        other.kill()
        ring.put_many(record, timeout=LATE) if not ring.full() else None
        check_large(ring.get_many(timeout=LATE))
        ring._check()
        check_balance(ring)
    print_delays("calls with timeouts of 30 ms beside a process that is stopped", delays)
    assert max(delays) < LATE


# Scribbled over -------------------------------------------------------------------------------------------------------

SIDES = range(128, 1024)
PUTS_SEQ = 384  # [bytes] where the number stands of the records that have entered
PLACES = range(1024, segments.TEXT)
SLOTS = range(segments.HEADER, segments.HEADER + 64 * CHECKED.itemsize)
REGIONS = {
    "numbers": SIDES,
    "places": PLACES,
    "header": range(segments.HEADER),
    "slots": SLOTS,
    "everything": range(SLOTS.stop),
}
# What a call on a ring that was scribbled over may raise.
DOCUMENTED = (RuntimeError, ValueError, Empty, Full, ShutDown)


def use_what_is_scribbled_over(_, ring, stop, seed):
    """Every call with a timeout, and what must not wait at all."""
    rng, out = random.Random(seed), np.zeros(200, CHECKED)
    calls = (
        lambda: ring.put(out[0], timeout=SOON),
        lambda: ring.put_nowait(out[0]),
        lambda: ring.put_many(out[: rng.randrange(200)], timeout=SOON),
        lambda: ring.get(timeout=SOON),
        lambda: ring.get_nowait(),
        lambda: ring.get_many(rng.randint(1, 99), timeout=SOON),
        lambda: ring.get_into(out, timeout=SOON),
        lambda: next(ring.batches(timeout=SOON), None),
        lambda: write_block(ring, rng.randint(1, 64)),
        lambda: read_block(ring, rng.randint(1, 64)),
        lambda: (ring.stats(), ring.qsize(), ring.full(), repr(ring), ring.attached),
        lambda: attach_to(ring),
        lambda: take_over(ring),
    )
    while not stop[0]:
        with contextlib.suppress(*DOCUMENTED):
            rng.choice(calls)()


def write_block(ring, count):
    with ring.reserve(count, timeout=SOON) as block:
        block.array["number"] = 1


def read_block(ring, count):
    with ring.peek(count, timeout=SOON) as block:
        return block.array["number"].sum()


def attach_to(ring):
    with contextlib.suppress(FileNotFoundError):  # where it says that its name has been taken over
        SharedRingBuffer.attach(ring.name).close()


def take_over(ring):
    with contextlib.suppress(FileExistsError):
        SharedRingBuffer(1, "i8", name=ring.name).unlink()
        raise AssertionError("the name of a ring that is open was taken over")


@each_call
def test_numbers_that_make_no_sense_are_an_error(call):
    with shared(4, "i8") as ring:
        ring.put(1)
        write_over(segments.path_of(ring.name), PUTS_SEQ, (5).to_bytes(8, sys.byteorder))
        with pytest.raises(RuntimeError, match="numbers of the shared ring make no sense"):
            CALLS[call](ring)
        with pytest.raises(AssertionError, match=r"puts\.seq <= gets\.seq \+ capacity"):
            ring._check()


def test_a_name_is_not_taken_over_though_the_numbers_of_its_processes_are_gone():
    with shared(4, "i8") as ring:
        write_over(segments.path_of(ring.name), PLACES.start, bytes(len(PLACES)))
        with pytest.raises(FileExistsError, match="the ring is open in another process; use"):
            SharedRingBuffer(4, "i8", name=ring.name)
        assert ring.attached == []


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_a_segment_that_is_scribbled_over_is_an_error_or_wrong_data_and_nothing_else(region, overflow):
    rng, stop = seeded(), np.frombuffer(mmap.mmap(-1, 8), "i8")
    with shared(64, CHECKED, overflow=overflow) as ring, contextlib.ExitStack() as stack:
        users = [stack.enter_context(child(use_what_is_scribbled_over, ring, stop, seed)) for seed in range(2)]
        file = os.open(segments.path_of(ring.name), os.O_RDWR | os.O_CLOEXEC)
        whole = os.pread(file, segments.HEADER, 0)
        for _ in range(4 * ROUNDS):
            for _ in range(rng.choice((1, 10, 200))):
                offset, size = rng.choice(region), rng.choice((1, 4, 8, 64))
                os.pwrite(file, scribble(rng, file, region, size)[: region.stop - offset], offset)
            time.sleep(rng.random() * 0.02)  # of use
            os.pwrite(file, whole, 0)
        stop[0] = 1
        for user in users:
            assert user.end() == 0
        os.close(file)


def scribble(rng, file, region, size):
    """Bytes of which some make sense elsewhere."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(size)
    if kind == 1:
        return bytes([rng.choice((0, 1, 255))]) * size
    if kind == 2:
        return rng.randrange(1000).to_bytes(8, sys.byteorder)[:size]
    return os.pread(file, size, rng.choice(region[::4]))


# multiprocessing ------------------------------------------------------------------------------------------------------


def double(numbers, doubled):
    with doubled:
        for batch in numbers.batches():
            doubled.put_many(2 * batch)


def put_number(pair):
    ring, number = pair
    ring.put(number)
    return ring.name, ring.capacity, ring.overflow, str(ring.dtype)


def use_in_process(context):
    numbers, doubled = SharedRingBuffer(16, "i8"), SharedRingBuffer(16, "i8", name=some_name())
    process = context.Process(target=double, args=(numbers, doubled))
    process.start()
    with numbers:
        putter, got = Task(numbers.put_many, np.arange(1000)), []
        while len(got) < 1000:
            got += doubled.get_many().tolist()
        assert putter.result() == 1000
    got += [number for batch in doubled.batches() for number in batch.tolist()]
    process.join()
    assert (process.exitcode, got) == (0, list(range(0, 2000, 2)))
    return numbers.name, doubled.name


def use_in_pool(context):
    ring = SharedRingBuffer(16, CHECKED["number"], overflow="drop_oldest")
    with context.Pool(2) as pool:
        told = set(pool.map(put_number, [(ring, number) for number in range(10)]))
        pool.close()
        pool.join()
    assert told == {(ring.name, 16, "drop_oldest", "int64")}
    assert sorted(ring.get_many().tolist()) == list(range(10))
    return (ring.name,)


def use_in_executor(context):
    ring = SharedRingBuffer(16, "i8")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(put_number, (ring, number)) for number in range(10)]
        assert {future.result()[0] for future in futures} == {ring.name}
    assert sorted(ring.get_many().tolist()) == list(range(10))
    return (ring.name,)


USES = (use_in_process, use_in_pool, use_in_executor)


def use_everywhere(method):
    context = multiprocessing.get_context(method)
    for use in USES:
        print(*use(context))
    kept = SharedRingBuffer(16, "i8")
    print(kept.name)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_shared_ring_is_an_argument_of_processes_and_pools(method):
    """Nothing is left, and nobody is warned of anything."""
    code = f"if __name__ == '__main__': from test_shared_processes import use_everywhere; use_everywhere({method!r})"
    names = run_silent(code).split()
    assert len(names) == 5
    for name in names:
        assert_gone(name)


def test_pickled_it_is_the_same_ring():
    with shared(4, [("number", "i8"), ("text", "S3")], overflow="drop_newest") as ring:
        again = pickle.loads(pickle.dumps(ring))
        assert (again.name, again.dtype, again.capacity, again.overflow) == (ring.name, ring.dtype, 4, "drop_newest")
        again.put((1, b"abc"))
        assert ring.get().tolist() == (1, b"abc")
        del again
        assert ring.attached == [os.getpid()]
        SharedRingBuffer.attach(ring.name)


def test_what_was_pickled_is_that_ring_or_an_error(name):
    with shared(4, "i8", name=name) as ring:
        pickled = pickle.dumps(ring)
    with pytest.raises(ValueError, match="pickle it before `unlink`"):
        pickle.dumps(ring)
    with pytest.raises(FileNotFoundError, match="create it first"):
        pickle.loads(pickled)
    with shared(4, "i8", name=name), pytest.raises(FileNotFoundError, match="another one has its name now"):
        pickle.loads(pickled)


def test_a_name_goes_with_the_child_of_multiprocessing_that_made_it():
    """Such a child ends by os._exit, without `atexit`."""
    run_silent(
        "import multiprocessing, os\n"
        "import f1buf\n"
        "kept = []\n"
        "def make(pipe):\n"
        "    kept.append(f1buf.SharedRingBuffer(4, 'i8'))\n"
        "    pipe.send(kept[0].name)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('fork')\n"
        "    ours, theirs = context.Pipe()\n"
        "    process = context.Process(target=make, args=(theirs,))\n"
        "    process.start()\n"
        "    name = ours.recv()\n"
        "    process.join()\n"
        "    assert not os.path.exists(f'/dev/shm/f1buf-{name}'), name\n"
    )
