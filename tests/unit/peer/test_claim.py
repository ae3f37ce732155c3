"""Link-local addresses (RFC 3927): who claims what, by a clock of the test's own."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.lan import claim
from lab.peer.lan.claim import REPLY, REQUEST, Arp, Claim, Send, Take, Yield

MAC, OTHER = bytes([2, 0, 0, 0, 0, 1]), bytes([2, 0, 0, 0, 0, 2])
WANTED = "169.254.7.7"
NOBODY = "0.0.0.0"


def begin(seed=1, preferred=WANTED):
    return Claim(MAC, random.Random(seed), 0.0, preferred)


def taken(one):
    """Let time pass until it has its address; when, and what it did and when."""
    done = []
    while not one.address:
        now = one.due
        done += [(now, action) for action in one.tick(now)]
    return now, done


@given(st.integers())
def test_a_claim_goes_as_the_rfc_has_it(seed):
    one = begin(seed)
    now, done = taken(one)
    times = [at for at, action in done if isinstance(action, Send) and action.packet.probe]
    assert len(times) == 3
    assert 0 <= times[0] <= 1
    assert all(1 - 1e-6 <= b - a <= 2 + 1e-6 for a, b in pairwise(times))
    assert now - times[-1] == pytest.approx(2)
    assert 4 <= now <= 7
    announcement = Send(Arp(REQUEST, MAC, WANTED, WANTED))
    assert [action for at, action in done if at == now] == [Take(WANTED), announcement]
    assert one.due == now + 2
    assert one.tick(one.due) == [announcement]
    assert one.due is None


@given(st.integers(), st.sampled_from(["reply", "request", "probe"]), st.integers(0, 3))
def test_whoever_has_or_wants_it_before_the_end_sends_it_elsewhere(seed, kind, after):
    one = begin(seed)
    for _ in range(after):
        one.tick(one.due)
    now = one.due
    said = {
        "reply": Arp(REPLY, OTHER, WANTED, NOBODY),
        "request": Arp(REQUEST, OTHER, WANTED, "169.254.9.9"),
        "probe": Arp(REQUEST, OTHER, NOBODY, WANTED),
    }[kind]
    assert one.heard(said, now) == []
    assert one.candidate != WANTED
    assert claim.claimable(one.candidate)
    assert 0 <= one.due - now <= 1
    assert Take(one.candidate) in [action for _, action in taken(one)[1]]


def test_its_own_packets_and_those_about_others_are_no_conflict():
    one = begin()
    one.heard(Arp(REQUEST, MAC, NOBODY, WANTED), 0.0)
    one.heard(Arp(REQUEST, OTHER, "169.254.8.8", WANTED), 0.0)
    assert one.candidate == WANTED


def test_after_ten_conflicts_it_tries_once_a_minute():
    one = begin()
    for number in range(1, 13):
        one.heard(Arp(REQUEST, OTHER, NOBODY, one.candidate), 0.0)
        assert (one.due >= 60) is (number > 10)


def test_an_address_is_defended_once_in_ten_seconds_and_then_left():
    one = begin()
    now, _ = taken(one)
    theirs = Arp(REQUEST, OTHER, WANTED, WANTED)
    defence = [Send(Arp(REQUEST, MAC, WANTED, WANTED))]
    assert one.heard(theirs, now) == defence
    assert one.heard(theirs, now + 10) == defence
    assert one.heard(theirs, now + 19) == [Yield(WANTED)]
    assert (one.address, one.candidate == WANTED) == ("", False)


def test_what_cannot_be_claimed_is_not_preferred():
    for address in ("169.254.0.9", "169.254.255.1", "10.0.0.1", "", "bob"):
        assert claim.claimable(begin(preferred=address).candidate)


@given(st.binary(max_size=60))
def test_packets_are_packets_or_none(data):
    claim.parse(data)
    packet = Arp(REQUEST, MAC, NOBODY, WANTED)
    assert claim.parse(packet.encode() + data) == packet


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(), st.floats(0, 8))
def test_hosts_of_one_segment_have_no_address_twice(count, seed, spread):
    # All want the same one, and start at different times; a packet arrives at once.
    draw = random.Random(seed)
    macs = [bytes([2, 0, 0, 0, 1, number]) for number in range(count)]
    hosts = [
        Claim(mac, random.Random(f"{seed}{mac}"), draw.uniform(0, spread), WANTED) for mac in macs
    ]
    waiting = []

    def do(host, actions, now):
        for action in actions:
            assert not isinstance(action, Yield), "a claim that was probed for is not lost"
            if isinstance(action, Send):
                waiting.append((host, action.packet))
        while waiting:
            sender, packet = waiting.pop()
            for other in hosts:
                if other is sender:
                    continue
                # What the kernel of a host does that has the address.
                if packet.probe and other.address == packet.target_ip:
                    mac = macs[hosts.index(other)]
                    waiting.append((other, Arp(REPLY, mac, other.address, NOBODY)))
                do(other, other.heard(packet, now), now)

    for _ in range(count * 200):
        pending = [host for host in hosts if host.due is not None]
        if not pending:
            break
        host = min(pending, key=lambda it: it.due)
        do(host, host.tick(now := host.due), now)
    addresses = [host.address for host in hosts]
    assert all(addresses)
    assert len(set(addresses)) == count
