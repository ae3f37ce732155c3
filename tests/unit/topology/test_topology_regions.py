"""Regions: matrices by name, in the file and in files of their own, and what is wrong with one."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import NodeKind, Plan
from lab.predict.map import Map
from lab.topology.loader import load, loads
from lab.topology.problems import TopologyError

HEAD = "name: r\ninternet:\n"
BODY = """
routers:
  a: {region: north, ip: dual}
  b: {region: south, nat: home, ip: dual}
nodes:
  c: {via: internet, region: north}
  d: {via: a, ip: dual}
  e: {via: b, ip: dual}
"""
MATRIX = "  regions:\n    north: {north: 8ms, south: 80ms}\n    south: {south: 20ms}\n"


def way_us(plan: Plan, start: str, end: str) -> int:
    """The one-way delay from node to node, by the routes of the plan."""
    target = next(
        a.partition("/")[0] for a in plan.node(end).interfaces[0].addresses if ":" not in a
    )
    delays = {}
    for link in plan.links:
        delays[link.a.node, link.b.node] = link.a_to_b.delay_us
        delays[link.b.node, link.a.node] = link.b_to_a.delay_us
    where, total, way = start, 0, Map(plan)
    while where != end:
        hop = way.next_hop(where, target)
        assert hop is not None
        total += delays[where, hop[0]]
        where = hop[0]
    return total


@given(st.lists(st.integers(0, 40_000), min_size=3, max_size=3), st.integers(0, 200_000))
def test_the_way_between_two_attachments_takes_half_of_the_round_trip(within, more):
    names = ("x", "y", "z")
    rtt = {
        (a, b): within[i] if i == j else (within[i] + within[j]) // 2 + more + i + j + 1
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i <= j
    }
    rows = {a: {b: f"{rtt[a, b]}us" for b in names if (a, b) in rtt} for a in names}
    nodes = {f"{a}{i}": {"via": "internet", "region": a} for a in names for i in (1, 2)}
    text = json.dumps({"name": "r", "internet": {"regions": rows}, "nodes": nodes})
    plan = compile_topology(loads(text, "r.yaml"), Machine(netem=False))
    for one, other in combinations(nodes, 2):
        a, b = sorted((one[0], other[0]))
        assert abs(way_us(plan, one, other) - rtt[a, b] / 2) <= 1.5
        assert way_us(plan, one, other) == way_us(plan, other, one)


def test_a_region_is_a_core_joined_to_every_other():
    plan = compile_topology(loads(HEAD + MATRIX + BODY, "r.yaml"), Machine(netem=False))
    cores = [node for node in plan.nodes if node.kind is NodeKind.INTERNET]
    assert [core.name for core in cores] == ["internet.north", "internet.south"]
    assert way_us(plan, "c", "b") == 40_000
    assert way_us(plan, "d", "c") == 4_000
    routed = {route.destination for route in cores[1].routes if route.gateway.startswith("198.18")}
    assert len(routed) == 3, "two attachments of the north, and what is behind one"
    assert any(route.gateway.startswith("2001:2:") for route in cores[1].routes)


def test_a_region_more_changes_no_address():
    plan = compile_topology(loads(HEAD + MATRIX + BODY, "r.yaml"), Machine(netem=False))
    more = MATRIX.replace("south: 80ms}", "south: 80ms, east: 30ms}").replace(
        "south: {south: 20ms}", "south: {south: 20ms, east: 30ms}\n    east: {east: 2ms}"
    )
    text = HEAD + more + BODY + "  f: {via: internet, region: east}\n"
    after = compile_topology(loads(text, "r.yaml"), Machine(netem=False), previous=plan)
    for node in plan.nodes:
        if node.kind is not NodeKind.INTERNET:
            assert after.node(node.name).interfaces == node.interfaces
        else:
            assert set(node.interfaces) <= set(after.node(node.name).interfaces)


def test_matrices_in_files(tmp_path):
    (tmp_path / "m.csv").write_text("# ms\nfrom,north,south\nnorth,8,80\nsouth,80,20ms\n")
    (tmp_path / "m.yaml").write_text("north: {north: 8ms, south: 80ms}\nsouth: {south: 20ms}\n")
    inline = loads(HEAD + MATRIX + BODY, "r.yaml").internet.regions
    assert inline is not None
    for name in ("m.csv", "./m.yaml"):
        file = tmp_path / "r.yaml"
        file.write_text(f"{HEAD}  regions: {name}\n{BODY}")
        found = load(str(file)).internet.regions
        assert found is not None
        assert (found.names, found.rtt_us) == (inline.names, inline.rtt_us)
        assert found.source.endswith(name.removeprefix("./"))


def test_the_shipped_matrix_names_its_source():
    text = "internet: {regions: world}\nnodes: {a: {via: internet, region: tokyo}}\n"
    found = loads(text, "r.yaml").internet.regions
    assert found is not None
    assert "IBM Cloud" in found.source
    assert len(found.names) == 10


@pytest.mark.parametrize(
    ("matrix", "line", "said", "remedy"),
    [
        ("  regions: wurld\n", 3, "no matrix 'wurld'", "'world'"),
        ("  regions: ./no.csv\n", 3, "no file", "file"),
        ("  regions: 7\n", 3, "is no matrix", "name a matrix"),
        ("  regions:\n    north: {north: 8ms, south: -1ms}\n    south: {south: 1ms}\n", 4,
         "negative", "80ms"),
        ("  regions:\n    north: {north: 8ms, south: 9ms}\n    south: {south: 1ms, north: 10ms}\n",
         4, "9 ms from the one and 10 ms", "write it once"),
        ("  regions:\n    north: {north: 8ms}\n    south: {south: 1ms}\n", 4,
         "no round trip between north and south", "north: {south: 20ms}"),
        ("  regions:\n    north: {south: 80ms}\n    south: {south: 1ms}\n", 4,
         "no round trip within north", "north: {north: 20ms}"),
        ("  regions:\n    north: {north: 8ms, sout: 80ms}\n    south: {south: 1ms}\n", 4,
         "no row of its own", "'south'"),
        ("  regions:\n    north: {north: 80ms, south: 10ms}\n    south: {south: 1ms}\n", 4,
         "less than what is within them", "40.5ms"),
        ("  regions:\n    north: {north: 8ms, south: soon}\n    south: {south: 1ms}\n", 4,
         "not a duration", "20ms"),
        (MATRIX + "  delay: 5ms\n", 6, "a delay, and regions", "leave delay out"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_matrix(matrix, line, said, remedy):
    with pytest.raises(TopologyError) as caught:
        loads(HEAD + matrix + BODY, "r.yaml")
    problem = next(p for p in caught.value.problems if said in p.message)
    assert problem.line == line
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("old", "new", "said", "remedy"),
    [
        ("c: {via: internet, region: north}", "c: {via: internet}", "c is in no region", "north"),
        ("region: north, ip", "region: nord, ip", "in 'nord', which is no region", "'north'"),
        ("d: {via: a,", "d: {via: a, region: north,", "not attached to one", "where a is"),
    ],
)
def test_who_is_in_no_region(old, new, said, remedy):
    with pytest.raises(TopologyError) as caught:
        loads(HEAD + MATRIX + BODY.replace(old, new), "r.yaml")
    problem = next(p for p in caught.value.problems if said in p.message)
    assert remedy in problem.remedy


def test_a_region_needs_regions():
    with pytest.raises(TopologyError, match="not attached to one"):
        loads("nodes: {a: {via: internet, region: north}}\n", "r.yaml")


def test_a_wrong_line_of_a_file_is_named(tmp_path):
    (tmp_path / "m.csv").write_text("from,north,south\nnorth,8,80\nsouth,81,20\n")
    file = tmp_path / "r.yaml"
    file.write_text(f"{HEAD}  regions: m.csv\n{BODY}")
    with pytest.raises(TopologyError, match=r"m\.csv:2: the round trip between north and south"):
        load(str(file))
