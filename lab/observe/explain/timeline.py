"""What happened between packets, as marks of a ladder: changes of the network, a session's path."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lab.observe.explain.events import Happened
from lab.observe.explain.ladder import Mark
from lab.observe.explain.tale import Story


def marks(tale: Story, lanes: Collection[str]) -> tuple[Mark, ...]:
    """The marks of a story, in order of time; those about one of `lanes` stand in it."""
    return tuple(sorted(_marks(tale, lanes), key=lambda mark: mark.at_ms))


def _passed(tale: Story, node: str, one: Happened) -> bool:
    """Whether packets passed while `one` was done, of which it is not known on which side of it.

    Where none did, it makes no difference when exactly it was.
    """
    return any(
        one.began_ns <= at_ns < one.ended_ns
        for told in tale.told
        for stop in told.journey.stops
        if node in ("", stop.node)
        for at_ns in (stop.came_ns, stop.went_ns)
    )


def _marks(tale: Story, lanes: Collection[str]) -> Iterator[Mark]:
    def at(ns: int) -> float:
        return round((ns - tale.began_ns) / 1e6, 3)

    for one in tale.capture.happened:
        for node, text in one.what:
            matters = _passed(tale, node, one)
            yield Mark(
                at_ms=at(one.began_ns),
                kind="failed" if one.failed else "change",
                text=text,
                lane=node if node in lanes else "",
                until_ms=at(one.ended_ns) if matters else 0.0,
            )
    lead = tale.local.name
    for repair in tale.repairs:
        why = repair.reason
        if why == "no answer":
            why = f"no answer for {repair.silent_s:.1f} s"
        text = f"{lead} takes the path by {repair.technique} for dead: {why}"
        yield Mark(at_ms=at(repair.dead_ns), kind="dead", text=text, lane=lead)
        if repair.over_ns:
            text = f"repaired by {repair.by}" if repair.by else "the path is back"
            text = f"{text} after {repair.took_s * 1e3:.0f} ms"
            yield Mark(at_ms=at(repair.over_ns), kind="repaired", text=text, lane=lead)
