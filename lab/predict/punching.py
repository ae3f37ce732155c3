"""Techniques `udp-punch`, `tcp-punch` and `reversal`, acted out.

`lab.predict.techniques` says how nested NATs compose, and why one direction
is enough.
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.peer.chance import crossing
from lab.predict import reasons
from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side, learn, signalling
from lab.predict.finding import DIRECT, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import TCP, UDP, Lost
from lab.predict.peers import Peer
from lab.topology.behaviour import Dependence, Unsolicited

PAUSE_S, PATIENCE_S = 0.075, 4.0
"""Of TCP punching: the mean pause after a refusal, and how long a peer tries, at least."""
LIKELY = 0.99
"""What comes about more often than this is no luck."""


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
    exchange = Exchange(network, caller, callee, protocol=TCP)
    return crossed(found("tcp-punch", exchange, learned), exchange)


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
            by_chance=network.by_chance,
        )
    reason = _why_not(exchange, learned)
    return Finding(technique=technique, possible=False, path="", reason=reason)


def crossed(finding: Finding, exchange: Exchange) -> Finding:
    """The finding with what refusals make of it: where both NATs refuse, two SYNs have to cross.

    If only one does, the SYN that the other drops stays open for the next.
    """
    if exchange.path is None:
        return finding
    world = exchange.network.map
    refusing = [
        [at for at in chain if _refuses(world, at)]
        for chain in ([step.at for step in exchange.path.trail], exchange.path.entered)
    ]
    if not all(refusing):
        return finding
    near, far = refusing[0][-1], refusing[1][0]
    delay_s = world.uplink_s(near) + world.uplink_s(far)
    chance = crossing(delay_s, PAUSE_S, PATIENCE_S)
    how = f"within {PATIENCE_S:.0f} s they do so {chance:.0%} of the time"
    if chance > LIKELY:
        how = f"with {delay_s * 1000:.0f} ms between them they soon do"
    reason = f"{finding.reason} ({near} and {far} refuse early SYNs, so two have to cross: {how})"
    return replace(finding, reason=reason, by_chance=finding.by_chance or chance <= LIKELY)


def _refuses(world: Map, at: str) -> bool:
    """Whether a NAT ends connects that come too early."""
    nat = world.nodes[at].nat
    return (
        nat is not None
        and nat.unsolicited in (Unsolicited.RST, Unsolicited.REJECT)
        and nat.filtering is not Dependence.ENDPOINT_INDEPENDENT
    )


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
