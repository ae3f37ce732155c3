"""`lab down`: remove a lab and everything of it."""

from __future__ import annotations

import click

from lab.cli.labs import existing, json_option, need_root


@click.command()
@click.argument("labs", nargs=-1, metavar="[LAB|FILE]...")
@click.option("--lab", "-l", "named", multiple=True, metavar="NAME", help="The same as LAB.")
@click.option("--all", "every", is_flag=True, help="Remove every lab on this machine.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    *, labs: tuple[str, ...], named: tuple[str, ...], every: bool, quiet: bool, as_json: bool
) -> None:
    """Remove a lab, and everything of it: programs, containers, namespaces, files.

    It works whatever state the lab is in, and may be run again.  LAB may be
    left out when only one lab is running; a topology file means the lab that
    was started from it.
    """
    import time
    from dataclasses import asdict

    from lab.agent.teardown import destroy
    from lab.cli.labs import choose
    from lab.cli.terminal import print_json, say
    from lab.paths import LabPaths, state_root
    from lab.runtime.teardown import orphaned

    need_root()
    labs = tuple(dict.fromkeys((*labs, *named)))
    if every:
        names = existing()
        # Looked for afterwards: whatever lab goes meanwhile is seen by the one or the other.
        chosen = [LabPaths.of(name) for name in dict.fromkeys(names + orphaned(state_root()))]
    elif labs:
        chosen = [choose(_name(lab)) for lab in labs]
    else:
        chosen = [choose(None)]
    answers = []
    for paths in chosen:
        began = time.monotonic()
        removed = destroy(paths)
        seconds = time.monotonic() - began
        answers.append(asdict(removed) | {"seconds": round(seconds, 3)})
        if not quiet and not as_json:
            say(
                f"{paths.lab} is down: removed {removed.namespaces} namespaces, "
                f"{removed.processes} processes, {removed.containers} containers "
                f"in {seconds:.2f} s"
            )
    if as_json:
        print_json(answers)
    elif every and not chosen and not quiet:
        say("no lab is running")


def _name(word: str) -> str:
    """The lab that `word` means: its name, or the file that it was started from."""
    if "/" not in word and not word.endswith((".yaml", ".yml")):
        return word
    import os
    from pathlib import Path

    from lab.cli.labs import plan_of
    from lab.errors import InputError
    from lab.paths import LabPaths

    wanted = os.path.abspath(word)  # noqa: PTH100 - as the plan has it
    for name in existing():
        try:
            if plan_of(LabPaths.of(name)).source == wanted:
                return name
        except InputError:
            continue
    return Path(word).stem
