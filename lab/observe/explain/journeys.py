"""Each packet followed through the network, from who sent it to where it ended.

Inside a node, a packet that came in by one interface is the next one with the
same identity (`Packet.identity`) that goes out by another; on a wire, what
goes out at one end is the next with that identity to come in at another.  What
went in and neither came out nor was dropped by a rule has arrived there.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lab.observe.explain.events import Capture, Decision, Rule
from lab.observe.explain.packet import Packet, parse
from lab.observe.explain.wiring import Place, wires
from lab.peer.endpoint import Endpoint


class Fate(StrEnum):
    """How a packet's way ended."""

    ARRIVED = "arrived"
    DROPPED = "dropped"
    """A rule of the last node did it."""
    REFUSED = "refused"
    """As dropped, and the sender was told."""
    LOST = "lost"
    """It left one end of a link and did not come in at the other."""
    VANISHED = "vanished"
    """It came into a node that is not its destination, and no rule dropped it."""


@dataclass(slots=True)
class Stop:
    """A packet at one node: as it came in, as it went out, and what rules said to it."""

    node: str
    came: Packet | None = None
    """None where it began."""
    came_ns: int = 0
    came_by: str = ""
    went: Packet | None = None
    """None where it ended."""
    went_ns: int = 0
    went_by: str = ""
    decisions: tuple[Decision, ...] = ()
    dropped_by: Rule | None = None
    led_by: Rule | None = None
    """The rule that sent it to where it was dropped."""

    @property
    def packet(self) -> Packet:
        """As it was seen here first."""
        packet = self.came or self.went
        assert packet is not None  # noqa: S101 - a stop is made of a sighting
        return packet

    @property
    def first_ns(self) -> int:
        return self.came_ns if self.came else self.went_ns

    @property
    def translated(self) -> bool:
        """Whether its addresses or ports changed here."""
        return self.came is not None and self.went is not None and self.came.flow != self.went.flow

    @property
    def turned_to(self) -> Endpoint | None:
        """The destination that it was given here; None if it kept its own."""
        if self.came is None or self.went is None:
            return None
        changed = self.went.destination != self.came.destination
        return self.went.destination if changed else None

    @property
    def reason(self) -> str:
        """Why it was dropped here, in the words of the rules; empty if it was not."""
        for rule in (self.dropped_by, self.led_by):
            if rule is not None and rule.comment:
                return rule.comment
        return self.dropped_by.text if self.dropped_by else ""


@dataclass(slots=True)
class Journey:
    """One packet, from where it was first seen to where it ended."""

    stops: list[Stop] = field(default_factory=list)
    fate: Fate = Fate.ARRIVED
    branches: int = 0
    """How many more copies of a multicast there were."""

    @property
    def packet(self) -> Packet:
        """As it was sent."""
        return self.stops[0].packet

    @property
    def final(self) -> Packet:
        """As it was at its end."""
        last = self.stops[-1]
        return last.came or last.packet

    @property
    def began_ns(self) -> int:
        return self.stops[0].first_ns

    @property
    def ended_ns(self) -> int:
        last = self.stops[-1]
        return last.came_ns or last.went_ns

    @property
    def source(self) -> str:
        return self.stops[0].node

    @property
    def end(self) -> str:
        """The node at which it ended, or behind which it was lost."""
        return self.stops[-1].node

    def at(self, node: str) -> Stop | None:
        return next((stop for stop in self.stops if stop.node == node), None)


def journeys(capture: Capture) -> list[Journey]:
    """The journeys of all packets of a capture, in the order in which they began."""
    stops, follows = _stops(capture)
    _decide(stops, capture)
    found = []
    for first in [stop for stop in stops if id(stop) not in follows.values_seen]:
        journey = Journey([first], branches=0)
        while following := follows.next(journey.stops[-1]):
            journey.stops.append(following[0])
            journey.branches += len(following) - 1
        journey.fate = _fate(journey, capture)
        found.append(journey)
    found.sort(key=lambda journey: journey.began_ns)
    return found


class _Links:
    """Which stops follow which."""

    def __init__(self) -> None:
        self._next: dict[int, list[Stop]] = defaultdict(list)
        self.values_seen: set[int] = set()

    def add(self, before: Stop, after: Stop) -> None:
        self._next[id(before)].append(after)
        self.values_seen.add(id(after))

    def next(self, stop: Stop) -> list[Stop]:
        return self._next.get(id(stop), [])


def _stops(capture: Capture) -> tuple[list[Stop], _Links]:
    """All stops in order of time, and how they follow one another."""
    on_wire = wires(capture.plan)
    under_way: dict[tuple[Place, tuple[object, ...]], deque[Stop]] = defaultdict(deque)
    inside: dict[tuple[str, tuple[object, ...]], deque[Stop]] = defaultdict(deque)
    routers = {node.name for node in capture.plan.nodes if node.forwarding}
    stops, links = [], _Links()
    for sighting in capture.sightings:
        packet = parse(sighting.data)
        if packet is None or _neighbourly(packet):
            continue
        place, key = (sighting.node, sighting.interface), packet.identity
        if sighting.outgoing:
            # A router sends on at once, so what came last is it; a host sends nothing on.
            came = inside[sighting.node, key] if sighting.node in routers else deque[Stop]()
            stop = _take(came, packet, newest=True)
            if stop is None:
                stop = Stop(sighting.node)
                stops.append(stop)
            stop.went, stop.went_ns, stop.went_by = packet, sighting.at_ns, sighting.interface
            for other in on_wire.get(place, ()):
                under_way[other, key].append(stop)
        else:
            stop = Stop(sighting.node, packet, sighting.at_ns, sighting.interface)
            stops.append(stop)
            inside[sighting.node, key].append(stop)
            before = _take(under_way[place, key], packet, newest=False)
            if before is not None:
                links.add(before, stop)
                if not packet.many:
                    _arrived(under_way, on_wire, before, key)
    return stops, links


def _arrived(
    under_way: dict[tuple[Place, tuple[object, ...]], deque[Stop]],
    on_wire: dict[Place, tuple[Place, ...]],
    stop: Stop,
    key: tuple[object, ...],
) -> None:
    """A packet for one host that came in at one end of a segment comes in at no other."""
    for other in on_wire.get((stop.node, stop.went_by), ()):
        queue = under_way[other, key]
        if stop in queue:
            queue.remove(stop)


def _take(queue: deque[Stop], packet: Packet, *, newest: bool) -> Stop | None:
    """The stop in `queue` at which `packet` was last, taken out of it.

    Packets that say the same are told apart by IPv4's identification, which
    IPv6 has not; there the newest or the oldest is meant.
    """
    for stop in reversed(queue) if newest else queue:
        last = stop.went or stop.packet
        if not (last.number and packet.number) or last.number == packet.number:
            queue.remove(stop)
            return stop
    return None


def _neighbourly(packet: Packet) -> bool:
    """Neighbour and router discovery: how hosts find one another on a wire."""
    return packet.protocol == "icmp6" and 130 <= packet.icmp[0] <= 143


# --- what rules said ------------------------------------------------------


def _decide(stops: list[Stop], capture: Capture) -> None:
    """Give each stop the decisions about its packet; a packet that rules kept at home appears."""
    words = {(rule.node, rule.table, rule.handle): rule for rule in capture.rules}
    waiting: dict[tuple[str, bytes], deque[Stop]] = defaultdict(deque)
    for stop, data in _headers(stops, capture):
        waiting[stop.node, _known(data)].append(stop)
    for said in _packets(capture.decisions):
        first, last = said[0], said[-1]
        packet = parse(first.header)
        if packet is None:
            continue
        queue = waiting.get((first.node, _known(first.header)))
        dropped = last.verdict == "drop"
        if queue:
            stop = queue.popleft()
        elif dropped and first.chain == _OUTPUT:
            stop = Stop(first.node, went=packet, went_ns=first.at_ns)
            stops.append(stop)
        else:
            continue
        stop.decisions = tuple(said[1:])
        if dropped:
            policy = Rule(last.node, last.table, last.chain, last.handle, f"policy of {last.chain}")
            stop.dropped_by = words.get((last.node, last.table, last.handle), policy)
            jumps = [one for one in said[1:-1] if one.verdict in ("jump", "goto")]
            if jumps and jumps[-1].table == last.table:
                stop.led_by = words.get((last.node, jumps[-1].table, jumps[-1].handle))


_OUTPUT = "output"
"""The observer's chain for what a node sends itself."""


def _known(data: bytes) -> bytes:
    """By which part of a packet a decision about it is recognised.

    That is the IP header, and 8 bytes of the next, but for the checksum of
    UDP, which may be computed last of all.
    """
    head, protocol = (40, data[6]) if data[0] >> 4 == 6 else ((data[0] & 0xF) * 4, data[9])
    return data[: head + (6 if protocol == _UDP else 8)]


_UDP = 17


def _headers(stops: Iterable[Stop], capture: Capture) -> Iterator[tuple[Stop, bytes]]:
    """Each stop's packet as rules meet it first: as it comes in, or as it is sent."""
    raw = {
        (one.node, one.interface, one.at_ns, one.outgoing): one.data for one in capture.sightings
    }
    for stop in stops:
        if stop.came:
            yield stop, raw[stop.node, stop.came_by, stop.came_ns, False]
        else:
            yield stop, raw[stop.node, stop.went_by, stop.went_ns, True]


def _packets(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """The decisions about each packet; the first of each is where the observer met it."""
    current: dict[tuple[str, int], list[Decision]] = {}
    order: list[list[Decision]] = []
    for decision in decisions:
        key = (decision.node, decision.packet)
        if decision.table.endswith(" lab_explain"):
            current[key] = [decision]
            order.append(current[key])
        elif key in current:
            current[key].append(decision)
    return iter(order)


# --- how it ended ---------------------------------------------------------


def _fate(journey: Journey, capture: Capture) -> Fate:
    last = journey.stops[-1]
    if last.dropped_by is not None:
        refuses = "REJECT" in last.dropped_by.text or "reject" in last.dropped_by.text
        return Fate.REFUSED if refuses else Fate.DROPPED
    if last.went is not None:
        return Fate.LOST
    packet = last.packet
    try:
        node = capture.plan.node(last.node)
    except KeyError:
        return Fate.ARRIVED
    addresses = {
        address.partition("/")[0]
        for interface in node.interfaces
        for address in interface.addresses
    }
    here = packet.destination.address in addresses or packet.many
    return Fate.ARRIVED if here or not node.forwarding else Fate.VANISHED
