#!/usr/bin/env bash
# asammdf 8.8.28 takes samples of two dimensions without a word, and gives them other times.
#
# Signal says that its samples are an array. Of rows of three numbers (an acceleration, a place) append keeps as many
# numbers as there are rows, one a time, from the first row on: the second sample is the first row's second number. Saved
# and opened again, they look like any signal. (Rows have to be a record array with a field of that shape.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install asammdf==8.8.28 canmatrix==1.2 numpy==2.4.6 pandas==3.1.1 typing_extensions==4.16.0

found=$(timeout 60 venv/bin/python -W ignore - <<'PYTHON'
import asammdf
import numpy as np

times = np.arange(4.0)
samples = np.arange(12.0).reshape(4, 3)
with asammdf.MDF(version="4.10") as file:
    file.append([asammdf.Signal(samples, times, name="ACCELERATION"), asammdf.Signal(times + 100, times, name="SPEED")])
    file.save("a.mf4")
with asammdf.MDF("a.mf4") as file:
    for name in "ACCELERATION", "SPEED":
        print(name, *file.get(name).samples.ravel().tolist(), end="; ")
PYTHON
)
echo "asammdf 8.8.28, four rows of three numbers, 0 to 11 (and 100 to 103 beside them): $found"
[[ $found == "ACCELERATION 0.0 1.0 2.0 3.0; SPEED 100.0 101.0 102.0 103.0; " ]] || { echo "the behaviour has changed" >&2; exit 1; }
