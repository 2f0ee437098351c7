"""Frameworks see what the coroutine methods are, and those wait on trio as on asyncio, alone or by way of anyio."""

import asyncio
import contextlib
import dis
import functools
import gc
import importlib.util
import inspect
import io
import os
import subprocess
import sys
from unittest import mock

import pytest
from helpers import WATCHDOG, Task, check_balance, in_loop, parked
from test_coroutines import Ways, aget_all, aput_all, made, put_all, shared, ten_take

from f1buf import Empty, LifoQueue, PriorityQueue, Queue, RingBuffer, ShutDown

WHY = "the frameworks are tried where they are installed: pip install 'f1buf[test]'"


class Hooked(Queue):
    """Has the standard library's algorithm."""

    def _get(self):
        return super()._get()


class Ring(RingBuffer):
    """Nothing of its own."""


QUEUES = [Queue, Hooked, LifoQueue, PriorityQueue]
OF_QUEUES = ["aget", "aput", "aget_many", "aput_many", "ajoin"]
OF_RINGS = ["aget_many", "aput_many"]
METHODS = [(kind, name) for kind in QUEUES for name in OF_QUEUES] + [
    (kind, name) for kind in (RingBuffer, Ring) for name in OF_RINGS
]
each_method = pytest.mark.parametrize(
    ("kind", "name"), METHODS, ids=[f"{kind.__name__}-{name}" for kind, name in METHODS]
)
each_queue = pytest.mark.parametrize("kind", QUEUES)
each_kind = pytest.mark.parametrize("kind", [RingBuffer, *QUEUES])


# What they are --------------------------------------------------------------------------------------------------------


@each_method
def test_each_is_a_coroutine_function(kind, name):
    of_class, bound = getattr(kind, name), getattr(made(kind), name)
    for function in (of_class, bound, functools.partial(bound)):
        assert inspect.iscoroutinefunction(function)
    home = RingBuffer if issubclass(kind, RingBuffer) else Queue
    assert of_class.__qualname__ == f"{home.__name__}.{name}"
    assert inspect.getdoc(of_class)


@pytest.mark.parametrize("kind", [RingBuffer, Ring])
def test_abatches_is_an_asynchronous_generator_function(kind):
    assert inspect.isasyncgenfunction(kind.abatches)
    assert inspect.isasyncgenfunction(made(kind).abatches)


def test_their_signatures_are_those_of_the_stubs():
    whole = "(max_count: int | None = None, *, min_count: int = 1) -> list[object]"
    assert str(inspect.signature(Queue().aget_many)) == whole
    assert [*inspect.signature(RingBuffer.aget_many).parameters] == ["self", "max_count", "min_count", "return_seq"]


def test_the_state_of_a_coroutine_can_be_asked():
    async def main():
        queue = Queue()
        coroutine = queue.aget()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        task = asyncio.ensure_future(coroutine)
        for _ in range(3):
            await asyncio.sleep(0)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        queue.put(1)
        assert await task == 1
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    asyncio.run(main())


async def seen_waiting(*coroutines):
    """Tasks of asyncio, each of which has come to where it waits, one after the other."""
    tasks = []
    for coroutine in coroutines:
        tasks.append(asyncio.ensure_future(coroutine))
        for _ in range(3):  # it may have let the loop run first
            await asyncio.sleep(0)
    return tasks


@each_kind
def test_the_stack_of_a_task_that_waits_can_be_printed(kind):
    async def main():
        buffer = made(kind)
        calls = [buffer.aget_many()] if kind is RingBuffer else [buffer.aget(), buffer.aget_many()]
        if kind is not RingBuffer:
            buffer.put(1)
            calls.append(buffer.ajoin())
            buffer.get()
        for task in await seen_waiting(*calls):
            printed = io.StringIO()
            task.print_stack(file=printed)
            assert "in a" in printed.getvalue()
            assert "return await self._awaited_" in printed.getvalue()
            if hasattr(asyncio, "format_call_graph"):
                assert "_awaited_" not in asyncio.format_call_graph(task)
                assert f".{task.get_coro().__name__}()" in asyncio.format_call_graph(task)
            task.cancel()

    asyncio.run(main())


def test_a_coroutine_that_is_awaited_already_is_not_awaited_again():
    async def main():
        queue = Queue()
        coroutine = queue.aget()

        async def wait():
            return await coroutine

        first, second = await seen_waiting(wait(), wait())
        with pytest.raises(RuntimeError, match="being awaited already"):
            await second
        queue.put(1)
        assert await first == 1

    asyncio.run(main())


def test_one_that_is_never_awaited_is_named():
    coroutines = [Queue().aput(1)]
    with pytest.warns(RuntimeWarning, match=r"coroutine 'Queue\.aput' was never awaited"):
        coroutines.clear()


@each_method
def test_no_signal_handler_comes_between_what_is_taken_and_the_caller(kind, name):
    """Python looks for signals after calls; so nothing may be called once the result is there."""
    names = [instruction.opname for instruction in dis.get_instructions(getattr(kind, name))]
    behind = names[names.index("GET_AWAITABLE") :]
    assert names.count("GET_AWAITABLE") == 1
    assert "RETURN_VALUE" in behind
    assert not [it for it in behind if it.startswith("CALL") and not it.startswith("CALL_INTRINSIC")]


@pytest.mark.parametrize("item", [None, (), (1, 2), ValueError("an item"), StopIteration(1), StopAsyncIteration()])
def test_any_item_that_is_put_is_got(item):
    async def main():
        queue = Queue()
        await queue.aput(item)
        assert await queue.aget() is item
        (task,) = await seen_waiting(queue.aget())
        queue.put(item)
        assert await task is item

    asyncio.run(main())


# Frameworks that look at that -----------------------------------------------------------------------------------------


def test_starlette_awaits_a_put_in_the_background():
    background = pytest.importorskip("starlette.background", reason=WHY)
    queue, ring = Queue(), RingBuffer(4, "i8")
    asyncio.run(background.BackgroundTask(queue.aput, "item")())
    asyncio.run(background.BackgroundTask(ring.aput_many, [1, 2])())
    assert queue.get_nowait() == "item"
    assert ring.get_many().tolist() == [1, 2]


def test_apscheduler_awaits_a_put():
    schedulers = pytest.importorskip("apscheduler.schedulers.asyncio", reason=WHY)

    async def main():
        queue = Queue()
        scheduler = schedulers.AsyncIOScheduler(timezone="UTC")
        scheduler.start()
        scheduler.add_job(queue.aput, args=["item"], misfire_grace_time=None)  # else one that is 1 s late is left out
        async with asyncio.timeout(WATCHDOG):
            assert await queue.aget() == "item"
        scheduler.shutdown()

    asyncio.run(main())


@each_method
def test_mocks_of_them_are_awaited(kind, name):
    for double in (mock.Mock(spec=kind), mock.create_autospec(kind, instance=True)):
        method = getattr(double, name)
        assert inspect.iscoroutinefunction(method)
        method.return_value = 5
        arguments = [1] if "put" in name else []
        assert asyncio.run(method(*arguments)) == 5
        method.assert_awaited_once_with(*arguments)


# Waiting, on either of anyio's backends -------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"])
def run(request):
    """Runs a coroutine by anyio; it must end in time."""
    anyio = pytest.importorskip("anyio", reason=WHY)
    pytest.importorskip(request.param, reason=WHY)

    async def watched(main):
        with anyio.fail_after(WATCHDOG):
            return await main

    return lambda main: anyio.run(watched, main, backend=request.param)


@pytest.fixture
def trio():
    return pytest.importorskip("trio", reason=WHY)


@pytest.fixture
def anyio():
    return pytest.importorskip("anyio", reason=WHY)


async def settled(anyio):
    """When all that have been started wait."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


@each_kind
@pytest.mark.parametrize("size", [1, 10])
@in_loop
async def test_items_go_from_threads_to_coroutines_and_back(kind, size):
    there, back, got = Ways(kind, size), Ways(kind, size), []

    def circle():
        for i in range(500):
            there.put(i)
            got.append(back.get())

    thread = Task(circle)
    for _ in range(500):
        await back.aput(await there.aget())
    thread.result()
    assert got == list(range(500))


@each_kind
@in_loop
async def test_tasks_pass_items_on(anyio, kind):
    ways, got = Ways(kind), []

    async def consume():
        with contextlib.suppress(ShutDown):
            while True:
                got.append(await ways.aget())

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(consume)
        for i in range(300):
            await ways.aput(i)
        ways.buffer.shutdown()
    assert sorted(got) == list(range(300))


@pytest.mark.parametrize("kind", [RingBuffer, Queue, Hooked])
@in_loop
async def test_waiters_are_served_in_the_order_they_came(anyio, kind):
    """Of the tasks that are woken at once, trio lets any run first."""
    ways, got = Ways(kind), []

    async def take(number):
        got.append((number, await ways.aget()))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(take, number)
            await settled(anyio)
        for first in (0, 2):
            ways.buffer.put_many([first, first + 1])
            await settled(anyio)
            numbers, items = zip(*got[first:], strict=True)
            assert sorted(numbers) == [first, first + 1]
            assert items == (first, first + 1)


@each_kind
@in_loop
async def test_a_wait_that_is_moved_on_from_has_taken_nothing(anyio, kind):
    ways = Ways(kind)
    with anyio.move_on_after(0.01) as scope:
        await ways.aget()
    assert scope.cancelled_caught
    for i in range(4):
        ways.put(i)
    with anyio.move_on_after(0.01) as scope:
        await ways.aput(4)
    assert scope.cancelled_caught
    assert sorted(ways.get(block=False) for _ in range(4)) == [0, 1, 2, 3]
    with pytest.raises(Empty):
        ways.get(block=False)


@each_kind
@in_loop
async def test_the_grant_of_a_cancelled_get_goes_to_the_next(anyio, kind):
    """Its scope is cancelled after the item came for it and before it ran."""
    ways, got, scope = Ways(kind), [], anyio.CancelScope()

    async def take(scope):
        with scope:
            got.append(await ways.aget())

    async with anyio.create_task_group() as group:
        group.start_soon(take, scope)
        await settled(anyio)
        group.start_soon(take, anyio.CancelScope())
        await settled(anyio)
        ways.put(1)
        scope.cancel()
    assert got == [1]
    assert scope.cancelled_caught
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(take, anyio.CancelScope())
            await settled(anyio)
            thread = parked(ways.get)
            ways.put(2)
            group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(thread.result) == 2
    assert got == [1]


@each_kind
@in_loop
async def test_a_group_that_is_cancelled_leaves_nobody_behind(anyio, kind):
    ways = Ways(kind)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(ways.aget)
        await settled(anyio)
        group.cancel_scope.cancel()
    ways.put(1)
    assert ways.get(block=False) == 1
    ways.buffer._check()


@each_kind
@in_loop
async def test_cancelled_amid_traffic_loses_nothing(anyio, kind):
    ways, got, total = Ways(kind), [], 1000

    async def take(scope):
        with scope:
            got.append(await ways.aget())

    producer = Task(lambda: [ways.put(i) for i in range(total)])
    while len(got) < total:
        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as group:
            for scope in scopes:
                group.start_soon(take, scope)
            await anyio.lowlevel.checkpoint()
            scopes[0].cancel()
            scopes[2].cancel()
            if total - len(got) < 3:
                await anyio.sleep(0.001)
                scopes[1].cancel()
    producer.result()
    assert sorted(got) == list(range(total))
    with pytest.raises(Empty):
        ways.get(block=False)


@each_kind
@in_loop
async def test_a_deadline_comes_to_a_coroutine_that_never_waits(anyio, kind):
    ways = Ways(kind)
    with anyio.move_on_after(0.01) as scope:
        for _ in range(1_000_000):
            await ways.aput(1)
            await ways.aget()
    assert scope.cancelled_caught


@each_kind
@in_loop
async def test_others_run_beside_a_coroutine_that_never_waits(anyio, kind):
    ways, turns = Ways(kind), []

    async def circle(name):
        for _ in range(20_000):
            turns.append(name)
            await ways.aput(1)
            assert await ways.aget() == 1

    async with anyio.create_task_group() as group:
        group.start_soon(circle, "a")
        group.start_soon(circle, "b")
    assert turns.index("b") < 20_000
    assert turns.index("a") < 20_000


@in_loop
async def test_batches_of_a_ring_until_it_is_shut_down():
    ring = RingBuffer(7, "i8")

    def produce():
        for start in range(0, 3000, 30):
            ring.put_many(range(start, start + 30))
        ring.shutdown()

    producer, got = Task(produce), []
    async for batch in ring.abatches():
        got += batch.tolist()
    producer.result()
    assert got == list(range(3000))
    check_balance(ring)


@each_queue
@in_loop
async def test_a_join_waits_for_all_that_was_put(anyio, kind):
    queue, done = kind(), []
    queue.put_many([1, 2])

    async def join():
        await queue.ajoin()
        done.append("joined")

    async with anyio.create_task_group() as group:
        group.start_soon(join)
        for _ in range(2):
            await settled(anyio)
            assert done == []
            queue.get()
            queue.task_done()
    assert done == ["joined"]


@each_kind
@in_loop
async def test_a_shutdown_wakes_all(anyio, kind):
    ways, ended = Ways(kind), []

    async def take():
        with pytest.raises(ShutDown):
            await ways.aget()
        ended.append(1)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(take)
        await settled(anyio)
        await anyio.to_thread.run_sync(ways.buffer.shutdown)
    assert len(ended) == 3


# Trio alone -----------------------------------------------------------------------------------------------------------


@each_kind
def test_what_trio_shows_of_a_task_that_waits_is_its_coroutine(trio, kind):
    async def main():
        buffer = made(kind)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.aget_many)
            await trio.testing.wait_all_tasks_blocked()
            (task,) = nursery.child_tasks
            frames = [frame.f_code.co_name for frame, line in task.iter_await_frames() if line]
            assert frames[0] == "aget_many"
            nursery.cancel_scope.cancel()

    pytest.importorskip("trio.testing", reason=WHY)
    trio.run(main)


@each_kind
def test_a_run_that_ends_while_it_waits_keeps_nothing(trio, kind):
    """Of a coroutine that nobody goes on with, as of one that its framework lost."""
    ways = Ways(kind)

    async def main():
        with trio.move_on_after(0):  # so that it will not let others run first
            await Ways(kind).aget()
        coroutine = ways.aget()
        coroutine.send(None)
        return coroutine

    coroutine = trio.run(main)
    thread = parked(ways.get)
    ways.put(1)
    assert thread.result() == 1
    coroutine.close()
    ways.buffer._check()


@each_kind
def test_an_item_that_comes_as_a_run_ends_is_not_lost(trio, kind):
    """A system task of the user's waits until it is cancelled, too."""
    ways, got = Ways(kind), []

    async def take():
        got.append(await ways.aget())

    async def main():
        trio.lowlevel.spawn_system_task(take)
        await trio.testing.wait_all_tasks_blocked()
        ways.put(len(got))

    pytest.importorskip("trio.testing", reason=WHY)
    for taken in range(20):
        trio.run(main)
        if len(got) == taken:
            got.append(ways.get(block=False))
    assert got == list(range(20))
    with pytest.raises(Empty):
        ways.get(block=False)


@each_kind
def test_a_get_that_is_woken_for_nothing_as_a_run_ends_keeps_nothing(trio, kind):
    """What came for it is taken by another, so that it must wait anew, where nothing wakes it any more."""
    ways, taken = Ways(kind), []

    async def main():
        for _ in range(3):
            trio.lowlevel.spawn_system_task(take)
        await trio.testing.wait_all_tasks_blocked()
        ways.put(0)
        with contextlib.suppress(Empty):
            taken.append(ways.get(block=False))

    async def take():
        taken.append(await ways.aget())

    pytest.importorskip("trio.testing", reason=WHY)
    for number in range(1, 31):
        trio.run(main)
        thread = parked(ways.get)
        ways.put(number)
        if len(taken) < number:  # it was there still
            taken.append(thread.result())
            assert ways.get(block=False) == number
        else:
            assert thread.result() == number
        ways.buffer._check()


@each_kind
def test_a_system_task_that_waits_does_not_keep_a_run_from_its_end(trio, kind):
    ways, told = Ways(kind), []

    async def wait():
        try:
            await ways.aget()
        except trio.Cancelled as error:
            told.append(error)
            raise

    async def main():
        trio.lowlevel.spawn_system_task(wait)
        await trio.testing.wait_all_tasks_blocked()

    pytest.importorskip("trio.testing", reason=WHY)
    trio.run(main)
    assert len(told) == 1
    ways.put(1)
    assert ways.get(block=False) == 1
    ways.buffer._check()


def test_runs_let_go_of_their_files(trio):
    async def wait_once():
        with trio.move_on_after(0.001):
            await Queue().aget()

    trio.run(wait_once)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        trio.run(wait_once)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_memory_stays_flat(trio):
    async def main():
        ring, queue = RingBuffer(1, "i8"), Queue()

        async def wait_often(times):
            for _ in range(times):
                for wait in (ring.aget_many, queue.aget, queue.aget_many):
                    with trio.move_on_after(0) as scope:
                        await wait()
                    assert scope.cancelled_caught

        await wait_often(100)
        gc.collect()
        before = len(gc.get_objects())
        await wait_often(500)
        gc.collect()
        assert len(gc.get_objects()) - before < 50

    trio.run(main)


def test_a_call_that_waits_in_the_cleanup_after_a_run_raises(trio):
    """Asynchronous generators end when nothing can be started any more."""
    told, kept = [], []

    async def generate():
        try:
            yield 1
        finally:
            try:
                await Queue().aget()
            except BaseException as error:
                told.append(type(error))
                raise

    async def main():
        kept.append(generate())
        await anext(kept[0])

    with contextlib.suppress(RuntimeError):
        trio.run(main)
    assert told in ([RuntimeError], [trio.Cancelled])


def test_asyncio_and_trio_in_one_thread_share_a_queue(trio):
    """Trio is asyncio's guest."""

    async def main():
        loop, there, back = asyncio.get_running_loop(), Queue(1), Queue(1)
        ended = loop.create_future()

        async def answer():
            with contextlib.suppress(ShutDown):
                while True:
                    await back.aput(await there.aget())
            return "ended"

        trio.lowlevel.start_guest_run(
            answer, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
        )
        for i in range(200):
            await there.aput(i)
            assert await back.aget() == i
        there.shutdown()
        assert (await ended).unwrap() == "ended"

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_a_run_within_a_task_of_asyncio_is_trios(trio):
    """As in a notebook."""

    async def wait():
        with trio.move_on_after(0.01) as scope:
            await Queue().aget()
        assert scope.cancelled_caught

    async def main():
        trio.run(wait)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Queue().aget(), 0.01)

    asyncio.run(main())


def test_asyncio_within_trio_is_asyncios():
    """In a process of its own: the import puts other functions into asyncio."""
    pytest.importorskip("trio", reason=WHY)
    if importlib.util.find_spec("trio_asyncio") is None:
        pytest.skip("asyncio within trio is tried where trio-asyncio is installed")
    code = """if True:
        import asyncio, trio, trio_asyncio
        from f1buf import Queue

        async def of_asyncio(queue):
            try:
                await asyncio.wait_for(Queue().aget(), 0.01)
            except asyncio.TimeoutError:
                return await queue.aget()

        async def main():
            there, back = Queue(), Queue()
            async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
                async def relay():
                    await back.aput(await trio_asyncio.aio_as_trio(of_asyncio)(there))
                nursery.start_soon(relay)
                await trio.sleep(0.02)
                await there.aput("item")
                print(await back.aget())

        trio.run(main)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WATCHDOG, check=True)
    assert done.stdout == "item\n"


@pytest.mark.parametrize("kind", [RingBuffer, Queue, PriorityQueue])
def test_runs_loops_and_threads_share_a_buffer(trio, kind):
    async def ten_take_in_a_nursery(ways, got):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(aget_all, ways, got)

    def of_trio(main):
        return lambda *args: trio.run(main, *args)

    def of_asyncio(main):
        return lambda *args: asyncio.run(main(*args))

    takers = [of_trio(ten_take_in_a_nursery), of_asyncio(ten_take)] * 2
    shared(kind, takers, [put_all, of_trio(aput_all)] * 2 + [of_asyncio(aput_all)])


# Neither --------------------------------------------------------------------------------------------------------------


def test_where_nothing_runs_that_it_knows_it_says_so():
    queue = Queue()
    with pytest.raises(RuntimeError, match=r"neither an event loop of asyncio nor a run of trio.*await"):
        queue.aget().send(None)
    for _ in range(2000):  # what need not wait is done under any loop, and without one
        with pytest.raises(StopIteration) as end:
            queue.aput(1).send(None)
        assert end.value.value is None
        with pytest.raises(StopIteration) as end:
            queue.aget().send(None)
        assert end.value.value == 1


def test_a_program_without_them_imports_neither():
    code = """if True:
        import sys, f1buf
        queue = f1buf.Queue()
        for _ in range(10_000):
            for call in (queue.aput(1), queue.aget()):
                try:
                    call.send(None)
                except StopIteration:
                    pass
        try:
            queue.aget().send(None)
        except RuntimeError:
            pass
        assert not {"asyncio", "trio", "f1buf.core.trio"} & {*sys.modules}
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_trio_does_not_import_asyncio(trio):
    code = """if True:
        import sys, f1buf, trio
        before = "asyncio" in sys.modules
        async def main():
            with trio.move_on_after(0.001):
                await f1buf.Queue().aget()
        trio.run(main)
        assert ("asyncio" in sys.modules) == before
    """
    subprocess.run([sys.executable, "-c", code], check=True)
