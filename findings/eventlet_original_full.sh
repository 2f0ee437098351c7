#!/usr/bin/env bash
# eventlet 0.41.3: of a queue that patcher.original("queue") gives, `except queue.Empty` catches Empty, and
# `except queue.Full` does not catch Full.
#
# `original` runs the module's file once more. Empty is C's (`queue.queue`), so that both have the same one; Full is made in
# the file, so that there are two classes of that name. (ShutDown, from Python 3.13 on, is made there, too.) The same with
# and without monkey_patch(). f1buf, which takes a private copy of `queue` where eventlet has left none, gives it the
# exceptions that all others catch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install eventlet==0.41.3 greenlet==3.5.6 dnspython==2.8.0

for patch in "" "eventlet.monkey_patch()"; do
  found=$(timeout 60 venv/bin/python -W ignore - "$patch" <<'PYTHON'
import queue
import sys

import eventlet
from eventlet import patcher

exec(sys.argv[1])
q = patcher.original("queue").Queue(1)
for name, call in ("Empty", q.get_nowait), ("Full", lambda: [q.put_nowait(item) for item in range(2)]):
    try:
        call()
    except getattr(queue, name):
        print(name, "is caught", end="; ")
    except Exception as error:
        print(type(error).__name__, "is not caught", end="; ")
PYTHON
  )
  echo "eventlet 0.41.3, ${patch:-not patched}: $found"
  [[ $found == "Empty is caught; Full is not caught; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
done
