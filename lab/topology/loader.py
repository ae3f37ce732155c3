"""From a topology file to a Topology: everything checked, every error with its line.

Errors are collected, so that one run shows all of them: a declaration that is
wrong in itself is set aside, and the rest is checked as far as it can be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lab.errors import InputError
from lab.topology.addresses import Written
from lab.topology.behaviour import Dependence, Firewall, Hairpin, Mount, Nat, PortMapping
from lab.topology.checks import (
    check_addresses,
    check_capacity,
    check_circles,
    check_expectation,
    check_program,
    check_regions,
)
from lab.topology.complain import report_validation
from lab.topology.document import Document, Loc, parse, plain
from lab.topology.expand import Declared, Form, Instance, expand, instance_names
from lab.topology.families import families
from lab.topology.faults import Faults
from lab.topology.files import find, read_text, shipped
from lab.topology.forms.character import FOLDER
from lab.topology.forms.file import ExpectForm, FileForm
from lab.topology.forms.node import NodeForm
from lab.topology.forms.router import RouterForm
from lab.topology.model import (
    Expectation,
    Ip,
    LinkSpec,
    NodeSpec,
    Regions,
    RouterSpec,
    SwitchSpec,
    Topology,
)
from lab.topology.names import NAME, NAME_HELP
from lab.topology.overlay import internet
from lab.topology.override import apply_overrides
from lab.topology.portmap import port_mapping
from lab.topology.presets import Presets
from lab.topology.problems import WrongValueError, show
from lab.topology.regions import regions
from lab.topology.subjects import Subjects
from lab.topology.timeline import Timeline

NAT64 = Nat(filtering=Dependence.ADDRESS_DEPENDENT, hairpin=Hairpin.EXTERNAL_SOURCE)
"""Of a NAT64 that says nothing: as in RFC 6146 where filtering is wanted (sections 3.5, 3.8)."""
_VERBATIM = frozenset({"env", "command"})


def load(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), name: str | None = None
) -> Topology:
    """The topology in the file `path`, or the shipped one of that name.

    A bare word (no separator, no extension) is the name of a shipped
    topology.  `overrides` are `path=value` changes, made before anything is
    checked; `name` replaces the topology's name.  Raises InputError for
    everything that is wrong: TopologyError, with each problem and its line,
    for what is wrong inside the file.
    """
    file = find(path)
    return loads(read_text(file), str(file), overrides, name)


def loads(
    text: str, source: str, overrides: Sequence[str] = (), name: str | None = None
) -> Topology:
    """The topology that `text` describes; `source` names it in errors."""
    document = parse(text, source)
    if document.root.value is None:
        document.report(
            (),
            "the file is empty",
            f"write nodes: and routers:, or begin with a shipped topology: {', '.join(shipped())}",
        )
        document.raise_problems()
    if not isinstance(document.root.value, dict):
        document.report(
            (),
            f"the file is {show(plain(document.root))}, and has to be a mapping",
            "begin with name:, routers: and nodes:",
        )
        document.raise_problems()
    apply_overrides(document, tuple(overrides))
    return _Understanding(document, name).topology()


class _Understanding:
    """One document on its way to a Topology."""

    def __init__(self, document: Document, name: str | None) -> None:
        self._document = document
        self._name = name
        self._presets = Presets()

    def topology(self) -> Topology:
        document = self._document
        file = self._validated()
        declared = self._declared(file)
        nats: dict[str, Nat | None] = {}
        port_mappings: dict[str, PortMapping | None] = {}
        links: dict[Loc, LinkSpec] = {}
        firewalls: dict[Loc, Firewall | None] = {}
        for loc, one, form in declared.forms():
            links[loc] = self._link(loc, form)
            firewalls[loc] = self._firewall(loc, form)
            if isinstance(form, RouterForm):
                nats[one] = self._nat(loc, form)
                port_mappings[one] = self._port_mapping(loc, form, nats[one])
            else:
                check_program(document, one, form)
        if not (file.routers or file.nodes or document.problems):
            document.report((), "there is nothing in this network", "write routers: and nodes:")
        instances = expand(document, declared)
        tree = check_circles(document, instances)
        ips = families(document, instances, declared, file.ip, links) if tree else {}
        check_addresses(document, declared)
        known = {one: nat for one, nat in nats.items() if nat is not None}
        check_capacity(document, instances, declared, known)
        self._check_expectations(file, declared)
        moves = [form.move for form in file.timeline or () if form.move is not None]
        roams = frozenset((move.node, move.to) for move in moves)
        found = self._regions(file, declared)
        core = internet(file.internet, document.where(("internet",)), found)
        subjects = Subjects(document, declared, instances, nats, roams)
        faults = Faults(subjects, self._presets, links, found)
        timeline = Timeline(document, self._presets, subjects, faults)
        happenings = timeline.happenings(file.timeline or ())
        name = self._checked_name(file)
        document.raise_problems()
        return Topology(
            name=name,
            description=file.description,
            seed=file.seed,
            internet=core,
            routers=tuple(
                _router(
                    one,
                    declared.routers[one.declared],
                    ip=ips[one.name],
                    nat=nats[one.declared],
                    port_mapping=port_mappings[one.declared],
                    link=links[one.loc],
                    firewall=firewalls[one.loc],
                    where=document.where(one.loc),
                )
                for one in instances
                if one.loc[0] == "routers"
            ),
            switches=tuple(
                SwitchSpec(name=one, where=document.where(("switches", one)))
                for one in declared.switches
            ),
            nodes=tuple(
                _node(
                    one,
                    declared.nodes[one.declared],
                    ip=ips[one.name],
                    link=links[one.loc],
                    firewall=firewalls[one.loc],
                    document=document,
                )
                for one in instances
                if one.loc[0] == "nodes"
            ),
            expect=tuple(_expectation(form) for form in file.expect or ()),
            timeline=happenings,
            source=document.source,
        )

    def _validated(self) -> FileForm:
        """The file's form, without the parts that are wrong in themselves (reported)."""
        raw = plain(self._document.root, _VERBATIM)
        context = {FOLDER: Path(self._document.source).parent}
        try:
            return FileForm.model_validate(raw, context=context)
        except ValidationError as error:
            for loc in report_validation(self._document, error):
                _drop(raw, loc)
        try:
            return FileForm.model_validate(raw, context=context)
        except ValidationError:
            # Not reached by anything known; what was reported stands.
            self._document.raise_problems()
            raise

    def _declared(self, file: FileForm) -> Declared:
        nodes = self._document.root.value.get("nodes")
        written = nodes.value if nodes is not None and isinstance(nodes.value, dict) else {}
        usable = file.nodes or {}
        return Declared(
            routers=file.routers or {},
            nodes=usable,
            unusable=frozenset(name for name in written if name not in usable),
            switches=tuple(file.switches or ()),
        )

    def _nat(self, loc: Loc, form: RouterForm) -> Nat | None:
        if form.nat is None:
            return None
        try:
            return self._presets.resolve_nat(form.nat)
        except WrongValueError as error:
            self._report((*loc, "nat"), error)
            return None

    def _port_mapping(self, loc: Loc, form: RouterForm, nat: Nat | None) -> PortMapping | None:
        if form.port_mapping is None:
            return None
        try:
            return port_mapping(form.port_mapping, nat)
        except WrongValueError as error:
            self._report((*loc, "port-mapping"), error)
            return None

    def _link(self, loc: Loc, form: Form) -> LinkSpec:
        if form.link is None:
            return LinkSpec()
        try:
            return self._presets.resolve_link(form.link)
        except WrongValueError as error:
            self._report((*loc, "link"), error)
            return LinkSpec()

    def _firewall(self, loc: Loc, form: Form) -> Firewall | None:
        if form.firewall is None:
            return None
        try:
            return self._presets.resolve_firewall(form.firewall)
        except WrongValueError as error:
            self._report((*loc, "firewall"), error)
            return None

    def _regions(self, file: FileForm, declared: Declared) -> Regions | None:
        """The regions of the internet; whatever is attached to it has to be in one of them."""
        form, found = file.internet, None
        if form is not None and form.regions is not None:
            try:
                found = regions(form.regions, Path(self._document.source).parent)
            except WrongValueError as error:
                self._report(("internet", "regions"), error)
                return None
        check_regions(self._document, form, declared, found)
        return found

    def _report(self, loc: Loc, error: WrongValueError) -> None:
        dotted = ".".join(str(step) for step in loc)
        self._document.report((*loc, *error.at), f"{dotted}: {error.message}", error.remedy)

    def _check_expectations(self, file: FileForm, declared: Declared) -> None:
        peers = dict.fromkeys(declared.unusable, True)
        for name, form in declared.nodes.items():
            able = bool(form.peer or form.image or form.command)
            peers.update(dict.fromkeys(instance_names(name, form), able))
        for index, expectation in enumerate(file.expect or ()):
            check_expectation(self._document, index, expectation, peers)

    def _checked_name(self, file: FileForm) -> str:
        """The name that was asked for, that the file gives, or that the file has."""
        if self._name is not None:
            if not NAME.fullmatch(self._name):
                raise InputError(f"{show(self._name)} can't be a name", remedy=NAME_HELP)
            return self._name
        if file.name is not None:
            if not NAME.fullmatch(file.name):
                self._document.report(("name",), f"{show(file.name)} can't be a name", NAME_HELP)
            return file.name
        stem = re.sub(r"[^a-z0-9]+", "-", Path(self._document.source).stem.lower()).strip("-")
        if not NAME.fullmatch(stem):
            self._document.report(
                (), f"the file's name {show(stem)} can't name the topology", "write name: ..."
            )
        return stem


def _drop(raw: Any, loc: Loc) -> None:
    """Take out of `raw` the smallest part around `loc` that can be left out.

    That is a whole router or node, or else a whole key of the file.
    """
    depth = 2 if loc[0] in ("routers", "switches", "nodes") and len(loc) > 1 else 1
    container = raw if depth == 1 else raw.get(loc[0])
    if isinstance(container, dict):
        container.pop(loc[depth - 1], None)


def _router(
    one: Instance,
    form: RouterForm,
    *,
    ip: Ip,
    nat: Nat | None,
    port_mapping: PortMapping | None,
    link: LinkSpec,
    firewall: Firewall | None,
    where: str,
) -> RouterSpec:
    lan, address = form.lan or Written(), form.address or Written()
    return RouterSpec(
        name=one.name,
        via=one.via,
        ip=ip,
        nat=nat or (NAT64 if form.nat64 else None),
        nptv6=form.nptv6,
        nat64=form.nat64 or "",
        port_mapping=port_mapping,
        firewall=firewall,
        link=link,
        region=form.region or "",
        lan=lan.four,
        lan6=lan.six,
        address=address.four,
        address6=address.six,
        where=where,
    )


def _node(
    one: Instance,
    form: NodeForm,
    *,
    ip: Ip,
    link: LinkSpec,
    firewall: Firewall | None,
    document: Document,
) -> NodeSpec:
    folder = Path(document.source).parent
    services = form.services or form.service or {}
    address = form.address or Written()
    return NodeSpec(
        name=one.name,
        via=one.via,
        ip=ip,
        link=link,
        region=form.region or "",
        firewall=firewall,
        address=address.four,
        address6=address.six,
        services=tuple(services),
        service_ports=tuple((service, port) for service, port in services.items() if port),
        peer=form.peer,
        image=form.image or "",
        command=tuple(form.command or ()) if form.image else _command(form.command, folder),
        env=tuple(sorted((form.env or {}).items())),
        mounts=tuple(_mount(mount, folder) for mount in form.mounts or ()),
        memory_bytes=form.memory or 0,
        cpus=form.cpus or 0.0,
        ready_signal=form.ready == "signal",
        where=document.where(one.loc),
    )


def _mount(mount: Mount, folder: Path) -> Mount:
    """`mount` with its source absolute: relative ones are meant from the file's folder."""
    written = os.path.expanduser(mount.source)  # noqa: PTH111 - Path's raises for unknown users
    source = _from(folder, written)
    return Mount(source=source, target=mount.target, read_only=mount.read_only)


def _command(words: list[str] | None, folder: Path) -> tuple[str, ...]:
    """What this machine is to run, with files that are named beside the topology's absolute."""
    beside = ("./", "../")
    return tuple(_from(folder, word) if word.startswith(beside) else word for word in words or ())


def _from(folder: Path, written: str) -> str:
    """`written` as seen from `folder`, absolute."""
    return os.path.abspath(folder / written)  # noqa: PTH100 - Path's follows links, and may raise


def _expectation(form: ExpectForm) -> Expectation:
    written = form.model_dump(by_alias=True, exclude_none=True, exclude={"from_", "to"})
    return Expectation(local=form.from_, remote=form.to, outcomes=tuple(written.items()))
