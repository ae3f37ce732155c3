"""`lab link`: show and change the links of a running lab."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.group()
def command() -> None:
    """Show and change the links of a running lab.

    A link is named by its two ends, in either order: `alice home`, `home
    internet`.  What is on its way when a link changes still arrives; no other
    link notices.
    """


@command.command()
@click.argument("one", metavar="[A", required=False)
@click.argument("other", metavar="B]", required=False)
@lab_option
@json_option
def show(*, one: str | None, other: str | None, lab_name: str | None, as_json: bool) -> None:
    """Show what links are like.

    All of them, those of A, or the one between A and B.
    """
    from lab.cli.labs import choose, node_of, plan_of
    from lab.cli.terminal import print_json
    from lab.observe import wires
    from lab.plan.attachment import find_link

    paths = choose(lab_name)
    plan = plan_of(paths)
    if one is not None and other is not None:
        found = [find_link(plan, one, other)]
    else:
        found = wires.access_links(plan, one)
        if not found and one is not None:
            node_of(paths, one)
    if as_json:
        shown = [wires.as_json(plan, link) for link in found]
        print_json(shown[0] if other is not None else shown)
        return
    click.echo("\n".join(wires.table(plan, found)))


@command.command("set")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.argument("spec", nargs=-1, required=True)
@lab_option
@json_option
def set_(
    *, one: str, other: str, spec: tuple[str, ...], lab_name: str | None, as_json: bool
) -> None:
    """Give the link between A and B another character.

    The words are those of the topology file:

    \b
    lab link set alice home delay=80ms loss=2%
    lab link set home internet lte up.rate=1mbit

    Choices are KEY=VALUE, a word each, and about both ways unless `up.` or
    `down.` is before them.  Without a preset they change what runs.
    """
    from lab.cli.change import change, tell
    from lab.cli.labs import choose, plan_of
    from lab.plan.attachment import find_link, upper_end
    from lab.topology.changes import SetLink
    from lab.topology.spec import link_of

    link = find_link(plan_of(choose(lab_name)), one, other)
    wanted = link_of(spec, link.a.node, link.spec)
    request = SetLink(node=link.a.node, via=upper_end(link), link=wanted)
    tell(change(lab_name, request), as_json=as_json)


@command.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@lab_option
@json_option
def reset(*, one: str, other: str, lab_name: str | None, as_json: bool) -> None:
    """Make the link between A and B whole, and as declared."""
    from lab.cli.change import change, tell
    from lab.topology.changes import SetLink

    tell(change(lab_name, SetLink(node=one, via=other)), as_json=as_json)


@command.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@lab_option
@json_option
def down(*, one: str, other: str, lab_name: str | None, as_json: bool) -> None:
    """Cut the link between A and B, in both directions.

    Nothing enters it any more.  Both ends keep their carrier, addresses and
    routes, as if the cable were cut behind the next box: what is sent is lost
    without a word.
    """
    from lab.cli.change import change, tell
    from lab.topology.changes import CutLink

    tell(change(lab_name, CutLink(node=one, via=other)), as_json=as_json)


@command.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@lab_option
@json_option
def up(*, one: str, other: str, lab_name: str | None, as_json: bool) -> None:
    """Mend the link between A and B.

    It is then as it was before `down`.
    """
    from lab.cli.change import change, tell
    from lab.topology.changes import CutLink

    tell(change(lab_name, CutLink(node=one, via=other, down=False)), as_json=as_json)
