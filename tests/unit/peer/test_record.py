"""What a record says to people."""

from __future__ import annotations

from lab.peer.record import Outcome, Record, plain


def test_what_others_wrote_commands_no_terminal():
    said = "declined: \x1b[2J\x9b31m caf\u00e9\r\n\u202e"
    assert plain(said) == "declined: ?[2J?31m caf\u00e9???"
    record = Record(
        technique="direct",
        outcome=Outcome.REFUSED,
        reason=said,
        local="alice",
        remote="bob",
        started_at=0.0,
    )
    assert record.to_json()["reason"] == plain(said)
