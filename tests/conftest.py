"""What all tests share: where real recordings are, and how a hang is reported."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """The folder of the real recordings: $F1BUF_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("F1BUF_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real recordings are missing: {folder} is no folder (set F1BUF_DATA)")
    return folder
