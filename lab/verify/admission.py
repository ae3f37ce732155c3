"""Who comes in: by a mapping, from inside and around, and to a port that no mapping has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Dependence, Hairpin, Unsolicited
from lab.verify import expect
from lab.verify.packets import PORT_UNREACHABLE, PROHIBITED, RST, UNREACHABLE
from lab.verify.probe import INSIDE, Outcome
from lab.verify.report import Dimension, Finding
from lab.verify.trial import BLOCKED, Trial


def filtering(trial: Trial) -> Finding:
    """Who comes in by a mapping that has sent to one destination."""
    trial.begin()
    port = trial.fresh()
    asked = trial.destinations[0]
    inside = Endpoint(trial.probe.hosts[0], port)
    external = trial.open(inside, asked)
    effective = expect.effective_filtering(
        trial.nat.filtering, trial.firewall, trial.protocol, trial.site.remotes[1], port
    )
    declared = str(effective)
    if effective is not trial.nat.filtering:
        declared += " (firewall)"
    if external is None:
        return trial.finding(Dimension.FILTERING, declared, BLOCKED)
    callers = [
        caller
        for caller in _callers(asked, trial.site.remotes[1])
        if expect.verdict(trial.firewall.inbound, trial.protocol, port, caller.address)
        == expect.verdict(trial.firewall.inbound, trial.protocol, port, trial.site.remotes[1])
    ]
    came = _came(trial, asked, (inside, external), callers, effective)
    observed = expect.name_filtering(asked, came)
    if effective is not trial.nat.filtering and observed == str(effective):
        observed = declared
    detail = ", ".join(str(caller) for caller, passed in came.items() if passed)
    return trial.finding(Dimension.FILTERING, declared, observed, detail and f"in: {detail}")


def _came(
    trial: Trial,
    asked: Endpoint,
    mapped: tuple[Endpoint, Endpoint],
    callers: list[Endpoint],
    filtering: Dependence,
) -> Mapping[Endpoint, bool]:
    """Who of `callers` comes in by a mapping, of which `asked` alone was sent to."""
    inside, external = mapped
    sends = [trial.probe.back(trial.protocol, caller, external) for caller in callers]
    wanted = [i for i, caller in enumerate(callers) if expect.admits(filtering, asked, caller)]
    outcomes = trial.probe.exchange(sends, wanted)
    came = {}
    for caller, outcome in zip(callers, outcomes, strict=True):
        packet = outcome.on(INSIDE)
        came[caller] = packet is not None and packet.destination == inside
    return came


def hairpin(trial: Trial) -> Iterator[Finding]:
    """Two inside hosts meet by their external endpoints."""
    trial.begin()
    nat = trial.nat
    independent = nat.mapping is Dependence.ENDPOINT_INDEPENDENT
    open_to_all = nat.filtering is Dependence.ENDPOINT_INDEPENDENT
    if nat.hairpin is not Hairpin.OFF and not (independent or open_to_all):
        return  # The port that would be let in is not the one that anybody has seen.
    one, other = (Endpoint(host, trial.fresh()) for host in trial.probe.hosts)
    at_one, at_other = (trial.open(each, trial.destinations[0]) for each in (one, other))
    declared = str(nat.hairpin)
    if at_one is None or at_other is None:
        yield trial.finding(Dimension.HAIRPIN, declared, BLOCKED)
        return
    # To the router itself, which may be many hops in one: a NAT64 is passed twice.
    there = [
        trial.probe.out(trial.protocol, source, to, ttl=64)
        for source, to in ((one, at_other), (other, at_one), (one, at_other))
    ]
    # Each opens the way for the other, where it has to be opened.
    wanted = [2] if nat.hairpin is not Hairpin.OFF else []
    if wanted and open_to_all:
        wanted = [0, 2]
    came = [outcome.on(INSIDE) for outcome in trial.probe.exchange(there, wanted)]
    packet = came[2] or came[0]
    observed = str(Hairpin.OFF)
    if packet is not None and packet.destination == other:
        internal = packet.source == one
        external = packet.source.address in trial.site.pool
        observed = str(
            Hairpin.INTERNAL_SOURCE
            if internal
            else Hairpin.EXTERNAL_SOURCE
            if external
            else f"from {packet.source}"
        )
    yield trial.finding(Dimension.HAIRPIN, declared, observed)


def unsolicited(trial: Trial) -> Finding:
    """What becomes of a packet to a port that no mapping has."""
    caller = Endpoint(trial.site.remotes[0], trial.probe.port())
    targets = [Endpoint(trial.site.outer, trial.probe.port()) for _ in range(2)]
    outcomes = trial.probe.exchange(
        [trial.probe.back(trial.protocol, caller, target) for target in targets]
    )
    names = [_fate(outcome, trial.nat.unsolicited) for outcome in outcomes]
    # A mapping of somebody's may have the one or the other port.
    observed = max(names, key=names.count)
    return trial.finding(
        Dimension.UNSOLICITED, unsolicited_words(trial.nat.unsolicited, trial.protocol), observed
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
