"""`lab explain`: the packets of one attempt, hop by hop, and why it came out as it did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lab.cli.labs import json_option, lab_option

if TYPE_CHECKING:
    from lab.observe.explain.ladder import Ladder
    from lab.paths import LabPaths


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@click.option("--technique", "-t", default="udp-punch", metavar="NAME", help="What to explain.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=10.0, help="Seconds for it.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the technique should do otherwise than usual; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Show every packet, fold nothing.")
@click.option("--svg", "svg_file", type=click.Path(dir_okay=False), help="Draw it into a file.")
@click.option("--html", "html_file", type=click.Path(dir_okay=False), help="Write it as a page.")
@lab_option
@json_option
def command(
    *,
    local: str,
    remote: str,
    technique: str,
    timeout: float,
    settings: tuple[str, ...],
    everything: bool,
    svg_file: str | None,
    html_file: str | None,
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Let peer A connect to peer B by one technique, and show every packet of it.

    Packets are seen at both peers and on both sides of each router and
    firewall on the way: which packet made which mapping, what was translated
    into what, what was dropped where and by which rule, and why the attempt
    worked or failed.

    Exit code 0 if it connected them, 1 if not.
    """
    from lab.cli.connect import check_ends, check_techniques, options
    from lab.cli.labs import choose
    from lab.cli.terminal import print_json, say

    paths = choose(lab_name)
    check_ends(paths, local, remote)
    check_techniques((technique,))
    order = {
        "do": "explain",
        "local": local,
        "remote": remote,
        "techniques": [technique],
        "first": False,
        "timeout_s": timeout,
        "goodput_s": 0.0,
        "options": options(settings),
    }
    ladder = _explained(paths, order, everything=everything)
    drawn = False
    if svg_file:
        from lab.observe.explain.svg import svg

        drawn = _write(svg_file, svg(ladder))
    if html_file:
        from lab.observe.explain.html import html

        drawn = _write(html_file, html(ladder))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(ladder))
    elif drawn:
        say(ladder.sentence)
    else:
        import shutil

        from lab.observe.explain.text import LEAST, ladder_text

        wide = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
        click.echo(ladder_text(ladder, max(wide, LEAST)), nl=False)
    if ladder.outcome not in _connected():
        raise click.exceptions.Exit(1)


def _explained(paths: LabPaths, order: dict[str, Any], *, everything: bool) -> Ladder:
    from lab.agent.client import result
    from lab.observe.explain.arrange import ladder
    from lab.observe.explain.events import decode
    from lab.observe.explain.story import story
    from lab.predict import contradictions

    capture = decode(result(paths, order)["capture"].encode())
    against = contradictions(capture.plan, capture.local, capture.remote, [capture.record])
    return ladder(story(capture), everything=everything, against=tuple(against))


def _connected() -> frozenset[str]:
    from lab.topology.outcomes import CONNECTED

    return CONNECTED


def _write(name: str, text: str) -> bool:
    """Write `text` into the file `name`; InputError if that can't be done."""
    from pathlib import Path

    from lab.errors import InputError

    try:
        Path(name).write_text(text)
    except OSError as error:
        raise InputError(
            f"can't write {name}: {error.strerror}", remedy="name a file that can be written"
        ) from error
    return True
