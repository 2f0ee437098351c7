#!/usr/bin/env bash
# msgq-ipc 1.0: a subscriber that falls behind by one segment loses everything, also what the segment still holds.
#
# One would expect that it loses the oldest messages, and goes on with the oldest one that is there. It goes on with the
# next one that will be sent: of 1,100 messages of 1 kB in a segment of 1 MiB, which holds the newest thousand, it gets
# none; of 900 it gets all. No error, no count and no number tells.
set -euo pipefail
folder=$(mktemp -d)
name=finding-$$
trap 'rm -rf "$folder" "/dev/shm/msgq_$name"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install msgq-ipc==1.0
found=$(timeout 60 venv/bin/python - "$name" <<'PYTHON'
import sys

import msgq

publisher = msgq.pub_sock(sys.argv[1], segment_size=1 << 20)
subscriber = msgq.sub_sock(sys.argv[1], timeout=100, segment_size=1 << 20)
msgq.drain_sock_raw(subscriber)
said = []
for sent in (900, 1100):
    for _ in range(sent):
        publisher.send(bytes(1000))
    said.append(f"of {sent} came {len(msgq.drain_sock_raw(subscriber))}")
publisher.send(b"next")
print(*said, f"then {msgq.drain_sock_raw(subscriber)}", sep=", ")
PYTHON
)
echo "msgq-ipc 1.0: $found"
[[ $found == "of 900 came 900, of 1100 came 0, then [b'next']" ]] || { echo "the behaviour has changed" >&2; exit 1; }
