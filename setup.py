"""The extension modules. Everything else about the package is in pyproject.toml.

Three switches in the environment:

F1BUF_DEBUG=1         bounds checks, invariants checked after every operation; no line tracing, which takes the GIL
                      under locks
F1BUF_SANITIZE=NAME   gcc's or clang's -fsanitize=NAME: thread, address, undefined, ...
F1BUF_UNTRIED=1       build also where nobody has tried it
"""

import os
import platform
import struct
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tools"))
from where import why_not

if refusal := why_not():
    sys.exit(refusal)

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

debug = os.environ.get("F1BUF_DEBUG", "0") not in ("", "0")
sanitizer = os.environ.get("F1BUF_SANITIZE", "")

compile_args = ["-std=c++17", "-O1" if debug or sanitizer else "-O3"]
# A seed gives the same readings on every processor, to the last bit: no fused multiply and add, and on 32 bits of x86
# no registers of 80 bits.
compile_args += ["-ffp-contract=off"]
if struct.calcsize("P") == 4 and platform.machine().endswith("86"):
    compile_args += ["-msse2", "-mfpmath=sse"]
link_args = ["-pthread"]

macros = [("F1BUF_DEBUG", "1" if debug else "0")]
if sanitizer:
    compile_args += [f"-fsanitize={sanitizer}", "-g", "-fno-omit-frame-pointer"]
    link_args += [f"-fsanitize={sanitizer}"]

directives = {
    "language_level": 3,
    "binding": False,  # plain C functions: a call costs a third of a bound one's
    "autotestdict": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",  # so that inspect.signature works all the same
    "freethreading_compatible": True,  # rests on the ThreadSanitizer runs of the test suite
    "boundscheck": debug,
    "wraparound": debug,
    "initializedcheck": debug,
    "cdivision": True,
}

modules = [
    "f1buf.core.sync",
    "f1buf.core.loop",
    "f1buf.ring.ring",
    "f1buf.ring.shared",
    "f1buf.queue.queue",
    "f1buf.telemetry.ramps",
    "f1buf.telemetry.thresholds.scan",
    "f1buf.telemetry.sources.game.udp",
]

extensions = [
    Extension(
        name,
        [name.replace(".", "/") + ".pyx"],
        depends=[
            "f1buf/core/sync.hpp",
            "f1buf/queue/awaited.pxi",
            "f1buf/queue/fast.pxi",
            "f1buf/queue/heap.hpp",
            "f1buf/queue/mutex.pxi",
            "f1buf/core/arrays.hpp",
            "f1buf/ring/blocks.pxi",
            "f1buf/ring/copy.hpp",
            "f1buf/ring/packer.pxi",
            "f1buf/ring/segment.hpp",
            "f1buf/ring/sides.pxi",
            "f1buf/ring/watcher.pxi",
            "f1buf/core/int.hpp",
            "f1buf/core/interpreter.hpp",
            "f1buf/telemetry/reading.hpp",
        ],
        include_dirs=["f1buf", numpy.get_include()],
        language="c++",
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
    )
    for name in modules
]

setup(ext_modules=cythonize(extensions, compiler_directives=directives, force=debug or bool(sanitizer)))
