"""Every NAT preset is what its words say, found out by probes from inside and outside."""

from __future__ import annotations

import pytest
from rules_bench import DEADLINE_S, EXTERNAL, OUTSIDE, bench, connect_later, fresh_port, ready
from rules_probes import ADMITTED, Services, distinct_ports
from test_rules_product import check_policy

from lab.topology.behaviour import Nat, Unsolicited
from lab.topology.presets import Presets

pytestmark = pytest.mark.kernel

PRESETS = {
    name: preset.behaviour for name, preset in Presets().nat.items() if preset.behaviour is not None
}


@pytest.fixture(params=PRESETS)
def preset(request) -> Nat:
    return PRESETS[request.param]


def test_preset(preset: Nat) -> None:
    # A topology for each, so that a sequence or a block meets no port that is held.
    with bench() as made, Services.on(made) as services:
        made.use(preset)
        for protocol in ("udp", "tcp"):
            check_ports(services, preset, protocol)
            for host in (0, 1):
                expected = ADMITTED[preset.filtering]
                assert services.filtering(protocol, host, expected) == expected
        check_unsolicited(services, preset)
        check_timers(services, preset)


def check_ports(services: Services, nat: Nat, protocol: str) -> None:
    port = fresh_port()
    if nat.ports.overload:
        for host in (0, 1):
            own = fresh_port()
            assert set(services.mappings(protocol, host, own).values()) == {own}
        return
    held = [distinct_ports(nat.mapping, services.mappings(protocol, host, port)) for host in (0, 1)]
    both = [external for host in held for external in host.values()]
    assert len(set(both)) == len(both), "two mappings share a port"
    check_policy(nat.ports, port, held)


def check_unsolicited(services: Services, nat: Nat) -> None:
    with services.bench.tcp("outside", OUTSIDE[0], fresh_port()) as sock:
        connect_later(sock, (EXTERNAL, fresh_port()))
        answered = nat.unsolicited is not Unsolicited.DROP
        services.udp_mappings(0, fresh_port())  # A barrier where nothing is to come.
        assert ready(sock, write=True, within_s=DEADLINE_S if answered else 0) is answered


def check_timers(services: Services, nat: Nat) -> None:
    """That these hold to the second is what test_rules_lifetimes measures."""
    if nat.lifetimes.refresh != "both":
        return

    def sysctl(name: str) -> int:
        name = f"net.netfilter.nf_conntrack_{name}"
        return int(services.bench.shell("router", "sysctl", "-n", name))

    assert sysctl("udp_timeout_stream") == nat.lifetimes.udp_s
    assert sysctl("udp_timeout") == (nat.lifetimes.udp_one_way_s or nat.lifetimes.udp_s)
    assert sysctl("tcp_timeout_established") == nat.lifetimes.tcp_established_s
    assert sysctl("tcp_timeout_syn_sent") == nat.lifetimes.tcp_transitory_s
