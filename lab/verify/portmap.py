"""Port mapping protocols: what a router answers, and whether an asked-for port is open.

A host behind the router asks by each protocol, a packet made by hand comes
from outside, and the host has it or has not; then the port is given back, and
the next packet must not come.  Nothing is waited for in vain: a packet to a
second port, mapped as well, takes the same way after it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import secrets
import socket
from collections.abc import Callable, Iterator

from lab.fabric import netns
from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint
from lab.plan.model import Node, NodeKind, Plan
from lab.topology.behaviour import PortMapping
from lab.verify.igd import Client, Host, NatPmp, Pcp, RefusedError, SilentError, Upnp
from lab.verify.packets import Packet
from lab.verify.patience import ready
from lab.verify.report import Dimension, Finding
from lab.verify.site import Site
from lab.verify.wire import Wire

OPENS, REFUSES, SILENT = "opens ports", "refuses", "silent"
LEASE_S = 120
_CLIENTS: tuple[tuple[str, Callable[[Host], Client]], ...] = (
    ("upnp", Upnp),
    ("nat-pmp", NatPmp),
    ("pcp", Pcp),
)


def findings(plan: Plan, paths: LabPaths, site: Site) -> Iterator[Finding]:
    """One for each protocol, if the router answers any or should; none where nobody can ask."""
    asker = _asker(plan, site)
    if asker is None:
        return
    with contextlib.ExitStack() as stack:
        asking = _Asking(paths, site, asker, stack)
        for name, client in _CLIENTS:
            declared = _declared(site, name)
            observed, detail = asking.observe(client)
            if observed != SILENT or site.node.port_mapping is not None:
                yield Finding(
                    node=site.node.name,
                    dimension=Dimension.PORT_MAPPING,
                    protocol=name,
                    declared=declared,
                    observed=observed,
                    ok=observed == declared,
                    detail=detail,
                )


def _declared(site: Site, protocol: str) -> str:
    mapping = site.node.port_mapping or PortMapping()
    if not (mapping.upnp if protocol == "upnp" else mapping.pcp):
        return SILENT
    # miniupnpd grants nothing where nothing could come in: behind another NAT.
    return OPENS if ipaddress.ip_address(site.outer).is_global else REFUSES


def _asker(plan: Plan, site: Site) -> Node | None:
    """A host that is directly behind the router and has no firewall of its own."""
    lan = next(port for port in site.node.interfaces if port.name == site.node.lan)
    networks = [ipaddress.ip_interface(text).network for text in lan.addresses]
    beside = {
        end.node
        for link in plan.links
        for end in (link.a, link.b)
        if site.inside is not None and site.inside.node in (link.a.node, link.b.node)
    }
    for node in plan.nodes:
        if node.kind is NodeKind.HOST and node.name in beside and node.firewall is None:
            address = ipaddress.ip_address(_address(node))
            if any(address in network for network in networks):
                return node
    return None


def _address(node: Node) -> str:
    texts = (a.partition("/")[0] for port in node.interfaces for a in port.addresses)
    return next(text for text in texts if ":" not in text)


class _Asking:
    """A host that asks, and an outside that sends."""

    def __init__(
        self, paths: LabPaths, site: Site, asker: Node, stack: contextlib.ExitStack
    ) -> None:
        self._site = site
        self._namespace = paths.netns(asker.name)
        self._address = _address(asker)
        self._tags = itertools.count(secrets.randbits(31))
        self._outside = Wire(
            paths.netns(site.outside.node),
            site.outside.interface,
            site.outside.peer_mac,
            addresses=site.remotes,
        )
        stack.callback(self._outside.close)
        self._host = Host(
            open=self._open,
            address=self._address,
            router=site.inner,
            # A router that is not asked to answer is not waited for long: its "nobody here"
            # may be held back (net.ipv4.icmp_ratelimit).
            tries=site.rounds if site.node.port_mapping is not None else 1,
            patience_s=site.patience_s if site.node.port_mapping is not None else site.hurry_s,
        )

    def observe(self, client: Callable[[Host], Client]) -> tuple[str, str]:
        """What the router does when asked, and what a person wants to know of it."""
        asking = client(self._host)
        with self._open(socket.SOCK_DGRAM) as mapped, self._open(socket.SOCK_DGRAM) as fence:
            ports = [sock.getsockname()[1] for sock in (mapped, fence)]
            try:
                (address, first), (_, second) = (asking.map(port, LEASE_S) for port in ports)
            except SilentError:
                return SILENT, ""
            except RefusedError as reason:
                return REFUSES, str(reason)
            if address != self._site.outer:
                return f"grants ports of {address}", f"the router has {self._site.outer}"
            try:
                if not self._comes(first, mapped):
                    return "grants ports that stay closed", ""
                asking.unmap(ports[0], first)
                if self._comes(first, mapped, behind=(second, fence)):
                    return "opens ports that stay open", "after they were given back"
                asking.unmap(ports[1], second)
            except (SilentError, RefusedError) as reason:
                return "does not take ports back", str(reason)
        return OPENS, ""

    def _comes(
        self,
        port: int,
        sock: socket.socket,
        *,
        behind: tuple[int, socket.socket] | None = None,
    ) -> bool:
        """Whether a packet from outside arrives; at the latest when one `behind` it has."""
        for _ in range(self._site.rounds):
            self._send(port)
            if behind is not None:
                self._send(behind[0])
            awaited = [sock] if behind is None else [sock, behind[1]]
            came = ready(awaited, self._site.patience_s)
            if sock in came:
                sock.recv(2048)
                return True
            for other in came:
                other.recv(2048)
        return False

    def _send(self, port: int) -> None:
        tag = next(self._tags) & 0xFFFFFFFF
        # A fresh port each time: what conntrack has admitted once goes on.
        source = Endpoint(self._site.remotes[0], 1024 + tag % 60000)
        self._outside.send(Packet("udp", source, Endpoint(self._site.outer, port), tag))

    def _open(self, kind: int) -> socket.socket:
        with netns.inside(self._namespace):
            sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
        try:
            sock.bind((self._address, 0))
        except BaseException:
            sock.close()
            raise
        return sock
