"""A recording that has room for no more, and one of nodes that go meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.observe.capture import recorder
from lab.observe.capture.packets import Tap
from lab.observe.capture.recorder import Recorder
from lab.observe.explain.events import Decision, Sighting
from lab.paths import LabPaths
from lab.plan.model import Node, NodeKind
from lab.topology.behaviour import Nat


class Heard(Tap):
    """A tap that has seen packets at these moments."""

    def __init__(self, moments: Sequence[int]) -> None:
        self.node = "home"
        self._moments = moments

    def read(self) -> Iterator[Sighting]:
        for at_ns in self._moments:
            yield Sighting(at_ns=at_ns, node="home", interface="wan", outgoing=True, data=b"")


def recorded(folder, moments: Sequence[int]) -> Recorder:
    made = Recorder(LabPaths(folder), [], [])
    with made:
        for at_ns in moments:
            made._read(Heard([at_ns]))
    return made


def test_what_there_is_no_room_for_is_told_once_and_ends_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_PACKETS", 3)
    full = recorded(tmp_path, (1, 2, 3, 4, 5))
    assert [one.at_ns for one in full.sightings] == [1, 2, 3]
    assert full.lost == ["what came after the first 3 sightings of packets"]
    # What was on its way then was not lost.
    assert full.ended_ns == 4
    just_enough = recorded(tmp_path, (1, 2, 3))
    assert just_enough.lost == []
    assert just_enough.ended_ns > 3


def test_of_a_node_that_is_gone_by_the_end_nothing_is_asked(tmp_path):
    home = Node(name="home", kind=NodeKind.ROUTER, nat=Nat())
    made = Recorder(LabPaths(tmp_path / "no-such-lab"), [home], [])
    made.decisions.append(
        Decision(node="home", packet=1, table="ip nat", chain="x", handle=7, verdict="drop")
    )
    assert made.rules() == ()
    assert made.held() == ()
    made._close()
