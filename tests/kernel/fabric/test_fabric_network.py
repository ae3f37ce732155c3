from __future__ import annotations

import json
import socket
import subprocess
import threading

import pytest
from fabric_support import DEFAULT, host, pair, router, segment, small, wire

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.journal import NETNS, read
from lab.fabric.links.ferry import Ferry
from lab.fabric.network import Network
from lab.paths import NETNS_DIR
from lab.plan.model import Interface, Node, NodeKind, Program, Route
from lab.plan.operations import (
    ConfigureNode,
    CreateLink,
    CreateNode,
    DeleteLink,
    DeleteNode,
    ResetNode,
    ShapeLink,
    StartProgram,
    phase,
)
from lab.topology.behaviour import Nat, Runtime
from lab.topology.character import Backend, Impairment

pytestmark = pytest.mark.kernel

RTMGRP_LINK = 1


def root_devices() -> list[dict]:
    done = subprocess.run(("ip", "-j", "link"), capture_output=True, check=True)
    return [(link["ifindex"], link["ifname"]) for link in json.loads(done.stdout)]


# --- what exists ------------------------------------------------------------


def test_two_hosts_on_a_wire(bench):
    bench.apply(*pair())
    assert bench.reaches("alice", "10.0.0.2")
    assert bench.addresses("bob", "eth0") == ["10.0.0.2/24"]


def test_a_link_has_its_mtu_and_mac_addresses_at_both_ends(bench):
    nodes, _ = pair()
    link = wire("alice.eth0", "bob.eth0", mtu=1280)
    bench.apply(nodes, [link])
    for end in (link.a, link.b):
        found = bench.link(end.node, end.interface)
        assert (found["mtu"], found["address"]) == (1280, end.mac)
        assert {"UP", "LOWER_UP"} <= set(found["flags"])
        assert (found["num_tx_queues"], found["num_rx_queues"]) == (1, 1)


def test_every_kind_of_node_does_its_work(bench):
    bench.apply(*small())
    assert bench.reaches("alice", "46.0.0.11")
    assert bench.reaches("one", "192.168.1.2")
    assert bench.reaches("one", "46.0.0.12")


def test_a_segment_forwards_from_the_first_packet(bench):
    names = [f"n{i}" for i in range(5)]
    nodes = [host(name, f"10.0.0.{i}/24") for i, name in enumerate(names, start=1)]
    bench.apply(
        [*nodes, segment("lan", *names)], [wire(f"{name}.eth0", f"lan.{name}") for name in names]
    )
    # From the kernel's own account: what a ping finds depends on how busy the machine is.
    ports = [bench.link("lan", name)["linkinfo"]["info_slave_data"] for name in names]
    assert [port["state"] for port in ports] == ["forwarding"] * 5
    assert all(bench.reaches("n0", f"10.0.0.{i}") for i in range(2, 6))
    state = bench.link("lan", "br0")["linkinfo"]["info_data"]
    assert (state["forward_delay"], state["stp_state"], state["mcast_snooping"]) == (0, 0, 0)


def test_the_root_namespace_never_sees_a_device(bench):
    before = root_devices()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as watch:
        watch.bind((0, RTMGRP_LINK))
        watch.setblocking(False)
        odd = wire("alice.a-odd-name", "bob.b-odd-name")
        ends = [
            Node(name=end.node, kind=NodeKind.HOST, interfaces=(Interface(name=end.interface),))
            for end in (odd.a, odd.b)
        ]
        bench.apply(ends, [odd])
        bench.carry_out(DeleteLink(link=odd))
        seen = b""
        while True:
            try:
                seen += watch.recv(1 << 16)
            except BlockingIOError:
                break
    assert b"odd-name" not in seen
    assert root_devices() == before


def test_labs_with_the_same_names_do_not_meet(new_bench):
    first, second = new_bench(), new_bench()
    first.apply(*pair())
    second.apply(*pair())
    first.carry_out(DeleteLink(link=wire("alice.eth0", "bob.eth0")))
    assert not first.reaches("alice", "10.0.0.2")
    assert second.reaches("alice", "10.0.0.2")


def test_two_networks_in_two_threads(new_bench):
    benches = [new_bench() for _ in range(2)]
    failures: list[BaseException] = []

    def work(bench) -> None:
        try:
            for _ in range(3):
                bench.apply(*small())
                assert bench.reaches("alice", "46.0.0.12")
                bench.apply([], [])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [bench.namespaces() for bench in benches] == [set(), set()]


def test_interfaces_are_silent_and_hosts_do_not_forward(bench):
    bench.apply(*small())
    assert bench.setting("alice", "ipv4/ip_forward") == "0"
    assert bench.setting("home", "ipv4/ip_forward") == "1"
    assert bench.setting("home", "ipv4/conf/wan/rp_filter") == "0"
    assert bench.setting("home", "ipv4/conf/wan/send_redirects") == "0"
    assert bench.setting("alice", "ipv4/ip_unprivileged_port_start") == "0"
    for node, port in (("alice", "eth0"), ("home", "wan"), ("rack", "up"), ("rack", "br0")):
        assert not any(":" in address for address in bench.addresses(node, port))
    assert bench.addresses("alice", "lo") == ["127.0.0.1/8", "::1/128"]


def test_the_ends_of_a_wire_know_each_other_and_a_segment_asks(bench):
    bench.apply(*small())

    def permanent(node: str) -> set[str]:
        found = bench.json(node, "ip", "-j", "neigh", "show", "nud", "permanent")
        return {entry["dst"] for entry in found}

    assert permanent("home") == {"45.0.0.1", "192.168.1.2"}
    assert permanent("alice") == {"192.168.1.1"}
    assert permanent("internet") == {"45.0.0.2"}
    assert permanent("one") == set()


def test_ipv6_addresses_in_the_plan_work_at_once(bench):
    nodes = [
        Node(
            name=name,
            kind=NodeKind.HOST,
            interfaces=(Interface(name="eth0", addresses=(f"2001:db8::{i}/64",)),),
        )
        for i, name in enumerate(("alice", "bob"), start=1)
    ]
    bench.apply(nodes, [wire("alice.eth0", "bob.eth0")])
    assert bench.reaches("alice", "2001:db8::2")


def test_a_ferried_link_is_carried(bench):
    nodes, _ = pair()
    with Ferry.start(bench.paths, seed=1) as ferry:
        network = Network(bench.paths, bench.journal, ferry)
        bench.network.close()
        bench.network = network
        slow = Impairment(delay_us=5000)
        link = wire("alice.eth0", "bob.eth0", backend=Backend.FERRY, a_to_b=slow, mtu=1400)
        bench.apply(nodes, [link])
        assert bench.reaches("alice", "10.0.0.2")
        found = bench.link("alice", "eth0")
        assert (found["mtu"], found["address"]) == (1400, link.a.mac)
        bench.carry_out(ShapeLink(link=link))
        bench.carry_out(DeleteLink(link=link))
        assert "eth0" not in bench.run("alice", "ip", "link")


def test_a_ferried_link_without_a_ferry_is_refused(bench):
    nodes, _ = pair()
    with pytest.raises(LabError, match="needs the user-space ferry"):
        bench.apply(nodes, [wire("alice.eth0", "bob.eth0", backend=Backend.FERRY)])


def test_a_shaped_link_has_its_rate_in_each_direction(bench):
    nodes, _ = pair()
    link = wire(
        "alice.eth0",
        "bob.eth0",
        backend=Backend.KERNEL,
        a_to_b=Impairment(rate_bit=1_000_000),
        b_to_a=Impairment(rate_bit=8_000_000),
    )
    bench.apply(nodes, [link])
    rates = {
        end.node: bench.run(end.node, "tc", "class", "show", "dev", end.interface)
        + bench.run(end.node, "tc", "qdisc", "show", "dev", end.interface)
        for end in (link.a, link.b)
    }
    assert "rate 1Mbit" in rates["alice"]
    assert "rate 8Mbit" in rates["bob"]
    assert bench.reaches("alice", "10.0.0.2")


def test_the_namespace_of_a_process_becomes_a_node(bench):
    node = host("alice", "10.0.0.1/24")
    script = ("unshare", "--net", "sh", "-c", "echo ready; exec cat")
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        bench.network.adopt_node(node, process.pid)
        assert bench.setting("alice", "ipv4/ip_unprivileged_port_start") == "0"
        bob = host("bob", "10.0.0.2/24")
        bench.carry_out(CreateNode(node=bob))
        bench.carry_out(CreateLink(link=wire("alice.eth0", "bob.eth0")))
        bench.carry_out(ConfigureNode(after=node), ConfigureNode(after=bob))
        assert bench.reaches("bob", "10.0.0.1")
    assert bench.journal.holds(NETNS, f"{bench.paths.lab}.alice")


# --- changes ----------------------------------------------------------------


def test_configuring_twice_is_configuring_once(bench):
    nodes, links = small()
    bench.apply(nodes, links)
    bench.carry_out(*(ConfigureNode(after=node) for node in nodes))
    assert bench.routes("home") == {("default", "45.0.0.1")}
    assert bench.addresses("home", "wan") == ["45.0.0.2/30"]
    assert bench.reaches("alice", "46.0.0.11")


def test_an_address_changes_and_the_rest_stays(bench):
    nodes, links = small()
    bench.apply(nodes, links)
    nodes[1] = router("home", "45.0.0.2/30", "192.168.9.1/24", "45.0.0.1")
    nodes[3] = host("alice", "192.168.9.2/24", "192.168.9.1")
    internet = nodes[0]
    route = Route(destination="192.168.9.0/24", gateway="45.0.0.2", interface="home")
    nodes[0] = Node(
        name="internet",
        kind=internet.kind,
        forwarding=True,
        interfaces=internet.interfaces,
        routes=(route,),
    )
    kept = bench.link("home", "wan")["ifindex"]
    bench.apply(nodes, links)
    assert bench.link("home", "wan")["ifindex"] == kept
    assert bench.addresses("home", "lan") == ["192.168.9.1/24"]
    assert bench.addresses("home", "wan") == ["45.0.0.2/30"]
    assert bench.routes("internet") == {("192.168.9.0/24", "45.0.0.2")}
    assert bench.routes("alice") == {("default", "192.168.9.1")}
    assert bench.reaches("alice", "46.0.0.12")


def test_a_peer_that_stays_finds_the_new_address_of_one_that_moves(bench):
    nodes, links = pair()
    bench.apply(nodes, links)
    bench.apply([host("alice", "10.0.0.9/24"), nodes[1]], links)
    assert bench.reaches("bob", "10.0.0.9")
    assert not bench.reaches("bob", "10.0.0.1", patience_s=1)


def test_secondary_addresses_outlive_the_primary_one(bench):
    nodes, links = pair()
    ports = tuple(
        (Interface(name="eth0", addresses=tuple(f"10.0.0.{i}/24" for i in numbers)),)
        for numbers in ((1, 5, 6), (5, 6))
    )
    routes = (Route(destination=DEFAULT, gateway="10.0.0.2", interface="eth0"),)
    for interfaces in ports:
        alice = Node(name="alice", kind=NodeKind.HOST, interfaces=interfaces, routes=routes)
        bench.apply([alice, nodes[1]], links)
        assert sorted(bench.addresses("alice", "eth0")) == list(interfaces[0].addresses)
        assert bench.routes("alice") == {("default", "10.0.0.2")}


def test_a_connection_through_a_router_outlives_a_change_beside_it(bench):
    nodes, links = small()
    bench.apply(nodes, links)
    rule = "-t nat -A POSTROUTING -o wan -j SNAT --to-source 45.0.0.2"
    bench.run("home", "iptables", *rule.split())
    with netns.inside(bench.paths.netns("one")):
        server = socket.create_server(("46.0.0.11", 7000))
    with netns.inside(bench.paths.netns("alice")):
        client = socket.create_connection(("46.0.0.11", 7000), timeout=30)
    with server, client:
        accepted, (seen, _) = server.accept()
        assert seen == "45.0.0.2"
        home = nodes[1]
        wider = Interface(name="lan", addresses=("192.168.1.1/24", "172.16.0.1/24"))
        routes = (*home.routes, Route(destination="10.0.0.0/8", gateway="192.168.1.2"))
        nodes[1] = Node(
            name="home",
            kind=home.kind,
            forwarding=True,
            wan="wan",
            lan="lan",
            interfaces=(home.interfaces[0], wider),
            routes=routes,
        )
        nodes.append(host("new", "46.0.0.13/24", "46.0.0.1"))
        nodes[2] = segment("rack", "up", "s1", "s2", "s3")
        links.append(wire("new.eth0", "rack.s3"))
        bench.apply(nodes, links)
        assert bench.reaches("new", "46.0.0.11")
        with accepted:
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"
    assert ("10.0.0.0/8", "192.168.1.2") in bench.routes("home")


def test_rules_are_loaded_in_the_nodes_namespace(bench):
    nodes, links = small()
    nodes[1] = router("home", "45.0.0.2/30", "192.168.1.1/24", "45.0.0.1", nat=Nat())
    bench.apply(nodes, links)
    assert bench.reaches("alice", "46.0.0.11")
    assert not bench.reaches("one", "192.168.1.2", patience_s=1)
    assert "lab" in bench.run("home", "nft", "list", "ruleset")


def test_a_node_forgets_its_flows(bench):
    nodes, links = small()
    nodes[1] = router("home", "45.0.0.2/30", "192.168.1.1/24", "45.0.0.1", nat=Nat())
    bench.apply(nodes, links)
    assert bench.reaches("alice", "46.0.0.11")
    count = ("sysctl", "-n", "net.netfilter.nf_conntrack_count")
    assert int(bench.run("home", *count))
    bench.carry_out(ResetNode(node=nodes[1]))
    assert not int(bench.run("home", *count))
    assert bench.reaches("alice", "46.0.0.11")


def test_links_and_nodes_go_as_they_came(bench):
    nodes, links = small()
    bench.apply(nodes, links)
    without = [*nodes[:2], segment("rack", "up", "s1"), *nodes[3:5]]
    bench.apply(without, links[:-1])
    assert bench.namespaces() == {"internet", "home", "rack", "alice", "one"}
    assert "s2" not in bench.run("rack", "ip", "link")
    bench.apply(nodes, links)
    assert bench.reaches("alice", "46.0.0.12")
    bench.apply([], [])
    assert bench.namespaces() == set()
    assert read(bench.paths.journal) == []


# --- what goes wrong ----------------------------------------------------------


def test_a_namespace_that_is_somebody_elses_stops_everything_before_it_begins(bench):
    nodes, _ = small()
    foreign = bench.paths.netns("two")
    subprocess.run(("ip", "netns", "add", foreign.name), check=True)
    try:
        identity = foreign.stat().st_ino
        with pytest.raises(LabError, match=f"{foreign.name} exists already") as caught:
            bench.carry_out(*(CreateNode(node=node) for node in nodes))
        assert "ip netns delete" in caught.value.remedy
        assert bench.namespaces() == {"two"}
        assert read(bench.paths.journal) == []
        bench.carry_out(DeleteNode(node=nodes[-1]))
        assert foreign.stat().st_ino == identity
    finally:
        netns.delete(foreign)


def test_the_error_of_a_link_is_in_the_kernels_words_and_the_others_are_made(bench):
    nodes, _ = pair()
    bench.carry_out(*(CreateNode(node=node) for node in nodes))
    good, again = wire("alice.eth0", "bob.eth0"), wire("alice.eth0", "bob.eth1")
    with pytest.raises(LabError, match=r"alice.eth0--bob.eth1: .*File exists"):
        bench.carry_out(CreateLink(link=good), CreateLink(link=again))
    assert bench.done[-1] == CreateLink(link=good)
    assert "eth1" not in bench.run("bob", "ip", "link")


def test_a_link_to_a_node_that_is_not_there_is_named(bench):
    bench.carry_out(CreateNode(node=host("alice", "10.0.0.1/24")))
    with pytest.raises(LabError, match=f"no network namespace {bench.paths.lab}.bob"):
        bench.carry_out(CreateLink(link=wire("alice.eth0", "bob.eth0")))


def test_an_interface_that_is_not_there_is_named(bench):
    node = host("alice", "10.0.0.1/24")
    bench.carry_out(CreateNode(node=node))
    with pytest.raises(LabError, match="alice: there is no interface eth0"):
        bench.carry_out(ConfigureNode(after=node))


def test_a_route_that_can_not_be_is_refused_with_its_text(bench):
    nodes, links = pair()
    nodes[0] = Node(
        name="alice",
        kind=NodeKind.HOST,
        interfaces=nodes[0].interfaces,
        routes=(Route(destination=DEFAULT, gateway="99.9.9.9"),),
    )
    with pytest.raises(LabError, match=r"alice: route to 0.0.0.0/0 by 99.9.9.9: .*gateway"):
        bench.apply(nodes, links)


def test_nothing_is_begun_after_a_failure_and_the_rest_is_reported(bench):
    nodes = [host(f"n{i}", "10.0.0.1/24") for i in range(60)]
    bench.carry_out(*(CreateNode(node=node) for node in nodes))
    bench.done.clear()
    with pytest.raises(LabError, match="no interface eth0"):
        bench.carry_out(*(ConfigureNode(after=node) for node in nodes))
    assert bench.done == []


def test_an_error_of_the_listener_comes_out_after_the_threads_are_at_rest(bench):
    nodes = [host(f"n{i}", "10.0.0.1/24") for i in range(40)]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.network.carry_out([CreateNode(node=node) for node in nodes], interrupted)
    assert {entry.name for entry in read(bench.paths.journal)} == {
        f"{bench.paths.lab}.{name}" for name in bench.namespaces()
    }


def test_what_is_not_the_fabrics_is_refused(bench):
    program = Program(runtime=Runtime.PROCESS, command=("true",))
    operation = StartProgram(node="alice", program=program)
    with pytest.raises(TypeError, match="not an operation of the fabric"):
        bench.carry_out(operation)


def test_a_namespace_of_ours_that_was_left_is_made_anew(bench):
    node = host("alice", "10.0.0.1/24")
    path = bench.paths.netns("alice")
    bench.journal.note(NETNS, path.name)
    path.touch()
    bench.carry_out(CreateNode(node=node))
    assert "lo" in bench.run("alice", "ip", "link")


def test_the_plan_of_a_lab_is_carried_out_phase_by_phase(bench):
    bench.apply(*small())
    phases = [phase(operation) for operation in bench.done]
    assert phases == sorted(phases)
    assert NETNS_DIR.joinpath(f"{bench.paths.lab}.rack").exists()
