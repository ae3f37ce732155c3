"""What the forms of a file mean: presets found, and what was written laid over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from lab.topology.behaviour import Firewall, Nat, PortMapping
from lab.topology.checks import check_regions
from lab.topology.document import Document, Loc
from lab.topology.expand import Declared
from lab.topology.forms.link import InternetForm
from lab.topology.forms.router import RouterForm
from lab.topology.link import LinkSpec
from lab.topology.model import Regions
from lab.topology.portmap import port_mapping
from lab.topology.presets import Presets
from lab.topology.problems import WrongValueError
from lab.topology.regions import regions

Form = TypeVar("Form")
Meaning = TypeVar("Meaning")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The behaviours that a file declares, by place; those of routers by their declared name."""

    links: dict[Loc, LinkSpec] = field(default_factory=dict)
    firewalls: dict[Loc, Firewall | None] = field(default_factory=dict)
    nats: dict[str, Nat | None] = field(default_factory=dict)
    port_mappings: dict[str, PortMapping | None] = field(default_factory=dict)


def resolve(document: Document, presets: Presets, declared: Declared) -> Resolved:
    """What everything that is declared does; what is wrong is reported, and counts as absent."""
    found = Resolved()

    def meant(
        loc: Loc, form: Form | None, mean: Callable[[Form], Meaning], absent: Meaning
    ) -> Meaning:
        if form is None:
            return absent
        try:
            return mean(form)
        except WrongValueError as error:
            document.refuse(loc, error)
            return absent

    for loc, name, form in declared.forms():
        found.links[loc] = meant((*loc, "link"), form.link, presets.resolve_link, LinkSpec())
        found.firewalls[loc] = meant(
            (*loc, "firewall"), form.firewall, presets.resolve_firewall, None
        )
        if isinstance(form, RouterForm):
            nat = meant((*loc, "nat"), form.nat, presets.resolve_nat, None)
            found.nats[name] = nat
            found.port_mappings[name] = meant(
                (*loc, "port-mapping"),
                form.port_mapping,
                partial(port_mapping, nat=nat),
                None,
            )
    return found


def resolve_regions(
    document: Document, form: InternetForm | None, declared: Declared
) -> Regions | None:
    """The regions of the internet; whatever is attached to it has to be in one of them."""
    found = None
    if form is not None and form.regions is not None:
        try:
            found = regions(form.regions, Path(document.source).parent)
        except WrongValueError as error:
            document.refuse(("internet", "regions"), error)
            return None
    check_regions(document, form, declared, found)
    return found
