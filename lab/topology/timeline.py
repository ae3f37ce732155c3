"""The timeline of a file: its words, and what must hold between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.topology.behaviour import Firewall
from lab.topology.changes import AnyChange, FlushNat, Happening, Reboot, SetFirewall, SetNat
from lab.topology.checks import too_few_blocks
from lab.topology.document import Document, Loc
from lab.topology.faults import Faults, says_link
from lab.topology.forms.happening import HappeningForm, SetForm
from lab.topology.presets import Presets
from lab.topology.problems import WrongValueError, show
from lab.topology.subjects import Subjects
from lab.topology.units import format_duration

_MOMENTARY = ("reboot", "flush", "heal")
_WHAT = (
    *("set_", "reboot", "flush", "down", "up", "stop", "start", "pause", "resume"),
    *("partition", "heal", "move"),
)
_WHAT_HELP = f"write one of {', '.join(word.rstrip('_') for word in _WHAT)}"


@dataclass(frozen=True, slots=True)
class Timeline:
    """One file's timeline on its way to happenings; problems go into the document."""

    document: Document
    presets: Presets
    subjects: Subjects
    faults: Faults

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
                "write each as an entry of its own" if what else _WHAT_HELP,
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
        momentary = next((word for word in _MOMENTARY if getattr(form, word)), "")
        if lasts and momentary:
            self.document.report(
                (*loc, "for"),
                f"{momentary} can't be undone, so it has no duration",
                f"leave for: out; it goes with all but {', '.join(_MOMENTARY)}",
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
            for router in self.subjects.routers((*loc, "reboot"), form.reboot):
                yield Reboot(router=router.name)
        if form.flush is not None:
            for router in self.subjects.translating((*loc, "flush"), form.flush):
                yield FlushNat(router=router.name)
        yield from self.faults.changes(loc, form)

    def _settings(self, loc: Loc, form: SetForm) -> Iterator[AnyChange]:
        dotted = ".".join(str(step) for step in loc)
        if form.link is not None or says_link(form):
            yield from self.faults.link(loc, form)
            return
        if (form.router is None) is (form.node is None):
            self.document.report(
                loc,
                f"{dotted} names {'neither a router nor a node' if form.node is None else 'two'}",
                "write router: or node:, and nat: or firewall:, or link: and what it is like",
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
            for router in self.subjects.routers((*loc, "router"), form.router):
                yield SetFirewall(node=router.name, firewall=firewall)
        elif form.router is not None:
            # What is wrong with the name was said for the NAT.
            for router in self.subjects.named("routers", form.router):
                yield SetFirewall(node=router.name, firewall=firewall)
        elif form.node is not None:
            for node in self.subjects.known((*loc, "node"), "nodes", form.node):
                yield SetFirewall(node=node.name, firewall=firewall)

    def _nats(self, loc: Loc, form: SetForm) -> Iterator[SetNat]:
        if form.router is None or form.nat is None:
            return
        at = (*loc, "nat")
        try:
            nat = self.presets.resolve_nat(form.nat)
        except WrongValueError as error:
            self.subjects.report(at, error)
            return
        if nat is None:
            self.document.report(
                at,
                f"the NAT of {form.router} can't be taken away while the lab runs",
                "the addresses behind it would be routed nowhere: name a NAT that translates",
            )
            return
        behind = Counter(one.via for one in self.subjects.instances)
        for router in self.subjects.translating((*loc, "router"), form.router):
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
            self.subjects.report((*loc, "firewall"), error)
            return None
