"""Why a packet ends where it ends, in words that name the routers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.plan.model import Node
from lab.predict.network import Network
from lab.predict.packet import UDP, Arrived, Endpoint, Lost, Packet, Step, Why
from lab.topology.behaviour import Dependence

_FILTERS = {
    Dependence.ENDPOINT_INDEPENDENT: "admits everybody to its mappings",
    Dependence.ADDRESS_DEPENDENT: "filters by address",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "filters by address and port",
}
_EACH = {
    Dependence.ADDRESS_DEPENDENT: "address",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "destination",
}


def of_loss(network: Network, lost: Lost, sender: str, receiver: str) -> str:
    """What stopped a packet that nobody had to prepare for."""
    packet, at = lost.packet, lost.at
    match lost.why:
        case Why.FILTERED | Why.UNMAPPED | Why.UNTRANSLATED:
            return f"{at} admits nothing from outside that {receiver} has not asked for"
        case Why.NO_HAIRPIN:
            return f"{at} does not turn packets around (hairpin: off), and both are behind it"
        case Why.OUTBOUND:
            return f"{of_firewall(sender, at)} lets {_kind(packet)} out"
        case Why.INBOUND:
            return f"{of_firewall(receiver, at)} lets {_kind(packet)} in that is not an answer"
        case Why.CAPTIVE:
            return f"{at} holds {sender} back until it has accepted the page of its portal"
        case Why.STRANGER:
            return f"{packet.destination.address} is {_whose(at, sender)} on the side of {sender}"
        case Why.NO_ROUTE:
            return f"nothing leads from {sender} to {packet.destination.address}"


def of_punch(
    network: Network,
    lost: Lost,
    opener: Arrived | Lost | None,
    expected: Endpoint | None,
    names: tuple[str, str],
) -> str:
    """What stopped a punch from `names[0]` to the endpoint that `names[1]` learned.

    `opener` is what became of the packet by which the receiver opened its own
    side, and `expected` is where the receiver sent it.
    """
    sender, receiver = names
    if lost.why is not Why.FILTERED or opener is None:
        return of_loss(network, lost, sender, receiver)
    filters = _FILTERS[_dependence(network, lost.at, "filtering")]
    way = _until(opener.trail, lost.at)
    if way is None:
        if isinstance(opener, Lost):
            stopped = of_loss(network, opener, receiver, sender)
            return f"{lost.at} {filters}, and {receiver} can't open it: {stopped}"
        return f"{lost.at} {filters}, and {receiver} does not pass it on the way to {sender}"
    if way[-1].source.port != lost.packet.destination.port:
        so = f"what {receiver} opens is another port than the one that STUN showed"
        return _because(network, lost.at, filters, way, so) or f"{lost.at} {filters}: {so}"
    if lost.packet.source != expected:
        so = f"the punch leaves from a port that {lost.at} does not expect"
        if why := _because(network, lost.at, filters, lost.trail, so):
            return why
    return f"{lost.at} {filters}, and does not expect {lost.packet.source}"


def of_success(network: Network, arrived: Arrived, names: tuple[str, str]) -> str:
    """Why a punch comes through."""
    sender, receiver = names
    if arrived.turned_by:
        return f"{arrived.turned_by}, which both are behind, turns the packets of {sender} around"
    # What enters over IPv6 has at most been given another prefix, and nothing filters by that.
    entered = arrived.entered if arrived.packet.family == 4 else ()
    filters = {_dependence(network, at, "filtering") for at in entered}
    if not filters and arrived.answering:
        whose = _listed([f"the firewall of {at}" for at in arrived.answering])
        over = "IPv6" if arrived.packet.family == 6 else "IPv4"
        verb = "lets" if len(arrived.answering) == 1 else "let"
        return f"{whose} {verb} {sender} in over {over}, as {receiver} has sent there before"
    if not filters:
        return f"{receiver} can be reached at {arrived.packet.destination}"
    verb = "admits" if len(arrived.entered) == 1 else "admit"
    who = f"{_listed(arrived.entered)} {verb}"
    if filters == {Dependence.ENDPOINT_INDEPENDENT}:
        return f"{who} everybody to a mapping that {receiver} has made"
    return f"{who} the packets of {sender}, as {receiver} has sent to where they come from"


def of_firewall(peer: str, at: str) -> str:
    """Whose firewall it is."""
    return f"{peer}'s own firewall" if at == peer else f"the firewall of {at}"


def _because(network: Network, at: str, filters: str, trail: tuple[Step, ...], so: str) -> str:
    """Who on `trail` has another port than it showed, and what follows; empty if nobody has."""
    fickle = _fickle(network, trail)
    names = [node.name for node in fickle]
    if names == [at]:
        return f"{at} {filters} and {_maps(fickle)}: {so}"
    if fickle:
        return f"{at} {filters}, and {_listed(names)} {_maps(fickle)}: {so}"
    greedy = [step.at for step in trail if network.boxes[step.at].taken]
    if greedy:
        verb = "has" if len(greedy) == 1 else "have"
        what = "taken an early packet for its own (unsolicited: accept)"
        if greedy == [at]:
            return f"{at} {filters} and {verb} {what}: {so}"
        return f"{at} {filters}, and {_listed(greedy)} {verb} {what}: {so}"
    return ""


def _maps(nodes: Sequence[Node]) -> str:
    each = {_EACH[node.nat.mapping] for node in nodes if node.nat}
    what = each.pop() if len(each) == 1 else "destination"
    return f"{'maps' if len(nodes) == 1 else 'map'} each {what} anew"


def _until(trail: tuple[Step, ...], at: str) -> tuple[Step, ...] | None:
    """The part of a trail that ends at a NAT; None if it did not come there."""
    for index, step in enumerate(trail):
        if step.at == at:
            return trail[: index + 1]
    return None


def _fickle(network: Network, trail: Iterable[Step]) -> list[Node]:
    """The NATs on a trail whose mapping depends on the destination."""
    nodes = (network.map.nodes[step.at] for step in trail)
    return [node for node in nodes if node.nat and node.nat.mapping in _EACH]


def _dependence(network: Network, at: str, what: str) -> Dependence:
    nat = network.map.nodes[at].nat
    return getattr(nat, what) if nat else Dependence.ENDPOINT_INDEPENDENT


def _kind(packet: Packet) -> str:
    return "no UDP" if packet.protocol == UDP else f"no TCP to port {packet.destination.port}"


def _whose(at: str, sender: str) -> str:
    return "its own" if at == sender else f"the address of {at}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
