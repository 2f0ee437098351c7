#!/usr/bin/env bash
# global-buffer 1.1.3: numbers that the declared type cannot hold are written as others, without a word.
#
# A buffer declares its dtype, and `write` refuses another shape; but what has another dtype is converted as C does it:
# into uint8 300.7 goes in as 44, and -1 as 255. (The declaration reads like a check, as the shape's is one.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install global_buffer==1.1.3 numpy==2.4.6
found=$(timeout 60 venv/bin/python - "finding-$$" <<'PYTHON' 2>/dev/null
import sys

import global_buffer
import numpy as np

buffer = global_buffer.create(name=sys.argv[1], schema=global_buffer.ArraySpec(dtype="uint8", shape=(2,)), capacity=4)
reader = global_buffer.attach(sys.argv[1])
try:
    try:
        buffer.write(np.zeros(3, np.uint8))
        print("another shape is taken", end="; ")
    except ValueError:
        print("another shape is refused", end="; ")
    buffer.write(np.array([300, -1]))
    print(reader.next(timeout=5).tolist())
finally:
    buffer.close()
    global_buffer.unlink(sys.argv[1])
PYTHON
)
echo "global-buffer 1.1.3, [300, -1] into uint8: $found"
[[ $found == "another shape is refused; [44, 255]" ]] || { echo "the behaviour has changed" >&2; exit 1; }
