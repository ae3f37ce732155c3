"""`lab firewall`: show and change the firewalls of a running lab."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.group()
def command() -> None:
    """Show and change the firewalls of a running lab.

    Any router or node may get one, another one, or none.
    """


@command.command()
@click.argument("node", required=False)
@click.option("--rules", is_flag=True, help="The rule set that is loaded now, with comments.")
@lab_option
@json_option
def show(*, node: str | None, rules: bool, lab_name: str | None, as_json: bool) -> None:
    """Show what firewalls let pass.

    All of them, or that of NODE rule by rule.
    """
    from lab.cli.labs import choose, need_root, plan_of
    from lab.cli.standing import print_rules
    from lab.cli.terminal import print_json, say
    from lab.errors import InputError
    from lab.observe import behaviours
    from lab.plan.change import filtering

    paths = choose(lab_name)
    plan = plan_of(paths)
    if rules:
        if node is None:
            raise InputError("the rules of which node?", remedy="lab firewall show NODE --rules")
        need_root()
        print_rules(paths, filtering(plan, node), as_json=as_json)
        return
    there = [each for each in plan.nodes if each.firewall or each.firewall6]
    nodes = [filtering(plan, node)] if node else there
    if as_json:
        found = [
            {
                "node": each.name,
                "firewall": behaviours.complete(each.firewall),
                "firewall6": behaviours.complete(each.firewall6),
            }
            for each in nodes
        ]
        print_json(found[0] if node else found)
    elif node is None:
        click.echo("\n".join(behaviours.firewalls(nodes))) if nodes else say("no firewalls")
    elif nodes[0].firewall or nodes[0].firewall6:
        click.echo("\n".join(behaviours.firewall(nodes[0])))
    else:
        say(f"{node} has no firewall")


@command.command("set")
@click.argument("node")
@click.argument("spec", nargs=-1, required=True)
@lab_option
@json_option
def set_(*, node: str, spec: tuple[str, ...], lab_name: str | None, as_json: bool) -> None:
    """Give NODE another firewall, or none.

    The words are those of the topology file:

    \b
    lab firewall set alice udp-blocked
    lab firewall set home-a "outbound=[tcp/80, tcp/443]" "inbound=[]"
    lab firewall set alice none

    Directions without a preset change what runs.  Flows that were admitted go
    on.
    """
    from lab.cli.change import change, tell
    from lab.cli.labs import choose, plan_of
    from lab.plan.change import filtering
    from lab.plan.model import NodeKind
    from lab.topology.changes import SetFirewall
    from lab.topology.spec import firewall_of

    now = filtering(plan_of(choose(lab_name)), node)
    firewall = firewall_of(spec, node, now.firewall, router=now.kind is NodeKind.ROUTER)
    tell(change(lab_name, SetFirewall(node=node, firewall=firewall)), as_json=as_json)
