"""TUN devices that outlive who made them: a daemon attaches to one by its name."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from lab.errors import LabError, MissingError

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_UP = 0x1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914


def ensure(interface: str) -> None:
    """A TUN device of that name, up, in the calling thread's namespace; there already is fine.

    It drops packets until a program attaches.  Raises MissingError if the
    machine has no TUN devices or does not allow them, LabError if it is refused.
    """
    try:
        socket.if_nametoindex(interface)
    except OSError:
        pass
    else:
        return
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MissingError(
            f"no TUN devices here ({_DEVICE}: {error.strerror})",
            remedy="load the module (modprobe tun); in a container, add --device /dev/net/tun",
        ) from error
    name = interface.encode()
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name, _IFF_TUN | _IFF_NO_PI))
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
            answer = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16s24x", name))
            (flags,) = struct.unpack_from("H", answer, 16)
            fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))
    except PermissionError as error:
        raise MissingError(
            f"not allowed to create the TUN device {interface}",
            remedy="run as root, or with CAP_NET_ADMIN",
        ) from error
    except OSError as error:
        raise LabError(f"TUN device {interface}: {error.strerror}") from error
    finally:
        os.close(descriptor)
