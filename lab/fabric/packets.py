"""Packet sockets (packet(7)): what passes an interface, beside its machine's own stack.

Who looks at packets decides which, how many may wait and where; here is what
all of them do alike.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.fabric import netns

ALL = 3
"""Packets of every protocol (ETH_P_ALL), for `bind`."""
OTHERHOST, OUTGOING, LOOPBACK = 3, 4, 5
"""Kinds of packets, where `recvfrom` says whence one came (PACKET_*)."""
LOAD_BYTE, LOAD_HALF, LOAD_WORD, EQUAL, GIVE = 0x30, 0x28, 0x20, 0x15, 0x06
"""Instructions of classic BPF."""
Program = Sequence[tuple[int, int, int, int]]
"""Classic BPF: an instruction, two jumps and a value on each line."""

_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_STAMP = struct.Struct("=qq")


@contextmanager
def opening(
    path: Path,
    kind: int,
    what: str,
    *,
    room: int,
    outgoing: bool = True,
    stamps: bool = False,
    program: Program = (),
) -> Iterator[socket.socket]:
    """A packet socket in the namespace at `path`, which hears nothing until the block binds it.

    `kind` is SOCK_RAW, or SOCK_DGRAM for packets without the header of the link
    layer.  So many bytes as `room` may wait.  It hears what the machine itself
    sends, if `outgoing`, with times for `stamp`, if `stamps`, and of all that
    what `program` gives.  Raises MissingError without the right to, and
    LabError, saying that `what` can't be looked at, for an OSError in the block
    or before; the socket is closed then.
    """
    with netns.inside(path):
        try:
            made = socket.socket(socket.AF_PACKET, kind, 0)
        except PermissionError as error:
            raise MissingError(
                "not allowed to look at packets", remedy="run as root, or with CAP_NET_RAW"
            ) from error
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, stamps)
            if not outgoing:
                made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            if program:
                attach(made, program)
            yield made
        except OSError as error:
            made.close()
            raise LabError(
                f"can't look at {what}: {error.strerror}",
                remedy="something removed it; take the lab down and up again",
            ) from error


def attach(made: socket.socket, program: Program) -> None:
    """Let `made` hear from now on what `program` gives; what waits in it stays."""
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    request = struct.pack("HL", len(program), ctypes.addressof(buffer))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)


def stamp(extras: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Nanoseconds of Unix time, from the ancillary data of `recvmsg`; None if it has none."""
    for _, what, value in extras:
        if what == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _STAMP.unpack(value[: _STAMP.size])
            return int(seconds * 10**9 + nanoseconds)
    return None


def missed(made: socket.socket) -> int:
    """How many packets did not fit since it was opened, or since this was last asked."""
    answer = made.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
    return int(struct.unpack("=II", answer)[1])
