"""The whole product mapping x filtering x port policy is verified exactly, and told apart."""

from __future__ import annotations

import itertools

import pytest
from verify_support import Running, different

from lab.topology.behaviour import Dependence, Hairpin, Nat, PortPolicy, Ports, Unsolicited

pytestmark = pytest.mark.kernel

POLICIES = {
    "preserve": Ports(),
    "preserve in a range": Ports(first=20000, last=25000),
    "random": Ports(policy=PortPolicy.RANDOM),
    "random in a range": Ports(policy=PortPolicy.RANDOM, first=5000, last=8999),
    "sequential": Ports(policy=PortPolicy.SEQUENTIAL, first=40000),
    "sequential by 3": Ports(policy=PortPolicy.SEQUENTIAL, first=9000, last=19999, stride=3),
    "block": Ports(policy=PortPolicy.BLOCK, first=1024, last=20000, block=4096),
    "block, nothing left": Ports(policy=PortPolicy.BLOCK, first=2001, last=4000, block=1000),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_product(one: Running, policy: str) -> None:
    for mapping, filtering in itertools.product(Dependence, Dependence):
        nat = Nat(
            mapping=mapping,
            filtering=filtering,
            ports=POLICIES[policy],
            hairpin=Hairpin.EXTERNAL_SOURCE,
        )
        one.fresh(nat)
        report = one.verify(nat)
        assert report.findings
        assert not report.unmeasured
        assert report.ok, (mapping, filtering, report.differences)


@pytest.mark.parametrize("unsolicited", list(Unsolicited))
@pytest.mark.parametrize("hairpin", list(Hairpin))
def test_the_rest(one: Running, hairpin: Hairpin, unsolicited: Unsolicited) -> None:
    nat = Nat(filtering=Dependence.ENDPOINT_INDEPENDENT, hairpin=hairpin, unsolicited=unsolicited)
    one.fresh(nat)
    report = one.verify(nat)
    assert different(report) == set(), report.differences
