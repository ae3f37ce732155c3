"""The question that people ask, which techniques can connect two nodes, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.errors import InputError
from lab.plan.model import NodeKind, Plan
from lab.predict.finding import DIRECT, RELAYED, Finding
from lab.predict.map import Map
from lab.predict.peers import Peer
from lab.predict.techniques import techniques
from lab.topology.behaviour import Frozen
from lab.topology.outcomes import CONNECTED
from lab.topology.problems import one_of

_SUCCESS = "success"
_SAYS_NOTHING = frozenset({"unsupported", "cancelled"})
"""Outcomes that are about the programs and not about the network."""


class Prediction(Frozen, frozen=True):
    """What each technique can do for two peers, in the order in which they are tried."""

    local: str
    remote: str
    findings: tuple[Finding, ...]

    @property
    def possible(self) -> bool:
        """Whether some technique connects them."""
        return any(finding.possible for finding in self.findings)

    @property
    def path(self) -> str:
        """The best path: `direct`, `relayed` or `none`."""
        paths = {finding.path for finding in self.findings if finding.possible}
        return next((path for path in (DIRECT, RELAYED) if path in paths), "none")

    def of(self, technique: str) -> Finding | None:
        """The finding on one technique; None if it can't be predicted."""
        return next((f for f in self.findings if f.technique == technique), None)

    def contradicted_by(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Where attempts of the one to connect to the other came out otherwise, a sentence each.

        Each is a fault: of the rules in the kernel, of the prediction, or of the
        peer.  Attempts that nothing can be predicted about contradict nothing, nor
        do those that were given too little time to come to an end.
        """
        wrong = []
        for record in records:
            finding = self.of(str(record.get("technique")))
            outcome = str(record.get("outcome"))
            if finding is None or finding.by_chance or outcome in _SAYS_NOTHING:
                continue
            if record.get("cut_short"):
                continue
            if finding.possible is not (outcome in CONNECTED):
                expected = _SUCCESS if finding.possible else "failure"
                wrong.append(
                    f"{finding.technique}: predicted {expected}, found {outcome} ({finding.reason})"
                )
        return wrong


def predict(plan: Plan, local: str, remote: str, wanted: Sequence[str] = ()) -> Prediction:
    """Which techniques (`wanted`, else all) let `local` connect to `remote` in `plan`.

    Raises InputError for a node that is no host of the plan, for two that are
    one, and for a technique that can't be predicted.
    """
    known = techniques()
    for name in wanted:
        if name not in known:
            raise InputError(
                f"there is no technique {name!r}",
                remedy=one_of(name, list(known), "techniques"),
            )
    hosts = [node.name for node in plan.nodes if node.kind is NodeKind.HOST]
    for name in (local, remote):
        if name not in hosts:
            raise InputError(
                f"{name!r} is no host of {plan.lab}", remedy=one_of(name, hosts, "hosts")
            )
    if local == remote:
        raise InputError("a peer does not connect to itself", remedy="name two hosts")
    world = Map(plan)
    a, b = (Peer.of(plan, name, world.own_addresses(name)) for name in (local, remote))
    return Prediction(
        local=local,
        remote=remote,
        findings=tuple(known[name](world, a, b) for name in wanted or known),
    )


def contradictions(
    plan: Plan, local: str, remote: str, records: Sequence[Mapping[str, Any]]
) -> list[str]:
    """As `Prediction.contradicted_by`; nothing where nothing can be predicted."""
    try:
        return predict(plan, local, remote).contradicted_by(records)
    except InputError:
        return []
