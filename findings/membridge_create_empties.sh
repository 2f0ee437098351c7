#!/usr/bin/env bash
# membridge 1.0.0: creating a segment whose name is in use succeeds, and its ring empties the other one's.
#
# SharedMemory.create does not refuse a name that exists: it opens what is there. spsc() on what was "created" then
# writes the ring's header anew, and the messages that wait in it are gone for the consumer that is attached. (spsc() on
# what was opened keeps them.) So a producer that is started again, as one that was killed is, throws away what it had
# handed over.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install membridge==1.0.0
found=$(timeout 60 venv/bin/python - "/finding-$$" <<'PYTHON'
import sys

from membridge import SharedMemory

name, size = sys.argv[1], 64 + 24
first = SharedMemory.create(name, size)
try:
    ring = first.spsc()
    ring.push(b"one")
    ring.push(b"two")
    opened = SharedMemory.open(name).spsc()
    used = [opened.used()]
    again = SharedMemory.create(name, size)
    used.append(opened.used())
    again.spsc()
    used.append(opened.used())
    print(f"used {used}, then {opened.pop()}")
finally:
    SharedMemory.remove(name)
PYTHON
)
echo "membridge 1.0.0, bytes used before, after create, after spsc: $found"
[[ $found == "used [14, 14, 0], then None" ]] || { echo "the behaviour has changed" >&2; exit 1; }
