#!/usr/bin/env bash
# global-buffer 1.1.3: a sample whose filling raised is published all the same, half of it from what was there before.
#
# `with buffer.reserve() as view` publishes in its `finally`. Where the block raises (a sensor that cannot be read),
# readers get a sample of which the rest is the slot's older content, and it has a number like any other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install global_buffer==1.1.3 numpy==2.4.6
found=$(timeout 60 venv/bin/python -W ignore - "finding-$$" <<'PYTHON' 2>/dev/null
import sys

import global_buffer
import numpy as np

buffer = global_buffer.create(name=sys.argv[1], schema=global_buffer.ArraySpec(dtype="f8", shape=(3,)), capacity=1)
reader = global_buffer.attach(sys.argv[1])
came = []
try:
    for value in (1.0, 2.0):  # each of the two slots has been written once
        buffer.write(np.full(3, value))
        came.append(reader.next(timeout=5).tolist())
    try:
        with buffer.reserve() as view:
            view[0] = 3.0
            raise OSError("the sensor does not answer")
    except OSError:
        came.append(reader.next(timeout=5).tolist())
finally:
    buffer.close()
    global_buffer.unlink(sys.argv[1])
print(came)
PYTHON
)
echo "global-buffer 1.1.3, two whole samples, then one whose block raised after its first number: $found"
[[ $found == "[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 1.0, 1.0]]" ]] || {
  echo "the behaviour has changed" >&2
  exit 1
}
