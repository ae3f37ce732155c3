"""The frames that links are measured with: known at the far end, also with a bit inverted.

They are Ethernet's own: of a type for experiments (0x88B5, IEEE 802-2014,
section 9.2), so no IP stack and no firewall cares, and to an address that no
bridge forwards (01-80-C2-00-00-0E, IEEE 802.1Q-2018, table 8-1), so each stays
on its link.  What tells a frame from others is in it twice, each copy with a
checksum of its own: one bit spoils one of them at most.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

SMALLEST = 60
"""Bytes of the shortest frame, check sequence not counted."""
HEADER = 14
"""Bytes of an Ethernet header."""

_TO = bytes.fromhex("0180c200000e")
_TYPE = b"\x88\xb5"
_COPY = struct.Struct("!4sII")
_SUM = struct.Struct("!I")
_MARK = b"labw"
_FIRST, _SECOND, _END = HEADER, HEADER + 16, HEADER + 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame says of itself."""

    flow: int
    number: int
    intact: bool


class Maker:
    """Makes the frames of one flow; `source` is the MAC address of the interface that sends."""

    def __init__(self, source: bytes, flow: int, size: int) -> None:
        self._head = _TO + source + _TYPE
        self._flow = flow
        self._filler = bytes(size - _END)

    def frame(self, number: int) -> bytes:
        """The frame of that number."""
        copy = _COPY.pack(_MARK, self._flow, number)
        copy += _SUM.pack(zlib.crc32(copy))
        return self._head + copy + copy + self._filler


def read(frame: bytes) -> Seen | None:
    """What `frame` says of itself; None if it is somebody else's."""
    first, second = frame[_FIRST:_SECOND], frame[_SECOND:_END]
    for copy in (first, second):
        if copy[:4] != _MARK or _SUM.pack(zlib.crc32(copy[:12])) != copy[12:]:
            continue
        _, flow, number = _COPY.unpack_from(copy)
        intact = (
            first == second
            and frame[:6] == _TO
            and frame[12:HEADER] == _TYPE
            and frame.count(0, _END) == len(frame) - _END
        )
        return Seen(flow, number, intact)
    return None
