"""`lab up`: build the network of a topology and start its peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.labs import json_option, need_root

if TYPE_CHECKING:
    from lab.agent.spawn import NewAgent
    from lab.cli.terminal import Progress
    from lab.plan.model import Plan


@click.command()
@click.argument("topology", metavar="FILE|NAME")
@click.option(
    "--name", metavar="LAB", help="The lab's name.  [default: the file's]", show_default=False
)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change the file.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the file's seed.")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "docker", "process"]),
    default="auto",
    help="What built-in programs run as.",
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=0, help="0 for a free one.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--verbose", "-v", is_flag=True, help="A line per operation.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    *,
    topology: str,
    name: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    runtime: str,
    metrics_port: int,
    dry_run: bool,
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build the network of a topology out of namespaces, NATs and links; start its peers.

    FILE is a topology file; NAME one of those that ship with lab, such as
    double-nat.
    """
    from lab.cli.planning import plan_file

    if dry_run:
        plan = plan_file(topology, overrides=overrides, runtime=runtime, name=name, seed=seed)
        _print_operations(plan, as_json=as_json)
        return

    need_root()
    from lab.agent.spawn import spawn

    agent = spawn()
    try:
        plan = plan_file(
            topology, overrides=overrides, runtime=runtime, name=name, seed=seed, build=True
        )
    except BaseException:
        agent.dismiss()
        raise
    _bring_up(agent, plan, metrics_port, verbose=verbose, quiet=quiet, as_json=as_json)


def _print_operations(plan: Plan, *, as_json: bool) -> None:
    from lab.plan.diff import diff

    print_operations(diff(None, plan), plan, as_json=as_json)


def print_operations(operations: tuple[object, ...], plan: Plan, *, as_json: bool) -> None:
    """Print what `--dry-run` shows."""
    from typing import Any, cast

    import msgspec

    from lab.cli.terminal import print_json, say
    from lab.plan.describe import describe

    if as_json:
        print_json([msgspec.to_builtins(operation) for operation in operations])
        return
    for note in plan.notes:
        say(note)
    for operation in operations:
        click.echo(describe(cast("Any", operation)))


def _bring_up(
    agent: NewAgent, plan: Plan, metrics_port: int, *, verbose: bool, quiet: bool, as_json: bool
) -> None:
    import signal

    from lab.agent.spawn import last_words
    from lab.agent.teardown import destroy
    from lab.cli.claim import claim
    from lab.cli.terminal import print_json, progress, say
    from lab.plan.model import encode

    # Being told to end is being interrupted: what was built goes away again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        paths = claim(plan.lab)
    except BaseException:
        agent.dismiss()
        raise
    try:
        with progress(quiet=quiet or as_json, verbose=verbose) as shown:
            for note in plan.notes:
                shown.event({"event": "note", "text": note})
            order = {
                "do": "up",
                "plan": encode(plan).decode(),
                "metrics_port": metrics_port,
            }
            answer = {}
            for answer in agent.begin(paths, order):
                shown.event(answer)
        # The lab is up: from here on there is nothing to interrupt.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        result = answer["result"]
    except BaseException as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        words = last_words(paths)
        destroy(paths)
        for line in words:
            # The agent logs what it answers, too: that is about to be printed.
            if not _within(line, error):
                say(f"agent: {line}")
        raise
    if as_json:
        print_json(_as_json(plan, shown, result["metrics"]))
    elif not quiet:
        from lab.plan.describe import summary

        say(f"{plan.lab} is up: {summary(plan)} in {shown.seconds:.2f} s ({shown.slowest()})")
        say(f"metrics: {result['metrics']}   next: lab status, lab connect A B, lab down")


def _as_json(plan: Plan, shown: Progress, metrics: str) -> dict[str, object]:
    return {
        "lab": plan.lab,
        "nodes": plan.node_count,
        "links": len(plan.links),
        "programs": sum(node.program is not None for node in plan.nodes),
        **shown.times(),
        "notes": list(plan.notes),
        "metrics": metrics,
    }


def _within(line: str, error: BaseException) -> bool:
    """Whether a line of the log, but for its stamp, is one of the error's own text."""
    return any(text and line.endswith(text) for text in str(error).splitlines())
