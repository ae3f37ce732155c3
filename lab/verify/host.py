"""What the firewall of a host lets through: its own sockets send, its wire shows what leaves.

A host has a program and a kernel that answers, so its packets can't be made
by hand on the way out.  They are sent by sockets in its namespace, with one
hop to live, and looked at on the interface, behind the firewall.  What comes
in is made by hand, and found at sockets of the probe's own.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import secrets
import select
import socket
import struct
from collections.abc import Iterator, Sequence

from lab.fabric import netns
from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint
from lab.plan.model import Node
from lab.topology.behaviour import Firewall, Verdict
from lab.verify import expect
from lab.verify.firewall import Opening, finding, openings
from lab.verify.packets import ACK, RST, SYN, UNREACHABLE, Packet
from lab.verify.patience import Patience
from lab.verify.report import IPV6, Dimension, Finding
from lab.verify.site import Site
from lab.verify.wire import Wire

_MARK = b"labv"
_HOST_UNREACHABLE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES))


def address(node: Node, family: str) -> str:
    """The first address of a host in a family, by the name that reports have for it."""
    found = (
        text.partition("/")[0]
        for port in node.interfaces
        for text in port.addresses
        if (":" in text) == (family == IPV6)
    )
    return next(found, "")


def findings(site: Site, paths: LabPaths, firewall: Firewall) -> Iterator[Finding]:
    """Both directions, for UDP and TCP."""
    port = next(
        port.name
        for port in site.node.interfaces
        if any(text.partition("/")[0] == site.outer for text in port.addresses)
    )
    with contextlib.ExitStack() as stack:
        leaving = Wire(
            paths.netns(site.node.name),
            port,
            site.outside.peer_mac,
            addresses=site.remotes,
            outgoing=True,
        )
        stack.callback(leaving.close)
        beside = Wire(
            paths.netns(site.outside.node),
            site.outside.interface,
            site.outside.peer_mac,
            addresses=site.remotes,
        )
        stack.callback(beside.close)
        probe = _HostProbe(site, paths, leaving, beside)
        outbound = expect.outbound_of(site.node)
        for protocol in ("udp", "tcp"):
            for dimension, direction, measure in (
                (Dimension.OUTBOUND, outbound, probe.outward),
                (Dimension.INBOUND, firewall.inbound, probe.inward),
            ):
                tried = openings(direction, protocol, site.remotes)
                verdicts = [measure(each) for each in tried]
                yield finding(site.node.name, (dimension, direction), protocol, tried, verdicts)


class _HostProbe:
    def __init__(self, site: Site, paths: LabPaths, leaving: Wire, beside: Wire) -> None:
        self._site = site
        self._path = paths.netns(site.node.name)
        self._family = socket.AF_INET6 if ":" in site.outer else socket.AF_INET
        self._leaving = leaving
        self._beside = beside
        self._tags = itertools.count(secrets.randbits(31))

    # --- out ------------------------------------------------------------------

    def outward(self, opening: Opening) -> Verdict:
        """Send one packet by a socket; the interface shows it, or the socket hears why not."""
        kind = socket.SOCK_DGRAM if opening.protocol == "udp" else socket.SOCK_STREAM
        with netns.inside(self._path), socket.socket(self._family, kind) as made:
            if self._family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            else:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            made.setblocking(False)
            made.bind((self._site.outer, 0))
            local = Endpoint(*made.getsockname()[:2])
            code = made.connect_ex((opening.remote, opening.port))
            if opening.protocol == "udp" and code == 0:
                try:
                    made.send(_MARK + struct.pack("!I", next(self._tags) & 0xFFFFFFFF))
                except OSError as error:
                    code = error.errno or 0
            # Packets pass a host's own firewall within the call that sends them.
            if any(packet.source == local for packet in self._leaving.receive()):
                return Verdict.ACCEPT
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or code
            if code == errno.ECONNREFUSED or code in _HOST_UNREACHABLE:
                return Verdict.REJECT
            return Verdict.DROP

    # --- in -------------------------------------------------------------------

    def inward(self, opening: Opening) -> Verdict:
        """Send one packet from outside to a socket of the probe's own, or of who has the port."""
        target = Endpoint(self._site.outer, opening.port)
        with contextlib.ExitStack() as stack:
            waiting = self._listener(opening)
            if waiting is not None:
                stack.callback(waiting.close)
            for _ in range(self._site.rounds):
                tag = next(self._tags) & 0xFFFFFFFF
                packet = Packet(
                    opening.protocol,
                    Endpoint(opening.remote, 20000 + tag % 10000),
                    target,
                    tag,
                    flags=SYN if opening.protocol == "tcp" else 0,
                )
                self._beside.send(packet)
                verdict = self._hear(opening, tag, waiting)
                if verdict is not None:
                    return verdict
                if opening.expected is not Verdict.ACCEPT and self._site.loss == 0:
                    break
        return Verdict.DROP

    def _listener(self, opening: Opening) -> socket.socket | None:
        """A socket on the port, if nobody else has it."""
        kind = socket.SOCK_DGRAM if opening.protocol == "udp" else socket.SOCK_STREAM
        with netns.inside(self._path):
            made = socket.socket(self._family, kind)
        try:
            made.setblocking(False)
            made.bind((self._site.outer, opening.port))
            if kind == socket.SOCK_STREAM:
                made.listen(1)
        except OSError:
            made.close()
            return None
        return made

    def _hear(self, opening: Opening, tag: int, waiting: socket.socket | None) -> Verdict | None:
        """What the packet met with; None if nothing was heard."""
        datagrams = waiting if opening.protocol == "udp" else None
        seconds = self._site.patience_s
        if opening.expected is Verdict.DROP:
            # A firewall takes microseconds; what the wire takes is known.
            seconds = 0.15 + 2 * self._site.round_trip_s
        patience = Patience(seconds)
        while left := patience.left():
            files: Sequence[Wire | socket.socket] = (self._leaving, *filter(None, (datagrams,)))
            ready, _, _ = select.select(files, [], [], left)
            if datagrams in ready and datagrams is not None:
                with contextlib.suppress(OSError):
                    if datagrams.recv(64)[4:8] == struct.pack("!I", tag):
                        return Verdict.ACCEPT
            for packet in self._leaving.receive():
                if packet.acknowledged != tag:
                    continue
                if packet.protocol == "tcp":
                    accepted = packet.flags & SYN and packet.flags & ACK
                    if accepted:
                        self._beside.send(_reset(packet))
                    return Verdict.ACCEPT if accepted else Verdict.REJECT
                if packet.icmp[0] == UNREACHABLE:
                    # Port unreachable comes from behind the firewall.
                    return Verdict.ACCEPT if packet.icmp[1] == 3 else Verdict.REJECT
        return None


def _reset(answer: Packet) -> Packet:
    """What ends a handshake that a probe has begun."""
    return Packet(
        "tcp", answer.destination, answer.source, (answer.acknowledged + 1) & 0xFFFFFFFF, flags=RST
    )
