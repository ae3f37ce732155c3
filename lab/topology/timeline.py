"""The timeline of a file: its words, and what must hold between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.topology.behaviour import Firewall, Nat
from lab.topology.changes import AnyChange, FlushNat, Happening, Reboot, SetFirewall, SetNat
from lab.topology.checks import too_few_blocks
from lab.topology.document import Document, Loc
from lab.topology.expand import Declared, Instance
from lab.topology.presets import Presets
from lab.topology.problems import WrongValueError, one_of, show
from lab.topology.schema import HappeningForm, SetForm
from lab.topology.units import format_duration

_WHAT = ("set_", "reboot", "flush")


@dataclass(frozen=True, slots=True)
class Timeline:
    """One file's timeline on its way to happenings; problems go into the document."""

    document: Document
    presets: Presets
    declared: Declared
    instances: Sequence[Instance]
    nats: Mapping[str, Nat | None]
    """The NAT of each declared router; those that are wrong in themselves are not in it."""

    def happenings(self, forms: Sequence[HappeningForm]) -> tuple[Happening, ...]:
        """All entries, in their order."""
        return tuple(self._happening(index, form) for index, form in enumerate(forms))

    def _happening(self, index: int, form: HappeningForm) -> Happening:
        loc: Loc = ("timeline", index)
        what = [name for name in _WHAT if getattr(form, name) is not None]
        if len(what) != 1:
            at = format_duration(form.at)
            self.document.report(
                (*loc, what[1].rstrip("_")) if what else loc,
                f"timeline.{index}: {'two things happen' if what else 'nothing happens'} at {at}",
                "write each as an entry of its own" if what else "write set:, reboot: or flush:",
            )
        self._check_times(loc, form)
        return Happening(
            at_us=form.at,
            changes=tuple(self._changes(loc, form)),
            for_us=form.for_ or 0,
            every_us=form.every or 0,
            times=form.times or 0,
            jitter_us=form.jitter or 0,
            where=self.document.where(loc),
        )

    def _check_times(self, loc: Loc, form: HappeningForm) -> None:
        lasts, every, jitter = form.for_ or 0, form.every or 0, form.jitter or 0
        momentary = next((word for word in ("reboot", "flush") if getattr(form, word)), "")
        if lasts and momentary:
            self.document.report(
                (*loc, "for"),
                f"a {momentary} can't be undone, so it has no duration",
                "leave for: out; it goes with set:",
            )
        elif every and lasts + jitter >= every:
            self.document.report(
                (*loc, "every"),
                f"it comes every {format_duration(every)}, and the one before may last until then",
                f"for: and jitter: together have to be less than every: {format_duration(every)}",
            )
        if form.times is not None and not every:
            self.document.report(
                (*loc, "times"), "it comes once without every:", "write every: 30s, or no times:"
            )

    def _changes(self, loc: Loc, form: HappeningForm) -> Iterator[AnyChange]:
        if form.set_ is not None:
            yield from self._settings((*loc, "set"), form.set_)
        if form.reboot is not None:
            for router in self._routers((*loc, "reboot"), form.reboot):
                yield Reboot(router=router.name)
        if form.flush is not None:
            for router in self._translating((*loc, "flush"), form.flush):
                yield FlushNat(router=router.name)

    def _settings(self, loc: Loc, form: SetForm) -> Iterator[AnyChange]:
        dotted = ".".join(str(step) for step in loc)
        if (form.router is None) is (form.node is None):
            self.document.report(
                loc,
                f"{dotted} names {'neither a router nor a node' if form.node is None else 'two'}",
                "write router: or node:, and nat: or firewall:",
            )
            return
        if form.nat is None and form.firewall is None:
            self.document.report(loc, f"{dotted} sets nothing", "write nat: or firewall: in it")
        if form.nat is not None and form.node is not None:
            self.document.report(
                (*loc, "nat"),
                f"{show(form.node)} is a node, and nodes have no NAT",
                "name a router",
            )
        if form.router is not None and form.nat is not None:
            yield from self._nats(loc, form)
        firewall = self._firewall(loc, form)
        if firewall is None:
            return
        if form.router is not None and form.nat is None:
            for router in self._routers((*loc, "router"), form.router):
                yield SetFirewall(node=router.name, firewall=firewall)
        elif form.router is not None:
            # What is wrong with the name was said for the NAT.
            for router in self._named("routers", form.router):
                yield SetFirewall(node=router.name, firewall=firewall)
        elif form.node is not None:
            for node in self._known((*loc, "node"), "nodes", form.node):
                yield SetFirewall(node=node.name, firewall=firewall)

    def _nats(self, loc: Loc, form: SetForm) -> Iterator[SetNat]:
        if form.router is None or form.nat is None:
            return
        at = (*loc, "nat")
        try:
            nat = self.presets.resolve_nat(form.nat)
        except WrongValueError as error:
            self._report(at, error)
            return
        if nat is None:
            self.document.report(
                at,
                f"the NAT of {form.router} can't be taken away while the lab runs",
                "the addresses behind it would be routed nowhere: name a NAT that translates",
            )
            return
        behind = Counter(one.via for one in self.instances)
        for router in self._translating((*loc, "router"), form.router):
            wrong = too_few_blocks(router.name, behind[router.name], nat)
            if wrong is not None:
                self.document.report(at, *wrong)
                return
            yield SetNat(router=router.name, nat=nat)

    def _firewall(self, loc: Loc, form: SetForm) -> Firewall | None:
        if form.firewall is None:
            return None
        try:
            return self.presets.resolve_firewall(form.firewall)
        except WrongValueError as error:
            self._report((*loc, "firewall"), error)
            return None

    def _report(self, loc: Loc, error: WrongValueError) -> None:
        dotted = ".".join(str(step) for step in loc)
        self.document.report((*loc, *error.at), f"{dotted}: {error.message}", error.remedy)

    # --- names ------------------------------------------------------------------

    def _translating(self, at: Loc, name: str) -> list[Instance]:
        """The routers that `name` means, which must have a NAT."""
        routers = self._routers(at, name)
        if routers and self.nats.get(routers[0].declared, Nat()) is None:
            self.document.report(
                at,
                f"{name} has no NAT, and none can come while the lab runs",
                f"give it one where it is declared, at {self.document.where(routers[0].loc)}",
            )
            return []
        return routers

    def _routers(self, at: Loc, name: str) -> list[Instance]:
        return self._known(at, "routers", name)

    def _known(self, at: Loc, section: str, name: str) -> list[Instance]:
        found = self._named(section, name)
        if not found and name not in self.declared.unusable:
            kind, other = ("router", "node") if section == "routers" else ("node", "router")
            if self._named(f"{other}s", name):
                remedy = f"it is a {other}: write {other}: {name}"
                if at[-1] in ("reboot", "flush"):
                    remedy = f"it is a {other}; name a {kind}"
            else:
                there = [one.name for one in self.instances if one.loc[0] == section]
                remedy = one_of(name, there, section) if there else f"there are no {section}"
            self.document.report(
                at, f"there is no {kind} {show(name)} for anything to happen to", remedy
            )
        return found

    def _named(self, section: str, name: str) -> list[Instance]:
        """The one of that name, or all that a declaration with a count made."""
        return [
            one
            for one in self.instances
            if one.loc[0] == section and name in (one.name, one.declared)
        ]
