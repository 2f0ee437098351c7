"""The coroutine functions of `Queue`: see `coroutines`."""

from collections.abc import Iterable

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from typing import Any


class Queue:
    _awaited_get: "Any"
    _awaited_put: "Any"
    _awaited_join: "Any"
    _awaited_get_many: "Any"
    _awaited_put_many: "Any"

    async def aget(self) -> object:
        """
        Remove and return an item, as `get` for coroutines: waits on the event loop, where that must be.

        Raises
        ------
        ShutDown
            The queue has been shut down and is empty.

        Notes
        -----
        For coroutines of asyncio and of trio. One that is cancelled, by ``asyncio.timeout`` or a cancel scope too, has
        taken nothing. Where there is an item it is taken at once; other coroutines get a chance to run where it waits,
        and about once a millisecond. Does not call `get`: a subclass that overrides that overrides this, too.
        """
        return await self._awaited_get()

    async def aput(self, item: object) -> None:
        """
        Put an item, as `put` for coroutines: waits on the event loop, where that must be.

        Raises
        ------
        ShutDown
            The queue is shut down.

        Notes
        -----
        For coroutines of asyncio and of trio. One that is cancelled, by ``asyncio.timeout`` or a cancel scope too, has
        put nothing. Where there is room the item is put at once; other coroutines get a chance to run where it waits,
        and about once a millisecond. Does not call `put`: a subclass that overrides that overrides this, too.
        """
        return await self._awaited_put(item)  # type: ignore[no-any-return]

    async def aget_many(self, max_count: int | None = None, *, min_count: int = 1) -> list[object]:
        """
        `get_many` for coroutines: wait for `min_count` items, on the event loop, then take what is there.

        Parameters
        ----------
        max_count, min_count
            As in `get_many`.

        Returns
        -------
        list
            Oldest item first. After a shutdown it may be shorter than `min_count`.

        Raises
        ------
        ShutDown
            The queue has been shut down and is empty.
        ValueError
            `min_count` or `max_count` is out of range.

        Notes
        -----
        Cancelled, it has taken nothing; when it lets others run is said at `aget`.
        """
        return await self._awaited_get_many(max_count, min_count)  # type: ignore[no-any-return]

    async def aput_many(self, items: Iterable[object]) -> int:
        """
        `put_many` for coroutines: waits on the event loop, where that must be.

        Parameters
        ----------
        items : iterable
            Taken as a tuple first.

        Returns
        -------
        int
            How many were put: fewer than given only where a shutdown, or a lack of memory, ended it early.

        Raises
        ------
        ShutDown
            The queue was shut down before one was put.

        Notes
        -----
        Up to `maxsize` they are put together: it waits until there is room for all of them, and if it is cancelled,
        none has been put. Of more, as many are put at a time: a cancellation comes between. Smaller puts of others may
        go first meanwhile, again and again where they leave no such room. When it lets others run is said at `aput`.
        A converted queue puts one after the other: if it is cancelled some may have been put.
        """
        return await self._awaited_put_many(items)  # type: ignore[no-any-return]

    async def ajoin(self) -> None:
        """Wait, on the event loop, until `task_done` has been called for every item that was put."""
        return await self._awaited_join()  # type: ignore[no-any-return]
