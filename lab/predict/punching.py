"""Techniques `udp-punch`, `tcp-punch` and `reversal`, acted out.

`lab.predict.techniques` says how nested NATs compose, and why one direction
is enough.
"""

from __future__ import annotations

from lab.predict import reasons
from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side, learn, signalling
from lab.predict.finding import DIRECT, Finding
from lab.predict.network import Map, Network
from lab.predict.packet import TCP, UDP, Lost
from lab.predict.peers import Peer
from lab.topology.behaviour import Unsolicited


def udp_punch(world: Map, a: Peer, b: Peer) -> Finding:
    """Both learn their external endpoint, and send to each other's."""
    network = Network(world)
    if missing := unprepared(network, a, b):
        return Finding(technique="udp-punch", possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    learned = [learn(network, caller)]
    callee.remotes = caller.candidates
    exchange = Exchange(network, caller, callee)
    exchange.run()  # what comes before the answer: the callee's probes
    learned.append(learn(network, callee))
    caller.remotes += [c for c in callee.candidates if c not in caller.remotes]
    return found("udp-punch", exchange, learned)


def tcp_punch(world: Map, a: Peer, b: Peer) -> Finding:
    """The same with one TCP port on each side, and nothing sent before both have learned."""
    network = Network(world)
    if missing := unprepared(network, a, b):
        return Finding(technique="tcp-punch", possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    learned = [learn(network, side, TCP) for side in (caller, callee)]
    caller.remotes, callee.remotes = callee.candidates, caller.candidates
    return found("tcp-punch", Exchange(network, caller, callee, protocol=TCP), learned)


def reversal(world: Map, a: Peer, b: Peer) -> Finding:
    """The callee connects to the caller, which sends nothing before: over TCP, or over UDP."""
    network = Network(world)
    if missing := signalling(network, a, b):
        return Finding(technique="reversal", possible=False, path="", reason=missing)
    why: list[str] = []
    for protocol in (TCP, UDP):
        network = Network(world)
        asked, caller = Side(b, CALLEE_PORT), Side(a, CALLER_PORT, active=False)
        learn(network, caller, protocol)
        asked.remotes = caller.candidates
        exchange = Exchange(network, asked, caller, protocol=protocol)
        if exchange.run() and exchange.path:
            at = exchange.path.packet.destination.address
            return Finding(
                technique="reversal",
                possible=True,
                path=DIRECT,
                reason=f"{b.name} reaches {a.name} at {at}",
                by_chance=network.by_chance,
            )
        why += [
            reasons.of_loss(network, came, b.name, a.name)
            for remote in caller.candidates
            if isinstance(came := exchange.send(asked, caller, remote), Lost)
        ]
    reason = "; ".join(dict.fromkeys(why)) or f"no answer of {a.name} comes back"
    return Finding(technique="reversal", possible=False, path="", reason=reason)


def unprepared(network: Network, a: Peer, b: Peer) -> str:
    """Why the two can't even begin: no rendezvous, or no STUN server; empty if they can."""
    if missing := signalling(network, a, b):
        return missing
    deaf = [peer.name for peer in (a, b) if not peer.stun]
    return f"{deaf[0]} is told of no STUN server" if deaf else ""


def found(technique: str, exchange: Exchange, learned: list[Lost | None]) -> Finding:
    """Let two sides probe each other, and say what comes of it."""
    network, names = exchange.network, (exchange.caller.peer.name, exchange.callee.peer.name)
    if exchange.run() and exchange.path:
        return Finding(
            technique=technique,
            possible=True,
            path=DIRECT,
            reason=reasons.of_success(network, exchange.path, names),
            by_chance=network.by_chance or _resets(exchange),
        )
    reason = _why_not(exchange, learned)
    return Finding(technique=technique, possible=False, path="", reason=reason)


def _resets(exchange: Exchange) -> bool:
    """Whether a NAT on the way ends connects that come too early, so that SYNs have to cross."""
    if exchange.protocol != TCP:
        return False
    nats = (box.node.nat for box in exchange.network.boxes.values())
    return any(nat and nat.unsolicited in (Unsolicited.RST, Unsolicited.REJECT) for nat in nats)


def _why_not(exchange: Exchange, learned: list[Lost | None]) -> str:
    sides = exchange.caller, exchange.callee
    untold = [
        f"{side.peer.name} learns no external endpoint, as "
        + reasons.of_loss(exchange.network, lost, side.peer.name, "the STUN server")
        for side, lost in zip(sides, learned, strict=True)
        if lost
    ]
    if untold:
        return "; ".join(untold)
    why = []
    shared = sorted(exchange.caller.external.keys() & exchange.callee.external.keys())
    for family in shared:
        for one, other in (sides, sides[::-1]):
            there, back = other.external[family], one.external[family]
            came = exchange.send(one, other, there)
            if isinstance(came, Lost):
                opener = exchange.send(other, one, back)
                names = one.peer.name, other.peer.name
                why.append(reasons.of_punch(exchange.network, came, opener, back, names))
    if not shared:
        a, b = (side.peer.name for side in sides)
        why = [f"{a} and {b} have no address family in common"]
    first, *rest = dict.fromkeys(why) or [f"{exchange.callee.peer.name} is not heard"]
    return "; and back, ".join((first, *rest))
