"""Hosts whom nobody gives an address: who claims one for them (RFC 3927)."""

from __future__ import annotations

from lab import seeds
from lab.plan.model import Daemon, Node, NodeKind, Program
from lab.plan.names import HOST_UPLINK
from lab.topology.behaviour import Runtime
from lab.topology.model import Ip, NodeSpec

CLAIMER = "link-local"
CLAIMED = "link-local"
"""What stands for an address that no plan knows."""
CLAIMS_ITSELF = "LAB_LINK_LOCAL"


def claimer(spec: NodeSpec, program: Program | None, seed: int) -> tuple[Daemon, ...]:
    """What claims and defends an address for the host, if its program does not do so itself.

    A peer that runs as a process does.  In a container it has no right to, and
    a program of one's own has its network before it starts.
    """
    if spec.ip is not Ip.LINK_LOCAL or (program and CLAIMS_ITSELF in dict(program.env)):
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


def told(spec: NodeSpec, roles: tuple[str, ...], runtime: Runtime) -> dict[str, str]:
    """The variable of the contract by which a peer claims an address itself."""
    itself = spec.ip is Ip.LINK_LOCAL and roles and runtime is Runtime.PROCESS
    return {CLAIMS_ITSELF: HOST_UPLINK} if itself else {}
