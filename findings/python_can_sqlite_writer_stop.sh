#!/usr/bin/env bash
# python-can 4.6.1: a .db log that is closed has only the next 501 of the messages that still wait to be written.
#
# SqliteWriter.stop says that it writes all remaining messages. Its thread writes at most 501 at once and looks after each
# such piece whether it is to end (can/io/sqlite.py:147); once stop was called it ends with the piece that it is at. A bus
# that is busy for a moment before the log is closed is enough. Nothing is raised or logged, and `num_frames` counts what
# was written, so the rest goes unsaid. Logs in other formats of the same bus have every message.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import sqlite3

import can

COUNT = 20_000
for name in "drive.db", "drive.log":
    with can.Logger(name) as log:
        for n in range(COUNT):
            log(can.Message(timestamp=1_700_000_000 + n / 1000, arbitration_id=n % 2000, data=[1], channel=0))
((kept,),) = sqlite3.connect("drive.db").execute("SELECT count(*) FROM messages")
with open("drive.log") as text:
    lines = sum(1 for _ in text)
print(f"of {COUNT:,} messages the .log has {'all' if lines == COUNT else 'some'}, the .db {'all' if kept == COUNT else 'some'}")
PYTHON
)
echo "python-can 4.6.1: $found"
[[ $found == "of 20,000 messages the .log has all, the .db some" ]] || { echo "the behaviour has changed" >&2; exit 1; }
