"""The links of a plan for people and programs: `lab link show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from lab.observe.stated import stated
from lab.plan import words
from lab.plan.attachment import declared_link, upper_end
from lab.plan.model import Link, Plan
from lab.plan.names import UPLINKS, core_region


def access_links(plan: Plan, end: str | None = None) -> list[Link]:
    """The access links, or those that have an end at `end`, in the order of the plan.

    A region's name means its part of the internet.
    """
    return [
        link
        for link in plan.links
        if (link.a.interface in UPLINKS or core_region(link.a.node))
        and (end is None or end in (*_names(link.a.node), *_names(link.b.node), upper_end(link)))
    ]


def _names(node: str) -> tuple[str, ...]:
    """What a node is called: a part of the internet by its region, too."""
    return (node, region) if (region := core_region(node)) else (node,)


def as_json(plan: Plan, link: Link) -> dict[str, Any]:
    """A link: its ends, what it is like each way, and whether that is as declared."""
    declared = declared_link(plan, link)
    return {
        "a": link.a.node,
        "b": upper_end(link),
        "state": "down" if link.down else "up",
        "backend": str(link.backend),
        "preset": link.preset,
        "mtu": link.mtu,
        "up": stated(link.a_to_b),
        "down": stated(link.b_to_a),
        "declared": {
            "preset": declared.preset,
            "mtu": declared.mtu,
            "up": stated(declared.up),
            "down": stated(declared.down),
        },
        "changed": link.spec != declared or link.down,
    }


def table(plan: Plan, links: Sequence[Link]) -> list[str]:
    """A line for each link: its ends, state, what carries it, and what it is like."""
    rows = [("LINK", "STATE", "BACKEND", "CHARACTER")]
    for link in links:
        declared = declared_link(plan, link)
        like = words.link(replace(link, down=False), backend=False) or "plain wire"
        name = f"{link.preset}: " if link.preset else ""
        was = ""
        if link.spec != declared:
            usual = words.ways(declared.up, declared.down) or "plain wire"
            was = f"  (declared: {declared.preset or usual})"
        ends = f"{link.a.node} -- {upper_end(link)}"
        rows.append((ends, "down" if link.down else "up", str(link.backend), f"{name}{like}{was}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join(
            (*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[3])
        ).rstrip()
        for row in rows
    ]
