#!/usr/bin/env bash
# msgq-ipc 1.0: where a publisher takes the place of another one, subscribers lose what they have not read, and what
# comes next.
#
# The one that comes clears the list of subscribers. Each registers again by its next look, and begins behind all that
# was sent by then: a message that waited in the segment and all that the new publisher sent before that look are gone,
# and nothing tells. So a publisher that is started again after a crash is not heard from its first message on, however
# fast its subscribers are; it has to wait until all_readers_updated() says that somebody is there.
set -euo pipefail
folder=$(mktemp -d)
name=finding-$$
trap 'rm -rf "$folder" "/dev/shm/msgq_$name"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install msgq-ipc==1.0
found=$(timeout 60 venv/bin/python - "$name" <<'PYTHON' 2>/dev/null | grep -v "^Killing"
import sys

import msgq

first = msgq.pub_sock(sys.argv[1], segment_size=1 << 20)
subscriber = msgq.sub_sock(sys.argv[1], timeout=100, segment_size=1 << 20)
msgq.drain_sock_raw(subscriber)
first.send(b"waits in the segment")
second = msgq.pub_sock(sys.argv[1], segment_size=1 << 20)
for number in range(5):
    second.send(b"%d" % number)
known = [second.all_readers_updated()]
looks = [msgq.drain_sock_raw(subscriber)]
known.append(second.all_readers_updated())
second.send(b"5")
looks.append(msgq.drain_sock_raw(subscriber))
print(f"the first look gives {looks[0]}, the second {looks[1]}; all readers updated: before {known[0]}, then {known[1]}")
PYTHON
)
echo "msgq-ipc 1.0: $found"
[[ $found == "the first look gives [], the second [b'5']; all readers updated: before False, then True" ]] || {
  echo "the behaviour has changed" >&2
  exit 1
}
