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
from lab.topology.assemble import expectation, node_spec, router_spec
from lab.topology.changes import Happening
from lab.topology.checks import (
    check_addresses,
    check_capacity,
    check_circles,
    check_expectation,
    check_program,
)
from lab.topology.complain import report_validation
from lab.topology.compose import parse
from lab.topology.document import Document, Loc, plain
from lab.topology.expand import Declared, Instance, expand, instance_names
from lab.topology.families import families
from lab.topology.faults import Faults
from lab.topology.files import find, read_text, shipped
from lab.topology.forms.character import FOLDER
from lab.topology.forms.file import FileForm
from lab.topology.hostfiles import check_host_files
from lab.topology.model import (
    Regions,
    SwitchSpec,
    Topology,
)
from lab.topology.names import NAME, NAME_HELP
from lab.topology.overlay import internet
from lab.topology.override import apply_overrides
from lab.topology.presets import Presets
from lab.topology.problems import show
from lab.topology.resolve import Resolved, resolve, resolve_regions
from lab.topology.subjects import Subjects
from lab.topology.timeline import Timeline

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
        resolved = resolve(document, self._presets, declared)
        for name, form in declared.nodes.items():
            check_program(document, name, form)
            check_host_files(document, name, form)
        if not (file.routers or file.nodes or document.problems):
            document.report((), "there is nothing in this network", "write routers: and nodes:")
        instances = expand(document, declared)
        tree = check_circles(document, instances)
        ips = families(document, instances, declared, file.ip, resolved.links) if tree else {}
        check_addresses(document, declared)
        known = {one: nat for one, nat in resolved.nats.items() if nat is not None}
        check_capacity(document, instances, declared, known)
        self._check_expectations(file, declared)
        found = resolve_regions(document, file.internet, declared)
        core = internet(file.internet, document.where(("internet",)), found)
        happenings = self._happenings(file, declared, instances, resolved, found)
        name = self._checked_name(file)
        document.raise_problems()
        return Topology(
            name=name,
            description=file.description,
            seed=file.seed,
            internet=core,
            routers=tuple(
                router_spec(
                    one,
                    declared.routers[one.declared],
                    resolved,
                    ips[one.name],
                    document.where(one.loc),
                )
                for one in instances
                if one.loc[0] == "routers"
            ),
            switches=tuple(
                SwitchSpec(name=one, where=document.where(("switches", one)))
                for one in declared.switches
            ),
            nodes=tuple(
                node_spec(one, declared.nodes[one.declared], resolved, ips[one.name], document)
                for one in instances
                if one.loc[0] == "nodes"
            ),
            expect=tuple(expectation(form) for form in file.expect or ()),
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

    def _happenings(
        self,
        file: FileForm,
        declared: Declared,
        instances: list[Instance],
        resolved: Resolved,
        found: Regions | None,
    ) -> tuple[Happening, ...]:
        """What the timeline says, in terms of what is declared."""
        moves = [form.move for form in file.timeline or () if form.move is not None]
        roams = frozenset((move.node, move.to) for move in moves)
        subjects = Subjects(self._document, declared, instances, resolved.nats, roams)
        faults = Faults(subjects, self._presets, resolved.links, found)
        timeline = Timeline(self._document, self._presets, subjects, faults)
        return timeline.happenings(file.timeline or ())

    def _check_expectations(self, file: FileForm, declared: Declared) -> None:
        peers = dict.fromkeys(declared.unusable, True)
        for name, form in declared.nodes.items():
            able = bool(form.peer or form.image or form.command)
            peers.update(dict.fromkeys(instance_names(name, form), able))
        for index, expected in enumerate(file.expect or ()):
            check_expectation(self._document, index, expected, peers)

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
