"""What routers made of packets: mappings, and the ways in that a packet outward opens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.observe.explain.epochs import Epochs
from lab.observe.explain.events import Capture, Held
from lab.observe.explain.journeys import Journey
from lab.observe.explain.packet import ACK, SYN, Packet
from lab.observe.explain.stops import Stop
from lab.peer.endpoint import Endpoint
from lab.plan.model import Node, NodeKind
from lab.topology.behaviour import Dependence


@dataclass(frozen=True, slots=True)
class Mapped:
    """A NAT gave an inside endpoint an outside one, for a packet at `stop`."""

    node: str
    protocol: str
    inside: Endpoint
    outside: Endpoint
    remote: Endpoint
    """Where the packet went that made it."""
    stop: Stop
    lifetime_s: int = 0
    """What the NAT granted it; 0 if it was gone when the attempt ended."""
    before: bool = False
    """Whether it was there before the attempt began."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A packet went out, so that answers of `remote` to `outside` may come in."""

    node: str
    outside: Endpoint
    remote: Endpoint
    stop: Stop


@dataclass(frozen=True, slots=True)
class Made:
    """Everything that was made, in the order of the packets that made it."""

    mapped: tuple[Mapped, ...]
    opened: tuple[Opened, ...]

    def outside(self, node: str, inside: Endpoint, remote: Endpoint | None = None) -> Mapped | None:
        """The first mapping of `inside` at `node`, to `remote` if it is given."""
        return next(
            (
                one
                for one in self.mapped
                if (one.node, one.inside) == (node, inside) and remote in (None, one.remote)
            ),
            None,
        )


def made(capture: Capture, followed: Iterable[Journey]) -> Made:
    """What the routers of a capture made of its packets."""
    epochs = Epochs(capture)
    routers = [
        {node.name: node for node in plan.nodes if node.kind is NodeKind.ROUTER}
        for plan in capture.plans
    ]
    names = frozenset(name for some in routers for name in some)
    stops = [
        stop for journey in followed for stop in journey.stops if stop.node in names and stop.went
    ]
    stops.sort(key=lambda stop: stop.went_ns)
    # Until something happened to a session, its path was there before.
    undisturbed_ns = capture.happened[0].began_ns if capture.happened else capture.ended_ns
    undisturbed_ns = undisturbed_ns if capture.is_session else 0
    mapped, opened = list[Mapped](), list[Opened]()
    known = set[tuple[str, str, Endpoint, Endpoint]]()
    forgotten = deque(sorted((one.began_ns, one.forgot) for one in capture.happened if one.forgot))
    for stop in stops:
        came, went = stop.came, stop.went
        if came is None or went is None or went.protocol not in ("udp", "tcp"):
            continue
        while forgotten and forgotten[0][0] <= stop.went_ns:
            _, nodes = forgotten.popleft()
            known = {each for each in known if each[0] not in nodes}
        router = routers[epochs.at(stop.went_ns)].get(stop.node)
        if router is None:
            continue
        before = _under_way(went) or stop.went_ns < undisturbed_ns
        outward = came.source != went.source and stop.came_by != router.wan
        key = (stop.node, went.protocol, came.source, went.source)
        if outward and key not in known:
            known.add(key)
            mapped.append(
                Mapped(
                    node=stop.node,
                    protocol=went.protocol,
                    inside=came.source,
                    outside=went.source,
                    remote=went.destination,
                    stop=stop,
                    lifetime_s=_lifetime(capture.held, router, came, went),
                    before=before,
                )
            )
        if _filters(router, went) and stop.went_by == router.wan and stop.came_by != router.wan:
            way = (stop.node, went.protocol, went.source, went.destination)
            if way not in known:
                known.add(way)
                if not before:
                    opened.append(Opened(stop.node, went.source, went.destination, stop))
    return Made(tuple(mapped), tuple(opened))


def _filters(router: Node, packet: Packet) -> bool:
    """Whether `router` lets in only what something inside has asked for."""
    if packet.source.family == 6:
        return bool(router.firewall or router.firewall6)
    if router.firewall:
        return True
    # Whoever is let in by a mapping alone needs no packet to open it.
    return router.nat is not None and router.nat.filtering is not Dependence.ENDPOINT_INDEPENDENT


def _under_way(packet: Packet) -> bool:
    """Whether it belongs to a connection that was there before: a SYN would begin one."""
    return packet.protocol == "tcp" and (not packet.flags & SYN or bool(packet.flags & ACK))


def _lifetime(held: Sequence[Held], router: Node, came: Packet, went: Packet) -> int:
    return max(
        (
            one.timeout_s
            for one in held
            if (one.node, one.protocol, one.external_port)
            == (router.name, went.protocol, went.source.port)
            # The NAT of a NAT64 knows hosts by what stands for them.
            and (one.inside == str(came.source) or router.nat64 is not None)
        ),
        default=0,
    )
