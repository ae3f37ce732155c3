"""Why an attempt worked: what opened the way, and what passed by it."""

from __future__ import annotations

from lab.observe.explain.fates import Fate
from lab.observe.explain.journeys import Journey
from lab.observe.explain.labels import Kind
from lab.observe.explain.phrases import SPOKEN, both, joined, names, stopped
from lab.observe.explain.punch import opener
from lab.observe.explain.tale import Side, Story, Told
from lab.peer.endpoint import Endpoint

_CARRIED = frozenset({Kind.RELAY, Kind.PROBE, Kind.WEB})
"""What is sent to a server that it may be passed on."""


def worked(tale: Story) -> str:
    """Why it did, and what was lost on links meanwhile."""
    lost = [one for one in (*tale.local.sent, *tale.remote.sent) if one.journey.fate is Fate.LOST]
    meanwhile = f" Meanwhile {joined(stopped(lost))}." if lost else ""
    way = how(tale)
    text = f"It worked: {way}{_turned_around(tale)}" if way else "It worked."
    proof = "" if tale.capture.record.get("path") == "relayed" else f" {_proof(tale)}"
    return text + proof + meanwhile


def _turned_around(tale: Story) -> str:
    """That a NAT above both sent packets back to its inside; empty if none did."""
    above = [name for name in tale.local.routers if name in tale.remote.routers]
    turned = [
        stop.node
        for one in (*tale.local.got_through, *tale.remote.got_through)
        for stop in one.journey.stops
        if stop.node in above and stop.turned_to
    ]
    if not turned:
        return ""
    return (
        f" Both are behind {turned[0]}, which turned their packets around and sent them back in "
        "(hairpinning)."
    )


def how(tale: Story) -> str:
    """What opened the way, and what passed by it, in whole sentences; empty if it is not seen."""
    if tale.capture.record.get("path") == "relayed":
        return _relayed(tale)
    granted = _granted(tale)
    if granted:
        return granted
    if 4 in tale.steps:
        return f"{_lots(tale)}{_punched(tale)}"
    return _reached(tale)


_MANY = 8
"""Ports, from which on they are lots and not tries."""


def _lots(tale: Story) -> str:
    """How many ports either side used, where one guesses those of the other; else empty."""
    if tale.capture.technique != "birthday":
        return ""
    for hard, easy in both(tale.local, tale.remote):
        used = {one.journey.final.source for one in hard.opening if one.journey.stops[1:]}
        tried = {one.to for one in easy.opening if one.to.address in {e.address for e in used}}
        if len(used) > _MANY and len(tried) > 1:
            return (
                f"{hard.name} sent from {len(used)} ports of {hard.own_routers(easy)[-1]}, "
                f"and {easy.name} tried {len(tried)} there until it met one of these: "
            )
    return ""


def _punched(tale: Story) -> str:
    m, n = (
        (tale.local, tale.remote) if tale.roles[0] == tale.local.name else (tale.remote, tale.local)
    )
    fourth, node = tale.steps[4][0]
    words = []
    if crossed := _crossed(tale, m, n):
        return crossed
    if 2 in tale.steps:
        second, opened = tale.steps[2][0]
        words.append(f"{n.name}'s packet to {second.packet.destination} opened {opened}")
        if 3 in tale.steps:
            third, refuser = tale.steps[3][0]
            words[-1] += f" for the answer and was itself dropped at {refuser} ({third.cause})"
        elif second.fate is Fate.LOST:
            words[-1] += f" for the answer and was itself {second.cause}"
        else:
            words[-1] += ", and nothing on the way refused it"
    passed = f"passed {node} by that" if words and node != n.name else f"reached {n.name}"
    mine = [name for name in m.own_routers(n) if fourth.at(name)]
    also = f" opened {opener(tale, fourth, m)} and" if mine else ""
    words.append(f"{m.name}'s packet to {fourth.packet.destination}{also} {passed}")
    return f"{'; then '.join(words)}."


def _crossed(tale: Story, m: Side, n: Side) -> str:
    """That each opened its own side while the packet of the other was on its way."""
    fourth = tale.steps[4][0][0]
    second, opened = tale.steps[2][0] if 2 in tale.steps else (fourth, "")
    mine = opener(tale, fourth, m)
    if second.fate is not Fate.ARRIVED or mine == m.name or second.ended_ns < fourth.began_ns:
        return ""
    return (
        f"{n.name}'s packet to {second.packet.destination} opened {opened}, and {m.name}'s packet "
        f"to {fourth.packet.destination} opened {mine} while the other one was on its way, so "
        f"both came in."
    )


def _granted(tale: Story) -> str:
    """That a router had been asked for a port, and the other peer came there; empty if not so."""
    for side, other in both(tale.local, tale.remote) if tale.capture.technique in SPOKEN else ():
        asked = [
            one
            for one in tale.told
            if one.label.kind is Kind.PORTMAP
            and one.journey.source == side.name
            and one.journey.end in side.routers
            and one.arrived
        ]
        for one in other.got_through if asked else ():
            turned = _turned(one.journey, side)
            router = asked[-1].journey.end
            if any(node == router for node, _ in turned) and any(one is o for o in other.opening):
                return (
                    f"{router} opened {one.to} because {side.name} asked for it "
                    f"({SPOKEN[tale.capture.technique]}), so {other.name}'s packet to it came in: "
                    f"{_passed_on(turned)}."
                )
    return ""


def _relayed(tale: Story) -> str:
    lent = next((one.label.relayed for one in tale.told if one.label.relayed), None)
    relays = {
        one.journey.end
        for one in tale.told
        if one.arrived and one.label.kind in _CARRIED and one.journey.end in tale.way.servers
    }
    relay = names(sorted(relays)) if relays else "the relay"
    text = f"both peers only ever sent outward, to {relay}"
    if lent:
        text += f", which lent {lent}"
    text += ", and every NAT and firewall lets answers to that in."
    ways = [way for side in (tale.local, tale.remote) if (way := _way(tale, side, relays))]
    if ways:
        text += f" {joined(ways)}."
    blocked = list(stopped([*tale.local.sent, *tale.remote.sent]))
    if blocked:
        text += f" What they sent straight to one another was stopped: {joined(blocked)}."
    carried = (tale.capture.record.get("relayed") or {}).get("packets")
    return f"{text} The relay carries every packet of the path" + (
        f" ({carried} so far)." if carried else "."
    )


def _way(tale: Story, side: Side, relays: set[str]) -> str:
    """That a peer needed another transport than UDP to get to the relay, and why.

    Empty where UDP did, or for the web, which is never UDP.
    """
    mine = [one for one in tale.told if one.journey.source == side.name]
    there = [one for one in mine if one.journey.end in relays and one.arrived]
    if tale.capture.technique == "http":
        through = [one.journey.end for one in mine if one.arrived and one.label.kind is Kind.WEB]
        proxies = [name for name in dict.fromkeys(through) if name in side.routers]
        how = "spoke WebSocket with it"
        if not any(one.label.text.startswith("WebSocket") for one in mine):
            how = "polled it by GET and POST"
        by = f" through the web proxy of {names(proxies)}" if proxies else ""
        refused = (
            f"{names(proxies)} refused {side.name} a tunnel, so " if _refused(tale, side) else ""
        )
        return f"{refused}{side.name} {how}{by}"
    carried = [one for one in there if one.label.kind in _CARRIED]
    if not carried or any(one.journey.packet.protocol == "udp" for one in carried):
        return ""
    last = carried[-1]
    how = "TLS over TCP" if last.label.text.startswith("TLS") else "TCP"
    kept = [
        one
        for one in mine
        if one.journey.fate in (Fate.DROPPED, Fate.REFUSED) and one.journey.end in side.routers
    ]
    udp = [one.journey for one in kept if one.journey.packet.protocol == "udp"]
    why = f", because {udp[0].end} lets no UDP out ({udp[0].cause})" if udp else ""
    return f"{side.name} got there by {how} to port {last.to.port}{why}"


def _refused(tale: Story, side: Side) -> bool:
    """Whether a proxy above a peer answered that it opens no tunnel."""
    return any(
        one.label.text.startswith("403") and one.journey.end == side.name and one.arrived
        for one in tale.told
        if one.journey.source in side.routers
    )


def _reached(tale: Story) -> str:
    """The first packet that reached the other peer, by the path that was proven if that is seen."""
    found = [
        (side, other, one)
        for side, other in both(tale.local, tale.remote)
        for one in side.got_through
        if any(one is opening for opening in side.opening)
    ]
    ends = {
        str((tale.capture.record.get(key) or {}).get("endpoint"))
        for key in ("local_candidate", "remote_candidate")
    }
    chosen = [each for each in found if str(each[2].to) in ends] or found
    # To who is open anyhow rather than in by a mapping, which somebody must have made before.
    chosen.sort(
        key=lambda each: (bool(_turned(each[2].journey, each[1])), each[2].journey.began_ns)
    )
    for side, other, one in chosen:
        asked = ""
        if tale.capture.record.get("outcome") == "reversed":
            asked = f"{other.name} asked {side.name} to connect the other way round, and "
        return f"{asked}{side.name}'s packet to {one.to} reached {other.name}{_let_in(one, other)}."
    return ""


def _let_in(one: Told, other: Side) -> str:
    """How it passed the routers of the one that it was for."""
    turned = _turned(one.journey, other)
    if turned:
        return f", as {_passed_on(turned)}"
    passed = [stop.node for stop in one.journey.stops if stop.node in other.routers and stop.went]
    if passed:
        return f"; {names(passed)} let it in"
    return ", with nothing on the way that filters"


def _turned(journey: Journey, side: Side) -> list[tuple[str, Endpoint]]:
    """The routers of `side` that gave it another destination, and which."""
    passed = [stop for stop in journey.stops if stop.node in side.routers and stop.went]
    return [(stop.node, to) for stop in passed if (to := stop.turned_to)]


def _passed_on(turned: list[tuple[str, Endpoint]]) -> str:
    return names([f"{node} passed it on to {to}" for node, to in turned])


def _proof(tale: Story) -> str:
    took = tale.capture.record.get("time_to_path_s")
    return (
        f"The path was proven after {took * 1e3:.0f} ms."
        if isinstance(took, int | float)
        else "A path was proven."
    )
