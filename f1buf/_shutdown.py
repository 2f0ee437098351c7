"""`ShutDown`: the standard library's from Python 3.13 on, before that our own."""

import sys
from typing import TYPE_CHECKING

if sys.version_info >= (3, 13):
    if TYPE_CHECKING:
        from queue import ShutDown
    else:
        from f1buf._standard import module

        ShutDown = module.ShutDown
else:

    class ShutDown(Exception):  # noqa: N818 - the standard library's name
        """Raised by a put on a buffer that is shut down, and by a get once it is drained, too."""

        __module__ = "f1buf"


__all__ = ["ShutDown"]
