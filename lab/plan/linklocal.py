"""Hosts whom nobody gives an address: who claims one for them (RFC 3927)."""

from __future__ import annotations

from lab import seeds
from lab.plan.model import Daemon, Node, NodeKind
from lab.plan.names import HOST_UPLINK
from lab.topology.model import Ip, NodeSpec

CLAIMER = "link-local"
CLAIMED = "link-local"
"""What stands for an address that no plan knows."""


def claimer(spec: NodeSpec, seed: int) -> tuple[Daemon, ...]:
    """What claims and defends an address for the host, if nobody gives it one.

    Not the host's program: it has its network before it starts, needs no right
    to change it, and runs on where the host moves to another one.
    """
    if spec.ip is not Ip.LINK_LOCAL:
        return ()
    own = str(seeds.derive(seed, "node", spec.name))
    first = dict(spec.env).get("LINK_LOCAL_FIRST", "")
    words = ("{python}", "-m", "lab.peer.lan.claiming", HOST_UPLINK, own, first)
    return (Daemon(name=CLAIMER, command=words, ready=(f"address/{HOST_UPLINK}",)),)


def claims_address(node: Node) -> bool:
    """Whether a node of a plan is a host that claims its address."""
    if node.kind is not NodeKind.HOST:
        return False
    return bool(node.interfaces) and not any(face.addresses for face in node.interfaces)
