"""What happened in an attempt: who sent what to whom, and the four steps of a punch.

With peer m behind NAT X and peer n behind NAT Y (`lab.peer.traversal.punch`):
(1) m learns its outside endpoint and tells n; (2) n sends there, which opens
Y; (3) X refuses that packet; (4) m sends to n's outside endpoint, and that
passes Y by what step 2 opened.  The steps are found in what was seen, by who
sent to whom: n is whoever's packet was the first to cross its own NAT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lab.observe.explain.events import Capture
from lab.observe.explain.fates import Fate
from lab.observe.explain.journeys import Journey, journeys
from lab.observe.explain.labels import Kind, Label, label
from lab.observe.explain.mappings import Made, made
from lab.observe.explain.packet import ACK, SYN
from lab.observe.explain.translator import plain, prefixes
from lab.observe.explain.wiring import Way, addresses, own_addresses, way
from lab.peer.endpoint import Endpoint

_PUNCHES = frozenset(
    {"udp-punch", "tcp-punch", "udp-predict", "tcp-predict", "birthday", "ice", "ice-trickle"}
)


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

    @property
    def connected(self) -> bool:
        return str(self.capture.record.get("outcome")) in ("success", "reversed")


def story(capture: Capture) -> Story:
    """The story of a capture."""
    found = way(capture.plan, capture.local, capture.remote)
    proxies, own = _proxies(capture, found), own_addresses(capture.plan, found)
    told = tuple(
        Told(one, label(one.packet)) for one in journeys(capture) if _ours(one, found, proxies, own)
    )
    local = (found.local, found.above_local)
    remote = (found.remote, found.above_remote)
    tale = Story(
        capture=capture,
        way=found,
        told=told,
        made=made(capture, (one.journey for one in told)),
        local=_side(capture, told, local, remote),
        remote=_side(capture, told, remote, local),
        began_ns=_began(capture, told),
        proven_ns=_proven(capture),
    )
    if capture.technique not in _PUNCHES:
        return tale
    m, n = _roles(tale)
    steps: dict[int, list[tuple[Journey, str]]] = {}
    for number, journey, node in _steps(tale, m, n):
        steps.setdefault(number, []).append((journey, node))
    return replace(tale, steps=steps, roles=(m.name, n.name))


def _ours(journey: Journey, found: Way, proxies: frozenset[str], own: tuple[str, ...]) -> bool:
    """Whether the packet belongs to this attempt: one of the two sent or received it.

    Routers speak up about the packets of the two, and are asked by them; a
    proxy in one speaks to servers for them.  What servers sent to them and did
    not arrive was for one of the `own` addresses.
    """
    ends = {journey.source, journey.end}
    if ends & {found.local, found.remote} or journey.packet.about is not None:
        return True
    if journey.cause and journey.source in found.servers:
        return journey.packet.destination.address in own
    return bool(ends & proxies and ends & set(found.servers))


def _proxies(capture: Capture, found: Way) -> frozenset[str]:
    """The routers on the way that offer a web proxy to one of the two."""
    return frozenset(
        router
        for peer, above in ((found.local, found.above_local), (found.remote, found.above_remote))
        for router in above
        if capture.plan.node(peer).proxy.rpartition(":")[0] in addresses(capture.plan, (router,))
    )


def _side(
    capture: Capture,
    told: tuple[Told, ...],
    one_end: tuple[str, tuple[str, ...]],
    other_end: tuple[str, tuple[str, ...]],
) -> Side:
    """What the peer at one end did; each end is a peer and the routers above it."""
    name, above = one_end
    theirs = set(addresses(capture.plan, (other_end[0], *other_end[1])))
    known = prefixes(capture.plan)
    sent = tuple(
        one
        for one in told
        if one.journey.source == name
        and plain(one.to, known).address in theirs
        and one.label.kind in (Kind.PROBE, Kind.CONNECTION, Kind.OTHER)
    )
    return Side(
        name=name,
        routers=above,
        shown=tuple(
            one.label.mapped
            for one in told
            if one.label.kind is Kind.STUN
            and one.label.mapped
            and one.journey.end == name
            and one.arrived
        ),
        sent=sent,
        opening=tuple(one for one in sent if _opens(one)),
    )


def _opens(one: Told) -> bool:
    flags = one.journey.packet.flags
    if one.label.kind is Kind.CONNECTION:
        return bool(flags & SYN) and not flags & ACK
    return one.label.probe in ("probe", "") and one.label.kind is Kind.PROBE


def _began(capture: Capture, told: tuple[Told, ...]) -> int:
    """When the attempt began: at the order, which comes before the first packet."""
    first = told[0].journey.began_ns if told else 0
    started = capture.record.get("started_at")
    if not isinstance(started, int | float):
        return first
    return min(first, int(started * 1e9)) if first else int(started * 1e9)


def _proven(capture: Capture) -> int:
    started, took = (capture.record.get(key) for key in ("started_at", "time_to_path_s"))
    if isinstance(started, int | float) and isinstance(took, int | float):
        return int((started + took) * 1e9)
    return 0


# --- the four steps -------------------------------------------------------


def _roles(tale: Story) -> tuple[Side, Side]:
    """Who is m and who is n; the caller is m if neither's packets crossed its own NAT."""
    sides = (tale.local, tale.remote)
    first = {
        side.name: next((one.journey.began_ns for one in _crossing(side, other)), None)
        for side, other in (sides, sides[::-1])
    }
    begun = [side for side in sides if first[side.name] is not None]
    n = min(begun, key=lambda side: first[side.name] or 0, default=tale.remote)
    return (tale.remote, tale.local) if n is tale.local else sides


def _crossing(side: Side, other: Side) -> Iterator[Told]:
    """What `side` sent to where `other` is seen from outside, as far as it left its own network."""
    for one in side.opening:
        passed = {stop.node for stop in one.journey.stops if stop.went}
        if one.journey.fate is not Fate.VANISHED and set(side.own_routers(other)) <= passed:
            yield one


def _steps(tale: Story, m: Side, n: Side) -> Iterator[tuple[int, Journey, str]]:
    learned = next(
        (
            one.journey
            for one in tale.told
            if one.label.mapped and one.label.kind is Kind.STUN and one.journey.end == m.name
        ),
        None,
    )
    if learned:
        yield 1, learned, m.name
    telling = "offer" if m is tale.local else "answer"
    heard = [one.journey for one in tale.told if one.label.signal == telling and one.arrived]
    for journey in heard[:2]:
        yield 1, journey, journey.end
    crossing = [one.journey for one in _crossing(n, m)]
    if not crossing:
        return
    fourth = next(
        (
            one.journey
            for one in m.opening
            if one.arrived
            and one.journey.end == n.name
            and one.journey.ended_ns > crossing[0].began_ns
        ),
        None,
    )
    second = _opening(crossing, fourth, prefixes(tale.capture.plan))
    opened = opener(tale, second, n)
    if opened == n.name:
        # Nothing on its side filters, so there is nothing to punch.
        return
    yield 2, second, opened
    refused = next(
        (
            one.journey
            for one in n.opening
            if one.journey.began_ns >= second.began_ns
            and one.journey.fate in (Fate.DROPPED, Fate.REFUSED)
            and one.journey.end in m.routers
        ),
        None,
    )
    if refused:
        yield 3, refused, refused.end
    if fourth:
        yield 4, fourth, opened if fourth.at(opened) else n.name


def _opening(
    crossing: Sequence[Journey], fourth: Journey | None, known: tuple[str, ...]
) -> Journey:
    """Which packet opened the way for `fourth`: the first that seemed to come from its target."""
    if fourth is not None:
        for journey in crossing:
            if plain(journey.final.source, known) == plain(fourth.packet.destination, known):
                return journey
    return crossing[0]


def opener(tale: Story, journey: Journey, side: Side) -> str:
    """The outermost router of `side` that the packet opened, or else only passed.

    The peer's own node if there is none.
    """
    stops = [one.stop for one in tale.made.opened]
    here = [stop.node for stop in journey.stops if any(stop is one for one in stops)]
    passed = [stop.node for stop in journey.stops if stop.translated]
    outwards = tuple(reversed(side.routers))
    order = (*(name for name in outwards if name in here), *(n for n in outwards if n in passed))
    return next(iter(order), side.name)
