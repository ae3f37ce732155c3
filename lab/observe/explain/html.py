"""A ladder as one self-contained page: the picture, and every packet of it in words."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from lab.observe.explain.ladder import Ladder, Mark, Row
from lab.observe.explain.style import SANS
from lab.observe.explain.svg import svg
from lab.observe.explain.words import account, happening, moment, title

_SHEET = (
    f"body{{margin:0;padding:24px;font-family:{SANS};background:#eceff4;color:#1c2333}}"
    "main{max-width:1200px;margin:auto}svg{width:100%;height:auto;display:block}"
    "details{margin-top:20px}summary{cursor:pointer;font-weight:600}"
    "table{border-collapse:collapse;font-size:13px;margin-top:12px;width:100%}"
    "th,td{text-align:left;padding:5px 10px;border-bottom:1px solid #d3d9e3;vertical-align:top}"
    ".mark td{font-weight:600}"
    "td:first-child{white-space:nowrap}code{font-size:12px}"
    "@media(prefers-color-scheme:dark){body{background:#0b0e14;color:#e9edf5}"
    "th,td{border-color:#374055}}"
)


def html(ladder: Ladder) -> str:
    """`ladder` as an HTML document that needs nothing from elsewhere."""
    lines = [(row.at_ms, _row(row)) for row in ladder.rows]
    lines += [(mark.at_ms, _mark(mark)) for mark in ladder.marks]
    rows = "\n".join(line for _, line in sorted(lines, key=lambda each: each[0]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title(ladder))}</title>
<style>{_SHEET}</style>
</head>
<body>
<main>
{svg(ladder)}
<details>
<summary>Every packet of the picture, in words</summary>
<table>
<thead><tr><th>when</th><th>packet</th><th>what happened</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</details>
</main>
</body>
</html>
"""


def _row(row: Row) -> str:
    happened = "<br>".join(_happened(row))
    return (
        f"<tr><td>{moment(row.at_ms)}</td><td>{escape(account(row))}</td><td>{happened}</td></tr>"
    )


def _mark(mark: Mark) -> str:
    at = f"<td>{moment(mark.at_ms)}</td>"
    return f'<tr class="mark">{at}<td colspan="2">{escape(happening(mark))}</td></tr>'


def _happened(row: Row) -> Iterator[str]:
    for number, lane in row.steps:
        yield f"<b>step {number}</b> at {escape(lane)}"
    for note in row.notes:
        rule = f"<br><code>{escape(note.rule)}</code>" if note.rule else ""
        yield f"{escape(note.lane)}: {escape(note.kind)}: {escape(note.text)}{rule}"
    if row.more:
        yield f"and {row.more} more like it until {moment(row.until_ms)}"
