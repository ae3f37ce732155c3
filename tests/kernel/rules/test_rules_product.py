"""Mapping x filtering x port policy, exact, for UDP and TCP, two hosts with one source port."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from rules_bench import bench, fresh_port
from rules_probes import ADMITTED, Services, distinct_ports

from lab.topology.behaviour import Dependence, Nat, PortPolicy, Ports

pytestmark = pytest.mark.kernel

POLICIES = {
    "preserve": Ports(),
    "preserve in a range": Ports(first=20000, last=25000),
    "random": Ports(policy=PortPolicy.RANDOM),
    "random in a range": Ports(policy=PortPolicy.RANDOM, first=5000, last=8999),
    "sequential": Ports(policy=PortPolicy.SEQUENTIAL, first=40000),
    "sequential by 3": Ports(policy=PortPolicy.SEQUENTIAL, first=9000, last=19999, stride=3),
    "block": Ports(policy=PortPolicy.BLOCK, first=1024, last=20000, block=4096),
}


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("policy", POLICIES)
def test_product(policy: str, protocol: str) -> None:
    # A topology for each, so that a sequence meets no port that another policy left held.
    with bench() as made, Services.on(made) as services:
        measure_product(services, policy, protocol)


def measure_product(services: Services, policy: str, protocol: str) -> None:
    for index, (mapping, filtering) in enumerate(itertools.product(Dependence, Dependence)):
        ports = POLICIES[policy]
        if ports.policy is PortPolicy.SEQUENTIAL:
            # Where no earlier mapping holds a port, the sequence has no gaps.
            ports = msgspec.structs.replace(ports, first=ports.first + 200 * index)
        nat = Nat(mapping=mapping, filtering=filtering, ports=ports)
        services.bench.use(nat)
        # What the last kind gave away by chance may be the very port that is to be preserved.
        services.bench.reset(nat)
        port = fresh_port()
        held: list[dict] = [
            distinct_ports(mapping, services.mappings(protocol, host, port)) for host in (0, 1)
        ]
        both = [external for host in held for external in host.values()]
        assert len(set(both)) == len(both), "two mappings share a port"
        # Asked again after the other host, each mapping is still the same one.
        again = distinct_ports(mapping, services.udp_mappings(0, port)) if protocol == "udp" else {}
        assert not again or again == held[0]
        check_policy(ports, port, held)
        for host in (0, 1):
            expected = ADMITTED[filtering]
            assert services.filtering(protocol, host, expected) == expected, (mapping, filtering)


def check_policy(ports: Ports, own: int, held: list[dict]) -> None:
    made = [list(host.values()) for host in held]
    flat = [*made[0], *made[1]]
    assert all(ports.first <= port <= ports.last for port in flat)
    match ports.policy:
        case PortPolicy.PRESERVE:
            if ports.first <= own <= ports.last:
                assert made[0][0] == own, "the first mapping keeps the inside port"
                assert own not in flat[1:]
        case PortPolicy.RANDOM:
            steps = {b - a for a, b in itertools.pairwise(flat)}
            assert len(flat) < 3 or len(steps) > 1
        case PortPolicy.SEQUENTIAL:
            steps = {b - a for a, b in itertools.pairwise(flat)}
            assert flat[0] == ports.first
            assert steps == {ports.stride}
        case PortPolicy.BLOCK:
            for index, host in enumerate(made):
                low = ports.first + index * ports.block
                assert all(low <= port < low + ports.block for port in host)
