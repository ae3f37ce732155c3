"""Which routers run servers for who is inside (`lab.plan.gateway_servers`), and who is told.

A plan with firewalls or NAT64s becomes a plan in which their routers have the daemons
for it, and every node below knows the nearest ones.  It is done to whole plans
(when one is compiled, and when a firewall changes while a lab runs), and doing
it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan import gateway_servers as servers
from lab.plan.model import Daemon, Interface, Node, NodeKind, Plan
from lab.plan.names import UPLINKS, upstream_name
from lab.plan.services import SERVICES
from lab.topology.behaviour import Firewall
from lab.topology.model import INTERNET


def furnish(plan: Plan, where: Mapping[str, str] | None = None) -> Plan:
    """`plan` with the daemons that its firewalls ask for, and nodes told of them.

    Raises InputError for a host's firewall that leads to a proxy where no
    router above has one; `where` gives the `file:line` of each node.
    """
    if not any(map(_touched, plan.nodes)):
        return plan
    surroundings = _Surroundings.of(plan)
    return replace(
        plan, nodes=tuple(surroundings.furnished(node, where or {}) for node in plan.nodes)
    )


def told(node: Node) -> dict[str, str]:
    """The contract's variables for what firewalls above offer (docs/contract.md)."""
    variables = {}
    if node.resolver:
        variables["LAB_RESOLVER"] = node.resolver
    if node.proxy:
        variables["LAB_PROXY"] = f"http://{node.proxy}"
    return variables


def _touched(node: Node) -> bool:
    """Whether a firewall of `node` has servers, or had some."""
    wanted = node.firewall
    asks = node.nat64 is not None or (
        wanted is not None and (wanted.resolver or wanted.proxy or wanted.portal)
    )
    had = node.resolver or node.proxy or any(d.name in servers.ALL for d in node.daemons)
    return bool(asks or had)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """A plan's nodes, and which is attached to which."""

    nodes: dict[str, Node]
    upstream: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> _Surroundings:
        return cls(
            nodes={node.name: node for node in plan.nodes},
            upstream={
                link.a.node: upstream_name(link.b.node)
                for link in plan.links
                if link.a.interface in UPLINKS
            },
        )

    def furnished(self, node: Node, where: Mapping[str, str]) -> Node:
        if node.kind not in (NodeKind.ROUTER, NodeKind.HOST):
            return node
        resolver, proxy = "", ""
        for router in self._above(node.name):
            wanted = router.firewall
            if _has_resolver(router) and not resolver:
                resolver = _inner_address(router)
            if wanted is not None and wanted.proxy and not proxy:
                inside = _inner_address(router)
                host = f"[{inside}]" if ":" in inside else inside
                proxy = f"{host}:{wanted.proxy.port}"
        wanted = node.firewall
        own: tuple[Daemon, ...] = ()
        if node.kind is NodeKind.ROUTER and (wanted is not None or node.nat64):
            own = tuple(self._daemons(node, wanted or Firewall(), proxy))
        elif wanted is not None and wanted.portal:
            raise InputError(
                f"{node.name} is a host, and a captive portal stands in a router",
                remedy="give the firewall to the router above it, or say portal: false",
                where=where.get(node.name, ""),
            )
        elif wanted is not None and wanted.proxy and not proxy:
            raise InputError(
                f"the firewall of {node.name} lets only a web proxy pass, and no router above "
                "it has one",
                remedy="give a router above it firewall: http-only, or firewall: {proxy: true}",
                where=where.get(node.name, ""),
            )
        others = tuple(daemon for daemon in node.daemons if daemon.name not in servers.ALL)
        return replace(node, resolver=resolver, proxy=proxy, daemons=(*others, *own))

    def _daemons(self, router: Node, wanted: Firewall, proxy_above: str) -> Iterator[Daemon]:
        inside = _inner_address(router)
        if wanted.proxy or _has_resolver(router):
            names = "".join(f"{address} {name}\n" for name, address in self._names(router))
            outer = wanted.resolver and not router.nat64
            listen = f"{servers.LOOPBACK},{inside}" if outer else servers.LOOPBACK
            port = servers.NAMES_PORT if router.nat64 else servers.DNS_PORT
            yield servers.resolver(port, listen, names)
        if router.nat64:
            yield servers.dns64(router.nat64.prefix, inside)
        if wanted.proxy:
            yield servers.proxy(wanted.proxy, inside, proxy_above)
        if wanted.portal:
            yield servers.portal(router.lan, inside)

    def _names(self, router: Node) -> Iterator[tuple[str, str]]:
        """Name and address of each node that who is inside of `router` can send to."""
        yield router.name, _inner_address(router)
        reach = set(self._realms(router.name))
        hosts = [
            node
            for node in self.nodes.values()
            if node.kind is NodeKind.HOST and next(self._realms(node.name)) in reach
        ]
        services: dict[str, tuple[str, ...]] = {}
        for node in hosts:
            own = _addresses(node.interfaces[0])
            yield from ((node.name, address) for address in own)
            for role in node.program.roles if node.program else ():
                if role in SERVICES and role not in self.nodes:
                    services.setdefault(role, own)
        yield from ((role, address) for role, own in services.items() for address in own)

    def _above(self, name: str) -> Iterator[Node]:
        """The routers between `name` and the internet, nearest first."""
        while (name := self.upstream.get(name, INTERNET)) != INTERNET:
            yield self.nodes[name]

    def _realms(self, name: str) -> Iterator[str]:
        """The address realms that `name`, or who is behind it, can send to, nearest first."""
        if self.nodes[name].nat:
            yield name
        for router in self._above(name):
            if router.nat:
                yield router.name
        yield INTERNET


def _has_resolver(router: Node) -> bool:
    """Whether who is inside has a name server in the router."""
    wanted = router.firewall
    return router.nat64 is not None or (wanted is not None and wanted.resolver)


def _inner_address(router: Node) -> str:
    """The router's own address in its LAN."""
    for interface in router.interfaces:
        if interface.name == router.lan:
            return _addresses(interface)[0]
    raise ValueError(f"router {router.name} has no LAN")


def _addresses(interface: Interface) -> tuple[str, ...]:
    """IPv4 first, without prefix lengths."""
    return tuple(address.partition("/")[0] for address in interface.addresses)
