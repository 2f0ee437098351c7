"""Builds `limits.pyx` when it is first needed, and loads it.

It is built in ``build/bench`` of the checkout (a temporary folder where that cannot be written), once for each
version of its text, interpreter and numpy. That takes a C++ compiler, Cython and setuptools.
"""

import hashlib
import importlib.util
import os
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

SOURCE = Path(__file__).with_name("limits.pyx")
NEEDS = "limits.pyx cannot be built; the comparison needs a C++ compiler, and: pip install 'f1buf[bench]'"


@cache
def limits() -> ModuleType:
    """The compiled module; SystemExit, saying what is missing, where it cannot be built."""
    key = f"{SOURCE.read_text()}{sys.version}{np.__version__}"
    folder = _folder(hashlib.sha256(key.encode()).hexdigest()[:16])
    built = folder / f"limits{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not built.exists():
        _build(folder, built)
    spec = importlib.util.spec_from_file_location("limits", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _folder(name: str) -> Path:
    for root in (SOURCE.parents[1] / "build" / "bench", Path(tempfile.gettempdir()) / "f1buf-bench"):
        folder = root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise SystemExit("limits.pyx cannot be built: no folder to build it in can be written")


def _build(folder: Path, built: Path) -> None:
    print("building bench/limits.pyx (once) ...", file=sys.stderr)
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
    except ImportError as error:
        raise SystemExit(f"{NEEDS}  ({error})") from None
    extension = Extension(
        "limits",
        [str(SOURCE)],
        include_dirs=[np.get_include()],
        language="c++",
        extra_compile_args=["-O3", "-std=c++17"],
        extra_link_args=["-pthread"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    )
    with tempfile.TemporaryDirectory(dir=folder) as work:
        try:
            modules = cythonize([extension], build_dir=work, quiet=True)
            distribution = Distribution({"name": "limits", "ext_modules": modules, "verbose": False})
            command = distribution.get_command_obj("build_ext")
            command.build_lib, command.build_temp = work, work
            command.ensure_finalized()
            command.run()
            os.replace(next(Path(work).rglob(built.name)), built)  # whole, or not at all
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[-1]
            raise SystemExit(f"{NEEDS}  ({type(error).__name__}: {said})") from error
