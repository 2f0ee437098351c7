from typing import Any, Literal, Self

from numpy.typing import DTypeLike
from typing_extensions import disjoint_base

from f1buf.ring.ring import RingBuffer

__all__ = ["SharedRingBuffer"]

@disjoint_base
class SharedRingBuffer(RingBuffer):
    def __init__(
        self,
        capacity: int,
        dtype: DTypeLike = ...,
        *,
        name: str | None = None,
        overflow: Literal["block", "drop_oldest", "drop_newest"] = "block",
    ) -> None: ...
    @classmethod
    def attach(cls, name: str, *, timeout: float | None = None) -> Self: ...
    def close(self) -> None: ...
    def unlink(self) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def attached(self) -> list[int]: ...
    def _will_put(self) -> None: ...
    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]: ...
    def __del__(self) -> None: ...
