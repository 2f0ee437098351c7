"""The F1 games' telemetry, live over UDP.

There are two threads. The receiver, which runs without the GIL (see `udp.pyx`), takes each datagram from the socket at
once, forwards it, and puts it into a ring of 4,096. The source's own thread decodes what is in the ring. So while the
rest of the program is busy, datagrams wait in the ring, and then in the kernel's buffer: at 20 times real time the ring
holds 0.6 s, and a buffer of 32 MiB, where the system grants that, 4 s. The kernel drops what
does not fit, and counts it.

When the ring is full the receiver waits with a batch in its hand, so forwarding waits, too.

`Listener.batches` starts the receiver, and waits for its end however it ends itself. The sockets belong to the
`Listener`, until `close`.
"""

import socket
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
from f1buf.telemetry.errors import ListenError
from f1buf.telemetry.sources.game import sockets
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.packets import FORMATS
from f1buf.telemetry.sources.game.sockets import local_addresses
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


class Listener:
    """
    The datagrams that come to a UDP port, as a source: received, passed on, decoded.

    It listens as soon as it is made: what comes before `batches` waits in the kernel's buffer.

    Parameters
    ----------
    decoder : Decoder
        What turns datagrams into readings, and counts those that it cannot use; nobody else may use it meanwhile.
    host : str
        The address to listen at, or its name: "127.0.0.1" and "::1" hear this machine alone, "0.0.0.0" every IPv4
        network, "::" these and IPv6. Of a name's addresses an IPv4 one comes first.
    port : int
        0 to 65535; 0: any that is free.
    forward : iterable of (str, int)
        Hosts and ports that get each datagram unchanged, whatever it holds. None may send it back: two listeners that
        forward to each other do so for ever.
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
    Any thread may read the counters, also after `close`. Readings have the Unix time at which their datagram arrived.
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
        self._lock = threading.Lock()  # guards the ring and the thread, which are there during `batches`
        self._ring: RingBuffer | None = None
        self._thread: threading.Thread | None = None  # the receiver's
        self._failure: BaseException | None = None  # what ended the receiver
        self._ended = False  # whether `batches` has
        self._dropped: int | None = None  # by the kernel until then
        with ExitStack() as stack:
            self._socket = stack.enter_context(sockets.bound(host, port))
            self.address: tuple[str, int] = self._socket.getsockname()[:2]
            self.name = f"UDP {sockets.joined(*self.address)}"
            self.receive_buffer = sockets.enlarged(self._socket, receive_buffer)
            self._destinations = list(dict.fromkeys(forward))
            targets = [stack.enter_context(self._connected(*each)) for each in self._destinations]
            self._receiver = Receiver(self._socket.fileno(), [each.fileno() for each in targets])
            self._sockets = stack.pop_all()

    def _connected(self, host: str, port: int) -> socket.socket:
        """Return a socket that sends there."""
        what = f"forwarding to {sockets.joined(host, port)}"
        if port == 0:
            raise ListenError(f"{what}: the port is 0; expected 1 to 65535")
        family, address = sockets.resolved(host, port, what)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.connect(address)
            if self._hears(sock.getpeername()[:2]):
                raise ListenError(f"{what}: that is where it is heard; expected another address or port")
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError) and not isinstance(error, ListenError):
                raise ListenError(f"{what}: {sockets.reason(error)}") from None
            raise
        return sock

    def _hears(self, address: tuple[str, int]) -> bool:
        """Say whether what is sent there comes back here."""
        if address[1] != self.address[1]:
            return False
        host = address[0].removeprefix("::ffff:")  # an IPv4 address as IPv6 writes it
        return host == self.address[0] or (self.address[0] in ("0.0.0.0", "::") and sockets.is_ours(host))

    # -- the source ---------------------------------------------------------------------------------------------------

    def batches(self, stop: threading.Event) -> Iterator[NDArray[Any]]:
        """Yield readings as their datagrams come, together those of several that have come.

        What has arrived when `stop` is set is still decoded and yielded. Afterwards it may be called again.

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
            raise ListenError(f"{self.name}: {sockets.reason(self._failure)}") from self._failure

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
        """Run the receiver, in its thread."""
        try:
            self._receiver.run(ring)
        except BaseException as error:
            self._failure = error

    def _decoded(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the readings of these slots."""
        data = batch.view("u1").data
        start = SLOT.fields["payload"][1]  # type: ignore[index]
        room = SLOT["payload"].itemsize  # longer than any packet: what does not fit is oversized
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
        """End the receiver; what is still in the ring is lost."""
        with self._lock:
            if self._thread is not None and self._ring is not None:
                self._receiver.stop()
                self._ring.shutdown(immediate=True)
                self._thread.join()
                self._dropped, self._ended = self._kernel_drops(), True  # what comes later is no loss
            self._ring = self._thread = None

    def close(self) -> None:
        """Stop listening, end `batches`, and close the sockets. Calling it again changes nothing."""
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
        """The decoder's: how many datagrams it did not use, and readings it left out, by reason. During `batches` look
        at a copy, ``dict(listener.rejected)``: a reason may be added at any moment."""
        return self._decoder.rejected

    @property
    def lost(self) -> int:
        """The decoder's: how many datagrams are missing by the numbers of their frames, so far. What the kernel has
        dropped is missing, too."""
        return self._decoder.lost

    @property
    def dropped(self) -> int | None:
        """How many datagrams this machine's kernel has dropped until `batches` ended: its buffer was full, or their
        checksum wrong. None where the system does not say, unlike Linux."""
        return self._dropped if self._ended else self._kernel_drops()

    def _kernel_drops(self) -> int | None:
        drops = sockets.kernel_drops(self._socket)
        return self._dropped if drops is None else drops

    @property
    def forwarded(self) -> dict[tuple[str, int], int]:
        """For each destination how many datagrams were sent there."""
        return self._by_destination(0)

    @property
    def not_forwarded(self) -> dict[tuple[str, int], int]:
        """For each destination how many datagrams could not be sent, or were not heard, as far as its machine said."""
        return self._by_destination(1)

    def _by_destination(self, which: int) -> dict[tuple[str, int], int]:
        counts = self._receiver.forwarded()
        return {each: count[which] for each, count in zip(self._destinations, counts, strict=True)}

    @property
    def last_heard(self) -> float | None:
        """When the latest datagram came, on the clock of time.monotonic() [s]; None before the first."""
        return self._receiver.last_heard

    # -- for people ---------------------------------------------------------------------------------------------------

    def hint(self) -> list[str]:
        """Return lines that say what to enter in the game's settings so that it is heard here."""
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
        """Return a line that says how to get a larger receive buffer, None if it is large enough for bursts."""
        if self.receive_buffer >= _LITTLE_BUFFER:
            return None
        advice = f"the system grants a receive buffer of {self.receive_buffer // 1024:,} KiB, so bursts may be dropped"
        if sys.platform.startswith("linux"):
            advice += f"; as root: sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
        return advice
