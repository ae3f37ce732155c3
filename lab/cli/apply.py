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
    from lab.agent import client
    from lab.cli.labs import choose, plan_of
    from lab.cli.planning import load_file, probe_machine
    from lab.cli.terminal import print_json, progress, say
    from lab.cli.up import print_operations
    from lab.plan.attachment import of_replaced_wire
    from lab.plan.compile import compile_topology
    from lab.plan.diff import diff, rewired
    from lab.plan.model import encode

    topology_ = load_file(topology, overrides)
    paths = choose(name or topology_.name)
    running = plan_of(paths)
    plan = compile_topology(
        topology_, probe_machine(running.runtime), lab=paths.lab, previous=running
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
    notes = [of_replaced_wire(link) for link in rewired(running, plan)]
    if as_json:
        print_json(
            {
                "lab": paths.lab,
                "notes": notes,
                "operations": len(operations),
                **shown.times(),
            }
        )
    elif not quiet:
        say(f"{paths.lab}: {len(operations)} operations in {shown.seconds:.2f} s")
        for note in notes:
            say(f"  {note}")
