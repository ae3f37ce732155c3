"""`lab explain`: the packets of an attempt or a session, hop by hop, and why it went as it did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lab.cli.labs import json_option, lab_option, span

if TYPE_CHECKING:
    from lab.observe.explain.ladder import Ladder
    from lab.paths import LabPaths


_CHANGES = ("nat", "link", "move", "partition", "heal", "node", "firewall", "apply")
"""Commands that change a network."""
_GOOD = ("undisturbed", "repaired", "back")
_KEEPALIVE_S, _RATE = 15.0, 10.0
"""Of a session that is shown: as `lab session`, with fewer datagrams."""


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@click.option(
    "--technique",
    "-t",
    "techniques",
    multiple=True,
    metavar="NAME",
    help="What to explain; of a session, what it may use, in this order.  [default: udp-punch]",
)
@click.option(
    "--during",
    multiple=True,
    metavar="COMMAND",
    help="Explain a session, and what this command does to it: --during 'nat reboot home-a'.",
)
@click.option(
    "--for",
    "for_s",
    callback=span,
    default="0s",
    show_default=False,
    help="Explain a session for so long, whatever happens to it meanwhile.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=None,
    metavar="SECONDS",
    help="How long the attempt, or the repair of a session, may take at most.  [default: "
    "24 round trips between the two, at least 10, at most 60; a repair 10]",
)
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
    techniques: tuple[str, ...],
    during: tuple[str, ...],
    for_s: float,
    timeout: float | None,
    settings: tuple[str, ...],
    everything: bool,
    svg_file: str | None,
    html_file: str | None,
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Show every packet of peer A connecting to peer B, or of a session between the two.

    Packets are seen at both peers and on both sides of each router and
    firewall on the way: which packet made which mapping, what was translated
    into what, what was dropped where and by which rule, and why the attempt
    worked or failed.

    With --during or --for it is a session that is shown from when it has a path
    on: what broke it, how that was noticed, and how it was repaired.

    Exit code 0 if it connected them, or the session has a path in the end; else 1.
    """
    from lab.cli.labs import choose
    from lab.cli.pair import check_ends, check_techniques, options

    paths = choose(lab_name)
    check_ends(paths, local, remote)
    check_techniques(techniques)
    for name in filter(None, (svg_file, html_file)):
        _check_place(name)
    session = bool(during or for_s)
    if len(techniques) > 1 and not session:
        raise click.UsageError("One technique at a time; a session (--during) may use several.")
    order: dict[str, Any] = {
        "do": "explain",
        "local": local,
        "remote": remote,
        "techniques": list(techniques) if session else list(techniques or ("udp-punch",)),
        "timeout_s": timeout,
    }
    if session:
        order |= {"session": True, "for_s": for_s, "keepalive_s": _KEEPALIVE_S, "rate": _RATE}
    else:
        order |= {"first": False, "goodput_s": 0.0, "options": options(settings)}
    ladder = _explained(paths, order, _commands(during, paths), everything=everything)
    _show(ladder, svg_file, html_file, as_json=as_json)
    if ladder.outcome not in (*_connected(), *_GOOD):
        raise click.exceptions.Exit(1)


def _commands(texts: tuple[str, ...], paths: LabPaths) -> list[list[str]]:
    """The commands in `texts`, for this lab; click.UsageError for one that changes no network."""
    import shlex

    found = []
    for text in texts:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise click.UsageError(f"--during {text!r} is no command: {error}.") from None
        words = words[1:] if words[:1] == ["lab"] else words
        if not words or words[0] not in _CHANGES:
            raise click.UsageError(f"--during takes one of {', '.join(_CHANGES)}, not {text!r}.")
        found.append([*words, _which_lab(words[0]), paths.lab])
    return found


def _which_lab(command: str) -> str:
    """The option of a command by which it is told the lab's name."""
    return "--name" if command == "apply" else "--lab"


def _explained(
    paths: LabPaths, order: dict[str, Any], commands: list[list[str]], *, everything: bool
) -> Ladder:
    from threading import Thread

    from lab.agent import client

    # Reading what was seen takes much to import, and there is nothing else to do meanwhile.
    getting_ready = Thread(target=_get_ready, daemon=True)
    getting_ready.start()
    answer: dict[str, Any] = {}
    for answer in client.ask(paths, order, until_interrupted="session" in order):
        if answer.get("event") == "ready":
            for command in commands:
                _change(command)
    getting_ready.join()
    from lab.observe.explain.arrange import ladder
    from lab.observe.explain.events import decode
    from lab.observe.explain.story import story
    from lab.predict import contradictions

    capture = decode(answer["result"]["capture"].encode())
    against: list[str] = []
    if not capture.is_session and not capture.happened:
        against = contradictions(capture.plan, capture.local, capture.remote, [capture.record])
    return ladder(story(capture), everything=everything, against=tuple(against))


def _show(ladder: Ladder, svg_file: str | None, html_file: str | None, *, as_json: bool) -> None:
    """Into files, if any are wanted, and on the terminal what is not in them."""
    if svg_file:
        from lab.observe.explain.svg import svg

        _write(svg_file, svg(ladder))
    if html_file:
        from lab.observe.explain.html import html

        _write(html_file, html(ladder))
    if as_json:
        import msgspec

        from lab.cli.terminal import print_json

        print_json(msgspec.to_builtins(ladder))
    elif svg_file or html_file:
        from lab.cli.terminal import say

        say(ladder.sentence)
    else:
        import shutil

        from lab.observe.explain.text import LEAST, ladder_text

        wide = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
        click.echo(ladder_text(ladder, max(wide, LEAST)), nl=False)


def _get_ready() -> None:
    import importlib

    for name in ("lab.observe.explain.arrange", "lab.observe.explain.story", "lab.predict"):
        importlib.import_module(name)


def _change(command: list[str]) -> None:
    """Carry out a command of `lab`, without what it prints; raises what it raises."""
    import contextlib
    import io

    from lab.cli.main import cli

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli.main(args=command, prog_name="lab", standalone_mode=False)


def _connected() -> frozenset[str]:
    from lab.topology.outcomes import CONNECTED

    return CONNECTED


def _check_place(name: str) -> None:
    """InputError, before anything is tried, if there is no folder for the file `name`."""
    from pathlib import Path

    from lab.errors import InputError

    if not Path(name).parent.is_dir():
        raise InputError(
            f"can't write {name}: there is no folder {Path(name).parent}",
            remedy="name a file that can be written",
        )


def _write(name: str, text: str) -> None:
    """Write `text` into the file `name`; InputError if that can't be done."""
    from pathlib import Path

    from lab.errors import InputError

    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"can't write {name}: {error.strerror}", remedy="name a file that can be written"
        ) from error
