"""Addresses that hosts claimed for themselves, which no plan knows: read where they are."""

from __future__ import annotations

import fcntl
import socket
import struct

from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric import netns
from lab.paths import LabPaths
from lab.plan.linklocal import claims_address
from lab.plan.model import Interface, Node, Plan

_SIOCGIFADDR = 0x8915
_BITS = 16
"""Of 169.254.0.0/16 (RFC 3927)."""


def with_claimed(plan: Plan, paths: LabPaths) -> Plan:
    """`plan` with the addresses that its hosts have claimed by now."""
    if not any(map(claims_address, plan.nodes)):
        return plan
    return replace(plan, nodes=tuple(_with_claimed(node, paths) for node in plan.nodes))


def _with_claimed(node: Node, paths: LabPaths) -> Node:
    if not claims_address(node):
        return node
    try:
        with netns.inside(paths.netns(node.name)):
            faces = tuple(_with_address(face) for face in node.interfaces)
    except LabError:
        return node  # It is not there, or no more.
    return replace(node, interfaces=faces)


def _with_address(face: Interface) -> Interface:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("32s", face.name.encode()))
        except OSError:
            return face  # It has none yet.
    return replace(face, addresses=(f"{socket.inet_ntoa(answer[20:24])}/{_BITS}",))
