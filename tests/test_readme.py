"""The README's samples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SAMPLES = [
    (section.partition("\n")[0], code)
    for section in README.split("\n## ")
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
]


@pytest.mark.parametrize("sample", [code for _, code in SAMPLES], ids=[title for title, _ in SAMPLES])
def test_sample_runs(sample):
    done = subprocess.run([sys.executable, "-W", "error", "-c", sample], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_sample_is_found():
    assert len(SAMPLES) == README.count("```python") > 2
