"""Servers that firewalls have in routers: which daemons, what they know, who is told."""

from __future__ import annotations

import pytest

from lab.errors import InputError
from lab.plan.change import changed
from lab.plan.compile import compile_topology
from lab.plan.diff import diff
from lab.plan.gateways import furnish
from lab.plan.machine import Machine
from lab.plan.model import Daemon, Plan
from lab.plan.operations import LoadRules, StartDaemon, StopDaemon
from lab.topology.behaviour import Firewall, Proxy
from lab.topology.changes import SetFirewall
from lab.topology.loader import loads

TEXT = """
routers:
  campus: {nat: home, lan: 10.1.0.0/16, firewall: {preset: corporate, proxy: true}}
  office: {nat: home, via: campus, firewall: %s}
  home: {nat: home}
nodes:
  web: {via: internet, command: web}
  relay-1: {via: internet, service: relay}
  alice: {via: office, command: alice}
  bob: {via: campus, command: bob%s}
  carol: {via: home, command: carol}
"""


def plan(office: str = "http-only", bob: str = "") -> Plan:
    topology = loads(TEXT % (office, bob), "/lab/office.yaml")
    return compile_topology(topology, Machine(netem=True))


def guarded(plan: Plan, firewall: Firewall | None) -> Plan:
    """`plan` with another firewall, or none, at the office."""
    return changed(plan, [SetFirewall(node="office", firewall=firewall)])


def daemons(plan: Plan, node: str) -> dict[str, Daemon]:
    return {daemon.name: daemon for daemon in plan.node(node).daemons}


def text(daemon: Daemon, name: str) -> list[str]:
    return dict(daemon.files)[name].splitlines()


def environment(plan: Plan, node: str) -> dict[str, str]:
    program = plan.node(node).program
    assert program is not None
    return {key: value for key, value in program.env if key in ("LAB_PROXY", "LAB_RESOLVER")}


def test_who_is_inside_is_told_of_the_nearest_servers():
    made = plan()
    assert environment(made, "alice") == {
        # The office's own proxy; the resolver there is for the proxy alone.
        "LAB_PROXY": "http://192.168.2.1:3128",
        "LAB_RESOLVER": "10.1.0.1",
    }
    assert environment(made, "bob") == {
        "LAB_PROXY": "http://10.1.0.1:3128",
        "LAB_RESOLVER": "10.1.0.1",
    }
    assert environment(made, "carol") == environment(made, "web") == {}


def test_the_resolver_knows_what_can_be_reached():
    made = plan()
    names = {
        router: [line.split()[1] for line in text(daemons(made, router)["resolver"], "names")]
        for router in ("campus", "office")
    }
    # Carol is behind another NAT, Alice behind one further in.
    assert names == {
        "campus": ["campus", "web", "relay-1", "bob", "relay"],
        "office": ["office", "web", "relay-1", "alice", "bob", "relay"],
    }
    assert "listen-address=127.0.0.1,10.1.0.1" in text(
        daemons(made, "campus")["resolver"], "dnsmasq.conf"
    )
    assert "listen-address=127.0.0.1" in text(daemons(made, "office")["resolver"], "dnsmasq.conf")


def test_a_proxy_behind_a_proxy_goes_through_it():
    made = plan()
    assert "Upstream http 10.1.0.1:3128" in text(daemons(made, "office")["proxy"], "tinyproxy.conf")
    lines = text(daemons(made, "campus")["proxy"], "tinyproxy.conf")
    assert "ConnectPort 443" in lines
    assert not any(line.startswith("Upstream") for line in lines)


@pytest.mark.parametrize(
    ("connect", "ports"), [("false", ["0"]), ("true", ["443"]), ("[443, 8443]", ["443", "8443"])]
)
def test_what_connect_may_open(connect, ports):
    made = plan("{outbound: [], proxy: {port: 8080, connect: %s}}" % connect)  # noqa: UP031 - braces
    proxy = daemons(made, "office")["proxy"]
    lines = text(proxy, "tinyproxy.conf")
    assert [line.split()[1] for line in lines if line.startswith("ConnectPort")] == ports
    assert proxy.ready == ("tcp/8080",)
    assert "Port 8080" in lines


def test_a_portal_stands_in_a_router():
    assert set(daemons(plan("captive"), "office")) == {"resolver", "portal"}
    with pytest.raises(InputError) as refused:
        plan(bob=", firewall: captive")
    assert refused.value.where == "/lab/office.yaml:10"
    assert "captive portal stands in a router" in refused.value.message


def test_a_hosts_firewall_leads_to_the_proxy_above_it_or_is_refused():
    made = plan(bob=", firewall: http-only")
    assert made.node("bob").proxy == "10.1.0.1:3128"
    assert made.node("bob").daemons == ()
    alone = TEXT.replace("command: carol", "command: carol, firewall: http-only") % ("open", "")
    topology = loads(alone, "/lab/office.yaml")
    with pytest.raises(InputError) as refused:
        compile_topology(topology, Machine(netem=True))
    assert refused.value.where == "/lab/office.yaml:11"
    assert refused.value.remedy


def test_servers_come_and_go_with_the_firewall_and_nothing_else_is_touched():
    before = plan("open")
    after = guarded(before, Firewall(proxy=Proxy()))
    operations = diff(before, after)
    assert {(type(one), getattr(one, "node", None)) for one in operations} >= {
        (StartDaemon, "office")
    }
    assert {type(one) for one in operations} == {LoadRules, StartDaemon}
    assert diff(after, furnish(after)) == ()
    back = diff(after, guarded(after, Firewall(preset="open")))
    assert {type(one) for one in back} == {LoadRules, StopDaemon}


def test_other_daemons_stay():
    made = plan("open")
    upnp = Daemon(name="upnp", command=("miniupnpd",))
    nodes = tuple(
        type(node)(**{f: getattr(node, f) for f in node.__struct_fields__} | {"daemons": (upnp,)})
        if node.name == "office"
        else node
        for node in made.nodes
    )
    after = guarded(Plan(lab=made.lab, nodes=nodes, links=made.links), Firewall(resolver=True))
    assert set(daemons(after, "office")) == {"upnp", "resolver"}
    assert daemons(guarded(after, None), "office") == {"upnp": upnp}
