#!/usr/bin/env bash
# python-can 4.6.1: what it writes to a .trc file it reads from the next bus.
#
# The writer adds one to the channel, as PEAK's buses are counted from 1; the reader takes nothing away. With .asc and .blf
# the channel comes back. So a log that is copied moves by a bus each time, and a filter of channel 0 finds nothing in it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3
found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import can

for name in ("log.asc", "log.blf", "log.trc", "copy.trc"):
    before = can.Message(timestamp=1e9, arbitration_id=0x123, data=[1], is_extended_id=False, channel=0)
    if name == "copy.trc":
        with can.LogReader("log.trc") as log:
            (before,) = log
    with can.Logger(name) as log:
        log(before)
    with can.LogReader(name) as log:
        print(f"{name} {next(iter(log)).channel}", end=", " if name != "copy.trc" else "\n")
PYTHON
)
echo "python-can 4.6.1, the channel of a frame of channel 0: $found"
[[ $found == "log.asc 0, log.blf 0, log.trc 1, copy.trc 2" ]] || { echo "the behaviour has changed" >&2; exit 1; }
