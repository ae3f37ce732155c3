"""What a timeline is about: the routers, nodes and links that its names mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lab.topology.behaviour import Nat
from lab.topology.document import Document, Loc
from lab.topology.expand import Declared, Instance
from lab.topology.model import INTERNET
from lab.topology.problems import WrongValueError, one_of, show


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one file; what is wrong goes into the document."""

    document: Document
    declared: Declared
    instances: Sequence[Instance]
    nats: Mapping[str, Nat | None]
    """The NAT of each declared router; those that are wrong in themselves are not in it."""
    roams: frozenset[tuple[str, str]] = frozenset()
    """Nodes as they are written, and what they come to while the lab runs."""

    def report(self, loc: Loc, error: WrongValueError) -> None:
        """Report what is wrong with the value at `loc`."""
        self.document.refuse(loc, error)

    def translating(self, at: Loc, name: str) -> list[Instance]:
        """The routers that `name` means, which must have a NAT."""
        routers = self.routers(at, name)
        if routers and self.nats.get(routers[0].declared, Nat()) is None:
            self.document.report(
                at,
                f"{name} has no NAT, and none can come while the lab runs",
                f"give it one where it is declared, at {self.document.where(routers[0].loc)}",
            )
            return []
        return routers

    def routers(self, at: Loc, name: str) -> list[Instance]:
        """The routers that `name` means; none is reported."""
        return self.known(at, "routers", name)

    def known(self, at: Loc, section: str, name: str) -> list[Instance]:
        """The routers or nodes that `name` means; none is reported."""
        found = self.named(section, name)
        if not found and name not in self.declared.unusable:
            kind, other = ("router", "node") if section == "routers" else ("node", "router")
            if self.named(f"{other}s", name):
                remedy = f"it is a {other}: write {other}: {name}"
                if at[-1] != kind:
                    remedy = f"it is a {other}; name a {kind}"
            else:
                there = [one.name for one in self.instances if one.loc[0] == section]
                remedy = one_of(name, there, section) if there else f"there are no {section}"
            self.document.report(
                at, f"there is no {kind} {show(name)} for anything to happen to", remedy
            )
        return found

    def named(self, section: str, name: str) -> list[Instance]:
        """The one of that name, or all that a declaration with a count made."""
        return [
            one
            for one in self.instances
            if one.loc[0] == section and name in (one.name, one.declared)
        ]

    def anybody(self, at: Loc, name: str) -> list[Instance]:
        """The routers or nodes that `name` means, whichever it is; none is reported."""
        found = [*self.named("routers", name), *self.named("nodes", name)]
        if not found and name not in self.declared.unusable:
            self.document.report(
                at,
                f"there is no node or router {show(name)} for anything to happen to",
                one_of(name, [one.name for one in self.instances], "names"),
            )
        return found

    def links(self, at: Loc, ends: tuple[str, str]) -> Iterator[Instance]:
        """Each attachment of one end to the other, by what is attached; none is reported."""
        upstreams = {INTERNET, *self.declared.switches}
        for name in ends:
            if name not in upstreams and not self.anybody(at, name):
                return
        found = False
        for lower, upper in (ends, ends[::-1]):
            routers = {one.name for one in self.named("routers", upper)}
            vias = routers or {upper} & upstreams
            for one in (*self.named("routers", lower), *self.named("nodes", lower)):
                if one.via in vias:
                    found = True
                    yield one
                elif {(one.name, upper), (one.declared, upper)} & self.roams:
                    found = True
                    yield replace(one, via=upper)
        if not found:
            where = ", ".join(
                f"{name} is attached to {self._via(name)}" for name in ends if name not in upstreams
            )
            self.document.report(
                at, f"there is no link between {ends[0]} and {ends[1]}", f"{where}: name its ends"
            )

    def _via(self, name: str) -> str:
        return next(one.via for one in self.instances if name in (one.name, one.declared))
