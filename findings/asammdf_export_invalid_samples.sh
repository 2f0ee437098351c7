#!/usr/bin/env bash
# asammdf 8.8.28: where a file marks samples invalid, its export to CSV has invented ones, and its conversion to MDF 3.30
# the ones that were marked.
#
# `get` leaves them out. The export draws a line between the valid neighbours (of whole numbers it repeats the one before),
# also with each group in a file of its own, where nothing has to be brought to other times; `to_dataframe` and `get_group`
# do the same. MDF 3 has no such marks: the conversion keeps the samples, and nothing says that they are worth nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install asammdf==8.8.28 canmatrix==1.2 numpy==2.4.6 pandas==3.1.1 typing_extensions==4.16.0
found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
from pathlib import Path

import asammdf
import numpy as np

marks = np.array([False, True, True, False, False])  # what is no measurement
samples = np.array([10.0, 999.0, 999.0, 40.0, 50.0])
with asammdf.MDF(version="4.10") as file:
    file.append([asammdf.Signal(samples, np.arange(5.0), name="speed", unit="km/h", invalidation_bits=marks)])
    file.save("drive.mf4")
with asammdf.MDF("drive.mf4") as file:
    file.export("csv", "drive.csv")
    exported = np.loadtxt(next(Path().glob("*.csv")), delimiter=",", skiprows=1)[:, 1]
    converted = file.convert("3.30").get("speed").samples
    print(f"get {file.get('speed').samples.tolist()}, CSV {exported.tolist()}, MDF 3.30 {converted.tolist()}")
PYTHON
)
echo "asammdf 8.8.28, of 10, two that are marked invalid, 40, and 50: $found"
expected="get [10.0, 40.0, 50.0], CSV [10.0, 20.0, 30.0, 40.0, 50.0], MDF 3.30 [10.0, 999.0, 999.0, 40.0, 50.0]"
[[ $found == "$expected" ]] || { echo "the behaviour has changed" >&2; exit 1; }
