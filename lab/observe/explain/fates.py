"""How a packet's way ended, and by what: a rule, a route that is not there, or a link."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum

from lab.observe.explain.events import Capture, Missing
from lab.observe.explain.stops import Stop
from lab.observe.explain.translator import prefixes, refusal
from lab.observe.explain.wiring import Place
from lab.plan import words
from lab.plan.attachment import upper_end
from lab.plan.model import End, Link, Node, NodeKind, Plan
from lab.plan.names import NAT64, segment_owner
from lab.topology.behaviour import Hairpin
from lab.topology.character import Backend, Impairment


class Fate(StrEnum):
    """How a packet's way ended."""

    ARRIVED = "arrived"
    DROPPED = "dropped"
    """A rule of the last node did it."""
    REFUSED = "refused"
    """As dropped, and the sender was told."""
    LOST = "lost"
    """A link did not carry it to its other end."""
    UNDER_WAY = "under-way"
    """It was on a link that takes its time when the recording ended."""
    VANISHED = "vanished"
    """It came into a node that is not its destination and knows no way for it."""
    UNSEEN = "unseen"
    """It came into a router, and what the rules said to it was not seen."""


_BY_ITS_OUTSIDE = "nor from the LAN by the outside"
"""A NAT's rule for packets from inside to its own outside that no mapping leads back in."""
_FORWARD = "FORWARD"
"""The chain of rules for what a node passes on."""
_SLACK_NS = 20_000_000
"""How late a link may deliver."""
_QUEUE_NS = 300_000_000
"""How long a packet may wait before a transmitter, roughly."""


class Ends:
    """Says of the last stops of packets why they were the last, as long as `plan` is in force."""

    def __init__(self, capture: Capture, plan: Plan) -> None:
        self._capture = capture
        self._plan = plan
        self._nodes = {node.name: node for node in plan.nodes}
        self._links = _by_place(plan)
        self._missing = {(one.link, one.up): one for one in capture.missing}
        self._prefixes = prefixes(plan)
        self._taken = {
            address.partition("/")[0]
            for node in plan.nodes
            for interface in node.interfaces
            for address in interface.addresses
        }

    def of(self, last: Stop) -> tuple[Fate, str]:
        """The fate of the packet whose last stop is `last`, and the cause in words."""
        if last.dropped_by is not None:
            return self._dropped(last)
        if last.went is not None:
            return self._left(last)
        node = self._nodes.get(last.node)
        packet = last.packet
        if node is None:
            return Fate.ARRIVED, ""
        unheard = node.name in self._capture.untraced or any(
            text.endswith(f" at {node.name}") for text in self._capture.lost
        )
        if unheard and not last.traced:
            return Fate.UNSEEN, "what rules said is not known"
        if any(decision.chain == _FORWARD for decision in last.decisions):
            # It waits for a host that no longer answers to ARP.
            return Fate.VANISHED, f"the host that {node.name} passes it on to is gone"
        here = packet.many or packet.destination.address in _own(node)
        if here or not node.forwarding:
            return Fate.ARRIVED, ""
        return self._stayed(last, node)

    def way_to(self, last: Stop) -> tuple[Link, Impairment] | None:
        """The link that the packet left by, and what it does that way; None if it is not there."""
        found = self._links.get((last.node, last.went_by))
        return (found[0], _way(found[0], up=found[1])) if found else None

    def _dropped(self, last: Stop) -> tuple[Fate, str]:
        rule = last.dropped_by
        refuses = rule is not None and "reject" in rule.text.lower()
        cause, node = last.reason, self._nodes.get(last.node)
        if cause == "firewall" and node is not None and (node.firewall or node.firewall6):
            filtering = node.firewall or node.firewall6
            assert filtering is not None  # noqa: S101 - one of the two is there
            cause = f"firewall: {words.firewall(filtering)}"
        elif cause == _BY_ITS_OUTSIDE and node is not None and _turns_nothing_back(node):
            cause = "no hairpinning: it turns no packet back inside"
        return Fate.REFUSED if refuses else Fate.DROPPED, cause

    # --- it stayed in a router, and no rule dropped it --------------------------

    def _stayed(self, last: Stop, node: Node) -> tuple[Fate, str]:
        target = last.packet.destination.address
        name = "the internet" if node.kind is NodeKind.INTERNET else node.name
        if last.packet.ttl <= 1:
            return Fate.VANISHED, f"its hop limit was used up at {name}"
        interface = leads(node, target)
        if interface is None:
            return Fate.VANISHED, f"{name} knows no way to {target}"
        found = self._links.get((node.name, interface))
        if found is not None:
            # What a queue or netem drops is not seen to leave.
            link, up = found
            way = link.a_to_b if up else link.b_to_a
            carried = link.backend is Backend.KERNEL and (way.lossy or way.limited)
            if link.down or carried:
                return Fate.LOST, self._on(link, up=up)
        if target not in self._taken:
            return Fate.VANISHED, f"nobody behind {name} has the address {target}"
        return Fate.VANISHED, f"{name} did not pass it on"

    # --- it left, and did not come in anywhere ------------------------------------

    def _left(self, last: Stop) -> tuple[Fate, str]:
        if last.went_by == NAT64:
            return Fate.VANISHED, refusal(last, self._prefixes)
        found = self._links.get((last.node, last.went_by))
        if found is None:
            return Fate.LOST, f"lost behind {last.node}"
        link, up = found
        target = (last.went or last.packet).destination.address
        ends = (link.a.node, link.b.node)
        if (
            target not in self._taken
            and not (last.went or last.packet).many
            and any(self._is_segment(end) for end in ends)
        ):
            return Fate.VANISHED, f"nobody behind {last.node} has the address {target}"
        links = [(link, up), *self._beyond(link, last)]
        for one, way in links:
            if one.down:
                return Fate.LOST, self._on(one, up=way)
        if partition := self._fenced(link):
            return Fate.LOST, partition
        if self._travelling(last, [_way(one, up=up) for one, up in links]):
            return Fate.UNDER_WAY, "still on its way when the recording ended"
        lossy = [(one, up) for one, up in links if _way(one, up=up).lossy]
        limited = [(one, up) for one, up in links if _way(one, up=up).limited]
        one, way = next(iter((*lossy, *limited)), (link, up))
        return Fate.LOST, self._on(one, up=way)

    def _beyond(self, link: Link, last: Stop) -> Iterator[tuple[Link, bool]]:
        """The links by which a shared segment carries on to the destination, or to its router."""
        segment = next((e.node for e in (link.a, link.b) if self._is_segment(e.node)), "")
        target = (last.went or last.packet).destination.address
        ends = [end for end in (link.a, link.b, *self._ends(segment)) if end.node != segment]
        holders = [end for end in ends if target in _own(self._nodes[end.node])]
        owner = [end for end in ends if end.node == segment_owner(segment)]
        for end in holders or owner:
            found = self._links.get((end.node, end.interface))
            if segment and found is not None and found[0] is not link:
                yield found[0], not found[1]

    def _ends(self, segment: str) -> Iterator[End]:
        for link in self._plan.links if segment else ():
            if segment in (link.a.node, link.b.node):
                yield from (link.a, link.b)

    def _is_segment(self, name: str) -> bool:
        return self._nodes[name].kind is NodeKind.SEGMENT

    def _fenced(self, link: Link) -> str:
        """The partition that stands in the segment to which `link` leads; empty if none does."""
        for end in (link.a, link.b):
            for fence in self._nodes[end.node].fences if self._is_segment(end.node) else ():
                if end.interface in (*fence.ports, *fence.others):
                    return fence.partition or "a partition"
        return ""

    def _travelling(self, last: Stop, ways: list[Impairment]) -> bool:
        """Whether a packet that left then may still have been on these links in the end."""
        ended = self._capture.ended_ns
        return bool(ended) and ended - last.went_ns < sum(map(takes_ns, ways), _SLACK_NS)

    def _on(self, link: Link, *, up: bool) -> str:
        """That it was lost on `link`, and by which of its qualities."""
        name = f"{link.a.node}\N{EM DASH}{upper_end(link)}"
        if link.down:
            return f"lost on the link {name}, which is cut"
        way = _way(link, up=up)
        said = self._missing.get((link.name, up), Missing(link.name, up))
        chance = f"by chance ({words.losses(way)} declared)" if way.lossy else ""
        full = f"by its full queue ({words.rate(way.rate_bit)})" if way.rate_bit else ""
        full = full or ("by its full queue" if way.limited else "")
        if said.lost and not said.full:
            full = ""
        elif said.full and not said.lost:
            chance = ""
        causes = " or ".join(filter(None, (chance, full)))
        return f"lost on the link {name} {causes}".rstrip()


def takes_ns(way: Impairment) -> int:
    """How long a packet may be on a link that does so, roughly, at most."""
    waits = _QUEUE_NS if way.limited else 0
    return 1000 * (way.delay_us + 4 * way.jitter_us) + waits


def leads(node: Node, address: str) -> str | None:
    """The interface by which `node` sends what goes to `address`; None if it knows no way."""
    target = ipaddress.ip_address(address)
    best, found = -1, None
    for interface in node.interfaces:
        for own in interface.addresses:
            network = ipaddress.ip_interface(own).network
            if target in network and network.prefixlen > best:
                best, found = network.prefixlen, interface.name
    for route in node.routes:
        network = ipaddress.ip_network(route.destination)
        if network.version == target.version and target in network and network.prefixlen > best:
            best, found = network.prefixlen, route.interface or _towards(node, route.gateway)
    return found or None


def _towards(node: Node, gateway: str) -> str:
    """The interface in whose subnet `gateway` is; empty if there is none."""
    if not gateway:
        return ""
    for interface in node.interfaces:
        for own in interface.addresses:
            if ipaddress.ip_address(gateway) in ipaddress.ip_interface(own).network:
                return interface.name
    return ""


def _way(link: Link, *, up: bool) -> Impairment:
    return link.a_to_b if up else link.b_to_a


def _own(node: Node) -> set[str]:
    return {
        address.partition("/")[0]
        for interface in node.interfaces
        for address in interface.addresses
    }


def _turns_nothing_back(node: Node) -> bool:
    return node.nat is not None and node.nat.hairpin is Hairpin.OFF


def _by_place(plan: Plan) -> dict[Place, tuple[Link, bool]]:
    """The link at each interface, and whether what leaves there goes up, from `a` to `b`."""
    found: dict[Place, tuple[Link, bool]] = defaultdict()
    for link in plan.links:
        found[link.a.node, link.a.interface] = (link, True)
        found[link.b.node, link.b.interface] = (link, False)
    return found
