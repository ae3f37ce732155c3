"""Rules that are read beforehand are those that stand, whatever changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from lab.fabric import netns
from lab.fabric.rules import nftables
from lab.observe.capture.library import Library
from lab.paths import LabPaths

pytestmark = pytest.mark.kernel

TABLE = """table inet shelf {{
    chain wall {{
        type filter hook input priority 0;
        tcp dport {port} drop comment "{comment}"
    }}
}}
"""
NODE = "home"


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[LabPaths]:
    paths = LabPaths(tmp_path / f"t-library-{token_hex(3)}")
    netns.create(paths.netns(NODE))
    try:
        yield paths
    finally:
        netns.delete(paths.netns(NODE))


def change(paths: LabPaths, script: str) -> int:
    with netns.inside(paths.netns(NODE)):
        nftables.run(script)
        return nftables.generation()


def test_rules_are_read_again_only_when_they_were_changed(paths):
    first = change(paths, TABLE.format(port=1, comment="first"))
    library = Library(paths)
    try:
        library.read([NODE])
        library.keep([NODE], until_ns=7)
        assert [(rule.comment, rule.until_ns) for rule in library.rules(())] == [("first", 7)]
        anew = f"delete table inet shelf\n{TABLE.format(port=2, comment='second')}"
        assert change(paths, anew) != first
        kept, standing = library.rules([NODE])
        assert (kept.comment, kept.until_ns) == ("first", 7)
        assert (standing.comment, standing.until_ns) == ("second", 0)
        # In the same generation nothing is read, and what is doubted is.
        assert library.rules([NODE])[1] is standing
        library.doubt([NODE])
        assert library.rules([NODE])[1] is not standing
        assert library.rules([NODE])[1] == standing
    finally:
        library.close()


def test_where_no_rules_stand_none_are_kept(paths):
    library = Library(paths)
    try:
        library.keep([NODE], until_ns=7)
        assert library.rules([NODE]) == ()
    finally:
        library.close()
