#!/usr/bin/env bash
# iceoryx2 0.10.0: a send that waits for a slow subscriber keeps the GIL, so every thread of its process stands still.
#
# Its other waits (a listener's timed_wait, a wait set, node.wait) let other threads run. send_copy with the strategy
# RetryUntilDelivered does not: in a process with a thread that ticks a thousand times a second that thread ticks next
# to never while a send waits a second for another process.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install iceoryx2==0.10.0
cat >service.py <<'PYTHON'
import ctypes

import iceoryx2 as iox2

iox2.set_log_level(iox2.LogLevel.Error)
node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)


def service(name):
    made = node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(ctypes.c_uint64)
    return made.enable_safe_overflow(False).subscriber_max_buffer_size(2).open_or_create()
PYTHON
cat >subscriber.py <<'PYTHON'
import sys
import time

from service import service

subscriber = service(sys.argv[1]).subscriber_builder().create()
print("subscribed", flush=True)
sys.stdin.readline()
assert subscriber.receive() is None
print("busy", flush=True)
time.sleep(1)
until = time.monotonic() + 2
while time.monotonic() < until:
    if (sample := subscriber.receive()) is not None:
        sample.delete()
PYTHON
found=$(timeout 60 venv/bin/python - "finding-$$" <<'PYTHON'
import ctypes
import subprocess
import sys
import threading
import time

from service import iox2, node, service

ticks = 0


def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.001)


def ticks_during(wait):
    before = ticks
    wait()
    return ticks - before


threading.Thread(target=tick, daemon=True).start()
command = [sys.executable, "subscriber.py", sys.argv[1]]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as subscriber:
    subscriber.stdout.readline()
    publisher = service(sys.argv[1]).publisher_builder().create()
    subscriber.stdin.write("\n")
    subscriber.stdin.flush()
    subscriber.stdout.readline()
    began = time.monotonic()
    sent = ticks_during(lambda: [publisher.send_copy(ctypes.c_uint64(i)) for i in range(3)])
    waited = time.monotonic() - began
    slept = ticks_during(lambda: node.wait(iox2.Duration.from_secs(1)))
print(f"waited: {waited > 0.5}; ticks during the send: {'under 20' if sent < 20 else sent}; "
      f"during node.wait: {'over 200' if slept > 200 else slept}")
PYTHON
)
echo "iceoryx2 0.10.0: $found"
[[ $found == "waited: True; ticks during the send: under 20; during node.wait: over 200" ]] || {
  echo "the behaviour has changed" >&2
  exit 1
}
