"""`lab verify`: measure every NAT, firewall and link against what it claims to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lab.cli.labs import json_option

if TYPE_CHECKING:
    from lab.paths import LabPaths
    from lab.plan.model import Link, Plan
    from lab.verify.links.toll import Reading
    from lab.verify.report import Report


@click.command()
@click.argument("names", nargs=-1, metavar="[LAB] [NODE]...")
@click.option("--slow", is_flag=True, help="Lifetimes and what refreshes them, too; links longer.")
@click.option(
    "--limit",
    type=click.FloatRange(1),
    default=300.0,
    metavar="SECONDS",
    help="With --slow: follow a mapping no longer than that.",
)
@click.option("--links/--no-links", default=None, help="Links alone, or none of them.")
@click.option(
    "--link",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="A B",
    help="The link between A and B alone; may be repeated.",
)
@click.option("--lab", "-l", "lab_name", metavar="NAME", envvar="LAB_LAB", help="Which lab.")
@json_option
def command(
    *,
    names: tuple[str, ...],
    slow: bool,
    limit: float,
    links: bool | None,
    pairs: tuple[tuple[str, str], ...],
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Measure every NAT, firewall and link of a running lab: declared beside observed.

    Each router is measured by itself, by packets at the two ends of its wires,
    and each link by frames from one of its ends to the other; peers ask the
    lab's STUN server besides.  Nothing of the lab is changed.

    The first name is the lab's, unless only one is running and it has a node
    of that name; with nodes, it is about these and the links that end there.
    Exit code 1 if something is not as declared, 4 if it could not be measured;
    what the lab itself cut off need not be.
    """
    from lab.cli.labs import choose, existing, need_root, node_of, plan_of
    from lab.cli.terminal import print_json
    from lab.errors import AnswerNoError, LabError
    from lab.observe import host
    from lab.verify import LinkOptions, verify
    from lab.verify.report import excused
    from lab.verify.table import render

    need_root()
    source = click.get_current_context().get_parameter_source("lab_name")
    unsaid = lab_name is None and len(existing()) != 1
    if source is not ParameterSource.COMMANDLINE and names and (unsaid or names[0] in existing()):
        lab_name, names = names[0], names[1:]
    paths = choose(lab_name)
    plan = plan_of(paths)
    for name in names:
        node_of(paths, name)
    chosen = _chosen(plan, names, pairs)
    about_links = LinkOptions(chosen=chosen, slow=slow, read=lambda: _reading(paths))
    # Links alone: no node is measured.
    nodes = () if links or pairs else names or None
    before = host.read().neighbour_overflows
    report = verify(
        plan,
        paths,
        nodes,
        slow=slow,
        limit_s=limit,
        links=None if links is False and not pairs else about_links,
        now=lambda: plan_of(paths),
    )
    report = excused(report, host.read().neighbour_overflows - before)
    if as_json:
        print_json(_as_json(report))
    else:
        render(report)
    if not report.ok:
        verdict = AnswerNoError if report.differences else LabError
        raise click.exceptions.Exit(verdict.exit_code)


def _chosen(
    plan: Plan, names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]
) -> Callable[[Link], bool]:
    """Which links are meant; InputError for a pair that no link joins."""
    from lab.plan.attachment import find_link, upper_end

    if pairs:
        wanted = {find_link(plan, one, other).name for one, other in pairs}
        return lambda link: link.name in wanted
    if names:
        return lambda link: bool({link.a.node, link.b.node, upper_end(link)} & {*names})
    return lambda _: True


def _reading(paths: LabPaths) -> Reading | None:
    """What the agent says of the machine; None where it doesn't answer."""
    import msgspec

    from lab.agent.client import AgentGoneError, result
    from lab.verify.links.toll import Reading

    try:
        return msgspec.convert(result(paths, {"do": "toll"}), Reading)
    except AgentGoneError:
        return None


def _as_json(report: Report) -> dict[str, Any]:
    import msgspec

    return {
        "lab": report.lab,
        "ok": report.ok,
        "findings": [msgspec.to_builtins(one) | {"ok": one.ok} for one in report.findings],
        "peers": [msgspec.to_builtins(one) | {"ok": one.ok} for one in report.peers],
        "links": [msgspec.to_builtins(one) | {"ok": one.ok} for one in report.links],
        "unmeasured": [
            {"node": one.node, "why": one.why, "meant": one.meant} for one in report.unmeasured
        ],
        "seconds": report.seconds,
    }
