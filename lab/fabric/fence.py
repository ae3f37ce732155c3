"""Fences in cores and segments: what a partition lets not pass (`lab.plan.partition`).

A table of its own, replaced in one transaction: a packet meets the old fences
or the new ones.  They stand before everything else and know no flows, so that
what goes on is cut off as what begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import shorten

from lab.fabric.rules import nftables
from lab.plan.model import Fence, Node, NodeKind


def script(node: Node) -> str:
    """What nft(8) is told for the fences of `node`, whatever stood there before; pure."""
    family, priority = ("bridge", -300) if node.kind is NodeKind.SEGMENT else ("inet", -450)
    lines = [f"add table {family} fence", f"delete table {family} fence"]
    if node.fences:
        rules = "".join(f"\n        {rule}" for fence in node.fences for rule in _rules(fence))
        lines.append(
            f"table {family} fence {{\n    chain forward {{\n"
            f"        type filter hook forward priority {priority}; policy accept;{rules}\n"
            "    }\n}"
        )
    return "\n".join(lines) + "\n"


def put_up(node: Node) -> None:
    """Make the fences of `node` all that stand in the calling thread's namespace.

    Raises LabError if the kernel refuses, MissingError without nftables.
    """
    nftables.run(script(node))


_COMMENT = 100
"""Letters; nft takes 128 bytes, and names are ASCII."""


def _rules(fence: Fence) -> Iterator[str]:
    ports, others = _names(fence.ports), _names(fence.others)
    comment = f'comment "lab: {shorten(fence.partition, _COMMENT, placeholder="...")}"'
    drop = f"drop {comment}" if fence.partition else "drop"
    if fence.others:
        yield f"iifname {ports} oifname {others} {drop}"
        yield f"iifname {others} oifname {ports} {drop}"
    for word, marker in (("ip", False), ("ip6", True)):
        prefixes = [prefix for prefix in fence.prefixes if (":" in prefix) is marker]
        for prefix in prefixes:
            yield f"iifname {ports} {word} daddr {prefix} {drop}"


def _names(ports: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{port}"' for port in ports) + " }"
