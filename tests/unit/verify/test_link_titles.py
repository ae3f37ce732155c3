"""What a link is called in what is found of it."""

from __future__ import annotations

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.loader import loads
from lab.verify.links.measure import title

FILE = """
name: titles
routers: {home: {}}
nodes: {alice: {via: home}, bob: {via: home}, server: {via: internet}}
"""


def test_a_link_is_named_by_its_ends_and_a_lan_by_its_router():
    plan = compile_topology(loads(FILE, "titles.yaml"), Machine())
    assert sorted(map(title, plan.links)) == [
        "alice -- home",
        "bob -- home",
        "home -- internet",
        "home -- its LAN",
        "server -- internet",
    ]
