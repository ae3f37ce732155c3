"""Under which external endpoint an inside one is seen: mapping and ports (RFC 4787, section 4)."""

from __future__ import annotations

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import PortPolicy
from lab.verify import expect
from lab.verify.report import Dimension, Finding
from lab.verify.trial import Trial

_SUBSCRIBERS = 6
"""Subscribers whose blocks are looked at."""


def mapping(trial: Trial) -> tuple[Finding, bool]:
    """One source port on every host, towards all destinations, and the first one again.

    Also whether two mappings share a port.
    """
    trial.begin()
    port = trial.fresh()
    sends = [
        trial.probe.out(trial.protocol, Endpoint(host, port), to)
        for host in trial.probe.hosts
        for to in (*trial.destinations, trial.destinations[0])
    ]
    seen = trial.probe.external(trial.protocol, sends)
    count = len(trial.destinations) + 1
    declared = str(trial.nat.mapping)
    if None in seen:
        lost = seen.count(None)
        text = f"{lost} of {len(seen)} packets did not leave"
        return trial.finding(Dimension.MAPPING, declared, "packets lost", text), False
    names = []
    held: list[set[Endpoint]] = []
    for index in range(len(trial.probe.hosts)):
        external = [each for each in seen[index * count : (index + 1) * count] if each]
        found = dict(zip(trial.destinations, external[:-1], strict=True))
        name = expect.name_mapping(trial.nat.mapping, found)
        names.append(name if external[-1] == external[0] else "mixed")
        held.append(set(external))
    shared = len(held) > 1 and bool(held[0] & held[1])
    observed = names[0] if len(set(names)) == 1 else "mixed"
    addresses = {each.address for each in seen if each} - set(trial.site.pool)
    if addresses:
        observed = "not translated" if addresses <= set(trial.probe.hosts) else "wrong address"
    detail = ", ".join(f"{to} from {by}" for to, by in found.items())
    return trial.finding(Dimension.MAPPING, declared, observed, detail), shared


def ports(trial: Trial, *, shared: bool) -> Finding:
    """Many mappings of one host, and of several subscribers where each has a block."""
    ports = trial.nat.ports
    blocks = ports.policy is PortPolicy.BLOCK and bool(trial.site.node.subscribers)
    hosts = trial.site.node.subscribers[:_SUBSCRIBERS] if blocks else ()
    if not hosts:
        limited = trial.begin()
        hosts = (not limited and trial.site.node.subscribers[:1]) or trial.probe.hosts[:1]
    first, last = (
        (ports.first, ports.last) if ports.policy is PortPolicy.PRESERVE else (1024, 65535)
    )
    each = max(2, trial.many // len(hosts)) if len(hosts) > 1 else trial.many
    pairs: dict[str, list[tuple[int, int]]] = {}
    declared = expect.ports_words(ports)
    for host in hosts:
        # The same inside ports for all: whoever shares a pool collides.
        inside = trial.probe.ports(each, first, last)
        if trial.full_range and ports.policy is PortPolicy.PRESERVE:
            inside[-1:] = [trial.probe.port()]
        sends = [
            trial.probe.out(trial.protocol, Endpoint(host, port), trial.destinations[0])
            for port in inside
        ]
        seen = trial.probe.external(trial.protocol, sends)
        pairs[host] = [
            (port, each_.port) for port, each_ in zip(inside, seen, strict=True) if each_
        ]
        if len(pairs[host]) < len(inside):
            return trial.finding(Dimension.PORTS, declared, "packets lost", f"of {host}")
    own = pairs[hosts[0]]
    everything = [port for made in pairs.values() for _, port in made]
    shared |= len(set(everything)) < len(everything)
    observed = expect.name_ports(
        ports,
        own,
        shared=shared,
        blocks=lambda: all(_in_block(trial, host, made) for host, made in pairs.items()),
    )
    detail = ", ".join(f"{a} to {b}" for a, b in own[:4])
    return trial.finding(Dimension.PORTS, declared, observed, detail)


def _in_block(trial: Trial, host: str, made: list[tuple[int, int]]) -> bool:
    ports, subscribers = trial.nat.ports, trial.site.node.subscribers
    if not subscribers:
        return True  # Nobody is there to have one: who comes draws from the whole range.
    block = ports.block or (ports.last - ports.first + 1) // len(subscribers)
    low = ports.first + subscribers.index(host) * block
    return all(low <= port < low + block for _, port in made)
