"""`lab graph`: draw a network."""

from __future__ import annotations

import click

from lab.cli.labs import lab_option


@click.command()
@click.argument("topology", required=False, metavar="[FILE|NAME]")
@click.option(
    "--format", "form", type=click.Choice(["svg", "mermaid"]), default="svg", help="What to draw."
)
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write to a file.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change the file.")
@lab_option
def command(
    *,
    topology: str | None,
    form: str,
    output: str | None,
    overrides: tuple[str, ...],
    lab_name: str | None,
) -> None:
    """Draw the network of a topology file, or of a running lab.

    Without FILE, the running lab is drawn as it is now.
    """
    from pathlib import Path

    from lab.errors import InputError
    from lab.observe import graph

    if topology is None:
        from lab.cli.labs import choose, plan_of

        plan = plan_of(choose(lab_name))
    else:
        from lab.cli.planning import load_file, plan_anywhere

        plan = plan_anywhere(load_file(topology, overrides))
    drawing = graph.svg(plan) if form == "svg" else graph.mermaid(plan)
    if output:
        try:
            Path(output).write_text(drawing, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"can't write {output}: {error.strerror}", remedy="name a file that can be written"
            ) from error
    else:
        click.echo(drawing, nl=not drawing.endswith("\n"))
