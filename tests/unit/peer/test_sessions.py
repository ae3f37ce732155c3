"""Which offers belong to a session, and whose it is; sessions between whole programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.peer.identity import Identity
from lab.peer.roaming import here, with_present
from lab.peer.session.sessions import MAX_FOLLOWED, MAX_FOLLOWED_PER_PEER, Sessions
from lab.peer.session.terms import Terms, terms_in
from lab.peer.settings import Settings
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.call import AttemptError
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signalling import Signalling
from lab.peer.traversal.signals import Offer
from tests.unit.peer.support import Program, an_offer, network

ALICE = b"a" * 32


def offer(terms: Terms | None, attempt: bytes = b"attempt1") -> Offer:
    return an_offer(attempt, terms.details() if terms else {})


def terms(number: bytes = b"session1") -> Terms:
    return Terms(session=number, ephemeral=Agreement().ephemeral, keepalive_s=15.0, rate=0.0)


def bob(tmp_path: Path) -> Sessions:
    settings = Settings(
        lab="t", node="bob", seed=1, roles=("peer",), folder=tmp_path, addresses=("127.0.0.1",)
    )
    signalling = Signalling(Identity.create(), lambda *_: None)
    return Sessions(Attempts(settings, signalling, lambda _: None), lambda _: None)


def test_a_session_belongs_to_the_key_that_began_it(tmp_path):
    async def play() -> None:
        sessions, agreed = bob(tmp_path), terms()
        assert sessions.wanted("alice", ALICE, offer(None)) is None
        first = sessions.wanted("alice", ALICE, offer(agreed))
        again = sessions.wanted("alice", ALICE, offer(agreed, b"attempt2"))
        # A repair is answered with the same key, so that both have the same session.
        assert terms_in(first.besides) == terms_in(again.besides)
        other = terms(agreed.session)
        for name, key, said in (
            ("mallory", b"m" * 32, agreed),  # knows the session's number from a trace, say
            ("alice", b"m" * 32, agreed),  # a rendezvous service that lies about the name
            ("mallory", ALICE, agreed),
            ("alice", ALICE, other),  # another key for a session that has one
        ):
            with pytest.raises(AttemptError, match="another peer's"):
                sessions.wanted(name, key, offer(said))
        await sessions.close()

    asyncio.run(play())


def test_sessions_are_bounded_and_terms_have_to_make_sense(tmp_path):
    async def play() -> None:
        sessions = bob(tmp_path)
        for number in range(MAX_FOLLOWED):
            key = bytes([number // MAX_FOLLOWED_PER_PEER]) * 32
            sessions.wanted("alice", key, offer(terms(b"%08d" % number)))
            if number == MAX_FOLLOWED_PER_PEER - 1:
                with pytest.raises(AttemptError, match="enough"):
                    sessions.wanted("alice", key, offer(terms()))
        with pytest.raises(AttemptError, match="enough"):
            sessions.wanted("alice", ALICE, offer(terms()))
        await sessions.close()
        useless = Terms(session=b"session1", ephemeral=bytes(32), keepalive_s=15.0, rate=0.0)
        with pytest.raises(AttemptError):
            sessions.wanted("alice", ALICE, offer(useless))

    asyncio.run(play())


def test_addresses_that_were_told_hold_for_as_long_as_they_are_there(tmp_path):
    told = Settings(
        lab="t", node="n", seed=1, roles=("peer",), folder=tmp_path, addresses=("192.0.2.1",)
    )
    both = ("192.0.2.1", "198.51.100.1")
    assert with_present(told, both) is told
    assert with_present(told, ()) is told
    assert with_present(told, both[1:]).addresses == both[1:]
    assert not any(address.startswith("127.") for address in here())


@pytest.mark.parametrize("technique", ["direct", "tcp-punch", "relay", "ice"])
def test_a_session_runs_over_any_path(tmp_path, technique):
    net = network()
    env = {
        "LAB_STUN": f"{net}.1:3478,{net}.2:3479",
        "LAB_RENDEZVOUS": f"{net}.1:4000",
        "LAB_RELAY": f"{net}.3:3478",
        "LAB_RELAY_USER": "user",
        "LAB_RELAY_PASSWORD": "password",
    }
    programs = [
        Program(tmp_path, "services", "stun,rendezvous", f"{net}.1", **env),
        Program(tmp_path, "relay", "relay", f"{net}.3", **env),
        Program(tmp_path, "bob", "peer", f"{net}.11", **env),
    ]
    try:
        alice = Program(tmp_path, "alice", "peer", f"{net}.10", **env)
        programs.append(alice)
        answers = alice.order(
            do="session", peer="bob", techniques=[technique], for_s=1, rate=50, keepalive_s=0.2
        )
        assert [a["what"] for a in answers if a.get("event") == "session"] == [
            *("opened", "connecting", "path", "ended", "record")
        ]
        record = answers[-2]["record"]
        assert (record["outcome"], record["technique"]) == ("completed", technique)
        counts = record["datagrams"]
        assert counts["received"] > 0
        assert (counts["lost"], counts["lost_by_peer"], counts["rejected"]) == (0, 0, 0)
        # Paths are closed, and nothing of the session is left.
        assert alice.order(do="status")[-1]["status"]["kept"] == []
    finally:
        for program in programs:
            program.stop()
