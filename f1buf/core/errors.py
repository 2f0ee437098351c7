"""What puts and gets raise: `Empty` and `Full` of the standard library, and `ShutDown`, its own from Python 3.13 on."""

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


__all__ = ["Empty", "Full", "ShutDown"]
