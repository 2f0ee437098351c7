"""Real programs that run on f1buf's Queue with only the class replaced: 100,000 items each, and nothing lost.

The standard library's logging and thread pools, and python-can's reader.
"""

import concurrent.futures
import contextlib
import gc
import logging
import logging.config
import logging.handlers
import queue as standard
import sys
import threading
import weakref
from unittest import mock

import pytest
from helpers import WATCHDOG, Task, run_python, thorough, wait_until

import f1buf
from f1buf import Empty, Full, LifoQueue, Queue

ITEMS = 100_000


class Collector(logging.Handler):
    """Keeps what was logged."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


# Logging --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger():
    logger = logging.Logger("program")  # one that nobody else knows
    yield logger
    for handler in logger.handlers:
        handler.close()


def log_from_threads(logger, threads, each):
    def log(thread):
        for number in range(each):
            logger.info("%d %d", thread, number)

    tasks = [Task(log, thread) for thread in range(threads)]
    for task in tasks:
        task.result()


def assert_all_in_order(messages, threads, each):
    assert len(messages) == threads * each
    for thread in range(threads):
        start = f"{thread} "
        assert [message for message in messages if message.startswith(start)] == [f"{thread} {n}" for n in range(each)]


@thorough
@pytest.mark.parametrize("threads", [1, 4])
def test_queue_handler_and_queue_listener(logger, threads):
    queue, collector = Queue(), Collector()
    logger.addHandler(logging.handlers.QueueHandler(queue))
    listener = logging.handlers.QueueListener(queue, collector)
    listener.start()
    log_from_threads(logger, threads, ITEMS // threads)
    listener.stop()  # once it has dealt with what is there
    assert_all_in_order(collector.messages, threads, ITEMS // threads)
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 0)
    queue.join()


@thorough
def test_a_queue_handler_that_waits_for_room(logger):
    """As programs have it that must not lose records to a full queue."""

    class Waiting(logging.handlers.QueueHandler):
        def enqueue(self, record):
            self.queue.put(record, timeout=WATCHDOG)

    queue, collector = Queue(10), Collector()
    logger.addHandler(Waiting(queue))
    listener = logging.handlers.QueueListener(queue, collector)
    listener.start()
    log_from_threads(logger, 2, ITEMS // 2)
    queue.join()
    listener.stop()
    assert_all_in_order(collector.messages, 2, ITEMS // 2)


def test_a_queue_handler_that_finds_the_queue_full_says_so(logger):
    handler = logging.handlers.QueueHandler(queue_of_one := Queue(1))
    logger.addHandler(handler)
    handler.handleError = mock.Mock(side_effect=lambda record: errors.append(sys.exc_info()[0]))
    errors = []
    for number in range(3):
        logger.info("%d", number)
    assert errors == [Full, Full]
    assert queue_of_one.get().getMessage() == "0"


def test_a_listener_that_drains_with_get_nowait(logger):
    """A listener that is not started: what is there is handled by hand, until `Empty`."""
    queue, collector = Queue(), Collector()
    logger.addHandler(logging.handlers.QueueHandler(queue))
    listener = logging.handlers.QueueListener(queue, collector)
    log_from_threads(logger, 2, 1000)
    with contextlib.suppress(Empty):
        while True:
            listener.handle(listener.dequeue(block=False))
    assert_all_in_order(collector.messages, 2, 1000)


def config(queue):
    return {
        "version": 1,
        "handlers": {
            "collector": {"class": "test_queue_programs.Collector"},
            "queued": {"class": "logging.handlers.QueueHandler", "queue": queue},
        },
        "loggers": {"program": {"level": "INFO", "handlers": ["queued"], "propagate": False}},
    }


def log_by_hand_made_listener():
    """The form that every Python knows: the queue is made by the program, and so is the listener."""
    queue = Queue(maxsize=2 * ITEMS)
    logging.config.dictConfig(config(queue))
    collector = Collector()
    listener = logging.handlers.QueueListener(queue, collector)
    check_listener(listener, collector, queue)


def log_by_name():
    """From Python 3.12 on: the queue by the name of its class."""
    check_configured("f1buf.Queue", maxsize=0)


def log_by_factory():
    """From Python 3.12 on: the class and its arguments."""
    check_configured({"()": "f1buf.Queue", "maxsize": 2 * ITEMS}, maxsize=2 * ITEMS)


def log_by_another_factory():
    check_configured({"()": "f1buf.LifoQueue", "maxsize": 2 * ITEMS}, maxsize=2 * ITEMS, kind=LifoQueue)


def check_configured(queue, maxsize, kind=Queue):
    whole = config(queue)
    whole["handlers"]["queued"] |= {"handlers": ["collector"], "respect_handler_level": True}
    logging.config.dictConfig(whole)
    handler = logging.getLogger("program").handlers[0]
    assert (type(handler.queue), handler.queue.maxsize) == (kind, maxsize)
    assert handler.listener.queue is handler.queue
    (collector,) = handler.listener.handlers
    if kind is LifoQueue:  # in which what ends the listener comes first
        log_from_threads(logging.getLogger("program"), 1, 100)
        handler.listener.start()
        wait_until(handler.queue.empty)
        handler.listener.stop()
        assert collector.messages == [f"0 {number}" for number in reversed(range(100))]
    else:
        check_listener(handler.listener, collector, handler.queue)


def check_listener(listener, collector, queue):
    listener.start()
    log_from_threads(logging.getLogger("program"), 2, ITEMS // 2)
    listener.stop()
    assert_all_in_order(collector.messages, 2, ITEMS // 2)
    assert (queue.qsize(), queue.unfinished_tasks) == (0, 0)


since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="a queue can be configured from Python 3.12 on")
of_its_own = pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 4), reason="this Python's dictConfig makes a listener for every QueueHandler"
)
CONFIGURED = [
    pytest.param(log_by_hand_made_listener, marks=of_its_own),
    pytest.param(log_by_name, marks=since_3_12),
    pytest.param(log_by_factory, marks=since_3_12),
    pytest.param(log_by_another_factory, marks=since_3_12),
]


@thorough
@pytest.mark.parametrize("scenario", CONFIGURED, ids=lambda scenario: scenario.__name__)
def test_dict_config(scenario):
    """In a process of its own: a configuration closes the handlers of everybody else."""
    name = scenario.__name__
    run_python(f"from test_queue_programs import {name}; {name}()", timeout=2 * WATCHDOG)


# Thread pools ---------------------------------------------------------------------------------------------------------


def pool_on(kind, *args, **kwargs):
    """A ThreadPoolExecutor whose work queue is of that class: it makes a `queue.SimpleQueue()` otherwise."""
    with mock.patch.object(standard, "SimpleQueue", kind):
        pool = concurrent.futures.ThreadPoolExecutor(*args, **kwargs)
    assert type(pool._work_queue) is kind
    return pool


def square(number):
    return number * number


@thorough
@pytest.mark.parametrize("workers", [1, 4])
def test_a_thread_pool(workers):
    with pool_on(Queue, workers) as pool:
        futures = [pool.submit(square, number) for number in range(ITEMS)]
        assert [future.result(WATCHDOG) for future in futures] == [square(number) for number in range(ITEMS)]


@thorough
def test_a_thread_pools_map():
    with pool_on(Queue, 3) as pool:
        assert list(pool.map(square, range(ITEMS), timeout=2 * WATCHDOG)) == list(map(square, range(ITEMS)))


@thorough
def test_a_thread_pool_that_several_threads_fill():
    done = []
    with pool_on(Queue, 2) as pool:
        tasks = [Task(lambda: [pool.submit(done.append, number) for number in range(ITEMS // 4)]) for _ in range(4)]
        for task in tasks:
            task.result()
    assert sorted(done) == sorted(4 * list(range(ITEMS // 4)))


def test_a_thread_pool_that_is_cancelled():
    """It drains its queue with `get_nowait` until `Empty`."""
    go_on, began = threading.Event(), threading.Event()
    pool = pool_on(Queue, 1)
    first = pool.submit(lambda: began.set() or go_on.wait(WATCHDOG))
    others = [pool.submit(square, number) for number in range(1000)]
    assert began.wait(WATCHDOG)
    pool.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    assert first.result(WATCHDOG)
    assert all(other.cancelled() for other in others)


def test_a_thread_pool_whose_workers_cannot_start():
    pool = pool_on(Queue, 1, initializer=lambda: 1 / 0)
    logging.getLogger("concurrent.futures").disabled = True
    try:
        with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
            pool.submit(square, 1).result(WATCHDOG)
    finally:
        logging.getLogger("concurrent.futures").disabled = False
        pool.shutdown()


def test_a_thread_pool_that_is_forgotten():
    """Its end is a weak reference's callback that puts into the queue, wherever the collector happens to run."""
    pool = pool_on(Queue, 3)
    assert list(pool.map(square, range(100))) == list(map(square, range(100)))
    threads, gone = list(pool._threads), weakref.ref(pool)
    del pool
    gc.collect()
    wait_until(lambda: gone() is None, "the pool's end")  # a worker holds it while it looks whether to go on
    for thread in threads:
        thread.join(WATCHDOG)
        assert not thread.is_alive()


def leave_a_thread_pool():
    """A program that ends without having waited for its pool: all of the work is done nevertheless."""
    pool = pool_on(Queue, 2)
    done = []
    for number in range(ITEMS):
        pool.submit(done.append, number)
    last = pool.submit(lambda: None)
    last.add_done_callback(lambda _: print("the last"))


@thorough
def test_a_thread_pool_at_the_end_of_the_program():
    assert "the last" in run_python("from test_queue_programs import leave_a_thread_pool; leave_a_thread_pool()")


def test_the_pattern_of_the_documentation_with_the_module_replaced():
    """`import f1buf as queue`, then workers, `task_done` and `join`."""
    queue = f1buf
    q, done = queue.Queue(), []

    def worker():
        while True:
            try:
                item = q.get(timeout=WATCHDOG)
            except queue.ShutDown:
                return
            done.append(item)
            q.task_done()

    workers = [Task(worker) for _ in range(2)]
    for item in range(ITEMS):
        q.put(item)
    q.join()
    assert sorted(done) == list(range(ITEMS))
    q.shutdown()
    for task in workers:
        task.result()


# python-can -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def can():
    return pytest.importorskip("can", reason="python-can is not installed (the extra 'test' has it)")


def reader_on(can, kind):
    """A BufferedReader whose buffer is of that class: it makes a `SimpleQueue()` otherwise."""
    with mock.patch("can.listener.SimpleQueue", kind):
        reader = can.BufferedReader()
    assert type(reader.buffer) is kind
    return reader


def numbered(can, number):
    return can.Message(arbitration_id=0x123, data=number.to_bytes(8, "big"))


def number_of(message):
    return int.from_bytes(message.data, "big")


def test_a_buffered_reader(can):
    reader = reader_on(can, Queue)
    feeder = Task(lambda: [reader.on_message_received(numbered(can, number)) for number in range(ITEMS)])
    assert [number_of(reader.get_message(timeout=WATCHDOG)) for _ in range(ITEMS)] == list(range(ITEMS))
    feeder.result()
    assert reader.get_message(timeout=0.01) is None
    assert reader.get_message(timeout=0) is None


def test_a_buffered_reader_that_is_stopped(can):
    """Then it does not wait any more."""
    reader = reader_on(can, Queue)
    for number in range(3):
        reader.on_message_received(numbered(can, number))
    reader.stop()
    assert [number_of(reader.get_message()) for _ in range(3)] == [0, 1, 2]
    assert reader.get_message(timeout=3600) is None


@thorough
def test_a_buffered_reader_behind_a_bus_and_a_notifier(can):
    """Messages by way of a bus; the notifier's thread puts, the main thread gets."""
    reader, received = reader_on(can, Queue), []
    with can.Bus(interface="virtual", channel="f1buf") as bus, can.Bus(interface="virtual", channel="f1buf") as other:
        notifier = can.Notifier(bus, [reader], timeout=0.01)
        sender = Task(lambda: [other.send(numbered(can, number)) for number in range(ITEMS)])
        while len(received) < ITEMS:
            received.append(number_of(reader.get_message(timeout=WATCHDOG)))
        sender.result()
        notifier.stop()
    assert received == list(range(ITEMS))
