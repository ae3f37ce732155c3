"""`--set path=value`: changes to a file's values before they are checked."""

from __future__ import annotations

from lab.topology.compose import parse
from lab.topology.document import Document, Node
from lab.topology.problems import Problem, TopologyError, WrongValueError, one_of, show

_USAGE = "write --set nodes.alice.link.delay=20ms"

_TERSE = {
    "nat": "preset",
    "firewall": "preset",
    "link": "preset",
    "internet": "delay",
    "ports": "policy",
}
"""Which key a word stands for where the file may say a word instead of a mapping."""


def apply_overrides(document: Document, overrides: tuple[str, ...]) -> None:
    """Carry out each of `overrides` in order; what is wrong with them is reported."""
    for override in overrides:
        try:
            document.root = _applied(document.root, override)
        except TopologyError as error:
            document.problems.extend(error.problems)
        except WrongValueError as error:
            document.problems.append(Problem(f"--set {override}", error.message, error.remedy))


def _applied(root: Node, override: str) -> Node:
    path, equals, value = override.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise WrongValueError("this is not path=value", _USAGE)
    if len(steps) > 12:
        raise WrongValueError("the path leads nowhere: it is too long", _USAGE)
    return put(root, tuple(steps), value, f"--set {override}")


def put(root: Node, steps: tuple[str, ...], value: str, where: str) -> Node:
    """`root` with `value`, read as YAML, at `steps` below it; `where` is its place in errors.

    Raises WrongValueError if there is no such place, TopologyError for what is
    no YAML.
    """
    leaf = parse(value, where, lambda _: where)
    leaf.raise_problems()
    return _replaced(root, steps, leaf.root, (), where)


def _replaced(
    node: Node, steps: tuple[str, ...], leaf: Node, done: tuple[str, ...], where: str
) -> Node:
    """`node` with `leaf` at `steps` below it.

    Containers on the way are copied: an anchor may have given the same one to
    several places.
    """
    if not steps:
        return leaf
    step, rest = steps[0], steps[1:]
    if isinstance(node.value, list):
        if not step.isdecimal() or int(step) >= len(node.value):
            raise WrongValueError(
                f"{'.'.join(done)} has no item {show(step)}",
                f"its items are 0 to {len(node.value) - 1}",
            )
        items = list(node.value)
        items[int(step)] = _replaced(items[int(step)], rest, leaf, (*done, step), where)
        return Node(items, node.place, node.size)
    if isinstance(node.value, dict):
        entries = dict(node.value)
    elif node.value is None:
        entries = {}
    elif done and done[-1] in _TERSE:
        entries = {_TERSE[done[-1]]: node}
    else:
        raise WrongValueError(
            f"{'.'.join(done)} is {show(node.value)}, which has no {show(step)}", _USAGE
        )
    if rest and step not in entries and done in (("routers",), ("nodes",)):
        kind = done[0].removesuffix("s")
        raise WrongValueError(
            f"there is no {kind} {show(step)} to set anything of",
            one_of(step, list(entries), done[0]),
        )
    child = entries.get(step, Node(None, where))
    entries[step] = _replaced(child, rest, leaf, (*done, step), where)
    return Node(entries, node.place, node.size)
