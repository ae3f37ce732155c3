"""`lab apply`: bring a running lab to a changed topology."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, need_root


@click.command()
@click.argument("topology", metavar="FILE|NAME")
@click.option(
    "--name", metavar="LAB", help="The lab's name.  [default: the file's]", show_default=False
)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change the file.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--verbose", "-v", is_flag=True, help="A line per operation.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    *,
    topology: str,
    name: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Bring a running lab to a changed topology by the smallest change.

    What stays the same keeps its processes, its addresses and its NAT state.
    If the change fails, the lab goes back to what it was.
    """
    from lab.agent import client  # noqa: PLC0415 - heavy
    from lab.cli.labs import choose, plan_of  # noqa: PLC0415 - heavy
    from lab.cli.planning import plan_file  # noqa: PLC0415 - heavy
    from lab.cli.terminal import print_json, progress, say  # noqa: PLC0415 - heavy
    from lab.cli.up import print_operations  # noqa: PLC0415 - heavy
    from lab.plan.diff import diff  # noqa: PLC0415 - heavy
    from lab.plan.model import encode  # noqa: PLC0415 - heavy
    from lab.topology.loader import load  # noqa: PLC0415 - heavy

    lab_name = name or load(topology, overrides).name
    paths = choose(lab_name)
    running = plan_of(paths)
    plan = plan_file(
        topology,
        overrides=overrides,
        runtime=running.runtime,
        name=lab_name,
        previous=running,
    )
    operations = diff(running, plan)
    if dry_run:
        print_operations(operations, plan, as_json=as_json)
        return
    need_root()
    with progress(quiet=quiet or as_json, verbose=verbose) as shown:
        order = {"do": "apply", "plan": encode(plan).decode()}
        for answer in client.ask(paths, order):
            shown.event(answer)
    if as_json:
        print_json({"lab": lab_name, "operations": len(operations), "seconds": shown.seconds})
    elif not quiet:
        say(f"{lab_name}: {len(operations)} operations in {shown.seconds:.2f} s")
