"""What stands in a node's kernel now: shared by `lab nat show` and `lab firewall show`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lab.fabric.rules import RuleSet
    from lab.fabric.rules.standing import Mapping
    from lab.paths import LabPaths
    from lab.plan.model import Node


def mappings_of(paths: LabPaths, node: Node) -> tuple[Mapping, ...]:
    """The mappings that the router holds now."""
    from lab.fabric import netns
    from lab.fabric.rules.standing import mappings

    with netns.inside(paths.netns(node.name)):
        return mappings(node.nat.mapping) if node.nat is not None else ()


def print_rules(paths: LabPaths, node: Node, *, as_json: bool) -> None:
    """Print the node's rule set: as it was written and commented, if that is what is loaded.

    Whether it is, is found by loading it in a namespace of its own and
    comparing what the kernel says of both.
    """
    from lab.cli.terminal import print_json, say
    from lab.fabric import netns, rules
    from lab.fabric.rules.standing import BY_PROGRAMS, as_text, standing

    with netns.inside(paths.netns(node.name)):
        found = standing()
    written = rules.render(node)
    with netns.scratch():
        rules.load(written)
        wanted = standing()
    same = found.same(wanted)
    texts = _texts(written) if same else [as_text(found)]
    others = [text for table, text in found.nft if same and table in BY_PROGRAMS]
    if as_json:
        print_json({"node": node.name, "as_planned": same, "text": "\n".join([*texts, *others])})
        return
    if not same:
        say(f"{node.name} has other rules than lab gave it; this is what its kernel holds:")
    elif found.empty:
        say(f"no rules stand in {node.name}")
    for text in filter(None, texts):
        click.echo(text)
    for text in others:
        click.echo(f"# by a program in {node.name}\n{text}")


def _texts(written: RuleSet) -> list[str]:
    """The parts of a rule set that stay as they were written."""
    return [
        text
        for field in fields(written)
        if field.name != "portmap" and isinstance(text := getattr(written, field.name), str)
    ]
