"""`lab predict`: which techniques can connect two peers, from what is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.labs import json_option, lab_option, techniques_option

if TYPE_CHECKING:
    from lab.plan.model import Plan
    from lab.predict import Prediction


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@techniques_option()
@click.option(
    "--file",
    "-f",
    "topology",
    metavar="FILE|NAME",
    help="A topology file, instead of a running lab.",
    show_default=False,
)
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change the file first."
)
@lab_option
@json_option
def command(
    *,
    local: str,
    remote: str,
    techniques: tuple[str, ...],
    topology: str | None,
    overrides: tuple[str, ...],
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Say which techniques can let A connect to B, and why.

    The answer comes from the declared behaviour of routers, firewalls and
    hosts alone: no packet is sent, and with --file no lab is needed.

    Exit code 0 if some technique can connect them, 1 if none can.
    """
    from lab.cli.terminal import print_json
    from lab.predict import predict

    prediction = predict(_plan(topology, overrides, lab_name), local, remote, techniques)
    if as_json:
        import msgspec

        print_json(
            msgspec.to_builtins(prediction)
            | {"possible": prediction.possible, "path": prediction.path}
        )
    else:
        _print(prediction)
    if not prediction.possible:
        raise click.exceptions.Exit(1)


def _plan(topology: str | None, overrides: tuple[str, ...], lab_name: str | None) -> Plan:
    """The plan that is asked about: a file's, or that of a running lab."""
    if topology is None:
        if overrides:
            raise click.UsageError("--set changes a file: say which with --file.")
        from lab.cli.labs import choose, plan_of

        plan: Plan = plan_of(choose(lab_name))
        return plan
    if lab_name is not None:
        raise click.UsageError("--file and --lab exclude each other.")
    from lab.cli.planning import load_file, plan_anywhere

    return plan_anywhere(load_file(topology, overrides))


def _print(prediction: Prediction) -> None:
    from textwrap import fill

    width = max(len(finding.technique) for finding in prediction.findings)
    indent = " " * (width + 7)
    for finding in prediction.findings:
        word, colour = ("yes", "green") if finding.possible else ("no ", "red")
        answer = click.style(word, fg=colour)
        said = f"{finding.reason} (with luck)" if finding.by_chance else finding.reason
        reason = fill(said, 100, initial_indent=indent, subsequent_indent=indent)
        click.echo(f"{finding.technique:<{width}}  {answer}  {reason.strip()}")
    click.echo(f"{prediction.local} to {prediction.remote}: best path {prediction.path}")
