"""Hosts without addresses on one cable: each claims one (RFC 3927), and they connect by them."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets

import pytest

from tests.kernel.peer.wild import run
from tests.unit.peer.support import Program

pytestmark = pytest.mark.kernel

NAMES = ("alice", "bob", "carol")
WANTED = "169.254.7.7"


@pytest.fixture
def segment():
    """Three namespaces on a bridge, without any address; the prefix of their names."""
    prefix = f"t-apipa-{secrets.token_hex(3)}"
    spaces = [f"{prefix}.{name}" for name in ("switch", *NAMES)]
    try:
        for space in spaces:
            run(f"ip netns add {space}")
            run(f"ip -n {space} link set lo up")
        switch = spaces[0]
        run(f"ip -n {switch} link add br0 type bridge")
        run(f"ip -n {switch} link set br0 up")
        for name, space in zip(NAMES, spaces[1:], strict=True):
            run(f"ip -n {switch} link add {name} type veth peer name eth0 netns {space}")
            run(f"ip -n {switch} link set {name} master br0 up")
            run(f"ip -n {space} link set eth0 up")
        yield prefix
    finally:
        for space in spaces:
            with contextlib.suppress(AssertionError):
                run(f"ip netns del {space}")


def test_who_wants_an_address_that_is_taken_gets_another_and_all_connect(segment, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(name):
            prefix = ("ip", "netns", "exec", f"{segment}.{name}")
            more = {
                "LAB_LINK_LOCAL": "eth0",
                "LINK_LOCAL_FIRST": WANTED,
                "wait": False,
                "prefix": prefix,
            }
            program = Program(tmp_path, name, "peer", "", **more)
            stack.callback(program.stop)
            return program

        def address(name):
            (link,) = json.loads(run(f"ip -n {segment}.{name} -j -4 addr show dev eth0"))
            (found,) = link["addr_info"]
            assert (found["prefixlen"], found["scope"]) == (16, "link")
            return found["local"]

        alice = start("alice")
        alice.event("ready")
        # These two want it at one time, of each other and of her.
        others = [start("bob"), start("carol")]
        for other in others:
            other.event("ready")
        addresses = [address(name) for name in NAMES]
        assert addresses[0] == WANTED
        assert len(set(addresses)) == len(NAMES), addresses
        assert all(ipaddress.ip_address(it).is_link_local for it in addresses)
        for other, own in zip(("bob", "carol"), addresses[1:], strict=True):
            (record,) = alice.connect(other, "lan")
            assert record["outcome"] == "success", record
            assert f"at {own}:" in record["reason"]
