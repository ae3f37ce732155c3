"""What the firewall of a router lets through, each way: every edge of every rule is tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Dependence, Direction, Firewall, Verdict
from lab.verify import expect
from lab.verify.packets import RST, UNREACHABLE
from lab.verify.probe import INSIDE, OUTSIDE, Outcome, Probe, Sent
from lab.verify.report import Dimension, Finding

_SPARE = (443, 8443)
"""Ports to try beside those that rules name."""
_MOST = 48
"""Openings that are tried in one direction for one protocol."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A first packet of a flow, and what is to become of it."""

    protocol: str
    port: int
    """Its destination's."""
    remote: str
    expected: Verdict

    def __str__(self) -> str:
        port = f"/{self.port}" if self.protocol != "icmp" else ""
        return f"{self.protocol}{port} {self.remote}"


def openings(direction: Direction, protocol: str, remotes: Sequence[str]) -> tuple[Opening, ...]:
    """What tells whether `direction` is what it says, for one protocol."""
    ports = (0,) if protocol == "icmp" else expect.telling_ports(direction, protocol, _SPARE)
    # A stranger, and everybody whom a rule of this direction speaks of.
    tried = [
        remotes[0],
        *(
            address
            for address in remotes[1:]
            if any(expect.speaks_of(rule, address) for rule in direction.rules)
        ),
    ]
    found = [
        Opening(protocol, port, remote, expect.verdict(direction, protocol, port, remote))
        for remote in tried
        for port in ports
    ]
    return tuple(found[:_MOST])


def findings(probe: Probe, firewall: Firewall) -> Iterator[Finding]:
    """Both directions, for UDP, TCP and pings."""
    outbound = expect.outbound_of(probe.site.node)
    for protocol in ("udp", "tcp", "icmp"):
        name, remotes = probe.site.node.name, probe.site.remotes
        tried = openings(outbound, protocol, remotes)
        way = (Dimension.OUTBOUND, outbound)
        yield finding(name, way, protocol, tried, _outward(probe, tried))
        if protocol == "icmp" and probe.site.node.nat is not None:
            continue  # Nobody pings through a NAT from outside.
        tried = openings(firewall.inbound, protocol, remotes)
        verdicts = _inward(probe, outbound, tried)
        if verdicts is not None:
            way = (Dimension.INBOUND, firewall.inbound)
            yield finding(name, way, protocol, tried, verdicts)


def _outward(probe: Probe, tried: Sequence[Opening]) -> list[Verdict]:
    sends = []
    for each in tried:
        if probe.site.node.nat is not None and probe.site.node.nat.sessions:
            probe.change_hosts()
        source = Endpoint(probe.hosts[0], probe.port())
        sends.append(probe.out(each.protocol, source, Endpoint(each.remote, each.port)))
    return _verdicts(probe, sends, tried, OUTSIDE)


def _inward(probe: Probe, outbound: Direction, tried: Sequence[Opening]) -> list[Verdict] | None:
    """None where nothing from outside gets as far as the firewall."""
    nat, host = probe.site.node.nat, probe.hosts[0]
    if nat is None:
        inside = [Endpoint(probe.site.outside_of(host), each.port) for each in tried]
    elif nat.filtering is not Dependence.ENDPOINT_INDEPENDENT or nat.ports.policy == "sequential":
        return None
    else:
        protocol = tried[0].protocol
        way_out = next(
            (
                Endpoint(each.remote, each.port)
                for each in openings(outbound, protocol, probe.site.remotes)
                if each.expected is Verdict.ACCEPT
            ),
            None,
        )
        if way_out is None:
            return None
        ports = list(dict.fromkeys(each.port for each in tried))
        external = dict(
            zip(
                ports,
                probe.external(
                    protocol,
                    [probe.out(protocol, Endpoint(host, port), way_out) for port in ports],
                ),
                strict=True,
            )
        )
        found = [external[each.port] for each in tried]
        if None in found:
            return None
        inside = [each for each in found if each]
    sends = [
        probe.back(each.protocol, Endpoint(each.remote, probe.port()), to)
        for each, to in zip(tried, inside, strict=True)
    ]
    return _verdicts(probe, sends, tried, INSIDE)


def _verdicts(
    probe: Probe, sends: Sequence[Sent], tried: Sequence[Opening], far: str
) -> list[Verdict]:
    wanted = [i for i, each in enumerate(tried) if each.expected is Verdict.ACCEPT]
    return [verdict(outcome, far) for outcome in probe.exchange(sends, wanted)]


def verdict(outcome: Outcome, far: str) -> Verdict:
    """What became of a packet that was to come out on the `far` side."""
    if outcome.on(far):
        return Verdict.ACCEPT
    refused = any(
        seen.side != far and (seen.packet.flags & RST or seen.packet.icmp[0] == UNREACHABLE)
        for seen in outcome.answers
    )
    return Verdict.REJECT if refused else Verdict.DROP


def finding(
    node: str,
    way: tuple[Dimension, Direction],
    protocol: str,
    tried: Sequence[Opening],
    verdicts: Sequence[Verdict],
) -> Finding:
    """One direction of one firewall for one protocol, in words."""
    dimension, direction = way
    wrong = [
        f"{each}: {got}, not {each.expected}"
        for each, got in zip(tried, verdicts, strict=True)
        if got is not each.expected
    ]
    return Finding(
        node=node,
        dimension=dimension,
        protocol=protocol,
        declared=_words(protocol, [(each, each.expected) for each in tried], direction),
        observed=_words(protocol, list(zip(tried, verdicts, strict=True)), direction),
        ok=not wrong,
        detail="; ".join(wrong[:3]) + ("; …" if len(wrong) > 3 else ""),
    )


def _words(protocol: str, fates: Sequence[tuple[Opening, Verdict]], direction: Direction) -> str:
    """What passes, among what was tried: everything, nothing, or some ports."""
    given = {fate for _, fate in fates}
    if given == {Verdict.ACCEPT}:
        return "everything"
    if Verdict.ACCEPT not in given:
        return "nothing" + (", refused" if given == {Verdict.REJECT} else "")
    named = {port for rule in direction.rules for span in rule.ports for port in span}
    passing = [each for each, fate in fates if fate is Verdict.ACCEPT]
    stopped = [each for each, fate in fates if fate is not Verdict.ACCEPT]
    few, word = (passing, "only") if len(passing) <= len(stopped) else (stopped, "all but")
    shown = [each for each in few if each.port in named or not named] or few
    ports = dict.fromkeys(str(each.port) if protocol != "icmp" else each.remote for each in shown)
    return f"{word} {', '.join(list(ports)[:6])}"
