"""What a NAT does, measured from both sides of its router, one dimension after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Nat,
    PortPolicy,
    Unsolicited,
    Verdict,
)
from lab.verify import expect
from lab.verify.packets import PORT_UNREACHABLE, PROHIBITED, RST, UNREACHABLE
from lab.verify.probe import INSIDE, OUTSIDE, Outcome, Probe
from lab.verify.report import Dimension, Finding

_BLOCKED = "blocked"
_MANY = 16
"""Mappings from which a port policy is told."""
_SUBSCRIBERS = 6
"""Subscribers whose blocks are looked at."""


class NatProbe:
    """The dimensions of one router's NAT for one protocol."""

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

    def findings(self) -> Iterator[Finding]:
        """Everything that takes no time of its own."""
        if not self.destinations:
            yield self._blocked()
            yield self.unsolicited()
            return
        mapping, shared = self.mapping()
        yield mapping
        filtering = self.filtering()
        yield filtering
        yield self.ports(shared=shared)
        if len(self.probe.hosts) > 1:
            yield from self.hairpin()
        yield self.unsolicited()
        if self.protocol == "udp":
            yield self._class(mapping, filtering)

    # --- mapping --------------------------------------------------------------

    def mapping(self) -> tuple[Finding, bool]:
        """One source port on every host, towards all destinations, and the first one again.

        Also whether two mappings share a port.
        """
        self.begin()
        port = self.fresh()
        sends = [
            self.probe.out(self.protocol, Endpoint(host, port), to)
            for host in self.probe.hosts
            for to in (*self.destinations, self.destinations[0])
        ]
        seen = self.probe.external(self.protocol, sends)
        count = len(self.destinations) + 1
        declared = str(self.nat.mapping)
        if None in seen:
            lost = seen.count(None)
            text = f"{lost} of {len(seen)} packets did not leave"
            return self.finding(Dimension.MAPPING, declared, "packets lost", text), False
        names = []
        held: list[set[Endpoint]] = []
        for index in range(len(self.probe.hosts)):
            external = [each for each in seen[index * count : (index + 1) * count] if each]
            found = dict(zip(self.destinations, external[:-1], strict=True))
            name = expect.name_mapping(self.nat.mapping, found)
            names.append(name if external[-1] == external[0] else "mixed")
            held.append(set(external))
        shared = len(held) > 1 and bool(held[0] & held[1])
        observed = names[0] if len(set(names)) == 1 else "mixed"
        addresses = {each.address for each in seen if each} - set(self.site.pool)
        if addresses:
            observed = "not translated" if addresses <= set(self.probe.hosts) else "wrong address"
        detail = ", ".join(f"{to} from {by}" for to, by in found.items())
        return self.finding(Dimension.MAPPING, declared, observed, detail), shared

    # --- filtering ------------------------------------------------------------

    def filtering(self) -> Finding:
        """Who comes in by a mapping that has sent to one destination."""
        self.begin()
        port = self.fresh()
        asked = self.destinations[0]
        inside = Endpoint(self.probe.hosts[0], port)
        external = self.open(inside, asked)
        effective = expect.effective_filtering(
            self.nat.filtering, self.firewall, self.protocol, self.site.remotes[1], port
        )
        declared = str(effective)
        if effective is not self.nat.filtering:
            declared += " (firewall)"
        if external is None:
            return self.finding(Dimension.FILTERING, declared, _BLOCKED)
        callers = [
            caller
            for caller in _callers(asked, self.site.remotes[1])
            if expect.verdict(self.firewall.inbound, self.protocol, port, caller.address)
            == expect.verdict(self.firewall.inbound, self.protocol, port, self.site.remotes[1])
        ]
        came = self._callers(inside, external, callers, effective, asked)
        observed = expect.name_filtering(asked, came)
        if effective is not self.nat.filtering and observed == str(effective):
            observed = declared
        detail = ", ".join(str(caller) for caller, passed in came.items() if passed)
        return self.finding(Dimension.FILTERING, declared, observed, detail and f"in: {detail}")

    def _callers(
        self,
        inside: Endpoint,
        external: Endpoint,
        callers: list[Endpoint],
        filtering: Dependence,
        asked: Endpoint,
    ) -> Mapping[Endpoint, bool]:
        sends = [self.probe.back(self.protocol, caller, external) for caller in callers]
        wanted = [i for i, caller in enumerate(callers) if expect.admits(filtering, asked, caller)]
        outcomes = self.probe.exchange(sends, wanted)
        came = {}
        for caller, outcome in zip(callers, outcomes, strict=True):
            packet = outcome.on(INSIDE)
            came[caller] = packet is not None and packet.destination == inside
        return came

    # --- ports ----------------------------------------------------------------

    def ports(self, *, shared: bool) -> Finding:
        """Many mappings of one host, and of several subscribers where each has a block."""
        ports = self.nat.ports
        blocks = ports.policy is PortPolicy.BLOCK and bool(self.site.node.subscribers)
        hosts = self.site.node.subscribers[:_SUBSCRIBERS] if blocks else ()
        if not hosts:
            limited = self.begin()
            hosts = (not limited and self.site.node.subscribers[:1]) or self.probe.hosts[:1]
        first, last = (
            (ports.first, ports.last) if ports.policy is PortPolicy.PRESERVE else (1024, 65535)
        )
        each = max(2, self.many // len(hosts)) if len(hosts) > 1 else self.many
        pairs: dict[str, list[tuple[int, int]]] = {}
        declared = expect.ports_words(ports)
        for host in hosts:
            # The same inside ports for all: whoever shares a pool collides.
            inside = self.probe.ports(each, first, last)
            if self.full_range and ports.policy is PortPolicy.PRESERVE:
                inside[-1:] = [self.probe.port()]
            sends = [
                self.probe.out(self.protocol, Endpoint(host, port), self.destinations[0])
                for port in inside
            ]
            seen = self.probe.external(self.protocol, sends)
            pairs[host] = [
                (port, each_.port) for port, each_ in zip(inside, seen, strict=True) if each_
            ]
            if len(pairs[host]) < len(inside):
                return self.finding(Dimension.PORTS, declared, "packets lost", f"of {host}")
        own = pairs[hosts[0]]
        everything = [port for made in pairs.values() for _, port in made]
        shared |= len(set(everything)) < len(everything)
        observed = expect.name_ports(
            ports,
            own,
            shared=shared,
            blocks=lambda: all(self._in_block(host, made) for host, made in pairs.items()),
        )
        detail = ", ".join(f"{a} to {b}" for a, b in own[:4])
        return self.finding(Dimension.PORTS, declared, observed, detail)

    @property
    def full_range(self) -> bool:
        """Whether the NAT may use any port that is not privileged."""
        return (self.nat.ports.first, self.nat.ports.last) == (1024, 65535)

    def _in_block(self, host: str, made: list[tuple[int, int]]) -> bool:
        ports, subscribers = self.nat.ports, self.site.node.subscribers
        if not subscribers:
            return True  # Nobody is there to have one: who comes draws from the whole range.
        block = ports.block or (ports.last - ports.first + 1) // len(subscribers)
        low = ports.first + subscribers.index(host) * block
        return all(low <= port < low + block for _, port in made)

    # --- hairpin --------------------------------------------------------------

    def hairpin(self) -> Iterator[Finding]:
        """Two inside hosts meet by their external endpoints."""
        self.begin()
        nat = self.nat
        independent = nat.mapping is Dependence.ENDPOINT_INDEPENDENT
        open_to_all = nat.filtering is Dependence.ENDPOINT_INDEPENDENT
        if nat.hairpin is not Hairpin.OFF and not (independent or open_to_all):
            return  # The port that would be let in is not the one that anybody has seen.
        one, other = (Endpoint(host, self.fresh()) for host in self.probe.hosts)
        at_one, at_other = (self.open(each, self.destinations[0]) for each in (one, other))
        declared = str(nat.hairpin)
        if at_one is None or at_other is None:
            yield self.finding(Dimension.HAIRPIN, declared, _BLOCKED)
            return
        # To the router itself, which may be many hops in one: a NAT64 is passed twice.
        there = [
            self.probe.out(self.protocol, source, to, ttl=64)
            for source, to in ((one, at_other), (other, at_one), (one, at_other))
        ]
        # Each opens the way for the other, where it has to be opened.
        wanted = [2] if nat.hairpin is not Hairpin.OFF else []
        if wanted and open_to_all:
            wanted = [0, 2]
        came = [outcome.on(INSIDE) for outcome in self.probe.exchange(there, wanted)]
        packet = came[2] or came[0]
        observed = str(Hairpin.OFF)
        if packet is not None and packet.destination == other:
            internal = packet.source == one
            external = packet.source.address in self.site.pool
            observed = str(
                Hairpin.INTERNAL_SOURCE
                if internal
                else Hairpin.EXTERNAL_SOURCE
                if external
                else f"from {packet.source}"
            )
        yield self.finding(Dimension.HAIRPIN, declared, observed)

    # --- unsolicited ----------------------------------------------------------

    def unsolicited(self) -> Finding:
        """What becomes of a packet to a port that no mapping has."""
        caller = Endpoint(self.site.remotes[0], self.probe.port())
        targets = [Endpoint(self.site.outer, self.probe.port()) for _ in range(2)]
        outcomes = self.probe.exchange(
            [self.probe.back(self.protocol, caller, target) for target in targets]
        )
        names = [_fate(outcome, self.nat.unsolicited) for outcome in outcomes]
        # A mapping of somebody's may have the one or the other port.
        observed = max(names, key=names.count)
        return self.finding(
            Dimension.UNSOLICITED, unsolicited_words(self.nat.unsolicited, self.protocol), observed
        )

    # --- helpers --------------------------------------------------------------

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

    def _blocked(self) -> Finding:
        """The firewall lets nothing of this protocol out: so it must be."""
        to = Endpoint(self.site.remotes[0], self.probe.port())
        source = Endpoint(self.probe.hosts[0], self.probe.port())
        (outcome,) = self.probe.exchange([self.probe.out(self.protocol, source, to)])
        observed = "passes" if outcome.on(OUTSIDE) else _BLOCKED
        return self.finding(Dimension.MAPPING, _BLOCKED, observed)

    def _class(self, mapping: Finding, filtering: Finding) -> Finding:
        declared = expect.kind(mapping.declared, filtering.declared.removesuffix(" (firewall)"))
        observed = expect.kind(mapping.observed, filtering.observed.removesuffix(" (firewall)"))
        return self.finding(Dimension.CLASS, str(declared), str(observed))

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


def unsolicited_words(unsolicited: Unsolicited, protocol: str) -> str:
    """What `unsolicited` means for one protocol."""
    if unsolicited is Unsolicited.RST and protocol != "tcp":
        return str(Unsolicited.DROP)
    return str(unsolicited)


def _fate(outcome: Outcome, declared: Unsolicited) -> str:
    if outcome.on(INSIDE):
        return "passes"
    for answer in outcome.answers:
        packet = answer.packet
        if packet.protocol == "tcp" and packet.flags & RST:
            # A reset is what the router's own closed port sends, too.
            accepted = declared is Unsolicited.ACCEPT
            return str(Unsolicited.ACCEPT if accepted else Unsolicited.RST)
        if packet.icmp == (UNREACHABLE, PORT_UNREACHABLE):
            return str(Unsolicited.ACCEPT)
        if packet.icmp == (UNREACHABLE, PROHIBITED):
            return str(Unsolicited.REJECT)
        return f"ICMP {packet.icmp[0]}/{packet.icmp[1]}" if packet.icmp[0] >= 0 else "answered"
    return str(Unsolicited.DROP)


def _callers(asked: Endpoint, stranger: str) -> tuple[Endpoint, ...]:
    """Who may try to come in: the one asked, the same address, the same port, a stranger."""
    other = asked.port + 1 if asked.port < 65535 else asked.port - 1
    return (
        asked,
        Endpoint(asked.address, other),
        Endpoint(stranger, asked.port),
        Endpoint(stranger, other),
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
