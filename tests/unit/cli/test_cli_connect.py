"""`lab connect`: what the command adds to what the peers say."""

from lab.cli.connect import _Standing, _written
from lab.paths import LabPaths
from lab.plan.model import Plan, encode


def _write(paths, data):
    draft = paths.plan.with_name("draft")
    draft.write_bytes(data)
    draft.replace(paths.plan)


def test_a_plan_that_is_what_it_was_before_was_written_anew_all_the_same(tmp_path):
    paths = LabPaths(tmp_path)
    assert _written(paths) is None
    seen = set()
    for plan in (b"calm", b"cut", b"calm"):
        _write(paths, plan)
        seen.add(_written(paths))
    assert len(seen) == 3


def test_where_a_path_leads_is_asked_of_the_lab_as_it_is_by_then(tmp_path):
    paths = LabPaths(tmp_path)
    calm, moved = (
        Plan(lab="x", nodes=(), links=(), description=what) for what in ("calm", "moved")
    )
    _write(paths, encode(calm))
    standing = _Standing(paths, calm, _written(paths))
    assert standing.plan() is calm
    _write(paths, encode(moved))
    assert standing.plan() == moved
