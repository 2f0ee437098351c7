"""Builds `limits.pyx` when it is first needed, and loads it.

It is built in ``build/bench`` of the checkout, again when its text changes, for each interpreter. That takes a C++
compiler, Cython and setuptools.
"""

from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

BUILD = Path(__file__).parents[1] / "build" / "bench"


@cache
def limits() -> ModuleType:
    """The compiled module; SystemExit, saying what is missing, where it cannot be built."""
    try:
        import pyximport

        importers = pyximport.install(build_dir=BUILD, setup_args={"include_dirs": [np.get_include()]})
        import limits
    except ImportError as error:
        needs = "the comparison needs a C++ compiler, and: pip install 'f1buf[bench]'"
        raise SystemExit(f"bench/limits.pyx cannot be built; {needs}  ({error})") from error
    pyximport.uninstall(*importers)
    return limits
