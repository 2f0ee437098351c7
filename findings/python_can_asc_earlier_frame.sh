#!/usr/bin/env bash
# python-can 4.6.1: of frames that it logs as .asc, one whose timestamp is before the first one's comes back 54 years
# later: at its whole Unix time among times that count from the log's start.
#
# ASCWriter subtracts the first timestamp only `if timestamp >= self.started` (can/io/asc.py:421). Frames come so when two
# adapters log to one file, each with a clock of its own or frames held back. Its docstring promises another thing: "If a
# message has a timestamp smaller than the previous one or None, it gets assigned the timestamp that was written for the
# last message." BLFWriter gives such a frame the first one's timestamp (blf.py:549, max(timestamp, 0)), CanutilsLogWriter
# that of the one before, TRCWriter and CSVWriter its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import can

for suffix in ".asc", ".blf", ".log", ".trc":
    with can.Logger("drive" + suffix) as log:
        for seconds in 10.0, 9.5, 11.0:
            log(can.Message(timestamp=1_700_000_000 + seconds, arbitration_id=1, data=[1], channel=0))
    print(suffix, *(message.timestamp for message in can.LogReader("drive" + suffix)), end="; ")
PYTHON
)
echo "python-can 4.6.1: $found"
expected=".asc 0.0 1700000009.5 1.0; "
expected+=".blf 1700000010.0 1700000010.0 1700000011.0; "
expected+=".log 1700000010.0 1700000010.0 1700000011.0; "
expected+=".trc 1700000010.0 1700000009.5 1700000011.0; "
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
