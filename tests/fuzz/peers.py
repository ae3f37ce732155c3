"""What peers read of each other, of a volunteer, and of an offer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from lab.peer.identity import Identity, to_text
from lab.peer.marks import Mark
from lab.peer.record import Tally
from lab.peer.session.terms import MAX_KEEPALIVE_S, MAX_RATE, terms_in
from lab.peer.session.wire import MAX_PAYLOAD, Kind, SessionSeal
from lab.peer.streams import Packets
from lab.peer.traversal.call import AttemptError
from lab.peer.traversal.ice import _endpoint, _parse
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signals import _PURPOSE, SignalError, _canonical
from lab.peer.traversal.signals import encode as encode_signal
from lab.peer.traversal.signals import parse as parse_signal
from lab.peer.volunteer.carrier import Carrier
from lab.peer.volunteer.carrier import Client as Seated
from lab.peer.volunteer.joining import Joining
from lab.peer.volunteer.wire import Type as VolunteerType
from lab.peer.volunteer.wire import exchange, proven_by
from lab.peer.volunteer.wire import parse as parse_volunteer
from tests.fuzz.common import HERE, IDENTITY, RELAYED, THERE, pieces

ALICE, BOB = Identity.create(), Identity.create()

_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "kind": "offer",
        "attempt": "00" * 8,
        "technique": "direct",
        "from": "alice",
        "to": "bob",
        "ephemeral": to_text(bytes(32)),
        "candidates": [],
        "window_ms": 1000,
        "details": {},
    }
)


def signal(data: bytes) -> None:
    """A body is a signal or none; one that is signed is read to its end, and can be said again."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    signed = {**_BASE, **body}
    signed.pop("signature", None)
    try:
        signature = IDENTITY.sign(_PURPOSE, _canonical(signed))
    except (ValueError, RecursionError):
        return
    for one in (body, {**signed, "signature": to_text(signature)}):
        try:
            found = parse_signal(one, "alice", IDENTITY.key)
        except SignalError:
            continue
        assert parse_signal(encode_signal(found, IDENTITY), "alice", IDENTITY.key) == found


def sealed(data: bytes) -> None:
    """Nothing but the other end's packets changes a prober or makes it answer."""
    mine, other = Agreement(), Agreement()
    seal = mine.seal(b"12345678", other.ephemeral, b"t", caller=True)
    prober = Prober(seal, Part.CALLER, (THERE,), now=0.0, until=1.0, kind="punch")
    prober.tick(0.0)
    prober.take()
    for said in (data, b"\xf5" + data[1:2] + b"12345678" + data[10:]):
        prober.receive(said, THERE, 0.01)
    assert not prober.heard
    assert not prober.take()
    assert not prober.complete


def session_frame(data: bytes) -> None:
    """Nothing but the other end's frames is opened."""
    seal = SessionSeal(b"12345678", bytes(32), bytes(32)[::-1])
    for said in (data, b"\xf6" + data[1:2] + b"12345678" + data[10:]):
        assert seal.open(said) is None
    assert seal.rejected == 2
    # What the other end makes of any body is a frame or none.
    other = SessionSeal(b"12345678", bytes(32), bytes(32))
    frame = other._seal(Kind.DATA if data[:1] < b"\x80" else Kind.CHECK, data[:1000])[1]
    other.open(frame)


def volunteer(data: bytes) -> None:
    """A packet to a relay is one of its own, and comes out as it went in, or is none."""
    packet = parse_volunteer(data)
    if packet:
        assert packet.encode() == data
        if packet.type is VolunteerType.PROVE:
            assert not proven_by(packet, bytes(32), exchange(packet), bytes(32))


def packets(data: bytes) -> None:
    """Packets on a stream are the same however they come, and come out as they went in."""
    found: list[list[bytes | str]] = [[], []]
    for number, feed in enumerate(([data[1:]], pieces(data))):
        cutter = Packets()
        try:
            for piece in feed:
                found[number] += cutter.feed(piece)
        except ValueError:
            found[number] = ["refused"]
    assert found[0] == found[1]
    if "refused" not in found[0]:
        sent = b"".join(len(one).to_bytes(2, "big") + one for one in found[0] if one != "")
        assert data[1:].startswith(sent)
        assert len(cutter._buffer) == len(data[1:]) - len(sent)


def ice_candidate(data: bytes) -> None:
    """A candidate of ICE is one that can be sent to, or none."""
    call: Any = SimpleNamespace(peer="bob", tally=Tally())
    try:
        assert _endpoint(_parse(call, data.decode("utf-8", "replace"))).sendable
    except AttemptError:
        return


def terms(data: bytes) -> None:
    """The terms of a session keep to their bounds, or are none."""
    try:
        told = json.loads(data)
        found = terms_in({"keep": told})
    except (ValueError, RecursionError):
        return
    if found:
        assert len(found.session) == 8
        assert len(found.ephemeral) == 32
        assert 0 <= found.keepalive_s <= MAX_KEEPALIVE_S
        assert 0 <= found.rate <= MAX_RATE
        assert 0 <= found.size <= MAX_PAYLOAD
        assert terms_in(found.details()) == found


def carrier(data: bytes) -> None:
    """A volunteer answers nobody with more than he sent, and passes on what has a stamp alone."""
    attempt = b"attempt1"
    carrier = Carrier(IDENTITY.key)
    carrier.grant(attempt, ALICE.key, BOB.key, 0.0)
    alice, bob = Seated("udp", THERE), Seated("udp", RELAYED)
    joining = Joining(ALICE, attempt, HERE, IDENTITY.key, 0.0)
    joining.tick(0.0)
    while said := joining.take():
        for send in carrier.received(alice, said[0].payload, 0.0):
            joining.receive(send.data, HERE, 0.0)
    assert joining.joined
    for said in (data, bytes((Mark.VOLUNTEER,)) + data[:1] + attempt + data[1:]):
        for client in (alice, bob):
            for send in carrier.received(client, said, 1.0):
                assert send.client == client
                assert len(send.data) <= len(said)
    assert carrier.carried == 0
    # And whoever joins survives what a volunteer says.
    other = Joining(BOB, attempt, HERE, IDENTITY.key, 0.0)
    other.receive(data, HERE, 0.0)
    other.receive(bytes((Mark.VOLUNTEER,)) + data[:1] + attempt + data[1:], HERE, 0.0)
    assert not other.joined
