"""`lab status`: a running lab as a person likes to read it.

`overview` builds what is shown, `render` prints it on stdout; `lab.observe.status_json`
has the same for programs.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lab.observe import words
from lab.observe.attempts_table import Record, connections
from lab.observe.outline import Branch, lines, tree
from lab.observe.page import PLAIN_WIDTH, WIDE, console, plain, printable, show, table_of
from lab.observe.sample import HealthSample
from lab.observe.state import AgentState, ProgramState, Stage, program_words
from lab.plan.backends import why_ferry
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.words import ipv6, plural
from lab.topology.changes import Activity
from lab.topology.character import Backend

_STAGES = {
    Stage.STARTING: ("◌", "yellow"),
    Stage.READY: ("●", "green"),
    Stage.PAUSED: ("‖", "yellow"),
    Stage.EXITED: ("✗", "red"),
    Stage.FAILED: ("✗", "red"),
}
_VERY_WIDE = 140
"""Columns from which on NATs have room for more than their name."""


def render(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
) -> None:
    """Print the state of a running lab; `health` is None if nobody watched."""
    terminal = console()
    shown = overview(plan, programs, health, attempts, agent, now=time.time(), width=terminal.width)
    show(terminal, shown)


def overview(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
    *,
    now: float,
    width: int = PLAIN_WIDTH,
) -> RenderableType:
    """Header, tree of nodes, last connections, health; `now` in seconds since the epoch."""
    known = programs if agent.pid is not None else {}
    parts: list[RenderableType] = [_header(plan, known, agent, now), Text()]
    parts.append(_nodes(plan, known, now, width))
    if attempts:
        parts += [Text(), connections(attempts, now, width)]
    parts += [Text(), *_carriers(plan), _health(health)]
    return Group(*parts)


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
    counts = f"{plural(plan.node_count, 'node')}, {plural(len(plan.links), 'link')}"
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
    wide, brief = width >= WIDE, width < _VERY_WIDE
    table = table_of("node", "address")
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
        return ", ".join(filter(None, parts)), words.access(branch.down, branch.up, cut=branch.cut)

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
            plain(what),
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
            text.append(f": {printable(state.reason)}")
    return text


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
