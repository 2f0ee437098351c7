#!/usr/bin/env bash
# python-can 4.6.1: of an .asc log that Vector's tools wrote with transmit requests, each sent frame comes twice.
#
# The direction of a line is Rx, Tx or TxRq: a request to send, which a line with Tx follows once the frame was on the
# bus. ASCReader looks for `(Tx|Rx)` (can/io/asc.py:28), which the beginning of TxRq is, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import can

with open("drive.asc", "w") as log:
    log.write(
        "date Tue Nov 14 10:13:20.000 pm 2023\n"
        "base hex  timestamps absolute\n"
        "internal events logged\n"
        "Begin Triggerblock Tue Nov 14 10:13:20.000 pm 2023\n"
        "   0.100000 1  123             TxRq   d 2 01 02\n"
        "   0.100250 1  123             Tx   d 2 01 02\n"
        "End TriggerBlock\n"
    )
for message in can.LogReader("drive.asc"):
    print(message.timestamp, hex(message.arbitration_id), message.data.hex(), end="; ")
PYTHON
)
echo "python-can 4.6.1, one frame that was requested and then sent: $found"
[[ $found == "0.1 0x123 0102; 0.10025 0x123 0102; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
