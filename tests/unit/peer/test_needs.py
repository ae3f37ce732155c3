"""What a technique says that can't work at a peer, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.peer.endpoint import parse_list
from lab.peer.families import Embedding
from lab.peer.settings import Settings
from lab.peer.traversal.technique import techniques

STUN = parse_list("[2a00::1]:3478,[2a00::2]:3478,45.0.0.1:3478,45.0.0.2:3478")
GUESSING = ("udp-predict", "tcp-predict", "birthday")


def settings(*addresses, **more):
    return Settings(
        lab="t", node="sue", seed=1, roles=("peer",), folder=Path("/x"), addresses=addresses,
        stun=STUN, **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", GUESSING)
def test_in_ipv6_there_are_no_ports_to_guess(name):
    applies = techniques()[name].applies
    reason = applies(settings("2a02::1"))
    assert reason.startswith("sue has IPv6 alone, in which no NAT changes ports")
    assert applies(settings("2a02::1", "192.168.1.2")) == ""
    assert applies(settings("2a02::1", nat64=Embedding("64:ff9b::/96"))) == ""
