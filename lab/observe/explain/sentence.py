"""Why an attempt worked or failed, in a sentence or three, from what was seen alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lab.observe.explain.journeys import Fate, Journey
from lab.observe.explain.labels import Kind
from lab.observe.explain.story import Side, Story, Told, opener


def sentence(tale: Story) -> str:
    """Why `tale` came out as it did."""
    return _worked(tale) if tale.connected else _failed(tale)


# --- it worked ------------------------------------------------------------


def _worked(tale: Story) -> str:
    path = tale.capture.record.get("path")
    if path == "relayed":
        return _relayed(tale)
    if 4 in tale.steps:
        return _punched(tale)
    return _reached(tale)


def _punched(tale: Story) -> str:
    m, n = (
        (tale.local, tale.remote) if tale.roles[0] == tale.local.name else (tale.remote, tale.local)
    )
    fourth, node = tale.steps[4][0]
    words = []
    if 2 in tale.steps:
        second, opened = tale.steps[2][0]
        words.append(f"{n.name}'s packet to {second.packet.destination} opened {opened}")
        if 3 in tale.steps:
            third, refuser = tale.steps[3][0]
            words[-1] += (
                f" for the answer and was itself dropped at {refuser} ({third.stops[-1].reason})"
            )
        else:
            words[-1] += ", and nothing on the way refused it"
    passed = f"passed {node} by that" if words and node != n.name else f"reached {n.name}"
    mine = [name for name in m.own_routers(n) if fourth.at(name)]
    also = f" opened {opener(tale, fourth, m)} and" if mine else ""
    words.append(f"{m.name}'s packet to {fourth.packet.destination}{also} {passed}")
    return f"It worked: {'; then '.join(words)}. {_proof(tale)}"


_CARRIED = frozenset({Kind.RELAY, Kind.PROBE, Kind.WEB})
"""What is sent to a server that it may be passed on."""


def _relayed(tale: Story) -> str:
    lent = next((one.label.relayed for one in tale.told if one.label.relayed), None)
    relays = {
        one.journey.end
        for one in tale.told
        if one.arrived and one.label.kind in _CARRIED and one.journey.end in tale.way.servers
    }
    relay = ", ".join(sorted(relays)) or "the relay"
    text = f"It worked: both peers only ever sent outward, to {relay}"
    if lent:
        text += f", which lent {lent}"
    text += ", and every NAT and firewall lets answers to that in."
    blocked = list(_drops([*tale.local.sent, *tale.remote.sent]))
    if blocked:
        text += f" What they sent straight to one another was stopped: {_list(blocked)}."
    carried = (tale.capture.record.get("relayed") or {}).get("packets")
    return f"{text} The relay carries every packet of the path" + (
        f" ({carried} so far)." if carried else "."
    )


def _reached(tale: Story) -> str:
    for side, other in ((tale.local, tale.remote), (tale.remote, tale.local)):
        for one in side.got_through:
            if not any(one is opening for opening in side.opening):
                continue
            return (
                f"It worked: {side.name}'s packet to {one.to} reached {other.name}"
                f"{_let_in(one.journey, other)}. {_proof(tale)}"
            )
    return f"It worked. {_proof(tale)}"


def _let_in(journey: Journey, other: Side) -> str:
    """How it passed the routers of the one that it was for."""
    passed = [stop for stop in journey.stops if stop.node in other.routers and stop.went]
    turned = [(stop.node, stop.turned_to) for stop in passed if stop.turned_to]
    if turned:
        return ", as " + " and ".join(f"{node} passed it on to {to}" for node, to in turned)
    if passed:
        return f"; {_names([stop.node for stop in passed])} let it in"
    return ", with nothing on the way that filters"


def _proof(tale: Story) -> str:
    took = tale.capture.record.get("time_to_path_s")
    return (
        f"The path was proven after {took * 1e3:.0f} ms."
        if isinstance(took, int | float)
        else "A path was proven."
    )


# --- it failed ------------------------------------------------------------


def _failed(tale: Story) -> str:
    outward = list(_kept_in(tale))
    if outward:
        return f"It failed: {_list(outward)}."
    differing = [text for side, other in _both(tale) if (text := _differs(tale, side, other))]
    drops = list(_drops([*tale.local.opening, *tale.remote.opening]))
    if differing:
        stopped = f" What was sent there was stopped: {_list(drops)}." if drops else ""
        return f"It failed: {'; and '.join(differing)}.{stopped}"
    if drops:
        stopped = _cap(_list(drops))
        return f"It failed: nothing of what the peers sent one another got through. {stopped}."
    for side, other in _both(tale):
        if side.got_through and not other.got_through:
            return (
                f"It failed: {side.name}'s packets reached {other.name}, "
                f"and no answer of {other.name} came back."
            )
    astray = [one for one in tale.local.opening if one.journey.fate is Fate.VANISHED]
    if astray and len(astray) == len(tale.local.opening):
        targets = _names(sorted({one.to.address for one in astray}))
        return (
            f"It failed: all that {tale.local.name} knew of {tale.remote.name} was {targets}, "
            f"to which the internet knows no way; {_count(len(astray), 'packet')} ended there."
        )
    reason = str(tale.capture.record.get("reason") or "")
    said = f" {tale.local.name} says: {reason}." if reason else ""
    if not tale.local.sent and not tale.remote.sent:
        return f"It failed before a packet was sent from peer to peer.{said}"
    return f"It failed.{said}"


def _kept_in(tale: Story) -> Iterator[str]:
    """What could not leave the network of who sent it."""
    for side, _ in _both(tale):
        kept: Counter[tuple[str, str, str, str]] = Counter()
        for one in tale.told:
            stop = one.journey.stops[-1]
            own = stop.node == side.name or stop.node in side.routers
            outward = one.journey.source == side.name
            if outward and own and stop.dropped_by and one.label.kind is not Kind.CHORE:
                kept[stop.node, one.journey.packet.protocol.upper(), stop.reason, _what(one)] += 1
        through = [
            one
            for one in tale.told
            if one.journey.source == side.name
            and one.arrived
            and one.label.kind in (Kind.STUN, Kind.RELAY, Kind.PROBE, Kind.CONNECTION)
        ]
        if kept and not through:
            (node, _, reason, what), _ = kept.most_common(1)[0]
            protocols = " and ".join(dict.fromkeys(protocol for _, protocol, _, _ in kept))
            yield (
                f"{node} does not let {side.name}'s {protocols} out ({reason}): "
                f"it stopped {_count(kept.total(), 'packet')}, among them a {what}"
            )


def _what(one: Told) -> str:
    return f"{one.label.text} to {one.to}"


def _differs(tale: Story, side: Side, other: Side) -> str:
    """Where the NAT of `side` shows the other peer another endpoint than it showed to STUN."""
    shown = set(side.shown)
    if not shown:
        return ""
    for one in side.opening:
        for stop in one.journey.stops:
            if stop.node not in side.routers or not stop.went:
                continue
            first = stop.came.source if stop.came else None
            seen = stop.went.source
            if not stop.translated or first is None or first == seen or seen in shown:
                continue
            same_host = {point.address for point in shown}
            if seen.address not in same_host or one.to.address in _private(tale, other):
                continue
            asked = next(
                (m for m in tale.made.mapped if m.node == stop.node and m.outside in shown), None
            )
            if asked is None or asked.inside != first:
                continue
            return (
                f"{stop.node} maps {first} anew for each destination: STUN was shown "
                f"{asked.outside}, where {other.name} therefore sends, but towards {other.name} "
                f"({one.to}) the port is {seen.port}"
            )
    return ""


def _private(tale: Story, side: Side) -> set[str]:
    """The addresses of `side` inside its own network."""
    node = tale.capture.plan.node(side.name)
    own = {
        address.partition("/")[0]
        for interface in node.interfaces
        for address in interface.addresses
    }
    return own if side.routers else set()


def _drops(sent: list[Told]) -> Iterator[str]:
    """Where packets were stopped, most first, and by which rule."""
    found: Counter[tuple[str, str, str]] = Counter()
    for one in sent:
        stop = one.journey.stops[-1]
        if one.journey.fate in (Fate.DROPPED, Fate.REFUSED):
            found[stop.node, one.journey.source, stop.reason] += 1
    for (node, source, reason), count in found.most_common():
        verb = "dropped"
        yield f"{node} {verb} {_count(count, 'packet')} from {source} ({reason})"


def _both(tale: Story) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
    return (tale.local, tale.remote), (tale.remote, tale.local)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _names(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _list(parts: list[str]) -> str:
    return "; ".join(parts)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]
