"""The order and the number of requests between two configurations of a node."""

import msgspec
import pytest

from lab.errors import LabError
from lab.fabric import sysctls
from lab.fabric.configure import BRIDGE, differences
from lab.plan.model import Interface, Node, NodeKind, Route

INDEXES = {"wan": 2, "lan": 3, "dmz": 4}

ROUTER = Node(
    name="home",
    kind=NodeKind.ROUTER,
    forwarding=True,
    interfaces=(
        Interface(name="wan", addresses=("45.0.0.2/30",)),
        Interface(name="lan", addresses=("192.168.1.1/24",)),
    ),
    routes=(
        Route(destination="0.0.0.0/0", gateway="45.0.0.1", interface="wan"),
        Route(destination="45.0.0.1/32", interface="wan"),
    ),
)


def purposes(after: Node, before: Node | None) -> list[str]:
    return [request.purpose for request in differences(after, before, INDEXES)]


def with_wan(*addresses: str) -> Node:
    wan = Interface(name="wan", addresses=addresses)
    return msgspec.structs.replace(ROUTER, interfaces=(wan, ROUTER.interfaces[1]))


def test_a_new_node_gets_everything_and_routes_on_the_link_first():
    assert purposes(ROUTER, None) == [
        "address 45.0.0.2/30 on wan",
        "address 192.168.1.1/24 on lan",
        "route to 45.0.0.1/32 on the link",
        "route to 0.0.0.0/0 by 45.0.0.1",
    ]


def test_no_difference_no_request():
    assert purposes(ROUTER, ROUTER) == []


def test_a_new_address_comes_before_the_old_one_goes_and_is_put_again_after():
    assert purposes(with_wan("45.0.0.6/30"), ROUTER) == [
        "address 45.0.0.6/30 on wan",
        "removing address 45.0.0.2/30 of wan",
        "address 45.0.0.6/30 on wan",
        "route to 45.0.0.1/32 on the link",
        "route to 0.0.0.0/0 by 45.0.0.1",
    ]


def test_a_further_address_removes_nothing():
    assert "removing" not in str(purposes(with_wan("45.0.0.2/30", "45.0.0.6/30"), ROUTER))


def test_a_changed_route_is_replaced_and_a_superfluous_one_removed():
    routes = (Route(destination="0.0.0.0/0", gateway="192.168.1.9"),)
    after = msgspec.structs.replace(ROUTER, routes=routes)
    assert purposes(after, ROUTER) == [
        "route to 0.0.0.0/0 by 192.168.1.9",
        "removing the route to 45.0.0.1/32",
    ]


def test_a_port_of_a_segment_is_enslaved_once():
    before = Node(name="lan", kind=NodeKind.SEGMENT, interfaces=(Interface(name="p0"),))
    ports = (Interface(name="p0"), Interface(name="p1"))
    after = msgspec.structs.replace(before, interfaces=ports)
    requests = differences(after, before, {"p0": 3, "p1": 4, BRIDGE: 2})
    said = [request.purpose for request in requests]
    assert said == ["p1 as a bridge port", "p1 as a port that forwards"]


def test_a_route_over_an_interface_that_is_not_there_is_named():
    routes = (Route(destination="0.0.0.0/0", interface="wlan0"),)
    with pytest.raises(LabError, match=r"home: .* wlan0"):
        purposes(msgspec.structs.replace(ROUTER, routes=routes), None)


def test_hosts_do_not_forward_whatever_the_machine_does():
    host = Node(name="alice", kind=NodeKind.HOST)
    assert sysctls.settings(host)[0] == ("ipv4/ip_forward", "0")
    assert sysctls.settings(ROUTER)[0] == ("ipv4/ip_forward", "1")


def test_ipv6_forwarding_is_for_nodes_with_ipv6():
    assert ("ipv6/conf/all/forwarding", "1") not in sysctls.settings(ROUTER)
    assert ("ipv6/conf/all/forwarding", "1") in sysctls.settings(with_wan("2001:db8::1/64"))
