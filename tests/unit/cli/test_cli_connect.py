"""`lab connect`: what the command adds to what the peers say."""

from lab.cli.connect import _Standing
from lab.paths import LabPaths
from lab.plan.model import Plan, encode


def _write(paths, data):
    draft = paths.plan.with_name("draft")
    draft.write_bytes(data)
    draft.replace(paths.plan)


def _plans(*descriptions):
    return [Plan(lab="x", nodes=(), links=(), description=what) for what in descriptions]


def test_a_plan_that_is_what_it_was_before_was_written_anew_all_the_same(tmp_path):
    paths = LabPaths(tmp_path)
    calm, cut = (encode(plan) for plan in _plans("calm", "cut"))
    _write(paths, calm)
    standing = _Standing(paths)
    assert not standing.changed
    for plan in (cut, calm):
        _write(paths, plan)
        assert standing.changed
    # One that begins now knows no other.
    assert not _Standing(paths).changed


def test_a_plan_that_is_gone_has_changed(tmp_path):
    paths = LabPaths(tmp_path)
    _write(paths, encode(_plans("calm")[0]))
    standing = _Standing(paths)
    paths.plan.unlink()
    assert standing.changed


def test_where_a_path_leads_is_asked_of_the_lab_as_it_is_by_then(tmp_path):
    paths = LabPaths(tmp_path)
    calm, moved = _plans("calm", "moved")
    _write(paths, encode(calm))
    standing = _Standing(paths)
    first = standing.plan()
    assert first == calm
    assert standing.plan() is first
    _write(paths, encode(moved))
    assert standing.plan() == moved
