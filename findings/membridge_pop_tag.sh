#!/usr/bin/env bash
# membridge 1.0.0: a pop whose tag does not fit the message raises, and the message is gone.
#
# One would expect to find it there, to read it by another tag. And where it is long enough, any tag fits: what was
# pushed as a number comes out as another one, since a message does not say of which type it is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install membridge==1.0.0
found=$(timeout 60 venv/bin/python - "/finding-$$" <<'PYTHON'
import sys

from membridge import SharedMemory

memory = SharedMemory.create(sys.argv[1], 64 + 24)
try:
    ring = memory.spsc()
    ring.push(b"abc")
    try:
        ring.pop("int")
    except ValueError:
        print(f"raised, then {ring.pop()}", end="; ")
    ring.push(1.0)
    print(ring.pop("int"))
finally:
    SharedMemory.remove(sys.argv[1])
PYTHON
)
echo "membridge 1.0.0, b'abc' as an int, then 1.0 as an int: $found"
[[ $found == "raised, then None; 4607182418800017408" ]] || { echo "the behaviour has changed" >&2; exit 1; }
