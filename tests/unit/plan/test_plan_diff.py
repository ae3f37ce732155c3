"""The smallest change between two plans."""

from __future__ import annotations

import itertools
import random
from itertools import groupby

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_support import (
    CGNAT,
    DSL,
    HOME,
    NETEM,
    NO_NETEM,
    WEB_ONLY,
    double_nat,
    dry_run,
    homes,
    machines,
    topologies,
)

from lab.plan.compile import compile_topology
from lab.plan.describe import describe, summary
from lab.plan.diff import diff
from lab.plan.machine import Machine
from lab.plan.model import Daemon, Plan
from lab.plan.operations import (
    ConfigureNode,
    DeleteLink,
    DeleteNode,
    LoadRules,
    ShapeLink,
    StartDaemon,
    StopDaemon,
    phase,
)
from lab.plan.progress import Running
from lab.topology.character import Backend, Impairment
from lab.topology.model import LinkSpec, NodeSpec, RouterSpec, Topology, WantedBackend

replace = msgspec.structs.replace


def things(plan: Plan):
    """What a plan holds; the order of declarations and of interfaces means nothing."""
    nodes = {
        node.name: (
            replace(node, interfaces=(), routes=(), daemons=()),
            set(node.interfaces), set(node.routes), set(node.daemons),
        )
        for node in plan.nodes
    }  # fmt: skip
    return nodes, {link.name: link for link in plan.links}


def with_daemons(plan: Plan, chosen: list[int]) -> Plan:
    """`plan`, the daemons of each node chosen by one of the numbers in turn."""
    numbers = itertools.cycle(chosen)
    return replace(
        plan,
        nodes=tuple(replace(node, daemons=DAEMONS[: next(numbers)]) for node in plan.nodes),
    )


DAEMONS = (Daemon(name="proxy", command=("a",)), Daemon(name="resolver", command=("b",)))
numbers = st.lists(st.integers(0, len(DAEMONS)), min_size=1, max_size=5)
plans = st.builds(with_daemons, st.builds(compile_topology, topologies(), machines), numbers)


@settings(deadline=None)
@given(plans, topologies(), machines, st.booleans(), st.randoms(use_true_random=False))
def test_carrying_out_the_difference_gives_the_desired_state(
    before: Plan, topology: Topology, machine: Machine, sticky: bool, chance: random.Random
):
    after = compile_topology(topology, machine, previous=before if sticky else None)
    after = with_daemons(after, [chance.randint(0, len(DAEMONS)) for _ in range(3)])
    operations = diff(before, after)
    assert list(map(phase, operations)) == sorted(map(phase, operations))
    running = Running(before)
    for _, group in groupby(operations, key=phase):
        together = list(group)
        chance.shuffle(together)
        for operation in together:
            if isinstance(operation, ConfigureNode):
                now = running.plan().node(operation.after.name)
                known = operation.before.interfaces if operation.before else ()
                assert set(known) == set(now.interfaces)
            running.advance(operation)
    assert things(running.plan()) == things(after)
    assert diff(running.plan(), after) == ()


@given(plans)
def test_equal_plans_do_not_differ(plan: Plan):
    assert diff(plan, plan) == ()


@settings(deadline=None)
@given(plans, plans)
def test_links_are_deleted_by_name_where_something_would_be_left(before: Plan, after: Plan):
    operations = diff(before, after)
    deleted = {operation.node.name for operation in operations if isinstance(operation, DeleteNode)}
    for operation in operations:
        if isinstance(operation, DeleteLink):
            ends = {operation.link.a.node, operation.link.b.node}
            assert ends - deleted or operation.link.backend is Backend.FERRY


@given(plans)
def test_all_comes_and_all_goes(plan: Plan):
    up, down = Running.nothing(plan), Running(plan)
    for operation in diff(None, plan):
        up.advance(operation)
    assert things(up.plan()) == things(plan)
    for operation in diff(plan, None):
        down.advance(operation)
    assert things(down.plan()) == ({}, {})


@settings(deadline=None)
@given(plans, plans)
def test_every_operation_has_one_line(before: Plan, after: Plan):
    for operation in diff(before, after):
        line = describe(operation)
        assert line
        assert "\n" not in line
    assert "\n" not in summary(after)


# --- small changes --------------------------------------------------------


def changed(node: str, **changes) -> tuple[Topology, Topology]:
    before = double_nat()
    after = replace(
        before,
        routers=tuple(replace(r, **changes) if r.name == node else r for r in before.routers),
        nodes=tuple(replace(n, **changes) if n.name == node else n for n in before.nodes),
    )
    return before, after


def steps(topologies: tuple[Topology, Topology], machine: Machine = NETEM) -> list[str]:
    before = compile_topology(topologies[0], machine)
    after = compile_topology(topologies[1], machine, previous=before)
    return dry_run(before, after).splitlines()


def test_a_changed_nat_loads_one_rule_set():
    assert steps(changed("home-a", nat=CGNAT)) == [
        "rules     home-a            cgnat NAT: EIM, APDF, a port block each"
    ]


def test_a_changed_firewall_loads_one_rule_set():
    assert steps(changed("alice", firewall=WEB_ONLY)) == [
        "rules     alice             firewall: out only tcp/80, tcp/443, udp/53"
    ]
    before, after = changed("alice", firewall=WEB_ONLY)
    assert steps((after, before)) == ["rules     alice             none"]


def test_a_changed_link_is_shaped():
    slower = LinkSpec(up=Impairment(delay_us=99_000))
    assert steps(changed("home-a", link=slower)) == [
        "shape     home-a.wan -- carrier-a.lan               99 ms up, kernel"
    ]
    # A kernel link may become a plain one: the same veth pair.
    assert steps(changed("home-a", link=LinkSpec())) == [
        "shape     home-a.wan -- carrier-a.lan               plain wire"
    ]


def test_a_link_keeps_its_wire_unless_the_kernel_is_demanded():
    assert steps(changed("home-a", link=LinkSpec()), NO_NETEM) == [
        "shape     home-a.wan -- carrier-a.lan               ferry",
    ]
    demanded = LinkSpec(backend=WantedBackend.KERNEL)
    assert steps(changed("home-a", link=demanded), NO_NETEM) == [
        "unlink    home-a.wan -- carrier-a.lan",
        "link      home-a.wan -- carrier-a.lan               plain wire",
        "configure carrier-a         lan 100.64.0.1/24",
        "configure home-a            wan 100.64.0.2/24, default via 100.64.0.1",
    ]


def test_a_changed_program_restarts():
    assert steps(changed("alice", env=(("MODE", "x"),))) == [
        "stop      alice             built-in peer (process)",
        "start     alice             built-in peer (process)",
    ]


def test_a_changed_container_is_replaced_with_its_links():
    docker = Machine(containers=True)
    before = changed("alice", peer=False, image="one")[1]
    after = changed("alice", peer=False, image="two")[1]
    assert steps((before, after), docker) == [
        "stop      alice             image one",
        "unlink    alice.eth0 -- home-a.lan",
        "delete    alice             host, container of one",
        "create    alice             host, container of two",
        "link      alice.eth0 -- home-a.lan                  50 Mbit/s, 2 ms, 0.1 % loss, kernel",
        "configure home-a            lan 192.168.1.1/24",
        "configure alice             eth0 192.168.1.2/24, default via 192.168.1.1",
        "start     alice             image two",
    ]


def test_a_new_home_touches_the_internet_and_nothing_else():
    before = compile_topology(homes(3), NETEM)
    after = compile_topology(homes(4), NETEM, previous=before)
    assert dry_run(before, after).splitlines() == [
        "create    home-4            router",
        "create    host-4            host",
        (
            "link      home-4.wan -- internet.home-4             "
            "8 Mbit/s up, 50 Mbit/s down, 15 ms, kernel"
        ),
        "link      host-4.eth0 -- home-4.lan                 plain wire",
        "configure internet          home-4 45.0.0.13/30",
        "configure home-4            wan 45.0.0.14/30, lan 192.168.4.1/24, default via 45.0.0.13",
        "configure host-4            eth0 192.168.4.2/24, default via 192.168.4.1",
        "rules     home-4            home NAT: EIM, APDF, ports preserved",
        "start     host-4            built-in peer (process)",
    ]


def test_a_new_subscriber_changes_the_rules_of_its_nat():
    home = RouterSpec(name="home", nat=HOME)
    hosts = tuple(NodeSpec(name=name, via="home") for name in ("a", "b", "c"))
    two = Topology(name="t", routers=(home,), nodes=hosts[:2])
    three = Topology(name="t", routers=(home,), nodes=hosts)
    assert steps((two, three)) == [
        "create    c                 host",
        "link      c.eth0 -- home.lan.c                      plain wire",
        "configure home.lan          1 bridge port",
        "configure c                 eth0 192.168.1.4/24, default via 192.168.1.1",
        "rules     home              home NAT: EIM, APDF, ports preserved",
    ]


def test_operations_count_for_one_change_among_many():
    before = compile_topology(homes(200), NETEM)
    topology = homes(200)
    routers = tuple(
        replace(r, nat=CGNAT, link=replace(DSL, down=Impairment())) if r.name == "home-77" else r
        for r in topology.routers
    )
    after = compile_topology(replace(topology, routers=routers), NETEM, previous=before)
    shape, rules = diff(before, after)
    assert isinstance(shape, ShapeLink)
    assert isinstance(rules, LoadRules)


# --- daemons --------------------------------------------------------------


def _router_with(plan: Plan, *daemons: Daemon) -> Plan:
    nodes = (replace(n, daemons=daemons) if n.name == "home" else n for n in plan.nodes)
    return replace(plan, nodes=tuple(nodes))


def _one_home(link: LinkSpec) -> Plan:
    topology = Topology(
        name="one-home",
        routers=(RouterSpec(name="home", nat=HOME, link=link),),
        nodes=(NodeSpec(name="alice", via="home", peer=True),),
    )
    return compile_topology(topology, NETEM)


def test_a_daemon_comes_changes_and_goes_alone():
    proxy, other = (
        Daemon(name="proxy", command=("a", "-f")),
        Daemon(name="resolver", command=("b",)),
    )
    plan = _one_home(LinkSpec())
    assert [*map(describe, diff(plan, _router_with(plan, proxy)))] == [
        "start     home/proxy        a -f"
    ]
    changed = replace(proxy, files=(("conf", "x"),))
    before, after = _router_with(plan, other, proxy), _router_with(plan, changed, other)
    assert diff(before, after) == (
        StopDaemon(node="home", daemon=proxy),
        StartDaemon(node="home", daemon=changed),
    )
    assert diff(before, plan) == tuple(
        StopDaemon(node="home", daemon=daemon) for daemon in (other, proxy)
    )
    assert summary(after).endswith("2 daemons")


def test_a_daemon_starts_again_when_an_interface_of_its_node_does():
    proxy = Daemon(name="proxy", command=("a",))
    slow = Impairment(delay_us=1000)
    before, after = (
        _one_home(LinkSpec(up=slow, backend=backend))
        for backend in (WantedBackend.FERRY, WantedBackend.KERNEL)
    )
    operations = diff(_router_with(before, proxy), _router_with(after, proxy))
    daemons = [o for o in operations if isinstance(o, StartDaemon | StopDaemon)]
    assert daemons == [
        StopDaemon(node="home", daemon=proxy),
        StartDaemon(node="home", daemon=proxy),
    ]
