"""The standard library's own `queue`: its classes and exceptions, whatever was patched when f1buf is imported.

`queue.Queue` may be gevent's or eventlet's by then, or a mock, and `queue` may be a file of the program's that hides
the standard one. f1buf's queues stand on the standard classes all the same. In this order:

1.  the class that `queue` has, where that is the standard one;
2.  the class that was there before: a program that imported it finds that f1buf's queues are instances of it;
3.  the class of a private copy, where the first is gone. Nothing holds what eventlet has replaced.

`f1buf/__init__.py` imports this module first, so a later patch changes nothing here.
"""

import os
import sys
from types import ModuleType

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from typing import Any


def is_standard(cls: "Any", name: str) -> bool:
    """Whether it is the class of that name: no other's, no subclass, and none of a copy on eventlet's own threading."""
    if type(cls) is not type or (cls.__dict__.get("__module__"), cls.__name__) != ("queue", name):
        return False
    scope = getattr(cls.__dict__.get("_put"), "__globals__", {})
    return scope.get("__name__") == "queue" and getattr(scope.get("threading"), "__name__", "threading") == "threading"


def living(name: str, base: type) -> "Any":
    """The standard class of that name, rather the one that is or was in `queue`; None where it is gone."""
    there: Any = sys.modules.get("queue")
    classes: list[Any] = [getattr(there, name, None), *base.__subclasses__()]
    found = [cls for cls in classes if is_standard(cls, name)]
    return min(found, key=lambda cls: cls._put.__globals__ is not getattr(there, "__dict__", None), default=None)


def owner(scope: "dict[str, Any]") -> "Any":
    """The module whose namespace that is; None where it is gone."""
    there = sys.modules.get("queue")
    if getattr(there, "__dict__", None) is scope:
        return there
    import gc

    modules = [each for each in gc.get_referrers(scope) if isinstance(each, ModuleType)]
    return next((each for each in modules if each.__dict__ is scope), None)


def spec_in(path: list[str] | None) -> "Any":
    """What the import system's finders have for `queue`: in these folders or archives, or, for None, anywhere."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return next(filter(None, (finder.find_spec("queue", path) for finder in finders)), None)


def standard_spec() -> "Any":
    """The one beside the standard `os`; a frozen program may have it elsewhere."""
    file = getattr(os, "__file__", None)
    return (file and spec_in([os.path.dirname(file)])) or spec_in(None)


def is_hidden() -> bool:
    """Whether ``import queue`` would run another file, which is left to the program."""
    standard, found = (getattr(spec, "origin", None) or "" for spec in (standard_spec(), spec_in(None)))
    return os.path.realpath(standard) != os.path.realpath(found)


def private_copy() -> "Any":
    """`queue` once more, which nobody else sees; its exceptions are those that all others catch."""
    from importlib.util import module_from_spec

    spec = standard_spec()
    copy = spec and module_from_spec(spec)
    if copy:
        spec.loader.exec_module(copy)
    if not all(is_standard(getattr(copy, name, None), name) for name in ("Queue", "LifoQueue", "PriorityQueue")):
        raise ImportError(
            f"f1buf stands on the standard library's queue.Queue, and finds only {sys.modules.get('queue')!r} and "
            f"{spec!r}; import f1buf before something else is put in their place, and name no file of yours queue.py"
        )
    for name in ("Empty", "Full", "ShutDown"):
        known = getattr(sys.modules.get("queue"), name, None)
        if isinstance(known, type) and known.__module__ in ("queue", "_queue"):
            setattr(copy, name, known)
    return copy


if "queue" not in sys.modules and not is_hidden():
    import queue  # noqa: F401 - for `living`
Queue: "Any" = living("Queue", object)
module: "Any" = Queue and owner(Queue._put.__globals__)
if not module:
    module = private_copy()
    Queue = module.Queue
LifoQueue, PriorityQueue = (living(name, Queue) for name in ("LifoQueue", "PriorityQueue"))
if not (LifoQueue and PriorityQueue):  # somebody holds Queue, and not all three
    copy = private_copy()
    copy.LifoQueue.__bases__ = copy.PriorityQueue.__bases__ = (Queue,)
    LifoQueue, PriorityQueue = LifoQueue or copy.LifoQueue, PriorityQueue or copy.PriorityQueue
Empty, Full = module.Empty, module.Full
try:
    import _queue
except ImportError:
    SimpleQueue: "Any" = module.SimpleQueue
else:
    SimpleQueue = _queue.SimpleQueue  # the one in C, which nobody replaces
