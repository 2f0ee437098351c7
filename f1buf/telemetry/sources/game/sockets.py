"""UDP sockets to listen at and to forward to, and this machine's addresses."""

import errno
import fcntl
import itertools
import socket
import struct
import sys
from typing import Any

from f1buf.telemetry.errors import ListenError

__all__ = [
    "bound",
    "enlarged",
    "is_ours",
    "joined",
    "kernel_drops",
    "local_addresses",
    "reason",
    "resolved",
]

_LINUX = sys.platform.startswith("linux")
# What Python does not name: see socket(7), SK_MEMINFO_DROPS in linux/sock_diag.h, and netdevice(7).
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")
_MEMINFO_DROPS = 8
_SIOCGIFADDR = 0x8915  # an interface's IPv4 address


def local_addresses(*, ipv6: bool = True) -> list[str]:
    """Return this machine's addresses on its networks, without loopback, the likeliest first. It sends nothing."""
    found = [_address_towards(socket.AF_INET, "192.0.2.1")]  # an address for documentation: nobody has it
    if _LINUX:
        found += [_interface_address(name) for name in _interfaces()]
    if ipv6:
        found.append(_address_towards(socket.AF_INET6, "2001:db8::1"))  # likewise
    return list(dict.fromkeys(each for each in found if each is not None and not each.startswith("127.")))


def _address_towards(family: int, destination: str) -> str | None:
    """Return which of our addresses would be the sender's; connecting UDP sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((destination, 9))
            return str(sock.getsockname()[0])
    except OSError:  # no network, or none of that family
        return None


def _interfaces() -> list[str]:
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:  # it asks the kernel through a socket, and there may be none to be had
        return []


def _interface_address(name: str) -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()))
    except OSError:  # it has none
        return None
    return socket.inet_ntoa(answer[20:24])


def joined(host: str, port: int) -> str:
    """Return an address and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason(error: BaseException) -> str:
    """Return what an error says, without its number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def resolved(host: str, port: int, what: str) -> tuple[int, Any]:
    """Return the family and address of a host and port; `what` begins the message of a ListenError."""
    if not 0 <= port <= 65535:
        raise ListenError(f"{what}: the port is {port}; expected 0 to 65535")
    if not host:
        raise ListenError(f"{what}: the host is empty; expected an address, such as 127.0.0.1, or a name")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: no text that could be a name
        raise ListenError(f"{what}: {reason(error)}; expected an address, such as 127.0.0.1, or a name") from None
    # The games know IPv4 alone, so of a name's addresses such a one comes first.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens there."""
    what = f"listening at {joined(host, port)}"
    family, address = resolved(host, port, what)
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
        raise ListenError(f"{what}: {reason(error)}{advice.get(error.errno or 0, '')}") from None
    return sock


def is_ours(address: str) -> bool:
    """Say whether an address is this machine's: a socket can be bound to no other one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def enlarged(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of so many bytes; return what was granted."""
    options = [_SO_RCVBUFFORCE, socket.SO_RCVBUF] if _LINUX else [socket.SO_RCVBUF]  # the one needs CAP_NET_ADMIN
    for attempt, option in itertools.product([size, size // 4, size // 16], options):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, attempt)
            break
        except OSError:  # not allowed, or (elsewhere than on Linux) more than it ever gives
            continue
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if _LINUX else granted  # Linux says twice as much, for its own needs


def kernel_drops(sock: socket.socket) -> int | None:
    """Return how many datagrams the kernel has dropped; None if it does not say, or the socket is closed."""
    if not _LINUX:
        return None
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS])
    except (OSError, struct.error):  # a kernel before 4.12; or closed meanwhile
        return None
