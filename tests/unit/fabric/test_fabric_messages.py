"""What the requests mean is decided by pyroute2, which decodes every one of them."""

import errno
import struct

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lab.fabric import messages, netlink
from lab.fabric.messages import Device
from lab.fabric.netlink import Refusal, Request

IFF_UP = 1
ONLINK = 4


def decoded(request: Request):
    kinds = {
        range(messages.RTM_NEWLINK, messages.RTM_NEWADDR): ifinfmsg,
        range(messages.RTM_NEWADDR, messages.RTM_NEWROUTE): ifaddrmsg,
        range(messages.RTM_NEWROUTE, messages.RTM_NEWNEIGH): rtmsg,
        range(messages.RTM_NEWNEIGH, messages.RTM_NEWNEIGH + 4): ndmsg,
    }
    cls = next(cls for numbers, cls in kinds.items() if request.kind in numbers)
    header = struct.pack("=IHHII", 16 + len(request.body), request.kind, request.flags, 1, 0)
    message = cls(header + request.body)
    message.decode()
    return message


def test_a_veth_pair_names_both_ends_and_takes_up_the_far_one():
    here = Device("lan", "02:00:00:00:00:01", 1400)
    there = Device("eth0", "02:00:00:00:00:02", 1400)
    outer = decoded(messages.veth(here, there, 77))
    info = outer.get_attr("IFLA_LINKINFO")
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    assert outer.get_attr("IFLA_NET_NS_FD") == 77
    assert (outer["flags"], outer["change"]) == (IFF_UP, IFF_UP)
    assert peer["flags"] == 0
    assert peer.get_attr("IFLA_NET_NS_FD") is None
    for end, device in ((outer, there), (peer, here)):
        assert end.get_attr("IFLA_IFNAME") == device.name
        assert end.get_attr("IFLA_ADDRESS") == device.mac
        assert end.get_attr("IFLA_MTU") == device.mtu
        assert end.get_attr("IFLA_NUM_TX_QUEUES") == 1
        assert end.get_attr("IFLA_NUM_RX_QUEUES") == 1


def test_an_mtu_is_changed_by_name():
    message = decoded(messages.resize("eth0", 1400))
    assert message.get_attr("IFLA_IFNAME") == "eth0"
    assert message.get_attr("IFLA_MTU") == 1400
    assert message["change"] == 0


def test_a_bridge_forwards_at_once_and_to_everyone():
    message = decoded(messages.bridge("br0"))
    info = message.get_attr("IFLA_LINKINFO")
    options = info.get_attr("IFLA_INFO_DATA")
    assert info.get_attr("IFLA_INFO_KIND") == "bridge"
    assert options.get_attr("IFLA_BR_STP_STATE") == 0
    assert options.get_attr("IFLA_BR_FORWARD_DELAY") == 0
    assert options.get_attr("IFLA_BR_MCAST_SNOOPING") == 0
    assert message["flags"] == IFF_UP


def test_links_are_changed_by_name():
    assert decoded(messages.up("wan")).get_attr("IFLA_IFNAME") == "wan"
    assert decoded(messages.up("wan"))["flags"] == IFF_UP
    assert decoded(messages.enslave("p0", 9)).get_attr("IFLA_MASTER") == 9
    assert decoded(messages.enslave("p0", 9))["change"] == 0
    assert decoded(messages.delete_link("wan")).get_attr("IFLA_IFNAME") == "wan"


@pytest.mark.parametrize(
    ("text", "family", "length", "broadcast"),
    [
        ("203.0.113.5/30", 2, 30, "203.0.113.7"),
        ("10.1.2.3/8", 2, 8, "10.255.255.255"),
        ("10.0.0.0/31", 2, 31, None),
        ("10.0.0.1/32", 2, 32, None),
        ("2001:db8::1/64", 10, 64, None),
    ],
)
def test_addresses(text, family, length, broadcast):
    for request in (
        messages.put_address(4, text, "wan"),
        messages.delete_address(4, text, "wan"),
    ):
        message = decoded(request)
        assert message["family"] == family
        assert message["prefixlen"] == length
        assert message["index"] == 4
        assert message.get_attr("IFA_LOCAL") == text.split("/")[0]
        assert message.get_attr("IFA_ADDRESS") == text.split("/")[0]
        assert message.get_attr("IFA_BROADCAST") == broadcast


def test_ipv6_addresses_are_usable_at_once():
    nodad = 2
    assert decoded(messages.put_address(1, "2001:db8::1/64", "wan"))["flags"] == nodad


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("0.0.0.0/0", "10.0.0.1", 0), (2, 0, None, "10.0.0.1", None, 0, 0)),
        (("0.0.0.0/0", "10.0.0.1", 3), (2, 0, None, "10.0.0.1", 3, 0, ONLINK)),
        (("10.2.0.0/16", "", 3), (2, 16, "10.2.0.0", None, 3, 253, 0)),
        (("::/0", "2001:db8::1", 0), (10, 0, None, "2001:db8::1", None, 0, 0)),
        (("2001:db8:1::/48", "", 3), (10, 48, "2001:db8:1::", None, 3, 0, 0)),
    ],
)
def test_routes(arguments, expected):
    for request in (messages.put_route(*arguments), messages.delete_route(*arguments)):
        message = decoded(request)
        attributes = [message.get_attr(name) for name in ("RTA_DST", "RTA_GATEWAY", "RTA_OIF")]
        found = (message["family"], message["dst_len"], *attributes)
        assert (*found, message["scope"], message["flags"]) == expected
        assert message["table"] == 254


@pytest.mark.parametrize(("address", "family"), [("45.0.0.1/30", 2), ("2001:db8::1/64", 10)])
def test_neighbours_are_permanent(address, family):
    message = decoded(messages.put_neighbour(4, address, "02:00:00:00:00:01", "wan"))
    permanent = 0x80
    assert (message["family"], message["ifindex"], message["state"]) == (family, 4, permanent)
    assert message.get_attr("NDA_DST") == address.split("/")[0]
    assert message.get_attr("NDA_LLADDR") == "02:00:00:00:00:01"


def test_an_answer_gives_the_number_and_the_kernels_own_words():
    said = b"Gateway is wrong\0"
    words = struct.pack("=HH", 4 + len(said), 1) + said + bytes(-len(said) % 4)
    error = struct.pack("=i", -errno.EINVAL) + bytes(16)
    first = struct.pack("=IHHII", 16 + 20 + len(words), 2, 0x200, 5, 0) + error + words
    second = struct.pack("=IHHII", 36, 2, 0, 6, 0) + bytes(20)
    (_, refused, *one), (_, done, *other) = netlink.messages(first + second)
    request = messages.up("wan")
    assert (one[0], other[0]) == (5, 6)
    assert Refusal.of(request, refused, one[1]) == Refusal(
        request, errno.EINVAL, "Gateway is wrong"
    )
    assert Refusal.of(request, done, other[1]) is None


def test_a_refusal_says_where_what_and_why():
    refusal = Refusal(messages.up("wan"), errno.ENODEV, "")
    assert str(refusal.error("home")) == "home: taking wan up: No such device"
    refusal = Refusal(messages.up("wan"), errno.EPERM, "")
    assert refusal.error("home").exit_code == 3
