"""Which tables a namespace has, as the kernel itself says it."""

from __future__ import annotations

import pytest

from lab.fabric import netns
from lab.fabric.rules import nftables

pytestmark = pytest.mark.kernel


def test_tables_are_told_by_family_and_name():
    with netns.scratch():
        assert nftables.tables() == ()
        made = {f"{family} some" for family in ("inet", "ip", "ip6", "arp", "bridge", "netdev")}
        made.add("ip another")
        nftables.run("".join(f"add table {table}\n" for table in made))
        assert set(nftables.tables()) == made
        assert set(nftables.run("list tables").replace("table ", "").split("\n")) - {""} == made
