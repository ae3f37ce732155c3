"""What happened between packets, as marks of a ladder: changes of the network, a session's path."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lab.observe.explain.ladder import Mark
from lab.observe.explain.tale import Story


def marks(tale: Story, lanes: Collection[str]) -> tuple[Mark, ...]:
    """The marks of a story, in order of time; those about one of `lanes` stand in it."""
    return tuple(sorted(_marks(tale, lanes), key=lambda mark: mark.at_ms))


def _marks(tale: Story, lanes: Collection[str]) -> Iterator[Mark]:
    def at(ns: int) -> float:
        return round((ns - tale.began_ns) / 1e6, 3)

    for one in tale.capture.happened:
        for node, text in one.what:
            lane = node if node in lanes else ""
            yield Mark(at_ms=at(one.began_ns), kind="change", text=text, lane=lane)
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
