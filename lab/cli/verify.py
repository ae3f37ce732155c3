"""`lab verify`: measure every NAT and firewall against what it claims to be."""

from __future__ import annotations

import click

from lab.cli.labs import json_option


@click.command()
@click.argument("names", nargs=-1, metavar="[LAB] [NODE]...")
@click.option("--slow", is_flag=True, help="Lifetimes and what refreshes them, too.")
@click.option(
    "--limit",
    type=click.FloatRange(1),
    default=300.0,
    metavar="SECONDS",
    help="With --slow: follow a mapping no longer than that.",
)
@click.option("--lab", "-l", "lab_name", metavar="NAME", envvar="LAB_LAB", help="Which lab.")
@json_option
def command(
    *, names: tuple[str, ...], slow: bool, limit: float, lab_name: str | None, as_json: bool
) -> None:
    """Measure every NAT and firewall of a running lab: declared beside observed.

    Each router is measured by itself, by packets at the two ends of its wires;
    peers ask the lab's STUN server besides.  Nothing of the lab is changed.

    The first name is the lab's, unless only one is running and it has a node
    of that name.  Exit code 1 if something is not as declared.
    """
    import msgspec

    from lab.cli.labs import choose, existing, need_root, node_of, plan_of
    from lab.cli.terminal import print_json
    from lab.verify import verify
    from lab.verify.table import render

    need_root()
    if lab_name is None and names and (names[0] in existing() or len(existing()) != 1):
        lab_name, names = names[0], names[1:]
    paths = choose(lab_name)
    plan = plan_of(paths)
    for name in names:
        node_of(paths, name)
    report = verify(plan, paths, names or None, slow=slow, limit_s=limit)
    if as_json:
        findings = [msgspec.to_builtins(one) | {"ok": one.ok} for one in report.findings]
        peers = [msgspec.to_builtins(one) | {"ok": one.ok} for one in report.peers]
        print_json(
            {
                "lab": report.lab,
                "ok": report.ok,
                "findings": findings,
                "peers": peers,
                "unmeasured": [{"node": node, "why": why} for node, why in report.unmeasured],
                "seconds": report.seconds,
            }
        )
    else:
        render(report)
    if not report.ok:
        raise click.exceptions.Exit(1)
