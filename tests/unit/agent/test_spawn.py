"""An agent's first order: what the end of its connection tells it, and when it comes."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from lab.agent import wire
from lab.agent.spawn import NewAgent
from lab.paths import LabPaths


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def ordered(tmp_path, ends, *answers):
    ours, theirs = ends
    theirs.sendall(b"".join(map(wire.pack, answers)))
    return NewAgent(SimpleNamespace(), ours).begin(LabPaths(tmp_path), {"do": "up"})


def hears(theirs):
    """What the agent reads: the order, and then its connection's end, or nothing so far."""
    assert theirs.recv(1000).startswith(b"{")
    try:
        return theirs.recv(1)
    except BlockingIOError:
        return None


def test_an_order_that_came_to_its_end_ends_the_connection(tmp_path, ends):
    answers = list(ordered(tmp_path, ends, {"event": "phase"}, {"result": {}}))
    assert [*answers[-1]] == ["result"]
    assert hears(ends[1]) == b""


def test_who_is_interrupted_removes_the_lab_alone(tmp_path, ends):
    """An agent that removed it, too, would be about to when it is killed."""
    under_way = ordered(tmp_path, ends, {"event": "phase"})
    next(under_way)
    with pytest.raises(KeyboardInterrupt):
        under_way.throw(KeyboardInterrupt)
    assert hears(ends[1]) is None
