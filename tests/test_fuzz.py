"""What comes from outside, fuzzed for a few seconds: the decoder of datagrams, and recording files; see fuzz.py.

F1BUF_FUZZ_SECONDS says for how long each, F1BUF_FUZZ_SEED with which inputs (others each time, unless it is given,
and so are the examples of the property-based tests).
"""

import contextlib
import ctypes
import os
import re
import signal
from pathlib import Path

import fuzz
import numpy as np
import pytest
from test_f1game import reference

from f1buf.telemetry.sources import f1game, recording

SECONDS = float(os.environ.get("F1BUF_FUZZ_SECONDS", "3"))
SEED = int(os.environ["F1BUF_FUZZ_SEED"]) if "F1BUF_FUZZ_SEED" in os.environ else None


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_no_input_crashes_it_or_is_read_wrongly_in_silence(target):
    assert fuzz.fuzz(target, SECONDS, SEED) > 0


# By packet: the array of cars, where the second decoder finds the fields that it uses, and their names
USED = {
    fuzz.MOTION: ("car_motion_data", (12, 13, 14), ("g_force_lateral", "g_force_longitudinal", "g_force_vertical")),
    fuzz.LAP_DATA: ("lap_data", (14,), ("current_lap_num",)),
    fuzz.PARTICIPANTS: ("participants", (7,), ("name",)),
    fuzz.CAR_TELEMETRY: (
        "car_telemetry_data",
        (0, 22, slice(23, 27)),
        ("speed", "engine_temperature", "tyres_pressure"),
    ),
    fuzz.CAR_STATUS: ("car_status_data", (5, 6), ("fuel_in_tank", "fuel_capacity")),
}


@pytest.mark.parametrize("packet_id", USED)
@pytest.mark.parametrize("year", fuzz.LAYOUTS)
def test_the_second_decoder_has_the_layouts_of_f1_packets(f1_packets, year, packet_id):
    theirs, layout = reference(f1_packets, year, packet_id), fuzz.LAYOUTS[year]
    assert layout.size(packet_id) == ctypes.sizeof(theirs)
    data = np.random.default_rng(1).bytes(layout.size(packet_id))
    cars, places, names = USED[packet_id]
    for our_car, their_car in zip(
        layout.unpacked(packet_id, data), getattr(theirs.from_buffer_copy(data), cars), strict=True
    ):
        for place, name in zip(places, names, strict=True):
            ours, value = our_car[place], getattr(their_car, name)
            if isinstance(ours, bytes):
                ours = ours.partition(b"\0")[0]  # as ctypes reads text
            elif isinstance(ours, tuple):
                value = tuple(value)
            np.testing.assert_equal(ours, value)  # NaN is equal to itself here


# That it would find a fault -------------------------------------------------------------------------------------------


def kept_input(caught):
    """The file with the input that failed, which the message names and shows."""
    file = Path(re.search(r"kept in (\S+)\n", str(caught.value))[1])
    data = file.read_bytes()
    file.unlink()
    assert str(caught.value).endswith(data.hex())
    return data


def test_a_wrong_value_is_found(monkeypatch):
    extract = f1game.Decoder._extract

    def wrong(self, header, datagram, time):
        readings = extract(self, header, datagram, time)
        readings["value"][readings["value"] == 310] = 311
        return readings

    monkeypatch.setattr(f1game.Decoder, "_extract", wrong)
    with pytest.raises(AssertionError, match="the child failed") as caught:
        fuzz.fuzz("decoder", 20)
    monkeypatch.undo()
    fuzz.DecoderTarget().check(kept_input(caught))


def test_a_crash_is_found():
    class Crashing(fuzz.DecoderTarget):
        def check(self, data):
            if len(self.split(data)[1]) > 8:
                os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError, match=f"the child ended by signal {signal.SIGKILL}; seed") as caught:
        fuzz.fuzz("decoder", 20, target=Crashing())
    kept_input(caught)


def test_an_exception_of_another_kind_is_found(monkeypatch):
    monkeypatch.setattr(recording, "_explained", lambda *_: KeyError("a bug"))
    with pytest.raises(AssertionError, match="the child failed") as caught:
        fuzz.fuzz("recording", 20)
    monkeypatch.undo()
    with contextlib.closing(fuzz.RecordingTarget()) as target:
        target.check(kept_input(caught))
