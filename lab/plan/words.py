"""A plan's data in a few words, for people: rates, links, NATs, firewalls, programs."""

from __future__ import annotations

from collections.abc import Callable

from lab.plan.model import Link, Node, Program
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Nat,
    PortPolicy,
    Rule,
    Runtime,
    Verdict,
)
from lab.topology.character import Backend, Discipline, Impairment, Queue, QueueUnit
from lab.topology.rules import format_ports
from lab.topology.units import format_size

MAPPINGS = {
    Dependence.ENDPOINT_INDEPENDENT: "EIM",
    Dependence.ADDRESS_DEPENDENT: "ADM",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "APDM",
}
FILTERINGS = {
    Dependence.ENDPOINT_INDEPENDENT: "EIF",
    Dependence.ADDRESS_DEPENDENT: "ADF",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "APDF",
}
_PORTS = {
    PortPolicy.PRESERVE: "ports preserved",
    PortPolicy.RANDOM: "random ports",
    PortPolicy.SEQUENTIAL: "sequential ports",
    PortPolicy.BLOCK: "a port block each",
}
_BACKENDS = {Backend.KERNEL: "kernel", Backend.FERRY: "ferry"}


def plural(count: int, noun: str) -> str:
    """`1 link`, `2 links`, `2 switches`."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


def rate(bits_per_second: int) -> str:
    """`8 Mbit/s`."""
    for size, unit in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if bits_per_second >= size:
            return f"{_number(bits_per_second / size)} {unit}"
    return f"{bits_per_second} bit/s"


def delay(microseconds: int) -> str:
    """`12.5 ms`."""
    if microseconds < 1000:
        return f"{microseconds} µs"
    if microseconds < 1_000_000:
        return f"{_number(microseconds / 1000)} ms"
    return f"{_number(microseconds / 1_000_000)} s"


def spread(way: Impairment) -> str:
    """`20 ms`, with jitter `20 ms ± 5 ms`; empty without a delay."""
    if not way.jitter_us:
        return delay(way.delay_us) if way.delay_us else ""
    return f"{delay(way.delay_us)} ± {delay(way.jitter_us)}"


def losses(way: Impairment) -> str:
    """`1 % loss`, `3.2 % loss in bursts`, `3, 7 of 20 lost`; empty without any."""
    if way.pattern and not (way.loss or way.bursts):
        return f"{', '.join(map(str, way.pattern.lost))} of {way.pattern.of} lost"
    if not way.lossy:
        return ""
    return loss(way.loss_share) + (" in bursts" if way.bursts else "")


def _oddities(way: Impairment) -> str:
    """What else befalls packets: `1 % reordered, 0.1 % twice, codel`."""
    parts = [
        f"{_number(share * 100)} % {what}"
        for share, what in (
            (way.reorder, "reordered"),
            (way.duplicate, "twice"),
            (way.corrupt, "damaged"),
        )
        if share
    ]
    if way.trace:
        parts.insert(0, f"trace {way.trace.path.rpartition('/')[2]}")
    if way.discipline is not Discipline.DROP_TAIL:
        parts.append(str(way.discipline))
    return ", ".join(parts)


def _queue(way: Impairment) -> str:
    """`queue 50 packets`; empty where it is as long as it usually is, or there is none."""
    if not way.limited or way.queue == Queue():
        return ""
    match way.queue:
        case Queue(length=length, unit=QueueUnit.BYTES):
            return f"queue {format_size(int(length))}"
        case Queue(length=length, unit=QueueUnit.PACKETS):
            return f"queue {plural(int(length), 'packet')}"
        case Queue(length=length):
            return f"queue {_number(length)} bdp"


def loss(probability: float) -> str:
    """`0.1 % loss`."""
    return f"{_number(probability * 100)} % loss"


def link(link: Link, *, backend: bool = True) -> str:
    """The character of a link: `8 Mbit/s up, 50 Mbit/s down, 10 ms, ferry`.

    Up is from `a`, which is attached, to `b`.  Empty for a plain wire.
    """
    words = list(filter(None, (ways(link.a_to_b, link.b_to_a),)))
    if link.down:
        words.insert(0, "down")
    if link.mtu != 1500:
        words.append(f"MTU {link.mtu}")
    if backend and link.backend in _BACKENDS:
        words.append(_BACKENDS[link.backend])
    return ", ".join(words)


def ways(up: Impairment, down: Impairment) -> str:
    """The character of both directions: `8 Mbit/s up, 50 Mbit/s down, 10 ms`."""
    words = (
        *_both_ways(up, down, lambda way: rate(way.rate_bit) if way.rate_bit else ""),
        *_both_ways(up, down, spread),
        *_both_ways(up, down, losses),
        *_both_ways(up, down, _oddities),
        *_both_ways(up, down, _queue),
    )
    return ", ".join(words)


def nat(nat: Nat) -> str:
    """The kind of a NAT in the abbreviations of RFC 4787: `EIM, APDF, ports preserved`."""
    return ", ".join((MAPPINGS[nat.mapping], FILTERINGS[nat.filtering], _PORTS[nat.ports.policy]))


def nat_kind(nat: Nat) -> str:
    """The name that a NAT was written by, else its mapping and filtering."""
    return nat.preset or f"{MAPPINGS[nat.mapping]}/{FILTERINGS[nat.filtering]}"


def ipv6(node: Node) -> str:
    """What a router does to IPv6 by itself: translate it, or filter it as homes do."""
    parts = []
    if node.nptv6:
        parts.append("NPTv6")
    if node.nat64:
        parts.append(f"NAT64 {node.nat64.prefix}")
    if node.firewall6 and not node.firewall:
        parts.append("stateful IPv6")
    return ", ".join(parts)


def firewall(firewall: Firewall) -> str:
    """What a firewall lets through: `out only tcp/80, tcp/443; in nothing`."""
    directions = (("out", firewall.outbound), ("in", firewall.inbound))
    words = [f"{way} {text}" for way, direction in directions if (text := _direction(direction))]
    if firewall.proxy:
        tunnels = ", ".join(map(str, firewall.proxy.connect)) or "nothing"
        words.append(f"web by proxy (CONNECT {tunnels})")
    if firewall.resolver:
        words.append("names by resolver")
    if firewall.portal:
        words.append("portal first")
    return "; ".join(words) or "everything passes"


def program(program: Program) -> str:
    """`built-in peer (process)`, `image example/peer:1`, `./my-program --fast`."""
    if program.roles:
        where = "container" if program.runtime is Runtime.DOCKER else "process"
        return f"built-in {' + '.join(program.roles)} ({where})"
    return f"image {program.image}" if program.image else " ".join(program.command)


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _both_ways(
    up: Impairment, down: Impairment, word: Callable[[Impairment], str]
) -> tuple[str, ...]:
    there, back = word(up), word(down)
    if there == back:
        return (there,) if there else ()
    return tuple(f"{text} {way}" for text, way in ((there, "up"), (back, "down")) if text)


def _direction(direction: Direction) -> str:
    passes = direction.default is Verdict.ACCEPT
    if not direction.rules:
        return "" if passes else "nothing"
    usual = all((rule.verdict is Verdict.ACCEPT) != passes for rule in direction.rules)
    if usual:
        return f"{'all but' if passes else 'only'} {', '.join(map(_rule, direction.rules))}"
    exact = (f"{rule.verdict} {_rule(rule)}" for rule in direction.rules)
    return ", ".join((*exact, f"{direction.default} the rest"))


def _rule(rule: Rule) -> str:
    ports = "/" + ",".join(map(format_ports, rule.ports)) if rule.ports else ""
    return rule.protocol + ports + (f" to {rule.remote}" if rule.remote else "")
