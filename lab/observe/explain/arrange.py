"""A story arranged as a ladder: what is shown, what is folded, in which lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator

from lab.observe.explain.fates import Fate
from lab.observe.explain.folding import folded
from lab.observe.explain.journeys import Journey
from lab.observe.explain.kept import outcome
from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Ladder, Lane, Note, Point, Row
from lab.observe.explain.packet import FIN
from lab.observe.explain.sentence import sentence
from lab.observe.explain.stops import Stop
from lab.observe.explain.tale import Story, Told
from lab.observe.explain.timeline import marks
from lab.plan import words
from lab.plan.model import Node, NodeKind


def ladder(tale: Story, *, everything: bool = False, against: tuple[str, ...] = ()) -> Ladder:
    """The ladder of a story; with `everything`, nothing is folded or left out."""
    hidden: Counter[str] = Counter()
    shown = []
    for told in tale.told:
        why = "" if everything else _hidden(tale, told)
        if why:
            hidden[why] += 1
        else:
            shown.append(told)
    times = [mark.at_ms for mark in marks(tale, ())]
    drawn = frozenset(_order(tale)) - frozenset(tale.way.cores)
    rows = [_row(tale, told, drawn) for told in shown]
    rows = rows if everything else list(folded(rows, times))
    used = {point.lane for row in rows for point in row.points} | {tale.way.local, tale.way.remote}
    lanes = [name for name in _order(tale) if name in used or name in _routers(tale)]
    return Ladder(
        lab=tale.capture.plan.lab,
        local=tale.way.local,
        remote=tale.way.remote,
        technique=tale.capture.technique,
        outcome=outcome(tale)
        if tale.capture.is_session
        else str(tale.capture.record.get("outcome", "")),
        sentence=sentence(tale),
        lanes=tuple(_lane(tale, name) for name in lanes),
        rows=tuple(rows),
        steps=tuple(sorted(tale.steps)),
        roles=tale.roles,
        proven_ms=_ms(tale, tale.proven_ns) if tale.proven_ns else None,
        hidden=tuple(hidden.items()),
        marks=marks(tale, lanes),
        lost=tale.capture.lost,
        against=against,
    )


_CHORES = {"ACK": "bare acknowledgements", "IGMP": "IGMP"}
_CHORES |= {
    "on the LAN: receipt": "receipts on the LAN",
    "HTTP header, continued": "parts of HTTP headers",
}
_ASKING_THE_LAN = frozenset({"lan", "upnp"})
"""Techniques of which multicast is a part."""


def _hidden(tale: Story, told: Told) -> str:
    """Why a packet is not shown; empty if it is."""
    marked = any(told.journey is one for found in tale.steps.values() for one, _ in found)
    if marked:
        return ""
    if tale.capture.is_session and (why := _after_repair(tale, told)):
        return why
    if told.label.kind is Kind.CHORE:
        return _CHORES.get(told.label.text, "housekeeping of the rendezvous service")
    if told.journey.packet.many and tale.capture.technique not in _ASKING_THE_LAN:
        return "what peers announce on their own network"
    if told.journey.packet.flags & FIN and told.arrived:
        return "ends of connections"
    if told.label.signal in ("end", "more"):
        return "the end of the attempt, by rendezvous"
    if told.label.kind is Kind.ERROR and _about_unknown(tale, told):
        return "what the internet says about addresses that it does not know"
    if tale.proven_ns and told.journey.began_ns > tale.proven_ns:
        return "packets that came when the path was proven"
    return ""


def _after_repair(tale: Story, told: Told) -> str:
    """Why a packet of a session is not shown: it is of an attempt that nobody waits for now."""
    if told.label.probe == "session":
        begun = told.journey.source in (tale.way.local, tale.way.remote, *tale.way.servers)
        done = told.journey.fate is not Fate.UNDER_WAY
        if not begun or not done:
            return "packets on their way when this began or ended"
        at_ease = told.arrived and "check" in told.label.text and not _dead(tale, told)
        return "checks while there was a path" if at_ease else ""
    if told.label.text in ("FIN", "RST") and {told.journey.source, told.journey.end} & {
        *tale.way.servers,
        *tale.way.above_local,
    }:
        return "ends of connections"
    of_attempt = told.label.kind is not Kind.ERROR
    at_ns = told.journey.began_ns
    if told.label.kind is Kind.PROBE and told.label.probe != "done" and _opened(tale, at_ns):
        return "packets that prove the path that step 4 opened"
    if not of_attempt or _dead(tale, told):
        return ""
    return "packets beside the session, while it had a path"


def _dead(tale: Story, told: Told) -> bool:
    """Whether the session had no path then, as its lead saw it."""
    at_ns = told.journey.began_ns
    return any(r.dead_ns <= at_ns <= (r.over_ns or at_ns) for r in tale.repairs)


def _opened(tale: Story, at_ns: int) -> bool:
    """Whether the fourth step was done by then."""
    return any(journey.began_ns < at_ns for journey, _ in tale.steps.get(4, ()))


def _about_unknown(tale: Story, told: Told) -> bool:
    """Whether it is about a packet that the picture shows ending in the internet."""
    return told.journey.source in tale.way.cores and tale.capture.technique != "direct"


def _order(tale: Story) -> tuple[str, ...]:
    """All lanes; the internet itself is one only where packets begin or end there."""
    lanes = tale.way.lanes
    ended = [
        core
        for core in tale.way.cores
        if any(core in (told.journey.source, told.journey.end) for told in tale.told)
    ]
    at = 1 + len(tale.way.above_local)
    return (*lanes[:at], *ended, *lanes[at:])


def _routers(tale: Story) -> tuple[str, ...]:
    return (*tale.way.above_local, *tale.way.above_remote)


def _lane(tale: Story, name: str) -> Lane:
    node = next(each for plan in tale.capture.plans for each in plan.nodes if each.name == name)
    addresses = {
        interface.name: tuple(address.partition("/")[0] for address in interface.addresses)
        for interface in node.interfaces
    }
    if node.kind is NodeKind.INTERNET:
        return Lane(name=name, role="internet")
    if node.kind is NodeKind.ROUTER:
        return Lane(
            name=name,
            role="router",
            outside=next(iter(addresses.get(node.wan, ())), ""),
            inside=next(iter(addresses.get(node.lan, ())), ""),
            does=_does(node),
            mirrored=name in tale.way.above_remote and name not in tale.way.shared,
        )
    peer = name in (tale.way.local, tale.way.remote) or _is_peer(node)
    first = next((one for group in addresses.values() for one in group), "")
    return Lane(name=name, role="peer" if peer else "server", outside=first)


def _is_peer(node: Node) -> bool:
    """Whether it is a third peer: one that relays."""
    return node.program is not None and "peer" in node.program.roles


def _does(node: Node) -> str:
    parts = []
    if node.nat64 is not None:
        parts.append("NAT64")
    elif node.nat is not None:
        kind = words.nat_kind(node.nat)
        parts.append(kind if kind.endswith("nat") else f"{kind} NAT")
    if node.nptv6 is not None:
        parts.append("NPTv6")
    if node.firewall is not None or (node.firewall6 is not None and not parts):
        parts.append("firewall")
    return " + ".join(parts)


# --- rows -----------------------------------------------------------------


def _row(tale: Story, told: Told, lanes: Container[str]) -> Row:
    journey = told.journey
    ends = (journey.stops[0], journey.stops[-1])
    stops = [
        stop for stop in journey.stops if stop.node in lanes or any(stop is end for end in ends)
    ]
    notes = [note for stop in stops for note in _notes(tale, stop)]
    own = (*tale.local.sent, *tale.remote.sent)
    if journey.fate is Fate.VANISHED or not (told.label.probe or any(told is one for one in own)):
        # The way back from a server is what everybody expects.
        notes = [note for note in notes if note.kind != "opening"]
    end = _end(tale, journey)
    return Row(
        at_ms=_ms(tale, journey.began_ns),
        kind=told.label.kind.value,
        text=told.label.text,
        transport=journey.packet.protocol,
        size=journey.packet.size,
        points=tuple(_point(tale, stop) for stop in stops),
        fate=journey.fate.value,
        notes=(*notes, *end),
        steps=tuple(
            (number, node)
            for number, found in sorted(tale.steps.items())
            for one, node in found
            if one is journey
        ),
    )


def _point(tale: Story, stop: Stop) -> Point:
    packet, went = stop.packet, stop.went
    new_source = new_destination = ""
    if stop.came and went:
        new_source = str(went.source) if went.source != packet.source else ""
        new_destination = str(went.destination) if went.destination != packet.destination else ""
    return Point(
        lane=stop.node,
        at_ms=_ms(tale, stop.first_ns),
        left_ms=_ms(tale, stop.went_ns or stop.first_ns),
        source=str(packet.source),
        destination=str(packet.destination),
        new_source=new_source,
        new_destination=new_destination,
    )


def _notes(tale: Story, stop: Stop) -> Iterator[Note]:
    for one in tale.made.mapped:
        if one.stop is stop:
            text = f"{one.inside} is {one.outside} outside"
            if one.lifetime_s:
                text += f", for {lasting(one.lifetime_s)}"
            kind = "mapped-before" if one.before else "mapping"
            yield Note(lane=stop.node, kind=kind, text=text)
    for way_in in tale.made.opened:
        if way_in.stop is stop:
            yield Note(
                lane=stop.node,
                kind="opening",
                text=f"{way_in.remote} may now answer to {way_in.outside}",
            )


def _end(tale: Story, journey: Journey) -> Iterator[Note]:
    if journey.fate is Fate.ARRIVED:
        return
    last = journey.stops[-1]
    rule = last.dropped_by.text if last.dropped_by else ""
    if rule and last.led_by:
        rule = f"{last.led_by.text}; {rule}"
    yield Note(lane=last.node, kind=journey.fate.value, text=journey.cause, rule=rule)


def lasting(seconds: int) -> str:
    """A lifetime: `30 s`, `2 min`, `2 h 4 min`."""
    minutes, rest = divmod(seconds, 60)
    if not minutes or rest:
        return f"{seconds} s"
    hours, minutes = divmod(minutes, 60)
    return " ".join(
        filter(None, (f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""))
    )


def _ms(tale: Story, at_ns: int) -> float:
    return round((at_ns - tale.began_ns) / 1e6, 3)
