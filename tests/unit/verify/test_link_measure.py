"""Links as they are measured: what each is called, and which can't be."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from simulated_links import link_of

from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.character import Impairment
from lab.topology.datafiles import find
from lab.topology.loader import loads
from lab.verify.links.measure import measure, title

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


def test_a_trace_that_changed_is_said_of_the_links_that_have_it_and_of_no_other(tmp_path: Path):
    (tmp_path / "uneven.trace").write_text("1\n5\n9\n")
    file, _ = find("uneven.trace", tmp_path)
    traced = link_of(Impairment(trace=file))
    other = link_of(Impairment(delay_us=1000))
    links = [traced, replace(other, a=replace(other.a, node="carol"))]
    (tmp_path / "uneven.trace").write_text("1\n5\n8\n")
    found, unmeasured = measure(links, LabPaths(tmp_path / "no-such-lab"))
    assert not found
    reasons = dict(unmeasured)
    assert "uneven.trace has changed" in reasons["a -- b"]
    assert "namespace" in reasons["carol -- b"]
