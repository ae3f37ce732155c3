"""Sealed packets: only the other end makes them, and each counts once."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.sealed import WINDOW, ReplayWindow
from lab.peer.traversal.seal import PACKET_BYTES, Agreement, Type

SESSION = b"12345678"
SEEN = Endpoint("192.0.2.1", 4000)


def pair(transcript=b"t", other=b"t"):
    caller, callee = Agreement(), Agreement()
    return (
        caller.seal(SESSION, callee.ephemeral, transcript, caller=True),
        callee.seal(SESSION, caller.ephemeral, other, caller=False),
    )


@pytest.mark.parametrize("seen", [SEEN, Endpoint("2001:db8::1", 65535)])
def test_what_is_sealed_is_opened(seen):
    caller, callee = pair()
    sequence, packet = caller.seal(Type.REPLY, 7, seen)
    assert len(packet) == PACKET_BYTES
    opened = callee.open(packet)
    assert (opened.type, opened.sequence, opened.echo, opened.observed) == (
        Type.REPLY,
        sequence,
        7,
        seen,
    )


def test_a_packet_counts_once():
    caller, callee = pair()
    _, packet = caller.seal(Type.PROBE)
    assert callee.open(packet)
    assert callee.open(packet) is None
    assert callee.rejected == 1


def test_a_packet_sent_back_is_not_the_other_ends():
    caller, _ = pair()
    _, packet = caller.seal(Type.PROBE)
    assert caller.open(packet) is None


def test_another_transcript_is_another_key():
    caller, callee = pair(b"offer", b"offer with other candidates")
    _, packet = caller.seal(Type.PROBE)
    assert callee.open(packet) is None


@pytest.mark.parametrize("position", range(PACKET_BYTES))
def test_a_changed_bit_is_noticed(position):
    caller, callee = pair()
    _, packet = caller.seal(Type.CONFIRM, 3, SEEN)
    forged = bytearray(packet)
    forged[position] ^= 1
    assert callee.open(bytes(forged)) is None
    assert callee.open(packet), "a forged packet must not use up the true one's number"


@given(st.binary(min_size=PACKET_BYTES - 10, max_size=PACKET_BYTES - 10))
def test_a_guess_opens_nothing(guess):
    _, callee = pair()
    packet = struct.pack("!BB", 0xF5, 1) + SESSION + guess
    assert callee.ours(packet)
    assert callee.open(packet) is None


@given(st.binary(max_size=100))
def test_anything_else_is_not_ours(data):
    _, callee = pair()
    if not callee.ours(data):
        assert callee.open(data) is None


def test_a_key_without_contribution_is_refused():
    with pytest.raises(ValueError):
        Agreement().seal(SESSION, bytes(32), b"t", caller=False)


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=60))
def test_the_window_takes_each_number_once(numbers):
    window, seen = ReplayWindow(), set()
    for number in numbers:
        assert window.fresh(number) == (number > 0 and number not in seen)
        if window.fresh(number):
            window.note(number)
            seen.add(number)


def test_the_window_forgets_what_many_have_overtaken():
    window = ReplayWindow()
    for number in range(10, 10 * WINDOW + 20, 10):
        window.note(number)
    # Memory is bounded, and what was forgotten counts as seen.
    assert len(window._seen) == len(window._order) == WINDOW
    assert not window.fresh(9)
    assert not window.fresh(10)
    assert window.fresh(11)


def test_nobody_knows_the_next_number():
    caller, _ = pair()
    numbers = [caller.seal(Type.PROBE)[0] for _ in range(64)]
    distances = [after - before for before, after in pairwise(numbers)]
    assert min(distances) > 0
    assert len(set(distances)) == len(distances)
    assert max(distances) > 1 << 28
