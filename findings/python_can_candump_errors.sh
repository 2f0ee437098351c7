#!/usr/bin/env bash
# python-can 4.6.1: the error frames in a log of candump -L (-e) come as data frames of extended ids, all but one class.
#
# SocketCAN sets bit 29 of the id for an error frame, and others for its class: 20000004 is a controller's problem,
# 20000040 "bus off". CanutilsLogReader calls a frame an error frame only if the class is "bus error", 80, as in what
# CanutilsLogWriter writes (can/io/canutils.py:103): of the others it cuts the flag off, and id 4 or 40 is left, with the
# details of the error as data. Of the one that it knows id, channel and data get lost instead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import can

with open("drive.log", "w") as log:
    log.write(
        "(1.000000) can0 20000004#0004000000000000\n"
        "(2.000000) can0 20000040#0000000000000000\n"
        "(3.000000) can0 20000088#0000080000000000\n"
    )
for message in can.LogReader("drive.log"):
    kind = "error" if message.is_error_frame else "data"
    print(f"{kind} {message.arbitration_id:08X} {message.channel} {message.data.hex()}", end="; ")
PYTHON
)
echo "python-can 4.6.1, three error frames: $found"
expected="data 00000004 can0 0004000000000000; data 00000040 can0 0000000000000000; error 00000000 None ; "
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
