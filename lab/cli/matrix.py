"""`lab matrix`: every kind of NAT against every other, measured and held against the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.labs import json_option, need_root

if TYPE_CHECKING:
    from lab.paths import LabPaths
    from lab.plan.model import Plan
    from lab.study.matrix import Cell
    from lab.topology.behaviour import PortPolicy


@click.command()
@click.option("--technique", "-t", default="udp-punch", metavar="NAME", help="What to try.")
@click.option(
    "--ports",
    type=click.Choice(["random", "preserve", "sequential"]),
    default="random",
    help="How the NATs choose external ports.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=0.5,
    help="Seconds for an attempt; one that should have succeeded gets another with more.",
)
@click.option("--labs", type=click.IntRange(1, 32), default=1, help="Labs side by side.")
@click.option("--markdown", is_flag=True, help="The table as Markdown.")
@json_option
def command(
    *, technique: str, ports: str, timeout: float, labs: int, markdown: bool, as_json: bool
) -> None:
    """Try all 81 ordered pairs of NAT kinds, and hold each against the prediction.

    A lab of two homes is brought up for it and removed afterwards; between
    pairs only the rule sets of its two routers are replaced.

    Exit code 0 if every pair behaves as predicted, 1 if one does not.
    """
    import time

    from lab.cli.terminal import print_json, say
    from lab.predict.techniques import techniques
    from lab.topology.behaviour import PortPolicy

    if technique not in techniques():
        raise click.BadParameter(
            f"{technique!r} can't be predicted; known: {', '.join(techniques())}",
            param_hint="--technique",
        )
    need_root()
    began = time.monotonic()
    cells = _measure(technique, PortPolicy(ports), timeout, labs)
    seconds = time.monotonic() - began
    wrong = [cell for cell in cells if not cell.agrees]
    possible = sum(cell.found for cell in cells)
    if as_json:
        import msgspec

        print_json(
            {
                "technique": technique,
                "ports": ports,
                "seconds": round(seconds, 3),
                "pairs": len(cells),
                "possible": possible,
                "contradictions": len(wrong),
                "cells": msgspec.to_builtins(cells),
            }
        )
    else:
        from lab.observe.matrix import table

        click.echo(table(cells, markdown=markdown))
        say(
            f"{technique}: {len(cells)} pairs in {seconds:.1f} s, {possible} connect, "
            f"{len(cells) - possible} do not, {len(wrong) or 'none'} otherwise than predicted"
        )
    for cell in wrong:
        say(f"not as predicted: {_contradiction(cell)}")
    if wrong:
        raise click.exceptions.Exit(1)


def _measure(technique: str, ports: PortPolicy, timeout_s: float, labs: int) -> list[Cell]:
    """All pairs, shared out among `labs` labs, in the order of the table."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    from lab.agent import client
    from lab.cli.scratch import scratch_labs, scratch_name
    from lab.study.matrix import pairs, run, two_homes

    plans = [two_homes(scratch_name(f"matrix-{index}"), ports) for index in range(labs)]
    order = {(str(x), str(y)): index for index, (x, y) in enumerate(pairs())}
    todo = pairs()

    def work(plan: Plan, paths: LabPaths) -> list[Cell]:
        attempts = run(
            plan,
            partial(client.ask, paths),
            todo,
            technique=technique,
            ports=ports,
            timeout_s=timeout_s,
        )
        return list(attempts)

    # The threads outlive the labs, if only for a moment: what they wait for ends with these.
    with ThreadPoolExecutor(labs) as pool, scratch_labs(plans) as running:
        cells = [cell for some in pool.map(work, plans, running) for cell in some]
    return sorted(cells, key=lambda cell: order[cell.caller, cell.callee])


def _contradiction(cell: Cell) -> str:
    words = {True: "success", False: "failure"}
    return (
        f"{cell.caller} to {cell.callee}: predicted {words[cell.predicted]} "
        f"({cell.predicted_reason}), found {words[cell.found]} ({cell.found_reason})"
    )
