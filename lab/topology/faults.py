"""The words of a timeline for links, programs, partitions and roaming hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from lab.topology.changes import (
    Activity,
    AnyChange,
    CutLink,
    Divide,
    Heal,
    Move,
    SetActivity,
    SetLink,
)
from lab.topology.document import Loc
from lab.topology.forms.happening import HappeningForm, MoveForm, SetForm
from lab.topology.forms.link import LinkForm
from lab.topology.link import LinkSpec
from lab.topology.model import Regions
from lab.topology.overlay import overlay_link
from lab.topology.presets import Presets
from lab.topology.problems import WrongValueError, one_of, show
from lab.topology.subjects import Subjects

_ACTIVITIES = {
    "stop": Activity.STOPPED,
    "start": Activity.RUNNING,
    "pause": Activity.PAUSED,
    "resume": Activity.RUNNING,
}
_LINK_KEYS = frozenset(LinkForm.model_fields)


def says_link(form: SetForm) -> bool:
    """Whether `form` says what a link is to be like."""
    return bool(form.model_fields_set & _LINK_KEYS)


@dataclass(frozen=True, slots=True)
class Faults:
    """The links, programs and places of one file's timeline."""

    subjects: Subjects
    presets: Presets
    links: Mapping[Loc, LinkSpec]
    """The link of each declaration."""
    regions: Regions | None = None

    def changes(self, loc: Loc, form: HappeningForm) -> Iterator[AnyChange]:
        """What an entry asks for, but for `set`, `reboot` and `flush`."""
        for word in ("down", "up"):
            if (ends := getattr(form, word)) is not None:
                for node, via, _ in self._links((*loc, word), ends):
                    yield CutLink(node=node, via=via, down=word == "down")
        for word, activity in _ACTIVITIES.items():
            if (name := getattr(form, word)) is not None:
                for one in self.subjects.anybody((*loc, word), name):
                    yield SetActivity(
                        node=one.name, activity=activity, only_paused=word == "resume"
                    )
        if form.partition is not None:
            yield from self._partition((*loc, "partition"), form.partition)
        if form.heal:
            yield Heal()
        if form.move is not None:
            yield from self._move((*loc, "move"), form.move)

    def link(self, loc: Loc, form: SetForm) -> Iterator[SetLink]:
        """The links that `form` sets."""
        document = self.subjects.document
        other = next((k for k in ("router", "node", "nat", "firewall") if getattr(form, k)), None)
        if form.link is None or other is not None:
            document.report(
                (*loc, other) if form.link is not None and other else loc,
                f"what a link is like needs link: [alice, home]{' alone' if other else ''}",
                "write link: and its two ends, and what it is like; other things are entries "
                "of their own",
            )
            return
        if not says_link(form):
            document.report(
                loc, f"the link of {' and '.join(form.link)} is set to nothing",
                "write a preset, or what it is like: delay: 80ms",
            )  # fmt: skip
            return
        wanted = LinkForm.model_construct(
            _fields_set=form.model_fields_set & _LINK_KEYS,
            **{key: getattr(form, key) for key in _LINK_KEYS},
        )
        for node, via, declared in self._links((*loc, "link"), form.link):
            link = self._resolved(loc, wanted, declared)
            if link is None:
                return
            yield SetLink(node=node, via=via, link=link)

    def _links(self, at: Loc, ends: tuple[str, str]) -> Iterator[tuple[str, str, LinkSpec]]:
        """Both ends of each link that `ends` mean, and what it is declared to be like."""
        if all(map(self._is_region, ends)) and self.regions is not None:
            yield *ends, self.regions.between(*ends)
            return
        for one in self.subjects.links(at, ends):
            yield one.name, one.via, self.links.get(one.loc, LinkSpec())

    def _is_region(self, name: str) -> bool:
        return self.regions is not None and name in self.regions.names

    def _resolved(self, loc: Loc, form: LinkForm, base: LinkSpec) -> LinkSpec | None:
        """The link that `form` makes of `base`, or of a preset; None if it was reported."""
        try:
            if form.preset is not None:
                return self.presets.resolve_link(form)
            preset = base.preset and f"{base.preset.partition(',')[0]}, changed"
            return replace(overlay_link(base, form), preset=preset)
        except WrongValueError as error:
            self.subjects.report(loc, error)
            return None

    def _partition(self, loc: Loc, groups: tuple[tuple[str, ...], ...]) -> Iterator[Divide]:
        named: list[tuple[str, ...]] = []
        for group in groups:
            names: list[str] = []
            for name in group:
                if self._is_region(name):
                    names.append(name)
                else:
                    found = self.subjects.anybody(loc, name)
                    names += (one.name for one in found)
            named.append(tuple(names))
        if all(named):
            yield Divide(groups=tuple(named))

    def _move(self, loc: Loc, form: MoveForm) -> Iterator[Move]:
        subjects = self.subjects
        if subjects.named("routers", form.node):
            subjects.document.report(
                (*loc, "node"),
                f"{form.node} is a router, and only hosts roam",
                "name a node",
            )
            return
        hosts = subjects.known((*loc, "node"), "nodes", form.node)
        places = [one.name for one in subjects.instances if one.loc[0] == "routers"]
        places += subjects.declared.switches
        if form.to not in places:
            subjects.document.report(
                (*loc, "to"),
                f"there is no router or switch {show(form.to)} for {form.node} to come to",
                one_of(form.to, places, "routers and switches"),
            )
            return
        link = None
        if form.link is not None:
            link = self._resolved((*loc, "link"), form.link, LinkSpec())
        for host in hosts:
            yield Move(node=host.name, via=form.to, link=link)
