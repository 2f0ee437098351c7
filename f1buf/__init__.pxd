# cython: language_level=3
"""What other projects may cimport: `from f1buf cimport RingBuffer, Outcome, deadline_after`; see `_ring.pxd`.

In C++17 (`# distutils: language = c++`), with `f1buf.get_include()` among the include folders.
"""

from f1buf._ring cimport Outcome, RingBuffer, deadline_after
from f1buf._sync cimport FOREVER, now_ns
