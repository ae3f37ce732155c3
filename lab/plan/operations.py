"""What can be done to a running lab: the typed steps between two plans.

`lab.plan.diff` makes them, `lab up --dry-run` prints them (`describe`), and
the agent's executor carries them out phase by phase; inside a phase they are
independent of one another and may run in any order or at once.
"""

from __future__ import annotations

from enum import IntEnum

from lab.plan.model import Daemon, Link, Node, Program
from lab.topology.behaviour import Frozen


class Phase(IntEnum):
    """The order in which operations are carried out."""

    STOP = 0
    """Programs and daemons that go away or change."""
    UNLINK = 1
    REMOVE = 2
    NAMESPACES = 3
    LINKS = 4
    NETWORK = 5
    """Addresses, routes, forwarding."""
    RULES = 6
    SERVICES = 7
    PROGRAMS = 8
    PAUSE = 9
    """What is to hold still does so once it runs."""


class Operation(Frozen, frozen=True, tag=True):
    """Base of all operations."""


class StopProgram(Operation, frozen=True):
    node: str
    program: Program


class StopDaemon(Operation, frozen=True):
    node: str
    daemon: Daemon


class DeleteLink(Operation, frozen=True):
    link: Link


class DeleteNode(Operation, frozen=True):
    node: Node


class CreateNode(Operation, frozen=True):
    """A namespace; for a container program, the container waiting at its gate."""

    node: Node


class CreateLink(Operation, frozen=True):
    """Both interfaces, in place, up, with MTU, MAC addresses and impairments."""

    link: Link


class ShapeLink(Operation, frozen=True):
    """Change the impairments of a link that stays, without taking it down."""

    link: Link


class ConfigureNode(Operation, frozen=True):
    """Addresses, routes, forwarding, bridge ports: from `before` to `after`.

    `before` is None for a node that was just created.  Otherwise it is what
    the node has left when this operation runs: an interface whose link the
    same change replaced is not in it, nor are the routes through it, so that
    both are made again for the new interface.
    """

    after: Node
    before: Node | None = None


class LoadRules(Operation, frozen=True):
    """Replace the node's whole rule set in one atomic step per table.

    `before` is the node whose rule set stands there; None if there is none, or
    if it is not known.
    """

    node: Node
    before: Node | None = None


class ResetNode(Operation, frozen=True):
    """Make a router or host forget every flow and every mapping, as a reboot does.

    `node` is what runs; nothing of it changes.
    """

    node: Node


class FenceNode(Operation, frozen=True):
    """Let a core or a segment pass nothing between the ports that `node.fences` keeps apart."""

    node: Node


class PauseNode(Operation, frozen=True):
    """Have everything that runs in the node hold still."""

    node: Node


class ResumeNode(Operation, frozen=True):
    """Let what holds still in the node go on."""

    node: Node


class StartDaemon(Operation, frozen=True):
    """Write its files, start it, and wait until it is ready."""

    node: str
    daemon: Daemon


class StartProgram(Operation, frozen=True):
    node: str
    program: Program


AnyOperation = (
    StopProgram
    | StopDaemon
    | DeleteLink
    | DeleteNode
    | CreateNode
    | CreateLink
    | ShapeLink
    | ConfigureNode
    | LoadRules
    | ResetNode
    | FenceNode
    | PauseNode
    | ResumeNode
    | StartDaemon
    | StartProgram
)


def phase(operation: Operation) -> Phase:
    """When `operation` is carried out."""
    match operation:
        case StopProgram() | StopDaemon() | ResumeNode():
            return Phase.STOP
        case DeleteLink():
            return Phase.UNLINK
        case DeleteNode():
            return Phase.REMOVE
        case CreateNode():
            return Phase.NAMESPACES
        case CreateLink():
            return Phase.LINKS
        case ShapeLink() | ConfigureNode():
            return Phase.NETWORK
        case LoadRules() | ResetNode() | FenceNode():
            return Phase.RULES
        case StartDaemon():
            return Phase.SERVICES
        case StartProgram(program=program):
            return Phase.SERVICES if program.stage == 0 else Phase.PROGRAMS
        case PauseNode():
            return Phase.PAUSE
    raise TypeError(f"not an operation: {operation!r}")
