"""Each packet followed through the network, from who sent it to where it ended.

Inside a node, a packet that came in by one interface is the next one with the
same identity (`Packet.identity`) that goes out by another; on a wire, what
goes out at one end is the next with that identity to come in at another.  What
went in and neither came out nor was dropped by a rule has arrived there.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.observe.explain.endings import Endings
from lab.observe.explain.epochs import Epochs
from lab.observe.explain.events import Capture
from lab.observe.explain.fates import Fate
from lab.observe.explain.packet import Packet, parse
from lab.observe.explain.stops import Stop, decide
from lab.observe.explain.translator import joined
from lab.observe.explain.wiring import Place, wires


@dataclass(slots=True)
class Journey:
    """One packet, from where it was first seen to where it ended."""

    stops: list[Stop] = field(default_factory=list)
    fate: Fate = Fate.ARRIVED
    cause: str = ""
    """What ended it, in words; empty where it arrived."""
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
    decide(stops, capture)
    found, ends = [], Endings(capture)
    for first in [stop for stop in stops if id(stop) not in follows.values_seen]:
        journey = Journey([first], branches=0)
        while following := follows.next(journey.stops[-1]):
            # Of the copies of a multicast, the one for the other peer is meant.
            meant = (stop for stop in following if stop.node in (capture.local, capture.remote))
            journey.stops.append(next(meant, following[0]))
            journey.branches += len(following) - 1
        journey.stops = joined(journey.stops)
        journey.fate, journey.cause = ends.of(journey.stops[-1])
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
    epochs, every = Epochs(capture), [wires(plan) for plan in capture.plans]
    under_way: dict[tuple[Place, tuple[object, ...]], deque[Stop]] = defaultdict(deque)
    inside: dict[tuple[str, tuple[object, ...]], deque[Stop]] = defaultdict(deque)
    routers = {node.name for plan in capture.plans for node in plan.nodes if node.forwarding}
    stops, links = [], _Links()
    for sighting in capture.sightings:
        packet = parse(sighting.data)
        if packet is None or _neighbourly(packet):
            continue
        place, key = (sighting.node, sighting.interface), packet.identity
        if not any(place in on_wire for on_wire in every):
            # A device that a link's carrier put beside the node's own interface.
            continue
        beside = dict.fromkeys(
            other
            for index in epochs.possible(sighting.at_ns)
            for other in every[index].get(place, ())
        )
        if sighting.outgoing:
            # A router sends on at once, so what came last is it; a host sends nothing on.
            came = inside[sighting.node, key] if sighting.node in routers else deque[Stop]()
            stop = _take(came, packet, newest=True)
            if stop is None:
                stop = Stop(sighting.node)
                stops.append(stop)
            stop.went, stop.went_ns, stop.went_by = packet, sighting.at_ns, sighting.interface
            for other in beside:
                under_way[other, key].append(stop)
        else:
            stop = Stop(sighting.node, packet, sighting.at_ns, sighting.interface)
            stops.append(stop)
            inside[sighting.node, key].append(stop)
            before = _take(under_way[place, key], packet, newest=False)
            if before is not None:
                links.add(before, stop)
                if not packet.many:
                    _arrived(under_way, every, before, key)
    return stops, links


def _arrived(
    under_way: dict[tuple[Place, tuple[object, ...]], deque[Stop]],
    every: Sequence[dict[Place, tuple[Place, ...]]],
    stop: Stop,
    key: tuple[object, ...],
) -> None:
    """A packet for one host that came in at one end of a segment comes in at no other."""
    for on_wire in every:
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
