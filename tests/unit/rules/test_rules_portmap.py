"""The rules around the port mapping daemon's table."""

from __future__ import annotations

from msgspec.structs import replace

from lab.fabric.rules import render
from lab.plan.change import momentary
from lab.plan.diff import diff
from lab.plan.model import Daemon, Interface, Node, NodeKind, Plan
from lab.plan.operations import LoadRules, ResetNode, StartDaemon, StopDaemon
from lab.topology.behaviour import Direction, Firewall, Nat, PortMapping, Verdict
from lab.topology.changes import FlushNat, Reboot

HOME = Node(
    name="home",
    kind=NodeKind.ROUTER,
    interfaces=(
        Interface(name="wan", addresses=("45.0.0.2/30",)),
        Interface(name="lan", addresses=("192.168.1.1/24",)),
    ),
    wan="wan",
    lan="lan",
    nat=Nat(),
    port_mapping=PortMapping(upnp=True),
    firewall=Firewall(inbound=Direction(default=Verdict.DROP)),
    daemons=(Daemon(name="miniupnpd", command=("miniupnpd",)),),
)


def test_what_a_host_asked_for_passes_before_the_firewall_decides():
    lines = render(HOME).ip4.splitlines()
    (asked,) = (line for line in lines if "connmark" in line)
    assert asked.endswith("-j ACCEPT")
    (decides,) = (line for line in lines if line.startswith("-A FORWARD") and "inbound" in line)
    assert lines.index(asked) < lines.index(decides)
    mark = asked.partition("--mark ")[2].split()[0]
    assert f"ct mark set {mark}" in render(HOME).portmap
    # What came in by such a port is no mapping of the NAT's.
    assert f"ct mark {mark} return" in render(HOME).nft


def test_nothing_of_it_stands_in_a_router_without():
    plain = render(replace(HOME, port_mapping=None))
    assert not plain.portmap
    assert "mark" not in plain.ip4 + plain.ip6 + plain.nft


def test_another_nat_leaves_the_table_alone_and_another_daemon_empties_it():
    another = replace(HOME, nat=Nat(preset="x"))
    assert render(another).portmap == render(HOME).portmap
    plan = Plan(lab="t", nodes=(HOME,), links=())
    (loads,) = diff(plan, replace(plan, nodes=(another,)))
    assert loads == LoadRules(node=another, before=HOME)
    changed = replace(HOME, daemons=(Daemon(name="miniupnpd", command=("miniupnpd", "-d")),))
    operations = diff(plan, replace(plan, nodes=(changed,)))
    assert LoadRules(node=changed, before=None) in operations


def test_a_nat_that_forgets_its_mappings_has_the_daemon_forget_too():
    plan = Plan(lab="t", nodes=(HOME,), links=())
    (daemon,) = HOME.daemons
    for change in (FlushNat(router="home"), Reboot(router="home")):
        assert momentary(plan, [change]) == (
            StopDaemon(node="home", daemon=daemon),
            ResetNode(node=HOME),
            StartDaemon(node="home", daemon=daemon),
        )
