"""Connection attempts as a person likes to read them: a line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from lab.observe import words
from lab.observe.attempts import latest, seconds_of
from lab.observe.page import PLAIN_WIDTH, WIDE, console, printable, show, table_of
from lab.topology.outcomes import CONNECTED

Record = Mapping[str, Any]

_OUTCOMES = {
    **dict.fromkeys(CONNECTED, ("✓", "green")),
    **dict.fromkeys(("unsupported", "cancelled"), ("○", "dim")),
}
_ATTEMPTS_SHOWN = 10


def render_attempts(records: Sequence[Record]) -> None:
    """Print what became of connection attempts (docs/contract.md)."""
    terminal = console()
    show(terminal, attempts_table(records, width=terminal.width))


def attempts_table(records: Sequence[Record], *, width: int = PLAIN_WIDTH) -> RenderableType:
    """A line for each attempt: how it went, how fast, what it cost, and why."""
    table = table_of("technique", "outcome", "path")
    numbers = ["time to path", "rtt"]
    if width >= WIDE:
        numbers += ["jitter", "packets"]
        if any(seconds_of(record.get("goodput_bps")) for record in records):
            numbers.insert(-1, "goodput")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column()
    for record in records:
        cells = {
            "time to path": words.latency(seconds_of(record.get("time_to_path_s"))),
            "rtt": words.latency(seconds_of(record.get("rtt_after_s"))),
            "jitter": words.latency(seconds_of(record.get("jitter_s"))),
            "goodput": _goodput(record),
            "packets": _packets(record),
        }
        table.add_row(
            Text(word(record, "technique")),
            outcome_of(record),
            Text(word(record, "path")),
            *(cells[name] for name in numbers),
            _explanation(record),
        )
    return table


def connections(attempts: Iterable[Record], now: float, width: int) -> RenderableType:
    """The last attempts of each kind, for the overview; `now` in seconds since the epoch."""
    table = table_of("last connections", "technique", "outcome", "path")
    for name in ("time", "rtt"):
        table.add_column(name, justify="right", no_wrap=True)
    if width >= WIDE:
        table.add_column(style="dim", no_wrap=True)
    for record in latest(attempts, pair)[-_ATTEMPTS_SHOWN:]:
        began = seconds_of(record.get("started_at"))
        when = f"{words.duration(max(now - began, 0.0))} ago" if began else ""
        table.add_row(
            Text(f"{word(record, 'local')} → {word(record, 'remote')}"),
            Text(word(record, "technique")),
            outcome_of(record),
            Text(word(record, "path")),
            words.latency(seconds_of(record.get("time_to_path_s"))),
            words.latency(seconds_of(record.get("rtt_after_s"))),
            *([when] if width >= WIDE else []),
        )
    return table


def outcome_of(record: Record) -> Text:
    """The outcome, with a sign."""
    outcome = word(record, "outcome")
    sign, style = _OUTCOMES.get(outcome, ("✗", "red"))
    return Text(f"{sign} {outcome}", style=style)


def _explanation(record: Record) -> Text:
    """Why it failed, between which endpoints it worked, or by whom it is relayed."""
    ends = [record.get(f"{side}_candidate") for side in ("local", "remote")]
    by = word(record, "reason") if record.get("path") == "relayed" else ""
    connected = record.get("outcome") in CONNECTED
    if connected and not by and all(isinstance(end, dict) for end in ends):
        shown = (printable(str(end.get("endpoint", "?"))) for end in ends if isinstance(end, dict))
        return Text(" → ".join(shown), style="dim")
    return Text(word(record, "reason"), style="dim" if connected else "")


def _goodput(record: Record) -> str:
    """The rate; with an equals sign if an attempt before measured it, on the same path."""
    rate = words.rate(seconds_of(record.get("goodput_bps")))
    return f"= {rate}" if rate and record.get("goodput_by") else rate


def _packets(record: Record) -> str:
    packets = record.get("packets")
    if not isinstance(packets, dict):
        return ""
    return str(sum(count for count in packets.values() if isinstance(count, int)))


def pair(record: Record) -> tuple[str, ...]:
    """From whom to whom, and how."""
    return tuple(word(record, key) for key in ("local", "remote", "technique"))


def word(record: Record, key: str) -> str:
    """A word of a record; "" if there is none."""
    value = record.get(key)
    return printable(value) if isinstance(value, str) else ""
