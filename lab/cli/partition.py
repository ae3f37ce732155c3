"""`lab partition`: keep groups of nodes apart."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.command()
@click.argument("groups", nargs=-1, required=True, metavar="GROUP / GROUP...")
@lab_option
@json_option
def command(*, groups: tuple[str, ...], lab_name: str | None, as_json: bool) -> None:
    """Let nothing pass between groups of nodes.

    \b
    lab partition alice,bob / carol
    lab partition europe / america
    lab partition home-a

    Names are nodes, routers (with all that is behind them) or regions.  A
    single group is kept apart from everything else.  Who is in no group
    reaches everybody.  `lab heal` ends it.
    """
    from lab.cli.change import change, tell
    from lab.errors import InputError
    from lab.topology.changes import Divide
    from lab.topology.partition import parse_partition
    from lab.topology.problems import WrongValueError

    try:
        parsed = parse_partition(" ".join(groups))
    except WrongValueError as error:
        raise InputError(error.message, remedy=error.remedy) from None
    tell(change(lab_name, Divide(groups=parsed)), as_json=as_json)
