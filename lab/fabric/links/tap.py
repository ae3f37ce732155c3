"""TAP devices: one end of a link that a process of ours carries (tuntap.rst of the kernel).

No offload is switched on (TUNSETOFFLOAD), so the kernel hands over frames of
at most the MTU with every checksum filled in, and the model sees what a real
wire would carry.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from lab.errors import LabError, MissingError

RING_PACKETS = 4096
"""Frames that the kernel keeps for a reader that is busy: 20 ms at 200 kpps.

The device drops what comes on top; the default of 1000 is one burst of TCP.
"""

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFMTU = 0x8922
_SIOCSIFHWADDR = 0x8924
_SIOCSIFTXQLEN = 0x8943
_IFF_UP = 0x1
_ARPHRD_ETHER = 1


def create(interface: str, mac: str, mtu: int) -> int:
    """A TAP device, up, in the calling thread's network namespace; its descriptor.

    Each non-blocking read of the descriptor gives one Ethernet frame that the
    node sent, each write is one that the node receives.  The device lives as
    long as the descriptor (or a copy of it).

    Raises MissingError if the machine has no TAP devices or does not allow
    them, LabError if the name is taken or an argument is refused.
    """
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MissingError(
            f"no TAP devices here ({_DEVICE}: {error.strerror})",
            remedy="load the module (modprobe tun); in a container, add --device /dev/net/tun",
        ) from error
    try:
        name = interface.encode()
        request = struct.pack("16sH22x", name, _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
            address = bytes.fromhex(mac.replace(":", ""))
            for command, value in (
                (_SIOCSIFHWADDR, struct.pack("H14s", _ARPHRD_ETHER, address)),
                (_SIOCSIFMTU, struct.pack("i", mtu)),
                (_SIOCSIFTXQLEN, struct.pack("i", RING_PACKETS)),
            ):
                fcntl.ioctl(handle, command, struct.pack("16s24s", name, value))
            answer = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16s24x", name))
            (flags,) = struct.unpack_from("H", answer, 16)
            fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))
    except OSError as error:
        os.close(descriptor)
        raise _explained(interface, error) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _explained(interface: str, error: OSError) -> LabError:
    if error.errno == errno.EBUSY:
        return LabError(
            f"interface {interface} exists already", remedy="lab down removes what was left"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return MissingError(
            f"not allowed to create the TAP device {interface}",
            remedy="run as root, or with CAP_NET_ADMIN",
        )
    return LabError(f"TAP device {interface}: {error.strerror}")
