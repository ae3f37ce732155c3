"""`lab connect`: what the command adds to what the peers say."""

from lab.cli.connect import _written
from lab.paths import LabPaths


def test_a_plan_that_is_what_it_was_before_was_written_anew_all_the_same(tmp_path):
    paths = LabPaths(tmp_path)
    assert _written(paths) is None
    seen = set()
    for plan in (b"calm", b"cut", b"calm"):
        draft = tmp_path / "draft"
        draft.write_bytes(plan)
        draft.replace(paths.plan)
        seen.add(_written(paths))
    assert len(seen) == 3
