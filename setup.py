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


def why_not() -> str:
    """Why f1buf is not built here, in a sentence that says what to do; empty where it is."""
    bits = struct.calcsize("P") * 8
    machine = platform.machine()
    family = "x86" if machine in ("x86_64", "AMD64") or machine.endswith("86") else machine
    wsl = "; on Windows, use WSL" if sys.platform in ("win32", "cygwin") else ""
    if sys.platform != "linux":
        return f"runs on Linux alone (futexes, eventfd, locks of open files), and this is {sys.platform}{wsl}"
    if platform.python_implementation() != "CPython":
        return f"runs on CPython alone, and this is {platform.python_implementation()}: use CPython 3.11 or newer"
    if os.environ.get("F1BUF_UNTRIED", "0") not in ("", "0"):
        return ""
    anyway = "to build it all the same, set F1BUF_UNTRIED=1, and run its tests"
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return f"has been tried with glibc alone, and this is another C library (musl?); {anyway}"
    if (family, bits) not in {("x86", 64), ("x86", 32), ("aarch64", 64)}:
        return f"has been tried on x86_64, aarch64 and i386, and this is {machine} with {bits} bits; {anyway}"
    return ""


if refusal := why_not():
    sys.exit(f'f1buf {refusal}. CONTRIBUTING.md, "A port", lists what it would take.')

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
