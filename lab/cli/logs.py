"""`lab logs`: what the programs in nodes printed."""

from __future__ import annotations

import click

from lab.cli.labs import lab_option


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--follow", "-f", is_flag=True, help="Go on as more is printed.")
@click.option("--tail", "-n", type=click.IntRange(min=0), default=50, help="Lines of each stream.")
@click.option("--agent", is_flag=True, help="The agent's own log.")
@lab_option
def command(
    *, nodes: tuple[str, ...], follow: bool, tail: int, agent: bool, lab_name: str | None
) -> None:
    """Show what the programs in nodes printed (all nodes, if none is named).

    NODE is a node, or one of its daemons: router/upnpd.
    """
    import subprocess

    from lab.cli.labs import choose, plan_of, programs_of

    paths = choose(lab_name)
    if agent:
        files = [paths.agent_log]
    else:
        names = [name for node in nodes for name in programs_of(paths, node)] or [
            name for node in plan_of(paths).nodes for name in node.programs
        ]
        files = [paths.node(name) / stream for name in names for stream in ("out.jsonl", "err.log")]
    there = [str(file) for file in files if file.exists()]
    if not there:
        return
    # tail knows how to follow many growing files; headers name the node.
    arguments = ["tail", f"--lines={tail}", *(["--follow=name"] if follow else []), *there]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, errors="replace") as shown:
        assert shown.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in shown.stdout:
            click.echo(line.replace(f"{paths.root}/nodes/", ""), nl=False)
