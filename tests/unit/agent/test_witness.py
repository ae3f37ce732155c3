"""Looking on while a lab is changed: no change is to fail for it."""

from __future__ import annotations

from pathlib import Path

from lab.agent.witness import Witness
from lab.observe.capture import Recorder
from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.loader import loads

FILE = """
name: looked-at
routers: {home: {nat: home}}
nodes:
  alice: {via: home, peer: true}
  bob: {via: internet, peer: true}
"""
BEFORE = compile_topology(loads(FILE, "looked-at.yaml"), Machine())
AFTER = compile_topology(loads(FILE.replace("bob", "carol"), "looked-at.yaml"), Machine())


def watching(tmp_path: Path) -> tuple[Recorder, Witness]:
    recorder = Recorder(LabPaths(tmp_path / "no-such-lab"), [], [])
    return recorder, Witness(recorder, BEFORE, "alice", "bob")


def test_a_change_that_cannot_be_looked_at_is_made_and_told_of(tmp_path: Path):
    recorder, witness = watching(tmp_path)
    with recorder:
        for plan in (BEFORE, AFTER, BEFORE):
            witness.before(plan, (), ())
            witness.after()
    assert len(witness.account()) == 3
    assert recorder.lost[0].startswith("some of what a change brought (")


def test_a_change_while_the_recording_ends_leaves_the_recorder_alone(tmp_path: Path):
    recorder, witness = watching(tmp_path)
    with recorder:
        witness.end()
    witness.before(BEFORE, (), ())
    witness.after()
    assert recorder.lost == []
    assert witness.account() == ()
