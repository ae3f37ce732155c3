"""Techniques `udp-predict`, `tcp-predict` and `birthday`, acted out: ports that are guessed.

A prediction's ports never meet by chance, so what a technique guesses has to
be said here.  A NAT that counts is acted out as such, and peers see its step
with the arithmetic that they use on the Internet (`lab.peer.traversal.steps`),
if the outermost NAT is the one that counts: nobody else uses it meanwhile.
Birthday probing hits sooner or later; what is acted out is whether a hit is of
any use.
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.peer import endpoint as real
from lab.peer.chance import hit, probes_for
from lab.peer.traversal.steps import Forecast, forecast
from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side
from lab.predict.finding import DIRECT, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import TCP, UDP, Arrived, Endpoint, Lost
from lab.predict.peers import Peer
from lab.predict.punching import crossed, found, unprepared
from lab.topology.behaviour import PortPolicy

WINDOW = 4
"""Ports that a peer expects, as `lab.peer.traversal.predict` has it."""
SOCKETS, PACE, PATIENCE_S = 256, 100, 8.7
"""Of birthday probing: as peers do it unless told otherwise, in the 10 s of `lab connect`."""


def udp_predict(world: Map, a: Peer, b: Peer) -> Finding:
    """Both foretell their next mappings, and send to each other's."""
    return _predict("udp-predict", UDP, world, a, b)


def tcp_predict(world: Map, a: Peer, b: Peer) -> Finding:
    """The same with TCP."""
    return _predict("tcp-predict", TCP, world, a, b)


def birthday(world: Map, a: Peer, b: Peer) -> Finding:
    """The hard side opens ports, the easy side hits one, and that may make a path."""
    name = "birthday"
    network = Network(world)
    if missing := _unprepared(network, a, b):
        return Finding(technique=name, possible=False, path="", reason=missing)
    sides = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    shown = []
    for side in sides:
        seen, lost = _learn(network, side, UDP, side.peer.stun_sites[:2])
        if lost is not None:
            return found(name, Exchange(network, *sides), [lost, None])
        side.external[4] = seen[0]
        shown.append(len(set(seen)) > 1)
    if all(shown):
        reason = "the NATs of both give each destination another port: two guesses at once"
        return Finding(technique=name, possible=False, path="", reason=reason)
    if not any(shown):
        caller, callee = sides
        caller.remotes, callee.remotes = callee.candidates, caller.candidates
        return found(name, Exchange(network, caller, callee), [None, None])
    easy, hard = sides if shown[1] else sides[::-1]
    return _hit(name, network, easy, hard)


def _hit(name: str, network: Network, easy: Side, hard: Side) -> Finding:
    """One of the hard side's openings, and a probe that hits it."""
    who, other = hard.peer.name, easy.peer.name
    socket = Side(hard.peer, hard.port + 10)
    exchange = Exchange(network, easy, socket)
    opening = exchange.send(socket, easy, easy.external[4])
    trail = opening.trail
    opened = trail[-1].source if trail else Endpoint(hard.external[4].address, socket.port)
    came = exchange.send(easy, socket, opened)
    answer = exchange.send(socket, easy, came.packet.source) if isinstance(came, Arrived) else came
    if isinstance(answer, Lost):
        reason = f"even a hit is stopped by {answer.at}"
        return Finding(technique=name, possible=False, path="", reason=reason)
    odds = hit(SOCKETS, int(PACE * PATIENCE_S))
    return Finding(
        technique=name,
        possible=True,
        path=DIRECT,
        reason=f"{other} hits one of {SOCKETS} ports of {who} with {probes_for(0.5, SOCKETS)} "
        f"probes as likely as not, and in {PATIENCE_S:.0f} s at {PACE} a second in {odds:.0%} "
        "of the cases",
        by_chance=True,
    )


def _predict(name: str, protocol: str, world: Map, a: Peer, b: Peer) -> Finding:
    network = Network(world)
    if missing := _unprepared(network, a, b):
        return Finding(technique=name, possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    learned: list[Lost | None] = []
    expected = []
    for side in (caller, callee):
        seen, lost = _learn(network, side, protocol, side.peer.stun_sites)
        learned.append(None if seen else lost)
        if seen:
            side.external[4] = seen[0]
        expected.append(_next(network, side, seen))
    caller.remotes = [*expected[1], *_hosts(callee, expected[1])]
    callee.remotes = [*expected[0], *_hosts(caller, expected[0])]
    exchange = Exchange(network, caller, callee, protocol=protocol)
    finding = found(name, exchange, learned)
    if protocol == TCP:
        finding = crossed(finding, exchange)
    if not finding.possible:
        return finding
    steps = [
        f"{side.peer.name}'s NAT counts"
        for side, ports in zip((caller, callee), expected, strict=True)
        if len(ports) > 1
    ]
    return replace(finding, reason=f"{finding.reason} ({', '.join(steps)})") if steps else finding


def _learn(
    network: Network, side: Side, protocol: str, servers: tuple[Endpoint, ...]
) -> tuple[list[Endpoint], Lost | None]:
    """What each server sees, in turn, up to the first that does not answer."""
    seen: list[Endpoint] = []
    for server in servers:
        came = network.send(side.peer.name, protocol, side.port, server)
        if isinstance(came, Lost):
            return seen, came
        at = came.packet.destination
        answer = network.send(came.at, protocol, at.port, came.packet.source, at.address)
        if isinstance(answer, Lost):
            return seen, answer
        seen.append(came.packet.source)
    return seen, None


def _next(network: Network, side: Side, seen: list[Endpoint]) -> list[Endpoint]:
    """Where the side says that its next mappings will be."""
    if not seen:
        return []
    shown = [real.Endpoint(*endpoint) for endpoint in seen]
    what = forecast(shown)
    if what.step and not _counts(network, side):
        # Numbers that nobody can guess, and that look like a row only here.
        what = Forecast(tuple(shown), None)
    return [Endpoint(*endpoint) for endpoint in what.next(WINDOW)]


def _counts(network: Network, side: Side) -> bool:
    """Whether the outermost NAT of a side gives its ports in order."""
    came = network.send(side.peer.name, UDP, side.port, side.peer.stun_sites[0])
    if not came.trail:
        return False
    nat = network.map.nodes[came.trail[-1].at].nat
    return nat is not None and nat.ports.policy is PortPolicy.SEQUENTIAL


def _hosts(side: Side, expected: list[Endpoint]) -> list[Endpoint]:
    hosts = (Endpoint(address, side.port) for address in side.peer.addresses)
    return [endpoint for endpoint in hosts if endpoint not in expected]


def _unprepared(network: Network, a: Peer, b: Peer) -> str:
    if missing := unprepared(network, a, b):
        return missing
    for peer in (a, b):
        if not peer.stun_sites and all(":" in address for address in peer.addresses):
            return (
                f"{peer.name} has IPv6 alone, in which no NAT changes ports: none is to be guessed"
            )
        if len(peer.stun_sites) < 2:
            return f"{peer.name} is told of one STUN endpoint only, and needs two to know its NAT"
    return ""
