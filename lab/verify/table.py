"""A report for people: declared beside observed, and what differs first of all."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lab.plan.words import FILTERINGS, MAPPINGS, plural
from lab.topology.behaviour import Dependence
from lab.verify.links.words import NOTHING, UNLIMITED
from lab.verify.report import (
    IPV4,
    Finding,
    LinkDimension,
    LinkFinding,
    LinkVerdict,
    PeerFinding,
    Report,
)

_PLAIN_WIDTH = 100
_ASCII = str.maketrans({"✓": "v", "✗": "x", "→": ">", "…": "~"})


def render(report: Report) -> None:
    """Print `report` on stdout."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    with console.capture() as capture:
        for part in shown(report, console.width):
            # Tables fold; a sentence is left to the terminal, and to those who search for it.
            console.print(part, soft_wrap=isinstance(part, Text), crop=False)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    encoding = (sys.stdout.encoding or "ascii").lower()
    sys.stdout.write(text if encoding.startswith("utf") else text.translate(_ASCII))


def shown(report: Report, width: int) -> list[RenderableType]:
    """The tables of a report, `width` columns wide, and one line that sums it up."""
    parts: list[RenderableType] = []
    if report.findings or report.links:
        parts += [_findings(report.findings, report.links, width), Text()]
    if report.peers:
        parts += [_peers(report.peers), Text()]
    parts += [
        Text(f"{one.node} could not be measured: {one.why}", style="yellow")
        for one in report.unmeasured
    ]
    parts.append(_sum(report))
    return parts


def _findings(
    findings: Sequence[Finding], links: Sequence[LinkFinding], width: int
) -> RenderableType:
    table = _table("node or link", "dimension", "", "declared", "observed")
    former = ""
    for one in _merged(findings):
        name = one.node if one.node != former else ""
        former = one.node
        table.add_row(
            Text(name, style="bold"),
            str(one.dimension),
            Text(one.protocol, style="dim"),
            Text(one.declared),
            _with_detail(
                _mark(one.observed, ok=one.ok, unclear=one.distorted),
                f"distorted: {one.detail}" if one.distorted else one.detail,
            ),
        )
    for line in _noteworthy(links):
        name = line.link if line.link != former else ""
        former = line.link
        distorted = line.verdict is LinkVerdict.DISTORTED
        open_ = line.verdict is LinkVerdict.UNMEASURED
        table.add_row(
            Text(name, style="bold"),
            str(line.dimension),
            Text(line.way, style="dim"),
            Text(line.declared),
            _with_detail(
                Text(f"- {line.observed}", style="dim")
                if open_
                else _mark(line.observed, ok=None if distorted else line.ok, unclear=distorted),
                f"distorted: {line.detail}" if distorted else line.detail,
            ),
        )
    _fold(table, width)
    return table


def _with_detail(observed: Text, detail: str) -> Text:
    """The last cell of a row: what there is to say is beneath, where there is room for it."""
    return observed.append(f"\n{detail}", style="dim default") if detail else observed


def _noteworthy(links: Sequence[LinkFinding]) -> list[LinkFinding]:
    """Without what nobody asked for and isn't there; both directions in one line where alike."""
    merged: dict[tuple[str, ...], LinkFinding] = {}
    for one in links:
        absent = one.declared in (NOTHING, UNLIMITED)
        if absent and one.verdict in (LinkVerdict.AS_DECLARED, LinkVerdict.UNMEASURED):
            continue
        key = (one.link, one.dimension, one.declared, one.observed, str(one.verdict), one.detail)
        had = merged.get(key)
        merged[key] = replace(had, way=f"{had.way}, {one.way}") if had else one
    return sorted(merged.values(), key=lambda one: _place(one, links))


def _place(one: LinkFinding, links: Sequence[LinkFinding]) -> tuple[int, int]:
    """Link by link, and the dimensions in their order."""
    names = list(dict.fromkeys(line.link for line in links))
    return names.index(one.link), list(LinkDimension).index(one.dimension)


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """UDP and TCP in one line where they agree."""
    merged: dict[tuple[str, ...], Finding] = {}
    for one in findings:
        family = "" if one.family == IPV4 else f"{one.family} "
        key = (one.node, one.dimension, one.declared, one.observed, one.detail, str(one.ok), family)
        had = merged.get(key)
        protocol = f"{had.protocol} {one.protocol}" if had else f"{family}{one.protocol}"
        merged[key] = Finding(
            node=one.node,
            dimension=one.dimension,
            protocol=protocol,
            declared=one.declared,
            observed=one.observed,
            ok=one.ok,
            detail=one.detail,
            distorted=one.distorted,
        )
    return list(merged.values())


def _peers(peers: Sequence[PeerFinding]) -> RenderableType:
    table = _table("by STUN", "", "behind", "class declared", "observed", "mapping", "filtering")
    for one in peers:
        table.add_row(
            Text(one.node, style="bold"),
            Text("" if one.family == IPV4 else one.family, style="dim"),
            Text(" → ".join(one.behind) or "nothing", style="dim"),
            Text(one.declared),
            _mark(one.observed, ok=one.declared == one.observed),
            _mark(_versus(one.mapping, one.declared_mapping, MAPPINGS)),
            _mark(_versus(one.filtering, one.declared_filtering, FILTERINGS)),
        )
    return table


def _versus(observed: str, declared: str, letters: Mapping[Dependence, str]) -> str:
    """In RFC 4787's abbreviations, so that a line fits beside six others."""
    short: dict[str, str] = {str(word): text for word, text in letters.items()}
    found, wanted = (short.get(word, word) for word in (observed, declared))
    return found if found == wanted else f"✗ {found}, not {wanted}"


def _mark(text: str, *, ok: bool | None = None, unclear: bool = False) -> Text:
    if unclear:
        return Text(f"? {text}", style="yellow")
    if ok is None:
        return Text(text, style="red" if text.startswith("✗") else "")
    return Text(f"{'✓' if ok else '✗'} {text}", style="green" if ok else "red")


def _sum(report: Report) -> Text:
    measured = len({one.node for one in report.findings})
    wires = len({one.link for one in report.links})
    parts = [
        "1 NAT or firewall" if measured == 1 else f"{measured} NATs and firewalls",
        plural(wires, "link"),
    ]
    took = f"in {report.seconds:.2f} s"
    if report.ok:
        found = [part for part, count in zip(parts, (measured, wires), strict=True) if count]
        if not found and not report.peers:
            return Text("nothing to verify: no NAT, no firewall and no link")
        if report.distorted:
            count = len(report.distorted)
            return Text(f"? {count} of what was measured is distorted, {took}", style="yellow")
        return Text(f"✓ {' and '.join(found or parts[:1])} as declared, {took}", style="green")
    if count := len(report.differences):
        what = f"{count} of what was measured differs from what is declared"
    else:
        what = f"{len(report.failed)} of what is declared could not be measured"
    return Text(f"✗ {what}, {took}", style="red")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _fold(table: Table, width: int) -> None:
    """Make `table` that wide: cells fold between words, in the widest column first."""
    longest, least = [], []
    for column in table.columns:
        cells = [str(column.header), *map(str, column.cells)]
        lines = [line for cell in cells for line in cell.splitlines()]
        longest.append(max(map(len, lines), default=0))
        # A mark stays beside its word.
        words = [word for line in lines for word in re.findall(r"(?:[✓✗?] )?\S+", line)]
        least.append(max(map(len, words), default=0))
    gaps = 2 * len(longest)
    room = width - gaps
    if longest[0] + sum(least[1:]) <= room:
        # Names stay whole as long as there is room for the rest.
        least[0] = longest[0]
    while sum(longest) > room and longest != least:
        widest = max(range(len(longest)), key=lambda i: (longest[i] > least[i], longest[i]))
        longest[widest] -= 1
    for column, wide in zip(table.columns, longest, strict=True):
        column.no_wrap, column.overflow, column.width = False, "fold", wide
    # Where words have no room, lines are longer: cut into letters, nobody could read them.
    table.width = sum(longest) + gaps
