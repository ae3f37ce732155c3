"""What numbers in packets are called in a ladder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lab.peer.session import wire as session
from lab.peer.stun.codec import Method

CODES: Mapping[tuple[str, int], str] = MappingProxyType(
    {
        ("icmp", 3): "ICMP unreachable",
        ("icmp", 11): "ICMP time exceeded",
        ("icmp6", 1): "ICMPv6 unreachable",
        ("icmp6", 2): "ICMPv6 packet too big",
        ("icmp6", 3): "ICMPv6 time exceeded",
    }
)
"""Types of errors of ICMP, by protocol."""

METHODS: Mapping[Method, str] = MappingProxyType(
    {
        Method.BINDING: "STUN binding",
        Method.ALLOCATE: "TURN allocate",
        Method.REFRESH: "TURN refresh",
        Method.SEND: "TURN send",
        Method.DATA: "TURN data",
        Method.CREATE_PERMISSION: "TURN permission",
        Method.CHANNEL_BIND: "TURN channel",
    }
)
"""Methods of STUN and TURN."""

FRAMES: Mapping[int, str] = MappingProxyType(
    {
        session.Kind.DATA: "datagram",
        session.Kind.CHECK: "check",
        session.Kind.CHECKED: "check answered",
        session.Kind.BYE: "goodbye",
        session.Kind.FAREWELL: "goodbye answered",
    }
)
"""What a session says over its path."""
