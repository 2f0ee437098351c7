"""What comes from outside, fuzzed: the decoder of datagrams, recording files, logs of CAN; the same inputs each time.

With `--all` there are more. `python tools/fuzz.py` tries others, and keeps those that fail in `cases`: here they
are tried again. (None that crashes other software belongs there.)
"""

import contextlib
import ctypes
import mmap
import os
import re
import signal
import sys
from pathlib import Path

import can_logs
import fuzz
import numpy as np
import pytest
from helpers import thorough
from test_f1game import reference

from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.frames import Frames
from f1buf.telemetry.sources.game import recording
from f1buf.telemetry.sources.game.decoder import Decoder


def require(target):
    """Skip the test where a package is missing that a target cannot do without."""
    for package in getattr(fuzz.TARGETS[target], "needs", ()):
        pytest.importorskip(package, reason=f"{target} logs are read by {package}")


@pytest.mark.parametrize("target", fuzz.TARGETS)
@pytest.mark.parametrize("inputs", [100, pytest.param(5000, marks=thorough)])
def test_no_input_crashes_the_reader_or_is_read_wrongly_in_silence(tmp_path, target, inputs):
    require(target)
    assert fuzz.fuzz(target, seed=1, inputs=inputs, cases=tmp_path) == inputs


@pytest.mark.parametrize("case", sorted(fuzz.CASES.glob("*-*")), ids=lambda case: case.name)
def test_an_input_that_failed_once_does_not_any_more(case):
    require(case.name.partition("-")[0])
    fuzz.try_case(case)


# By packet: the array of cars, where the second decoder finds the fields that it uses, and their names
USED = {
    fuzz.MOTION: ("car_motion_data", (12, 13, 14), ("g_force_lateral", "g_force_longitudinal", "g_force_vertical")),
    fuzz.LAP_DATA: ("lap_data", (14, 26), ("current_lap_num", "result_status")),
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


def kept_case(caught, folder):
    """The file with the input that failed, which the message names."""
    (file,) = folder.iterdir()
    assert Path(re.search(r"kept in (\S+)\n", str(caught.value))[1]) == file
    return file


def found(name, folder, inputs, match="the child failed", **how):
    """The case in which the fuzzer keeps a fault of the code that it must find."""
    with pytest.raises(AssertionError, match=match) as caught:
        fuzz.fuzz(name, seed=1, inputs=inputs, cases=folder, **how)
    case = kept_case(caught, folder)
    if not how:
        with pytest.raises(AssertionError, match=match):
            fuzz.try_case(case)
    return case


def test_a_wrong_value_is_found(tmp_path, monkeypatch):
    decode = Decoder.decode

    def wrong(self, datagram, time=None):
        readings = decode(self, datagram, time)
        readings["value"][readings["value"] == 310] = 311
        return readings

    monkeypatch.setattr(Decoder, "decode", wrong)
    case = found("decoder", tmp_path, 100)
    monkeypatch.undo()
    fuzz.try_case(case)


def test_a_crash_is_found(tmp_path):
    class Crashing(fuzz.DecoderTarget):
        def check(self, data):
            if len(self.split(data)[1]) > 8:
                os.kill(os.getpid(), signal.SIGKILL)

    found("decoder", tmp_path, 1000, f"the child ended by signal {signal.SIGKILL}; seed", target=Crashing())


def test_addresses_that_the_process_has_already_are_no_fault(tmp_path):
    """Earlier tests may have left as many as an input may take."""
    with contextlib.closing(mmap.mmap(-1, fuzz.MEMORY, prot=mmap.PROT_READ)):
        assert fuzz.fuzz("decoder", seed=1, inputs=10, cases=tmp_path) == 10


def with_a_bug(self):
    raise KeyError("a bug")


def test_an_exception_of_another_kind_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(recording.Recording, "datagrams", with_a_bug)
    case = found("recording", tmp_path, 100)
    monkeypatch.undo()
    fuzz.try_case(case)


def bent(page, by, pages, header=b"", at=0):
    """A recording of 12 rows on six pages, three on each from the third page on: one in another's place, and a cut."""
    with contextlib.closing(fuzz.RecordingTarget()) as target:
        base = target.bases[2]
    size = base.page_size
    assert len(base.content) == 6 * size
    data = bytearray(base.content)
    data[page * size : (page + 1) * size] = base.content[by * size : (by + 1) * size]
    data[at : at + len(header)] = header
    return bytes([2]) + data[: pages * size]


def without_error(self, datagrams=recording.Recording.datagrams):
    with contextlib.suppress(RecordingError):
        yield from datagrams(self)


def without_missing(self, datagrams=recording.Recording.datagrams):
    with contextlib.suppress(RecordingError):
        yield from datagrams(self)
    del self.rejected["missing row"]


SILENT = {
    "missing rows": (
        lambda patch: patch.setattr(recording.Recording, "datagrams", without_missing),
        bent(1, 4, 2, header=(2).to_bytes(4, "big"), at=28),
        "rows were lost",
    ),
    "a file cut short": (
        lambda patch: patch.setattr(recording, "check_file", recording.state_of),
        bent(1, 2, 2, header=b"\1", at=24),
        "the file should go on",
    ),
    "a page in another's place": (
        lambda patch: patch.setattr(recording.Recording, "datagrams", without_error),
        bent(3, 4, 6),
        "rows came out twice",
    ),
}


@pytest.mark.parametrize("what", SILENT)
def test_a_reader_that_hides_what_is_lost_is_found(monkeypatch, what):
    silence, data, message = SILENT[what]
    with contextlib.closing(fuzz.RecordingTarget()) as target:
        target.check(data)
        silence(monkeypatch)
        with pytest.raises(AssertionError, match=message):
            target.check(data)


def test_the_script_keeps_each_input_that_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recording.Recording, "datagrams", with_a_bug)
    monkeypatch.setattr(fuzz, "MOST_CASES", 2)
    monkeypatch.setattr(
        sys, "argv", ["fuzz.py", "recording", "--seed", "1", "--seconds", "60", "--cases", str(tmp_path / "cases")]
    )
    with pytest.raises(SystemExit) as caught:
        fuzz.main()
    assert caught.value.code == 1
    assert {str(file) for file in (tmp_path / "cases").iterdir()} == set(
        re.findall(r"kept in (\S+)", capsys.readouterr().out)
    )


# Logs of CAN ----------------------------------------------------------------------------------------------------------

SOUND, NEXT = (1.0, 2, 0, "can0", b"\1"), (2.0, 2, 0, "can0", b"\2")
MUST = [can_logs.Record(can_logs.MUST, SOUND), can_logs.Record(can_logs.MUST, NEXT)]
DAMAGED = [MUST[0], can_logs.Record(can_logs.TOLD, None, "(1.5) can0 123#45"), MUST[1]]
EVENT = [MUST[0], can_logs.Record(can_logs.EVENT, None), DAMAGED[1], MUST[1]]
FROM_DAMAGED = (1.5, 0x123, 0, "can0", b"\x45")


@pytest.mark.parametrize(
    ("records", "rows", "told", "events", "ended", "match"),
    [
        (MUST, [SOUND, NEXT], 0, 0, False, None),
        (MUST, [SOUND], 0, 0, False, "record 1"),
        (MUST, [NEXT], 1, 0, False, "record 0"),
        (MUST, [SOUND, NEXT, NEXT], 0, 0, False, "3 rows, but there are 2 at most"),
        (MUST, [SOUND, (2.0, 2, 0, "can0", b"\3")], 0, 0, False, "record 1"),
        (MUST, [SOUND, NEXT], 1, 0, False, "1 told of a log without a fault"),
        (MUST, [SOUND], 0, 0, True, "record 1"),
        (DAMAGED, [SOUND, NEXT], 1, 0, False, None),
        (DAMAGED, [SOUND, NEXT], 0, 0, False, "1 records were left out, and 0 told"),
        (DAMAGED, [SOUND, FROM_DAMAGED, NEXT], 0, 0, False, None),
        (DAMAGED, [SOUND, (1.5, 0x123, 0, "can0", b"\x46"), NEXT], 0, 0, False, "record 2"),
        (DAMAGED, [SOUND], 0, 0, True, None),
        (EVENT, [SOUND, NEXT], 2, 1, False, None),
        (EVENT, [SOUND, NEXT], 1, 1, False, "1 records were left out, and 0 told"),
    ],
)
def test_rows_that_a_log_does_not_explain_are_found(records, rows, told, events, ended, match):
    fault = can_logs.unexplained(records, rows, told, events, ended)
    assert fault is None if match is None else match in fault


@pytest.mark.parametrize("target", can_logs.LOG_TARGETS)
def test_the_second_readers_give_what_was_written(target):
    """They find no fault in good logs; python-can wrote some of them, and the frames of others are known."""
    require(target)
    with contextlib.closing(can_logs.LOG_TARGETS[target]()) as found:
        for seed in found.seeds():
            records = list(found.read(seed[1:]))
            assert {record.need for record in records} <= {can_logs.MUST, can_logs.FREE, can_logs.EVENT}
            assert sum(record.need == can_logs.MUST for record in records) > 5


def test_a_log_that_is_read_wrongly_is_found(tmp_path, monkeypatch):
    pytest.importorskip("can", reason="logs are read by python-can")
    rows = Frames.rows

    def wrong(self):
        for *before, data in rows(self):
            yield *before, data[:5]

    monkeypatch.setattr(Frames, "rows", wrong)
    with pytest.raises(AssertionError, match="the child failed"):
        fuzz.fuzz("candump", seed=1, inputs=1, cases=tmp_path)


def test_an_input_that_takes_for_ever_is_found(tmp_path, monkeypatch):
    class Slow(fuzz.DecoderTarget):
        def check(self, data):
            if len(self.split(data)[1]) > 8:
                signal.pause()

    monkeypatch.setattr(fuzz, "WATCHDOG", 1)
    found("decoder", tmp_path, 1000, f"the child ended by signal {signal.SIGALRM}; seed", target=Slow())
