"""`lab exec`: run a program in a node."""

from __future__ import annotations

import click

from lab.cli.labs import lab_option, need_root


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@lab_option
@click.argument("node")
@click.argument(
    "program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROGRAM [ARG]..."
)
def command(*, node: str, program: tuple[str, ...], lab_name: str | None) -> None:
    """Run a program in a node, unchanged, with its input, output and exit code.

    In a container node it runs in the container, elsewhere in the node's
    network namespace with the host's files.
    """
    # Options end at the node's name, so Click leaves the customary `--` in place.
    run_in_node(lab_name, node, program[1:] if program[0] == "--" else program)


def run_in_node(lab_name: str | None, node: str, program: tuple[str, ...]) -> None:
    """Become `program` inside `node`; does not return."""
    from lab.cli.labs import choose, node_of
    from lab.runtime.enter import become

    need_root()
    paths = choose(lab_name)
    become(paths, node_of(paths, node), program)
