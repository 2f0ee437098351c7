"""What all tests of the command have: a bound on their time, and thresholds that every reading crosses."""

import pytest
from cli_helpers import CHANNELS, CROSSED, PATIENCE, watchdog, write_thresholds


@pytest.fixture(autouse=True)
def bounded():
    with watchdog(4 * PATIENCE):
        yield


@pytest.fixture
def crossed(tmp_path):
    """A file of thresholds that every reading of the five sensors crosses."""
    limits = [{"channel": channel.name, "above": -1, "message": CROSSED} for channel in CHANNELS]
    return write_thresholds(tmp_path / "crossed.toml", *limits)
