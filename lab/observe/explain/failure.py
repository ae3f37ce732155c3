"""Why an attempt failed: the first cause that explains it, with the node and the rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

from lab.observe.explain.fates import Fate
from lab.observe.explain.labels import Kind
from lab.observe.explain.phrases import SPOKEN, article, both, count, joined, names, stopped, times
from lab.observe.explain.tale import Side, Story, Told
from lab.observe.explain.translator import plain, prefixes
from lab.plan.model import NodeKind
from lab.plan.names import segment_owner

_LOCAL_ONLY = frozenset({"lan"})


def failed(tale: Story) -> str:
    """Why it did."""
    record = tale.capture.record
    reason = str(record.get("reason") or "")
    if record.get("outcome") == "unsupported":
        return f"It was not tried: {reason}." if reason else "It was not tried."
    for found in (_untold(tale), _kept(tale), _nobody(tale), _mapped_anew(tale), _stopped(tale)):
        if found:
            return f"It failed: {found}."
    for side, other in both(tale.local, tale.remote):
        if side.got_through and not other.got_through:
            return (
                f"It failed: {side.name}'s packets reached {other.name}, "
                f"and no answer of {other.name} came back."
            )
    if astray := _astray(tale):
        return f"It failed: {astray}."
    if apart := _apart(tale):
        return f"It failed: {apart}."
    said = f" {tale.local.name} says: {reason}." if reason else ""
    if not tale.local.sent and not tale.remote.sent:
        return f"It failed before a packet was sent from peer to peer.{said}"
    return f"It failed.{said}"


# --- it began wrong -------------------------------------------------------


def _untold(tale: Story) -> str:
    """That an offer or an answer itself was lost on its way over the rendezvous service."""
    signals = [one for one in tale.told if one.label.signal in ("offer", "answer")]
    for signal in ("offer", "answer"):
        of = [one for one in signals if one.label.signal == signal]
        to = tale.remote.name if signal == "offer" else tale.local.name
        missing = [one for one in of if one.journey.cause and not one.arrived]
        if missing and not any(one.arrived and one.journey.end == to for one in of):
            cause, kind = missing[0].journey.cause, missing[0].journey.fate
            where = "" if kind is Fate.LOST else f"{missing[0].journey.end} dropped it: "
            sent = tale.local.name if signal == "offer" else tale.remote.name
            return f"{sent}'s {signal} never came to {to}: {where}{cause}"
    return ""


def _kept(tale: Story) -> str:
    """What could not leave the network of who sent it."""
    return joined(
        text for side, _ in both(tale.local, tale.remote) for text in _kept_in(tale, side)
    )


def _kept_in(tale: Story, side: Side) -> Iterator[str]:
    mine = [
        one
        for one in tale.told
        if one.journey.source == side.name
        and one.label.kind is not Kind.CHORE
        and not one.journey.packet.many
    ]
    through = {
        one.journey.packet.protocol for one in mine if one.arrived and not _inside(one, side)
    }
    kept = [
        one
        for one in mine
        if one.journey.fate in (Fate.DROPPED, Fate.REFUSED, Fate.LOST)
        and (one.journey.end == side.name or one.journey.end in side.routers)
        and one.journey.packet.protocol not in through
    ]
    if not kept:
        return
    first = Counter((o.journey.end, o.journey.cause, o.journey.fate) for o in kept).most_common(1)
    (node, cause, fate), _ = first[0]
    protocols = names(list(dict.fromkeys(one.journey.packet.protocol.upper() for one in kept)))
    # To somewhere that it could have reached, if there is such a one.
    told = next((one for one in kept if not ip_address(one.to.address).is_private), kept[0])
    among = f"among them {article(told.label.text)} to {told.to}"
    if fate is Fate.LOST:
        number = count(len(kept), "packet")
        yield f"{side.name}'s {protocols} came nowhere: {number}, {among}, {cause}"
    else:
        yield (
            f"{node} does not let {side.name}'s {protocols} out ({cause}): "
            f"it stopped {count(len(kept), 'packet')}, {among}"
        )


def _inside(one: Told, side: Side) -> bool:
    """Whether it went no further than to a router of its sender."""
    return one.journey.end in side.routers


# --- nobody answered --------------------------------------------------------


def _nobody(tale: Story) -> str:
    """That the router was asked for a port in vain, or the LAN for the other peer."""
    technique = tale.capture.technique
    if technique in SPOKEN:
        return joined(
            text
            for side, _ in both(tale.local, tale.remote)
            if (text := _unheard(tale, side, SPOKEN[technique]))
        )
    if technique not in _LOCAL_ONLY or tale.remote.sent:
        return ""
    asked = [
        one
        for one in tale.told
        if one.journey.source == tale.local.name and one.journey.packet.many
    ]
    if not asked:
        return ""
    words = names(list(dict.fromkeys(one.label.text.split()[0] for one in asked)))
    kept = f", and {tale.local.routers[0]} passes none on" if tale.local.routers else ""
    return (
        f"{tale.local.name} asked its own network for {tale.remote.name} "
        f"{times(len(asked))} ({words}), and nobody answered: such questions stay on "
        f"one network{kept}"
    )


def _unheard(tale: Story, side: Side, protocol: str) -> str:
    """That no router of `side` speaks the protocol; empty if one does."""
    about = [one for one in tale.told if one.label.kind is Kind.PORTMAP]
    asked = [one for one in about if one.journey.source == side.name]
    answered = [one for one in about if one.journey.end == side.name]
    if not asked or answered or not side.routers:
        return ""
    refused = [
        one
        for one in tale.told
        if one.journey.end == side.name
        and one.label.kind is Kind.ERROR
        and one.journey.source == side.routers[0]
    ]
    how = "it answered that nobody listens there" if refused else "nothing came back"
    return (
        f"{side.routers[0]} does not speak {protocol}: {side.name} asked {times(len(asked))}, "
        f"and {how}"
    )


# --- it did not get through --------------------------------------------------


def _mapped_anew(tale: Story) -> str:
    """That a NAT shows the other peer another endpoint than it showed to STUN."""
    differing = [text for side, other in both(tale.local, tale.remote)
                 if (text := _differs(tale, side, other))]  # fmt: skip
    if not differing:
        return ""
    drops = list(stopped([*tale.local.opening, *tale.remote.opening]))
    then = f". What was sent there was stopped: {joined(drops)}" if drops else ""
    return f"{'; and '.join(differing)}{then}"


def _differs(tale: Story, side: Side, other: Side) -> str:
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


def _stopped(tale: Story) -> str:
    drops = list(stopped([*tale.local.opening, *tale.remote.opening]))
    if not drops or any(side.got_through for side in (tale.local, tale.remote)):
        return ""
    senders = [side.name for side in (tale.local, tale.remote) if side.opening]
    what = "the peers sent one another" if len(senders) > 1 else f"{senders[0]} sent"
    asked = ""
    if tale.capture.technique == "reversal":
        asked = f"{tale.local.name} asked {tale.remote.name} to connect the other way round, but "
    return f"{asked}nothing of what {what} got through: {joined(drops)}"


def _apart(tale: Story) -> str:
    """That a partition divides the network of the two, where not even ARP passes."""
    wires = {
        end.node
        for link in tale.capture.plan.links
        if link.a.node in (tale.local.name, tale.remote.name)
        for end in (link.a, link.b)
    }
    for node in tale.capture.plan.nodes:
        if node.kind is NodeKind.SEGMENT and node.name in wires:
            for fence in node.fences:
                return (
                    f"{segment_owner(node.name)}'s network is divided ({fence.partition}), and "
                    f"neither of the two finds the other there, as not even ARP passes"
                )
    return ""


def _astray(tale: Story) -> str:
    """That all that one peer sent went to where the internet knows no way."""
    for side, other in both(tale.local, tale.remote):
        astray = [one for one in side.opening if one.journey.fate is Fate.VANISHED]
        if not astray or len(astray) < len(side.opening):
            continue
        known = prefixes(*tale.capture.plans)
        targets = sorted({plain(one.to, known).address for one in astray})
        causes = [c for c, _ in Counter(one.journey.cause for one in astray).most_common()]
        why = f"and {names(causes)}"
        if len(targets) == len(causes) == 1 and causes[0].endswith(f" to {targets[0]}"):
            why = f"to which {causes[0].removesuffix(f' to {targets[0]}')}"
        return (
            f"all that {side.name} knew of {other.name} was {names(targets)}, {why}; "
            f"{count(len(astray), 'packet')} ended there"
        )
    return ""
