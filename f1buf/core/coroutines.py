"""The coroutine functions of compiled classes: plain Python over compiled parts.

Of compiled ones `inspect` says that they are none: frameworks then run them in a thread, and drop the coroutine that
they return. And a compiled coroutine has no line numbers, nor a state, to be printed with the stack of a task.

Each is one ``return await``, and must stay it. The call makes something to await, and has done nothing yet; what is
awaited takes the item, or puts it. From there to the caller no bytecode looks for signals: a signal handler that raises
comes before anything is done, or when the caller has the result. (After any other call it could come in between, and
what was taken would be lost.)

The classes in `queue.coroutines` and `ring.coroutines` only hold the functions: the compiled modules put these into the
classes of the same name.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from typing import Any


def functions_of(holder: type) -> dict[str, Any]:
    """The coroutine functions that a class here holds, by name."""
    return {name: function for name, function in vars(holder).items() if isinstance(function, FunctionType)}
