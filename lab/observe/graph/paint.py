"""A plan as a self-contained SVG picture.

It brings its own background and needs no script, style sheet or font beyond
the usual ones, so that it looks the same in a page, a README and a viewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from lab.observe.graph import layout as at
from lab.observe.graph.layout import Placed, layout, text_width
from lab.observe.graph.outline import Look, outline
from lab.plan.model import Plan
from lab.topology.character import Backend

_MARGIN = 36.0
_INK, _SOFT, _PAPER, _EDGE = "#1e2533", "#667085", "#f6f7fb", "#98a2b3"
_SANS = "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
_MONO = "'JetBrains Mono', Menlo, Consolas, 'Liberation Mono', monospace"

_COLOURS = {
    Look.INTERNET: "#3f74c9",
    Look.ROUTER: "#4c5bd4",
    Look.SERVICE: "#d9760b",
    Look.PEER: "#17845a",
    Look.HOST: "#5c6675",
}
_CHIPS = {"nat": ("NAT", "#6b3fd4", "#efe9fd"), "firewall": ("firewall", "#c0362c", "#fdecea")}
_LINKS = {Backend.PLAIN: "", Backend.KERNEL: "", Backend.FERRY: ' stroke-dasharray="5 3.5"'}

_GLOSSARY = (
    ("EIM", "endpoint-independent mapping"),
    ("ADM", "address-dependent mapping"),
    ("APDM", "address-and-port-dependent mapping"),
    ("EIF", "endpoint-independent filtering"),
    ("ADF", "address-dependent filtering"),
    ("APDF", "address-and-port-dependent filtering"),
)


def svg(plan: Plan) -> str:
    """`plan` as an SVG document."""
    boxes = outline(plan)
    top = _MARGIN + 34 + (20 if plan.description else 0) + 14
    roots = layout(boxes, _MARGIN, top)
    placed = [one for root in roots for one in root.walk()]
    legend = _legend(placed)
    head = (text_width(plan.lab, 22, bold=True), text_width(plan.description, 13))
    right = max((one.x + max(one.width, at.link_size(one.box)[0]) / 2 for one in placed), default=0)
    right = max(right, _MARGIN + max(*head, *(text_width(line, 11) for line in legend), 240.0))
    bottom = max((one.y + one.height for one in placed), default=top)
    width, height = right + _MARGIN, bottom + 40 + 16 * len(legend) + 14
    lines = [
        _opening(width, height),
        f"<title>{escape(plan.lab)}</title>",
        f"<desc>{escape(plan.description)}</desc>" if plan.description else "",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="14" fill="{_PAPER}"/>',
        _text(_MARGIN, _MARGIN + 18, plan.lab, 22, bold=True),
        _text(_MARGIN, _MARGIN + 42, plan.description, 13, fill=_SOFT) if plan.description else "",
        *(line for one in placed for line in _wires(one)),
        *(line for one in placed for line in _words(one)),
        *(line for one in placed for line in _body(one)),
        *(
            _text(_MARGIN, bottom + 48 + 16 * index, line, 11, fill=_SOFT)
            for index, line in enumerate(legend)
        ),
        "</svg>",
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _opening(width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" font-family="{_SANS}">'
    )


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    *,
    fill: str = _INK,
    bold: bool = False,
    mono: bool = False,
    anchor: str = "start",
) -> str:
    more = ' font-weight="600"' if bold else ""
    more += f' font-family="{_MONO}" xml:space="preserve"' if mono else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}"{more}>'
        f"{escape(text)}</text>"
    )


# --- links ----------------------------------------------------------------


def _wires(one: Placed) -> Iterator[str]:
    """The lines from a box to what hangs below it."""
    foot = one.y + one.height - (18 if one.box.look is Look.INTERNET else 0)
    if one.bus:
        ends = [child.x for child in one.below]
        yield _path(f"M{one.x:.1f} {foot:.1f}V{one.bus:.1f}", Backend.PLAIN)
        yield (
            f'<path d="M{min(ends) - 14:.1f} {one.bus:.1f}H{max(ends) + 14:.1f}" '
            f'stroke="{_EDGE}" stroke-width="6" stroke-linecap="round"/>'
        )
    for child in one.below:
        if one.bus:
            path = f"M{child.x:.1f} {one.bus:.1f}V{child.y:.1f}"
        else:
            bend = child.y - at.link_size(child.box)[1] - 20
            middle = (foot + bend) / 2
            path = (
                f"M{one.x:.1f} {foot:.1f}C{one.x:.1f} {middle + 8:.1f} "
                f"{child.x:.1f} {middle - 8:.1f} {child.x:.1f} {bend:.1f}V{child.y:.1f}"
            )
        yield _path(path, child.box.backend)


def _path(path: str, backend: Backend) -> str:
    return f'<path d="{path}" fill="none" stroke="{_EDGE}" stroke-width="1.8"{_LINKS[backend]}/>'


def _words(one: Placed) -> Iterator[str]:
    """The character of a box's uplink, on a patch of background above the box."""
    if not one.box.link:
        return
    width, height = at.link_size(one.box)
    top = one.y - height - 13
    yield (
        f'<rect x="{one.x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="9" fill="{_PAPER}" stroke="#d5dae3"/>'
    )
    for index, line in enumerate(one.box.link):
        yield _text(one.x, top + 14 + 15 * index, line, at.SMALL, fill="#475467", anchor="middle")


# --- boxes ----------------------------------------------------------------


def _body(one: Placed) -> Iterator[str]:
    if one.box.look is Look.INTERNET:
        yield from _cloud(one)
        return
    box, colour = one.box, _COLOURS[one.box.look]
    left, shadows = one.x - one.width / 2, (2, 1) if one.box.count > 1 else ()
    for step in shadows:
        yield _card(left + at.STACK * step, one.y + at.STACK * step, one, "#c3cad6")
    yield _card(left, one.y, one, "#d0d5dd")
    yield (
        f'<path d="M{left:.1f} {one.y + 8:.1f}a8 8 0 0 1 8 -8h{one.width - 16:.1f}a8 8 0 0 1 8 8'
        f'v{at.HEADER - 8:.1f}h{-one.width:.1f}z" fill="{colour}"/>'
    )
    yield _icon(box.look, left + at.PAD - 1, one.y + 6)
    x = left + at.PAD + at.ICON
    yield _text(x, one.y + 18, box.title, at.TITLE, fill="#ffffff", bold=True)
    if box.badge:
        room = at.badge_width(box)
        x += text_width(box.title, at.TITLE, bold=True) + 12
        yield (
            f'<rect x="{x:.1f}" y="{one.y + 5:.1f}" width="{room:.1f}" height="16" rx="8" '
            f'fill="#ffffff"/>'
        )
        yield _text(
            x + room / 2, one.y + 17, box.badge, at.SMALL, fill=colour, bold=True, anchor="middle"
        )
    if box.subtitle:
        yield _text(
            left + one.width - at.PAD,
            one.y + 17.5,
            box.subtitle,
            at.SMALL,
            fill="#eef1f8",
            anchor="end",
        )
    for index, (kind, text) in enumerate(at.facts(box)):
        yield from _fact(left + at.PAD, one.y + at.HEADER + 20 + at.LINE * index, kind, text)


def _card(left: float, top: float, one: Placed, stroke: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{one.width:.1f}" height="{one.height:.1f}" '
        f'rx="8" fill="#ffffff" stroke="{stroke}"/>'
    )


def _fact(x: float, y: float, kind: str, text: str) -> Iterator[str]:
    if kind == "address":
        yield _text(x, y, text, at.SMALL, mono=True)
        return
    word, ink, paper = _CHIPS[kind]
    room = at.CHIP[kind]
    yield (
        f'<rect x="{x:.1f}" y="{y - 10.5:.1f}" width="{room - 6:.1f}" height="13.5" rx="4" '
        f'fill="{paper}"/>'
    )
    yield _text(x + (room - 6) / 2, y - 0.5, word, 9.5, fill=ink, bold=True, anchor="middle")
    yield _text(x + room, y, text, at.SMALL)


def _cloud(one: Placed) -> Iterator[str]:
    colour = _COLOURS[Look.INTERNET]
    yield (
        f'<g transform="translate({one.x - one.width / 2:.1f} {one.y:.1f})">'
        '<path d="M48 78C22 78 8 64 10 50C11 37 24 29 38 31C42 13 62 4 82 10C94 -1 126 -1 137 17'
        'C158 13 176 25 175 42C188 48 186 78 150 78Z" '
        f'fill="#e4edfb" stroke="{colour}" stroke-width="1.8"/></g>'
    )
    yield _text(one.x, one.y + 53, one.box.title, 16, fill="#274b86", bold=True, anchor="middle")


def _icon(look: Look, x: float, y: float) -> str:
    """A small sign, 14 by 14: arrows for a router, a rack for a service, a screen for a host."""
    match look:
        case Look.ROUTER:
            path = "M2 5H11M8 2L11 5L8 8M12 10H3M6 7L3 10L6 13"
        case Look.SERVICE:
            path = "M2 2H12V6H2ZM2 8H12V12H2ZM4.5 4H4.6M4.5 10H4.6"
        case _:
            path = "M1.5 2H12.5V9.5H1.5ZM7 9.5V12.5M4 12.5H10"
    return (
        f'<path d="{path}" transform="translate({x:.1f} {y:.1f})" fill="none" stroke="#ffffff" '
        'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _legend(placed: list[Placed]) -> tuple[str, ...]:
    """What the abbreviations and dashes mean that occur in the picture."""
    used = {word for one in placed for word in one.box.nat.replace(":", ",").split(", ")}
    terms = [f"{short} {long}" for short, long in _GLOSSARY if short in used]
    lines = [" · ".join(terms)] if terms else []
    if any(one.box.backend is Backend.FERRY for one in placed):
        lines.append("dashed links are carried in user space")
    return tuple(lines)
