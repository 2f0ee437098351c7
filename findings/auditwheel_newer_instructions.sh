#!/usr/bin/env bash
# auditwheel 6.8.2 says of a wheel for x86_64 whose module needs AVX2 that it is a manylinux one, without a word of that.
#
# It can tell: `show` has a field for instructions that the platform does not promise, and refuses by it. But it reads
# only a note that a linker writes where each object file has one (GNU_PROPERTY_X86_ISA_1_NEEDED), and gcc 12
# writes none: whatever `-march=` the build machine had set (CFLAGS, CPPFLAGS, its own default), the wheel passes, and
# ends in SIGILL on the processors that its tag promises. Needs gcc, and Python's headers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install auditwheel==6.8.2 setuptools==84.2.1 wheel==0.48.0
cat >fast.c <<'C'
#include <Python.h>
static PyObject *scaled(PyObject *self, PyObject *factor) {
  float values[4096];
  float by = (float)PyFloat_AsDouble(factor), sum = 0;
  for (int i = 0; i < 4096; i++) values[i] = i * by;
  for (int i = 0; i < 4096; i++) sum += values[i] > 3 ? values[i] : by;
  return PyFloat_FromDouble(sum);
}
static PyMethodDef methods[] = {{"scaled", scaled, METH_O, ""}, {0}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", "", 0, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
C
cat >setup.py <<'PYTHON'
from setuptools import Extension, setup

options = ["-O3", "-march=x86-64-v3"]
setup(name="fast", version="1", ext_modules=[Extension("fast", ["fast.c"], extra_compile_args=options)])
PYTHON
venv/bin/python setup.py --quiet bdist_wheel >/dev/null 2>&1
said=$(venv/bin/auditwheel show --json dist/*.whl | venv/bin/python -c '
import json, sys
told = json.load(sys.stdin)
print(told["overall_tag"].split("_")[0], told["unsupported_isa"])')
newer=$(objdump -d build/lib*/fast*.so | grep -c '%ymm')
echo "auditwheel: $said; instructions with registers of AVX in the module: $newer"
[[ $said == "manylinux False" && $newer -gt 0 ]] || { echo "the behaviour has changed" >&2; exit 1; }
