"""What comes from programs and to them: events, reports, orders, requests, and captured packets."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec

from lab.agent import wire
from lab.observe.attempts import AttemptTally
from lab.observe.explain.labels import label
from lab.observe.explain.packet import parse as parse_packet
from lab.observe.reported import ITEMS_LIMIT, TEXT_LIMIT, Source, accepted, bounded
from lab.peer.control import ControlServer
from lab.runtime.contract import Lines
from lab.topology.changes import changes_from_wire
from lab.topology.outcomes import OUTCOMES
from tests.fuzz.common import pieces, run


def announced(data: bytes) -> None:
    """Events are the same however output comes; records are bounded, printable and countable."""
    whole, parts = Lines(), Lines()
    found = list(whole.feed(data[1:]))
    assert found == [event for piece in pieces(data) for event in parts.feed(piece)]
    tally = AttemptTally()
    for event in found:
        told = event.get("record")
        record = accepted(
            told if isinstance(told, dict) else event,
            local="alice",
            program="own",
            source=Source.REPORTED,
        )
        assert record["outcome"] in OUTCOMES
        assert (record["local"], record["proven"]) == ("alice", False)
        _check(record)
        tally.add(record)
        assert wire.unpack(wire.pack(record)) == record
        _check(bounded(event))


def _check(value: Any) -> None:
    match value:
        case str():
            assert len(value) <= TEXT_LIMIT
            assert not value or value.isprintable()
        case dict():
            for key, inner in value.items():
                _check(key)
                _check(inner)
        case list():
            assert len(value) <= ITEMS_LIMIT
            for inner in value:
                _check(inner)


class _Answers:
    """Who gave an order, and what he is told."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.lines.append(data)

    async def drain(self) -> None:
        """There is room."""


def order(data: bytes) -> None:
    """Every order is answered, and one that a node can't carry out with an error."""
    run(_ordered(data))


async def _ordered(data: bytes) -> None:
    server = ControlServer(Path("none"), None, None, lambda: {"ready": True})
    answers: Any = _Answers()
    await server._obey(data, answers)
    (answer,) = (json.loads(line) for line in answers.lines[-1:])
    assert answer["done"] is True
    assert "error" in answer or "status" in answer or b"end" in data


def request(data: bytes) -> None:
    """What comes to the agent is a request or refused as one."""
    try:
        asked = wire.unpack(data)
    except (ValueError, TypeError, RecursionError):
        return
    with contextlib.suppress(msgspec.ValidationError):
        changes_from_wire(asked.get("changes"))


def captured(data: bytes) -> None:
    """A packet that was seen is read and named, or is none of those that are."""
    packet = parse_packet(data)
    if packet is not None:
        assert label(packet).text
        assert packet.identity
