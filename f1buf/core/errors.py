"""What puts and gets raise.

`Empty` and `Full` are the standard library's, and `ShutDown` is, from Python 3.13 on. `Abandoned` is of shared rings.
"""

import sys

TYPE_CHECKING = False  # `typing` would be two thirds of what importing f1buf takes
if TYPE_CHECKING:
    from queue import Empty, Full
else:
    from f1buf.core.standard import Empty, Full, module

if sys.version_info >= (3, 13):
    if TYPE_CHECKING:
        from queue import ShutDown
    else:
        ShutDown = module.ShutDown
else:

    class ShutDown(Exception):  # noqa: N818 - the standard library's name
        """Raised by a put on a buffer that is shut down, and by a get once it is drained, too."""

        __module__ = "f1buf"


class Abandoned(ShutDown):
    """
    Raised where a call would wait for other processes that are all gone, and none of them shut the ring down.

    By a get of a `SharedRingBuffer`, where every process that has ever put into it was killed, or has closed it; and by
    a put, where every one is gone that has ever taken. The ring is not shut down: another process may attach and go on.
    """

    __module__ = "f1buf"


__all__ = ["Abandoned", "Empty", "Full", "ShutDown"]
