"""Every kind of NAT against every other, by any technique, held against the prediction.

One lab serves all pairs: two homes, and only the rule sets of the two routers
are replaced in between, as `lab apply` does it.  Each attempt has sockets of
its own, and every NAT draws external ports at random unless asked otherwise,
so a pair finds nothing that the one before it has left.  Flushing the routers
would serve the same end and cost more: the peers would have to register anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Plan, encode
from lab.predict import predict
from lab.predict.pairs import KINDS, Kind
from lab.topology.behaviour import (
    Direction,
    Firewall,
    Frozen,
    Nat,
    PortPolicy,
    Ports,
    Rule,
    Verdict,
)
from lab.topology.model import NodeSpec, RouterSpec, Topology
from lab.topology.outcomes import CONNECTED

CALLER, CALLEE = "alice", "bob"
TECHNIQUE = "udp-punch"
PATIENCE_S = 0.5
"""For probing.  The lab has no delay, so a path that exists is found in a tenth of that."""
SECOND_S = 6.0
"""For another attempt where the first one proves nothing: the machine may be busy."""
TIMEOUT_S = 20.0
"""For everything else in an attempt."""
_LUCK = {"birthday": {"pace": 1000.0, "window_s": 3.5}}
"""Techniques that take luck get as many tries as make it likely."""

_HOME = {CALLER: "home-a", CALLEE: "home-b"}

Ask = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
"""Asks the lab's agent; yields its events and last its result."""


class Home(Frozen, frozen=True):
    """One kind of router that peers live behind."""

    name: str
    nat: Nat
    firewall: Firewall | None = None


class Cell(Frozen, frozen=True):
    """One ordered pair: the caller's NAT, the callee's NAT, and what came of it."""

    technique: str
    caller: str
    callee: str
    predicted: bool
    found: bool
    by_chance: bool
    """Whether a possible path may all the same not be found."""
    attempts: int
    seconds: float
    """From the order to the first round trip; 0 where there was none."""
    predicted_reason: str
    found_reason: str
    distorted: tuple[str, ...] = ()
    """Why the machine may have had a part in it; empty if it kept up."""

    @property
    def agrees(self) -> bool:
        return self.predicted is self.found or (self.predicted and self.by_chance)


def two_homes(lab: str, ports: PortPolicy = PortPolicy.RANDOM) -> Plan:
    """The lab for all pairs: two homes without delays, peers as processes."""
    services = ("stun", "rendezvous", "relay", "web-relay")
    topology = Topology(
        name="matrix",
        description="Two homes, whose NATs take turns.",
        routers=tuple(
            RouterSpec(name=home, nat=nat_of(KINDS[0], ports)) for home in _HOME.values()
        ),
        nodes=(
            *(NodeSpec(name=name, via="internet", services=(name,)) for name in services),
            *(NodeSpec(name=peer, via=home, peer=True) for peer, home in _HOME.items()),
        ),
    )
    return compile_topology(topology, Machine(), lab=lab)


def nat_of(kind: Kind, ports: PortPolicy) -> Nat:
    """A NAT of that kind."""
    return Nat(mapping=kind.mapping, filtering=kind.filtering, ports=Ports(policy=ports))


def nine(ports: PortPolicy = PortPolicy.RANDOM) -> tuple[Home, ...]:
    """RFC 4787's nine kinds, from the most open to the strictest of each mapping."""
    return tuple(Home(name=str(kind), nat=nat_of(kind, ports)) for kind in KINDS)


def classic() -> tuple[Home, ...]:
    """RFC 3489's kinds, symmetric ones with ports at random and in sequence, and blocked UDP."""
    full, by_address, by_port, symmetric = (KINDS[index] for index in (0, 1, 2, -1))
    strict = nat_of(by_port, PortPolicy.RANDOM)
    no_udp = Direction(rules=(Rule(verdict=Verdict.DROP, protocol="udp"),))
    return (
        Home(name="full", nat=nat_of(full, PortPolicy.RANDOM)),
        Home(name="restr", nat=nat_of(by_address, PortPolicy.RANDOM)),
        Home(name="port-r", nat=strict),
        Home(name="sym-random", nat=nat_of(symmetric, PortPolicy.RANDOM)),
        Home(name="sym-seq", nat=nat_of(symmetric, PortPolicy.SEQUENTIAL)),
        Home(name="blocked", nat=strict, firewall=Firewall(outbound=no_udp)),
    )


def facing(plan: Plan, caller: Home, callee: Home) -> Plan:
    """`plan` with these two routers' behaviour in its homes, and nothing else changed."""
    homes = {_HOME[CALLER]: caller, _HOME[CALLEE]: callee}
    return replace(
        plan,
        nodes=tuple(
            replace(node, nat=homes[node.name].nat, firewall=homes[node.name].firewall)
            if node.name in homes
            else node
            for node in plan.nodes
        ),
    )


def pairs(homes: Sequence[Home]) -> Iterator[tuple[Home, Home]]:
    """All ordered pairs, in the order of the table; may be shared by threads."""
    return itertools.product(homes, homes)


def run(
    plan: Plan,
    ask: Ask,
    todo: Iterator[tuple[Home, Home]],
    techniques: Sequence[str] = (TECHNIQUE,),
    patience_s: float = PATIENCE_S,
) -> Iterator[Cell]:
    """Try the pairs of `todo` on the running lab of `plan`; raises LabError as `ask` does."""
    for x, y in todo:
        wanted = facing(plan, x, y)
        for _ in ask({"do": "apply", "plan": encode(wanted).decode()}):
            pass
        for expected in predict(wanted, CALLER, CALLEE, techniques).findings:
            name = expected.technique
            options = {"window_s": patience_s, **_LUCK.get(name, {})}
            record, attempts = _attempt(ask, name, options), 1
            found = record["outcome"] in CONNECTED
            if expected.possible and not expected.by_chance and not found:
                record, attempts = _attempt(ask, name, {**options, "window_s": SECOND_S}), 2
                found = record["outcome"] in CONNECTED
            yield Cell(
                technique=name,
                caller=x.name,
                callee=y.name,
                predicted=expected.possible,
                found=found,
                by_chance=expected.by_chance,
                attempts=attempts,
                seconds=round(record["time_to_path_s"] or 0.0, 4),
                predicted_reason=expected.reason,
                found_reason=record["reason"],
                distorted=tuple(record.get("distorted", ())),
            )


def _attempt(ask: Ask, technique: str, options: Mapping[str, float]) -> dict[str, Any]:
    order = {
        "do": "connect",
        "local": CALLER,
        "remote": CALLEE,
        "techniques": [technique],
        "first": False,
        "timeout_s": TIMEOUT_S,
        "options": dict(options),
    }
    records = [answer["record"] for answer in ask(order) if answer.get("event") == "attempt"]
    record: dict[str, Any] = records[0]
    return record
