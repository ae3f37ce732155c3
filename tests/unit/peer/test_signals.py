"""Signals between peers: what is signed, and what is believed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity, to_text
from lab.peer.record import Candidate, CandidateKind
from lab.peer.traversal.signals import (
    Announce,
    Decline,
    End,
    Offer,
    Ping,
    Pong,
    SignalError,
    digest,
    encode,
    parse,
    transcript,
)

ALICE, MALLORY = Identity.create(), Identity.create()
OFFER = Offer(
    attempt=b"12345678",
    technique="udp-punch",
    sender="alice",
    to="bob",
    ephemeral=bytes(range(32)),
    candidates=(Candidate(CandidateKind.HOST, Endpoint("192.0.2.1", 5)),),
    window_s=9.8765,
    details={"trouble": ""},
)


def travelled(body):
    return json.loads(json.dumps(body))


@pytest.mark.parametrize(
    "signal",
    [
        replace(OFFER, window_s=9.876),
        replace(OFFER, window_s=9.876, offer_digest=digest(OFFER)),
        Decline(b"12345678", "busy", "enough"),
        End(b"12345678"),
        Announce(b"12345678"),
        Ping(b"12345678"),
        Pong(b"12345678"),
    ],
)
def test_what_is_said_is_heard(signal):
    assert parse(travelled(encode(signal, ALICE)), "alice", ALICE.key) == signal


def test_both_ends_agree_on_what_was_offered():
    heard = parse(travelled(encode(OFFER, ALICE)), "alice", ALICE.key)
    assert digest(heard) == digest(OFFER)
    assert transcript(heard, b"e", b"k") == transcript(OFFER, b"e", b"k")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("technique", "relay"),
        ("to", "carol"),
        ("from", "mallory"),
        ("attempt", "00" * 8),
        ("window_ms", 1),
        ("candidates", []),
        ("details", {"x": 1}),
    ],
)
def test_the_service_cannot_change_an_offer(name, value):
    body = {**encode(OFFER, ALICE), name: value}
    with pytest.raises(SignalError, match="signature"):
        parse(body, "alice", ALICE.key)


def test_an_offer_of_another_key_or_name_is_none():
    body = encode(OFFER, ALICE)
    with pytest.raises(SignalError):
        parse(body, "alice", MALLORY.key)
    with pytest.raises(SignalError):
        parse(body, "mallory", ALICE.key)
    with pytest.raises(SignalError):
        parse(encode(OFFER, MALLORY), "alice", ALICE.key)


def test_an_offer_is_no_answer():
    with pytest.raises(SignalError):
        parse({**encode(OFFER, ALICE), "kind": "answer"}, "alice", ALICE.key)


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": OFFER.candidates * 9},
        {"window_s": 61.0},
        {"window_s": 0.0},
        {"technique": "x" * 41},
    ],
)
def test_limits(change):
    with pytest.raises(SignalError):
        parse(encode(replace(OFFER, **change), ALICE), "alice", ALICE.key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(["offer", "answer", "decline", "end", "ping", "pong", ""])
KEYS = ["attempt", "technique", "from", "to", "ephemeral", "candidates", "window_ms", "details"]


@given(KINDS, st.dictionaries(st.sampled_from([*KEYS, "signature", "token", "reason"]), JSON))
def test_any_body_is_a_signal_or_none(kind, body):
    with contextlib.suppress(SignalError):
        parse({**body, "kind": kind}, "alice", ALICE.key)


@given(st.dictionaries(st.sampled_from([*KEYS, "offer"]), JSON))
def test_any_signed_body_is_a_signal_or_none(changes):
    body = {**encode(OFFER, ALICE), **changes}
    del body["signature"]
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    body["signature"] = to_text(ALICE.sign(b"lab peer signal 1", canonical))
    with contextlib.suppress(SignalError):
        parse(body, "alice", ALICE.key)
