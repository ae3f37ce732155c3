"""What every test of a NAT begins with: hosts and ports, and where packets may go."""

from __future__ import annotations

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Direction, Firewall, Nat, PortPolicy, Verdict
from lab.verify import expect
from lab.verify.probe import Probe
from lab.verify.report import Dimension, Finding

BLOCKED = "blocked"
"""What is observed where nothing passes."""
_MANY = 16
"""Mappings from which a port policy is told."""


class Trial:
    """The NAT of one router, and one protocol."""

    def __init__(self, probe: Probe, nat: Nat, protocol: str) -> None:
        self.probe = probe
        self.nat = nat
        self.protocol = protocol
        self.site = probe.site
        self.firewall = probe.site.node.firewall or Firewall()
        self.outbound = expect.outbound_of(probe.site.node)
        found = _destinations(self.outbound, protocol, probe.site.remotes)
        self.destinations = found[: nat.sessions or None]
        """Where the firewall lets packets go: three addresses with two ports each, if it can be."""
        ports = nat.ports
        span = ports.last - ports.first + 1
        self.many = max(2, min(_MANY, span // 32, nat.sessions or _MANY))

    @property
    def full_range(self) -> bool:
        """Whether the NAT may use any port that is not privileged."""
        return (self.nat.ports.first, self.nat.ports.last) == (1024, 65535)

    def begin(self) -> bool:
        """Before a test: other hosts, where each may have a few flows only; whether it is so."""
        return bool(self.nat.sessions) and self.probe.change_hosts()

    def fresh(self) -> int:
        """An inside port for the next test: one that the NAT can keep, if it keeps ports."""
        ports = self.nat.ports
        if ports.policy is PortPolicy.PRESERVE:
            return self.probe.port(ports.first, ports.last)
        return self.probe.port()

    def open(self, inside: Endpoint, to: Endpoint) -> Endpoint | None:
        """Make a mapping; its external endpoint."""
        return self.probe.external(self.protocol, [self.probe.out(self.protocol, inside, to)])[0]

    def finding(
        self, dimension: Dimension, declared: str, observed: str, detail: str = ""
    ) -> Finding:
        """A line of the report about this NAT and protocol."""
        ok = declared == observed
        return Finding(
            node=self.site.node.name,
            dimension=dimension,
            protocol=self.protocol,
            declared=declared,
            observed=observed,
            ok=ok,
            detail="" if ok else detail,
        )


def _destinations(
    outbound: Direction, protocol: str, remotes: tuple[str, ...]
) -> tuple[Endpoint, ...]:
    """Up to three addresses with up to two ports each, all of which the firewall lets out to."""
    ports = expect.telling_ports(outbound, protocol, (3478, 3479))
    allowed = {
        address: [
            port
            for port in ports
            if expect.verdict(outbound, protocol, port, address) is Verdict.ACCEPT
        ]
        for address in remotes
    }
    open_to = [address for address, found in allowed.items() if found][:3]
    return tuple(Endpoint(address, port) for address in open_to for port in allowed[address][:2])
