"""What routers run for who is inside: a resolver, also with DNS64, a web proxy, a captive portal.

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
from lab.plan.model import Daemon, Interface, Node, NodeKind, Plan
from lab.plan.names import UPLINKS, upstream_name
from lab.plan.services import SERVICES
from lab.topology.behaviour import Firewall
from lab.topology.model import INTERNET

RESOLVER, PROXY, PORTAL, DNS64 = "resolver", "proxy", "portal", "dns64"
_DAEMONS = frozenset({RESOLVER, PROXY, PORTAL, DNS64})
_LOOPBACK = "127.0.0.1"
_DNS_PORT = 53
_NAMES_PORT = 5353
"""Where the resolver is, behind the one that does DNS64."""

_RESOLVER_CONFIGURATION = """\
# Answers for the lab's nodes; no other name exists, and nobody else is asked.
no-hosts
addn-hosts={dir}/names
local=/#/
no-resolv
# What a program asked a moment ago may have changed in the lab.
local-ttl=0
bind-interfaces
port=%d
listen-address=%s
user=root
pid-file=
"""

_DNS64_CONFIGURATION = """\
server:
    directory: "{{dir}}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    port: 53
    interface: {loopback}
    interface: {inside}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    # An AAAA record for what has none, made of its A record (RFC 6147).
    module-config: "dns64 iterator"
    dns64-prefix: {prefix}
    do-not-query-localhost: no
    # What a program asked a moment ago may have changed in the lab.
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    # Names that are none elsewhere may be nodes here.
    local-zone: "test." transparent
    local-zone: "invalid." transparent
    local-zone: "onion." transparent
forward-zone:
    name: "."
    forward-addr: {loopback}@{names_port}
"""

_PROXY_CONFIGURATION = """\
# For who is inside; it finds names by the resolver beside it.
Port %d
Listen %s
Timeout 600
MaxClients 500
LogLevel Connect
"""


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
    had = node.resolver or node.proxy or any(d.name in _DAEMONS for d in node.daemons)
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
        others = tuple(daemon for daemon in node.daemons if daemon.name not in _DAEMONS)
        return replace(node, resolver=resolver, proxy=proxy, daemons=(*others, *own))

    def _daemons(self, router: Node, wanted: Firewall, proxy_above: str) -> Iterator[Daemon]:
        inside = _inner_address(router)
        if wanted.proxy or _has_resolver(router):
            names = "".join(f"{address} {name}\n" for name, address in self._names(router))
            outer = wanted.resolver and not router.nat64
            listen = f"{_LOOPBACK},{inside}" if outer else _LOOPBACK
            port = _NAMES_PORT if router.nat64 else _DNS_PORT
            yield Daemon(
                name=RESOLVER,
                command=("dnsmasq", "--keep-in-foreground", "--conf-file={dir}/dnsmasq.conf"),
                package="dnsmasq-base",
                files=(
                    ("dnsmasq.conf", _RESOLVER_CONFIGURATION % (port, listen)),
                    ("names", names),
                ),
                ready=(f"udp/{port}", f"tcp/{port}"),
            )
        if router.nat64:
            text = _DNS64_CONFIGURATION.format(
                inside=inside,
                loopback=_LOOPBACK,
                prefix=router.nat64.prefix,
                names_port=_NAMES_PORT,
            )
            yield Daemon(
                name=DNS64,
                command=("unbound", "-d", "-c", "{dir}/unbound.conf"),
                package="unbound",
                files=(("unbound.conf", text),),
                ready=(f"udp/{_DNS_PORT}", f"tcp/{_DNS_PORT}"),
            )
        if wanted.proxy:
            text = _PROXY_CONFIGURATION % (wanted.proxy.port, inside)
            # To tinyproxy, no ConnectPort at all means every port.
            text += "".join(f"ConnectPort {port}\n" for port in wanted.proxy.connect or (0,))
            if proxy_above:
                text += f"Upstream http {proxy_above}\n"
            yield Daemon(
                name=PROXY,
                command=("tinyproxy", "-d", "-c", "{dir}/tinyproxy.conf"),
                package="tinyproxy-bin",
                files=(
                    ("tinyproxy.conf", text),
                    ("resolv.conf", f"nameserver {_LOOPBACK}\noptions attempts:1 timeout:1\n"),
                ),
                ready=(f"tcp/{wanted.proxy.port}",),
            )
        if wanted.portal:
            yield Daemon(
                name=PORTAL,
                command=("{python}", "-m", "lab.peer.portal", router.lan, inside),
                ready=("tcp/80",),
            )

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
