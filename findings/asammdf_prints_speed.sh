#!/usr/bin/env bash
# asammdf 8.8.28 prints on standard output how fast it reads, once a channel group has been iterated for ten seconds.
#
# A program whose standard output is data (JSON lines, CSV) gets lines such as "0.18 MB/s cc=8 vv=10.9" among them, in
# the middle of a long file, or of a short one that is played at its pace: the caller's time counts, too. There is no
# option against it (asammdf/blocks/mdf_v4.py:1769, a print). The same where a long file is saved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install asammdf==8.8.28 canmatrix==1.2 numpy==2.4.6 pandas==3.1.1 typing_extensions==4.16.0

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import time

import asammdf
import numpy as np

with asammdf.MDF(version="4.10") as file:
    file.configure(write_fragment_size=160_000)
    file.append([asammdf.Signal(np.arange(50_000.0), np.arange(50_000.0), name="SPEED")])
    file.save("a.mf4", compression=1)
with asammdf.MDF("a.mf4") as file:
    file.configure(read_fragment_size=160_000)
    for number, signal in enumerate(file.iter_get("SPEED")):
        if number == 0:
            time.sleep(11)  # as where the samples are played at their pace
PYTHON
)
echo "asammdf 8.8.28, on standard output of a program that prints nothing: $found"
[[ $found == *" MB/s cc="*" vv="* ]] || { echo "the behaviour has changed" >&2; exit 1; }
