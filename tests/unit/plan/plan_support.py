"""Topologies written by hand, for tests of the plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lab.plan.describe import describe
from lab.plan.diff import diff
from lab.plan.machine import Machine
from lab.plan.model import Plan
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Nat,
    PortPolicy,
    Ports,
    Rule,
    Runtime,
    Verdict,
)
from lab.topology.character import Impairment
from lab.topology.model import InternetSpec, LinkSpec, NodeSpec, RouterSpec, Topology

GOLDEN = Path(__file__).parents[1] / "golden" / "plan"

HOME = Nat(preset="home")
SYMMETRIC = Nat(
    mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT,
    ports=Ports(policy=PortPolicy.RANDOM),
    preset="symmetric",
)
CGNAT = Nat(ports=Ports(policy=PortPolicy.BLOCK, block=512), preset="cgnat")
DSL = LinkSpec(
    up=Impairment(rate_bit=8_000_000, delay_us=10_000),
    down=Impairment(rate_bit=50_000_000, delay_us=10_000),
    preset="dsl",
)
WIFI = LinkSpec(
    up=Impairment(rate_bit=50_000_000, delay_us=2_000, loss=0.001),
    down=Impairment(rate_bit=50_000_000, delay_us=2_000, loss=0.001),
    preset="wifi",
)
WEB_ONLY = Firewall(
    outbound=Direction(
        default=Verdict.DROP,
        rules=(
            Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80),)),
            Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((443, 443),)),
            Rule(verdict=Verdict.ACCEPT, protocol="udp", ports=((53, 53),)),
        ),
    ),
    preset="web-only",
)

NETEM = Machine(netem=True)
NO_NETEM = Machine(netem=False, runtime_reason="no container engine answers")


def internet(delay_us: int = 10_000) -> InternetSpec:
    """An internet across which a packet takes `delay_us`."""
    return InternetSpec(transit=Impairment(delay_us=delay_us // 2))


def services() -> tuple[NodeSpec, ...]:
    return (
        NodeSpec(name="stun", via="internet", services=("stun", "rendezvous")),
        NodeSpec(name="relay", via="internet", services=("relay",)),
    )


def double_nat() -> Topology:
    return Topology(
        name="double-nat",
        description="Two peers, each behind a home NAT behind a carrier's NAT.",
        internet=internet(),
        routers=(
            RouterSpec(name="carrier-a", nat=CGNAT),
            RouterSpec(name="home-a", via="carrier-a", nat=HOME, link=DSL),
            RouterSpec(name="carrier-b", nat=SYMMETRIC),
            RouterSpec(name="home-b", via="carrier-b", nat=HOME, firewall=WEB_ONLY),
        ),
        nodes=(
            *services(),
            NodeSpec(name="alice", via="home-a", peer=True, link=WIFI),
            NodeSpec(name="bob", via="home-b", peer=True),
        ),
    )


def homes(count: int) -> Topology:
    """`count` NAT routers with a host each."""
    return Topology(
        name="homes",
        internet=internet(),
        routers=tuple(
            RouterSpec(name=f"home-{n}", nat=HOME, link=DSL) for n in range(1, count + 1)
        ),
        nodes=(
            *services(),
            *(NodeSpec(name=f"host-{n}", via=f"home-{n}", peer=True) for n in range(1, count + 1)),
        ),
    )


def golden(name: str, text: str) -> None:
    """`text` is what tests/unit/golden/plan/<name> holds; LAB_UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / name
    if os.environ.get("LAB_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: run with LAB_UPDATE_GOLDEN=1 and look at it"
    assert text == path.read_text(), f"{path} differs: run with LAB_UPDATE_GOLDEN=1 and look at it"


def dry_run(running: Plan | None, desired: Plan | None) -> str:
    """What `--dry-run` prints."""
    return "".join(describe(operation) + "\n" for operation in diff(running, desired))


# --- random topologies ----------------------------------------------------

_NATS = (None, HOME, SYMMETRIC, CGNAT)
_LINKS = (LinkSpec(), DSL, WIFI, LinkSpec(mtu=1400), LinkSpec(up=Impairment(rate_bit=10**6)))
_PROGRAMS: tuple[dict[str, Any], ...] = (
    {},
    {"peer": True},
    {"services": ("stun", "rendezvous")},
    {"services": ("relay",), "peer": True},
    {"image": "example/peer:1"},
    {"image": "example/peer:2", "env": (("MODE", "test"),)},
    {"command": ("./program", "--fast")},
)


@st.composite
def topologies(draw: st.DrawFn, routers: int = 6, hosts: int = 7) -> Topology:
    """Any small topology; two of them have names in common."""
    drawn: list[RouterSpec] = []
    for name in draw(st.sets(st.sampled_from([f"r{n}" for n in range(routers)]))):
        drawn.append(
            RouterSpec(
                name=name,
                via=draw(st.sampled_from(["internet", *(router.name for router in drawn)])),
                nat=draw(st.sampled_from(_NATS)),
                firewall=draw(st.sampled_from([None, None, WEB_ONLY])),
                link=draw(st.sampled_from(_LINKS)),
            )
        )
    upstream = ["internet", *(router.name for router in drawn)]
    nodes = tuple(
        NodeSpec(
            name=name,
            via=draw(st.sampled_from(upstream)),
            link=draw(st.sampled_from(_LINKS)),
            firewall=draw(st.sampled_from([None, None, WEB_ONLY])),
            **draw(st.sampled_from(_PROGRAMS)),
        )
        for name in draw(st.sets(st.sampled_from([f"h{n}" for n in range(hosts)])))
    )
    return Topology(
        name="any",
        internet=internet(draw(st.sampled_from([0, 10_000]))),
        routers=tuple(draw(st.permutations(drawn))),
        nodes=nodes,
    )


machines = st.builds(
    Machine,
    netem=st.booleans(),
    containers=st.just(True),
    runtime=st.sampled_from(Runtime),
)
