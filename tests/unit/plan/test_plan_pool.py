"""A NAT with a pool: its addresses are the first free ones of where it is attached."""

from __future__ import annotations

import pytest
from plan_support import NETEM

from lab.errors import InputError
from lab.fabric.rules import render
from lab.plan.compile import compile_topology
from lab.topology.behaviour import Nat, Pooling
from lab.topology.model import NodeSpec, RouterSpec, Topology

CARRIER = RouterSpec(name="cgn", via="internet", nat=Nat(pool=6, pooling=Pooling.ARBITRARY))


def wan(router: RouterSpec, *above: RouterSpec) -> tuple[str, ...]:
    host = NodeSpec(name="alice", via=router.name, peer=True)
    topology = Topology(name="pool", routers=(*above, router), nodes=(host,))
    node = compile_topology(topology, NETEM).node(router.name)
    assert "6 seed 1" in render(node).nft
    return next(each.addresses for each in node.interfaces if each.name == "wan")


def test_a_pool_has_its_addresses_from_the_internet():
    addresses = wan(CARRIER)
    assert len(set(addresses)) == 6
    # A subnet of its own that is large enough.
    assert {address.partition("/")[2] for address in addresses} == {"28"}


def test_a_pool_has_its_addresses_from_a_lan():
    above = RouterSpec(name="up", via="internet", nat=Nat(), lan="10.9.0.0/28")
    inner = RouterSpec(name="cgn", via="up", nat=CARRIER.nat)
    assert all(address.startswith("10.9.0.") for address in wan(inner, above))


def test_a_pool_that_its_lan_has_no_room_for_is_refused():
    above = RouterSpec(name="up", via="internet", nat=Nat(), lan="10.9.0.0/29")
    inner = RouterSpec(name="cgn", via="up", nat=CARRIER.nat)
    with pytest.raises(InputError, match=r"10\.9\.0\.0/29"):
        wan(inner, above)
