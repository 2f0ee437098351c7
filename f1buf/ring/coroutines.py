"""The coroutine functions of `RingBuffer`: see `coroutines`."""

from collections.abc import AsyncIterator
from typing import Any

from f1buf.core.errors import Abandoned, ShutDown


class RingBuffer:
    _awaited_get_many: Any
    _awaited_put_many: Any

    async def aget_many(self, max_count: Any = None, *, min_count: Any = 1, return_seq: Any = False) -> Any:
        """
        `get_many` for coroutines: waits on the event loop, where that must be.

        Parameters
        ----------
        max_count, min_count, return_seq
            As in `get_many`.

        Returns
        -------
        numpy.ndarray, or (int, numpy.ndarray) with `return_seq`
            As `get_many`. After a shutdown it may be shorter than `min_count`.

        Raises
        ------
        ShutDown
            The ring is shut down and empty.
        ValueError
            `min_count` is out of range.

        Notes
        -----
        For coroutines of asyncio and of trio. One that is cancelled, by ``asyncio.timeout`` or a cancel scope too, has
        taken nothing. Where there is enough it takes it at once; other coroutines get a chance to run where it waits,
        and about once a millisecond.
        """
        return await self._awaited_get_many(max_count, min_count, return_seq)

    async def aput_many(self, records: Any) -> int:
        """
        `put_many` for coroutines: waits on the event loop, where that must be.

        Parameters
        ----------
        records : array-like of the dtype
            As in `put_many`. Must not change meanwhile.

        Returns
        -------
        int
            How many were accepted: fewer than given only where a shutdown ended it early.

        Raises
        ------
        ShutDown
            The ring was shut down before it had accepted one.
        TypeError, ValueError
            The records do not fit the dtype; nothing has changed.

        Notes
        -----
        A batch of at most the capacity, and at most 1 MiB, enters as a whole: the call waits until there is room for
        all of it, and a cancelled call (by ``asyncio.timeout`` or a cancel scope too) has put nothing. A larger batch
        enters in pieces of that size, and a cancellation may come between two of them. While the call waits, smaller
        puts may go first, and may do so again and again. Under a drop policy the call does not wait for room.
        """
        return await self._awaited_put_many(records)  # type: ignore[no-any-return]

    async def abatches(self, max_count: Any = None, *, min_count: Any = 1) -> AsyncIterator[Any]:
        """
        Iterate over batches until the ring is shut down and drained: ``async for batch in ring.abatches()``.

        Parameters
        ----------
        max_count, min_count
            As in `get_many`. Looked at when the first batch is asked for.

        Yields
        ------
        numpy.ndarray
            As `aget_many` returns it.
        """
        while True:
            try:
                batch = await self._awaited_get_many(max_count, min_count, False)
            except Abandoned:
                raise
            except ShutDown:
                return
            yield batch
