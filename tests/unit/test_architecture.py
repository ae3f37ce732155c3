"""The tree is what docs/architecture.md says: which folders there are, and who imports whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/architecture.md").read_text()
_IMPORT = re.compile(r"^[ \t]*from (lab[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
ANYBODY_S = frozenset({"errors", "paths", "seeds", "lab"})
"""What stands beside the folders: everybody may import it."""


@cache
def modules() -> Mapping[str, Path]:
    """Every module of lab, by its dotted name."""
    names = {}
    for path in (ROOT / "lab").rglob("*.py"):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        names[dotted.removesuffix(".__init__")] = path
    return names


@cache
def imported(name: str) -> frozenset[str]:
    """The modules of lab that a module imports, also where it does so late."""
    found = set()
    for module, words in _IMPORT.findall(modules()[name].read_text()):
        for word in re.findall(r"\w+", re.sub(r" as \w+|#.*", "", words)):
            inner = f"{module}.{word}"
            found.add(inner if inner in modules() else module)
    return frozenset(found)


def folder(name: str) -> str:
    """`plan` of `lab.plan.model`."""
    return name.split(".")[1] if "." in name else name


def house() -> dict[str, set[str]]:
    """Each folder of lab in the document's table, and what it may import."""
    rows = re.findall(r"^\| `lab/(\w+)` \|.*\|(.*)\|$", DOCUMENT, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}


def test_every_folder_is_in_the_document():
    folders = {path.parent.relative_to(ROOT) for path in modules().values()}
    absent = [str(each) for each in folders if f"`{each}`" not in DOCUMENT]
    assert not absent


def test_what_the_document_names_is_there():
    named = set(re.findall(r"`((?:lab|tests|docs|topologies|images|metrics)/[\w./-]+)`", DOCUMENT))
    assert named
    assert not [each for each in named if not (ROOT / each).exists()]


def test_imports_go_downward_as_the_document_says():
    allowed = house()
    wrong = {
        f"{name} imports {other}"
        for name in modules()
        if folder(name) in allowed
        for other in imported(name)
        if folder(other) not in {folder(name), *allowed[folder(name)], *ANYBODY_S}
    }
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    package = {name for name, path in modules().items() if path.name == "__init__.py"}
    # A package's face imports what is in it.
    graph = {name: imported(name) - package for name in modules() if name not in package}
    TopologicalSorter(graph).prepare()
