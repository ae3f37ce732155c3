"""What a prediction knows of the two nodes that connect: addresses and services."""

from __future__ import annotations

from dataclasses import dataclass

from lab.plan.model import Node, Plan
from lab.predict.packet import Endpoint

PEER = "peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a prediction, as docs/contract.md tells the program in it."""

    name: str
    addresses: tuple[str, ...]
    stun: Endpoint | None
    rendezvous: Endpoint | None
    relay: Endpoint | None
    silent: bool = False
    """Whether what runs there is known not to be a peer."""

    @classmethod
    def of(cls, plan: Plan, name: str, addresses: tuple[str, ...]) -> Peer:
        """The peer in the node `name`, which has `addresses`.

        A node without a program is taken for one that is told what the others
        are told: somebody may run a peer in it by hand.
        """
        node = plan.node(name)
        told = _environment(plan, node)
        own = tuple(a for a in told.get("LAB_ADDRESSES", "").split(",") if a and ":" not in a)
        roles = node.program.roles if node.program else ()
        return cls(
            name=name,
            addresses=(own if node.program else ()) or addresses,
            stun=_endpoint(told.get("LAB_STUN", "")),
            rendezvous=_endpoint(told.get("LAB_RENDEZVOUS", "")),
            relay=_endpoint(told.get("LAB_RELAY", "")),
            silent=bool(roles) and PEER not in roles,
        )


def _environment(plan: Plan, node: Node) -> dict[str, str]:
    program = node.program or next((other.program for other in plan.nodes if other.program), None)
    return dict(program.env) if program else {}


def _endpoint(text: str) -> Endpoint | None:
    """The first endpoint of a list; None if there is none."""
    address, _, port = text.partition(",")[0].rpartition(":")
    return Endpoint(address, int(port)) if address and port.isdigit() else None
