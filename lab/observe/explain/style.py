"""Colours and letters of the picture, for light and dark; no font or sheet from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from lab.observe.explain.labels import Kind

SANS = "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
MONO = "'JetBrains Mono', Menlo, Consolas, 'Liberation Mono', monospace"

SMALL, TINY = 11.0, 9.5

KINDS = {
    Kind.PROBE.value: ("peer to peer", "#17845a", "#4ecb95"),
    Kind.SESSION.value: ("session", "#0c7f9c", "#58c4e0"),
    Kind.CONNECTION.value: ("TCP", "#17845a", "#4ecb95"),
    Kind.STUN.value: ("STUN", "#2f6fd0", "#7db2ff"),
    Kind.SIGNAL.value: ("rendezvous", "#7a5bd0", "#b69cff"),
    Kind.RELAY.value: ("relay", "#c2660a", "#f5a45c"),
    Kind.PORTMAP.value: ("port mapping", "#0f7f8f", "#56c7d6"),
    Kind.WEB.value: ("web", "#8a5a1f", "#d9ab6c"),
    Kind.ERROR.value: ("ICMP error", "#a8326b", "#ee88b8"),
    Kind.OTHER.value: ("other", "#5c6675", "#a6b0c0"),
    Kind.CHORE.value: ("housekeeping", "#8a93a3", "#8a93a3"),
}
"""What each kind of packet is called, and its colour on light and on dark."""

MARKS = {"change": "change", "failed": "bad", "dead": "bad", "repaired": "good"}
"""Kinds of marks, and the colours of each."""

_PLAIN = {
    "paper": ("#f7f8fb", "#12161f"),
    "card": ("#ffffff", "#1b2130"),
    "edge": ("#d3d9e3", "#374055"),
    "lane": ("#b4bdcc", "#465069"),
    "band": ("#e8ebf8", "#222a44"),
    "ink": ("#1c2333", "#e9edf5"),
    "soft": ("#5d687b", "#9eabc0"),
    "router": ("#4c5bd4", "#93a0ff"),
    "server": ("#c2660a", "#f5a45c"),
    "peer": ("#17845a", "#4ecb95"),
    "internet": ("#3f74c9", "#7db2ff"),
    "step": ("#e0920c", "#f7b733"),
    "stepink": ("#ffffff", "#201600"),
    "map": ("#6a3fd0", "#b99cff"),
    "mappaper": ("#f1ebfe", "#2a2145"),
    "open": ("#0f7f6a", "#5cd6bd"),
    "openpaper": ("#e4f6f1", "#143330"),
    "bad": ("#cc2f26", "#ff7b70"),
    "badpaper": ("#fdebe9", "#401c1d"),
    "change": ("#9a6400", "#f7b733"),
    "changepaper": ("#fff3d6", "#3a2d0c"),
    "good": ("#17845a", "#4ecb95"),
    "goodpaper": ("#e2f5ec", "#12352a"),
}


def sheet() -> str:
    """The style sheet: two sets of colours, and what is drawn in which."""
    colours = _PLAIN | {kind: (light, dark) for kind, (_, light, dark) in KINDS.items()}
    light = "".join(f"--{name}:{pair[0]};" for name, pair in colours.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in colours.items())
    kinds = "".join(
        f".k-{kind}{{stroke:var(--{kind})}}.t-{kind}{{fill:var(--{kind})}}" for kind in KINDS
    )
    roles = "".join(
        f".r-{role}{{fill:var(--{role})}}" for role in ("router", "server", "peer", "internet")
    )
    return (
        f".ladder{{{light}font-family:{SANS};color-scheme:light dark}}"
        f"@media(prefers-color-scheme:dark){{.ladder{{{dark}}}}}"
        ".paper{fill:var(--paper)}.card{fill:var(--card);stroke:var(--edge)}"
        ".lane{stroke:var(--lane);stroke-width:1.4}.band{fill:var(--band)}"
        "text{fill:var(--ink)}.soft{fill:var(--soft)}.white{fill:var(--card)}"
        f".mono{{font-family:{MONO}}}.bold{{font-weight:600}}"
        ".leg{stroke-width:1.7;fill:none}.inside{stroke:var(--map);stroke-width:2.2}"
        ".through{stroke:var(--lane);stroke-width:1.4}"
        ".halo{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}"
        ".map{fill:var(--mappaper);stroke:var(--map)}.mapink{fill:var(--map)}"
        ".open{fill:var(--openpaper);stroke:var(--open)}.openink{fill:var(--open)}"
        ".bad{fill:var(--badpaper);stroke:var(--bad)}.badink{fill:var(--bad)}"
        ".cross{stroke:var(--bad);stroke-width:3;stroke-linecap:round}"
        ".step{fill:var(--step);stroke:var(--paper);stroke-width:2}.stepink{fill:var(--stepink)}"
        ".proven{stroke:var(--peer);stroke-width:1.6;stroke-dasharray:7 5}"
        ".m-change,.m-failed,.m-dead,.m-repaired{stroke-width:1.6;stroke-dasharray:3 4}"
        + "".join(
            f".m-{mark}{{stroke:var(--{colour})}}.t-{mark},.f-{mark}{{fill:var(--{colour})}}"
            f".b-{mark}{{fill:var(--{colour}paper);stroke:var(--{colour})}}"
            for mark, colour in MARKS.items()
        )
        + ".span{opacity:.12}.absent{opacity:.4}.faint{opacity:.6}"
        + kinds
        + roles
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    style: str = "",
    *,
    anchor: str = "start",
    turn: float = 0.0,
) -> str:
    """A text element, turned about its own place by `turn` degrees."""
    more = f' class="{style}"' if style else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    more += f' transform="rotate({turn:.1f} {x:.1f} {y:.1f})"' if abs(turn) > 0.05 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{more}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, style: str, *, radius: float) -> str:
    """A rectangle with round corners."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius:g}" class="{style}"/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line."""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{style}"/>'


def ball(x: float, y: float, number: int) -> Iterator[str]:
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="11.5" class="step"/>'
    yield text(x, y + 4.8, str(number), 13.5, "bold stepink", anchor="middle")
