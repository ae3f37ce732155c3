"""`count:` made into names: from declarations to routers and nodes.

`home: {count: 500}` is home-1 to home-500, also with a count of 1, so that a
sweep over counts keeps its names.  Behind a counted router, a counted thing
is dealt out evenly and in order: with equal counts one to each, with twice
as many the first two to the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.topology.document import Document, Loc
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm
from lab.topology.model import INTERNET
from lab.topology.names import NAME, NAME_HELP
from lab.topology.problems import one_of, show

MAX_TOTAL = 20_000

Form = RouterForm | NodeForm


@dataclass(frozen=True, slots=True)
class Instance:
    """One router or node that will exist."""

    name: str
    via: str
    declared: str
    loc: Loc


@dataclass(frozen=True, slots=True)
class Declared:
    """What a file declares, usable or not: names can be referred to either way."""

    routers: Mapping[str, RouterForm]
    nodes: Mapping[str, NodeForm]
    unusable: frozenset[str]
    """Names under `routers` or `nodes` whose declaration is wrong in itself."""
    switches: tuple[str, ...] = ()

    def forms(self) -> list[tuple[Loc, str, Form]]:
        """Place, name and form of each usable declaration, in order, routers first."""
        routers: list[tuple[Loc, str, Form]] = [
            (("routers", name), name, form) for name, form in self.routers.items()
        ]
        return routers + [(("nodes", name), name, form) for name, form in self.nodes.items()]


def expand(document: Document, declared: Declared) -> list[Instance]:
    """Every instance, in order of declaration; what is wrong is reported.

    Names, `via` and counts are checked here; whether routers form a circle is
    not.  Raises TopologyError at once for more instances than a lab can have.
    """
    total = sum(form.count or 1 for _, _, form in declared.forms())
    if total > MAX_TOTAL:
        document.report(
            (), f"{total} routers and nodes are too many", f"a lab has at most {MAX_TOTAL}"
        )
        document.raise_problems()
    owners: dict[str, Loc] = {}
    for name in declared.switches:
        if name_is_right(document, ("switches", name), name, name):
            owners[name] = ("switches", name)
    instances: list[Instance] = []
    for loc, name, form in declared.forms():
        names = instance_names(name, form)
        if not name_is_right(document, loc, name, names[-1]):
            continue
        if taken := next((one for one in names if one in owners), None):
            document.report(
                loc,
                f"the name {show(taken)} is given twice",
                "routers, switches and nodes share one space of names, and it stands at "
                f"{document.where(owners[taken])} already",
            )
            continue
        owners.update(dict.fromkeys(names, loc))
        if form.count is not None and form.address is not None:
            document.report(
                (*loc, "address"),
                f"{form.count} alike can't share the address {form.address}",
                "leave the address out: each gets one of its own",
            )
        if form.count is not None and isinstance(form, RouterForm) and form.lan and form.lan.six:
            document.report(
                (*loc, "lan"),
                f"{form.count} alike can't share the LAN {form.lan.six}: IPv6 is routed",
                "leave it out: each gets one of its own",
            )
        instances += [
            Instance(one, via, name, loc)
            for one, via in zip(names, _vias(document, loc, form, declared), strict=False)
        ]
    return instances


def instance_names(name: str, form: Form) -> list[str]:
    """The names that a declaration stands for."""
    return [name] if form.count is None else [f"{name}-{i}" for i in range(1, form.count + 1)]


def name_is_right(document: Document, loc: Loc, name: str, longest: str) -> bool:
    """Whether `name` can be one, also as `longest` with its number; if not, it is reported."""
    if name == INTERNET:
        document.report(loc, f"the name {INTERNET!r} is taken", "it is the core: choose another")
    elif not NAME.fullmatch(name):
        document.report(loc, f"{show(name)} can't be a name", NAME_HELP)
    elif not NAME.fullmatch(longest):
        document.report(loc, f"with its number, {show(longest)} can't be a name", NAME_HELP)
    else:
        return True
    return False


def _vias(document: Document, loc: Loc, form: Form, declared: Declared) -> list[str]:
    """What each instance of `form` is attached to; empty if that can't be said."""
    count, via = form.count or 1, form.via
    router = declared.routers.get(via)
    if via == INTERNET or (router is not None and router.count is None):
        return [via] * count
    if via in declared.switches:
        if loc[0] == "nodes":
            return [via] * count
        document.report(
            (*loc, "via"),
            f"{loc[-1]} is a router, and {via} is a network without one",
            f"leave the switch out, and attach its hosts to {loc[-1]}",
        )
        return []
    if router is not None and router.count is not None:
        if form.count is None:
            document.report(
                (*loc, "via"),
                f"there are {router.count} of {show(via)}",
                f"name one of them, such as {via}-1, or give {loc[-1]} a count too",
            )
            return []
        if count % router.count:
            document.report(
                (*loc, "count"),
                f"{count} can't be dealt out evenly to the {router.count} of {show(via)}",
                f"use a multiple of {router.count}",
            )
            return []
        each = count // router.count
        return [f"{via}-{i // each + 1}" for i in range(count)]
    base, _, number = via.rpartition("-")
    counted = declared.routers.get(base)
    if counted is not None and counted.count is not None and number.isdecimal():
        if via in (f"{base}-1", f"{base}-{counted.count}") or (
            1 <= int(number[:9]) <= counted.count and str(int(number[:9])) == number
        ):
            return [via] * count
        document.report(
            (*loc, "via"), f"there is no {show(via)}", f"{base} ends with {base}-{counted.count}"
        )
        return []
    _report_unknown_via(document, loc, via, declared)
    return []


def _report_unknown_via(document: Document, loc: Loc, via: str, declared: Declared) -> None:
    routers = document.node(("routers",)).value if "routers" in document.root.value else {}
    if via in routers if isinstance(routers, dict) else routers is not None:
        return  # Its own declaration is wrong, and was reported.
    at = (*loc, "via")
    if via in declared.nodes or via in declared.unusable:
        document.report(
            at,
            f"{loc[-1]} is attached to {show(via)}, which is a node",
            "via names a router or internet: declare it under routers if it is one",
        )
        return
    words = [INTERNET, *declared.switches, *(name for name in declared.routers if name != loc[-1])]
    document.report(
        at,
        f"{loc[-1]} is attached to {show(via)}, which does not exist",
        one_of(via, words, "routers"),
    )
