"""What a STUN client finds inside a peer's own network, beside what the plan adds up to."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from lab.fabric import netns
from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint, parse_list
from lab.peer.families import Embedding
from lab.peer.stun import classify
from lab.peer.stun.classify import Behaviour, Classifier, Kind, Pace
from lab.plan.model import Node, Plan
from lab.topology.behaviour import Dependence, Verdict
from lab.verify import expect
from lab.verify.report import IPV4, IPV6, NAT64, PeerFinding
from lab.verify.site import addresses_of, delay_out_s, way_out
from lab.verify.site6 import wall_of


@dataclass(frozen=True, slots=True)
class Declared:
    """What all that stands between a node and the server amounts to."""

    kind: str
    mapping: str
    filtering: str
    behind: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """A STUN server in one address family: its first and its other endpoint."""

    node: Node
    first: Endpoint
    other: Endpoint

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.first.family


def servers_of(plan: Plan) -> tuple[Server, ...]:
    """The lab's STUN server in each family in which it has two endpoints."""
    for node in plan.nodes:
        if node.program is not None and "stun" in node.program.roles:
            endpoints = parse_list(dict(node.program.env).get("LAB_STUN", ""))
            found = []
            for family in (4, 6):
                own = [endpoint for endpoint in endpoints if endpoint.family == family]
                if len(own) == 2:
                    found.append(Server(node, *own))
            if found:
                return tuple(found)
    return ()


def peers_of(plan: Plan) -> tuple[Node, ...]:
    """The nodes that play a peer, by the built-in program or one of the user's own."""
    return tuple(
        node
        for node in plan.nodes
        if node.program is not None and (not node.program.roles or "peer" in node.program.roles)
    )


def declared(plan: Plan, peer: Node, server: Server) -> Declared:
    """The class of the most restrictive combination on the way (RFC 4787 in a row)."""
    first, other = server.first, server.other
    beyond = {router.name for router in way_out(plan, server.node.name)}
    way = [peer, *(each for each in way_out(plan, peer.name) if each.name not in beyond)]
    renumbered = server.family == 6 and any(node.nptv6 for node in way)
    if server.family == 6:
        way = [replace(node, nat=None, firewall=wall_of(node)) for node in way]
    boxes = [node for node in way if node.nat or node.firewall or (renumbered and node.nptv6)]
    names = tuple(node.name for node in boxes)
    for node in boxes:
        outbound = expect.outbound_of(node)
        if expect.verdict(outbound, "udp", first.port, first.address) is not Verdict.ACCEPT:
            return Declared(Kind.BLOCKED, Behaviour.BLOCKED, Behaviour.BLOCKED, names)
    nats = [node.nat for node in boxes if node.nat is not None]
    mapping = expect.most_restrictive(nat.mapping for nat in nats)
    filtering = expect.most_restrictive(
        expect.effective_filtering(
            node.nat.filtering if node.nat else Dependence.ENDPOINT_INDEPENDENT,
            node.firewall,
            "udp",
            other.address,
            40000,
        )
        for node in boxes
    )
    # Prefix translation maps each endpoint to one that depends on nothing else (RFC 6296).
    translated = bool(nats) or renumbered
    kind = expect.kind(str(mapping), str(filtering), translated=translated)
    word = str(mapping) if translated else Behaviour.NO_NAT
    return Declared(str(kind), word, str(filtering), names)


def measure(plan: Plan, paths: LabPaths, peer: Node) -> Iterator[PeerFinding]:
    """Ask the lab's server from inside `peer` in each family that both have.

    The sockets are on fresh ports of the peer's own network, beside its program.
    """
    prefix = dict(peer.program.env).get("LAB_NAT64", "") if peer.program else ""
    for server in servers_of(plan):
        if any(addresses_of(peer, port.name, server.family) for port in peer.interfaces):
            yield _measured(plan, paths, peer, server, None)
        elif prefix and server.family == 4:
            yield _measured(plan, paths, peer, server, Embedding(prefix))


def _measured(
    plan: Plan, paths: LabPaths, peer: Node, server: Server, nat64: Embedding | None
) -> PeerFinding:
    wanted = declared(plan, peer, server)
    hops = (peer.name, server.node.name, *(node.name for node in way_out(plan, peer.name)))
    trip = delay_out_s(plan, hops)
    pace = Pace(interval=0.3 + 1.5 * trip, patience=2.0 + 4 * trip)
    if wanted.kind == Kind.BLOCKED:
        # What must not be answered is given less time.
        pace = Pace(interval=0.15 + 1.5 * trip, patience=0.6 + 3 * trip)
    kind, mapping, filtering = _ask(paths, peer, server.first, pace, nat64)
    return PeerFinding(
        family=NAT64 if nat64 else IPV4 if server.family == 4 else IPV6,
        node=peer.name,
        declared=wanted.kind,
        observed=kind,
        mapping=mapping,
        filtering=filtering,
        declared_mapping=wanted.mapping,
        declared_filtering=wanted.filtering,
        behind=wanted.behind,
    )


def _ask(
    paths: LabPaths, peer: Node, server: Endpoint, pace: Pace, nat64: Embedding | None
) -> tuple[str, str, str]:
    """RFC 3489's class, RFC 5780's mapping and filtering: three sockets side by side."""
    sockets: list[socket.socket] = []
    there = nat64.wrap(server) if nat64 else server
    family = socket.AF_INET if there.family == 4 else socket.AF_INET6
    try:
        with netns.inside(paths.netns(peer.name)):
            for _ in range(3):
                made = socket.socket(family, socket.SOCK_DGRAM)
                sockets.append(made)
                made.setblocking(False)
                # Connected for a moment, to learn which address packets leave from.
                made.connect(there)
                local = made.getsockname()[0]
                made.close()
                sockets[-1] = made = socket.socket(family, socket.SOCK_DGRAM)
                made.setblocking(False)
                made.bind((local, 0))
        now = time.monotonic()
        local_ends = [Endpoint(*made.getsockname()[:2]) for made in sockets]
        machines = (
            classify.rfc3489(server, local_ends[0], now, pace),
            classify.mapping(server, local_ends[1], now, pace),
            classify.filtering(server, local_ends[2], now, pace),
        )
        _drive(dict(zip(sockets, machines, strict=True)), nat64)
        return (str(machines[0].result), str(machines[1].result), str(machines[2].result))
    except OSError as error:
        return (f"no way out: {error.strerror}",) * 3
    finally:
        for made in sockets:
            made.close()


def _drive(
    machines: dict[socket.socket, Classifier[Kind] | Classifier[Behaviour]],
    nat64: Embedding | None,
) -> None:
    """Lend each machine its socket and all of them the clock, until all are done.

    The clock stands still while this program oversleeps: so did the server, it may be.
    """
    overslept = 0.0
    while not all(machine.done for machine in machines.values()):
        now = time.monotonic() - overslept
        for made, machine in machines.items():
            machine.tick(now)
            for datagram in machine.take():
                to = datagram.destination
                try:
                    made.sendto(datagram.payload, nat64.wrap(to) if nat64 else to)
                except OSError:
                    continue  # Refused by a firewall of the host's own, or an ICMP error of before.
        due = [when for each in machines.values() if (when := each.deadline()) is not None]
        if not due:
            continue
        seconds, begun = max(min(due) - now, 0), time.monotonic()
        ready, _, _ = select.select(list(machines), [], [], seconds)
        woken = time.monotonic()
        overslept += max(woken - begun - seconds, 0)
        for made in ready:
            try:
                data, source = made.recvfrom(2048)
            except OSError:
                continue
            seen = Endpoint(*source[:2])
            seen = nat64.unwrap(seen) if nat64 else seen
            machines[made].receive(data, seen, woken - overslept)
