#!/usr/bin/env bash
# python-can 4.6.1: an .asc log that begins 5 ms after a full second begins 500 ms after it when it is read.
#
# ASCWriter writes the milliseconds of the start without leading zeros (can/io/asc.py:386, `FORMAT_DATE.format(msec)`):
# 20.005 s becomes "20.5". A reader that takes that for a fraction, as its own ASCReader with relative_timestamp=False,
# shifts the whole log by up to 0.9 s; 1 log in 10 is hit. Against other logs of the same drive that is what counts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import can

for milliseconds in 5, 50, 500:
    start = 1_700_000_000 + milliseconds / 1000
    with can.Logger("drive.asc") as log:
        log(can.Message(timestamp=start, arbitration_id=1, data=[1], channel=0))
    (message,) = can.ASCReader("drive.asc", relative_timestamp=False)
    print(f"{start:.3f} comes back as {message.timestamp:.3f}", end="; ")
PYTHON
)
echo "python-can 4.6.1: $found"
expected="1700000000.005 comes back as 1700000000.500; 1700000000.050 comes back as 1700000000.500; "
expected+="1700000000.500 comes back as 1700000000.500; "
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
