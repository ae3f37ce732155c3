"""A plan as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator

from lab.observe.graph.outline import Box, Look, outline, walk
from lab.plan.model import Plan

_STYLES = {
    Look.INTERNET: "fill:#e4edfb,stroke:#3f74c9,color:#274b86",
    Look.ROUTER: "fill:#eceefb,stroke:#4c5bd4,color:#1e2533",
    Look.SERVICE: "fill:#fdf1e2,stroke:#d9760b,color:#1e2533",
    Look.PEER: "fill:#e5f5ee,stroke:#17845a,color:#1e2533",
    Look.HOST: "fill:#f1f3f6,stroke:#5c6675,color:#1e2533",
}
_SHAPES = {Look.INTERNET: ("((", "))"), Look.SERVICE: ("([", "])")}


def mermaid(plan: Plan) -> str:
    """`plan` as a Mermaid flowchart, many alike folded into one box."""
    boxes = tuple(walk(outline(plan)))
    names = {box.node: f"n{index}" for index, box in enumerate(boxes)}
    lines = ["flowchart TD"]
    for box in boxes:
        before, after = _SHAPES.get(box.look, ("[", "]"))
        lines.append(f'  {names[box.node]}{before}"{_label(box)}"{after}:::{box.look}')
    for box in boxes:
        for child in box.below:
            words = f'|"{_quoted(", ".join(child.link))}"|' if child.link else ""
            lines.append(f"  {names[box.node]} ---{words} {names[child.node]}")
    used = dict.fromkeys(box.look for box in boxes)
    lines.extend(f"  classDef {look} {_STYLES[look]}" for look in used)
    return "\n".join(lines) + "\n"


def _label(box: Box) -> str:
    return "<br>".join(map(_quoted, _lines(box)))


def _lines(box: Box) -> Iterator[str]:
    yield f"{box.title} {box.badge}".rstrip()
    if box.subtitle:
        yield box.subtitle
    if box.nat:
        yield f"NAT {box.nat}"
    if box.firewall:
        yield f"firewall {box.firewall}"
    for interface, address in box.addresses:
        yield f"{interface} {address}".strip()
    if box.shared:
        yield "shared segment below"


def _quoted(text: str) -> str:
    """Mermaid's entity codes for what would end a label or begin markup."""
    return (
        text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
