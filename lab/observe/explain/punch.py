"""The four steps of a punch, found in what was seen.

With peer m behind NAT X and peer n behind NAT Y (`lab.peer.traversal.punch`):
(1) m learns its outside endpoint and tells n; (2) n sends there, which opens
Y; (3) X refuses that packet; (4) m sends to n's outside endpoint, and that
passes Y by what step 2 opened.  They are found by who sent to whom: n is
whoever's packet was the first to cross its own NAT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.observe.explain.fates import Fate
from lab.observe.explain.journeys import Journey
from lab.observe.explain.labels import Kind
from lab.observe.explain.tale import Side, Story, Told
from lab.observe.explain.translator import plain, prefixes

_PUNCHES = frozenset(
    {"udp-punch", "tcp-punch", "udp-predict", "tcp-predict", "birthday", "ice", "ice-trickle"}
)


def with_steps(tale: Story) -> Story:
    """`tale` with the steps that were found, if its technique is a punch."""
    if tale.capture.technique not in _PUNCHES:
        return tale
    m, n = _roles(tale)
    steps: dict[int, list[tuple[Journey, str]]] = {}
    for number, journey, node in _steps(tale, m, n):
        steps.setdefault(number, []).append((journey, node))
    return replace(tale, steps=steps, roles=(m.name, n.name))


def _roles(tale: Story) -> tuple[Side, Side]:
    """Who is m and who is n; the caller is m if neither's packets crossed its own NAT."""
    sides = (tale.local, tale.remote)
    first = {
        side.name: next((one.journey.began_ns for one in _crossing(side, other)), None)
        for side, other in (sides, sides[::-1])
    }
    begun = [side for side in sides if first[side.name] is not None]
    n = min(begun, key=lambda side: first[side.name] or 0, default=tale.remote)
    return (tale.remote, tale.local) if n is tale.local else sides


def _crossing(side: Side, other: Side) -> Iterator[Told]:
    """What `side` sent to where `other` is seen from outside, as far as it left its own network."""
    for one in side.opening:
        passed = {stop.node for stop in one.journey.stops if stop.went}
        if one.journey.fate is not Fate.VANISHED and set(side.own_routers(other)) <= passed:
            yield one


def _steps(tale: Story, m: Side, n: Side) -> Iterator[tuple[int, Journey, str]]:
    learned = next(
        (
            one.journey
            for one in tale.told
            if one.label.mapped and one.label.kind is Kind.STUN and one.journey.end == m.name
        ),
        None,
    )
    if learned:
        yield 1, learned, m.name
    telling = "offer" if m is tale.local else "answer"
    heard = [one.journey for one in tale.told if one.label.signal == telling and one.arrived]
    for journey in heard[:2]:
        yield 1, journey, journey.end
    crossing = [one.journey for one in _crossing(n, m)]
    if not crossing:
        return
    fourth = next(
        (
            one.journey
            for one in m.opening
            if one.arrived
            and one.journey.end == n.name
            and one.journey.ended_ns > crossing[0].began_ns
        ),
        None,
    )
    second = _opening(crossing, fourth, prefixes(*tale.capture.plans))
    opened = opener(tale, second, n)
    if opened == n.name:
        # Nothing on its side filters, so there is nothing to punch.
        return
    yield 2, second, opened
    refused = next(
        (
            one.journey
            for one in n.opening
            if one.journey.began_ns >= second.began_ns
            and one.journey.fate in (Fate.DROPPED, Fate.REFUSED)
            and one.journey.end in m.routers
        ),
        None,
    )
    if refused:
        yield 3, refused, refused.end
    if fourth:
        yield 4, fourth, opened if fourth.at(opened) else n.name


def _opening(
    crossing: Sequence[Journey], fourth: Journey | None, known: tuple[str, ...]
) -> Journey:
    """Which packet opened the way for `fourth`: the first that seemed to come from its target."""
    if fourth is not None:
        for journey in crossing:
            if plain(journey.final.source, known) == plain(fourth.packet.destination, known):
                return journey
    return crossing[0]


def opener(tale: Story, journey: Journey, side: Side) -> str:
    """The outermost router of `side` that the packet opened, or else only passed.

    The peer's own node if there is none.
    """
    stops = [one.stop for one in tale.made.opened]
    here = [stop.node for stop in journey.stops if any(stop is one for one in stops)]
    passed = [stop.node for stop in journey.stops if stop.translated]
    outwards = tuple(reversed(side.routers))
    order = (*(name for name in outwards if name in here), *(n for n in outwards if n in passed))
    return next(iter(order), side.name)
