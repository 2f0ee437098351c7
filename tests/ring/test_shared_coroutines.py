"""Coroutines wait for records of other processes: a thread of the ring's sleeps in their place."""

import asyncio
import gc
import os
import weakref

import numpy as np
import pytest
from helpers import WATCHDOG, Task, check_balance, run_python, wait_until, waiting

from f1buf import Abandoned, SharedRingBuffer, ShutDown


def run(main):
    async def watched():
        async with asyncio.timeout(WATCHDOG):
            return await main

    return asyncio.run(watched())


def pair(capacity=8):
    """One ring, opened twice, as by two processes."""
    ring = SharedRingBuffer(capacity, "i8")
    return ring, SharedRingBuffer.attach(ring.name)


@pytest.mark.parametrize("capacity", [1, 7, 1000])
def test_what_one_loop_puts_another_takes_in_order(capacity):
    ring, other = pair(capacity)

    async def produce():
        for start in range(0, 5000, 10):
            assert await ring.aput_many(np.arange(start, start + 10)) == 10
        ring.shutdown()

    async def consume():
        return np.concatenate([batch async for batch in other.abatches()])

    producer = Task(run, produce())
    assert run(consume()).tolist() == list(range(5000))
    producer.result()
    check_balance(ring)


def test_coroutines_of_one_process_go_on_as_there_is_enough_for_each():
    async def main():
        ring, other = pair()
        five, two = await waiting(ring.aget_many(min_count=5), ring.aget_many(2, min_count=2))
        other.put_many([1, 2, 3])
        assert (await two).tolist() == [1, 2]
        assert not five.done()
        other.put_many([4, 5, 6, 7])
        assert (await five).tolist() == [3, 4, 5, 6, 7]
        more = await waiting(*(ring.aget_many(1) for _ in range(5)))
        other.put_many([8, 9])
        other.put_many([10, 11, 12])
        assert sorted(number for batch in await asyncio.gather(*more) for number in batch) == [8, 9, 10, 11, 12]

    run(main())


def test_one_that_needs_less_is_served_though_the_watcher_sleeps_for_more():
    async def main():
        ring, other = pair()
        five = await waiting(ring.aget_many(min_count=5))
        one = await waiting(ring.aget_many(1))
        other.put(1)
        assert (await one).tolist() == [1]
        other.put_many([2, 3, 4, 5, 6])
        assert (await five).tolist() == [2, 3, 4, 5, 6]

    run(main())


def test_one_that_is_cancelled_has_taken_and_put_nothing():
    async def main():
        ring, other = pair(2)
        first, second = await waiting(ring.aget_many(), ring.aget_many())
        first.cancel()
        other.put(1)
        assert (await second).tolist() == [1]
        other.put_many([2, 3])
        put = await waiting(ring.aput_many([4]))
        put.cancel()
        await asyncio.wait([put])
        assert other.get_many().tolist() == [2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ring.aget_many()
        check_balance(ring)

    run(main())


@pytest.mark.parametrize("immediate", [False, True])
def test_a_shutdown_by_another_process_ends_the_waiting(immediate):
    async def main():
        ring, other = pair(2)
        gets = await waiting(ring.aget_many(), ring.aget_many(min_count=2))
        other.shutdown(immediate)
        for get in gets:
            with pytest.raises(ShutDown):
                await get
        full, other = pair(1)
        full.put(1)
        put = await waiting(full.aput_many([2]))
        other.shutdown(immediate)
        with pytest.raises(ShutDown):
            await put

    run(main())


def test_closing_ends_the_waiting():
    async def main():
        ring, _ = pair()
        get = await waiting(ring.aget_many())
        ring.close()
        with pytest.raises(ValueError, match="has closed it"):
            await get

    run(main())


def test_a_coroutine_learns_that_every_producer_is_gone():
    ring = SharedRingBuffer(8, "i8")
    put = f"import f1buf; f1buf.SharedRingBuffer.attach({ring.name!r}).put(1)"
    run_python(put)

    async def take():
        assert [batch.tolist() async for batch in ring.abatches()] == [[1]]

    with pytest.raises(Abandoned, match="every process that has put into it is gone"):
        run(take())


def test_a_coroutine_waits_for_its_own_threads_block():
    async def main():
        ring, _ = pair(4)
        with ring.reserve(2) as block:
            block.array[:] = 1, 2
            task = await waiting(ring.aput_many([3]))
        assert await task == 1
        with ring.peek(1):
            task = await waiting(ring.aget_many(1))
        assert (await task).tolist() == [2]

    run(main())


def test_a_task_of_trio():
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def main():
        ring, other = pair()
        with trio.fail_after(WATCHDOG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, lambda: [other.put(i) for i in range(100)])
                got = 0
                while got < 100:
                    got += len(await ring.aget_many())

    trio.run(main)


def test_the_thread_that_waits_for_coroutines_ends_with_the_ring():
    before = threads()

    async def main():
        ring, other = pair()
        get = await waiting(ring.aget_many())
        assert len(threads() - before) == 1
        other.put(1)
        assert len(await get) == 1
        return weakref.ref(ring)

    ring = run(main())
    gc.collect()
    assert ring() is None
    # For a moment the system lists a thread that has been joined.
    wait_until(lambda: not threads() - before, "the thread to end")


def threads():
    """Those of the process, also such as Python does not know."""
    return set(os.listdir("/proc/self/task"))


def test_the_child_of_a_fork_waits_by_a_thread_of_its_own():
    run_python(
        "import asyncio, os, warnings, f1buf\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # of a fork beside a thread; 3.15 raises it as an error
        "ring = f1buf.SharedRingBuffer(8, 'i8')\n"
        "async def get(put):\n"
        "    task = asyncio.ensure_future(ring.aget_many())\n"
        "    await asyncio.sleep(0.01)\n"
        "    put()\n"
        "    return (await task).tolist()\n"
        "assert asyncio.run(get(lambda: ring.put(1))) == [1]\n"
        "child = os.fork()\n"
        "assert asyncio.run(get(lambda: ring.put(2))) == [2] if child == 0 else True\n"
        "if child == 0:\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert asyncio.run(get(lambda: ring.put(3))) == [3]\n"
    )
