"""A run of trio, as an event loop on which coroutines wait: what `loop.pyx` asks of asyncio's, with the same names.

Imported where trio is in use already, and its tasks must wait.
"""

import sys
from collections.abc import Callable, Generator
from importlib import import_module
from typing import Any

trio: Any = import_module("trio")  # so that a type check needs no trio
lowlevel = trio.lowlevel
current_task = lowlevel.current_task


class Future:
    """What a coroutine awaits: at most one, and once."""

    __slots__ = ("_done", "_task")

    def __init__(self) -> None:
        self._done = False
        self._task: Any = None

    def __await__(self) -> Generator[Any, Any, None]:
        if not self._done:
            self._task = current_task()
            yield from lowlevel.wait_task_rescheduled(self._abort).__await__()

    def _abort(self, _raise_cancel: object) -> Any:
        """The wait is cancelled: what is thrown into the coroutine lets it withdraw."""
        self._task = None
        return lowlevel.Abort.SUCCEEDED

    def done(self) -> bool:
        return self._done

    def set_result(self, _: None) -> None:
        self._done = True
        if self._task is not None:
            lowlevel.reschedule(self._task)
            self._task = None


class Run:
    """One run: lives as long as that, as a `RunVar`."""

    create_future = Future

    def checkpoint(self) -> Generator[Any, Any, None]:
        """What `await` of a pause iterates."""
        pause: Generator[Any, Any, None] = lowlevel.checkpoint().__await__()
        return pause

    def add_reader(self, file: int, ring: Callable[[], None]) -> None:
        """
        Call `ring` whenever the file is readable, until the run ends.

        A task of its own polls it: several must not wait for the same file. Only that task refers to `ring`, so that
        the bell goes with it. That is when trio cancels the system tasks, after all others have ended; one that waits
        there shielded from that would never be woken.
        """
        try:
            lowlevel.spawn_system_task(self._listen, file, ring, name="f1buf waits for its buffers")
        except RuntimeError as error:
            raise RuntimeError("this run of trio is about to end; nothing more can wait in it") from error

    async def _listen(self, file: int, ring: Callable[[], None]) -> None:
        try:
            while True:
                await lowlevel.wait_readable(file)
                ring()
        finally:
            del ring  # else it would live on in the traceback of the run's end


own = lowlevel.RunVar("f1buf")


def current_run() -> Run | None:
    """Of the trio task that runs here; None where none does, or where in it a loop of asyncio's does (trio-asyncio)."""
    try:
        current_task()
    except RuntimeError:
        return None
    sniffio: Any = sys.modules.get("sniffio")  # trio and others note there which of them runs
    if sniffio is not None and sniffio.thread_local.name not in ("trio", None):
        return None
    try:
        run: Run = own.get()
    except LookupError:
        run = Run()
        own.set(run)
    return run
