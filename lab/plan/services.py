"""The built-in services of a lab: where they listen, and how programs learn of them."""

from __future__ import annotations

from dataclasses import dataclass

from lab import seeds
from lab.plan import coturn
from lab.plan.addressing import Addresses
from lab.plan.ipv4 import address_text
from lab.plan.ipv6 import Prefix6
from lab.plan.model import Daemon
from lab.plan.tree import Tree
from lab.topology.model import Ip, NodeSpec

STUN_PORT = 3478
"""RFC 8489, section 8; the port of the first address."""
STUN_OTHER_PORT = 3479
"""The port of the second address (RFC 5780 OTHER-ADDRESS)."""
RENDEZVOUS_PORT = 9000
RELAY_PORT = 3478
"""TURN shares the port of STUN (RFC 8656, section 3.1), where it has the node for itself."""
RELAY_PORT_BESIDE_STUN = 3480

RELAY_USER = "lab"

SERVICES = ("stun", "rendezvous", "relay", "web-relay")
"""The roles of the built-in program that others use; all are ready before any peer starts."""

WEB_PORTS = (80, 443)
"""Where the web relay listens: what firewalls that let out the web let out."""

_VARIABLES = {
    "stun": "LAB_STUN",
    "rendezvous": "LAB_RENDEZVOUS",
    "relay": "LAB_RELAY",
    "web-relay": "LAB_WEB_RELAY",
}


@dataclass(frozen=True, slots=True)
class Services:
    """Who offers which service, for the environment of every program."""

    tree: Tree
    addresses: Addresses
    seed: int
    offering: dict[str, tuple[NodeSpec, ...]]
    """Nodes by service, in order of declaration."""

    @classmethod
    def of(cls, tree: Tree, addresses: Addresses, seed: int) -> Services:
        """The services of the nodes of `tree`."""
        return cls(
            tree=tree,
            addresses=addresses,
            seed=seed,
            offering={
                service: tuple(node for node in tree.nodes if _offers(node, service))
                for service in SERVICES
            },
        )

    def environment(self, lab: str, node: NodeSpec, roles: tuple[str, ...]) -> dict[str, str]:
        """The contract's variables for `node` (docs/contract.md), but `LAB_DIR`.

        That one depends on the runtime, which adds it.
        """
        variables = {
            "LAB_NAME": lab,
            "LAB_NODE": node.name,
            "LAB_SEED": str(seeds.derive(self.seed, "node", node.name)),
            "LAB_ROLE": ",".join(roles),
            "LAB_ADDRESSES": ",".join((*self._addresses4(node), *self._addresses6(node))),
        }
        if node.ip is Ip.LINK_LOCAL:
            # What it will have is its own to find out, and no service is on its link.
            del variables["LAB_ADDRESSES"]
            return variables
        if not node.ip.v4 and (prefix := self.tree.nat64(node.via)):
            variables["LAB_NAT64"] = prefix
        for service, nodes in self.offering.items():
            if nodes:
                variables[_VARIABLES[service]] = self._endpoints(service, nodes, node)
        if "LAB_RELAY" in variables or "LAB_WEB_RELAY" in variables:
            variables |= self._tls(node)
            variables["LAB_RELAY_USER"] = RELAY_USER
            variables["LAB_RELAY_PASSWORD"] = self.password
        return variables

    @property
    def password(self) -> str:
        """Of whoever uses a relay."""
        return f"{seeds.derive(self.seed, 'relay', 'password'):016x}"

    def daemons(self, lab: str, node: NodeSpec) -> tuple[Daemon, ...]:
        """The real servers that `node` runs."""
        if coturn.SERVICE not in node.services:
            return ()
        return (
            coturn.daemon(
                lab=lab,
                node=node.name,
                addresses=(*self._addresses4(node), *self._addresses6(node)),
                port=dict(node.service_ports).get(coturn.SERVICE, 0),
                seed=self.seed,
                user=RELAY_USER,
                password=self.password,
            ),
        )

    def _tls(self, client: NodeSpec) -> dict[str, str]:
        """Where the relay speaks TLS, and by what it is known, if it does."""
        nodes = self.offering["relay"]
        server = self._nearest(nodes, client) if nodes else None
        if server is None or coturn.SERVICE not in server.services:
            return {}
        four = self._addresses4(server)[:1] if client.ip.v4 else ()
        six = self._addresses6(server)[:1] if client.ip.v6 else ()
        hosts = (*four, *(f"[{address}]" for address in six))
        if not hosts:
            return {}
        return {
            "LAB_RELAY_TLS": ",".join(f"{host}:{coturn.TLS_PORT}" for host in hosts),
            "LAB_RELAY_PIN": coturn.fingerprint(server.name, self.seed),
        }

    def _endpoints(self, service: str, nodes: tuple[NodeSpec, ...], client: NodeSpec) -> str:
        """In each family that both have, IPv4 first; all there are if they share none."""
        server = self._nearest(nodes, client)
        four, six = self._addresses4(server), self._addresses6(server)
        in_four = four if client.ip.v4 or self.tree.nat64(client.via) else ()
        in_six = six if client.ip.v6 else ()
        if in_four or in_six:
            four, six = in_four, in_six
        if service == "web-relay":
            written = dict(server.service_ports).get(service)
            ports = (written,) if written else WEB_PORTS
            names = (*four[:1], *(f"[{address}]" for address in six[:1]))
            return ",".join(f"{host}:{number}" for host in names for number in ports)
        port = _port(service, server)
        other = STUN_OTHER_PORT if port == STUN_PORT else port % 65535 + 1
        ports = (port, other) if service == "stun" else (port,)
        hosts = (four, tuple(f"[{address}]" for address in six))
        return ",".join(
            f"{host}:{number}"
            for family in hosts
            for host, number in zip(family, ports, strict=False)
        )

    def _addresses4(self, node: NodeSpec) -> tuple[str, ...]:
        uplink = self.addresses.uplinks.get(node.name)
        return tuple(map(address_text, uplink.addresses)) if uplink else ()

    def _addresses6(self, node: NodeSpec) -> tuple[str, ...]:
        uplink = self.addresses.six.uplinks.get(node.name)
        return tuple(map(Prefix6.text, uplink.addresses)) if uplink else ()

    def _nearest(self, nodes: tuple[NodeSpec, ...], client: NodeSpec) -> NodeSpec:
        """Itself, else the first in the nearest realm that `client` can open a flow to.

        If there is none (the service is behind somebody else's NAT), the
        first: that it cannot be reached is for the client to find out.
        """
        if client in nodes:
            return client
        if len(nodes) > 1:
            for realm in self.tree.outward(client.via):
                for node in nodes:
                    if self.tree.realms[node.via] == realm:
                        return node
        return nodes[0]


def _offers(node: NodeSpec, service: str) -> bool:
    return service in node.services or (service == "relay" and coturn.SERVICE in node.services)


def _port(service: str, server: NodeSpec) -> int:
    """Where `service` of `server` listens, at the first address if it has two."""
    written = dict(server.service_ports)
    if service in written:
        return written[service]
    if service == "rendezvous":
        return RENDEZVOUS_PORT
    if service == "relay" and coturn.SERVICE in server.services:
        return written.get(coturn.SERVICE, coturn.PORT)
    beside = service == "relay" and "stun" in server.services
    return RELAY_PORT_BESIDE_STUN if beside else STUN_PORT if service == "stun" else RELAY_PORT
