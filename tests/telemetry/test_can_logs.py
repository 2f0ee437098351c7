"""CAN logs: every format read rightly, or said to be unread; what is damaged, cut off, or left by a killed writer."""

import base64
import contextlib
import datetime
import gzip
import io
import itertools
import logging
import sqlite3
import struct
import threading
import warnings
import zlib

import hypothesis
import numpy as np
import pytest
from can_helpers import can, frame, written
from can_logs import CONTAINER, HEADERS, LOG_CONTAINER, TICK, blf_header, lobj
from cli_helpers import watchdog
from hypothesis import strategies as st

from f1buf.telemetry import F1TelemetrySystem, Threshold
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.decoder import CanDecoder
from f1buf.telemetry.sources.can.formats.blf import walk
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE, Frames, row_of
from f1buf.telemetry.sources.can.libraries import Libraries
from f1buf.telemetry.sources.can.log import CanReplay, can_log_format, open_can_log
from f1buf.telemetry.sources.merging import merged

FORMATS = "f1buf.telemetry.sources.can.formats."

# Helpers --------------------------------------------------------------------------------------------------------------


def read(path):
    """A log's rows (timestamp, id, kind, bus, data), the log itself, and what the error says, if there is one."""
    log = open_can_log(path)
    rows = []
    try:
        for frames in log.frames():
            check(frames)
            rows += frames.rows()
    except RecordingError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert log.frames_read == len(rows)
        return rows, log, message.removeprefix(f"{path}: ")
    assert log.frames_read == len(rows)
    return rows, log, None


def check(frames):
    """What `Frames` promises."""
    n, width = frames.data.shape
    assert width in (8, 64)
    assert frames.data.flags.c_contiguous
    kinds = [(frames.timestamp, "f8"), (frames.can_id, "u4"), (frames.kind, "u1"), (frames.bus, "u2")]
    for column, kind in [*kinds, (frames.length, "u1")]:
        assert (column.dtype, column.shape) == (np.dtype(kind), (n,))
    assert frames.data.dtype == np.uint8
    assert np.isfinite(frames.timestamp).all()
    assert not frames.data[np.arange(width) >= frames.length[:, None]].any()
    assert len(set(frames.buses)) == len(frames.buses)


def whole(path):
    """The rows of a log with which nothing is wrong."""
    rows, log, failure = read(path)
    assert failure is None
    assert not log.rejected
    assert log.notes == []
    return rows


def python_cans(messages, suffix=""):
    """The rows of python-can's messages; where it takes one off the channels' numbers, these are the file's again."""
    rows = map(row_of, messages)
    off = int(suffix in (".asc", ".blf"))
    return [
        (timestamp, can_id, kind, str(bus + off if off else bus), bytes(data))
        for timestamp, can_id, kind, bus, data in rows
    ]


DAMAGED = "damaged or no CAN log (after frame {}): "

# candump: the same as python-can, line by line ------------------------------------------------------------------------


def expected_of_candump(text):
    """What python-can reads of each line, and what we know better; the rows, those counted, and the first failure."""
    rows, rejected = [], 0
    for line in io.StringIO(text, newline=None):
        try:
            messages = list(can.CanutilsLogReader(io.StringIO(line)))
        except Exception as error:
            return rows, rejected, error
        for timestamp, can_id, kind, bus, data in python_cans(messages):
            id_text, _, rest = line.split()[2].partition("#")
            digits = rest[2:] if rest.startswith("#") else rest
            if len(data) > 64 or not np.isfinite(timestamp):
                rejected += 1
            elif int(id_text, 16) & 0x2000_0000:
                rows.append((timestamp, None, ERROR | EXTENDED, None, None))
            elif data and len(digits) % 2:
                rejected += 1
            else:
                rows.append((timestamp, can_id, kind, bus, data))
    return rows, rejected, None


def compared_with_python_can(path, text):
    expected, rejected, failure = expected_of_candump(text)
    found, log, message = read(written(path, text))
    found = [
        (timestamp, None, kind, None, None) if kind & ERROR else (timestamp, can_id, kind, bus, data)
        for timestamp, can_id, kind, bus, data in found
    ]
    assert found == expected  # timestamps bit for bit
    assert log.rejected.total() == rejected
    if failure is None:
        assert message is None
    else:
        assert message.startswith(DAMAGED.format(len(expected)))
    return expected


HEX = "0123456789abcdefABCDEF"
usual_lines = st.builds(
    "({}.{}) {} {}#{}{}{}".format,
    st.integers(0, 10**10 - 1),
    st.text("0123456789", max_size=9),
    st.sampled_from(["can0", "can1", "vcan0", "0", "007", "7", "a.b", "x" * 15, "x" * 16, "é"]),
    st.text(HEX, min_size=1, max_size=9),
    st.sampled_from(["", "", "#1", "#9", "#", "#A"]),
    st.integers(0, 70)
    .flatmap(lambda size: st.text(HEX, min_size=min(size, 9), max_size=min(size, 9)))
    .map(lambda text: text + text[::-1])
    | st.sampled_from(["5A" * 63, "5a" * 64, "5A" * 65, "5A" * 8 + "G", "0G" * 40]),
    st.sampled_from(["", "", "", " R", " T", " r", "  T", " X"]),
)
other_lines = st.sampled_from(
    [
        "",
        "   ",
        "(1.5) can0 123##1AABB",
        "(1.5) can0 123##3" + "5A" * 64,
        "(1.5) can0 123##1" + "5A" * 65,
        "(1.5) can0 12345678##0AABBCC T",
        "(1.5) can0 123#R",
        "(1.5) can0 123#R8 R",
        "(1.5) can0 123#r4",
        "(1.5) can0 123#" + "11" * 9,
        "(1.5) can0 123#1",
        "(1.5) can0 123#112",
        "(1.5) can0 20000080#0000000000000000",
        "(1.5) can0 20000004#0004000000000000 R",
        "(nan) can0 123#11",
        "(inf) can0 123#11",
        "(1e3) can0 123#11",
        "(-1.5) can0 123#11",
        "(.5) can0 123#11",
        "(5) can0 123#11",
        "[1.5] can0 123#11",
        "  (1.5)   can0\t123#11  ",
        "(1.5) can0 E0000123#11",
        "(1_0.5) can0 1_2#11",
        "(9007199254740993.0) can0 1#",
        "(9007199254.740993) can0 1#",
        "(0000000000000001.5) can0 1#",
        "(1.5) ٣ 123#11",
        "(1.5) can0\x1f123#11",
        "(1.5)\xa0can0 123#11",
        "(1.5) can0 123#11\x00",
    ]
)
damaged_lines = st.sampled_from(
    ["(1.5) can0", "(1.5) can0 123", "(x) can0 123#11", "(1.5) can0 xyz#11", "(1.5) can0 123#1g", "# a comment", "\x00"]
)


@hypothesis.given(
    st.lists(st.one_of(usual_lines, usual_lines, other_lines, st.text(max_size=20)), max_size=12),
    st.lists(st.sampled_from(["\n", "\n", "\r\n", "\r"]), min_size=13, max_size=13),
    st.booleans(),
)
def test_candump_lines_are_read_as_python_can_reads_them(tmp_path_factory, lines, ends, ended):
    text = "".join(itertools.chain.from_iterable(zip(lines, ends, strict=False)))
    if not ended:
        text = text.rstrip("\r\n")
    compared_with_python_can(tmp_path_factory.getbasetemp() / "generated.log", text)


@pytest.mark.parametrize("size", [1, 2, 3, 50, 64, 1 << 18])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_a_block_may_end_anywhere(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr(FORMATS + "text.BLOCK", size)
    lines = [f"({n}.000001) can{n % 3} {n:03X}#{n:02X}FF{' R' if n % 2 else ''}" for n in range(60)]
    lines[7] = lines[8] = ""
    lines[20] = "(20.5) can0 123##1AABB"
    text = end.join(lines)
    assert len(compared_with_python_can(tmp_path / "car.log", text)) == 58
    assert len(compared_with_python_can(tmp_path / "car.log", text + end)) == 58


def test_usual_lines_are_not_given_to_python_can(tmp_path, monkeypatch):
    monkeypatch.setattr(can, "CanutilsLogReader", None)
    lines = "(1631416514.717133) can0 0D2#0000FFFF10000000\n(1631416514.717134) vcan1 18fef100#0a R\r\n(1.5) 3 7#\n"
    lines += f"(2.5) can0 123##0{'5A' * 64}\n(3.5) can0 123##3 T\n"
    assert whole(written(tmp_path / "car.log", lines)) == [
        (1631416514.717133, 0xD2, 0, "can0", bytes.fromhex("0000FFFF10000000")),
        (1631416514.717134, 0x18FEF100, EXTENDED, "vcan1", b"\x0a"),
        (1.5, 7, 0, "3", b""),
        (2.5, 0x123, 0, "can0", b"Z" * 64),
        (3.5, 0x123, 0, "can0", b""),
    ]


def test_unusual_lines_keep_their_places(tmp_path):
    lines = [
        f"({n}.0) can0 100#{n % 256:02X}" if n % 3 else f"({n}.0) can1 100##1{n % 256:02X}{'00' * 47}"
        for n in range(1000)
    ]
    rows = whole(written(tmp_path / "car.log", "\n".join(lines)))
    assert [row[0] for row in rows] == list(range(1000))
    assert [(bus, data[0], len(data)) for *_, bus, data in rows] == [
        (f"can{int(n % 3 == 0)}", n % 256, 1 if n % 3 else 48) for n in range(1000)
    ]


@pytest.mark.parametrize("line", damaged_lines.elements, ids=repr)
def test_a_damaged_line(tmp_path, line):
    """Usual ones before it in its block are yielded, those behind it are not."""
    before = ["(1.0) can0 100#01", "(2.0) can0 100##102", "(3.0) can0 100#03"]
    path = tmp_path / "car.log"
    assert len(compared_with_python_can(path, "\n".join([*before, line, "(4.0) can0 100#04"]))) == 3
    _, _, failure = read(path)
    assert failure == DAMAGED.format(3) + f"a line that cannot be read: {line!r}; expected lines of candump -L"


def test_error_frames_of_every_class(tmp_path):
    """To python-can only a bus error is one; the others have an extended id below 0x200."""
    classes = [1 << bit for bit in range(10)]
    lines = [f"({n}.0) can0 {0x2000_0000 | each:08X}#0000000000000000" for n, each in enumerate(classes)]
    rows = whole(written(tmp_path / "car.log", "\n".join([*lines, "(20.0) can0 00000004#01"])))
    assert [(row[1], row[2]) for row in rows] == [*((each, ERROR | EXTENDED) for each in classes), (4, EXTENDED)]
    database = 'BO_ 2147483652 M: 8 E\n SG_ X : 0|8@1+ (1,0) [0|1] "" E\n'  # 0x80000004
    decoder = CanDecoder([written(tmp_path / "car.dbc", database.replace("M: 8", "M: 1"))])
    [readings] = CanReplay(open_can_log(tmp_path / "car.log"), decoder, None).batches(threading.Event())
    assert readings["value"].tolist() == [1.0]
    assert decoder.rejected == {"error frame": 10}


def test_lengths_beyond_8_as_candump_8_writes_them(tmp_path):
    """As candump -8 writes them."""
    lines = ["(1.0) can0 123#E8035A0000000000_9", "(2.0) can0 18FEF100#E8035A0000000000_f R", "(3.0) can0 123#R8_A"]
    assert whole(written(tmp_path / "car.log", "\n".join(lines))) == [
        (1.0, 0x123, 0, "can0", bytes.fromhex("E8035A0000000000")),
        (2.0, 0x18FEF100, EXTENDED, "can0", bytes.fromhex("E8035A0000000000")),
        (3.0, 0x123, REMOTE, "can0", b""),
    ]
    for line in ("(1.0) can0 123#E8_9", "(1.0) can0 123#E8035A0000000000_8", "(1.0) can0 123#E8035A0000000000_99"):
        rows, _, failure = read(written(tmp_path / "car.log", line))
        assert (rows, failure.startswith(DAMAGED.format(0))) == ([], True)


def test_more_buses_than_one_block_tells_apart(tmp_path):
    lines = [f"({n}.0) bus{n % 200} 100#" for n in range(600)]
    rows = whole(written(tmp_path / "car.log", "\n".join(lines)))
    assert [row[3] for row in rows] == [f"bus{n % 200}" for n in range(600)]


def test_an_endless_line(tmp_path, monkeypatch):
    """Memory stays bounded."""
    monkeypatch.setattr(FORMATS + "text.LONGEST_LINE", 5000)
    monkeypatch.setattr(FORMATS + "text.BLOCK", 1000)
    path = written(tmp_path / "car.log", "(1.0) can0 100#\n" + "1" * 100_000)
    rows, _, failure = read(path)
    assert len(rows) == 1
    assert failure == DAMAGED.format(1) + "a line of more than 5,000 bytes; expected lines of text"


def test_a_byte_order_mark(tmp_path):
    assert len(whole(written(tmp_path / "car.log", "\ufeff(1.0) can0 100#\n(2.0) can0 100#\n"))) == 2
    path = written(tmp_path / "wide.log", "(1.0) can0 100#\n".encode("utf-16"))
    with pytest.raises(RecordingError, match="text in UTF-16; expected UTF-8: convert it, as by iconv"):
        open_can_log(path)


@pytest.mark.parametrize("name", ["drive.log.gz", "drive.2026.11.log.gz", "DRIVE.LOG.GZ", "drive.log"])
def test_a_compressed_log_of_any_name(tmp_path, name):
    path = written(tmp_path / name, gzip.compress(b"(1.0) can0 100#01\n" * 20_000))
    assert can_log_format(path) == ".log"
    assert len(whole(path)) == 20_000


def test_what_came_before_compressed_data_ends_is_used(tmp_path):
    lines = b"".join(b"(%d.0) can0 100#%016X\n" % (n, n * 0x9E3779B97F4A7C15 % 2**64) for n in range(50_000))
    data = gzip.compress(lines)
    rows, _, failure = read(written(tmp_path / "drive.log.gz", data[: len(data) // 2]))
    assert 20_000 < len(rows) < 30_000
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert failure.startswith(DAMAGED.format(len(rows)) + "Compressed file ended before")


# What candump prints on a screen --------------------------------------------------------------------------------------

SCREEN = """\
 ({})  can0  0D2   [8]  00 00 FF FF 10 00 00 00
 ({})  can1  18FEF100   [2]  0A 0B
 ({})  can0  123   [0]
 ({})  can0  123   [0]  remote request
 ({})  can0  20000004   [8]  00 04 00 00 00 00 00 00   ERRORFRAME
\tcontroller-problem{{rx-error-warning}}
 ({})  can0  123  [12]  00 01 02 03 04 05 06 07 08 09 0A 0B
 ({})  can0  RX - -  123   [3]  41 42 43   'ABC'
"""
ON_SCREEN = [
    (0xD2, 0, "can0", bytes.fromhex("0000FFFF10000000")),
    (0x18FEF100, EXTENDED, "can1", b"\x0a\x0b"),
    (0x123, 0, "can0", b""),
    (0x123, REMOTE, "can0", b""),
    (4, ERROR | EXTENDED, "can0", bytes([0, 4, 0, 0, 0, 0, 0, 0])),
    (0x123, 0, "can0", bytes(range(12))),
    (0x123, 0, "can0", b"ABC"),
]


def test_what_candump_prints_with_absolute_times(tmp_path):
    times = [1631416514.717133 + n for n in range(7)]
    rows = whole(written(tmp_path / "a.log", SCREEN.format(*(f"{time:.6f}" for time in times))))
    assert rows == [(float(f"{time:.6f}"), *rest) for time, rest in zip(times, ON_SCREEN, strict=True)]
    dates = [f"2021-09-12 03:15:1{n}.717133" for n in range(7)]
    rows = whole(written(tmp_path / "b.log", SCREEN.format(*dates)))
    began = datetime.datetime(2021, 9, 12, 3, 15, 10, 717133, tzinfo=datetime.UTC).timestamp()
    assert [row[0] - began for row in rows] == list(range(7))
    assert [row[1:] for row in rows] == ON_SCREEN


# .asc -----------------------------------------------------------------------------------------------------------------

DRIVE = [(0.5, 9000), (1.0, 15500), (2.0, 15600), (3.0, 15700), (4.5, 15800), (5.0, 9000)]
ENGINE = 'BO_ 291 ENGINE: 8 ECU\n SG_ RPM : 0|16@1+ (1,0) [0|20000] "rpm" ECU\n'


def asc(times=DRIVE, *, kind="absolute", header="internal events logged\n", block=True):
    lines = [f"date Sat Nov 28 09:00:00.000 am 2026\nbase hex  timestamps {kind}\n{header}"]
    if block:
        lines.append("Begin Triggerblock Sat Nov 28 09:00:00.000 am 2026\n   0.000000 Start of measurement\n")
    for time, rpm in times:
        data = struct.pack("<H6x", rpm).hex(" ").upper()
        lines.append(f"{time:11.6f} 1  123             Rx   d 8 {data}\n")
    return "".join([*lines, "End TriggerBlock\n" if block else ""])


def relative(times):
    return [(round(time - before, 6), rpm) for (time, rpm), (before, _) in zip(times, [(0.0, 0), *times], strict=False)]


def test_relative_times_are_added_up(tmp_path):
    """With a rule for three seconds both give the same alert."""
    decoder = CanDecoder([written(tmp_path / "engine.dbc", ENGINE)])
    rule = Threshold("RPM", above=15_000.0, min_duration=3.0, message="Over-revving")
    alerts = {}
    for kind, times in (("absolute", DRIVE), ("relative", relative(DRIVE)), ("RELATIVE", relative(DRIVE))):
        path = written(tmp_path / f"{kind}.asc", asc(times, kind=kind))
        assert [row[0] for row in whole(path)] == [time for time, _ in DRIVE]
        alerts[kind] = []
        system = F1TelemetrySystem(100, thresholds=[rule], on_alert=alerts[kind].append)
        with watchdog():
            system.start([CanReplay(open_can_log(path), decoder, None)], 1, describe=decoder.describe)
            system.wait()
            system.shutdown()
    assert [(alert.time, alert.value) for alert in alerts["absolute"]] == [(4.5, 15_800.0)]
    assert [(alert.time, alert.value) for alert in alerts["relative"]] == [(4.5, 15_800.0)]


def test_relative_times_count_from_every_event(tmp_path):
    """Also from events that are no frames, or that python-can reads; the sum does not drift."""
    lines = asc([(0.1, 1)] * 10_000, kind="relative").splitlines()
    lines[6:6] = [
        "   0.250000 CAN 1 Status:chip status error active",
        "   0.250000 CANFD   1 Rx        124                                   1 0 2  2 AA BB        0    0     3000",
        "   0.250000 1  ErrorFrame",
    ]
    rows, log, failure = read(written(tmp_path / "car.asc", "\n".join(lines)))
    assert failure is None
    assert log.rejected == {"other event": 1}
    assert [row[:3] for row in rows[:4]] == [
        (0.1, 0x123, 0),
        (0.6, 0x124, 0),
        (0.85, 0, ERROR | EXTENDED),
        (0.95, 0x123, 0),
    ]
    assert rows[-1][0] == 1000.75


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("header", ["", "\n", "// version 7.0.0\n", "no internal events logged\n"], ids=repr)
@pytest.mark.parametrize("first", ["frame", "remote"])
def test_the_frame_behind_the_header(tmp_path, kind, header, first):
    text = asc(DRIVE if kind == "absolute" else relative(DRIVE), kind=kind, header=header, block=False)
    if first == "remote":  # which python-can reads
        text = text.replace("d 8 28 23 00 00 00 00 00 00", "r 8", 1)
    rows = whole(written(tmp_path / "car.asc", text))
    assert [row[0] for row in rows] == [time for time, _ in DRIVE]
    assert [row[2] for row in rows] == [REMOTE if first == "remote" else 0, *[0] * 5]


def test_negative_times(tmp_path):
    """A logger that keeps what was before its trigger counts from that."""
    path = written(tmp_path / "car.asc", asc([(-1.5, 1), (-0.5, 2), (0.5, 3)]))
    assert [(row[0], row[4][0]) for row in whole(path)] == [(-1.5, 1), (-0.5, 2), (0.5, 3)]
    text = asc([(0.5, 3)]).replace("   0.500000 1", "  -0.250000 1  123   Rx   r 8\n   0.500000 1")
    rows = whole(written(path, text))  # a line that python-can is to read
    assert [row[:3] for row in rows] == [(-0.25, 0x123, REMOTE), (0.5, 0x123, 0)]


def test_what_a_killed_writer_of_asc_leaves(tmp_path):
    path = tmp_path / "car.asc"
    writer = can.ASCWriter(path)
    for n in range(10):
        writer(frame(0x100, n, time=1700000000 + n / 10))
    writer.file.flush()
    left = path.read_text()
    writer.stop()
    assert len(whole(path)) == 10
    for text in (left, left + "   1.0"):
        rows, log, failure = read(written(path, text))
        assert (len(rows), failure) == (10, None)
        assert log.notes == ["the log's last block has no end: its writer was stopped before that, or it is cut off"]


ASC = """\
date Sat Nov 28 09:00:00.000 am 2026
base {base}  timestamps absolute
internal events logged
// version 7.0.0
Begin Triggerblock Sat Nov 28 09:00:00.000 am 2026
   0.000000 Start of measurement
   0.100000 1  123             Rx   d 8 28 23 10 00 00 00 00 01
   0.200000 2  18FEF100x       Tx   d 2 28 23  Length = 240000 BitCount = 124 ID = 419361024x
   0.300000 1  123             Rx   d 0
   0.500000 1  123             Rx   r
   0.600000 1  123             Rx   r 4
   0.700000 1  ErrorFrame
   0.800000 CANFD   2 Rx        124                                   1 0 9 12 00 01 02 03 04 05 06 07 08 09 10 11  0
   0.900000 1  123             Rx   D 1 07
   1.000000 1  12              rx   d 1 77
End TriggerBlock
"""


@pytest.mark.parametrize("base", ["hex", "dec"])
def test_other_lines_of_asc_are_read_as_python_can_reads_them(tmp_path, base):
    text = ASC.format(base=base)
    if base == "dec":
        text = text.replace("18FEF100x", "419361024x")
    path = written(tmp_path / "car.asc", text)
    with can.LogReader(path) as reader:
        expected = python_cans(reader, ".asc")
    assert len(expected) == 9
    assert whole(path) == expected
    assert {row[3] for row in expected} == {"1", "2"}


SPACE = st.sampled_from([" ", " ", "  ", "\t", "   ", "\xa0", ""])
BYTES = st.lists(
    st.sampled_from(["00", "FF", "1a", "7", "ABC", "G0", "+1"]) | st.text(HEX, min_size=2, max_size=2), max_size=10
)


def spaced(draw, words):
    return "".join(itertools.chain.from_iterable((draw(SPACE) if n else " ", word) for n, word in enumerate(words)))


@st.composite
def asc_lines(draw):
    time = draw(st.sampled_from(["0.5", "12.000001", "1631416514.717133", "1", "1.5e3", "0.1234567891234"]))
    can_id = draw(st.text(HEX, min_size=1, max_size=8)) + draw(st.sampled_from(["", "", "x", "X"]))
    kind = draw(st.sampled_from(["d", "d", "d", "D", "r", "e"]))
    data = draw(BYTES)
    size = draw(st.sampled_from([str(len(data))] * 3 + ["8", "0", "9", "a", "F"]))
    behind = draw(st.sampled_from([[], [], ["Length", "=", "240000"], ["  "], ["x"]]))
    words = [time, draw(st.sampled_from(["1", "2", "15", "CAN"])), can_id, draw(st.sampled_from(["Rx", "Tx", "rx"]))]
    return spaced(draw, [*words, kind, size, *data, *behind])


@st.composite
def trc_lines(draw, version):
    time = draw(st.sampled_from(["0.5", "12.001", "1", "-0.5", "123456789.123"]))
    can_id, data = draw(st.text(HEX, min_size=3, max_size=8)), draw(BYTES)
    direction = draw(st.sampled_from(["Rx", "Tx", "Error"]))
    size = draw(st.sampled_from([str(len(data))] * 3 + ["8", "0", "9"]))
    behind = draw(st.sampled_from([[], [], [" "], ["00"], ["x"]]))
    if version == "1.1":
        return spaced(draw, ["1)", time, direction, can_id, size, *data, *behind])
    return spaced(
        draw, ["1", time, draw(st.sampled_from(["DT", "FD", "ST"])), "2", can_id, direction, "-", size, *data, *behind]
    )


def compared_with_the_reader(path, text):
    """python-can reads the whole file; where it fails, so do we. What we leave out of its frames we count."""
    written(path, text)
    expected, failure = [], None
    try:
        with can.LogReader(path) as reader:
            expected.extend(reader)
    except Exception as error:
        failure = error
    rows, log, message = read(path)
    sound = [row for row in python_cans(expected, path.suffix) if row[1] < 1 << 29 and len(row[4]) <= 64]
    rows = [row for row in rows if row[0] >= 0]  # of negative times python-can reads none
    left = iter(sound)
    assert all(row in left for row in rows)  # in their order
    assert len(sound) - len(rows) <= log.rejected["half a byte"] + log.rejected["absurd length"]
    assert (message is None) == (failure is None)


ASC_HEADER = "date Sat Nov 28 09:00:00.000 am 2026\nbase hex  timestamps absolute\ninternal events logged\n"


ASC_GOOD = "   0.400000 1  123             Rx   d 1 04"
TRC_GOOD = {
    "1.0": "     1)      17 0123 2 AA BB",
    "1.1": "     1)    17.0  Rx     0123  2  AA BB",
    "1.3": "     1)    17.0  1  Rx     0123 -  2  AA BB",
    "2.1": "      1        17.000 DT  1     0123 Rx -  2    AA BB",
}


def trc_header(version):
    header = f";$FILEVERSION={version}\n;$STARTTIME=25569.0\n" if version != "1.0" else ";---\n"
    return header + (";$COLUMNS=N,O,T,B,I,d,R,L,D\n" if version == "2.1" else "")


@pytest.mark.parametrize(
    ("kind", "line", "reason"),
    [
        ("asc", "   0.100000 1  Statistic: D 0 R 0 XD 0 XR 0 E 0 O 0 B 0.00%", "other event"),
        ("asc", "   0.300000 SV: 1 0 1 ::VAR = 1", "other event"),
        ("asc", "   0.400000 Li 1 LIN", "other event"),
        ("asc", "// 0.200000 a comment", None),
        ("asc", "", None),
        ("asc", "Tx   0.500000 1  123             Rx   d 1 05", "unreadable line"),
        ("asc", "0500000 1  123             Rx   d 1 05", "unreadable line"),
        ("asc", "   0.500000 1  123             RFx   d 1 05", "other event"),
        ("asc", "   0.500000 1  123             TxRq   d 1 05", "other event"),  # another line follows once it was sent
        ("asc", "   0.500000 CANFD   1 TxRq      124   1 0 1  1 05  0", "other event"),
        ("asc", "   0.500000 CANFD   1    124    TxRq  1 0 1  1 05  0", "other event"),
        ("asc", "   0.500000 1  123             Rx   d 8 E8 03 5", "half a byte"),  # as where a log is cut off
        ("asc", "   0.500000 1  123             Rx   d 3 E8 03 5", "half a byte"),
        ("asc", "  -0.500000 1  123             Rx   d 3 E8 03 5", "half a byte"),
        ("asc", "   0.500000 CANFD   1 Rx        124  name  1 0 3 3 E8 03 5", "half a byte"),
        ("asc", "   0.500000 1  123             Rx   d 8 E8 03", "absurd length"),
        ("asc", "   0.500000 1  123             Rx   d 8", "absurd length"),
        ("asc", "   0.500000 1  123             Rx   d 2 E8 03 05", "absurd length"),
        ("asc", "   0.500000 1  123             Rx   d 2 E8 03 05  Length = 0 BitCount = 64", "absurd length"),
        ("asc", "   0.500000 1  123             Rx   d 0 E8", "absurd length"),
        ("asc", "   0.500000 CANFD   1 Rx        124        1 0 3 3 E8 03", "absurd length"),
        ("1.0", "     2)      18     0124 2 CC D", "half a byte"),
        ("1.1", "     2)    18.0  Rx     0124  2  CC D", "half a byte"),
        ("1.3", "     2)    18.0  1  Rx     0124 -  2  CC D", "half a byte"),
        ("1.0", "     2)      18     0124 1 CC DD", "absurd length"),
        ("1.1", "     2)    18.0  Rx     0124  1  CC DD", "absurd length"),
        ("1.3", "     2)    18.0  1  Rx     0124 -  1  CC DD", "absurd length"),
        ("1.1", "     2)    18.0  Rx     0124  2  CC", "unreadable line"),
        ("1.1", "     2)    18.0", "unreadable line"),
        ("2.1", "      2        18.200 DT  1     0123 Rx -  3    00 01", "absurd length"),
        ("2.1", "      2        18.200 DT  1     0123 Rx -  1    00 01", "absurd length"),
        ("2.1", "      2        18.200 FB  1     0123 Rx -  9    00 01", "absurd length"),
        ("2.1", "      2        18.200 DT  1     0123", "unreadable line"),
        ("2.1", "      2        18.200 ST  1        - -  -  4    00 00 00 00", "other event"),
    ],
)
def test_a_line_that_holds_no_frame_or_a_damaged_one_is_counted(tmp_path, kind, line, reason):
    """And the frames before and behind it are read."""
    header, good = (ASC_HEADER, ASC_GOOD) if kind == "asc" else (trc_header(kind), TRC_GOOD[kind])
    path = tmp_path / ("car.asc" if kind == "asc" else "car.trc")
    rows, log, failure = read(written(path, header + "\n".join([good, line, good]) + "\n"))
    assert rows == 2 * [(0.4, 0x123, 0, "1", b"\4") if kind == "asc" else (0.017, 0x123, 0, "1", b"\xaa\xbb")]
    assert (log.rejected, failure) == ({reason: 1} if reason else {}, None)


def test_decimal_bytes_of_asc_have_as_many_digits_as_they_need(tmp_path):
    header = ASC_HEADER.replace("hex", "dec")
    lines = ["   0.400000 1  291             Rx   d 3 4 16 255", "   0.500000 1  291             Rx   d 2 4 16 255"]
    rows, log, failure = read(written(tmp_path / "car.asc", header + "\n".join(lines)))
    assert rows == [(0.4, 0x123, 0, "1", b"\x04\x10\xff")]
    assert (log.rejected, failure) == ({"absurd length": 1}, None)


@hypothesis.given(st.lists(asc_lines(), max_size=5))
def test_asc_lines_are_read_as_python_can_reads_them(tmp_path_factory, lines):
    compared_with_the_reader(tmp_path_factory.getbasetemp() / "generated.asc", ASC_HEADER + "\n".join(lines))


@hypothesis.given(st.data(), st.sampled_from(["1.1", "2.1"]))
def test_trc_lines_are_read_as_python_can_reads_them(tmp_path_factory, data, version):
    lines = data.draw(st.lists(trc_lines(version), max_size=5))
    header = (TRC_1_1 if version == "1.1" else TRC_2_1).split(";\n")[0]
    path = tmp_path_factory.getbasetemp() / "generated.trc"
    compared_with_the_reader(path, header + ";\n" + "\n".join(lines))


@hypothesis.given(
    st.lists(
        st.one_of(
            st.builds(
                "{},0x{},{},{},{},{},{}".format,
                st.sampled_from(["1.5", "1631416514.717133", "-0.5", "1", "1e3", "nan", ""]),
                st.text("0123456789abcdef", min_size=1, max_size=9),
                st.sampled_from(["0", "1", "2"]),
                st.sampled_from(["0", "0", "1"]),
                st.sampled_from(["0", "0", "1"]),
                st.sampled_from(["0", "8", "x"]),
                st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())
                | st.text("ABCDabcd01+/=", max_size=9),
            ),
            st.text(max_size=10),
        ),
        max_size=5,
    )
)
def test_csv_lines_are_read_as_python_can_reads_them(tmp_path_factory, lines):
    header = "timestamp,arbitration_id,extended,remote,error,dlc,data\n"
    text = header + "\n".join(line for line in "\n".join(lines).replace("\r", "").split("\n") if line.strip())
    path = written(tmp_path_factory.getbasetemp() / "generated.csv", text)
    expected, failure = [], None
    try:
        with can.LogReader(path) as reader:
            expected.extend(reader)
    except Exception as error:
        failure = error
    rows, log, message = read(path)
    sound = [row for row in python_cans(expected) if np.isfinite(row[0]) and row[1] < 1 << 29]
    left = iter(sound)
    assert all(row in left for row in rows)  # in their order
    assert log.rejected.total() == len(expected) - len(rows)
    assert (message is None) == (failure is None)


# .trc -----------------------------------------------------------------------------------------------------------------

TRC_1_1 = """\
;$FILEVERSION=1.1
;$STARTTIME=44000.5
;
     1)        17.1  Rx         0123  8  00 01 02 03 04 05 06 07
     2)        18.2  Tx     18FEF100  2  AA BB
     3)        19.3  Rx         0123  4  RTR
     4)        20.4  Warng  FFFFFFFF  4  00 00 00 08  BUSHEAVY
     5)        21.5  Rx         0123  0
     6)        22.6  Rx         0123  3  11
"""
TRC_2_1 = """\
;$FILEVERSION=2.1
;$STARTTIME=44000.5
;$COLUMNS=N,O,T,B,I,d,R,L,D
;
      1        17.100 DT  1     0123 Rx -  8    00 01 02 03 04 05 06 07
      2        18.200 FB  2 18FEF100 Tx -  9    00 01 02 03 04 05 06 07 08 09 0A 0B
      3        19.300 RR  1     0123 Rx -  4
      4        20.400 ST  1        - -  -  4    00 00 00 00
      5        21.500 DT  3 00000123 Rx -  0
"""


@pytest.mark.parametrize("end", ["", "\n", ";---+--   ----+----  --+--  ----+---  +  -+ --\n"])
@pytest.mark.parametrize("text", [TRC_1_1, TRC_2_1])
def test_a_trc_log_without_a_frame_is_no_fault(tmp_path, text, end):
    header = text[: text.index(";\n") + 2]
    assert whole(written(tmp_path / "car.trc", header + end)) == []
    frame = text.splitlines(keepends=True)[3 + (text is TRC_2_1)]
    assert len(whole(written(tmp_path / "car.trc", header + end + frame))) == 1


@pytest.mark.parametrize(
    ("text", "count", "others"),
    [
        (TRC_1_1, 4, 2),
        (TRC_2_1, 4, 1),
        (TRC_2_1.replace("2.1", "2.0").replace("T,B,I,d,R,L,D", "T,I,d,l,D").replace(" -  ", " "), 0, 0),
        (";   no version\n;---\n     1)      17 00000123 2 AA BB\n     2)      18     0124 1 CC\n", 2, 0),
    ],
    ids=["1.1", "2.1", "2.0", "1.0"],
)
def test_trc_is_read_as_python_can_reads_it(tmp_path, text, count, others):
    if count == 0:
        text = "\n".join(line[:25] + line[28:] if line[:1] != ";" else line for line in text.splitlines()[:5])
        count = 1
    path = written(tmp_path / "car.trc", text)
    with can.LogReader(path) as reader:
        expected = python_cans(reader)
    rows, log, failure = read(path)
    assert failure is None
    assert rows == expected
    assert len(rows) == count
    assert log.rejected.total() == others


def test_what_python_can_says_is_noted(tmp_path, monkeypatch):
    """Also if the program handles python-can's log; but nothing of what other threads read."""
    monkeypatch.setattr(logging.getLogger("can"), "propagate", False)
    _, log, failure = read(written(tmp_path / "car.trc", TRC_1_1))
    assert log.rejected == {"other event": 1, "unreadable line": 1}
    [note] = log.notes
    assert note.startswith("python-can says: TRCReader: Failed to parse message '6) ")
    assert failure is None
    heard = Libraries(False)
    with heard:
        logger = logging.getLogger("can.io")
        logger.warning("mine %d \x1b[2J\n%s", 1, "x" * 1000)
        logger.warning("mine %d \x1b[2J\n%s", 1, "x" * 1000)
        logger.info("not worth it")
        other = threading.Thread(target=logger.warning, args=("another's",))
        other.start()
        other.join()
        for n in range(30):
            logger.error("error %d", n)
    logger.warning("too late")
    first, *_, last = heard.said()
    assert first.startswith("python-can says: mine 1 \ufffd[2J xxx")
    assert first.endswith("xxx (2 times)")
    assert (len(first) < 300, last) == (True, "and more (11 times)")


# .csv -----------------------------------------------------------------------------------------------------------------

SAVVYCAN = """\
Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8
166064000,0000021A,false,Rx,0,8,FE,36,12,FE,69,05,07,AD,
166065500,18FEF100,true,Rx,1,2,0A,0B,,,,,,,
166066000,00000001,false,Tx,1,0,
"""
CANEDGE = """\
TimestampEpoch;BusChannel;ID;IDE;DLC;DataLength;Dir;EDL;BRS;ESI;RTR;DataBytes
1579876676.605300;1;14FF0121;1;8;8;0;0;0;0;0;AFFEFFFF00000000
1579876676.605350;2;21A;0;9;12;0;1;1;0;0;000102030405060708090A0B
1579876676.605400;1;21A;0;4;0;0;0;0;0;1;
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_savvycan(tmp_path, end):
    text = SAVVYCAN.replace("\n", end)
    expected = [
        (166.064, 0x21A, 0, "0", bytes.fromhex("FE3612FE690507AD")),
        (166.0655, 0x18FEF100, EXTENDED, "1", b"\x0a\x0b"),
        (166.066, 1, 0, "1", b""),
    ]
    assert whole(written(tmp_path / "car.csv", text)) == expected
    old = text.replace(",Dir,", ",").replace(",Rx,", ",").replace(",Tx,", ",")
    assert whole(written(tmp_path / "car.csv", old)) == expected


def test_csv_of_the_canedge(tmp_path):
    path = written(tmp_path / "car.csv", CANEDGE)
    assert whole(path) == [
        (1579876676.6053, 0x14FF0121, EXTENDED, "1", bytes.fromhex("AFFEFFFF00000000")),
        (1579876676.60535, 0x21A, 0, "2", bytes(range(12))),
        (1579876676.6054, 0x21A, REMOTE, "1", b""),
    ]


def test_csv_of_python_can(tmp_path):
    frames = [
        frame(0x123, *range(8), time=1631416514.7171333),
        frame(0x18FEF100, 1, 2, is_extended_id=True, time=0.1 + 0.2),
        frame(0x123, is_remote_frame=True, dlc=4),
        frame(0x123, is_remote_frame=True),
        frame(0, is_error_frame=True),
        frame(0x123, time=-1e-9),
        frame(0x7FF, *range(48), is_fd=True),
    ]
    path = tmp_path / "car.csv"
    with can.Logger(path) as writer:
        for each in frames:
            writer(each)
    with can.LogReader(path) as reader:
        expected = python_cans(reader)
    assert len(expected) == 7
    assert whole(path) == expected
    lines = path.read_text().split("\n", 1)
    assert whole(written(path, lines[1])) == expected  # python-can takes the first line for a header, whatever it is


PYTHON_CAN = "timestamp,arbitration_id,extended,remote,error,dlc,data\n"
ROW = "1.0,0x1,0,0,0,2,AQI=\n"


@pytest.mark.parametrize("text", [SAVVYCAN, CANEDGE, PYTHON_CAN + ROW * 3])
def test_csv_with_empty_lines(tmp_path, text):
    expected = whole(written(tmp_path / "car.csv", text))
    assert len(expected) == 3
    assert whole(written(tmp_path / "car.csv", "\n" + text.replace("\n", "\n\n  \n") + "\r\n")) == expected


UNREADABLE = "a line that cannot be read: "
ON_A_SCREEN = "what candump prints on a screen, "
ADVICE = "record with candump -L (or print with -ta)"
GOOD_SCREEN = " (1631416514.717133)  can0  0D2   [2]  00 00\n"


def cut_off(text, size):
    """A table whose last row is cut off behind so many characters."""
    before, row = text.rstrip().rsplit("\n", 1)
    return ".csv", f"{before}\n{row[:size]}", 2, {}, f"a row that cannot be read: {row[:size]!r}"


@pytest.mark.parametrize(
    ("suffix", "text", "count", "rejected", "failure"),
    [
        (".log", "(1.0) can0 100#11\n(2.0) can0 100#-0\n", 1, {}, ""),  # these are numbers for Python alone
        (".log", "(1.0) can0 100#11\n(2.0) can0 100#+1\n", 1, {}, ""),
        (".log", "(1.0) can0 100#11\n(2.0) can0 100#1_2_\n", 1, {}, ""),
        (".log", "(1.0) can0 100#11\n(2.0) can0 100#01-00000\n", 1, {}, ""),
        (".log", "(1.0) can0 100#112\n(2.0) can0 100#1122\n", 1, {"half a byte": 1}, None),
        (".log", "(1.0) can0 100##1112\n(2.0) can0 100##111\n", 1, {"half a byte": 1}, None),
        (".log", "  can0  123   [1]  11\n" * 3, 0, {}, f"{ON_A_SCREEN}without times; {ADVICE}"),
        (
            *(".log", " (000.000123)  can0  123   [1]  11\n" * 3, 0, {}),
            f"{ON_A_SCREEN}with times such as (000.000123), from the start or from line to line; {ADVICE}",
        ),
        (".log", GOOD_SCREEN + GOOD_SCREEN.replace("[2]", "[3]"), 1, {}, "2 bytes of data, expected 3: "),
        (".log", GOOD_SCREEN + "Dear diary", 1, {}, "no line of candump: 'Dear diary'"),
        *[
            (".asc", f"{ASC_HEADER}{ASC_GOOD}\n{line}\n", 1, {}, UNREADABLE + " ".join(repr(line).split()))
            for line in ("   0.500000 1  123             Rx   d", "   0.5 1  123             Rx   d 2 E8 Z")
        ],
        (".csv", SAVVYCAN.replace(",2,0A,0B", ",3,0A,0B"), 1, {}, ""),
        (".csv", CANEDGE.replace("00000000\n", "000000\n"), 0, {}, "7 bytes of data, expected 8: '1579876676.605300;"),
        (".csv", "time;speed\n0.1;12\n", 0, {}, "its first line is 'time;speed'; expected the header of python-can ("),
        (".csv", "", 0, {}, None),
        (".csv", PYTHON_CAN + ROW + "2.0,0x1,0,0,0,8,AQI=", 1, {"absurd length": 1}, None),
        (".csv", PYTHON_CAN + ROW + "2.0,0x1,0,0,1,3,AQI=", 1, {"absurd length": 1}, None),
        *[cut_off(*each) for each in ((SAVVYCAN, 10), (SAVVYCAN, 24), (CANEDGE, 20), (CANEDGE, 26))],
    ],
)
def test_texts_that_cannot_be_read_as_a_whole(tmp_path, suffix, text, count, rejected, failure):
    rows, log, message = read(written(tmp_path / f"car{suffix}", text))
    assert (len(rows), log.rejected) == (count, rejected)
    assert (message is None) == (failure is None)
    assert failure is None or message.startswith(DAMAGED.format(count) + failure)


# A reader that makes no progress --------------------------------------------------------------------------------------


class Stuck:
    """Gives the first frame for ever, whatever is behind it."""

    def __init__(self, file):
        self._lines = file

    def __iter__(self):
        next(self._lines)
        while True:
            yield frame(0x123, 1, channel=0)


@pytest.mark.parametrize(
    ("name", "reader", "content"),
    [
        ("car.log", "CanutilsLogReader", "(1.0) can0 123#R1\n" * 3),
        ("car.asc", "ASCReader", asc()),
        ("car.trc", "TRCReader", TRC_1_1),
        ("car.csv", "CSVReader", "timestamp,arbitration_id,x\n1\n"),
    ],
)
@pytest.mark.parametrize("speed", [None, 1e6])
def test_a_reader_that_repeats_itself(tmp_path, monkeypatch, name, reader, content, speed):
    """One line is one frame at most: so that is seen at the first frame that is not there."""
    monkeypatch.setattr(can, reader, Stuck)
    path = written(tmp_path / name, content)
    rows, _, failure = read(path)
    assert len(rows) <= 1  # of the first line
    why = "python-can's reader repeats itself: more than one frame of one line"
    assert failure.startswith(DAMAGED.format(len(rows)) + why)
    decoder = CanDecoder([written(tmp_path / "engine.dbc", ENGINE)])
    with pytest.raises(RecordingError, match="repeats itself"):
        list(CanReplay(open_can_log(path), decoder, speed).batches(threading.Event()))


class Plugin(can.io.generic.MessageReader):
    """A format of its own: it may compress, so a byte may be many frames; but not any number of them."""

    def __init__(self, file, frames):
        self._frames = frames

    def __iter__(self):
        return itertools.repeat(frame(0x123, 1), self._frames)

    def stop(self):
        pass


def test_a_plugins_reader_that_repeats_itself(tmp_path, monkeypatch):
    path = written(tmp_path / "car.own", "12345")
    monkeypatch.setattr(can, "LogReader", lambda path: Plugin(path, 5 * 1032))
    assert len(whole(path)) == 5 * 1032
    monkeypatch.setattr(can, "LogReader", lambda path: Plugin(path, 10**9))
    rows, _, failure = read(path)
    assert len(rows) == 5 * 1032
    assert failure.endswith("python-can's reader repeats itself: more frames than the file's bytes can hold")


@pytest.mark.parametrize("suffix", ["log", "asc", "blf", "csv", "db", "mf4"])
def test_equal_frames_at_equal_times_are_no_repetition(tmp_path, suffix):
    """As a log of low resolution has them."""
    if suffix == "mf4":
        pytest.importorskip("asammdf", reason="asammdf is not installed")
    path = tmp_path / f"car.{suffix}"
    if suffix == "db":  # python-can's writer forgets what it holds when it is stopped
        table([(1700000000.0, 0x123, 0, 0, 0, 3, b"123")] * 2000, path)
    else:
        with can.Logger(path) as writer:
            for _ in range(2000):
                writer(frame(0x123, 1, 2, 3, time=1700000000.0))
    assert len(whole(path)) == 2000


# SQLite ---------------------------------------------------------------------------------------------------------------


def table(rows, path):
    columns = "ts REAL, arbitration_id INTEGER, extended INTEGER, remote INTEGER, error INTEGER, dlc INTEGER, data BLOB"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE messages ({columns})")
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    return path


def test_a_table_of_messages(tmp_path):
    rows = [
        (1.5, 0x123, 0, 0, 0, 2, b"ab"),
        (1.25, 0x18FEF100, 1, 0, 0, 12, b"abcdefghijkl"),
        (2.0, 5, 0, 1, 0, 4, None),
        (3.0, 0, 1, 0, 1, 0, b""),
    ]
    expected = [
        (1.5, 0x123, 0, "None", b"ab"),
        (1.25, 0x18FEF100, EXTENDED, "None", b"abcdefghijkl"),
        (2.0, 5, REMOTE, "None", b""),
        (3.0, 0, ERROR | EXTENDED, "None", b""),
    ]
    path = table(rows, tmp_path / "car.db")
    assert whole(path) == expected
    with can.LogReader(path) as reader:
        assert python_cans(reader) == expected
    data = table(rows * 5000, tmp_path / "long.db").read_bytes()
    _, _, failure = read(written(tmp_path / "cut.db", data[: len(data) // 2]))
    assert failure.startswith("damaged or no CAN log (after frame ")
    assert "malformed" in failure
    path = table([(1.5, 0x123, 0, 0, 0, 2, "text"), ("soon", 0x123, 0, 0, 0, 2, b"")], tmp_path / "types.db")
    assert read(path)[2].startswith(DAMAGED.format(0))


# .blf -----------------------------------------------------------------------------------------------------------------


def timed(kind, body, seconds=0.0, version=1, flags=2):
    header = HEADERS[2 if version == 2 else 1].pack(flags, 0, 0, round(seconds / TICK[flags]))
    return lobj(kind, body, header, version)


def can_object(number, **options):
    body = struct.pack("<HBBI8s", 1, 0, 8, 0x100 + number, bytes([number] * 8))
    return timed(1, body, number / 2, **options)


def container(content, method=0):
    packed = zlib.compress(content) if method == 2 else content
    return lobj(LOG_CONTAINER, CONTAINER.pack(method, len(content)) + packed)


def blf(path, payload, objects, size=None, start=(2026, 11, 6, 28, 9, 0, 0, 0)):
    return written(path, blf_header(144 + len(payload) if size is None else size, objects, start) + payload)


BEGAN = datetime.datetime(2026, 11, 28, 9, tzinfo=datetime.UTC).timestamp()
FOUR = [can_object(n) for n in range(4)]
FOUR_ROWS = [(BEGAN + n / 2, 0x100 + n, 0, "1", bytes([n] * 8)) for n in range(4)]


def test_a_blf_log_with_an_impossible_date_is_noted(tmp_path):
    path = blf(tmp_path / "car.blf", container(b"".join(FOUR)), 4, start=(2026, 13, 6, 28, 9, 0, 0, 0))
    rows, log, failure = read(path)
    assert [row[0] for row in rows] == [0.0, 0.5, 1.0, 1.5]
    assert log.notes == ["the log's header says when it began, but not as a date: times count from its start"]
    assert (log.rejected, failure) == ({}, None)


@pytest.mark.parametrize(
    "payload",
    [
        container(b"".join(FOUR)),
        container(b"".join(FOUR), 2),
        b"".join(FOUR),
        FOUR[0] + container(FOUR[1] + FOUR[2]) + FOUR[3],
        container(b"".join(FOUR)[:70]) + container(b"".join(FOUR)[70:], 2),
        b"".join(map(container, FOUR)),
        b"".join(container(b"".join(FOUR)[i : i + 3]) for i in range(0, 192, 3)),
    ],
    ids=["stored", "deflated", "no container", "both", "cut in two", "one each", "crumbs"],
)
def test_objects_may_lie_anywhere(tmp_path, payload):
    assert whole(blf(tmp_path / "car.blf", payload, 4)) == FOUR_ROWS
    path = written(tmp_path / "car.blf.gz", gzip.compress((tmp_path / "car.blf").read_bytes()))
    assert whole(path) == FOUR_ROWS


def test_many_objects_without_a_container(tmp_path):
    path = blf(tmp_path / "car.blf", b"".join(can_object(n % 200) for n in range(20_000)), 20_000)
    assert [row[1] for row in whole(path)] == [0x100 + n % 200 for n in range(20_000)]


def test_objects_that_cannot_be_read_are_counted(tmp_path):
    unknown = b"".join(can_object(n, version=3) for n in range(4))
    rows, log, failure = read(blf(tmp_path / "car.blf", container(unknown), 4))
    assert (rows, failure, log.rejected, log.notes) == ([], None, {"unknown object version": 4}, [])
    rows, log, failure = read(blf(tmp_path / "car.blf", container(unknown, 7) + container(FOUR[0]), 1))
    assert (rows, failure) == (FOUR_ROWS[:1], None)
    assert log.rejected == {"container of unknown compression": 1}


def test_only_objects_that_lie_in_an_unreadable_container_are_lost(tmp_path):
    """Objects of 48 bytes: the second begins before such a container, the third ends two containers behind it."""
    objects = b"".join(FOUR)
    pieces = [(objects[:70], 0), (objects[70:110], 7), (objects[110:120], 0), (objects[120:], 0)]
    rows, log, failure = read(blf(tmp_path / "car.blf", b"".join(container(*piece) for piece in pieces), 4))
    assert (rows, failure) == ([FOUR_ROWS[0], FOUR_ROWS[3]], None)
    assert log.rejected == {"container of unknown compression": 1, "truncated object": 1}
    assert log.notes == ["the log's header says 4 objects, 2 are there"]
    others = (
        timed(4, bytes(24))
        + FOUR[0]
        + timed(11, bytes(8))
        + lobj(65, b"")
        + timed(1, bytes(4))
        + FOUR[1]
        + timed(115, bytes(8))
    )
    rows, log, failure = read(blf(tmp_path / "car.blf", container(others), 6))
    assert (rows, failure) == (FOUR_ROWS[:2], None)
    assert log.rejected == {"other event": 3, "truncated object": 1}


def test_an_object_smaller_than_its_header(tmp_path):
    """A reader that goes on behind it must not come back to it."""
    bad = struct.pack("<4sHHII", b"LOBJ", 16, 1, 12, 1) + bytes(32)
    for payload in (container(b"".join(FOUR) + bad + FOUR[0]), b"".join(FOUR) + bad):
        rows, _, failure = read(blf(tmp_path / "car.blf", payload, 6))
        assert rows == FOUR_ROWS
        assert failure == DAMAGED.format(4) + "an object of type 1 that has 12 bytes; expected 16 to 1,024"


@pytest.mark.parametrize("bit", range(10, 32))
def test_a_damaged_size_of_a_frame_swallows_no_others(tmp_path, bit):
    bad = bytearray(FOUR[1])
    bad[8:12] = struct.pack("<I", len(bad) | 1 << bit)
    rows, _, failure = read(blf(tmp_path / "car.blf", container(FOUR[0] + bad + FOUR[2] * 100, 2), 102))
    assert rows == FOUR_ROWS[:1]
    what = f"an object of type 1 that has {48 | 1 << bit:,} bytes; expected 16 to 1,024"
    assert failure == DAMAGED.format(1) + what


def test_a_large_object_is_put_together_once(tmp_path, monkeypatch):
    walked = []
    monkeypatch.setattr(FORMATS + "blf.walk", lambda data: walked.append(len(data)) or walk(data))
    stream = FOUR[0] + timed(65, bytes(1_000_000)) + FOUR[1]
    pieces = b"".join(container(stream[i : i + 1000]) for i in range(0, len(stream), 1000))
    rows, log, failure = read(blf(tmp_path / "car.blf", pieces, 3))
    assert (rows, log.rejected, failure) == (FOUR_ROWS[:2], {"other event": 1}, None)
    assert sum(walked) < 2 * len(stream)
    too_large = struct.pack("<4sHHII", b"LOBJ", 16, 1, 1 << 30, 65)
    rows, _, failure = read(blf(tmp_path / "car.blf", container(FOUR[0] + too_large + bytes(100)), 2))
    what = "an object of type 65 that has 1,073,741,824 bytes; expected 16 to 16,777,216"
    assert (rows, failure) == (FOUR_ROWS[:1], DAMAGED.format(1) + what)


def test_a_container_is_unpacked_piece_by_piece(tmp_path, monkeypatch):
    """A few bytes may stand for any number."""
    monkeypatch.setattr(FORMATS + "blf.PIECE", 5000)
    walked = []
    monkeypatch.setattr(FORMATS + "blf.walk", lambda data: walked.append(len(data)) or walk(data))
    for count in (104, 105, 20_000):  # 5000 bytes are 104 objects and a part
        stream = b"".join(can_object(n % 4) for n in range(count))
        assert whole(blf(tmp_path / "car.blf", container(stream, 2), count)) == [FOUR_ROWS[n % 4] for n in range(count)]
    assert max(walked) < 5000 + 48
    packed = container(stream, 2)
    rows, _, failure = read(blf(tmp_path / "car.blf", packed[: len(packed) // 2], 20_000))
    assert 1000 < len(rows) < 20_000
    assert failure == DAMAGED.format(len(rows)) + "it ends within an object"
    monkeypatch.setattr(FORMATS + "blf.PACKED", 7)
    assert len(whole(blf(tmp_path / "car.blf", packed, 20_000))) == 20_000


class StopsSoon:
    """An event that is set when it has been looked at some times."""

    def __init__(self, times):
        self._times = times

    def is_set(self):
        self._times -= 1
        return self._times < 0


@pytest.mark.parametrize("speed", [None, 1.0])
def test_a_log_can_be_stopped_where_it_holds_no_frames(tmp_path, speed):
    events = container(timed(4, bytes(24)) * 10, 2)
    log = open_can_log(blf(tmp_path / "car.blf", events * 100, 1000))
    decoder = CanDecoder([written(tmp_path / "engine.dbc", ENGINE)])
    assert list(CanReplay(log, decoder, speed).batches(StopsSoon(5))) == []
    assert log.rejected == {"other event": 60}


@pytest.mark.parametrize("length", [0, 71, 1 << 31])
def test_a_header_of_absurd_length(tmp_path, length):
    path = blf(tmp_path / "car.blf", container(b"".join(FOUR)), 4)
    data = path.read_bytes()
    rows, _, failure = read(written(path, data[:4] + struct.pack("<I", length) + data[8:]))
    assert (rows, failure) == ([], DAMAGED.format(0) + f"a header of {length:,} bytes; expected 72 to 65,536")


def test_other_bytes_where_an_object_must_begin(tmp_path):
    for payload in (container(b"".join(FOUR) + b"nothing of the kind" * 2), b"".join(FOUR) + b"nothing of the kind"):
        rows, _, failure = read(blf(tmp_path / "car.blf", payload, 4))
        assert rows == FOUR_ROWS
        assert failure == DAMAGED.format(4) + "b'noth' where an object must begin, expected b'LOBJ'"
    rows, _, failure = read(blf(tmp_path / "car.blf", container(FOUR[0], 2)[:-4] + b"1234" + FOUR[1], 4))
    assert failure.startswith("damaged or no CAN log (after frame ")


def test_a_header_that_promises_more(tmp_path):
    rows, log, failure = read(blf(tmp_path / "car.blf", container(b"".join(FOUR)), 9))
    assert (rows, failure) == (FOUR_ROWS, None)
    assert log.notes == ["the log's header says 9 objects, 4 are there"]
    rows, log, failure = read(blf(tmp_path / "car.blf", b"".join(FOUR), 4, size=10_000))
    assert rows == FOUR_ROWS
    assert failure == DAMAGED.format(4) + "cut off: 336 bytes, expected 10,000 by its header; copy it again"
    for payload in (b"".join(FOUR)[:-10], container(b"".join(FOUR)[:-10]), container(b"".join(FOUR), 0)[:-10]):
        rows, log, failure = read(blf(tmp_path / "car.blf", payload, 4))
        assert (rows, failure) == (FOUR_ROWS[:3], DAMAGED.format(3) + "it ends within an object")


def test_what_a_killed_writer_of_blf_leaves(tmp_path):
    """The header is as at the beginning; the last object goes on in a container that was never written."""
    path = tmp_path / "car.blf"
    writer = can.BLFWriter(path, max_container_size=2000)
    for n in range(200):
        writer(frame(0x100, n, time=1700000000 + n / 10))
    writer.file.flush()
    left = path.read_bytes()
    writer.stop()
    complete = whole(path)
    rows, log, failure = read(written(path, left))
    assert failure is None
    assert 150 < len(rows) < 200
    assert [row[1:] for row in rows] == [row[1:] for row in complete[: len(rows)]]
    assert [row[0] for row in rows] == pytest.approx([n / 10 for n in range(len(rows))], abs=1e-6)
    [note] = log.notes
    assert note.startswith("the log's writer was stopped before its end: ")
    assert "\n" not in note
    rows, log, failure = read(written(path, left[:-20]))
    assert (failure, len(log.notes)) == (None, 1)
    assert 100 < len(rows) < 200
    rows, log, failure = read(written(path, left[:144]))
    assert (rows, failure, len(log.notes)) == ([], None, 1)


def fd_64(length, data, *, size=None, behind=0, flags=0x1000):
    fields = (2, 15, length, 0, 0x98FEF100, 0, flags, 0, 0, 0, 0, 0, 0, behind, 0)
    return timed(101, struct.pack("<BBBBLLLLLLLHBBL", *fields) + data, 2.0)


def test_objects_are_read_as_python_can_reads_them(tmp_path):
    objects = [
        *FOUR,
        timed(86, struct.pack("<HBBI8s8x", 3, 0x81, 4, 0x123, bytes(8)), 1.0, version=2),
        timed(1, struct.pack("<HBBI8s", 2, 1, 3, 0x80000123, bytes(range(8))), 1.5, flags=1),
        timed(1, struct.pack("<HBBI8s", 0, 0, 15, 0x123, bytes(range(8))), 1.6),
        timed(73, struct.pack("<HHLBBBxLLH2x8s", 1, 0, 0, 0, 0, 4, 0, 0x123, 0, bytes(range(8))), 1.7),
        timed(100, struct.pack("<HBBLLBBB5x64s", 1, 0, 13, 0x123, 0, 0, 1, 32, bytes(range(64))), 1.8),
        timed(100, struct.pack("<HBBLLBBB5x64s", 1, 0x80, 13, 0x123, 0, 0, 1, 0, bytes(64)), 1.9),
        fd_64(48, bytes(range(48))),
        fd_64(48, bytes(range(1, 9))),
        fd_64(12, bytes(range(1, 13)) + b"behind it 12", behind=32 + 40 + 12),
        fd_64(8, bytes(range(8)) + b"more"),
        fd_64(8, b"", flags=0x10),
        timed(1, struct.pack("<HBBI8s", 1, 0, 8, 0x123, bytes(8)), 0.25),  # before the others: the order is the file's
    ]
    path = blf(tmp_path / "car.blf", container(b"".join(objects), 2), len(objects))
    with can.LogReader(path) as reader:
        expected = python_cans(reader, ".blf")
    assert len(expected) == len(objects)
    assert whole(path) == expected


def test_a_log_of_python_can_in_blf(tmp_path):
    path = tmp_path / "car.blf"
    with can.BLFWriter(path, max_container_size=1000) as writer:
        for n in range(1000):
            writer(frame(n, *range(n % 9), time=1700000000.123456 + n / 7, is_extended_id=n % 2 == 0, channel=n % 3))
            writer(frame(n, *range(n % 65), time=1700000000.2 + n / 7, is_fd=True))
            writer(frame(n, time=1700000000.2 + n / 7, is_error_frame=n % 3 == 0, is_remote_frame=n % 3 == 1, dlc=0))
    with can.LogReader(path) as reader:
        expected = python_cans(reader, ".blf")
    assert whole(path) == expected
    assert len(expected) == 3000


def test_a_frame_of_impossible_length(tmp_path):
    rows, log, _ = read(blf(tmp_path / "car.blf", container(fd_64(65, bytes(65)) + FOUR[0]), 2))
    assert (rows, log.rejected) == (FOUR_ROWS[:1], {"absurd length": 1})
    rows, log, _ = read(blf(tmp_path / "car.blf", container(fd_64(8, bytes(8), behind=20) + FOUR[0]), 2))
    assert (rows, log.rejected) == (FOUR_ROWS[:1], {"absurd length": 1})


# .mf4 -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asammdf():
    return pytest.importorskip("asammdf", reason="asammdf is not installed")


def some_mf4(path, count=300):
    """A log of python-can's: data, error and remote frames, each in a channel group of its own."""
    with can.MF4Writer(path) as writer:
        for n in range(count):
            kinds = [{}, {"is_error_frame": True}, {"is_remote_frame": True, "dlc": 4}]
            data = range(n % 65) if n % 3 == 0 else ()
            extended = n % 2 == 0
            writer(
                frame(n, *data, time=1700000000 + n // 4 / 8, channel=n % 5, is_extended_id=extended, **kinds[n % 3])
            )
    return path


@pytest.mark.parametrize("piece", [1, 300, 5000, 1 << 22])
def test_mf4_is_read_as_python_can_reads_it(tmp_path, monkeypatch, asammdf, piece):
    monkeypatch.setattr(FORMATS + "mf4.PIECE", piece)
    path = some_mf4(tmp_path / "car.mf4")
    with can.LogReader(path) as reader:
        expected = python_cans(reader)
    assert whole(path) == expected
    assert len(expected) == 300
    compressed = written(tmp_path / "car.mf4.gz", gzip.compress(path.read_bytes()))
    assert whole(compressed) == expected


def test_groups_are_merged_by_time():
    class Group:
        def __init__(self, number, times):
            self._number, self._times, self.left = number, times, len(times)

        def next(self):
            begin = len(self._times) - self.left
            times = self._times[begin : begin + 3]
            self.left -= len(times)
            return Frames.of_rows([(time, self._number, 0, self._number, b"") for time in times], None)

    for times in (
        [[1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 1, 1, 1, 6], [0, 9]],
        [[1] * 10, [1] * 10],
        [[1, 5, 2, 3, 7, 1, 9], [2, 4, 6, 8]],
        [[1.0]],
    ):
        groups = [Group(*each) for each in enumerate(times)]
        found = Frames.joined(list(merged(groups, Frames.joined, lambda frames: frames.timestamp)))
        # As if a time that is before the one before it in its group were that one's.
        keyed = [
            (key, number, time)
            for number, each in enumerate(times)
            for key, time in zip(itertools.accumulate(each, max), each, strict=True)
        ]
        expected = [(time, number) for _, number, time in sorted(keyed, key=lambda each: each[:2])]
        assert [(row[0], row[1]) for row in found.rows()] == expected


def test_mf4_of_ordinary_signals(tmp_path, asammdf):
    path = tmp_path / "car.mf4"
    with asammdf.MDF(version="4.10") as file:
        signals = [asammdf.Signal(np.arange(5.0), np.arange(5.0), name=name) for name in ("RPM", "SPEED")]
        file.append(signals)
        file.save(path)
    rows, _, failure = read(path)
    what = "no CAN frames, but 2 ordinary signals; expected bus logging (a channel CAN_DataFrame)"
    assert (rows, failure) == ([], DAMAGED.format(0) + what)
    both = some_mf4(tmp_path / "both.mf4")
    with asammdf.MDF(both) as file:
        file.append(signals)
        file.save(path, overwrite=True)
    rows, log, failure = read(path)
    assert (len(rows), failure) == (300, None)
    assert log.notes == ["2 signals in the log that are not frames of CAN are not read"]


def test_an_empty_mf4(tmp_path, asammdf):
    assert whole(some_mf4(tmp_path / "car.mf4", 0)) == []


def test_absurd_times_of_mf4(tmp_path, monkeypatch, asammdf):
    monkeypatch.setattr(FORMATS + "mf4.PIECE", 300)  # some four frames
    path = some_mf4(tmp_path / "car.mf4", 30)
    expected = whole(path)
    real = asammdf.MDF.iter_get

    def spoilt(self, *args):
        for number, signal in enumerate(real(self, *args)):
            signal.timestamps[:: 1 if number == 0 else 2] = np.nan
            yield signal

    monkeypatch.setattr(asammdf.MDF, "iter_get", spoilt)
    rows, log, failure = read(path)
    assert failure is None
    assert len(rows) + log.rejected["absurd timestamp"] == 30
    assert rows == [row for row in expected if row in rows]
    assert 0 < len(rows) < 15


def test_what_a_killed_writer_of_mf4_leaves(tmp_path, asammdf):
    """asammdf writes all data first, and then into the header where it is."""
    path = some_mf4(tmp_path / "car.mf4")
    saved = path.read_bytes()
    with asammdf.MDF(path) as file:
        first = file.header.first_dg_addr
    nowhere = saved.replace(struct.pack("<Q", first), bytes(8), 1)
    rows, _, failure = read(written(path, nowhere))
    what = "nothing in it: no measurement was made, or its writer was stopped while it saved it"
    assert (rows, failure) == ([], DAMAGED.format(0) + what)


def test_a_damaged_mf4(tmp_path, asammdf, capfd):
    """Also the objects that asammdf has made by then are closed in silence."""
    path = some_mf4(tmp_path / "car.mf4")
    whole(path)
    data = path.read_bytes()
    for share in (0.02, 0.5, 0.99):
        rows, _, failure = read(written(path, data[: int(len(data) * share)]))
        assert (rows, failure.startswith(DAMAGED.format(0))) == ([], True)
    assert capfd.readouterr() == ("", "")


def test_what_asammdf_says_is_noted(tmp_path, monkeypatch, asammdf, capfd):
    path = some_mf4(tmp_path / "car.mf4")
    real = asammdf.MDF

    def saying(source):
        logging.getLogger("asammdf").warning("what is this?")
        warnings.warn("an odd\nnumber", RuntimeWarning, stacklevel=1)
        warnings.warn("an odd\nnumber", RuntimeWarning, stacklevel=1)
        for of_programs in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.warn("unclosed file", of_programs, stacklevel=1)
        return real(source)

    monkeypatch.setattr(asammdf, "MDF", saying)
    logger = logging.getLogger("asammdf")
    before = list(warnings.filters), logger.level, list(logger.handlers), logger.propagate
    _, log, failure = read(path)
    assert failure is None
    assert log.notes == ["asammdf says: what is this?", "asammdf warns: an odd number (2 times)"]
    assert (warnings.filters, logger.level, logger.handlers, logger.propagate) == before
    assert capfd.readouterr() == ("", "")


def test_a_log_that_is_read_again_is_counted_anew(tmp_path):
    path = blf(tmp_path / "car.blf", container(b"".join(FOUR) + timed(4, bytes(24))), 9)
    log = open_can_log(path)
    for _ in range(2):
        assert sum(map(len, log.frames())) == log.frames_read == 4
        assert log.rejected == {"other event": 1}
        assert len(log.notes) == 1
