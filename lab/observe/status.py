"""`lab status` and the table of `lab connect`: a running lab as a person likes to read it.

`overview` and `attempts_table` build what is shown, `render` and
`render_attempts` print it on stdout; `status_json` has the same for programs.
A terminal gets colour and its own width; anything else gets plain text whose
lines are as long as they need to be.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lab.observe import words
from lab.observe.attempts import latest, seconds_of
from lab.observe.health import HealthSample
from lab.observe.outline import Branch, lines, tree
from lab.observe.state import AgentState, ProgramState, Stage, program_words
from lab.plan.backends import why_ferry
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.words import ipv6, plural
from lab.topology.behaviour import Backend
from lab.topology.changes import Activity
from lab.topology.fields import CONNECTED

Record = Mapping[str, Any]

_STAGES = {
    Stage.STARTING: ("◌", "yellow"),
    Stage.READY: ("●", "green"),
    Stage.PAUSED: ("‖", "yellow"),
    Stage.EXITED: ("✗", "red"),
    Stage.FAILED: ("✗", "red"),
}
_OUTCOMES = {
    **dict.fromkeys(CONNECTED, ("✓", "green")),
    **dict.fromkeys(("unsupported", "cancelled"), ("○", "dim")),
}
_ATTEMPTS_SHOWN = 10
_PLAIN_WIDTH = 200
_WIDE = 100
"""Columns from which on links, inner addresses and details of attempts have room."""
_VERY_WIDE = 140
"""Columns from which on NATs have room for more than their name."""
_ASCII = str.maketrans(dict(zip("├└│─●◌○✗✓→…‖■", "|`|-*ooxv>~=#", strict=True)))


def render(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
) -> None:
    """Print the state of a running lab; `health` is None if nobody watched."""
    console = _console()
    shown = overview(plan, programs, health, attempts, agent, now=time.time(), width=console.width)
    _print(console, shown)


def render_attempts(records: Sequence[Record]) -> None:
    """Print what became of connection attempts (docs/contract.md)."""
    console = _console()
    _print(console, attempts_table(records, width=console.width))


def overview(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
    *,
    now: float,
    width: int = _PLAIN_WIDTH,
) -> RenderableType:
    """Header, tree of nodes, last connections, health; `now` in seconds since the epoch."""
    known = programs if agent.pid is not None else {}
    parts: list[RenderableType] = [_header(plan, known, agent, now), Text()]
    parts.append(_nodes(plan, known, now, width))
    if attempts:
        parts += [Text(), _connections(attempts, now, width)]
    parts += [Text(), *_carriers(plan), _health(health)]
    return Group(*parts)


def attempts_table(records: Sequence[Record], *, width: int = _PLAIN_WIDTH) -> RenderableType:
    """A line for each attempt: how it went, how fast, what it cost, and why."""
    table = _table("technique", "outcome", "path")
    numbers = ["time to path", "rtt"]
    if width >= _WIDE:
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
            "goodput": words.rate(seconds_of(record.get("goodput_bps"))),
            "packets": _packets(record),
        }
        table.add_row(
            Text(_word(record, "technique")),
            _outcome(record),
            Text(_word(record, "path")),
            *(cells[name] for name in numbers),
            _explanation(record),
        )
    return table


def status_json(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
    *,
    now: float | None = None,
) -> dict[str, Any]:
    """What `overview` shows, as JSON-ready data."""
    now = time.time() if now is None else now
    return {
        "lab": plan.lab,
        "description": plan.description,
        "source": plan.source,
        "agent": {
            "pid": agent.pid,
            "alive": agent.pid is not None,
            "uptime_s": agent.uptime_s(now),
            "metrics": agent.metrics or None,
        },
        "nodes": [
            {
                "node": node.name,
                "kind": str(node.kind),
                "addresses": {face.name: list(face.addresses) for face in node.interfaces},
                "nat": _stated(node.nat),
                "firewall": _stated(node.firewall),
                "firewall6": _stated(node.firewall6),
                "nptv6": _stated(node.nptv6),
                "nat64": _stated(node.nat64),
                "activity": str(node.activity),
                "program": _program_json(node.program, programs.get(node.name), agent, now),
                "daemons": {
                    daemon.name: _daemon_json(programs.get(daemon.key(node.name)), agent, now)
                    for daemon in node.daemons
                },
            }
            for node in plan.nodes
        ],
        "links": [
            {"name": link.name, **msgspec.to_builtins(link), "backend": str(link.backend)}
            for link in plan.links
        ],
        "attempts": [dict(record) for record in latest(attempts, _pair)],
        "health": health
        and {
            **{field: getattr(health, field) for field in health.__struct_fields__},
            "distorted": health.distorted,
            "reasons": list(health.reasons),
        },
    }


def _stated(data: Any) -> Any:
    """`data` for a program that reads it: with every field, also where it is the default."""
    if isinstance(data, msgspec.Struct):
        return {field: _stated(getattr(data, field)) for field in data.__struct_fields__}
    if isinstance(data, list | tuple):
        return [_stated(item) for item in data]
    return msgspec.to_builtins(data)


def _program_json(program: Any, state: ProgramState | None, agent: AgentState, now: float) -> Any:
    if program is None:
        return None
    return {
        "program": program_words(program),
        "runtime": str(program.runtime),
        **_daemon_json(state, agent, now),
    }


def _daemon_json(state: ProgramState | None, agent: AgentState, now: float) -> dict[str, Any]:
    known = state if agent.pid is not None else None
    return {
        "state": str(known.state) if known else "unknown",
        "pid": known.pid if known else None,
        "exit_code": known.exit_code if known else None,
        "reason": known.reason if known else "",
        "uptime_s": known.uptime_s(now) if known else 0.0,
    }


def _header(
    plan: Plan, programs: Mapping[str, ProgramState], agent: AgentState, now: float
) -> RenderableType:
    head = Text(plan.lab, style="bold")
    if agent.pid is None:
        head.append("  agent dead", style="bold red")
    else:
        head.append("  running", style="green")
        if agent.started_at:
            head.append(f" for {words.duration(agent.uptime_s(now))}")
    wanted = [name for node in plan.nodes for name in node.programs]
    ready = sum(1 for name in wanted if name in programs and programs[name].up)
    nodes = sum(1 for node in plan.nodes if node.kind is not NodeKind.SEGMENT)
    counts = f"{plural(nodes, 'node')}, {plural(len(plan.links), 'link')}"
    if wanted and agent.pid is not None:
        counts += f", {ready} of {plural(len(wanted), 'program')} ready"
    lines_ = [head.append(f"  {counts}", style="dim")]
    if plan.description:
        lines_.append(Text(plan.description))
    facts = [plan.source, agent.metrics, f"agent {agent.pid}" if agent.pid else ""]
    if any(facts):
        lines_.append(Text("  ".join(filter(None, facts)), style="dim"))
    if agent.pid is None:
        lines_.append(
            Text(
                "The network stands, but nobody looks after its programs and links; "
                f"`lab down {plan.lab}` removes it.",
                style="red",
            )
        )
    return Group(*lines_)


def _nodes(
    plan: Plan, programs: Mapping[str, ProgramState], now: float, width: int
) -> RenderableType:
    wide, brief = width >= _WIDE, width < _VERY_WIDE
    table = _table("node", "address")
    table.add_column("nat or program")
    table.add_column(no_wrap=True)
    if wide:
        table.add_column("link")

    def nature(branch: Branch) -> tuple[str, str]:
        node = branch.node
        parts = [
            words.nat(node.nat, brief=brief) if node.nat else "",
            words.firewall(node.firewall, brief=brief) if node.firewall else "",
            ipv6(node),
            program_words(node.program, brief=True) if node.program else "",
            *(daemon.name for daemon in node.daemons),
        ]
        return ", ".join(filter(None, parts)), words.access(branch.down, branch.up)

    def look(branch: Branch) -> tuple[str, ...]:
        """Everything but the addresses: what makes two nodes alike."""
        states = [programs.get(name) for name in branch.node.programs]
        now_ = ((state.state, state.reason, str(state.exit_code)) for state in states if state)
        return (*nature(branch), *itertools.chain(*now_))

    for line in lines(tree(plan), look):
        node = line.branch.node
        drawn = Text(line.guide, style="dim")
        if line.more:
            drawn.append(f"… {node.name}")
            table.add_row(drawn, Text(f"{line.more} more like {line.like}", style="dim"))
            continue
        internet = node.kind is NodeKind.INTERNET
        what, link = nature(line.branch)
        table.add_row(
            drawn.append(node.name, style="bold not dim"),
            "" if internet else words.addresses(node, brief=not wide),
            _plain(what),
            _states(node, programs, now, wide=wide),
            *([link] if wide else []),
        )
    return table


def _states(node: Node, programs: Mapping[str, ProgramState], now: float, *, wide: bool) -> Text:
    """The state of what runs in `node`: of its program or, by name, of the first that is not up."""
    if not node.programs:
        return Text()
    if node.activity is Activity.STOPPED:
        return Text("■ stopped", style="yellow")
    down = [name for name in node.programs if name not in programs or not programs[name].up]
    name = (down or node.programs)[0]
    text = _state(programs.get(name), now, wide=wide)
    return Text(f"{name.partition('/')[2]} ").append(text) if down and "/" in name else text


def _state(state: ProgramState | None, now: float, *, wide: bool) -> Text:
    if state is None:
        return Text("? unknown", style="dim")
    sign, style = _STAGES[state.state]
    if state.state is Stage.EXITED and state.exit_code == 0:
        sign, style = "○", "dim"
    text = Text(f"{sign} {state.state}", style=style)
    if state.exceeded:
        return Text(f"{sign} killed: {state.exceeded}", style=style)
    match state.state:
        case Stage.READY if state.started_at and wide:
            text.append(f" {words.duration(state.uptime_s(now))}", style="dim")
        case Stage.EXITED:
            text.append(f" {state.exit_code}")
        case Stage.FAILED if state.reason:
            text.append(f": {_printable(state.reason)}")
    return text


def _connections(attempts: Iterable[Record], now: float, width: int) -> RenderableType:
    table = _table("last connections", "technique", "outcome", "path")
    for name in ("time", "rtt"):
        table.add_column(name, justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column(style="dim", no_wrap=True)
    for record in latest(attempts, _pair)[-_ATTEMPTS_SHOWN:]:
        began = seconds_of(record.get("started_at"))
        when = f"{words.duration(max(now - began, 0.0))} ago" if began else ""
        table.add_row(
            Text(f"{_word(record, 'local')} → {_word(record, 'remote')}"),
            Text(_word(record, "technique")),
            _outcome(record),
            Text(_word(record, "path")),
            words.latency(seconds_of(record.get("time_to_path_s"))),
            words.latency(seconds_of(record.get("rtt_after_s"))),
            *([when] if width >= _WIDE else []),
        )
    return table


def _carriers(plan: Plan) -> Iterator[Text]:
    """What carries the links that are like something, and why not the kernel."""
    shaped = [link for link in plan.links if link.backend is not Backend.PLAIN]
    if not shaped:
        return
    reasons = Counter(
        why_ferry(link, netem=plan.netem, seed=plan.netem_seed)
        for link in shaped
        if link.backend is Backend.FERRY
    )
    parts = [f"{count} by ferry ({reason})" for reason, count in reasons.items()]
    if kernel := len(shaped) - sum(reasons.values()):
        parts.insert(0, f"{kernel} by the kernel")
    yield Text(f"links    {', '.join(parts)}", style="dim")


def _health(health: HealthSample | None) -> RenderableType:
    if health is None:
        return Text("machine  not watched", style="dim")
    if health.distorted:
        text = Text("machine  ✗ distorts this lab: ", style="red")
        return text.append("; ".join(health.reasons))
    facts = [
        f"{health.cpu_busy:.0%} busy",
        f"wakes programs {words.latency(health.lag_p99_s)} late (p99)",
    ]
    if health.ferry_lateness_p99_s is not None:
        facts.append(f"links deliver {words.latency(health.ferry_lateness_p99_s)} late (p99)")
    if health.queue_drops:
        facts.append(f"slow links dropped {plural(health.queue_drops, 'packet')}")
    return Text("machine  ").append("● keeps up", style="green").append(f": {', '.join(facts)}")


def _outcome(record: Record) -> Text:
    outcome = _word(record, "outcome")
    sign, style = _OUTCOMES.get(outcome, ("✗", "red"))
    return Text(f"{sign} {outcome}", style=style)


def _explanation(record: Record) -> Text:
    """Why it failed, or between which endpoints it worked."""
    ends = [record.get(f"{side}_candidate") for side in ("local", "remote")]
    if record.get("outcome") in CONNECTED and all(isinstance(end, dict) for end in ends):
        shown = (_printable(str(end.get("endpoint", "?"))) for end in ends if isinstance(end, dict))
        return Text(" → ".join(shown), style="dim")
    return Text(_word(record, "reason"))


def _packets(record: Record) -> str:
    packets = record.get("packets")
    if not isinstance(packets, dict):
        return ""
    return str(sum(count for count in packets.values() if isinstance(count, int)))


def _pair(record: Record) -> tuple[str, ...]:
    return tuple(_word(record, key) for key in ("local", "remote", "technique"))


def _word(record: Record, key: str) -> str:
    value = record.get(key)
    return _printable(value) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    """`text` on one line and harmless: a program chose it, and escape codes move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _plain(text: str) -> Text:
    """`text` as it is: a string in a table would be read for markup."""
    return Text(_printable(text))


def _table(*names: str) -> Table:
    """A table without lines; the columns given here keep what they hold on one line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def _print(console: Console, shown: RenderableType) -> None:
    with console.capture() as capture:
        console.print(shown)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    encoding = (sys.stdout.encoding or "ascii").lower()
    sys.stdout.write(text if encoding.startswith("utf") else text.translate(_ASCII))
