"""A lab that is changed while peers connect: what stood when, and what is asked of whom."""

from __future__ import annotations

import json
import os
import time

import pytest

from lab.cli.connect import _proof
from lab.cli.course import Course
from lab.paths import LabPaths
from lab.plan.model import Plan, encode
from lab.verify import proof
from lab.verify.proof import Proof

LONG = 1000.0
"""Seconds between what the tests want apart, whatever the clock of the file system."""


class Lab:
    """The files of one that are looked at."""

    def __init__(self, folder):
        self.paths = LabPaths(folder)
        self.now = time.time()

    def stands(self, what, at_s=0.0):
        """The plan of that description is written."""
        draft = self.paths.plan.with_name("draft")
        draft.write_bytes(encode(Plan(lab="x", nodes=(), links=(), description=what)))
        os.utime(draft, (self.now + at_s, self.now + at_s))
        draft.replace(self.paths.plan)

    def notes(self, event, at_s, **more):
        with self.paths.events.open("a") as log:
            log.write(json.dumps({"at": self.now + at_s, "event": event, **more}) + "\n")

    def course(self):
        return Course(self.paths)

    def in_force(self, course, at_s):
        return [plan.description for plan in course.plans(self.now + at_s)]


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def test_a_plan_that_is_what_it_was_before_was_written_anew_all_the_same(lab):
    lab.stands("calm")
    course = lab.course()
    assert not course.changed()
    for at_s, what in enumerate(("cut", "calm"), 1):
        lab.stands(what, at_s)
        assert course.changed()
    # One that begins now knows no other.
    assert not lab.course().changed()


def test_a_plan_that_is_gone_has_changed(lab):
    lab.stands("calm")
    course = lab.course()
    lab.paths.plan.unlink()
    assert course.changed()


def test_what_leaves_nothing_in_a_plan_is_a_change_too(lab):
    lab.stands("calm")
    lab.notes("changed", -LONG, what=["home: rebooted"])
    course = lab.course()
    for kind, more in (("session", {}), ("exited", {}), ("timeline", {"outcome": "skipped"})):
        lab.notes(kind, LONG, **more)
    lab.paths.events.open("a").write('{"event": "changed"}\n{"event": "changed", "at": "x"}\n')
    assert not course.changed()
    lab.notes("changed", LONG, what=["home: rebooted"])
    assert course.changed()
    assert course.changed(lab.now)
    assert not course.changed(lab.now + 2 * LONG)
    lab.notes("timeline", 3 * LONG, outcome="done")
    assert course.changed(lab.now + 2 * LONG)


def test_each_moment_has_the_plan_that_was_in_force_then(lab):
    lab.stands("first", -LONG)
    course = lab.course()
    assert course.plan.description == "first"
    assert lab.in_force(course, 0.0) == ["first"]
    # When that was written is not asked: it has stood for as long as anybody looks.
    assert lab.in_force(course, -2 * LONG) == ["first"]
    lab.stands("moved", LONG)
    assert lab.in_force(course, 0.0) == ["first", "moved"]
    lab.stands("back", 3 * LONG)
    assert lab.in_force(course, 0.0) == ["first", "moved", "back"]
    assert lab.in_force(course, 2 * LONG) == ["moved", "back"]
    assert lab.in_force(course, 4 * LONG) == ["back"]
    assert course.plan.description == "first"


@pytest.fixture
def asked(monkeypatch):
    """What was asked for a proof, in order; `proving` has the plans by which there is one."""

    class Asked(list):
        proving = frozenset()

    asked = Asked()

    def prove(plan, paths, record):
        asked.append(plan.description)
        return Proof(plan.description in asked.proving, f"as {plan.description}")

    monkeypatch.setattr(proof, "prove", prove)
    return asked


def record(lab, found_at_s):
    return {"started_at": lab.now + found_at_s - 2.0, "time_to_path_s": 2.0}


def test_a_path_that_was_found_before_a_move_is_proven_by_the_lab_before_it(lab, asked):
    lab.stands("first")
    course = lab.course()
    lab.stands("moved", LONG)
    lab.notes("changed", LONG)
    asked.proving = {"first"}
    told = _proof(course, lab.paths, record(lab, 0.0))
    assert (told, asked) == ({"proven": True, "reason": "as first"}, ["first"])


def test_a_path_that_was_found_after_a_move_is_no_more_proven_by_the_lab_before_it(lab, asked):
    lab.stands("first")
    course = lab.course()
    lab.stands("moved", LONG)
    lab.notes("changed", LONG)
    asked.proving = {"first"}
    told = _proof(course, lab.paths, record(lab, 2 * LONG))
    assert (told, asked) == ({"proven": False, "reason": "as moved"}, ["moved"])


def test_a_path_that_was_found_while_the_plan_was_being_written_is_proven_by_it(lab, asked):
    lab.stands("first")
    course = lab.course()
    lab.stands("moved", LONG)
    asked.proving = {"moved"}
    told = _proof(course, lab.paths, record(lab, 0.0))
    assert (told, asked) == ({"proven": True, "reason": "as moved"}, ["first", "moved"])


def test_a_proof_that_a_reboot_may_have_spoiled_says_so(lab, asked):
    lab.stands("first")
    course = lab.course()
    lab.notes("changed", LONG, what=["home: rebooted"])
    told = _proof(course, lab.paths, record(lab, 0.0))
    assert told["proven"] is False
    assert told["reason"] == (
        "as first; the lab was changed after the path was found (`lab events`)"
    )
    # It had forgotten everything before that path was found.
    told = _proof(course, lab.paths, record(lab, 2 * LONG))
    assert told == {"proven": False, "reason": "as first"}


@pytest.mark.parametrize("nonsense", [{}, {"started_at": "x", "time_to_path_s": None}])
def test_of_a_record_without_times_the_lab_as_it_is_now_is_asked(lab, asked, nonsense):
    lab.stands("first", -2 * LONG)
    course = lab.course()
    lab.stands("moved", -LONG)
    _proof(course, lab.paths, nonsense)
    assert asked == ["moved"]
