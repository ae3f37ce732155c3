"""`lab nat`: show and change the NATs of a running lab."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.group()
def command() -> None:
    """Show and change the NATs of a running lab.

    A change is one step of the kernel: a packet meets the NAT of before or
    the one after it, and no other node notices.
    """


@command.command()
@click.argument("router", required=False)
@click.option("--rules", is_flag=True, help="The rule set that is loaded now, with comments.")
@lab_option
@json_option
def show(*, router: str | None, rules: bool, lab_name: str | None, as_json: bool) -> None:
    """Show what the NATs are, and the mappings of ROUTER.

    A mapping is an inside endpoint and the external one that it has got; if it
    depends on the destination, towards which.
    """
    from lab.cli.labs import choose, need_root, plan_of
    from lab.cli.standing import mappings_of, print_rules
    from lab.cli.terminal import print_json
    from lab.errors import InputError
    from lab.observe import behaviours
    from lab.plan.change import translating

    need_root()
    paths = choose(lab_name)
    plan = plan_of(paths)
    if rules:
        if router is None:
            raise InputError("the rules of which router?", remedy="lab nat show ROUTER --rules")
        print_rules(paths, translating(plan, router), as_json=as_json)
        return
    nodes = [translating(plan, router)] if router else [n for n in plan.nodes if n.nat]
    held = {node.name: mappings_of(paths, node) for node in nodes}
    if as_json:
        found = [behaviours.nat_json(node, held[node.name]) for node in nodes]
        print_json(found[0] if router else found)
    elif router:
        click.echo("\n".join(behaviours.nat(nodes[0], held[router])))
    else:
        counts = {name: len(each) for name, each in held.items()}
        click.echo("\n".join(behaviours.nats(nodes, counts)))


@command.command("set")
@click.argument("router")
@click.argument("spec", nargs=-1, required=True)
@lab_option
@json_option
def set_(*, router: str, spec: tuple[str, ...], lab_name: str | None, as_json: bool) -> None:
    """Give ROUTER another NAT behaviour.

    The words are those of the topology file:

    \b
    lab nat set home-a symmetric
    lab nat set home-a mapping=address-dependent ports=random
    lab nat set home-a full-cone hairpin=external-source lifetimes.udp=30s

    Choices without a preset change what runs.  Flows go on, and ports that
    mappings hold stay theirs; new mappings are made in the new way.
    """
    from lab.cli.change import change, tell
    from lab.cli.labs import choose, plan_of
    from lab.plan.change import translating
    from lab.topology.behaviour import Nat
    from lab.topology.changes import SetNat
    from lab.topology.spec import nat_of

    running = translating(plan_of(choose(lab_name)), router).nat or Nat()
    nat = nat_of(spec, router, running)
    tell(change(lab_name, SetNat(router=router, nat=nat)), as_json=as_json)


@command.command()
@click.argument("router")
@lab_option
@json_option
def flush(*, router: str, lab_name: str | None, as_json: bool) -> None:
    """Have ROUTER forget every mapping and every flow."""
    from lab.cli.change import change, tell
    from lab.topology.changes import FlushNat

    tell(change(lab_name, FlushNat(router=router)), as_json=as_json)


@command.command()
@click.argument("router")
@lab_option
@json_option
def reboot(*, router: str, lab_name: str | None, as_json: bool) -> None:
    """Have ROUTER lose all its state, as when it is switched off and on.

    Mappings and flows are forgotten, and what runs in the router starts anew.
    """
    from lab.cli.change import change, tell
    from lab.topology.changes import Reboot

    tell(change(lab_name, Reboot(router=router)), as_json=as_json)
