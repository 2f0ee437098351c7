# cython: language_level=3
"""What other projects may cimport: `from f1buf cimport RingBuffer, Outcome, deadline_after`; see `ring.pxd`.

In C++17 (`# distutils: language = c++`), with `f1buf.get_include()` among the include folders.
"""

from f1buf.core.sync cimport FOREVER, Outcome, now_ns
from f1buf.ring.ring cimport RingBuffer, deadline_after
