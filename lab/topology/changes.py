"""What can happen to a running lab, as data, and when a file's timeline says that it does.

A `Change` is the same thing whether a person orders it (`lab nat set`) or the
timeline does; `lab.plan.change` says what it makes of a plan.  A new kind of
change is a class here, its words in `lab.topology.timeline`, and its meaning
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from lab.topology.behaviour import Firewall, Frozen, Nat
from lab.topology.link import LinkSpec


class Activity(StrEnum):
    """What has become of a node's program and daemons by order; its network stands in any case."""

    RUNNING = "running"
    STOPPED = "stopped"
    """They were ended, and do not run."""
    PAUSED = "paused"
    """They hold still: they get no processor time, and keep all they have."""


Partition = tuple[tuple[str, ...], ...]
"""Groups of nodes, routers (with all behind them) or regions that can't reach one another.

A single group is kept apart from everything else.
"""


class Change(Frozen, frozen=True, tag=True):
    """Base of all changes."""


class SetNat(Change, frozen=True):
    """Another NAT behaviour; flows and the ports that mappings hold outlast it."""

    router: str
    nat: Nat


class SetFirewall(Change, frozen=True):
    """Another firewall, or none; flows that were admitted go on."""

    node: str
    firewall: Firewall | None = None


class FlushNat(Change, frozen=True):
    """The NAT forgets every mapping and every flow; its rules and its programs stay."""

    router: str


class Reboot(Change, frozen=True):
    """The router loses all its state, and begins with its rule set as it is declared."""

    router: str


class SetLink(Change, frozen=True):
    """Another character of the link by which `node` is attached to `via`."""

    node: str
    via: str
    link: LinkSpec | None = None
    """None for the one that it is declared with."""


class CutLink(Change, frozen=True):
    """The link by which `node` is attached to `via` carries nothing any more, or again."""

    node: str
    via: str
    down: bool = True


class SetActivity(Change, frozen=True):
    """A node's program and daemons are stopped, started, paused or resumed."""

    node: str
    activity: Activity
    only_paused: bool = False
    """Nothing is started: what holds still goes on, and that is all."""


class Divide(Change, frozen=True):
    """A partition comes into force, or ends."""

    groups: Partition
    on: bool = True


class Heal(Change, frozen=True):
    """Every partition ends."""


class Move(Change, frozen=True):
    """A host leaves its router or switch for another one, where it gets another address.

    Its program runs on; sockets that were bound to the former address have
    none any more.
    """

    node: str
    via: str
    link: LinkSpec | None = None
    """How it is attached there; None for as before."""


AnyChange = (
    SetNat
    | SetFirewall
    | FlushNat
    | Reboot
    | SetLink
    | CutLink
    | SetActivity
    | Divide
    | Heal
    | Move
)


class Happening(Frozen, frozen=True):
    """An entry of a timeline: what happens at which moment, once or again and again.

    Times are microseconds, `at_us` since the lab was up.
    """

    at_us: int
    changes: tuple[AnyChange, ...]
    """They happen at once, in one step."""
    for_us: int = 0
    """After so long it is undone; 0 for never."""
    every_us: int = 0
    """It happens again each time that so much has passed; 0 for once."""
    times: int = 0
    """How often, with `every_us`; 0 for as long as the lab runs."""
    jitter_us: int = 0
    """Each time comes up to so much later, drawn with the lab's seed."""
    where: str = ""


def changes_to_wire(changes: Sequence[AnyChange]) -> list[Any]:
    """`changes` as JSON-ready data; `changes_from_wire` reads it."""
    built: list[Any] = msgspec.to_builtins(list(changes))
    return built


def changes_from_wire(data: Any) -> list[AnyChange]:
    """The changes that `changes_to_wire` wrote; msgspec.ValidationError if they are not."""
    return msgspec.convert(data, list[AnyChange])
