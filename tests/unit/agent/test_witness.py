"""Looking on while a lab is changed: no change is to fail for it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from lab.agent.witness import Witness
from lab.observe.capture import Recorder
from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.operations import CreateNode, DeleteNode, LoadRules, PauseNode, ResetNode
from lab.topology.changes import AnyChange, FlushNat
from lab.topology.loader import loads

FILE = """
name: looked-at
routers: {home: {nat: home}}
nodes:
  alice: {via: home, peer: true}
  bob: {via: internet, peer: true}
"""
BEFORE = compile_topology(loads(FILE, "looked-at.yaml"), Machine())
WITH_ISP = compile_topology(
    loads(FILE.replace("{home: {nat: home}}", "{isp: {nat: cgnat}, home: {nat: home, via: isp}}"),
          "looked-at.yaml"),
    Machine(),
)  # fmt: skip
AFTER = compile_topology(loads(FILE.replace("bob", "carol"), "looked-at.yaml"), Machine())


class Noticing(Recorder):
    """A recorder that has heard the kernel's notices of changes of rules."""

    notices: tuple[tuple[int, int], ...] = ()
    kept: Collection[str] = ()

    def keep(self, names: Collection[str]) -> None:
        self.kept = names

    def commits(self, name: str) -> tuple[tuple[int, int], ...]:
        return self.notices if name == "home" else ()


def watching(tmp_path: Path) -> tuple[Noticing, Witness]:
    recorder = Noticing(LabPaths(tmp_path / "no-such-lab"), [], [])
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


HOME = BEFORE.node("home")
FLUSH = (FlushNat(router="home"),)


def test_what_failed_is_told_as_failed_and_the_way_back_not_at_all(tmp_path: Path):
    recorder, witness = watching(tmp_path)
    with recorder:
        witness.before(AFTER, (LoadRules(node=HOME),), FLUSH)
        witness.after("the kernel refuses")
        witness.before(BEFORE, (LoadRules(node=HOME),), ())
        witness.after()
    failed, back = witness.account()
    assert failed.failed
    ((lane, text),) = failed.what
    assert not lane
    assert text.startswith("a change failed and is taken back (")
    assert text.endswith("): the kernel refuses")
    assert "forgot its mappings" not in text
    # Meanwhile what it wanted may have been in force, and from the way back on what was before.
    assert (failed.plan, back.plan) == (AFTER, BEFORE)
    assert (back.what, back.failed) == ((), False)


def test_a_router_that_a_failed_change_did_not_touch_has_forgotten_nothing(tmp_path: Path):
    def fail(notices: Sequence[tuple[int, int]]) -> tuple[str, ...]:
        recorder, witness = watching(tmp_path)
        with recorder:
            witness.before(BEFORE, (ResetNode(node=HOME),), FLUSH)
            witness.after("refused")
        recorder.notices = tuple(notices)
        (happened,) = witness.account()
        return happened.forgot

    now = time.time_ns()
    assert fail([]) == ()
    assert fail([(now - 10**9, now + 10**12)]) == ("home",)


def test_the_rules_of_who_goes_are_kept_as_those_that_are_replaced(tmp_path: Path):
    for operation in (DeleteNode(node=HOME), LoadRules(node=HOME)):
        recorder, witness = watching(tmp_path)
        with recorder:
            witness.before(AFTER, (operation,), None)
        assert recorder.kept == {"home"}


def test_a_router_that_comes_is_looked_at_once_it_is_there(tmp_path: Path):
    recorder, witness = watching(tmp_path)
    looked: list[set[str]] = []
    recorder.widen = lambda nodes, _: looked.append({node.name for node in nodes})
    with recorder:
        witness.before(WITH_ISP, (CreateNode(node=WITH_ISP.node("isp")),), None)
        witness.after()
        # What is there is known by the next change.
        witness.before(WITH_ISP, (), ())
        witness.after()
    assert ["isp" in names for names in looked] == [False, True, True]
    assert recorder.lost == []


def make(tmp_path: Path, operation: ResetNode | LoadRules | PauseNode, changes: Sequence[AnyChange],
         notices: Sequence[tuple[int, int]]) -> tuple[int, int]:  # fmt: skip
    """When a change of one operation is said to have happened, carried out from 100 to 200."""
    recorder, witness = watching(tmp_path)
    recorder.notices = tuple(notices)
    with recorder:
        witness.before(BEFORE, (operation,), changes)
        witness.carried(operation, 100, 200)
        witness.after()
    (happened,) = witness.account()
    return happened.began_ns, happened.ended_ns


def test_a_change_is_dated_by_what_was_carried_out(tmp_path: Path):
    assert make(tmp_path, PauseNode(node=HOME), (), [(120, 130)]) == (100, 200)


def test_rules_are_dated_by_the_notices_of_the_kernel(tmp_path: Path):
    notices = [(1, 50), (120, 130), (150, 160), (300, 310)]
    assert make(tmp_path, LoadRules(node=HOME), (), notices) == (120, 160)
    assert make(tmp_path, LoadRules(node=HOME), (), []) == (100, 200)
    # Heard late, and nothing since long before.
    assert make(tmp_path, LoadRules(node=HOME), (), [(10, 900)]) == (100, 200)


def test_a_router_has_forgotten_when_the_first_notice_comes(tmp_path: Path):
    assert make(tmp_path, ResetNode(node=HOME), FLUSH, [(120, 130), (150, 160)]) == (130, 160)
