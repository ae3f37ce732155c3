"""What was seen while an attempt was made, as data: packets, the rules that decided, mappings.

`lab.observe.capture` writes it, the rest of this package reads it, and it
travels as JSON between the two.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lab.plan.model import Plan
from lab.topology.behaviour import Frozen

SESSION = "session"
"""What stands for a technique where a session was recorded."""


class Sighting(Frozen, frozen=True):
    """One IP packet on one interface of a node."""

    at_ns: int
    """By the clock of the machine, the same one for all nodes."""
    node: str
    interface: str
    outgoing: bool
    """Whether it leaves the node by this interface."""
    data: bytes
    """From the IP header on; cut short if it is long."""


class Decision(Frozen, frozen=True):
    """One rule, or the policy of a chain, that had its say about a packet."""

    node: str
    packet: int
    """Which packet of the node, as the kernel numbers them; numbers come again."""
    table: str
    """Family and name: `ip filter`."""
    chain: str
    handle: int
    """The kernel's name of the rule; 0 for a policy."""
    verdict: str
    """`accept`, `drop`, `continue`, `jump`, `goto`, `return`, `queue` or `stolen`."""
    header: bytes = b""
    """Of the first decision about a packet: its IP and transport headers."""
    at_ns: int = 0
    """About when: the time at which it was read."""


class Rule(Frozen, frozen=True):
    """A rule of a node, in the words of the tool that manages it."""

    node: str
    table: str
    chain: str
    handle: int
    text: str
    comment: str = ""
    until_ns: int = 0
    """When it was replaced; 0 if it stood to the end.  Another one may have its handle then."""


class Held(Frozen, frozen=True):
    """A mapping that a NAT held in the end, or when it was about to forget it."""

    node: str
    protocol: str
    inside: str
    external_port: int
    towards: str = ""
    timeout_s: int = 0


class Missing(Frozen, frozen=True):
    """What one direction of a link did not deliver while packets were recorded, as it says."""

    link: str
    up: bool
    """Whether from the link's `a` to its `b`."""
    lost: int = 0
    """By chance, as the link's loss demands."""
    full: int = 0
    """Because of its queue: full, or shortened by CoDel."""


class Happened(Frozen, frozen=True):
    """A change of the network, made while packets were recorded."""

    began_ns: int
    """By the clock of the sightings; what it does is done at some time between the two."""
    ended_ns: int
    what: tuple[tuple[str, str], ...]
    """Each a node that it is about, if it is one, and what happened in words."""
    plan: Plan | None = None
    """What is in force from then on; None for what was before."""
    forgot: tuple[str, ...] = ()
    """Routers that lost their state."""
    failed: bool = False
    """Whether it was given up halfway; what takes it back again is a change of its own."""


class Said(Frozen, frozen=True):
    """Something that the program which leads a session said of it (docs/sessions.md)."""

    at_ns: int
    event: dict[str, Any]


class Capture(Frozen, frozen=True):
    """Everything that is known of one attempt, or of a session."""

    plan: Plan
    """What was in force at the beginning."""
    local: str
    remote: str
    technique: str
    record: dict[str, Any]
    """How the caller's program says that it ended (docs/contract.md)."""
    sightings: tuple[Sighting, ...]
    """In order of time."""
    decisions: tuple[Decision, ...] = ()
    """In order, for each node."""
    rules: tuple[Rule, ...] = ()
    held: tuple[Held, ...] = ()
    lost: tuple[str, ...] = ()
    """What could not be observed, in words."""
    untraced: tuple[str, ...] = ()
    """Nodes of which it is not known what their rules said."""
    missing: tuple[Missing, ...] = ()
    """Of links that count what they lose."""
    ended_ns: int = 0
    """When the recording ended, by the clock of the sightings; 0 if that is not known."""
    happened: tuple[Happened, ...] = ()
    """In order of time."""
    said: tuple[Said, ...] = ()
    """Of a session; in order of time."""

    @property
    def is_session(self) -> bool:
        """Whether it is of a session that was there, not of an attempt to connect."""
        return self.technique == SESSION

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All that were in force, in order of time."""
        return (self.plan, *(one.plan for one in self.happened if one.plan is not None))


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Capture)


def encode(capture: Capture) -> bytes:
    """`capture` as JSON."""
    return _ENCODER.encode(capture)


def decode(data: bytes) -> Capture:
    """The capture that `encode` wrote; msgspec.DecodeError if it is none."""
    return _DECODER.decode(data)
