"""Port mapping in the report, and that `verify` notices when it is not as declared."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from verify_support import Running, lab_command, new_name

from lab.topology.behaviour import PortMapping
from lab.verify import verify

pytestmark = pytest.mark.kernel

MAPPED = """
name: mapped
routers:
  home: {nat: full-cone, firewall: stateful, port-mapping: true}
nodes:
  alice: {via: home}
  bob: {via: home}
"""
OPEN_FOR_GOOD = (
    "add chain inet upnp open { type nat hook prerouting priority dstnat - 9; };"
    "add rule inet upnp open iifname wan meta l4proto udp ct mark set 0x706d6170 "
    "dnat ip to 192.168.1.2"
)
ALL = ("upnp", "nat-pmp", "pcp")


@pytest.fixture
def mapped(tmp_path) -> Iterator[Running]:
    file = tmp_path / "mapped.yaml"
    file.write_text(MAPPED)
    name = new_name("mapped")
    try:
        yield Running.up(tmp_path / "s", str(file), name)
    finally:
        lab_command(tmp_path / "s", "down", name, "--quiet")


def observed(mapped: Running, declared: PortMapping | None) -> dict[str, tuple[str, str, bool]]:
    plan = mapped.plan
    nodes = (replace(n, port_mapping=declared) if n.name == "home" else n for n in plan.nodes)
    report = verify(replace(plan, nodes=tuple(nodes)), mapped.paths)
    return {
        one.protocol: (one.declared, one.observed, one.ok)
        for one in report.findings
        if one.dimension == "port mapping"
    }


def test_what_is_declared_is_seen_and_what_is_not_is_noticed(mapped: Running):
    both = PortMapping(upnp=True, pcp=True)
    assert observed(mapped, both) == dict.fromkeys(ALL, ("opens ports", "opens ports", True))
    off = dict.fromkeys(ALL, ("silent", "opens ports", False))
    assert observed(mapped, None) == off
    # Leases are the daemon's; nothing of a probe is left there.
    assert "dnat" not in mapped.shell("home", "nft", "list", "chain", "inet", "upnp", "asked_in")


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        ("flush chain inet upnp inward", "grants ports that stay closed"),
        (
            OPEN_FOR_GOOD,
            "opens ports that stay open",
        ),
    ],
)
def test_broken_rules_are_noticed(mapped: Running, rules: str, what: str):
    assert mapped.shell("home", "nft", rules) == ""
    both = PortMapping(upnp=True, pcp=True)
    assert observed(mapped, both) == dict.fromkeys(ALL, ("opens ports", what, False))


def test_a_dead_daemon_is_noticed(mapped: Running):
    pid = int((mapped.paths.node("home") / "miniupnpd" / "miniupnpd.pid").read_text())
    handle = os.pidfd_open(pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    both = PortMapping(upnp=True, pcp=True)
    assert observed(mapped, both) == dict.fromkeys(ALL, ("opens ports", "silent", False))
