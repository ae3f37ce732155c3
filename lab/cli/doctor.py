"""`lab doctor`: what this machine has and lacks, and how to get it."""

from __future__ import annotations

import click

from lab.cli.labs import json_option


@click.command()
@click.option("--fix", is_flag=True, help="Install what is missing (Debian, Ubuntu).")
@json_option
def command(*, fix: bool, as_json: bool) -> None:
    """Say what this machine has and lacks, why it matters, and how to get it.

    Exit code 0 if labs can run here, 3 if something that they need is missing.
    """
    from lab.cli.terminal import print_json, say
    from lab.observe import doctor
    from lab.observe.doctor.report import lines, verdict

    checks = list(doctor.examine())
    installed: tuple[str, ...] = ()
    if fix:
        installed = doctor.repair(checks, say)
        if installed:
            checks = list(doctor.examine())
        else:
            say("there is nothing to install")
    missing = any(check.level is doctor.Level.MISSING for check in checks)
    if as_json:
        print_json(
            {
                "ready": not missing,
                "installed": list(installed),
                "checks": [
                    {field: getattr(check, field) for field in check.__struct_fields__}
                    for check in checks
                ],
            }
        )
    else:
        for line in lines(checks):
            click.echo(line)
        click.echo(verdict(checks))
    if missing:
        raise click.exceptions.Exit(3)
