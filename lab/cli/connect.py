"""`lab connect`: let two peers connect, and say what worked."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@click.option(
    "--technique",
    "-t",
    "techniques",
    multiple=True,
    metavar="NAME",
    help="Only this technique; may be repeated.  [default: all]",
    show_default=False,
)
@click.option("--first", is_flag=True, help="Stop at the first technique that works.")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=10.0, help="Seconds for each.")
@lab_option
@json_option
def command(
    *,
    local: str,
    remote: str,
    techniques: tuple[str, ...],
    first: bool,
    timeout: float,
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Let peer A connect to peer B by every technique, and say what worked.

    Exit code 0 if at least one technique connected them, 1 if none did.
    """
    from lab.agent import client  # noqa: PLC0415 - heavy
    from lab.cli.labs import choose, node_of  # noqa: PLC0415 - heavy
    from lab.cli.terminal import print_json, say  # noqa: PLC0415 - heavy

    paths = choose(lab_name)
    for name in (local, remote):
        node_of(paths, name)
    order = {
        "do": "connect",
        "local": local,
        "remote": remote,
        "techniques": list(techniques),
        "first": first,
        "timeout_s": timeout,
    }
    records = []
    for answer in client.ask(paths, order):
        if answer.get("event") == "attempt":
            records.append(answer["record"])
            if not as_json:
                record = answer["record"]
                say(f"{record['technique']}: {record['outcome']}")
    connected = any(record["outcome"] == "success" for record in records)
    if as_json:
        print_json({"lab": paths.lab, "connected": connected, "attempts": records})
    else:
        from lab.observe.status import render_attempts  # noqa: PLC0415 - heavy

        render_attempts(records)
    if not connected:
        raise click.exceptions.Exit(1)
