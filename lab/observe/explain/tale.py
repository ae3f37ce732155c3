"""What happened, as data: who sent what to whom, what that made, and which steps it were."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.observe.explain.events import Capture
from lab.observe.explain.fates import Fate
from lab.observe.explain.journeys import Journey
from lab.observe.explain.labels import Label
from lab.observe.explain.mappings import Made
from lab.observe.explain.wiring import Way
from lab.peer.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Told:
    """A journey and what its packet is."""

    journey: Journey
    label: Label

    @property
    def arrived(self) -> bool:
        return self.journey.fate is Fate.ARRIVED

    @property
    def to(self) -> Endpoint:
        """Where it was sent."""
        return self.journey.packet.destination


@dataclass(frozen=True, slots=True)
class Side:
    """One peer's part in an attempt."""

    name: str
    routers: tuple[str, ...]
    """Above it, nearest first."""
    shown: tuple[Endpoint, ...]
    """The endpoints that STUN servers showed it, in order."""
    sent: tuple[Told, ...]
    """What it sent to the other peer itself."""
    opening: tuple[Told, ...]
    """Of these, what could open a path: not the answers over one that is there."""

    def own_routers(self, other: Side) -> tuple[str, ...]:
        """Those that are not above the other peer too."""
        return tuple(name for name in self.routers if name not in other.routers)

    @property
    def got_through(self) -> tuple[Told, ...]:
        """What of it arrived at the other peer."""
        return tuple(told for told in self.sent if told.arrived)


@dataclass(frozen=True, slots=True)
class Story:
    """An attempt as it was seen."""

    capture: Capture
    way: Way
    told: tuple[Told, ...]
    made: Made
    local: Side
    remote: Side
    began_ns: int
    steps: dict[int, list[tuple[Journey, str]]] = field(default_factory=dict)
    """Of each step of the punch, the packets and at which node it happened."""
    roles: tuple[str, str] = ("", "")
    """Who is m and who is n in these steps."""
    proven_ns: int = 0
    """When the path was proven; 0 if it never was.  What follows measures it."""

    repairs: tuple[Repair, ...] = ()
    """Of a session: each time that its path was dead."""

    @property
    def connected(self) -> bool:
        return str(self.capture.record.get("outcome")) in ("success", "reversed")


@dataclass(frozen=True, slots=True)
class Repair:
    """One time that the path of a session was dead, as the end that leads it said."""

    dead_ns: int
    reason: str
    silent_s: float
    """How long nothing had been heard by then."""
    technique: str
    """By which the dead path had been found."""
    over_ns: int = 0
    """When there was a path again; 0 if there was none in time."""
    took_s: float = 0.0
    by: str = ""
    """What found it; empty if the old one came back by itself."""
    gap_s: float | None = None
    """Between the last datagram before and the first after; None if none came in time."""
    lost: int = 0
    """Datagrams that are missing in between."""
    attempt: Story | None = None
    """How the new path was found."""
