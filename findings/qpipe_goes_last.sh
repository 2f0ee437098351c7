#!/usr/bin/env bash
# qpipe-rs 1.8.2: what was under way to a consumer that closes is not lost, but comes last, behind all that was sent
# later.
#
# A consumer takes the first of ten messages and closes. The broker had sent it the second one by then, and puts that at
# the queue's end: the next consumer gets 2 to 9, then 1. With one producer and one consumer at a time the order is
# lost.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${broker:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install qpipe-rs==1.8.2
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
venv/bin/orchestrator "127.0.0.1:$port" 2>/dev/null &
broker=$!
found=$(timeout 60 venv/bin/python - "127.0.0.1:$port" <<'PYTHON'
import sys

import qpipe

address = sys.argv[1]
qpipe.wait_until_healthy(address, 30.0)
with qpipe.Producer.connect(address) as producer:
    for number in range(10):
        producer.send_bytes(b"%d" % number)
    with qpipe.Consumer.connect(address) as first:
        came = [int(first.recv_bytes())]
    with qpipe.Consumer.connect(address) as second:
        came += [int(second.recv_bytes()) for _ in range(9)]
print(came)
PYTHON
)
echo "qpipe-rs 1.8.2, ten messages, the second consumer from the second one on: $found"
[[ $found == "[0, 2, 3, 4, 5, 6, 7, 8, 9, 1]" ]] || { echo "the behaviour has changed" >&2; exit 1; }
