"""What happened in an attempt or a session, found in what was seen of it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace

import msgspec

from lab.observe.explain.events import Capture
from lab.observe.explain.journeys import Journey, journeys
from lab.observe.explain.labels import Kind, label
from lab.observe.explain.mappings import made
from lab.observe.explain.packet import ACK, SYN
from lab.observe.explain.punch import with_steps
from lab.observe.explain.tale import Repair, Side, Story, Told
from lab.observe.explain.translator import plain, prefixes
from lab.observe.explain.wiring import Way, addresses, own_addresses, way, ways


def story(capture: Capture) -> Story:
    """The story of a capture."""
    found = ways(capture.plans, capture.local, capture.remote)
    proxies = _proxies(capture, found)
    own = {
        address
        for plan in capture.plans
        for address in own_addresses(plan, way(plan, capture.local, capture.remote))
    }
    told = tuple(
        Told(one, label(one.packet)) for one in journeys(capture) if _ours(one, found, proxies, own)
    )
    tale = Story(
        capture=capture,
        way=found,
        told=told,
        made=made(capture, (one.journey for one in told)),
        local=_side(capture, found, told, found.local),
        remote=_side(capture, found, told, found.remote),
        began_ns=_began(capture, told),
        proven_ns=_proven(capture),
    )
    if not capture.is_session:
        return with_steps(tale)
    repairs = tuple(_repairs(tale))
    first = next((one.attempt for one in repairs if one.attempt), None)
    steps, roles = (first.steps, first.roles) if first else ({}, ("", ""))
    return replace(tale, repairs=repairs, steps=steps, roles=roles)


def _ours(journey: Journey, found: Way, proxies: frozenset[str], own: Container[str]) -> bool:
    """Whether the packet belongs to this attempt: one of the two sent or received it.

    Routers speak up about the packets of the two, and are asked by them; a
    proxy in one speaks to servers for them.  What servers sent to them and did
    not arrive was for one of the `own` addresses.
    """
    ends = {journey.source, journey.end}
    if ends & {found.local, found.remote} or journey.packet.about is not None:
        return True
    if journey.cause and journey.source in found.servers:
        return journey.packet.destination.address in own
    return bool(ends & proxies and ends & set(found.servers))


def _proxies(capture: Capture, found: Way) -> frozenset[str]:
    """The routers on the way that offer a web proxy to one of the two."""
    return frozenset(
        router
        for peer, above in ((found.local, found.above_local), (found.remote, found.above_remote))
        for router in above
        for plan in capture.plans
        for node in plan.nodes
        if node.name == peer and node.proxy.rpartition(":")[0] in addresses(plan, (router,))
    )


def _side(capture: Capture, found: Way, told: tuple[Told, ...], name: str) -> Side:
    """What the peer of that name did."""
    local = name == found.local
    above = found.above_local if local else found.above_remote
    theirs = _addresses(capture, local=not local)
    known = prefixes(*capture.plans)
    sent = tuple(
        one
        for one in told
        if one.journey.source == name
        and plain(one.to, known).address in theirs
        and one.label.kind in _PEER_TO_PEER
    )
    return Side(
        name=name,
        routers=above,
        shown=tuple(
            one.label.mapped
            for one in told
            if one.label.kind is Kind.STUN
            and one.label.mapped
            and one.journey.end == name
            and one.arrived
        ),
        sent=sent,
        opening=tuple(one for one in sent if _opens(one)),
    )


_PEER_TO_PEER = (Kind.PROBE, Kind.CONNECTION, Kind.SESSION, Kind.OTHER)


def _addresses(capture: Capture, *, local: bool) -> frozenset[str]:
    """The addresses by which one of the two was ever known."""
    every: list[str] = []
    for plan in capture.plans:
        then = way(plan, capture.local, capture.remote)
        ends = (then.local, *then.above_local) if local else (then.remote, *then.above_remote)
        every += addresses(plan, ends)
    return frozenset(every)


def _opens(one: Told) -> bool:
    flags = one.journey.packet.flags
    if one.label.kind is Kind.CONNECTION:
        return bool(flags & SYN) and not flags & ACK
    return one.label.probe in ("probe", "") and one.label.kind is Kind.PROBE


def _began(capture: Capture, told: tuple[Told, ...]) -> int:
    """When the attempt began: at the order, which comes before the first packet."""
    first = told[0].journey.began_ns if told else 0
    if capture.is_session:
        begins = (first, *(one.began_ns for one in capture.happened))
        return min(filter(None, begins), default=capture.ended_ns)
    started = capture.record.get("started_at")
    if not isinstance(started, int | float):
        return first
    return min(first, int(started * 1e9)) if first else int(started * 1e9)


def _proven(capture: Capture) -> int:
    if capture.is_session:
        return 0
    started, took = (capture.record.get(key) for key in ("started_at", "time_to_path_s"))
    if isinstance(started, int | float) and isinstance(took, int | float):
        return int((started + took) * 1e9)
    return 0


# --- sessions -----------------------------------------------------------------


def _repairs(tale: Story) -> Iterator[Repair]:
    """Each time that the path was dead, with how the next one was found."""
    current: Repair | None = None
    for one in tale.capture.said:
        event, what = one.event, one.event.get("what")
        if what == "dead":
            if current:
                yield current
            current = Repair(
                dead_ns=one.at_ns,
                reason=str(event.get("reason")),
                silent_s=float(event.get("silent_s") or 0),
                technique=str(event.get("technique")),
            )
        elif current and what in ("repaired", "back"):
            took = float(event.get("took_s") or 0)
            by = str(event.get("technique")) if what == "repaired" else ""
            current = replace(current, over_ns=one.at_ns, took_s=took, by=by)
            attempt = _attempt(tale, current, str(event.get("path"))) if by else None
            current = replace(current, attempt=attempt)
        elif current and what == "resumed":
            gap_s, lost = float(event.get("gap_s") or 0), int(event.get("lost") or 0)
            current = replace(current, gap_s=gap_s, lost=lost)
    if current:
        yield current


def _attempt(tale: Story, repair: Repair, path: str) -> Story:
    """The attempt that found the next path, as a story of its own."""
    told = tuple(
        one for one in tale.told if repair.dead_ns <= one.journey.began_ns <= repair.over_ns
    )
    record = {"outcome": "success", "path": path, "time_to_path_s": repair.took_s}
    capture = msgspec.structs.replace(tale.capture, technique=repair.by, record=record)
    return with_steps(
        replace(
            tale,
            capture=capture,
            told=told,
            local=_side(capture, tale.way, told, tale.way.local),
            remote=_side(capture, tale.way, told, tale.way.remote),
            proven_ns=repair.over_ns,
        )
    )
