"""`lab matrix`: every kind of NAT against every other, measured and held against the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.labs import json_option, need_root
from lab.cli.terminal import say

if TYPE_CHECKING:
    from lab.paths import LabPaths
    from lab.plan.model import Plan
    from lab.study.matrix import Cell, Home


@click.command()
@click.option(
    "--technique",
    "-t",
    "techniques",
    multiple=True,
    default=("udp-punch",),
    show_default=True,
    metavar="NAME",
    help="What to try; may be repeated, a table each.  `all`: every technique.",
)
@click.option(
    "--kinds",
    type=click.Choice(["rfc4787", "classic"]),
    default="rfc4787",
    help="Which NATs: RFC 4787's nine, or six that people name, with blocked UDP.",
)
@click.option(
    "--ports",
    type=click.Choice(["random", "preserve", "sequential"]),
    default="random",
    help="How RFC 4787's nine choose external ports.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=0.5,
    help="Seconds of probing; an attempt that should have succeeded gets another with more.",
)
@click.option("--labs", type=click.IntRange(1, 32), default=1, help="Labs side by side.")
@click.option("--side-by-side", is_flag=True, help="One table, with a column for each technique.")
@click.option("--markdown", is_flag=True, help="The table as Markdown.")
@json_option
def command(
    *,
    techniques: tuple[str, ...],
    kinds: str,
    ports: str,
    timeout: float,
    labs: int,
    side_by_side: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Try all ordered pairs of NAT kinds, and hold each against the prediction.

    A lab of two homes is brought up for it and removed afterwards; between
    pairs only the rule sets of its two routers are replaced.

    Exit code 0 if every pair behaves as predicted, 1 if one does not.
    """
    import time

    from lab.cli.pair import check_techniques
    from lab.cli.terminal import print_json
    from lab.predict.techniques import techniques as known
    from lab.study.matrix import classic, nine
    from lab.topology.behaviour import PortPolicy

    if "all" in techniques:
        techniques = tuple(known())
    check_techniques(techniques)
    need_root()
    homes = nine(PortPolicy(ports)) if kinds == "rfc4787" else classic()
    began = time.monotonic()
    cells = _measure(homes, techniques, timeout, labs)
    seconds = time.monotonic() - began
    wrong = [cell for cell in cells if not cell.agrees]
    if as_json:
        import msgspec

        print_json(
            {
                "techniques": techniques,
                "kinds": kinds,
                "ports": ports,
                "seconds": round(seconds, 3),
                "pairs": len(cells),
                "possible": sum(cell.found for cell in cells),
                "contradictions": len(wrong),
                "distorted": sum(bool(cell.distorted) for cell in cells),
                "cells": msgspec.to_builtins(cells),
            }
        )
    else:
        _show(cells, techniques, side_by_side=side_by_side, markdown=markdown)
        say(f"{len(cells)} attempts in {seconds:.1f} s")
    distorted = [cell for cell in cells if cell.distorted]
    if distorted:
        say(
            f"distorted: {len(distorted)} of {len(cells)} attempts, as the machine did not keep up "
            f"({distorted[0].distorted[0]})"
        )
    for cell in wrong:
        say(f"not as predicted: {_contradiction(cell)}")
    if wrong:
        raise click.exceptions.Exit(1)


def _show(
    cells: list[Cell], techniques: tuple[str, ...], *, side_by_side: bool, markdown: bool
) -> None:
    """A table for each technique, or one for all."""
    from lab.observe import matrix

    if side_by_side:
        click.echo(matrix.side_by_side(cells, markdown=markdown))
    for technique in techniques:
        some = [cell for cell in cells if cell.technique == technique]
        if not side_by_side:
            if len(techniques) > 1:
                click.echo(f"### {technique}\n" if markdown else technique)
            text = matrix.table(some, markdown=markdown)
            click.echo(text + ("\n" if len(techniques) > 1 else ""))
        found, wrong = sum(c.found for c in some), sum(not c.agrees for c in some)
        say(
            f"{technique}: {len(some)} pairs, {found} connect, {len(some) - found} do not, "
            f"{wrong or 'none'} otherwise than predicted"
        )


def _measure(
    homes: tuple[Home, ...], techniques: tuple[str, ...], patience_s: float, labs: int
) -> list[Cell]:
    """All pairs, shared out among `labs` labs, in the order of the table."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    from lab.agent import client
    from lab.cli.scratch import scratch_labs, scratch_name
    from lab.study.matrix import pairs, run, two_homes

    plans = [two_homes(scratch_name(f"matrix-{index}")) for index in range(labs)]
    order = {(x.name, y.name): index for index, (x, y) in enumerate(pairs(homes))}
    todo = pairs(homes)

    def work(plan: Plan, paths: LabPaths) -> list[Cell]:
        return list(run(plan, partial(client.ask, paths), todo, techniques, patience_s))

    # The threads outlive the labs, if only for a moment: what they wait for ends with these.
    with ThreadPoolExecutor(labs) as pool, scratch_labs(plans) as running:
        cells = [cell for some in pool.map(work, plans, running) for cell in some]
    return sorted(cells, key=lambda cell: order[cell.caller, cell.callee])


def _contradiction(cell: Cell) -> str:
    words = {True: "success", False: "failure"}
    return (
        f"{cell.technique}, {cell.caller} to {cell.callee}: predicted {words[cell.predicted]} "
        f"({cell.predicted_reason}), found {words[cell.found]} ({cell.found_reason})"
    )
