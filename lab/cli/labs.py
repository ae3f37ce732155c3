"""Which lab a command means, and what is known of it from its state folder alone."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from lab.errors import InputError, MissingError
from lab.paths import LabPaths, labs_in, state_root

Command = TypeVar("Command", bound=Callable[..., Any])


def existing() -> list[str]:
    """The names of the labs on this machine, running or broken.

    Raises MissingError where the caller may not even look for them.
    """
    try:
        return labs_in(state_root())
    except PermissionError:
        raise MissingError(f"{state_root()} is root's", remedy="run it with sudo") from None


def choose(name: str | None) -> LabPaths:
    """The lab of that name, or the only one there is.

    Raises InputError when there is none, or several to choose from;
    MissingError when it is somebody else's.
    """
    labs = existing()
    if name is not None:
        if name in labs:
            return _readable(LabPaths.of(name))
        near = difflib.get_close_matches(name, labs, n=1)
        raise InputError(
            f"there is no lab {name!r}",
            remedy=(
                f"did you mean {near[0]!r}?"
                if near
                else f"running: {', '.join(labs)}"
                if labs
                else "start one: lab up double-nat"
            ),
        )
    if not labs:
        raise InputError("no lab is running", remedy="start one: lab up double-nat")
    if len(labs) > 1:
        raise InputError(
            f"several labs are running: {', '.join(labs)}", remedy="say which: --lab NAME"
        )
    return _readable(LabPaths.of(labs[0]))


def readable(paths: LabPaths) -> bool:
    """Whether the caller may look into the lab: labs are root's, and tell nobody else anything."""
    return os.access(paths.root, os.R_OK | os.X_OK)


def _readable(paths: LabPaths) -> LabPaths:
    if not readable(paths):
        raise MissingError(
            f"lab {paths.lab!r} is root's, as every lab is", remedy="run it with sudo"
        )
    return paths


def plan_of(paths: LabPaths) -> Any:
    """The plan that runs in the lab; InputError if the lab never came up."""
    from lab.plan.model import decode

    try:
        return decode(paths.plan.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"lab {paths.lab!r} never came up completely",
            remedy=f"remove what is left of it: lab down {paths.lab}",
        ) from None


def node_of(paths: LabPaths, name: str) -> Any:
    """The node of that name in the running plan; InputError names the nearest one."""
    from lab.plan.model import NodeKind
    from lab.topology.problems import one_of

    plan = plan_of(paths)
    if all(node.name != name for node in plan.nodes):
        # A shared segment can be looked into, but nobody has to know of it.
        names = [node.name for node in plan.nodes if node.kind is not NodeKind.SEGMENT]
        raise InputError(
            f"lab {paths.lab!r} has no node {name!r}", remedy=one_of(name, names, "nodes")
        )
    return plan.node(name)


def need_root() -> None:
    """Raise MissingError unless we may make network namespaces."""
    if os.geteuid() != 0:
        raise MissingError(
            "lab makes network namespaces, which needs root", remedy="run it with sudo"
        )


def lab_option(command: Command) -> Command:
    """The option `--lab NAME` for commands on a running lab."""
    return click.option(
        "--lab",
        "-l",
        "lab_name",
        metavar="NAME",
        envvar="LAB_LAB",
        help="Which lab; may be left out when only one is running.",
        show_default=False,
    )(command)


def lab_argument(command: Command) -> Command:
    """The argument `[LAB]`, and `--lab NAME` for the same, for commands about nothing else."""

    @functools.wraps(command)
    def merged(*, lab_argument: str | None, lab_name: str | None, **given: Any) -> Any:
        source = click.get_current_context().get_parameter_source("lab_name")
        typed = lab_name if source is ParameterSource.COMMANDLINE else None
        if lab_argument and typed not in (None, lab_argument):
            raise InputError(f"two labs are named: {lab_argument} and {typed}", remedy="name one")
        return command(lab_name=lab_argument or lab_name, **given)

    argument = click.argument("lab_argument", required=False, metavar="[LAB]")
    return cast(Command, argument(lab_option(merged)))


def json_option(command: Command) -> Command:
    """The option `--json` for commands that answer something."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")(command)


def span(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Seconds in `15s`, `250ms` or `2m`."""
    from lab.topology.problems import WrongValueError
    from lab.topology.units import parse_duration

    try:
        return parse_duration(value) / 1e6
    except WrongValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def techniques_option(default: str = "all") -> Callable[[Command], Command]:
    """The option `--technique NAME`, any number of times; `default` says what is tried without."""
    return click.option(
        "--technique",
        "-t",
        "techniques",
        multiple=True,
        metavar="NAME",
        help=f"Only this technique; may be repeated.  [default: {default}]",
        show_default=False,
    )
