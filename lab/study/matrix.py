"""Every kind of NAT against every other: what connects, held against the prediction.

One lab serves all pairs: two homes, and only the rule sets of the two routers
are replaced in between, as `lab apply` does it.  Each attempt has sockets of
its own, and every NAT draws external ports at random unless asked otherwise,
so a pair finds nothing that the one before it has left.  Flushing the routers
would serve the same end and cost more: the peers would have to register anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Plan, encode
from lab.predict import Finding, predict
from lab.predict.pairs import KINDS, Kind
from lab.topology.behaviour import Frozen, Nat, PortPolicy, Ports
from lab.topology.model import NodeSpec, RouterSpec, Topology

CALLER, CALLEE = "alice", "bob"
TECHNIQUE = "udp-punch"
PATIENCE_S = 0.5
"""For an attempt.  The lab has no delay, so a path that exists is found in a tenth of that."""
SECOND_S = 10.0
"""For another attempt where the first one proves nothing: the machine may be busy."""
LEAST_PACKETS = 12
"""What a failure must have cost to prove something: a few rounds of probes."""

_HOME = {CALLER: "home-a", CALLEE: "home-b"}
_SUCCESS = "success"

Ask = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
"""Asks the lab's agent; yields its events and last its result."""


class Cell(Frozen, frozen=True):
    """One ordered pair: the caller's NAT, the callee's NAT, and what came of it."""

    caller: str
    callee: str
    predicted: bool
    found: bool
    attempts: int
    seconds: float
    """From the order to the first round trip; 0 where there was none."""
    predicted_reason: str
    found_reason: str

    @property
    def agrees(self) -> bool:
        return self.predicted is self.found


def two_homes(lab: str, ports: PortPolicy = PortPolicy.RANDOM) -> Plan:
    """The lab for all pairs: two homes without delays, peers as processes."""
    services = ("stun", "rendezvous", "relay")
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


def facing(plan: Plan, caller: Nat, callee: Nat) -> Plan:
    """`plan` with these two NATs in its homes, and nothing else changed."""
    nats = {_HOME[CALLER]: caller, _HOME[CALLEE]: callee}
    return replace(
        plan,
        nodes=tuple(
            replace(node, nat=nats[node.name]) if node.name in nats else node for node in plan.nodes
        ),
    )


def pairs(kinds: Sequence[Kind] = KINDS) -> Iterator[tuple[Kind, Kind]]:
    """All ordered pairs, in the order of the table; may be shared by threads."""
    return itertools.product(kinds, kinds)


def run(
    plan: Plan,
    ask: Ask,
    todo: Iterator[tuple[Kind, Kind]],
    *,
    technique: str = TECHNIQUE,
    ports: PortPolicy = PortPolicy.RANDOM,
    timeout_s: float = PATIENCE_S,
) -> Iterator[Cell]:
    """Try the pairs of `todo` on the running lab of `plan`; raises LabError as `ask` does."""
    for x, y in todo:
        wanted = facing(plan, nat_of(x, ports), nat_of(y, ports))
        for _ in ask({"do": "apply", "plan": encode(wanted).decode()}):
            pass
        (expected,) = predict(wanted, CALLER, CALLEE, (technique,)).findings
        record, attempts = _attempt(ask, technique, timeout_s), 1
        if _proves_little(record, expected):
            record, attempts = _attempt(ask, technique, SECOND_S), 2
        yield Cell(
            caller=str(x),
            callee=str(y),
            predicted=expected.possible,
            found=record["outcome"] == _SUCCESS,
            attempts=attempts,
            seconds=round(record["time_to_path_s"] or 0.0, 4),
            predicted_reason=expected.reason,
            found_reason=record["reason"],
        )


def _proves_little(record: dict[str, Any], expected: Finding) -> bool:
    """Whether a failure may be the machine's: it is not expected, or nothing was tried."""
    if record["outcome"] == _SUCCESS:
        return False
    return expected.possible or sum(record["packets"].values()) < LEAST_PACKETS


def _attempt(ask: Ask, technique: str, timeout_s: float) -> dict[str, Any]:
    order = {
        "do": "connect",
        "local": CALLER,
        "remote": CALLEE,
        "techniques": [technique],
        "first": False,
        "timeout_s": timeout_s,
    }
    records = [answer["record"] for answer in ask(order) if answer.get("event") == "attempt"]
    record: dict[str, Any] = records[0]
    return record
