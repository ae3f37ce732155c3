"""A running lab whose NATs and firewalls change, to hold predictions against."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from lab.agent import client
from lab.cli.scratch import scratch_labs, scratch_name
from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Plan, encode
from lab.predict import predict
from lab.predict.pairs import KINDS
from lab.topology.behaviour import Firewall, Hairpin, Nat, PortPolicy, Ports
from lab.topology.model import NodeSpec, RouterSpec, Topology

OPEN = Nat(mapping=KINDS[0].mapping, filtering=KINDS[0].filtering)
SHORT_S, LONG_S = 0.5, 30.0
PATIENT = {"window_s": 25.0}
"""For a second attempt, which shows that there is a path however late a program is."""


@dataclass
class Nested:
    """The lab; `check` gives it other behaviours and lets its peers connect."""

    paths: LabPaths
    plan: Plan

    def check(
        self,
        behaviours: dict[str, Nat | Firewall],
        local: str,
        remote: str,
        techniques: tuple[str, ...] = ("udp-punch",),
    ) -> list[str]:
        """Where attempts contradict the prediction."""
        plan = self._changed(behaviours)
        self._ask({"do": "apply", "plan": encode(plan).decode()})
        wrong = []
        for finding in predict(plan, local, remote, techniques).findings:
            found = self._connects(local, remote, finding.technique, SHORT_S, {})
            if finding.possible and not found:
                found = self._connects(local, remote, finding.technique, LONG_S, PATIENT)
            if found is not finding.possible:
                said = ", ".join(f"{n}: {_words(b)}" for n, b in behaviours.items())
                wrong.append(f"{local} to {remote} by {finding}, found {found} with {said}")
        return wrong

    def _changed(self, behaviours: dict[str, Nat | Firewall]) -> Plan:
        nodes = []
        for node in self.plan.nodes:
            wanted = behaviours.get(node.name)
            if isinstance(wanted, Nat):
                node = replace(node, nat=wanted)  # noqa: PLW2901 - a changed copy
            elif isinstance(wanted, Firewall):
                node = replace(node, firewall=wanted)  # noqa: PLW2901 - as above
            nodes.append(node)
        return replace(self.plan, nodes=tuple(nodes))

    def _connects(
        self,
        local: str,
        remote: str,
        technique: str,
        timeout_s: float,
        options: dict[str, float],
    ) -> bool:
        answers = self._ask(
            {
                "do": "connect", "local": local, "remote": remote, "techniques": [technique],
                "first": False, "timeout_s": timeout_s, "options": options,
            }
        )  # fmt: skip
        (record,) = (a["record"] for a in answers if a.get("event") == "attempt")
        return record["outcome"] == "success"

    def _ask(self, order: dict) -> list[dict]:
        return list(client.ask(self.paths, order))


def _words(behaviour: Nat | Firewall) -> str:
    if isinstance(behaviour, Firewall):
        return "firewall"
    return f"{behaviour.mapping}/{behaviour.filtering}/{behaviour.hairpin}/{behaviour.unsolicited}"


@contextmanager
def nested(name: str, routers: dict[str, str], peers: dict[str, str]) -> Iterator[Nested]:
    """A lab of NAT routers by what they are attached to, and peers likewise."""
    services = ("stun", "rendezvous", "relay")
    topology = Topology(
        name=name,
        routers=tuple(RouterSpec(name=one, via=via, nat=OPEN) for one, via in routers.items()),
        nodes=(
            *(NodeSpec(name=one, via="internet", services=(one,)) for one in services),
            # An open firewall: the kernel follows flows from the start, so that a
            # stricter one knows them.
            *(
                NodeSpec(name=one, via=via, peer=True, firewall=Firewall())
                for one, via in peers.items()
            ),
        ),
    )
    plan = compile_topology(topology, Machine(), lab=scratch_name(f"t-{name}"))
    with scratch_labs([plan]) as (paths,):
        yield Nested(paths, plan)


def some_nat(rng: random.Random, hairpin: Hairpin = Hairpin.OFF) -> Nat:
    kind = rng.choice(KINDS)
    policy = rng.choice((PortPolicy.PRESERVE, PortPolicy.RANDOM))
    return Nat(
        mapping=kind.mapping,
        filtering=kind.filtering,
        ports=Ports(policy=policy),
        hairpin=hairpin,
    )
