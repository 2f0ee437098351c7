"""The game's telemetry live: from UDP sockets on loopback to readings and alerts, with nothing lost in between."""

import contextlib
import ctypes
import errno
import ipaddress
import os
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from cli_helpers import PATIENCE, participants, telemetry, watchdog
from helpers import WATCHDOG, Task, thorough, wait_until

from f1buf import READING, RingBuffer
from f1buf.telemetry import F1TelemetrySystem
from f1buf.telemetry.sources.game import listen
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.listen import Listener, ListenError, local_addresses
from f1buf.telemetry.sources.game.packets import FORMATS
from f1buf.telemetry.sources.game.recording import open_recording
from f1buf.telemetry.sources.game.replay import Replay
from f1buf.telemetry.sources.game.udp import SLOT, Receiver

OUTSTANDING = 64  # datagrams on their way at most: the smallest usual buffer of a socket holds 184 of the game's
LINUX = sys.platform.startswith("linux")
linux_only = pytest.mark.skipif(not LINUX, reason="only Linux tells how many datagrams its kernel has dropped")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
each_host = pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])


@pytest.fixture(autouse=True)
def no_thread_is_left():
    with watchdog(4 * PATIENCE):
        yield


@pytest.fixture(scope="module")
def race(recordings_dir):
    """The real race: (session time, datagram) in the order of arrival."""
    with open_recording(recordings_dir / "f1_2026_race.sqlite3") as recording:
        return list(recording.datagrams())


def sender(address):
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    return sock


def send(listener, datagrams, outstanding=OUTSTANDING):
    """Send them, and wait until all have been received, with no more on their way than any buffer holds."""
    expected = listener.datagrams

    def received_but(few):
        wait_until(lambda: expected - listener.datagrams <= few, "datagrams to be received")

    with sender(listener.address) as sock:
        for datagram in datagrams:
            received_but(outstanding - 1)
            sock.send(datagram)
            expected += 1
    received_but(0)


def paced(rows, speed):
    """Yield the datagrams, each when it is due."""
    began, first = time.monotonic(), rows[0][0]
    for timestamp, datagram in rows:
        wait = (timestamp - first) / speed - (time.monotonic() - began)
        if wait > 0:
            time.sleep(wait)
        yield datagram


class Heard:
    """What a listener yields, in a thread."""

    def __init__(self, listener):
        self.stop = threading.Event()
        self.batches = []
        self._task = Task(self._collect, listener)

    def _collect(self, listener):
        for batch in listener.batches(self.stop):
            self.batches.append(batch)

    def readings(self):
        """All, once it has ended."""
        self.stop.set()
        self._task.result()
        return np.concatenate([np.empty(0, READING), *self.batches])


def timeless(readings):
    return [reading[1:] for reading in readings.tolist()]


def decoded(datagrams):
    decoder = Decoder()
    return timeless(np.concatenate([decoder.decode(datagram) for datagram in datagrams]))


# The whole path -------------------------------------------------------------------------------------------------------


def analysed(source, decoder, meanwhile):
    """The alerts about a source, without their times, and the counts by threshold."""
    alerts = []
    system = F1TelemetrySystem(buffer_size=8192, on_alert=alerts.append, stop_timeout=WATCHDOG)
    with system:
        system.start([source], describe=decoder.describe)
        meanwhile(system)
    assert system.summary.readings == system.summary.analysed == 220_000
    return [alert._replace(time=0.0) for alert in alerts], system.summary.thresholds


@pytest.fixture(scope="module")
def replayed(recordings_dir):
    """What `analysed` returns for the replay of the race."""
    decoder = Decoder()
    with open_recording(recordings_dir / "f1_2026_race.sqlite3") as recording:
        return analysed(Replay(recording, decoder, None), decoder, lambda system: system.wait(WATCHDOG))


class Overheard:
    """A source that keeps what another one yields."""

    def __init__(self, source):
        self.name = source.name
        self.kept = []
        self._source = source

    def batches(self, stop):
        for batch in self._source.batches(stop):
            self.kept.append(batch)
            yield batch


@thorough(but=("127.0.0.1",))
@each_host
def test_twenty_times_real_time_gives_every_reading_and_alert_of_the_replay(race, replayed, host):
    decoder = Decoder()
    with Listener(decoder, host, 0) as listener:
        source = Overheard(listener)
        found = analysed(source, decoder, lambda system: send(listener, paced(race, 20)))
        assert listener.datagrams == len(race) == 7124
        assert listener.dropped == (0 if LINUX else None)
    assert not listener.rejected
    assert found == replayed
    assert {alert.lap for alert in found[0]} == {1, 2}
    assert timeless(np.concatenate(source.kept)) == decoded([datagram for _, datagram in race])


@thorough
def test_real_time(race):
    rows = [row for row in race if row[0] < race[0][0] + 1.5]
    before = time.time()
    with Listener(Decoder(), port=0) as listener:
        heard = Heard(listener)

        def tenths():
            for part in np.array_split(np.arange(len(rows)), 10):
                seen = len(heard.batches)
                yield from paced(rows[part[0] : part[-1] + 1], 1)
                wait_until(lambda seen=seen: len(heard.batches) > seen, "readings of what has been sent")

        send(listener, tenths())
        readings = heard.readings()
    assert timeless(readings) == decoded([datagram for _, datagram in rows])
    assert before - 60 < readings["timestamp"].min() <= readings["timestamp"].max() < time.time() + 60  # Unix time


def test_missing_datagrams_are_counted_by_packet(race):
    """Against sets of frame numbers."""
    frames = {}
    for _, datagram in race:
        frames.setdefault(datagram[6], set()).add(int.from_bytes(datagram[23:27], "little"))
    missing = [max(seen) - min(seen) + 1 - len(seen) for packet_id, seen in frames.items() if packet_id in (0, 2, 6, 7)]
    with Listener(Decoder(), port=0) as listener:
        heard = Heard(listener)
        send(listener, [datagram for _, datagram in race])
        heard.readings()
        assert listener.lost == sum(missing) == 647


def test_two_at_once(race):
    rows = [datagram for _, datagram in race[:300]]
    with Listener(Decoder(), port=0) as one, Listener(Decoder("player"), port=0) as other:
        heard = Heard(one), Heard(other)
        send(one, rows)
        send(other, rows[:200])
        assert timeless(heard[0].readings()) == decoded(rows)
        assert {sensor // 16 for sensor in heard[1].readings()["sensor_id"].tolist()} == {21}
        assert (one.datagrams, other.datagrams) == (300, 200)


# Addresses ------------------------------------------------------------------------------------------------------------


@needs_ipv6
def test_all_networks_of_both_kinds():
    with Listener(Decoder(), "::", 0) as listener:
        heard = Heard(listener)
        for host, name in (("127.0.0.1", "FOUR"), ("::1", "SIX")):
            with sender((host, listener.address[1])) as sock:
                sock.send(participants(1.0, name, session_uid=len(name)))
                sock.send(telemetry(1.0, 300, session_uid=len(name)))
            wait_until(lambda: listener.datagrams % 2 == 0, "both")
        assert len(heard.readings()) == 2 * 6
        assert listener.address[0] == "::"


@needs_ipv6
def test_an_ipv6_address_leaves_ipv4_alone():
    def listen_twice(port):
        with Listener(Decoder(), "::1", port) as listener, Listener(Decoder(), "127.0.0.1", port) as other:
            return listener.address[1], other.address[1]

    port, ports = at_a_free_port(listen_twice)
    assert ports == (port, port)


def test_a_name_means_its_ipv4_address_first(monkeypatch):
    found = [
        (family, socket.SOCK_DGRAM, 17, "", address)
        for family, address in (
            (socket.AF_INET6, ("::1", 0, 0, 0)),
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_INET, ("127.0.0.2", 0)),
        )
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with Listener(Decoder(), "localhost", 0) as listener:
        assert listener.address[0] == "127.0.0.1"


def test_a_taken_port():
    with Listener(Decoder(), port=0) as listener:
        with pytest.raises(ListenError) as caught:
            Listener(Decoder(), *listener.address)
        assert str(caught.value) == (
            f"listening at 127.0.0.1:{listener.address[1]}: Address already in use; only one program can own the port: "
            "forward from that one (--forward), or choose another --port"
        )


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("192.0.2.1", 0, r"listening at 192\.0\.2\.1:0: Cannot assign .*; expected an address of this machine, or "),
        ("2001:db8::1", 5, r"listening at \[2001:db8::1\]:5: "),
        ("127.0.0.1", 65536, r"the port is 65536; expected 0 to 65535"),
        ("127.0.0.1", -1, r"the port is -1; expected 0 to 65535"),
        ("", 5, r"listening at :5: the host is empty; expected an address, such as 127\.0\.0\.1, or a name"),
        ("a\0b", 5, r"expected an address"),
        ("x" * 70, 5, r"expected an address"),
    ],
)
def test_addresses_that_cannot_be_listened_at(host, port, message):
    with pytest.raises(ListenError, match=message) as caught:
        Listener(Decoder(), host, port)
    assert "\n" not in str(caught.value)


def test_the_addresses_of_this_machine():
    for address in local_addresses():
        assert not ipaddress.ip_address(address).is_loopback
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    assert not [address for address in local_addresses(ipv6=False) if ":" in address]


def test_a_hint_without_the_names_of_interfaces(monkeypatch):
    def refused():
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(socket, "if_nameindex", refused)
    with Listener(Decoder(), "0.0.0.0", 0) as listener:
        assert listener.hint()[2].startswith("  UDP IP Address: ")


def test_hint():
    with Listener(Decoder(), port=0) as listener:
        lines = listener.hint()
        assert lines == [
            "in the game, under Settings, Telemetry Settings:",
            "  UDP Telemetry: On",
            "  UDP IP Address: 127.0.0.1",
            f"  UDP Port: {listener.address[1]}",
            "  UDP Format: 2025 or 2026",
            "127.0.0.1 is heard from this machine alone; for a game on another one: --host 0.0.0.0",
        ]
    with Listener(Decoder(), "0.0.0.0", 0) as listener:
        lines = listener.hint()
        assert lines[2] == f"  UDP IP Address: {' or '.join(local_addresses(ipv6=False)) or '0.0.0.0'}"
        assert lines[-1].startswith("on this machine itself 127.0.0.1 will do")


def test_the_receive_buffer():
    with Listener(Decoder(), port=0, receive_buffer=100_000) as listener:
        assert listener.receive_buffer == 100_000
        assert listener.buffer_advice().startswith("the system grants a receive buffer of 97 KiB, so bursts may")
        assert ("sysctl -w net.core.rmem_max=33554432" in listener.buffer_advice()) == LINUX
    with Listener(Decoder(), port=0) as listener:
        assert listener.receive_buffer > 100_000
        assert (listener.buffer_advice() is None) == (listener.receive_buffer >= 4 << 20)


# Forwarding -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def plain_socket(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(WATCHDOG)
        yield sock, sock.getsockname()[:2]


@contextlib.contextmanager
def closed_port():
    """An address that nobody listens at, nor can: its socket takes only what comes from itself."""
    with plain_socket() as (sock, address):
        sock.connect(address)
        yield address


def at_a_free_port(call):
    """A port, and what a call with it returns; with another one where somebody else has taken it meanwhile."""
    for _ in range(100):
        with plain_socket() as (_, (_, port)):
            pass
        try:
            return port, call(port)
        except ListenError as error:
            if os.strerror(errno.EADDRINUSE) not in str(error):
                raise
    raise AssertionError("each of 100 ports was taken")


@thorough(but=("127.0.0.1",))
@each_host
def test_forwarding_leaves_nothing_out_and_changes_nothing(race, host):
    datagrams = [datagram for _, datagram in race[:200]]
    odd = [b"", b"x", bytes(range(256)) * 12, os.urandom(3000), bytes(65_507), *datagrams[:3]]
    with (
        Listener(Decoder(), host, 0) as last,
        plain_socket(host) as (plain, address),
        Listener(Decoder(), port=0, forward=[last.address, address, last.address]) as first,
    ):
        heard = Heard(first), Heard(last)
        for datagram in datagrams + odd:
            send(first, [datagram])
            assert plain.recv(70_000) == datagram
        wait_until(lambda: last.datagrams == first.datagrams, "all that is forwarded")
        expected = decoded(datagrams + odd)
        assert timeless(heard[0].readings()) == timeless(heard[1].readings()) == expected
        assert first.rejected == last.rejected
        assert first.forwarded == {last.address: len(datagrams + odd), address: len(datagrams + odd)}
        assert set(first.not_forwarded.values()) == {0}
    assert first.forwarded[address] == len(datagrams + odd)  # also afterwards


def test_datagrams_that_nobody_hears_are_counted_and_harm_no_other_destination(race):
    datagrams = [datagram for _, datagram in race[:300]]
    with (
        closed_port() as nobody,
        plain_socket() as (_, somebody),
        Listener(Decoder(), port=0, forward=[nobody, somebody]) as listener,
    ):
        heard = Heard(listener)
        send(listener, datagrams)
        assert timeless(heard.readings()) == decoded(datagrams)
        assert listener.forwarded[nobody] + listener.not_forwarded[nobody] == 300
        assert listener.forwarded[somebody] == 300
        assert listener.not_forwarded[somebody] == 0
        if LINUX:  # which tells at once that nobody is there
            assert 1 <= listener.not_forwarded[nobody] <= 299  # of several at once the system may tell one


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        pytest.param("127.0.0.1", "::ffff:127.0.0.1", marks=needs_ipv6),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.7"),
        pytest.param("::", "127.0.0.1", marks=needs_ipv6),
        pytest.param("::", "::1", marks=needs_ipv6),
    ],
)
def test_forwarding_in_a_circle_is_refused(host, destination):
    tried = []

    def forward_to_itself(port):
        tried.append(port)
        Listener(Decoder(), host, port, forward=[(destination, port)])

    with pytest.raises(ListenError) as caught:
        at_a_free_port(forward_to_itself)
    said = rf"forwarding to .*:{tried[-1]}: that is where it is heard; expected another"
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (("127.0.0.1", 0), "forwarding to 127.0.0.1:0: the port is 0; expected 1 to 65535"),
        (("127.0.0.1", 70_000), "the port is 70000; expected 0 to 65535"),
        (("", 5), "the host is empty"),
        (("255.255.255.255", 5), "forwarding to 255.255.255.255:5: Permission denied"),
    ],
)
def test_addresses_that_cannot_be_forwarded_to(destination, message):
    with closed_port() as nobody, pytest.raises(ListenError, match=message):
        Listener(Decoder(), port=0, forward=[nobody, destination])


# What is not to be trusted --------------------------------------------------------------------------------------------


def unfit(datagram, rng):
    """Datagrams like this one that no decoder may use, each with the reason."""
    data = bytearray(datagram)

    def changed(layout, offset, value):
        copy = bytearray(data)
        struct.pack_into(layout, copy, offset, value)
        return bytes(copy)

    decoded_packets = FORMATS[2026].packets
    yield b"", "truncated datagram"
    yield rng.bytes(28), "truncated datagram"
    yield changed("<H", 0, int(rng.integers(3000, 60_000))), "unknown format year"
    yield b"\0\0" + rng.bytes(int(rng.integers(27, 60_000))), "unknown format year"
    yield changed("<B", 6, int(rng.integers(17, 256))), "unknown packet id"
    if datagram[6] in decoded_packets:
        yield bytes(data[: int(rng.integers(29, len(data)))]), "truncated datagram"
        yield bytes(data) + rng.bytes(1), "oversized datagram"
        yield bytes(data) + rng.bytes(int(rng.integers(2048 - len(data), 5000))), "oversized datagram"
        yield changed("<B", 5, 2), "unknown packet version"
        yield changed("<f", 15, -np.inf), "absurd session time"
    if datagram[6] == 4:
        yield changed("<B", 29, 25), "impossible car count"


def test_rejected_datagrams_change_nothing_but_the_counts(race):
    rng = np.random.default_rng(7)
    good = [datagram for _, datagram in race[:600]]
    mixed, reasons = [], Counter()
    for datagram in good:
        for bad, reason in unfit(datagram, rng):
            mixed.append(bad)
            reasons[reason] += 1
        mixed.append(datagram)
    with Listener(Decoder(), port=0) as listener:
        heard = Heard(listener)
        send(listener, mixed, outstanding=2)  # some are long
        assert timeless(heard.readings()) == decoded(good)
        assert listener.datagrams == len(mixed)
        expected = Decoder()
        for datagram in good:
            expected.decode(datagram)
        assert listener.rejected == reasons
        assert listener.lost == expected.lost
        assert listener.dropped == (0 if LINUX else None)


def test_the_longest_packet_fits_into_a_slot():
    """So a datagram that does not fit is too long for any packet."""
    longest = max(packet.itemsize for form in FORMATS.values() for packet in form.packets.values())
    assert longest < SLOT["payload"].itemsize == 2048


# How it ends ----------------------------------------------------------------------------------------------------------


@linux_only
def test_a_decoder_that_stalls_loses_only_what_the_kernel_counts():
    sent = 6000  # more than the 4,096 that wait for the decoder, and those in hand
    with Listener(Decoder(), port=0, receive_buffer=50_000) as listener:
        stop = threading.Event()
        with sender(listener.address) as sock:
            sock.send(participants(1.0, "ONE"))
            sock.send(telemetry(1.0, 300))
            batches = listener.batches(stop)
            readings = [next(batches)]  # and no more is asked for
            for _ in range(sent):
                sock.send(telemetry(2.0, 301))
            assert listener.dropped > 1000
            stop.set()
            readings += batches
            assert len(np.concatenate(readings)) == 6 * (listener.datagrams - 1)
            assert listener.datagrams + listener.dropped == sent + 2
            dropped = listener.dropped
            for _ in range(sent):
                sock.send(telemetry(2.0, 301))
        assert listener.dropped == dropped  # what comes when it has ended is not its loss
    assert listener.dropped == dropped  # also afterwards


def test_what_has_come_before_the_stop_is_decoded(race):
    datagrams = [datagram for _, datagram in race[:100]]
    with Listener(Decoder(), port=0) as listener:
        with sender(listener.address) as sock:
            for datagram in datagrams:
                sock.send(datagram)
        heard = Heard(listener)
        assert timeless(heard.readings()) == decoded(datagrams)


@pytest.mark.parametrize("kind", ["garbage", "good"])
def test_a_flood_does_not_keep_it_from_ending(race, kind):
    datagrams = [datagram for _, datagram in race[:100]] if kind == "good" else [b"garbage" * 8]
    over = threading.Event()

    def flood(address):
        with sender(address) as sock:
            while not over.is_set():
                for datagram in datagrams:
                    sock.send(datagram)

    with Listener(Decoder(), port=0, receive_buffer=1 << 18) as listener:  # what is in there at the stop is decoded
        task = Task(flood, listener.address)
        try:
            heard = Heard(listener)
            wait_until(lambda: listener.datagrams > 5000, "a flood")
            heard.readings()
            assert task.is_alive()
        finally:
            over.set()
            task.result()
        before = listener.datagrams
        assert sum(map(len, heard.batches)) or kind == "garbage"
        assert listener.datagrams == before


def test_datagrams_after_the_stop_are_left():
    with plain_socket() as (sock, address), sender(address) as other:
        receiver, ring = Receiver(sock.fileno(), []), RingBuffer(4096, SLOT)
        for _ in range(10):
            other.send(b"before")
        receiver.stop()
        for _ in range(100):
            other.send(b"after")
        receiver.run(ring)
        assert 10 <= receiver.datagrams == len(ring) <= 64  # those that it took at once


def receivers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("receiver of ")]


def test_closing_the_iterator_ends_the_receiver():
    """Also when the receiver waits for room."""
    with Listener(Decoder(), port=0) as listener:
        batches = listener.batches(threading.Event())
        with sender(listener.address) as sock:
            sock.send(participants(1.0, "ONE"))
            sock.send(telemetry(1.0, 300))
        next(batches)
        send(listener, [b"x"] * 4096)
        with sender(listener.address) as sock:
            for _ in range(1000):
                sock.send(b"y")
        assert len(receivers()) == 1
        batches.close()
        assert not receivers()


def test_a_decoder_that_fails_ends_the_receiver():
    class Failing(Decoder):
        def decode(self, datagram, time=None):
            raise ZeroDivisionError(bytes(datagram).decode())

    with Listener(Failing(), port=0) as listener:
        with sender(listener.address) as sock:
            sock.send(b"this one")
        with pytest.raises(ZeroDivisionError, match="this one"):
            list(listener.batches(threading.Event()))
        assert not receivers()


def test_closing_ends_it():
    with Listener(Decoder(), port=0) as listener:
        task = Task(lambda: list(listener.batches(threading.Event())))
        send(listener, [b"x"])
        listener.close()
        assert task.result() == []
        listener.close()
        with pytest.raises(RuntimeError, match="is closed; expected"):
            next(listener.batches(threading.Event()))


def test_one_iteration_at_a_time_and_any_number_one_after_the_other():
    with Listener(Decoder(), port=0) as listener:
        for speed in (300, 301):
            heard = Heard(listener)
            send(listener, [participants(1.0, "ONE"), telemetry(1.0, speed)])
            with pytest.raises(RuntimeError, match="is listening already"):
                next(listener.batches(threading.Event()))
            assert heard.readings()["value"][0] == speed
        assert listener.datagrams == 4


def test_an_error_that_ends_the_receiver_is_raised(monkeypatch):
    file, other_end = os.pipe()
    monkeypatch.setattr(listen, "Receiver", lambda _, forward: Receiver(file, forward))
    try:
        listener = Listener(Decoder(), port=0)
        where = rf"UDP 127\.0\.0\.1:{listener.address[1]}: .* non-socket"
        with listener, pytest.raises(ListenError, match=where):
            list(listener.batches(threading.Event()))
    finally:
        os.close(file)
        os.close(other_end)


def test_silence():
    with Listener(Decoder(), port=0) as listener:
        assert listener.last_heard is None
        heard = Heard(listener)
        before = time.monotonic()
        send(listener, [b"x"])
        heard.readings()
        assert before <= listener.last_heard <= time.monotonic()


def test_another_kind_of_ring_is_refused():
    ring = RingBuffer(10, "f8")
    with plain_socket() as (sock, _), pytest.raises(TypeError, match=r"the ring is of float64; expected SLOT"):
        Receiver(sock.fileno(), []).run(ring)
    assert ring.is_shutdown


@pytest.mark.skipif(not LINUX, reason="needs the C library of Linux")
def test_it_receives_and_forwards_while_another_thread_keeps_the_gil():
    """This thread keeps the GIL while it waits for what is forwarded."""
    recv = ctypes.PyDLL(None).recv
    with plain_socket() as (plain, address), Listener(Decoder(), port=0, forward=[address]) as listener:
        plain.setblocking(True)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(WATCHDOG / 2), 0))
        heard = Heard(listener)
        send(listener, [b"x"])  # the receiver runs
        assert plain.recv(10) == b"x"
        room = ctypes.create_string_buffer(10)
        with sender(listener.address) as sock:
            for _ in range(100):
                sock.send(b"yes")
                assert recv(plain.fileno(), room, 10, 0) == 3
        heard.readings()
        assert listener.datagrams == 101
