"""The F1 games' telemetry, live over UDP.

Two threads: the receiver, which runs without the GIL (see `udp.pyx`), takes every datagram from the socket at once,
passes it on, and puts it into a ring of 4,096; the source's own decodes what is in there. So however busy the rest of
the program is, up to 4,096 datagrams wait in the ring, and the more behind them in the kernel's buffer: at 20 times
real time the one holds 0.6 s, the other, of 32 MiB where the system grants that, 4 s. What does not fit there either
the kernel drops, and counts.

Where the ring is full the receiver waits with the batch in its hand, so what is to be forwarded waits, too.

The receiver belongs to `Listener.batches`, which starts it and at its end, however that comes, waits for its end; the
sockets belong to the `Listener`, from its start until `close`.
"""

import errno
import fcntl
import itertools
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import RingBuffer
from f1buf.ring.reading import READING
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.packets import FORMATS
from f1buf.telemetry.sources.game.udp import SLOT, Receiver

__all__ = ["DEFAULT_PORT", "RECEIVE_BUFFER", "ListenError", "Listener", "local_addresses"]

DEFAULT_PORT = 20777
"""Where the games send to, unless told otherwise."""

RECEIVE_BUFFER = 32 << 20
"""Bytes that the kernel is asked to keep for us: some 29,000 datagrams of the game's."""

_LITTLE_BUFFER = 4 << 20  # [bytes] half a second at 20 times real time; with less than that, say how to get more
_SLOTS = 4096  # datagrams between receiver and decoder: 8 MiB
_MOST = 256  # datagrams decoded at once: some 3 ms
_TICK = 0.05  # [s] how often to look whether to stop

# Linux, and unknown to Python: see socket(7), and SK_MEMINFO_DROPS in linux/sock_diag.h
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")
_MEMINFO_DROPS = 8
_SIOCGIFADDR = 0x8915  # an interface's IPv4 address: netdevice(7)


class ListenError(OSError):
    """An address cannot be listened at, or forwarded to; the message is one line that names it."""


class Listener:
    """
    The datagrams that come to a UDP port, as a source: received, passed on, decoded.

    It listens from its construction on: what comes before `batches` waits in the kernel's buffer.

    Parameters
    ----------
    decoder : Decoder
        What turns datagrams into readings, and counts those that it cannot use. Not to be used elsewhere meanwhile.
    host : str
        The address to listen at, or its name: "127.0.0.1" and "::1" hear this machine alone, "0.0.0.0" every IPv4
        network, "::" those and IPv6. Of a name's addresses an IPv4 one comes first.
    port : int
        0 to 65535; 0: any that is free.
    forward : iterable of (str, int)
        Hosts and ports that get each datagram unchanged, whatever it holds; each once. Nothing there may send them
        back: two listeners that forward to each other do so for ever.
    receive_buffer : int
        How much to ask the kernel to keep [bytes].

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    address : tuple of (str, int)
        Where it listens.
    receive_buffer : int
        What the kernel granted [bytes].

    Raises
    ------
    ListenError
        There is no such address, port or name, the port is taken, or a destination is the listener itself.

    Notes
    -----
    The counters may be read from any thread, also after `close`. Readings have the Unix time at which their datagram
    arrived.
    """

    def __init__(
        self,
        decoder: Decoder,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        forward: Iterable[tuple[str, int]] = (),
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        self._decoder = decoder
        self._lock = threading.Lock()  # guards the two below
        self._ring: RingBuffer | None = None  # of the run, while there is one
        self._thread: threading.Thread | None = None  # the receiver's
        self._failure: BaseException | None = None  # what ended the receiver
        self._dropped: int | None = None  # by the kernel, when `batches` ended
        self._ended = False  # whether that is so
        with ExitStack() as stack:
            self._socket = stack.enter_context(_bound(host, port))
            self.address: tuple[str, int] = self._socket.getsockname()[:2]
            self.name = f"UDP {_joined(*self.address)}"
            self.receive_buffer = _enlarged(self._socket, receive_buffer)
            self._destinations = list(dict.fromkeys(forward))
            sockets = [stack.enter_context(self._connected(*each)) for each in self._destinations]
            self._receiver = Receiver(self._socket.fileno(), [each.fileno() for each in sockets])
            self._sockets = stack.pop_all()

    def _connected(self, host: str, port: int) -> socket.socket:
        """A socket that sends there."""
        what = f"forwarding to {_joined(host, port)}"
        if port == 0:
            raise ListenError(f"{what}: the port is 0; expected 1 to 65535")
        family, address = _resolved(host, port, what)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.connect(address)
            if self._hears(sock.getpeername()[:2]):
                raise ListenError(f"{what}: that is where it is heard; expected another address or port")
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError) and not isinstance(error, ListenError):
                raise ListenError(f"{what}: {_reason(error)}") from None
            raise
        return sock

    def _hears(self, address: tuple[str, int]) -> bool:
        """Whether what is sent there comes back here."""
        if address[1] != self.address[1]:
            return False
        host = address[0].removeprefix("::ffff:")  # an IPv4 address as IPv6 writes it
        return host == self.address[0] or (self.address[0] in ("0.0.0.0", "::") and _is_ours(host))

    # -- the source ---------------------------------------------------------------------------------------------------

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield readings as their datagrams come, those of several together where several have come.

        After `stop` what has arrived by then is still decoded and yielded. It may be iterated again afterwards, one
        iteration at a time.

        Raises
        ------
        ListenError
            The socket has failed.
        RuntimeError
            It is being iterated already, or closed.
        """
        ring = self._start()
        try:
            for batch in ring.batches(_MOST, timeout=_TICK):
                if stop.is_set():
                    self._receiver.stop()
                readings = self._decoded(batch)
                if len(readings):
                    yield readings
        finally:
            self._end()
        if self._failure is not None:
            raise ListenError(f"{self.name}: {_reason(self._failure)}") from self._failure

    def _start(self) -> RingBuffer:
        with self._lock:
            if self._thread is not None or self._socket.fileno() < 0:
                state = "is listening already" if self._thread is not None else "is closed"
                raise RuntimeError(f"{self.name} {state}; expected one that is open, and used by one thread")
            ring = RingBuffer(_SLOTS, SLOT)
            thread = threading.Thread(target=self._receive, args=(ring,), name=f"receiver of {self.name}", daemon=True)
            self._receiver.begin()
            self._failure, self._ended = None, False
            thread.start()
            self._ring, self._thread = ring, thread
        return ring

    def _receive(self, ring: RingBuffer) -> None:
        """The receiver's thread."""
        try:
            self._receiver.run(ring)
        except BaseException as error:
            self._failure = error

    def _decoded(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The readings of these slots."""
        data = batch.view("u1").data
        start = SLOT.fields["payload"][1]  # type: ignore[index]
        room = SLOT["payload"].itemsize  # longer than each packet: of one that does not fit, enough to be oversized
        found = []
        for time, size in zip(batch["time"].tolist(), batch["size"].tolist(), strict=True):
            readings = self._decoder.decode(data[start : start + min(size, room)], time)
            if len(readings):
                found.append(readings)
            start += SLOT.itemsize
        if len(found) > 1:
            return np.concatenate(found)
        return found[0] if found else np.empty(0, READING)

    def _end(self) -> None:
        """End the receiver; what it has not handed on yet is given up."""
        with self._lock:
            if self._thread is not None and self._ring is not None:
                self._receiver.stop()
                self._ring.shutdown(immediate=True)
                self._thread.join()
                self._dropped, self._ended = self._kernel_drops(), True  # what comes later is nobody's any more
            self._ring = self._thread = None

    def close(self) -> None:
        """Stop listening, and close the sockets; ends `batches`, too. Calling it again changes nothing."""
        self._end()
        if not self._ended:
            self._dropped, self._ended = self._kernel_drops(), True
        self._sockets.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what has come ------------------------------------------------------------------------------------------------

    @property
    def datagrams(self) -> int:
        """How many have been received."""
        return self._receiver.datagrams

    @property
    def rejected(self) -> Counter[str]:
        """The decoder's: how many datagrams it did not use, and readings it left out, by reason. While it is at work,
        look at a copy, ``dict(listener.rejected)``: a reason may be added at any moment."""
        return self._decoder.rejected

    @property
    def lost(self) -> int:
        """The decoder's: how many datagrams are missing by the numbers of their frames, so far. Those that the kernel
        has dropped, here, are missing, too."""
        return self._decoder.lost

    @property
    def dropped(self) -> int | None:
        """How many datagrams reached this machine and were dropped by its kernel, for its buffer was full, until
        `batches` ended. (Also those whose checksum was wrong.) None where the system does not tell: it is Linux that
        does."""
        return self._dropped if self._ended else self._kernel_drops()

    def _kernel_drops(self) -> int | None:
        if not sys.platform.startswith("linux"):
            return None
        try:
            answer = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            return int(_MEMINFO.unpack(answer)[_MEMINFO_DROPS])
        except (OSError, struct.error):  # a kernel before 4.12; or closed meanwhile
            return self._dropped

    @property
    def forwarded(self) -> dict[tuple[str, int], int]:
        """For each destination how many datagrams were sent there."""
        return self._by_destination(0)

    @property
    def not_forwarded(self) -> dict[tuple[str, int], int]:
        """For each destination how many datagrams could not be sent, or, as far as its machine told, were not heard."""
        return self._by_destination(1)

    def _by_destination(self, which: int) -> dict[tuple[str, int], int]:
        counts = self._receiver.forwarded()
        return {each: count[which] for each, count in zip(self._destinations, counts, strict=True)}

    @property
    def last_heard(self) -> float | None:
        """When the latest datagram came, as time.monotonic() tells time [s]; None before the first."""
        return self._receiver.last_heard

    # -- for people ---------------------------------------------------------------------------------------------------

    def hint(self) -> list[str]:
        """Lines that say what to enter in the game's settings so that it is heard here."""
        host, port = self.address
        everywhere = host in ("0.0.0.0", "::")
        addresses = (local_addresses(ipv6=host == "::") if everywhere else []) or [host]
        formats = " or ".join(str(year) for year in FORMATS)
        lines = [
            "in the game, under Settings, Telemetry Settings:",
            "  UDP Telemetry: On",
            f"  UDP IP Address: {' or '.join(addresses)}",
            f"  UDP Port: {port}",
            f"  UDP Format: {formats}",
        ]
        if everywhere:
            lines.append("on this machine itself 127.0.0.1 will do; a firewall must let UDP to this port in")
        elif host == "::1" or host.startswith("127."):
            lines.append(f"{host} is heard from this machine alone; for a game on another one: --host 0.0.0.0")
        return lines

    def buffer_advice(self) -> str | None:
        """A line that says how to get a larger receive buffer, None where it is large enough for bursts."""
        if self.receive_buffer >= _LITTLE_BUFFER:
            return None
        advice = f"the system grants a receive buffer of {self.receive_buffer // 1024:,} KiB, so bursts may be dropped"
        if sys.platform.startswith("linux"):
            advice += f"; as root: sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
        return advice


def local_addresses(*, ipv6: bool = True) -> list[str]:
    """This machine's addresses on its networks, without loopback; the likeliest first. Sends nothing.

    Parameters
    ----------
    ipv6 : bool
        Whether also IPv6 ones.
    """
    found = [_address_towards(socket.AF_INET, "192.0.2.1")]  # set aside for documentation: nobody has it
    if sys.platform.startswith("linux"):
        found += [_interface_address(name) for name in _interfaces()]
    if ipv6:
        found.append(_address_towards(socket.AF_INET6, "2001:db8::1"))  # likewise
    return list(dict.fromkeys(each for each in found if each is not None and not each.startswith("127.")))


def _address_towards(family: int, destination: str) -> str | None:
    """Which of our addresses would be the sender's; connecting UDP sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((destination, 9))
            return str(sock.getsockname()[0])
    except OSError:  # no network, or none of that family
        return None


def _interfaces() -> list[str]:
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:  # it asks the kernel through a socket, which may not be had
        return []


def _interface_address(name: str) -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()))
    except OSError:  # it has none
        return None
    return socket.inet_ntoa(answer[20:24])


# Sockets --------------------------------------------------------------------------------------------------------------


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _resolved(host: str, port: int, what: str) -> tuple[int, Any]:
    """The family and address of a host and port."""
    if not 0 <= port <= 65535:
        raise ListenError(f"{what}: the port is {port}; expected 0 to 65535")
    if not host:
        raise ListenError(f"{what}: the host is empty; expected an address, such as 127.0.0.1, or a name")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: no text that could be a name
        raise ListenError(f"{what}: {_reason(error)}; expected an address, such as 127.0.0.1, or a name") from None
    # The games know IPv4 alone, so where a name stands for both that is the one.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _bound(host: str, port: int) -> socket.socket:
    what = f"listening at {_joined(host, port)}"
    family, address = _resolved(host, port, what)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
    except OSError as error:
        sock.close()
        advice = {
            errno.EADDRINUSE: "; only one program can own the port: forward from that one (--forward), "
            "or choose another --port",
            errno.EADDRNOTAVAIL: "; expected an address of this machine, or 0.0.0.0 for all",
            errno.EACCES: "; expected a port from 1024 on",
        }
        raise ListenError(f"{what}: {_reason(error)}{advice.get(error.errno or 0, '')}") from None
    return sock


def _is_ours(address: str) -> bool:
    """Whether an address is this machine's: only to such a one can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def _enlarged(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of so many bytes; return what was granted."""
    linux = sys.platform.startswith("linux")
    options = [_SO_RCVBUFFORCE, socket.SO_RCVBUF] if linux else [socket.SO_RCVBUF]  # the one needs CAP_NET_ADMIN
    for attempt, option in itertools.product([size, size // 4, size // 16], options):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, attempt)
            break
        except OSError:  # not allowed, or (elsewhere than on Linux) more than it ever gives
            continue
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if linux else granted  # Linux tells twice that, for its own needs
