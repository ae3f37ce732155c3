"""Drawings are complete, well formed and readable."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
from hypothesis import given, settings
from plan_support import NETEM, NO_NETEM, double_nat, golden, homes, machines, topologies

from lab.observe.graph import mermaid, svg
from lab.observe.graph.layout import layout
from lab.observe.graph.outline import Look, outline, walk
from lab.plan.compile import compile_topology
from lab.plan.model import NodeKind, Plan
from lab.topology.model import NodeSpec, Topology

replace = msgspec.structs.replace
SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    root = ET.fromstring(drawing)  # noqa: S314 - our own text
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_double_nat_as_mermaid():
    golden("double-nat.mmd", mermaid(compile_topology(double_nat(), NO_NETEM)))


def test_double_nat_as_svg():
    drawn = svg(compile_topology(double_nat(), NO_NETEM))
    golden("double-nat.svg", drawn)
    words = texts(drawn)
    for word in (
        "internet",
        "carrier-a",
        "home-b",
        "alice",
        "bob",
        "stun + rendezvous",
        "firewall",
    ):
        assert word in words
    assert "out only tcp/80, tcp/443, udp/53" in words
    assert "192.168.1.2" in words
    assert "dashed links are carried in user space" in words


def test_a_picture_needs_nothing_from_outside():
    drawn = svg(compile_topology(double_nat(), NETEM))
    assert "href" not in drawn
    assert "url(" not in drawn
    assert "<script" not in drawn


def test_whatever_is_written_is_escaped():
    hostile = 'x<&">]'
    topology = Topology(
        name=hostile,
        description=hostile,
        nodes=(NodeSpec(name="a", via="internet", command=(hostile,)),),
    )
    plan = compile_topology(topology, NETEM)
    assert hostile in texts(svg(plan))
    assert '"x&lt;&amp;&quot;' not in svg(plan)
    assert hostile not in mermaid(plan)


def test_an_empty_plan_is_drawn_too():
    plan = Plan(lab="nothing", nodes=(), links=())
    assert texts(svg(plan)) == ["nothing"]
    assert mermaid(plan) == "flowchart TD\n"


def test_many_alike_are_one_box():
    plan = compile_topology(homes(500), NETEM)
    boxes = list(walk(outline(plan)))
    assert [(box.title, box.count) for box in boxes] == [
        ("internet", 1),
        ("home-1 … home-500", 500),
        ("host-1 … host-500", 500),
        ("stun", 1),
        ("relay", 1),
    ]
    assert len(svg(plan)) < 10_000
    assert "\N{MULTIPLICATION SIGN} 500" in texts(svg(plan))


@settings(deadline=None)
@given(topologies(), machines)
def test_every_node_is_drawn_once(topology, machine):
    plan = compile_topology(topology, machine)
    drawn = [box.node for box in walk(outline(plan))]
    wanted = [node.name for node in plan.nodes if node.kind is not NodeKind.SEGMENT]
    assert sorted(drawn) == sorted(wanted)
    texts(svg(plan))


@settings(deadline=None)
@given(topologies(), machines)
def test_boxes_do_not_overlap(topology, machine):
    plan = compile_topology(topology, machine)
    boxes = [one for root in layout(outline(plan), 0, 0) for one in root.walk()]
    for index, one in enumerate(boxes):
        assert one.x - one.width / 2 >= -0.01
        for other in boxes[index + 1 :]:
            apart = abs(one.x - other.x) >= (one.width + other.width) / 2 - 0.01
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y


def test_kinds_of_boxes():
    looks = {box.node: box.look for box in walk(outline(compile_topology(double_nat(), NETEM)))}
    assert looks["internet"] is Look.INTERNET
    assert looks["home-a"] is Look.ROUTER
    assert looks["stun"] is Look.SERVICE
    assert looks["alice"] is Look.PEER
