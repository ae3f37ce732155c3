"""NATs and firewalls as `lab nat show` and `lab firewall show` tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from lab.fabric.rules.standing import Mapping
from lab.observe.tables import table
from lab.observe.words import duration
from lab.plan import words
from lab.plan.model import Node
from lab.topology.behaviour import Direction, Nat, PortPolicy, Ports
from lab.topology.rules import format_rule


def outside(node: Node) -> str:
    """The address that a router's NAT shows to the outside."""
    for interface in node.interfaces:
        if interface.name == node.wan and interface.addresses:
            return interface.addresses[0].partition("/")[0]
    return ""


def nats(nodes: Sequence[Node], held: dict[str, int]) -> Iterator[str]:
    """A line for each router with a NAT; `held` says how many mappings it has."""
    rows = [
        (
            node.name,
            outside(node),
            words.nat_kind(node.nat),
            words.nat(node.nat),
            str(held.get(node.name, "")),
        )
        for node in nodes
        if node.nat is not None
    ]
    yield from table(("router", "outside", "NAT", "behaviour", "mappings"), rows)


def nat(node: Node, held: Sequence[Mapping]) -> Iterator[str]:
    """A router's NAT: every choice, and the mappings that it holds."""
    if node.nat is None:
        return
    yield f"{node.name}: NAT {words.nat_kind(node.nat)}, outside {outside(node)}"
    yield from _lines(_nat_choices(node.nat))
    yield ""
    if not held:
        yield "no mappings"
        return
    rows = [
        (
            each.protocol,
            _inside(node, each),
            f"{outside(node)}:{each.external_port}",
            each.towards,
            duration(each.idle_s),
            duration(each.expires_s),
        )
        for each in held
    ]
    yield from table(("protocol", "inside", "outside", "towards", "idle", "ends in"), rows)


def _inside(node: Node, mapping: Mapping) -> str:
    """The inside endpoint; behind a NAT64 that of the host, not of what stands for it."""
    address, _, port = mapping.inside.rpartition(":")
    hosts = {four: six for six, four in node.nat64.hosts} if node.nat64 else {}
    return f"[{hosts[address]}]:{port}" if address in hosts else mapping.inside


def nat_json(node: Node, held: Sequence[Mapping]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "router": node.name,
        "outside": outside(node),
        "nat": complete(node.nat),
        "mappings": [
            {
                "protocol": each.protocol,
                "inside": _inside(node, each),
                "outside": f"{outside(node)}:{each.external_port}",
                "towards": each.towards or None,
                "timeout_s": each.timeout_s,
                "idle_s": each.idle_s,
                "expires_s": each.expires_s,
            }
            for each in held
        ],
    }


def firewalls(nodes: Sequence[Node]) -> Iterator[str]:
    """A line for each node with a firewall."""
    rows = [
        (node.name, str(node.kind), f"{wanted.preset}{which}", words.firewall(wanted))
        for node in nodes
        for wanted, which in ((node.firewall or node.firewall6, _which(node)),)
        if wanted is not None
    ]
    yield from table(("node", "kind", "firewall", "what passes"), rows)


def firewall(node: Node) -> Iterator[str]:
    """A node's firewall, rule by rule."""
    behaviour = node.firewall or node.firewall6
    if behaviour is None:
        return
    yield f"{node.name}: firewall {behaviour.preset}{_which(node)}".rstrip()
    yield "  outbound"
    yield from (f"    {line}" for line in _rules(behaviour.outbound, "to"))
    yield "  inbound"
    yield from (f"    {line}" for line in _rules(behaviour.inbound, "from"))
    yield from _choices(behaviour, besides=("outbound", "inbound"))


def _which(node: Node) -> str:
    """Whether its firewall is for IPv6 alone, as a home's is that says nothing of firewalls."""
    return " (IPv6)" if node.firewall is None else ""


def complete(data: Any) -> Any:
    """`data` as JSON-ready data with every field, those that have their defaults too."""
    if isinstance(data, msgspec.Struct):
        return {name: complete(getattr(data, name)) for name in data.__struct_fields__}
    if isinstance(data, tuple | list):
        return [complete(each) for each in data]
    return msgspec.to_builtins(data)


def _rules(direction: Direction, preposition: Literal["to", "from"]) -> Iterator[str]:
    yield from (format_rule(rule, preposition) for rule in direction.rules)
    yield f"{direction.default} {'the rest' if direction.rules else 'everything'}"


def _choices(behaviour: msgspec.Struct, besides: Sequence[str] = ()) -> Iterator[str]:
    """A line for each parameter, in the words of the file."""
    yield from _lines(
        [
            (name.replace("_", "-"), _value(complete(getattr(behaviour, name))))
            for name in behaviour.__struct_fields__
            if name not in ("preset", *besides)
        ]
    )


def _nat_choices(nat: Nat) -> list[tuple[str, str]]:
    """Every parameter of a NAT that means something where it is."""
    rows = [
        ("mapping", str(nat.mapping)),
        ("filtering", str(nat.filtering)),
        ("ports", _ports(nat.ports)),
        ("hairpin", str(nat.hairpin)),
        ("unsolicited", str(nat.unsolicited)),
        ("lifetimes", _value(complete(nat.lifetimes))),
    ]
    if nat.pool > 1:
        rows.append(("pool", f"{nat.pool} addresses, {nat.pooling}"))
    return [*rows, ("sessions", f"{nat.sessions} for each host" if nat.sessions else "no limit")]


def _ports(ports: Ports) -> str:
    text = str(ports.policy)
    if ports.policy is PortPolicy.SEQUENTIAL and ports.stride != 1:
        text += f" by {ports.stride}"
    if ports.policy is PortPolicy.BLOCK:
        text += f" of {ports.block}" if ports.block else " of an equal share"
    text += f" in {ports.first}-{ports.last}"
    if ports.parity:
        text += ", parity kept"
    return f"{text}, shared towards different destinations" if ports.overload else text


def _lines(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"  {name:<{width}}  {value}" for name, value in rows)


def _value(value: Any) -> str:
    match value:
        case dict():
            parts = (
                f"{name.removesuffix('_s').replace('_', ' ')} "
                f"{duration(each) if name.endswith('_s') else _value(each)}"
                for name, each in value.items()
                if each not in (0, None, "", [])
            )
            return ", ".join(parts)
        case list():
            return ", ".join(map(_value, value)) or "none"
        case bool():
            return "on" if value else "off"
        case None:
            return "none"
        case _:
            return str(value)
