"""`lab logs`: what the programs in nodes printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
    from lab.cli.labs import choose, node_of, plan_of
    from lab.errors import MissingError

    paths = choose(lab_name)
    if agent:
        folder, files = paths.root, [paths.agent_log.name]
    else:
        folder = paths.root / "nodes"
        names = [node_of(paths, name).name for name in nodes] or [
            node.name for node in plan_of(paths).nodes
        ]
        # A daemon of a node has a folder of its own, below the node's.
        files = [
            str(file.relative_to(folder))
            for name in names
            for file in sorted(_outputs(paths.node(name)))
        ]
    if not files:
        return
    # tail knows how to follow many growing files, and says which one it shows.
    arguments = ["tail", f"--lines={tail}", *(["--follow=name"] if follow else []), "--", *files]
    os.chdir(folder)
    # Whoever follows a lab ends with it.
    os.environ["LAB_STATE"] = str(paths.root)
    try:
        os.execvp("tail", arguments)  # noqa: S606 - no shell is the point
    except FileNotFoundError:
        raise MissingError(
            "this machine has no `tail`", remedy="install it: apt-get install coreutils"
        ) from None


def _outputs(folder: Path) -> Iterator[Path]:
    """What programs printed, in files below `folder`, whatever else comes and goes there."""
    for path, _, files in os.walk(folder):
        yield from (Path(path) / name for name in files if name in {"out.jsonl", "err.log"})
