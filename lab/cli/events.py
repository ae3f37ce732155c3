"""`lab events`: what happened in a lab, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lab.cli.labs import json_option, lab_argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.paths import LabPaths


@click.command()
@lab_argument
@click.option("--follow", "-f", is_flag=True, help="Go on as more happens, until the lab is down.")
@json_option
def command(*, lab_name: str | None, follow: bool, as_json: bool) -> None:
    """Show what happened in a lab: changes, the timeline, programs that ended.

    Each with the time of day and the seconds since the lab was up; with
    --json an object a line, whose `at` is in seconds since the epoch.
    """
    import json

    from lab.agent.events import read
    from lab.cli.labs import choose
    from lab.observe.history import heading, line

    paths = choose(lab_name)
    events = _followed(paths) if follow else read(paths.events)
    if not as_json:
        click.echo(heading())
    for event in events:
        text = json.dumps(event, ensure_ascii=False) if as_json else line(event)
        click.echo(text)


def _followed(paths: LabPaths) -> Iterator[dict[str, Any]]:
    from lab.agent.client import AgentGoneError, ask
    from lab.cli.terminal import say

    begun = False
    try:
        for answer in ask(paths, {"do": "events"}):
            begun = True
            yield answer["what"]
    except AgentGoneError:
        if not begun:
            raise
        say(f"{paths.lab} is down, or at least its agent: nothing more happens by itself")
