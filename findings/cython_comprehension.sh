#!/usr/bin/env bash
# Cython 3.3.1: where the list of a comprehension cannot grow, its new element is dropped twice.
#
# A comprehension adds each element by a helper that gives up the element's reference whether it could be added or not.
# The caller takes the failure as if the reference were still its own, and gives it up again. (Seen for an element that was
# just computed; 3.2.9 drops it once.) Once memory has run out, an object is then freed that others still hold: on CPython
# 3.14 and 3.15 that ended the interpreter with a segmentation fault at the next tuple, on 3.11 only a count was wrong.
# Read in the C that Cython makes, so nothing fails and nothing crashes here. f1buf's compiled modules append in loops;
# `test_no_list_is_built_as_cython_gets_it_wrong` looks after that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf 'def made(things):\n    return [thing.me for thing in things]\n' >made.pyx

drops() { # drops VERSION: how often a failure to add the element drops it: in the helper, and in its caller
  python3 -m venv "$1"
  "$1/bin/pip" --quiet --disable-pip-version-check install "Cython==$1"
  "$1/bin/cython" -3 made.pyx -o "$1.c"
  "$1/bin/python" - "$1.c" <<'PYTHON'
import re
import sys

text = open(sys.argv[1]).read()
helper = call = False
if added := re.search(r"if \(unlikely\((__Pyx_ListComp_Append\w*)\(\w+, (?:\(PyObject\*\))?(__pyx_t_\d+)\)\)\) __PYX_ERR", text):
    name, element = added.groups()
    body = re.search(rf"int {name}\(PyObject\s?\*\s?list, PyObject\s?\*\s?x\) \{{(.*?)\n\}}", text, re.DOTALL)
    # behind the attempt that may fail, without a look at whether it has
    helper = bool(body and re.search(r"result = PyList_Append\(list, x\);\s*Py_DECREF\(x\);\s*return result;", body[1]))
    failed = text[added.end() :].partition("__pyx_L1_error:;")[2].partition("__pyx_L0:;")[0]
    call = f"__Pyx_XDECREF({element});" in failed
print(int(helper) + int(call))
PYTHON
}

for expected in 3.2.9:1 3.3.1:2; do
  version=${expected%:*} found=$(drops "${expected%:*}")
  echo "Cython $version: an element that could not be added is dropped $found times"
  [[ $found == "${expected#*:}" ]] || { echo "expected ${expected#*:}: the behaviour has changed" >&2; exit 1; }
done
