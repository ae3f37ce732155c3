"""`lab move`: let a host roam from one network to another."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.command()
@click.argument("host")
@click.argument("via", metavar="ROUTER")
@click.option(
    "--link",
    "-k",
    "words",
    multiple=True,
    metavar="SPEC",
    help="Its link there: a preset (lte), or delay=40ms; may be repeated.  [default: as before]",
    show_default=False,
)
@lab_option
@json_option
def command(
    *, host: str, via: str, words: tuple[str, ...], lab_name: str | None, as_json: bool
) -> None:
    """Let HOST leave its router or switch for another, where it gets another address.

    Its program runs on.  Its sockets see their address vanish, as on a phone
    that leaves the wireless network of a house; no other node is disturbed.
    """
    from lab.cli.change import change, tell
    from lab.topology.changes import Move
    from lab.topology.model import LinkSpec
    from lab.topology.spec import link_of

    link = link_of(words, host, LinkSpec()) if words else None
    tell(change(lab_name, Move(node=host, via=via, link=link)), as_json=as_json)
