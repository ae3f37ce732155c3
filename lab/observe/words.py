"""Quantities and behaviours in few words, for tables that people read."""

from __future__ import annotations

from lab.plan.model import Interface, Node
from lab.topology.behaviour import Dependence, Firewall, Impairment, Nat, PortPolicy

_MAPPING = {
    Dependence.ENDPOINT_INDEPENDENT: "EIM",
    Dependence.ADDRESS_DEPENDENT: "ADM",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "APDM",
}
_FILTERING = {
    Dependence.ENDPOINT_INDEPENDENT: "EIF",
    Dependence.ADDRESS_DEPENDENT: "ADF",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "APDF",
}
_PORTS = {
    PortPolicy.RANDOM: "random ports",
    PortPolicy.SEQUENTIAL: "ports in sequence",
    PortPolicy.BLOCK: "port blocks",
}


def duration(seconds: float) -> str:
    """A span as long as a lab lives: "42s", "3m 7s", "2h 5m", "3d 4h"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def latency(seconds: float | None) -> str:
    """A span as long as a round trip, with three figures: "0.213 ms", "43.1 ms", "1.2 s"."""
    if seconds is None:
        return ""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def rate(bit: int) -> str:
    """Bits per second: "512 kbit/s", "16 Mbit/s"; "" for unlimited."""
    for unit, name in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if bit >= unit:
            return f"{bit / unit:.3g} {name}"
    return f"{bit} bit/s" if bit else ""


def link(down: Impairment, up: Impairment) -> str:
    """An access link: rates down/up, one-way delay, loss; "" for a plain wire."""
    parts = []
    if down.rate_bit or up.rate_bit:
        rates = (rate(down.rate_bit) or "unlimited", rate(up.rate_bit) or "unlimited")
        parts.append(_both(*rates))
    if down.delay_us or up.delay_us:
        parts.append(_both(latency(down.delay_us / 1e6), latency(up.delay_us / 1e6)))
    if down.loss or up.loss:
        parts.append(_both(f"{down.loss * 100:.3g} % loss", f"{up.loss * 100:.3g} % loss"))
    return ", ".join(parts)


def nat(behaviour: Nat, *, brief: bool = False) -> str:
    """A NAT: the name it was written by, then mapping, filtering and ports (RFC 4787).

    Preserved ports go without saying.  `brief` leaves it at the name.
    """
    if brief and behaviour.preset:
        return f"{behaviour.preset} NAT"
    kind = f"{_MAPPING[behaviour.mapping]} {_FILTERING[behaviour.filtering]}"
    if behaviour.ports.policy is not PortPolicy.PRESERVE:
        kind += f", {_PORTS[behaviour.ports.policy]}"
    return f"{behaviour.preset} NAT ({kind})" if behaviour.preset else f"NAT ({kind})"


def firewall(behaviour: Firewall) -> str:
    """A firewall: the name it was written by, or that there is one."""
    return f"firewall {behaviour.preset}".rstrip()


def addresses(node: Node, *, brief: bool = False) -> str:
    """Where a node is reached; of a router, its outside and its inside.

    `brief` leaves it at the outside, and at the first address of each interface.
    """
    by_name = {interface.name: interface for interface in node.interfaces}
    outside, inside = by_name.get(node.wan), by_name.get(node.lan)
    if outside is not None and inside is not None:
        parts = [outside] if brief else [outside, inside]
        return "  ".join(filter(None, (_bare(part, brief=brief) for part in parts)))
    return ", ".join(filter(None, (_bare(part, brief=brief) for part in node.interfaces)))


def _bare(interface: Interface, *, brief: bool) -> str:
    """The addresses of `interface` without their prefix lengths."""
    wanted = interface.addresses[:1] if brief else interface.addresses
    return ", ".join(address.partition("/")[0] for address in wanted)


def _both(down: str, up: str) -> str:
    """Down and up in one: "16/1 Mbit/s", or once if they are equal."""
    if down == up:
        return down
    number, _, unit = down.partition(" ")
    if unit and up.endswith(f" {unit}"):
        return f"{number}/{up}"
    return f"{down} / {up}"
