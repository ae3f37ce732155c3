from lab.fabric.configure import Neighbour
from lab.fabric.wires import Wires
from lab.plan.model import End, Interface, Link, Node, NodeKind


def node(name: str, *addresses: str) -> Node:
    ports = (Interface(name="eth0", addresses=addresses),)
    return Node(name=name, kind=NodeKind.HOST, interfaces=ports)


ALICE, BOB = node("alice", "10.0.0.1/24"), node("bob", "10.0.0.2/24", "10.0.0.3/24")
WIRE = Link(
    a=End(node="alice", interface="eth0", mac="02:00:00:00:00:0a"),
    b=End(node="bob", interface="eth0", mac="02:00:00:00:00:0b"),
)


def test_the_ends_of_a_wire_know_each_other():
    wires = Wires()
    wires.joined([WIRE])
    wires.addressed([ALICE, BOB])
    assert wires.neighbours(BOB) == [Neighbour("eth0", "10.0.0.1/24", WIRE.a.mac)]
    assert wires.neighbours(ALICE) == [
        Neighbour("eth0", "10.0.0.2/24", WIRE.b.mac),
        Neighbour("eth0", "10.0.0.3/24", WIRE.b.mac),
    ]


def test_what_is_not_known_is_left_to_arp():
    wires = Wires()
    assert wires.neighbours(ALICE) == []
    wires.joined([WIRE])
    assert wires.neighbours(ALICE) == []


def test_a_port_of_a_segment_has_no_address_and_is_no_neighbour():
    wires = Wires()
    wires.joined([WIRE])
    wires.addressed([ALICE, node("bob")])
    assert wires.neighbours(ALICE) == []


def test_an_address_that_changed_is_known_by_its_new_value():
    wires = Wires()
    wires.joined([WIRE])
    wires.addressed([ALICE, BOB])
    wires.addressed([node("alice", "10.0.0.9/24")])
    assert [it.address for it in wires.neighbours(BOB)] == ["10.0.0.9/24"]
