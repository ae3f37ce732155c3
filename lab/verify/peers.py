"""What a STUN client finds inside a peer's own network, beside what the plan adds up to."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from lab.fabric import netns
from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint, parse_list
from lab.peer.stun import classify
from lab.peer.stun.classify import Behaviour, Classifier, Kind, Pace
from lab.plan.model import Node, Plan
from lab.topology.behaviour import Dependence, Verdict
from lab.verify import expect
from lab.verify.report import PeerFinding
from lab.verify.site import delay_out_s, way_out


@dataclass(frozen=True, slots=True)
class Declared:
    """What all that stands between a node and the server amounts to."""

    kind: str
    mapping: str
    filtering: str
    behind: tuple[str, ...]


def server_of(plan: Plan) -> tuple[Node, Endpoint, Endpoint] | None:
    """The lab's STUN server with its first and its other endpoint; None without such a one."""
    for node in plan.nodes:
        if node.program is not None and "stun" in node.program.roles:
            text = dict(node.program.env).get("LAB_STUN", "")
            endpoints = parse_list(text)
            if len(endpoints) == 2:
                return node, endpoints[0], endpoints[1]
    return None


def peers_of(plan: Plan) -> tuple[Node, ...]:
    """The nodes that play a peer, by the built-in program or one of the user's own."""
    return tuple(
        node
        for node in plan.nodes
        if node.program is not None and (not node.program.roles or "peer" in node.program.roles)
    )


def declared(plan: Plan, peer: Node, server: Node, first: Endpoint, other: Endpoint) -> Declared:
    """The class of the most restrictive combination on the way (RFC 4787 in a row)."""
    beyond = {router.name for router in way_out(plan, server.name)}
    way = [peer, *(each for each in way_out(plan, peer.name) if each.name not in beyond)]
    boxes = [node for node in way if node.nat is not None or node.firewall is not None]
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
    kind = expect.kind(str(mapping), str(filtering), translated=bool(nats))
    return Declared(str(kind), str(mapping) if nats else Behaviour.NO_NAT, str(filtering), names)


def measure(plan: Plan, paths: LabPaths, peer: Node) -> PeerFinding | None:
    """Ask the lab's server from inside `peer`; None if the lab has none with two addresses.

    The sockets are on fresh ports of the peer's own network, beside its program.
    """
    found = server_of(plan)
    if found is None:
        return None
    server, first, other = found
    wanted = declared(plan, peer, server, first, other)
    trip = delay_out_s(plan, (peer.name, server.name, *(n.name for n in way_out(plan, peer.name))))
    pace = Pace(interval=0.3 + 1.5 * trip, patience=2.0 + 4 * trip)
    if wanted.kind == Kind.BLOCKED:
        # What must not be answered is given less time.
        pace = Pace(interval=0.15 + 1.5 * trip, patience=0.6 + 3 * trip)
    kind, mapping, filtering = _ask(paths, peer, first, pace)
    return PeerFinding(
        node=peer.name,
        declared=wanted.kind,
        observed=kind,
        mapping=mapping,
        filtering=filtering,
        declared_mapping=wanted.mapping,
        declared_filtering=wanted.filtering,
        behind=wanted.behind,
    )


def _ask(paths: LabPaths, peer: Node, server: Endpoint, pace: Pace) -> tuple[str, str, str]:
    """RFC 3489's class, RFC 5780's mapping and filtering: three sockets side by side."""
    sockets: list[socket.socket] = []
    try:
        with netns.inside(paths.netns(peer.name)):
            for _ in range(3):
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sockets.append(made)
                made.setblocking(False)
                # Connected for a moment, to learn which address packets leave from.
                made.connect(server)
                local = made.getsockname()[0]
                made.close()
                sockets[-1] = made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                made.setblocking(False)
                made.bind((local, 0))
        now = time.monotonic()
        local_ends = [Endpoint(*made.getsockname()[:2]) for made in sockets]
        machines = (
            classify.rfc3489(server, local_ends[0], now, pace),
            classify.mapping(server, local_ends[1], now, pace),
            classify.filtering(server, local_ends[2], now, pace),
        )
        _drive(dict(zip(sockets, machines, strict=True)))
        return (str(machines[0].result), str(machines[1].result), str(machines[2].result))
    except OSError as error:
        return (f"no way out: {error.strerror}",) * 3
    finally:
        for made in sockets:
            made.close()


def _drive(
    machines: dict[socket.socket, Classifier[Kind] | Classifier[Behaviour]],
) -> None:
    """Lend each machine its socket and all of them the clock, until all are done."""
    while not all(machine.done for machine in machines.values()):
        now = time.monotonic()
        for made, machine in machines.items():
            machine.tick(now)
            for datagram in machine.take():
                try:
                    made.sendto(datagram.payload, datagram.destination)
                except OSError:
                    continue  # Refused by a firewall of the host's own, or an ICMP error of before.
        due = [when for each in machines.values() if (when := each.deadline()) is not None]
        if not due:
            continue
        ready, _, _ = select.select(list(machines), [], [], max(min(due) - time.monotonic(), 0))
        for made in ready:
            try:
                data, source = made.recvfrom(2048)
            except OSError:
                continue
            machines[made].receive(data, Endpoint(*source[:2]), time.monotonic())
