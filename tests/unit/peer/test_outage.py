"""What a session says of an outage: how long nothing came, and how much is missing."""

import asyncio
from collections import deque
from types import SimpleNamespace

from lab.peer.record import PathKind
from lab.peer.session.conversation import Conversation
from lab.peer.session.path import What
from lab.peer.session.terms import Terms

OLD, NEW = b"old", b"new"
PUNCHED = SimpleNamespace(
    technique="udp-punch", path=SimpleNamespace(path=PathKind.DIRECT, note="")
)


def test_what_still_comes_over_the_dead_path_ends_no_outage():
    said = []

    async def play():
        terms = Terms(session=b"session1", ephemeral=bytes(32), keepalive_s=15.0, rate=0.0)
        ours = Conversation("alice", "bob", terms, said.append)
        session = SimpleNamespace(lost=0, inbox=deque(), current=OLD, changes=deque())
        ours.session = session

        def hears(number, path, lost):
            session.inbox.append((number, b"", path))
            session.lost = lost
            ours._listen(session)

        ours._repaired(What.UP, None)
        hears(1, OLD, 0)
        hears(5, OLD, 3)  # lost while all was well: none of the outage's
        ours._died(1.5, None)
        session.current = NEW
        ours._repaired(What.UP, PUNCHED)
        hears(6, OLD, 3)
        assert not [one for one in said if one["what"] == "resumed"]
        hears(60, NEW, 56)
        hears(61, NEW, 56)
        ours.be_silent()
        return ours.report

    report = asyncio.run(play())
    (outage,) = report.repairs
    assert outage.lost == 53
    assert outage.gap_s >= 0
    assert [one["what"] for one in said] == ["path", "dead", "repaired", "resumed"]
    assert said[-1]["lost"] == 53
