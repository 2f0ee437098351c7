"""Logs of CAN frames for the fuzzer: good logs, changes to them, and second readers of each format, without libraries.

No command: `fuzz.py` imports it.

A second reader says of each record in a file what must come of it. A library may do with a damaged record what it
likes, as long as no row comes that the file does not hold, and none is left out without being counted.
"""

import ast
import base64
import binascii
import contextlib
import functools
import gzip
import logging
import math
import re
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from helpers import recordings_folder

from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.can.frames import ERROR, EXTENDED, REMOTE
from f1buf.telemetry.sources.can.log import open_can_log

# What must come of a record: its row; its row or a count of what was left out; anything; a count, for it is no frame.
MUST, TOLD, FREE, EVENT = 3, 2, 1, 0
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
START = 1_700_000_000.0  # [s] Unix time of what the logs hold


class Record(NamedTuple):
    need: int
    row: tuple | None  # timestamp, id, kind, bus, data, each None if it is not known
    text: str = ""  # the line, if it is damaged: a row may be made of its digits

    def allows(self, row):
        return (self.row is not None and same(self.row, row)) or bool(self.text and holds(self.text, row))


def same(expected, row):
    timestamp, can_id, kind, bus, data = expected
    if kind is None or kind & row[2] & ERROR:  # no frame was sent: what is said of its id and data differs by format
        can_id, kind, bus, data = None, row[2], None, None
    return (
        (timestamp is None or abs(timestamp - row[0]) <= 2e-6 + 1e-9 * abs(timestamp))
        and (can_id is None or can_id == row[1])
        and kind == row[2]
        and (bus is None or bus == row[3])
        and (data is None or data == row[4])
    )


def holds(text, row):
    """Say whether a row's id and data stand in a line, in any notation."""
    _, can_id, kind, _, data = row
    words = re.findall(r"[^\s,;#]+", text)
    numbers = [{_number(word.rstrip("xX"), base) for base in (10, 16)} for word in words]
    digits = re.sub("[^0-9a-f]", "", text.lower())
    if kind & ERROR:
        return True
    ids = {number & 0x1FFFFFFF for each in numbers for number in each if number is not None}  # flags may be above
    if f"{can_id:x}" not in digits and can_id not in ids:
        return False
    return (
        data.hex() in digits
        or any(_base64(word) == data for word in words)
        or any(
            all(octet in number for octet, number in zip(data, numbers[i:], strict=False))
            for i in range(len(numbers) - len(data) + 1)
        )
    )


def _number(word, base):
    try:
        return int(word, base)
    except ValueError:
        return None


def _base64(word):
    with contextlib.suppress(ValueError):
        return base64.b64decode(word)


def unexplained(records, rows, told, events, ended):
    """Return what is wrong with the rows that came of these records, None if nothing is.

    `told` is how many were counted as left out, `events` how many of these as no frames. If reading `ended` with an
    error, the error stands for all records behind it.
    """
    needs = {0: 0}  # by the number of rows used up: the least number of records left out that must be counted
    damaged_later = [False]
    for record in reversed(records):
        damaged_later.append(damaged_later[-1] or record.need in (TOLD, FREE))
    damaged_later.reverse()
    for number, record in enumerate(records):
        if ended and damaged_later[number] and needs.get(len(rows), math.inf) <= told:
            return None
        if record.need == EVENT and events:
            told, events = told - 1, events - 1
        following = {}
        for used, left_out in needs.items():
            if used < len(rows) and record.allows(rows[used]):
                following[used + 1] = min(left_out, following.get(used + 1, math.inf))
            if record.need != MUST:
                following[used] = min(left_out + (record.need == TOLD), following.get(used, math.inf))
        if not following:
            place = max(needs)
            return f"record {number} {record}, but row {place} of {len(rows)} is {rows[place : place + 1]}"
        needs = following
    if ended:
        return f"an error behind {len(rows)} rows, and nothing is damaged there, or not all before it was told ({told})"
    if len(rows) not in needs:
        return f"{len(rows)} rows, but there are {max(needs)} at most: {rows[max(needs) :][:1]}"
    if needs[len(rows)] > told:
        return f"{needs[len(rows)]} records were left out, and {told} told"
    if told and not damaged_later[0]:
        return f"{told} told of a log without a fault"
    return None


class LogTarget:
    """Inputs: a byte, 1 if the log is compressed, and the log."""

    suffix: str
    needs: tuple[str, ...] = ("can",)  # modules
    can_be_compressed = True

    def __init__(self):
        logging.getLogger("can").addHandler(logging.NullHandler())  # or it would print what it says
        self.folder = Path(tempfile.mkdtemp(prefix="f1buf-fuzz-"))

    def seeds(self):
        logs = _bases(type(self))
        return [b"\0" + log for log in logs] + [b"\1" + log for log in logs[:1] if self.can_be_compressed]

    def mutate(self, rng, corpus):
        data = rng.choice(corpus)
        zipped, log = data[:1], data[1:]
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            log = self.bent(rng, log)[: 1 << 16]
        return data if self.is_harmful(log) else zipped + log

    def is_harmful(self, log):
        """Say whether a log is known to harm other software that reads it: then it is neither tried nor kept."""
        return False

    def check(self, data):
        zipped, log = data[:1] == b"\1", data[1:]
        for path in self.folder.iterdir():
            path.unlink()
        path = self.folder / f"car{self.suffix}{'.gz' * zipped}"
        self.write(path, gzip.compress(log, 1, mtime=0) if zipped else log)
        records = list(self.read(log))
        rows, rejected, notes, message = _outcome(path)
        told = math.inf if notes else sum(rejected.values())
        fault = unexplained(records, rows, told, rejected["other event"], ended=message is not None)
        assert fault is None, f"{fault}\n{_plan(records)}\nrejected: {dict(rejected)}, notes: {notes}, error: {message}"
        needs = [record.need for record in records]
        return len(str(len(rows))), needs.count(TOLD), FREE in needs, tuple(sorted(rejected)), _plain(message)

    def write(self, path, log):
        path.write_bytes(log)

    def close(self):
        shutil.rmtree(self.folder)


def _outcome(path):
    """Return a log's rows, the counts of what was left out, the notes, and the error at which it ended."""
    rows, log, message = [], None, None
    try:
        log = open_can_log(path)
        for frames in log.frames():
            rows.extend(frames.rows())
    except RecordingError as error:
        message = str(error)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message, message
    return rows, log.rejected if log else Counter(), list(getattr(log, "notes", ())), message


def _plan(records):
    """Return the places of damaged records, for people."""
    return "".join(f"{number} {record}\n" for number, record in enumerate(records) if record.need in (TOLD, FREE))


def _plain(message):
    return message and re.sub(r"\d+", "0", message.partition(": ")[2])[:60]


@functools.cache
def _bases(target):
    with tempfile.TemporaryDirectory(prefix="f1buf-fuzz-") as folder:
        return list(target.bases(Path(folder)))


def messages(*, fd=True, remote=True, error=True, channels=True):
    """Return python-can's frames of every kind."""
    import can

    found = []
    for number in range(24):
        kind = number % 8
        length = FD_LENGTHS[number % 16] if kind == 3 and fd else number % 9
        options = {"data": bytes((number * 16 + i) % 256 for i in range(length))}
        if kind == 5 and remote:
            options = {"is_remote_frame": True, "dlc": length}
        elif kind == 6 and error:
            options = {"is_error_frame": True, "is_extended_id": False}
        elif kind == 3 and fd and length:  # python-can's .asc has no other way to say that one is remote
            options |= {"is_fd": True, "bitrate_switch": number > 12}
        found.append(
            can.Message(
                timestamp=START + number * 0.0125,
                **{
                    "is_extended_id": kind in (1, 4),
                    "arbitration_id": (0x18FEF100 if kind in (1, 4) else 0x100) + number,
                    "channel": number % 2 if channels else None,
                    **options,
                },
            )
        )
    return found


def _written(path, frames, **options):
    import can

    with can.Logger(path, **options) as writer:
        for frame in frames:
            writer(frame)
    return path.read_bytes()


# Text -----------------------------------------------------------------------------------------------------------------

# fmt: off
WORDS = (
    "", "0", "1", "2", "7", "8", "9", "15", "16", "64", "65", "255", "256", "2047", "2048", "7FF", "800", "1FFFFFFF",
    "20000000", "FFFFFFFF", "-1", "1.5", "0.000000", "-0.5", "1e5", "99999999999.5", "1" * 320 + ".0", "nan", "inf",
    "0x10", "1_0", "R", "Rx", "Tx", "d", "r", "x",
)
# fmt: on


class TextTarget(LogTarget):
    strange: tuple[str, ...] = ("", "# a comment", "hello")  # lines to put in

    def bent(self, rng, log):
        text = log.decode("latin-1")
        lines = text.splitlines(keepends=True) or [""]
        place = rng.randrange(len(lines))
        kind = rng.randrange(12)
        if kind == 0:
            return log[: rng.randint(0, len(log))]
        if kind == 1:
            del lines[place]
        elif kind == 2:
            lines.insert(place, rng.choice(lines))
        elif kind == 3:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == 4:
            lines.insert(place, rng.choice(self.strange) + "\n")
        elif kind == 5:
            newline = rng.choice(("\n", "\r\n"))
            lines = [line.rstrip("\r\n") + newline for line in lines]
        elif kind == 6:
            lines[place] = rng.choice((str.upper, str.lower, str.lstrip, " {}".format))(lines[place])
        elif kind == 7:
            line = bytearray(lines[place].encode("latin-1"))
            at = rng.randint(0, len(line))
            line[at : at + rng.choice((0, 1, 1, 3))] = bytes([rng.choice(b"0189AFafgxR#,. \t-\xe4\xff\0")])
            lines[place] = line.decode("latin-1")
        else:  # a word for another
            words = re.split(r"([\s,#();=]+)", lines[place])
            at = rng.randrange(len(words))
            other = re.split(r"([\s,#();=]+)", rng.choice(lines))
            words[at] = rng.choice((rng.choice(WORDS), rng.choice(WORDS), rng.choice(other), words[at][:-1]))
            lines[place] = "".join(words)
        return "".join(lines).encode("latin-1", "replace")


def _lines(log):
    """Return the lines of a text, of which str.splitlines would make more."""
    return re.split("\r\n|\r|\n", log.decode("utf-8", "replace"))


def _finite(text):
    value = float(text)
    return value if math.isfinite(value) else None


class CandumpTarget(TextTarget):
    suffix = ".log"
    strange = ("", "# a comment", " can0  123   [8]  11 22 33 44 55 66 77 88", "(1.0) can0", "(1.0) can0 123#1")

    LINE = re.compile(r"\((\d+\.\d+)\) ([!-~]+) ([0-9A-Fa-f]+)#([0-9A-Fa-f#R]*)(?: [RT])?", re.ASCII)

    @classmethod
    def bases(cls, folder):
        yield _written(folder / "car.log", messages())
        yield "".join(cls.written(*each) for each in BY_HAND).encode()
        drive = recordings_folder() / "road_car.log"
        if drive.is_file():
            with drive.open("rb") as file:
                yield b"".join(next(file) for _ in range(60))

    @staticmethod
    def written(timestamp, can_id, kind, bus, data):
        """Return a line as candump -L writes it."""
        number = f"{can_id | 0x20000000:08X}" if kind & ERROR else f"{can_id:0{8 if kind & EXTENDED else 3}X}"
        flags = "#1" if len(data) > 8 else ""
        return f"({timestamp:.6f}) {bus} {number}#{flags}{'R' if kind & REMOTE else data.hex().upper()}\n"

    @classmethod
    def read(cls, log):
        for line in _lines(log):
            if text := line.strip():
                yield cls.record(text)

    @classmethod
    def record(cls, text):
        damaged = Record(TOLD, None, text)
        if not (match := cls.LINE.fullmatch(text)):
            return damaged
        seconds, bus, number, body = match.groups()
        timestamp, can_id = _finite(seconds), int(number, 16)
        if timestamp is None or bus.isdigit():
            return damaged
        if len(number) == 3 and can_id < 0x800:
            kind = 0
        elif len(number) == 8 and can_id < 0x40000000:
            kind = ERROR if can_id & 0x20000000 else EXTENDED
        else:
            return damaged
        if re.fullmatch("R[0-8]?", body):
            return Record(MUST, (timestamp, can_id, kind | REMOTE, bus, b"")) if kind != ERROR else damaged
        lengths, digits = range(9), body
        if re.match("#[0-7]", body):
            lengths, digits = FD_LENGTHS, body[2:]
        if not re.fullmatch("(?:[0-9A-Fa-f]{2})*", digits) or len(digits) // 2 not in lengths:
            return damaged
        return Record(MUST, (timestamp, can_id, kind, bus, bytes.fromhex(digits)))


# What python-can does not write: several buses in every format, errors of all kinds, frames without data
BY_HAND = [
    (START, 0x123, 0, "can0", bytes(range(8))),
    (START + 0.001, 0x123, 0, "can1", b"\1\2\3"),
    (START + 0.002, 0x18FEF100, EXTENDED, "can0", b""),
    (START + 0.003, 0x7FF, REMOTE, "vcan-1", b""),
    (START + 0.004, 0x80, ERROR, "can0", bytes(8)),
    (START + 0.005, 0x4, ERROR, "can0", bytes(8)),  # a controller's problem
    (START + 0.006, 0x1FFFFFFF, EXTENDED | REMOTE, "can0", b""),
    (START + 0.006, 0, 0, "can0", bytes(range(64))),
    (START + 0.005, 1, EXTENDED, "can1", bytes(range(12))),  # an earlier one
    (START + 3600.0, 0x55, 0, "can0", b"\xff"),
]


class AscTarget(TextTarget):
    suffix = ".asc"
    strange = (
        "",
        "// a comment",
        "   0.500000 Start of measurement",
        "   0.500000 1  Statistic: D 0 R 0 XD 0 XR 0 E 0 O 0 B 0.00%",
        "   0.500000 CAN 1 Status:chip status error active",
        "   0.500000 1  123             TxRq   d 2 01 02",
        "   0.500000 1  100             Rx   d 8 00 11",
        "   0.500000 1  100             Rx",
        "Begin Triggerblock Tue Nov 14 10:13:20.000 pm 2023",
        "End TriggerBlock",
    )

    HEADER = re.compile(
        r"(?:[ \t]*(?://[^\n]*)?\n)*date [A-Z][a-z]{2} [A-Z][a-z]{2} \d+ \d+:\d\d:\d\d(?:\.\d+)?(?: [ap]m)? \d{4}\n"
        r"base (hex|dec)  timestamps (absolute|relative)\n(?:(?:no )?internal events logged\n)?"
    )
    BLOCK = re.compile(
        r"Begin Triggerblock [A-Z][a-z]{2} [A-Z][a-z]{2} \d+ \d+:\d\d:\d\d(?:\.\d+)?(?: [ap]m)? \d{4}|End TriggerBlock"
    )
    # A request to send is no frame on the bus: another line follows once that was sent.
    EVENT = re.compile(r"Start of measurement|\d+ +Statistic: .*|CAN \d+ Status:.*|\d+ +[0-9A-F]+x? +TxRq .*")
    FRAME = re.compile(
        r"(?!date|base|begin|end|(?:no )?internal|.*measurement)(.*\b(?:Rx|Tx|CANFD|ErrorFrame)\b|-?\d+\.\d+\s+\d+\s)",
        re.IGNORECASE,
    )
    FD_TAIL = " ".join(["0"] * 8)

    @classmethod
    def bases(cls, folder):
        written = _written(folder / "car.asc", messages())
        yield re.sub(rb"^date .*", b"date Tue Nov 14 22:13:20.0 2023", written)  # not the present one
        for base in ("hex", "dec"):
            for kind in ("absolute", "relative"):
                yield cls.by_hand(base, kind, block=True)
        yield cls.by_hand("hex", "absolute", block=False)
        yield cls.by_hand("dec", "relative", block=False)

    @classmethod
    def by_hand(cls, base, kind, block):
        lines = ["date Tue Nov 14 10:13:20.000 pm 2023", f"base {base}  timestamps {kind}"]
        if block:
            lines += ["internal events logged", "// version 9.0.0"]
            lines += ["Begin Triggerblock Tue Nov 14 10:13:20.000 pm 2023", "   0.000000 Start of measurement"]
        before = START
        for timestamp, *frame in sorted(BY_HAND):
            if len(frame[-1]) > 12 and base == "dec":
                continue  # nobody says which base the DLC of a long one has
            lines.append(cls.written(timestamp - before, base == "hex", *frame))
            if kind == "relative":
                before = timestamp
        return "\n".join([*lines, *["End TriggerBlock"] * block, ""]).encode()

    @classmethod
    def written(cls, seconds, in_hex, can_id, kind, bus, data):
        number = f"{can_id:{'X' if in_hex else 'd'}}{'x' * bool(kind & EXTENDED)}"
        channel = int(bus[-1]) + 1
        octets = " ".join(f"{octet:02X}" if in_hex else str(octet) for octet in data)
        if kind & ERROR:
            return f"{seconds:11.6f} {channel}  ErrorFrame"
        if kind & REMOTE:
            return f"{seconds:11.6f} {channel}  {number:<15} Tx   r"
        if len(data) > 8:
            dlc = FD_LENGTHS.index(len(data))
            start = f"{seconds:11.6f} CANFD {channel:>3} Rx   {number:>8}  {'':>32} 1 0"
            return f"{start} {dlc if not in_hex else f'{dlc:x}'} {len(data):>2} {octets} {cls.FD_TAIL}"
        return f"{seconds:11.6f} {channel}  {number:<15} Rx   d {len(data)} {octets}  Length = 0 BitCount = 64"

    @classmethod
    def read(cls, log):
        """Yield records whose times count from the log's start: relative ones are added up."""
        text = "\n".join(_lines(log))
        header = cls.HEADER.match(text)
        sure, base, relative = True, 16, False
        if header:
            base, relative = (16 if header[1] == "hex" else 10), header[2] == "relative"
        if re.findall(r"^\s*(begin|end)\s+triggerblock", text.lower(), re.MULTILINE)[-1:] == ["begin"]:
            yield Record(FREE, None)  # its writer did not come to the end
        clock, known = 0.0, True
        for line in text[header.end() if header else 0 :].split("\n"):
            line = line.strip()
            if line.startswith("//") or not line:
                continue
            sure = sure and not re.match("date|base", line, re.IGNORECASE) and header is not None
            if relative and cls.BLOCK.fullmatch(line) and clock:
                known = False  # nobody says whether the times begin anew
            match = re.match(r"(\d+\.\d+) +(.*)", line, re.ASCII)
            if match and cls.EVENT.fullmatch(match[2]):
                clock += _finite(match[1]) or 0.0
                if "measurement" not in line:
                    yield Record(EVENT, None)
                continue
            if not sure:
                yield Record(TOLD if cls.FRAME.match(line) else FREE, None, line)
                continue
            timestamp = _finite(match[1]) if match else None
            record = cls.record(match[2], base) if timestamp is not None else None
            if timestamp is not None and relative:
                timestamp = clock = clock + timestamp
            if record is not None:
                row = record.row and (timestamp if known else None, *record.row[1:])
                yield Record(record.need if known else TOLD, row, line)
            elif not cls.BLOCK.fullmatch(line):
                known = known and not relative
                yield Record(TOLD if cls.FRAME.match(line) else FREE, None, line)

    @classmethod
    def record(cls, rest, base):
        """Return the record of what stands behind the time; None if it is no sound frame."""
        words = rest.split()
        if re.fullmatch(r"[1-9]\d* +ErrorFrame", rest, re.ASCII):
            return Record(MUST, (None, None, ERROR, str(int(words[0])), None))
        digit = "[0-9A-Fa-f]" if base == 16 else "[0-9]"
        octet = f"{digit}{{2}}" if base == 16 else "[0-9]{1,3}"
        head = rf"([1-9]\d*) +({digit}+)(x?) +(?:Rx|Tx) +"
        kind = 0
        if match := re.fullmatch(head + rf"r(?: ({digit}))?(?:  +Length = .*)?", rest, re.ASCII):
            kind, octets, length = REMOTE, "", 0
        elif match := re.fullmatch(head + rf"d ([0-8])((?: +{octet})*) *(?:  Length = .*)?", rest, re.ASCII):
            octets, length = match[5], int(match[4])
        elif match := re.fullmatch(
            rf"CANFD +([1-9]\d*) +(?:Rx|Tx) +({digit}+)(x?) +([01]) [01] ({digit}) +([0-9]+)((?: +{octet})*)",
            re.sub(r" +(?:[0-9A-F]+ +){7}[0-9A-F]+$", "", rest),
            re.ASCII,
        ):
            octets, length = match[7], int(match[6])
            if length == 0 or int(match[5], base) > 15 or FD_LENGTHS[int(match[5], base)] != length:
                return None
        else:
            return None
        data = [int(octet, base) for octet in octets.split()]
        can_id = int(match[2], base)
        kind |= EXTENDED if match[3] else 0
        if len(data) != length or max(data, default=0) > 255 or can_id >= (1 << 29 if match[3] else 1 << 11):
            return None
        return Record(MUST, (None, can_id, kind, str(int(match[1])), bytes(data)))


class TrcTarget(TextTarget):
    suffix = ".trc"
    strange = (
        "",
        "; a comment",
        "      3)       500.1  Warng  FFFFFFFF  4  00 00 00 08  BUSHEAVY",
        "      3       500.100 ST         Rx 00 00 00 08",
        "      3       500.100 EC         Rx 00 00",
        "      3       500.100 ER 1       Rx 04 00 02 00 00",
        "      3)      500",
    )

    FRAME = re.compile(r"\d\)?\s+-?\d+(\.\d+)?\s+\S+\s")
    NO_FRAME = ({"Warng"}, {"ST", "EC", "EV"})  # types of lines that tell of the adapter's state, before 2.0 and since
    TYPES = MappingProxyType({"DT": 0, "FD": 0, "FB": 0, "FE": 0, "BI": 0, "RR": REMOTE})
    # By version, how a line is made: number, offset, and so on
    LAYOUTS = MappingProxyType(
        {
            "1.0": "{n:>6}) {ms:>9.0f}     {id} {dlc} {data}",
            "1.1": "{n:>6}) {ms:>13.1f}  {dir}     {id}  {dlc}  {data}",
            "1.3": "{n:>6}) {ms:>13.1f}  {bus}  {dir}     {id} -  {dlc}    {data}",
            "2.0": "{n:>7} {ms:>13.3f} {type} {id} {dir}  {length:<2}   {data}",
            "2.1": "{n:>7} {ms:>13.3f} {type} {bus} {id} {dir} -  {dlc:<2}   {data}",
        }
    )
    COLUMNS = MappingProxyType({"2.0": "N,O,T,I,d,l,D", "2.1": "N,O,T,B,I,d,R,L,D"})
    SINCE = 25569.0  # [d] 1970, since 1899-12-30

    @classmethod
    def bases(cls, folder):
        written = _written(folder / "car.trc", messages(fd=False, remote=False, error=False))
        yield written.replace(str(folder).encode(), b"")
        for version in cls.LAYOUTS:
            yield cls.by_hand(version)

    @classmethod
    def by_hand(cls, version):
        lines = [f";$FILEVERSION={version}"] if version != "1.0" else [";" + "#" * 74]
        if version != "1.0":
            lines.append(f";$STARTTIME={START / 86400 + cls.SINCE!r}")
        if version in cls.COLUMNS:
            lines.append(f";$COLUMNS={cls.COLUMNS[version]}")
        lines += [";", ";   C:\\car.trc", ";---+--   ----+----  --+--  ----+---  +  -+ -- -- -- -- -- -- --"]
        for n, (timestamp, can_id, kind, bus, data) in enumerate(BY_HAND, 1):
            if kind & ERROR or (len(data) > 8 and version < "2.0"):
                continue
            remote = kind & REMOTE
            octets = " ".join(f"{octet:02X}" for octet in data)
            lines.append(
                cls.LAYOUTS[version].format(
                    n=n,
                    ms=(timestamp - START) * 1000,
                    dir="Rx",
                    id=f"{can_id:0{8 if kind & EXTENDED else 4}X}",
                    bus=int(bus[-1]) + 1,
                    type="RR" if remote else "FB" if len(data) > 8 else "DT",
                    length=len(data),
                    dlc=FD_LENGTHS.index(len(data)),
                    data="RTR" if remote and version < "2.0" else octets,
                )
            )
        return "\r\n".join([*lines, ""]).encode()

    @classmethod
    def read(cls, log):
        lines = [line.strip() for line in _lines(log)]
        head = next((number for number, line in enumerate(lines) if not line.startswith(";")), len(lines))
        version, start = cls.header([line for line in lines[:head] if line.startswith(";$")])
        sure = version is not None and not any(line.startswith(";$") for line in lines[head:])
        if not sure:
            yield Record(FREE, None)
        for line in lines:
            if not line or line.startswith(";"):
                continue
            record = cls.record(version, start, line.split()) if sure else None
            if record is not None:
                yield record._replace(text=line)
            else:
                yield Record(TOLD if sure and cls.FRAME.search(line) else FREE, None, line)

    @classmethod
    def header(cls, lines):
        """Return the version and start [s]; no version if the header leaves a doubt."""
        if not lines:
            return "1.0", 0.0
        match = re.fullmatch(
            r";\$FILEVERSION=(1\.1|1\.3|2\.0|2\.1)\n;\$STARTTIME=(\d{1,6}\.\d+)(?:\n;\$COLUMNS=(\S+))?",
            "\n".join(lines),
        )
        if match is None or match[3] != cls.COLUMNS.get(match[1]):
            return None, 0.0
        return match[1], (float(match[2]) - cls.SINCE) * 86400

    @classmethod
    def record(cls, version, start, words):
        names = {
            "1.0": "n ms id dlc",
            "1.1": "n ms dir id dlc",
            "1.3": "n ms bus dir id - dlc",
            "2.0": "n ms type id dir length",
            "2.1": "n ms type bus id dir - dlc",
        }[version].split()
        ours, others = cls.NO_FRAME if version < "2.0" else cls.NO_FRAME[::-1]
        if version > "1.0" and ours.intersection(words[2:4]):
            return Record(EVENT, None)
        if (ours | others).intersection(words[2:4]):
            return Record(FREE, None)
        if len(words) < len(names):
            return None
        fields, data = dict(zip(names, words, strict=False)), words[len(names) :]
        kind = cls.TYPES.get(fields.get("type", "DT"))
        if kind is None or not re.fullmatch(r"\d+" if version >= "2.0" else r"\d+\)", fields["n"], re.ASCII):
            return None
        if not (re.fullmatch(r"\d+(\.\d+)?", fields["ms"], re.ASCII) and fields.get("dir", "Rx") in ("Rx", "Tx")):
            return None
        number, bus = fields["id"], fields.get("bus", "1")
        offset = _finite(fields["ms"])
        if offset is None or not (re.fullmatch(r"[1-9]\d*", bus, re.ASCII) and fields.get("-", "-") == "-"):
            return None
        if not re.fullmatch("[0-9A-Fa-f]{4}|[0-9A-Fa-f]{7,8}", number):
            return None
        if int(number, 16) >= (1 << 11 if len(number) == 4 else 1 << 29):
            return None
        kind |= EXTENDED if len(number) > 4 else 0
        size = fields.get("dlc", fields.get("length"))
        if not re.fullmatch("[0-9]{1,2}", size):
            return None
        if version < "2.0" and data == ["RTR"] and int(size) <= 8:
            kind, data, length = kind | REMOTE, [], 0
        else:
            flexible = fields.get("type", "DT") in ("FD", "FB", "FE", "BI")
            if int(size) > (15 if flexible and "dlc" in fields else 64 if flexible else 8):
                return None
            length = 0 if kind & REMOTE else FD_LENGTHS[int(size)] if "dlc" in fields else int(size)
            if length not in FD_LENGTHS:
                return None
        if len(data) != length or not all(re.fullmatch("[0-9A-Fa-f]{2}", octet) for octet in data):
            return None
        octets = bytes.fromhex("".join(data))
        return Record(MUST, (start + offset / 1000, int(number, 16), kind, bus, octets))


class CsvTarget(TextTarget):
    suffix = ".csv"
    strange = ("", "hello", "1.5,0x100,0,0,0,8,AAEC", "timestamp,arbitration_id,extended,remote,error,dlc,data")

    HEADER = "timestamp,arbitration_id,extended,remote,error,dlc,data"
    LINE = re.compile(r"(\d+\.\d+),0x([0-9a-f]+),([01]),([01]),([01]),([0-9]{1,2}),([A-Za-z0-9+/=]*)", re.ASCII)

    @classmethod
    def bases(cls, folder):
        yield _written(folder / "car.csv", messages(channels=False))

    @classmethod
    def read(cls, log):
        for number, text in enumerate(filter(None, map(str.strip, _lines(log)))):
            if number and text != cls.HEADER:
                yield cls.record(text)
            elif text != cls.HEADER or number:  # lines that others than python-can may write, or a header that is lost
                record = cls.record(text)
                yield record._replace(need=TOLD if record.need == MUST else FREE)

    @classmethod
    def record(cls, line):
        damaged = Record(TOLD, None, line)
        if not (match := cls.LINE.fullmatch(line)):
            return damaged
        timestamp, can_id = _finite(match[1]), int(match[2], 16)
        extended, remote, error = (match[number] == "1" for number in (3, 4, 5))
        try:
            data = binascii.a2b_base64(match[7], strict_mode=True)
        except binascii.Error:
            return damaged
        sound = timestamp is not None and can_id < (1 << 29 if extended else 1 << 11) and not (remote and error)
        if not sound or (int(match[6]) > 8 or data if remote else int(match[6]) != len(data)):
            return damaged
        if len(data) not in FD_LENGTHS:
            return damaged
        kind = EXTENDED * extended | REMOTE * remote | ERROR * error
        return Record(MUST, (timestamp, can_id, kind, "None", data))


# SQLite ---------------------------------------------------------------------------------------------------------------


class DbTarget(LogTarget):
    """Logs are rows in Python's notation, one a line. Damaged files of SQLite are what `RecordingTarget` tries."""

    suffix = ".db"
    can_be_compressed = False

    VALUES = (None, 0, 1, 2, -1, 7, 8, 9, 64, 65, 0x7FF, 0x800, 1 << 29, 1 << 40, 0.5, -0.5, 1e300, math.pi, "1", "x")
    VALUES += (b"", b"\0", bytes(8), bytes(9), bytes(64), bytes(65))

    @classmethod
    def bases(cls, folder):
        yield b"".join(
            b"%r\n" % ((frame.timestamp, frame.arbitration_id, *flags, frame.dlc, bytes(frame.data)),)
            for frame in messages(channels=False)
            for flags in [(int(frame.is_extended_id), int(frame.is_remote_frame), int(frame.is_error_frame))]
        )

    def bent(self, rng, log):
        lines = log.splitlines(keepends=True) or [b"(0.5, 1, 0, 0, 0, 0, b'')\n"]
        place = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(place, rng.choice(lines))
        else:
            row = list(ast.literal_eval(lines[place].decode()))
            row[rng.randrange(len(row))] = rng.choice(self.VALUES)
            lines[place] = b"%r\n" % (tuple(row),)
        return b"".join(lines)

    def write(self, path, log):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(
                "CREATE TABLE messages (ts REAL, arbitration_id INTEGER, extended INTEGER, remote INTEGER,"
                " error INTEGER, dlc INTEGER, data BLOB)"
            )
            rows = [ast.literal_eval(line.decode()) for line in log.splitlines()]
            connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    @classmethod
    def read(cls, log):
        for line in log.splitlines():
            yield cls.record(*ast.literal_eval(line.decode()))

    @classmethod
    def record(cls, timestamp, can_id, extended, remote, error, dlc, data):
        try:
            row = (timestamp, can_id, EXTENDED * extended | REMOTE * remote | ERROR * error, "None", data)
            sound = (
                isinstance(timestamp, int | float)
                and timestamp >= 0
                and all(isinstance(value, int) for value in (can_id, extended, remote, error, dlc))
                and isinstance(data, bytes)
                and {extended, remote, error} <= {0, 1}
                and not remote & error
                and 0 <= can_id < (1 << 29 if extended else 1 << 11)
                and ((dlc <= 8 and not data) if remote else (dlc == len(data) and dlc in FD_LENGTHS))
            )
        except TypeError:
            return Record(TOLD, (None,) * 5)
        return Record(MUST, row) if sound else Record(TOLD, (None,) * 5)


# Vector's binary logs -------------------------------------------------------------------------------------------------

FILE = struct.Struct("<4sL8BQQLL8H8H")
OBJECT = struct.Struct("<4sHHLL")  # LOBJ, size of the header, its version, size of all, type
CONTAINER = struct.Struct("<H6xL4x")
HEADERS = {1: struct.Struct("<LHHQ"), 2: struct.Struct("<LBxHQ8x")}  # by version; flags first, time fourth
TICK = {1: 1e-5, 2: 1e-9}  # by flags
LOG_CONTAINER, CAN_MESSAGE, CAN_ERROR_EXT, CAN_MESSAGE2, CAN_FD_MESSAGE, CAN_FD_MESSAGE_64 = 10, 1, 73, 86, 100, 101
BODIES = {
    CAN_MESSAGE: struct.Struct("<HBBL8s"),
    CAN_MESSAGE2: struct.Struct("<HBBL8s"),
    CAN_FD_MESSAGE: struct.Struct("<HBBL4xBBB5x64s"),
    CAN_FD_MESSAGE_64: struct.Struct("<4BL4xL18xBBL"),
    CAN_ERROR_EXT: struct.Struct("<HHLBBBxLLH2x8s"),
}
TEXT_EVENT = 65
PADDING = 4  # bytes behind an object, at most

# (format, offset, values) of what an object begins with, and a file. (With a size of 0 some readers go on for ever.)
OF_AN_OBJECT = (
    ("<H", 4, (0, 16, 32, 40, 65535)),
    ("<H", 6, (0, 1, 2, 3)),
    ("<L", 8, (16, 31, 32, 47, 48, 49, 64, 96, 116, 1 << 31)),
    ("<L", 12, (0, 1, 10, 65, 73, 86, 96, 100, 101, 115)),
    ("<L", 16, (0, 1, 2, 3)),
    ("<Q", 24, (0, 1, 10**9, 1 << 62, (1 << 64) - 1)),
    ("<H", 32, (0, 1, 2, 255, 65535)),
    ("<B", 33, (0, 7, 8, 15, 64)),
    ("<B", 34, (0, 1, 0x80, 0x81, 8, 64, 65)),
    ("<B", 35, (0, 7, 8, 9, 15, 16, 255)),
    ("<L", 36, (0, 0x7FF, 0x800, 0x80000000, 0x9FFFFFFF, 0xFFFFFFFF)),
    ("<B", 46, (0, 1, 3, 255)),
    ("<B", 47, (0, 8, 9, 64, 65, 255)),
)
OF_A_FILE = (
    ("<L", 4, (0, 72, 143, 144, 145, 1 << 20)),
    ("<B", 8, (0, 1, 255)),
    ("<Q", 16, (0, 144, 1000, 1 << 40)),
    ("<Q", 24, (0, 144, 1 << 40)),
    ("<L", 32, (0, 1, 24, 25, 1 << 30)),
    ("<L", 36, (0, 1)),
    ("<H", 40, (0, 1600, 2023, 2024, 65535)),
    ("<H", 42, (0, 2, 13)),
    ("<H", 46, (0, 14, 30, 31, 32)),
    ("<H", 56, (0, 2023, 65535)),
)


def lobj(kind, body, header=b"", version=1):
    size = OBJECT.size + len(header) + len(body)
    return OBJECT.pack(b"LOBJ", OBJECT.size + len(header), version, size, kind) + header + body + bytes(size % 4)


def container(objects, level=6):
    """Return a container; what has no room in it goes on in the next one, see `BlfTarget.wrapped`."""
    packed = zlib.compress(objects, level) if level else objects
    return lobj(LOG_CONTAINER, CONTAINER.pack(2 if level else 0, len(objects)) + packed)


def blf_header(size, count, start=(2023, 11, 2, 14, 22, 13, 20, 0)):
    return FILE.pack(b"LOGG", 144, 5, 0, 0, 0, 2, 6, 8, 1, size, size, count, 0, *start, *start).ljust(144, b"\0")


class BlfTarget(LogTarget):
    suffix = ".blf"

    @classmethod
    def bases(cls, folder):
        yield _written(folder / "car.blf", messages())
        yield _written(folder / "small.blf", messages(), max_container_size=300)
        yield _written(folder / "plain.blf", messages(), compression_level=0)
        for version, flags in ((1, 1), (1, 2), (2, 1), (2, 2)):
            for fd_kind in (CAN_FD_MESSAGE, CAN_FD_MESSAGE_64):
                objects = [cls.written(version, flags, fd_kind, *frame) for frame in sorted(BY_HAND)]
                objects.insert(3, lobj(TEXT_EVENT, bytes(16) + b"a word", HEADERS[1].pack(2, 0, 0, 5)))
                stream = b"".join(objects)
                if fd_kind == CAN_FD_MESSAGE:
                    yield cls.file(len(objects), cls.wrapped(stream, 200, 6 if flags == 1 else 0))
                else:
                    yield cls.file(len(objects), stream)  # in no container
        killed = cls.file(0, cls.wrapped(stream, 1 << 17, 6))
        yield blf_header(144, 0) + killed[144:]

    def is_harmful(self, log):
        """Some readers read an object of size 0 again and again."""
        stream = _stream(log)
        return re.search(rb"LOBJ.{4}\0{4}", stream, re.DOTALL) is not None

    @staticmethod
    def file(count, objects):
        return blf_header(144 + len(objects), count) + objects

    @staticmethod
    def wrapped(stream, size, level):
        return b"".join(container(stream[i : i + size], level) for i in range(0, len(stream), size))

    @staticmethod
    def written(version, flags, fd_kind, timestamp, can_id, kind, bus, data):
        ticks = round((timestamp - START) / TICK[flags])
        header = HEADERS[version].pack(flags, 0, 0, ticks)
        number, channel = can_id | (1 << 31 if kind & EXTENDED else 0), int(bus[-1]) + 1
        if kind & ERROR:
            kind, fields = CAN_ERROR_EXT, (channel, 0, 0, 0, 0, 0, 0, number, 0, b"")
        elif len(data) > 8 and fd_kind == CAN_FD_MESSAGE:
            kind, fields = fd_kind, (channel, 0, FD_LENGTHS.index(len(data)), number, 0, 3, len(data), data)
        elif len(data) > 8:
            body = BODIES[fd_kind].pack(channel, FD_LENGTHS.index(len(data)), len(data), 0, number, 0x1000, 0, 0, 0)
            return lobj(fd_kind, body + data, header, version)
        else:
            fields = (channel, 0x80 if kind & REMOTE else 0, len(data), number, data)
            kind = CAN_MESSAGE if version == 1 else CAN_MESSAGE2
        return lobj(kind, BODIES[kind].pack(*fields) + bytes(8 * (kind == CAN_MESSAGE2)), header, version)

    def bent(self, rng, log):
        data = bytearray(log)
        kind = rng.randrange(10)
        if kind == 0:
            return log[: rng.randint(0, len(log))]
        if kind == 1:
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            layout, offset, values = rng.choice(OF_A_FILE)
            _put(data, offset, layout, rng.choice(values))
        elif kind == 3:  # what is outside, where there are containers
            at = rng.choice(_objects(log, 144) or [0])
            layout, offset, values = rng.choice(OF_AN_OBJECT[:4])
            _put(data, at + offset, layout, rng.choice(values))
        else:  # what is inside, in containers of whichever size
            stream = self.bent_stream(rng, bytearray(_stream(log)))
            inside = self.wrapped(stream, rng.choice((100, 300, 1 << 17)), rng.choice((0, 6)))
            data[144:] = rng.choice((inside, inside, stream))
            _put(data, 16, "<Q", len(data))
        return bytes(data)

    def bent_stream(self, rng, stream):
        places = [*_objects(stream, 0), len(stream)]
        place = rng.randrange(len(places))
        at, stop = places[place], (*places, len(stream))[place + 1]
        kind = rng.randrange(8)
        if kind == 0:
            del stream[at:stop]
        elif kind == 1:
            stream[at:at] = stream[at:stop]
        elif kind == 2:
            stream[at:at] = lobj(TEXT_EVENT, bytes(16) + rng.randbytes(9), HEADERS[1].pack(2, 0, 0, 5))
        elif kind == 3:
            other = rng.choice(places[:-1] or [0])
            stream[at:at] = stream[other : other + 200]
        else:
            layout, offset, values = rng.choice(OF_AN_OBJECT)
            _put(stream, at + offset, layout, rng.choice(values))
        return bytes(stream)

    @classmethod
    def read(cls, log):
        if len(log) < FILE.size or log[:4] != b"LOGG":
            yield Record(TOLD, None)
            return
        header = FILE.unpack_from(log)
        size, count, start = header[10], header[12], _unix(header[14:22])
        if header[1] != 144:
            yield Record(FREE, None)
            yield from (record._replace(need=FREE) for record in cls.objects(log, FILE.size, math.nan))
            return
        records = cls.objects(log, 144, math.nan if start is None else start)
        there = len(_objects(_stream(log), 0))
        if start is None or (size > len(log) and count > there):
            records.append(Record(TOLD, None))
        elif size != len(log) or start == 0 or count != there or not count:
            records.append(Record(FREE, None))
        yield from records

    @classmethod
    def objects(cls, log, at, start):
        """Return the records of the objects from there on: in the containers' common stream, and outside of it."""
        stream, gaps, found = b"", [], []  # gaps: where something of the stream may be missing
        for kind, content, passed_over, whole in cls.outside(log, at):
            if passed_over:
                gaps.append(len(stream))
                found.append((len(stream) + 0.5, Record(TOLD, None)))  # behind what ends there
            if kind == LOG_CONTAINER:
                stream += content
            else:
                found += ((len(stream) + 0.5, record) for _, record in cls.stream(content, start, [0][: len(gaps)]))
            if whole is None:
                found.append((math.inf, Record(FREE, None)))
            elif not whole:
                gaps.append(len(stream))
                found.append((len(stream) + 0.5, Record(TOLD, None)))
        found += cls.stream(stream, start, gaps)
        return [record for _, record in sorted(found, key=lambda each: each[0])]

    @classmethod
    def outside(cls, log, at):
        """Yield of each object in the file its type, its content, whether something stands before it, and whether the
        content is whole: None if it is, and has not the size that the file says.
        """
        while at < len(log):
            found = log.find(b"LOBJ", at)
            if found < 0 or found + OBJECT.size > len(log):
                yield None, b"", _is_part(log[at:]), None
                return
            *_, size, kind = OBJECT.unpack_from(log, found)
            whole = OBJECT.size <= size <= len(log) - found
            content, complete = log[found : found + size], True
            if kind == LOG_CONTAINER:
                content, complete = _unpacked(content)
                if complete and len(content) != int.from_bytes(log[found + 24 : found + 28], "little"):
                    complete = None
            yield kind, content, found > at + PADDING, whole and complete
            at = found + size if whole else found + 4

    @classmethod
    def stream(cls, stream, start, gaps):
        """Yield where records end, and the records, in their order.

        Behind a gap nothing is sure, not even how many records there are; nor is what an object of an odd size hides.
        """
        at, end, sure_until, odd_until = 0, 0, min(gaps, default=math.inf), 0
        while at < len(stream):
            found = stream.find(b"LOBJ", at)
            last = found < 0 or found + OBJECT.size > len(stream)
            known = max(at, odd_until)
            if found > known + PADDING or (last and _is_part(stream[known:])):
                yield math.inf if last else found, Record(TOLD if at < sure_until else FREE, None)
                sure_until = min(sure_until, known)
            if last:
                return
            _, head, version, size, kind = OBJECT.unpack_from(stream, found)
            record, usual = cls.record(head, version, kind, stream[found : found + size], start)
            whole, hidden = OBJECT.size <= size <= len(stream) - found, found < odd_until
            if (torn := any(found < gap < found + size for gap in gaps)) or not whole:
                record, usual = Record(FREE if torn else TOLD, None), False  # the gap is what is told
            if found >= sure_until or hidden:
                record = record._replace(need=FREE)
            elif not usual and record.need == MUST:
                record = record._replace(need=TOLD)
            end = end if hidden else found + size if whole else math.inf  # only at the end it is seen not to go on
            yield end, record
            if not whole:
                sure_until = min(sure_until, found)
            at = (min(found + size, odd_until) if hidden else found + size) if usual else found + 4
            if whole and not usual:
                odd_until = max(odd_until, found + size)

    @classmethod
    def record(cls, head, version, kind, data, start):
        """Return the record of an object, and whether its size is what it should be."""
        if kind not in BODIES:
            return Record(EVENT, None), True
        unknown, nothing_hidden = Record(TOLD, None), b"LOBJ" not in data[4:]
        if version not in HEADERS:
            return unknown, nothing_hidden
        begin, layout = OBJECT.size + HEADERS[version].size, BODIES[kind]
        if len(data) < begin + layout.size:
            return unknown, nothing_hidden
        flags, _, _, ticks = HEADERS[version].unpack_from(data, OBJECT.size)
        timestamp = start + ticks * TICK.get(flags, math.nan)
        behind = data[begin + layout.size :]
        (number, kind_bits, bus, payload), fine, room = getattr(cls, f"row_{kind}")(
            layout.unpack_from(data, begin), behind
        )
        can_id, kind_bits = number & 0x1FFFFFFF, kind_bits | EXTENDED * (number >> 31)
        exact = len(behind) == room
        sound = fine and exact and head == begin and math.isfinite(timestamp)
        sound = sound and (can_id < 0x800 or bool(kind_bits & EXTENDED))
        row = (timestamp if math.isfinite(timestamp) else None, can_id, kind_bits, bus, payload)
        return Record(MUST if sound else TOLD, row), exact or nothing_hidden

    # What fields say of id, kind, bus and data; whether they are sound; and how many bytes there must be behind them.

    @staticmethod
    def row_1(fields, _):
        channel, flags, dlc, can_id, data = fields
        remote = bool(flags & 0x80)
        return (can_id, REMOTE * remote, str(channel), b"" if remote else data[:dlc]), dlc <= 8, 0

    @classmethod
    def row_86(cls, fields, behind):
        return *cls.row_1(fields, behind)[:2], 8

    @staticmethod
    def row_73(fields, _):
        return (fields[7], ERROR, str(fields[0]), None), fields[5] <= 8, 0

    @staticmethod
    def row_100(fields, _):
        channel, flags, dlc, can_id, _, fd_flags, valid, data = fields
        remote = bool(flags & 0x80)
        sound = dlc < 16 and FD_LENGTHS[dlc] == valid and not (remote and fd_flags & 1)
        return (can_id, REMOTE * remote, str(channel), b"" if remote else data[:valid]), sound, 0

    @staticmethod
    def row_101(fields, data):
        channel, dlc, valid, _, can_id, flags, _, behind, _ = fields
        remote = bool(flags & 0x10)
        sound = dlc < 16 and FD_LENGTHS[dlc] == valid and behind == 0 and not remote
        payload = b"" if remote else data[:valid].ljust(valid, b"\0") if not behind else None
        return (can_id, REMOTE * remote, str(channel), payload), sound, valid


def _is_part(rest):
    """Say whether another object begins behind the last one."""
    return b"LOBJ" in rest or len(rest) > 2 * PADDING


def _put(data, at, layout, value):
    if at + struct.calcsize(layout) <= len(data):
        struct.pack_into(layout, data, at, value)


def _unpacked(container):
    """Return what a container holds, and whether that is all, whatever size it says."""
    if len(container) < OBJECT.size + CONTAINER.size:
        return b"", False
    method, _ = CONTAINER.unpack_from(container, OBJECT.size)
    packed = container[OBJECT.size + CONTAINER.size :]
    if method == 0:
        return packed, True
    if method != 2:
        return b"", False
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, 1 << 20)
    except zlib.error:
        return b"", False
    return data, unpacking.eof and not unpacking.unused_data


def _objects(data, at):
    """Return where objects begin, as far as one leads to the next."""
    places = []
    while at + OBJECT.size <= len(data) and (found := data.find(b"LOBJ", at, at + 7)) >= 0:
        places.append(found)
        at = found + max(OBJECT.size, int.from_bytes(data[found + 8 : found + 12], "little"))
    return places


def _stream(log):
    """Return what the containers of a sound file hold, or its objects if it has none."""
    parts = []
    for at in _objects(log, 144):
        _, _, _, size, kind = OBJECT.unpack_from(log, at) if at + OBJECT.size <= len(log) else (0, 0, 0, 0, 0)
        parts.append(_unpacked(log[at : at + size])[0] if kind == LOG_CONTAINER else log[at : at + size + size % 4])
    return b"".join(parts)


def _unix(system_time):
    """Return Windows' SYSTEMTIME as Unix time [s]; 0 if it is all zero, None if there is no such time."""
    year, month, _, day, hour, minute, second, ms = system_time
    if not any(system_time):
        return 0.0
    try:
        return datetime(year, month, day, hour, minute, second, ms * 1000, tzinfo=UTC).timestamp()
    except ValueError:
        return None


# Measurements of ASAM's MDF 4 ----------------------------------------------------------------------------------------


class Mf4Target(LogTarget):
    """Logs that are whole or cut off: the rows must be among those written. There is no second reader."""

    suffix = ".mf4"
    needs = ("can", "asammdf")
    can_be_compressed = False

    @classmethod
    def bases(cls, folder):
        for level in (0, 1, 2):
            yield _written(folder / f"{level}.mf4", messages(), compression_level=level)

    def bent(self, rng, log):
        return log[: rng.randint(0, len(log))]

    def read(self, log):
        base = next((base for base in _bases(Mf4Target) if base.startswith(log)), None)
        need = MUST if base == log else TOLD
        for frame in messages():
            kind = EXTENDED * frame.is_extended_id | REMOTE * frame.is_remote_frame | ERROR * frame.is_error_frame
            yield Record(need, (frame.timestamp, frame.arbitration_id, kind, str(frame.channel), bytes(frame.data)))


LOG_TARGETS = {
    "candump": CandumpTarget,
    "asc": AscTarget,
    "blf": BlfTarget,
    "trc": TrcTarget,
    "csv": CsvTarget,
    "db": DbTarget,
    "mf4": Mf4Target,
}
