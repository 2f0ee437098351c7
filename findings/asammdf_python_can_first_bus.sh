#!/usr/bin/env bash
# asammdf 8.8.28 cannot choose the first bus of an .mf4 log that python-can 4.6.1 wrote: a reader that asks for it gets all.
#
# python-can counts buses from 0, and writes that (can/io/mf4.py:248), while its BLF, ASC and TRC writers add 1, as "many
# interfaces start channel numbering at 0 which is invalid". To extract_bus_logging 0 means any bus (asammdf/mdf.py:6105).
# So where an id is another message on each bus, the other buses' frames are decoded by the first one's database, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install python-can==4.6.1 packaging==26.4 typing_extensions==4.16.0 wrapt==1.17.3 asammdf==8.8.28 canmatrix==1.2 numpy==2.4.6 pandas==3.1.1

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import asammdf
import can

with can.Logger("drive.mf4") as log:
    for bus in 0, 1:
        log(can.Message(timestamp=1_700_000_000.0 + bus, arbitration_id=1, is_extended_id=False, data=[10 + bus], channel=bus))
with open("bus.dbc", "w") as database:
    database.write('VERSION ""\nNS_ :\nBS_:\nBU_: ECU\nBO_ 1 M: 1 ECU\n SG_ V : 0|8@1+ (1,0) [0|0] "" ECU\n')
for bus in 0, 1:
    extracted = asammdf.MDF("drive.mf4").extract_bus_logging({"CAN": [("bus.dbc", bus)]})
    values = [sample for group, _ in extracted.channels_db["V"] for sample in extracted.get("V", group=group).samples]
    print(f"of bus {bus}:", *sorted(map(int, values)), end="; ")
PYTHON
)
echo "asammdf 8.8.28, a value 10 on bus 0 and 11 on bus 1: $found"
[[ $found == "of bus 0: 10 11; of bus 1: 11; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
