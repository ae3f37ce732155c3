"""Behaviours typed on a command line: `symmetric`, or `mapping=adm ports=random`.

The words are those of a file, and so are the errors; `file:line` is replaced
by the word that was typed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from msgspec.structs import replace
from pydantic import ValidationError

from lab.topology.behaviour import Firewall, Nat
from lab.topology.complain import report_validation
from lab.topology.compose import parse
from lab.topology.document import Document, Node, plain
from lab.topology.forms.file import FileForm
from lab.topology.forms.link import LinkForm
from lab.topology.model import INTERNET, LinkSpec
from lab.topology.overlay import overlay_firewall, overlay_link, overlay_nat
from lab.topology.override import put
from lab.topology.presets import Presets
from lab.topology.problems import Problem, TopologyError, WrongValueError, show

NO_FIREWALL = "none"


def nat_of(words: Sequence[str], router: str, running: Nat) -> Nat:
    """The NAT that `words` mean: a preset, choices, or a preset with choices.

    Choices without a preset change the `running` NAT.  Raises TopologyError
    for everything that is wrong.
    """
    file = _form(words, "routers", router, "nat")
    form = (file.routers or {})[router].nat
    if form is None:
        raise _wrong(router, f"{router} is to have no NAT", _USAGE["nat"])
    try:
        if form.preset is None:
            return replace(overlay_nat(running, form), preset=_changed(running.preset))
        nat = Presets().resolve_nat(form)
    except WrongValueError as error:
        raise _wrong(" ".join(words), error.message, error.remedy) from None
    if nat is None:
        raise _wrong(
            " ".join(words),
            f"the NAT of {router} can't be taken away while the lab runs",
            "change the file (nat: none), then `lab apply` it: routes change too",
        )
    return nat


def firewall_of(
    words: Sequence[str], node: str, running: Firewall | None, *, router: bool
) -> Firewall | None:
    """The firewall of a router or a node that `words` mean; None for the word `none`.

    Choices without a preset change the `running` firewall.  Raises
    TopologyError for everything that is wrong.
    """
    if list(words) == [NO_FIREWALL]:
        return None
    section = "routers" if router else "nodes"
    file = _form(words, section, node, "firewall")
    form = ((file.routers if router else file.nodes) or {})[node].firewall
    if form is None:
        raise _wrong(node, "no firewall is named", "name a preset, or none")
    try:
        if form.preset is None:
            base = running or Firewall()
            return replace(overlay_firewall(base, form), preset=_changed(base.preset))
        return Presets().resolve_firewall(form)
    except WrongValueError as error:
        raise _wrong(" ".join(words), error.message, error.remedy) from None


def link_of(words: Sequence[str], node: str, running: LinkSpec) -> LinkSpec:
    """The access link of `node` that `words` mean: a preset, choices, or both.

    Choices without a preset change the `running` link.  Raises TopologyError
    for everything that is wrong.
    """
    form = (_form(words, "routers", node, "link").routers or {})[node].link
    if form is None:
        raise _wrong(node, "no link is named", "name a preset (lte), or choices: delay=80ms")
    try:
        if form.preset is None:
            return replace(overlay_link(running, form), preset=_changed(running.preset))
        return Presets().resolve_link(form)
    except WrongValueError as error:
        raise _wrong(" ".join(words), error.message, error.remedy) from None


_USAGE = {
    "nat": "name a preset (symmetric), or choices: mapping=address-dependent ports=random",
    "firewall": "name a preset (udp-blocked), or choices: outbound=[tcp/443] inbound=drop",
    "link": "name a preset (lte), or choices, a word each: delay=80ms loss=2% up.rate=1mbit",
}
"""What is to be typed, by what it is about."""


def _form(words: Sequence[str], section: str, name: str, key: str) -> FileForm:
    """A file with these words at `key` of `name`, and nothing else in it.

    What is wrong is said as of `key`: nobody typed the rest of that path.
    """
    try:
        return _file_with(words, section, name, key)
    except TopologyError as error:
        path = f"{section}.{name}.{key}"
        raise TopologyError(
            dataclasses.replace(
                each, message=each.message.replace(f"{path}.", "").replace(path, key)
            )
            for each in error.problems
        ) from None


def _file_with(words: Sequence[str], section: str, name: str, key: str) -> FileForm:
    first, choices = words[0], words[1:]
    leaf = Node(None, first)
    if "=" in first.partition("{")[0]:
        choices = words
    elif key == "link" and first.partition(":")[0] in LinkForm.model_fields:
        raise _wrong(first, "this is not key=value", _USAGE[key])
    else:
        document = parse(first, first, lambda _: first)
        document.raise_problems()
        leaf = document.root
    where = " ".join(words)
    inner = Node({key: leaf, "via": Node(INTERNET, where, text=INTERNET)}, where)
    root = Node({section: Node({name: inner}, where)}, where)
    for word in choices:
        path, equals, value = word.partition("=")
        if not equals or not all(path.split(".")):
            raise _wrong(word, "this is not key=value", _USAGE[key])
        if not value:
            raise _wrong(word, f"{path} has no value", _USAGE[key])
        if key == "link" and "=" in value:
            raise _wrong(word, "this is more than one choice", _USAGE[key])
        try:
            root = put(root, (section, name, key, *path.split(".")), value, word)
        except WrongValueError as error:
            raise _wrong(word, error.message, error.remedy) from None
    document = Document(where, root)
    try:
        return FileForm.model_validate(plain(root))
    except ValidationError as error:
        report_validation(document, error)
        document.raise_problems()
        raise


def _wrong(where: str, message: str, remedy: str) -> TopologyError:
    return TopologyError([Problem(show(where).strip("'"), message, remedy)])


def _changed(preset: str) -> str:
    """What people read for a preset with changes of their own."""
    return preset if not preset or preset.endswith(", changed") else f"{preset}, changed"
