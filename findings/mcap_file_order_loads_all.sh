#!/usr/bin/env bash
# mcap 1.6.0 reads a whole file into memory before it yields the first message, where messages are wanted as they come.
#
# iter_messages(log_time_order=False) of a seekable file puts the messages of each chunk behind all other chunks in its
# queue (mcap/_message_queue.py: InsertOrderQueue.push appends, reader.py: SeekingReader.iter_messages). So every chunk
# is decompressed, and every message is an object, before the first one is there. By log time, which is the default and
# has to sort, it holds one chunk at a time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install mcap==1.6.0 lz4==4.4.5 zstandard==0.25.0

found=$(timeout 60 venv/bin/python - <<'PYTHON'
import tracemalloc

from mcap.reader import make_reader
from mcap.writer import Writer

with open("a.mcap", "wb") as file:
    writer = Writer(file)  # chunks of 1 MiB
    writer.start()
    channel = writer.register_channel("/a", "json", 0)
    for time in range(200_000):
        writer.add_message(channel, time, b'{"value": 123456789.123456789}', time)
    writer.finish()
for order in True, False:
    with open("a.mcap", "rb") as file:
        tracemalloc.start()
        messages = make_reader(file).iter_messages(log_time_order=order)
        next(messages)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print("by log time:" if order else "as they come:", "much" if peak > 40_000_000 else "little", end="; ")
PYTHON
)
echo "mcap 1.6.0, memory for the first of 200,000 messages: $found"
[[ $found == "by log time: little; as they come: much; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
