"""What TURN puts on the wire beside STUN messages (RFC 8656).

ChannelData, on UDP without and on TCP with padding to a multiple of 4::

    | channel number | length | data |

REQUESTED-TRANSPORT and CHANNEL-NUMBER are numbers in the upper bytes of their
attribute; the rest of it is reserved.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

UDP = 17 << 24
"""REQUESTED-TRANSPORT for a UDP relay."""
FAMILIES: Mapping[int, int] = MappingProxyType({1: 4, 2: 6})
"""IP versions by their number in REQUESTED-ADDRESS-FAMILY (section 18.6)."""
FIRST_CHANNEL = 0x4000
LAST_CHANNEL = 0x4FFF
LAST_OLD_CHANNEL = 0x7FFF
"""Clients of RFC 5766 choose from a larger range; a server understands them too."""
DEFAULT_LIFETIME_S = 600
PERMISSION_S = 300
CHANNEL_S = 600


def is_channel_data(data: bytes) -> bool:
    """Whether the first two bits are ChannelData's (RFC 8656, section 12.4; RFC 5766, 11.4)."""
    return len(data) >= 4 and data[0] & 0xC0 == 0x40


def channel_data(channel: int, payload: bytes) -> bytes:
    """`payload` in a ChannelData message, without padding."""
    return struct.pack("!HH", channel, len(payload)) + payload


def parse_channel_data(data: bytes) -> tuple[int, bytes] | None:
    """Channel and payload; None if the message is cut short."""
    channel, length = struct.unpack_from("!HH", data)
    if len(data) < 4 + length:
        return None
    return channel, data[4 : 4 + length]
