"""`lab session`: keep two peers in touch, whatever happens to the paths between them."""

from __future__ import annotations

from typing import Any

import click

from lab.cli.labs import json_option, lab_option, span, techniques_option


def _rate(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Datagrams a second in `50/s`."""
    try:
        rate = float(value.removesuffix("/s"))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1000:
        raise click.BadParameter(f"{value!r} is no rate from 0/s to 1000/s", ctx, param)
    return rate


@click.command()
@click.argument("local", metavar="A")
@click.argument("remote", metavar="B")
@techniques_option("direct, udp-punch, tcp-punch, relay, http")
@click.option(
    "--keepalive",
    callback=span,
    default="15s",
    help="Between checks of an idle path; 0 for none.  RFC 8445 wants 15s on the Internet.",
)
@click.option(
    "--for",
    "for_s",
    callback=span,
    default="0s",
    help="How long.  [default: until Ctrl-C]",
    show_default=False,
)
@click.option(
    "--rate", callback=_rate, default="50/s", help="Datagrams, each way; a call has 50/s."
)
@lab_option
@json_option
def command(
    *,
    local: str,
    remote: str,
    techniques: tuple[str, ...],
    keepalive: float,
    for_s: float,
    rate: float,
    lab_name: str | None,
    as_json: bool,
) -> None:
    """Hold a session between peers A and B, and repair its path whenever it dies.

    Prints what happens until the time is over, one end is gone, or Ctrl-C.
    Exit code 0 if the session was there to its end, 1 if it was lost or never
    began.  With --json an object a line, the record last.
    """
    import json

    from lab.agent import client
    from lab.cli.labs import choose
    from lab.cli.pair import check_ends, check_techniques
    from lab.observe.sessions import words

    paths = choose(lab_name)
    check_ends(paths, local, remote)
    check_techniques(techniques)
    order = {
        "do": "session",
        "local": local,
        "remote": remote,
        "techniques": list(techniques),
        "keepalive_s": keepalive,
        "for_s": for_s,
        "rate": rate,
    }
    record: dict[str, Any] = {}
    for answer in client.ask(paths, order, until_interrupted=True):
        if answer.get("event") == "session":
            at = f"{float(answer.get('at_s', 0)):8.3f} s"
            click.echo(
                json.dumps(answer, ensure_ascii=False) if as_json else f"{at}  {words(answer)}"
            )
        record = answer.get("result", record)
    click.echo(json.dumps(record, ensure_ascii=False) if as_json else _summary(record))
    if record.get("outcome") not in ("completed", "hung-up"):
        raise click.exceptions.Exit(1)


def _summary(record: dict[str, Any]) -> str:
    """The record in a few lines."""
    counts, repairs = record.get("datagrams") or {}, record.get("repairs") or []
    ends = f"{record.get('local')} and {record.get('remote')}"
    head = f"{ends}: {record.get('outcome')} after {record.get('lasted_s')} s"
    if not counts:
        return f"{head}: {record.get('reason')}"
    missing = counts["lost_by_peer"]
    missing = "nobody knows how many" if missing is None else missing
    sent = f"{counts['sent']}, of which {missing} did not arrive"
    received = f"{counts['received']}, {counts['lost']} lost, {counts['reordered']} out of order"
    return (
        f"{head}, {len(repairs)} repair{'' if len(repairs) == 1 else 's'}\n"
        f"sent      {sent} ({counts['unsent']} while there was no path)\n"
        f"received  {received}, longest gap {record.get('longest_gap_s')} s"
    )
