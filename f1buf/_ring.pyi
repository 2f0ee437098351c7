from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer, disjoint_base

from f1buf._stats import RingStats

__all__ = ["PeekedBlock", "ReservedBlock", "RingBuffer"]

@disjoint_base
class _Block(Buffer):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def array(self) -> NDArray[Any]: ...
    @property
    def first_seq(self) -> int: ...

class ReservedBlock(_Block):
    def commit(self, count: int) -> None: ...

class PeekedBlock(_Block):
    def consume(self, count: int) -> None: ...

@disjoint_base
class RingBuffer:
    def __init__(
        self,
        capacity: int,
        dtype: DTypeLike = ...,
        *,
        overflow: Literal["block", "drop_oldest", "drop_newest"] = "block",
    ) -> None: ...
    def put(self, record: Any, block: bool = True, timeout: float | None = None) -> None: ...
    def put_nowait(self, record: Any) -> None: ...
    def put_many(self, records: ArrayLike, block: bool = True, timeout: float | None = None) -> int: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def get_nowait(self) -> Any: ...
    @overload
    def get_many(
        self,
        max_count: int | None = None,
        *,
        min_count: int = 1,
        block: bool = True,
        timeout: float | None = None,
        return_seq: Literal[False] = False,
    ) -> NDArray[Any]: ...
    @overload
    def get_many(
        self,
        max_count: int | None = None,
        *,
        min_count: int = 1,
        block: bool = True,
        timeout: float | None = None,
        return_seq: Literal[True],
    ) -> tuple[int, NDArray[Any]]: ...
    @overload
    def get_into(
        self,
        out: NDArray[Any],
        *,
        min_count: int = 1,
        block: bool = True,
        timeout: float | None = None,
        return_seq: Literal[False] = False,
    ) -> int: ...
    @overload
    def get_into(
        self,
        out: NDArray[Any],
        *,
        min_count: int = 1,
        block: bool = True,
        timeout: float | None = None,
        return_seq: Literal[True],
    ) -> tuple[int, int]: ...
    def batches(
        self, max_count: int | None = None, *, min_count: int = 1, timeout: float | None = None
    ) -> Iterator[NDArray[Any]]: ...
    def reserve(self, n: int, block: bool = True, timeout: float | None = None) -> ReservedBlock: ...
    def peek(
        self, max_count: int | None = None, *, min_count: int = 1, block: bool = True, timeout: float | None = None
    ) -> PeekedBlock: ...
    @overload
    async def aget_many(
        self, max_count: int | None = None, *, min_count: int = 1, return_seq: Literal[False] = False
    ) -> NDArray[Any]: ...
    @overload
    async def aget_many(
        self, max_count: int | None = None, *, min_count: int = 1, return_seq: Literal[True]
    ) -> tuple[int, NDArray[Any]]: ...
    async def aput_many(self, records: ArrayLike) -> int: ...
    def abatches(self, max_count: int | None = None, *, min_count: int = 1) -> AsyncIterator[NDArray[Any]]: ...
    def snapshot(self, max_count: int | None = None) -> NDArray[Any]: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    def stats(self) -> RingStats: ...
    def shutdown(self, immediate: bool = False) -> None: ...
    def __len__(self) -> int: ...
    def __enter__(self) -> RingBuffer: ...
    # Shuts the ring down; with an exception at once, and what is left is discarded and counted.
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def overflow(self) -> Literal["block", "drop_oldest", "drop_newest"]: ...
    @property
    def is_shutdown(self) -> bool: ...
