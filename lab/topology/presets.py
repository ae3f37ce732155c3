"""Presets: named behaviours that ship as data (`presets/*.yaml`), and finding them.

A preset file maps names to `description`, `source` and `behaviour`; the
behaviour is written exactly as in a topology.  Nothing below `lab.topology`
knows a preset's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from msgspec.structs import replace

from lab.topology.behaviour import Firewall, Nat
from lab.topology.compose import parse
from lab.topology.document import plain
from lab.topology.forms.firewall import FirewallForm
from lab.topology.forms.form import Form
from lab.topology.forms.link import LinkForm
from lab.topology.forms.nat import NatForm
from lab.topology.model import LinkSpec
from lab.topology.overlay import (
    only_names_preset,
    overlay_firewall,
    overlay_link,
    overlay_nat,
)
from lab.topology.problems import WrongValueError, one_of, show

_FOLDER = Path(__file__).parent / "presets"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Preset(Generic[T]):
    """A named behaviour, and where its figures come from."""

    name: str
    description: str
    source: str
    behaviour: T


class _NatEntry(Form):
    description: str
    source: str
    behaviour: NatForm | None


class _LinkEntry(Form):
    description: str
    source: str
    behaviour: LinkForm


class _FirewallEntry(Form):
    description: str
    source: str
    behaviour: FirewallForm


class Presets:
    """All presets; each file is read when a preset of its kind is first asked for."""

    @cached_property
    def nat(self) -> dict[str, Preset[Nat | None]]:
        """NAT presets by name; None translates nothing."""
        found: dict[str, Preset[Nat | None]] = {}
        for name, raw in _read("nat").items():
            entry = _NatEntry.model_validate(raw)
            form = entry.behaviour
            nat = None if form is None else overlay_nat(Nat(preset=name), form)
            found[name] = Preset(name, entry.description, entry.source, nat)
        return found

    @cached_property
    def link(self) -> dict[str, Preset[LinkSpec]]:
        """Link presets by name."""
        found = {}
        for name, raw in _read("link").items():
            entry = _LinkEntry.model_validate(raw)
            link = overlay_link(LinkSpec(preset=name), entry.behaviour)
            found[name] = Preset(name, entry.description, entry.source, link)
        return found

    @cached_property
    def firewall(self) -> dict[str, Preset[Firewall]]:
        """Firewall presets by name."""
        found = {}
        for name, raw in _read("firewall").items():
            entry = _FirewallEntry.model_validate(raw)
            firewall = overlay_firewall(Firewall(preset=name), entry.behaviour)
            found[name] = Preset(name, entry.description, entry.source, firewall)
        return found

    def resolve_nat(self, form: NatForm) -> Nat | None:
        """The NAT that `form` means; None if it translates nothing.

        Raises WrongValueError, as the two functions below do.
        """
        if form.preset is None:
            return overlay_nat(Nat(), form)
        base = _find(self.nat, form.preset, "NAT preset")
        if only_names_preset(form):
            return base
        if base is None:
            raise WrongValueError(
                f"{show(form.preset)} translates nothing, so there is nothing to change",
                "leave the other keys out, or begin with another preset",
                ("preset",),
            )
        return replace(overlay_nat(base, form), preset=_changed(form.preset))

    def resolve_link(self, form: LinkForm) -> LinkSpec:
        """The link that `form` means."""
        if form.preset is None:
            return overlay_link(LinkSpec(), form)
        base = _find(self.link, form.preset, "link preset")
        if only_names_preset(form):
            return base
        return replace(overlay_link(base, form), preset=_changed(form.preset))

    def resolve_firewall(self, form: FirewallForm) -> Firewall:
        """The firewall that `form` means."""
        if form.preset is None:
            return overlay_firewall(Firewall(), form)
        base = _find(self.firewall, form.preset, "firewall preset")
        if only_names_preset(form):
            return base
        return replace(overlay_firewall(base, form), preset=_changed(form.preset))


def _read(kind: str) -> Mapping[str, object]:
    path = _FOLDER / f"{kind}.yaml"
    entries: dict[str, object] = plain(parse(path.read_text(), str(path)).root)
    return entries


def _find(presets: Mapping[str, Preset[T]], name: str, what: str) -> T:
    if name not in presets:
        raise WrongValueError(
            f"unknown {what} {show(name)}", one_of(name, list(presets), f"{what}s"), ("preset",)
        )
    return presets[name].behaviour


def _changed(preset: str) -> str:
    """What people read for a preset with changes of their own."""
    return f"{preset}, changed"
