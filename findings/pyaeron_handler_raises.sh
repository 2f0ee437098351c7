#!/usr/bin/env bash
# pyaeron 0.1.0: where a handler raises, the messages behind that one are lost, as many as the poll would have handed
# out.
#
# Subscription.poll(handler, limit) raises what the handler raised. One would expect the next poll to go on with the
# next message. It goes on behind the whole run of messages that it had looked at: of five the handler has two, and
# raises at the second; the other three never come. With a limit of one nothing is lost. (Aeron's own C client cannot
# meet this: its handlers raise nothing.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for python in python3 python3.12 python3.13 "$HOME"/.pyenv/versions/3.1[23].*/bin/python; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break  # it has wheels from 3.12 on
done
"$python" -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install pyaeron==0.1.0
found=$(timeout 60 venv/bin/python - "$folder/driver" <<'PYTHON'
import sys
import time

import pyaeron

came = []


def handle(message, _header):
    came.append(message.tobytes())
    if came[-1] == b"1":
        raise KeyError("a reading that the program does not know")


def all_of(subscription, limit):
    """What the handler gets of five messages; what it raises is passed over."""
    came.clear()
    for number in range(5):
        while not publication.offer(b"%d" % number):
            time.sleep(0.001)
    for _ in range(20):
        try:
            subscription.poll(handle, limit)
        except KeyError:
            pass
        time.sleep(0.01)
    return [int(each) for each in came]


driver = pyaeron.MediaDriver()
client = pyaeron.Aeron(dir=driver.dir)
publication = client.add_exclusive_publication(pyaeron.IPC_CHANNEL, 7)
subscription = client.add_subscription(pyaeron.IPC_CHANNEL, 7)
subscription.await_connected(10.0)
publication.await_connected(10.0)
print(f"at most 64 a poll: {all_of(subscription, 64)}; one: {all_of(subscription, 1)}")
client.close()
driver.close()
PYTHON
)
echo "pyaeron 0.1.0, five messages, the handler raises at 1; $found"
[[ $found == "at most 64 a poll: [0, 1]; one: [0, 1, 2, 3, 4]" ]] || { echo "the behaviour has changed" >&2; exit 1; }
