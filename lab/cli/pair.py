"""What commands about two peers are given, checked: their ends, techniques and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.paths import LabPaths


def options(settings: tuple[str, ...]) -> dict[str, float]:
    """Numbers by name; InputError for what is not `NAME=NUMBER`."""
    from lab.errors import InputError

    options = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            options[name] = float(value)
        except ValueError:
            raise InputError(f"--set {setting}: no number", remedy="--set NAME=NUMBER") from None
    return options


def check_techniques(names: tuple[str, ...]) -> None:
    """InputError for a technique that there is not."""
    if not names:
        return
    import difflib

    from lab.errors import InputError
    from lab.predict.techniques import techniques

    known = list(techniques())
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"there is no technique {name!r}",
                remedy=(f"did you mean {near[0]!r}? " if near else "")
                + f"techniques: {', '.join(known)}",
            )


def check_ends(paths: LabPaths, local: str, remote: str) -> None:
    """InputError for two names between which no attempt makes sense; programs of one's own may."""
    from lab.cli.labs import node_of
    from lab.errors import InputError

    for name in (local, remote):
        program = node_of(paths, name).program
        if program is None or (program.roles and "peer" not in program.roles):
            raise InputError(f"node {name!r} is no peer", remedy=_peers(paths))
    if local == remote:
        raise InputError(f"{local!r} can't connect to itself", remedy=_peers(paths))


def _peers(paths: LabPaths) -> str:
    from lab.cli.labs import plan_of

    nodes = plan_of(paths).nodes
    names = [node.name for node in nodes if node.program and "peer" in node.program.roles]
    return f"peers: {', '.join(names[:20]) or 'none; write peer: true in the file'}"
