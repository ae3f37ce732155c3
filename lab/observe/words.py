"""What only a running lab needs words for: spans of time, endpoints, access links.

The words for a plan's data are in `lab.plan.words`.
"""

from __future__ import annotations

from lab.plan import words
from lab.plan.linklocal import CLAIMED, claims_address
from lab.plan.model import Interface, Node
from lab.topology.behaviour import Firewall, Nat
from lab.topology.character import Impairment


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
    """A measured span as long as a round trip, in three figures: "43.1 ms"; "" for None."""
    if seconds is None:
        return ""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def rate(bits_per_second: float | None) -> str:
    """A measured rate; "" for None."""
    if bits_per_second is None:
        return ""
    for factor, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits_per_second >= factor:
            return f"{bits_per_second / factor:.3g} {unit}"
    return f"{bits_per_second:.0f} bit/s"


def access(down: Impairment, up: Impairment, *, cut: bool = False) -> str:
    """An access link, down/up as it is sold: "16/1 Mbit/s, 12.5 ms"; "" for a plain wire."""
    parts = ["down"] if cut else []
    if down.rate_bit or up.rate_bit:
        rates = (words.rate(way.rate_bit) if way.rate_bit else "unlimited" for way in (down, up))
        parts.append(_both(*rates))
    if down.delay_us or up.delay_us:
        parts.append(_both(*(words.spread(way) or words.delay(0) for way in (down, up))))
    if down.lossy or up.lossy:
        parts.append(_both(*(words.losses(way) or words.loss(0) for way in (down, up))))
    return ", ".join(parts)


def nat(behaviour: Nat, *, brief: bool = False) -> str:
    """A NAT: its name or kind, then all of its behaviour unless `brief`."""
    name = f"{words.nat_kind(behaviour)} NAT"
    return name if brief else f"{name} ({words.nat(behaviour)})"


def firewall(behaviour: Firewall, *, brief: bool = False) -> str:
    """A firewall: its name, or that there is one; then what passes unless `brief`."""
    name = f"firewall {behaviour.preset}".rstrip()
    return name if brief else f"{name} ({words.firewall(behaviour)})"


def addresses(node: Node, *, brief: bool = False) -> str:
    """Where a node is reached; of a router, its outside and its inside.

    `brief` leaves it at the outside, and at the first address of each interface and
    family.
    """
    by_name = {interface.name: interface for interface in node.interfaces}
    outside, inside = by_name.get(node.wan), by_name.get(node.lan)
    if outside is not None and inside is not None:
        parts = [outside] if brief else [outside, inside]
        return "  ".join(filter(None, (_bare(part, brief=brief) for part in parts)))
    if claims_address(node):
        return CLAIMED
    return ", ".join(filter(None, (_bare(part, brief=brief) for part in node.interfaces)))


def _bare(interface: Interface, *, brief: bool) -> str:
    """The addresses of `interface` without their prefix lengths; if `brief`, one of a family."""
    wanted = interface.addresses
    if brief:
        first = {":" in address: address for address in reversed(wanted)}
        wanted = tuple(address for address in wanted if address in first.values())
    return ", ".join(address.partition("/")[0] for address in wanted)


def _both(down: str, up: str) -> str:
    """Down and up in one: "16/1 Mbit/s", or once if they are equal."""
    if down == up:
        return down
    number, _, unit = down.partition(" ")
    if unit and up.endswith(f" {unit}"):
        return f"{number}/{up}"
    return f"{down} / {up}"
