"""A topology becomes the right plan."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from plan_support import (
    CGNAT,
    DSL,
    HOME,
    NETEM,
    NO_NETEM,
    WIFI,
    double_nat,
    dry_run,
    golden,
    homes,
    internet,
    machines,
    services,
    topologies,
)

from lab.errors import InputError, MissingError
from lab.paths import data_dir
from lab.plan.compile import compile_topology
from lab.plan.describe import summary
from lab.plan.machine import Machine
from lab.plan.model import Link, Node, NodeKind, Plan, decode, encode
from lab.topology.behaviour import Mount, Runtime
from lab.topology.character import Backend, Impairment
from lab.topology.loader import load
from lab.topology.model import LinkSpec, NodeSpec, RouterSpec, Topology, WantedBackend

replace = msgspec.structs.replace


def compiled(*specs: RouterSpec | NodeSpec, machine: Machine = NETEM, **more) -> Plan:
    topology = Topology(
        name="t",
        routers=tuple(spec for spec in specs if isinstance(spec, RouterSpec)),
        nodes=tuple(spec for spec in specs if isinstance(spec, NodeSpec)),
    )
    return compile_topology(topology, machine, **more)


def addresses(plan: Plan, node: str) -> dict[str, tuple[str, ...]]:
    return {each.name: each.addresses for each in plan.node(node).interfaces}


def env(plan: Plan, node: str) -> dict[str, str]:
    program = plan.node(node).program
    assert program is not None
    return dict(program.env)


# --- golden ---------------------------------------------------------------


def test_double_nat_as_json():
    plan = compile_topology(double_nat(), NETEM)
    golden("double-nat.json", msgspec.json.format(encode(plan)).decode() + "\n")


def test_double_nat_dry_run():
    plan = compile_topology(double_nat(), NO_NETEM)
    golden("double-nat.txt", "".join(f"{note}\n" for note in plan.notes) + dry_run(None, plan))


def test_shipped_topologies():
    files = sorted(data_dir("topologies").glob("*.yaml"))
    assert files
    for file in files:
        plan = compile_topology(load(str(file)), NETEM)
        golden(f"shipped/{file.stem}.txt", f"{summary(plan)}\n\n{dry_run(None, plan)}")


# --- determinism ----------------------------------------------------------


def test_hash_seeds_change_nothing():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from plan_support import *;"
        "from lab.plan.compile import compile_topology; from lab.plan.model import encode;"
        "from lab.observe.graph import mermaid, svg;"
        "running = compile_topology(homes(12), NO_NETEM);"
        "plan = compile_topology(double_nat(), NO_NETEM, previous=running);"
        "out = encode(plan).decode() + dry_run(running, plan) + svg(running) + mermaid(plan);"
        "print(out)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            cwd=Path(__file__).parents[3],
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


@given(topologies(), machines)
def test_equal_arguments_give_equal_bytes(topology, machine):
    plan = compile_topology(topology, machine)
    assert encode(plan) == encode(compile_topology(topology, machine))
    assert decode(encode(plan)) == plan


@given(topologies(), topologies(), machines)
def test_what_runs_already_is_left_as_it_is(topology, other, machine):
    first = compile_topology(topology, machine)
    second = compile_topology(topology, machine, previous=first)
    assert second == first
    changed = compile_topology(other, machine, previous=second)
    assert compile_topology(other, machine, previous=changed) == changed


@given(topologies(), machines)
def test_a_newcomer_changes_no_address(topology, machine):
    before = compile_topology(topology, machine)
    home = RouterSpec(name="new-home", nat=HOME)
    host = NodeSpec(name="new-host", via="new-home", peer=True)
    grown = replace(topology, routers=(home, *topology.routers), nodes=(host, *topology.nodes))
    after = compile_topology(grown, machine, previous=before)
    for node in before.nodes:
        assert set(node.interfaces) <= set(after.node(node.name).interfaces)
    macs = {(end.node, end.interface): end.mac for link in after.links for end in (link.a, link.b)}
    for link in before.links:
        for end in (link.a, link.b):
            assert macs[end.node, end.interface] == end.mac


# --- soundness ------------------------------------------------------------


def neighbour(plan: Plan, node: str, interface: str, gateway: str) -> str:
    """Who has the address `gateway` on the wire or segment behind an interface."""
    ends = {}
    for link in plan.links:
        ends[link.a.node, link.a.interface] = link.b
        ends[link.b.node, link.b.interface] = link.a
    far = ends[node, interface]
    wire = [far]
    if plan.node(far.node).kind is NodeKind.SEGMENT:
        wire = [ends[far.node, port.name] for port in plan.node(far.node).interfaces]
    for end in wire:
        for address in addresses(plan, end.node)[end.interface]:
            if address.split("/")[0] == gateway:
                return end.node
    raise AssertionError(f"nobody has {gateway} behind {node}.{interface}")


def walk(plan: Plan, node: str, destination: str, hops: int = 20) -> str:
    """Where a packet from `node` to `destination` ends up."""
    target = ipaddress.ip_address(destination)
    here: Node = plan.node(node)
    for _ in range(hops):
        interfaces = [
            (each.name, ipaddress.ip_interface(address))
            for each in here.interfaces
            for address in each.addresses
        ]
        if any(address.ip == target for _, address in interfaces):
            return here.name
        routes = [(address.network, name, destination) for name, address in interfaces]
        routes += [
            (ipaddress.ip_network(route.destination), route.interface, route.gateway)
            for route in here.routes
        ]
        matching = [route for route in routes if target in route[0]]
        assert matching, f"{here.name} has no route to {destination}"
        _, interface, gateway = max(matching, key=lambda route: route[0].prefixlen)
        here = plan.node(neighbour(plan, here.name, interface, gateway))
    raise AssertionError("it goes round in circles")


@settings(deadline=None)
@given(topologies(), machines)
def test_packets_arrive(topology, machine):
    """Everyone reaches what is on the internet, and the internet what is routed to it."""
    plan = compile_topology(topology, machine)
    public = [node.name for node in topology.nodes if node.via == "internet"]
    for node in topology.nodes:
        for name in public:
            for address in addresses(plan, name)["eth0"]:
                assert walk(plan, node.name, address.split("/")[0]) == name
    routers = {router.name: router for router in topology.routers}

    def routed(via: str) -> bool:
        return via == "internet" or (routers[via].nat is None and routed(routers[via].via))

    for node in topology.nodes:
        if routed(node.via):
            for address in addresses(plan, node.name)["eth0"]:
                assert ipaddress.ip_interface(address).is_global
                for name in public:
                    assert walk(plan, name, address.split("/")[0]) == node.name


@given(topologies(), topologies(), machines)
def test_plans_are_sound(topology, other, machine):
    former = compile_topology(other, machine)
    plan = compile_topology(topology, machine, previous=former)
    on_taps = {(link.a, link.b) for link in former.links if not link.on_veth}
    ends = [end for link in plan.links for end in (link.a, link.b)]
    assert len({end.mac for end in ends}) == len(ends)
    assert len({link.name for link in plan.links}) == len(plan.links)
    interfaces = {(node.name, each.name) for node in plan.nodes for each in node.interfaces}
    assert {(end.node, end.interface) for end in ends} == interfaces
    assert len(ends) == len(interfaces)
    assert all(0 < len(name) <= 15 for _, name in interfaces)
    assert len({node.name for node in plan.nodes}) == len(plan.nodes)
    for link in plan.links:
        unimpaired = link.a_to_b.none and link.b_to_a.none
        assert (link.backend is Backend.PLAIN) == (
            unimpaired and ((link.a, link.b) not in on_taps or _demands_kernel(link))
        )
    for node in plan.nodes:
        networks = [
            ipaddress.ip_interface(each.addresses[0]).network
            for each in node.interfaces
            if each.addresses
        ]
        for index, network in enumerate(networks):
            assert not any(network.overlaps(later) for later in networks[index + 1 :])


def _demands_kernel(link: Link) -> bool:
    return link.spec.backend is WantedBackend.KERNEL


def test_five_hundred_homes():
    plan = compile_topology(homes(500), NETEM)
    assert len(plan.nodes) == 1003
    lans = [addresses(plan, f"home-{n}")["lan"][0] for n in (1, 255, 256, 500)]
    assert lans == ["192.168.1.1/24", "192.168.255.1/24", "10.0.0.1/24", "10.0.244.1/24"]


# --- addresses ------------------------------------------------------------


def test_one_member_is_wired_directly_and_more_share_a_segment():
    router = RouterSpec(name="home", nat=HOME)
    alice, bob = NodeSpec(name="alice", via="home", link=WIFI), NodeSpec(name="bob", via="home")
    one = compiled(router, alice)
    assert [link.name for link in one.links] == ["home.wan--internet.home", "alice.eth0--home.lan"]
    two = compiled(router, alice, bob)
    assert [link.name for link in two.links] == [
        "home.wan--internet.home",
        "home.lan--home.lan.home",
        "alice.eth0--home.lan.alice",
        "bob.eth0--home.lan.bob",
    ]
    assert two.node("home.lan").kind is NodeKind.SEGMENT
    assert two.node("home").subscribers == ("192.168.1.2", "192.168.1.3")
    # Bob leaves: alice's wire is not touched.
    again = compiled(router, alice, previous=two)
    assert again.node("home.lan").kind is NodeKind.SEGMENT


def test_a_router_without_members_has_its_lan_side_all_the_same():
    plan = compiled(RouterSpec(name="home", nat=HOME))
    assert addresses(plan, "home") == {"wan": ("45.0.0.2/30",), "lan": ("192.168.1.1/24",)}
    assert [each.name for each in plan.node("home.lan").interfaces] == ["home"]


def test_a_routed_network_is_public_and_known_upstream():
    plan = compiled(
        RouterSpec(name="campus"),
        RouterSpec(name="hall", via="campus"),
        NodeSpec(name="alice", via="hall"),
    )
    assert addresses(plan, "alice") == {"eth0": ("45.128.1.2/24",)}
    assert [(route.destination, route.gateway) for route in plan.node("internet").routes] == [
        ("45.128.0.0/24", "45.0.0.2"),
        ("45.128.1.0/24", "45.0.0.2"),
    ]
    assert [(route.destination, route.gateway) for route in plan.node("campus").routes] == [
        ("0.0.0.0/0", "45.0.0.1"),
        ("45.128.1.0/24", "45.128.0.2"),
    ]


def test_a_nat_serves_the_routed_networks_behind_it():
    plan = compiled(
        RouterSpec(name="office", nat=HOME),
        RouterSpec(name="floor", via="office"),
        NodeSpec(name="alice", via="floor"),
        NodeSpec(name="bob", via="office"),
    )
    assert plan.node("office").subscribers == ("192.168.1.2", "192.168.1.3", "192.168.2.2")
    assert plan.node("floor").subscribers == ()
    assert plan.node("internet").routes == ()


def test_what_is_written_is_respected():
    plan = compiled(
        RouterSpec(name="home", nat=HOME, lan="192.168.178.0/24", address="45.9.9.9"),
        NodeSpec(name="alice", via="home", address="192.168.178.20"),
        NodeSpec(name="bob", via="home"),
        NodeSpec(name="stun", via="internet", services=("stun",), address="46.1.2.3"),
        RouterSpec(name="other", nat=HOME),
        NodeSpec(name="carol", via="other", address="10.7.7.7"),
    )
    assert addresses(plan, "home") == {"wan": ("45.9.9.9/30",), "lan": ("192.168.178.1/24",)}
    assert addresses(plan, "alice") == {"eth0": ("192.168.178.20/24",)}
    assert addresses(plan, "bob") == {"eth0": ("192.168.178.2/24",)}
    assert addresses(plan, "stun") == {"eth0": ("46.1.2.3/29", "46.1.2.2/29")}
    assert addresses(plan, "other")["lan"] == ("10.7.7.1/24",)


def test_two_homes_may_use_the_same_prefix():
    plan = compiled(
        RouterSpec(name="a", nat=HOME, lan="192.168.1.0/24"),
        RouterSpec(name="b", nat=HOME, lan="192.168.1.0/24"),
        RouterSpec(name="c", nat=HOME),
    )
    assert addresses(plan, "c")["lan"] == ("192.168.2.1/24",)


def test_a_changed_nat_renumbers_nothing():
    home, alice = RouterSpec(name="home", nat=HOME), NodeSpec(name="alice", via="home")
    before = compiled(home, alice)
    after = compiled(replace(home, nat=CGNAT), alice, previous=before)
    assert addresses(after, "home") == addresses(before, "home")


def test_what_is_kept_gives_way_to_what_is_written_where_they_meet():
    carrier, other = RouterSpec(name="carrier", nat=CGNAT), RouterSpec(name="other", nat=HOME)
    home = RouterSpec(name="home", via="carrier", nat=HOME)
    before = compiled(carrier, home, other)
    assert addresses(before, "carrier")["lan"] == ("100.64.0.1/24",)
    assert addresses(before, "other")["lan"] == ("192.168.1.1/24",)
    # On the other side of one's own NAT it may not be the same; behind somebody else's it may.
    after = compiled(carrier, replace(home, lan="100.64.0.0/25"), other, previous=before)
    assert addresses(after, "carrier")["lan"] == ("100.64.1.1/24",)
    after = compiled(carrier, replace(home, lan="192.168.1.0/24"), other, previous=before)
    assert addresses(after, "carrier") == addresses(before, "carrier")
    assert addresses(after, "other") == addresses(before, "other")


def test_a_newcomer_does_not_inherit_the_address_of_one_that_leaves():
    home = RouterSpec(name="home", nat=HOME)
    alice, bob = NodeSpec(name="alice", via="home"), NodeSpec(name="bob", via="home")
    carol = NodeSpec(name="carol", via="home")
    before = compiled(home, alice, bob)
    after = compiled(home, bob, carol, previous=before)
    assert addresses(after, "bob")["eth0"] == ("192.168.1.3/24",)
    assert addresses(after, "carol")["eth0"] == ("192.168.1.4/24",)


def test_long_names_make_short_interfaces():
    names = ["subscriber-home-0001", "subscriber-home-0002", "default", "lo", "fifteen-letters"]
    plan = compiled(*(NodeSpec(name=name, via="internet") for name in names))
    ports = [each.name for each in plan.node("internet").interfaces]
    assert len(set(ports)) == 5
    assert all(len(port) <= 15 for port in ports)
    assert ports[0].startswith("subsc-")
    assert ports[0].endswith("-0001")
    assert ports[4] == "fifteen-letters"
    assert not {"default", "lo"} & set(ports)


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        (
            [RouterSpec(name="home", nat=HOME, lan="192.168.1.1/24", where="x.yaml:3")],
            (
                "x.yaml:3: home has the LAN 192.168.1.1/24, which is not an IPv4 prefix\n"
                "  Write the first address and the length, such as 192.168.1.0/24."
            ),
        ),
        (
            [
                RouterSpec(name="home", nat=HOME, lan="192.168.1.0/30", where="x.yaml:3"),
                NodeSpec(name="a", via="home"),
                NodeSpec(name="b", via="home"),
            ],
            (
                "x.yaml:3: the LAN of home is 192.168.1.0/30, too small for the router and what is "
                "attached to it\n  Make it a /29 or larger."
            ),
        ),
        (
            [
                RouterSpec(name="carrier", nat=CGNAT, lan="192.168.0.0/16", where="x.yaml:3"),
                RouterSpec(name="home", via="carrier", nat=HOME, lan="192.168.1.0/24", where="x:4"),
            ],
            (
                "x:4: the LAN of home is 192.168.1.0/24, which overlaps 192.168.0.0/16, the LAN of "
                "carrier\n  Choose one that is free, or leave it out to have one assigned."
            ),
        ),
        (
            [
                NodeSpec(name="a", via="internet", address="45.1.0.1", where="x:1"),
                NodeSpec(name="b", via="internet", address="45.1.0.2", where="x:2"),
            ],
            (
                "x:2: the subnet between b and the internet is 45.1.0.0/30, which overlaps "
                "45.1.0.0/30, the subnet between a and the internet\n"
                "  Choose one that is free, or leave it out to have one assigned."
            ),
        ),
        (
            [
                RouterSpec(name="home", nat=HOME, lan="192.168.1.0/24"),
                NodeSpec(name="a", via="home", address="192.168.2.7", where="x:2"),
            ],
            (
                "x:2: a has the address 192.168.2.7, but the LAN of home is 192.168.1.0/24\n"
                "  Choose one between 192.168.1.1 and 192.168.1.254, or leave it out to have one "
                "assigned."
            ),
        ),
        (
            [
                RouterSpec(name="home", nat=HOME),
                NodeSpec(name="a", via="home", address="192.168.2.7", where="x:2"),
                NodeSpec(name="b", via="home", address="192.168.2.7", where="x:3"),
            ],
            (
                "x:3: b has the address 192.168.2.7, and so has a\n"
                "  Choose another one, or leave it out to have one assigned."
            ),
        ),
        (
            [NodeSpec(name="a", via="internet", address="45.1.0.256", where="x:1")],
            (
                "x:1: a has the address 45.1.0.256, which no host can have in IPv4\n"
                "  Write four numbers, such as 45.0.0.2."
            ),
        ),
        (
            [
                RouterSpec(name="a", via="b", where="x:1"),
                RouterSpec(name="b", via="a", where="x:2"),
            ],
            (
                "x:1: routers in a circle: a, b\n"
                "  Attach one of them to the internet: `via: internet`."
            ),
        ),
        (
            [NodeSpec(name="a", via="nowhere", where="x:1")],
            (
                "x:1: a is attached to nowhere, which is not a router or switch\n"
                "  `via` names a router or switch of this topology, or `internet`."
            ),
        ),
        (
            [NodeSpec(name="a", via="internet"), NodeSpec(name="a", via="internet", where="x:2")],
            (
                "x:2: the name a is used twice\n"
                "  Routers, switches and nodes share one space of names, and `internet` is taken."
            ),
        ),
        (
            [NodeSpec(name="a", via="internet", peer=True, image="i", where="x:1")],
            (
                "x:1: a has both a built-in program (peer) and one of its own\n"
                "  Keep `peer` and `service`, or `image` and `command`."
            ),
        ),
        (
            [NodeSpec(name="a", via="internet", peer=True, env=(("LAB_SEED", "1"),), where="x:1")],
            (
                "x:1: a sets LAB_SEED, but names that begin with LAB_ belong to the contract\n"
                "  Give the variable another name; docs/contract.md lists those there are."
            ),
        ),
    ],
)
def test_what_cannot_be_is_refused(specs, text):
    with pytest.raises(InputError) as caught:
        compiled(*specs)
    assert str(caught.value) == text


def test_exhaustion_is_refused():
    lans = [f"10.{n}.0.0/16" for n in range(256)] + ["192.168.0.0/16"]
    routers = [RouterSpec(name=f"r{index}", nat=HOME, lan=lan) for index, lan in enumerate(lans)]
    with pytest.raises(InputError, match="no prefix is left for the LAN of last"):
        compiled(*routers, RouterSpec(name="last", nat=HOME, where="x:9"))


# --- links ----------------------------------------------------------------


def test_transit_is_added_to_the_access_link():
    topology = Topology(
        name="t",
        internet=internet(10_000),
        nodes=(
            NodeSpec(name="alice", via="internet", link=DSL),
            NodeSpec(name="bob", via="internet"),
        ),
    )
    alice, bob = compile_topology(topology, NETEM).links
    assert alice.a_to_b == Impairment(rate_bit=8_000_000, delay_us=15_000)
    assert alice.b_to_a == Impairment(rate_bit=50_000_000, delay_us=15_000)
    assert alice.a_to_b.delay_us + bob.b_to_a.delay_us == 10_000 + 10_000


@pytest.mark.parametrize(
    ("wanted", "up", "netem", "backend"),
    [
        (WantedBackend.AUTO, Impairment(), True, Backend.PLAIN),
        (WantedBackend.FERRY, Impairment(), True, Backend.PLAIN),
        (WantedBackend.AUTO, Impairment(delay_us=1), True, Backend.KERNEL),
        (WantedBackend.AUTO, Impairment(delay_us=1), False, Backend.FERRY),
        (WantedBackend.AUTO, Impairment(rate_bit=1), False, Backend.KERNEL),
        (WantedBackend.KERNEL, Impairment(rate_bit=1), False, Backend.KERNEL),
        (WantedBackend.FERRY, Impairment(delay_us=1), True, Backend.FERRY),
    ],
)
def test_backends(wanted, up, netem, backend):
    node = NodeSpec(name="a", via="internet", link=LinkSpec(up=up, backend=wanted))
    plan = compiled(node, machine=Machine(netem=netem))
    assert plan.links[0].backend is backend
    assert bool(plan.notes) == (backend is Backend.FERRY and not netem)


def test_netem_demanded_but_missing():
    link = LinkSpec(down=Impairment(loss=0.1), backend=WantedBackend.KERNEL)
    with pytest.raises(MissingError, match="the link of a asks for the kernel backend") as caught:
        compiled(NodeSpec(name="a", via="internet", link=link, where="x:1"), machine=NO_NETEM)
    assert caught.value.where == "x:1"
    assert "lab doctor" in caught.value.remedy


# --- programs -------------------------------------------------------------


def test_the_environment_is_the_contract():
    plan = compile_topology(double_nat(), NETEM, lab="mine")
    assert env(plan, "alice") == {
        "LAB_NAME": "mine",
        "LAB_NODE": "alice",
        "LAB_SEED": "5746180711923229286",
        "LAB_ROLE": "peer",
        "LAB_ADDRESSES": "192.168.1.2",
        "LAB_STUN": "45.0.0.10:3478,45.0.0.11:3479",
        "LAB_RENDEZVOUS": "45.0.0.10:9000",
        "LAB_RELAY": "45.0.0.18:3478",
        "LAB_RELAY_USER": "lab",
        "LAB_RELAY_PASSWORD": "7934fd33033783fc",
    }


def test_absent_services_are_absent_variables():
    plan = compiled(NodeSpec(name="a", via="internet", command=("./a",), env=(("MODE", "x"),)))
    assert env(plan, "a").keys() == {
        "LAB_NAME", "LAB_NODE", "LAB_SEED", "LAB_ROLE", "LAB_ADDRESSES", "MODE",
    }  # fmt: skip
    assert env(plan, "a")["LAB_ROLE"] == ""


def test_relay_beside_stun_has_a_port_of_its_own():
    plan = compiled(NodeSpec(name="s", via="internet", services=("relay", "stun"), peer=True))
    assert env(plan, "s")["LAB_RELAY"] == "45.0.0.2:3480"
    assert env(plan, "s")["LAB_ROLE"] == "stun,relay,peer"
    program = plan.node("s").program
    assert program.stage == 0
    assert program.ready_signal


def test_the_nearest_service_is_used():
    plan = compiled(
        RouterSpec(name="home", nat=HOME),
        *services(),
        NodeSpec(name="inner", via="home", services=("stun",)),
        NodeSpec(name="alice", via="home", peer=True),
        NodeSpec(name="bob", via="internet", peer=True),
    )
    assert env(plan, "alice")["LAB_STUN"].startswith("192.168.1.2:")
    assert env(plan, "bob")["LAB_STUN"].startswith("45.")
    assert env(plan, "inner")["LAB_STUN"].startswith("192.168.1.2:")


def test_runtimes():
    nodes = (
        NodeSpec(name="peer", via="internet", peer=True),
        NodeSpec(name="image", via="internet", image="x", command=("y",), memory_bytes=1),
        NodeSpec(name="command", via="internet", command=("./z",)),
        NodeSpec(name="nothing", via="internet"),
    )
    docker = Machine(
        containers=True,
        runtime=Runtime.DOCKER,
        peer_image="lab-peer:1",
        runtime_reason="it answers",
    )
    plan = compiled(*nodes, machine=docker)
    programs = {node.name: node.program for node in plan.nodes}
    assert (programs["peer"].runtime, programs["peer"].image) == (Runtime.DOCKER, "lab-peer:1")
    assert (programs["image"].runtime, programs["image"].command) == (Runtime.DOCKER, ("y",))
    assert (programs["command"].runtime, programs["command"].image) == (Runtime.PROCESS, "")
    assert programs["nothing"] is None
    assert plan.notes == ("built-in programs run as containers: it answers",)
    assert plan.runtime is Runtime.DOCKER


def test_an_image_needs_an_engine():
    node = NodeSpec(name="a", via="internet", image="example/peer", where="x:1")
    with pytest.raises(MissingError, match="a is the image example/peer") as caught:
        compiled(node, machine=NO_NETEM)
    assert "--runtime" in caught.value.remedy
    assert "no container engine answers" in caught.value.message


def test_limits_that_a_process_does_not_keep_to_are_told():
    mount = (Mount(source="/a", target="/b"),)
    nodes = [
        NodeSpec(name="own", via="internet", command=("x",), memory_bytes=1 << 26, mounts=mount),
        NodeSpec(name="boxed", via="internet", image="x:1", memory_bytes=1 << 26, cpus=1.0),
        *(NodeSpec(name=f"p-{n}", via="internet", peer=True, cpus=0.5) for n in range(5)),
    ]
    own = "`memory` has no effect on own: no control group here limits a process (`lab doctor`)"
    many = "`cpus` has no effect on p-0, p-1, p-2 and 2 more: no control group here limits"
    boxes = Machine(containers=True, runtime=Runtime.DOCKER, peer_image="lab-peer:1")
    assert own in compiled(*nodes, machine=boxes).notes
    assert len(compiled(*nodes, machine=boxes).notes) == 2
    processes = Machine(containers=True, runtime=Runtime.PROCESS)
    assert any(note.startswith(many) for note in compiled(*nodes, machine=processes).notes)
    limiting = Machine(runtime=Runtime.PROCESS, containers=True, limits=("memory", "cpus"))
    assert not any("has no effect" in note for note in compiled(*nodes, machine=limiting).notes)
