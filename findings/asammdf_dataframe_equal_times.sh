#!/usr/bin/env bash
# asammdf 8.8.28 drops samples in to_dataframe and export to CSV, where two of a channel have the same time.
#
# The rows are the different times (asammdf/mdf.py:5795: np.union1d), even where there is one channel group alone, whose
# times need no joining. Of samples at one time the last is kept, without a word. CAN frames that came together, a clock
# of milliseconds, a bus log converted: get() has all of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install asammdf==8.8.28 canmatrix==1.2 numpy==2.4.6 pandas==3.1.1 typing_extensions==4.16.0

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import csv
import glob

import asammdf
import numpy as np

with asammdf.MDF(version="4.10") as file:
    file.append([asammdf.Signal(np.array([1.0, 2, 3, 4, 5]), np.array([0.0, 1, 1, 2, 2]), name="SPEED")])
    print("get:", *file.get("SPEED").samples.tolist(), end="; ")
    print("to_dataframe:", *file.to_dataframe()["SPEED"].tolist(), end="; ")
    file.export("csv", "a.csv")
    with open(glob.glob("a*.csv")[0], newline="") as table:
        print("export:", *(row[-1] for row in list(csv.reader(table))[1:]), end="; ")
PYTHON
)
echo "asammdf 8.8.28, five samples at the times 0, 1, 1, 2, 2: $found"
[[ $found == "get: 1.0 2.0 3.0 4.0 5.0; to_dataframe: 1.0 3.0 5.0; export: 1.0 3.0 5.0; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
