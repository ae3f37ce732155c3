"""Plans to predict on: chains of routers between two peers."""

from __future__ import annotations

from collections.abc import Sequence

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Plan
from lab.predict.pairs import Kind
from lab.topology.behaviour import Firewall, Hairpin, Nat, PortPolicy, Ports
from lab.topology.model import NodeSpec, RouterSpec, Topology

MACHINE = Machine()
SERVICES = tuple(
    NodeSpec(name=name, via="internet", services=(name,))
    for name in ("stun", "rendezvous", "relay")
)


def nat(kind: Kind, policy: PortPolicy = PortPolicy.RANDOM, hairpin: Hairpin = Hairpin.OFF) -> Nat:
    return Nat(
        mapping=kind.mapping,
        filtering=kind.filtering,
        ports=Ports(policy=policy),
        hairpin=hairpin,
    )


def chain(side: str, nats: Sequence[Nat | None], via: str = "internet") -> list[RouterSpec]:
    """Routers of one side, the innermost first in `nats` and named `<side>0`."""
    return [
        RouterSpec(
            name=f"{side}{index}",
            via=f"{side}{index + 1}" if index + 1 < len(nats) else via,
            nat=one,
        )
        for index, one in enumerate(nats)
    ]


def peer(name: str, via: str, firewall: Firewall | None = None) -> NodeSpec:
    return NodeSpec(name=name, via=via, peer=True, firewall=firewall)


def plan_of(*specs: RouterSpec | NodeSpec) -> Plan:
    return compile_topology(
        Topology(
            name="predicted",
            routers=tuple(spec for spec in specs if isinstance(spec, RouterSpec)),
            nodes=(*SERVICES, *(spec for spec in specs if isinstance(spec, NodeSpec))),
        ),
        MACHINE,
    )


def facing(xs: Sequence[Nat | None], ys: Sequence[Nat | None], via: str = "internet") -> Plan:
    """Alice behind `xs`, Bob behind `ys` (innermost first); `via` is where both chains end."""
    return plan_of(
        *chain("a", xs, via),
        *chain("b", ys, via),
        peer("alice", "a0" if xs else via),
        peer("bob", "b0" if ys else via),
    )
