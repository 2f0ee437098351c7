"""Signals of many frames at once: bit for bit what cantools makes of each alone, in its order; and parts of frames."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from helpers import thorough

from f1buf.telemetry.sources.can.layout import Layout, Rows

pytest.importorskip("cantools", reason="cantools is not installed")
from cantools.database import Message, Signal
from cantools.database.conversion import BaseConversion

SCALES = [(1, 0)] * 4 + [
    *[(0.1, 0), (0.5, -1), (-0.25, 3), (1, -40), (1, 0.5), (2.0, 4.0), (-1, 0), (0.0155168902, 0), (1e-9, 12.5)],
    *[(2**40, 7), (1, 2**53), (2**62, -1), (1e300, 0), (1e308, -1e308), (0, 0)],
]


def signal(name, start, length, *, little=True, scale=(1, 0), is_float=False, choices=None, **options):
    conversion = BaseConversion.factory(*scale, choices, is_float)
    order = "little_endian" if little else "big_endian"
    return Signal(name, start, length, order, conversion=conversion, **options)


def message(*signals, length=8):
    made = Message(1, "M", length, list(signals), strict=False)
    made.refresh(strict=True)
    return made


def bits_of(start, length, little):
    first = start if little else 8 * (start // 8) + 7 - start % 8
    places = range(first, first + length)
    return {(place // 8, place % 8 if little else 7 - place % 8) for place in places}


class Maker:
    """Makes messages of signals that do not overlap, at random."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def signals(self, prefix, length, taken, count, **options):
        made = []
        for n in range(count):
            is_float = self.random.random() < 0.15
            sizes = [16, 32, 64] if is_float else [1, 2, 3, 5, 7, 8, 9, 12, 16, 17, 24, 32, 33, 53, 54, 57, 63, 64, 90]
            size = self.random.choice(sizes)
            little = self.random.random() < 0.5
            start = self.random.randrange(8 * length)
            bits = bits_of(start, size, little)
            if bits & taken or max(byte for byte, _ in bits) >= length:
                continue
            taken |= bits
            signed = not is_float and self.random.random() < 0.4
            choices = {0: "off", 1: "on"} if self.random.random() < 0.1 else None
            each = {"little": little, "is_signed": signed, "is_float": is_float, "choices": choices}
            made.append(signal(f"{prefix}{n}", start, size, scale=self.random.choice(SCALES), **each, **options))
        return made

    def message(self):
        length = self.random.choice([1, 2, 3, 5, 7, 8, 8, 8, 8, 12, 24, 64])
        taken = set()
        signals = []
        if self.random.random() < 0.4:
            signals += self.pages(length, taken, "P", None, depth=self.random.choice([1, 2]))
        signals += self.signals("S", length, taken, self.random.randrange(1, 12))
        self.random.shuffle(signals)
        return message(*signals, length=length)

    def pages(self, length, taken, name, parent, depth, numbers=None):
        """A multiplexer and what is behind it; the pages lie over each other."""
        start = self.random.randrange(8 * length)
        size = self.random.choice([1, 2, 3, 8])
        bits = bits_of(start, size, True)
        if bits & taken or max(byte for byte, _ in bits) >= length:
            return []
        taken |= bits
        scale = self.random.choice([(1, 0), (1, 0), (1, 1), (0.5, 0)])
        options = {"multiplexer_signal": parent, "multiplexer_ids": numbers} if parent else {}
        multiplexer = signal(name, start, size, is_multiplexer=True, scale=scale, **options)
        made, used = [multiplexer], set(taken)
        for page in self.random.sample(range(6), self.random.randrange(1, 5)):
            here = set(taken)
            behind = {"multiplexer_signal": name, "multiplexer_ids": [page, *self.random.choice([(), (page + 10,)])]}
            if depth > 1 and self.random.random() < 0.5:
                made += self.pages(length, here, f"{name}{page}", name, depth - 1, [page])
            made += self.signals(f"{name}{page}S", length, here, 4, **behind)
            used |= here
        taken |= used
        return made

    def frames(self, length, count, *, short=0.0):
        """Data of frames of a message, some of them longer, some of them shorter than it."""
        for _ in range(count):
            size = length if self.random.random() < 0.8 else min(64, length + self.random.randrange(8))
            if self.random.random() < short:
                size = self.random.randrange(length)
            yield self.random.choice([self.random.randbytes, bytes, lambda n: b"\xff" * n])(size)


def read(made, frames, width=None):
    """The readings of each frame, as (name, value), and what was left out."""
    names = [each.name for each in made.signals]
    rejected = Counter()
    other = signal("OTHER", 0, 8)
    layout = Layout(
        [([other], [(99, 99, math.inf)]), (made.signals, [(i, i + 1, math.inf) for i in range(len(names))])], rejected
    )
    width = width or (8 if max(map(len, frames), default=0) <= 8 else 64)
    data = np.frombuffer(b"".join(each.ljust(width, b"\xa5") for each in frames), np.uint8).reshape(-1, width)
    count = len(frames)
    lengths = np.array([len(each) for each in frames], np.uint16)
    each_row = np.arange(count)
    readings, row = layout.read(
        Rows(each_row, np.ones(count, np.intp), each_row / 4, np.full(count, 1000, np.uint32), lengths, data)
    )
    result = [[] for _ in frames]
    assert (readings["timestamp"] * 4).tolist() == row.tolist() == sorted(row.tolist())
    for timestamp, sensor, channel, flags, value in readings.tolist():
        assert (sensor - 1000, flags) == (channel - 1, 0)
        result[int(4 * timestamp)].append((names[sensor - 1000], value))
    return result, dict(rejected)


def by_cantools(made, data, left_out):
    """What cantools makes of a frame, less what is no number for us."""
    result = []
    for name, value in made.decode_simple(data, decode_choices=False, allow_truncated=True).items():
        try:
            exact = float(value) == value or value != value
        except OverflowError:
            exact = False
        if not exact:
            left_out["integer that float64 does not hold exactly"] += 1
        elif not np.isfinite(float(value)):
            left_out["not a number"] += 1
        else:
            result.append((name, float(value)))
    return result


def same(one, other):
    """Equal, and 0.0 is not -0.0."""
    return one == other and repr(one) == repr(other)


def compared(seeds, frames_each=24):
    """Compare random messages with cantools; returns how many values were compared."""
    compared = 0
    for seed in seeds:
        maker = Maker(seed)
        made = maker.message()
        frames, expected, left_out = [], [], Counter()
        for data in maker.frames(made.length, frames_each):
            before = left_out.copy()
            try:
                expected.append(by_cantools(made, data, left_out))
                frames.append(data)
            except Exception:  # an unknown page, or one that is no number; or an integer beyond all floats
                left_out = before
        found, rejected = read(made, frames) if frames else ([], {})
        assert same(found, expected), (seed, made.signals)
        assert rejected == left_out, seed
        compared += sum(map(len, expected))
    return compared


def test_values_are_those_of_cantools_bit_for_bit_and_in_its_order():
    assert compared(range(400)) > 10_000


@thorough
def test_values_are_those_of_cantools_in_very_many_messages():
    assert compared(range(1000, 21_000)) > 500_000


# Parts of frames ------------------------------------------------------------------------------------------------------


def last_byte(each):
    return max(byte for byte, _ in bits_of(each.start, each.length, each.byte_order == "little_endian"))


def pages_of(made, multiplexer):
    known = set(multiplexer.conversion.choices or ())
    for each in made.signals:
        known.update(each.multiplexer_ids if each.multiplexer_signal == multiplexer.name else ())
    return known


def alone(each, length):
    """A message that has this signal and no other."""
    options = {"is_signed": each.is_signed, "conversion": each.conversion}
    return message(Signal(each.name, each.start, each.length, each.byte_order, **options), length=length)


def readable(made, data, left_out):
    """What can be read of a frame, signal by signal; and why it is not all."""
    result, why = [], set()

    def look(parent, number):
        for each in made.signals:
            if each.multiplexer_signal != parent or (parent and number not in each.multiplexer_ids):
                continue
            if last_byte(each) >= len(data):
                why.add("too short (some signals left out)")
                continue
            result.extend(by_cantools(alone(each, made.length), data.ljust(made.length, b"\0"), left_out))
            if each.is_multiplexer:
                known = pages_of(made, each)
                page = int(result[-1][1])
                if page in known:
                    look(each.name, page)
                elif known:
                    why.add("unknown multiplexer value (some signals left out)")

    look(None, None)
    if not result and not left_out and why == {"too short (some signals left out)"}:
        why = {"too short"}
    left_out.update(why)
    return result


def test_what_can_be_read_of_a_frame_is_read_and_what_is_left_out_is_counted():
    reasons, compared = Counter(), 0
    for seed in range(200):
        maker = Maker(seed)
        made = maker.message()
        frames = list(maker.frames(made.length, 20, short=0.6))
        expected, expected_left_out = [], Counter()
        for data in frames:
            left_out = Counter()
            expected.append(sorted(readable(made, data, left_out)))
            expected_left_out.update(left_out)
        found, rejected = read(made, frames)
        assert same([sorted(each) for each in found], expected), (seed, made.signals)
        assert rejected == expected_left_out, seed
        reasons.update(rejected)
        compared += sum(map(len, expected))
    assert compared > 4000
    assert len(reasons) == 5
    assert min(reasons.values()) > 20


PARTS = [signal("A", 0, 16), signal("B", 23, 16, little=False), signal("LAST", 56, 8)]


def test_signals_wholly_inside_a_short_frame_are_read():
    frames = [
        bytes.fromhex(each) for each in ("010000020000000a", "01000002000000", "01000002", "010000", "0100", "01", "")
    ]
    found, rejected = read(message(*PARTS), frames)
    both = [("A", 1.0), ("B", 2.0)]
    assert found == [[*both, ("LAST", 10.0)], both, both, [("A", 1.0)], [("A", 1.0)], [], []]
    assert rejected == {"too short (some signals left out)": 4, "too short": 2}


def test_a_short_frame_that_lacks_no_signal_is_whole():
    found, rejected = read(message(signal("A", 0, 8), length=8), [b"\x07"])
    assert (found, rejected) == ([[("A", 7.0)]], {})


def test_a_frame_shorter_than_all_that_came_with_it():
    """The array is 8 bytes wide, the message 64."""
    made = message(signal("A", 0, 8), signal("FAR", 500, 8), length=64)
    found, rejected = read(made, [bytes([5] * 8), b"\x06"])
    assert found == [[("A", 5.0)], [("A", 6.0)]]
    assert rejected == {"too short (some signals left out)": 2}


PAGES = [
    signal("PAGE", 0, 8, is_multiplexer=True),
    signal("X", 8, 8, multiplexer_signal="PAGE", multiplexer_ids=[0]),
    signal("INNER", 8, 8, multiplexer_signal="PAGE", multiplexer_ids=[1, 2], is_multiplexer=True),
    signal("DEEP", 16, 8, multiplexer_signal="INNER", multiplexer_ids=[7]),
    signal("OTHER", 32, 8, is_multiplexer=True, choices={3: "nothing is behind it"}),
    signal("Y", 40, 8, multiplexer_signal="OTHER", multiplexer_ids=[4]),
    signal("ALWAYS", 48, 8),
]
UNKNOWN = "unknown multiplexer value (some signals left out)"


@pytest.mark.parametrize(
    ("data", "names", "rejected"),
    [
        ((0, 5, 0, 0, 3, 0, 9), "PAGE OTHER ALWAYS X", {}),
        ((2, 7, 6, 0, 3, 0, 9), "PAGE OTHER ALWAYS INNER DEEP", {}),
        ((0, 5, 0, 0, 4, 8, 9), "PAGE OTHER ALWAYS X Y", {}),
        ((2, 7, 6, 0, 4, 8, 9), "PAGE OTHER ALWAYS INNER DEEP Y", {}),
        ((9, 5, 0, 0, 4, 8, 9), "PAGE OTHER ALWAYS Y", {UNKNOWN: 1}),
        ((1, 6, 0, 0, 3, 0, 9), "PAGE OTHER ALWAYS INNER", {UNKNOWN: 1}),
        ((1, 6, 0, 0, 5, 0, 9), "PAGE OTHER ALWAYS INNER", {UNKNOWN: 1}),
        ((1, 7), "PAGE INNER", {"too short (some signals left out)": 1}),
        ((9,), "PAGE", {UNKNOWN: 1, "too short (some signals left out)": 1}),
    ],
    ids=["page", "inner", "two", "two-inner", "unknown", "unknown-inner", "unknown-both", "short", "unknown-short"],
)
def test_signals_that_depend_on_no_unknown_page_are_read(data, names, rejected):
    made = message(*PAGES)
    found, counted = read(made, [bytes(data)])
    assert ([name for name, _ in found[0]], counted) == (names.split(), rejected)


def test_a_page_that_is_no_number():
    made = message(
        signal("PAGE", 0, 32, is_float=True, is_multiplexer=True),
        signal("X", 32, 8, multiplexer_signal="PAGE", multiplexer_ids=[0]),
        length=8,
    )
    nan = bytes.fromhex("0000c07f0900000000")[:8]
    found, rejected = read(made, [nan, bytes(8), bytes.fromhex("0000807f09000000"), bytes.fromhex("000000bf09000000")])
    assert found == [[], [("PAGE", 0.0), ("X", 0.0)], [], [("PAGE", -0.5), ("X", 9.0)]]  # -0.5 is page 0 for cantools
    assert rejected == {UNKNOWN: 2, "not a number": 2}


# Numbers --------------------------------------------------------------------------------------------------------------

INEXACT = "integer that float64 does not hold exactly"


@pytest.mark.parametrize(
    ("options", "raw", "value"),
    [
        ({}, 2**53, 2.0**53),
        ({}, 2**53 + 1, None),
        ({}, 2**53 + 2, 2.0**53 + 2),
        ({}, 2**64 - 1, None),
        ({"is_signed": True}, 2**64 - 1, -1.0),
        ({"is_signed": True}, 2**64 - 2**53 - 1, None),
        ({"scale": (2**62, -1)}, 4, None),
        ({"scale": (2**62, 0)}, 4, 2.0**64),
        ({"scale": (1, 2**53)}, 1, None),
        ({"scale": (1, -(2**53))}, 2**53 + 1, 1.0),  # cantools subtracts before anything is rounded
        ({"scale": (10**400, 0)}, 1, None),
        ({"scale": (10**400, 0), "is_float": True}, 0x3FF0000000000000, None),
        ({"scale": (0.5, 0)}, 2**54 + 2, 2.0**53),  # a float in cantools, too: rounded there
        ({"scale": (0.5, 0)}, 2**64 - 1, 2.0**63),
        ({"choices": {1: "one"}}, 2**53 + 1, None),
    ],
)
@pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
def test_an_integer_that_float64_does_not_hold_is_counted_and_not_rounded(options, raw, value, little):
    made = message(signal("COUNTER", 0 if little else 7, 64, little=little, **options))
    found, rejected = read(made, [raw.to_bytes(8, "little" if little else "big")] * 3)
    if value is None:
        assert (found, rejected) == ([[], [], []], {INEXACT: 3})
    else:
        assert (found, rejected) == ([[("COUNTER", value)]] * 3, {})


def test_zero_keeps_its_sign():
    made = message(signal("F", 0, 32, is_float=True), signal("G", 32, 32, is_float=True, scale=(2.0, 0)))
    found, _ = read(made, [bytes.fromhex("0000008000000080")])
    assert repr(found) == "[[('F', -0.0), ('G', 0.0)]]"  # as cantools has it


def test_a_signal_wider_than_a_word():
    made = message(signal("SHIFTED", 3, 64), signal("WIDE", 79, 100, little=False), length=24)
    data = (12345 << 3).to_bytes(9, "little") + (77 << 4 * 8 - 4).to_bytes(13 + 2, "big")
    expected = by_cantools(made, data, Counter())
    assert read(made, [data]) == ([expected], {})
    assert expected[0] == ("SHIFTED", 12345.0)


def test_messages_far_longer_than_a_frame():
    """Those of a transport protocol."""
    made = message(signal("A", 1, 16), signal("Z", 8 * 1783 + 7, 16, little=False), length=1785)
    data = random.Random(1).randbytes(1785)
    assert read(made, [data], width=1785)[0] == [by_cantools(made, data, Counter())]


def test_a_conversion_of_another_kind_is_called_and_may_fail():
    class Strange:
        scale, offset, choices, is_float = "a text", None, None, False

        def raw_to_scaled(self, raw, decode_choices):
            return {1: 5, 2: 2.5, 3: "a text"}[raw]

    made = message(signal("S", 0, 8))
    made.signals[0].conversion = Strange()
    assert read(made, [b"\1", b"\2", b"\3", b"\4"]) == ([[("S", 5.0)], [("S", 2.5)], [], []], {INEXACT: 2})


def test_more_frames_than_16_bits_count():
    made = message(signal("A", 0, 32), signal("B", 32, 32))
    frames = [n.to_bytes(8, "little") for n in range(70_000)]
    found, _ = read(made, frames)
    assert found == [[("A", float(n)), ("B", 0.0)] for n in range(70_000)]
