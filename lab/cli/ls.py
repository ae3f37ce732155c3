"""`lab ls`: the labs on this machine."""

from __future__ import annotations

import click

from lab.cli.labs import existing, json_option


@click.command()
@json_option
def command(*, as_json: bool) -> None:
    """List the labs on this machine."""
    from lab.agent import lock
    from lab.cli.labs import plan_of, readable
    from lab.cli.terminal import print_json, say
    from lab.errors import InputError
    from lab.paths import LabPaths

    rows = []
    for name in existing():
        paths = LabPaths.of(name)
        agent, plan, state = None, None, "needs root"
        if readable(paths):
            agent = lock.holder(paths.agent_lock)
            try:
                plan = plan_of(paths)
            except InputError:
                plan = None
            state = "broken" if plan is None else "running" if agent else "agent dead"
        rows.append(
            {
                "lab": name,
                "state": state,
                "nodes": plan.node_count if plan else 0,
                "links": len(plan.links) if plan else 0,
                "source": plan.source if plan else "",
                "agent": agent,
            }
        )
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("no lab is running; start one: lab up double-nat")
        return
    click.echo(f"{'LAB':<20} {'STATE':<11} {'NODES':>6} {'LINKS':>6}  TOPOLOGY")
    for row in rows:
        click.echo(
            f"{row['lab']:<20} {row['state']:<11} {row['nodes']:>6} {row['links']:>6}"
            f"  {row['source']}"
        )
