#!/usr/bin/env bash
# iceoryx2 0.10.0: "retry until delivered" does not hold for a subscriber that has not yet called receive.
#
# A publisher without safe overflow, whose strategy is RetryUntilDelivered, waits where a subscriber's buffer is full.
# But a subscriber learns of a publisher that came after it only by its own next receive(). Until then send_copy fills
# the buffer, and after that returns 0 at once: what it sends is gone, and no error says so. One receive() that finds
# nothing, before the publisher sends, makes all the difference. So a consumer has to look once after each producer has
# come, and a producer has to look at what send_copy returns.
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
sys.stdin.readline()  # now the publisher is there
if sys.argv[2] == "looks":
    assert subscriber.receive() is None
print("busy", flush=True)
time.sleep(1)
came = []
until = time.monotonic() + 2
while time.monotonic() < until and len(came) < 5:
    if (sample := subscriber.receive()) is not None:
        came.append(sample.payload().contents.value)
        sample.delete()
print(came, flush=True)
PYTHON
cat >publisher.py <<'PYTHON'
import ctypes
import subprocess
import sys

from service import service

for number, how in enumerate(("looks", "does not look")):
    name = f"{sys.argv[1]}-{number}"
    command = [sys.executable, "subscriber.py", name, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as subscriber:
        subscriber.stdout.readline()
        publisher = service(name).publisher_builder().create()
        subscriber.stdin.write("\n")
        subscriber.stdin.flush()
        subscriber.stdout.readline()
        reached = [publisher.send_copy(ctypes.c_uint64(i)) for i in range(5)]
        strategy = publisher.backpressure_strategy
        print(f"{how}: {strategy}, reached {reached}, came {subscriber.stdout.readline().strip()}")
PYTHON
found=$(timeout 60 venv/bin/python publisher.py "finding-$$")
echo "iceoryx2 0.10.0, five samples, a buffer of two:"
echo "$found"
expected="looks: RetryUntilDelivered, reached [1, 1, 1, 1, 1], came [0, 1, 2, 3, 4]
does not look: RetryUntilDelivered, reached [1, 1, 0, 0, 0], came [0, 1]"
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
