"""Where f1buf is built; setup.py, and what pip asks before it (backend.py), look here first."""

import os
import platform
import struct
import sys


def why_not() -> str:
    """Why f1buf is not built here, in a sentence that says what to do; empty where it is."""
    if reason := _reason():
        return f'f1buf {reason}. CONTRIBUTING.md, "A port", lists what it would take.'
    return ""


def _reason() -> str:
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
