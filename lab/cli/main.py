"""The `lab` command: finds the subcommand, prints errors, sets the exit code."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from lab import __version__
from lab.errors import LabError

COMMANDS = {
    "up": "Build the network of a topology and start its peers.",
    "apply": "Bring a running lab to a changed topology by the smallest change.",
    "down": "Remove a lab, and everything of it.",
    "ls": "List the labs on this machine.",
    "status": "Show nodes, addresses, NATs, links, programs and health.",
    "verify": "Measure every NAT, firewall and link against what it is declared to be.",
    "connect": "Let two peers connect by every technique, and say what worked.",
    "session": "Keep two peers in touch, and repair the path whenever it dies.",
    "explain": "Show the packets of one attempt hop by hop, and why it worked or failed.",
    "predict": "Say which techniques can connect two peers, from what is declared.",
    "matrix": "Try every kind of NAT against every other, and hold it against the prediction.",
    "nat": "Show and change the NATs of a running lab.",
    "firewall": "Show and change the firewalls of a running lab.",
    "link": "Show and change the links of a running lab, cut them, mend them.",
    "node": "Stop, start, pause and resume what runs in a node.",
    "partition": "Let nothing pass between groups of nodes.",
    "heal": "End every partition.",
    "move": "Let a host roam to another router, where it gets another address.",
    "events": "Show what happened in a lab, and when.",
    "exec": "Run a program in a node.",
    "shell": "Open a shell in a node.",
    "logs": "Show what the programs in nodes printed.",
    "graph": "Draw the network as SVG or Mermaid.",
    "validate": "Check topology files.",
    "schema": "Print the JSON Schema of topology files, for editors.",
    "doctor": "Say what this machine has and lacks, and how to get it.",
    "image": "Build the container images of base and peer.",
}
"""Name and short help of each command, so that help needs no imports."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lab.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "LAB",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="lab")
def cli() -> None:
    """Emulate networks for peer-to-peer connectivity, and see whether peers connect.

    One YAML file becomes real network namespaces, NAT routers, links and
    peers.  Start with `lab up double-nat`, then `lab connect alice bob`.

    Exit codes: 0 yes, 1 the answer is no, 2 bad input, 3 this machine lacks
    something, as `lab doctor` explains, 4 the lab failed.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; the console script's entry point."""
    try:
        code = cli.main(args=arguments, prog_name="lab", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except LabError as error:
        from lab.cli.terminal import show_error

        show_error(error)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone; that is its right.
        sys.stderr.close()
        code = 0
    except Exception:
        # Python's own exit code, 1, would say that the answer is no.
        import traceback

        traceback.print_exc()
        click.echo("error: this is a fault in lab; the lines above say where", err=True)
        code = LabError.exit_code
    sys.exit(code if isinstance(code, int) else 0)
