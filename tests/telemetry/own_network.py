"""Run a command in a network of its own, in which there is nothing but the loopback interface, multicast included.

    python own_network.py COMMAND [ARGUMENT...]

What it sends cannot leave the machine, nor even the command and its children. Exit status 77: the system allows no
network namespaces; standard error says why. Linux only.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

NOT_ALLOWED = 77

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000  # <linux/sched.h>
SIOCADDRT, SIOCSIFFLAGS = 0x890B, 0x8914  # <linux/sockios.h>
IFF_UP, IFF_RUNNING = 0x1, 0x40  # <linux/if.h>
RTF_UP = 0x1  # <linux/route.h>


ADDRESS = ctypes.c_ubyte * 16


class Route(ctypes.Structure):
    """Struct rtentry of <linux/route.h>."""

    _fields_ = (
        ("pad1", ctypes.c_ulong),
        ("destination", ADDRESS),
        ("gateway", ADDRESS),
        ("mask", ADDRESS),
        ("flags", ctypes.c_ushort),
        ("pad2", ctypes.c_short),
        ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p),
        ("metric", ctypes.c_short),
        ("device", ctypes.c_char_p),
        ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong),
        ("rtt", ctypes.c_ushort),
    )


def leave_the_network():
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (CLONE_NEWNET, CLONE_NEWNET | CLONE_NEWUSER):  # without root: first a namespace of users
        if libc.unshare(flags) == 0:
            return
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))


def set_up_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))
        multicast = Route(
            destination=address("224.0.0.0"),
            gateway=address("0.0.0.0"),
            mask=address("240.0.0.0"),
            flags=RTF_UP,
            device=b"lo",
        )
        fcntl.ioctl(any_socket, SIOCADDRT, multicast)


def address(text):
    """Return a struct sockaddr_in."""
    return ADDRESS(*struct.pack("@HH4s8x", socket.AF_INET, 0, socket.inet_aton(text)))


def main(arguments):
    try:
        leave_the_network()
        set_up_loopback()
    except OSError as error:
        print(f"no network namespace: {error}", file=sys.stderr)
        return NOT_ALLOWED
    interfaces = [name for _, name in socket.if_nameindex()]
    assert interfaces == ["lo"], interfaces
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
