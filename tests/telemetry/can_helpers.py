"""What the tests of CAN share. Importing it skips a module of tests where a package is missing."""

import pytest

from f1buf.telemetry.channels import channel_by_number
from f1buf.telemetry.sources.can.frames import Frames

can = pytest.importorskip("can", reason="python-can is not installed")
pytest.importorskip("can.cli", reason="this python-can has no can.cli")
cantools = pytest.importorskip("cantools", reason="cantools is not installed")


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def frame(frame_id, *data, time=1.0, **options):
    return can.Message(timestamp=time, arbitration_id=frame_id, data=data, **{"is_extended_id": False, **options})


def decode(decoder, *messages):
    """The readings of python-can's messages."""
    return decoder.decode(Frames.of_messages(messages, decoder.rejected))


def named(decoder, *messages):
    """Their readings for people: (part, channel's name, value)."""
    return [
        (decoder.describe(sensor)["part"], channel_by_number(number).name, value)
        for _, sensor, number, _, value in decode(decoder, *messages).tolist()
    ]
